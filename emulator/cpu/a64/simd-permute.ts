/**
 * Advanced SIMD moves of whole lanes: copy, extract, table lookup, permute, modified immediate (Arm ARM C4.1.96). Where a
 * lane's number is in the encoding, decode turns it into swizzle indices, so that one handler serves all lanes and sizes.
 */
import type { Builder, I64, V128 } from '../builder.ts';
import { type Insn, insn, type Raw } from '../insn.ts';
import {
  bitselect,
  broadcastBytes,
  compare,
  esize,
  fixed,
  lane,
  permute,
  pickLanes,
  replicate,
  splat,
  vandnot,
  vimm,
  vor,
  writeV,
} from './simd.ts';

const COLD = { fp: true, cold: true } as const;
const widthOf = (q: number): number => (q ? 128 : 64);

// --- copy ----------------------------------------------------------------------------------------------------------

/** imm5 holds the size as the position of its lowest one, the index above it. */
const sizeOf = (f: Raw): number => 31 - Math.clz32(f.imm5 & -f.imm5);
const indexOf = (f: Raw): number => f.imm5 >> (sizeOf(f) + 1);
const isLane = (f: Raw): boolean => (f.imm5 & 15) !== 0;
/** 64-bit lanes need the whole register. */
const full = (f: Raw): boolean => isLane(f) && (sizeOf(f) < 3 || f.q === 1);

/** The lane of `v` that imm5 names, zero-extended to 64 bits: swizzle indices out of range give zero. */
function lanePattern(f: Raw): bigint {
  const bytes = 1 << sizeOf(f);
  let at = 0n;
  for (let j = 0; j < 8; j++) at |= BigInt(j < bytes ? indexOf(f) * bytes + j : 255) << BigInt(8 * j);
  return BigInt.asIntN(64, at);
}
const laneValue = (b: Builder, v: V128): I64 =>
  b.op('i64x2.extract_lane', [lane(b, 0, 'swizzle', v, b.vop('i64x2.splat', [b.imm(lanePattern)]))], [0]) as I64;

/** Ones in the lane that imm5 names. */
const laneMask = (b: Builder): V128 =>
  vimm(b, (f) => ((1n << BigInt(esize(sizeOf(f)))) - 1n) << BigInt(indexOf(f) * esize(sizeOf(f))));

/** Swizzle indices that repeat the low element of imm5's size. */
const spread = (b: Builder, v: I64): V128 =>
  lane(
    b,
    0,
    'swizzle',
    b.vop('i64x2.splat', [v]),
    b.vop('i64x2.splat', [b.imm((f) => BigInt.asIntN(64, broadcastBytes(sizeOf(f), 0)))]),
  );

const copy: Insn[] = [
  insn(
    'DUP_elem_v',
    '0 q! 0 01110000 imm5:5 0 0000 1 rn:5 rd:5',
    (b, { q, rn, rd }) => {
      const bytes = b.imm((f) => BigInt.asIntN(64, broadcastBytes(sizeOf(f), indexOf(f))));
      writeV(b, rd, lane(b, 0, 'swizzle', b.v(rn), b.vop('i64x2.splat', [bytes])), widthOf(q));
    },
    { ...COLD, when: full },
  ),
  insn('DUP_elem_s', '01 0 11110000 imm5:5 0 0000 1 rn:5 rd:5', (b, { rn, rd }) => b.setVLow(rd, laneValue(b, b.v(rn)), 8), {
    ...COLD,
    when: isLane,
  }),
  insn(
    'DUP_general',
    '0 q! 0 01110000 imm5:5 0 0001 1 rn:5 rd:5',
    (b, { q, rn, rd }) => writeV(b, rd, spread(b, b.x(rn)), widthOf(q)),
    {
      ...COLD,
      when: full,
    },
  ),
  insn(
    'SMOV',
    '0 q! 0 01110000 imm5:5 0 0101 1 rn:5 rd:5',
    (b, { q, rn, rd }) => {
      const by = b.imm((f) => 64 - esize(sizeOf(f)));
      const v = b.shrS(b.shl(laneValue(b, b.v(rn)), by), by);
      b.setX(rd, q ? v : b.wrap(v));
    },
    { ...COLD, when: (f) => isLane(f) && sizeOf(f) < (f.q ? 3 : 2) },
  ),
  insn('UMOV', '0 q 0 01110000 imm5:5 0 0111 1 rn:5 rd:5', (b, { rn, rd }) => b.setX(rd, laneValue(b, b.v(rn))), {
    ...COLD,
    when: (f) => isLane(f) && (f.q ? sizeOf(f) === 3 : sizeOf(f) < 3),
  }),
  insn(
    'INS_general',
    '0 1 0 01110000 imm5:5 0 0011 1 rn:5 rd:5',
    (b, { rn, rd }) => b.setV(rd, bitselect(b, laneMask(b), spread(b, b.x(rn)), b.v(rd))),
    { ...COLD, when: isLane },
  ),
  insn(
    'INS_elem',
    '0 1 1 01110000 imm5:5 0 imm4:4 1 rn:5 rd:5',
    (b, { rn, rd }) => {
      const bytes = b.imm((f) => BigInt.asIntN(64, broadcastBytes(sizeOf(f), f.imm4 >> sizeOf(f))));
      const v = lane(b, 0, 'swizzle', b.v(rn), b.vop('i64x2.splat', [bytes]));
      b.setV(rd, bitselect(b, laneMask(b), v, b.v(rd)));
    },
    { ...COLD, when: isLane },
  ),
];

// --- extract, tables -------------------------------------------------------------------------------------------------

/** 0, 1, .. 15. */
const IOTA = Array.from({ length: 16 }, (_, i) => BigInt(i) << BigInt(8 * i)).reduce((x, y) => x | y);

const ext = insn(
  'EXT',
  '0 q! 101110 00 0 rm:5 0 imm:4 0 rn:5 rd:5',
  (b, { q, rm, rn, rd }) => {
    const from = lane(b, 0, 'add', b.v128(IOTA), b.vop('i8x16.splat', [b.imm32((f) => f.imm)]));
    if (!q) {
      writeV(b, rd, lane(b, 0, 'swizzle', pickLanes(b, 3, b.v(rn), b.v(rm), [0, 2]), from), 64);
      return;
    }
    // What is out of range for one register is in range for the other.
    const high = lane(b, 0, 'swizzle', b.v(rm), lane(b, 0, 'sub', from, splat(b, 0, 16n)));
    b.setV(rd, vor(b, lane(b, 0, 'swizzle', b.v(rn), from), high));
  },
  { ...COLD, when: (f) => f.q === 1 || f.imm < 8 },
);

const tables = (['0', '1'] as const).map((op) =>
  insn(
    op === '1' ? 'TBX' : 'TBL',
    fixed('0 q! 001110 00 0 rm:5 0 len!:2 x 00 rn:5 rd:5', op),
    (b, { q, len, rm, rn, rd }) => {
      const index = b.v(rm);
      let r = lane(b, 0, 'swizzle', b.v(rn), index);
      for (let k = 1; k <= len; k++) {
        r = vor(b, r, lane(b, 0, 'swizzle', b.v(rn, k), lane(b, 0, 'sub', index, splat(b, 0, BigInt(16 * k)))));
      }
      if (op === '1') r = bitselect(b, compare(b, 0, 'lt_u', index, splat(b, 0, BigInt(16 * (len + 1)))), r, b.v(rd));
      writeV(b, rd, r, widthOf(q));
    },
    COLD,
  ),
);

// --- permute ---------------------------------------------------------------------------------------------------------

/** Lane i of the result, of n: number of the lane in Vm:Vn. */
const PERMUTES: readonly [name: string, opcode: string, from: (i: number, n: number) => number][] = [
  ['UZP1', '001', (i) => 2 * i],
  ['TRN1', '010', (i, n) => (i & ~1) + (i & 1) * n],
  ['ZIP1', '011', (i, n) => (i >> 1) + (i & 1) * n],
  ['UZP2', '101', (i) => 2 * i + 1],
  ['TRN2', '110', (i, n) => (i | 1) + (i & 1) * n],
  ['ZIP2', '111', (i, n) => n / 2 + (i >> 1) + (i & 1) * n],
];
const permutes = PERMUTES.map(([name, opcode, from]) =>
  insn(
    name,
    fixed('0 q! 001110 size!:2 0 rm:5 0 xxx 10 rn:5 rd:5', opcode),
    (b, { q, size, rm, rn, rd }) => {
      const width = widthOf(q);
      const n = width / esize(size);
      writeV(
        b,
        rd,
        permute(
          b,
          { size, width },
          b.v(rn),
          b.v(rm),
          Array.from({ length: n }, (_, i) => from(i, n)),
        ),
        width,
      );
    },
    { ...COLD, when: (f) => f.size < 3 || f.q === 1 },
  ),
);

// --- modified immediate ------------------------------------------------------------------------------------------------

/** VFPExpandImm (Arm ARM shared pseudocode) for `bits` of 16, 32 or 64: sign, exponent NOT(b):b..b:cd, fraction efgh. */
export function vfpExpandImm(imm8: number, bits: 16 | 32 | 64): bigint {
  const e = { 16: 5, 32: 8, 64: 11 }[bits];
  const sign = BigInt(imm8 >> 7);
  const b6 = (imm8 >> 6) & 1;
  const exponent = (BigInt(b6 ^ 1) << BigInt(e - 1)) | ((b6 ? (1n << BigInt(e - 3)) - 1n : 0n) << 2n) | BigInt((imm8 >> 4) & 3);
  const fraction = BigInt(imm8 & 15) << BigInt(bits - 1 - e - 4);
  return (sign << BigInt(bits - 1)) | (exponent << BigInt(bits - 1 - e)) | fraction;
}

const imm8 = (f: Raw): number => (f.abc << 5) | f.defgh;
/** The constant before MVNI and BIC invert it, from cmode; each handler splats 64 bits. */
const wordImmediate = (f: Raw): bigint => replicate(BigInt(imm8(f)) << BigInt(8 * f.shift), 32);
const halfwordImmediate = (f: Raw): bigint => replicate(BigInt(imm8(f)) << BigInt(8 * f.shift), 16);
/** Shifting ones. */
const mslImmediate = (f: Raw): bigint => {
  const by = 8 * (f.shift + 1);
  return replicate((BigInt(imm8(f)) << BigInt(by)) | ((1n << BigInt(by)) - 1n), 32);
};
/** Each bit of imm8 becomes a byte. */
const byteMask = (f: Raw): bigint => {
  let v = 0n;
  for (let i = 0; i < 8; i++) if ((imm8(f) >> i) & 1) v |= 255n << BigInt(8 * i);
  return v;
};

const constant = (b: Builder, value: (f: Raw) => bigint): V128 =>
  b.vop('i64x2.splat', [b.imm((f) => BigInt.asIntN(64, value(f)))]);
const MODIFIED = '0 q! x 0111100000 abc:3 cmode 0 1 defgh:5 rd:5' as const;
/** `cmode` as pattern words, `shift` its varying bits. */
const modified = (
  name: string,
  op: '0' | '1',
  cmode: string,
  semantics: (b: Builder) => { set?: V128; or?: V128; clear?: V128 },
): Insn =>
  insn(
    name,
    fixed(MODIFIED.replace('cmode', cmode), op) as typeof MODIFIED,
    (b, { q, rd }) => {
      const { set, or, clear } = semantics(b);
      const v = set ?? (or ? vor(b, b.v(rd), or) : vandnot(b, b.v(rd), clear as V128));
      writeV(b, rd, v, widthOf(q));
    },
    COLD,
  );

const immediates: Insn[] = [
  modified('MOVI_32', '0', '0 shift:2 0', (b) => ({ set: constant(b, wordImmediate) })),
  modified('MVNI_32', '1', '0 shift:2 0', (b) => ({ set: constant(b, (f) => ~wordImmediate(f)) })),
  modified('ORR_imm_32', '0', '0 shift:2 1', (b) => ({ or: constant(b, wordImmediate) })),
  modified('BIC_imm_32', '1', '0 shift:2 1', (b) => ({ clear: constant(b, wordImmediate) })),
  modified('MOVI_16', '0', '10 shift 0', (b) => ({ set: constant(b, halfwordImmediate) })),
  modified('MVNI_16', '1', '10 shift 0', (b) => ({ set: constant(b, (f) => ~halfwordImmediate(f)) })),
  modified('ORR_imm_16', '0', '10 shift 1', (b) => ({ or: constant(b, halfwordImmediate) })),
  modified('BIC_imm_16', '1', '10 shift 1', (b) => ({ clear: constant(b, halfwordImmediate) })),
  modified('MOVI_msl', '0', '110 shift', (b) => ({ set: constant(b, mslImmediate) })),
  modified('MVNI_msl', '1', '110 shift', (b) => ({ set: constant(b, (f) => ~mslImmediate(f)) })),
  modified('MOVI_8', '0', '1110', (b) => ({ set: constant(b, (f) => replicate(BigInt(imm8(f)), 8)) })),
  modified('MOVI_64', '1', '1110', (b) => ({ set: constant(b, byteMask) })),
  modified('FMOV_imm_v_s', '0', '1111', (b) => ({ set: constant(b, (f) => replicate(vfpExpandImm(imm8(f), 32), 32)) })),
  insn(
    'FMOV_imm_v_d',
    '0 1 1 0111100000 abc:3 1111 0 1 defgh:5 rd:5',
    (b, { rd }) =>
      b.setV(
        rd,
        constant(b, (f) => vfpExpandImm(imm8(f), 64)),
      ),
    COLD,
  ),
  insn(
    'FMOV_imm_v_h',
    '0 q! 0 0111100000 abc:3 1111 1 1 defgh:5 rd:5',
    (b, { q, rd }) =>
      writeV(
        b,
        rd,
        constant(b, (f) => replicate(vfpExpandImm(imm8(f), 16), 16)),
        widthOf(q),
      ),
    { ...COLD, feat: 'FP16' },
  ),
];

export const rows: Insn[] = [...copy, ext, ...tables, ...permutes, ...immediates];
