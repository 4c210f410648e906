/** SMBIOS 3.1 (DMTF DSP0134): what tells a guest's user space "Microsoft Corporation Virtual Machine" (reference §4). */
import { ascii, bytes, struct, u16, u32, u64, u8 } from '../../base/struct.ts';
import { checksum, concat } from '../acpi/table.ts';
import { Entropy, STREAM } from '../entropy.ts';

/** §5.2.2 */
const EntryPoint = struct(
  'Smbios3EntryPoint',
  {
    anchor: ascii(5),
    checksum: u8,
    length: u8,
    major: u8,
    minor: u8,
    documentRevision: u8,
    revision: u8,
    reserved: u8,
    maxSize: u32,
    table: u64,
  },
  { size: 24 },
);

/** §6.1.2 */
const header = { type: u8, length: u8, handle: u16 };
/** §7.1 */
const Bios = struct(
  'SmbiosBios',
  {
    ...header,
    vendor: u8,
    version: u8,
    segment: u16,
    date: u8,
    romSize: u8,
    characteristics: u64,
    extension: bytes(2),
    release: bytes(2),
    controllerRelease: bytes(2),
  },
  { size: 0x18 },
);
/** §7.2 */
const System = struct(
  'SmbiosSystem',
  { ...header, manufacturer: u8, product: u8, version: u8, serial: u8, uuid: bytes(16), wakeUp: u8, sku: u8, family: u8 },
  { size: 0x1b },
);
/** §7.3 */
const Board = struct(
  'SmbiosBoard',
  {
    ...header,
    manufacturer: u8,
    product: u8,
    version: u8,
    serial: u8,
    asset: u8,
    flags: u8,
    location: u8,
    chassis: u16,
    boardType: u8,
    contained: u8,
  },
  { size: 0x0f },
);
/** §7.4 */
const Chassis = struct(
  'SmbiosChassis',
  {
    ...header,
    manufacturer: u8,
    chassisType: u8,
    version: u8,
    serial: u8,
    asset: u8,
    states: bytes(3),
    security: u8,
    oem: u32,
    height: u8,
    cords: u8,
    elements: u8,
    elementLength: u8,
    sku: u8,
  },
  { size: 0x16 },
);
/** §7.45 */
const End = struct('SmbiosEnd', { ...header }, { size: 4 });

/** Manufacturer and firmware version: a Hyper-V guest's, and of a plain machine that says nothing of it. */
const HYPERV = { maker: 'Microsoft Corporation', version: 'Hyper-V UEFI Release v4.1' } as const;
const PLAIN = { maker: 'Hyperstep', version: '1.0' } as const;
const CHASSIS_HANDLE = 3;

/** The strings after a structure; field values are 1-based positions in this list (§6.1.3). */
const strings = (...list: string[]): Uint8Array =>
  Uint8Array.from(list.length ? `${list.join('\0')}\0\0` : '\0\0', (c) => c.charCodeAt(0));

/** The entry point for `gpa` and the structures right behind it. `hypervisor` false: a machine that is no Hyper-V guest. */
export function smbios(gpa: number, seed: number, hypervisor = true): Uint8Array {
  const { maker, version } = hypervisor ? HYPERV : PLAIN;
  const entropy = new Entropy(seed, STREAM.uuid);
  const uuid = entropy.bytes(16);
  // Digits in the form of a Hyper-V asset tag; Azure's own is a constant that would make cloud agents start.
  const digits = entropy.u64().toString().padStart(20, '0').slice(-20) + entropy.u64().toString().padStart(6, '0').slice(-6);
  const asset = [0, 4, 8, 12, 16, 20, 24].map((at) => digits.slice(at, at + 4)).join('-');
  const structures = concat(
    Bios.make({
      type: 0,
      length: Bios.size,
      handle: 0,
      vendor: 1,
      version: 2,
      date: 3,
      characteristics: 8n, // bit 3: BIOS characteristics not supported
      extension: Uint8Array.of(0, 0x1c), // targeted content distribution, UEFI, virtual machine
      release: Uint8Array.of(4, 1),
      controllerRelease: Uint8Array.of(255, 255),
    }),
    strings(maker, version, '05/05/2021'),
    System.make({
      type: 1,
      length: System.size,
      handle: 1,
      manufacturer: 1,
      product: 2,
      version: 3,
      serial: 4,
      uuid,
      wakeUp: 6,
      sku: 5,
      family: 2,
    }),
    strings(maker, 'Virtual Machine', version, asset, 'None'),
    Board.make({
      type: 2,
      length: Board.size,
      handle: 2,
      manufacturer: 1,
      product: 2,
      version: 3,
      serial: 4,
      asset: 5,
      flags: 1,
      location: 2,
      chassis: CHASSIS_HANDLE,
      boardType: 10,
    }),
    strings(maker, 'Virtual Machine', version, asset, 'None'),
    Chassis.make({
      type: 3,
      length: Chassis.size,
      handle: CHASSIS_HANDLE,
      manufacturer: 1,
      chassisType: 3,
      version: 2,
      serial: 3,
      asset: 3,
      states: Uint8Array.of(2, 2, 2),
      security: 1,
    }),
    strings(maker, version, asset),
    End.make({ type: 127, length: End.size, handle: 127 }),
    strings(),
  );
  const entry = EntryPoint.make({
    anchor: '_SM3_',
    length: EntryPoint.size,
    major: 3,
    minor: 1,
    revision: 1,
    maxSize: structures.length,
    table: BigInt(gpa + EntryPoint.size),
  });
  checksum(entry, EntryPoint.field.checksum.offset);
  return concat(entry, structures);
}
