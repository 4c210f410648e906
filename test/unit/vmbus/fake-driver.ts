/**
 * A small VMBus guest in the manner of Linux's: posts messages, takes answers from its message page, makes GPADLs and rings
 * in RAM, answers the integration components. Written from offsets, not from the layouts under test.
 */
import { viewOf } from '../../../emulator/base/struct.ts';
import { guidText } from '../../../emulator/base/guid.ts';
import type { ChannelInfo } from '../../../emulator/index.ts';
import { Vmbus, type VmbusOptions } from '../../../emulator/vmbus/connection.ts';
import { FakeGuest, type FakeOptions } from '../hyperv/fake-guest.ts';

const PAGE = 4096;
const HYPERCALL_PAGE = 0x8000;

export interface GuestPacket {
  type: number;
  transactionId: bigint;
  flags: number;
  /** Between descriptor and payload. */
  ranges: Uint8Array;
  payload: Uint8Array;
}

/** A ring as the guest sees it: pages need not follow one another. */
export class GuestRing {
  readonly g: FakeGuest;
  readonly pfns: number[];
  readonly size: number;

  constructor(g: FakeGuest, pfns: number[]) {
    this.g = g;
    this.pfns = pfns;
    this.size = (pfns.length - 1) * PAGE;
  }
  header(index: number): number {
    return this.g.ram.view.getUint32(this.pfns[0] * PAGE + 4 * index, true);
  }
  setHeader(index: number, value: number): void {
    this.g.ram.view.setUint32(this.pfns[0] * PAGE + 4 * index, value, true);
  }
  byte(at: number): number {
    const i = at % this.size;
    return this.pfns[1 + Math.floor(i / PAGE)] * PAGE + (i % PAGE);
  }
  /** Zeroed, with the pending-send-size feature: what a guest does before OPEN. */
  reset(): void {
    for (let i = 0; i < 17; i++) this.setHeader(i, 0);
    this.setHeader(16, 1);
  }
  get used(): number {
    return (this.header(0) - this.header(1) + this.size) % this.size;
  }
  /** Appends a packet, `ranges` between descriptor and payload; true when the host must be signalled. */
  put(type: number, transactionId: bigint, payload: Uint8Array, flags = 0, ranges: Uint8Array = new Uint8Array(0)): boolean {
    const start = 16 + ranges.length;
    const length = start + Math.ceil(payload.length / 8) * 8;
    const packet = new Uint8Array(length + 8);
    const view = viewOf(packet);
    view.setUint16(0, type, true);
    view.setUint16(2, start / 8, true);
    view.setUint16(4, length / 8, true);
    view.setUint16(6, flags, true);
    view.setBigUint64(8, transactionId, true);
    packet.set(ranges, 16);
    packet.set(payload, start);
    const at = this.header(0);
    view.setUint32(length + 4, at, true);
    packet.forEach((b, i) => {
      this.g.ram.bytes[this.byte(at + i)] = b;
    });
    this.setHeader(0, (at + packet.length) % this.size);
    return this.header(1) === at && this.header(2) === 0;
  }
  /** Takes a packet, and checks its trailer. */
  take(): GuestPacket | undefined {
    if (this.used === 0) return undefined;
    const at = this.header(1);
    const read = (from: number, n: number): Uint8Array =>
      Uint8Array.from({ length: n }, (_, i) => this.g.ram.bytes[this.byte(at + from + i)]);
    const d = viewOf(read(0, 16));
    const length = d.getUint16(4, true) * 8;
    const start = d.getUint16(2, true) * 8;
    const trailer = viewOf(read(length, 8));
    if (trailer.getUint32(0, true) !== 0 || trailer.getUint32(4, true) !== at) throw new Error('bad trailer');
    this.setHeader(1, (at + length + 8) % this.size);
    return {
      type: d.getUint16(0, true),
      transactionId: d.getBigUint64(8, true),
      flags: d.getUint16(6, true),
      ranges: read(16, start - 16),
      payload: read(start, length - start),
    };
  }
}

export interface OpenedChannel {
  relid: number;
  connectionId: number;
  out: GuestRing;
  in: GuestRing;
}

/** What VERSION_RESPONSE says. */
export interface Contact {
  supported: number;
  state: number;
  connection: number;
  features?: number;
}

export class FakeDriver extends FakeGuest {
  readonly vmbus: Vmbus;
  /** Messages from the host, oldest first. */
  readonly inbox: { type: number; payload: Uint8Array }[] = [];
  readonly offers = new Map<string, { relid: number; connectionId: number; payload: Uint8Array }>();
  readonly channels = new Map<number, OpenedChannel>();
  connection = 4;
  #nextPage = 0x200;
  #nextGpadl = 0xe1e10;

  constructor(options: FakeOptions & Omit<VmbusOptions, 'startTime'> = {}) {
    super(options);
    this.vmbus = new Vmbus(this.partition, { startTime: 1_767_225_600_000, ...options });
  }

  /** Words (u32) and bytes as one payload. */
  static message(type: number, ...words: (number | Uint8Array)[]): Uint8Array {
    const parts = [type, 0, ...words].map((w) => {
      if (typeof w !== 'number') return w;
      const b = new Uint8Array(4);
      viewOf(b).setUint32(0, w >>> 0, true);
      return b;
    });
    const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
    let at = 0;
    for (const p of parts) {
      out.set(p, at);
      at += p.length;
    }
    return out;
  }

  /** Posts a message and takes the answers; the status' name. */
  post(payload: Uint8Array, connection = this.connection, pump = true): string | undefined {
    const words = [connection, 0, 1, payload.length];
    words.forEach((w, i) => {
      this.ram.view.setUint32(HYPERCALL_PAGE + 4 * i, w, true);
    });
    this.ram.bytes.set(payload.subarray(0, 240), HYPERCALL_PAGE + 16);
    const status = this.smccc(0x5cn, [BigInt(HYPERCALL_PAGE), 0n]).statusName;
    if (pump) this.pump();
    return status;
  }

  /** Takes everything out of the message slots of all VPs, as the message interrupt handler does. */
  pump(): void {
    for (let vp = 0; vp < this.host.vpCount; vp++)
      for (let slot = this.slot(vp); slot.type !== 0; slot = this.slot(vp)) {
        if (slot.type === 1) this.inbox.push({ type: viewOf(slot.payload).getUint32(0, true), payload: slot.payload });
        if (this.free(vp)) this.set('HvRegisterEom', 0n, vp);
      }
  }

  /** The oldest message not looked at yet; fails when there is none. */
  next(type: number): DataView {
    const m = this.inbox.shift();
    if (m?.type !== type) throw new Error(`expected message ${type}, got ${m?.type}`);
    return viewOf(m.payload);
  }

  /** INITIATE_CONTACT with monitor pages; what VERSION_RESPONSE says. Feature flags exist from 6.0 on. */
  contact(version: number, vp = 0, monitor: [number, number] = [0, 0], features = 0): Contact {
    const modern = version >= 0x5_0000;
    const target = modern ? [2, features] : [0x9000, 0];
    this.post(FakeDriver.message(14, version, vp, ...target, monitor[0], 0, monitor[1], 0), modern ? 4 : 1);
    const view = this.next(15);
    return {
      supported: view.getUint8(8),
      state: view.getUint8(9),
      connection: view.getUint32(12, true),
      ...(view.byteLength > 16 ? { features: view.getUint32(16, true) } : {}),
    };
  }

  /** SynIC, version, offers: what hv_vmbus does before it probes drivers. */
  connect(version = 0x5_0003, vp = 0, monitor: [number, number] = [0, 0]): void {
    for (let n = 0; n < this.host.vpCount; n++) this.setUpSynic(n);
    const answer = this.contact(version, vp, monitor);
    if (answer.supported !== 1) throw new Error('version refused');
    this.connection = version >= 0x5_0000 ? answer.connection : 1;
    this.post(FakeDriver.message(3));
    for (;;) {
      const m = this.inbox.shift();
      if (m?.type === 4) return;
      if (m?.type !== 1) throw new Error(`expected an offer, got ${m?.type}`);
      const view = viewOf(m.payload);
      const relid = view.getUint32(184, true);
      this.offers.set(guidText(m.payload, 8), { relid, connectionId: view.getUint32(192, true), payload: m.payload });
    }
  }

  /** Fresh pages, deliberately not contiguous. */
  pages(n: number): number[] {
    return Array.from({ length: n }, () => (this.#nextPage += 3));
  }

  /** Creates a GPADL of one range and waits for it; its id. */
  gpadl(relid: number, pfns: number[], id = this.#nextGpadl++): number {
    const qwords = (list: number[]): Uint8Array => {
      const b = new Uint8Array(8 * list.length);
      list.forEach((p, i) => {
        viewOf(b).setBigUint64(8 * i, BigInt(p), true);
      });
      return b;
    };
    const head = new Uint8Array(4);
    viewOf(head).setUint16(0, 8 + 8 * pfns.length, true);
    viewOf(head).setUint16(2, 1, true);
    this.post(FakeDriver.message(8, relid, id, head, pfns.length * PAGE, 0, qwords(pfns.slice(0, 26))));
    for (let at = 26, n = 0; at < pfns.length; at += 28, n++)
      this.post(FakeDriver.message(9, n, id, qwords(pfns.slice(at, at + 28))));
    const view = this.next(10);
    if (view.getUint32(8, true) !== relid || view.getUint32(12, true) !== id) throw new Error('GPADL_CREATED for another');
    if (view.getUint32(16, true) !== 0) throw new Error(`GPADL refused: 0x${view.getUint32(16, true).toString(16)}`);
    return id;
  }

  /** OPEN; the status. */
  openMessage(relid: number, openId: number, gpadl: number, vp: number, downstream: number): number {
    this.post(FakeDriver.message(5, relid, openId, gpadl, vp, downstream, new Uint8Array(120)));
    const view = this.next(6);
    if (view.getUint32(8, true) !== relid || view.getUint32(12, true) !== openId) throw new Error('OPEN_RESULT for another');
    return view.getUint32(16, true);
  }

  /** GPADL, rings, OPEN: vmbus_open. `pages` per ring, header included. */
  open(relid: number, pages = 4, vp = 0): OpenedChannel {
    const pfns = this.pages(2 * pages);
    const gpadl = this.gpadl(relid, pfns);
    const channel = {
      relid,
      connectionId: 0x2000 + relid,
      out: new GuestRing(this, pfns.slice(0, pages)),
      in: new GuestRing(this, pfns.slice(pages)),
    };
    channel.out.reset();
    channel.in.reset();
    const status = this.openMessage(relid, relid, gpadl, vp, pages);
    if (status !== 0) throw new Error(`OPEN failed: 0x${status.toString(16)}`);
    this.channels.set(relid, channel);
    return channel;
  }

  signal(channel: { connectionId: number }): string | undefined {
    return this.smccc(0x1_005dn, [BigInt(channel.connectionId)]).statusName;
  }

  /** Event flags of a VP that are set, cleared by looking. */
  takeFlags(vp = 0): number[] {
    const area = 0x10_1000 + vp * 0x2000 + 2 * 256;
    const out: number[] = [];
    for (let bit = 0; bit < 2048; bit++)
      if (this.ram.bytes[area + (bit >> 3)] & (1 << (bit & 7))) {
        out.push(bit);
        this.ram.bytes[area + (bit >> 3)] &= ~(1 << (bit & 7));
      }
    return out;
  }

  send(channel: OpenedChannel, payload: Uint8Array, transactionId = 1n, flags = 0): void {
    if (channel.out.put(6, transactionId, payload, flags)) this.signal(channel);
  }

  /** Channel as the debugger sees it. */
  channelInfo(relid: number): ChannelInfo {
    const info = this.vmbus.info().channels.find((c) => c.relid === relid);
    if (!info) throw new Error(`channel ${relid} is not offered`);
    return info;
  }

  /** relid by short name. */
  relidOf(device: string): number {
    const info = this.vmbus.info().channels.find((c) => c.device === device);
    if (!info) throw new Error(`${device} is not offered`);
    return info.relid;
  }
}

/** The fields of an IC packet. */
export const ic = (p: GuestPacket | undefined) => {
  if (!p) throw new Error('no packet');
  const v = viewOf(p.payload);
  return {
    pipe: [v.getUint32(0, true), v.getUint32(4, true)],
    type: v.getUint16(12, true),
    version: [v.getUint16(14, true), v.getUint16(16, true)],
    size: v.getUint16(18, true),
    transaction: v.getUint8(24),
    flags: v.getUint8(25),
    body: new DataView(p.payload.buffer, p.payload.byteOffset + 28, v.getUint16(18, true)),
  };
};

/** Turns a request into Linux's answer to it, in the same buffer: flags, and what `edit` does to the body. */
export const icAnswer = (p: GuestPacket, edit: (body: DataView) => void = () => {}): Uint8Array => {
  const out = p.payload.slice();
  out[25] = 5;
  edit(new DataView(out.buffer, 28));
  return out;
};

/** Linux's answer to a negotiation: one framework version, one message version. */
export const icNegotiated = (p: GuestPacket, version: [number, number], counts = [1, 1]): Uint8Array =>
  icAnswer(p, (body) => {
    [counts[0], counts[1], 0, 0, 3, 0, version[0], version[1]].forEach((w, i) => {
      body.setUint16(2 * i, w, true);
    });
  });
