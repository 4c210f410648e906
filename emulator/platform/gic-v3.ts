/**
 * GICv3 without ITS and LPIs, one security state, system register CPU interface only (Arm IHI 0069H; chapter and section
 * numbers below are of that document). Hyper-V's guests see it so: reference hyperv-arm64.md §7.2.
 *
 * Everything is recomputed from `state` after every change; interrupts are rare, so the simple code wins.
 */
import { type Bank, bank } from '../base/bank.ts';
import { bit, choice, field, flags, Group, held, List, register, type Tree } from '../base/inspect.ts';
import type { Trace } from '../base/trace.ts';
import type { MmioRegion } from '../memory/bus.ts';
import { affinityOf, GICD, GICR } from './addresses.ts';
import type { InterruptController } from './interrupts.ts';

export interface GicOptions {
  readonly vpCount: number;
  /**
   * Where the distributor is, and the INTIDs of SGIs, PPIs and SPIs together: a multiple of 32 from 64 to 992 (the 1020 of the
   * architecture are no multiple). Default: GICD.
   */
  readonly distributor?: { readonly gpa: number; readonly intids: number };
  /** The CPU's interrupt lines of `vp`. */
  readonly setIrq: (vp: number, irq: boolean, fiq: boolean) => void;
  readonly trace: Trace;
  /** Who uses an INTID, for people. */
  readonly names?: Readonly<Record<number, string>>;
}

/** State of interrupts, one bit per INTID in 32-bit words; of a redistributor (word 0 only) or the distributor. */
interface Interrupts {
  group: Uint32Array;
  groupModifier: Uint32Array;
  enabled: Uint32Array;
  /** Pending latch: edges seen, and what ISPENDR set. */
  pending: Uint32Array;
  active: Uint32Array;
  /** Input lines. */
  line: Uint32Array;
  /** 1 = edge-triggered. */
  edge: Uint32Array;
  priority: Uint8Array;
}

interface Redistributor extends Interrupts {
  /** GICR_WAKER. */
  waker: number;
}

/** CPU interface of a VP (12.2). Index 0 and 1 of arrays: interrupt group. */
interface CpuInterface {
  pmr: number;
  bpr: number[];
  /** ICC_CTLR_EL1.EOImode, CBPR. */
  ctlr: number;
  enabled: number[];
  /** ICC_AP0R0_EL1, ICC_AP1R0_EL1: one bit per priority level. */
  active: number[];
}

export interface GicState {
  /** GICD_CTLR enable bits. */
  ctlr: number;
  spi: Interrupts;
  /** GICD_IROUTER<n>, low and high half. */
  route: Uint32Array;
  redistributors: Redistributor[];
  cpus: CpuInterface[];
}

const SPURIOUS = 1023;
const IDLE_PRIORITY = 0xff;
/** 5 implemented priority bits: [7:3]. */
const PRIORITY_MASK = 0xf8;
/** Smallest binary points with 5 preemption bits (12.2.5, 12.2.6: ICC_BPR1_EL1 is one more). */
const MIN_BPR = [2, 3] as const;

/** GICD_CTLR (12.9.4, single security state). */
const ENABLE = [1, 2] as const;
const CTLR_FIXED = (1 << 4) | (1 << 6); // ARE, DS

const WAKER_SLEEP = 2;
const WAKER_ASLEEP = 4;

/** IROUTER.Interrupt_Routing_Mode: any participating VP. */
const ANY_VP = 0x80000000;

/** Identification registers (12.1.4): PIDR2.ArchRev = 3, GICv3. */
const ID_REGISTERS = {
  PIDR4: { at: 0xffd0, read: () => 0x04 },
  PIDR0: { at: 0xffe0, read: () => 0x92 },
  PIDR1: { at: 0xffe4, read: () => 0xb4 },
  PIDR2: { at: 0xffe8, read: () => 0x3b },
  CIDR: { at: 0xfff0, count: 4, read: (i: number) => [0x0d, 0xf0, 0x05, 0xb1][i] },
} as const;
/** Implementer Arm, product and revision zero. */
const IIDR = 0x43b;

const cpuInterface = (): CpuInterface => ({ pmr: 0, bpr: [...MIN_BPR], ctlr: 0, enabled: [0, 0], active: [0, 0] });

/** Instead of a VP's number: all VPs; also the VP of an SPI. */
const ALL = -1;

const interrupts = (words: number): Interrupts => ({
  group: new Uint32Array(words),
  groupModifier: new Uint32Array(words),
  enabled: new Uint32Array(words),
  pending: new Uint32Array(words),
  active: new Uint32Array(words),
  line: new Uint32Array(words),
  edge: new Uint32Array(words),
  priority: new Uint8Array(words * 32),
});

export class GicV3 implements InterruptController {
  readonly state: GicState;
  /** GICD and GICR, for the bus. */
  readonly regions: readonly MmioRegion[];
  readonly #options: GicOptions;
  readonly #words: number;
  readonly #affinity: Map<number, number>;

  constructor(options: GicOptions) {
    const { gpa, intids } = options.distributor ?? GICD;
    if (intids % 32 !== 0 || intids < 64 || intids > 992) throw new Error(`GIC with ${intids} INTIDs`);
    this.#options = options;
    this.#words = intids / 32;
    this.#affinity = new Map(Array.from({ length: options.vpCount }, (_, vp) => [affinityOf(vp), vp]));
    this.state = {
      ctlr: 0,
      spi: interrupts(this.#words),
      route: new Uint32Array(intids),
      redistributors: Array.from({ length: options.vpCount }, () => {
        // Awake, as firmware leaves them and hypervisors' GICs begin: programs for those never write GICR_WAKER.
        const r = { ...interrupts(1), waker: 0 };
        // SGIs are always edge-triggered.
        r.edge[0] = 0xffff;
        return r;
      }),
      cpus: Array.from({ length: options.vpCount }, cpuInterface),
    };
    const distributor = this.#distributorBank();
    const redistributors = this.state.redistributors.map((_, vp) => this.#redistributorBank(vp));
    const region = (name: string, gpa: number, size: number, at: (offset: number) => [Bank, number]): MmioRegion => ({
      name,
      gpa,
      size,
      read: (offset, n) => {
        const [b, o] = at(offset);
        return b.read(o, n);
      },
      write: (offset, n, value) => {
        const [b, o] = at(offset);
        b.write(o, n, value);
        this.#update();
      },
    });
    this.regions = [
      region('GICD', gpa, GICD.size, (o) => [distributor, o]),
      region('GICR', GICR.gpa, GICR.stride * options.vpCount, (o) => [
        redistributors[Math.floor(o / GICR.stride)],
        o % GICR.stride,
      ]),
    ];
  }

  // --- inputs --------------------------------------------------------------------------------------------------

  setSpi(intid: number, level: boolean): void {
    this.#input(this.state.spi, intid, level, ALL);
  }
  setPpi(vp: number, intid: number, level: boolean): void {
    this.#input(this.state.redistributors[vp], intid, level, vp);
  }
  pulsePpi(vp: number, intid: number): void {
    this.#latch(this.state.redistributors[vp], intid, vp);
  }
  pulseSpi(intid: number): void {
    this.#latch(this.state.spi, intid, ALL);
  }

  #input(i: Interrupts, intid: number, level: boolean, vp: number): void {
    const w = intid >>> 5;
    const bit = 1 << (intid & 31);
    if (w >= this.#words || ((i.line[w] & bit) !== 0) === level) return;
    i.line[w] ^= bit;
    if (level && i.edge[w] & bit) i.pending[w] |= bit;
    if (level) this.#tell(intid, vp);
    this.#update(vp);
  }

  #latch(i: Interrupts, intid: number, vp: number): void {
    const w = intid >>> 5;
    if (w >= this.#words) return;
    i.pending[w] |= 1 << (intid & 31);
    this.#tell(intid, vp);
    this.#update(vp);
  }

  #tell(intid: number, vp: number): void {
    const { trace } = this.#options;
    if (trace.wants('interrupt')) trace.emit({ kind: 'interrupt', vp: vp < 0 ? Math.max(0, this.#target(intid)) : vp, intid });
  }

  // --- prioritisation (4.8) --------------------------------------------------------------------------------------

  /** The VP that SPI `intid` goes to, -1: none. 1-of-N picks the first that takes part. */
  #target(intid: number): number {
    const { route, cpus, redistributors } = this.state;
    if (route[intid] & ANY_VP) {
      const group = (this.state.spi.group[intid >>> 5] >>> (intid & 31)) & 1;
      return cpus.findIndex((c, vp) => c.enabled[group] !== 0 && (redistributors[vp].waker & WAKER_ASLEEP) === 0);
    }
    return this.#affinity.get(route[intid]) ?? -1;
  }

  /**
   * The highest priority pending interrupt of `vp` that its groups' enables let through (as ICC_HPPIRn_EL1 sees it), or
   * SPURIOUS. Of equal priorities the lowest INTID wins.
   */
  #highestPending(vp: number): number {
    const { state } = this;
    const r = state.redistributors[vp];
    if (r.waker & WAKER_ASLEEP) return SPURIOUS;
    const cpu = state.cpus[vp];
    const on = [ENABLE[0] & state.ctlr && cpu.enabled[0], ENABLE[1] & state.ctlr && cpu.enabled[1]];
    if (!on[0] && !on[1]) return SPURIOUS;
    let best = SPURIOUS;
    let bestPriority = 0x100;
    for (let w = 0; w < this.#words; w++) {
      const i = w === 0 ? r : state.spi;
      let set = (i.pending[w] | (i.line[w] & ~i.edge[w])) & i.enabled[w] & ~i.active[w];
      set &= (on[1] ? i.group[w] : 0) | (on[0] ? ~i.group[w] : 0);
      while (set) {
        const bit = 31 - Math.clz32(set & -set);
        set &= set - 1;
        const intid = w * 32 + bit;
        if (i.priority[intid] < bestPriority && (w === 0 || this.#target(intid) === vp)) {
          best = intid;
          bestPriority = i.priority[intid];
        }
      }
    }
    return best;
  }

  #of(vp: number, intid: number): Interrupts {
    return intid < 32 ? this.state.redistributors[vp] : this.state.spi;
  }
  #group(vp: number, intid: number): 0 | 1 {
    return ((this.#of(vp, intid).group[intid >>> 5] >>> (intid & 31)) & 1) as 0 | 1;
  }

  /** Bits of a priority that count for preemption, by group (4.8.2). ICC_BPR1_EL1 of a Non-secure PE counts from 1. */
  #groupPriorityMask(cpu: CpuInterface, group: 0 | 1): number {
    const point = group === 0 || cpu.ctlr & 1 ? cpu.bpr[0] : cpu.bpr[1] - 1;
    return 0xff & ~((1 << (point + 1)) - 1);
  }

  /** ICC_RPR_EL1: the highest active priority. */
  #running(cpu: CpuInterface): number {
    const active = cpu.active[0] | cpu.active[1];
    return active ? (31 - Math.clz32(active & -active)) << 3 : IDLE_PRIORITY;
  }

  /** The interrupt that `vp` is signalled, or SPURIOUS. */
  #signalled(vp: number): number {
    const intid = this.#highestPending(vp);
    if (intid === SPURIOUS) return SPURIOUS;
    const cpu = this.state.cpus[vp];
    const priority = this.#of(vp, intid).priority[intid];
    const mask = this.#groupPriorityMask(cpu, this.#group(vp, intid));
    return priority < cpu.pmr && (priority & mask) < this.#running(cpu) ? intid : SPURIOUS;
  }

  /** Drives the lines of `vp`; without one, of all: SPIs and what decides about their targets are everybody's. */
  #update(vp = ALL): void {
    if (vp === ALL) {
      for (let i = 0; i < this.#options.vpCount; i++) this.#update(i);
      return;
    }
    const intid = this.#signalled(vp);
    const group = intid === SPURIOUS ? -1 : this.#group(vp, intid);
    this.#options.setIrq(vp, group === 1, group === 0);
  }

  /** What changes when `intid` of `vp` does. */
  #updateFor(vp: number, intid: number): void {
    this.#update(intid < 32 ? vp : ALL);
  }

  /** Drives the CPUs' lines again from `state` (after it was restored). */
  refresh(): void {
    this.#update();
  }

  /** The VP is reset, and with it its CPU interface (12.2: reset values); its redistributor is not. */
  resetCpu(vp: number): void {
    this.state.cpus[vp] = cpuInterface();
    this.#update();
  }

  // --- for people ------------------------------------------------------------------------------------------------------

  /** The distributor with its SPIs; of every VP the CPU interface and the redistributor with its SGIs and PPIs. */
  inspect(): Tree {
    const { state } = this;
    const update = (): void => this.#update();
    return {
      ctlr: held(state, 'ctlr', flags(2, { enableGroup0: 0, enableGroup1: 1 }), update),
      vps: new List(state.cpus.length, (vp) => this.#inspectVp(vp)),
      spis: new List(this.#words * 32 - 32, (intid) => this.#inspectInterrupt(state.spi, intid, ALL), { first: 32 }),
    };
  }

  #inspectVp(vp: number): Tree {
    const r = this.state.redistributors[vp];
    const icc = (name: string, type = register(32)) =>
      field(
        type,
        () => this.read(vp, name),
        (v) => this.write(vp, name, v),
      );
    const which = (intid: number): string => (intid === SPURIOUS ? 'none' : this.#nameOf(intid));
    return {
      cpuInterface: {
        ICC_PMR_EL1: icc('ICC_PMR_EL1', register(8, { step: 8n })),
        ICC_BPR0_EL1: icc('ICC_BPR0_EL1', register(3)),
        ICC_BPR1_EL1: icc('ICC_BPR1_EL1', register(3)),
        ICC_CTLR_EL1: icc('ICC_CTLR_EL1', register(32, { bits: { CBPR: [0, 0], EOImode: [1, 1] } })),
        ICC_IGRPEN0_EL1: icc('ICC_IGRPEN0_EL1', register(1)),
        ICC_IGRPEN1_EL1: icc('ICC_IGRPEN1_EL1', register(1)),
        ICC_AP0R0_EL1: icc('ICC_AP0R0_EL1'),
        ICC_AP1R0_EL1: icc('ICC_AP1R0_EL1'),
        runningPriority: this.#running(this.state.cpus[vp]),
        highestPending: which(this.#highestPending(vp)),
        signalled: which(this.#signalled(vp)),
      },
      waker: held(r, 'waker', flags(3, { ProcessorSleep: 1, ChildrenAsleep: 2 }), () => this.#update()),
      interrupts: new List(32, (intid) => this.#inspectInterrupt(r, intid, vp)),
    };
  }

  #nameOf(intid: number): string {
    const name = intid < 16 ? 'SGI' : this.#options.names?.[intid];
    return name === undefined ? `INTID ${intid}` : `INTID ${intid} (${name})`;
  }

  #inspectInterrupt(i: Interrupts, intid: number, vp: number): Group {
    const update = (): void => this.#update(vp);
    const [w, mask] = [intid >>> 5, 1 << (intid & 31)];
    const latch = bit(i.pending, intid);
    const pending = (): boolean => ((i.pending[w] | (i.line[w] & ~i.edge[w])) & mask) !== 0;
    const is = (words: Uint32Array, what: string): string[] => (words[w] & mask ? [what] : []);
    const summary = (): string =>
      [
        this.#nameOf(intid),
        ...is(i.enabled, 'enabled'),
        ...(pending() ? ['pending'] : []),
        ...is(i.active, 'active'),
        `priority 0x${i.priority[intid].toString(16)}`,
      ].join(', ');
    return new Group(summary, () => ({
      enabled: bit(i.enabled, intid, update),
      // What a level-sensitive line says cannot be taken back here.
      pending: field(latch.type, pending, (v) => {
        latch.set?.(v);
        if (v) this.#tell(intid, vp);
        update();
        return v === 0n && pending() ? 'its line is asserted' : undefined;
      }),
      active: bit(i.active, intid, update),
      line: (i.line[w] & mask) !== 0,
      trigger:
        intid < 16
          ? 'edge'
          : field(
              choice('level', 'edge'),
              () => (i.edge[w] & mask ? 'edge' : 'level'),
              (v) => {
                i.edge[w] = v ? i.edge[w] | mask : i.edge[w] & ~mask;
                update();
              },
            ),
      group: field(
        { min: 0n, max: 1n },
        () => (i.group[w] & mask ? 1 : 0),
        (v) => {
          i.group[w] = v ? i.group[w] | mask : i.group[w] & ~mask;
          update();
        },
      ),
      priority: held(i.priority, intid, register(8, { step: 8n }), update),
      ...(vp === ALL
        ? {
            route: held(
              this.state.route,
              intid,
              register(32, { describe: () => [this.#target(intid) < 0 ? 'no VP' : `VP ${this.#target(intid)}`] }),
              update,
            ),
          }
        : {}),
    }));
  }

  // --- CPU interface (12.2) ----------------------------------------------------------------------------------------

  #acknowledge(vp: number, group: 0 | 1): number {
    const intid = this.#signalled(vp);
    if (intid === SPURIOUS || this.#group(vp, intid) !== group) return SPURIOUS;
    const cpu = this.state.cpus[vp];
    const i = this.#of(vp, intid);
    const w = intid >>> 5;
    const bit = 1 << (intid & 31);
    i.active[w] |= bit;
    i.pending[w] &= ~bit;
    cpu.active[group] |= 1 << ((i.priority[intid] & this.#groupPriorityMask(cpu, group)) >>> 3);
    this.#updateFor(vp, intid);
    return intid;
  }

  #endOfInterrupt(vp: number, group: 0 | 1, intid: number): void {
    if (intid >= this.#words * 32) return;
    const cpu = this.state.cpus[vp];
    const lowest = (v: number) => v & -v;
    // Priority drop, if the highest active priority is of this group (ICC_EOIRn_EL1).
    const other = cpu.active[1 - group];
    const own = cpu.active[group];
    if (own === 0 || (other !== 0 && lowest(other) >>> 0 < lowest(own) >>> 0)) return;
    cpu.active[group] = own & ~lowest(own);
    if ((cpu.ctlr & 2) === 0 && this.#group(vp, intid) === group) this.#deactivate(vp, intid);
    this.#updateFor(vp, intid);
  }

  #deactivate(vp: number, intid: number): void {
    if (intid < this.#words * 32) this.#of(vp, intid).active[intid >>> 5] &= ~(1 << (intid & 31));
  }

  /** ICC_SGI1R_EL1 and ICC_SGI0R_EL1 (12.2.22): a software-generated interrupt for the VPs that `value` lists. */
  #generateSgi(vp: number, group: 0 | 1, value: bigint): void {
    const intid = Number((value >> 24n) & 15n);
    const send = (target: number) => {
      const r = this.state.redistributors[target];
      if (((r.group[0] >>> intid) & 1) !== group) return;
      r.pending[0] |= 1 << intid;
      this.#tell(intid, target);
      this.#update(target);
    };
    if ((value >> 40n) & 1n) {
      for (let target = 0; target < this.#options.vpCount; target++) if (target !== vp) send(target);
    } else {
      const field = (lsb: bigint) => Number((value >> lsb) & 0xffn);
      const base = ((field(48n) << 24) | (field(32n) << 16) | (field(16n) << 8) | (Number((value >> 44n) & 15n) << 4)) >>> 0;
      for (let n = 0; n < 16; n++) {
        const target = this.#affinity.get(base + n);
        if ((value >> BigInt(n)) & 1n && target !== undefined) send(target);
      }
    }
  }

  /** Reads a CPU interface register of `vp` by its name. */
  read(vp: number, name: string): bigint {
    const cpu = this.state.cpus[vp];
    const pending = (group: 0 | 1) => {
      const intid = this.#highestPending(vp);
      return intid !== SPURIOUS && this.#group(vp, intid) === group ? intid : SPURIOUS;
    };
    switch (name) {
      case 'ICC_PMR_EL1':
        return BigInt(cpu.pmr);
      case 'ICC_IAR0_EL1':
        return BigInt(this.#acknowledge(vp, 0));
      case 'ICC_IAR1_EL1':
        return BigInt(this.#acknowledge(vp, 1));
      case 'ICC_HPPIR0_EL1':
        return BigInt(pending(0));
      case 'ICC_HPPIR1_EL1':
        return BigInt(pending(1));
      case 'ICC_RPR_EL1':
        return BigInt(this.#running(cpu));
      case 'ICC_BPR0_EL1':
        return BigInt(cpu.bpr[0]);
      case 'ICC_BPR1_EL1':
        // CBPR: reads follow ICC_BPR0_EL1, plus one for a Non-secure PE (12.2.6).
        return BigInt(cpu.ctlr & 1 ? Math.min(7, cpu.bpr[0] + 1) : cpu.bpr[1]);
      case 'ICC_AP0R0_EL1':
        return BigInt(cpu.active[0] >>> 0);
      case 'ICC_AP1R0_EL1':
        return BigInt(cpu.active[1] >>> 0);
      case 'ICC_CTLR_EL1':
        // RSS, PRIbits = 4 (five); IDbits = 0 (16 bits).
        return BigInt((1 << 18) | (4 << 8) | cpu.ctlr);
      case 'ICC_SRE_EL1':
        // DIB, DFB, SRE: there is nothing but system registers.
        return 7n;
      case 'ICC_IGRPEN0_EL1':
        return BigInt(cpu.enabled[0]);
      case 'ICC_IGRPEN1_EL1':
        return BigInt(cpu.enabled[1]);
      default:
        return 0n;
    }
  }

  /** Writes a CPU interface register of `vp`. */
  write(vp: number, name: string, value: bigint): void {
    const cpu = this.state.cpus[vp];
    const v = Number(value & 0xffffffffn);
    switch (name) {
      case 'ICC_PMR_EL1':
        cpu.pmr = v & PRIORITY_MASK;
        break;
      case 'ICC_EOIR0_EL1':
        this.#endOfInterrupt(vp, 0, v & 0xffffff);
        return;
      case 'ICC_EOIR1_EL1':
        this.#endOfInterrupt(vp, 1, v & 0xffffff);
        return;
      case 'ICC_DIR_EL1':
        // Only with EOImode = 1 (12.2.10).
        if (cpu.ctlr & 2) this.#deactivate(vp, v & 0xffffff);
        this.#updateFor(vp, v & 0xffffff);
        return;
      case 'ICC_BPR0_EL1':
        cpu.bpr[0] = Math.max(MIN_BPR[0], v & 7);
        break;
      case 'ICC_BPR1_EL1':
        if ((cpu.ctlr & 1) === 0) cpu.bpr[1] = Math.max(MIN_BPR[1], v & 7);
        break;
      case 'ICC_AP0R0_EL1':
        cpu.active[0] = v | 0;
        break;
      case 'ICC_AP1R0_EL1':
        cpu.active[1] = v | 0;
        break;
      case 'ICC_CTLR_EL1':
        cpu.ctlr = v & 3;
        break;
      case 'ICC_IGRPEN0_EL1':
        cpu.enabled[0] = v & 1;
        this.#update();
        return;
      case 'ICC_IGRPEN1_EL1':
        cpu.enabled[1] = v & 1;
        this.#update();
        return;
      case 'ICC_SGI1R_EL1':
        this.#generateSgi(vp, 1, value);
        return;
      case 'ICC_SGI0R_EL1':
        this.#generateSgi(vp, 0, value);
        return;
      // ICC_ASGI1R_EL1 is for the other security state: there is none. ICC_SRE_EL1 is fixed.
      default:
        return;
    }
    this.#update(vp);
  }

  // --- distributor and redistributors (12.9, 12.10, 12.11) -----------------------------------------------------------

  /**
   * Rows for the registers that a distributor and the SGI frame of a redistributor share. `first`: words below are not
   * there (the distributor's word 0 is in the redistributors).
   */
  #interruptRows(i: Interrupts, first: number, words: number, base: number) {
    const there = (w: number) => w >= first;
    const set = (array: Uint32Array) => ({
      read: (w: number) => (there(w) ? array[w] : 0),
      write: (v: number, w: number) => {
        if (there(w)) array[w] |= v;
      },
    });
    const clear = (array: Uint32Array) => ({
      read: (w: number) => (there(w) ? array[w] : 0),
      write: (v: number, w: number) => {
        if (there(w)) array[w] &= ~v;
      },
    });
    const plain = (array: Uint32Array) => ({
      read: (w: number) => (there(w) ? array[w] : 0),
      write: (v: number, w: number) => {
        if (there(w)) array[w] = v;
      },
    });
    const pending = (w: number) => (there(w) ? (i.pending[w] | (i.line[w] & ~i.edge[w])) >>> 0 : 0);
    return {
      IGROUPR: { at: base + 0x80, count: words, ...plain(i.group) },
      ISENABLER: { at: base + 0x100, count: words, ...set(i.enabled) },
      ICENABLER: { at: base + 0x180, count: words, ...clear(i.enabled) },
      ISPENDR: { at: base + 0x200, count: words, ...set(i.pending), read: pending },
      ICPENDR: { at: base + 0x280, count: words, ...clear(i.pending), read: pending },
      ISACTIVER: { at: base + 0x300, count: words, ...set(i.active) },
      ICACTIVER: { at: base + 0x380, count: words, ...clear(i.active) },
      IPRIORITYR: {
        at: base + 0x400,
        size: 1 as const,
        count: words * 32,
        read: (n: number) => (there(n >>> 5) ? i.priority[n] : 0),
        write: (v: number, n: number) => {
          if (there(n >>> 5)) i.priority[n] = v & PRIORITY_MASK;
        },
      },
      ICFGR: {
        at: base + 0xc00,
        count: words * 2,
        // Two bits per interrupt, of which the upper says edge.
        read: (n: number) => {
          let v = 0;
          if (there(n >>> 1)) for (let b = 0; b < 16; b++) v |= ((i.edge[n >>> 1] >>> (((n & 1) << 4) + b)) & 1) << (2 * b + 1);
          return v >>> 0;
        },
        write: (v: number, n: number) => {
          if (n === 0 || !there(n >>> 1)) return;
          const half = (n & 1) << 4;
          let edge = i.edge[n >>> 1] & ~(0xffff << half);
          for (let b = 0; b < 16; b++) edge |= ((v >>> (2 * b + 1)) & 1) << (half + b);
          i.edge[n >>> 1] = edge;
        },
      },
      IGRPMODR: { at: base + 0xd00, count: words, ...plain(i.groupModifier) },
    };
  }

  #distributorBank(): Bank {
    const { state } = this;
    const words = this.#words;
    const spis = words * 32 - 32;
    return bank({
      CTLR: {
        at: 0,
        read: () => state.ctlr | CTLR_FIXED,
        write: (v) => {
          state.ctlr = v & (ENABLE[0] | ENABLE[1]);
        },
      },
      // RSS, IDbits = 9 (10 bits), ITLinesNumber; one security state, no LPIs, no message-based SPIs.
      TYPER: { at: 4, read: () => ((1 << 26) | (9 << 19) | (words - 1)) >>> 0 },
      IIDR: { at: 8, read: () => IIDR },
      ...this.#interruptRows(state.spi, 1, words, 0),
      IROUTER: {
        at: 0x6100,
        size: 8,
        count: spis,
        // Aff3 is in the upper half; no VP has one, so it only makes the route match nobody.
        read64: (n) => BigInt(state.route[n + 32] & (ANY_VP | 0xffffff)) & 0xffffffffn,
        write64: (v, n) => {
          state.route[n + 32] = Number(v & 0x80ffffffn);
        },
      },
      ...ID_REGISTERS,
    });
  }

  #redistributorBank(vp: number): Bank {
    const { vpCount } = this.#options;
    const r = this.state.redistributors[vp];
    const last = vp === vpCount - 1 ? 1n << 4n : 0n;
    return bank({
      CTLR: { at: 0, read: () => 0 },
      IIDR: { at: 4, read: () => IIDR },
      TYPER: { at: 8, size: 8, read64: () => (BigInt(affinityOf(vp)) << 32n) | (BigInt(vp) << 8n) | last },
      WAKER: {
        at: 0x14,
        read: () => r.waker,
        // ChildrenAsleep follows ProcessorSleep at once.
        write: (v) => {
          r.waker = v & WAKER_SLEEP ? WAKER_SLEEP | WAKER_ASLEEP : 0;
        },
      },
      ...ID_REGISTERS,
      ...this.#interruptRows(r, 0, 1, 0x10000),
    });
  }
}
