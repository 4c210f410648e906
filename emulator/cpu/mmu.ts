/**
 * VMSAv8-64 stage 1 translation of the EL1&0 regime (Arm ARM DDI 0487, D8): all three granules, 52-bit addresses, hardware
 * management of the Access flag and dirty state. Walks read page tables straight from RAM. Numbers only and nothing allocated: this
 * runs on every TLB miss.
 *
 * ASIDs, contiguous hints and shareability do not matter to a TLB that holds one address space at a time.
 */
import type { Ram } from '../memory/ram.ts';
import { FSC } from './exceptions.ts';
import { modelOf } from './models.ts';
import { type AccessKind, type CpuPorts, EXECUTE, type Translation, WRITE } from './ports.ts';
import { cellOf } from './sysregs.ts';
import { granuleOf, hasLargeDescriptors, hasTag, inputSize } from './translation-control.ts';
import type { VpState } from './vp-state.ts';

const SCTLR = cellOf('SCTLR_EL1');
const TCR = cellOf('TCR_EL1');
const TTBR0 = cellOf('TTBR0_EL1');
const TTBR1 = cellOf('TTBR1_EL1');
const MAIR = cellOf('MAIR_EL1');

const TWO32 = 0x1_0000_0000;

/** Output address bits by TCR_EL1.IPS. */
const IPS = [32, 36, 40, 42, 44, 48, 52, 52];

/** Bits in the upper half of TCR_EL1 (D19.2.142). */
const [HA, HD] = [1 << 7, 1 << 8];
/** SCTLR_EL1.EPAN, in the upper half. */
const EPAN = 1 << 25;
/** Bits of a block or page descriptor (D8.3.2): lower half, then upper. */
const [AP_USER, AP_READ_ONLY, AF, NG] = [1 << 6, 1 << 7, 1 << 10, 1 << 11];
const [GP, DBM, PXN, UXN] = [1 << 18, 1 << 19, 1 << 21, 1 << 22];

/** Status of a fault at `level`, -1 to 3: that level has codes of its own (D19.2.37). */
const faultAt = (kind: number, level: number): number =>
  level >= 0 ? kind + level : kind === FSC.TRANSLATION ? 0x2b : kind === FSC.ADDRESS_SIZE ? 0x29 : 0x13;

/** True for the status of an external abort on a walk. */
export const isAbortOnWalk = (fsc: number): boolean => (fsc & ~3) === FSC.EXTERNAL_ON_WALK || fsc === 0x13;

/** What a successful translation found, beyond `Translation`: PAR_EL1 shows it. */
export interface Attributes {
  /** Byte of MAIR_EL1; 0 (Device-nGnRnE) with the MMU off. */
  memory: number;
  /** SH[1:0] of the descriptor, or of TCR_EL1 where that tells it. */
  shareability: number;
}

export class Mmu {
  readonly out: Translation = { pa: 0, device: false, shift: 12, writable: false, isGlobal: true, guarded: false, fsc: 0 };
  readonly attributes: Attributes = { memory: 0, shareability: 0 };
  readonly #ram: Ram;
  readonly #paBits: number;
  readonly #hpds: boolean;
  readonly #e0pd: boolean;
  readonly #pan3: boolean;
  readonly #hafdbs: boolean;
  readonly #lva: boolean;
  readonly #lpa: boolean;
  readonly #lpa2: boolean;
  readonly #bti: boolean;
  /** The descriptor that the last translation would update, and its lower half then; -1: none. */
  #updateAt = -1;
  #update = 0;

  constructor({ bus, features, model }: CpuPorts) {
    this.#ram = bus.ram;
    this.#paBits = modelOf(model).paBits;
    this.#hpds = features.has('HPDS');
    this.#e0pd = features.has('E0PD');
    this.#pan3 = features.has('PAN3');
    this.#hafdbs = features.has('HAFDBS');
    this.#lva = features.has('LVA');
    this.#lpa = features.has('LPA');
    this.#lpa2 = features.has('LPA2');
    this.#bti = features.has('BTI');
  }

  #fault(fsc: number): false {
    this.out.fsc = fsc;
    return false;
  }

  /** MMU off: PA = VA; data is Device-nGnRnE (D8.2.10). */
  #flat(vaHi: number, vaLo: number, access: AccessKind, tcrHi: number): boolean {
    const { out } = this;
    const tbi = hasTag(tcrHi, (vaHi >>> 23) & 1, access === EXECUTE);
    const top = tbi ? vaHi & 0x00ffffff : vaHi >>> 0;
    if (top >>> (this.#paBits - 32) !== 0) return this.#fault(FSC.ADDRESS_SIZE);
    out.pa = top * TWO32 + (vaLo >>> 0);
    out.device = access !== EXECUTE;
    out.shift = 12;
    out.writable = true;
    out.isGlobal = true;
    out.guarded = false;
    this.attributes.memory = 0;
    this.attributes.shareability = 2;
    return true;
  }

  /**
   * Translates the virtual address `vaHi`:`vaLo` (32-bit halves, signed or unsigned) for an access at `el` with
   * PSTATE.PAN = `pan`. True: `out` has the physical address; false: `out.fsc` the fault. No side effects on the guest: whoever makes
   * the access calls `accessed`.
   */
  translate(vp: VpState, vaHi: number, vaLo: number, access: AccessKind, el: 0 | 1, pan: boolean): boolean {
    const { out } = this;
    this.#updateAt = -1;
    const view = vp.view;
    const tcr = view.getUint32(TCR, true);
    const tcrHi = view.getUint32(TCR + 4, true);
    const sctlr = view.getUint32(SCTLR, true);
    if ((sctlr & 1) === 0) return this.#flat(vaHi, vaLo, access, tcrHi);

    // Which half of the address space: bit 55. Then every bit above the input size must repeat it, tags aside.
    const upper = (vaHi >>> 23) & 1;
    const granule = granuleOf(tcr, upper);
    const ds = hasLargeDescriptors(tcrHi, granule, this.#lpa2);
    const size = inputSize(tcr, tcrHi, upper, this.#lva, this.#lpa2);
    const tbi = hasTag(tcrHi, upper, access === EXECUTE);
    const stride = granule - 3;
    let level = 4 - Math.ceil((size - granule) / stride);
    // Bits [55:size] or [63:size], as a difference from the sign they should repeat; size is 25..52.
    const lowTop = size < 32 ? (upper ? ~vaLo : vaLo) >>> size : 0;
    const hiTop = (upper ? ~vaHi : vaHi) & (tbi ? 0x00ffffff : 0xffffffff);
    const outside = lowTop !== 0 || (size <= 32 ? hiTop !== 0 : hiTop >>> (size - 32) !== 0);
    const disabled = upper ? tcr & (1 << 23) : tcr & (1 << 7); // EPDn
    const kept = this.#e0pd && el === 0 && (upper ? tcrHi & (1 << 24) : tcrHi & (1 << 23));
    // Before any table is looked at these are faults of level 0, even where a walk begins at level -1.
    if (outside || disabled || kept) return this.#fault(FSC.TRANSLATION);

    // 64 KiB: descriptors have room for 52 bits, which they are for only where TCR_EL1.IPS says so.
    const ips = IPS[tcrHi & 7];
    const large64 = granule === 16 && this.#lpa;
    const lpa = large64 && ips === 52;
    const paBits = Math.min(ips, this.#paBits, ds || lpa ? 52 : 48);
    const hierarchical = !(this.#hpds && (upper ? tcrHi & (1 << 10) : tcrHi & (1 << 9)));
    let shift = granule + (3 - level) * stride;

    // TTBRn_EL1.BADDR, aligned to the size of the first table; bits 63:48 are the ASID, bit 0 is CnP.
    const ttbr = upper ? TTBR1 : TTBR0;
    const ttbrLo = view.getUint32(ttbr, true);
    let indexBits = size - shift;
    let addressHi = view.getUint32(ttbr + 4, true) & 0xffff;
    let alignment = indexBits + 3;
    if (ds || lpa) {
      addressHi |= ((ttbrLo >>> 2) & 15) << 16;
      alignment = Math.max(alignment, 6);
    }
    let table = addressHi * TWO32 + ((ttbrLo & -(1 << alignment)) >>> 0);
    if (addressHi >>> (paBits - 32) !== 0) return this.#fault(FSC.ADDRESS_SIZE);

    const ram = this.#ram;
    let apTable = 0;
    let pxn = 0;
    let uxn = 0;
    for (;;) {
      // Bits [shift + indexBits - 1 : shift] of the address.
      const field = shift >= 32 ? (vaHi & 0xfffff) >>> (shift - 32) : (vaLo >>> shift) | (vaHi << (32 - shift));
      const at = table + (field & ((1 << indexBits) - 1)) * 8;
      if (at + 8 > ram.size) return this.#fault(faultAt(FSC.EXTERNAL_ON_WALK, level));
      const lo = ram.view.getUint32(at, true);
      const hi = ram.view.getUint32(at + 4, true);

      if ((lo & 1) === 0) return this.#fault(faultAt(FSC.TRANSLATION, level));
      if (ds) addressHi = (hi & 0x3ffff) | (((lo >>> 8) & 3) << 18);
      else addressHi = (hi & 0xffff) | (lpa ? ((lo >>> 12) & 15) << 16 : 0);
      const tooLarge = addressHi >>> (paBits - 32) !== 0;
      if (level < 3 && lo & 2) {
        if (tooLarge) return this.#fault(faultAt(FSC.ADDRESS_SIZE, level));
        table = addressHi * TWO32 + ((lo & -(1 << granule)) >>> 0);
        if (hierarchical) {
          apTable |= (hi >>> 29) & 3;
          uxn |= (hi >>> 28) & 1;
          pxn |= (hi >>> 27) & 1;
        }
        level++;
        shift -= stride;
        indexBits = stride;
        continue;
      }

      // Blocks (AArch64.BlockDescSupported); at level 3 bit 1 says page.
      const largest = granule === 12 ? (ds ? 0 : 1) : ds || large64 ? 1 : 2;
      if (level === 3 ? (lo & 2) === 0 : level < largest) return this.#fault(faultAt(FSC.TRANSLATION, level));
      if (tooLarge) return this.#fault(FSC.ADDRESS_SIZE + level);
      // Hardware management of the Access flag and dirty state (D8.4.6); of the latter only with the former.
      let updated = lo;
      if ((lo & AF) === 0) {
        if (!this.#hafdbs || (tcrHi & HA) === 0) return this.#fault(FSC.ACCESS_FLAG + level);
        updated |= AF;
      }
      const clean = this.#hafdbs && (tcrHi & (HA | HD)) === (HA | HD) && (hi & DBM) !== 0 && (lo & AP_READ_ONLY) !== 0;

      // Permissions (D8.4): AP[2] read-only, AP[1] EL0 too; tables can only take away.
      uxn |= hi & UXN;
      pxn |= hi & PXN;
      const user = (lo & AP_USER) !== 0 && (apTable & 1) === 0;
      const writable = ((lo & AP_READ_ONLY) === 0 || clean) && (apTable & 2) === 0;
      const wxn = (sctlr & (1 << 19)) !== 0;
      const epan = this.#pan3 && uxn === 0 && (view.getUint32(SCTLR + 4, true) & EPAN) !== 0;
      const barred = el === 1 && pan && (user || epan);
      const mayRead = el === 0 ? user : !barred;
      const mayWrite = mayRead && writable;
      const mayExecute =
        el === 0 ? uxn === 0 && !(wxn && user && writable) : pxn === 0 && !(user && writable) && !(wxn && writable);
      if (!(access === EXECUTE ? mayExecute : access === WRITE ? mayWrite : mayRead)) return this.#fault(FSC.PERMISSION + level);
      if (clean && access === WRITE) updated &= ~AP_READ_ONLY;
      if (updated !== lo) {
        this.#updateAt = at;
        this.#update = updated;
      }

      const index = (lo >>> 2) & 7;
      const memory = view.getUint8(MAIR + index);
      if (shift < 32) {
        const offset = (1 << shift) - 1;
        out.pa = addressHi * TWO32 + (((lo & ~offset) | (vaLo & offset)) >>> 0);
      } else {
        const offset = (1 << (shift - 32)) - 1;
        out.pa = ((addressHi & ~offset) | (vaHi & offset)) * TWO32 + (vaLo >>> 0);
      }
      out.device = (memory & 0xf0) === 0;
      out.shift = shift;
      out.writable = mayWrite && !(clean && access !== WRITE);
      out.isGlobal = (lo & NG) === 0;
      out.guarded = this.#bti && (hi & GP) !== 0;
      this.attributes.memory = memory;
      // With DS, SH of the descriptor is part of the address: TCR_EL1.SH0 and SH1 count.
      this.attributes.shareability = ds ? (upper ? tcr >>> 28 : tcr >>> 12) & 3 : (lo >>> 8) & 3;
      return true;
    }
  }

  /** The access that was translated last is made: its descriptor says so, if hardware manages that. */
  accessed(): void {
    if (this.#updateAt < 0) return;
    this.#ram.touch(this.#updateAt, 8, true);
    this.#ram.view.setUint32(this.#updateAt, this.#update, true);
    this.#updateAt = -1;
  }
}
