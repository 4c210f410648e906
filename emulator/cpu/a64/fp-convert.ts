/** Scalar floating-point conversions, Arm ARM C4.1.96: between precisions, and from and to integers and fixed point. */
import type { I32, I64 } from '../builder.ts';
import { RMODE, TIEAWAY } from '../fp.ts';
import { type Insn, insn, type Raw } from '../insn.ts';
import { byType, FixedToFP, FP, FPConvert, FPToFixed, scalar, setScalar, type Size } from './fp-lanes.ts';

/** FCVT: [name, ftype and opc of the encoding, from, to]. Half precision is a storage format of Armv8.0: no feature. */
const PRECISIONS: readonly (readonly [string, string, string, Size, Size])[] = [
  ['FCVT_ds', '00', '01', 32, 64],
  ['FCVT_hs', '00', '11', 32, 16],
  ['FCVT_sd', '01', '00', 64, 32],
  ['FCVT_hd', '01', '11', 64, 16],
  ['FCVT_sh', '11', '00', 16, 32],
  ['FCVT_dh', '11', '01', 16, 64],
];

/** A fixed-point scale of a W register must not exceed 32 bits. */
const scaleValid = (f: Raw): boolean => f.sf === 1 || f.scale >= 32;

export const rows: readonly Insn[] = [
  ...PRECISIONS.map(([name, ftype, opc, from, to]) =>
    insn(
      name,
      `00011110 ${ftype} 1 0001 ${opc} 10000 rn:5 rd:5` as 'rn:5 rd:5',
      (b, { rn, rd }) => setScalar(b, rd, to, FPConvert(b, from, to, scalar(b, rn, from), RMODE)),
      FP,
    ),
  ),
  insn(
    'BFCVT',
    '00011110 01 1 000110 10000 rn:5 rd:5',
    (b, { rn, rd }) => setScalar(b, rd, 16, b.call('i32', 'FPConvertBF', [scalar(b, rn, 32)])),
    { ...FP, feat: 'BF16' },
  ),

  // FCVT{N,P,M,Z}{S,U}: the rmode field is the rounding, as in FPCR.
  ...byType('FCVT_int', 'sf! 00 11110 ftype!:2 1 rmode!:2 00 u! 000000 rn:5 rd:5', (b, { sf, rmode, u, rn, rd }, size) =>
    b.setX(rd, FPToFixed(b, size, scalar(b, rn, size), b.i32(0), sf ? 64 : 32, u, rmode)),
  ),
  ...byType('FCVTA_int', 'sf! 00 11110 ftype!:2 1 00 10 u! 000000 rn:5 rd:5', (b, { sf, u, rn, rd }, size) =>
    b.setX(rd, FPToFixed(b, size, scalar(b, rn, size), b.i32(0), sf ? 64 : 32, u, TIEAWAY)),
  ),
  ...byType('CVTF_int', 'sf! 00 11110 ftype!:2 1 00 01 u! 000000 rn:5 rd:5', (b, { sf, u, rn, rd }, size) =>
    setScalar(b, rd, size, FixedToFP(b, size, b.x(rn, sf), b.i32(0), sf ? 64 : 32, u)),
  ),
  ...byType(
    'FCVTZ_fix',
    'sf! 00 11110 ftype!:2 0 11 00 u! scale:6 rn:5 rd:5',
    (b, { sf, u, rn, rd }, size) =>
      b.setX(
        rd,
        FPToFixed(
          b,
          size,
          scalar(b, rn, size),
          b.imm32((f) => 64 - f.scale),
          sf ? 64 : 32,
          u,
          3,
        ),
      ),
    { when: scaleValid },
  ),
  ...byType(
    'CVTF_fix',
    'sf! 00 11110 ftype!:2 0 00 01 u! scale:6 rn:5 rd:5',
    (b, { sf, u, rn, rd }, size) =>
      setScalar(
        b,
        rd,
        size,
        FixedToFP(
          b,
          size,
          b.x(rn, sf),
          b.imm32((f) => 64 - f.scale),
          sf ? 64 : 32,
          u,
        ),
      ),
    { when: scaleValid },
  ),
  insn(
    'FJCVTZS',
    '00011110 01 1 11 110 000000 rn:5 rd:5',
    (b, { rn, rd }) => {
      const r = b.call('i64', 'FPToFixedJS', [b.d(rn)]) as I64;
      b.setX(rd, b.wrap(r));
      b.setNZCV(b.wrap(b.shrU(r, b.i64(32))) as I32);
    },
    { ...FP, feat: 'JSCVT' },
  ),
];
