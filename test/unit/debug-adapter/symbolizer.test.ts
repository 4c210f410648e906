import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KernelSymbol } from '../../../debug-adapter/symbols/memory.ts';
import { Symbolizer } from '../../../debug-adapter/symbols/symbolizer.ts';

const symbol = (address: bigint, name: string, size = 0, module?: string): KernelSymbol => ({
  address,
  name,
  type: 'T',
  size,
  ...(module ? { module } : {}),
});
const K = 0xffff_8000_0000_0000n;

function sample(): Symbolizer {
  const s = new Symbolizer();
  s.setKernel(
    [
      symbol(K + 0x200n, 'late', 0x10),
      symbol(K, '_text'),
      symbol(K, 'alias'),
      symbol(K + 0x100n, 'static_one'),
      symbol(K + 0x180n, 'static_one'),
    ],
    K + 0x1000n,
  );
  s.setModules([{ symbols: [symbol(K - 0x1000n, 'probe', 0, 'hv_x')], end: K - 0x800n }]);
  return s;
}

test('an address is in the last symbol at or below it, the first of several at one place', () => {
  const s = sample();
  assert.deepEqual(
    [K, K + 0xffn, K + 0x17cn, K + 0x180n, K + 0x20fn].map((a) => s.format(a)),
    ['_text', '_text+0xff', 'static_one+0x7c', 'static_one', 'late+0xf'],
  );
  assert.equal(s.format(K - 0xff0n), 'probe+0x10 [hv_x]');
});

test('a name that is none is near one that differs in case or in leading underscores', () => {
  const s = new Symbolizer();
  s.setKernel([symbol(K, '_printk'), symbol(K + 16n, 'HvPost')], K + 0x1000n);
  assert.deepEqual(
    ['printk', 'hvpost', '_printk', 'nothing', 'x'].map((n) => s.similar(n)),
    ['_printk', 'HvPost', undefined, undefined, undefined],
  );
});

test('what is outside of everything has no name', () => {
  const s = sample();
  for (const a of [0n, K - 0x800n, K - 1n, K + 0x210n, K + 0x1000n, (1n << 64n) - 1n])
    assert.equal(s.at(a), undefined, a.toString(16));
  assert.equal(s.format(0x10n), '0x0000000000000010');
  assert.equal(new Symbolizer().at(K), undefined);
});

test('a name gives all its addresses, a prefix the names that begin with it', () => {
  const s = sample();
  assert.deepEqual(
    s.named('static_one').map((x) => x.address),
    [K + 0x100n, K + 0x180n],
  );
  assert.equal(s.address('probe'), K - 0x1000n);
  assert.deepEqual(s.named('nothing'), []);
  assert.deepEqual(s.complete('', 3), ['_text', 'alias', 'late']);
  assert.deepEqual(s.complete('stat', 10), ['static_one']);
  assert.deepEqual(s.complete('zzz', 10), []);
});

test('modules come and go without touching the kernel', () => {
  const s = sample();
  s.setModules([]);
  assert.equal(s.address('probe'), undefined);
  assert.equal(s.size, 5);
});

test('a function ends where the next begins', () => {
  const s = sample();
  const end = (a: bigint) => s.endOf(s.at(a) ?? assert.fail());
  assert.equal(end(K + 4n), K + 0x100n);
  assert.equal(end(K + 0x200n), K + 0x210n);
  assert.equal(end(K - 0x1000n), K - 0x800n);
});
