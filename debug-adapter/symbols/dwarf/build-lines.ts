/** The first part of an index: units, the places they cover, the files of their line tables. Reads no more than roots and headers. */
import { SymbolFileError } from '../byte-source.ts';
import { DW_AT, DW_UT } from './constants.ts';
import type { DwarfFile } from './file.ts';
import type { LineIndex } from './index-data.ts';
import { folderOf, joinPath, nameText, readLineHeader } from './line-table.ts';
import { Column, PairPool, StringPool } from './pool.ts';
import { Reader } from './reader.ts';
import { Unit } from './unit.ts';

/** Bytes of a unit in which its root is looked for first. */
const ROOT = 512;
/** .debug_line is read in ranges of this. */
const CHUNK = 1 << 20;
/** Size of .debug_line_str up to which its strings are numbered in an array. */
const MAX_DIRECT = 16 << 20;
const PROBLEMS = 32;
/** Entries of range lists that are read. */
const LIST_ENTRIES = 1 << 24;
/** Longer names of files and directories are cut. */
const MAX_PATH = 4096;

/** Never throws for what is wrong with a unit: it is left out, and the index says so. */
export function buildLines(file: DwarfFile): LineIndex {
  file.allow(LIST_ENTRIES);
  const { headers, info } = file.list;
  const count = headers.length;
  const problems = new Set(file.problems);
  const problem = (error: unknown): void => {
    if (!(error instanceof SymbolFileError)) throw error;
    problems.add(error.message);
  };

  const unitLines = new Float64Array(count).fill(-1);
  const unitBases = new Uint32Array(count * 2);
  const unitDirs = new Uint32Array(count);
  const known = new StringPool();
  known.internText('');
  const directories: string[] = [];
  const ranges: { from: number; to: number; unit: number }[] = [];
  const withoutRanges: number[] = [];
  const section = file.source('info');
  const scratch = new Uint8Array(ROOT);
  for (let u = 0; u < info; u++) {
    directories[u] = '';
    if (headers[u].type === DW_UT.type || !section) continue;
    try {
      // The first bytes are enough for nearly every root; the whole unit is read for the others.
      const length = Math.min(ROOT, headers[u].end - headers[u].offset);
      const head = scratch.subarray(0, length);
      section.readInto(head, headers[u].offset);
      let unit = new Unit(file, 'info', headers[u]);
      unit.peek(head);
      let facts: ReturnType<typeof rootFacts>;
      try {
        facts = rootFacts(unit);
      } catch (error) {
        if (length < ROOT || !(error instanceof SymbolFileError)) throw error;
        unit = new Unit(file, 'info', headers[u]);
        facts = rootFacts(unit);
      }
      directories[u] = facts.directory;
      unitLines[u] = facts.lines;
      unitBases[u * 2] = facts.base.low;
      unitBases[u * 2 + 1] = facts.base.high;
      unitDirs[u] = known.starts.data[known.internText(facts.directory)];
      for (const { from, to } of facts.ranges) ranges.push({ from, to, unit: u });
      if (facts.lines >= 0 && !facts.ranges.length) withoutRanges.push(u);
    } catch (error) {
      problem(error);
    }
  }
  for (let u = info; u < count; u++) directories[u] = '';
  // A unit without code has no ranges; a file in which no unit has any is of a compiler that says them here only.
  if (withoutRanges.length && !ranges.length)
    try {
      const wanted = new Set(withoutRanges);
      for (const range of arangesOf(file)) if (wanted.has(range.unit)) ranges.push(range);
    } catch (error) {
      problem(error);
    }
  ranges.sort((a, b) => a.from - b.from || a.to - b.to);

  const files = readFileTables(file, unitLines, directories, problem);
  const facts = new Uint8Array(count * 4);
  headers.forEach((h, i) => {
    facts.set([h.version, h.type, h.offsetSize, h.dies - h.offset], i * 4);
  });
  const text = [...problems].slice(0, PROBLEMS);
  return {
    unitOffsets: Float64Array.from(headers, (h) => h.offset),
    unitEnds: Float64Array.from(headers, (h) => h.end),
    unitAbbrevs: Float64Array.from(headers, (h) => h.abbrevOffset),
    unitFacts: facts,
    unitIds: BigUint64Array.from(headers, (h) => h.id ?? 0n),
    unitTypes: Float64Array.from(headers, (h) => h.typeOffset ?? -1),
    unitCount: Float64Array.of(info),
    unitLines,
    unitBases,
    unitDirs,
    directories: known.bytes.done(),
    rangeFrom: Float64Array.from(ranges, (r) => r.from),
    rangeTo: Float64Array.from(ranges, (r) => r.to),
    rangeUnit: Uint32Array.from(ranges, (r) => r.unit),
    ...files,
    lineProblems: new Uint8Array(Buffer.from(text.map((t) => `${t}\0`).join(''), 'utf8')),
  };
}

function rootFacts(unit: Unit) {
  const { root } = unit;
  return {
    directory: (root.string(DW_AT.comp_dir) ?? '').slice(0, MAX_PATH),
    lines: root.number(DW_AT.stmt_list) ?? -1,
    base: unit.base,
    ranges: root.ranges(),
  };
}

/** .debug_aranges (DWARF 5 §6.1.2), for files whose roots have no ranges. */
function* arangesOf(file: DwarfFile): Generator<{ from: number; to: number; unit: number }> {
  const source = file.source('aranges');
  if (!source) return;
  for (let offset = 0; offset < source.size; ) {
    const reader = Reader.over(source, offset);
    const { length, offsetSize } = reader.initialLength();
    const end = reader.offset + length;
    if (end > source.size)
      throw reader.fail(`an address table of ${length} bytes where ${source.size - reader.offset} are left`, offset);
    reader.skip(2);
    const unit = file.unitIndexAt('info', reader.word(offsetSize));
    const addressSize = reader.u8();
    if (addressSize !== 8) throw reader.fail(`an address table with addresses of ${addressSize} bytes`, offset);
    reader.skip(1);
    // Tuples are aligned to their size, from the start of the table.
    reader.skip((16 - ((reader.offset - offset) % 16)) % 16);
    while (reader.offset + 16 <= end && unit >= 0) {
      const low = reader.u32();
      const high = reader.u32();
      const size = reader.word(8);
      const from = (high - file.originHigh) * 2 ** 32 + (low - file.originLow);
      if (size > 0 && file.alive(from)) yield { from, to: from + size, unit };
    }
    offset = end;
  }
}

type FileTables = Pick<LineIndex, 'paths' | 'pathStarts' | 'fileStarts' | 'fileUnits' | 'fileIndices'>;

/** Which line table lists which file. A path that tables spell in the same way is one file. */
function readFileTables(
  file: DwarfFile,
  unitLines: Float64Array,
  directories: readonly string[],
  problem: (error: unknown) => void,
): FileTables {
  const source = file.source('line');
  const order = [...unitLines.keys()].filter((u) => unitLines[u] >= 0).sort((a, b) => unitLines[a] - unitLines[b]);
  const strings = new StringPool();
  const paths = new StringPool();
  const pairs = new PairPool();
  const pathOf = new Column((n) => new Uint32Array(n));
  const listFile = new Column((n) => new Uint32Array(n), 1 << 16);
  const listUnit = new Column((n) => new Uint32Array(n), 1 << 16);
  const listIndex = new Column((n) => new Uint32Array(n), 1 << 16);
  const known = new Map<number, number>();
  /** The same for .debug_line_str, where nearly all names are: by offset, the number + 1. */
  const inLineStr = new Uint32Array(Math.min(file.source('line_str')?.size ?? 0, MAX_DIRECT));

  let bytes = new Uint8Array();
  let base = 0;
  const need = (offset: number, length: number): void => {
    if (!source || (offset >= base && offset + length <= base + bytes.length)) return;
    bytes = new Uint8Array(Math.min(Math.max(length, CHUNK), source.size - offset));
    base = offset;
    source.readInto(bytes, offset);
  };
  const texts: string[] = [];
  const stringOf = (key: number): number => {
    // A key of .debug_line_str is its offset. Names in .debug_line itself have a key of their own each time: their bytes decide.
    const direct = key < inLineStr.length;
    let id = direct ? inLineStr[key] - 1 : (known.get(key) ?? -1);
    if (id < 0) {
      const text = nameText(
        key,
        (at) => new Reader(bytes, 'line', base, at - base).cstring(),
        (section, at) => file.string(section, at),
        () => '',
      ).slice(0, MAX_PATH);
      id = strings.internText(text);
      texts[id] ??= text;
      if (direct) inLineStr[key] = id + 1;
      else known.set(key, id);
    }
    return id;
  };

  for (const u of order) {
    if (!source) break;
    const offset = unitLines[u];
    try {
      if (offset >= source.size)
        throw Reader.over(source, 0).fail(`the unit's line table is outside the ${source.size} bytes`, offset);
      need(offset, Math.min(16, source.size - offset));
      const { length } = new Reader(bytes, source.name, base, offset - base).initialLength();
      need(offset, Math.min(length + 12, source.size - offset));
      if (known.size > 1 << 18) known.clear();
      const header = readLineHeader(bytes, offset - base, source.name, base);
      const compilation = strings.internText(directories[u]);
      texts[compilation] ??= directories[u];
      const folders = new Uint32Array(header.directories.length);
      for (let i = 0; i < folders.length; i++) folders[i] = pairs.intern(compilation, stringOf(header.directories[i]));
      const first = header.version >= 5 ? 0 : 1;
      for (let i = 0; i < header.files.length; i++) {
        const folder = folderOf(header, header.fileDirectories[i]);
        const name = stringOf(header.files[i]);
        // Pairs of pairs: (compilation directory, directory), then that and the name.
        const where = folder < 0 ? compilation * 2 : (folders[folder] ?? 0) * 2 + 1;
        const pair = pairs.intern(0x80000000 + where, name);
        while (pathOf.length <= pair) pathOf.push(0);
        let path = pathOf.data[pair];
        if (path === 0) {
          path =
            paths.internText(
              joinPath(directories[u], folder < 0 ? undefined : texts[stringOf(header.directories[folder] ?? 0)], texts[name]),
            ) + 1;
          pathOf.data[pair] = path;
        }
        listFile.push(path - 1);
        listUnit.push(u);
        listIndex.push(i + first);
      }
    } catch (error) {
      problem(error);
    }
  }

  const fileStarts = new Uint32Array(paths.size + 1);
  for (let i = 0; i < listFile.length; i++) fileStarts[listFile.data[i] + 1]++;
  for (let f = 0; f < paths.size; f++) fileStarts[f + 1] += fileStarts[f];
  const at = fileStarts.slice();
  const small = unitLines.length <= 0xffff;
  const fileUnits = small ? new Uint16Array(listFile.length) : new Uint32Array(listFile.length);
  let most = 0;
  for (let i = 0; i < listIndex.length; i++) most = Math.max(most, listIndex.data[i]);
  const fileIndices = most <= 0xffff ? new Uint16Array(listFile.length) : new Uint32Array(listFile.length);
  for (let i = 0; i < listFile.length; i++) {
    const to = at[listFile.data[i]]++;
    fileUnits[to] = listUnit.data[i];
    fileIndices[to] = listIndex.data[i];
  }
  return { paths: paths.bytes.done(), pathStarts: paths.starts.done(), fileStarts, fileUnits, fileIndices };
}
