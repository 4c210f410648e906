/** What the FP rows share: values as lanes of V registers, and calls of the functions of fp.ts on them. */
import type { Builder, I32, I64, Int, V128 } from '../builder.ts';
import { DOUBLE, FPCR, FPSR, SINGLE } from '../fp.ts';
import { type Fields, type Insn, type InsnOptions, insn, type Operand } from '../insn.ts';
import { VP } from '../vp-state.ts';

/** Bits of an FP value. A 64-bit one travels as i64, the others as i32. */
export type Size = 16 | 32 | 64;

const SHAPE = { 16: 'i16x8', 32: 'i32x4', 64: 'i64x2' } as const;

/** FP instructions trap by CPACR_EL1.FPEN and live outside the interpreter's loop. */
export const FP = { fp: true, cold: true } as const;

export const lane = (b: Builder, v: V128, size: Size, index: number): Int =>
  b.op(`${SHAPE[size]}.extract_lane${size === 16 ? '_u' : ''}`, [v], [index]) as Int;

/** V[n] as a scalar. */
export const scalar = (b: Builder, n: Operand, size: Size): Int => lane(b, b.v(n), size, 0);

/** V[d] := a scalar; the other bits are zero. */
export const setScalar = (b: Builder, d: Operand, size: Size, v: Int): void => b.setVLow(d, v, (size / 8) as 2 | 4 | 8);

/** A vector of `count` lanes on top of `base` (zero unless given), lane `first` upwards. */
export function vector(b: Builder, size: Size, count: number, make: (i: number) => Int, base?: V128, first = 0): V128 {
  let v = base ?? b.v128(0n);
  for (let i = 0; i < count; i++) v = b.vop(`${SHAPE[size]}.replace_lane`, [v, make(i)], [first + i]);
  return v;
}

/** Function `name` of fp.ts in its form for `size`, which is also the size of its result. */
export const call = (b: Builder, name: string, size: Size, args: readonly Int[]): Int =>
  b.call(size === 64 ? 'i64' : 'i32', name + size, args);

/** The same for a comparison: i32. */
export const test = (b: Builder, name: string, size: Size, args: readonly Int[]): I32 => b.call('i32', name + size, args);

/** What WebAssembly has, too. */
const NATIVE: Readonly<Record<string, string>> = { FPAdd: 'add', FPSub: 'sub', FPMul: 'mul', FPDiv: 'div', FPSqrt: 'sqrt' };

const SHAPE_F = { 32: 'f32x4', 64: 'f64x2' } as const;
const both = (b: Builder, x: V128, y: V128): V128 => b.vop('v128.and', [x, y]);
const either = (b: Builder, x: V128, y: V128): V128 => b.vop('v128.or', [x, y]);
/** The bits `v` in every lane. */
const every = (b: Builder, size: 32 | 64, v: bigint): V128 =>
  b.v128(size === 64 ? v | (v << 64n) : v * 0x1_00000001_00000001_00000001n);
/** Function `name` of fp.ts of each of the low `count` lanes of `ops`, the rest zero. */
const laneByLane = (b: Builder, name: string, size: Size, count: number, ops: readonly V128[]): V128 =>
  vector(b, size, count, (i) =>
    call(
      b,
      name,
      size,
      ops.map((v) => lane(b, v, size, i)),
    ),
  );

/** All ones in the lanes of `r` that are normal, and not the smallest normal, which may have been rounded up to. */
function isNormal(b: Builder, size: 32 | 64, r: V128): V128 {
  const f = size === 64 ? DOUBLE : SINGLE;
  const shape = SHAPE_F[size];
  const magnitude = b.vop(`${shape}.abs`, [r]);
  return both(
    b,
    b.vop(`${shape}.gt`, [magnitude, every(b, size, 1n << BigInt(f.frac))]),
    b.vop(`${shape}.le`, [magnitude, every(b, size, f.maxNormal)]),
  );
}

/**
 * V[d] := the low `count` lanes of `r` if these are `good` (all ones) and FPSR stays as it is: rounding is to nearest, nothing is
 * flushed, and IXC is set already. Else what `exactly` says.
 */
function setNative(b: Builder, size: 32 | 64, count: number, rd: Operand, r: V128, good: V128, exactly: () => V128): void {
  const low = (1n << BigInt(size * count)) - 1n;
  const unused = b.v128(((1n << 128n) - 1n) ^ low);
  const lanesGood = b.op(`${SHAPE[size]}.all_true`, [either(b, good, unused)]) as I32;
  const control = b.and(b.cell32(VP.FPCR), b.i32(FPCR.FZ | (3 << FPCR.RMODE)));
  const status = b.and(b.not(b.cell32(VP.FPSR)), b.i32(FPSR.IXC));
  b.if(
    b.and(lanesGood, b.eqz(b.or(control, status))),
    () => b.setV(rd, both(b, r, b.v128(low))),
    () => b.setV(rd, exactly()),
  );
}

/**
 * V[d] := function `name` of each of the low `count` lanes of `ops`, the rest zero. WebAssembly's operation has the same result
 * where that is normal or exactly zero.
 */
export function arithmetic(b: Builder, name: string, size: Size, count: number, rd: Operand, ops: readonly V128[]): void {
  const exactly = (): V128 => laneByLane(b, name, size, count, ops);
  const op = NATIVE[name];
  if (!op || size === 16) {
    b.setV(rd, exactly());
    return;
  }
  const shape = SHAPE_F[size];
  const isZero = (v: V128): V128 => b.vop(`${shape}.eq`, [v, b.v128(0n)]);
  const r = b.vop(`${shape}.${op}`, ops);
  // A sum or root that is zero is exact; a product or quotient is when an operand is zero.
  const zeroOperand =
    name === 'FPMul' ? either(b, isZero(ops[0]), isZero(ops[1])) : name === 'FPDiv' ? isZero(ops[0]) : b.v128((1n << 128n) - 1n);
  setNative(b, size, count, rd, r, either(b, isNormal(b, size, r), both(b, isZero(r), zeroOperand)), exactly);
}

/**
 * Bounds within which the error terms of `mulAdd` are exact, as bits: of a factor (it is split), and of the product and
 * the addend. `split`: 2^ceil(precision / 2) + 1; `slack`: well above the relative error of a sum.
 */
const MUL_ADD = {
  32: { factor: 0x76800000n, low: 0x21800000n, high: 0x5d800000n, split: 0x45800800n, slack: 0x35800000n },
  64: {
    factor: 0x7db0000000000000n,
    low: 0x07b0000000000000n,
    high: 0x7830000000000000n,
    split: 0x41a0000002000000n,
    slack: 0x3cd0000000000000n,
  },
} as const;

/**
 * V[d] := FPMulAdd(addend, n, m) of each of the low `count` lanes, the rest zero: rounded once, which WebAssembly cannot do.
 *
 * The product and its error (Dekker) and their sum with the addend and its error (Knuth) are exact. The rounded sum of all is
 * right if it does not depend on the error of adding up the errors: then both ends of where the exact sum may lie round to it.
 */
export function mulAdd(b: Builder, size: Size, count: number, rd: Operand, addend: V128, n: V128, m: V128): void {
  const exactly = (): V128 => laneByLane(b, 'FPMulAdd', size, count, [addend, n, m]);
  if (size === 16) {
    b.setV(rd, exactly());
    return;
  }
  const shape = SHAPE_F[size];
  const bound = MUL_ADD[size];
  const add = (x: V128, y: V128): V128 => b.vop(`${shape}.add`, [x, y]);
  const sub = (x: V128, y: V128): V128 => b.vop(`${shape}.sub`, [x, y]);
  const mul = (x: V128, y: V128): V128 => b.vop(`${shape}.mul`, [x, y]);
  const abs = (x: V128): V128 => b.vop(`${shape}.abs`, [x]);
  const upTo = (x: V128, v: bigint): V128 => b.vop(`${shape}.le`, [x, every(b, size, v)]);
  const halves = (x: V128): [V128, V128] => {
    const t = mul(x, every(b, size, bound.split));
    const high = sub(t, sub(t, x));
    return [high, sub(x, high)];
  };
  const product = mul(n, m);
  const [nHigh, nLow] = halves(n);
  const [mHigh, mLow] = halves(m);
  const productError = add(add(add(sub(mul(nHigh, mHigh), product), mul(nHigh, mLow)), mul(nLow, mHigh)), mul(nLow, mLow));
  const sum = add(product, addend);
  const back = sub(sum, product);
  const sumError = add(sub(product, sub(sum, back)), sub(addend, back));
  const error = add(sumError, productError);
  const r = add(sum, error);
  const doubt = mul(error, every(b, size, bound.slack));
  const sure = both(
    b,
    b.vop(`${shape}.eq`, [add(sum, add(error, doubt)), r]),
    b.vop(`${shape}.eq`, [add(sum, sub(error, doubt)), r]),
  );
  const magnitude = abs(product);
  const isZero = (v: V128): V128 => b.vop(`${shape}.eq`, [v, b.v128(0n)]);
  const productInside = either(
    b,
    both(b, b.vop(`${shape}.ge`, [magnitude, every(b, size, bound.low)]), upTo(magnitude, bound.high)),
    either(b, isZero(n), isZero(m)),
  );
  const inside = both(
    b,
    both(b, upTo(abs(n), bound.factor), upTo(abs(m), bound.factor)),
    both(b, productInside, upTo(abs(addend), bound.high)),
  );
  setNative(b, size, count, rd, r, both(b, both(b, sure, inside), isNormal(b, size, r)), exactly);
}

const SIGNS = {
  16: 0x8000_8000_8000_8000_8000_8000_8000_8000n,
  32: 0x80000000_80000000_80000000_80000000n,
  64: 0x8000000000000000_8000000000000000n,
};
/** `v`, the sign of every lane turned over if `negate`. */
export const negated = (b: Builder, size: Size, v: V128, negate: boolean): V128 =>
  negate ? b.vop('v128.xor', [v, b.v128(SIGNS[size])]) : v;

/** NZCV := FPCompare of two scalars; two ordered numbers raise nothing, so WebAssembly can compare them. */
export function compareScalars(b: Builder, name: string, size: Size, n: Int, m: Int): void {
  const exactly = (): void => b.setNZCV(test(b, name, size, [n, m]));
  if (size === 16) {
    exactly();
    return;
  }
  const f = size === 64 ? 'f64' : 'f32';
  const [x, y] = [n, m].map((v) => b.op(`${f}.reinterpret_${v.t}`, [v]));
  const [less, equal, greater] = ['lt', 'eq', 'gt'].map((op) => b.op(`${f}.${op}`, [x, y]) as I32);
  const flushes = b.and(b.cell32(VP.FPCR), b.i32(FPCR.FZ));
  // N; Z and C; C.
  const flags = b.or(b.shl(less, b.i32(31)), b.or(b.mul(equal, b.i32(0x60000000)), b.shl(greater, b.i32(29))));
  b.if(b.and(b.or(less, b.or(equal, greater)), b.eqz(flushes)), () => b.setNZCV(flags), exactly);
}

/** The constant of a lane. */
export const constant = (b: Builder, size: Size, v: bigint): Int =>
  size === 64 ? b.i64(v) : b.i32(Number(BigInt.asIntN(32, v)));

const signBit = (size: Size): bigint => 1n << BigInt(size - 1);
export const FPNeg = (b: Builder, size: Size, v: Int): Int => b.xor(v, constant(b, size, signBit(size)));
export const FPAbs = (b: Builder, size: Size, v: Int): Int => b.and(v, constant(b, size, signBit(size) - 1n));

/** FPToFixed to an integer of `width` bits (as i64 when 64, else i32). */
export function FPToFixed(b: Builder, size: Size, v: Int, fbits: I32, width: number, unsigned: number, rounding: number): Int {
  const r = b.call('i64', `FPToFixed${size}`, [v, fbits, b.i32(width), b.i32(unsigned), b.i32(rounding)]) as I64;
  return width === 64 ? r : b.wrap(r);
}

/** FixedToFP of an integer of `width` bits, rounded as FPCR says. */
export function FixedToFP(b: Builder, size: Size, v: Int, fbits: I32, width: number, unsigned: number): Int {
  const wide = v.t === 'i64' ? (v as I64) : unsigned ? b.extU(v as I32) : b.extS(v as I32);
  const drop = b.i64(64 - width);
  const extended = width === 64 || unsigned ? wide : b.shrS(b.shl(wide, drop), drop);
  return call(b, 'FixedToFP', size, [extended, fbits, b.i32(unsigned)]);
}

/** FPConvert between sizes. */
export const FPConvert = (b: Builder, from: Size, to: Size, v: Int, rounding: number): Int =>
  call(b, `FPConvert${from}_`, to, [v, b.i32(rounding)]);

/**
 * The rows of an instruction whose pattern has `ftype!:2`: single (00) and double (01), and half (11) with FEAT_FP16.
 * 10 is unallocated.
 */
export function byType<const P extends string>(
  name: string,
  pattern: P,
  semantics: (b: Builder, f: Fields<P>, size: Size) => void,
  options: InsnOptions = {},
): Insn[] {
  return [
    sized(name, pattern.replace('ftype!:2', '0 double!'), semantics, (f) => (f.double ? 64 : 32), { ...FP, ...options }),
    sized(`${name}_h`, pattern.replace('ftype!:2', '11'), semantics, () => 16, { ...FP, feat: 'FP16', ...options }),
  ];
}

/** A row whose pattern was assembled from `P`'s, so that its fields' types come from there. */
export function sized<F>(
  name: string,
  pattern: string,
  semantics: (b: Builder, f: F, size: Size) => void,
  sizeOf: (f: Record<string, number>) => Size,
  options: InsnOptions,
): Insn {
  const run = (b: Builder, f: unknown): void => semantics(b, f as F, sizeOf(f as Record<string, number>));
  return insn(name, pattern, run, options as InsnOptions<never>);
}
