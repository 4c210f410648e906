/** What memory that the guest has given back costs the process, and how it leaves. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { DEFAULTS, type Machine } from '../../emulator/index.ts';
import { createMachine } from '../../emulator/load.ts';
import { Ram } from '../../emulator/memory/ram.ts';
import { RamHistory } from '../../emulator/snapshot.ts';

const MIB = 2 ** 20;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** MiB of this process in RAM, when V8 has let go of what nobody uses. */
async function resident(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return process.memoryUsage().rss / MIB;
}

/** RAM of which 300 MiB were used and 280 given back. */
function used(): Ram {
  const ram = new Ram(512 * MIB, 65536);
  const chunk = new Uint8Array(MIB).fill(7);
  for (let at = 0; at < 300 * MIB; at += MIB) ram.write(at, chunk);
  ram.discard(20 * MIB, 280 * MIB);
  return ram;
}

const WAYS: Record<string, () => Ram> = {
  'by a snapshot': () => {
    const moved = new Ram(512 * MIB, 65536);
    new RamHistory(moved).restore(new RamHistory(used()).take());
    return moved;
  },
  'as it is': () => {
    const ram = used();
    assert.equal(ram.discarded, 280 * MIB);
    ram.renew();
    assert.equal(ram.discarded, 0);
    return ram;
  },
};

for (const [how, move] of Object.entries(WAYS))
  test(`memory that was given back leaves the process when the guest is moved into new memory, ${how}`, async () => {
    const before = await resident();
    const moved = move();
    const after = await resident();
    assert.deepEqual([moved.bytes[0], moved.bytes[20 * MIB - 1], moved.bytes[20 * MIB]], [7, 7, 0]);
    assert.ok(
      after - before < 150,
      `${before.toFixed(0)} MiB before, ${after.toFixed(0)} MiB after: 300 were used and 20 are left`,
    );
  });

test('pages that are given back count once, those that the guest has zeroed too, and those that it has never had do not', () => {
  const ram = new Ram(MIB, 65536);
  ram.write(8192, new Uint8Array(4096).fill(1));
  ram.write(16384, new Uint8Array(4096));
  for (let i = 0; i < 2; i++) ram.discard(0, 65536);
  assert.deepEqual([ram.discarded, ram.bytes[8192]], [2 * 4096, 0]);
  ram.renew();
  assert.equal(ram.discarded, 0);
  ram.discard(8192, 4096);
  assert.equal(ram.discarded, 4096);
});

test('nothing of a machine keeps the memory that it has moved out of: regions, breakpoints, filters and watchpoints do not', async () => {
  const memories: WeakRef<WebAssembly.Memory>[] = [];
  const { Memory } = WebAssembly;
  WebAssembly.Memory = class extends Memory {
    constructor(what: ConstructorParameters<typeof Memory>[0]) {
      super(what);
      memories.push(new WeakRef(this));
    }
  };
  let machine: Machine;
  try {
    const kernel = fs.readFileSync(new URL('../guests/embedded/guest.elf', import.meta.url));
    machine = createMachine({ ...DEFAULTS, memory: 64, append: '', kernel, kernelName: 'guest.elf', threshold: 50 });
    const address = machine.readRegister(0, 'pc') ?? 0n;
    machine.setBreakpoint(address, { clauses: [{ condition: { op: 'const', value: 0n } }] });
    machine.setWatchpoint(address + 0x100_000n, 8, 'w');
    machine.run({ instructions: 3_000_000 });
    assert.ok(Number(machine.engineStatistics().made) > 0);
    machine.releaseMemory();
  } finally {
    WebAssembly.Memory = Memory;
  }
  machine.run({ instructions: 3_000_000 });
  await resident();
  assert.deepEqual(
    memories.map((m) => m.deref() !== undefined),
    [false, true],
  );
});
