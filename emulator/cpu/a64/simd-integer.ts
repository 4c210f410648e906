/**
 * Advanced SIMD integer arithmetic, vector and scalar forms: three same, three same extra, three different, by element,
 * two-register miscellaneous, across lanes, pairwise (Arm ARM C4.1.96). Floating point is in fp-*.ts, shifts by immediate
 * in simd-shift.ts, moves of whole lanes in simd-permute.ts.
 */
import type { Builder, V128 } from '../builder.ts';
import type { Feature } from '../features.ts';
import { type Insn, insn, type Operand, type Raw } from '../insn.ts';
import {
  addPairsLong,
  addSat,
  bitselect,
  broadcast,
  compare,
  dot,
  doubleHigh,
  doubleHighAccumulate,
  doubleLong,
  esize,
  fixed,
  type Lanes,
  lane,
  limitS,
  minS,
  multiply,
  multiplyLong,
  type Narrowing,
  narrow,
  notMin,
  permute,
  pickLanes,
  readV,
  saturatedIf,
  shift,
  shuffle,
  splat,
  unzip,
  vand,
  vandnot,
  vnot,
  vor,
  vxor,
  widen,
  writePart,
  writeV,
  zero,
} from './simd.ts';

const COLD = { fp: true, cold: true } as const;
const widthOf = (q: number): number => (q ? 128 : 64);
/** 64-bit lanes need the whole register. */
const full = (f: Raw): boolean => f.size < 3 || f.q === 1;

// --- three same --------------------------------------------------------------------------------------------------

/** Result of lanes x (Vn), y (Vm) and, where read, d (Vd). */
type Op3 = (b: Builder, l: Lanes, x: V128, y: V128, d: V128) => V128;
type Bit = '0' | '1';

interface ThreeSame {
  readonly name: string;
  readonly u: Bit;
  readonly opcode: string;
  readonly op: Op3;
  /** Sizes of lanes of the vector form and of the scalar form. */
  readonly vector: string;
  readonly scalar?: string;
}

/** (x + y) / 2 without overflow: what both have, and half of what one has; rounding down, or up. */
const halvingAdd =
  (round: boolean, signed: boolean): Op3 =>
  (b, { size }, x, y) => {
    const half = shift(b, size, signed ? 'shr_s' : 'shr_u', vxor(b, x, y), 1);
    return round ? lane(b, size, 'sub', vor(b, x, y), half) : lane(b, size, 'add', vand(b, x, y), half);
  };
/** (x - y) / 2: half of where they differ, less what y has and x has not. */
const halvingSub =
  (signed: boolean): Op3 =>
  (b, { size }, x, y) =>
    lane(b, size, 'sub', shift(b, size, signed ? 'shr_s' : 'shr_u', vxor(b, x, y), 1), vandnot(b, y, x));

const plain =
  (name: string): Op3 =>
  (b, { size }, x, y) =>
    lane(b, size, name, x, y);
const comparing =
  (name: string): Op3 =>
  (b, { size }, x, y) =>
    compare(b, size, name, x, y);
const saturating =
  (signed: boolean, subtract: boolean): Op3 =>
  (b, { size }, x, y) =>
    addSat(b, size, x, y, signed, subtract);
const accumulating =
  (subtract: boolean): Op3 =>
  (b, { size }, x, y, d) =>
    lane(b, size, subtract ? 'sub' : 'add', d, multiply(b, size, x, y));
const distance = (b: Builder, size: number, x: V128, y: V128, signed: boolean): V128 => {
  const s = signed ? 's' : 'u';
  return lane(b, size, 'sub', lane(b, size, `max_${s}`, x, y), lane(b, size, `min_${s}`, x, y));
};
const absoluteDifference =
  (signed: boolean, accumulate: boolean): Op3 =>
  (b, { size }, x, y, d) => {
    const r = distance(b, size, x, y, signed);
    return accumulate ? lane(b, size, 'add', d, r) : r;
  };
const product: Op3 = (b, { size }, x, y) => multiply(b, size, x, y);
const doublingHigh =
  (round: boolean): Op3 =>
  (b, { size }, x, y) =>
    doubleHigh(b, size, x, y, round);
const doublingHighAccumulate =
  (subtract: boolean): Op3 =>
  (b, { size }, x, y, d) =>
    doubleHighAccumulate(b, size, d, x, y, subtract);
const testBits: Op3 = (b, { size }, x, y) => lane(b, size, 'ne', vand(b, x, y), zero(b));
/** Adjacent pairs of y:x. */
const pairwise =
  (name: string): Op3 =>
  (b, l, x, y) =>
    lane(b, l.size, name, unzip(b, l, x, y, 0), unzip(b, l, x, y, 1));

/** Carry-less product of lanes, modulo 2^esize, of multipliers of 8 bits. */
function polynomial(b: Builder, size: number, x: V128, y: V128): V128 {
  let sum = zero(b);
  for (let i = 0; i < 8; i++) {
    const bit = shift(b, size, 'shr_s', shift(b, size, 'shl', y, esize(size) - 1 - i), esize(size) - 1);
    sum = vxor(b, sum, shift(b, size, 'shl', vand(b, x, bit), i));
  }
  return sum;
}

/** Shifts each lane by its own amount modulo esize, by powers of two: wasm shifts all lanes alike. */
function barrel(b: Builder, size: number, name: 'shl' | 'shr_s' | 'shr_u', v: V128, amount: V128): V128 {
  const bits = esize(size);
  for (let step = bits / 2; step >= 1; step /= 2) {
    const on = shift(b, size, 'shr_s', shift(b, size, 'shl', amount, bits - 1 - Math.log2(step)), bits - 1);
    v = bitselect(b, on, shift(b, size, name, v, step), v);
  }
  return v;
}

/** SSHL and its kind: by the signed low byte of each lane of `y`, left when positive. */
const shiftBySigned =
  (signed: boolean, round: boolean, saturate: boolean): Op3 =>
  (b, { size }, x, y) => {
    const bits = esize(size);
    const right = signed ? 'shr_s' : 'shr_u';
    const amount = size === 0 ? y : shift(b, size, 'shr_s', shift(b, size, 'shl', y, bits - 8), bits - 8);
    const isRight = lane(b, size, 'lt_s', amount, zero(b));
    // Right: all but one bit, then the last with rounding. Amounts above esize act like esize for signed lanes, give 0 for unsigned ones.
    const tooFar = lane(b, size, 'lt_s', amount, splat(b, size, BigInt(-bits)));
    const lessOne = vnot(b, bitselect(b, tooFar, splat(b, size, BigInt(-bits)), amount)); // -amount - 1
    const most = barrel(b, size, right, x, lessOne);
    let down = shift(b, size, right, most, 1);
    if (round) down = lane(b, size, 'add', down, vand(b, most, splat(b, size, 1n)));
    if (!signed) down = vandnot(b, down, tooFar);
    const fits = lane(b, size, 'lt_s', amount, splat(b, size, BigInt(bits)));
    let up = vand(b, barrel(b, size, 'shl', x, amount), fits);
    if (saturate) {
      const over = vandnot(b, lane(b, size, 'ne', barrel(b, size, right, up, amount), x), isRight);
      saturatedIf(b, over);
      up = signed ? bitselect(b, over, limitS(b, size, x), up) : vor(b, up, over);
    }
    return bitselect(b, isRight, down, up);
  };

const THREE_SAME: readonly ThreeSame[] = [
  { name: 'SHADD', u: '0', opcode: '00000', op: halvingAdd(false, true), vector: '012' },
  { name: 'UHADD', u: '1', opcode: '00000', op: halvingAdd(false, false), vector: '012' },
  { name: 'SQADD', u: '0', opcode: '00001', op: saturating(true, false), vector: '0123', scalar: '0123' },
  { name: 'UQADD', u: '1', opcode: '00001', op: saturating(false, false), vector: '0123', scalar: '0123' },
  { name: 'SRHADD', u: '0', opcode: '00010', op: halvingAdd(true, true), vector: '012' },
  { name: 'URHADD', u: '1', opcode: '00010', op: halvingAdd(true, false), vector: '012' },
  { name: 'SHSUB', u: '0', opcode: '00100', op: halvingSub(true), vector: '012' },
  { name: 'UHSUB', u: '1', opcode: '00100', op: halvingSub(false), vector: '012' },
  { name: 'SQSUB', u: '0', opcode: '00101', op: saturating(true, true), vector: '0123', scalar: '0123' },
  { name: 'UQSUB', u: '1', opcode: '00101', op: saturating(false, true), vector: '0123', scalar: '0123' },
  { name: 'CMGT', u: '0', opcode: '00110', op: comparing('gt_s'), vector: '0123', scalar: '3' },
  { name: 'CMHI', u: '1', opcode: '00110', op: comparing('gt_u'), vector: '0123', scalar: '3' },
  { name: 'CMGE', u: '0', opcode: '00111', op: comparing('ge_s'), vector: '0123', scalar: '3' },
  { name: 'CMHS', u: '1', opcode: '00111', op: comparing('ge_u'), vector: '0123', scalar: '3' },
  { name: 'SSHL', u: '0', opcode: '01000', op: shiftBySigned(true, false, false), vector: '0123', scalar: '3' },
  { name: 'USHL', u: '1', opcode: '01000', op: shiftBySigned(false, false, false), vector: '0123', scalar: '3' },
  { name: 'SQSHL', u: '0', opcode: '01001', op: shiftBySigned(true, false, true), vector: '0123', scalar: '0123' },
  { name: 'UQSHL', u: '1', opcode: '01001', op: shiftBySigned(false, false, true), vector: '0123', scalar: '0123' },
  { name: 'SRSHL', u: '0', opcode: '01010', op: shiftBySigned(true, true, false), vector: '0123', scalar: '3' },
  { name: 'URSHL', u: '1', opcode: '01010', op: shiftBySigned(false, true, false), vector: '0123', scalar: '3' },
  { name: 'SQRSHL', u: '0', opcode: '01011', op: shiftBySigned(true, true, true), vector: '0123', scalar: '0123' },
  { name: 'UQRSHL', u: '1', opcode: '01011', op: shiftBySigned(false, true, true), vector: '0123', scalar: '0123' },
  { name: 'SMAX', u: '0', opcode: '01100', op: plain('max_s'), vector: '012' },
  { name: 'UMAX', u: '1', opcode: '01100', op: plain('max_u'), vector: '012' },
  { name: 'SMIN', u: '0', opcode: '01101', op: plain('min_s'), vector: '012' },
  { name: 'UMIN', u: '1', opcode: '01101', op: plain('min_u'), vector: '012' },
  { name: 'SABD', u: '0', opcode: '01110', op: absoluteDifference(true, false), vector: '012' },
  { name: 'UABD', u: '1', opcode: '01110', op: absoluteDifference(false, false), vector: '012' },
  { name: 'SABA', u: '0', opcode: '01111', op: absoluteDifference(true, true), vector: '012' },
  { name: 'UABA', u: '1', opcode: '01111', op: absoluteDifference(false, true), vector: '012' },
  { name: 'ADD', u: '0', opcode: '10000', op: plain('add'), vector: '0123', scalar: '3' },
  { name: 'SUB', u: '1', opcode: '10000', op: plain('sub'), vector: '0123', scalar: '3' },
  { name: 'CMTST', u: '0', opcode: '10001', op: testBits, vector: '0123', scalar: '3' },
  { name: 'CMEQ', u: '1', opcode: '10001', op: plain('eq'), vector: '0123', scalar: '3' },
  { name: 'MLA', u: '0', opcode: '10010', op: accumulating(false), vector: '012' },
  { name: 'MLS', u: '1', opcode: '10010', op: accumulating(true), vector: '012' },
  { name: 'MUL', u: '0', opcode: '10011', op: product, vector: '012' },
  { name: 'PMUL', u: '1', opcode: '10011', op: (b, { size }, x, y) => polynomial(b, size, x, y), vector: '0' },
  { name: 'SMAXP', u: '0', opcode: '10100', op: pairwise('max_s'), vector: '012' },
  { name: 'UMAXP', u: '1', opcode: '10100', op: pairwise('max_u'), vector: '012' },
  { name: 'SMINP', u: '0', opcode: '10101', op: pairwise('min_s'), vector: '012' },
  { name: 'UMINP', u: '1', opcode: '10101', op: pairwise('min_u'), vector: '012' },
  { name: 'SQDMULH', u: '0', opcode: '10110', op: doublingHigh(false), vector: '12', scalar: '12' },
  { name: 'SQRDMULH', u: '1', opcode: '10110', op: doublingHigh(true), vector: '12', scalar: '12' },
  { name: 'ADDP', u: '0', opcode: '10111', op: pairwise('add'), vector: '0123' },
];

function threeSame(t: ThreeSame): Insn[] {
  const vector = insn(
    `${t.name}_v`,
    fixed('0 q! x 01110 size!:2 1 rm:5 xxxxx 1 rn:5 rd:5', t.u, t.opcode),
    (b, { q, size, rm, rn, rd }) => {
      const width = widthOf(q);
      writeV(b, rd, t.op(b, { size, width }, readV(b, rn, width), readV(b, rm, width), b.v(rd)), width);
    },
    { ...COLD, when: (f) => t.vector.includes(String(f.size)) && full(f) },
  );
  if (!t.scalar) return [vector];
  const scalar = insn(
    `${t.name}_s`,
    fixed('01 x 11110 size!:2 1 rm:5 xxxxx 1 rn:5 rd:5', t.u, t.opcode),
    (b, { size, rm, rn, rd }) => {
      const width = esize(size);
      writeV(b, rd, t.op(b, { size, width }, readV(b, rn, width), readV(b, rm, width), b.v(rd)), width);
    },
    { ...COLD, when: (f) => (t.scalar ?? '').includes(String(f.size)) },
  );
  return [vector, scalar];
}

/** Bitwise operations: the size field selects which. */
const LOGIC: readonly [name: string, u: Bit, size: string, op: (b: Builder, x: V128, y: V128, d: V128) => V128][] = [
  ['AND', '0', '00', vand],
  ['BIC', '0', '01', vandnot],
  ['ORR', '0', '10', vor],
  ['ORN', '0', '11', (b, x, y) => vor(b, x, vnot(b, y))],
  ['EOR', '1', '00', vxor],
  ['BSL', '1', '01', (b, x, y, d) => bitselect(b, d, x, y)],
  ['BIT', '1', '10', (b, x, y, d) => bitselect(b, y, x, d)],
  ['BIF', '1', '11', (b, x, y, d) => bitselect(b, y, d, x)],
];
const logic = LOGIC.map(([name, u, size, op]) =>
  insn(
    `${name}_v`,
    fixed('0 q! x 01110 xx 1 rm:5 00011 1 rn:5 rd:5', u, size),
    (b, { q, rm, rn, rd }) => writeV(b, rd, op(b, b.v(rn), b.v(rm), b.v(rd)), widthOf(q)),
    COLD,
  ),
);

// --- three same extra: RDM, DotProd, I8MM ------------------------------------------------------------------------

const rdm = (['0', '1'] as const).flatMap((subtract) => {
  const name = subtract === '1' ? 'SQRDMLSH' : 'SQRDMLAH';
  const row = (b: Builder, size: number, width: number, rm: Operand, rn: Operand, rd: Operand) => {
    const r = doubleHighAccumulate(b, size, readV(b, rd, width), readV(b, rn, width), readV(b, rm, width), subtract === '1');
    writeV(b, rd, r, width);
  };
  const options = { ...COLD, feat: 'RDM' as Feature, when: (f: Raw) => f.size === 1 || f.size === 2 };
  return [
    insn(
      `${name}_v`,
      fixed('0 q! 101110 size!:2 0 rm:5 1000 x 1 rn:5 rd:5', subtract),
      (b, { q, size, rm, rn, rd }) => row(b, size, widthOf(q), rm, rn, rd),
      options,
    ),
    insn(
      `${name}_s`,
      fixed('01 111110 size!:2 0 rm:5 1000 x 1 rn:5 rd:5', subtract),
      (b, { size, rm, rn, rd }) => row(b, size, esize(size), rm, rn, rd),
      options,
    ),
  ];
});

/** [name, U, opcode, by element: [U, size, opcode], feature, is Vn signed, is Vm signed] */
type Dot = readonly [
  name: string,
  vector: readonly [Bit, string] | undefined,
  element: readonly [Bit, string, string],
  Feature,
  boolean,
  boolean,
];
const DOTS: readonly Dot[] = [
  ['SDOT', ['0', '0010'], ['0', '10', '1110'], 'DotProd', true, true],
  ['UDOT', ['1', '0010'], ['1', '10', '1110'], 'DotProd', false, false],
  ['USDOT', ['0', '0011'], ['0', '10', '1111'], 'I8MM', false, true],
  ['SUDOT', undefined, ['0', '00', '1111'], 'I8MM', true, false],
];
const dots = DOTS.flatMap(([name, vector, element, feat, signedX, signedY]) => {
  const rows = [
    insn(
      `${name}_elem`,
      fixed('0 q! x 01111 xx l rm:5 xxxx h 0 rn:5 rd:5', ...element),
      (b, { q, rm, rn, rd }) => {
        const y = broadcast(b, 2, b.v(rm), (f) => (f.h << 1) | f.l);
        writeV(b, rd, lane(b, 2, 'add', b.v(rd), dot(b, b.v(rn), y, signedX, signedY)), widthOf(q));
      },
      { ...COLD, feat },
    ),
  ];
  if (vector) {
    rows.push(
      insn(
        `${name}_v`,
        fixed('0 q! x 01110 10 0 rm:5 1 xxxx 1 rn:5 rd:5', ...vector),
        (b, { q, rm, rn, rd }) =>
          writeV(b, rd, lane(b, 2, 'add', b.v(rd), dot(b, b.v(rn), b.v(rm), signedX, signedY)), widthOf(q)),
        { ...COLD, feat },
      ),
    );
  }
  return rows;
});

const MATRIX: readonly [name: string, u: Bit, opcode: string, boolean, boolean][] = [
  ['SMMLA', '0', '0100', true, true],
  ['UMMLA', '1', '0100', false, false],
  ['USMMLA', '0', '0101', false, true],
];
/** 2x8 times 8x2 bytes: 32-bit lane 2i + j gets row i of Vn times row j of Vm; a row is two lanes of four bytes. */
const matrices = MATRIX.map(([name, u, opcode, signedX, signedY]) =>
  insn(
    name,
    fixed('0 1 x 01110 10 0 rm:5 1 xxxx 1 rn:5 rd:5', u, opcode),
    (b, { rm, rn, rd }) => {
      const part = (k: number) => {
        const x = pickLanes(b, 2, b.v(rn), b.v(rn), [k, k, 2 + k, 2 + k]);
        const y = pickLanes(b, 2, b.v(rm), b.v(rm), [k, 2 + k, k, 2 + k]);
        return dot(b, x, y, signedX, signedY);
      };
      b.setV(rd, lane(b, 2, 'add', b.v(rd), lane(b, 2, 'add', part(0), part(1))));
    },
    { ...COLD, feat: 'I8MM' },
  ),
);

// --- three different ---------------------------------------------------------------------------------------------

/** Result (lanes of size + 1) of the low (`part` 0) or high halves of x and y; `d` is all of Vd. */
type Long = (b: Builder, size: number, part: number, x: V128, y: V128, d: V128) => V128;
const addLong =
  (name: 'add' | 'sub', signed: boolean): Long =>
  (b, size, part, x, y) =>
    lane(b, size + 1, name, widen(b, size, x, signed, part), widen(b, size, y, signed, part));
const addWide =
  (name: 'add' | 'sub', signed: boolean): Long =>
  (b, size, part, x, y) =>
    lane(b, size + 1, name, x, widen(b, size, y, signed, part));
const distanceLong =
  (accumulate: boolean, signed: boolean): Long =>
  (b, size, part, x, y, d) => {
    const r = widen(b, size, distance(b, size, x, y, signed), false, part);
    return accumulate ? lane(b, size + 1, 'add', d, r) : r;
  };
const productLong =
  (accumulate: '' | 'add' | 'sub', signed: boolean): Long =>
  (b, size, part, x, y, d) => {
    const r = multiplyLong(b, size, x, y, signed, part);
    return accumulate ? lane(b, size + 1, accumulate, d, r) : r;
  };
const doubling =
  (accumulate: '' | 'add' | 'sub'): Long =>
  (b, size, part, x, y, d) => {
    const r = doubleLong(b, size, x, y, part);
    return accumulate ? addSat(b, size + 1, d, r, true, accumulate === 'sub') : r;
  };

const LONG: readonly [name: string, u: Bit, opcode: string, op: Long, sizes: string][] = [
  ['SADDL', '0', '0000', addLong('add', true), '012'],
  ['UADDL', '1', '0000', addLong('add', false), '012'],
  ['SADDW', '0', '0001', addWide('add', true), '012'],
  ['UADDW', '1', '0001', addWide('add', false), '012'],
  ['SSUBL', '0', '0010', addLong('sub', true), '012'],
  ['USUBL', '1', '0010', addLong('sub', false), '012'],
  ['SSUBW', '0', '0011', addWide('sub', true), '012'],
  ['USUBW', '1', '0011', addWide('sub', false), '012'],
  ['SABAL', '0', '0101', distanceLong(true, true), '012'],
  ['UABAL', '1', '0101', distanceLong(true, false), '012'],
  ['SABDL', '0', '0111', distanceLong(false, true), '012'],
  ['UABDL', '1', '0111', distanceLong(false, false), '012'],
  ['SMLAL', '0', '1000', productLong('add', true), '012'],
  ['UMLAL', '1', '1000', productLong('add', false), '012'],
  ['SQDMLAL', '0', '1001', doubling('add'), '12'],
  ['SMLSL', '0', '1010', productLong('sub', true), '012'],
  ['UMLSL', '1', '1010', productLong('sub', false), '012'],
  ['SQDMLSL', '0', '1011', doubling('sub'), '12'],
  ['SMULL', '0', '1100', productLong('', true), '012'],
  ['UMULL', '1', '1100', productLong('', false), '012'],
  ['SQDMULL', '0', '1101', doubling(''), '12'],
];
const threeDifferent = LONG.map(([name, u, opcode, op, sizes]) =>
  insn(
    `${name}_v`,
    fixed('0 q! x 01110 size!:2 1 rm:5 xxxx 00 rn:5 rd:5', u, opcode),
    (b, { q, size, rm, rn, rd }) => b.setV(rd, op(b, size, q, b.v(rn), b.v(rm), b.v(rd))),
    { ...COLD, when: (f) => sizes.includes(String(f.size)) },
  ),
);
/** PMULL of bytes; the 64-bit form, which needs FEAT_PMULL, is with the cryptography. */
const pmull = insn(
  'PMULL_8',
  '0 q! 001110 00 1 rm:5 1110 00 rn:5 rd:5',
  (b, { q, rm, rn, rd }) => b.setV(rd, polynomial(b, 1, widen(b, 0, b.v(rn), false, q), widen(b, 0, b.v(rm), false, q))),
  COLD,
);

const HIGH_NARROW: readonly [name: string, u: Bit, opcode: string, op: 'add' | 'sub'][] = [
  ['ADDHN', '0', '0100', 'add'],
  ['RADDHN', '1', '0100', 'add'],
  ['SUBHN', '0', '0110', 'sub'],
  ['RSUBHN', '1', '0110', 'sub'],
];
const highNarrow = HIGH_NARROW.map(([name, u, opcode, op]) =>
  insn(
    `${name}_v`,
    fixed('0 q! x 01110 size!:2 1 rm:5 xxxx 00 rn:5 rd:5', u, opcode),
    (b, { q, size, rm, rn, rd }) => {
      let r = lane(b, size + 1, op, b.v(rn), b.v(rm));
      if (u === '1') r = lane(b, size + 1, 'add', r, splat(b, size + 1, 1n << BigInt(esize(size) - 1)));
      writePart(b, rd, narrow(b, size + 1, shift(b, size + 1, 'shr_u', r, esize(size)), 'wrap'), q);
    },
    { ...COLD, when: (f) => f.size < 3 },
  ),
);

const scalarDoubling = LONG.filter(([name]) => name.startsWith('SQD')).map(([name, , opcode, op]) =>
  insn(
    `${name}_s`,
    fixed('01 011110 size!:2 1 rm:5 xxxx 00 rn:5 rd:5', opcode),
    (b, { size, rm, rn, rd }) => {
      const [width, wide] = [esize(size), esize(size + 1)];
      writeV(b, rd, op(b, size, 0, readV(b, rn, width), readV(b, rm, width), readV(b, rd, wide)), wide);
    },
    { ...COLD, when: (f) => f.size === 1 || f.size === 2 },
  ),
);

// --- by element --------------------------------------------------------------------------------------------------

/**
 * Halfword elements come from V0..V15 (index H:L:M), words from all registers (index H:L). Rows of both sizes: `make` gets
 * the end of the pattern and how to read the element's register.
 */
function byElement(make: (size: 1 | 2, tail: string, element: (b: Builder, rm: Operand) => V128) => Insn[]): Insn[] {
  return [
    ...make(1, '01 l m rm:4', (b, rm) => broadcast(b, 1, b.v(rm), (f) => (f.h << 2) | (f.l << 1) | f.m)),
    ...make(2, '10 l rm:5', (b, rm) => broadcast(b, 2, b.v(rm), (f) => (f.h << 1) | f.l)),
  ];
}
/** Both shapes of the operand fields, as one type: `m` is read through `f` only. */
const elementPattern = (text: string, ...bits: string[]): '0 q! l rm:5 h 0 rn:5 rd:5' =>
  fixed(text, ...bits) as '0 q! l rm:5 h 0 rn:5 rd:5';

const SAME_ELEMENT: readonly [name: string, u: Bit, opcode: string, op: Op3, scalar: boolean, feat?: Feature][] = [
  ['MLA', '1', '0000', accumulating(false), false],
  ['MLS', '1', '0100', accumulating(true), false],
  ['MUL', '0', '1000', product, false],
  ['SQDMULH', '0', '1100', doublingHigh(false), true],
  ['SQRDMULH', '0', '1101', doublingHigh(true), true],
  ['SQRDMLAH', '1', '1101', doublingHighAccumulate(false), true, 'RDM'],
  ['SQRDMLSH', '1', '1111', doublingHighAccumulate(true), true, 'RDM'],
];
const sameByElement = SAME_ELEMENT.flatMap(([name, u, opcode, op, scalar, feat]) =>
  byElement((size, tail, element) => {
    const suffix = size === 1 ? 'h' : 's';
    const rows = [
      insn(
        `${name}_elem_${suffix}`,
        elementPattern(`0 q! x 01111 ${tail} xxxx h 0 rn:5 rd:5`, u, opcode),
        (b, { q, rm, rn, rd }) => {
          const width = widthOf(q);
          writeV(b, rd, op(b, { size, width }, readV(b, rn, width), element(b, rm), readV(b, rd, width)), width);
        },
        { ...COLD, feat },
      ),
    ];
    if (scalar) {
      rows.push(
        insn(
          `${name}_elem_s${suffix}`,
          elementPattern(`01 x 11111 ${tail} xxxx h 0 rn:5 rd:5`, u, opcode),
          (b, { rm, rn, rd }) => {
            const width = esize(size);
            writeV(b, rd, op(b, { size, width }, readV(b, rn, width), element(b, rm), readV(b, rd, width)), width);
          },
          { ...COLD, feat },
        ),
      );
    }
    return rows;
  }),
);

const LONG_ELEMENT: readonly [name: string, u: Bit, opcode: string, op: Long][] = [
  ['SMLAL', '0', '0010', productLong('add', true)],
  ['UMLAL', '1', '0010', productLong('add', false)],
  ['SMLSL', '0', '0110', productLong('sub', true)],
  ['UMLSL', '1', '0110', productLong('sub', false)],
  ['SMULL', '0', '1010', productLong('', true)],
  ['UMULL', '1', '1010', productLong('', false)],
  ['SQDMLAL', '0', '0011', doubling('add')],
  ['SQDMLSL', '0', '0111', doubling('sub')],
  ['SQDMULL', '0', '1011', doubling('')],
];
const longByElement = LONG_ELEMENT.flatMap(([name, u, opcode, op]) =>
  byElement((size, tail, element) => {
    const suffix = size === 1 ? 'h' : 's';
    const rows = [
      insn(
        `${name}_elem_${suffix}`,
        elementPattern(`0 q! x 01111 ${tail} xxxx h 0 rn:5 rd:5`, u, opcode),
        (b, { q, rm, rn, rd }) => b.setV(rd, op(b, size, q, b.v(rn), element(b, rm), b.v(rd))),
        COLD,
      ),
    ];
    if (name.startsWith('SQD')) {
      rows.push(
        insn(
          `${name}_elem_s${suffix}`,
          elementPattern(`01 x 11111 ${tail} xxxx h 0 rn:5 rd:5`, u, opcode),
          (b, { rm, rn, rd }) => {
            const wide = esize(size + 1);
            writeV(b, rd, op(b, size, 0, readV(b, rn, esize(size)), element(b, rm), readV(b, rd, wide)), wide);
          },
          COLD,
        ),
      );
    }
    return rows;
  }),
);

// --- two-register miscellaneous ----------------------------------------------------------------------------------

/** Result of the lanes x (Vn) and, where read, d (Vd), both cut to the width. */
type Op2 = (b: Builder, l: Lanes, x: V128, d: V128) => V128;

/** Lanes of `1 << size` bytes reversed in containers of `1 << container` bytes. */
const reverse =
  (container: number): Op2 =>
  (b, { size }, x) => {
    const flip = (1 << container) - (1 << size);
    return shuffle(
      b,
      x,
      x,
      Array.from({ length: 16 }, (_, i) => i ^ flip),
    );
  };
/** Number of ones in each lane. */
function countOnes(b: Builder, size: number, x: V128): V128 {
  let r = lane(b, 0, 'popcnt', x);
  for (let k = 0; k < size; k++) r = addPairsLong(b, k, r, false);
  return r;
}
/** The highest one and all below become ones: what is left counts the leading zeros. */
function leadingZeros(b: Builder, size: number, x: V128): V128 {
  for (let step = 1; step < esize(size); step *= 2) x = vor(b, x, shift(b, size, 'shr_u', x, step));
  return countOnes(b, size, vnot(b, x));
}
const signs = (b: Builder, size: number, x: V128): V128 => shift(b, size, 'shr_s', x, esize(size) - 1);
/** Reversed bits of a nibble, for the sixteen nibbles. */
const NIBBLES = [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15].reduce(
  (sum, v, i) => sum | (BigInt(v) << BigInt(8 * i)),
  0n,
);
/** Every byte with its bits reversed. */
export function reverseBits(b: Builder, x: V128): V128 {
  const low = lane(b, 0, 'swizzle', b.v128(NIBBLES), vand(b, x, splat(b, 0, 15n)));
  const high = lane(b, 0, 'swizzle', b.v128(NIBBLES), shift(b, 0, 'shr_u', x, 4));
  return vor(b, shift(b, 0, 'shl', low, 4), high);
}
const againstZero =
  (name: string): Op2 =>
  (b, { size }, x) =>
    lane(b, size, name, x, zero(b));
const pairsLong =
  (accumulate: boolean, signed: boolean): Op2 =>
  (b, { size }, x, d) => {
    const r = addPairsLong(b, size, x, signed);
    return accumulate ? lane(b, size + 1, 'add', d, r) : r;
  };
/** Signed d + unsigned x: can only pass the maximum. */
const addUnsignedToSigned: Op2 = (b, { size }, x, d) => {
  const r = lane(b, size, 'add', d, x);
  const over = lane(b, size, 'lt_s', r, d);
  saturatedIf(b, over);
  return bitselect(b, over, splat(b, size, minS(size) - 1n), r);
};
/** Unsigned d + signed x. */
const addSignedToUnsigned: Op2 = (b, { size }, x, d) => {
  const r = lane(b, size, 'add', d, x);
  const negative = signs(b, size, x);
  const over = vandnot(b, compare(b, size, 'lt_u', r, d), negative);
  const under = vand(b, compare(b, size, 'gt_u', r, d), negative);
  saturatedIf(b, vor(b, over, under));
  return vandnot(b, vor(b, r, over), under);
};

interface TwoMisc {
  readonly name: string;
  readonly u: Bit;
  readonly opcode: string;
  readonly op: Op2;
  readonly vector: string;
  readonly scalar?: string;
}
const TWO_MISC: readonly TwoMisc[] = [
  { name: 'REV64', u: '0', opcode: '00000', op: reverse(3), vector: '012' },
  { name: 'REV32', u: '1', opcode: '00000', op: reverse(2), vector: '01' },
  { name: 'REV16', u: '0', opcode: '00001', op: reverse(1), vector: '0' },
  { name: 'SADDLP', u: '0', opcode: '00010', op: pairsLong(false, true), vector: '012' },
  { name: 'UADDLP', u: '1', opcode: '00010', op: pairsLong(false, false), vector: '012' },
  { name: 'SUQADD', u: '0', opcode: '00011', op: addUnsignedToSigned, vector: '0123', scalar: '0123' },
  { name: 'USQADD', u: '1', opcode: '00011', op: addSignedToUnsigned, vector: '0123', scalar: '0123' },
  {
    name: 'CLS',
    u: '0',
    opcode: '00100',
    vector: '012',
    op: (b, { size }, x) => lane(b, size, 'sub', leadingZeros(b, size, vxor(b, x, signs(b, size, x))), splat(b, size, 1n)),
  },
  { name: 'CLZ', u: '1', opcode: '00100', op: (b, { size }, x) => leadingZeros(b, size, x), vector: '012' },
  { name: 'CNT', u: '0', opcode: '00101', op: (b, _, x) => countOnes(b, 0, x), vector: '0' },
  { name: 'SADALP', u: '0', opcode: '00110', op: pairsLong(true, true), vector: '012' },
  { name: 'UADALP', u: '1', opcode: '00110', op: pairsLong(true, false), vector: '012' },
  {
    name: 'SQABS',
    u: '0',
    opcode: '00111',
    op: (b, { size }, x) => notMin(b, size, lane(b, size, 'abs', x)),
    vector: '0123',
    scalar: '0123',
  },
  {
    name: 'SQNEG',
    u: '1',
    opcode: '00111',
    op: (b, { size }, x) => notMin(b, size, lane(b, size, 'neg', x)),
    vector: '0123',
    scalar: '0123',
  },
  { name: 'CMGT_zero', u: '0', opcode: '01000', op: againstZero('gt_s'), vector: '0123', scalar: '3' },
  { name: 'CMGE_zero', u: '1', opcode: '01000', op: againstZero('ge_s'), vector: '0123', scalar: '3' },
  { name: 'CMEQ_zero', u: '0', opcode: '01001', op: againstZero('eq'), vector: '0123', scalar: '3' },
  { name: 'CMLE_zero', u: '1', opcode: '01001', op: againstZero('le_s'), vector: '0123', scalar: '3' },
  { name: 'CMLT_zero', u: '0', opcode: '01010', op: againstZero('lt_s'), vector: '0123', scalar: '3' },
  { name: 'ABS', u: '0', opcode: '01011', op: (b, { size }, x) => lane(b, size, 'abs', x), vector: '0123', scalar: '3' },
  { name: 'NEG', u: '1', opcode: '01011', op: (b, { size }, x) => lane(b, size, 'neg', x), vector: '0123', scalar: '3' },
];

function twoMisc(t: TwoMisc): Insn[] {
  const vector = insn(
    `${t.name}_v`,
    fixed('0 q! x 01110 size!:2 10000 xxxxx 10 rn:5 rd:5', t.u, t.opcode),
    (b, { q, size, rn, rd }) => {
      const width = widthOf(q);
      writeV(b, rd, t.op(b, { size, width }, readV(b, rn, width), readV(b, rd, width)), width);
    },
    { ...COLD, when: (f) => t.vector.includes(String(f.size)) && full(f) },
  );
  if (!t.scalar) return [vector];
  const scalar = insn(
    `${t.name}_s`,
    fixed('01 x 11110 size!:2 10000 xxxxx 10 rn:5 rd:5', t.u, t.opcode),
    (b, { size, rn, rd }) => {
      const width = esize(size);
      writeV(b, rd, t.op(b, { size, width }, readV(b, rn, width), readV(b, rd, width)), width);
    },
    { ...COLD, when: (f) => (t.scalar ?? '').includes(String(f.size)) },
  );
  return [vector, scalar];
}

const bytewise = [
  insn(
    'NOT_v',
    '0 q! 101110 00 10000 00101 10 rn:5 rd:5',
    (b, { q, rn, rd }) => writeV(b, rd, vnot(b, b.v(rn)), widthOf(q)),
    COLD,
  ),
  insn(
    'RBIT_v',
    '0 q! 101110 01 10000 00101 10 rn:5 rd:5',
    (b, { q, rn, rd }) => writeV(b, rd, reverseBits(b, b.v(rn)), widthOf(q)),
    COLD,
  ),
];

const NARROWING: readonly [name: string, u: Bit, opcode: string, how: Narrowing][] = [
  ['XTN', '0', '10010', 'wrap'],
  ['SQXTUN', '1', '10010', 'signed to unsigned'],
  ['SQXTN', '0', '10100', 'signed'],
  ['UQXTN', '1', '10100', 'unsigned'],
];
const narrowing = NARROWING.flatMap(([name, u, opcode, how]) => {
  const vector = insn(
    `${name}_v`,
    fixed('0 q! x 01110 size!:2 10000 xxxxx 10 rn:5 rd:5', u, opcode),
    (b, { q, size, rn, rd }) => writePart(b, rd, narrow(b, size + 1, b.v(rn), how), q),
    { ...COLD, when: (f) => f.size < 3 },
  );
  if (how === 'wrap') return [vector];
  const scalar = insn(
    `${name}_s`,
    fixed('01 x 11110 size!:2 10000 xxxxx 10 rn:5 rd:5', u, opcode),
    (b, { size, rn, rd }) => writeV(b, rd, narrow(b, size + 1, readV(b, rn, esize(size + 1)), how), esize(size)),
    { ...COLD, when: (f) => f.size < 3 },
  );
  return [vector, scalar];
});

const shll = insn(
  'SHLL_v',
  '0 q! 101110 size!:2 10000 10011 10 rn:5 rd:5',
  (b, { q, size, rn, rd }) => b.setV(rd, shift(b, size + 1, 'shl', widen(b, size, b.v(rn), false, q), esize(size))),
  { ...COLD, when: (f) => f.size < 3 },
);

// --- across lanes ------------------------------------------------------------------------------------------------

/** Lane 0 of the result: all lanes of `width` bits brought together by `name`. */
function reduce(b: Builder, { size, width }: Lanes, name: string, v: V128): V128 {
  for (let n = width / esize(size) / 2; n >= 1; n /= 2) {
    const upper = permute(
      b,
      { size, width: 128 },
      v,
      v,
      Array.from({ length: n }, (_, i) => n + i),
    );
    v = lane(b, size, name, v, upper);
  }
  return v;
}
const ACROSS: readonly [name: string, u: Bit, opcode: string, op: string][] = [
  ['SMAXV', '0', '01010', 'max_s'],
  ['UMAXV', '1', '01010', 'max_u'],
  ['SMINV', '0', '11010', 'min_s'],
  ['UMINV', '1', '11010', 'min_u'],
  ['ADDV', '0', '11011', 'add'],
];
/** Two lanes would be a pairwise operation: words need the whole register. */
const acrossSizes = (f: Raw): boolean => f.size < 2 || (f.size === 2 && f.q === 1);
const across = [
  ...ACROSS.map(([name, u, opcode, op]) =>
    insn(
      name,
      fixed('0 q! x 01110 size!:2 11000 xxxxx 10 rn:5 rd:5', u, opcode),
      (b, { q, size, rn, rd }) => writeV(b, rd, reduce(b, { size, width: widthOf(q) }, op, b.v(rn)), esize(size)),
      { ...COLD, when: acrossSizes },
    ),
  ),
  ...(['0', '1'] as const).map((u) =>
    insn(
      u === '1' ? 'UADDLV' : 'SADDLV',
      fixed('0 q! x 01110 size!:2 11000 00011 10 rn:5 rd:5', u),
      (b, { q, size, rn, rd }) => {
        const pairs = addPairsLong(b, size, b.v(rn), u === '0');
        writeV(b, rd, reduce(b, { size: size + 1, width: widthOf(q) }, 'add', pairs), esize(size + 1));
      },
      { ...COLD, when: acrossSizes },
    ),
  ),
];

const addpScalar = insn(
  'ADDP_s',
  '01 011110 11 11000 11011 10 rn:5 rd:5',
  (b, { rn, rd }) => writeV(b, rd, reduce(b, { size: 3, width: 128 }, 'add', b.v(rn)), 64),
  COLD,
);

export const rows: Insn[] = [
  ...THREE_SAME.flatMap(threeSame),
  ...logic,
  ...rdm,
  ...dots,
  ...matrices,
  ...threeDifferent,
  pmull,
  ...highNarrow,
  ...scalarDoubling,
  ...sameByElement,
  ...longByElement,
  ...TWO_MISC.flatMap(twoMisc),
  ...bytewise,
  ...narrowing,
  shll,
  ...across,
  addpScalar,
];
