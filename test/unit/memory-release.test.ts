/** What memory that the guest has given back costs the process, and how it leaves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Ram } from '../../emulator/memory/ram.ts';
import { RamHistory } from '../../emulator/snapshot.ts';

const MIB = 2 ** 20;

test('memory that was given back is in no snapshot, and leaves the process when the guest is moved into fresh memory', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  /** MiB of this process in RAM, when V8 has let go of what nobody uses. */
  const resident = async (): Promise<number> => {
    for (let i = 0; i < 3; i++) {
      collect();
      await new Promise((resolve) => setImmediate(resolve));
    }
    return process.memoryUsage().rss / MIB;
  };
  const used = (): { moved: Ram } => {
    const ram = new Ram(512 * MIB, 65536);
    const chunk = new Uint8Array(MIB).fill(7);
    for (let at = 0; at < 300 * MIB; at += MIB) ram.write(at, chunk);
    ram.discard(20 * MIB, 280 * MIB);
    const moved = new Ram(512 * MIB, 65536);
    new RamHistory(moved).restore(new RamHistory(ram).take());
    return { moved };
  };
  const before = await resident();
  const { moved } = used();
  const after = await resident();
  assert.deepEqual([moved.bytes[0], moved.bytes[20 * MIB - 1], moved.bytes[20 * MIB]], [7, 7, 0]);
  assert.ok(
    after - before < 150,
    `${before.toFixed(0)} MiB before, ${after.toFixed(0)} MiB after: 300 were used and 20 are left`,
  );
});
