/** A virtual PCI bus with an NVMe controller, used by the pci-hyperv and nvme drivers of Debian's kernels. */
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { test } from 'node:test';
import { debianInitramfs, debianProgram } from '../../scripts/debian-guest.mjs';
import { type DiskConfig, openImage } from '../../emulator/index.ts';
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
see() { for i in $(seq 100); do [ -b /dev/$1 ] && break; sleep 0.1; done; }
gone() { for i in $(seq 100); do [ -e /sys/block/$1 ] || break; sleep 0.1; done; }
step() { echo "WAIT-$1"; read -r go; }
step second; see nvme0n2; echo "SECOND: $(cat /sys/block/nvme0n2/size) $([ $(cat /sys/block/nvme0n2/queue/discard_max_bytes) -gt 0 ] && echo trim)"
mkfs.ext4 -q /dev/nvme0n2 && mkdir /m && mount -t ext4 /dev/nvme0n2 /m
cat /tmp/data >/m/file; sync; rm /m/file; fstrim /m; cat /tmp/data >/m/again; umount /m
echo 3 >/proc/sys/vm/drop_caches; mount -t ext4 /dev/nvme0n2 /m; echo "FILE: $(cmp /m/again /tmp/data && echo same)"; umount /m
read_it() { dd if=/dev/nvme0n1 of=/dev/null bs=4k skip=$1 count=1 iflag=direct 2>/dev/null; echo "ERROR-$2: $?"; }
step read-error; read_it 3 medium; read_it 3 again
step not-ready; read_it 3 ready
step third; gone nvme0n2; echo "DISKS: $(ls -d /sys/block/nvme* | tr '\\n' ' ')"
step eject
for i in $(seq 50); do [ "$(ls /sys/bus/pci/devices)" ] || break; sleep 0.1; done
echo "LEFT: $(ls /sys/bus/pci/devices | wc -l) $(ls -d /dev/nvme0n1 2>/dev/null)"
step return; see nvme0n1; echo "BACK: $(dd if=/dev/nvme0n1 bs=64k skip=16 count=48 2>/dev/null | cmp - /tmp/data && echo same)"
echo TEST-END
`;

for (const [suite, flavour, cpus] of [
  ['own', 'arm64', 1],
  ['sid', 'arm64', 4],
] as const)
  test(`an NVMe disk behind a virtual PCI bus is found, read, written and let go, with messages as SPIs (${suite}, ${cpus} VPs)`, async () => {
    const image = noise(4 * MIB);
    const extra = [...debianProgram('e2fsprogs', 'mke2fs', 'bin/mkfs.ext4'), { path: 'test.sh', mode: 0o755, data: SCRIPT }];
    const guest = new Recorded({
      ...(await debianConfig(suite, { flavour })),
      cpus,
      append: 'console=ttyAMA0 hyperstep.run=/bin/sh,/test.sh',
      initrd: await debianInitramfs({ suite, flavour, modules: ['pci-hyperv', 'nvme', 'crc32c_generic', 'ext4'], extra }),
      disks: [{ name: 'disk', disk: openImage(file(image, 'disk.img')), bus: 'nvme' }],
    });
    const { machine } = guest;
    const memory = (name: string): DiskConfig => ({ name, disk: openImage(file(new Uint8Array(8 * MIB), name)), bus: 'nvme' });
    const again: DiskConfig = { name: 'disk', disk: openImage(file(image, 'disk.img')), bus: 'nvme' };
    const details = (): Record<string, unknown>[] => {
      const pci = machine.vmbus().channels.find((c) => c.device === 'pci')?.details as { nvme: { namespaces: [] } };
      return pci.nvme.namespaces;
    };
    /** What is done when the guest waits for it. */
    const steps: Record<string, () => void> = {
      second: () => assert.equal(machine.attachDisk(memory('second')), 2),
      'read-error': () => assert.equal(machine.failDisk('disk', 'read-error', { first: 24, last: 31 }), true),
      'not-ready': () => assert.equal(machine.failDisk('disk', 'not-ready', { count: 2 }), true),
      third: () => {
        const { deallocated, zeroed } = details()[1];
        assert.ok(Number(deallocated) > 4096, `${deallocated} blocks deallocated, ${zeroed} zeroed`);
        assert.equal(machine.detachDisk('second'), true);
      },
      eject: () => assert.equal(machine.detachDisk('disk'), true),
      return: () => assert.equal(machine.attachDisk(again), 1),
    };
    const done = new Set<string>();
    for (;;) {
      const exit = machine.run({ instructions: 5_000_000, nanoseconds: 50_000_000 });
      if (exit.kind === 'power-off') break;
      // In the middle of whatever it does: it must not notice.
      if (cpus === 1) machine.restore(machine.snapshot());
      assert.equal(exit.kind, 'limit', guest.console.slice(-3000));
      assert.ok(machine.now < 60e9, guest.console.slice(-3000));
      const wanted = [...guest.console.matchAll(/^WAIT-(\S+)/gm)].map((m) => m[1]).find((step) => !done.has(step));
      if (wanted === undefined) continue;
      done.add(wanted);
      steps[wanted]();
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
        second: said('SECOND'),
        file: said('FILE'),
        errors: ['medium', 'again', 'ready'].map((name) => said(`ERROR-${name}`)[0]),
        disks: said('DISKS'),
        left: said('LEFT'),
        back: said('BACK'),
      },
      {
        pci: ['0001:00:00.0 0x1414 0xb111 0x010802 nvme'],
        size: ['8192 0'],
        read: [`${md5(image)}  -`],
        same: ['yes'],
        written: [`${md5(disk.subarray(MIB))}  -`],
        second: ['16384 trim'],
        file: ['same'],
        errors: ['1', '0', '0'],
        disks: ['/sys/block/nvme0n1 '],
        left: ['0 '],
        back: ['same'],
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
