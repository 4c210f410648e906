import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { assign, evaluateText, type Target } from '../../../debug-adapter/expression/evaluate.ts';
import { ExpressionError, parse } from '../../../debug-adapter/expression/parse.ts';
import { ADDRESS } from '../../../debug-adapter/types/model.ts';

function world(): Target & { registers: Record<string, bigint>; memory: Uint8Array } {
  const registers: Record<string, bigint> = { x0: 7n, x1: (1n << 64n) - 1n, v0: 1n << 100n, pc: 0x1000n };
  const memory = new Uint8Array(256).map((_, i) => i);
  const inside = (at: bigint, n: number) => at >= 0x1000n && at + BigInt(n) <= 0x1100n;
  return {
    registers,
    memory,
    register: (name) =>
      name in registers ? { value: registers[name], bits: name === 'v0' ? 128 : 64, address: name === 'pc' } : undefined,
    setRegister: (name, value) => {
      registers[name] = value;
      return name !== 'pc';
    },
    name: (name) =>
      new Map<string, ReturnType<Target['name']>>(
        Object.entries({ ConnectionId: 4, Name: 'HvRegisterSint2', list: [{ A: 1 }, 5], flag: true, 'hv.X': 9n }),
      ).get(name),
    setName: () => false,
    symbol: (name) => (name === 'buffer' ? 0x1000n : name === 'foo.constprop.0' ? 0x1008n : undefined),
    read: (at, n) => (inside(at, n) ? memory.slice(Number(at - 0x1000n), Number(at - 0x1000n) + n) : undefined),
    write: (at, data) => {
      if (!inside(at, data.length)) return false;
      memory.set(data, Number(at - 0x1000n));
      return true;
    },
  };
}
const value = (text: string) => evaluateText(text, world()).value;

test('arithmetic as C does it', () => {
  const cases: [string, bigint][] = [
    ['1 + 2 * 3', 7n],
    ['(1 + 2) * 3', 9n],
    ['10 - 4 - 3', 3n],
    ['-7 / 2', -3n],
    ['-7 % 3', -1n],
    ['1 << 4 + 1', 32n],
    ['0xff & ~0xf | 1', 0xf1n],
    ['6 ^ 3', 5n],
    ['~0', -1n],
    ['!5 + !0', 1n],
    ['1 ? 2 : 0 ? 3 : 4', 2n],
    ['0 ? 2 : 0 ? 3 : 4', 4n],
    ['1 < 2 == 1', 1n],
    ['3 > 2 && 2 >= 2 || 1 / 0', 1n],
    ['0 && 1 / 0', 0n],
    ['0b101', 5n],
    ["'A'", 65n],
    ['1_000', 1000n],
    ['5u + 1ul', 6n],
    ['$x0 * 2', 14n],
    ['$x1 + 1', 0n],
    ['$x1 > 0', 1n],
    ['(s64)$x1 < 0', 1n],
    ['(s32)0xffffffff', -1n],
    ['(u8)0x1ff', 0xffn],
    ['(unsigned int)-1', 0xffffffffn],
    ['$v0 >> 100', 1n],
    ['0xffffffffffffffff', (1n << 64n) - 1n],
    ['-1 == 0xffffffffffffffff', 1n],
    ['flag', 1n],
    ['hv.X + 1', 10n],
  ];
  for (const [text, expected] of cases) assert.equal(value(text), expected, text);
});

test('memory by pointers and casts', () => {
  const cases: [string, bigint][] = [
    ['*(u8*)buffer', 0n],
    ['*(u8*)(buffer + 5)', 5n],
    ['*(u16*)(buffer + 2)', 0x0302n],
    ['*(u32*)(buffer + 4)', 0x07060504n],
    ['*buffer', 0x0706050403020100n],
    ['((u32*)buffer)[1]', 0x07060504n],
    ['*((u32*)buffer + 1)', 0x07060504n],
    ['&((u32*)buffer)[2]', 0x1008n],
    ['&buffer', 0x1000n],
    ['*(s8*)(buffer + 0xfe)', -2n],
    ['(u64)foo.constprop.0', 0x1008n],
    ['*(u8*)$pc', 0n],
  ];
  for (const [text, expected] of cases) assert.equal(value(text), expected, text);
  assert.deepEqual(evaluateText('buffer + 8', world()).type, ADDRESS);
});

test('fields: text compares with text, lists and structures can be looked into', () => {
  assert.equal(value('ConnectionId == 4 && Name == "HvRegisterSint2"'), 1n);
  assert.equal(value('Name != "x"'), 1n);
  assert.equal(value('list[1]'), 5n);
  assert.deepEqual(evaluateText('list[0]', world()).data, { A: 1 });
});

test('what is wrong is said in words', () => {
  const cases: [string, RegExp][] = [
    ['', /empty/],
    ['1 +', /missing at the end/],
    ['(1', /"\)" expected at the end/],
    ['1 2', /cannot understand "2"/],
    ['$', /cannot understand/],
    ['$x99', /no register \$x99/],
    ['nobody', /nobody is not known here/],
    ['1 / 0', /division by zero/],
    ['*(u64*)0', /cannot read 8 bytes at 0x0/],
    ['Name + 1', /needs a number/],
    ['list[9]', /no element 9/],
    ['list[toString]', /toString is not known/],
    ['(u8', /expected/],
    ['`', /cannot understand/],
    ['('.repeat(500), /too deeply nested/],
    ['!'.repeat(500), /too deeply nested/],
  ];
  for (const [text, message] of cases)
    assert.throws(
      () => evaluateText(text, world()),
      (e) => e instanceof ExpressionError && message.test(e.message),
      text,
    );
});

test('assignment to registers and memory, at the width of the target', () => {
  const w = world();
  assert.equal(assign('$x0', evaluateText('-1', w), w).value, (1n << 64n) - 1n);
  assert.equal(assign('*(u16*)(buffer + 1)', evaluateText('0x12345', w), w).value, 0x2345n);
  assert.deepEqual([...w.memory.subarray(0, 4)], [0, 0x45, 0x23, 3]);
  assert.equal(assign('((u8*)buffer)[3]', evaluateText('9', w), w).value, 9n);
  for (const [text, message] of [
    ['$pc', /cannot be written/],
    ['$nope', /no register/],
    ['1 + 1', /not something that can be assigned/],
    ['*(u8*)0', /cannot write/],
    ['hv.X', /cannot be written/],
  ] as const)
    assert.throws(() => assign(text, evaluateText('1', w), w), message, text);
});

test('any text gives a tree or an ExpressionError', () => {
  const piece = fc.constantFrom(
    '1',
    '0x',
    '$x0',
    'a',
    '(',
    ')',
    '*',
    '&',
    '+',
    '<<',
    '>',
    '?',
    ':',
    '[',
    ']',
    '(u8*)',
    '"',
    "'",
    ' ',
    '.',
    '&&',
    'unsigned',
    '~',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (parts) => {
      try {
        parse(parts.join(''));
      } catch (e) {
        if (!(e instanceof ExpressionError)) throw e;
      }
    }),
    { numRuns: 2000, seed: 1 },
  );
});
