import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as a from './engine-asm.ts';
import { bench, DATA, DEVICE, READ_ONLY, TABLES, TEXT, VECTORS } from './engine-harness.ts';
import { ROWS } from '../../../emulator/cpu/a64/index.ts';
import { Decoder } from '../../../emulator/cpu/decoder.ts';
import { FEATURES } from '../../../emulator/cpu/features.ts';
import { insn } from '../../../emulator/cpu/insn.ts';
import { cellOf } from '../../../emulator/cpu/sysregs.ts';
import { PSTATE, VP } from '../../../emulator/cpu/vp-state.ts';
import { DIRTY } from '../../../emulator/memory/ram.ts';

const ESR = cellOf('ESR_EL1');
const FAR = cellOf('FAR_EL1');
const ELR = cellOf('ELR_EL1');
const ALL = new Set(FEATURES);

/** N, Z, C, V of x + y + carry in `width` bits, by the definition of AddWithCarry (Arm ARM J1.1.3). */
function reference(x: bigint, y: bigint, carry: bigint, width: number): [number, number, number, number] {
  const unsigned = BigInt.asUintN(width, x) + BigInt.asUintN(width, y) + carry;
  const signed = BigInt.asIntN(width, x) + BigInt.asIntN(width, y) + carry;
  const r = BigInt.asUintN(width, unsigned);
  return [Number(r >> BigInt(width - 1)), r === 0n ? 1 : 0, r === unsigned ? 0 : 1, BigInt.asIntN(width, r) === signed ? 0 : 1];
}
function holds(cond: number, [n, z, c, v]: readonly number[]): boolean {
  const base = [z === 1, c === 1, n === 1, v === 1, c === 1 && z === 0, n === v, n === v && z === 0, true][cond >> 1];
  return cond & 1 && cond < 14 ? !base : base;
}

describe('decoder', () => {
  test('a special case is found before the general row, and falls back to it when its condition fails', () => {
    const nothing = () => {};
    const general = insn('general', '0001 x:28', nothing);
    const special = insn('special', '0001 0000 x:24', nothing, { when: (f) => f.x !== 7 });
    const other = insn('other', '0010 x:28', nothing, { feat: 'SVE' });
    const d = new Decoder([general, special, other], new Set());
    const names = [0x10000000, 0x10000007, 0x11000000, 0x20000000, 0x30000000].map((w) => d.decode(w)?.row.name);
    assert.deepEqual(names, ['special', 'general', 'general', undefined, undefined]);
  });
  test('rows that overlap without one being a special case of the other are refused', () => {
    const rows = [insn('one', '0001 0 x:27', () => {}), insn('two', '0001 y 1 x:26', () => {})];
    assert.throws(() => new Decoder(rows, ALL), /one and two overlap|two and one overlap/);
  });
  test('the rows of this CPU do not collide', () => {
    new Decoder(ROWS, ALL);
  });
});

describe('flags', () => {
  const values = [
    0n,
    1n,
    2n,
    0x7fffffffn,
    0x80000000n,
    0xffffffffn,
    0x7fffffffffffffffn,
    0x8000000000000000n,
    0xffffffffffffffffn,
    0x123456789abcdef0n,
  ];
  test('every condition after SUBS, ADDS and ANDS of both widths agrees with the definition, in branches and in selects', () => {
    const b = bench();
    const vp = b.cpu.vps[0];
    const wrong: string[] = [];
    for (const sf of [0, 1]) {
      const width = sf ? 64 : 32;
      for (const [name, op] of [
        ['subs', a.subs],
        ['adds', a.adds],
        ['ands', a.ands],
      ] as const) {
        // X2 collects the conditions that CSEL sees, X3 those that B.cond sees.
        const words = [op(sf, 31, 0, 1)];
        for (let c = 0; c < 14; c++)
          words.push(a.cset(4, c), a.orrShifted(2, 2, 4, c), a.bcond(c, 8), a.b(8), a.orrShifted(3, 3, 6, c));
        words.push(a.mrsNzcv(5), a.hvc(0));
        b.program(words);
        for (const x of values)
          for (const y of values) {
            [x, y, 0n, 0n, 0n, 0n, 1n].forEach((v, i) => {
              vp.setX(i, v);
            });
            vp.pc = BigInt(TEXT);
            assert.equal(b.cpu.run(0, 1000).kind, 'hvc');
            const nzcv =
              name === 'subs'
                ? reference(x, ~y, 1n, width)
                : name === 'adds'
                  ? reference(x, y, 0n, width)
                  : reference(x & y, 0n, 0n, width);
            let expected = 0n;
            for (let c = 0; c < 14; c++) if (holds(c, nzcv)) expected |= 1n << BigInt(c);
            const packed = BigInt(nzcv[0] * 8 + nzcv[1] * 4 + nzcv[2] * 2 + nzcv[3]) << 28n;
            if (vp.x(2) !== expected || vp.x(3) !== expected || vp.x(5) !== packed)
              wrong.push(
                `${name}${width} ${x.toString(16)} ${y.toString(16)}: ${vp.x(2).toString(2)} ${vp.x(3).toString(2)} ${vp.x(5).toString(16)}`,
              );
          }
      }
    }
    assert.deepEqual(wrong, []);
  });
});

describe('control flow and counting', () => {
  /** A loop with calls over page boundaries, near and far branches, loads and stores. */
  const program = (b: ReturnType<typeof bench>) => {
    const far = TEXT + 0x5000;
    b.place([a.addImm(3, 3, 3), a.ret()], far);
    // The body ends 2 instructions after a page boundary.
    const start = TEXT + 0xff0;
    b.program(
      [
        a.bl(far - start),
        a.ldr(4, 5, 0),
        a.add(4, 4, 3),
        a.str(4, 5, 0), // page end
        a.subsImm(6, 6, 1),
        a.bcond(1, -20),
        a.hvc(7),
      ],
      start,
    );
    const vp = b.cpu.vps[0];
    vp.setX(5, BigInt(DATA));
    vp.setX(6, 1000n);
    return { perRound: 8, rounds: 1000 };
  };

  test('the count of retired instructions is exact, and no slicing changes the outcome', () => {
    const outcomes = new Set<string>();
    for (const slice of [1, 7, 100, 1031, 1032, 1033, 1100, 2500, 1_000_000]) {
      const b = bench();
      const { perRound, rounds } = program(b);
      let exit: string;
      let longest = 0;
      do {
        const before = b.ports.clock.state.instructions;
        exit = b.cpu.run(0, slice).kind;
        longest = Math.max(longest, b.ports.clock.state.instructions - before);
      } while (exit === 'budget');
      assert.ok(longest <= slice);
      assert.equal(b.ports.clock.state.instructions, perRound * rounds);
      assert.equal(b.ports.clock.now, perRound * rounds);
      outcomes.add(Buffer.from(b.cpu.vps[0].bytes).toString('hex') + b.ram.view.getBigUint64(DATA, true));
    }
    assert.equal(outcomes.size, 1);
  });

  test('an alarm ends the run at its instant', () => {
    const b = bench();
    program(b);
    b.ports.clock.on('x', () => {});
    b.ports.clock.set('x', 4321);
    assert.deepEqual(b.cpu.run(0, 1_000_000), { kind: 'alarm' });
    assert.equal(b.ports.clock.now, 4321);
  });

  test('HVC leaves before it retires; WFI after', () => {
    const b = bench();
    b.program([a.hvc(5), a.wfi(), a.nop()]);
    assert.deepEqual(b.cpu.run(0, 100), { kind: 'hvc', imm: 5 });
    assert.deepEqual([b.cpu.vps[0].pc, b.ports.clock.now], [BigInt(TEXT), 0]);
    b.cpu.retireAndAdvance(0);
    assert.deepEqual(b.cpu.run(0, 100), { kind: 'wfi' });
    assert.deepEqual([b.cpu.vps[0].pc, b.ports.clock.now], [BigInt(TEXT + 8), 2]);
    assert.deepEqual(b.cpu.run(0, 100), { kind: 'wfi' });
    b.cpu.setIrq(0, true);
    assert.deepEqual(b.cpu.run(0, 1), { kind: 'budget' });
    assert.equal(b.cpu.vps[0].pc, BigInt(TEXT + 12));
  });

  test('an interrupt is taken where it becomes possible: at once, or after it is unmasked', () => {
    const b = bench();
    const vp = b.cpu.vps[0];
    b.program([a.nop(), a.daifClr(2), a.nop(), a.nop()]);
    b.place([a.hvc(1)], VECTORS + a.VECTOR.IRQ_EL1H);
    b.cpu.setIrq(0, true);
    assert.deepEqual(b.cpu.run(0, 100), { kind: 'hvc', imm: 1 });
    assert.equal(vp.u64(ELR), BigInt(TEXT + 8));
    assert.equal(b.ports.clock.now, 2);
  });

  test('vectors that fault at once use up the budget instead of hanging', () => {
    const b = bench();
    b.program([a.udf()]);
    b.place([a.udf()], VECTORS + a.VECTOR.SYNC_EL1H);
    assert.deepEqual(b.cpu.run(0, 5000), { kind: 'budget' });
    assert.equal(b.ports.clock.now, 5000);
  });

  test('a branch to a misaligned or unmapped address faults there', () => {
    const b = bench();
    b.program([a.br(0)]);
    b.place([a.hvc(1)], VECTORS + a.VECTOR.SYNC_EL1H);
    const vp = b.cpu.vps[0];
    const seen: string[] = [];
    for (const target of [BigInt(TEXT + 2), 0x1_0000_0000n]) {
      vp.pc = BigInt(TEXT);
      vp.setX(0, target);
      assert.equal(b.cpu.run(0, 100).kind, 'hvc');
      seen.push(`${(vp.u32(ESR) >>> 26).toString(16)} ${vp.u64(FAR).toString(16)} ${vp.u64(ELR).toString(16)}`);
    }
    assert.deepEqual(seen, ['22 10002 10002', '21 100000000 100000000']);
  });
});

describe('memory', () => {
  test("a device sees accesses of the instruction's size, pairs by element, at the right time", () => {
    const b = bench();
    b.program([
      a.ldr(0, 5, 8),
      a.ldrW(1, 5, 4),
      a.ldrb(2, 5, 3),
      a.ldp(3, 4, 5, 16),
      a.str(0, 5, 0x20),
      a.stp(1, 2, 5, 0x30),
      a.strW(6, 5, 0x40),
      a.hvc(0),
    ]);
    const vp = b.cpu.vps[0];
    vp.setX(5, BigInt(DEVICE));
    vp.setX(6, 0xabcd_0123_4567n);
    assert.equal(b.cpu.run(0, 100).kind, 'hvc');
    assert.deepEqual(b.accesses, [
      'r8@8',
      'r4@4',
      'r1@3',
      'r8@10',
      'r8@18',
      'w8@20=1122334455660008',
      'w8@30=55660004',
      'w8@38=3',
      'w4@40=1234567',
    ]);
    assert.deepEqual(
      [vp.x(0), vp.x(1), vp.x(2), vp.x(3), vp.x(4)],
      [0x1122334455660008n, 0x55660004n, 3n, 0x1122334455660010n, 0x1122334455660018n],
    );
    assert.equal(b.ports.clock.now, 7);
  });

  test('a misaligned device access and an unmapped one abort with everything unchanged', () => {
    const b = bench();
    b.program([a.ldrPost(0, 5, 8)]);
    b.place([a.hvc(1)], VECTORS + a.VECTOR.SYNC_EL1H);
    const vp = b.cpu.vps[0];
    const seen: string[] = [];
    for (const address of [DEVICE + 4, DEVICE + 0x2000]) {
      vp.setX(0, 0x55n);
      vp.setX(5, BigInt(address));
      vp.pc = BigInt(TEXT);
      assert.equal(b.cpu.run(0, 100).kind, 'hvc');
      seen.push(
        `${(vp.u32(ESR) & 0x3f).toString(16)} ${vp.u64(FAR).toString(16)} ${vp.x(0).toString(16)} ${(vp.x(5) - BigInt(address)).toString()}`,
      );
    }
    assert.deepEqual(seen, ['21 80000004 55 0', '10 80002000 55 0']);
    assert.deepEqual(b.accesses, []);
  });

  /** Maps virtual page `va` (below 1 GiB, not in the first 2 MiB) to physical `pa` with 4 KiB granularity. */
  function mapPages(b: ReturnType<typeof bench>, va: number, pages: readonly (number | undefined)[], attributes = 0n): void {
    const view = b.ram.view;
    const l2 = TABLES + 0x1000;
    const l3 = TABLES + 0x2000;
    // Everything else stays where it was, by 2 MiB blocks.
    for (let i = 0; i < 8; i++) view.setBigUint64(l2 + 8 * i, BigInt(i << 21) | 0x401n, true);
    view.setBigUint64(TABLES, BigInt(l2) | 3n, true);
    view.setBigUint64(l2 + 8 * (va >>> 21), BigInt(l3) | 3n, true);
    pages.forEach((pa, i) => {
      view.setBigUint64(l3 + 8 * (((va >>> 12) & 511) + i), pa === undefined ? 0n : BigInt(pa) | 0x403n | attributes, true);
    });
    b.cpu.flushAll();
  }

  test('an access over a page boundary reaches both pages, wherever they are', () => {
    const b = bench();
    const va = 0x800000;
    mapPages(b, va, [DATA + 0x5000, DATA + 0x2000]);
    b.program([a.str(1, 5, 0), a.ldr(2, 5, 0), a.hvc(0)]);
    const vp = b.cpu.vps[0];
    vp.setX(1, 0x1122334455667788n);
    vp.setX(5, BigInt(va + 0xffd));
    assert.equal(b.cpu.run(0, 100).kind, 'hvc');
    assert.equal(vp.x(2), 0x1122334455667788n);
    assert.deepEqual(
      [...b.ram.read(DATA + 0x5ffd, 3), ...b.ram.read(DATA + 0x2000, 5)],
      [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11],
    );
  });

  test('a fault in the second page is found before the first is written, and FAR is its first byte', () => {
    const b = bench();
    const va = 0x800000;
    mapPages(b, va, [DATA, undefined]);
    b.program([a.strPost(1, 5, 8)]);
    b.place([a.hvc(1)], VECTORS + a.VECTOR.SYNC_EL1H);
    const vp = b.cpu.vps[0];
    vp.setX(1, ~0n);
    vp.setX(5, BigInt(va + 0xffd));
    assert.equal(b.cpu.run(0, 100).kind, 'hvc');
    assert.deepEqual(
      [vp.u32(ESR) >>> 26, vp.u32(ESR) & 0x7f, vp.u64(FAR), vp.x(5)],
      [0x25, 0x47, BigInt(va + 0x1000), BigInt(va + 0xffd)],
    );
    assert.deepEqual([...b.ram.read(DATA + 0xffd, 3)], [0, 0, 0]);
  });

  test('a store to a read-only page faults also when a load has filled the TLB', () => {
    const b = bench();
    const va = 0x800000;
    mapPages(b, va, [DATA], READ_ONLY);
    b.program([a.ldr(1, 5, 0), a.str(1, 5, 0)]);
    b.place([a.hvc(1)], VECTORS + a.VECTOR.SYNC_EL1H);
    const vp = b.cpu.vps[0];
    vp.setX(5, BigInt(va));
    assert.equal(b.cpu.run(0, 100).kind, 'hvc');
    assert.deepEqual([vp.u32(ESR) & 0x7f, vp.u64(ELR)], [0x4f, BigInt(TEXT + 4)]);
  });

  test('TLBI makes a changed table entry count', () => {
    const b = bench();
    const va = 0x800000;
    mapPages(b, va, [DATA]);
    b.ram.write(DATA, new Uint8Array([1]));
    b.ram.write(DATA + 0x1000, new Uint8Array([2]));
    b.program([a.ldr(1, 5, 0), a.str(6, 7, 0), a.tlbiVmalle1(), a.ldr(2, 5, 0), a.hvc(0)]);
    const vp = b.cpu.vps[0];
    vp.setX(5, BigInt(va));
    vp.setX(6, BigInt(DATA + 0x1000) | 0x403n);
    vp.setX(7, BigInt(TABLES + 0x2000 + 8 * ((va >>> 12) & 511)));
    assert.equal(b.cpu.run(0, 100).kind, 'hvc');
    assert.deepEqual([vp.x(1), vp.x(2)], [1n, 2n]);
  });

  test('TLBI by address drops the page it names, and all of a block when that was mapped by one', () => {
    const b = bench();
    const va = 0x800000;
    mapPages(b, va, [DATA, DATA + 0x1000]);
    b.place([1], DATA);
    b.place([2], DATA + 0x1000);
    b.place([3], DATA + 0x2000);
    const block = 0xa00000;
    b.program([
      a.ldr(1, 5, 0),
      a.ldr(2, 6, 0), // two pages, and two pages of a block
      a.str(7, 8, 0),
      a.tlbiVaae1(9),
      a.ldr(3, 5, 0),
      a.hvc(0),
    ]);
    const vp = b.cpu.vps[0];
    const seen: bigint[] = [];
    // A page of a table; then a block that is named by another of its pages.
    for (const [target, entry, value, named] of [
      [va, TABLES + 0x2000, BigInt(DATA + 0x2000) | 0x403n, va],
      [block, TABLES + 0x1000 + 8 * 5, 0x401n | 0x200000n, block + 0x5000],
    ] as const) {
      vp.pc = BigInt(TEXT);
      [BigInt(target), BigInt(target + 0x1000), value, BigInt(entry), BigInt(named) >> 12n].forEach((v, i) => {
        vp.setX(5 + i, v);
      });
      assert.equal(b.cpu.run(0, 100).kind, 'hvc');
      seen.push(vp.x(1), vp.x(2), vp.x(3));
    }
    // The block at 10 MiB was empty RAM and is now DATA.
    assert.deepEqual(seen, [1n, 2n, 3n, 0n, 0n, 1n]);
  });

  test('the first write to a page after `clean` marks it dirty', () => {
    const b = bench();
    b.program([a.str(1, 5, 0), a.hvc(0)]);
    const vp = b.cpu.vps[0];
    vp.setX(5, BigInt(DATA));
    const dirty: boolean[] = [];
    for (let i = 0; i < 2; i++) {
      b.ram.clean();
      dirty.push((b.ram.flags[DATA >> 12] & DIRTY) !== 0);
      vp.pc = BigInt(TEXT);
      assert.equal(b.cpu.run(0, 100).kind, 'hvc');
      dirty.push((b.ram.flags[DATA >> 12] & DIRTY) !== 0);
    }
    assert.deepEqual(dirty, [false, true, false, true]);
  });
});

describe('code that changes', () => {
  test('an instruction written just before it runs is the one that runs', () => {
    const b = bench();
    // The loop's last instruction is replaced, in the page that runs and in another.
    b.program([a.strW(1, 5, 0), a.movz(0, 1), a.hvc(0)]);
    const vp = b.cpu.vps[0];
    const results: bigint[] = [];
    for (const value of [2, 3]) {
      vp.setX(1, BigInt(a.movz(0, value)));
      vp.setX(5, BigInt(TEXT + 4));
      vp.pc = BigInt(TEXT);
      assert.equal(b.cpu.run(0, 100).kind, 'hvc');
      results.push(vp.x(0));
    }
    // By the host.
    b.program([a.strW(1, 6, 0), a.movz(0, 4), a.hvc(0)]);
    vp.setX(6, BigInt(DATA));
    assert.equal(b.cpu.run(0, 100).kind, 'hvc');
    results.push(vp.x(0));
    assert.deepEqual(results, [2n, 3n, 4n]);
  });

  test('a device that writes the page of the instruction that reads it does no harm', () => {
    const b = bench();
    const gpa = DEVICE + 0x10000;
    b.ports.bus.map({
      name: 'dma',
      gpa,
      size: 0x1000,
      read: () => {
        b.place([a.movz(1, 9)], TEXT + 4);
        return 5n;
      },
      write: () => {},
    });
    b.program([a.ldr(0, 5, 0), a.movz(1, 8), a.hvc(0)]);
    const vp = b.cpu.vps[0];
    vp.setX(5, BigInt(gpa));
    assert.equal(b.cpu.run(0, 100).kind, 'hvc');
    assert.deepEqual([vp.x(0), vp.x(1), b.ports.clock.now], [5n, 9n, 2]);
  });

  test('instructions with many register fields or immediates work (LD4 post-indexed, CASP)', () => {
    const b = bench();
    for (let i = 0; i < 64; i++) b.ram.write(DATA + i, new Uint8Array([i]));
    // ld4 {v30.16b, v31.16b, v0.16b, v1.16b}, [x5], x6 ; caspal x0, x1, x2, x3, [x7]
    b.program([0x4cc600be, 0x4860fce2, a.hvc(0)]);
    const vp = b.cpu.vps[0];
    vp.setX(5, BigInt(DATA));
    vp.setX(6, 5n);
    vp.setX(7, BigInt(DATA));
    [0x0706050403020100n, 0x0f0e0d0c0b0a0908n, 1n, 2n].forEach((v, i) => {
      vp.setX(i, v);
    });
    assert.equal(b.cpu.run(0, 100).kind, 'hvc');
    const lane = (start: number) =>
      BigInt(`0x${Array.from({ length: 16 }, (_, i) => (start + 4 * (15 - i)).toString(16).padStart(2, '0')).join('')}`);
    assert.deepEqual(
      [30, 31, 0, 1].map((n) => vp.v(n)),
      [0, 1, 2, 3].map(lane),
    );
    assert.equal(vp.x(5), BigInt(DATA + 5));
    assert.deepEqual([b.ram.view.getBigUint64(DATA, true), b.ram.view.getBigUint64(DATA + 8, true)], [1n, 2n]);
  });
});

describe('debugger', () => {
  const loop = (b: ReturnType<typeof bench>) => {
    b.program([a.addImm(0, 0, 1), a.addImm(1, 1, 1), a.b(-8)]);
  };

  test('a breakpoint stops before its instruction every time, and `resume` passes over it', () => {
    const b = bench();
    loop(b);
    b.cpu.setBreakpoint(BigInt(TEXT + 4));
    const vp = b.cpu.vps[0];
    for (let i = 1n; i <= 3n; i++) {
      assert.deepEqual(b.cpu.run(0, 100, { resume: true }), { kind: 'breakpoint' });
      assert.deepEqual([vp.pc, vp.x(0), vp.x(1)], [BigInt(TEXT + 4), i, i - 1n]);
    }
    assert.equal(b.cpu.run(0, 100).kind, 'breakpoint');
    b.cpu.clearBreakpoint(BigInt(TEXT + 4));
    assert.equal(b.cpu.run(0, 3000).kind, 'budget');
    assert.equal(vp.x(1), 1002n);
  });

  test('a breakpoint on a branch that has already run together with its comparison stops there', () => {
    const b = bench();
    b.program([a.addImm(0, 0, 1), a.subsImm(1, 1, 1), a.bcond(1, -8), a.hvc(0)]);
    const vp = b.cpu.vps[0];
    vp.setX(1, 10_000n);
    assert.equal(b.cpu.run(0, 9000).kind, 'budget');
    b.cpu.setBreakpoint(BigInt(TEXT + 8));
    for (let i = 0n; i < 3n; i++) {
      assert.deepEqual(b.cpu.run(0, 5000, { resume: i > 0n }), { kind: 'breakpoint' });
      assert.deepEqual([vp.pc, vp.x(0), vp.x(1)], [BigInt(TEXT + 8), 3001n + i, 6999n - i]);
    }
    b.cpu.clearBreakpoint(BigInt(TEXT + 8));
    assert.equal(b.cpu.run(0, 100_000).kind, 'hvc');
    assert.deepEqual([vp.x(0), b.ports.clock.now], [10_000n, 30_000]);
  });

  test('it survives that its page is written, and is there for code that comes later', () => {
    const b = bench();
    b.cpu.setBreakpoint(BigInt(TEXT + 4));
    loop(b);
    assert.equal(b.cpu.run(0, 100).kind, 'breakpoint');
    b.program([a.nop(), a.nop(), a.hvc(0)]);
    assert.equal(b.cpu.run(0, 100).kind, 'breakpoint');
    assert.equal(b.cpu.run(0, 100, { resume: true }).kind, 'hvc');
  });

  test('it is for its virtual address only: the same code at another address runs', () => {
    const b = bench();
    b.program([a.addImm(0, 0, 1), a.ldr(2, 5, 0), a.hvc(0)]);
    const vp = b.cpu.vps[0];
    vp.setX(5, BigInt(DATA));
    b.cpu.setBreakpoint(BigInt(TEXT + 4));
    assert.equal(b.cpu.run(0, 100).kind, 'breakpoint');
    vp.pc = BigInt(TEXT) + 0x4000_0000n;
    assert.equal(b.cpu.run(0, 100).kind, 'hvc');
    assert.equal(vp.x(0), 2n);
    assert.equal(b.ports.clock.now, 3);
  });

  test('a watchpoint stops after the access that touches its bytes, and for no other', () => {
    const b = bench();
    b.program([a.str(1, 5, 0), a.ldr(2, 5, 16), a.str(1, 5, 16), a.ldr(2, 5, 24), a.hvc(0)]);
    const vp = b.cpu.vps[0];
    vp.setX(1, 77n);
    vp.setX(5, BigInt(DATA));
    b.cpu.setWatchpoint({ address: BigInt(DATA + 20), size: 4, access: 'w' });
    assert.deepEqual(b.cpu.run(0, 100), { kind: 'watchpoint', pc: BigInt(TEXT + 8), address: BigInt(DATA + 20), access: 'w' });
    assert.deepEqual([vp.pc, b.ram.view.getBigUint64(DATA + 16, true), b.ports.clock.now], [BigInt(TEXT + 12), 77n, 3]);
    assert.equal(b.cpu.run(0, 100).kind, 'hvc');
    b.cpu.clearWatchpoint(BigInt(DATA + 20), 4);
    b.cpu.setWatchpoint({ address: BigInt(DATA + 24), size: 1, access: 'r' });
    vp.pc = BigInt(TEXT);
    assert.deepEqual(b.cpu.run(0, 100), { kind: 'watchpoint', pc: BigInt(TEXT + 12), address: BigInt(DATA + 24), access: 'r' });
  });

  test('a watchpoint by physical address stops whatever the virtual address is', () => {
    const b = bench();
    b.program([a.str(1, 5, 16), a.ldr(2, 6, 16), a.ldr(2, 6, 24), a.hvc(0)]);
    const vp = b.cpu.vps[0];
    vp.setX(5, BigInt(DATA));
    vp.setX(6, BigInt(DATA) + 0x4000_0000n);
    const address = BigInt(DATA + 20);
    b.cpu.setWatchpoint({ address, size: 4, access: 'rw', physical: true });
    assert.deepEqual(b.cpu.run(0, 100), { kind: 'watchpoint', pc: BigInt(TEXT), address, access: 'w', physical: true });
    assert.deepEqual(b.cpu.run(0, 100), { kind: 'watchpoint', pc: BigInt(TEXT + 4), address, access: 'r', physical: true });
    b.cpu.clearWatchpoint(address, 4);
    vp.pc = BigInt(TEXT);
    assert.equal(b.cpu.run(0, 100).kind, 'watchpoint', 'one by virtual address is another');
    b.cpu.clearWatchpoint(address, 4, true);
    assert.equal(b.cpu.run(0, 100).kind, 'hvc');
  });

  test('instructions that read or write a watched system register are breakpoints: in hot code, and in code that comes later', () => {
    const b = bench();
    const [MSR_TPIDR_EL1, MRS_TPIDR_EL1, MRS_TPIDR_EL0] = [0xd518d080, 0xd538d081, 0xd53bd042];
    b.program([a.addImm(0, 0, 1), MSR_TPIDR_EL1, MRS_TPIDR_EL0, MRS_TPIDR_EL1, a.b(-16)]);
    const vp = b.cpu.vps[0];
    assert.equal(b.cpu.run(0, 20_000).kind, 'budget');
    b.cpu.watchRegisters(['tpidr_el1']);
    const at = (): number => Number(vp.pc) - TEXT;
    const next = (): number => {
      assert.deepEqual(b.cpu.run(0, 100, { resume: true }), { kind: 'breakpoint' });
      return at();
    };
    assert.deepEqual([next(), next(), next()].sort(), [12, 4, 4]);
    b.cpu.watchRegisters(['TPIDR_EL0']);
    assert.deepEqual([next(), next()], [8, 8]);
    b.program([a.nop(), MRS_TPIDR_EL0, a.hvc(0)]);
    assert.equal(next(), 4);
    assert.equal(b.cpu.run(0, 100, { resume: true }).kind, 'hvc');
    vp.pc = BigInt(TEXT);
    b.cpu.watchRegisters([]);
    assert.equal(b.cpu.run(0, 100).kind, 'hvc');
    assert.throws(() => b.cpu.watchRegisters(['x0']), /no system register x0/);
  });

  test('exceptions of bare instructions can be seen instead of taken', () => {
    const b = bench();
    b.program([a.nop(), a.udf()]);
    b.cpu.onException = (_vp, kind) => kind === 'undef';
    assert.deepEqual(b.cpu.run(0, 100), { kind: 'exception', exception: 'undef' });
    assert.equal(b.cpu.vps[0].pc, BigInt(TEXT + 4));
  });
});

describe('several VPs', () => {
  test('each has its registers and its translations; the exclusive monitor does not survive a turn of another', () => {
    const b = bench({ vpCount: 2 });
    b.program([a.ldxr(0, 5), a.nop(), a.stxr(2, 6, 5), a.hvc(0)]);
    for (const vp of b.cpu.vps) {
      vp.pc = BigInt(TEXT);
      vp.setX(5, BigInt(DATA));
      vp.setX(6, BigInt(vp.index + 10));
    }
    assert.equal(b.cpu.run(0, 2).kind, 'budget');
    assert.equal(b.cpu.run(1, 100).kind, 'hvc');
    assert.equal(b.cpu.run(0, 100).kind, 'hvc');
    assert.deepEqual([b.cpu.vps[0].x(2), b.cpu.vps[1].x(2), b.ram.view.getBigUint64(DATA, true)], [1n, 0n, 11n]);
    assert.equal(b.cpu.vps[0].u32(VP.EVENT), 1);
  });
});

test('FP instructions trap while CPACR_EL1 says so, and retire when it does not', () => {
  const b = bench();
  const vp = b.cpu.vps[0];
  b.program([0x4ea11c20, a.hvc(0)]); // orr v0.16b, v1.16b, v1.16b
  b.place([a.hvc(1)], VECTORS + a.VECTOR.SYNC_EL1H);
  vp.setV(1, 0x1234n);
  vp.setU32(VP.FP_ENABLED, 0);
  assert.deepEqual(b.cpu.run(0, 10), { kind: 'hvc', imm: 1 });
  assert.equal(vp.u32(ESR) >>> 26, 7);
  vp.setU32(VP.FP_ENABLED, 1);
  vp.pc = BigInt(TEXT);
  assert.deepEqual(b.cpu.run(0, 10), { kind: 'hvc', imm: 0 });
  assert.equal(vp.v(0), 0x1234n);
  assert.equal(vp.u32(VP.PSTATE) & PSTATE.M, PSTATE.EL1H);
});
