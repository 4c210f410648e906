import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { takeWfxTrap } from '../../../emulator/cpu/exceptions.ts';
import { cellOf } from '../../../emulator/cpu/sysregs.ts';
import { PSTATE } from '../../../emulator/cpu/vp-state.ts';
import { Pmu } from '../../../emulator/platform/pmu.ts';
import { bc, COND, dataAt, machineOf, mrs, msr, SEV } from '../smp-guest.ts';
import * as a from './engine-asm.ts';
import { bench, DATA, DEVICE, TEXT, VECTORS } from './engine-harness.ts';
import { fixture } from './fixture.ts';

const [PMCR, PMCNTENSET, PMINTENSET, PMCCNTR, PMEVCNTR0, PMEVTYPER0] = [
  [3, 3, 9, 12, 0],
  [3, 3, 9, 12, 1],
  [3, 0, 9, 14, 1],
  [3, 3, 9, 13, 0],
  [3, 3, 14, 8, 0],
  [3, 3, 14, 12, 0],
] as const;

describe('performance monitors', () => {
  /** A CPU whose counter overflow is its IRQ. */
  function counting() {
    const late: { irq?: (level: boolean) => void } = {};
    const pmu = new Pmu({ vpCount: 1, version: 6, interrupts: { setPpi: (_vp, _intid, level) => late.irq?.(level) } });
    const b = bench({ pmu });
    late.irq = (level) => b.cpu.setIrq(0, level);
    return { ...b, pmu };
  }

  test('the cycle counter counts instructions, its own reading at its place among them', () => {
    const b = counting();
    b.program([
      ...[a.movz(0, 1), msr(PMCNTENSET, 1), msr(PMCR, 0), mrs(2, PMCCNTR), a.nop(), a.nop(), mrs(3, PMCCNTR)],
      ...[a.movz(4, 100), a.subsImm(4, 4, 1), a.bcond(1, -4), mrs(5, PMCCNTR), a.hvc(0)],
    ]);
    const [vp] = b.cpu.vps;
    vp.setX(1, 1n << 31n);
    assert.equal(b.cpu.run(0, 1000).kind, 'hvc');
    // The MSR that starts it is counted, MRS sees what is before it.
    assert.deepEqual([vp.x(2), vp.x(3) - vp.x(2), vp.x(5) - vp.x(3)], [1n, 3n, 202n]);
  });

  test('an overflow interrupts after the very instruction, however the run is cut', () => {
    const outcome = (slice: number) => {
      const b = counting();
      b.place([mrs(7, PMEVCNTR0), a.hvc(1)], VECTORS + 0x280);
      b.program([
        ...[
          a.movz(0, 8),
          msr(PMEVTYPER0, 0),
          msr(PMEVCNTR0, 1),
          a.movz(0, 1),
          msr(PMCNTENSET, 0),
          msr(PMINTENSET, 0),
          a.daifClr(2),
        ],
        ...[msr(PMCR, 0), a.addImm(2, 2, 1), a.addImm(2, 2, 1), a.b(-8)],
      ]);
      const [vp] = b.cpu.vps;
      // 1 for the MSR that starts it, then 3000 instructions of the loop.
      vp.setX(1, (1n << 32n) - 3001n);
      for (let n = 0; n < 10_000; n += slice) if (b.cpu.run(0, slice).kind === 'hvc') break;
      return [vp.pc, vp.x(2), vp.x(7) & 0xffffffffn, vp.u64(cellOf('ELR_EL1')), b.ports.clock.state.instructions];
    };
    const whole = outcome(10_000);
    assert.deepEqual(whole.slice(0, 4), [BigInt(VECTORS + 0x284), 2000n, 0n, BigInt(TEXT + 32)]);
    for (const slice of [1, 7, 2999, 3008]) assert.deepEqual(outcome(slice), whole, `slices of ${slice}`);
  });

  test('memory accesses and branches are counted one by one, device accesses and those over pages among them', () => {
    const outcome = (slice: number) => {
      const b = counting();
      const events = [0x13, 0x21, 0x08, 0x04, 0x12, 0x10];
      b.place([mrs(7, PMEVCNTR0), a.hvc(1)], VECTORS + 0x280);
      b.program([
        ...events.flatMap((event, n) => [a.movz(0, event), msr([3, 3, 14, 12, n], 0)]),
        ...[a.movz(0, 0x3f), msr(PMCNTENSET, 0), a.movz(0, 1), msr(PMCR, 0)],
        // 100 times: a load, a pair, a device, over the end of a page; a call, its return, a branch back.
        ...[a.movz(4, 100), a.ldr(5, 2, 0), a.stp(5, 6, 2, 16), a.ldr(6, 3, 0), a.ldrPost(6, 8, 0), a.bl(20)],
        ...[a.subsImm(4, 4, 1), a.bcond(1, -24), a.hvc(0), a.nop(), a.ret()],
      ]);
      const [vp] = b.cpu.vps;
      vp.setX(2, BigInt(DATA));
      vp.setX(3, BigInt(DEVICE));
      vp.setX(8, BigInt(DATA + 0xffc));
      for (let n = 0; n < 20_000; n += slice) if (b.cpu.run(0, slice).kind === 'hvc') break;
      return [...events.map((_, n) => b.pmu.read(0, `PMEVCNTR${n}_EL0`)), b.ports.clock.state.instructions];
    };
    const whole = outcome(20_000);
    // The MSR that starts it and MOVZ are counted; eight instructions a round.
    assert.deepEqual(whole.slice(0, 6), [400n, 300n, 2n + 800n, 400n, 300n, 0n]);
    for (const slice of [1, 7, 500]) assert.deepEqual(outcome(slice), whole, `slices of ${slice}`);
  });

  test('the overflow of an event that few instructions meet interrupts after the very one', () => {
    const outcome = (slice: number) => {
      const b = counting();
      b.place([a.hvc(1)], VECTORS + 0x280);
      b.program([
        ...[a.movz(0, 0x13), msr(PMEVTYPER0, 0), msr(PMEVCNTR0, 1), a.movz(0, 1), msr(PMCNTENSET, 0), msr(PMINTENSET, 0)],
        ...[a.daifClr(2), msr(PMCR, 0), a.addImm(4, 4, 1), a.nop(), a.ldr(5, 2, 0), a.b(-12)],
      ]);
      const [vp] = b.cpu.vps;
      vp.setX(1, (1n << 32n) - 1500n);
      vp.setX(2, BigInt(DATA));
      for (let n = 0; n < 20_000; n += slice) if (b.cpu.run(0, slice).kind === 'hvc') break;
      return [vp.x(4), vp.u64(cellOf('ELR_EL1')), b.ports.clock.state.instructions];
    };
    const whole = outcome(20_000);
    assert.deepEqual(whole.slice(0, 2), [1500n, BigInt(TEXT + 44)]);
    for (const slice of [1, 13, 2999]) assert.deepEqual(outcome(slice), whole, `slices of ${slice}`);
  });

  test('filters follow the exception level within a run', () => {
    const b = counting();
    const [vp] = b.cpu.vps;
    // EL1: SVC's handler of two instructions and ERET; EL0 code is not mapped for EL0, so that only its abort is EL0's.
    b.place([a.nop(), a.hvc(1)], VECTORS + 0x400);
    b.program([msr(PMCNTENSET, 1), msr(PMEVTYPER0, 2), msr(PMCR, 0), 0xd69f03e0]);
    vp.setX(0, 1n);
    vp.setX(1, (1n << 31n) | 1n);
    vp.setX(2, 8n | (1n << 31n)); // not at EL1
    vp.setU64(cellOf('SPSR_EL1'), BigInt(PSTATE.EL0T));
    vp.setU64(cellOf('ELR_EL1'), 0x7000n);
    assert.equal(b.cpu.run(0, 100).kind, 'hvc');
    // The abort at EL0 alone; and all: MSR, ERET, the abort, NOP.
    assert.deepEqual([b.pmu.read(0, 'PMEVCNTR0_EL0'), b.pmu.read(0, 'PMCCNTR_EL0')], [1n, 4n]);
  });
});

describe('WFIT and WFET', () => {
  const CNTVCT = [3, 3, 14, 0, 2] as const;
  const WFET = 0xd5031000;
  const WFIT = 0xd5031020;
  /** Waits 1000 ticks (40 us), and tells how many there were and how many instructions that took. */
  const waits = (wait: number) => [
    ...[mrs(1, CNTVCT), a.addImm(2, 1, 1000), wait | 2, mrs(3, CNTVCT), (0xcb010063 | 0) >>> 0, a.str(3, 20, 0)],
    // A time that has passed is not waited for.
    ...[wait | 1, mrs(3, CNTVCT), a.str(3, 20, 8)],
  ];
  test('wait until the counter is there, without executing anything', () => {
    for (const wait of [WFIT, WFET]) {
      const run = (slice: number) => {
        const machine = machineOf(1, waits(wait));
        while (machine.run({ instructions: slice }).kind === 'limit');
        return machine;
      };
      const machine = run(1_000_000);
      const ticks = dataAt(machine, 0);
      assert.ok(ticks >= 1000n && ticks < 1010n, `${ticks} ticks`);
      assert.ok(machine.instructions < 1000, `${machine.instructions} instructions`);
      assert.equal(run(1).stateHash(), machine.stateHash());
    }
  });
  test('WFET ends early by an event', () => {
    // VP 0 waits for ten seconds; VP 1 counts a little and sends an event.
    const items = [
      { to: 'other', word: (o: number) => (0xb5000000 | (((o >> 2) & 0x7ffff) << 5) | 19) >>> 0 },
      ...[mrs(1, CNTVCT), 0xd2a1dcc2, 0x8b020022, WFET | 2, mrs(3, CNTVCT), (0xcb010063 | 0) >>> 0, a.str(3, 20, 0)],
      { to: 'done', word: (o: number) => (0x14000000 | ((o >> 2) & 0x3ffffff)) >>> 0 },
      'other',
      ...[a.movz(4, 1000), 'spin', a.subsImm(4, 4, 1), bc(COND.NE, 'spin'), SEV],
      'done',
    ];
    const machine = machineOf(2, items, { quantum: 100 });
    while (machine.run({ instructions: 100_000 }).kind === 'limit');
    assert.ok(dataAt(machine, 0) < 10_000n, `${dataAt(machine, 0)} ticks`);
  });
  test('trapped, they tell the register', () => {
    const f = fixture();
    const syndrome = (wfe: boolean, timeout?: number) => {
      takeWfxTrap(f.vp, wfe, timeout);
      return f.get('ESR_EL1') & 0x3ffn;
    };
    // RN 9:5, RV 2, TI 1:0.
    assert.deepEqual([syndrome(false), syndrome(true), syndrome(false, 5), syndrome(true, 31)], [0n, 1n, 0xa6n, 0x3e7n]);
  });
});
