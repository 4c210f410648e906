import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { addr2line, describe as answer } from '../../../debug-adapter/cli/addr2line.ts';
import { FileSource, MemorySource, SymbolFileError } from '../../../debug-adapter/symbols/byte-source.ts';
import { cacheFolder, loadIndex, storeIndex } from '../../../debug-adapter/symbols/dwarf/cache.ts';
import { slowCrc32 } from '../../../debug-adapter/symbols/dwarf/index-data.ts';
import { DW_AT, DW_TAG } from '../../../debug-adapter/symbols/dwarf/constants.ts';
import { type DebugInfo, KIND, openDebugInfo, openDebugInfoHere } from '../../../debug-adapter/symbols/dwarf/debug-info.ts';
import type { Die } from '../../../debug-adapter/symbols/dwarf/die.ts';
import { ElfFile } from '../../../debug-adapter/symbols/elf-file.ts';

const FIXTURES = path.join(import.meta.dirname, 'dwarf');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-dwarf-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));
for (const name of fs.readdirSync(path.join(FIXTURES, 'files')))
  fs.writeFileSync(path.join(folder, name.replace(/\.gz$/, '')), gunzipSync(fs.readFileSync(path.join(FIXTURES, 'files', name))));

/** Ranges of addresses and the frames there, by LLVM's and GNU's tools, and breakpoints by GDB: recorded by dwarf/record.mjs. */
const { breaks, ...expected } = JSON.parse(fs.readFileSync(path.join(folder, 'expected.json'), 'utf8')) as Record<
  string,
  [number, number, string][]
> & { breaks: Record<string, Record<string, number[]>> };
/** Fixtures and the table that has their answers. */
const PROGRAMS: Record<string, string> = {
  'gcc5.elf': 'gcc5.elf',
  'gcc4.elf': 'gcc4.elf',
  'gcc5-types.elf': 'gcc5.elf',
  'gcc4-types.elf': 'gcc4.elf',
  'gcc5-split.elf': 'gcc5.elf',
  'gcc4-split.elf': 'gcc4.elf',
  'clang5.elf': 'clang5.elf',
  'clang4.elf': 'clang4.elf',
  'clang5-split.elf': 'clang5.elf',
  'clang5-package.elf': 'clang5.elf',
  'zlib.elf': 'gcc5.elf',
  'zstd.elf': 'gcc5.elf',
  'dwz.elf': 'gcc5.elf',
  'module.ko': 'module.ko',
};

const open = (name: string): DebugInfo => openDebugInfoHere(path.join(folder, name), { cache: undefined });
const textStart = (elf: ElfFile): number => elf.sectionPlace(elf.sections.findIndex((s) => s.name === '.text')) ?? Number.NaN;

const framesOf = (info: DebugInfo, address: bigint): string =>
  info
    .frames(address)
    .map((f) => `${f.name} ${f.path} ${f.line}`)
    .join(' < ');

for (const [name, table] of Object.entries(PROGRAMS))
  test(`${name}: functions, inline chains and lines are those that LLVM's and GNU's tools give`, () => {
    const info = open(name);
    const model = open(table);
    // The same code may be linked at another place.
    const shift = info.elf.address(textStart(info.elf)) - model.elf.address(textStart(model.elf));
    const wrong: string[] = [];
    for (const [from, to, text] of expected[table])
      for (let a = from; a < to; a += 4) {
        const ours = framesOf(info, BigInt(a) + shift);
        if (ours !== text) wrong.push(`0x${a.toString(16)}: ${ours}, expected ${text}`);
      }
    assert.deepEqual(wrong, []);
    assert.deepEqual(info.problems, []);
    info.close();
    model.close();
  });

/** Names, positions and types of the members of a structure, as text. */
function layout(die: Die): string[] {
  const typeText = (t: Die | undefined): string => {
    if (!t) return 'void';
    switch (t.tag) {
      case DW_TAG.pointer_type:
        return `${typeText(t.type())} *`;
      case DW_TAG.array_type: {
        const range = [...t.children()][0];
        const count =
          range?.number(DW_AT.count) ?? (range?.has(DW_AT.upper_bound) ? Number(range.number(DW_AT.upper_bound)) + 1 : '');
        return `${typeText(t.type())}[${count}]`;
      }
      case DW_TAG.subroutine_type:
        return `${typeText(t.type())}(${[...t.children()].map((c) => typeText(c.type())).join(', ')})`;
      case DW_TAG.union_type:
        return `union { ${layout(t).join('; ')} }`;
      default:
        return t.name?.replace(/^long$/, 'long int') ?? '?';
    }
  };
  return [...die.children()]
    .filter((c) => c.tag === DW_TAG.member)
    .map((m) => {
      const bits = m.number(DW_AT.bit_size);
      const size = m.number(DW_AT.byte_size) ?? 4;
      // DWARF 3 §5.5.6 counts bit fields from the most significant bit of their storage, DWARF 5 from the start.
      const old = m.number(DW_AT.bit_offset);
      const at = (m.number(DW_AT.data_member_location) ?? 0) * 8;
      const bit = m.number(DW_AT.data_bit_offset) ?? (old === undefined ? at : at + size * 8 - old - (bits ?? 0));
      return `${m.name ?? ''} ${bit}${bits === undefined ? '' : `:${bits}`} ${typeText(m.type())}`;
    });
}

test('every form of debug information gives the same types, variables and functions', () => {
  for (const name of Object.keys(PROGRAMS)) {
    const info = open(name);
    const node = info.type('node', [KIND.struct]);
    assert.ok(node, name);
    assert.deepEqual([node.number(DW_AT.byte_size), layout(node)], [32, NODE], name);
    assert.equal(info.type('node_t', [KIND.typedef])?.type()?.name, 'node', name);
    assert.equal(info.type('pair', [KIND.struct])?.number(DW_AT.byte_size), 16, name);
    assert.deepEqual(
      ['RED', 'GREEN', 'BLUE']
        .map((e) => info.lookup(e, [KIND.enumerator])[0]?.number(DW_AT.const_value) ?? 'none')
        .map((v) => (v === 0xffffffff ? -1 : v)),
      [0, 5, -1],
      name,
    );
    // Two variables of one name: the global one, and for its unit the static one.
    const second = info.lookup('second_file', [KIND.function])[0].unit;
    assert.equal(info.variable('counter')?.unit.name, '../program.c', name);
    assert.equal(info.variable('counter', second)?.unit.name, '../second.c', name);
    const [start] = info.functionEntries('start');
    assert.equal(start.entry, start.die && info.elf.address(start.die.ranges()[0].from), name);
    assert.ok(info.functionEntries('clamp').length >= 4, name);
    assert.ok(
      info.functionEntries('clamp').every((f) => f.inlined),
      name,
    );
    assert.deepEqual(info.namesWith('second_', [KIND.function]), ['second_file'], name);
    assert.deepEqual(info.lookup('no such name'), [], name);
    info.close();
  }
});
const NODE = [
  'next 0 node *',
  'ready 64:1 unsigned int',
  'mode 65:3 unsigned int',
  'color 96 color',
  ' 128 union { whole 0 long int; parts 0 char[8] }',
  'handler 192 int(node *, int) *',
  'tail 256 int[]',
];

test('scopes have the variables of inlined functions and of nested blocks, with their locations', () => {
  for (const name of ['gcc5.elf', 'clang5.elf', 'gcc4-split.elf', 'module.ko']) {
    const info = open(name);
    const [{ entry, die }] = info.functionEntries('start');
    assert.ok(die);
    const [range] = die.ranges();
    const seen = new Map<string, Set<string>>();
    let located = 0;
    for (let place = range.from; place < range.to; place += 4)
      for (const scope of info.scopes(info.elf.address(place)))
        for (const v of scope.variables) {
          const of = scope.die.name ?? 'block';
          seen.set(of, (seen.get(of) ?? new Set()).add(v.name ?? ''));
          if (v.has(DW_AT.location) && v.expression(place)) located++;
        }
    assert.ok(entry === info.elf.address(range.from), name);
    assert.deepEqual([...(seen.get('start') ?? [])], ['argument'], name);
    // clang leaves out arguments that are constants.
    const clamp = name.startsWith('clang') ? ['value'] : ['high', 'low', 'value'];
    assert.deepEqual([...(seen.get('clamp') ?? [])].sort(), clamp, name);
    assert.deepEqual([...(seen.get('block') ?? [])], ['i'], name);
    assert.ok(located > 10, `${name}: ${located}`);
    info.close();
  }
});

test('a line gives the addresses at which GDB breaks on it; one without code gives those of the next that has some', () => {
  for (const [name, lines] of Object.entries(breaks)) {
    const info = open(name);
    const ours: Record<string, number[]> = {};
    for (const where of Object.keys(lines)) {
      const [file, line] = where.split(':');
      ours[where] = (info.lineLocations(info.findFiles(file), Number(line))?.addresses ?? []).map(Number);
    }
    assert.deepEqual(ours, lines, name);
    info.close();
  }
});

test('files are found by the end of their path', () => {
  const info = open('gcc5.elf');
  const header = info.findFiles('program.h');
  assert.deepEqual(
    header.map((f) => info.files[f]),
    ['/src/../program.h'],
  );
  const second = info.findFiles('second.c');
  assert.deepEqual(info.findFiles('/second.c'), second);
  assert.deepEqual(info.findFiles('/src/x/../../second.c'), second);
  assert.deepEqual(info.findFiles('x/second.c'), []);
  assert.equal(info.lineLocations(second, 10_000), undefined);
  assert.deepEqual(info.linesWithCode(second, 1, 14), [12, 13, 14]);
  info.close();
});

test('a worker makes the index, the cache keeps it, and what is damaged in the cache is made again', async () => {
  const cache = path.join(folder, 'cache');
  const file = path.join(folder, 'gcc5.elf');
  const first = await openDebugInfo(file, { cache });
  assert.ok(first.lineLocations(first.findFiles('program.c'), 40), 'lines can be asked for at once');
  await first.complete;
  assert.ok(first.isComplete);
  assert.equal(first.lookup('walk', [KIND.function]).length, 1);
  const [stored] = fs.readdirSync(cache);
  const index = path.join(cache, stored);
  const good = fs.readFileSync(index);
  // From the cache it is complete at once.
  const again = await openDebugInfo(file, { cache });
  assert.ok(again.isComplete);
  for (let a = textStart(again.elf); a < textStart(again.elf) + 0x200; a += 4)
    assert.equal(framesOf(again, again.elf.address(a)), framesOf(first, first.elf.address(a)));
  for (const change of [0, 20, 40, 200, good.length - 1]) {
    const bad = Buffer.from(good);
    bad[change] ^= 0x10;
    fs.writeFileSync(index, bad);
    const info = openDebugInfoHere(file, { cache });
    assert.equal(info.lookup('walk', [KIND.function]).length, 1);
    assert.deepEqual(fs.readFileSync(index), good, `byte ${change}`);
    info.close();
  }
  fs.writeFileSync(index, good.subarray(0, 100));
  openDebugInfoHere(file, { cache }).close();
  assert.deepEqual(fs.readFileSync(index), good);
  first.close();
  again.close();
  await assert.rejects(openDebugInfo(path.join(folder, 'nothing.elf'), { cache }), /nothing\.elf: cannot be opened \(ENOENT\)/);
});

test('the checksum of a Node that has none is that of one that has', () => {
  // The check value of CRC-32/ISO-HDLC.
  assert.equal(slowCrc32(new Uint8Array(Buffer.from('123456789'))), 0xcbf43926);
  assert.equal(slowCrc32(new Uint8Array()), 0);
});

test('the cache is bounded: what was used longest ago goes', () => {
  const cache = path.join(folder, 'bounded');
  const bytes = new Uint8Array(1000);
  for (const name of ['a', 'b', 'c']) {
    assert.equal(storeIndex(cache, name, bytes, 2500), true);
    const [newest] = fs
      .readdirSync(cache)
      .map((f) => path.join(cache, f))
      .sort((a, b) => fs.statSync(b).mtimeMs - fs.statSync(a).mtimeMs);
    const back = Date.now() / 1000 - 100 + fs.readdirSync(cache).length;
    fs.utimesSync(newest, back, back);
  }
  assert.equal(fs.readdirSync(cache).length, 2);
  assert.equal(storeIndex(cache, 'large', new Uint8Array(3000), 2500), false);
  assert.equal(loadIndex(cache, 'c'), undefined, 'these bytes are no index');
  assert.equal(storeIndex(path.join(folder, 'gcc5.elf', 'x'), 'a', bytes), false, 'no folder can be made there');
  assert.equal(cacheFolder({ HYPERSTEP_SYMBOL_CACHE: '' }), undefined);
  assert.equal(cacheFolder({ HYPERSTEP_SYMBOL_CACHE: '/c' }), '/c');
  assert.equal(cacheFolder({ HYPERSTEP_CACHE: '/h' }), path.join('/h', 'symbols'));
});

test('compressed and plain sections have the same bytes, and reading symbols does not read the file', () => {
  const plain = ElfFile.open(path.join(folder, 'gcc5.elf'));
  assert.match(plain.buildId ?? '', /^[0-9a-f]{40}$/);
  for (const other of ['zlib.elf', 'zstd.elf']) {
    const packed = ElfFile.open(path.join(folder, other));
    assert.equal(packed.buildId, plain.buildId);
    for (const name of ['.debug_info', '.debug_line', '.debug_str', '.debug_abbrev']) {
      const [a, b] = [plain, packed].map((elf) => {
        const section = elf.section(name);
        assert.ok(section);
        const contents = elf.contents(section);
        return Buffer.from(contents.read(0, contents.size));
      });
      assert.ok(a.equals(b), `${other} ${name}`);
    }
    packed.close();
  }
  plain.close();
  // A counting source in front of a file with a section that nobody asks for.
  const bytes = fs.readFileSync(path.join(folder, 'gcc5.elf'));
  let read = 0;
  const source = new MemorySource(bytes, 'counted');
  const counted = new ElfFile({
    name: source.name,
    size: source.size,
    read: (offset, length) => {
      read += length;
      return source.read(offset, length);
    },
    readInto: (target, offset) => {
      read += target.length;
      source.readInto(target, offset);
    },
    close: () => {},
  });
  assert.ok(counted.symbols.places.length > 0);
  assert.ok(read < bytes.length / 2, `${read} of ${bytes.length} bytes`);
});

test('call frame information is found where the file has it', () => {
  const gcc = open('gcc5.elf');
  const at = gcc.elf.sections.find((x) => x.name === '.eh_frame');
  assert.deepEqual([gcc.frameSections.ehFrame?.address, gcc.frameSections.debugFrame], [at?.address, undefined]);
  const clang = open('clang5.elf').frameSections;
  assert.ok(clang.debugFrame && clang.debugFrame.bytes.size > 0);
  assert.equal(clang.ehFrame, undefined);
});

test('addr2line answers in the form of GNU addr2line -f -i -a', async () => {
  const info = open('gcc5.elf');
  const [{ entry }] = info.functionEntries('start');
  assert.equal(answer(info, entry), `0x${entry.toString(16).padStart(16, '0')}\nstart\n/src/../program.c:55\n`);
  assert.equal(answer(info, 0n), '0x0000000000000000\n??\n??:0\n');
  info.close();
  const file = path.join(folder, 'module.ko');
  let out = '';
  const status = await addr2line(['--symbols', file, '--no-cache', '0', '0x4'], (text) => {
    out += text;
  });
  assert.equal(status, 0);
  assert.match(out, /^0x0{16}\n\w+\n\/src\/\.\.\/\w+\.c:\d+\n0x0{15}4\n/);
  // Offsets in a module are the code's, wherever that is in the file.
  const lines = async (name: string): Promise<string> => {
    let all = '';
    const offsets = Array.from({ length: 137 }, (_, i) => (i * 4).toString(16));
    await addr2line(['--symbols', path.join(folder, name), '--no-cache', ...offsets], (text) => {
      all += text;
    });
    return all;
  };
  assert.equal(await lines('data-first.ko'), await lines('module.ko'));
  await assert.rejects(
    addr2line([], () => {}),
    /needs --symbols FILE/,
  );
  await assert.rejects(
    addr2line(['--symbols', file, '--wat'], () => {}),
    /unknown option --wat/,
  );
  await assert.rejects(
    addr2line(['--symbols', file, '--no-cache', '--section', '.none', '0'], () => {}),
    /no section \.none/,
  );
  await assert.rejects(
    addr2line(['--symbols', path.join(FIXTURES, 'program.c'), '0'], () => {}),
    /program\.c: not an ELF file/,
  );
});

test('a file that is not there any more, or is no file, is said with its name', () => {
  assert.throws(
    () => new FileSource(folder),
    (e) => e instanceof SymbolFileError && e.message === `${folder}: not a file`,
  );
  const file = path.join(folder, 'shrinks');
  fs.writeFileSync(file, new Uint8Array(1000));
  const source = new FileSource(file);
  fs.truncateSync(file, 10);
  assert.throws(() => source.read(0, 500), /shrinks: ends at 10, it had 1000 bytes when it was opened/);
  assert.throws(() => source.read(990, 20), /20 bytes at 990 are outside the 1000 bytes/);
  source.close();
});
