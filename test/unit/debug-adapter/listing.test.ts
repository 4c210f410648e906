import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Listings } from '../../../debug-adapter/listing.ts';
import { codeAddresses } from '../../../debug-adapter/stops.ts';
import type { KernelSymbol } from '../../../debug-adapter/symbols/memory.ts';
import { Symbolizer } from '../../../debug-adapter/symbols/symbolizer.ts';

const symbol = (name: string, address: bigint, size: number, module?: string): KernelSymbol => ({
  name,
  address,
  size,
  type: 't',
  ...(module ? { module } : {}),
});

/** A session's symbols; `slide` is what KASLR adds. */
function session(slide = 0n) {
  const symbols = new Symbolizer();
  symbols.setKernel([symbol('short', 0x1000n + slide, 0x100), symbol('long', 0x2000n + slide, 0x3000)], 0x9000n + slide);
  symbols.setModules([{ symbols: [symbol('short', 0x20000n + slide, 0x40, 'm')], end: 0x21000n + slide }]);
  return { symbols, listings: new Listings() };
}

test('every instruction has its line, in the part of a long function that it is in', () => {
  const { symbols, listings } = session();
  const { listing, line } = listings.at(0x4010n, symbols);
  assert.deepEqual([listing.name, line], ['long, part 2.a64', 6]);
  assert.equal(listings.address(listing, line), 0x4010n);
  assert.equal(listings.address(listing, 1), undefined, 'the first line is a title');
  assert.equal(listings.at(0x4000n, symbols).listing, listing);
});

test('documents of an earlier session are known by name: their ids mean something else now', () => {
  const before = session();
  const shown = [0x4010n, 0x1004n, 0x20008n].map((at) => ({ at, ...before.listings.at(at, before.symbols) }));
  const now = session(0x70000n);
  now.listings.at(0x71000n, now.symbols);
  for (const { at, listing, line } of shown) {
    const source = { sourceReference: listing.id, path: listing.name };
    const found = now.listings.find(source, now.symbols) ?? assert.fail(listing.name);
    assert.equal(found.name, listing.name);
    assert.equal(now.listings.address(found, line), at + 0x70000n);
    // Before the kernel is found there is only the name to go by.
    assert.equal(new Listings().find(source, new Symbolizer()), undefined);
    assert.ok(codeAddresses(now.listings.place(listing.name, line) ?? '', now.symbols).includes(at + 0x70000n));
  }
  assert.equal(now.listings.place('short.a64', 1), undefined);
  assert.equal(now.listings.place('main.c', 7), undefined);
  assert.equal(now.listings.find({ sourceReference: 77 }, now.symbols), undefined);
});
