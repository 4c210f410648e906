/** Serial Port Console Redirection table, revision 2: Microsoft, "Serial Port Console Redirection Table". */
import { bytes, struct, u16, u32, u8 } from '../../base/struct.ts';
import { COM1 } from '../../platform/addresses.ts';
import { GenericAddress, memory32, PORT_SUBTYPE_PL011, table, TableHeader } from './table.ts';

export const Spcr = struct(
  'Spcr',
  {
    header: TableHeader,
    interfaceType: u8,
    reserved: bytes(3),
    address: GenericAddress,
    interruptType: u8,
    irq: u8,
    gsiv: u32,
    baudRate: u8,
    parity: u8,
    stopBits: u8,
    flowControl: u8,
    terminalType: u8,
    language: u8,
    pciDevice: u16,
    pciVendor: u16,
    pciBus: u8,
    pciSlot: u8,
    pciFunction: u8,
    pciFlags: u32,
    pciSegment: u8,
    clockFrequency: u32,
  },
  { size: 80 },
);

const INTERRUPT_GIC = 1 << 3;
const BAUD_115200 = 7;
const VT_UTF8 = 2;
const NOT_PCI = 0xffff;

export function spcr(): Uint8Array {
  return table({ signature: 'SPCR', revision: 2 }, Spcr, {
    interfaceType: PORT_SUBTYPE_PL011,
    address: memory32(COM1.gpa),
    interruptType: INTERRUPT_GIC,
    gsiv: COM1.intid,
    baudRate: BAUD_115200,
    stopBits: 1,
    terminalType: VT_UTF8,
    pciDevice: NOT_PCI,
    pciVendor: NOT_PCI,
  });
}
