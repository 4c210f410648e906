import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { refresh, systemRegister, writeSystemRegister } from '../../../emulator/cpu/sysregs.ts';
import { cellOf } from '../../../emulator/cpu/sysregs.ts';
import { PSTATE, VP } from '../../../emulator/cpu/vp-state.ts';
import * as a from './engine-asm.ts';
import { type Bench, bench, DATA, TABLES, TEXT, VECTORS } from './engine-harness.ts';

/** RAM is mapped a second time, 1 GiB up, where EL1 may execute whatever EL0 may write below. */
const KERNEL = 0x4000_0000;
const [SYNC_EL1, SYNC_EL0, IRQ_EL0] = [0x200, 0x400, 0x480].map((v) => KERNEL + VECTORS + v);
const [SS, KDE, MDE] = [1n, 1n << 13n, 1n << 15n];
const ERET = 0xd69f03e0;
const SVC = 0xd4000001;
/** msr daifclr, #8; msr daifset, #8 */
const [UNMASK, MASK] = [0xd50348ff, 0xd50348df];

function debugBench(el: 0 | 1, registers: Record<string, bigint>): Bench & { set(name: string, value: bigint): void } {
  const b = bench({ el });
  const set = (name: string, value: bigint) => {
    const row = systemRegister(name);
    if (!row) throw new Error(name);
    writeSystemRegister({ ports: b.ports, tlb: b.cpu }, b.cpu.vps[0], row, value);
  };
  set('OSLAR_EL1', 0n);
  for (const [name, value] of Object.entries(registers)) set(name, value);
  // The vectors stay where they are.
  for (const at of [SYNC_EL1, SYNC_EL0, IRQ_EL0]) b.place([a.b(0)], at - KERNEL);
  b.ram.view.setBigUint64(TABLES + 8, 0x401n, true);
  set('VBAR_EL1', BigInt(KERNEL + VECTORS));
  return { ...b, set };
}
const seen = (b: Bench) => {
  const [vp] = b.cpu.vps;
  const esr = vp.u32(cellOf('ESR_EL1'));
  return {
    pc: Number(vp.pc),
    ec: esr >>> 26,
    iss: esr & 0x1ffffff,
    elr: Number(vp.u64(cellOf('ELR_EL1'))) - TEXT,
    ss: (vp.u32(cellOf('SPSR_EL1')) & PSTATE.SS) !== 0,
    far: Number(vp.u64(cellOf('FAR_EL1'))),
  };
};
/** At EL1, returns to EL0 at TEXT with SPSR_EL1 = `spsr` and runs `count` instructions after the ERET. */
function returnTo(b: Bench, spsr: number, count: number): void {
  const [vp] = b.cpu.vps;
  const at = 0x20000;
  b.place([ERET], at);
  vp.pc = BigInt(KERNEL + at);
  vp.setU32(VP.PSTATE, PSTATE.EL1H | PSTATE.DAIF);
  refresh(vp);
  vp.setU64(cellOf('SPSR_EL1'), BigInt(spsr));
  vp.setU64(cellOf('ELR_EL1'), BigInt(TEXT));
  b.cpu.run(0, 1);
  if (count) b.cpu.run(0, count);
}

describe('software step', () => {
  const start = (words: readonly number[]) => {
    const b = debugBench(0, { MDSCR_EL1: SS });
    b.place(words, TEXT);
    b.cpu.vps[0].setX(1, BigInt(DATA));
    return b;
  };
  test('one instruction runs after the return, then the exception is taken, with ISV; EX after a load-exclusive', () => {
    const b = start([a.movz(0, 7), a.movz(0, 8)]);
    returnTo(b, PSTATE.SS, 1);
    assert.equal(b.cpu.vps[0].x(0), 7n);
    assert.deepEqual(seen(b), { pc: SYNC_EL0, ec: 0x32, iss: 0x1000022, elr: 4, ss: false, far: 0 });
    const c = start([a.ldxr(0, 1)]);
    returnTo(c, PSTATE.SS, 1);
    assert.deepEqual([seen(c).ec, seen(c).iss], [0x32, 0x1000062]);
  });
  test('without SPSR_EL1.SS the exception is pending at once', () => {
    const b = start([a.movz(0, 7)]);
    returnTo(b, 0, 1);
    assert.equal(b.cpu.vps[0].x(0), 0n);
    assert.deepEqual(seen(b), { pc: SYNC_EL0, ec: 0x32, iss: 0x22, elr: 0, ss: false, far: 0 });
  });
  test('SVC has been stepped when it is taken, a faulting instruction and an interrupted one have not', () => {
    const b = start([SVC]);
    returnTo(b, PSTATE.SS, 1);
    assert.deepEqual([seen(b).ec, seen(b).elr, seen(b).ss], [0x15, 4, false]);
    const c = start([a.udf()]);
    returnTo(c, PSTATE.SS, 1);
    assert.deepEqual([seen(c).ec, seen(c).elr, seen(c).ss], [0, 0, true]);
    const d = start([a.nop()]);
    d.cpu.setIrq(0, true);
    returnTo(d, PSTATE.SS, 1);
    assert.deepEqual([seen(d).pc, seen(d).elr, seen(d).ss], [IRQ_EL0, 0, true]);
  });
  test('WFI ends at once, and a page fault on the way does not lose the step', () => {
    const b = start([a.wfi()]);
    b.set('SCTLR_EL1', b.cpu.vps[0].u64(cellOf('SCTLR_EL1')) | (1n << 16n));
    returnTo(b, PSTATE.SS, 1);
    assert.deepEqual([seen(b).ec, seen(b).elr, b.cpu.vps[0].u32(VP.RUN_STATE)], [0x32, 4, 0]);
    const c = start([a.ldr(0, 1, 0)]);
    returnTo(c, PSTATE.SS, 1);
    assert.deepEqual([seen(c).ec, seen(c).iss, seen(c).elr], [0x32, 0x1000022, 4]);
  });
  test('at EL1 it follows MDSCR_EL1.KDE and PSTATE.D', () => {
    const b = debugBench(1, { MDSCR_EL1: SS });
    b.program([UNMASK, a.nop(), a.nop()]);
    b.cpu.run(0, 3);
    assert.equal(seen(b).ec, 0);
    const c = debugBench(1, { MDSCR_EL1: SS | KDE });
    c.program([a.nop(), UNMASK, a.nop()]);
    c.cpu.run(0, 3);
    assert.deepEqual([seen(c).pc, seen(c).ec, seen(c).iss, seen(c).elr], [SYNC_EL1, 0x33, 0x22, 8]);
  });
  test('nothing steps while the OS lock is set', () => {
    const b = start([a.movz(0, 7), a.movz(0, 8)]);
    b.set('OSLAR_EL1', 1n);
    returnTo(b, PSTATE.SS, 2);
    assert.deepEqual([b.cpu.vps[0].x(0), seen(b).ec], [8n, 0]);
  });
  test('the way a run is cut changes nothing', () => {
    const outcome = (budget: number) => {
      const b = start([a.movz(0, 1), SVC, a.movz(0, 2), a.ldr(2, 1, 0), a.movz(0, 3)]);
      // Steps for ever: the exception's handler sets SPSR_EL1.SS (bit 21) and returns.
      b.place([0xd5384003, 0xb26b0063, 0xd5184003, ERET], SYNC_EL0 - KERNEL);
      const [vp] = b.cpu.vps;
      vp.setU32(VP.PSTATE, PSTATE.EL0T);
      refresh(vp);
      vp.pc = BigInt(TEXT);
      for (let n = 0; n < 60; n += budget) b.cpu.run(0, Math.min(budget, 60 - n));
      return [vp.pc, vp.x(0), b.ports.clock.state.instructions, Buffer.from(vp.architecturalBytes()).toString('hex')];
    };
    assert.deepEqual(outcome(1), outcome(60));
    assert.deepEqual(outcome(7), outcome(60));
  });
});

describe('breakpoints', () => {
  const program = [a.movz(0, 1), a.movz(0, 2), a.movz(0, 3), a.b(0)];
  const at = (control: bigint, more: Record<string, bigint> = {}, el: 0 | 1 = 0) => {
    const b = debugBench(el, { DBGBVR2_EL1: BigInt(TEXT + 8), DBGBCR2_EL1: control, MDSCR_EL1: MDE, ...more });
    b.program(el === 1 ? [UNMASK, ...program.slice(1)] : program);
    b.cpu.run(0, 10);
    return seen(b);
  };
  const none = { ec: 0, x: 3 };
  const [E, EL1, EL0] = [1n, 2n, 4n];
  test('the instruction has not run, and other addresses of the page are not affected', () => {
    assert.deepEqual(at(E | EL0), { pc: SYNC_EL0, ec: 0x30, iss: 0x22, elr: 8, ss: false, far: 0 });
  });
  test('filters: exception level, enable bits, locks, reserved fields', () => {
    const classes = {
      'other level': at(E | EL1),
      'both levels': at(E | EL0 | EL1),
      'not enabled': at(EL0),
      'HMC without EL2': at(E | EL0 | (1n << 13n)),
      'reserved type': at(E | EL0 | (4n << 20n)),
      'MDE clear': at(E | EL0, { MDSCR_EL1: 0n }),
      'OS lock': at(E | EL0, { OSLAR_EL1: 1n }),
      'double lock': at(E | EL0, { OSDLR_EL1: 1n }),
      'EL1 without KDE': at(E | EL1, {}, 1),
      'EL1 with KDE': at(E | EL1, { MDSCR_EL1: MDE | KDE }, 1),
      'linked to a context': at(E | EL0 | (1n << 20n) | (4n << 16n), {
        DBGBVR4_EL1: 9n,
        DBGBCR4_EL1: E | (3n << 20n),
        CONTEXTIDR_EL1: 9n,
      }),
      'linked to another': at(E | EL0 | (1n << 20n) | (4n << 16n), { DBGBVR4_EL1: 9n, DBGBCR4_EL1: E | (3n << 20n) }),
      'linked to no context': at(E | EL0 | (1n << 20n) | (1n << 16n), { DBGBCR1_EL1: E | (3n << 20n) }),
    };
    assert.deepEqual(
      Object.entries(classes)
        .filter(([, s]) => s.ec !== none.ec)
        .map(([name, s]) => `${name}: ${s.ec.toString(16)} at ${s.elr}`),
      ['both levels: 30 at 8', 'EL1 with KDE: 31 at 8', 'linked to a context: 30 at 8'],
    );
  });
  test('a context breakpoint is at every instruction', () => {
    const s = at(0n, { DBGBVR5_EL1: 9n, DBGBCR5_EL1: E | EL0 | (2n << 20n), CONTEXTIDR_EL1: 9n });
    assert.deepEqual([s.ec, s.elr], [0x30, 0]);
  });
  test('PSTATE.D masks those of EL1, and the debugger of the host has its own', () => {
    const b = debugBench(1, { DBGBVR0_EL1: BigInt(TEXT + 12), DBGBCR0_EL1: E | EL1, MDSCR_EL1: MDE | KDE });
    b.program([UNMASK, MASK, a.nop(), a.nop(), a.movz(0, 5), UNMASK, a.b(-12)]);
    b.cpu.setBreakpoint(BigInt(TEXT + 12));
    assert.equal(b.cpu.run(0, 100).kind, 'breakpoint');
    assert.equal(seen(b).ec, 0);
    assert.equal(b.cpu.run(0, 100, { resume: true }).kind, 'breakpoint');
    assert.equal(b.cpu.vps[0].x(0), 5n);
    // The second time D is clear: passing the host's breakpoint meets the guest's.
    b.cpu.run(0, 1, { resume: true });
    assert.deepEqual([seen(b).ec, seen(b).elr, seen(b).pc], [0x31, 12, SYNC_EL1]);
  });
});

describe('watchpoints', () => {
  const at = (control: bigint, address: number, words: readonly number[], more: Record<string, bigint> = {}) => {
    const b = debugBench(0, { DBGWVR1_EL1: BigInt(address), DBGWCR1_EL1: control, MDSCR_EL1: MDE, ...more });
    b.program([...words, a.b(0)]);
    const [vp] = b.cpu.vps;
    vp.setX(1, BigInt(DATA));
    vp.setX(2, 0x1234n);
    b.cpu.run(0, 10);
    return { ...seen(b), memory: Number(b.ram.view.getBigUint64(DATA, true)) };
  };
  const [E, EL0, LOAD, STORE] = [1n, 4n, 8n, 16n];
  const bas = (v: bigint) => v << 5n;
  test('the access is not made; FAR_EL1 and WnR tell it', () => {
    const s = at(E | EL0 | STORE | bas(0xffn), DATA, [a.nop(), a.str(2, 1, 0)]);
    assert.deepEqual(s, { pc: SYNC_EL0, ec: 0x34, iss: 0x62, elr: 4, ss: false, far: DATA, memory: 0 });
    const l = at(E | EL0 | LOAD | bas(0xffn), DATA, [a.ldr(2, 1, 0)]);
    assert.deepEqual([l.ec, l.iss], [0x34, 0x22]);
  });
  test('bytes, masks and kinds of access', () => {
    const store = [a.str(2, 1, 0)];
    const byte = (offset: number) => [a.ldrb(2, 1, offset)];
    const outcomes = {
      'load of what is watched for stores': at(E | EL0 | STORE | bas(0xffn), DATA, [a.ldr(2, 1, 0)]).ec,
      'atomic of what is watched for loads': at(E | EL0 | LOAD | bas(0xffn), DATA, [0xf8220023]).ec,
      'byte selected': at(E | EL0 | LOAD | bas(4n), DATA, byte(2)).far - DATA,
      'byte not selected': at(E | EL0 | LOAD | bas(4n), DATA, byte(3)).ec,
      'word address': at(E | EL0 | LOAD | bas(2n), DATA + 4, byte(5)).far - DATA,
      'word address, bytes below': at(E | EL0 | LOAD | bas(0xfn), DATA + 4, byte(1)).ec,
      'store over the watched byte': at(E | EL0 | STORE | bas(0x10n), DATA, store).far - DATA,
      'mask of 4 KiB': at(E | EL0 | LOAD | bas(0xffn) | (12n << 24n), DATA, byte(0xfff)).far - DATA,
      'outside the mask': at(E | EL0 | LOAD | bas(0xffn) | (6n << 24n), DATA, byte(64)).ec,
      'another page': at(E | EL0 | LOAD | bas(0xffn), DATA + 0x1000, byte(0)).ec,
      'EL1 only': at(E | 2n | STORE | bas(0xffn), DATA, store).ec,
      'MDE clear': at(E | EL0 | STORE | bas(0xffn), DATA, store, { MDSCR_EL1: 0n }).ec,
      tagged: at(E | EL0 | LOAD | bas(0xffn), DATA, [0xd2eb4003, 0x8b030021, a.ldr(2, 1, 0)]).ec,
      'over the page end': at(E | EL0 | STORE | bas(1n), DATA + 0x1000, [a.addImm(1, 1, 0xffc), 0xf9000022]).far - DATA,
    };
    assert.deepEqual(outcomes, {
      'load of what is watched for stores': 0,
      'atomic of what is watched for loads': 0x34,
      'byte selected': 2,
      'byte not selected': 0,
      'word address': 5,
      'word address, bytes below': 0,
      'store over the watched byte': 4,
      'mask of 4 KiB': 0xfff,
      'outside the mask': 0,
      'another page': 0,
      'EL1 only': 0,
      'MDE clear': 0,
      tagged: 0x34,
      'over the page end': 0x1000,
    });
  });
  test('a page that was in the fast TLB is watched as well, and no longer when the watchpoint is gone', () => {
    const b = debugBench(0, { MDSCR_EL1: MDE });
    b.program([a.ldr(3, 1, 0), a.str(2, 1, 0), a.b(-8)]);
    b.cpu.vps[0].setX(1, BigInt(DATA));
    b.cpu.run(0, 30);
    b.set('DBGWVR0_EL1', BigInt(DATA));
    b.set('DBGWCR0_EL1', E | EL0 | STORE | bas(0xffn));
    b.cpu.run(0, 5);
    assert.equal(seen(b).ec, 0x34);
    b.set('DBGWCR0_EL1', 0n);
    const [vp] = b.cpu.vps;
    vp.setU64(cellOf('ESR_EL1'), 0n);
    returnTo(b, 0, 10);
    assert.equal(seen(b).ec, 0);
  });
});

describe('SP alignment', () => {
  const SA = 1n << 3n;
  const run = (words: readonly number[], { sp = DATA, el = 1 as 0 | 1, check = SA | (SA << 1n) } = {}) => {
    const b = debugBench(el, {});
    const [vp] = b.cpu.vps;
    b.set('SCTLR_EL1', 1n | check);
    vp.sp = BigInt(sp);
    vp.setX(1, BigInt(DATA + 8));
    b.program([...words, a.b(0)]);
    b.cpu.run(0, 40);
    return { ...seen(b), sp: Number(vp.sp) - DATA };
  };
  /** mov sp, x1; ldr x0, [sp]; stp x0, x1, [sp, #-24]!; sub sp, sp, #8; prfm pldl1keep, [sp] */
  const [MOV_SP, LDR_SP, STP_PRE, SUB_8, PRFM] = [0x9100003f, 0xf94003e0, 0xa9be87e0, 0xd10023ff, 0xf98003e0];
  test('a load or store with a misaligned SP as base faults, however SP came to it', () => {
    assert.deepEqual(
      [
        run([LDR_SP], { sp: DATA + 4 }),
        run([MOV_SP, a.nop(), LDR_SP]),
        run([STP_PRE, a.nop(), LDR_SP]),
        run([SUB_8, LDR_SP]),
      ].map((s) => [s.ec, s.elr, s.sp]),
      [
        [0x26, 0, 4],
        [0x26, 8, 8],
        [0x26, 8, -24],
        [0x26, 4, -8],
      ],
    );
    assert.deepEqual(
      [run([LDR_SP], { sp: DATA + 8, el: 0 }).ec, run([LDR_SP], { sp: DATA + 8, el: 0, check: SA }).ec],
      [0x26, 0],
    );
  });
  test('SP as a scratch register, as Linux has it at every exception, faults only on a way that uses it', () => {
    // add sp, sp, x0; sub x0, sp, x0; tbnz x0, #bit, use; sub x0, sp, x0; sub sp, sp, x0; ldr x2, [sp]; b .; use: ldr x0, [sp]
    const scratch = (bit: number) => [
      0x8b2063ff,
      0xcb2063e0,
      0x37000000 | (bit << 19) | (5 << 5),
      0xcb2063e0,
      0xcb2063ff,
      0xf94003e2,
      a.b(0),
      LDR_SP,
    ];
    const outcome = (bit: number) => {
      const s = run([a.movz(0, 3), ...scratch(bit)]);
      return [s.ec, s.elr, s.sp];
    };
    // DATA = 0x200000: bit 21 of SP is set.
    assert.deepEqual(
      [outcome(20), outcome(21)],
      [
        [0, -TEXT, 0],
        [0x26, 32, 3],
      ],
    );
  });
  test('nothing else faults: an aligned SP, other bases, prefetches, no check', () => {
    assert.deepEqual(
      [
        run([LDR_SP]).ec,
        run([MOV_SP, a.ldr(0, 1, 0), a.addImm(0, 1, 0), PRFM]).ec,
        run([SUB_8, SUB_8, LDR_SP]).ec,
        run([MOV_SP, LDR_SP], { check: 0n }).ec,
      ],
      [0, 0, 0, 0],
    );
  });
});
