/**
 * Exceptions to EL1 and their return (Arm ARM DDI 0487, D1.3 "Exceptions", D1.4 and the pseudocode of J1.1.2:
 * AArch64.TakeException, AArch64.ExceptionReturn). EL1 is the only exception level that takes any.
 *
 * Every function takes PC as the address of the instruction that causes the exception; interrupts are taken before the
 * instruction at PC.
 */
import type { CpuPorts } from './ports.ts';
import { cellOf, refresh, resetSystemRegisters, setMode } from './sysregs.ts';
import { hasTag } from './translation-control.ts';
import { PSTATE, VP, type VpState } from './vp-state.ts';

export { refresh } from './sysregs.ts';

const ESR = cellOf('ESR_EL1');
const FAR = cellOf('FAR_EL1');
const ELR = cellOf('ELR_EL1');
const SPSR = cellOf('SPSR_EL1');
const VBAR = cellOf('VBAR_EL1');
const SCTLR = cellOf('SCTLR_EL1');
const TCR = cellOf('TCR_EL1');
const MMFR1 = cellOf('ID_AA64MMFR1_EL1');
const MMFR2 = cellOf('ID_AA64MMFR2_EL1');
const PFR0 = cellOf('ID_AA64PFR0_EL1');
const PFR1 = cellOf('ID_AA64PFR1_EL1');

/** Exception classes, ESR_EL1.EC (D19.2.37). The aborts' and debug exceptions' classes are those from EL0; from EL1: + 1. */
const EC = {
  UNKNOWN: 0x00,
  WFX: 0x01,
  FP: 0x07,
  BRANCH_TARGET: 0x0d,
  ILLEGAL_STATE: 0x0e,
  SVC64: 0x15,
  SYSTEM: 0x18,
  PAC_FAIL: 0x1c,
  INSTRUCTION_ABORT: 0x20,
  PC_ALIGNMENT: 0x22,
  DATA_ABORT: 0x24,
  SP_ALIGNMENT: 0x26,
  BREAKPOINT: 0x30,
  SOFTWARE_STEP: 0x32,
  WATCHPOINT: 0x34,
  BRK64: 0x3c,
} as const;

/** Classes in words. */
const CLASSES: Readonly<Record<number, string>> = {
  [EC.UNKNOWN]: 'undefined instruction',
  [EC.WFX]: 'trapped WFI or WFE',
  [EC.FP]: 'trapped floating point',
  [EC.BRANCH_TARGET]: 'branch target',
  [EC.ILLEGAL_STATE]: 'illegal state',
  [EC.SYSTEM]: 'trapped system instruction',
  [EC.PAC_FAIL]: 'pointer authentication',
  [EC.INSTRUCTION_ABORT]: 'instruction abort',
  [EC.PC_ALIGNMENT]: 'PC alignment',
  [EC.DATA_ABORT]: 'data abort',
  [EC.SP_ALIGNMENT]: 'SP alignment',
  [EC.BREAKPOINT]: 'breakpoint',
  [EC.SOFTWARE_STEP]: 'software step',
  [EC.WATCHPOINT]: 'watchpoint',
  [EC.BRK64]: 'BRK',
};
const FROM_EL1: readonly number[] = [EC.INSTRUCTION_ABORT, EC.DATA_ABORT, EC.BREAKPOINT, EC.SOFTWARE_STEP, EC.WATCHPOINT];
const HAVE_FAR: readonly number[] = [EC.INSTRUCTION_ABORT, EC.PC_ALIGNMENT, EC.DATA_ABORT, EC.WATCHPOINT];

/** The synchronous exception that `vp` has taken last, for the trace. `pc`: where it returns to. */
export function lastFault(vp: VpState): { pc: bigint; exception: string; esr: bigint; far?: bigint } {
  const esr = vp.u32(ESR);
  const own = esr >>> 26;
  const ec = FROM_EL1.includes(own - 1) ? own - 1 : own;
  return {
    pc: vp.u64(ELR),
    exception: CLASSES[ec] ?? `class 0x${ec.toString(16)}`,
    esr: BigInt(esr),
    ...(HAVE_FAR.includes(ec) ? { far: vp.u64(FAR) } : {}),
  };
}

/** Vector offsets from VBAR_EL1 (D1.3.1.5), to which 0x200 (EL1 with SP_EL1) or 0x400 (EL0) is added. */
const SYNCHRONOUS = 0x000;
const IRQ = 0x080;
const FIQ = 0x100;

/** ISS of conditional instructions in A64: CV = 1, COND = 0b1110 (D19.2.37). */
const ISS_COND_ALWAYS = (1 << 24) | (0xe << 20);

/** Fault status codes that are not of a table walk (D19.2.37, DFSC and IFSC). */
export const FSC = {
  ADDRESS_SIZE: 0x00, // + level
  TRANSLATION: 0x04, // + level
  ACCESS_FLAG: 0x08, // + level
  PERMISSION: 0x0c, // + level
  EXTERNAL: 0x10,
  EXTERNAL_ON_WALK: 0x14, // + level
  ALIGNMENT: 0x21,
  DEBUG: 0x22,
  /** IMPLEMENTATION DEFINED: unsupported exclusive or atomic access. */
  UNSUPPORTED_EXCLUSIVE: 0x35,
} as const;

/** The exception returns to PC, or to the instruction after it. */
function take(vp: VpState, kind: number, after = false): void {
  const old = vp.pstate;
  const m = old & PSTATE.M;
  const vector = kind + (m === PSTATE.EL0T ? 0x400 : m === PSTATE.EL1H ? 0x200 : 0);
  // An instruction that is stepped and does not complete will be stepped again.
  vp.setU32(SPSR, vp.u32(VP.STEPPING) ? old | PSTATE.SS : old);
  vp.setU32(SPSR + 4, 0);
  vp.setU32(VP.STEPPING, 0);
  const lo = (vp.u32(VP.PC) + (after ? 4 : 0)) >>> 0;
  vp.setU32(ELR, lo);
  vp.setU32(ELR + 4, vp.u32(VP.PC + 4) + (after && lo < 4 ? 1 : 0));
  setMode(vp, PSTATE.EL1H);
  let p = vp.u32(VP.PSTATE) | PSTATE.DAIF;
  p &= ~(PSTATE.SS | PSTATE.IL | PSTATE.UAO | PSTATE.SSBS | PSTATE.BTYPE);
  // SPAN is RES1 without FEAT_PAN, DSSBS RES0 without FEAT_SSBS (sysregs.ts).
  if ((vp.u32(SCTLR) & (1 << 23)) === 0) p |= PSTATE.PAN;
  if (vp.u32(SCTLR + 4) & (1 << 12)) p |= PSTATE.SSBS;
  vp.setU32(VP.PSTATE, p);
  vp.setU32(VP.EXCL_SIZE, 0);
  vp.setU32(VP.PC, (vp.u32(VBAR) & ~0x7ff) | vector);
  vp.setU32(VP.PC + 4, vp.u32(VBAR + 4));
  refresh(vp);
}

/** Exceptions that come before the instruction at PC (or instead of it) tell BTYPE; for others SPSR_EL1 may say zero (AArch64.TakeException). */
const KEEPS_BTYPE: ReadonlySet<number> = new Set([
  EC.BRANCH_TARGET,
  EC.ILLEGAL_STATE,
  EC.PC_ALIGNMENT,
  EC.BRK64,
  ...[EC.INSTRUCTION_ABORT, EC.BREAKPOINT, EC.SOFTWARE_STEP].flatMap((ec) => [ec, ec + 1]),
]);

function synchronous(vp: VpState, ec: number, iss: number, after = false): void {
  if (!KEEPS_BTYPE.has(ec)) vp.setU32(VP.PSTATE, vp.u32(VP.PSTATE) & ~PSTATE.BTYPE);
  // IL = 1: the instruction is 32 bits long, or the class always says so.
  vp.setU32(ESR, (ec << 26) | (1 << 25) | iss);
  vp.setU32(ESR + 4, 0);
  take(vp, SYNCHRONOUS, after);
  if (ec !== EC.SVC64) vp.onFault?.();
}

/** UNDEFINED instruction. */
export const takeUndef = (vp: VpState): void => synchronous(vp, EC.UNKNOWN, 0);

export function takeSvc(vp: VpState, imm: number): void {
  // A stepped SVC has been stepped (SSAdvance in AArch64.CallSupervisor): the step exception follows its return.
  vp.setU32(VP.STEPPING, 0);
  synchronous(vp, EC.SVC64, imm & 0xffff, true);
}

export const takeBrk = (vp: VpState, imm: number): void => synchronous(vp, EC.BRK64, imm & 0xffff);

/** FP/SIMD instruction that CPACR_EL1.FPEN traps. */
export const takeFpTrap = (vp: VpState): void => synchronous(vp, EC.FP, ISS_COND_ALWAYS);

/** A pointer's authentication code is wrong (FEAT_FPAC); `key` as `KEY` of pointer-authentication.ts. */
export const takePacFail = (vp: VpState, key: number): void => synchronous(vp, EC.PAC_FAIL, key);

/** MSR, MRS or system instruction that traps to EL1; `iss` from `sysTrapIss`. */
export const takeSysTrap = (vp: VpState, iss: number): void => synchronous(vp, EC.SYSTEM, iss);

/** ISS of a trapped MSR, MRS or system instruction, from its word: op0, op2, op1, CRn, Rt, CRm, direction. */
export const sysTrapIss = (word: number): number =>
  (((word >>> 19) & 3) << 20) |
  (((word >>> 5) & 7) << 17) |
  (((word >>> 16) & 7) << 14) |
  (((word >>> 12) & 15) << 10) |
  ((word & 31) << 5) |
  (((word >>> 8) & 15) << 1) |
  ((word >>> 21) & 1);

/** True when WFI (or WFE) at this exception level traps: SCTLR_EL1.nTWI, nTWE. Only if it would wait at all. */
export const wfxTraps = (vp: VpState, wfe: boolean): boolean => vp.el === 0 && (vp.u32(SCTLR) & (wfe ? 1 << 18 : 1 << 16)) === 0;

/** `timeout`: of WFET or WFIT the register (RN, RV, and TI = 2 or 3). */
export const takeWfxTrap = (vp: VpState, wfe: boolean, timeout?: number): void =>
  synchronous(vp, EC.WFX, ISS_COND_ALWAYS | (timeout === undefined ? 0 : (timeout << 5) | 6) | (wfe ? 1 : 0));

/** Data abort. `fsc` as Translation.fsc or of `FSC`; `cm`: by cache maintenance or address translation. */
export function takeDataAbort(vp: VpState, far: bigint, fsc: number, write: boolean, options: { cm?: boolean } = {}): void {
  vp.setU64(FAR, far);
  const iss = fsc | (write || options.cm ? 1 << 6 : 0) | (options.cm ? 1 << 8 : 0);
  synchronous(vp, EC.DATA_ABORT + vp.el, iss);
}

export function takePrefetchAbort(vp: VpState, far: bigint, fsc: number): void {
  vp.setU64(FAR, far);
  synchronous(vp, EC.INSTRUCTION_ABORT + vp.el, fsc);
}

/** PC is not a multiple of 4. */
export function takePcAlignment(vp: VpState): void {
  vp.setU64(FAR, vp.pc);
  synchronous(vp, EC.PC_ALIGNMENT, 0);
}

/** The instruction at PC is not one that PSTATE.BTYPE lets a jump land on. */
export const takeBranchTarget = (vp: VpState): void =>
  synchronous(vp, EC.BRANCH_TARGET, (vp.u32(VP.PSTATE) & PSTATE.BTYPE) >>> 10);

/** SP as a base address is not a multiple of 16, and SCTLR_EL1.SA (SA0 at EL0) checks that. */
export const takeSpAlignment = (vp: VpState): void => synchronous(vp, EC.SP_ALIGNMENT, 0);

/** True when SP is checked at this exception level. */
export const checksSpAlignment = (vp: VpState): boolean => (vp.u32(SCTLR) & (vp.el === 0 ? 1 << 4 : 1 << 3)) !== 0;

/** Breakpoint at PC. */
export const takeBreakpoint = (vp: VpState): void => synchronous(vp, EC.BREAKPOINT + vp.el, FSC.DEBUG);

/** Watchpoint: the access to `far` has not been made. */
export function takeWatchpoint(vp: VpState, far: bigint, write: boolean): void {
  vp.setU64(FAR, far);
  synchronous(vp, EC.WATCHPOINT + vp.el, FSC.DEBUG | (write ? 1 << 6 : 0));
}

/**
 * Software step, before the instruction at PC. `stepped`: the instruction before it has been stepped and completed (ISV), and was a
 * Load-Exclusive (EX) or not; undefined: stepping became active just here.
 */
export const takeSoftwareStep = (vp: VpState, stepped?: { readonly exclusive: boolean }): void =>
  synchronous(vp, EC.SOFTWARE_STEP + vp.el, FSC.DEBUG | (stepped ? (1 << 24) | (stepped.exclusive ? 1 << 6 : 0) : 0));

/** PSTATE.IL is set. */
export const takeIllegalState = (vp: VpState): void => synchronous(vp, EC.ILLEGAL_STATE, 0);

export const takeIrq = (vp: VpState): void => take(vp, IRQ);

export const takeFiq = (vp: VpState): void => take(vp, FIQ);

/** PSTATE bits that ERET takes from SPSR_EL1, by the features that the identification registers tell. */
function spsrMask(vp: VpState): number {
  let mask: number = PSTATE.DAIF;
  if (vp.u32(MMFR1) & 0xf00000) mask |= PSTATE.PAN;
  if (vp.u32(MMFR2) & 0xf0) mask |= PSTATE.UAO;
  if (vp.u32(PFR0 + 4) & 0xf0000) mask |= PSTATE.DIT;
  if (vp.u32(PFR1) & 0xf0) mask |= PSTATE.SSBS;
  if (vp.u32(PFR1) & 0xf) mask |= PSTATE.BTYPE;
  return mask;
}

/** After a branch: removes the tag of PC where TCR_EL1.TBIn and TBIDn say so (AArch64.BranchAddr). */
export function removeTag(vp: VpState): void {
  const hi = vp.u32(VP.PC + 4);
  const upper = (hi >>> 23) & 1;
  const canonical = (upper ? hi | 0xff000000 : hi & 0xffffff) >>> 0;
  if (canonical !== hi && hasTag(vp.u32(TCR + 4), upper, true)) vp.setU32(VP.PC + 4, canonical);
}

/**
 * ERET at EL1, to `target` or the address in ELR_EL1. False when SPSR_EL1 was illegal (or set IL) and so the Illegal Execution State exception has been taken at the
 * return address.
 */
export function eret(vp: VpState, target?: bigint): boolean {
  const spsr = vp.u32(SPSR);
  const debugAtSource = vp.u32(VP.DEBUG) !== 0;
  const m = spsr & 0x1f;
  const illegal = m !== PSTATE.EL0T && m !== PSTATE.EL1T && m !== PSTATE.EL1H;
  let p = (vp.u32(VP.PSTATE) & PSTATE.M) | (spsr & spsrMask(vp));
  if (illegal || spsr & PSTATE.IL) p |= PSTATE.IL;
  vp.setU32(VP.PSTATE, p);
  vp.nzcv = (spsr & 0xf0000000) >>> 0;
  if (!illegal) setMode(vp, m);
  if (target === undefined) vp.copy(ELR, VP.PC);
  else vp.pc = target;
  removeTag(vp);
  vp.setU32(VP.EXCL_SIZE, 0);
  // An exception return is a WFE wake-up event (D1.6.1).
  vp.setU32(VP.EVENT, 1);
  refresh(vp);
  // DebugExceptionReturnSS: one instruction may be executed when stepping becomes active by this return.
  if (spsr & PSTATE.SS && !debugAtSource && vp.u32(VP.STEP)) vp.setU32(VP.PSTATE, vp.u32(VP.PSTATE) | PSTATE.SS);
  if ((p & PSTATE.IL) === 0) return true;
  takeIllegalState(vp);
  return false;
}

/** Warm reset into EL1 at `pc`: EL1h, DAIF masked, MMU off, all else zero (D1.3.2). */
export function reset(ports: CpuPorts, vp: VpState, pc: bigint): void {
  vp.bytes.fill(0);
  vp.setU32(VP.PSTATE, PSTATE.EL1H | PSTATE.DAIF);
  vp.nzcv = 0;
  vp.pc = pc;
  resetSystemRegisters(ports, vp);
}
