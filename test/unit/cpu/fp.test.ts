import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  BFDotAdd,
  BFLOAT,
  DOUBLE,
  FixedToFP,
  type Format,
  FP_HELPERS,
  FPAdd,
  FPCompare,
  FPCompareEQ,
  FPCompareGE,
  FPCompareGT,
  FPConvert,
  FPCR,
  FPDiv,
  FPMax,
  FPMaxNum,
  FPMinNum,
  FPMin,
  FPMul,
  FPMulAdd,
  FPMulX,
  FPRecipEstimate,
  FPRecipStepFused,
  FPRoundInt,
  FPRoundIntN,
  FPRSqrtEstimate,
  FPSqrt,
  FPSR,
  FPSub,
  FPToFixed,
  FPToFixedJS,
  HALF,
  NEGINF,
  ODD,
  POSINF,
  RMODE,
  SINGLE,
  TIEAWAY,
  TIEEVEN,
  UnsignedRecipEstimate,
  UnsignedRSqrtEstimate,
  ZERO,
} from '../../../emulator/cpu/fp.ts';
import type { FpState } from '../../../emulator/cpu/helpers.ts';
import { controls, encodings } from './fp-encodings.ts';

const state = (fpcr = 0, fpsr = 0): FpState => ({ fpcr, fpsr });
const doubles = new Float64Array(1);
const singles = new Float32Array(1);
const quads = new BigUint64Array(doubles.buffer);
const words = new Uint32Array(singles.buffer);
function bits64(v: number): bigint {
  doubles[0] = v;
  return quads[0];
}
function bits32(v: number): bigint {
  singles[0] = v;
  return BigInt(words[0]);
}
function number64(v: bigint): number {
  quads[0] = v;
  return doubles[0];
}
function number32(v: bigint): number {
  words[0] = Number(v);
  return singles[0];
}
const bitsOf = (f: Format, v: number): bigint => (f === DOUBLE ? bits64(v) : bits32(v));
const numberOf = (f: Format, v: bigint): number => (f === DOUBLE ? number64(v) : number32(v));
const isNaNBits = (f: Format, v: bigint): boolean => (v & ~f.sign) > f.inf;

const RUNS = { numRuns: 4000 };

type Op = (fp: FpState, f: Format, ...ops: bigint[]) => bigint;
const NATIVE: readonly (readonly [string, number, Op, (...v: number[]) => number])[] = [
  ['FPAdd', 2, FPAdd as Op, (a, b) => a + b],
  ['FPSub', 2, FPSub as Op, (a, b) => a - b],
  ['FPMul', 2, FPMul as Op, (a, b) => a * b],
  ['FPDiv', 2, FPDiv as Op, (a, b) => a / b],
  ['FPSqrt', 1, FPSqrt as Op, (a) => Math.sqrt(a)],
];

for (const [name, count, op, host] of NATIVE)
  for (const f of [SINGLE, DOUBLE])
    test(`${name} of ${f.name}s is the host's where no NaN is involved`, () => {
      fc.assert(
        fc.property(fc.array(encodings(f), { minLength: count, maxLength: count }), (ops) => {
          fc.pre(!ops.some((v) => isNaNBits(f, v)));
          const want = host(...ops.map((v) => numberOf(f, v)));
          const got = op(state(), f, ...ops);
          // The default NaN of an invalid operation is positive and quiet.
          assert.equal(got, Number.isNaN(want) ? f.inf | f.quiet : bitsOf(f, want));
        }),
        RUNS,
      );
    });

/** [helper, operand formats, further i32 parameters, the exact function]: what has a fast path. */
type Exact = (fp: FpState, ops: bigint[], p: number[]) => bigint | number;
const rounding = fc.constantFrom(RMODE, TIEEVEN, POSINF, NEGINF, ZERO, TIEAWAY);
const FAST: readonly (readonly [string, Format[], fc.Arbitrary<number>[], Exact])[] = [SINGLE, DOUBLE].flatMap((f) => {
  const two = (name: string, op: (fp: FpState, f: Format, a: bigint, b: bigint) => bigint | number) =>
    [name + f.bits, [f, f], [], (fp: FpState, [a, b]: bigint[]) => op(fp, f, a, b)] as const;
  return [
    two('FPAdd', FPAdd),
    two('FPSub', FPSub),
    two('FPMul', FPMul),
    two('FPMulX', FPMulX),
    two('FPDiv', FPDiv),
    two('FPMax', FPMax),
    two('FPMin', FPMin),
    two('FPMaxNum', FPMaxNum),
    two('FPMinNum', FPMinNum),
    two('FPCompareEQ', FPCompareEQ),
    two('FPCompareGE', FPCompareGE),
    two('FPCompareGT', FPCompareGT),
    two('FPCompare', (fp, _, a, b) => FPCompare(fp, f, a, b, false)),
    two('FPCompareSignalling', (fp, _, a, b) => FPCompare(fp, f, a, b, true)),
    [`FPSqrt${f.bits}`, [f], [], (fp, [a]) => FPSqrt(fp, f, a)],
    [`FPMulAdd${f.bits}`, [f, f, f], [], (fp, [a, b, c]) => FPMulAdd(fp, f, a, b, c)],
    [`FPRoundInt${f.bits}`, [f], [rounding, fc.nat(1)], (fp, [a], [r, x]) => FPRoundInt(fp, f, a, r, x !== 0)],
    [
      `FPToFixed${f.bits}`,
      [f],
      [fc.nat(64), fc.constantFrom(32, 64), fc.nat(1), rounding],
      (fp, [a], [fbits, width, unsigned, r]) => FPToFixed(fp, f, a, fbits, width, unsigned !== 0, r),
    ],
  ] as [string, Format[], fc.Arbitrary<number>[], Exact][];
});

for (const [name, formats, parameters, slow] of [
  ...FAST,
  ['FPConvert32_64', [SINGLE], [fc.constant(RMODE)], (fp: FpState, [a]: bigint[]) => FPConvert(fp, SINGLE, DOUBLE, a, RMODE)],
  [
    'FPConvert64_32',
    [DOUBLE],
    [fc.constantFrom(RMODE, ODD)],
    (fp: FpState, [a]: bigint[], [r]: number[]) => FPConvert(fp, DOUBLE, SINGLE, a, r),
  ],
] as [string, Format[], fc.Arbitrary<number>[], Exact][])
  test(`${name} gives the result and the flags of the exact function, fast or not`, () => {
    fc.assert(
      fc.property(
        fc.tuple(...formats.map(encodings)),
        fc.tuple(...parameters),
        fc.oneof(fc.constant(0), controls),
        fc.constantFrom(0, FPSR.IXC),
        (ops, p, fpcr, fpsr) => {
          const [got, want] = [state(fpcr, fpsr), state(fpcr, fpsr)];
          const encoded = ops.map((v, i) => (formats[i] === DOUBLE ? BigInt.asIntN(64, v) : Number(v) | 0));
          const result = BigInt.asUintN(64, BigInt(FP_HELPERS[name].fn(got, ...encoded, ...p)));
          const bits = FP_HELPERS[name].result === 'i32' ? 32 : 64;
          assert.deepEqual(
            [BigInt.asUintN(bits, result), got.fpsr],
            [BigInt.asUintN(bits, BigInt(slow(want, ops, p))), want.fpsr],
          );
        },
      ),
      { numRuns: 10000 },
    );
  });

test('integers convert the same, fast or not', () => {
  const integers = fc.oneof(
    fc.bigInt(-(1n << 63n), (1n << 63n) - 1n),
    fc.bigInt(-(1n << 54n), 1n << 54n),
    fc.bigInt(-1000n, 1000n),
  );
  for (const f of [SINGLE, DOUBLE])
    fc.assert(
      fc.property(integers, fc.nat(64), fc.nat(1), fc.oneof(fc.constant(0), controls), (v, fbits, unsigned, fpcr) => {
        const [got, want] = [state(fpcr), state(fpcr)];
        const result = BigInt.asUintN(f.bits, BigInt(FP_HELPERS[`FixedToFP${f.bits}`].fn(got, v, fbits, unsigned)));
        const exact = FixedToFP(want, f, unsigned ? BigInt.asUintN(64, v) : v, fbits, RMODE);
        assert.deepEqual([result, got.fpsr], [exact, want.fpsr]);
      }),
      { numRuns: 10000 },
    );
});

test('half arithmetic is double arithmetic rounded once', () => {
  // Sums and products of halves are exact doubles.
  const toDouble = (v: bigint): number => number64(FPConvert(state(), HALF, DOUBLE, v, RMODE));
  fc.assert(
    fc.property(encodings(HALF), encodings(HALF), controls, (a, b, control) => {
      fc.pre(!isNaNBits(HALF, a) && !isNaNBits(HALF, b));
      const fpcr = control & (3 << FPCR.RMODE);
      for (const [op, exact] of [
        [FPAdd, toDouble(a) + toDouble(b)],
        [FPMul, toDouble(a) * toDouble(b)],
      ] as const) {
        if (Number.isNaN(exact) || exact === 0) continue;
        const direct = state(fpcr);
        const rounded = state(fpcr);
        const got = op(direct, HALF, a, b);
        const want = FPConvert(rounded, DOUBLE, HALF, bits64(exact), RMODE);
        assert.deepEqual([got, direct.fpsr], [want, rounded.fpsr]);
      }
    }),
    RUNS,
  );
});

test('FPMulAdd rounds once: it is the sum of the exact product', () => {
  // a * a - fl(a * a) is the rounding error of the product, which a double always holds when nothing underflows.
  fc.assert(
    fc.property(fc.double({ min: 1, max: 1e100, noNaN: true }), (a) => {
      const product = a * a;
      const error = FPMulAdd(state(), DOUBLE, bits64(-product), bits64(a), bits64(a));
      assert.equal(scaled(number64(error)), (scaled(a) * scaled(a)) / SCALE - scaled(product));
    }),
    RUNS,
  );
});
/** A double as an integer multiple of 2^-300. */
const SCALE = 1n << 300n;
function scaled(v: number): bigint {
  const bits = bits64(Math.abs(v));
  const exp = Number(bits >> 52n);
  const mant = exp ? (bits & 0xfffffffffffffn) | 0x10000000000000n : bits;
  const shift = (exp || 1) - 1075 + 300;
  const magnitude = shift >= 0 ? mant << BigInt(shift) : mant >> BigInt(-shift);
  return v < 0 ? -magnitude : magnitude;
}

test('directed roundings enclose the nearest one, and to odd never gives an even inexact result', () => {
  fc.assert(
    fc.property(encodings(DOUBLE), (v) => {
      fc.pre((v & ~DOUBLE.sign) < DOUBLE.inf);
      const value = number64(v);
      const single = (rounding: number): number => number32(FPConvert(state(), DOUBLE, SINGLE, v, rounding));
      const [down, up, near, chop] = [NEGINF, POSINF, TIEEVEN, ZERO].map(single);
      assert.ok(down <= value && value <= up && (near === down || near === up), `${value}: ${down} ${near} ${up}`);
      assert.equal(chop, value < 0 ? up : down);
      assert.equal(near, Math.fround(value));
      const odd = FPConvert(state(), DOUBLE, SINGLE, v, ODD);
      assert.ok(number32(odd) === value || (odd & 1n) === 1n || Math.abs(value) > SINGLE.maxValue);
    }),
    RUNS,
  );
});

test('conversions to integers are those of JavaScript, saturated', () => {
  fc.assert(
    fc.property(encodings(DOUBLE), fc.constantFrom(32, 64), fc.boolean(), (v, width, unsigned) => {
      const value = number64(v);
      const fp = state();
      const got = FPToFixed(fp, DOUBLE, v, 0, width, unsigned, ZERO);
      if (Number.isNaN(value)) return assert.deepEqual([got, fp.fpsr], [0n, FPSR.IOC]);
      const low = unsigned ? 0n : -(1n << BigInt(width - 1));
      const high = (1n << BigInt(unsigned ? width : width - 1)) - 1n;
      const whole = Number.isFinite(value) ? BigInt(Math.trunc(value)) : value > 0 ? high + 1n : low - 1n;
      const inRange = whole >= low && whole <= high;
      assert.equal(got, whole < low ? low : whole > high ? high : whole);
      assert.equal(fp.fpsr, !inRange ? FPSR.IOC : Math.trunc(value) === value ? 0 : FPSR.IXC);
    }),
    RUNS,
  );
});

test('integers convert as the host converts them', () => {
  fc.assert(
    fc.property(fc.bigInt(-(1n << 63n), (1n << 63n) - 1n), fc.nat(64), (v, fbits) => {
      assert.equal(FixedToFP(state(), DOUBLE, v, fbits, RMODE), bits64(Number(v) / 2 ** fbits) & (v === 0n ? 0n : ~0n));
    }),
    RUNS,
  );
});

test('FPToFixedJS is the ToInt32 of ECMAScript', () => {
  fc.assert(
    fc.property(encodings(DOUBLE), (v) => {
      const value = number64(v);
      const r = FPToFixedJS(state(), v);
      assert.equal(Number(BigInt.asIntN(32, r)), value | 0);
      assert.equal(r >> 62n, Object.is(value, value | 0) ? 1n : 0n);
    }),
    RUNS,
  );
});

test('conversions to a wider format and back are exact', () => {
  for (const [narrow, wide] of [
    [HALF, SINGLE],
    [HALF, DOUBLE],
    [SINGLE, DOUBLE],
  ] as const)
    fc.assert(
      fc.property(encodings(narrow), (v) => {
        fc.pre(!isNaNBits(narrow, v));
        const fp = state();
        assert.equal(FPConvert(fp, wide, narrow, FPConvert(fp, narrow, wide, v, RMODE), RMODE), v);
        assert.equal(fp.fpsr, 0);
      }),
      RUNS,
    );
});

test('comparison orders numbers as the host does, and NaNs not at all', () => {
  fc.assert(
    fc.property(encodings(DOUBLE), encodings(DOUBLE), (a, b) => {
      const [x, y] = [number64(a), number64(b)];
      assert.equal(FPCompare(state(), DOUBLE, a, b, false) >>> 28, x === y ? 6 : x < y ? 8 : x > y ? 2 : 3);
    }),
    RUNS,
  );
});

test('estimates are right to eight bits', () => {
  for (let i = 1; i < 65536; i += 257) {
    const v = 1 + i / 65536;
    const relative = (got: bigint, want: number): number => Math.abs(number64(got) / want - 1);
    assert.ok(relative(FPRecipEstimate(state(), DOUBLE, bits64(v)), 1 / v) < 2 ** -8);
    assert.ok(relative(FPRSqrtEstimate(state(), DOUBLE, bits64(v * 2)), 1 / Math.sqrt(v * 2)) < 2 ** -8);
    assert.ok(relative(FPRSqrtEstimate(state(), DOUBLE, bits64(v)), 1 / Math.sqrt(v)) < 2 ** -8);
    const fixed = ((0x80000000 + i * 32768) >>> 0) / 2 ** 32;
    assert.ok(Math.abs((UnsignedRecipEstimate(fixed * 2 ** 32) / 2 ** 31) * fixed - 1) < 2 ** -8);
    assert.ok(Math.abs((UnsignedRSqrtEstimate(fixed * 2 ** 32) / 2 ** 31) * Math.sqrt(fixed) - 1) < 2 ** -8);
  }
  assert.deepEqual([UnsignedRecipEstimate(0x7fffffff), UnsignedRSqrtEstimate(0x3fffffff)], [0xffffffff, 0xffffffff]);
});

/** What the Arm ARM says of special cases: [what, computation, FPCR, result, FPSR]. */
const SNAN = 0x7f800001n;
const QNAN = 0xffc01234n;
const ONE = 0x3f800000n;
const INF = 0x7f800000n;
const TINY = 1n;
const DEFAULT_NAN = 0x7fc00000n;
// biome-ignore format: a table
const CASES: readonly (readonly [string, (fp: FpState) => bigint, number, bigint, number])[] = [
  ['a signalling NaN goes before a quiet one and becomes quiet', (fp) => FPAdd(fp, SINGLE, QNAN, SNAN), 0, SNAN | 0x400000n, FPSR.IOC],
  ['the first quiet NaN is taken', (fp) => FPMul(fp, SINGLE, QNAN, 0x7fc00099n), 0, QNAN, 0],
  ['DN gives the default NaN', (fp) => FPAdd(fp, SINGLE, QNAN, ONE), FPCR.DN, DEFAULT_NAN, 0],
  ['the addend comes first', (fp) => FPMulAdd(fp, SINGLE, 0x7fc00001n, 0x7fc00002n, 0x7fc00003n), 0, 0x7fc00001n, 0],
  ['infinity times zero beats a quiet addend', (fp) => FPMulAdd(fp, SINGLE, QNAN, INF, 0n), 0, DEFAULT_NAN, FPSR.IOC],
  ['... but not a signalling one', (fp) => FPMulAdd(fp, SINGLE, SNAN, INF, 0n), 0, SNAN | 0x400000n, FPSR.IOC],
  ['FMULX of infinity and zero is two', (fp) => FPMulX(fp, SINGLE, INF, 0x80000000n), 0, 0xc0000000n, 0],
  ['infinity minus infinity is invalid', (fp) => FPSub(fp, SINGLE, INF, INF), 0, DEFAULT_NAN, FPSR.IOC],
  ['division by zero', (fp) => FPDiv(fp, SINGLE, 0xbf800000n, 0n), 0, 0xff800000n, FPSR.DZC],
  ['zero by zero', (fp) => FPDiv(fp, SINGLE, 0n, 0n), 0, DEFAULT_NAN, FPSR.IOC],
  ['infinity by zero is no division by zero', (fp) => FPDiv(fp, SINGLE, INF, 0n), 0, INF, 0],
  ['root of a negative', (fp) => FPSqrt(fp, SINGLE, 0xbf800000n), 0, DEFAULT_NAN, FPSR.IOC],
  ['root of minus zero', (fp) => FPSqrt(fp, SINGLE, 0x80000000n), 0, 0x80000000n, 0],
  ['FZ takes a denormal for zero', (fp) => FPMul(fp, SINGLE, TINY, ONE), FPCR.FZ, 0n, FPSR.IDC],
  ['FZ flushes a denormal result without IXC', (fp) => FPMul(fp, SINGLE, 0x00800000n, 0x3f000000n), FPCR.FZ, 0n, FPSR.UFC],
  ['an exact denormal is no underflow', (fp) => FPMul(fp, SINGLE, 0x00800000n, 0x3f000000n), 0, 0x00400000n, 0],
  ['an inexact denormal is', (fp) => FPMul(fp, SINGLE, TINY, 0x3f000001n), 0, 1n, FPSR.UFC | FPSR.IXC],
  ['underflow is detected before rounding', (fp) => FPMul(fp, SINGLE, 0x00ffffffn, 0x3f000000n), 0, 0x00800000n, FPSR.UFC | FPSR.IXC],
  ['FZ16 flushes halves without IDC', (fp) => FPAdd(fp, HALF, 1n, 1n), FPCR.FZ16, 0n, 0],
  ['FZ leaves halves alone', (fp) => FPAdd(fp, HALF, 1n, 1n), FPCR.FZ, 2n, 0],
  ['overflow to nearest', (fp) => FPAdd(fp, SINGLE, 0x7f7fffffn, 0x7f7fffffn), 0, INF, FPSR.OFC | FPSR.IXC],
  ['overflow towards zero', (fp) => FPAdd(fp, SINGLE, 0x7f7fffffn, 0x7f7fffffn), ZERO << FPCR.RMODE, 0x7f7fffffn, FPSR.OFC | FPSR.IXC],
  ['x - x towards minus infinity', (fp) => FPSub(fp, SINGLE, ONE, ONE), NEGINF << FPCR.RMODE, 0x80000000n, 0],
  ['x - x to nearest', (fp) => FPSub(fp, SINGLE, ONE, ONE), 0, 0n, 0],
  ['-0 + -0', (fp) => FPAdd(fp, SINGLE, 0x80000000n, 0x80000000n), 0, 0x80000000n, 0],
  ['the larger zero is positive', (fp) => FPMax(fp, SINGLE, 0x80000000n, 0n), 0, 0n, 0],
  ['the smaller zero is negative', (fp) => FPMin(fp, SINGLE, 0n, 0x80000000n), 0, 0x80000000n, 0],
  ['FMAXNM prefers the number', (fp) => FPMaxNum(fp, SINGLE, QNAN, ONE), 0, ONE, 0],
  ['FMAXNM of a signalling NaN is a NaN', (fp) => FPMaxNum(fp, SINGLE, SNAN, ONE), 0, SNAN | 0x400000n, FPSR.IOC],
  ['FRECPS of infinity and zero is two', (fp) => FPRecipStepFused(fp, SINGLE, INF, 0n), 0, 0x40000000n, 0],
  ['FRECPE of zero', (fp) => FPRecipEstimate(fp, SINGLE, 0x80000000n), 0, 0xff800000n, FPSR.DZC],
  ['FRECPE of a small denormal overflows', (fp) => FPRecipEstimate(fp, SINGLE, TINY), 0, INF, FPSR.OFC | FPSR.IXC],
  ['FRINTX tells inexact', (fp) => FPRoundInt(fp, SINGLE, 0x3fc00000n, RMODE, true), 0, 0x40000000n, FPSR.IXC],
  ['FRINTI does not', (fp) => FPRoundInt(fp, SINGLE, 0x3fc00000n, RMODE, false), 0, 0x40000000n, 0],
  ['FRINTA rounds ties away', (fp) => FPRoundInt(fp, SINGLE, 0xc0200000n, TIEAWAY, false), 0, 0xc0400000n, 0],
  ['FRINTZ keeps the sign of zero', (fp) => FPRoundInt(fp, SINGLE, 0xbf000000n, ZERO, false), 0, 0x80000000n, 0],
  ['FRINT32Z out of range', (fp) => FPRoundIntN(fp, SINGLE, 0x4f000000n, ZERO, 32), 0, 0xcf000000n, FPSR.IOC],
  ['FCVT narrows a NaN payload from the top', (fp) => FPConvert(fp, SINGLE, HALF, 0xffaaa000n, RMODE), 0, 0xff55n, FPSR.IOC],
  ['AHP has no NaN', (fp) => FPConvert(fp, SINGLE, HALF, QNAN, RMODE), FPCR.AHP, 0x8000n, FPSR.IOC],
  ['AHP has no infinity', (fp) => FPConvert(fp, SINGLE, HALF, INF, RMODE), FPCR.AHP, 0x7fffn, FPSR.IOC],
  ['AHP reaches 131008', (fp) => FPConvert(fp, HALF, SINGLE, 0x7fffn, RMODE), FPCR.AHP, 0x47ffe000n, 0],
  ['BFCVT rounds to nearest', (fp) => FPConvert(fp, SINGLE, BFLOAT, 0x3f808001n, RMODE), 0, 0x3f81n, FPSR.IXC],
  ['BFDOT rounds to odd and sets no flag', () => BFDotAdd(ONE, 0x3f80n, 0x3380n), 0, 0x3f800001n, 0],
];
for (const [what, compute, fpcr, result, fpsr] of CASES)
  test(what, () => {
    const fp = state(fpcr);
    const got = compute(fp);
    assert.deepEqual([`0x${got.toString(16)}`, fp.fpsr], [`0x${result.toString(16)}`, fpsr]);
  });
