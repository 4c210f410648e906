import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { viewOf } from '../../../emulator/base/struct.ts';
import { FakeDriver, type GuestPacket, type OpenedChannel } from './fake-driver.ts';

/** Pipe header, message header, body: as hid-hyperv.c has it. */
const hid = (type: number, body: Uint8Array): Uint8Array => {
  const out = new Uint8Array(16 + body.length);
  [1, 8 + body.length, type, body.length].forEach((w, i) => {
    viewOf(out).setUint32(4 * i, w, true);
  });
  out.set(body, 16);
  return out;
};
const request = (version: number): Uint8Array => {
  const body = new Uint8Array(4);
  viewOf(body).setUint32(0, version, true);
  return hid(0, body);
};
const head = (p: GuestPacket | undefined): number[] =>
  p ? Array.from({ length: 4 }, (_, i) => viewOf(p.payload).getUint32(4 * i, true)) : [];

function opened(): { d: FakeDriver; c: OpenedChannel } {
  const d = new FakeDriver();
  d.connect();
  return { d, c: d.open(d.relidOf('mouse'), 9) };
}
function ready(): { d: FakeDriver; c: OpenedChannel } {
  const o = opened();
  o.d.send(o.c, request(0x2_0000), 1n, 1);
  o.c.in.take();
  o.c.in.take();
  o.d.send(o.c, hid(3, Uint8Array.of(0)), 1n, 1);
  o.d.takeFlags();
  return o;
}

test('version 2.0: a response that fits what the guest has for it, and at once the device with its report descriptor', () => {
  const { d, c } = opened();
  assert.equal(c.in.used, 0);
  d.send(c, request(0x2_0000), 1n, 1);
  const response = c.in.take();
  assert.deepEqual([head(response), response?.payload[20]], [[1, 13, 1, 5], 1]);
  const info = c.in.take();
  assert.ok(info);
  const v = viewOf(info.payload);
  const length = v.getUint16(16 + 32 + 7, true);
  assert.deepEqual(
    [head(info), v.getUint32(16, true), v.getUint16(20, true), [...info.payload.slice(48, 55)]],
    [[1, 8 + 41 + length, 2, 41 + length], 32, 0x045e, [9, 0x21, 1, 1, 0, 1, 0x22]],
  );
  // What the descriptor adds up to: a report of 7 bytes, with 5 buttons, two absolute axes and a wheel (HID 1.11, §6.2.2).
  const items = info.payload.slice(57, 57 + length);
  const inputs: string[] = [];
  const usages: number[] = [];
  let [bits, size, count, depth] = [0, 0, 0, 0];
  for (let at = 0; at < items.length; ) {
    const [tag, n] = [items[at] & 0xfc, [0, 1, 2, 4][items[at] & 3]];
    const value = n === 0 ? 0 : n === 1 ? items[at + 1] : items[at + 1] | (items[at + 2] << 8);
    at += 1 + n;
    if (tag === 0x74) size = value;
    if (tag === 0x94) count = value;
    if (tag === 0x08) usages.push(value);
    if (tag === 0xa0) depth++;
    if (tag === 0xc0) depth--;
    if (tag !== 0x80) continue;
    bits += size * count;
    inputs.push(`${count} x ${size}: ${value}`);
  }
  assert.deepEqual(
    { bits, depth, inputs, usages },
    { bits: 56, depth: 0, inputs: ['5 x 1: 2', '1 x 3: 3', '2 x 16: 2', '1 x 16: 6'], usages: [2, 1, 0x30, 0x31, 0x38] },
  );
  // Linux writes 0x29 over a certain byte of the descriptor if that is 0x25: ours is what it should be.
  assert.equal(items[14], 0x29);
});

test('reports come only after the guest has acknowledged the device; places are clamped', () => {
  const { d, c } = opened();
  assert.equal(d.vmbus.sendMouse({ x: 1, y: 1, buttons: 0 }), false);
  d.send(c, request(0x2_0000), 1n, 1);
  c.in.take();
  c.in.take();
  assert.equal(d.vmbus.sendMouse({ x: 1, y: 1, buttons: 0 }), false);
  d.send(c, hid(3, Uint8Array.of(0)), 1n, 1);
  d.takeFlags();
  assert.equal(d.vmbus.sendMouse({ x: 0x1234, y: 40_000, buttons: 0xff, wheel: -2 }), true);
  const p = c.in.take();
  assert.ok(p);
  assert.deepEqual(
    [head(p), [...p.payload.slice(16, 23)], d.takeFlags()],
    [[1, 15, 4, 7], [0x1f, 0x34, 0x12, 0xff, 0x7f, 0xfe, 0xff], [c.relid]],
  );
  assert.deepEqual(d.channelInfo(c.relid).details, { phase: 'ready', reports: 1, buttons: 0x1f, x: 0x1234, y: 0x7fff });
  d.post(FakeDriver.message(7, c.relid));
  assert.equal(d.vmbus.sendMouse({ x: 1, y: 1, buttons: 0 }), false);
});

test('another version is refused, and an acknowledgement nobody has asked for is none', () => {
  const { d, c } = opened();
  d.send(c, hid(3, Uint8Array.of(0)));
  d.send(c, request(0x1_0000));
  const answer = c.in.take();
  assert.deepEqual([head(answer)[2], answer?.payload[20], c.in.used], [1, 0, 0]);
  d.send(c, hid(3, Uint8Array.of(0)));
  assert.equal(d.vmbus.sendMouse({ x: 1, y: 1, buttons: 0 }), false);
  assert.equal(d.notes().length, 3);
});

test('any messages: no exception, and no more answers than requests', () => {
  const word = fc.constantFrom(0, 1, 2, 3, 4, 5, 8, 13, 0xffff_ffff);
  const packet = fc.tuple(word, word, word, word, fc.uint8Array({ maxLength: 24 }));
  fc.assert(
    fc.property(fc.array(packet, { maxLength: 12 }), (packets) => {
      const { d, c } = ready();
      for (const [a, b, type, size, body] of packets) {
        const payload = new Uint8Array(16 + body.length);
        [a, b, type, size].forEach((w, i) => {
          viewOf(payload).setUint32(4 * i, w, true);
        });
        payload.set(body, 16);
        d.send(c, payload);
        let answers = 0;
        while (c.in.take()) answers++;
        assert.ok(answers <= 2 && c.out.used === 0);
      }
    }),
    { numRuns: 100, seed: 7 },
  );
});
