/**
 * The synthetic interrupt controller of one VP (reference hyperv-arm64.md §6): message page, event flags page, the queues
 * behind the message slots and the PPIs of the SINTs. Both pages are ordinary guest RAM.
 */
import { type BitField, FLAG } from '../base/inspect.ts';
import type { HypervisorHost } from './host.ts';
import {
  HV_EVENT_FLAGS_COUNT,
  HV_MESSAGE_FLAG_PENDING,
  HV_MESSAGE_SIZE,
  HV_PAGE,
  HV_SYNIC_SINT_COUNT,
  HvMessageHeader,
  HvMessageTypeNone,
} from './tlfs.ts';

/** A message on its way to a slot. At most 240 bytes of payload. */
export interface Message {
  type: number;
  /** Sender's partition or port id. */
  origin: bigint;
  payload: Uint8Array;
}

export interface SynicState {
  scontrol: bigint;
  siefp: bigint;
  simp: bigint;
  sirbp: bigint;
  sint: bigint[];
  /** Messages waiting for the slot of each SINT. */
  queues: Message[][];
}

/** Who else has messages for a slot: the synthetic timers, which hold one each until it can be delivered. */
export interface MessageSource {
  /** Messages that wait for `sint`. */
  waiting(sint: number): number;
  /** Takes one of them. Called only when `waiting` is not 0. */
  take(sint: number): Message;
}

/** SINT bits (§6.1). The vector of ARM64 is an INTID, 10 bits wide. */
const VECTOR = 0x3ffn;
const MASKED = 1n << 16n;
/** SINTx: polling mode. */
export const SINT_POLLING = 1n << 18n;
const POLLING = SINT_POLLING;
const ENABLE = 1n;

const PPI_FIRST = 16;
const PPI_LAST = 31;

export const synicReset = (): SynicState => ({
  scontrol: 0n,
  siefp: 0n,
  simp: 0n,
  sirbp: 0n,
  sint: new Array(HV_SYNIC_SINT_COUNT).fill(MASKED),
  queues: Array.from({ length: HV_SYNIC_SINT_COUNT }, () => []),
});

export class Synic {
  readonly state: SynicState;
  readonly #host: HypervisorHost;
  readonly #vp: number;
  readonly #timers: MessageSource;

  constructor(host: HypervisorHost, vp: number, timers: MessageSource, state: SynicState) {
    this.state = state;
    this.#host = host;
    this.#vp = vp;
    this.#timers = timers;
  }

  /** Sets a register and delivers what it let through. */
  write(register: 'scontrol' | 'siefp' | 'simp', value: bigint): void {
    this.state[register] = value;
    this.rescan();
  }

  writeSint(sint: number, value: bigint): void {
    this.state.sint[sint] = value;
    this.#pump(sint);
  }

  /** EOM: looks at every slot again. */
  rescan(): void {
    for (let sint = 0; sint < HV_SYNIC_SINT_COUNT; sint++) this.#pump(sint);
  }

  /** Delivers a message, or queues it until its slot is free and the SINT is enabled. */
  deliver(sint: number, message: Message): void {
    this.state.queues[sint].push(message);
    this.#pump(sint);
  }

  /** Messages that wait for the slot of `sint`. */
  queued(sint: number): number {
    return this.state.queues[sint].length;
  }

  /** Forgets the messages that wait for `sint`; one already in the slot stays the guest's. */
  drop(sint: number): void {
    this.state.queues[sint].length = 0;
  }

  /** Sets event flag `flag` of `sint` and interrupts if it was clear. False: SynIC, page or SINT is off, nothing happened. */
  signal(sint: number, flag: number): boolean {
    const page = this.#page('siefp');
    if (page < 0 || !this.#open(sint) || flag < 0 || flag >= HV_EVENT_FLAGS_COUNT) return false;
    const at = page + sint * (HV_EVENT_FLAGS_COUNT / 8) + (flag >>> 3);
    const ram = this.#host.ram;
    const mask = 1 << (flag & 7);
    const old = ram.view.getUint8(at);
    // What was there decides, never what we remember: the guest clears flags whenever it likes (§12, 18).
    if (old & mask) return true;
    ram.touch(at, 1);
    ram.view.setUint8(at, old | mask);
    const { trace } = this.#host;
    if (trace.wants('signal'))
      trace.emit({ kind: 'signal', direction: 'host-to-guest', vp: this.#vp, flag, how: `event flag of SINT${sint}` });
    this.#interrupt(sint);
    return true;
  }

  /** Raises a PPI of this VP; for a vector that is none, tells so. */
  pulse(intid: number, who: string): void {
    if (intid >= PPI_FIRST && intid <= PPI_LAST) this.#host.interrupts.pulsePpi(this.#vp, intid);
    else this.#note(`${who}: vector ${intid} is not a PPI, no interrupt`);
  }

  /** Enabled and not masked. */
  #open(sint: number): boolean {
    return (this.state.scontrol & ENABLE) !== 0n && (this.state.sint[sint] & MASKED) === 0n;
  }

  /** GPA of an enabled page in RAM, else -1. */
  #page(register: 'siefp' | 'simp'): number {
    const value = this.state[register];
    if ((value & ENABLE) === 0n) return -1;
    const gpa = Number((value >> 12n) << 12n);
    if (this.#host.ram.contains(gpa, HV_PAGE)) return gpa;
    this.#note(`${register.toUpperCase()} page 0x${gpa.toString(16)} is not RAM`);
    return -1;
  }

  /** Moves the next waiting message into the slot if it may, or marks the slot's message as having followers. */
  #pump(sint: number): void {
    const queue = this.state.queues[sint];
    const waiting = queue.length + this.#timers.waiting(sint);
    if (waiting === 0 || !this.#open(sint)) return;
    const page = this.#page('simp');
    if (page < 0) return;
    const at = page + sint * HV_MESSAGE_SIZE;
    const { ram } = this.#host;
    ram.touch(at, HV_MESSAGE_SIZE);
    const field = HvMessageHeader.field;
    if (field.MessageType.get(ram.view, at) !== HvMessageTypeNone) {
      // The guest frees the slot, then looks at this flag, then writes EOM: setting it here cannot be missed.
      const flags = at + field.MessageFlags.offset;
      ram.view.setUint8(flags, ram.view.getUint8(flags) | HV_MESSAGE_FLAG_PENDING);
      return;
    }
    const message = queue.length > 0 ? (queue.shift() as Message) : this.#timers.take(sint);
    ram.bytes.set(message.payload, at + HvMessageHeader.size);
    HvMessageHeader.set(ram.view, at, {
      MessageType: message.type,
      PayloadSize: message.payload.length,
      MessageFlags: waiting > 1 ? HV_MESSAGE_FLAG_PENDING : 0,
      Reserved: 0,
      Origin: message.origin,
    });
    this.#told(sint, `message type 0x${message.type.toString(16)}, ${message.payload.length} bytes`);
    this.#interrupt(sint);
  }

  #interrupt(sint: number): void {
    const value = this.state.sint[sint];
    if ((value & POLLING) === 0n) this.pulse(Number(value & VECTOR), `SINT${sint}`);
  }

  #told(sint: number, what: string): void {
    if (this.#host.trace.wants('synic')) this.#host.trace.emit({ kind: 'synic', vp: this.#vp, sint, what });
  }

  #note(message: string): void {
    this.#host.trace.emit({ kind: 'guest', part: `synic ${this.#vp}`, message });
  }
}

/** A SINT register's parts. */
export const SINT_BITS: Readonly<Record<string, BitField>> = {
  vector: [9, 0],
  masked: [16, 16, FLAG],
  autoEoi: [17, 17, FLAG],
  polling: [18, 18, FLAG],
  asIntercept: [19, 19, FLAG],
  proxy: [20, 20, FLAG],
};

/** A SINT register for people. */
export function describeSint(value: bigint): string[] {
  const out = [`vector ${value & VECTOR}`];
  if (value & MASKED) out.push('masked');
  if (value & (1n << 17n)) out.push('auto-EOI');
  if (value & POLLING) out.push('polling');
  if (value & (1n << 19n)) out.push('as intercept');
  if (value & (1n << 20n)) out.push('proxy');
  return out;
}
