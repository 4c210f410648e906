/** FEAT_BTI: guarded pages, PSTATE.BTYPE, Branch Target exceptions, in the interpreter and in regions. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { refresh } from '../../../emulator/cpu/exceptions.ts';
import { cellOf } from '../../../emulator/cpu/sysregs.ts';
import { PSTATE, VP } from '../../../emulator/cpu/vp-state.ts';
import * as asm from './engine-asm.ts';
import { type Bench, bench, TABLES, TEXT, USER, VECTORS } from './engine-harness.ts';

/** The first GiB again, with the GP bit. */
const GUARDED = 0x4000_0000;
const GP = 1n << 50n;
const [X5, X6, X16] = [5, 6, 16];
const TARGET = TEXT + 0x1040;
const OTHER = TEXT + 0x1080;
const blr = (rn: number) => (0xd63f0000 | (rn << 5)) >>> 0;
/** CSEL X5, X6, X5, EQ */
const CSEL = 0x9a850000 + (5 | (6 << 5));
const [PL, EQ] = [5, 0];

const JUMPS = {
  'br x5': { word: asm.br(X5), btype: (guarded: boolean) => (guarded ? 3 : 1) },
  'br x16': { word: asm.br(X16), btype: () => 1 },
  'blr x5': { word: blr(X5), btype: () => 2 },
  'blr x16': { word: blr(X16), btype: () => 2 },
  'ret x5': { word: 0xd65f0000 | (X5 << 5), btype: () => 0 },
  'braa x5, x6': { word: 0xd71f0800 | (X5 << 5) | X6, btype: (guarded: boolean) => (guarded ? 3 : 1) },
  'blraaz x5': { word: 0xd63f081f | (X5 << 5), btype: () => 2 },
} as const;

/** What may be landed on with BTYPE 1, 2, 3 (Arm ARM C6.2 "BTI", D8.4.5), and with 3 while SCTLR_EL1.BTn is set. */
const LANDINGS = {
  bti: [0xd503241f, false, false, false, false],
  'bti c': [0xd503245f, true, true, false, false],
  'bti j': [0xd503249f, true, false, true, true],
  'bti jc': [0xd50324df, true, true, true, true],
  paciasp: [0xd503233f, true, true, true, false],
  pacibsp: [0xd503237f, true, true, true, false],
  autiasp: [0xd50323bf, false, false, false, false],
  nop: [asm.nop(), false, false, false, false],
  ldr: [asm.ldr(9, 31, 0), false, false, false, false],
  brk: [0xd4200000, true, true, true, true],
  hlt: [0xd4400000, true, true, true, true],
} as const;

function machine(el: 0 | 1, engine: 'interpreter' | 'auto', strict: boolean): Bench {
  const b = bench({ el, options: { engine, threshold: 0 } });
  b.ram.view.setBigUint64(TABLES + 8, b.ram.view.getBigUint64(TABLES, true) | GP, true);
  if (el === 0) b.ram.view.setBigUint64(TABLES, b.ram.view.getBigUint64(TABLES, true) & ~USER, true);
  const [vp] = b.cpu.vps;
  if (el === 0) {
    // EL0 may not have what EL1 executes: the vectors' block is EL1's, two others are the program's.
    const user = 0x401n | USER;
    b.ram.view.setBigUint64(TABLES + 8, user | GP, true);
    b.ram.view.setBigUint64(TABLES + 24, user, true);
  }
  if (strict) vp.setU64(cellOf('SCTLR_EL1'), vp.u64(cellOf('SCTLR_EL1')) | (el === 0 ? 1n << 35n : 1n << 36n));
  refresh(vp);
  b.cpu.stateChanged();
  b.place([asm.hvc(1)], VECTORS + 0x200);
  b.place([asm.hvc(1)], VECTORS + 0x400);
  return b;
}

/** Virtual address of `at` in a guarded page or not. */
const va = (el: 0 | 1, guarded: boolean, at: number): bigint => BigInt(at + (guarded ? GUARDED : el === 0 ? 3 * 0x4000_0000 : 0));

const syndrome = (b: Bench) => {
  const [vp] = b.cpu.vps;
  return {
    ec: vp.u32(cellOf('ESR_EL1')) >>> 26,
    iss: vp.u32(cellOf('ESR_EL1')) & 0x1ffffff,
    elr: vp.u64(cellOf('ELR_EL1')),
    spsr: (vp.u32(cellOf('SPSR_EL1')) & PSTATE.BTYPE) >>> 10,
  };
};

/** Jumps many times to BTI jc, then to `landing`: how many instructions until an exception or the end, and which. */
function jumpLoop(b: Bench, el: 0 | 1, from: boolean, to: boolean, jump: keyof typeof JUMPS, landing: keyof typeof LANDINGS) {
  const [vp] = b.cpu.vps;
  const x16 = jump.endsWith('x16');
  b.place([0xd50324df, asm.ret()], TARGET);
  b.place([LANDINGS[landing][0], asm.ret()], OTHER);
  b.place(
    [JUMPS[jump].word, asm.subsImm(1, 1, 1), x16 ? CSEL + 11 : CSEL, asm.bcond(PL, -12), 0xd4000001].map((w, i) =>
      // CSEL X16, X6, X16, EQ
      x16 && i === 2 ? (0x9a800000 | (X16 << 16) | (EQ << 12) | (X6 << 5) | X16) >>> 0 : w >>> 0,
    ),
    TEXT,
  );
  vp.setU32(VP.PSTATE, el === 0 ? PSTATE.EL0T : PSTATE.EL1H | PSTATE.DAIF);
  refresh(vp);
  b.cpu.stateChanged();
  const before = b.ports.clock.state.instructions;
  vp.pc = va(el, from, TEXT);
  vp.setX(X5, va(el, to, TARGET));
  vp.setX(X16, va(el, to, TARGET));
  vp.setX(X6, va(el, to, OTHER));
  vp.setX(30, va(el, from, TEXT + 4));
  vp.setX(1, 500n);
  // What a landing with SP as its base loads is there for EL0, too.
  vp.sp = va(el, from, TEXT);
  const exit = b.cpu.run(0, 1e6);
  assert.deepEqual(exit, { kind: 'hvc', imm: 1 });
  return { ...syndrome(b), instructions: b.ports.clock.state.instructions - before };
}

describe('jumps to registers, in and into guarded pages', () => {
  for (const el of [1, 0] as const)
    for (const strict of [false, true])
      test(`EL${el}, SCTLR_EL1.BT${el} = ${Number(strict)}`, () => {
        const machines = (['interpreter', 'auto'] as const).map((engine) => machine(el, engine, strict));
        for (const jump of Object.keys(JUMPS) as (keyof typeof JUMPS)[])
          for (const landing of Object.keys(LANDINGS) as (keyof typeof LANDINGS)[])
            for (const from of [false, true])
              for (const to of [false, true]) {
                const btype = JUMPS[jump].btype(from);
                const [word, one, two, three, three1] = LANDINGS[landing];
                const lands = !to || [true, one, two, strict ? three1 : three][btype];
                const [a, b] = machines.map((m) => jumpLoop(m, el, from, to, jump, landing));
                const name = `${jump} ${from ? 'from a guarded page ' : ''}to ${landing}${to ? ' in a guarded page' : ''}`;
                assert.deepEqual(b, a, name);
                const at = va(el, to, OTHER);
                const want = !lands
                  ? { ec: 0x0d, iss: btype, elr: at, spsr: btype }
                  : word === LANDINGS.brk[0]
                    ? { ec: 0x3c, iss: 0, elr: at, spsr: btype }
                    : word === LANDINGS.hlt[0]
                      ? { ec: 0, iss: 0, elr: at, spsr: 0 }
                      : { ec: 0x15, iss: 0, elr: va(el, from, TEXT + 20), spsr: 0 };
                const { instructions: _, ...seen } = a;
                assert.deepEqual(seen, want, name);
              }
      });
});

test('a region does not jump to its own code where it may not', () => {
  const machines = (['interpreter', 'auto'] as const).map((engine) => machine(1, engine, true));
  const run = (b: Bench, word: number, jump: number) => {
    const [vp] = b.cpu.vps;
    vp.bytes.fill(0, 0, VP.PC);
    vp.setU32(VP.PSTATE, PSTATE.EL1H | PSTATE.DAIF);
    vp.nzcv = 0;
    b.place([asm.ret()], OTHER);
    b.place([asm.bl(OTHER - TEXT), word, asm.subsImm(1, 1, 1), asm.bcond(PL, -12), jump], TEXT);
    vp.pc = va(1, true, TEXT);
    vp.setX(1, 3000n);
    vp.setX(X5, va(1, true, TEXT + 4));
    vp.setX(X16, va(1, true, TEXT + 4));
    const exit = b.cpu.run(0, 50_000);
    return { exit: exit.kind, ...syndrome(b), state: Buffer.from(vp.architecturalBytes()).toString('hex'), made: made(b) };
  };
  const made = (b: Bench) => b.cpu.translator?.statistics.made ?? 0;
  for (const [name, { word: jump, btype }] of Object.entries(JUMPS).slice(0, 4))
    for (const [landing, [word, one, two, , three1]] of Object.entries(LANDINGS).slice(0, 8)) {
      const { made: none, ...a } = run(machines[0], word, jump);
      const { made: regions, ...b } = run(machines[1], word, jump);
      assert.deepEqual(b, a, `${name}, ${landing}`);
      assert.ok(none === 0 && regions > 0);
      assert.equal(a.exit, [true, one, two, three1][btype(true)] ? 'budget' : 'hvc', `${name}, ${landing}`);
    }
});

test('BTYPE is there between the jump and its landing, whatever comes between: budget, step, interrupt, ERET, a snapshot', () => {
  const btypeOf = (b: Bench) => (b.cpu.vps[0].u32(VP.PSTATE) & PSTATE.BTYPE) >>> 10;
  const jumping = (engine: 'interpreter' | 'auto'): Bench => {
    const b = machine(1, engine, true);
    b.place([0xd503245f, asm.nop(), asm.ret()], TARGET);
    b.place([blr(X5), asm.b(-4)], TEXT);
    b.cpu.vps[0].pc = va(1, true, TEXT);
    b.cpu.vps[0].setX(X5, va(1, true, TARGET));
    return b;
  };
  for (const engine of ['interpreter', 'auto'] as const) {
    // Five instructions a round: BLR, BTI, NOP, RET, B.
    const b = jumping(engine);
    b.cpu.run(0, 20_000);
    const seen = Array.from({ length: 7 }, () => {
      b.cpu.run(0, 1);
      return btypeOf(b);
    });
    assert.deepEqual(seen, [2, 0, 0, 0, 0, 2, 0]);
    for (const n of [5001, 10_000, 5000, 4999, 5002]) {
      const at = (20_007 + n) % 5;
      const c = jumping(engine);
      c.cpu.run(0, 20_007 + n);
      assert.equal(btypeOf(c), at === 1 ? 2 : 0);
    }
    // The state is all there is: another machine goes on from it.
    const c = jumping(engine);
    c.cpu.run(0, 20_001);
    const d = jumping(engine);
    d.cpu.vps[0].bytes.set(c.cpu.vps[0].bytes);
    d.cpu.stateChanged();
    d.place([asm.nop()], TARGET);
    d.cpu.run(0, 1);
    assert.deepEqual(syndrome(d), { ec: 0x0d, iss: 2, elr: va(1, true, TARGET), spsr: 2 });

    // An interrupt before the landing: SPSR has BTYPE, the handler does not, and ERET gives it back.
    const e = jumping(engine);
    e.cpu.vps[0].setU32(VP.PSTATE, PSTATE.EL1H);
    e.place([asm.nop(), 0xd69f03e0], VECTORS + 0x280);
    e.cpu.run(0, 20_001);
    e.cpu.setIrq(0, true);
    e.cpu.run(0, 1);
    assert.deepEqual([syndrome(e).spsr, syndrome(e).elr, btypeOf(e)], [2, va(1, true, TARGET), 0]);
    e.cpu.setIrq(0, false);
    e.cpu.run(0, 1);
    assert.deepEqual([btypeOf(e), e.cpu.vps[0].pc], [2, va(1, true, TARGET)]);
    e.cpu.run(0, 1);
    assert.deepEqual([btypeOf(e), e.cpu.vps[0].pc], [0, va(1, true, TARGET + 4)]);
  }
});

test('a breakpoint on the landing is hit before the Branch Target exception', () => {
  const b = machine(1, 'auto', true);
  b.place([asm.nop(), asm.ret()], TARGET);
  b.program([blr(X5)]);
  b.cpu.vps[0].pc = va(1, true, TEXT);
  b.cpu.vps[0].setX(X5, va(1, true, TARGET));
  b.cpu.setBreakpoint(va(1, true, TARGET));
  assert.deepEqual(b.cpu.run(0, 100), { kind: 'breakpoint' });
  assert.deepEqual(b.cpu.run(0, 100, { resume: true }), { kind: 'hvc', imm: 1 });
  assert.deepEqual(syndrome(b), { ec: 0x0d, iss: 2, elr: va(1, true, TARGET), spsr: 2 });
});

test('the same page, guarded in one place and not in the other, changes in both', () => {
  for (const engine of ['interpreter', 'auto'] as const) {
    const b = machine(1, engine, true);
    const [vp] = b.cpu.vps;
    const call = (guarded: boolean): number => {
      b.place([blr(X5), asm.subsImm(1, 1, 1), asm.bcond(1, -8), asm.hvc(0)], TEXT);
      vp.pc = BigInt(TEXT);
      vp.setX(1, 1000n);
      vp.setX(X5, va(1, guarded, TARGET));
      const exit = b.cpu.run(0, 1e5);
      return exit.kind === 'hvc' ? exit.imm : -1;
    };
    b.place([asm.nop(), asm.ret()], TARGET);
    assert.deepEqual([call(false), call(true), call(false)], [0, 1, 0]);
    b.place([0xd503245f, asm.ret()], TARGET);
    assert.deepEqual([call(false), call(true)], [0, 0]);
    b.place([0xd503249f, asm.ret()], TARGET);
    assert.deepEqual([call(false), call(true)], [0, 1]);
  }
});
