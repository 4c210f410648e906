/** Conditions for the engine say what the debugger would: on random expressions, registers and memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Context, evaluate, isTrue } from '../../../debug-adapter/expression/evaluate.ts';
import { type CodePlace, constant, lowerCondition, operation, register } from '../../../debug-adapter/expression/lower.ts';
import { ExpressionError, parse } from '../../../debug-adapter/expression/parse.ts';
import { Symbolizer } from '../../../debug-adapter/symbols/symbolizer.ts';
import { Catalog, type Tag } from '../../../debug-adapter/types/catalog.ts';
import {
  arrayOf,
  BOOL,
  CHAR,
  compound,
  enumeration,
  INT,
  LONG,
  pointerTo,
  type Type,
  typedef,
  UNSIGNED_INT,
  UNSIGNED_LONG,
} from '../../../debug-adapter/types/model.ts';
import { bytesOf, ConstantStorage, type Memory, numberOf, Value } from '../../../debug-adapter/types/value.ts';
import { checkExpression, evaluate as evaluateCondition } from '../../../emulator/cpu/condition.ts';

const BASE = 0xffff_8000_0000_0000n;
const SIZE = 1024;
const PER_CPU = 0x100n;
const [SHORT, S8] = [typedef('s16', () => ({ kind: 'base', name: 'short', size: 2, encoding: 'integer', signed: true })), CHAR];
const COLOUR = enumeration('colour', 4, false, () => [{ name: 'GREEN', value: 3n }]);
const NODE: Type = compound('struct', 'node', 40, () => [
  { name: 'next', type: pointerTo(() => NODE), offset: 0 },
  { name: 'count', type: INT, offset: 8 },
  { name: 'flags', type: UNSIGNED_INT, offset: 12, bits: { at: 3, size: 5 } },
  { name: 'level', type: INT, offset: 13, bits: { at: 0, size: 6 } },
  { name: 'ready', type: BOOL, offset: 15 },
  { name: 'small', type: SHORT, offset: 16 },
  { name: 'colour', type: COLOUR, offset: 20 },
  { name: 'data', type: arrayOf(CHAR, 8), offset: 24 },
  { name: '', type: compound('union', undefined, 8, () => [{ name: 'wide', type: UNSIGNED_LONG, offset: 0 }]), offset: 32 },
]);
const PAIR: Type = compound('struct', 'pair', 8, () => [
  { name: 'low', type: INT, offset: 0 },
  { name: 'high', type: UNSIGNED_INT, offset: 4 },
]);

const symbols = new Symbolizer();
symbols.setKernel([
  { address: BASE, name: '__per_cpu_start', type: 'D', size: 64 },
  { address: BASE + 64n, name: 'head', type: 'D', size: 40 },
  { address: BASE + 128n, name: 'table', type: 'D', size: 64 },
  { address: BASE + 256n, name: 'untyped', type: 'D', size: 8 },
]);
const types = new Catalog(symbols);
const TYPES: Readonly<Record<string, Type>> = {
  'struct node': NODE,
  'struct pair': PAIR,
  'enum colour': COLOUR,
  'typedef s16': SHORT,
};
const VARIABLES: Readonly<Record<string, Type>> = { head: NODE, table: arrayOf(UNSIGNED_INT, 16), runs: NODE };
types.setSources(
  [
    {
      module: undefined,
      find: (tag: Tag, name: string) => TYPES[`${tag} ${name}`],
      constant: (name) => (name === 'GREEN' ? { type: COLOUR, value: 3n } : undefined),
      variable: (name) =>
        name === 'runs'
          ? { type: NODE, perCpuOffset: 8 }
          : Object.hasOwn(VARIABLES, name)
            ? { type: VARIABLES[name], address: symbols.address(name) }
            : undefined,
      functionType: () => undefined,
      complete: () => [],
    },
  ],
  [],
);

/** Locals: in registers, relative to one, told, and gone. */
const LOCALS: Readonly<Record<string, { type: Type; in?: 'x3' | 'x4' | 'x5'; at?: bigint; known?: bigint }>> = {
  node: { type: pointerTo(NODE), in: 'x3' },
  byte: { type: S8, in: 'x4' },
  index: { type: INT, in: 'x5' },
  pair: { type: PAIR, in: 'x4' },
  total: { type: LONG, at: 0x20n },
  seven: { type: INT, known: 7n },
};

interface State {
  readonly registers: Readonly<Record<string, bigint>>;
  readonly memory: Uint8Array;
}

const REGISTERS = ['x0', 'x1', 'x2', 'x3', 'x4', 'x5', 'sp', 'pc', 'TPIDR_EL1', 'SP_EL0'];
const WIDTHS: Readonly<Record<string, number>> = { w1: 32 };

const place: CodePlace = {
  types,
  module: undefined,
  symbol: (name) => symbols.address(name),
  register: (name) =>
    REGISTERS.includes(name)
      ? { name, bits: 64, address: name === 'pc' }
      : WIDTHS[name]
        ? { name: `x${name.slice(1)}`, bits: 32, address: false }
        : undefined,
  variable(name) {
    if (!Object.hasOwn(LOCALS, name)) return name === 'gone' ? { type: INT } : undefined;
    const { type, in: of, at, known } = LOCALS[name];
    if (of) return { type, place: { bytes: register(of) } };
    if (at !== undefined) return { type, place: { address: operation('add', register('sp'), constant(at)) } };
    return { type, place: { bytes: constant(known ?? 0n) } };
  },
  perCpuOffset: register('TPIDR_EL1'),
  current: register('SP_EL0'),
};

function contextOf({ registers, memory }: State): Context {
  const read = (at: bigint, size: number): Uint8Array | undefined =>
    at >= BASE && at + BigInt(size) <= BASE + BigInt(SIZE)
      ? memory.slice(Number(at - BASE), Number(at - BASE) + size)
      : undefined;
  const guest: Memory = { read };
  return {
    register(name) {
      const found = place.register(name);
      return found && { value: BigInt.asUintN(found.bits, registers[found.name]), bits: found.bits, address: found.address };
    },
    name: () => undefined,
    symbol: (name) => symbols.address(name) ?? (REGISTERS.includes(name) ? registers[name] : undefined),
    read,
    types,
    variable(name) {
      if (!Object.hasOwn(LOCALS, name)) return undefined;
      const { type, in: of, at, known } = LOCALS[name];
      if (at !== undefined) return Value.at(type, guest, registers.sp + at);
      return new Value({ type, storage: new ConstantStorage(bytesOf(of ? registers[of] : (known ?? 0n), 8)) });
    },
    perCpuOffset: () => registers.TPIDR_EL1,
    current: () => registers.SP_EL0,
  };
}

/** The debugger's answer: true, false, or none. */
function answer(text: string, state: State): boolean | undefined {
  try {
    return isTrue(evaluate(parse(text, { isType: (n) => n === 's16' }), contextOf(state)));
  } catch (e) {
    if (e instanceof ExpressionError) return undefined;
    throw e;
  }
}

function engineAnswer(text: string, state: State): boolean | undefined | 'not lowered' {
  const lowered = lowerCondition(parse(text, { isType: (n) => n === 's16' }), place);
  if (!lowered) return 'not lowered';
  checkExpression(lowered);
  const value = evaluateCondition(lowered, {
    register: (name) => state.registers[name],
    load(at, size) {
      const bytes = contextOf(state).read(at, size);
      return bytes && numberOf(bytes);
    },
  });
  return value === undefined ? undefined : value !== 0n;
}

const number = fc.oneof(
  fc.bigInt(0n, (1n << 64n) - 1n),
  fc.bigInt(0n, 20n),
  fc.bigInt(0n, BigInt(SIZE)).map((n) => BASE + n),
  fc.constantFrom(1n << 63n, (1n << 31n) - 1n, 0xffff_ffffn),
);
const states: fc.Arbitrary<State> = fc
  .tuple(
    fc.array(number, { minLength: REGISTERS.length, maxLength: REGISTERS.length }),
    fc.uint8Array({ minLength: SIZE, maxLength: SIZE }),
    fc.boolean(),
  )
  .map(([values, memory, sane]) => {
    const registers = Object.fromEntries(REGISTERS.map((r, i) => [r, values[i]]));
    // Half the time pointers point somewhere, and so does what they point to.
    if (sane) {
      registers.x3 = BASE + 64n;
      registers.sp = BASE + 512n;
      registers.TPIDR_EL1 = PER_CPU;
      registers.SP_EL0 = BASE + 300n;
      for (const at of [64, 128, 256, 272, 544]) memory.set(bytesOf(BASE + 320n, 8), at);
    }
    return { registers, memory };
  });

const LEAVES = [
  ...['0', '1', '-1', '7', '31', '33', '64', '0x80000000', '0xffffffffu', '5000000000', '1ul', "'a'", 'GREEN', 'NULL', 'true'],
  ...['$x0', '$x1', '$w1', '$pc', '$sp', 'x2', 'node', 'byte', 'index', 'total', 'seven', 'pair.low', 'pair.high'],
  ...['head', 'head.next', 'head.count', 'head.flags', 'head.level', 'head.ready', 'head.small', 'head.colour', 'head.wide'],
  ...[
    'table',
    'table[3]',
    'head.data',
    'head.data[1]',
    'untyped',
    '*head.next',
    'node->count',
    'node->flags',
    'node->next->level',
  ],
  ...['node->data[index & 7]', '$per_cpu(runs).count', 'runs.small', '$current', '&head', '&node->small', '&runs'],
  ...['sizeof(struct node)', 'sizeof(*node)', 'sizeof pair', '$offsetof(struct node, data[2])', '((struct node *)$x3)->colour'],
  ...['$container_of(&node->small, struct node, small)->count', '*(s16 *)$sp', '*(int *)&head.wide', '(unsigned char)$x0'],
];
const BINARY = ['+', '-', '*', '/', '%', '&', '|', '^', '<<', '>>', '==', '!=', '<', '>', '<=', '>=', '&&', '||'];
const { text } = fc.letrec<{ text: string }>((tie) => ({
  text: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom(...LEAVES),
    fc.tuple(tie('text'), fc.constantFrom(...BINARY), tie('text')).map(([a, op, b]) => `(${a} ${op} ${b})`),
    fc.tuple(fc.constantFrom('!', '-', '~', '+', '*', '&'), tie('text')).map(([op, a]) => `${op}(${a})`),
    fc
      .tuple(
        fc.constantFrom('int', 'unsigned int', 'long', 'char', 's16', '_Bool', 'void *', 'struct node *', 'enum colour'),
        tie('text'),
      )
      .map(([type, a]) => `(${type})(${a})`),
    fc.tuple(tie('text'), tie('text'), tie('text')).map(([a, b, c]) => `(${a} ? ${b} : ${c})`),
    fc.tuple(tie('text'), tie('text')).map(([a, b]) => `(${a})[(${b}) & 3]`),
  ),
}));

test('the engine and the debugger agree, also that there is no answer', (t) => {
  const counts = { lowered: 0, answered: 0, all: 0 };
  fc.assert(
    fc.property(text, states, (text, state) => {
      counts.all++;
      const got = engineAnswer(text, state);
      if (got === 'not lowered') return;
      counts.lowered++;
      if (got !== undefined) counts.answered++;
      assert.equal(got, answer(text, state), text);
    }),
    { numRuns: 6000, seed: 11 },
  );
  t.diagnostic(JSON.stringify(counts));
  assert.ok(counts.lowered > 3000 && counts.answered > 1500);
});

test('everything that a condition usually has is lowered', () => {
  const state: State = { registers: Object.fromEntries(REGISTERS.map((r) => [r, BASE + 64n])), memory: new Uint8Array(SIZE) };
  for (const leaf of LEAVES.filter((l) => !/^\*?head(\.next)?$/.test(l)))
    assert.notEqual(engineAnswer(leaf, state), 'not lowered', leaf);
});

test('what only the debugger knows is left to it', () => {
  const state: State = { registers: Object.fromEntries(REGISTERS.map((r) => [r, 0n])), memory: new Uint8Array(SIZE) };
  for (const text of [
    'gone',
    'hv.HvRegisterVpIndex',
    'hv.list[3]',
    '"a" == "a"',
    'nobody',
    '(double)1',
    'head',
    '$v0',
    '$per_cpu(runs, 1).count',
    'head.nothing',
  ])
    assert.equal(engineAnswer(text, state), 'not lowered', text);
});
