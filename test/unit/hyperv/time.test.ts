import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeGuest } from './fake-guest.ts';

const ENABLED = 1n;
const PERIODIC = 2n;
const AUTO = 8n;
const direct = (intid: number): bigint => (1n << 12n) | (BigInt(intid) << 4n);
const sint = (n: number): bigint => BigInt(n) << 16n;
const at = (g: FakeGuest): number => g.clock.now / 100;

/** Times (100 ns) at which PPIs were raised while `ns` passed. */
function pulses(g: FakeGuest, ns: number): [number, number][] {
  const out: [number, number][] = [];
  let seen = g.ppis.length;
  g.advance(ns, () => {
    for (; seen < g.ppis.length; seen++) out.push([at(g), g.ppis[seen].intid]);
  });
  return out;
}

test('the reference counter is 100 ns of virtual time, common to all VPs', () => {
  const g = new FakeGuest();
  const seen: bigint[] = [];
  for (const now of [0, 99, 100, 12_345_678_999, 9_000_000_000_000_000]) {
    g.clock.skipTo(now);
    seen.push(g.get('HvRegisterTimeRefCount', now % 2));
  }
  assert.deepEqual(seen, [0n, 0n, 1n, 123_456_789n, 90_000_000_000_000n]);
});

test('the reference TSC page agrees with the counter to the unit, whatever the frequency', () => {
  for (const frequency of [1_000_000_000, 25_000_000, 19_200_000, 62_500_000, 10_000_001]) {
    const g = new FakeGuest({ frequency });
    g.set('HvRegisterReferenceTsc', 0x20_0001n);
    const [sequence, scale, offset] = [
      g.ram.view.getUint32(0x20_0000, true),
      g.ram.view.getBigUint64(0x20_0008, true),
      g.ram.view.getBigInt64(0x20_0010, true),
    ];
    assert.deepEqual([sequence, offset], [1, 0n]);
    for (const now of [0, 40, 100, 1000, 52_083_333, 1_000_000_000, 86_400_000_000_123, 9_000_000_000_000_000]) {
      g.clock.skipTo(now);
      const page = ((g.host.counter() * scale) >> 64n) + offset;
      assert.equal(g.get('HvRegisterTimeRefCount'), page, `${frequency} Hz at ${now} ns`);
      const wall = BigInt(Math.floor(now / 100));
      assert.ok(page <= wall && wall - page <= BigInt(Math.ceil(1e7 / frequency)), `${frequency} Hz at ${now} ns: ${page}`);
    }
  }
});

test('a counter too slow for the page leaves sequence 0, and the register still tells the time', () => {
  const g = new FakeGuest({ frequency: 1_000_000 });
  g.set('HvRegisterReferenceTsc', 0x20_0001n);
  g.clock.skipTo(12_345);
  assert.deepEqual([g.ram.view.getUint32(0x20_0000, true), g.get('HvRegisterTimeRefCount')], [0, 123n]);
});

test('a TSC page outside RAM is a trace line', () => {
  const g = new FakeGuest();
  assert.equal(g.set('HvRegisterReferenceTsc', 0x8000_0001n), 'HV_STATUS_SUCCESS');
  assert.deepEqual(g.notes(), ['reference TSC: page 0x80000 is not RAM']);
});

test('one-shot, direct mode: the PPI comes at COUNT exactly, and the timer disables itself', () => {
  const g = new FakeGuest();
  g.clock.skipTo(1_050);
  g.set('HvRegisterStimer0Config', ENABLED | direct(17));
  g.set('HvRegisterStimer0Count', 500n);
  assert.deepEqual(pulses(g, 1_000_000), [[500, 17]]);
  assert.equal(g.get('HvRegisterStimer0Config'), direct(17));
});

test('a COUNT in the past expires at once', () => {
  const g = new FakeGuest();
  g.clock.skipTo(1_000_000);
  g.set('HvRegisterStimer1Config', ENABLED | direct(31), 1);
  g.set('HvRegisterStimer1Count', 1n, 1);
  g.clock.fireDue();
  assert.deepEqual(g.ppis, [{ vp: 1, intid: 31 }]);
});

test('periodic, direct mode: one PPI per period from when it was started', () => {
  const g = new FakeGuest();
  g.clock.skipTo(700);
  g.set('HvRegisterStimer0Config', PERIODIC | AUTO | direct(17));
  g.set('HvRegisterStimer0Count', 100n);
  assert.deepEqual(pulses(g, 35_000), [
    [107, 17],
    [207, 17],
    [307, 17],
  ]);
  g.set('HvRegisterStimer0Config', PERIODIC | direct(17));
  assert.deepEqual(pulses(g, 35_000), []);
});

test('periods that pass in one skip of idle time are one expiration', () => {
  const g = new FakeGuest();
  g.set('HvRegisterStimer0Config', ENABLED | PERIODIC | direct(17));
  g.set('HvRegisterStimer0Count', 10n);
  g.clock.skipTo(10_050);
  g.clock.fireDue();
  assert.equal(g.ppis.length, 1);
  assert.deepEqual(pulses(g, 1_000), [[110, 17]]);
});

test('auto-enable: writing COUNT starts the timer, writing 0 stops it', () => {
  const g = new FakeGuest();
  g.set('HvRegisterStimer0Config', AUTO | direct(17));
  g.set('HvRegisterStimer0Count', 50n);
  assert.equal(g.get('HvRegisterStimer0Config'), ENABLED | AUTO | direct(17));
  g.set('HvRegisterStimer0Count', 0n);
  assert.equal(g.get('HvRegisterStimer0Config'), AUTO | direct(17));
  assert.deepEqual(pulses(g, 1_000_000), []);
});

test('message mode: type, payload and times, and SINT0 is not legal', () => {
  const g = new FakeGuest();
  g.setUpSynic();
  g.set('HvRegisterSint3', 17n);
  g.set('HvRegisterStimer2Config', ENABLED);
  assert.equal(g.get('HvRegisterStimer2Config'), 0n);
  g.set('HvRegisterStimer2Config', ENABLED | sint(3));
  g.set('HvRegisterStimer2Count', 40n);
  assert.deepEqual(pulses(g, 10_000), [[40, 17]]);
  const { type, size, payload } = g.slot(0, 3);
  const view = new DataView(payload.buffer);
  assert.deepEqual(
    [type, size, view.getUint32(0, true), view.getBigUint64(8, true), view.getBigUint64(16, true)],
    [0x8000_0010, 24, 2, 40n, 40n],
  );
});

test('message mode with a busy slot: delivered upon EOM, expirations in between are one', () => {
  const g = new FakeGuest();
  g.setUpSynic();
  g.partition.deliverMessage(0, 2, 1, Uint8Array.of(1));
  g.set('HvRegisterStimer0Config', ENABLED | PERIODIC | sint(2));
  g.set('HvRegisterStimer0Count', 10n);
  g.advance(3_500);
  assert.deepEqual([g.slot().type, g.slot().flags], [1, 1]);
  assert.ok(g.free());
  g.set('HvRegisterEom', 0n);
  const view = new DataView(g.slot().payload.buffer);
  assert.deepEqual([g.slot().type, view.getBigUint64(8, true), view.getBigUint64(16, true)], [0x8000_0010, 30n, 35n]);
  g.set('HvRegisterStimer0Config', 0n);
  assert.equal(g.free(), false);
});

test('a coarse counter still fires when reference time has reached COUNT, not before', () => {
  const g = new FakeGuest({ frequency: 19_200_000 });
  g.set('HvRegisterStimer0Config', ENABLED | direct(17));
  g.set('HvRegisterStimer0Count', 1_001n);
  const seen: bigint[] = [];
  g.advance(200_000, () => {
    if (g.ppis.length > seen.length) seen.push(g.partition.time.now());
  });
  assert.deepEqual(seen, [1_001n]);
});

test('a COUNT beyond the end of time is never', () => {
  const g = new FakeGuest();
  g.set('HvRegisterStimer0Config', ENABLED | PERIODIC | direct(17));
  g.set('HvRegisterStimer0Count', (1n << 64n) - 1n);
  assert.equal(g.clock.nextDue, Number.POSITIVE_INFINITY);
});
