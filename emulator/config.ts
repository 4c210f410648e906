import type { Disk } from './host/disk.ts';

export type { Disk };

/**
 * How the guest is started: `hyperv` as Hyper-V's firmware would (EFI and ACPI tables), `device-tree` by the arm64 boot protocol
 * alone, with a device tree that describes the machine. The machine is the same.
 */
export const BOOT_KINDS = ['hyperv', 'device-tree'] as const;
export type BootKind = (typeof BOOT_KINDS)[number];
export const isBootKind = (s: string): s is BootKind => BOOT_KINDS.some((k) => k === s);

/** A disk or DVD on the synthetic SCSI controller. */
export interface DiskConfig {
  /** Names it towards the user and in snapshots; no two are called the same. */
  name: string;
  disk: Disk;
  /** The guest is told that it cannot write. */
  readOnly?: boolean;
  /** A DVD drive with the image as its disc. */
  dvd?: boolean;
  /** Virtual time from request to answer, ns. */
  latency?: number;
  /** What a guest has written to it already: offsets and bytes. */
  written?: Iterable<readonly [offset: number, data: Uint8Array]>;
}

/** What a machine is made from. Everything that changes what the guest sees is here, and nothing else is. */
export interface MachineConfig {
  /** Guest RAM in MiB: 64..3072. */
  memory: number;
  /** Number of VPs, 1..64. */
  cpus: number;
  /** CPU model: a name of cpu/models.ts. */
  cpu: string;
  /** Command line of the kernel. */
  append: string;
  boot: BootKind;
  /** With `device-tree`: GPA of the program's first byte. Left out: where its format says, see boot/bare.ts. */
  load?: number;
  kernel: Uint8Array;
  /** Name shown in messages about `kernel`. */
  kernelName: string;
  initrd?: Uint8Array;
  initrdName?: string;
  /** Disks, LUN 0 first. What the guest writes stays in the machine; none: no SCSI controller is offered. */
  disks?: readonly DiskConfig[];
  /** Newest VMBus version that the host speaks, such as `5.2`. Left out: the newest there is. */
  vmbusVersion?: string;
  /** Network and disks are signalled by bits in monitor pages, which the host looks at every 100 us, not by hypercalls. */
  monitorPages?: boolean;
  /** Relid of the first VMBus channel; the others follow. Left out: 1. */
  firstRelid?: number;
  /** Seed of everything the platform has to make up (KASLR seed, OEM0 entropy); the same seed gives the same run. */
  seed: number;
  /** Wall-clock time at power-on, ms since 1970, as the RTC and the timesync IC tell it. */
  startTime: number;
  /** Instructions a VP runs before the next has its turn. */
  quantum: number;
  /** `auto` (default): hot code is translated; `interpreter`: nothing is. The guest sees no difference. */
  engine?: 'auto' | 'interpreter';
  /** Taken branches to one place after which its code is translated; for tests. */
  threshold?: number;
}

export const DEFAULTS = {
  memory: 512,
  cpus: 1,
  cpu: 'max',
  append: 'console=ttyAMA0',
  boot: 'hyperv',
  seed: 1,
  // 2026-01-01T00:00:00Z: a fixed date, so that two runs are the same run.
  startTime: 1767225600000,
  quantum: 50_000,
} as const;

/** A configuration that cannot be a machine: the message is for the user and names the file or setting. */
export class ConfigError extends Error {}
