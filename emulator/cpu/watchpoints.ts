/** Watchpoints: which bytes of virtual or physical memory the debugger watches, in every VP, and which accesses it wants to see. */
import { type Counters, checkFilter, type Filter, judge } from './filter.ts';
import { CELL, MAX_WATCHES, WATCH, WATCHES } from './layout.ts';
import type { VpState } from './vp-state.ts';

const PAGE_BITS = 12n;
/** A stretch of more bytes is refused: each of its pages is remembered. */
const MAX_SIZE = 1 << 24;

export interface Watchpoint {
  readonly address: bigint;
  readonly size: number;
  readonly access: 'r' | 'w' | 'rw';
  /** The address is a GPA. */
  readonly physical?: boolean;
  /** What exits call it. */
  readonly id?: number;
  /** Evaluated when the access has been made; left out: all are wanted. */
  readonly filter?: Filter;
}

/** A watchpoint with an id that was hit: `judged` says that its filter stops, else it has none or no value here. */
export interface WatchHit {
  readonly id: number;
  readonly judged: boolean;
}

/** An access that somebody wants to see. */
export interface Watched {
  readonly address: bigint;
  readonly access: 'r' | 'w';
  /** The address is a GPA. */
  readonly physical?: true;
  readonly hits?: readonly WatchHit[];
}

/** What of a page cannot go by the TLB. */
export const NOTHING = 0;
export const WRITES = 1;
export const EVERYTHING = 2;

type Pages = Map<number, { watch: typeof WRITES | typeof EVERYTHING; list: Watchpoint[] }>;
/** A stretch of an access that is in one page: GPA, offset in the access, length. */
export type Part = readonly [pa: number, at: number, length: number];
const PAGE = 1 << 12;
const maximum = <T extends number>(a: T, b: T): T => (a > b ? a : b);

const overlap = (w: Watchpoint, from: bigint, size: number): boolean =>
  w.address < from + BigInt(size) && from < w.address + BigInt(w.size);

export class Watchpoints {
  readonly #counters: Counters;
  #view: DataView;
  #list: Watchpoint[] = [];
  /** By virtual page, and by physical page. */
  readonly #pages: Pages = new Map();
  readonly #frames: Pages = new Map();

  /** Filters that were evaluated: for measurements only. */
  judged = 0;

  constructor(memory: WebAssembly.Memory, counters: Counters) {
    this.#view = new DataView(memory.buffer);
    this.#counters = counters;
  }

  /** What was in memory is in another one now. */
  memoryRenewed(memory: WebAssembly.Memory): void {
    this.#view = new DataView(memory.buffer);
  }

  get isEmpty(): boolean {
    return this.#list.length === 0;
  }

  /** Throws a RangeError for a stretch that is too long, or a filter that is none. */
  set(w: Watchpoint): void {
    if (!Number.isInteger(w.size) || w.size < 1 || w.size > MAX_SIZE)
      throw new RangeError(`${w.size} bytes: a watchpoint has 1 to ${MAX_SIZE}`);
    if (w.filter) checkFilter(w.filter);
    this.#list.push({ ...w, address: BigInt.asUintN(64, w.address) });
    this.#index();
  }

  clear(address: bigint, size: number, physical = false): void {
    const at = BigInt.asUintN(64, address);
    this.#list = this.#list.filter((w) => w.address !== at || w.size !== size || (w.physical ?? false) !== physical);
    this.#index();
  }

  get #virtual(): Watchpoint[] {
    return this.#list.filter((w) => !w.physical);
  }

  /** Generated code knows all that is watched in the page at `pa`: virtual stretches. */
  isKnown(pa: number): boolean {
    return this.#virtual.length <= MAX_WATCHES && !this.#frames.has(Math.floor(pa / PAGE));
  }

  #index(): void {
    this.#pages.clear();
    this.#frames.clear();
    const known = this.#virtual.length <= MAX_WATCHES ? this.#virtual : [];
    for (const [i, { address, size }] of known.entries()) {
      this.#view.setBigUint64(WATCHES + i * WATCH, address, true);
      this.#view.setBigUint64(WATCHES + i * WATCH + 8, address + BigInt(size), true);
    }
    this.#view.setUint32(CELL.WATCHED, known.length, true);
    for (const w of this.#list) {
      const pages = w.physical ? this.#frames : this.#pages;
      const last = (w.address + BigInt(w.size) - 1n) >> PAGE_BITS;
      for (let page = w.address >> PAGE_BITS; page <= last; page++) {
        const key = Number(page);
        const of = pages.get(key) ?? { watch: WRITES, list: [] };
        pages.set(key, { watch: w.access === 'w' ? of.watch : EVERYTHING, list: [...of.list, w] });
      }
    }
  }

  /** What is watched in the page of an address (its halves), which is at `pa`. */
  inPage(hi: number, lo: number, pa: number): typeof NOTHING | typeof WRITES | typeof EVERYTHING {
    const watch = this.#pages.get(hi * 0x100000 + (lo >>> 12))?.watch ?? NOTHING;
    return this.#frames.size === 0 ? watch : maximum(watch, this.#frames.get(Math.floor(pa / PAGE))?.watch ?? NOTHING);
  }

  /** An access of `vp` to [va, va + size), for `va` in halves, in `parts` (GPA, -, length), has been made: undefined when nobody wants to see it. */
  check(
    vp: VpState,
    hi: number,
    lo: number,
    size: number,
    reads: boolean,
    writes: boolean,
    load: (address: bigint, size: number) => bigint | undefined,
    parts: readonly Part[],
  ): Watched | undefined {
    const page = hi * 0x100000 + (lo >>> 12);
    const over = (lo & 0xfff) + size > 0x1000;
    const frames = this.#frames.size === 0 ? [] : parts.flatMap(([pa]) => this.#frames.get(Math.floor(pa / PAGE))?.list ?? []);
    const list = this.#pages.get(page)?.list ?? (over ? this.#pages.get(page + 1)?.list : undefined);
    if (!list && !frames.length) return undefined;
    const va = (BigInt(hi) << 32n) | BigInt(lo);
    let watched: Watched | undefined;
    for (const w of over ? this.#list : frames.length ? [...(list ?? []), ...frames] : (list ?? [])) {
      const part = w.physical ? parts.find(([pa, , length]) => overlap(w, BigInt(pa), length)) : undefined;
      if (w.physical ? !part : !overlap(w, va, size)) continue;
      const from = part ? BigInt(part[0]) : va;
      const write = writes && w.access !== 'r';
      if (!write && !(reads && w.access !== 'w')) continue;
      if (w.filter) this.judged++;
      const verdict = w.filter && judge(w.filter, vp, this.#counters, load);
      if (verdict && !verdict.matched) continue;
      const hit = w.id === undefined ? undefined : { id: w.id, judged: verdict !== undefined };
      watched = {
        address: from > w.address ? from : w.address,
        access: write ? 'w' : 'r',
        ...(w.physical ? { physical: true } : {}),
        ...(hit || watched?.hits ? { hits: [...(watched?.hits ?? []), ...(hit ? [hit] : [])] } : {}),
      };
    }
    return watched;
  }
}
