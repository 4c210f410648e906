/**
 * Advanced SIMD shift by immediate, vector and scalar (Arm ARM C4.1.96). immh:immb is a one that marks the lane size,
 * then the shift: `sh` left, `esize - sh` right. Every size has its own row, so that immh = 0000 is left to the modified
 * immediates.
 */
import type { Builder, I32, V128 } from '../builder.ts';
import { type Insn, insn } from '../insn.ts';
import {
  bitselect,
  esize,
  lane,
  limitS,
  type Narrowing,
  narrow,
  readV,
  saturatedIf,
  shift,
  splat,
  vand,
  vandnot,
  vor,
  widen,
  writePart,
  writeV,
  zero,
} from './simd.ts';

const COLD = { fp: true, cold: true } as const;
type Bit = '0' | '1';
/** immh:immb of each size. */
const AMOUNT = ['0001 sh:3', '001 sh:4', '01 sh:5', '1 sh:6'] as const;
const LETTER = ['b', 'h', 's', 'd'] as const;

const vectorPattern = (size: number, u: Bit, opcode: string) =>
  `0 q! ${u} 011110 ${AMOUNT[size]} ${opcode} 1 rn:5 rd:5` as '0 q! 011110 rn:5 rd:5';
const scalarPattern = (size: number, u: Bit, opcode: string) =>
  `01 ${u} 111110 ${AMOUNT[size]} ${opcode} 1 rn:5 rd:5` as '01 111110 rn:5 rd:5';

/** The right shift less one (0 .. esize - 1), which wasm can do in one step; the last bit is shifted apart. */
const rightLessOne = (b: Builder, size: number): I32 => b.imm32((f) => esize(size) - 1 - f.sh);
const left = (b: Builder): I32 => b.imm32((f) => f.sh);

/** Result of the lanes x (Vn) and, where read, d (Vd). */
type Op = (b: Builder, size: number, x: V128, d: V128) => V128;

/** x >> amount of `size`, in lanes of `lanes` (twice as wide when narrowing); `round`: plus the last bit shifted out. */
function right(b: Builder, size: number, x: V128, signed: boolean, round: boolean, lanes = size): V128 {
  const name = signed ? 'shr_s' : 'shr_u';
  const most = shift(b, lanes, name, x, rightLessOne(b, size));
  const all = shift(b, lanes, name, most, 1);
  return round ? lane(b, lanes, 'add', all, vand(b, most, splat(b, lanes, 1n))) : all;
}
const shiftRight =
  (signed: boolean, round: boolean, accumulate: boolean): Op =>
  (b, size, x, d) => {
    const r = right(b, size, x, signed, round);
    return accumulate ? lane(b, size, 'add', d, r) : r;
  };
const ones = (b: Builder, size: number): V128 => splat(b, size, -1n);
/** SRI, SLI: bits of Vd that nothing was shifted into stay. */
const insertRight: Op = (b, size, x, d) =>
  bitselect(b, right(b, size, ones(b, size), false, false), right(b, size, x, false, false), d);
const insertLeft: Op = (b, size, x, d) => {
  const by = left(b);
  return bitselect(b, shift(b, size, 'shl', ones(b, size), by), shift(b, size, 'shl', x, by), d);
};
/** SQSHL, UQSHL: saturated if shifting back does not give x. */
const saturatingLeft =
  (signed: boolean): Op =>
  (b, size, x) => {
    const by = left(b);
    const r = shift(b, size, 'shl', x, by);
    const over = lane(b, size, 'ne', shift(b, size, signed ? 'shr_s' : 'shr_u', r, by), x);
    saturatedIf(b, over);
    return signed ? bitselect(b, over, limitS(b, size, x), r) : vor(b, r, over);
  };
/** SQSHLU: a signed value to the unsigned range. */
const saturatingLeftUnsigned: Op = (b, size, x) => {
  const negative = lane(b, size, 'lt_s', x, zero(b));
  saturatedIf(b, negative);
  return saturatingLeft(false)(b, size, vandnot(b, x, negative), x);
};

const SHIFTS: readonly [name: string, u: Bit, opcode: string, op: Op, scalar: string][] = [
  ['SSHR', '0', '00000', shiftRight(true, false, false), '3'],
  ['USHR', '1', '00000', shiftRight(false, false, false), '3'],
  ['SSRA', '0', '00010', shiftRight(true, false, true), '3'],
  ['USRA', '1', '00010', shiftRight(false, false, true), '3'],
  ['SRSHR', '0', '00100', shiftRight(true, true, false), '3'],
  ['URSHR', '1', '00100', shiftRight(false, true, false), '3'],
  ['SRSRA', '0', '00110', shiftRight(true, true, true), '3'],
  ['URSRA', '1', '00110', shiftRight(false, true, true), '3'],
  ['SRI', '1', '01000', insertRight, '3'],
  ['SHL', '0', '01010', (b, size, x) => shift(b, size, 'shl', x, left(b)), '3'],
  ['SLI', '1', '01010', insertLeft, '3'],
  ['SQSHLU_imm', '1', '01100', saturatingLeftUnsigned, '0123'],
  ['SQSHL_imm', '0', '01110', saturatingLeft(true), '0123'],
  ['UQSHL_imm', '1', '01110', saturatingLeft(false), '0123'],
];
const sameWidth = SHIFTS.flatMap(([name, u, opcode, op, scalar]) =>
  [0, 1, 2, 3].flatMap((size) => {
    const rows = [
      insn(
        `${name}_v${LETTER[size]}`,
        vectorPattern(size, u, opcode),
        (b, { q, rn, rd }) => {
          const width = q ? 128 : 64;
          writeV(b, rd, op(b, size, readV(b, rn, width), b.v(rd)), width);
        },
        // 64-bit lanes need the whole register.
        { ...COLD, when: (f) => size < 3 || f.q === 1 },
      ),
    ];
    if (scalar.includes(String(size))) {
      rows.push(
        insn(
          `${name}_${LETTER[size]}`,
          scalarPattern(size, u, opcode),
          (b, { rn, rd }) => writeV(b, rd, op(b, size, readV(b, rn, esize(size)), b.v(rd)), esize(size)),
          COLD,
        ),
      );
    }
    return rows;
  }),
);

function rightNarrow(b: Builder, size: number, x: V128, how: Narrowing, round: boolean): V128 {
  const signed = how === 'signed' || how === 'signed to unsigned';
  return narrow(b, size + 1, right(b, size, x, signed, round, size + 1), how);
}

const NARROWING: readonly [name: string, u: Bit, opcode: string, how: Narrowing, round: boolean][] = [
  ['SHRN', '0', '10000', 'wrap', false],
  ['SQSHRUN', '1', '10000', 'signed to unsigned', false],
  ['RSHRN', '0', '10001', 'wrap', true],
  ['SQRSHRUN', '1', '10001', 'signed to unsigned', true],
  ['SQSHRN', '0', '10010', 'signed', false],
  ['UQSHRN', '1', '10010', 'unsigned', false],
  ['SQRSHRN', '0', '10011', 'signed', true],
  ['UQRSHRN', '1', '10011', 'unsigned', true],
];
const narrowing = NARROWING.flatMap(([name, u, opcode, how, round]) =>
  [0, 1, 2].flatMap((size) => {
    const rows = [
      insn(
        `${name}_v${LETTER[size]}`,
        vectorPattern(size, u, opcode),
        (b, { q, rn, rd }) => writePart(b, rd, rightNarrow(b, size, b.v(rn), how, round), q),
        COLD,
      ),
    ];
    if (how !== 'wrap') {
      rows.push(
        insn(
          `${name}_${LETTER[size]}`,
          scalarPattern(size, u, opcode),
          (b, { rn, rd }) => writeV(b, rd, rightNarrow(b, size, readV(b, rn, esize(size + 1)), how, round), esize(size)),
          COLD,
        ),
      );
    }
    return rows;
  }),
);

/** SSHLL, USHLL (SXTL, UXTL). */
const long = (['0', '1'] as const).flatMap((u) =>
  [0, 1, 2].map((size) =>
    insn(
      `${u === '1' ? 'USHLL' : 'SSHLL'}_v${LETTER[size]}`,
      vectorPattern(size, u, '10100'),
      (b, { q, rn, rd }) => b.setV(rd, shift(b, size + 1, 'shl', widen(b, size, b.v(rn), u === '0', q), left(b))),
      COLD,
    ),
  ),
);

export const rows: Insn[] = [...sameWidth, ...narrowing, ...long];
