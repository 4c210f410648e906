/**
 * Floating point as the Arm ARM defines it (shared/functions/float, J1.3): the functions have its names and follow its
 * pseudocode, for half, single and double precision and BFloat16, with FPCR.{AHP,DN,FZ,RMode,FZ16} and the cumulative flags
 * of FPSR. No exception is ever trapped (FPCR.{IDE,...} are RES0), and FEAT_AFP and FEAT_EBF16 do not exist here.
 *
 * Encoded values are unsigned bigints. Every half, single and double is exactly a JavaScript number, so `FPUnpack` yields
 * one; exact sums, products, quotients and roots, which need more bits, are `mantissa * 2^exponent` with a bigint mantissa.
 *
 * Numbers are also the fast path: where the result is normal and it is known whether it is exact, the host's IEEE
 * arithmetic gives the same answer (see `native`).
 */
import type { FpState, Helper } from './helpers.ts';

/** A floating-point format: `bits` wide, `frac` fraction bits, exponent bias `bias`. */
export interface Format {
  readonly name: string;
  readonly bits: number;
  readonly frac: number;
  readonly bias: number;
  /** Largest exponent field. */
  readonly maxExp: number;
  readonly sign: bigint;
  readonly inf: bigint;
  /** The bit that is set in a quiet NaN. */
  readonly quiet: bigint;
  readonly maxNormal: bigint;
  readonly minNormalValue: number;
  readonly maxValue: number;
}

function format(name: string, bits: number, frac: number): Format {
  const expBits = bits - 1 - frac;
  const bias = 2 ** (expBits - 1) - 1;
  const inf = ((1n << BigInt(expBits)) - 1n) << BigInt(frac);
  return {
    name,
    bits,
    frac,
    bias,
    maxExp: 2 ** expBits - 1,
    sign: 1n << BigInt(bits - 1),
    inf,
    quiet: 1n << BigInt(frac - 1),
    maxNormal: inf - 1n,
    minNormalValue: 2 ** (1 - bias),
    maxValue: (2 - 2 ** -frac) * 2 ** bias,
  };
}

export const HALF = format('half', 16, 10);
export const SINGLE = format('single', 32, 23);
export const DOUBLE = format('double', 64, 52);
export const BFLOAT = format('bfloat', 16, 7);

/** FPCR (Arm ARM C5.2.8). */
export const FPCR = { FZ16: 1 << 19, RMODE: 22, FZ: 1 << 24, DN: 1 << 25, AHP: 1 << 26 } as const;
/** FPSR (Arm ARM C5.2.10). */
export const FPSR = { IOC: 1, DZC: 2, OFC: 4, UFC: 8, IXC: 16, IDC: 128 } as const;

/** FPRounding: the first four are FPCR.RMode's encodings. */
export const TIEEVEN = 0;
export const POSINF = 1;
export const NEGINF = 2;
export const ZERO = 3;
export const TIEAWAY = 4;
export const ODD = 5;
/** As a helper's argument: what FPCR.RMode says. */
export const RMODE = -1;

const FPRoundingMode = (fp: FpState): number => (fp.fpcr >>> FPCR.RMODE) & 3;
const modeOf = (fp: FpState, rounding: number): number => (rounding === RMODE ? FPRoundingMode(fp) : rounding);

/** FPProcessException: sets the cumulative flag. */
function raise(fp: FpState, flag: number): void {
  fp.fpsr |= flag;
}

// --- encodings -----------------------------------------------------------------------------------------------------

const f64 = new Float64Array(1);
const f32 = new Float32Array(f64.buffer);
const u32 = new Uint32Array(f64.buffer);
const u64 = new BigUint64Array(f64.buffer);

const signOf = (f: Format, op: bigint): number => (op & f.sign ? 1 : 0);
const FPZero = (f: Format, sign: number): bigint => (sign ? f.sign : 0n);
const FPInfinity = (f: Format, sign: number): bigint => FPZero(f, sign) | f.inf;
const FPMaxNormal = (f: Format, sign: number): bigint => FPZero(f, sign) | f.maxNormal;
const FPDefaultNaN = (f: Format): bigint => f.inf | f.quiet;
export const FPNeg = (f: Format, op: bigint): bigint => op ^ f.sign;
export const FPAbs = (f: Format, op: bigint): bigint => op & ~f.sign;

type Type = 'zero' | 'nonzero' | 'infinity' | 'qnan' | 'snan';

interface Unpacked {
  type: Type;
  sign: number;
  /** Exact, signed (zero and infinity, too); NaN for NaNs. */
  value: number;
}

const isNaNType = (t: Type): boolean => t === 'qnan' || t === 'snan';

/** The value of a finite number's encoding, exactly; the largest exponent counts as one more, as FPCR.AHP has it. */
function finiteValue(f: Format, op: bigint): number {
  if (f === DOUBLE) {
    u64[0] = op;
    return f64[0];
  }
  const n = Number(op);
  const exp = (n / 2 ** f.frac) & f.maxExp;
  const frac = n & (2 ** f.frac - 1);
  const magnitude = exp === 0 ? frac * 2 ** (1 - f.bias - f.frac) : (frac + 2 ** f.frac) * 2 ** (exp - f.bias - f.frac);
  return op & f.sign ? -magnitude : magnitude;
}

/** FPUnpack, or FPUnpackCV with `cv`: AHP counts then and FZ16 does not. */
function FPUnpack(fp: FpState, f: Format, op: bigint, cv = false): Unpacked {
  const sign = signOf(f, op);
  const magnitude = op & ~f.sign;
  const signed = (v: number): number => (sign ? -v : v);
  const half = f === HALF;
  if (magnitude < 1n << BigInt(f.frac)) {
    if (magnitude === 0n) return { type: 'zero', sign, value: signed(0) };
    if (half ? !cv && fp.fpcr & FPCR.FZ16 : fp.fpcr & FPCR.FZ) {
      if (!half) raise(fp, FPSR.IDC);
      return { type: 'zero', sign, value: signed(0) };
    }
  } else if (magnitude >= f.inf && !(half && cv && fp.fpcr & FPCR.AHP)) {
    if (magnitude === f.inf) return { type: 'infinity', sign, value: signed(Infinity) };
    return { type: magnitude & f.quiet ? 'qnan' : 'snan', sign, value: NaN };
  }
  return { type: 'nonzero', sign, value: finiteValue(f, op) };
}

// --- NaNs ----------------------------------------------------------------------------------------------------------

function FPProcessNaN(fp: FpState, f: Format, type: Type, op: bigint): bigint {
  if (type === 'snan') raise(fp, FPSR.IOC);
  return fp.fpcr & FPCR.DN ? FPDefaultNaN(f) : op | f.quiet;
}

/** FPProcessNaNs, FPProcessNaNs3: the first signalling NaN, else the first quiet one; undefined when there is none. */
function FPProcessNaNs(fp: FpState, f: Format, types: readonly Type[], ops: readonly bigint[]): bigint | undefined {
  let i = types.indexOf('snan');
  if (i < 0) i = types.indexOf('qnan');
  return i < 0 ? undefined : FPProcessNaN(fp, f, types[i], ops[i]);
}

function invalid(fp: FpState, f: Format): bigint {
  raise(fp, FPSR.IOC);
  return FPDefaultNaN(f);
}

/** FPConvertNaN: the sign and as much of the top of the fraction as fits. */
function FPConvertNaN(from: Format, to: Format, op: bigint): bigint {
  const frac = op & (from.quiet - 1n);
  const shift = BigInt(to.frac - from.frac);
  return FPZero(to, signOf(from, op)) | FPDefaultNaN(to) | (shift >= 0n ? frac << shift : frac >> -shift);
}

// --- exact real numbers and rounding -------------------------------------------------------------------------------

/** (-1)^sign * mant * 2^exp. */
interface Real {
  sign: number;
  mant: bigint;
  exp: number;
}

function bitLength(v: bigint): number {
  const s = v.toString(16);
  return s.length * 4 + 28 - Math.clz32(Number.parseInt(s[0], 16));
}

/** A finite number, exactly. */
function real(value: number): Real {
  f64[0] = value;
  const exp = (u32[1] >>> 20) & 0x7ff;
  const frac = u64[0] & 0xfffffffffffffn;
  return { sign: u32[1] >>> 31, mant: exp ? frac | 0x10000000000000n : frac, exp: (exp || 1) - 1075 };
}

const mulReal = (a: Real, b: Real): Real => ({ sign: a.sign ^ b.sign, mant: a.mant * b.mant, exp: a.exp + b.exp });

/** a + b; the sign of a zero sum is not meaningful. */
function addReal(a: Real, b: Real): Real {
  const exp = Math.min(a.exp, b.exp);
  const signed = (r: Real): bigint => (r.sign ? -1n : 1n) * (r.mant << BigInt(r.exp - exp));
  const sum = signed(a) + signed(b);
  return { sign: sum < 0n ? 1 : 0, mant: sum < 0n ? -sum : sum, exp };
}

/** Whether a magnitude of `whole` units and a remainder is rounded up; `half` compares the remainder with one half. */
function roundsUp(rounding: number, sign: number, odd: boolean, half: number, inexact: boolean): boolean {
  switch (rounding) {
    case TIEEVEN:
      return half > 0 || (half === 0 && odd);
    case TIEAWAY:
      return half >= 0;
    case POSINF:
      return inexact && sign === 0;
    case NEGINF:
      return inexact && sign === 1;
    default:
      return false;
  }
}

/** FPRoundBase of a non-zero value; with `cv`, as in FPRoundCV, AHP counts and FZ16 does not. */
function FPRound(fp: FpState, f: Format, r: Real, rounding: number, cv = false): bigint {
  const { sign, mant, exp } = r;
  const half = f === HALF;
  const minExp = 1 - f.bias;
  const top = bitLength(mant) + exp - 1;
  if (top < minExp && (half ? !cv && fp.fpcr & FPCR.FZ16 : fp.fpcr & FPCR.FZ)) {
    raise(fp, FPSR.UFC);
    return FPZero(f, sign);
  }
  const shift = Math.max(top, minExp) - f.frac - exp;
  let whole: bigint;
  let compare = -1;
  let inexact = false;
  if (shift <= 0) whole = mant << BigInt(-shift);
  else {
    whole = mant >> BigInt(shift);
    const rest = mant - (whole << BigInt(shift));
    const middle = 1n << BigInt(shift - 1);
    inexact = rest !== 0n;
    compare = rest < middle ? -1 : rest > middle ? 1 : 0;
  }
  if (top < minExp && inexact) raise(fp, FPSR.UFC);
  if (roundsUp(rounding, sign, (whole & 1n) === 1n, compare, inexact)) whole += 1n;
  else if (rounding === ODD && inexact) whole |= 1n;
  // The hidden bit adds one to the exponent field; so does a carry out of the fraction.
  const bits = (BigInt(Math.max(top - minExp, 0)) << BigInt(f.frac)) + whole;
  if (half && cv && fp.fpcr & FPCR.AHP) {
    if (bits >= f.sign) {
      raise(fp, FPSR.IOC);
      return FPZero(f, sign) | (f.sign - 1n);
    }
  } else if (bits >= f.inf) {
    raise(fp, FPSR.OFC | FPSR.IXC);
    const toInfinity = rounding === TIEEVEN || rounding === TIEAWAY || rounding === (sign ? NEGINF : POSINF);
    return toInfinity ? FPInfinity(f, sign) : FPMaxNormal(f, sign);
  }
  if (inexact) raise(fp, FPSR.IXC);
  return FPZero(f, sign) | bits;
}

/** FPRound of a sum: an exact zero is negative only when rounding towards minus infinity. */
const roundSum = (fp: FpState, f: Format, r: Real): bigint =>
  r.mant === 0n ? FPZero(f, FPRoundingMode(fp) === NEGINF ? 1 : 0) : FPRound(fp, f, r, FPRoundingMode(fp));

/** RoundInt of a finite number: the integer, and whether it differs. */
function roundToInteger(value: number, rounding: number): { whole: number; inexact: boolean } {
  const magnitude = Math.abs(value);
  const down = Math.floor(magnitude);
  const rest = magnitude - down;
  const up = roundsUp(rounding, value < 0 ? 1 : 0, down % 2 === 1, rest - 0.5, rest !== 0);
  const whole = up ? down + 1 : down;
  return { whole: value < 0 ? -whole : whole, inexact: rest !== 0 };
}

// --- arithmetic ----------------------------------------------------------------------------------------------------

export function FPAdd(fp: FpState, f: Format, op1: bigint, op2: bigint): bigint {
  const a = FPUnpack(fp, f, op1);
  const b = FPUnpack(fp, f, op2);
  const nan = FPProcessNaNs(fp, f, [a.type, b.type], [op1, op2]);
  if (nan !== undefined) return nan;
  if (a.type === 'infinity' && b.type === 'infinity') return a.sign === b.sign ? FPInfinity(f, a.sign) : invalid(fp, f);
  if (a.type === 'infinity') return FPInfinity(f, a.sign);
  if (b.type === 'infinity') return FPInfinity(f, b.sign);
  if (a.type === 'zero' && b.type === 'zero' && a.sign === b.sign) return FPZero(f, a.sign);
  return roundSum(fp, f, addReal(real(a.value), real(b.value)));
}

export function FPSub(fp: FpState, f: Format, op1: bigint, op2: bigint): bigint {
  const a = FPUnpack(fp, f, op1);
  const b = FPUnpack(fp, f, op2);
  const nan = FPProcessNaNs(fp, f, [a.type, b.type], [op1, op2]);
  return nan ?? FPAdd(fp, f, op1, FPNeg(f, op2));
}

const multiply =
  (infinityTimesZero: (fp: FpState, f: Format, sign: number) => bigint) =>
  (fp: FpState, f: Format, op1: bigint, op2: bigint): bigint => {
    const a = FPUnpack(fp, f, op1);
    const b = FPUnpack(fp, f, op2);
    const nan = FPProcessNaNs(fp, f, [a.type, b.type], [op1, op2]);
    if (nan !== undefined) return nan;
    const sign = a.sign ^ b.sign;
    const infinity = a.type === 'infinity' || b.type === 'infinity';
    const zero = a.type === 'zero' || b.type === 'zero';
    if (infinity && zero) return infinityTimesZero(fp, f, sign);
    if (infinity) return FPInfinity(f, sign);
    if (zero) return FPZero(f, sign);
    return FPRound(fp, f, mulReal(real(a.value), real(b.value)), FPRoundingMode(fp));
  };
/** The encoding of 2 or -2. */
const FPTwo = (f: Format, sign: number): bigint => FPZero(f, sign) | (BigInt(f.bias + 1) << BigInt(f.frac));

export const FPMul = multiply(invalid);
export const FPMulX = multiply((_, f, sign) => FPTwo(f, sign));

export function FPDiv(fp: FpState, f: Format, op1: bigint, op2: bigint): bigint {
  const a = FPUnpack(fp, f, op1);
  const b = FPUnpack(fp, f, op2);
  const nan = FPProcessNaNs(fp, f, [a.type, b.type], [op1, op2]);
  if (nan !== undefined) return nan;
  const sign = a.sign ^ b.sign;
  if (a.type === b.type && a.type !== 'nonzero') return invalid(fp, f);
  if (a.type === 'infinity' || b.type === 'zero') {
    if (a.type !== 'infinity') raise(fp, FPSR.DZC);
    return FPInfinity(f, sign);
  }
  if (a.type === 'zero' || b.type === 'infinity') return FPZero(f, sign);
  const n = real(a.value);
  const d = real(b.value);
  // 120 bits more than the divisor: more than any format's fraction and a bit for the remainder.
  const numerator = n.mant << 120n;
  const quotient = numerator / d.mant;
  const rest = quotient * d.mant === numerator ? 0n : 1n;
  return FPRound(fp, f, { sign, mant: (quotient << 1n) | rest, exp: n.exp - d.exp - 121 }, FPRoundingMode(fp));
}

function squareRoot(v: bigint): bigint {
  let r = 1n << BigInt((bitLength(v) + 1) >> 1);
  for (;;) {
    const next = (r + v / r) >> 1n;
    if (next >= r) return r;
    r = next;
  }
}

export function FPSqrt(fp: FpState, f: Format, op: bigint): bigint {
  const a = FPUnpack(fp, f, op);
  if (isNaNType(a.type)) return FPProcessNaN(fp, f, a.type, op);
  if (a.type === 'zero') return FPZero(f, a.sign);
  if (a.sign) return invalid(fp, f);
  if (a.type === 'infinity') return FPInfinity(f, 0);
  const v = real(a.value);
  const shift = 120 + (v.exp & 1);
  const mant = v.mant << BigInt(shift);
  const root = squareRoot(mant);
  const rest = root * root === mant ? 0n : 1n;
  return FPRound(fp, f, { sign: 0, mant: (root << 1n) | rest, exp: (v.exp - shift) / 2 - 1 }, FPRoundingMode(fp));
}

/** addend + op1 * op2 from unpacked operands; `nan` is what NaN operands give. */
function mulAdd(fp: FpState, f: Format, c: Unpacked, a: Unpacked, b: Unpacked, nan: bigint | undefined): bigint {
  const infP = a.type === 'infinity' || b.type === 'infinity';
  const zeroP = a.type === 'zero' || b.type === 'zero';
  if (infP && zeroP && (c.type === 'qnan' || nan === undefined)) return invalid(fp, f);
  if (nan !== undefined) return nan;
  const sign = a.sign ^ b.sign;
  const infA = c.type === 'infinity';
  if (infA && infP && c.sign !== sign) return invalid(fp, f);
  if (infA) return FPInfinity(f, c.sign);
  if (infP) return FPInfinity(f, sign);
  if (c.type === 'zero' && zeroP && c.sign === sign) return FPZero(f, sign);
  return roundSum(fp, f, addReal(real(c.value), mulReal(real(a.value), real(b.value))));
}

export function FPMulAdd(fp: FpState, f: Format, addend: bigint, op1: bigint, op2: bigint): bigint {
  const c = FPUnpack(fp, f, addend);
  const a = FPUnpack(fp, f, op1);
  const b = FPUnpack(fp, f, op2);
  return mulAdd(fp, f, c, a, b, FPProcessNaNs(fp, f, [c.type, a.type, b.type], [addend, op1, op2]));
}

/** FPMulAddH: addend is single, op1 and op2 are half. */
export function FPMulAddH(fp: FpState, addend: bigint, op1: bigint, op2: bigint): bigint {
  const c = FPUnpack(fp, SINGLE, addend);
  const a = FPUnpack(fp, HALF, op1);
  const b = FPUnpack(fp, HALF, op2);
  const wide = (u: Unpacked, op: bigint): bigint => {
    if (!isNaNType(u.type)) return 0n;
    const quiet = FPConvertNaN(HALF, SINGLE, op);
    return u.type === 'snan' ? quiet ^ SINGLE.quiet : quiet;
  };
  const nan = FPProcessNaNs(fp, SINGLE, [c.type, a.type, b.type], [addend, wide(a, op1), wide(b, op2)]);
  return mulAdd(fp, SINGLE, c, a, b, nan);
}

/** FPRecipStepFused (2 - op1 * op2) and FPRSqrtStepFused ((3 - op1 * op2) / 2). */
const stepFused =
  (constant: number, halve: number) =>
  (fp: FpState, f: Format, op1: bigint, op2: bigint): bigint => {
    const negated = FPNeg(f, op1);
    const a = FPUnpack(fp, f, negated);
    const b = FPUnpack(fp, f, op2);
    const nan = FPProcessNaNs(fp, f, [a.type, b.type], [negated, op2]);
    if (nan !== undefined) return nan;
    const infinity = a.type === 'infinity' || b.type === 'infinity';
    const zero = a.type === 'zero' || b.type === 'zero';
    if (infinity && !zero) return FPInfinity(f, a.sign ^ b.sign);
    const product = infinity ? real(0) : mulReal(real(a.value), real(b.value));
    const sum = addReal(real(constant), product);
    return roundSum(fp, f, { ...sum, exp: sum.exp - halve });
  };
export const FPRecipStepFused = stepFused(2, 0);
export const FPRSqrtStepFused = stepFused(3, 1);

// --- maximum, minimum, comparison ----------------------------------------------------------------------------------

const extreme =
  (max: boolean) =>
  (fp: FpState, f: Format, op1: bigint, op2: bigint): bigint => {
    const a = FPUnpack(fp, f, op1);
    const b = FPUnpack(fp, f, op2);
    const nan = FPProcessNaNs(fp, f, [a.type, b.type], [op1, op2]);
    if (nan !== undefined) return nan;
    const first = max ? a.value > b.value : a.value < b.value;
    const chosen = first ? a : b;
    if (chosen.type === 'zero') {
      const zeros = a.type === 'zero' && b.type === 'zero';
      return FPZero(f, !zeros ? chosen.sign : max ? a.sign & b.sign : a.sign | b.sign);
    }
    return first ? op1 : op2;
  };
export const FPMax = extreme(true);
export const FPMin = extreme(false);

/** FPMaxNum, FPMinNum: a single quiet NaN loses against a number. */
const extremeNum =
  (max: boolean) =>
  (fp: FpState, f: Format, op1: bigint, op2: bigint): bigint => {
    const type1 = FPUnpack(fp, f, op1).type;
    const type2 = FPUnpack(fp, f, op2).type;
    const loser = FPInfinity(f, max ? 1 : 0);
    const a = type1 === 'qnan' && !isNaNType(type2) ? loser : op1;
    const b = type2 === 'qnan' && !isNaNType(type1) ? loser : op2;
    return (max ? FPMax : FPMin)(fp, f, a, b);
  };
export const FPMaxNum = extremeNum(true);
export const FPMinNum = extremeNum(false);

/** FPCompare: NZCV in bits 31:28. */
export function FPCompare(fp: FpState, f: Format, op1: bigint, op2: bigint, signalNaNs: boolean): number {
  const a = FPUnpack(fp, f, op1);
  const b = FPUnpack(fp, f, op2);
  if (isNaNType(a.type) || isNaNType(b.type)) {
    if (signalNaNs || a.type === 'snan' || b.type === 'snan') raise(fp, FPSR.IOC);
    return 0x30000000;
  }
  return (a.value === b.value ? 6 : a.value < b.value ? 8 : 2) << 28;
}

const compare =
  (quiet: boolean, holds: (a: number, b: number) => boolean) =>
  (fp: FpState, f: Format, op1: bigint, op2: bigint): number => {
    const a = FPUnpack(fp, f, op1);
    const b = FPUnpack(fp, f, op2);
    if (isNaNType(a.type) || isNaNType(b.type)) {
      if (!quiet || a.type === 'snan' || b.type === 'snan') raise(fp, FPSR.IOC);
      return 0;
    }
    return holds(a.value, b.value) ? 1 : 0;
  };
export const FPCompareEQ = compare(true, (a, b) => a === b);
export const FPCompareGE = compare(false, (a, b) => a >= b);
export const FPCompareGT = compare(false, (a, b) => a > b);

// --- conversions ---------------------------------------------------------------------------------------------------

export function FPToFixed(
  fp: FpState,
  f: Format,
  op: bigint,
  fbits: number,
  width: number,
  unsigned: boolean,
  rounding: number,
): bigint {
  const a = FPUnpack(fp, f, op);
  if (isNaNType(a.type)) {
    raise(fp, FPSR.IOC);
    return 0n;
  }
  const low = unsigned ? 0n : -(1n << BigInt(width - 1));
  const high = (1n << BigInt(unsigned ? width : width - 1)) - 1n;
  // Scaling up is exact; where it overflows, so does the integer.
  const { whole, inexact } = roundToInteger(a.value * 2 ** fbits, modeOf(fp, rounding));
  const finite = Number.isFinite(whole) ? BigInt(whole) : whole > 0 ? high + 1n : low - 1n;
  if (finite < low || finite > high) {
    raise(fp, FPSR.IOC);
    return finite < low ? low : high;
  }
  if (inexact) raise(fp, FPSR.IXC);
  return finite;
}

export function FixedToFP(fp: FpState, f: Format, value: bigint, fbits: number, rounding: number): bigint {
  if (value === 0n) return 0n;
  const negative = value < 0n;
  return FPRound(fp, f, { sign: negative ? 1 : 0, mant: negative ? -value : value, exp: -fbits }, modeOf(fp, rounding));
}

export function FPRoundInt(fp: FpState, f: Format, op: bigint, rounding: number, exact: boolean): bigint {
  const a = FPUnpack(fp, f, op);
  if (isNaNType(a.type)) return FPProcessNaN(fp, f, a.type, op);
  if (a.type === 'infinity') return FPInfinity(f, a.sign);
  if (a.type === 'zero') return FPZero(f, a.sign);
  const { whole, inexact } = roundToInteger(a.value, modeOf(fp, rounding));
  if (inexact && exact) raise(fp, FPSR.IXC);
  return whole === 0 ? FPZero(f, a.sign) : FPRound(fp, f, real(whole), ZERO);
}

/** FPRoundIntN: FRINT32*, FRINT64*. */
export function FPRoundIntN(fp: FpState, f: Format, op: bigint, rounding: number, intsize: number): bigint {
  const a = FPUnpack(fp, f, op);
  if (a.type === 'zero') return FPZero(f, a.sign);
  const { whole, inexact } = roundToInteger(a.value, modeOf(fp, rounding));
  const limit = 2 ** (intsize - 1);
  if (isNaNType(a.type) || whole >= limit || whole < -limit) {
    raise(fp, FPSR.IOC);
    return f.sign | (BigInt(f.bias + intsize - 1) << BigInt(f.frac));
  }
  if (inexact) raise(fp, FPSR.IXC);
  return whole === 0 ? FPZero(f, a.sign) : FPRound(fp, f, real(whole), ZERO);
}

export function FPConvert(fp: FpState, from: Format, to: Format, op: bigint, rounding: number): bigint {
  const alternative = to === HALF && (fp.fpcr & FPCR.AHP) !== 0;
  const a = FPUnpack(fp, from, op, true);
  if (isNaNType(a.type)) {
    if (a.type === 'snan' || alternative) raise(fp, FPSR.IOC);
    if (alternative) return FPZero(to, a.sign);
    return fp.fpcr & FPCR.DN ? FPDefaultNaN(to) : FPConvertNaN(from, to, op);
  }
  if (a.type === 'infinity') {
    if (!alternative) return FPInfinity(to, a.sign);
    raise(fp, FPSR.IOC);
    return FPZero(to, a.sign) | (to.sign - 1n);
  }
  if (a.type === 'zero') return FPZero(to, a.sign);
  return FPRound(fp, to, real(a.value), modeOf(fp, rounding), true);
}

/** FPToFixedJS: the integer modulo 2^32 in bits 31:0, and Z (exact, and not -0) in bit 62, where NZCV << 32 has it. */
export function FPToFixedJS(fp: FpState, op: bigint): bigint {
  const Z = 1n << 62n;
  const a = FPUnpack(fp, DOUBLE, op);
  if (isNaNType(a.type) || a.type === 'infinity') {
    raise(fp, FPSR.IOC);
    return 0n;
  }
  const whole = Math.trunc(a.value);
  const result = BigInt.asUintN(32, BigInt(whole));
  if (whole < -(2 ** 31) || whole >= 2 ** 31) {
    raise(fp, FPSR.IOC);
    return result;
  }
  if (whole !== a.value) {
    raise(fp, FPSR.IXC);
    return result;
  }
  return a.type === 'zero' && op !== 0n ? 0n : result | Z;
}

// --- estimates -----------------------------------------------------------------------------------------------------

function RecipEstimate(a: number): number {
  const b = Math.floor(2 ** 19 / (2 * a + 1));
  return (b + 1) >> 1;
}

function RecipSqrtEstimate(a: number): number {
  const doubled = a < 256 ? 2 * a + 1 : ((a >> 1) * 2 + 1) * 2;
  let b = 512;
  while (doubled * (b + 1) * (b + 1) < 2 ** 28) b++;
  return (b + 1) >> 1;
}

/** Exponent field and the fraction as 52 bits. */
const exponentAndFraction = (f: Format, op: bigint): { exp: number; fraction: bigint } => ({
  exp: Number((op & f.inf) >> BigInt(f.frac)),
  fraction: (op & ((1n << BigInt(f.frac)) - 1n)) << BigInt(52 - f.frac),
});
const TOP = 1n << 51n;
const FRACTION = (1n << 52n) - 1n;

export function FPRecipEstimate(fp: FpState, f: Format, op: bigint): bigint {
  const a = FPUnpack(fp, f, op);
  if (isNaNType(a.type)) return FPProcessNaN(fp, f, a.type, op);
  if (a.type === 'infinity') return FPZero(f, a.sign);
  if (a.type === 'zero') {
    raise(fp, FPSR.DZC);
    return FPInfinity(f, a.sign);
  }
  if (Math.abs(a.value) < 2 ** -(f.bias + 1)) {
    raise(fp, FPSR.OFC | FPSR.IXC);
    const mode = FPRoundingMode(fp);
    return mode === TIEEVEN || mode === (a.sign ? NEGINF : POSINF) ? FPInfinity(f, a.sign) : FPMaxNormal(f, a.sign);
  }
  if (fp.fpcr & (f === HALF ? FPCR.FZ16 : FPCR.FZ) && Math.abs(a.value) >= 2 ** (f.bias - 1)) {
    raise(fp, FPSR.UFC);
    return FPZero(f, a.sign);
  }
  let { exp, fraction } = exponentAndFraction(f, op);
  if (exp === 0) {
    if (fraction & TOP) fraction = (fraction << 1n) & FRACTION;
    else {
      exp = -1;
      fraction = (fraction << 2n) & FRACTION;
    }
  }
  const estimate = RecipEstimate(256 + Number(fraction >> 44n));
  let resultExp = 2 * f.bias - 1 - exp;
  fraction = BigInt(estimate & 0xff) << 44n;
  if (resultExp === 0) fraction = (fraction >> 1n) | TOP;
  else if (resultExp === -1) {
    fraction = (fraction >> 2n) | (TOP >> 1n);
    resultExp = 0;
  }
  return FPZero(f, a.sign) | (BigInt(resultExp) << BigInt(f.frac)) | (fraction >> BigInt(52 - f.frac));
}

export function FPRSqrtEstimate(fp: FpState, f: Format, op: bigint): bigint {
  const a = FPUnpack(fp, f, op);
  if (isNaNType(a.type)) return FPProcessNaN(fp, f, a.type, op);
  if (a.type === 'zero') {
    raise(fp, FPSR.DZC);
    return FPInfinity(f, a.sign);
  }
  if (a.sign) return invalid(fp, f);
  if (a.type === 'infinity') return 0n;
  let { exp, fraction } = exponentAndFraction(f, op);
  if (exp === 0) {
    while (!(fraction & TOP)) {
      fraction = (fraction << 1n) & FRACTION;
      exp--;
    }
    fraction = (fraction << 1n) & FRACTION;
  }
  const scaled = exp & 1 ? 128 + Number(fraction >> 45n) : 256 + Number(fraction >> 44n);
  const resultExp = Math.floor((3 * f.bias - 1 - exp) / 2);
  const estimate = RecipSqrtEstimate(scaled);
  return (BigInt(resultExp) << BigInt(f.frac)) | (BigInt(estimate & 0xff) << BigInt(f.frac - 8));
}

export function FPRecpX(fp: FpState, f: Format, op: bigint): bigint {
  const a = FPUnpack(fp, f, op);
  if (isNaNType(a.type)) return FPProcessNaN(fp, f, a.type, op);
  const exp = op & f.inf;
  return FPZero(f, a.sign) | (exp === 0n ? f.inf - (1n << BigInt(f.frac)) : exp ^ f.inf);
}

/** UnsignedRecipEstimate, UnsignedRSqrtEstimate of 32-bit fractions. */
export const UnsignedRecipEstimate = (op: number): number => (op >>> 31 ? (RecipEstimate(op >>> 23) << 23) >>> 0 : 0xffffffff);
export const UnsignedRSqrtEstimate = (op: number): number =>
  op >>> 30 ? (RecipSqrtEstimate(op >>> 23) << 23) >>> 0 : 0xffffffff;

// --- BFloat16 dot products -----------------------------------------------------------------------------------------

/** BFDOT and BFMMLA ignore FPCR and leave FPSR alone: denormals are zero, rounding is to odd, a NaN is the default NaN. */
const bfState = (): FpState => ({ fpcr: FPCR.FZ | FPCR.DN, fpsr: 0 });

/** BFRound: as FPRound to odd, but overflow gives an infinity. */
function BFRound(r: Real): bigint {
  if (r.mant === 0n) return 0n;
  const fp = bfState();
  const result = FPRound(fp, SINGLE, r, ODD);
  return fp.fpsr & FPSR.OFC ? FPInfinity(SINGLE, r.sign) : result;
}

/** BFMulH of two BFloat16, BFAdd of two singles. */
const bf =
  (sum: boolean) =>
  (op1: bigint, op2: bigint): bigint => {
    const fp = bfState();
    const a = FPUnpack(fp, SINGLE, op1);
    const b = FPUnpack(fp, SINGLE, op2);
    const value = sum ? a.value + b.value : a.value * b.value;
    if (Number.isNaN(value)) return FPDefaultNaN(SINGLE);
    if (a.type === 'infinity' || b.type === 'infinity') return FPInfinity(SINGLE, value < 0 ? 1 : 0);
    if (sum) {
      if (a.type === 'zero' && b.type === 'zero') return FPZero(SINGLE, a.sign & b.sign);
      return BFRound(addReal(real(a.value), real(b.value)));
    }
    const sign = a.sign ^ b.sign;
    return value === 0 ? FPZero(SINGLE, sign) : BFRound(mulReal(real(a.value), real(b.value)));
  };
const BFMulH = bf(false);
const BFAdd = bf(true);

/** BFDotAdd: addend + (op1.low * op2.low + op1.high * op2.high); op1 and op2 are pairs of BFloat16. */
export function BFDotAdd(addend: bigint, op1: bigint, op2: bigint): bigint {
  const high = 0xffff0000n;
  const low = (op: bigint): bigint => (op & 0xffffn) << 16n;
  return BFAdd(addend, BFAdd(BFMulH(low(op1), low(op2)), BFMulH(op1 & high, op2 & high)));
}

// --- what generated code calls -------------------------------------------------------------------------------------

type Arg = number | bigint;
type Ty = 'i32' | 'i64';

const helpers: Record<string, Helper> = {};

/** An encoded value travels as i64 when it is a double, else as i32. */
const tyOf = (f: Format): Ty => (f === DOUBLE ? 'i64' : 'i32');
/** An argument as an unsigned bigint. */
const unsignedArg = (a: Arg, bits: number): bigint => BigInt.asUintN(bits, typeof a === 'bigint' ? a : BigInt(a));
const resultOf = (ty: Ty, r: bigint | number): Arg => (ty === 'i64' ? r : Number(r) | 0);
const many = (n: number, ty: Ty): Ty[] => Array<Ty>(n).fill(ty);

const FORMATS = [HALF, SINGLE, DOUBLE] as const;

/** Helpers `name16`, `name32`, `name64` of encoded operands. */
function operation(name: string, operands: number, fn: (fp: FpState, f: Format, ...ops: bigint[]) => bigint): void {
  for (const f of FORMATS)
    helpers[name + f.bits] = {
      params: many(operands, tyOf(f)),
      result: tyOf(f),
      fn: (fp, ...ops) => resultOf(tyOf(f), fn(fp, f, ...ops.map((a) => unsignedArg(a, f.bits)))),
    };
}

/** The same of two operands with an i32 result. */
function comparison(name: string, fn: (fp: FpState, f: Format, a: bigint, b: bigint) => number): void {
  for (const f of FORMATS)
    helpers[name + f.bits] = {
      params: many(2, tyOf(f)),
      result: 'i32',
      fn: (fp, a, b) => fn(fp, f, unsignedArg(a, f.bits), unsignedArg(b, f.bits)),
    };
}

/** The same of one encoded operand and i32 parameters. */
function parametric(
  name: string,
  parameters: number,
  result: 'encoded' | 'i64',
  fn: (fp: FpState, f: Format, op: bigint, ...p: number[]) => bigint,
  formats: readonly Format[] = FORMATS,
): void {
  for (const f of formats) {
    const ty = result === 'i64' ? 'i64' : tyOf(f);
    helpers[name + f.bits] = {
      params: [tyOf(f), ...many(parameters, 'i32')],
      result: ty,
      fn: (fp, op, ...p) => resultOf(ty, fn(fp, f, unsignedArg(op, f.bits), ...(p as number[]))),
    };
  }
}

/** Helpers of i32 operands and result. */
function words(name: string, operands: number, fn: (fp: FpState, ...ops: bigint[]) => bigint | number): void {
  helpers[name] = {
    params: many(operands, 'i32'),
    result: 'i32',
    fn: (fp, ...ops) => resultOf('i32', fn(fp, ...ops.map((a) => unsignedArg(a, 32)))),
  };
}

operation('FPAdd', 2, FPAdd);
operation('FPSub', 2, FPSub);
operation('FPMul', 2, FPMul);
operation('FPMulX', 2, FPMulX);
operation('FPDiv', 2, FPDiv);
operation('FPSqrt', 1, FPSqrt);
operation('FPMulAdd', 3, FPMulAdd);
operation('FPMax', 2, FPMax);
operation('FPMin', 2, FPMin);
operation('FPMaxNum', 2, FPMaxNum);
operation('FPMinNum', 2, FPMinNum);
operation('FPRecipStepFused', 2, FPRecipStepFused);
operation('FPRSqrtStepFused', 2, FPRSqrtStepFused);
operation('FPRecipEstimate', 1, FPRecipEstimate);
operation('FPRSqrtEstimate', 1, FPRSqrtEstimate);
operation('FPRecpX', 1, FPRecpX);
comparison('FPCompareEQ', FPCompareEQ);
comparison('FPCompareGE', FPCompareGE);
comparison('FPCompareGT', FPCompareGT);
// FPCompare: NZCV; the signalling form is FCMPE's.
comparison('FPCompare', (fp, f, a, b) => FPCompare(fp, f, a, b, false));
comparison('FPCompareSignalling', (fp, f, a, b) => FPCompare(fp, f, a, b, true));
// (op, rounding, exact)
parametric('FPRoundInt', 2, 'encoded', (fp, f, op, rounding, ex) => FPRoundInt(fp, f, op, rounding, ex !== 0));
// (op, rounding, intsize)
parametric('FPRoundIntN', 2, 'encoded', FPRoundIntN, [SINGLE, DOUBLE]);
// (op, fbits, width, unsigned, rounding)
parametric('FPToFixed', 4, 'i64', (fp, f, op, fbits, width, uns, rounding) =>
  FPToFixed(fp, f, op, fbits, width, uns !== 0, rounding),
);
for (const f of FORMATS) {
  // (integer extended to 64 bits, fbits, unsigned)
  helpers[`FixedToFP${f.bits}`] = {
    params: ['i64', 'i32', 'i32'],
    result: tyOf(f),
    fn: (fp, v, fbits, uns) => resultOf(tyOf(f), FixedToFP(fp, f, integerArg(v, uns), fbits as number, RMODE)),
  };
  // FPConvert<from>_<to>(op, rounding)
  for (const to of FORMATS)
    if (to !== f)
      helpers[`FPConvert${f.bits}_${to.bits}`] = {
        params: [tyOf(f), 'i32'],
        result: tyOf(to),
        fn: (fp, op, rounding) => resultOf(tyOf(to), FPConvert(fp, f, to, unsignedArg(op, f.bits), rounding as number)),
      };
}
words('FPConvertBF', 1, (fp, op) => FPConvert(fp, SINGLE, BFLOAT, op, RMODE));
words('FPMulAddH', 3, (fp, c, a, b) => FPMulAddH(fp, c, a & 0xffffn, b & 0xffffn));
words('BFDotAdd', 3, (_, c, a, b) => BFDotAdd(c, a, b));
words('UnsignedRecipEstimate', 1, (_, op) => UnsignedRecipEstimate(Number(op)));
words('UnsignedRSqrtEstimate', 1, (_, op) => UnsignedRSqrtEstimate(Number(op)));
helpers.FPToFixedJS = { params: ['i64'], result: 'i64', fn: (fp, op) => FPToFixedJS(fp, unsignedArg(op, 64)) };

function integerArg(v: Arg, unsigned: Arg): bigint {
  return unsigned ? BigInt.asUintN(64, v as bigint) : (v as bigint);
}

// --- the host's arithmetic -----------------------------------------------------------------------------------------

/**
 * Puts `fast` before a helper; undefined: not known that way. It is not asked when FPCR.FZ is set, so that denormal operands
 * are what they are.
 */
function shortcut(name: string, fast: (fp: FpState, ...ops: never[]) => Arg | undefined): void {
  const { fn: exactly, params } = helpers[name];
  const first = fast as (fp: FpState, ...ops: Arg[]) => Arg | undefined;
  // Named, because a rest parameter costs more than most of these operations.
  helpers[name].fn = (fp, a, b, c, d, e) =>
    (fp.fpcr & FPCR.FZ ? undefined : first(fp, a, b, c, d, e)) ?? exactly(fp, ...[a, b, c, d, e].slice(0, params.length));
}

/**
 * An operation on numbers that are exactly the operands: the result rounded to nearest even in the format, and in `exact`
 * whether it is the true one. NaN: not known here.
 *
 * Singles are computed in double precision: 53 >= 2 * 24 + 2, so rounding twice is rounding once (Figueroa, "When is double
 * rounding innocuous?", 1995). The error of a sum is Knuth's TwoSum, of a product Dekker's (exact within `inDekkerRange`).
 */
type Native = (a: number, b: number, c: number, single: boolean) => number;
const exact = { value: true };

function sumError(a: number, b: number, s: number): number {
  const bb = s - a;
  return a - (s - bb) + (b - bb);
}

function productError(a: number, b: number, p: number): number {
  const split = (x: number): number => {
    const t = x * 134217729; // 2^27 + 1
    return t - (t - x);
  };
  const ah = split(a);
  const al = a - ah;
  const bh = split(b);
  const bl = b - bh;
  return al * bl - (p - ah * bh - al * bh - ah * bl);
}
/** No step of `productError` overflows or underflows. */
const inDekkerRange = (a: number, b: number, p: number): boolean =>
  Math.abs(a) < 2 ** 990 && Math.abs(b) < 2 ** 990 && Math.abs(p) < 2 ** 990 && Math.abs(p) > 2 ** -900;

/** a + b rounded to odd: rounding that once more, to a few bits less, is rounding a + b. `exact` tells. */
function oddSum(a: number, b: number): number {
  const s = a + b;
  const error = sumError(a, b, s);
  exact.value = error === 0;
  if (exact.value) return s;
  f64[0] = s;
  if (u32[0] & 1) return s;
  // The neighbour in the direction of the error.
  if (error > 0 === s > 0) u32[0] |= 1;
  else if (u32[0] === 0) {
    u32[0] = 0xffffffff;
    u32[1] -= 1;
  } else u32[0] -= 1;
  return f64[0];
}

const nativeAdd: Native = (a, b, _c, single) => {
  const s = a + b;
  const r = single ? Math.fround(s) : s;
  exact.value = r === s && sumError(a, b, s) === 0;
  return r;
};

const nativeMul: Native = (a, b, _c, single) => {
  const p = a * b;
  const r = single ? Math.fround(p) : p;
  if (single) exact.value = r === p;
  else if (p === 0) exact.value = a === 0 || b === 0;
  else if (inDekkerRange(a, b, p)) exact.value = productError(a, b, p) === 0;
  else return NaN;
  return r;
};

const nativeDiv: Native = (a, b, _c, single) => {
  const q = a / b;
  const r = single ? Math.fround(q) : q;
  const p = r * b;
  if (single) exact.value = p === a;
  else if (q === 0) exact.value = a === 0;
  else if (inDekkerRange(q, b, p)) exact.value = p === a && productError(q, b, p) === 0;
  else return NaN;
  return r;
};

const nativeSqrt: Native = (a, _b, _c, single) => {
  const r = single ? Math.fround(Math.sqrt(a)) : Math.sqrt(a);
  const p = r * r;
  if (single || r === 0) exact.value = p === a;
  else if (inDekkerRange(r, r, p)) exact.value = p === a && productError(r, r, p) === 0;
  else return NaN;
  return r;
};

/**
 * a + b * c. A single's product is an exact double. A double's is the sum of two, and the sum of all three is rounded as
 * Boldo and Melquiond do ("Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).
 */
const nativeMulAdd: Native = (a, b, c, single) => {
  const p = b * c;
  if (single) {
    const s = oddSum(a, p);
    const r = Math.fround(s);
    exact.value = exact.value && r === s;
    return r;
  }
  if (b === 0 || c === 0) return nativeAdd(a, p, 0, false);
  if (!inDekkerRange(b, c, p) || !(Math.abs(a) < 2 ** 990)) return NaN;
  const error = productError(b, c, p);
  const t = a + error;
  const s = p + t;
  const rest = oddSum(sumError(a, error, t), sumError(p, t, s));
  const r = s + rest;
  exact.value = exact.value && sumError(s, rest, r) === 0;
  return r;
};

/**
 * Whether `r` (of a `Native`) is the architecture's answer, and sets IXC if it says so. It is when r is normal (and not the
 * smallest normal, which may have been rounded up to) or an exact zero, and when it is exact or rounding is to nearest.
 */
function accept(fp: FpState, f: Format, r: number): boolean {
  const magnitude = Math.abs(r);
  const toNearest = ((fp.fpcr >>> FPCR.RMODE) & 3) === TIEEVEN;
  if (magnitude === 0) return exact.value && toNearest;
  if (!(magnitude > f.minNormalValue && magnitude <= f.maxValue)) return false;
  if (exact.value) return true;
  if (toNearest) raise(fp, FPSR.IXC);
  return toNearest;
}

function numberOf32(v: number): number {
  u32[0] = v;
  return f32[0];
}
function encode32(v: number): number {
  f32[0] = v;
  return u32[0] | 0;
}
function numberOf64(v: bigint): number {
  u64[0] = v;
  return f64[0];
}
function encode64(v: number): bigint {
  f64[0] = v;
  return u64[0];
}

const NATIVE: readonly (readonly [string, Native])[] = [
  ['FPAdd', nativeAdd],
  ['FPSub', (a, b, c, single) => nativeAdd(a, -b, c, single)],
  ['FPMul', nativeMul],
  ['FPMulX', nativeMul],
  ['FPDiv', nativeDiv],
  ['FPSqrt', nativeSqrt],
  ['FPMulAdd', nativeMulAdd],
];
for (const [name, native] of NATIVE) {
  shortcut(`${name}32`, (fp, a: number, b: number, c: number) => {
    const r = native(numberOf32(a), numberOf32(b), numberOf32(c), true);
    return accept(fp, SINGLE, r) ? encode32(r) : undefined;
  });
  shortcut(`${name}64`, (fp, a: bigint, b = 0n, c = 0n) => {
    const r = native(numberOf64(a), numberOf64(b), numberOf64(c), false);
    return accept(fp, DOUBLE, r) ? encode64(r) : undefined;
  });
}

/** Of two ordered numbers; undefined: not known. */
const ORDERED: readonly (readonly [string, (a: number, b: number) => number | undefined])[] = [
  ['FPCompareEQ', (a, b) => (a === b ? 1 : 0)],
  ['FPCompareGE', (a, b) => (a >= b ? 1 : 0)],
  ['FPCompareGT', (a, b) => (a > b ? 1 : 0)],
  ['FPCompare', (a, b) => (a === b ? 6 : a < b ? 8 : 2) << 28],
  ['FPCompareSignalling', (a, b) => (a === b ? 6 : a < b ? 8 : 2) << 28],
];
for (const [name, compared] of ORDERED) {
  const ordered = (a: number, b: number): number | undefined => (Number.isNaN(a) || Number.isNaN(b) ? undefined : compared(a, b));
  shortcut(`${name}32`, (_, a: number, b: number) => ordered(numberOf32(a), numberOf32(b)));
  shortcut(`${name}64`, (_, a: bigint, b: bigint) => ordered(numberOf64(a), numberOf64(b)));
}
for (const [name, max] of [
  ['FPMax', true],
  ['FPMaxNum', true],
  ['FPMin', false],
  ['FPMinNum', false],
] as const) {
  // Equal ones may be zeros of different signs.
  const choose = <T extends Arg>(a: number, b: number, op1: T, op2: T): T | undefined =>
    a > b ? (max ? op1 : op2) : a < b ? (max ? op2 : op1) : undefined;
  shortcut(`${name}32`, (_, a: number, b: number) => choose(numberOf32(a), numberOf32(b), a, b));
  shortcut(`${name}64`, (_, a: bigint, b: bigint) => choose(numberOf64(a), numberOf64(b), a, b));
}

/** A rounded integer of less than 2^53, or undefined. */
function quickInteger(fp: FpState, v: number, rounding: number, signalInexact: boolean): number | undefined {
  if (!(Math.abs(v) < 2 ** 53)) return undefined;
  const { whole, inexact } = roundToInteger(v, modeOf(fp, rounding));
  if (inexact && signalInexact) raise(fp, FPSR.IXC);
  return whole;
}
function quickToFixed(
  fp: FpState,
  v: number,
  fbits: number,
  width: number,
  unsigned: number,
  rounding: number,
): bigint | undefined {
  const scaled = v * 2 ** fbits;
  // Within these no rounding leaves the range.
  const limit = 2 ** (width - 1) - 1;
  if (!(scaled < limit && scaled > (unsigned ? 0 : -limit))) return undefined;
  const whole = quickInteger(fp, scaled, rounding, true);
  return whole === undefined ? undefined : BigInt(whole);
}
function quickRound(fp: FpState, v: number, rounding: number, signalInexact: number): number | undefined {
  // Zeros have a sign.
  return Math.abs(v) > 1 ? quickInteger(fp, v, rounding, signalInexact !== 0) : undefined;
}
shortcut('FPToFixed32', (fp, a: number, fbits: number, width: number, uns: number, rounding: number) =>
  quickToFixed(fp, numberOf32(a), fbits, width, uns, rounding),
);
shortcut('FPToFixed64', (fp, a: bigint, fbits: number, width: number, uns: number, rounding: number) =>
  quickToFixed(fp, numberOf64(a), fbits, width, uns, rounding),
);
shortcut('FPRoundInt32', (fp, a: number, rounding: number, signalInexact: number) => {
  const r = quickRound(fp, numberOf32(a), rounding, signalInexact);
  return r === undefined ? undefined : encode32(r);
});
shortcut('FPRoundInt64', (fp, a: bigint, rounding: number, signalInexact: number) => {
  const r = quickRound(fp, numberOf64(a), rounding, signalInexact);
  return r === undefined ? undefined : encode64(r);
});

/** An integer that is a double, scaled (which is exact) and rounded to `f`; undefined: not known. */
function quickFromFixed(fp: FpState, f: Format, v: bigint, fbits: number, unsigned: number): number | undefined {
  const n = Number(integerArg(v, unsigned));
  if (Math.abs(n) >= 2 ** 53) return undefined;
  const scaled = n * 2 ** -fbits;
  const r = f === SINGLE ? Math.fround(scaled) : scaled;
  exact.value = r === scaled;
  return accept(fp, f, r) ? r : undefined;
}
shortcut('FixedToFP32', (fp, v: bigint, fbits: number, uns: number) => {
  const r = quickFromFixed(fp, SINGLE, v, fbits, uns);
  return r === undefined ? undefined : encode32(r);
});
shortcut('FixedToFP64', (fp, v: bigint, fbits: number, uns: number) => {
  const r = quickFromFixed(fp, DOUBLE, v, fbits, uns);
  return r === undefined ? undefined : encode64(r);
});
shortcut('FPConvert32_64', (fp, a: number) => {
  const r = numberOf32(a);
  exact.value = true;
  return accept(fp, DOUBLE, r) ? encode64(r) : undefined;
});
shortcut('FPConvert64_32', (fp, a: bigint, rounding: number) => {
  const v = numberOf64(a);
  const r = Math.fround(v);
  exact.value = r === v;
  return rounding === RMODE && accept(fp, SINGLE, r) ? encode32(r) : undefined;
});

/** Every function above by the name rows call it by: the Arm ARM's, and the operand size in bits. */
export const FP_HELPERS: Record<string, Helper> = helpers;
