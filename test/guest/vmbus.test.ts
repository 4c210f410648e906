/** VMBus as unmodified kernels use it: versions, monitor pages, high relids, devices that come and go, channels that move. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { debianInitramfs } from '../../scripts/debian-guest.mjs';
import type { MachineConfig } from '../../emulator/index.ts';
import { DEVICES } from '../../emulator/vmbus/devices/index.ts';
import { emptyDisk } from '../unit/vmbus/fake-disk.ts';
import { bound, debianConfig, Recorded, TROUBLE } from './debian.ts';

const trouble = (guest: Recorded): string[] => guest.console.split('\n').filter((l) => TROUBLE.test(l));

/** A guest with storvsc that runs `script` before it powers off. */
async function scripted(suite: string, script: string, overrides: Partial<MachineConfig> = {}): Promise<Recorded> {
  const data = `#!/bin/sh\n${script}\n`;
  const initrd = await debianInitramfs({
    suite,
    modules: ['hv_storvsc', 'sd_mod'],
    extra: [{ path: 'script', mode: 0o755, data }],
  });
  return new Recorded(await debianConfig(suite, { initrd, append: 'console=ttyAMA0 hyperstep.run=/script', ...overrides }));
}

// Every version is tried by `npm run test:guests`.
for (const [suite, newest, versions] of [
  ['own', '5.3', ['3.0', '4.1']],
  ['sid', '6.0', ['4.0', '5.2', '6.0']],
] as const)
  for (const version of versions)
    test(`${suite}: a host that speaks VMBus up to ${version}`, async () => {
      const guest = new Recorded(await debianConfig(suite, { platformOverrides: { vmbusVersion: version } }));
      assert.deepEqual(guest.finish(), { kind: 'power-off' }, guest.console.slice(-2000));
      const expected = Number(version) > Number(newest) ? newest : version;
      assert.match(guest.console, new RegExp(`Vmbus version:${expected}`));
      assert.deepEqual([bound(guest.console), trouble(guest)], [4, []]);
    });

const READ = 'dd if=/dev/sda of=/dev/null bs=4k count=64 iflag=direct && echo READ';
const MONITOR = 'cd /sys/bus/vmbus/devices/f8b3781a-*; echo LATENCY $(cat client_monitor_latency) $(cat client_monitor_conn_id)';

for (const suite of ['own', 'sid'])
  test(`${suite}: with monitor pages the disk's requests are bits in memory, without them hypercalls`, async () => {
    /** Signals to the controller, and how many of them were hypercalls. */
    const run = async (monitorPages: boolean) => {
      const guest = await scripted(suite, `${READ}\n${monitorPages ? MONITOR : ''}`, {
        platformOverrides: { monitorPages },
        disks: [emptyDisk()],
      });
      const asked = new Map<unknown, number>();
      guest.machine.subscribe((e) => {
        if (e.kind !== 'hypercall' || e.name !== 'HvCallSignalEvent') return;
        asked.set(e.input.ConnectionId, (asked.get(e.input.ConnectionId) ?? 0) + 1);
      });
      assert.deepEqual(guest.finish(), { kind: 'power-off' }, guest.console.slice(-2000));
      assert.match(guest.console, /^READ/m);
      assert.deepEqual(trouble(guest), []);
      const scsi = guest.machine.vmbus().channels.find((c) => c.device === 'scsi') ?? assert.fail('no controller');
      if (monitorPages) assert.match(guest.console, new RegExp(`LATENCY 1000 ${scsi.connectionId}`));
      return { signals: scsi.signalsFromGuest, hypercalls: asked.get(scsi.connectionId) ?? 0 };
    };
    const [by, without] = [await run(true), await run(false)];
    assert.equal(by.hypercalls, 0);
    assert.ok(by.signals >= 64, `${by.signals}`);
    assert.ok(without.hypercalls === without.signals && without.signals >= 64, JSON.stringify(without));
  });

test('the last relids there are: Linux opens them, takes their interrupts and signals them', async () => {
  const firstRelid = 2048 - Object.keys(DEVICES).length;
  const guest = await scripted('sid', `${READ}; sleep 5`, { disks: [emptyDisk()], platformOverrides: { firstRelid } });
  assert.deepEqual(guest.finish(), { kind: 'power-off' }, guest.console.slice(-2000));
  const open = guest.machine.vmbus().channels.filter((c) => c.state === 'open');
  assert.ok(
    open.every((c) => c.relid >= firstRelid),
    inspect(open),
  );
  assert.ok(open.length >= 5);
  // Only services that wait for a daemon, which is not there, have said nothing.
  const silent = open.filter((c) => c.packetsFromGuest === 0).map((c) => c.device);
  assert.deepEqual(
    silent.filter((device) => !['kvp', 'vss', 'fcopy'].includes(device)),
    [],
  );
  assert.match(guest.console, /^READ/m);
  assert.deepEqual(trouble(guest), []);
});

for (const suite of ['own', 'trixie', 'sid'])
  test(`${suite}: devices are taken away and given back at any moment, also while the guest looks for them`, async () => {
    const devices = ['keyboard', 'heartbeat', 'shutdown', 'timesync'];
    const config = await debianConfig(suite, {
      cpus: 2,
      append: 'console=ttyAMA0 hyperstep.wait=4 hyperstep.run=/bin/busybox,true',
    });
    const guest = new Recorded(config);
    const { machine } = guest;
    let taken = 0;
    let given = 0;
    let random = 12345;
    // Until the guest is done with looking and for some seconds after that; then everything is given back and it looks again.
    for (;;) {
      random = (random * 1103515245 + 12345) % 2 ** 31;
      const exit = machine.run({ instructions: 200_000 + (random % 3_000_000), nanoseconds: 20_000_000 });
      assert.equal(exit.kind, 'limit', guest.console.slice(-2000));
      if (guest.console.includes('RUN: status') || machine.instructions > 6e9) break;
      if (machine.vmbus().state !== 'connected') continue;
      const device = devices[(random >> 8) % devices.length];
      if (machine.rescindDevice(device)) taken++;
      else if (machine.offerDevice(device)) given++;
    }
    assert.ok(taken > 20 && given > 20, `${taken} taken, ${given} given`);
    assert.deepEqual(trouble(guest), []);
  });

test('channels are moved to other VPs while they work (MODIFYCHANNEL), with an answer from 5.3 on and without', async () => {
  for (const [suite, vmbusVersion] of [
    ['sid', '6.0'],
    ['own', '5.0'],
  ]) {
    const move = 'for c in /sys/bus/vmbus/devices/*/channels/*/cpu; do echo $1 > $c && echo ON $(cat $c); done';
    const script = `move() { ${move}; }\nfor n in 1 2 3 0 3; do move $n; ${READ}; sleep 1; done`;
    const guest = await scripted(suite, script, { cpus: 4, platformOverrides: { vmbusVersion }, disks: [emptyDisk()] });
    assert.deepEqual(guest.finish(), { kind: 'power-off' }, guest.console.slice(-2000));
    const open = guest.machine.vmbus().channels.filter((c) => c.state === 'open');
    assert.ok(open.length >= 5);
    assert.deepEqual([new Set(open.map((c) => c.targetVp)), trouble(guest)], [new Set([3]), []]);
    assert.equal([...guest.console.matchAll(/^ON 3/gm)].length, 2 * open.length);
    assert.equal([...guest.console.matchAll(/^READ/gm)].length, 5);
  }
});
