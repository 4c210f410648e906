/** The platform's ACPI tables as one block of memory. */
import { alignUp } from '../../base/bits.ts';
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
  /** The tables say that this is a Hyper-V guest. */
  hyperv: boolean;
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
  const definitions = place(dsdt(options.vpCount));
  const listed = [
    fadt(definitions, options.psciConduit, options.hyperv),
    madt(options.vpCount),
    gtdt(),
    spcr(),
    dbg2(),
    oem0(options.seed),
  ].map(place);
  const root = place(xsdt(listed));
  return [{ name: 'RSDP', gpa, data: rsdp(root) }, ...out];
}
