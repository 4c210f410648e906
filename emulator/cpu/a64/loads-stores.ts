/**
 * Loads and stores of general registers (Arm ARM C4.1.88): every addressing mode, pairs, literals, acquire/release and
 * exclusives. Those of SIMD&FP registers are in simd-loads-stores.ts; atomics are in atomics.ts.
 *
 * Order in every row: address, check (`mem`), memory, then registers. The destination is written before the base: where
 * both are the same register (CONSTRAINED UNPREDICTABLE) the updated base stays.
 */
import { signExtend } from '../../base/bits.ts';
import type { Builder, I32, I64, Int, MemOptions } from '../builder.ts';
import { type Insn, insn, type Operand, type Raw } from '../insn.ts';
import { VP } from '../vp-state.ts';

const STORES = ['i64.store8', 'i64.store16', 'i64.store32', 'i64.store'];
const LOADS = ['i64.load8_u', 'i64.load16_u', 'i64.load32_u', 'i64.load'];

/** Zero-extending load and store of 1 << size bytes. */
export const loadZ = (b: Builder, size: number, m: I32, offset = 0): I64 => b.load(LOADS[size], m, offset) as I64;
export const storeX = (b: Builder, size: number, m: I32, v: I64, offset = 0): void => b.store(STORES[size], m, v, offset);

/**
 * Single-register transfers by size:opc, in order and without the holes: opc 00 stores, 01 loads, 10 and 11 load with
 * sign extension to 64 and to 32 bits. 1011 and 1111 are unallocated, 1110 is the prefetch where there is one.
 */
const ACCESSES = [
  'i64.store8',
  'i64.load8_u',
  'i64.load8_s',
  'i32.load8_s',
  'i64.store16',
  'i64.load16_u',
  'i64.load16_s',
  'i32.load16_s',
  'i64.store32',
  'i64.load32_u',
  'i64.load32_s',
  'i64.store',
  'i64.load',
];
const isAccess = (f: Raw): boolean => f.opc < 2 || f.size < 2 || (f.size === 2 && f.opc === 2);
const access = [ACCESSES.length, (f: Raw): number => (isAccess(f) ? f.size * 4 + f.opc - (f.size === 3 ? 1 : 0) : 0)] as const;
const sizeOf = (access: number): number => (access < 11 ? access >> 2 : 3);
const isStore = (access: number): boolean => ACCESSES[access].includes('store');
const extendsSign = (f: Raw): boolean => ACCESSES[f.access].endsWith('_s');
const extendsSignTo32 = (f: Raw): boolean => /^i32.*_s$/.test(ACCESSES[f.access]);

interface Transfer {
  readonly access: number;
  readonly rt: Operand;
}

/** The access itself, then the new base if there is one. */
function transfer(b: Builder, { access, rt }: Transfer, address: I64, options: MemOptions = {}, writeback?: () => void): void {
  const m = b.mem(address, 1 << sizeOf(access), isStore(access) ? 'w' : 'r', options);
  if (isStore(access)) b.store(ACCESSES[access], m, b.x(rt));
  else b.setX(rt, b.load(ACCESSES[access], m) as Int);
  writeback?.();
}

const offset9 = (f: Raw): number => signExtend(f.imm, 9);
const offset19 = (f: Raw): number => signExtend(f.imm, 19) * 4;
/** Register offset: option 010 UXTW, 011 LSL, 110 SXTW, 111 SXTX; the others are unallocated. */
const UXTW = 0;
const SXTW = 1;
const UXTX = 2;
const offsetExtend = (f: Raw): number => (f.option & 1 ? UXTX : f.option === 2 ? UXTW : SXTW);

/** Pairs by opc:L, without the holes: STP W, LDP W, LDPSW, STP X, LDP X. opc 01 with L = 0 is STGP (MTE), 11 unallocated. */
const PAIRS = ['i64.store32', 'i64.load32_u', 'i64.load32_s', 'i64.store', 'i64.load'];
const LDPSW = 2;
const isPair = (f: Raw): boolean => f.opc === 0 || f.opc === 2 || (f.opc === 1 && f.l === 1);
const pair = [PAIRS.length, (f: Raw): number => (isPair(f) ? [0, 1, 3][f.opc] + f.l : 0)] as const;
const pairOffset = (f: Raw): number => signExtend(f.imm, 7) * (f.opc === 2 ? 8 : 4);

interface Pair {
  readonly pair: number;
  readonly rt: Operand;
  readonly rt2: Operand;
}

function transferPair(b: Builder, { pair, rt, rt2 }: Pair, address: I64, writeback?: () => void): void {
  const op = PAIRS[pair];
  const bytes = pair > LDPSW ? 8 : 4;
  const store = op.includes('store');
  const m = b.mem(address, 2 * bytes, store ? 'w' : 'r');
  if (store) {
    b.store(op, m, b.x(rt));
    b.store(op, m, b.x(rt2), bytes);
  } else {
    const [first, second] = [b.load(op, m) as I64, b.load(op, m, bytes) as I64];
    b.setX(rt, first);
    b.setX(rt2, second);
  }
  writeback?.();
}

/**
 * The local monitor: what `AArch64.SetExclusiveMonitors` and `ExclusiveMonitorsPass` (Arm ARM J1.1.2) keep, here the virtual address
 * and the size. A store fails without access faults only after its checks: the Arm ARM leaves that order open.
 */
function setMonitor(b: Builder, address: I64, bytes: number): void {
  b.setCell(VP.EXCL_ADDR, address);
  b.setCell(VP.EXCL_SIZE, b.i32(bytes));
}
function storeExclusive(b: Builder, rs: Operand, address: I64, bytes: number, store: (m: I32) => void): void {
  const m = b.mem(address, bytes, 'w', { align: bytes });
  const pass = b.and(b.eq(b.cell(VP.EXCL_ADDR), address), b.eq(b.cell32(VP.EXCL_SIZE), b.i32(bytes)));
  b.if(pass, () => store(m));
  b.setCell(VP.EXCL_SIZE, b.i32(0));
  b.setX(rs, b.eqz(pass));
}

const nop = (): void => {};

export const rows: Insn[] = [
  // Unsigned immediate
  insn(
    'LDR_STR_imm',
    'size:2 111 0 01 opc:2 imm:12 rn:5 rt:5',
    (b, { access, rn, rt }) =>
      transfer(
        b,
        { access, rt },
        b.add(
          b.xOrSP(rn),
          b.imm((f) => f.imm << f.size),
        ),
      ),
    { when: isAccess, pick: { access }, cold: extendsSignTo32 },
  ),
  insn('PRFM_imm', '11 111 0 01 10 imm:12 rn:5 rt:5', nop),

  // Unscaled, post- and pre-indexed, unprivileged
  insn(
    'LDUR_STUR',
    'size:2 111 0 00 opc:2 0 imm:9 00 rn:5 rt:5',
    (b, { access, rn, rt }) => transfer(b, { access, rt }, b.add(b.xOrSP(rn), b.imm(offset9))),
    { when: isAccess, pick: { access }, cold: extendsSignTo32 },
  ),
  insn('PRFUM', '11 111 0 00 10 0 imm:9 00 rn:5 rt:5', nop),
  insn(
    'LDR_STR_indexed',
    'size:2 111 0 00 opc:2 0 imm:9 pre 1 rn:5 rt:5',
    (b, { access, rn, rt }) => {
      const base = b.xOrSP(rn);
      const before = b.imm((f) => (f.pre ? offset9(f) : 0));
      transfer(b, { access, rt }, b.add(base, before), {}, () => b.setXOrSP(rn, b.add(base, b.imm(offset9))));
    },
    { when: isAccess, pick: { access }, cold: extendsSign },
  ),
  insn(
    'LDTR_STTR',
    'size:2 111 0 00 opc:2 0 imm:9 10 rn:5 rt:5',
    (b, { access, rn, rt }) => transfer(b, { access, rt }, b.add(b.xOrSP(rn), b.imm(offset9)), { unprivileged: true }),
    { when: isAccess, pick: { access }, cold: (f) => extendsSign(f) || sizeOf(f.access) === 1 },
  ),

  // Register offset
  insn(
    'LDR_STR_reg',
    'size:2 111 0 00 opc:2 1 rm:5 option:3 s 10 rn:5 rt:5',
    (b, { access, extend, rm, rn, rt }) => {
      const index = extend === UXTW ? b.extU(b.x(rm, 0)) : extend === SXTW ? b.extS(b.x(rm, 0)) : b.x(rm);
      const amount = b.imm((f) => (f.s ? f.size : 0));
      transfer(b, { access, rt }, b.add(b.xOrSP(rn), b.shl(index, amount)));
    },
    {
      when: (f) => isAccess(f) && (f.option & 2) !== 0,
      pick: { access, extend: [3, offsetExtend] },
      cold: (f) => extendsSign(f) || (f.extend !== UXTX && sizeOf(f.access) === 1),
    },
  ),
  insn('PRFM_reg', '11 111 0 00 10 1 rm:5 x1x s 10 rn:5 rt:5', nop),

  // Literal
  insn('LDR_lit', '0 sf! 011 0 00 imm:19 rt:5', (b, { sf, rt }) => {
    const m = b.mem(b.add(b.pc(), b.imm(offset19)), sf ? 8 : 4, 'r');
    b.setX(rt, loadZ(b, sf ? 3 : 2, m));
  }),
  insn(
    'LDRSW_lit',
    '10 011 0 00 imm:19 rt:5',
    (b, { rt }) => {
      const m = b.mem(b.add(b.pc(), b.imm(offset19)), 4, 'r');
      b.setX(rt, b.load('i64.load32_s', m) as I64);
    },
    { cold: true },
  ),
  insn('PRFM_lit', '11 011 0 00 imm:19 rt:5', nop),

  // Pairs. The non-temporal form (bit 24 = 0, no LDPSW) is a hint about caching.
  insn(
    'LDP_STP',
    'opc:2 101 0 0 offset 0 l imm:7 rt2:5 rn:5 rt:5',
    (b, { pair, rn, rt, rt2 }) => transferPair(b, { pair, rt, rt2 }, b.add(b.xOrSP(rn), b.imm(pairOffset))),
    { when: (f) => isPair(f) && (f.offset === 1 || f.opc !== 1), pick: { pair } },
  ),
  insn(
    'LDP_STP_indexed',
    'opc:2 101 0 0 pre 1 l imm:7 rt2:5 rn:5 rt:5',
    (b, { pair, rn, rt, rt2 }) => {
      const base = b.xOrSP(rn);
      const before = b.imm((f) => (f.pre ? pairOffset(f) : 0));
      transferPair(b, { pair, rt, rt2 }, b.add(base, before), () => b.setXOrSP(rn, b.add(base, b.imm(pairOffset))));
    },
    { when: isPair, pick: { pair }, cold: (f) => f.pair === LDPSW },
  ),

  // Load-acquire, store-release: one VP runs at a time, so program order is the only order there is.
  insn('LDAR', 'size!:2 001000 1 1 0 xxxxx 1 xxxxx rn:5 rt:5', loadOrdered),
  insn('STLR', 'size!:2 001000 1 0 0 xxxxx 1 xxxxx rn:5 rt:5', storeOrdered),
  insn('LDLAR', 'size!:2 001000 1 1 0 xxxxx 0 xxxxx rn:5 rt:5', loadOrdered, { feat: 'LOR', cold: true }),
  insn('STLLR', 'size!:2 001000 1 0 0 xxxxx 0 xxxxx rn:5 rt:5', storeOrdered, { feat: 'LOR', cold: true }),
  insn('LDAPR', 'size!:2 111 0 00 1 0 1 11111 1 100 00 rn:5 rt:5', loadOrdered, { feat: 'LRCPC', cold: true }),
  insn(
    'LDAPUR_STLUR',
    'size:2 011 0 01 opc:2 0 imm:9 00 rn:5 rt:5',
    (b, { access, rn, rt }) =>
      transfer(b, { access, rt }, b.add(b.xOrSP(rn), b.imm(offset9)), { align: 1 << sizeOf(access), ordered: true }),
    { feat: 'LRCPC2', when: isAccess, pick: { access }, cold: true },
  ),

  // Exclusives
  insn(
    'LDXR',
    'size!:2 001000 0 1 0 xxxxx o0 xxxxx rn:5 rt:5',
    (b, { size, rn, rt }) => {
      const address = b.xOrSP(rn);
      const m = b.mem(address, 1 << size, 'r', { align: 1 << size });
      setMonitor(b, address, 1 << size);
      b.setX(rt, loadZ(b, size, m));
    },
    { cold: (f) => f.size < 2 },
  ),
  insn(
    'STXR',
    'size!:2 001000 0 0 0 rs:5 o0 xxxxx rn:5 rt:5',
    (b, { size, rs, rn, rt }) => {
      const value = b.x(rt);
      storeExclusive(b, rs, b.xOrSP(rn), 1 << size, (m) => storeX(b, size, m, value));
    },
    { cold: (f) => f.size < 2 },
  ),
  insn(
    'LDXP',
    '1 sf! 001000 0 1 1 xxxxx o0 rt2:5 rn:5 rt:5',
    (b, { sf, rn, rt, rt2 }) => {
      const bytes = sf ? 8 : 4;
      const address = b.xOrSP(rn);
      const m = b.mem(address, 2 * bytes, 'r', { align: 2 * bytes });
      const first = loadZ(b, sf ? 3 : 2, m);
      const second = loadZ(b, sf ? 3 : 2, m, bytes);
      setMonitor(b, address, 2 * bytes);
      b.setX(rt, first);
      b.setX(rt2, second);
    },
    { cold: true },
  ),
  insn(
    'STXP',
    '1 sf! 001000 0 0 1 rs:5 o0 rt2:5 rn:5 rt:5',
    (b, { sf, rs, rn, rt, rt2 }) => {
      const bytes = sf ? 8 : 4;
      const first = b.x(rt);
      const second = b.x(rt2);
      storeExclusive(b, rs, b.xOrSP(rn), 2 * bytes, (m) => {
        storeX(b, sf ? 3 : 2, m, first);
        storeX(b, sf ? 3 : 2, m, second, bytes);
      });
    },
    { cold: true },
  ),
];

interface Ordered {
  readonly size: number;
  readonly rn: Operand;
  readonly rt: Operand;
}
function loadOrdered(b: Builder, { size, rn, rt }: Ordered): void {
  const m = b.mem(b.xOrSP(rn), 1 << size, 'r', { align: 1 << size, ordered: true });
  b.setX(rt, loadZ(b, size, m));
}
function storeOrdered(b: Builder, { size, rn, rt }: Ordered): void {
  const m = b.mem(b.xOrSP(rn), 1 << size, 'w', { align: 1 << size, ordered: true });
  storeX(b, size, m, b.x(rt));
}
