/** Atomic memory operations of FEAT_LSE (Arm ARM C4.1.88). One VP runs at a time: a plain load and store is atomic. */
import type { Builder, I64 } from '../builder.ts';
import { type Insn, insn, type Raw } from '../insn.ts';
import { VP } from '../vp-state.ts';
import { loadZ, storeX } from './loads-stores.ts';

/** opc: LDADD LDCLR LDEOR LDSET LDSMAX LDSMIN LDUMAX LDUMIN (ST* are the same with Rt = 31). */
const SMAX = 4;

/** Memory's new value. Sizes below 64 bits come zero-extended and are stored cut. */
function combine(b: Builder, opc: number, size: number, old: I64, operand: I64): I64 {
  if (opc === 0) return b.add(old, operand);
  if (opc === 1) return b.and(old, b.not(operand));
  if (opc === 2) return b.xor(old, operand);
  if (opc === 3) return b.or(old, operand);
  // Compared in the top bits of 64, where sizes differ in nothing.
  const up = b.i64(64 - (8 << size));
  const [o, s] = size === 3 ? [old, operand] : [b.shl(old, up), b.shl(operand, up)];
  const greater = opc < SMAX + 2 ? b.gtS(o, s) : b.gtU(o, s);
  return opc & 1 ? b.select(greater, operand, old) : b.select(greater, old, operand);
}

/**
 * X[rs + 1] or X[rt + 1] of a CASP pair (the first is even): a cell, as the second of pair 30 is XZR.
 * A pair is one 128- or 64-bit value with its first register at the lower address.
 */
const second =
  (field: 'rs' | 'rt', access: 'read' | 'write') =>
  (f: Raw): number =>
    f[field] === 30 ? (access === 'read' ? VP.ZERO : VP.JUNK) : VP.X + 8 * (f[field] + 1);

export const rows: Insn[] = [
  insn(
    'LD_atomic',
    'size!:2 111 0 00 a r 1 rs:5 0 opc!:3 00 rn:5 rt:5',
    (b, { size, opc, rs, rn, rt }) => {
      const operand = b.x(rs);
      const m = b.mem(b.xOrSP(rn), 1 << size, 'rw', { align: 1 << size });
      const old = loadZ(b, size, m);
      storeX(b, size, m, combine(b, opc, size, old, operand));
      b.setX(rt, old);
    },
    { feat: 'LSE', cold: (f) => f.size < 2 || f.opc === 2 || f.opc >= SMAX },
  ),
  insn(
    'SWP',
    'size!:2 111 0 00 a r 1 rs:5 1 000 00 rn:5 rt:5',
    (b, { size, rs, rn, rt }) => {
      const m = b.mem(b.xOrSP(rn), 1 << size, 'rw', { align: 1 << size });
      const old = loadZ(b, size, m);
      storeX(b, size, m, b.x(rs));
      b.setX(rt, old);
    },
    { feat: 'LSE', cold: (f) => f.size < 2 },
  ),
  insn(
    'CAS',
    'size!:2 001000 1 a 1 rs:5 r 11111 rn:5 rt:5',
    (b, { size, rs, rn, rt }) => {
      const expected = size === 3 ? b.x(rs) : b.and(b.x(rs), b.i64((1n << BigInt(8 << size)) - 1n));
      const m = b.mem(b.xOrSP(rn), 1 << size, 'rw', { align: 1 << size });
      const old = loadZ(b, size, m);
      b.if(b.eq(old, expected), () => storeX(b, size, m, b.x(rt)));
      b.setX(rs, old);
    },
    { feat: 'LSE', cold: (f) => f.size < 2 },
  ),
  insn(
    'CASP',
    '0 sf! 001000 0 a 1 rs:5 r 11111 rn:5 rt:5',
    (b, { sf, rs, rn, rt }) => {
      const size = sf ? 3 : 2;
      const bytes = 1 << size;
      const cut = (v: I64): I64 => (sf ? v : b.and(v, b.i64(0xffffffff)));
      const m = b.mem(b.xOrSP(rn), 2 * bytes, 'rw', { align: 2 * bytes });
      const low = loadZ(b, size, m);
      const high = loadZ(b, size, m, bytes);
      const same = b.and(b.eq(low, cut(b.x(rs))), b.eq(high, cut(b.cell(second('rs', 'read')))));
      b.if(same, () => {
        storeX(b, size, m, b.x(rt));
        storeX(b, size, m, b.cell(second('rt', 'read')), bytes);
      });
      b.setX(rs, low);
      b.setCell(second('rs', 'write'), high);
    },
    { feat: 'LSE', when: (f) => (f.rs & 1) === 0 && (f.rt & 1) === 0, cold: true },
  ),
];
