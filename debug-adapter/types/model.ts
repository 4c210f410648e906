/**
 * C types of an LP64 arm64 kernel, wherever they come from (BTF, DWARF, or written in an expression). Parts are lazy: a
 * struct knows its members when somebody asks. All of it may come from a guest: sizes are what was said, and walks are bounded.
 */

export interface VoidType {
  readonly kind: 'void';
}
/** Numbers, characters and booleans. */
export interface BaseType {
  readonly kind: 'base';
  readonly name: string;
  /** Bytes: 1, 2, 4, 8 or 16. */
  readonly size: number;
  readonly encoding: 'integer' | 'character' | 'boolean' | 'float';
  readonly signed: boolean;
}
export interface PointerType {
  readonly kind: 'pointer';
  readonly to: Type;
  /** An address of which nobody said what it points to: counted in bytes, and `*` reads an unsigned long. */
  readonly untyped?: boolean;
}
export interface Member {
  /** Empty for an anonymous struct or union. */
  readonly name: string;
  readonly type: Type;
  /** Bytes from the start of the struct; of a bit-field: of the byte that its lowest bit is in. */
  readonly offset: number;
  /** Of a bit-field: lowest bit, counted in that byte, and number of bits. */
  readonly bits?: BitField;
}
export interface BitField {
  readonly at: number;
  readonly size: number;
}
/** Alternatives of a structure of which a number in it tells the one that is there: enumerations of Rust. */
export interface Variants {
  /** The number; left out: there is only one alternative. */
  readonly discriminant?: Member;
  /** Members of the structure by what the number is; without values: the one for all other numbers. */
  readonly of: readonly { readonly values?: readonly (readonly [from: bigint, to: bigint])[]; readonly member: Member }[];
}
export interface CompoundType {
  readonly kind: 'struct' | 'union';
  /** Undefined for one that is only declared together with a member or typedef. */
  readonly name: string | undefined;
  readonly size: number;
  readonly members: readonly Member[];
  /** Declared, but its members are not told here. */
  readonly incomplete?: boolean;
  /** Which of the members are alternatives. */
  readonly variants?: Variants;
}
export interface ArrayType {
  readonly kind: 'array';
  readonly element: Type;
  /** Undefined for a flexible array. */
  readonly count: number | undefined;
}
export interface Enumerator {
  readonly name: string;
  readonly value: bigint;
}
export interface EnumType {
  readonly kind: 'enum';
  readonly name: string | undefined;
  readonly size: number;
  readonly signed: boolean;
  readonly values: readonly Enumerator[];
}
export interface TypedefType {
  readonly kind: 'typedef';
  readonly name: string;
  readonly to: Type;
}
export interface QualifiedType {
  readonly kind: 'const' | 'volatile' | 'restrict' | 'atomic';
  readonly to: Type;
}
export interface Parameter {
  readonly name: string | undefined;
  readonly type: Type;
}
export interface FunctionType {
  readonly kind: 'function';
  readonly result: Type;
  readonly parameters: readonly Parameter[];
  readonly variadic: boolean;
}
export type Type =
  | VoidType
  | BaseType
  | PointerType
  | CompoundType
  | ArrayType
  | EnumType
  | TypedefType
  | QualifiedType
  | FunctionType;

/** What a type is once typedefs and qualifiers are off. */
export type PlainType = Exclude<Type, TypedefType | QualifiedType>;

export const VOID: VoidType = { kind: 'void' };
export const POINTER_SIZE = 8;

/** Chains of typedefs and qualifiers, and nesting of arrays and anonymous members, at most. */
export const MAX_NESTING = 32;

function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

export function pointerTo(to: Type | (() => Type)): PointerType {
  if (typeof to !== 'function') return { kind: 'pointer', to };
  const get = once(to);
  return {
    kind: 'pointer',
    get to() {
      return get();
    },
  };
}

export function compound(
  kind: 'struct' | 'union',
  name: string | undefined,
  size: number,
  members: () => readonly Member[] | { readonly members: readonly Member[]; readonly variants: Variants },
): CompoundType {
  const get = once(() => {
    const made = members();
    return 'variants' in made ? made : { members: made, variants: undefined };
  });
  return {
    kind,
    name,
    size,
    get members() {
      return get().members;
    },
    get variants() {
      return get().variants;
    },
  };
}

export function arrayOf(element: Type | (() => Type), count: number | undefined): ArrayType {
  if (typeof element !== 'function') return { kind: 'array', element, count };
  const get = once(element);
  return {
    kind: 'array',
    get element() {
      return get();
    },
    count,
  };
}

export function enumeration(
  name: string | undefined,
  size: number,
  signed: boolean,
  values: () => readonly Enumerator[],
): EnumType {
  const get = once(values);
  return {
    kind: 'enum',
    name,
    size,
    signed,
    get values() {
      return get();
    },
  };
}

export function typedef(name: string, to: () => Type): TypedefType {
  const get = once(to);
  return {
    kind: 'typedef',
    name,
    get to() {
      return get();
    },
  };
}

export function qualified(kind: QualifiedType['kind'], to: Type | (() => Type)): QualifiedType {
  if (typeof to !== 'function') return { kind, to };
  const get = once(to);
  return {
    kind,
    get to() {
      return get();
    },
  };
}

export function functionType(result: () => Type, parameters: () => readonly Parameter[], variadic: boolean): FunctionType {
  const getResult = once(result);
  const getParameters = once(parameters);
  return {
    kind: 'function',
    get result() {
      return getResult();
    },
    get parameters() {
      return getParameters();
    },
    variadic,
  };
}

const integer = (name: string, size: number, signed: boolean): BaseType => ({
  kind: 'base',
  name,
  size,
  encoding: 'integer',
  signed,
});

/** C's own types for LP64; `char` is unsigned on arm64 (AAPCS64 "Arithmetic types"). */
export const CHAR: BaseType = { kind: 'base', name: 'char', size: 1, encoding: 'character', signed: false };
export const BOOL: BaseType = { kind: 'base', name: '_Bool', size: 1, encoding: 'boolean', signed: false };
export const INT = integer('int', 4, true);
export const UNSIGNED_INT = integer('unsigned int', 4, false);
export const LONG = integer('long', 8, true);
export const UNSIGNED_LONG = integer('unsigned long', 8, false);
export const LONG_LONG = integer('long long', 8, true);
export const UNSIGNED_LONG_LONG = integer('unsigned long long', 8, false);
export const INT128 = integer('__int128', 16, true);
export const UNSIGNED_INT128 = integer('unsigned __int128', 16, false);

/** Base types by their canonical names. */
export const BASE_TYPES: ReadonlyMap<string, BaseType> = new Map(
  [
    CHAR,
    integer('signed char', 1, true),
    integer('unsigned char', 1, false),
    integer('short', 2, true),
    integer('unsigned short', 2, false),
    INT,
    UNSIGNED_INT,
    LONG,
    UNSIGNED_LONG,
    LONG_LONG,
    UNSIGNED_LONG_LONG,
    INT128,
    UNSIGNED_INT128,
    BOOL,
    { kind: 'base', name: 'float', size: 4, encoding: 'float', signed: true } as const,
    { kind: 'base', name: 'double', size: 8, encoding: 'float', signed: true } as const,
    { kind: 'base', name: 'long double', size: 16, encoding: 'float', signed: true } as const,
  ].map((t) => [t.name, t]),
);

/** Words of C's base types that may stand in any order, and how often (C11 6.7.2). */
const WORDS: ReadonlySet<string> = new Set([
  'char',
  'short',
  'int',
  'long',
  'signed',
  'unsigned',
  'float',
  'double',
  '_Bool',
  'bool',
  '__int128',
  '__signed__',
  '__signed',
]);
export const isTypeWord = (word: string): boolean => WORDS.has(word) && word !== 'bool';

/** C's type of these words in any order: `long unsigned int` and `unsigned long` are one. Undefined when they make none. */
export function baseType(words: readonly string[]): BaseType | undefined {
  const count = (word: string) => words.filter((w) => w === word).length;
  if (words.length === 0 || !words.every((w) => WORDS.has(w))) return undefined;
  const signed = count('signed') + count('__signed__') + count('__signed');
  const unsigned = count('unsigned');
  const longs = count('long');
  if (signed + unsigned > 1 || longs > 2) return undefined;
  const rest = words.filter((w) => !/signed|^long$/.test(w));
  const kinds = rest.filter((w) => w !== 'int' || rest.length === 1);
  if (kinds.length > 1) return undefined;
  const what = kinds[0] ?? 'int';
  if (what === 'bool' || what === '_Bool') return words.length === 1 ? BOOL : undefined;
  if (longs > 0 && what !== 'int') return what === 'double' && longs === 1 ? BASE_TYPES.get('long double') : undefined;
  const name = longs === 2 ? 'long long' : longs === 1 ? 'long' : what;
  if (name === 'char') return BASE_TYPES.get(signed ? 'signed char' : unsigned ? 'unsigned char' : 'char');
  if (name === 'float' || name === 'double') return signed + unsigned === 0 ? BASE_TYPES.get(name) : undefined;
  return BASE_TYPES.get(unsigned ? `unsigned ${name}` : name);
}

/** A base type that debug information tells: C's own where its name and size are C's. */
export function toldBaseType(name: string, size: number, encoding: BaseType['encoding'], signed: boolean): BaseType {
  const own = baseType(name.split(' '));
  if (own && own.size === size && (own.signed === signed || own.encoding !== 'integer')) return own;
  return { kind: 'base', name, size, encoding, signed };
}

/** Typedefs that every kernel has (include/linux/types.h), for those without type information, and for bare-metal programs. */
export const WELL_KNOWN_TYPEDEFS: ReadonlyMap<string, TypedefType> = new Map(
  (
    [
      ['unsigned char', 'u8', '__u8', 'uint8_t'],
      ['unsigned short', 'u16', '__u16', 'uint16_t'],
      ['unsigned int', 'u32', '__u32', 'uint32_t'],
      ['unsigned long long', 'u64', '__u64', 'uint64_t'],
      ['signed char', 's8', '__s8', 'int8_t'],
      ['short', 's16', '__s16', 'int16_t'],
      ['int', 's32', '__s32', 'int32_t'],
      ['long long', 's64', '__s64', 'int64_t'],
      ['_Bool', 'bool'],
      ['unsigned long', 'size_t', 'uintptr_t'],
      ['long', 'ssize_t', 'intptr_t', 'ptrdiff_t'],
    ] as const
  ).flatMap(([base, ...names]) => names.map((name) => [name, typedef(name, () => BASE_TYPES.get(base) ?? INT)])),
);

/** An address that nobody gave a type: a symbol's, or the PC. */
export const ADDRESS: PointerType = { kind: 'pointer', to: UNSIGNED_LONG, untyped: true };

/** Typedefs and qualifiers off. A chain without an end is void. */
export function plain(type: Type): PlainType {
  for (let i = 0; i < MAX_NESTING; i++) {
    switch (type.kind) {
      case 'typedef':
      case 'const':
      case 'volatile':
      case 'restrict':
      case 'atomic':
        type = type.to;
        break;
      default:
        return type;
    }
  }
  return VOID;
}

/** Bytes of a type; a void, a function and a flexible array have 0 here (gcc counts 1 for the first two in arithmetic). */
export function sizeOf(type: Type, depth = 0): number {
  const t = plain(type);
  switch (t.kind) {
    case 'base':
    case 'struct':
    case 'union':
    case 'enum':
      return t.size;
    case 'pointer':
      return POINTER_SIZE;
    case 'array':
      return depth > MAX_NESTING ? 0 : sizeOf(t.element, depth + 1) * (t.count ?? 0);
    default:
      return 0;
  }
}

export interface Found {
  readonly type: Type;
  /** Bytes from the start of the outer struct. */
  readonly offset: number;
  readonly bits?: BitField;
  /** Name of the struct or union that declares it, if it has one: `list_head`. */
  readonly owner: string | undefined;
}

/** A member by name, those of anonymous structs and unions inside included (C11 6.7.2.1 p13). */
export function findMember(type: CompoundType, name: string, depth = 0): Found | undefined {
  for (const m of type.members) {
    if (m.name === name) return { type: m.type, offset: m.offset, bits: m.bits, owner: type.name };
    if (m.name !== '' || depth > MAX_NESTING) continue;
    const inner = plain(m.type);
    if (inner.kind !== 'struct' && inner.kind !== 'union') continue;
    const found = findMember(inner, name, depth + 1);
    if (found) return { ...found, offset: m.offset + found.offset, owner: found.owner ?? type.name };
  }
  return undefined;
}

/** Names that can stand after `.`. */
export function memberNames(type: CompoundType, depth = 0): string[] {
  return type.members.flatMap((m) => {
    if (m.name !== '') return [m.name];
    const inner = plain(m.type);
    return (inner.kind === 'struct' || inner.kind === 'union') && depth < MAX_NESTING ? memberNames(inner, depth + 1) : [];
  });
}

/** A type as C writes it: `struct task_struct *`, `char [16]`, `int (*)(void *)`. */
export function typeName(type: Type, declarator = '', depth = 0): string {
  const spaced = (base: string) => (declarator === '' ? base : `${base} ${declarator}`);
  if (depth > MAX_NESTING) return spaced('...');
  switch (type.kind) {
    case 'void':
      return spaced('void');
    case 'base':
    case 'typedef':
      return spaced(type.name);
    case 'struct':
    case 'union':
    case 'enum':
      return spaced(`${type.kind} ${type.name ?? '{...}'}`);
    case 'pointer': {
      if (type.untyped) return spaced('void *');
      const to = type.to;
      const wrap = to.kind === 'array' || to.kind === 'function';
      return typeName(to, wrap ? `(*${declarator})` : `*${declarator}`, depth + 1);
    }
    case 'const':
    case 'volatile':
    case 'restrict':
    case 'atomic': {
      const word = type.kind === 'atomic' ? '_Atomic' : type.kind;
      // `const` of an array of what is const already says nothing new.
      if (type.to.kind === 'array' && type.to.element.kind === type.kind) return typeName(type.to, declarator, depth + 1);
      // After the star for a pointer, before everything else.
      if (type.to.kind === 'pointer') return typeName(type.to, declarator === '' ? word : `${word} ${declarator}`, depth + 1);
      return `${word} ${typeName(type.to, declarator, depth + 1)}`;
    }
    case 'array':
      return typeName(type.element, `${declarator}[${type.count ?? ''}]`, depth + 1);
    case 'function': {
      const parameters = type.parameters.slice(0, 32).map((p) => typeName(p.type, '', depth + 1));
      if (type.variadic) parameters.push('...');
      return typeName(type.result, `${declarator}(${parameters.join(', ') || 'void'})`, depth + 1);
    }
  }
}

/** Two types that pointers may be subtracted of, or that mean the same to a reader. */
export function sameType(a: Type, b: Type): boolean {
  const x = plain(a);
  const y = plain(b);
  return x === y || (x.kind === y.kind && typeName(x) === typeName(y) && sizeOf(x) === sizeOf(y));
}
