/**
 * The TLBs of all VPs: tables that generated code reads (layout.ts), filled by cpu.ts, and everything that forgets parts of them.
 *
 * A TLB holds what is global and one address space. When another comes (TTBRn_EL1), what belongs to the old one is put aside with its
 * ASID and comes back when it does, unless maintenance has meant it meanwhile: a load of two processes that take turns does not walk
 * its tables again.
 */
import { CODE, DIRTY, MARKED, PAGE, PAGE_SHIFT, type Ram, WRITABLE } from '../memory/ram.ts';
import {
  CODE_ENTRIES,
  CODE_ENTRY,
  CODE_TLB,
  CODE_TLB_OFFSET,
  DATA_TLB,
  REGIMES,
  TLB,
  TLB_ENTRIES,
  TLB_ENTRY,
  TLB_SET,
  TLBS,
} from './layout.ts';

const EMPTY = 0xffffffff;
/** Words of an entry: tags for reads and writes, addend; of a code entry tag and record address. */
const [WRITE, ADDEND, WATCHED] = [TLB.WRITE >>> 2, TLB.ADDEND >>> 2, TLB.WATCH >>> 2];
/** A word that generated code does not look at, of data and of code entries, and what it says: whom the entry belongs to. */
const [DATA_MARK, CODE_MARK] = [5, 3];
const [EVERYBODY, ONE_ASID, LOW_HALF] = [0, 1, 2];

/** Entries of an address space that are kept track of; if there are more, everything is forgotten with it. */
const JOURNAL = 2048;
/** Address spaces of a VP that are put aside, entries of one, and words of an entry there: its index and what it says. */
const SPACES = 8;
const MAX_KEPT = 512;
const KEPT_WORDS = 6;

/** log2 of granules' largest pages; what is larger is a block. */
const LARGEST_PAGE = 16;
/** 2 MiB and 1 GiB: blocks of the 4 KiB granule. Those of others count as the next larger of these. */
const [BLOCK, LARGE_BLOCK] = [21, 30];
/** Keys of the 2 MiB and the 1 GiB that an address lies in; address tags do not count. */
const blockKey = (hi: number, lo: number): number => (hi & 0x00ffffff) * 2048 + (lo >>> BLOCK);
const largeBlockKey = (hi: number, lo: number): number => (hi & 0x00ffffff) * 4 + (lo >>> LARGE_BLOCK);
/** Keys of the low half are below these. */
const [LOW_BLOCKS, LOW_LARGE_BLOCKS] = [2 ** 34, 2 ** 25];
/** Bit 55 of an address, in its upper half: the upper half of the address space. */
const UPPER = 1 << 23;

/** What tells address spaces apart. */
export interface AddressSpace {
  /** TTBR0_EL1, and TTBR1_EL1's ASID. */
  readonly ttbr0: bigint;
  readonly asid1: number;
  /** The ASID that counts (TCR_EL1.A1). */
  readonly asid: number;
}

/** An address space that was put aside. */
class KeptSpace {
  space: AddressSpace | undefined;
  /** When it was put aside, in switches. */
  age = 0;
  count = 0;
  readonly entries = new Uint32Array(MAX_KEPT * KEPT_WORDS);
  /** Keys of its blocks. */
  blocks: number[] = [];
  largeBlocks: number[] = [];
}

const sameSpace = (a: AddressSpace, b: AddressSpace): boolean => a.ttbr0 === b.ttbr0 && a.asid1 === b.asid1 && a.asid === b.asid;

/** What is in the TLBs of one VP, as far as forgetting parts of it needs to know. */
class Contents {
  used = false;
  /** Indices of entries (as words) that are of the low half or not global. */
  readonly journal = new Uint32Array(JOURNAL);
  journaled = 0;
  /** Blocks of which pages may be there: a TLBI for any of their addresses is for all. */
  readonly blocks = new Set<number>();
  readonly largeBlocks = new Set<number>();
  huge = false;
  /** log2 of the largest page. */
  pageShift = PAGE_SHIFT;
  /** Code TLB 0 serves EL0 and EL1t: which of them it does now. */
  codeEl = 0;
  readonly kept: KeptSpace[] = [];
  switches = 0;

  hasBlockAt(hi: number, lo: number): boolean {
    return this.huge || this.largeBlocks.has(largeBlockKey(hi, lo)) || this.blocks.has(blockKey(hi, lo));
  }

  /** Forgets the address spaces put aside: all, or those of an ASID. Of that 8 bits may be all that counts (TCR_EL1.AS). */
  dropKept(asid?: number): void {
    for (const k of this.kept) if (k.space && (asid === undefined || ((k.space.asid ^ asid) & 0xff) === 0)) k.space = undefined;
  }

  /** The blocks of the low half are gone; `to` remembers them. */
  dropLowBlocks(to?: KeptSpace): void {
    for (const key of this.blocks)
      if (key < LOW_BLOCKS) {
        this.blocks.delete(key);
        to?.blocks.push(key);
      }
    for (const key of this.largeBlocks)
      if (key < LOW_LARGE_BLOCKS) {
        this.largeBlocks.delete(key);
        to?.largeBlocks.push(key);
      }
  }
}

export class Tlbs {
  readonly #ram: Ram;
  /** The memory below RAM. */
  #bytes: Uint8Array;
  #words: Uint32Array;
  /** Signed: sums stay small integers for the JavaScript engine. */
  #signed: Int32Array;
  readonly #contents: readonly Contents[];

  constructor(ram: Ram, vpCount: number) {
    this.#ram = ram;
    this.#bytes = new Uint8Array(ram.memory.buffer, 0, ram.base);
    this.#words = new Uint32Array(ram.memory.buffer, 0, ram.base / 4);
    this.#signed = new Int32Array(ram.memory.buffer, 0, ram.base / 4);
    this.#contents = Array.from({ length: vpCount }, () => new Contents());
    this.#bytes.fill(0xff, TLBS, TLBS + vpCount * TLB_SET);
  }

  /** What was in memory is in another one now. */
  memoryRenewed(): void {
    const { memory, base } = this.#ram;
    this.#bytes = new Uint8Array(memory.buffer, 0, base);
    this.#words = new Uint32Array(memory.buffer, 0, base / 4);
    this.#signed = new Int32Array(memory.buffer, 0, base / 4);
  }

  // --- entries ---------------------------------------------------------------------------------------------------

  /** Index, as words, of the data entry for an address in a regime. */
  dataEntry(vp: number, regime: number, lo: number): number {
    return (TLBS + vp * TLB_SET + regime * DATA_TLB + ((lo >>> PAGE_SHIFT) & (TLB_ENTRIES - 1)) * TLB_ENTRY) >>> 2;
  }

  /** The same for instructions: of EL1h, or of EL0 and EL1t, which share a table. */
  codeEntry(vp: number, isEl1h: boolean, el: number, lo: number): number {
    const set = TLBS + vp * TLB_SET + CODE_TLB_OFFSET + (isEl1h ? CODE_TLB : 0);
    const contents = this.#contents[vp];
    if (!isEl1h && contents.codeEl !== el) {
      contents.codeEl = el;
      this.#bytes.fill(0xff, set, set + CODE_TLB);
    }
    return (set + ((lo >>> PAGE_SHIFT) & (CODE_ENTRIES - 1)) * CODE_ENTRY) >>> 2;
  }

  #isCode(vp: number, entry: number): boolean {
    return entry >= (TLBS + vp * TLB_SET + CODE_TLB_OFFSET) >>> 2;
  }

  /** An entry has been filled: with the page at an address of a block of 2^`shift` bytes. */
  note(vp: number, entry: number, hi: number, lo: number, shift: number, isGlobal: boolean): void {
    const contents = this.#contents[vp];
    contents.used = true;
    const owner = !isGlobal ? ONE_ASID : hi & UPPER ? EVERYBODY : LOW_HALF;
    this.#words[entry + (this.#isCode(vp, entry) ? CODE_MARK : DATA_MARK)] = owner;
    if (owner !== EVERYBODY && contents.journaled <= JOURNAL) contents.journal[contents.journaled++] = entry;
    if (shift <= PAGE_SHIFT) return;
    if (shift <= LARGEST_PAGE) contents.pageShift = Math.max(contents.pageShift, shift);
    else if (shift <= BLOCK) contents.blocks.add(blockKey(hi, lo));
    else if (shift <= LARGE_BLOCK) contents.largeBlocks.add(largeBlockKey(hi, lo));
    else contents.huge = true;
  }

  // --- maintenance -------------------------------------------------------------------------------------------------

  /** Forgets every translation of every VP. */
  flushAll(): void {
    this.#contents.forEach((contents, i) => {
      contents.dropKept();
      if (contents.used) this.#flush(i);
    });
  }

  /** Forgets what is in the TLBs of a VP now. */
  #flush(vp: number): void {
    const contents = this.#contents[vp];
    this.#bytes.fill(0xff, TLBS + vp * TLB_SET, TLBS + (vp + 1) * TLB_SET);
    contents.journaled = 0;
    contents.blocks.clear();
    contents.largeBlocks.clear();
    contents.huge = false;
    contents.pageShift = PAGE_SHIFT;
    contents.used = false;
  }

  /** Forgets the address spaces of an ASID, or all: whatever is of the low half or not global, of every VP. */
  flushAddressSpaces(asid?: number): void {
    this.#contents.forEach((contents, i) => {
      contents.dropKept(asid);
      if (contents.used) this.#dropSpace(i);
    });
  }

  #dropSpace(vp: number): void {
    const contents = this.#contents[vp];
    if (contents.journaled > JOURNAL) {
      this.#flush(vp);
      return;
    }
    const words = this.#words;
    // A data entry's two tags; of a code entry the tag and an address that only the tag lets be used.
    for (let k = 0; k < contents.journaled; k++) {
      const entry = contents.journal[k];
      words[entry] = words[entry + WRITE] = EMPTY;
    }
    contents.journaled = 0;
    contents.dropLowBlocks();
  }

  /**
   * Forgets the page at an address, of one ASID or of all; where a block of the same addresses was in use, of which other pages may be
   * there, everything.
   */
  flushPage(va: bigint, asid?: number): void {
    const lo = Number(va & 0xffffffffn);
    const hi = Number((va >> 32n) & 0xffffffffn);
    const words = this.#words;
    this.#contents.forEach((contents, i) => {
      contents.dropKept(asid);
      if (!contents.used) return;
      if (contents.hasBlockAt(hi, lo)) {
        this.#flush(i);
        return;
      }
      const set = TLBS + i * TLB_SET;
      const pages = 1 << (contents.pageShift - PAGE_SHIFT);
      const first = (lo >>> contents.pageShift) * pages;
      // Whatever is at the page's place: an entry more is no harm, and its tag may carry an address tag.
      for (let page = first; page < first + pages; page++) {
        for (let regime = 0; regime < REGIMES; regime++) {
          const at = set + regime * DATA_TLB + (page & (TLB_ENTRIES - 1)) * TLB_ENTRY;
          words.fill(EMPTY, at >>> 2, (at >>> 2) + 4);
        }
        for (let el = 0; el < 2; el++)
          words[(set + CODE_TLB_OFFSET + el * CODE_TLB + (page & (CODE_ENTRIES - 1)) * CODE_ENTRY) >>> 2] = EMPTY;
      }
    });
  }

  /** Forgets what is known of code. */
  flushCode(): void {
    this.#contents.forEach((contents, i) => {
      contents.dropKept();
      if (contents.used) this.#bytes.fill(0xff, TLBS + i * TLB_SET + CODE_TLB_OFFSET, TLBS + (i + 1) * TLB_SET);
    });
  }

  /** The next write to the page (to any page) misses. */
  dropWriteTags(page?: number): void {
    const { flags } = this.#ram;
    if (page !== undefined) {
      if (!(flags[page] & WRITABLE)) return;
      flags[page] &= ~WRITABLE;
    }
    const words = this.#signed;
    const target = page === undefined ? 0 : (this.#ram.base + page * PAGE) | 0;
    for (let i = 0; i < this.#contents.length; i++) {
      if (!this.#contents[i].used) continue;
      const start = (TLBS + i * TLB_SET) >>> 2;
      const end = start + ((REGIMES * DATA_TLB) >>> 2);
      for (let entry = start; entry < end; entry += TLB_ENTRY >>> 2) {
        const addend = words[entry + ADDEND];
        if (page === undefined || ((words[entry + WATCHED] + addend) | 0) === target) words[entry + WATCHED] = -1;
        if (page !== undefined && ((words[entry + WRITE] + addend) | 0) !== target) continue;
        words[entry + WRITE] = -1;
        words[entry + WRITE + 1] = -1;
      }
    }
  }

  // --- address spaces ----------------------------------------------------------------------------------------------

  /** `vp` goes from one address space to another. */
  switchAddressSpace(vp: number, from: AddressSpace, to: AddressSpace): void {
    const contents = this.#contents[vp];
    // EL1t would share code entries with EL0: too rare to be told apart.
    if (contents.codeEl !== 0) {
      contents.dropKept();
      this.#dropSpace(vp);
      return;
    }
    contents.switches++;
    if (contents.journaled > 0) this.#putAside(vp, from);
    const kept = contents.kept.find((k) => k.space && sameSpace(k.space, to));
    if (kept) this.#bringBack(vp, kept);
  }

  #putAside(vp: number, space: AddressSpace): void {
    const contents = this.#contents[vp];
    if (contents.journaled > JOURNAL) {
      this.#flush(vp);
      return;
    }
    const kept = this.#room(contents, space);
    const words = this.#words;
    const { journal } = contents;
    let n = 0;
    for (let k = 0; k < contents.journaled; k++) {
      const entry = journal[k];
      const mark = entry + (this.#isCode(vp, entry) ? CODE_MARK : DATA_MARK);
      // Others are replaced, forgotten or met before; what is global in the low half would be meant by maintenance of any ASID.
      if (words[mark] === ONE_ASID && words[entry] !== EMPTY && n < MAX_KEPT) {
        const at = n++ * KEPT_WORDS;
        kept.entries[at] = entry;
        for (let i = 0; i < KEPT_WORDS - 1; i++) kept.entries[at + 1 + i] = words[entry + i];
      }
      words[entry] = words[entry + WRITE] = EMPTY;
    }
    contents.journaled = 0;
    kept.count = n;
    kept.blocks.length = 0;
    kept.largeBlocks.length = 0;
    contents.dropLowBlocks(kept);
    kept.space = space;
    kept.age = contents.switches;
  }

  /** A place for `space`: its own, one that is free, or that of the oldest. */
  #room(contents: Contents, space: AddressSpace): KeptSpace {
    const { kept } = contents;
    const own = kept.find((k) => k.space && sameSpace(k.space, space)) ?? kept.find((k) => !k.space);
    if (own) return own;
    if (kept.length < SPACES) {
      kept.push(new KeptSpace());
      return kept[kept.length - 1];
    }
    return kept.reduce((oldest, k) => (k.age < oldest.age ? k : oldest));
  }

  #bringBack(vp: number, kept: KeptSpace): void {
    const contents = this.#contents[vp];
    const words = this.#words;
    const { base, flags } = this.#ram;
    for (let n = 0; n < kept.count; n++) {
      const at = n * KEPT_WORDS;
      const entry = kept.entries[at];
      const isCode = this.#isCode(vp, entry);
      for (let i = 0; i < (isCode ? CODE_MARK : DATA_MARK); i++) words[entry + i] = kept.entries[at + 1 + i];
      words[entry + (isCode ? CODE_MARK : DATA_MARK)] = ONE_ASID;
      if (!isCode) {
        words[entry + WATCHED] = EMPTY;
        // What pages are for may have changed: a write has to come by again.
        const page = ((words[entry] + words[entry + ADDEND] - base) >>> 0) >>> PAGE_SHIFT;
        if ((flags[page] & (DIRTY | CODE | MARKED)) !== DIRTY) words[entry + WRITE] = EMPTY;
        else if (words[entry + WRITE] !== EMPTY) flags[page] |= WRITABLE;
      }
      contents.journal[contents.journaled++] = entry;
    }
    for (const key of kept.blocks) contents.blocks.add(key);
    for (const key of kept.largeBlocks) contents.largeBlocks.add(key);
    contents.used = true;
    kept.space = undefined;
  }
}
