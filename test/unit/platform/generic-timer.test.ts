import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Clock } from '../../../emulator/base/clock.ts';
import { GenericTimer } from '../../../emulator/platform/generic-timer.ts';

function timer(vpCount = 1, frequency?: number) {
  const clock = new Clock();
  const lines = new Map<string, boolean>();
  const t = new GenericTimer({
    vpCount,
    clock,
    frequency,
    interrupts: { setPpi: (vp, intid, level) => lines.set(`${vp}:${intid}`, level) },
  });
  const at = (ns: number) => {
    clock.skipTo(ns);
    clock.fireDue();
  };
  const high = () => [...lines].filter(([, level]) => level).map(([k]) => k);
  return { t, clock, at, high };
}

test('the counter follows virtual time at its frequency', () => {
  const count = (frequency: number | undefined, ns: number) => {
    const { t, at } = timer(1, frequency);
    at(ns);
    return [t.read(0, 'CNTFRQ_EL0'), t.read(0, 'CNTVCT_EL0'), t.read(0, 'CNTPCT_EL0')];
  };
  assert.deepEqual(count(undefined, 39), [25_000_000n, 0n, 0n]);
  assert.deepEqual(count(undefined, 40), [25_000_000n, 1n, 1n]);
  // 100 days at 1 GHz: nothing is lost to rounding.
  assert.deepEqual(count(1_000_000_000, 8_640_000_000_000_001), [1_000_000_000n, 8_640_000_000_000_001n, 8_640_000_000_000_001n]);
  assert.deepEqual(count(19_200_000, 1_000_000_000), [19_200_000n, 19_200_000n, 19_200_000n]);
});

test('the compare value raises the virtual timer’s PPI exactly when the counter reaches it', () => {
  const { t, clock, at, high } = timer(2);
  t.write(1, 'CNTV_CVAL_EL0', 100n);
  t.write(1, 'CNTV_CTL_EL0', 1n);
  assert.deepEqual([clock.nextDue, t.read(1, 'CNTV_CTL_EL0'), high()], [4000, 1n, []]);
  at(3999);
  assert.deepEqual(high(), []);
  at(4000);
  assert.deepEqual([t.read(1, 'CNTV_CTL_EL0'), high(), clock.nextDue], [5n, ['1:20'], Number.POSITIVE_INFINITY]);
  t.write(1, 'CNTV_CVAL_EL0', 200n);
  assert.deepEqual([high(), clock.nextDue], [[], 8000]);
});

test('IMASK silences, disabling clears the status, and no alarm stays', () => {
  const { t, clock, at, high } = timer();
  t.write(0, 'CNTP_TVAL_EL0', 10n);
  t.write(0, 'CNTP_CTL_EL0', 1n);
  at(400);
  assert.deepEqual(high(), ['0:19']);
  t.write(0, 'CNTP_CTL_EL0', 3n);
  assert.deepEqual([high(), t.read(0, 'CNTP_CTL_EL0')], [[], 7n]);
  t.write(0, 'CNTP_CTL_EL0', 0n);
  t.write(0, 'CNTP_CVAL_EL0', 1000n);
  assert.deepEqual([t.read(0, 'CNTP_CTL_EL0'), clock.nextDue], [0n, Number.POSITIVE_INFINITY]);
});

test('the timer value is a signed 32-bit view of the compare value', () => {
  const { t, at } = timer();
  at(40_000);
  t.write(0, 'CNTV_TVAL_EL0', 0xffff_fff6n); // -10
  assert.deepEqual([t.read(0, 'CNTV_CVAL_EL0'), t.read(0, 'CNTV_TVAL_EL0')], [990n, 0xffff_fff6n]);
  t.write(0, 'CNTV_TVAL_EL0', 5n);
  at(40_120);
  assert.equal(t.read(0, 'CNTV_TVAL_EL0'), 2n);
});

test('a compare value that virtual time never reaches sets no alarm', () => {
  const { t, clock } = timer();
  t.write(0, 'CNTV_CTL_EL0', 1n);
  t.write(0, 'CNTV_CVAL_EL0', 0xffff_ffff_ffff_ffffn);
  assert.equal(clock.nextDue, Number.POSITIVE_INFINITY);
});

test('the event stream wakes at the transitions that CNTKCTL_EL1 picks', () => {
  const { t, at } = timer();
  at(400); // count 10
  const next = (evnti: number, down: boolean) => t.nextEvent((evnti << 4) | 4 | (down ? 8 : 0)) / 40;
  assert.deepEqual(
    [next(0, false), next(0, true), next(3, false), next(3, true), next(4, false), t.nextEvent(0)],
    [11, 12, 24, 16, 16, Number.POSITIVE_INFINITY],
  );
});
