/** What a PCI function is to the bus that it sits on. Its configuration space is the bus's matter (config-space.ts). */
import type { Tree } from '../../../base/inspect.ts';

/** Names of a function, as configuration space and the guest's bus driver have them (PCI Local Bus 3.0, 6.2.1). */
export interface FunctionIds {
  readonly vendor: number;
  readonly device: number;
  readonly revision: number;
  readonly programmingInterface: number;
  readonly subclass: number;
  readonly baseClass: number;
  readonly subsystemVendor: number;
  readonly subsystem: number;
}

export interface PciFunction {
  readonly ids: FunctionIds;
  /** Bytes of BAR 0, a 64-bit memory BAR: a power of two, and whole pages. */
  readonly barSize: number;
  /** MSI-X vectors, and where in BAR 0 their table and pending bits are. */
  readonly vectors: number;
  readonly tableOffset: number;
  readonly pendingOffset: number;
  readonly state: object;
  /** Registers in BAR 0 besides MSI-X; inside it, `size` is 1, 2, 4 or 8. */
  read(offset: number, size: number): bigint;
  write(offset: number, size: number, value: bigint): void;
  /** Forgets everything but what is on its disks. */
  reset(): void;
  inspect(): Tree;
}

/** What a function sees of its bus. */
export interface PciBus {
  /** The guest lets the function master the bus. */
  readonly mayMaster: boolean;
  /** Sends MSI-X vector `n`, or keeps it pending. */
  interrupt(n: number): void;
  note(message: string): void;
}
