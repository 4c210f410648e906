/**
 * What the Advanced SIMD rows share: lanes, widths, saturation. Vectors are wasm SIMD128 values; `size` is the Arm ARM's
 * field (0..3: lanes of 8, 16, 32, 64 bits), `width` the bits of a register that take part (an element for scalar forms).
 */
import type { Builder, I32, V128 } from '../builder.ts';
import type { Operand, Raw } from '../insn.ts';
import { VP } from '../vp-state.ts';

const SHAPES = ['i8x16', 'i16x8', 'i32x4', 'i64x2'] as const;

/** The lanes an instruction works on. */
export interface Lanes {
  readonly size: number;
  readonly width: number;
}

/** Bits of a lane. */
export const esize = (size: number): number => 8 << size;

/** `pattern` with its words of `x` replaced by `bits`, in order: one literal pattern serves a table of encodings. */
export function fixed<P extends string>(pattern: P, ...bits: string[]): P {
  let k = 0;
  const text = pattern.replace(/(?<![^ ])x+(?![^ ])/g, (word) => {
    const given = bits[k++] ?? '';
    if (given.length !== word.length) throw new Error(`pattern "${pattern}": "${given}" for "${word}"`);
    return given;
  });
  if (k !== bits.length) throw new Error(`pattern "${pattern}" takes ${k} words`);
  return text as P;
}

// --- values ----------------------------------------------------------------------------------------------------

/** `v` (of `bits` bits) repeated over 128 bits. */
export function replicate(v: bigint, bits: number): bigint {
  let out = 0n;
  for (let at = 0; at < 128; at += bits) out |= BigInt.asUintN(bits, v) << BigInt(at);
  return out;
}

/** The constant `v` in every lane. */
export const splat = (b: Builder, size: number, v: bigint): V128 => b.v128(replicate(v, esize(size)));

/** Lane operation `name` of this size: `lane(b, 2, 'add', x, y)` is `i32x4.add`. */
export const lane = (b: Builder, size: number, name: string, ...args: V128[]): V128 => b.vop(`${SHAPES[size]}.${name}`, args);

/** Lane shift by one amount: a number, or an i32 derived from the encoding. */
export const shift = (b: Builder, size: number, name: 'shl' | 'shr_s' | 'shr_u', v: V128, by: number | I32): V128 =>
  b.vop(`${SHAPES[size]}.${name}`, [v, typeof by === 'number' ? b.i32(by) : by]);

export const vand = (b: Builder, x: V128, y: V128): V128 => b.vop('v128.and', [x, y]);
export const vor = (b: Builder, x: V128, y: V128): V128 => b.vop('v128.or', [x, y]);
export const vxor = (b: Builder, x: V128, y: V128): V128 => b.vop('v128.xor', [x, y]);
/** x AND NOT y. */
export const vandnot = (b: Builder, x: V128, y: V128): V128 => b.vop('v128.andnot', [x, y]);
export const vnot = (b: Builder, x: V128): V128 => b.vop('v128.not', [x]);
/** Bits of `x` where `mask` is one, of `y` elsewhere. */
export const bitselect = (b: Builder, mask: V128, x: V128, y: V128): V128 => b.vop('v128.bitselect', [x, y, mask]);
export const zero = (b: Builder): V128 => b.v128(0n);

/** 128 bits derived from the encoding at decode. */
export function vimm(b: Builder, derive: (f: Raw) => bigint): V128 {
  const low = b.imm((f) => BigInt.asIntN(64, derive(f)));
  const high = b.imm((f) => BigInt.asIntN(64, derive(f) >> 64n));
  return b.vop('i64x2.replace_lane', [b.vop('i64x2.splat', [low]), high], [1]);
}

/** Lane comparison; unsigned order of 64-bit lanes, which wasm lacks, by moving the range. */
export function compare(b: Builder, size: number, name: string, x: V128, y: V128): V128 {
  if (size < 3 || !name.endsWith('_u')) return lane(b, size, name, x, y);
  const top = splat(b, 3, 1n << 63n);
  return lane(b, 3, name.replace('_u', '_s'), vxor(b, x, top), vxor(b, y, top));
}

/** Lane product modulo 2^esize; wasm has no byte form. */
export function multiply(b: Builder, size: number, x: V128, y: V128): V128 {
  if (size > 0) return lane(b, size, 'mul', x, y);
  return truncate(b, 1, lane(b, 1, 'extmul_low_i8x16_u', x, y), lane(b, 1, 'extmul_high_i8x16_u', x, y));
}

// --- moving lanes ----------------------------------------------------------------------------------------------

/** Bytes of x:y by number (0..15 of x, 16..31 of y). */
export const shuffle = (b: Builder, x: V128, y: V128, bytes: readonly number[]): V128 => b.vop('i8x16.shuffle', [x, y], bytes);

/** Byte numbers of whole lanes: `order` lists lane numbers. The rest of the register repeats lane 0. */
export function laneBytes(size: number, order: readonly number[]): number[] {
  const n = 1 << size;
  const bytes = order.flatMap((k) => Array.from({ length: n }, (_, j) => k * n + j));
  return Array.from({ length: 16 }, (_, i) => bytes[i] ?? 0);
}

/** The lanes `order` of x:y (numbered over both registers). */
export const pickLanes = (b: Builder, size: number, x: V128, y: V128, order: readonly number[]): V128 =>
  shuffle(b, x, y, laneBytes(size, order));

/** Lanes of the concatenation y:x of two registers of `width` bits, in the order `order`. */
export function permute(b: Builder, { size, width }: Lanes, x: V128, y: V128, order: readonly number[]): V128 {
  const n = width / esize(size);
  const full = 128 / esize(size);
  return pickLanes(
    b,
    size,
    x,
    y,
    order.map((k) => (k < n ? k : k - n + full)),
  );
}

/** Even (`odd` = 0) or odd lanes of y:x (UZP1, UZP2). */
export function unzip(b: Builder, l: Lanes, x: V128, y: V128, odd: number): V128 {
  return permute(
    b,
    l,
    x,
    y,
    Array.from({ length: l.width / esize(l.size) }, (_, i) => 2 * i + odd),
  );
}

/** The low halves of the lanes of high:low (of `size`), as one register of lanes half as wide. */
export function truncate(b: Builder, size: number, low: V128, high: V128): V128 {
  return pickLanes(
    b,
    size - 1,
    low,
    high,
    Array.from({ length: 128 / esize(size - 1) }, (_, i) => 2 * i),
  );
}

/** Swizzle indices that bring the lane of `1 << size` bytes at `index` to every lane. */
export function broadcastBytes(size: number, index: number): bigint {
  let bytes = 0n;
  for (let j = 0; j < 1 << size; j++) bytes |= BigInt((index << size) + j) << BigInt(8 * j);
  return replicate(bytes, esize(size));
}

/** The lane of `v` whose number `index` derives from the encoding, in every lane. */
export function broadcast(b: Builder, size: number, v: V128, index: (f: Raw) => number): V128 {
  const bytes = b.imm((f) => BigInt.asIntN(64, broadcastBytes(size, index(f))));
  return lane(b, 0, 'swizzle', v, b.vop('i64x2.splat', [bytes]));
}

/** Lanes twice as wide, from the low (`part` 0) or high half of `v`. */
export const widen = (b: Builder, size: number, v: V128, signed: boolean, part: number): V128 =>
  b.vop(`${SHAPES[size + 1]}.extend_${part ? 'high' : 'low'}_${SHAPES[size]}_${signed ? 's' : 'u'}`, [v]);

/** Products twice as wide of the low or high halves. */
export const multiplyLong = (b: Builder, size: number, x: V128, y: V128, signed: boolean, part: number): V128 =>
  b.vop(`${SHAPES[size + 1]}.extmul_${part ? 'high' : 'low'}_${SHAPES[size]}_${signed ? 's' : 'u'}`, [x, y]);

/** Sums of adjacent lanes, twice as wide. */
export function addPairsLong(b: Builder, size: number, v: V128, signed: boolean): V128 {
  const down = signed ? 'shr_s' : 'shr_u';
  const even = shift(b, size + 1, down, shift(b, size + 1, 'shl', v, esize(size)), esize(size));
  return lane(b, size + 1, 'add', even, shift(b, size + 1, down, v, esize(size)));
}

// --- registers -------------------------------------------------------------------------------------------------

const widthMask = (b: Builder, width: number): V128 => b.v128((1n << BigInt(width)) - 1n);

/** The low `width` bits of V[n], the rest zero: saturation of lanes that do not take part must not be seen. */
export const readV = (b: Builder, n: Operand, width: number, index = 0): V128 =>
  width === 128 ? b.v(n, index) : vand(b, b.v(n, index), widthMask(b, width));

/** V[n] := the low `width` bits of v. */
export const writeV = (b: Builder, n: Operand, v: V128, width: number, index = 0): void =>
  b.setV(n, width === 128 ? v : vand(b, v, widthMask(b, width)), index);

/** V[n] := the low 64 bits of v; in the "2" forms of narrowing instructions (`part` 1) they replace its high half. */
export function writePart(b: Builder, n: Operand, v: V128, part: number): void {
  if (part) b.setV(n, pickLanes(b, 3, b.v(n), v, [0, 2]));
  else writeV(b, n, v, 64);
}

// --- saturation ------------------------------------------------------------------------------------------------

/** FPSR.QC (bit 27) := 1 if any bit of `mask` is set. */
export function saturatedIf(b: Builder, mask: V128): void {
  const any = b.op('v128.any_true', [mask]) as I32;
  b.setCell(VP.FPSR, b.or(b.cell32(VP.FPSR), b.shl(any, b.i32(27))));
}

export const maxS = (size: number): bigint => (1n << BigInt(esize(size) - 1)) - 1n;
export const minS = (size: number): bigint => 1n << BigInt(esize(size) - 1);

/** The signed limit on the side of each lane's sign. */
export const limitS = (b: Builder, size: number, v: V128): V128 =>
  vxor(b, shift(b, size, 'shr_s', v, esize(size) - 1), splat(b, size, maxS(size)));

/** Lane by lane x + y or x - y, saturated; sets QC. */
export function addSat(b: Builder, size: number, x: V128, y: V128, signed: boolean, subtract: boolean): V128 {
  const r = lane(b, size, subtract ? 'sub' : 'add', x, y);
  if (signed) {
    const other = vxor(b, x, y);
    const changed = vxor(b, x, r);
    const over = shift(b, size, 'shr_s', subtract ? vand(b, other, changed) : vandnot(b, changed, other), esize(size) - 1);
    saturatedIf(b, over);
    return bitselect(b, over, limitS(b, size, x), r);
  }
  const over = subtract ? compare(b, size, 'gt_u', y, x) : compare(b, size, 'lt_u', r, x);
  saturatedIf(b, over);
  return subtract ? vandnot(b, r, over) : vor(b, r, over);
}

/** How a wide lane is brought into half its width. */
export type Narrowing = 'wrap' | 'signed' | 'unsigned' | 'signed to unsigned';

/** Lanes of `size` clamped to the range of lanes half as wide (still in wide lanes); sets QC. */
function clamp(b: Builder, size: number, v: V128, how: Narrowing): V128 {
  const half = esize(size) / 2;
  if (how === 'wrap') return v;
  let r = v;
  if (how === 'unsigned') {
    const over = lane(b, size, 'ne', shift(b, size, 'shr_u', v, half), zero(b));
    r = bitselect(b, over, splat(b, size, (1n << BigInt(half)) - 1n), v);
  } else {
    const low = how === 'signed' ? -(1n << BigInt(half - 1)) : 0n;
    const high = how === 'signed' ? (1n << BigInt(half - 1)) - 1n : (1n << BigInt(half)) - 1n;
    r = bitselect(b, lane(b, size, 'gt_s', v, splat(b, size, high)), splat(b, size, high), r);
    r = bitselect(b, lane(b, size, 'lt_s', v, splat(b, size, low)), splat(b, size, low), r);
  }
  saturatedIf(b, vxor(b, r, v));
  return r;
}

/** Lanes of `size` narrowed to half, in the low 64 bits. */
export const narrow = (b: Builder, size: number, v: V128, how: Narrowing): V128 => {
  const r = clamp(b, size, v, how);
  return truncate(b, size, r, r);
};

/** Two registers of wide lanes narrowed into one. */
export const narrowPair = (b: Builder, size: number, low: V128, high: V128, how: Narrowing): V128 =>
  truncate(b, size, clamp(b, size, low, how), clamp(b, size, high, how));

/** Doubled product of lanes, twice as wide, saturated (SQDMULL): only MIN * MIN does not fit, and wraps to MIN. */
export function doubleLong(b: Builder, size: number, x: V128, y: V128, part: number): V128 {
  const product = multiplyLong(b, size, x, y, true, part);
  return notMin(b, size + 1, lane(b, size + 1, 'add', product, product));
}

/** Replaces MIN, where it can only mean one above MAX, by MAX; sets QC. */
export function notMin(b: Builder, size: number, v: V128): V128 {
  const over = lane(b, size, 'eq', v, splat(b, size, minS(size)));
  saturatedIf(b, over);
  return vxor(b, v, over);
}

/** High half of the doubled product, saturated (SQDMULH, SQRDMULH); size 1 or 2. */
export function doubleHigh(b: Builder, size: number, x: V128, y: V128, round: boolean): V128 {
  const part = (p: number) => {
    const product = multiplyLong(b, size, x, y, true, p);
    const rounded = round ? lane(b, size + 1, 'add', product, splat(b, size + 1, 1n << BigInt(esize(size) - 2))) : product;
    return shift(b, size + 1, 'shr_s', rounded, esize(size) - 1);
  };
  return notMin(b, size, truncate(b, size + 1, part(0), part(1)));
}

/** d + (or -) high half of the doubled product, rounded and saturated once (SQRDMLAH, SQRDMLSH); size 1 or 2. */
export function doubleHighAccumulate(b: Builder, size: number, d: V128, x: V128, y: V128, subtract: boolean): V128 {
  const part = (p: number) => {
    const product = multiplyLong(b, size, x, y, true, p);
    const sum = shift(b, size + 1, 'shl', widen(b, size, d, true, p), esize(size) - 1);
    const rounded = lane(b, size + 1, 'add', sum, splat(b, size + 1, 1n << BigInt(esize(size) - 2)));
    return shift(b, size + 1, 'shr_s', lane(b, size + 1, subtract ? 'sub' : 'add', rounded, product), esize(size) - 1);
  };
  return narrowPair(b, size + 1, part(0), part(1), 'signed');
}

/** Sums of four byte products per 32-bit lane (SDOT, UDOT, USDOT, SUDOT). */
export function dot(b: Builder, x: V128, y: V128, signedX: boolean, signedY: boolean): V128 {
  const byte = (v: V128, k: number, signed: boolean) =>
    shift(b, 2, signed ? 'shr_s' : 'shr_u', shift(b, 2, 'shl', v, 24 - 8 * k), 24);
  let sum: V128 | undefined;
  for (let k = 0; k < 4; k++) {
    const product = lane(b, 2, 'mul', byte(x, k, signedX), byte(y, k, signedY));
    sum = sum ? lane(b, 2, 'add', sum, product) : product;
  }
  return sum as V128;
}
