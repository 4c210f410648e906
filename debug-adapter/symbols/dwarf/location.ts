/**
 * DWARF expressions (DWARF 5 §2.5, §2.6): where a variable is, or what it is. The bytes come from a file that may be damaged, what
 * they are computed from comes from the guest: steps, depth and sizes are bounded.
 */
import { DW_AT, DW_TAG } from './constants.ts';
import type { Die } from './die.ts';
import { Reader } from './reader.ts';
import type { Unit } from './unit.ts';

/** DWARF 5 §7.7.1, table 7.9, and the GNU operations that gcc emitted before there was DWARF 5. */
export const DW_OP = {
  addr: 0x03,
  deref: 0x06,
  const1u: 0x08,
  const1s: 0x09,
  const2u: 0x0a,
  const2s: 0x0b,
  const4u: 0x0c,
  const4s: 0x0d,
  const8u: 0x0e,
  const8s: 0x0f,
  constu: 0x10,
  consts: 0x11,
  dup: 0x12,
  drop: 0x13,
  over: 0x14,
  pick: 0x15,
  swap: 0x16,
  rot: 0x17,
  xderef: 0x18,
  abs: 0x19,
  and: 0x1a,
  div: 0x1b,
  minus: 0x1c,
  mod: 0x1d,
  mul: 0x1e,
  neg: 0x1f,
  not: 0x20,
  or: 0x21,
  plus: 0x22,
  plus_uconst: 0x23,
  shl: 0x24,
  shr: 0x25,
  shra: 0x26,
  xor: 0x27,
  bra: 0x28,
  eq: 0x29,
  ge: 0x2a,
  gt: 0x2b,
  le: 0x2c,
  lt: 0x2d,
  ne: 0x2e,
  skip: 0x2f,
  lit0: 0x30,
  reg0: 0x50,
  breg0: 0x70,
  regx: 0x90,
  fbreg: 0x91,
  bregx: 0x92,
  piece: 0x93,
  deref_size: 0x94,
  nop: 0x96,
  push_object_address: 0x97,
  call2: 0x98,
  call4: 0x99,
  call_ref: 0x9a,
  form_tls_address: 0x9b,
  call_frame_cfa: 0x9c,
  bit_piece: 0x9d,
  implicit_value: 0x9e,
  stack_value: 0x9f,
  implicit_pointer: 0xa0,
  addrx: 0xa1,
  constx: 0xa2,
  entry_value: 0xa3,
  const_type: 0xa4,
  regval_type: 0xa5,
  deref_type: 0xa6,
  convert: 0xa8,
  reinterpret: 0xa9,
  GNU_push_tls_address: 0xe0,
  GNU_uninit: 0xf0,
  GNU_implicit_pointer: 0xf2,
  GNU_entry_value: 0xf3,
  GNU_const_type: 0xf4,
  GNU_regval_type: 0xf5,
  GNU_deref_type: 0xf6,
  GNU_convert: 0xf7,
  GNU_reinterpret: 0xf9,
  GNU_parameter_ref: 0xfa,
  GNU_addr_index: 0xfb,
  GNU_const_index: 0xfc,
} as const;

/** Where a piece of a value is. */
export type Place =
  | { readonly kind: 'memory'; readonly address: bigint }
  | { readonly kind: 'register'; readonly register: number }
  /** It is nowhere, but this is what it would be: little-endian. */
  | { readonly kind: 'value'; readonly bytes: Uint8Array }
  /** A pointer that is nowhere, to something that is described by a DIE. */
  | { readonly kind: 'pointer'; readonly to: Die; readonly offset: number }
  | { readonly kind: 'none' };

/** A value's place, or its pieces in order; a piece's size in bits. */
export type Located =
  | Place
  | { readonly kind: 'pieces'; readonly pieces: readonly { readonly bits: number; readonly skip: number; readonly at: Place }[] };

/** What an expression is evaluated with. Each answers undefined where it does not know: the value is then optimized out. */
export interface Surroundings {
  register(number: number): bigint | undefined;
  read(address: bigint, size: number): Uint8Array | undefined;
  /** A link-time address, as the guest has it. */
  address(linked: bigint): bigint | undefined;
  frameBase(): bigint | undefined;
  cfa(): bigint | undefined;
  /** What an expression was worth when the function was entered. */
  entryValue(expression: Uint8Array): bigint | undefined;
  /** What the caller passed for a parameter that is optimized out. */
  parameter?(die: Die): bigint | undefined;
  /** Address of something thread-local. */
  threadLocal(offset: bigint): bigint | undefined;
  /** Of the object that a member's or bound's expression is about. */
  readonly object?: bigint;
}

/** Not known here: a register that the frame has lost, memory that is not mapped. */
class Lost extends Error {}

const MAX_STEPS = 10_000;
const MAX_STACK = 256;
const MAX_CALLS = 16;
const MAX_PIECES = 4096;

interface Entry {
  value: bigint;
  /** Bytes; 8 and unsigned for the generic type. */
  size: number;
  signed: boolean;
}

const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const s64 = (value: bigint): bigint => BigInt.asIntN(64, value);

/** Encodings of integers (DWARF 5 §7.8, table 7.11): boolean, signed, signed_char, unsigned, unsigned_char, address, UTF. */
const ATE = { address: 1, boolean: 2, signed: 5, signedChar: 6, unsigned: 7, unsignedChar: 8, utf: 0x10 };

/** The generic type has no sign: division and comparison take it as signed. */
const signedOf = ({ value, size, signed }: Entry): bigint => (size === 8 && !signed ? s64(value) : value);

function compare(op: number, x: bigint, y: bigint): boolean {
  switch (op) {
    case DW_OP.eq:
      return x === y;
    case DW_OP.ge:
      return x >= y;
    case DW_OP.gt:
      return x > y;
    case DW_OP.le:
      return x <= y;
    case DW_OP.lt:
      return x < y;
    default:
      return x !== y;
  }
}

/** DWARF 5 §2.5.1.4; undefined for a division by zero. `x` and `y` are the operands with their signs. */
function combine(op: number, { value: a, size }: Entry, b: bigint, x: bigint, y: bigint): bigint | undefined {
  const bits = BigInt(size * 8);
  const beyond = b < 0n || b >= bits;
  switch (op) {
    case DW_OP.and:
      return a & b;
    case DW_OP.div:
      return y === 0n ? undefined : x / y;
    case DW_OP.minus:
      return a - b;
    case DW_OP.mod:
      return b === 0n ? undefined : a % b;
    case DW_OP.mul:
      return a * b;
    case DW_OP.or:
      return a | b;
    case DW_OP.plus:
      return a + b;
    case DW_OP.shl:
      return beyond ? 0n : a << b;
    case DW_OP.shr:
      return beyond ? 0n : BigInt.asUintN(size * 8, a) >> b;
    case DW_OP.shra:
      return BigInt.asIntN(size * 8, a) >> (beyond ? bits - 1n : b);
    default:
      return a ^ b;
  }
}

class Machine {
  readonly #unit: Unit;
  readonly #around: Surroundings;
  readonly #stack: Entry[] = [];
  #steps = 0;

  constructor(unit: Unit, around: Surroundings, start?: bigint) {
    this.#unit = unit;
    this.#around = around;
    if (start !== undefined) this.#push(start);
  }

  #push(value: bigint, size = 8, signed = false): void {
    if (this.#stack.length >= MAX_STACK) throw this.#unit.fail(0, 'an expression that fills its stack');
    const bits = size * 8;
    this.#stack.push({ value: signed ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value), size, signed });
  }
  #pop(): Entry {
    const entry = this.#stack.pop();
    if (!entry) throw this.#unit.fail(0, 'an expression that takes from an empty stack');
    return entry;
  }
  #peek(depth: number): Entry {
    const entry = this.#stack[this.#stack.length - 1 - depth];
    if (!entry) throw this.#unit.fail(0, 'an expression that looks below its stack');
    return entry;
  }
  #need<T>(value: T | undefined): T {
    if (value === undefined) throw new Lost();
    return value;
  }

  #load(address: bigint, size: number): bigint {
    const bytes = this.#need(this.#around.read(u64(address), size));
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]);
    return value;
  }

  /** A base type by its offset in the unit; 0 is the generic type. */
  #type(offset: number): { size: number; signed: boolean } {
    if (offset === 0) return { size: 8, signed: false };
    const die = this.#unit.die(this.#unit.offset + offset);
    const size = die.number(DW_AT.byte_size) ?? 8;
    const encoding = die.number(DW_AT.encoding) ?? 0;
    const integer = [ATE.address, ATE.boolean, ATE.signed, ATE.signedChar, ATE.unsigned, ATE.unsignedChar, ATE.utf];
    if (die.tag !== DW_TAG.base_type || ![1, 2, 4, 8, 16].includes(size) || !integer.includes(encoding)) throw new Lost();
    return { size, signed: encoding === ATE.signed || encoding === ATE.signedChar };
  }

  #arithmetic(op: number): void {
    const b = this.#pop();
    const a = this.#pop();
    const comparison = op >= DW_OP.eq && op <= DW_OP.ne;
    if (comparison) this.#push(compare(op, signedOf(a), signedOf(b)) ? 1n : 0n);
    else this.#push(this.#need(combine(op, a, b.value, signedOf(a), signedOf(b))), a.size, a.signed);
  }

  /** Runs an expression; `depth`: expressions that have called this one, whose results stay on the stack. */
  run(expression: Uint8Array, depth = 0): Located {
    if (depth > MAX_CALLS) throw this.#unit.fail(0, 'expressions that call each other without end');
    const unit = this.#unit;
    const reader = new Reader(expression, unit.where);
    const pieces: { bits: number; skip: number; at: Place }[] = [];
    let place: Place | undefined;
    const current = (): Place =>
      place ?? (this.#stack.length > 0 ? { kind: 'memory', address: u64(this.#pop().value) } : { kind: 'none' });
    while (!reader.done) {
      if (++this.#steps > MAX_STEPS) throw unit.fail(0, `an expression of more than ${MAX_STEPS} steps`);
      const op = reader.u8();
      if (op >= DW_OP.lit0 && op < DW_OP.lit0 + 32) this.#push(BigInt(op - DW_OP.lit0));
      else if (op >= DW_OP.reg0 && op < DW_OP.reg0 + 32) place = { kind: 'register', register: op - DW_OP.reg0 };
      else if (op >= DW_OP.breg0 && op < DW_OP.breg0 + 32)
        this.#push(this.#need(this.#around.register(op - DW_OP.breg0)) + reader.lebExact(true));
      else if (op === DW_OP.piece || op === DW_OP.bit_piece) {
        const size = reader.uleb();
        const skip = op === DW_OP.bit_piece ? reader.uleb() : 0;
        if (pieces.length >= MAX_PIECES) throw unit.fail(0, `an expression of more than ${MAX_PIECES} pieces`);
        pieces.push({ bits: op === DW_OP.piece ? size * 8 : size, skip, at: current() });
        place = undefined;
      } else place = this.#step(op, reader, depth) ?? place;
    }
    if (pieces.length > 0) return { kind: 'pieces', pieces };
    // A called expression leaves its result on the stack.
    if (depth > 0 && place === undefined) return { kind: 'none' };
    return current();
  }

  /** One operation that is no register, literal or piece; what it says of where the value is. */
  #step(op: number, reader: Reader, depth: number): Place | undefined {
    const unit = this.#unit;
    const around = this.#around;
    switch (op) {
      case DW_OP.addr: {
        const linked = reader.u64();
        this.#push(this.#need(around.address(linked)));
        return undefined;
      }
      case DW_OP.addrx:
      case DW_OP.GNU_addr_index: {
        const { low, high } = unit.addressPair(reader.uleb());
        this.#push(this.#need(around.address((BigInt(high) << 32n) | BigInt(low))));
        return undefined;
      }
      case DW_OP.constx:
      case DW_OP.GNU_const_index: {
        const { low, high } = unit.addressPair(reader.uleb());
        this.#push((BigInt(high) << 32n) | BigInt(low));
        return undefined;
      }
      case DW_OP.const1u:
        this.#push(BigInt(reader.u8()));
        return undefined;
      case DW_OP.const1s:
        this.#push(BigInt.asIntN(8, BigInt(reader.u8())));
        return undefined;
      case DW_OP.const2u:
        this.#push(BigInt(reader.u16()));
        return undefined;
      case DW_OP.const2s:
        this.#push(BigInt.asIntN(16, BigInt(reader.u16())));
        return undefined;
      case DW_OP.const4u:
        this.#push(BigInt(reader.u32()));
        return undefined;
      case DW_OP.const4s:
        this.#push(BigInt.asIntN(32, BigInt(reader.u32())));
        return undefined;
      case DW_OP.const8u:
      case DW_OP.const8s:
        this.#push(reader.u64());
        return undefined;
      case DW_OP.constu:
        this.#push(reader.lebExact(false));
        return undefined;
      case DW_OP.consts:
        this.#push(reader.lebExact(true));
        return undefined;
      case DW_OP.dup:
      case DW_OP.over:
      case DW_OP.pick: {
        const { value, size, signed } = this.#peek(op === DW_OP.dup ? 0 : op === DW_OP.over ? 1 : reader.u8());
        this.#push(value, size, signed);
        return undefined;
      }
      case DW_OP.drop:
        this.#pop();
        return undefined;
      case DW_OP.swap:
      case DW_OP.rot: {
        const moved = this.#pop();
        const others = op === DW_OP.swap ? [this.#pop()] : [this.#pop(), this.#pop()].reverse();
        this.#stack.push(moved, ...others);
        return undefined;
      }
      case DW_OP.deref:
        this.#push(this.#load(this.#pop().value, 8));
        return undefined;
      case DW_OP.deref_size: {
        const size = reader.u8();
        if (size < 1 || size > 8) throw unit.fail(0, `DW_OP_deref_size of ${size}`);
        this.#push(this.#load(this.#pop().value, size));
        return undefined;
      }
      case DW_OP.deref_type:
      case DW_OP.GNU_deref_type: {
        const bytes = reader.u8();
        const { size, signed } = this.#type(reader.uleb());
        if (bytes !== size) throw unit.fail(0, `DW_OP_deref_type of ${bytes} bytes for a type of ${size}`);
        this.#push(this.#load(this.#pop().value, size), size, signed);
        return undefined;
      }
      case DW_OP.abs: {
        const { value, size, signed } = this.#pop();
        const v = size === 8 && !signed ? s64(value) : value;
        this.#push(v < 0n ? -v : v, size, signed);
        return undefined;
      }
      case DW_OP.neg:
      case DW_OP.not: {
        const { value, size, signed } = this.#pop();
        this.#push(op === DW_OP.neg ? -value : ~value, size, signed);
        return undefined;
      }
      case DW_OP.plus_uconst: {
        const { value, size, signed } = this.#pop();
        this.#push(value + reader.lebExact(false), size, signed);
        return undefined;
      }
      case DW_OP.bra:
      case DW_OP.skip: {
        const distance = (reader.u16() << 16) >> 16;
        if (op === DW_OP.skip || this.#pop().value !== 0n) {
          const to = reader.at + distance;
          if (to < 0 || to > reader.end) throw unit.fail(0, 'an expression that jumps out of itself');
          reader.at = to;
        }
        return undefined;
      }
      case DW_OP.regx:
        return { kind: 'register', register: reader.uleb() };
      case DW_OP.fbreg: {
        const offset = reader.lebExact(true);
        this.#push(this.#need(around.frameBase()) + offset);
        return undefined;
      }
      case DW_OP.bregx: {
        const register = reader.uleb();
        this.#push(this.#need(around.register(register)) + reader.lebExact(true));
        return undefined;
      }
      case DW_OP.nop:
      // What gcc says of variables that have no value yet: they are where they will be.
      case DW_OP.GNU_uninit:
        return undefined;
      case DW_OP.push_object_address:
        this.#push(this.#need(around.object));
        return undefined;
      case DW_OP.call2:
      case DW_OP.call4:
      case DW_OP.call_ref: {
        const offset = op === DW_OP.call2 ? reader.u16() : op === DW_OP.call4 ? reader.u32() : reader.word(unit.offsetSize);
        const die = op === DW_OP.call_ref ? unit.file.unitAt('info', offset, reader).die(offset) : unit.die(unit.offset + offset);
        const called = die.block(DW_AT.location);
        if (called) this.run(called, depth + 1);
        return undefined;
      }
      case DW_OP.form_tls_address:
      case DW_OP.GNU_push_tls_address:
        this.#push(this.#need(around.threadLocal(this.#pop().value)));
        return undefined;
      case DW_OP.call_frame_cfa:
        this.#push(this.#need(around.cfa()));
        return undefined;
      case DW_OP.implicit_value:
        return { kind: 'value', bytes: reader.block(reader.uleb()).slice() };
      case DW_OP.stack_value: {
        const { value, size } = this.#pop();
        return { kind: 'value', bytes: littleEndian(value, Math.max(8, size)) };
      }
      case DW_OP.implicit_pointer:
      case DW_OP.GNU_implicit_pointer: {
        const offset = reader.word(unit.version === 2 ? 8 : unit.offsetSize);
        return { kind: 'pointer', to: unit.file.unitAt('info', offset, reader).die(offset), offset: reader.sleb() };
      }
      case DW_OP.entry_value:
      case DW_OP.GNU_entry_value: {
        const inner = reader.block(reader.uleb());
        this.#push(this.#need(around.entryValue(inner)));
        return undefined;
      }
      case DW_OP.GNU_parameter_ref: {
        const die = unit.die(unit.offset + reader.u32());
        this.#push(this.#need(around.parameter?.(die)));
        return undefined;
      }
      case DW_OP.const_type:
      case DW_OP.GNU_const_type: {
        const { size, signed } = this.#type(reader.uleb());
        const bytes = reader.block(reader.u8());
        let value = 0n;
        for (let i = Math.min(size, bytes.length) - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]);
        this.#push(value, size, signed);
        return undefined;
      }
      case DW_OP.regval_type:
      case DW_OP.GNU_regval_type: {
        const register = reader.uleb();
        const { size, signed } = this.#type(reader.uleb());
        this.#push(this.#need(around.register(register)), size, signed);
        return undefined;
      }
      case DW_OP.convert:
      case DW_OP.GNU_convert:
      case DW_OP.reinterpret:
      case DW_OP.GNU_reinterpret: {
        const { size, signed } = this.#type(reader.uleb());
        this.#push(this.#pop().value, size, signed);
        return undefined;
      }
      default:
        if ((op >= DW_OP.and && op <= DW_OP.xor) || (op >= DW_OP.eq && op <= DW_OP.ne)) {
          this.#arithmetic(op);
          return undefined;
        }
        throw unit.fail(0, `DWARF operation 0x${op.toString(16)}, which is not known`);
    }
  }
}

function littleEndian(value: bigint, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let rest = BigInt.asUintN(size * 8, value);
  for (let i = 0; i < size; i++) {
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return bytes;
}

/**
 * Where an expression of `unit` says that a value is. `none`: nowhere, or it needs something that is not known any more. Throws
 * DwarfError for an expression that is none.
 */
export function locate(expression: Uint8Array, unit: Unit, around: Surroundings): Located {
  if (expression.length === 0) return { kind: 'none' };
  try {
    return new Machine(unit, around).run(expression);
  } catch (e) {
    if (e instanceof Lost) return { kind: 'none' };
    throw e;
  }
}

/**
 * The number that an expression computes: DW_AT_call_value, DW_AT_frame_base. A register stands for what it holds, an address for
 * itself. Undefined: something that it needs is not known. Throws DwarfError. `start` is on the stack at first.
 */
export function compute(expression: Uint8Array, unit: Unit, around: Surroundings, start?: bigint): bigint | undefined {
  try {
    const machine = new Machine(unit, around, start);
    const found = machine.run(expression);
    if (found.kind === 'register') return around.register(found.register);
    if (found.kind === 'memory') return found.address;
    if (found.kind !== 'value') return undefined;
    return found.bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n) & 0xffff_ffff_ffff_ffffn;
  } catch (e) {
    if (e instanceof Lost) return undefined;
    throw e;
  }
}
