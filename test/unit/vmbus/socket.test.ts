import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { guidBytes, guidText } from '../../../emulator/base/guid.ts';
import { viewOf } from '../../../emulator/base/struct.ts';
import type { SocketRequest } from '../../../emulator/network/sockets.ts';
import { assign, capture } from '../../../emulator/snapshot.ts';
import { FakeDriver, type OpenedChannel } from './fake-driver.ts';

const MS = 1_000_000;
const REST = '-facb-11e6-bd58-64006a7986d3';
const service = (port: number): string => port.toString(16).padStart(8, '0') + REST;
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** A packet of a connection: { u32 1, u32 length } and the bytes; none: the end. */
const pipe = (data: Uint8Array): Uint8Array => {
  const out = new Uint8Array(8 + data.length);
  viewOf(out).setUint32(0, 1, true);
  viewOf(out).setUint32(4, data.length, true);
  out.set(data, 8);
  return out;
};

/** hv_sock in small: written from the offsets of the reference, not from our layouts. */
class HvSock extends FakeDriver {
  readonly asked: SocketRequest[] = [];

  constructor(mode: 'internal' | 'outside' | 'none' = 'outside', version = 0x5_0003) {
    const asked: SocketRequest[] = [];
    super({ ...(mode === 'none' ? {} : { sockets: { mode } }), askSockets: (r) => asked.push(r) });
    this.asked = asked;
    this.connect(version);
  }

  takeAsked(): SocketRequest[] {
    return this.asked.splice(0);
  }

  tlConnect(guestPort: number, to: number | string, silo = false): void {
    const target = typeof to === 'number' ? service(to) : to;
    this.post(FakeDriver.message(21, guidBytes(service(guestPort)), guidBytes(target), ...(silo ? [new Uint8Array(16)] : [])));
  }

  /** The offer that has just come; undefined: none. */
  offered(): { relid: number; type: string; instance: string; flags: number; user: number[]; subChannel: number } | undefined {
    this.pump();
    const m = this.inbox.shift();
    if (!m) return undefined;
    assert.equal(m.type, 1);
    const v = viewOf(m.payload);
    return {
      relid: v.getUint32(184, true),
      type: guidText(m.payload, 8),
      instance: guidText(m.payload, 24),
      flags: v.getUint16(56, true),
      user: [v.getUint32(60, true), v.getUint8(64)],
      subChannel: v.getUint16(180, true),
    };
  }

  openOffered(pages = 7): OpenedChannel {
    const offer = this.offered();
    assert.ok(offer, 'no offer');
    const c = this.open(offer.relid, pages);
    this.host.clock.skipTo(this.host.clock.now + 2 * MS);
    this.host.clock.fireDue();
    return c;
  }

  /** Bytes of all packets that wait for the guest; `null` stands for the end. */
  read(c: OpenedChannel): (string | null)[] {
    const out: (string | null)[] = [];
    for (let p = c.in.take(); p; p = c.in.take()) {
      const v = viewOf(p.payload);
      assert.deepEqual([p.type, v.getUint32(0, true)], [6, 1]);
      const n = v.getUint32(4, true);
      out.push(n === 0 ? null : new TextDecoder().decode(p.payload.subarray(8, 8 + n)));
    }
    return out;
  }

  pass(ns: number): void {
    const end = this.host.clock.now + ns;
    while (this.host.clock.nextDue <= end) {
      this.host.clock.skipTo(this.host.clock.nextDue);
      this.host.clock.fireDue();
    }
    this.host.clock.skipTo(end);
  }

  /** What the guest does after RESCIND: close, teardown, release. */
  letGo(c: OpenedChannel): void {
    const v = this.next(2);
    assert.equal(v.getUint32(8, true), c.relid);
    this.post(FakeDriver.message(7, c.relid));
    this.post(FakeDriver.message(13, c.relid));
  }

  connections(): unknown {
    return (this.vmbus.socket.inspect() as { connections: unknown }).connections;
  }
}

test('without configuration there are no channels, and every connection is refused', () => {
  const d = new HvSock('none');
  d.tlConnect(1024, 7);
  const v = d.next(23);
  assert.deepEqual(
    [guidText(new Uint8Array(v.buffer, v.byteOffset + 8, 16)), v.getUint32(40, true)],
    [service(1024), 0xc000_0236],
  );
  d.vmbus.socket.event({ kind: 'connect', id: -1, port: 5 });
  assert.deepEqual([d.offered(), d.takeAsked()], [undefined, [{ kind: 'abort', id: -1 }]]);
});

test('the guest connects, writes, half-closes and gets everything back from the echo', () => {
  const d = new HvSock('internal');
  d.tlConnect(1024, 7, true);
  const offer = d.offered();
  assert.ok(offer);
  assert.deepEqual(
    { ...offer, relid: 0 },
    { relid: 0, type: service(7), instance: service(1024), flags: 0x2011, user: [0, 0], subChannel: 0 },
  );
  const c = d.open(offer.relid, 7);
  d.send(c, pipe(bytes('before we looked')));
  d.pass(2 * MS);
  d.send(c, pipe(bytes('hello')));
  assert.deepEqual(d.read(c), ['before we looked', 'hello']);
  d.send(c, pipe(bytes('last')));
  d.send(c, pipe(new Uint8Array(0)));
  d.pump();
  assert.deepEqual(d.read(c), ['last', null]);
  d.letGo(c);
  assert.deepEqual(d.connections(), []);
  // The same ports again.
  d.tlConnect(1024, 7);
  assert.equal(d.offered()?.relid, offer.relid);
});

test('a guest that writes byte by byte to the echo and reads nothing makes the host keep few pieces', () => {
  const d = new HvSock('internal');
  d.tlConnect(1024, 7);
  const c = d.openOffered();
  for (let n = 0; n < 5000; n++) d.send(c, pipe(Uint8Array.of(65 + (n % 26))));
  const [connection] = d.vmbus.socket.state.connections;
  assert.ok(
    connection.queued > 2000 && connection.waiting.length < 20,
    `${connection.queued} bytes in ${connection.waiting.length} pieces`,
  );
  let text = '';
  for (let n = 0; n < 50; n++) {
    text += d.read(c).join('');
    d.signal(c);
  }
  assert.equal(text, Array.from({ length: 5000 }, (_, n) => String.fromCharCode(65 + (n % 26))).join(''));
});

test('a refusal is told from version 4.1 on', () => {
  const told = [0x4_0000, 0x4_0001].map((version) => {
    const d = new HvSock('internal', version);
    d.tlConnect(1024, 9);
    d.tlConnect(1024, '11111111-2222-3333-4444-555555555555');
    return d.inbox.map((m) => [m.type, viewOf(m.payload).getUint32(40, true)]);
  });
  assert.deepEqual(told, [
    [],
    [
      [23, 0xc000_0236],
      [23, 0xc000_0236],
    ],
  ]);
});

test('a connection to the outside: asked, connected, bytes both ways with credit, both ends closed', () => {
  const d = new HvSock();
  const { socket } = d.vmbus;
  d.tlConnect(1024, 80);
  assert.deepEqual([d.offered(), d.takeAsked()], [undefined, [{ kind: 'connect', id: 1, port: 80 }]]);
  socket.event({ kind: 'connected', id: 1 });
  const c = d.openOffered();
  assert.deepEqual(d.takeAsked(), [{ kind: 'credit', id: 1, bytes: 65536 }]);
  d.send(c, pipe(bytes('GET')));
  assert.deepEqual(d.takeAsked(), [{ kind: 'write', id: 1, data: bytes('GET') }]);
  socket.event({ kind: 'data', id: 1, data: bytes('answer') });
  socket.event({ kind: 'end', id: 1 });
  assert.deepEqual(d.read(c), ['answer', null]);
  d.send(c, pipe(bytes('more')));
  d.send(c, pipe(new Uint8Array(0)));
  assert.deepEqual(
    d.takeAsked().map((r) => r.kind),
    ['write', 'end'],
  );
  assert.equal(d.inbox.length, 0, 'not over before everything is written');
  socket.event({ kind: 'written', id: 1, bytes: 3 });
  socket.event({ kind: 'written', id: 1, bytes: 4 });
  d.pump();
  assert.deepEqual(d.takeAsked(), [{ kind: 'abort', id: 1 }]);
  d.letGo(c);
  assert.deepEqual(d.connections(), []);
});

test('who connects from outside gets a channel when the guest listens, and is told when it does not', () => {
  const d = new HvSock();
  const { socket } = d.vmbus;
  socket.event({ kind: 'connect', id: -1, port: 5000 });
  const offer = d.offered();
  assert.ok(offer);
  assert.deepEqual(
    { ...offer, relid: 0 },
    { relid: 0, type: service(5000), instance: service(0x8000_0000), flags: 0x2011, user: [0, 1], subChannel: 0 },
  );
  const c = d.open(offer.relid, 7);
  d.pass(2 * MS);
  assert.deepEqual(
    d.takeAsked().map((r) => r.kind),
    ['accepted', 'credit'],
  );
  socket.event({ kind: 'reset', id: -1 });
  d.pump();
  d.letGo(c);
  d.takeAsked();
  socket.event({ kind: 'connect', id: -2, port: 5001 });
  const unheard = d.offered();
  assert.ok(unheard);
  d.pass(6_000 * MS);
  d.pump();
  assert.deepEqual([d.takeAsked(), d.next(2).getUint32(8, true)], [[{ kind: 'abort', id: -2 }], unheard.relid]);
  d.post(FakeDriver.message(13, unheard.relid));
  assert.deepEqual(d.connections(), []);
});

test('a guest that does not read keeps its own direction: what it writes arrives, and nothing waits without bound', () => {
  const d = new HvSock();
  const { socket } = d.vmbus;
  d.tlConnect(1024, 80);
  socket.event({ kind: 'connected', id: 1 });
  const c = d.openOffered();
  const all = Uint8Array.from({ length: 65_536 }, (_, i) => 97 + (i % 26));
  d.takeAsked();
  socket.event({ kind: 'data', id: 1, data: all });
  d.send(c, pipe(bytes('still here')));
  assert.deepEqual(
    d.asked.filter((r) => r.kind !== 'credit'),
    [{ kind: 'write', id: 1, data: bytes('still here') }],
  );
  // The guest reads at last, and signals because the host has said that it waits for room.
  let got = '';
  for (let turn = 0; turn < 20 && got.length < all.length; turn++) {
    assert.ok(c.in.header(3) > 0 || c.in.used > 0, 'the host waits for room');
    got += d.read(c).join('');
    d.signal(c);
  }
  assert.equal(got, new TextDecoder().decode(all));
  assert.equal(c.in.header(3), 0);
  const credit = d.takeAsked().reduce((n, r) => n + (r.kind === 'credit' ? r.bytes : 0), 0);
  // Less than a quarter of the window is not worth a request.
  assert.ok(credit > 49_152 && credit <= 65_536, `${credit}`);
});

test('a slow outside holds the guest back in its ring', () => {
  const d = new HvSock();
  const { socket } = d.vmbus;
  d.tlConnect(1024, 80);
  socket.event({ kind: 'connected', id: 1 });
  const c = d.openOffered();
  d.takeAsked();
  for (let n = 0; n < 24; n++) {
    c.out.put(6, 0n, pipe(new Uint8Array(4088)));
    d.signal(c);
    if (c.out.used > 16_000) break;
  }
  const written = (): number => d.takeAsked().reduce((n, r) => n + (r.kind === 'write' ? r.data.length : 0), 0);
  const first = written();
  assert.ok(first >= 65_536 && first < 65_536 + 4088 && c.out.used > 0, `${first} bytes, ${c.out.used} in the ring`);
  socket.event({ kind: 'written', id: 1, bytes: first });
  assert.ok(written() > 0);
  assert.equal(c.out.used, 0);
});

test('a connection that breaks on either side is over on the other', () => {
  const d = new HvSock();
  const { socket } = d.vmbus;
  const fresh = (port: number): OpenedChannel => {
    d.tlConnect(port, 80);
    const asked = d.takeAsked()[0];
    assert.equal(asked.kind, 'connect');
    if (asked.kind === 'connect') socket.event({ kind: 'connected', id: asked.id });
    const c = d.openOffered();
    d.takeAsked();
    return c;
  };
  const closed = fresh(1);
  d.post(FakeDriver.message(7, closed.relid));
  assert.deepEqual(d.takeAsked(), [{ kind: 'abort', id: 1 }]);
  d.letGo(closed);
  const nonsense = fresh(2);
  d.send(nonsense, Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0));
  d.pump();
  assert.deepEqual(d.takeAsked(), [{ kind: 'abort', id: 2 }]);
  d.letGo(nonsense);
  const broken = fresh(3);
  broken.out.setHeader(0, 0xffff_fff1);
  d.signal(broken);
  d.pump();
  assert.deepEqual(d.takeAsked(), [{ kind: 'abort', id: 3 }]);
  d.letGo(broken);
  fresh(4);
  // The next kernel knows nothing of it.
  d.contact(0x5_0003);
  assert.deepEqual([d.takeAsked(), d.connections()], [[{ kind: 'abort', id: 4 }], []]);
});

test('a restored machine has its outside connections broken off', () => {
  const d = new HvSock();
  d.tlConnect(1024, 80);
  d.vmbus.socket.event({ kind: 'connected', id: 1 });
  const c = d.openOffered();
  const saved = capture(d.vmbus.state);
  d.vmbus.socket.event({ kind: 'data', id: 1, data: bytes('x') });
  assign(d.vmbus.state as unknown as Record<string, unknown>, saved as Record<string, unknown>);
  d.vmbus.socket.event({ kind: 'restarted' });
  d.pump();
  assert.equal(d.next(2).getUint32(8, true), c.relid);
});

test('connections are limited, and the next one after that is refused', () => {
  const d = new HvSock('internal');
  for (let n = 0; n < 65; n++) d.tlConnect(1000 + n, 7);
  assert.deepEqual(
    d.inbox.map((m) => m.type),
    [...new Array<number>(64).fill(1), 23],
  );
});

test('hostile guests and outsiders: any packets, messages and events leave a machine that still answers', () => {
  const packet = fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    fc.uint8Array({ maxLength: 64 }).map((b) => pipe(b)),
    fc.tuple(fc.nat(3), fc.nat(0xffff_ffff)).map(([type, length]) => {
      const b = pipe(new Uint8Array(16));
      viewOf(b).setUint32(0, type, true);
      viewOf(b).setUint32(4, length, true);
      return b;
    }),
  );
  const id = fc.integer({ min: -4, max: 4 });
  const step = fc.oneof(
    fc.record({ what: fc.constant('packet' as const), payload: packet, type: fc.constantFrom(6, 6, 6, 7, 9, 11) }),
    fc.record({
      what: fc.constant('message' as const),
      type: fc.constantFrom(5, 7, 11, 13, 22),
      relid: fc.integer({ min: 10, max: 20 }),
    }),
    fc.record({ what: fc.constant('connect' as const), from: fc.nat(3), to: fc.nat(3) }),
    fc.record({ what: fc.constant('read' as const) }),
    fc.record({
      what: fc.constant('index' as const),
      at: fc.constantFrom(0, 1, 3),
      value: fc.constantFrom(0, 8, 0x4000, 0xffff_ffff),
    }),
    fc.record({ what: fc.constant('time' as const), ms: fc.nat(6000) }),
    fc.record({
      what: fc.constant('event' as const),
      event: fc.oneof(
        fc.record({ kind: fc.constant('connect' as const), id, port: fc.nat(3) }),
        fc.record({ kind: fc.constantFrom('connected' as const, 'refused' as const, 'end' as const, 'reset' as const), id }),
        fc.record({ kind: fc.constant('data' as const), id, data: fc.uint8Array({ maxLength: 9000, size: 'max' }) }),
        fc.record({ kind: fc.constant('written' as const), id, bytes: fc.nat(10_000) }),
        fc.constant({ kind: 'restarted' as const }),
      ),
    }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.constantFrom('internal' as const, 'outside' as const), (steps, mode) => {
      const d = new HvSock(mode);
      d.tlConnect(1024, 7);
      if (mode === 'outside') d.vmbus.socket.event({ kind: 'connected', id: 1 });
      const c = d.openOffered();
      for (const s of steps) {
        if (s.what === 'packet') {
          if (c.out.used < 8192 && c.out.header(0) < c.out.size) c.out.put(s.type, 1n, s.payload);
          d.signal(c);
        } else if (s.what === 'message') d.post(FakeDriver.message(s.type, s.relid, 0, 0, 0, 0, new Uint8Array(120)));
        else if (s.what === 'connect') d.tlConnect(s.from, s.to);
        else if (s.what === 'read') {
          c.in.setHeader(1, c.in.header(0));
          d.signal(c);
        } else if (s.what === 'index') {
          (s.at === 0 ? c.out : c.in).setHeader(s.at, s.value);
          d.signal(c);
        } else if (s.what === 'time') d.pass(s.ms * MS);
        else d.vmbus.socket.event(s.event);
        d.pump();
        d.inbox.length = 0;
        const { connections } = d.vmbus.socket.state;
        assert.ok(connections.length <= 64);
        for (const { queued, waiting, at } of connections) assert.equal(queued, waiting.reduce((n, w) => n + w.length, 0) - at);
      }
      d.contact(0x5_0003);
      assert.deepEqual(d.connections(), []);
    }),
    { numRuns: 150 },
  );
});
