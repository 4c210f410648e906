/**
 * The second part of an index: one pass over all DIEs that are not inside functions, which notes where names and code are. This is
 * the hot path of symbols (4.5 million DIEs in Debian's kernel): DIEs are not objects here, siblings are jumped to, and a type
 * whose name came before is known by its offset in .debug_str.
 */
import { type ByteSource, SymbolFileError } from '../byte-source.ts';
import { AbbreviationTable, fixedSize, HAS, skipForm } from './abbreviations.ts';
import { DW_AT, DW_FORM, DW_INL, DW_TAG, DW_UT, NESTING_LANGUAGES } from './constants.ts';
import { Die } from './die.ts';
import type { DwarfFile } from './file.ts';
import { KIND, type NameIndex } from './index-data.ts';
import { Column, StringPool } from './pool.ts';
import { Reader, wrong } from './reader.ts';
import type { Unit } from './unit.ts';

/** What is done with a DIE of a tag; nothing with those that are not named here. */
const TYPE = 1;
const ENUM = 2;
const VARIABLE = 3;
const FUNCTION = 4;
/** Its children are like the unit's own. */
const SCOPE = 5;

const ACTIONS = new Uint8Array(1 << 16);
const KINDS = new Uint8Array(1 << 16);
for (const [tag, action, kind] of [
  [DW_TAG.structure_type, TYPE, KIND.struct],
  [DW_TAG.class_type, TYPE, KIND.struct],
  [DW_TAG.union_type, TYPE, KIND.union],
  [DW_TAG.enumeration_type, ENUM, KIND.enum],
  [DW_TAG.typedef, TYPE, KIND.typedef],
  [DW_TAG.base_type, TYPE, KIND.base],
  [DW_TAG.unspecified_type, TYPE, KIND.type],
  [DW_TAG.interface_type, TYPE, KIND.type],
  [DW_TAG.subrange_type, TYPE, KIND.type],
  [DW_TAG.variable, VARIABLE, KIND.variable],
  [DW_TAG.constant, VARIABLE, KIND.variable],
  [DW_TAG.subprogram, FUNCTION, KIND.function],
  [DW_TAG.compile_unit, SCOPE, 0],
  [DW_TAG.partial_unit, SCOPE, 0],
  [DW_TAG.type_unit, SCOPE, 0],
  [DW_TAG.skeleton_unit, SCOPE, 0],
  [DW_TAG.namespace, SCOPE, 0],
  [DW_TAG.module, SCOPE, 0],
]) {
  ACTIONS[tag] = action;
  KINDS[tag] = kind;
}

/** A section up to this size is read whole for the pass: strings are at random in it. */
const MAX_WHOLE = 64 << 20;
/** Structures of one name and different sizes that are kept. */
const MAX_VARIANTS = 8;
const PROBLEMS = 32;
/** Entries of range lists that a pass may read: a kernel has 200,000. */
const LIST_ENTRIES = 1 << 25;
/** Longer names are no names. */
const MAX_NAME = 1 << 14;
/** Slots of the table from offsets in .debug_str to names. A power of two. */
const RECENT = 1 << 18;
const MAX_OFFSET = 2 ** 32;

/** Never throws for what is wrong with a unit: what was found before it is kept, and the index says so. */
export function buildNames(file: DwarfFile): NameIndex {
  file.allow(LIST_ENTRIES);
  const pass = new Pass(file);
  const { list } = file;
  list.headers.forEach((_, u) => {
    pass.unit(u, () => file.full(file.unit(u)));
  });
  const { alternate } = file;
  alternate?.list.headers.forEach((_, u) => {
    pass.unit(list.headers.length + u, () => alternate.unit(u));
  });
  pass.others();
  return pass.done([...file.problems, ...(alternate?.problems ?? [])]);
}

class Pass {
  readonly #file: DwarfFile;
  readonly #pool = new StringPool();
  /** Bit k: an entry of kind k is there for the name. */
  #kinds = new Uint16Array(1 << 12);
  /** Size of the first structure or union of a name. */
  #sizes = new Float64Array(1 << 12);
  readonly #variants = new Map<number, number[]>();
  readonly #recentKeys = new Float64Array(RECENT).fill(-1);
  readonly #recentNames = new Uint32Array(RECENT);
  readonly #entryNames = new Column((n) => new Uint32Array(n), 1 << 16);
  readonly #entryKinds = new Column((n) => new Uint8Array(n), 1 << 16);
  readonly #entryUnits = new Column((n) => new Uint32Array(n), 1 << 16);
  readonly #entryDies = new Column((n) => new Uint32Array(n), 1 << 16);
  readonly #functionFrom = new Column((n) => new Float64Array(n), 1 << 16);
  readonly #functionTo = new Column((n) => new Float64Array(n), 1 << 16);
  readonly #functionUnits = new Column((n) => new Uint32Array(n), 1 << 16);
  readonly #functionDies = new Column((n) => new Uint32Array(n), 1 << 16);
  readonly #problems = new Set<string>();
  readonly #table = new AbbreviationTable();
  readonly #whole = new Map<ByteSource, Uint8Array>();
  #buffer = new Uint8Array(1 << 20);

  /**
   * Units that come after all others: the kernel's Rust has bindings of C's types, with the same names and other members, and what C
   * calls a type is meant first. Undefined when it is their turn.
   */
  #later: { index: number; open: () => Unit }[] | undefined = [];

  // The unit that is being walked.
  #open: () => Unit = () => this.#unit;
  #unit!: Unit;
  #index = 0;
  #bytes = this.#buffer;
  /** Offset of the unit, which `#bytes` starts with. */
  #base = 0;
  #where = '';
  #strings: Uint8Array | undefined;
  #stringBase = 0;
  /** Its language has functions in types and namespaces, and names for the linker. */
  #nesting = false;

  constructor(file: DwarfFile) {
    this.#file = file;
  }

  unit(index: number, open: () => Unit): void {
    this.#open = open;
    try {
      const unit = open();
      if (unit.type === DW_UT.skeleton || unit.end > MAX_OFFSET) {
        if (unit.end > MAX_OFFSET) throw unit.fail(unit.offset, 'a unit beyond 4 GiB');
        return;
      }
      this.#walk(index, unit);
    } catch (error) {
      if (!(error instanceof SymbolFileError)) throw error;
      this.#problems.add(error.message);
    }
  }

  /** Units that have been put off. */
  others(): void {
    const later = this.#later ?? [];
    this.#later = undefined;
    for (const { index, open } of later) this.unit(index, open);
  }

  /** All of a section, or undefined for one that is too large to have in memory. */
  #all(source: ByteSource | undefined): Uint8Array | undefined {
    if (!source || source.size > MAX_WHOLE) return undefined;
    let bytes = this.#whole.get(source);
    if (!bytes) {
      bytes = new Uint8Array(source.size);
      source.readInto(bytes, 0);
      this.#whole.set(source, bytes);
    }
    return bytes;
  }

  #walk(index: number, unit: Unit): void {
    const { file } = unit;
    const source = file.need(unit.section);
    const length = unit.end - unit.offset;
    if (length > this.#buffer.length) this.#buffer = new Uint8Array(Math.ceil(length / (1 << 20)) << 20);
    const bytes = this.#buffer.subarray(0, length);
    source.readInto(bytes, unit.offset);
    this.#unit = unit;
    this.#index = index;
    this.#bytes = bytes;
    this.#base = unit.offset;
    this.#where = source.name;
    this.#strings = this.#all(file.source('str'));
    // Names of the same offset in the strings of different files are different.
    this.#stringBase =
      file === this.#file ? 0 : (1 + [...this.#whole.values()].indexOf(this.#strings ?? new Uint8Array())) * MAX_OFFSET;
    const abbreviations = file.need('abbrev');
    const whole = this.#all(abbreviations);
    const table = this.#table;
    if (whole) table.parse(whole, unit.abbrevOffset, abbreviations.name, 0, unit);
    else
      table.parse(
        abbreviations.read(unit.abbrevOffset, Math.min(1 << 20, abbreviations.size - unit.abbrevOffset)),
        0,
        abbreviations.name,
        unit.abbrevOffset,
        unit,
      );
    unit.peek(bytes);
    try {
      this.#dies(unit.dies - unit.offset, length);
    } finally {
      unit.peek(undefined);
    }
  }

  #dies(at: number, end: number): void {
    const bytes = this.#bytes;
    const { tags, flags, sizes, siblings, names, nameForms, byteSizes, limit } = this.#table;
    const recentKeys = this.#recentKeys;
    const recentNames = this.#recentNames;
    const strings = this.#stringBase;
    let depth = 0;
    let members = false;
    while (at < end) {
      const start = at;
      let code = bytes[at++];
      if (code >= 0x80) {
        code = (code & 0x7f) | (bytes[at++] << 7);
        if (code >= 0x4000) code = this.#longCode(start);
        if (code >= 0x4000) at = start + 3;
      }
      if (code === 0) {
        if (--depth <= 0) return;
        continue;
      }
      const flag = code < limit ? flags[code] : 0;
      if (flag === 0) throw wrong(this.#where, this.#base + start, `abbreviation ${code}, which the unit does not have`);
      const tag = tags[code];
      const action = ACTIONS[tag];
      const values = at;
      const size = sizes[code];
      at = size >= 0 ? values + size : this.#skipValues(code, values);
      if (at > end) throw wrong(this.#where, this.#base + start, 'an entry that is cut off');
      switch (action) {
        case TYPE:
          if ((flag & HAS.declaration) === 0 && nameForms[code] !== 0) {
            const kind = KINDS[tag];
            let name = -1;
            if (nameForms[code] === DW_FORM.strp && names[code] >= 0) {
              // The way of nearly all types: the name is known, and so is a type of that name.
              const p = values + names[code];
              const key = (bytes[p] | (bytes[p + 1] << 8) | (bytes[p + 2] << 16) | (bytes[p + 3] << 24)) >>> 0;
              const slot = (key ^ (key >>> 15)) & (RECENT - 1);
              if (recentKeys[slot] === strings + key) name = recentNames[slot];
            }
            if (name < 0) name = this.#name(code, values);
            if (name >= 0) {
              if ((this.#kinds[name] & (1 << kind)) === 0) this.#newType(name, kind, start, code, values);
              else if (kind === KIND.struct && byteSizes[code] >= 0) {
                if (this.#byteSize(code, values) !== this.#sizes[name]) this.#variant(name, kind, start, code, values);
              }
            }
          }
          break;
        case ENUM:
          if ((flag & HAS.declaration) === 0) {
            if (nameForms[code] !== 0) {
              const name = this.#name(code, values);
              if (name >= 0 && (this.#kinds[name] & (1 << KIND.enum)) === 0) this.#newType(name, KIND.enum, start, code, values);
            }
            if (flag & HAS.children) this.#enumerators(at, end);
          }
          break;
        case VARIABLE:
          if ((flag & (HAS.declaration | HAS.value)) === HAS.value) {
            const name = nameForms[code] !== 0 ? this.#name(code, values) : this.#originName(code, start, values);
            if (name >= 0) this.#entry(name, KIND.variable, start);
          }
          break;
        case FUNCTION:
          if (flag & HAS.code) this.#function(code, start, values);
          else if (flag & HAS.inline && nameForms[code] !== 0) {
            const inline = this.#constant(code, values, DW_AT.inline);
            const name = inline === DW_INL.inlined || inline === DW_INL.declared_inlined ? this.#name(code, values) : -1;
            if (name >= 0) this.#entry(name, KIND.inline, start);
          }
          break;
      }
      if ((flag & HAS.children) === 0) {
        if (depth === 0) return;
        continue;
      }
      if (depth === 0) {
        members = NESTING_LANGUAGES.has(this.#constant(code, values, DW_AT.language));
        this.#nesting = members;
        if (members && this.#later) {
          this.#later.push({ index: this.#index, open: this.#open });
          return;
        }
      }
      if (action === SCOPE || (action === TYPE && members)) depth++;
      else if (siblings[code] >= 0) {
        const p = values + siblings[code];
        const next = (bytes[p] | (bytes[p + 1] << 8) | (bytes[p + 2] << 16) | (bytes[p + 3] << 24)) >>> 0;
        if (next < at || next > end)
          throw wrong(this.#where, this.#base + start, `DW_AT_sibling of 0x${next.toString(16)} does not lead on`);
        at = next;
      } else at = this.#skipTree(at, end);
    }
    throw wrong(this.#where, this.#base + end, 'children without an end');
  }

  /** An abbreviation code of three bytes; the table has none longer. */
  #longCode(at: number): number {
    const reader = new Reader(this.#bytes, this.#where, this.#base, at);
    const code = reader.uleb();
    if (reader.at - at > 3) throw wrong(this.#where, this.#base + at, `abbreviation ${code}, which the unit does not have`);
    return code;
  }

  #skipValues(code: number, at: number): number {
    const { starts, ends, forms, encoding } = this.#table;
    const end = ends[code];
    const bytes = this.#bytes;
    for (let i = starts[code]; i < end; i++) at = skipForm(forms[i], bytes, at, encoding, this.#where, this.#base);
    return at;
  }

  /** The end of a tree whose children start at `at`. Functions are noted in there too: C has nested ones. */
  #skipTree(at: number, end: number): number {
    const bytes = this.#bytes;
    const { tags, flags, sizes, siblings, limit } = this.#table;
    for (let depth = 1; at < end; ) {
      const start = at;
      let code = bytes[at++];
      if (code >= 0x80) {
        code = (code & 0x7f) | (bytes[at++] << 7);
        if (code >= 0x4000) code = this.#longCode(start);
        if (code >= 0x4000) at = start + 3;
      }
      if (code === 0) {
        if (--depth === 0) return at;
        continue;
      }
      const flag = code < limit ? flags[code] : 0;
      if (flag === 0) throw wrong(this.#where, this.#base + start, `abbreviation ${code}, which the unit does not have`);
      const values = at;
      at = sizes[code] >= 0 ? values + sizes[code] : this.#skipValues(code, values);
      if (tags[code] === DW_TAG.subprogram && flag & HAS.code) this.#function(code, start, values);
      if ((flag & HAS.children) === 0) continue;
      if (siblings[code] >= 0) {
        const p = values + siblings[code];
        const next = (bytes[p] | (bytes[p + 1] << 8) | (bytes[p + 2] << 16) | (bytes[p + 3] << 24)) >>> 0;
        if (next < at || next > end)
          throw wrong(this.#where, this.#base + start, `DW_AT_sibling of 0x${next.toString(16)} does not lead on`);
        at = next;
      } else depth++;
    }
    throw wrong(this.#where, this.#base + end, 'children without an end');
  }

  // --- names --------------------------------------------------------------------------------------------------------------

  /** Where the value of `attribute` is, -1 when the entry does not have it. `#form` is its form. */
  #find(code: number, at: number, attribute: number): number {
    const { attributes, forms, constants, starts, ends, encoding } = this.#table;
    const bytes = this.#bytes;
    for (let i = starts[code]; i < ends[code]; i++) {
      if (attributes[i] === attribute) {
        this.#form = forms[i];
        this.#implicit = constants[i];
        return at;
      }
      at = skipForm(forms[i], bytes, at, encoding, this.#where, this.#base);
    }
    return -1;
  }
  #form = 0;
  #implicit = 0;

  /** A small constant, 0 when the entry does not have it. */
  #constant(code: number, values: number, attribute: number): number {
    const at = this.#find(code, values, attribute);
    if (at < 0) return 0;
    return this.#number(this.#form, at);
  }

  #number(form: number, at: number): number {
    const bytes = this.#bytes;
    switch (form) {
      case DW_FORM.implicit_const:
        return this.#implicit;
      case DW_FORM.data1:
        return bytes[at];
      case DW_FORM.data2:
        return bytes[at] | (bytes[at + 1] << 8);
      case DW_FORM.data4:
        return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
      case DW_FORM.data8:
        return new Reader(bytes, this.#where, this.#base, at).word(8);
      case DW_FORM.udata:
        return new Reader(bytes, this.#where, this.#base, at).uleb();
      case DW_FORM.sdata:
        return new Reader(bytes, this.#where, this.#base, at).sleb();
      default:
        return 0;
    }
  }

  #byteSize(code: number, values: number): number {
    const form = this.#table.byteSizeForms[code];
    if (form === DW_FORM.implicit_const) return this.#constant(code, values, DW_AT.byte_size);
    return this.#number(form, values + this.#table.byteSizes[code]);
  }

  /** Number of the name of the entry with abbreviation `code`; -1 for an empty one. */
  #name(code: number, values: number): number {
    const fixed = this.#table.names[code];
    const form = this.#table.nameForms[code];
    const at = fixed >= 0 ? values + fixed : this.#find(code, values, DW_AT.name);
    return this.#nameAt(form, at);
  }

  #nameAt(form: number, at: number): number {
    const bytes = this.#bytes;
    if (form === DW_FORM.string) {
      const end = bytes.indexOf(0, at);
      return end <= at ? -1 : this.#intern(bytes, at, end);
    }
    if (form === DW_FORM.strp && this.#unit.offsetSize === 4)
      return this.#stringAt((bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0);
    const reader = new Reader(bytes, this.#where, this.#base, at);
    switch (form) {
      case DW_FORM.strp:
        return this.#stringAt(reader.word(8));
      case DW_FORM.strx:
      case DW_FORM.strx1:
      case DW_FORM.strx2:
      case DW_FORM.strx3:
      case DW_FORM.strx4:
      case DW_FORM.GNU_str_index:
        return this.#stringAt(this.#unit.stringOffset(reader, form));
      default: {
        const text = this.#unit.readString(reader, form);
        return text === '' ? -1 : this.#intern(new Uint8Array(Buffer.from(text, 'utf8')), 0, Buffer.byteLength(text));
      }
    }
  }

  /** Number of the name at `offset` of the unit's .debug_str. */
  #stringAt(offset: number): number {
    const slot = (offset ^ (offset >>> 15)) & (RECENT - 1);
    if (this.#recentKeys[slot] === this.#stringBase + offset) return this.#recentNames[slot];
    const strings = this.#strings;
    let name: number;
    if (strings) {
      const end = strings.indexOf(0, offset);
      if (end < 0 || offset >= strings.length)
        throw wrong(
          this.#where,
          this.#base,
          `a name at 0x${offset.toString(16)} of .debug_str, outside its ${strings.length} bytes`,
        );
      name = end === offset ? -1 : this.#intern(strings, offset, end);
    } else {
      const text = new Uint8Array(Buffer.from(this.#unit.file.string('str', offset), 'utf8'));
      name = text.length === 0 ? -1 : this.#intern(text, 0, text.length);
    }
    if (name >= 0) {
      this.#recentKeys[slot] = this.#stringBase + offset;
      this.#recentNames[slot] = name;
    }
    return name;
  }

  #intern(bytes: Uint8Array, from: number, to: number): number {
    if (to - from > MAX_NAME) return -1;
    const name = this.#pool.intern(bytes, from, to);
    if (name >= this.#kinds.length) {
      const kinds = new Uint16Array(this.#kinds.length * 2);
      kinds.set(this.#kinds);
      this.#kinds = kinds;
      const sizes = new Float64Array(kinds.length);
      sizes.set(this.#sizes);
      this.#sizes = sizes;
    }
    return name;
  }

  /** The name of an instance or completion: that of the entry that it names, or of the one after. */
  #originName(code: number, start: number, values: number): number {
    const bytes = this.#bytes;
    const { limit, flags, nameForms } = this.#table;
    let at = this.#find(code, values, DW_AT.abstract_origin);
    if (at < 0) at = this.#find(code, values, DW_AT.specification);
    if (at < 0) return -1;
    if (this.#form === DW_FORM.ref4) {
      // In this unit, and mostly with a name of its own.
      const target = (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
      let p = target;
      let other = bytes[p++];
      if (other >= 0x80) other = (other & 0x7f) | (bytes[p++] << 7);
      if (p < bytes.length && other < limit && flags[other] && nameForms[other] !== 0 && other < 0x4000)
        return this.#name(other, p);
    }
    const text = new Die(this.#unit, start).name;
    return text ? this.#intern(new Uint8Array(Buffer.from(text, 'utf8')), 0, Buffer.byteLength(text)) : -1;
  }

  // --- entries ------------------------------------------------------------------------------------------------------------

  #entry(name: number, kind: number, at: number): void {
    this.#kinds[name] |= 1 << kind;
    this.#entryNames.push(name);
    this.#entryKinds.push(kind);
    this.#entryUnits.push(this.#index);
    this.#entryDies.push(this.#base + at);
  }

  #newType(name: number, kind: number, at: number, code: number, values: number): void {
    if (kind === KIND.struct && this.#table.byteSizes[code] >= 0) this.#sizes[name] = this.#byteSize(code, values);
    this.#entry(name, kind, at);
  }

  /** Another structure of a name that has one: kept when its size tells it from all before. */
  #variant(name: number, kind: number, at: number, code: number, values: number): void {
    const size = this.#byteSize(code, values);
    let sizes = this.#variants.get(name);
    if (!sizes) {
      sizes = [];
      this.#variants.set(name, sizes);
    }
    if (sizes.length >= MAX_VARIANTS || sizes.includes(size)) return;
    sizes.push(size);
    this.#entry(name, kind, at);
  }

  #enumerators(at: number, end: number): void {
    const bytes = this.#bytes;
    const { tags, flags, nameForms, limit } = this.#table;
    for (let first = true; at < end; first = false) {
      const start = at;
      let code = bytes[at++];
      if (code >= 0x80) code = (code & 0x7f) | (bytes[at++] << 7);
      if (code === 0 || code >= limit || flags[code] === 0 || tags[code] !== DW_TAG.enumerator || flags[code] & HAS.children)
        return;
      const name = nameForms[code] !== 0 ? this.#name(code, at) : -1;
      if (name >= 0) {
        if ((this.#kinds[name] & (1 << KIND.enumerator)) === 0) this.#entry(name, KIND.enumerator, start);
        // The enumeration came before, in another unit.
        else if (first) return;
      }
      at = this.#skipValues(code, at);
    }
  }

  #function(code: number, start: number, values: number): void {
    const { attributes, forms, starts, ends, encoding, nameForms } = this.#table;
    const bytes = this.#bytes;
    let at = values;
    let low = Number.NaN;
    let high = Number.NaN;
    let simple = true;
    let linkage = -1;
    let linkageForm = 0;
    for (let i = starts[code]; i < ends[code]; i++) {
      const form = forms[i];
      switch (attributes[i]) {
        case DW_AT.low_pc:
          if (form === DW_FORM.addr) low = this.#place(at);
          else simple = false;
          break;
        case DW_AT.high_pc:
          if (form === DW_FORM.data8 || form === DW_FORM.data4) {
            high = (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
            if (form === DW_FORM.data8 && (bytes[at + 4] | bytes[at + 5] | bytes[at + 6] | bytes[at + 7]) !== 0) simple = false;
          } else simple = false;
          break;
        case DW_AT.ranges:
          simple = false;
          break;
        case DW_AT.linkage_name:
        case DW_AT.MIPS_linkage_name:
          linkage = at;
          linkageForm = form;
          break;
      }
      const fixed = fixedSize(form, encoding);
      at = fixed >= 0 ? at + fixed : skipForm(form, bytes, at, encoding, this.#where, this.#base);
    }
    let alive = false;
    if (simple) {
      if (high > 0 && this.#file.alive(low)) {
        alive = true;
        this.#code(low, low + high, start);
      }
    } else
      for (const range of new Die(this.#unit, start).ranges()) {
        alive = true;
        this.#code(range.from, range.to, start);
      }
    if (!alive) return;
    const name = nameForms[code] !== 0 ? this.#name(code, values) : this.#originName(code, start, values);
    if (name >= 0) this.#entry(name, KIND.function, start);
    let other = linkage >= 0 ? this.#nameAt(linkageForm, linkage) : -1;
    if (linkage < 0 && this.#nesting && this.#table.flags[code] & HAS.origin) {
      const text = new Die(this.#unit, start).linkageName;
      if (text) other = this.#intern(new Uint8Array(Buffer.from(text, 'utf8')), 0, Buffer.byteLength(text));
    }
    if (other >= 0 && other !== name) this.#entry(other, KIND.function, start);
  }

  #code(from: number, to: number, start: number): void {
    this.#functionFrom.push(from);
    this.#functionTo.push(to);
    this.#functionUnits.push(this.#index);
    this.#functionDies.push(this.#base + start);
  }

  #place(at: number): number {
    const bytes = this.#bytes;
    const low = (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
    const high = (bytes[at + 4] | (bytes[at + 5] << 8) | (bytes[at + 6] << 16) | (bytes[at + 7] << 24)) >>> 0;
    return (high - this.#file.originHigh) * MAX_OFFSET + (low - this.#file.originLow);
  }

  done(problems: readonly string[]): NameIndex {
    const count = this.#pool.size;
    const entries = this.#entryNames.length;
    const entryStarts = new Uint32Array(count + 1);
    for (let i = 0; i < entries; i++) entryStarts[this.#entryNames.data[i] + 1]++;
    for (let n = 0; n < count; n++) entryStarts[n + 1] += entryStarts[n];
    const next = entryStarts.slice();
    const entryKinds = new Uint8Array(entries);
    const entryUnits = new Uint32Array(entries);
    const entryDies = new Uint32Array(entries);
    for (let i = 0; i < entries; i++) {
      const to = next[this.#entryNames.data[i]]++;
      entryKinds[to] = this.#entryKinds.data[i];
      entryUnits[to] = this.#entryUnits.data[i];
      entryDies[to] = this.#entryDies.data[i];
    }
    const functions = this.#functionFrom.length;
    const order = new Uint32Array(functions).map((_, i) => i);
    const from = this.#functionFrom.data;
    const to = this.#functionTo.data;
    // An outer function before those in it.
    order.sort((a, b) => from[a] - from[b] || to[b] - to[a] || a - b);
    const pick = <T extends Float64Array | Uint32Array>(column: { data: T }, out: T): T => {
      for (let i = 0; i < functions; i++) out[i] = column.data[order[i]];
      return out;
    };
    const text = [...new Set([...problems, ...this.#problems])].slice(0, PROBLEMS);
    return {
      names: this.#pool.bytes.done(),
      nameStarts: this.#pool.starts.done(),
      nameHash: this.#pool.slots,
      entryStarts,
      entryKinds,
      entryUnits,
      entryDies,
      functionFrom: pick(this.#functionFrom, new Float64Array(functions)),
      functionTo: pick(this.#functionTo, new Float64Array(functions)),
      functionUnits: pick(this.#functionUnits, new Uint32Array(functions)),
      functionDies: pick(this.#functionDies, new Uint32Array(functions)),
      nameProblems: new Uint8Array(Buffer.from(text.map((t) => `${t}\0`).join(''), 'utf8')),
    };
  }
}
