/** Breakpoints and their filters: conditions as code and as data say the same, hits are counted once, and what is under one may change. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { checkExpression, conditionRegister, evaluate, type Expression, type Operator } from '../../../emulator/cpu/condition.ts';
import type { Filter, HitCount } from '../../../emulator/cpu/filter.ts';
import { cellOf } from '../../../emulator/cpu/sysregs.ts';
import { VP } from '../../../emulator/cpu/vp-state.ts';
import * as asm from './engine-asm.ts';
import { type Bench, bench, DATA, DEVICE, TABLES, TEXT, VECTORS } from './engine-harness.ts';

const x = (n: number): Expression => ({ op: 'register', name: `x${n}` });
const number = (value: bigint | number): Expression => ({ op: 'const', value: BigInt(value) });
const op = (op: Operator, left: Expression, right: Expression): Expression => ({ op, left, right });
const load = (at: Expression, size: 1 | 2 | 4 | 8 = 8): Expression => ({ op: 'load', size, signed: false, at });
const when = (condition: Expression, hit?: HitCount): Filter => ({ clauses: [{ condition, ...(hit ? { hit } : {}) }] });
const NEVER = when(number(0));
const AT = BigInt(TEXT + 4);

/** x0 counts, with the breakpoint's place at its second instruction; x2 loads from x5. */
const loop = (b: Bench, words: readonly number[] = [asm.nop()]): void =>
  b.program([asm.addImm(0, 0, 1), ...words, asm.ldr(2, 5, 0), asm.b(-8 - 4 * words.length)]);
const looping = (threshold = 0): Bench => {
  const b = bench({ options: { engine: 'auto', threshold } });
  loop(b);
  b.cpu.vps[0].setX(5, BigInt(DATA));
  return b;
};

const OPERATORS: Operator[] = [
  ...(['add', 'sub', 'mul', 'div_s', 'div_u', 'rem_s', 'rem_u', 'and', 'or', 'xor', 'shl', 'shr_s', 'shr_u'] as const),
  ...(['eq', 'ne', 'lt_s', 'lt_u', 'gt_s', 'gt_u', 'le_s', 'le_u', 'ge_s', 'ge_u'] as const),
];
const REGISTERS = ['x0', 'x1', 'x2', 'x3', 'x5', 'sp', 'pc', 'pstate', 'SP_EL0', 'VBAR_EL1', 'TPIDR_EL1'];
const interesting = fc.oneof(
  fc.bigInt(-(1n << 63n), (1n << 64n) - 1n),
  fc.bigInt(-4n, 70n),
  fc.constantFrom(1n << 63n, (1n << 63n) - 1n, -1n, 0x8000_0000n, BigInt(DATA), BigInt(DATA + 4090)),
);
const leaf: fc.Arbitrary<Expression> = fc.oneof(
  interesting.map(number),
  fc.constantFrom(...REGISTERS).map((name): Expression => ({ op: 'register', name })),
);
const size = fc.constantFrom(1 as const, 2 as const, 4 as const, 8 as const);
const { expression } = fc.letrec<{ expression: Expression }>((tie) => {
  const some = tie('expression');
  return {
    expression: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      leaf,
      fc.tuple(fc.constantFrom(...OPERATORS), some, some).map(([o, l, r]) => op(o, l, r)),
      fc.tuple(size, fc.boolean(), fc.nat(0x1010), some).map(
        ([size, signed, at, some]): Expression => ({
          ...{ op: 'load', size, signed },
          // Somewhere near what is in the TLB, or wherever it comes out.
          at: at % 3 ? op('add', number(DATA + at), op('and', some, number(7))) : some,
        }),
      ),
      fc
        .tuple(fc.integer({ min: 1, max: 64 }), fc.boolean(), some)
        .map(([bits, signed, of]): Expression => ({ op: 'extend', bits, signed, of })),
      fc.tuple(some, some, some).map(([test, yes, no]): Expression => ({ op: 'select', test, yes, no })),
      { weight: 1, arbitrary: fc.constant<Expression>({ op: 'fault' }) },
    ),
  };
});

describe('conditions', () => {
  test('generated code, its slower half and the meaning of the data agree', () => {
    let generated = 0;
    const b = looping(30_000);
    fc.assert(
      fc.property(expression, fc.array(interesting, { minLength: 6, maxLength: 6 }), (e, values) => {
        loop(b);
        const [vp] = b.cpu.vps;
        vp.setX(28, 0n);
        vp.setX(5, BigInt(DATA));
        for (let i = 0; i < 4200; i++) b.ram.view.setUint8(DATA + i, i * 37);
        // The first time makes the shadow: then generated code is asked.
        b.cpu.setBreakpoint(AT, when({ op: 'select', test: x(28), yes: e, no: number(0) }));
        assert.equal(b.cpu.run(0, 16).kind, 'budget');
        const before = b.cpu.evaluations;
        vp.setX(28, 1n);
        for (const [i, v] of values.slice(0, 4).entries()) vp.setX(i, v);
        vp.sp = values[4] & ~15n;
        vp.nzcv = Number(values[5] & 0xf000_0000n);
        b.cpu.run(0, 1);
        const memory = (address: bigint, size: number): bigint | undefined => {
          const bytes = Array.from({ length: size }, (_, i) =>
            b.cpu.translateForDebugger(0, BigInt.asUintN(64, address + BigInt(i))),
          );
          const at = bytes.map((gpa) => (gpa === undefined ? -1 : b.ram.at(gpa)));
          if (at.includes(-1)) return undefined;
          return at.reduceRight((v, a) => (v << 8n) | BigInt(b.ram.bytes[a]), 0n);
        };
        const want = evaluate(e, { register: (name) => conditionRegister(vp, name), load: memory });
        const exit = b.cpu.run(0, 3);
        const { generated: now } = b.cpu.evaluations;
        generated += now - before.generated;
        if (want === undefined) assert.deepEqual(exit, { kind: 'breakpoint' });
        else if (want) assert.deepEqual(exit, { kind: 'breakpoint', clauses: 1 });
        else assert.equal(exit.kind, 'budget');
      }),
      { numRuns: 400, seed: 5 },
    );
    assert.ok(generated > 150, `${generated} in generated code`);
  });

  test('what they mean, by example', () => {
    const state = { register: () => 0x8000_0000_0000_0001n, load: (at: bigint) => (at === 8n ? 0xfffen : undefined) };
    const value = (e: Expression) => evaluate(e, state);
    assert.deepEqual(
      [
        value(op('shr_s', x(0), number(200))),
        value(op('shr_u', x(0), number(64))),
        value(op('shl', x(0), number(63))),
        value(op('div_s', number(1n << 63n), number(-1))),
        value(op('rem_s', number(-7), number(2))),
        value(op('div_u', x(0), number(0))),
        value(op('lt_s', x(0), number(0))),
        value(op('lt_u', x(0), number(0))),
        value({ op: 'load', size: 2, signed: true, at: number(8) }),
        value({ op: 'extend', bits: 4, signed: true, of: number(0x1f) }),
        value({ op: 'select', test: number(0), yes: load(number(0)), no: number(3) }),
        value(op('or', number(1), load(number(0)))),
      ],
      [
        (1n << 64n) - 1n,
        0n,
        1n << 63n,
        1n << 63n,
        (1n << 64n) - 1n,
        undefined,
        1n,
        0n,
        (1n << 64n) - 2n,
        (1n << 64n) - 1n,
        3n,
        undefined,
      ],
    );
  });

  test('what is no condition, or too large a one, is refused', () => {
    const { cpu } = bench();
    const set = (e: Expression, hit?: HitCount) => () => cpu.setBreakpoint(AT, when(e, hit));
    assert.throws(set({ op: 'register', name: 'CNTVCT_EL0' }), /cannot have the register CNTVCT_EL0/);
    assert.throws(set({ op: 'register', name: 'x31' }), RangeError);
    assert.throws(set({ op: 'load', size: 3 as 4, signed: false, at: x(0) }), /1, 2, 4 or 8 bytes, not 3/);
    assert.throws(set({ op: 'extend', bits: 65, signed: false, of: x(0) }), /65 bits/);
    assert.throws(set({ op: 'nand' as 'and', left: x(0), right: x(0) }), /no nand/);
    assert.throws(set(number(1), { op: '%', count: 0, counter: 0 }), /hit count is 1 to/);
    assert.throws(set(number(1), { op: '%', count: 1, counter: 4096 }), /counters are 0 to 4095, not 4096/);
    assert.throws(() => cpu.setBreakpoint(AT, { clauses: [] }), /1 to 31 clauses, not 0/);
    const deep = Array.from({ length: 200 }).reduce<Expression>((e) => op('add', e, number(1)), x(0));
    assert.throws(() => checkExpression(deep), /at most 2000 parts, 100 deep/);
    // Nothing was set.
    loop(bench());
    assert.equal(cpu.run(0, 1).kind, 'budget');
  });
});

describe('filters', () => {
  test('a false one never comes back to TypeScript once it has been met, and regions go on around it', () => {
    const b = looping();
    b.cpu.setBreakpoint(AT, when(op('eq', x(1), number(0x1234))));
    assert.equal(b.cpu.run(0, 400_000).kind, 'budget');
    const { generated, judged } = b.cpu.evaluations;
    assert.deepEqual([b.cpu.vps[0].x(0), generated, judged], [100_000n, 99_999, 1]);
    assert.equal(b.cpu.exits().breakpoint, 1);
    assert.ok((b.cpu.translator?.executed ?? 0) > 100_000);
    b.cpu.vps[0].setX(1, 0x1234n);
    assert.deepEqual(b.cpu.run(0, 400_000), { kind: 'breakpoint', clauses: 1 });
    assert.equal(b.cpu.vps[0].pc, AT);
  });

  test('counts of every kind; several clauses, each with its own; the bits say which stop', () => {
    const stopsOf = (hit: Omit<HitCount, 'counter'>): number[] => {
      const b = looping();
      b.cpu.setBreakpoint(AT, { clauses: [{ hit: { ...hit, counter: 9 } }] });
      const stops: number[] = [];
      for (let resume = false; b.cpu.run(0, 40 - b.ports.clock.now, { resume }).kind === 'breakpoint'; resume = true)
        stops.push(b.cpu.counters.get(9));
      assert.equal(b.cpu.counters.get(9), 10);
      return stops;
    };
    assert.deepEqual(stopsOf({ op: '%', count: 3 }), [3, 6, 9]);
    assert.deepEqual(stopsOf({ op: '==', count: 4 }), [4]);
    assert.deepEqual(stopsOf({ op: '>', count: 8 }), [9, 10]);
    assert.deepEqual(stopsOf({ op: '>=', count: 8 }), [8, 9, 10]);
    assert.deepEqual(stopsOf({ op: '<', count: 3 }), [1, 2]);
    assert.deepEqual(stopsOf({ op: '<=', count: 3 }), [1, 2, 3]);

    const b = looping();
    const odd = op('and', x(0), number(1));
    b.cpu.setBreakpoint(AT, {
      clauses: [
        { condition: odd, hit: { op: '%', count: 3, counter: 1 } },
        { condition: op('eq', x(0), number(5)) },
        { condition: number(0) },
      ],
    });
    const stops = [];
    for (let resume = false; ; resume = true) {
      const exit = b.cpu.run(0, 50 - b.ports.clock.now, { resume });
      if (exit.kind !== 'breakpoint') break;
      stops.push([b.cpu.vps[0].x(0), exit.clauses]);
    }
    // Hits are x0 = 1, 3, 5, 7, 9, 11: the third is also where the second clause stops.
    assert.deepEqual(stops, [
      [5n, 3],
      [11n, 1],
    ]);
  });

  test('counts come back with what was taken of them', () => {
    const { cpu } = looping();
    cpu.counters.set(3, 7);
    cpu.counters.set(4000, 2 ** 40);
    const taken = cpu.counters.take();
    cpu.counters.set(3, 8);
    cpu.counters.set(5, 1);
    cpu.counters.restore(taken);
    assert.deepEqual(cpu.counters.take(), [
      [3, 7],
      [4000, 2 ** 40],
    ]);
  });

  test('memory that is not mapped stops without a verdict and counts nothing; the debugger goes on', () => {
    const b = looping();
    b.cpu.setBreakpoint(AT, when(load(x(6)), { op: '>', count: 1, counter: 0 }));
    b.cpu.vps[0].setX(6, 1n << 40n);
    for (let i = 1n; i <= 3n; i++) {
      assert.deepEqual(b.cpu.run(0, 100, { resume: true }), { kind: 'breakpoint' });
      assert.deepEqual([b.cpu.vps[0].x(0), b.cpu.counters.get(0)], [i, 0]);
    }
    // A device is not read.
    b.cpu.vps[0].setX(6, BigInt(DEVICE));
    assert.deepEqual(b.cpu.run(0, 100, { resume: true }), { kind: 'breakpoint' });
    assert.deepEqual(b.accesses, []);
  });

  test('a value over the end of a page is read from both', () => {
    const b = looping();
    b.ram.view.setBigUint64(DATA + 4092, 0x1122334455667788n, true);
    b.cpu.setBreakpoint(AT, when(op('eq', load(number(DATA + 4092)), x(7))));
    assert.equal(b.cpu.run(0, 40).kind, 'budget');
    b.cpu.vps[0].setX(7, 0x1122334455667788n);
    assert.equal(b.cpu.run(0, 40).kind, 'breakpoint');
  });

  test('an instruction that misses the TLB, uses a device or faults and is tried again is one hit', () => {
    const b = bench();
    // An abort maps the page (the handler writes its descriptor) and comes back.
    const L2 = TABLES + 0x1000;
    b.ram.view.setBigUint64(TABLES + 8, BigInt(L2) | 3n, true);
    b.cpu.flushAll();
    const [vp] = b.cpu.vps;
    for (const [n, v] of [
      [5, BigInt(DATA)],
      [6, BigInt(DEVICE)],
      [7, 0x4000_0000n],
      [8, BigInt(L2)],
      [9, 0x401n],
    ] as const)
      vp.setX(n, v);
    b.place([asm.str(9, 8, 0), 0xd69f03e0], VECTORS + 0x200);
    b.program([asm.ldr(0, 5, 0), asm.ldr(1, 6, 8), asm.ldr(2, 7, 0), asm.hvc(0)]);
    for (let i = 0; i < 3; i++)
      b.cpu.setBreakpoint(BigInt(TEXT + 4 * i), { clauses: [{ hit: { op: '>', count: 99, counter: i } }] });
    assert.equal(b.cpu.run(0, 100).kind, 'hvc');
    assert.deepEqual(
      [0, 1, 2].map((n) => b.cpu.counters.get(n)),
      [1, 1, 1],
    );
    assert.equal(b.cpu.evaluations.generated + b.cpu.evaluations.judged, 4);
    assert.deepEqual(b.accesses, ['r8@8']);
    // Load, device, abort (counted as one), store, eret, load.
    assert.equal(b.ports.clock.state.instructions, 6);
  });

  test('a filter is for its virtual address: the same code elsewhere is not looked at', () => {
    const b = looping();
    b.cpu.setBreakpoint(AT, when(number(1)));
    assert.equal(b.cpu.run(0, 100).kind, 'breakpoint');
    b.cpu.vps[0].pc = BigInt(TEXT) + 0x4000_0000n;
    assert.equal(b.cpu.run(0, 10_000).kind, 'budget');
    // Filters on both.
    b.cpu.setBreakpoint(AT + 0x4000_0000n, when(op('eq', x(0), number(3000))));
    assert.equal(b.cpu.run(0, 10_000).kind, 'breakpoint');
    assert.equal(b.cpu.vps[0].x(0), 3000n);
  });

  test('a breakpoint takes the place of one that is there', () => {
    const b = looping();
    b.cpu.setBreakpoint(AT);
    b.cpu.setBreakpoint(AT, NEVER);
    assert.equal(b.cpu.run(0, 1000).kind, 'budget');
    b.cpu.setBreakpoint(AT, when(op('eq', x(0), number(300))));
    assert.equal(b.cpu.run(0, 1000).kind, 'breakpoint');
    b.cpu.clearBreakpoint(AT);
    assert.equal(b.cpu.run(0, 1000).kind, 'budget');
    b.cpu.setBreakpoint(AT);
    assert.deepEqual(b.cpu.run(0, 1000), { kind: 'breakpoint' });
  });

  test('of more breakpoints than there are shadows each is exact', () => {
    const b = bench({ options: { engine: 'interpreter' } });
    const count = 5000;
    b.program([...Array.from({ length: count }, () => asm.addImm(0, 0, 1)), asm.hvc(0)]);
    for (let i = 0; i < count; i++)
      b.cpu.setBreakpoint(BigInt(TEXT + 4 * i), { clauses: [{ hit: { op: '%', count: 4999, counter: 0 } }] });
    assert.equal(b.cpu.run(0, 100_000).kind, 'breakpoint');
    assert.equal(b.cpu.vps[0].x(0), 4998n);
    assert.equal(b.cpu.run(0, 100_000, { resume: true }).kind, 'hvc');
    assert.deepEqual([b.cpu.vps[0].x(0), b.cpu.counters.get(0), b.ports.clock.now], [5000n, 5000, 5000]);
  });
});

describe('what is under a breakpoint', () => {
  test('may be written by the guest: the new instruction runs', () => {
    const b = bench({ options: { engine: 'auto', threshold: 0 } });
    // x0 rounds; each writes another instruction (x6, x7 in turn) over the one with the breakpoint.
    b.program([
      asm.addImm(0, 0, 1),
      asm.strW(6, 5, 0),
      asm.nop(),
      asm.orrShifted(8, 31, 6, 0),
      asm.orrShifted(6, 31, 7, 0),
      asm.orrShifted(7, 31, 8, 0),
      asm.b(-24),
    ]);
    const [vp] = b.cpu.vps;
    vp.setX(5, BigInt(TEXT + 8));
    vp.setX(6, BigInt(asm.addImm(1, 1, 1)));
    vp.setX(7, BigInt(asm.addImm(2, 2, 1)));
    b.cpu.setBreakpoint(BigInt(TEXT + 8), when(number(0), { op: '>', count: 1, counter: 0 }));
    assert.equal(b.cpu.run(0, 7000).kind, 'budget');
    assert.deepEqual([vp.x(0), vp.x(1), vp.x(2)], [1000n, 500n, 500n]);
  });

  test('may write itself: the instruction that was there does what it did, and the next time it is another', () => {
    const b = bench();
    b.program([asm.strW(6, 5, 0), asm.addImm(0, 0, 1), asm.b(-8)]);
    const [vp] = b.cpu.vps;
    vp.setX(5, BigInt(TEXT));
    vp.setX(6, BigInt(asm.addImm(1, 1, 1)));
    b.cpu.setBreakpoint(BigInt(TEXT), NEVER);
    assert.equal(b.cpu.run(0, 30).kind, 'budget');
    assert.deepEqual([vp.x(0), vp.x(1)], [10n, 9n]);
  });

  test('may be another page by a change of the tables', () => {
    const b = looping();
    const L2 = TABLES + 0x1000;
    const block = (gpa: number): bigint => BigInt(gpa) | 0x401n;
    b.ram.view.setBigUint64(L2, block(0), true);
    b.ram.view.setBigUint64(L2 + 8, block(0x20_0000), true);
    b.ram.view.setBigUint64(TABLES, BigInt(L2) | 3n, true);
    b.place([asm.addImm(3, 3, 1)], 0x80_0000 + TEXT + 4);
    for (const at of [TEXT, TEXT + 8, TEXT + 12]) b.ram.view.setUint32(0x80_0000 + at, b.ram.view.getUint32(at, true), true);
    b.cpu.flushAll();
    b.cpu.setBreakpoint(AT, when(op('eq', x(0), number(2000))));
    assert.equal(b.cpu.run(0, 4000).kind, 'budget');
    b.ram.view.setBigUint64(L2, block(0x80_0000), true);
    b.cpu.flushAll();
    assert.equal(b.cpu.run(0, 8000).kind, 'breakpoint');
    assert.deepEqual([b.cpu.vps[0].x(0), b.cpu.vps[0].x(3), b.cpu.vps[0].pc], [2000n, 999n, AT]);
  });

  test('may be a branch, near or far, taken or not; a call; a load relative to PC', () => {
    const body = (): number[] => [
      asm.addImm(0, 0, 1),
      asm.subs(1, 31, 0, 4),
      asm.bcond(0, 20),
      asm.bl(12),
      0x58000089, // ldr x9, .+16
      asm.b(-20),
      asm.addImm(1, 1, 1),
      asm.ret(),
    ];
    const of = (breakpoints: readonly number[]) => {
      const b = bench({ options: { engine: 'auto', threshold: 0 } });
      // The loop goes over the end of a page.
      b.program(body(), TEXT + 0xff0);
      b.cpu.vps[0].setX(4, 2000n);
      for (const i of breakpoints) b.cpu.setBreakpoint(BigInt(TEXT + 0xff0 + 4 * i), NEVER);
      assert.equal(b.cpu.run(0, 12_345).kind, 'budget');
      return Buffer.from(b.cpu.vps[0].architecturalBytes()).toString('hex');
    };
    const want = of([]);
    for (let i = 0; i < 8; i++) assert.equal(of([i]), want, `instruction ${i}`);
    assert.equal(of([0, 1, 2, 3, 4, 5, 6, 7]), want);
  });

  test('a conditional jump to itself counts every time', () => {
    const b = bench();
    b.program([asm.b(0)]);
    b.cpu.setBreakpoint(BigInt(TEXT), { clauses: [{ hit: { op: '==', count: 500, counter: 0 } }] });
    assert.equal(b.cpu.run(0, 10_000).kind, 'breakpoint');
    assert.equal(b.ports.clock.now, 499);
    assert.equal(b.cpu.run(0, 10_000, { resume: true }).kind, 'budget');
    // The one that was passed over had been counted before.
    assert.equal(b.cpu.counters.get(0), 500 + 9999);
  });

  test('interrupts come between the breakpoint and what is before it, never between it and its instruction', () => {
    const b = looping();
    b.place([asm.addImm(10, 10, 1), asm.hvc(1), 0xd69f03e0], VECTORS + 0x280);
    const [vp] = b.cpu.vps;
    vp.setU32(VP.PSTATE, vp.u32(VP.PSTATE) & ~0x3c0);
    vp.setU64(cellOf('VBAR_EL1'), BigInt(VECTORS));
    b.cpu.setBreakpoint(AT, { clauses: [{ hit: { op: '==', count: 0xffffffff, counter: 0 } }] });
    for (let n = 1; n < 60; n++) {
      assert.equal(b.cpu.run(0, n).kind, 'budget');
      b.cpu.setIrq(0, true);
      assert.equal(b.cpu.run(0, 100).kind, 'hvc');
      b.cpu.setIrq(0, false);
      b.cpu.retireAndAdvance(0);
    }
    // Once for each round that has got past it.
    const past = vp.pc === BigInt(TEXT + 4) ? 1 : 0;
    assert.equal(b.cpu.counters.get(0), Number(vp.x(0)) - past);
  });
});

describe('watchpoints', () => {
  /** x0 counts; stores it at x5 and at x5 + 8, and loads from x5 + 16. */
  const storing = (): Bench => {
    const b = bench({ options: { engine: 'auto', threshold: 0 } });
    b.program([asm.addImm(0, 0, 1), asm.str(0, 5, 0), asm.str(0, 5, 8), asm.ldr(2, 5, 16), asm.b(-16)]);
    b.cpu.vps[0].setX(5, BigInt(DATA));
    return b;
  };
  const DATA_END = BigInt(DATA + 8);

  test('a filter is asked when the access has been made; a false one does not come back; hits are counted', () => {
    const b = storing();
    const filter = when(op('eq', load(number(DATA)), number(700)));
    b.cpu.setWatchpoint({ address: BigInt(DATA), size: 8, access: 'w', id: 5, filter });
    b.cpu.setWatchpoint({
      address: BigInt(DATA),
      size: 4,
      access: 'rw',
      filter: { clauses: [{ hit: { op: '==', count: 900, counter: 2 } }] },
    });
    assert.deepEqual(b.cpu.run(0, 100_000), {
      ...{ kind: 'watchpoint', pc: AT, address: BigInt(DATA), access: 'w', hits: [{ id: 5, judged: true }] },
    });
    assert.deepEqual([b.cpu.vps[0].x(0), b.cpu.counters.get(2), b.ports.clock.now], [700n, 700, 5 * 699 + 2]);
    assert.deepEqual(b.cpu.run(0, 100_000), { kind: 'watchpoint', pc: AT, address: BigInt(DATA), access: 'w' });
    assert.deepEqual([b.cpu.vps[0].x(0), b.cpu.counters.get(2)], [900n, 900]);
    b.cpu.clearWatchpoint(BigInt(DATA), 4);
    assert.equal(b.cpu.run(0, 100_000).kind, 'budget');
  });

  test('without a filter, or where it has no value, the debugger has to look', () => {
    const b = storing();
    b.cpu.setWatchpoint({ address: BigInt(DATA + 8), size: 1, access: 'w', id: 1 });
    b.cpu.setWatchpoint({ address: BigInt(DATA + 8), size: 8, access: 'w', id: 2, filter: when(load(number(1n << 40n))) });
    b.cpu.setWatchpoint({ address: BigInt(DATA + 8), size: 8, access: 'r', id: 3 });
    const hits = [
      { id: 1, judged: false },
      { id: 2, judged: false },
    ];
    assert.deepEqual(b.cpu.run(0, 100), { kind: 'watchpoint', pc: BigInt(TEXT + 8), address: DATA_END, access: 'w', hits });
  });

  test('where only writes are watched reads stay in the TLB; where reads are, none do', () => {
    const misses = (access: 'w' | 'r'): number => {
      const b = storing();
      b.cpu.setWatchpoint({ address: BigInt(DATA + 100), size: 1, access });
      assert.equal(b.cpu.run(0, 5000).kind, 'budget');
      return b.cpu.exits().miss;
    };
    assert.deepEqual([misses('w') < 2010, misses('r')], [true, 3000]);
  });

  test('state and counts are the same with watchpoints that do not stop', () => {
    const run = (watch: boolean): unknown[] => {
      const b = storing();
      if (watch) b.cpu.setWatchpoint({ address: BigInt(DATA), size: 16, access: 'rw', filter: NEVER });
      for (let n = 1; n < 300; n++) b.cpu.run(0, n);
      return [
        b.ports.clock.state.instructions,
        Buffer.from(b.cpu.vps[0].architecturalBytes()).toString('hex'),
        b.ram.read(DATA, 32),
      ];
    };
    assert.deepEqual(run(true), run(false));
  });

  test('writes beside what is watched do not come back, whatever kind they are; those that touch it do', () => {
    const b = bench({ options: { engine: 'auto', threshold: 0 } });
    // x5 is beside, x6 at the watched 8 bytes: store, pair, byte, write-back, exclusive, atomic add.
    const ldadd = (rs: number, rt: number, rn: number): number => (0xf8e00000 | (rs << 16) | (rn << 5) | rt) >>> 0;
    const body = [
      ...[asm.addImm(0, 0, 1), asm.str(0, 5, 0), asm.stp(0, 1, 5, 16), asm.strPost(0, 7, 8), asm.strPost(0, 7, -8)],
      ...[asm.ldxr(8, 5), asm.stxr(9, 0, 5), ldadd(0, 10, 5), asm.strW(0, 5, 40)],
    ];
    b.program([...body, asm.b(-4 * body.length), asm.str(0, 6, 0), asm.stp(0, 1, 11, 0), asm.hvc(0)]);
    const [vp] = b.cpu.vps;
    for (const [n, at] of [
      [5, DATA],
      [6, DATA + 64],
      [7, DATA + 128],
      [11, DATA + 56],
    ])
      vp.setX(n, BigInt(at));
    b.cpu.setWatchpoint({ address: BigInt(DATA + 64), size: 8, access: 'w' });
    assert.equal(b.cpu.run(0, 500).kind, 'budget');
    const misses = b.cpu.exits().miss;
    assert.equal(b.cpu.run(0, 100_000).kind, 'budget');
    assert.equal(b.cpu.exits().miss, misses);
    // What was clean is noticed to be written.
    b.ram.clean();
    b.cpu.run(0, 20);
    assert.deepEqual(b.ram.dirtyPages(), [DATA >> 12]);
    vp.pc = BigInt(TEXT + 4 * (body.length + 1));
    const hit = (i: number) => ({
      kind: 'watchpoint',
      pc: BigInt(TEXT + 4 * (body.length + i)),
      address: BigInt(DATA + 64),
      access: 'w',
    });
    assert.deepEqual(b.cpu.run(0, 100), hit(1));
    assert.deepEqual(b.cpu.run(0, 100), hit(2));
    assert.equal(b.cpu.run(0, 100).kind, 'hvc');
  });

  test('all of it works on when the machine moves into another memory', () => {
    const b = storing();
    b.cpu.setBreakpoint(AT, when(op('eq', x(0), number(500)), { op: '==', count: 1, counter: 3 }));
    b.cpu.setWatchpoint({ address: BigInt(DATA + 64), size: 8, access: 'w' });
    assert.equal(b.cpu.run(0, 400).kind, 'budget');
    // The harness has written its tables behind the memory's back.
    b.ram.touch(TABLES, 4096);
    b.ram.renew();
    b.cpu.setWatchpoint({ address: BigInt(DATA + 8), size: 1, access: 'w', filter: when(op('eq', x(0), number(300))) });
    const hit = { kind: 'watchpoint', pc: BigInt(TEXT + 8), address: DATA_END, access: 'w' };
    assert.deepEqual(b.cpu.run(0, 10_000), hit);
    assert.equal(b.cpu.vps[0].x(0), 300n);
    assert.deepEqual(b.cpu.run(0, 10_000), { kind: 'breakpoint', clauses: 1 });
    assert.deepEqual([b.cpu.vps[0].x(0), b.cpu.counters.get(3)], [500n, 1]);
  });

  test('what cannot be watched is refused', () => {
    const { cpu } = bench();
    const watch = (size: number, filter?: Filter) => () =>
      cpu.setWatchpoint({ address: 0n, size, access: 'w', ...(filter ? { filter } : {}) });
    assert.throws(watch(0), /0 bytes: a watchpoint has 1 to 16777216/);
    assert.throws(watch(2 ** 25), RangeError);
    assert.throws(watch(8, { clauses: [] }), RangeError);
  });
});
