/**
 * Where the code of a signed pointer is (Arm ARM DDI 0487, D8.10 "Pointer authentication"): which bits hold it follows from TCR_EL1, which keys
 * are in use from SCTLR_EL1. Both change rarely, so cells of the VP block say it to generated code (vp-state.ts, `PAC_*`).
 */
import type { Feature } from './features.ts';
import { addressFeatures, hasTag, inputSize } from './translation-control.ts';
import { VP, type VpState } from './vp-state.ts';

/** Keys by their number in syndromes (ISS of a PAC Fail exception, D19.2.37): bit 1 data, bit 0 B. */
export const KEY = { IA: 0, IB: 1, DA: 2, DB: 3 } as const;

/** SCTLR_EL1.EnIA, EnIB, EnDA, EnDB, by key. */
const ENABLE_BIT = [31, 30, 27, 13];
export const SCTLR_PAUTH = ENABLE_BIT.reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);

const TOP_BYTE = 0xffn << 56n;
const BIT55 = 1n << 55n;
const BIT63 = 1n << 63n;

/** Fills the `PAC_*` cells. */
export function refreshPointerAuthentication(vp: VpState, features: ReadonlySet<Feature>, sctlr: bigint, tcr: bigint): void {
  const [tcrLo, tcrHi] = [Number(tcr & 0xffffffffn), Number(tcr >> 32n)];
  const { lva, lpa2 } = addressFeatures(features);
  ENABLE_BIT.forEach((bit, key) => {
    vp.setU32(VP.PAC_ENABLED + 4 * key, Number((sctlr >> BigInt(bit)) & 1n));
  });
  for (const kind of [0, 1] as const) {
    const data = kind === 1;
    let anyTag = false;
    for (const half of [0, 1] as const) {
      // CalculateBottomPACBit: the code takes all bits between the address and bit 63, or the tag; bit 55 says which half.
      const bottom = BigInt(inputSize(tcrLo, tcrHi, half, lva, lpa2));
      const tag = hasTag(tcrHi, half, !data);
      anyTag ||= tag;
      const between = BIT55 - (1n << bottom);
      vp.setU64(VP.PAC_MASK + 16 * kind + 8 * half, tag ? between : between | TOP_BYTE);
    }
    // AddPAC: with tags in use bit 55 of what is signed tells the half, else bit 63.
    vp.setU64(VP.PAC_SELECT + 8 * kind, anyTag ? BIT55 : BIT63);
  }
}
