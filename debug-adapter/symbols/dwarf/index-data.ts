/**
 * The index of a file: what cannot be asked of DWARF without reading all of it. Tables are typed arrays in one buffer, which is
 * the file in the cache too: loading is a read of its first half, and of the second when a name is asked for.
 *
 *   header   magic, format version, sizes, CRC-32 of each half; a directory of the tables
 *   lines    units, the places they cover, the files of their line tables      made first, enough for file:line and line of
 *   names    functions by place                                                ends the first half
 *            functions, variables, types and enumerators by name
 *
 * A table that a part lacks is empty. Numbers of units are those of DwarfFile.list; units of a common file (dwz) come after them.
 */
import * as zlib from 'node:zlib';
import { viewOf } from '../../../emulator/base/struct.ts';

/** Changes with every change of what the tables hold or mean. */
const FORMAT = 5;
const MAGIC = 'HYPERSTEP-DWARF\n';
const DIGEST = 4;
/** Magic, format, number of tables, size of all, size of the first half, the digests. */
const HEAD = 16 + 4 + 4 + 8 + 8 + 2 * DIGEST;
const DIGESTS = HEAD - 2 * DIGEST;
/** Name (up to 15 bytes and NULs), element type, reserved, offset, bytes. */
const ENTRY = 16 + 4 + 4 + 8 + 8;

const TYPES = [Uint8Array, Uint16Array, Uint32Array, Float64Array, BigUint64Array] as const;
export type Table = Uint8Array | Uint16Array | Uint32Array | Float64Array | BigUint64Array;

/** What a name stands for. */
export const KIND = {
  /** A function with code, also a clone or an out-of-line copy of an inline one. */
  function: 1,
  /** A function that was inlined somewhere in the unit. */
  inline: 2,
  variable: 3,
  struct: 4,
  union: 5,
  enum: 6,
  typedef: 7,
  base: 8,
  enumerator: 9,
  /** Any other named type. */
  type: 10,
} as const;

export interface LineIndex {
  /** Unit headers: see UnitHeader. */
  readonly unitOffsets: Float64Array;
  readonly unitEnds: Float64Array;
  readonly unitAbbrevs: Float64Array;
  /** Four of each unit: version, type, offset size, bytes of its header. */
  readonly unitFacts: Uint8Array;
  /** Type signature or DWO id; 0 when there is none. */
  readonly unitIds: BigUint64Array;
  readonly unitTypes: Float64Array;
  /** How many of them are in .debug_info: one number. */
  readonly unitCount: Float64Array;
  /** Offset in .debug_line, -1 without a line table. */
  readonly unitLines: Float64Array;
  /** What offsets in lists are relative to, low and high half; and in `directories` DW_AT_comp_dir. */
  readonly unitBases: Uint32Array;
  readonly unitDirs: Uint32Array;
  /** Each ended by NUL. */
  readonly directories: Uint8Array;
  /** Places [from, to) of units, ascending by `from`. */
  readonly rangeFrom: Float64Array;
  readonly rangeTo: Float64Array;
  readonly rangeUnit: Uint32Array;
  /** Paths of source files, each ended by NUL, and where each starts. */
  readonly paths: Uint8Array;
  readonly pathStarts: Uint32Array;
  /** Line tables that list file f: [fileStarts[f], fileStarts[f + 1]) of units and of the file's index there. */
  readonly fileStarts: Uint32Array;
  readonly fileUnits: Uint16Array | Uint32Array;
  readonly fileIndices: Uint16Array | Uint32Array;
  /** Lines for the user about what could not be read, each ended by NUL. */
  readonly lineProblems: Uint8Array;
}

/** What of a NameIndex is in the first half of the file. */
export interface FunctionIndex {
  /** Code of functions, ascending by `from`: the unit and the offset of the DIE. */
  readonly functionFrom: Float64Array;
  readonly functionTo: Float64Array;
  readonly functionUnits: Uint32Array;
  readonly functionDies: Uint32Array;
  readonly nameProblems: Uint8Array;
}

export interface NameIndex extends FunctionIndex {
  /** Names, each ended by NUL, and where each starts. */
  readonly names: Uint8Array;
  readonly nameStarts: Uint32Array;
  /** Open addressing by `hashName`: number of a name + 1, 0 for nothing. A power of two. */
  readonly nameHash: Uint32Array;
  /** Entries of name n: [entryStarts[n], entryStarts[n + 1]). */
  readonly entryStarts: Uint32Array;
  readonly entryKinds: Uint8Array;
  readonly entryUnits: Uint32Array;
  /** Offset of the DIE in its section. */
  readonly entryDies: Uint32Array;
}

/** What is kept of a file. */
export interface StoredIndex {
  /** See `identity` in cache.ts. */
  readonly identity: string;
  readonly lines: LineIndex;
  readonly names: NameIndex;
}

/** What the first half tells. */
export interface FirstHalf {
  readonly identity: string;
  readonly lines: LineIndex;
  readonly functions: FunctionIndex;
}

/** FNV-1a of bytes [from, to), as an unsigned 32-bit number. */
export function hashName(bytes: Uint8Array, from: number, to: number): number {
  let hash = 0x811c9dc5;
  for (let i = from; i < to; i++) hash = Math.imul(hash ^ bytes[i], 0x01000193);
  return (hash ^ (hash >>> 15)) >>> 0;
}

/** Number of `name` in an index, -1 when it is not there. */
export function findName(index: NameIndex, name: string): number {
  const { names, nameStarts, nameHash } = index;
  if (nameHash.length === 0) return -1;
  const bytes = new Uint8Array(Buffer.from(name, 'utf8'));
  const mask = nameHash.length - 1;
  for (let slot = hashName(bytes, 0, bytes.length) & mask, n = 0; n <= mask; slot = (slot + 1) & mask, n++) {
    const id = nameHash[slot] - 1;
    if (id < 0) return -1;
    const start = nameStarts[id];
    if (names[start + bytes.length] !== 0) continue;
    let i = 0;
    while (i < bytes.length && names[start + i] === bytes[i]) i++;
    if (i === bytes.length) return id;
  }
  return -1;
}

/** The text that starts at `start` and ends with NUL. */
export function textAt(bytes: Uint8Array, start: number): string {
  const end = bytes.indexOf(0, start);
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, (end < 0 ? bytes.length : end) - start).toString('utf8');
}

/** The lines of `lineProblems` and `nameProblems`. */
export const problemTexts = (bytes: Uint8Array): string[] =>
  bytes.length
    ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length - 1)
        .toString('utf8')
        .split('\0')
    : [];

/** The index as bytes: what `decodeFirst` and `decodeNames` take. */
export function encode(index: StoredIndex): Uint8Array {
  const pick = (keys: readonly string[], from: object): [string, Table][] =>
    keys.map((key) => [key, (from as Record<string, Table>)[key]]);
  const first: [string, Table][] = [
    ['identity', new Uint8Array(Buffer.from(index.identity, 'utf8'))],
    ...pick(LINE_TABLES, index.lines),
    ...pick(FUNCTION_TABLES, index.names),
  ];
  const tables = [...first, ...pick(NAME_TABLES, index.names)];
  let size = HEAD + tables.length * ENTRY;
  const offsets = tables.map(([, table]) => {
    const at = Math.ceil(size / 8) * 8;
    size = at + table.byteLength;
    return at;
  });
  const half = offsets[first.length];
  const out = new Uint8Array(size);
  const view = new DataView(out.buffer);
  out.set(Buffer.from(MAGIC, 'latin1'));
  view.setUint32(16, FORMAT, true);
  view.setUint32(20, tables.length, true);
  view.setFloat64(24, size, true);
  view.setFloat64(32, half, true);
  tables.forEach(([name, table], i) => {
    const at = HEAD + i * ENTRY;
    out.set(Buffer.from(name, 'latin1'), at);
    view.setUint32(
      at + 16,
      TYPES.findIndex((type) => table instanceof type),
      true,
    );
    view.setFloat64(at + 24, offsets[i], true);
    view.setFloat64(at + 32, table.byteLength, true);
    out.set(new Uint8Array(table.buffer, table.byteOffset, table.byteLength), offsets[i]);
  });
  out.set(digest(out.subarray(HEAD, half)), DIGESTS);
  out.set(digest(out.subarray(half)), DIGESTS + DIGEST);
  return out;
}

/** Node has one since 20.15. */
const crc32 = (zlib.crc32 as ((data: Uint8Array) => number) | undefined) ?? slowCrc32;

function digest(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(DIGEST);
  viewOf(out).setUint32(0, crc32(bytes), true);
  return out;
}

/** CRC-32 (ISO-HDLC), for Nodes that have none. */
export function slowCrc32(bytes: Uint8Array): number {
  const table = Uint32Array.from({ length: 256 }, (_, n) => {
    let c = n;
    for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
    return c;
  });
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) crc = table[(crc ^ bytes[i]) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** How many bytes the first half of a file has that starts with `head`, at least HEADER of its bytes; undefined: it is no index of this format. */
export const HEADER = HEAD;
export function firstHalf(head: Uint8Array, size: number): number | undefined {
  if (head.length < HEAD || Buffer.from(head.subarray(0, 16)).toString('latin1') !== MAGIC) return undefined;
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  const half = view.getFloat64(32, true);
  const least = HEAD + view.getUint32(20, true) * ENTRY;
  if (view.getUint32(16, true) !== FORMAT || view.getFloat64(24, true) !== size) return undefined;
  return Number.isSafeInteger(half) && half >= least && half <= size ? half : undefined;
}

/** The tables of a half, which is at `start` of the file, by the directory in the first. Undefined when one lacks or is not in there. */
function tablesOf(
  first: Uint8Array,
  half: Uint8Array,
  start: number,
  keys: readonly string[],
): Record<string, Table> | undefined {
  const view = new DataView(first.buffer, first.byteOffset, first.length);
  const found: Record<string, Table> = {};
  for (let i = 0; i < view.getUint32(20, true); i++) {
    const at = HEAD + i * ENTRY;
    const name = textAt(first, at);
    if (!keys.includes(name)) continue;
    const type = TYPES[view.getUint32(at + 16, true)];
    const offset = view.getFloat64(at + 24, true) - start;
    const size = view.getFloat64(at + 32, true);
    if (!type || !(offset >= 0 && size >= 0 && offset + size <= half.length)) return undefined;
    const from = half.byteOffset + offset;
    if (from % type.BYTES_PER_ELEMENT !== 0 || size % type.BYTES_PER_ELEMENT !== 0) return undefined;
    found[name] = new type(half.buffer as ArrayBuffer, from, size / type.BYTES_PER_ELEMENT);
  }
  return keys.every((key) => found[key]) ? found : undefined;
}

/** What the first half of a file, whose length is right, tells: views of it. Undefined when it is damaged. */
export function decodeFirst(bytes: Uint8Array): FirstHalf | undefined {
  if (!Buffer.from(digest(bytes.subarray(HEAD))).equals(bytes.subarray(DIGESTS, DIGESTS + DIGEST))) return undefined;
  const tables = tablesOf(bytes, bytes, 0, ['identity', ...LINE_TABLES, ...FUNCTION_TABLES]);
  if (!tables || !(tables.identity instanceof Uint8Array)) return undefined;
  const part = <T>(keys: readonly string[]): T => Object.fromEntries(keys.map((key) => [key, tables[key]])) as T;
  return {
    identity: Buffer.from(tables.identity).toString('utf8'),
    lines: part<LineIndex>(LINE_TABLES),
    functions: part<FunctionIndex>(FUNCTION_TABLES),
  };
}

/** All names: the second half as views of `bytes`, and the functions of the first. Undefined when it is damaged. */
export function decodeNames(first: Uint8Array, bytes: Uint8Array): NameIndex | undefined {
  if (!Buffer.from(digest(bytes)).equals(first.subarray(DIGESTS + DIGEST, DIGESTS + 2 * DIGEST))) return undefined;
  const functions = tablesOf(first, first, 0, FUNCTION_TABLES);
  const names = tablesOf(first, bytes, first.length, NAME_TABLES);
  return functions && names ? ({ ...functions, ...names } as unknown as NameIndex) : undefined;
}

const LINE_TABLES: readonly (keyof LineIndex)[] = [
  'unitOffsets',
  'unitEnds',
  'unitAbbrevs',
  'unitFacts',
  'unitIds',
  'unitTypes',
  'unitCount',
  'unitLines',
  'unitBases',
  'unitDirs',
  'directories',
  'rangeFrom',
  'rangeTo',
  'rangeUnit',
  'paths',
  'pathStarts',
  'fileStarts',
  'fileUnits',
  'fileIndices',
  'lineProblems',
];
const FUNCTION_TABLES: readonly (keyof FunctionIndex)[] = [
  'functionFrom',
  'functionTo',
  'functionUnits',
  'functionDies',
  'nameProblems',
];
const NAME_TABLES: readonly (keyof NameIndex)[] = [
  'names',
  'nameStarts',
  'nameHash',
  'entryStarts',
  'entryKinds',
  'entryUnits',
  'entryDies',
];
