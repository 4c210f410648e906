/**
 * Trees to conditions that the engine evaluates by itself (`Expression` of the emulator): what evaluate.ts would say about them, at one place
 * of the code, for whatever registers and memory hold when the guest gets there. Strings, floating point, numbers above 64 bits, `hv.`
 * names and variables in odd places are not lowered: then the debugger evaluates.
 */
import type { Expression, Operator } from '../../emulator/index.ts';
import type { Catalog } from '../types/catalog.ts';
import {
  ADDRESS,
  type BitField,
  findMember,
  INT,
  LONG,
  plain,
  type PlainType,
  pointerTo,
  sameType,
  sizeOf,
  type Type,
  UNSIGNED_INT,
  UNSIGNED_LONG,
} from '../types/model.ts';
import { Value, ValueError } from '../types/value.ts';
import { type Arithmetic, common, type Context, dotted, evaluate, locate, promoted, typeOfNode } from './evaluate.ts';
import { ExpressionError, type Node, type TypeNode } from './parse.ts';

/** Where a variable is: at an address, or its bytes (up to 8) as a number. */
export type VariablePlace = { readonly address: Expression } | { readonly bytes: Expression };

/** What names mean at a place of the code, whoever gets there. */
export interface CodePlace {
  readonly types: Catalog | undefined;
  readonly module: string | undefined;
  /** Address of a symbol. */
  symbol(name: string): bigint | undefined;
  /** A register by the name people write: what a condition calls it, its width, and whether it always is an address. */
  register(name: string): { name: string; bits: number; address: boolean } | undefined;
  /** Arguments, locals and statics; `place` is left out for one that cannot be told once and for all. */
  variable(name: string): { readonly type: Type; readonly place?: VariablePlace } | undefined;
  /** What is added to the addresses of per-CPU variables; undefined: nothing yet. */
  readonly perCpuOffset: Expression | undefined;
  /** The struct task_struct that runs. */
  readonly current: Expression | undefined;
}

/** A type depends on no memory: what looks at some, sees zeros. */
const MAX_READ = 1 << 16;

/** Not for the engine. */
class NotLowered extends Error {}
const refuse = (why: string): never => {
  throw new NotLowered(why);
};

/** What a node means: something in memory, in a register (whose bytes are a number), or a number of its type. */
interface Meaning {
  readonly type: Type;
  readonly bits?: BitField | undefined;
  readonly address?: Expression;
  readonly bytes?: { readonly whole: Expression; readonly offset: number };
  /** As 64 bits: extended as its type says. */
  readonly number?: Expression;
}

export const constant = (value: bigint | number): Expression => ({ op: 'const', value: BigInt.asUintN(64, BigInt(value)) });
export const register = (name: string): Expression => ({ op: 'register', name });
const extend = (of: Expression, bits: number, signed: boolean): Expression =>
  bits >= 64
    ? of
    : of.op === 'const'
      ? constant(signed ? BigInt.asIntN(bits, of.value) : BigInt.asUintN(bits, of.value))
      : { op: 'extend', bits, signed, of };
export const load = (at: Expression, size: 1 | 2 | 4 | 8, signed = false): Expression => ({ op: 'load', size, signed, at });

/** An operation; on constants, done. */
export function operation(op: Operator, left: Expression, right: Expression): Expression {
  if (right.op === 'const' && right.value === 0n && (op === 'add' || op === 'sub' || op === 'or' || op === 'shr_u')) return left;
  if (op === 'add' && right.op === 'const') {
    if (left.op === 'const') return constant(left.value + right.value);
    if (left.op === 'add' && left.right.op === 'const')
      return { op, left: left.left, right: constant(left.right.value + right.value) };
  }
  return { op, left, right };
}
const plus = (e: Expression, n: number | bigint): Expression => operation('add', e, constant(n));
export const choose = (test: Expression, yes: Expression, no: Expression): Expression => ({ op: 'select', test, yes, no });
const isNotZero = (e: Expression): Expression => operation('ne', e, constant(0));

const COMPARE: Readonly<Record<string, 'lt' | 'gt' | 'le' | 'ge'>> = { '<': 'lt', '>': 'gt', '<=': 'le', '>=': 'ge' };
const ARITHMETIC: Readonly<Record<string, Operator>> = { '+': 'add', '-': 'sub', '*': 'mul', '&': 'and', '|': 'or', '^': 'xor' };

/** A value as a condition: 0 is false. Undefined: it is not for the engine. */
export function lowerCondition(node: Node, place: CodePlace): Expression | undefined {
  try {
    return new Lowering(place).truth(node);
  } catch (e) {
    if (e instanceof NotLowered || e instanceof ExpressionError || e instanceof ValueError) return undefined;
    throw e;
  }
}

class Lowering {
  readonly #place: CodePlace;
  /** For what does not depend on the guest's state, and for types, where variables may be anything. */
  readonly #fixed: Context;
  readonly #typing: Context;
  #sawPerCpu = false;

  constructor(place: CodePlace) {
    this.#place = place;
    this.#fixed = {
      register: () => refuse('a register'),
      name: (name) => (/^hv(\.|$)/.test(name) ? refuse('a name of the machine') : undefined),
      symbol: (name) => (place.register(name) && place.symbol(name) === undefined ? refuse('a register') : place.symbol(name)),
      read: () => refuse('memory'),
      ...(place.types ? { types: place.types } : {}),
      ...(place.module === undefined ? {} : { module: place.module }),
      perCpuOffset: () => {
        this.#sawPerCpu = true;
        return 0n;
      },
      current: () => refuse('the current task'),
    };
    const nothing = { address: 0n, read: (_: number, size: number) => new Uint8Array(size), write: () => {} };
    this.#typing = {
      ...this.#fixed,
      variable: (name) => {
        const found = place.variable(name);
        return found && new Value({ type: found.type, storage: nothing });
      },
      register: (name) => {
        const found = place.register(name);
        return found && { value: 0n, bits: found.bits, address: found.address };
      },
      read: (_, size) => new Uint8Array(Math.min(size, MAX_READ)),
      current: () => 0n,
    };
  }

  /** 1 or 0. */
  truth(node: Node): Expression {
    return isNotZero(this.#number(this.#loaded(node)));
  }

  #resolve(type: Type): PlainType {
    return this.#place.types?.resolve(type, this.#place.module) ?? plain(type);
  }
  #type(node: TypeNode): Type {
    return typeOfNode(node, this.#typing);
  }
  #step(to: Type): number {
    const t = this.#resolve(to);
    return t.kind === 'void' || t.kind === 'function' ? 1 : sizeOf(t);
  }

  // --- values ----------------------------------------------------------------------------------------------------------------

  /** A number of a type of 64 bits or less, from one that may have more bits set. */
  #wrapped(type: Type, e: Expression): Meaning {
    const t = plain(type);
    if (t.kind === 'base') {
      if (t.encoding === 'float' || t.size > 8) refuse(t.name);
      if (t.encoding === 'boolean') return { type, number: isNotZero(e) };
      return { type, number: extend(e, t.size * 8, t.signed) };
    }
    if (t.kind === 'enum') return { type, number: extend(e, t.size * 8, t.signed) };
    return { type, number: e };
  }

  /** The number that something is; of an array or function its address. */
  #number(m: Meaning): Expression {
    if (m.number) return m.number;
    const t = plain(m.type);
    if (t.kind === 'array' || t.kind === 'function') return m.address ?? refuse('an array in a register');
    if (t.kind !== 'base' && t.kind !== 'enum' && t.kind !== 'pointer') return refuse(`a ${t.kind}`);
    const isFloat = t.kind === 'base' && t.encoding === 'float';
    const size = sizeOf(t);
    if (isFloat || size > 8) return refuse('a number of this kind');
    const isSigned = t.kind !== 'pointer' && t.signed && !(t.kind === 'base' && t.encoding === 'boolean');
    const { bits } = m;
    const bytes = bits ? Math.ceil((bits.at + bits.size) / 8) : size;
    if (bytes > 8) return refuse('a bit-field over 9 bytes');
    if (!bits && m.address && (size === 1 || size === 2 || size === 4 || size === 8)) return load(m.address, size, isSigned);
    const raw = m.address ? this.#bytes(m.address, bytes) : this.#part(m, bytes);
    if (bits) return extend(operation('shr_u', raw, constant(bits.at)), bits.size, isSigned);
    return extend(raw, size * 8, isSigned);
  }

  /** `count` bytes of memory as a number, of which none but these are read. */
  #bytes(address: Expression, count: number): Expression {
    let out: Expression | undefined;
    for (let at = 0; at < count; ) {
      const size = ([8, 4, 2, 1] as const).find((n) => n <= count - at) ?? 1;
      const part = load(plus(address, at), size);
      out = out ? operation('or', out, operation('shl', part, constant(8 * at))) : part;
      at += size;
    }
    return out ?? refuse('nothing');
  }

  #part({ bytes }: Meaning, count: number): Expression {
    if (!bytes || bytes.offset + count > 8) return refuse('more than a register');
    return operation('shr_u', bytes.whole, constant(8 * bytes.offset));
  }

  /** As evaluate.ts: what can be read as a whole has been. */
  #loaded(node: Node): Meaning {
    const m = this.#value(node);
    return { type: m.type, bits: m.bits, number: this.#number(m) };
  }

  /** A number, arrays, functions and structs being their addresses. */
  #scalar(node: Node): Meaning & { number: Expression } {
    const m = this.#value(node);
    const t = plain(m.type);
    if (t.kind === 'array') return { type: pointerTo(t.element), number: this.#number(m) };
    if (t.kind === 'function') return { type: pointerTo(m.type), number: this.#number(m) };
    if (t.kind === 'struct' || t.kind === 'union')
      return { type: ADDRESS, number: m.address ?? refuse('a struct without an address') };
    return { type: m.type, bits: m.bits, number: this.#number(m) };
  }

  #promoted(m: Meaning): Arithmetic {
    const type = promoted({ plain: plain(m.type), bits: m.bits });
    return type && type.size <= 8 ? type : refuse('no integer of 64 bits');
  }

  /** What does not depend on the guest. */
  #known(node: Node): Meaning {
    const before = this.#sawPerCpu;
    this.#sawPerCpu = false;
    const value = locate(node, this.#fixed);
    const isPerCpu = this.#sawPerCpu;
    this.#sawPerCpu ||= before;
    if (value.text !== undefined || value.data !== undefined) return refuse('text');
    if (value.storage) {
      const { address } = value;
      if (address === undefined) return refuse('a variable');
      const at = constant(address);
      return { type: value.type, bits: value.bits, address: isPerCpu ? this.#ofThisCpu(at) : at };
    }
    const of = this.#wrapped(value.type, constant(value.value));
    // A per-CPU variable without a type is an address.
    return isPerCpu ? { type: of.type, number: this.#ofThisCpu(of.number ?? refuse('nothing')) } : of;
  }

  #ofThisCpu(address: Expression): Expression {
    const offset = this.#place.perCpuOffset;
    return offset ? operation('add', address, offset) : refuse('per-CPU areas are not there yet');
  }

  // --- nodes -----------------------------------------------------------------------------------------------------------------

  #value(node: Node): Meaning {
    switch (node.kind) {
      case 'number':
      case 'character':
      case 'sizeof':
      case 'offset': {
        const value = evaluate(node, node.kind === 'sizeof' ? this.#typing : this.#fixed);
        return this.#wrapped(value.type, constant(value.value));
      }
      case 'register':
        return this.#register(node.name);
      case 'name':
        return this.#name(node);
      case 'member':
        return this.#member(node);
      case 'cast':
        return this.#cast(node);
      case 'choice': {
        const [yes, no] = [this.#loaded(node.yes), this.#loaded(node.no)];
        if (!sameType(yes.type, no.type) || yes.bits || no.bits) return refuse('two types');
        return { type: yes.type, number: choose(this.truth(node.test), this.#number(yes), this.#number(no)) };
      }
      case 'index': {
        if (dotted(node)?.root.name === 'hv' && !this.#place.variable('hv')) return refuse('a name of the machine');
        const pointer = this.#scalar(node.of);
        return this.#at(pointer, this.#scalar(node.index));
      }
      case 'unary':
        return this.#unary(node);
      case 'binary':
        return this.#binary(node);
      case 'current': {
        const task = this.#place.types?.find('struct', 'task_struct');
        return { type: task ? pointerTo(task) : ADDRESS, number: this.#place.current ?? refuse('no task') };
      }
      case 'percpu':
        return this.#perCpu(node);
      case 'container': {
        const pointer = this.#scalar(node.of);
        const offset = evaluate({ kind: 'offset', type: node.type, path: node.path, at: node.at }, this.#fixed).value;
        return { type: pointerTo(this.#type(node.type)), number: plus(pointer.number, -offset) };
      }
      default:
        return refuse(node.kind);
    }
  }

  #register(name: string): Meaning {
    const found = this.#place.register(name);
    if (!found || found.bits > 64) return refuse(name);
    if (found.bits === 32) return { type: UNSIGNED_INT, number: extend(register(found.name), 32, false) };
    return { type: found.address ? ADDRESS : UNSIGNED_LONG, number: register(found.name) };
  }

  #name(node: Extract<Node, { kind: 'name' }>): Meaning {
    const found = this.#place.variable(node.scope === undefined ? node.name : `${node.scope}::${node.name}`);
    if (found) {
      const { type, place } = found;
      if (!place) return refuse(node.name);
      return 'address' in place ? { type, address: place.address } : { type, bytes: { whole: place.bytes, offset: 0 } };
    }
    if (node.name === 'current' && this.#place.current && this.#place.symbol('current') === undefined)
      return this.#value({ kind: 'current', at: node.at });
    try {
      return this.#known(node);
    } catch (e) {
      // As the editor's hover has it under the cursor: without $.
      const found = e instanceof NotLowered && node.scope === undefined ? this.#place.register(node.name) : undefined;
      if (!found || found.bits > 64 || this.#place.symbol(node.name) !== undefined) throw e;
      return { type: ADDRESS, number: this.#number(this.#register(node.name)) };
    }
  }

  #perCpu(node: Extract<Node, { kind: 'percpu' }>): Meaning {
    if (node.cpu !== undefined) return refuse('another VP');
    if (!this.#place.perCpuOffset) return refuse('per-CPU areas are not there yet');
    const before = this.#sawPerCpu;
    this.#sawPerCpu = false;
    const of = this.#value(node.of);
    const isPerCpu = this.#sawPerCpu;
    this.#sawPerCpu = before;
    if (isPerCpu) return of;
    const t = plain(of.type);
    if (t.kind === 'pointer') {
      const address = this.#ofThisCpu(this.#number(of));
      return t.untyped ? { type: ADDRESS, number: address } : { type: t.to, address };
    }
    return { ...of, address: this.#ofThisCpu(of.address ?? refuse('not a per-CPU variable')) };
  }

  #member(node: Extract<Node, { kind: 'member' }>): Meaning {
    const whole = dotted(node);
    if (whole && !this.#place.variable(whole.root.name)) {
      if (whole.root.name === 'hv' || this.#place.symbol(whole.path) !== undefined) return refuse('a name with a dot');
    }
    const of = this.#structure(this.#value(node.of), node.arrow);
    const t = this.#resolve(of.type);
    if (t.kind !== 'struct' && t.kind !== 'union') return refuse('no struct');
    const found = findMember(t, node.name);
    if (!found) return refuse(node.name);
    const { type, bits, offset } = found;
    if (of.address) return { type, bits, address: plus(of.address, offset) };
    return of.bytes
      ? { type, bits, bytes: { ...of.bytes, offset: of.bytes.offset + offset } }
      : refuse('a struct that is nowhere');
  }

  #structure(of: Meaning, arrow: boolean): Meaning {
    const t = plain(of.type);
    if (t.kind === 'struct' || t.kind === 'union') return arrow ? refuse('-> of a struct') : of;
    if (t.kind === 'pointer' && !t.untyped) return { type: t.to, address: this.#number(of) };
    if (t.kind === 'array') return { type: t.element, address: this.#number(of) };
    return refuse('no pointer to a struct');
  }

  /** What a pointer points to, `index` elements further on. */
  #at(pointer: Meaning & { number: Expression }, index?: Meaning & { number: Expression }): Meaning {
    const t = plain(pointer.type);
    const to = t.kind === 'pointer' ? t.to : t.kind === 'base' ? UNSIGNED_LONG : refuse('no pointer');
    if (plain(to).kind === 'void') return refuse('a void');
    if (!index) return { type: to, address: pointer.number };
    return { type: to, address: operation('add', pointer.number, this.#scaled(index, this.#step(to))) };
  }

  #scaled(m: Meaning & { number: Expression }, step: number): Expression {
    if (m.number.op === 'const') return constant(m.number.value * BigInt(step));
    return step === 1 ? m.number : operation('mul', m.number, constant(step));
  }

  #cast(node: Extract<Node, { kind: 'cast' }>): Meaning {
    const type = this.#type(node.type);
    const t = this.#resolve(type);
    if (t.kind !== 'base' && t.kind !== 'enum' && t.kind !== 'pointer') return refuse('a cast of this kind');
    return this.#wrapped(type, this.#scalar(node.of).number);
  }

  #unary(node: Extract<Node, { kind: 'unary' }>): Meaning {
    if (node.op === '&') {
      const of = this.#value(node.of);
      const t = plain(of.type);
      if (t.kind === 'pointer' && t.untyped && of.number && (node.of.kind === 'name' || node.of.kind === 'member')) return of;
      if (of.bits) return refuse('a bit-field');
      return { type: pointerTo(of.type), number: of.address ?? refuse('no address') };
    }
    if (node.op === '*') return this.#at(this.#scalar(node.of));
    if (node.op === '!') return { type: INT, number: operation('eq', this.truth(node.of), constant(0)) };
    const of = this.#scalar(node.of);
    const type = plain(of.type).kind === 'pointer' ? UNSIGNED_LONG : this.#promoted(of);
    if (node.op === '-') return this.#wrapped(type, operation('sub', constant(0), of.number));
    if (node.op === '~') return this.#wrapped(type, operation('xor', of.number, constant(-1)));
    return node.op === '+' ? this.#wrapped(type, of.number) : refuse(node.op);
  }

  // --- arithmetic ------------------------------------------------------------------------------------------------------------

  #binary(node: Extract<Node, { kind: 'binary' }>): Meaning {
    const { op } = node;
    if (op === '&&') return { type: INT, number: choose(this.truth(node.left), this.truth(node.right), constant(0)) };
    if (op === '||') return { type: INT, number: choose(this.truth(node.left), constant(1), this.truth(node.right)) };
    if (op === '@') return refuse('@');
    const left = this.#scalar(node.left);
    const right = this.#scalar(node.right);
    if (plain(left.type).kind === 'pointer' || plain(right.type).kind === 'pointer') return this.#pointers(op, left, right);
    const [a, b] = [this.#promoted(left), this.#promoted(right)];
    if (op === '<<' || op === '>>') {
      const value = extend(left.number, a.size * 8, a.signed);
      const shifted = operation(op === '<<' ? 'shl' : a.signed ? 'shr_s' : 'shr_u', value, right.number);
      if (!b.signed) return this.#wrapped(a, shifted);
      if (right.number.op === 'const')
        return BigInt.asIntN(64, right.number.value) < 0n ? refuse('a negative shift') : this.#wrapped(a, shifted);
      return this.#wrapped(a, choose(operation('lt_s', right.number, constant(0)), { op: 'fault' }, shifted));
    }
    const type = common(a, b);
    const wrap = (e: Expression): Expression => extend(e, type.size * 8, type.signed);
    return this.#integers(op, wrap(left.number), wrap(right.number), type);
  }

  #integers(op: string, a: Expression, b: Expression, type: Arithmetic): Meaning {
    const simple = ARITHMETIC[op];
    if (simple) return this.#wrapped(type, operation(simple, a, b));
    const sign = type.signed ? 's' : 'u';
    if (op === '/' || op === '%') return this.#wrapped(type, operation(`${op === '/' ? 'div' : 'rem'}_${sign}`, a, b));
    if (op === '==' || op === '!=') return { type: INT, number: operation(op === '==' ? 'eq' : 'ne', a, b) };
    const compare = COMPARE[op];
    return compare ? { type: INT, number: operation(`${compare}_${sign}`, a, b) } : refuse(op);
  }

  #pointers(op: string, left: Meaning & { number: Expression }, right: Meaning & { number: Expression }): Meaning {
    const [lp, rp] = [plain(left.type), plain(right.type)];
    if (lp.kind === 'pointer' && rp.kind === 'pointer') {
      if (op === '-') {
        const size = lp.untyped || rp.untyped || !sameType(lp.to, rp.to) ? 1 : this.#step(lp.to);
        return { type: LONG, number: operation('div_s', operation('sub', left.number, right.number), constant(size || 1)) };
      }
    } else if (op === '+' || (op === '-' && lp.kind === 'pointer')) {
      const [pointer, other] = lp.kind === 'pointer' ? [left, right] : [right, left];
      const t = plain(pointer.type);
      const step = t.kind === 'pointer' && !t.untyped ? this.#step(t.to) : 1;
      return { type: pointer.type, number: operation(op === '-' ? 'sub' : 'add', pointer.number, this.#scaled(other, step)) };
    }
    // A float is no number here; what else there is has 64 bits or less.
    for (const m of [left, right]) if (plain(m.type).kind !== 'pointer') this.#promoted(m);
    return this.#integers(op, left.number, right.number, UNSIGNED_LONG);
  }
}
