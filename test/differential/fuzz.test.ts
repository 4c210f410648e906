/**
 * Random programs on the interpreter and on the translator: arithmetic of every kind (words of the recorded vectors), accesses within,
 * across and outside of mapped pages, branches, calls, returns, stores into the program itself, in pieces of any length. State,
 * memory, exception and instruction count must be the same. FUZZ=N runs N programs.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { VP } from '../../emulator/cpu/vp-state.ts';
import * as asm from '../unit/cpu/engine-asm.ts';
import { type Bench, bench, DATA, TEXT } from '../unit/cpu/engine-harness.ts';
import { loadVectors } from './a64vec.ts';

const load = (name: string) => loadVectors(path.join(import.meta.dirname, 'vectors', name)).vectors;
const isPlain = (v: { c: string; code: string; exc?: string }): boolean =>
  !v.exc && !v.code.includes(' ') && !/^(mem|br|seq|sys|ldst|simd-ld|pc)/.test(v.c);
const POOL = [...load('integer.jsonl.gz'), ...load('simd.jsonl.gz')].filter(isPlain).map((v) => Number.parseInt(v.code, 16));

/** The program goes over the end of a page; it may store into its second one by x22. */
const BASE = TEXT + 0xf80;
const LENGTH = 64;
const word = (at: number): fc.Arbitrary<number> => {
  const offset = fc.integer({ min: -Math.min(at, 24), max: Math.min(LENGTH - at, 24) }).map((n) => 4 * n);
  const register = fc.integer({ min: 0, max: 28 });
  const base = fc.constantFrom(19, 20, 20, 21, 22);
  const other = fc.integer({ min: 0, max: 15 });
  const bits = fc.integer({ min: 0, max: 63 });
  const access = [asm.ldr, asm.str, asm.ldrW, asm.strW, asm.ldrb, asm.ldrPost, asm.strPost];
  return fc.oneof(
    { weight: 12, arbitrary: fc.constantFrom(...POOL) },
    {
      weight: 4,
      arbitrary: fc
        .tuple(fc.constantFrom(...access), other, base, fc.integer({ min: 0, max: 15 }))
        .map(([f, t, n, o]) => f(t, n, 8 * o)),
    },
    {
      weight: 2,
      arbitrary: fc.tuple(fc.constantFrom(asm.ldp, asm.stp), other, other, base).map(([f, t, u, n]) => f(t, u, n, 16)),
    },
    { weight: 1, arbitrary: fc.tuple(other, other, base).map(([s, t, n]) => [asm.ldxr(t, n), asm.stxr(s, t, n)][s & 1]) },
    { weight: 3, arbitrary: fc.tuple(fc.integer({ min: 0, max: 15 }), offset).map(([c, o]) => asm.bcond(c, o)) },
    // CBZ, CBNZ; TBZ, TBNZ
    {
      weight: 2,
      arbitrary: fc
        .tuple(fc.nat(1), fc.nat(1), register, offset)
        .map(([sf, nz, t, o]) => ((sf << 31) | 0x34000000 | (nz << 24) | (((o >> 2) & 0x7ffff) << 5) | t) >>> 0),
    },
    {
      weight: 2,
      arbitrary: fc
        .tuple(bits, fc.nat(1), register, offset)
        .map(
          ([b, nz, t, o]) =>
            (((b >> 5) << 31) | 0x36000000 | (nz << 24) | ((b & 31) << 19) | (((o >> 2) & 0x3fff) << 5) | t) >>> 0,
        ),
    },
    { weight: 1, arbitrary: offset.map(asm.b) },
    { weight: 2, arbitrary: offset.map(asm.bl) },
    { weight: 1, arbitrary: fc.constantFrom(asm.ret(), asm.br(23), asm.br(24), 0xd63f0320) },
    { weight: 1, arbitrary: fc.constantFrom(asm.udf(), asm.mrsNzcv(3), asm.nop(), 0xd53bd045, 0xd51bd045) },
  );
};
const program = fc.tuple(...Array.from({ length: LENGTH }, (_, i) => word(i)));
const value = fc.oneof(
  fc.bigInt(0n, (1n << 64n) - 1n),
  fc.bigInt(0n, 64n),
  fc.constantFrom(1n << 63n, (1n << 31n) - 1n, (1n << 64n) - 1n),
);

const machines: Bench[] = (['interpreter', 'auto'] as const).map((engine) => bench({ el: 0, options: { engine, threshold: 0 } }));
for (const b of machines) b.cpu.onException = () => true;

interface Case {
  readonly words: readonly number[];
  readonly values: readonly bigint[];
  readonly slices: readonly number[];
}

function run(b: Bench, { words, values, slices }: Case, sliced: boolean) {
  const [vp] = b.cpu.vps;
  const { clock } = b.ports;
  vp.bytes.fill(0, 0, VP.PC);
  vp.bytes.fill(0, VP.V, VP.SYS);
  values.forEach((v, i) => {
    vp.setX(i, v);
    vp.setV(i, v * 0x1_0000_0001_0000_0001n);
  });
  // A pointer into data, near the end of a page, into the program, at nothing; places to jump to.
  for (const [i, v] of [DATA, DATA + 0x100, DATA + 0xff8, BASE + 0x84, BASE + 0x40, BASE + 0x88, BASE + 0x20].entries())
    vp.setX(19 + i, BigInt(v));
  vp.setX(30, BigInt(BASE + 0x60));
  vp.sp = BigInt(DATA + 0x800);
  vp.nzcv = Number(values[0] & 0xf0000000n);
  vp.setU32(VP.FPCR, 0);
  vp.setU32(VP.FPSR, 0);
  vp.setU32(VP.EXCL_SIZE, 0);
  b.ram.write(
    DATA,
    new Uint8Array(8192).map((_, i) => i * 7),
  );
  b.place([...words, asm.b(-4 * LENGTH)], BASE);
  vp.pc = BigInt(BASE);
  const from = clock.state.instructions;
  const total = slices.reduce((a, n) => a + n, 0);
  let exit = 'budget';
  for (const n of sliced ? slices : [total]) {
    const end = clock.state.instructions + n;
    while (exit === 'budget' && clock.state.instructions < end) {
      const e = b.cpu.run(0, end - clock.state.instructions);
      exit = e.kind === 'exception' ? e.exception : e.kind === 'yield' ? 'budget' : e.kind;
      if (e.kind === 'wfi' || e.kind === 'wfe') vp.setU32(VP.RUN_STATE, 0);
    }
  }
  return {
    exit,
    instructions: clock.state.instructions - from,
    state: Buffer.from(vp.architecturalBytes()).toString('hex').match(/.{16}/g),
    data: Buffer.from(b.ram.read(DATA, 8192)).toString('hex'),
    text: Buffer.from(b.ram.read(TEXT, 8192)).toString('hex'),
  };
}

test('random programs do the same with and without regions, in pieces of any length', () => {
  const slices = fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1000, max: 5000 })), {
    minLength: 1,
    maxLength: 6,
  });
  fc.assert(
    fc.property(fc.record({ words: program, values: fc.array(value, { minLength: 19, maxLength: 19 }), slices }), (c) => {
      const want = run(machines[0], c, false);
      assert.deepEqual(run(machines[1], c, true), want);
    }),
    { numRuns: Number(process.env.FUZZ ?? 300) },
  );
  assert.ok((machines[1].cpu.translator?.statistics.made ?? 0) > 100);
});
