/** What the trace can be asked for, on the command line, in launch.json and in the Debug Console. */
import { TRACE_KINDS, type TraceKind } from '../emulator/index.ts';
import { UserError } from './user-error.ts';

const KINDS = Object.keys(TRACE_KINDS) as TraceKind[];
/** Words for several kinds. */
const GROUPS: Readonly<Record<string, readonly TraceKind[]>> = {
  vmbus: ['message', 'channel', 'packet', 'signal'],
  faults: ['fault', 'undefined', 'guest', 'crash'],
  all: KINDS,
};

/** A line on every kind. */
export const traceHelp = (): string[] => Object.entries(TRACE_KINDS).map(([kind, text]) => `${kind.padEnd(12)} ${text}`);
const expected = `${KINDS.join(', ')}, vmbus or all`;

/** The kinds that words name: kinds, also in the plural, and groups of them. Throws UserError, beginning with `what`. */
export function traceKinds(words: readonly string[], what: string): Set<TraceKind> {
  const kinds = new Set<TraceKind>();
  for (const word of words) {
    const kind = KINDS.find((k) => k === word || `${k}s` === word);
    const group = Object.hasOwn(GROUPS, word) ? GROUPS[word] : undefined;
    if (!kind && !group) throw new UserError(`${what} ${word}: expected ${expected}`);
    for (const k of group ?? [kind as TraceKind]) kinds.add(k);
  }
  return kinds;
}
