/** Guests whose whole user space is one of our programs (test/guests/user), on Debian's kernels. */
import fs from 'node:fs';
import { cpio } from '../../scripts/cpio.mjs';
import type { MachineConfig } from '../../emulator/index.ts';
import { debianConfig, Recorded } from './debian.ts';

/** Boots the kernel of `suite` with test/guests/user/<program>.elf as /init; its lines `NAME: numbers`, and the console. */
export async function runProgram(
  program: string,
  { suite = 'own', ...overrides }: { suite?: string } & Partial<MachineConfig> = {},
): Promise<{ console: string; results: Record<string, number[]> }> {
  const init = fs.readFileSync(new URL(`../guests/user/${program}.elf`, import.meta.url));
  const initrd = cpio([{ path: 'init', mode: 0o755, data: init }]);
  const guest = new Recorded(await debianConfig(suite, { initrd, initrdName: program, ...overrides }));
  const exit = guest.finish();
  if (exit.kind !== 'power-off') throw new Error(`${program} ended with ${exit.kind}: ${guest.console.slice(-3000)}`);
  const results: Record<string, number[]> = {};
  for (const [, name, numbers] of guest.console.matchAll(/^([A-Z-]+):((?: \d+)+)\r?$/gm))
    results[name] = numbers.trim().split(' ').map(Number);
  return { console: guest.console, results };
}
