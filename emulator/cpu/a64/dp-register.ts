/** Data processing, register (Arm ARM C4.1.89). */
import type { Builder, I32, I64, Int } from '../builder.ts';
import { type Insn, insn, type Operand, type Raw } from '../insn.ts';
import { AddWithCarry, ConditionHolds, mulHighS, mulHighU } from './pseudocode.ts';

/** `ShiftReg` by an amount in the instruction: LSL, LSR, ASR, ROR. */
function ShiftReg(b: Builder, m: Int, type: number): Int {
  const amount = m.t === 'i64' ? b.imm((f) => f.imm6) : b.imm32((f) => f.imm6);
  return type === 0 ? b.shl(m, amount) : type === 1 ? b.shrU(m, amount) : type === 2 ? b.shrS(m, amount) : b.rotr(m, amount);
}
const amountValid = (f: Raw): boolean => f.sf === 1 || f.imm6 < 32;

/** `ExtendReg`: the low 8, 16, 32 or 64 bits, extended, then shifted left; as two shifts, so that one handler serves four options. */
function ExtendReg(b: Builder, rm: Operand, signed: number): I64 {
  const unused = b.imm((f) => 64 - (8 << (f.option & 3)));
  const amount = b.imm((f) => f.imm3);
  const top = b.shl(b.x(rm), unused);
  return b.shl(signed ? b.shrS(top, unused) : b.shrU(top, unused), amount);
}

/** What ADD and SUB have in common: the flags if wanted, then the result. */
function addSub(b: Builder, op: number, s: number, n: Int, m: Int): Int {
  if (s) {
    if (op) b.flagsSub(n, m);
    else b.flagsAdd(n, m);
  }
  return op ? b.sub(n, m) : b.add(n, m);
}

/**
 * Conditions as a pick: base condition 0..7 (EQ, CS, MI, VS, HI, GE, GT, AL) is static, its inversion (bit 0) an operand, so
 * that there are eight handlers instead of sixteen.
 */
const baseCond = { base: [8, (f: Raw) => f.cond3] } as const;
/** MI/PL, VS/VC and AL hardly occur outside of branches. */
const rareCond = (f: Raw): boolean => f.base === 2 || f.base === 3 || f.base === 7;

/** Swaps neighbouring groups of `by` bits (`mask` has ones in the lower groups). */
function swapGroups(b: Builder, v: Int, by: number, mask: bigint): Int {
  const m = b.c(v, v.t === 'i64' ? mask : mask & 0xffffffffn);
  const n = b.c(v, by);
  return b.or(b.and(b.shrU(v, n), m), b.shl(b.and(v, m), n));
}
const PAIRS = 0x5555555555555555n;
const QUADS = 0x3333333333333333n;
const NIBBLES = 0x0f0f0f0f0f0f0f0fn;
const BYTES = 0x00ff00ff00ff00ffn;
const HALVES = 0x0000ffff0000ffffn;

const reverse16 = (b: Builder, v: Int): Int => swapGroups(b, v, 8, BYTES);
const reverse32 = (b: Builder, v: Int): Int => swapGroups(b, reverse16(b, v), 16, HALVES);
const reverseAll = (b: Builder, v: Int): Int => {
  const words = reverse32(b, v);
  return v.t === 'i64' ? b.rotr(words, b.c(v, 32)) : words;
};
const reverseBitsInBytes = (b: Builder, v: Int): Int =>
  swapGroups(b, swapGroups(b, swapGroups(b, v, 1, PAIRS), 2, QUADS), 4, NIBBLES);

/** Arm divides by zero to zero, and INT_MIN / -1 to INT_MIN; wasm would trap at both. */
function divide(b: Builder, n: Int, m: Int, signed: number): Int {
  const zero = b.c(n, 0);
  const one = b.c(n, 1);
  const byZero = b.eqz(m);
  if (!signed) return b.select(byZero, zero, b.op(`${n.t}.div_u`, [n, b.select(byZero, one, m)]) as Int) as Int;
  const byMinusOne = b.eq(m, b.c(n, -1));
  const quotient = b.op(`${n.t}.div_s`, [n, b.select(b.or(byZero, byMinusOne), one, m)]) as Int;
  return b.select(byZero, zero, b.select(byMinusOne, b.neg(n), quotient)) as Int;
}

/** CRC32 and CRC32C polynomials, bits reversed (Arm ARM C6.2.68: 0x04C11DB7 and 0x1EDC6F41). */
const POLYNOMIAL = [0xedb88320, 0x82f63b78];

/** One bit at a time: rare, and every table would have to be filled and imported. */
function crc32(b: Builder, acc: I32, value: I64, size: number, polynomial: number): I32 {
  let crc = size === 3 ? b.xor(acc, b.wrap(value)) : b.xor(acc, b.wrap(b.and(value, b.i64((1n << BigInt(8 << size)) - 1n))));
  const step = (): void => {
    crc = b.xor(b.shrU(crc, b.i32(1)), b.and(b.neg(b.and(crc, b.i32(1))), b.i32(polynomial)));
  };
  for (let bit = 0; bit < Math.min(8 << size, 32); bit++) step();
  if (size === 3) {
    crc = b.xor(crc, b.wrap(b.shrU(value, b.i64(32))));
    for (let bit = 0; bit < 32; bit++) step();
  }
  return crc;
}

export const rows: Insn[] = [
  // Logical, shifted register: AND ORR EOR ANDS, and with N the inverted operand (BIC ORN EON BICS). MOV is the most frequent of them by far.
  insn(
    'logical_reg',
    'sf! opc!:2 01010 shift!:2 n rm:5 imm6:6 rn:5 rd:5',
    (b, { sf, opc, shift, rm, rn, rd }) => {
      const n = b.x(rn, sf);
      const inverted = b.immW(sf, (f) => -f.n);
      const m = b.xor(ShiftReg(b, b.x(rm, sf), shift), inverted);
      const result = opc === 1 ? b.or(n, m) : opc === 2 ? b.xor(n, m) : b.and(n, m);
      if (opc === 3) b.flagsLogic(result);
      b.setX(rd, result);
    },
    { when: amountValid, cold: (f) => f.shift === 2 || (f.shift === 3 && f.opc !== 2) },
  ),
  insn('MOV_reg', 'sf! 01 01010 00 0 rm:5 000000 11111 rd:5', (b, { sf, rm, rd }) => b.setX(rd, b.x(rm, sf))),

  // Add and subtract
  insn(
    'add_sub_reg',
    'sf! op! s! 01011 shift:2 0 rm:5 imm6:6 rn:5 rd:5',
    (b, { sf, op, s, type, rm, rn, rd }) => b.setX(rd, addSub(b, op, s, b.x(rn, sf), ShiftReg(b, b.x(rm, sf), type))),
    {
      when: (f) => f.shift !== 3 && amountValid(f),
      pick: { type: [3, (f) => f.shift % 3] },
      cold: (f) => f.s === 1 && f.type !== 0,
    },
  ),
  insn(
    'add_sub_ext',
    'sf! op! s! 01011 00 1 rm:5 option:3 imm3:3 rn:5 rd:5',
    (b, { sf, op, s, signed, rm, rn, rd }) => {
      const m = ExtendReg(b, rm, signed);
      const result = addSub(b, op, s, b.xOrSP(rn, sf), sf ? m : b.wrap(m));
      if (s) b.setX(rd, result);
      else b.setXOrSP(rd, result);
    },
    { when: (f) => f.imm3 <= 4, pick: { signed: [2, (f) => f.option >> 2] }, cold: (f) => f.s === 1 && f.signed === 1 },
  ),
  insn(
    'ADC_SBC',
    'sf! op! s! 11010000 rm:5 000000 rn:5 rd:5',
    (b, { sf, op, s, rm, rn, rd }) => {
      const m = b.x(rm, sf);
      const { result, nzcv } = AddWithCarry(b, b.x(rn, sf), op ? b.not(m) : m, b.carry());
      if (s) b.setNZCV(nzcv);
      b.setX(rd, result);
    },
    { cold: (f) => f.sf === 0 || f.op === 1 || f.s === 1 },
  ),

  // Flag manipulation
  insn(
    'RMIF',
    '1 01 11010000 imm6:6 00001 rn:5 0 mask:4',
    (b, { rn }) => {
      const rotation = b.imm((f) => f.imm6);
      const rotated = b.shl(b.wrap(b.rotr(b.x(rn), rotation)), b.i32(28));
      const mask = b.imm32((f) => f.mask << 28);
      const old = b.nzcv();
      b.setNZCV(b.xor(old, b.and(b.xor(old, rotated), mask)));
    },
    { feat: 'FlagM', cold: true },
  ),
  insn(
    'SETF',
    '0 01 11010000 000000 size! 0010 rn:5 0 1101',
    (b, { size, rn }) => {
      const top = b.shl(b.x(rn, 0), b.i32(size ? 16 : 24));
      const above = b.shl(b.x(rn, 0), b.i32(size ? 15 : 23));
      const n = b.and(top, b.i32(0x80000000));
      const z = b.shl(b.eqz(top), b.i32(30));
      const v = b.shrU(b.and(b.xor(top, above), b.i32(0x80000000)), b.i32(3));
      b.setNZCV(b.or(b.or(n, z), b.or(v, b.and(b.nzcv(), b.i32(0x20000000)))));
    },
    { feat: 'FlagM', cold: true },
  ),

  // Conditional compare: CCMN (op = 0) and CCMP, with a register or an immediate
  insn(
    'CCMP',
    'sf! op! 1 11010010 m:5 cond3:3 inv imm! 0 rn:5 0 nzcv:4',
    (b, { sf, op, m, base, inv, imm, rn }) => {
      const n = b.x(rn, sf);
      const operand = imm ? b.immW(sf, (f) => f.m) : b.x(m, sf);
      const compare = (): void => (op ? b.flagsSub(n, operand) : b.flagsAdd(n, operand));
      const otherwise = b.imm32((f) => f.nzcv << 28);
      b.if(ConditionHolds(b, base, inv), compare, () => b.setNZCV(otherwise));
    },
    { pick: baseCond, cold: (f) => f.op === 0 || rareCond(f) },
  ),

  // Conditional select: CSEL CSINC CSINV CSNEG are (rm ^ -op) + o2
  insn(
    'CSEL',
    'sf! op 0 11010100 rm:5 cond3:3 inv 0 o2 rn:5 rd:5',
    (b, { sf, base, inv, rm, rn, rd }) => {
      const inverted = b.immW(sf, (f) => -f.op);
      const increment = b.immW(sf, (f) => f.o2);
      const changed = b.add(b.xor(b.x(rm, sf), inverted), increment);
      b.setX(rd, b.select(ConditionHolds(b, base, inv), b.x(rn, sf), changed) as Int);
    },
    { pick: baseCond, cold: rareCond },
  ),

  // One source
  insn(
    'RBIT',
    'sf! 10 11010110 00000 000000 rn:5 rd:5',
    (b, { sf, rn, rd }) => b.setX(rd, reverseAll(b, reverseBitsInBytes(b, b.x(rn, sf)))),
    { cold: true },
  ),
  insn('REV16', 'sf! 10 11010110 00000 000001 rn:5 rd:5', (b, { sf, rn, rd }) => b.setX(rd, reverse16(b, b.x(rn, sf))), {
    cold: true,
  }),
  insn('REV_W', '0 10 11010110 00000 000010 rn:5 rd:5', (b, { rn, rd }) => b.setX(rd, reverse32(b, b.x(rn, 0)))),
  insn('REV32', '1 10 11010110 00000 000010 rn:5 rd:5', (b, { rn, rd }) => b.setX(rd, reverse32(b, b.x(rn))), { cold: true }),
  insn('REV', '1 10 11010110 00000 000011 rn:5 rd:5', (b, { rn, rd }) => b.setX(rd, reverseAll(b, b.x(rn)))),
  insn('CLZ', 'sf! 10 11010110 00000 000100 rn:5 rd:5', (b, { sf, rn, rd }) => b.setX(rd, b.clz(b.x(rn, sf)))),
  insn(
    'CLS',
    'sf! 10 11010110 00000 000101 rn:5 rd:5',
    (b, { sf, rn, rd }) => {
      const n = b.x(rn, sf);
      const one = b.c(n, 1);
      // Ones where a bit differs from the one above it, below a one that stops the count at width - 1.
      b.setX(rd, b.clz(b.or(b.shl(b.xor(n, b.shrS(n, one)), one), one)));
    },
    { cold: true },
  ),

  // Two sources
  insn('UDIV_SDIV', 'sf! 00 11010110 rm:5 00001 signed! rn:5 rd:5', (b, { sf, signed, rm, rn, rd }) =>
    b.setX(rd, divide(b, b.x(rn, sf), b.x(rm, sf), signed)),
  ),
  insn('shift_var', 'sf! 00 11010110 rm:5 0010 type!:2 rn:5 rd:5', (b, { sf, type, rm, rn, rd }) => {
    const n = b.x(rn, sf);
    const m = b.x(rm, sf);
    b.setX(rd, type === 0 ? b.shl(n, m) : type === 1 ? b.shrU(n, m) : type === 2 ? b.shrS(n, m) : b.rotr(n, m));
  }),
  insn(
    'CRC32',
    'sf 00 11010110 rm:5 010 c! size!:2 rn:5 rd:5',
    (b, { c, size, rm, rn, rd }) => b.setX(rd, crc32(b, b.x(rn, 0), b.x(rm), size, POLYNOMIAL[c])),
    { feat: 'CRC32', when: (f) => f.sf === (f.size === 3 ? 1 : 0), cold: true },
  ),

  // Three sources
  insn('MADD_MSUB', 'sf! 00 11011 000 rm:5 sub! ra:5 rn:5 rd:5', (b, { sf, sub, rm, ra, rn, rd }) => {
    const product = b.mul(b.x(rn, sf), b.x(rm, sf));
    const a = b.x(ra, sf);
    b.setX(rd, sub ? b.sub(a, product) : b.add(a, product));
  }),
  insn('MADDL_MSUBL', '1 00 11011 u! 01 rm:5 sub! ra:5 rn:5 rd:5', (b, { u, sub, rm, ra, rn, rd }) => {
    const [n, m] = [b.x(rn, 0), b.x(rm, 0)];
    const product = u ? b.mul(b.extU(n), b.extU(m)) : b.mul(b.extS(n), b.extS(m));
    const a = b.x(ra);
    b.setX(rd, sub ? b.sub(a, product) : b.add(a, product));
  }),
  insn(
    'MULH',
    '1 00 11011 u! 10 rm:5 0 xxxxx rn:5 rd:5',
    (b, { u, rm, rn, rd }) => b.setX(rd, u ? mulHighU(b, b.x(rn), b.x(rm)) : mulHighS(b, b.x(rn), b.x(rm))),
    { cold: (f) => f.u === 0 },
  ),
];
