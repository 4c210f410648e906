/**
 * An ELF file read by ranges, for files too large to hold: section contents (compressed and relocated ones too), build-id, and
 * the symbol table in typed arrays.
 *
 * Addresses. A file's addresses are near each other and far from zero, so inside `symbols/` an address is a *place*: a number
 * relative to the file's `origin`, exact wherever the file has sections. `place` and `address` convert. Sections of a
 * relocatable file (a `.ko`) all start at 0; here they lie one after the other in the order of the file, the first at 0, so that
 * a place is unambiguous: `sectionPlace` has where each starts, and the module loader's addresses map onto that.
 */
import { inflateSync } from 'node:zlib';
import { Decompress } from 'fzstd';
import { struct, u32, u64, viewOf } from '../../emulator/base/struct.ts';
import { type ByteSource, FileSource, MemorySource } from './byte-source.ts';
import { ElfError, type ElfHeaders, type ElfSection, ElfSymbol, readHeaders, SHF, SHN_ABS, SHT, STB_LOCAL, STT } from './elf.ts';

const ET_REL = 1;
/** gABI "Compressed Sections", Elf64_Chdr. */
const CompressionHeader = struct('Elf64_Chdr', { type: u32, reserved: u32, size: u64, addralign: u64 }, { size: 24 });
const ELFCOMPRESS = { ZLIB: 1, ZSTD: 2 };
/** gABI "Relocation", Elf64_Rela: offset, info (symbol << 32 | type), addend. */
const RELA_SIZE = 24;
const NT_GNU_BUILD_ID = 3;
/** AAELF64 5.7.3 and 5.7.4: relocations of data. */
const R_AARCH64 = { NONE: 0, WITHDRAWN: 256, ABS64: 257, ABS32: 258, ABS16: 259, PREL64: 260, PREL32: 261, PREL16: 262 };
/** A section that has to be in memory whole (compressed, or of a relocatable file) may have this many bytes. */
const MAX_IN_MEMORY = 1 << 29;
/** Debug sections shrink to a third or a tenth; zlib cannot do better than this. */
const MAX_RATIO = 1032;
const MAX_NOTES = 1 << 20;
/** Symbols of a file, at most. */
const MAX_SYMBOLS = 1 << 24;
const HIGH = 2 ** 32;

/** An index of the symbol table's entries by place. */
export interface SymbolTable {
  /** Ascending: sections' symbols of kind NOTYPE, OBJECT or FUNC, without mapping symbols. */
  readonly places: Float64Array;
  readonly sizes: Float64Array;
  /** st_info: kind in the low four bits, binding above. */
  readonly infos: Uint8Array;
  readonly sections: Uint16Array;
  name(index: number): string;
  /** Indices of the symbols called `name`. */
  find(name: string): number[];
  /** Name of the source file that a symbol is of, as far as the order of the table tells; undefined when it does not. */
  file(index: number): string | undefined;
}

export class ElfFile {
  readonly source: ByteSource;
  readonly headers: ElfHeaders;
  /** Address of place 0. */
  readonly origin: bigint;
  /** Places of sections that occupy memory, in the order of the file: [from, to) of section `index`. */
  readonly layout: readonly { readonly index: number; readonly from: number; readonly to: number }[];
  readonly #contents = new Map<ElfSection, ByteSource>();
  #symbols: SymbolTable | undefined;
  #buildId: { readonly id: string; readonly place: number | undefined } | undefined | null = null;

  /** Throws SymbolFileError. */
  static open(path: string): ElfFile {
    const source = new FileSource(path);
    try {
      return new ElfFile(source);
    } catch (error) {
      source.close();
      throw error;
    }
  }

  /** Throws SymbolFileError. */
  constructor(source: ByteSource) {
    this.source = source;
    this.headers = readHeaders(source);
    const allocated = this.sections.map((s, index) => ({ s, index })).filter(({ s }) => s.flags & SHF.ALLOC && s.size > 0);
    if (this.relocatable) {
      let at = 0;
      this.origin = 0n;
      this.layout = allocated.map(({ s, index }) => {
        const alignment = s.alignment > 0 && s.alignment <= 1 << 20 ? s.alignment : 1;
        const from = Math.ceil(at / alignment) * alignment;
        at = from + s.size;
        return { index, from, to: at };
      });
    } else {
      this.origin = allocated.map(({ s }) => s.address).sort((a, b) => (a < b ? -1 : 1))[0] ?? 0n;
      this.layout = allocated.map(({ s, index }) => {
        const from = Number(s.address - this.origin);
        return { index, from, to: from + s.size };
      });
    }
  }

  get name(): string {
    return this.source.name;
  }

  get sections(): readonly ElfSection[] {
    return this.headers.sections;
  }

  /** A file whose sections have no addresses yet: an object file, a kernel module. */
  get relocatable(): boolean {
    return this.headers.type === ET_REL;
  }

  close(): void {
    this.source.close();
  }

  /** The place of `address`; exact when a section of the file is there, in any case outside all sections when it is. */
  place(address: bigint): number {
    return Number(address - this.origin);
  }

  address(place: number): bigint {
    return this.origin + BigInt(place);
  }

  /** Where section `index` starts, undefined when it does not occupy memory. */
  sectionPlace(index: number): number | undefined {
    return this.layout.find((l) => l.index === index)?.from;
  }

  /** The first section, in the order of the file, that has `place`. */
  sectionAt(place: number): { readonly index: number; readonly from: number; readonly to: number } | undefined {
    return this.layout.find((l) => place >= l.from && place < l.to);
  }

  /** The section called `name`; the first if several are, and one with bytes before one without. */
  section(name: string): ElfSection | undefined {
    return (
      this.sections.find((s) => s.name === name && s.type !== SHT.NOBITS && s.size > 0) ??
      this.sections.find((s) => s.name === name)
    );
  }

  /** The GNU build-id in hexadecimal, undefined when the file has none. */
  get buildId(): string | undefined {
    return this.#note?.id;
  }

  /** The place of its bytes in the program, undefined when it is not loaded. */
  get buildIdPlace(): number | undefined {
    return this.#note?.place;
  }

  get #note(): { readonly id: string; readonly place: number | undefined } | undefined {
    if (this.#buildId === null) this.#buildId = this.#findBuildId();
    return this.#buildId;
  }

  #findBuildId(): { id: string; place: number | undefined } | undefined {
    for (const s of this.sections) {
      if (s.type !== SHT.NOTE || s.size > MAX_NOTES) continue;
      const bytes = this.source.read(s.offset, s.size);
      const view = viewOf(bytes);
      // gABI "Note Section": name size, descriptor size, type; both padded to four bytes.
      for (let at = 0; at + 12 <= bytes.length; ) {
        const nameSize = view.getUint32(at, true);
        const size = view.getUint32(at + 4, true);
        const data = at + 12 + Math.ceil(nameSize / 4) * 4;
        if (data + size > bytes.length) break;
        const owner = Buffer.from(bytes.subarray(at + 12, at + 12 + nameSize)).toString('latin1');
        if (owner === 'GNU\0' && view.getUint32(at + 8, true) === NT_GNU_BUILD_ID && size > 0) {
          const start = this.sectionPlace(this.sections.indexOf(s));
          const id = Buffer.from(bytes.subarray(data, data + size)).toString('hex');
          return { id, place: start === undefined ? undefined : start + data };
        }
        at = data + Math.ceil(size / 4) * 4;
      }
    }
    return undefined;
  }

  /** The bytes of a section as the program sees them: unpacked, and relocated in a relocatable file. Throws SymbolFileError. */
  contents(section: ElfSection): ByteSource {
    let found = this.#contents.get(section);
    if (!found) {
      found = this.#load(section);
      this.#contents.set(section, found);
    }
    return found;
  }

  #load(section: ElfSection): ByteSource {
    const name = `${this.name}: ${section.name}`;
    if (section.type === SHT.NOBITS) return new MemorySource(new Uint8Array(), name);
    const index = this.sections.indexOf(section);
    const relocations = this.relocatable
      ? this.sections.filter((s) => s.type === SHT.RELA && s.info === index && s.size > 0)
      : [];
    const compressed = Boolean(section.flags & SHF.COMPRESSED) || section.name.startsWith('.zdebug_');
    if (!compressed && !relocations.length) return new Slice(this.source, section.offset, section.size, name);
    let bytes: Uint8Array;
    if (compressed) bytes = this.#unpack(section, name);
    else {
      if (section.size > MAX_IN_MEMORY)
        throw new ElfError(`${name}: ${section.size} bytes to relocate, more than ${MAX_IN_MEMORY}`);
      bytes = new Uint8Array(section.size);
      this.source.readInto(bytes, section.offset);
    }
    for (const table of relocations) this.#relocate(bytes, table, name, section);
    return new MemorySource(bytes, name);
  }

  #unpack(section: ElfSection, name: string): Uint8Array {
    const fail = (fact: string): never => {
      throw new ElfError(`${name}: ${fact}`);
    };
    let type = ELFCOMPRESS.ZLIB;
    let size: number;
    let header: number;
    if (section.flags & SHF.COMPRESSED) {
      header = CompressionHeader.size;
      if (section.size < header) fail(`compression header is cut off after ${section.size} bytes`);
      const h = CompressionHeader.get(viewOf(this.source.read(section.offset, header)), 0);
      type = h.type;
      size = Number(h.size);
    } else {
      // The form before gABI had one: "ZLIB" and the size, most significant byte first.
      header = 12;
      if (section.size < header) fail(`compression header is cut off after ${section.size} bytes`);
      const view = viewOf(this.source.read(section.offset, header));
      if (view.getUint32(0) !== 0x5a4c4942) fail('no ZLIB header in a compressed section');
      size = Number(view.getBigUint64(4));
    }
    if (size > MAX_IN_MEMORY || size > (section.size + 64) * MAX_RATIO)
      fail(`${section.size} bytes that are said to be ${size} when unpacked`);
    const packed = new Uint8Array(section.size - header);
    this.source.readInto(packed, section.offset + header);
    let out: Uint8Array;
    try {
      if (type === ELFCOMPRESS.ZLIB) out = inflateSync(packed, { maxOutputLength: Math.max(size, 1) });
      else if (type === ELFCOMPRESS.ZSTD) out = unzstd(packed, size);
      else return fail(`compressed in a way (${type}) that is not known here`);
    } catch (error) {
      if (error instanceof ElfError) throw error;
      return fail(`cannot be unpacked: ${error instanceof Error ? error.message : String(error)}`);
    }
    if (out.length !== size) fail(`${out.length} bytes when unpacked, its header says ${size}`);
    return out;
  }

  #relocate(bytes: Uint8Array, table: ElfSection, name: string, section: ElfSection): void {
    const fail = (fact: string): never => {
      throw new ElfError(`${name}: ${fact}`);
    };
    const symbols = this.sections[table.link];
    if (symbols?.type !== SHT.SYMTAB)
      throw new ElfError(`${name}: its relocations name section ${table.link} as their symbol table`);
    const view = viewOf(bytes);
    const values = this.#symbolValues(symbols);
    const rela = new Uint8Array(Math.min(table.size, RELA_SIZE * 65536));
    const entries = viewOf(rela);
    const base = BigInt(this.sectionPlace(this.sections.indexOf(section)) ?? 0);
    for (let done = 0; done + RELA_SIZE <= table.size; ) {
      const n = Math.min(rela.length, table.size - done);
      this.source.readInto(rela.subarray(0, n), table.offset + done);
      let at = 0;
      for (; at + RELA_SIZE <= n; at += RELA_SIZE) {
        const offset = entries.getUint32(at, true) + entries.getUint32(at + 4, true) * HIGH;
        const type = entries.getUint32(at + 8, true);
        const symbol = entries.getUint32(at + 12, true);
        if (type === R_AARCH64.NONE || type === R_AARCH64.WITHDRAWN) continue;
        if (symbol >= values.length) fail(`relocation at 0x${offset.toString(16)} names symbol ${symbol} of ${values.length}`);
        const width =
          type === R_AARCH64.ABS64 || type === R_AARCH64.PREL64
            ? 8
            : type === R_AARCH64.ABS16 || type === R_AARCH64.PREL16
              ? 2
              : 4;
        if (offset + width > bytes.length) fail(`relocation at 0x${offset.toString(16)} is outside its ${bytes.length} bytes`);
        if (type === R_AARCH64.ABS32) {
          view.setUint32(offset, values[symbol] + entries.getUint32(at + 16, true), true);
          continue;
        }
        const value = BigInt(values[symbol]) + entries.getBigInt64(at + 16, true);
        if (type === R_AARCH64.ABS64) view.setBigUint64(offset, BigInt.asUintN(64, value), true);
        else if (type === R_AARCH64.PREL64) view.setBigUint64(offset, BigInt.asUintN(64, value - base - BigInt(offset)), true);
        else if (type === R_AARCH64.PREL32)
          view.setUint32(offset, Number(BigInt.asUintN(32, value - base - BigInt(offset))), true);
        else if (type === R_AARCH64.ABS16) view.setUint16(offset, Number(BigInt.asUintN(16, value)), true);
        else if (type === R_AARCH64.PREL16)
          view.setUint16(offset, Number(BigInt.asUintN(16, value - base - BigInt(offset))), true);
        else fail(`relocation at 0x${offset.toString(16)} has type ${type}, which is not one of data`);
      }
      done += at;
    }
  }

  #values: { table: ElfSection; values: Float64Array } | undefined;

  /** What symbols of a relocatable file stand for: places; 0 for those of other files. */
  #symbolValues(table: ElfSection): Float64Array {
    if (this.#values?.table === table) return this.#values.values;
    const bytes = this.#symbolBytes(table);
    const view = viewOf(bytes);
    const places = new Map(this.layout.map((l) => [l.index, l.from]));
    const values = new Float64Array(Math.floor(bytes.length / ElfSymbol.size));
    for (let i = 0; i < values.length; i++) {
      const at = i * ElfSymbol.size;
      const section = view.getUint16(at + 6, true);
      const value = view.getUint32(at + 8, true) + view.getUint32(at + 12, true) * HIGH;
      values[i] = section === 0 ? 0 : section === SHN_ABS ? value : (places.get(section) ?? 0) + value;
    }
    this.#values = { table, values };
    return values;
  }

  #symbolBytes(table: ElfSection): Uint8Array {
    if (table.size > MAX_SYMBOLS * ElfSymbol.size)
      throw new ElfError(`${this.name}: ${table.name} has more than ${MAX_SYMBOLS} symbols`);
    const bytes = new Uint8Array(table.size);
    this.source.readInto(bytes, table.offset);
    return bytes;
  }

  /** The symbol table, empty when the file has none. Throws SymbolFileError. */
  get symbols(): SymbolTable {
    this.#symbols ??= this.#readSymbols();
    return this.#symbols;
  }

  /** Places and sizes of the functions called `name` in the symbol table. */
  functionsNamed(name: string): { from: number; size: number }[] {
    const { places, sizes, infos } = this.symbols;
    return this.symbols
      .find(name)
      .filter((i) => (infos[i] & 15) === STT.FUNC)
      .map((i) => ({ from: places[i], size: sizes[i] }));
  }

  #readSymbols(): SymbolTable {
    const table = this.sections.find((s) => s.type === SHT.SYMTAB);
    const bytes = table ? this.#symbolBytes(table) : new Uint8Array();
    const strings = table && this.sections[table.link];
    if (table && (!strings || strings.type === SHT.NOBITS))
      throw new ElfError(
        `${this.name}: symbol table ${table.name} has no string table (section ${table.link} of ${this.sections.length})`,
      );
    const text = new Uint8Array(strings?.size ?? 0);
    if (strings) this.source.readInto(text, strings.offset);
    const view = viewOf(bytes);
    const count = Math.floor(bytes.length / ElfSymbol.size);
    const starts = new Map(this.layout.map((l) => [l.index, l.from]));
    const originLow = Number(this.origin & 0xffffffffn);
    const originHigh = Number(this.origin >> 32n);
    const place = (i: number): number => {
      const at = i * ElfSymbol.size;
      const low = view.getUint32(at + 8, true);
      const high = view.getUint32(at + 12, true);
      if (this.relocatable) return (starts.get(view.getUint16(at + 6, true)) ?? 0) + low + high * HIGH;
      return (high - originHigh) * HIGH + (low - originLow);
    };
    const kept = new Uint32Array(count);
    const found = new Float64Array(count);
    // STT_FILE comes before the local symbols of its file; global ones, after all of those, belong to no file that is known.
    const files = new Uint32Array(count);
    let file = 0;
    let several = false;
    let n = 0;
    for (let i = 1; i < count; i++) {
      const at = i * ElfSymbol.size;
      if ((bytes[at + 4] & 15) === STT.FILE) {
        several ||= n > 0;
        file = i;
        continue;
      }
      if (bytes[at + 4] >>> 4 === STB_LOCAL || !several) files[i] = file;
      if ((bytes[at + 4] & 15) > STT.FUNC || !starts.has(view.getUint16(at + 6, true))) continue;
      const name = view.getUint32(at, true);
      // Mapping symbols (AAELF64 5.5.6) mark code and data, they name nothing. Offsets outside the text read as undefined.
      const first = text[name];
      if (!first) continue;
      if (first === 0x24 && (text[name + 1] === 0x78 || text[name + 1] === 0x64) && (!text[name + 2] || text[name + 2] === 0x2e))
        continue;
      found[i] = place(i);
      kept[n++] = i;
    }
    const order = kept.subarray(0, n).sort((a, b) => found[a] - found[b] || a - b);
    const places = new Float64Array(n);
    const sizes = new Float64Array(n);
    const infos = new Uint8Array(n);
    const sections = new Uint16Array(n);
    order.forEach((i, k) => {
      const at = i * ElfSymbol.size;
      places[k] = found[i];
      sizes[k] = view.getUint32(at + 16, true) + view.getUint32(at + 20, true) * HIGH;
      infos[k] = bytes[at + 4];
      sections[k] = view.getUint16(at + 6, true);
    });
    const names = order.map((i) => view.getUint32(i * ElfSymbol.size, true));
    const fileNames = Array.from(order, (i) => (files[i] ? view.getUint32(files[i] * ElfSymbol.size, true) : -1));
    const textOf = (at: number): string => {
      const end = text.indexOf(0, at);
      return Buffer.from(text.buffer, at, (end < 0 ? text.length : end) - at).toString('utf8');
    };
    return {
      places,
      sizes,
      infos,
      sections,
      name: (k) => textOf(names[k]),
      find: (name) => {
        const wanted = Buffer.from(`${name}\0`, 'utf8');
        const found: number[] = [];
        for (let k = 0; k < n; k++) {
          const start = names[k];
          let i = 0;
          while (i < wanted.length && text[start + i] === wanted[i]) i++;
          if (i === wanted.length) found.push(k);
        }
        return found;
      },
      file: (k) => (fileNames[k] >= 0 && fileNames[k] < text.length ? textOf(fileNames[k]) : undefined),
    };
  }
}

/** A range of another source. */
class Slice implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #source: ByteSource;
  readonly #from: number;

  constructor(source: ByteSource, from: number, size: number, name: string) {
    this.#source = source;
    this.#from = from;
    this.size = size;
    this.name = name;
  }

  #check(offset: number, length: number): void {
    if (!(offset >= 0 && length >= 0 && offset + length <= this.size))
      throw new ElfError(`${this.name}: ${length} bytes at 0x${offset.toString(16)} are outside its ${this.size} bytes`);
  }

  read(offset: number, length: number): Uint8Array {
    this.#check(offset, length);
    return this.#source.read(this.#from + offset, length);
  }

  readInto(target: Uint8Array, offset: number): void {
    this.#check(offset, target.length);
    this.#source.readInto(target, this.#from + offset);
  }

  close(): void {}
}

/** A zstd stream of which `size` bytes are wanted; more than that is an error before it is memory. */
function unzstd(packed: Uint8Array, size: number): Uint8Array {
  const out = new Uint8Array(size);
  let done = 0;
  const stream = new Decompress((chunk) => {
    if (done + chunk.length > size) throw new Error(`more than ${size} bytes`);
    out.set(chunk, done);
    done += chunk.length;
  });
  const STEP = 1 << 16;
  for (let at = 0; at < packed.length; at += STEP) stream.push(packed.subarray(at, at + STEP), at + STEP >= packed.length);
  return out.subarray(0, done);
}
