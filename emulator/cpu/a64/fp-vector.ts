/**
 * Advanced SIMD floating point, vector and scalar forms (Arm ARM C4.1.95). Single and double precision encode `sz`; half
 * precision (FEAT_FP16) has encodings of its own, with the same opcodes. An operation is written once, for one lane.
 */
import type { Builder, I32, Int, V128 } from '../builder.ts';
import { ODD, RMODE, TIEAWAY, ZERO } from '../fp.ts';
import { type Insn, type InsnOptions, insn, type Operand, type Raw } from '../insn.ts';
import {
  arithmetic,
  call,
  constant,
  FixedToFP,
  FP,
  FPAbs,
  FPConvert,
  FPNeg,
  FPToFixed,
  lane,
  mulAdd,
  negated,
  scalar,
  setScalar,
  type Size,
  sized,
  test,
  vector,
} from './fp-lanes.ts';

/** What happens in a lane; a text is the function of fp.ts that is called. */
type LaneOp1 = string | ((b: Builder, size: Size, n: Int) => Int);
/** `d` reads the lane of the destination, for the operations that accumulate. */
type LaneOp2 = string | ((b: Builder, size: Size, n: Int, m: Int, d: () => Int) => Int);

const apply1 = (b: Builder, op: LaneOp1, size: Size, n: Int): Int =>
  typeof op === 'string' ? call(b, op, size, [n]) : op(b, size, n);
const apply2 = (b: Builder, op: LaneOp2, size: Size, n: Int, m: Int, d: () => Int): Int =>
  typeof op === 'string' ? call(b, op, size, [n, m]) : op(b, size, n, m, d);

const FP16: InsnOptions = { ...FP, feat: 'FP16' };
const half = (): Size => 16;
const bySz = (f: Raw): Size => (f.sz ? 64 : 32);
/** One 64-bit lane is no vector: sz:Q = 10 is reserved. */
const notOneDouble = (f: Raw): boolean => f.sz === 0 || f.q === 1;
const lanes = (q: number, size: Size): number => (q ? 128 : 64) / size;

/** All ones where the comparison holds. */
const mask = (b: Builder, size: Size, holds: I32): Int => (size === 64 ? b.neg(b.extU(holds)) : b.neg(holds));
const compare =
  (name: string): LaneOp2 =>
  (b, size, n, m) =>
    mask(b, size, test(b, name, size, [n, m]));
const compareAbs =
  (name: string): LaneOp2 =>
  (b, size, n, m) =>
    mask(b, size, test(b, name, size, [FPAbs(b, size, n), FPAbs(b, size, m)]));
const fusedAdd: LaneOp2 = (b, size, n, m, d) => call(b, 'FPMulAdd', size, [d(), n, m]);
const fusedSub: LaneOp2 = (b, size, n, m, d) => call(b, 'FPMulAdd', size, [d(), FPNeg(b, size, n), m]);
const absDifference: LaneOp2 = (b, size, n, m) => FPAbs(b, size, call(b, 'FPSub', size, [n, m]));

/** Three same: [name, U, a (bit 23), low three bits of the opcode, forms: vector, scalar, pairwise; operation]. */
const THREE_SAME: readonly (readonly [string, number, number, string, 'v' | 'vs' | 'p', LaneOp2])[] = [
  ['FMAXNM', 0, 0, '000', 'v', 'FPMaxNum'],
  ['FMLA', 0, 0, '001', 'v', fusedAdd],
  ['FADD', 0, 0, '010', 'v', 'FPAdd'],
  ['FMULX', 0, 0, '011', 'vs', 'FPMulX'],
  ['FCMEQ', 0, 0, '100', 'vs', compare('FPCompareEQ')],
  ['FMAX', 0, 0, '110', 'v', 'FPMax'],
  ['FRECPS', 0, 0, '111', 'vs', 'FPRecipStepFused'],
  ['FMINNM', 0, 1, '000', 'v', 'FPMinNum'],
  ['FMLS', 0, 1, '001', 'v', fusedSub],
  ['FSUB', 0, 1, '010', 'v', 'FPSub'],
  ['FMIN', 0, 1, '110', 'v', 'FPMin'],
  ['FRSQRTS', 0, 1, '111', 'vs', 'FPRSqrtStepFused'],
  ['FMAXNMP', 1, 0, '000', 'p', 'FPMaxNum'],
  ['FADDP', 1, 0, '010', 'p', 'FPAdd'],
  ['FMUL', 1, 0, '011', 'v', 'FPMul'],
  ['FCMGE', 1, 0, '100', 'vs', compare('FPCompareGE')],
  ['FACGE', 1, 0, '101', 'vs', compareAbs('FPCompareGE')],
  ['FMAXP', 1, 0, '110', 'p', 'FPMax'],
  ['FDIV', 1, 0, '111', 'v', 'FPDiv'],
  ['FMINNMP', 1, 1, '000', 'p', 'FPMinNum'],
  ['FABD', 1, 1, '010', 'vs', absDifference],
  ['FCMGT', 1, 1, '100', 'vs', compare('FPCompareGT')],
  ['FACGT', 1, 1, '101', 'vs', compareAbs('FPCompareGT')],
  ['FMINP', 1, 1, '110', 'p', 'FPMin'],
];

interface V3 {
  q: number;
  rm: Operand;
  rn: Operand;
  rd: Operand;
}

const perLane =
  (op: LaneOp2) =>
  (b: Builder, { q, rm, rn, rd }: V3, size: Size): void => {
    const n = b.v(rn);
    const m = b.v(rm);
    const d = b.v(rd);
    const count = lanes(q, size);
    if (typeof op === 'string') arithmetic(b, op, size, count, rd, [n, m]);
    else if (op === fusedAdd || op === fusedSub) mulAdd(b, size, count, rd, d, negated(b, size, n, op === fusedSub), m);
    else
      b.setV(
        rd,
        vector(b, size, count, (i) => op(b, size, lane(b, n, size, i), lane(b, m, size, i), () => lane(b, d, size, i))),
      );
  };

/** Neighbours of the concatenation m:n. */
const pairwise =
  (op: LaneOp2) =>
  (b: Builder, { q, rm, rn, rd }: V3, size: Size): void => {
    const n = b.v(rn);
    const m = b.v(rm);
    const count = lanes(q, size);
    const at = (i: number): Int => (i < count ? lane(b, n, size, i) : lane(b, m, size, i - count));
    b.setV(
      rd,
      vector(b, size, count, (i) => apply2(b, op, size, at(2 * i), at(2 * i + 1), () => at(0))),
    );
  };

const onScalar =
  (op: LaneOp2) =>
  (b: Builder, { rm, rn, rd }: V3, size: Size): void =>
    setScalar(
      b,
      rd,
      size,
      apply2(b, op, size, scalar(b, rn, size), scalar(b, rm, size), () => scalar(b, rd, size)),
    );

function threeSame(): Insn[] {
  return THREE_SAME.flatMap(([name, u, a, opcode, forms, op]) => {
    const body = forms === 'p' ? pairwise(op) : perLane(op);
    const rows = [
      sized(`${name}_v`, `0 q! ${u} 01110 ${a} sz! 1 rm:5 11${opcode} 1 rn:5 rd:5`, body, bySz, { ...FP, when: notOneDouble }),
      sized(`${name}_v_h`, `0 q! ${u} 01110 ${a} 10 rm:5 00${opcode} 1 rn:5 rd:5`, body, half, FP16),
    ];
    if (forms === 'vs')
      rows.push(
        sized(`${name}_s`, `01 ${u} 11110 ${a} sz! 1 rm:5 11${opcode} 1 rn:5 rd:5`, onScalar(op), bySz, FP),
        sized(`${name}_s_h`, `01 ${u} 11110 ${a} 10 rm:5 00${opcode} 1 rn:5 rd:5`, onScalar(op), half, FP16),
      );
    return rows;
  });
}

// --- two registers -------------------------------------------------------------------------------------------------

const round =
  (rounding: number, exact: number): LaneOp1 =>
  (b, size, n) =>
    call(b, 'FPRoundInt', size, [n, b.i32(rounding), b.i32(exact)]);
const roundTo =
  (rounding: number, intsize: number): LaneOp1 =>
  (b, size, n) =>
    call(b, 'FPRoundIntN', size, [n, b.i32(rounding), b.i32(intsize)]);
const toInt =
  (unsigned: number, rounding: number): LaneOp1 =>
  (b, size, n) =>
    FPToFixed(b, size, n, b.i32(0), size, unsigned, rounding);
const fromInt =
  (unsigned: number): LaneOp1 =>
  (b, size, n) =>
    FixedToFP(b, size, n, b.i32(0), size, unsigned);
const zero =
  (name: string): LaneOp1 =>
  (b, size, n) =>
    mask(b, size, test(b, name, size, [n, constant(b, size, 0n)]));
/** 0 > n is n < 0. */
const zeroSwapped =
  (name: string): LaneOp1 =>
  (b, size, n) =>
    mask(b, size, test(b, name, size, [constant(b, size, 0n), n]));

/** Two-register miscellaneous: [name, U, a, opcode, forms, operation]. */
const TWO_MISC: readonly (readonly [string, number, number, string, 'v' | 'vs' | 's', LaneOp1])[] = [
  ['FRINTN', 0, 0, '11000', 'v', round(0, 0)],
  ['FRINTM', 0, 0, '11001', 'v', round(2, 0)],
  ['FCVTNS', 0, 0, '11010', 'vs', toInt(0, 0)],
  ['FCVTMS', 0, 0, '11011', 'vs', toInt(0, 2)],
  ['FCVTAS', 0, 0, '11100', 'vs', toInt(0, TIEAWAY)],
  ['SCVTF', 0, 0, '11101', 'vs', fromInt(0)],
  ['FCMGT_zero', 0, 1, '01100', 'vs', zero('FPCompareGT')],
  ['FCMEQ_zero', 0, 1, '01101', 'vs', zero('FPCompareEQ')],
  ['FCMLT_zero', 0, 1, '01110', 'vs', zeroSwapped('FPCompareGT')],
  ['FABS', 0, 1, '01111', 'v', FPAbs],
  ['FRINTP', 0, 1, '11000', 'v', round(1, 0)],
  ['FRINTZ', 0, 1, '11001', 'v', round(3, 0)],
  ['FCVTPS', 0, 1, '11010', 'vs', toInt(0, 1)],
  ['FCVTZS', 0, 1, '11011', 'vs', toInt(0, 3)],
  ['FRECPE', 0, 1, '11101', 'vs', 'FPRecipEstimate'],
  ['FRECPX', 0, 1, '11111', 's', 'FPRecpX'],
  ['FRINTA', 1, 0, '11000', 'v', round(TIEAWAY, 0)],
  ['FRINTX', 1, 0, '11001', 'v', round(RMODE, 1)],
  ['FCVTNU', 1, 0, '11010', 'vs', toInt(1, 0)],
  ['FCVTMU', 1, 0, '11011', 'vs', toInt(1, 2)],
  ['FCVTAU', 1, 0, '11100', 'vs', toInt(1, TIEAWAY)],
  ['UCVTF', 1, 0, '11101', 'vs', fromInt(1)],
  ['FCMGE_zero', 1, 1, '01100', 'vs', zero('FPCompareGE')],
  ['FCMLE_zero', 1, 1, '01101', 'vs', zeroSwapped('FPCompareGE')],
  ['FNEG', 1, 1, '01111', 'v', FPNeg],
  ['FRINTI', 1, 1, '11001', 'v', round(RMODE, 0)],
  ['FCVTPU', 1, 1, '11010', 'vs', toInt(1, 1)],
  ['FCVTZU', 1, 1, '11011', 'vs', toInt(1, 3)],
  ['FRSQRTE', 1, 1, '11101', 'vs', 'FPRSqrtEstimate'],
  ['FSQRT', 1, 1, '11111', 'v', 'FPSqrt'],
];

/** FEAT_FRINTTS: [name, U, opcode, operation]; single and double only. */
const ROUND_TO_SIZE: readonly (readonly [string, number, string, LaneOp1])[] = [
  ['FRINT32Z', 0, '11110', roundTo(ZERO, 32)],
  ['FRINT64Z', 0, '11111', roundTo(ZERO, 64)],
  ['FRINT32X', 1, '11110', roundTo(RMODE, 32)],
  ['FRINT64X', 1, '11111', roundTo(RMODE, 64)],
];

interface V2 {
  q: number;
  rn: Operand;
  rd: Operand;
}

const perLane1 =
  (op: LaneOp1) =>
  (b: Builder, { q, rn, rd }: V2, size: Size): void => {
    const n = b.v(rn);
    const count = lanes(q, size);
    if (typeof op === 'string') arithmetic(b, op, size, count, rd, [n]);
    else
      b.setV(
        rd,
        vector(b, size, count, (i) => op(b, size, lane(b, n, size, i))),
      );
  };
const onScalar1 =
  (op: LaneOp1) =>
  (b: Builder, { rn, rd }: V2, size: Size): void =>
    setScalar(b, rd, size, apply1(b, op, size, scalar(b, rn, size)));

function twoMisc(): Insn[] {
  return TWO_MISC.flatMap(([name, u, a, opcode, forms, op]) => {
    const rows: Insn[] = [];
    if (forms !== 's')
      rows.push(
        sized(`${name}_v`, `0 q! ${u} 01110 ${a} sz! 10000 ${opcode} 10 rn:5 rd:5`, perLane1(op), bySz, {
          ...FP,
          when: notOneDouble,
        }),
        sized(`${name}_v_h`, `0 q! ${u} 01110 ${a} 111100 ${opcode} 10 rn:5 rd:5`, perLane1(op), half, FP16),
      );
    if (forms !== 'v')
      rows.push(
        sized(`${name}_s`, `01 ${u} 11110 ${a} sz! 10000 ${opcode} 10 rn:5 rd:5`, onScalar1(op), bySz, FP),
        sized(`${name}_s_h`, `01 ${u} 11110 ${a} 111100 ${opcode} 10 rn:5 rd:5`, onScalar1(op), half, FP16),
      );
    return rows;
  });
}

const words =
  (name: string): LaneOp1 =>
  (b, _size, n) =>
    b.call('i32', name, [n]) as Int;

/** V[d] := lanes at the bottom and zeros (q = 0), or lanes at the top (q = 1) above what V[d] has: narrowing. */
function setHalf(b: Builder, rd: Operand, q: number, size: Size, make: (i: number) => Int): void {
  const count = 64 / size;
  b.setV(rd, vector(b, size, count, make, q ? b.vop('i64x2.replace_lane', [b.v(rd), b.i64(0)], [1]) : undefined, q ? count : 0));
}

// --- by element ----------------------------------------------------------------------------------------------------

/** [name, U, opcode, operation]. */
const BY_ELEMENT: readonly (readonly [string, number, string, LaneOp2])[] = [
  ['FMLA', 0, '0001', fusedAdd],
  ['FMLS', 0, '0101', fusedSub],
  ['FMUL', 0, '1001', 'FPMul'],
  ['FMULX', 1, '1001', 'FPMulX'],
];

interface Element {
  l: number;
  m: number;
  h: number;
  rm: Operand;
}
/** The element that H:L:M (half, with four bits of Rm), H:L (single) or H (double) selects. */
const element = (b: Builder, { l, m, h, rm }: Element, size: Size): Int =>
  lane(b, b.v(rm), size, size === 16 ? h * 4 + l * 2 + m : size === 32 ? h * 2 + l : h);

function byElement(): Insn[] {
  return BY_ELEMENT.flatMap(([name, u, opcode, op]) => {
    const wide = `1 sz! l! rm:5 ${opcode} h! 0 rn:5 rd:5`;
    const narrow = `00 l! m! rm:4 ${opcode} h! 0 rn:5 rd:5`;
    const onVector = (b: Builder, f: V2 & Element, size: Size): void => {
      const e = element(b, f, size);
      const n = b.v(f.rn);
      const d = b.v(f.rd);
      b.setV(
        f.rd,
        vector(b, size, lanes(f.q, size), (i) => apply2(b, op, size, lane(b, n, size, i), e, () => lane(b, d, size, i))),
      );
    };
    const onOne = (b: Builder, f: V2 & Element, size: Size): void => {
      const e = element(b, f, size);
      setScalar(
        b,
        f.rd,
        size,
        apply2(b, op, size, scalar(b, f.rn, size), e, () => scalar(b, f.rd, size)),
      );
    };
    const indexValid = (f: Raw): boolean => f.sz === 0 || f.l === 0;
    return [
      sized(`${name}_e`, `0 q! ${u} 01111 ${wide}`, onVector, bySz, { ...FP, when: (f) => indexValid(f) && notOneDouble(f) }),
      sized(`${name}_e_h`, `0 q! ${u} 01111 ${narrow}`, onVector, half, FP16),
      sized(`${name}_es`, `01 ${u} 11111 ${wide}`, onOne, bySz, { ...FP, when: indexValid }),
      sized(`${name}_es_h`, `01 ${u} 11111 ${narrow}`, onOne, half, FP16),
    ];
  });
}

// --- reductions ----------------------------------------------------------------------------------------------------

/** Scalar pairwise and across lanes: [name, a, opcode, operation]. Half precision has U = 0, single and double U = 1. */
const REDUCTIONS: readonly (readonly [string, number, string, LaneOp2])[] = [
  ['FMAXNM', 0, '01100', 'FPMaxNum'],
  ['FMAX', 0, '01111', 'FPMax'],
  ['FMINNM', 1, '01100', 'FPMinNum'],
  ['FMIN', 1, '01111', 'FPMin'],
];

/** Reduce: halves first, so that NaNs are chosen in the architecture's order. */
function reduce(b: Builder, op: LaneOp2, size: Size, v: V128, first: number, count: number): Int {
  if (count === 1) return lane(b, v, size, first);
  const low = reduce(b, op, size, v, first, count / 2);
  const high = reduce(b, op, size, v, first + count / 2, count / 2);
  return apply2(b, op, size, low, high, () => low);
}

const reduceTo =
  (op: LaneOp2, count: (q: number) => number) =>
  (b: Builder, { q, rn, rd }: V2, size: Size): void =>
    setScalar(b, rd, size, reduce(b, op, size, b.v(rn), 0, count(q)));

function reductions(): Insn[] {
  const pair = (name: string, a: number, opcode: string, op: LaneOp2): Insn[] => [
    sized(
      `${name}P_s`,
      `01 1 11110 ${a} sz! 11000 ${opcode} 10 rn:5 rd:5`,
      reduceTo(op, () => 2),
      bySz,
      FP,
    ),
    sized(
      `${name}P_s_h`,
      `01 0 11110 ${a} 0 11000 ${opcode} 10 rn:5 rd:5`,
      reduceTo(op, () => 2),
      half,
      FP16,
    ),
  ];
  return [
    ...REDUCTIONS.flatMap(([name, a, opcode, op]) => [
      sized(
        `${name}V`,
        `0 1 1 01110 ${a} 0 11000 ${opcode} 10 rn:5 rd:5`,
        reduceTo(op, () => 4),
        () => 32,
        FP,
      ),
      sized(
        `${name}V_h`,
        `0 q! 0 01110 ${a} 0 11000 ${opcode} 10 rn:5 rd:5`,
        reduceTo(op, (q) => lanes(q, 16)),
        half,
        FP16,
      ),
      ...pair(name, a, opcode, op),
    ]),
    ...pair('FADD', 0, '01101', 'FPAdd'),
  ];
}

// --- complex numbers -----------------------------------------------------------------------------------------------

/** FCMLA on one pair: [real, imaginary] of d + n * m turned by `rot` quarters. */
function complexMulAdd(b: Builder, size: Size, rot: number, n: readonly Int[], m: readonly Int[], d: readonly Int[]): Int[] {
  const from = n[rot & 1];
  const neg = (v: Int): Int => FPNeg(b, size, v);
  const factors = [() => [m[0], m[1]], () => [neg(m[1]), m[0]], () => [neg(m[0]), neg(m[1])], () => [m[1], neg(m[0])]][rot]();
  return factors.map((factor, i) => call(b, 'FPMulAdd', size, [d[i], from, factor]));
}

const complexSize = (f: Raw): Size => ([16, 16, 32, 64] as const)[f.size];
const complexValid = (f: Raw): boolean => f.size !== 0 && (f.size !== 3 || f.q === 1);
const FCMA: InsnOptions = { ...FP, feat: 'FCMA' };
const pairOf = (b: Builder, v: V128, size: Size, i: number): Int[] => [lane(b, v, size, i & ~1), lane(b, v, size, i | 1)];

function complex(): Insn[] {
  const mulAddVector = (b: Builder, { q, rot, rm, rn, rd }: V3 & { rot: number }, size: Size): void => {
    const n = b.v(rn);
    const m = b.v(rm);
    const d = b.v(rd);
    const pairs = Array.from({ length: lanes(q, size) / 2 }, (_, i) =>
      complexMulAdd(b, size, rot, pairOf(b, n, size, 2 * i), pairOf(b, m, size, 2 * i), pairOf(b, d, size, 2 * i)),
    ).flat();
    b.setV(
      rd,
      vector(b, size, pairs.length, (i) => pairs[i]),
    );
  };
  const mulAddElement = (b: Builder, f: V3 & Element & { rot: number }, size: Size): void => {
    const n = b.v(f.rn);
    const d = b.v(f.rd);
    const m = pairOf(b, b.v(f.rm), size, 2 * (size === 16 ? f.h * 2 + f.l : f.h));
    const pairs = Array.from({ length: lanes(f.q, size) / 2 }, (_, i) =>
      complexMulAdd(b, size, f.rot, pairOf(b, n, size, 2 * i), m, pairOf(b, d, size, 2 * i)),
    ).flat();
    b.setV(
      f.rd,
      vector(b, size, pairs.length, (i) => pairs[i]),
    );
  };
  return [
    sized('FCMLA', '0 q! 1 01110 size!:2 0 rm:5 110 rot!:2 1 rn:5 rd:5', mulAddVector, complexSize, {
      ...FCMA,
      when: complexValid,
    }),
    // Half: index H:L below the length of the vector; single: H, 128 bits only.
    sized('FCMLA_e_h', '0 q! 1 01111 01 l! rm:5 0 rot!:2 1 h! 0 rn:5 rd:5', mulAddElement, half, {
      ...FCMA,
      when: (f) => f.q === 1 || f.h === 0,
    }),
    sized(
      'FCMLA_e',
      '0 1 1 01111 10 0 rm:5 0 rot!:2 1 h! 0 rn:5 rd:5',
      (b, f: V3 & Element & { rot: number }, size) => mulAddElement(b, { ...f, q: 1 }, size),
      () => 32,
      FCMA,
    ),
    // FCADD turns m by 90 (rot = 0) or 270 degrees and adds.
    sized(
      'FCADD',
      '0 q! 1 01110 size!:2 0 rm:5 111 rot! 01 rn:5 rd:5',
      (b, { q, rot, rm, rn, rd }: V3 & { rot: number }, size) => {
        const n = b.v(rn);
        const m = b.v(rm);
        b.setV(
          rd,
          vector(b, size, lanes(q, size), (i) => {
            const other = lane(b, m, size, i ^ 1);
            return call(b, 'FPAdd', size, [lane(b, n, size, i), (i & 1) === rot ? FPNeg(b, size, other) : other]);
          }),
        );
      },
      complexSize,
      { ...FCMA, when: complexValid },
    ),
  ];
}

// --- widening products: FEAT_FHM, FEAT_BF16 ------------------------------------------------------------------------

/** FMLAL and FMLSL (s), low or high half (`top`) of n; `m` gives the half-precision factor of a lane. */
function mulAddLong(b: Builder, q: number, top: number, s: number, rn: Operand, rd: Operand, m: (i: number) => Int): void {
  const n = b.v(rn);
  const d = b.v(rd);
  b.setV(
    rd,
    vector(b, 32, lanes(q, 32), (i) => {
      const factor = lane(b, n, 16, i + top * lanes(q, 32));
      return b.call('i32', 'FPMulAddH', [lane(b, d, 32, i), s ? FPNeg(b, 16, factor) : factor, m(i)]) as Int;
    }),
  );
}

/** A BFloat16 (of lane `at`) as a single. */
const widenBF = (b: Builder, v: V128, at: number): I32 => b.shl(lane(b, v, 16, at) as I32, b.i32(16));

/** BFMLALB, BFMLALT: d + n * m of the even (top = 0) or odd BFloat16s of n. */
function bfMulAddLong(b: Builder, top: number, rn: Operand, rd: Operand, m: (i: number) => Int): void {
  const n = b.v(rn);
  const d = b.v(rd);
  b.setV(
    rd,
    vector(b, 32, 4, (i) => call(b, 'FPMulAdd', 32, [lane(b, d, 32, i), widenBF(b, n, 2 * i + top), m(i)])),
  );
}

/** BFDOT: a dot product of pairs into each single. */
function bfDot(b: Builder, q: number, rn: Operand, rd: Operand, m: (i: number) => Int): void {
  const n = b.v(rn);
  const d = b.v(rd);
  b.setV(
    rd,
    vector(b, 32, lanes(q, 32), (i) => b.call('i32', 'BFDotAdd', [lane(b, d, 32, i), lane(b, n, 32, i), m(i)]) as Int),
  );
}

const FHM = { ...FP, feat: 'FHM' } as const;
const BF16 = { ...FP, feat: 'BF16' } as const;
const H = (f: { h: number; l: number; m: number }): number => f.h * 4 + f.l * 2 + f.m;

const WIDENING: readonly Insn[] = [
  // U and the opcode differ together: FMLAL, FMLSL (0, 11101), FMLAL2, FMLSL2 (1, 11001).
  ...[0, 1].flatMap((top) => [
    insn(
      `FMLAL${top ? '2' : ''}`,
      `0 q! ${top} 01110 s! 0 1 rm:5 11${top ? '001' : '101'} 1 rn:5 rd:5` as 'q! s! rm:5 rn:5 rd:5',
      (b, { q, s, rm, rn, rd }) => {
        const m = b.v(rm);
        mulAddLong(b, q, top, s, rn, rd, (i) => lane(b, m, 16, i + top * lanes(q, 32)));
      },
      FHM,
    ),
    insn(
      `FMLAL${top ? '2' : ''}_e`,
      `0 q! ${top} 01111 10 l! m! rm:4 ${top} s! 00 h! 0 rn:5 rd:5` as 'q! l! m! rm:4 s! h! rn:5 rd:5',
      (b, f) => {
        const e = lane(b, b.v(f.rm), 16, H(f));
        mulAddLong(b, f.q, top, f.s, f.rn, f.rd, () => e);
      },
      FHM,
    ),
  ]),
  insn(
    'BFMLAL',
    '0 top! 1 01110 11 0 rm:5 111111 rn:5 rd:5',
    (b, { top, rm, rn, rd }) => {
      const m = b.v(rm);
      bfMulAddLong(b, top, rn, rd, (i) => widenBF(b, m, 2 * i + top));
    },
    BF16,
  ),
  insn(
    'BFMLAL_e',
    '0 top! 0 01111 11 l! m! rm:4 1111 h! 0 rn:5 rd:5',
    (b, f) => {
      const e = widenBF(b, b.v(f.rm), H(f));
      bfMulAddLong(b, f.top, f.rn, f.rd, () => e);
    },
    BF16,
  ),
  insn(
    'BFDOT',
    '0 q! 1 01110 01 0 rm:5 111111 rn:5 rd:5',
    (b, { q, rm, rn, rd }) => {
      const m = b.v(rm);
      bfDot(b, q, rn, rd, (i) => lane(b, m, 32, i));
    },
    BF16,
  ),
  insn(
    'BFDOT_e',
    '0 q! 0 01111 01 l! rm:5 1111 h! 0 rn:5 rd:5',
    (b, { q, l, h, rm, rn, rd }) => {
      const e = lane(b, b.v(rm), 32, h * 2 + l);
      bfDot(b, q, rn, rd, () => e);
    },
    BF16,
  ),
  insn(
    'BFMMLA',
    '0 1 1 01110 01 0 rm:5 1 1101 1 rn:5 rd:5',
    (b, { rm, rn, rd }) => {
      const [n, m, d] = [b.v(rn), b.v(rm), b.v(rd)];
      b.setV(
        rd,
        vector(b, 32, 4, (i) => {
          const dot = (sum: Int, k: number): Int =>
            b.call('i32', 'BFDotAdd', [sum, lane(b, n, 32, (i & 2) + k), lane(b, m, 32, (i & 1) * 2 + k)]) as Int;
          return dot(dot(lane(b, d, 32, i), 0), 1);
        }),
      );
    },
    BF16,
  ),
];

// --- fixed point (shift by immediate) and narrowing ----------------------------------------------------------------

/**
 * SCVTF, UCVTF, FCVTZS, FCVTZU with a scale: immh:immb = 2 * size - fbits. immh tells the size: 1xxx, 01xx, 001x (0001 is
 * reserved, 0000 is the modified immediate group).
 */
function fixedPoint(): Insn[] {
  const sizes = [
    [64, '1 imm:6', ''],
    [32, '01 imm:5', ''],
    [16, '001 imm:4', '_h'],
  ] as const;
  const ops = [
    ['CVTF', '11100', (b: Builder, size: Size, n: Int, fbits: I32, u: number) => FixedToFP(b, size, n, fbits, size, u)],
    ['FCVTZ', '11111', (b: Builder, size: Size, n: Int, fbits: I32, u: number) => FPToFixed(b, size, n, fbits, size, u, ZERO)],
  ] as const;
  return sizes.flatMap(([size, imm, suffix]) =>
    ops.flatMap(([name, opcode, op]) => {
      const options = size === 16 ? FP16 : FP;
      const lanesOp = (b: Builder, { u }: { u: number }): LaneOp1 => {
        const fbits = b.imm32((f) => size - f.imm);
        return (bb, sz, n) => op(bb, sz, n, fbits, u);
      };
      type F = V2 & { u: number };
      return [
        sized(
          `${name}_v_fix${size}${suffix}`,
          `0 q! u! 011110 ${imm} ${opcode} 1 rn:5 rd:5`,
          (b, f: F) => perLane1(lanesOp(b, f))(b, f, size),
          () => size,
          { ...options, when: (f) => size !== 64 || f.q === 1 },
        ),
        sized(
          `${name}_s_fix${size}${suffix}`,
          `01 u! 111110 ${imm} ${opcode} 1 rn:5 rd:5`,
          (b, f: F) => onScalar1(lanesOp(b, f))(b, f, size),
          () => size,
          options,
        ),
      ];
    }),
  );
}

const NARROWING: readonly Insn[] = [
  insn(
    'FCVTN',
    '0 q! 0 01110 0 sz! 10000 10110 10 rn:5 rd:5',
    (b, { q, sz, rn, rd }) => {
      const [from, to]: [Size, Size] = sz ? [64, 32] : [32, 16];
      const n = b.v(rn);
      setHalf(b, rd, q, to, (i) => FPConvert(b, from, to, lane(b, n, from, i), RMODE));
    },
    FP,
  ),
  insn(
    'FCVTL',
    '0 q! 0 01110 0 sz! 10000 10111 10 rn:5 rd:5',
    (b, { q, sz, rn, rd }) => {
      const [from, to]: [Size, Size] = sz ? [32, 64] : [16, 32];
      const n = b.v(rn);
      const count = 128 / to;
      b.setV(
        rd,
        vector(b, to, count, (i) => FPConvert(b, from, to, lane(b, n, from, i + q * count), RMODE)),
      );
    },
    FP,
  ),
  insn(
    'FCVTXN',
    '0 q! 1 01110 0 1 10000 10110 10 rn:5 rd:5',
    (b, { q, rn, rd }) => {
      const n = b.v(rn);
      setHalf(b, rd, q, 32, (i) => FPConvert(b, 64, 32, lane(b, n, 64, i), ODD));
    },
    FP,
  ),
  insn(
    'FCVTXN_s',
    '01 1 11110 0 1 10000 10110 10 rn:5 rd:5',
    (b, { rn, rd }) => setScalar(b, rd, 32, FPConvert(b, 64, 32, scalar(b, rn, 64), ODD)),
    FP,
  ),
  insn(
    'BFCVTN',
    '0 q! 0 01110 10 10000 10110 10 rn:5 rd:5',
    (b, { q, rn, rd }) => {
      const n = b.v(rn);
      setHalf(b, rd, q, 16, (i) => b.call('i32', 'FPConvertBF', [lane(b, n, 32, i)]) as Int);
    },
    BF16,
  ),
  insn('URECPE', '0 q! 0 01110 10 10000 11100 10 rn:5 rd:5', (b, f) => perLane1(words('UnsignedRecipEstimate'))(b, f, 32), FP),
  insn('URSQRTE', '0 q! 1 01110 10 10000 11100 10 rn:5 rd:5', (b, f) => perLane1(words('UnsignedRSqrtEstimate'))(b, f, 32), FP),
];

const roundToSize = (): Insn[] =>
  ROUND_TO_SIZE.map(([name, u, opcode, op]) =>
    sized(`${name}_v`, `0 q! ${u} 01110 0 sz! 10000 ${opcode} 10 rn:5 rd:5`, perLane1(op), bySz, {
      ...FP,
      feat: 'FRINTTS',
      when: notOneDouble,
    }),
  );

export const rows: readonly Insn[] = [
  ...threeSame(),
  ...twoMisc(),
  ...roundToSize(),
  ...byElement(),
  ...reductions(),
  ...complex(),
  ...WIDENING,
  ...fixedPoint(),
  ...NARROWING,
];
