/** Data processing, immediate (Arm ARM C4.1.86). */
import { signExtend } from '../../base/bits.ts';
import { type Insn, insn, type Raw } from '../insn.ts';
import { DecodeBitMasks, datasize } from './pseudocode.ts';

const bitmask = (f: Raw): bigint | undefined => DecodeBitMasks(f.n, f.imms, f.immr, datasize(f));
/** ADR's offset in bytes, ADRP's in pages. */
const relative = (f: Raw): number => signExtend((f.immhi << 2) | f.immlo, 21);
const arithImmediate = (f: Raw): number => (f.sh ? f.imm * 4096 : f.imm);

/** Bitfield moves: N and the width agree, and a W form has no bit numbers above 31. */
const bitfieldValid = (f: Raw): boolean => f.n === f.sf && (f.sf === 1 || (f.immr < 32 && f.imms < 32));

/**
 * SBFM and UBFM, both the extracting (imms >= immr) and the inserting form: shift the field's top bit up to the register's, then
 * down to where its lowest bit belongs. The second amount is taken modulo the width.
 */
const toTop = (f: Raw): number => datasize(f) - 1 - f.imms;
const toPlace = (f: Raw): number => (f.immr - f.imms - 1) & (datasize(f) - 1);

/** The bits that BFM takes from its (rotated) source. */
function insertMask(f: Raw): bigint {
  const width = datasize(f);
  const inserting = f.imms < f.immr;
  const length = BigInt(inserting ? f.imms + 1 : f.imms - f.immr + 1);
  return ((1n << length) - 1n) << BigInt(inserting ? width - f.immr : 0);
}

const movWideValid = (f: Raw): boolean => f.sf === 1 || f.hw < 2;
const movWide = (f: Raw): bigint => BigInt(f.imm) << BigInt(16 * f.hw);

export const rows: Insn[] = [
  // PC-relative addressing
  insn('ADR', '0 immlo:2 10000 immhi:19 rd:5', (b, { rd }) => b.setX(rd, b.add(b.pc(), b.imm(relative)))),
  insn('ADRP', '1 immlo:2 10000 immhi:19 rd:5', (b, { rd }) => {
    const offset = b.imm((f) => relative(f) * 4096);
    b.setX(rd, b.add(b.and(b.pc(), b.i64(-4096)), offset));
  }),

  // Add and subtract. The forms that set no flags share a handler: subtracting is adding the negated immediate.
  insn('ADD_SUB_imm', 'sf! op 0 100010 sh imm:12 rn:5 rd:5', (b, { sf, rn, rd }) => {
    const imm = b.immW(sf, (f) => (f.op ? -arithImmediate(f) : arithImmediate(f)));
    b.setXOrSP(rd, b.add(b.xOrSP(rn, sf), imm));
  }),
  insn('ADDS_SUBS_imm', 'sf! op! 1 100010 sh imm:12 rn:5 rd:5', (b, { sf, op, rn, rd }) => {
    const n = b.xOrSP(rn, sf);
    const imm = b.immW(sf, arithImmediate);
    if (op) b.flagsSub(n, imm);
    else b.flagsAdd(n, imm);
    b.setX(rd, op ? b.sub(n, imm) : b.add(n, imm));
  }),

  // Logical
  insn(
    'logical_imm',
    'sf! opc!:2 100100 n immr:6 imms:6 rn:5 rd:5',
    (b, { sf, opc, rn, rd }) => {
      const n = b.x(rn, sf);
      const imm = b.immW(sf, (f) => BigInt.asIntN(datasize(f), bitmask(f)!));
      const result = opc === 1 ? b.or(n, imm) : opc === 2 ? b.xor(n, imm) : b.and(n, imm);
      if (opc === 3) {
        b.flagsLogic(result);
        b.setX(rd, result);
      } else b.setXOrSP(rd, result);
    },
    { when: (f) => bitmask(f) !== undefined },
  ),

  // Move wide
  insn(
    'MOVN',
    'sf 00 100101 hw:2 imm:16 rd:5',
    (b, { rd }) => {
      const inverted = b.imm((f) => BigInt.asUintN(datasize(f), ~movWide(f)));
      b.setX(rd, inverted);
    },
    { when: movWideValid },
  ),
  insn('MOVZ', 'sf 10 100101 hw:2 imm:16 rd:5', (b, { rd }) => b.setX(rd, b.imm(movWide)), { when: movWideValid }),
  insn(
    'MOVK',
    'sf 11 100101 hw:2 imm:16 rd:5',
    (b, { rd }) => {
      const kept = b.imm((f) => BigInt.asUintN(datasize(f), ~(0xffffn << BigInt(16 * f.hw))));
      b.setX(rd, b.or(b.and(b.x(rd), kept), b.imm(movWide)));
    },
    { when: movWideValid },
  ),

  // Bitfield
  insn(
    'SBFM_UBFM',
    'sf! u! 0 100110 n immr:6 imms:6 rn:5 rd:5',
    (b, { sf, u, rn, rd }) => {
      const top = b.shl(b.x(rn, sf), b.immW(sf, toTop));
      const down = b.immW(sf, toPlace);
      b.setX(rd, u ? b.shrU(top, down) : b.shrS(top, down));
    },
    { when: bitfieldValid },
  ),
  insn(
    'BFM',
    'sf! 01 100110 n immr:6 imms:6 rn:5 rd:5',
    (b, { sf, rn, rd }) => {
      const rotation = b.immW(sf, (f) => f.immr);
      const mask = b.immW(sf, (f) => BigInt.asIntN(datasize(f), insertMask(f)));
      const source = b.rotr(b.x(rn, sf), rotation);
      const old = b.x(rd, sf);
      b.setX(rd, b.xor(old, b.and(b.xor(old, source), mask)));
    },
    { when: bitfieldValid },
  ),

  // Extract. The shift by one first makes lsb = 0 come out right although wasm takes amounts modulo the width.
  insn(
    'EXTR',
    'sf! 00 100111 n 0 rm:5 imms:6 rn:5 rd:5',
    (b, { sf, rm, rn, rd }) => {
      const lsb = b.immW(sf, (f) => f.imms);
      const rest = b.immW(sf, (f) => datasize(f) - 1 - f.imms);
      const n = b.x(rn, sf);
      b.setX(rd, b.or(b.shrU(b.x(rm, sf), lsb), b.shl(b.shl(n, b.c(n, 1)), rest)));
    },
    { when: (f) => f.n === f.sf && (f.sf === 1 || f.imms < 32) },
  ),
];
