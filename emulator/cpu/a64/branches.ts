/** Branches, exception generation (Arm ARM C4.1.87). */
import { signExtend } from '../../base/bits.ts';
import { type Insn, insn, type Raw } from '../insn.ts';

const offset26 = (f: Raw): number => signExtend(f.imm, 26) * 4;
const offset19 = (f: Raw): number => signExtend(f.imm, 19) * 4;
const offset14 = (f: Raw): number => signExtend(f.imm, 14) * 4;

/** BR by X16 or X17, as linkers' veneers do, may land where calls may (FEAT_BTI). */
export const isVeneer = (f: Raw): number => (f.rn === 16 || f.rn === 17 ? 1 : 0);

export const rows: Insn[] = [
  insn('B', '0 00101 imm:26', (b) => b.branch(offset26)),
  insn('BL', '1 00101 imm:26', (b) => {
    b.setLink(b.add(b.pc(), b.i64(4)));
    b.branch(offset26);
  }),
  insn(
    'B_cond',
    '01010100 imm:19 0 cond!:4',
    (b, { cond }) => (cond < 14 ? b.branchIf(b.cond(cond), offset19) : b.branch(offset19)),
    { cold: (f) => f.cond >= 14 },
  ),
  insn('CBZ_CBNZ', 'sf! 011010 nz! imm:19 rt:5', (b, { sf, nz, rt }) => {
    const t = b.x(rt, sf);
    b.branchIf(nz ? b.ne(t, b.c(t, 0)) : b.eqz(t), offset19);
  }),
  insn('TBZ_TBNZ', 'b5 011011 nz! b40:5 imm:14 rt:5', (b, { nz, rt }) => {
    const mask = b.imm((f) => BigInt.asIntN(64, 1n << BigInt((f.b5 << 5) | f.b40)));
    const bit = b.and(b.x(rt), mask);
    b.branchIf(nz ? b.ne(bit, b.i64(0)) : b.eqz(bit), offset14);
  }),
  insn('BR', '1101011 0000 11111 000000 rn:5 00000', (b, { rn, veneer }) => b.jump(b.x(rn), veneer ? 'veneer' : 'jump'), {
    pick: { veneer: [2, isVeneer] },
  }),
  insn('BLR', '1101011 0001 11111 000000 rn:5 00000', (b, { rn }) => {
    const target = b.x(rn);
    b.setLink(b.add(b.pc(), b.i64(4)));
    b.jump(target, 'call');
  }),
  insn('RET', '1101011 0010 11111 000000 rn:5 00000', (b, { rn }) => b.jump(b.x(rn))),
  insn('ERET', '1101011 0100 11111 000000 11111 00000', (b) => b.exit('eret')),

  // Exception generation
  insn('SVC', '11010100 000 imm:16 000 01', (b) => b.exit('svc')),
  insn('HVC', '11010100 000 imm:16 000 10', (b) => b.exit('hvc')),
  insn('SMC', '11010100 000 imm:16 000 11', (b) => b.exit('smc')),
  insn('BRK', '11010100 001 imm:16 000 00', (b) => b.exit('brk')),
  insn('HLT', '11010100 010 imm:16 000 00', (b) => b.exit('hlt')),
  insn('UDF', '0000000000000000 imm:16', (b) => b.exit('undef')),
];
