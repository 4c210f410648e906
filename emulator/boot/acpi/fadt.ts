/** Fixed ACPI Description Table, revision 6.3: ACPI 6.4 §5.2.9. */
import { ascii, bytes, struct, u16, u32, u64, u8 } from '../../base/struct.ts';
import { GenericAddress, table, TableHeader } from './table.ts';

export const Fadt = struct(
  'Fadt',
  {
    header: TableHeader,
    firmwareControl: u32,
    dsdt: u32,
    reserved: u8,
    preferredPmProfile: u8,
    /** SCI_INT to Reserved2: fixed hardware, which a hardware-reduced platform does not have (§5.2.9, HW_REDUCED_ACPI). */
    fixedHardware: bytes(66),
    flags: u32,
    resetRegister: GenericAddress,
    resetValue: u8,
    armBootArch: u16,
    minorRevision: u8,
    xFirmwareControl: u64,
    xDsdt: u64,
    xFixedHardware: bytes(96),
    sleepControl: GenericAddress,
    sleepStatus: GenericAddress,
    hypervisorId: ascii(8),
  },
  { size: 276 },
);

// Flags: §5.2.9, table 5.10. Real hosts set these three (reference §7.4).
const PWR_BUTTON = 1 << 4;
const SLP_BUTTON = 1 << 5;
const HW_REDUCED_ACPI = 1 << 20;
// ARM_BOOT_ARCH: §5.2.9.4.
const PSCI_COMPLIANT = 1;
const PSCI_USE_HVC = 2;

/** Real Hyper-V says SMC; other hosts of the same interface say HVC (reference §7.3). */
export type PsciConduit = 'smc' | 'hvc';

/** `hyperv`: whether the table says that this is a Hyper-V guest. */
export function fadt(dsdt: number, conduit: PsciConduit, hyperv: boolean): Uint8Array {
  return table({ signature: 'FACP', revision: 6 }, Fadt, {
    flags: PWR_BUTTON | SLP_BUTTON | HW_REDUCED_ACPI,
    armBootArch: PSCI_COMPLIANT | (conduit === 'hvc' ? PSCI_USE_HVC : 0),
    minorRevision: 3,
    xDsdt: BigInt(dsdt),
    hypervisorId: hyperv ? 'MsHyperV' : '', // what Linux and FreeBSD look for (reference §1)
  });
}
