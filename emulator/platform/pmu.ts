/**
 * Performance monitors, PMUv3 (Arm ARM DDI 0487, D11; registers D19.5): six event counters and the cycle counter of every VP. One
 * instruction is one cycle. cpu.ts tells what has been executed while something is counted, and is told when to come back for an
 * overflow, so that the interrupt comes after the very instruction.
 */
import { field, flags, List, register, type Tree } from '../base/inspect.ts';
import { PPI } from './addresses.ts';
import type { InterruptController } from './interrupts.ts';

/** PMUVer in ID_AA64DFR0_EL1: with Armv8.0, 8.1, 8.4, 8.5 (64-bit event counters). */
export type PmuVersion = 1 | 4 | 5 | 6;

export interface PmuOptions {
  readonly vpCount: number;
  readonly version: PmuVersion;
  readonly interrupts: Pick<InterruptController, 'setPpi'>;
  /** INTID of its overflow interrupt. Left out: current hosts'. */
  readonly intid?: number;
}

/** Number of event counters. The cycle counter is number 31. */
export const EVENT_COUNTERS = 6;
const CYCLES = 31;
const COUNTERS = [...Array(EVENT_COUNTERS).keys(), CYCLES];
const ALL = ((1 << EVENT_COUNTERS) - 1) | (1 << CYCLES);

/** Common events (D11.12.2) that are counted here. Every access finds its data in the first cache, every branch is foreseen. */
const EVENT = {
  SW_INCR: 0x00,
  L1D_CACHE: 0x04,
  INST_RETIRED: 0x08,
  CPU_CYCLES: 0x11,
  BR_PRED: 0x12,
  MEM_ACCESS: 0x13,
  CHAIN: 0x1e,
  BR_RETIRED: 0x21,
} as const;
/** L1D_CACHE_REFILL, BR_MIS_PRED, BR_MIS_PRED_RETIRED: never met. */
const NEVER = [0x03, 0x10, 0x22];
type Kind = 'instructions' | 'accesses' | 'branches';
const KINDS = new Map<number, Kind>([
  [EVENT.INST_RETIRED, 'instructions'],
  [EVENT.CPU_CYCLES, 'instructions'],
  [EVENT.MEM_ACCESS, 'accesses'],
  [EVENT.L1D_CACHE, 'accesses'],
  [EVENT.BR_RETIRED, 'branches'],
  [EVENT.BR_PRED, 'branches'],
]);
const kindOf = (type: number): Kind | undefined => KINDS.get(type & 0xffff);
/** Required from Armv8.1 on, and never met: a cycle is an instruction. */
const STALLS = [0x23, 0x24];

/** PMCR_EL0 (D19.5.7). LC is RES1: there is no AArch32. */
const PMCR = { E: 1, P: 2, C: 4, D: 8, X: 16, DP: 32, LC: 64, LP: 128 } as const;
const PMCR_BITS = { E: 0, D: 3, X: 4, DP: 5, LC: 6, LP: 7 } as const;
/** PMEVTYPER<n>_EL0 and PMCCFILTR_EL0: do not count at EL1, at EL0. */
const NOT_EL1 = 0x80000000;
const NOT_EL0 = 0x40000000;

const MASK64 = (1n << 64n) - 1n;

interface VpCounters {
  /** PMCR_EL0.{LP, DP, X, D, E}. */
  control: number;
  /** PMCNTENSET_EL0, PMOVSSET_EL0, PMINTENSET_EL1. */
  enabled: number;
  overflow: number;
  interrupts: number;
  /** PMSELR_EL0. */
  select: number;
  /** PMEVCNTR<n>_EL0 and PMCCNTR_EL0; PMEVTYPER<n>_EL0 and PMCCFILTR_EL0. */
  counters: bigint[];
  types: number[];
}

export interface PmuState {
  vps: VpCounters[];
}

export class Pmu {
  readonly state: PmuState;
  readonly #options: PmuOptions;
  /** PMCEID1_EL0:PMCEID0_EL0, a bit per event. */
  readonly #events: bigint;

  constructor(options: PmuOptions) {
    this.#options = options;
    const events = [...Object.values(EVENT), ...NEVER, ...(options.version >= 4 ? STALLS : [])];
    this.#events = events.reduce((bits, e) => bits | (1n << BigInt(e)), 0n);
    this.state = {
      vps: Array.from({ length: options.vpCount }, () => ({
        control: 0,
        enabled: 0,
        overflow: 0,
        interrupts: 0,
        select: 0,
        counters: Array<bigint>(EVENT_COUNTERS + 1).fill(0n),
        types: Array<number>(EVENT_COUNTERS + 1).fill(0),
      })),
    };
  }

  /** True when executing instructions of `vp` counts anything. */
  isCounting(vp: number): boolean {
    const s = this.state.vps[vp];
    return (s.control & PMCR.E) !== 0 && s.enabled !== 0;
  }

  /** The VP is reset: nothing counts or interrupts (D19.5: PMCR_EL0.E resets to 0; of the rest the values are UNKNOWN). */
  reset(vp: number): void {
    const s = this.state.vps[vp];
    s.control = s.enabled = s.overflow = s.interrupts = 0;
    this.#update(vp);
  }

  /** Index of counter `n` in the arrays of the state; -1: there is none. */
  #index(n: number): number {
    return n === CYCLES ? EVENT_COUNTERS : n < EVENT_COUNTERS ? n : -1;
  }

  /** Bits after which counter `n` overflows (D11.3). */
  #width(s: VpCounters, n: number): bigint {
    return n === CYCLES || (this.#options.version >= 6 && s.control & PMCR.LP) ? 64n : 32n;
  }
  /** Bits that counter `n` has. */
  #bits(n: number): number {
    return n === CYCLES || this.#options.version >= 6 ? 64 : 32;
  }

  /** Counter `n` counts what is executed at `el`. */
  #counts(s: VpCounters, n: number, el: number): boolean {
    if (!((s.enabled >>> n) & 1)) return false;
    const type = s.types[this.#index(n)];
    if (type & (el === 0 ? NOT_EL0 : NOT_EL1)) return false;
    return n === CYCLES || kindOf(type) !== undefined;
  }

  /** Counter `n`, which counts, counts these; each at most once per instruction. */
  #kind(s: VpCounters, n: number): Kind {
    return (n === CYCLES ? undefined : kindOf(s.types[n])) ?? 'instructions';
  }

  /** Something of `vp` counts memory accesses or branches. */
  countsKinds(vp: number): boolean {
    const s = this.state.vps[vp];
    return s.types.some(
      (type, n) => n < EVENT_COUNTERS && (s.enabled >>> n) & 1 && (kindOf(type) ?? 'instructions') !== 'instructions',
    );
  }

  /** Instructions that `vp` may execute at `el` before a counter overflows and somebody wants to know. */
  untilOverflow(vp: number, el: number): number {
    const s = this.state.vps[vp];
    if (s.interrupts === 0) return Number.POSITIVE_INFINITY;
    let least = Number.POSITIVE_INFINITY;
    for (const n of COUNTERS) {
      if (!this.#counts(s, n, el)) continue;
      const limit = 1n << this.#width(s, n);
      least = Math.min(least, Number(limit - (s.counters[this.#index(n)] & (limit - 1n))));
    }
    return least;
  }

  /** `vp` has executed `instructions` at `el`; among them so many memory accesses and branches, if `countsKinds`. */
  count(vp: number, el: number, instructions: number, accesses = 0, branches = 0): void {
    const s = this.state.vps[vp];
    const amounts: Record<Kind, number> = { instructions, accesses, branches };
    for (const n of COUNTERS) if (this.#counts(s, n, el)) this.#add(s, n, BigInt(amounts[this.#kind(s, n)]));
    this.#update(vp);
  }

  #add(s: VpCounters, n: number, amount: bigint): void {
    const i = this.#index(n);
    const width = this.#width(s, n);
    const times = ((s.counters[i] & ((1n << width) - 1n)) + amount) >> width;
    s.counters[i] = BigInt.asUintN(this.#bits(n), s.counters[i] + amount);
    if (times === 0n) return;
    s.overflow |= 1 << n;
    // An even counter's 32-bit overflow is the CHAIN event of the next one.
    const next = n + 1;
    if (
      width === 32n &&
      n % 2 === 0 &&
      next < EVENT_COUNTERS &&
      (s.types[next] & 0xffff) === EVENT.CHAIN &&
      (s.enabled >>> next) & 1
    )
      this.#add(s, next, times);
  }

  /** The interrupt is level-sensitive: as long as an overflow is told and enabled. */
  #update(vp: number): void {
    const s = this.state.vps[vp];
    this.#options.interrupts.setPpi(
      vp,
      this.#options.intid ?? PPI.pmu,
      (s.control & PMCR.E) !== 0 && (s.overflow & s.interrupts) !== 0,
    );
  }

  /** Reads PM*_EL0, PMINTEN*_EL1 and PMMIR_EL1 of `vp`. */
  read(vp: number, name: string): bigint {
    const s = this.state.vps[vp];
    const set = (bits: number) => BigInt(bits >>> 0);
    switch (name) {
      case 'PMCR_EL0':
        return BigInt((EVENT_COUNTERS << 11) | PMCR.LC | s.control);
      case 'PMCNTENSET_EL0':
      case 'PMCNTENCLR_EL0':
        return set(s.enabled);
      case 'PMOVSSET_EL0':
      case 'PMOVSCLR_EL0':
        return set(s.overflow);
      case 'PMINTENSET_EL1':
      case 'PMINTENCLR_EL1':
        return set(s.interrupts);
      case 'PMSELR_EL0':
        return BigInt(s.select);
      case 'PMCEID0_EL0':
        return this.#events & 0xffffffffn;
      case 'PMCEID1_EL0':
        return this.#events >> 32n;
      case 'PMMIR_EL1':
        return 0n;
    }
    const [registers, n] = this.#named(s, name);
    return n < 0 ? 0n : registers === 'types' ? BigInt(s.types[n] >>> 0) : s.counters[n];
  }

  /** Writes them. */
  write(vp: number, name: string, value: bigint): void {
    const s = this.state.vps[vp];
    const v = Number(value & 0xffffffffn);
    switch (name) {
      case 'PMCR_EL0':
        if (v & PMCR.P) s.counters.fill(0n, 0, EVENT_COUNTERS);
        if (v & PMCR.C) s.counters[EVENT_COUNTERS] = 0n;
        s.control = v & (PMCR.E | PMCR.D | PMCR.X | PMCR.DP | (this.#options.version >= 6 ? PMCR.LP : 0));
        break;
      case 'PMCNTENSET_EL0':
        s.enabled |= v & ALL;
        break;
      case 'PMCNTENCLR_EL0':
        s.enabled &= ~v;
        break;
      case 'PMOVSSET_EL0':
        s.overflow |= v & ALL;
        break;
      case 'PMOVSCLR_EL0':
        s.overflow &= ~v;
        break;
      case 'PMINTENSET_EL1':
        s.interrupts |= v & ALL;
        break;
      case 'PMINTENCLR_EL1':
        s.interrupts &= ~v;
        break;
      case 'PMSELR_EL0':
        s.select = v & 31;
        return;
      case 'PMSWINC_EL0':
        for (let n = 0; n < EVENT_COUNTERS; n++)
          if ((v >>> n) & 1 && (s.enabled >>> n) & 1 && s.control & PMCR.E && (s.types[n] & 0xffff) === EVENT.SW_INCR)
            this.#add(s, n, 1n);
        break;
      default: {
        const [registers, n] = this.#named(s, name);
        if (n < 0) return;
        if (registers === 'counters')
          s.counters[n] = BigInt.asUintN(this.#bits(n === EVENT_COUNTERS ? CYCLES : n), value & MASK64);
        // P, U and the event: 10 bits of it in Armv8.0. The cycle counter has no event.
        else s.types[n] = v & (0xc0000000 | (n === EVENT_COUNTERS ? 0 : this.#options.version === 1 ? 0x3ff : 0xffff));
        return;
      }
    }
    this.#update(vp);
  }

  /** Every VP's counters, by the registers that they are in. */
  inspect(): Tree {
    const numbers = [...Array(EVENT_COUNTERS).keys()];
    const counters = flags(32, Object.fromEntries(COUNTERS.map((n) => [n === CYCLES ? 'cycles' : `counter${n}`, n])));
    const eventOf = (value: bigint): string[] => {
      const event = Number(value & 0xffffn);
      return [Object.entries(EVENT).find(([, n]) => n === event)?.[0] ?? `event 0x${event.toString(16)}`];
    };
    return {
      vps: new List(this.state.vps.length, (vp) => {
        const at = (name: string, type = register(32), clear?: string) =>
          field(
            type,
            () => this.read(vp, name),
            (v) => {
              // Sets of flags are set by one register and cleared by another.
              if (clear !== undefined) this.write(vp, clear, BigInt(ALL >>> 0));
              this.write(vp, name, v);
            },
          );
        return {
          PMCR_EL0: at('PMCR_EL0', flags(32, PMCR_BITS)),
          PMCNTENSET_EL0: at('PMCNTENSET_EL0', counters, 'PMCNTENCLR_EL0'),
          PMOVSSET_EL0: at('PMOVSSET_EL0', counters, 'PMOVSCLR_EL0'),
          PMINTENSET_EL1: at('PMINTENSET_EL1', counters, 'PMINTENCLR_EL1'),
          PMSELR_EL0: at('PMSELR_EL0', register(5)),
          PMCCNTR_EL0: at('PMCCNTR_EL0', register(64)),
          PMCCFILTR_EL0: at('PMCCFILTR_EL0'),
          PMEVCNTR: numbers.map((n) => at(`PMEVCNTR${n}_EL0`, register(this.#bits(n)))),
          PMEVTYPER: numbers.map((n) => at(`PMEVTYPER${n}_EL0`, register(32, { describe: eventOf }))),
        };
      }),
    };
  }

  /** What PMCCNTR, PMCCFILTR, PMEVCNTR<n>, PMEVTYPER<n> and, by PMSELR, PMXEVCNTR and PMXEVTYPER stand for. */
  #named(s: VpCounters, name: string): ['counters' | 'types', number] {
    const registers = name.includes('CNTR') ? 'counters' : 'types';
    if (name.startsWith('PMCC')) return [registers, EVENT_COUNTERS];
    if (!name.startsWith('PMX')) return [registers, Number(/\d+/.exec(name.slice(4))?.[0])];
    // PMXEVTYPER_EL0 with 31 is PMCCFILTR_EL0; PMXEVCNTR_EL0 with 31 is RAZ/WI here.
    return [registers, s.select === CYCLES && registers === 'counters' ? -1 : this.#index(s.select)];
  }
}
