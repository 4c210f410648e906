/** The platform's ACPI tables as one block of memory. */
import { alignUp } from '../../base/bits.ts';
import type { PpiNumbers } from '../../platform/addresses.ts';
import { dbg2 } from './dbg2.ts';
import { dsdt } from './dsdt.ts';
import { fadt, type PsciConduit } from './fadt.ts';
import { gtdt } from './gtdt.ts';
import { madt } from './madt.ts';
import { oem0 } from './oem0.ts';
import { Rsdp, rsdp } from './rsdp.ts';
import { spcr } from './spcr.ts';
import { xsdt } from './xsdt.ts';

export interface AcpiOptions {
  vpCount: number;
  seed: number;
  psciConduit: PsciConduit;
  ppi: PpiNumbers;
  /** There is VMBus, and what else only Hyper-V has. */
  hypervisor: boolean;
  /** The FADT says that this is a Hyper-V guest. */
  hypervisorId: boolean;
}

export interface AcpiTable {
  /** Signature, `RSDP` for the pointer. */
  name: string;
  gpa: number;
  data: Uint8Array;
}

/** All tables, laid out from `gpa` up; the first is the RSDP. */
export function acpiTables(gpa: number, options: AcpiOptions): AcpiTable[] {
  const out: AcpiTable[] = [];
  // XSDT and RSDP point at tables that come after them, so the RSDP's place is kept and filled last.
  let at = alignUp(gpa + Rsdp.size, 64);
  const place = (data: Uint8Array): number => {
    const here = at;
    out.push({ name: String.fromCharCode(...data.subarray(0, 4)), gpa: here, data });
    at = alignUp(here + data.length, 64);
    return here;
  };
  const { vpCount, ppi, hypervisor } = options;
  const definitions = place(dsdt(vpCount, hypervisor ? ppi.vmbus : undefined));
  const listed = [
    fadt(definitions, options.psciConduit, options.hypervisorId),
    madt(vpCount, ppi.pmu),
    gtdt(ppi),
    spcr(),
    dbg2(),
    ...(hypervisor ? [oem0(options.seed)] : []),
  ].map(place);
  const root = place(xsdt(listed));
  return [{ name: 'RSDP', gpa, data: rsdp(root) }, ...out];
}
