/** Debian's kernels as machines, for tests: fetched into the cache when they are not there. */
import fs from 'node:fs';
import path from 'node:path';
import { debianGuest } from '../../scripts/debian-guest.mjs';
import { DEFAULTS, type Exit, type Machine, type MachineConfig } from '../../emulator/index.ts';
import { createMachine } from '../../emulator/load.ts';

export async function debianConfig(
  suite: string,
  { flavour, ...overrides }: Partial<MachineConfig> & { flavour?: string } = {},
): Promise<MachineConfig> {
  const guest = await debianGuest({ suite, flavour });
  return {
    ...DEFAULTS,
    kernel: fs.readFileSync(guest.kernel),
    kernelName: path.basename(guest.kernel),
    initrd: fs.readFileSync(guest.initrd),
    initrdName: path.basename(guest.initrd),
    ...overrides,
  };
}

/** Lines that no healthy guest prints. */
export const TROUBLE = /\bBUG\b|WARNING:|Call trace|Kernel panic|Oops|[Ss]oft lockup|rcu: INFO|blocked for more|Internal error/;

/** How many of heartbeat, shutdown, time synchronisation and keyboard, which every kernel has drivers for, are bound. */
export const bound = (console: string): number =>
  [...console.matchAll(/class \{(57164f39|0e0b6031|9527e630|f912ad6d)-\S+ state 3 driver (hv_utils|hyperv_keyboard)/g)].length;

/** A machine that collects its console. */
export class Recorded {
  readonly machine: Machine;
  readonly #bytes: Uint8Array[] = [];
  readonly hypercalls = new Map<string, number>();

  constructor(config: MachineConfig) {
    this.machine = createMachine(config);
    this.machine.onConsole = (b) => {
      this.#bytes.push(b);
    };
    this.machine.subscribe((e) => {
      if (e.kind === 'hypercall') this.hypercalls.set(e.name, (this.hypercalls.get(e.name) ?? 0) + 1);
    });
  }

  get console(): string {
    return Buffer.concat(this.#bytes).toString('latin1');
  }

  /** Runs to the guest's end in slices of `slice` instructions, at most `limit` in all. */
  finish(slice = 10_000_000, limit = 6_000_000_000): Exit {
    for (;;) {
      const exit = this.machine.run({ instructions: slice });
      if (exit.kind !== 'limit' || this.machine.instructions >= limit) return exit;
    }
  }
}
