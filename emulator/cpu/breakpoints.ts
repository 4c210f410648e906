/**
 * Breakpoints on code: the debugger's, with filters (filter.ts), and those of the guest's own debug registers.
 *
 * The record of an instruction with a breakpoint is *patched*: its handler leaves generated code, or is a function of the filter
 * that goes on when the filter says no. Going on means running the *shadow*: a copy of the record that was there, in a place of its own
 * and with a sentinel behind it, from which generated code jumps to the next instruction. Branches in a shadow are far ones. So nothing is
 * ever taken out and put back, and generated code does not stop for a breakpoint that nobody wants to see.
 *
 * A patched record: u16 handler, i32 at `AUX` the shadow (0: none yet), i64 at `IMM` the virtual address of the breakpoint. Shadows are
 * made when a breakpoint is met. While there is one its page counts as code: what is written there goes to both.
 */
import { type Counters, emitFilter, type Filter, judge } from './filter.ts';
import type { Interpreter } from './interpreter.ts';
import {
  AUX,
  BELOW_RAM,
  CELL,
  EXIT,
  GUARDED_SHADOWS,
  IMM,
  PAGE_STRIDE,
  RECORD,
  RECORD_SHIFT,
  RECORDS,
  SHADOW,
  SHADOW_COUNT,
  SHADOWS,
} from './layout.ts';
import { BREAKPOINT_HANDLER } from './loop.ts';
import { VP, type VpState, WINDOW } from './vp-state.ts';
import { findSystemRegister, systemRegister } from './sysregs.ts';
import { Code } from './wasm/encoder.ts';
import { ModuleWriter } from './wasm/module.ts';

/** An offset in a page that no branch of a shadow is near to: branches go up to 128 MiB. */
const FAR = -(1 << 29);
/** Filters that are compiled; of more, all that are met come to TypeScript. */
const MAX_HANDLERS = 4096;

/** What breakpoints need of the CPU. */
export interface BreakpointPort {
  readonly interpreter: Interpreter;
  /** The code of the page with these records changes for regions. */
  dropRegions(page: number): void;
  /** Pages are looked up again (`patchPage`) before their code runs. */
  flushCode(): void;
  /** Word of the page with these records, at a byte offset; undefined: beyond its end. */
  word(page: number, offset: number): number | undefined;
  /** Writes to the page with these records are noticed from now on. */
  keepCode(page: number): void;
}

interface Breakpoint {
  readonly filter?: Filter;
  /** Number of the filter's handler. */
  readonly handler?: number;
}

interface Patch {
  /** Breakpoints here: more than one where code is mapped twice. */
  readonly addresses: bigint[];
  /** 0: there is none. */
  shadow: number;
}

const PAGE_BYTES = 4096;
/** MRS and MSR (register): 1101010100 L 1 o0 op1 CRn CRm op2 Rt (Arm ARM C6.2.228, C6.2.231); the register is in bits 19:5. */
const isRegisterMove = (word: number): boolean => (word & 0xffd00000) >>> 0 === 0xd5100000;
const moveKey = (word: number): number => (word >>> 5) & 0x7fff;

/** The register of MRS and MSR as they encode it. Throws a RangeError for a name that is none's. */
export function registerKey(name: string): number {
  const row = systemRegister(name);
  if (!row) throw new RangeError(`no system register ${name}`);
  return ((row.op0 & 1) << 14) | (row.op1 << 11) | (row.crn << 7) | (row.crm << 3) | row.op2;
}

/** The register that an instruction word moves from or to `xN` (`register`; 31: zero); undefined when it is no MRS or MSR of a known one. */
export function registerMove(word: number): { name: string; write: boolean; register: number } | undefined {
  if (!isRegisterMove(word)) return undefined;
  const [op1, crn, crm, op2] = [(word >>> 16) & 7, (word >>> 12) & 15, (word >>> 8) & 15, (word >>> 5) & 7];
  const row = findSystemRegister({ op0: 2 + ((word >>> 19) & 1), op1, crn, crm, op2 });
  return row && { name: row.name, write: (word & 0x200000) === 0, register: word & 31 };
}

const pageOf = (rec: number): number => rec - ((rec - RECORDS) % PAGE_STRIDE);
const recordAt = (page: number, va: bigint): number => page + (Number(va & 0xffcn) << (RECORD_SHIFT - 2));
const pageNumber = (va: bigint): number => Number(BigInt.asUintN(64, va) >> 12n);

export class Breakpoints {
  readonly #port: BreakpointPort;
  readonly #counters: Counters;
  #bytes: Uint8Array;
  #view: DataView;
  #words: Int32Array;
  readonly #user = new Map<bigint, Breakpoint>();
  #guest: ReadonlySet<bigint> = new Set();
  /** System registers whose MRS and MSR are breakpoints (`registerKey`), and where some have been seen. */
  #registers: ReadonlySet<number> = new Set();
  readonly #accesses = new Set<bigint>();
  /** Addresses of both, by page number. */
  readonly #wanted = new Map<number, Set<bigint>>();
  /** By page of records, then by record. */
  readonly #patches = new Map<number, Map<number, Patch>>();
  /** Records that shadows are of, and the free ones: not guarded, guarded. */
  readonly #owners = [new Int32Array(SHADOW_COUNT), new Int32Array(SHADOW_COUNT)] as const;
  readonly #free: readonly [number[], number[]] = [[], []];
  #handlers = 0;
  /** Filters that generated code could not evaluate: for measurements only. */
  judged = 0;

  constructor(memory: WebAssembly.Memory, port: BreakpointPort, counters: Counters) {
    this.#port = port;
    this.#counters = counters;
    const { buffer } = memory;
    this.#bytes = new Uint8Array(buffer, 0, BELOW_RAM);
    this.#view = new DataView(buffer, 0, BELOW_RAM);
    this.#words = new Int32Array(buffer, 0, BELOW_RAM >>> 2);
    [SHADOWS, GUARDED_SHADOWS].forEach((start, guarded) => {
      for (let n = SHADOW_COUNT - 1; n >= 0; n--) {
        port.interpreter.placeSentinel(start + n * SHADOW + RECORD);
        this.#free[guarded].push(n);
      }
    });
  }

  /** What was in memory is in another one now. */
  memoryRenewed({ buffer }: WebAssembly.Memory): void {
    this.#bytes = new Uint8Array(buffer, 0, BELOW_RAM);
    this.#view = new DataView(buffer, 0, BELOW_RAM);
    this.#words = new Int32Array(buffer, 0, BELOW_RAM >>> 2);
  }

  // --- what is wanted ----------------------------------------------------------------------------------------------

  get isEmpty(): boolean {
    return this.#wanted.size === 0 && this.#registers.size === 0;
  }

  /** A breakpoint at a virtual address of every VP, mapped or not; in place of one that is there. */
  set(va: bigint, filter?: Filter): void {
    this.#forget(va);
    const handler = filter && this.#handlers < MAX_HANDLERS ? this.#compile(filter) : undefined;
    this.#user.set(va, { filter, handler });
    this.#lookAgain(va);
  }

  clear(va: bigint): void {
    if (!this.#user.has(va)) return;
    this.#forget(va);
    this.#lookAgain(va);
  }

  #forget(va: bigint): void {
    const handler = this.#user.get(va)?.handler;
    this.#user.delete(va);
    this.#unpatch(va);
    if (handler === undefined) return;
    this.#port.interpreter.removeHandler(handler);
    this.#handlers--;
  }

  /** What the guest's debug registers want. */
  setGuest(addresses: ReadonlySet<bigint>): void {
    const changed = [...this.#guest, ...addresses].filter((a) => this.#guest.has(a) !== addresses.has(a));
    this.#guest = addresses;
    for (const va of changed) {
      this.#unpatch(va);
      this.#lookAgain(va);
    }
  }

  /** System registers by `registerKey`: in place of those before. */
  setRegisters(keys: ReadonlySet<number>): void {
    this.#registers = keys;
    const seen = [...this.#accesses];
    this.#accesses.clear();
    for (const va of seen) {
      this.#unpatch(va);
      this.#lookAgain(va);
    }
    this.#port.flushCode();
  }

  /** Looks for accesses to system registers in the page at `va`, whose records are at `page`. */
  #findAccesses(va: bigint, page: number): void {
    for (let offset = 0; offset < PAGE_BYTES; offset += 4) {
      const word = this.#port.word(page, offset);
      if (word === undefined || !isRegisterMove(word) || !this.#registers.has(moveKey(word))) continue;
      const at = va + BigInt(offset);
      if (this.#accesses.has(at)) continue;
      this.#accesses.add(at);
      const number = pageNumber(at);
      this.#wanted.set(number, (this.#wanted.get(number) ?? new Set()).add(at));
    }
  }

  #lookAgain(va: bigint): void {
    const number = pageNumber(va);
    const page = this.#wanted.get(number) ?? new Set<bigint>();
    if (this.#user.has(va) || this.#guest.has(va) || this.#accesses.has(va)) page.add(va);
    else page.delete(va);
    if (page.size) this.#wanted.set(number, page);
    else this.#wanted.delete(number);
    this.#port.flushCode();
  }

  #compile(filter: Filter): number {
    const module = new ModuleWriter();
    module.importMemory('e', 'memory');
    module.func(emitHandler(filter), 'f');
    this.#handlers++;
    return this.#port.interpreter.addHandler(new WebAssembly.Module(module.bytes()));
  }

  // --- patches -----------------------------------------------------------------------------------------------------

  /** The page at a virtual address (its halves) has its records at `page`: those with breakpoints are patched. */
  patchPage(hi: number, lo: number, page: number): void {
    if (this.#registers.size) this.#findAccesses((BigInt(hi) << 32n) | BigInt(lo), page);
    const wanted = this.#wanted.get(hi * 0x100000 + (lo >>> 12));
    if (!wanted) return;
    const patches = this.#patches.get(page) ?? new Map<number, Patch>();
    this.#patches.set(page, patches);
    for (const va of wanted) {
      const rec = recordAt(page, va);
      const patch = patches.get(rec);
      if (patch?.addresses.includes(va)) continue;
      if (!patch) this.#port.dropRegions(page);
      patches.set(rec, { addresses: [...(patch?.addresses ?? []), va], shadow: patch?.shadow ?? 0 });
      this.#write(page, rec);
    }
  }

  #write(page: number, rec: number): void {
    const patches = this.#patches.get(page);
    const patch = patches?.get(rec);
    if (!patch) return;
    const [va, ...others] = patch.addresses;
    const handler = others.length || this.#guest.has(va) || this.#accesses.has(va) ? undefined : this.#user.get(va)?.handler;
    this.#bytes.fill(0, rec, rec + RECORD);
    this.#view.setUint16(rec, handler ?? BREAKPOINT_HANDLER, true);
    this.#view.setInt32(rec + AUX, patch.shadow, true);
    this.#view.setBigUint64(rec + IMM, va, true);
    // The record before it may be fused with what was here: it is decoded again.
    const before = rec - RECORD;
    if (rec !== page && !patches?.has(before)) this.#bytes.fill(0, before, before + RECORD);
  }

  /** Breakpoints at `va` are looked for again when a page's translation is looked up. */
  #unpatch(va: bigint): void {
    for (const [page, patches] of this.#patches) {
      const rec = recordAt(page, va);
      const patch = patches.get(rec);
      if (!patch?.addresses.includes(va)) continue;
      this.#release(patch);
      this.#bytes.fill(0, rec, rec + RECORD);
      patches.delete(rec);
      this.#port.dropRegions(page);
    }
  }

  /** True when the record is a breakpoint. */
  has(rec: number): boolean {
    return this.#patches.get(pageOf(rec))?.has(rec) ?? false;
  }

  /** The records of a page have been emptied, because it is written. */
  pageDropped(page: number): void {
    // What is written may access registers: found when the page is looked up again.
    if (this.#registers.size) this.#port.flushCode();
    for (const [rec, patch] of this.#patches.get(page) ?? []) {
      this.#release(patch);
      this.#write(page, rec);
    }
  }

  /** All records have been emptied. */
  allDropped(): void {
    for (const patches of this.#patches.values()) for (const patch of patches.values()) this.#release(patch);
    this.#patches.clear();
  }

  // --- shadows -----------------------------------------------------------------------------------------------------

  /** The shadow of a patched record; 0: the interpreter has no room, all code has to be dropped first. */
  shadow(rec: number): number {
    const page = pageOf(rec);
    const patch = this.#patches.get(page)?.get(rec);
    if (!patch) throw new Error(`no breakpoint at the record 0x${rec.toString(16)}`);
    if (patch.shadow) return patch.shadow;
    const { interpreter } = this.#port;
    if (interpreter.full) return 0;
    const guarded = rec >>> 0 >= this.#words[CELL.GUARDED >>> 2] >>> 0 ? 1 : 0;
    if (!this.#free[guarded].length) this.#releaseAll(guarded);
    const n = this.#free[guarded].pop() as number;
    const at = (guarded ? GUARDED_SHADOWS : SHADOWS) + n * SHADOW;
    const offset = (rec - page) >>> (RECORD_SHIFT - 2);
    this.#port.keepCode(page);
    const word = this.#port.word(page, offset) as number;
    interpreter.place(word, at, FAR, (o) => this.#port.word(page, o - FAR + offset));
    interpreter.compile();
    this.#owners[guarded][n] = rec;
    patch.shadow = at;
    this.#view.setInt32(rec + AUX, at, true);
    return at;
  }

  #release(patch: Patch): void {
    const { shadow } = patch;
    if (!shadow) return;
    patch.shadow = 0;
    this.#bytes.fill(0, shadow, shadow + RECORD);
    const guarded = shadow >= GUARDED_SHADOWS ? 1 : 0;
    this.#free[guarded].push((shadow - (guarded ? GUARDED_SHADOWS : SHADOWS)) / SHADOW);
  }

  #releaseAll(guarded: 0 | 1): void {
    for (const [page, patches] of this.#patches)
      for (const [rec, patch] of patches) {
        if (!patch.shadow || patch.shadow >= GUARDED_SHADOWS !== (guarded === 1)) continue;
        this.#release(patch);
        this.#write(page, rec);
      }
  }

  /** True for the address of a shadow: not of its sentinel. */
  isShadow(rec: number): boolean {
    return (rec < RECORDS || rec >= GUARDED_SHADOWS) && rec % SHADOW === SHADOWS % SHADOW;
  }

  /** The record that a shadow is (or just was) of; any other is itself. */
  recordOf(rec: number): number {
    if (rec >= RECORDS && rec < GUARDED_SHADOWS) return rec;
    const guarded = rec >= GUARDED_SHADOWS ? 1 : 0;
    return this.#owners[guarded][Math.floor((rec - (guarded ? GUARDED_SHADOWS : SHADOWS)) / SHADOW)];
  }

  // --- when they are met -------------------------------------------------------------------------------------------

  /**
   * Generated code has left at a breakpoint, at `vp`'s PC: undefined when nobody wants to see it, else bits of the clauses that
   * stop; 0: the debugger has to look itself.
   */
  met(vp: VpState, load: (address: bigint, size: number) => bigint | undefined): number | undefined {
    const matched = this.#words[CELL.MATCHED >>> 2];
    this.#words[CELL.MATCHED >>> 2] = 0;
    if (matched) return matched;
    // Something else may be there by now.
    const word = this.#accesses.has(vp.pc) ? Number(load(vp.pc, 4) ?? 0n) : 0;
    if (isRegisterMove(word) && this.#registers.has(moveKey(word))) return 0;
    const breakpoint = this.#user.get(vp.pc);
    if (!breakpoint) return undefined;
    const { filter } = breakpoint;
    if (!filter) return 0;
    this.judged++;
    const verdict = judge(filter, vp, this.#counters, load);
    if (!verdict) return 0;
    this.#words[CELL.COUNTED >>> 2] = verdict.counted;
    return verdict.matched || undefined;
  }

  /** What was counted last counts no more: nothing can go wrong with it now. */
  settle(): void {
    this.#words[CELL.COUNTED >>> 2] = 0;
  }

  /** The instruction at `pc` has not executed after all: it has faulted, and will be met again. */
  uncount(pc: bigint): void {
    const counted = this.#words[CELL.COUNTED >>> 2];
    if (!counted) return;
    this.settle();
    for (const [i, { hit }] of this.#user.get(pc)?.filter?.clauses.entries() ?? [])
      if (hit && counted & (1 << i)) this.#counters.set(hit.counter, this.#counters.get(hit.counter) - 1);
  }
}

/** A patched record's handler: the record's address -> exit code. */
function emitHandler(filter: Filter): Code {
  const code = new Code(['i32'], ['i32']);
  const matched = code.local('i32');
  const shadow = code.local('i32');
  code.get(0).mem('i32.load', AUX).tee(shadow).op('i32.eqz');
  code.if();
  code.i32(EXIT.BREAKPOINT).ret().end();
  // The same code at another address has no breakpoint.
  code
    .i32(0)
    .mem('i64.load', WINDOW + VP.PC)
    .get(0)
    .mem('i64.load', IMM)
    .op('i64.eq');
  code.if();
  emitFilter(code, filter);
  code.tee(matched);
  code.if();
  code.i32(0).get(matched).i32(0).get(matched).i32(-1).op('i32.ne').op('select').mem('i32.store', CELL.MATCHED);
  code.i32(EXIT.BREAKPOINT).ret().end().end();
  code.i32(0).get(shadow).mem('i32.store', CELL.REC).i32(EXIT.PASS);
  return code;
}
