/** Generic Timer Description Table, revision 2: ACPI 6.4 §5.2.24. */
import { struct, u32, u64 } from '../../base/struct.ts';
import type { PpiNumbers } from '../../platform/addresses.ts';
import { table, TableHeader } from './table.ts';

export const Gtdt = struct(
  'Gtdt',
  {
    header: TableHeader,
    controlBase: u64,
    reserved: u32,
    secureEl1Interrupt: u32,
    secureEl1Flags: u32,
    el1Interrupt: u32,
    el1Flags: u32,
    virtualInterrupt: u32,
    virtualFlags: u32,
    el2Interrupt: u32,
    el2Flags: u32,
    readBase: u64,
    platformTimerCount: u32,
    platformTimerOffset: u32,
  },
  { size: 96 },
);

/** Level, active high, and the timer keeps running in every idle state (bit 2): else Linux wants a broadcast timer. */
const FLAGS = 4;
/** "No memory-mapped counter". */
const ABSENT = 0xffffffffffffffffn;

export function gtdt(ppi: PpiNumbers): Uint8Array {
  return table({ signature: 'GTDT', revision: 2 }, Gtdt, {
    controlBase: ABSENT,
    el1Interrupt: ppi.physicalTimer,
    el1Flags: FLAGS,
    virtualInterrupt: ppi.virtualTimer,
    virtualFlags: FLAGS,
    // Named as real hosts name it although there is no EL2: Linux maps it, and calls GSI 0 a firmware bug.
    el2Interrupt: ppi.el2Timer,
    el2Flags: FLAGS,
    readBase: ABSENT,
  });
}
