/** PrimeCell Real Time Clock PL031 (Arm DDI 0224C, chapter 3): seconds since 1970, from the machine's virtual time. */
import { type Bank, bank } from '../base/bank.ts';
import type { Clock } from '../base/clock.ts';
import type { Tree } from '../base/inspect.ts';
import type { MmioRegion } from '../memory/bus.ts';
import type { InterruptController } from './interrupts.ts';

export interface Pl031Options {
  readonly name: string;
  readonly gpa: number;
  readonly intid: number;
  readonly interrupts: Pick<InterruptController, 'setSpi'>;
  readonly clock: Clock;
  /** Wall-clock time at power-on, ms since 1970. */
  readonly startTime: number;
}

export interface Pl031State {
  /** What RTCLR added to the time, in seconds. */
  offset: number;
  load: number;
  match: number;
  imsc: number;
  ris: number;
}

const NS_PER_S = 1e9;

export class Pl031 {
  readonly state: Pl031State = { offset: 0, load: 0, match: 0, imsc: 0, ris: 0 };
  readonly region: MmioRegion;
  readonly #options: Pl031Options;
  readonly #alarm: string;
  readonly #registers: Bank;

  constructor(options: Pl031Options) {
    this.#options = options;
    this.#alarm = `${options.name}-match`;
    const { state } = this;
    options.clock.on(this.#alarm, () => {
      state.ris = 1;
      this.#drive();
    });
    const registers = bank({
      DR: { at: 0x00, read: () => this.seconds() },
      MR: {
        at: 0x04,
        read: () => state.match,
        write: (v) => {
          state.match = v;
          this.#arm();
        },
      },
      LR: {
        at: 0x08,
        read: () => state.load,
        write: (v) => {
          state.offset = (state.offset + v - this.seconds()) | 0;
          state.load = v;
          this.#arm();
        },
      },
      // The clock runs from power-on; writing 1 would start it.
      CR: { at: 0x0c, read: () => 1, write: () => {} },
      IMSC: {
        at: 0x10,
        read: () => state.imsc,
        write: (v) => {
          state.imsc = v & 1;
          this.#drive();
        },
      },
      RIS: { at: 0x14, read: () => state.ris },
      MIS: { at: 0x18, read: () => state.ris & state.imsc },
      ICR: {
        at: 0x1c,
        write: (v) => {
          state.ris &= ~v;
          this.#drive();
        },
      },
      PeriphID: { at: 0xfe0, count: 4, read: (i) => [0x31, 0x10, 0x14, 0x00][i] },
      PCellID: { at: 0xff0, count: 4, read: (i) => [0x0d, 0xf0, 0x05, 0xb1][i] },
    });
    this.#registers = registers;
    this.region = { name: options.name, gpa: options.gpa, size: 0x1000, read: registers.read, write: registers.write };
  }

  inspect(): Tree {
    return { registers: this.#registers.inspect() };
  }

  /** Nanoseconds since the last whole second (of wall-clock time) before power-on. */
  #elapsed(): number {
    return (this.#options.startTime % 1000) * 1e6 + this.#options.clock.now;
  }

  /** RTCDR now. */
  seconds(): number {
    const start = Math.floor(this.#options.startTime / 1000);
    return (start + Math.floor(this.#elapsed() / NS_PER_S) + this.state.offset) >>> 0;
  }

  #drive(): void {
    this.#options.interrupts.setSpi(this.#options.intid, (this.state.ris & this.state.imsc) !== 0);
  }

  /** The alarm for the moment RTCDR becomes RTCMR. */
  #arm(): void {
    const ahead = (this.state.match - this.seconds()) >>> 0;
    const { clock } = this.#options;
    if (ahead === 0) {
      this.state.ris = 1;
      this.#drive();
      clock.cancel(this.#alarm);
    } else clock.set(this.#alarm, clock.now + ahead * NS_PER_S - (this.#elapsed() % NS_PER_S));
  }
}
