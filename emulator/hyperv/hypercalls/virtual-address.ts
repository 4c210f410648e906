/** TLB flushes by hypercall (reference hyperv-arm64.md §2.7). Flushing more than asked is allowed, and is what we do. */
import { u64 } from '../../base/struct.ts';
import { HV_FLUSH_ALL_PROCESSORS, HV_FLUSH_USE_EXTENDED_RANGE_FORMAT, HvInputFlush, HvInputFlushEx, STATUS } from '../tlfs.ts';
import { type Caller, type Hypercall, rep, simple } from './hypercall.ts';
import { inMask, inSet } from './vp-set.ts';

/** Flushes the VPs whose index `chosen` has; a status. */
function flush({ partition }: Caller, flags: bigint, chosen: (index: number) => boolean): number {
  if (flags & HV_FLUSH_USE_EXTENDED_RANGE_FORMAT && !partition.has('EnableExtendedGvaRangesForFlushVirtualAddressList'))
    return STATUS.INVALID_PARAMETER;
  for (const vp of partition.vps)
    if (flags & HV_FLUSH_ALL_PROCESSORS || chosen(partition.vpIndex[vp.index])) partition.host.flushTlb?.(vp.index);
  return STATUS.SUCCESS;
}

const byMask = (caller: Caller, input: { Flags: bigint; ProcessorMask: bigint }): number =>
  flush(caller, input.Flags, inMask(input.ProcessorMask));

function bySet(caller: Caller, input: { Flags: bigint; Format: bigint; ValidBankMask: bigint }, banks: bigint[]): number {
  if (input.Flags & HV_FLUSH_ALL_PROCESSORS) return flush(caller, input.Flags, () => true);
  const set = inSet(input.Format, input.ValidBankMask, banks);
  return typeof set === 'number' ? set : flush(caller, input.Flags, set);
}

export const VIRTUAL_ADDRESS: readonly Hypercall[] = [
  simple('HvCallFlushVirtualAddressSpace', { input: HvInputFlush, run: byMask }),
  rep('HvCallFlushVirtualAddressList', {
    input: HvInputFlush,
    element: u64,
    elements: 'GvaRangeList',
    run: (caller, input) => byMask(caller, input),
  }),
  simple('HvCallFlushVirtualAddressSpaceEx', { input: HvInputFlushEx, variable: 'BankContents', run: bySet }),
  rep('HvCallFlushVirtualAddressListEx', {
    input: HvInputFlushEx,
    variable: 'BankContents',
    element: u64,
    elements: 'GvaRangeList',
    run: (caller, input, _range, banks) => bySet(caller, input, banks),
  }),
];
