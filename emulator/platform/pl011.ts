/**
 * PrimeCell UART PL011 r1p5 (Arm DDI 0183G; section numbers are of that document). What is transmitted leaves at once;
 * what is received waits outside while the FIFO is full, so that no input is lost.
 */
import { type Bank, bank } from '../base/bank.ts';
import type { Clock } from '../base/clock.ts';
import { FLAG, type Tree } from '../base/inspect.ts';
import type { MmioRegion } from '../memory/bus.ts';
import type { InterruptController } from './interrupts.ts';

export interface Pl011Options {
  readonly name: string;
  readonly gpa: number;
  readonly intid: number;
  readonly interrupts: Pick<InterruptController, 'setSpi'>;
  readonly clock: Clock;
  /** Receives every byte the guest transmits. */
  readonly output: (byte: number) => void;
}

export interface Pl011State {
  /** Receive FIFO, oldest first. */
  received: number[];
  /** Typed outside, not yet in the FIFO. */
  waiting: number[];
  ilpr: number;
  ibrd: number;
  fbrd: number;
  lcrH: number;
  cr: number;
  ifls: number;
  imsc: number;
  /** Raw interrupt status. */
  ris: number;
  dmacr: number;
}

/** Interrupt bits (3.3.10 .. 3.3.13). */
const RX = 1 << 4;
const TX = 1 << 5;
const RT = 1 << 6;

/** UARTFR (3.3.3): CTS, DSR, DCD asserted: somebody is always there; TXFE; RXFF; RXFE. */
const FR_MODEM = 7;
const FR_RXFE = 1 << 4;
const FR_RXFF = 1 << 6;
const FR_TXFE = 1 << 7;

const LCR_FEN = 1 << 4;
const CR_UARTEN = 1;
const CR_LBE = 1 << 7;
const CR_TXE = 1 << 8;
const CR_RXE = 1 << 9;

const FR_BITS = {
  CTS: [0, 0, FLAG],
  DSR: [1, 1, FLAG],
  DCD: [2, 2, FLAG],
  RXFE: [4, 4, FLAG],
  RXFF: [6, 6, FLAG],
  TXFE: [7, 7, FLAG],
} as const;
const INTERRUPT_BITS = { RX: [4, 4, FLAG], TX: [5, 5, FLAG], RT: [6, 6, FLAG] } as const;

const FIFO = 32;
/** Receive trigger levels by UARTIFLS.RXIFLSEL (3.3.9): 1/8, 1/4, 1/2, 3/4, 7/8; the others are reserved. */
const TRIGGER = [4, 8, 16, 24, 28, 28, 28, 28];

/** The receive timeout: 32 bit periods (2.8.1), at 115200 baud whatever the divisors say. */
const TIMEOUT_NS = Math.round((32 * 1e9) / 115200);

export class Pl011 {
  readonly state: Pl011State;
  readonly region: MmioRegion;
  readonly #options: Pl011Options;
  readonly #timeout: string;
  readonly #registers: Bank;

  constructor(options: Pl011Options) {
    this.#options = options;
    this.#timeout = `${options.name}-receive-timeout`;
    options.clock.on(this.#timeout, () => this.#raise(RT));
    // As firmware leaves it: enabled, 8N1, FIFOs on. An early console writes without setting it up.
    this.state = {
      received: [],
      waiting: [],
      ilpr: 0,
      ibrd: 0,
      fbrd: 0,
      lcrH: 0x60 | LCR_FEN,
      cr: CR_UARTEN | CR_TXE | CR_RXE,
      ifls: 0x12,
      imsc: 0,
      ris: 0,
      dmacr: 0,
    };
    const { state } = this;
    const registers = bank({
      DR: { at: 0x00, hidden: true, read: () => this.#read(), write: (v) => this.#transmit(v & 0xff) },
      // Errors never happen; writing clears them.
      RSR: { at: 0x04, hidden: true, read: () => 0, write: () => {} },
      FR: {
        at: 0x18,
        bits: FR_BITS,
        read: () =>
          FR_MODEM |
          FR_TXFE |
          (state.received.length === 0 ? FR_RXFE : 0) |
          (state.received.length >= this.#depth() ? FR_RXFF : 0),
      },
      ILPR: this.#plain(0x20, 'ilpr', 0xff),
      IBRD: this.#plain(0x24, 'ibrd', 0xffff),
      FBRD: this.#plain(0x28, 'fbrd', 0x3f),
      LCR_H: {
        at: 0x2c,
        bits: { FEN: [4, 4, FLAG], WLEN: [6, 5] },
        read: () => state.lcrH,
        write: (v) => {
          // Switching the FIFO empties it (3.3.7).
          if ((v ^ state.lcrH) & LCR_FEN) state.received.length = 0;
          state.lcrH = v & 0xff;
          this.#refill();
        },
      },
      CR: {
        at: 0x30,
        bits: { UARTEN: [0, 0, FLAG], LBE: [7, 7, FLAG], TXE: [8, 8, FLAG], RXE: [9, 9, FLAG] },
        read: () => state.cr,
        write: (v) => {
          state.cr = v & 0xff87;
          this.#refill();
        },
      },
      IFLS: this.#plain(0x34, 'ifls', 0x3f),
      IMSC: {
        at: 0x38,
        bits: INTERRUPT_BITS,
        read: () => state.imsc,
        write: (v) => {
          state.imsc = v & 0x7ff;
          this.#drive();
        },
      },
      RIS: { at: 0x3c, bits: INTERRUPT_BITS, read: () => state.ris },
      MIS: { at: 0x40, bits: INTERRUPT_BITS, read: () => state.ris & state.imsc },
      ICR: {
        at: 0x44,
        write: (v) => {
          state.ris &= ~v;
          // What is still in the FIFO times out again.
          if (v & RT) this.#restartTimeout();
          this.#drive();
        },
      },
      DMACR: this.#plain(0x48, 'dmacr', 7),
      // PeriphID: part 0x011, designer Arm (0x41), revision 3 (r1p5); PCellID (3.3.16 .. 3.3.23).
      PeriphID: { at: 0xfe0, count: 4, read: (i) => [0x11, 0x10, 0x34, 0x00][i] },
      PCellID: { at: 0xff0, count: 4, read: (i) => [0x0d, 0xf0, 0x05, 0xb1][i] },
    });
    this.#registers = registers;
    this.region = { name: options.name, gpa: options.gpa, size: 0x1000, read: registers.read, write: registers.write };
  }

  /** Registers, and what has been typed. */
  inspect(): Tree {
    const { received, waiting } = this.state;
    return {
      registers: this.#registers.inspect(),
      received: Uint8Array.from(received),
      waiting: Uint8Array.from(waiting),
    };
  }

  /** Bytes from outside. */
  input(bytes: Uint8Array): void {
    for (const b of bytes) this.state.waiting.push(b);
    this.#refill();
  }

  #plain(at: number, field: 'ilpr' | 'ibrd' | 'fbrd' | 'ifls' | 'dmacr', mask: number) {
    return {
      at,
      read: () => this.state[field],
      write: (v: number) => {
        this.state[field] = v & mask;
      },
    };
  }

  #depth(): number {
    return this.state.lcrH & LCR_FEN ? FIFO : 1;
  }

  #trigger(): number {
    return this.state.lcrH & LCR_FEN ? TRIGGER[(this.state.ifls >>> 3) & 7] : 1;
  }

  #drive(): void {
    this.#options.interrupts.setSpi(this.#options.intid, (this.state.ris & this.state.imsc) !== 0);
  }

  #raise(bits: number): void {
    this.state.ris |= bits;
    this.#drive();
  }

  #restartTimeout(): void {
    if (this.state.received.length) this.#options.clock.set(this.#timeout, this.#options.clock.now + TIMEOUT_NS);
    else this.#options.clock.cancel(this.#timeout);
  }

  /** Moves what waits outside into the FIFO, as far as the receiver is on and has room. */
  #refill(): void {
    const { state } = this;
    const on = (state.cr & (CR_UARTEN | CR_RXE)) === (CR_UARTEN | CR_RXE);
    if (!on || state.waiting.length === 0) return;
    while (state.waiting.length && state.received.length < this.#depth()) this.#receive(state.waiting.shift() as number);
  }

  #receive(byte: number): void {
    const { state } = this;
    state.received.push(byte);
    this.#restartTimeout();
    if (state.received.length >= this.#trigger()) this.#raise(RX);
  }

  #read(): number {
    const { state } = this;
    const byte = state.received.shift() ?? 0;
    if (state.received.length < this.#trigger()) state.ris &= ~RX;
    if (state.received.length === 0) state.ris &= ~RT;
    this.#restartTimeout();
    this.#drive();
    this.#refill();
    return byte;
  }

  #transmit(byte: number): void {
    const { state } = this;
    const on = CR_UARTEN | CR_TXE;
    if ((state.cr & on) !== on) return;
    if (state.cr & CR_LBE) {
      if (state.received.length < this.#depth()) this.#receive(byte);
    } else this.#options.output(byte);
    // The FIFO is below its trigger level again, at once.
    this.#raise(TX);
  }
}
