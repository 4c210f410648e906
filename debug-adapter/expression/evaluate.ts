/** Trees to values: C's rules for LP64 arm64, over registers, symbols, types and memory. Only an assignment changes anything. */
import { type Catalog, isFile } from '../types/catalog.ts';
import {
  ADDRESS,
  arrayOf,
  baseType,
  BOOL,
  CHAR,
  findMember,
  functionType,
  INT,
  INT128,
  LONG,
  LONG_LONG,
  MAX_NESTING,
  memberNames,
  plain,
  type PlainType,
  pointerTo,
  qualified,
  sameType,
  sizeOf,
  type Type,
  typeName,
  UNSIGNED_INT,
  UNSIGNED_INT128,
  UNSIGNED_LONG,
  UNSIGNED_LONG_LONG,
  VOID,
  WELL_KNOWN_TYPEDEFS,
} from '../types/model.ts';
import { ConstantStorage, type Memory, unsignedOf, Value, ValueError, wrap } from '../types/value.ts';
import { ExpressionError, type Node, parse, type ParseOptions, parseType, type TypeNode } from './parse.ts';

export { Value } from '../types/value.ts';

/** What names and addresses mean where the expression is evaluated. Each answers undefined for what it does not know. */
export interface Context {
  /** `$x0`: value, width in bits, and whether it always is an address. */
  register(name: string): { value: bigint; bits: number; address?: boolean } | undefined;
  /** Anything without `$` but symbols: `hv.` registers, fields. Objects and lists may be looked into. */
  name(name: string): bigint | number | string | boolean | object | undefined;
  /** Address of a symbol. */
  symbol(name: string): bigint | undefined;
  read(address: bigint, size: number): Uint8Array | undefined;
  /** Types, constants and variables; without: registers, symbols and C's own types. */
  readonly types?: Catalog;
  /** Arguments, locals and statics of the frame. They come before everything else. */
  variable?(name: string): Value | undefined;
  /** The module whose code runs: its own types come first. */
  readonly module?: string;
  /** What a VP adds to addresses in the per-CPU area; without a number the VP at hand. */
  perCpuOffset?(vp?: number): bigint | undefined;
  /** What the preprocessor puts in place of a name in the code at hand. */
  macro?(name: string): { readonly parameters?: string; readonly text: string } | undefined;
  /** Address of the struct task_struct that runs. */
  current?(): bigint | undefined;
}
/** Where something can be assigned to. */
export interface Target extends Context {
  setRegister(name: string, value: bigint): boolean;
  /** What begins with `hv.`: a number, or the name of one. */
  setName(name: string, value: bigint | string): boolean;
  write(address: bigint, data: Uint8Array): boolean;
}

/** Longest string that is read to compare it. */
const MAX_STRING = 4096;
/** Elements that `@` makes, at most. */
const MAX_ELEMENTS = 1 << 20;

/** C's names for numbers that are macros. */
const MACROS: Readonly<Record<string, bigint>> = { NULL: 0n, true: 1n, false: 0n };

const truthOf = (yes: boolean): Value => Value.of(INT, yes ? 1n : 0n);

/** What a context calls something, as a value. */
function wide(value: unknown): Value {
  if (typeof value === 'bigint') return Value.of(value < 0n ? LONG : unsignedOf(value >> 64n > 0n ? 128 : 64), value);
  if (typeof value === 'number') return Value.of(value < 0 ? LONG : UNSIGNED_LONG, BigInt(Math.trunc(value)));
  if (typeof value === 'boolean') return Value.of(UNSIGNED_LONG, value ? 1n : 0n);
  if (typeof value === 'string') return new Value({ type: UNSIGNED_LONG, known: 0n, text: value });
  return new Value({ type: UNSIGNED_LONG, known: 0n, data: value as object });
}

/** The memory that a context reads, and writes where it can. */
export function memoryOf(context: Context): Memory {
  const target = context as Partial<Target>;
  return {
    read: (address, size) => context.read(address, size),
    ...(target.write ? { write: (address, data) => target.write?.(address, data) ?? false } : {}),
  };
}

function isFloat(v: Value): boolean {
  const t = v.plain;
  return t.kind === 'base' && t.encoding === 'float';
}

/** True when `value` counts as true in C. */
export function isTrue(v: Value): boolean {
  if (v.text !== undefined) return v.text !== '';
  if (v.data !== undefined) return true;
  return isFloat(v) ? v.float !== 0 : v.value !== 0n;
}

/** Text of a text field, a char array or what a char pointer points to; undefined for everything else. */
export function stringOf(v: Value, memory: Memory): string | undefined {
  if (v.text !== undefined) return v.text;
  const t = v.plain;
  const isChar = (type: Type) => sizeOf(type) === 1 && plain(type).kind === 'base';
  let bytes: Uint8Array | undefined;
  if (t.kind === 'array' && isChar(t.element) && t.count !== undefined) bytes = v.bytes();
  else if ((t.kind === 'pointer' && isChar(t.to)) || (t.kind === 'array' && isChar(t.element)))
    return readString(memory, v.value);
  if (!bytes) return undefined;
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8');
}

function readString(memory: Memory, address: bigint): string {
  const chunks: Uint8Array[] = [];
  for (let done = 0; done < MAX_STRING; ) {
    const at = BigInt.asUintN(64, address + BigInt(done));
    // Never past the end of a 4 KiB page in one read: the next page need not be mapped.
    const n = Math.min(MAX_STRING - done, 4096 - Number(at & 4095n));
    const chunk = memory.read(at, n);
    if (!chunk) throw new ValueError(`cannot read a string at 0x${at.toString(16)}`);
    const end = chunk.indexOf(0);
    chunks.push(end < 0 ? chunk : chunk.subarray(0, end));
    if (end >= 0) break;
    done += n;
  }
  return Buffer.concat(chunks).toString('utf8');
}

export type Arithmetic = { kind: 'base'; size: number; signed: boolean } & Type;

/** C11 6.3.1.1: what narrower than int is, is int; an enumeration is what it is stored as. */
export function promoted(v: Pick<Value, 'plain' | 'bits'>): Arithmetic | undefined {
  const t = v.plain;
  if (t.kind === 'enum') return t.size > 4 ? (t.signed ? LONG : UNSIGNED_LONG) : t.size < 4 || t.signed ? INT : UNSIGNED_INT;
  if (t.kind !== 'base' || t.encoding === 'float') return undefined;
  const bits = v.bits?.size ?? t.size * 8;
  if (bits < 32 || (bits === 32 && t.signed && t.size <= 4)) return INT;
  return t.size < 4 ? INT : t;
}

const RANKS = ['int', 'long', 'long long', '__int128'];
const rank = (t: Arithmetic): number => (t.kind === 'base' ? RANKS.indexOf(t.name.replace('unsigned ', '')) : 0);
const UNSIGNED: readonly Arithmetic[] = [UNSIGNED_INT, UNSIGNED_LONG, UNSIGNED_LONG_LONG, UNSIGNED_INT128];
const SIGNED: readonly Arithmetic[] = [INT, LONG, LONG_LONG, INT128];

/** C11 6.3.1.8, the usual arithmetic conversions. */
export function common(a: Arithmetic, b: Arithmetic): Arithmetic {
  const high = Math.max(rank(a), rank(b), 0);
  if (a.signed === b.signed) return (a.signed ? SIGNED : UNSIGNED)[high];
  const unsigned = a.signed ? b : a;
  const signed = a.signed ? a : b;
  if (rank(unsigned) >= rank(signed)) return UNSIGNED[high];
  return signed.size > unsigned.size ? signed : UNSIGNED[high];
}

/** C11 6.4.4.1: the first type of the list that the number fits in. */
function literal(node: Extract<Node, { kind: 'number' }>): Value {
  const { value } = node;
  const bits = value.toString(2).length;
  const fits: Type[] = [];
  const add = (rankFrom: number, signed: Type, unsigned: Type): void => {
    if (rankFrom < node.long) return;
    if (!node.unsigned) fits.push(signed);
    if (node.unsigned || !node.decimal) fits.push(unsigned);
  };
  add(0, INT, UNSIGNED_INT);
  add(1, LONG, UNSIGNED_LONG);
  add(2, LONG_LONG, UNSIGNED_LONG_LONG);
  for (const type of fits) {
    const t = plain(type);
    if (t.kind === 'base' && bits <= t.size * 8 - (t.signed ? 1 : 0)) return Value.of(type, value);
  }
  // What gcc does with decimal numbers that no signed type holds.
  return Value.of(bits <= 64 ? UNSIGNED_LONG : UNSIGNED_INT128, value);
}

/** The name with all members that are written after it: `hv.HvRegisterVpIndex`, `hv.gic.spis[33].enabled`, `foo.constprop.0`. */
export function dotted(node: Node): { root: Extract<Node, { kind: 'name' }>; path: string } | undefined {
  const parts: string[] = [];
  let at = node;
  for (;;) {
    if (at.kind === 'member' && !at.arrow) parts.unshift(`.${at.name}`);
    else if (at.kind === 'index' && at.index.kind === 'number') parts.unshift(`[${at.index.value}]`);
    else break;
    at = at.of;
  }
  const indexed = parts.some((p) => p.startsWith('['));
  if (at.kind !== 'name' || at.scope !== undefined || (indexed && at.name !== 'hv')) return undefined;
  return { root: at, path: `${at.name}${parts.join('')}` };
}

/** The nearest of `names` for one that is not there. */
function nearest(wanted: string, names: readonly string[]): string {
  const low = wanted.toLowerCase();
  const best =
    names.find((n) => n.toLowerCase() === low) ??
    names.find((n) => n.toLowerCase().includes(low) || (n.length > 2 && low.includes(n.toLowerCase())));
  return best === undefined ? '' : `; did you mean ${best}?`;
}

class Evaluation {
  readonly #context: Context;
  readonly #memory: Memory;
  /** Per-CPU variables mean this VP's copies. */
  #vp: number | undefined;
  /** A per-CPU variable was named. */
  #sawPerCpu = false;

  constructor(context: Context) {
    this.#context = context;
    this.#memory = memoryOf(context);
  }

  /** What a node means. Things in memory are not read yet. */
  value(node: Node): Value {
    try {
      return this.#value(node);
    } catch (e) {
      throw e instanceof ValueError ? new ExpressionError(e.message, node.at) : e;
    }
  }

  /** A node's value as it is now: what can be read as a whole has been. */
  loaded(node: Node): Value {
    const value = this.value(node);
    const t = value.plain;
    if (t.kind !== 'struct' && t.kind !== 'union' && t.kind !== 'array' && t.kind !== 'void') this.number(value, node);
    return value;
  }

  /** The number that a value is. */
  number(value: Value, node: Node): bigint {
    try {
      return value.value;
    } catch (e) {
      throw e instanceof ValueError ? new ExpressionError(e.message, node.at) : e;
    }
  }

  /** A node that must have a number, arrays and functions being their addresses. */
  #scalar(node: Node, what: string): Value {
    const value = this.value(node);
    if (value.text !== undefined || value.data !== undefined) throw new ExpressionError(`${what} needs a number`, node.at);
    const t = value.plain;
    if (t.kind === 'array') return Value.of(pointerTo(t.element), this.number(value, node));
    if (t.kind === 'function') return Value.of(pointerTo(value.type), this.number(value, node));
    if (t.kind === 'struct' || t.kind === 'union') {
      // More than C allows: `name + 8` means the same address whether the type of a variable is known or not.
      const { address } = value;
      if (address === undefined) throw new ExpressionError(`${what} needs a number, not a ${t.kind}`, node.at);
      return Value.of(ADDRESS, address);
    }
    if (t.kind === 'void') throw new ExpressionError(`${what} needs a value, and a void has none`, node.at);
    this.number(value, node);
    return value;
  }

  #integer(node: Node, what: string): Value {
    const value = this.#scalar(node, what);
    const t = value.plain;
    if (t.kind === 'base' && t.encoding === 'float') throw new ExpressionError(`${what} needs a whole number`, node.at);
    return value;
  }

  #resolve(type: Type): PlainType {
    return this.#context.types?.resolve(type, this.#context.module) ?? plain(type);
  }

  #value(node: Node): Value {
    switch (node.kind) {
      case 'number':
        return literal(node);
      case 'character':
        // C11 6.4.4.4: a character constant is an int.
        return Value.of(INT, node.value);
      case 'string':
        return new Value({ type: arrayOf(CHAR, node.value.length + 1), text: node.value });
      case 'register': {
        const found = this.#context.register(node.name);
        if (!found) throw new ExpressionError(`no register $${node.name}`, node.at);
        const type = found.address ? ADDRESS : found.bits === 32 ? UNSIGNED_INT : unsignedOf(found.bits);
        return Value.of(type, found.value);
      }
      case 'name':
        return this.#name(node);
      case 'member':
        return this.#member(node);
      case 'cast':
        return this.#cast(node);
      case 'choice': {
        const yes = isTrue(this.loaded(node.test));
        return this.value(yes ? node.yes : node.no);
      }
      case 'index':
        return this.#index(node);
      case 'unary':
        return this.#unary(node);
      case 'binary':
        return this.#binary(node);
      case 'sizeof':
        return Value.of(UNSIGNED_LONG, BigInt(this.#sizeof(node)));
      case 'current': {
        const address = this.#context.current?.();
        if (address === undefined) throw new ExpressionError('no task runs here', node.at);
        const task = this.#context.types?.find('struct', 'task_struct');
        return Value.of(task ? pointerTo(task) : ADDRESS, address);
      }
      case 'percpu':
        return this.#perCpu(node);
      case 'container': {
        const pointer = this.#scalar(node.of, 'container_of');
        const { type, offset } = this.#offset(node.type, node.path);
        return Value.of(pointerTo(type), pointer.value - BigInt(offset));
      }
      case 'offset':
        return Value.of(UNSIGNED_LONG, BigInt(this.#offset(node.type, node.path).offset));
      case 'assign':
        return this.#assign(node);
      case 'sequence':
        this.loaded(node.first);
        return this.value(node.second);
    }
  }

  // --- names ---------------------------------------------------------------------------------------------------------------

  #name(node: Extract<Node, { kind: 'name' }>): Value {
    const found = this.#lookup(node);
    if (found) return found;
    if (node.scope === undefined) throw new ExpressionError(`${node.name} is not known here`, node.at);
    // A driver may be a module in one kernel and a part of another.
    const hint = isFile(node.scope) || !this.#global(node.name, {}) ? '' : `; without ${node.scope}:: it is`;
    throw new ExpressionError(`${node.scope}::${node.name} is not known here${hint}`, node.at);
  }

  #lookup(node: Extract<Node, { kind: 'name' }>): Value | undefined {
    const { name, scope } = node;
    const { types } = this.#context;
    if (scope !== undefined) {
      // A static variable inside a function, then a file's, then a module's.
      const local = this.#context.variable?.(`${scope}::${name}`);
      if (local) return local;
      const file = /\.\w+$/.test(scope);
      const module = scope.replaceAll('-', '_');
      return types ? this.#global(name, file ? { file: scope } : { module }) : undefined;
    }
    const local = this.#context.variable?.(name);
    if (local) return local;
    const field = this.#context.name(name);
    if (field !== undefined) return wide(field);
    const global =
      this.#global(name, this.#context.module === undefined ? {} : { module: this.#context.module }) ?? this.#global(name, {});
    if (global) return global;
    const constant = types?.constant(name);
    if (constant) return Value.of(constant.type, constant.value);
    const address = this.#context.symbol(name);
    if (address !== undefined) return Value.of(ADDRESS, address);
    if (name === 'current' && this.#context.current?.() !== undefined) return this.#value({ kind: 'current', at: node.at });
    const macro = this.#context.macro?.(name);
    if (macro) return this.#expanded(node, macro);
    if (Object.hasOwn(MACROS, name)) return Value.of(name === 'NULL' ? pointerTo(VOID) : BOOL, MACROS[name]);
    return undefined;
  }

  /** Macros inside each other. */
  readonly #expanding: string[] = [];

  /** The value of what a macro stands for. C would put its text here; values are the same unless it counts on its neighbours. */
  #expanded(node: Extract<Node, { kind: 'name' }>, { parameters, text }: { parameters?: string; text: string }): Value {
    const { name, at } = node;
    const fail = (why: string): never => {
      throw new ExpressionError(`${name} is a macro: ${why}`, at);
    };
    if (parameters !== undefined) fail(`${name}${parameters} ${text}`);
    if (text === '') fail('it stands for nothing');
    // A name that its own macro has means what it means without it (C11 6.10.3.4 p2).
    if (this.#expanding.includes(name) || this.#expanding.length > MAX_NESTING) fail(`it stands for itself: ${text}`);
    this.#expanding.push(name);
    try {
      return this.loaded(parse(text, options(this.#context)));
    } catch (e) {
      if (!(e instanceof ExpressionError)) throw e;
      return fail(e.fact.startsWith(`${name} is a macro`) ? 'it stands for itself' : `${text}, and ${e.fact}`);
    } finally {
      this.#expanding.pop();
    }
  }

  #global(name: string, scope: { file?: string; module?: string }): Value | undefined {
    const found = this.#context.types?.variable(name, scope);
    if (!found) return undefined;
    let { address } = found;
    if (found.perCpu) {
      this.#sawPerCpu = true;
      address += this.#perCpuOffset();
    }
    if (found.type === undefined) return Value.of(ADDRESS, address);
    return Value.at(found.type, this.#memory, address, name);
  }

  /** What the VP at hand adds; nothing before the kernel has set its per-CPU areas up: then the template is used itself. */
  #perCpuOffset(): bigint {
    return this.#context.perCpuOffset?.(this.#vp) ?? 0n;
  }

  #perCpu(node: Extract<Node, { kind: 'percpu' }>): Value {
    const before = { vp: this.#vp, saw: this.#sawPerCpu };
    const vp = node.cpu === undefined ? undefined : Number(this.#integer(node.cpu, '$per_cpu').value);
    const offset = this.#context.perCpuOffset?.(vp);
    if (offset === undefined)
      throw new ExpressionError(
        vp === undefined ? 'there are no per-CPU areas yet' : `there is no VP ${vp}`,
        (node.cpu ?? node).at,
      );
    this.#vp = vp;
    this.#sawPerCpu = false;
    try {
      const value = this.value(node.of);
      if (this.#sawPerCpu) return value;
      const t = value.plain;
      // A pointer that alloc_percpu gave, or the address of a variable whose type nobody knows.
      if (t.kind === 'pointer') {
        const address = this.number(value, node.of) + offset;
        return t.untyped ? Value.of(ADDRESS, address) : Value.at(t.to, this.#memory, address);
      }
      if (value.address === undefined) throw new ExpressionError('this is not a per-CPU variable', node.of.at);
      return Value.at(value.type, this.#memory, value.address + offset, value.from);
    } finally {
      this.#vp = before.vp;
      this.#sawPerCpu = before.saw;
    }
  }

  // --- members, elements, pointers -----------------------------------------------------------------------------------------

  #member(node: Extract<Node, { kind: 'member' }>): Value {
    const whole = dotted(node);
    if (whole && this.#context.variable?.(whole.root.name) === undefined) {
      const field = this.#context.name(whole.path);
      if (field !== undefined) return wide(field);
      const symbol = this.#context.symbol(whole.path);
      if (symbol !== undefined) return this.#global(whole.path, {}) ?? Value.of(ADDRESS, symbol);
      if (this.#lookup(whole.root) === undefined) {
        // `hv.Nothing`: the whole is what is not known, not its first part.
        const what = this.#context.name(whole.root.name) === undefined && whole.root.name === 'hv' ? whole.path : whole.root.name;
        throw new ExpressionError(`${what} is not known here`, whole.root.at);
      }
    }
    const of = this.value(node.of);
    if (of.data !== undefined) {
      const data = of.data as Record<string, unknown>;
      if (!Object.hasOwn(data, node.name) || data[node.name] === undefined)
        throw new ExpressionError(`there is no field ${node.name}`, node.at);
      return wide(data[node.name]);
    }
    return memberOf(this.#structure(of, node), node.name, this.#context, node.at);
  }

  /** The struct that stands before `.` or `->`; a pointer to one is followed, as gdb does. */
  #structure(of: Value, node: Extract<Node, { kind: 'member' }>): Value {
    const t = of.plain;
    if (t.kind === 'struct' || t.kind === 'union') {
      if (node.arrow) throw new ExpressionError(`-> needs a pointer, this is a ${t.kind}: use .`, node.at);
      return of;
    }
    if ((t.kind === 'pointer' && !t.untyped) || t.kind === 'array') {
      const to = t.kind === 'pointer' ? t.to : t.element;
      const target = this.#resolve(to);
      if (target.kind === 'struct' || target.kind === 'union') return Value.at(to, this.#memory, this.number(of, node.of));
    }
    const what = t.kind === 'pointer' && t.untyped ? 'an address without a type: cast it first' : typeName(of.type);
    throw new ExpressionError(
      `"${node.arrow ? '->' : '.'}" needs a ${node.arrow ? 'pointer to a ' : ''}struct or union, this is ${what}`,
      node.at,
    );
  }

  #index(node: Extract<Node, { kind: 'index' }>): Value {
    const whole = dotted(node);
    const field = whole && this.#context.variable?.(whole.root.name) === undefined ? this.#context.name(whole.path) : undefined;
    if (field !== undefined) return wide(field);
    const of = this.value(node.of);
    if (of.data !== undefined) {
      const at = this.#integer(node.index, '[]').value.toString();
      const data = of.data as Record<string, unknown>;
      const item = data[at];
      if (!Object.hasOwn(data, at) || item === undefined) throw new ExpressionError(`there is no element ${at}`, node.index.at);
      return wide(item);
    }
    const index = this.#integer(node.index, '[]').value;
    const t = of.plain;
    if (t.kind === 'array' && of.storage && of.address === undefined) {
      // An array in registers or pieces.
      if (index < 0n || index >= BigInt(t.count ?? 0)) throw new ExpressionError(`there is no element ${index}`, node.index.at);
      return new Value({
        type: t.element,
        storage: of.storage,
        offset: of.offset + Number(index) * sizeOf(t.element),
        from: of.from,
      });
    }
    const pointer = this.#scalar(node.of, '[]');
    return this.#at(pointer, index, node, of.from);
  }

  /** What a pointer points to, `index` elements further on. */
  #at(pointer: Value, index: bigint, node: Node, from?: string): Value {
    const t = pointer.plain;
    // An address without a type, and a plain number, point to an unsigned long.
    const to = t.kind === 'pointer' ? t.to : t.kind === 'base' ? UNSIGNED_LONG : undefined;
    if (to === undefined) throw new ExpressionError(`this is no pointer but ${typeName(pointer.type)}`, node.at);
    if (plain(to).kind === 'void')
      throw new ExpressionError('a void pointer points to nothing that has a type: cast it first', node.at);
    return Value.at(to, this.#memory, pointer.value + index * BigInt(this.#step(to)), from);
  }

  /** Bytes from one element to the next. gcc counts 1 for void and functions. */
  #step(to: Type): number {
    const t = this.#resolve(to);
    return t.kind === 'void' || t.kind === 'function' ? 1 : sizeOf(t);
  }

  #unary(node: Extract<Node, { kind: 'unary' }>): Value {
    switch (node.op) {
      case '&':
        return this.#addressOf(node);
      case '*':
        return this.#at(this.#scalar(node.of, '*'), 0n, node);
      case '!':
        return truthOf(!isTrue(this.loaded(node.of)));
      default: {
        const v = this.#integer(node.of, node.op);
        const type = promoted(v) ?? UNSIGNED_LONG;
        return Value.of(type, node.op === '-' ? -v.value : node.op === '~' ? ~v.value : v.value);
      }
    }
  }

  #addressOf(node: Extract<Node, { kind: 'unary' }>): Value {
    const of = this.value(node.of);
    const t = of.plain;
    // A symbol without a type already is its address.
    if (t.kind === 'pointer' && t.untyped && !of.storage && (node.of.kind === 'name' || node.of.kind === 'member')) return of;
    if (of.bits) throw new ExpressionError('a bit-field has no address', node.at);
    const { address } = of;
    if (address === undefined) throw new ExpressionError('this is not in memory: it has no address', node.at);
    return new Value({ type: pointerTo(of.type), known: address, ...(of.from === undefined ? {} : { from: of.from }) });
  }

  // --- types ---------------------------------------------------------------------------------------------------------------

  #cast(node: Extract<Node, { kind: 'cast' }>): Value {
    const type = this.type(node.type);
    const t = this.#resolve(type);
    if (t.kind === 'void') return new Value({ type: VOID });
    if (t.kind === 'struct' || t.kind === 'union' || t.kind === 'array' || t.kind === 'function') {
      const v = this.value(node.of);
      if (sameType(v.type, t)) return v;
      throw new ExpressionError(`a cast to ${typeName(type)} cannot be: cast to a pointer to it, and use * on that`, node.at);
    }
    const of = this.#scalar(node.of, 'a cast');
    if (t.kind === 'base' && t.encoding === 'float') return floatValue(type, of.float);
    return Value.of(type, of.value);
  }

  /** A type as it was written. Throws ExpressionError when there is none of that name. */
  type(node: TypeNode, depth = 0): Type {
    if (depth > MAX_NESTING) throw new ExpressionError('too deeply nested', node.at);
    switch (node.kind) {
      case 'base': {
        const type = baseType(node.words);
        if (!type) throw new ExpressionError(`"${node.words.join(' ')}" is not a type`, node.at);
        return type;
      }
      case 'named': {
        if (node.tag === 'typedef' && node.name === 'void') return VOID;
        const { types, module } = this.#context;
        const found =
          (types ? types.find(node.tag, node.name, module) : undefined) ??
          (node.tag === 'typedef' ? (baseType([node.name]) ?? WELL_KNOWN_TYPEDEFS.get(node.name)) : undefined);
        if (found) return found;
        const name = node.tag === 'typedef' ? node.name : `${node.tag} ${node.name}`;
        const other = (['struct', 'union', 'enum', 'typedef'] as const).find(
          (tag) => tag !== node.tag && types?.find(tag, node.name) !== undefined,
        );
        const hint = other ? `; did you mean ${other === 'typedef' ? node.name : `${other} ${node.name}`}?` : '';
        const without = !types || types.empty ? ': the guest has told no types yet' : '';
        throw new ExpressionError(`there is no type ${name}${hint || without}`, node.at);
      }
      case 'typeof':
        return this.value(node.of).type;
      case 'const':
      case 'volatile':
        return qualified(node.kind, this.type(node.of, depth + 1));
      case 'pointer':
        return pointerTo(this.type(node.of, depth + 1));
      case 'array': {
        const count = node.count === undefined ? undefined : this.#integer(node.count, 'the length of an array').value;
        if (count !== undefined && (count < 0n || count > BigInt(Number.MAX_SAFE_INTEGER)))
          throw new ExpressionError(`${count} elements cannot be`, node.at);
        return arrayOf(this.type(node.of, depth + 1), count === undefined ? undefined : Number(count));
      }
      case 'function': {
        const result = this.type(node.of, depth + 1);
        const parameters = node.parameters.map((p) => ({ name: undefined, type: this.type(p, depth + 1) }));
        return functionType(
          () => result,
          () => parameters,
          node.variadic,
        );
      }
    }
  }

  #sizeof(node: Extract<Node, { kind: 'sizeof' }>): number {
    let type: Type;
    if (node.type) type = this.type(node.type);
    else {
      const of = node.of as Node;
      // `sizeof(name)` may be a type's.
      const named = of.kind === 'name' && of.scope === undefined && this.#lookup(of) === undefined ? of.name : undefined;
      type =
        named !== undefined && this.#context.types?.isTypeName(named)
          ? this.type({ kind: 'named', tag: 'typedef', name: named, at: of.at })
          : this.value(of).type;
    }
    const t = this.#resolve(type);
    if ((t.kind === 'struct' || t.kind === 'union') && t.incomplete)
      throw new ExpressionError(`the members of ${typeName(type)} are not told anywhere`, node.at);
    if (t.kind === 'pointer' && t.untyped) return 8;
    return node.alignment ? alignmentOf(t) : this.#step(t);
  }

  /** `member.path[2]` in a type: the type, and the offset in bytes. */
  #offset(typeNode: TypeNode, path: Node): { type: Type; offset: number } {
    const type = this.type(typeNode);
    // An object of that type at 0 of nothing: members are found, never read.
    const object = Value.at(type, { read: () => undefined }, 0n);
    const walk = (node: Node): Value => {
      if (node.kind === 'name') return memberOf(object, node.name, this.#context, node.at);
      if (node.kind === 'member') return memberOf(walk(node.of), node.name, this.#context, node.at);
      if (node.kind === 'index') {
        const of = walk(node.of);
        const t = of.plain;
        if (t.kind !== 'array') throw new ExpressionError('this member is not an array', node.at);
        return new Value({
          type: t.element,
          storage: of.storage,
          offset: of.offset + Number(this.#integer(node.index, '[]').value) * sizeOf(t.element),
        });
      }
      throw new ExpressionError('the name of a member expected', node.at);
    };
    const found = walk(path);
    if (found.bits) throw new ExpressionError('a bit-field has no offset', path.at);
    return { type, offset: found.offset };
  }

  // --- arithmetic ----------------------------------------------------------------------------------------------------------

  #binary(node: Extract<Node, { kind: 'binary' }>): Value {
    const { op } = node;
    if (op === '&&') return truthOf(isTrue(this.loaded(node.left)) && isTrue(this.loaded(node.right)));
    if (op === '||') return truthOf(isTrue(this.loaded(node.left)) || isTrue(this.loaded(node.right)));
    if (op === '@') return this.#repeated(node);
    if (op === '==' || op === '!=') {
      const equal = this.#sameText(node);
      if (equal !== undefined) return truthOf(equal === (op === '=='));
    }
    return this.#computed(op, this.#scalar(node.left, op), this.#scalar(node.right, op), node);
  }

  /** `==` with a text on one side, undefined when there is none. */
  #sameText(node: Extract<Node, { kind: 'binary' }>): boolean | undefined {
    const left = this.value(node.left);
    const right = this.value(node.right);
    if (left.text === undefined && right.text === undefined) return undefined;
    const a = stringOf(left, this.#memory);
    const b = stringOf(right, this.#memory);
    return a === undefined || b === undefined ? undefined : a === b;
  }

  #repeated(node: Extract<Node, { kind: 'binary' }>): Value {
    const of = this.value(node.left);
    const count = this.#integer(node.right, '@').value;
    if (of.address === undefined || of.bits) throw new ExpressionError('the left of @ must be in memory', node.left.at);
    if (count < 1n || count > BigInt(MAX_ELEMENTS))
      throw new ExpressionError(`@ makes 1 to ${MAX_ELEMENTS} elements, not ${count}`, node.right.at);
    return Value.at(arrayOf(of.type, Number(count)), this.#memory, of.address, of.from);
  }

  #computed(op: string, left: Value, right: Value, node: Node): Value {
    const lp = left.plain;
    const rp = right.plain;
    if (lp.kind === 'pointer' || rp.kind === 'pointer') return this.#pointers(op, left, right, node);
    const a = promoted(left);
    const b = promoted(right);
    if (!a || !b) return floats(op, left, right, node);
    if (op === '<<' || op === '>>') {
      const count = right.value;
      if (count < 0n) throw new ExpressionError(`a shift by ${count}`, node.at);
      const value = wrap(left.value, a);
      // C leaves a shift by the width and beyond open; here all bits go, as in gdb.
      const by = count > 128n ? 128n : count;
      return Value.of(a, op === '<<' ? value << by : value >> by);
    }
    const type = common(a, b);
    return this.#integers(op, wrap(left.value, type), wrap(right.value, type), type, node);
  }

  #integers(op: string, a: bigint, b: bigint, type: Type, node: Node): Value {
    switch (op) {
      case '+':
        return Value.of(type, a + b);
      case '-':
        return Value.of(type, a - b);
      case '*':
        return Value.of(type, a * b);
      case '/':
      case '%':
        if (b === 0n) throw new ExpressionError('division by zero', node.at);
        return Value.of(type, op === '/' ? a / b : a % b);
      case '&':
        return Value.of(type, a & b);
      case '|':
        return Value.of(type, a | b);
      case '^':
        return Value.of(type, a ^ b);
      default:
        return truthOf(compare(op, a < b ? -1 : a > b ? 1 : 0));
    }
  }

  #pointers(op: string, left: Value, right: Value, node: Node): Value {
    const lp = left.plain;
    const rp = right.plain;
    const a = BigInt.asUintN(64, left.value);
    const b = BigInt.asUintN(64, right.value);
    if (lp.kind === 'pointer' && rp.kind === 'pointer') {
      if (op === '-') {
        const size = lp.untyped || rp.untyped || !sameType(lp.to, rp.to) ? 1 : this.#step(lp.to);
        return Value.of(LONG, BigInt.asIntN(64, a - b) / BigInt(size || 1));
      }
    } else if (op === '+' || (op === '-' && lp.kind === 'pointer')) {
      const pointer = lp.kind === 'pointer' ? lp : rp;
      const step = pointer.kind === 'pointer' && !pointer.untyped ? BigInt(this.#step(pointer.to)) : 1n;
      const type = lp.kind === 'pointer' ? left.type : right.type;
      const move = (lp.kind === 'pointer' ? right.value : left.value) * step;
      return Value.of(type, (lp.kind === 'pointer' ? a : b) + (op === '-' ? -move : move));
    }
    // Addresses are numbers to the people who debug: masks, alignment and comparisons.
    return this.#integers(op, a, b, UNSIGNED_LONG, node);
  }

  // --- assignment ----------------------------------------------------------------------------------------------------------

  #assign(node: Extract<Node, { kind: 'assign' }>): Value {
    const before = node.op === '' ? undefined : this.#scalar(node.left, `${node.op}=`);
    const old = before && Value.of(before.type, before.value);
    const right = old ? this.#computed(node.op, old, this.#scalar(node.right, `${node.op}=`), node) : this.value(node.right);
    const now = this.assign(node.left, right, node.at);
    return node.after && old ? old : now;
  }

  /** Puts a value where a node says. Returns what is there then. */
  assign(left: Node, right: Value, at: number): Value {
    const target = this.#context as Target;
    const numeric = (): bigint => {
      if (right.text !== undefined || right.data !== undefined) throw new ExpressionError('an assignment needs a number', at);
      return this.number(right, left);
    };
    if (left.kind === 'register') {
      const known = target.register(left.name);
      if (!known) throw new ExpressionError(`no register $${left.name}`, left.at);
      if (!target.setRegister?.(left.name, BigInt.asUintN(known.bits, numeric())))
        throw new ExpressionError(`$${left.name} cannot be written`, left.at);
      return this.loaded(left);
    }
    const whole = dotted(left);
    if (whole && this.#context.variable?.(whole.root.name) === undefined && this.#context.name(whole.path) !== undefined) {
      if (!target.setName?.(whole.path, right.text ?? BigInt.asUintN(128, numeric())))
        throw new ExpressionError(`${whole.path} cannot be written`, left.at);
      return this.loaded(left);
    }
    const place = this.value(left);
    if (!place.storage) throw new ExpressionError('this is not something that can be assigned to', left.at);
    storeValue(place, right, left.at);
    return this.loaded(left);
  }
}

/** Puts `right` into `place`, as C's `=` does; a string fits into a char array. Throws ExpressionError. */
export function storeValue(place: Value, right: Value, at?: number): void {
  try {
    const t = place.plain;
    if (t.kind === 'array' && right.text !== undefined && sizeOf(t.element) === 1) {
      const bytes = Buffer.from(`${right.text}\0`, 'utf8');
      const size = t.count ?? bytes.length;
      // The NUL may be left out when there is no room for it (C11 6.7.9 p14).
      if (bytes.length - 1 > size) throw new ValueError(`${bytes.length - 1} characters do not fit in ${size}`);
      place.storeBytes(new Uint8Array(bytes.subarray(0, Math.min(size, bytes.length))));
    } else if (t.kind === 'struct' || t.kind === 'union' || t.kind === 'array') {
      if (!sameType(place.type, right.type)) throw new ValueError(`${typeName(right.type)} is not ${typeName(place.type)}`);
      place.storeBytes(right.bytes().slice());
    } else if (right.text !== undefined || right.data !== undefined) throw new ValueError('an assignment needs a number');
    else place.store(right.value);
  } catch (e) {
    throw e instanceof ValueError ? new ExpressionError(e.message, at) : e;
  }
}

/** Member `name` of a struct or union. Throws ExpressionError. */
export function memberOf(of: Value, name: string, context: Context, at?: number): Value {
  const t = context.types?.resolve(of.type, context.module) ?? of.plain;
  if (t.kind !== 'struct' && t.kind !== 'union') throw new ExpressionError(`${typeName(of.type)} has no members`, at);
  if (t.incomplete) throw new ExpressionError(`the members of ${typeName(t)} are not told anywhere`, at);
  const found = findMember(t, name);
  if (!found) throw new ExpressionError(`${typeName(t)} has no member ${name}${nearest(name, memberNames(t))}`, at);
  return new Value({
    type: found.type,
    storage: of.storage,
    offset: of.offset + found.offset,
    bits: found.bits,
    from: `${found.owner ?? t.name ?? ''}.${name}`,
  });
}

function floatValue(type: Type, value: number): Value {
  const bytes = new Uint8Array(sizeOf(type));
  const view = new DataView(bytes.buffer);
  if (bytes.length === 4) view.setFloat32(0, value, true);
  else if (bytes.length === 8) view.setFloat64(0, value, true);
  else throw new ValueError('floating point numbers of this size cannot be computed with');
  return new Value({ type, storage: new ConstantStorage(bytes) });
}

function floats(op: string, left: Value, right: Value, node: Node): Value {
  const a = left.float;
  const b = right.float;
  const double = baseType(['double']) ?? LONG;
  switch (op) {
    case '+':
      return floatValue(double, a + b);
    case '-':
      return floatValue(double, a - b);
    case '*':
      return floatValue(double, a * b);
    case '/':
      return floatValue(double, a / b);
    case '%':
    case '&':
    case '|':
    case '^':
    case '<<':
    case '>>':
      throw new ExpressionError(`${op} needs whole numbers`, node.at);
    default:
      return truthOf(Number.isNaN(a) || Number.isNaN(b) ? op === '!=' : compare(op, a < b ? -1 : a > b ? 1 : 0));
  }
}

function compare(op: string, order: number): boolean {
  switch (op) {
    case '==':
      return order === 0;
    case '!=':
      return order !== 0;
    case '<':
      return order < 0;
    case '>':
      return order > 0;
    case '<=':
      return order <= 0;
    case '>=':
      return order >= 0;
    default:
      throw new ExpressionError(`operator ${op} is not known`);
  }
}

/** Natural alignment (AAPCS64 "Data types and alignment"); attributes are not told by debug information. */
function alignmentOf(type: Type, depth = 0): number {
  const t = plain(type);
  if (depth > MAX_NESTING) return 1;
  if (t.kind === 'array') return alignmentOf(t.element, depth + 1);
  if (t.kind === 'struct' || t.kind === 'union')
    return t.members.reduce((n, m) => Math.max(n, alignmentOf(m.type, depth + 1)), 1);
  return sizeOf(t) || 1;
}

const options = (context: Context): ParseOptions => ({ isType: (name) => context.types?.isTypeName(name) ?? false });

/** The value of a tree. A number, pointer or enumeration has been read; structs and arrays are read when they are looked at. */
export const evaluate = (node: Node, context: Context): Value => new Evaluation(context).loaded(node);

/** What a tree means, read only as far as needed to find it: its type and place. */
export const locate = (node: Node, context: Context): Value => new Evaluation(context).value(node);

/** Value of an expression's text, which changes nothing. */
/** The object that `text` names, with its place: not its value. */
export const locateText = (text: string, context: Context): Value => locate(parse(text, options(context)), context);

export const evaluateText = (text: string, context: Context): Value => evaluate(parse(text, options(context)), context);

/** Value of a text that may assign: only for what a person does in so many words. `before` is called ahead of the first change. */
export function execute(text: string, target: Target, before: () => void = () => {}): { value: Value; changed: boolean } {
  const node = parse(text, { ...options(target), assign: true });
  const changed = changes(node);
  if (changed) before();
  return { value: evaluate(node, target), changed };
}

/** Is there an assignment in it? */
function changes(node: Node): boolean {
  if (node.kind === 'assign') return true;
  const parts = Object.values(node).filter((v): v is Node => typeof v === 'object' && v !== null && 'kind' in v);
  return parts.some(changes);
}

/** A type as it was parsed. Throws ExpressionError. */
export const typeOfNode = (node: TypeNode, context: Context): Type => new Evaluation(context).type(node);

/** A type by its text: `struct page *`. Throws ExpressionError. */
export const typeOfText = (text: string, context: Context): Type =>
  new Evaluation(context).type(parseType(text, options(context)));

/** Assigns to what `text` says: a register, an `hv.` register, or something in memory. Returns the new value. */
export function assign(text: string, value: Value, target: Target): Value {
  const node = parse(text, options(target));
  return new Evaluation(target).assign(node, value, node.at);
}
