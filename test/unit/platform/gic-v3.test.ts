import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Trace } from '../../../emulator/base/trace.ts';
import { GICD, GICR } from '../../../emulator/platform/addresses.ts';
import { GicV3 } from '../../../emulator/platform/gic-v3.ts';

/** A GIC set up as Linux does it: everything group 1, priority 0xa0, PMR 0xf0, redistributors awake. */
function gic(vpCount = 1, o: { intids?: number; asleep?: boolean } = {}) {
  const lines: string[] = Array(vpCount).fill('');
  const trace = new Trace();
  const events: string[] = [];
  trace.subscribe((e) => {
    if (e.kind === 'interrupt') events.push(`${e.vp}:${e.intid}`);
  });
  const g = new GicV3({
    vpCount,
    trace,
    distributor: { ...GICD, ...(o.intids === undefined ? {} : { intids: o.intids }) },
    setIrq: (vp, irq, fiq) => {
      lines[vp] = (irq ? 'i' : '') + (fiq ? 'f' : '');
    },
  });
  const [d, r] = g.regions;
  const w = (offset: number, value: number | bigint, size = 4) => d.write(offset, size, BigInt(value));
  const rw = (vp: number, offset: number, value: number, size = 4) => r.write(vp * 0x20000 + offset, size, BigInt(value));
  const rd = (offset: number, size = 4) => d.read(offset, size);
  const rr = (vp: number, offset: number, size = 4) => r.read(vp * 0x20000 + offset, size);
  w(0, 0x12); // ARE, group 1
  for (let n = 1; n < 31; n++) {
    w(0x80 + 4 * n, 0xffffffff);
    for (let b = 0; b < 8; b++) w(0x400 + 32 * n + 4 * b, 0xa0a0a0a0);
  }
  for (let vp = 0; vp < vpCount; vp++) {
    if (o.asleep) rw(vp, 0x14, 2);
    rw(vp, 0x10080, 0xffffffff);
    for (let b = 0; b < 8; b++) rw(vp, 0x10400 + 4 * b, 0xa0a0a0a0);
    g.write(vp, 'ICC_PMR_EL1', 0xf0n);
    g.write(vp, 'ICC_IGRPEN1_EL1', 1n);
  }
  const ack = (vp = 0) => Number(g.read(vp, 'ICC_IAR1_EL1'));
  const eoi = (intid: number, vp = 0) => g.write(vp, 'ICC_EOIR1_EL1', BigInt(intid));
  return { g, lines, events, w, rw, rd, rr, ack, eoi };
}

/** Enables SPI `intid` and routes it. */
function spi(t: ReturnType<typeof gic>, intid: number, o: { edge?: boolean; priority?: number; route?: bigint } = {}) {
  t.w(0xc00 + 4 * (intid >> 4), Number(t.rd(0xc00 + 4 * (intid >> 4))) | (o.edge ? 2 << (2 * (intid & 15)) : 0));
  if (o.priority !== undefined) t.w(0x400 + intid, o.priority, 1);
  t.w(0x6000 + 8 * intid, o.route ?? 0n, 8);
  t.w(0x100 + 4 * (intid >> 5), 2 ** (intid & 31));
}

test('it is where Hyper-V has it and says what it is', () => {
  const t = gic(2);
  assert.deepEqual(
    t.g.regions.map((r) => [r.name, r.gpa, r.size]),
    [
      ['GICD', GICD.gpa, 0x10000],
      ['GICR', GICR.gpa, 0x40000],
    ],
  );
  assert.deepEqual(
    {
      pidr2: t.rd(0xffe8),
      typer: t.rd(4),
      ctlr: t.rd(0),
      lines: (Number(t.rd(4) & 31n) + 1) * 32,
      gicr: [t.rr(0, 8, 8), t.rr(1, 8, 8), t.rr(1, 0xffe8)],
      typerHigh: t.rr(1, 12),
      cpu: ['ICC_CTLR_EL1', 'ICC_SRE_EL1', 'ICC_PMR_EL1', 'ICC_RPR_EL1', 'ICC_BPR1_EL1'].map((n) => t.g.read(0, n)),
    },
    {
      pidr2: 0x3bn,
      typer: 0x0448001en,
      ctlr: 0x52n,
      lines: 992,
      gicr: [0n, 0x1_0000_0110n, 0x3bn],
      typerHigh: 1n,
      cpu: [0x40400n, 7n, 0xf0n, 0xffn, 3n],
    },
  );
  assert.equal(gic(1, { intids: 64 }).rd(4) & 31n, 1n);
});

test('a level interrupt is pending while its line is high, active once acknowledged, again pending after the end', () => {
  const t = gic();
  spi(t, 33);
  const seen: unknown[] = [];
  t.g.setSpi(33, true);
  seen.push([t.lines[0], t.ack(), t.lines[0], t.rd(0x304), t.g.read(0, 'ICC_RPR_EL1'), t.ack()]);
  t.eoi(33);
  seen.push([t.lines[0], t.ack()]);
  t.g.setSpi(33, false);
  t.eoi(33);
  seen.push([t.lines[0], t.ack(), t.rd(0x304), t.g.read(0, 'ICC_RPR_EL1')]);
  assert.deepEqual(seen, [
    ['i', 33, '', 2n, 0xa0n, 1023],
    ['i', 33],
    ['', 1023, 0n, 0xffn],
  ]);
  assert.deepEqual(t.events, ['0:33']);
});

test('an edge is latched once, also while active', () => {
  const t = gic();
  spi(t, 40, { edge: true });
  t.g.setSpi(40, true);
  t.g.setSpi(40, false);
  assert.deepEqual([t.ack(), t.ack()], [40, 1023]);
  t.g.pulseSpi(40);
  assert.deepEqual([t.lines[0], t.rd(0x204)], ['', 0x100n]);
  t.eoi(40);
  assert.deepEqual([t.lines[0], t.ack()], ['i', 40]);
  t.eoi(40);
  assert.equal(t.ack(), 1023);
});

test('enable, group, PMR, the distributor and the redistributor each hold an interrupt back', () => {
  const t = gic(1, { asleep: true });
  spi(t, 33);
  t.g.setSpi(33, true);
  const seen = [t.lines[0]];
  const after = (act: () => void) => {
    act();
    seen.push(t.lines[0]);
  };
  after(() => t.rw(0, 0x14, 0));
  after(() => t.w(0x184, 2));
  after(() => t.w(0x104, 2));
  after(() => t.g.write(0, 'ICC_PMR_EL1', 0xa0n));
  after(() => t.g.write(0, 'ICC_PMR_EL1', 0xa8n));
  after(() => t.w(0, 0x10));
  after(() => t.w(0, 0x12));
  after(() => t.g.write(0, 'ICC_IGRPEN1_EL1', 0n));
  after(() => t.g.write(0, 'ICC_IGRPEN1_EL1', 1n));
  assert.deepEqual(seen, ['', 'i', '', 'i', '', 'i', '', 'i', '', 'i']);
});

test('of pending interrupts the most urgent is taken first, and preempts by its group priority', () => {
  const t = gic();
  spi(t, 50, { priority: 0xa0 });
  spi(t, 51, { priority: 0x80 });
  spi(t, 52, { priority: 0x80 });
  for (const n of [50, 52, 51]) t.g.setSpi(n, true);
  assert.equal(t.g.read(0, 'ICC_HPPIR1_EL1'), 51n);
  assert.equal(t.ack(), 51);
  assert.equal(t.lines[0], ''); // 52 is not more urgent than 51
  spi(t, 53, { priority: 0x40 });
  t.g.setSpi(53, true);
  assert.deepEqual([t.lines[0], t.ack(), t.g.read(0, 'ICC_RPR_EL1'), t.g.read(0, 'ICC_AP1R0_EL1')], ['i', 53, 0x40n, 0x10100n]);
  t.g.setSpi(53, false);
  t.eoi(53);
  assert.equal(t.g.read(0, 'ICC_RPR_EL1'), 0x80n);
  t.g.setSpi(51, false);
  t.eoi(51);
  assert.equal(t.ack(), 52);
});

test('the binary point makes priorities of one group not preempt each other', () => {
  const t = gic();
  t.g.write(0, 'ICC_BPR1_EL1', 6n); // group priority: bits 7:6
  spi(t, 50, { priority: 0xb0 });
  spi(t, 51, { priority: 0x80 });
  t.g.setSpi(50, true);
  assert.equal(t.ack(), 50);
  t.g.setSpi(51, true);
  assert.deepEqual([t.lines[0], t.g.read(0, 'ICC_RPR_EL1')], ['', 0x80n]);
  t.w(0x400 + 51, 0x40, 1);
  assert.equal(t.lines[0], 'i');
  t.g.write(0, 'ICC_BPR1_EL1', 0n);
  assert.equal(t.g.read(0, 'ICC_BPR1_EL1'), 3n);
});

test('with EOImode 1 the end only drops the priority; DIR deactivates', () => {
  const t = gic();
  spi(t, 33);
  t.g.write(0, 'ICC_CTLR_EL1', 2n);
  t.g.setSpi(33, true);
  assert.equal(t.ack(), 33);
  t.eoi(33);
  assert.deepEqual([t.g.read(0, 'ICC_RPR_EL1'), t.rd(0x304), t.lines[0]], [0xffn, 2n, '']);
  t.g.write(0, 'ICC_DIR_EL1', 33n);
  assert.deepEqual([t.rd(0x304), t.lines[0]], [0n, 'i']);
});

test('PPIs are each VP’s own', () => {
  const t = gic(2);
  for (const vp of [0, 1]) t.rw(vp, 0x10100, (1 << 20) | (1 << 18));
  t.rw(1, 0x10c04, 2 << 4); // INTID 18: edge
  t.g.setPpi(1, 20, true);
  assert.deepEqual([[...t.lines], t.ack(0), t.ack(1)], [['', 'i'], 1023, 20]);
  t.g.setPpi(1, 20, false);
  t.eoi(20, 1);
  t.g.pulsePpi(1, 18);
  assert.deepEqual([t.rr(1, 0x10200), t.rr(0, 0x10200), t.ack(1)], [1n << 18n, 0n, 18]);
  assert.equal(t.rr(1, 0x10c04), 0x20n);
  assert.deepEqual(t.events, ['1:20', '1:18']);
});

test('SGIs go to the VPs of the target list, or to all others', () => {
  const t = gic(20);
  for (let vp = 0; vp < 20; vp++) t.rw(vp, 0x10100, 0xffff);
  const up = () => t.lines.flatMap((l, vp) => (l === 'i' ? [vp] : []));
  t.g.write(0, 'ICC_SGI1R_EL1', (5n << 24n) | 0b1010n);
  assert.deepEqual(up(), [1, 3]);
  assert.deepEqual([t.ack(1), t.ack(3)], [5, 5]);
  t.g.write(0, 'ICC_SGI1R_EL1', (1n << 44n) | (6n << 24n) | 0b1001n); // range selector 1: VPs 16..31
  assert.deepEqual(up(), [16, 19]);
  assert.deepEqual([t.ack(16), t.ack(19)], [6, 6]);
  t.g.write(7, 'ICC_SGI1R_EL1', 1n << 40n);
  assert.deepEqual(up().length, 15); // all but VP 7 and the four that are busy with one
  t.g.write(0, 'ICC_SGI1R_EL1', (1n << 16n) | 1n); // Aff1 = 1: nobody
  assert.equal(t.rr(0, 0x10200), 1n);
});

test('SPIs go where IROUTER says; 1-of-N to the first VP that takes part', () => {
  const t = gic(3);
  spi(t, 33, { route: 2n });
  t.g.setSpi(33, true);
  assert.deepEqual(t.lines, ['', '', 'i']);
  t.w(0x6000 + 8 * 33, 1n, 8);
  assert.deepEqual(t.lines, ['', 'i', '']);
  t.w(0x6000 + 8 * 33, 0x80000000n, 8);
  assert.deepEqual(t.lines, ['i', '', '']);
  t.g.write(0, 'ICC_IGRPEN1_EL1', 0n);
  assert.deepEqual(t.lines, ['', 'i', '']);
  t.w(0x6000 + 8 * 33, 0x1_0000_0000n, 8); // nobody has Aff3
  assert.equal(t.rd(0x6000 + 8 * 33, 8), 0n);
  assert.deepEqual(t.ack(1), 1023);
});

test('group 0 interrupts are FIQs with registers of their own', () => {
  const t = gic();
  t.w(0, 0x13);
  spi(t, 40);
  t.w(0x84, 0xffffffff & ~0x100);
  t.g.write(0, 'ICC_IGRPEN0_EL1', 1n);
  t.g.setSpi(40, true);
  assert.deepEqual([t.lines[0], t.ack(), t.g.read(0, 'ICC_HPPIR0_EL1'), t.g.read(0, 'ICC_HPPIR1_EL1')], ['f', 1023, 40n, 1023n]);
  assert.equal(t.g.read(0, 'ICC_IAR0_EL1'), 40n);
  t.eoi(40);
  assert.equal(t.g.read(0, 'ICC_AP0R0_EL1'), 1n << 20n); // the other group's end does nothing
  t.g.setSpi(40, false);
  t.g.write(0, 'ICC_EOIR0_EL1', 40n);
  assert.deepEqual([t.g.read(0, 'ICC_AP0R0_EL1'), t.rd(0x304)], [0n, 0n]);
});

test('software can make interrupts pending and active, and take that back', () => {
  const t = gic();
  spi(t, 40);
  t.w(0x204, 0x100);
  assert.deepEqual([t.lines[0], t.rd(0x204)], ['i', 0x100n]);
  t.w(0x284, 0x100);
  assert.deepEqual([t.lines[0], t.rd(0x284)], ['', 0n]);
  t.g.setSpi(40, true);
  t.w(0x284, 0x100); // the line is still high
  assert.equal(t.lines[0], 'i');
  t.w(0x304, 0x100);
  assert.deepEqual([t.lines[0], t.ack()], ['', 1023]);
  t.w(0x384, 0x100);
  assert.equal(t.ack(), 40);
});

test('configuration registers read back what exists of what was written', () => {
  const t = gic();
  t.w(0x400 + 40, 0xff, 1);
  t.w(0xc08, 0xffffffff);
  t.w(0x84, 0x12345678);
  t.w(0x100, 0xffffffff); // SGIs and PPIs are not in the distributor
  t.rw(0, 0x10c00, 0); // SGIs are edge-triggered, always
  t.rw(0, 0x10c04, 0xffffffff);
  t.rw(0, 0x10400, 0x11223344);
  assert.deepEqual(
    [
      t.rd(0x400 + 40, 1),
      t.rd(0xc08),
      t.rd(0x84),
      t.rd(0x100),
      t.rd(0x180),
      t.rr(0, 0x10c00),
      t.rr(0, 0x10c04),
      t.rr(0, 0x10400),
      t.rr(0, 0x14),
    ],
    [0xf8n, 0xaaaaaaaan, 0x12345678n, 0n, 0n, 0xaaaaaaaan, 0xaaaaaaaan, 0x10203040n, 0n],
  );
});

test('unknown offsets and INTIDs out of range do nothing', () => {
  const t = gic(1, { intids: 64 });
  t.g.setSpi(500, true);
  t.g.pulseSpi(64);
  t.eoi(1020);
  t.eoi(0xffffff);
  t.g.write(0, 'ICC_DIR_EL1', 0xffffffn);
  t.w(0xf00, 0xffffffff);
  assert.deepEqual([t.rd(0xf00), t.rd(0x108), t.lines[0]], [0n, 0n, '']);
});
