import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { completeExpression } from '../../../debug-adapter/expression/complete.ts';
import {
  type Context,
  evaluateText,
  execute,
  memoryOf,
  type Target,
  typeOfText,
} from '../../../debug-adapter/expression/evaluate.ts';
import { ExpressionError } from '../../../debug-adapter/expression/parse.ts';
import { Btf, BtfError } from '../../../debug-adapter/symbols/btf.ts';
import { Symbolizer } from '../../../debug-adapter/symbols/symbolizer.ts';
import { BtfTypes } from '../../../debug-adapter/types/btf-types.ts';
import { Catalog } from '../../../debug-adapter/types/catalog.ts';
import { childrenOf } from '../../../debug-adapter/types/children.ts';
import { textOf, type View } from '../../../debug-adapter/types/format.ts';
import { entryArguments } from '../../../debug-adapter/types/frame.ts';
import { plain, sizeOf, typeName } from '../../../debug-adapter/types/model.ts';
import { BtfBlob } from './btf-blob.ts';

const BASE = 0xffff_8000_0000_0000n;
const SIZE = 0x4000;
const PER_CPU = 0x1000n;

/** A kernel's types in small: what is asked below. */
function kernelTypes(): BtfBlob {
  const b = new BtfBlob();
  const int = b.int('int', 4, 1);
  const u32 = b.named(8, 'u32', b.int('unsigned int', 4));
  const u64 = b.int('long unsigned int', 8);
  const char = b.int('char', 1);
  const bool = b.int('_Bool', 1, 4);
  const u8 = b.int('unsigned char', 1);
  const list = b.struct('list_head', 16, [
    ['next', 0, 0],
    ['prev', 0, 64],
  ]);
  const listPointer = b.pointer(list);
  b.patch(list, 4, listPointer);
  b.patch(list, 7, listPointer);
  const state = b.enumeration(
    'state',
    [
      ['RUNNING', 0],
      ['STOPPED', 1],
      ['DEAD', -1],
    ],
    true,
  );
  const flags = b.enumeration('flags', [
    ['F_A', 1],
    ['F_B', 2],
    ['F_C', 8],
  ]);
  const handler = b.pointer(
    b.prototype(int, [
      ['n', u64],
      ['', 0],
    ]),
  );
  const anonymous = b.struct(
    '',
    8,
    [
      ['whole', u64, 0],
      ['bytes', b.array(u8, 8), 0],
    ],
    true,
  );
  const task = b.struct('task_struct', 136, [
    ['pid', int, 0],
    ['low', u32, 32, 3],
    ['mid', int, 35, 5],
    ['wide', u64, 64, 60],
    ['comm', b.array(char, 16), 128],
    ['tasks', list, 256],
    ['', anonymous, 384],
    ['state', state, 448],
    ['flags', flags, 480],
    ['handler', handler, 512],
    ['parent', b.pointer(0), 576],
    ['matrix', b.array(b.array(int, 3), 2), 640],
    ['name', b.pointer(b.named(10, '', char)), 832],
    ['ok', bool, 896],
    ['count', u32, 928],
    ['data', b.array(u32, 0), 960],
  ]);
  const next = b.pointer(task);
  b.patch(task, 3 + 3 * 10 + 1, next);
  b.named(8, 'task_t', task);
  b.named(8, 'guid_t', b.struct('', 16, [['b', b.array(u8, 16), 0]]));
  b.pointer(b.forward('hidden'));
  b.named(
    12,
    'do_work',
    b.prototype(int, [
      ['task', next],
      ['n', int],
      ['on', bool],
    ]),
  );
  b.section('.data..percpu', [[b.named(14, 'counter', u64), 0x40, 8]]);
  return b;
}

const BLOB = kernelTypes();
const TASK = BASE + 0x100n;
const SECOND = BASE + 0x300n;

function world(): Target & { memory: Uint8Array; view: View; types: Catalog } {
  const memory = new Uint8Array(SIZE);
  const data = new DataView(memory.buffer);
  const at = (address: bigint) => Number(address - BASE);
  const inside = (address: bigint, n: number) => address >= BASE && address + BigInt(n) <= BASE + BigInt(SIZE);
  const symbols = new Symbolizer();
  symbols.setKernel([
    { address: BASE + 0x10n, name: 'do_work', type: 'T', size: 16 },
    { address: TASK, name: 'init_task', type: 'D', size: 136 },
    { address: BASE + 0x800n, name: '__per_cpu_start', type: 'D', size: 0x100 },
    { address: BASE + 0x1000n, name: 'untyped', type: 'D', size: 8 },
  ]);
  const types = new Catalog(symbols);
  types.setSources([], [new BtfTypes(new Btf(BLOB.bytes()))]);
  for (const [task, pid, name, other] of [
    [TASK, 7, 'swapper', SECOND],
    [SECOND, 8, 'init', TASK],
  ] as const) {
    const o = at(task);
    data.setInt32(o, pid, true);
    // low = 5, mid = -3 (0b11101)
    data.setUint32(o + 4, 5 | (0b11101 << 3), true);
    data.setBigUint64(o + 8, 0xfedcba987654321n, true);
    memory.set(Buffer.from(name), o + 16);
    data.setBigUint64(o + 32, other + 32n, true);
    data.setBigUint64(o + 40, other + 32n, true);
    data.setBigUint64(o + 48, 0x0102030405060708n, true);
    data.setInt32(o + 56, -1, true);
    data.setUint32(o + 60, 11, true);
    data.setBigUint64(o + 64, BASE + 0x10n, true);
    data.setBigUint64(o + 72, other, true);
    for (let i = 0; i < 6; i++) data.setInt32(o + 80 + 4 * i, i - 1, true);
    data.setBigUint64(o + 104, BASE + 0x1800n, true);
    memory[o + 112] = 1;
    data.setUint32(o + 116, 3, true);
    data.setUint32(o + 120, 0xaa, true);
  }
  memory.set(Buffer.from('a "name"\0'), 0x1800);
  memory.set(Buffer.from('394f16571591784eab55382f3bd5422d', 'hex'), 0x1900);
  data.setBigUint64(0x840, 1n, true);
  data.setBigUint64(0x840 + 0x1000, 22n, true);
  const context: Target = {
    register: (name) => (name === 'x0' ? { value: TASK, bits: 64 } : name === 'w1' ? { value: 5n, bits: 32 } : undefined),
    name: () => undefined,
    symbol: (name) => symbols.address(name),
    read: (a, n) => (inside(a, n) ? memory.slice(at(a), at(a) + n) : undefined),
    write: (a, bytes) => {
      if (!inside(a, bytes.length)) return false;
      memory.set(bytes, at(a));
      return true;
    },
    setRegister: () => false,
    setName: () => false,
    types,
    perCpuOffset: (vp = 0) => (vp === 0 ? 0n : vp === 1 ? PER_CPU : undefined),
    current: () => SECOND,
  };
  return { ...context, types, memory, view: { memory: memoryOf(context), symbols, types } };
}

const show = (text: string, w = world()) => textOf(evaluateText(text, w), w.view);

test('members, bit-fields, anonymous unions, elements, pointers and typedefs, with their C types', () => {
  const w = world();
  const cases: [string, bigint, string][] = [
    ['init_task.pid', 7n, 'int'],
    ['init_task.low', 5n, 'u32'],
    ['init_task.mid', -3n, 'int'],
    ['init_task.wide', 0xedcba987654321n | (0xfn << 56n), 'unsigned long'],
    ['init_task.whole', 0x0102030405060708n, 'unsigned long'],
    ['init_task.bytes[1]', 7n, 'unsigned char'],
    ['init_task.state', -1n, 'enum state'],
    ['init_task.state == DEAD', 1n, 'int'],
    ['(enum state)1 == STOPPED', 1n, 'int'],
    ['init_task.parent->pid', 8n, 'int'],
    ['init_task.parent.pid', 8n, 'int'],
    ['((struct task_struct *)$x0)->parent->parent->pid', 7n, 'int'],
    ['((task_t *)$x0)->pid', 7n, 'int'],
    ['(*(task_t *)$x0).matrix[1][2]', 4n, 'int'],
    ['{int} &init_task.matrix[1]', 2n, 'int'],
    ['&init_task.matrix[1] - &init_task.matrix[0]', 1n, 'long'],
    ['&init_task + 1', TASK + 136n, 'struct task_struct *'],
    ['1 + &init_task', TASK + 136n, 'struct task_struct *'],
    ['$current->pid', 8n, 'int'],
    ['current->pid', 8n, 'int'],
    ['sizeof(struct task_struct)', 136n, 'unsigned long'],
    ['sizeof(task_t)', 136n, 'unsigned long'],
    ['sizeof init_task.comm', 16n, 'unsigned long'],
    ['sizeof(int (*)(void))', 8n, 'unsigned long'],
    ['sizeof(struct list_head [3])', 48n, 'unsigned long'],
    ['_Alignof(struct list_head)', 8n, 'unsigned long'],
    ['offsetof(struct task_struct, tasks.prev)', 40n, 'unsigned long'],
    ['offsetof(struct task_struct, matrix[1][0])', 92n, 'unsigned long'],
    ['$container_of(&init_task.tasks, struct task_struct, tasks)->pid', 7n, 'int'],
    ['$container_of(init_task.tasks.next, struct task_struct, tasks)->pid', 8n, 'int'],
    ['init_task.comm == "swapper" && init_task.comm[0] == \'s\'', 1n, 'int'],
    ['init_task.name != "other"', 1n, 'int'],
    ['counter', 1n, 'unsigned long'],
    ['$per_cpu(counter, 1)', 22n, 'unsigned long'],
    ['$per_cpu(counter)', 1n, 'unsigned long'],
    ['*$per_cpu(untyped, 1)', 0n, 'unsigned long'],
    ['(typeof(init_task.pid))0x1ffffffff', -1n, 'int'],
    ['vmlinux::init_task.pid', 7n, 'int'],
    ['(long)init_task.handler == (long)&do_work', 1n, 'int'],
    ['init_task.ok ? init_task.count : 1 / 0', 3n, 'u32'],
    ['(init_task.pid, 4)', 4n, 'int'],
    ['init_task.data[0]', 0xaan, 'u32'],
    // The address of a struct, in bytes, as it is for a symbol without type.
    ['*(u8 *)(init_task + 1)', 0n, 'u8'],
    ['(u64)init_task', TASK, 'u64'],
  ];
  for (const [text, value, type] of cases) {
    const found = evaluateText(text, w);
    assert.deepEqual([text, found.value, typeName(found.type)], [text, value, type]);
  }
  assert.equal(typeName(evaluateText('init_task.comm[0]@3', w).type), 'char [3]');
});

test('types as they are written, and as they are shown', () => {
  const w = world();
  for (const text of [
    'struct list_head *',
    'const char *',
    'int (*)(u64, int)',
    'unsigned long [4]',
    'int (*[3])(void)',
    'char **',
    'enum state',
    'const struct task_struct *const *',
    'int (*(*)(int))(long)',
  ])
    assert.equal(typeName(typeOfText(text, w)).replace(/ ?\* ?/g, '*'), text.replace(/ ?\* ?/g, '*'), text);
  assert.equal(typeName(typeOfText('long unsigned int', w)), 'unsigned long');
  assert.equal(typeName(typeOfText('short int', w)), 'short');
});

test('values as text: numbers, characters, booleans, enumerations, flag sets, pointers, functions, structs, strings', () => {
  const cases: [string, string][] = [
    ['init_task.pid', '7'],
    ['init_task.count * 100', '0x12c (300)'],
    ['init_task.low', '5'],
    ['init_task.comm', '"swapper"'],
    ['init_task.comm[0]', "115 's'"],
    ['init_task.ok', 'true'],
    ['init_task.state', 'DEAD (-1)'],
    ['init_task.flags', 'F_A | F_B | F_C (0xb)'],
    ['(enum flags)8', 'F_C (8)'],
    ['(enum flags)0x18', 'F_C | 0x10 (0x18)'],
    ['init_task.handler', '0xffff800000000010 <do_work>'],
    ['do_work', '0xffff800000000010 <do_work>'],
    ['init_task.name', '0xffff800000001800 "a \\"name\\""'],
    ['init_task.tasks.next', '0xffff800000000320'],
    ['&init_task.tasks', '0xffff800000000120 <init_task+0x20>'],
    ['(char *)0', '0x0'],
    ['init_task.matrix', '{{-1, 0, 1}, {2, 3, 4}}'],
    ['*(unsigned int (*)[9])(0xffff800000002000)', '{0 <repeats 9 times>}'],
    ['*(struct list_head *)16', '<cannot read 1 bytes at 0x10>'],
    ['init_task', '{pid = 7, comm = "swapper", ...}'],
    ['untyped', '0xffff800000001000 <untyped>'],
    ['*(guid_t *)0xffff800000001900', '57164f39-9115-4e78-ab55-382f3bd5422d'],
  ];
  for (const [text, shown] of cases) assert.deepEqual([text, show(text)], [text, shown]);
  const w = world();
  const inHex = { ...w.view, hex: true };
  assert.equal(textOf(evaluateText('init_task.count', w), inHex), '0x3');
  assert.equal(textOf(evaluateText('init_task.state', w), inHex), 'DEAD (0xffffffff)');
});

test('what is inside: members with expressions that mean them, anonymous unions, pages of elements, flexible arrays', () => {
  const w = world();
  const inside = (text: string) => childrenOf(evaluateText(text, w), w.view, text);
  const task = inside('init_task');
  assert.deepEqual(
    task?.named.map((c) => c.name),
    'pid low mid wide comm tasks (union) state flags handler parent matrix name ok count data'.split(' '),
  );
  for (const child of task?.named ?? []) {
    if (child.expression === undefined || child.nameless) continue;
    assert.equal(textOf(evaluateText(child.expression, w), w.view), textOf(child.value, w.view), child.expression);
  }
  const union = task?.named.find((c) => c.nameless);
  assert.ok(union);
  assert.deepEqual(
    childrenOf(union.value, w.view, union.expression)?.named.map((c) => c.expression),
    ['init_task.whole', 'init_task.bytes'],
  );
  const parent = inside('$current');
  assert.equal(parent?.named[0].expression, '$current->pid');
  const array = inside('*(int (*)[100000])0xffff800000000000');
  assert.equal(array?.count, 100_000);
  assert.deepEqual(
    array?.elements(64, 66).map((c) => [c.name, c.value.value]),
    [
      ['[64]', 7n],
      ['[65]', BigInt(5 | (0b11101 << 3))],
    ],
  );
  assert.equal(inside('init_task.data')?.elements(0, 1)[0].value.value, 0xaan);
  assert.equal(inside('(void *)$x0'), undefined);
  assert.equal(inside('(char *)0'), undefined);
});

test('lists by their elements; broken, endless and unreadable lists end with the reason', () => {
  const w = world();
  const tasks = evaluateText('init_task.tasks', w);
  assert.equal(textOf(tasks, w.view), 'list of 1 struct task_struct');
  const children = childrenOf(tasks, w.view, 'init_task.tasks');
  const [element] = children?.elements(0, 10) ?? [];
  assert.equal(textOf(element.value, w.view), '{pid = 8, comm = "init", ...}');
  assert.equal(evaluateText(`(${element.expression}).pid`, w).value, 8n);
  const data = new DataView(w.memory.buffer);
  // The second points to itself.
  data.setBigUint64(0x320, SECOND + 32n, true);
  const endless = childrenOf(evaluateText('init_task.tasks', w), w.view);
  assert.deepEqual(
    endless?.named.map((c) => c.text),
    ['', '<0xffff800000000320 comes a second time: the links are broken>'],
  );
  data.setBigUint64(0x320, 0x1234n, true);
  assert.equal(textOf(evaluateText('init_task.tasks', w), w.view), 'list of at least 2 struct task_struct');
  data.setBigUint64(0x120, 0n, true);
  assert.equal(textOf(evaluateText('init_task.tasks', w), w.view), 'list of 0 struct task_struct');
});

test('assignments down to bit-fields, strings and structs; nothing else may change anything', () => {
  const w = world();
  const set = (text: string) => execute(text, w).value;
  assert.equal(set('init_task.mid = 2').value, 2n);
  assert.deepEqual([evaluateText('init_task.low', w).value, evaluateText('init_task.mid', w).value], [5n, 2n]);
  assert.equal(set('init_task.low = 9').value, 1n);
  assert.equal(set('init_task.pid += 5').value, 12n);
  assert.equal(set('init_task.pid++').value, 12n);
  assert.equal(evaluateText('init_task.pid', w).value, 13n);
  assert.equal(set('--init_task.pid').value, 12n);
  set('init_task.comm = "renamed"');
  assert.equal(show('init_task.comm', w), '"renamed"');
  set('init_task.tasks = $current->tasks');
  assert.equal(evaluateText('init_task.tasks.next == $current->tasks.next', w).value, 1n);
  set('init_task.ok = 77');
  assert.equal(w.memory[0x100 + 112], 1);
  for (const [text, message] of [
    ['init_task.comm = "a string that is too long"', /characters do not fit/],
    ['init_task = 1', /is not struct task_struct/],
    ['init_task.nothing = 1', /has no member nothing/],
    ['do_work = 1', /a function cannot be assigned to/],
    ['1 = 2', /not something that can be assigned to/],
    ['*(int *)0 = 1', /cannot write 4 bytes at 0x0/],
  ] as const)
    assert.throws(() => set(text), message, text);
  for (const text of ['init_task.pid = 1', 'init_task.pid++', '(init_task.pid += 1)', '1, init_task.pid = 2'])
    assert.throws(() => evaluateText(text, w), /an expression here cannot change anything/, text);
});

test('errors point at the column', () => {
  const cases: [string, number, RegExp][] = [
    ['1 + nobody', 5, /nobody is not known here/],
    ['init_task.pidd', 10, /struct task_struct has no member pidd; did you mean pid\?/],
    ['1 + (struct nobody *)0', 13, /there is no type struct nobody/],
    ['sizeof(struct hidden)', 1, /the members of struct hidden are not told/],
    ['(task_struct *)0', 2, /did you mean struct task_struct\?/],
    ['init_task->pid', 10, /-> needs a pointer, this is a struct: use \./],
    ['$x0->pid', 4, /"->" needs a pointer to a struct or union, this is unsigned long/],
    ['1 + 2 / 0', 7, /division by zero/],
    ['$per_cpu(counter, 9)', 19, /there is no VP 9/],
    ['init_task.pid = 3', 15, /cannot change anything/],
    ['&init_task.low', 1, /a bit-field has no address/],
    ['&5', 1, /not in memory/],
    ['*(void *)$x0', 1, /void pointer/],
    ['do_work(1)', 1, /cannot be called/],
    ['$nothing(1)', 1, /no function \$nothing/],
    ['init_task.comm[', 16, /missing at the end/],
    ['089', 1, /not an octal number/],
    ['12abc', 1, /"12abc" is not a number/],
    ['1 ? 2', 6, /":" expected at the end/],
    ['init_task.', 11, /name of a member expected/],
    ['nothing::x', 1, /nothing::x is not known here/],
    ['init_task.pid << -1', 15, /a shift by -1/],
    ['init_task.pid@0', 15, /@ makes 1 to/],
  ];
  for (const [text, column, message] of cases)
    assert.throws(
      () => evaluateText(text, world()),
      (e) => {
        assert.ok(e instanceof ExpressionError, text);
        assert.match(e.fact, message);
        assert.equal(e.column, column, text);
        return true;
      },
    );
});

test('completion: members after . and ->, of casts and elements too; structs after their keyword', () => {
  const w = world();
  const names = (text: string) => completeExpression(text, w)?.items.map((i) => i.name);
  assert.deepEqual(names('init_task.co'), ['comm', 'count']);
  assert.deepEqual(names('1 + ((struct task_struct *)$x0)->parent->m'), ['mid', 'matrix']);
  assert.deepEqual(names('init_task.tasks.'), ['next', 'prev']);
  assert.deepEqual(names('$current->parent->tasks.n'), ['next']);
  assert.deepEqual(names('init_task.pid.'), undefined);
  assert.deepEqual(names('(struct ta'), ['task_struct']);
  assert.deepEqual(names('init'), undefined);
  assert.deepEqual(names('nobody->'), undefined);
  assert.equal(completeExpression('init_task.comm', w)?.items[0].detail, 'char [16]');
  assert.deepEqual(names('vmlinux::co'), ['counter']);
  assert.deepEqual(names('vmlinux::init_'), ['init_task']);
  assert.deepEqual(names('no_module::init_'), []);
  assert.deepEqual([names('(task_'), completeExpression('(task_', w)?.more], [['task_t'], true]);
  assert.deepEqual(names('do_work(task_'), undefined, 'no cast after a name');
  assert.deepEqual(w.types.complete('constant', 'F_', 10), ['F_A', 'F_B', 'F_C']);
});

test("a module's split BTF goes on where the kernel's ends", () => {
  const split = new BtfBlob(BLOB);
  const kernel = new BtfTypes(new Btf(BLOB.bytes()));
  const base = new Btf(BLOB.bytes());
  const task = base.find('task_struct', 4);
  split.struct('wrapper', 24, [
    ['task', split.pointer(task), 0],
    ['own', split.struct('own', 16, [['x', base.find('u32', 8), 0]]), 64],
  ]);
  const types = new BtfTypes(new Btf(split.bytes(), base), 'mod', kernel);
  const wrapper = plain(types.find('struct', 'wrapper') ?? { kind: 'void' });
  assert.ok(wrapper.kind === 'struct');
  assert.deepEqual(
    wrapper.members.map((m) => `${typeName(m.type)} ${m.name} ${m.offset}`),
    ['struct task_struct * task 0', 'struct own own 8'],
  );
  assert.equal(types.find('struct', 'task_struct'), undefined, 'what the kernel has is not its own');
  const w = world();
  w.types.setSources([], [kernel, types]);
  assert.equal(sizeOf(w.types.find('struct', 'wrapper') ?? { kind: 'void' }), 24);
});

test('arguments at the first instruction are where the prototype puts them', () => {
  const w = world();
  const type = plain(w.types.functionType('do_work') ?? { kind: 'void' });
  assert.ok(type.kind === 'function');
  const frame = {
    pc: BASE + 0x10n,
    inlineDepth: 0,
    register: (n: number) => [TASK, 0xffff_ffff_ffff_fffen, 0x101n][n],
    cfa: undefined,
    memory: w.view.memory,
    caller: undefined,
    perCpuOffset: undefined,
  };
  assert.deepEqual(
    entryArguments(type, frame).map((v) => `${typeName(v.value.type)} ${v.name} = ${textOf(v.value, w.view)}`),
    ['struct task_struct * task = 0xffff800000000100 <init_task>', 'int n = -2', '_Bool on = true (0x1)'].map((s) =>
      s.replace('true (0x1)', 'true'),
    ),
  );
});

/** C11 6.3.1.8 and 6.5, said once more and in another way: by the width and sign of each operand. */
const TYPES = [
  ['signed char', 8, true],
  ['unsigned char', 8, false],
  ['short', 16, true],
  ['unsigned short', 16, false],
  ['int', 32, true],
  ['unsigned int', 32, false],
  ['long', 64, true],
  ['unsigned long', 64, false],
] as const;
const as = (value: bigint, bits: number, signed: boolean) => (signed ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value));
function reference(op: string, a: bigint, at: (typeof TYPES)[number], b: bigint, bt: (typeof TYPES)[number]): bigint | undefined {
  const promote = ([, bits, signed]: (typeof TYPES)[number]): [number, boolean] => (bits < 32 ? [32, true] : [bits, signed]);
  const [ab, as_] = promote(at);
  const [bb, bs] = promote(bt);
  const x0 = as(a, at[1], at[2]);
  const y0 = as(b, bt[1], bt[2]);
  if (op === '<<' || op === '>>') {
    if (y0 < 0n || y0 >= BigInt(ab)) return undefined;
    return as(op === '<<' ? x0 << y0 : x0 >> y0, ab, as_);
  }
  const bits = Math.max(ab, bb);
  const signed = ab === bb ? as_ && bs : ab > bb ? as_ : bs;
  const x = as(x0, bits, signed);
  const y = as(y0, bits, signed);
  switch (op) {
    case '+':
      return as(x + y, bits, signed);
    case '-':
      return as(x - y, bits, signed);
    case '*':
      return as(x * y, bits, signed);
    case '/':
      return y === 0n ? undefined : as(x / y, bits, signed);
    case '%':
      return y === 0n ? undefined : as(x % y, bits, signed);
    case '&':
      return as(x & y, bits, signed);
    case '|':
      return as(x | y, bits, signed);
    case '^':
      return as(x ^ y, bits, signed);
    case '<':
      return x < y ? 1n : 0n;
    case '>=':
      return x >= y ? 1n : 0n;
    default:
      return x === y ? 1n : 0n;
  }
}

test('arithmetic has the width and sign that C gives it', () => {
  const operand = fc.oneof(
    fc.bigInt(0n, (1n << 64n) - 1n),
    fc.constantFrom(0n, 1n, 31n, 0x7fn, 0x80n, 0x8000n, 0x7fffffffn, 1n << 31n, 1n << 63n),
  );
  fc.assert(
    fc.property(
      fc.constantFrom('+', '-', '*', '/', '%', '&', '|', '^', '<', '>=', '==', '<<', '>>'),
      operand,
      fc.constantFrom(...TYPES),
      operand,
      fc.constantFrom(...TYPES),
      (op, a, at, b, bt) => {
        const expected = reference(op, a, at, b, bt);
        if (expected === undefined) return;
        const text = `(${at[0]})${a} ${op} (${bt[0]})${b}`;
        assert.equal(evaluateText(text, world0).value, expected, text);
      },
    ),
    { numRuns: 3000, seed: 5 },
  );
});
const world0: Context = { register: () => undefined, name: () => undefined, symbol: () => undefined, read: () => undefined };

test('numbers have the type of C11 6.4.4.1', () => {
  for (const [text, type] of [
    ['1', 'int'],
    ['2147483647', 'int'],
    ['2147483648', 'long'],
    ['0x7fffffff', 'int'],
    ['0x80000000', 'unsigned int'],
    ['0xffffffff', 'unsigned int'],
    ['0x100000000', 'long'],
    ['1u', 'unsigned int'],
    ['1UL', 'unsigned long'],
    ['1ll', 'long long'],
    ['0xffffffffffffffff', 'unsigned long'],
    ['1 + 1u', 'unsigned int'],
    ['1l + 1u', 'long'],
    ["'a'", 'int'],
    ['sizeof(int)', 'unsigned long'],
    ['(u8)1 + (u8)1', 'int'],
    ['1 << 3l', 'int'],
  ] as const)
    assert.deepEqual([text, typeName(evaluateText(text, world0).type)], [text, type]);
  assert.equal(evaluateText('0644', world0).value, 0o644n);
  assert.equal(evaluateText("'\\n'", world0).value, 10n);
  assert.equal(evaluateText("'\\x41'", world0).value, 65n);
});

test('any bytes are BTF or a BtfError; whatever the types are, values of them can be looked at', () => {
  const good = BLOB.bytes();
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 12 }),
      fc.nat(good.length),
      (changes, cut) => {
        const bytes = good.slice(0, cut % 3 === 0 ? cut : good.length);
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        let btf: Btf;
        try {
          btf = new Btf(bytes);
        } catch (e) {
          assert.ok(e instanceof BtfError, String(e));
          return;
        }
        const w = world();
        w.types.setSources([], [new BtfTypes(btf)]);
        for (const text of [
          'init_task',
          'init_task.tasks',
          'do_work',
          'counter',
          'sizeof(struct task_struct)',
          '*$current',
          'F_A',
        ])
          try {
            const value = evaluateText(text, w);
            textOf(value, w.view);
            const children = childrenOf(value, w.view, text);
            for (const c of [...(children?.named ?? []), ...(children?.elements(0, 20) ?? [])]) textOf(c.value, w.view);
            typeName(value.type);
          } catch (e) {
            if (!(e instanceof ExpressionError)) throw e;
          }
      },
    ),
    { numRuns: 400, seed: 3 },
  );
});
