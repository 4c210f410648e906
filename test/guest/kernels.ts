/** Debian's arm64 kernels, and what each of them has to do as a Hyper-V guest. */
import fs from 'node:fs';
import path from 'node:path';
import { debianGuest, debianInitramfs, debianProgram } from '../../scripts/debian-guest.mjs';
import { DEFAULTS, type DiskConfig, type MachineConfig } from '../../emulator/index.ts';
import { createMachine } from '../../emulator/load.ts';
import { unwrapKernel } from '../../debug-adapter/kernel-file.ts';
import { TROUBLE } from './debian.ts';

export interface Kernel {
  /** A Debian suite. */
  suite: string;
  flavour: string;
  /** What it calls itself. */
  version: RegExp;
}

/** All there are: 6.1 has no flavour with 16K pages. No package has 64K pages: that one is built from 6.12's source. */
export const KERNELS: readonly Kernel[] = (
  [
    ['bookworm', /Linux version 6\.1\./, []],
    ['trixie', /Linux version 6\.12\./, ['arm64-16k', 'arm64-64k']],
    ['sid', /Linux version 7\.\d/, ['arm64-16k']],
    ['experimental', /Linux version 7\.\d/, ['arm64-16k']],
  ] as const
).flatMap(([suite, version, more]) =>
  ['cloud-arm64', 'arm64', 'rt-arm64', ...more].map((flavour) => ({ suite, flavour, version })),
);

/** The Hyper-V drivers besides those of every guest, and what the tests need. What a kernel has built in, or lacks, is no module. */
const MODULES = [
  'hv_balloon',
  'hv_storvsc',
  'hv_netvsc',
  'hid-hyperv',
  'hyperv_drm',
  'hyperv_fb',
  'pci-hyperv',
  'nvme',
  'hv_sock',
  'sd_mod',
  'crc32c_generic',
  'ext4',
];

/** Interface type of a device, and the modules that are its driver in one kernel or another. */
const DRIVERS_OF: Record<string, readonly string[]> = {
  '57164f39-9115-4e78-ab55-382f3bd5422d': ['hv_utils'],
  '0e0b6031-5213-4934-818b-38d90ced39db': ['hv_utils'],
  '9527e630-d0ae-497b-adce-e80ab0175caf': ['hv_utils'],
  'a9a0f4e7-5a45-4d96-b827-8a841e8c03e6': ['hv_utils'],
  '35fa2e29-ea23-4236-96ae-3a6ebacba440': ['hv_utils'],
  '525074dc-8985-46e2-8057-a307dc18a502': ['hv_balloon'],
  'f912ad6d-2b17-48ea-bd65-f927a61c7684': ['hyperv_keyboard'],
  'cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a': ['hid_hyperv'],
  'ba6163d9-04a1-4d29-b605-72e2ffb1dc7f': ['hv_storvsc'],
  'f8615163-df3e-46c5-913f-f2d2f965ed0e': ['hv_netvsc'],
  'da0a7802-e377-4aac-8e77-0558eb1073f8': ['hyperv_drm', 'hyperv_fb'],
  '44c4f61d-4444-4400-9d52-802e27ede19f': ['pci_hyperv'],
};

/** What the guest does once its drivers are there; each `TEST` line is looked for. */
const SCRIPT = `#!/bin/sh
# Warnings and worse only: other lines of the kernel may come in the middle of ours.
dmesg -n 5
echo "ORDER: $(cat /lib/modules/order | tr '\\n' ' ')"
check() {
  name=$1; shift
  if "$@" >/tmp/out 2>&1; then echo "TEST $name: ok"; else echo "TEST $name: failed"; cat /tmp/out; fi
}
disk() {
  mke2fs -F /dev/sda && mkdir -p /mnt && mount -t ext4 /dev/sda /mnt || return 1
  i=0; while [ $i -lt 1000 ]; do echo "line $i of $RANDOM"; i=$((i + 1)); done >/tmp/lines
  n=0; while [ $n -lt 32 ]; do cat /tmp/lines; n=$((n + 1)); done >/mnt/file
  was=$(md5sum </mnt/file); sync; umount /mnt
  echo 3 >/proc/sys/vm/drop_caches
  mount -t ext4 /dev/sda /mnt && is=$(md5sum </mnt/file); umount /mnt
  [ -n "$is" ] && [ "$was" = "$is" ]
}
clock() { [ "$(date +%Y)" = 2026 ]; }
switch() { for n in $(seq 1 $last); do echo $1 >/sys/devices/system/cpu/cpu$n/online || return 1; done; }
cpus() {
  # Linux keeps a CPU on that has a channel, and can move channels from VMBus 4.1 on.
  last=$(($(nproc) - 1))
  [ ! -e /lib/modules/old-vmbus ] || return 0
  move_to 0 && switch 0 && [ "$(nproc)" = 1 ] && switch 1 && [ "$(nproc)" = $((last + 1)) ]
}
move_to() {
  for c in /sys/bus/vmbus/devices/*/channels/*/cpu; do
    # The channel of a device without a driver is not open, and cannot be moved.
    [ -e "\${c%/channels/*}/driver" ] || continue
    echo $1 >"$c" && [ "$(cat "$c")" = $1 ] || { echo "$c"; return 1; }
  done
}
move() { [ -e /lib/modules/old-vmbus ] || move_to $(($(nproc) - 1)); }
load() {
  for n in 1 2 3 4 5 6; do (seq 1 500 | sort -rn | md5sum >/tmp/sum$n) & done; wait
  [ "$(cat /tmp/sum[1-6] | uniq | wc -l)" = 1 ]
}

network() {
  ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && ping -c 3 10.0.2.2 && ping -c 2 -s 5000 10.0.2.2
}

# A disk behind a virtual PCI bus, its messages as SPIs.
nvme() {
  [ -d /sys/bus/pci/drivers/nvme ] && [ -d /sys/bus/vmbus/drivers/hv_pci ] || { echo none; return; }
  for i in $(seq 100); do [ -b /dev/nvme0n1 ] && break; sleep 0.1; done
  dd if=/dev/urandom of=/tmp/data bs=64k count=48
  dd if=/tmp/data of=/dev/nvme0n1 bs=64k seek=16 conv=fsync && echo 3 >/proc/sys/vm/drop_caches
  dd if=/dev/nvme0n1 bs=64k skip=16 count=48 | cmp - /tmp/data && grep nvme /proc/interrupts
}
# The host's echo service.
socket() {
  [ -d /sys/bus/vmbus/drivers/hv_sock ] || { echo none; return; }
  was=$(md5sum </tmp/lines)
  is=$(socat -t 20 - VSOCK-CONNECT:2:7 </tmp/lines | md5sum)
  [ "$was" = "$is" ]
}
# A screen of light grey: the host looks at it.
screen() {
  [ -c /dev/fb0 ] || { echo none; return; }
  printf '\\033[47m\\033[2J' >/dev/tty0 && sleep 1
}

for t in disk clock network nvme screen cpus move load socket; do check $t $t; done
check network-again ping -c 3 10.0.2.2
check disk-again disk
check heartbeats sleep 5
`;
const TESTS = [
  'disk',
  'clock',
  'network',
  'nvme',
  'socket',
  'screen',
  'cpus',
  'move',
  'load',
  'network-again',
  'disk-again',
  'heartbeats',
];

/** 24 MiB that the guest may write to. */
const scratch = (name: string): DiskConfig => {
  const size = 24 << 20;
  return {
    name,
    disk: { format: 'memory', size, sectorSize: 512, physicalSectorSize: 4096, read: (_at, n) => new Uint8Array(n) },
  };
};

export interface Outcome {
  instructions: number;
  seconds: number;
  /** Empty: all is well. */
  problems: string[];
  /** A bug of the kernel's own that showed itself, and is no problem of ours. */
  known?: string;
  console: string;
}

/** Instructions in which a guest has done all this, twice over. */
const LIMIT = 12_000_000_000;

/** Boots a kernel with all devices, loads all drivers, runs the tests, powers off. */
export async function exercise({ suite, flavour, version }: Kernel, overrides: Partial<MachineConfig> = {}): Promise<Outcome> {
  const guest = await debianGuest({ suite, flavour });
  const kernelName = path.basename(guest.kernel);
  // Linux moves channels from 4.1 on.
  const old = ['3.0', '4.0'].includes(String(overrides.platformOverrides?.vmbusVersion));
  const machine = createMachine({
    ...DEFAULTS,
    memory: 768,
    kernel: await unwrapKernel(fs.readFileSync(guest.kernel), kernelName),
    kernelName,
    initrd: await debianInitramfs({
      suite,
      flavour,
      modules: MODULES,
      extra: [
        { path: 'device-tests', mode: 0o755, data: SCRIPT },
        ...debianProgram('socat', 'socat', 'bin/socat'),
        ...(old ? [{ path: 'lib/modules/old-vmbus', data: '' }] : []),
      ],
    }),
    initrdName: 'initramfs',
    disks: [scratch('scratch'), { ...scratch('express'), bus: 'nvme' }],
    network: { mode: 'internal' },
    sockets: { mode: 'internal' },
    append: 'console=ttyAMA0 hyperstep.run=/device-tests',
    ...overrides,
  });
  const bytes: Uint8Array[] = [];
  machine.onConsole = (b) => {
    bytes.push(b);
  };
  const said = (): string => Buffer.concat(bytes).toString('latin1').replaceAll('\r', '');
  const started = performance.now();
  let exit = machine.run({ instructions: 10_000_000 });
  // When the guest is off there is no picture.
  let grey: boolean | undefined;
  while (exit.kind === 'limit' && machine.instructions < LIMIT) {
    exit = machine.run({ instructions: 10_000_000 });
    if (grey === undefined && said().includes('TEST screen: ')) {
      const { bytes, pitch } = machine.screen() ?? { bytes: new Uint8Array(), pitch: 0 };
      grey = [0, 1, 2].every((i) => bytes[300 * pitch + i] === 0xaa);
    }
  }
  const seconds = (performance.now() - started) / 1000;
  const console = said();
  const lines = console.split('\n');

  // vmbus_isr takes spin locks, which sleep on PREEMPT_RT: mended by Linux's commit f8e6343b7a89 (February 2026), which 6.1 lacks.
  // With several VPs the lock may be taken, and what follows a sleep in an interrupt handler is a number of splats: what was before counts.
  const slept =
    suite === 'bookworm' && flavour === 'rt-arm64' && /^.*\brt_spin_lock\+.*\n(.*\n)?.*\bvmbus_isr\+.*\[hv_vmbus\]/m.test(console)
      ? lines.findIndex((l) => l.includes('BUG: scheduling while atomic'))
      : -1;
  const known = slept < 0 ? undefined : 'vmbus_isr sleeps on PREEMPT_RT (f8e6343b7a89)';
  const problems = (slept < 0 ? lines : lines.slice(0, slept)).filter((l) => TROUBLE.test(l));
  const want = (ok: boolean, what: string): void => {
    if (!ok) problems.push(what);
  };
  want(exit.kind === 'power-off', `ended with ${exit.kind}`);
  want(version.test(console), `not ${version.source}`);
  const order = /^ORDER: (.*)$/m.exec(console)?.[1].trim().split(' ') ?? [];
  want(order.length > 0, 'no module');
  // Sockets are there from VMBus 4.0 on: the module refuses to load without.
  const none = overrides.platformOverrides?.vmbusVersion === '3.0' ? 'hv_sock' : undefined;
  for (const name of order) want(name === none || console.includes(`MODULE: ${name} loaded`), `module ${name} was not loaded`);
  const devices = lines.flatMap((l) => {
    const m = /^VMBUS: \S+ class \{(\S+)\} state \d driver (\S+)/.exec(l);
    return m ? [{ type: m[1], driver: m[2] }] : [];
  });
  const offered = machine.vmbus().channels.filter((c) => !('subChannel' in c.details) && c.device !== 'socket').length;
  want(devices.length >= 5 && devices.length === offered, `${devices.length} devices of ${offered}`);
  // A driver that is no module of this kernel is built in, or this flavour has none.
  for (const { type, driver } of devices)
    want(driver !== 'none' || !DRIVERS_OF[type]?.some((d) => order.includes(d)), `device ${type} has no driver`);
  for (const test of TESTS) want(console.includes(`TEST ${test}: ok`), `test ${test} failed`);
  if (/MODULE: hyperv_(drm|fb) loaded/.test(console)) want(grey === true, 'the picture is not what the console shows');
  return { instructions: machine.instructions, seconds, problems, console, ...(known === undefined ? {} : { known }) };
}
