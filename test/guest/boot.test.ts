import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { debianConfig, Recorded } from './debian.ts';

/** Words that no healthy boot prints. */
const TROUBLE = /\bBUG\b|WARNING:|Call trace:|Kernel panic|Oops|self-tests? .*fail|soft lockup|rcu: INFO/i;

const channelsOf = (guest: Recorded) => Object.fromEntries(guest.machine.vmbus().channels.map((c) => [c.device, c]));

let guest: Recorded;
/** Events of the boot by kind. */
const events = new Map<string, number>();
before(async () => {
  guest = new Recorded(await debianConfig('own', { append: 'console=ttyAMA0 hyperstep.wait=5' }));
  guest.machine.subscribe((e) => events.set(e.kind, (events.get(e.kind) ?? 0) + 1));
  assert.deepEqual(guest.finish(), { kind: 'power-off' });
});

test("Debian's own cloud kernel boots as a Hyper-V guest and powers itself off", () => {
  for (const line of [
    /efi: EFI v2\.70 by Microsoft/,
    /ACPI: FACP .* VRTUAL MICROSFT/,
    /Hyper-V: privilege flags low 0x[0-9a-f]+, high 0x[0-9a-f]+, hints 0x[0-9a-f]+, misc 0x[0-9a-f]+/,
    /Hyper-V: (Host|Hypervisor) Build 10\.0\.\d+/,
    /hv_vmbus: Vmbus version:5\.3/,
    /hv_utils: Heartbeat IC version 3\.0/,
    /hv_utils: Shutdown IC version 3\.2/,
    /hv_utils: TimeSync IC version 4\.0/,
    /input: AT Translated Set 2 keyboard/,
    /rtc-efi .*setting system clock to 2026-01-01T00:00:00/,
    /alg: self-tests for .* passed/,
    /INIT-START[\s\S]*INIT-DONE/,
    /MACHINE: Microsoft Corporation Virtual Machine/,
    /reboot: Power down/,
  ])
    assert.match(guest.console, line);
  assert.doesNotMatch(guest.console, TROUBLE);
});

test('every happening of the platform is an event of the trace', () => {
  const kinds = ['hypercall', 'vp-register', 'message', 'signal', 'interrupt', 'timer', 'packet', 'mmio', 'psci', 'fault'];
  assert.deepEqual(
    kinds.filter((kind) => (events.get(kind) ?? 0) < 2),
    [],
  );
});

test('every offered device is in sysfs, bound to its driver where the guest has one', () => {
  const bound = [...guest.console.matchAll(/^VMBUS: \S+ class \S+ state 3 driver (\S+)/gm)].map((m) => m[1]).sort();
  assert.deepEqual(bound, [...Array(6).fill('hv_utils'), 'hyperv_keyboard']);
  const others = [...guest.console.matchAll(/^VMBUS: \S+ class (\S+) state 2 driver none/gm)].map((m) => m[1]).sort();
  // Drivers that this kernel lacks (video, mouse) or that its initramfs does not load (dynamic memory).
  assert.deepEqual(others, [
    '{525074dc-8985-46e2-8057-a307dc18a502}',
    '{cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a}',
    '{da0a7802-e377-4aac-8e77-0558eb1073f8}',
  ]);
});

test('the VMBus interrupt is the PPI that the DSDT names', () => {
  assert.match(guest.console, /INTERRUPTS:\s+\d+:\s+\d+\s+GICv3\s+18 Edge\s+Hyper-V VMbus/);
});

test('heartbeats are answered: the sequence number has moved', () => {
  const heartbeat = channelsOf(guest).heartbeat;
  assert.ok(heartbeat.packetsFromGuest >= 3, `${heartbeat.packetsFromGuest} packets`);
  assert.ok(heartbeat.packetsToGuest >= 3);
});

test('the guest makes only the hypercalls that a mainline kernel makes, and none is refused', () => {
  assert.deepEqual([...guest.hypercalls.keys()].sort(), [
    'HvCallGetVpRegisters',
    'HvCallPostMessage',
    'HvCallSetVpRegisters',
    'HvCallSignalEvent',
  ]);
});

test('a shutdown asked for by the host powers the guest off in order', async () => {
  const waiting = new Recorded(await debianConfig('own', { append: 'console=ttyAMA0 hyperstep.wait=1000' }));
  const { machine } = waiting;
  while (channelsOf(waiting).shutdown?.state !== 'open' || machine.now < 3e9) {
    assert.equal(machine.run({ instructions: 20_000_000, nanoseconds: 200_000_000 }).kind, 'limit');
    assert.ok(machine.now < 60e9, 'the shutdown channel never opened');
  }
  assert.equal(machine.requestShutdown(false), true);
  let exit = machine.run({ nanoseconds: 1e9 });
  while (exit.kind === 'limit' && machine.now < 120e9) exit = machine.run({ nanoseconds: 1e9 });
  assert.deepEqual(exit, { kind: 'power-off' });
});

test('what is typed on the console reaches a shell, and its answer comes back', async () => {
  const shell = new Recorded(await debianConfig('own', { append: 'console=ttyAMA0 hyperstep.nomod hyperstep.shell' }));
  const { machine } = shell;
  const until = (text: string): void => {
    while (!shell.console.includes(text)) {
      const exit = machine.run({ instructions: 10_000_000, nanoseconds: 100_000_000 });
      assert.equal(exit.kind, 'limit', shell.console.slice(-500));
      assert.ok(machine.now < 60e9, shell.console.slice(-500));
    }
  };
  until('INIT-SHELL');
  until('# ');
  machine.consoleInput(new TextEncoder().encode('echo $((6*7))-from-the-guest\r'));
  until('42-from-the-guest');
});
