/**
 * A guest's side of the network, for tests: packets made and read by their offsets in the RFCs, not by the layouts under test,
 * and a TCP client that does little but insists.
 */
import assert from 'node:assert/strict';
import { Clock } from '../../../emulator/base/clock.ts';
import { Gateway, type GatewaySettings, newGateway } from '../../../emulator/network/gateway.ts';
import type { NetworkRequest } from '../../../emulator/network/outside.ts';

export const hex = (b: Uint8Array): string => Buffer.from(b).toString('hex');
export const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replace(/\s/g, ''), 'hex'));
export const ascii = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'latin1'));
export const text = (b: Uint8Array): string => Buffer.from(b).toString('latin1');
export const join = (...parts: (Uint8Array | number[])[]): Uint8Array =>
  new Uint8Array(Buffer.concat(parts.map((p) => Uint8Array.from(p))));
export const be16 = (n: number): number[] => [(n >> 8) & 255, n & 255];
export const be32 = (n: number): number[] => [(n >>> 24) & 255, (n >>> 16) & 255, (n >>> 8) & 255, n & 255];
export const ip = (address: string): number[] => address.split('.').map(Number);
export const mac = (address: string): number[] => address.split(':').map((x) => Number.parseInt(x, 16));

/** The Internet checksum, the slow way: by 16-bit words with the carry added at once. */
export function checksum(...parts: (Uint8Array | number[])[]): number {
  const all = join(...parts);
  let sum = 0;
  for (let i = 0; i < all.length; i += 2) {
    sum += all[i] * 256 + (all[i + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum ^ 0xffff;
}

export const GUEST_MAC = '00:15:5d:00:00:01';
export const GATEWAY_MAC = '02:15:5d:00:00:02';
export const BROADCAST = 'ff:ff:ff:ff:ff:ff';

export const eth = (type: number, payload: Uint8Array, to = GATEWAY_MAC, from = GUEST_MAC, vlan?: number): Uint8Array =>
  join(mac(to), mac(from), vlan === undefined ? [] : [0x81, 0, ...be16(vlan)], be16(type), payload);

export interface IpFields {
  id?: number;
  /** Bytes; a multiple of 8. */
  offset?: number;
  more?: boolean;
}
export function ipv4(from: string, to: string, protocol: number, payload: Uint8Array, f: IpFields = {}): Uint8Array {
  const flags = (f.more ? 0x2000 : 0) | ((f.offset ?? 0) / 8);
  const head = [
    0x45,
    0,
    ...be16(20 + payload.length),
    ...be16(f.id ?? 1),
    ...be16(flags),
    64,
    protocol,
    0,
    0,
    ...ip(from),
    ...ip(to),
  ];
  head.splice(10, 2, ...be16(checksum(head)));
  return join(head, payload);
}
export const pseudo = (from: string, to: string, protocol: number, length: number): number[] => [
  ...ip(from),
  ...ip(to),
  0,
  protocol,
  ...be16(length),
];
export function udp(from: string, sport: number, to: string, dport: number, data: Uint8Array): Uint8Array {
  const head = [...be16(sport), ...be16(dport), ...be16(8 + data.length), 0, 0];
  head.splice(6, 2, ...be16(checksum(pseudo(from, to, 17, 8 + data.length), head, data)));
  return ipv4(from, to, 17, join(head, data));
}
export function icmp(type: number, rest: number[], data: Uint8Array): Uint8Array {
  const head = [type, 0, 0, 0, ...rest];
  head.splice(2, 2, ...be16(checksum(head, data)));
  return join(head, data);
}
export interface Segment {
  seq: number;
  ack: number;
  flags: string;
  window: number;
  options: Uint8Array;
  data: Uint8Array;
}
const FLAGS = 'FSRPAU';
export function tcp(from: string, sport: number, to: string, dport: number, s: Partial<Segment>): Uint8Array {
  const { seq = 0, ack = 0, flags = 'A', window = 65535, options = new Uint8Array(0), data = new Uint8Array(0) } = s;
  const bits = [...flags].reduce((n, f) => n | (1 << FLAGS.indexOf(f)), 0);
  const size = 20 + options.length;
  const head = [
    ...be16(sport),
    ...be16(dport),
    ...be32(seq),
    ...be32(ack),
    size << 2,
    bits,
    ...be16(window),
    0,
    0,
    0,
    0,
    ...options,
  ];
  head.splice(16, 2, ...be16(checksum(pseudo(from, to, 6, size + data.length), head, data)));
  return ipv4(from, to, 6, join(head, data));
}

export interface Seen {
  to: string;
  vlan?: number;
  type: number;
  payload: Uint8Array;
  /** Of IPv4. */
  source?: string;
  destination?: string;
  protocol?: number;
  data?: Uint8Array;
  offset?: number;
  more?: boolean;
}
const macText = (b: Uint8Array): string => [...b].map((x) => x.toString(16).padStart(2, '0')).join(':');

/** What a frame of the gateway says; its checksums are right, or the test fails. */
export function see(frame: Uint8Array): Seen {
  const tagged = frame[12] === 0x81 && frame[13] === 0;
  const at = tagged ? 18 : 14;
  const payload = frame.subarray(at);
  const out: Seen = {
    to: macText(frame.subarray(0, 6)),
    ...(tagged ? { vlan: ((frame[14] << 8) | frame[15]) & 0xfff } : {}),
    type: (frame[at - 2] << 8) | frame[at - 1],
    payload,
  };
  if (out.type !== 0x800) return out;
  assert.equal(checksum(payload.subarray(0, 20)), 0, 'IPv4 checksum');
  const total = (payload[2] << 8) | payload[3];
  const flags = (payload[6] << 8) | payload[7];
  Object.assign(out, {
    source: [...payload.subarray(12, 16)].join('.'),
    destination: [...payload.subarray(16, 20)].join('.'),
    protocol: payload[9],
    data: payload.subarray(20, total),
    offset: (flags & 0x1fff) * 8,
    more: (flags & 0x2000) !== 0,
  });
  const { source = '', destination = '', protocol = 0, data = new Uint8Array(0), offset, more } = out;
  if (offset || more) return out;
  if (protocol === 1) assert.equal(checksum(data), 0, 'ICMP checksum');
  else assert.equal(checksum(pseudo(source, destination, protocol, data.length), data), 0, 'transport checksum');
  return out;
}

export interface SeenSegment extends Segment {
  sport: number;
  dport: number;
}
export function seeTcp(data: Uint8Array): SeenSegment {
  const v = new DataView(data.buffer, data.byteOffset, data.length);
  const size = (data[12] >> 4) * 4;
  return {
    sport: v.getUint16(0),
    dport: v.getUint16(2),
    seq: v.getUint32(4),
    ack: v.getUint32(8),
    flags: [...FLAGS].filter((_, n) => data[13] & (1 << n)).join(''),
    window: v.getUint16(14),
    options: data.slice(20, size),
    data: data.slice(size),
  };
}

/** A gateway with a clock, and a guest's end of the wire. */
export class Wire {
  readonly clock = new Clock();
  readonly state = newGateway();
  readonly asked: NetworkRequest[] = [];
  frames: Uint8Array[] = [];
  onFrame: ((frame: Uint8Array) => void) | undefined;
  mtu = 1500;
  readonly gateway: Gateway;

  constructor(settings: Partial<GatewaySettings> = {}) {
    this.gateway = new Gateway(
      {
        clock: this.clock,
        mtu: () => this.mtu,
        deliver: (frames) => {
          for (const f of frames) {
            assert.ok(f.length <= this.mtu + 18, `frame of ${f.length} bytes`);
            if (this.onFrame) this.onFrame(f);
            else this.frames.push(f);
          }
        },
        ask: (request) => this.asked.push(request),
      },
      this.state,
    );
    this.gateway.configure({ mode: 'internal', vlans: [], names: {}, ...settings });
  }

  advance(ns: number): void {
    const end = this.clock.now + ns;
    while (this.clock.nextDue <= end) {
      this.clock.skipTo(this.clock.nextDue);
      this.clock.fireDue();
    }
    this.clock.skipTo(end);
  }

  /** Sends a frame; what comes back within a tenth of a millisecond. */
  say(frame: Uint8Array): Seen[] {
    this.gateway.transmit(frame);
    this.advance(100_000);
    const out = this.frames.map(see);
    this.frames = [];
    return out;
  }

  /** The same for an IPv4 datagram. */
  ip(datagram: Uint8Array, vlan?: number): Seen[] {
    return this.say(eth(0x800, datagram, GATEWAY_MAC, GUEST_MAC, vlan));
  }
}

const MS = 1_000_000;
const diff = (a: number, b: number): number => (a - b) | 0;

/**
 * A TCP client: sends what it has in a window, all of it again after a timeout; takes data in order only, so that what the
 * link loses or turns round has to be sent again; may read slowly.
 */
export class Client {
  readonly wire: Wire;
  readonly from: string;
  readonly to: string;
  readonly port: number;
  readonly local: number;
  /** What becomes of a frame in either direction: lost, or later by so many ns. */
  fate: () => { lost: boolean; delay: number; twice?: boolean } = () => ({ lost: false, delay: 0 });
  state: 'closed' | 'opening' | 'open' | 'reset' = 'closed';
  #iss = 0xffff_f000;
  una = this.#iss;
  next = this.#iss;
  rcv = 0;
  out: Uint8Array = new Uint8Array(0);
  fin = false;
  finAcked = false;
  readonly got: Uint8Array[] = [];
  ended = false;
  /** Room that it tells of, in bytes (scaled by 2 to the power of 2). */
  window = 65536;
  peer = 0;
  mss = 1000;
  segments = 0;

  constructor(wire: Wire, to: string, port: number, local = 40000, from = '10.0.2.15') {
    Object.assign(this, { wire, to, port, local, from });
    this.wire = wire;
    this.to = to;
    this.port = port;
    this.local = local;
    this.from = from;
    wire.clock.on(`client/${local}`, () => this.#timeout());
    let n = 0;
    const queue: { due: number; seq: number; run: () => void }[] = [];
    wire.clock.on(`link/${local}`, () => {
      while (queue.length > 0 && queue[0].due <= wire.clock.now) queue.shift()?.run();
      if (queue.length > 0) wire.clock.set(`link/${local}`, queue[0].due);
    });
    this.later = (delay, run) => {
      queue.push({ due: wire.clock.now + delay, seq: n++, run });
      queue.sort((a, b) => a.due - b.due || a.seq - b.seq);
      wire.clock.set(`link/${local}`, queue[0].due);
    };
    const before = wire.onFrame;
    wire.onFrame = (frame) => {
      const s = see(frame);
      const segment = s.protocol === 6 && s.data ? seeTcp(s.data) : undefined;
      if (segment?.dport !== local || segment.sport !== port) {
        before?.(frame);
        return;
      }
      const { lost, delay, twice } = this.fate();
      if (lost) return;
      this.later(delay, () => this.#take(segment));
      if (twice) this.later(delay + 1, () => this.#take(segment));
    };
  }
  later: (delay: number, run: () => void) => void;

  open(): void {
    this.state = 'opening';
    this.#send({ seq: this.#iss, flags: 'S', options: Uint8Array.from([2, 4, ...be16(1460), 1, 3, 3, 2]) });
    this.next = (this.#iss + 1) >>> 0;
    this.#arm();
  }
  write(data: Uint8Array): void {
    this.out = join(this.out, data);
    this.#output();
  }
  close(): void {
    this.fin = true;
    this.#output();
  }
  /** Tells of more room. */
  read(window: number): void {
    this.window = window;
    this.#send({});
  }
  get received(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.got));
  }

  #send(s: Partial<Segment>): void {
    const window = Math.min(65535, s.flags === 'S' ? this.window : this.window >> 2);
    const frame = eth(0x800, tcp(this.from, this.local, this.to, this.port, { seq: this.next, ack: this.rcv, window, ...s }));
    this.segments++;
    const { lost, delay, twice } = this.fate();
    if (lost) return;
    this.later(delay, () => this.wire.gateway.transmit(frame));
    if (twice) this.later(delay + 1, () => this.wire.gateway.transmit(frame));
  }

  #arm(): void {
    this.wire.clock.set(`client/${this.local}`, this.wire.clock.now + 300 * MS);
  }

  #timeout(): void {
    if (this.state === 'opening') this.open();
    else if (this.state === 'open' && (this.una !== this.next || this.out.length > 0 || (this.fin && !this.finAcked))) {
      this.next = this.una;
      this.#output(true);
      this.#arm();
    }
  }

  #output(probe = false): void {
    if (this.state !== 'open') return;
    for (;;) {
      const sent = diff(this.next, this.una);
      const n = Math.min(this.mss, this.out.length - sent, Math.max(probe && sent === 0 ? 1 : 0, this.peer - sent));
      if (n <= 0) break;
      this.#send({ flags: 'AP', data: this.out.subarray(sent, sent + n) });
      this.next = (this.next + n) >>> 0;
    }
    if (this.fin && !this.finAcked && diff(this.next, this.una) === this.out.length) {
      this.#send({ flags: 'AF' });
      this.next = (this.next + 1) >>> 0;
    }
    if (this.una !== this.next || this.out.length > 0) this.#arm();
  }

  #take(s: SeenSegment): void {
    if (s.flags.includes('R')) {
      // An acknowledgment that comes late may be for a connection that is no more.
      if (this.ended && this.finAcked) return;
      this.state = 'reset';
      this.wire.clock.cancel(`client/${this.local}`);
      return;
    }
    if (this.state === 'opening') {
      if (s.flags !== 'SA' || s.ack !== (this.#iss + 1) >>> 0) return;
      this.rcv = (s.seq + 1) >>> 0;
      this.una = this.next = s.ack;
      this.peer = s.window;
      this.state = 'open';
      this.#send({});
      this.#output();
      return;
    }
    const acked = diff(s.ack, this.una);
    if (acked > 0 && diff(s.ack, this.next) <= 0) {
      if (acked > this.out.length) this.finAcked = true;
      this.out = this.out.slice(Math.min(acked, this.out.length));
      this.una = s.ack;
    }
    if (diff(this.next, this.una) < 0) this.next = this.una;
    this.peer = s.window << 3;
    const known = diff(this.rcv, s.seq);
    const length = s.data.length + (s.flags.includes('F') ? 1 : 0);
    if (known >= 0 && known < length) {
      const fresh = s.data.subarray(known, known + this.window);
      if (fresh.length > 0) this.got.push(fresh.slice());
      this.rcv = (this.rcv + fresh.length) >>> 0;
      if (s.flags.includes('F') && known + fresh.length === s.data.length) {
        this.rcv = (this.rcv + 1) >>> 0;
        this.ended = true;
      }
    }
    if (length > 0) this.#send({});
    this.#output();
  }
}
