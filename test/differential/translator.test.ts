/** The translator does what the interpreter does: the embedded guest, Debian. Vectors are in vectors.test.ts, random programs in fuzz.test.ts. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { DEFAULTS, type MachineConfig } from '../../emulator/index.ts';
import { debianConfig, Recorded } from '../guest/debian.ts';

const embedded = (engine: 'auto' | 'interpreter', threshold?: number): MachineConfig => ({
  ...DEFAULTS,
  memory: 64,
  append: '',
  kernel: fs.readFileSync(new URL('../guests/embedded/guest.elf', import.meta.url)),
  kernelName: 'guest.elf',
  engine,
  threshold,
});

const outcome = (guest: Recorded) => ({
  hash: guest.machine.stateHash(),
  instructions: guest.machine.instructions,
  console: guest.console,
});

function run(config: MachineConfig, slice: number) {
  const guest = new Recorded(config);
  assert.deepEqual(guest.finish(slice), { kind: 'power-off' });
  return outcome(guest);
}

test('the embedded guest: the same run with and without regions, whatever is hot and however it is sliced', () => {
  const want = run(embedded('interpreter'), 1e9);
  for (const [threshold, slice] of [
    [20, 1e9],
    [3, 1e9],
    [3, 33_333],
    [0, 1e9],
    [0, 7001],
  ])
    assert.deepEqual(run(embedded('auto', threshold), slice), want, `threshold ${threshold}, slices of ${slice}`);
});

test('the embedded guest: hashes are equal at every count, and after a snapshot is restored in either engine', () => {
  const [plain, regions, other] = [embedded('interpreter'), embedded('auto', 3), embedded('auto', 0)].map((c) => new Recorded(c));
  for (const at of [5000, 30_011, 77_777, 100_003, 150_001]) {
    for (const g of [plain, regions]) g.machine.run({ instructions: at - g.machine.instructions });
    assert.equal(plain.machine.instructions, at);
    assert.equal(regions.machine.instructions, at);
    assert.equal(regions.machine.stateHash(), plain.machine.stateHash(), `at ${at}`);
    other.machine.restore(regions.machine.snapshot());
    regions.machine.restore(plain.machine.snapshot());
    assert.equal(other.machine.stateHash(), plain.machine.stateHash(), `restored at ${at}`);
  }
  for (const g of [plain, regions, other]) assert.deepEqual(g.finish(), { kind: 'power-off' });
  assert.equal(regions.machine.stateHash(), plain.machine.stateHash());
  assert.equal(other.machine.stateHash(), plain.machine.stateHash());
});

test("Debian's boot: hashes are equal with and without regions at sampled counts", async () => {
  const config = await debianConfig('own');
  const plain = new Recorded({ ...config, engine: 'interpreter' });
  const regions = new Recorded({ ...config, engine: 'auto', threshold: 10_000 });
  for (const at of [60_000_000, 123_456_789, 300_000_007, 555_555_555]) {
    for (const g of [plain, regions]) g.machine.run({ instructions: at - g.machine.instructions });
    assert.equal(regions.machine.stateHash(), plain.machine.stateHash(), `at ${at}`);
  }
  for (const g of [plain, regions]) assert.deepEqual(g.finish(), { kind: 'power-off' });
  assert.deepEqual(outcome(regions), outcome(plain));
});
