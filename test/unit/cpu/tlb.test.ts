import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cellOf, systemRegister, writeSystemRegister } from '../../../emulator/cpu/sysregs.ts';
import { bc, COND, machineOf, movz16, TEXT as TEXT_AT } from '../smp-guest.ts';
import * as a from './engine-asm.ts';
import { bench, DATA, TABLES, TEXT } from './engine-harness.ts';

/** What survives which maintenance, seen from outside: descriptors change behind the TLB's back, and a load tells what it knew. */

const BLOCK = 0x401n;
const PAGE = 0x403n;
const NG = 1n << 11n;
/** Level 1 table of the upper half, and levels 2 and 3 below its first GiB. */
const UPPER = TABLES + 0x1000;
const [LEVEL2, LEVEL3] = [TABLES + 0x2000, TABLES + 0x3000];
const HIGH = 0xffff_ff80_0000_0000n;
const OTHER = TABLES + 0x4000;

function twoHalves(descriptor: bigint, { large = false } = {}) {
  const b = bench();
  const [vp] = b.cpu.vps;
  const set = (name: string, value: bigint) => {
    const row = systemRegister(name);
    if (!row) throw new Error(name);
    writeSystemRegister({ ports: b.ports, tlb: b.cpu }, vp, row, value);
  };
  const put = (at: number, d: bigint) => b.ram.view.setBigUint64(at, d, true);
  // 39-bit halves with 4 KiB granules; TG1 = 0b10.
  set('TCR_EL1', 25n | (25n << 16n) | (2n << 30n) | (5n << 32n) | (1n << 37n));
  set('TTBR1_EL1', BigInt(UPPER));
  put(UPPER, large ? BLOCK : BigInt(LEVEL2) | 3n);
  put(LEVEL2, BigInt(LEVEL3) | 3n);
  for (let i = 0; i < 512; i++) put(LEVEL3 + 8 * i, BigInt(DATA) | descriptor);
  // A second low half, the same.
  put(OTHER, 0n | BLOCK);
  const load = (address: bigint): bigint => {
    b.program([a.ldr(0, 1, 0)], TEXT);
    vp.setX(0, 0n);
    vp.setX(1, address);
    vp.setU64(cellOf('ESR_EL1'), 0n);
    b.cpu.run(0, 1);
    const esr = vp.u32(cellOf('ESR_EL1'));
    return esr ? BigInt(esr & 0x3f) | 0xf00n : vp.x(0);
  };
  b.ram.view.setBigUint64(DATA, 0x1111n, true);
  const tlbi = (op: number, value: bigint) => {
    b.program([0xd5080000 | op | 1], TEXT);
    vp.setX(1, value);
    b.cpu.run(0, 1);
  };
  return { ...b, set, put, load, tlbi };
}
const FAULT = 0xf07n;
const KNOWN = 0x1111n;

test('another low half leaves what is global of the upper half in the TLB, and nothing else', () => {
  for (const [name, descriptor, expected] of [
    ['global', PAGE, KNOWN],
    ['of one address space', PAGE | NG, FAULT],
  ] as const) {
    const t = twoHalves(descriptor);
    assert.equal(t.load(HIGH), KNOWN);
    t.put(LEVEL3, 0n);
    assert.equal(t.load(HIGH), KNOWN, 'no maintenance yet');
    t.set('TTBR0_EL1', BigInt(OTHER));
    assert.equal(t.load(HIGH), expected, name);
  }
});

test('the low half is forgotten with TTBR0_EL1, global or not', () => {
  const t = twoHalves(PAGE);
  assert.equal(t.load(BigInt(DATA)), KNOWN);
  t.put(OTHER, 0n);
  t.put(TABLES + 8, BigInt(LEVEL2) | 3n);
  t.set('TTBR0_EL1', BigInt(OTHER));
  assert.equal(t.cpu.run(0, 1).kind, 'budget');
  // Not even the code is mapped now.
  assert.equal(t.cpu.vps[0].u32(cellOf('ESR_EL1')) >>> 26, 0x21);
});

test('an ASID in TTBR1_EL1 is another address space, other tables are everything', () => {
  const t = twoHalves(PAGE);
  t.load(HIGH);
  t.put(LEVEL3, 0n);
  t.set('TTBR1_EL1', BigInt(UPPER) | (7n << 48n));
  assert.equal(t.load(HIGH), KNOWN);
  t.set('TTBR1_EL1', BigInt(OTHER) | (7n << 48n));
  assert.notEqual(t.load(HIGH + 0x1000n), FAULT);
  t.set('TTBR1_EL1', BigInt(UPPER) | (7n << 48n));
  assert.equal(t.load(HIGH), FAULT);
});

test('TLBI by ASID, by page and by range take what they name', () => {
  const [VAE1, ASIDE1, RVAE1] = [0x8720, 0x8740, 0x8620];
  const page = (va: bigint) => (va >> 12n) & ((1n << 44n) - 1n);
  const t = twoHalves(PAGE | NG);
  const known = () => [HIGH, HIGH + 0x1000n, HIGH + 0x2000n].map((va) => t.load(va) === KNOWN);
  const reload = () => {
    for (let i = 0; i < 3; i++) t.put(LEVEL3 + 8 * i, BigInt(DATA) | PAGE | NG);
    t.cpu.flushAll();
    known();
    for (let i = 0; i < 3; i++) t.put(LEVEL3 + 8 * i, 0n);
  };
  const outcomes: boolean[][] = [];
  for (const [op, value] of [
    [VAE1, page(HIGH + 0x1000n)],
    [RVAE1, (page(HIGH) & 0x1fffffffffn) | (1n << 46n)],
    [ASIDE1, 0n],
  ] as const) {
    reload();
    t.tlbi(op, value);
    outcomes.push(known());
  }
  assert.deepEqual(outcomes, [
    [true, false, true],
    [false, false, true],
    [false, false, false],
  ]);
});

test('any page of a large block goes with it, also when the block is of 1 GiB', () => {
  const t = twoHalves(PAGE, { large: true });
  const at = HIGH + BigInt(DATA);
  assert.equal(t.load(at), KNOWN);
  t.put(UPPER, 0n);
  t.tlbi(0x8720, ((HIGH + 0x3000_0000n) >> 12n) & ((1n << 44n) - 1n));
  assert.equal(t.load(at), 0xf05n);
});

test('more entries of an address space than are kept track of are forgotten all the same', () => {
  const t = twoHalves(PAGE | NG);
  const [vp] = t.cpu.vps;
  // Loads of 512 pages over and over, each displaced by code and data at the same place of the TLB in between.
  t.program([a.ldr(0, 1, 0), a.add(1, 1, 2), a.subsImm(3, 3, 1), a.bcond(1, -12)]);
  for (let round = 0; round < 6; round++) {
    vp.pc = BigInt(TEXT);
    vp.setX(1, HIGH);
    vp.setX(2, 0x1000n);
    vp.setX(3, 512n);
    t.cpu.run(0, 2048);
    for (let i = 0; i < 512; i++) t.cpu.flushPage(HIGH + BigInt(i << 12));
  }
  t.load(HIGH);
  t.put(LEVEL3, 0n);
  t.set('TTBR0_EL1', BigInt(OTHER));
  assert.equal(t.load(HIGH), FAULT);
});

test('an address space that comes back is known, unless maintenance has meant it', () => {
  const ASID = (n: bigint) => n << 48n;
  const [VAE1, VAAE1, ASIDE1, VMALLE1] = [0x8720, 0x8760, 0x8740, 0x871e];
  const page = ((HIGH >> 12n) & ((1n << 44n) - 1n)) | 0n;
  const back = (between: (t: ReturnType<typeof twoHalves>) => void, descriptor = PAGE | NG): boolean => {
    const t = twoHalves(descriptor);
    t.set('TTBR0_EL1', BigInt(TABLES) | ASID(1n));
    assert.equal(t.load(HIGH), KNOWN);
    t.put(LEVEL3, 0n);
    t.set('TTBR0_EL1', BigInt(TABLES) | ASID(2n));
    if (descriptor & NG) assert.equal(t.load(HIGH), FAULT, 'the other does not know it');
    between(t);
    t.set('TTBR0_EL1', BigInt(TABLES) | ASID(1n));
    return t.load(HIGH) === KNOWN;
  };
  const outcomes = {
    nothing: back(() => {}),
    'TLBI VAE1 of another ASID': back((t) => t.tlbi(VAE1, page | ASID(2n))),
    'TLBI VAE1 of its ASID': back((t) => t.tlbi(VAE1, page | ASID(1n))),
    'TLBI VAAE1': back((t) => t.tlbi(VAAE1, page)),
    'TLBI ASIDE1 of another ASID': back((t) => t.tlbi(ASIDE1, ASID(2n))),
    'TLBI ASIDE1 of its ASID': back((t) => t.tlbi(ASIDE1, ASID(1n))),
    'TLBI VMALLE1': back((t) => t.tlbi(VMALLE1, 0n)),
    'other tables': back((t) => t.set('TCR_EL1', t.cpu.vps[0].u64(cellOf('TCR_EL1')) | (1n << 38n))),
    'more address spaces than are kept': back((t) => {
      for (let n = 3n; n < 13n; n++) {
        t.set('TTBR0_EL1', BigInt(TABLES) | ASID(n));
        t.put(LEVEL3 + 8, BigInt(DATA) | PAGE | NG);
        t.load(HIGH + 0x1000n);
      }
    }),
  };
  assert.deepEqual(outcomes, {
    nothing: true,
    'TLBI VAE1 of another ASID': true,
    'TLBI VAE1 of its ASID': false,
    'TLBI VAAE1': false,
    'TLBI ASIDE1 of another ASID': true,
    'TLBI ASIDE1 of its ASID': false,
    'TLBI VMALLE1': false,
    'other tables': false,
    'more address spaces than are kept': false,
  });
});

test('a page that became code or was cleaned meanwhile is not written behind the back of who watches it', () => {
  const t = twoHalves(PAGE | NG);
  const [vp] = t.cpu.vps;
  const store = (value: bigint) => {
    t.program([a.str(0, 1, 0)], TEXT);
    vp.setX(0, value);
    vp.setX(1, HIGH);
    t.cpu.run(0, 1);
  };
  t.set('TTBR0_EL1', BigInt(TABLES) | (1n << 48n));
  store(1n);
  t.set('TTBR0_EL1', BigInt(TABLES) | (2n << 48n));
  t.ram.clean();
  t.set('TTBR0_EL1', BigInt(TABLES) | (1n << 48n));
  store(2n);
  assert.ok(t.ram.dirtyPages().includes(DATA >>> 12));
  // The data's page becomes code of the other address space: the code that was decoded goes with the next write.
  t.set('TTBR0_EL1', BigInt(TABLES) | (2n << 48n));
  t.ram.write(DATA, new Uint8Array(new Uint32Array([a.movz(5, 7), a.hvc(0)]).buffer));
  vp.pc = HIGH;
  t.cpu.run(0, 10);
  t.set('TTBR0_EL1', BigInt(TABLES) | (1n << 48n));
  store(BigInt(a.movz(5, 8)) | (BigInt(a.hvc(0)) << 32n));
  vp.pc = HIGH;
  assert.equal(t.cpu.run(0, 10).kind, 'hvc');
  assert.equal(vp.x(5), 8n);
});

test('a run goes on from its snapshot as a restored one does, whatever maintenance the guest has left out', () => {
  // The third GiB becomes RAM, is read, and is unmapped without TLBI; after a while it is read again, to a fault or not.
  const body = [
    ...[a.movz(1, 0x701), movz16(2, TEXT_AT >>> 16), a.addImm(2, 2, 0x800), a.addImm(2, 2, 0x800), a.str(1, 2, 16)],
    ...[movz16(3, 0x8000), a.add(3, 3, 20), a.ldr(4, 3, 0), a.str(31, 2, 16)],
    ...[a.movz(5, 5000), 'wait', a.subsImm(5, 5, 1), bc(COND.NE, 'wait')],
    ...[a.ldr(4, 3, 0), a.movz(6, 1), a.str(6, 20, 8)],
  ];
  const make = () => machineOf(1, body, { quantum: 1000 });
  const machine = make();
  assert.equal(machine.run({ instructions: 3000 }).kind, 'limit');
  const snapshot = machine.snapshot();
  const other = make();
  other.restore(snapshot);
  for (let i = 0; i < 20; i++) {
    machine.run({ instructions: 1000 });
    other.run({ instructions: 1000 });
    assert.equal(other.stateHash(), machine.stateHash(), `after ${machine.instructions} instructions`);
  }
});
