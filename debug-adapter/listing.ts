/**
 * Listings: the disassembly of a function as a text document. Where there are no sources, a stack frame points here, so that
 * the editor shows where the guest is, takes breakpoints on lines, and puts variables next to it.
 *
 * Line 1 names the function; every further line is one instruction.
 */
import { hex } from '../emulator/base/bits.ts';
import { viewOf } from '../emulator/base/struct.ts';
import type { Disassemble } from './disassembler.ts';
import type { VirtualReader } from './symbols/memory.ts';
import type { Symbolizer } from './symbols/symbolizer.ts';

/** Instructions in one document: longer functions are shown in parts. */
const PART = 2048;
/** Code that belongs to no symbol is shown in pieces of this many bytes. */
const PIECE = 256n;
const HEADER_LINES = 1;

/** The names that documents get: symbol, module and part. */
const NAME = /^(\S+?)(?: \[(\w+)\])?(?:, part (\d+))?\.a64$/;

export interface Listing {
  /** DAP sourceReference. */
  id: number;
  /** Name of the document. */
  name: string;
  start: bigint;
  /** Number of instructions. */
  count: number;
}

/** Targets of branches and ADRP as the disassembler writes them. */
const TARGET = /#?(0x[0-9a-f]{9,16})\b/;

/** An instruction as text, with the name of the address it refers to. */
export function instructionText(word: number, address: bigint, symbols: Symbolizer, disassemble: Disassemble): string {
  const text = disassemble(word, address);
  const target = TARGET.exec(text)?.[1];
  return target && symbols.at(BigInt(target)) ? `${text} <${symbols.format(BigInt(target))}>` : text;
}

export class Listings {
  readonly #byStart = new Map<bigint, Listing>();
  readonly #byId: Listing[] = [];

  /** The document that shows `address`, and its line there. */
  at(address: bigint, symbols: Symbolizer): { listing: Listing; line: number } {
    const found = symbols.at(address);
    const first = found ? found.symbol.address : address - (address % PIECE);
    const end = found ? symbols.endOf(found) : first + PIECE;
    const part = (address - first) / BigInt(4 * PART);
    const start = first + part * BigInt(4 * PART);
    const left = Number((end - start + 3n) / 4n);
    let listing = this.#byStart.get(start);
    if (!listing) {
      const base = found ? `${found.symbol.name}${found.symbol.module ? ` [${found.symbol.module}]` : ''}` : hex(first, 16);
      listing = {
        id: this.#byId.length + 1,
        name: `${base}${part > 0n ? `, part ${part + 1n}` : ''}.a64`,
        start,
        count: Math.max(1, Math.min(left, PART)),
      };
      this.#byStart.set(start, listing);
      this.#byId.push(listing);
    }
    return { listing, line: HEADER_LINES + 1 + Number((address - start) / 4n) };
  }

  /**
   * The document that a client means. Its id is this session's only; the editor keeps documents and breakpoints of earlier
   * sessions, and these are known by their names.
   */
  find(source: { sourceReference?: number; path?: string }, symbols: Symbolizer): Listing | undefined {
    const byId = this.#byId[(source.sourceReference ?? 0) - 1];
    if (source.path === undefined || byId?.name === source.path) return byId;
    const m = NAME.exec(source.path);
    if (!m) return undefined;
    const symbol = symbols.named(m[1]).find((s) => s.module === m[2]);
    return symbol && this.at(symbol.address + BigInt(4 * PART * (Number(m[3] ?? 1) - 1)), symbols).listing;
  }

  /** A line of a document that `find` does not know yet: `symbol+0x10 [module]`. */
  place(name: string, line: number): string | undefined {
    const m = NAME.exec(name);
    const index = line - HEADER_LINES - 1;
    if (!m || index < 0 || index >= PART) return undefined;
    const offset = 4 * (PART * (Number(m[3] ?? 1) - 1) + index);
    return `${m[1]}+${hex(offset)}${m[2] ? ` [${m[2]}]` : ''}`;
  }

  /** Address of the instruction on a line; undefined: no instruction is there. */
  address(listing: Listing, line: number): bigint | undefined {
    const index = line - HEADER_LINES - 1;
    return index >= 0 && index < listing.count ? listing.start + BigInt(4 * index) : undefined;
  }

  /** The document. */
  text(listing: Listing, read: VirtualReader, symbols: Symbolizer, disassemble: Disassemble): string {
    const lines = [`// ${symbols.format(listing.start)}: ${listing.count} instructions at ${hex(listing.start, 16)}`];
    for (let i = 0; i < listing.count; i++) {
      const address = listing.start + BigInt(4 * i);
      const code = read(address, 4);
      const at = address.toString(16).padStart(16, '0');
      if (!code) {
        lines.push(`${at}: ........  // not mapped`);
        continue;
      }
      const word = viewOf(code).getUint32(0, true);
      lines.push(`${at}: ${word.toString(16).padStart(8, '0')}  ${instructionText(word, address, symbols, disassemble)}`);
    }
    return `${lines.join('\n')}\n`;
  }
}
