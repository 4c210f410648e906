import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeGuest } from './fake-guest.ts';

const PAGE = 4096;
const SMALL = (page: number, more: number): bigint => (BigInt(page) << 12n) | BigInt(more);
const LARGE = (large: number, more: number, size = 0): bigint => (BigInt(large) << 21n) | BigInt((size << 12) | (1 << 11) | more);

/** HvExtCallMemoryHeatHint with these ranges; status, and which pages of 1024 are still what they were. */
function hint(g: FakeGuest, type: bigint, ranges: bigint[]): [string | undefined, number] {
  g.ram.write(0, new Uint8Array(g.ram.size).fill(0x5a));
  g.ram.view.setBigUint64(0x1000, type, true);
  ranges.forEach((r, i) => {
    g.ram.view.setBigUint64(0x1008 + 8 * i, r, true);
  });
  const { statusName } = g.smccc((BigInt(ranges.length) << 32n) | 0x8003n, [0x1000n, 0n]);
  let kept = 0;
  for (let page = 0; page < 1024; page++) if (g.ram.bytes[page * PAGE + 77] === 0x5a) kept++;
  return [statusName, kept];
}

test('cold discard hints: pages of 4 KiB, 2 MiB and 1 GiB; what is not RAM or no hint is refused', () => {
  const cases: [bigint, bigint[], string, number][] = [
    [2n, [SMALL(2, 0), SMALL(10, 9)], 'HV_STATUS_SUCCESS', 11],
    [2n, [LARGE(1, 0)], 'HV_STATUS_SUCCESS', 512],
    [0n, [LARGE(1, 0)], 'HV_STATUS_SUCCESS', 0],
    [1n, [SMALL(5, 5)], 'HV_STATUS_SUCCESS', 0],
    [2n, [LARGE(1, 1)], 'HV_STATUS_INVALID_PARAMETER', 0],
    [2n, [LARGE(0, 0, 1)], 'HV_STATUS_INVALID_PARAMETER', 0],
    [2n, [SMALL(1023, 1)], 'HV_STATUS_INVALID_PARAMETER', 0],
    [2n, [SMALL(2, 0), (1n << 64n) - 1n], 'HV_STATUS_INVALID_PARAMETER', 1],
    [3n, [SMALL(2, 0)], 'HV_STATUS_INVALID_PARAMETER', 0],
    [1n << 40n, [SMALL(2, 0)], 'HV_STATUS_INVALID_PARAMETER', 0],
  ];
  for (const [type, ranges, status, gone] of cases)
    assert.deepEqual(hint(new FakeGuest(), type, ranges), [status, 1024 - gone], `${type} ${ranges}`);
});

test('a guest that gives hints without end is told that all is well, but all of RAM in 100 ms is enough', () => {
  const g = new FakeGuest();
  const all = Array.from({ length: 500 }, () => SMALL(512, 9));
  assert.deepEqual(hint(g, 2n, all), ['HV_STATUS_SUCCESS', 1013]); // one page has the ranges
  // 4 of 1024 pages are left.
  assert.deepEqual(hint(g, 2n, [SMALL(600, 9)]), ['HV_STATUS_SUCCESS', 1024]);
  g.advance(100_000_000);
  assert.deepEqual(hint(g, 2n, [SMALL(600, 9)]), ['HV_STATUS_SUCCESS', 1014]);
});

test('the hint is there to be seen before it is followed', () => {
  const g = new FakeGuest();
  hint(g, 2n, [LARGE(1, 0)]);
  const call = g.events.findLast((e) => e.kind === 'hypercall');
  assert.deepEqual(call?.input, { HeatType: 2n, GpaRangeList: [{ Gpa: 0x20_0000n, Pages: 512n }] });
});
