/**
 * Breakpoints and watchpoints as a VP's own debug registers ask for them (Arm ARM DDI 0487, D2.8 "Breakpoint exceptions", D2.9
 * "Watchpoint exceptions"; pseudocode AArch64.BreakpointMatch, AArch64.WatchpointMatch, AArch64.StateMatch).
 *
 * Nothing here is asked while nothing is armed: cpu.ts patches the records of the addresses that `armedBy` lists, and keeps pages
 * out of the fast TLB that have bytes which are watched, so that only executing or accessing these comes here.
 */
import { BREAKPOINTS, CONTEXT_BREAKPOINTS, WATCHPOINTS } from './models.ts';
import { cellOf, monitorDebugEnabled } from './sysregs.ts';
import { VP, type VpState } from './vp-state.ts';

const numbered = (count: number, name: (n: number) => string): readonly number[] =>
  Array.from({ length: count }, (_, n) => cellOf(name(n)));
const BVR = numbered(BREAKPOINTS, (n) => `DBGBVR${n}_EL1`);
const BCR = numbered(BREAKPOINTS, (n) => `DBGBCR${n}_EL1`);
const WVR = numbered(WATCHPOINTS, (n) => `DBGWVR${n}_EL1`);
const WCR = numbered(WATCHPOINTS, (n) => `DBGWCR${n}_EL1`);
const CONTEXTIDR = cellOf('CONTEXTIDR_EL1');

/** DBGBCR<n>_EL1.BT (D19.3.2). Others are reserved here, and disabled. */
const ADDRESS = 0;
const LINKED_ADDRESS = 1;
const CONTEXT = 2;
const LINKED_CONTEXT = 3;

/** Fields that DBGBCR<n>_EL1 and DBGWCR<n>_EL1 have in the same place. */
const isEnabled = (control: number): boolean => (control & 1) !== 0;
const linkedTo = (control: number): number => (control >>> 16) & 15;
const breakpointType = (control: number): number => (control >>> 20) & 15;
const isLinkedWatchpoint = (control: number): boolean => (control & (1 << 20)) !== 0;
/** LSC: 1 loads, 2 stores. */
const watchedAccesses = (control: number): number => (control >>> 3) & 3;

/** Bytes [start, start + length) of virtual addresses, bits 63:56 cleared. */
export interface WatchedRange {
  readonly start: bigint;
  readonly length: bigint;
}

export interface Armed {
  /** Addresses of instructions. */
  readonly breakpoints: readonly bigint[];
  /** An unlinked context breakpoint: every instruction may be one. */
  readonly everywhere: boolean;
  /** Where bytes may be watched. */
  readonly watched: readonly WatchedRange[];
}

/** What a virtual address is compared by: tags do not count, and no regime here has bits above 55 that do. */
const untagged = (va: bigint): bigint => va & 0x00ff_ffff_ffff_ffffn;
/** DBGBVR's address: bits above those it holds are a sign extension (RESS). */
const instructionAddress = (value: bigint): bigint => BigInt.asUintN(64, BigInt.asIntN(53, value & ~3n));

/**
 * HMC, SSC and PxC let through an access at `el` (AArch64.StateMatch). Without EL2 and EL3 all but HMC = 0, SSC = 0, PxC != 0 is
 * reserved, and disabled.
 */
const stateMatches = (control: number, el: number): boolean =>
  (control & 0xe000) === 0 && (control & (el === 0 ? 1 << 2 : 1 << 1)) !== 0;

/** The context-aware breakpoint number `n` matches, as one of type `type`. */
function contextMatches(vp: VpState, n: number, type: number): boolean {
  if (n >= BREAKPOINTS || n < BREAKPOINTS - CONTEXT_BREAKPOINTS) return false;
  const control = vp.u32(BCR[n]);
  return isEnabled(control) && breakpointType(control) === type && vp.u32(BVR[n]) === vp.u32(CONTEXTIDR);
}

/** The bytes that watchpoint `n` covers as a whole: 2^MASK, or a doubleword of which BAS selects bytes. */
function watchedRange(vp: VpState, n: number): WatchedRange {
  const mask = BigInt((vp.u32(WCR[n]) >>> 24) & 31);
  const value = untagged(vp.u64(WVR[n]));
  // MASK of 1 and 2 is reserved: as 0.
  const bits = mask > 2n ? mask : 3n;
  return { start: (value >> bits) << bits, length: 1n << bits };
}

/** True when watchpoint `n` watches the byte at `va` of its range. */
function watchesByte(vp: VpState, n: number, va: bigint): boolean {
  const control = vp.u32(WCR[n]);
  const bas = (control >>> 5) & 0xff;
  if (control >>> 24 > 2) return bas === 0xff;
  // A word's BAS: bits 3:0 for its bytes, 7:4 not used.
  const isWord = (vp.u32(WVR[n]) & 4) !== 0;
  const byte = Number(va & 7n);
  return isWord ? byte >= 4 && ((bas >>> (byte - 4)) & 1) !== 0 : ((bas >>> byte) & 1) !== 0;
}

/** What the debug registers of `vp` arm; undefined: nothing. */
export function armedBy(vp: VpState): Armed | undefined {
  if (!monitorDebugEnabled(vp)) return undefined;
  const breakpoints: bigint[] = [];
  let everywhere = false;
  BCR.forEach((at, n) => {
    const control = vp.u32(at);
    if (!isEnabled(control)) return;
    const type = breakpointType(control);
    if (type === ADDRESS || type === LINKED_ADDRESS) breakpoints.push(instructionAddress(vp.u64(BVR[n])));
    else if (type === CONTEXT && n >= BREAKPOINTS - CONTEXT_BREAKPOINTS) everywhere = true;
  });
  const watched = WCR.flatMap((at, n) => (isEnabled(vp.u32(at)) ? [watchedRange(vp, n)] : []));
  return breakpoints.length || everywhere || watched.length ? { breakpoints, everywhere, watched } : undefined;
}

/** True when the instruction at PC is to take a Breakpoint exception. */
export function breakpointMatches(vp: VpState): boolean {
  if (!vp.u32(VP.DEBUG) || !monitorDebugEnabled(vp)) return false;
  const { pc, el } = vp;
  return BCR.some((at, n) => {
    const control = vp.u32(at);
    if (!isEnabled(control) || !stateMatches(control, el)) return false;
    const type = breakpointType(control);
    if (type === CONTEXT) return contextMatches(vp, n, CONTEXT);
    if ((type !== ADDRESS && type !== LINKED_ADDRESS) || instructionAddress(vp.u64(BVR[n])) !== pc) return false;
    return type === ADDRESS || contextMatches(vp, linkedTo(control), LINKED_CONTEXT);
  });
}

/**
 * The lowest watched byte of an access of `size` bytes at `va` with the rights of `el`; undefined: it takes no Watchpoint exception.
 */
export function watchpointMatches(
  vp: VpState,
  va: bigint,
  size: number,
  el: number,
  read: boolean,
  write: boolean,
): bigint | undefined {
  if (!vp.u32(VP.DEBUG) || !monitorDebugEnabled(vp)) return undefined;
  for (let n = 0; n < WATCHPOINTS; n++) {
    const control = vp.u32(WCR[n]);
    if (!isEnabled(control) || !stateMatches(control, el)) continue;
    const accesses = watchedAccesses(control);
    if (!(read && accesses & 1) && !(write && accesses & 2)) continue;
    if (isLinkedWatchpoint(control) && !contextMatches(vp, linkedTo(control), LINKED_CONTEXT)) continue;
    const range = watchedRange(vp, n);
    for (let i = 0; i < size; i++) {
      const byte = BigInt.asUintN(64, va + BigInt(i));
      const at = untagged(byte);
      if (at >= range.start && at < range.start + range.length && watchesByte(vp, n, at)) return byte;
    }
  }
  return undefined;
}

/** True when an access to [va, va + size) touches a 4 KiB page in which bytes are watched. */
export function inWatchedPage(watched: readonly WatchedRange[], va: bigint, size: number): boolean {
  const from = untagged(va) & ~0xfffn;
  const to = ((untagged(va) + BigInt(size) - 1n) | 0xfffn) + 1n;
  return watched.some((w) => w.start < to && from < w.start + w.length);
}
