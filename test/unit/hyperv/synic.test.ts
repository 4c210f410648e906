import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeGuest } from './fake-guest.ts';

const message = (n: number): Uint8Array => Uint8Array.of(n, 0, 0, 0, 0, 0, 0, 0);
const send = (g: FakeGuest, n: number, sint = 2): void => g.partition.deliverMessage(0, sint, 1, message(n));

test('a message lands in its slot with size, type and sender, and pulses the PPI of its SINT on its VP', () => {
  const g = new FakeGuest();
  g.setUpSynic(1);
  g.partition.deliverMessage(1, 2, 1, message(7), 9n);
  assert.deepEqual(g.slot(1), { type: 1, size: 8, flags: 0, payload: message(7) });
  assert.equal(g.ram.view.getBigUint64(0x10_2000 + 2 * 256 + 8, true), 9n);
  assert.deepEqual(g.ppis, [{ vp: 1, intid: 18 }]);
});

test('a busy slot is left alone, its pending bit set, and EOM brings the rest in order', () => {
  const g = new FakeGuest();
  g.setUpSynic();
  for (const n of [1, 2, 3]) send(g, n);
  assert.deepEqual([g.slot().payload[0], g.slot().flags], [1, 1]);
  const seen = [1];
  while (g.free()) {
    g.set('HvRegisterEom', 0n);
    seen.push(g.slot().payload[0]);
  }
  assert.deepEqual([seen, g.slot().flags, g.ppis.length], [[1, 2, 3], 0, 3]);
});

test('without EOM a freed slot gets the next message when another one is sent', () => {
  const g = new FakeGuest();
  g.setUpSynic();
  send(g, 1);
  send(g, 2);
  g.free();
  send(g, 3);
  assert.deepEqual([g.slot().payload[0], g.slot().flags], [2, 1]);
});

test('messages wait while SynIC, page or SINT is off, whichever comes last', () => {
  for (const [off, on] of [
    [
      ['HvRegisterScontrol', 0n],
      ['HvRegisterScontrol', 1n],
    ],
    [
      ['HvRegisterSipp', 0n],
      ['HvRegisterSipp', 0x10_0001n],
    ],
    [
      ['HvRegisterSint2', 0x1_0012n],
      ['HvRegisterSint2', 18n],
    ],
  ] as [[string, bigint], [string, bigint]][]) {
    const g = new FakeGuest();
    g.setUpSynic();
    g.set(...off);
    send(g, 5);
    assert.deepEqual([g.slot().type, g.ppis.length], [0, 0], off[0]);
    g.set(...on);
    assert.deepEqual([g.slot().payload[0], g.ppis.length], [5, 1], off[0]);
  }
});

test('an event flag interrupts only if its bit was clear', () => {
  const g = new FakeGuest();
  g.setUpSynic();
  const at = 0x10_1000 + 2 * 256 + (37 >> 3);
  assert.ok(g.partition.signalFlag(0, 2, 37));
  assert.ok(g.partition.signalFlag(0, 2, 37));
  assert.deepEqual([g.ram.bytes[at], g.ppis.length], [1 << (37 & 7), 1]);
  g.ram.bytes[at] = 0;
  g.partition.signalFlag(0, 2, 37);
  g.partition.signalFlag(0, 2, 38);
  assert.deepEqual([g.ram.bytes[at], g.ppis.length], [3 << (37 & 7), 3]);
});

test('a flag for a masked SINT, a disabled page or beyond 2047 does nothing', () => {
  const g = new FakeGuest();
  g.setUpSynic();
  assert.equal(g.partition.signalFlag(0, 2, 2048), false);
  g.set('HvRegisterSint2', 0x1_0012n);
  assert.equal(g.partition.signalFlag(0, 2, 1), false);
  g.set('HvRegisterSint2', 18n);
  g.set('HvRegisterSifp', 0n);
  assert.equal(g.partition.signalFlag(0, 2, 1), false);
  assert.deepEqual([g.ppis, g.ram.bytes.slice(0x10_1000, 0x10_2000).some((b) => b !== 0)], [[], false]);
});

test('a polling SINT gets its message without an interrupt', () => {
  const g = new FakeGuest();
  g.setUpSynic();
  g.set('HvRegisterSint2', 18n | (1n << 18n));
  send(g, 4);
  assert.deepEqual([g.slot().payload[0], g.ppis], [4, []]);
});

test('the INTID of a SINT is used as it is, and one that is no PPI is told about', () => {
  const g = new FakeGuest();
  g.setUpSynic();
  g.set('HvRegisterSint2', 16n);
  send(g, 1);
  g.free();
  g.set('HvRegisterSint2', 33n);
  send(g, 2);
  assert.deepEqual([g.ppis, g.slot().payload[0]], [[{ vp: 0, intid: 16 }], 2]);
  assert.deepEqual(g.notes(), ['synic 0: SINT2: vector 33 is not a PPI, no interrupt']);
});

test('pages outside RAM lose nothing but the delivery', () => {
  const g = new FakeGuest();
  g.setUpSynic();
  g.set('HvRegisterSipp', 0xffff_ffff_ffff_f001n);
  g.set('HvRegisterSifp', 0x8000_0001n);
  send(g, 1);
  assert.equal(g.partition.signalFlag(0, 2, 1), false);
  assert.deepEqual(g.ppis, []);
  g.set('HvRegisterSipp', 0x10_0001n);
  assert.equal(g.slot().payload[0], 1);
});

test('SIMP and SIEFP read back bits 11:1, SINTs reset to masked', () => {
  const g = new FakeGuest();
  g.set('HvRegisterSipp', 0x1234_5ffen);
  assert.deepEqual(
    [g.get('HvRegisterSipp'), g.get('HvRegisterSint9'), g.get('HvRegisterScontrol'), g.get('HvRegisterEom')],
    [0x1234_5ffen, 0x1_0000n, 0n, 0n],
  );
});

test('a new operating system finds the SynIC as at power-on', () => {
  const g = new FakeGuest();
  g.setUpSynic();
  send(g, 1);
  send(g, 2);
  g.set('HvRegisterGuestOsId', 0x8100_0006_01c0_0000n);
  assert.deepEqual(
    ['HvRegisterSipp', 'HvRegisterSifp', 'HvRegisterScontrol', 'HvRegisterSint2'].map((n) => g.get(n)),
    [0n, 0n, 0n, 0x1_0000n],
  );
  g.ram.bytes.fill(0, 0x10_0000, 0x10_2000);
  g.setUpSynic();
  assert.equal(g.slot().type, 0);
});
