import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InputLog, MAX_LOG } from '../../emulator/input-log.ts';

const MIB = 2 ** 20;
type Input = { bytes: Uint8Array } | { network: { data: Uint8Array; id: number } };

test('the log keeps what came last, whole from a moment on that it names', () => {
  const log = new InputLog<Input>();
  const piece = new Uint8Array(MIB);
  for (let n = 0; n < 40; n++) log.add(n, { bytes: piece });
  assert.deepEqual([log.state.entries.length, log.state.missing], [40, -1]);
  for (let n = 40; n < 1000; n++) {
    log.add(n, n % 2 ? { bytes: piece } : { network: { data: piece, id: 1 } });
    const { entries, size, missing } = log.state;
    assert.ok(size <= MAX_LOG && size >= entries.length * MIB);
    assert.deepEqual([entries[0].instructions, entries.at(-1)?.instructions], [missing + 1, n]);
  }
  assert.ok(log.state.entries.length >= 40, 'no more than a quarter goes at once');
});

test('entries without bytes are bounded too', () => {
  const log = new InputLog<{ network: { kind: string } }>();
  for (let n = 0; n < 600_000; n++) log.add(n, { network: { kind: 'written' } });
  assert.ok(log.state.entries.length < 300_000 && log.state.missing > 0, `${log.state.entries.length}`);
});
