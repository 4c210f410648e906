/**
 * Macros of units (DWARF 5 §6.3, and GNU's form of it for version 4): only there when the compiler was asked for them (-g3). A unit's list
 * refers to others, which are read once: what all units include is much.
 */
import { DW_AT } from './constants.ts';
import type { DwarfFile } from './file.ts';
import { Reader } from './reader.ts';
import type { Unit } from './unit.ts';

/** DW_MACRO_* (DWARF 5 §7.23). */
const OP = {
  end: 0,
  define: 1,
  undef: 2,
  start_file: 3,
  end_file: 4,
  define_strp: 5,
  undef_strp: 6,
  import: 7,
  define_sup: 8,
  undef_sup: 9,
  import_sup: 10,
  define_strx: 11,
  undef_strx: 12,
} as const;
/** Flags of the header: 8-byte offsets, the offset of a line table, a table of operands. */
const FLAG = { offset8: 1, line: 2, operands: 4 } as const;

const MAX_ENTRIES = 1 << 22;
const MAX_DEPTH = 64;
/** Lists that one question looks into. */
const MAX_LISTS = 1 << 14;

/** What a name is defined as. */
export interface Macro {
  /** Of one with parameters: `(a, b)`. */
  readonly parameters?: string;
  readonly text: string;
}

interface List {
  /** By name the last word on it, and its place in the list; without a macro: it is undefined there. */
  readonly names: Map<string, { readonly at: number; readonly macro?: Macro }>;
  readonly imports: { readonly at: number; readonly offset: number }[];
}

export class Macros {
  readonly #file: DwarfFile;
  readonly #lists = new Map<number, List>();
  #entries = 0;

  constructor(file: DwarfFile) {
    this.#file = file;
  }

  /** What `name` means at the end of a unit; undefined: it is no macro there, or nobody says. Throws DwarfError. */
  find(unit: Unit, name: string): Macro | undefined {
    const offset = unit.root.number(DW_AT.macros) ?? unit.root.number(DW_AT.GNU_macros);
    if (offset === undefined || !this.#file.source('macro')) return undefined;
    return this.#find(unit, offset, name, 0, { left: MAX_LISTS })?.macro;
  }

  #find(unit: Unit, offset: number, name: string, depth: number, lists: { left: number }): { macro?: Macro } | undefined {
    if (depth > MAX_DEPTH || --lists.left < 0) return undefined;
    const list = this.#list(unit, offset);
    const own = list.names.get(name);
    for (let i = list.imports.length - 1; i >= 0; i--) {
      const { at, offset: other } = list.imports[i];
      if (own && own.at > at) break;
      const found = this.#find(unit, other, name, depth + 1, lists);
      if (found) return found;
    }
    return own;
  }

  #list(unit: Unit, offset: number): List {
    const known = this.#lists.get(offset);
    if (known) return known;
    const list: List = { names: new Map(), imports: [] };
    // What is damaged is read once, too.
    this.#lists.set(offset, list);
    this.#read(unit, Reader.over(this.#file.need('macro'), offset), list);
    return list;
  }

  #read(unit: Unit, reader: Reader, list: List): void {
    const version = reader.u16();
    if (version !== 4 && version !== 5) throw reader.fail(`macros of version ${version}; 4 and 5 are known`);
    const flags = reader.u8();
    const size = flags & FLAG.offset8 ? 8 : 4;
    if (flags & FLAG.line) reader.word(size);
    if (flags & FLAG.operands) throw reader.fail('macros with operations of a vendor');
    for (let at = 0; ; at++) {
      if (++this.#entries > MAX_ENTRIES) throw reader.fail(`more than ${MAX_ENTRIES} macros`);
      const operation = reader.u8();
      switch (operation) {
        case OP.end:
          return;
        case OP.define:
        case OP.undef:
          reader.uleb();
          add(list, at, reader.cstring(), operation === OP.define);
          break;
        case OP.define_strp:
        case OP.undef_strp:
          reader.uleb();
          add(list, at, this.#file.string('str', reader.word(size)), operation === OP.define_strp);
          break;
        case OP.define_strx:
        case OP.undef_strx:
          reader.uleb();
          add(list, at, unit.indexedString(reader.uleb()), operation === OP.define_strx);
          break;
        case OP.start_file:
          reader.uleb();
          reader.uleb();
          break;
        case OP.end_file:
          break;
        case OP.import:
          list.imports.push({ at, offset: reader.word(size) });
          break;
        case OP.define_sup:
        case OP.undef_sup:
          reader.uleb();
          reader.word(size);
          break;
        case OP.import_sup:
          reader.word(size);
          break;
        default:
          throw reader.fail(`macro operation ${operation}, which is not known`);
      }
    }
  }
}

/** `NAME text`, `NAME(a,b) text`; of an undefinition `NAME`. */
function add(list: List, at: number, text: string, defined: boolean): void {
  const m = /^([A-Za-z_$][\w$]*)(\([^)]*\))?\s*([\s\S]*)$/.exec(text);
  if (!m) return;
  const macro = { ...(m[2] ? { parameters: m[2] } : {}), text: m[3].trim() };
  list.names.set(m[1], { at, ...(defined ? { macro } : {}) });
}
