/** FEAT_LSE2: exclusives, atomics, acquire and release that are not aligned. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cellOf } from '../../../emulator/cpu/sysregs.ts';
import { VP } from '../../../emulator/cpu/vp-state.ts';
import { refresh } from '../../../emulator/cpu/exceptions.ts';
import * as asm from './engine-asm.ts';
import { type Bench, bench, DATA, DEVICE, TEXT } from './engine-harness.ts';

const ABORT_ALIGNMENT = { ec: 0x25, dfsc: 0x21 };
const [NAA, A] = [1n << 6n, 2n];

/** Words on [x1]: bytes, and which rule is theirs. */
const ACCESSES = {
  'ldxr x0': { word: 0xc85f7c20, size: 8, rule: 'atomic' },
  'ldaxrh w0': { word: 0x485ffc20, size: 2, rule: 'atomic' },
  'ldxp w0, w3': { word: 0x887f0c20, size: 8, rule: 'atomic' },
  'ldxp x0, x3': { word: 0xc87f0c20, size: 16, rule: 'atomic' },
  'ldadd x2, x0': { word: 0xf8220020, size: 8, rule: 'atomic' },
  'swph w2, w0': { word: 0x78228020, size: 2, rule: 'atomic' },
  'cas w0, w2': { word: 0x88a07c22, size: 4, rule: 'atomic' },
  'casp w4, w5, w2, w3': { word: 0x08247c22, size: 8, rule: 'atomic' },
  'ldar x0': { word: 0xc8dffc20, size: 8, rule: 'ordered' },
  'ldapr w0': { word: 0xb8bfc020, size: 4, rule: 'ordered' },
  'stlrh w2': { word: 0x489ffc22, size: 2, rule: 'ordered' },
  'ldapur x0': { word: 0xd9400020, size: 8, rule: 'ordered' },
  'stlur w2': { word: 0x99000022, size: 4, rule: 'ordered' },
  'ldr x0': { word: asm.ldr(0, 1, 0), size: 8, rule: 'none' },
} as const;

const machines = (['interpreter', 'auto'] as const).map((engine) => bench({ options: { engine, threshold: 0 } }));
for (const m of machines)
  m.place(
    Array.from({ length: 0x800 / 4 }, () => asm.b(0)),
    0x300000,
  );

function once(b: Bench, words: readonly number[], at: number, control: bigint) {
  const [vp] = b.cpu.vps;
  const sctlr = cellOf('SCTLR_EL1');
  vp.setU64(sctlr, (vp.u64(sctlr) & ~(NAA | A)) | control);
  refresh(vp);
  b.cpu.stateChanged();
  b.ram.write(
    DATA,
    Uint8Array.from({ length: 64 }, (_, i) => 0x80 + i),
  );
  b.ram.write(
    DATA + 0xfc0,
    Uint8Array.from({ length: 128 }, (_, i) => 0x80 + i),
  );
  vp.bytes.fill(0, 0, VP.PC);
  b.program(words);
  vp.setX(1, BigInt(at));
  vp.setX(2, 0x1122334455667788n);
  vp.setU64(cellOf('ESR_EL1'), 0n);
  const from = b.ports.clock.state.instructions;
  b.cpu.run(0, words.length);
  const esr = vp.u32(cellOf('ESR_EL1'));
  return {
    ec: esr >>> 26,
    dfsc: esr & 0x3f,
    x: [0, 1, 2, 3, 4, 5].map((n) => vp.x(n)),
    memory: Buffer.from(b.ram.read(DATA, 0x1040)).toString('hex'),
    instructions: b.ports.clock.state.instructions - from,
  };
}

test('within 16 bytes nothing faults; across, atomics do, and acquire and release without SCTLR_EL1.nAA; with SCTLR_EL1.A all do', () => {
  for (const [name, { word, size, rule }] of Object.entries(ACCESSES))
    for (const control of [0n, NAA, A, NAA | A])
      for (const page of [DATA, DATA + 0xff0])
        for (let offset = 0; offset < 16; offset++) {
          const [a, b] = machines.map((m) => once(m, [word], page + offset, control));
          assert.deepEqual(b, a, name);
          const aligned = offset % size === 0;
          const within = offset + size <= 16;
          const passes =
            aligned || (control & A ? false : rule === 'none' || within || (rule === 'ordered' && (control & NAA) !== 0n));
          const what = `${name} at ${offset}, SCTLR_EL1 ${control.toString(16)}`;
          assert.deepEqual({ ec: a.ec, dfsc: a.dfsc }, passes ? { ec: 0, dfsc: 0 } : ABORT_ALIGNMENT, what);
          const loads = name === 'ldr x0' || name === 'ldar x0' || name === 'ldxr x0' || name === 'ldapur x0';
          if (passes && loads) assert.equal(a.x[0], Buffer.from(a.memory, 'hex').readBigUInt64LE(page + offset - DATA), what);
        }
});

test('a misaligned exclusive pair and a misaligned atomic do what aligned ones do', () => {
  for (const m of machines) {
    // ldxr x0, [x1]; stxr w3, x2, [x1]
    const pair = once(m, [asm.ldxr(0, 1), asm.stxr(3, 2, 1)], DATA + 5, 0n);
    assert.deepEqual([pair.x[0], pair.x[3], pair.ec], [0x8c8b8a8988878685n, 0n, 0]);
    assert.equal(pair.memory.slice(10, 26), '8877665544332211');
    // At another address the store fails.
    const other = once(m, [asm.ldxr(0, 1), asm.addImm(1, 1, 1), asm.stxr(3, 2, 1)], DATA + 5, 0n);
    assert.deepEqual([other.x[3], other.ec], [1n, 0]);
    const sum = once(m, [ACCESSES['ldadd x2, x0'].word], DATA + 3, 0n);
    assert.equal(sum.x[0], 0x8a89888786858483n);
    assert.equal(
      sum.memory.slice(6, 22),
      Buffer.from(new BigUint64Array([0x8a89888786858483n + 0x1122334455667788n]).buffer).toString('hex'),
    );
  }
});

test('Device memory has to be aligned', () => {
  for (const m of machines) {
    const seen = once(m, [ACCESSES['ldar x0'].word], DEVICE + 4, 0n);
    assert.deepEqual({ ec: seen.ec, dfsc: seen.dfsc }, ABORT_ALIGNMENT);
  }
});

test('hot code with misaligned atomics', () => {
  // Always in the second byte of 16.
  const words = [asm.addImm(1, 1, 16), 0xf8220020, asm.subsImm(3, 3, 1), asm.bcond(1, -12), asm.hvc(0)];
  const [a, b] = machines.map((m) => {
    m.ram.write(DATA, new Uint8Array(8192));
    const [vp] = m.cpu.vps;
    vp.bytes.fill(0, 0, VP.PC);
    const from = m.ports.clock.state.instructions;
    m.program(words, TEXT + 0x100);
    vp.setX(1, BigInt(DATA + 1));
    vp.setX(2, 0x0101010101010101n);
    vp.setX(3, 200n);
    const exit = m.cpu.run(0, 1e6);
    return [exit, m.ports.clock.state.instructions - from, Buffer.from(m.ram.read(DATA, 8192)).toString('hex'), vp.x(0)];
  });
  assert.deepEqual(b, a);
  assert.deepEqual(a[0], { kind: 'hvc', imm: 0 });
});
