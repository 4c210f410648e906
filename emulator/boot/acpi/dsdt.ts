/** Differentiated System Description Table: the devices of reference hyperv-arm64.md §7.5. */
import { struct } from '../../base/struct.ts';
import { COM1, COM2, MMIO_HIGH, MMIO_LOW } from '../../platform/addresses.ts';
import {
  device,
  integer,
  interrupt,
  memory32Fixed,
  memoryWindow32,
  memoryWindow64,
  name,
  resourceTemplate,
  scope,
  string,
} from './aml.ts';
import { processorUid } from './madt.ts';
import { table, TableHeader } from './table.ts';

const Dsdt = struct('Dsdt', { header: TableHeader });

/** An SBSA UART. */
const uart = (path: string, uid: number, port: { gpa: number; size: number; intid: number }): Uint8Array =>
  device(
    path,
    name('_HID', string('ARMH0011')),
    name('_CID', string('ARMH0011')),
    name('_UID', integer(uid)),
    name('_CRS', resourceTemplate(memory32Fixed(port.gpa, port.size), interrupt('level', port.intid))),
  );

/** `vmbusIntid`: the interrupt of VMBus; undefined: there is none. */
export function dsdt(vpCount: number, vmbusIntid: number | undefined): Uint8Array {
  const vmbus = (intid: number): Uint8Array =>
    device(
      'VMBS',
      name('_HID', string('MSFT1000')),
      name('_CID', string('VMBus')),
      name('_DDN', string('VMBUS')),
      name('_UID', integer(0)),
      name('_CCA', integer(1)), // rings are coherent; absent would mean they are not
      name('_STA', integer(0xf)),
      name('_CRS', resourceTemplate(interrupt('edge', intid))),
    );
  const vmod = device(
    'VMOD',
    name('_HID', string('ACPI0004')), // module device: its windows are what Linux gives to VMBus devices
    name('_UID', integer(0)),
    name('_CRS', resourceTemplate(memoryWindow32(MMIO_LOW.gpa, MMIO_LOW.size), memoryWindow64(MMIO_HIGH.gpa, MMIO_HIGH.size))),
    ...(vmbusIntid === undefined ? [] : [vmbus(vmbusIntid)]),
    uart('UAR1', 1, COM1),
    uart('UAR2', 2, COM2),
  );
  const processors = Array.from({ length: vpCount }, (_, vp) =>
    device(
      `C${vp.toString(16).toUpperCase().padStart(3, '0')}`,
      name('_HID', string('ACPI0007')),
      name('_UID', integer(processorUid(vp))),
    ),
  );
  return table(
    { signature: 'DSDT', revision: 2, oemId: 'MSFTVM', oemTableId: 'DSDT01' },
    Dsdt,
    {},
    scope('\\_SB', vmod, ...processors),
  );
}
