import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { DEFAULTS, type MachineConfig } from '../../emulator/index.ts';
import { debianConfig, Recorded } from './debian.ts';

const embedded = (): MachineConfig => ({
  ...DEFAULTS,
  memory: 64,
  append: '',
  kernel: fs.readFileSync(new URL('../guests/embedded/guest.elf', import.meta.url)),
  kernelName: 'guest.elf',
});

const outcome = (guest: Recorded) => ({
  hash: guest.machine.stateHash(),
  instructions: guest.machine.instructions,
  now: guest.machine.now,
  console: guest.console,
});

function run(config: MachineConfig, slice: number) {
  const guest = new Recorded(config);
  assert.deepEqual(guest.finish(slice), { kind: 'power-off' });
  return outcome(guest);
}

test('the embedded guest: the same run whatever the slices, down to one instruction', () => {
  const whole = run(embedded(), 1e9);
  assert.match(whole.console, /GUEST-DONE/);
  for (const slice of [1, 7, 1000, 33_333]) assert.deepEqual(run(embedded(), slice), whole, `slices of ${slice}`);
});

test('the embedded guest: a run continued from a snapshot, at any point, ends the same', () => {
  const whole = run(embedded(), 1e9);
  for (const at of [1, 20_000, 77_777, 120_001]) {
    const guest = new Recorded(embedded());
    guest.machine.run({ instructions: at });
    const snapshot = guest.machine.snapshot();
    const hash = guest.machine.stateHash();
    guest.finish();
    assert.equal(guest.machine.stateHash(), whole.hash, `taking a snapshot at ${at} changed the run`);
    guest.machine.restore(snapshot);
    assert.equal(guest.machine.stateHash(), hash, `restoring ${at}`);
    assert.deepEqual(guest.finish(), { kind: 'power-off' });
    assert.equal(guest.machine.stateHash(), whole.hash, `continued from ${at}`);
    assert.equal(guest.machine.instructions, whole.instructions);
  }
});

test('a snapshot moves to another machine', () => {
  const whole = run(embedded(), 1e9);
  const a = new Recorded(embedded());
  a.machine.run({ instructions: 60_000 });
  const b = new Recorded(embedded());
  b.machine.restore(a.machine.snapshot());
  assert.deepEqual(b.finish(), { kind: 'power-off' });
  assert.equal(b.machine.stateHash(), whole.hash);
});

test("Debian's kernel: two runs, other slices, and a run continued from a snapshot in the middle are one run", async () => {
  const config = await debianConfig('own');
  const first = run(config, 10_000_000);
  assert.deepEqual(run(config, 1_234_567), first);
  const guest = new Recorded(config);
  guest.machine.run({ instructions: Math.floor(first.instructions / 2) });
  const snapshot = guest.machine.snapshot();
  guest.machine.run({ instructions: 50_000_000 });
  guest.machine.restore(snapshot);
  assert.deepEqual(guest.finish(3_000_001), { kind: 'power-off' });
  assert.equal(guest.machine.stateHash(), first.hash);
  assert.equal(guest.machine.instructions, first.instructions);
});
