/**
 * One ring buffer in guest memory: a header page and data pages (reference hyperv-arm64.md §8.8, §8.9). The guest can write
 * anything into any of it at any time, so nothing here is believed before it is checked.
 */
import type { Ram } from '../memory/ram.ts';
import { PAGE, PAGE_SHIFT } from '../memory/ram.ts';
import {
  PACKET_FLAG_COMPLETION_REQUESTED,
  PacketDescriptor,
  PacketTrailer,
  RING_FEATURE_PENDING_SEND_SIZE,
  RingHeader,
} from './protocol.ts';
import { viewOf } from '../base/struct.ts';

export interface Packet {
  type: number;
  transactionId: bigint;
  completionRequested: boolean;
  /** Between the descriptor and the payload: ranges of GPA direct and transfer page packets. */
  ranges: Uint8Array;
  /** Padded to 8 bytes: the true length is the device protocol's matter. */
  payload: Uint8Array;
}

/** Packets of a ring that people are shown. */
export const SHOWN_PACKETS = 64;

export const NO_RANGES = new Uint8Array(0);

/** What became of a packet that was to be written. */
export type Put = 'full' | 'written' | 'signal';

const field = RingHeader.field;

/** A view of a ring; it has no state of its own and may be made anew any time. */
export class Ring {
  readonly #ram: Ram;
  readonly #pfns: readonly number[];
  readonly #first: number;
  /** Bytes of data. */
  readonly size: number;

  /** The ring occupies pages [first, first + count) of `pfns`, all of which are RAM. */
  constructor(ram: Ram, pfns: readonly number[], first: number, count: number) {
    this.#ram = ram;
    this.#pfns = pfns;
    this.#first = first;
    this.size = (count - 1) * PAGE;
  }

  get readIndex(): number {
    return this.#header(field.ReadIndex.offset);
  }
  get writeIndex(): number {
    return this.#header(field.WriteIndex.offset);
  }
  get interruptMask(): number {
    return this.#header(field.InterruptMask.offset);
  }
  get pendingSendSize(): number {
    return this.#header(field.PendingSendSize.offset);
  }
  /** Asks the consumer to signal when `bytes` are free; 0 takes it back. Consumers that do not know this never look. */
  set pendingSendSize(bytes: number) {
    if (this.#header(field.FeatureBits.offset) & RING_FEATURE_PENDING_SEND_SIZE)
      this.#setHeader(field.PendingSendSize.offset, bytes);
  }

  /** What is wrong with the indices, if anything. */
  get fault(): string | undefined {
    for (const [name, index] of [
      ['read', this.readIndex],
      ['write', this.writeIndex],
    ] as const)
      if (index >= this.size || index & 7)
        return `${name} index 0x${index.toString(16)} of a ring of 0x${this.size.toString(16)} bytes`;
    return undefined;
  }

  /** Bytes that wait to be read. Only while there is no `fault`. */
  get used(): number {
    return (this.writeIndex - this.readIndex + this.size) % this.size;
  }
  /** Bytes that can be written: a ring is never filled completely, since that looks empty. */
  get free(): number {
    return this.size - this.used;
  }

  /** Where the header is, for people: GPA. */
  get headerAt(): number {
    return this.#pfns[this.#first] * PAGE;
  }

  /** Packets that wait to be read, at most `limit`, and where each begins. Text: what is wrong with the next one. Reads only. */
  waiting(limit: number): { packets: { at: number; bytes: number; packet: Packet }[]; wrong?: string } {
    const packets: { at: number; bytes: number; packet: Packet }[] = [];
    const wrong = this.fault;
    if (wrong) return { packets, wrong };
    let at = this.readIndex;
    for (let left = this.used; left > 0 && packets.length < limit; ) {
      const next = this.#packet(at, left);
      if (typeof next === 'string') return { packets, wrong: next };
      packets.push({ at, bytes: next.bytes, packet: next.packet });
      at = (at + next.bytes) % this.size;
      left -= next.bytes;
    }
    return { packets };
  }

  /** Takes the next packet. undefined: the ring is empty. Text: the guest's bytes make no sense. */
  take(): Packet | string | undefined {
    const wrong = this.fault;
    if (wrong) return wrong;
    const { used } = this;
    if (used === 0) return undefined;
    const next = this.#packet(this.readIndex, used);
    if (typeof next === 'string') return next;
    this.#setHeader(field.ReadIndex.offset, (this.readIndex + next.bytes) % this.size);
    return next.packet;
  }

  /** The packet at `at`, where `used` bytes wait, and what it takes in the ring. Text: the guest's bytes make no sense. */
  #packet(at: number, used: number): { packet: Packet; bytes: number } | string {
    if (used < PacketDescriptor.size + PacketTrailer.size) return `${used} bytes left, less than a packet`;
    const d = PacketDescriptor.get(viewOf(this.#read(at, PacketDescriptor.size)), 0);
    const start = d.Offset8 * 8;
    const length = d.Length8 * 8;
    if (start < PacketDescriptor.size || length < start || length + PacketTrailer.size > used)
      return `packet with header of ${start} and length of ${length} bytes where ${used} bytes wait`;
    const body = this.#read((at + PacketDescriptor.size) % this.size, length - PacketDescriptor.size);
    const packet: Packet = {
      type: d.Type,
      transactionId: d.TransactionId,
      completionRequested: (d.Flags & PACKET_FLAG_COMPLETION_REQUESTED) !== 0,
      ranges: body.slice(0, start - PacketDescriptor.size),
      payload: body.slice(start - PacketDescriptor.size),
    };
    return { packet, bytes: length + PacketTrailer.size };
  }

  /** Bytes that a packet takes in the ring. */
  static sizeOf(payload: Uint8Array, ranges: Uint8Array): number {
    return PacketDescriptor.size + ranges.length + Math.ceil(payload.length / 8) * 8 + PacketTrailer.size;
  }

  /**
   * Appends a packet; `ranges`, a multiple of 8 bytes, stand before its payload. `signal`: the consumer must be told. Only while
   * there is no `fault`.
   */
  put(
    type: number,
    transactionId: bigint,
    completionRequested: boolean,
    payload: Uint8Array,
    ranges: Uint8Array = NO_RANGES,
  ): Put {
    const total = Ring.sizeOf(payload, ranges);
    if (total >= this.free) return 'full';
    const at = this.writeIndex;
    const packet = new Uint8Array(total);
    const view = viewOf(packet);
    PacketDescriptor.set(view, 0, {
      Type: type,
      Offset8: (PacketDescriptor.size + ranges.length) / 8,
      Length8: (total - PacketTrailer.size) / 8,
      Flags: completionRequested ? PACKET_FLAG_COMPLETION_REQUESTED : 0,
      TransactionId: transactionId,
    });
    packet.set(ranges, PacketDescriptor.size);
    packet.set(payload, PacketDescriptor.size + ranges.length);
    PacketTrailer.set(view, total - PacketTrailer.size, { Reserved: 0, PreviousWriteIndex: at });
    this.#write(at, packet);
    this.#setHeader(field.WriteIndex.offset, (at + total) % this.size);
    // A consumer that has not caught up looks again by itself; one that masked interrupts does so when it unmasks.
    return this.readIndex === at && this.interruptMask === 0 ? 'signal' : 'written';
  }

  #gpa(at: number): number {
    return this.#pfns[this.#first + 1 + (at >>> PAGE_SHIFT)] * PAGE + (at & (PAGE - 1));
  }

  /** `length` bytes of data from index `at` on, which may wrap at the end of the ring. */
  #read(at: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    this.#pieces(at, length, (gpa, from, n) => out.set(this.#ram.bytes.subarray(gpa, gpa + n), from));
    return out;
  }

  #write(at: number, data: Uint8Array): void {
    this.#pieces(at, data.length, (gpa, from, n) => this.#ram.write(gpa, data.subarray(from, from + n)));
  }

  /** Cuts [at, at + length) at page ends and at the end of the ring. */
  #pieces(at: number, length: number, piece: (gpa: number, from: number, n: number) => void): void {
    for (let done = 0; done < length; ) {
      const index = (at + done) % this.size;
      const n = Math.min(length - done, PAGE - (index & (PAGE - 1)));
      piece(this.#gpa(index), done, n);
      done += n;
    }
  }

  #header(offset: number): number {
    return this.#ram.view.getUint32(this.#pfns[this.#first] * PAGE + offset, true);
  }

  #setHeader(offset: number, value: number): void {
    const at = this.#pfns[this.#first] * PAGE + offset;
    this.#ram.touch(at, 4);
    this.#ram.view.setUint32(at, value, true);
  }
}
