import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import elfTools from 'elf-tools';
import fc from 'fast-check';
import { isElf } from '../../../emulator/base/elf.ts';
import { ElfError, readElf } from '../../../debug-adapter/symbols/elf.ts';
import { Symbolizer } from '../../../debug-adapter/symbols/symbolizer.ts';

const GUEST = path.resolve(import.meta.dirname, '../../guests/embedded/guest.elf');
const file = new Uint8Array(fs.readFileSync(GUEST));

test('sections, segments and symbols are those that elf-tools reads', () => {
  const ours = readElf(file, 'guest.elf');
  // elf-tools swaps bytes in the buffer it is given: it gets a copy.
  const theirs = elfTools.parse(Buffer.from(file));
  assert.equal(ours.entry, BigInt(theirs.header.entry));
  const sections = theirs.sections.map(({ header: h }) => [h.name, BigInt(h.addr), h.offset, h.size]);
  assert.deepEqual(
    ours.sections.slice(1).map((s) => [s.name, s.address, s.offset, s.size]),
    sections.slice(-ours.sections.length + 1),
  );
  const segments = theirs.programs.map(({ header: h }) => [BigInt(h.vaddr), BigInt(h.paddr), h.filesz, h.memsz]);
  assert.deepEqual(
    ours.segments.map((s) => [s.virtual, s.physical, s.fileSize, s.memorySize]),
    segments,
  );
  const symbols = new Symbolizer();
  symbols.setKernel(ours.symbols);
  const main = symbols.named('main')[0];
  assert.equal(main.type, 'T');
  assert.ok(main.size > 0);
  assert.equal(symbols.format(main.address), 'main');
  assert.equal(symbols.format(main.address + 4n), 'main+0x4');
  assert.equal(symbols.endOf({ symbol: main, offset: 0 }), main.address + BigInt(main.size));
  for (const s of ours.symbols) assert.doesNotMatch(s.name, /^\$[xd]/, 'mapping symbols name nothing');
});

test('what is wrong with a file is said with its name', () => {
  const change = (at: number, ...bytes: number[]) => {
    const copy = file.slice();
    copy.set(bytes, at);
    return copy;
  };
  const cases: [Uint8Array, RegExp][] = [
    [new Uint8Array(), /^k: not an ELF file$/],
    [file.subarray(0, 40), /^k: ELF header is cut off after 40 bytes$/],
    [file.subarray(0, 70), /^k: program header table .* is outside the file of 70 bytes$/],
    [change(4, 1), /^k: a 32-bit ELF file/],
    [change(5, 2), /^k: a big-endian ELF file/],
    [change(18, 62), /^k: ELF machine is 62, not 183 \(AArch64\)$/],
    [change(0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), /^k: section header table/],
    [change(0x3a, 7), /^k: section headers of 7 bytes, expected 64$/],
    [change(0x3e, 0xfe), /^k: section name table is section/],
  ];
  for (const [bytes, message] of cases)
    assert.throws(
      () => readElf(bytes, 'k'),
      (e) => e instanceof ElfError && message.test(e.message),
      String(message),
    );
  assert.equal(isElf(file), true);
  assert.equal(isElf(new Uint8Array([0x7f, 0x45])), false);
});

test('a corrupt file gives symbols or an ElfError, never another failure', () => {
  const start = file.length - 64 * 40;
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.oneof(fc.nat(64 * 4), fc.integer({ min: start, max: file.length - 1 })), fc.nat(255)), {
        minLength: 1,
        maxLength: 8,
      }),
      fc.integer({ min: 0, max: file.length }),
      (changes, length) => {
        const copy = file.slice();
        for (const [at, value] of changes) copy[at] = value;
        try {
          readElf(copy.subarray(0, Math.max(length, 4)), 'k');
        } catch (e) {
          if (!(e instanceof ElfError)) throw e;
        }
      },
    ),
    { numRuns: 200, seed: 1 },
  );
});
