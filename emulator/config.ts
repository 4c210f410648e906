import type { Disk } from './host/disk.ts';

export type { Disk };

/**
 * How the guest is started: `hyperv` as Hyper-V's firmware would (EFI and ACPI tables), `device-tree` by the arm64 boot protocol
 * alone, with a device tree that describes the machine. The machine is the same.
 */
export const BOOT_KINDS = ['hyperv', 'device-tree'] as const;
export type BootKind = (typeof BOOT_KINDS)[number];
export const isBootKind = (s: string): s is BootKind => BOOT_KINDS.some((k) => k === s);

/** A disk or DVD on the synthetic SCSI controller, or an NVMe disk. */
export interface DiskConfig {
  /** Names it towards the user and in snapshots; no two are called the same. */
  name: string;
  disk: Disk;
  /** `nvme`: a namespace of an NVMe controller on a virtual PCI bus. Left out: `scsi`. */
  bus?: 'scsi' | 'nvme';
  /** The guest is told that it cannot write. */
  readOnly?: boolean;
  /** A DVD drive with the image as its disc. */
  dvd?: boolean;
  /** Virtual time from request to answer, ns. */
  latency?: number;
  /** What a guest has written to it already: offsets and bytes. */
  written?: Iterable<readonly [offset: number, data: Uint8Array]>;
}

/** What the guest's synthetic network card is plugged into. */
export interface NetworkConfig {
  /**
   * `internal`: a gateway with DHCP, DNS and services of its own, and nothing behind it. `user`: TCP, UDP and names go out of the
   * machine as requests (`Machine.onNetwork`), and what comes back is input.
   */
  mode: 'internal' | 'user';
  /** MAC address of the card. Default: 00:15:5d:00:00:01. */
  mac?: string;
  /** VLANs, 1 to 4094, on which the gateway is as well. */
  vlans?: readonly number[];
  /** IPv4 addresses that its DNS server knows, by name. */
  names?: Readonly<Record<string, string>>;
}

/** Who answers programs of the guest that connect to the host by Hyper-V sockets (AF_VSOCK). */
export interface SocketsConfig {
  /**
   * `internal`: an echo at port 7, and nothing else. `outside`: connections in both directions go through the machine's door as
   * requests (`Machine.onSocket`) and input.
   */
  mode: 'internal' | 'outside';
}

/** A picture's size in pixels. */
export interface DisplayConfig {
  width: number;
  height: number;
}

const DISPLAY_LEAST: DisplayConfig = { width: 640, height: 480 };
const DISPLAY_MOST: DisplayConfig = { width: 3840, height: 2160 };

/** Why a display cannot have this size; undefined: it can. */
export function displayProblem({ width, height }: DisplayConfig): string | undefined {
  const fits = (v: number, least: number, most: number): boolean => Number.isInteger(v) && v >= least && v <= most;
  if (
    fits(width, DISPLAY_LEAST.width, DISPLAY_MOST.width) &&
    fits(height, DISPLAY_LEAST.height, DISPLAY_MOST.height) &&
    width % 8 === 0
  )
    return undefined;
  return `a display has ${DISPLAY_LEAST.width}x${DISPLAY_LEAST.height} to ${DISPLAY_MOST.width}x${DISPLAY_MOST.height} pixels and a width that is a multiple of 8, not ${width}x${height}`;
}

/** VRAM of a display, in MiB: 8, as real hosts have it (enough for 1920x1080), or what a larger picture of 32 bits a pixel takes. */
export const vramMegabytes = ({ width, height }: DisplayConfig): number =>
  Math.max(8, Math.ceil((width * height * 4) / (1 << 20)));

/** A file to copy into the guest through the file copy service. */
export interface CopyRequest {
  /** Full path in the guest. */
  to: string;
  bytes: Uint8Array;
  /** A file that is there is replaced. */
  overwrite?: boolean;
  /** Missing folders are made. */
  createPath?: boolean;
}

/** Settings of a host by name (personalities.ts): numbers also as text, `0x...`; lists also as text with commas. */
export type PlatformOverrides = Readonly<Record<string, boolean | number | string | readonly (number | string)[]>>;

/** What a machine is made from. Everything that changes what the guest sees is here, and nothing else is. */
export interface MachineConfig {
  /** Guest RAM in MiB: 64..3072. */
  memory: number;
  /** MiB that the guest can have in all, 64..3072: what is above `memory` can be added while it runs. Left out: `memory`. */
  maxMemory?: number;
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
  /** Disks, LUN 0 first. What the guest writes stays in the machine; none: no controller is offered. */
  disks?: readonly DiskConfig[];
  /** None: no network card is offered. */
  network?: NetworkConfig;
  /** None: the host refuses every connection of Hyper-V sockets. */
  sockets?: SocketsConfig;
  /** The host that the guest sees: a name of personalities.ts. Left out: `DEFAULTS.platform`. */
  platform?: string;
  /** What is different from that host, by the names of settings in personalities.ts. */
  platformOverrides?: PlatformOverrides;
  /** The synthetic video's resolution that the guest is told to like best, and with it the size of VRAM. Left out: `DEFAULTS.display`. */
  display?: DisplayConfig;
  /** Items of the external key-value pool, which every guest with a data exchange service gets. */
  keyValuePairs?: Readonly<Record<string, string>>;
  /** Files that are copied into the guest as soon as it takes them. */
  copyFiles?: readonly CopyRequest[];
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
  platform: 'hyperstep',
  display: { width: 1024, height: 768 },
  seed: 1,
  // 2026-01-01T00:00:00Z: a fixed date, so that two runs are the same run.
  startTime: 1767225600000,
  quantum: 50_000,
} as const;

/**
 * A configuration that cannot be a machine: the message is for the user and names the file or setting. It is one line, whatever bytes
 * of a file it quotes.
 */
export class ConfigError extends Error {
  constructor(message: string) {
    super(message.replace(/\p{Cc}/gu, '?'));
  }
}
