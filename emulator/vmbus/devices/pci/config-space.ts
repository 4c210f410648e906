/**
 * Configuration space of a function with one 64-bit memory BAR and MSI-X, and its MSI-X table (PCI Local Bus 3.0, 6.1, 6.2, 6.8.2).
 * There is nothing else: no I/O space, no INTx, no ROM.
 */
import { viewOf } from '../../../base/struct.ts';
import type { PciFunction } from './function.ts';

/** Bytes of it; what follows in a page of the configuration window reads as zeros. */
const SIZE = 256;
const COMMAND = 0x04;
const COMMAND_MEMORY = 2;
const COMMAND_MASTER = 4;
/** What can be set: memory, bus master, INTx disable. */
const COMMAND_MASK = 0x406;
const BAR = 0x10;
/** 64-bit, not prefetchable. */
const BAR_TYPE = 4;
const MSIX = 0x40;
const MSIX_CONTROL = MSIX + 2;
const MSIX_ENABLE = 0x8000;
const MSIX_MASK_ALL = 0x4000;
/** Words of a table entry: address, data, control with its mask bit. */
const ENTRY_WORDS = 4;
const CONTROL_MASKED = 1;

export interface ConfigState {
  command: number;
  barLow: number;
  barHigh: number;
  msixControl: number;
  /** MSI-X table, four words an entry. */
  table: Uint32Array;
  /** Vectors that wait for their mask to go. */
  pending: number;
}

export class ConfigSpace {
  readonly state: ConfigState;
  readonly #function: PciFunction;
  readonly #fixed = new Uint8Array(SIZE);
  readonly #send: (address: bigint, data: number) => void;

  /** `send` writes a message: an interrupt. */
  constructor(f: PciFunction, send: (address: bigint, data: number) => void) {
    this.#function = f;
    this.#send = send;
    this.state = {
      command: 0,
      barLow: 0,
      barHigh: 0,
      msixControl: 0,
      table: new Uint32Array(f.vectors * ENTRY_WORDS),
      pending: 0,
    };
    const v = viewOf(this.#fixed);
    const { ids } = f;
    v.setUint16(0, ids.vendor, true);
    v.setUint16(2, ids.device, true);
    // Status: there are capabilities.
    v.setUint16(6, 0x10, true);
    [ids.revision, ids.programmingInterface, ids.subclass, ids.baseClass].forEach((b, n) => {
      v.setUint8(8 + n, b);
    });
    v.setUint16(0x2c, ids.subsystemVendor, true);
    v.setUint16(0x2e, ids.subsystem, true);
    v.setUint8(0x34, MSIX);
    v.setUint8(MSIX, 0x11);
    v.setUint32(MSIX + 4, f.tableOffset, true);
    v.setUint32(MSIX + 8, f.pendingOffset, true);
    this.reset();
  }

  /** Where BAR 0 is, -1: nowhere, or the guest has not switched memory space on. */
  get bar(): number {
    const { command, barLow, barHigh } = this.state;
    return command & COMMAND_MEMORY ? barHigh * 2 ** 32 + barLow : -1;
  }

  get mayMaster(): boolean {
    return (this.state.command & COMMAND_MASTER) !== 0;
  }

  /** What BARs read as after all ones were written to them. */
  get probedBars(): number[] {
    return [(-this.#function.barSize | BAR_TYPE) >>> 0, 0xffff_ffff, 0, 0, 0, 0];
  }

  reset(): void {
    Object.assign(this.state, { command: 0, barLow: 0, barHigh: 0, msixControl: 0, pending: 0 });
    this.state.table.fill(0);
    for (let n = 0; n < this.#function.vectors; n++) this.state.table[n * ENTRY_WORDS + 3] = CONTROL_MASKED;
  }

  read(offset: number, size: number): bigint {
    let value = 0n;
    for (let n = 0; n < size; n++) value |= BigInt(this.#byte(offset + n)) << BigInt(8 * n);
    return value;
  }

  write(offset: number, size: number, value: bigint): void {
    // By words: bytes of a register that are not written stay.
    for (let at = offset & ~3; at < offset + size; at += 4) {
      let word = this.#word(at);
      for (let b = 0; b < 4; b++) {
        const n = at + b - offset;
        if (n < 0 || n >= size) continue;
        const byte = Number((value >> BigInt(8 * n)) & 0xffn);
        word = ((word & ~(0xff << (8 * b))) | (byte << (8 * b))) >>> 0;
      }
      this.#setWord(at, word);
    }
  }

  readTable(offset: number, size: number): bigint {
    return readWords((n) => this.state.table[n], offset, size);
  }

  /** Whole words, as the specification wants them. */
  writeTable(offset: number, size: number, value: bigint): void {
    if (offset & 3 || size < 4) return;
    for (let n = 0; n < size / 4; n++) {
      const at = offset / 4 + n;
      if (at >= this.state.table.length) return;
      const word = Number((value >> BigInt(32 * n)) & 0xffff_ffffn);
      this.state.table[at] = at % ENTRY_WORDS === 3 ? word & CONTROL_MASKED : word;
    }
    this.#sendPending();
  }

  readPending(offset: number, size: number): bigint {
    return readWords((n) => (n === 0 ? this.state.pending : 0), offset, size);
  }

  /** Vector `n` is to be sent. */
  interrupt(n: number): void {
    this.state.pending |= 1 << n;
    this.#sendPending();
  }

  #sendPending(): void {
    const { state } = this;
    const { msixControl, table } = state;
    // With MSI-X off there is nobody to tell, and nothing is kept.
    if (!(msixControl & MSIX_ENABLE)) state.pending = 0;
    if (msixControl & MSIX_MASK_ALL || !this.mayMaster) return;
    for (let n = 0; n < this.#function.vectors; n++) {
      const [low, high, data, control] = table.subarray(n * ENTRY_WORDS, (n + 1) * ENTRY_WORDS);
      if (!(state.pending & (1 << n)) || control & CONTROL_MASKED) continue;
      state.pending &= ~(1 << n);
      this.#send((BigInt(high) << 32n) | BigInt(low), data);
    }
  }

  #byte(at: number): number {
    return at < SIZE ? (this.#word(at & ~3) >>> (8 * (at & 3))) & 0xff : 0;
  }

  #word(at: number): number {
    const fixed = at < SIZE ? viewOf(this.#fixed).getUint32(at, true) : 0;
    const { command, barLow, barHigh, msixControl } = this.state;
    if (at === COMMAND) return (fixed | command) >>> 0;
    if (at === BAR) return (barLow | BAR_TYPE) >>> 0;
    if (at === BAR + 4) return barHigh;
    if (at === MSIX) return (fixed | ((msixControl | (this.#function.vectors - 1)) << 16)) >>> 0;
    return fixed;
  }

  #setWord(at: number, value: number): void {
    const { state } = this;
    if (at === COMMAND) state.command = value & COMMAND_MASK;
    else if (at === BAR) state.barLow = (value & -this.#function.barSize) >>> 0;
    else if (at === BAR + 4) state.barHigh = value;
    else if (at === (MSIX_CONTROL & ~3)) state.msixControl = (value >>> 16) & (MSIX_ENABLE | MSIX_MASK_ALL);
    else return;
    this.#sendPending();
  }
}

function readWords(word: (n: number) => number, offset: number, size: number): bigint {
  let value = 0n;
  for (let n = 0; n < size; n++) {
    const byte = ((word((offset + n) >> 2) ?? 0) >>> (8 * ((offset + n) & 3))) & 0xff;
    value |= BigInt(byte) << BigInt(8 * n);
  }
  return value;
}
