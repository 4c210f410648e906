/**
 * What a debugger asks of a file with debug information. `openDebugInfo` is the way in:
 *
 *     const info = await openDebugInfo('vmlinux');
 *     info.frames(0xffff800008416e24n)            functions, inlined ones too, with file, line and column
 *     info.lineLocations(info.findFiles('net/ipv4/tcp.c'), 4381)
 *     info.functionEntries('vmbus_negotiate_version')
 *     info.type('task_struct', [KIND.struct])     a Die; children(), type(), attr() go on from there
 *     info.scopes(address)                        blocks around an address and the variables declared in them
 *
 * Addresses are the file's own (link-time) ones; who knows where the file runs adds the difference. Addresses of a relocatable
 * file (a module) are places: see ElfFile. Nothing throws for damaged debug information below a query's answer: a query that
 * needs something damaged throws SymbolFileError, whose message is for the user.
 */
import { Worker } from 'node:worker_threads';
import type { ByteSource } from '../byte-source.ts';
import { SymbolFileError, withoutDamage } from '../byte-source.ts';
import { SHT } from '../elf.ts';
import { ElfFile } from '../elf-file.ts';
import { buildLines } from './build-lines.ts';
import { buildNames } from './build-names.ts';
import { type CachedIndex, cacheFolder, identity, loadIndex, storeIndex } from './cache.ts';
import { DW_AT, DW_LANG, DW_TAG, DW_UT } from './constants.ts';
import type { Die } from './die.ts';
import { DwarfFile, type UnitList } from './file.ts';
import {
  encode,
  findName,
  type FunctionIndex,
  KIND,
  type LineIndex,
  type NameIndex,
  problemTexts,
  textAt,
} from './index-data.ts';
import { inlinedCopies } from './inlined.ts';
import { type LineRow, type LineTable, ROW } from './line-table.ts';
import { type Macro, Macros } from './macros.ts';
import type { Unit } from './unit.ts';
import type { IndexMessage, IndexRequest } from './worker.ts';

export { KIND } from './index-data.ts';

/** A place in a source file. */
export interface SourceLine {
  /** As the debug information spells it: parts joined, nothing resolved. */
  readonly path: string;
  /** 0 when the compiler says that the code belongs to no line. */
  readonly line: number;
  /** 0 when not known. */
  readonly column: number;
  readonly discriminator: number;
}

/** One function at an address: the innermost inlined one, the function it is inlined in, and so on. */
export interface SourceFrame extends SourceLine {
  /** Name in the source; undefined when no debug information covers the address. */
  readonly name: string | undefined;
  /** DW_TAG_inlined_subroutine or, for the outermost, DW_TAG_subprogram. */
  readonly die: Die | undefined;
}

/** The line table row in force at an address. */
export interface LineAt extends SourceLine {
  /** The address is in [from, to). */
  readonly from: bigint;
  readonly to: bigint;
  readonly isStatement: boolean;
  readonly prologueEnd: boolean;
}

export interface FunctionEntry {
  /** DW_TAG_subprogram, or DW_TAG_inlined_subroutine for an inlined copy; undefined when only the symbol table has it. */
  readonly die: Die | undefined;
  readonly entry: bigint;
  /** Where a breakpoint on the function goes: its arguments are where the debug information says. */
  readonly body: bigint;
  readonly inlined: boolean;
}

/** A function or block around an address and what is declared in it. */
export interface Scope {
  /** DW_TAG_subprogram, DW_TAG_inlined_subroutine or DW_TAG_lexical_block. */
  readonly die: Die;
  /** 0 for the innermost, possibly inlined, function; 1 for the one it is inlined in. */
  readonly depth: number;
  /** DW_TAG_formal_parameter and DW_TAG_variable, in order. */
  readonly variables: readonly Die[];
}

/** Answers about places that are kept. */
const KNOWN = 4096;
/** Line tables are asked for no more than this many addresses of one line. */
const MAX_LOCATIONS = 4096;
/** Entries of lists that one question may read. */
const LIST_ENTRIES = 1 << 22;
/** Rows of one function. */
const MAX_ROWS = 20_000;
/** Functions and blocks in each other at one address. */
const MAX_DEPTH = 256;
/** Entries of functions that start before an address and are looked at for one that has it. */
const NEAR = 64;

export interface OpenOptions {
  /** Folder of the cache; undefined for none. Default: `cacheFolder()`. */
  readonly cache?: string | undefined;
}

/**
 * Opens a file. With a cached index at once; otherwise a worker thread makes one, and this resolves when lines can be asked for:
 * names follow, see `complete`. Rejects with SymbolFileError.
 */
export async function openDebugInfo(path: string, options: OpenOptions = {}): Promise<DebugInfo> {
  const cache = 'cache' in options ? options.cache : cacheFolder();
  const elf = ElfFile.open(path);
  const stored = loadIndex(cache, identity(elf));
  if (stored) return fromCache(elf, stored, cache);
  // Threads of Node 20 do not load TypeScript: what runs from source does without.
  const here = import.meta.url;
  if (here.endsWith('.ts')) {
    elf.close();
    return openDebugInfoHere(path, options);
  }
  return new Promise((resolve, reject) => {
    const workerData: IndexRequest = { path, cache };
    // esbuild.mjs names the bundle.
    const worker = new Worker(new URL('./symbol-worker.mjs', here), { workerData });
    worker.unref();
    let info: DebugInfo | undefined;
    let done = false;
    const failed = (why: string): void => {
      if (done) return;
      done = true;
      if (info) info.setNames(undefined, why);
      else {
        elf.close();
        reject(new SymbolFileError(why));
      }
    };
    worker.on('message', (message: IndexMessage) => {
      if (message.part === 'lines') {
        info = new DebugInfo(elf, message.lines);
        resolve(info);
      } else if (message.part === 'names') {
        done = true;
        info?.setNames(message.names);
      } else failed(message.message);
    });
    worker.on('error', (error) => failed(`${path}: its index could not be made: ${error.message}`));
    worker.on('exit', () => failed(`${path}: its index could not be made`));
  });
}

/** The same without a thread: for a command line. Throws SymbolFileError. */
export function openDebugInfoHere(path: string, options: OpenOptions = {}): DebugInfo {
  const cache = 'cache' in options ? options.cache : cacheFolder();
  const elf = ElfFile.open(path);
  const what = identity(elf);
  const stored = loadIndex(cache, what);
  if (stored) return fromCache(elf, stored, cache);
  const file = new DwarfFile(elf);
  const lines = buildLines(file);
  const names = buildNames(file);
  if (cache) storeIndex(cache, what, encode({ identity: what, lines, names }));
  return new DebugInfo(elf, lines, { functions: names, load: () => names }, file);
}

/** A file whose index was kept. Names that are damaged there are made again when they are asked for. */
function fromCache(elf: ElfFile, { identity: what, lines, functions, names }: CachedIndex, cache: string | undefined): DebugInfo {
  const again = (): NameIndex => {
    const made = buildNames(new DwarfFile(elf));
    storeIndex(cache, what, encode({ identity: what, lines, names: made }));
    return made;
  };
  return new DebugInfo(elf, lines, { functions, load: () => names() ?? withoutDamage(again, undefined) });
}

/** The same for an open file, without a cache. Throws SymbolFileError. */
export function debugInfoOf(elf: ElfFile): DebugInfo {
  const file = new DwarfFile(elf);
  const lines = buildLines(file);
  const names = buildNames(file);
  return new DebugInfo(elf, lines, { functions: names, load: () => names }, file);
}

function unitList(lines: LineIndex): UnitList {
  const { unitFacts: facts, unitIds, unitTypes } = lines;
  const headers = Array.from(lines.unitOffsets, (offset, i) => ({
    offset,
    end: lines.unitEnds[i],
    dies: offset + facts[i * 4 + 3],
    version: facts[i * 4],
    type: facts[i * 4 + 1],
    offsetSize: (facts[i * 4 + 2] === 8 ? 8 : 4) as 4 | 8,
    addressSize: 8,
    abbrevOffset: lines.unitAbbrevs[i],
    id: unitIds[i] || undefined,
    typeOffset: unitTypes[i] >= 0 ? unitTypes[i] : undefined,
  }));
  const roots = (i: number) => ({
    lines: lines.unitLines[i],
    base: { low: lines.unitBases[i * 2], high: lines.unitBases[i * 2 + 1] },
    directory: textAt(lines.directories, lines.unitDirs[i]),
  });
  return { headers, info: lines.unitCount[0], roots };
}

/** The part of the index that has names. */
interface Names {
  readonly functions: FunctionIndex;
  /** Names themselves, which may have to be read first; undefined: they are damaged. */
  load(): NameIndex | undefined;
}

export class DebugInfo {
  readonly elf: ElfFile;
  readonly file: DwarfFile;
  readonly #lines: LineIndex;
  #names: Names | undefined;
  #loaded: NameIndex | undefined;
  #why: string[] = [];
  #finish: () => void = () => {};
  /** Resolves when names can be asked for (functions, variables and types by name). Never rejects: see `problems`. */
  readonly complete: Promise<void>;
  #paths: string[] | undefined;
  /** Answers by place: a stack's callers are the same at every stop. */
  readonly #known = {
    blocks: new Map<number, readonly Die[]>(),
    frames: new Map<number, readonly SourceFrame[]>(),
    statements: new Map<number, readonly SourceFrame[]>(),
  };
  /** Numbers of the files of a name without folders, for names that were asked for. */
  readonly #byBase = new Map<string, number[]>();

  /** Made by `openDebugInfo`. */
  constructor(elf: ElfFile, lines: LineIndex, names?: Names, file = new DwarfFile(elf, { list: unitList(lines) })) {
    this.elf = elf;
    this.file = file;
    this.#lines = lines;
    this.#names = names;
    this.complete = names
      ? Promise.resolve()
      : new Promise((resolve) => {
          this.#finish = resolve;
        });
  }

  /** The second part of the index is there, or why it will never be. */
  setNames(names: NameIndex | undefined, why?: string): void {
    this.#names = names && { functions: names, load: () => names };
    if (why) this.#why.push(why);
    for (const known of Object.values(this.#known)) known.clear();
    this.#finish();
  }

  close(): void {
    this.file.close();
  }

  /** Names by text, read when they are first asked for. */
  get #byName(): NameIndex | undefined {
    if (!this.#loaded && this.#names) {
      this.#loaded = this.#names.load();
      if (!this.#loaded) this.setNames(undefined, `${this.elf.name}: the names in its index are damaged`);
    }
    return this.#loaded;
  }

  /** Reads now what would be read when a name is first asked for. */
  prepareNames(): void {
    void this.#byName;
  }

  /** Can names be asked for yet? */
  get isComplete(): boolean {
    return this.#names !== undefined;
  }

  /** What of the debug information could not be used: one line each, naming the file. */
  get problems(): string[] {
    const names = this.#names ? problemTexts(this.#names.functions.nameProblems) : [];
    return [...new Set([...problemTexts(this.#lines.lineProblems), ...names, ...this.#why, ...this.file.problems])];
  }

  /** False for a file that has a symbol table at best. */
  get hasDebugInfo(): boolean {
    return this.#lines.unitOffsets.length > 0;
  }

  // --- addresses ----------------------------------------------------------------------------------------------------------

  /** The compilation unit that has the code at `address`; of a split unit the part in the program's own file. */
  unitAt(address: bigint): Unit | undefined {
    return this.#unitAt(this.elf.place(address));
  }

  #unitAt(place: number): Unit | undefined {
    const { rangeFrom, rangeTo, rangeUnit } = this.#lines;
    for (let i = after(rangeFrom, place) - 1, n = 0; i >= 0 && n < NEAR; i--, n++)
      if (place < rangeTo[i]) return this.file.unit(rangeUnit[i]);
    return undefined;
  }

  /** The function (DW_TAG_subprogram) that has `address`, not an inlined one. */
  functionAt(address: bigint): Die | undefined {
    return this.#functionAt(this.elf.place(address));
  }

  #functionAt(place: number): Die | undefined {
    const names = this.#names?.functions;
    if (names) {
      const { functionFrom, functionTo, functionUnits, functionDies } = names;
      for (let i = after(functionFrom, place) - 1, n = 0; i >= 0 && n < NEAR; i--, n++)
        if (place < functionTo[i]) return this.#die(functionUnits[i], functionDies[i]);
      return undefined;
    }
    // Before the names are there the unit is searched.
    const unit = this.#unitAt(place);
    if (!unit) return undefined;
    const search = (parent: Die, depth: number): Die | undefined => {
      for (const child of parent.children()) {
        if (child.tag === DW_TAG.subprogram && child.covers(place)) return child;
        const inside: Die | false | undefined =
          child.tag === DW_TAG.namespace || child.tag === DW_TAG.module
            ? depth < MAX_DEPTH && search(child, depth + 1)
            : undefined;
        if (inside) return inside;
      }
      return undefined;
    };
    return search(this.file.full(unit).root, 0);
  }

  /** The DIE of an index entry. */
  #die(unit: number, offset: number): Die {
    const { list, alternate } = this.file;
    if (unit < list.headers.length) return this.file.full(this.file.unit(unit)).die(offset);
    if (!alternate) throw new SymbolFileError(`${this.elf.name}: its common debug file is not there any more`);
    return alternate.unit(unit - list.headers.length).die(offset);
  }

  /** Functions and blocks that have `place`, outermost first: DW_TAG_subprogram, then inlined ones and lexical blocks in it. */
  #blocks(place: number): readonly Die[] {
    const known = this.#known.blocks.get(place);
    if (known) return known;
    const found = this.#findBlocks(place);
    remember(this.#known.blocks, place, found);
    return found;
  }

  #findBlocks(place: number): Die[] {
    this.file.allow(LIST_ENTRIES);
    const found = this.#functionAt(place);
    if (!found) return [];
    const chain = [found];
    for (let parent: Die | undefined = found; parent && chain.length < MAX_DEPTH; ) {
      let inside: Die | undefined;
      for (const child of parent.children()) {
        const { tag } = child;
        if (tag !== DW_TAG.inlined_subroutine && tag !== DW_TAG.lexical_block) continue;
        if (child.covers(place)) {
          inside = child;
          break;
        }
      }
      if (inside) chain.push(inside);
      parent = inside;
    }
    return chain;
  }

  /** The line table row in force at `address`. */
  lineAt(address: bigint): LineAt | undefined {
    const place = this.elf.place(address);
    const row = this.#rowAt(place, true);
    if (!row) return undefined;
    const { path, line, column, discriminator, flags, from, to } = row;
    return {
      ...{ path, line, column, discriminator },
      from: this.elf.address(from),
      to: this.elf.address(to),
      isStatement: (flags & ROW.statement) !== 0,
      prologueEnd: (flags & ROW.prologueEnd) !== 0,
    };
  }

  #rowAt(place: number, statement = false): LineRow | undefined {
    const last = this.#lastRowAt(place, false);
    if (!statement || !last || last.flags & ROW.statement) return last;
    const first = this.#lastRowAt(place, true);
    if (!first || !(first.flags & ROW.statement)) return last;
    // A line before the function is of one that was inlined, and is over.
    const innermost = this.#blocks(place).findLast((d) => d.tag !== DW_TAG.lexical_block);
    const declared = innermost && this.declaration(innermost);
    return declared && first.line < declared.line ? { ...last, flags: last.flags | ROW.statement } : first;
  }

  #lastRowAt(place: number, statement: boolean): LineRow | undefined {
    const unit = this.#unitAt(place);
    if (unit) return this.file.lineRow(unit, place, statement);
    // Padding between functions, such as the NOPs that are patched for tracing, is of no unit but in a line table.
    const { rangeFrom, rangeUnit } = this.#lines;
    const next = after(rangeFrom, place);
    for (const i of [next - 1, next]) {
      const found =
        i >= 0 && i < rangeUnit.length ? this.file.lineRow(this.file.unit(rangeUnit[i]), place, statement) : undefined;
      if (found) return found;
    }
    return undefined;
  }

  /** Line table rows in force in [from, to), ascending; `to` at most what follows in the line table of `from`. */
  rowsIn(from: bigint, to: bigint): LineAt[] {
    const out: LineAt[] = [];
    const end = this.elf.place(to);
    for (let place = this.elf.place(from); place < end && out.length < MAX_ROWS; ) {
      const row = this.lineAt(this.elf.address(place));
      if (!row) break;
      out.push(row);
      const next = this.elf.place(row.to);
      if (next <= place) break;
      place = next;
    }
    return out;
  }

  /** Code of the function (not an inlined one) that has `address`: its parts, the one with its entry first. */
  functionRanges(address: bigint): { from: bigint; to: bigint }[] {
    return (
      this.functionAt(address)
        ?.ranges()
        .map((r) => ({ from: this.elf.address(r.from), to: this.elf.address(r.to) })) ?? []
    );
  }

  /** Of the function that starts at `address`: where it can be looked at, after its prologue. Of other code: `address`. */
  bodyOf(address: bigint): bigint {
    const place = this.elf.place(address);
    const found = this.#functionAt(place);
    const range = found?.ranges().find((r) => r.from === place);
    return found && range ? this.elf.address(this.#body(found, range)) : address;
  }

  /**
   * The functions at `address`, innermost first: the first has the line of the address, each other the line of the call that was
   * inlined. Empty when neither a line nor a function is known there. `statement`: of several lines at one address the one that steps
   * stop at; otherwise the last, as tools print it.
   */
  frames(address: bigint, statement = false): readonly SourceFrame[] {
    const place = this.elf.place(address);
    const frames = statement ? this.#known.statements : this.#known.frames;
    const known = frames.get(place);
    if (known) return known;
    const found = this.#findFrames(place, statement);
    remember(frames, place, found);
    return found;
  }

  #findFrames(place: number, statement: boolean): SourceFrame[] {
    const at = this.#rowAt(place, statement);
    let where: SourceLine = {
      path: at?.path ?? '',
      line: at?.line ?? 0,
      column: at?.column ?? 0,
      discriminator: at?.discriminator ?? 0,
    };
    const functions = this.#blocks(place).filter((d) => d.tag !== DW_TAG.lexical_block);
    if (!functions.length) return at ? [{ ...where, name: undefined, die: undefined }] : [];
    const out: SourceFrame[] = [];
    for (const die of functions.reverse()) {
      out.push({ ...where, name: die.qualifiedName, die });
      if (die.tag === DW_TAG.inlined_subroutine) where = this.callSite(die);
    }
    return out;
  }

  /** Where the call was that a DW_TAG_inlined_subroutine replaces. */
  callSite(die: Die): SourceLine {
    return {
      path: this.path(die, DW_AT.call_file),
      line: die.number(DW_AT.call_line) ?? 0,
      column: die.number(DW_AT.call_column) ?? 0,
      discriminator: 0,
    };
  }

  /** Where a DIE's entity is declared; undefined when it does not say. */
  declaration(die: Die): SourceLine | undefined {
    const file = die.holder(DW_AT.decl_file);
    const line = die.holder(DW_AT.decl_line);
    if (!file || !line) return undefined;
    return {
      path: this.path(file, DW_AT.decl_file),
      line: line.number(DW_AT.decl_line) ?? 0,
      column: die.holder(DW_AT.decl_column)?.number(DW_AT.decl_column) ?? 0,
      discriminator: 0,
    };
  }

  /** The path that DW_AT_decl_file or DW_AT_call_file of `die` itself means, '' when there is none. */
  path(die: Die, attribute: number): string {
    const file = die.number(attribute);
    if (file === undefined) return '';
    return die.unit.file.lineFiles(die.unit)?.path(file) ?? '';
  }

  /** Blocks around `address`, innermost first. What a unit declares outside functions is not in it: see `variable`. */
  scopes(address: bigint): Scope[] {
    let depth = 0;
    return [...this.#blocks(this.elf.place(address))].reverse().map((die) => {
      const variables = [...die.children()].filter((c) => c.tag === DW_TAG.formal_parameter || c.tag === DW_TAG.variable);
      const scope = { die, depth, variables };
      if (die.tag !== DW_TAG.lexical_block) depth++;
      return scope;
    });
  }

  // --- files and lines ----------------------------------------------------------------------------------------------------

  /** Paths of all source files, as the debug information spells them. The index of a path is its number. */
  get files(): readonly string[] {
    const { paths, pathStarts } = this.#lines;
    // In one piece: they follow each other.
    this.#paths ??= Buffer.from(paths.buffer, paths.byteOffset, paths.length)
      .toString('utf8')
      .split('\0')
      .slice(0, pathStarts.length);
    return this.#paths;
  }

  /**
   * Numbers of the files that `path` may mean: those that spell it so or, if none does, those whose last parts are its parts
   * (`tcp.c`, `ipv4/tcp.c`). `.` and `..` in either are resolved first.
   */
  findFiles(path: string): number[] {
    const { files } = this;
    const wanted = resolved(path);
    const base = wanted.slice(wanted.lastIndexOf('/') + 1);
    let candidates = this.#byBase.get(base);
    if (!candidates) {
      candidates = [];
      for (let i = 0; i < files.length; i++)
        if (files[i].endsWith(base) && files[i].lastIndexOf('/') === files[i].length - base.length - 1) candidates.push(i);
      this.#byBase.set(base, candidates);
    }
    const exact = candidates.filter((i) => resolved(files[i]) === wanted);
    if (exact.length) return exact;
    return candidates.filter((i) => `/${resolved(files[i])}`.endsWith(wanted.startsWith('/') ? wanted : `/${wanted}`));
  }

  /**
   * Addresses for a breakpoint on a line: one for each copy of the code (functions, inlined copies, clones, unrolled blocks count
   * once each), at statements only. Where no code is at `line` it is the next line that has some, which is in the answer.
   * Undefined when there is none up to the end of the file.
   */
  lineLocations(files: readonly number[], line: number): { readonly line: number; readonly addresses: bigint[] } | undefined {
    const exact: number[] = [];
    let next = Number.POSITIVE_INFINITY;
    for (const { table, index } of this.#tables(files)) {
      const { lines, files: rowFiles, flags, discriminators } = table;
      let several = false;
      for (let i = 0; i < lines.length; i++) {
        const sameLine = i > 0 && lines[i] === lines[i - 1] && rowFiles[i] === rowFiles[i - 1];
        several = discriminators[i] !== 0 || (sameLine && several);
        if (rowFiles[i] !== index || lines[i] < line || lines[i] > next) continue;
        if ((flags[i] & (ROW.statement | ROW.end)) !== ROW.statement || isEmpty(table, i)) continue;
        // Discriminators tell parts of one line apart, for profilers: what follows on the line is no other statement.
        if (sameLine && several) continue;
        if (lines[i] === line) exact.push(table.places[i]);
        else next = lines[i];
      }
    }
    if (exact.length) return { line, addresses: this.#onePerBlock(exact) };
    return next === Number.POSITIVE_INFINITY ? undefined : this.lineLocations(files, next);
  }

  /** Lines of the files in [from, to] that have code, ascending. */
  linesWithCode(files: readonly number[], from: number, to: number): number[] {
    const found = new Set<number>();
    for (const { table, index } of this.#tables(files)) {
      const { lines, files: rowFiles, flags } = table;
      for (let i = 0; i < lines.length; i++)
        if (
          lines[i] >= from &&
          lines[i] <= to &&
          rowFiles[i] === index &&
          (flags[i] & (ROW.statement | ROW.end)) === ROW.statement
        )
          found.add(lines[i]);
    }
    return [...found].sort((a, b) => a - b);
  }

  /** Line tables that list the files, and the number that each has for it. */
  *#tables(files: readonly number[]): Generator<{ table: LineTable; index: number }> {
    const { fileStarts, fileUnits, fileIndices } = this.#lines;
    const seen = new Set<string>();
    for (const f of files)
      for (let i = fileStarts[f]; i < fileStarts[f + 1]; i++) {
        // Units may share a table.
        const key = `${this.#lines.unitLines[fileUnits[i]]}/${fileIndices[i]}`;
        if (seen.has(key)) continue;
        seen.add(key);
        const table = this.file.lineTable(this.file.unit(fileUnits[i]));
        if (table) yield { table, index: fileIndices[i] };
      }
  }

  /** The first of the places in each block: a line's code is often in pieces. */
  #onePerBlock(places: readonly number[]): bigint[] {
    const out: number[] = [];
    const seen = new Set<string>();
    for (const place of [...new Set(places)].sort((a, b) => a - b)) {
      if (out.length >= MAX_LOCATIONS) break;
      const block = this.#blocks(place).findLast((d) => d.tag !== DW_TAG.lexical_block || declaresSomething(d));
      if (block) {
        const key = `${block.unit.where}/${block.offset}`;
        if (seen.has(key)) continue;
        seen.add(key);
      }
      out.push(this.#pastPrologue(place));
    }
    return [...new Set(out)].map((place) => this.elf.address(place));
  }

  /** `place`, or if it is in the prologue of a function the end of that. */
  #pastPrologue(place: number): number {
    const found = this.#functionAt(place);
    const [range] = found?.ranges() ?? [];
    return found && range && place >= range.from && place < range.to ? Math.max(place, this.#body(found, range)) : place;
  }

  // --- names --------------------------------------------------------------------------------------------------------------

  /** DIEs that have `name` and one of the kinds (all kinds if none is given), in the order of the file. Needs `complete`. */
  lookup(name: string, kinds: readonly number[] = []): Die[] {
    const names = this.#byName;
    const id = names ? findName(names, name) : -1;
    if (!names || id < 0) return [];
    const out: Die[] = [];
    for (let i = names.entryStarts[id]; i < names.entryStarts[id + 1]; i++)
      if (!kinds.length || kinds.includes(names.entryKinds[i])) out.push(this.#die(names.entryUnits[i], names.entryDies[i]));
    return out;
  }

  /** Up to `limit` names that start with `prefix` and stand for one of the kinds, for completion. Needs `complete`. */
  namesWith(prefix: string, kinds: readonly number[] = [], limit = 1000): string[] {
    const index = this.#byName;
    if (!index) return [];
    const { names, nameStarts, entryStarts, entryKinds } = index;
    const bytes = Buffer.from(prefix, 'utf8');
    const out: string[] = [];
    for (let n = 0; n < nameStarts.length && out.length < limit; n++) {
      const start = nameStarts[n];
      let i = 0;
      while (i < bytes.length && names[start + i] === bytes[i]) i++;
      if (i < bytes.length) continue;
      const wanted =
        !kinds.length || entryKinds.subarray(entryStarts[n], entryStarts[n + 1]).some((kind) => kinds.includes(kind));
      if (wanted && entryStarts[n + 1] > entryStarts[n]) out.push(textAt(names, start));
    }
    return out;
  }

  /**
   * The type called `name` (without `struct`): that of `unit` if it has one, else the first definition in the file. Declarations
   * are not types.
   */
  type(name: string, kinds: readonly number[], unit?: Unit): Die | undefined {
    if (unit) {
      const tags = kinds.flatMap((kind) => TAGS[kind] ?? []);
      for (const child of this.file.full(unit).root.children())
        if (
          tags.includes(child.tag) &&
          child.has(DW_AT.name) &&
          child.string(DW_AT.name) === name &&
          !child.has(DW_AT.declaration)
        )
          return child;
    }
    return this.lookup(name, kinds)[0];
  }

  /** Units whose source file's path ends like this: `core.c`, `sched/core.c`. */
  *unitsOf(path: string): Generator<Unit> {
    for (const unit of this.#allUnits()) if (unit.name === path || unit.name.endsWith(`/${path}`)) yield unit;
  }

  /** The variable outside functions called `name`: that of `unit` if it has one, else a global one, else any. */
  variable(name: string, unit?: Unit): Die | undefined {
    const all = this.lookup(name, [KIND.variable]);
    const own = unit && all.find((d) => d.unit === this.file.full(unit));
    return own ?? all.find((d) => d.holder(DW_AT.external)?.flag(DW_AT.external)) ?? all[0];
  }

  /**
   * Where the function called `name` starts: every copy with code of its own (several files, clones), every inlined copy, and
   * what only the symbol table has (assembler; functions that the compiler found equal to another). Needs `complete`.
   */
  functionEntries(name: string): FunctionEntry[] {
    this.file.allow(LIST_ENTRIES);
    const out: FunctionEntry[] = [];
    const have = new Set<bigint>();
    const add = (die: Die | undefined, place: number, body: number, inlined: boolean): void => {
      const entry = this.elf.address(place);
      if (have.has(entry)) return;
      have.add(entry);
      out.push({ die, entry, body: this.elf.address(body), inlined });
    };
    // `core::fmt::write`: the index has the last part.
    const last = name.slice(name.lastIndexOf(':') + 1);
    const found = (kind: number): Die[] => {
      const all = this.lookup(last, [kind]);
      return last === name ? all : all.filter((d) => `::${d.qualifiedName}`.endsWith(`::${name}`));
    };
    for (const die of found(KIND.function)) {
      const [first] = die.ranges();
      if (first) add(die, first.from, this.#body(die, first), false);
    }
    const own = out.map((f) => this.elf.place(f.entry));
    // A symbol starts before its function where room was left to patch a call in.
    for (const { from, size } of this.elf.functionsNamed(name))
      if (!own.some((place) => place >= from && place < from + Math.max(size, 1))) add(undefined, from, from, false);
    const origins = found(KIND.inline);
    // An origin that dwz has moved to a partial unit or to the common file is referred to from anywhere.
    const shared = origins.some((d) => d.unit.file !== this.file || d.unit.type === DW_UT.partial);
    const units = shared ? this.#allUnits() : new Set(origins.map((d) => d.unit));
    for (const unit of units)
      for (const die of inlinedCopies(unit, origins)) {
        const [first] = die.ranges();
        if (first && out.length < MAX_LOCATIONS) add(die, first.from, first.from, true);
      }
    return out;
  }

  *#allUnits(): Generator<Unit> {
    for (let i = 0; i < this.file.list.headers.length; i++) yield this.file.full(this.file.unit(i));
  }

  /**
   * Where arguments can be seen. gcc with location lists describes variables from the first instruction on; clang marks the end of
   * the prologue; otherwise it is the second line of the function.
   */
  #body(die: Die, range: { from: number; to: number }): number {
    const { unit } = die;
    const table = unit.file.lineTable(unit);
    if (!table || unit.language === DW_LANG.Mips_Assembler) return range.from;
    let row = table.rowAt(range.from);
    if (row < 0) return range.from;
    for (let i = row; i < table.places.length && table.places[i] < range.to; i++)
      if (table.flags[i] & ROW.prologueEnd) return Math.max(table.places[i], range.from);
    if (unit.producer.startsWith('GNU ') && unit.hasLocationLists) return range.from;
    const line = table.lines[row];
    // A second line at the first instruction: nothing comes before the body.
    for (let i = row; i >= 0 && table.places[i] === table.places[row]; i--)
      if (table.lines[i] !== 0 && table.lines[i] !== line && table.places[i] === range.from) return range.from;
    for (row++; row < table.places.length && table.places[row] < range.to; row++)
      if (
        table.places[row] > range.from &&
        table.lines[row] !== 0 &&
        (table.lines[row] !== line || table.flags[row] & ROW.statement)
      )
        return table.places[row];
    return range.from;
  }

  /** What a macro means in the unit that has the code at `address`, where the compiler was asked to tell (-g3). */
  macro(address: bigint, name: string): Macro | undefined {
    const unit = this.unitAt(address);
    if (!unit) return undefined;
    this.#macros ??= new Macros(this.file);
    return this.#macros.find(unit, name);
  }
  #macros: Macros | undefined;

  // --- for unwinding ------------------------------------------------------------------------------------------------------

  /**
   * Call frame information: .debug_frame and .eh_frame, each if the file has it, with the address of its first byte (for
   * .eh_frame's relative pointers; 0 for .debug_frame).
   */
  get frameSections(): { readonly debugFrame?: FrameSection; readonly ehFrame?: FrameSection } {
    const of = (name: string): FrameSection | undefined => {
      const section = this.elf.section(name);
      if (!section || section.size === 0 || section.type === SHT.NOBITS) return undefined;
      const place = this.elf.sectionPlace(this.elf.sections.indexOf(section));
      return { bytes: this.elf.contents(section), address: place === undefined ? 0n : this.elf.address(place) };
    };
    return { debugFrame: of('.debug_frame'), ehFrame: of('.eh_frame') };
  }
}

export interface FrameSection {
  readonly bytes: ByteSource;
  readonly address: bigint;
}

/** Tags of a kind of types. */
const TAGS: Readonly<Record<number, readonly number[]>> = {
  [KIND.struct]: [DW_TAG.structure_type, DW_TAG.class_type],
  [KIND.union]: [DW_TAG.union_type],
  [KIND.enum]: [DW_TAG.enumeration_type],
  [KIND.typedef]: [DW_TAG.typedef],
  [KIND.base]: [DW_TAG.base_type],
};

/** How many of ascending `values` are at or before `value`. */
function after(values: Float64Array, value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A row of no length: another file's row, or the end, is at the same place. A breakpoint there would be on that one's code. */
function isEmpty(table: LineTable, row: number): boolean {
  const { places, files, flags } = table;
  for (let i = row + 1; i < places.length && places[i] === places[row]; i++) {
    if (flags[i] & ROW.end) return true;
    if (files[i] !== files[row] && flags[i] & ROW.statement) return true;
  }
  return false;
}

/** Does a lexical block declare anything? Those that do not are the compiler's, not the programmer's. */
function declaresSomething(block: Die): boolean {
  for (const child of block.children()) {
    const { tag } = child;
    if (tag === DW_TAG.variable || tag === DW_TAG.label) return true;
    if (child.has(DW_AT.name)) return true;
  }
  return false;
}

/** Keeps an answer, and no more than KNOWN of them: the oldest goes. */
function remember<T>(known: Map<number, T>, place: number, answer: T): void {
  if (known.size >= KNOWN) for (const oldest of known.keys()) if (known.delete(oldest)) break;
  known.set(place, answer);
}

/** A path without `.`, `..` and empty parts, `/` between them. */
function resolved(path: string): string {
  const out: string[] = [];
  for (const part of path.replaceAll('\\', '/').split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..' && out.length && out[out.length - 1] !== '..') out.pop();
    else out.push(part);
  }
  return (path.startsWith('/') ? '/' : '') + out.join('/');
}
