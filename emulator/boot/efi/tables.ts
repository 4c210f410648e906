/** EFI structures that the guest finds after the EFI stub: UEFI 2.10 §4. */
import { ascii, bytes, struct, u32, u64, u16, viewOf } from '../../base/struct.ts';

/** §4.2.1 */
export const EfiTableHeader = struct(
  'EFI_TABLE_HEADER',
  { signature: ascii(8), revision: u32, headerSize: u32, crc32: u32, reserved: u32 },
  { size: 24 },
);

/** §4.3.1 */
export const EfiSystemTable = struct(
  'EFI_SYSTEM_TABLE',
  {
    header: EfiTableHeader,
    firmwareVendor: u64,
    firmwareRevision: u32,
    padding: u32,
    /** Console handles and protocols, all gone after ExitBootServices. */
    consoles: bytes(48),
    runtimeServices: u64,
    bootServices: u64,
    tableCount: u64,
    configurationTable: u64,
  },
  { size: 120 },
);

/** §4.6.1 */
export const EfiConfigurationTable = struct('EFI_CONFIGURATION_TABLE', { guid: bytes(16), table: u64 }, { size: 24 });

/** §4.6.2; "EFI_RT_PROPERTIES_TABLE". */
export const EfiRtProperties = struct('EFI_RT_PROPERTIES_TABLE', { version: u16, length: u16, supported: u32 }, { size: 8 });

/** GUIDs of configuration tables: §4.6.1 and §4.6.2; SMBIOS 3.1, §5.2.2. */
export const GUID = {
  acpi20: '8868e871-e4f1-11d3-bc22-0080c73c8881',
  smbios3: 'f2fd1544-9794-4a2c-992e-e5bbcf20e394',
  rtProperties: 'eb66918a-7eef-402a-842e-931d21c38ae9',
} as const;

/** UEFI 2.70, which is what Hyper-V's firmware reports (reference hyperv-arm64.md §4). */
export const EFI_REVISION = 0x0002_0046;

/** CRC-32 of §4.2.1: polynomial 0x04C11DB7, bit-reversed. */
export function crc32(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/** Completes `table`, whose first field is the header, with signature, size and CRC. */
export function seal(signature: string, table: Uint8Array): Uint8Array {
  const view = viewOf(table);
  EfiTableHeader.set(view, 0, { signature, revision: EFI_REVISION, headerSize: table.length, crc32: 0, reserved: 0 });
  const at = EfiTableHeader.field.crc32.offset;
  EfiTableHeader.field.crc32.set(view, at, crc32(table));
  return table;
}
