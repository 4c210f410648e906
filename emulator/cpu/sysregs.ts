/**
 * System registers: one row each. The rows feed MRS and MSR, HvCallGet/SetVpRegisters, the registers view and snapshots.
 *
 * Most registers are plain cells, u64 of the VP block, which generated code reads and writes by itself
 * (`sysregClass`, `sysregCell`). Identification registers are cells that only `resetSystemRegisters` writes. What has
 * effects, lives in a device or is part of PSTATE has functions.
 *
 * Encodings: Arm ARM DDI 0487, D18.3 ("Instructions for accessing System registers"); fields and access rules: D19.
 */
import type { Feature } from './features.ts';
import { BREAKPOINTS, EVENT_COUNTERS, idRegisters, modelOf, mpidr, WATCHPOINTS } from './models.ts';
import type { CpuPorts, SystemRegisterPort, TlbControl } from './ports.ts';
import { refreshPointerAuthentication, SCTLR_PAUTH } from './pointer-authentication.ts';
import type { AddressSpace } from './tlb.ts';
import { PSTATE, VP, type VpState } from './vp-state.ts';

/** The fields of MRS, MSR and SYS that name a register or an operation. */
export interface SysregFields {
  readonly op0: number;
  readonly op1: number;
  readonly crn: number;
  readonly crm: number;
  readonly op2: number;
}

/** What reading and writing a register may need besides the VP. */
export interface SysregContext {
  readonly ports: CpuPorts;
  readonly tlb: TlbControl;
}

export interface SystemRegister extends SysregFields {
  readonly name: string;
  /** Heading in the registers view. */
  readonly group: string;
  /** 32 or 64. */
  readonly width: number;
  /** What MRS and MSR may do at EL1: any of `r` and `w`; else UNDEFINED. */
  readonly el1: string;
  /** Views, expressions and hypercalls may write it. */
  readonly writable: boolean;
  /** Reading changes something (an acknowledge): not for views. */
  readonly volatile: boolean;
  /** What EL0 may do: any of `r` and `w`; else UNDEFINED. */
  readonly user: string;
  /** When false, EL0's access traps to EL1 (EC 0x18). */
  readonly userWhen?: (vp: VpState, write: boolean) => boolean;
  /** FPCR, FPSR: subject to CPACR_EL1.FPEN. */
  readonly fp: boolean;
  /** UNDEFINED without this feature. */
  readonly feat?: Feature;
  /** Byte offset of the cell in the VP block, -1: none. */
  readonly at: number;
  readonly reset: bigint;
  /** Bits that a write can change. */
  readonly mask: bigint;
  /** Generated code may use the cell although there are functions: they matter only where VP.EL1 is 0. */
  readonly plain: boolean;
  readonly read?: (ctx: SysregContext, vp: VpState) => bigint;
  readonly write?: (ctx: SysregContext, vp: VpState, value: bigint) => void;
}

interface Options {
  /** Access at EL1: `rw` (default), `r`, `w` or nothing (EL2's own, shown in views only). */
  el1?: 'rw' | 'r' | 'w' | '';
  user?: '' | 'r' | 'w' | 'rw';
  userWhen?: (vp: VpState, write: boolean) => boolean;
  volatile?: boolean;
  fp?: boolean;
  feat?: Feature;
  width?: 32 | 64;
  /** An offset in the VP block instead of a cell of its own. */
  at?: number;
  reset?: bigint;
  mask?: bigint;
  plain?: boolean;
  read?: (ctx: SysregContext, vp: VpState) => bigint;
  write?: (ctx: SysregContext, vp: VpState, value: bigint) => void;
  /** Lives in a device. */
  port?: 'gic' | 'timer' | 'pmu';
}

type Encoding = readonly [op0: number, op1: number, crn: number, crm: number, op2: number];

const MASK32 = 0xffffffffn;
const MASK64 = 0xffffffffffffffffn;

const key = (f: SysregFields): number => (f.op0 << 14) | (f.op1 << 11) | (f.crn << 7) | (f.crm << 3) | f.op2;

const rows: SystemRegister[] = [];
const byKey = new Map<number, SystemRegister>();
const byName = new Map<string, SystemRegister>();
let cells = 0;

/** The device that has a register, made ready for its being accessed. */
function device(ctx: SysregContext, vp: VpState, port: 'gic' | 'timer' | 'pmu'): SystemRegisterPort | undefined {
  if (port === 'pmu') ctx.tlb.syncCounters(vp.index);
  return ctx.ports[port];
}

function row(group: string, name: string, [op0, op1, crn, crm, op2]: Encoding, o: Options = {}): void {
  const el1 = o.el1 ?? 'rw';
  const width = o.width ?? 64;
  const { port } = o;
  const read = port ? (ctx: SysregContext, vp: VpState) => device(ctx, vp, port)?.read(vp.index, name) ?? 0n : o.read;
  const write = port ? (ctx: SysregContext, vp: VpState, v: bigint) => device(ctx, vp, port)?.write(vp.index, name, v) : o.write;
  const stored = !(read && (write || !el1.includes('w'))) && el1 !== 'w';
  const at = o.at ?? (stored ? VP.SYS + 8 * cells++ : -1);
  if (at + 8 > VP.SIZE) throw new Error('the VP block has no room for all system registers');
  const r: SystemRegister = {
    name,
    group,
    width,
    op0,
    op1,
    crn,
    crm,
    op2,
    el1,
    writable: el1 === '' || el1.includes('w'),
    volatile: o.volatile ?? false,
    user: o.user ?? '',
    userWhen: o.userWhen,
    fp: o.fp ?? false,
    feat: o.feat,
    at,
    reset: o.reset ?? 0n,
    mask: o.mask ?? (width === 32 ? MASK32 : MASK64),
    plain: o.plain ?? false,
    read,
    write,
  };
  if (byKey.has(key(r)) || byName.has(name)) throw new Error(`system register ${name} is there twice`);
  rows.push(r);
  byKey.set(key(r), r);
  byName.set(name, r);
}

/** Register number of the cell called `name`. */
const cell = (name: string): number => {
  const r = byName.get(name);
  if (!r || r.at < 0) throw new Error(`${name} has no cell`);
  return r.at;
};

// --- effects ---------------------------------------------------------------------------------------------------------

/** TTBRn_EL1.ASID and CnP, which are no part of the table's address. */
const NOT_BADDR = (0xffffn << 48n) | 1n;

/** The address space of these tables; TCR_EL1.A1 (bit 22) says whose ASID counts. */
function addressSpace(vp: VpState, ttbr0: bigint, ttbr1: bigint): AddressSpace {
  const asid1 = Number(ttbr1 >> 48n);
  return { ttbr0, asid1, asid: vp.u32(cell('TCR_EL1')) & (1 << 22) ? asid1 : Number(ttbr0 >> 48n) };
}

/** TTBRn_EL1: another address space. What is global of the upper half stays unless that has other tables now. */
const tableBase =
  (name: 'TTBR0_EL1' | 'TTBR1_EL1') =>
  (ctx: SysregContext, vp: VpState, value: bigint): void => {
    const at = cell(name);
    const old = vp.u64(at);
    if (old === value) return;
    vp.setU64(at, value);
    if (name === 'TTBR1_EL1' && (old ^ value) & ~NOT_BADDR) {
      ctx.tlb.flushAll();
      return;
    }
    const [ttbr0, ttbr1] = [vp.u64(cell('TTBR0_EL1')), vp.u64(cell('TTBR1_EL1'))];
    const from = name === 'TTBR0_EL1' ? addressSpace(vp, old, ttbr1) : addressSpace(vp, ttbr0, old);
    ctx.tlb.switchAddressSpace(vp.index, from, addressSpace(vp, ttbr0, ttbr1));
  };

/** A write to a register that page table walks read. */
const translation =
  (name: string) =>
  (ctx: SysregContext, vp: VpState, value: bigint): void => {
    const at = cell(name);
    if (vp.u64(at) === value) return;
    vp.setU64(at, value);
    ctx.tlb.flushAll();
    if (name === 'TCR_EL1') refreshPointers(ctx.ports, vp);
  };

const refreshPointers = (ports: CpuPorts, vp: VpState): void =>
  refreshPointerAuthentication(vp, ports.features, vp.u64(cell('SCTLR_EL1')), vp.u64(cell('TCR_EL1')));

/** SCTLR_EL1 bits that exist here (D19.2.118): nothing of AArch32, big-endian, EL2, MTE or FEAT_ExS. */
const SCTLR = {
  M: 1n << 0n,
  A: 1n << 1n,
  C: 1n << 2n,
  SA: 1n << 3n,
  SA0: 1n << 4n,
  NAA: 1n << 6n,
  UMA: 1n << 9n,
  ENRCTX: 1n << 10n,
  I: 1n << 12n,
  DZE: 1n << 14n,
  UCT: 1n << 15n,
  NTWI: 1n << 16n,
  NTWE: 1n << 18n,
  WXN: 1n << 19n,
  SPAN: 1n << 23n,
  TSCXT: 1n << 20n,
  UCI: 1n << 26n,
  BT0: 1n << 35n,
  BT1: 1n << 36n,
  DSSBS: 1n << 44n,
  EPAN: 1n << 57n,
} as const;
/** LSMAOE, nTLSMD, EIS, TSCXT, EOS, SED, ITD: RES1 without the features that give them a meaning. */
const SCTLR_RES1 = 0x30500980n;
const SCTLR_ALWAYS =
  SCTLR.M |
  SCTLR.A |
  SCTLR.C |
  SCTLR.SA |
  SCTLR.SA0 |
  SCTLR.UMA |
  SCTLR.I |
  SCTLR.DZE |
  SCTLR.UCT |
  SCTLR.NTWI |
  SCTLR.NTWE |
  SCTLR.WXN |
  SCTLR.UCI;

/** What SCTLR_EL1 holds after `value` is written, on a CPU with these features. */
function sctlr(features: ReadonlySet<Feature>, value: bigint): bigint {
  let mask = SCTLR_ALWAYS;
  let res1 = SCTLR_RES1;
  if (features.has('PAN')) mask |= SCTLR.SPAN;
  else res1 |= SCTLR.SPAN;
  if (features.has('SSBS')) mask |= SCTLR.DSSBS;
  if (features.has('PAN3')) mask |= SCTLR.EPAN;
  if (features.has('CSV2_2')) {
    mask |= SCTLR.TSCXT;
    res1 &= ~SCTLR.TSCXT;
  }
  if (features.has('LSE2')) mask |= SCTLR.NAA;
  if (features.has('BTI')) mask |= SCTLR.BT0 | SCTLR.BT1;
  if (features.has('SPECRES')) mask |= SCTLR.ENRCTX;
  if (features.has('PAuth')) mask |= SCTLR_PAUTH;
  return (value & mask) | res1;
}

/** Selects the stack pointer (and exception level): PSTATE.M := m, with the banks of SP moved. */
export function setMode(vp: VpState, m: number): void {
  const pstate = vp.u32(VP.PSTATE);
  // M[0] is PSTATE.SP, and EL0 always uses SP_EL0.
  vp.copy(VP.SP, pstate & 1 ? VP.SP_EL1 : VP.SP_EL0);
  vp.copy(m & 1 ? VP.SP_EL1 : VP.SP_EL0, VP.SP);
  vp.setU32(VP.PSTATE, (pstate & ~PSTATE.M) | m);
}

/** MDSCR_EL1 (D19.3.20): software step, EL0's communication channel traps, debug exceptions from EL1, breakpoints and watchpoints. */
const MDSCR = { SS: 1, TDCC: 1 << 12, KDE: 1 << 13, MDE: 1 << 15 } as const;
const OSLK = 2;
const DLK = 1;

/** The OS lock and the OS double lock are open: debug exceptions may be generated (D2.4). */
const debugUnlocked = (vp: VpState): boolean => (vp.u32(OSLSR_CELL) & OSLK) === 0 && (vp.u32(OSDLR_CELL) & DLK) === 0;

/** True when the VP's breakpoints and watchpoints are enabled as a whole. */
export const monitorDebugEnabled = (vp: VpState): boolean => (vp.u32(MDSCR_CELL) & MDSCR.MDE) !== 0 && debugUnlocked(vp);

/** Recomputes the cells of the VP block that are derived from PSTATE, SCTLR_EL1, CPACR_EL1 and the debug registers. */
export function refresh(vp: VpState): void {
  const pstate = vp.u32(VP.PSTATE);
  const el1 = (pstate & 0xc) !== 0;
  const control = vp.u32(SCTLR_CELL);
  const fpen = (vp.u32(CPACR_CELL) >>> 20) & 3;
  const mdscr = vp.u32(MDSCR_CELL);
  // AArch64.GenerateDebugExceptionsFrom: from EL1 only those that it has asked for and not masked.
  const debug = debugUnlocked(vp) && (!el1 || ((mdscr & MDSCR.KDE) !== 0 && (pstate & PSTATE.D) === 0));
  const followsMask = (mdscr & MDSCR.KDE) !== 0 && (mdscr & (MDSCR.SS | MDSCR.MDE)) !== 0;
  vp.setU32(VP.DEBUG, debug ? 1 : 0);
  vp.setU32(VP.STEP, debug && mdscr & MDSCR.SS ? 1 : 0);
  vp.setU32(VP.REGIME, !el1 ? 0 : pstate & PSTATE.PAN ? 1 : 2);
  vp.setU32(VP.FP_ENABLED, fpen === 3 || (fpen === 1 && el1) ? 1 : 0);
  // With SP_EL0 selected at EL1 (EL1t), SP_EL0 is not in its cell and MRS SP_EL0 is UNDEFINED: nothing is plain there.
  const el1h = (pstate & PSTATE.M) === PSTATE.EL1H;
  vp.setU32(VP.EL1, el1h ? 1 : 0);
  vp.setU32(VP.DAIF_PLAIN, el1h && !followsMask ? 1 : 0);
  vp.setU32(VP.DZ_ENABLED, el1 || control & (1 << 14) ? 1 : 0);
  vp.setU32(VP.UCI_ENABLED, el1 || control & (1 << 26) ? 1 : 0);
  vp.setU32(VP.ALIGN_CHECK, (control >>> 1) & 1);
  const counters = vp.u32(VP.COUNTER_PERIOD) === 0 ? 0 : el1 ? EL0VCTEN | EL0PCTEN : vp.u32(CNTKCTL_CELL);
  vp.setU32(VP.COUNTER_PLAIN, counters & EL0VCTEN ? 1 : 0);
  vp.setU32(VP.COUNTER_PLAIN + 4, counters & EL0PCTEN ? 1 : 0);
}

/** CNTKCTL_EL1 (D19.12.7). */
const [EL0PCTEN, EL0VCTEN, EL0VTEN, EL0PTEN] = [1, 2, 1 << 8, 1 << 9];

const pstateField = (mask: number) => ({
  read: (_: SysregContext, vp: VpState) => BigInt((vp.u32(VP.PSTATE) & mask) >>> 0),
  write: (_: SysregContext, vp: VpState, v: bigint) => {
    vp.setU32(VP.PSTATE, (vp.u32(VP.PSTATE) & ~mask) | (Number(v & MASK32) & mask));
    refresh(vp);
  },
});

const u32Cell = (at: number, mask: bigint) => ({
  at,
  read: (_: SysregContext, vp: VpState) => BigInt(vp.u32(at)),
  write: (_: SysregContext, vp: VpState, v: bigint) => vp.setU32(at, Number(v & mask)),
});

const bankedSp = (at: number, current: (pstate: number) => boolean) => ({
  at,
  read: (_: SysregContext, vp: VpState) => vp.u64(current(vp.u32(VP.PSTATE)) ? VP.SP : at),
  write: (_: SysregContext, vp: VpState, v: bigint) => vp.setU64(current(vp.u32(VP.PSTATE)) ? VP.SP : at, v),
});

const sctlrBit = (bit: number) => (vp: VpState) => ((vp.u32(SCTLR_CELL) >>> bit) & 1) === 1;
const timerAccess = (mask: number) => (vp: VpState) => (vp.u32(cell('CNTKCTL_EL1')) & mask) !== 0;
/** MDSCR_EL1.TDCC: EL0's use of the debug communication channel traps. */
const dccAllowed = (vp: VpState) => (vp.u32(MDSCR_CELL) & MDSCR.TDCC) === 0;

/** The next number of RNDR: SplitMix64, a counter and a finalizer; NZCV says that there was one. */
function nextRandom(vp: VpState): bigint {
  const state = BigInt.asUintN(64, vp.u64(VP.RANDOM) + 0x9e3779b97f4a7c15n);
  vp.setU64(VP.RANDOM, state);
  vp.nzcv = 0;
  const mix = (z: bigint, shift: bigint, factor: bigint) => BigInt.asUintN(64, (z ^ (z >> shift)) * factor);
  const z = mix(mix(state, 30n, 0xbf58476d1ce4e5b9n), 27n, 0x94d049bb133111ebn);
  return z ^ (z >> 31n);
}

const ignored = { write: () => {} };
const zero = { read: () => 0n };

// --- rows ------------------------------------------------------------------------------------------------------------

{
  const id = (name: string, enc: Encoding, o: Options = {}) => row('Identification', name, enc, { el1: 'r', ...o });
  id('MIDR_EL1', [3, 0, 0, 0, 0]);
  id('MPIDR_EL1', [3, 0, 0, 0, 5]);
  id('REVIDR_EL1', [3, 0, 0, 0, 6]);
  id('ID_AA64PFR0_EL1', [3, 0, 0, 4, 0]);
  id('ID_AA64PFR1_EL1', [3, 0, 0, 4, 1]);
  id('ID_AA64PFR2_EL1', [3, 0, 0, 4, 2]);
  id('ID_AA64ZFR0_EL1', [3, 0, 0, 4, 4]);
  id('ID_AA64SMFR0_EL1', [3, 0, 0, 4, 5]);
  id('ID_AA64FPFR0_EL1', [3, 0, 0, 4, 7]);
  id('ID_AA64DFR0_EL1', [3, 0, 0, 5, 0]);
  id('ID_AA64DFR1_EL1', [3, 0, 0, 5, 1]);
  id('ID_AA64AFR0_EL1', [3, 0, 0, 5, 4]);
  id('ID_AA64AFR1_EL1', [3, 0, 0, 5, 5]);
  id('ID_AA64ISAR0_EL1', [3, 0, 0, 6, 0]);
  id('ID_AA64ISAR1_EL1', [3, 0, 0, 6, 1]);
  id('ID_AA64ISAR2_EL1', [3, 0, 0, 6, 2]);
  id('ID_AA64ISAR3_EL1', [3, 0, 0, 6, 3]);
  id('ID_AA64MMFR0_EL1', [3, 0, 0, 7, 0]);
  id('ID_AA64MMFR1_EL1', [3, 0, 0, 7, 1]);
  id('ID_AA64MMFR2_EL1', [3, 0, 0, 7, 2]);
  id('ID_AA64MMFR3_EL1', [3, 0, 0, 7, 3]);
  id('ID_AA64MMFR4_EL1', [3, 0, 0, 7, 4]);
  id('CLIDR_EL1', [3, 1, 0, 0, 1]);
  id('AIDR_EL1', [3, 1, 0, 0, 7]);
  id('CTR_EL0', [3, 3, 0, 0, 1], { user: 'r', userWhen: sctlrBit(15) });
  id('DCZID_EL0', [3, 3, 0, 0, 7], {
    user: 'r',
    // BS = 4: 64 bytes. DZP says whether DC ZVA may be executed at this exception level.
    reset: 4n,
    read: (_, vp) => (vp.u32(VP.DZ_ENABLED) ? 4n : 0x14n),
    at: VP.SYS + 8 * cells++,
    plain: true,
  });
  id('CCSIDR_EL1', [3, 1, 0, 0, 0], {
    read: (ctx, vp) => modelOf(ctx.ports.model).ccsidr[vp.u32(cell('CSSELR_EL1'))] ?? 0n,
  });
  row('Identification', 'CSSELR_EL1', [3, 2, 0, 0, 0], { mask: 0xfn });
}

{
  const control = (name: string, enc: Encoding, o: Options = {}) => row('Control', name, enc, o);
  control('SCTLR_EL1', [3, 0, 1, 0, 0], {
    write: (ctx, vp, value) => {
      const at = cell('SCTLR_EL1');
      const v = sctlr(ctx.ports.features, value);
      if (vp.u64(at) === v) return;
      vp.setU64(at, v);
      ctx.tlb.flushAll();
      refresh(vp);
      refreshPointers(ctx.ports, vp);
    },
  });
  // Keys of pointer authentication; MSR of them is a row of its own (a64/pauth.ts).
  ['APIA', 'APIB', 'APDA', 'APDB', 'APGA'].forEach((key, n) => {
    control(`${key}KeyLo_EL1`, [3, 0, 2, 1 + (n >> 1), (n & 1) * 2], { feat: 'PAuth' });
    control(`${key}KeyHi_EL1`, [3, 0, 2, 1 + (n >> 1), (n & 1) * 2 + 1], { feat: 'PAuth' });
  });
  control('ACTLR_EL1', [3, 0, 1, 0, 1]);
  control('CPACR_EL1', [3, 0, 1, 0, 2], {
    write: (_, vp, value) => {
      // FPEN, TTA.
      vp.setU64(cell('CPACR_EL1'), value & 0x10300000n);
      refresh(vp);
    },
  });
  control('CONTEXTIDR_EL1', [3, 0, 13, 0, 1], { width: 32 });
  control('TPIDR_EL0', [3, 3, 13, 0, 2], { user: 'rw' });
  control('TPIDRRO_EL0', [3, 3, 13, 0, 3], { user: 'r' });
  control('TPIDR_EL1', [3, 0, 13, 0, 4]);
  control('SCXTNUM_EL1', [3, 0, 13, 0, 7], { feat: 'CSV2_2' });
  control('SCXTNUM_EL0', [3, 3, 13, 0, 7], { feat: 'CSV2_2', user: 'rw', userWhen: (vp) => !sctlrBit(20)(vp) });
  // With SP_EL0 selected, SP_EL0 is UNDEFINED at EL1 (see `sysregAccess`); views see the current SP then.
  control('SP_EL0', [3, 0, 4, 1, 0], { ...bankedSp(VP.SP_EL0, (p) => (p & 1) === 0), plain: true });
  control('SP_EL1', [3, 4, 4, 1, 0], { el1: '', ...bankedSp(VP.SP_EL1, (p) => (p & 1) === 1) });
}

{
  const memory = (name: string, enc: Encoding, o: Options = {}) => row('Memory', name, enc, o);
  for (const [name, enc] of [
    ['TCR_EL1', [3, 0, 2, 0, 2]],
    ['MAIR_EL1', [3, 0, 10, 2, 0]],
  ] as [string, Encoding][])
    memory(name, enc, { write: translation(name) });
  memory('TTBR0_EL1', [3, 0, 2, 0, 0], { write: tableBase('TTBR0_EL1') });
  memory('TTBR1_EL1', [3, 0, 2, 0, 1], { write: tableBase('TTBR1_EL1') });
  memory('AMAIR_EL1', [3, 0, 10, 3, 0]);
  memory('PAR_EL1', [3, 0, 7, 4, 0]);
  // No LORegions (LORID_EL1 is zero): the others have no effect.
  memory('LORSA_EL1', [3, 0, 10, 4, 0], { feat: 'LOR' });
  memory('LOREA_EL1', [3, 0, 10, 4, 1], { feat: 'LOR' });
  memory('LORN_EL1', [3, 0, 10, 4, 2], { feat: 'LOR' });
  memory('LORC_EL1', [3, 0, 10, 4, 3], { feat: 'LOR' });
  memory('LORID_EL1', [3, 0, 10, 4, 7], { feat: 'LOR', el1: 'r', ...zero });
}

{
  const exception = (name: string, enc: Encoding, o: Options = {}) => row('Exception', name, enc, o);
  exception('VBAR_EL1', [3, 0, 12, 0, 0]);
  exception('ESR_EL1', [3, 0, 5, 2, 0]);
  exception('FAR_EL1', [3, 0, 6, 0, 0]);
  exception('ELR_EL1', [3, 0, 4, 0, 1]);
  exception('SPSR_EL1', [3, 0, 4, 0, 0]);
  exception('AFSR0_EL1', [3, 0, 5, 1, 0]);
  exception('AFSR1_EL1', [3, 0, 5, 1, 1]);
  exception('ISR_EL1', [3, 0, 12, 1, 0], {
    el1: 'r',
    // I is bit 7, F bit 6.
    read: (_, vp) => BigInt(((vp.u32(VP.IRQ) & 1) << 7) | ((vp.u32(VP.IRQ) & 2) << 5)),
  });
  // FEAT_RAS with no error records (D19.7): the ERX* registers are RAZ/WI.
  exception('DISR_EL1', [3, 0, 12, 1, 1], { feat: 'RAS' });
  exception('ERRIDR_EL1', [3, 0, 5, 3, 0], { feat: 'RAS', el1: 'r', ...zero });
  exception('ERRSELR_EL1', [3, 0, 5, 3, 1], { feat: 'RAS', mask: 0n });
  exception('ERXFR_EL1', [3, 0, 5, 4, 0], { feat: 'RAS', el1: 'r', ...zero });
  exception('ERXCTLR_EL1', [3, 0, 5, 4, 1], { feat: 'RAS', ...zero, ...ignored });
  exception('ERXSTATUS_EL1', [3, 0, 5, 4, 2], { feat: 'RAS', ...zero, ...ignored });
  exception('ERXADDR_EL1', [3, 0, 5, 4, 3], { feat: 'RAS', ...zero, ...ignored });
  exception('ERXMISC0_EL1', [3, 0, 5, 5, 0], { feat: 'RAS', ...zero, ...ignored });
  exception('ERXMISC1_EL1', [3, 0, 5, 5, 1], { feat: 'RAS', ...zero, ...ignored });
}

{
  // PSTATE fields (C5.2) and the FP registers.
  const state = (name: string, enc: Encoding, o: Options = {}) => row('PSTATE', name, enc, o);
  state('NZCV', [3, 3, 4, 2, 0], {
    user: 'rw',
    read: (_, vp) => BigInt(vp.nzcv),
    write: (_, vp, v) => {
      vp.nzcv = Number(v & 0xf0000000n);
    },
  });
  state('DAIF', [3, 3, 4, 2, 1], { user: 'rw', userWhen: sctlrBit(9), ...pstateField(PSTATE.DAIF) });
  state('CurrentEL', [3, 0, 4, 2, 2], { el1: 'r', read: (_, vp) => BigInt(vp.el << 2) });
  state('SPSel', [3, 0, 4, 2, 0], {
    read: (_, vp) => BigInt(vp.u32(VP.PSTATE) & 1),
    write: (_, vp, v) => {
      setMode(vp, (vp.u32(VP.PSTATE) & 0xe) | Number(v & 1n));
      refresh(vp);
    },
  });
  state('PAN', [3, 0, 4, 2, 3], { feat: 'PAN', ...pstateField(PSTATE.PAN) });
  const uao = pstateField(PSTATE.UAO);
  state('UAO', [3, 0, 4, 2, 4], {
    feat: 'UAO',
    read: uao.read,
    write: (ctx, vp, v) => {
      uao.write(ctx, vp, v);
      // What unprivileged accesses of EL1 find in the TLB has EL0's rights.
      if (v & BigInt(PSTATE.UAO)) ctx.tlb.flushAll();
    },
  });
  state('DIT', [3, 3, 4, 2, 5], { feat: 'DIT', user: 'rw', ...pstateField(PSTATE.DIT) });
  state('SSBS', [3, 3, 4, 2, 6], { feat: 'SSBS', user: 'rw', ...pstateField(PSTATE.SSBS) });
  // AHP, DN, FZ, RMode, FZ16 (only with half precision); trapped FP exceptions are not supported (C5.2.8).
  state('FPCR', [3, 3, 4, 4, 0], {
    width: 32,
    user: 'rw',
    fp: true,
    ...u32Cell(VP.FPCR, 0x07c80000n),
    write: (ctx, vp, v) => vp.setU32(VP.FPCR, Number(v & (ctx.ports.features.has('FP16') ? 0x07c80000n : 0x07c00000n))),
  });
  // QC, IDC, IXC, UFC, OFC, DZC, IOC (C5.2.9).
  state('FPSR', [3, 3, 4, 4, 1], { width: 32, user: 'rw', fp: true, ...u32Cell(VP.FPSR, 0x0800009fn) });
}

{
  const timer = (name: string, enc: Encoding, o: Options = {}) => row('Timer', name, enc, o);
  timer('CNTKCTL_EL1', [3, 0, 14, 1, 0], {
    width: 32,
    // EVNTIS (bit 17) with FEAT_ECV.
    write: (ctx, vp, v) => {
      vp.setU64(cell('CNTKCTL_EL1'), v & (ctx.ports.features.has('ECV') ? 0x203ffn : 0x3ffn));
      refresh(vp);
    },
  });
  timer('CNTFRQ_EL0', [3, 3, 14, 0, 0], {
    width: 32,
    el1: 'r',
    user: 'r',
    userWhen: timerAccess(EL0PCTEN | EL0VCTEN),
    port: 'timer',
  });
  timer('CNTPCT_EL0', [3, 3, 14, 0, 1], { el1: 'r', user: 'r', userWhen: timerAccess(EL0PCTEN), port: 'timer' });
  timer('CNTVCT_EL0', [3, 3, 14, 0, 2], { el1: 'r', user: 'r', userWhen: timerAccess(EL0VCTEN), port: 'timer' });
  // Self-synchronized, as every read is here.
  const ecv: Options = { el1: 'r', user: 'r', port: 'timer', feat: 'ECV' };
  timer('CNTPCTSS_EL0', [3, 3, 14, 0, 5], { ...ecv, userWhen: timerAccess(EL0PCTEN) });
  timer('CNTVCTSS_EL0', [3, 3, 14, 0, 6], { ...ecv, userWhen: timerAccess(EL0VCTEN) });
  for (const [t, crm, bit] of [
    ['CNTP', 2, EL0PTEN],
    ['CNTV', 3, EL0VTEN],
  ] as const) {
    const o: Options = { user: 'rw', userWhen: timerAccess(bit), port: 'timer' };
    timer(`${t}_TVAL_EL0`, [3, 3, 14, crm, 0], { width: 32, ...o });
    timer(`${t}_CTL_EL0`, [3, 3, 14, crm, 1], { width: 32, ...o });
    timer(`${t}_CVAL_EL0`, [3, 3, 14, crm, 2], o);
  }
}

{
  // Performance monitors (D19.5), which platform/pmu.ts has. PMUSERENR_EL0: EN, and with SW, CR, ER some of it.
  const [EN, SW, CR, ER] = [1, 2, 4, 8];
  const user =
    (forReads: number, forWrites = forReads) =>
    (vp: VpState, write: boolean) =>
      (vp.u32(PMUSERENR_CELL) & (EN | (write ? forWrites : forReads))) !== 0;
  const pmu = (name: string, enc: Encoding, o: Options = {}) =>
    row('Performance monitors', name, enc, { width: 32, feat: 'PMUv3', port: 'pmu', user: 'rw', userWhen: user(0), ...o });
  row('Performance monitors', 'PMUSERENR_EL0', [3, 3, 9, 14, 0], { width: 32, feat: 'PMUv3', user: 'r', mask: 0xfn });
  pmu('PMCR_EL0', [3, 3, 9, 12, 0]);
  pmu('PMCNTENSET_EL0', [3, 3, 9, 12, 1]);
  pmu('PMCNTENCLR_EL0', [3, 3, 9, 12, 2]);
  pmu('PMOVSCLR_EL0', [3, 3, 9, 12, 3]);
  pmu('PMSWINC_EL0', [3, 3, 9, 12, 4], { el1: 'w', user: 'w', userWhen: user(0, SW) });
  pmu('PMSELR_EL0', [3, 3, 9, 12, 5], { userWhen: user(ER) });
  pmu('PMCEID0_EL0', [3, 3, 9, 12, 6], { width: 64, el1: 'r', user: 'r' });
  pmu('PMCEID1_EL0', [3, 3, 9, 12, 7], { width: 64, el1: 'r', user: 'r' });
  pmu('PMCCNTR_EL0', [3, 3, 9, 13, 0], { width: 64, userWhen: user(CR, 0) });
  pmu('PMXEVTYPER_EL0', [3, 3, 9, 13, 1]);
  pmu('PMXEVCNTR_EL0', [3, 3, 9, 13, 2], { width: 64, userWhen: user(ER, 0) });
  pmu('PMOVSSET_EL0', [3, 3, 9, 14, 3]);
  pmu('PMINTENSET_EL1', [3, 0, 9, 14, 1], { user: '' });
  pmu('PMINTENCLR_EL1', [3, 0, 9, 14, 2], { user: '' });
  pmu('PMMIR_EL1', [3, 0, 9, 14, 6], { feat: 'PMUv3p4', el1: 'r', user: '' });
  for (let n = 0; n < EVENT_COUNTERS; n++) {
    pmu(`PMEVCNTR${n}_EL0`, [3, 3, 14, 8, n], { width: 64, userWhen: user(ER, 0) });
    pmu(`PMEVTYPER${n}_EL0`, [3, 3, 14, 12, n]);
  }
  pmu('PMCCFILTR_EL0', [3, 3, 14, 15, 7]);
}

{
  // FEAT_RNG (D19.2.124): the numbers are the machine's own, and every read succeeds (NZCV = 0).
  const random = {
    el1: 'r',
    user: 'r',
    volatile: true,
    feat: 'RNG',
    read: (_: SysregContext, vp: VpState) => nextRandom(vp),
  } as const;
  row('PSTATE', 'RNDR', [3, 3, 2, 4, 0], random);
  row('PSTATE', 'RNDRRS', [3, 3, 2, 4, 1], random);
}

{
  // GIC CPU interface (GICv3 architecture IHI 0069, 12.2); 5 priority bits: of the active priorities registers only number 0.
  const gic = (name: string, enc: Encoding, o: Options = {}) => row('GIC', name, enc, { port: 'gic', width: 32, ...o });
  gic('ICC_PMR_EL1', [3, 0, 4, 6, 0]);
  gic('ICC_IAR0_EL1', [3, 0, 12, 8, 0], { el1: 'r', volatile: true });
  gic('ICC_EOIR0_EL1', [3, 0, 12, 8, 1], { el1: 'w' });
  gic('ICC_HPPIR0_EL1', [3, 0, 12, 8, 2], { el1: 'r' });
  gic('ICC_BPR0_EL1', [3, 0, 12, 8, 3]);
  gic('ICC_AP0R0_EL1', [3, 0, 12, 8, 4]);
  gic('ICC_AP1R0_EL1', [3, 0, 12, 9, 0]);
  gic('ICC_DIR_EL1', [3, 0, 12, 11, 1], { el1: 'w' });
  gic('ICC_RPR_EL1', [3, 0, 12, 11, 3], { el1: 'r' });
  gic('ICC_SGI1R_EL1', [3, 0, 12, 11, 5], { el1: 'w', width: 64 });
  gic('ICC_ASGI1R_EL1', [3, 0, 12, 11, 6], { el1: 'w', width: 64 });
  gic('ICC_SGI0R_EL1', [3, 0, 12, 11, 7], { el1: 'w', width: 64 });
  gic('ICC_IAR1_EL1', [3, 0, 12, 12, 0], { el1: 'r', volatile: true });
  gic('ICC_EOIR1_EL1', [3, 0, 12, 12, 1], { el1: 'w' });
  gic('ICC_HPPIR1_EL1', [3, 0, 12, 12, 2], { el1: 'r' });
  gic('ICC_BPR1_EL1', [3, 0, 12, 12, 3]);
  gic('ICC_CTLR_EL1', [3, 0, 12, 12, 4]);
  gic('ICC_SRE_EL1', [3, 0, 12, 12, 5]);
  gic('ICC_IGRPEN0_EL1', [3, 0, 12, 12, 6]);
  gic('ICC_IGRPEN1_EL1', [3, 0, 12, 12, 7]);
}

{
  // Self-hosted debug (D19.3); self-hosted-debug.ts tells what the settings do.
  const debug = (name: string, enc: Encoding, o: Options = {}) => row('Debug', name, enc, o);
  /** A register that arms breakpoints or watchpoints: `mask` what can be written, `ones` what is RES1. */
  const arming = (name: string, enc: Encoding, mask: bigint, ones = 0n) =>
    debug(name, enc, {
      width: mask >> 32n ? 64 : 32,
      reset: ones,
      write: (ctx, vp, v) => {
        const at = cell(name);
        const value = (v & mask) | ones;
        if (vp.u64(at) === value) return;
        vp.setU64(at, value);
        ctx.tlb.debugChanged();
      },
    });
  debug('MDSCR_EL1', [2, 0, 0, 2, 2], {
    width: 32,
    write: (ctx, vp, v) => {
      // What belongs to external debug can be written only while the OS lock is set, to be saved and restored.
      const mask = vp.u32(OSLSR_CELL) & OSLK ? 0x6ce8f041 : MDSCR.SS | MDSCR.TDCC | MDSCR.KDE | MDSCR.MDE;
      const old = vp.u32(MDSCR_CELL);
      const value = ((old & ~mask) | (Number(v) & mask)) >>> 0;
      vp.setU32(MDSCR_CELL, value);
      refresh(vp);
      if ((old ^ value) & MDSCR.MDE) ctx.tlb.debugChanged();
    },
  });
  debug('MDCCINT_EL1', [2, 0, 0, 2, 0], { width: 32, mask: 0x60000000n });
  for (let n = 0; n < BREAKPOINTS; n++) {
    // An address, or a context ID.
    arming(`DBGBVR${n}_EL1`, [2, 0, 0, n, 4], MASK64);
    // BT, LBN, SSC, HMC, PMC, E. BAS is RES1 without AArch32.
    arming(`DBGBCR${n}_EL1`, [2, 0, 0, n, 5], 0xffe007n, 0x1e0n);
  }
  for (let n = 0; n < WATCHPOINTS; n++) {
    arming(`DBGWVR${n}_EL1`, [2, 0, 0, n, 6], ~3n & MASK64);
    // MASK, WT, LBN, SSC, HMC, BAS, LSC, PAC, E.
    arming(`DBGWCR${n}_EL1`, [2, 0, 0, n, 7], 0x1f1fffffn);
  }
  // OSLM = 0b10 (implemented), OSLK = 1: locked out of reset.
  debug('OSLSR_EL1', [2, 0, 1, 1, 4], { width: 32, el1: 'r', reset: 0xan });
  debug('OSLAR_EL1', [2, 0, 1, 0, 4], {
    width: 32,
    el1: 'w',
    write: (ctx, vp, v) => {
      vp.setU64(cell('OSLSR_EL1'), 0x8n | ((v & 1n) << 1n));
      refresh(vp);
      ctx.tlb.debugChanged();
    },
  });
  debug('OSDLR_EL1', [2, 0, 1, 3, 4], {
    width: 32,
    write: (ctx, vp, v) => {
      vp.setU64(cell('OSDLR_EL1'), v & 1n);
      refresh(vp);
      ctx.tlb.debugChanged();
    },
  });
  debug('DBGPRCR_EL1', [2, 0, 1, 4, 4], { width: 32, mask: 1n });
  debug('MDRAR_EL1', [2, 0, 1, 0, 0], { el1: 'r', ...zero });
  debug('OSECCR_EL1', [2, 0, 0, 6, 2], { width: 32 });
  // The claim tag: SET reads as ones (eight tags there) and sets, CLR reads the tags and clears.
  debug('DBGCLAIMCLR_EL1', [2, 0, 7, 9, 6], {
    width: 32,
    write: (_, vp, v) => vp.setU64(cell('DBGCLAIMCLR_EL1'), vp.u64(cell('DBGCLAIMCLR_EL1')) & ~v),
  });
  debug('DBGCLAIMSET_EL1', [2, 0, 7, 8, 6], {
    width: 32,
    read: () => 0xffn,
    write: (_, vp, v) => vp.setU64(cell('DBGCLAIMCLR_EL1'), vp.u64(cell('DBGCLAIMCLR_EL1')) | (v & 0xffn)),
  });
  // No external debug: nothing is authorised beyond what is always there, and the communication channel is empty.
  debug('DBGAUTHSTATUS_EL1', [2, 0, 7, 14, 6], { width: 32, el1: 'r', ...zero });
  debug('MDCCSR_EL0', [2, 3, 0, 1, 0], { width: 32, el1: 'r', user: 'r', userWhen: dccAllowed, ...zero });
  debug('DBGDTR_EL0', [2, 3, 0, 4, 0], { user: 'rw', userWhen: dccAllowed, ...zero, ...ignored });
  debug('DBGDTRRX_EL0', [2, 3, 0, 5, 0], { width: 32, user: 'rw', userWhen: dccAllowed, ...zero, ...ignored });
  debug('OSDTRRX_EL1', [2, 0, 0, 0, 2], { width: 32 });
  debug('OSDTRTX_EL1', [2, 0, 0, 3, 2], { width: 32 });
}

// What `refresh` reads, on every exception and its return.
const CNTKCTL_CELL = cell('CNTKCTL_EL1');
const SCTLR_CELL = cell('SCTLR_EL1');
const CPACR_CELL = cell('CPACR_EL1');
const MDSCR_CELL = cell('MDSCR_EL1');
const OSLSR_CELL = cell('OSLSR_EL1');
const OSDLR_CELL = cell('OSDLR_EL1');
const PMUSERENR_CELL = cell('PMUSERENR_EL0');

/** op0 = 3, op1 = 0, CRn = 0, CRm = 1..7 without a row: reserved identification registers, RAZ (D18.3.1). */
const RESERVED_ID: SystemRegister = {
  name: 'reserved ID register',
  group: 'Identification',
  width: 64,
  op0: 3,
  op1: 0,
  crn: 0,
  crm: 7,
  op2: 7,
  el1: 'r',
  writable: false,
  volatile: false,
  user: '',
  fp: false,
  at: VP.ZERO,
  reset: 0n,
  mask: 0n,
  plain: true,
};

/** Every register that views, expressions and hypercalls may read and, if writable, write. */
export const SYSREGS: readonly SystemRegister[] = rows.filter((r) => r.el1 !== 'w' && !r.volatile);

/** The row of an encoding; undefined: UNDEFINED. */
export function findSystemRegister(f: SysregFields): SystemRegister | undefined {
  const r = byKey.get(key(f));
  if (r) return r;
  return f.op0 === 3 && f.op1 === 0 && f.crn === 0 && f.crm >= 1 && f.crm <= 7 ? RESERVED_ID : undefined;
}

/** The row called `name`, in any case; undefined: there is none. */
export const systemRegister = (name: string): SystemRegister | undefined =>
  byName.get(name) ?? lowerNames.get(name.toLowerCase());
const lowerNames = new Map(rows.map((r) => [r.name.toLowerCase(), r]));

/**
 * How generated code may treat MRS (or MSR, `write`) of a register: 0 leave to `SystemInstructions`; 1 the cell at
 * `sysregCell`, where VP.EL1 is set; 2 the same at every exception level.
 */
export function sysregClass(f: SysregFields, write: boolean): 0 | 1 | 2 {
  const r = findSystemRegister(f);
  if (!r || r.at < 0 || r.feat || r.fp || !r.el1.includes(write ? 'w' : 'r')) return 0;
  if (!r.plain && (write ? r.write || r.mask !== MASK64 : r.read)) return 0;
  return !r.plain && !r.userWhen && r.user.includes(write ? 'w' : 'r') ? 2 : 1;
}

/** Byte offset of the register's cell in the VP block; only where `sysregClass` is not 0. */
export const sysregCell = (f: SysregFields): number => findSystemRegister(f)?.at ?? VP.ZERO;

/** Byte offset of a named register's cell: for the CPU's own parts. */
export const cellOf = cell;

/** What MRS (or MSR) of `r` does at the current exception level: goes on, is UNDEFINED, or traps to EL1. */
export function sysregAccess(
  ctx: SysregContext,
  vp: VpState,
  r: SystemRegister,
  write: boolean,
): 'ok' | 'undef' | 'trap' | 'fp-trap' {
  if (r.feat && !ctx.ports.features.has(r.feat)) return 'undef';
  if (!r.el1.includes(write ? 'w' : 'r')) return 'undef';
  if (vp.el === 0) {
    if (!r.user.includes(write ? 'w' : 'r')) return 'undef';
    if (r.userWhen && !r.userWhen(vp, write)) return 'trap';
  } else if (r.at === VP.SP_EL0 && (vp.u32(VP.PSTATE) & 1) === 0) return 'undef';
  return r.fp && !vp.u32(VP.FP_ENABLED) ? 'fp-trap' : 'ok';
}

/** The register's value, without checks. Reading a `volatile` one has effects. */
export const readSystemRegister = (ctx: SysregContext, vp: VpState, r: SystemRegister): bigint =>
  r.read ? r.read(ctx, vp) : r.at >= 0 ? vp.u64(r.at) : 0n;

/** Writes the register with all effects that MSR has, without checks. */
export function writeSystemRegister(ctx: SysregContext, vp: VpState, r: SystemRegister, value: bigint): void {
  const v = value & (r.width === 32 ? MASK32 : MASK64);
  if (r.write) r.write(ctx, vp, v);
  else vp.setU64(r.at, v & r.mask);
}

/** Reset values of all cells of this VP (its block is otherwise zero), and the derived cells. */
export function resetSystemRegisters(ports: CpuPorts, vp: VpState): void {
  const model = modelOf(ports.model);
  const values: Record<string, bigint> = {
    ...idRegisters(ports.features, model.paBits),
    MIDR_EL1: model.midr,
    MPIDR_EL1: mpidr(vp.index, ports.vpCount),
    CTR_EL0: model.ctr,
    CLIDR_EL1: model.clidr,
    SCTLR_EL1: sctlr(ports.features, SCTLR.SPAN),
  };
  for (const r of rows) if (r.at >= VP.SYS) vp.setU64(r.at, values[r.name] ?? r.reset);
  vp.setU64(VP.COUNTER_PERIOD, BigInt(ports.counterPeriod ?? 0));
  vp.setU32(VP.YIELDS, ports.vpCount > 1 ? 1 : 0);
  // Not the same numbers again after a reset, and others for each VP.
  vp.setU64(VP.RANDOM, (BigInt(ports.seed ?? 0) << 32n) ^ (BigInt(vp.index) << 56n) ^ BigInt(ports.clock.state.instructions));
  refresh(vp);
  refreshPointers(ports, vp);
}
