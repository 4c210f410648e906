/** Symbol tables and call frame information as an enemy writes them: no failure but those for the user, and never a hang. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { MemorySource, SymbolFileError } from '../../../debug-adapter/symbols/byte-source.ts';
import { CallFrameTable } from '../../../debug-adapter/symbols/dwarf/cfi.ts';
import { ElfFile } from '../../../debug-adapter/symbols/elf-file.ts';
import { findKallsyms } from '../../../debug-adapter/symbols/kallsyms.ts';

const BASE = 0xffff_8000_0000_0000n;
const NAMES = Array.from({ length: 600 }, (_, i) => `T${i === 0 ? '_text' : `function_${i}`}`);
const addressOf = (i: number): bigint => BASE + BigInt(i * 16);

/** A kernel's tables as scripts/kallsyms.c writes them, with one token for each character. */
function kernel(newer: boolean): Uint8Array {
  const parts: Buffer[] = [Buffer.alloc(0x400, 0xcc)];
  const at = (): number => parts.reduce((n, p) => n + p.length, 0);
  const align = (): void => {
    parts.push(Buffer.alloc(-at() & 7));
  };
  const words = (values: number[]): void => {
    parts.push(Buffer.from(Int32Array.from(values).buffer));
    align();
  };
  const base = (): void => {
    const b = Buffer.alloc(8);
    b.writeBigUInt64LE(BASE);
    parts.push(b);
  };
  const offsets = NAMES.map((_, i) => i * 16);
  if (!newer) {
    words(offsets);
    base();
  }
  words([NAMES.length]);
  const names = NAMES.map((name) => Buffer.from([name.length, ...Buffer.from(name, 'latin1')]));
  parts.push(...names);
  align();
  words(NAMES.flatMap((_, i) => (i % 256 === 0 ? [names.slice(0, i).reduce((n, b) => n + b.length, 0)] : [])));
  if (!newer) {
    parts.push(Buffer.alloc(3 * NAMES.length));
    align();
  }
  // Characters that no name has must be there all the same, and none is empty.
  const tokens = Array.from({ length: 256 }, (_, i) => Buffer.from([i || 1, 0]));
  parts.push(...tokens);
  align();
  parts.push(Buffer.from(Uint16Array.from(tokens, (_, i) => 2 * i).buffer));
  align();
  if (newer) {
    words(offsets);
    base();
  }
  parts.push(Buffer.alloc(0x4000, 0xcc));
  return new Uint8Array(Buffer.concat(parts));
}

/** Bytes with some changed to what is likely to hurt. */
const damage = (bytes: Uint8Array) =>
  fc
    .array(fc.tuple(fc.nat(bytes.length - 1), fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat(255))), {
      minLength: 1,
      maxLength: 12,
    })
    .map((changes) => {
      const copy = bytes.slice();
      for (const [at, to] of changes) copy[at] = to;
      return copy;
    });

describe('kallsyms', () => {
  for (const newer of [false, true])
    test(`tables of ${newer ? '6.4 and later' : 'kernels up to 6.3'}, whole and damaged`, { timeout: 60_000 }, () => {
      const bytes = kernel(newer);
      assert.deepEqual(
        findKallsyms({ bytes, base: BASE })?.symbols.map((s) => [s.name, s.address]),
        NAMES.map((name, i) => [name.slice(1), addressOf(i)]),
      );
      fc.assert(
        fc.property(damage(bytes), fc.option(fc.nat(bytes.length), { freq: 5 }), (bad, length) => {
          const found = findKallsyms({ bytes: length === null ? bad : bad.slice(0, length), base: BASE });
          assert.ok((found?.symbols.length ?? 0) <= NAMES.length + 0x10000);
        }),
        { numRuns: 150 },
      );
    });

  test('an image that looks like tables everywhere is given up in time', { timeout: 60_000 }, () => {
    const bytes = kernel(true);
    const view = new DataView(bytes.buffer);
    // Before the tokens: pairs that could be two markers, at every place, and counts that fit them.
    const big = new Uint8Array((8 << 20) + bytes.length);
    const words = new Uint32Array(big.buffer, 0, (8 << 20) / 4);
    for (let i = 0; i < words.length; i += 2) {
      words[i] = 0;
      words[i + 1] = 512;
    }
    // Without markers of its own.
    bytes.fill(0xcc, 0, 0x400 + 600 * 16);
    assert.ok(view.byteLength > 0);
    big.set(bytes, 8 << 20);
    const started = process.cpuUsage();
    findKallsyms({ bytes: big, base: BASE });
    const { user } = process.cpuUsage(started);
    assert.ok(user < 20e6, `${user} µs`);
  });
});

describe('call frame information', () => {
  const load = (name: string): ElfFile =>
    new ElfFile(
      new MemorySource(
        new Uint8Array(gunzipSync(fs.readFileSync(path.join(import.meta.dirname, 'dwarf', 'files', `${name}.gz`)))),
        name,
      ),
    );
  for (const [name, section] of [
    ['gcc5.elf', '.eh_frame'],
    ['clang5.elf', '.debug_frame'],
  ])
    test(`damaged ${section} gives rows, nothing or a message`, { timeout: 60_000 }, () => {
      const elf = load(name);
      const found = elf.section(section);
      assert.ok(found);
      const bytes = elf.contents(found).read(0, found.size);
      const text = elf.layout.find((l) => elf.sections[l.index].name === '.text');
      assert.ok(text);
      const table = (of: Uint8Array): CallFrameTable =>
        new CallFrameTable(new MemorySource(of, `damaged: ${section}`), {
          eh: section === '.eh_frame',
          place: 0,
          toPlace: (a) => elf.place(a),
        });
      assert.ok(table(bytes).size > 4);
      fc.assert(
        fc.property(damage(bytes), fc.option(fc.nat(bytes.length), { freq: 5 }), (bad, length) => {
          const t = table(length === null ? bad : bad.subarray(0, length));
          for (let at = text.from - 64; at < text.to + 64; at += 12)
            try {
              t.at(at);
            } catch (error) {
              assert.ok(error instanceof SymbolFileError, error instanceof Error ? error.stack : String(error));
              assert.match(error.message, /^damaged: \.\w+(\+0x[0-9a-f]+|: offset -?0x[0-9a-f]+ is outside)/);
            }
          for (const problem of t.problems)
            assert.match(problem, /^damaged: \.\w+(\+0x[0-9a-f]+|: offset -?0x[0-9a-f]+ is outside)/);
        }),
        { numRuns: 200 },
      );
    });

  test('one entry that is wrong leaves the others', () => {
    const elf = load('clang5.elf');
    const found = elf.section('.debug_frame');
    assert.ok(found);
    const bytes = elf.contents(found).read(0, found.size).slice();
    const whole = new CallFrameTable(new MemorySource(bytes, 'whole'), { eh: false, toPlace: (a) => elf.place(a) }).size;
    // The version of the first CIE: its entries are lost.
    bytes[8] = 77;
    const table = new CallFrameTable(new MemorySource(bytes, 'damaged'), { eh: false, toPlace: (a) => elf.place(a) });
    assert.ok(table.size > 0 && table.size < whole, `${table.size} of ${whole}`);
    assert.match(table.problems[0], /^damaged\+0x\w+: a CIE of version 77/);
  });
});
