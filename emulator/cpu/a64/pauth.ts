/**
 * Pointer authentication (FEAT_PAuth2 with FEAT_FPACCOMBINE; Arm ARM C4.1.87, D8.10). The algorithm is IMPLEMENTATION DEFINED, as
 * ID_AA64ISAR1_EL1.API says: `ComputePAC` below, fast and of no cryptographic strength.
 *
 * On a CPU without the feature the forms in hint space are hints (system.ts) and the others UNDEFINED.
 */
import { signExtend } from '../../base/bits.ts';
import type { Builder, I32, I64 } from '../builder.ts';
import { type Insn, insn, type Raw } from '../insn.ts';
import { isVeneer } from './branches.ts';
import { KEY } from '../pointer-authentication.ts';
import { cellOf } from '../sysregs.ts';
import { VP } from '../vp-state.ts';

const KEY_REGISTERS = ['APIA', 'APIB', 'APDA', 'APDB', 'APGA'].map((k) => ({
  lo: cellOf(`${k}KeyLo_EL1`),
  hi: cellOf(`${k}KeyHi_EL1`),
}));
const GENERIC = 4;
const BIT55 = 1n << 55n;

/** 64 bits of which the upper are used. Every bit of pointer, modifier and key counts. */
function computePac(b: Builder, pointer: I64, modifier: I64, key: number): I64 {
  const { lo, hi } = KEY_REGISTERS[key];
  const p = b.mul(b.xor(pointer, b.cell(lo)), b.i64(0x9e3779b97f4a7c15n));
  const m = b.mul(b.xor(modifier, b.cell(hi)), b.i64(0xc2b2ae3d27d4eb4fn));
  const h = b.xor(p, b.rotr(m, b.i64(32)));
  return b.mul(b.xor(h, b.shrU(h, b.i64(29))), b.i64(0xd6e8feb86659fd93n));
}

/** Bits of the code in a pointer to the half of the address space that `upper` says. */
const maskOf = (b: Builder, upper: I32, data: boolean): I64 => {
  const at = VP.PAC_MASK + (data ? 16 : 0);
  return b.select(upper, b.cell(at + 8), b.cell(at));
};
/** The pointer with the extension bits that it has without a code. */
const extended = (b: Builder, pointer: I64, upper: I32, mask: I64): I64 => {
  const field = b.or(mask, b.i64(BIT55));
  return b.select(upper, b.or(pointer, field), b.and(pointer, b.not(field)));
};
const isSet = (b: Builder, v: I64, bit: I64): I32 => b.ne(b.and(v, bit), b.i64(0));
const enabled = (b: Builder, key: number): I32 => b.cell32(VP.PAC_ENABLED + 4 * key);

/** AddPAC, or the pointer itself while the key is not in use. */
function sign(b: Builder, pointer: I64, modifier: I64, key: number): I64 {
  const data = key >= KEY.DA;
  const upper = isSet(b, pointer, b.cell(VP.PAC_SELECT + (data ? 8 : 0)));
  const mask = maskOf(b, upper, data);
  const pac = computePac(b, extended(b, pointer, upper, mask), modifier, key);
  const mixed = b.and(b.xor(pointer, b.and(pac, mask)), b.i64(~BIT55));
  const signed = b.or(mixed, b.select(upper, b.i64(BIT55), b.i64(0)));
  return b.select(enabled(b, key), signed, pointer);
}

/** Auth: the pointer without its code, which must be right, or what came while the key is not in use. */
function authenticate(b: Builder, pointer: I64, modifier: I64, key: number): I64 {
  const data = key >= KEY.DA;
  const upper = isSet(b, pointer, b.i64(BIT55));
  const mask = maskOf(b, upper, data);
  const original = extended(b, pointer, upper, mask);
  const pac = computePac(b, original, modifier, key);
  const wrong = b.ne(b.xor(pointer, b.and(pac, mask)), original);
  const on = enabled(b, key);
  const result = b.select(on, original, pointer);
  b.if(b.and(wrong, on), () => b.exit('pac-fail'));
  return result;
}

/** Strip. */
function strip(b: Builder, pointer: I64, data: boolean): I64 {
  const upper = isSet(b, pointer, b.i64(BIT55));
  return extended(b, pointer, upper, maskOf(b, upper, data));
}

/** MSR of a key register: CRm 1 and 2 have four, 3 has two (Arm ARM D19.2.18 and following). */
const isKeyRegister = (f: Raw): boolean => f.crm === 1 || f.crm === 2 || (f.crm === 3 && f.op2 < 2);
const keyCell = (f: Raw): number => {
  const { lo, hi } = KEY_REGISTERS[(f.crm - 1) * 2 + (f.op2 >> 1)];
  return f.op2 & 1 ? hi : lo;
};

const offset10 = (f: Raw): bigint => BigInt(signExtend((f.s << 9) | f.imm, 10) * 8);

/** The key that an instruction authenticates with: what the syndrome of a failure tells. */
export const authenticationKey = (row: Insn, f: Raw): number => (row.name === 'LDRA' ? KEY.DA : (f.d ?? 0) * 2) + f.b;

export const rows: Insn[] = [
  // Hint space: X30 with SP or zero, X17 with X16.
  insn(
    'PAC_AUT_LR',
    '1101010100 0 00 011 0010 0011 aut! b! sp! 11111',
    (b, { aut, b: keyB, sp }) => {
      const modifier = sp ? b.sp() : b.i64(0);
      b.setFixedX(30, (aut ? authenticate : sign)(b, b.fixedX(30), modifier, keyB));
    },
    { feat: 'PAuth', cold: (f) => f.sp === 0 },
  ),
  insn(
    'PAC_AUT_1716',
    '1101010100 0 00 011 0010 0001 aut! b! 0 11111',
    (b, { aut, b: keyB }) => b.setFixedX(17, (aut ? authenticate : sign)(b, b.fixedX(17), b.fixedX(16), keyB)),
    { feat: 'PAuth', cold: true },
  ),
  insn('XPACLRI', '1101010100 0 00 011 0010 0000 111 11111', (b) => b.setFixedX(30, strip(b, b.fixedX(30), false)), {
    feat: 'PAuth',
    cold: true,
  }),

  // Data processing, one and two sources
  insn(
    'PAC_AUT',
    '1 1 0 11010110 00001 00 z! aut! d! b! rn:5 rd:5',
    (b, { z, aut, d, b: keyB, rn, rd }) => {
      const modifier = z ? b.i64(0) : b.xOrSP(rn);
      b.setX(rd, (aut ? authenticate : sign)(b, b.x(rd), modifier, d * 2 + keyB));
    },
    { feat: 'PAuth', when: (f) => f.z === 0 || f.rn === 31, cold: true },
  ),
  insn('XPAC', '1 1 0 11010110 00001 01000 d! 11111 rd:5', (b, { d, rd }) => b.setX(rd, strip(b, b.x(rd), d === 1)), {
    feat: 'PAuth',
    cold: true,
  }),
  insn(
    'PACGA',
    '1 0 0 11010110 rm:5 001100 rn:5 rd:5',
    (b, { rm, rn, rd }) => b.setX(rd, b.and(computePac(b, b.x(rn), b.xOrSP(rm), GENERIC), b.i64(-1n << 32n))),
    { feat: 'PAuth', cold: true },
  ),

  // Branches
  insn(
    'BRA_BLRA',
    '1101011 z! 0 0 l! 11111 0000 1 b! rn:5 rm:5',
    (b, { z, l, b: keyB, rn, rm, veneer }) => {
      const target = authenticate(b, b.x(rn), z ? b.xOrSP(rm) : b.i64(0), keyB);
      if (l) b.setLink(b.add(b.pc(), b.i64(4)));
      b.jump(target, l ? 'call' : veneer ? 'veneer' : 'jump');
    },
    { feat: 'PAuth', when: (f) => f.z === 1 || f.rm === 31, pick: { veneer: [2, isVeneer] }, cold: true },
  ),
  insn(
    'RETA',
    '1101011 0 0 10 11111 0000 1 b! 11111 11111',
    (b, { b: keyB }) => b.jump(authenticate(b, b.fixedX(30), b.sp(), keyB)),
    { feat: 'PAuth' },
  ),
  // The return address is authenticated here and handed over in JUNK; ELR_EL1 keeps its code.
  insn(
    'ERETA',
    '1101011 0 1 00 11111 0000 1 b! 11111 11111',
    (b, { b: keyB }) => {
      const target = authenticate(b, b.cell(cellOf('ELR_EL1')), b.sp(), keyB);
      b.setCell(VP.JUNK, target);
      b.exit('eret');
    },
    { feat: 'PAuth', cold: true },
  ),

  // LDRAA, LDRAB
  insn(
    'LDRA',
    '11 111 0 00 b! s 1 imm:9 w! 1 rn:5 rt:5',
    (b, { b: keyB, w, rn, rt }) => {
      const address = b.add(authenticate(b, b.xOrSP(rn), b.i64(0), KEY.DA + keyB), b.imm(offset10));
      const m = b.mem(address, 8, 'r');
      const value = b.load('i64.load', m) as I64;
      if (w) b.setXOrSP(rn, address);
      b.setX(rt, value);
    },
    { feat: 'PAuth', cold: true },
  ),

  // Kernels write keys at every entry and exit: plain stores at EL1.
  insn(
    'MSR_key',
    '1101010100 0 1 1 000 0010 crm:4 op2:3 rt:5',
    (b, { rt }) =>
      b.if(
        b.cell32(VP.EL1),
        () => b.setCell(keyCell, b.x(rt)),
        () => b.exit('msr'),
      ),
    { feat: 'PAuth', when: isKeyRegister },
  ),
];
