/**
 * The guest's own copy of what it found out about its hypervisor: `struct ms_hyperv_info ms_hyperv`
 * (include/asm-generic/mshyperv.h). The layout comes from the kernel's BTF; without BTF, from the two known beginnings of it,
 * of which the one that agrees with the host's values is taken.
 */
import { viewOf } from '../../emulator/base/struct.ts';
import { FEATURE_WORDS, type FeatureField } from '../../emulator/index.ts';
import type { GuestKernel } from './kernel.ts';

const FEATURE_FIELDS = FEATURE_WORDS.map((word) => word.field);

const LAYOUTS: Record<FeatureField, number>[] = [
  { features: 0, priv_high: 4, misc_features: 8, hints: 12 }, // up to 6.14
  { features: 0, priv_high: 4, misc_features: 12, hints: 16 }, // with ext_features after priv_high
];

export interface MsHyperv {
  address: bigint;
  words: Record<FeatureField, number>;
}

/** Reads the struct; undefined when the guest has none (yet). */
export function readMsHyperv(kernel: GuestKernel, vp: number, host: Record<FeatureField, number>): MsHyperv | undefined {
  const address = kernel.symbols.address('ms_hyperv');
  const raw = address === undefined ? undefined : kernel.machine.readVirtual(vp, address, 20);
  if (address === undefined || !raw) return undefined;
  const view = viewOf(raw);
  const decode = (layout: Record<FeatureField, number>) =>
    Object.fromEntries(FEATURE_FIELDS.map((f) => [f, view.getUint32(layout[f], true)])) as Record<FeatureField, number>;
  const members = kernel.btf?.members('ms_hyperv_info');
  if (members) {
    const at = (field: string) => members.find((m) => m.name === field)?.offset;
    const offsets = FEATURE_FIELDS.map((f) => [f, at(f)] as const);
    if (offsets.every(([, offset]) => offset !== undefined && offset <= 16))
      return { address, words: decode(Object.fromEntries(offsets) as Record<FeatureField, number>) };
  }
  const agreeing = LAYOUTS.find((layout) => FEATURE_FIELDS.every((f) => decode(layout)[f] === host[f]));
  return { address, words: decode(agreeing ?? LAYOUTS[0]) };
}
