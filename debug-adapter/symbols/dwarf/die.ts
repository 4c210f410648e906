/** Debugging information entries, parsed when asked: a Die is an offset and the abbreviation found there. */
import { type AbbreviationTable, HAS, skipForm } from './abbreviations.ts';
import { attributeName, DW_AT, DW_FORM, DW_TAG, formName, NESTING_LANGUAGES, tagName } from './constants.ts';
import { expressionAt, type Location, locationList, type Range, rangeList } from './lists.ts';
import type { DwarfError } from './reader.ts';
import type { Unit } from './unit.ts';

/** How far chains of DW_AT_abstract_origin and DW_AT_specification are followed. */
const MAX_CHAIN = 16;

/**
 * A decoded attribute value: strings, flags, blocks and expressions (bytes), references (the DIE), addresses (bigint), constants and
 * section offsets (number; bigint beyond 2^53).
 */
export type AttributeValue = string | boolean | Uint8Array | Die | bigint | number;

/** What a name can be in. */
const QUALIFYING: ReadonlySet<number> = new Set([
  ...[DW_TAG.namespace, DW_TAG.structure_type, DW_TAG.class_type, DW_TAG.union_type, DW_TAG.enumeration_type],
]);

export class Die {
  readonly unit: Unit;
  /** In the section of the unit. */
  readonly offset: number;
  readonly #table: AbbreviationTable;
  readonly #code: number;
  /** Of the first attribute value, in `unit.bytes`. */
  readonly #values: number;
  #parent: Die | null | undefined;

  /** `at` is where the DIE starts in `unit.bytes`. Throws DwarfError when no DIE is there. */
  constructor(unit: Unit, at: number, parent?: Die, table = unit.abbreviations) {
    this.unit = unit;
    this.#table = table;
    this.offset = unit.offset + at;
    this.#parent = parent;
    const reader = unit.reader(at);
    const found = reader.uleb();
    const code = table.single && found !== 0 ? 1 : found;
    if (code >= table.limit || !table.flags[code])
      throw reader.fail(code ? `abbreviation ${code}, which the unit does not have` : 'no DIE here', this.offset);
    this.#code = code;
    this.#values = reader.at;
  }

  /** DW_TAG_*. */
  get tag(): number {
    return this.#table.tags[this.#code];
  }

  get hasChildren(): boolean {
    return (this.#table.flags[this.#code] & HAS.children) !== 0;
  }

  /** For messages: `DW_TAG_member at 0x1234 of vmlinux: .debug_info`. */
  toString(): string {
    return `${tagName(this.tag)} at 0x${this.offset.toString(16)} of ${this.unit.where}`;
  }

  /** Two objects for one entry are the same DIE. */
  is(other: Die): boolean {
    return this.offset === other.offset && this.unit === other.unit;
  }

  #fail(attribute: number, form: number, wanted: string): DwarfError {
    return this.unit.fail(this.offset, `${attributeName(attribute)} has ${formName(form)}, which is not ${wanted}`);
  }

  /** Index of `attribute` in the abbreviation table and where its value is, undefined when this entry has none of its own. */
  #find(attribute: number): { form: number; constant: number; at: number } | undefined {
    const t = this.#table;
    const { bytes } = this.unit;
    const end = t.ends[this.#code];
    let at = this.#values;
    for (let i = t.starts[this.#code]; i < end; i++) {
      let form = t.forms[i];
      if (t.attributes[i] === attribute) {
        if (form === DW_FORM.indirect) {
          const reader = this.unit.reader(at);
          form = reader.uleb();
          at = reader.at;
        }
        return { form, constant: t.constants[i], at };
      }
      at = skipForm(form, bytes, at, t.encoding, this.unit.where, this.unit.offset);
      if (at > bytes.length) throw this.unit.fail(this.offset, 'an entry that is cut off');
    }
    return undefined;
  }

  /** Does this entry have `attribute` of its own? */
  has(attribute: number): boolean {
    const t = this.#table;
    for (let i = t.starts[this.#code]; i < t.ends[this.#code]; i++) if (t.attributes[i] === attribute) return true;
    return false;
  }

  /** DW_FORM_* of `attribute`, undefined when this entry has none of its own. */
  form(attribute: number): number | undefined {
    return this.#find(attribute)?.form;
  }

  /** Numbers of all attributes, in order. */
  get attributes(): number[] {
    const t = this.#table;
    return [...t.attributes.subarray(t.starts[this.#code], t.ends[this.#code])];
  }

  /** The value of `attribute` of this very entry. Throws DwarfError when it cannot be read. */
  attr(attribute: number): AttributeValue | undefined {
    const found = this.#find(attribute);
    if (!found) return undefined;
    const { form, constant, at } = found;
    const { unit } = this;
    const reader = unit.reader(at);
    // Numbers, not names: this runs mostly before it is optimized, and then a switch on numbers is a jump.
    switch (form) {
      case 0x01: // DW_FORM_addr
      case 0x1b: // DW_FORM_addrx
      case 0x29: // DW_FORM_addrx1
      case 0x2a: // DW_FORM_addrx2
      case 0x2b: // DW_FORM_addrx3
      case 0x2c: // DW_FORM_addrx4
      case 0x1f01: // DW_FORM_GNU_addr_index
        return unit.readAddress(reader, form);
      case 0x0a: // DW_FORM_block1
        return reader.block(reader.u8());
      case 0x03: // DW_FORM_block2
        return reader.block(reader.u16());
      case 0x04: // DW_FORM_block4
        return reader.block(reader.u32());
      case 0x09: // DW_FORM_block
      case 0x18: // DW_FORM_exprloc
        return reader.block(reader.uleb());
      case 0x1e: // DW_FORM_data16
        return reader.block(16);
      case 0x0b: // DW_FORM_data1
        return reader.u8();
      case 0x05: // DW_FORM_data2
        return reader.u16();
      case 0x06: // DW_FORM_data4
        return reader.u32();
      case 0x07: // DW_FORM_data8
        return narrow(reader.u64());
      case 0x0d: // DW_FORM_sdata
        return narrow(reader.lebExact(true));
      case 0x0f: // DW_FORM_udata
        return narrow(reader.lebExact(false));
      case 0x21: // DW_FORM_implicit_const
        return constant;
      case 0x0c: // DW_FORM_flag
        return reader.u8() !== 0;
      case 0x19: // DW_FORM_flag_present
        return true;
      case 0x17: // DW_FORM_sec_offset
        return reader.word(unit.offsetSize);
      case 0x22: // DW_FORM_loclistx
      case 0x23: // DW_FORM_rnglistx
        return reader.uleb();
      case 0x08: // DW_FORM_string
      case 0x0e: // DW_FORM_strp
      case 0x1f: // DW_FORM_line_strp
      case 0x1d: // DW_FORM_strp_sup
      case 0x1f21: // DW_FORM_GNU_strp_alt
      case 0x1a: // DW_FORM_strx
      case 0x25: // DW_FORM_strx1
      case 0x26: // DW_FORM_strx2
      case 0x27: // DW_FORM_strx3
      case 0x28: // DW_FORM_strx4
      case 0x1f02: // DW_FORM_GNU_str_index
        return unit.readString(reader, form);
      case 0x11: // DW_FORM_ref1
      case 0x12: // DW_FORM_ref2
      case 0x13: // DW_FORM_ref4
      case 0x14: // DW_FORM_ref8
      case 0x15: // DW_FORM_ref_udata
      case 0x10: // DW_FORM_ref_addr
      case 0x20: // DW_FORM_ref_sig8
      case 0x1c: // DW_FORM_ref_sup4
      case 0x24: // DW_FORM_ref_sup8
      case 0x1f20: // DW_FORM_GNU_ref_alt
        return unit.readReference(reader, form);
      default:
        throw unit.fail(this.offset, `${attributeName(attribute)} has ${formName(form)}, which is not known`);
    }
  }

  /** The text of an attribute of class string, undefined when it is not there. */
  string(attribute: number): string | undefined {
    const value = this.attr(attribute);
    if (value === undefined || typeof value === 'string') return value;
    throw this.#fail(attribute, this.form(attribute) ?? 0, 'a string');
  }

  /** The number of an attribute of class constant or section offset; undefined when it is not there or beyond 2^53. */
  number(attribute: number): number | undefined {
    const value = this.attr(attribute);
    return typeof value === 'number' ? value : undefined;
  }

  /** True for a flag that is there and set. */
  flag(attribute: number): boolean {
    return this.attr(attribute) === true;
  }

  /** The DIE that an attribute of class reference names, undefined when the attribute is not there. */
  reference(attribute: number): Die | undefined {
    const value = this.attr(attribute);
    if (value === undefined || value instanceof Die) return value;
    throw this.#fail(attribute, this.form(attribute) ?? 0, 'a reference');
  }

  /** The bytes of an expression or block; undefined when the attribute is not there or of another class (a location list). */
  block(attribute: number): Uint8Array | undefined {
    const value = this.attr(attribute);
    return value instanceof Uint8Array ? value : undefined;
  }

  /** This DIE, or the one it is an instance or completion of (DW_AT_abstract_origin, DW_AT_specification), that has `attribute`. */
  holder(attribute: number): Die | undefined {
    let die: Die | undefined = this;
    for (let n = 0; die && n < MAX_CHAIN; n++) {
      if (die.has(attribute)) return die;
      die = die.reference(DW_AT.abstract_origin) ?? die.reference(DW_AT.specification);
    }
    return undefined;
  }

  /** DW_AT_name, of the origin too. */
  get name(): string | undefined {
    return this.holder(DW_AT.name)?.string(DW_AT.name);
  }

  /** The name with those of the namespaces and types around it, as Rust and C++ write it: `core::fmt::write`. In C it is the name. */
  get qualifiedName(): string | undefined {
    const own = this.holder(DW_AT.name);
    const name = own?.string(DW_AT.name);
    if (!own || name === undefined || !NESTING_LANGUAGES.has(own.unit.language)) return name;
    const parts = [name];
    for (let at = own.parent(); at && parts.length < MAX_CHAIN && QUALIFYING.has(at.tag); at = at.parent())
      parts.unshift(at.name ?? '{...}');
    return parts.join('::');
  }

  /** The name the linker knows a function or variable by: DW_AT_linkage_name, or DW_AT_name where the language has only that. */
  get linkageName(): string | undefined {
    for (const attribute of [DW_AT.linkage_name, DW_AT.MIPS_linkage_name]) {
      const holder = this.holder(attribute);
      if (holder) return holder.string(attribute);
    }
    return this.name;
  }

  /** DW_AT_type, of the origin too; undefined is C's void. A type that is in a type unit is that unit's DIE. */
  type(): Die | undefined {
    const type = this.holder(DW_AT.type)?.reference(DW_AT.type);
    // DWARF 5 §5.7.1: a declaration that stands for the type of a type unit.
    return type?.has(DW_AT.signature) ? type.reference(DW_AT.signature) : type;
  }

  /** Children in order. Lazy: it may be left early. */
  *children(): Generator<Die> {
    if (!this.hasChildren) return;
    const { unit } = this;
    let at = this.#end();
    for (;;) {
      if (at >= unit.bytes.length) throw unit.fail(this.offset, 'children without an end');
      if (unit.bytes[at] === 0) return;
      const child = new Die(unit, at, this);
      yield child;
      at = child.#next();
    }
  }

  /** Where the values of this entry end, in `unit.bytes`. */
  #end(): number {
    const t = this.#table;
    const { bytes } = this.unit;
    let at = this.#values;
    if (t.sizes[this.#code] >= 0) at += t.sizes[this.#code];
    else
      for (let i = t.starts[this.#code]; i < t.ends[this.#code]; i++) {
        at = skipForm(t.forms[i], bytes, at, t.encoding, this.unit.where, this.unit.offset);
        if (at > bytes.length) break;
      }
    if (at > bytes.length) throw this.unit.fail(this.offset, 'an entry that is cut off');
    return at;
  }

  /** Where the next sibling, or the end of the siblings, is. */
  #next(): number {
    const { unit } = this;
    let at = this.#end();
    if (!this.hasChildren) return at;
    const t = unit.abbreviations;
    if (t.siblings[this.#code] >= 0) {
      const next = unit.reader(this.#values + t.siblings[this.#code]).u32();
      if (next < at || next > unit.bytes.length)
        throw unit.fail(this.offset, `DW_AT_sibling of 0x${next.toString(16)} does not lead on`);
      return next;
    }
    const { bytes } = unit;
    for (let depth = 1; ; ) {
      if (at >= bytes.length) throw unit.fail(this.offset, 'children without an end');
      const reader = unit.reader(at);
      const code = reader.uleb();
      if (code === 0) {
        at = reader.at;
        if (--depth === 0) return at;
        continue;
      }
      const flags = code < t.limit ? t.flags[code] : 0;
      if (!flags) throw unit.fail(unit.offset + at, `abbreviation ${code}, which the unit does not have`);
      at = reader.at;
      if (t.sizes[code] >= 0) at += t.sizes[code];
      else
        for (let i = t.starts[code]; i < t.ends[code]; i++)
          at = skipForm(t.forms[i], bytes, at, t.encoding, unit.where, unit.offset);
      if (flags & HAS.children) depth++;
    }
  }

  /** The DIE that this one is a child of; undefined for the root of a unit. */
  parent(): Die | undefined {
    if (this.#parent === undefined) this.#parent = this.#findParent() ?? null;
    return this.#parent ?? undefined;
  }

  #findParent(): Die | undefined {
    let parent: Die = this.unit.root;
    if (parent.offset === this.offset) return undefined;
    for (;;) {
      let inside: Die | undefined;
      for (const child of parent.children()) {
        if (child.offset > this.offset) break;
        inside = child;
      }
      if (!inside) throw this.unit.fail(this.offset, 'an entry that is in no tree');
      if (inside.offset === this.offset) return parent;
      parent = inside;
    }
  }

  /** A machine address of class address (or an index of one), as a place of the file: see ElfFile. */
  place(attribute: number): number | undefined {
    const found = this.#find(attribute);
    return found && this.unit.readPlace(this.unit.reader(found.at), found.form);
  }

  /** The code of this entry: places [from, to), in the order of the file; the entry first. Pieces that the linker dropped are left out. */
  ranges(): Range[] {
    const { unit } = this;
    const ranges = this.#find(DW_AT.ranges);
    if (ranges) {
      const reader = unit.reader(ranges.at);
      if (ranges.form === DW_FORM.rnglistx) return rangeList(unit, unit.listOffset('rnglists', reader.uleb()));
      return rangeList(unit, unit.wordOf(reader, ranges.form, 'ranges'));
    }
    const low = this.place(DW_AT.low_pc);
    if (low === undefined) return [];
    const high = this.#find(DW_AT.high_pc);
    if (!high) return [];
    const value = this.attr(DW_AT.high_pc);
    // DWARF 5 §2.17.2: an address, or a constant that is the size.
    const to = typeof value === 'bigint' && high.form !== DW_FORM.data8 ? this.place(DW_AT.high_pc) : low + Number(value ?? 0);
    return to !== undefined && to > low && unit.file.alive(low) ? [{ from: low, to }] : [];
  }

  /** Does the code of this entry have `place`? */
  covers(place: number): boolean {
    return this.ranges().some((r) => place >= r.from && place < r.to);
  }

  /**
   * What an attribute of class exprloc or loclist says, in order: expressions and the places where they hold (from -Infinity to
   * Infinity for one that holds everywhere). Empty when the attribute is not there.
   */
  locations(attribute: number = DW_AT.location): Location[] {
    const found = this.#find(attribute);
    if (!found) return [];
    const { unit } = this;
    const reader = unit.reader(found.at);
    switch (found.form) {
      case DW_FORM.loclistx:
        return locationList(unit, unit.listOffset('loclists', reader.uleb()));
      case DW_FORM.sec_offset:
      case DW_FORM.data4:
      case DW_FORM.data8:
        // DWARF 3 and before had no form of their own for section offsets.
        if (found.form === DW_FORM.sec_offset || unit.version < 4)
          return locationList(unit, unit.wordOf(reader, found.form, 'location'));
    }
    const expression = this.block(attribute);
    if (!expression) throw this.#fail(attribute, found.form, 'a location');
    return [{ from: Number.NEGATIVE_INFINITY, to: Number.POSITIVE_INFINITY, expression }];
  }

  /** The expression of `attribute` in force at `place`, undefined when there is none (optimized out there). */
  expression(place: number, attribute: number = DW_AT.location): Uint8Array | undefined {
    return expressionAt(this.locations(attribute), place);
  }
}

const narrow = (value: bigint): number | bigint =>
  value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
