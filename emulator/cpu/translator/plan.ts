/**
 * An instruction word as the translator sees it: the nodes of its semantics with every operand resolved to a constant, and
 * what they read, write and may leave for. Plans depend on the word alone and are kept.
 */
import { landingBits } from '../branch-targets.ts';
import { Builder, type Ir, type Node, type Ty } from '../builder.ts';
import type { Decoded } from '../decoder.ts';
import type { Insn, Raw } from '../insn.ts';
import { mayMisalignSp } from '../sp-alignment.ts';
import { VP } from '../vp-state.ts';
import { type FlagKind, KIND } from './flags.ts';

/** Register number of SP in plans; 0..30 are X0..X30. XZR is gone: a constant when read, nothing when written. */
export const SP = 31;

/** How an instruction ends: with the next one, a branch, a branch or the next, a jump to a register's value, or not here at all. */
export type Ending = 'next' | 'branch' | 'branch-if' | 'jump' | 'interpret';

export interface Plan {
  readonly name: string;
  /** Arguments are indices into this list. `field` and `derive` are resolved into `index` and `value`. */
  readonly nodes: readonly Node[];
  /** How many nodes use each node. */
  readonly uses: Uint8Array;
  readonly ending: Ending;
  /** Of branches: distance in bytes. */
  readonly distance: number;
  /** Branch or jump that sets the link register. */
  readonly isCall: boolean;
  /** Registers read, written, and certainly written, as bits by number (X and SP, V). */
  readonly readX: number;
  readonly writeX: number;
  readonly killX: number;
  readonly readV: number;
  readonly writeV: number;
  readonly killV: number;
  readonly readsFlags: boolean;
  /** Kind of the flags afterwards; undefined: they are not written. */
  readonly flags: FlagKind | undefined;
  /** Uses FP/SIMD registers, which may be trapped. */
  readonly fp: boolean;
  /** May go back to the interpreter before it has changed anything. */
  readonly mayLeave: boolean;
  /** Bits of `LANDING` that let a jump land here in a guarded page. */
  readonly landing: number;
}

const IDENTITY_RIGHT = new Set(['add', 'sub', 'or', 'xor', 'shl', 'shr_u', 'shr_s', 'rotr']);
const IDENTITY_LEFT = new Set(['add', 'or', 'xor']);

const mask32 = (v: bigint): bigint => BigInt.asIntN(32, v);
const mask64 = (v: bigint): bigint => BigInt.asIntN(64, v);

/** Constant operations that occur once operands are constants. */
function fold(op: string, a: bigint, b: bigint): bigint | undefined {
  const is64 = op.startsWith('i64');
  const width = is64 ? 64n : 32n;
  const cut = is64 ? mask64 : mask32;
  const n = BigInt.asUintN(64, b) % width;
  switch (op.slice(4)) {
    case 'add':
      return cut(a + b);
    case 'sub':
      return cut(a - b);
    case 'and':
      return cut(a & b);
    case 'or':
      return cut(a | b);
    case 'xor':
      return cut(a ^ b);
    case 'shl':
      return cut(a << n);
    case 'shr_u':
      return cut(BigInt.asUintN(Number(width), a) >> n);
    case 'shr_s':
      return cut(a >> n);
    default:
      return undefined;
  }
}

/** The semantics' nodes with operands resolved and constants folded. */
function resolve(ir: Ir, raw: Raw): Node[] {
  const out: Node[] = [];
  /** New index of each node. */
  const at: number[] = [];
  const add = (n: Partial<Node> & { op: string; t: Ty | 'void'; args: readonly number[] }): number => {
    out.push({ ...n, id: out.length });
    return out.length - 1;
  };
  const constant = (t: Ty, v: bigint): number =>
    add({ op: 'const', t, args: [], value: t === 'i32' ? Number(mask32(v)) : t === 'i64' ? mask64(v) : v });
  const constantOf = (id: number): bigint | undefined => {
    const n = out[id];
    return n.op === 'const' && n.t !== 'v128' ? BigInt(n.value as number | bigint) : undefined;
  };
  const simplified = (n: Node, args: readonly number[]): number | undefined => {
    if (n.op === 'i32.wrap_i64' || n.op === 'i64.extend_i32_u' || n.op === 'i64.extend_i32_s') {
      const v = constantOf(args[0]);
      if (v === undefined) return undefined;
      return constant(n.t as Ty, n.op === 'i64.extend_i32_u' ? BigInt.asUintN(32, v) : v);
    }
    if (args.length !== 2 || (n.t !== 'i32' && n.t !== 'i64')) return undefined;
    const a = constantOf(args[0]);
    const b = constantOf(args[1]);
    const name = n.op.slice(4);
    if (a !== undefined && b !== undefined) {
      const v = fold(n.op, a, b);
      return v === undefined ? undefined : constant(n.t, v);
    }
    if (b === 0n && IDENTITY_RIGHT.has(name)) return args[0];
    if (a === 0n && IDENTITY_LEFT.has(name)) return args[1];
    if (name === 'and' && b === -1n) return args[0];
    if (name === 'and' && (a === 0n || b === 0n)) return constant(n.t, 0n);
    // An inverted condition.
    const left = out[args[0]];
    if (n.op === 'i32.xor' && b === 1n && left.op === 'cond') return add({ ...left, value: Number(left.value) ^ 1 });
    return undefined;
  };
  for (const n of ir.nodes) {
    const args = n.args.map((a) => at[a]);
    const number = n.field !== undefined ? raw[n.field] : (n.index as number);
    switch (n.op) {
      case 'imm':
        at[n.id] = constant(n.t as Ty, BigInt((n.derive as (f: Raw) => number | bigint)(raw)));
        break;
      case 'readX':
        at[n.id] = number === 31 && !n.sp ? constant(n.t as Ty, 0n) : add({ op: 'readX', t: n.t, args, index: number });
        break;
      case 'writeX':
        if (number !== 31 || n.sp) at[n.id] = add({ op: 'writeX', t: n.t, args, index: number });
        break;
      case 'readV':
      case 'writeV':
        at[n.id] = add({ op: n.op, t: n.t, args, index: (raw[n.field as string] + (n.index ?? 0)) & 31 });
        break;
      case 'cell':
      case 'setCell':
      case 'branch':
        at[n.id] = add({ op: n.op, t: n.t, args, value: Number(n.derive ? n.derive(raw) : n.value) });
        break;
      default:
        at[n.id] = simplified(n, args) ?? add({ ...n, args });
    }
  }
  return out;
}

/** Parts of the VP's state that regions keep elsewhere: a row that names them by their place is not for regions. */
const isCached = (at: number): boolean => at < VP.FK + 4 || (at >= VP.V && at < VP.SYS);

const interpretOnly = (name: string): Plan => ({
  name,
  nodes: [],
  uses: new Uint8Array(0),
  ending: 'interpret',
  distance: 0,
  isCall: false,
  readX: 0,
  writeX: 0,
  killX: 0,
  readV: 0,
  writeV: 0,
  killV: 0,
  readsFlags: false,
  flags: undefined,
  fp: false,
  mayLeave: true,
  landing: 0,
});

/** Kind of flags that a `flags` node makes. */
export function kindOf(nodes: readonly Node[], n: Node): FlagKind {
  const narrow = nodes[n.args[0]].t === 'i32';
  if (n.kind === 'sub') return narrow ? KIND.SUB32 : KIND.SUB64;
  const b = nodes[n.args[1]];
  if (b.op === 'const' && BigInt(b.value as number | bigint) === 0n) return narrow ? KIND.LOGIC32 : KIND.LOGIC64;
  return narrow ? KIND.ADD32 : KIND.ADD64;
}

/**
 * `if` at `at` is a conditional compare: flags of two operands, or a constant NZCV. The kind that tells both, and the index of the
 * `flags` node; undefined: it is something else.
 */
export function conditionalCompare(
  nodes: readonly Node[],
  at: number,
): { kind: FlagKind; flags: number; end: number } | undefined {
  const effects = [];
  for (let i = at + 1; i < nodes.length; i++) if (nodes[i].t === 'void' || nodes[i].op === 'mem') effects.push(i);
  const [flags, otherwise, nzcv, end] = effects.map((i) => nodes[i]);
  if (effects.length !== 4 || flags.op !== 'flags' || otherwise.op !== 'else' || nzcv.op !== 'setNZCV' || end.op !== 'end')
    return undefined;
  const value = nodes[nzcv.args[0]];
  if (value.op !== 'const') return undefined;
  const base = kindOf(nodes, flags);
  return { kind: (KIND.CONDITIONAL + base * 16 + (Number(value.value) >>> 28)) as FlagKind, flags: effects[0], end: effects[3] };
}

/**
 * What is computed by WebAssembly in the usual case and by a helper otherwise becomes a guard: `guard` leaves the region unless
 * its argument holds.
 */
function guarded(nodes: readonly Node[]): readonly Node[] {
  const call = nodes.findIndex((n) => n.op === 'call');
  if (call < 0) return nodes;
  const begin = nodes.findLastIndex((n, i) => i < call && n.op === 'else');
  const test = nodes.findLastIndex((n, i) => i < begin && n.op === 'if');
  const end = nodes.findIndex((n, i) => i > call && n.op === 'end');
  if (test < 0 || end < 0) return nodes;
  const nothing = { t: 'i32', op: 'const', args: [], value: 0 } as const;
  return nodes.map((n, i) => {
    if (i === test) return { ...n, op: 'guard' };
    return i < begin || i > end ? n : { ...nothing, id: i };
  });
}

/**
 * A row that unmasks interrupts changes PSTATE and then looks whether one waits. A region looks first: it must leave before anything has
 * changed, because whoever does the instruction then may look for interrupts before it.
 */
function interruptsFirst(nodes: readonly Node[]): readonly Node[] {
  const exit = nodes.findIndex((n) => n.op === 'exit' && n.kind === 'irq-check');
  if (exit < 0) return nodes;
  const [test] = nodes[exit - 1].args;
  const isAlone = nodes[exit - 1].op === 'if' && nodes[exit + 1].op === 'end' && nodes[test].op === 'cell';
  if (!isAlone) return nodes;
  const first = [test, exit - 1, exit, exit + 1];
  const order = [...first, ...nodes.map((_, i) => i).filter((i) => !first.includes(i))];
  return order.map((from, id) => ({ ...nodes[from], id, args: nodes[from].args.map((a) => order.indexOf(a)) }));
}

/** Must be done although nobody uses its value: a helper may set FPSR, as FCVTZS to WZR does. */
const hasEffect = (n: Node): boolean => n.t === 'void' || n.op === 'mem' || n.op === 'call';

function plan(ir: Ir, raw: Raw, word: number): Plan {
  if (mayMisalignSp(ir, raw)) return interpretOnly(ir.insn.name);
  const nodes = interruptsFirst(guarded(resolve(ir, raw)));
  const uses = new Uint8Array(nodes.length);
  let readX = 0;
  let writeX = 0;
  let killX = 0;
  let readV = 0;
  let writeV = 0;
  let killV = 0;
  let readsFlags = false;
  let flags: FlagKind | undefined;
  let mayLeave = ir.insn.options.fp === true;
  let depth = 0;
  let changed = false;
  /** `changed` at each open `if`, and after its first branch. */
  const before: { changed: boolean; taken?: boolean }[] = [];
  let distance = 0;
  let isCall = false;
  for (let i = nodes.length - 1; i >= 0; i--) if (hasEffect(nodes[i]) || uses[i]) for (const a of nodes[i].args) uses[a]++;
  const last = nodes[nodes.length - 1];
  const conditional =
    nodes.length > 2 && last.op === 'end' && nodes[nodes.length - 2].op === 'branch' && nodes[nodes.length - 3].op === 'if';
  const ending: Ending = conditional ? 'branch-if' : last?.op === 'branch' ? 'branch' : last?.op === 'jump' ? 'jump' : 'next';
  const end = conditional ? nodes.length - 3 : ending === 'next' ? nodes.length : nodes.length - 1;
  for (let i = 0; i < end; i++) {
    const n = nodes[i];
    if (!hasEffect(n) && uses[i] === 0) continue;
    const bit = n.index === undefined ? 0 : 1 << n.index;
    switch (n.op) {
      case 'call':
        return interpretOnly(ir.insn.name);
      case 'cell':
        if (isCached(Number(n.value))) return interpretOnly(ir.insn.name);
        break;
      case 'readX':
        readX |= bit;
        break;
      case 'readV':
        readV |= bit;
        break;
      case 'writeX':
        writeX |= bit;
        if (depth === 0) killX |= bit;
        else readX |= bit;
        changed = true;
        if (n.index === 30) isCall = true;
        break;
      case 'writeV':
        writeV |= bit;
        if (depth === 0) killV |= bit;
        else readV |= bit;
        changed = true;
        break;
      case 'cond':
      case 'carry':
      case 'nzcv':
        readsFlags = true;
        break;
      case 'flags':
      case 'setNZCV':
        if (depth) return interpretOnly(ir.insn.name);
        flags = n.op === 'flags' ? kindOf(nodes, n) : KIND.PACKED;
        changed = true;
        break;
      case 'if': {
        const compare = conditionalCompare(nodes, i);
        if (compare) {
          for (let k = i + 1; k < compare.end; k++) {
            const m = nodes[k];
            if (m.op === 'readX' && uses[k]) readX |= 1 << (m.index as number);
          }
          flags = compare.kind;
          i = compare.end;
        } else {
          depth++;
          before.push({ changed });
        }
        break;
      }
      case 'else': {
        const open = before[before.length - 1];
        open.taken = changed;
        changed = open.changed;
        break;
      }
      case 'end': {
        depth--;
        const open = before.pop();
        changed ||= open?.taken ?? false;
        break;
      }
      case 'mem':
        if (changed) return interpretOnly(ir.insn.name);
        mayLeave = true;
        break;
      case 'setCell':
        if (isCached(Number(n.value))) return interpretOnly(ir.insn.name);
        changed = true;
        break;
      case 'store':
        changed = true;
        break;
      case 'guard':
        if (changed) return interpretOnly(ir.insn.name);
        mayLeave = true;
        break;
      case 'exit':
        // Leaving means running the instruction again.
        if (changed) return interpretOnly(ir.insn.name);
        if (depth === 0) return interpretOnly(ir.insn.name);
        mayLeave = true;
        break;
      case 'branch':
      case 'jump':
        return interpretOnly(ir.insn.name);
    }
  }
  if (ending === 'branch') distance = Number(last.value);
  if (conditional) distance = Number(nodes[nodes.length - 2].value);
  return {
    name: ir.insn.name,
    nodes,
    uses,
    ending,
    distance,
    isCall: isCall && (ending === 'branch' || ending === 'jump'),
    readX,
    writeX,
    killX,
    readV,
    writeV,
    killV,
    readsFlags,
    flags,
    fp: ir.insn.options.fp === true,
    mayLeave,
    landing: landingBits(word),
  };
}

/** Plans kept. */
const MAX_PLANS = 1 << 16;

export class Planner {
  readonly #decode: (word: number) => Decoded | undefined;
  readonly #plans = new Map<number, Plan>();
  /** Recorded semantics by row and static fields. */
  readonly #semantics = new Map<Insn, Map<string, Ir>>();

  constructor(decode: (word: number) => Decoded | undefined) {
    this.#decode = decode;
  }

  plan(word: number): Plan {
    const known = this.#plans.get(word);
    if (known) return known;
    if (this.#plans.size >= MAX_PLANS) this.#plans.clear();
    const decoded = this.#decode(word);
    const made = decoded ? plan(this.#record(decoded), decoded.raw, word) : interpretOnly('UNDEFINED');
    this.#plans.set(word, made);
    return made;
  }

  #record({ row, raw }: Decoded): Ir {
    let known = this.#semantics.get(row);
    if (!known) {
      known = new Map();
      this.#semantics.set(row, known);
    }
    const statics: Record<string, number> = {};
    for (const f of row.fields) if (f.isStatic) statics[f.name] = raw[f.name];
    for (const name of Object.keys(row.options.pick ?? {})) statics[name] = raw[name];
    const key = Object.values(statics).join();
    let ir = known.get(key);
    if (!ir) {
      ir = Builder.record(row, statics);
      known.set(key, ir);
    }
    return ir;
  }
}
