/** Integration services and dynamic memory, used by Debian's kernels and its hyperv-daemons. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { type Exit, type Machine, type MachineConfig, openImage } from '../../emulator/index.ts';
import { file } from '../unit/host/fixtures.ts';
import { APPEND, initramfsWithDaemons } from './daemons.ts';
import { debianConfig, Recorded } from './debian.ts';

const MIB = 2 ** 20;
/** Words that no healthy guest prints. */
const TROUBLE = /\bBUG\b|WARNING:|Call trace:|Kernel panic|Oops|soft lockup|rcu: INFO/;

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-integration-'));
after(() => fs.rmSync(scratch, { recursive: true, force: true }));

const md5 = (bytes: Uint8Array): string => crypto.createHash('md5').update(bytes).digest('hex');
const noise = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => Math.imul(i + 1, 2654435761) >>> 24);

/** An empty ext4 file system, made on this machine. */
function ext4(size: number): Uint8Array {
  const to = path.join(scratch, 'ext4.img');
  fs.writeFileSync(to, new Uint8Array(size));
  const r = spawnSync('mkfs.ext4', ['-q', '-F', to], {
    encoding: 'utf8',
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  });
  assert.equal(r.status, 0, `mkfs.ext4: ${r.stderr}${r.error ?? ''}`);
  return new Uint8Array(fs.readFileSync(to));
}

async function guestWith(
  script: string,
  { suite = 'own', ...rest }: Partial<MachineConfig> & { suite?: string } = {},
): Promise<MachineConfig> {
  return {
    ...(await debianConfig(suite, rest)),
    append: APPEND,
    initrd: await initramfsWithDaemons(script, suite),
  };
}

/** A guest that stops exactly where it has printed a text. */
class Stepped extends Recorded {
  readonly reports: string[] = [];

  constructor(config: MachineConfig) {
    super(config);
    this.machine.subscribe((e) => {
      if (e.kind === 'service') this.reports.push(`${e.service}${e.ok ? '' : ' failed'}: ${e.message}`);
    });
  }

  /** Runs until the console shows `text` from now on. */
  until(text: string): void {
    const want = Buffer.from(text);
    let seen = 0;
    const { machine } = this;
    const limit = machine.now + 100e9;
    for (;;) {
      const exit = machine.run({
        instructions: 50_000_000,
        nanoseconds: 100_000_000,
        console: (byte) => {
          seen = byte === want[seen] ? seen + 1 : byte === want[0] ? 1 : 0;
          return seen === want.length;
        },
      });
      if (exit.kind === 'console') return;
      assert.equal(exit.kind, 'limit', `no "${text}":\n${this.console.slice(-3000)}`);
      assert.ok(machine.now < limit, `no "${text}":\n${this.console.slice(-3000)}`);
    }
  }

  /** Lets the host's requests be answered. */
  settle(ns = 300_000_000): void {
    const end = this.machine.now + ns;
    while (this.machine.now < end)
      assert.equal(this.machine.run({ instructions: 10_000_000, nanoseconds: end - this.machine.now }).kind, 'limit');
  }

  go(): void {
    this.machine.consoleInput(Uint8Array.of(13));
  }

  end(kind: Exit['kind'] = 'power-off'): void {
    assert.deepEqual(this.finish(), { kind }, this.console.slice(-3000));
    assert.doesNotMatch(this.console, TROUBLE);
  }

  said(key: string): string[] {
    return [...this.console.matchAll(new RegExp(`^${key}: (.*?)\\r?$`, 'gm'))].map((m) => Buffer.from(m[1], 'latin1').toString());
  }
}

const detailsOf = (machine: Machine, device: string): Record<string, unknown> => {
  const c = machine.vmbus().channels.find((c) => c.device === device);
  assert.ok(c, `${device} is not offered`);
  return c.details;
};

test("data exchange with Debian's daemon: what each side sets the other reads, and adapters are configured", async () => {
  const config = await guestWith(`
ip link set dummy0 address 00:15:5d:01:02:03 || ip link add dummy0 type dummy && ip link set dummy0 address 00:15:5d:01:02:03
ip addr add 10.11.12.13/16 dev dummy0; ip link set dummy0 up; ip route add default via 10.11.0.1
{ printf mine | dd bs=512 conv=sync; printf 'set in the guest' | dd bs=2048 conv=sync; } 2>/dev/null >/var/lib/hyperv/.kvp_pool_1
echo WAIT-ITEMS; read -r go
for pool in 0 3; do
  size=$(wc -c </var/lib/hyperv/.kvp_pool_$pool); at=0
  while [ $((at * 2560)) -lt $size ]; do
    key=$(dd if=/var/lib/hyperv/.kvp_pool_$pool bs=512 skip=$((at * 5)) count=1 2>/dev/null | tr '\\0' '\\n' | head -1)
    value=$(dd if=/var/lib/hyperv/.kvp_pool_$pool bs=512 skip=$((at * 5 + 1)) count=4 2>/dev/null | tr '\\0' '\\n' | head -1)
    echo "POOL$pool: $key=$value"; at=$((at + 1))
  done
done
mount -t tmpfs none /sys/class/net; mkdir -p /sys/class/net/eth0/device
echo '{11111111-2222-3333-4444-555555555555}' >/sys/class/net/eth0/device/device_id; echo 00:15:5d:0a:0b:0c >/sys/class/net/eth0/address
echo WAIT-IP; read -r go; grep KVP /tmp/log`);
  const guest = new Stepped(config);
  const { machine } = guest;
  const { kvp } = machine.services;
  // Before there is a guest that could take it.
  kvp.set('external', 'early', 'kept for the guest');
  guest.until('WAIT-ITEMS');
  for (const [key, value] of [
    ['greeting', 'grüße'],
    ['number', 77],
    ['large', 2n ** 40n],
    ['gone', 'soon'],
  ] as const)
    assert.equal(kvp.set('external', key, value), true);
  kvp.delete('external', 'gone');
  kvp.delete('external', 'never');
  kvp.refresh();
  kvp.get('guest', 'mine');
  kvp.getIp('00:15:5D:01:02:03');
  kvp.getIp('00:15:5D:FF:FF:FF');
  guest.settle();
  guest.go();
  guest.until('WAIT-IP');
  const settings = {
    dhcp: false,
    addresses: '10.1.2.3;fd00::2',
    subnets: '255.255.0.0;64',
    gateways: '10.1.0.1',
    dns: '10.1.0.2',
  };
  kvp.setIp({ adapter: '{11111111-2222-3333-4444-555555555555}', ...settings });
  kvp.setIp({ adapter: '{99999999-2222-3333-4444-555555555555}', ...settings });
  guest.settle();
  const details = detailsOf(machine, 'kvp');
  guest.go();
  guest.end();
  assert.deepEqual(guest.said('POOL0'), ['early=kept for the guest', 'greeting=grüße', 'number=77', `large=${2 ** 40}`]);
  assert.deepEqual(guest.said('POOL3'), ['HostName=hyperstep', 'VirtualMachineName=hyperstep']);
  const { pools, adapters } = details as {
    pools: Record<string, Record<string, string>>;
    adapters: Record<string, Record<string, unknown>>;
  };
  const kernel = /KERNEL: (\S+)/.exec(guest.console)?.[1];
  const { FullyQualifiedDomainName: _, ...auto } = pools.auto;
  assert.deepEqual(auto, {
    IntegrationServicesVersion: '3.1',
    NetworkAddressIPv4: '10.11.12.13',
    NetworkAddressIPv6: auto.NetworkAddressIPv6,
    OSBuildNumber: kernel,
    OSName: 'Test Linux',
    OSMajorVersion: '42.1',
    OSMinorVersion: '',
    OSVersion: kernel?.split('-')[0],
    ProcessorArchitecture: 'aarch64',
  });
  assert.match(auto.NetworkAddressIPv6, /^fe80::215:5dff:fe01:203/);
  assert.deepEqual(pools.guest, { mine: 'set in the guest' });
  const { addresses, subnets, gateways } = adapters['00:15:5D:01:02:03'];
  assert.match(`${addresses} ${subnets} ${gateways}`, /^10\.11\.12\.13;fe80::\S+ 255\.255\.0\.0;\S+ 10\.11\.0\.1/);
  const ifcfg = guest.said('IFCFG');
  for (const line of [
    'DEVICE=eth0',
    'IPADDR0=10.1.2.3',
    'NETMASK0=255.255.0.0',
    'GATEWAY=10.1.0.1',
    'DNS1=10.1.0.2',
    'IPV6ADDR=fd00:0000:0000:0000:0000:0000:0000:0002',
    'IPV6NETMASK=64',
  ])
    assert.ok(ifcfg.includes(line), `${line} is not in\n${ifcfg.join('\n')}`);
  assert.deepEqual(
    guest.reports.filter((r) => r.startsWith('kvp failed')),
    [
      'kvp failed: delete external never: no such item (0x80070103)',
      'kvp failed: get IP of 00:15:5D:FF:FF:FF: the guest failed (0x80004005)',
      'kvp failed: set IP of {99999999-2222-3333-4444-555555555555}: no such adapter (0x80041002)',
    ],
  );
});

test("backup with Debian's daemon: a mounted file system is frozen, who writes waits, and goes on when it is thawed", async () => {
  const config = await guestWith(
    `
mkdir /m; until [ -b /dev/sda ]; do sleep 0.05; done; mount -t ext4 /dev/sda /m; echo before >/m/before
echo WAIT-FREEZE; read -r go
(echo during >/m/during; echo WRITTEN) & sleep 2; echo WAIT-THAW; read -r go; wait; ls /m; umount /m; grep VSS /tmp/log`,
    { disks: [{ name: 'data', disk: openImage(file(ext4(16 * MIB), 'ext4.img')) }] },
  );
  const guest = new Stepped(config);
  const { vss } = guest.machine.services;
  guest.until('WAIT-FREEZE');
  assert.equal(vss.freeze(), true);
  guest.settle();
  assert.equal(detailsOf(guest.machine, 'vss').fileSystems, 'frozen');
  guest.go();
  guest.until('WAIT-THAW');
  assert.doesNotMatch(guest.console, /^WRITTEN/m);
  assert.equal(vss.thaw(), true);
  guest.settle();
  assert.equal(detailsOf(guest.machine, 'vss').fileSystems, 'thawed');
  guest.go();
  guest.end();
  assert.match(guest.console, /^WRITTEN/m);
  assert.match(guest.console, /VSS: op=CHECK HOT BACKUP[\s\S]*VSS: op=FREEZE: succeeded[\s\S]*VSS: op=THAW: succeeded/);
  assert.deepEqual(guest.reports, [
    'vss: hot backup: done',
    'vss: freeze: done',
    'vss: thaw: done',
    'vss: backup complete: done',
  ]);
});

// Linux from 6.10 on leaves the channel to a daemon by uio_hv_generic, which Debian's arm64 kernels do not have.
test("file copy with Debian's daemon: files arrive as they are; a snapshot in the middle ends alike", async () => {
  const data = noise(300_001);
  const config = await guestWith(`
mkdir /tmp/there; echo old >/tmp/there/file; echo WAIT-COPY
until [ -e /tmp/last ] && [ "$(wc -c </tmp/last)" = 3 ]; do sleep 0.05; done
echo "NEW: $(md5sum </tmp/new/folder/data)"; echo "OLD: $(cat /tmp/there/file)"; echo "EMPTY: $(wc -c </tmp/there/empty)"`);
  const guest = new Stepped(config);
  const { machine } = guest;
  const { fcopy } = machine.services;
  guest.until('WAIT-COPY');
  const bytes = new TextEncoder().encode('new');
  fcopy.copy({ to: '/tmp/new/folder/data', bytes: data, createPath: true });
  fcopy.copy({ to: '/tmp/there/file', bytes });
  fcopy.copy({ to: '/tmp/nowhere/file', bytes });
  fcopy.copy({ to: '/tmp/there/empty', bytes: new Uint8Array(0) });
  fcopy.copy({ to: '/tmp/last', bytes });
  const done = (): number => Number(detailsOf(machine, 'fcopy').done ?? 0);
  while (done() < 100_000) assert.equal(machine.run({ instructions: 10_007 }).kind, 'limit');
  assert.ok(done() < data.length);
  const middle = machine.snapshot();
  const underWay = machine.stateHash();
  guest.end();
  const hash = machine.stateHash();
  assert.deepEqual([guest.said('NEW'), guest.said('OLD'), guest.said('EMPTY')], [[`${md5(data)}  -`], ['old'], ['0']]);
  assert.deepEqual(guest.reports, [
    `fcopy: /tmp/new/folder/data: ${data.length} bytes copied`,
    'fcopy failed: /tmp/there/file: the file exists (0x80070050)',
    'fcopy failed: /tmp/nowhere/file: the guest failed (0x80004005)',
    'fcopy: /tmp/there/empty: 0 bytes copied',
    'fcopy: /tmp/last: 3 bytes copied',
  ]);
  machine.restore(middle);
  assert.equal(machine.stateHash(), underWay);
  assert.deepEqual(guest.finish(7_654_321), { kind: 'power-off' });
  assert.equal(machine.stateHash(), hash);
  // And in a machine that has never seen the file.
  const other = new Recorded(config);
  other.machine.restore(middle);
  assert.deepEqual(other.finish(), { kind: 'power-off' });
  assert.equal(other.machine.stateHash(), hash);
});

const SHUTDOWN = `
date -s '2001-02-03 04:05' >/dev/null; echo WAIT-SYNC; read -r go; echo "DATE: $(date +%Y-%m-%dT%H:%M)"
cat /sys/class/ptp/ptp*/clock_name | sed 's/^/PTP: /'; echo WAIT-HIBERNATE; read -r go; echo WAIT-RESTART; sleep 100`;

for (const suite of ['own', 'sid'])
  test(`the guest's clock, heart, hibernation and restart (${suite})`, async () => {
    const guest = new Stepped(await guestWith(SHUTDOWN, { suite }));
    const { machine } = guest;
    const { shutdown, timesync } = machine.services;
    guest.until('WAIT-SYNC');
    guest.settle(6e9);
    assert.equal(timesync.sync(), true);
    guest.settle();
    guest.go();
    guest.until('WAIT-HIBERNATE');
    // Our firmware has no S4.
    assert.equal(shutdown.request('hibernate'), true);
    guest.settle();
    const beat = detailsOf(machine, 'heartbeat');
    assert.ok(
      beat.alive && Number(beat.sequence) >= 3,
      JSON.stringify(beat, (_, v) => (typeof v === 'bigint' ? Number(v) : v)),
    );
    const { samples, answered } = detailsOf(machine, 'timesync');
    assert.equal(samples, answered);
    guest.go();
    guest.until('WAIT-RESTART');
    assert.equal(shutdown.request('restart'), true);
    guest.end('reset');
    assert.deepEqual(guest.said('DATE'), ['2026-01-01T00:00']);
    assert.deepEqual(guest.said('PTP'), ['hyperv']);
    assert.match(guest.console, /REBOOT-CALLED/);
    assert.deepEqual(
      guest.reports.filter((r) => r.startsWith('shutdown')),
      ['shutdown failed: hibernate: the guest failed (0x80004005)', 'shutdown: restart: the guest agrees'],
    );
  });

for (const suite of ['own', 'sid'])
  test(`dynamic memory: what the guest has moves as the host says, and free pages are told (${suite})`, async () => {
    const guest = new Stepped(
      await guestWith(
        `
mkdir -p /sys/kernel/debug; mount -t debugfs debugfs /sys/kernel/debug
say() { echo "$1: $(awk '/MemTotal|MemFree/{print $2}' /proc/meminfo | tr '\\n' ' ')$(awk '/pages_ballooned/{print $3}' /sys/kernel/debug/hv-balloon 2>/dev/null)"; }
say FULL; echo WAIT-UP; read -r go; say SMALL; echo WAIT-MORE; read -r go; say LESS; echo WAIT-DOWN; read -r go; say AGAIN
dd if=/dev/zero of=/tmp/junk bs=1M count=64 2>/dev/null; rm /tmp/junk; echo WAIT-REPORT; sleep 5; echo WAIT-STATUS; sleep 45; say END`,
        { suite, memory: 512, maxMemory: 1024 },
      ),
    );
    const { machine } = guest;
    const { balloon } = machine.services;
    const to = (mib: number): Record<string, unknown> => {
      assert.equal(balloon.setTarget(mib), true);
      guest.settle(1e9);
      return detailsOf(machine, 'balloon');
    };
    guest.until('WAIT-UP');
    assert.deepEqual([to(256).memory, detailsOf(machine, 'balloon').ballooned], ['256 MiB', '256 MiB']);
    guest.go();
    guest.until('WAIT-MORE');
    // Linux keeps what it needs: it gives less than it is asked for.
    const least = Number(/^([\d.]+) MiB$/.exec(String(to(32).memory))?.[1]);
    assert.ok(least > 32 && least < 200, `${least} MiB`);
    guest.go();
    guest.until('WAIT-DOWN');
    assert.equal(to(512).memory, '512 MiB');
    // Linux adds no memory on arm64.
    assert.equal(balloon.hotAdd(128), false);
    guest.go();
    guest.until('WAIT-REPORT');
    const hints = guest.hypercalls.get('HvExtCallMemoryHeatHint') ?? 0;
    guest.until('WAIT-STATUS');
    assert.ok((guest.hypercalls.get('HvExtCallMemoryHeatHint') ?? 0) > hints, 'pages that were freed are not told');
    guest.until('END: ');
    const { reports, available, committed, canHotAdd } = detailsOf(machine, 'balloon');
    assert.ok(Number(reports) > 0 && /MiB$/.test(`${available}${committed}`), `${reports} ${available} ${committed}`);
    assert.equal(canHotAdd, false);
    guest.end();
    assert.match(guest.console, /Memory hot add disabled on ARM64|Max\. dynamic memory size: 1024 MB/);
    assert.match(guest.console, /Max\. dynamic memory size: 1024 MB/);
    const numbers = (key: string): number[] => guest.said(key)[0].trim().split(' ').map(Number);
    const [full, small, less, again] = ['FULL', 'SMALL', 'LESS', 'AGAIN'].map(numbers);
    const kib = (mib: number): number => mib * 1024;
    assert.deepEqual([full[0] - small[0], full[0] - less[0], full[0] - again[0]], [kib(256), kib(512 - least), 0]);
    assert.ok(full[1] - small[1] > kib(250) && again[1] - small[1] > kib(250), `${full} ${small} ${again}`);
    // Newer kernels tell their side of it.
    if (suite === 'sid') assert.deepEqual([full[2], small[2], less[2], again[2]], [0, kib(256) / 4, kib(512 - least) / 4, 0]);
  });
