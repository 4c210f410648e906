import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { debianInitramfs, debianProgram } from '../../scripts/debian-guest.mjs';
import { type Disk, type DiskConfig, type Machine, type MachineConfig, openImage } from '../../emulator/index.ts';
import { disk as imageContents, file, IMAGES, image } from '../unit/host/fixtures.ts';
import { debianConfig, Recorded } from './debian.ts';

const MIB = 2 ** 20;
const MODULES = ['hv_storvsc', 'sd_mod', 'sr_mod', 'isofs'];
/** Words that no healthy guest prints. */
const TROUBLE = /\bBUG\b|WARNING:|Call trace:|Kernel panic|Oops|soft lockup|rcu: INFO/;

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-disk-'));
after(() => fs.rmSync(scratch, { recursive: true, force: true }));

const md5 = (bytes: Uint8Array): string => crypto.createHash('md5').update(bytes).digest('hex');

/** Runs a program of e2fsprogs on this machine; its output. */
function host(program: string, args: string[]): string {
  const r = spawnSync(program, args, { encoding: 'utf8', env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` } });
  assert.equal(r.status, 0, `${program} ${args.join(' ')}: ${r.stdout}${r.stderr}${r.error ?? ''}`);
  return r.stdout;
}

const saved = (name: string, bytes: Uint8Array): string => {
  const to = path.join(scratch, name);
  fs.writeFileSync(to, bytes);
  return to;
};

/** An ext4 file system with these files, made on this machine. */
function ext4(size: number, files: Record<string, Uint8Array | string>): Uint8Array {
  const tree = fs.mkdtempSync(path.join(scratch, 'tree-'));
  for (const [name, data] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(tree, name)), { recursive: true });
    fs.writeFileSync(path.join(tree, name), data, { mode: 0o755 });
  }
  const to = saved('ext4.img', new Uint8Array(size));
  host('mkfs.ext4', ['-q', '-F', '-d', tree, to]);
  return new Uint8Array(fs.readFileSync(to));
}

const raw = (bytes: Uint8Array, name = 'raw.img'): Disk => openImage(file(bytes, name));
const noise = (length: number, seed: number): Uint8Array => {
  let x = seed;
  return Uint8Array.from({ length }, () => {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    return x >>> 16;
  });
};

/** The disk as the guest has left it. */
function afterwards(machine: Machine, { name, disk }: DiskConfig): Uint8Array {
  const bytes = disk.read(0, disk.size);
  assert.ok(bytes);
  for (const [offset, data] of machine.diskWrites(name)) bytes.set(data, offset);
  return bytes;
}

/** A guest that runs this shell script after it has loaded its drivers. */
async function guestWith(
  script: string,
  disks: DiskConfig[],
  overrides: Partial<MachineConfig> & { suite?: string } = {},
): Promise<MachineConfig> {
  const { suite = 'own', ...rest } = overrides;
  const config = await debianConfig(suite, rest);
  const extra = [
    ...(script.includes('mkfs.ext4') ? debianProgram('e2fsprogs', 'mke2fs', 'bin/mkfs.ext4') : []),
    { path: 'test.sh', mode: 0o755, data: `#!/bin/sh\nset -x\n${script}\necho TEST-END\n` },
  ];
  return {
    ...config,
    append: 'console=ttyAMA0 hyperstep.run=/bin/sh,/test.sh',
    initrd: await debianInitramfs({ suite, modules: MODULES, extra }),
    disks,
  };
}

function finished(config: MachineConfig): Recorded {
  const guest = new Recorded(config);
  assert.deepEqual(guest.finish(), { kind: 'power-off' }, guest.console.slice(-2000));
  assert.match(guest.console, /^TEST-END/m, guest.console.slice(-2000));
  return guest;
}

/** Lines of the script's own output. */
const said = (guest: Recorded, key: string): string[] =>
  [...guest.console.matchAll(new RegExp(`^${key}: (.*?)\\r?$`, 'gm'))].map((m) => m[1]);

test('a disk is partitioned, gets an ext4, is written and unmounted: e2fsck finds it clean, and the files are those of the guest', async () => {
  const disk = { name: 'data', disk: raw(new Uint8Array(64 * MIB)) };
  const guest = finished(
    await guestWith(
      `
printf 'n\\np\\n1\\n2048\\n\\nw\\n' | fdisk /dev/sda >/dev/null
until [ -b /dev/sda1 ]; do mdev -s; done
mkfs.ext4 -q /dev/sda1 && mkdir /m && mount -t ext4 /dev/sda1 /m
dd if=/dev/urandom of=/m/large bs=1M count=12
mkdir /m/many; for i in 0 1 2 3 4 5 6 7 8 9; do echo "file $i" >/m/many/$i; done
rm /m/many/3; sync; echo "LARGE: $(md5sum </m/large)"
echo 3 >/proc/sys/vm/drop_caches; echo "AGAIN: $(md5sum </m/large)"
fstrim -v /m; umount /m`,
      [disk],
    ),
  );
  assert.doesNotMatch(guest.console, TROUBLE);
  assert.match(guest.console, /sd 0:0:0:0: \[sda\] 131072 512-byte logical blocks/);
  assert.match(guest.console, /Write cache: enabled, read cache: enabled, supports DPO and FUA/);
  const whole = afterwards(guest.machine, disk);
  const partition = saved('partition.img', whole.subarray(2048 * 512));
  assert.deepEqual([whole[510], whole[511], whole[446 + 4]], [0x55, 0xaa, 0x83]);
  assert.match(host('e2fsck', ['-f', '-n', partition]), /: 2[0-9]\/\d+ files/);
  host('debugfs', ['-R', `dump /large ${path.join(scratch, 'large')}`, partition]);
  const large = fs.readFileSync(path.join(scratch, 'large'));
  assert.deepEqual(
    [said(guest, 'LARGE'), said(guest, 'AGAIN'), large.length],
    [[`${md5(large)}  -`], [`${md5(large)}  -`], 12 * MIB],
  );
});

test('every image format is read, a read-only disk refuses writes, and a DVD drive has its disc', async () => {
  const contents = imageContents();
  const fs1 = ext4(8 * MIB, { hello: 'from the host\n', data: noise(300_000, 7) });
  const iso = noise(2048 * 700, 99);
  const disks = [
    { name: 'system', disk: raw(fs1), readOnly: true },
    ...IMAGES.map((name) => ({ name, disk: openImage(file(image(name), name)) })),
    { name: 'disc', disk: raw(iso, 'disc.iso'), dvd: true },
  ];
  const guest = finished(
    await guestWith(
      `
mkdir /m; mount -t ext4 -o ro /dev/sda /m && cat /m/hello; echo "DATA: $(md5sum </m/data)"; umount /m
mount -t ext4 -o rw /dev/sda /m; touch /m/new; echo "NEW: $?"; umount /m
dd if=/dev/zero of=/dev/sda bs=4k count=1; echo "WRITE: $?"
for d in b c d e; do echo "IMAGE: $(md5sum </dev/sd$d)"; done
echo changed | dd of=/dev/sdc bs=512 seek=5 conv=notrunc; sync; echo "DISC: $(md5sum </dev/sr0)"
for d in a b e; do cat /sys/block/sd$d/queue/discard_max_bytes /sys/block/sd$d/ro; done
cat /sys/block/sr0/device/model; eject /dev/sr0; echo "EJECT: $?"`,
      disks,
    ),
  );
  assert.doesNotMatch(guest.console, TROUBLE);
  assert.match(guest.console, /from the host/);
  assert.deepEqual([said(guest, 'DATA'), said(guest, 'NEW')], [[`${md5(noise(300_000, 7))}  -`], ['1']]);
  assert.notEqual(said(guest, 'WRITE')[0], '0');
  assert.deepEqual(said(guest, 'IMAGE'), new Array(4).fill(`${md5(contents)}  -`));
  assert.deepEqual(said(guest, 'DISC'), [`${md5(iso)}  -`]);
  assert.match(guest.console, /\[sda\] Write Protect is on/);
  assert.match(guest.console, /sr 0:0:0:5: \[sr0\] scsi3-mmc drive|sr 0:0:0:5: Attached scsi CD-ROM/);
  // What was written is in the machine; the image underneath is as it was.
  const written = afterwards(guest.machine, disks[2]);
  assert.deepEqual(
    [Buffer.from(written.subarray(2560, 2567)).toString(), md5(disks[2].disk.read(0, contents.length) ?? contents)],
    ['changed', md5(contents)],
  );
  assert.equal([...guest.machine.diskWrites('system')].length, 0);
});

test('the root file system is on /dev/sda1', async () => {
  const config = await guestWith(
    `
busybox=/bin/busybox; $busybox mkdir -p /dev /newroot; $busybox mount -t devtmpfs devtmpfs /dev
while read -r module; do $busybox insmod /lib/modules/$module.ko; done </lib/modules/order
until [ -b /dev/sda1 ]; do $busybox sleep 0.05; done
$busybox mount -t ext4 /dev/sda1 /newroot; $busybox umount /dev
exec $busybox switch_root /newroot /sbin/init`,
    [],
  );
  const busybox = debianProgram('busybox-static', 'busybox', 'bin/busybox')[0].data as Uint8Array;
  const init = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc; /bin/busybox mount -t proc proc /proc
echo "ROOT: $(/bin/busybox awk '$2=="/"{print $1, $3}' /proc/mounts | /bin/busybox tail -1)"
/bin/busybox mount -o remount,rw /; echo here >/written; /bin/busybox sync
/bin/busybox mount -o remount,ro /; echo TEST-END
/bin/busybox poweroff -f
`;
  const root = ext4(16 * MIB, { 'bin/busybox': busybox, 'sbin/init': init, 'dev/.keep': '' });
  const whole = new Uint8Array(root.length + MIB);
  whole.set(root, MIB);
  // One Linux partition from 1 MiB to the end.
  whole.set([0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0], 446);
  new DataView(whole.buffer).setUint32(446 + 12, root.length / 512, true);
  whole.set([0x55, 0xaa], 510);
  const disk = { name: 'root', disk: raw(whole) };
  const guest = finished({ ...config, append: 'console=ttyAMA0 root=/dev/sda1 rdinit=/test.sh', disks: [disk] });
  assert.deepEqual(said(guest, 'ROOT'), ['/dev/sda1 ext4']);
  const partition = saved('root.img', afterwards(guest.machine, disk).subarray(MIB));
  host('e2fsck', ['-f', '-n', partition]);
  assert.equal(host('debugfs', ['-R', 'cat /written', partition]), 'here\n');
});

/** Runs until the console shows a text that it did not show before. */
function until(guest: Recorded, text: string): void {
  const { machine } = guest;
  const from = guest.console.length;
  const limit = machine.now + 60e9;
  while (!guest.console.slice(Math.max(0, from - text.length)).includes(text)) {
    const exit = machine.run({ instructions: 2_000_000, nanoseconds: 20_000_000 });
    assert.equal(exit.kind, 'limit', guest.console.slice(-2000));
    assert.ok(machine.now < limit, `no "${text}":\n${guest.console.slice(-2000)}`);
  }
}

test('disks come and go while the guest runs, the controller too; and disks fail as they are told', async () => {
  const a = noise(MIB, 1);
  const b = noise(2 * MIB, 2);
  const config = await guestWith(
    `
see() { until [ -b /dev/$1 ]; do mdev -s; sleep 0.05; done; }
gone() { while [ -d /sys/block/$1 ]; do sleep 0.05; done; }
echo WAIT-FIRST; see sda; echo "SUM: $(md5sum </dev/sda)"
echo WAIT-SECOND; see sdb; echo "SUM: $(md5sum </dev/sdb)"
echo WAIT-REMOVE; gone sda; echo "LEFT: $(ls -d /sys/block/sd* | tr '\\n' ' ')"
echo WAIT-FAIL; read -r go; dd if=/dev/sdb of=/dev/null bs=4k skip=16 count=1 iflag=direct; echo "BAD: $?"
dd if=/dev/sdb of=/dev/null bs=4k skip=16 count=1 iflag=direct; echo "GOOD: $?"
echo WAIT-HARD; read -r go; dd if=/dev/zero of=/dev/sdb bs=4k count=1 oflag=direct; echo "HARD: $?"
echo WAIT-ATTENTION; read -r go; dd if=/dev/sdb of=/dev/null bs=4k count=1 iflag=direct; echo "ATTENTION: $?"
echo WAIT-READY; read -r go; dd if=/dev/sdb of=/dev/null bs=4k count=1 iflag=direct; echo "READY: $?"`,
    [],
  );
  const guest = new Recorded({ ...config, disks: undefined });
  const { machine } = guest;
  until(guest, 'WAIT-FIRST');
  assert.ok(!machine.vmbus().channels.some((c) => c.device === 'scsi'));
  assert.equal(machine.attachDisk({ name: 'a', disk: raw(a) }), 0);
  until(guest, 'WAIT-SECOND');
  assert.equal(machine.attachDisk({ name: 'b', disk: raw(b) }), 1);
  until(guest, 'WAIT-REMOVE');
  assert.deepEqual([machine.detachDisk('a'), machine.detachDisk('a')], [true, false]);
  until(guest, 'WAIT-FAIL');
  // Sector 130 is in the block that is read; Linux tries a medium error no second time.
  assert.equal(machine.failDisk('b', 'read-error', { first: 130, last: 130 }), true);
  const go = (): void => machine.consoleInput(Uint8Array.of(13));
  go();
  until(guest, 'WAIT-HARD');
  machine.failDisk('b', 'hardware-error', { count: 1 });
  go();
  until(guest, 'WAIT-ATTENTION');
  machine.failDisk('b', 'reset', { count: 1 });
  go();
  until(guest, 'WAIT-READY');
  machine.failDisk('b', 'not-ready', { count: 1 });
  go();
  assert.deepEqual(guest.finish(), { kind: 'power-off' });
  assert.doesNotMatch(guest.console, TROUBLE);
  assert.deepEqual(
    said(guest, 'SUM'),
    [a, b].map((bytes) => `${md5(bytes)}  -`),
  );
  assert.deepEqual(said(guest, 'LEFT'), ['/sys/block/sdb ']);
  assert.deepEqual(
    ['BAD', 'GOOD', 'HARD', 'ATTENTION', 'READY'].map((key) => said(guest, key)[0]),
    ['1', '0', '1', '0', '0'],
    guest.console.slice(-3000),
  );
  assert.match(guest.console, /Sense Key : Medium Error/);
  assert.match(guest.console, /critical target error, dev sdb, sector 0 op 0x1:\(WRITE\)/);
});

/** The SCSI controller's channels. */
const channels = (machine: Machine) => machine.vmbus().channels.filter((c) => c.device === 'scsi');

test('with four VPs the guest opens sub-channels and all of them carry requests; the next run is the same, from the middle too', async () => {
  const contents = noise(24 * MIB, 3);
  const config = await guestWith(
    `
ls /sys/bus/vmbus/drivers/hv_storvsc/*/channels | tr '\\n' ' '; rmmod hv_storvsc; echo "WITHOUT: $(ls /sys/block | grep -c sd)"
insmod /lib/modules/hv_storvsc.ko; until [ -b /dev/sda ] && [ -b /dev/sdb ]; do sleep 0.05; done
mkdir /m; mount -t ext4 /dev/sdb /m
for cpu in 0 1 2 3; do
  taskset $((1 << cpu)) sh -c "dd if=/dev/sda bs=256k skip=$((cpu * 24)) count=24 iflag=direct 2>/dev/null | md5sum | sed 's/^/PART$cpu: /'; dd if=/dev/urandom of=/m/$cpu bs=64k count=16 conv=fsync 2>/dev/null" &
done
wait; umount /m`,
    [
      { name: 'a', disk: raw(contents) },
      { name: 'b', disk: raw(ext4(32 * MIB, {})), latency: 300_000 },
    ],
    { suite: 'trixie', cpus: 4, memory: 768 },
  );
  const guest = new Recorded(config);
  const { machine } = guest;
  // To the middle: many requests are under way.
  const busy = (): number => Number(channels(machine)[0]?.details.requests ?? 0);
  const on = (instructions: number): void => {
    assert.equal(machine.run({ instructions }).kind, 'limit', guest.console.slice(-2000));
  };
  while (!guest.console.includes('mounted filesystem')) on(1_003_009);
  while (busy() < 3) on(5003);
  const snapshot = machine.snapshot();
  const underWay = machine.stateHash();
  assert.deepEqual(guest.finish(), { kind: 'power-off' });
  assert.doesNotMatch(guest.console, TROUBLE);
  for (let cpu = 0; cpu < 4; cpu++)
    assert.deepEqual(said(guest, `PART${cpu}`), [`${md5(contents.subarray(cpu * 6 * MIB, (cpu + 1) * 6 * MIB))}  -`]);
  // The driver was unloaded and loaded again before: its sub-channels went and came.
  assert.deepEqual(said(guest, 'WITHOUT'), ['0']);
  const used = channels(machine);
  assert.deepEqual(
    used.map((c) => [c.state, c.targetVp]).sort(),
    [0, 1, 2, 3].map((vp) => ['open', vp]),
  );
  for (const c of used)
    assert.ok(c.packetsFromGuest > 20 && c.packetsToGuest === c.packetsFromGuest, `channel ${c.relid}: ${c.packetsFromGuest}`);
  const disk = (config.disks as DiskConfig[])[1];
  host('e2fsck', ['-f', '-n', saved('smp.img', afterwards(machine, disk))]);
  const end = machine.stateHash();
  machine.restore(snapshot);
  assert.equal(machine.stateHash(), underWay);
  assert.deepEqual(guest.finish(7_654_321), { kind: 'power-off' });
  assert.equal(machine.stateHash(), end);
  const other = new Recorded(config);
  other.machine.restore(snapshot);
  assert.deepEqual(other.finish(), { kind: 'power-off' });
  assert.equal(other.machine.stateHash(), end);
});
