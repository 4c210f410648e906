/** Suspend to idle: the guest sleeps until a key or its clock wakes it, and everything works on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { debianInitramfs } from '../../scripts/debian-guest.mjs';
import type { MachineConfig } from '../../emulator/index.ts';
import { emptyDisk } from '../unit/vmbus/fake-disk.ts';
import { bound, debianConfig, Recorded, TROUBLE } from './debian.ts';

const READ = 'dd if=/dev/sda of=/dev/null bs=4k count=16 iflag=direct && echo READ';

async function sleeper(suite: string, before: string, overrides: Partial<MachineConfig>): Promise<Recorded> {
  const data = `#!/bin/sh\n${READ}\n${before}\necho freeze >/sys/power/state; echo "WOKE $?"\n${READ}\nsleep 5\n`;
  const initrd = await debianInitramfs({
    suite,
    modules: ['hv_storvsc', 'sd_mod'],
    extra: [{ path: 'script', mode: 0o755, data }],
  });
  const append = 'console=ttyAMA0 no_console_suspend hyperstep.run=/script';
  return new Recorded(await debianConfig(suite, { initrd, disks: [emptyDisk()], append, ...overrides }));
}

/** Runs until the guest has gone to sleep, and through an hour of its time. */
function sleep(guest: Recorded): void {
  const { machine } = guest;
  for (let asleep = Number.POSITIVE_INFINITY; machine.now < asleep; ) {
    const exit = machine.run({ instructions: 5_000_000, nanoseconds: 1e9 });
    assert.ok(exit.kind === 'limit' && machine.instructions < 6e9, `${exit.kind}\n${guest.console.slice(-2000)}`);
    if (asleep === Number.POSITIVE_INFINITY && guest.console.includes('suspend entry')) asleep = machine.now + 3.6e12;
  }
}

function worksOn(guest: Recorded): void {
  assert.deepEqual(guest.finish(), { kind: 'power-off' }, guest.console.slice(-2000));
  assert.match(guest.console, /PM: suspend exit/);
  assert.match(guest.console, /suspend entry[\s\S]*^WOKE 0[\s\S]*^READ/m);
  assert.deepEqual([bound(guest.console), guest.console.split('\n').filter((l) => TROUBLE.test(l))], [4, []]);
}

for (const [suite, cpus] of [
  ['own', 2],
  ['sid', 1],
] as const)
  test(`${suite}, ${cpus} VPs: a key wakes a guest that has slept for an hour`, async () => {
    const guest = await sleeper(suite, '', { cpus });
    sleep(guest);
    assert.doesNotMatch(guest.console, /WOKE/);
    assert.equal(guest.machine.sendKey(0x1e, false), true);
    guest.machine.sendKey(0x1e, true);
    worksOn(guest);
  });

test('sid by device tree: the alarm of its real-time clock wakes a guest', async () => {
  const guest = await sleeper('sid', 'echo +60 >/sys/class/rtc/rtc0/wakealarm', { boot: 'device-tree' });
  const started = guest.machine.now;
  worksOn(guest);
  assert.ok(guest.machine.now - started > 60e9);
});
