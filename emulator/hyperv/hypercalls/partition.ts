/** Calls about the partition and its scheduling. */
import { PARTITION_ID } from '../partition-id.ts';
import { HvInputNotifyLongSpinWait, HvOutputGetPartitionId, STATUS } from '../tlfs.ts';
import { type Fields, type Hypercall, simple } from './hypercall.ts';

export const PARTITION: readonly Hypercall[] = [
  simple<Fields, { PartitionId: bigint }>('HvCallGetPartitionId', {
    output: HvOutputGetPartitionId,
    run: () => ({ output: { PartitionId: PARTITION_ID } }),
  }),
  // A hint to the scheduler; ours goes round robin anyway.
  simple('HvCallNotifyLongSpinWait', { input: HvInputNotifyLongSpinWait, run: () => STATUS.SUCCESS }),
];
