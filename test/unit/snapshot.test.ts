import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE, Ram } from '../../emulator/memory/ram.ts';
import { Hash, RamHistory, assign, capture, hashRam } from '../../emulator/snapshot.ts';

const hashOf = (ram: Ram): string => {
  const h = new Hash();
  hashRam(h, ram);
  return h.digest();
};

test('captured state comes back in place: objects and typed arrays that parts hold keep their identity', () => {
  const regs = new Uint32Array([1, 2, 3]);
  const queue = [{ a: 1n }, { a: 2n }];
  const state: Record<string, unknown> = { regs, queue, n: 7, nested: { on: true } };
  const nested = state.nested;
  const saved = capture(state) as Record<string, unknown>;
  regs[1] = 99;
  queue.push({ a: 3n });
  (nested as { on: boolean }).on = false;
  state.extra = 1;
  assign(state, saved);
  assert.deepEqual(state, { regs: new Uint32Array([1, 2, 3]), queue: [{ a: 1n }, { a: 2n }], n: 7, nested: { on: true } });
  assert.equal(state.regs, regs);
  assert.equal(state.queue, queue);
  assert.equal(state.nested, nested);
});

test('state that is not plain is refused with its path', () => {
  assert.throws(() => capture({ ok: 1, bad: { inner: new Map() } }), /state\.bad\.inner is not plain state/);
});

test('the hash of state does not depend on the order of keys, and on nothing less than every value', () => {
  const h = (v: unknown): string => {
    const x = new Hash();
    x.plain(v);
    return x.digest();
  };
  assert.equal(h({ a: 1, b: [2n, 'x'] }), h({ b: [2n, 'x'], a: 1 }));
  const all = [
    h({ a: 1 }),
    h({ a: 1n }),
    h({ a: '1' }),
    h({ a: [1] }),
    h({ b: 1 }),
    h({ a: new Uint8Array([1]) }),
    h({ a: true }),
    h({}),
  ];
  assert.equal(new Set(all).size, all.length);
});

test('RAM snapshots share unchanged pages and restore exactly, in any order', () => {
  const ram = new Ram(16 * PAGE, 65536);
  const history = new RamHistory(ram);
  ram.write(3 * PAGE, new Uint8Array([1, 2, 3]));
  const a = history.take();
  const hashA = hashOf(ram);
  ram.write(5 * PAGE, new Uint8Array([9]));
  const b = history.take();
  const hashB = hashOf(ram);
  assert.equal(a.pages[3], b.pages[3]);
  assert.notEqual(hashA, hashB);
  ram.write(3 * PAGE, new Uint8Array([7]));
  history.restore(a);
  assert.equal(hashOf(ram), hashA);
  assert.equal(ram.bytes[5 * PAGE], 0);
  history.restore(b);
  assert.equal(hashOf(ram), hashB);
  history.restore(a);
  assert.equal(hashOf(ram), hashA);
});

test('a page written back to zeros hashes like one never written', () => {
  const x = new Ram(4 * PAGE, 65536);
  const y = new Ram(4 * PAGE, 65536);
  y.write(PAGE, new Uint8Array([1]));
  y.write(PAGE, new Uint8Array([0]));
  assert.equal(hashOf(x), hashOf(y));
});

test('pages that the guest has given back are in no snapshot, and one that was never written is not touched', () => {
  const ram = new Ram(8 * PAGE, 65536);
  const history = new RamHistory(ram);
  ram.write(2 * PAGE, new Uint8Array(PAGE).fill(7));
  const full = history.take();
  const fullHash = hashOf(ram);
  ram.discard(PAGE, 3 * PAGE);
  assert.deepEqual(ram.dirtyPages(), [2]);
  const empty = history.take();
  assert.deepEqual(
    [full, empty].map((s) => s.pages.filter((p) => p !== undefined).length),
    [1, 0],
  );
  assert.equal(hashOf(ram), hashOf(new Ram(8 * PAGE, 65536)));
  history.restore(full);
  assert.equal(hashOf(ram), fullHash);
  history.restore(empty);
  assert.ok(ram.bytes.every((b) => b === 0));
});
