/** Several VPs: exclusives and atomics, events, turns, and one run whatever the slices. FUZZ=N runs N random programs. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Machine } from '../../emulator/index.ts';
import { addImm, hvc, ldr, ldxr, movz, nop, str, stxr, subs, subsImm } from './cpu/engine-asm.ts';
import {
  adr,
  ALIAS,
  assemble,
  b,
  bc,
  CLREX,
  COND,
  cas,
  cbnz,
  cbz,
  cmp,
  DATA,
  DMB,
  dataAt,
  eor,
  flat,
  frame,
  type Item,
  ISB,
  ldadd,
  ldar,
  ldaxr,
  machineOf,
  mov,
  movk16,
  movz16,
  mrs,
  msr,
  psci,
  SEV,
  SEVL,
  stlr,
  stlxr,
  subImm,
  swp,
  SYSREG,
  TEXT,
  WFE,
  WFI,
  YIELD,
} from './smp-guest.ts';

/** Far more than any program here needs: one that hangs fails. */
const LIMIT = 30_000_000;

/** Runs to power-off in slices of `slice`. */
function finish(machine: Machine, slice = LIMIT): Machine {
  for (;;) {
    const exit = machine.run({ instructions: slice });
    if (exit.kind === 'power-off') return machine;
    assert.equal(exit.kind, 'limit');
    assert.ok(machine.instructions < LIMIT, `not done after ${machine.instructions} instructions`);
  }
}

const outcome = (machine: Machine) => ({ hash: machine.stateHash(), instructions: machine.instructions, now: machine.now });

/** `turns` times what `items` do, counted in x4. */
const repeat = (turns: number, items: readonly Item[]): Item[] => [
  movz(4, turns),
  'repeat',
  ...items,
  subsImm(4, 4, 1),
  bc(COND.NE, 'repeat'),
];

const ROUNDS = 100;

/** Programs for any number of VPs that leave `n * ROUNDS` in the data's first cell. */
const COUNTERS: Record<string, readonly Item[]> = {
  'LDXR and STXR': repeat(ROUNDS, ['again', ldxr(5, 20), addImm(5, 5, 1), stxr(6, 5, 20), cbnz(6, 'again')]),
  'LDAXR and STLXR': repeat(ROUNDS, ['again', ldaxr(5, 20), addImm(5, 5, 1), stlxr(6, 5, 20), cbnz(6, 'again')]),
  LDADD: [movz(7, 1), ...repeat(ROUNDS, [ldadd(7, 8, 20)])],
  CAS: repeat(ROUNDS, ['again', ldr(5, 20, 0), mov(6, 5), addImm(7, 5, 1), cas(6, 7, 20), cmp(6, 5), bc(COND.NE, 'again')]),
  // The lock is at DATA + 64, the counter it guards is not touched atomically.
  'a lock of SWP, spinning with YIELD': [
    addImm(9, 20, 64),
    movz(7, 1),
    ...repeat(ROUNDS, [
      ...['take', swp(7, 8, 9), cbz(8, 'taken'), YIELD, b('take')],
      ...['taken', ldr(5, 20, 0), addImm(5, 5, 1), nop(), nop(), str(5, 20, 0), stlr(31, 9)],
    ]),
  ],
  // The waiter's monitor is what wakes it: the release is a plain store (Arm ARM K13.3.2).
  'a lock of LDAXR and STXR, waiting with WFE': [
    addImm(9, 20, 64),
    movz(7, 1),
    ...repeat(ROUNDS, [
      ...[SEVL, 'take', WFE, ldaxr(8, 9), cbnz(8, 'take'), stxr(8, 7, 9), cbnz(8, 'retry'), b('taken'), 'retry', SEVL, b('take')],
      ...['taken', ldr(5, 20, 0), addImm(5, 5, 1), nop(), nop(), str(5, 20, 0), stlr(31, 9)],
    ]),
  ],
  // A ticket lock: tickets at DATA + 64, now serving at DATA + 128.
  'a ticket lock, waiting with WFE on what is served': [
    addImm(9, 20, 64),
    addImm(10, 20, 128),
    movz(7, 1),
    ...repeat(ROUNDS, [
      ...[ldadd(7, 8, 9), SEVL, 'wait', WFE, ldaxr(11, 10), cmp(11, 8), bc(COND.NE, 'wait')],
      ...[ldr(5, 20, 0), addImm(5, 5, 1), nop(), str(5, 20, 0), addImm(11, 11, 1), stlr(11, 10)],
    ]),
  ],
};

describe('counters that all VPs count up are exact, and one run whatever the slices and turns', () => {
  for (const [name, body] of Object.entries(COUNTERS))
    test(name, () => {
      for (const [cpus, quantum] of [
        [1, 50_000],
        [2, 3],
        [4, 17],
        [8, 1],
        [8, 333],
      ]) {
        const machine = machineOf(cpus, body, { quantum });
        const start = machine.snapshot();
        const whole = outcome(finish(machine));
        assert.equal(dataAt(machine, 0), BigInt(cpus * ROUNDS), `${cpus} VPs, turns of ${quantum}`);
        for (const slice of quantum === 1 ? [7] : [1, 13, 1000]) {
          machine.restore(start);
          assert.deepEqual(outcome(finish(machine, slice)), whole, `${cpus} VPs, turns of ${quantum}, slices of ${slice}`);
        }
      }
    });
});

test('counters are exact with the MMU off, where all memory is Device memory', () => {
  for (const [name, body] of Object.entries(COUNTERS)) {
    const machine = machineOf(4, body, { quantum: 17, kernel: flat(frame(4, body, false)) });
    assert.equal(dataAt(finish(machine), 0), BigInt(4 * ROUNDS), name);
  }
});

test('hot code that is translated does what the interpreter does, with turns that end anywhere in it', () => {
  for (const [name, body] of Object.entries(COUNTERS)) {
    // Turns long enough for translated code to run at all.
    const long = body.map((i) => (i === movz(4, ROUNDS) ? movz(4, 40 * ROUNDS) : i));
    const run = (engine: 'auto' | 'interpreter', slice?: number) =>
      outcome(finish(machineOf(4, long, { quantum: 2003, engine, threshold: 5 }), slice));
    const interpreted = run('interpreter');
    assert.deepEqual(run('auto'), interpreted, name);
    assert.deepEqual(run('auto', 7001), interpreted, `${name}, in slices`);
  }
});

describe('a run continued from a snapshot is the same run, in this machine and in another', () => {
  for (const [name, body] of Object.entries(COUNTERS))
    test(name, () => {
      const make = (): Machine => machineOf(4, body, { quantum: 11 });
      const other = make();
      const whole = outcome(finish(other));
      const machine = make();
      for (const part of [0.03, 0.2, 0.4, 0.6, 0.8]) {
        const at = Math.floor(whole.instructions * part);
        machine.run({ instructions: at - machine.instructions });
        const snapshot = machine.snapshot();
        const here = machine.stateHash();
        other.restore(snapshot);
        assert.equal(other.stateHash(), here, `restored at ${at}`);
        assert.deepEqual(outcome(finish(other)), whole, `another machine from ${at}`);
        finish(machine, 301);
        machine.restore(snapshot);
        assert.equal(machine.stateHash(), here, `restored again at ${at}`);
      }
      assert.deepEqual(outcome(finish(machine)), whole);
    });
});

/** Instructions of random programs: on registers x5..x10, and on memory that all VPs share, by two mappings. */
const BASES = [20, 23, 24, 25];
const register = fc.integer({ min: 5, max: 10 });
const base = fc.constantFrom(...BASES);
const instruction: fc.Arbitrary<readonly Item[]> = fc.oneof(
  fc.tuple(fc.constantFrom(ldxr, ldaxr, ldar, stlr), register, base).map(([op, r, n]) => [op(r, n)]),
  fc.tuple(fc.constantFrom(stxr, stlxr), register, base).map(([op, r, n]) => [op(11, r, n)]),
  fc.tuple(fc.constantFrom(ldadd, swp, cas), register, register, base).map(([op, r, s, n]) => [op(r, s, n)]),
  fc.tuple(fc.constantFrom(ldr, str), register, base, fc.integer({ min: 0, max: 7 })).map(([op, r, n, at]) => [op(r, n, 8 * at)]),
  fc.tuple(register, register, register).map(([d, n, m]) => [eor(d, n, m)]),
  fc.tuple(register, register).map(([d, n]) => [addImm(d, n, 1)]),
  register.map((d) => [mrs(d, SYSREG.CNTVCT_EL0)]),
  fc.constantFrom(WFE, SEV, YIELD, CLREX).map((word) => [word]),
);

test('random programs of several VPs: one run whatever the slices, the engine, and where it is continued from', () => {
  const program = fc.record({
    cpus: fc.integer({ min: 1, max: 5 }),
    quantum: fc.constantFrom(1, 2, 3, 7, 20, 100, 1500, 7000),
    rounds: fc.integer({ min: 1, max: 150 }),
    body: fc.array(instruction, { minLength: 4, maxLength: 40 }),
    slice: fc.integer({ min: 1, max: 500 }),
    part: fc.double({ min: 0, max: 0.99, noNaN: true }),
  });
  fc.assert(
    fc.property(program, ({ cpus, quantum, rounds, body, slice, part }) => {
      const setup = [
        // The event stream, so that nobody waits for ever.
        ...[movz(1, (9 << 4) | 4), msr(SYSREG.CNTKCTL_EL1, 1), ISB, addImm(6, 19, 3)],
        ...[addImm(23, 20, 64), movz16(24, (DATA >>> 16) + 8), movz16(25, (ALIAS + DATA) >>> 16)],
      ];
      const whole = [...setup, ...repeat(rounds, body.flat())];
      const make = (engine: 'auto' | 'interpreter') => machineOf(cpus, whole, { quantum, engine, threshold: 5 });
      const machine = make('auto');
      const start = machine.snapshot();
      const expected = outcome(finish(machine));
      machine.restore(start);
      assert.deepEqual(outcome(finish(machine, slice)), expected);
      const interpreted = make('interpreter');
      interpreted.run({ instructions: Math.floor(expected.instructions * part) });
      machine.restore(interpreted.snapshot());
      assert.deepEqual(outcome(finish(machine)), expected);
      assert.deepEqual(outcome(finish(interpreted)), expected);
    }),
    { numRuns: Number(process.env.FUZZ ?? 12) },
  );
});

// --- two VPs by hand ---------------------------------------------------------------------------------------------------

const step = (machine: Machine, vp: number, count = 1): void => {
  for (let i = 0; i < count; i++) assert.deepEqual(machine.run({ stepVp: vp, instructions: 10 }), { kind: 'step', vp });
};

/** A machine whose VPs all stand at the first instruction of `body`, and the addresses of its labels. */
function standing(cpus: number, body: readonly Item[]): { machine: Machine; at: (label: string) => bigint } {
  const { labels } = assemble(frame(cpus, ['body', ...body]));
  const at = (label: string): bigint => BigInt(TEXT + (labels.get(label) ?? assert.fail(label)));
  const machine = machineOf(cpus, ['body', ...body]);
  for (let vp = 0; vp < cpus; vp++) while (machine.readRegister(vp, 'pc') !== at('body')) step(machine, vp);
  return { machine, at };
}

describe('a store exclusive', () => {
  /** x6 of VP 0 after LDXR, what `between` does, and STXR. */
  function status(between: (machine: Machine) => void, other: readonly Item[] = []): bigint | undefined {
    const { machine } = standing(2, [cbnz(19, 'other'), ldxr(5, 20), stxr(6, 5, 20), b('end'), 'other', ...other, 'end']);
    step(machine, 0, 2);
    between(machine);
    step(machine, 0);
    return machine.readRegister(0, 'x6');
  }
  const far = [movz16(1, (DATA >>> 16) + 8)];

  test('passes when nothing has happened, and when another VP has only looked or has written elsewhere', () => {
    assert.equal(
      status(() => {}),
      0n,
    );
    assert.equal(
      status((m) => step(m, 1, 2), [ldr(5, 20, 0)]),
      0n,
    );
    assert.equal(
      status((m) => step(m, 1, 3), [...far, str(5, 1, 0)]),
      0n,
    );
  });

  test('fails when another VP has stored there, in whatever way, even what was there already', () => {
    for (const [name, store] of Object.entries({
      STR: [str(31, 20, 0)],
      STLR: [stlr(31, 20)],
      LDADD: [ldadd(31, 5, 20)],
      SWP: [swp(31, 5, 20)],
      STXR: [ldxr(5, 20), stxr(6, 5, 20)],
      'STR through another mapping': [movz16(1, (ALIAS + DATA) >>> 16), str(31, 1, 0)],
    }))
      assert.equal(
        status((m) => step(m, 1, 1 + store.length), store),
        1n,
        name,
      );
  });

  test('passes when the STXR of another VP has failed', () => {
    assert.equal(
      status((m) => step(m, 1, 3), [CLREX, stxr(6, 5, 20)]),
      0n,
    );
  });

  test('fails when a device has written there: also when the VP has not run meanwhile', () => {
    const write = (m: Machine): void => {
      m.writePhysical(DATA, new Uint8Array(8));
    };
    assert.equal(status(write), 1n);
    assert.equal(
      status(
        (m) => {
          step(m, 1);
          write(m);
        },
        [nop()],
      ),
      1n,
    );
  });

  test('passes after a device has written elsewhere while other VPs ran', () => {
    assert.equal(
      status(
        (m) => {
          step(m, 1, 2);
          m.writePhysical(DATA + 0x8_0000, new Uint8Array(8));
        },
        [nop(), nop()],
      ),
      0n,
    );
  });

  test('keeps what it knows in snapshots', () => {
    for (const [store, expected] of [
      [false, 0n],
      [true, 1n],
    ] as const)
      assert.equal(
        status(
          (m) => {
            step(m, 1);
            const snapshot = m.snapshot();
            step(m, 1);
            m.restore(snapshot);
            if (store) step(m, 1);
          },
          [str(31, 20, 0)],
        ),
        expected,
        `${store}`,
      );
  });
});

describe('events', () => {
  /** VP 0 waits in WFE at `wait`; the others run `other`. */
  const waiter = (other: readonly Item[], cpus = 2) => {
    const all = standing(cpus, [cbnz(19, 'other'), ldxr(5, 20), WFE, 'woken', b('end'), 'other', ...other, 'end', nop()]);
    const { machine } = all;
    // ERET and resets leave events behind: the first WFE takes them.
    step(machine, 0, 3);
    assert.equal(machine.readRegister(0, 'pc'), all.at('woken'));
    return all;
  };

  test('WFE waits: the VP does not run, and nothing else ends a machine in which all wait', () => {
    const machine = machineOf(2, [WFE, WFE]);
    const exit = machine.run({ instructions: LIMIT });
    assert.deepEqual([exit.kind, machine.vpState(0), machine.vpState(1)], ['halted', 'waiting', 'waiting']);
    const { instructions } = machine;
    assert.equal(machine.run({ instructions: 1000 }).kind, 'halted');
    assert.equal(machine.instructions, instructions);
  });

  test('SEV wakes every VP, SEVL none but its own', () => {
    const wake = (event: number): string[] => {
      const machine = machineOf(4, [
        cbz(19, 'sender'),
        WFE,
        movz(1, 1),
        ldadd(1, 2, 20),
        b('end'),
        'sender',
        ...pause(4000),
        event,
        ...pause(4000),
        WFI,
        'end',
      ]);
      machine.run({ instructions: LIMIT });
      return [0, 1, 2, 3].map((vp) => machine.vpState(vp));
    };
    assert.deepEqual(wake(SEV), ['waiting', 'off', 'off', 'off']);
    assert.deepEqual(wake(SEVL), ['waiting', 'waiting', 'waiting', 'waiting']);
  });

  test('an event that came before is not lost, and is used up', () => {
    const machine = machineOf(1, [SEV, SEV, WFE, movz(1, 7), str(1, 20, 0), WFE]);
    assert.equal(machine.run({ instructions: LIMIT }).kind, 'halted');
    assert.equal(dataAt(machine, 0), 7n);
  });

  test("a store to what the waiting VP's monitor marks wakes it, one elsewhere does not", () => {
    for (const [store, state] of [
      [[str(31, 20, 0)], 'running'],
      [[movz16(1, (DATA >>> 16) + 8), str(31, 1, 0)], 'waiting'],
      [[ldr(1, 20, 0), ldxr(1, 20)], 'waiting'],
      [[CLREX, stxr(6, 5, 20)], 'waiting'],
    ] as const) {
      const { machine } = waiter(store);
      assert.equal(machine.vpState(0), 'waiting');
      step(machine, 1, 1 + store.length);
      assert.equal(machine.vpState(0), state);
    }
  });

  test('a device that writes what the waiting VP marks wakes it', () => {
    const { machine } = waiter([nop()]);
    step(machine, 1, 2);
    assert.equal(machine.vpState(0), 'waiting');
    machine.writePhysical(DATA + 8, new Uint8Array(8));
    assert.equal(machine.vpState(0), 'running');
  });

  test('the event stream wakes WFE at its rate, and the time between is skipped', () => {
    // Bit 9 of a 25 MHz counter goes up every 40.96 us.
    const rounds = 50;
    const body = [movz(1, (9 << 4) | 4), msr(SYSREG.CNTKCTL_EL1, 1), ISB, WFE, ...repeat(rounds, [WFE])];
    for (const cpus of [1, 3]) {
      const machine = finish(machineOf(cpus, body));
      assert.ok(machine.now >= (rounds - 1) * 40_960 && machine.now <= (rounds + 3) * 40_960, `${machine.now} ns`);
      assert.ok(machine.instructions < cpus * 600, `${machine.instructions} instructions`);
    }
  });

  test('two VPs that hand each other a token by SEV and WFE do nothing in between', () => {
    const rounds = 100;
    // The token is the number of the VP whose turn it is.
    const body: Item[] = [
      movz(1, 1),
      eor(2, 19, 1),
      ...repeat(rounds, [
        'wait',
        ldar(5, 20),
        cmp(5, 19),
        bc(COND.EQ, 'mine'),
        WFE,
        b('wait'),
        'mine',
        ldadd(1, 3, 23),
        stlr(2, 20),
        SEV,
      ]),
    ];
    const setup: Item[] = [addImm(23, 20, 64)];
    const runs = [LIMIT, 1, 9].map((slice) => finish(machineOf(2, [...setup, ...body]), slice));
    for (const machine of runs) {
      assert.equal(dataAt(machine, 64), BigInt(2 * rounds));
      assert.ok(machine.instructions < 2 * rounds * 20 + 400, `${machine.instructions} instructions`);
    }
    assert.deepEqual(outcome(runs[1]), outcome(runs[0]));
    assert.deepEqual(outcome(runs[2]), outcome(runs[0]));
  });
});

/** Loops for about `n` instructions. */
function pause(n: number): Item[] {
  const label = `pause${labels++}`;
  return [movz(15, n >> 1), label, subsImm(15, 15, 1), bc(COND.NE, label)];
}
let labels = 0;

describe('turns', () => {
  test('a VP that spins with YIELD or waits with WFE does not hold up the others, however long turns are', () => {
    // VP 0 waits for the last VP, which waits for the one before it, and so on.
    const cpus = 4;
    const wait = (spin: readonly Item[]): Item[] => [
      ...[addImm(5, 19, 1), cmp(5, 22), bc(COND.EQ, 'set')],
      ...['look', ldar(6, 20), cmp(6, 5), bc(COND.EQ, 'set'), ...spin, b('look')],
      ...['set', stlr(19, 20), SEV],
    ];
    // Secondary VPs do not have x22.
    const start = movz(22, cpus);
    for (const spin of [[YIELD], [WFE]]) {
      const machine = finish(machineOf(cpus, [start, ...wait(spin)], { quantum: 1e9 }));
      assert.ok(machine.instructions < 1000, `${machine.instructions} instructions`);
    }
  });

  test('VPs that never wait get equal turns, and their run times add up to the time that passed', () => {
    const machine = machineOf(4, ['for ever', b('for ever')], { quantum: 1000 });
    machine.run({ instructions: 1_000_000 });
    const times = [0, 1, 2, 3].map((vp) => Number(machine.readHypervRegister(vp, 'HvRegisterVpRuntime')));
    // In 100 ns.
    for (const t of times) assert.ok(Math.abs(t - 2500) <= 10, `${times}`);
    assert.ok(Math.abs(times.reduce((a, t) => a + t) - 10_000) <= 4, `${times}`);
  });

  test('messages with barriers arrive whole', () => {
    // Odd VPs write what VP - 1 reads: sequence number at +0, data at +8 and +256.
    const rounds = 60;
    const body: Item[] = [
      ...[movz(1, 1), eor(2, 19, 1), cmp(2, 19), bc(COND.LO, 'writer')],
      ...[movz16(9, DATA >>> 16), ...address(9, 19), movz(4, 0)],
      ...['next', addImm(4, 4, 1), 'look', ldr(5, 9, 0), cmp(5, 4), YIELD, bc(COND.LO, 'look'), DMB],
      ...[ldr(6, 9, 8), ldr(7, 9, 256), cmp(6, 7), bc(COND.NE, 'torn'), cmp(6, 5), bc(COND.LO, 'torn')],
      ...[DMB, str(4, 9, 16), movz(8, rounds), cmp(4, 8), bc(COND.LO, 'next'), b('end')],
      ...['torn', movz(8, 0xbad), str(8, 20, 0xf00), b('end')],
      'writer',
      ...[mov(10, 2), movz16(9, DATA >>> 16), ...address(9, 10), movz(4, 0)],
      ...['again', addImm(4, 4, 1), str(4, 9, 8), nop(), str(4, 9, 256), DMB, str(4, 9, 0)],
      ...['taken', ldr(5, 9, 16), cmp(5, 4), YIELD, bc(COND.LO, 'taken'), DMB],
      ...[movz(8, rounds), cmp(4, 8), bc(COND.LO, 'again')],
      'end',
    ];
    for (const quantum of [1, 2, 5, 64, 50_000]) {
      const machine = finish(machineOf(4, body, { quantum }));
      assert.deepEqual([dataAt(machine, 0xf00), dataAt(machine, 0), dataAt(machine, 1024)], [0n, BigInt(rounds), BigInt(rounds)]);
    }
  });
});

/** Xn += 512 * Xm */
const address = (n: number, m: number): Item[] => Array.from({ length: 512 >> 6 }, () => add64(n, m));
/** ADD Xn, Xn, Xm, LSL #6 */
const add64 = (n: number, m: number): number => (0x8b001800 | (m << 16) | (n << 5) | n) >>> 0;

describe('in the debugger', () => {
  test('every VP has its own registers; the state of a VP says whether it runs, waits or is off', () => {
    const machine = machineOf(3, [cbz(19, 'end'), WFI, 'end', 'for ever', b('for ever')]);
    assert.deepEqual(
      [0, 1, 2].map((vp) => machine.vpState(vp)),
      ['running', 'off', 'off'],
    );
    machine.run({ instructions: 200_000 });
    assert.deepEqual(
      [0, 1, 2].map((vp) => machine.vpState(vp)),
      ['running', 'waiting', 'waiting'],
    );
    assert.deepEqual(
      [0, 1, 2].map((vp) => machine.readRegister(vp, 'x19')),
      [0n, 1n, 2n],
    );
    assert.deepEqual(
      [0, 1, 2].map((vp) => machine.readRegister(vp, 'MPIDR_EL1')),
      [0x80000000n, 0x80000001n, 0x80000002n],
    );
  });

  test('a step is one instruction of one VP; the others stand still', () => {
    const { machine } = standing(3, [nop(), nop(), nop()]);
    const before = [0, 1, 2].map((vp) => machine.readRegister(vp, 'pc') ?? 0n);
    step(machine, 1, 2);
    assert.deepEqual(
      [0, 1, 2].map((vp) => machine.readRegister(vp, 'pc')),
      [before[0], before[1] + 8n, before[2]],
    );
  });

  test('a VP that is off cannot be stepped', () => {
    const machine = machineOf(2, [nop()]);
    assert.deepEqual(machine.run({ stepVp: 1 }), { kind: 'halted' });
    assert.equal(machine.instructions, 0);
  });

  test('a breakpoint stops each VP that comes there, once each time, whatever the turns', () => {
    for (const quantum of [1, 3, 8, 50_000]) {
      const body: Item[] = [movz(4, 3), 'loop', subImm(4, 4, 1), 'here', nop(), cbnz(4, 'loop')];
      const at = BigInt(TEXT + (assemble(frame(3, body)).labels.get('here') ?? 0));
      const machine = machineOf(3, body, { quantum });
      machine.setBreakpoint(at);
      const hits = [0, 0, 0];
      let resumeVp: number | undefined;
      for (;;) {
        const exit = machine.run({ instructions: LIMIT, resumeVp });
        if (exit.kind === 'power-off') break;
        assert.ok(exit.kind === 'breakpoint' && exit.pc === at, exit.kind);
        hits[exit.vp]++;
        resumeVp = exit.vp;
      }
      assert.deepEqual(hits, [3, 3, 3], `turns of ${quantum}`);
    }
  });

  test('filters count the hits of all VPs together, change nothing, and go back with a snapshot', () => {
    const body: Item[] = [movz(4, 300), 'loop', subImm(4, 4, 1), 'here', nop(), ldadd(4, 5, 20), cbnz(4, 'loop')];
    const at = BigInt(TEXT + (assemble(frame(3, body)).labels.get('here') ?? 0));
    for (const quantum of [3, 64]) {
      const plain = finish(machineOf(3, body, { quantum }));
      const machine = machineOf(3, body, { quantum });
      machine.setBreakpoint(at, {
        clauses: [
          { condition: { op: 'eq', left: { op: 'register', name: 'x4' }, right: { op: 'const', value: 1000n } } },
          { hit: { op: '%', count: 400, counter: 7 } },
        ],
      });
      const first = machine.run({ instructions: LIMIT });
      assert.ok(first.kind === 'breakpoint' && first.pc === at && first.clauses?.join() === '1', first.kind);
      const snapshot = machine.snapshot();
      const counts: number[][] = [];
      for (let i = 0; i < 2; i++) {
        const seen = [machine.hits(7)];
        let resumeVp = first.vp;
        for (;;) {
          const exit = machine.run({ instructions: LIMIT, resumeVp });
          if (exit.kind === 'power-off') break;
          assert.ok(exit.kind === 'breakpoint');
          seen.push(machine.hits(7));
          resumeVp = exit.vp;
        }
        counts.push([...seen, machine.hits(7)]);
        assert.equal(machine.stateHash(), plain.stateHash(), `turns of ${quantum}`);
        machine.restore(snapshot);
      }
      // The one that it is at has been counted before the snapshot.
      assert.deepEqual(counts, [
        [400, 800, 900],
        [400, 800, 900],
      ]);
    }
  });

  test('going on from a breakpoint does not hide the hypercalls that follow', () => {
    // HvCallGetVpRegisters, badly: nobody minds.
    const body: Item[] = [nop(), movz(0, 1), movz(1, 0x50), hvc(1)];
    const at = BigInt(TEXT + (assemble(frame(1, ['here', ...body])).labels.get('here') ?? 0));
    const machine = machineOf(1, ['here', ...body]);
    machine.setBreakpoint(at);
    assert.equal(machine.run({ instructions: LIMIT }).kind, 'breakpoint');
    const exit = machine.run({ instructions: LIMIT, resumeVp: 0, hypercall: (c) => c.phase === 'entry' });
    assert.equal(exit.kind, 'hypercall');
    // And the stop at the call itself is passed over.
    assert.equal(machine.run({ instructions: LIMIT, resumeVp: 0, hypercall: (c) => c.phase === 'entry' }).kind, 'power-off');
  });
});

test('a turn is at least one instruction', () => {
  for (const quantum of [0, -1, 0.5, Number.NaN])
    assert.throws(() => machineOf(1, [], { quantum }), /quantum must be at least 1 instruction/);
});

test('a VP that was off starts with its timers off and nothing left of its interrupt interface', () => {
  const body: Item[] = [
    cbnz(19, 'first'),
    ...['off?', ...psci(4), movz(1, 1), movz(2, 0), hvc(0), cmp(0, 1), YIELD, bc(COND.NE, 'off?')],
    ...[...psci(3), movz(1, 1), adr(2, 'second'), movz(3, 0x55), hvc(0), b('end')],
    ...[
      'first',
      movz(1, 1),
      msr(SYSREG.CNTV_CTL_EL0, 1),
      msr(SYSREG.ICC_IGRPEN1_EL1, 1),
      movz(1, 0xf0),
      msr(SYSREG.ICC_PMR_EL1, 1),
    ],
    ...[mrs(2, SYSREG.ICC_PMR_EL1), str(2, 20, 32), b('off')],
    ...['second', movz16(20, DATA >>> 16), movz(19, 1), str(0, 20, 0), mrs(1, SYSREG.CNTV_CTL_EL0), str(1, 20, 8)],
    ...[mrs(1, SYSREG.ICC_PMR_EL1), str(1, 20, 16), mrs(1, SYSREG.ICC_IGRPEN1_EL1), str(1, 20, 24)],
    'end',
  ];
  const machine = finish(machineOf(2, body));
  assert.deepEqual(
    [0, 8, 16, 24, 32].map((at) => dataAt(machine, at)),
    [0x55n, 0n, 0n, 0n, 0xf0n],
  );
});

test('while all VPs spin with YIELD time goes by without them, and the same whatever the slices', () => {
  // Everybody waits for half a second (25 MHz), each counting how often it has looked.
  const body: Item[] = [
    ...[mrs(2, SYSREG.CNTVCT_EL0), movz16(3, 0xbf), movz(7, 1)],
    ...['look', YIELD, ldadd(7, 8, 20), mrs(5, SYSREG.CNTVCT_EL0), subs(1, 5, 5, 2), cmp(5, 3), bc(COND.LO, 'look')],
  ];
  const machine = finish(machineOf(3, body));
  assert.ok(machine.now > 0.5e9 && machine.now < 0.501e9, `${machine.now} ns`);
  assert.ok(machine.instructions < 15_000_000, `${machine.instructions} instructions`);
  const whole = outcome(machine);
  for (const slice of [977, 65_536]) assert.deepEqual(outcome(finish(machineOf(3, body), slice)), whole, `slices of ${slice}`);
  // One that works is not held up by those that spin.
  const work: Item[] = [
    ...[cbnz(19, 'wait'), movz(7, 1), ...repeat(20_000, [ldadd(7, 8, 20)]), str(7, 20, 8), b('done')],
    ...['wait', ldr(5, 20, 8), YIELD, cbz(5, 'wait')],
    'done',
  ];
  const working = finish(machineOf(3, work));
  assert.ok(working.now - working.instructions < 10_000, `${working.now} ns, ${working.instructions} instructions`);
});

test('a guest reads the same run time of its VP however the run is cut', () => {
  // HvCallGetVpRegisters for HvRegisterVpRuntime, fast: the answer is in the output registers; the hash covers them.
  const body: Item[] = [...repeat(20, [...pause(700), movz(0, 0x50), movk16(0, 1), hvc(1), ldadd(7, 8, 20)])];
  const whole = outcome(finish(machineOf(2, body)));
  for (const slice of [1, 97, 4000]) assert.deepEqual(outcome(finish(machineOf(2, body), slice)), whole, `slices of ${slice}`);
});

test('what ends a run is told once, at the end of a step too', () => {
  const machine = machineOf(1, []);
  let exit = machine.run({ stepVp: 0 });
  for (let n = 0; n < 1000 && exit.kind === 'step'; n++) exit = machine.run({ stepVp: 0 });
  assert.deepEqual([exit, machine.run({ instructions: 1 })], [{ kind: 'power-off' }, { kind: 'limit' }]);
});
