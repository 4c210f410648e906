/** A C object or a result: its type, and where its bytes are. Nothing is read before somebody asks. */
import { viewOf } from '../../emulator/base/struct.ts';
import {
  type BitField,
  type CompoundType,
  type Member,
  type PlainType,
  plain,
  sizeOf,
  type Type,
  UNSIGNED_INT128,
  UNSIGNED_LONG,
} from './model.ts';

/** Why a value cannot be read, written or used: words for the person who looks at it. */
export class ValueError extends Error {}

/** Where bytes are. */
export interface Storage {
  /** Of the first byte, when it is in memory. */
  readonly address?: bigint;
  /** Throws ValueError. */
  read(at: number, size: number): Uint8Array;
  /** Throws ValueError. */
  write(at: number, data: Uint8Array): void;
}

/** Memory as a VP sees it. */
export interface Memory {
  /** Undefined when some of it is not mapped. */
  read(address: bigint, size: number): Uint8Array | undefined;
  /** False when some of it is not mapped. Left out: nothing may be written. */
  write?(address: bigint, data: Uint8Array): boolean;
}

/** Bytes that one value may have: more is looked at piece by piece. */
const MAX_BYTES = 1 << 20;

const address64 = (address: bigint): bigint => BigInt.asUintN(64, address);

export class MemoryStorage implements Storage {
  readonly address: bigint;
  readonly #memory: Memory;

  constructor(memory: Memory, address: bigint) {
    this.#memory = memory;
    this.address = address64(address);
  }

  read(at: number, size: number): Uint8Array {
    const address = address64(this.address + BigInt(at));
    if (size > MAX_BYTES) throw new ValueError(`${size} bytes are too many to read at once`);
    const bytes = this.#memory.read(address, size);
    if (!bytes) throw new ValueError(`cannot read ${size} bytes at 0x${address.toString(16)}`);
    return bytes;
  }

  write(at: number, data: Uint8Array): void {
    const address = address64(this.address + BigInt(at));
    if (!this.#memory.write?.(address, data))
      throw new ValueError(`cannot write ${data.length} bytes at 0x${address.toString(16)}`);
  }
}

/** Bytes that are nowhere: constants, and what the compiler only told. */
export class ConstantStorage implements Storage {
  readonly #bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }
  read(at: number, size: number): Uint8Array {
    if (at + size > this.#bytes.length) throw new ValueError('<optimized out>');
    return this.#bytes.subarray(at, at + size);
  }
  write(): void {
    throw new ValueError('this value has no place: it cannot be changed');
  }
}

/** What is not there, and why: `<optimized out>`. */
export class NoStorage implements Storage {
  readonly #why: string;
  constructor(why: string) {
    this.#why = why;
  }
  read(): Uint8Array {
    throw new ValueError(this.#why);
  }
  write(): void {
    throw new ValueError(`${this.#why}: it cannot be changed`);
  }
}

interface Parts {
  readonly type: Type;
  readonly storage?: Storage;
  /** Bytes from the start of the storage. */
  readonly offset?: number;
  readonly bits?: BitField;
  /** What it is called where types do not tell what it is for: `task_struct.children`, `modules`. */
  readonly from?: string;
  /** The number, of a result that is in no storage. */
  readonly known?: bigint;
  readonly text?: string;
  readonly data?: object;
}

export class Value {
  readonly type: Type;
  readonly storage: Storage | undefined;
  readonly offset: number;
  readonly bits: BitField | undefined;
  readonly from: string | undefined;
  /** Text of fields that are text. */
  readonly text: string | undefined;
  /** Lists, structures and bytes that are not the guest's. */
  readonly data: object | undefined;
  #known: bigint | undefined;

  constructor(parts: Parts) {
    this.type = parts.type;
    this.storage = parts.storage;
    this.offset = parts.offset ?? 0;
    this.bits = parts.bits;
    this.from = parts.from;
    this.text = parts.text;
    this.data = parts.data;
    this.#known = parts.known;
  }

  /** A result. */
  static of(type: Type, value: bigint): Value {
    return new Value({ type, known: wrap(value, type) });
  }
  /** An object in memory. */
  static at(type: Type, memory: Memory, address: bigint, from?: string): Value {
    return new Value({ type, storage: new MemoryStorage(memory, address), ...(from === undefined ? {} : { from }) });
  }

  get plain(): PlainType {
    return plain(this.type);
  }

  /** Where it is in memory, undefined when it is not there. A bit-field's is that of the byte its lowest bit is in. */
  get address(): bigint | undefined {
    const base = this.storage?.address;
    return base === undefined ? undefined : address64(base + BigInt(this.offset));
  }

  /** Its bytes. Throws ValueError. */
  bytes(): Uint8Array {
    const size = this.bits ? Math.ceil((this.bits.at + this.bits.size) / 8) : sizeOf(this.type);
    if (this.storage) return this.storage.read(this.offset, size);
    return bytesOf(this.value, size);
  }

  /**
   * The number: of an integer, enumeration, boolean or pointer its value, of an array or function its address, of a floating
   * point number its whole part. Throws ValueError when it cannot be read, or is a struct.
   */
  get value(): bigint {
    if (this.#known !== undefined) return this.#known;
    if (this.text !== undefined || this.data !== undefined) return 0n;
    const t = this.plain;
    switch (t.kind) {
      case 'array':
      case 'function': {
        const { address } = this;
        if (address === undefined)
          throw new ValueError(`${t.kind === 'array' ? 'an array' : 'a function'} that is not in memory`);
        return address;
      }
      case 'struct':
      case 'union':
      case 'void':
        throw new ValueError(t.kind === 'void' ? 'a void has no value' : `a ${t.kind} is not a number`);
      default: {
        const value = this.#load(t);
        // A value is what it was when it was first looked at: expressions see one state.
        this.#known = value;
        return value;
      }
    }
  }

  #load(t: PlainType): bigint {
    const bytes = this.bytes();
    if (t.kind === 'base' && t.encoding === 'float') {
      const n = floatOf(bytes);
      return Number.isFinite(n) ? BigInt(Math.trunc(n)) : 0n;
    }
    let value = numberOf(bytes);
    if (this.bits) value = BigInt.asUintN(this.bits.size, value >> BigInt(this.bits.at));
    const width = this.bits?.size ?? bytes.length * 8;
    if (t.kind === 'base' && t.encoding === 'boolean') return value;
    return (t.kind === 'base' || t.kind === 'enum') && t.signed ? BigInt.asIntN(width, value) : value;
  }

  /** A floating point number's value. */
  get float(): number {
    const t = this.plain;
    return t.kind === 'base' && t.encoding === 'float' && this.storage ? floatOf(this.bytes()) : Number(this.value);
  }

  /** Puts a number there, as much of it as there is room for. Throws ValueError. */
  store(value: bigint): void {
    const t = this.plain;
    if (!this.storage) throw new ValueError('this is not something that can be assigned to');
    if (t.kind !== 'base' && t.kind !== 'enum' && t.kind !== 'pointer')
      throw new ValueError(`${t.kind === 'array' ? 'an array' : `a ${t.kind}`} cannot be assigned to`);
    this.#known = undefined;
    const { bits } = this;
    if (bits) {
      const old = this.bytes();
      const mask = ((1n << BigInt(bits.size)) - 1n) << BigInt(bits.at);
      const field = (value << BigInt(bits.at)) & mask;
      this.storage.write(this.offset, bytesOf((numberOf(old) & ~mask) | field, old.length));
      return;
    }
    const size = sizeOf(t);
    if (t.kind === 'base' && t.encoding === 'float') {
      const bytes = new Uint8Array(size);
      if (size === 4) viewOf(bytes).setFloat32(0, Number(value), true);
      else if (size === 8) viewOf(bytes).setFloat64(0, Number(value), true);
      else throw new ValueError('a floating point number of this size cannot be assigned to');
      this.storage.write(this.offset, bytes);
      return;
    }
    this.storage.write(this.offset, bytesOf(t.kind === 'base' && t.encoding === 'boolean' ? (value ? 1n : 0n) : value, size));
  }

  /** Puts bytes there. Throws ValueError. */
  storeBytes(data: Uint8Array): void {
    if (!this.storage || this.bits) throw new ValueError('this is not something that can be assigned to');
    this.#known = undefined;
    this.storage.write(this.offset, data);
  }

  /** The same thing with another name to be known by. */
  called(from: string | undefined): Value {
    const { type, storage, offset, bits, text, data } = this;
    const known = this.#known;
    return new Value({ type, storage, offset, bits, from, text, data, known });
  }
}

/** A number as a type of its size and sign holds it. */
export function wrap(value: bigint, type: Type): bigint {
  const t = plain(type);
  switch (t.kind) {
    case 'base':
      if (t.encoding === 'boolean') return value === 0n ? 0n : 1n;
      if (t.encoding === 'float') return value;
      return t.signed ? BigInt.asIntN(t.size * 8, value) : BigInt.asUintN(t.size * 8, value);
    case 'enum':
      return t.signed ? BigInt.asIntN(t.size * 8, value) : BigInt.asUintN(t.size * 8, value);
    default:
      return BigInt.asUintN(64, value);
  }
}

/** Little-endian bytes as a number. */
export function numberOf(bytes: Uint8Array): bigint {
  if (bytes.length === 8) return viewOf(bytes).getBigUint64(0, true);
  if (bytes.length === 4) return BigInt(viewOf(bytes).getUint32(0, true));
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]);
  return value;
}

/** A number as `size` little-endian bytes. */
export function bytesOf(value: bigint, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let rest = BigInt.asUintN(size * 8, value);
  for (let i = 0; i < size; i++) {
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return bytes;
}

function floatOf(bytes: Uint8Array): number {
  const view = viewOf(bytes);
  if (bytes.length === 4) return view.getFloat32(0, true);
  if (bytes.length === 8) return view.getFloat64(0, true);
  if (bytes.length !== 16) return Number.NaN;
  // IEEE 754 binary128, rounded to what a number here can hold.
  const high = view.getBigUint64(8, true);
  const exponent = Number((high >> 48n) & 0x7fffn);
  const fraction = Number(((high & 0xffff_ffff_ffffn) << 64n) | view.getBigUint64(0, true)) / 2 ** 112;
  const sign = high >> 63n ? -1 : 1;
  if (exponent === 0x7fff) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent === 0 ? fraction * 2 ** -16382 : (1 + fraction) * 2 ** (exponent - 16383));
}

/** What a register or a field that has no C type is: as wide as it is, unsigned. */
export const unsignedOf = (bits: number): Type => (bits > 64 ? UNSIGNED_INT128 : UNSIGNED_LONG);

/** The members that an object has: of alternatives the one that its number tells. */
export function membersOf(value: Value, t: CompoundType): readonly Member[] {
  const { members, variants } = t;
  const { discriminant } = variants ?? {};
  if (!variants || !discriminant) return members;
  let number: bigint;
  try {
    const { type, offset, bits } = discriminant;
    const told = new Value({ type, storage: value.storage, offset: value.offset + offset, bits });
    number = BigInt.asUintN(64, told.value);
  } catch (e) {
    if (e instanceof ValueError) return members;
    throw e;
  }
  const width = BigInt.asUintN(8 * sizeOf(discriminant.type), -1n);
  const here =
    variants.of.find((v) => v.values?.some(([from, to]) => number >= (from & width) && number <= (to & width))) ??
    variants.of.find((v) => !v.values);
  return members.filter((m) => m === here?.member || !variants.of.some((v) => v.member === m));
}
