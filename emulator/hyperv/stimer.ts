/** The synthetic timers of one VP: HvRegisterStimer0Config .. HvRegisterStimer3Count (reference hyperv-arm64.md §5.3). */
import { type BitField, FLAG } from '../base/inspect.ts';
import type { HypervisorHost } from './host.ts';
import type { ReferenceTime } from './reference-time.ts';
import type { Message, MessageSource } from './synic.ts';
import { HvMessageTypeTimerExpired, HvTimerMessagePayload } from './tlfs.ts';

export const STIMER_COUNT = 4;

const ENABLED = 1n;
const PERIODIC = 2n;
const LAZY = 4n;
const AUTO_ENABLE = 8n;
/** CONFIG: direct mode. */
export const STIMER_DIRECT = 1n << 12n;
const DIRECT = STIMER_DIRECT;
/** Bits that exist: 12:0 and SINTx 19:16. */
const CONFIG_BITS = 0xf1fffn;
const vectorOf = (config: bigint): number => Number((config >> 4n) & 0xffn);
const sintOf = (config: bigint): number => Number((config >> 16n) & 0xfn);

interface StimerState {
  config: bigint;
  count: bigint;
  /** Reference time of the next expiration; meaningful while armed. */
  due: bigint;
  armed: boolean;
  /** An expiration whose message has not reached its slot yet, and when it was due. */
  undelivered: boolean;
  expiredAt: bigint;
}

export type StimersState = StimerState[];

export const stimersReset = (): StimersState =>
  Array.from({ length: STIMER_COUNT }, () => ({
    config: 0n,
    count: 0n,
    due: 0n,
    armed: false,
    undelivered: false,
    expiredAt: 0n,
  }));

export class Stimers implements MessageSource {
  readonly state: StimersState;
  readonly #host: HypervisorHost;
  readonly #vp: number;
  readonly #time: ReferenceTime;
  /** Wired by the VP: the SynIC and the timers need each other. */
  onMessage: () => void = () => {};
  onDirect: (intid: number) => void = () => {};

  constructor(host: HypervisorHost, vp: number, time: ReferenceTime, state: StimersState) {
    this.state = state;
    this.#host = host;
    this.#vp = vp;
    this.#time = time;
    for (let n = 0; n < STIMER_COUNT; n++) host.clock.on(this.#alarm(n), () => this.#expire(n));
  }

  writeConfig(n: number, value: bigint): void {
    const t = this.state[n];
    t.config = value & CONFIG_BITS;
    // SINT0 is not legal for a timer that sends messages.
    if (!(t.config & DIRECT) && sintOf(t.config) === 0) t.config &= ~ENABLED;
    this.#start(n);
  }

  writeCount(n: number, value: bigint): void {
    const t = this.state[n];
    t.count = value;
    if (value === 0n) t.config &= ~ENABLED;
    else if (t.config & AUTO_ENABLE) t.config |= ENABLED;
    if (!(t.config & DIRECT) && sintOf(t.config) === 0) t.config &= ~ENABLED;
    this.#start(n);
  }

  waiting(sint: number): number {
    let n = 0;
    for (const t of this.state) if (t.undelivered && sintOf(t.config) === sint) n++;
    return n;
  }

  take(sint: number): Message {
    const n = this.state.findIndex((t) => t.undelivered && sintOf(t.config) === sint);
    const t = this.state[n];
    t.undelivered = false;
    const payload = HvTimerMessagePayload.make({ TimerIndex: n, ExpirationTime: t.expiredAt, DeliveryTime: this.#time.now() });
    return { type: HvMessageTypeTimerExpired, origin: 0n, payload };
  }

  /** Stops all timers, as at reset. */
  reset(): void {
    for (let n = 0; n < STIMER_COUNT; n++) {
      Object.assign(this.state[n], stimersReset()[n]);
      this.#host.clock.cancel(this.#alarm(n));
    }
  }

  #alarm(n: number): string {
    return `stimer/${this.#vp}/${n}`;
  }

  /** Arms or disarms after a register was written: a message of the old programming is forgotten. */
  #start(n: number): void {
    const t = this.state[n];
    t.undelivered = false;
    t.armed = (t.config & ENABLED) !== 0n && t.count !== 0n;
    if (t.armed) t.due = t.config & PERIODIC ? this.#time.now() + t.count : t.count;
    this.#arm(n);
  }

  #arm(n: number): void {
    const t = this.state[n];
    const ns = t.armed ? this.#time.due(t.due) : Number.POSITIVE_INFINITY;
    if (ns === Number.POSITIVE_INFINITY) this.#host.clock.cancel(this.#alarm(n));
    else this.#host.clock.set(this.#alarm(n), Math.max(ns, this.#host.clock.now));
  }

  #expire(n: number): void {
    const t = this.state[n];
    const now = this.#time.now();
    if (now < t.due) {
      // The counter's tick is coarser than a nanosecond: not there yet.
      this.#host.clock.set(this.#alarm(n), this.#host.clock.now + 1);
      return;
    }
    t.expiredAt = t.due;
    if (t.config & PERIODIC) {
      // Periods that passed unseen (a long idle skip) are one expiration, not many.
      t.due += t.count * ((now - t.due) / t.count + 1n);
    } else {
      t.config &= ~ENABLED;
      t.armed = false;
    }
    this.#arm(n);
    if (this.#host.trace.wants('timer')) {
      const how = t.config & DIRECT ? `INTID ${vectorOf(t.config)}` : `message to SINT${sintOf(t.config)}`;
      this.#host.trace.emit({ kind: 'timer', vp: this.#vp, timer: `stimer ${n}`, what: `expired, ${how}` });
    }
    if (t.config & DIRECT) this.onDirect(vectorOf(t.config));
    else {
      t.undelivered = true;
      this.onMessage();
    }
  }
}

/** A CONFIG register's parts. */
export const STIMER_CONFIG_BITS: Readonly<Record<string, BitField>> = {
  enabled: [0, 0, FLAG],
  periodic: [1, 1, FLAG],
  lazy: [2, 2, FLAG],
  autoEnable: [3, 3, FLAG],
  vector: [11, 4],
  direct: [12, 12, FLAG],
  sint: [19, 16],
};

/** A CONFIG register for people. */
export function describeStimerConfig(value: bigint): string[] {
  const out = [value & ENABLED ? 'enabled' : 'disabled', value & PERIODIC ? 'periodic' : 'one-shot'];
  if (value & LAZY) out.push('lazy');
  if (value & AUTO_ENABLE) out.push('auto-enable');
  out.push(value & DIRECT ? `direct mode, INTID ${vectorOf(value)}` : `message to SINT${sintOf(value)}`);
  return out;
}
