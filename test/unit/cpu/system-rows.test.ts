import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cellOf } from '../../../emulator/cpu/sysregs.ts';
import { PSTATE, VP } from '../../../emulator/cpu/vp-state.ts';
import { type Bench, bench, DATA, TEXT, VECTORS } from './engine-harness.ts';

/** What the vectors cannot hold, because it needs EL1 or ends a program: rows of system.ts, exclusives, faults, exits. */

const CURRENT_EL_SPX = 0x200;
const LOWER_EL = 0x400;
const IRQ = 0x80;
const UNMAPPED = 0x1_0000_0000n;

interface Setup {
  el?: 0 | 1;
  x?: Record<number, bigint>;
  prepare?: (b: Bench) => void;
  /** Instructions to run; default: all words. */
  steps?: number;
}

function run(words: readonly number[], { el = 1, x = {}, prepare, steps = words.length }: Setup = {}) {
  const b = bench({ el });
  b.program(words);
  const [vp] = b.cpu.vps;
  for (const [n, v] of Object.entries(x)) vp.setX(Number(n), v);
  prepare?.(b);
  const exit = b.cpu.run(0, steps);
  return { b, vp, exit, esr: vp.u64(cellOf('ESR_EL1')), elr: vp.u64(cellOf('ELR_EL1')), far: vp.u64(cellOf('FAR_EL1')) };
}
const CLASS = { undef: 0n, trap: 0x18n, abort: 0x25n, abortFromEl0: 0x24n, svc: 0x15n, brk: 0x3cn };
const classOf = (esr: bigint): bigint => esr >> 26n;

test('DAIFSet, DAIFClr and DAIF move the mask bits of PSTATE', () => {
  const start = (b: Bench): void => b.cpu.vps[0].setU32(VP.PSTATE, PSTATE.EL1H | PSTATE.D);
  // msr daifset, #2; mrs x0, daif; msr daifclr, #8; mrs x2, daif; msr daif, x1; mrs x3, daif
  const { vp } = run([0xd50342df, 0xd53b4220, 0xd50348ff, 0xd53b4222, 0xd51b4221, 0xd53b4223], { x: { 1: ~0n }, prepare: start });
  assert.deepEqual([vp.x(0), vp.x(2), vp.x(3)], [BigInt(PSTATE.D | PSTATE.I), BigInt(PSTATE.I), BigInt(PSTATE.DAIF)]);
  assert.equal(vp.u32(VP.PSTATE), PSTATE.EL1H | PSTATE.DAIF);
});

for (const [name, word] of [
  ['DAIFClr', 0xd50342ff],
  ['MSR DAIF', 0xd51b4221],
] as const) {
  test(`an interrupt that waits is taken right after ${name} unmasks it`, () => {
    const prepare = (b: Bench): void => {
      b.cpu.setIrq(0, true);
      b.program([0x14000000], VECTORS + CURRENT_EL_SPX + IRQ); // b .
      b.cpu.vps[0].pc = BigInt(TEXT);
    };
    const { vp, elr } = run([0xd503201f, word, 0xd503201f, 0xd503201f], { prepare });
    assert.deepEqual([elr, vp.pc], [BigInt(TEXT + 8), BigInt(VECTORS + CURRENT_EL_SPX + IRQ)]);
  });
}

test('EL0 may not touch DAIF while SCTLR_EL1.UMA is clear', () => {
  for (const word of [0xd50342df, 0xd50342ff, 0xd53b4220, 0xd51b4221]) {
    const { vp, esr, elr } = run([word], { el: 0, steps: 1 });
    assert.equal(vp.pc, BigInt(VECTORS + LOWER_EL));
    assert.equal(elr, BigInt(TEXT));
    assert.equal(classOf(esr), CLASS.trap);
  }
});

test('flags, FPCR and FPSR keep the bits that exist; CurrentEL is EL1', () => {
  // msr nzcv, x1; mrs x0, nzcv; msr fpcr, x1; mrs x2, fpcr; msr fpsr, x1; mrs x3, fpsr; mrs x4, currentel
  const { vp } = run([0xd51b4201, 0xd53b4200, 0xd51b4401, 0xd53b4402, 0xd51b4421, 0xd53b4423, 0xd5384244], { x: { 1: ~0n } });
  assert.deepEqual([vp.x(0), vp.x(2), vp.x(3), vp.x(4)], [0xf0000000n, 0x07c80000n, 0x0800009fn, 4n]);
});

test('an EL1 register is UNDEFINED at EL0, an EL0 register is not', () => {
  // msr tpidr_el1, x1; mrs x0, tpidr_el1
  const el1 = run([0xd518d081, 0xd538d080], { x: { 1: 0x1234_5678_9abc_def0n } });
  assert.equal(el1.vp.x(0), 0x1234_5678_9abc_def0n);
  for (const word of [0xd518d081, 0xd538d080, 0xd5384240]) {
    const { vp, esr } = run([word], { el: 0, steps: 1 });
    assert.deepEqual([vp.pc, classOf(esr)], [BigInt(VECTORS + LOWER_EL), CLASS.undef]);
  }
  // msr tpidr_el0, x1; mrs x0, tpidr_el0
  const el0 = run([0xd51bd041, 0xd53bd040], { el: 0, x: { 1: 0xfedc_ba98_7654_3210n } });
  assert.equal(el0.vp.x(0), 0xfedc_ba98_7654_3210n);
});

test('FPCR traps while FP is disabled', () => {
  const { vp, esr } = run([0xd53b4400], { prepare: (b) => b.cpu.vps[0].setU32(VP.FP_ENABLED, 0), steps: 1 });
  assert.deepEqual([vp.pc, classOf(esr)], [BigInt(VECTORS + CURRENT_EL_SPX), 7n]);
});

test('DC ZVA clears the 64 bytes around its address and nothing else', () => {
  const { b } = run([0xd50b7421], {
    x: { 1: BigInt(DATA + 100) },
    prepare: (at) => at.ram.write(DATA, new Uint8Array(256).fill(0xaa)),
  });
  const want = new Uint8Array(256).fill(0xaa).fill(0, 64, 128);
  assert.deepEqual(b.ram.read(DATA, 256), want);
});

test('DC ZVA and cache maintenance fault where the address does', () => {
  for (const word of [0xd50b7421, 0xd50b7a21, 0xd50b7b21, 0xd50b7521]) {
    const { esr, far, elr } = run([word], { x: { 1: UNMAPPED + 8n }, steps: 1 });
    assert.deepEqual([classOf(esr), far & ~63n, elr], [CLASS.abort, UNMAPPED, BigInt(TEXT)], word.toString(16));
  }
});

test('SVC, BRK, HLT, UDF, HVC and SMC leave as they should', () => {
  const svc = run([0xd4024681], { el: 0, steps: 1 });
  assert.deepEqual([classOf(svc.esr), svc.esr & 0xffffn, svc.elr], [CLASS.svc, 0x1234n, BigInt(TEXT + 4)]);
  const brk = run([0xd42000a0], { steps: 1 });
  assert.deepEqual([classOf(brk.esr), brk.esr & 0xffffn, brk.elr], [CLASS.brk, 5n, BigInt(TEXT)]);
  for (const word of [0xd4400000, 0x00000007, 0xd4a00001]) {
    const { esr, elr } = run([word], { steps: 1 });
    assert.deepEqual([classOf(esr), elr], [CLASS.undef, BigInt(TEXT)], word.toString(16));
  }
  assert.deepEqual(run([0xd4000022]).exit, { kind: 'hvc', imm: 1 });
  assert.deepEqual(run([0xd4000003]).exit, { kind: 'smc', imm: 0 });
  for (const word of [0xd4000022, 0xd4000003, 0xd69f03e0])
    assert.equal(classOf(run([word], { el: 0, steps: 1 }).esr), CLASS.undef);
});

test('WFI and WFE wait; WFE goes on after SEV and SEVL', () => {
  assert.deepEqual(run([0xd503207f]).exit, { kind: 'wfi' });
  assert.deepEqual(run([0xd503205f]).exit, { kind: 'wfe' });
  for (const event of [0xd503209f, 0xd50320bf]) {
    const { vp, exit } = run([event, 0xd503205f]);
    assert.deepEqual([exit.kind, vp.pc, vp.u32(VP.EVENT)], ['budget', BigInt(TEXT + 8), 0]);
  }
});

test('YIELD retires; when others are awake, or may have been woken, it says that there is nothing to do', () => {
  const seen = (vpCount: number, prepare: (b: Bench) => void = () => {}) => {
    const b = bench({ vpCount });
    b.program([0xd503203f]);
    prepare(b);
    return [b.cpu.run(0, 1).kind, b.cpu.vps[0].pc];
  };
  const after = BigInt(TEXT + 4);
  assert.deepEqual(seen(1), ['budget', after]);
  assert.deepEqual(seen(2), ['yield', after]);
  const asleep = (b: Bench): void => b.cpu.setYields(0, false);
  assert.deepEqual(seen(2, asleep), ['budget', after]);
  const woken = (b: Bench): void => {
    asleep(b);
    b.cpu.sendEvent();
  };
  assert.deepEqual(
    [seen(1, woken), seen(2, woken)],
    [
      ['budget', after],
      ['yield', after],
    ],
  );
});

test('hints and barriers only retire', () => {
  // nop; paciasp; bti c; esb; isb; dsb sy; dmb ish; sb; prfm
  const words = [0xd503201f, 0xd503233f, 0xd503245f, 0xd503221f, 0xd5033fdf, 0xd5033f9f, 0xd5033bbf, 0xd50330ff, 0xf9800020];
  const { vp, exit } = run(words, { x: { 30: 7n } });
  assert.deepEqual([exit.kind, vp.pc, vp.x(30)], ['budget', BigInt(TEXT + 4 * words.length), 7n]);
});

test('a store exclusive needs the address and the size of its load, once', () => {
  const at = BigInt(DATA);
  const status = (words: number[]): bigint => run(words, { x: { 1: at, 3: 5n, 4: at + 8n } }).vp.x(2);
  const [LDXR, LDXR_W, STXR, STXR_W, STXR_OTHER, CLREX] = [
    0xc85f7c20, 0x885f7c20, 0xc8027c23, 0x88027c23, 0xc8027c83, 0xd5033f5f,
  ];
  assert.equal(status([LDXR, STXR]), 0n);
  assert.equal(status([LDXR_W, STXR_W]), 0n);
  assert.equal(status([STXR]), 1n);
  assert.equal(status([LDXR, STXR_OTHER]), 1n);
  assert.equal(status([LDXR, STXR_W]), 1n);
  assert.equal(status([LDXR, CLREX, STXR]), 1n);
  assert.equal(status([LDXR, STXR, STXR]), 1n);
});

test('exclusives, acquire/release and atomics must not go over 16 bytes, other accesses may', () => {
  const ALIGNMENT = 0x21n;
  for (const word of [0xc85f7c20, 0xc8027c23, 0xc8dffc20, 0xf8200022]) {
    const { esr } = run([word], { x: { 1: BigInt(DATA + 12) }, steps: 1 });
    assert.deepEqual([classOf(esr), esr & 0x3fn], [CLASS.abort, ALIGNMENT], word.toString(16));
  }
  assert.equal(run([0xf9400020], { x: { 1: BigInt(DATA + 12) } }).vp.pc, BigInt(TEXT + 4));
});

test('an access that faults changes no register', () => {
  // ldr x0, [x1], #8; ldp x0, x2, [x1, #16]!; str x0, [x1, #-8]!
  for (const word of [0xf8408420, 0xa9c10820, 0xf81f8c20]) {
    const { vp, esr } = run([word], { x: { 0: 1n, 1: UNMAPPED + 64n, 2: 3n }, steps: 1 });
    assert.deepEqual([classOf(esr), vp.x(0), vp.x(1), vp.x(2)], [CLASS.abort, 1n, UNMAPPED + 64n, 3n]);
  }
});

test('an unprivileged load at EL1 has the rights of EL0', () => {
  // ldtr x0, [x1]: the bench maps nothing for EL0 when it runs at EL1
  const { esr } = run([0xf8400820], { x: { 1: BigInt(DATA) }, steps: 1 });
  const PERMISSION_LEVEL_1 = 0xdn;
  assert.deepEqual([classOf(esr), esr & 0x3fn], [CLASS.abort, PERMISSION_LEVEL_1]);
});

test('the second register of pair 30 of CASP is XZR', () => {
  const memory = (b: Bench, at: number): bigint => b.ram.view.getBigUint64(at, true);
  const prepare = (b: Bench): void => {
    b.ram.write(DATA, new Uint8Array([7]));
    b.cpu.vps[0].sp = 0x5000n;
  };
  // casp x30, xzr, x2, x3, [x1]: compares with 7 and 0
  const hit = run([0x483e7c22], { x: { 1: BigInt(DATA), 2: 0x11n, 3: 0x22n, 30: 7n }, prepare });
  assert.deepEqual([memory(hit.b, DATA), memory(hit.b, DATA + 8), hit.vp.x(30)], [0x11n, 0x22n, 7n]);
  // casp x2, x3, x30, xzr, [x1]: stores x30 and 0
  const store = run([0x48227c3e], { x: { 1: BigInt(DATA), 2: 7n, 3: 0n, 30: 9n }, prepare });
  assert.deepEqual([memory(store.b, DATA), memory(store.b, DATA + 8)], [9n, 0n]);
  assert.deepEqual([hit.vp.sp, store.vp.sp], [0x5000n, 0x5000n]);
});

test('MOV of a W register clears the upper half', () => {
  assert.equal(run([0x2a0103e0], { x: { 0: ~0n, 1: 0x1_8000_0000n } }).vp.x(0), 0x8000_0000n);
});
