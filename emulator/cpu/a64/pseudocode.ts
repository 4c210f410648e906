/**
 * Functions of the Arm ARM's shared pseudocode (DDI 0487, chapter J1) by their names there. Two kinds: plain functions over
 * encoding fields, run once at decode, and functions over the builder that record the operation.
 */
import type { Builder, I32, I64, Int } from '../builder.ts';
import type { Operand, Raw } from '../insn.ts';

/** 32 or 64: the operand width that `sf` says. */
export const datasize = (f: Raw): number => (f.sf ? 64 : 32);

const ones = (n: number): bigint => (1n << BigInt(n)) - 1n;

/**
 * The bitmask immediate of the logical instructions (`DecodeBitMasks`, wmask with immediate = TRUE): a run of imms+1 ones in
 * an element of 2..64 bits, rotated right by immr, replicated to `width` bits. Undefined when the encoding is reserved.
 */
export function DecodeBitMasks(n: number, imms: number, immr: number, width: number): bigint | undefined {
  const len = 31 - Math.clz32((n << 6) | (~imms & 0x3f));
  if (len < 1) return undefined;
  const esize = 1 << len;
  if (esize > width) return undefined;
  const levels = esize - 1;
  const s = imms & levels;
  const r = BigInt(immr & levels);
  if (s === levels) return undefined;
  const run = ones(s + 1);
  let mask = ((run >> r) | (run << (BigInt(esize) - r))) & ones(esize);
  for (let size = esize; size < width; size *= 2) mask |= mask << BigInt(size);
  return mask;
}

/**
 * `AddWithCarry`: a + c + carry (0 or 1), and the NZCV it gives, packed in bits 31:28. Only for ADC and SBC; ADD, SUB and the
 * comparisons use the builder's lazy flags.
 */
export function AddWithCarry<T extends Int>(b: Builder, a: T, c: T, carry: I32): { result: T; nzcv: I32 } {
  const wide = a.t === 'i32' ? carry : b.extU(carry);
  const partial = b.add(a, c);
  const result = b.add(partial, wide as T);
  const unsignedOverflow = b.or(b.ltU(partial, a), b.ltU(result, partial));
  const signedOverflow = b.ltS(b.and(b.xor(a, result), b.xor(c, result)), b.c(a, 0));
  const nzcv = packNZCV(b, b.ltS(result, b.c(a, 0)), b.eqz(result), unsignedOverflow, signedOverflow);
  return { result, nzcv };
}

/** N, Z, C, V (0 or 1 each) as PSTATE.NZCV in bits 31:28. */
export function packNZCV(b: Builder, n: I32, z: I32, c: I32, v: I32): I32 {
  return b.or(b.or(b.shl(n, b.i32(31)), b.shl(z, b.i32(30))), b.or(b.shl(c, b.i32(29)), b.shl(v, b.i32(28))));
}

/** High 64 bits of the unsigned 128-bit product, out of 32 x 32 -> 64 bit products. */
export function mulHighU(b: Builder, x: I64, y: I64): I64 {
  const half = b.i64(32);
  const low = b.i64(0xffffffff);
  const xl = b.and(x, low);
  const xh = b.shrU(x, half);
  const yl = b.and(y, low);
  const yh = b.shrU(y, half);
  // Neither sum overflows: (2^32 - 1)^2 + 2 (2^32 - 1) = 2^64 - 1.
  const middle = b.add(b.mul(xh, yl), b.shrU(b.mul(xl, yl), half));
  const rest = b.add(b.mul(xl, yh), b.and(middle, low));
  return b.add(b.add(b.mul(xh, yh), b.shrU(middle, half)), b.shrU(rest, half));
}

/** High 64 bits of the signed 128-bit product. */
export function mulHighS(b: Builder, x: I64, y: I64): I64 {
  const sign = b.i64(63);
  const corrected = b.sub(mulHighU(b, x, y), b.and(b.shrS(x, sign), y));
  return b.sub(corrected, b.and(b.shrS(y, sign), x));
}

/** `ConditionHolds` for a condition that is known only at decode: its base condition, inverted when `invert` (0 or 1) says so. */
export function ConditionHolds(b: Builder, base: number, cond: Operand): I32 {
  // 0b111x is "always" both ways (Arm ARM C1.2.4).
  if (base === 7) return b.i32(1);
  return b.xor(
    b.cond(base << 1),
    b.imm32((f) => f[cond.operand]),
  );
}
