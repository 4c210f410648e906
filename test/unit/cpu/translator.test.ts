/** What regions must not hide: breakpoints, changed code and mappings, interrupts, the exact count. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VP } from '../../../emulator/cpu/vp-state.ts';
import * as asm from './engine-asm.ts';
import { type Bench, bench, DATA, TABLES, TEXT, VECTORS } from './engine-harness.ts';

const hot = (): Bench => bench({ options: { engine: 'auto', threshold: 0 } });
const plain = (): Bench => bench({ options: { engine: 'interpreter' } });
const made = (b: Bench): number => b.cpu.translator?.statistics.made ?? 0;
const alive = (b: Bench): number => b.cpu.translator?.statistics.regions ?? 0;
const state = (b: Bench) => [b.ports.clock.state.instructions, Buffer.from(b.cpu.vps[0].architecturalBytes()).toString('hex')];

/** x0 counts to x1, through a function on the next page. */
const FUNCTION = TEXT + 0x1000;
const loop = (b: Bench, count: number): void => {
  b.place([asm.addImm(2, 2, 3), asm.ret()], FUNCTION);
  b.program([asm.addImm(0, 0, 1), asm.bl(FUNCTION - TEXT - 4), asm.subs(1, 3, 0, 1), asm.bcond(1, -12), asm.hvc(0)]);
  b.cpu.vps[0].setX(1, BigInt(count));
};

test('a loop with a call over pages runs in regions, to the same state at every count', () => {
  const whole = hot();
  loop(whole, 5000);
  assert.equal(whole.cpu.run(0, 1e6).kind, 'hvc');
  assert.ok(made(whole) > 0 && (whole.cpu.translator?.executed ?? 0) > 25_000);
  assert.deepEqual([whole.cpu.vps[0].x(0), whole.cpu.vps[0].x(2)], [5000n, 15000n]);
  const [a, b] = [plain(), hot()];
  for (const m of [a, b]) loop(m, 100_000);
  for (let n = 4000; n < 4040; n++) {
    for (const m of [a, b]) m.cpu.run(0, n);
    assert.deepEqual(state(b), state(a), `runs of ${n}`);
  }
});

test('a breakpoint set in the middle of a region is hit, and the region comes back when it is cleared', () => {
  const b = hot();
  loop(b, 1_000_000);
  b.cpu.run(0, 20_000);
  assert.ok(alive(b) > 0);
  const x0 = b.cpu.vps[0].x(0);
  b.cpu.setBreakpoint(BigInt(FUNCTION));
  assert.deepEqual(b.cpu.run(0, 20_000), { kind: 'breakpoint' });
  assert.equal(b.cpu.vps[0].pc, BigInt(FUNCTION));
  assert.ok(b.cpu.vps[0].x(0) <= x0 + 1n);
  for (let i = 1n; i <= 5n; i++) {
    const before = b.cpu.vps[0].x(0);
    assert.deepEqual(b.cpu.run(0, 20_000, { resume: true }), { kind: 'breakpoint' });
    assert.equal(b.cpu.vps[0].x(0), before + 1n);
  }
  b.cpu.clearBreakpoint(BigInt(FUNCTION));
  const executed = b.cpu.translator?.executed ?? 0;
  assert.equal(b.cpu.run(0, 60_000, { resume: true }).kind, 'budget');
  assert.ok((b.cpu.translator?.executed ?? 0) > executed + 40_000);
});

test('code that a host or the guest itself writes is executed as it is now', () => {
  const b = hot();
  loop(b, 1_000_000);
  b.cpu.run(0, 20_000);
  const regions = alive(b);
  b.place([asm.addImm(2, 2, 5)], FUNCTION);
  assert.ok(alive(b) < regions);
  const [x0, x2] = [b.cpu.vps[0].x(0), b.cpu.vps[0].x(2)];
  b.cpu.run(0, 12_000);
  assert.equal((b.cpu.vps[0].x(2) - x2) / (b.cpu.vps[0].x(0) - x0), 5n);

  // Every 256th round stores one of two instructions over the function's first.
  const [p, q] = [plain(), hot()];
  for (const m of [p, q]) {
    m.place([asm.addImm(2, 2, 3), asm.ret()], FUNCTION);
    m.ram.write(DATA, new Uint8Array(new Uint32Array([asm.addImm(2, 2, 7), asm.addImm(2, 2, 11)]).buffer));
    m.program([
      asm.addImm(0, 0, 1),
      asm.bl(FUNCTION - TEXT - 4),
      asm.ands(1, 4, 0, 5),
      asm.bcond(1, -12),
      asm.ldrW(6, 7, 0),
      asm.strW(6, 8, 0),
      asm.ldrW(6, 7, 4),
      asm.strW(6, 7, 0),
      asm.b(-32),
    ]);
    const [vp] = m.cpu.vps;
    for (const [i, v] of [255n, 0n, BigInt(DATA), BigInt(FUNCTION)].entries()) vp.setX(5 + i, v);
    m.cpu.run(0, 30_000);
  }
  assert.deepEqual(state(q), state(p));
  assert.ok((q.cpu.translator?.statistics.dropped ?? 0) > 0);
});

test('a function mapped elsewhere is the other function, in the same region of its caller', () => {
  const b = hot();
  // 2 MiB blocks: the upper half of the first 4 MiB at 2 MiB or 6 MiB.
  const L2 = TABLES + 0x1000;
  const block = (gpa: number): bigint => BigInt(gpa) | 0x401n;
  b.ram.view.setBigUint64(L2, block(0), true);
  b.ram.view.setBigUint64(L2 + 8, block(0x200000), true);
  b.ram.view.setBigUint64(TABLES, BigInt(L2) | 3n, true);
  b.cpu.flushAll();
  const f = 0x200000 + 0x8000;
  b.place([asm.addImm(2, 2, 1), asm.ret()], f);
  b.place([asm.addImm(2, 2, 100), asm.ret()], f + 0x400000);
  b.program([asm.addImm(0, 0, 1), asm.bl(f - TEXT - 4), asm.b(-8)]);
  for (const [gpa, step] of [
    [0x200000, 1n],
    [0x600000, 100n],
    [0x200000, 1n],
  ] as const) {
    b.ram.view.setBigUint64(L2 + 8, block(gpa), true);
    b.cpu.flushAll();
    b.cpu.vps[0].pc = BigInt(TEXT);
    b.cpu.vps[0].setX(2, 0n);
    b.cpu.vps[0].setX(0, 0n);
    b.cpu.run(0, 20_000);
    assert.equal(b.cpu.vps[0].x(2), b.cpu.vps[0].x(0) * step);
  }
  assert.ok((b.cpu.translator?.executed ?? 0) > 30_000);
});

test('an interrupt is taken at the instruction after that which unmasks it, in a region as well', () => {
  const b = hot();
  b.place([asm.hvc(1)], VECTORS + asm.VECTOR.IRQ_EL1H);
  b.program([asm.addImm(0, 0, 1), asm.daifClr(2), asm.addImm(2, 2, 1), asm.b(-12)]);
  b.cpu.run(0, 10_000);
  const [vp] = b.cpu.vps;
  vp.setU32(VP.PSTATE, vp.u32(VP.PSTATE) | 0x80);
  vp.pc = BigInt(TEXT);
  const [x0, x2] = [vp.x(0), vp.x(2)];
  b.cpu.setIrq(0, true);
  assert.deepEqual(b.cpu.run(0, 10_000), { kind: 'hvc', imm: 1 });
  assert.deepEqual([vp.x(0), vp.x(2)], [x0 + 1n, x2]);
});
