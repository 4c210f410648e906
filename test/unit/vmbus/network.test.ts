import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { viewOf } from '../../../emulator/base/struct.ts';
import { ConfigError, type NetworkConfig } from '../../../emulator/config.ts';
import { assign, capture } from '../../../emulator/snapshot.ts';
import { toeplitz } from '../../../emulator/vmbus/devices/network/rss.ts';
import {
  ascii,
  be16,
  checksum,
  eth,
  GUEST_MAC,
  hex,
  icmp,
  ip,
  ipv4,
  join,
  mac,
  pseudo,
  type Seen,
  see,
  seeTcp,
  tcp,
  text,
  udp,
} from '../network/guest-stack.ts';
import { FakeDriver, type GuestPacket, type OpenedChannel } from './fake-driver.ts';

const MS = 1_000_000;
const PAGE = 4096;
const NETWORK = 'f8615163-df3e-46c5-913f-f2d2f965ed0e';
const GUEST = '10.0.2.15';
const GATEWAY = '10.0.2.2';
const SECTION = 6144;

const le16 = (n: number): number[] => [n & 255, (n >> 8) & 255];
const le32 = (n: number): number[] => [n & 255, (n >>> 8) & 255, (n >>> 16) & 255, (n >>> 24) & 255];
const words = (...values: number[]): Uint8Array => join(...values.map(le32));

/** RNDIS QUERY and SET ask with this. */
const OID = {
  filter: 0x0001_010e,
  frame: 0x0001_0106,
  link: 0x0001_0114,
  rssCapabilities: 0x0001_0203,
  rss: 0x0001_0204,
  config: 0x0001_021b,
  permanentMac: 0x0101_0101,
  currentMac: 0x0101_0102,
  offloadParameters: 0xfc01_020c,
  offloadCapabilities: 0xfc01_020d,
} as const;

interface Message {
  type: number;
  body: DataView;
  /** Of a packet: its frame and the information that came with it. */
  frame?: Uint8Array;
  info: Record<number, number>;
  channelType: number;
}

/** netvsc in small: written from the offsets of the reference, not from our layouts. */
class Netvsc {
  readonly d: FakeDriver;
  channel: OpenedChannel;
  /** Pages of both buffers, deliberately not contiguous. */
  readonly receivePages: number[];
  readonly sendPages: number[];
  /** Where requests are. */
  readonly page: number;
  receiveGpadl = 0;
  sendGpadl = 0;
  size = 28;
  sectionSize = 0;
  sections = 0;
  #transaction = 1n;
  #request = 1;
  /** Completes transfers as they are read. */
  completes = true;

  constructor(network: Partial<NetworkConfig> = {}, options: { vps?: number; pages?: number; receivePages?: number } = {}) {
    this.d = new FakeDriver({ ...options, network: { mode: 'internal', ...network } });
    this.d.connect();
    this.channel = this.d.open(this.d.relidOf('network'), options.pages ?? 8);
    this.receivePages = this.d.pages(options.receivePages ?? 24);
    this.sendPages = this.d.pages(4);
    [this.page] = this.d.pages(1);
  }

  message(type: number, ...body: number[]): Uint8Array {
    const out = new Uint8Array(40);
    out.set(words(type, ...body));
    return out;
  }

  /** A request; its completion. */
  ask(message: Uint8Array, channel = this.channel): GuestPacket {
    const id = this.#transaction++;
    this.d.send(channel, message, id, 1);
    const p = channel.in.take();
    assert.deepEqual([p?.type, p?.transactionId], [11, id], 'no completion');
    return p as GuestPacket;
  }
  tell(message: Uint8Array): void {
    this.d.send(this.channel, message, 0n, 0);
    assert.equal(this.channel.in.used, 0);
  }

  /** A completion's words. */
  static words(p: GuestPacket): number[] {
    return Array.from({ length: p.payload.length >> 2 }, (_, n) => viewOf(p.payload).getUint32(4 * n, true));
  }

  /** NVSP as Linux does it. */
  negotiate(version = 0x6_0001, mtu = 1514): this {
    const p = this.ask(this.message(1, version, version));
    this.size = version >= 0x6_0001 ? 40 : 32;
    assert.deepEqual([p.payload.length, ...Netvsc.words(p).slice(0, 4)], [this.size, 2, version === 2 ? 2 : 0xffff_ffff, 34, 1]);
    if (version > 2) this.tell(this.message(125, mtu, 0, 8, 0));
    this.tell(this.message(100, 6, version >= 0x5_0000 ? 30 : 1));
    this.receiveGpadl = this.d.gpadl(this.channel.relid, this.receivePages);
    this.sendGpadl = this.d.gpadl(this.channel.relid, this.sendPages);
    const receive = Netvsc.words(this.ask(this.message(101, this.receiveGpadl, 0xcafe)));
    [this.sectionSize, this.sections] = [receive[4], receive[5]];
    const most = this.receivePages.length * PAGE;
    assert.deepEqual(receive.slice(0, 4), [102, 1, 1, 0]);
    assert.deepEqual([this.sections, receive[6]], [Math.floor(most / this.sectionSize), this.sections * this.sectionSize]);
    assert.deepEqual(Netvsc.words(this.ask(this.message(104, this.sendGpadl, 0))).slice(0, 3), [105, 1, SECTION]);
    return this;
  }

  at(pages: number[], offset: number): number {
    return pages[Math.floor(offset / PAGE)] * PAGE + (offset % PAGE);
  }

  /** A message of RNDIS by a page of its own: a GPA direct packet with one range. Its completion's status; the rest stays in the ring. */
  rndis(message: Uint8Array, channelType = 1, channel = this.channel): number | undefined {
    this.d.ram.bytes.set(message, this.page * PAGE + 0x100);
    const ranges = join(words(0, 1, message.length, 0x100, this.page, 0));
    return this.submit(this.message(107, channelType, 0xffff_ffff, 0), ranges, channel);
  }
  submit(message: Uint8Array, ranges: Uint8Array | undefined, channel = this.channel): number | undefined {
    const id = this.#transaction++;
    const signal = channel.out.put(ranges ? 9 : 6, id, message, 1, ranges);
    if (signal) this.d.signal(channel);
    for (;;) {
      const p = channel.in.take();
      if (!p) return undefined;
      if (p.type !== 11) {
        this.#take(p, channel);
        continue;
      }
      assert.equal(p.transactionId, id);
      return p.payload.length >= 8 && viewOf(p.payload).getUint32(0, true) === 108
        ? viewOf(p.payload).getUint32(4, true)
        : undefined;
    }
  }

  readonly inbox: (Message & { channel: OpenedChannel })[] = [];
  readonly open: { id: bigint; channel: OpenedChannel }[] = [];
  /** Messages of a transfer out of the receive buffer. */
  #take(p: GuestPacket, channel: OpenedChannel): void {
    const header = viewOf(p.ranges);
    const [type, channelType, section] = Netvsc.words(p);
    assert.deepEqual([p.type, p.flags, header.getUint16(0, true), type, section], [7, 1, 0xcafe, 107, 0xffff_ffff]);
    const count = header.getUint32(4, true);
    assert.equal(p.ranges.length, 8 + 8 * count);
    for (let n = 0; n < count; n++) {
      const length = header.getUint32(8 + 8 * n, true);
      const offset = header.getUint32(12 + 8 * n, true);
      assert.ok(length <= this.sectionSize && offset % this.sectionSize === 0 && offset < this.sections * this.sectionSize);
      const message = Uint8Array.from({ length }, (_, i) => this.d.ram.bytes[this.at(this.receivePages, offset + i)]);
      this.inbox.push({ ...Netvsc.parse(message, channelType), channel });
    }
    if (this.completes) this.complete(p.transactionId, channel);
    else this.open.push({ id: p.transactionId, channel });
  }
  complete(id: bigint, channel: OpenedChannel, status = 1): void {
    if (channel.out.put(11, id, words(108, status))) this.d.signal(channel);
  }

  static parse(message: Uint8Array, channelType: number): Message {
    const v = viewOf(message);
    assert.equal(v.getUint32(4, true), message.length);
    const body = new DataView(message.buffer, message.byteOffset + 8, message.length - 8);
    const out: Message = { type: v.getUint32(0, true), body, info: {}, channelType };
    if (out.type !== 1) return out;
    const [data, length, , , , at, size] = Array.from({ length: 9 }, (_, n) => body.getUint32(4 * n, true));
    out.frame = message.slice(8 + data, 8 + data + length);
    assert.equal(8 + data + length, message.length);
    for (let i = at; i < at + size; i += body.getUint32(i, true))
      out.info[body.getUint32(i + 4, true)] = body.getUint32(i + body.getUint32(i + 8, true), true);
    return out;
  }

  /** What has come until now, on every channel. */
  arrived(): (Message & { channel: OpenedChannel })[] {
    for (const channel of this.d.channels.values())
      for (let p = channel.in.take(); p; p = channel.in.take()) if (p.type === 7) this.#take(p, channel);
    return this.inbox.splice(0);
  }

  /** An RNDIS request and the body of its answer. */
  request(type: number, ...body: (Uint8Array | number[])[]): DataView {
    const id = this.#request++;
    const parts = join(le32(id), ...body);
    assert.equal(this.rndis(join(le32(type), le32(8 + parts.length), parts)), 1);
    const answers = this.arrived().filter((m) => m.type !== 7);
    assert.deepEqual(
      answers.map((m) => [m.type, m.channelType, m.body.getUint32(0, true)]),
      [[0x8000_0000 + type, 1, id]],
    );
    return answers[0].body;
  }
  /** Status and information of a QUERY. */
  query(oid: number): { status: number; data: Uint8Array } {
    const b = this.request(4, words(oid, 0, 20, 0));
    const [status, length, offset] = [4, 8, 12].map((at) => b.getUint32(at, true));
    assert.equal(b.byteLength, offset + length);
    return { status, data: new Uint8Array(b.buffer, b.byteOffset + offset, length).slice() };
  }
  set(oid: number, data: Uint8Array | number[]): number {
    return this.request(5, words(oid, data.length, 20, 0), data).getUint32(4, true);
  }

  /** RNDIS as Linux does it: up and listening. */
  ready(version?: number, mtu?: number): this {
    this.negotiate(version, mtu);
    const init = this.request(2, words(1, 0, 0x4000));
    assert.deepEqual(
      [4, 8, 12, 16, 20, 24, 32].map((at) => init.getUint32(at, true)),
      [0, 1, 0, 1, 0, 8, 3],
    );
    assert.equal(this.set(OID.filter, le32(0xd)), 0);
    return this;
  }

  /** A PACKET message, with information by type. */
  static packet(frame: Uint8Array, info: Record<number, number> = {}): Uint8Array {
    const list = Object.entries(info).map(([type, value]) => words(16, Number(type), 12, value));
    const size = 16 * list.length;
    return join(words(1, 44 + size + frame.length, 36 + size, frame.length, 0, 0, 0, 36, size, 0, 0), ...list, frame);
  }
  /** Sends a frame; the completion's status. */
  send(frame: Uint8Array, info?: Record<number, number>, channel = this.channel): number | undefined {
    return this.rndis(Netvsc.packet(frame, info), 0, channel);
  }
  /** The same, and the frames that come back. */
  talk(frame: Uint8Array, info?: Record<number, number>): (Message & { seen: Seen })[] {
    assert.equal(this.send(frame, info), 1);
    this.d.advance(MS);
    return this.arrived().map((m) => ({ ...m, seen: see(m.frame ?? new Uint8Array(14)) }));
  }
  details(): {
    version?: string;
    frames?: Record<string, string>;
    waiting: number;
    receiveBuffer?: string;
    statistics: Record<string, number>;
  } {
    return this.d.channelInfo(this.channel.relid).details as never;
  }
}

const arp = (from = GUEST, to = GATEWAY): Uint8Array =>
  eth(0x806, join([0, 1, 8, 0, 6, 4, 0, 1], mac(GUEST_MAC), ip(from), mac('00:00:00:00:00:00'), ip(to)), 'ff:ff:ff:ff:ff:ff');
const ping = (data = ascii('abcdefgh')): Uint8Array => eth(0x800, ipv4(GUEST, GATEWAY, 1, icmp(8, [0, 7, 0, 1], data)));

test('versions: each that Linux tries is taken, others are not, and what a version does not have is refused', () => {
  for (const [version, name] of [
    [2, '1'],
    [0x3_0002, '2'],
    [0x4_0000, '4'],
    [0x5_0000, '5'],
    [0x6_0000, '6'],
    [0x6_0001, '6.1'],
  ] as const) {
    const n = new Netvsc().negotiate(version);
    assert.equal(n.details().version, `NVSP ${name}`);
    // Sub-channels came with 5: before, they are completed without an answer.
    assert.equal(n.ask(n.message(133, 1, 1)).payload.length > 0, version >= 0x5_0000);
  }
  const n = new Netvsc();
  for (const version of [0, 1, 0x6_0002, 0x7_0000]) assert.equal(Netvsc.words(n.ask(n.message(1, version, version)))[3], 0);
  assert.deepEqual([n.ask(n.message(101, 1, 0xcafe)).payload.length, n.ask(n.message(77)).payload.length], [0, 0]);
  assert.match(n.d.notes().join('\n'), /before a version is agreed on[\s\S]*no such request here/);
});

test('buffers: what is no buffer is refused; sections are as large as the MTU wants; one that is gone is not written', () => {
  const n = new Netvsc();
  const status = (type: number, gpadl: number): number => Netvsc.words(n.ask(n.message(type, gpadl, 0xcafe)))[1];
  n.ask(n.message(1, 0x6_0001, 0x6_0001));
  const tiny = n.d.gpadl(n.channel.relid, n.d.pages(1));
  const foreign = n.d.gpadl(n.d.relidOf('keyboard'), n.d.pages(20));
  assert.deepEqual(
    [status(101, 999), status(101, tiny), status(101, foreign), status(104, 999), status(104, tiny)],
    [2, 2, 2, 2, 2],
  );
  for (const [mtu, size, frame] of [
    [1514, 1728, 1500],
    [9014, 9232, 9000],
    [20_000, 1728, 1500],
    [100, 1728, 1500],
  ]) {
    const m = new Netvsc({}, { receivePages: 60 }).ready(undefined, mtu);
    assert.deepEqual([m.sectionSize, viewOf(m.query(OID.frame).data).getUint32(0, true)], [size, frame]);
  }
  const m = new Netvsc().ready();
  m.talk(arp());
  assert.equal(m.send(ping()), 1);
  m.d.post(FakeDriver.message(11, m.channel.relid, m.receiveGpadl));
  m.d.next(12);
  const before = m.receivePages.map((p) => hex(m.d.ram.bytes.subarray(p * PAGE, (p + 1) * PAGE)));
  m.d.advance(MS);
  assert.deepEqual(m.arrived(), []);
  assert.deepEqual(
    m.receivePages.map((p) => hex(m.d.ram.bytes.subarray(p * PAGE, (p + 1) * PAGE))),
    before,
  );
  // A send buffer that is gone: what is said to be in it is not there.
  const s = new Netvsc().ready();
  s.d.post(FakeDriver.message(11, s.channel.relid, s.sendGpadl));
  s.d.next(12);
  assert.equal(s.submit(s.message(107, 0, 0, 100), undefined), 5);
  // Both can be revoked and sent again.
  const r = new Netvsc().ready();
  r.tell(r.message(103, 0xcafe));
  r.tell(r.message(106, 0));
  assert.deepEqual(
    [Netvsc.words(r.ask(r.message(101, r.receiveGpadl, 0xcafe)))[1], Netvsc.words(r.ask(r.message(104, r.sendGpadl, 0)))[1]],
    [1, 1],
  );
  assert.equal(r.talk(arp()).length, 1);
});

test('object identifiers that Linux asks for, and those that there are not', () => {
  const n = new Netvsc({ mac: '00:15:5d:12:34:56' }).ready();
  assert.deepEqual(
    [OID.frame, OID.permanentMac, OID.currentMac, OID.link, 0x0001_0107, 0x0002_0216].map((oid) => hex(n.query(oid).data)),
    ['dc050000', '00155d123456', '00155d123456', '00000000', '00e1f505', `${hex(Buffer.from('Network Adapter\0', 'utf16le'))}`],
  );
  const rss = n.query(OID.rssCapabilities).data;
  assert.deepEqual(
    [hex(rss.subarray(0, 4)), rss.length, viewOf(rss).getUint32(12, true), viewOf(rss).getUint16(16, true)],
    ['88021200', 18, 2, 128],
  );
  assert.deepEqual(
    [n.query(0x1234_5678).status, n.set(0x1234_5678, [1, 2, 3, 4]), n.set(OID.filter, [1])],
    [0xc000_00bb, 0xc000_00bb, 0xc001_0014],
  );
  const list = n.query(0x0001_0101).data;
  for (let at = 0; at < list.length; at += 4) {
    const oid = viewOf(list).getUint32(at, true);
    const asked = n.query(oid);
    // What cannot be asked for can be set.
    if (asked.status !== 0) assert.ok(n.set(oid, []) !== 0xc000_00bb, `0x${oid.toString(16)}`);
  }
  // NDIS 6.1, which NVSP 4 has, knows no receive side scaling.
  assert.equal(new Netvsc().ready(0x4_0000).query(OID.rssCapabilities).status, 0xc000_00bb);
  // Keep-alive, reset, halt.
  assert.equal(n.request(8).getUint32(4, true), 0);
  assert.equal(n.rndis(words(6, 12, 0)), 1);
  assert.deepEqual(
    n.arrived().map((m) => [m.type, m.body.getUint32(0, true)]),
    [[0x8000_0006, 0]],
  );
  assert.equal(n.rndis(words(3, 12, 5)), 1);
  assert.equal(n.rndis(words(4, 28, 1, OID.frame, 0, 20, 0)), 5);
});

test('offloads: what the card says that it can do, by NDIS version, and what is switched on', () => {
  const size = (version: number): [number, number] => {
    const { data } = new Netvsc().ready(version).query(OID.offloadCapabilities);
    return [data[1], data.length];
  };
  assert.deepEqual(
    [size(0x4_0000), size(0x6_0001)],
    [
      [2, 0x90],
      [3, 0x9c],
    ],
  );
  const n = new Netvsc().ready();
  const capabilities = n.query(OID.offloadCapabilities).data;
  // Linux wants all of TCP (0x14; 0x15 over IPv6) and takes UDP (0x40) and LSO version 2.
  assert.deepEqual(
    [0, 4, 8, 20, 24, 80, 84, 88, 92, 96, 100, 104].map((at) => viewOf(capabilities).getUint32(at, true).toString(16)),
    ['9c03a7', '2', '155', '2', '55', '2', 'f53c', '2', '2', 'f53c', '2', '5'],
  );
  const current = (): number[] => {
    const { data } = n.query(0xfc01_020b);
    return [8, 16, 24, 80].map((at) => viewOf(data).getUint32(at, true));
  };
  assert.deepEqual(current(), [0, 0, 0, 0]);
  // TCP over IPv4 both ways, UDP for sending only, LSO; the guest is told of what is on now.
  assert.equal(n.set(OID.offloadParameters, [0x80, 3, 22, 0, 1, 4, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 0);
  assert.deepEqual(current(), [0x54, 0x14, 0, 2]);
  assert.equal(n.set(OID.offloadParameters, [0x80, 3, 22, 0]), 0xc001_0015);
});

test('checksums are put where the guest left them out, and said to be right in what comes', () => {
  const n = new Netvsc().ready();
  n.set(OID.offloadParameters, [0x80, 3, 22, 0, 4, 4, 4, 4, 4, 0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  n.talk(arp());
  // The pseudo header's sum in their place, as Linux leaves it.
  const blank = (datagram: Uint8Array, at: number): Uint8Array => {
    const frame = eth(0x800, datagram);
    frame.set([0xab, 0xcd], at);
    return frame;
  };
  const [echo] = n.talk(blank(udp(GUEST, 5000, GATEWAY, 7, ascii('hello!!')), 14 + 26), { 0: (34 << 16) | 1 | 8 });
  assert.deepEqual([text(echo.seen.data?.subarray(8) ?? ascii('')), echo.info[0]], ['hello!!', 32 | 16]);
  const [syn] = n.talk(blank(tcp(GUEST, 1, GATEWAY, 7, { flags: 'S', seq: 9 }), 14 + 36), { 0: (34 << 16) | 1 | 4 });
  assert.deepEqual([seeTcp(syn.seen.data ?? ascii('')).flags, syn.info[0]], ['SA', 32 | 8]);
  // Without being asked, nothing is repaired.
  assert.deepEqual(n.talk(blank(udp(GUEST, 5000, GATEWAY, 7, ascii('hello')), 14 + 26)), []);
  // The IPv4 header's, too.
  const [pong] = n.talk(blank(ipv4(GUEST, GATEWAY, 1, icmp(8, [0, 0, 0, 0], ascii('x'))), 24), { 0: 1 | 16 });
  assert.equal(pong.seen.source, GATEWAY);
});

/** Frames that have left the card, in the trace. */
const sent = (n: Netvsc): Uint8Array[] =>
  n.d.events.flatMap((e) => (e.kind === 'frame' && e.direction === 'guest-to-host' ? [e.frame] : []));

test('large sends are cut: every piece is a whole segment with its own numbers, flags and checksums', () => {
  fc.assert(
    fc.property(fc.integer({ min: 48, max: 1460 }), fc.integer({ min: 0, max: 60_000 }), fc.boolean(), (mss, length, v6) => {
      const n = new Netvsc({}, { pages: 4 }).ready();
      const data = Uint8Array.from({ length }, (_, i) => (i * 7) >> 3);
      const options = Uint8Array.from([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
      const four = tcp(GUEST, 1234, '10.9.9.9', 80, {
        seq: 0xffff_ff00,
        ack: 77,
        flags: 'FPA',
        options,
        data: new Uint8Array(0),
      });
      const head = four.subarray(20);
      head[13] |= 0x80;
      head.set([0, 0], 16);
      const six = join(
        [0x60, 0, 0, 0, 0, 0, 6, 64],
        Uint8Array.from({ length: 32 }, (_, i) => i),
      );
      const datagram = v6 ? join(six, head, data) : join(four.subarray(0, 20), head, data);
      // As Linux leaves it: no length, no checksum.
      if (!v6) datagram.set([0, 0], 2);
      const at = 14 + (v6 ? 40 : 20);
      // In the ring's own memory it does not fit: by the send buffer and ranges.
      const message = Netvsc.packet(eth(v6 ? 0x86dd : 0x800, datagram), {
        2: (mss | (at << 20) | 0x4000_0000 | (v6 ? 0x8000_0000 : 0)) >>> 0,
      });
      const pages = n.d.pages(17);
      message.forEach((b, i) => {
        n.d.ram.bytes[n.at(pages, i)] = b;
      });
      const count = Math.ceil(message.length / PAGE);
      const ranges = join(words(0, 1, message.length, 0), ...pages.slice(0, count).map((p) => words(p, 0)));
      assert.equal(n.submit(n.message(107, 0, 0xffff_ffff, 0), ranges), 1);
      const frames = sent(n);
      assert.equal(frames.length, Math.max(1, Math.ceil(length / mss)));
      const back: Uint8Array[] = [];
      frames.forEach((frame, i) => {
        const last = i === frames.length - 1;
        const p = frame.subarray(14);
        const t = p.subarray(v6 ? 40 : 20);
        const s = seeTcp(t);
        assert.deepEqual(
          [s.seq, s.ack, s.flags, t[13] & 0x80, hex(s.options), s.data.length <= mss],
          [(0xffff_ff00 + i * mss) >>> 0, 77, last ? 'FPA' : 'A', i === 0 ? 0x80 : 0, hex(options), true],
        );
        if (v6) {
          assert.equal((p[4] << 8) | p[5], t.length);
          assert.equal(checksum(p.subarray(8, 40), [0, 0, ...be16(t.length), 0, 0, 0, 6], t), 0);
        } else {
          assert.deepEqual([(p[2] << 8) | p[3], (p[4] << 8) | p[5], checksum(p.subarray(0, 20))], [p.length, 1 + i, 0]);
          assert.equal(checksum(pseudo(GUEST, '10.9.9.9', 6, t.length), t), 0);
        }
        back.push(s.data);
      });
      assert.ok(Buffer.compare(join(...back), data) === 0);
    }),
    { numRuns: 30, seed: 3 },
  );
  const n = new Netvsc().ready();
  const frame = eth(0x800, tcp(GUEST, 1, GATEWAY, 2, { data: new Uint8Array(3000) }));
  const lso = (mss: number, at: number, version = 0x4000_0000): number => (mss | (at << 20) | version) >>> 0;
  for (const value of [lso(0, 34), lso(1, 34), lso(1460, 34, 0), lso(1460, 900), lso(1460, 20)])
    assert.equal(n.send(frame, { 2: value }), 5);
  assert.deepEqual([sent(n).length, n.details().statistics.sendErrors], [0, 5]);
});

test('VLAN tags travel as information when the guest knows them so, and in the frame when not', () => {
  const n = new Netvsc({ vlans: [5] }).ready();
  const request = eth(
    0x806,
    join([0, 1, 8, 0, 6, 4, 0, 1], mac(GUEST_MAC), ip('10.128.5.15'), mac('00:00:00:00:00:00'), ip('10.128.5.2')),
  );
  // Priority 3, VLAN 5: priority in the lowest bits here, in the highest of a tag.
  const [answer] = n.talk(request, { 6: (5 << 4) | 3 });
  assert.equal(hex(sent(n)[0].subarray(12, 18)), '810060050806');
  assert.deepEqual([answer.seen.type, answer.seen.vlan, answer.info[6]], [0x806, undefined, 5 << 4]);
  // NVSP 1 has no configuration and so no such capability.
  const old = new Netvsc({ vlans: [5] }).ready(2);
  const tagged = join(request.subarray(0, 12), [0x81, 0, 0, 5], request.subarray(12));
  const [inline] = old.talk(tagged);
  assert.deepEqual([inline.seen.vlan, inline.info[6]], [5, undefined]);
});

test('the send buffer: several packets in one section, the last with its data elsewhere', () => {
  const n = new Netvsc().ready();
  n.talk(arp());
  const one = Netvsc.packet(ping(ascii('one')));
  // Packets begin at multiples of 8; what is between belongs to the message before.
  const padded = join(one, new Uint8Array(-one.length & 7));
  viewOf(padded).setUint32(4, padded.length, true);
  const frame = ping(ascii('two'));
  const two = Netvsc.packet(frame);
  const head = join(padded, two.subarray(0, two.length - frame.length));
  const at = 1 * SECTION;
  head.forEach((b, i) => {
    n.d.ram.bytes[n.at(n.sendPages, at + i)] = b;
  });
  const [page] = n.d.pages(1);
  n.d.ram.bytes.set(frame, page * PAGE + 8);
  const ranges = join(words(0, 2, 20, 8, page, 0, frame.length - 20, 28, page, 0));
  assert.equal(n.submit(n.message(107, 0, 1, head.length), ranges), 1);
  n.d.advance(MS);
  assert.deepEqual(
    n.arrived().map((m) => text(see(m.frame ?? frame).data?.subarray(8) ?? frame)),
    ['one', 'two'],
  );
  // Sections that are not there.
  for (const [section, size] of [
    [2, SECTION],
    [0, 4 * PAGE + 1],
    [0xffff_fffe, 8],
  ])
    assert.equal(n.submit(n.message(107, 0, section, size), undefined), 5);
});

test('the packet filter and the address decide what comes; a new address is taken', () => {
  const n = new Netvsc().ready();
  assert.equal(n.talk(arp()).length, 1);
  n.set(OID.filter, le32(0));
  assert.deepEqual([n.talk(arp()).length, n.details().statistics.filtered], [0, 1]);
  n.set(OID.filter, le32(0xd));
  const name = Buffer.from('NetworkAddress', 'utf16le');
  const change = (address: string, type = 2): number => {
    const value = Buffer.from(address, 'utf16le');
    return n.set(OID.config, join(words(20, name.length, type, 20 + name.length, value.length), name, value));
  };
  assert.deepEqual([change('00155d0a0b0c'), change('nonsense'), change('00155d0a0b0c', 0)], [0, 0xc001_0015, 0xc001_0015]);
  assert.deepEqual([hex(n.query(OID.currentMac).data), hex(n.query(OID.permanentMac).data)], ['00155d0a0b0c', '00155d000001']);
  // The gateway answers the old one.
  assert.equal(n.talk(arp()).length, 0);
  n.set(OID.filter, le32(0x20));
  assert.equal(n.talk(arp()).length, 1);
});

test('sections are used again once they are completed, and frames wait or are dropped while they are not', () => {
  const n = new Netvsc().ready();
  n.talk(arp());
  const { sections } = n;
  n.completes = false;
  const burst = (count: number): void => {
    for (let i = 0; i < count; i++) assert.equal(n.send(ping(Uint8Array.of(i))), 1);
    n.d.advance(MS);
  };
  burst(sections + 20);
  // 16 sections stay for control messages, which still get through.
  const first = n.arrived();
  assert.equal(first.length, sections - 16);
  assert.equal(n.query(OID.link).status, 0);
  assert.deepEqual([n.details().waiting, n.details().statistics.noBuffer], [36, 0]);
  for (const { id, channel } of n.open.splice(0)) n.complete(id, channel);
  n.completes = true;
  const rest = n.arrived();
  assert.deepEqual(
    [...first, ...rest].map((m) => (m.frame ?? ascii(''))[14 + 28]),
    Array.from({ length: sections + 20 }, (_, i) => i & 255),
  );
  assert.equal(n.details().receiveBuffer, `${sections} sections of 1728, ${sections} free`);
  // A completion of nothing is a line in the trace.
  n.complete(12345n, n.channel);
  n.complete(1n, n.channel, 2);
  assert.match(n.d.notes().join('\n'), /completion of transfer 12345, which is not under way/);
});

test('a ring that is full: frames wait for room, control messages do too, and all of it comes', () => {
  const n = new Netvsc({}, { pages: 2, receivePages: 60 }).ready();
  n.talk(arp());
  // One ring page holds some forty transfers. Each is completed only when all of them have been sent.
  n.completes = false;
  const seen: number[] = [];
  const drain = (): void => {
    seen.push(...n.arrived().map((m) => (m.frame ?? ascii(''))[14 + 28]));
    n.d.signal(n.channel);
    for (const { id, channel } of n.open.splice(0)) n.complete(id, channel);
  };
  for (let i = 0; i < 90; i++) {
    // With answers of its own waiting, the host leaves what is in this ring where it is.
    if (n.channel.out.used > 2000) drain();
    const pages = n.d.pages(1);
    const message = Netvsc.packet(ping(Uint8Array.of(i)));
    n.d.ram.bytes.set(message, pages[0] * PAGE);
    n.channel.out.put(9, 5n, n.message(107, 0, 0xffff_ffff, 0), 0, words(0, 1, message.length, 0, pages[0], 0));
    n.d.signal(n.channel);
    n.d.advance(60_000);
  }
  assert.ok(seen.length < 80);
  for (let i = 0; i < 10; i++) {
    n.d.advance(MS);
    drain();
  }
  assert.deepEqual(
    seen,
    Array.from({ length: 90 }, (_, i) => i),
  );
});

test('link down and up: the guest is told, and nothing goes through in between', () => {
  const n = new Netvsc().ready();
  n.talk(arp());
  const { network } = n.d.vmbus;
  assert.equal(network.setLink(false), true);
  assert.deepEqual(
    n.arrived().map((m) => [m.type, m.channelType, m.body.getUint32(0, true)]),
    [[7, 1, 0x4001_000c]],
  );
  assert.equal(hex(n.query(OID.link).data), '01000000');
  assert.deepEqual(n.talk(ping()), []);
  network.setLink(false);
  network.setLink(true);
  assert.deepEqual(
    n.arrived().map((m) => m.body.getUint32(0, true)),
    [0x4001_000b],
  );
  assert.equal(n.talk(ping()).length, 1);
});

test('the card comes and goes while the guest runs, also before the guest has let the old one go', () => {
  const d = new FakeDriver();
  d.connect();
  assert.ok(!d.offers.has(NETWORK));
  const { network } = d.vmbus;
  assert.deepEqual([network.detach(), network.setLink(false)], [false, false]);
  network.attach({ mode: 'internal' });
  d.pump();
  const offer = d.next(1);
  const relid = offer.getUint32(184, true);
  assert.throws(() => network.attach({ mode: 'internal' }), ConfigError);
  d.open(relid);
  assert.equal(network.detach(), true);
  assert.equal(d.vmbus.rescind('network'), true);
  d.pump();
  assert.equal(d.next(2).getUint32(8, true), relid);
  network.attach({ mode: 'internal', mac: '00-15-5d-00-00-07' });
  d.pump();
  assert.equal(d.inbox.length, 0);
  d.post(FakeDriver.message(13, relid));
  assert.equal(d.next(1).getUint32(184, true), relid);
  assert.throws(
    () => new FakeDriver({ network: { mode: 'internal', mac: 'ff:ff:ff:ff:ff:ff' } }),
    /"ff:ff:ff:ff:ff:ff" is not the MAC address/,
  );
  assert.throws(() => new FakeDriver({ network: { mode: 'internal', vlans: [0] } }), /VLAN ids are 1 to 4094, not 0/);
  assert.throws(
    () => new FakeDriver({ network: { mode: 'internal', names: { x: '1.2.3' } } }),
    /"x": "1.2.3" is not an IPv4 address/,
  );
});

test('the hash of receive side scaling is that of its specification', () => {
  // Microsoft's verification suite: the key, and addresses and ports with their hashes.
  const key = new Uint8Array(
    Buffer.from('6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa', 'hex'),
  );
  for (const [from, sport, to, dport, both, addresses] of [
    ['66.9.149.187', 2794, '161.142.100.80', 1766, 0x51ccc178, 0x323e8fc2],
    ['199.92.111.2', 14230, '65.69.140.83', 4739, 0xc626b0ea, 0xd718262a],
    ['24.19.198.95', 12898, '12.22.207.184', 38024, 0x5c2b394a, 0xd2d0a5de],
  ] as const) {
    const pair = join(ip(from), ip(to));
    assert.deepEqual([toeplitz(key, join(pair, be16(sport), be16(dport))), toeplitz(key, pair)], [both, addresses]);
  }
});

test('sub-channels: as many as there may be, a table to send by once they are open, frames by the hash on each', () => {
  const n = new Netvsc({}, { vps: 4, receivePages: 40 }).ready();
  n.talk(arp());
  // More than there are: three.
  assert.deepEqual(Netvsc.words(n.ask(n.message(133, 1, 9))).slice(0, 3), [133, 1, 3]);
  n.d.pump();
  const offers = [n.d.next(1), n.d.next(1), n.d.next(1)];
  assert.deepEqual(
    offers.map((o) => o.getUint16(180, true)),
    [1, 2, 3],
  );
  const subs = offers.map((o, i) => n.d.open(o.getUint32(184, true), 4, i + 1));
  n.d.advance(2 * MS);
  const table = n.channel.in.take();
  assert.deepEqual(
    [table?.type, Netvsc.words(table as GuestPacket)],
    [6, [134, 16, 12, ...Array.from({ length: 16 }, (_, i) => i % 4), ...(table?.payload.length === 80 ? [0] : [])]],
  );
  // Until there is a hash table, everything comes on the first channel.
  const connect = (port: number, channel: OpenedChannel) => {
    assert.equal(n.send(eth(0x800, tcp(GUEST, port, GATEWAY, 7, { flags: 'S', seq: 1 })), undefined, channel), 1);
    n.d.advance(MS);
    return n.arrived();
  };
  assert.equal(connect(1, subs[0])[0].channel, n.channel);
  const key = Uint8Array.from({ length: 40 }, (_, i) => i * 37 + 1);
  const rss = (entries: number[], flags = 0, keySize = 40): Uint8Array =>
    join(
      [0x89, 2, 40, 0],
      le16(flags),
      [0, 0],
      le32(0x701),
      le16(4 * entries.length),
      [0, 0],
      le32(40),
      le16(keySize),
      [0, 0],
      le32(40 + 4 * entries.length),
      words(0, 0, 0),
      words(...entries),
      key,
    );
  assert.deepEqual(
    [n.set(OID.rss, rss([0, 1, 2, 4])), n.set(OID.rss, rss([0, 1], 0, 20)), n.set(OID.rss, new Uint8Array(10))],
    [0xc001_0015, 0xc001_0015, 0xc001_0014],
  );
  assert.equal(n.set(OID.rss, rss(Array.from({ length: 128 }, (_, i) => i % 4))), 0);
  const used = new Set<number>();
  for (let port = 100; port < 140; port++) {
    const [m] = connect(port, subs[port % 3]);
    const hash = toeplitz(key, join(ip(GATEWAY), ip(GUEST), be16(7), be16(port)));
    assert.deepEqual([m.channel, m.info[8]], [[n.channel, ...subs][(hash % 128) % 4], hash]);
    used.add(m.channel.relid);
  }
  assert.equal(used.size, 4);
  // A channel that is closed is nobody's: its frames come on the first.
  n.d.post(FakeDriver.message(7, subs[0].relid));
  n.d.channels.delete(subs[0].relid);
  for (let port = 200; port < 220; port++) assert.notEqual(connect(port, n.channel)[0].channel, subs[0]);
  // Control belongs on the primary channel.
  assert.equal(n.rndis(words(4, 28, 1, OID.frame, 0, 20, 0), 1, subs[1]), 5);
  assert.equal(n.ask(n.message(100, 6, 30), subs[1]).payload.length, 0);
  n.set(OID.rss, rss([0], 0x10));
  assert.equal(connect(300, subs[1])[0].channel, n.channel);
  // And all over again, after the primary channel was closed.
  n.d.post(FakeDriver.message(7, n.channel.relid));
  for (let m = n.d.inbox.shift(); m; m = n.d.inbox.shift())
    n.d.post(FakeDriver.message(13, viewOf(m.payload).getUint32(8, true)));
  n.d.channels.clear();
  n.channel = n.d.open(n.channel.relid, 8);
  n.ready();
  assert.equal(n.talk(arp()).length, 1);
  assert.deepEqual(Netvsc.words(n.ask(n.message(133, 1, 2))).slice(0, 3), [133, 1, 2]);
});

test('a snapshot in the middle of a transfer: what is under way goes on', () => {
  const n = new Netvsc().ready();
  n.talk(arp());
  n.send(ping(ascii('one')));
  const live = { vmbus: n.d.vmbus.state, clock: n.d.clock.state };
  const snapshot = capture(live) as Record<string, unknown>;
  const ram = n.d.ram.bytes.slice();
  const run = (): [string, string][] => {
    n.d.advance(MS);
    return n.arrived().map((m) => [hex(m.frame ?? ascii('')), hex(new Uint8Array(m.body.buffer))]);
  };
  const first = run();
  assert.equal(first.length, 1);
  assign(live, snapshot);
  n.d.ram.bytes.set(ram);
  assert.deepEqual(run(), first);
});

test('packets are decoded for the trace and for people', () => {
  const n = new Netvsc().ready();
  n.talk(arp());
  n.talk(ping());
  const packets = n.d.events.flatMap((e) => (e.kind === 'packet' && e.device === 'network' ? [`${e.direction}: ${e.what}`] : []));
  for (const want of [
    'guest-to-host: init, in-band',
    'host-to-guest: initComplete: version 6.1',
    'host-to-guest: sendReceiveBufferComplete: 56 sections of 1728',
    'guest-to-host: initialize',
    'guest-to-host: set GEN_CURRENT_PACKET_FILTER',
    'host-to-guest: setComplete: GEN_CURRENT_PACKET_FILTER, status 0x0',
    'guest-to-host: ARP who has 10.0.2.2, tell 10.0.2.15',
    'host-to-guest: ARP 10.0.2.2 is at 02:15:5d:00:00:02',
    'guest-to-host: ICMP echo 10.0.2.15 > 10.0.2.2, 8 bytes',
    'host-to-guest: ICMP echoReply 10.0.2.2 > 10.0.2.15, 8 bytes',
    'guest-to-host: transfer completed',
  ])
    assert.ok(packets.includes(want), `${want}\n${packets.join('\n')}`);
  const { frames } = n.details();
  assert.deepEqual(Object.values(frames ?? {}).slice(-1), ['to the guest: ICMP echoReply 10.0.2.2 > 10.0.2.15, 8 bytes']);
});

test('any packet on any channel: always a completion or a trace line, never an exception, and nothing is written but sections', () => {
  const types = [1, 100, 101, 103, 104, 106, 107, 107, 107, 107, 125, 129, 133, 134, 2, 77];
  const statuses = new Set<number>();
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.array(
        fc.record({
          nvsp: fc.constantFrom(...types),
          words: fc.array(fc.oneof(fc.nat(20), fc.nat(0xffff_ffff), fc.constant(0xffff_ffff)), { minLength: 4, maxLength: 4 }),
          size: fc.oneof({ weight: 8, arbitrary: fc.constant(40) }, fc.nat(48)),
          vmbus: fc.constantFrom(6, 9, 9, 9, 11, 7),
          flags: fc.constantFrom(1, 1, 1, 0),
          rndis: fc.constantFrom(1, 1, 1, 2, 3, 4, 4, 5, 5, 6, 8, 7, 9, 0x8000_0002),
          oid: fc.constantFrom(...Object.values(OID), 0x0001_0101, 0x0002_0216, 0xfc01_020b, 1),
          length: fc.oneof(fc.nat(200), fc.nat(5000), fc.nat(0xffff_ffff)),
          body: fc.uint8Array({ minLength: 60, maxLength: 200 }),
          shape: fc.constantFrom('message', 'message', 'packet', 'packet', 'noise'),
          info: fc.dictionary(
            fc.constantFrom('0', '2', '6', '8', '99'),
            fc.oneof(fc.nat(0xffff_ffff), fc.constantFrom(1 | 4 | (34 << 16), 0x4222_0010)),
            {
              maxKeys: 3,
            },
          ),
          sub: fc.boolean(),
        }),
        { minLength: 1, maxLength: 14 },
      ),
      (negotiated, packets) => {
        const n = new Netvsc({ vlans: [5] }, { vps: 2, pages: 12 });
        if (negotiated) n.ready();
        let sub: OpenedChannel | undefined;
        if (negotiated) {
          n.ask(n.message(133, 1, 1));
          n.d.pump();
          sub = n.d.open(n.d.next(1).getUint32(184, true), 4, 1);
        }
        const [page] = n.d.pages(1);
        const mine = new Set([...n.receivePages, ...[...n.d.channels.values()].flatMap((c) => [...c.out.pfns, ...c.in.pfns])]);
        const others = [...n.sendPages, page, 0x3ff];
        for (const { nvsp, words: w, size, vmbus, flags, rndis, oid, length, body, shape, info, sub: onSub } of packets) {
          const channel = (onSub && sub) || n.channel;
          const data =
            shape === 'noise'
              ? body
              : shape === 'packet'
                ? Netvsc.packet(eth(0x800, length & 1 ? body : tcp(GUEST, 1, GATEWAY, 7, { data: body })), info as never)
                : join(
                    words(rndis, length < 5000 ? 8 + body.length : length),
                    words(w[0], oid, body.length - 20, Math.max(w[1], 20)),
                    body.subarray(16),
                  );
          n.d.ram.bytes.set(data.subarray(0, PAGE), page * PAGE);
          const payload = n
            .message(
              nvsp,
              ...(nvsp === 107 ? [w[0] & 1, w[1] < 20 ? w[1] & 3 : 0xffff_ffff, w[1] < 20 ? w[2] & 0x3fff : w[2]] : w),
            )
            .subarray(0, size);
          const before = others.map((p) => hex(n.d.ram.bytes.subarray(p * PAGE, (p + 1) * PAGE)));
          const noted = n.d.notes().length;
          const ranges = vmbus === 9 ? words(0, 1, shape === 'noise' ? length : data.length, 0, page, 0) : new Uint8Array(0);
          channel.out.put(vmbus, 5n, payload, flags, ranges);
          n.d.signal(channel);
          n.d.advance(100_000);
          let completions = 0;
          for (const c of n.d.channels.values())
            for (let p = c.in.take(); p; p = c.in.take()) {
              if (p.type === 11) {
                completions++;
                if (p.payload.length >= 8 && viewOf(p.payload).getUint32(0, true) === 108)
                  statuses.add(viewOf(p.payload).getUint32(4, true));
              } else if (p.type === 7) n.complete(p.transactionId, c);
            }
          const wanted = flags === 1 && vmbus !== 11;
          assert.equal(completions, wanted ? 1 : 0);
          if (vmbus === 11) assert.ok(n.d.notes().length > noted);
          assert.deepEqual(
            others.map((p) => hex(n.d.ram.bytes.subarray(p * PAGE, (p + 1) * PAGE))),
            before,
          );
          assert.ok(!mine.has(page));
        }
        capture(n.d.vmbus.state);
        n.d.vmbus.info();
      },
    ),
    { numRuns: 250, seed: 41 },
  );
  assert.deepEqual([...statuses].sort(), [1, 5]);
});
