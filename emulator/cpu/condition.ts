/**
 * Conditions that a debugger asks for, as data: what they mean (`evaluate`), and WebAssembly that says the same (`emitCondition`), so
 * that a breakpoint whose condition is false costs next to nothing.
 *
 * A value is 64 bits. What has no value (memory that is not mapped, a division by 0) makes the whole condition one without a value. Code
 * knows less than `evaluate` does: where a load misses the data TLB it gives up, and `evaluate` has to be asked.
 */
import { type FlagFrame, FLAG_CELL, pushNZCV } from './emit.ts';
import { CELL, DATA_TLB, TLB, TLB_ENTRIES, TLB_ENTRY } from './layout.ts';
import { systemRegister } from './sysregs.ts';
import { VP, type VpState, WINDOW } from './vp-state.ts';
import type { Code, Label } from './wasm/encoder.ts';

const OPERATORS = [
  ...['add', 'sub', 'mul', 'div_s', 'div_u', 'rem_s', 'rem_u', 'and', 'or', 'xor', 'shl', 'shr_s', 'shr_u'],
  ...['eq', 'ne', 'lt_s', 'lt_u', 'gt_s', 'gt_u', 'le_s', 'le_u', 'ge_s', 'ge_u'],
] as const;
/**
 * Named as WebAssembly names them. Comparisons are 1 or 0. Shift counts are unsigned, and by 64 and more nothing but the sign is left; a
 * division by 0 has no value, and one that overflows wraps.
 */
export type Operator =
  | ('add' | 'sub' | 'mul' | 'div_s' | 'div_u' | 'rem_s' | 'rem_u' | 'and' | 'or' | 'xor' | 'shl' | 'shr_s' | 'shr_u')
  | ('eq' | 'ne' | 'lt_s' | 'lt_u' | 'gt_s' | 'gt_u' | 'le_s' | 'le_u' | 'ge_s' | 'ge_u');

/** An expression over the state of the VP that runs. */
export type Expression =
  | { readonly op: 'const'; readonly value: bigint }
  /** `x0`..`x30`, `sp`, `pc`, `pstate`, or a system register for which `isConditionRegister` says yes. */
  | { readonly op: 'register'; readonly name: string }
  /** `size` bytes (1, 2, 4, 8) at a virtual address, seen with EL1's rights. */
  | { readonly op: 'load'; readonly size: 1 | 2 | 4 | 8; readonly signed: boolean; readonly at: Expression }
  /** The low `bits` (1 to 64) of a value. */
  | { readonly op: 'extend'; readonly bits: number; readonly signed: boolean; readonly of: Expression }
  | { readonly op: Operator; readonly left: Expression; readonly right: Expression }
  /** Only the one that is chosen is evaluated. */
  | { readonly op: 'select'; readonly test: Expression; readonly yes: Expression; readonly no: Expression }
  /** Has no value. */
  | { readonly op: 'fault' };

/** An expression may be this large, and nested this deeply. */
const MAX_NODES = 2000;
const MAX_DEPTH = 100;

/** Where a register is in the VP's block; undefined: it is none that conditions can have. */
function registerCell(name: string): number | undefined {
  const x = /^x(\d|[12]\d|30)$/.exec(name);
  if (x) return VP.X + 8 * Number(x[1]);
  if (name === 'sp') return VP.SP;
  if (name === 'pc') return VP.PC;
  const row = systemRegister(name);
  return row && row.at >= 0 && !row.read && !row.feat && !row.volatile ? row.at : undefined;
}

const isSpEl0 = (name: string): boolean => name.toLowerCase() === 'sp_el0';

/** True for registers that a condition can have. */
export const isConditionRegister = (name: string): boolean =>
  name === 'pstate' || isSpEl0(name) || registerCell(name) !== undefined;

/** Throws a RangeError when `e` is not an expression, or too large a one. */
export function checkExpression(e: Expression): void {
  let left = MAX_NODES;
  const check = (e: Expression, depth: number): void => {
    if (--left < 0 || depth > MAX_DEPTH) throw new RangeError(`a condition has at most ${MAX_NODES} parts, ${MAX_DEPTH} deep`);
    switch (e.op) {
      case 'const':
      case 'fault':
        return;
      case 'register':
        if (!isConditionRegister(e.name)) throw new RangeError(`a condition cannot have the register ${e.name}`);
        return;
      case 'load':
        if (![1, 2, 4, 8].includes(e.size)) throw new RangeError(`a condition loads 1, 2, 4 or 8 bytes, not ${e.size}`);
        check(e.at, depth + 1);
        return;
      case 'extend':
        if (!Number.isInteger(e.bits) || e.bits < 1 || e.bits > 64) throw new RangeError(`${e.bits} bits of 64`);
        check(e.of, depth + 1);
        return;
      case 'select':
        for (const part of [e.test, e.yes, e.no]) check(part, depth + 1);
        return;
      default:
        if (!OPERATORS.includes(e.op)) throw new RangeError(`a condition has no ${String((e as { op: unknown }).op)}`);
        check(e.left, depth + 1);
        check(e.right, depth + 1);
    }
  };
  check(e, 0);
}

// --- what they mean ------------------------------------------------------------------------------------------------------

/** What `evaluate` asks. */
export interface ConditionState {
  register(name: string): bigint;
  /** `size` bytes as an unsigned number; undefined: not all of them are mapped to memory. */
  load(address: bigint, size: number): bigint | undefined;
}

/** The value of a register that `isConditionRegister` knows. */
export function conditionRegister(vp: VpState, name: string): bigint {
  if (name === 'pstate') return BigInt(vp.pstate);
  if (isSpEl0(name)) return vp.u64(vp.u32(VP.PSTATE) & 1 ? VP.SP_EL0 : VP.SP);
  return vp.u64(registerCell(name) as number);
}

const signed = (v: bigint): bigint => BigInt.asIntN(64, v);

/** The value of `e`, 0 to 2^64 - 1; undefined: it has none. */
export function evaluate(e: Expression, state: ConditionState): bigint | undefined {
  switch (e.op) {
    case 'const':
      return BigInt.asUintN(64, e.value);
    case 'register':
      return state.register(e.name);
    case 'load': {
      const at = evaluate(e.at, state);
      const value = at === undefined ? undefined : state.load(at, e.size);
      return value !== undefined && e.signed ? BigInt.asUintN(64, BigInt.asIntN(8 * e.size, value)) : value;
    }
    case 'extend': {
      const of = evaluate(e.of, state);
      if (of === undefined) return undefined;
      return e.signed ? BigInt.asUintN(64, BigInt.asIntN(e.bits, of)) : BigInt.asUintN(e.bits, of);
    }
    case 'select': {
      const test = evaluate(e.test, state);
      return test === undefined ? undefined : evaluate(test ? e.yes : e.no, state);
    }
    case 'fault':
      return undefined;
    default: {
      const left = evaluate(e.left, state);
      const right = left === undefined ? undefined : evaluate(e.right, state);
      const result = left === undefined || right === undefined ? undefined : operate(e.op, left, right);
      return result === undefined ? undefined : typeof result === 'boolean' ? (result ? 1n : 0n) : BigInt.asUintN(64, result);
    }
  }
}

function operate(op: Operator, a: bigint, b: bigint): bigint | boolean | undefined {
  switch (op) {
    case 'add':
      return a + b;
    case 'sub':
      return a - b;
    case 'mul':
      return a * b;
    case 'div_s':
      return b === 0n ? undefined : signed(a) / signed(b);
    case 'div_u':
      return b === 0n ? undefined : a / b;
    case 'rem_s':
      return b === 0n ? undefined : signed(a) % signed(b);
    case 'rem_u':
      return b === 0n ? undefined : a % b;
    case 'and':
      return a & b;
    case 'or':
      return a | b;
    case 'xor':
      return a ^ b;
    case 'shl':
      return b < 64n ? a << b : 0n;
    case 'shr_u':
      return b < 64n ? a >> b : 0n;
    case 'shr_s':
      return signed(a) >> (b < 64n ? b : 63n);
    case 'eq':
      return a === b;
    case 'ne':
      return a !== b;
    case 'lt_s':
      return signed(a) < signed(b);
    case 'lt_u':
      return a < b;
    case 'gt_s':
      return signed(a) > signed(b);
    case 'gt_u':
      return a > b;
    case 'le_s':
      return signed(a) <= signed(b);
    case 'le_u':
      return a <= b;
    case 'ge_s':
      return signed(a) >= signed(b);
    case 'ge_u':
      return a >= b;
  }
}

// --- the same as code ----------------------------------------------------------------------------------------------------

/** Writes conditions into a function, for the VP whose state is in the window and in the cells. */
export class ConditionCode {
  readonly #code: Code;
  readonly #unknown: Label;
  readonly #tlb: number;
  readonly #entry: number;
  /** Locals by nesting: an operation's operands live until it is done. */
  readonly #locals: number[] = [];
  #used = 0;

  /** `unknown`: a block around, which is left when there is no value, or code cannot know it. */
  constructor(code: Code, unknown: Label) {
    this.#code = code;
    this.#unknown = unknown;
    this.#tlb = code.local('i32');
    this.#entry = code.local('i32');
    code.i32(0).mem('i32.load', WINDOW + VP.REGIME);
    code.i32(DATA_TLB).op('i32.mul').i32(0).mem('i32.load', CELL.TLB).op('i32.add').set(this.#tlb);
  }

  /** Pushes the value of `e`, an i64. */
  push(e: Expression): void {
    const code = this.#code;
    switch (e.op) {
      case 'const':
        code.i64(e.value);
        return;
      case 'register':
        this.#register(e.name);
        return;
      case 'load':
        this.#load(e);
        return;
      case 'extend': {
        this.push(e.of);
        if (e.bits === 64) return;
        const by = 64 - e.bits;
        code
          .i64(by)
          .op('i64.shl')
          .i64(by)
          .op(e.signed ? 'i64.shr_s' : 'i64.shr_u');
        return;
      }
      case 'select':
        this.push(e.test);
        code.i64(0).op('i64.ne');
        code.if('i64');
        this.push(e.yes);
        code.else();
        this.push(e.no);
        code.end();
        return;
      case 'fault':
        // The value is for the types only.
        code.br(this.#unknown).i64(0);
        return;
      default:
        this.#operate(e.op, e.left, e.right);
    }
  }

  /** Calls `body` with a local that nothing else uses meanwhile. */
  #withLocal(body: (local: number) => void): void {
    if (this.#used === this.#locals.length) this.#locals.push(this.#code.local('i64'));
    body(this.#locals[this.#used++]);
    this.#used--;
  }

  #register(name: string): void {
    const code = this.#code;
    const cell = (at: number) => code.i32(0).mem('i64.load', WINDOW + at);
    if (name === 'pstate') {
      const flags: FlagFrame = {
        code,
        local: (type) => code.local(type),
        flag: (which) => code.i32(0).mem(which === 'k' ? 'i32.load' : 'i64.load', FLAG_CELL[which]),
      };
      pushNZCV(flags);
      code
        .i32(0)
        .mem('i32.load', WINDOW + VP.PSTATE)
        .op('i32.or')
        .op('i64.extend_i32_u');
    } else if (isSpEl0(name)) {
      cell(VP.SP_EL0);
      cell(VP.SP);
      code
        .i32(0)
        .mem('i32.load', WINDOW + VP.PSTATE)
        .i32(1)
        .op('i32.and')
        .op('select');
    } else cell(registerCell(name) as number);
  }

  #load({ size, signed, at }: Expression & { op: 'load' }): void {
    const code = this.#code;
    this.#withLocal((va) => {
      this.push(at);
      code
        .tee(va)
        .i64(12 - Math.log2(TLB_ENTRY))
        .op('i64.shr_u')
        .op('i32.wrap_i64');
      code
        .i32((TLB_ENTRIES - 1) * TLB_ENTRY)
        .op('i32.and')
        .get(this.#tlb)
        .op('i32.add')
        .tee(this.#entry);
      code.mem('i64.load', TLB.READ).get(va);
      if (size > 1) code.i64(size - 1).op('i64.add');
      code.i64(-4096).op('i64.and').op('i64.ne').brIf(this.#unknown);
      code.get(va).op('i32.wrap_i64').get(this.#entry).mem('i32.load', TLB.ADDEND).op('i32.add');
      code.mem(size === 8 ? 'i64.load' : `i64.load${8 * size}_${signed ? 's' : 'u'}`);
    });
  }

  #operate(op: Operator, left: Expression, right: Expression): void {
    const code = this.#code;
    if (!/^(div|rem|sh)/.test(op)) {
      this.push(left);
      this.push(right);
      code.op(`i64.${op}`);
      if (OPERATORS.indexOf(op) >= OPERATORS.indexOf('eq')) code.op('i64.extend_i32_u');
      return;
    }
    this.#withLocal((a) =>
      this.#withLocal((b) => {
        this.push(left);
        code.set(a);
        this.push(right);
        code.set(b);
        if (op.startsWith('sh')) {
          const beyond = op === 'shr_s' ? () => code.get(a).i64(63).op('i64.shr_s') : () => code.i64(0);
          code.get(a).get(b).op(`i64.${op}`);
          beyond();
          code.get(b).i64(64).op('i64.lt_u').op('select');
          return;
        }
        code.get(b).op('i64.eqz').brIf(this.#unknown);
        if (op === 'div_s') {
          // WebAssembly traps where the quotient overflows.
          code.i64(0).get(a).op('i64.sub').get(a).i64(1).get(b).get(b).i64(-1).op('i64.eq').op('select').op('i64.div_s');
          code.get(b).i64(-1).op('i64.eq').op('select');
        } else code.get(a).get(b).op(`i64.${op}`);
      }),
    );
  }
}
