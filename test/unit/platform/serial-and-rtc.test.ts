import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Clock } from '../../../emulator/base/clock.ts';
import { COM1, RTC } from '../../../emulator/platform/addresses.ts';
import { Pl011 } from '../../../emulator/platform/pl011.ts';
import { Pl031 } from '../../../emulator/platform/pl031.ts';

const [DR, FR, LCR_H, CR, IFLS, IMSC, RIS, MIS, ICR] = [0, 0x18, 0x2c, 0x30, 0x34, 0x38, 0x3c, 0x40, 0x44];
const [RX, TX, RT] = [0x10, 0x20, 0x40];
const [RXFE, RXFF, TXFE] = [0x10, 0x40, 0x80];

function uart() {
  const clock = new Clock();
  const out: number[] = [];
  let line = false;
  const u = new Pl011({
    name: 'COM1',
    gpa: COM1.gpa,
    intid: COM1.intid,
    clock,
    interrupts: {
      setSpi: (intid, level) => {
        assert.equal(intid, 33);
        line = level;
      },
    },
    output: (b) => out.push(b),
  });
  const r = (at: number) => Number(u.region.read(at, 4));
  const w = (at: number, v: number) => u.region.write(at, 4, BigInt(v));
  const text = (s: string) => u.input(Uint8Array.from(s, (c) => c.charCodeAt(0)));
  const later = (ns: number) => {
    clock.skipTo(clock.now + ns);
    clock.fireDue();
  };
  return { u, clock, out, r, w, text, later, line: () => line };
}

test('PL011: what is written goes out at once and raises TX', () => {
  const t = uart();
  for (const c of 'ok') t.w(DR, c.charCodeAt(0));
  assert.deepEqual([String.fromCharCode(...t.out), t.r(FR) & TXFE, t.r(RIS), t.line()], ['ok', TXFE, TX, false]);
  t.w(IMSC, TX);
  assert.deepEqual([t.r(MIS), t.line()], [TX, true]);
  t.w(ICR, TX);
  assert.deepEqual([t.r(RIS), t.line()], [0, false]);
  t.w(CR, 0x200); // transmitter off
  t.w(DR, 0x41);
  assert.equal(t.out.length, 2);
});

test('PL011: the receive interrupt comes at the trigger level, the timeout for less', () => {
  const t = uart();
  t.w(IMSC, RX | RT);
  t.w(IFLS, 0); // 1/8: 4 bytes
  t.text('abc');
  assert.deepEqual([t.line(), t.r(FR) & RXFE], [false, 0]);
  t.later(300_000);
  assert.deepEqual([t.r(MIS), t.line()], [RT, true]);
  t.text('d');
  assert.equal(t.r(MIS), RX | RT);
  assert.deepEqual([t.r(DR), t.r(MIS)], [0x61, RT]);
  t.w(ICR, RT);
  assert.equal(t.line(), false);
  t.later(300_000); // three bytes are still there
  assert.equal(t.line(), true);
  assert.deepEqual([t.r(DR), t.r(DR), t.r(DR), t.r(FR) & RXFE, t.line()], [0x62, 0x63, 0x64, RXFE, false]);
  t.later(1e9);
  assert.deepEqual([t.line(), t.clock.nextDue], [false, Number.POSITIVE_INFINITY]);
});

test('PL011: input beyond the FIFO waits and nothing is lost', () => {
  const t = uart();
  const sent = Array.from({ length: 100 }, (_, i) => 32 + (i % 90));
  t.u.input(Uint8Array.from(sent));
  assert.equal(t.r(FR) & RXFF, RXFF);
  const got: number[] = [];
  while ((t.r(FR) & RXFE) === 0) got.push(t.r(DR));
  assert.deepEqual(got, sent);
});

test('PL011: without FIFOs it holds one byte, and a receiver that is off holds none', () => {
  const t = uart();
  t.w(LCR_H, 0x60);
  t.text('xy');
  assert.deepEqual([t.r(RIS) & RX, t.r(FR) & RXFF, t.r(DR), t.r(DR), t.r(FR) & RXFE], [RX, RXFF, 0x78, 0x79, RXFE]);
  t.w(CR, 0x101);
  t.text('z');
  assert.equal(t.r(FR) & RXFE, RXFE);
  t.w(CR, 0x301);
  assert.equal(t.r(DR), 0x7a);
});

test('PL011: loopback, identification and plain registers', () => {
  const t = uart();
  t.w(CR, 0x381);
  t.w(DR, 0x55);
  assert.deepEqual([t.out, t.r(DR)], [[], 0x55]);
  for (const at of [0x24, 0x28, 0x48]) t.w(at, 0xfffff);
  assert.deepEqual([t.r(0x24), t.r(0x28), t.r(0x48)], [0xffff, 0x3f, 7]);
  assert.deepEqual(
    [0xfe0, 0xfe4, 0xfe8, 0xfec, 0xff0, 0xff4, 0xff8, 0xffc].map(t.r),
    [0x11, 0x10, 0x34, 0, 0x0d, 0xf0, 0x05, 0xb1],
  );
});

test('PL031: seconds since 1970 follow virtual time; a load shifts them; the match interrupts', () => {
  const clock = new Clock();
  let line = false;
  const rtc = new Pl031({
    name: 'RTC',
    gpa: RTC.gpa,
    intid: RTC.intid,
    clock,
    startTime: 1_767_225_600_400,
    interrupts: {
      setSpi: (_, level) => {
        line = level;
      },
    },
  });
  const r = (at: number) => Number(rtc.region.read(at, 4));
  const w = (at: number, v: number) => rtc.region.write(at, 4, BigInt(v));
  const seen = [r(0)];
  clock.skipTo(599_999_999);
  seen.push(r(0));
  clock.skipTo(600_000_000);
  seen.push(r(0));
  assert.deepEqual(seen, [1_767_225_600, 1_767_225_600, 1_767_225_601]);
  w(8, 1000);
  assert.deepEqual([r(0), r(8)], [1000, 1000]);
  w(0x10, 1);
  w(4, 1003);
  assert.equal(clock.nextDue, 3_600_000_000);
  clock.skipTo(3_600_000_000);
  clock.fireDue();
  assert.deepEqual([r(0), r(0x18), line], [1003, 1, true]);
  w(0x1c, 1);
  assert.deepEqual([r(0x14), line], [0, false]);
  assert.deepEqual([0xfe0, 0xfe4, 0xfe8, 0xff0].map(r), [0x31, 0x10, 0x14, 0x0d]);
});
