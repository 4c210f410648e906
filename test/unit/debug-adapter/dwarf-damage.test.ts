import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { MemorySource, SymbolFileError } from '../../../debug-adapter/symbols/byte-source.ts';
import { DW_AT } from '../../../debug-adapter/symbols/dwarf/constants.ts';
import { type DebugInfo, debugInfoOf } from '../../../debug-adapter/symbols/dwarf/debug-info.ts';
import type { Die } from '../../../debug-adapter/symbols/dwarf/die.ts';
import { ElfFile } from '../../../debug-adapter/symbols/elf-file.ts';

const load = (name: string): Uint8Array =>
  new Uint8Array(gunzipSync(fs.readFileSync(path.join(import.meta.dirname, 'dwarf', 'files', `${name}.gz`))));
const NAMES = ['gcc5.elf', 'gcc4-types.elf', 'gcc5-types.elf', 'clang4.elf', 'clang5.elf', 'zlib.elf', 'zstd.elf', 'module.ko'];
const FILES = new Map(NAMES.map((name) => [name, load(name)]));

/** Runs `f`; what is thrown may only be for the user, and says which file. */
function may(f: () => void): void {
  try {
    f();
  } catch (error) {
    assert.ok(error instanceof SymbolFileError, error instanceof Error ? error.stack : String(error));
    assert.match(error.message, /^damaged: |^names /);
    assert.doesNotMatch(error.message, /\n|undefined|NaN|\[object/);
  }
}

/** Looks at a DIE and what is below it, `left` entries at most. */
function look(die: Die, left: { count: number }): void {
  if (--left.count < 0) return;
  may(() => {
    for (const attribute of die.attributes) may(() => void die.attr(attribute));
  });
  may(() => void die.name);
  may(() => void die.type()?.name);
  may(() => void die.ranges());
  may(() => void die.locations());
  may(() => void die.parent());
  may(() => {
    for (const child of die.children()) {
      if (left.count < 0) break;
      look(child, left);
    }
  });
}

/** Asks everything that a debugger asks. */
function ask(bytes: Uint8Array): void {
  may(() => {
    const elf = new ElfFile(new MemorySource(bytes, 'damaged'));
    void elf.buildId;
    may(() => void elf.symbols.find('start'));
    const info: DebugInfo = debugInfoOf(elf);
    for (const problem of info.problems) assert.match(problem, /damaged: |^names /);
    for (let i = 0; i < 0x280; i += 36) {
      const address = elf.address((elf.layout[1]?.from ?? 0) + i);
      may(() => void info.frames(address));
      may(() => void info.lineAt(address));
      may(() => {
        for (const scope of info.scopes(address)) for (const v of scope.variables) void v.expression(elf.place(address));
      });
    }
    may(() => void info.lineLocations(info.findFiles('program.c'), 30));
    for (const name of ['start', 'clamp', 'walk']) may(() => void info.functionEntries(name));
    may(() => void info.variable('counter'));
    may(() => void info.namesWith(''));
    const left = { count: 400 };
    info.file.list.headers.forEach((_, u) => {
      may(() => {
        look(info.file.full(info.file.unit(u)).root, left);
      });
    });
  });
}

test('damaged files give answers or a message that names the file, never another failure, and in time', {
  timeout: 100_000,
}, () => {
  for (const [name, bytes] of FILES) {
    const elf = new ElfFile(new MemorySource(bytes, name));
    // Nearly all damage goes where it matters: into sections of debug information and the section headers.
    const places = elf.sections
      .filter((s) => s.name.startsWith('.debug') || s.name.startsWith('.rela.debug'))
      .map((s) => fc.integer({ min: s.offset, max: s.offset + s.size - 1 }));
    places.push(fc.integer({ min: Math.max(0, bytes.length - elf.sections.length * 64), max: bytes.length - 1 }));
    const value = fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat(255));
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.oneof(...places), value), { minLength: 1, maxLength: 12 }),
        fc.option(fc.integer({ min: 0, max: bytes.length }), { freq: 8 }),
        (changes, length) => {
          const copy = bytes.slice();
          for (const [at, to] of changes) copy[at] = to;
          ask(length === null ? copy : copy.subarray(0, length));
        },
      ),
      { numRuns: 60 },
    );
  }
});

/** gcc5.elf with bytes of a section changed: `change` gets the section. */
function changed(section: string, change: (bytes: Uint8Array, view: DataView) => void): DebugInfo {
  const bytes = FILES.get('gcc5.elf')?.slice() ?? new Uint8Array();
  const elf = new ElfFile(new MemorySource(bytes, 'damaged'));
  const found = elf.section(section);
  assert.ok(found);
  const part = bytes.subarray(found.offset, found.offset + found.size);
  change(part, new DataView(part.buffer, part.byteOffset, part.length));
  return debugInfoOf(elf);
}

test('what is wrong is said with file, section and offset, and the rest is still there', () => {
  const lengths = changed('.debug_info', (_, view) => view.setUint32(0, 0x7fffffff, true));
  assert.match(lengths.problems.join('\n'), /^damaged: \.debug_info\+0x0: a unit of 2147483647 bytes where \d+ are left$/);
  assert.deepEqual(lengths.frames(0n), []);
  const version = changed('.debug_info', (_, view) => view.setUint16(4, 77, true));
  assert.match(version.problems.join('\n'), /^damaged: \.debug_info\+0x0: a unit of DWARF version 77; 2 to 5 are known$/);
  const addresses = changed('.debug_info', (bytes) => bytes.fill(4, 7, 8));
  assert.match(addresses.problems.join('\n'), /a unit with addresses of 4 bytes, AArch64 has 8$/);
  const abbreviations = changed('.debug_abbrev', (bytes) => bytes.fill(0xff));
  assert.match(abbreviations.problems.join('\n'), /^damaged: \.debug_abbrev\+0x0: /);
  const lines = changed('.debug_line', (_, view) => view.setUint16(4, 9, true));
  assert.match(lines.problems.join('\n'), /^damaged: \.debug_line\+0x0: a line table of version 9; 2 to 5 are known$/m);
  assert.equal(lines.lookup('start').length, 1, 'names do not need lines');
});

test('a type that is its own end, and an origin that is its own, end', () => {
  const good = debugInfoOf(new ElfFile(new MemorySource(FILES.get('gcc5.elf') ?? new Uint8Array(), 'good')));
  const targets: { at: number; to: number }[] = [];
  /** References of form ref4 in `die`: made to lead to it. */
  const collect = (die: Die): void => {
    for (const child of die.children()) {
      for (const attribute of [DW_AT.type, DW_AT.abstract_origin]) {
        const target = child.attr(attribute);
        if (typeof target !== 'object' || target instanceof Uint8Array) continue;
        const { bytes, offset } = child.unit;
        const value = target.offset - offset;
        const at = child.offset - offset;
        const found = [1, 2, 3, 4, 5, 6, 7, 8].find(
          (k) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at + k, true) === value,
        );
        if (found !== undefined) targets.push({ at: child.offset + found, to: at });
      }
      collect(child);
    }
  };
  good.file.list.headers.forEach((_, u) => {
    collect(good.file.unit(u).root);
  });
  assert.ok(targets.length > 50);
  const info = changed('.debug_info', (_, view) => {
    for (const { at, to } of targets) view.setUint32(at, to, true);
  });
  let own = 0;
  const walk = (die: Die): void => {
    for (const child of die.children()) {
      if (child.has(DW_AT.type) && child.type()?.is(child)) own++;
      if (child.has(DW_AT.abstract_origin)) assert.equal(child.name, undefined);
      walk(child);
    }
  };
  info.file.list.headers.forEach((_, u) => {
    walk(info.file.unit(u).root);
    look(info.file.unit(u).root, { count: 2000 });
  });
  assert.ok(own > 20, String(own));
  const [{ entry }] = info.functionEntries('start');
  assert.equal(info.frames(entry).at(-1)?.name, 'start');
});
