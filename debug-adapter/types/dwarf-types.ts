/** C types, constants and variables from DWARF: of the kernel's file, or of a module's. */
import { withoutDamage } from '../symbols/byte-source.ts';
import { DW_AT, DW_TAG } from '../symbols/dwarf/constants.ts';
import { type DebugInfo, KIND } from '../symbols/dwarf/debug-info.ts';
import type { Die } from '../symbols/dwarf/die.ts';
import { compute, locate, type Surroundings } from '../symbols/dwarf/location.ts';
import type { LoadedSymbols } from '../symbols/loaded.ts';
import type { Constant, SourceLocation, Tag, TypeSource, VariableType } from './catalog.ts';
import {
  arrayOf,
  compound,
  type Enumerator,
  enumeration,
  functionType,
  type Member,
  type Parameter,
  plain,
  pointerTo,
  qualified,
  type Type,
  type Variants,
  toldBaseType,
  typedef,
  VOID,
} from './model.ts';

const TAG_KINDS: Readonly<Record<Tag, number>> = {
  struct: KIND.struct,
  union: KIND.union,
  enum: KIND.enum,
  typedef: KIND.typedef,
};

/** Encodings of base types (DWARF 5 §7.8, table 7.11). */
const ATE = { BOOLEAN: 2, COMPLEX_FLOAT: 3, FLOAT: 4, SIGNED: 5, SIGNED_CHAR: 6 };

/** Where nothing is known but the file: for expressions of members and of variables outside functions. */
const nowhere = (address: (linked: bigint) => bigint | undefined): Surroundings => ({
  register: () => undefined,
  read: () => undefined,
  address,
  frameBase: () => undefined,
  cfa: () => undefined,
  entryValue: () => undefined,
  threadLocal: () => undefined,
});

const big = (value: ReturnType<Die['attr']>): bigint | undefined =>
  typeof value === 'bigint' ? value : typeof value === 'number' ? BigInt(value) : undefined;

/** Alternatives of one type that are looked at. */
const MAX_VARIANTS = 1 << 12;

export class DwarfTypes implements TypeSource {
  readonly loaded: LoadedSymbols;
  /** Types by DIE: one map per file, since debug information may be shared by several. */
  readonly #types = new Map<unknown, Map<number, Type>>();

  constructor(loaded: LoadedSymbols) {
    this.loaded = loaded;
  }

  get module(): string | undefined {
    return this.loaded.module;
  }
  get #info(): DebugInfo {
    return this.loaded.info;
  }

  /** The type that a DIE describes; void for none, and for what is damaged. */
  type(die: Die | undefined): Type {
    if (!die) return VOID;
    const { file, section } = die.unit;
    let known = this.#types.get(file);
    if (!known) {
      known = new Map();
      this.#types.set(file, known);
    }
    // Offsets in .debug_types are another space.
    const key = section === 'info' ? die.offset : -1 - die.offset;
    let type = known.get(key);
    if (!type) {
      type = withoutDamage(() => this.#make(die), VOID);
      known.set(key, type);
    }
    return type;
  }

  #target(die: Die): () => Type {
    return () => withoutDamage(() => this.type(die.type()), VOID);
  }

  #make(die: Die): Type {
    const name = die.name;
    const size = die.number(DW_AT.byte_size) ?? 0;
    switch (die.tag) {
      case DW_TAG.base_type: {
        const encoding = die.number(DW_AT.encoding) ?? 0;
        const signed = encoding === ATE.SIGNED || encoding === ATE.SIGNED_CHAR;
        if (encoding === ATE.FLOAT || encoding === ATE.COMPLEX_FLOAT) return toldBaseType(name ?? 'float', size, 'float', true);
        const what = encoding === ATE.BOOLEAN ? 'boolean' : name === 'char' ? 'character' : 'integer';
        return toldBaseType(name ?? `${signed ? 'signed' : 'unsigned'} integer`, legal(size), what, signed);
      }
      case DW_TAG.pointer_type:
      case DW_TAG.reference_type:
        return pointerTo(this.#target(die));
      case DW_TAG.structure_type:
      case DW_TAG.class_type:
      case DW_TAG.union_type: {
        const kind = die.tag === DW_TAG.union_type ? 'union' : 'struct';
        if (die.flag(DW_AT.declaration)) {
          const whole = die.reference(DW_AT.signature);
          return whole ? this.type(whole) : { kind, name, size: 0, members: [], incomplete: true };
        }
        return compound(kind, name, size, () => withoutDamage(() => this.#members(die), []));
      }
      case DW_TAG.array_type:
        return this.#array(die);
      case DW_TAG.enumeration_type: {
        const under = plain(this.type(die.reference(DW_AT.type)));
        const values = withoutDamage(() => this.#enumerators(die), []);
        const signed = under.kind === 'base' ? under.signed : values.some((v) => v.value < 0n);
        return enumeration(name, legal(size || (under.kind === 'base' ? under.size : 4)), signed, () => values);
      }
      case DW_TAG.typedef:
        return typedef(name ?? '', this.#target(die));
      case DW_TAG.const_type:
        return qualified('const', this.#target(die));
      case DW_TAG.volatile_type:
        return qualified('volatile', this.#target(die));
      case DW_TAG.restrict_type:
        return qualified('restrict', this.#target(die));
      case DW_TAG.atomic_type:
        return qualified('atomic', this.#target(die));
      case DW_TAG.subroutine_type:
      case DW_TAG.subprogram: {
        const children = () => withoutDamage(() => [...(die.holder(DW_AT.name) ?? die).children()], []);
        const parameters = () =>
          children()
            .filter((c) => c.tag === DW_TAG.formal_parameter)
            .map((c): Parameter => ({ name: c.name, type: this.type(c.type()) }));
        const variadic = children().some((c) => c.tag === DW_TAG.unspecified_parameters);
        return functionType(this.#target(die), parameters, variadic);
      }
      default:
        return VOID;
    }
  }

  #enumerators(die: Die): Enumerator[] {
    const out: Enumerator[] = [];
    for (const child of die.children()) {
      const value = big(child.attr(DW_AT.const_value));
      if (child.name !== undefined && value !== undefined) out.push({ name: child.name, value });
    }
    return out;
  }

  /** Dimensions are children, the outermost first (DWARF 5 §5.5). */
  #array(die: Die): Type {
    const counts: (number | undefined)[] = [];
    for (const child of die.children()) {
      if (child.tag !== DW_TAG.subrange_type) continue;
      const count = big(child.attr(DW_AT.count));
      const upper = big(child.attr(DW_AT.upper_bound));
      const told = count ?? (upper === undefined ? undefined : BigInt.asIntN(64, upper) + 1n);
      counts.push(told === undefined || told <= 0n || told > 1n << 48n ? undefined : Number(told));
    }
    let type: Type | (() => Type) = this.#target(die);
    for (const count of counts.reverse()) type = arrayOf(type, count);
    return typeof type === 'function' ? arrayOf(type, undefined) : type;
  }

  #members(die: Die): Member[] | { members: Member[]; variants: Variants } {
    const members: Member[] = [];
    let variants: Variants | undefined;
    for (const child of die.children()) {
      if (child.tag === DW_TAG.variant_part && !variants) {
        variants = this.#variants(child);
        members.push(...variants.of.map((v) => v.member));
      } else if (child.tag === DW_TAG.member && !child.flag(DW_AT.external)) members.push(this.#member(child));
    }
    return variants ? { members, variants } : members;
  }

  #member(die: Die): Member {
    return { name: die.name ?? '', type: this.type(die.type()), ...this.#place(die) };
  }

  /** DWARF 5 §5.7.10. */
  #variants(part: Die): Variants {
    const of: Variants['of'][number][] = [];
    for (const variant of part.children()) {
      if (variant.tag !== DW_TAG.variant || of.length >= MAX_VARIANTS) continue;
      const value = big(variant.attr(DW_AT.discr_value));
      for (const child of variant.children())
        if (child.tag === DW_TAG.member)
          of.push({ member: this.#member(child), ...(value === undefined ? {} : { values: [[value, value]] }) });
    }
    const told = part.reference(DW_AT.discr);
    return { of, ...(told ? { discriminant: this.#member(told) } : {}) };
  }

  /** Where a member is in its struct (DWARF 5 §5.7.6; DW_AT_bit_offset as DWARF 3 had it). */
  #place(die: Die): Pick<Member, 'offset' | 'bits'> {
    const expression = die.block(DW_AT.data_member_location);
    const told = expression
      ? compute(
          expression,
          die.unit,
          nowhere(() => undefined),
          0n,
        )
      : undefined;
    const offset = told === undefined ? (die.number(DW_AT.data_member_location) ?? 0) : Number(told);
    const size = die.number(DW_AT.bit_size);
    if (size === undefined) return { offset };
    const bit = die.number(DW_AT.data_bit_offset);
    const old = die.number(DW_AT.bit_offset);
    const bytes = die.number(DW_AT.byte_size) ?? die.type()?.number(DW_AT.byte_size) ?? 4;
    const at = bit ?? offset * 8 + (old === undefined ? 0 : bytes * 8 - old - size);
    return { offset: Math.floor(at / 8), bits: { at: at % 8, size } };
  }

  find(tag: Tag, name: string): Type | undefined {
    const die = withoutDamage(() => this.#info.type(name, [TAG_KINDS[tag]]), undefined);
    return die && this.type(die);
  }

  constant(name: string): Constant | undefined {
    return withoutDamage((): Constant | undefined => {
      const [die] = this.#info.lookup(name, [KIND.enumerator]);
      const value = big(die?.attr(DW_AT.const_value));
      return die && value !== undefined ? { type: this.type(die.parent()), value } : undefined;
    }, undefined);
  }

  variable(name: string, file?: string): VariableType | undefined {
    return withoutDamage((): VariableType | undefined => {
      const all = this.#info.lookup(name, [KIND.variable]);
      const fits = (die: Die): boolean =>
        file === undefined || endsWith(this.#info.declaration(die)?.path ?? '', file) || endsWith(die.unit.name, file);
      // A global one before a static one of some file.
      const wanted = all.filter(fits).sort((a, b) => Number(isGlobal(b)) - Number(isGlobal(a)));
      for (const die of wanted) {
        const found = this.variableOf(die);
        if (found) return found;
      }
      return undefined;
    }, undefined);
  }

  /** A variable with one address for its whole life; undefined for what has none, or none in this guest. Throws SymbolFileError. */
  variableOf(die: Die): VariableType | undefined {
    const expression = die.block(DW_AT.location) ?? die.holder(DW_AT.location)?.block(DW_AT.location);
    if (!expression) return undefined;
    let linked: bigint | undefined;
    const address = (value: bigint): bigint | undefined => {
      linked = value;
      return this.loaded.toGuest(value)[0];
    };
    const at = locate(expression, die.unit, nowhere(address));
    if (at.kind !== 'memory' || linked === undefined) return undefined;
    const declaration = this.declaration(die);
    const perCpu = this.#perCpuOffset(linked);
    return {
      type: this.type(die.type()),
      address: at.address,
      ...(perCpu === undefined ? {} : { perCpuOffset: perCpu }),
      ...(declaration ? { declaration } : {}),
    };
  }

  /** Offset of a link-time address in the per-CPU section, undefined when it is not in it. */
  #perCpuOffset(linked: bigint): number | undefined {
    const { elf } = this.#info;
    const section = elf.section('.data..percpu');
    const from = section && elf.sectionPlace(elf.sections.indexOf(section));
    if (section === undefined || from === undefined) return undefined;
    const offset = elf.place(linked) - from;
    return offset >= 0 && offset < section.size ? offset : undefined;
  }

  declaration(die: Die): SourceLocation | undefined {
    const found = withoutDamage(() => this.#info.declaration(die), undefined);
    return found && found.path !== '' ? { file: found.path, line: found.line } : undefined;
  }

  functionType(name: string): Type | undefined {
    const die = withoutDamage(() => this.#info.lookup(name, [KIND.function, KIND.inline])[0], undefined);
    return die && this.type(die);
  }

  complete(tag: Tag | 'variable' | 'constant', prefix: string, limit: number): string[] {
    const kind = tag === 'variable' ? KIND.variable : tag === 'constant' ? KIND.enumerator : TAG_KINDS[tag];
    return this.#info.namesWith(prefix, [kind], limit);
  }

  /** Variables outside functions of source files whose path ends like this, that start with `prefix`. */
  variablesIn(file: string, prefix: string, limit: number): string[] {
    return withoutDamage(() => {
      const out = new Set<string>();
      for (const unit of this.#info.unitsOf(file))
        for (const die of unit.root.children()) {
          if (out.size >= limit) return [...out];
          if (die.tag !== DW_TAG.variable || die.flag(DW_AT.declaration)) continue;
          const { name } = die;
          if (name?.startsWith(prefix)) out.add(name);
        }
      return [...out];
    }, []);
  }
}

/** A path ends in these parts: `core.c` and `sched/core.c` fit `kernel/sched/core.c`. */
const endsWith = (path: string, end: string): boolean => path === end || path.endsWith(`/${end}`);

const isGlobal = (die: Die): boolean => die.holder(DW_AT.external)?.flag(DW_AT.external) ?? false;

/** A size that C's scalars can have. */
const legal = (size: number): number => (size === 1 || size === 2 || size === 4 || size === 16 ? size : 8);
