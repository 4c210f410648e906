import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { GuestKernel } from '../../../debug-adapter/linux/kernel.ts';
import { type Plan, Runner, type RunnerHost, type StopReason, until } from '../../../debug-adapter/runner.ts';
import type { Exit, Machine, Until } from '../../../emulator/index.ts';

/** A machine that gives the exits it was told to, and then idles. */
function scripted(exits: (Exit | Error)[], more: Partial<RunnerHost> = {}) {
  const asked: Until[] = [];
  const registers: Record<string, bigint> = { sp: 0x100n };
  const state = { now: 0, instructions: 0 };
  const machine = {
    releasable: 0,
    get now() {
      return state.now;
    },
    get instructions() {
      return state.instructions;
    },
    run(until: Until): Exit {
      asked.push(until);
      const next = exits.shift() ?? { kind: 'limit' };
      if (next instanceof Error) throw next;
      state.instructions += 10;
      // Nobody runs: time passes.
      state.now += exits.length ? 10 : 1_000_000_000;
      return next;
    },
    readRegister: (_: number, name: string) => registers[name],
  } as unknown as Machine;
  const kernel = { absorb: () => false, poll() {} } as unknown as GuestKernel;
  const log: string[] = [];
  let done: () => void = () => {};
  const settled = new Promise<void>((resolve) => {
    done = resolve;
  });
  const say = (text: string) => {
    log.push(text);
    done();
  };
  const reason = (r: StopReason) => (r.kind === 'exit' ? r.exit.kind : r.kind);
  const host: RunnerHost = {
    hypercall: undefined,
    breakpoint: () => true,
    watchpoint: () => true,
    place: () => {},
    stopOnCrash: true,
    sliced: () => {},
    stopped: (r) => say(`stopped: ${reason(r)}`),
    ended: (exit) => say(`ended: ${exit.kind}`),
    failed: (error) => say(`failed: ${(error as Error).message}`),
    ...more,
  };
  return { runner: new Runner(machine, kernel, host), machine, asked, log, settled, registers };
}

const breakpoint = (pc: bigint, vp = 0): Exit => ({ kind: 'breakpoint', vp, pc });

test('it goes on over slices until something stops it, and passes over what stopped it before', async () => {
  const t = scripted([{ kind: 'limit' }, { kind: 'limit' }, breakpoint(0x40n)]);
  t.runner.start({ kind: 'continue' }, 1);
  assert.equal(t.runner.running, true);
  await t.settled;
  assert.deepEqual(t.log, ['stopped: breakpoint']);
  assert.deepEqual(
    t.asked.map((a) => a.resumeVp),
    [1, undefined, undefined],
  );
  assert.equal(t.runner.running, false);
});

test('a breakpoint that does not stop is passed over', async () => {
  const t = scripted([breakpoint(0x40n, 2), { kind: 'power-off' }], { breakpoint: () => false });
  t.runner.start({ kind: 'continue' }, undefined);
  await t.settled;
  assert.deepEqual(t.log, ['ended: power-off']);
  assert.deepEqual(
    t.asked.map((a) => a.resumeVp),
    [undefined, 2],
  );
  t.runner.start({ kind: 'continue' }, undefined);
  assert.equal(t.runner.running, false, 'nothing runs after the end');
});

test('a step over or out ends at its address on its VP with the stack pointer back: not in a deeper call', async () => {
  const t = scripted([breakpoint(0x40n), breakpoint(0x40n, 1), breakpoint(0x40n)], {
    breakpoint: () => false,
    sliced: () => {
      if (t.asked.length === 3) t.registers.sp = 0x200n;
    },
  });
  t.runner.start(until(t.machine, 0, { pc: 0x40n, sp: 0x200n }), undefined);
  await t.settled;
  assert.deepEqual(t.log, ['stopped: step']);
  assert.equal(t.asked.length, 3);
});

test('a step over ends for the task that made it, on whatever VP that is by then, and not on another stack', async () => {
  const t = scripted([breakpoint(0x40n), breakpoint(0x40n, 2), breakpoint(0x40n, 2)], {
    breakpoint: () => false,
    sliced: () => {
      // The interrupts' stack is far away.
      t.registers.sp = t.asked.length === 2 ? 0x80_0000n : 0x210n;
    },
  });
  const next: number[] = [];
  const place = { pc: 0x40n, sp: 0x200n, same: (vp: number) => vp === 2 };
  const plan = until(t.machine, 0, place, {
    next: (vp) => {
      next.push(vp);
      return undefined;
    },
  });
  t.runner.start(plan, undefined);
  await t.settled;
  assert.deepEqual([t.log, t.asked.length, next], [['stopped: step'], 3, [2]]);
});

test('while a VP steps the others do an instruction too, unless they are to stand still; a breakpoint of theirs stops', async () => {
  const step = (vp: number): Exit => ({ kind: 'step', vp });
  const others = scripted([step(1), breakpoint(0x40n, 0), step(3), step(1), step(0), breakpoint(0x44n, 3)], {
    breakpoint: ({ pc }) => pc === 0x44n,
  });
  Object.assign(others.machine, { vpCount: 4, vpState: (vp: number) => (vp === 2 ? 'waiting' : 'running') });
  const again = (): Plan => ({ kind: 'step', vp: 1, next: again });
  others.runner.start({ kind: 'step', vp: 1, next: again }, 1);
  await others.settled;
  assert.deepEqual(others.log, ['stopped: breakpoint']);
  assert.deepEqual(
    others.asked.map((a) => [a.stepVp, a.onlyVp, a.resumeVp]),
    [
      [1, undefined, 1],
      [0, 0, undefined],
      [3, 3, undefined],
      [1, undefined, undefined],
      // It is at a breakpoint that did not stop.
      [0, 0, 0],
      [3, 3, undefined],
    ],
  );
  const alone = scripted([step(1)]);
  Object.assign(alone.machine, { vpCount: 4, vpState: () => 'running' });
  alone.runner.start({ kind: 'step', vp: 1, alone: true }, 1);
  await alone.settled;
  assert.deepEqual(
    alone.asked.map((a) => [a.stepVp, a.onlyVp]),
    [[1, 1]],
  );
});

test('a single step asks for one VP', async () => {
  const t = scripted([{ kind: 'step', vp: 3 }]);
  t.runner.start({ kind: 'step', vp: 3 }, 3);
  await t.settled;
  assert.deepEqual([t.asked[0].stepVp, t.asked[0].resumeVp], [3, 3]);
});

test('pause gets in between slices, also when the guest only waits', async () => {
  const t = scripted([]);
  assert.equal(t.runner.pause(), false, 'nothing runs yet');
  t.runner.start({ kind: 'continue' }, undefined);
  while (t.asked.length < 3) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(t.runner.pause(), true);
  await t.settled;
  assert.deepEqual(t.log, ['stopped: pause']);
});

test('a guest that waits for input is looked at again at once when input comes', async () => {
  const t = scripted([{ kind: 'halted' }, { kind: 'power-off' }]);
  t.runner.start({ kind: 'continue' }, undefined);
  while (t.asked.length < 1) await new Promise((resolve) => setImmediate(resolve));
  t.runner.wake();
  await t.settled;
  assert.deepEqual(t.log, ['ended: power-off']);
});

test('a crash stops the guest only where asked; a failure of the machine is reported and ends the run', async () => {
  const crash: Exit = { kind: 'crash', vp: 0, parameters: [1n], control: 0n, message: 'panic' };
  const stops = scripted([crash]);
  stops.runner.start({ kind: 'continue' }, undefined);
  await stops.settled;
  assert.deepEqual(stops.log, ['stopped: crash']);
  const fails = scripted([crash, new Error('broken invariant')], { stopOnCrash: false });
  fails.runner.start({ kind: 'continue' }, undefined);
  await fails.settled;
  assert.deepEqual(fails.log, ['failed: broken invariant']);
  assert.equal(fails.runner.over, true);
});

test('a step over lets an interrupt that comes first run to its end; a step in goes into it', async () => {
  const step: Exit = { kind: 'step', vp: 0 };
  const over = { pc: 0x44n, sp: 0x100n };
  // The first instruction of the IRQ vector for EL1 with SP_EL1 has been executed.
  const interrupted = { VBAR_EL1: 0x8000n, pc: 0x8284n, ELR_EL1: 0x44n, sp: 0x80n };
  const placed: bigint[] = [];
  const t = scripted([step, breakpoint(0x44n), breakpoint(0x44n), step], {
    place: (places) => placed.push(...places),
    breakpoint: () => false,
    sliced() {
      // Back from a nested call of the handler's own first, then from the interrupt itself.
      if (t.asked.length === 3) Object.assign(t.registers, { pc: 0x44n, sp: 0x100n });
      if (t.asked.length === 4) Object.assign(t.registers, { pc: 0x48n });
    },
  });
  Object.assign(t.registers, interrupted);
  t.runner.start({ kind: 'step', vp: 0, over }, 0);
  await t.settled;
  assert.deepEqual([t.log, placed], [['stopped: step'], [0x44n]]);
  assert.deepEqual(
    t.asked.map((a) => [a.stepVp, a.resumeVp]),
    [
      [0, 0],
      [undefined, undefined],
      [undefined, 0],
      [0, 0],
    ],
  );

  const into = scripted([step]);
  Object.assign(into.registers, interrupted);
  into.runner.start({ kind: 'step', vp: 0 }, 0);
  await into.settled;
  assert.deepEqual([into.log, into.asked.length], [['stopped: step'], 1]);

  // A fault of the instruction itself may never come back to it: the step ends at the vector.
  const fault = scripted([step]);
  Object.assign(fault.registers, { ...interrupted, pc: 0x8204n });
  fault.runner.start({ kind: 'step', vp: 0, over }, 0);
  await fault.settled;
  assert.deepEqual([fault.log, fault.asked.length], [['stopped: step'], 1]);
});
