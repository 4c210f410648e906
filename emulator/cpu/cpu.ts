/**
 * The CPU: VPs, the run loop around generated code, and what generated code leaves to TypeScript: decoding, TLB misses,
 * accesses that are not plain RAM, exceptions, system instructions.
 *
 * Counting. `run` never executes more than its budget, and clock.ts is exact whenever TypeScript of a device or a system
 * register runs. An instruction that takes an exception counts as one, too, so that a guest whose vectors fault at once
 * still lets time go by.
 */
import { CODE, DIRTY, MARKED, PAGE, PAGE_SHIFT, type Ram, WRITABLE } from '../memory/ram.ts';
import { ROWS } from './a64/index.ts';
import { authenticationKey } from './a64/pauth.ts';
import { BTYPE, mayLand } from './branch-targets.ts';
import { Breakpoints, registerKey } from './breakpoints.ts';
import type { Decoded } from './decoder.ts';
import {
  checksSpAlignment,
  eret,
  FSC,
  removeTag,
  reset,
  lastFault,
  takeBranchTarget,
  takeBreakpoint,
  takeBrk,
  takeDataAbort,
  takeFiq,
  takeFpTrap,
  takeIrq,
  takePacFail,
  takePcAlignment,
  takePrefetchAbort,
  takeSoftwareStep,
  takeSpAlignment,
  takeSvc,
  takeUndef,
  takeWatchpoint,
  takeWfxTrap,
  wfxTraps,
} from './exceptions.ts';
import { checkFilter, Counters, type Filter } from './filter.ts';
import type { Insn } from './insn.ts';
import { Interpreter, MAX_RUN } from './interpreter.ts';
import {
  BOUNCE,
  CELL,
  infoAlign,
  infoElement,
  infoOrdered,
  infoReads,
  infoSize,
  infoUnprivileged,
  infoWrites,
  MAX_ACCESS,
  PAGE_RECORDS,
  PAGE_STRIDE,
  RECORD,
  RECORD_SHIFT,
  RECORD_SLOTS,
  RECORDS,
  TLB_SET,
  TLBS,
  EXIT,
  EXIT_KINDS,
  FIRST_KIND,
  kindCode,
} from './layout.ts';
import { FAST_LIMIT } from './loop.ts';
import { Mmu } from './mmu.ts';
import { type AccessKind, type CpuPorts, EXECUTE, READ, type TlbControl, WRITE } from './ports.ts';
import { type Armed, armedBy, breakpointMatches, inWatchedPage, watchpointMatches } from './self-hosted-debug.ts';
import { SystemInstructions } from './system.ts';
import { cellOf } from './sysregs.ts';
import { THRESHOLD, Translator } from './translator.ts';
import { type AddressSpace, Tlbs } from './tlb.ts';
import { EVERYTHING, NOTHING, type Watched, type Watchpoint, Watchpoints, WRITES } from './watchpoints.ts';
import { OFF, PSTATE, RUNNING, VP, VpState, WAITING_WFE, WAITING_WFI } from './vp-state.ts';

export type ExceptionKind = 'undef' | 'svc' | 'brk' | 'data-abort' | 'prefetch-abort' | 'pc-alignment' | 'fp-trap' | 'pac-fail';

export type CpuExit =
  | { kind: 'budget' }
  /** An alarm of the clock is due. */
  | { kind: 'alarm' }
  /** PC is at the instruction: nothing happened. `retireAndAdvance` after the call was served. */
  | { kind: 'hvc' | 'smc'; imm: number }
  /** Retired; RUN_STATE says what the VP waits for. */
  | { kind: 'wfi' | 'wfe' }
  /** Retired: the VP has nothing to do but to look again. */
  | { kind: 'yield' }
  /** PC is at the breakpoint. `clauses`: bits of those of its filter that stop; left out: there is none, or it has no value here. */
  | { kind: 'breakpoint'; clauses?: number }
  /** The access at `pc` has retired. */
  | ({ kind: 'watchpoint'; pc: bigint } & Watched)
  /** `onException` said so: PC is at the instruction, the exception has not been taken. */
  | { kind: 'exception'; exception: ExceptionKind };

export interface CpuOptions {
  /** `auto`: hot code is translated; `interpreter`: nothing is. The guest sees no difference. */
  engine?: 'auto' | 'interpreter';
  /** Taken branches to one place after which it is translated. */
  threshold?: number;
}

export interface RunOptions {
  /** Pass over a breakpoint at the current PC. */
  resume?: boolean;
}

const BUDGET: CpuExit = { kind: 'budget' };
const ALARM: CpuExit = { kind: 'alarm' };
const YIELD: CpuExit = { kind: 'yield' };

/** Instructions decoded at once; more of a page follow when they are reached. */
const DECODE_AHEAD = 64;

/** Load/store exclusive and CASP (Arm ARM C4.1.88): o2 = 0 in the exclusives group. */
const isExclusive = (word: number): boolean => (word & 0x3f800000) === 0x08000000;
const isLoadExclusive = (word: number): boolean => (word & 0x3fc00000) === 0x08400000;
/** STXR, STXP and their releasing forms. */
const isStoreExclusive = (word: number): boolean =>
  (word & 0x3fe00000) === 0x08000000 || (word & 0xbfe00000) >>> 0 === 0x88200000;
const ERET = 0xd69f03e0;
/** ERETAA, ERETAB. */
const isEretAuthenticated = (word: number): boolean => (word & ~0x400) >>> 0 === 0xd69f0bff;
/** WFET and WFIT (C6.2). */
const isTimedWait = (word: number): boolean => (word & ~0x3f) >>> 0 === 0xd5031000;
/** `CELL.JUMP` before there was a jump. */
const NO_JUMP = 0xffffffff;
const [SCTLR, VBAR, ELR] = [cellOf('SCTLR_EL1'), cellOf('VBAR_EL1'), cellOf('ELR_EL1')];
/** SCTLR_EL1.nAA. */
const NAA = 1 << 6;
/** SCTLR_EL1.BT0 and BT1, in the upper half. */
const [BT0, BT1] = [1 << 3, 1 << 4];
const timeoutAlarm = (vp: number): string => `wait-${vp}`;
const isZeroBlock = (word: number): boolean => (word & ~0x1f) >>> 0 === 0xd50b7420;

export class Cpu implements TlbControl {
  readonly vps: VpState[] = [];
  readonly mmu: Mmu;
  readonly interpreter: Interpreter;
  readonly translator: Translator | undefined;
  /**
   * Asked before an instruction's exception is taken; true: `run` returns `exception` instead. For runs of bare instructions
   * that have no vectors.
   */
  onException?: (vp: VpState, kind: ExceptionKind) => boolean;

  readonly #ports: CpuPorts;
  readonly #ram: Ram;
  readonly #system: SystemInstructions;
  readonly #bti: boolean;
  readonly #lse2: boolean;
  /** The memory below RAM, by 4 bytes. */
  #words: Uint32Array;
  #bytes: Uint8Array;
  #bounce: DataView;
  /** The data TLB entry that a bounce displaces. */
  readonly #savedEntry = new Uint32Array(5);
  /** The VP whose block is in the window. */
  #loaded: VpState;
  /** What runs now counts memory accesses and branches. */
  #countingKinds = false;
  /** Instructions of the machine up to which the event counters of the VP that runs have counted. */
  #counted = 0;
  /** The VP that ran last, unless state has changed from outside since: no other has a monitor without a mark. */
  #current = -1;

  // Caches over the guest's state: code records and what the debugger wants to see.
  /** Slot + 1 of a RAM page's records, 0: none; where it is not guarded, and where it is. */
  readonly #slotOfPage: readonly [Uint16Array, Uint16Array];
  readonly #pageOfSlot = new Int32Array(RECORD_SLOTS);
  /** Slots in use: of pages that are not guarded, from the first, and of guarded ones, from the last. */
  #slots = 0;
  #guardedSlots = 0;
  readonly #tlbs: Tlbs;
  readonly #breakpoints: Breakpoints;
  readonly counters: Counters;
  /** What the guest's debug registers arm, by VP. */
  readonly #armed: (Armed | undefined)[] = [];
  readonly #watchpoints: Watchpoints;
  /** How often generated code came back here, by exit code: for measurements only. */
  readonly #exits = new Float64Array(FIRST_KIND + EXIT_KINDS.length);
  #stopping = false;

  constructor(ports: CpuPorts, rows: readonly Insn[] = ROWS, { engine = 'auto', threshold = THRESHOLD }: CpuOptions = {}) {
    this.#ports = ports;
    this.#ram = ports.bus.ram;
    this.#tlbs = new Tlbs(this.#ram, ports.vpCount);
    const { memory, base } = this.#ram;
    this.#words = new Uint32Array(memory.buffer, 0, base / 4);
    this.#bytes = new Uint8Array(memory.buffer, 0, base);
    this.#bounce = new DataView(memory.buffer, BOUNCE, MAX_ACCESS);
    const pages = this.#ram.flags.length;
    this.#slotOfPage = [new Uint16Array(pages), new Uint16Array(pages)];
    this.#setGuardedSlots(0);
    this.mmu = new Mmu(ports);
    this.#system = new SystemInstructions(ports, this, this.mmu);
    this.#bti = ports.features.has('BTI');
    this.#lse2 = ports.features.has('LSE2');
    this.interpreter = new Interpreter(memory, rows, ports.features, engine === 'auto' ? threshold : undefined);
    if (engine === 'auto')
      this.translator = new Translator(memory, this.interpreter, threshold, {
        page: (hi, lo) => this.#executablePage(hi, lo),
        isPatched: (rec) => this.#breakpoints.has(rec),
      });
    this.counters = new Counters(memory);
    this.#watchpoints = new Watchpoints(memory, this.counters);
    this.#breakpoints = new Breakpoints(
      memory,
      {
        interpreter: this.interpreter,
        dropRegions: (page) => this.translator?.dropPage(page),
        flushCode: () => this.#tlbs.flushCode(),
        word: (page, offset) => this.#pageWord(this.#slotOf(page), offset),
        keepCode: (page) => this.#keepCode(this.#pageOfSlot[this.#slotOf(page)]),
      },
      this.counters,
    );
    for (let i = 0; i < ports.vpCount; i++) {
      const vp = new VpState(i, memory);
      vp.onFault = () => {
        const { trace } = ports;
        if (trace.wants('fault')) trace.emit({ kind: 'fault', vp: vp.index, ...lastFault(vp) });
      };
      this.vps.push(vp);
      if (ports.features.has('WFxT')) ports.clock.on(timeoutAlarm(i), () => this.#timedOut(vp));
    }
    this.#loaded = this.vps[0];
    this.flushAll();
    this.#enterWindow(this.#loaded);
    this.#ram.onCodeWrite = (page) => this.#dropPage(page);
    this.#ram.onProtect = () => this.#tlbs.dropWriteTags();
    this.#ram.onRemap = () => this.flushAll();
    this.#ram.onHostWrite = () => this.#hostWrites();
    this.#ram.onMarkedWrite = (page) => this.#markedWrite(page);
    this.#ram.onRenew = () => this.#memoryRenewed();
  }

  /** RAM and the tables below it are in another memory now, as they were: everything that holds on to memory changes over. */
  #memoryRenewed(): void {
    const { memory, base } = this.#ram;
    this.#words = new Uint32Array(memory.buffer, 0, base / 4);
    this.#bytes = new Uint8Array(memory.buffer, 0, base);
    this.#bounce = new DataView(memory.buffer, BOUNCE, MAX_ACCESS);
    this.#tlbs.memoryRenewed();
    this.counters.memoryRenewed(memory);
    this.#breakpoints.memoryRenewed(memory);
    this.#watchpoints.memoryRenewed(memory);
    this.interpreter.memoryRenewed(memory);
    this.translator?.memoryRenewed(memory);
    for (const vp of this.vps) vp.memoryRenewed(memory);
  }

  // --- VPs -----------------------------------------------------------------------------------------------------

  /** Reset of one VP (Arm ARM D1.3.2): EL1h at `pc`, all else as exceptions.ts says. */
  reset(vp: number, pc: bigint): void {
    reset(this.#ports, this.vps[vp], pc);
    this.flushAll();
    this.debugChanged();
  }

  /** The interrupt controller's IRQ (FIQ) line to a VP. */
  setIrq(vp: number, level: boolean): void {
    this.#setLine(vp, 1, level);
  }
  setFiq(vp: number, level: boolean): void {
    this.#setLine(vp, 2, level);
  }
  #setLine(index: number, bit: number, level: boolean): void {
    const vp = this.vps[index];
    const lines = vp.u32(VP.IRQ);
    vp.setU32(VP.IRQ, level ? lines | bit : lines & ~bit);
  }

  #enterWindow(vp: VpState): void {
    this.#loaded.unload();
    vp.load();
    this.#loaded = vp;
    this.#words[CELL.TLB >>> 2] = TLBS + vp.index * TLB_SET;
  }

  #select(index: number): VpState {
    const vp = this.vps[index];
    if (this.#current !== index) {
      for (const other of this.vps) if (other !== vp && other.u32(VP.EXCL_SIZE) && !other.u32(VP.EXCL_PAGE)) this.#mark(other);
      vp.setU32(VP.EXCL_PAGE, 0);
      this.#current = index;
    }
    if (this.#loaded !== vp) this.#enterWindow(vp);
    return vp;
  }

  // --- exclusive monitors ----------------------------------------------------------------------------------------
  //
  // The VP that runs keeps what it has marked as a virtual address (loads-stores.ts), and only what is not a VP's can take that
  // away. When another VP runs, the mark becomes a flag of the RAM page, and the first write to that page takes the monitor away.
  // A page is more than an exclusives reservation granule; losing a monitor without need is permitted (Arm ARM B2.12.2).

  /** `vp` stops running with its monitor set. */
  #mark(vp: VpState): void {
    const hi = vp.u32(VP.EXCL_ADDR + 4);
    const ok = this.mmu.translate(vp, hi, vp.u32(VP.EXCL_ADDR), READ, vp.el as 0 | 1, false);
    const at = ok ? this.#ram.at(this.mmu.out.pa) : -1;
    if (at < 0) {
      this.#loseMonitor(vp);
      return;
    }
    const page = at >>> PAGE_SHIFT;
    vp.setU32(VP.EXCL_PAGE, page + 1);
    if (this.#ram.flags[page] & MARKED) return;
    this.#ram.flags[page] |= MARKED;
    this.#tlbs.dropWriteTags(page);
  }

  /** The monitor goes from exclusive to open by somebody else's doing: that is an event (D1.6.1). */
  #loseMonitor(vp: VpState): void {
    vp.setU32(VP.EXCL_SIZE, 0);
    vp.setU32(VP.EXCL_PAGE, 0);
    vp.setU32(VP.EVENT, 1);
  }

  #markedWrite(page: number): void {
    this.#ram.flags[page] &= ~MARKED;
    for (const vp of this.vps) if (vp.u32(VP.EXCL_SIZE) && vp.u32(VP.EXCL_PAGE) === page + 1) this.#loseMonitor(vp);
  }

  /** True when the instruction at PC is a store exclusive that `vp`'s monitor does not let pass. */
  #storeFails(vp: VpState, hi: number, lo: number, size: number): boolean {
    const passes = vp.u32(VP.EXCL_SIZE) === size && vp.u32(VP.EXCL_ADDR) === lo && vp.u32(VP.EXCL_ADDR + 4) === hi;
    return !passes && isStoreExclusive(this.#word());
  }

  /** A device (or the debugger) writes, wherever: the monitor that is no mark yet goes. */
  #hostWrites(): void {
    for (const vp of this.vps) if (vp.u32(VP.EXCL_SIZE) && !vp.u32(VP.EXCL_PAGE)) this.#loseMonitor(vp);
  }

  /** SEV of a VP, or an event from elsewhere for one VP: whoever waits in WFE goes on. */
  sendEvent(index?: number): void {
    for (const vp of index === undefined ? this.vps : [this.vps[index]]) vp.setU32(VP.EVENT, 1);
    this.setYields(this.#loaded.index, this.vps.length > 1);
  }

  /** Whether YIELD of this VP ends its turn: only if another is awake, that may be what it waits for. */
  setYields(index: number, yields: boolean): void {
    this.vps[index].setU32(VP.YIELDS, yields ? 1 : 0);
  }

  /** True when the VP would execute instructions: it does not wait, or what it waits for has come. */
  isAwake(index: number): boolean {
    const vp = this.vps[index];
    const state = vp.u32(VP.RUN_STATE);
    if (state === RUNNING) return true;
    // An interrupt ends the wait whether or not PSTATE masks it (D1.6).
    return state !== OFF && (vp.u32(VP.IRQ) !== 0 || (state === WAITING_WFE && vp.u32(VP.EVENT) !== 0));
  }

  /** How often generated code came back to TypeScript, by reason, the most frequent first. */
  exits(): Record<string, number> {
    const names = Object.entries(EXIT).map(([name, code]) => [code, name.toLowerCase()] as const);
    const kinds = EXIT_KINDS.map((kind, i) => [FIRST_KIND + i, kind] as const);
    const counts = [...names, ...kinds].map(([code, name]) => [name, this.#exits[code]] as const);
    return Object.fromEntries(counts.filter(([, n]) => n > 0).sort(([, a], [, b]) => b - a));
  }

  // --- run -----------------------------------------------------------------------------------------------------

  /** Runs VP `index` for at most `budget` instructions. */
  run(index: number, budget: number, options: RunOptions = {}): CpuExit {
    const vp = this.#select(index);
    const { clock, pmu } = this.#ports;
    const words = this.#words;
    this.#counted = clock.state.instructions;
    let over = options.resume ?? false;
    if (over) this.#breakpoints.settle();
    // Instructions are whole; what is asked for may be a time.
    budget = Math.ceil(budget);
    const asleep = this.#wake(vp);
    if (asleep) return asleep;
    for (;;) {
      const due = clock.nextDue - clock.now;
      if (due <= 0) return ALARM;
      if (budget <= 0 || this.#stopping) {
        this.#stopping = false;
        return BUDGET;
      }
      // Software step, active and pending (D2.12.3).
      if (vp.u32(VP.STEP) && !(vp.u32(VP.PSTATE) & PSTATE.SS)) takeSoftwareStep(vp);
      this.#interrupt(vp);
      const before = clock.state.instructions;
      const { el } = vp;
      let exit: CpuExit | undefined;
      let again = false;
      const rec = this.#fetch(vp);
      if (typeof rec !== 'number') exit = rec;
      else if (rec !== 0 && !over && vp.u32(VP.PSTATE) & PSTATE.BTYPE && this.#breakpoints.has(rec)) {
        // Before the branch target is looked at: what lets that pass is not known in generated code.
        exit = this.#stopAt(vp);
        again = !exit;
      } else if (rec !== 0 && !this.#trapsAt(vp, rec, over)) {
        const start = over && this.#breakpoints.has(rec) ? this.#breakpoints.shadow(rec) : rec;
        if (start === 0) {
          this.dropAllCode();
          continue;
        }
        const stepping = vp.u32(VP.STEP) !== 0;
        const single = stepping || this.#misalignedSp(vp) || this.#armed[index]?.everywhere;
        const counting = pmu?.isCounting(index) ?? false;
        const overflow = counting ? (pmu?.untilOverflow(index, el) ?? MAX_RUN) : MAX_RUN;
        this.#countingKinds = counting && (pmu?.countsKinds(index) ?? false);
        if (this.#countingKinds) words[CELL.ACCESSES >>> 2] = words[CELL.BRANCHES >>> 2] = 0;
        const n = single ? 1 : Math.min(budget, Math.ceil(due), overflow, MAX_RUN);
        if (stepping) {
          vp.setU32(VP.STEPPING, 1);
          vp.setU32(VP.PSTATE, vp.u32(VP.PSTATE) & ~PSTATE.SS);
        }
        words[CELL.REC >>> 2] = start;
        words[CELL.REM >>> 2] = n << RECORD_SHIFT;
        words[CELL.JUMP >>> 2] = NO_JUMP;
        this.#setTimeEnd(clock.now + n);
        const btype = vp.u32(VP.PSTATE) & PSTATE.BTYPE;
        if (btype) vp.setU32(VP.PSTATE, vp.u32(VP.PSTATE) & ~PSTATE.BTYPE);
        const code = n < FAST_LIMIT || this.#countingKinds ? this.#interpret() : (this.translator ?? this.interpreter).run(false);
        const left = words[CELL.REM >>> 2];
        clock.retire(n - (left >>> RECORD_SHIFT));
        this.#setBtype(vp, left === n << RECORD_SHIFT ? btype : this.#btypeAt(left));
        if (this.#breakpoints.isShadow(words[CELL.REC >>> 2]) && code !== EXIT.JUMP) [exit, again] = this.#leaveShadow(vp, code);
        else exit = this.#leave(vp, code);
        if (code === EXIT.BREAKPOINT) again = !exit;
        if (stepping) this.#stepped(vp, rec, clock.state.instructions !== before);
      }
      this.#count(index, el);
      if (exit) return exit;
      const done = clock.state.instructions - before;
      budget -= done;
      if (again) over = true;
      else if (done) over = false;
    }
  }

  /** Generated code was left at a breakpoint: undefined if nobody wants to stop here. */
  #stopAt(vp: VpState): CpuExit | undefined {
    const clauses = this.#breakpoints.met(vp, (address, size) => this.#loadForDebugger(vp, address, size));
    return clauses === undefined ? undefined : clauses ? { kind: 'breakpoint', clauses } : { kind: 'breakpoint' };
  }

  /**
   * As `#leave`, from an instruction with a breakpoint that was met before. `again`: nothing has come of it, and it is to be run without
   * its being met once more.
   */
  #leaveShadow(vp: VpState, code: number): [exit: CpuExit | undefined, again: boolean] {
    const { clock } = this.#ports;
    const before = clock.state.instructions;
    const { pc } = vp;
    const exit = this.#leave(vp, code);
    if (clock.state.instructions === before) return [exit, !exit];
    // A fault comes back to where it was.
    const vector = vp.pc - vp.u64(VBAR);
    if (vp.u64(ELR) === pc && vector >= 0n && vector < 0x800n && (vector & 0x1ffn) === 0n) this.#breakpoints.uncount(pc);
    return [exit, false];
  }

  /** Exactly, and counting what is to be counted. */
  #interpret(): number {
    return this.#countingKinds ? this.interpreter.runCounting() : this.interpreter.run(true);
  }

  #misalignedSp(vp: VpState): boolean {
    return (vp.u32(VP.SP) & 15) !== 0 && checksSpAlignment(vp);
  }

  /** Takes the exception that the instruction of `rec` has in store whatever it does; false: there is none. */
  #trapsAt(vp: VpState, rec: number, over: boolean): boolean {
    const armed = this.#armed[vp.index];
    const pc = over ? vp.pc : 0n;
    if (armed && (armed.everywhere || (over && this.#breakpoints.has(rec))) && breakpointMatches(vp)) takeBreakpoint(vp);
    else if (vp.u32(VP.PSTATE) & PSTATE.BTYPE && !this.#mayLand(vp, rec)) takeBranchTarget(vp);
    else if (this.#misalignedSp(vp) && this.interpreter.usesSpAsBase(this.#wordOf(rec))) takeSpAlignment(vp);
    else return false;
    if (over) this.#breakpoints.uncount(pc);
    this.#ports.clock.retire(1);
    return true;
  }

  // --- branch targets (branch-targets.ts) ---------------------------------------------------------------------------

  /** PSTATE.BTYPE, in its place, when generated code is left with REM = `left` after it has retired something. */
  #btypeAt(left: number): number {
    const landing = (this.#words[CELL.JUMP >>> 2] ^ left) >>> 0;
    return this.#bti && landing < RECORD ? BTYPE[landing] << 10 : 0;
  }
  #setBtype(vp: VpState, btype: number): void {
    if (btype) vp.setU32(VP.PSTATE, vp.u32(VP.PSTATE) | btype);
  }
  /** An instruction that TypeScript executes has retired. */
  #clearBtype(vp: VpState): void {
    const pstate = vp.u32(VP.PSTATE);
    if (pstate & PSTATE.BTYPE) vp.setU32(VP.PSTATE, pstate & ~PSTATE.BTYPE);
  }
  /** True where the instruction of `rec` may execute with the VP's BTYPE. */
  #mayLand(vp: VpState, rec: number): boolean {
    if (rec < this.#words[CELL.GUARDED >>> 2]) return true;
    const strict = (vp.u32(SCTLR + 4) & (vp.el === 0 ? BT0 : BT1)) !== 0;
    return mayLand(this.#wordOf(rec), (vp.u32(VP.PSTATE) & PSTATE.BTYPE) >>> 10, strict);
  }

  /** After an instruction that was to be stepped, of `rec`; `done`: it has retired or taken its exception. */
  #stepped(vp: VpState, rec: number, done: boolean): void {
    // An exception has ended the step.
    if (!vp.u32(VP.STEPPING)) return;
    vp.setU32(VP.STEPPING, 0);
    if (!done) vp.setU32(VP.PSTATE, vp.u32(VP.PSTATE) | PSTATE.SS);
    else if (vp.u32(VP.STEP)) takeSoftwareStep(vp, { exclusive: isLoadExclusive(this.#wordOf(rec)) });
  }

  #setTimeEnd(ns: number): void {
    this.#words[CELL.TIME_END >>> 2] = ns >>> 0;
    this.#words[(CELL.TIME_END >>> 2) + 1] = Math.floor(ns / 0x1_0000_0000);
  }

  /** `run` comes back after the instruction that makes a device call this. */
  stop(): void {
    this.#stopping = true;
  }

  /** HVC or SMC at PC has been served: it retires. */
  retireAndAdvance(index: number): void {
    const vp = this.vps[index];
    if (vp.u32(VP.STEP)) vp.setU32(VP.PSTATE, vp.u32(VP.PSTATE) & ~PSTATE.SS);
    this.#retire(vp);
    this.#count(index, vp.el);
  }

  /** HVC or SMC at PC is not one that anybody answers: UNDEFINED. */
  refuse(index: number): void {
    const vp = this.vps[index];
    const { el } = vp;
    takeUndef(vp);
    this.#ports.clock.retire(1);
    this.#count(index, el);
  }

  /** One instruction that TypeScript executed. */
  #retire(vp: VpState): void {
    this.#advance(vp);
    this.#clearBtype(vp);
    this.#ports.clock.retire(1);
  }
  #advance(vp: VpState): void {
    const lo = vp.u32(VP.PC) + 4;
    vp.setU32(VP.PC, lo);
    if (lo > 0xffffffff) vp.setU32(VP.PC + 4, vp.u32(VP.PC + 4) + 1);
  }

  /** A waiting VP with a reason to go on does; else the exit that says what it waits for. */
  #wake(vp: VpState): CpuExit | undefined {
    const runState = vp.u32(VP.RUN_STATE);
    if (runState === RUNNING) return undefined;
    if (runState === OFF) throw new Error(`VP ${vp.index} is off`);
    if (!this.isAwake(vp.index)) return { kind: runState === WAITING_WFI ? 'wfi' : 'wfe' };
    if (runState === WAITING_WFE) vp.setU32(VP.EVENT, 0);
    if (this.#ports.features.has('WFxT')) this.#ports.clock.cancel(timeoutAlarm(vp.index));
    vp.setU32(VP.RUN_STATE, RUNNING);
    return undefined;
  }

  #interrupt(vp: VpState): void {
    const lines = vp.u32(VP.IRQ);
    if (lines === 0) return;
    const pstate = vp.u32(VP.PSTATE);
    if (lines & 2 && !(pstate & PSTATE.F)) takeFiq(vp);
    else if (lines & 1 && !(pstate & PSTATE.I)) takeIrq(vp);
  }

  /** Takes an exception unless `onException` wants to see it. */
  #exception(vp: VpState, kind: ExceptionKind, take: () => void): CpuExit | undefined {
    if (this.onException?.(vp, kind)) return { kind: 'exception', exception: kind };
    take();
    this.#ports.clock.retire(1);
    return undefined;
  }

  /** The word of the instruction whose record generated code was left at. */
  #word(): number {
    return this.#wordOf(this.#words[CELL.REC >>> 2]);
  }
  #wordOf(rec: number): number {
    const at = this.#breakpoints.recordOf(rec);
    const slot = this.#slotOf(at);
    const index = (at - RECORDS - slot * PAGE_STRIDE) >>> RECORD_SHIFT;
    return this.#ram.view.getUint32(this.#pageOfSlot[slot] * PAGE + index * 4, true);
  }
  #slotOf(rec: number): number {
    return Math.floor((rec - RECORDS) / PAGE_STRIDE);
  }
  /** Word at a byte offset of the page of a slot; undefined: beyond its end. */
  #pageWord(slot: number, offset: number): number | undefined {
    return offset >= 0 && offset < PAGE ? this.#ram.view.getInt32(this.#pageOfSlot[slot] * PAGE + offset, true) : undefined;
  }

  #undefined(vp: VpState): CpuExit | undefined {
    const { trace } = this.#ports;
    if (trace.wants('undefined')) {
      const word = this.#word();
      trace.emit({
        kind: 'undefined',
        vp: vp.index,
        pc: vp.pc,
        word,
        text: this.interpreter.decode(word)?.row.name ?? 'unallocated',
      });
    }
    return this.#exception(vp, 'undef', () => takeUndef(vp));
  }

  /** What generated code could not do. undefined: go on. */
  #leave(vp: VpState, code: number): CpuExit | undefined {
    this.#exits[code]++;
    switch (code) {
      case EXIT.BUDGET:
        return undefined;
      case EXIT.UNDECODED:
        this.#decode(this.#words[CELL.REC >>> 2]);
        return undefined;
      case EXIT.ARRIVED:
        this.translator?.translate(this.#words[CELL.REC >>> 2], vp.u32(VP.PC + 4), vp.u32(VP.PC));
        return undefined;
      case EXIT.BREAKPOINT:
        return this.#stopAt(vp);
      case EXIT.JUMP:
        removeTag(vp);
        return undefined;
      case EXIT.MISS:
        return this.#access(vp);
      case EXIT.FP_TRAP:
        return this.#exception(vp, 'fp-trap', () => takeFpTrap(vp));
    }
    const kind = EXIT_KINDS[code - FIRST_KIND];
    switch (kind) {
      case 'svc':
        return this.#exception(vp, 'svc', () => takeSvc(vp, (this.#word() >>> 5) & 0xffff));
      case 'brk':
        return this.#exception(vp, 'brk', () => takeBrk(vp, (this.#word() >>> 5) & 0xffff));
      case 'hvc':
      case 'smc':
        return vp.el === 0 ? this.#undefined(vp) : { kind, imm: (this.#word() >>> 5) & 0xffff };
      case 'eret':
        if (vp.el === 0) return this.#undefined(vp);
        // ERETAA, ERETAB have authenticated the address (a64/pauth.ts).
        eret(vp, this.#word() === ERET ? undefined : vp.u64(VP.JUNK));
        // What unprivileged accesses of EL1 find in the TLB has EL0's rights.
        if (vp.u32(VP.PSTATE) & PSTATE.UAO) this.flushAll();
        this.#ports.clock.retire(1);
        return undefined;
      case 'mrs':
      case 'msr':
      case 'msr-imm':
      case 'sys':
        return this.#execute(vp);
      case 'wfi':
      case 'wfe':
        return this.#wait(vp, kind);
      case 'irq-check':
        this.#retire(vp);
        return undefined;
      case 'sev':
        this.sendEvent();
        this.#retire(vp);
        return undefined;
      case 'yield':
        this.#retire(vp);
        return YIELD;
      case 'pac-fail': {
        const word = this.#word();
        // What is UNDEFINED at EL0 does not authenticate.
        if (vp.el === 0 && isEretAuthenticated(word)) return this.#undefined(vp);
        const { row, raw } = this.interpreter.decode(word) as Decoded;
        return this.#exception(vp, 'pac-fail', () => takePacFail(vp, authenticationKey(row, raw)));
      }
      default:
        return this.#undefined(vp);
    }
  }

  /** MRS, MSR or SYS at PC. */
  #execute(vp: VpState): CpuExit | undefined {
    switch (this.#system.execute(vp, this.#word())) {
      case 'next':
        this.#retire(vp);
        return undefined;
      case 'jumped':
        this.#ports.clock.retire(1);
        return undefined;
      case 'undef':
        return this.#undefined(vp);
    }
  }

  /** WFI and WFE do not wait when there is a reason not to, masked or not (Arm ARM D1.6). */
  #wait(vp: VpState, kind: 'wfi' | 'wfe'): CpuExit | undefined {
    const wfe = kind === 'wfe';
    const event = wfe && vp.u32(VP.EVENT) !== 0;
    const word = this.#word();
    const timeout = isTimedWait(word) ? word & 31 : undefined;
    const due = timeout === undefined ? Number.POSITIVE_INFINITY : this.#timeOf(vp, vp.x(timeout));
    const { clock } = this.#ports;
    if (!event && vp.u32(VP.IRQ) === 0 && due > clock.now) {
      if (wfxTraps(vp, wfe)) {
        takeWfxTrap(vp, wfe, timeout);
        clock.retire(1);
        return undefined;
      }
      // What is stepped has to come to its end.
      if (!vp.u32(VP.STEPPING)) {
        vp.setU32(VP.RUN_STATE, wfe ? WAITING_WFE : WAITING_WFI);
        if (due < Number.POSITIVE_INFINITY) clock.set(timeoutAlarm(vp.index), due);
        this.#retire(vp);
        return { kind };
      }
    }
    if (event) vp.setU32(VP.EVENT, 0);
    this.#retire(vp);
    return undefined;
  }

  /** The first time, in ns, at which CNTVCT_EL0 is at least `count`; Infinity: beyond what the clock can tell. */
  #timeOf(vp: VpState, count: bigint): number {
    const frequency = this.#ports.timer.read(vp.index, 'CNTFRQ_EL0');
    const due = frequency === 0n ? 0n : (count * 1_000_000_000n + frequency - 1n) / frequency;
    return due <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(due) : Number.POSITIVE_INFINITY;
  }

  /** The timeout of WFET or WFIT. */
  #timedOut(vp: VpState): void {
    const state = vp.u32(VP.RUN_STATE);
    if (state === WAITING_WFI || state === WAITING_WFE) vp.setU32(VP.RUN_STATE, RUNNING);
  }

  // --- performance monitors ----------------------------------------------------------------------------------------

  /** What has been executed since the last time was executed at `el`. */
  #count(index: number, el: number): void {
    const { pmu, clock } = this.#ports;
    const now = clock.state.instructions;
    if (now > this.#counted && pmu?.isCounting(index)) {
      const [accesses, branches] = [this.#words[CELL.ACCESSES >>> 2], this.#words[CELL.BRANCHES >>> 2]];
      this.#words[CELL.ACCESSES >>> 2] = this.#words[CELL.BRANCHES >>> 2] = 0;
      pmu.count(index, el, now - this.#counted, accesses, branches);
    }
    this.#counted = now;
  }

  syncCounters(index: number): void {
    if (index === this.#current) this.#count(index, this.vps[index].el);
  }

  // --- code ----------------------------------------------------------------------------------------------------

  /** Address of the record for PC; 0: an exception has been taken instead. */
  #fetch(vp: VpState): number | CpuExit {
    const lo = vp.u32(VP.PC);
    const hi = vp.u32(VP.PC + 4);
    if (lo & 3) return this.#exception(vp, 'pc-alignment', () => takePcAlignment(vp)) ?? 0;
    const words = this.#words;
    const { el } = vp;
    const entry = this.#tlbs.codeEntry(vp.index, vp.u32(VP.EL1) !== 0, el, lo);
    const tag = (lo & -PAGE) >>> 0;
    if (words[entry] !== tag || words[entry + 1] !== hi) {
      const ok = this.mmu.translate(vp, hi, lo, EXECUTE, el as 0 | 1, false);
      const { pa, fsc, shift, isGlobal, guarded } = this.mmu.out;
      const at = ok ? this.#ram.at(pa, 4) : -1;
      if (at < 0) return this.#exception(vp, 'prefetch-abort', () => takePrefetchAbort(vp, vp.pc, ok ? FSC.EXTERNAL : fsc)) ?? 0;
      this.mmu.accessed();
      this.#tlbs.note(vp.index, entry, hi, lo, shift, isGlobal);
      const base = this.#records(at >>> PAGE_SHIFT, guarded);
      words[entry] = tag;
      words[entry + 1] = hi;
      words[entry + 2] = base;
      if (!this.#breakpoints.isEmpty) this.#breakpoints.patchPage(hi, tag, base);
    }
    return words[entry + 2] + ((lo & (PAGE - 4)) << 3);
  }

  /** Address of the records of a RAM page where it is guarded, or where it is not. */
  #records(page: number, guarded: boolean): number {
    const slots = this.#slotOfPage[guarded ? 1 : 0];
    let slot = slots[page] - 1;
    if (slot < 0) {
      if (this.#slots + this.#guardedSlots === RECORD_SLOTS) this.dropAllCode();
      if (guarded) this.#setGuardedSlots(this.#guardedSlots + 1);
      slot = guarded ? RECORD_SLOTS - this.#guardedSlots : this.#slots++;
      slots[page] = slot + 1;
      this.#pageOfSlot[slot] = page;
      this.interpreter.placeSentinel(RECORDS + slot * PAGE_STRIDE + PAGE_RECORDS * RECORD);
    }
    return RECORDS + slot * PAGE_STRIDE;
  }

  #setGuardedSlots(count: number): void {
    this.#guardedSlots = count;
    this.#words[CELL.GUARDED >>> 2] = RECORDS + (RECORD_SLOTS - count) * PAGE_STRIDE;
  }

  /** The RAM page mapped for instructions at a virtual page, if it has records, and where these are. */
  #executablePage(hi: number, lo: number): { number: number; records: number; guarded: boolean } | undefined {
    const vp = this.#loaded;
    if (!this.mmu.translate(vp, hi, lo, EXECUTE, vp.el as 0 | 1, false)) return undefined;
    const { pa, guarded } = this.mmu.out;
    const at = this.#ram.at(pa, PAGE);
    if (at < 0) return undefined;
    const number = at >>> PAGE_SHIFT;
    const slot = this.#slotOfPage[guarded ? 1 : 0][number] - 1;
    if (slot < 0 || !(this.#ram.flags[number] & CODE)) return undefined;
    return { number, records: RECORDS + slot * PAGE_STRIDE, guarded };
  }

  /** Fills the record at `rec` and those after it that are likely to run. */
  #decode(rec: number): void {
    if (this.interpreter.full) {
      this.dropAllCode();
      return;
    }
    const slot = this.#slotOf(rec);
    const base = RECORDS + slot * PAGE_STRIDE;
    const page = this.#pageOfSlot[slot];
    const first = (rec - base) >>> RECORD_SHIFT;
    this.#keepCode(page);
    const last = Math.min(first + DECODE_AHEAD, PAGE_RECORDS);
    const { view } = this.#ram;
    const wordAt = (offset: number) => this.#pageWord(slot, offset);
    for (let i = first; i < last; i++) {
      const at = base + i * RECORD;
      const isDecoded = (this.#words[at >>> 2] & 0xffff) !== 0;
      const ends = isDecoded || this.interpreter.place(view.getInt32(page * PAGE + i * 4, true), at, i * 4, wordAt);
      if (i > first) this.interpreter.fuse(at - RECORD);
      if (ends) break;
    }
    this.interpreter.compile();
  }

  /** What is written to a page from now on is noticed. */
  #keepCode(page: number): void {
    const { flags } = this.#ram;
    if (flags[page] & CODE) return;
    flags[page] |= CODE;
    this.#tlbs.dropWriteTags(page);
  }

  /** A page with records is about to be (or has just been) written. */
  #dropPage(page: number): void {
    this.#ram.flags[page] &= ~CODE;
    for (const slots of this.#slotOfPage) {
      if (slots[page] === 0) continue;
      const base = RECORDS + (slots[page] - 1) * PAGE_STRIDE;
      this.#bytes.fill(0, base, base + PAGE_RECORDS * RECORD);
      this.translator?.dropPage(base);
      this.#breakpoints.pageDropped(base);
    }
  }

  /** Forgets all decoded code. */
  dropAllCode(): void {
    const guarded = this.#words[CELL.GUARDED >>> 2];
    this.#bytes.fill(0, RECORDS, RECORDS + this.#slots * PAGE_STRIDE);
    this.#bytes.fill(0, guarded, guarded + this.#guardedSlots * PAGE_STRIDE);
    for (let slot = 0; slot < RECORD_SLOTS; slot++) {
      if (slot === this.#slots) slot = RECORD_SLOTS - this.#guardedSlots;
      if (slot === RECORD_SLOTS) break;
      const page = this.#pageOfSlot[slot];
      for (const slots of this.#slotOfPage) slots[page] = 0;
      this.#ram.flags[page] &= ~CODE;
    }
    this.translator?.dropAll(this.#slots, this.#guardedSlots);
    this.#slots = 0;
    this.#setGuardedSlots(0);
    this.#breakpoints.allDropped();
    this.interpreter.forgetTemplates();
    this.#tlbs.flushCode();
  }

  // --- memory --------------------------------------------------------------------------------------------------

  /** An access that missed the data TLB. Fills it and lets the instruction run again, or makes the access here. */
  #access(vp: VpState): CpuExit | undefined {
    const words = this.#words;
    const lo = words[CELL.VA >>> 2];
    const hi = words[(CELL.VA >>> 2) + 1];
    const info = words[CELL.INFO >>> 2];
    const element = infoElement(info);
    // Cache maintenance that generated code does as a mere check.
    if (element === 0) return this.#execute(vp);
    const size = infoSize(info);
    const writes = infoWrites(info);
    const kind: AccessKind = writes ? WRITE : READ;
    const alignCheck = vp.u32(VP.ALIGN_CHECK) !== 0;
    const misaligned = (lo & (infoAlign(info) - 1)) !== 0;
    if ((misaligned && !this.#mayBeMisaligned(vp, lo, info)) || (alignCheck && lo & (Math.max(element, infoAlign(info)) - 1)))
      return this.#dataAbort(vp, 0, FSC.ALIGNMENT, writes);

    const unprivileged = infoUnprivileged(info);
    // UAO: LDTR and STTR at EL1 are like LDR and STR, and not what regime 0 remembers.
    const override = unprivileged && vp.el === 1 && (vp.u32(VP.PSTATE) & PSTATE.UAO) !== 0;
    const regime = unprivileged ? 0 : vp.u32(VP.REGIME);
    const el = (unprivileged && !override ? 0 : vp.el) as 0 | 1;
    const pan = el === 1 && (vp.u32(VP.PSTATE) & PSTATE.PAN) !== 0;
    const { mmu } = this;
    if (!mmu.translate(vp, hi, lo, kind, el, pan)) {
      const { fsc } = mmu.out;
      // The fault of an atomic is that of its read where already that is not allowed.
      return this.#dataAbort(vp, 0, fsc, writes && !(infoReads(info) && !mmu.translate(vp, hi, lo, READ, el, pan)));
    }
    mmu.accessed();
    const { pa, device, writable, shift, isGlobal } = mmu.out;
    const offset = lo & (PAGE - 1);
    const inPage = Math.min(size, PAGE - offset);
    const ram = this.#ram;
    const at = ram.at(pa, inPage);
    // With `at` -1 a page that no RAM has.
    const page = at >>> PAGE_SHIFT;
    if (device && (misaligned || lo & (element - 1) || isZeroBlock(this.#word())))
      return this.#dataAbort(vp, 0, FSC.ALIGNMENT, writes);

    const watched = this.#watched(vp, hi, lo, size, pa);
    const plain = inPage === size && !misaligned && !device && !alignCheck && !override && at >= 0 && watched !== EVERYTHING;
    // It takes nobody's monitor away: else VPs could keep each other from ever storing.
    const fails = writes && (ram.flags[page] & MARKED) !== 0 && this.#storeFails(vp, hi, lo, size);
    if (plain && !fails && !(writes && ram.flags[page] & CODE)) {
      if (writes) {
        if (ram.flags[page] & MARKED) this.#markedWrite(page);
        ram.flags[page] |= DIRTY;
      }
      const entry = this.#tlbs.dataEntry(vp.index, regime, lo);
      const tag = (lo & -PAGE) >>> 0;
      const mayWrite = writable && (ram.flags[page] & (DIRTY | CODE | MARKED)) === DIRTY;
      if (mayWrite) ram.flags[page] |= WRITABLE;
      const isPlain = mayWrite && watched === NOTHING;
      const isWatched = mayWrite && watched === WRITES && this.#watchpoints.isKnown(pa);
      words[entry] = tag;
      words[entry + 1] = hi;
      words[entry + 2] = isPlain ? tag : 0xffffffff;
      words[entry + 3] = isPlain ? hi : 0xffffffff;
      words[entry + 4] = ram.base + page * PAGE - tag;
      words[entry + 6] = isWatched ? tag : 0xffffffff;
      words[entry + 7] = isWatched ? hi : 0xffffffff;
      this.#tlbs.note(vp.index, entry, hi, lo, shift, isGlobal);
      if (!writes || watched === NOTHING) return undefined;
    }

    // Where the bytes are: one stretch, or two when the access goes over the end of the page.
    const parts: [pa: number, at: number, length: number][] = [[pa, 0, inPage]];
    if (inPage < size) {
      const next = lo - offset + PAGE;
      const nextHi = next > 0xffffffff ? hi + 1 : hi;
      if (!mmu.translate(vp, nextHi, next >>> 0, kind, el, pan)) return this.#dataAbort(vp, inPage, mmu.out.fsc, writes);
      mmu.accessed();
      if (mmu.out.device && (misaligned || lo & (element - 1))) return this.#dataAbort(vp, inPage, FSC.ALIGNMENT, writes);
      parts.push([mmu.out.pa, inPage, size - inPage]);
    }
    if (this.#armed[vp.index]?.watched.length) {
      const far = watchpointMatches(vp, this.#va(), size, el, infoReads(info), writes);
      if (far !== undefined) {
        takeWatchpoint(vp, far, writes);
        this.#ports.clock.retire(1);
        return undefined;
      }
    }
    for (const [gpa, from, length] of parts) {
      if (ram.at(gpa, length) >= 0) continue;
      if (!this.#ports.bus.region(gpa, length)) return this.#dataAbort(vp, from, FSC.EXTERNAL, writes);
      if ((writes && infoReads(info)) || isExclusive(this.#word()))
        return this.#dataAbort(vp, from, FSC.UNSUPPORTED_EXCLUSIVE, writes);
    }
    const pc = this.#watchpoints.isEmpty ? 0n : vp.pc;
    this.#throughBounce(vp, hi, lo, info, regime, parts, writes && !fails);
    if (this.#watchpoints.isEmpty) return undefined;
    const load = (address: bigint, n: number) => this.#loadForDebugger(vp, address, n);
    const hit = this.#watchpoints.check(vp, hi, lo, size, infoReads(info), writes && !fails, load, parts);
    return hit && { kind: 'watchpoint', pc, ...hit };
  }

  /** Exclusives, atomics, acquire and release that are not aligned (FEAT_LSE2; AArch64.UnalignedAccessFaults). */
  #mayBeMisaligned(vp: VpState, lo: number, info: number): boolean {
    if (!this.#lse2) return false;
    return (lo & 15) + infoSize(info) <= 16 || (infoOrdered(info) && (vp.u32(SCTLR) & NAA) !== 0);
  }

  /** Aborts at the access's byte number `at`. */
  #dataAbort(vp: VpState, at: number, fsc: number, write: boolean): CpuExit | undefined {
    return this.#exception(vp, 'data-abort', () => takeDataAbort(vp, BigInt.asUintN(64, this.#va() + BigInt(at)), fsc, write));
  }

  #va(): bigint {
    return (BigInt(this.#words[(CELL.VA >>> 2) + 1]) << 32n) | BigInt(this.#words[CELL.VA >>> 2]);
  }

  /**
   * Runs the instruction at PC with its access going to the bounce buffer, by a TLB entry that exists for just that. RAM is
   * copied in and out; devices are read before and written after, in pieces of an element (at most 8 bytes).
   */
  #throughBounce(
    vp: VpState,
    hi: number,
    lo: number,
    info: number,
    regime: number,
    parts: readonly [number, number, number][],
    writes: boolean,
  ): void {
    const ram = this.#ram;
    const { bus, clock } = this.#ports;
    const words = this.#words;
    const bytes = this.#bytes;
    const piece = (pa: number, length: number): number => {
      const n = Math.min(infoElement(info), 8);
      return pa % n || length % n ? 1 : n;
    };
    for (const [pa, from, length] of parts) {
      const at = ram.at(pa, length);
      // Loops: a few bytes, and `set` would make objects.
      if (at >= 0) for (let i = 0; i < length; i++) bytes[BOUNCE + from + i] = ram.bytes[at + i];
      else if (infoReads(info)) {
        const n = piece(pa, length);
        for (let i = 0; i < length; i += n) this.#setBounce(from + i, n, bus.read(pa + i, n) ?? 0n);
      }
    }

    const entry = this.#tlbs.dataEntry(vp.index, regime, lo);
    const saved = this.#savedEntry;
    for (let i = 0; i < saved.length; i++) saved[i] = words[entry + i];
    const last = lo + infoSize(info) - 1;
    words[entry] = words[entry + 2] = (last & -PAGE) >>> 0;
    words[entry + 1] = words[entry + 3] = last > 0xffffffff ? hi + 1 : hi;
    words[entry + 4] = BOUNCE - lo;
    words[CELL.REM >>> 2] = RECORD;
    words[CELL.MISALIGNED >>> 2] = 1;
    // A device's read may have written the page of this very instruction.
    const rec = words[CELL.REC >>> 2];
    const dropped = (words[rec >>> 2] & 0xffff) === 0;
    if (dropped) {
      this.interpreter.place(this.#word(), rec, 0);
      this.interpreter.compile();
    }
    const code = this.#interpret();
    words[CELL.MISALIGNED >>> 2] = 0;
    if (dropped) bytes.fill(0, rec, rec + RECORD);
    for (let i = 0; i < saved.length; i++) words[entry + i] = saved[i];
    // The write-back of the base has made SP misaligned.
    if (code === kindCode('irq-check')) this.#advance(vp);
    else if (code !== EXIT.BUDGET)
      throw new Error(`an access through the bounce buffer ended with ${code} at 0x${vp.pc.toString(16)}`);

    if (writes)
      for (const [pa, from, length] of parts) {
        const at = ram.at(pa, length);
        if (at >= 0) {
          ram.touch(at, length, true);
          for (let i = 0; i < length; i++) ram.bytes[at + i] = bytes[BOUNCE + from + i];
        } else {
          const n = piece(pa, length);
          for (let i = 0; i < length; i += n) bus.write(pa + i, n, this.#getBounce(from + i, n));
        }
      }
    this.#clearBtype(vp);
    clock.retire(1);
  }

  #setBounce(at: number, size: number, value: bigint): void {
    if (size === 8) this.#bounce.setBigUint64(at, BigInt.asUintN(64, value), true);
    else if (size === 4) this.#bounce.setUint32(at, Number(BigInt.asUintN(32, value)), true);
    else if (size === 2) this.#bounce.setUint16(at, Number(BigInt.asUintN(16, value)), true);
    else this.#bounce.setUint8(at, Number(BigInt.asUintN(8, value)));
  }
  #getBounce(at: number, size: number): bigint {
    if (size === 8) return this.#bounce.getBigUint64(at, true);
    return BigInt(
      size === 4 ? this.#bounce.getUint32(at, true) : size === 2 ? this.#bounce.getUint16(at, true) : this.#bounce.getUint8(at),
    );
  }

  // --- TLBs ----------------------------------------------------------------------------------------------------

  flushAll(): void {
    this.#tlbs.flushAll();
  }
  flushPage(va: bigint, asid?: number): void {
    this.#tlbs.flushPage(va, asid);
  }
  flushAddressSpaces(asid?: number): void {
    this.#tlbs.flushAddressSpaces(asid);
  }
  switchAddressSpace(vp: number, from: AddressSpace, to: AddressSpace): void {
    this.#tlbs.switchAddressSpace(vp, from, to);
  }

  // --- debugger ------------------------------------------------------------------------------------------------

  /** Physical address of `va` with EL1's rights, without side effects; undefined: not mapped. */
  translateForDebugger(vp: number, va: bigint): number | undefined {
    const ok = this.mmu.translate(this.vps[vp], Number((va >> 32n) & 0xffffffffn), Number(va & 0xffffffffn), READ, 1, false);
    return ok ? this.mmu.out.pa : undefined;
  }

  /** Memory as a number, under the same rules, without side effects; undefined: some byte is not mapped to RAM. */
  #loadForDebugger(vp: VpState, address: bigint, size: number): bigint | undefined {
    let value = 0n;
    for (let i = 0; i < size; ) {
      const va = BigInt.asUintN(64, address + BigInt(i));
      const n = Math.min(size - i, PAGE - Number(va & BigInt(PAGE - 1)));
      const gpa = this.translateForDebugger(vp.index, va);
      const at = gpa === undefined ? -1 : this.#ram.at(gpa, n);
      if (at < 0) return undefined;
      for (const end = i + n; i < end; i++) value |= BigInt(this.#ram.bytes[at + n - (end - i)]) << BigInt(8 * i);
    }
    return value;
  }

  /**
   * A breakpoint at a virtual address of every VP, mapped or not, that stops when `filter` says so; in place of one that is there. Throws
   * a RangeError for what is no filter.
   */
  setBreakpoint(va: bigint, filter?: Filter): void {
    if (filter) checkFilter(filter);
    this.#breakpoints.set(BigInt.asUintN(64, va), filter);
  }
  clearBreakpoint(va: bigint): void {
    this.#breakpoints.clear(BigInt.asUintN(64, va));
  }
  /** Filters that were evaluated: by generated code, and here. */
  get evaluations(): { generated: number; judged: number } {
    const view = new DataView(this.#ram.memory.buffer);
    return {
      generated: Number(view.getBigUint64(CELL.EVALUATIONS, true)),
      judged: this.#breakpoints.judged + this.#watchpoints.judged,
    };
  }

  /** The guest's own breakpoints and watchpoints, of every VP. */
  debugChanged(): void {
    const watched = this.#armed.some((a) => a?.watched.length);
    this.vps.forEach((vp, i) => {
      this.#armed[i] = armedBy(vp);
    });
    this.#breakpoints.setGuest(new Set(this.#armed.flatMap((a) => a?.breakpoints ?? [])));
    if (watched || this.#armed.some((a) => a?.watched.length)) this.flushAll();
  }

  /** Watches accesses of every VP to bytes of virtual or physical memory. Throws a RangeError for what cannot be watched. */
  setWatchpoint(watchpoint: Watchpoint): void {
    this.#watchpoints.set(watchpoint);
    this.flushAll();
  }
  clearWatchpoint(address: bigint, size: number, physical = false): void {
    this.#watchpoints.clear(address, size, physical);
  }
  /** Every MRS and MSR of these system registers is a breakpoint, in every VP. Throws a RangeError for a name that is none's. */
  watchRegisters(names: readonly string[]): void {
    this.#breakpoints.setRegisters(new Set(names.map(registerKey)));
  }

  /** What is watched in the page of an access: that stays out of the TLB. */
  #watched(vp: VpState, hi: number, lo: number, size: number, pa: number): ReturnType<Watchpoints['inPage']> {
    const armed = this.#armed[vp.index]?.watched;
    if (armed?.length && inWatchedPage(armed, (BigInt(hi) << 32n) | BigInt(lo), size)) return EVERYTHING;
    return this.#watchpoints.isEmpty ? NOTHING : this.#watchpoints.inPage(hi, lo, pa);
  }

  /** VP state changed from outside (snapshot restored, register written): cached translations go. */
  stateChanged(): void {
    this.flushAll();
    this.debugChanged();
    this.#current = -1;
    for (const vp of this.vps) {
      const page = vp.u32(VP.EXCL_PAGE) - 1;
      if (vp.u32(VP.EXCL_SIZE) && page >= 0) this.#ram.flags[page] |= MARKED;
    }
  }
}
