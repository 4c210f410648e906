import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { type Context, evaluateText } from '../../../debug-adapter/expression/evaluate.ts';
import { ExpressionError } from '../../../debug-adapter/expression/parse.ts';
import { MemorySource, SymbolFileError } from '../../../debug-adapter/symbols/byte-source.ts';
import { debugInfoOf } from '../../../debug-adapter/symbols/dwarf/debug-info.ts';
import { ElfFile } from '../../../debug-adapter/symbols/elf-file.ts';
import { typeName } from '../../../debug-adapter/types/model.ts';

/** dwarf/macros.c. */
const load = (name: string): Uint8Array =>
  new Uint8Array(gunzipSync(fs.readFileSync(path.join(import.meta.dirname, 'dwarf/files', `${name}-macros.elf.gz`))));
const open = (bytes: Uint8Array) => debugInfoOf(new ElfFile(new MemorySource(bytes, 'macros.elf')));

for (const name of ['gcc5', 'gcc4', 'clang5'])
  test(`macros of ${name} are what they are at the end of the unit, and expressions know them`, () => {
    const info = open(load(name));
    const [{ entry }] = info.functionEntries('area');
    const macro = (wanted: string) => info.macro(entry, wanted);
    assert.deepEqual(
      ['WIDTH', 'AGAIN', 'GONE', 'NOTHING', 'NEVER'].map((n) => macro(n)?.text),
      ['12', '2', undefined, '', undefined],
    );
    assert.deepEqual(macro('TWICE'), { parameters: '(x)', text: '((x) + (x))' });
    assert.ok(macro('__aarch64__'), "the compiler's own");
    assert.equal(info.macro(0n, 'WIDTH'), undefined, 'no code, no macros');

    const context: Context = {
      register: () => undefined,
      name: () => undefined,
      symbol: () => undefined,
      read: () => undefined,
      macro,
    };
    const value = (text: string): string => {
      const v = evaluateText(text, context);
      return `${typeName(v.type)} ${v.value}`;
    };
    assert.deepEqual(['WIDTH', 'AREA + 1', 'LETTER', 'WORD', 'AGAIN == 2 ? WIDTH : 0'].map(value), [
      'int 12',
      'unsigned int 61',
      'int 97',
      'unsigned short 9029',
      'int 12',
    ]);
    for (const [text, message] of [
      ['SELF', /^SELF is a macro: it stands for itself/],
      ['NOTHING', /^NOTHING is a macro: it stands for nothing/],
      ['TWICE', /^TWICE is a macro: TWICE\(x\) \(\(x\) \+ \(x\)\)/],
      ['WIDER', /^WIDER is a macro: \(WIDTH \+ missing\), and missing is not known here/],
      ['GONE', /^GONE is not known here/],
    ] as const)
      assert.throws(
        () => evaluateText(text, context),
        (e) => e instanceof ExpressionError && message.test(e.message),
      );
  });

test('damaged macros give macros, nothing or a message', { timeout: 60_000 }, () => {
  const bytes = load('gcc5');
  const elf = new ElfFile(new MemorySource(bytes, 'whole'));
  const parts = elf.sections.filter((s) => s.name === '.debug_macro');
  assert.ok(parts.length > 0);
  const place = fc.oneof(...parts.map((s) => fc.integer({ min: s.offset, max: s.offset + s.size - 1 })));
  const [{ entry }] = open(bytes).functionEntries('area');
  fc.assert(
    fc.property(fc.array(fc.tuple(place, fc.nat(255)), { minLength: 1, maxLength: 8 }), (changes) => {
      const copy = bytes.slice();
      for (const [at, to] of changes) copy[at] = to;
      const info = open(copy);
      for (const wanted of ['WIDTH', 'AGAIN', 'NEVER', '__aarch64__'])
        try {
          info.macro(entry, wanted);
        } catch (e) {
          assert.ok(e instanceof SymbolFileError, e instanceof Error ? e.stack : String(e));
          assert.match(e.message, /^macros\.elf/);
        }
    }),
    { numRuns: 100 },
  );
});
