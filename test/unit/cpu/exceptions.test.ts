import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  eret,
  removeTag,
  takeBrk,
  takeDataAbort,
  takeFiq,
  takeFpTrap,
  takeIllegalState,
  takeIrq,
  takePcAlignment,
  takePrefetchAbort,
  takeSpAlignment,
  takeSvc,
  takeUndef,
  takeWfxTrap,
  wfxTraps,
} from '../../../emulator/cpu/exceptions.ts';
import { PSTATE, VP, type VpState } from '../../../emulator/cpu/vp-state.ts';
import { fixture } from './fixture.ts';

const IL = 1n << 25n;
const ec = (n: number) => (BigInt(n) << 26n) | IL;

test('every exception class writes its syndrome, return address and vector', () => {
  const f = fixture();
  const VBAR = 0xffff_8000_0001_0000n;
  const run = (m: number, take: (vp: VpState) => void) => {
    f.set('VBAR_EL1', VBAR | 0x7ffn);
    f.set('FAR_EL1', 0n);
    f.set('ESR_EL1', 0n);
    f.pstate(m);
    f.vp.pc = 0x4002n;
    take(f.vp);
    return [f.get('ESR_EL1'), f.get('ELR_EL1'), f.get('FAR_EL1'), f.vp.pc - VBAR];
  };
  const { EL0T, EL1T, EL1H } = PSTATE;
  const cases: [string, number, (vp: VpState) => void, bigint[]][] = [
    ['undefined', EL0T, takeUndef, [ec(0), 0x4002n, 0n, 0x400n]],
    ['svc', EL0T, (vp) => takeSvc(vp, 0x1234), [ec(0x15) | 0x1234n, 0x4006n, 0n, 0x400n]],
    ['brk', EL1H, (vp) => takeBrk(vp, 0x800), [ec(0x3c) | 0x800n, 0x4002n, 0n, 0x200n]],
    ['fp', EL0T, takeFpTrap, [ec(7) | 0x1e00000n, 0x4002n, 0n, 0x400n]],
    ['wfe', EL0T, (vp) => takeWfxTrap(vp, true), [ec(1) | 0x1e00001n, 0x4002n, 0n, 0x400n]],
    ['data abort from EL0', EL0T, (vp) => takeDataAbort(vp, 0x77n, 0x0f, true), [ec(0x24) | 0x4fn, 0x4002n, 0x77n, 0x400n]],
    ['data abort from EL1', EL1H, (vp) => takeDataAbort(vp, 0x77n, 0x05, false), [ec(0x25) | 5n, 0x4002n, 0x77n, 0x200n]],
    ['prefetch abort from EL0', EL0T, (vp) => takePrefetchAbort(vp, 0x4002n, 7), [ec(0x20) | 7n, 0x4002n, 0x4002n, 0x400n]],
    ['prefetch abort from EL1t', EL1T, (vp) => takePrefetchAbort(vp, 0x4002n, 7), [ec(0x21) | 7n, 0x4002n, 0x4002n, 0n]],
    ['pc alignment', EL0T, takePcAlignment, [ec(0x22), 0x4002n, 0x4002n, 0x400n]],
    ['sp alignment', EL0T, takeSpAlignment, [ec(0x26), 0x4002n, 0n, 0x400n]],
    ['illegal state', EL1H, takeIllegalState, [ec(0x0e), 0x4002n, 0n, 0x200n]],
    ['irq from EL0', EL0T, takeIrq, [0n, 0x4002n, 0n, 0x480n]],
    ['irq from EL1', EL1H, takeIrq, [0n, 0x4002n, 0n, 0x280n]],
    ['fiq from EL1t', EL1T, takeFiq, [0n, 0x4002n, 0n, 0x100n]],
  ];
  assert.deepEqual(
    cases.map(([name, m, take]) => [name, run(m, take)]),
    cases.map(([name, , , expected]) => [name, expected]),
  );
});

test('entry saves PSTATE, masks, switches SP, and ERET gives everything back', () => {
  const f = fixture();
  const before = (PSTATE.EL0T | PSTATE.DIT | PSTATE.SSBS) >>> 0;
  f.vp.sp = 0x1000n;
  f.pstate(PSTATE.EL0T);
  f.vp.setU64(VP.SP_EL1, 0x2000n);
  f.vp.sp = 0x1000n;
  f.pstate(before);
  f.vp.nzcv = 0xa0000000;
  f.vp.setU32(VP.EXCL_SIZE, 8);
  f.set('SCTLR_EL1', 0n); // SPAN = 0: PAN is set on entry; DSSBS = 0: SSBS is cleared
  f.vp.pc = 0x400000n;
  takeSvc(f.vp, 0);
  assert.deepEqual(
    [f.get('SPSR_EL1'), f.vp.pstate, f.vp.sp, f.get('SP_EL0'), f.vp.u32(VP.EXCL_SIZE), f.vp.u32(VP.REGIME)],
    [
      BigInt((before | 0xa0000000) >>> 0),
      (0xa0000000 | PSTATE.EL1H | PSTATE.DAIF | PSTATE.PAN | PSTATE.DIT) >>> 0,
      0x2000n,
      0x1000n,
      0,
      1,
    ],
  );
  f.vp.nzcv = 0;
  f.vp.sp = 0x1ff0n;
  f.vp.setU32(VP.EXCL_SIZE, 8);
  assert.equal(eret(f.vp), true);
  assert.deepEqual(
    [f.vp.pstate, f.vp.pc, f.vp.sp, f.vp.u64(VP.SP_EL1), f.vp.u32(VP.EXCL_SIZE), f.vp.u32(VP.REGIME), f.vp.u32(VP.EVENT)],
    [(before | 0xa0000000) >>> 0, 0x400004n, 0x1000n, 0x1ff0n, 0, 0, 1],
  );
});

test('SPAN and DSSBS decide PAN and SSBS; without the features nothing is set', () => {
  const entered = (f: ReturnType<typeof fixture>, sctlr: bigint) => {
    f.set('SCTLR_EL1', sctlr);
    f.pstate(PSTATE.EL1H);
    takeIrq(f.vp);
    return f.vp.u32(VP.PSTATE) & (PSTATE.PAN | PSTATE.SSBS);
  };
  assert.equal(entered(fixture(), 1n << 23n), 0);
  assert.equal(entered(fixture(), 1n << 44n), PSTATE.PAN | PSTATE.SSBS);
  assert.equal(entered(fixture({ features: [] }), 1n << 44n), 0);
});

test('ERET restores only bits of features that are there', () => {
  const restored = (f: ReturnType<typeof fixture>) => {
    f.set(
      'SPSR_EL1',
      BigInt((PSTATE.EL1H | PSTATE.PAN | PSTATE.UAO | PSTATE.DIT | PSTATE.SSBS | PSTATE.SS | PSTATE.BTYPE) >>> 0),
    );
    eret(f.vp);
    return f.vp.u32(VP.PSTATE);
  };
  assert.equal(restored(fixture()), PSTATE.EL1H | PSTATE.PAN | PSTATE.UAO | PSTATE.DIT | PSTATE.SSBS | PSTATE.BTYPE);
  assert.equal(restored(fixture({ features: [] })), PSTATE.EL1H);
});

test('an illegal return raises the Illegal Execution State exception at the target', () => {
  for (const spsr of [0x10n, 0x9n, 0x1n, 0x6n, BigInt(PSTATE.EL0T | PSTATE.IL)]) {
    const f = fixture();
    f.set('SPSR_EL1', spsr | BigInt(PSTATE.I) | 0x40000000n);
    f.set('ELR_EL1', 0x5000n);
    f.set('VBAR_EL1', 0x8000n);
    assert.equal(eret(f.vp), false, `SPSR ${spsr}`);
    const legal = spsr === BigInt(PSTATE.EL0T | PSTATE.IL);
    assert.deepEqual(
      [f.get('ESR_EL1'), f.get('ELR_EL1'), f.get('SPSR_EL1'), f.vp.pc],
      [
        ec(0x0e),
        0x5000n,
        BigInt(PSTATE.IL | PSTATE.I | 0x40000000 | (legal ? PSTATE.EL0T : PSTATE.EL1H)),
        legal ? 0x8400n : 0x8200n,
      ],
    );
    assert.equal(f.vp.u32(VP.PSTATE) & PSTATE.IL, 0);
  }
});

test('EL1t and EL1h have their own stack pointers', () => {
  const f = fixture();
  f.vp.sp = 0x100n; // SP_EL1
  f.set('SP_EL0', 0x200n);
  f.set('SPSR_EL1', BigInt(PSTATE.EL1T));
  eret(f.vp);
  assert.equal(f.vp.sp, 0x200n);
  f.vp.sp = 0x208n;
  takeUndef(f.vp);
  assert.deepEqual([f.vp.sp, f.get('SP_EL0')], [0x100n, 0x208n]);
});

test('a branch drops the tag of an address where TBI says so', () => {
  const f = fixture();
  const branchTo = (target: bigint): bigint => {
    f.vp.pc = target;
    removeTag(f.vp);
    return f.vp.pc;
  };
  const tagged = 0x5a00_7fff_0000_1000n;
  assert.equal(branchTo(tagged), tagged);
  f.set('TCR_EL1', (1n << 37n) | (1n << 38n));
  assert.equal(branchTo(tagged), 0x7fff_0000_1000n);
  assert.equal(branchTo(0x5aff_8000_0000_1000n), 0xffff_8000_0000_1000n);
  // Bit 55 decides which half, whatever the tag.
  assert.equal(branchTo(0x0080_0000_0000_1000n), 0xff80_0000_0000_1000n);
});

test('WFI and WFE trap from EL0 unless SCTLR_EL1 lets them', () => {
  const f = fixture();
  const traps = () => [wfxTraps(f.vp, false), wfxTraps(f.vp, true)];
  f.pstate(PSTATE.EL0T);
  f.set('SCTLR_EL1', 1n << 18n);
  assert.deepEqual(traps(), [true, false]);
  f.set('SCTLR_EL1', 1n << 16n);
  assert.deepEqual(traps(), [false, true]);
  f.set('SCTLR_EL1', 0n);
  f.pstate(PSTATE.EL1H);
  assert.deepEqual(traps(), [false, false]);
});
