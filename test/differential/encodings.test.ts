/**
 * Words near those of every row: with random operands, and with one or two fixed bits flipped, so that many are unallocated, reserved or
 * CONSTRAINED UNPREDICTABLE. Each runs in a loop at EL0 and at EL1: the interpreter and regions must do the same. SEED=N takes others.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROWS } from '../../emulator/cpu/a64/index.ts';
import { refresh } from '../../emulator/cpu/exceptions.ts';
import { VP } from '../../emulator/cpu/vp-state.ts';
import * as asm from '../unit/cpu/engine-asm.ts';
import { type Bench, bench, DATA, TEXT, VECTORS } from '../unit/cpu/engine-harness.ts';

const PER_ROW = 4;
const ROUNDS = 12;

let seed = Number(process.env.SEED ?? 1) >>> 0;
const random = (): number => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  const x = Math.imul(seed ^ (seed >>> 15), 0x2c1b3c6d);
  return (x ^ (x >>> 13)) >>> 0;
};

const words = ROWS.flatMap(({ mask, value }) =>
  Array.from({ length: PER_ROW }, (_, i) => {
    let word = (random() & ~mask) | value;
    for (let flips = (i + 2) % 3; flips > 0; flips--) word ^= 1 << (random() & 31);
    return word >>> 0;
  }),
);

interface Machine {
  readonly bench: Bench;
  readonly start: Uint8Array;
}
const machinesAt = (el: 0 | 1): Machine[] =>
  (['interpreter', 'auto'] as const).map((engine) => {
    const b = bench({ el, options: { engine, threshold: 0 } });
    // Exceptions end in a loop there.
    b.place(
      Array.from({ length: 0x800 / 4 }, () => asm.b(0)),
      VECTORS,
    );
    return { bench: b, start: b.cpu.vps[0].bytes.slice() };
  });

const memory = new Uint8Array(0x2000).map((_, i) => i * 11);

/** The word, `ROUNDS` times, with registers that point into data. */
function run({ bench: b, start }: Machine, word: number) {
  const [vp] = b.cpu.vps;
  vp.bytes.set(start);
  for (let n = 0; n < 31; n++) {
    vp.setX(n, BigInt(DATA + 0x800 + 16 * n));
    vp.setV(n, (BigInt(n + 1) << 100n) | 0x3ff0_0000_4000_0001n);
  }
  vp.setX(30, BigInt(TEXT + 4));
  vp.sp = BigInt(DATA + 0x1000);
  vp.setU32(VP.RUN_STATE, 0);
  refresh(vp);
  b.cpu.stateChanged();
  b.ram.write(DATA, memory);
  b.ram.write(TEXT, new Uint8Array(64));
  // The counter is in memory that the word hardly reaches.
  const counter = DATA + 0x100;
  b.ram.view.setBigUint64(counter, BigInt(ROUNDS), true);
  b.program([
    word,
    0xd2800000 | (((counter & 0xffff) << 5) | 28),
    (0xf2a00000 | ((counter >>> 16) << 5) | 28) >>> 0,
    asm.ldr(27, 28, 0),
    asm.subsImm(27, 27, 1),
    asm.str(27, 28, 0),
    asm.bcond(1, -24),
    asm.b(0),
  ]);
  const from = b.ports.clock.state.instructions;
  const exits: string[] = [];
  // More than `FAST_LIMIT` instructions, so that the fast loop and regions run.
  for (let left = 2600; left > 0; ) {
    const exit = b.cpu.run(0, left);
    if (exit.kind !== 'budget') exits.push(JSON.stringify(exit));
    if (exit.kind === 'hvc' || exit.kind === 'smc') b.cpu.refuse(0);
    if (exit.kind === 'wfi' || exit.kind === 'wfe') vp.setU32(VP.RUN_STATE, 0);
    left = 2600 - (b.ports.clock.state.instructions - from);
  }
  return {
    exits,
    instructions: b.ports.clock.state.instructions - from,
    state: Buffer.from(vp.architecturalBytes()).toString('hex').match(/.{16}/g),
    data: Buffer.from(b.ram.read(DATA, memory.length)).toString('hex'),
    text: Buffer.from(b.ram.read(TEXT, 64)).toString('hex'),
  };
}

for (const el of [0, 1] as const)
  test(`EL${el}: whatever a word is, it is the same in the interpreter and in regions`, () => {
    const machines = machinesAt(el);
    for (const word of words) {
      const [want, seen] = machines.map((m) => run(m, word));
      assert.deepEqual(seen, want, `word ${word.toString(16).padStart(8, '0')}, SEED ${process.env.SEED ?? 1}`);
    }
    assert.ok((machines[1].bench.cpu.translator?.statistics.made ?? 0) > words.length / 4);
  });
