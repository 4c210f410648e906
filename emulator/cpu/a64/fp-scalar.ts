/** Scalar floating point, Arm ARM C4.1.96: data processing, comparison, selection, FMOV. Conversions: fp-convert.ts. */
import type { Builder, I64, Int } from '../builder.ts';
import { RMODE, TIEAWAY, ZERO } from '../fp.ts';
import { type Insn, insn, type Raw } from '../insn.ts';
import {
  arithmetic,
  byType,
  call,
  compareScalars,
  constant,
  FP,
  FPAbs,
  FPNeg,
  mulAdd,
  negated,
  scalar,
  setScalar,
  type Size,
} from './fp-lanes.ts';

/** VFPExpandImm, for N bits. */
export function VFPExpandImm(imm8: number, size: Size): bigint {
  const exponent = size === 16 ? 5 : size === 32 ? 8 : 11;
  const b6 = (imm8 >> 6) & 1;
  const high = ((b6 ^ 1) << (exponent - 1)) | (b6 ? ((1 << (exponent - 3)) - 1) << 2 : 0) | ((imm8 >> 4) & 3);
  const fraction = BigInt(imm8 & 15) << BigInt(size - 1 - exponent - 4);
  return (BigInt(imm8 >> 7) << BigInt(size - 1)) | (BigInt(high) << BigInt(size - 1 - exponent)) | fraction;
}

/** One source, C4.1.96 "Floating-point data-processing (1 source)": opcode -> result. */
const round =
  (rounding: number, exact: number) =>
  (b: Builder, size: Size, n: Int): Int =>
    call(b, 'FPRoundInt', size, [n, b.i32(rounding), b.i32(exact)]);

const ONE_SOURCE: readonly (readonly [string, string, (b: Builder, size: Size, n: Int) => Int])[] = [
  ['FMOV', '000000', (_b, _size, n) => n],
  ['FABS', '000001', FPAbs],
  ['FNEG', '000010', FPNeg],
  ['FRINTN', '001000', round(0, 0)],
  ['FRINTP', '001001', round(1, 0)],
  ['FRINTM', '001010', round(2, 0)],
  ['FRINTZ', '001011', round(ZERO, 0)],
  ['FRINTA', '001100', round(TIEAWAY, 0)],
  ['FRINTX', '001110', round(RMODE, 1)],
  ['FRINTI', '001111', round(RMODE, 0)],
];

/** FRINT32Z, FRINT32X, FRINT64Z, FRINT64X: no half-precision forms. */
const ROUND_TO_SIZE: readonly (readonly [string, string, number, number])[] = [
  ['FRINT32Z', '010000', ZERO, 32],
  ['FRINT32X', '010001', RMODE, 32],
  ['FRINT64Z', '010010', ZERO, 64],
  ['FRINT64X', '010011', RMODE, 64],
];

/** Two source: [name, opcode, function]. */
const TWO_SOURCE: readonly (readonly [string, string, string])[] = [
  ['FMUL', '0000', 'FPMul'],
  ['FDIV', '0001', 'FPDiv'],
  ['FADD', '0010', 'FPAdd'],
  ['FSUB', '0011', 'FPSub'],
  ['FMAX', '0100', 'FPMax'],
  ['FMIN', '0101', 'FPMin'],
  ['FMAXNM', '0110', 'FPMaxNum'],
  ['FMINNM', '0111', 'FPMinNum'],
];

/** Three source: [name, o1, o0, negate the addend, negate the first factor]. */
const THREE_SOURCE: readonly (readonly [string, number, number, boolean, boolean])[] = [
  ['FMADD', 0, 0, false, false],
  ['FMSUB', 0, 1, false, true],
  ['FNMADD', 1, 0, true, true],
  ['FNMSUB', 1, 1, true, false],
];

const compareName = (e: number): string => (e ? 'FPCompareSignalling' : 'FPCompare');

export const rows: readonly Insn[] = [
  ...ONE_SOURCE.flatMap(([name, opcode, op]) =>
    byType(name, `00011110 ftype!:2 1 ${opcode} 10000 rn:5 rd:5` as '00011110 ftype!:2 rn:5 rd:5', (b, { rn, rd }, size) =>
      setScalar(b, rd, size, op(b, size, scalar(b, rn, size))),
    ),
  ),
  ...ROUND_TO_SIZE.map(([name, opcode, rounding, intsize]) =>
    insn(
      name,
      `00011110 0 double! 1 ${opcode} 10000 rn:5 rd:5` as '0 double! rn:5 rd:5',
      (b, { double, rn, rd }) => {
        const size = double ? 64 : 32;
        setScalar(b, rd, size, call(b, 'FPRoundIntN', size, [scalar(b, rn, size), b.i32(rounding), b.i32(intsize)]));
      },
      { ...FP, feat: 'FRINTTS' },
    ),
  ),
  ...TWO_SOURCE.flatMap(([name, opcode, fn]) =>
    byType(name, `00011110 ftype!:2 1 rm:5 ${opcode} 10 rn:5 rd:5` as 'ftype!:2 rm:5 rn:5 rd:5', (b, { rm, rn, rd }, size) =>
      arithmetic(b, fn, size, 1, rd, [b.v(rn), b.v(rm)]),
    ),
  ),
  ...byType('FNMUL', '00011110 ftype!:2 1 rm:5 1000 10 rn:5 rd:5', (b, { rm, rn, rd }, size) =>
    setScalar(b, rd, size, FPNeg(b, size, call(b, 'FPMul', size, [scalar(b, rn, size), scalar(b, rm, size)]))),
  ),
  ...byType('FSQRT', '00011110 ftype!:2 1 000011 10000 rn:5 rd:5', (b, { rn, rd }, size) =>
    arithmetic(b, 'FPSqrt', size, 1, rd, [b.v(rn)]),
  ),
  ...THREE_SOURCE.flatMap(([name, o1, o0, negateAddend, negateFactor]) =>
    byType(
      name,
      `00011111 ftype!:2 ${o1} rm:5 ${o0} ra:5 rn:5 rd:5` as 'ftype!:2 rm:5 ra:5 rn:5 rd:5',
      (b, { rm, ra, rn, rd }, size) =>
        mulAdd(b, size, 1, rd, negated(b, size, b.v(ra), negateAddend), negated(b, size, b.v(rn), negateFactor), b.v(rm)),
    ),
  ),

  // FCMP, FCMPE (e) with a register and with zero.
  ...byType('FCMP', '00011110 ftype!:2 1 rm:5 00 1000 rn:5 e! 0 000', (b, { rm, rn, e }, size) =>
    compareScalars(b, compareName(e), size, scalar(b, rn, size), scalar(b, rm, size)),
  ),
  ...byType('FCMP_zero', '00011110 ftype!:2 1 xxxxx 00 1000 rn:5 e! 1 000', (b, { rn, e }, size) =>
    compareScalars(b, compareName(e), size, scalar(b, rn, size), constant(b, size, 0n)),
  ),
  ...byType('FCCMP', '00011110 ftype!:2 1 rm:5 cond!:4 01 rn:5 e! nzcv:4', (b, { rm, cond, rn, e }, size) =>
    b.if(
      b.cond(cond),
      () => compareScalars(b, compareName(e), size, scalar(b, rn, size), scalar(b, rm, size)),
      () => b.setNZCV(b.imm32((f) => f.nzcv << 28)),
    ),
  ),
  ...byType('FCSEL', '00011110 ftype!:2 1 rm:5 cond!:4 11 rn:5 rd:5', (b, { rm, cond, rn, rd }, size) =>
    setScalar(b, rd, size, b.select(b.cond(cond), scalar(b, rn, size), scalar(b, rm, size))),
  ),
  ...byType('FMOV_imm', '00011110 ftype!:2 1 imm:8 100 00000 rd:5', (b, { rd }, size) => {
    const value = (f: Raw): bigint => VFPExpandImm(f.imm, size);
    setScalar(b, rd, size, size === 64 ? b.imm(value) : b.imm32((f) => Number(value(f)) | 0));
  }),

  // FMOV between general registers and H, S, D and V.D[1].
  insn(
    'FMOV_gen_h',
    'sf! 00 11110 11 1 00 11 in! 000000 rn:5 rd:5',
    (b, f) => (f.in ? setScalar(b, f.rd, 16, b.x(f.rn, 0)) : b.setX(f.rd, scalar(b, f.rn, 16))),
    { ...FP, feat: 'FP16' },
  ),
  insn(
    'FMOV_gen_s',
    '0 00 11110 00 1 00 11 in! 000000 rn:5 rd:5',
    (b, f) => (f.in ? setScalar(b, f.rd, 32, b.x(f.rn, 0)) : b.setX(f.rd, scalar(b, f.rn, 32))),
    FP,
  ),
  insn(
    'FMOV_gen_d',
    '1 00 11110 01 1 00 11 in! 000000 rn:5 rd:5',
    (b, f) => (f.in ? setScalar(b, f.rd, 64, b.x(f.rn)) : b.setX(f.rd, b.d(f.rn))),
    FP,
  ),
  insn(
    'FMOV_gen_top',
    '1 00 11110 10 1 01 11 in! 000000 rn:5 rd:5',
    (b, f) => {
      if (f.in) b.setV(f.rd, b.vop('i64x2.replace_lane', [b.v(f.rd), b.x(f.rn)], [1]));
      else b.setX(f.rd, b.op('i64x2.extract_lane', [b.v(f.rn)], [1]) as I64);
    },
    FP,
  ),
];
