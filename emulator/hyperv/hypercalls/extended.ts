/** Extended hypercalls (0x8001 and up), which a partition has with EnableExtendedHypercalls. */
import { HvOutputExtQueryCapabilities } from '../tlfs.ts';
import { type Fields, type Hypercall, simple } from './hypercall.ts';

export const EXTENDED: readonly Hypercall[] = [
  // None of the extended calls that have a capability bit is here (reference hyperv-arm64.md §2.7).
  simple<Fields, { Capabilities: bigint }>('HvExtCallQueryCapabilities', {
    output: HvOutputExtQueryCapabilities,
    run: () => ({ output: { Capabilities: 0n } }),
  }),
];
