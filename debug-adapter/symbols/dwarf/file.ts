/**
 * The debug information of one ELF file: its sections, its units, and what belongs to it in other files (dwz's common file,
 * split DWARF). Everything is read by ranges; units and abbreviation tables used last stay in memory, bounded.
 */
import path from 'node:path';
import type { ByteSource } from '../byte-source.ts';
import { SymbolFileError } from '../byte-source.ts';
import { ElfFile } from '../elf-file.ts';
import { AbbreviationTable, type Encoding } from './abbreviations.ts';
import { DW_AT, DW_SECT, DW_UT } from './constants.ts';
import {
  folderOf,
  joinPath,
  LineFiles,
  type LineHeader,
  type LineRow,
  type LineTable,
  nameText,
  readLineHeader,
  runLineProgram,
} from './line-table.ts';
import { DwarfError, Reader, wrong } from './reader.ts';
import { type Contributions, MAX_HEADER, type RootFacts, readUnitHeader, Unit, type UnitHeader } from './unit.ts';

export type SectionName =
  | 'info'
  | 'types'
  | 'abbrev'
  | 'line'
  | 'str'
  | 'line_str'
  | 'str_offsets'
  | 'addr'
  | 'rnglists'
  | 'ranges'
  | 'loclists'
  | 'loc'
  | 'aranges'
  | 'macro'
  | 'frame'
  | 'cu_index'
  | 'tu_index';

/** Unit bytes kept, at most (one unit may be larger). */
const UNIT_CACHE = 16 << 20;
const TABLE_CACHE = 8 << 20;
const LINE_CACHE = 16 << 20;
/** Line tables whose files are kept, and of which it is known that they were asked for. */
const MAX_ASKED = 1 << 13;
const MAX_UNITS = 1 << 22;
const MAX_UNIT = 1 << 29;
/** An abbreviation table is read in steps of this. */
const TABLE_STEP = 16 << 10;

/** Units in the order of the file, .debug_types after .debug_info. */
export interface UnitList {
  readonly headers: readonly UnitHeader[];
  /** Of those, how many are in .debug_info. */
  readonly info: number;
  /** What else of their roots somebody knows. */
  readonly roots?: (index: number) => RootFacts;
}

export class DwarfFile {
  readonly elf: ElfFile;
  /** The file whose addresses this one's DIEs have: `elf`, or the program for split and common files. */
  readonly program: ElfFile;
  readonly originLow: number;
  readonly originHigh: number;
  readonly #lowest: number;
  readonly #highest: number;
  readonly #split: boolean;
  /** How many list entries may be read: shared by the files that belong together. See `allow`. */
  readonly #budget: { left: number };
  readonly #sources = new Map<SectionName, ByteSource | undefined>();
  readonly #bytes = new Map<Unit, Uint8Array>();
  #bytesHeld = 0;
  readonly #tables = new Map<string, AbbreviationTable>();
  #tablesHeld = 0;
  readonly #lineTables = new Map<number, LineTable>();
  #linesHeld = 0;
  readonly #lineFiles = new Map<number, LineFiles>();
  readonly #asked = new Set<number>();
  #list: UnitList | undefined;
  readonly #units = new Map<number, Unit>();
  #signatures: Map<bigint, number> | undefined;
  #alternate: DwarfFile | null | undefined;
  readonly #splits = new Map<Unit, Unit | undefined>();
  readonly #splitFiles = new Map<string, DwarfFile | undefined>();
  /** What could not be used and why: one line each, naming the file. */
  readonly problems: string[] = [];

  /** `list`: units, when somebody knows them already. */
  constructor(elf: ElfFile, options: { program?: ElfFile; split?: boolean; list?: UnitList; budget?: { left: number } } = {}) {
    this.elf = elf;
    this.program = options.program ?? elf;
    this.#split = options.split ?? false;
    this.#budget = options.budget ?? { left: Number.POSITIVE_INFINITY };
    this.#list = options.list;
    this.originLow = Number(this.program.origin & 0xffffffffn);
    this.originHigh = Number(this.program.origin >> 32n);
    this.#lowest = this.program.layout.reduce((least, l) => Math.min(least, l.from), Number.POSITIVE_INFINITY);
    this.#highest = this.program.layout.reduce((most, l) => Math.max(most, l.to), Number.NEGATIVE_INFINITY);
  }

  get name(): string {
    return this.elf.name;
  }

  close(): void {
    this.elf.close();
    this.#alternate?.close();
    for (const file of this.#splitFiles.values()) file?.close();
  }

  /**
   * Lets what follows read `entries` entries of range and location lists, and no more: many DIEs may name one long list, which
   * damaged or hostile files do.
   */
  allow(entries: number): void {
    this.#budget.left = entries;
  }

  /** One entry is read. Throws DwarfError when that was one too many. */
  spend(): void {
    if (--this.#budget.left < 0) throw new DwarfError(`${this.name}: more entries in range and location lists than make sense`);
  }

  /** False for the address that a linker leaves where it dropped the code (0, -1, -2). */
  alive(place: number): boolean {
    return place >= this.#lowest && place < this.#highest;
  }

  /** A debug section, undefined when the file has none of it. Throws SymbolFileError when it cannot be read. */
  source(name: SectionName): ByteSource | undefined {
    if (this.#sources.has(name)) return this.#sources.get(name);
    const suffix = this.#split && name !== 'cu_index' && name !== 'tu_index' ? '.dwo' : '';
    const section = this.elf.section(`.debug_${name}${suffix}`) ?? this.elf.section(`.zdebug_${name}${suffix}`);
    const source = section && this.elf.contents(section);
    this.#sources.set(name, source);
    return source;
  }

  /** A debug section that something refers to. Throws DwarfError when the file has none. */
  need(name: SectionName): ByteSource {
    const source = this.source(name);
    if (!source) throw new DwarfError(`${this.name}: no .debug_${name}, which its debug information refers to`);
    return source;
  }

  /** The string at `offset` of .debug_str or .debug_line_str. */
  string(section: 'str' | 'line_str', offset: number): string {
    return Reader.over(this.need(section), offset).cstring();
  }

  // --- units --------------------------------------------------------------------------------------------------------------

  /** Headers of all units. The first call walks the sections, unless somebody knew. Throws DwarfError. */
  get list(): UnitList {
    this.#list ??= this.#scan();
    return this.#list;
  }

  /**
   * Walks the unit headers. A header that is wrong ends its section there, since where the next one is cannot be known; it is a
   * problem, and the units before it are good.
   */
  #scan(): UnitList {
    const headers: UnitHeader[] = [];
    let info = 0;
    for (const section of ['info', 'types'] as const) {
      const source = this.source(section);
      if (!source) {
        if (section === 'info') info = headers.length;
        continue;
      }
      try {
        for (let offset = 0; offset < source.size; ) {
          // Past the cache: units are far apart.
          const bytes = new Uint8Array(Math.min(MAX_HEADER, source.size - offset));
          source.readInto(bytes, offset);
          const header = readUnitHeader(new Reader(bytes, source.name, offset), source.size, section === 'types');
          if (headers.length >= MAX_UNITS) throw wrong(source.name, offset, `more than ${MAX_UNITS} units`);
          headers.push(header);
          offset = header.end;
        }
      } catch (error) {
        if (!(error instanceof SymbolFileError)) throw error;
        this.problems.push(error.message);
      }
      if (section === 'info') info = headers.length;
    }
    return { headers, info };
  }

  /** Unit `index` of the list. */
  unit(index: number): Unit {
    let unit = this.#units.get(index);
    if (!unit) {
      const header = this.list.headers[index];
      if (!header) throw new DwarfError(`${this.name}: no unit ${index}`);
      unit = new Unit(this, index < this.list.info ? 'info' : 'types', header);
      const facts = this.list.roots?.(index);
      if (facts) unit.know(facts);
      this.#units.set(index, unit);
    }
    return unit;
  }

  /** Index in the list of the unit that has `offset` of a section, -1 when there is none. */
  unitIndexAt(section: 'info' | 'types', offset: number): number {
    const { headers, info } = this.list;
    const first = section === 'info' ? 0 : info;
    let low = first;
    let high = section === 'info' ? info : headers.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (headers[middle].offset <= offset) low = middle + 1;
      else high = middle;
    }
    return low > first && offset < headers[low - 1].end ? low - 1 : -1;
  }

  /** The unit that has `offset` of a section, for what `reader` has just read. Throws DwarfError. */
  unitAt(section: 'info' | 'types', offset: number, reader?: Reader): Unit {
    const index = this.unitIndexAt(section, offset);
    const fact = `no unit has offset 0x${offset.toString(16)} of .debug_${section}`;
    if (index < 0) throw reader ? reader.fail(fact) : new DwarfError(`${this.name}: ${fact}`);
    return this.unit(index);
  }

  /** The type unit with a signature, in this file or, for a split unit, in its own. */
  typeUnit(signature: bigint, skeleton?: Unit): Unit | undefined {
    if (!this.#signatures) {
      this.#signatures = new Map();
      for (const [index, h] of this.list.headers.entries())
        if ((h.type === DW_UT.type || h.type === DW_UT.split_type) && h.id !== undefined) this.#signatures.set(h.id, index);
    }
    const index = this.#signatures.get(signature);
    if (index === undefined) return undefined;
    if (!skeleton) return this.unit(index);
    return this.#splitUnit(index, skeleton);
  }

  unitBytes(unit: Unit): Uint8Array {
    let bytes = this.#bytes.get(unit);
    if (bytes) {
      this.#bytes.delete(unit);
      this.#bytes.set(unit, bytes);
      return bytes;
    }
    const length = unit.end - unit.offset;
    if (length > MAX_UNIT) throw unit.fail(unit.offset, `a unit of ${length} bytes, more than ${MAX_UNIT}`);
    bytes = ownBytes(this.need(unit.section), unit.offset, length);
    this.#bytesHeld += length;
    this.#bytes.set(unit, bytes);
    for (const [old, held] of this.#bytes) {
      if (this.#bytesHeld <= UNIT_CACHE || old === unit) break;
      this.#bytes.delete(old);
      this.#bytesHeld -= held.length;
    }
    return bytes;
  }

  abbreviationTable(offset: number, encoding: Encoding): AbbreviationTable {
    const key = `${offset}/${encoding.version}/${encoding.offsetSize}`;
    let table = this.#tables.get(key);
    if (table) return table;
    table = this.#parseTable(new AbbreviationTable(), offset, encoding, TABLE_STEP, 0);
    if (this.#tablesHeld > TABLE_CACHE) {
      this.#tables.clear();
      this.#tablesHeld = 0;
    }
    this.#tables.set(key, table);
    this.#tablesHeld += table.weight;
    return table;
  }

  /** A table that has abbreviation `code` only. */
  rootAbbreviation(offset: number, encoding: Encoding, code: number): AbbreviationTable {
    return this.#parseTable(new AbbreviationTable(8), offset, encoding, TABLE_STEP, code);
  }

  #parseTable(table: AbbreviationTable, offset: number, encoding: Encoding, step: number, only: number): AbbreviationTable {
    const source = this.need('abbrev');
    if (!(offset < source.size))
      throw new DwarfError(
        `${source.name}: offset ${offset < 0 ? '-' : ''}0x${Math.abs(offset).toString(16)} is outside its ${source.size} bytes`,
      );
    // How long a table is, only parsing it says.
    for (let length = step; ; length *= 4) {
      const bytes = source.read(offset, Math.min(length, source.size - offset));
      try {
        return table.parse(bytes, 0, source.name, offset, encoding, only);
      } catch (error) {
        if (offset + bytes.length >= source.size) throw error;
      }
    }
  }

  /** The line table of a unit, undefined when it has none. Rows of the tables used last stay in memory. Throws DwarfError. */
  lineTable(unit: Unit): LineTable | undefined {
    const of = unit.skeleton ?? unit;
    if (of.file !== this) return of.file.lineTable(of);
    const offset = of.lines;
    if (offset < 0) return undefined;
    let table = this.#lineTables.get(offset);
    if (table) {
      this.#lineTables.delete(offset);
      this.#lineTables.set(offset, table);
      return table;
    }
    table = this.#runProgram(of, true);
    this.#lineTables.set(offset, table);
    this.#linesHeld += table.weight;
    for (const [old, held] of this.#lineTables) {
      if (this.#linesHeld <= LINE_CACHE || old === offset) break;
      this.#lineTables.delete(old);
      this.#linesHeld -= held.weight;
    }
    return table;
  }

  /**
   * The row of a unit's line table in force at `place`. A table that is asked for the first time is not kept: looking up a list
   * of addresses all over a kernel should not make and throw away the rows of all of it.
   */
  lineRow(unit: Unit, place: number, statement = false): LineRow | undefined {
    const of = unit.skeleton ?? unit;
    if (of.file !== this) return of.file.lineRow(of, place, statement);
    const offset = of.lines;
    if (offset < 0) return undefined;
    const again = this.#lineTables.has(offset) || this.#asked.has(offset);
    if (this.#asked.size > MAX_ASKED) this.#asked.clear();
    this.#asked.add(offset);
    const table = again ? this.lineTable(of) : this.#runProgram(of, false);
    const row = table?.rowAt(place) ?? -1;
    return row < 0 ? undefined : table?.row(statement ? table.statementAt(row) : row);
  }

  /** The files of a unit's line table, undefined when it has none. */
  lineFiles(unit: Unit): LineFiles | undefined {
    const of = unit.skeleton ?? unit;
    if (of.file !== this) return of.file.lineFiles(of);
    return of.lines < 0 ? undefined : (this.#lineFiles.get(of.lines) ?? this.#readLines(of).files);
  }

  #runProgram(unit: Unit, keep: boolean): LineTable {
    const { files, bytes, where } = this.#readLines(unit);
    const origin = { low: this.originLow, high: this.originHigh };
    return runLineProgram(files, bytes, where, unit.lines, origin, (place) => this.alive(place), keep);
  }

  #readLines(unit: Unit): { files: LineFiles; bytes: Uint8Array; where: string } {
    const source = this.need('line');
    const offset = unit.lines;
    const { length } = Reader.over(source, offset).initialLength();
    if (offset + length > source.size) throw wrong(source.name, offset, `a line table of ${length} bytes, more than there are`);
    const bytes = ownBytes(source, offset, Math.min(length + 12, source.size - offset));
    let files = this.#lineFiles.get(offset);
    if (!files) {
      const header = readLineHeader(bytes, 0, source.name, offset);
      files = new LineFiles(header, (index) => this.#pathOf(unit, header, index));
      if (this.#lineFiles.size > MAX_ASKED) this.#lineFiles.clear();
      this.#lineFiles.set(offset, files);
    }
    return { files, bytes, where: source.name };
  }

  /** The path of file `index` of a line table. */
  #pathOf(unit: Unit, header: LineHeader, index: number): string {
    const text = (key: number): string =>
      nameText(
        key,
        (at) => Reader.over(this.need('line'), at).cstring(),
        (section, at) => this.string(section, at),
        (at) => unit.indexedString(at),
      );
    // DWARF 5 counts files from 0; before it they started at 1, and 0 was the unit's own.
    const file = header.version >= 5 ? index : index - 1;
    if (file < 0) return joinPath(unit.directory, undefined, unit.name);
    if (!(file < header.files.length)) return '';
    const folder = folderOf(header, header.fileDirectories[file]);
    const directory = folder >= 0 && folder < header.directories.length ? text(header.directories[folder]) : undefined;
    return joinPath(unit.directory, directory, text(header.files[file]));
  }

  // --- other files --------------------------------------------------------------------------------------------------------

  /** dwz's common file that .gnu_debugaltlink names (DWARF 5 §7.3.6), undefined when there is none or it cannot be used. */
  get alternate(): DwarfFile | undefined {
    if (this.#alternate === undefined) this.#alternate = this.#openAlternate() ?? null;
    return this.#alternate ?? undefined;
  }

  needAlternate(fail: (fact: string) => DwarfError): DwarfFile {
    const { alternate } = this;
    if (!alternate) throw fail('a reference to a common file (.gnu_debugaltlink), which is not there');
    return alternate;
  }

  #openAlternate(): DwarfFile | undefined {
    const section = this.elf.section('.gnu_debugaltlink');
    if (!section || section.size === 0) return undefined;
    const contents = this.elf.contents(section);
    const bytes = contents.read(0, Math.min(contents.size, 4096));
    const end = bytes.indexOf(0);
    if (end <= 0) {
      this.problems.push(`${contents.name}: no file name`);
      return undefined;
    }
    const name = Buffer.from(bytes.subarray(0, end)).toString('utf8');
    const id = Buffer.from(bytes.subarray(end + 1)).toString('hex');
    const beside = path.dirname(this.name);
    const tried = [
      path.resolve(beside, name),
      path.join(beside, path.basename(name)),
      path.join('/usr/lib/debug/.build-id', id.slice(0, 2), `${id.slice(2)}.debug`),
    ];
    let why = 'not found';
    for (const candidate of tried) {
      try {
        const elf = ElfFile.open(candidate);
        if (elf.buildId === id) return new DwarfFile(elf, { program: this.program, budget: this.#budget });
        why = `${candidate} has another build-id`;
        elf.close();
      } catch (error) {
        if (!(error instanceof SymbolFileError)) throw error;
      }
    }
    this.problems.push(`${this.name}: its common debug file ${name}: ${why}`);
    return undefined;
  }

  /**
   * The unit that has the DIEs of `unit`: itself, or for a skeleton (DWARF 5 §3.1.2, or GNU's before it) the unit in the .dwo
   * file or the .dwp package. When that is not there: a problem, and the skeleton, which has line numbers only.
   */
  full(unit: Unit): Unit {
    // Without looking at the unit: DWARF 5 says so in the header, and what came before needs .debug_addr.
    if (unit.version >= 5 ? unit.type !== DW_UT.skeleton : !this.source('addr')) return unit;
    if (this.#splits.has(unit)) return this.#splits.get(unit) ?? unit;
    const found = this.#findSplit(unit);
    this.#splits.set(unit, found);
    return found ?? unit;
  }

  #findSplit(unit: Unit): Unit | undefined {
    if (this.#split || unit.section !== 'info' || unit.type === DW_UT.type || unit.type === DW_UT.partial) return undefined;
    const { root } = unit;
    const name = root.string(DW_AT.dwo_name) ?? root.string(DW_AT.GNU_dwo_name);
    if (name === undefined) return undefined;
    const given = root.attr(DW_AT.GNU_dwo_id);
    const id = unit.id ?? (given === undefined ? undefined : BigInt.asUintN(64, BigInt(given as number | bigint)));
    const beside = path.dirname(this.name);
    const tried = [
      path.resolve(beside, unit.directory, name),
      path.resolve(beside, name),
      path.join(beside, path.basename(name)),
      `${this.name}.dwp`,
    ];
    for (const candidate of new Set(tried)) {
      const file = this.#splitFile(candidate);
      if (!file) continue;
      const found = file.#splitUnitById(id, unit);
      if (found) return found;
    }
    this.problems.push(`${this.name}: split debug information ${name} is not there`);
    return undefined;
  }

  #splitFile(candidate: string): DwarfFile | undefined {
    if (this.#splitFiles.has(candidate)) return this.#splitFiles.get(candidate);
    let file: DwarfFile | undefined;
    try {
      file = new DwarfFile(ElfFile.open(candidate), { program: this.program, split: true, budget: this.#budget });
    } catch (error) {
      if (!(error instanceof SymbolFileError)) throw error;
    }
    this.#splitFiles.set(candidate, file);
    return file;
  }

  /** Unit of a split file whose DWO id is `id`; the only one there is, when that has no id of its own. */
  #splitUnitById(id: bigint | undefined, skeleton: Unit): Unit | undefined {
    const { headers, info } = this.list;
    const candidates: number[] = [];
    for (let i = 0; i < info; i++) {
      if (headers[i].type === DW_UT.type || headers[i].type === DW_UT.split_type) continue;
      if (headers[i].id !== undefined ? headers[i].id === id : this.#oldId(i) === id) candidates.push(i);
    }
    return candidates.length ? this.#splitUnit(candidates[0], skeleton) : undefined;
  }

  readonly #splitUnits = new Map<number, Unit>();

  #splitUnit(index: number, skeleton: Unit): Unit {
    let unit = this.#splitUnits.get(index);
    if (!unit) {
      const header = this.list.headers[index];
      unit = new Unit(this, index < this.list.info ? 'info' : 'types', header, skeleton, this.#contributions(header));
      this.#splitUnits.set(index, unit);
    }
    return unit;
  }

  /** DW_AT_GNU_dwo_id, which GNU split DWARF 4 keeps in the root of the split unit. */
  #oldId(index: number): bigint | undefined {
    const header = this.list.headers[index];
    const value = new Unit(this, 'info', header, undefined, this.#contributions(header)).root.attr(DW_AT.GNU_dwo_id);
    return typeof value === 'number' || typeof value === 'bigint' ? BigInt.asUintN(64, BigInt(value)) : undefined;
  }

  #packages: Map<string, Contributions> | undefined;

  /** Parts of sections that belong to a unit of a package (DWARF 5 §7.3.5); none in a .dwo file. */
  #contributions(header: UnitHeader): Contributions {
    this.#packages ??= new Map([...this.#readPackage('cu_index'), ...this.#readPackage('tu_index')]);
    return this.#packages.get(String(header.offset)) ?? {};
  }

  /** DWARF 5 §7.3.5.3: a hash table of ids, a table of section offsets and one of sizes. By offset of the unit. */
  #readPackage(name: 'cu_index' | 'tu_index'): Map<string, Contributions> {
    const out = new Map<string, Contributions>();
    const source = this.source(name);
    if (!source || source.size === 0) return out;
    const reader = Reader.over(source, 0);
    const version = reader.u16();
    reader.u16();
    if (version !== 5 && version !== 2) throw reader.fail(`a package index of version ${version}`, 0);
    const columns = reader.u32();
    const units = reader.u32();
    const slots = reader.u32();
    // Versions 2 and 5 number some sections differently; .debug_types and .debug_loc, .debug_macinfo exist in 2 only.
    const sections: Record<number, SectionName> =
      version === 5
        ? {
            [DW_SECT.INFO]: 'info',
            [DW_SECT.ABBREV]: 'abbrev',
            [DW_SECT.LINE]: 'line',
            [DW_SECT.LOCLISTS]: 'loclists',
            [DW_SECT.STR_OFFSETS]: 'str_offsets',
            [DW_SECT.RNGLISTS]: 'rnglists',
          }
        : { 1: 'info', 2: 'types', 3: 'abbrev', 4: 'line', 5: 'loc', 6: 'str_offsets' };
    if (columns > 16 || 16 + slots * 12 + (units + 1) * columns * 4 + units * columns * 4 > source.size)
      throw reader.fail('a package index that is larger than its section', 0);
    reader.skip(slots * 12);
    const kinds = Array.from({ length: columns }, () => sections[reader.u32()]);
    for (let u = 0; u < units; u++) {
      const part: Contributions = {};
      for (const kind of kinds) {
        const offset = reader.u32();
        if (kind) part[kind] = offset;
      }
      const at = part.info ?? part.types;
      if (at !== undefined) out.set(String(at), part);
    }
    return out;
  }
}

/** A range that is kept by whoever reads it: past the cache of blocks. */
function ownBytes(source: ByteSource, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  source.readInto(bytes, offset);
  return bytes;
}
