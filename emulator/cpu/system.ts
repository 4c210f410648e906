/**
 * System instructions that generated code leaves to TypeScript: MRS, MSR, SYS and SYSL (Arm ARM DDI 0487, C5). Each is
 * checked for the exception level, done, and either retires or has taken its exception.
 */
import { FSC, refresh, sysTrapIss, takeDataAbort, takeFpTrap, takeSysTrap } from './exceptions.ts';
import type { Feature } from './features.ts';
import { isAbortOnWalk, type Mmu } from './mmu.ts';
import { ZVA_BLOCK } from './models.ts';
import { type AccessKind, type CpuPorts, type Outcome, READ, type TlbControl, WRITE } from './ports.ts';
import {
  cellOf,
  findSystemRegister,
  readSystemRegister,
  setMode,
  type SysregContext,
  sysregAccess,
  writeSystemRegister,
} from './sysregs.ts';
import { PSTATE, VP, type VpState } from './vp-state.ts';

const PAR = cellOf('PAR_EL1');
const SCTLR = cellOf('SCTLR_EL1');
const TCR = cellOf('TCR_EL1');
const [UMA, ENRCTX, DZE, UCI] = [9, 10, 14, 26];

/** What a SYS instruction does; false: it has taken an exception. */
type Operation = (s: SystemInstructions, vp: VpState, value: bigint) => boolean;

interface SysRow {
  readonly name: string;
  readonly run: Operation;
  readonly feat?: Feature;
  /** EL0 may execute it while this bit of SCTLR_EL1 is set, else it traps; left out: UNDEFINED at EL0. */
  readonly userBit?: number;
}

const nothing: Operation = () => true;
const flushAll: Operation = (s) => {
  s.tlb.flushAll();
  return true;
};
/** TLBI by ASID, which is in bits 63:48. */
const asidOf = (value: bigint): number => Number(value >> 48n);
const flushAsid: Operation = (s, _vp, value) => {
  s.tlb.flushAddressSpaces(asidOf(value));
  return true;
};
/** TLBI by VA: VA[55:12] is in bits 43:0 (C5.5); bits 63:56 repeat bit 55 or are a tag. */
const pageAddress = (value: bigint): bigint => BigInt.asUintN(64, BigInt.asIntN(44, value) << 12n);
const flushPage: Operation = (s, _vp, value) => {
  s.tlb.flushPage(pageAddress(value), asidOf(value));
  return true;
};
const flushPageOfAll: Operation = (s, _vp, value) => {
  s.tlb.flushPage(pageAddress(value));
  return true;
};

/** Pages of a range that are forgotten one by one; of larger ranges everything that may be concerned. */
const MAX_RANGE = 64n;
/** log2 of a granule by TG of a TLBI by range; 0 is reserved. */
const RANGE_GRANULE = [0n, 12n, 14n, 16n];
/**
 * TLBI by range: BaseADDR 36:0 in granules (with TCR_EL1.DS in 64 KiB), NUM 43:39, SCALE 45:44, TG 47:46 (C5.5); for
 * (NUM + 1) * 2^(5 * SCALE + 1) granules.
 */
const flushRange = (s: SystemInstructions, vp: VpState, value: bigint, asid?: number): boolean => {
  const granule = RANGE_GRANULE[Number((value >> 46n) & 3n)];
  if (granule === 0n) return flushAll(s, vp, value);
  const ds = s.ports.features.has('LPA2') && (vp.u32(TCR + 4) & (1 << 27)) !== 0;
  const base = BigInt.asIntN(37, value) << (ds ? 16n : granule);
  const granules = (((value >> 39n) & 31n) + 1n) << (5n * ((value >> 44n) & 3n) + 1n);
  if (granules <= MAX_RANGE) for (let n = 0n; n < granules; n++) s.tlb.flushPage(BigInt.asUintN(64, base + (n << granule)), asid);
  else if (base >= 0n && base + (granules << granule) <= 1n << 55n) s.tlb.flushAddressSpaces(asid);
  else s.tlb.flushAll();
  return true;
};

const flushRangeOfAsid: Operation = (s, vp, value) => flushRange(s, vp, value, asidOf(value));
const flushRangeOfAll: Operation = (s, vp, value) => flushRange(s, vp, value);

/** Cache maintenance by VA: nothing to maintain, but the address has to be there. */
const cacheByVa =
  (access: AccessKind): Operation =>
  (s, vp, va) =>
    s.probe(vp, va, access);

/** IC IVAU may be executed without read permission (D7.5.9.4). */
const instructionCacheByVa: Operation = (s, vp, va) => s.probe(vp, va, READ, true);

const translate =
  (access: AccessKind, el: 0 | 1, pan: boolean): Operation =>
  (s, vp, va) =>
    s.addressTranslate(vp, va, access, el, pan);

const SYS = new Map<number, SysRow>();
const sysKey = (op1: number, crn: number, crm: number, op2: number): number => (op1 << 11) | (crn << 7) | (crm << 3) | op2;
const sys = (
  name: string,
  [op1, crn, crm, op2]: readonly [number, number, number, number],
  run: Operation,
  o: Omit<SysRow, 'name' | 'run'> = {},
) => SYS.set(sysKey(op1, crn, crm, op2), { name, run, ...o });

// Cache maintenance, C5.3. Decoded instructions follow every write by themselves.
sys('IC IALLUIS', [0, 7, 1, 0], nothing);
sys('IC IALLU', [0, 7, 5, 0], nothing);
sys('IC IVAU', [3, 7, 5, 1], instructionCacheByVa, { userBit: UCI });
sys('DC IVAC', [0, 7, 6, 1], cacheByVa(WRITE));
sys('DC ISW', [0, 7, 6, 2], nothing);
sys('DC CSW', [0, 7, 10, 2], nothing);
sys('DC CISW', [0, 7, 14, 2], nothing);
sys('DC CVAC', [3, 7, 10, 1], cacheByVa(READ), { userBit: UCI });
sys('DC CVAU', [3, 7, 11, 1], cacheByVa(READ), { userBit: UCI });
sys('DC CIVAC', [3, 7, 14, 1], cacheByVa(READ), { userBit: UCI });
sys('DC CVAP', [3, 7, 12, 1], cacheByVa(READ), { userBit: UCI, feat: 'DPB' });
sys('DC CVADP', [3, 7, 13, 1], cacheByVa(READ), { userBit: UCI, feat: 'DPB2' });
sys('DC ZVA', [3, 7, 4, 1], (s, vp, va) => s.zeroBlock(vp, va), { userBit: DZE });
// Prediction restriction, C5.6: nothing is predicted.
sys('CFP RCTX', [3, 7, 3, 4], nothing, { userBit: ENRCTX, feat: 'SPECRES' });
sys('DVP RCTX', [3, 7, 3, 5], nothing, { userBit: ENRCTX, feat: 'SPECRES' });
sys('CPP RCTX', [3, 7, 3, 7], nothing, { userBit: ENRCTX, feat: 'SPECRES' });
// Address translation, C5.4.
sys('AT S1E1R', [0, 7, 8, 0], translate(READ, 1, false));
sys('AT S1E1W', [0, 7, 8, 1], translate(WRITE, 1, false));
sys('AT S1E0R', [0, 7, 8, 2], translate(READ, 0, false));
sys('AT S1E0W', [0, 7, 8, 3], translate(WRITE, 0, false));
sys('AT S1E1RP', [0, 7, 9, 0], translate(READ, 1, true), { feat: 'PAN2' });
sys('AT S1E1WP', [0, 7, 9, 1], translate(WRITE, 1, true), { feat: 'PAN2' });
// TLB maintenance, C5.5: local, inner and outer shareable forms.
for (const [suffix, crm, range, feat] of [
  ['', 7, 6],
  ['IS', 3, 2],
  ['OS', 1, 5, 'TLBIOS'],
] as [string, number, number, Feature?][]) {
  sys(`TLBI VMALLE1${suffix}`, [0, 8, crm, 0], flushAll, { feat });
  sys(`TLBI VAE1${suffix}`, [0, 8, crm, 1], flushPage, { feat });
  sys(`TLBI ASIDE1${suffix}`, [0, 8, crm, 2], flushAsid, { feat });
  sys(`TLBI VAAE1${suffix}`, [0, 8, crm, 3], flushPageOfAll, { feat });
  sys(`TLBI VALE1${suffix}`, [0, 8, crm, 5], flushPage, { feat });
  sys(`TLBI VAALE1${suffix}`, [0, 8, crm, 7], flushPageOfAll, { feat });
  sys(`TLBI RVAE1${suffix}`, [0, 8, range, 1], flushRangeOfAsid, { feat: 'TLBIRANGE' });
  sys(`TLBI RVAAE1${suffix}`, [0, 8, range, 3], flushRangeOfAll, { feat: 'TLBIRANGE' });
  sys(`TLBI RVALE1${suffix}`, [0, 8, range, 5], flushRangeOfAsid, { feat: 'TLBIRANGE' });
  sys(`TLBI RVAALE1${suffix}`, [0, 8, range, 7], flushRangeOfAll, { feat: 'TLBIRANGE' });
}

/** MSR (immediate), C6.2.245: PSTATE fields by op1:op2. */
interface PstateRow {
  readonly feat?: Feature;
  /** Executable at EL0 (DAIF: while SCTLR_EL1.UMA is set). */
  readonly user: boolean;
  readonly bit: number;
}
const PSTATE_FIELDS = new Map<number, PstateRow>([
  [(0 << 3) | 3, { feat: 'UAO', user: false, bit: PSTATE.UAO }],
  [(0 << 3) | 4, { feat: 'PAN', user: false, bit: PSTATE.PAN }],
  [(3 << 3) | 1, { feat: 'SSBS', user: true, bit: PSTATE.SSBS }],
  [(3 << 3) | 2, { feat: 'DIT', user: true, bit: PSTATE.DIT }],
]);
const SP_SEL = (0 << 3) | 5;
const DAIF_SET = (3 << 3) | 6;
const DAIF_CLR = (3 << 3) | 7;

const low = (v: bigint): number => Number(v & 0xffffffffn);
const high = (v: bigint): number => Number(v >> 32n);

export class SystemInstructions implements SysregContext {
  readonly ports: CpuPorts;
  readonly tlb: TlbControl;
  readonly #mmu: Mmu;

  constructor(ports: CpuPorts, tlb: TlbControl, mmu: Mmu) {
    this.ports = ports;
    this.tlb = tlb;
    this.#mmu = mmu;
  }

  /** Executes the MRS, MSR, SYS or SYSL `word` at PC. PC moves only with `jumped`. */
  execute(vp: VpState, word: number): Outcome {
    const op0 = (word >>> 19) & 3;
    return op0 === 0 ? this.#pstate(vp, word) : op0 === 1 ? this.#sys(vp, word) : this.#register(vp, word, op0);
  }

  #trap(vp: VpState, word: number): Outcome {
    takeSysTrap(vp, sysTrapIss(word));
    return 'jumped';
  }

  #control(vp: VpState, bit: number): boolean {
    return ((vp.u32(SCTLR) >>> bit) & 1) !== 0;
  }

  #register(vp: VpState, word: number, op0: number): Outcome {
    const row = findSystemRegister({
      op0,
      op1: (word >>> 16) & 7,
      crn: (word >>> 12) & 15,
      crm: (word >>> 8) & 15,
      op2: (word >>> 5) & 7,
    });
    if (!row) return 'undef';
    const write = ((word >>> 21) & 1) === 0;
    switch (sysregAccess(this, vp, row, write)) {
      case 'undef':
        return 'undef';
      case 'trap':
        return this.#trap(vp, word);
      case 'fp-trap':
        takeFpTrap(vp);
        return 'jumped';
    }
    const rt = word & 31;
    if (write) writeSystemRegister(this, vp, row, vp.x(rt));
    else vp.setX(rt, readSystemRegister(this, vp, row));
    return 'next';
  }

  #pstate(vp: VpState, word: number): Outcome {
    // Only MSR (immediate): L = 0, CRn = 4, Rt = 31.
    if ((word & 0x0020f01f) !== 0x0000401f) return 'undef';
    const field = (((word >>> 16) & 7) << 3) | ((word >>> 5) & 7);
    const imm = (word >>> 8) & 15;
    const user = vp.el === 0;
    const pstate = vp.u32(VP.PSTATE);
    if (field === DAIF_SET || field === DAIF_CLR) {
      if (user && !this.#control(vp, UMA)) return this.#trap(vp, word);
      vp.setU32(VP.PSTATE, field === DAIF_SET ? pstate | (imm << 6) : pstate & ~(imm << 6));
      refresh(vp);
      return 'next';
    }
    if (field === SP_SEL) {
      if (user) return 'undef';
      setMode(vp, (pstate & 0xe) | (imm & 1));
      refresh(vp);
      return 'next';
    }
    const row = PSTATE_FIELDS.get(field);
    if (!row || (user && !row.user) || (row.feat && !this.ports.features.has(row.feat))) return 'undef';
    vp.setU32(VP.PSTATE, imm & 1 ? pstate | row.bit : pstate & ~row.bit);
    refresh(vp);
    // What unprivileged accesses of EL1 find in the TLB has EL0's rights.
    if (row.bit === PSTATE.UAO && imm & 1) this.tlb.flushAll();
    return 'next';
  }

  #sys(vp: VpState, word: number): Outcome {
    // No SYSL instruction is there.
    if ((word >>> 21) & 1) return 'undef';
    const row = SYS.get(sysKey((word >>> 16) & 7, (word >>> 12) & 15, (word >>> 8) & 15, (word >>> 5) & 7));
    if (!row || (row.feat && !this.ports.features.has(row.feat))) return 'undef';
    if (vp.el === 0) {
      if (row.userBit === undefined) return 'undef';
      if (!this.#control(vp, row.userBit)) return this.#trap(vp, word);
    }
    return row.run(this, vp, vp.x(word & 31)) ? 'next' : 'jumped';
  }

  /** Takes the data abort that cache maintenance of `va` meets, if any. PAN does not apply (D8.4.3). */
  probe(vp: VpState, va: bigint, access: AccessKind, anyPermission = false): boolean {
    const { out } = this.#mmu;
    if (this.#mmu.translate(vp, high(va), low(va), access, vp.el as 0 | 1, false)) return true;
    if (anyPermission && (out.fsc & ~3) === FSC.PERMISSION) return true;
    takeDataAbort(vp, va, out.fsc, true, { cm: true });
    return false;
  }

  /** DC ZVA, where generated code does not do it. */
  zeroBlock(vp: VpState, va: bigint): boolean {
    const start = va & ~BigInt(ZVA_BLOCK - 1);
    const { out } = this.#mmu;
    const { ram } = this.ports.bus;
    const pan = vp.el === 1 && (vp.u32(VP.PSTATE) & PSTATE.PAN) !== 0;
    let fsc: number = FSC.EXTERNAL;
    if (!this.#mmu.translate(vp, high(start), low(start), WRITE, vp.el as 0 | 1, pan)) fsc = out.fsc;
    // To Device memory it is an Alignment fault (C5.3.9).
    else if (out.device) fsc = FSC.ALIGNMENT;
    else {
      const at = ram.at(out.pa, ZVA_BLOCK);
      if (at >= 0) {
        this.#mmu.accessed();
        ram.touch(at, ZVA_BLOCK, true);
        ram.bytes.fill(0, at, at + ZVA_BLOCK);
        return true;
      }
    }
    takeDataAbort(vp, va, fsc, true);
    return false;
  }

  /** AT: PAR_EL1 tells the address and attributes, or the fault (D19.2.110). */
  addressTranslate(vp: VpState, va: bigint, access: AccessKind, el: 0 | 1, pan: boolean): boolean {
    const mmu = this.#mmu;
    const respectPan = pan && (vp.u32(VP.PSTATE) & PSTATE.PAN) !== 0;
    // RES1 in both formats.
    let par = 1n << 11n;
    if (mmu.translate(vp, high(va), low(va), access, el, respectPan)) {
      const { memory, shareability } = mmu.attributes;
      // Device and Normal Non-cacheable memory is always outer shareable.
      const sh = (memory & 0xf0) === 0 || memory === 0x44 ? 2 : shareability;
      par |= (BigInt(memory) << 56n) | (BigInt(mmu.out.pa) & ~0xfffn) | BigInt((sh << 7) | (1 << 9));
    } else if (isAbortOnWalk(mmu.out.fsc)) {
      // An external abort on the walk is taken, not reported.
      takeDataAbort(vp, va, mmu.out.fsc, true, { cm: true });
      return false;
    } else par |= BigInt((mmu.out.fsc << 1) | 1);
    vp.setU64(PAR, par);
    return true;
  }
}
