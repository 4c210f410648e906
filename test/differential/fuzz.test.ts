/**
 * Random programs on the interpreter and on the translator, at EL0 and EL1 with exceptions taken: arithmetic of every kind (words of
 * the recorded vectors), accesses of every kind within and across pages, to pages that are missing, read-only, a device, the
 * program itself (directly and through an alias) and its page tables; branches, calls, system instructions, interrupts. Run in pieces
 * of any length. State, memory, what the host saw and the instruction count must be the same.
 *
 * The programs are the same every time. FUZZ_SECONDS=N runs others for N seconds, FUZZ_SEED=N those of a seed that failed,
 * FUZZ_RUNS=N as many.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { Clock } from '../../emulator/base/clock.ts';
import type { Expression } from '../../emulator/cpu/condition.ts';
import type { Filter } from '../../emulator/cpu/filter.ts';
import { cellOf, refresh } from '../../emulator/cpu/sysregs.ts';
import { FAST_LIMIT } from '../../emulator/cpu/loop.ts';
import { PSTATE, VP } from '../../emulator/cpu/vp-state.ts';
import * as asm from '../unit/cpu/engine-asm.ts';
import { type Bench, bench, DATA, DEVICE, READ_ONLY, TABLES, TEXT, USER, VECTORS } from '../unit/cpu/engine-harness.ts';
import { loadVectors } from './a64vec.ts';

// --- the machine ---------------------------------------------------------------------------------------------------------

const PAGE = 4096;
/** The program goes over the end of a page. */
const BASE = TEXT + 0xf80;
const MAX_WORDS = 96;
/** Another page that the program may be mapped to: its second page with other constants. */
const OTHER_TEXT = TEXT + 0x8000;
/** What handlers restore registers from. */
const SAVED = 0x340000;
/** Beside DATA, whose two pages are memory. */
const MISSING = DATA + 2 * PAGE;
const CONSTANT = DATA + 3 * PAGE;
/** The program's two pages again. */
const ALIAS = DATA + 4 * PAGE;
const DEVICE_PAGE = DATA + 6 * PAGE;
/** Level 3 tables of the first three 2 MiB. */
const LEAVES = [TABLES + 2 * PAGE, TABLES + 3 * PAGE, TABLES + 4 * PAGE];
const TABLES_SIZE = 5 * PAGE;

/** Level 3 page, Normal memory, accessed (Arm ARM D8.3.1). */
const descriptor = (pa: number, bits: bigint): bigint => BigInt(pa) | bits | 0x403n;
const DEVICE_MEMORY = 0x4n;
const entryOf = (va: number): number => LEAVES[va >> 21] + 8 * ((va >> 12) & 511);

/**
 * Handlers. Aborts get working pointers back and go on after the instruction, or at X30's saved value where there is none; other exceptions
 * go on after the instruction; interrupts ask the host (HVC #1) to lower the line. X18 is theirs.
 */
const SYNC = [
  0xd518d092, // msr tpidr_el1, x18
  0xd5385212, // mrs x18, esr_el1
  0xd35afe52, // lsr x18, x18, #26
  0x927e0e52, // and x18, x18, #0x3c
  0xf100925f, // cmp x18, #0x24 (data aborts, SP alignment)
  asm.bcond(0, 28),
  0xf100825f, // cmp x18, #0x20 (instruction aborts, PC alignment)
  asm.bcond(0, 44),
  0xd5384032, // mrs x18, elr_el1
  0x91001252, // add x18, x18, #4
  asm.b(44),
  asm.udf(),
  0xd2a00692, // movz x18, #0x34, lsl #16
  0xa9405253, // ldp x19, x20, [x18]
  0xa9415a55, // ldp x21, x22, [x18, #16]
  0x9138025f, // add sp, x18, #0xe00
  0xd5384032, // mrs x18, elr_el1
  0x91001252, // add x18, x18, #4
  asm.b(16),
  0xd2a00692, // movz x18, #0x34, lsl #16
  0xf940125e, // ldr x30, [x18, #32]
  0xaa1e03f2, // mov x18, x30
  0xd5184032, // msr elr_el1, x18
  0xd538d092, // mrs x18, tpidr_el1
  0xd69f03e0, // eret
];
const IRQ = [asm.hvc(1), 0xd69f03e0];

interface Case {
  readonly el: 0 | 1;
  readonly words: readonly number[];
  readonly values: readonly bigint[];
  /** X19 to X22. */
  readonly bases: readonly number[];
  /** PSTATE.I at the start. */
  readonly masked: boolean;
  /** Instruction counts at which the interrupt line is raised. */
  readonly interrupts: readonly number[];
  /** Lengths of the pieces; their sum is what is run. */
  readonly slices: readonly number[];
}

const machineOf = (engine: 'interpreter' | 'auto'): Bench => bench({ options: { engine, threshold: 0 } });

/**
 * Memory and registers as the case wants them, and nothing left of the last one. `keep`: but for regions and decoded instructions, when the
 * program is the same. What a program sees of translations that it has changed and not invalidated may depend on those.
 */
function prepare({ cpu, ports, ram, accesses, place }: Bench, { el, words, values, bases, masked }: Case, keep: boolean): void {
  accesses.length = 0;
  Object.assign(ports.clock.state, new Clock().state);
  const text = new Uint32Array((2 * PAGE) / 4);
  text.set([...words, asm.b(-4 * words.length)], (BASE - TEXT) / 4);
  const program = new Uint8Array(text.buffer);
  if (!keep || Buffer.compare(program, ram.read(TEXT, 2 * PAGE)) !== 0) ram.write(TEXT, program);
  ram.write(OTHER_TEXT, program.subarray(PAGE));
  place([asm.addImm(1, 1, 1), asm.addImm(2, 2, 2), asm.ret()], OTHER_TEXT);
  ram.write(
    DATA,
    Uint8Array.from({ length: 2 * PAGE }, (_, i) => i * 7),
  );
  ram.write(
    CONSTANT,
    Uint8Array.from({ length: PAGE }, (_, i) => i * 5),
  );
  for (const at of [0x200, 0x400]) place(SYNC, VECTORS + at);
  for (const at of [0x280, 0x480]) place(IRQ, VECTORS + at);

  // Nothing is mapped but what is made new for every program.
  const user = el === 0 ? USER : 0n;
  ram.write(TABLES, new Uint8Array(TABLES_SIZE));
  const set = (at: number, entry: bigint): void => ram.view.setBigUint64(at, entry, true);
  const map = (va: number, pa: number, bits: bigint): void => set(entryOf(va), descriptor(pa, bits));
  set(TABLES, BigInt(TABLES + PAGE) | 3n);
  LEAVES.forEach((leaf, i) => {
    set(TABLES + PAGE + 8 * i, BigInt(leaf) | 3n);
  });
  for (const at of [TEXT, TEXT + PAGE, DATA, DATA + PAGE]) map(at, at, user);
  for (let at = TABLES; at < TABLES + TABLES_SIZE; at += PAGE) map(at, at, user);
  map(CONSTANT, CONSTANT, user | READ_ONLY);
  map(ALIAS, TEXT, user);
  map(ALIAS + PAGE, TEXT + PAGE, user);
  map(DEVICE_PAGE, DEVICE, user | DEVICE_MEMORY);
  map(VECTORS, VECTORS, 0n);
  map(SAVED, SAVED, 0n);
  ram.write(SAVED, new Uint8Array(PAGE));
  [...bases, BASE + 8].forEach((v, i) => {
    set(SAVED + 8 * i, BigInt(v));
  });

  cpu.reset(0, BigInt(BASE));
  const [vp] = cpu.vps;
  vp.bytes.fill(0, VP.X, VP.PC);
  vp.bytes.fill(0, VP.V, VP.SYS);
  for (const [name, value] of Object.entries({
    MAIR_EL1: 0x00ffn,
    TCR_EL1: (1n << 37n) | (5n << 32n) | (1n << 23n) | 25n, // TBI0, IPS 48, EPD1, T0SZ 25
    TTBR0_EL1: BigInt(TABLES),
    VBAR_EL1: BigInt(VECTORS),
    CPACR_EL1: 3n << 20n,
    // M, SA, SA0, UMA, DZE, UCT, nTWI, nTWE, UCI, and SPAN: an exception leaves PAN alone.
    SCTLR_EL1: vp.u64(cellOf('SCTLR_EL1')) | 0x485c219n,
  }))
    vp.setU64(cellOf(name), value);
  vp.setU32(VP.PSTATE, (el === 0 ? PSTATE.EL0T : PSTATE.EL1H) | (masked ? PSTATE.I : 0));
  vp.setU32(VP.FPCR, 0);
  vp.setU32(VP.FPSR, 0);
  vp.setU32(VP.EXCL_SIZE, 0);
  vp.setU32(VP.IRQ, 0);
  values.forEach((v, i) => {
    vp.setX(i, v);
    vp.setV(i, v * 0x1_0000_0001_0000_0001n);
  });
  // Working pointers, and places to jump to.
  for (const [i, v] of [...bases, BASE + 0x40, BASE + 0x88, BASE + 0x20].entries()) vp.setX(19 + i, BigInt(v));
  vp.setX(30, BigInt(BASE + 0x60));
  vp.sp = BigInt(DATA + 0x800);
  vp.setU64(el === 0 ? VP.SP_EL1 : VP.SP_EL0, BigInt(DATA + 0xc00));
  vp.nzcv = Number(values[0] & 0xf0000000n);
  refresh(vp);
  cpu.stateChanged();
}

/** `slices`: in pieces, but for those that interrupts make anyhow. */
function run(b: Bench, c: Case, slices: readonly number[], keep = false) {
  prepare(b, c, keep);
  const { cpu } = b;
  const [vp] = cpu.vps;
  const { clock } = b.ports;
  const count = (): number => clock.state.instructions;
  const calls: string[] = [];
  let cut = 0;
  const cuts = slices.map((n) => {
    cut += n;
    return cut;
  });
  const end = c.slices.reduce((a, n) => a + n, 0);
  const interrupts = new Set(c.interrupts);
  const stops = [...new Set([...cuts, ...interrupts, end])].filter((n) => n <= end).sort((x, y) => x - y);
  for (const stop of stops) {
    let resume = false;
    while (count() < stop) {
      const e = cpu.run(0, stop - count(), { resume });
      resume = e.kind === 'breakpoint';
      if (e.kind === 'hvc') {
        calls.push(`hvc ${e.imm} after ${count()}`);
        if (e.imm === 1) cpu.setIrq(0, false);
        cpu.retireAndAdvance(0);
      } else if (e.kind === 'wfi' || e.kind === 'wfe') {
        calls.push(`${e.kind} after ${count()}`);
        vp.setU32(VP.RUN_STATE, 0);
      } else if (e.kind !== 'budget' && e.kind !== 'yield' && !/^(break|watch)point$/.test(e.kind))
        assert.fail(`unexpected ${e.kind}`);
    }
    if (interrupts.has(stop)) cpu.setIrq(0, true);
  }
  const memory = (at: number, size: number): Buffer => Buffer.from(b.ram.read(at, size));
  return {
    calls,
    instructions: count(),
    accesses: b.accesses.join(' '),
    state: Buffer.from(vp.architecturalBytes()),
    data: memory(DATA, 4 * PAGE),
    text: memory(TEXT, 2 * PAGE),
    otherText: memory(OTHER_TEXT, PAGE),
    tables: memory(TABLES, TABLES_SIZE),
    saved: memory(SAVED, PAGE),
    vectors: memory(VECTORS, PAGE),
  };
}
type Outcome = ReturnType<typeof run>;

/** Where two outcomes differ, a line each. */
function differences(want: Outcome, got: Outcome): string[] {
  const out: string[] = [];
  for (const name of Object.keys(want) as (keyof Outcome)[]) {
    const [x, y] = [want[name], got[name]];
    if (!(x instanceof Uint8Array && y instanceof Uint8Array)) {
      if (String(x) !== String(y)) out.push(`${name}: ${x} expected, ${y} got`);
    } else if (Buffer.compare(x, y) !== 0)
      for (let at = 0; at < x.length; at += 8) {
        const [p, q] = [x, y].map((bytes) => Buffer.from(bytes.subarray(at, at + 8)).toString('hex'));
        if (p !== q) out.push(`${name}+0x${at.toString(16)}: ${p} expected, ${q} got`);
      }
  }
  return out;
}

// --- programs --------------------------------------------------------------------------------------------------------------

const load = (name: string) => loadVectors(path.join(import.meta.dirname, 'vectors', name)).vectors;
const SINGLE = ['integer', 'simd', 'fp']
  .flatMap((name) => load(`${name}.jsonl.gz`))
  .filter((v) => !v.exc && !v.code.includes(' '))
  .map((v) => ({ c: v.c, word: Number.parseInt(v.code, 16) }));
const X18 = 18;
/** X18 is not for programs: a handler would lose it. */
const sparesHandlers = (word: number): boolean => (word & 31) !== X18;
const PLAIN = SINGLE.filter((v) => !/^(mem|br|seq|sys|ldst|adr|pc)/.test(v.c))
  .map((v) => v.word)
  .filter(sparesHandlers);
const ACCESSES = SINGLE.filter((v) => v.c.startsWith('mem-') && v.c !== 'mem-lit')
  .map((v) => v.word)
  .filter((word) => sparesHandlers(word) && ((word >>> 10) & 31) !== X18 && ((word >>> 16) & 31) !== X18);

const SYSTEM = [
  0xd4000001, // svc #0
  0xd50342df, // msr daifset, #2
  0xd50342ff, // msr daifclr, #2
  0xd50040bf, // msr spsel, #0
  0xd50041bf, // msr spsel, #1
  0xd500409f, // msr pan, #0
  0xd500419f, // msr pan, #1
  0xd5033f9f, // dsb sy
  0xd5033fdf, // isb
  0xd503209f, // sev
  0xd503205f, // wfe
  0xd503207f, // wfi
  0xd503203f, // yield
  0xd4200000, // brk #0
  0xd51b4405, // msr fpcr, x5
  0xd53b4426, // mrs x6, fpsr
  0xd53b4203, // mrs x3, nzcv
  0xd51b4207, // msr nzcv, x7
  0xd53b4227, // mrs x7, daif
  0xd5384248, // mrs x8, currentel
  0xd50b7535, // ic ivau, x21
  0xd50b7b35, // dc cvau, x21
  0xd50b7433, // dc zva, x19
  0xd50b7434, // dc zva, x20
  0xd51bd049, // msr tpidr_el0, x9
  0xd53bd049, // mrs x9, tpidr_el0
  0xd538410a, // mrs x10, sp_el0
  0xd518410a, // msr sp_el0, x10
  0xd69f03e0, // eret
  asm.hvc(0),
  asm.udf(),
  asm.nop(),
  asm.tlbiVmalle1(),
  asm.tlbiVmalle1(),
  asm.tlbiVaae1(11),
];

const weighted = (weight: number, arbitrary: fc.Arbitrary<number>) => ({ weight, arbitrary });
const offset = fc.integer({ min: -24, max: 24 }).map((n) => 4 * n);
const register = fc.integer({ min: 0, max: 17 });
const base = fc.constantFrom(19, 20, 21, 22, 22, 31);
const withBase = (word: number, n: number): number => ((word & ~(31 << 5)) | (n << 5)) >>> 0;
const word = fc.oneof(
  weighted(12, fc.constantFrom(...PLAIN)),
  weighted(
    8,
    fc.tuple(fc.constantFrom(...ACCESSES), base).map(([w, n]) => withBase(w, n)),
  ),
  weighted(
    2,
    fc.tuple(fc.constantFrom(asm.ldr, asm.str, asm.strW), register, base, fc.nat(15)).map(([f, t, n, o]) => f(t, n, 8 * o)),
  ),
  weighted(
    1,
    fc.tuple(register, register, base, fc.nat(1)).map(([s, t, n, which]) => (which ? asm.ldxr(t, n) : asm.stxr(s, t, n))),
  ),
  weighted(
    3,
    fc.tuple(fc.nat(15), offset).map(([c, o]) => asm.bcond(c, o)),
  ),
  // CBZ, CBNZ; TBZ, TBNZ
  weighted(
    2,
    fc
      .tuple(fc.nat(1), fc.nat(1), register, offset)
      .map(([sf, nz, t, o]) => ((sf << 31) | 0x34000000 | (nz << 24) | (((o >> 2) & 0x7ffff) << 5) | t) >>> 0),
  ),
  weighted(
    2,
    fc
      .tuple(fc.nat(63), fc.nat(1), register, offset)
      .map(
        ([b, nz, t, o]) => (((b >> 5) << 31) | 0x36000000 | (nz << 24) | ((b & 31) << 19) | (((o >> 2) & 0x3fff) << 5) | t) >>> 0,
      ),
  ),
  weighted(1, offset.map(asm.b)),
  weighted(2, offset.map(asm.bl)),
  weighted(1, fc.constantFrom(asm.ret(), asm.br(23), asm.br(24), 0xd63f0320)),
  weighted(3, fc.constantFrom(...SYSTEM)),
);

/** Numbers, instructions that may be stored over others, descriptors that may be stored into tables, addresses for TLBI. */
const value = fc.oneof(
  fc.bigInt(0n, (1n << 64n) - 1n),
  fc.bigInt(0n, 64n),
  fc.constantFrom(1n << 63n, (1n << 31n) - 1n, (1n << 64n) - 1n),
  fc.tuple(fc.constantFrom(...PLAIN), fc.constantFrom(...PLAIN)).map(([a, b]) => (BigInt(a) << 32n) | BigInt(b)),
  fc
    .tuple(fc.constantFrom(DATA, DATA + PAGE, CONSTANT, TEXT + PAGE, OTHER_TEXT, DEVICE), fc.constantFrom(0n, USER, READ_ONLY))
    .map(([pa, bits]) => descriptor(pa, bits)),
  fc.constantFrom(DATA >> 12, ALIAS >> 12, BASE >> 12, (TEXT + PAGE) >> 12).map(BigInt),
);

const pointer = fc.constantFrom(
  DATA,
  DATA + 0x100,
  DATA + PAGE - 8,
  DATA + PAGE - 4,
  MISSING - 8,
  MISSING - 4,
  CONSTANT - 4,
  CONSTANT + 0x10,
  BASE + 0x84,
  BASE + 0x40,
  ALIAS + 0xf84,
  ALIAS + PAGE,
  DEVICE_PAGE,
  entryOf(DATA),
  entryOf(DATA + PAGE),
  entryOf(ALIAS),
  entryOf(TEXT + PAGE),
);

const cases: fc.Arbitrary<Case> = fc.record({
  el: fc.constantFrom(0 as const, 1 as const, 1 as const),
  words: fc.array(word, { minLength: 1, maxLength: MAX_WORDS, size: 'max' }),
  values: fc.array(value, { minLength: 18, maxLength: 18 }),
  bases: fc.array(pointer, { minLength: 4, maxLength: 4 }),
  masked: fc.boolean(),
  interrupts: fc.array(fc.oneof(fc.nat(200), fc.nat(10_000)), { maxLength: 6 }),
  slices: fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1000, max: 6000 })), {
    minLength: 1,
    maxLength: 6,
  }),
});

// --- the tests ---------------------------------------------------------------------------------------------------------------

const SECONDS = Number(process.env.FUZZ_SECONDS ?? 0);
const limits: fc.Parameters<unknown> = {
  includeErrorInReport: true,
  ...(SECONDS
    ? {
        numRuns: Number.MAX_SAFE_INTEGER,
        interruptAfterTimeLimit: SECONDS * 1000,
        seed: Number(process.env.FUZZ_SEED ?? Date.now()),
      }
    : { numRuns: Number(process.env.FUZZ_RUNS ?? 3000), seed: Number(process.env.FUZZ_SEED ?? 1) }),
};

/** What was found. They come first, on new machines. */
const FOUND: [Case][] = [
  // DAIFClr in a region with an interrupt waiting: the interpreter had not compiled that handler yet, and it was taken too early.
  [
    {
      el: 1,
      words: [0x94000002, 0xd50342ff, 0xb88d2ec9, 0x17fffffe, 0xb88d2e69],
      values: Array(18).fill(0n),
      bases: [DATA, DATA, DATA, MISSING - 4],
      masked: true,
      interrupts: [16],
      slices: [2525, 6],
    },
  ],
];

const interpreter = machineOf('interpreter');
const translator = machineOf('auto');
const regions = (): number => translator.cpu.translator?.statistics.made ?? 0;

test('random programs do the same with and without regions, with interrupts anywhere, in pieces of any length', (t) => {
  let runs = 0;
  let instructions = 0;
  fc.assert(
    fc.property(cases, (c) => {
      const want = run(interpreter, c, []);
      assert.deepEqual(differences(want, run(translator, c, c.slices)), []);
      assert.deepEqual(differences(want, run(interpreter, c, c.slices)), [], 'interpreter in pieces');
      runs++;
      instructions += want.instructions;
    }),
    { ...limits, examples: FOUND },
  );
  t.diagnostic(
    `${runs} programs, ${instructions} instructions, ${regions()} regions, ${translator.cpu.translator?.executed} instructions in them`,
  );
  assert.ok(regions() > 1000);
});

test('an interrupt at any instruction boundary is the same with and without regions', () => {
  const executed = translator.cpu.translator?.executed ?? 0;
  fc.assert(
    fc.property(cases, (c) => {
      // Late enough for regions, which leave the last instructions before an instant to the interpreter.
      for (let n = FAST_LIMIT + 200; n < FAST_LIMIT + 320; n++) {
        const one = { ...c, masked: false, interrupts: [n], slices: [n + FAST_LIMIT + 100] };
        assert.deepEqual(differences(run(interpreter, one, [], true), run(translator, one, [], true)), [], `interrupt at ${n}`);
      }
    }),
    { ...limits, numRuns: SECONDS ? limits.numRuns : 25 },
  );
  assert.ok((translator.cpu.translator?.executed ?? 0) > executed + 10_000);
});

// --- breakpoints -----------------------------------------------------------------------------------------------------------

const x = (n: number): Expression => ({ op: 'register', name: `x${n}` });
const number = (value: bigint): Expression => ({ op: 'const', value });
/** Filters that stop never, or now and then; some have to look at memory that is not there, or not in the TLB. */
const filter: fc.Arbitrary<Filter | undefined> = fc.oneof(
  fc.constant(undefined),
  fc.constant({ clauses: [{ condition: number(0n) }] }),
  fc.nat(17).map((n) => ({ clauses: [{ condition: { op: 'eq', left: x(n), right: number(0x1234n) } }] }) as const),
  fc.nat(3).map((n) => ({ clauses: [{ condition: { op: 'load', size: 1, signed: false, at: x(19 + n) } }] }) as const),
  fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 40 })).map(
    ([n, count]): Filter => ({
      clauses: [
        { hit: { op: '%', count, counter: n } },
        { condition: { op: 'lt_s', left: x(n), right: number(0n) }, hit: { op: '==', count, counter: n + 4 } },
      ],
    }),
  ),
);
const breakpoints = fc.array(fc.tuple(fc.oneof(fc.nat(MAX_WORDS + 1), fc.constantFrom(-1, -2, -3)), filter), {
  minLength: 1,
  maxLength: 8,
});
/** In the program's data, its text and its tables; some stop. */
const watchpoints = fc.array(
  fc.record({
    address: fc.oneof(
      fc.nat(2 * PAGE).map((n) => BigInt(DATA + n)),
      fc.constantFrom(BASE + 0x84, ALIAS + 0xf84, entryOf(DATA)).map(BigInt),
    ),
    size: fc.integer({ min: 1, max: 24 }),
    access: fc.constantFrom('w', 'w', 'w', 'r', 'rw'),
    filter: fc.constantFrom<Filter | undefined>(undefined, { clauses: [{ condition: number(0n) }] }),
  }),
  { maxLength: 4 },
);
const inTables = (address: number): boolean => address >= TABLES && address < TABLES + TABLES_SIZE;
/**
 * Watched pages are in no TLB: who changes descriptors and does not invalidate, which leaves both translations open (Arm ARM D8.17), sees
 * the new one there. Such programs have watchpoints on their tables only.
 */
const allowed = <W extends { address: bigint }>({ bases }: Case, watched: readonly W[]): readonly W[] =>
  bases.some(inTables) ? watched.filter((w) => inTables(Number(w.address))) : watched;
/** In the program, or in handlers. */
const placeOf = (n: number): bigint => BigInt(n >= 0 ? BASE + 4 * n : VECTORS + 0x400 - 4 * (n + 1) * 5);

test('breakpoints and watchpoints change nothing, whether they stop or not, and what is counted does not depend on the engine', (t) => {
  let stops = 0;
  const evaluated = translator.cpu.evaluations;
  fc.assert(
    fc.property(cases, breakpoints, watchpoints, (c, list, everywhere) => {
      const watched = allowed(c, everywhere);
      const want = run(interpreter, c, []);
      const counts = [translator, interpreter].map((m) => {
        for (const [n, f] of list) m.cpu.setBreakpoint(placeOf(n), f);
        for (const w of watched) m.cpu.setWatchpoint(w);
        m.cpu.counters.restore([]);
        assert.deepEqual(differences(want, run(m, c, c.slices)), [], m === translator ? 'translator' : 'interpreter');
        stops += m.cpu.counters.get(0);
        for (const [n] of list) m.cpu.clearBreakpoint(placeOf(n));
        for (const w of watched) m.cpu.clearWatchpoint(w.address, w.size);
        return m.cpu.counters.take();
      });
      assert.deepEqual(counts[0], counts[1]);
      // And nothing is left of them.
      assert.deepEqual(differences(want, run(translator, c, c.slices)), []);
    }),
    { ...limits, numRuns: SECONDS ? limits.numRuns : Math.ceil((limits.numRuns ?? 0) / 8) },
  );
  const { generated, judged } = translator.cpu.evaluations;
  t.diagnostic(
    `${generated - evaluated.generated} filters in generated code, ${judged - evaluated.judged} outside, ${stops} hits`,
  );
  assert.ok(generated > evaluated.generated + 1000 && judged > evaluated.judged + 1000);
});
