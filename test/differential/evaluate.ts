/**
 * The third engine: evaluates the recorded `Ir` of an instruction with bigints, one node at a time, on a `VpState` and a
 * few plain byte arrays. Slow, independent of the code generators, and kept as their oracle. It also checks what the builder
 * asks of semantics: one memory check per path, and no change of state before it.
 *
 * Every value is an unsigned bigint of its type's width; f32 and f64 are their bit patterns. Where WebAssembly leaves a NaN's
 * bits open (Core specification 4.3.3, "NaN propagation") the result is the positive canonical NaN, so that semantics which lean
 * on one host's choice fail here.
 */
import { Builder, type Ir, type MemOptions, type Node, type Ty } from '../../emulator/cpu/builder.ts';
import type { Feature } from '../../emulator/cpu/features.ts';
import { HELPERS } from '../../emulator/cpu/helpers.ts';
import { type Insn, type Raw, rawFields } from '../../emulator/cpu/insn.ts';
import { VP, type VpState } from '../../emulator/cpu/vp-state.ts';

const WIDTH: Readonly<Record<Ty, number>> = { i32: 32, i64: 64, f32: 32, f64: 64, v128: 128 };
const cut = (v: bigint, width: number): bigint => BigInt.asUintN(width, v);
const signed = (v: bigint, width: number): bigint => BigInt.asIntN(width, v);
const bool = (v: boolean): bigint => (v ? 1n : 0n);

// --- floating point on bit patterns ------------------------------------------------------------------------------

const scratch = new DataView(new ArrayBuffer(8));
function toFloat(v: bigint, width: number): number {
  scratch.setBigUint64(0, v, true);
  return width === 32 ? scratch.getFloat32(0, true) : scratch.getFloat64(0, true);
}
function fromFloat(v: number, width: number): bigint {
  if (Number.isNaN(v)) return width === 32 ? 0x7fc00000n : 0x7ff8000000000000n;
  scratch.setBigUint64(0, 0n, true);
  if (width === 32) scratch.setFloat32(0, v, true);
  else scratch.setFloat64(0, v, true);
  return scratch.getBigUint64(0, true);
}

function nearest(v: number): number {
  if (!Number.isFinite(v) || Math.abs(v) >= 2 ** 52) return v;
  const down = Math.floor(v);
  const rest = v - down;
  const r = rest < 0.5 || (rest === 0.5 && down % 2 === 0) ? down : down + 1;
  return r === 0 && (v < 0 || Object.is(v, -0)) ? -0 : r;
}
const minimum = (a: number, c: number): number => (Number.isNaN(a) || Number.isNaN(c) ? Number.NaN : Math.min(a, c));
const maximum = (a: number, c: number): number => (Number.isNaN(a) || Number.isNaN(c) ? Number.NaN : Math.max(a, c));

const FLOAT_UNARY: Readonly<Record<string, (a: number) => number>> = {
  ceil: Math.ceil,
  floor: Math.floor,
  trunc: Math.trunc,
  nearest,
  sqrt: Math.sqrt,
};
const FLOAT_BINARY: Readonly<Record<string, (a: number, c: number) => number>> = {
  add: (a, c) => a + c,
  sub: (a, c) => a - c,
  mul: (a, c) => a * c,
  div: (a, c) => a / c,
  min: minimum,
  max: maximum,
};
const FLOAT_COMPARE: Readonly<Record<string, (a: number, c: number) => boolean>> = {
  eq: (a, c) => a === c,
  ne: (a, c) => a !== c,
  lt: (a, c) => a < c,
  gt: (a, c) => a > c,
  le: (a, c) => a <= c,
  ge: (a, c) => a >= c,
};

/** One lane (or a scalar) of a floating-point operation; undefined when the name is none. */
function floatOp(name: string, w: number, a: bigint, c = 0n): bigint | undefined {
  const sign = 1n << BigInt(w - 1);
  if (name === 'abs') return a & (sign - 1n);
  if (name === 'neg') return a ^ sign;
  if (name === 'copysign') return (a & (sign - 1n)) | (c & sign);
  if (name === 'pmin') return toFloat(c, w) < toFloat(a, w) ? c : a;
  if (name === 'pmax') return toFloat(a, w) < toFloat(c, w) ? c : a;
  if (FLOAT_UNARY[name]) return fromFloat(FLOAT_UNARY[name](toFloat(a, w)), w);
  if (FLOAT_BINARY[name]) return fromFloat(FLOAT_BINARY[name](toFloat(a, w), toFloat(c, w)), w);
  if (FLOAT_COMPARE[name]) return bool(FLOAT_COMPARE[name](toFloat(a, w), toFloat(c, w)));
  return undefined;
}

/** Float to integer, saturating; with `trap`, undefined out of range. */
function truncate(v: number, width: number, isSigned: boolean, trap: boolean): bigint | undefined {
  if (Number.isNaN(v)) return trap ? undefined : 0n;
  const lo = isSigned ? -(1n << BigInt(width - 1)) : 0n;
  const hi = (1n << BigInt(isSigned ? width - 1 : width)) - 1n;
  const t = Number.isFinite(v) ? BigInt(Math.trunc(v)) : v > 0 ? hi + 1n : lo - 1n;
  if (trap && (t < lo || t > hi)) return undefined;
  return cut(t < lo ? lo : t > hi ? hi : t, width);
}
/** Integer to float, rounded once: Number(bigint) rounds to double, which is not what f32 of a large i64 needs. */
function convert(v: bigint, to: number): bigint {
  if (to === 64) return fromFloat(Number(v), 64);
  const magnitude = v < 0n ? -v : v;
  const excess = Math.max(0, magnitude.toString(2).length - 40);
  const sticky = excess > 0 && (magnitude & ((1n << BigInt(excess)) - 1n)) !== 0n ? 1n : 0n;
  const rounded = Math.fround(Number((magnitude >> BigInt(excess)) | sticky)) * 2 ** excess;
  return fromFloat(v < 0n ? -rounded : rounded, 32);
}

// --- integers ------------------------------------------------------------------------------------------------------

// Not Math.min: these are bigints.
function lesser(a: bigint, c: bigint): bigint {
  return a < c ? a : c;
}
const INT_BINARY: Readonly<Record<string, (a: bigint, c: bigint, w: number) => bigint>> = {
  add: (a, c) => a + c,
  sub: (a, c) => a - c,
  mul: (a, c) => a * c,
  and: (a, c) => a & c,
  or: (a, c) => a | c,
  xor: (a, c) => a ^ c,
  shl: (a, c, w) => a << (c % BigInt(w)),
  shr_u: (a, c, w) => a >> (c % BigInt(w)),
  shr_s: (a, c, w) => signed(a, w) >> (c % BigInt(w)),
  rotl: (a, c, w) => (a << (c % BigInt(w))) | (a >> (BigInt(w) - (c % BigInt(w)))),
  rotr: (a, c, w) => (a >> (c % BigInt(w))) | (a << (BigInt(w) - (c % BigInt(w)))),
  min_s: (a, c, w) => (signed(a, w) < signed(c, w) ? a : c),
  min_u: lesser,
  max_s: (a, c, w) => (signed(a, w) > signed(c, w) ? a : c),
  max_u: (a, c) => (lesser(a, c) === a ? c : a),
  avgr_u: (a, c) => (a + c + 1n) >> 1n,
  add_sat_s: (a, c, w) => saturate(signed(a, w) + signed(c, w), w, true),
  add_sat_u: (a, c, w) => saturate(a + c, w, false),
  sub_sat_s: (a, c, w) => saturate(signed(a, w) - signed(c, w), w, true),
  sub_sat_u: (a, c, w) => saturate(a - c, w, false),
  q15mulr_sat_s: (a, c, w) => saturate((signed(a, w) * signed(c, w) + 0x4000n) >> 15n, w, true),
};
const INT_COMPARE: Readonly<Record<string, (a: bigint, c: bigint) => boolean>> = {
  eq: (a, c) => a === c,
  ne: (a, c) => a !== c,
  lt: (a, c) => a < c,
  gt: (a, c) => a > c,
  le: (a, c) => a <= c,
  ge: (a, c) => a >= c,
};
function saturate(v: bigint, width: number, isSigned: boolean): bigint {
  const lo = isSigned ? -(1n << BigInt(width - 1)) : 0n;
  const hi = (1n << BigInt(isSigned ? width - 1 : width)) - 1n;
  return v < lo ? lo : v > hi ? hi : v;
}
const popcount = (v: bigint): bigint => BigInt(v.toString(2).replaceAll('0', '').length);

function intUnary(name: string, w: number, a: bigint): bigint | undefined {
  switch (name) {
    case 'eqz':
      return bool(a === 0n);
    case 'clz':
      return BigInt(a === 0n ? w : w - a.toString(2).length);
    case 'ctz':
      return a === 0n ? BigInt(w) : BigInt((a & -a).toString(2).length - 1);
    case 'popcnt':
      return popcount(a);
    case 'neg':
      return cut(-a, w);
    case 'abs':
      return cut(signed(a, w) < 0n ? -a : a, w);
    case 'extend8_s':
      return cut(signed(a, 8), w);
    case 'extend16_s':
      return cut(signed(a, 16), w);
    case 'extend32_s':
      return cut(signed(a, 32), w);
  }
  return undefined;
}
function intCompare(name: string, w: number, a: bigint, c: bigint): bigint | undefined {
  const m = /^(eq|ne|lt|gt|le|ge)(?:_([su]))?$/.exec(name);
  if (!m) return undefined;
  return bool(m[2] === 's' ? INT_COMPARE[m[1]](signed(a, w), signed(c, w)) : INT_COMPARE[m[1]](a, c));
}

function scalarInt(name: string, w: number, args: readonly bigint[]): bigint | undefined {
  const [a, c] = args;
  if (args.length === 1) {
    if (name === 'wrap_i64') return cut(a, 32);
    if (name === 'extend_i32_u') return a;
    if (name === 'extend_i32_s') return cut(signed(a, 32), 64);
    if (/^reinterpret/.test(name)) return a;
    const t = /^trunc_(sat_)?f(32|64)_([su])$/.exec(name);
    if (t) return truncate(toFloat(a, Number(t[2])), w, t[3] === 's', !t[1]);
    return intUnary(name, w, a);
  }
  const division = /^(div|rem)_([su])$/.exec(name);
  if (division) {
    const [n, m] = division[2] === 's' ? [signed(a, w), signed(c, w)] : [a, c];
    if (m === 0n || (division[1] === 'div' && m === -1n && n === -(1n << BigInt(w - 1)))) return undefined; // traps
    return cut(division[1] === 'div' ? n / m : n % m, w);
  }
  return INT_BINARY[name] ? cut(INT_BINARY[name](a, c, w), w) : intCompare(name, w, a, c);
}

function scalarFloat(name: string, w: number, args: readonly bigint[]): bigint | undefined {
  const [a, c] = args;
  const t = /^convert_i(32|64)_([su])$/.exec(name);
  if (t) return convert(t[2] === 's' ? signed(a, Number(t[1])) : a, w);
  if (/^reinterpret/.test(name)) return a;
  if (name === 'demote_f64') return fromFloat(toFloat(a, 64), 32);
  if (name === 'promote_f32') return fromFloat(toFloat(a, 32), 64);
  return floatOp(name, w, a, c);
}

// --- vectors -------------------------------------------------------------------------------------------------------

const lanes = (v: bigint, w: number): bigint[] => Array.from({ length: 128 / w }, (_, i) => cut(v >> BigInt(i * w), w));
const join = (v: readonly bigint[], w: number): bigint => v.reduce((r, lane, i) => r | (cut(lane, w) << BigInt(i * w)), 0n);
const bytesOf = (v: bigint): bigint[] => lanes(v, 8);

function vectorWhole(name: string, [a, c, d]: readonly bigint[]): bigint | undefined {
  switch (name) {
    case 'and':
      return a & c;
    case 'or':
      return a | c;
    case 'xor':
      return a ^ c;
    case 'not':
      return cut(~a, 128);
    case 'andnot':
      return a & cut(~c, 128);
    case 'bitselect':
      return (a & d) | (c & cut(~d, 128));
    case 'any_true':
      return bool(a !== 0n);
  }
  return undefined;
}

function vectorOp(
  isFloat: boolean,
  w: number,
  name: string,
  args: readonly bigint[],
  imm: readonly number[],
): bigint | undefined {
  const [a, c] = args;
  const n = 128 / w;
  const all = (1n << BigInt(w)) - 1n;
  if (name === 'splat') return join(Array(n).fill(a), w);
  if (name === 'replace_lane')
    return join(
      lanes(a, w).map((v, i) => (i === imm[0] ? c : v)),
      w,
    );
  if (/^extract_lane/.test(name)) {
    const v = lanes(a, w)[imm[0]];
    return name.endsWith('_s') ? cut(signed(v, w), 32) : v;
  }
  if (name === 'shuffle') {
    const both = [...bytesOf(a), ...bytesOf(c)];
    return join(
      imm.map((i) => both[i]),
      8,
    );
  }
  if (name === 'swizzle')
    return join(
      bytesOf(c).map((i) => (i < 16n ? bytesOf(a)[Number(i)] : 0n)),
      8,
    );
  if (name === 'all_true') return bool(lanes(a, w).every((v) => v !== 0n));
  if (name === 'bitmask') return lanes(a, w).reduce((r, v, i) => r | ((v >> BigInt(w - 1)) << BigInt(i)), 0n);
  if (/^sh[lr]/.test(name))
    return join(
      lanes(a, w).map((v) => INT_BINARY[name](v, c, w)),
      w,
    );

  // Lanes of another width
  const narrow = /^narrow_i\d+x\d+_([su])$/.exec(name);
  if (narrow)
    return join(
      [...lanes(a, 2 * w), ...lanes(c, 2 * w)].map((v) => saturate(signed(v, 2 * w), w, narrow[1] === 's')),
      w,
    );
  const half = (v: bigint, high: boolean, isSigned: boolean): bigint[] =>
    lanes(v, w / 2)
      .slice(high ? n : 0, high ? 2 * n : n)
      .map((x) => (isSigned ? signed(x, w / 2) : x));
  const widen = /^(extend|extmul)_(low|high)_i\d+x\d+_([su])$/.exec(name);
  if (widen) {
    const x = half(a, widen[2] === 'high', widen[3] === 's');
    const y = widen[1] === 'extmul' ? half(c, widen[2] === 'high', widen[3] === 's') : undefined;
    return join(
      x.map((v, i) => (y ? v * y[i] : v)),
      w,
    );
  }
  const pairs = (v: bigint, isSigned: boolean): bigint[] => lanes(v, w / 2).map((x) => (isSigned ? signed(x, w / 2) : x));
  const pairwise = /^extadd_pairwise_i\d+x\d+_([su])$/.exec(name);
  if (pairwise) {
    const x = pairs(a, pairwise[1] === 's');
    return join(
      Array.from({ length: n }, (_, i) => x[2 * i] + x[2 * i + 1]),
      w,
    );
  }
  if (name === 'dot_i16x8_s') {
    const [x, y] = [pairs(a, true), pairs(c, true)];
    return join(
      Array.from({ length: n }, (_, i) => x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1]),
      w,
    );
  }
  // Conversions
  const trunc = /^trunc_sat_f(32x4|64x2)_([su])(_zero)?$/.exec(name);
  if (trunc) {
    const from = trunc[1] === '32x4' ? 32 : 64;
    return join(
      lanes(a, from).map((v) => truncate(toFloat(v, from), 32, trunc[2] === 's', false)!),
      32,
    );
  }
  const fromInt = /^convert_(low_)?i32x4_([su])$/.exec(name);
  if (fromInt)
    return join(
      lanes(a, 32)
        .slice(0, n)
        .map((v) => convert(fromInt[2] === 's' ? signed(v, 32) : v, w)),
      w,
    );
  if (name === 'demote_f64x2_zero')
    return join(
      lanes(a, 64).map((v) => fromFloat(toFloat(v, 64), 32)),
      32,
    );
  if (name === 'promote_low_f32x4')
    return join(
      lanes(a, 32)
        .slice(0, 2)
        .map((v) => fromFloat(toFloat(v, 32), 64)),
      64,
    );

  // Lane by lane
  const x = lanes(a, w);
  const y = args.length > 1 ? lanes(c, w) : [];
  const one = (i: number): bigint | undefined => {
    if (isFloat) {
      const r = floatOp(name, w, x[i], y[i]);
      return r !== undefined && FLOAT_COMPARE[name] ? (r ? all : 0n) : r;
    }
    if (args.length === 1) return intUnary(name, w, x[i]);
    const r = intCompare(name, w, x[i], y[i]);
    return r === undefined ? INT_BINARY[name]?.(x[i], y[i], w) : r ? all : 0n;
  };
  const out = x.map((_, i) => one(i));
  return out.every((v) => v !== undefined) ? join(out as bigint[], w) : undefined;
}

/** A pure WebAssembly instruction by its name. Throws for a name it does not know and where WebAssembly traps. */
export function wasmOp(name: string, args: readonly bigint[], imm: readonly number[] = []): bigint {
  const [ty, op] = name.split('.') as [string, string];
  const shape = /^([if])(\d+)x\d+$/.exec(ty);
  let r: bigint | undefined;
  if (shape) r = vectorOp(shape[1] === 'f', Number(shape[2]), op, args, imm);
  else if (ty === 'v128') r = vectorWhole(op, args);
  else if (ty === 'f32' || ty === 'f64') r = scalarFloat(op, WIDTH[ty], args);
  else r = scalarInt(op, WIDTH[ty as Ty], args);
  if (r === undefined) throw new Error(`${name}(${args.map((a) => a.toString(16)).join(', ')}): unknown, or traps`);
  return r;
}

// --- memory --------------------------------------------------------------------------------------------------------

export interface Region {
  readonly base: bigint;
  readonly bytes: Uint8Array;
}

/** Bytes by virtual address; EL0's view with TBI, as the vectors assume. */
export class EvalMemory {
  readonly #regions: readonly Region[];
  constructor(regions: readonly Region[]) {
    this.#regions = regions;
  }
  /** An opaque place for [address, address + size), or undefined when it is not mapped or misaligned. */
  check(address: bigint, size: number, options: MemOptions): number | undefined {
    const va = cut(address, 56);
    // FEAT_LSE2: what is within 16 bytes need not be aligned.
    if (options.align && va % BigInt(options.align) !== 0n && (va % 16n) + BigInt(size) > 16n) return undefined;
    for (const [i, r] of this.#regions.entries()) {
      const at = va - r.base;
      if (at >= 0n && at + BigInt(size) <= BigInt(r.bytes.length)) return (i << 24) | Number(at);
    }
    return undefined;
  }
  read(place: number, size: number): bigint {
    const { bytes } = this.#regions[place >>> 24];
    let v = 0n;
    for (let i = size - 1; i >= 0; i--) v = (v << 8n) | BigInt(bytes[(place & 0xffffff) + i]);
    return v;
  }
  write(place: number, size: number, v: bigint): void {
    const { bytes } = this.#regions[place >>> 24];
    for (let i = 0; i < size; i++) bytes[(place & 0xffffff) + i] = Number((v >> BigInt(8 * i)) & 0xffn);
  }
}

/** Bytes that a wasm load or store moves. */
function accessSize(name: string): number {
  const [ty, op] = name.split('.') as [Ty, string];
  const m = /^(?:load|store)(\d+)?(?:x(\d+))?/.exec(op)!;
  if (m[2]) return 8; // v128.load8x8_s and friends
  return (m[1] ? Number(m[1]) : WIDTH[ty]) / 8;
}
function loadValue(name: string, raw: bigint): bigint {
  const [ty, op] = name.split('.') as [Ty, string];
  const size = accessSize(name) * 8;
  const extend = /^load(\d+)x\d+_([su])$/.exec(op);
  if (extend) return vectorOp(false, 2 * Number(extend[1]), `extend_low_i${extend[1]}x0_${extend[2]}`, [raw], [])!;
  if (op.endsWith('_splat')) return join(Array(128 / size).fill(raw), size);
  return op.endsWith('_s') ? cut(signed(raw, size), WIDTH[ty]) : raw;
}

// --- evaluation ----------------------------------------------------------------------------------------------------

export type Outcome =
  | { readonly kind: 'next' }
  | { readonly kind: 'jump'; readonly pc: bigint }
  | { readonly kind: 'exit'; readonly exit: string }
  | { readonly kind: 'fault'; readonly address: bigint };

function addFlags(kind: string, a: bigint, c: bigint, w: number): number {
  const wide = kind === 'sub' ? a + cut(~c, w) + 1n : a + c;
  const r = cut(wide, w);
  const exact = kind === 'sub' ? signed(a, w) - signed(c, w) : signed(a, w) + signed(c, w);
  const n = Number(r >> BigInt(w - 1));
  return (
    ((n << 31) | (r === 0n ? 1 << 30 : 0) | (Number(wide >> BigInt(w)) << 29) | (signed(r, w) === exact ? 0 : 1 << 28)) >>> 0
  );
}

/** ConditionHolds (Arm ARM J1.3.5). */
function conditionHolds(cond: number, nzcv: number): boolean {
  const [n, z, c, v] = [31, 30, 29, 28].map((bit) => ((nzcv >>> bit) & 1) === 1);
  const base = [z, c, n, v, c && !z, n === v, n === v && !z, true][cond >>> 1];
  return cond & 1 && cond !== 15 ? !base : base;
}

const CHANGES = new Set(['writeX', 'writeV', 'setCell', 'flags', 'setNZCV', 'store', 'call']);

/** Executes one instruction's `ir` with the raw fields `raw` at vp.pc. Leaves vp.pc alone: the outcome says where to go. */
export function evaluate(ir: Ir, raw: Raw, vp: VpState, memory: EvalMemory): Outcome {
  const { nodes } = ir;
  const values: bigint[] = [];
  const broken = (what: string): never => {
    throw new Error(`${ir.insn.name} ${JSON.stringify(raw)}: ${what}`);
  };
  const derived = (n: Node): bigint => BigInt(n.derive ? n.derive(raw) : (n.value ?? 0));
  /** Index of the matching `else` (if wanted) or `end`. */
  const skip = (from: number, toElse: boolean): number => {
    let depth = 0;
    for (let i = from + 1; i < nodes.length; i++) {
      const { op } = nodes[i];
      if (op === 'if') depth++;
      else if (op === 'end' && depth-- === 0) return i;
      else if (op === 'else' && depth === 0 && toElse) return i;
    }
    return broken('if without end');
  };
  let checked = false;
  let changed = false;
  for (let i = 0; i < nodes.length; i++) {
    const n = nodes[i];
    const args = n.args.map((a) => values[a] ?? broken(`node ${i} uses ${a}, which has no value`));
    const w = n.t === 'void' ? 0 : WIDTH[n.t];
    const argWidth = n.args.length > 0 ? WIDTH[nodes[n.args[0]].t as Ty] : 0;
    if (CHANGES.has(n.op)) changed = true;
    switch (n.op) {
      case 'const':
      case 'imm':
        values[i] = cut(derived(n), w);
        break;
      case 'select':
        values[i] = args[2] !== 0n ? args[0] : args[1];
        break;
      case 'readX': {
        const r = n.field === undefined ? n.index! : raw[n.field];
        values[i] = cut(r === 31 && n.sp ? vp.sp : vp.x(r), w);
        break;
      }
      case 'writeX': {
        const r = n.field === undefined ? n.index! : raw[n.field];
        if (r === 31 && n.sp) vp.sp = args[0];
        else vp.setX(r, args[0]);
        break;
      }
      case 'readV':
        values[i] = vp.v((raw[n.field!] + n.index!) % 32);
        break;
      case 'writeV':
        vp.setV((raw[n.field!] + n.index!) % 32, args[0]);
        break;
      case 'cell':
        values[i] = w === 32 ? BigInt(vp.u32(Number(derived(n)))) : vp.u64(Number(derived(n)));
        break;
      case 'setCell':
        if (argWidth === 32) vp.setU32(Number(derived(n)), Number(args[0]));
        else vp.setU64(Number(derived(n)), args[0]);
        break;
      case 'pc':
        values[i] = vp.pc;
        break;
      case 'flags':
        vp.nzcv = addFlags(n.kind!, args[0], args[1], argWidth);
        break;
      case 'setNZCV':
        vp.nzcv = Number(args[0] & 0xf0000000n);
        break;
      case 'nzcv':
        values[i] = BigInt(vp.nzcv >>> 0);
        break;
      case 'cond':
        values[i] = bool(conditionHolds(Number(n.value), vp.nzcv));
        break;
      case 'carry':
        values[i] = BigInt((vp.nzcv >>> 29) & 1);
        break;
      case 'mem': {
        if (checked) broken('two memory checks on one path');
        if (changed) broken('state changed before the memory check');
        checked = true;
        const place = memory.check(args[0], n.size!, n.mem ?? {});
        if (place === undefined) return { kind: 'fault', address: args[0] };
        values[i] = BigInt(place);
        break;
      }
      case 'load':
        values[i] = loadValue(n.name!, memory.read(Number(args[0]) + Number(n.value), accessSize(n.name!)));
        break;
      case 'store':
        memory.write(Number(args[0]) + Number(n.value), accessSize(n.name!), args[1]);
        break;
      case 'branch':
        return { kind: 'jump', pc: cut(vp.pc + derived(n), 64) };
      case 'jump':
        return { kind: 'jump', pc: args[0] };
      case 'exit':
        return { kind: 'exit', exit: n.kind! };
      case 'call':
        values[i] = callHelper(n, args, vp);
        break;
      case 'if':
        if (args[0] === 0n) i = skip(i, true);
        break;
      case 'else':
        i = skip(i, false);
        break;
      case 'end':
        break;
      default:
        values[i] = wasmOp(n.op, args, n.imm);
    }
  }
  return { kind: 'next' };
}

function callHelper(n: Node, args: readonly bigint[], vp: VpState): bigint {
  const helper = HELPERS[n.name!];
  if (!helper) throw new Error(`no helper ${n.name}`);
  const toJs = (v: bigint, t: Ty): number | bigint =>
    t === 'i64' ? signed(v, 64) : t === 'i32' ? Number(signed(v, 32)) : toFloat(v, WIDTH[t]);
  const fp = {
    get fpcr() {
      return vp.u32(VP.FPCR);
    },
    get fpsr() {
      return vp.u32(VP.FPSR);
    },
    set fpsr(v: number) {
      vp.setU32(VP.FPSR, v);
    },
  };
  const r = helper.fn(fp, ...args.map((v, i) => toJs(v, helper.params[i])));
  if (helper.result === 'f32' || helper.result === 'f64') return fromFloat(Number(r), WIDTH[helper.result]);
  return cut(BigInt(r), WIDTH[helper.result]);
}

// --- decoding by linear search -------------------------------------------------------------------------------------

export interface Decoded {
  readonly raw: Raw;
  readonly ir: Ir;
}

/** Decodes by trying every row; caches by word, and `Ir`s by row and static fields. */
export class Decoder {
  readonly #rows: readonly Insn[];
  readonly #words = new Map<number, Decoded | undefined>();
  readonly #irs = new Map<string, Ir>();

  constructor(rows: readonly Insn[], features: ReadonlySet<Feature>) {
    this.#rows = rows.filter((r) => !r.options.feat || features.has(r.options.feat));
  }

  /** Undefined: UNDEFINED. */
  decode(word: number): Decoded | undefined {
    if (!this.#words.has(word)) this.#words.set(word, this.#decode(word));
    return this.#words.get(word);
  }

  #decode(word: number): Decoded | undefined {
    const matches = this.#rows.filter((r) => (word & r.mask) >>> 0 === r.value && (r.options.when?.(rawFields(r, word)) ?? true));
    // A row whose fixed bits include all of another's is a special case of it.
    const row = matches.find((r) => matches.every((other) => (other.mask & ~r.mask) === 0));
    if (!row && matches.length > 0) throw new Error(`${word.toString(16)} is ${matches.map((r) => r.name).join(' and ')}`);
    if (!row) return undefined;
    const raw = rawFields(row, word);
    const statics: Record<string, number> = {};
    for (const f of row.fields) if (f.isStatic) statics[f.name] = raw[f.name];
    for (const k of Object.keys(row.options.pick ?? {})) statics[k] = raw[k];
    const key = `${row.name} ${JSON.stringify(statics)}`;
    const ir = this.#irs.get(key) ?? Builder.record(row, statics);
    this.#irs.set(key, ir);
    return { raw, ir };
  }
}
