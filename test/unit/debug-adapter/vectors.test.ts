import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import zlib from 'node:zlib';
import { UsageError } from '../../../debug-adapter/cli/usage.ts';
import { runVectors } from '../../../debug-adapter/vectors.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-vectors-'));
after(() => fs.rmSync(folder, { recursive: true }));

const zeros = (n: number): string[] => Array(n).fill('0');
const HEADER = {
  format: 'a64vec-1',
  codeBase: '40001fe0',
  memBase: '40010ff0',
  memSize: 32,
  states: [{ x: zeros(31), sp: '40010ff0', nzcv: '0', fpcr: '0', fpsr: '0', v: zeros(32), mem: '00'.repeat(32) }],
};
const BASE = { lvl: 'v8.0', s: 0, i: {}, o: {} };

/** A file of these lines (objects become JSON) after the header. */
function file(name: string, lines: readonly unknown[], header: unknown = HEADER): string {
  const at = path.join(folder, name);
  const text = [header, ...lines].map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n');
  fs.writeFileSync(at, name.endsWith('.gz') ? zlib.gzipSync(text) : text);
  return at;
}

async function run(...files: string[]): Promise<{ status: number; lines: string[] }> {
  let text = '';
  const status = await runVectors(files, (t) => {
    text += t;
  });
  return { status, lines: text.split('\n') };
}

test('vectors that are right pass, from plain and packed files', async () => {
  const add = { ...BASE, id: 1, c: 'addsub-imm', code: '91000421', i: { x1: 'ffffffffffffffff' }, o: { x1: '0' } };
  const undefinedWord = { ...BASE, id: 2, c: 'udf', lvl: 'undef', code: 'd503201f 00000000', exc: 'undef', pc: '40001fe4' };
  // str x1, [sp, #12] over the page end
  const store = {
    ...BASE,
    id: 3,
    c: 'mem-unscaled',
    code: 'f800c3e1',
    i: { x1: '807060504030201' },
    m: [[12, '0102030405060708']],
  };
  assert.deepEqual(await run(file('a.jsonl', [add, undefinedWord]), file('b.jsonl.gz', ['', store])), {
    status: 0,
    lines: ['3 passed, 0 failed', ''],
  });
});

test('a failed vector shows its code and everything that differs', async () => {
  const wrong = [
    {
      ...BASE,
      id: 7,
      c: 'fp-dp2',
      code: '1e602800',
      i: { v0: '3ff0000000000000' },
      o: { v0: '4000000000000001', fpsr: '10', nzcv: '80000000' },
    },
    { ...BASE, id: 8, c: 'mem', code: 'd503201f 390003ff', i: { x3: '1' }, m: [[17, 'aa']], o: { x3: '2' } },
    { ...BASE, id: 9, c: 'udf', code: '91000421', exc: 'undef', pc: '40001fe0' },
    { ...BASE, id: 10, c: 'branch', code: '14000000' },
  ];
  const at = file('wrong.jsonl', wrong);
  const { status, lines } = await run(at);
  assert.equal(status, 1);
  assert.deepEqual(lines, [
    `#7 fp-dp2 (${at})`,
    '  40001fe0  1e602800  fadd d0, d0, d0',
    '  nzcv: expected 80000000, got 00000000',
    '  fpsr: expected 00000010, got 00000000',
    '  v0: expected 00000000000000004000000000000001, got 00000000000000004000000000000000',
    `#8 mem (${at})`,
    '  40001fe0  d503201f  nop',
    '  40001fe4  390003ff  strb wzr, [sp]',
    '  x3: expected 0000000000000002, got 0000000000000001',
    `  memory+0x010: expected 00aa${'00'.repeat(14)}, got ${'00'.repeat(16)}`,
    `#9 udf (${at})`,
    '  40001fe0  91000421  add x1, x1, #1',
    '  exception: expected undef, got none',
    '  pc: expected 40001fe0, got 40001fe4',
    '  x1: expected 0000000000000000, got 0000000000000001',
    `#10 branch (${at})`,
    '  40001fe0  14000000  b #0x40001fe0',
    '  exception: expected none, got too many instructions',
    '  pc: expected 40001fe4, got 40001fe0',
    '0 passed, 4 failed',
    '',
  ]);
});

test('extensions that this CPU has not got are listed, not passed', async () => {
  // irg x0, x1, xzr (MTE), and a word of a later extension without a name.
  const irg = { ...BASE, c: 'mte', lvl: 'max', feat: 'MTE', code: '9adf1020', o: { x0: '0' } };
  const mops = { ...BASE, id: 3, c: 'mops', lvl: 'max', code: '19c10440' };
  const add = { ...BASE, id: 4, c: 'addsub-imm', lvl: 'max', code: '91000421', o: { x1: '1' } };
  assert.deepEqual(await run(file('later.jsonl', [{ ...irg, id: 1 }, { ...irg, id: 2 }, mops, add])), {
    status: 0,
    lines: ['not in this CPU: MTE (2), mops (1)', '1 passed, 0 failed, 3 skipped', ''],
  });
});

test('an extension that the CPU model lists must execute', async () => {
  // 0 is no AES instruction.
  const { status, lines } = await run(file('aes.jsonl', [{ ...BASE, id: 1, c: 'aes', feat: 'AES', code: '00000000' }]));
  assert.deepEqual([status, lines.at(-2)], [1, '0 passed, 1 failed']);
});

test('a malformed file is refused with the line that is wrong', async () => {
  const add = { ...BASE, id: 1, c: 'addsub-imm', code: '91000421', o: { x1: '1' } };
  const refused: Record<string, string> = {};
  const cases: [string, unknown[], unknown?][] = [
    ['text.jsonl', [add, 'hello']],
    ['list.jsonl', [[]]],
    ['header.jsonl', [], { format: 'a64vec-2' }],
    ['overlap.jsonl', [], { ...HEADER, memBase: '40002000' }],
    ['kernel.jsonl', [], { ...HEADER, codeBase: 'ffff000000000000' }],
    ['big.jsonl', [], { ...HEADER, memSize: 1e9 }],
    ['short.jsonl', [], { ...HEADER, states: [{ ...HEADER.states[0], mem: '00' }] }],
    ['word.jsonl', [add, { ...add, code: '91000421 xyz' }]],
    ['state.jsonl', [{ ...add, s: 1 }]],
    ['register.jsonl', [{ ...add, o: { x31: '1' } }]],
    ['value.jsonl', [{ ...add, i: { nzcv: '100000000' } }]],
    ['memory.jsonl', [{ ...add, m: [[32, '00']] }]],
    ['exception.jsonl', [{ ...add, exc: 'page-fault', pc: '0' }]],
    ['empty.jsonl', [], ''],
  ];
  for (const [name, lines, header] of cases)
    await assert.rejects(run(file(name, lines, header)), (error) => {
      assert.ok(error instanceof UsageError);
      refused[name] = error.message.replace(folder, '');
      return true;
    });
  assert.deepEqual(refused, {
    'text.jsonl': '/text.jsonl, line 3: not JSON',
    'list.jsonl': '/list.jsonl, line 2: the line is not an object',
    'header.jsonl': '/header.jsonl, line 1: not an a64vec-1 header',
    'overlap.jsonl': '/overlap.jsonl, line 1: code and memory share a page',
    'kernel.jsonl': '/kernel.jsonl, line 1: codeBase or memBase is no user address',
    'big.jsonl': '/big.jsonl, line 1: memSize is not a number from 1 to 65536',
    'short.jsonl': '/short.jsonl, line 1: states[0].mem has 1 bytes, not 32',
    'word.jsonl': '/word.jsonl, line 3: code is not a hexadecimal number of 32 bits',
    'state.jsonl': '/state.jsonl, line 2: s is not a number from 0 to 0',
    'register.jsonl': '/register.jsonl, line 2: o: no register x31',
    'value.jsonl': '/value.jsonl, line 2: i.nzcv is not a hexadecimal number of 32 bits',
    'memory.jsonl': '/memory.jsonl, line 2: m is not a number from 0 to 31',
    'exception.jsonl': '/exception.jsonl, line 2: unknown exception page-fault',
    'empty.jsonl': '/empty.jsonl, line 1: no a64vec-1 header',
  });
});

test('a file that cannot be read or unpacked is refused by name', async () => {
  const missing = path.join(folder, 'missing.jsonl');
  await assert.rejects(run(missing), new UsageError(`cannot read ${missing}: ENOENT`));
  const cut = file('cut.jsonl.gz', []);
  fs.writeFileSync(cut, fs.readFileSync(cut).subarray(0, 40));
  await assert.rejects(run(cut), new UsageError(`cannot unpack ${cut}: unexpected end of file`));
});
