/** Kernels that start other kernels: by kexec, and by kdump after a panic that the host sees. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { debianGuest, debianInitramfs, debianProgram } from '../../scripts/debian-guest.mjs';
import { KernelFile } from '../../debug-adapter/kernel-file.ts';
import { GuestKernel, KernelFacts } from '../../debug-adapter/linux/kernel.ts';
import { unwrapKernel } from '../../debug-adapter/kernel-file.ts';
import type { Exit, MachineConfig } from '../../emulator/index.ts';
import { emptyDisk } from '../unit/vmbus/fake-disk.ts';
import { bound, debianConfig, Recorded, TROUBLE } from './debian.ts';

/** The crash kernel's: which kernel the dump says that it is of. */
const DUMP = '#!/bin/sh\ndd if=/proc/vmcore bs=4096 count=64 2>/dev/null | strings | grep -m1 OSRELEASE\n';

/** A guest with kexec-tools, another kernel in /second, and a script that it runs. */
async function machineWith(
  suite: string,
  second: string,
  script: string,
  overrides: Partial<MachineConfig> = {},
): Promise<Recorded> {
  const other = await debianGuest({ suite: second });
  const image = await unwrapKernel(fs.readFileSync(other.kernel), path.basename(other.kernel));
  const extra = [{ path: 'dump', mode: 0o755, data: DUMP }];
  const programs = debianProgram('kexec-tools', 'kexec', 'sbin/kexec');
  const initrd = await debianInitramfs({
    suite,
    modules: ['hv_storvsc', 'sd_mod'],
    extra: [
      { path: 'second' },
      { path: 'second/Image', data: image },
      { path: 'second/initrd', data: gzipSync(await debianInitramfs({ suite: second, extra }), { level: 1 }) },
      { path: 'script', mode: 0o755, data: `#!/bin/sh\n${script}\n` },
      { path: 'sbin' },
      ...programs,
    ],
  });
  const append = `console=ttyAMA0 hyperstep.run=/script ${overrides.append ?? ''}`;
  return new Recorded(await debianConfig(suite, { initrd, memory: 1024, disks: [emptyDisk()], ...overrides, append }));
}

const READ = 'dd if=/dev/sda of=/dev/null bs=4k count=16 iflag=direct';
/** 6.1 cannot switch off a CPU that has a channel, and stops with BUG() at that when it starts another kernel. */
const MOVE = 'for c in /sys/bus/vmbus/devices/*/channels/*/cpu; do echo 0 >$c; done 2>/dev/null';
/** Without the checksums of the purgatory, which takes longer for them than a kernel to boot. */
const load = (kind: '-l' | '-p', append: string): string =>
  `/sbin/kexec ${kind} /second/Image --no-checks --initrd=/second/initrd --command-line="console=ttyAMA0 ${append}"`;

/** Runs to the guest's end as a debugger would: which kernels it sees, and where their symbols say that they start. */
function watched({ machine }: Recorded): { exit: Exit; kernels: { release?: string; another: boolean; started: boolean }[] } {
  const kernel = new GuestKernel(machine, new KernelFacts(new KernelFile('kernel', new Uint8Array())));
  const kernels: { release?: string; another: boolean; started: boolean }[] = [];
  let start: bigint | undefined;
  let another = false;
  kernel.onReplaced = () => {
    another = true;
  };
  kernel.onFound = () => {
    kernels.push({ release: kernel.image?.release, another, started: false });
    if (start !== undefined) machine.clearBreakpoint(start);
    start = kernel.symbols.address('start_kernel');
    if (start !== undefined) machine.setBreakpoint(start);
  };
  for (let resumeVp: number | undefined; ; ) {
    const exit = machine.run({ instructions: 10_000_000, resumeVp });
    resumeVp = exit.kind === 'breakpoint' ? exit.vp : undefined;
    if (exit.kind === 'breakpoint' && exit.pc === start) (kernels.at(-1) ?? { started: false }).started = true;
    if (!kernel.absorb(exit)) kernel.poll();
    if (exit.kind !== 'limit' && exit.kind !== 'breakpoint') return { exit, kernels };
  }
}

for (const [first, second, cpus] of [
  ['own', 'own', 1],
  ['own', 'sid', 4],
  ['sid', 'trixie', 2],
] as const)
  test(`kexec with ${cpus} VPs: the kernel of ${first} starts ${second}'s, which finds VMBus and every device again`, async () => {
    const guest = await machineWith(first, second, `${READ}; ${MOVE}; ${load('-l', '')} && /sbin/kexec -e`, { cpus });
    const { exit, kernels } = watched(guest);
    assert.deepEqual(exit, { kind: 'power-off' }, guest.console.slice(-3000));
    // A breakpoint at the start of each is met: a debugger knows the next kernel before its first line of C.
    const releases = [...guest.console.matchAll(/Linux version (\S+) /g)].map((m) => m[1]);
    assert.deepEqual(
      kernels,
      releases.map((release, i) => ({ release, another: i > 0, started: true })),
    );
    assert.equal([...guest.console.matchAll(/Booting Linux on physical CPU/g)].length, 2);
    assert.equal([...guest.console.matchAll(/Vmbus version/g)].length, 2);
    const again = guest.console.slice(guest.console.lastIndexOf('Booting Linux'));
    assert.match(again, new RegExp(`KERNEL: .* ${cpus} VP`));
    assert.deepEqual([bound(guest.console), bound(again)], [8, 4], again.slice(-2000));
    assert.match(again, /INIT-DONE/);
    assert.deepEqual(
      guest.console.split('\n').filter((l) => TROUBLE.test(l)),
      [],
    );
  });

for (const [first, second, cpus] of [
  ['own', 'own', 1],
  ['sid', 'own', 2],
] as const)
  test(`kdump with ${cpus} VPs: a panic of ${first}'s kernel is reported to the host, and the crash kernel finds VMBus and the dump`, async () => {
    const dump = load('-p', 'reset_devices nr_cpus=1 hyperstep.run=/dump');
    const script = `${READ}; ${dump} && echo LOADED && echo c >/proc/sysrq-trigger`;
    const guest = await machineWith(first, second, script, { cpus, append: 'crashkernel=256M' });
    const crash = guest.finish();
    assert.ok(crash.kind === 'crash', `${crash.kind}\n${guest.console.slice(-3000)}`);
    assert.match(crash.message, /Kernel panic - not syncing: sysrq triggered crash/);
    // Bits 63 and 62: a crash, with a message of P4 bytes at P3.
    assert.deepEqual([crash.control, crash.parameters.slice(0, 3)], [0xc000_0000_0000_0000n, [0n, 0n, 0n]]);
    assert.ok(crash.parameters[4] > 1000n && crash.parameters[4] <= 4096n, `${crash.parameters[4]}`);
    assert.deepEqual(guest.finish(), { kind: 'power-off' }, guest.console.slice(-3000));
    const dumped = guest.console.slice(guest.console.lastIndexOf('Booting Linux'));
    assert.equal(bound(dumped), 4, dumped.slice(-2000));
    // The note is in the memory of the kernel that crashed.
    const release = /^KERNEL: (\S+)/m.exec(guest.console)?.[1] ?? '';
    assert.ok(dumped.includes(`OSRELEASE=${release}`), dumped.slice(-2000));
  });
