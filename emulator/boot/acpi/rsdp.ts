/** Root System Description Pointer: ACPI 6.4 §5.2.5.3. */
import { ascii, bytes, struct, u32, u64, u8 } from '../../base/struct.ts';
import { checksum } from './table.ts';

export const Rsdp = struct(
  'Rsdp',
  {
    signature: ascii(8),
    checksum: u8,
    oemId: ascii(6),
    revision: u8,
    rsdt: u32,
    length: u32,
    xsdt: u64,
    extendedChecksum: u8,
    reserved: bytes(3),
  },
  { size: 36 },
);

/** The first checksum covers the ACPI 1.0 part only. */
const ACPI_1_SIZE = 20;

export function rsdp(xsdt: number): Uint8Array {
  const out = Rsdp.make({ signature: 'RSD PTR ', oemId: 'VRTUAL', revision: 2, length: Rsdp.size, xsdt: BigInt(xsdt) });
  checksum(out, Rsdp.field.checksum.offset, 0, ACPI_1_SIZE);
  checksum(out, Rsdp.field.extendedChecksum.offset);
  return out;
}
