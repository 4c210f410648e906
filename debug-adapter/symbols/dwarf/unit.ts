/** Units of .debug_info and .debug_types: their headers (DWARF 5 §7.5.1) and what DIEs in them need to be read. */
import type { AbbreviationTable, Encoding } from './abbreviations.ts';
import { DW_AT, DW_FORM, DW_TAG, DW_UT, formName } from './constants.ts';
import { Die } from './die.ts';
import type { DwarfFile, SectionName } from './file.ts';
import { type DwarfError, Reader, wrong } from './reader.ts';

export interface UnitHeader extends Encoding {
  /** In its section: where the header starts, where the unit ends, and its first DIE. */
  readonly offset: number;
  readonly end: number;
  readonly dies: number;
  /** DW_UT_*; DW_UT_compile or DW_UT_type before DWARF 5. */
  readonly type: number;
  /** Offset in .debug_abbrev. */
  readonly abbrevOffset: number;
  /** Type signature of a type unit, DWO id of a skeleton or split unit. */
  readonly id?: bigint;
  /** Of the type of a type unit, from the start of the unit. */
  readonly typeOffset?: number;
}

/** Longest header there is: DWARF 64, type unit. */
export const MAX_HEADER = 64;

/** Reads the header of the unit at `reader`, in .debug_types if `types`. Throws DwarfError. */
export function readUnitHeader(reader: Reader, size: number, types: boolean): UnitHeader {
  const offset = reader.offset;
  const { length, offsetSize } = reader.initialLength();
  const end = reader.offset + length;
  if (end > size) throw reader.fail(`a unit of ${length} bytes where ${size - reader.offset} are left`, offset);
  const version = reader.u16();
  if (version < 2 || version > 5) throw reader.fail(`a unit of DWARF version ${version}; 2 to 5 are known`, offset);
  let type: number = types ? DW_UT.type : DW_UT.compile;
  let addressSize: number;
  let abbrevOffset: number;
  if (version >= 5) {
    type = reader.u8();
    addressSize = reader.u8();
    abbrevOffset = reader.word(offsetSize);
  } else {
    abbrevOffset = reader.word(offsetSize);
    addressSize = reader.u8();
  }
  if (addressSize !== 8) throw reader.fail(`a unit with addresses of ${addressSize} bytes, AArch64 has 8`, offset);
  let id: bigint | undefined;
  let typeOffset: number | undefined;
  if (type === DW_UT.type || type === DW_UT.split_type) {
    id = reader.u64();
    typeOffset = reader.word(offsetSize);
  } else if (type === DW_UT.skeleton || type === DW_UT.split_compile) id = reader.u64();
  if (reader.offset > end) throw reader.fail(`a unit of ${length} bytes, shorter than its header`, offset);
  return { offset, end, dies: reader.offset, version, type, offsetSize, addressSize, abbrevOffset, id, typeOffset };
}

/** A 64-bit number in halves: sums of these become exact places without bigint. */
export interface Pair {
  readonly low: number;
  readonly high: number;
}

/** Attributes of a unit's root that line tables and lists need. */
export interface RootFacts {
  /** DW_AT_stmt_list, -1 without one. */
  readonly lines: number;
  /** DW_AT_low_pc, 0 without one. */
  readonly base: Pair;
  /** DW_AT_comp_dir. */
  readonly directory: string;
}

/** Where a unit of a package (.dwp) has its part of a section; 0 everywhere else. */
export type Contributions = Partial<Record<SectionName, number>>;

const HIGH = 2 ** 32;

export class Unit implements Encoding {
  readonly file: DwarfFile;
  readonly section: 'info' | 'types';
  readonly offset: number;
  readonly end: number;
  readonly dies: number;
  readonly version: number;
  readonly type: number;
  readonly offsetSize: 4 | 8;
  readonly addressSize: number;
  readonly id?: bigint;
  readonly typeOffset?: number;
  /** Of a split unit: the unit in the program's own file, which has its addresses. */
  readonly skeleton?: Unit;
  readonly abbrevOffset: number;
  readonly #contributions: Contributions;
  #table: AbbreviationTable | undefined;
  #rootTable: AbbreviationTable | undefined;
  #bytes: WeakRef<Uint8Array> | undefined;
  #head: Uint8Array | undefined;
  #lines: number | undefined;
  #directory: string | undefined;
  #base: Pair | undefined;
  #bases: { str: number; addr: number; rnglists: number; loclists: number; ranges: number } | undefined;

  constructor(
    file: DwarfFile,
    section: 'info' | 'types',
    header: UnitHeader,
    skeleton?: Unit,
    contributions: Contributions = {},
  ) {
    this.file = file;
    this.section = section;
    this.offset = header.offset;
    this.end = header.end;
    this.dies = header.dies;
    this.version = header.version;
    this.type = header.type;
    this.offsetSize = header.offsetSize;
    this.addressSize = header.addressSize;
    this.id = header.id;
    this.typeOffset = header.typeOffset;
    this.skeleton = skeleton;
    this.abbrevOffset = header.abbrevOffset + (contributions.abbrev ?? 0);
    this.#contributions = contributions;
  }

  /** File and section, for messages. */
  get where(): string {
    return this.file.source(this.section)?.name ?? `${this.file.name}: .debug_${this.section}`;
  }

  fail(offset: number, fact: string): DwarfError {
    return wrong(this.where, offset, fact);
  }

  /** The unit from its header to its end. Kept by the file as long as it is used much. */
  get bytes(): Uint8Array {
    if (this.#head) return this.#head;
    let bytes = this.#bytes?.deref();
    if (!bytes) {
      bytes = this.file.unitBytes(this);
      this.#bytes = new WeakRef(bytes);
    }
    return bytes;
  }

  /**
   * Takes `bytes` for the unit until told otherwise (undefined): those that a pass has at hand, or the first few where only the
   * root is wanted.
   */
  peek(bytes: Uint8Array | undefined): void {
    this.#head = bytes;
  }

  /** Takes what an index knows of the root, which then need not be read for it. */
  know(facts: RootFacts): void {
    this.#lines = facts.lines;
    this.#base = facts.base;
    this.#directory = facts.directory;
  }

  get abbreviations(): AbbreviationTable {
    this.#table ??= this.file.abbreviationTable(this.abbrevOffset, this);
    return this.#table;
  }

  /** A reader at `at` of `bytes`. */
  reader(at: number): Reader {
    return new Reader(this.bytes, this.where, this.offset, at);
  }

  /** The unit's own DIE. */
  get root(): Die {
    // Of a whole table only this one abbreviation, so that looking at the roots of all units stays cheap.
    this.#rootTable ??= this.file.rootAbbreviation(this.abbrevOffset, this, this.reader(this.dies - this.offset).uleb());
    return new Die(this, this.dies - this.offset, undefined, this.#rootTable);
  }

  /** The DIE at `offset` of the section. Throws DwarfError when it is not one of this unit. */
  die(offset: number): Die {
    if (!(offset >= this.dies && offset < this.end))
      throw this.fail(offset, `no DIE of the unit at 0x${this.offset.toString(16)}`);
    return new Die(this, offset - this.offset);
  }

  /** DW_AT_name: the source file as it was given to the compiler. */
  get name(): string {
    return this.root.string(DW_AT.name) ?? this.skeleton?.name ?? '';
  }

  /** DW_AT_comp_dir. */
  get directory(): string {
    this.#directory ??= this.root.string(DW_AT.comp_dir) ?? this.skeleton?.directory ?? '';
    return this.#directory;
  }

  /** DW_AT_stmt_list: the offset of the line table, -1 without one. */
  get lines(): number {
    this.#lines ??= this.root.number(DW_AT.stmt_list) ?? -1;
    return this.#lines;
  }

  /** DW_AT_language, 0 when it is not there. */
  get language(): number {
    return this.root.number(DW_AT.language) ?? 0;
  }

  get producer(): string {
    return this.root.string(DW_AT.producer) ?? '';
  }

  /** Are there arguments or variables that are in different places at different times? */
  get hasLocationLists(): boolean {
    const t = this.abbreviations;
    for (let code = 1; code < t.limit; code++) {
      if (!t.flags[code] || (t.tags[code] !== DW_TAG.variable && t.tags[code] !== DW_TAG.formal_parameter)) continue;
      for (let i = t.starts[code]; i < t.ends[code]; i++)
        if (t.attributes[i] === DW_AT.location && (t.forms[i] === DW_FORM.sec_offset || t.forms[i] === DW_FORM.loclistx))
          return true;
    }
    return false;
  }

  /** Split DWARF before it was in the standard: GNU forms and lists. */
  get splitOld(): boolean {
    return this.skeleton !== undefined && this.version < 5;
  }

  /** A section offset of the attribute at `reader`. */
  wordOf(reader: Reader, form: number, what: 'ranges' | 'location'): number {
    // Parts that are relative to something: GNU's ranges of split units, and what is in a package.
    const base = what === 'ranges' ? this.#allBases.ranges : (this.#contributions.loc ?? 0);
    switch (form) {
      case DW_FORM.sec_offset:
        return base + reader.word(this.offsetSize);
      case DW_FORM.data4:
        return reader.u32();
      case DW_FORM.data8:
        return reader.word(8);
      default:
        throw reader.fail(`${what} of ${formName(form)}`);
    }
  }

  /** Bases (DWARF 5 §3.1.1) from this unit's or, for what is in the program's own file, the skeleton's root. */
  get #allBases() {
    if (this.#bases) return this.#bases;
    const own = this.root;
    const program = this.skeleton?.root ?? own;
    const split = this.skeleton !== undefined;
    const part = this.#contributions;
    const wide = this.offsetSize === 8;
    // DWARF 5 §7.26, §7.27, §7.29: in a split unit offsets are after the header of its part.
    this.#bases = {
      str: own.number(DW_AT.str_offsets_base) ?? (part.str_offsets ?? 0) + (this.version < 5 ? 0 : wide ? 16 : 8),
      addr: program.number(DW_AT.addr_base) ?? program.number(DW_AT.GNU_addr_base) ?? (this.version < 5 ? 0 : wide ? 16 : 8),
      rnglists: own.number(DW_AT.rnglists_base) ?? (part.rnglists ?? 0) + (wide ? 20 : 12),
      loclists: own.number(DW_AT.loclists_base) ?? (part.loclists ?? 0) + (wide ? 20 : 12),
      ranges: split && this.version < 5 ? (program.number(DW_AT.GNU_ranges_base) ?? 0) : 0,
    };
    return this.#bases;
  }

  // --- addresses ----------------------------------------------------------------------------------------------------------

  readPair(reader: Reader): Pair {
    return { low: reader.u32(), high: reader.u32() };
  }

  /** The place of `pair` + `add`. */
  placeOf(pair: Pair, add: number): number {
    const { originLow, originHigh } = this.file;
    return (pair.high - originHigh) * HIGH + (pair.low - originLow) + add;
  }

  /** Entry `index` of the unit's part of .debug_addr (DWARF 5 §7.27). */
  addressPair(index: number): Pair {
    const file = (this.skeleton ?? this).file;
    return this.readPair(Reader.over(file.need('addr'), this.#allBases.addr + index * this.addressSize));
  }

  indexedPlace(index: number): number {
    return this.placeOf(this.addressPair(index), 0);
  }

  #readAddressPair(reader: Reader, form: number): Pair {
    switch (form) {
      case DW_FORM.addr:
        return this.readPair(reader);
      case DW_FORM.addrx:
      case DW_FORM.GNU_addr_index:
        return this.addressPair(reader.uleb());
      case DW_FORM.addrx1:
        return this.addressPair(reader.u8());
      case DW_FORM.addrx2:
        return this.addressPair(reader.u16());
      case DW_FORM.addrx3:
        return this.addressPair(reader.u24());
      case DW_FORM.addrx4:
        return this.addressPair(reader.u32());
      default:
        throw reader.fail(`an address of ${formName(form)}`);
    }
  }

  readAddress(reader: Reader, form: number): bigint {
    const { low, high } = this.#readAddressPair(reader, form);
    return (BigInt(high) << 32n) | BigInt(low);
  }

  readPlace(reader: Reader, form: number): number {
    return this.placeOf(this.#readAddressPair(reader, form), 0);
  }

  /** What offsets in range and location lists are relative to: DW_AT_low_pc of the unit (DWARF 5 §3.1.1), 0 without one. */
  get base(): Pair {
    if (!this.#base) {
      const { root } = this.skeleton ?? this;
      const low = root.attr(DW_AT.low_pc);
      this.#base = typeof low === 'bigint' ? { low: Number(low & 0xffffffffn), high: Number(low >> 32n) } : { low: 0, high: 0 };
    }
    return this.#base;
  }

  // --- lists --------------------------------------------------------------------------------------------------------------

  /** Where list `index` of the unit's part of .debug_rnglists or .debug_loclists is (DWARF 5 §7.28, §7.29). */
  listOffset(section: 'rnglists' | 'loclists', index: number): number {
    const base = this.#allBases[section];
    return base + Reader.over(this.file.need(section), base + index * this.offsetSize).word(this.offsetSize);
  }

  listReader(section: 'rnglists' | 'ranges' | 'loclists' | 'loc', offset: number): Reader {
    // Split DWARF 4 keeps its ranges in the program's own file.
    const file = section === 'ranges' && this.skeleton ? this.skeleton.file : this.file;
    return Reader.over(file.need(section), offset);
  }

  // --- strings ------------------------------------------------------------------------------------------------------------

  readString(reader: Reader, form: number): string {
    const { file } = this;
    switch (form) {
      case DW_FORM.string:
        return reader.cstring();
      case DW_FORM.strp:
        return file.string('str', reader.word(this.offsetSize));
      case DW_FORM.line_strp:
        return file.string('line_str', reader.word(this.offsetSize));
      case DW_FORM.strp_sup:
      case DW_FORM.GNU_strp_alt:
        return file.needAlternate(reader.fail.bind(reader)).string('str', reader.word(this.offsetSize));
      default:
        return file.string('str', this.stringOffset(reader, form));
    }
  }

  /** The offset in .debug_str that a DW_FORM_strx* at `reader` means (DWARF 5 §7.26). */
  stringOffset(reader: Reader, form: number): number {
    let index: number;
    switch (form) {
      case DW_FORM.strx:
      case DW_FORM.GNU_str_index:
        index = reader.uleb();
        break;
      case DW_FORM.strx1:
        index = reader.u8();
        break;
      case DW_FORM.strx2:
        index = reader.u16();
        break;
      case DW_FORM.strx3:
        index = reader.u24();
        break;
      case DW_FORM.strx4:
        index = reader.u32();
        break;
      default:
        throw reader.fail(`a string of ${formName(form)}`);
    }
    return this.#stringOffset(index);
  }

  #stringOffset(index: number): number {
    return Reader.over(this.file.need('str_offsets'), this.#allBases.str + index * this.offsetSize).word(this.offsetSize);
  }

  /** String `index` of the unit's part of .debug_str_offsets. */
  indexedString(index: number): string {
    return this.file.string('str', this.#stringOffset(index));
  }

  // --- references ---------------------------------------------------------------------------------------------------------

  readReference(reader: Reader, form: number): Die {
    const { offset, file } = this;
    switch (form) {
      case DW_FORM.ref1:
        return this.die(offset + reader.u8());
      case DW_FORM.ref2:
        return this.die(offset + reader.u16());
      case DW_FORM.ref4:
        return this.die(offset + reader.u32());
      case DW_FORM.ref8:
        return this.die(offset + reader.word(8));
      case DW_FORM.ref_udata:
        return this.die(offset + reader.uleb());
      case DW_FORM.ref_addr: {
        const target = reader.word(this.version === 2 ? 8 : this.offsetSize);
        return file.unitAt('info', target, reader).die(target);
      }
      case DW_FORM.ref_sup4:
      case DW_FORM.ref_sup8:
      case DW_FORM.GNU_ref_alt: {
        const alternate = file.needAlternate(reader.fail.bind(reader));
        const target =
          form === DW_FORM.GNU_ref_alt ? reader.word(this.offsetSize) : reader.word(form === DW_FORM.ref_sup4 ? 4 : 8);
        return alternate.unitAt('info', target, reader).die(target);
      }
      case DW_FORM.ref_sig8: {
        const signature = reader.u64();
        const unit = file.typeUnit(signature, this.skeleton);
        if (!unit) throw reader.fail(`type 0x${signature.toString(16)}, which no type unit has`, reader.offset - 8);
        return unit.die(unit.offset + (unit.typeOffset ?? 0));
      }
      default:
        throw reader.fail(`a reference of ${formName(form)}`);
    }
  }
}
