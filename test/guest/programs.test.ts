/** Ordinary programs (C, a static glibc) of test/guests/programs in Debian's user space: built here, run by the guest's shell. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { debianInitramfs } from '../../scripts/debian-guest.mjs';
import type { MachineConfig } from '../../emulator/index.ts';
import { debianConfig, Recorded, TROUBLE } from './debian.ts';

const SOURCES = path.join(import.meta.dirname, '..', 'guests', 'programs');
const PROGRAMS = fs.readdirSync(SOURCES).flatMap((name) => (name.endsWith('.c') ? [name.slice(0, -2)] : []));
const FLAGS = ['-static', '-O2', '-Wall', '-Werror', '-frounding-math'];
const LIBRARIES = ['-lpthread', '-lm', '-latomic'];

/** Runs every program, with what it prints when it fails. */
const RUN = `cd /tmp
for program in /t/*; do
  if $program >/tmp/out 2>&1; then echo "PASS $(basename $program)"
  else echo "FAIL $(basename $program): status $?"; cat /tmp/out; fi
done
`;

let built: { path: string; mode?: number; data?: Uint8Array }[] | undefined;
function programs() {
  if (built) return built;
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-programs-'));
  try {
    const entries = PROGRAMS.map((name) => {
      const program = path.join(folder, name);
      execFileSync('aarch64-linux-gnu-gcc', [...FLAGS, '-o', program, path.join(SOURCES, `${name}.c`), ...LIBRARIES]);
      return { path: `t/${name}`, mode: 0o755, data: fs.readFileSync(program) };
    });
    built = [{ path: 't' }, ...entries, { path: 'run', mode: 0o755, data: Buffer.from(RUN) }];
    return built;
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

async function run(overrides: Partial<MachineConfig>): Promise<string[]> {
  const initrd = await debianInitramfs({ extra: programs() });
  const append = 'console=ttyAMA0 hyperstep.nomod hyperstep.run=/bin/sh,/run';
  const guest = new Recorded(await debianConfig('own', { initrd, initrdName: 'programs', append, ...overrides }));
  assert.deepEqual(guest.finish(), { kind: 'power-off' }, guest.console.slice(-3000));
  assert.doesNotMatch(guest.console, TROUBLE);
  return guest.console.match(/^(PASS|FAIL) .*$|^\S+\.c:\d+: .*$/gm)?.map((line) => line.trim()) ?? [];
}

const PASSED = PROGRAMS.map((name) => `PASS ${name}`).sort();

test('programs pass on one VP', async () => {
  assert.deepEqual(await run({}), PASSED);
});

test('programs pass on two VPs of an older model', async () => {
  assert.deepEqual(await run({ cpus: 2, cpu: 'cortex-a72' }), PASSED);
});
