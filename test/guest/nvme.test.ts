/** A virtual PCI bus with an NVMe controller, used by the pci-hyperv and nvme drivers of Debian's kernels. */
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { test } from 'node:test';
import { debianInitramfs } from '../../scripts/debian-guest.mjs';
import { openImage } from '../../emulator/index.ts';
import { file } from '../unit/host/fixtures.ts';
import { debianConfig, Recorded, TROUBLE } from './debian.ts';

const MIB = 1 << 20;
const noise = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => Math.imul(i + 1, 2654435761) >>> 24);
const md5 = (bytes: Uint8Array): string => crypto.createHash('md5').update(bytes).digest('hex');

const SCRIPT = `#!/bin/sh
PATH=/bin
for i in $(seq 100); do [ -b /dev/nvme0n1 ] && break; sleep 0.1; done
for d in /sys/bus/pci/devices/*; do echo "PCI: \${d##*/} $(cat $d/vendor $d/device $d/class | tr '\\n' ' ')$(basename $(readlink $d/driver))"; done
echo "SIZE: $(cat /sys/block/nvme0n1/size) $(cat /sys/block/nvme0n1/ro)"
echo "READ: $(md5sum </dev/nvme0n1)"
dd if=/dev/urandom of=/tmp/data bs=64k count=48 2>/dev/null
dd if=/tmp/data of=/dev/nvme0n1 bs=64k seek=16 conv=fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
echo "SAME: $(dd if=/dev/nvme0n1 bs=64k skip=16 count=48 2>/dev/null | cmp - /tmp/data && echo yes)"
echo "DATA: $(md5sum </tmp/data)"
grep nvme /proc/interrupts | sed 's/^ */IRQ: /'
echo WAITING; read -r go
for i in $(seq 50); do [ "$(ls /sys/bus/pci/devices)" ] || break; sleep 0.1; done
echo "LEFT: $(ls /sys/bus/pci/devices | wc -l) $(ls -d /dev/nvme0n1 2>/dev/null)"
echo TEST-END
`;

for (const [suite, flavour, cpus] of [
  ['own', 'arm64', 1],
  ['sid', 'arm64', 4],
] as const)
  test(`an NVMe disk behind a virtual PCI bus is found, read, written and let go, with messages as SPIs (${suite}, ${cpus} VPs)`, async () => {
    const image = noise(4 * MIB);
    const extra = [{ path: 'test.sh', mode: 0o755, data: SCRIPT }];
    const guest = new Recorded({
      ...(await debianConfig(suite, { flavour })),
      cpus,
      append: 'console=ttyAMA0 hyperstep.run=/bin/sh,/test.sh',
      initrd: await debianInitramfs({ suite, flavour, modules: ['pci-hyperv', 'nvme'], extra }),
      disks: [{ name: 'disk', disk: openImage(file(image, 'disk.img')), bus: 'nvme' }],
    });
    const { machine } = guest;
    for (let ejected = false; ; ) {
      const exit = machine.run({ instructions: 5_000_000, nanoseconds: 50_000_000 });
      if (exit.kind === 'power-off') break;
      // In the middle of whatever it does: it must not notice.
      if (cpus === 1) machine.restore(machine.snapshot());
      assert.equal(exit.kind, 'limit', guest.console.slice(-3000));
      assert.ok(machine.now < 60e9, guest.console.slice(-3000));
      if (ejected || !guest.console.includes('WAITING')) continue;
      ejected = true;
      assert.equal(machine.detachDisk('disk'), true);
      machine.consoleInput(Uint8Array.of(13));
    }
    assert.doesNotMatch(guest.console, TROUBLE);
    const said = (key: string) => [...guest.console.matchAll(new RegExp(`^${key}: (.*?)\\r?$`, 'gm'))].map((m) => m[1]);
    const disk = image.slice();
    for (const [offset, data] of machine.diskWrites('disk')) disk.set(data, offset);
    assert.deepEqual(
      {
        pci: said('PCI'),
        size: said('SIZE'),
        read: said('READ'),
        same: said('SAME'),
        written: said('DATA'),
        left: said('LEFT'),
      },
      {
        pci: ['0001:00:00.0 0x1414 0xb111 0x010802 nvme'],
        size: ['8192 0'],
        read: [`${md5(image)}  -`],
        same: ['yes'],
        written: [`${md5(disk.subarray(MIB))}  -`],
        left: ['0 '],
      },
    );
    // The admin queue's, and one for each VP; each has fired.
    const fired = said('IRQ').map((line) =>
      line
        .split(/\s+/)
        .slice(1, cpus + 1)
        .reduce((n, x) => n + Number(x), 0),
    );
    assert.ok(fired.length >= 2 && fired[0] > 0 && fired.slice(1).some((n) => n > 0), guest.console.slice(-2000));
  });
