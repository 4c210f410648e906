/**
 * The Generic Timer of every VP: counter, virtual and physical EL1 timer (Arm ARM DDI 0487, D12). Counts from the machine's
 * virtual time; CNTVOFF is zero, so that the virtual and the physical count are the same.
 */
import type { Clock } from '../base/clock.ts';
import { field, FLAG, Group, List, register, type Tree } from '../base/inspect.ts';
import type { Trace } from '../base/trace.ts';
import { PPI, type PpiNumbers } from './addresses.ts';
import type { InterruptController } from './interrupts.ts';

export interface TimerOptions {
  readonly vpCount: number;
  /** CNTFRQ_EL0 in Hz; Ampere Altra has 25 MHz (reference §5.2). */
  readonly frequency?: number;
  readonly clock: Clock;
  readonly interrupts: Pick<InterruptController, 'setPpi'>;
  /** Left out: current hosts'. */
  readonly ppi?: Pick<PpiNumbers, 'virtualTimer' | 'physicalTimer'>;
  /** The timers count and compare, but their interrupts are connected to nothing, as on hosts before 2021 (reference §5.2). */
  readonly silent?: boolean;
  /** Is told when a silent timer expires. */
  readonly trace?: Trace;
}

/** A timer for people: what a guest that waits for it needs to know. */
export interface TimerInfo {
  vp: number;
  timer: Kind;
  enabled: boolean;
  masked: boolean;
  /** The counter has reached CVAL. */
  expired: boolean;
  intid: number;
  interrupt: 'asserted' | 'not asserted' | 'never delivered by this host';
}

/** One timer: CNTx_CTL_EL0 without ISTATUS, CNTx_CVAL_EL0. */
interface Timer {
  ctl: number;
  cval: bigint;
}

export interface TimerState {
  virtual: Timer[];
  physical: Timer[];
}

const KINDS = ['virtual', 'physical'] as const;
type Kind = (typeof KINDS)[number];

/** CNTx_CTL_EL0 (D19.12). */
const ENABLE = 1;
const IMASK = 2;
const ISTATUS = 4;

const NS_PER_S = 1_000_000_000n;

export class GenericTimer {
  readonly state: TimerState;
  readonly frequency: number;
  readonly #clock: Clock;
  readonly #interrupts: Pick<InterruptController, 'setPpi'>;
  readonly #intid: Record<Kind, number>;
  readonly #silent: boolean;
  readonly #trace: Trace | undefined;
  /** Silent timers that have been told of: once is enough. */
  readonly #told = new Set<string>();

  constructor(options: TimerOptions) {
    this.frequency = options.frequency ?? 25_000_000;
    this.#clock = options.clock;
    this.#interrupts = options.interrupts;
    const ppi = options.ppi ?? PPI;
    this.#intid = { virtual: ppi.virtualTimer, physical: ppi.physicalTimer };
    this.#silent = options.silent ?? false;
    this.#trace = options.trace;
    const timers = () => Array.from({ length: options.vpCount }, (): Timer => ({ ctl: 0, cval: 0n }));
    this.state = { virtual: timers(), physical: timers() };
    for (const kind of KINDS)
      for (let vp = 0; vp < options.vpCount; vp++) this.#clock.on(this.#alarm(kind, vp), () => this.#due(kind, vp));
  }

  #alarm(kind: Kind, vp: number): string {
    return `${kind}-timer-${vp}`;
  }

  /** Nanoseconds per tick, if that is a whole number. */
  get period(): number | undefined {
    return NS_PER_S % BigInt(this.frequency) === 0n ? Number(NS_PER_S) / this.frequency : undefined;
  }

  /** CNTVCT_EL0 (and CNTPCT_EL0) now. */
  counter(): bigint {
    return (BigInt(this.#clock.now) * BigInt(this.frequency)) / NS_PER_S;
  }

  /** The first time, in ns, at which the counter is at least `count`. */
  #timeOf(count: bigint): number {
    const f = BigInt(this.frequency);
    return Number((count * NS_PER_S + f - 1n) / f);
  }

  /** The VP is reset: its timers are disabled (D19.12: ENABLE resets to 0). */
  reset(vp: number): void {
    for (const kind of KINDS) {
      this.state[kind][vp].ctl = 0;
      this.#update(kind, vp);
    }
  }

  /** True when the timer condition is met, whether or not the timer is enabled. */
  #met(t: Timer): boolean {
    return this.counter() >= t.cval;
  }

  /** Its alarm has gone off. */
  #due(kind: Kind, vp: number): void {
    if (this.#trace?.wants('timer') && this.#met(this.state[kind][vp]))
      this.#trace.emit({ kind: 'timer', vp, timer: `${kind} timer`, what: `expired, INTID ${this.#intid[kind]}` });
    this.#update(kind, vp);
  }

  /** Drives the interrupt line and sets the alarm for the moment it will change. */
  #update(kind: Kind, vp: number): void {
    const t = this.state[kind][vp];
    const armed = (t.ctl & (ENABLE | IMASK)) === ENABLE;
    const met = this.#met(t);
    if (!this.#silent) this.#interrupts.setPpi(vp, this.#intid[kind], armed && met);
    else if (armed && met && this.#trace?.wants('guest') && !this.#told.has(this.#alarm(kind, vp))) {
      this.#told.add(this.#alarm(kind, vp));
      const message = `VP ${vp}: the ${kind} timer has expired, and this host never delivers INTID ${this.#intid[kind]}`;
      this.#trace.emit({ kind: 'guest', part: 'generic timer', message });
    }
    const due = armed && !met ? this.#timeOf(t.cval) : Number.POSITIVE_INFINITY;
    if (due <= Number.MAX_SAFE_INTEGER) this.#clock.set(this.#alarm(kind, vp), due);
    else this.#clock.cancel(this.#alarm(kind, vp));
  }

  /** Every timer as it is now. */
  info(): TimerInfo[] {
    return KINDS.flatMap((timer) =>
      this.state[timer].map((t, vp): TimerInfo => {
        const [enabled, masked, expired] = [(t.ctl & ENABLE) !== 0, (t.ctl & IMASK) !== 0, this.#met(t)];
        const asserted = enabled && !masked && expired ? 'asserted' : 'not asserted';
        const interrupt = this.#silent ? 'never delivered by this host' : asserted;
        return { vp, timer, enabled, masked, expired, intid: this.#intid[timer], interrupt };
      }),
    );
  }

  /** Every VP's timers. */
  inspect(): Tree {
    const info = this.info();
    return {
      frequency: this.frequency,
      counter: this.counter(),
      vps: new List(this.state.virtual.length, (vp) =>
        Object.fromEntries(
          KINDS.map((kind) => {
            const of = info.find((t) => t.vp === vp && t.timer === kind) as TimerInfo;
            const prefix = kind === 'virtual' ? 'CNTV' : 'CNTP';
            const CTL = `${prefix}_CTL_EL0`;
            const CVAL = `${prefix}_CVAL_EL0`;
            const summary = (): string => {
              const due = this.#timeOf(this.state[kind][vp].cval) - this.#clock.now;
              const when = of.expired ? 'expired' : `in ${(due / 1e6).toFixed(6)} ms`;
              return of.enabled
                ? `enabled${of.masked ? ', masked' : ''}, ${when}, INTID ${of.intid} ${of.interrupt}`
                : 'disabled';
            };
            const bits = { ENABLE: [0, 0, FLAG], IMASK: [1, 1, FLAG], ISTATUS: [2, 2, FLAG] } as const;
            const tree = (): Tree => ({
              [CTL]: field(
                { ...register(3), bits },
                () => this.read(vp, CTL),
                (v) => this.write(vp, CTL, v),
              ),
              [CVAL]: field(
                register(64),
                () => this.read(vp, CVAL),
                (v) => this.write(vp, CVAL, v),
              ),
              expired: of.expired,
              intid: of.intid,
              interrupt: of.interrupt,
            });
            return [kind, new Group(summary, tree)];
          }),
        ),
      ),
    };
  }

  /** Reads CNTFRQ_EL0, CNTPCT_EL0, CNTVCT_EL0 or CNT{P,V}_{CTL,CVAL,TVAL}_EL0 of `vp`. */
  read(vp: number, name: string): bigint {
    switch (name) {
      case 'CNTFRQ_EL0':
        return BigInt(this.frequency);
      case 'CNTPCT_EL0':
      case 'CNTVCT_EL0':
      case 'CNTPCTSS_EL0':
      case 'CNTVCTSS_EL0':
        return this.counter();
    }
    const t = this.#timer(vp, name);
    if (name.includes('CTL')) return BigInt(t.ctl | (t.ctl & ENABLE && this.#met(t) ? ISTATUS : 0));
    return name.includes('CVAL') ? t.cval : BigInt.asUintN(32, t.cval - this.counter());
  }

  /** Writes CNT{P,V}_{CTL,CVAL,TVAL}_EL0 of `vp`. */
  write(vp: number, name: string, value: bigint): void {
    const t = this.#timer(vp, name);
    if (name.includes('CTL')) t.ctl = Number(value & 3n);
    else if (name.includes('CVAL')) t.cval = BigInt.asUintN(64, value);
    // The timer value is signed (D12.2.4).
    else t.cval = BigInt.asUintN(64, this.counter() + BigInt.asIntN(32, value));
    this.#update(name.startsWith('CNTV') ? 'virtual' : 'physical', vp);
  }

  #timer(vp: number, name: string): Timer {
    return this.state[name.startsWith('CNTV') ? 'virtual' : 'physical'][vp];
  }

  /**
   * When the event stream that CNTKCTL_EL1 (`control`) configures next wakes WFE, in ns; Infinity when it is off (D12.2.3:
   * a transition of counter bit EVNTI, from 0 to 1, or with EVNTDIR from 1 to 0).
   */
  nextEvent(control: number): number {
    const [EVNTEN, EVNTDIR] = [1 << 2, 1 << 3];
    if ((control & EVNTEN) === 0) return Number.POSITIVE_INFINITY;
    // EVNTIS: of bits 23:8 instead of 15:0.
    const bit = BigInt(((control >>> 4) & 15) + (control & (1 << 17) ? 8 : 0));
    const period = 2n << bit;
    const phase = control & EVNTDIR ? 0n : 1n << bit;
    const now = this.counter();
    const start = now - (now % period) + phase;
    return this.#timeOf(start > now ? start : start + period);
  }
}
