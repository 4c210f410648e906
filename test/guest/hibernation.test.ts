/** A Debian guest hibernates to a swap partition of a disk; another machine with that disk resumes it, on a new VMBus connection. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { debianInitramfs } from '../../scripts/debian-guest.mjs';
import { type DiskConfig, openImage } from '../../emulator/index.ts';
import { file } from '../unit/host/fixtures.ts';
import { debianConfig, Recorded, TROUBLE } from './debian.ts';

const MIB = 2 ** 20;

/** The first boot makes the swap space and hibernates; the second finds it, and becomes the first. */
const SCRIPT = `#!/bin/sh
PATH=/bin
until [ -b /dev/sda ] && [ -d /sys/class/net/eth0 ]; do sleep 0.05; done
cat /sys/block/sda/dev >/sys/power/resume
echo "FIRST: $(cat /sys/power/state)"
ip link set eth0 up; ip addr add 10.0.2.20/24 dev eth0
ping -c 1 10.0.2.2 | grep -c 'bytes from' | sed 's/^/BEFORE: /'
dd if=/dev/urandom of=/tmp/some bs=64k count=16 2>/dev/null; md5sum </tmp/some >/tmp/sum
echo 0 >/sys/power/image_size; mkswap /dev/sda >/dev/null; swapon /dev/sda
echo shutdown >/sys/power/disk; echo disk >/sys/power/state; echo "RESUMED: $?"
echo "SAME: $(md5sum </tmp/some | cmp - /tmp/sum && echo yes)"
ping -c 2 10.0.2.2 | grep -c 'bytes from' | sed 's/^/AFTER: /'
swapoff /dev/sda; echo "READ: $(dd if=/dev/sda bs=64k count=16 2>/dev/null | wc -c)"
echo TEST-END
`;

const said = (guest: Recorded, key: string): string[] =>
  [...guest.console.matchAll(new RegExp(`^${key}: (.*?)\\r?$`, 'gm'))].map((m) => m[1]);

for (const [suite, cpus] of [
  ['own', 4],
  ['sid', 2],
] as const)
  test(`a guest hibernates, and goes on in another machine with the same disk (${suite}, ${cpus} VPs)`, async () => {
    const disk: DiskConfig = { name: 'swap', disk: openImage(file(new Uint8Array(256 * MIB), 'swap.img')) };
    const config = {
      ...(await debianConfig(suite, { memory: 512, cpus })),
      append: 'console=ttyAMA0 no_console_suspend hyperstep.run=/bin/sh,/test.sh',
      initrd: await debianInitramfs({
        suite,
        modules: ['hv_storvsc', 'sd_mod', 'hv_netvsc', 'hv_balloon', 'hv_sock', 'lzo', 'lzo-rle'],
        extra: [{ path: 'test.sh', mode: 0o755, data: SCRIPT }],
      }),
      network: { mode: 'internal' as const },
      disks: [disk],
    };
    const first = new Recorded(config);
    assert.deepEqual(first.finish(), { kind: 'power-off' }, first.console.slice(-3000));
    assert.match(first.console, /PM: Image saving done/, first.console.slice(-3000));
    assert.deepEqual([said(first, 'BEFORE'), said(first, 'RESUMED')], [['1'], []]);
    const second = new Recorded({ ...config, disks: [{ ...disk, written: [...first.machine.diskWrites('swap')] }] });
    assert.deepEqual(second.finish(), { kind: 'power-off' }, second.console.slice(-3000));
    assert.match(second.console, /PM: Image loading done/, second.console.slice(-3000));
    for (const guest of [first, second]) assert.doesNotMatch(guest.console, TROUBLE);
    // It says once what it says before, and what it was about to say when it was put to sleep.
    assert.deepEqual(
      ['BEFORE', 'RESUMED', 'SAME', 'AFTER', 'READ'].map((key) => said(second, key)),
      [[], ['0'], ['yes'], ['2'], ['1048576']],
      second.console.slice(-3000),
    );
    // Every device that it had is there again, with its sub-channels.
    const used = new Set(first.machine.vmbus().channels.flatMap((c) => (c.packetsFromGuest > 0 ? [c.device] : [])));
    const open = second.machine.vmbus().channels.filter((c) => c.state === 'open');
    assert.deepEqual(
      [...used].map((device) => [device, open.filter((c) => c.device === device).length]).sort(),
      [...used].map((device) => [device, device === 'scsi' || device === 'network' ? cpus : 1]).sort(),
    );
  });
