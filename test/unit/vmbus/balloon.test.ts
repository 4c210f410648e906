/** Dynamic memory against a guest in the manner of hv_balloon. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { viewOf } from '../../../emulator/base/struct.ts';
import { ConfigError } from '../../../emulator/config.ts';
import { assign, capture } from '../../../emulator/snapshot.ts';
import { FakeDriver, type OpenedChannel } from './fake-driver.ts';

const MS = 1_000_000;
const PAGE = 4096;
const MIB = 2 ** 20;

/** Words (u32, or u64 as bigint) as bytes. */
const bytes = (...words: (number | bigint)[]): Uint8Array => {
  const out = new Uint8Array(words.reduce<number>((n, w) => n + (typeof w === 'bigint' ? 8 : 4), 0));
  let at = 0;
  for (const w of words) {
    if (typeof w === 'bigint') viewOf(out).setBigUint64(at, w, true);
    else viewOf(out).setUint32(at, w, true);
    at += typeof w === 'bigint' ? 8 : 4;
  }
  return out;
};

class Guest {
  readonly d: FakeDriver;
  readonly c: OpenedChannel;
  constructor(options: ConstructorParameters<typeof FakeDriver>[0] = {}) {
    // Rings and pages for hypercalls lie in the first 4 MiB.
    this.d = new FakeDriver({ ramSize: 8 * MIB, ...options });
    this.d.connect();
    this.c = this.d.open(this.d.relidOf('balloon'), 6);
    this.d.advance(MS);
  }
  say(type: number, ...words: (number | bigint)[]): void {
    const body = bytes(...words);
    this.d.send(this.c, bytes(type | ((8 + body.length) << 16), 7, ...words));
  }
  /** The host's messages: type, transaction id, then the body's words. */
  heard(): number[][] {
    const out: number[][] = [];
    for (let p = this.c.in.take(); p; p = this.c.in.take()) {
      const v = viewOf(p.payload);
      const words = Array.from({ length: v.getUint16(2, true) / 4 - 1 }, (_, i) => v.getUint32(4 + 4 * i, true));
      out.push([v.getUint16(0, true), ...words]);
    }
    return out;
  }
  negotiate(caps = 3n | (7n << 2n)): this {
    this.say(1, 0x2_0000, 0);
    this.say(3, caps, 0n, 0xffff_ffff_ffff_ffffn);
    this.heard();
    return this;
  }
  get details(): Record<string, unknown> {
    return this.d.channelInfo(this.c.relid).details;
  }
  get balloon() {
    return this.d.vmbus.services.balloon;
  }
  reports(): string[] {
    return this.d.events.flatMap((e) => (e.kind === 'service' ? [`${e.ok ? 'ok' : 'failed'}: ${e.message}`] : []));
  }
}

const range = (start: number, count: number): bigint => BigInt(start) | (BigInt(count) << 40n);

test('versions 0.3, 1.0 and 2.0, in the order in which a guest tries them; then its capabilities, and how much it may have', () => {
  const g = new Guest();
  g.say(1, 0x3_0000, 0);
  g.say(1, 0x2_0000, 0);
  assert.deepEqual(g.heard(), [
    [2, 1, 0, 0],
    [2, 1, 1, 0],
  ]);
  g.say(3, 0b11101n, 0n, 0n);
  // 8 MiB in all.
  assert.deepEqual(g.heard(), [
    [4, 2, 1, 0],
    [12, 3, 0, 16, 0, 8, 2048, 0],
  ]);
  assert.deepEqual(g.details, {
    phase: 'ready',
    version: '2.0',
    canBalloon: true,
    canHotAdd: false,
    hotAddAlignment: '128 MiB',
    memory: '8 MiB',
    ballooned: '0 MiB',
    hotAdded: '0 MiB',
  });
  for (const version of [0x1_0000, 3]) {
    const other = new Guest();
    other.say(1, version, 0);
    other.say(3, 1n, 0n, 0n);
    const [accepted, capabilities, ...info] = other.heard();
    assert.deepEqual([accepted, capabilities, info.length], [[2, 1, 1, 0], [4, 2, 1, 0], version === 3 ? 0 : 1]);
  }
});

test('a guest that has sent its version before the host looks is answered', () => {
  const d = new FakeDriver();
  d.connect();
  const c = d.open(d.relidOf('balloon'), 6);
  d.send(c, bytes(1 | (16 << 16), 1, 0x2_0000, 0));
  d.advance(MS);
  d.send(c, bytes(3 | (32 << 16), 1, 1n, 0n, 0n));
  assert.equal((d.channelInfo(c.relid).details as { phase: string }).phase, 'ready');
});

test('the balloon: pages that the guest gives are zero and come back in order; a guest may give less', () => {
  const g = new Guest().negotiate();
  const { ram } = g.d;
  ram.write(1024 * PAGE, new Uint8Array(4 * MIB).fill(0xaa));
  assert.equal(g.balloon.setTarget(6), true);
  assert.deepEqual(g.heard(), [[6, 4, 512, 0]]);
  assert.equal(g.balloon.setTarget(8), false);
  g.say(7, 0, 1 | (2 << 1), range(1500, 24), range(1200, 100));
  assert.deepEqual(g.details.operation, 'balloon 2 MiB, 0.484375 MiB done');
  g.say(7, 0, 0 | (1 << 1), range(1300, 1));
  const zero = Array.from({ length: 1024 }, (_, i) => 1024 + i).filter((page) =>
    ram.bytes.subarray(page * PAGE, (page + 1) * PAGE).every((b) => b === 0),
  );
  const given = (page: number): boolean => (page >= 1500 && page < 1524) || (page >= 1200 && page <= 1300);
  assert.deepEqual(zero, Array.from({ length: 1024 }, (_, i) => 1024 + i).filter(given));
  assert.deepEqual([g.details.memory, g.details.ballooned], ['7.51171875 MiB', '0.48828125 MiB']);
  assert.equal(g.balloon.setTarget(8), true);
  assert.deepEqual(g.heard(), [[8, 5, 0, 2, 1200, 101 << 8, 1500, 24 << 8]]);
  g.say(9);
  assert.deepEqual([g.details.ballooned, g.details.operation], ['0 MiB', undefined]);
  assert.equal(g.balloon.setTarget(8), true);
  assert.deepEqual(g.reports(), [
    'ok: balloon: 0.48828125 MiB of 2 MiB; the guest has 7.51171875 MiB now',
    'ok: unballoon: 0.48828125 MiB; the guest has 8 MiB now',
    'ok: the guest has 8 MiB already',
  ]);
});

test('the balloon: many ranges go back in messages of a page, and in more than one transaction when they are too many', () => {
  const g = new Guest().negotiate();
  g.balloon.setTarget(6);
  // Every other page.
  g.say(7, 0, 1 | (256 << 1), ...Array.from({ length: 256 }, (_, i) => range(1024 + 2 * i, 1)));
  g.say(7, 0, 0 | (256 << 1), ...Array.from({ length: 256 }, (_, i) => range(1536 + 2 * i, 1)));
  g.heard();
  g.balloon.setTarget(8);
  const [first, second, ...none] = g.heard();
  assert.deepEqual([first.slice(0, 4), second.slice(0, 6), none], [[8, 5, 1, 510], [8, 6, 0, 2, 2044, 1 << 8], []]);
  assert.equal(first.length, 4 + 2 * 510);
  g.say(9);
  assert.equal(g.details.ballooned, '0 MiB');
});

test('pages that make no sense end the transaction with a trace line, and are not touched', () => {
  const wrong: [bigint[], RegExp][] = [
    [[range(2044, 5)], /range of 5 pages at page 2044, which is not RAM/],
    [[range(2 ** 39, 1)], /which is not RAM/],
    [[range(1205, 0)], /range of 0 pages/],
    [[range(1024, 600)], /more than asked for/],
    [[range(1203, 4), range(1206, 1)], /page 1206 ballooned twice/],
  ];
  for (const [ranges, message] of wrong) {
    const g = new Guest().negotiate();
    g.d.ram.write(1024 * PAGE, new Uint8Array(4 * MIB).fill(1));
    g.balloon.setTarget(6);
    g.say(7, 0, 1 | (ranges.length << 1), ...ranges);
    assert.match(g.d.notes().join(), message);
    assert.equal(g.details.operation, undefined);
    assert.equal(g.d.ram.bytes[1206 * PAGE], ranges.length > 1 ? 0 : 1);
  }
  const g = new Guest().negotiate();
  g.say(7, 0, 2, range(0, 1));
  g.say(9);
  g.say(11, 100, 1);
  g.balloon.setTarget(6);
  g.say(7, 0, 1 | (300 << 1), range(0, 1));
  g.say(6, 0, 0);
  g.d.send(g.c, bytes(7 | (400 << 16), 1, 0, 0));
  g.d.send(g.c, Uint8Array.of(7, 0, 16));
  assert.deepEqual(
    g.d.notes().map((n) => n.replace('vmbus balloon: ', '')),
    [
      'balloonResponse to no request',
      'unballoonResponse to no request',
      'hotAddResponse to no request',
      'balloonResponse of 300 ranges in 24 bytes',
      'message of type 6',
      'message of type 7 that says it has 400 bytes',
      'message of type 7 that says it has 16 bytes',
    ],
  );
});

test('reports of the guest, and targets that are none', () => {
  const g = new Guest().negotiate();
  g.say(5, 300n, 512n, 0n, 0n, 0, 0);
  g.say(5, 256n, 768n, 0n, 0n, 0, 0);
  const { reports, available, committed } = g.details;
  assert.deepEqual([reports, available, committed], [2, '1 MiB', '3 MiB']);
  for (const target of [0, 1, 3, 10, 2.5, Number.NaN])
    assert.throws(
      () => g.balloon.setTarget(target),
      new ConfigError(`memory of the guest must be 2 to 8 MiB in steps of 2, not ${target}`),
    );
  assert.equal(new Guest().balloon.setTarget(6), false);
  assert.equal(new Guest().negotiate(0n).balloon.setTarget(6), false);
});

test('hot add: above what the guest has, aligned as it says, in one request at a time', () => {
  // The guest has 6 of 8 MiB, and takes memory in steps of 1 MiB.
  const g = new Guest({ installed: 6 * MIB }).negotiate(0b10n);
  assert.equal(g.balloon.hotAdd(1), true);
  assert.deepEqual(g.heard(), [[10, 4, 1536, 256 << 8]]);
  assert.equal(g.balloon.hotAdd(1), false);
  g.say(11, 256, 1);
  assert.deepEqual([g.details.memory, g.details.hotAdded], ['7 MiB', '1 MiB']);
  // A guest that has no room now may have it later.
  for (const result of [0, 1]) {
    assert.equal(g.balloon.hotAdd(1), true);
    assert.deepEqual(g.heard(), [[10, 5 + result, 1792, 256 << 8]]);
    g.say(11, result * 256, result);
  }
  assert.throws(() => g.balloon.hotAdd(1), /1 MiB cannot be added at 8 MiB: the machine has room for 8 MiB/);
  assert.throws(() => g.balloon.hotAdd(0), /must be a whole number of MiB, not 0/);
  assert.deepEqual(g.reports(), [
    'ok: hot add: 1 MiB; the guest has 7 MiB now',
    'failed: hot add: 0 MiB of 1 MiB; the guest has 7 MiB now',
    'ok: hot add: 1 MiB; the guest has 8 MiB now',
  ]);
  assert.equal(new Guest({ installed: 6 * MIB }).negotiate(1n).balloon.hotAdd(1), false);
});

test('what is under way is plain state; a guest that connects anew has all its memory', () => {
  const g = new Guest().negotiate();
  g.balloon.setTarget(6);
  g.say(7, 0, 1 | (1 << 1), range(1100, 50));
  const { state } = g.d.vmbus;
  const before = capture(state) as Record<string, unknown>;
  g.say(7, 0, 1 << 1, range(1010, 5));
  assign(state as unknown as Record<string, unknown>, before);
  assert.deepEqual([g.details.ballooned, g.details.operation], ['0.1953125 MiB', 'balloon 2 MiB, 0.1953125 MiB done']);
  g.d.post(FakeDriver.message(7, g.c.relid));
  assert.deepEqual(g.details, { phase: 'closed' });
});

test('any messages at all: no exception, and pages are counted once', () => {
  const message = fc.tuple(
    fc.constantFrom(0, 1, 2, 3, 5, 6, 7, 7, 7, 9, 11, 12, 99),
    fc.array(fc.oneof(fc.nat({ max: 5 }), fc.nat(), fc.constantFrom(0x1_0000, 0x2_0000, 3)), { maxLength: 3 }),
    fc.array(fc.tuple(fc.nat({ max: 1100 }), fc.nat({ max: 600 })), { maxLength: 5 }),
  );
  const seen = new Set<string>();
  fc.assert(
    fc.property(fc.array(message, { maxLength: 40 }), fc.boolean(), fc.array(fc.nat({ max: 2 })), (messages, good, host) => {
      const g = new Guest({ installed: 6 * MIB });
      if (good) g.negotiate(0b11n);
      messages.forEach(([type, words, ranges], n) => {
        if (host[n] === 1) g.balloon.setTarget(6);
        if (host[n] === 2)
          try {
            g.balloon.hotAdd(1);
          } catch (e) {
            assert.ok(e instanceof ConfigError);
          }
        const counted = type === 7 ? [0, (ranges.length << 1) | (n & 1)] : words;
        g.say(type, ...counted, ...ranges.map(([start, count]) => range(1024 + start, count)));
        g.heard();
        for (const key of Object.keys(g.details)) seen.add(key);
        const { given, givenCount } = g.d.vmbus.state.devices.find((s) => 'givenCount' in s) as {
          given: Uint8Array;
          givenCount: number;
        };
        let bits = 0;
        for (const b of given) for (let i = 0; i < 8; i++) bits += (b >> i) & 1;
        assert.equal(bits, givenCount);
      });
      assert.equal(g.c.out.used, 0);
    }),
    { numRuns: 150, seed: 8 },
  );
  assert.ok(
    ['operation', 'reports', 'hotAdded'].every((key) => seen.has(key)),
    [...seen].join(),
  );
});

test('a guest that does not answer: the operation ends after five minutes with what there is, and another may begin', () => {
  const g = new Guest().negotiate();
  assert.equal(g.balloon.setTarget(4), true);
  g.d.advance(200e9);
  // One of two grains, and more to come.
  g.say(7, 0, (1 << 1) | 1, range(1024, 512));
  g.d.advance(299e9);
  assert.deepEqual([g.reports(), g.balloon.setTarget(4)], [[], false]);
  g.d.advance(2e9);
  assert.deepEqual(g.reports(), [
    'failed: balloon: the guest has not answered within 300 s, 2 MiB of 4 MiB; the guest has 6 MiB now',
  ]);
  assert.equal(g.balloon.setTarget(4), true);
});
