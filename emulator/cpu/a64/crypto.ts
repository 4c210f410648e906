/**
 * The cryptographic extension: AES, PMULL, SHA1, SHA256, SHA512, SHA3, SM3, SM4 (Arm ARM C4.1.96, "Cryptographic ..."),
 * all in wasm operations: a kernel's self tests run them by the million.
 */
import type { Builder, I32, I64, Int, V128 } from '../builder.ts';
import { type Insn, insn, type Operand } from '../insn.ts';
import { reverseBits } from './simd-integer.ts';
import { fixed, lane, pickLanes, shift, shuffle, splat, vand, vandnot, vor, vxor, zero } from './simd.ts';

const COLD = { fp: true, cold: true } as const;

const word = (b: Builder, v: V128, i: number): I32 => b.op('i32x4.extract_lane', [v], [i]) as I32;
const double = (b: Builder, v: V128, i: number): I64 => b.op('i64x2.extract_lane', [v], [i]) as I64;
const words = (b: Builder, w: readonly I32[]): V128 => w.reduce((v, x, i) => b.vop('i32x4.replace_lane', [v, x], [i]), zero(b));
const doubles = (b: Builder, low: I64, high: I64): V128 => b.vop('i64x2.replace_lane', [b.vop('i64x2.splat', [low]), high], [1]);
const rotateRight = <T extends Int>(b: Builder, v: T, by: number): T => b.rotr(v, b.c(v, by));
const rotateLeft = <T extends Int>(b: Builder, v: T, by: number): T => rotateRight(b, v, (v.t === 'i32' ? 32 : 64) - by);
const xorAll = <T extends Int>(b: Builder, first: T, ...more: T[]): T => more.reduce((x, y) => b.xor(x, y), first);
const sum = <T extends Int>(b: Builder, first: T, ...more: T[]): T => more.reduce((x, y) => b.add(x, y), first);
/** Bits of y where x is one, of z elsewhere. */
const choose = <T extends Int>(b: Builder, x: T, y: T, z: T): T => b.xor(z, b.and(x, b.xor(y, z)));
const majority = <T extends Int>(b: Builder, x: T, y: T, z: T): T => b.or(b.and(x, y), b.and(b.or(x, y), z));
const parity = <T extends Int>(b: Builder, x: T, y: T, z: T): T => xorAll(b, x, y, z);
/** Rotation of each 32-bit (or 64-bit, size 3) lane. */
const rotateLanes = (b: Builder, size: number, v: V128, left: number): V128 =>
  vor(b, shift(b, size, 'shl', v, left), shift(b, size, 'shr_u', v, (8 << size) - left));

// --- substitution boxes ------------------------------------------------------------------------------------------------

/** Product in GF(2^8) modulo `polynomial` (with its x^8). */
function fieldProduct(x: number, y: number, polynomial: number): number {
  let r = 0;
  for (; y; y >>= 1) {
    if (y & 1) r ^= x;
    x <<= 1;
    if (x & 0x100) x ^= polynomial;
  }
  return r;
}
/** x^254, which is 1/x, and 0 for 0. */
function fieldInverse(x: number, polynomial: number): number {
  let r = 1;
  for (let i = 0; i < 254; i++) r = fieldProduct(r, x, polynomial);
  return r;
}
const parityOf = (v: number): number => {
  let p = 0;
  for (; v; v &= v - 1) p ^= 1;
  return p;
};
/** Bit i of the result: parity of x AND `row` rotated left by i. */
const circulant = (x: number, row: number): number => {
  let r = 0;
  for (let i = 0; i < 8; i++) r |= parityOf(x & ((row << i) | (row >> (8 - i))) & 0xff) << i;
  return r;
};

/** FIPS 197 section 5.1.1. */
const AES_SBOX = Uint8Array.from({ length: 256 }, (_, x) => circulant(fieldInverse(x, 0x11b), 0xf1) ^ 0x63);
const AES_INVERSE_SBOX = Uint8Array.from({ length: 256 }, (_, x) => AES_SBOX.indexOf(x));
/** GB/T 32907 gives the table; it is affine, inverse modulo x^8+x^7+x^6+x^5+x^4+x^2+1, affine (Erickson, Ding, Christensen 2009). */
const SM4_SBOX = Uint8Array.from(
  { length: 256 },
  (_, x) => circulant(fieldInverse(circulant(x, 0xa7) ^ 0xd3, 0x1f5), 0xa7) ^ 0xd3,
);

/** Every byte of `v` replaced through `table`, sixteen entries at a time: swizzle gives zero for other indices. */
function substitute(b: Builder, table: Uint8Array, v: V128): V128 {
  let r: V128 | undefined;
  for (let k = 0; k < 16; k++) {
    let part = 0n;
    for (let i = 0; i < 16; i++) part |= BigInt(table[16 * k + i]) << BigInt(8 * i);
    const found = lane(b, 0, 'swizzle', b.v128(part), k ? lane(b, 0, 'sub', v, splat(b, 0, BigInt(16 * k))) : v);
    r = r ? vor(b, r, found) : found;
  }
  return r as V128;
}

// --- AES -----------------------------------------------------------------------------------------------------------------

/** Byte i of the state is row i mod 4, column i / 4 (FIPS 197 section 3.4). ShiftRows takes row r from r columns on. */
const SHIFT_ROWS = Array.from({ length: 16 }, (_, i) => (i + 4 * (i & 3)) & 15);
const INVERSE_SHIFT_ROWS = Array.from({ length: 16 }, (_, i) => (i - 4 * (i & 3)) & 15);
/** Row r + k of every column. */
const rows4 = (b: Builder, v: V128, k: number): V128 =>
  shuffle(
    b,
    v,
    v,
    Array.from({ length: 16 }, (_, i) => (i & 12) | ((i + k) & 3)),
  );
/** Each byte times x, modulo x^8+x^4+x^3+x+1. */
const timesX = (b: Builder, v: V128): V128 =>
  vxor(b, shift(b, 0, 'shl', v, 1), vand(b, shift(b, 0, 'shr_s', v, 7), splat(b, 0, 0x1bn)));
/** 2 a_r + 3 a_(r+1) + a_(r+2) + a_(r+3). */
function mixColumns(b: Builder, v: V128): V128 {
  const next = rows4(b, v, 1);
  return vxor(b, vxor(b, timesX(b, vxor(b, v, next)), next), vxor(b, rows4(b, v, 2), rows4(b, v, 3)));
}
/** MixColumns of a_r + 4 (a_r + a_(r+2)). */
const inverseMixColumns = (b: Builder, v: V128): V128 =>
  mixColumns(b, vxor(b, v, timesX(b, timesX(b, vxor(b, v, rows4(b, v, 2))))));

const aesRound =
  (table: Uint8Array, order: readonly number[]) =>
  (b: Builder, d: V128, n: V128): V128 => {
    const v = vxor(b, d, n);
    return substitute(b, table, shuffle(b, v, v, order));
  };
const AES: readonly [name: string, opcode: string, op: (b: Builder, d: V128, n: V128) => V128][] = [
  ['AESE', '00', aesRound(AES_SBOX, SHIFT_ROWS)],
  ['AESD', '01', aesRound(AES_INVERSE_SBOX, INVERSE_SHIFT_ROWS)],
  ['AESMC', '10', (b, _, n) => mixColumns(b, n)],
  ['AESIMC', '11', (b, _, n) => inverseMixColumns(b, n)],
];
const aes = AES.map(([name, opcode, op]) =>
  insn(name, fixed('01001110 00 10100 001 xx 10 rn:5 rd:5', opcode), (b, { rn, rd }) => b.setV(rd, op(b, b.v(rd), b.v(rn))), {
    ...COLD,
    feat: 'AES',
  }),
);

// --- PMULL -----------------------------------------------------------------------------------------------------------------

/**
 * Low halves of the carry-less products of 64-bit lanes, by ordinary multiplication: with only every fourth bit of the
 * factors kept, at most 15 ones meet in a column below 60 (16 in column 60, whose carry leaves the lane), so that carries
 * stay in the three bits between columns and are masked off.
 */
function carrylessLow(b: Builder, x: V128, y: V128): V128 {
  const mask = (k: number) => splat(b, 3, 0x1111111111111111n << BigInt(k));
  const xs = [0, 1, 2, 3].map((k) => vand(b, x, mask(k)));
  const ys = [0, 1, 2, 3].map((k) => vand(b, y, mask(k)));
  let r = zero(b);
  for (let k = 0; k < 4; k++) {
    let part = zero(b);
    for (let i = 0; i < 4; i++) part = vxor(b, part, lane(b, 3, 'mul', xs[i], ys[(k - i) & 3]));
    r = vor(b, r, vand(b, part, mask(k)));
  }
  return r;
}
/** 64 bits reversed in each lane. */
function reverseDoubles(b: Builder, v: V128): V128 {
  const bytes = shuffle(
    b,
    v,
    v,
    Array.from({ length: 16 }, (_, i) => i ^ 7),
  );
  return reverseBits(b, bytes);
}
/** The high half is the low half of the product of the reversed factors, reversed, and one bit further. */
const pmull = insn(
  'PMULL_64',
  '0 q! 001110 11 1 rm:5 1110 00 rn:5 rd:5',
  (b, { q, rm, rn, rd }) => {
    const both = (n: Operand) => {
      const v = pickLanes(b, 3, b.v(n), b.v(n), [q, q]);
      return pickLanes(b, 3, v, reverseDoubles(b, v), [0, 2]);
    };
    const product = carrylessLow(b, both(rn), both(rm));
    b.setV(rd, pickLanes(b, 3, product, shift(b, 3, 'shr_u', reverseDoubles(b, product), 1), [0, 3]));
  },
  { ...COLD, feat: 'PMULL' },
);

// --- SHA1, SHA256 ----------------------------------------------------------------------------------------------------------

/** Four rounds: <Y:X> rotates by a word each (Arm ARM, SHA1C, SHA1P, SHA1M). */
const sha1Rounds =
  (f: (b: Builder, x: I32, y: I32, z: I32) => I32) =>
  (b: Builder, d: V128, n: V128, m: V128): V128 => {
    let x = [0, 1, 2, 3].map((i) => word(b, d, i));
    let y = word(b, n, 0);
    for (let e = 0; e < 4; e++) {
      const next = sum(b, y, rotateLeft(b, x[0], 5), f(b, x[1], x[2], x[3]), word(b, m, e));
      y = x[3];
      x = [next, x[0], rotateLeft(b, x[1], 30), x[2]];
    }
    return words(b, x);
  };
/** SHA256hash(): four rounds; the new X (`part1`) or Y. */
function sha256Rounds(b: Builder, xs: V128, ys: V128, w: V128, part1: boolean): V128 {
  let x = [0, 1, 2, 3].map((i) => word(b, xs, i));
  let y = [0, 1, 2, 3].map((i) => word(b, ys, i));
  for (let e = 0; e < 4; e++) {
    const sigma1 = xorAll(b, rotateRight(b, y[0], 6), rotateRight(b, y[0], 11), rotateRight(b, y[0], 25));
    const sigma0 = xorAll(b, rotateRight(b, x[0], 2), rotateRight(b, x[0], 13), rotateRight(b, x[0], 22));
    const t = sum(b, y[3], sigma1, choose(b, y[0], y[1], y[2]), word(b, w, e));
    const x3 = b.add(t, x[3]);
    const y3 = sum(b, t, sigma0, majority(b, x[0], x[1], x[2]));
    x = [y3, x[0], x[1], x[2]];
    y = [x3, y[0], y[1], y[2]];
  }
  return words(b, part1 ? x : y);
}
/** ROR a XOR ROR c XOR (value >> n) of 32-bit lanes. */
const scheduleSigma = (b: Builder, v: V128, a: number, c: number, n: number): V128 =>
  vxor(b, vxor(b, rotateLanes(b, 2, v, 32 - a), rotateLanes(b, 2, v, 32 - c)), shift(b, 2, 'shr_u', v, n));
function sha256Schedule1(b: Builder, d: V128, n: V128, m: V128): V128 {
  const t0 = lane(b, 2, 'add', d, pickLanes(b, 2, n, m, [1, 2, 3, 4]));
  const low = lane(b, 2, 'add', t0, scheduleSigma(b, pickLanes(b, 3, m, m, [1, 1]), 17, 19, 10));
  const high = lane(b, 2, 'add', t0, scheduleSigma(b, pickLanes(b, 3, low, low, [0, 0]), 17, 19, 10));
  return pickLanes(b, 3, low, high, [0, 3]);
}
const SHA_THREE: readonly [
  name: string,
  opcode: string,
  'SHA1' | 'SHA256',
  op: (b: Builder, d: V128, n: V128, m: V128) => V128,
][] = [
  ['SHA1C', '000', 'SHA1', sha1Rounds(choose)],
  ['SHA1P', '001', 'SHA1', sha1Rounds(parity)],
  ['SHA1M', '010', 'SHA1', sha1Rounds(majority)],
  ['SHA1SU0', '011', 'SHA1', (b, d, n, m) => vxor(b, vxor(b, pickLanes(b, 3, d, n, [1, 2]), d), m)],
  ['SHA256H', '100', 'SHA256', (b, d, n, m) => sha256Rounds(b, d, n, m, true)],
  ['SHA256H2', '101', 'SHA256', (b, d, n, m) => sha256Rounds(b, n, d, m, false)],
  ['SHA256SU1', '110', 'SHA256', sha256Schedule1],
];
/** ROL(op1 XOR op2 >> 32, 1), the top word also with the new lowest word rotated again. */
function sha1Schedule1(b: Builder, d: V128, n: V128): V128 {
  const v = rotateLanes(b, 2, vxor(b, d, pickLanes(b, 2, n, zero(b), [1, 2, 3, 4])), 1);
  return vxor(b, v, rotateLanes(b, 2, pickLanes(b, 2, v, zero(b), [4, 4, 4, 0]), 1));
}
const SHA_TWO: readonly [name: string, opcode: string, 'SHA1' | 'SHA256', op: (b: Builder, d: V128, n: V128) => V128][] = [
  ['SHA1H', '00', 'SHA1', (b, _, n) => pickLanes(b, 2, rotateLanes(b, 2, n, 30), zero(b), [0, 4, 4, 4])],
  ['SHA1SU1', '01', 'SHA1', sha1Schedule1],
  [
    'SHA256SU0',
    '10',
    'SHA256',
    (b, d, n) => lane(b, 2, 'add', d, scheduleSigma(b, pickLanes(b, 2, d, n, [1, 2, 3, 4]), 7, 18, 3)),
  ],
];
const sha = [
  ...SHA_THREE.map(([name, opcode, feat, op]) =>
    insn(
      name,
      fixed('01011110 00 0 rm:5 0 xxx 00 rn:5 rd:5', opcode),
      (b, { rm, rn, rd }) => b.setV(rd, op(b, b.v(rd), b.v(rn), b.v(rm))),
      { ...COLD, feat },
    ),
  ),
  ...SHA_TWO.map(([name, opcode, feat, op]) =>
    insn(name, fixed('01011110 00 10100 000 xx 10 rn:5 rd:5', opcode), (b, { rn, rd }) => b.setV(rd, op(b, b.v(rd), b.v(rn))), {
      ...COLD,
      feat,
    }),
  ),
];

// --- SHA512, SHA3 --------------------------------------------------------------------------------------------------------

const sigma64 = (b: Builder, v: I64, r1: number, r2: number, r3: number): I64 =>
  xorAll(b, rotateRight(b, v, r1), rotateRight(b, v, r2), rotateRight(b, v, r3));
function sha512h(b: Builder, w: V128, x: V128, y: V128): V128 {
  const [x0, x1, y0, y1] = [double(b, x, 0), double(b, x, 1), double(b, y, 0), double(b, y, 1)];
  const high = sum(b, choose(b, y1, x0, x1), sigma64(b, y1, 14, 18, 41), double(b, w, 1));
  const t = b.add(high, y0);
  return doubles(b, sum(b, choose(b, t, y1, x0), sigma64(b, t, 14, 18, 41), double(b, w, 0)), high);
}
function sha512h2(b: Builder, w: V128, x: V128, y: V128): V128 {
  const [x0, y0, y1] = [double(b, x, 0), double(b, y, 0), double(b, y, 1)];
  const high = sum(b, majority(b, x0, y1, y0), sigma64(b, y0, 28, 34, 39), double(b, w, 1));
  return doubles(b, sum(b, majority(b, high, y0, y1), sigma64(b, high, 28, 34, 39), double(b, w, 0)), high);
}
const scheduleSigma64 = (b: Builder, v: V128, a: number, c: number, n: number): V128 =>
  vxor(b, vxor(b, rotateLanes(b, 3, v, 64 - a), rotateLanes(b, 3, v, 64 - c)), shift(b, 3, 'shr_u', v, n));

const SHA512_THREE: readonly [
  name: string,
  opcode: string,
  'SHA512' | 'SHA3' | 'SM3',
  op: (b: Builder, d: V128, n: V128, m: V128) => V128,
][] = [
  ['SHA512H', '0 00 00', 'SHA512', sha512h],
  ['SHA512H2', '0 00 01', 'SHA512', sha512h2],
  [
    'SHA512SU1',
    '0 00 10',
    'SHA512',
    (b, d, n, m) => lane(b, 3, 'add', lane(b, 3, 'add', d, scheduleSigma64(b, n, 19, 61, 6)), m),
  ],
  ['RAX1', '0 00 11', 'SHA3', (b, _, n, m) => vxor(b, n, rotateLanes(b, 3, m, 1))],
  ['SM3PARTW1', '1 00 00', 'SM3', sm3Part1],
  ['SM3PARTW2', '1 00 01', 'SM3', sm3Part2],
];
const sha512 = [
  ...SHA512_THREE.map(([name, opcode, feat, op]) =>
    insn(
      name,
      `11001110 011 rm:5 1 ${opcode} rn:5 rd:5` as 'rm:5 rn:5 rd:5',
      (b, { rm, rn, rd }) => b.setV(rd, op(b, b.v(rd), b.v(rn), b.v(rm))),
      { ...COLD, feat },
    ),
  ),
  insn(
    'SHA512SU0',
    '11001110 110 00000 1000 00 rn:5 rd:5',
    (b, { rn, rd }) =>
      b.setV(rd, lane(b, 3, 'add', b.v(rd), scheduleSigma64(b, pickLanes(b, 3, b.v(rd), b.v(rn), [1, 2]), 1, 8, 7))),
    {
      ...COLD,
      feat: 'SHA512',
    },
  ),
];
const sha3 = [
  insn(
    'EOR3',
    '11001110 000 rm:5 0 ra:5 rn:5 rd:5',
    (b, { rm, ra, rn, rd }) => b.setV(rd, vxor(b, vxor(b, b.v(rn), b.v(rm)), b.v(ra))),
    {
      ...COLD,
      feat: 'SHA3',
    },
  ),
  insn(
    'BCAX',
    '11001110 001 rm:5 0 ra:5 rn:5 rd:5',
    (b, { rm, ra, rn, rd }) => b.setV(rd, vxor(b, b.v(rn), vandnot(b, b.v(rm), b.v(ra)))),
    { ...COLD, feat: 'SHA3' },
  ),
  insn(
    'XAR',
    '11001110 100 rm:5 imm:6 rn:5 rd:5',
    (b, { rm, rn, rd }) => {
      // Shifts by 64 are by 0 in wasm, which is right here.
      const v = vxor(b, b.v(rn), b.v(rm));
      const down = shift(
        b,
        3,
        'shr_u',
        v,
        b.imm32((f) => f.imm),
      );
      b.setV(
        rd,
        vor(
          b,
          down,
          shift(
            b,
            3,
            'shl',
            v,
            b.imm32((f) => 64 - f.imm),
          ),
        ),
      );
    },
    { ...COLD, feat: 'SHA3' },
  ),
];

// --- SM3 -----------------------------------------------------------------------------------------------------------------

/** The permutation P1 of GB/T 32905: v XOR ROL(v, 15) XOR ROL(v, 23). */
const p1 = (b: Builder, v: V128): V128 => vxor(b, vxor(b, v, rotateLanes(b, 2, v, 15)), rotateLanes(b, 2, v, 23));
/** Only lane 3 of `v`, from lane 0. */
const toTop = (b: Builder, v: V128): V128 => pickLanes(b, 2, v, zero(b), [4, 4, 4, 0]);

function sm3Part1(b: Builder, d: V128, n: V128, m: V128): V128 {
  const v = vxor(b, vxor(b, d, n), rotateLanes(b, 2, pickLanes(b, 2, m, zero(b), [1, 2, 3, 4]), 15));
  const low = p1(b, v);
  // The top word needs the lowest one of the result.
  const top = p1(b, vxor(b, v, toTop(b, rotateLanes(b, 2, low, 15))));
  return pickLanes(b, 2, low, top, [0, 1, 2, 7]);
}
function sm3Part2(b: Builder, d: V128, n: V128, m: V128): V128 {
  const v = vxor(b, n, rotateLanes(b, 2, m, 7));
  return vxor(b, vxor(b, d, v), toTop(b, p1(b, rotateLanes(b, 2, v, 15))));
}
/** TT1, TT2: one round of the compression function; word `imm` of Vm is W'j or Wj. */
const SM3_ROUNDS: readonly [name: string, opcode: string, f: (b: Builder, x: I32, y: I32, z: I32) => I32, second: boolean][] = [
  ['SM3TT1A', '00', parity, false],
  ['SM3TT1B', '01', majority, false],
  ['SM3TT2A', '10', parity, true],
  ['SM3TT2B', '11', choose, true],
];
const sm3 = [
  insn(
    'SM3SS1',
    '11001110 010 rm:5 0 ra:5 rn:5 rd:5',
    (b, { rm, ra, rn, rd }) => {
      const v = rotateLeft(b, sum(b, rotateLeft(b, word(b, b.v(rn), 3), 12), word(b, b.v(rm), 3), word(b, b.v(ra), 3)), 7);
      b.setV(rd, b.vop('i32x4.replace_lane', [zero(b), v], [3]));
    },
    { ...COLD, feat: 'SM3' },
  ),
  ...SM3_ROUNDS.map(([name, opcode, f, second]) =>
    insn(
      name,
      fixed('11001110 010 rm:5 10 imm!:2 xx rn:5 rd:5', opcode),
      (b, { rm, imm, rn, rd }) => {
        const d = [0, 1, 2, 3].map((i) => word(b, b.v(rd), i));
        const t = sum(b, f(b, d[3], d[2], d[1]), d[0], word(b, b.v(rm), imm));
        const n = word(b, b.v(rn), 3);
        const top = second ? b.add(t, n) : b.add(t, b.xor(n, rotateLeft(b, d[3], 12)));
        b.setV(
          rd,
          words(b, [
            d[1],
            rotateLeft(b, d[2], second ? 19 : 9),
            d[3],
            second ? xorAll(b, top, rotateLeft(b, top, 9), rotateLeft(b, top, 17)) : top,
          ]),
        );
      },
      { ...COLD, feat: 'SM3' },
    ),
  ),
];

// --- SM4 -----------------------------------------------------------------------------------------------------------------

/** Four rounds on the words of `state`; `linear` is the rotations of the transformation after the substitution. */
function sm4Rounds(b: Builder, state: V128, keys: V128, linear: readonly number[]): V128 {
  let x = [0, 1, 2, 3].map((i) => word(b, state, i));
  for (let i = 0; i < 4; i++) {
    const mixed = b.vop('i32x4.splat', [xorAll(b, x[3], x[2], x[1], word(b, keys, i))]);
    const s = word(b, substitute(b, SM4_SBOX, mixed), 0);
    x = [x[1], x[2], x[3], xorAll(b, x[0], s, ...linear.map((k) => rotateLeft(b, s, k)))];
  }
  return words(b, x);
}
const sm4 = [
  insn(
    'SM4E',
    '11001110 110 00000 1000 01 rn:5 rd:5',
    (b, { rn, rd }) => b.setV(rd, sm4Rounds(b, b.v(rd), b.v(rn), [2, 10, 18, 24])),
    {
      ...COLD,
      feat: 'SM4',
    },
  ),
  insn(
    'SM4EKEY',
    '11001110 011 rm:5 1 1 00 10 rn:5 rd:5',
    (b, { rm, rn, rd }) => b.setV(rd, sm4Rounds(b, b.v(rn), b.v(rm), [13, 23])),
    {
      ...COLD,
      feat: 'SM4',
    },
  ),
];

export const rows: Insn[] = [...aes, pmull, ...sha, ...sha512, ...sha3, ...sm3, ...sm4];
