/** Trees to values. 64-bit arithmetic as C does it on LP64; wider registers keep their width. */
import { viewOf } from '../../emulator/base/struct.ts';
import { ExpressionError, type Node, parse, type Type } from './parse.ts';

/** What names and addresses mean where the expression is evaluated. Each answers undefined for what it does not know. */
export interface Context {
  /** `$x0`: value, width in bits, and whether it always is an address. */
  register(name: string): { value: bigint; bits: number; address?: boolean } | undefined;
  /** Anything without `$` but symbols: `hv.` registers, fields. Objects and lists may be looked into. */
  name(name: string): bigint | number | string | boolean | object | undefined;
  /** Address of a symbol. */
  symbol(name: string): bigint | undefined;
  read(address: bigint, size: number): Uint8Array | undefined;
}
/** Where something can be assigned to. */
export interface Target extends Context {
  setRegister(name: string, value: bigint): boolean;
  /** `hv.` registers. */
  setName(name: string, value: bigint): boolean;
  write(address: bigint, data: Uint8Array): boolean;
}

export interface Value {
  value: bigint;
  type: Type;
  /** Text, for fields that are text. */
  text?: string;
  /** Lists, structures and bytes. */
  data?: object;
}

const U64: Type = { size: 8, signed: false };
const ADDRESS: Type = { size: 8, signed: false, address: true };
const S64: Type = { size: 8, signed: true };

const wrap = (value: bigint, type: Type): bigint =>
  type.signed ? BigInt.asIntN(type.size * 8, value) : BigInt.asUintN(type.size * 8, value);
const number = (value: bigint, type: Type): Value => ({ value: wrap(value, type), type });

function wide(value: unknown): Value {
  if (typeof value === 'bigint')
    return value >> 64n > 0n ? number(value, { size: 16, signed: false }) : number(value, value < 0n ? S64 : U64);
  if (typeof value === 'number') return number(BigInt(Math.trunc(value)), value < 0 ? S64 : U64);
  if (typeof value === 'boolean') return number(value ? 1n : 0n, U64);
  if (typeof value === 'string') return { value: 0n, type: U64, text: value };
  return { value: 0n, type: U64, data: value as object };
}

/** C11 6.3.1.8 for LP64: signed only when both are. */
const common = (a: Type, b: Type): Type => ({ size: Math.max(8, a.size, b.size), signed: a.signed && b.signed });

const truth = (v: Value): boolean => (v.text !== undefined ? v.text !== '' : v.data !== undefined ? true : v.value !== 0n);
const plain = (v: Value, what: string): Value => {
  if (v.text !== undefined || v.data !== undefined) throw new ExpressionError(`${what} needs a number`);
  return v;
};

function load(address: bigint, type: Type, context: Context): Value {
  const raw = context.read(BigInt.asUintN(64, address), type.size);
  if (!raw) throw new ExpressionError(`cannot read ${type.size} bytes at 0x${BigInt.asUintN(64, address).toString(16)}`);
  const view = viewOf(raw);
  const value =
    type.size === 1
      ? BigInt(view.getUint8(0))
      : type.size === 2
        ? BigInt(view.getUint16(0, true))
        : type.size === 4
          ? BigInt(view.getUint32(0, true))
          : view.getBigUint64(0, true);
  return number(value, type);
}

/** Address and type of what `*` and `[]` reach. */
function place(node: Node, context: Context): { address: bigint; type: Type } | undefined {
  if (node.kind === 'unary' && node.op === '*') {
    const pointer = plain(evaluate(node.of, context), '*');
    return { address: pointer.value, type: pointer.type.to ?? U64 };
  }
  if (node.kind === 'index') {
    const pointer = evaluate(node.of, context);
    if (pointer.data !== undefined) return undefined;
    const to = plain(pointer, '[]').type.to ?? U64;
    return { address: pointer.value + plain(evaluate(node.at, context), '[]').value * BigInt(to.size), type: to };
  }
  return undefined;
}

export function evaluate(node: Node, context: Context): Value {
  switch (node.kind) {
    case 'number':
      return number(node.value, node.value >> 63n === 0n ? S64 : U64);
    case 'string':
      return { value: 0n, type: U64, text: node.value };
    case 'register': {
      const found = context.register(node.name);
      if (!found) throw new ExpressionError(`no register $${node.name}`);
      return number(found.value, found.address ? ADDRESS : { size: Math.max(8, found.bits / 8), signed: false });
    }
    case 'name': {
      const found = context.name(node.name);
      if (found !== undefined) return wide(found);
      const address = context.symbol(node.name);
      if (address === undefined) throw new ExpressionError(`${node.name} is not known here`);
      return number(address, ADDRESS);
    }
    case 'cast': {
      const inner = plain(evaluate(node.of, context), 'a cast');
      return number(inner.value, node.type);
    }
    case 'choice':
      return evaluate(truth(evaluate(node.test, context)) ? node.then : node.else, context);
    case 'index': {
      const target = place(node, context);
      if (target) return load(target.address, target.type, context);
      const data = evaluate(node.of, context).data as Record<string, unknown>;
      const at = plain(evaluate(node.at, context), '[]').value.toString();
      const item = data[at];
      if (!Object.hasOwn(data, at) || item === undefined) throw new ExpressionError(`there is no element ${at}`);
      return wide(item);
    }
    case 'unary': {
      if (node.op === '&') {
        const target = place(node.of, context);
        if (target) return number(target.address, { ...U64, to: target.type });
        // A symbol's value already is its address.
        return evaluate(node.of, context);
      }
      if (node.op === '*') {
        const target = place(node, context) as { address: bigint; type: Type };
        return load(target.address, target.type, context);
      }
      const v = evaluate(node.of, context);
      if (node.op === '!') return number(truth(v) ? 0n : 1n, S64);
      const n = plain(v, node.op);
      const type = { size: Math.max(8, n.type.size), signed: n.type.signed };
      return number(node.op === '-' ? -n.value : node.op === '~' ? ~n.value : n.value, type);
    }
    case 'binary':
      return binary(node.op, node.left, node.right, context);
  }
}

function binary(op: string, leftNode: Node, rightNode: Node, context: Context): Value {
  const left = evaluate(leftNode, context);
  if (op === '&&') return number(truth(left) && truth(evaluate(rightNode, context)) ? 1n : 0n, S64);
  if (op === '||') return number(truth(left) || truth(evaluate(rightNode, context)) ? 1n : 0n, S64);
  const right = evaluate(rightNode, context);
  if (left.text !== undefined && right.text !== undefined && (op === '==' || op === '!='))
    return number((left.text === right.text) === (op === '==') ? 1n : 0n, S64);
  plain(left, op);
  plain(right, op);
  const type = common(left.type, right.type);
  const a = wrap(left.value, type);
  const b = wrap(right.value, type);
  const test = (yes: boolean) => number(yes ? 1n : 0n, S64);
  // Pointer arithmetic counts in what is pointed to.
  const scale = left.type.to && (op === '+' || op === '-') && !right.type.to ? BigInt(left.type.to.size) : 1n;
  const moves = (op === '+' || op === '-') && !right.type.to && !right.type.address;
  const result: Type = moves && (left.type.to || left.type.address) ? left.type : type;
  switch (op) {
    case '+':
      return number(a + b * scale, result);
    case '-':
      return number(a - b * scale, result);
    case '*':
      return number(a * b, type);
    case '/':
    case '%':
      if (b === 0n) throw new ExpressionError('division by zero');
      return number(op === '/' ? a / b : a % b, type);
    case '&':
      return number(a & b, type);
    case '|':
      return number(a | b, type);
    case '^':
      return number(a ^ b, type);
    case '<<':
      return number(a << (b & 127n), type);
    case '>>':
      return number(a >> (b & 127n), type);
    case '==':
      return test(a === b);
    case '!=':
      return test(a !== b);
    case '<':
      return test(a < b);
    case '>':
      return test(a > b);
    case '<=':
      return test(a <= b);
    case '>=':
      return test(a >= b);
    default:
      throw new ExpressionError(`operator ${op} is not known`);
  }
}

/** Value of an expression's text. */
export const evaluateText = (text: string, context: Context): Value => evaluate(parse(text), context);

/** True when `value` counts as true in C. */
export const isTrue = truth;

/** Assigns to a register, an `hv.` register or memory. Returns the new value. */
export function assign(text: string, value: Value, target: Target): Value {
  const node = parse(text);
  const n = plain(value, 'an assignment');
  if (node.kind === 'register') {
    const known = target.register(node.name);
    if (!known) throw new ExpressionError(`no register $${node.name}`);
    if (!target.setRegister(node.name, BigInt.asUintN(known.bits, n.value)))
      throw new ExpressionError(`$${node.name} cannot be written`);
    return evaluate(node, target);
  }
  if (node.kind === 'name') {
    if (!target.setName(node.name, BigInt.asUintN(128, n.value))) throw new ExpressionError(`${node.name} cannot be written`);
    return evaluate(node, target);
  }
  const at = place(node, target);
  if (!at) throw new ExpressionError(`"${text}" is not something that can be assigned to`);
  const bytes = new Uint8Array(at.type.size);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number((BigInt.asUintN(64, n.value) >> BigInt(8 * i)) & 0xffn);
  if (!target.write(BigInt.asUintN(64, at.address), bytes))
    throw new ExpressionError(`cannot write ${bytes.length} bytes at 0x${BigInt.asUintN(64, at.address).toString(16)}`);
  return load(at.address, at.type, target);
}
