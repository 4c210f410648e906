/** `hyperstep addr2line`: functions, inlined ones too, files and lines of addresses, in the form that GNU's tool prints with -f -i -a. */
import fs from 'node:fs';
import { parseArgs } from 'node:util';
import { SymbolFileError } from '../symbols/byte-source.ts';
import { cacheFolder } from '../symbols/dwarf/cache.ts';
import { type DebugInfo, openDebugInfoHere } from '../symbols/dwarf/debug-info.ts';
import { SHF } from '../symbols/elf.ts';
import { nearestSymbol } from '../symbols/dwarf/nearest-symbol.ts';
import { UsageError } from './usage.ts';

export const ADDR2LINE_HELP = `Usage: hyperstep addr2line --symbols FILE [OPTIONS] [ADDR...]

Says where addresses are in the source, in the output form of GNU "addr2line -f -i -a": the address; the function, its file and
line; and for inlined functions the same of each function around. Addresses are hexadecimal (0x may be left out) and as linked;
without any on the command line they are read from stdin, one a line.

  --symbols FILE   ELF file with debug information: a vmlinux, a module, a .debug file
  --section NAME   addresses are offsets in this section (in a module otherwise in the first with code that is as long: .text)
  --no-cache       neither use nor keep an index in the cache (HYPERSTEP_SYMBOL_CACHE says where that is)
`;

/** Runs the command; resolves with the exit status. Throws UsageError. */
export async function addr2line(args: string[], out: (text: string) => void): Promise<number> {
  const { values, positionals } = parse(args);
  if (values.symbols === undefined) throw new UsageError('addr2line needs --symbols FILE (hyperstep addr2line --help)');
  let info: DebugInfo;
  try {
    info = openDebugInfoHere(values.symbols, { cache: values['no-cache'] ? undefined : cacheFolder() });
  } catch (error) {
    if (error instanceof SymbolFileError) throw new UsageError(error.message);
    throw error;
  }
  try {
    for (const problem of info.problems) process.stderr.write(`hyperstep: ${problem}\n`);
    const bases = sectionBases(info, values.section);
    const answer = (text: string): void => {
      out(describe(info, parseAddress(text), bases));
    };
    if (positionals.length) for (const text of positionals) answer(text);
    else if (process.stdin.isTTY) for await (const text of lines()) answer(text);
    else {
      // All at once: a pipe's answers are one write, and units of neighbours are still at hand.
      const texts = fs.readFileSync(0, 'utf8').split('\n');
      if (texts.at(-1) === '') texts.pop();
      let done = '';
      for (const text of texts) {
        done += describe(info, parseAddress(text), bases);
        if (done.length > 1 << 16) {
          out(done);
          done = '';
        }
      }
      out(done);
    }
    return 0;
  } catch (error) {
    if (error instanceof SymbolFileError) throw new UsageError(error.message);
    throw error;
  } finally {
    info.close();
  }
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options: { symbols: { type: 'string' }, section: { type: 'string' }, 'no-cache': { type: 'boolean' } },
      strict: true,
      allowPositionals: true,
    });
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const unknown = /Unknown option '([^']+)'/.exec(text);
    throw new UsageError(`${unknown ? `unknown option ${unknown[1]}` : text.split('\n')[0]} (hyperstep addr2line --help)`);
  }
}

async function* lines(): AsyncGenerator<string> {
  const { createInterface } = await import('node:readline');
  yield* createInterface({ input: process.stdin });
}

/** A hexadecimal number, as much of it as there is: 0 for none, like the other tools. */
export function parseAddress(text: string): bigint {
  const digits = /^\s*(?:0[xX])?([0-9a-fA-F]+)/.exec(text)?.[1];
  return digits ? BigInt.asUintN(64, BigInt(`0x${digits}`)) : 0n;
}

/** Where an address on the command line may be: what is added to it, and from where on that cannot be. */
interface Base {
  readonly add: bigint;
  readonly size?: bigint;
}

/** The section of --section; without it all of a module's with code, in the order of the file, as other tools do. Throws UsageError. */
function sectionBases(info: DebugInfo, name: string | undefined): Base[] {
  const { elf } = info;
  if (name === undefined && !elf.relocatable) return [{ add: 0n }];
  if (name === undefined)
    return elf.layout
      .filter(({ index }) => elf.sections[index].flags & SHF.EXECINSTR)
      .map(({ from, to }) => ({ add: elf.address(from), size: BigInt(to - from) }));
  const place = elf.sectionPlace(elf.sections.findIndex((s) => s.name === name));
  if (place === undefined) throw new UsageError(`${elf.name}: no section ${name} with code or data`);
  return [{ add: elf.address(place) }];
}

/** The lines for one address. */
export function describe(info: DebugInfo, address: bigint, bases: readonly Base[] = [{ add: 0n }]): string {
  let text = `0x${address.toString(16).padStart(16, '0')}\n`;
  const places = bases
    .filter(({ size }) => size === undefined || address < size)
    .map(({ add }) => BigInt.asUintN(64, address + add));
  let at = places[0] ?? address;
  let frames: ReturnType<DebugInfo['frames']> = [];
  for (const place of places) {
    frames = info.frames(place);
    at = place;
    if (frames.length) break;
  }
  if (!frames.length) {
    const symbol = places.length ? nearestSymbol(info.elf, places[0]) : undefined;
    return `${text}${symbol?.name ?? '??'}\n${symbol?.file ?? '??'}:${symbol ? '?' : '0'}\n`;
  }
  // GNU prints the discriminator of the address with every function there.
  const [{ discriminator }] = frames;
  for (const frame of frames) {
    const name = frame.die?.linkageName ?? nearestSymbol(info.elf, at)?.name ?? '??';
    const line = frame.line === 0 ? '?' : String(frame.line);
    const suffix = discriminator !== 0 && frame.line !== 0 ? ` (discriminator ${discriminator})` : '';
    text += `${name}\n${frame.path || '??'}:${line}${suffix}\n`;
  }
  return text;
}
