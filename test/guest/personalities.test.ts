import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { DEFAULTS, type MachineConfig, type TraceEvent } from '../../emulator/index.ts';
import { bound, debianConfig, Recorded, TROUBLE } from './debian.ts';

const elf = (name: string): Uint8Array => fs.readFileSync(new URL(`../guests/${name}/guest.elf`, import.meta.url));
const own = (name: string, overrides: Partial<MachineConfig>): MachineConfig => ({
  ...DEFAULTS,
  ...{ memory: 64, append: '', kernel: elf(name), kernelName: `${name}/guest.elf` },
  ...overrides,
});

/** What a host is told by, as Linux prints it, with the VMBus interrupt as /proc/interrupts has it. */
for (const [suite, platform, cpus, platformOverrides, lines] of [
  [
    'own',
    'azure-cobalt',
    1,
    {},
    [/Host Build 10\.0\.27000\.1000-1-0/, /Vmbus version:5\.3/, /cp15 timer.* running at 1000\.00MHz/, /GICv3 +18 Edge/],
  ],
  [
    'own',
    'wsl-woa',
    1,
    {},
    [/flags low 0x2e7f, high 0x3a8030, hints 0xe, misc 0x31e1/, /Vmbus version:5\.2/, /PSCIv1\.0/, /19\.20MHz/],
  ],
  [
    'sid',
    'openvmm',
    2,
    { vpIndex: '3,70', vmbusPpi: 24 },
    [/flags low 0x27f, high 0xa0020, hints 0xe, misc 0x3020/, /Vmbus version:6\.0/, /GICv3 +24 Edge/],
  ],
] as const)
  test(`${suite} on ${platform} with ${cpus} VPs: Linux finds the host that the row says and binds its devices`, async () => {
    const guest = new Recorded(
      await debianConfig(suite, { platform, platformOverrides, cpus, append: 'console=ttyAMA0 loglevel=7' }),
    );
    assert.deepEqual(guest.finish(), { kind: 'power-off' }, guest.console.slice(-2000));
    for (const line of lines) assert.match(guest.console, line);
    assert.match(guest.console, new RegExp(`^KERNEL: .* ${cpus} VP`, 'm'));
    assert.equal(bound(guest.console), 4);
    assert.doesNotMatch(guest.console, TROUBLE);
  });

for (const suite of ['own', 'sid'])
  test(`${suite} on none: Linux boots, and nothing of it has heard of Hyper-V`, async () => {
    const guest = new Recorded(await debianConfig(suite, { platform: 'none', append: 'console=ttyAMA0 loglevel=7' }));
    assert.deepEqual(guest.finish(), { kind: 'power-off' }, guest.console.slice(-2000));
    assert.doesNotMatch(guest.console, /Hyper-V|MsHyperV|Microsoft|hv_vmbus: Vmbus/);
    // The driver is asked for all the same, and says that it has no device.
    assert.match(guest.console, /hv_(utils|vmbus)\.ko'?: No such device/);
    assert.match(guest.console, /VMBUS: no devices/);
    assert.doesNotMatch(guest.console, TROUBLE);
    assert.equal(guest.hypercalls.size, 0);
    assert.equal(guest.machine.vmbus().state, 'disconnected');
  });

const STIMER0_MS = 10_000n;
/** Enabled, periodic, direct mode, on the PPI that Linux takes for the virtual timer's. */
const STIMER0_CONFIG = BigInt(1 | 2 | (20 << 4) | (1 << 12));

test('timer-lies: Linux boots by stimer0 alone, hangs when stimer0 is taken away, and the debugger sees why', async () => {
  const guest = new Recorded(await debianConfig('sid', { platform: 'timer-lies', append: 'console=ttyAMA0 loglevel=7' }));
  const { machine } = guest;
  const notes: string[] = [];
  machine.subscribe((e) => {
    if (e.kind === 'guest') notes.push(`${e.part}: ${e.message}`);
  });
  const until = (text: string): void => {
    while (!guest.console.includes(text)) {
      assert.ok(machine.instructions < 3_000_000_000, `no ${text}: ${guest.console.slice(-500)}`);
      assert.equal(machine.run({ instructions: 1_000_000 }).kind, 'limit');
    }
  };
  const stimer0 = (count: bigint, config: bigint): void => {
    assert.ok(machine.writeHypervRegister(0, 'HvRegisterStimer0Count', count));
    assert.ok(machine.writeHypervRegister(0, 'HvRegisterStimer0Config', config));
  };
  until('Hypervisor Build');
  // This Linux has no driver for stimer0 on arm64: the debugger programs it, and its PPI stands for the virtual timer's.
  stimer0(STIMER0_MS, STIMER0_CONFIG);
  until('MODULE: hv_utils loaded');
  stimer0(0n, 0n);
  const said = guest.console;
  machine.run({ nanoseconds: 500_000_000 });
  assert.equal(guest.console, said);
  const [timer] = machine.platform().timers;
  assert.deepEqual(timer, {
    ...{ vp: 0, timer: 'virtual', enabled: true, masked: false, expired: true },
    ...{ intid: 20, interrupt: 'never delivered by this host' },
  });
  assert.deepEqual((machine.inspect().platform as { timers: unknown[] }).timers[0], timer);
  assert.deepEqual(notes, ['generic timer: VP 0: the virtual timer has expired, and this host never delivers INTID 20']);
  stimer0(STIMER0_MS, STIMER0_CONFIG);
  assert.deepEqual(guest.finish(), { kind: 'power-off' });
  assert.match(guest.console, /INIT-DONE/);
  assert.equal(bound(guest.console), 4);
  assert.doesNotMatch(guest.console, TROUBLE);
});

for (const [platform, smccc] of [
  ['2018', 'is not known'],
  ['timer-lies', 'is a hypercall'],
] as const) {
  test(`${platform}: an old guest lives by HVC #1 and stimer0 in direct mode; CNTV expires unheard, the event stream works`, () => {
    const guest = new Recorded(own('old-host', { platform }));
    const conduits = new Set<string>();
    guest.machine.subscribe((e: TraceEvent) => {
      if (e.kind === 'hypercall') conduits.add(e.conduit);
    });
    assert.deepEqual(guest.finish(1_000_000, 50_000_000), { kind: 'power-off' });
    assert.match(guest.console, new RegExp(`^HVC #0 ${smccc}\r$`, 'm'));
    assert.match(guest.console, /CHECKS 6 passed, 0 failed\r\nGUEST-DONE\r\n$/);
    assert.match(guest.console, platform === '2018' ? /VMBus 16, timer 20/ : /VMBus 18, timer 20/);
    assert.deepEqual([...conduits].sort(), platform === '2018' ? ['raw'] : ['raw', 'smccc']);
  });

  test(`${platform}: unbinding the stimer0 clock event device leaves the guest asleep for ever, and the debugger sees why`, () => {
    const guest = new Recorded(own('old-host', { platform, append: 'unbind' }));
    const { machine } = guest;
    assert.deepEqual(guest.finish(1_000_000, 50_000_000), { kind: 'halted' });
    assert.match(guest.console, /UNBIND stimer0; now the virtual timer, PPI 20\r\n$/);
    const timer = machine.platform().timers.find((t) => t.timer === 'virtual');
    assert.deepEqual(
      [machine.vpState(0), machine.readHypervRegister(0, 'HvRegisterStimer0Config'), timer?.expired, timer?.interrupt],
      ['waiting', 0n, true, 'never delivered by this host'],
    );
    // The same programming of a timer that fires: the guest wakes.
    const honest = new Recorded(own('old-host', { platform, append: 'unbind', platformOverrides: { timer: 'fires' } }));
    assert.deepEqual(honest.finish(1_000_000, 50_000_000), { kind: 'power-off' });
    assert.match(honest.console, /UNBIND survived/);
  });
}

test('the embedded guest on 2018: VMBus 5.0 by PPI 16, VP indices with holes', () => {
  // It needs its virtual timer and, for half its calls, the newer conduit and UID.
  const platformOverrides = { timer: 'fires', conduits: 'smccc,raw', discovery: 'acpi,smccc' };
  const run = (more: MachineConfig['platformOverrides'] = {}): string => {
    const guest = new Recorded(
      own('embedded', { platform: '2018', cpus: 2, platformOverrides: { ...platformOverrides, ...more } }),
    );
    assert.deepEqual(guest.finish(1_000_000, 50_000_000), { kind: 'power-off' });
    assert.match(guest.console, /PPIs: VMBus 16, timer 20/);
    assert.match(guest.console, /VMBUS version 5\.0, connection 4/);
    assert.match(guest.console, /HEARTBEAT answered: ok/);
    return guest.console;
  };
  // It believes that VP n has index n, as the first kernels of other systems did: 2018 proves it wrong, and nothing else.
  assert.deepEqual(run().match(/.*FAILED/g), ['SMP every VP started and knows its index: FAILED']);
  assert.doesNotMatch(run({ vpIndex: [0, 1] }), /FAILED/);
});
