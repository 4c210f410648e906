import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { readElf } from '../../debug-adapter/symbols/elf.ts';
import { DEFAULTS, type Exit, type MachineConfig, type TraceEvent } from '../../emulator/index.ts';
import { Recorded } from './debian.ts';

const ELF = fs.readFileSync(new URL('../guests/embedded/guest.elf', import.meta.url));

const config = (overrides: Partial<MachineConfig> = {}): MachineConfig => ({
  ...DEFAULTS,
  memory: 64,
  append: '',
  kernel: ELF,
  kernelName: 'guest.elf',
  ...overrides,
});

test('the embedded guest finds everything as the reference says and powers off', () => {
  const guest = new Recorded(config());
  const conduits = new Set<string>();
  const smccc = new Set<string>();
  guest.machine.subscribe((e: TraceEvent) => {
    if (e.kind === 'hypercall') conduits.add(e.conduit);
    if (e.kind === 'smccc' || e.kind === 'psci') smccc.add(e.conduit);
  });
  assert.deepEqual(guest.finish(), { kind: 'power-off' });
  assert.doesNotMatch(guest.console, /FAILED/);
  assert.match(guest.console, /CHECKS 34 passed, 0 failed\r\nGUEST-DONE\r\n$/);
  for (const line of [
    /^ACPI MsHyperV; UART 0xeffec000, GICD 0xffff0000, GICR 0xeffee000; PPIs: VMBus 18, timer 20\r$/m,
    /^EFI time 2026-1-1 0:0:0\r$/m,
    /^VMBUS version 5\.3, connection 4\r$/m,
    /^VMBUS offer: channel \d+, type 57164f39-9115-4e78-ab55-382f3bd5422d, instance fd149e91-82e0-4a7d-afa6-2a4166cbd7c0/m,
    /^HEARTBEAT version 3\.0, 1 beats\r$/m,
  ])
    assert.match(guest.console, line);
  assert.deepEqual(
    [[...conduits].sort(), [...smccc].sort()],
    [
      ['raw', 'smccc'],
      ['hvc', 'smc'],
    ],
  );
});

test('every VP is started, has its own index and is switched off again', () => {
  const guest = new Recorded(config({ cpus: 4 }));
  assert.deepEqual(guest.finish(), { kind: 'power-off' });
  assert.match(guest.console, /SMP 4 of 4 VPs/);
  assert.match(guest.console, /CHECKS 34 passed, 0 failed/);
});

test('it notices nothing when its memory is moved; what was translated stays so, and breakpoints count on', () => {
  const putc = readElf(new Uint8Array(ELF), 'guest.elf').symbols.find((s) => s.name === 'console_putc');
  assert.ok(putc);
  const run = (moved: boolean) => {
    const guest = new Recorded(config({ cpus: 2, threshold: 4 }));
    const { machine } = guest;
    machine.setBreakpoint(putc.address, { clauses: [{ hit: { op: '%', count: 100, counter: 3 } }] });
    const stops: number[] = [];
    let exit: Exit = { kind: 'limit' };
    for (let n = 0; exit.kind === 'limit' && n < 10_000; n++) {
      if (moved && n % 8 === 0) machine.releaseMemory();
      exit = machine.run({ instructions: 5000 });
      if (exit.kind !== 'breakpoint') continue;
      stops.push(machine.instructions);
      exit = machine.run({ instructions: 1, resumeVp: exit.vp });
    }
    const { made } = machine.engineStatistics();
    return { exit, stops, made: Number(made), console: guest.console, hash: machine.stateHash() };
  };
  const still = run(false);
  assert.ok(still.made > 20 && still.stops.length > 5, `${still.made} regions, ${still.stops.length} stops`);
  assert.deepEqual(run(true), still);
});

test('"panic": the crash is reported with its message, and then the guest powers off', () => {
  const guest = new Recorded(config({ append: 'quiet panic' }));
  const exit = guest.finish();
  assert.equal(exit.kind, 'crash');
  if (exit.kind !== 'crash') return;
  assert.equal(exit.message, 'asked for on the command line');
  assert.deepEqual([exit.parameters[0], exit.parameters[1], exit.control], [0xc0ffeen, 0xff00000000010000n, 0xc000000000000000n]);
  assert.deepEqual(guest.finish(), { kind: 'power-off' });
});

test('"echo": what is typed comes back, until q', () => {
  const guest = new Recorded(config({ append: 'echo' }));
  while (!guest.console.includes('ECHO ready')) assert.equal(guest.machine.run({ instructions: 10_000 }).kind, 'limit');
  guest.machine.consoleInput(Uint8Array.from('Hyper', (c) => c.charCodeAt(0)));
  while (!guest.console.endsWith('Hyper')) assert.equal(guest.machine.run({ instructions: 1_000 }).kind, 'limit');
  guest.machine.consoleInput(Uint8Array.from('step, q', (c) => c.charCodeAt(0)));
  assert.deepEqual(guest.finish(), { kind: 'power-off' });
  assert.match(guest.console, /ECHO ready, q ends\r\nHyperstep, \r\nECHO done\r\n/);
});

test('"spin": runs for ever, with the heartbeat going on', () => {
  const guest = new Recorded(config({ append: 'spin', cpus: 2 }));
  assert.deepEqual(guest.finish(1_000_000, 3_000_000), { kind: 'limit' });
  assert.doesNotMatch(guest.console, /GUEST-DONE/);
  const heartbeat = guest.machine.vmbus().channels.find((c) => c.device === 'heartbeat');
  assert.equal(heartbeat?.state, 'open');
});

test('the committed ELF is small, has debug information, and names no machine', () => {
  assert.ok(ELF.length < 200 * 1024, `${ELF.length} bytes`);
  const text = ELF.toString('latin1');
  for (const section of ['.debug_info', '.debug_line', '.debug_frame']) assert.ok(text.includes(section), section);
  assert.ok(text.includes('test/guests/embedded/fixture.c'));
  assert.doesNotMatch(text, /\/(home|root|work|tmp|Users)\//);
});
