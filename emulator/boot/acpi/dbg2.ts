/** Debug Port Table 2: Microsoft, "Debug Port Table 2". One port, COM1, as on real hosts (reference §7.4). */
import { ascii, struct, u16, u32, u8 } from '../../base/struct.ts';
import { COM1 } from '../../platform/addresses.ts';
import { GenericAddress, memory32, PORT_SUBTYPE_PL011, table, TableHeader } from './table.ts';

export const Dbg2 = struct('Dbg2', { header: TableHeader, deviceOffset: u32, deviceCount: u32 }, { size: 44 });

/** Path of COM1's device in the DSDT. */
const PATH = '\\_SB.VMOD.UAR1';

export const Dbg2Device = struct('Dbg2Device', {
  revision: u8,
  length: u16,
  addressCount: u8,
  pathLength: u16,
  pathOffset: u16,
  oemDataLength: u16,
  oemDataOffset: u16,
  portType: u16,
  portSubtype: u16,
  reserved: u16,
  addressOffset: u16,
  sizeOffset: u16,
  address: GenericAddress,
  addressSize: u32,
  path: ascii(PATH.length + 1),
});

const PORT_SERIAL = 0x8000;

export function dbg2(): Uint8Array {
  const device = Dbg2Device.make({
    length: Dbg2Device.size,
    addressCount: 1,
    pathLength: PATH.length + 1,
    pathOffset: Dbg2Device.field.path.offset,
    portType: PORT_SERIAL,
    portSubtype: PORT_SUBTYPE_PL011,
    addressOffset: Dbg2Device.field.address.offset,
    sizeOffset: Dbg2Device.field.addressSize.offset,
    address: memory32(COM1.gpa),
    addressSize: COM1.size,
    path: PATH,
  });
  return table({ signature: 'DBG2', revision: 0 }, Dbg2, { deviceOffset: Dbg2.size, deviceCount: 1 }, device);
}
