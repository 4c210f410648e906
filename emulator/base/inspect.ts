/**
 * The inspect tree: everything of the machine that can be looked at, by name, and changed where that makes sense. A part declares
 * its subtree as one object of nodes; views, the Debug Console and tests walk it with the functions below, and nothing else has
 * to be written for a field that is to be shown, decoded, checked and set.
 *
 * A subtree is made when somebody asks and lives as long as the question: nodes may hold on to the state as it is now.
 */

export type Scalar = string | number | bigint | boolean;

/** What is there: a value that cannot be changed, a field, or a branch. Nodes that are `undefined` are left out; functions are opened when somebody looks. */
export type Node = Scalar | Uint8Array | Field | List | Group | Tree | readonly Node[] | (() => Node | undefined);
/** A branch with names. Those that are to be written in expressions are identifiers of C. */
export interface Tree {
  readonly [name: string]: Node | undefined;
}

/** What a field can hold, and how it is read. */
export interface FieldType {
  /** Smallest and largest value. */
  readonly min: bigint;
  readonly max: bigint;
  /** Values are multiples of this. */
  readonly step?: bigint;
  /** Names of values: no others can be set. */
  readonly names?: Readonly<Record<string, bigint>>;
  /** Parts of the value: highest and lowest bit, and what they hold. */
  readonly bits?: Readonly<Record<string, BitField>>;
  /** Shown in hexadecimal. */
  readonly hex?: boolean;
  /** The value for people, a line per fact. */
  readonly describe?: (value: bigint) => readonly string[];
}
export type BitField = readonly [high: number, low: number, type?: FieldType];

const max = (bits: number): bigint => (1n << BigInt(bits)) - 1n;
/** Unsigned numbers of so many bits. */
export const uint = (bits: number, more: Partial<FieldType> = {}): FieldType => ({ min: 0n, max: max(bits), ...more });
/** Registers: unsigned, shown in hexadecimal. */
export const register = (bits: number, more: Partial<FieldType> = {}): FieldType => uint(bits, { hex: true, ...more });
/** 0 and 1. */
export const FLAG: FieldType = { min: 0n, max: 1n, names: { false: 0n, true: 1n } };
/** One of some names, which stand for 0, 1, 2 ... */
export const choice = (...names: string[]): FieldType => ({
  min: 0n,
  max: BigInt(names.length - 1),
  names: Object.fromEntries(names.map((name, n) => [name, BigInt(n)])),
});
/** A set of flags: names by bit number. */
export const flags = (bits: number, names: Readonly<Record<string, number>>): FieldType =>
  register(bits, { bits: Object.fromEntries(Object.entries(names).map(([name, bit]) => [name, [bit, bit, FLAG]])) });

/** Why a value was not taken; nothing: it was. */
export type Refusal = string | undefined;
/** Takes a value; text that it returns says why not. */
export type Setter = (value: bigint) => unknown;

export class Field {
  readonly type: FieldType;
  readonly get: () => Scalar;
  /** Left out: the field can only be read. Gets values of the type only. */
  readonly set?: Setter;

  constructor(type: FieldType, get: () => Scalar, set?: Setter) {
    this.type = type;
    this.get = get;
    if (set) this.set = set;
  }

  /** The value as a number; undefined for text that is no name of the type. */
  get number(): bigint | undefined {
    const value = this.get();
    if (typeof value === 'string') return this.type.names?.[value];
    return typeof value === 'number' ? BigInt(Math.trunc(value)) : BigInt(value);
  }
}

/** Elements with numbers from `first` on. */
export class List {
  readonly first: number;
  readonly count: number;
  readonly at: (index: number) => Node;
  readonly summary: (() => string) | undefined;

  constructor(count: number, at: (index: number) => Node, options: { first?: number; summary?: () => string } = {}) {
    this.count = count;
    this.at = at;
    this.first = options.first ?? 0;
    this.summary = options.summary;
  }
}

/** A branch that says in a few words what is in it. */
export class Group {
  readonly summary: () => string;
  readonly tree: () => Tree;

  constructor(summary: () => string, tree: () => Tree) {
    this.summary = summary;
    this.tree = tree;
  }
}

// --- declaring ------------------------------------------------------------------------------------------------------------------

/** A field that is computed, and set by a function if one is given. */
export const field = (type: FieldType, get: () => Scalar, set?: Setter): Field => new Field(type, get, set);

/** A property of plain state that can be changed; `after` does what its part does when the guest changes it. */
export function held<S extends object, K extends keyof S>(state: S, key: K, type: FieldType, after?: () => void): Field {
  const get = (): Scalar => state[key] as Scalar;
  return new Field(type, get, (value) => {
    const now = get();
    const name = (): string => Object.entries(type.names ?? {}).find(([, n]) => n === value)?.[0] ?? '';
    const next: Scalar =
      typeof now === 'bigint'
        ? value
        : typeof now === 'boolean'
          ? value !== 0n
          : typeof now === 'string'
            ? name()
            : Number(value);
    state[key] = next as S[K];
    after?.();
  });
}

/** Bit `n` of an array of 32-bit words that can be changed. */
export const bit = (words: Uint32Array, n: number, after?: () => void): Field =>
  new Field(
    FLAG,
    () => ((words[n >>> 5] >>> (n & 31)) & 1) === 1,
    (value) => {
      const mask = 1 << (n & 31);
      words[n >>> 5] = value ? words[n >>> 5] | mask : words[n >>> 5] & ~mask;
      after?.();
    },
  );

/** Where a layout is in memory. `changed` is told before bytes are written. */
export interface Place {
  readonly view: DataView;
  readonly at: number;
  readonly changed: (at: number, size: number) => void;
}

/** The numbers of a binary layout as fields that can be changed where they are; the rest as it is. Reserved fields are left out. */
export function fieldsOf(
  layout: { readonly field: Readonly<Record<string, unknown>> },
  { view, at, changed }: Place,
  types: Readonly<Record<string, FieldType>> = {},
): Tree {
  const out: Record<string, Node> = {};
  for (const [name, part] of Object.entries(layout.field) as [string, StructField][]) {
    if (/^(Reserved|Padding|Rsvd)/.test(name)) continue;
    const where = at + part.offset;
    const now = part.get(view, where);
    if (typeof now !== 'number' && typeof now !== 'bigint') {
      if (typeof now === 'string' || now instanceof Uint8Array) out[name] = now;
      continue;
    }
    out[name] = new Field(
      types[name] ?? uint(part.size * 8),
      () => part.get(view, where) as number | bigint,
      (value) => {
        changed(where, part.size);
        part.set(view, where, typeof now === 'bigint' ? value : Number(value));
      },
    );
  }
  return out;
}

interface StructField {
  readonly offset: number;
  readonly size: number;
  get(view: DataView, at: number): unknown;
  set(view: DataView, at: number, value: unknown): void;
}

// --- walking --------------------------------------------------------------------------------------------------------------------

type Opened = Exclude<Node, () => unknown>;
const open = (node: Node | undefined): Opened | undefined => {
  let at = node;
  while (typeof at === 'function') at = at();
  return at;
};

/** A node as a list; undefined: it is none. */
export const listOf = (node: Opened): List | undefined =>
  node instanceof List
    ? node
    : Array.isArray(node)
      ? new List(node.length, (i) => (node as readonly Node[])[i])
      : isNumbers(node)
        ? new List(node.length, (i) => node[i])
        : undefined;

/** Arrays of state that are no bytes. */
const isNumbers = (node: unknown): node is Uint32Array =>
  ArrayBuffer.isView(node) && !(node instanceof DataView) && !(node instanceof Uint8Array);

/** The bit fields of a field as fields of their own. */
function bitsOf(whole: Field): Tree {
  const { type, set } = whole;
  const value = (): bigint => whole.number ?? 0n;
  return Object.fromEntries(
    Object.entries(type.bits ?? {}).map(([name, [high, low, own]]) => {
      const mask = max(high - low + 1);
      const at = BigInt(low);
      const of = own ?? uint(high - low + 1);
      const put = set && ((v: bigint) => set((value() & ~(mask << at)) | (v << at)));
      const get = (): Scalar => {
        const bits = (value() >> at) & mask;
        return of === FLAG ? bits === 1n : bits;
      };
      return [name, new Field(of, get, put)];
    }),
  );
}

const isPlainTree = (node: Opened): node is Tree =>
  typeof node === 'object' &&
  !(node instanceof Uint8Array) &&
  !(node instanceof Field) &&
  !listOf(node) &&
  !(node instanceof Group);

/** The names in a branch; undefined: it is a list, or no branch. */
function namesOf(node: Opened): Tree | undefined {
  if (node instanceof Group) return node.tree();
  if (node instanceof Field) return node.type.bits ? bitsOf(node) : undefined;
  return isPlainTree(node) ? node : undefined;
}

/** Something of the tree, as those see it who do not know what it is. */
export interface Item {
  /** An identifier, or `[3]`. */
  readonly name: string;
  /** Absent: a branch without a value of its own. */
  readonly value?: Scalar | Uint8Array;
  /** What the value means, or what is in a branch. */
  readonly words: readonly string[];
  readonly hex: boolean;
  readonly editable: boolean;
  /** What it can be set to, if values have names. */
  readonly choices?: readonly string[];
  /** There is more inside. */
  readonly opens: boolean;
  /** Elements, if what is inside is a list. */
  readonly count?: number;
}

function itemOf(name: string, node: Node): Item | undefined {
  const at = open(node);
  if (at === undefined) return undefined;
  const plain = { name, words: [], hex: false, editable: false };
  if (at instanceof Field) {
    const { type } = at;
    const value = at.get();
    const number = at.number;
    const named = typeof value === 'string' ? undefined : Object.entries(type.names ?? {}).find(([, n]) => n === number)?.[0];
    const shown = named === undefined || typeof value === 'boolean' ? value : named;
    const words = type.describe && number !== undefined ? type.describe(number) : setBits(at);
    return {
      ...{ name, value: shown, words, hex: type.hex ?? false, editable: at.set !== undefined, opens: type.bits !== undefined },
      ...(type.names ? { choices: Object.keys(type.names) } : {}),
    };
  }
  const list = listOf(at);
  if (list) return { ...plain, words: list.summary ? [list.summary()] : [], opens: list.count > 0, count: list.count };
  if (at instanceof Group) return { ...plain, words: [at.summary()], opens: true };
  if (isPlainTree(at)) return { ...plain, opens: Object.values(at).some((n) => n !== undefined) };
  return { ...plain, value: at as Scalar | Uint8Array, opens: false };
}

/** The flags that are set in a word of flags. */
function setBits(whole: Field): string[] {
  const value = whole.number ?? 0n;
  return Object.entries(whole.type.bits ?? {}).flatMap(([name, [high, low, type]]) => {
    const bits = (value >> BigInt(low)) & max(high - low + 1);
    if (bits === 0n) return [];
    const named = Object.entries(type?.names ?? {}).find(([, n]) => n === bits)?.[0];
    return type === FLAG ? [name] : [`${name} ${named ?? bits}`];
  });
}

/** What is in a branch; of a list at most `count` elements from the element at `start` on. */
export function itemsIn(node: Node, start = 0, count = Number.POSITIVE_INFINITY): Item[] {
  const at = open(node);
  if (at === undefined) return [];
  const list = listOf(at);
  if (list) {
    const from = Math.min(start, list.count);
    const end = Math.min(list.count, from + count);
    return Array.from({ length: end - from }, (_, i) => list.first + from + i).flatMap((n) => itemOf(`[${n}]`, list.at(n)) ?? []);
  }
  const named = namesOf(at) ?? {};
  return Object.entries(named).flatMap(([name, inner]) => (inner === undefined ? [] : (itemOf(name, inner) ?? [])));
}

/** `vps[0].synic.sints[2]` as names. undefined: it is no path. */
export function pathOf(text: string): string[] | undefined {
  if (!/^[A-Za-z_]\w*(\.[A-Za-z_]\w*|\[\d+\])*$/.test(text)) return text === '' ? [] : undefined;
  return [...text.matchAll(/[A-Za-z_]\w*|\[\d+\]/g)].map(([name]) => name);
}

/** Names as text. */
export const pathText = (path: readonly string[]): string =>
  path.map((name, i) => (i === 0 || name.startsWith('[') ? name : `.${name}`)).join('');

/** What is at a path; text: what is wrong with the path. */
export function nodeAt(root: Node, path: readonly string[]): { node: Opened } | string {
  let at = open(root);
  for (const [i, name] of path.entries()) {
    const list = at === undefined ? undefined : listOf(at);
    const number = /^\[(\d+)\]$/.exec(name);
    let next: Opened | undefined;
    if (list && number) {
      const n = Number(number[1]);
      if (n < list.first || n >= list.first + list.count)
        return `${pathText(path.slice(0, i))} has ${list.count === 0 ? 'no elements' : `elements ${list.first} to ${list.first + list.count - 1}`}, not ${n}`;
      next = open(list.at(n));
    } else if (at !== undefined && !number) {
      const names = namesOf(at);
      next = names && Object.hasOwn(names, name) ? open(names[name]) : undefined;
    }
    if (next === undefined) return `there is no ${name} in ${i === 0 ? 'the machine' : pathText(path.slice(0, i))}`;
    at = next;
  }
  return at === undefined ? 'there is nothing' : { node: at };
}

/** One item by its path; text: what is wrong with the path. */
export function itemAt(root: Node, path: readonly string[]): Item | string {
  const found = nodeAt(root, path);
  if (typeof found === 'string') return found;
  return itemOf(path.at(-1) ?? '', found.node) ?? 'there is nothing';
}

const shownValue = (value: bigint, type: FieldType): string => (type.hex ? `0x${value.toString(16)}` : String(value));

/** Whether a field can hold a value, which may be one of its names; the value as a number, or why it cannot. */
function checked(path: readonly string[], node: Opened, value: bigint | string): { field: Field; number: bigint } | string {
  const name = pathText(path);
  if (!(node instanceof Field) || !node.set) return `${name} cannot be changed`;
  const { type } = node;
  const possible = type.names
    ? Object.keys(type.names).join(', ')
    : `${shownValue(type.min, type)} to ${shownValue(type.max, type)}${type.step ? `, a multiple of ${type.step}` : ''}`;
  const number = typeof value === 'bigint' ? value : type.names?.[value];
  const fits =
    number !== undefined &&
    number >= type.min &&
    number <= type.max &&
    (!type.step || number % type.step === 0n) &&
    (!type.names || Object.values(type.names).includes(number));
  const given = typeof value === 'string' ? value : shownValue(value, type);
  return fits ? { field: node, number } : `${name} can be ${possible}, not ${given}`;
}

/** Sets the field at a path, to a number or one of its names. Text: why that was not done. */
export function setAt(root: Node, path: readonly string[], value: bigint | string): Refusal {
  const found = nodeAt(root, path);
  if (typeof found === 'string') return found;
  const ok = checked(path, found.node, value);
  if (typeof ok === 'string') return ok;
  const refused = ok.field.set?.(ok.number);
  return typeof refused === 'string' ? `${pathText(path)}: ${refused}` : undefined;
}

/** A tree of plain values, with everything opened. */
export type Plain = { [name: string]: PlainValue | PlainValue[] };
export type PlainValue = Plain | Scalar | Uint8Array;

/** A subtree with all values as they are now; bit fields are left to their whole. */
export function plainOf(tree: Tree): Plain {
  return Object.fromEntries(
    Object.entries(tree).flatMap(([name, node]) => {
      const value = plainNode(node);
      return value === undefined ? [] : [[name, value]];
    }),
  );
}

/** A node's value as it is now; undefined: there is nothing. */
export function plainNode(node: Node | undefined): Plain[string] | undefined {
  const at = open(node);
  if (at === undefined) return undefined;
  if (at instanceof Field) return at.get();
  const list = listOf(at);
  if (list)
    return Array.from({ length: list.count }, (_, i) => plainNode(list.at(list.first + i))).filter(
      (v) => v !== undefined,
    ) as PlainValue[];
  if (at instanceof Group) return plainOf(at.tree());
  return isPlainTree(at) ? plainOf(at) : (at as Scalar | Uint8Array);
}
