import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { rows as convert } from '../../emulator/cpu/a64/fp-convert.ts';
import { rows as scalar } from '../../emulator/cpu/a64/fp-scalar.ts';
import { rows as vector } from '../../emulator/cpu/a64/fp-vector.ts';
import { Decoder } from '../../emulator/cpu/decoder.ts';
import { FEATURES } from '../../emulator/cpu/features.ts';
import {
  DOUBLE,
  type Format,
  FPAdd,
  FPCompare,
  FPDiv,
  FPMul,
  FPMulAdd,
  FPSqrt,
  FPSR,
  FPSub,
  SINGLE,
} from '../../emulator/cpu/fp.ts';
import type { FpState } from '../../emulator/cpu/helpers.ts';
import type { Insn } from '../../emulator/cpu/insn.ts';
import { VECTOR_REGISTERS, VectorMachine } from '../../emulator/cpu/vector-machine.ts';
import { controls, encodings } from '../unit/cpu/fp-encodings.ts';
import { loadVectors } from './a64vec.ts';

/**
 * Up to three vectors for every combination of static fields (every handler) of the FP rows, with all rounding modes, FZ,
 * FZ16, DN and AHP among them, and words that are UNDEFINED; recorded from QEMU by `gen.mjs` of the a64vec tools.
 * `vectors.test.ts` runs them.
 */
const file = loadVectors(path.join(import.meta.dirname, 'vectors/fp.jsonl.gz'));
const rows = [...scalar, ...convert, ...vector];
const decoder = new Decoder(rows, new Set(FEATURES));

/** Every combination of static fields that some word of the row may have. */
function* handlers(row: Insn): Generator<string> {
  const fields = row.fields.filter((f) => f.isStatic);
  const total = fields.reduce((sum, f) => sum + f.width, 0);
  for (let v = 0; v < 1 << total; v++) {
    let rest = v;
    const statics: Record<string, number> = {};
    for (const { name, width } of fields) {
      statics[name] = rest & ((1 << width) - 1);
      rest >>= width;
    }
    // A scale that is right for every width.
    if (!row.options.when || row.options.when({ ...statics, scale: 63 })) yield `${row.name} ${JSON.stringify(statics)}`;
  }
}

test('every handler of an FP row has a vector, and every vector that executes has an FP row', () => {
  const met = new Set<string>();
  for (const v of file.vectors) {
    const decoded = decoder.decode(Number.parseInt(v.code, 16));
    assert.equal(decoded === undefined, v.exc === 'undef', `${v.asm} [${v.code}]`);
    if (!decoded) continue;
    const statics = decoded.row.fields.filter((f) => f.isStatic).map(({ name }) => [name, decoded.raw[name]]);
    met.add(`${decoded.row.name} ${JSON.stringify(Object.fromEntries(statics))}`);
  }
  assert.deepEqual(
    rows.flatMap((row) => [...handlers(row)]).filter((name) => !met.has(name)),
    [],
  );
});

/**
 * Words that QEMU 7.2 executes although the Arm ARM has nothing there (C4.1.95): half-precision pairwise and across-lanes forms
 * with sz = 1, and FNEG as a scalar SIMD instruction.
 */
test('reserved half-precision encodings are UNDEFINED', () => {
  const executed = [0x5e70f800, 0x5e70d800, 0x5ef0c800, 0x0e70c800, 0x4ef0f800, 0x7ef8f800, 0x5ef8f800].filter((word) =>
    decoder.decode(word),
  );
  assert.deepEqual(
    executed.map((word) => word.toString(16)),
    [],
  );
});

/** Rows with a fast path in WebAssembly: [assembly, word of `op v0, v1, v2`, format, lanes, function]. */
type Lane = (fp: FpState, f: Format, n: bigint, m: bigint) => bigint;
const root: Lane = (fp, f, n) => FPSqrt(fp, f, n);
const FAST: readonly (readonly [string, number, Format, number, Lane])[] = [
  ['fadd s', 0x1e222820, SINGLE, 1, FPAdd],
  ['fadd d', 0x1e622820, DOUBLE, 1, FPAdd],
  ['fadd 2s', 0x0e22d420, SINGLE, 2, FPAdd],
  ['fadd 4s', 0x4e22d420, SINGLE, 4, FPAdd],
  ['fadd 2d', 0x4e62d420, DOUBLE, 2, FPAdd],
  ['fsub s', 0x1e223820, SINGLE, 1, FPSub],
  ['fsub 2d', 0x4ee2d420, DOUBLE, 2, FPSub],
  ['fmul s', 0x1e220820, SINGLE, 1, FPMul],
  ['fmul d', 0x1e620820, DOUBLE, 1, FPMul],
  ['fmul 4s', 0x6e22dc20, SINGLE, 4, FPMul],
  ['fdiv s', 0x1e221820, SINGLE, 1, FPDiv],
  ['fdiv d', 0x1e621820, DOUBLE, 1, FPDiv],
  ['fdiv 2s', 0x2e22fc20, SINGLE, 2, FPDiv],
  ['fsqrt d', 0x1e61c020, DOUBLE, 1, root],
  ['fsqrt 4s', 0x6ea1f820, SINGLE, 4, root],
];
const CODE = 0x40001000n;
const machine = new VectorMachine({ model: 'max', codeBase: CODE, memBase: 0x40010000n, memSize: 16 });
const ZEROS = Object.fromEntries(VECTOR_REGISTERS.map((name) => [name, 0n]));
const fpcrs = fc.oneof(fc.constant(0), controls);
const fpsrs = fc.constantFrom(0, FPSR.IXC);
const pack = (f: Format, lanes: readonly bigint[]): bigint => lanes.reduce((v, x, i) => v | (x << BigInt(i * f.bits)), 0n);

for (const [name, word, f, count, op] of FAST)
  test(`${name}: the compiled row gives the result and flags of the exact function, fast or not`, () => {
    const operand = fc.array(encodings(f), { minLength: count, maxLength: count });
    fc.assert(
      fc.property(operand, operand, fpcrs, fpsrs, (n, m, fpcr, fpsr) => {
        const fp = { fpcr, fpsr };
        const want = pack(
          f,
          n.map((v, i) => op(fp, f, v, m[i])),
        );
        const start = { ...ZEROS, v1: pack(f, n), v2: pack(f, m), fpcr: BigInt(fpcr), fpsr: BigInt(fpsr) };
        const { registers } = machine.run([word], start, new Uint8Array(16));
        assert.deepEqual([registers.v0, registers.fpsr], [want, BigInt(fp.fpsr)]);
      }),
      { numRuns: 2000 },
    );
  });

/** The addend is in v3 (scalar) or v0; `negate`: the product is subtracted. */
for (const [name, word, f, count, negate] of [
  ['fmadd s', 0x1f020c20, SINGLE, 1, false],
  ['fmadd d', 0x1f420c20, DOUBLE, 1, false],
  ['fmsub d', 0x1f428c20, DOUBLE, 1, true],
  ['fmla 2d', 0x4e62cc20, DOUBLE, 2, false],
  ['fmla 4s', 0x4e22cc20, SINGLE, 4, false],
  ['fmls 2s', 0x0ea2cc20, SINGLE, 2, true],
] as const)
  test(`${name}: the compiled row gives the result and flags of the exact function, fast or not`, () => {
    const operand = fc.array(encodings(f), { minLength: count, maxLength: count });
    // Half of the addends cancel (or nearly so) what the product is, or are half an ulp of it.
    const addend = fc.array(fc.tuple(encodings(f), fc.integer({ min: -3, max: 3 }), fc.constantFrom(-1, 0, f.frac, f.frac + 1)), {
      minLength: count,
      maxLength: count,
    });
    fc.assert(
      fc.property(operand, operand, addend, fpcrs, fc.oneof(fc.constant(FPSR.IXC), fpsrs), (n, m, others, fpcr, fpsr) => {
        const fp = { fpcr, fpsr };
        const a = others.map(([v, off, shift], i) => {
          const product = FPMul({ fpcr: 0, fpsr: 0 }, f, n[i], m[i]);
          const near = product + BigInt(off) - (BigInt(Math.max(shift, 0)) << BigInt(f.frac));
          return shift < 0 || near < 0n ? v : BigInt.asUintN(f.bits, shift === 0 ? near ^ f.sign : near);
        });
        const want = pack(
          f,
          n.map((v, i) => FPMulAdd(fp, f, a[i], negate ? v ^ f.sign : v, m[i])),
        );
        const addends = pack(f, a);
        const start = {
          ...ZEROS,
          v0: addends,
          v1: pack(f, n),
          v2: pack(f, m),
          v3: addends,
          fpcr: BigInt(fpcr),
          fpsr: BigInt(fpsr),
        };
        const { registers } = machine.run([word], start, new Uint8Array(16));
        assert.deepEqual([registers.v0, registers.fpsr], [want, BigInt(fp.fpsr)]);
      }),
      { numRuns: 3000 },
    );
  });

for (const [name, word, f, signalling] of [
  ['fcmp s', 0x1e222020, SINGLE, false],
  ['fcmpe s', 0x1e222030, SINGLE, true],
  ['fcmp d', 0x1e622020, DOUBLE, false],
  ['fcmpe d', 0x1e622030, DOUBLE, true],
] as const)
  test(`${name}: the compiled row gives the flags of the exact function, fast or not`, () => {
    fc.assert(
      fc.property(encodings(f), encodings(f), fpcrs, (n, m, fpcr) => {
        const fp = { fpcr, fpsr: 0 };
        const want = FPCompare(fp, f, n, m, signalling) >>> 0;
        const { registers } = machine.run([word], { ...ZEROS, v1: n, v2: m, fpcr: BigInt(fpcr) }, new Uint8Array(16));
        assert.deepEqual([registers.nzcv, registers.fpsr], [BigInt(want), BigInt(fp.fpsr)]);
      }),
      { numRuns: 2000 },
    );
  });
