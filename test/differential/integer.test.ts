import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { rows as atomics } from '../../emulator/cpu/a64/atomics.ts';
import { rows as branches } from '../../emulator/cpu/a64/branches.ts';
import { rows as dpImmediate } from '../../emulator/cpu/a64/dp-immediate.ts';
import { rows as dpRegister } from '../../emulator/cpu/a64/dp-register.ts';
import { rows as loadsStores } from '../../emulator/cpu/a64/loads-stores.ts';
import { DecodeBitMasks } from '../../emulator/cpu/a64/pseudocode.ts';
import { rows as system } from '../../emulator/cpu/a64/system.ts';
import { Decoder as Tree } from '../../emulator/cpu/decoder.ts';
import { FEATURES, type Feature } from '../../emulator/cpu/features.ts';
import type { Insn, Raw } from '../../emulator/cpu/insn.ts';
import { modelOf } from '../../emulator/cpu/models.ts';
import { cpu, evaluator, failures, loadVectors, type Vector } from './a64vec.ts';
import { Decoder as Linear } from './evaluate.ts';

/**
 * Integer rows against vectors recorded from QEMU. The file is a selection of 26000 vectors of the a64vec generator (seed
 * `integer`, ten base states, classes of integer code): at most six for each combination of static fields, and programs.
 * `vectors.test.ts` runs them at full speed.
 */
const file = loadVectors(path.join(import.meta.dirname, 'vectors/integer.jsonl.gz'));
const extra = loadVectors(path.join(import.meta.dirname, 'vectors/extra.jsonl.gz'));
const rows = [...dpImmediate, ...dpRegister, ...branches, ...loadsStores, ...atomics, ...system];
const all = new Set<Feature>(FEATURES);
const single = (v: Vector): boolean => !v.code.includes(' ');

test('integer instructions do what the vectors say: CPU, stopping after every third instruction', () => {
  assert.deepEqual(failures(file, file.vectors, cpu(undefined, 3)), []);
});

test('an extension that the CPU lacks is UNDEFINED', () => {
  const n1 = evaluator(rows, new Set(modelOf('neoverse-n1').features));
  const undefinedThere = (v: Vector): Vector => ({ ...v, exc: 'undef', pc: file.codeBase.toString(16), o: {}, m: [] });
  const later = file.vectors.filter((v) => v.lvl === 'max' && single(v)).map(undefinedThere);
  assert.ok(later.length > 50);
  assert.deepEqual(failures(file, later, n1), []);
  for (const feat of ['LSE', 'CRC32', 'LRCPC', 'LOR'] as const) {
    const named = file.vectors.filter((v) => v.feat === feat && single(v)).map(undefinedThere);
    assert.ok(named.length > 5, feat);
    assert.deepEqual(failures(file, named, evaluator(rows, new Set(FEATURES.filter((f) => f !== feat)))), []);
  }
});

/** Every combination of static fields and picks of a row, as the decoder would name it. */
function combinations(row: Insn): string[] {
  const dims: [string, number][] = row.fields.filter((f) => f.isStatic).map((f) => [f.name, 1 << f.width]);
  for (const [name, [count]] of Object.entries(row.options.pick ?? {})) dims.push([name, count]);
  let out: Raw[] = [{}];
  for (const [name, count] of dims) out = out.flatMap((c) => Array.from({ length: count }, (_, i) => ({ ...c, [name]: i })));
  return out.map((c) => nameOf(row, c));
}
function nameOf(row: Insn, raw: Raw): string {
  const names = [...row.fields.filter((f) => f.isStatic).map((f) => f.name), ...Object.keys(row.options.pick ?? {})];
  return [row.name, ...names.map((n) => `${n}=${raw[n]}`)].join(' ');
}

test('every combination of static fields has a vector, but for what needs EL1 or ends a program', () => {
  const tree = new Tree(rows, all);
  const met = new Set(
    [...file.vectors, ...extra.vectors].flatMap((v) =>
      v.code.split(' ').map((w) => {
        const d = tree.decode(Number.parseInt(w, 16));
        return d ? nameOf(d.row, d.raw) : '';
      }),
    ),
  );
  // Held by test/unit/cpu: system-rows and counters-and-waits.
  const elsewhere = new Set([
    'ERET',
    'SVC',
    'HVC',
    'SMC',
    'BRK',
    'HLT',
    'UDF',
    'HINT',
    'SB',
    'MRS',
    'MSR',
    'SYS',
    'SYSL',
    'WFET',
    'WFIT',
    'MOV_reg',
  ]);
  const missing = rows
    .filter((r) => !elsewhere.has(r.name) && !/^(MRS|MSR)_/.test(r.name))
    .flatMap(combinations)
    .filter((c) => !met.has(c));
  assert.deepEqual(missing, []);
});

test('the decode tree finds what a search of all rows finds', () => {
  const tree = new Tree(rows, all);
  const linear = new Linear(rows, all);
  const bases = file.vectors.filter(single).map((v) => Number.parseInt(v.code, 16));
  let seed = 1;
  const wrong: string[] = [];
  for (let i = 0; i < 20_000; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    // A known word with a few bits turned over stays near what is allocated.
    const word = (bases[i % bases.length] ^ (1 << (seed >>> 27)) ^ (i % 3 ? 0 : 1 << ((seed >>> 20) & 31))) >>> 0;
    const [a, b] = [tree.decode(word)?.row.name, linear.decode(word)?.ir.insn.name];
    if (a !== b) wrong.push(`${word.toString(16)}: ${a} and ${b}`);
  }
  assert.deepEqual(wrong, []);
});

test('there are 5334 bitmask immediates of 64 bits and 1302 of 32', () => {
  const masks = (width: number): Set<bigint> => {
    const out = new Set<bigint>();
    for (let i = 0; i < 1 << 13; i++) {
      if (width === 32 && i >> 12) continue;
      const mask = DecodeBitMasks(i >> 12, (i >> 6) & 63, i & 63, width);
      if (mask !== undefined) out.add(mask);
    }
    return out;
  };
  assert.deepEqual([masks(64).size, masks(32).size], [5334, 1302]);
});
