/** Memory of devices: at a GPA of its own, and as plain as RAM. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cellOf } from '../../../emulator/cpu/sysregs.ts';
import { DIRTY, PAGE, Ram } from '../../../emulator/memory/ram.ts';
import { Hash, hashRam, RamHistory } from '../../../emulator/snapshot.ts';
import * as a from './engine-asm.ts';
import { bench, type Bench, VECTORS } from './engine-harness.ts';

const GPA = 0xe000_0000;
const SIZE = 0x1_0000;
const FAR = cellOf('FAR_EL1');

/** Runs a program that ends in HVC, or in an abort (whose vector is an HVC). */
function run(b: Bench, words: readonly number[]): Bench {
  b.place([a.hvc(0)], VECTORS + a.VECTOR.SYNC_EL1H);
  b.program([...words, a.hvc(0)]);
  assert.equal(b.cpu.run(0, 1000).kind, 'hvc');
  return b;
}
const withX = (b: Bench, ...x: bigint[]): Bench => {
  x.forEach((v, n) => {
    b.cpu.vps[0].setX(n, v);
  });
  return b;
};
const words = (ram: Ram, at: number, n: number): bigint[] =>
  Array.from({ length: n }, (_, i) => ram.view.getBigUint64(at + 8 * i, true));

test('a guest stores into device memory and reads it back where it is mapped, across pages and by exclusives', () => {
  const b = bench({ deviceMemory: SIZE });
  b.ram.mapDevice(GPA);
  withX(b, BigInt(GPA), 0x1111n, BigInt(GPA + PAGE - 4), 0x2222_3333_4444_5555n, BigInt(GPA + SIZE - 8));
  run(b, [a.str(1, 0, 0), a.str(3, 2, 0), a.ldr(5, 0, 0), a.ldr(6, 2, 0), a.str(3, 4, 0), a.ldxr(7, 4), a.stxr(8, 1, 4)]);
  const x = b.cpu.vps[0];
  assert.deepEqual([x.x(5), x.x(6), x.x(7), x.x(8)], [0x1111n, 0x2222_3333_4444_5555n, 0x2222_3333_4444_5555n, 0n]);
  const { ram } = b;
  assert.deepEqual(
    [words(ram, ram.size, 1), words(ram, ram.size + PAGE - 4, 1), words(ram, ram.size + SIZE - 8, 1)],
    [[0x1111n], [0x2222_3333_4444_5555n], [0x1111n]],
  );
  assert.deepEqual(
    [0, PAGE, SIZE - PAGE].map((o) => ram.flags[(ram.size + o) / PAGE] & DIRTY),
    [DIRTY, DIRTY, DIRTY],
  );
});

test('what is not mapped aborts: before, behind the end, after it has moved, and the GPAs that follow RAM', () => {
  const far = (b: Bench, at: number, words = [a.ldr(5, 0, 0)]): bigint => {
    b.cpu.vps[0].setU64(FAR, 0n);
    run(withX(b, BigInt(at)), words);
    return b.cpu.vps[0].u64(FAR);
  };
  const b = bench({ deviceMemory: SIZE });
  assert.equal(far(b, GPA), BigInt(GPA));
  b.ram.mapDevice(GPA);
  assert.equal(far(b, GPA), 0n);
  assert.equal(far(b, GPA + SIZE - 4), BigInt(GPA + SIZE));
  assert.equal(far(b, b.ram.size), BigInt(b.ram.size));
  b.ram.bytes[b.ram.size] = 0x5a;
  b.ram.mapDevice(GPA + SIZE);
  assert.equal(far(b, GPA), BigInt(GPA));
  assert.equal(far(b, GPA + SIZE), 0n);
  assert.equal(b.cpu.vps[0].x(5), 0x5an);
  b.ram.mapDevice(-1);
  assert.equal(far(b, GPA + SIZE), BigInt(GPA + SIZE));
});

test('device memory can be no place of RAM and no odd one', () => {
  const ram = new Ram(4 * PAGE, 65536, PAGE);
  for (const gpa of [0, 3 * PAGE, GPA + 8]) assert.throws(() => ram.mapDevice(gpa), RangeError);
  assert.deepEqual([ram.at(3 * PAGE, PAGE), ram.at(3 * PAGE, PAGE + 1), ram.at(-1), ram.at(0, -1)], [3 * PAGE, -1, -1, -1]);
});

test('it is in snapshots and in the hash', () => {
  const ram = new Ram(4 * PAGE, 65536, 2 * PAGE);
  const hash = (): string => {
    const h = new Hash();
    hashRam(h, ram);
    return h.digest();
  };
  const history = new RamHistory(ram);
  const empty = history.take();
  const before = hash();
  ram.write(ram.size + PAGE, Uint8Array.of(1, 2, 3));
  const after = hash();
  assert.notEqual(after, before);
  const drawn = history.take();
  history.restore(empty);
  assert.equal(hash(), before);
  history.restore(drawn);
  assert.equal(hash(), after);
});
