import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { rows as crypto } from '../../emulator/cpu/a64/crypto.ts';
import { rows as integer } from '../../emulator/cpu/a64/simd-integer.ts';
import { rows as loadsStores } from '../../emulator/cpu/a64/simd-loads-stores.ts';
import { rows as permute } from '../../emulator/cpu/a64/simd-permute.ts';
import { rows as shifts } from '../../emulator/cpu/a64/simd-shift.ts';
import { Decoder } from '../../emulator/cpu/decoder.ts';
import { FEATURES } from '../../emulator/cpu/features.ts';
import { loadVectors } from './a64vec.ts';

/**
 * Two vectors for every combination of static fields (every handler) of the SIMD rows, and words that are UNDEFINED, recorded
 * from QEMU: `gen.mjs` of the a64vec tools over the classes `v-`, `s-`, `mem` and cryptography. `vectors.test.ts` runs them.
 */
const file = loadVectors(path.join(import.meta.dirname, 'vectors/simd.jsonl.gz'));
const rows = [...integer, ...loadsStores, ...permute, ...shifts, ...crypto];
const decoder = new Decoder(rows, new Set(FEATURES));

test('every SIMD row has a vector, and every vector that executes has a SIMD row', () => {
  const met = new Set<string>();
  for (const v of file.vectors) {
    const decoded = decoder.decode(Number.parseInt(v.code, 16));
    assert.equal(decoded === undefined, v.exc === 'undef', `${v.asm} [${v.code}]`);
    if (decoded) met.add(decoded.row.name);
  }
  assert.deepEqual(
    rows.map((r) => r.name).filter((name) => !met.has(name)),
    [],
  );
});

test('what compilers copy memory with is in the interpreter loop, all else out of it', () => {
  const hot = (word: number): boolean => {
    const decoded = decoder.decode(word);
    assert.ok(decoded, word.toString(16));
    const { cold } = decoded.row.options;
    return typeof cold === 'function' ? !cold(decoded.raw) : !cold;
  };
  const words = {
    'ldr d0, [x1]': 0xfd400020,
    'str q0, [x1]': 0x3d800020,
    'ldur q0, [x1, #1]': 0x3cc01020,
    'str d0, [x1], #8': 0xfc008420,
    'ldr q0, [x1, #16]!': 0x3cc10c20,
    'ldp d0, d1, [x1]': 0x6d400420,
    'stp q0, q1, [x1, #-32]!': 0xadbf0420,
    'ldr s0, [x1]': 0xbd400020,
    'ldr q0, [x1, x2]': 0x3ce26820,
    'ldnp q0, q1, [x1]': 0xac400420,
    'add v0.4s, v1.4s, v2.4s': 0x4ea28420,
  };
  assert.deepEqual(Object.fromEntries(Object.entries(words).map(([text, word]) => [text, hot(word)])), {
    'ldr d0, [x1]': true,
    'str q0, [x1]': true,
    'ldur q0, [x1, #1]': true,
    'str d0, [x1], #8': true,
    'ldr q0, [x1, #16]!': true,
    'ldp d0, d1, [x1]': true,
    'stp q0, q1, [x1, #-32]!': true,
    'ldr s0, [x1]': false,
    'ldr q0, [x1, x2]': false,
    'ldnp q0, q1, [x1]': false,
    'add v0.4s, v1.4s, v2.4s': false,
  });
});
