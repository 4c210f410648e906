/** A symbol file together with where the guest runs its code: link-time addresses to the guest's and back. */
import { CallFrameTable, type UnwindRow } from './dwarf/cfi.ts';
import type { DebugInfo } from './dwarf/debug-info.ts';
import { STT } from './elf.ts';
import { SymbolFileError, withoutDamage } from './byte-source.ts';

const MAX_PROBLEMS = 20;
/** Symbols before an address that are looked at for an object that has it. */
const NEAR = 16;

/** A stretch of a file's places (elf-file.ts) and the guest address of its first byte. */
export interface Stretch {
  readonly from: number;
  readonly to: number;
  readonly address: bigint;
}

export class LoadedSymbols {
  readonly info: DebugInfo;
  /** Name of the module; undefined: the kernel. */
  readonly module: string | undefined;
  #stretches: readonly Stretch[] = [];
  #tables: CallFrameTable[] | undefined;
  readonly #frameProblems = new Set<string>();

  constructor(info: DebugInfo, module?: string) {
    this.info = info;
    this.module = module;
  }

  /** Where the file's parts are now. One place may have several addresses: the first is the one that is shown. */
  set stretches(stretches: readonly Stretch[]) {
    this.#stretches = stretches;
  }

  get placed(): boolean {
    return this.#stretches.length > 0;
  }

  /** The link-time address of a guest address; undefined: it is not this file's. */
  toFile(address: bigint): bigint | undefined {
    for (const s of this.#stretches) {
      const offset = address - s.address;
      if (offset >= 0n && offset < BigInt(s.to - s.from)) return this.info.elf.address(s.from + Number(offset));
    }
    return undefined;
  }

  /** Guest addresses of a link-time address. */
  toGuest(address: bigint): bigint[] {
    const place = this.info.elf.place(address);
    return this.#stretches.filter((s) => place >= s.from && place < s.to).map((s) => s.address + BigInt(place - s.from));
  }

  /** The object (a variable) of the file's symbol table that has a guest address. Damaged information is none. */
  objectAt(address: bigint): { readonly name: string; readonly offset: number } | undefined {
    const at = this.toFile(address);
    if (at === undefined) return undefined;
    const { elf } = this.info;
    const place = elf.place(at);
    return withoutDamage(() => {
      const { places, sizes, infos, name } = elf.symbols;
      let low = 0;
      let high = places.length;
      while (low < high) {
        const middle = (low + high) >>> 1;
        if (places[middle] <= place) low = middle + 1;
        else high = middle;
      }
      for (let i = low - 1, n = 0; i >= 0 && n < NEAR; i--, n++)
        if ((infos[i] & 15) === STT.OBJECT && place < places[i] + sizes[i]) return { name: name(i), offset: place - places[i] };
      return undefined;
    }, undefined);
  }

  /** Call frame information of the instruction at a guest address. Damaged information is none. */
  rules(address: bigint): UnwindRow | undefined {
    const at = this.toFile(address);
    if (at === undefined) return undefined;
    const place = this.info.elf.place(at);
    for (const table of this.#callFrames()) {
      try {
        const row = table.at(place);
        if (row) return row;
      } catch (error) {
        // One entry that is damaged: the others are asked all the same.
        if (!(error instanceof SymbolFileError)) throw error;
        if (this.#frameProblems.size < MAX_PROBLEMS) this.#frameProblems.add(error.message);
      }
    }
    return undefined;
  }

  /** What of the debug information could not be used: one line each, naming the file. */
  get problems(): string[] {
    return [...this.info.problems, ...(this.#tables ?? []).flatMap((t) => t.problems), ...this.#frameProblems];
  }

  #callFrames(): CallFrameTable[] {
    if (!this.#tables) {
      const { elf, frameSections } = this.info;
      const { debugFrame, ehFrame } = frameSections;
      const toPlace = (address: bigint): number => elf.place(address);
      this.#tables = [
        ...(debugFrame ? [new CallFrameTable(debugFrame.bytes, { eh: false, toPlace })] : []),
        ...(ehFrame ? [new CallFrameTable(ehFrame.bytes, { eh: true, place: elf.place(ehFrame.address), toPlace })] : []),
      ];
    }
    return this.#tables;
  }
}
