import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { viewOf } from '../../../emulator/base/struct.ts';
import { FakeDriver, type GuestPacket, ic, icAnswer, icNegotiated, type OpenedChannel } from './fake-driver.ts';

const MS = 1_000_000;
const S = 1_000_000_000;

/** A guest whose integration component `device` is open and has been asked for its versions. */
function opened(device: string, pages = 4): { d: FakeDriver; c: OpenedChannel; question: GuestPacket } {
  const d = new FakeDriver();
  d.connect();
  const c = d.open(d.relidOf(device), pages);
  d.advance(MS);
  const question = c.in.take();
  if (!question) throw new Error('no negotiation');
  return { d, c, question };
}

const ready = (device: string, version: [number, number], pages = 4) => {
  const o = opened(device, pages);
  o.d.send(o.c, icNegotiated(o.question, version), o.question.transactionId);
  o.d.takeFlags();
  return o;
};

const shorts = (v: DataView, from: number, n: number): number[] =>
  Array.from({ length: n }, (_, i) => v.getUint16(from + 2 * i, true));

test('negotiation: once per open, in-band, not completion-requested, all versions that Linux may know', () => {
  const versions = ['heartbeat', 'shutdown', 'timesync'].map((device) => {
    const { d, c, question } = opened(device);
    const q = ic(question);
    assert.deepEqual([question.type, question.flags, q.pipe, q.type, q.flags], [6, 0, [1, 20 + q.size], 0, 3]);
    d.advance(60 * S);
    assert.equal(c.in.used, 0);
    const [framework, message] = shorts(q.body, 0, 2);
    assert.deepEqual([framework, q.size], [2, 8 + 4 * (2 + message)]);
    return [device, shorts(q.body, 8, 2 * (framework + message)).join(' ')];
  });
  assert.deepEqual(versions, [
    ['heartbeat', '3 0 1 0 3 0 1 0'],
    ['shutdown', '3 0 1 0 3 2 3 1 3 0 1 0'],
    ['timesync', '3 0 1 0 4 0 3 0 1 0'],
  ]);
});

test('a guest that finds no common version is left in peace', () => {
  for (const [version, counts] of [
    [
      [3, 0],
      [0, 0],
    ],
    [
      [9, 9],
      [1, 1],
    ],
  ] as [[number, number], number[]][]) {
    const { d, c, question } = opened('heartbeat');
    d.send(c, icNegotiated(question, version, counts), question.transactionId);
    d.advance(60 * S);
    assert.deepEqual([c.in.used, (d.channelInfo(c.relid).details as { phase: string }).phase], [0, 'refused']);
  }
});

test('heartbeat: every two seconds of virtual time, sequence numbers move, answers are seen', () => {
  const { d, c } = ready('heartbeat', [3, 0]);
  const beats: [number, bigint, number][] = [];
  const answer = () => {
    for (let p = c.in.take(); p; p = c.in.take()) {
      const q = ic(p);
      beats.push([d.clock.now, q.body.getBigUint64(0, true), q.body.byteLength]);
      assert.deepEqual([q.type, q.version, q.flags], [1, [3, 0], 3]);
      d.send(
        c,
        icAnswer(p, (b) => b.setBigUint64(0, b.getBigUint64(0, true) + 1n, true)),
        p.transactionId,
      );
    }
  };
  answer();
  d.advance(6 * S, answer);
  assert.deepEqual(
    beats.map(([at, seq, size]) => [at - MS, seq, size]),
    [
      [0, 1n, 40],
      [2 * S, 2n, 40],
      [4 * S, 3n, 40],
      [6 * S, 4n, 40],
    ],
  );
  assert.deepEqual(d.channelInfo(c.relid).details, {
    phase: 'ready',
    framework: '3.0',
    version: '3.0',
    sequence: 4n,
    answered: 5n,
    alive: true,
    applications: 'unknown',
  });
});

test('heartbeats do not pile up in the ring of a guest that stopped', () => {
  const { d, c } = ready('heartbeat', [3, 0]);
  const used = c.in.used;
  d.advance(100 * S);
  assert.deepEqual([c.in.used, (d.channelInfo(c.relid).details as { alive: boolean }).alive], [used, false]);
});

test('timesync 4.0: one sync, then a sample every five seconds, host time at a moment of the reference counter', () => {
  const { d, c } = ready('timesync', [4, 0]);
  d.advance(10 * S);
  const samples: (number | bigint)[][] = [];
  for (let p = c.in.take(); p; p = c.in.take()) {
    const { type, body } = ic(p);
    samples.push([type, body.byteLength, body.getBigUint64(0, true), body.getBigUint64(8, true), body.getUint8(16)]);
  }
  // 2026-01-01T00:00:00Z in 100 ns since 1601, plus the reference time of the sample.
  const base = 134_116_992_000_000_000n;
  assert.deepEqual(samples, [
    [4, 22, base + 10_000n, 10_000n, 1],
    [4, 22, base + 50_010_000n, 50_010_000n, 2],
    [4, 22, base + 100_010_000n, 100_010_000n, 2],
  ]);
});

test('timesync 3.0 and 1.0 use the older body', () => {
  for (const version of [
    [3, 0],
    [1, 0],
  ] as [number, number][]) {
    const { c } = ready('timesync', version);
    const { body } = ic(c.in.take());
    assert.deepEqual([body.byteLength, body.getUint8(24)], [25, 1]);
  }
});

test('shutdown and restart: the whole structure, the right flags, one request at a time', () => {
  const { d, c } = ready('shutdown', [3, 2]);
  assert.deepEqual(
    [d.vmbus.services.shutdown.request('shutdown'), d.vmbus.services.shutdown.request('restart'), d.takeFlags()],
    [true, false, [c.relid]],
  );
  const p = c.in.take();
  assert.ok(p);
  const q = ic(p);
  assert.deepEqual([q.type, q.version, q.size, q.body.getUint32(8, true)], [3, [3, 2], 12 + 2048, 0]);
  d.send(c, icAnswer(p), p.transactionId);
  assert.deepEqual(d.channelInfo(c.relid).details, {
    phase: 'ready',
    framework: '3.0',
    version: '3.2',
    request: 'shutdown',
    status: '0x0',
  });
  assert.equal(d.vmbus.services.shutdown.request('restart'), true);
  assert.equal(ic(c.in.take()).body.getUint32(8, true), 2);
});

test('without a shutdown service there is no request', () => {
  const d = new FakeDriver();
  assert.equal(d.vmbus.services.shutdown.request('shutdown'), false);
  d.connect();
  assert.equal(d.vmbus.services.shutdown.request('shutdown'), false);
  const c = d.open(d.relidOf('shutdown'));
  d.advance(MS);
  assert.equal(d.vmbus.services.shutdown.request('shutdown'), false); // not negotiated
  d.post(FakeDriver.message(7, c.relid));
  assert.equal(d.vmbus.services.shutdown.request('shutdown'), false);
});

test('answers that are none: wrong transaction, no response flag, too short, wrong type', () => {
  const { d, c, question } = opened('heartbeat');
  const good = icNegotiated(question, [3, 0]);
  const spoiled = (at: number, value: number): Uint8Array => {
    const out = good.slice();
    out[at] = value;
    return out;
  };
  for (const p of [spoiled(24, 77), spoiled(25, 3), spoiled(18, 250), spoiled(12, 9), good.slice(0, 16), new Uint8Array(0)])
    d.send(c, p);
  assert.deepEqual([d.notes().length, (d.channelInfo(c.relid).details as { phase: string }).phase], [6, 'negotiating']);
  d.send(c, good);
  assert.equal((d.channelInfo(c.relid).details as { phase: string }).phase, 'ready');
});

test('keyboard: protocol request and response, then keys with their flags', () => {
  const d = new FakeDriver();
  d.connect();
  const c = d.open(d.relidOf('keyboard'), 9);
  d.advance(MS);
  assert.deepEqual([c.in.used, d.vmbus.sendKey(0x1e, false)], [0, false]);
  d.send(c, Uint8Array.of(1, 0, 0, 0, 0, 0, 1, 0), 1n, 1);
  const words = (p: GuestPacket | undefined) =>
    p ? [p.type, ...Array.from({ length: p.payload.length / 4 }, (_, i) => viewOf(p.payload).getUint32(4 * i, true))] : [];
  assert.deepEqual([words(c.in.take()), d.takeFlags()], [[6, 2, 1], [c.relid]]);
  assert.deepEqual(
    [d.vmbus.sendKey(0x1e, false), d.vmbus.sendKey(0xe048, true), d.vmbus.sendKey(0xe11d, false)],
    [true, true, true],
  );
  assert.deepEqual(
    [words(c.in.take()), words(c.in.take()), words(c.in.take())],
    [
      [6, 3, 0x1e, 0, 0],
      [6, 3, 0x48, 6, 0],
      [6, 3, 0x1d, 8, 0],
    ],
  );
  d.send(c, Uint8Array.of(4, 0, 0, 0, 2, 0, 0, 0)); // LEDs: nothing to say
  assert.deepEqual([c.in.used, d.channelInfo(c.relid).details], [0, { ready: true, keys: 3, leds: 2 }]);
});

test('another keyboard protocol version is refused', () => {
  const d = new FakeDriver();
  d.connect();
  const c = d.open(d.relidOf('keyboard'), 9);
  d.send(c, Uint8Array.of(1, 0, 0, 0, 0, 0, 2, 0));
  assert.deepEqual([viewOf(c.in.take()?.payload ?? new Uint8Array(8)).getUint32(4, true), d.vmbus.sendKey(1, false)], [0, false]);
});

test('a full ring: packets wait, the guest is asked for room, and gets everything in order when it makes some', () => {
  const d = new FakeDriver();
  d.connect();
  const c = d.open(d.relidOf('keyboard'), 2);
  d.send(c, Uint8Array.of(1, 0, 0, 0, 0, 0, 1, 0));
  c.in.take();
  const capacity = Math.ceil(4096 / 40) - 1;
  for (let n = 0; n < capacity + 5; n++) assert.equal(d.vmbus.sendKey(n & 0x7f, false), true);
  assert.deepEqual([c.in.header(3), d.channelInfo(c.relid).packetsToGuest], [40, 1 + capacity]);
  // Requests wait as long as answers do.
  d.send(c, Uint8Array.of(1, 0, 0, 0, 0, 0, 1, 0));
  assert.equal(c.out.used, 32);
  const keys: number[] = [];
  const take = () => {
    for (let p = c.in.take(); p; p = c.in.take())
      keys.push(viewOf(p.payload).getUint8(0) === 3 ? viewOf(p.payload).getUint8(4) : -1);
  };
  take();
  d.signal(c); // because pending send size was set
  take();
  assert.deepEqual([keys, c.out.used, c.in.header(3)], [[...Array.from({ length: capacity + 5 }, (_, n) => n & 0x7f), -1], 0, 0]);
});

test('a guest that never reads costs 64 packets and no more', () => {
  const d = new FakeDriver();
  d.connect();
  const c = d.open(d.relidOf('keyboard'), 2);
  d.send(c, Uint8Array.of(1, 0, 0, 0, 0, 0, 1, 0));
  let accepted = 0;
  for (let n = 0; n < 1000; n++) if (d.vmbus.sendKey(1, false)) accepted++;
  assert.deepEqual([accepted, d.vmbus.state.channels[c.relid - 1].outgoing.length], [64 + 102 - 1, 64]);
});

test('the guest is signalled when a ring it waits for has room again', () => {
  const d = new FakeDriver();
  d.connect();
  const c = d.open(d.relidOf('keyboard'), 2);
  const leds = Uint8Array.of(4, 0, 0, 0, 0, 0, 0, 0);
  c.out.put(6, 1n, leds);
  c.out.setHeader(3, 4096 - 32); // all that is free, less than will be
  d.signal(c);
  assert.deepEqual([c.out.used, d.takeFlags()], [0, [c.relid]]);
  c.out.put(6, 1n, leds);
  c.out.setHeader(3, 100); // was free all the time
  d.signal(c);
  assert.deepEqual([c.out.used, d.takeFlags()], [0, []]);
});

test('a broken ring stops its channel with a trace line until it is opened again', () => {
  const { d, c } = ready('heartbeat', [3, 0]);
  c.out.setHeader(0, 12);
  d.signal(c);
  const used = c.in.used;
  d.advance(20 * S);
  assert.deepEqual([c.in.used, d.notes()], [used, ['vmbus heartbeat: broken ring: write index 0xc of a ring of 0x3000 bytes']]);
  assert.match(d.channelInfo(c.relid).state, /^open, broken/);
  d.post(FakeDriver.message(7, c.relid));
  const again = d.open(c.relid);
  d.advance(MS);
  assert.equal(again.in.used > 0, true);
});

test('counters and rings are there to be looked at', () => {
  const { d, c } = ready('heartbeat', [3, 0]);
  const { signalsFromGuest, signalsToGuest, packetsFromGuest, packetsToGuest, outgoing, incoming } = d.channelInfo(c.relid);
  assert.deepEqual(
    { signalsFromGuest, signalsToGuest, packetsFromGuest, packetsToGuest },
    {
      signalsFromGuest: 1,
      signalsToGuest: 2,
      packetsFromGuest: 1,
      packetsToGuest: 2,
    },
  );
  assert.deepEqual([outgoing?.used, outgoing?.size, incoming?.used], [0, 3 * 4096, 16 + 72 + 8]);
});

test('any packets at all, in any order: no exception, and the ring is drained or the channel stopped', () => {
  const packet = fc.tuple(fc.constantFrom(6, 7, 8, 9, 11, 0, 99), fc.uint8Array({ maxLength: 200 }), fc.boolean());
  const outcomes = new Set<string>();
  fc.assert(
    fc.property(
      fc.constantFrom('heartbeat', 'shutdown', 'timesync', 'keyboard', 'mouse', 'video'),
      fc.array(packet, { maxLength: 20 }),
      fc.nat({ max: 40 }),
      fc.boolean(),
      (device, packets, poke, negotiate) => {
        const d = new FakeDriver();
        d.connect();
        const c = d.open(d.relidOf(device));
        d.advance(MS);
        const q = c.in.take();
        if (negotiate && q) d.send(c, icNegotiated(q, device === 'timesync' ? [4, 0] : [3, 0]), q.transactionId);
        packets.forEach(([type, payload, spoil], n) => {
          if (q && payload.length > 26 && !spoil) payload.set([5], 25);
          c.out.put(type, BigInt(n), payload);
          if (spoil && n === poke) c.out.setHeader(n % 2, n * 4);
          d.signal(c);
        });
        d.advance(12 * S);
        const { state } = d.channelInfo(c.relid);
        outcomes.add(state.slice(0, 12));
        if (state === 'open') assert.equal(c.out.used, 0);
      },
    ),
    { numRuns: 120, seed: 23 },
  );
  assert.deepEqual([...outcomes].sort(), ['open', 'open, broken']);
});
