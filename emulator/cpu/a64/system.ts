/**
 * System instructions (Arm ARM C4.1.87: hints, barriers, PSTATE, system instructions, system register moves). What is a
 * plain cell of the VP or a store to PSTATE is done here; everything else leaves to TypeScript.
 */
import type { Builder, ExitKind, I32, I64 } from '../builder.ts';
import type { Feature } from '../features.ts';
import { type Insn, insn, type Raw } from '../insn.ts';
import { ZVA_BLOCK } from '../models.ts';
import { sysregCell, sysregClass } from '../sysregs.ts';
import { PSTATE, VP } from '../vp-state.ts';
import { packNZCV } from './pseudocode.ts';

const nop = (): void => {};

/** HINT #imm by CRm:op2 (Arm ARM C6.2.120). */
const YIELD = 1;
const WFE = 2;
const WFI = 3;
const SEV = 4;
const SEVL = 5;
/** BTI c, j and jc (CRm = 4): no more than hints, but the interpreter knows them by their handlers (branch-targets.ts). */
const BTI = SEVL;
const hintClass = (f: Raw): number =>
  f.crm === 0 && f.op2 <= SEVL ? f.op2 : f.crm === 4 && (f.op2 & 1) === 0 && f.op2 ? BTI + f.op2 / 2 : 0;

const C = 0x20000000;
const Z = 0x40000000;
const V = 0x10000000;

/** One flag of a packed NZCV as 0 or 1. */
const flag = (b: Builder, nzcv: I32, mask: number): I32 => b.ne(b.and(nzcv, b.i32(mask)), b.i32(0));

/** After PSTATE.{D,A,I,F} may have been cleared: an interrupt that waits is taken after this instruction. */
function checkInterrupts(b: Builder): void {
  b.if(b.cell32(VP.IRQ), () => b.exit('irq-check'));
}

/** Does it here when `enabled` (a cell that is 0 or 1) allows, else leaves to whoever decides about traps. */
function whenEnabled(b: Builder, enabled: number, exit: ExitKind, then: () => void): void {
  b.if(b.cell32(enabled), then, () => b.exit(exit));
}

/** op0:op1:CRn:CRm:op2 as one number, for the encodings that are named here. */
const encoding = (op0: number, op1: number, crn: number, crm: number, op2: number): number =>
  (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;
const encodingOf = (f: Raw): number => encoding(f.o0 + 2, f.op1, f.crn, f.crm, f.op2);
const register = (f: Raw) => ({ op0: f.o0 + 2, op1: f.op1, crn: f.crn, crm: f.crm, op2: f.op2 });
const cellOf = (f: Raw): number => sysregCell(register(f));

/** How MRS and MSR handle a register: the classes of sysregs.ts, and registers that are part of PSTATE or FP state. */
const EXIT = 0;
const EL1_CELL = 1;
const ANY_CELL = 2;
const NZCV = 3;
const DAIF = 4;
const FPCR = 5;
const FPSR = 6;
const CURRENT_EL = 7;
const SPECIAL = new Map([
  [encoding(3, 3, 4, 2, 0), NZCV],
  [encoding(3, 3, 4, 2, 1), DAIF],
  [encoding(3, 3, 4, 4, 0), FPCR],
  [encoding(3, 3, 4, 4, 1), FPSR],
  [encoding(3, 0, 4, 2, 2), CURRENT_EL],
]);
const moveClass =
  (write: boolean) =>
  (f: Raw): number =>
    SPECIAL.get(encodingOf(f)) ?? sysregClass(register(f), write);

/** Bits that exist: FPCR {AHP, DN, FZ, RMode, FZ16}, FPSR {QC, IDC, IXC, UFC, OFC, DZC, IOC} (Arm ARM C5.2.8, C5.2.10). */
const FPCR_BITS = 0x07c80000;
const FPSR_BITS = 0x0800009f;

/** SYS instructions that are done here. */
const DC_ZVA = 1;
const CACHE_BY_VA = 2;
const SYS = new Map([
  [encoding(1, 3, 7, 4, 1), DC_ZVA],
  [encoding(1, 3, 7, 5, 1), CACHE_BY_VA], // IC IVAU
  [encoding(1, 3, 7, 10, 1), CACHE_BY_VA], // DC CVAC
  [encoding(1, 3, 7, 11, 1), CACHE_BY_VA], // DC CVAU
  [encoding(1, 3, 7, 14, 1), CACHE_BY_VA], // DC CIVAC
]);
const sysClass = (f: Raw): number => SYS.get(encoding(1, f.op1, f.crn, f.crm, f.op2)) ?? 0;

/** CNTPCT_EL0, CNTVCT_EL0 and their self-synchronized forms: programs wait by reading them in a loop. */
const counterRow = (name: string, selfSynchronized: 0 | 1, feat?: Feature): Insn =>
  insn(
    name,
    `1101010100 1 1 1 011 1110 0000 ${selfSynchronized} virtual! physical! rt:5`,
    (b, { virtual, rt }) =>
      whenEnabled(b, VP.COUNTER_PLAIN + (virtual ? 0 : 4), 'mrs', () =>
        b.setX(rt, b.op('i64.div_u', [b.now(), b.cell(VP.COUNTER_PERIOD)]) as I64),
      ),
    { feat, when: (f) => f.virtual !== f.physical },
  );

export const rows: Insn[] = [
  // Hints. Unnamed ones, and those of extensions that are absent (PACIASP, ESB, PSB ...), do nothing.
  insn(
    'HINT',
    '1101010100 0 00 011 0010 crm:4 op2:3 11111',
    (b, { hint }) => {
      if (hint === WFE) b.exit('wfe');
      else if (hint === WFI) b.exit('wfi');
      else if (hint === YIELD) b.if(b.cell32(VP.YIELDS), () => b.exit('yield'));
      else if (hint === SEV) b.exit('sev');
      else if (hint === SEVL) b.setCell(VP.EVENT, b.i32(1));
    },
    { pick: { hint: [BTI + 4, hintClass] }, cold: (f) => f.hint === SEVL },
  ),

  // Wait until CNTVCT_EL0 has reached a value, too
  insn('WFET', '1101010100 0 00 011 0001 0000 000 rt:5', (b) => b.exit('wfe'), { feat: 'WFxT', cold: true }),
  insn('WFIT', '1101010100 0 00 011 0001 0000 001 rt:5', (b) => b.exit('wfi'), { feat: 'WFxT', cold: true }),

  // Barriers: a VP sees its own accesses in program order, and only one runs at a time
  insn('CLREX', '1101010100 0 00 011 0011 xxxx 010 11111', (b) => b.setCell(VP.EXCL_SIZE, b.i32(0)), { cold: true }),
  insn('DSB_DMB', '1101010100 0 00 011 0011 xxxx 10 x 11111', nop),
  insn('ISB', '1101010100 0 00 011 0011 xxxx 110 11111', nop),
  insn('SB', '1101010100 0 00 011 0011 0000 111 11111', nop, { feat: 'SB' }),

  // PSTATE
  insn('MSR_DAIFSet', '1101010100 0 00 011 0100 crm:4 110 11111', (b) =>
    whenEnabled(b, VP.DAIF_PLAIN, 'msr-imm', () => {
      const set = b.imm32((f) => f.crm << 6);
      b.setCell(VP.PSTATE, b.or(b.cell32(VP.PSTATE), set));
    }),
  ),
  insn('MSR_DAIFClr', '1101010100 0 00 011 0100 crm:4 111 11111', (b) =>
    whenEnabled(b, VP.DAIF_PLAIN, 'msr-imm', () => {
      const kept = b.imm32((f) => ~(f.crm << 6));
      b.setCell(VP.PSTATE, b.and(b.cell32(VP.PSTATE), kept));
      checkInterrupts(b);
    }),
  ),
  insn('MSR_UAO', '1101010100 0 00 000 0100 crm:4 011 11111', (b) => b.exit('msr-imm'), { feat: 'UAO', cold: true }),
  insn('MSR_PAN', '1101010100 0 00 000 0100 crm:4 100 11111', (b) => b.exit('msr-imm'), { feat: 'PAN', cold: true }),
  insn('MSR_SPSel', '1101010100 0 00 000 0100 crm:4 101 11111', (b) => b.exit('msr-imm'), { cold: true }),
  insn('MSR_SSBS', '1101010100 0 00 011 0100 crm:4 001 11111', (b) => b.exit('msr-imm'), { feat: 'SSBS', cold: true }),
  insn('MSR_DIT', '1101010100 0 00 011 0100 crm:4 010 11111', (b) => b.exit('msr-imm'), { feat: 'DIT', cold: true }),
  insn('CFINV', '1101010100 0 00 000 0100 0000 000 11111', (b) => b.setNZCV(b.xor(b.nzcv(), b.i32(C))), {
    feat: 'FlagM',
    cold: true,
  }),
  insn(
    'XAFLAG',
    '1101010100 0 00 000 0100 0000 001 11111',
    (b) => {
      const old = b.nzcv();
      const [z, c] = [flag(b, old, Z), flag(b, old, C)];
      b.setNZCV(packNZCV(b, b.eqz(b.or(c, z)), b.and(z, c), b.or(c, z), b.and(b.eqz(c), z)));
    },
    { feat: 'FlagM2', cold: true },
  ),
  insn(
    'AXFLAG',
    '1101010100 0 00 000 0100 0000 010 11111',
    (b) => {
      const old = b.nzcv();
      const [z, c, v] = [flag(b, old, Z), flag(b, old, C), flag(b, old, V)];
      b.setNZCV(packNZCV(b, b.i32(0), b.or(z, v), b.and(c, b.eqz(v)), b.i32(0)));
    },
    { feat: 'FlagM2', cold: true },
  ),

  // System register moves
  insn(
    'MRS',
    '1101010100 1 1 o0 op1:3 crn:4 crm:4 op2:3 rt:5',
    (b, { move, rt }) => {
      if (move === EL1_CELL) whenEnabled(b, VP.EL1, 'mrs', () => b.setX(rt, b.cell(cellOf)));
      else if (move === ANY_CELL) b.setX(rt, b.cell(cellOf));
      else if (move === NZCV) b.setX(rt, b.nzcv());
      else if (move === DAIF) whenEnabled(b, VP.EL1, 'mrs', () => b.setX(rt, b.and(b.cell32(VP.PSTATE), b.i32(PSTATE.DAIF))));
      else if (move === FPCR) whenEnabled(b, VP.FP_ENABLED, 'mrs', () => b.setX(rt, b.cell32(VP.FPCR)));
      else if (move === FPSR) whenEnabled(b, VP.FP_ENABLED, 'mrs', () => b.setX(rt, b.cell32(VP.FPSR)));
      else if (move === CURRENT_EL) whenEnabled(b, VP.EL1, 'mrs', () => b.setX(rt, b.i32(1 << 2)));
      else b.exit('mrs');
    },
    { pick: { move: [8, moveClass(false)] }, cold: (f) => f.move >= FPCR },
  ),
  counterRow('MRS_counter', 0),
  counterRow('MRS_counter_ss', 1, 'ECV'),
  insn(
    'MSR',
    '1101010100 0 1 o0 op1:3 crn:4 crm:4 op2:3 rt:5',
    (b, { move, rt }) => {
      if (move === EL1_CELL) whenEnabled(b, VP.EL1, 'msr', () => b.setCell(cellOf, b.x(rt)));
      else if (move === ANY_CELL) b.setCell(cellOf, b.x(rt));
      else if (move === NZCV) b.setNZCV(b.and(b.x(rt, 0), b.i32(0xf0000000)));
      else if (move === DAIF) {
        whenEnabled(b, VP.DAIF_PLAIN, 'msr', () => {
          const kept = b.and(b.cell32(VP.PSTATE), b.i32(~PSTATE.DAIF));
          b.setCell(VP.PSTATE, b.or(kept, b.and(b.x(rt, 0), b.i32(PSTATE.DAIF))));
          checkInterrupts(b);
        });
      } else if (move === FPCR)
        whenEnabled(b, VP.FP_ENABLED, 'msr', () => b.setCell(VP.FPCR, b.and(b.x(rt, 0), b.i32(FPCR_BITS))));
      else if (move === FPSR) whenEnabled(b, VP.FP_ENABLED, 'msr', () => b.setCell(VP.FPSR, b.and(b.x(rt, 0), b.i32(FPSR_BITS))));
      else b.exit('msr');
    },
    { pick: { move: [8, moveClass(true)] }, cold: (f) => f.move >= FPCR || f.move === EXIT },
  ),

  // SYS and SYSL: TLBI, AT, cache maintenance. Caches are coherent here (stores drop decoded code), so that cleaning
  // by address only has to fault where the address does.
  insn(
    'SYS',
    '1101010100 0 01 op1:3 crn:4 crm:4 op2:3 rt:5',
    (b, { sys, rt }) => {
      if (sys === DC_ZVA) {
        whenEnabled(b, VP.DZ_ENABLED, 'sys', () => {
          const m = b.mem(b.and(b.x(rt), b.i64(-ZVA_BLOCK)), ZVA_BLOCK, 'w');
          for (let at = 0; at < ZVA_BLOCK; at += 16) b.store('v128.store', m, b.v128(0n), at);
        });
      } else if (sys === CACHE_BY_VA) {
        whenEnabled(b, VP.UCI_ENABLED, 'sys', () => {
          b.mem(b.x(rt), 1, 'r');
        });
      } else b.exit('sys');
    },
    { pick: { sys: [3, sysClass] } },
  ),
  insn('SYSL', '1101010100 1 01 op1:3 crn:4 crm:4 op2:3 rt:5', (b) => b.exit('sys'), { cold: true }),
];
