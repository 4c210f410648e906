import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Code, hasOpcode, type WasmType } from '../../emulator/cpu/wasm/encoder.ts';
import { ModuleWriter } from '../../emulator/cpu/wasm/module.ts';
import { wasmOp } from './evaluate.ts';

/**
 * The evaluator's pure operations against WebAssembly itself, on values at the edges: what holds for every operation that a
 * row may use, so that a difference between engines is never the oracle's.
 */

interface Operation {
  name: string;
  params: WasmType[];
  result: WasmType;
  imm?: number[];
}

const COMPARE = 'eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u';
const FCOMPARE = 'eq ne lt gt le ge';
const FLOAT2 = 'add sub mul div min max copysign';
const FLOAT1 = 'abs neg ceil floor trunc nearest sqrt';
const split = (names: string): string[] => names.trim().split(/\s+/);
const SHAPES: [string, WasmType, number][] = [
  ['i8x16', 'i32', 16],
  ['i16x8', 'i32', 8],
  ['i32x4', 'i32', 4],
  ['i64x2', 'i64', 2],
  ['f32x4', 'f32', 4],
  ['f64x2', 'f64', 2],
];

function operations(): Operation[] {
  const out: Operation[] = [];
  const add = (type: string, names: string, params: WasmType[], result: WasmType, imm?: number[]): void => {
    for (const n of split(names)) if (hasOpcode(`${type}.${n}`)) out.push({ name: `${type}.${n}`, params, result, imm });
  };
  for (const t of ['i32', 'i64'] as const) {
    add(t, 'add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr', [t, t], t);
    add(t, 'clz ctz popcnt extend8_s extend16_s extend32_s', [t], t);
    add(t, 'eqz', [t], 'i32');
    add(t, COMPARE, [t, t], 'i32');
    for (const f of ['f32', 'f64'] as const) add(t, `trunc_sat_${f}_s trunc_sat_${f}_u`, [f], t);
  }
  add('i64', 'extend_i32_s extend_i32_u', ['i32'], 'i64');
  add('i32', 'wrap_i64', ['i64'], 'i32');
  for (const t of ['f32', 'f64'] as const) {
    add(t, FLOAT2, [t, t], t);
    add(t, FLOAT1, [t], t);
    add(t, FCOMPARE, [t, t], 'i32');
    for (const i of ['i32', 'i64'] as const) add(t, `convert_${i}_s convert_${i}_u`, [i], t);
  }
  add('f32', 'demote_f64', ['f64'], 'f32');
  add('f64', 'promote_f32', ['f32'], 'f64');
  add('i32', 'reinterpret_f32', ['f32'], 'i32');
  add('i64', 'reinterpret_f64', ['f64'], 'i64');
  add('f32', 'reinterpret_i32', ['i32'], 'f32');
  add('f64', 'reinterpret_i64', ['i64'], 'f64');

  add('v128', 'and or xor andnot', ['v128', 'v128'], 'v128');
  add('v128', 'not', ['v128'], 'v128');
  add('v128', 'any_true', ['v128'], 'i32');
  add('v128', 'bitselect', ['v128', 'v128', 'v128'], 'v128');
  add('i8x16', 'swizzle', ['v128', 'v128'], 'v128');
  add('i8x16', 'shuffle', ['v128', 'v128'], 'v128', [0, 31, 1, 30, 2, 29, 3, 28, 15, 16, 14, 17, 8, 8, 24, 24]);
  for (const [shape, lane, count] of SHAPES) {
    add(shape, 'splat', [lane], 'v128');
    add(
      shape,
      `${FLOAT2} pmin pmax ${COMPARE} ${FCOMPARE} min_s min_u max_s max_u avgr_u q15mulr_sat_s dot_i16x8_s`,
      ['v128', 'v128'],
      'v128',
    );
    add(shape, 'add_sat_s add_sat_u sub_sat_s sub_sat_u', ['v128', 'v128'], 'v128');
    add(shape, `${FLOAT1} popcnt demote_f64x2_zero promote_low_f32x4`, ['v128'], 'v128');
    add(shape, 'trunc_sat_f32x4_s trunc_sat_f32x4_u trunc_sat_f64x2_s_zero trunc_sat_f64x2_u_zero', ['v128'], 'v128');
    add(shape, 'convert_i32x4_s convert_i32x4_u convert_low_i32x4_s convert_low_i32x4_u', ['v128'], 'v128');
    add(shape, 'all_true bitmask', ['v128'], 'i32');
    add(shape, 'shl shr_s shr_u', ['v128', 'i32'], 'v128');
    for (const at of [0, count - 1]) {
      add(shape, 'extract_lane extract_lane_s extract_lane_u', ['v128'], lane, [at]);
      add(shape, 'replace_lane', ['v128', lane], 'v128', [at]);
    }
    for (const from of ['i8x16', 'i16x8', 'i32x4'])
      for (const s of ['s', 'u']) {
        add(shape, `extend_low_${from}_${s} extend_high_${from}_${s} extadd_pairwise_${from}_${s}`, ['v128'], 'v128');
        add(shape, `extmul_low_${from}_${s} extmul_high_${from}_${s} narrow_${from}_${s}`, ['v128', 'v128'], 'v128');
      }
  }
  return out;
}

/** Values at which integer and floating-point operations change their behaviour; as lanes of 64 bits. */
const EDGES = [
  0x0000000000000000n,
  0x0000000000000001n,
  0xffffffffffffffffn,
  0x8000000000000000n,
  0x7fffffffffffffffn,
  0x8000000080000000n,
  0x7fffffff7fffffffn,
  0x00ff80017f80807fn,
  0x3ff0000000000000n,
  0xbfe0000000000000n,
  0x4330000000000001n,
  0x7ff0000000000000n,
  0xfff8000000000001n,
  0x43e0000000000000n,
  0x41dfffffffc00000n,
  0x3f8000003f000001n,
  0xbfc000004f000000n,
  0x7f800000ff800000n,
  0x0000000100000000n,
  0x000fffffffffffffn,
  0x5f000000df000001n,
  0x4020000000000000n,
  0x0123456789abcdefn,
  0x8000008000000001n,
  0xfffffffe00000021n,
];
const VECTORS = EDGES.map((v, i) => v | (EDGES[(7 * i + 3) % EDGES.length] << 64n));
const WIDTH = { i32: 32, i64: 64, f32: 32, f64: 64, v128: 128 } as const;

/** Widths of the lanes in which a result may be a NaN of any payload; 0: bits decide. */
function nanLanes(name: string): number {
  const [type, op] = name.split('.');
  if (!type.startsWith('f') || /^(abs|neg|copysign|reinterpret|splat|replace_lane|extract_lane|pmin|pmax)/.test(op)) return 0;
  return type.startsWith('f32') ? 32 : 64;
}
function withoutNaNs(v: bigint, name: string): bigint {
  const w = nanLanes(name);
  if (!w) return v;
  const [exponent, fraction, nan] =
    w === 32 ? [0xffn << 23n, (1n << 23n) - 1n, 0x7fc00000n] : [0x7ffn << 52n, (1n << 52n) - 1n, 0x7ff8000000000000n];
  let out = 0n;
  for (let at = 0n; at < 128n; at += BigInt(w)) {
    const lane = BigInt.asUintN(w, v >> at);
    out |= ((lane & exponent) === exponent && lane & fraction ? nan : lane) << at;
  }
  return out;
}

test('the evaluator computes what WebAssembly computes', () => {
  const memory = new WebAssembly.Memory({ initial: 1 });
  const view = new DataView(memory.buffer);
  const list = operations();
  assert.ok(list.length > 350, `${list.length} operations`);
  const module = new ModuleWriter();
  module.importMemory('e', 'memory');
  list.forEach((o, i) => {
    const code = new Code([], []);
    code.i32(64);
    o.params.forEach((t, k) => {
      code.i32(16 * k).mem(`${t}.load`);
    });
    code.op(o.name, o.imm).mem(`${o.result}.store`);
    module.func(code, String(i));
  });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.bytes()), { e: { memory } });

  const wrong: string[] = [];
  list.forEach((o, i) => {
    const f = exports[i] as () => void;
    for (let x = 0; x < VECTORS.length; x++)
      for (let y = 0; y < (o.params.length > 1 ? VECTORS.length : 1); y++) {
        const args = [VECTORS[x], VECTORS[y], VECTORS[(x + y) % VECTORS.length]].slice(0, o.params.length);
        args.forEach((v, k) => {
          view.setBigUint64(16 * k, BigInt.asUintN(64, v), true);
          view.setBigUint64(16 * k + 8, v >> 64n, true);
        });
        let want: bigint | undefined;
        try {
          view.setBigUint64(64, 0n, true);
          view.setBigUint64(72, 0n, true);
          f();
          want = BigInt.asUintN(WIDTH[o.result], view.getBigUint64(64, true) | (view.getBigUint64(72, true) << 64n));
        } catch {
          want = undefined;
        }
        let got: bigint | undefined;
        try {
          got = wasmOp(
            o.name,
            args.map((v, k) => BigInt.asUintN(WIDTH[o.params[k]], v)),
            o.imm,
          );
        } catch {
          got = undefined;
        }
        const same =
          want === undefined || got === undefined ? want === got : withoutNaNs(want, o.name) === withoutNaNs(got, o.name);
        if (!same)
          wrong.push(
            `${o.name}(${args.map((v) => v.toString(16))}) = ${want?.toString(16) ?? 'trap'}, evaluated ${got?.toString(16) ?? 'trap'}`,
          );
      }
  });
  assert.deepEqual(wrong.slice(0, 20), []);
});
