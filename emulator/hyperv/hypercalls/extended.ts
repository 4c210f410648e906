/** Extended hypercalls (0x8001 and up), which a partition has with EnableExtendedHypercalls. */
import { u64 } from '../../base/struct.ts';
import { PAGE } from '../../memory/ram.ts';
import {
  HV_EXT_CAPABILITY_MEMORY_COLD_DISCARD_HINT,
  HV_EXT_MEMORY_HEAT_HINT_TYPE,
  HvInputExtMemoryHeatHint,
  HvOutputExtQueryCapabilities,
  STATUS,
} from '../tlfs.ts';
import { type Fields, type Hypercall, rep, simple } from './hypercall.ts';

/**
 * HV_GPA_PAGE_RANGE: first page and number of pages of 4 KiB, 2 MiB (bit 11) or 1 GiB (and bit 12), in 4 KiB pages (reference
 * hyperv-arm64.md §2.7).
 */
function pagesOf(range: bigint): { first: bigint; count: bigint } {
  const more = range & 0x7ffn;
  if (!(range & (1n << 11n))) return { first: range >> 12n, count: more + 1n };
  const size = range & (1n << 12n) ? 1n << 18n : 1n << 9n;
  return { first: (range >> 21n) << 9n, count: (more + 1n) * size };
}

export const EXTENDED: readonly Hypercall[] = [
  simple<Fields, { Capabilities: bigint }>('HvExtCallQueryCapabilities', {
    output: HvOutputExtQueryCapabilities,
    run: () => ({ output: { Capabilities: HV_EXT_CAPABILITY_MEMORY_COLD_DISCARD_HINT } }),
  }),
  rep('HvExtCallMemoryHeatHint', {
    input: HvInputExtMemoryHeatHint,
    element: u64,
    elements: 'GpaRangeList',
    showElement: (range) => {
      const { first, count } = pagesOf(range);
      return { Gpa: first << 12n, Pages: count };
    },
    run({ partition }, { HeatType }, range) {
      if (HeatType > HV_EXT_MEMORY_HEAT_HINT_TYPE.coldDiscard) return STATUS.INVALID_PARAMETER;
      const { first, count } = pagesOf(range);
      if ((first + count) * BigInt(PAGE) > BigInt(partition.host.ram.size)) return STATUS.INVALID_PARAMETER;
      if (HeatType === HV_EXT_MEMORY_HEAT_HINT_TYPE.coldDiscard) partition.discard(Number(first), Number(count));
      return STATUS.SUCCESS;
    },
  }),
];
