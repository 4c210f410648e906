import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Mmu } from '../../../emulator/cpu/mmu.ts';
import { type AccessKind, type CpuPorts, EXECUTE, READ, WRITE } from '../../../emulator/cpu/ports.ts';
import { SystemInstructions } from '../../../emulator/cpu/system.ts';
import { PSTATE } from '../../../emulator/cpu/vp-state.ts';
import { fixture, sysWord } from './fixture.ts';
import { ABORTED, BASE, comparable, OPERATIONS, translationCases } from './translation-cases.ts';

/** 4 KiB granule, 48-bit halves, 40-bit output. */
const TCR = 16n | (16n << 16n) | (2n << 30n) | (2n << 32n);
/** AttrIndx 0 Normal, 1 Device-nGnRE, 2 Device-nGnRnE. */
const MAIR = 0x0004ffn;
const [VALID, TABLE, PAGE] = [1n, 3n, 3n];
const AF = 1n << 10n;
const [USER, RO, PXN, UXN] = [1n << 6n, 1n << 7n, 1n << 53n, 1n << 54n];

/** Tables at 0x10000 (level 0), 0x11000 (1), 0x12000 (2), 0x13000 (3), for VA 0 upwards. */
function mapped(model = 'max') {
  const f = fixture({ model });
  const put = (at: number, d: bigint) => f.ram.view.setBigUint64(at, d, true);
  put(0x10000, 0x11000n | TABLE);
  put(0x11000, 0x12000n | TABLE);
  put(0x12000, 0x13000n | TABLE);
  for (const [name, value] of [
    ['TTBR0_EL1', 0x10000n | (7n << 48n) | 1n],
    ['TTBR1_EL1', 0x10000n],
    ['TCR_EL1', TCR],
    ['MAIR_EL1', MAIR],
    ['SCTLR_EL1', 1n | (1n << 23n)],
  ] as const)
    f.set(name, value);
  /** PA, or the fault status as text. */
  const at = (va: bigint, access: AccessKind = READ, el: 0 | 1 = 1, pan = false) =>
    f.mmu.translate(f.vp, Number(va >> 32n) | 0, Number(va & 0xffffffffn) | 0, access, el, pan)
      ? f.mmu.out.pa
      : `fault ${f.mmu.out.fsc.toString(16)}`;
  return { ...f, put, at };
}

for (const [what, wide, file] of [
  ['translations of random tables', false, 'translations.txt'],
  ['translations with 52-bit addresses, access flags and dirty state', true, 'wide-translations.txt'],
] as const)
  test(`${what} are what another implementation recorded`, () => {
    const { tables, cases } = translationCases(wide);
    const recorded = readFileSync(new URL(file, import.meta.url), 'utf8')
      .trim()
      .split(/\s+/);
    const f = fixture();
    // RAM that begins at BASE, as the oracle's walks see it.
    const view = new DataView(tables.buffer);
    const at = (gpa: number): number => {
      assert.ok(gpa >= BASE);
      return gpa - BASE;
    };
    const ram = {
      size: BASE + tables.length,
      touch: () => {},
      view: {
        getUint32: (gpa: number, le: boolean) => view.getUint32(at(gpa), le),
        setUint32: (gpa: number, v: number, le: boolean) => view.setUint32(at(gpa), v, le),
      },
    };
    const mmu = new Mmu({ ...f.ports, bus: { ram } } as unknown as CpuPorts);
    const system = new SystemInstructions(
      f.ports,
      {
        flushAll: () => {},
        flushPage: () => {},
        flushAddressSpaces: () => {},
        switchAddressSpace: () => {},
        debugChanged: () => {},
        syncCounters: () => {},
      },
      mmu,
    );
    const wrong: string[] = [];
    cases.forEach((c, i) => {
      f.set('SCTLR_EL1', c.sctlr);
      f.set('TCR_EL1', c.tcr);
      f.set('MAIR_EL1', c.mair);
      f.set('TTBR0_EL1', c.ttbr0);
      f.set('TTBR1_EL1', c.ttbr1);
      f.pstate(PSTATE.EL1H | PSTATE.PAN);
      f.vp.setX(0, c.va);
      const name = OPERATIONS[c.operation];
      const done = system.execute(
        f.vp,
        name.endsWith('P') ? sysWord(0, 7, 9, name === 'S1E1RP' ? 0 : 1, 0) : sysWord(0, 7, 8, OPERATIONS.indexOf(name), 0),
      );
      // The oracle's AT counts as an access.
      if ((f.get('PAR_EL1') & 1n) === 0n) mmu.accessed();
      const par = (done === 'jumped' ? ABORTED : comparable(f.get('PAR_EL1'))).toString(16);
      if (par !== recorded[i])
        wrong.push(`${i} ${name} va ${c.va.toString(16)} tcr ${c.tcr.toString(16)}: ${par}, recorded ${recorded[i]}`);
    });
    assert.deepEqual(wrong, []);
    assert.equal(recorded.length, cases.length);
    assert.ok(
      recorded.filter((r) => (BigInt(`0x${r}`) & 1n) === 0n).length > 1000,
      'too few successful translations to mean anything',
    );
  });

test('a page is readable, writable and executable as its descriptor says', () => {
  const f = mapped();
  const rows = [0n, USER, RO, USER | RO, PXN, UXN, USER | PXN, USER | UXN, USER | RO | UXN].map((bits) => {
    f.put(0x13000, 0x20000n | PAGE | AF | bits);
    const may = (el: 0 | 1, pan: boolean) =>
      ([READ, WRITE, EXECUTE] as const).map((a, i) => (typeof f.at(0x123n, a, el, pan) === 'number' ? 'rwx'[i] : '-')).join('');
    return [may(1, false), may(1, true), may(0, false)];
  });
  assert.deepEqual(rows, [
    ['rwx', 'rwx', '--x'], // no EL0 access: EL0 may only execute
    ['rw-', '---', 'rwx'], // EL0-writable is never executable at EL1
    ['r-x', 'r-x', '--x'],
    ['r-x', '--x', 'r-x'], // PAN is about data
    ['rw-', 'rw-', '--x'],
    ['rwx', 'rwx', '---'],
    ['rw-', '---', 'rwx'],
    ['rw-', '---', 'rw-'],
    ['r-x', '--x', 'r--'],
  ]);
  f.put(0x13000, 0x20000n | PAGE | AF);
  f.set('SCTLR_EL1', 1n | (1n << 19n)); // WXN
  assert.equal(f.at(0n, EXECUTE), 'fault f');
});

test('faults tell their kind and level', () => {
  const f = mapped();
  f.put(0x13000, 0n);
  const seen: Record<string, number | string> = { 'level 3 invalid': f.at(0n) };
  f.put(0x13000, 0x20000n | VALID);
  seen['level 3 block'] = f.at(0n);
  f.put(0x13000, 0x20000n | PAGE);
  seen['access flag'] = f.at(0n);
  f.put(0x13000, 0x20000n | PAGE | AF | RO);
  seen.permission = f.at(0n, WRITE);
  f.put(0x13000, 0x100_0000_0000n | PAGE | AF);
  seen['address size'] = f.at(0n);
  f.put(0x12008, 0x200000n | VALID | AF | RO);
  seen['level 2 permission'] = f.at(0x200000n, WRITE);
  f.put(0x12010, 0x7000_0000n | TABLE);
  seen['walk outside RAM'] = f.at(0x400000n);
  f.put(0x11008, 0n);
  seen['level 1 invalid'] = f.at(0x4000_0000n);
  seen['level 0 invalid'] = f.at(0x80_0000_0000n);
  seen['beyond the half'] = f.at(0x1_0000_0000_0000n);
  seen['neither half'] = f.at(0x8000_0000_0000_0000n);
  f.set('TCR_EL1', TCR | (1n << 23n));
  seen.EPD1 = f.at(0xffff_0000_0000_0000n);
  f.set('TCR_EL1', TCR | (1n << 55n));
  seen.E0PD0 = f.at(0n, READ, 0);
  assert.deepEqual(seen, {
    'level 3 invalid': 'fault 7',
    'level 3 block': 'fault 7',
    'access flag': 'fault b',
    permission: 'fault f',
    'address size': 'fault 3',
    'level 2 permission': 'fault e',
    'walk outside RAM': 'fault 17',
    'level 1 invalid': 'fault 5',
    'level 0 invalid': 'fault 4',
    'beyond the half': 'fault 4',
    'neither half': 'fault 4',
    EPD1: 'fault 4',
    E0PD0: 'fault 4',
  });
});

test('blocks larger than the granule allows are invalid', () => {
  const f = mapped('neoverse-n1');
  f.put(0x10008, 0x80_0000_0000n | VALID | AF);
  assert.equal(f.at(0x80_0000_0000n), 'fault 4');
  // 16 KiB: levels 0 and 1; 64 KiB: level 1.
  f.put(0x10000, 0n | VALID | AF);
  f.set('TCR_EL1', (TCR & ~0xffffn) | 16n | (2n << 14n));
  assert.equal(f.at(0n), 'fault 4');
  f.set('TCR_EL1', (TCR & ~0xffffn) | 17n | (2n << 14n));
  assert.equal(f.at(0n), 'fault 5');
  f.set('TCR_EL1', (TCR & ~0xffffn) | 16n | (1n << 14n));
  assert.equal(f.at(0n), 'fault 5');
});

test('blocks, tags and memory types', () => {
  const f = mapped();
  f.put(0x11008, 0x40000000n | VALID | AF | (1n << 2n)); // 1 GiB, Device
  f.put(0x12008, 0x600000n | VALID | AF | (2n << 2n)); // 2 MiB, Device
  f.put(0x13008, 0x21000n | PAGE | AF | RO);
  const attributes = (va: bigint) => [f.at(va), f.mmu.out.device, f.mmu.out.writable];
  assert.deepEqual(
    [attributes(0x7654_3210n), attributes(0x2f_fff8n), attributes(0x1ff8n)],
    [
      [0x7654_3210, true, true],
      [0x6f_fff8, true, true],
      [0x21ff8, false, false],
    ],
  );
  assert.equal(f.at(0x5a00_0000_0000_1000n), 'fault 4');
  f.set('TCR_EL1', TCR | (1n << 37n));
  assert.equal(f.at(0x5a00_0000_0000_1000n), 0x21000);
});

test('with the MMU off addresses are physical, data is Device memory, and too large an address is a size fault', () => {
  const f = mapped();
  f.set('SCTLR_EL1', 0n);
  const at = (va: bigint, access: AccessKind) => [f.at(va, access), f.mmu.out.device];
  assert.deepEqual(
    [at(0xf_ffff_ffff_ffffn, READ), at(0x8000_0000n, EXECUTE)],
    [
      [0xf_ffff_ffff_ffff, true],
      [0x8000_0000, false],
    ],
  );
  assert.equal(f.at(0x10_0000_0000_0000n), 'fault 0');
  f.set('TCR_EL1', 1n << 37n);
  assert.equal(f.at(0x2200_0000_0000_0010n), 0x10);
});

test('an external abort on the walk of AT is taken, and AT never changes PAR_EL1 then', () => {
  const f = mapped();
  f.put(0x12000, 0x7000_0000n | TABLE);
  f.set('PAR_EL1', 0x77n);
  assert.equal(f.system.execute(f.vp, sysWord(0, 7, 8, 0)), 'jumped');
  assert.deepEqual([f.get('ESR_EL1') & 0xfc00003fn, f.get('PAR_EL1')], [(0x25n << 26n) | 0x17n, 0x77n]);
});

test('DC ZVA zeroes its block and marks the page', () => {
  const f = mapped();
  f.put(0x13000, 0x20000n | PAGE | AF);
  f.ram.clean();
  f.ram.bytes.fill(0xaa, 0x20000, 0x20100);
  f.vp.setX(2, 0x7fn);
  assert.equal(f.system.execute(f.vp, sysWord(3, 7, 4, 1, 2)), 'next');
  assert.deepEqual([...f.ram.bytes.subarray(0x2003f, 0x20082)], [0xaa, ...Array(64).fill(0), 0xaa, 0xaa]);
  assert.deepEqual(f.ram.dirtyPages(), [0x20]);
  f.put(0x13000, 0x20000n | PAGE | AF | RO);
  assert.equal(f.system.execute(f.vp, sysWord(3, 7, 4, 1, 2)), 'jumped');
  assert.equal(f.get('ESR_EL1'), (0x25n << 26n) | (1n << 25n) | 0x4fn);
});

test('hardware sets the Access flag and the dirty state where TCR_EL1 asks for it, and only when the access is made', () => {
  const f = mapped();
  const [HA, HD] = [1n << 39n, 1n << 40n];
  const DBM = 1n << 51n;
  const descriptor = () => f.ram.view.getBigUint64(0x13000, true) & (AF | RO);
  const seen: Record<string, unknown[]> = {};
  const run = (name: string, tcr: bigint, bits: bigint, access: AccessKind) => {
    f.set('TCR_EL1', TCR | tcr);
    f.put(0x13000, 0x20000n | PAGE | bits);
    const out = f.at(0n, access);
    const before = descriptor();
    f.mmu.accessed();
    seen[name] = [out, before === (bits & (AF | RO)), descriptor() === AF, f.mmu.out.writable];
  };
  run('read, no AF', HA, 0n, READ);
  run('read of clean', HA | HD, AF | RO | DBM, READ);
  run('write of clean', HA | HD, AF | RO | DBM, WRITE);
  run('write of clean without AF', HA | HD, RO | DBM, WRITE);
  run('write of read-only', HA | HD, AF | RO, WRITE);
  run('HD without HA', HD, AF | RO | DBM, WRITE);
  run('AF not managed', 0n, 0n, READ);
  assert.deepEqual(seen, {
    'read, no AF': [0x20000, true, true, true],
    'read of clean': [0x20000, true, false, false],
    'write of clean': [0x20000, true, true, true],
    'write of clean without AF': [0x20000, true, true, true],
    'write of read-only': ['fault f', true, false, true],
    'HD without HA': ['fault f', true, false, true],
    'AF not managed': ['fault b', true, false, true],
  });
});

test('PAN3: with SCTLR_EL1.EPAN what EL0 may execute is barred as well', () => {
  const f = mapped();
  f.put(0x13000, 0x20000n | PAGE | AF);
  assert.equal(f.at(0n, READ, 1, true), 0x20000);
  f.set('SCTLR_EL1', 1n | (1n << 57n));
  assert.deepEqual(
    [f.at(0n, READ, 1, true), f.at(0n, READ, 1, false), f.at(0n, EXECUTE, 1, true)],
    ['fault f', 0x20000, 0x20000],
  );
  f.put(0x13000, 0x20000n | PAGE | AF | UXN);
  assert.equal(f.at(0n, READ, 1, true), 0x20000);
});
