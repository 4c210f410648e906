import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { MemorySource } from '../../../debug-adapter/symbols/byte-source.ts';
import { debugInfoOf, KIND } from '../../../debug-adapter/symbols/dwarf/debug-info.ts';
import { ElfFile } from '../../../debug-adapter/symbols/elf-file.ts';
import { LoadedSymbols } from '../../../debug-adapter/symbols/loaded.ts';
import { Symbolizer } from '../../../debug-adapter/symbols/symbolizer.ts';
import { childrenOf } from '../../../debug-adapter/types/children.ts';
import { DwarfTypes } from '../../../debug-adapter/types/dwarf-types.ts';
import { textOf, type View } from '../../../debug-adapter/types/format.ts';
import { Value } from '../../../debug-adapter/types/value.ts';

/** Rust, as the kernel has some: dwarf/shapes.rs. */
const file = new Uint8Array(gunzipSync(fs.readFileSync(path.join(import.meta.dirname, 'dwarf/files/rust.elf.gz'))));
const info = debugInfoOf(new ElfFile(new MemorySource(file, 'rust.elf')));
const loaded = new LoadedSymbols(info);

test('functions of Rust have the names of their modules, and are found by them', () => {
  const [entry] = info.functionEntries('first_of');
  assert.equal(info.frames(entry.body).at(-1)?.name, 'shapes::geometry::first_of');
  assert.deepEqual(
    ['shapes::geometry::first_of', 'geometry::first_of', 'algebra::first_of'].map((name) => info.functionEntries(name).length),
    [1, 1, 0],
  );
  assert.deepEqual(info.problems, []);
  const names = info.scopes(entry.body).flatMap((s) => s.variables.map((v) => v.name));
  assert.ok(names.includes('shape'), names.join());
});

test('an enumeration with fields is shown as the alternative that its number tells', () => {
  const type = new DwarfTypes(loaded).find('struct', 'Shape');
  assert.ok(type && info.lookup('SHAPE', [KIND.variable]).length === 1);
  const shown = (...words: number[]): { text: string; children: string[] } => {
    const bytes = new Uint8Array(Uint32Array.from(words).buffer);
    const memory = { read: (at: bigint, size: number) => bytes.slice(Number(at) - 0x1000, Number(at) - 0x1000 + size) };
    const view: View = { memory, symbols: new Symbolizer() };
    const value = Value.at(type, memory, 0x1000n);
    return { text: textOf(value, view), children: childrenOf(value, view)?.named.map((c) => c.name) ?? [] };
  };
  assert.deepEqual(shown(2, 7, 9), { text: '{Box = {__0 = 7, __1 = 9}}', children: ['Box'] });
  assert.deepEqual(shown(1, 5, 0), { text: '{Circle = {radius = 5}}', children: ['Circle'] });
  assert.deepEqual(shown(0, 0, 0), { text: '{Nothing = {}}', children: ['Nothing'] });
  assert.deepEqual(shown(77, 0, 0), { text: '{}', children: [] }, 'a number that is none of them');
});
