/** The id of the guest's partition: HvCallGetPartitionId's answer. The root partition is 1. */
export const PARTITION_ID = 2n;
