import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Btf } from '../../../debug-adapter/symbols/btf.ts';
import { Symbolizer } from '../../../debug-adapter/symbols/symbolizer.ts';
import { BtfTypes } from '../../../debug-adapter/types/btf-types.ts';
import { Catalog } from '../../../debug-adapter/types/catalog.ts';
import { childrenOf } from '../../../debug-adapter/types/children.ts';
import { textOf, type View } from '../../../debug-adapter/types/format.ts';
import { Value } from '../../../debug-adapter/types/value.ts';
import { BtfBlob } from './btf-blob.ts';

const BASE = 0xffff_0000_0000_0000n;
const SIZE = 0x4000;

/** The kernel's containers with nodes of four slots, what they hold, and a memory for them. */
function world(memory = new Uint8Array(SIZE)): { view: View; types: Catalog; put(at: number, ...words: bigint[]): void } {
  const b = new BtfBlob();
  const u8 = b.int('unsigned char', 1);
  const u32 = b.int('unsigned int', 4);
  const u64 = b.int('long unsigned int', 8);
  const pointer = b.pointer(0);
  b.struct('xarray', 8, [['xa_head', pointer, 0]]);
  b.struct('xa_node', 40, [
    ['shift', u8, 0],
    ['slots', b.array(pointer, 4), 64],
  ]);
  b.struct('maple_tree', 8, [['ma_root', pointer, 0]]);
  b.struct('maple_range_64', 64, [
    ['pivot', b.array(u64, 3), 64],
    ['slot', b.array(pointer, 4), 256],
  ]);
  b.struct('maple_arange_64', 48, [
    ['pivot', b.array(u64, 1), 64],
    ['slot', b.array(pointer, 2), 128],
  ]);
  b.struct('irq_desc', 8, [['number', u32, 0]]);
  b.struct('page', 8, [['flags', u64, 0]]);
  const node = b.pointer(0);
  b.struct('rb_root', 8, [['rb_node', node, 0]]);
  b.struct('vmap_area', 40, [['rb_node', b.struct('rb_node', 24, [['parent', u64, 0]]), 128]]);
  b.struct('cpumask', 16, [['bits', b.array(u64, 2), 0]]);
  b.struct('hlist_head', 8, [['first', pointer, 0]]);
  b.struct('worker', 24, [['hentry', b.struct('hlist_node', 16, [['next', pointer, 0]]), 64]]);
  b.struct('worker_pool', 16, [['busy_hash', b.array(b.nextId - 3, 2), 0]]);
  b.struct('qstr', 16, [
    ['text', b.array(u8, 8), 0],
    ['name', b.pointer(u8), 64],
  ]);
  const symbols = new Symbolizer();
  symbols.setKernel([{ address: BASE + 0x8n, name: 'nr_cpu_ids', type: 'D', size: 4 }]);
  const types = new Catalog(symbols);
  types.setSources([], [new BtfTypes(new Btf(b.bytes()))]);
  const data = new DataView(memory.buffer);
  const view: View = {
    symbols,
    types,
    memory: {
      read: (address, n) => {
        const at = Number(address - BASE);
        return at >= 0 && at + n <= SIZE ? memory.subarray(at, at + n) : undefined;
      },
    },
  };
  const put = (at: number, ...words: bigint[]): void => {
    for (const [i, w] of words.entries()) data.setBigUint64(at + 8 * i, w, true);
  };
  return { view, types, put };
}

const value = (w: ReturnType<typeof world>, struct: string, at: number, from: string): Value =>
  Value.at(w.types.find('struct', struct) ?? { kind: 'void' }, w.view.memory, BASE + BigInt(at), from);
const names = (w: ReturnType<typeof world>, v: Value): string[] => {
  const children = childrenOf(v, w.view);
  return [...(children?.elements(0, children.count) ?? []), ...(children?.named ?? [])].map((c) =>
    c.text ? `${c.name} ${c.text}` : c.name,
  );
};

test('maple trees: ranges by their first index, leaves and nodes with gaps; a root that is an entry itself', () => {
  const w = world();
  // A node with gaps: up to 99 a leaf, from there on another.
  w.put(0x100, (BASE + 0x1000n) | (3n << 3n) | 6n);
  w.put(0x1008, 99n, (BASE + 0x2000n) | (1n << 3n) | 4n, (BASE + 0x3000n) | (1n << 3n) | 4n);
  // [0, 4]: nothing; [5, 5] and [6, 50]: entries; the rest: reserved.
  w.put(0x2008, 4n, 5n, 50n, 0n, BASE + 0x400n, BASE + 0x408n, 2n);
  w.put(0x3008, 0x1_ffffn, 0n, 0n, 0n, BASE + 0x410n);
  const tree = value(w, 'maple_tree', 0x100, 'sparse_irqs');
  assert.equal(textOf(tree, w.view), 'maple tree of 3 struct irq_desc');
  assert.deepEqual(names(w, tree), ['[5]', '[6]', '[0x20000]', '[links]']);
  w.put(0x100, BASE + 0x400n);
  assert.deepEqual(names(w, tree), ['[0]', '[links]']);
  w.put(0x100, 0n);
  assert.equal(textOf(tree, w.view), 'maple tree of 0 struct irq_desc');
});

test('nodes that lead back, or nowhere, end a tree with the reason, and at once', () => {
  const w = world();
  w.put(0x100, (BASE + 0x1000n) | (3n << 3n) | 6n);
  w.put(0x1008, 99n, (BASE + 0x1000n) | (3n << 3n) | 4n);
  const maple = value(w, 'maple_tree', 0x100, 'sparse_irqs');
  assert.match(names(w, maple).join(), /<the node at 0xffff000000001000 comes a second time: the links are broken>/);
  w.put(0x100, 0x7777_7777_0000_001en);
  assert.match(names(w, maple).join(), /<cannot read the node at 0x7777777700000000>/);
  w.put(0x100, (BASE + 0x1000n) | (9n << 3n) | 2n);
  assert.match(names(w, maple).join(), /<a node of kind 9 at /);
  // An xarray's node whose slots all are that node: 4^12 ways down.
  const self = (BASE + 0x2000n) | 2n;
  w.put(0x108, self);
  w.put(0x2008, self, self, self, self);
  assert.match(names(w, value(w, 'xarray', 0x108, 'address_space.i_pages')).join(), /comes a second time/);
});

test('whatever is in memory, containers are shown in bounded time', { timeout: 60_000 }, () => {
  const pointer = fc
    .tuple(fc.integer({ min: 0, max: SIZE / 8 - 1 }), fc.integer({ min: 0, max: 127 }))
    .map(([at, low]) => (BASE + BigInt(at * 8)) | BigInt(low));
  const word = fc.oneof(
    { weight: 6, arbitrary: pointer },
    { weight: 2, arbitrary: fc.bigInt({ min: 0n, max: 200n }) },
    { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }) },
  );
  fc.assert(
    fc.property(fc.array(word, { minLength: SIZE / 8, maxLength: SIZE / 8 }), (words) => {
      const w = world();
      w.put(0, ...words);
      for (const [struct, from] of [
        ['maple_tree', 'sparse_irqs'],
        ['xarray', 'irq_desc_tree'],
        ['rb_root', 'vmap_area_root'],
        ['worker_pool', ''],
      ])
        for (let at = 0; at < 0x100; at += 8) {
          const v = value(w, struct, at, from);
          assert.equal(typeof textOf(v, w.view), 'string');
          names(w, v);
        }
    }),
    { numRuns: 15 },
  );
});

test('hash tables are lists by bucket; sets of CPUs are numbers; unsigned characters are text when they are', () => {
  const w = world();
  w.put(0x200, 0n, BASE + 0x308n);
  const pool = value(w, 'worker_pool', 0x200, '');
  const [table] = childrenOf(pool, w.view)?.named ?? [];
  assert.equal(textOf(table.value, w.view), '{list of 0 struct worker, list of 1 struct worker}');
  assert.deepEqual(
    childrenOf(table.value, w.view)
      ?.elements(1, 2)
      .map((c) => names(w, c.value)),
    [['[0]', '[links]']],
  );

  w.put(8, 70n);
  w.put(0x210, 0b10111n, ~0n & ((1n << 64n) - 1n));
  const mask = value(w, 'cpumask', 0x210, '');
  assert.equal(textOf(mask, w.view), 'CPUs 0-2,4,64-69', 'not beyond nr_cpu_ids');
  w.put(0x210, 0n, 0n);
  assert.equal(textOf(mask, w.view), 'no CPUs');

  const text = (s: string): bigint => Buffer.from(s.padEnd(8, '\0'), 'latin1').readBigUInt64LE();
  w.put(0x220, text('root'), BASE + 0x230n, text('init'));
  const name = value(w, 'qstr', 0x220, '');
  assert.equal(textOf(name, w.view), '{text = "root", name = 0xffff000000000230 "init"}');
  w.put(0x220, 0x0102n, BASE + 0x230n, 1n);
  assert.equal(textOf(name, w.view), '{text = {2, 1, 0 <repeats 6 times>}, name = 0xffff000000000230}');
});
