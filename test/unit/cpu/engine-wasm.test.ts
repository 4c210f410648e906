import assert from 'node:assert/strict';
import { test } from 'node:test';
import wabtFactory from 'wabt';
import { Bytes, Code, hasOpcode, OPCODE_NAMES } from '../../../emulator/cpu/wasm/encoder.ts';
import { ModuleWriter } from '../../../emulator/cpu/wasm/module.ts';

const hasLane = (name: string): boolean => name.includes('_lane');

test('every instruction has the opcode that wabt knows it by', async () => {
  const wabt = await wabtFactory();
  const wrong: string[] = [];
  for (const name of OPCODE_NAMES) {
    // Needs a data segment.
    if (name === 'memory.init') continue;
    const module = new ModuleWriter();
    module.importMemory('e', 'm');
    const code = new Code([], []);
    code.op('unreachable');
    if (name === 'v128.const') code.v128(5n);
    else if (name === 'i8x16.shuffle')
      code.op(
        name,
        Array.from({ length: 16 }, (_, i) => i),
      );
    else if (/^[^.]+\.(load|store)/.test(name)) {
      code.mem(name, 0, hasLane(name) ? 0 : undefined);
    } else if (name === 'memory.copy') code.op(name, [0, 0]);
    else if (name === 'memory.fill') code.op(name, [0]);
    else if (hasLane(name)) code.op(name, [0]);
    else code.op(name);
    code.op('unreachable');
    module.func(code, 'f');
    try {
      const parsed = wabt.readWasm(module.bytes(), { readDebugNames: false });
      const text = parsed.toText({});
      if (!new RegExp(`^\\s*${name.replaceAll('.', '\\.')}(\\s|$)`, 'm').test(text))
        wrong.push(`${name}: ${text.replace(/\s+/g, ' ')}`);
      parsed.destroy();
    } catch (e) {
      wrong.push(`${name}: ${e}`);
    }
  }
  assert.deepEqual(wrong, []);
  assert.ok(OPCODE_NAMES.length > 400);
  assert.ok(hasOpcode('i64.rotr') && !hasOpcode('i64.rotate'));
});

test('LEB128 of edge values is as long as it must be and no longer', () => {
  const bytes = (f: (out: Bytes) => void): string => {
    const out = new Bytes();
    f(out);
    return Buffer.from(out.bytes).toString('hex');
  };
  assert.deepEqual(
    [0, 127, 128, 0xffffffff].map((v) => bytes((o) => o.unsigned(v))),
    ['00', '7f', '8001', 'ffffffff0f'],
  );
  assert.deepEqual(
    [0, 63, 64, -64, -65, 0x7fffffff, -0x80000000].map((v) => bytes((o) => o.signed32(v))),
    ['00', '3f', 'c000', '40', 'bf7f', 'ffffffff07', '8080808078'],
  );
  assert.deepEqual(
    [-1n, 0xffffffffffffffffn, 1n << 63n, (1n << 63n) - 1n].map((v) => bytes((o) => o.signed64(v))),
    ['7f', '7f', '8080808080808080807f', 'ffffffffffffffffff00'],
  );
});

test('a module with imports, a table and blocks runs', () => {
  const table = new WebAssembly.Table({ element: 'anyfunc', initial: 4 });
  const memory = new WebAssembly.Memory({ initial: 1 });
  const seen: (number | bigint)[] = [];
  const module = new ModuleWriter();
  module.importMemory('e', 'memory');
  module.importTable('e', 'table');
  const note = module.importFunction('e', 'note', ['i64'], []);
  const double = new Code(['i32'], ['i32']);
  double.get(0).i32(1).op('i32.shl');
  const d = module.func(double);
  // Sums 1..n in a loop, notes it, and doubles it through the table.
  const sum = new Code(['i32'], ['i32']);
  const total = sum.local('i32');
  const out = sum.block();
  const again = sum.loop();
  sum.get(0).op('i32.eqz').brIf(out);
  sum.get(total).get(0).op('i32.add').set(total).get(0).i32(-1).op('i32.add').set(0).br(again);
  sum.end().end();
  sum.get(total).op('i64.extend_i32_u').call(note);
  sum
    .get(total)
    .i32(2)
    .callIndirect(module.type(['i32'], ['i32']));
  module.func(sum, 'sum');
  module.elements(2, [d]);
  const bytes = module.bytes();
  assert.ok(WebAssembly.validate(bytes));
  const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
    e: { memory, table, note: (v: bigint) => seen.push(v) },
  });
  assert.equal((instance.exports.sum as (n: number) => number)(10), 110);
  assert.deepEqual(seen, [55n]);
});
