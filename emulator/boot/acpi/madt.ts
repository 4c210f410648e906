/** Multiple APIC Description Table: ACPI 6.4 §5.2.12; GICC §5.2.12.14, GICD §5.2.12.15. */
import { bytes, struct, u16, u32, u64, u8 } from '../../base/struct.ts';
import { affinityOf, GICD, GICR } from '../../platform/addresses.ts';
import { table, TableHeader } from './table.ts';

export const Madt = struct('Madt', { header: TableHeader, localInterruptController: u32, flags: u32 }, { size: 44 });

export const Gicc = struct(
  'Gicc',
  {
    type: u8,
    length: u8,
    reserved: u16,
    cpuInterface: u32,
    uid: u32,
    flags: u32,
    parkingVersion: u32,
    performanceInterrupt: u32,
    parkedAddress: u64,
    base: u64,
    gicv: u64,
    gich: u64,
    maintenanceInterrupt: u32,
    redistributor: u64,
    mpidr: u64,
    efficiencyClass: u8,
    reserved2: bytes(3),
  },
  { size: 80 },
);

export const Gicd = struct(
  'Gicd',
  { type: u8, length: u8, reserved: u16, gicId: u32, base: u64, vectorBase: u32, version: u8, reserved2: bytes(3) },
  { size: 24 },
);

const ENABLED = 1;
const GICV3 = 3;

/** ACPI processor UID of VP n: counted from 1 on real hosts (reference §7.4). The DSDT's processor devices carry the same. */
export const processorUid = (vp: number): number => vp + 1;

/** Redistributors are told per GICC, as real hosts do; there is no GICR structure. */
export function madt(vpCount: number, pmuIntid: number): Uint8Array {
  const vps = Array.from({ length: vpCount }, (_, vp) =>
    Gicc.make({
      type: 11,
      length: Gicc.size,
      cpuInterface: processorUid(vp),
      uid: processorUid(vp),
      // Bit 1 clear: the performance interrupt is level-triggered.
      flags: ENABLED,
      performanceInterrupt: pmuIntid,
      redistributor: BigInt(GICR.gpa + vp * GICR.stride),
      mpidr: BigInt(affinityOf(vp)),
    }),
  );
  const distributor = Gicd.make({ type: 12, length: Gicd.size, base: BigInt(GICD.gpa), version: GICV3 });
  return table({ signature: 'APIC', revision: 4 }, Madt, {}, distributor, ...vps);
}
