/** HvCallGetVpRegisters and HvCallSetVpRegisters (reference hyperv-arm64.md §2.7, §3). */
import { u32, u128, type Value } from '../../base/struct.ts';
import { PARTITION_ID } from '../partition-id.ts';
import { readVpRegister, vpRegisterName, writeVpRegister } from '../registers.ts';
import { HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, HvInputVpRegisters, HvRegisterAssoc, STATUS } from '../tlfs.ts';
import type { Vp } from '../vp.ts';
import { type Caller, type Hypercall, rep } from './hypercall.ts';

/** HV_INPUT_VTL: a target VTL is named, and which. We have VTL 0 alone. */
const USE_TARGET_VTL = 0x10;
const TARGET_VTL = 0x0f;

/** The VP a call is about, or the status. */
function target(caller: Caller, input: Value<typeof HvInputVpRegisters>): Vp | number {
  if (input.PartitionId !== HV_PARTITION_ID_SELF && input.PartitionId !== PARTITION_ID) return STATUS.INVALID_PARTITION_ID;
  if (input.InputVtl & USE_TARGET_VTL && input.InputVtl & TARGET_VTL) return STATUS.INVALID_PARAMETER;
  const { partition } = caller;
  const vp = input.VpIndex === HV_VP_INDEX_SELF ? partition.vps[caller.vp] : partition.vpAt(input.VpIndex);
  if (!vp) return STATUS.INVALID_VP_INDEX;
  if (vp.index !== caller.vp && !partition.has('AccessVpRegisters')) return STATUS.ACCESS_DENIED;
  return vp;
}

export const VP_REGISTERS: readonly Hypercall[] = [
  rep('HvCallGetVpRegisters', {
    input: HvInputVpRegisters,
    element: u32,
    elements: 'Names',
    showElement: vpRegisterName,
    output: u128,
    outputs: 'Values',
    run(caller, input, name) {
      const vp = target(caller, input);
      if (typeof vp === 'number') return vp;
      const value = readVpRegister(caller.partition, vp, name);
      return typeof value === 'number' ? value : { output: value };
    },
  }),
  rep('HvCallSetVpRegisters', {
    input: HvInputVpRegisters,
    element: HvRegisterAssoc,
    elements: 'Elements',
    showElement: (e) => ({ Name: vpRegisterName(e.Name), Value: e.Value }),
    run(caller, input, element) {
      const vp = target(caller, input);
      return typeof vp === 'number' ? vp : writeVpRegister(caller.partition, vp, element.Name, element.Value);
    },
  }),
];
