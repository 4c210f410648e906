/**
 * A writer of WebAssembly instructions, by the names of the WebAssembly specification (binary format, section 5.4).
 * Knows nothing of A64.
 */

/** Value types (section 5.3.1). */
export const TYPE = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b } as const;
export type WasmType = keyof typeof TYPE;

const PREFIX_MISC = 0xfc;
const PREFIX_SIMD = 0xfd;

/** Opcode by instruction name; prefixed opcodes are `prefix << 16 | opcode`. */
const OPCODES = new Map<string, number>();

/** Names in opcode order from `first`; `-` leaves a gap. `ty/` in front sets the type of the names after it. */
function define(prefix: number, first: number, names: string): void {
  let code = first;
  let type = '';
  for (const word of names.trim().split(/\s+/)) {
    if (word.endsWith('/')) {
      type = word === '/' ? '' : `${word.slice(0, -1)}.`;
      continue;
    }
    if (word !== '-') OPCODES.set(type + word, (prefix << 16) | code);
    code++;
  }
}

// Sections 5.4.1, 5.4.3: control and parametric instructions without immediates.
define(0, 0x00, 'unreachable nop');
define(0, 0x0f, 'return');
define(0, 0x1a, 'drop select');
// Section 5.4.6: memory.
define(
  0,
  0x28,
  `i32/ load i64/ load f32/ load f64/ load i32/ load8_s load8_u load16_s load16_u
  i64/ load8_s load8_u load16_s load16_u load32_s load32_u i32/ store i64/ store f32/ store f64/ store
  i32/ store8 store16 i64/ store8 store16 store32`,
);
// Section 5.4.7: numeric.
const COMPARE = 'eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u';
const INT = 'clz ctz popcnt add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr';
const FLOAT = 'abs neg ceil floor trunc nearest sqrt add sub mul div min max copysign';
define(
  0,
  0x45,
  `i32/ eqz ${COMPARE} i64/ eqz ${COMPARE} f32/ eq ne lt gt le ge f64/ eq ne lt gt le ge
  i32/ ${INT} i64/ ${INT} f32/ ${FLOAT} f64/ ${FLOAT}
  i32/ wrap_i64 trunc_f32_s trunc_f32_u trunc_f64_s trunc_f64_u
  i64/ extend_i32_s extend_i32_u trunc_f32_s trunc_f32_u trunc_f64_s trunc_f64_u
  f32/ convert_i32_s convert_i32_u convert_i64_s convert_i64_u demote_f64
  f64/ convert_i32_s convert_i32_u convert_i64_s convert_i64_u promote_f32
  i32/ reinterpret_f32 i64/ reinterpret_f64 f32/ reinterpret_i32 f64/ reinterpret_i64
  i32/ extend8_s extend16_s i64/ extend8_s extend16_s extend32_s`,
);
define(
  PREFIX_MISC,
  0x00,
  `i32/ trunc_sat_f32_s trunc_sat_f32_u trunc_sat_f64_s trunc_sat_f64_u
  i64/ trunc_sat_f32_s trunc_sat_f32_u trunc_sat_f64_s trunc_sat_f64_u memory/ init - copy fill`,
);
// Section 5.4.8: vector.
const VFLOAT = 'add sub mul div min max pmin pmax';
define(
  PREFIX_SIMD,
  0x00,
  `v128/ load load8x8_s load8x8_u load16x4_s load16x4_u load32x2_s load32x2_u
  load8_splat load16_splat load32_splat load64_splat store const
  i8x16/ shuffle swizzle splat i16x8/ splat i32x4/ splat i64x2/ splat f32x4/ splat f64x2/ splat
  i8x16/ extract_lane_s extract_lane_u replace_lane i16x8/ extract_lane_s extract_lane_u replace_lane
  i32x4/ extract_lane replace_lane i64x2/ extract_lane replace_lane
  f32x4/ extract_lane replace_lane f64x2/ extract_lane replace_lane
  i8x16/ ${COMPARE} i16x8/ ${COMPARE} i32x4/ ${COMPARE}
  f32x4/ eq ne lt gt le ge f64x2/ eq ne lt gt le ge
  v128/ not and andnot or xor bitselect any_true
  load8_lane load16_lane load32_lane load64_lane store8_lane store16_lane store32_lane store64_lane load32_zero load64_zero
  f32x4/ demote_f64x2_zero f64x2/ promote_low_f32x4
  i8x16/ abs neg popcnt all_true bitmask narrow_i16x8_s narrow_i16x8_u f32x4/ ceil floor trunc nearest
  i8x16/ shl shr_s shr_u add add_sat_s add_sat_u sub sub_sat_s sub_sat_u f64x2/ ceil floor
  i8x16/ min_s min_u max_s max_u f64x2/ trunc i8x16/ avgr_u
  i16x8/ extadd_pairwise_i8x16_s extadd_pairwise_i8x16_u i32x4/ extadd_pairwise_i16x8_s extadd_pairwise_i16x8_u
  i16x8/ abs neg q15mulr_sat_s all_true bitmask narrow_i32x4_s narrow_i32x4_u
  extend_low_i8x16_s extend_high_i8x16_s extend_low_i8x16_u extend_high_i8x16_u
  shl shr_s shr_u add add_sat_s add_sat_u sub sub_sat_s sub_sat_u f64x2/ nearest
  i16x8/ mul min_s min_u max_s max_u - avgr_u extmul_low_i8x16_s extmul_high_i8x16_s extmul_low_i8x16_u extmul_high_i8x16_u
  i32x4/ abs neg - all_true bitmask - - extend_low_i16x8_s extend_high_i16x8_s extend_low_i16x8_u extend_high_i16x8_u
  shl shr_s shr_u add - - sub - - - mul min_s min_u max_s max_u dot_i16x8_s -
  extmul_low_i16x8_s extmul_high_i16x8_s extmul_low_i16x8_u extmul_high_i16x8_u
  i64x2/ abs neg - all_true bitmask - - extend_low_i32x4_s extend_high_i32x4_s extend_low_i32x4_u extend_high_i32x4_u
  shl shr_s shr_u add - - sub - - - mul eq ne lt_s gt_s le_s ge_s
  extmul_low_i32x4_s extmul_high_i32x4_s extmul_low_i32x4_u extmul_high_i32x4_u
  f32x4/ abs neg - sqrt ${VFLOAT} f64x2/ abs neg - sqrt ${VFLOAT}
  i32x4/ trunc_sat_f32x4_s trunc_sat_f32x4_u f32x4/ convert_i32x4_s convert_i32x4_u
  i32x4/ trunc_sat_f64x2_s_zero trunc_sat_f64x2_u_zero f64x2/ convert_low_i32x4_s convert_low_i32x4_u`,
);

/** Every instruction name, for tests. */
export const OPCODE_NAMES: readonly string[] = [...OPCODES.keys()];

/** True when WebAssembly has an instruction of this name. */
export const hasOpcode = (name: string): boolean => OPCODES.has(name);

/** Bytes, and integers as the binary format has them (section 5.2.2: LEB128). */
export class Bytes {
  #buffer = new Uint8Array(256);
  #length = 0;

  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }
  /** Makes room for `n` bytes: before anything that writes. */
  room(n: number): void {
    if (this.#length + n <= this.#buffer.length) return;
    const larger = new Uint8Array(this.#buffer.length * 2 + n);
    larger.set(this.#buffer);
    this.#buffer = larger;
  }
  byte(b: number): void {
    this.#buffer[this.#length++] = b;
  }
  /** Unsigned, below 2^32. */
  unsigned(v: number): void {
    v >>>= 0;
    while (v > 0x7f) {
      this.#buffer[this.#length++] = (v & 0x7f) | 0x80;
      v >>>= 7;
    }
    this.#buffer[this.#length++] = v;
  }
  /** Signed, 32 bits. */
  signed32(v: number): void {
    v |= 0;
    while (v < -64 || v > 63) {
      this.#buffer[this.#length++] = (v & 0x7f) | 0x80;
      v >>= 7;
    }
    this.#buffer[this.#length++] = v & 0x7f;
  }
  /** Signed, taken modulo 2^64. */
  signed64(v: bigint): void {
    v = BigInt.asIntN(64, v);
    const n = Number(v);
    if (n >= -0x80000000 && n <= 0x7fffffff) {
      this.signed32(n);
      return;
    }
    while (v < -64n || v > 63n) {
      this.byte(Number(v & 0x7fn) | 0x80);
      v >>= 7n;
    }
    this.byte(Number(v & 0x7fn));
  }
}

/** A structured block, as a target of branches. */
export type Label = number;

/** Number of an instruction for `Code.raw`. */
export function opcode(name: string): number {
  const op = OPCODES.get(name);
  if (op === undefined) throw new Error(`WebAssembly has no ${name}`);
  return op;
}

/** Room that one call of a method of `Code` needs at most, shuffles and tables aside. */
const ROOM = 32;

/** The body of one function: parameters, locals and instructions. Locals are numbered after the parameters. */
export class Code {
  readonly params: readonly WasmType[];
  readonly results: readonly WasmType[];
  readonly locals: WasmType[] = [];
  #depth = 0;
  readonly #out = new Bytes();

  constructor(params: readonly WasmType[], results: readonly WasmType[]) {
    this.params = params;
    this.results = results;
  }

  /** What has been written. */
  get bytes(): Uint8Array {
    return this.#out.bytes;
  }

  /** A new local variable. */
  local(type: WasmType): number {
    this.locals.push(type);
    return this.params.length + this.locals.length - 1;
  }

  /** An instruction by its number (`opcode`), without immediates. */
  raw(op: number): this {
    this.#out.room(ROOM);
    if (op < 0x10000) this.#out.byte(op);
    else {
      this.#out.byte(op >>> 16);
      this.#out.unsigned(op & 0xffff);
    }
    return this;
  }
  /** An instruction that takes nothing but lane numbers or shuffle bytes as immediates. */
  op(name: string, immediate?: readonly number[]): this {
    this.raw(opcode(name));
    if (immediate) for (const b of immediate) this.#out.byte(b);
    return this;
  }
  /** A load or store (of a `lane`) at the address on the stack + `offset`. */
  mem(name: string, offset = 0, lane?: number): this {
    this.raw(opcode(name));
    this.#out.byte(0);
    this.#out.unsigned(offset);
    if (lane !== undefined) this.#out.byte(lane);
    return this;
  }
  #with(op: number, v: number): this {
    this.#out.room(ROOM);
    this.#out.byte(op);
    this.#out.unsigned(v);
    return this;
  }
  i32(v: number): this {
    this.#out.room(ROOM);
    this.#out.byte(0x41);
    this.#out.signed32(v);
    return this;
  }
  i64(v: bigint | number): this {
    this.#out.room(ROOM);
    this.#out.byte(0x42);
    if (typeof v === 'number' && v >= -0x80000000 && v <= 0x7fffffff) this.#out.signed32(v);
    else this.#out.signed64(BigInt(v));
    return this;
  }
  #constant(op: number, bytes: Uint8Array): this {
    this.#out.room(ROOM);
    this.#out.byte(op);
    for (const b of bytes) this.#out.byte(b);
    return this;
  }
  f32(v: number): this {
    return this.#constant(0x43, new Uint8Array(new Float32Array([v]).buffer));
  }
  f64(v: number): this {
    return this.#constant(0x44, new Uint8Array(new Float64Array([v]).buffer));
  }
  v128(v: bigint): this {
    this.op('v128.const');
    for (let i = 0; i < 16; i++) this.#out.byte(Number((v >> BigInt(8 * i)) & 0xffn));
    return this;
  }
  get(local: number): this {
    return this.#with(0x20, local);
  }
  set(local: number): this {
    return this.#with(0x21, local);
  }
  tee(local: number): this {
    return this.#with(0x22, local);
  }

  #enter(opcode: number, type?: WasmType): Label {
    this.#out.room(ROOM);
    this.#out.byte(opcode);
    this.#out.byte(type ? TYPE[type] : 0x40);
    return this.#depth++;
  }
  block(type?: WasmType): Label {
    return this.#enter(0x02, type);
  }
  loop(type?: WasmType): Label {
    return this.#enter(0x03, type);
  }
  if(type?: WasmType): Label {
    return this.#enter(0x04, type);
  }
  else(): this {
    return this.raw(0x05);
  }
  end(): this {
    this.#depth--;
    return this.raw(0x0b);
  }
  br(label: Label): this {
    return this.#with(0x0c, this.#depth - 1 - label);
  }
  brIf(label: Label): this {
    return this.#with(0x0d, this.#depth - 1 - label);
  }
  brTable(labels: readonly Label[], otherwise: Label): this {
    this.#out.room(5 * labels.length + ROOM);
    this.#out.byte(0x0e);
    this.#out.unsigned(labels.length);
    for (const l of labels) this.#out.unsigned(this.#depth - 1 - l);
    this.#out.unsigned(this.#depth - 1 - otherwise);
    return this;
  }
  ret(): this {
    return this.raw(0x0f);
  }
  call(func: number): this {
    return this.#with(0x10, func);
  }
  /** Calls the function of signature `type` at the table index on the stack. */
  callIndirect(type: number): this {
    this.#with(0x11, type);
    this.#out.byte(0);
    return this;
  }
}
