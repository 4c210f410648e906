/** TLB flushes by hypercall (reference hyperv-arm64.md §2.7). Flushing more than asked is allowed, and is what we do. */
import { u64 } from '../../base/struct.ts';
import {
  HV_FLUSH_ALL_PROCESSORS,
  HV_GENERIC_SET_ALL,
  HV_GENERIC_SET_SPARSE_4K,
  HvInputFlush,
  HvInputFlushEx,
  STATUS,
} from '../tlfs.ts';
import { type Caller, type Hypercall, rep, simple } from './hypercall.ts';

/** Flushes the VPs that `chosen` says. */
function flush({ partition }: Caller, chosen: (vp: number) => boolean): number {
  for (const vp of partition.vps) if (chosen(vp.index)) partition.host.flushTlb?.(vp.index);
  return STATUS.SUCCESS;
}

const byMask = (caller: Caller, input: { Flags: bigint; ProcessorMask: bigint }): number =>
  flush(caller, (vp) => (input.Flags & HV_FLUSH_ALL_PROCESSORS) !== 0n || ((input.ProcessorMask >> BigInt(vp)) & 1n) === 1n);

/** An HV_VP_SET: bank n of 64 VPs is present when bit n of the mask is; present banks follow one another. */
function bySet(caller: Caller, input: { Flags: bigint; Format: bigint; ValidBankMask: bigint }, banks: bigint[]): number {
  if (input.Flags & HV_FLUSH_ALL_PROCESSORS || input.Format === HV_GENERIC_SET_ALL) return flush(caller, () => true);
  if (input.Format !== HV_GENERIC_SET_SPARSE_4K) return STATUS.INVALID_PARAMETER;
  const present: number[] = [];
  for (let n = 0; n < 64; n++) if ((input.ValidBankMask >> BigInt(n)) & 1n) present.push(n);
  if (present.length !== banks.length) return STATUS.INVALID_HYPERCALL_INPUT;
  return flush(caller, (vp) => {
    const at = present.indexOf(vp >>> 6);
    return at >= 0 && ((banks[at] >> BigInt(vp & 63)) & 1n) === 1n;
  });
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
