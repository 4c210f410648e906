import { parseArgs, type ParseArgsConfig } from 'node:util';

/** The command line (or a file it names) cannot be used: one line for the user, status 2. */
export class UsageError extends Error {}

type Options = NonNullable<ParseArgsConfig['options']>;

/** `util.parseArgs` with errors in our words. */
export function options<const T extends Options>(command: string, args: string[], spec: T) {
  try {
    return parseArgs({ args, options: spec, strict: true, allowPositionals: false }).values;
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const unknown = /Unknown option '([^']+)'/.exec(text);
    const positional = /Unexpected argument '([^']+)'/.exec(text);
    if (unknown) throw new UsageError(`unknown option ${unknown[1]} (hyperstep ${command} --help)`);
    if (positional) throw new UsageError(`unexpected argument ${positional[1]} (hyperstep ${command} --help)`);
    throw new UsageError(`${text.split('\n')[0]} (hyperstep ${command} --help)`);
  }
}

/** A whole number within [min, max]. */
export function integer(option: string, text: string, min: number, max: number): number {
  const n = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(n)) throw new UsageError(`--${option} needs a whole number, not "${text}"`);
  if (n < min || n > max) throw new UsageError(`--${option} must be between ${min} and ${max}, not ${text}`);
  return n;
}
