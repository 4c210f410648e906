/**
 * The bare-metal programs of test/guests/bare: they check the architecture from inside, at EL1, and know the machine by its
 * device tree alone. What they expect is what QEMU's `virt` machine does as well, where that implements it.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { DEFAULTS, type MachineConfig } from '../../emulator/index.ts';
import { Recorded } from './debian.ts';

const program = (name: string): Uint8Array => fs.readFileSync(new URL(`../guests/bare/${name}`, import.meta.url));

/** Runs a program to its power-off. */
function finished(name: string, overrides: Partial<MachineConfig> = {}): Recorded {
  const guest = new Recorded({
    ...DEFAULTS,
    memory: 64,
    append: '',
    boot: 'device-tree',
    kernel: program(name),
    kernelName: name,
    ...overrides,
  });
  const exit = guest.finish(10_000_000, 400_000_000);
  assert.deepEqual(exit, { kind: 'power-off' }, guest.console);
  return guest;
}

const run = (name: string, overrides: Partial<MachineConfig> = {}): string =>
  finished(name, overrides).console.replaceAll('\r', '');

/** Checks that each program makes at least, with one VP and with four: features that come later add some. */
const CHECKS: Record<string, { about: string; one: number; four: number }> = {
  exceptions: { about: 'vectors, syndromes, alignment, traps from EL0', one: 66, four: 66 },
  mmu: { about: 'granules, permissions, faults, TLBI, ASIDs, AT', one: 195, four: 198 },
  gic: { about: 'SGIs, active state, priorities, level and edge, routing', one: 44, four: 56 },
  timer: { about: 'CVAL, TVAL, masks, interrupts, event stream', one: 28, four: 31 },
  smp: { about: 'PSCI, exclusives, atomics, WFE and SEV', one: 17, four: 43 },
  cache: { about: 'cache maintenance and self-modifying code', one: 11, four: 12 },
  pauth: { about: 'keys, codes, stripping, branches, FPAC', one: 185, four: 185 },
  bti: { about: 'landings in guarded pages, BTYPE', one: 336, four: 336 },
  fp: { about: 'FP context and its traps', one: 13, four: 13 },
};

for (const [name, { about, one, four }] of Object.entries(CHECKS))
  for (const [cpus, checks] of [
    [1, one],
    [4, four],
  ])
    test(`${name}, ${cpus} VP${cpus > 1 ? 's' : ''}: ${about}`, () => {
      const console = run(`${name}.elf`, { cpus });
      assert.doesNotMatch(console, /^FAIL/m);
      const passed = Number(/^DONE: (\d+) passed, 0 failed\n$/m.exec(console)?.[1]);
      assert.ok(passed >= checks, console.slice(-200));
    });

test('a flat binary is the same program at its default address', () => {
  assert.equal(run('exceptions.bin'), run('exceptions.elf'));
});

test('the interpreter alone comes to the same end at the same instruction', () => {
  for (const name of ['timer', 'cache', 'pauth', 'bti', 'smp']) {
    const [both, alone] = [{}, { engine: 'interpreter' } as const].map((o) => finished(`${name}.elf`, { cpus: 2, ...o }).machine);
    assert.deepEqual([alone.instructions, alone.stateHash()], [both.instructions, both.stateHash()], name);
  }
});

test('the programs hold on a CPU of v8.2, too, and with turns of a few instructions', () => {
  for (const name of ['exceptions', 'mmu', 'smp', 'pauth', 'bti'])
    assert.match(run(`${name}.elf`, { cpu: 'neoverse-n1', cpus: 2, quantum: 777 }), /^DONE: \d+ passed, 0 failed\n$/m);
});
