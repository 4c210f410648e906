/**
 * Finds the kernel's own symbol table in an image of it (guest RAM, or the `Image` file) without any symbol file.
 *
 * The tables come from scripts/kallsyms.c, whose order and encoding changed over time:
 *   up to 6.3  offsets, relative_base, num_syms, names, markers, [seqs_of_names,] token_table, token_index
 *   since 6.4  num_syms, names, markers, token_table, token_index, offsets, [relative_base,] seqs_of_names
 * Offsets are relative to `kallsyms_relative_base`, and in newer kernels to the place of the offset itself. Nothing here asks
 * for the version: each table is recognised by what it must contain.
 */
import type { ImageMemory, KernelSymbol } from './memory.ts';

export interface Kallsyms {
  /** Ascending by address. */
  symbols: KernelSymbol[];
  /** Offset in the image of kallsyms_token_index, for reports. */
  tokenIndexAt: number;
}

const TOKENS = 256;
/** KSYM_NAME_LEN is 512 since 6.1; a length byte has its top bit set when a second one follows (ULEB128). */
const MAX_NAME = 512;
/** kallsyms_markers holds the offset of every 256th name. */
const MARKER_STEP = 256;

/** Steps of a search, at most: real kernels need a fiftieth; an image made to look like many tables would take forever. */
const MAX_STEPS = 1 << 27;
interface Steps {
  left: number;
}

interface TokenTable {
  tableAt: number;
  indexAt: number;
  tokens: string[];
}

/** All places that can be a token_index with its token_table before it. A kernel has one. */
function* tokenTables(bytes: Uint8Array): Generator<TokenTable> {
  const words = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 1);
  const count = words.length - TOKENS;
  for (let w = 0; w <= count; w += 2) {
    if (words[w] !== 0) continue;
    let last = 0;
    let i = 1;
    for (; i < TOKENS; i++) {
      const next = words[w + i];
      // A token has at least one character and its NUL.
      if (next < last + 2 || next > last + MAX_NAME) break;
      last = next;
    }
    if (i < TOKENS) continue;
    const indexAt = w * 2;
    const table = tokenTableBefore(bytes, indexAt, words.subarray(w, w + TOKENS));
    if (table) yield table;
  }
}

function tokenTableBefore(bytes: Uint8Array, indexAt: number, index: Uint16Array): TokenTable | undefined {
  // The table ends right before the index but for alignment; its last token is short.
  for (
    let tableAt = (indexAt - index[TOKENS - 1] - 2) & ~3;
    tableAt > indexAt - index[TOKENS - 1] - MAX_NAME && tableAt >= 0;
    tableAt -= 4
  ) {
    const tokens: string[] = [];
    for (let i = 0; i < TOKENS; i++) {
      const start = tableAt + index[i];
      const end = bytes.indexOf(0, start);
      if (end <= start || (i < TOKENS - 1 ? end + 1 !== tableAt + index[i + 1] : end >= indexAt || indexAt - end > 8)) break;
      tokens.push(Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('latin1'));
    }
    if (tokens.length === TOKENS) return { tableAt, indexAt, tokens };
  }
  return undefined;
}

interface NameTable {
  /** Offset of kallsyms_num_syms. */
  countAt: number;
  namesAt: number;
  count: number;
}

/** Walks `count` names from `at`; true when every 256th is where the markers say. */
function namesMatch(bytes: Uint8Array, view: DataView, at: number, count: number, markersAt: number, steps: Steps): boolean {
  let pos = at;
  for (let i = 0; i < count; i++) {
    steps.left--;
    if (i % MARKER_STEP === 0 && view.getUint32(markersAt + (i / MARKER_STEP) * 4, true) !== pos - at) return false;
    let length = bytes[pos++];
    if (length & 0x80) length = (length & 0x7f) | (bytes[pos++] << 7);
    if (length === 0 || length > MAX_NAME) return false;
    pos += length;
    if (pos > markersAt) return false;
  }
  return markersAt - pos < 8;
}

/** Finds markers, names and num_syms, which lie in this order going back from the token table. */
function nameTable(bytes: Uint8Array, view: DataView, tokens: TokenTable, steps: Steps): NameTable | undefined {
  const smallest = Math.max(tokens.tableAt - (8 << 20), 64);
  for (let markersAt = (tokens.tableAt - 8) & ~3; markersAt >= smallest && steps.left > 0; markersAt -= 4) {
    steps.left--;
    if (view.getUint32(markersAt, true) !== 0) continue;
    let run = 1;
    let last = 0;
    while (markersAt + run * 4 + 4 <= tokens.tableAt) {
      const next = view.getUint32(markersAt + run * 4, true);
      if (next < last + 2 * MARKER_STEP || next > last + MARKER_STEP * MAX_NAME) break;
      last = next;
      run++;
    }
    steps.left -= run;
    if (run < 2) continue;
    // num_syms says how many of the run are markers (what follows may happen to ascend as well).
    for (let markers = run; markers >= Math.max(2, run - 2); markers--) {
      const lastMarker = view.getUint32(markersAt + (markers - 1) * 4, true);
      const lowest = Math.max(8, markersAt - lastMarker - MARKER_STEP * 128);
      for (let namesAt = (markersAt - lastMarker - 2) & ~3; namesAt >= lowest && steps.left > 0; namesAt -= 4)
        for (const back of [4, 8]) {
          steps.left--;
          const count = view.getUint32(namesAt - back, true);
          if (Math.ceil(count / MARKER_STEP) === markers && namesMatch(bytes, view, namesAt, count, markersAt, steps))
            return { countAt: namesAt - back, namesAt, count };
        }
    }
  }
  return undefined;
}

function decodeNames(bytes: Uint8Array, table: NameTable, tokens: string[]): string[] {
  const names: string[] = new Array(table.count);
  let pos = table.namesAt;
  for (let i = 0; i < table.count; i++) {
    let length = bytes[pos++];
    if (length & 0x80) length = (length & 0x7f) | (bytes[pos++] << 7);
    let text = '';
    for (const end = pos + length; pos < end; pos++) text += tokens[bytes[pos]];
    names[i] = text;
  }
  return names;
}

/** Symbol addresses as offsets from the start of the image, or undefined when there is no such table at `at`. */
type OffsetReader = (at: number) => Float64Array | undefined;

const ascending = (values: Float64Array, limit: number): boolean => {
  for (let i = 1; i < values.length; i++) if (values[i] < values[i - 1]) return false;
  return values[0] >= 0 && values[values.length - 1] <= limit && values[values.length - 1] > values[0];
};

function addressTable(
  image: ImageMemory,
  view: DataView,
  tokens: TokenTable,
  names: NameTable,
  text: string[],
): Float64Array | undefined {
  const { count } = names;
  const bytes = image.bytes.length;
  // The image in RAM ends with .bss, which a file does not have.
  const limit = bytes + (64 << 20);
  const placeRelative: OffsetReader = (at) => {
    const out = new Float64Array(count);
    for (let i = 0; i < count; i++) out[i] = at + 4 * i + view.getInt32(at + 4 * i, true);
    return ascending(out, limit) ? out : undefined;
  };
  const baseRelative =
    (baseAt: (at: number) => number): OffsetReader =>
    (at) => {
      const out = new Float64Array(count);
      for (let i = 0; i < count; i++) out[i] = view.getUint32(at + 4 * i, true);
      if (!ascending(out, limit)) return undefined;
      const place = baseAt(at);
      const stored = place + 8 <= bytes ? Number(view.getBigUint64(place, true) - image.base) : -1;
      let base = stored;
      if (stored < 0 || stored > bytes) {
        // Not relocated yet (an Image file): both symbols are at a known place of the image. _stext is one SEGMENT_ALIGN
        // (64 KiB) above _text: arch/arm64/kernel/vmlinux.lds.S.
        const start = text.findIndex((name) => name.slice(1) === '_text');
        const stext = text.findIndex((name) => name.slice(1) === '_stext');
        if (start >= 0) base = -out[start];
        else if (stext >= 0) base = 0x10000 - out[stext];
        else return undefined;
      }
      for (let i = 0; i < count; i++) out[i] += base;
      return out;
    };
  const size = 4 * count;
  const up8 = (v: number) => (v + 7) & ~7;
  const after = tokens.indexAt + 2 * TOKENS;
  const before = names.countAt - 8 - size;
  const tries: [number, OffsetReader][] = [
    // Base-relative first: adding the ascending places to ascending offsets ascends as well.
    [after, baseRelative((at) => up8(at + size))],
    [after, placeRelative],
    [before & ~7, baseRelative((at) => up8(at + size))],
  ];
  for (const [at, read] of tries) {
    if (at < 0 || at + size > bytes) continue;
    const found = read(at);
    if (found) return found;
  }
  return undefined;
}

/** The kernel's symbols, or undefined when the image holds no (complete) kallsyms. */
export function findKallsyms(image: ImageMemory): Kallsyms | undefined {
  // Typed arrays need alignment: copies of guest memory always have it, slices of files need not.
  const bytes = image.bytes.byteOffset % 8 === 0 ? image.bytes : image.bytes.slice();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const steps = { left: MAX_STEPS };
  for (const tokens of tokenTables(bytes)) {
    if (steps.left <= 0) break;
    const names = nameTable(bytes, view, tokens, steps);
    if (!names) continue;
    const text = decodeNames(bytes, names, tokens.tokens);
    const offsets = addressTable({ bytes, base: image.base }, view, tokens, names, text);
    if (!offsets) continue;
    const symbols = text.map((name, i) => ({
      address: image.base + BigInt(offsets[i]),
      name: name.slice(1),
      type: name[0],
      size: 0,
    }));
    return { symbols, tokenIndexAt: tokens.indexAt };
  }
  return undefined;
}

/**
 * Exported symbols (`EXPORT_SYMBOL`): the only place where a kernel without CONFIG_KALLSYMS_ALL names its data. Entries are
 * place-relative words {value, name, namespace} (struct kernel_symbol, include/linux/export.h with
 * CONFIG_HAVE_ARCH_PREL32_RELOCATIONS), sorted by name.
 */
export function findExports(image: ImageMemory): KernelSymbol[] {
  const ENTRY = 12;
  const MIN_ENTRIES = 64;
  const { bytes } = image;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  /** Letters, digits and underscores are names; file names (struct bug_entry has the same shape) are not. */
  const isWord = (c: number) => c === 0x5f || (c >= 0x30 && c <= 0x39) || (c >= 0x41 && c <= 0x5a) || (c >= 0x61 && c <= 0x7a);
  /** Offset of the name that the entry at `at` points to, or -1. It may be the tail of another: the linker merges strings. */
  const nameAt = (at: number): number => {
    if (at < 0 || at + ENTRY > bytes.length) return -1;
    const name = at + 4 + view.getInt32(at + 4, true);
    if (name <= 0 || name >= bytes.length) return -1;
    let end = name;
    while (isWord(bytes[end])) end++;
    return end > name && bytes[end] === 0 ? name : -1;
  };
  /** True when both entries have names, in order. */
  const follows = (first: number, second: number): boolean => {
    let a = nameAt(first);
    let b = a < 0 ? -1 : nameAt(second);
    if (b < 0) return false;
    for (; bytes[a] === bytes[b]; a++, b++) if (bytes[a] === 0) return false;
    return bytes[a] < bytes[b];
  };
  const symbols: KernelSymbol[] = [];
  const LOOK = ENTRY * 16;
  for (let at = 0; at + ENTRY * MIN_ENTRIES < bytes.length; ) {
    // Looking every 16 entries cannot miss a table of 64, in whichever of the three phases its entries are.
    let first = -1;
    for (let p = at; p < at + ENTRY && first < 0; p += 4)
      if (follows(p, p + ENTRY) && follows(p + ENTRY, p + 2 * ENTRY)) first = p;
    if (first < 0) {
      at += LOOK;
      continue;
    }
    let last = first;
    while (follows(first - ENTRY, first)) first -= ENTRY;
    while (follows(last, last + ENTRY)) last += ENTRY;
    if ((last - first) / ENTRY >= MIN_ENTRIES)
      for (let e = first; e <= last; e += ENTRY) {
        const name = nameAt(e);
        const text = Buffer.from(bytes.buffer, bytes.byteOffset + name, bytes.indexOf(0, name) - name).toString('latin1');
        symbols.push({ address: image.base + BigInt(e + view.getInt32(e, true)), name: text, type: 'D', size: 0 });
      }
    at = last + ENTRY;
  }
  return symbols;
}
