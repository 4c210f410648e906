/** Sets of VPs by index, as flushes and IPIs have them (reference hyperv-arm64.md §2.7). */
import { HV_GENERIC_SET_ALL, HV_GENERIC_SET_SPARSE_4K, STATUS } from '../tlfs.ts';

/** Which of VPs 0 to 63 are in a mask. */
export const inMask =
  (mask: bigint) =>
  (index: number): boolean =>
    ((mask >> BigInt(index)) & 1n) === 1n;

/** An HV_VP_SET, or the status that refuses it: bank n of 64 VPs is present when bit n of the mask is; present banks follow one another. */
export function inSet(format: bigint, validBankMask: bigint, banks: readonly bigint[]): number | ((index: number) => boolean) {
  if (format === HV_GENERIC_SET_ALL) return () => true;
  if (format !== HV_GENERIC_SET_SPARSE_4K) return STATUS.INVALID_PARAMETER;
  const present: number[] = [];
  for (let n = 0; n < 64; n++) if ((validBankMask >> BigInt(n)) & 1n) present.push(n);
  if (present.length !== banks.length) return STATUS.INVALID_HYPERCALL_INPUT;
  return (index) => {
    const at = present.indexOf(index >>> 6);
    return at >= 0 && ((banks[at] >> BigInt(index & 63)) & 1n) === 1n;
  };
}
