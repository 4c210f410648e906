/**
 * Abbreviation tables (DWARF 5 §7.5.3), compiled into typed arrays indexed by code, so that a DIE of fixed size is skipped by one
 * addition and its name, sibling and byte size are read at known offsets.
 */
import { DW_FORM, formName } from './constants.ts';
import { wrong } from './reader.ts';

/** Codes are dense from 1 in what compilers emit; a table that uses larger ones is damaged. */
const MAX_CODE = 1 << 20;
const MAX_SPECS = 1 << 22;

/** Bits of `AbbreviationTable.flags`. */
export const HAS = {
  /** The code is in the table. */
  defined: 1,
  children: 2,
  /** DW_AT_declaration. */
  declaration: 4,
  /** DW_AT_low_pc or DW_AT_ranges. */
  code: 8,
  /** DW_AT_inline. */
  inline: 16,
  /** DW_AT_location or DW_AT_const_value. */
  value: 32,
  /** DW_AT_specification or DW_AT_abstract_origin. */
  origin: 64,
} as const;

const { declaration: DECLARATION, code: CODE, inline: INLINE, value: VALUE, origin: ORIGIN } = HAS;

/** Forms whose size does not depend on the value: by offset size; -1 for all others. References of DWARF 2 are in `fixedSize`. */
const FIXED: Readonly<Record<4 | 8, Int8Array>> = { 4: sizesOfForms(4), 8: sizesOfForms(8) };
const FIXED4 = FIXED[4];

function sizesOfForms(offsetSize: 4 | 8): Int8Array {
  const sizes = new Int8Array(0x2d).fill(-1);
  for (const [form, size] of [
    [DW_FORM.addr, 8],
    [DW_FORM.data1, 1],
    [DW_FORM.data2, 2],
    [DW_FORM.data4, 4],
    [DW_FORM.data8, 8],
    [DW_FORM.data16, 16],
    [DW_FORM.flag, 1],
    [DW_FORM.flag_present, 0],
    [DW_FORM.implicit_const, 0],
    [DW_FORM.ref1, 1],
    [DW_FORM.ref2, 2],
    [DW_FORM.ref4, 4],
    [DW_FORM.ref8, 8],
    [DW_FORM.ref_sup4, 4],
    [DW_FORM.ref_sup8, 8],
    [DW_FORM.ref_sig8, 8],
    [DW_FORM.strx1, 1],
    [DW_FORM.strx2, 2],
    [DW_FORM.strx3, 3],
    [DW_FORM.strx4, 4],
    [DW_FORM.addrx1, 1],
    [DW_FORM.addrx2, 2],
    [DW_FORM.addrx3, 3],
    [DW_FORM.addrx4, 4],
    [DW_FORM.ref_addr, offsetSize],
    [DW_FORM.strp, offsetSize],
    [DW_FORM.sec_offset, offsetSize],
    [DW_FORM.line_strp, offsetSize],
    [DW_FORM.strp_sup, offsetSize],
  ])
    sizes[form] = size;
  return sizes;
}

/** What the size of a form depends on. */
export interface Encoding {
  readonly version: number;
  readonly offsetSize: 4 | 8;
  readonly addressSize: number;
}

/** Bytes that a value of `form` has in every DIE of a unit, -1 when that depends on the value. Addresses have 8. */
export function fixedSize(form: number, encoding: Encoding): number {
  if (form < 0x2d) {
    // DW_FORM_ref_addr was as large as an address once.
    if (form === 0x10 && encoding.version === 2) return encoding.addressSize;
    return encoding.offsetSize === 4 ? FIXED4[form] : FIXED[8][form];
  }
  return form === DW_FORM.GNU_ref_alt || form === DW_FORM.GNU_strp_alt ? encoding.offsetSize : -1;
}

/**
 * Where the value of `form` that starts at `at` ends. Bytes outside `bytes` count as zero: the caller compares the result with the
 * end of the unit. Throws DwarfError (for `where`, `base`) for a form that is not known.
 */
export function skipForm(form: number, bytes: Uint8Array, at: number, encoding: Encoding, where: string, base: number): number {
  const fixed = fixedSize(form, encoding);
  if (fixed >= 0) return at + fixed;
  // Numbers, not names: this runs mostly before it is optimized, and then a switch on numbers is a jump.
  switch (form) {
    case 0x08: {
      // DW_FORM_string
      const end = bytes.indexOf(0, at);
      return end < 0 ? bytes.length + 1 : end + 1;
    }
    case 0x0d: // DW_FORM_sdata
    case 0x0f: // DW_FORM_udata
    case 0x15: // DW_FORM_ref_udata
    case 0x1a: // DW_FORM_strx
    case 0x1b: // DW_FORM_addrx
    case 0x22: // DW_FORM_loclistx
    case 0x23: // DW_FORM_rnglistx
    case 0x1f01: // DW_FORM_GNU_addr_index
    case 0x1f02: // DW_FORM_GNU_str_index
      while (bytes[at] >= 0x80) at++;
      return at + 1;
    case 0x0a: // DW_FORM_block1
      return at + 1 + bytes[at];
    case 0x03: // DW_FORM_block2
      return at + 2 + (bytes[at] | (bytes[at + 1] << 8));
    case 0x04: // DW_FORM_block4
      return at + 4 + ((bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0);
    case 0x09: // DW_FORM_block
    case 0x18: {
      // DW_FORM_exprloc
      let length = 0;
      let scale = 1;
      for (;;) {
        const byte = bytes[at++];
        length += (byte & 0x7f) * scale;
        if (!(byte >= 0x80) || at > bytes.length) break;
        scale *= 128;
      }
      return at + length;
    }
    case 0x16: {
      // DW_FORM_indirect
      const start = at;
      let inner = 0;
      let shift = 0;
      for (;;) {
        const byte = bytes[at++];
        inner |= (byte & 0x7f) << shift;
        if (!(byte >= 0x80) || shift > 14) break;
        shift += 7;
      }
      if (inner === DW_FORM.indirect || inner === DW_FORM.implicit_const)
        throw wrong(where, base + start, `${formName(inner)} inside DW_FORM_indirect`);
      return skipForm(inner, bytes, at, encoding, where, base);
    }
    default:
      throw wrong(where, base + at, `an attribute of ${formName(form)}, which is not known`);
  }
}

export class AbbreviationTable {
  /** One more than the highest code. */
  limit = 1;
  /** There is only one abbreviation, and it is at 1 whatever its code is. */
  single = false;
  tags: Uint16Array;
  /** Bits of HAS. */
  flags: Uint8Array;
  /** Size of all attribute values, -1 when it depends on them. */
  sizes: Int32Array;
  /** Offsets of these attributes after the code, -1 when there is none at a fixed offset. Siblings of form ref4 only. */
  siblings: Int32Array;
  names: Int32Array;
  byteSizes: Int32Array;
  /** Forms of the name and the byte size, 0 when there is none. */
  nameForms: Uint16Array;
  byteSizeForms: Uint16Array;
  /** Attribute specifications of a code: [starts[code], ends[code]) in the three arrays below. */
  starts: Int32Array;
  ends: Int32Array;
  attributes: Uint16Array;
  forms: Uint16Array;
  /** Of DW_FORM_implicit_const. */
  constants: Float64Array;
  encoding: Encoding = { version: 5, offsetSize: 4, addressSize: 8 };

  /** An empty table with room for `codes` abbreviations before its arrays have to grow. */
  constructor(codes = 256) {
    this.tags = new Uint16Array(codes);
    this.flags = new Uint8Array(codes);
    this.sizes = new Int32Array(codes);
    this.siblings = new Int32Array(codes);
    this.names = new Int32Array(codes);
    this.byteSizes = new Int32Array(codes);
    this.nameForms = new Uint16Array(codes);
    this.byteSizeForms = new Uint16Array(codes);
    this.starts = new Int32Array(codes);
    this.ends = new Int32Array(codes);
    this.attributes = new Uint16Array(codes * 4);
    this.forms = new Uint16Array(codes * 4);
    this.constants = new Float64Array(codes * 4);
  }

  /**
   * Fills this table with the one at `at` of `bytes`, whose first byte is at `base` of the section. Arrays are used again: one
   * table does for a pass over a whole file. With `only`, takes that code alone. Throws DwarfError.
   */
  parse(bytes: Uint8Array, at: number, where: string, base: number, encoding: Encoding, only = 0): this {
    this.encoding = encoding;
    this.flags.fill(0, 0, this.limit);
    this.limit = 1;
    this.single = only !== 0;
    const start = at;
    let specs = 0;
    const number = (): number => {
      let byte = bytes[at++];
      if (byte < 0x80) return byte;
      let value = byte & 0x7f;
      for (let scale = 128; scale < 2 ** 42; scale *= 128) {
        byte = bytes[at++];
        value += (byte & 0x7f) * scale;
        if (byte < 0x80) return value;
      }
      throw wrong(where, base + start, 'an abbreviation table that is cut off or has a number that is too large');
    };
    for (;;) {
      if (at >= bytes.length) throw wrong(where, base + start, 'an abbreviation table without an end');
      let code = number();
      if (code === 0) break;
      if (code > MAX_CODE) throw wrong(where, base + at, `abbreviation code ${code}, more than ${MAX_CODE}`);
      const tag = number();
      if (only !== 0 && code !== only) {
        at++;
        for (;;) {
          const attribute = number();
          const form = number();
          if (form === DW_FORM.implicit_const) while (bytes[at++] >= 0x80);
          if (attribute === 0 && form === 0) break;
        }
        continue;
      }
      if (only !== 0) code = 1;
      let flags: number = HAS.defined | (bytes[at++] ? HAS.children : 0);
      let size = 0;
      let sibling = -1;
      let name = -1;
      let nameForm = 0;
      let byteSize = -1;
      let byteSizeForm = 0;
      const first = specs;
      for (;;) {
        const attribute = number();
        const form = number();
        let constant = 0;
        if (form === 0x21) {
          // DW_FORM_implicit_const
          // DWARF 5 §7.5.3: the value, a signed LEB128 number, is here.
          let scale = 1;
          for (;;) {
            const byte = bytes[at++];
            constant += (byte & 0x7f) * scale;
            scale *= 128;
            if (byte < 0x80) {
              if (byte & 0x40) constant -= scale;
              break;
            }
            if (!(scale < 2 ** 77)) throw wrong(where, base + at, 'a LEB128 number that is too large');
          }
        }
        if (attribute === 0 && form === 0) break;
        if (at > bytes.length) throw wrong(where, base + start, 'an abbreviation table without an end');
        if (specs === this.attributes.length) this.#growSpecs(where, base + at);
        this.attributes[specs] = attribute;
        this.forms[specs] = form;
        this.constants[specs] = constant;
        specs++;
        switch (attribute) {
          case 0x01: // DW_AT_sibling
            if (form === 0x13) sibling = size; // DW_FORM_ref4
            break;
          case 0x03: // DW_AT_name
            nameForm = form;
            name = size;
            break;
          case 0x0b: // DW_AT_byte_size
            byteSizeForm = form;
            byteSize = size;
            break;
          case 0x3c: // DW_AT_declaration
            flags |= DECLARATION;
            break;
          case 0x11: // DW_AT_low_pc
          case 0x55: // DW_AT_ranges
            flags |= CODE;
            break;
          case 0x20: // DW_AT_inline
            flags |= INLINE;
            break;
          case 0x02: // DW_AT_location
          case 0x1c: // DW_AT_const_value
            flags |= VALUE;
            break;
          case 0x47: // DW_AT_specification
          case 0x31: // DW_AT_abstract_origin
            flags |= ORIGIN;
            break;
        }
        if (size >= 0) {
          const width = fixedSize(form, encoding);
          size = width < 0 ? -1 : size + width;
        }
      }
      if (code >= this.tags.length) this.#growCodes(code);
      // Codes between that nobody defines keep flags of 0.
      if (code >= this.limit) {
        this.flags.fill(0, this.limit, code);
        this.limit = code + 1;
      }
      this.tags[code] = tag;
      this.flags[code] = flags;
      this.sizes[code] = size;
      this.siblings[code] = sibling;
      this.names[code] = name;
      this.nameForms[code] = nameForm;
      this.byteSizes[code] = byteSize;
      this.byteSizeForms[code] = byteSizeForm;
      this.starts[code] = first;
      this.ends[code] = specs;
      if (only !== 0) break;
    }
    return this;
  }

  /** Bytes that this table occupies, about. */
  get weight(): number {
    return this.tags.length * 31 + this.attributes.length * 12;
  }

  #growCodes(code: number): void {
    const length = Math.max(code + 1, this.tags.length * 2);
    const grow = <T extends Uint8Array | Uint16Array | Int32Array>(from: T, to: T): T => {
      to.set(from);
      return to;
    };
    this.tags = grow(this.tags, new Uint16Array(length));
    this.flags = grow(this.flags, new Uint8Array(length));
    this.nameForms = grow(this.nameForms, new Uint16Array(length));
    this.byteSizeForms = grow(this.byteSizeForms, new Uint16Array(length));
    this.sizes = grow(this.sizes, new Int32Array(length));
    this.siblings = grow(this.siblings, new Int32Array(length));
    this.names = grow(this.names, new Int32Array(length));
    this.byteSizes = grow(this.byteSizes, new Int32Array(length));
    this.starts = grow(this.starts, new Int32Array(length));
    this.ends = grow(this.ends, new Int32Array(length));
  }

  #growSpecs(where: string, offset: number): void {
    const length = this.attributes.length * 2;
    if (length > MAX_SPECS) throw wrong(where, offset, `an abbreviation table of more than ${MAX_SPECS} attributes`);
    const attributes = new Uint16Array(length);
    attributes.set(this.attributes);
    const forms = new Uint16Array(length);
    forms.set(this.forms);
    const constants = new Float64Array(length);
    constants.set(this.constants);
    this.attributes = attributes;
    this.forms = forms;
    this.constants = constants;
  }
}
