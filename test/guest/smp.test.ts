/** Debian with several VPs: all are used, go off and on, take interrupts and VMBus channels, and it is one run whatever the slices. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Machine, MachineConfig, Snapshot } from '../../emulator/index.ts';
import { debianConfig, Recorded } from './debian.ts';

/** Instructions in which everything here is done, many times over. */
const LIMIT = 8_000_000_000;

/** A guest with a shell on its console. */
class Shell {
  readonly machine: Machine;
  readonly #guest: Recorded;
  /** The guest at its prompt. */
  readonly ready: Snapshot;

  constructor(config: MachineConfig, slice = 10_000_000) {
    this.#guest = new Recorded({ ...config, append: 'console=ttyAMA0 hyperstep.shell' });
    this.machine = this.#guest.machine;
    this.#until('INIT-SHELL', slice);
    // The shell starts, and all is quiet.
    const quiet = this.machine.now + 1e9;
    while (this.machine.now < quiet) this.machine.run({ instructions: slice, nanoseconds: quiet - this.machine.now });
    this.ready = this.machine.snapshot();
  }

  /** Runs until the console has shown `text`, to the very byte. */
  #until(text: string, slice: number): void {
    let tail = '';
    const seen = (byte: number): boolean => {
      tail = (tail + String.fromCharCode(byte)).slice(-text.length);
      return tail === text;
    };
    const limit = this.machine.instructions + LIMIT;
    for (;;) {
      const exit = this.machine.run({ instructions: slice, console: seen });
      if (exit.kind === 'console') return;
      assert.ok(exit.kind === 'limit' && this.machine.instructions < limit, `${exit.kind}\n${this.#guest.console.slice(-2000)}`);
    }
  }

  /** What the guest has said since power-on. */
  get console(): string {
    return this.#guest.console;
  }

  /** Types a script at the prompt; what it has said, without what was typed. */
  run(script: string, slice = 10_000_000): string {
    const from = this.console.length;
    this.machine.consoleInput(new TextEncoder().encode(`${script.trim().replaceAll('\n', '; ')}; echo END-OF-"SCRIPT"\n`));
    this.#until('END-OF-SCRIPT', slice);
    // The terminal had said what was typed, wrapped at its width.
    return this.console.slice(this.console.indexOf('"SCRIPT"', from) + 8).replaceAll('\r', '');
  }
}

const states = (machine: Machine): string[] => Array.from({ length: machine.vpCount }, (_, vp) => machine.vpState(vp));

/** Complaints of a kernel about its CPUs. */
const COMPLAINTS =
  /\bBUG\b|WARNING: CPU|Call trace|stalls|stall on|soft lockup|blocked for more|failed to come online|may not have shut down/i;
const complaints = (console: string): string[] => console.split('\n').filter((l) => COMPLAINTS.test(l));

/** Loads on all VPs at once whose results are known: the same 8 times. */
const LOAD = 'for i in 1 2 3 4 5 6 7 8; do (seq 1 700 | sort -rn | md5sum) & done; wait';
const RESULT = /\b([0-9a-f]{32}) {2}-/g;

function loads(shell: Shell): void {
  const results = [...shell.run(LOAD).matchAll(RESULT)].map((m) => m[1]);
  assert.equal(results.length, 8, JSON.stringify(results));
  assert.equal(new Set(results).size, 1);
}

/** Counts per VP of the line of /proc/interrupts that fits. */
const counts = (interrupts: string, what: RegExp, vps: number): number[] => {
  const line = interrupts.split('\n').find((l) => what.test(l)) ?? assert.fail(`no ${what} in\n${interrupts}`);
  return line
    .trim()
    .split(/\s+/)
    .slice(1, vps + 1)
    .map(Number);
};

test('8 VPs: the guest counts 8, uses all, takes them off and on again, and moves VMBus channels to another', async () => {
  const shell = new Shell(await debianConfig('own', { cpus: 8 }));
  const { machine } = shell;
  assert.equal(shell.run('nproc').trim().split('\n')[0], '8');
  const runTimes = () => Array.from({ length: 8 }, (_, vp) => Number(machine.readHypervRegister(vp, 'HvRegisterVpRuntime')));
  const before = runTimes();
  loads(shell);
  // In 100 ns; the whole load is some 100 ms.
  for (const [vp, t] of runTimes().entries()) assert.ok(t - before[vp] > 10_000, `VP ${vp} has run ${(t - before[vp]) / 10} us`);
  const first = shell.run('cat /proc/interrupts');
  for (const kind of [/Rescheduling/, /Function call/, /arch_timer/])
    for (const [vp, n] of counts(first, kind, 8).entries()) assert.ok(n > 0, `VP ${vp}: no ${kind}`);

  const off = shell.run('for c in 1 2 3 4 5 6 7; do echo 0 > /sys/devices/system/cpu/cpu$c/online; done; echo now $(nproc)');
  assert.match(off, /^now 1$/m);
  assert.deepEqual(states(machine).slice(1), Array(7).fill('off'));
  loads(shell);
  // A snapshot with VPs off, and the time that they are not given.
  const still = runTimes();
  machine.restore(machine.snapshot());
  loads(shell);
  assert.deepEqual(runTimes().slice(1), still.slice(1));
  const on = shell.run('for c in 7 6 5 4 3 2 1; do echo 1 > /sys/devices/system/cpu/cpu$c/online; done; echo now $(nproc)');
  assert.match(on, /^now 8$/m);
  assert.equal(states(machine).filter((s) => s === 'off').length, 0);
  loads(shell);

  // Of devices that have a driver: the others' channels are not open.
  const bound = '[ -e $d/driver ] || continue; for c in $d/channels/*/cpu';
  const moved = shell.run(`for d in /sys/bus/vmbus/devices/*; do ${bound}; do echo 5 > $c; echo cpu $(cat $c); done; done`);
  // Six integration services and the keyboard.
  assert.deepEqual(moved.match(/^cpu \d+$/gm), Array(7).fill('cpu 5'));
  assert.deepEqual(
    machine
      .vmbus()
      .channels.filter((c) => c.state === 'open')
      .map((c) => c.targetVp),
    Array(7).fill(5),
  );
  // The heartbeat goes on, every two seconds.
  const last = shell.run('sleep 5; cat /proc/interrupts');
  const [was, is] = [first, last].map((text) => counts(text, /Hyper-V VMbus/, 8));
  assert.equal(was[5], 0);
  assert.ok(is[5] >= 2, `${is}`);
  assert.deepEqual(complaints(shell.console), []);
});

test('64 VPs', async () => {
  const shell = new Shell(await debianConfig('own', { cpus: 64 }));
  assert.match(shell.console, /SMP: Total of 64 processors activated/);
  assert.equal(shell.run('nproc').trim().split('\n')[0], '64');
  loads(shell);
  // IPIs to the last: the affinity range of the GIC's SGIs is more than 16 wide.
  assert.match(shell.run('echo 0 > /sys/devices/system/cpu/cpu63/online; echo now $(nproc)'), /^now 63$/m);
  assert.match(shell.run('echo 1 > /sys/devices/system/cpu/cpu63/online; echo now $(nproc)'), /^now 64$/m);
  const interrupts = shell.run('cat /proc/interrupts');
  assert.ok(
    counts(interrupts, /Function call/, 64).every((n) => n > 0),
    interrupts,
  );
  assert.deepEqual(complaints(shell.console), []);
});

for (const suite of ['trixie', 'sid'])
  test(`4 VPs on ${suite}'s kernel: load, off and on`, async () => {
    const shell = new Shell(await debianConfig(suite, { cpus: 4 }));
    assert.equal(shell.run('nproc').trim().split('\n')[0], '4');
    loads(shell);
    const online = (value: number) =>
      shell.run(`for c in 1 2 3; do echo ${value} > /sys/devices/system/cpu/cpu$c/online; done; echo now $(nproc)`);
    assert.match(online(0), /^now 1$/m);
    assert.match(online(1), /^now 4$/m);
    loads(shell);
    assert.deepEqual(complaints(shell.console), []);
  });

describe('one run, whatever the slices', () => {
  const outcome = ({ machine }: Shell) => ({ hash: machine.stateHash(), instructions: machine.instructions, now: machine.now });
  for (const cpus of [2, 4, 8])
    test(`${cpus} VPs under load, from a snapshot`, async () => {
      const shell = new Shell(await debianConfig('own', { cpus }));
      const { machine } = shell;
      const ready = outcome(shell);
      const run = (slice: number) => {
        machine.restore(shell.ready);
        assert.deepEqual(outcome(shell), ready);
        const said = shell.run(LOAD, slice);
        return { ...outcome(shell), said };
      };
      const whole = run(1e9);
      for (const slice of [50_001, 1_234_567]) assert.deepEqual(run(slice), whole, `slices of ${slice}`);
    });

  test('a boot with 4 VPs', async () => {
    const config = await debianConfig('own', { cpus: 4 });
    const first = new Shell(config);
    assert.deepEqual(outcome(new Shell(config, 99_991)), outcome(first));
  });
});
