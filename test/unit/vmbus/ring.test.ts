import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Ram } from '../../../emulator/memory/ram.ts';
import { Ring } from '../../../emulator/vmbus/ring.ts';
import { FakeGuest } from '../hyperv/fake-guest.ts';
import { GuestRing } from './fake-driver.ts';

const PFNS = [9, 40, 7, 300]; // scattered, three data pages
const bytes = (n: number, seed: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => (seed * 31 + i * 7) & 0xff);
const padded = (b: Uint8Array): Uint8Array => {
  const out = new Uint8Array(Math.ceil(b.length / 8) * 8);
  out.set(b);
  return out;
};

const both = (pfns = PFNS) => {
  const g = new FakeGuest();
  const guest = new GuestRing(g, pfns);
  guest.reset();
  // As the second ring of a GPADL: the first two pages are another's.
  const host = new Ring(g.ram, [1, 2, ...pfns], 2, pfns.length);
  return { g, guest, host };
};

test('packets of any size cross in both directions, wrapping anywhere, and nothing else is written', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 4000 })), { minLength: 20, maxLength: 120 }),
      fc.boolean(),
      (steps, hostWrites) => {
        const { g, guest, host } = both();
        const neighbours = [8, 10, 39, 41, 6, 299, 301].flatMap((p) => [...g.ram.read(p * 4096, 4096)]);
        const sent: Uint8Array[] = [];
        let n = 0;
        for (const [write, size] of steps) {
          if (write) {
            const payload = bytes(size, n);
            if (16 + Math.ceil(size / 8) * 8 + 8 >= guest.size - guest.used) {
              if (hostWrites) assert.equal(host.put(6, 1n, false, payload), 'full');
              continue;
            }
            n++;
            if (hostWrites) assert.notEqual(host.put(6, BigInt(n), true, payload), 'full');
            else guest.put(6, BigInt(n), payload, 1);
            sent.push(padded(payload));
          } else {
            const p = hostWrites ? guest.take() : host.take();
            assert.notEqual(typeof p, 'string');
            assert.deepEqual((p as { payload: Uint8Array } | undefined)?.payload, sent.shift());
          }
          assert.equal(host.used, guest.used);
        }
        assert.deepEqual(
          [8, 10, 39, 41, 6, 299, 301].flatMap((p) => [...g.ram.read(p * 4096, 4096)]),
          neighbours,
        );
      },
    ),
    { numRuns: 40, seed: 3 },
  );
});

test('a ring is never filled completely', () => {
  const { guest, host } = both([9, 40]);
  assert.equal(host.put(6, 1n, false, bytes(4096 - 24, 1)), 'full');
  assert.equal(host.put(6, 1n, false, bytes(4096 - 32, 1)), 'signal');
  assert.deepEqual([host.free, guest.take()?.payload.length, host.free], [8, 4096 - 32, 4096]);
});

test('the consumer is signalled when the ring was empty and it does not mask interrupts', () => {
  const { guest, host } = both();
  const put = () => host.put(6, 1n, false, bytes(8, 1));
  const first = [put(), put()];
  guest.take();
  const notEmpty = put();
  guest.take();
  guest.take();
  guest.setHeader(2, 1);
  const masked = put();
  guest.setHeader(2, 0);
  guest.take();
  assert.deepEqual([first, notEmpty, masked, put()], [['signal', 'written'], 'written', 'written', 'signal']);
});

test('the pending send size is set only for a consumer that knows it', () => {
  const { guest, host } = both();
  host.pendingSendSize = 100;
  assert.equal(guest.header(3), 100);
  guest.setHeader(3, 0);
  guest.setHeader(16, 0);
  host.pendingSendSize = 100;
  assert.equal(guest.header(3), 0);
});

test('headers, ranges and descriptors that make no sense are told apart, and move nothing', () => {
  const fault = (spoil: (g: GuestRing) => void): string => {
    const { guest, host } = both();
    guest.put(6, 1n, bytes(64, 1));
    spoil(guest);
    const before = [guest.header(0), guest.header(1)];
    const p = host.take();
    assert.deepEqual([guest.header(0), guest.header(1)], before);
    return typeof p === 'string' ? p : `taken: ${p?.payload.length}`;
  };
  const descriptor = (at: number, value: number) => (r: GuestRing) => r.g.ram.view.setUint16(r.byte(0) + at, value, true);
  assert.deepEqual(
    [
      fault((r) => r.setHeader(0, 0x3000)),
      fault((r) => r.setHeader(0, 4)),
      fault((r) => r.setHeader(1, 0xffff_fff8)),
      fault((r) => r.setHeader(0, 16)),
      fault(descriptor(2, 1)),
      fault(descriptor(2, 0xffff)),
      fault(descriptor(4, 1)),
      fault(descriptor(4, 0)),
      fault(descriptor(4, 11)),
      fault(descriptor(4, 0xffff)),
    ],
    [
      'write index 0x3000 of a ring of 0x3000 bytes',
      'write index 0x4 of a ring of 0x3000 bytes',
      'read index 0xfffffff8 of a ring of 0x3000 bytes',
      '16 bytes left, less than a packet',
      'packet with header of 8 and length of 80 bytes where 88 bytes wait',
      'packet with header of 524280 and length of 80 bytes where 88 bytes wait',
      'packet with header of 16 and length of 8 bytes where 88 bytes wait',
      'packet with header of 16 and length of 0 bytes where 88 bytes wait',
      'packet with header of 16 and length of 88 bytes where 88 bytes wait',
      'packet with header of 16 and length of 524280 bytes where 88 bytes wait',
    ],
  );
});

test('what lies between descriptor and payload is kept: GPA ranges', () => {
  const { guest, host } = both();
  guest.put(9, 5n, bytes(48, 2));
  guest.g.ram.view.setUint16(guest.byte(2), 5, true); // the payload starts at 40
  const p = host.take();
  assert.ok(typeof p === 'object');
  assert.deepEqual([p.type, p.transactionId, p.ranges, p.payload], [9, 5n, bytes(48, 2).slice(0, 24), bytes(48, 2).slice(24)]);
});

test('any bytes in a ring give a packet, nothing or a fault, and reading ends', () => {
  const ram = new Ram(0x40_0000, 65536);
  const ring = new Ring(ram, PFNS, 0, PFNS.length);
  const kinds = new Set<string>();
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 64, maxLength: 400 }),
      fc.nat({ max: 0x600 }),
      fc.nat({ max: 0x600 }),
      fc.nat({ max: 9 }),
      (noise, write, apart, few) => {
        const read = few === 0 ? write : apart;
        for (let i = 0; i < 0x3000; i++)
          ram.bytes[PFNS[1 + (i >> 12)] * 4096 + (i & 4095)] = noise[i % noise.length] & (i & 1 ? 0 : 0xff);
        ram.view.setUint32(9 * 4096, write * 8, true);
        ram.view.setUint32(9 * 4096 + 4, read * 8, true);
        for (let n = 0; n < 0x3000 / 24; n++) {
          const p = ring.take();
          kinds.add(p === undefined ? 'empty' : typeof p);
          if (typeof p !== 'object') return;
        }
        assert.equal(ring.take(), undefined);
      },
    ),
    { numRuns: 300, seed: 5 },
  );
  assert.deepEqual([...kinds].sort(), ['empty', 'object', 'string']);
});
