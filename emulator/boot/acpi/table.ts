/** What every ACPI table has: ACPI 6.4 §5.2.6, and the address structure of §5.2.3.2. */
import {
  ascii,
  struct,
  type Struct,
  type StructValue,
  type FieldType,
  u32,
  u64,
  u8,
  type Value,
  viewOf,
} from '../../base/struct.ts';

export const TableHeader = struct(
  'TableHeader',
  {
    signature: ascii(4),
    length: u32,
    revision: u8,
    checksum: u8,
    oemId: ascii(6, 0x20),
    oemTableId: ascii(8, 0x20),
    oemRevision: u32,
    creatorId: ascii(4),
    creatorRevision: u32,
  },
  { size: 36 },
);

/** Generic Address Structure. */
export const GenericAddress = struct(
  'GenericAddress',
  { space: u8, bitWidth: u8, bitOffset: u8, accessSize: u8, address: u64 },
  { size: 12 },
);

/** A block of 32-bit registers in system memory (space 0, access size 3 = dword). */
export const memory32 = (gpa: number): Value<typeof GenericAddress> => ({
  space: 0,
  bitWidth: 32,
  bitOffset: 0,
  accessSize: 3,
  address: BigInt(gpa),
});

/** Makes the bytes [from, to) of `table` add up to zero by setting byte `at` (ACPI 6.4 §5.2.6, "Checksum"). */
export function checksum(table: Uint8Array, at: number, from = 0, to = table.length): void {
  table[at] = 0;
  let sum = 0;
  for (let i = from; i < to; i++) sum += table[i];
  table[at] = -sum & 255;
}

/** OEM fields of the header, as real hosts fill them (reference hyperv-arm64.md §7.4). */
const OEM = { oemId: 'VRTUAL', oemTableId: 'MICROSFT', oemRevision: 1, creatorId: 'MSFT', creatorRevision: 1 };

export interface TableName {
  signature: string;
  revision: number;
  oemId?: string;
  oemTableId?: string;
}

/** A table from its fixed part, which begins with a field `header`, and the variable-length parts after it. */
// biome-ignore lint/suspicious/noExplicitAny: as in struct(): FieldType is invariant in T
export function table<F extends { header: typeof TableHeader } & Record<string, FieldType<any>>>(
  name: TableName,
  layout: Struct<F>,
  fixed: Partial<Omit<StructValue<F>, 'header'>>,
  ...rest: Uint8Array[]
): Uint8Array {
  const out = concat(layout.make(fixed as Partial<StructValue<F>>), ...rest);
  TableHeader.set(viewOf(out), 0, { ...OEM, ...name, length: out.length, checksum: 0 });
  checksum(out, TableHeader.field.checksum.offset);
  return out;
}

export function concat(...parts: Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

/** `Interface Type` and `Port Subtype` of an Arm PL011 (Microsoft, "Debug Port Table 2", table 3). */
export const PORT_SUBTYPE_PL011 = 3;
