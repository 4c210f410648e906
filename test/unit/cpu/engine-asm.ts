/** A64 instruction words for tests, named as the assembler does (Arm ARM C6.2). */
const w = (v: number): number => v >>> 0;

/** Offsets of the vectors that tests use (Arm ARM D1.3.1.5). */
export const VECTOR = { SYNC_EL1H: 0x200, IRQ_EL1H: 0x280 } as const;

export const nop = () => 0xd503201f;
export const udf = () => 0;
export const wfi = () => 0xd503207f;
export const hvc = (imm: number) => w(0xd4000002 | (imm << 5));
export const daifClr = (imm: number) => w(0xd50340ff | (imm << 8));
export const tlbiVmalle1 = () => 0xd508871f;
/** TLBI VAAE1, Xt */
export const tlbiVaae1 = (rt: number) => w(0xd5088760 | rt);
export const mrsNzcv = (rd: number) => w(0xd53b4200 | rd);

export const movz = (rd: number, imm: number) => w(0xd2800000 | (imm << 5) | rd);
export const addImm = (rd: number, rn: number, imm: number) => w(0x91000000 | (imm << 10) | (rn << 5) | rd);
export const subsImm = (rd: number, rn: number, imm: number) => w(0xf1000000 | (imm << 10) | (rn << 5) | rd);
export const add = (rd: number, rn: number, rm: number) => w(0x8b000000 | (rm << 16) | (rn << 5) | rd);
export const subs = (sf: number, rd: number, rn: number, rm: number) => w((sf << 31) | 0x6b000000 | (rm << 16) | (rn << 5) | rd);
export const adds = (sf: number, rd: number, rn: number, rm: number) => w((sf << 31) | 0x2b000000 | (rm << 16) | (rn << 5) | rd);
export const ands = (sf: number, rd: number, rn: number, rm: number) => w((sf << 31) | 0x6a000000 | (rm << 16) | (rn << 5) | rd);
/** ORR Xd, Xn, Xm, LSL #amount */
export const orrShifted = (rd: number, rn: number, rm: number, amount: number) =>
  w(0xaa000000 | (rm << 16) | (amount << 10) | (rn << 5) | rd);
/** CSET Xd, cond */
export const cset = (rd: number, cond: number) => w(0x9a9f07e0 | ((cond ^ 1) << 12) | rd);

export const b = (offset: number) => w(0x14000000 | ((offset >> 2) & 0x3ffffff));
export const bl = (offset: number) => w(0x94000000 | ((offset >> 2) & 0x3ffffff));
export const bcond = (cond: number, offset: number) => w(0x54000000 | (((offset >> 2) & 0x7ffff) << 5) | cond);
export const br = (rn: number) => w(0xd61f0000 | (rn << 5));
export const ret = () => 0xd65f03c0;

export const ldr = (rt: number, rn: number, offset: number) => w(0xf9400000 | ((offset >> 3) << 10) | (rn << 5) | rt);
export const str = (rt: number, rn: number, offset: number) => w(0xf9000000 | ((offset >> 3) << 10) | (rn << 5) | rt);
export const ldrW = (rt: number, rn: number, offset: number) => w(0xb9400000 | ((offset >> 2) << 10) | (rn << 5) | rt);
export const strW = (rt: number, rn: number, offset: number) => w(0xb9000000 | ((offset >> 2) << 10) | (rn << 5) | rt);
export const ldrb = (rt: number, rn: number, offset: number) => w(0x39400000 | (offset << 10) | (rn << 5) | rt);
export const ldrPost = (rt: number, rn: number, offset: number) => w(0xf8400400 | ((offset & 0x1ff) << 12) | (rn << 5) | rt);
export const strPost = (rt: number, rn: number, offset: number) => w(0xf8000400 | ((offset & 0x1ff) << 12) | (rn << 5) | rt);
export const ldp = (rt: number, rt2: number, rn: number, offset: number) =>
  w(0xa9400000 | ((offset >> 3) << 15) | (rt2 << 10) | (rn << 5) | rt);
export const stp = (rt: number, rt2: number, rn: number, offset: number) =>
  w(0xa9000000 | ((offset >> 3) << 15) | (rt2 << 10) | (rn << 5) | rt);
export const ldxr = (rt: number, rn: number) => w(0xc85f7c00 | (rn << 5) | rt);
export const stxr = (rs: number, rt: number, rn: number) => w(0xc8007c00 | (rs << 16) | (rn << 5) | rt);
