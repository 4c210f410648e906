/**
 * NZCV in a region: operands of the last instruction that set it, in locals, with a kind that is known where the code is
 * generated. Only where paths of different kinds meet, and where a region is left, it takes the form that the VP's state has
 * (vp-state.ts, FK).
 */
import type { Code } from '../wasm/encoder.ts';
import { ADD, FLAG_CELL, PACKED, SUB, truth } from '../emit.ts';

export type FlagKind = number;

export const KIND = {
  SUB64: 0,
  ADD64: 1,
  /** Bits 31:28 of FA. */
  PACKED: 2,
  /** The VP's form: FA, FB and FK. */
  RUNTIME: 3,
  /** Operands zero-extended, not shifted up as in the VP's form. */
  SUB32: 4,
  ADD32: 5,
  /** N and Z of FA, C = V = 0. */
  LOGIC64: 6,
  LOGIC32: 7,
  /** + 16 * kind + NZCV: of that kind when FC is not zero, else the constant NZCV. */
  CONDITIONAL: 8,
} as const;

const isNarrow = (kind: FlagKind): boolean => kind === KIND.SUB32 || kind === KIND.ADD32 || kind === KIND.LOGIC32;
const isLogic = (kind: FlagKind): boolean => kind === KIND.LOGIC32 || kind === KIND.LOGIC64;
const isSub = (kind: FlagKind): boolean => kind === KIND.SUB32 || kind === KIND.SUB64;
const isConditional = (kind: FlagKind): boolean => kind >= KIND.CONDITIONAL;
const baseOf = (kind: FlagKind): FlagKind => (kind - KIND.CONDITIONAL) >> 4;
const nzcvOf = (kind: FlagKind): number => (kind - KIND.CONDITIONAL) & 15;
const runtimeKind = (kind: FlagKind): number => (isSub(kind) ? SUB : kind === KIND.PACKED ? PACKED : ADD);

/** Comparison of the operands that each condition is after a subtraction; none for MI, PL, VS, VC. */
const AFTER_SUB = ['eq', 'ne', 'ge_u', 'lt_u', '', '', '', '', 'gt_u', 'le_u', 'ge_s', 'lt_s', 'gt_s', 'le_s'];
/** Comparison of the result with 0 after a logical instruction, or the constant that the condition is. */
const AFTER_LOGIC = ['eq', 'ne', 0, 1, 'lt_s', 'ge_s', 0, 1, 0, 1, 'ge_s', 'lt_s', 'gt_s', 'le_s'];

export class Flags {
  kind: FlagKind = KIND.RUNTIME;
  readonly #code: Code;
  readonly #a: number;
  readonly #b: number;
  readonly #k: number;
  /** The condition of conditional compares. */
  readonly #c: number;

  constructor(code: Code) {
    this.#code = code;
    this.#a = code.local('i64');
    this.#b = code.local('i64');
    this.#k = code.local('i32');
    this.#c = code.local('i32');
  }

  load(): void {
    const code = this.#code;
    code.i32(0).mem('i64.load', FLAG_CELL.a).set(this.#a);
    code.i32(0).mem('i64.load', FLAG_CELL.b).set(this.#b);
    code.i32(0).mem('i32.load', FLAG_CELL.k).set(this.#k);
  }

  /** The operands are on the stack, the second only where the kind has one. */
  set(kind: FlagKind): void {
    const code = this.#code;
    if (isNarrow(kind)) {
      if (!isLogic(kind)) code.op('i64.extend_i32_u').set(this.#b);
      code.op('i64.extend_i32_u').set(this.#a);
    } else {
      if (!isLogic(kind)) code.set(this.#b);
      code.set(this.#a);
    }
    this.kind = kind;
  }
  /** The condition is on the stack; `operands` pushes those of the base kind. */
  setConditional(kind: FlagKind, operands: () => void): void {
    this.#code.set(this.#c);
    operands();
    this.set(baseOf(kind));
    this.kind = kind;
  }
  /** NZCV in bits 31:28 is on the stack. */
  setPacked(): void {
    this.#code.i32(0xf0000000).op('i32.and').op('i64.extend_i32_u').set(this.#a);
    this.kind = KIND.PACKED;
  }

  #operand(which: number, narrow: boolean): void {
    this.#code.get(which);
    if (narrow) this.#code.op('i32.wrap_i64');
  }
  #zero(narrow: boolean): void {
    if (narrow) this.#code.i32(0);
    else this.#code.i64(0);
  }

  /** Pushes 0 or 1. */
  pushCondition(cond: number): void {
    if (cond >= 14) this.#code.i32(1);
    else this.#condition(this.kind, cond);
  }
  #condition(kind: FlagKind, cond: number): void {
    const code = this.#code;
    if (isConditional(kind)) {
      this.#condition(baseOf(kind), cond);
      code
        .i32((truth(cond) >> nzcvOf(kind)) & 1)
        .get(this.#c)
        .op('select');
      return;
    }
    if (kind === KIND.PACKED || kind === KIND.RUNTIME) {
      code.i32(truth(cond));
      this.#packed(kind);
      code.i32(28).op('i32.shr_u').op('i32.shr_u').i32(1).op('i32.and');
      return;
    }
    const narrow = isNarrow(kind);
    const p = narrow ? 'i32.' : 'i64.';
    const a = () => this.#operand(this.#a, narrow);
    const b = () => this.#operand(this.#b, narrow);
    if (isLogic(kind)) {
      const how = AFTER_LOGIC[cond];
      if (typeof how === 'number') code.i32(how);
      else {
        a();
        this.#zero(narrow);
        code.op(p + how);
      }
      return;
    }
    const sub = isSub(kind);
    if (sub && AFTER_SUB[cond]) {
      a();
      b();
      code.op(p + AFTER_SUB[cond]);
      return;
    }
    const result = () => {
      a();
      b();
      code.op(p + (sub ? 'sub' : 'add'));
    };
    /** A value whose sign is V. */
    const overflow = () => {
      a();
      result();
      code.op(`${p}xor`);
      b();
      if (sub) a();
      else result();
      code.op(`${p}xor`).op(`${p}and`);
    };
    const signed = (name: string) => {
      this.#zero(narrow);
      code.op(p + name);
    };
    const inverted = (cond & 1) === 1;
    switch (cond >> 1) {
      case 0:
        result();
        code.op(`${p}eqz`);
        break;
      case 1:
        result();
        a();
        code.op(`${p}lt_u`);
        break;
      case 2:
        result();
        signed('lt_s');
        break;
      case 3:
        overflow();
        signed('lt_s');
        break;
      case 4:
        result();
        a();
        code.op(`${p}lt_u`);
        result();
        signed('ne');
        code.op('i32.and');
        break;
      default:
        overflow();
        result();
        code.op(`${p}xor`);
        signed('ge_s');
        if (cond >> 1 === 6) {
          result();
          signed('ne');
          code.op('i32.and');
        }
    }
    if (inverted) code.op('i32.eqz');
  }

  pushCarry(): void {
    this.#condition(this.kind, 2);
  }

  /** Pushes NZCV in bits 31:28; the other bits are zero. */
  pushNZCV(): void {
    this.#packed(this.kind);
  }
  #packed(kind: FlagKind): void {
    const code = this.#code;
    if (kind === KIND.PACKED) {
      code.get(this.#a).op('i32.wrap_i64').i32(0xf0000000).op('i32.and');
      return;
    }
    if (isConditional(kind)) {
      this.#packed(baseOf(kind));
      code
        .i32(nzcvOf(kind) << 28)
        .get(this.#c)
        .op('select');
      return;
    }
    if (kind === KIND.RUNTIME) {
      code.get(this.#k).i32(PACKED).op('i32.eq');
      code.if('i32');
      this.#packed(KIND.PACKED);
      code.else().get(this.#k);
      code.if('i32');
      this.#packed(KIND.ADD64);
      code.else();
      this.#packed(KIND.SUB64);
      code.end().end();
      return;
    }
    for (let bit = 0; bit < 4; bit++) {
      // MI, EQ, CS, VS are N, Z, C, V.
      this.#condition(kind, [4, 0, 2, 6][bit]);
      code.i32(31 - bit).op('i32.shl');
      if (bit) code.op('i32.or');
    }
  }

  /** FA, FB and FK take the VP's form. */
  normalise(): void {
    const { kind } = this;
    if (kind === KIND.RUNTIME) return;
    this.kind = KIND.RUNTIME;
    const code = this.#code;
    const base = isConditional(kind) ? baseOf(kind) : kind;
    if (isNarrow(base)) {
      code.get(this.#a).i64(32).op('i64.shl').set(this.#a);
      if (!isLogic(base)) code.get(this.#b).i64(32).op('i64.shl').set(this.#b);
    }
    if (isLogic(base)) code.i64(0).set(this.#b);
    code.i32(runtimeKind(base)).set(this.#k);
    if (!isConditional(kind)) return;
    code
      .get(this.#a)
      .i64(nzcvOf(kind) * 2 ** 28)
      .get(this.#c)
      .op('select')
      .set(this.#a);
    code.get(this.#k).i32(PACKED).get(this.#c).op('select').set(this.#k);
  }

  /** Stores flags of `kind` into the VP's state. */
  store(kind: FlagKind): void {
    const code = this.#code;
    const base = isConditional(kind) ? baseOf(kind) : kind;
    const operand = (which: number) => {
      code.get(which);
      if (isNarrow(base)) code.i64(32).op('i64.shl');
    };
    code.i32(0);
    operand(this.#a);
    if (isConditional(kind))
      code
        .i64(nzcvOf(kind) * 2 ** 28)
        .get(this.#c)
        .op('select');
    code.mem('i64.store', FLAG_CELL.a);
    if (kind !== KIND.PACKED) {
      code.i32(0);
      if (isLogic(base)) code.i64(0);
      else operand(this.#b);
      code.mem('i64.store', FLAG_CELL.b);
    }
    code.i32(0);
    if (kind === KIND.RUNTIME) code.get(this.#k);
    else {
      code.i32(runtimeKind(base));
      if (isConditional(kind)) code.i32(PACKED).get(this.#c).op('select');
    }
    code.mem('i32.store', FLAG_CELL.k);
  }
}
