/** What TCR_EL1 says about the two halves of the address space (Arm ARM DDI 0487, D19.2.142). Numbers only: walks use it. */
import type { Feature } from './features.ts';

/** log2 of the granule by TCR_EL1.TG0 and TG1; reserved values count as 4 KiB. */
const TG0 = [12, 16, 14, 12];
const TG1 = [12, 14, 12, 16];
const DS = 1 << 27;

/** log2 of the granule of the lower or upper half. */
export const granuleOf = (tcrLo: number, upper: number): number => (upper ? TG1[tcrLo >>> 30] : TG0[(tcrLo >>> 14) & 3]);

/** True when descriptors of 4 and 16 KiB granules are in their format for 52-bit addresses. */
export const hasLargeDescriptors = (tcrHi: number, granule: number, lpa2: boolean): boolean =>
  lpa2 && granule !== 16 && (tcrHi & DS) !== 0;

/** Bits of an input address, 64 - TnSZ: 25 to 48, or 52 where the granule allows. */
export function inputSize(tcrLo: number, tcrHi: number, upper: number, lva: boolean, lpa2: boolean): number {
  const granule = granuleOf(tcrLo, upper);
  const least = hasLargeDescriptors(tcrHi, granule, lpa2) || (lva && granule === 16) ? 12 : 16;
  return 64 - Math.min(39, Math.max(least, upper ? (tcrLo >>> 16) & 63 : tcrLo & 63));
}

/** The top byte is a tag and no part of the address: TBI0, TBI1 (bits 37, 38), unless TBID0, TBID1 (51, 52) for instructions. */
export const hasTag = (tcrHi: number, upper: number, instruction: boolean): boolean =>
  (tcrHi & (1 << (5 + upper))) !== 0 && !(instruction && tcrHi & (1 << (19 + upper)));

/** The features that `inputSize` asks for. */
export const addressFeatures = (features: ReadonlySet<Feature>) => ({ lva: features.has('LVA'), lpa2: features.has('LPA2') });
