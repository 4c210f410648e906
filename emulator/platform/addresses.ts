/**
 * The platform's map: every fixed guest physical address, size and interrupt number, as Hyper-V on ARM64 has them
 * (reference hyperv-arm64.md §7.1, §7.5). Data only: devices, `boot` (which tells the guest) and `machine.ts` read it.
 *
 *   0            .. RAM size   RAM, at most 3 GiB
 *   0xE000_0000  .. 0xEEFF_FFFF   low MMIO window, for VMBus devices
 *   0xEFFE_7000  .. 0xEFFE_CFFF   fixed devices
 *   0xEFFE_E000  .. +128 KiB per VP   GIC redistributors
 *   0xFFFF_0000  .. 0xFFFF_FFFF   GIC distributor
 *   0x10_0000_0000 ..   high MMIO window, for VMBus devices
 */

/** Largest RAM, in bytes: what lies below the low MMIO window. */
export const MAX_RAM = 0xc000_0000;
export const MAX_VPS = 64;

export const GICD = { gpa: 0xffff_0000, size: 0x1_0000, intids: 992 } as const;
/**
 * The same in a machine that is told by device tree. Bare-metal programs map devices one to one and use the last addresses of 4 GiB for
 * themselves; they are made for the number of INTIDs that virtual machines usually have, and some clear one register per
 * interrupt where there is one bit.
 */
export const GICD_BY_TREE = { gpa: 0xeff0_0000, size: 0x1_0000, intids: 288 } as const;
/** VP n's redistributor (RD and SGI frames, 64 KiB each) is at `gpa + n * stride`. */
export const GICR = { gpa: 0xeffe_e000, stride: 0x2_0000 } as const;

export const COM1 = { gpa: 0xeffe_c000, size: 0x1000, intid: 33 } as const;
export const COM2 = { gpa: 0xeffe_b000, size: 0x1000, intid: 34 } as const;
/** Frequency of the UARTs' clock, Hz: what a device tree has to tell. Nothing here depends on it. */
export const UART_CLOCK = 24_000_000;
/** PL031. No ACPI id exists for it, so ACPI guests read the time through EFI GetTime instead. */
export const RTC = { gpa: 0xeffe_7000, size: 0x1000, intid: 39 } as const;

/** MMIO space that VMBus may hand to its devices. */
export const MMIO_LOW = { gpa: 0xe000_0000, size: 0x0f00_0000 } as const;
export const MMIO_HIGH = { gpa: 0x10_0000_0000, size: 0x10_0000_0000 } as const;

/** INTIDs of private peripheral interrupts, 16 to 31, as ACPI and the device tree tell them. */
export interface PpiNumbers {
  readonly vmbus: number;
  readonly physicalTimer: number;
  readonly virtualTimer: number;
  readonly el2Timer: number;
  readonly pmu: number;
}
/** Current hosts' (reference §5.2, §6.5). The timer's are not the ones Arm recommends. */
export const PPI: PpiNumbers = { vmbus: 18, physicalTimer: 19, virtualTimer: 20, el2Timer: 21, pmu: 23 };

/** Affinity (MPIDR_EL1 Aff3..Aff0) of VP n, as the GIC routes and PSCI names it. Real small hosts count up in Aff0 (§7.4). */
export const affinityOf = (vp: number): number => vp;
