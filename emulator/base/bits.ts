/** Small integer facts shared by every layer. Nothing here allocates except where a bigint is named. */

export const MASK64 = (1n << 64n) - 1n;

/** The low 64 bits of `v`, as an unsigned bigint. */
export const u64 = (v: bigint): bigint => BigInt.asUintN(64, v);

/** `v` rounded up to a multiple of `to` (a power of two). */
export const alignUp = (v: number, to: number): number => Math.ceil(v / to) * to;

/** `v` rounded down to a multiple of `to`. */
export const alignDown = (v: number, to: number): number => Math.floor(v / to) * to;

/** Bits hi..lo of a 32-bit number, as an unsigned number. */
export const bits = (v: number, hi: number, lo: number): number =>
  hi - lo === 31 ? v >>> 0 : (v >>> lo) & ((1 << (hi - lo + 1)) - 1);

/** Bits hi..lo of a bigint. */
export const bitsBig = (v: bigint, hi: number, lo: number): bigint => (v >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n);

/** Sign-extends the low `width` bits of a 32-bit number. */
export const signExtend = (v: number, width: number): number => (v << (32 - width)) >> (32 - width);

/** `0x` and lower-case hexadecimal digits, padded to `digits`. */
export const hex = (v: number | bigint, digits = 0): string => `0x${v.toString(16).padStart(digits, '0')}`;
