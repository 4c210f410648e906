/**
 * Line number programs (DWARF 5 §6.2; versions 2 to 5). A header is parsed into keys of names, not names, so that the thousands
 * of file tables of a kernel, most of them the same headers, cost no strings. Rows are typed arrays.
 */
import { fixedSize, skipForm } from './abbreviations.ts';
import { DW_FORM, DW_LNCT, formName } from './constants.ts';
import { Reader, wrong } from './reader.ts';

/** Rows of one table, at most: a bound on memory, far above any compiler's output. */
const MAX_ROWS = 1 << 22;
const MAX_FILES = 1 << 20;

/** A key of a name: where its bytes are. Offsets are below 2^40. */
const KIND = 2 ** 40;
export const NAME_IN = { line_str: 0, str: 1, line: 2, strx: 3 } as const;

export interface LineHeader {
  readonly version: number;
  /** Where .debug_line has it. */
  readonly offset: number;
  readonly end: number;
  /** First opcode. */
  readonly program: number;
  readonly minInstruction: number;
  readonly defaultIsStmt: boolean;
  readonly lineBase: number;
  readonly lineRange: number;
  readonly opcodeBase: number;
  /** Operands of standard opcodes, by opcode. */
  readonly operands: Uint8Array;
  /** Keys of names: `nameKind` and `nameOffset` take them apart. */
  readonly directories: Float64Array;
  readonly files: Float64Array;
  /** Directory index of each file. */
  readonly fileDirectories: Uint32Array;
}

export const nameKind = (key: number): number => Math.floor(key / KIND);
export const nameOffset = (key: number): number => key % KIND;

/**
 * Parses the header at `at` of `bytes`, whose first byte is at `base` of .debug_line; `bytes` ends with the unit or after. Throws
 * DwarfError.
 */
export function readLineHeader(bytes: Uint8Array, at: number, where: string, base: number): LineHeader {
  const reader = new Reader(bytes, where, base, at);
  const offset = reader.offset;
  const { length, offsetSize } = reader.initialLength();
  if (reader.at + length > bytes.length)
    throw reader.fail(`a line table of ${length} bytes where ${bytes.length - reader.at} are left`, offset);
  const end = reader.offset + length;
  const version = reader.u16();
  if (version < 2 || version > 5) throw reader.fail(`a line table of version ${version}; 2 to 5 are known`, offset);
  if (version >= 5) reader.skip(2);
  const headerLength = reader.word(offsetSize);
  const program = reader.offset + headerLength;
  if (program > end) throw reader.fail(`a line table header of ${headerLength} bytes, more than its table has`, offset);
  const minInstruction = reader.u8();
  if (version >= 4) reader.u8();
  const defaultIsStmt = reader.u8() !== 0;
  const lineBase = (reader.u8() << 24) >> 24;
  const lineRange = reader.u8();
  if (lineRange === 0) throw reader.fail('a line table with line_range 0', offset);
  const opcodeBase = reader.u8();
  const operands = new Uint8Array(256);
  for (let i = 1; i < opcodeBase; i++) operands[i] = reader.u8();
  const common = { version, offset, end, program, minInstruction, defaultIsStmt, lineBase, lineRange, opcodeBase, operands };
  if (version >= 5) {
    const encoding = { version, offsetSize, addressSize: 8 };
    const directories = readEntries(reader, encoding, end);
    const files = readEntries(reader, encoding, end);
    return { ...common, directories: directories.names, files: files.names, fileDirectories: files.directories };
  }
  // DWARF 4 §6.2.4: strings, each list ended by an empty one.
  const names = (entry: (key: number) => void): void => {
    for (let n = 0; ; n++) {
      if (n > MAX_FILES) throw reader.fail(`more than ${MAX_FILES} names in a line table`, offset);
      const key = NAME_IN.line * KIND + reader.offset;
      const nul = bytes.indexOf(0, reader.at);
      if (nul < 0 || base + nul >= end) throw reader.fail('a name without an end');
      const empty = nul === reader.at;
      reader.at = nul + 1;
      if (empty) return;
      entry(key);
    }
  };
  const directories: number[] = [];
  names((key) => directories.push(key));
  const files: number[] = [];
  const fileDirectories: number[] = [];
  names((key) => {
    files.push(key);
    fileDirectories.push(reader.uleb());
    reader.uleb();
    reader.uleb();
  });
  return {
    ...common,
    directories: Float64Array.from(directories),
    files: Float64Array.from(files),
    fileDirectories: Uint32Array.from(fileDirectories),
  };
}

/** DWARF 5 §6.2.4.1: a format, then entries in it. */
function readEntries(
  reader: Reader,
  encoding: { version: number; offsetSize: 4 | 8; addressSize: number },
  end: number,
): { names: Float64Array; directories: Uint32Array } {
  const { bytes, base, where } = reader;
  const formats = reader.u8();
  const types = new Uint16Array(formats);
  const forms = new Uint16Array(formats);
  for (let i = 0; i < formats; i++) {
    types[i] = reader.uleb();
    forms[i] = reader.uleb();
  }
  const count = reader.uleb();
  if (count > 0 && formats === 0) throw reader.fail(`${count} entries without a format in a line table`);
  if (count > MAX_FILES || count > end - reader.offset) throw reader.fail(`${count} entries in a line table`);
  const names = new Float64Array(count);
  const directories = new Uint32Array(count);
  let { at } = reader;
  const limit = end - base;
  for (let n = 0; n < count; n++) {
    for (let i = 0; i < formats; i++) {
      const form = forms[i];
      const start = at;
      if (form === DW_FORM.line_strp && encoding.offsetSize === 4) at += 4;
      else if (form === DW_FORM.udata && bytes[at] < 0x80) at++;
      else at = skipForm(form, bytes, at, encoding, where, base);
      if (at > limit) throw wrong(where, base + start, 'a line table whose file names are cut off');
      if (types[i] === DW_LNCT.path) names[n] = nameKey(form, bytes, start, encoding, where, base);
      else if (types[i] === DW_LNCT.directory_index) directories[n] = unsigned(form, bytes, start, where, base);
    }
  }
  reader.at = at;
  return { names, directories };
}

function nameKey(
  form: number,
  bytes: Uint8Array,
  at: number,
  encoding: { version: number; offsetSize: 4 | 8; addressSize: number },
  where: string,
  base: number,
): number {
  if (form === DW_FORM.string) return NAME_IN.line * KIND + base + at;
  const u32 = (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
  if (form === DW_FORM.line_strp || form === DW_FORM.strp) {
    const value = encoding.offsetSize === 4 ? u32 : new Reader(bytes, where, base, at).word(8);
    return (form === DW_FORM.strp ? NAME_IN.str : NAME_IN.line_str) * KIND + (value < KIND ? value : KIND - 1);
  }
  if (form >= DW_FORM.strx1 && form <= DW_FORM.strx4) {
    const size = fixedSize(form, encoding);
    return NAME_IN.strx * KIND + (size === 4 ? u32 : u32 & ((1 << (8 * size)) - 1));
  }
  if (form === DW_FORM.strx) return NAME_IN.strx * KIND + new Reader(bytes, where, base, at).uleb();
  throw wrong(where, base + at, `a file name of ${formName(form)}`);
}

function unsigned(form: number, bytes: Uint8Array, at: number, where: string, base: number): number {
  switch (form) {
    case DW_FORM.udata:
      return bytes[at] < 0x80 ? bytes[at] : new Reader(bytes, where, base, at).uleb();
    case DW_FORM.data1:
      return bytes[at];
    case DW_FORM.data2:
      return bytes[at] | (bytes[at + 1] << 8);
    default:
      throw wrong(where, base + at, `a directory index of ${formName(form)}`);
  }
}

/** The text of a name key; what it is in comes from `string`. */
export function nameText(
  key: number,
  line: (offset: number) => string,
  string: (section: 'str' | 'line_str', offset: number) => string,
  indexed: (index: number) => string,
): string {
  const offset = nameOffset(key);
  switch (nameKind(key)) {
    case NAME_IN.line_str:
      return string('line_str', offset);
    case NAME_IN.str:
      return string('str', offset);
    case NAME_IN.line:
      return line(offset);
    default:
      return indexed(offset);
  }
}

/**
 * The path of a file as GNU's and LLVM's tools print it: the parts that are there joined, nothing resolved. `directory` is the
 * entry's, undefined for the compilation directory.
 */
export function joinPath(compilation: string, directory: string | undefined, name: string): string {
  if (isAbsolute(name)) return name;
  if (directory !== undefined && isAbsolute(directory)) return `${directory}/${name}`;
  return [compilation, directory, name].filter((part) => part !== undefined && part !== '').join('/');
}

/** Index in `header.directories` of a file's directory, -1 for the compilation directory (entry 0 in every version). */
export function folderOf(header: LineHeader, directory: number): number {
  return directory === 0 ? -1 : header.version >= 5 ? directory : directory - 1;
}

const isAbsolute = (path: string): boolean => path.startsWith('/') || /^[A-Za-z]:[\\/]/.test(path) || path.startsWith('\\\\');

/** Bits of `LineTable.flags`. */
export const ROW = { statement: 1, prologueEnd: 2, epilogueBegin: 4, end: 8 } as const;

/** The files of one line table, by the indices that its rows, declarations and call sites have. */
export class LineFiles {
  readonly header: LineHeader;
  readonly #find: (file: number) => string;
  readonly #paths: (string | undefined)[] = [];

  /** `find` makes a path; each is asked for once. */
  constructor(header: LineHeader, find: (file: number) => string) {
    this.header = header;
    this.#find = find;
  }

  /** '' for an index that the table does not have. */
  path(file: number): string {
    this.#paths[file] ??= this.#find(file);
    return this.#paths[file] ?? '';
  }
}

/** A row, apart from its table. */
export interface LineRow {
  readonly path: string;
  readonly line: number;
  readonly column: number;
  readonly discriminator: number;
  /** Bits of ROW. */
  readonly flags: number;
  /** Places [from, to) that it is in force at. */
  readonly from: number;
  readonly to: number;
}

/** Rows of one line table, sequence by sequence; inside one ascending by place, rows of one place in the order of the program. */
export class LineTable {
  readonly names: LineFiles;
  /** Rows; the arrays may be longer. */
  readonly count: number;
  readonly places: Float64Array;
  readonly lines: Uint32Array;
  /** Indices for `path`. */
  readonly files: Uint16Array | Uint32Array;
  readonly columns: Uint16Array;
  /** Bits of ROW. */
  readonly flags: Uint8Array;
  readonly discriminators: Uint32Array;
  /** Starts of sequences in the arrays above, and their ends (past the end_sequence row). */
  readonly sequences: readonly { readonly from: number; readonly to: number; readonly first: number; readonly end: number }[];

  constructor(
    names: LineFiles,
    rows: {
      places: Float64Array;
      lines: Uint32Array;
      files: Uint16Array | Uint32Array;
      columns: Uint16Array;
      flags: Uint8Array;
      discriminators: Uint32Array;
    },
    sequences: LineTable['sequences'],
    count: number,
  ) {
    this.names = names;
    this.count = count;
    this.places = rows.places;
    this.lines = rows.lines;
    this.files = rows.files;
    this.columns = rows.columns;
    this.flags = rows.flags;
    this.discriminators = rows.discriminators;
    this.sequences = sequences;
  }

  /** Bytes of the rows. */
  get weight(): number {
    return this.places.length * 26 + 1024;
  }

  path(file: number): string {
    return this.names.path(file);
  }

  /** The row in force at `place`: the last one at or before it, -1 when no sequence has the place. */
  rowAt(place: number): number {
    const { sequences } = this;
    let low = 0;
    let high = sequences.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (sequences[middle].from <= place) low = middle + 1;
      else high = middle;
    }
    // Sequences do not overlap, but for damaged or discarded ones: a few before are looked at.
    for (let s = low - 1; s >= 0 && s >= low - 8; s--) {
      const sequence = sequences[s];
      if (place >= sequence.to) continue;
      let a = sequence.first;
      let b = sequence.end;
      while (a < b) {
        const middle = (a + b) >>> 1;
        if (this.places[middle] <= place) a = middle + 1;
        else b = middle;
      }
      if (a > sequence.first) return a - 1;
    }
    return -1;
  }

  row(index: number): LineRow {
    return {
      path: this.path(this.files[index]),
      line: this.lines[index],
      column: this.columns[index],
      discriminator: this.discriminators[index],
      flags: this.flags[index],
      from: this.places[index],
      to: this.endOf(index),
    };
  }

  /**
   * Of several rows for one place the last counts; for stepping, one of the same file that begins a statement before one that does not.
   * Those of other files are of inlined functions that nothing is left of there.
   */
  statementAt(row: number): number {
    let at = row;
    while (at > 0 && !(this.flags[at] & ROW.statement) && this.places[at - 1] === this.places[row]) at--;
    return this.flags[at] & ROW.statement && this.files[at] === this.files[row] ? at : row;
  }

  /** The place of the first row after `row` that is further on; the end of what `row` says. */
  endOf(row: number): number {
    const { places } = this;
    let next = row + 1;
    while (next < this.count && places[next] === places[row]) next++;
    return next < this.count ? places[next] : places[row];
  }
}

/** Room for rows; they are copied to their size when a program is done. Programs run one at a time, to their end. */
class Rows {
  readonly capacity: number;
  readonly places: Float64Array;
  readonly lines: Uint32Array;
  readonly files: Uint32Array;
  readonly columns: Uint16Array;
  readonly flags: Uint8Array;
  readonly discriminators: Uint32Array;

  constructor(capacity: number, from?: Rows) {
    this.capacity = capacity;
    this.places = new Float64Array(capacity);
    this.lines = new Uint32Array(capacity);
    this.files = new Uint32Array(capacity);
    this.columns = new Uint16Array(capacity);
    this.flags = new Uint8Array(capacity);
    this.discriminators = new Uint32Array(capacity);
    if (!from) return;
    this.places.set(from.places);
    this.lines.set(from.lines);
    this.files.set(from.files);
    this.columns.set(from.columns);
    this.flags.set(from.flags);
    this.discriminators.set(from.discriminators);
  }
}

let room = new Rows(1 << 14);

/** Where the number ended that one of the two functions below has read. */
let afterLong = 0;

/** LEB128 numbers of any length: the loop below does those of one byte itself, and shares no variable with a closure. */
function longUnsigned(bytes: Uint8Array, at: number, where: string, base: number): number {
  let value = 0;
  for (let scale = 1; scale < 2 ** 70; scale *= 128) {
    const byte = bytes[at++];
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) {
      afterLong = at;
      return value;
    }
  }
  throw wrong(where, base + at, 'a line program that is cut off or has a number that is too large');
}

function longSigned(bytes: Uint8Array, at: number, where: string, base: number): number {
  let value = 0;
  for (let scale = 1; scale < 2 ** 70; ) {
    const byte = bytes[at++];
    value += (byte & 0x7f) * scale;
    scale *= 128;
    if (byte < 0x80) {
      afterLong = at;
      return byte & 0x40 ? value - scale : value;
    }
  }
  throw wrong(where, base + at, 'a line program that is cut off or has a number that is too large');
}

/**
 * Runs the program of `names.header`, which is in `bytes` (first byte at `base` of .debug_line). Sequences that start where `alive`
 * says that nothing is were discarded by the linker and are left out. Without `keep` the table is good until the next program runs.
 * Throws DwarfError.
 */
export function runLineProgram(
  names: LineFiles,
  bytes: Uint8Array,
  where: string,
  base: number,
  origin: { low: number; high: number },
  alive: (place: number) => boolean,
  keep: boolean,
): LineTable {
  const { header } = names;
  const { minInstruction, lineBase, lineRange, opcodeBase, operands } = header;
  const end = header.end - base;
  const firstStatement = header.defaultIsStmt ? ROW.statement : 0;
  const advance = new Uint32Array(256);
  const lineAdvance = new Int16Array(256);
  for (let opcode = opcodeBase; opcode < 256; opcode++) {
    const steps = Math.floor((opcode - opcodeBase) / lineRange);
    advance[opcode] = steps * minInstruction;
    lineAdvance[opcode] = lineBase + ((opcode - opcodeBase) % lineRange);
  }
  // DWARF 5 §6.2.5.2: as opcode 255 advances.
  const constAdd = advance[255];
  let at = header.program - base;
  let count = 0;
  let first = 0;
  const sequences: { from: number; to: number; first: number; end: number }[] = [];
  let place = Number.NaN;
  let file = 1;
  let line = 1;
  let column = 0;
  let statement = firstStatement;
  let once = 0;
  let discriminator = 0;
  let operand = 0;

  let { places, lines, files, columns, flags, discriminators } = room;
  let { capacity } = room;

  // Numbers, not names, in the switches: this runs mostly before it is optimized, and then a switch on numbers is a jump.
  const prologueEnd = ROW.prologueEnd;
  const epilogueBegin = ROW.epilogueBegin;
  while (at < end) {
    const opcode = bytes[at++];
    let flag: number = once;
    let ends = false;
    if (opcode >= opcodeBase) {
      place += advance[opcode];
      line += lineAdvance[opcode];
    } else {
      switch (opcode) {
        case 0: {
          let length = bytes[at++];
          if (!(length < 0x80)) {
            length = longUnsigned(bytes, at - 1, where, base);
            at = afterLong;
          }
          const next = at + length;
          if (!(length > 0 && next <= end)) throw wrong(where, base + at, `an extended opcode of ${length} bytes`);
          switch (bytes[at++]) {
            case 1: {
              // DW_LNE_end_sequence
              ends = true;
              flag = ROW.end;
              at = next;
              break;
            }
            case 2: {
              // DW_LNE_set_address
              if (length !== 9) throw wrong(where, base + at, `DW_LNE_set_address with ${length - 1} bytes`);
              const low = (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
              const high = (bytes[at + 4] | (bytes[at + 5] << 8) | (bytes[at + 6] << 16) | (bytes[at + 7] << 24)) >>> 0;
              place = (high - origin.high) * 4294967296 + (low - origin.low);
              break;
            }
            case 4: // DW_LNE_set_discriminator
              discriminator = bytes[at];
              if (!(discriminator < 0x80)) discriminator = longUnsigned(bytes, at, where, base);
              break;
          }
          at = next;
          if (!ends) continue;
          break;
        }
        case 1: // DW_LNS_copy
          break;
        case 2: // DW_LNS_advance_pc
          operand = bytes[at++];
          if (!(operand < 0x80)) {
            operand = longUnsigned(bytes, at - 1, where, base);
            at = afterLong;
          }
          place += operand * minInstruction;
          continue;
        case 3: // DW_LNS_advance_line
          operand = bytes[at++];
          if (operand < 0x80) line += operand & 0x40 ? operand - 0x80 : operand;
          else {
            line += longSigned(bytes, at - 1, where, base);
            at = afterLong;
          }
          continue;
        case 4: // DW_LNS_set_file
          file = bytes[at++];
          if (!(file < 0x80)) {
            file = longUnsigned(bytes, at - 1, where, base);
            at = afterLong;
          }
          continue;
        case 5: // DW_LNS_set_column
          column = bytes[at++];
          if (!(column < 0x80)) {
            column = longUnsigned(bytes, at - 1, where, base);
            at = afterLong;
          }
          continue;
        case 6: // DW_LNS_negate_stmt
          statement ^= 1;
          continue;
        case 7: // DW_LNS_set_basic_block
          continue;
        case 8: // DW_LNS_const_add_pc
          place += constAdd;
          continue;
        case 9: // DW_LNS_fixed_advance_pc
          place += bytes[at] | (bytes[at + 1] << 8);
          at += 2;
          continue;
        case 10: // DW_LNS_set_prologue_end
          once |= prologueEnd;
          continue;
        case 11: // DW_LNS_set_epilogue_begin
          once |= epilogueBegin;
          continue;
        case 12: // DW_LNS_set_isa
          longUnsigned(bytes, at, where, base);
          at = afterLong;
          continue;
        default:
          for (let i = operands[opcode]; i > 0; i--) {
            longUnsigned(bytes, at, where, base);
            at = afterLong;
          }
          continue;
      }
    }
    if (count === capacity) {
      if (count >= MAX_ROWS) throw wrong(where, header.offset, `a line table of more than ${MAX_ROWS} rows`);
      room = new Rows(capacity * 2, room);
      ({ places, lines, files, columns, flags, discriminators, capacity } = room);
    }
    places[count] = place;
    lines[count] = line;
    files[count] = file;
    columns[count] = column > 0xffff ? 0 : column;
    flags[count] = statement | flag;
    discriminators[count] = discriminator;
    count++;
    once = 0;
    discriminator = 0;
    if (!ends) continue;
    const from = places[first];
    let sorted = true;
    for (let i = first + 1; i < count && sorted; i++) sorted = places[i] >= places[i - 1];
    // A sequence out of order, or of nothing (NaN included), is none.
    if (sorted && place > from && alive(from)) {
      sequences.push({ from, to: place, first, end: count });
      first = count;
    } else count = first;
    place = Number.NaN;
    file = 1;
    line = 1;
    column = 0;
    statement = firstStatement;
  }
  count = first;
  const inOrder = sequences.every((s, i) => i === 0 || s.from >= sequences[i - 1].from);
  if (!inOrder) sequences.sort((a, b) => a.from - b.from);
  const rows = { places, lines, files, columns, flags, discriminators };
  if (!keep) return new LineTable(names, rows, sequences, count);
  const wide = header.files.length > 0xfffe;
  return new LineTable(
    names,
    {
      places: places.slice(0, count),
      lines: lines.slice(0, count),
      files: wide ? files.slice(0, count) : Uint16Array.from(files.subarray(0, count)),
      columns: columns.slice(0, count),
      flags: flags.slice(0, count),
      discriminators: discriminators.slice(0, count),
    },
    sequences,
    count,
  );
}
