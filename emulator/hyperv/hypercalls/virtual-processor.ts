/** Calls about VPs: synthetic cluster IPIs and starting a VP (reference hyperv-arm64.md §2.7). */
import type { Value } from '../../base/struct.ts';
import { PARTITION_ID } from '../partition-id.ts';
import {
  HV_PARTITION_ID_SELF,
  HvInputSendSyntheticClusterIpi,
  HvInputSendSyntheticClusterIpiEx,
  HvInputStartVirtualProcessor,
  STATUS,
} from '../tlfs.ts';
import { type Caller, type Hypercall, simple } from './hypercall.ts';
import { inMask, inSet } from './vp-set.ts';

/** HV_INPUT_VTL: a target VTL is named, and which. We have VTL 0 alone. */
const USE_TARGET_VTL = 0x10;
const TARGET_VTL = 0x0f;
const otherVtl = (vtl: number): boolean => (vtl & USE_TARGET_VTL) !== 0 && (vtl & TARGET_VTL) !== 0;

/** IPIs are the GIC's software-generated interrupts. */
const MAX_SGI = 15;

function send(
  { partition }: Caller,
  input: { Vector: number; TargetVtl: number; Flags: number },
  chosen: number | ((index: number) => boolean),
): number {
  if (input.Vector > MAX_SGI || input.Flags !== 0 || otherVtl(input.TargetVtl)) return STATUS.INVALID_PARAMETER;
  if (typeof chosen === 'number') return chosen;
  for (const vp of partition.vps)
    if (chosen(partition.vpIndex[vp.index])) partition.host.interrupts.pulsePpi(vp.index, input.Vector);
  return STATUS.SUCCESS;
}

function start({ partition }: Caller, input: Value<typeof HvInputStartVirtualProcessor>): number {
  if (input.PartitionId !== HV_PARTITION_ID_SELF && input.PartitionId !== PARTITION_ID) return STATUS.INVALID_PARTITION_ID;
  if (input.TargetVtl !== 0) return STATUS.INVALID_PARAMETER;
  const vp = partition.vpAt(input.VpIndex);
  if (!vp) return STATUS.INVALID_VP_INDEX;
  // An instruction is at a multiple of 4.
  if (input.Pc & 3n) return STATUS.INVALID_PARAMETER;
  const started = partition.host.startVp?.(vp.index, input.Pc, {
    SCTLR_EL1: input.SctlrEl1,
    MAIR_EL1: input.MairEl1,
    TCR_EL1: input.TcrEl1,
    VBAR_EL1: input.VbarEl1,
    TTBR0_EL1: input.Ttbr0El1,
    TTBR1_EL1: input.Ttbr1El1,
    SP_EL1: input.SpElh,
    X18: input.X18,
  });
  return started ? STATUS.SUCCESS : STATUS.INVALID_VP_STATE;
}

export const VIRTUAL_PROCESSOR: readonly Hypercall[] = [
  simple('HvCallSendSyntheticClusterIpi', {
    input: HvInputSendSyntheticClusterIpi,
    run: (caller, input) => send(caller, input, inMask(input.ProcessorMask)),
  }),
  simple('HvCallSendSyntheticClusterIpiEx', {
    input: HvInputSendSyntheticClusterIpiEx,
    variable: 'BankContents',
    run: (caller, input, banks) => send(caller, input, inSet(input.Format, input.ValidBankMask, banks)),
  }),
  simple('HvCallStartVirtualProcessor', { input: HvInputStartVirtualProcessor, run: start }),
];
