/**
 * The value builder that instruction semantics are written in. It records; engines consume. Running a row's semantics
 * with given static fields yields an `Ir`: a list of nodes in program order, from which the interpreter emits a wasm
 * handler (operands are loads from a predecoded record), the translator emits region code (operands are constants), and
 * tests evaluate with bigints.
 *
 * Rules for semantics:
 * - Values are typed as wasm types them. W registers are i32, X registers i64; `setX` zero-extends an i32.
 * - Pure operations are named as the WebAssembly specification names them (`b.op('i64.rotr', v, n)`), with short
 *   forms (`b.add(a, b)`) that take the type from their first operand.
 * - Every memory access of an instruction goes through ONE `b.mem(...)` that covers all its bytes, and before it nothing of
 *   the VP's state may change: a TLB miss, a fault or an MMIO access leaves the handler there and restarts it.
 * - A read (`x`, `v`, `cond`, `load`) sees the state at its place in the program order.
 */
import type { Landing } from './branch-targets.ts';
import type { Insn, Operand, Raw } from './insn.ts';

export type Ty = 'i32' | 'i64' | 'f32' | 'f64' | 'v128';

/** A value: the node that makes it. */
export interface Val<T extends Ty = Ty> {
  readonly id: number;
  readonly t: T;
}
export type I32 = Val<'i32'>;
export type I64 = Val<'i64'>;
export type V128 = Val<'v128'>;
export type Int = I32 | I64;

/** Why a handler leaves generated code, to be handled by the CPU's TypeScript with the instruction word at hand. */
export type ExitKind =
  | 'undef' // UNDEFINED
  | 'svc'
  | 'hvc'
  | 'smc'
  | 'brk'
  | 'hlt'
  | 'eret'
  | 'mrs'
  | 'msr' // a system register that is not a plain cell
  | 'msr-imm' // PSTATE fields that need more than a store
  | 'sys' // SYS, SYSL: TLBI, DC, IC, AT
  | 'wfi'
  | 'wfe'
  | 'sev'
  | 'yield'
  | 'pac-fail' // a pointer's authentication code is wrong
  | 'irq-check'; // PSTATE.{A,I,F} were cleared while an interrupt is pending: retire, then look

export type Access = 'r' | 'w' | 'rw';

export interface MemOptions {
  /** Alignment in bytes that this access must have whatever SCTLR_EL1.A says (exclusives, atomics, acquire/release) without FEAT_LSE2. */
  align?: number;
  /** Acquire or release and nothing more: with SCTLR_EL1.nAA need not be aligned at all. */
  ordered?: boolean;
  /** LDTR, STTR: checked with EL0's permissions. */
  unprivileged?: boolean;
}

/** Where an immediate of the record comes from: a function of the raw fields, run once at decode. */
export type Derive = (f: Raw) => number | bigint;

export type FlagKind = 'add' | 'sub';

/**
 * One recorded step. `args` are ids of earlier nodes.
 *
 * | op | meaning |
 * | --- | --- |
 * | a wasm instruction name | that instruction; `imm` its immediates (lane, shuffle bytes) |
 * | const | constant `value` |
 * | imm | i32/i64 from `derive` |
 * | readX | register field `field` (or number `index`); 31 is XZR (or SP when `sp`); `t` i32 or i64 |
 * | writeX | register field := args[0] |
 * | readV / writeV | SIMD register field plus `index` (modulo 32), whole 128 bits |
 * | cell / setCell | u64 (or u32 by `t`) of the VP state at byte offset `derive` or `value` from the VP block |
 * | pc | address of this instruction |
 * | now | virtual time in ns |
 * | flags | NZCV := flags of args[0] + args[1] (+ or -, `kind`), of the operands' width |
 * | setNZCV / nzcv | NZCV packed in bits 31:28 of an i32 |
 * | cond | i32 0/1: condition `value` (0..15) holds |
 * | carry | i32 0/1 |
 * | mem | checks [args[0], + size) for `access`; its value is an opaque i32 host address |
 * | load / store | wasm load/store `name` at host address args[0] + `value` |
 * | branch | PC := PC + derive |
 * | jump | PC := args[0]; `kind`: the `Landing` of a jump that sets PSTATE.BTYPE |
 * | exit | leaves to TypeScript: `kind` |
 * | call | helper `name`(args), cold rows only |
 * | if / else / end | structured control flow on args[0] (i32), effects only |
 */
export interface Node {
  readonly id: number;
  readonly op: string;
  readonly t: Ty | 'void';
  readonly args: readonly number[];
  readonly name?: string;
  readonly field?: string;
  readonly sp?: boolean;
  readonly index?: number;
  readonly value?: number | bigint;
  readonly imm?: readonly number[];
  readonly derive?: Derive;
  readonly kind?: string;
  readonly access?: Access;
  readonly size?: number;
  readonly mem?: MemOptions;
}

export interface Ir {
  readonly insn: Insn;
  /** Values of the static fields and picks. */
  readonly statics: Raw;
  readonly nodes: readonly Node[];
}

/** Names of the helper functions that cold rows may call; `emulator/cpu/helpers.ts` holds them. */
export type HelperName = string;

const resultType = (op: string): Ty => {
  const [ty, name] = op.split('.') as [string, string];
  if (/^(i8x16|i16x8|i32x4|i64x2|f32x4|f64x2)$/.test(ty)) {
    if (name.startsWith('extract_lane')) return ty === 'i64x2' ? 'i64' : ty === 'f32x4' ? 'f32' : ty === 'f64x2' ? 'f64' : 'i32';
    if (name === 'all_true' || name === 'bitmask') return 'i32';
    return 'v128';
  }
  if (ty === 'v128') return name === 'any_true' ? 'i32' : 'v128';
  if (/^(eqz?|ne|lt|gt|le|ge)(_[su])?$/.test(name)) return 'i32';
  return ty as Ty;
};

export class Builder {
  readonly nodes: Node[] = [];
  readonly #insn: Insn;
  readonly #statics: Raw;

  constructor(insn: Insn, statics: Raw) {
    this.#insn = insn;
    this.#statics = statics;
  }

  /** Runs the semantics of `insn` for one combination of static fields. */
  static record(insn: Insn, statics: Raw): Ir {
    const b = new Builder(insn, statics);
    const f: Record<string, number | Operand> = { ...statics };
    for (const s of insn.fields) if (!s.isStatic) f[s.name] = { operand: s.name };
    insn.semantics(b, f as never);
    return { insn, statics, nodes: b.nodes };
  }

  #node<T extends Ty>(t: T, op: string, args: readonly Val[], rest: Partial<Node> = {}): Val<T> {
    const id = this.nodes.length;
    this.nodes.push({ ...rest, id, op, t, args: args.map((a) => a.id) });
    return { id, t };
  }
  #effect(op: string, args: readonly Val[], rest: Partial<Node> = {}): void {
    this.nodes.push({ ...rest, id: this.nodes.length, op, t: 'void', args: args.map((a) => a.id) });
  }

  // --- constants and immediates ------------------------------------------------------------------------------
  i32(v: number): I32 {
    return this.#node('i32', 'const', [], { value: v | 0 });
  }
  i64(v: number | bigint): I64 {
    return this.#node('i64', 'const', [], { value: BigInt.asIntN(64, BigInt(v)) });
  }
  /** 128-bit constant. */
  v128(v: bigint): V128 {
    return this.#node('v128', 'const', [], { value: v });
  }
  /** A constant of `like`'s type. */
  c<T extends Int>(like: T, v: number | bigint): T {
    return (like.t === 'i32' ? this.i32(Number(BigInt.asIntN(32, BigInt(v)))) : this.i64(v)) as T;
  }
  /** An i64 derived from the raw fields at decode time. */
  imm(derive: Derive): I64 {
    return this.#node('i64', 'imm', [], { derive });
  }
  /** The same as i32. */
  imm32(derive: Derive): I32 {
    return this.#node('i32', 'imm', [], { derive });
  }
  /** Derived immediate of the width `sf` says. */
  immW(sf: number, derive: Derive): Int {
    return sf ? this.imm(derive) : this.imm32(derive);
  }

  // --- pure operations ---------------------------------------------------------------------------------------
  /** Any pure WebAssembly numeric or vector instruction by its name. `imm`: lane index or shuffle bytes. */
  op(name: string, args: readonly Val[], imm?: readonly number[]): Val {
    return this.#node(resultType(name), name, args, imm ? { imm } : {});
  }
  /** The same where the result is known to be a vector. */
  vop(name: string, args: readonly Val[], imm?: readonly number[]): V128 {
    return this.op(name, args, imm) as V128;
  }
  #bin<T extends Int>(name: string, a: T, c: T): T {
    if (a.t !== c.t) throw new Error(`${this.#insn.name}: ${name} of ${a.t} and ${c.t}`);
    return this.#node(a.t, `${a.t}.${name}`, [a, c]) as T;
  }
  #cmp<T extends Int>(name: string, a: T, c: T): I32 {
    if (a.t !== c.t) throw new Error(`${this.#insn.name}: ${name} of ${a.t} and ${c.t}`);
    return this.#node('i32', `${a.t}.${name}`, [a, c]);
  }
  add<T extends Int>(a: T, c: T): T {
    return this.#bin('add', a, c);
  }
  sub<T extends Int>(a: T, c: T): T {
    return this.#bin('sub', a, c);
  }
  mul<T extends Int>(a: T, c: T): T {
    return this.#bin('mul', a, c);
  }
  and<T extends Int>(a: T, c: T): T {
    return this.#bin('and', a, c);
  }
  or<T extends Int>(a: T, c: T): T {
    return this.#bin('or', a, c);
  }
  xor<T extends Int>(a: T, c: T): T {
    return this.#bin('xor', a, c);
  }
  not<T extends Int>(a: T): T {
    return this.xor(a, this.c(a, -1));
  }
  neg<T extends Int>(a: T): T {
    return this.sub(this.c(a, 0), a);
  }
  /** Shift amounts have the type of the value and are taken modulo its width, as wasm does. */
  shl<T extends Int>(a: T, n: T): T {
    return this.#bin('shl', a, n);
  }
  shrU<T extends Int>(a: T, n: T): T {
    return this.#bin('shr_u', a, n);
  }
  shrS<T extends Int>(a: T, n: T): T {
    return this.#bin('shr_s', a, n);
  }
  rotr<T extends Int>(a: T, n: T): T {
    return this.#bin('rotr', a, n);
  }
  clz<T extends Int>(a: T): T {
    return this.#node(a.t, `${a.t}.clz`, [a]) as T;
  }
  eq<T extends Int>(a: T, c: T): I32 {
    return this.#cmp('eq', a, c);
  }
  ne<T extends Int>(a: T, c: T): I32 {
    return this.#cmp('ne', a, c);
  }
  ltU<T extends Int>(a: T, c: T): I32 {
    return this.#cmp('lt_u', a, c);
  }
  ltS<T extends Int>(a: T, c: T): I32 {
    return this.#cmp('lt_s', a, c);
  }
  geU<T extends Int>(a: T, c: T): I32 {
    return this.#cmp('ge_u', a, c);
  }
  gtU<T extends Int>(a: T, c: T): I32 {
    return this.#cmp('gt_u', a, c);
  }
  gtS<T extends Int>(a: T, c: T): I32 {
    return this.#cmp('gt_s', a, c);
  }
  eqz(a: Int): I32 {
    return this.#node('i32', `${a.t}.eqz`, [a]);
  }
  /** i32 -> i64. */
  extU(a: I32): I64 {
    return this.#node('i64', 'i64.extend_i32_u', [a]);
  }
  extS(a: I32): I64 {
    return this.#node('i64', 'i64.extend_i32_s', [a]);
  }
  /** i64 -> i32. */
  wrap(a: I64): I32 {
    return this.#node('i32', 'i32.wrap_i64', [a]);
  }
  /** `cond` ? a : c. Both are evaluated. */
  select<T extends Ty>(cond: I32, a: Val<T>, c: Val<T>): Val<T> {
    return this.#node(a.t, 'select', [a, c, cond]);
  }

  // --- general registers -------------------------------------------------------------------------------------
  /** X[n] (sf = 1, i64) or W[n] (sf = 0, i32); 31 is zero. */
  x(n: Operand, sf?: 1): I64;
  x(n: Operand, sf: 0): I32;
  x(n: Operand, sf: number): Int;
  x(n: Operand, sf = 1): Int {
    return this.#node(sf ? 'i64' : 'i32', 'readX', [], { field: n.operand }) as Int;
  }
  /** The same; 31 is SP. */
  xOrSP(n: Operand, sf?: 1): I64;
  xOrSP(n: Operand, sf: number): Int;
  xOrSP(n: Operand, sf = 1): Int {
    return this.#node(sf ? 'i64' : 'i32', 'readX', [], { field: n.operand, sp: true }) as Int;
  }
  /** X[n] := v (an i32 is zero-extended); 31 is discarded. */
  setX(n: Operand, v: Int): void {
    this.#effect('writeX', [v], { field: n.operand });
  }
  setXOrSP(n: Operand, v: Int): void {
    this.#effect('writeX', [v], { field: n.operand, sp: true });
  }
  /** X30, the link register. */
  setLink(v: I64): void {
    this.setFixedX(30, v);
  }
  /** X[n] for a fixed number 0..30, which no field of the instruction names. */
  fixedX(n: number): I64 {
    return this.#node('i64', 'readX', [], { index: n });
  }
  setFixedX(n: number, v: I64): void {
    this.#effect('writeX', [v], { index: n });
  }
  /** SP, which no field of the instruction names. */
  sp(): I64 {
    return this.#node('i64', 'readX', [], { index: 31, sp: true });
  }

  // --- SIMD and FP registers ---------------------------------------------------------------------------------
  /** V[n + index mod 32]. */
  v(n: Operand, index = 0): V128 {
    return this.#node('v128', 'readV', [], { field: n.operand, index });
  }
  setV(n: Operand, v: V128, index = 0): void {
    this.#effect('writeV', [v], { field: n.operand, index });
  }
  /** V[n] := the low `bytes` (1, 2, 4 or 8) of an integer value, the rest zero. */
  setVLow(n: Operand, v: Int, bytes: 1 | 2 | 4 | 8): void {
    const wide = v.t === 'i32' ? this.extU(v as I32) : (v as I64);
    const cut = bytes === 8 ? wide : this.and(wide, this.i64((1n << BigInt(bytes * 8)) - 1n));
    this.setV(n, this.vop('i64x2.replace_lane', [this.v128(0n), cut], [0]));
  }
  /** The low 8 bytes of V[n]. */
  d(n: Operand): I64 {
    return this.op('i64x2.extract_lane', [this.v(n)], [0]) as I64;
  }

  // --- state of the VP that is a plain cell ------------------------------------------------------------------
  /** The u64 at byte offset `at` of the VP block (vp-state.ts), or at an offset derived at decode. */
  cell(at: number | Derive): I64 {
    return this.#node('i64', 'cell', [], typeof at === 'number' ? { value: at } : { derive: at });
  }
  cell32(at: number | Derive): I32 {
    return this.#node('i32', 'cell', [], typeof at === 'number' ? { value: at } : { derive: at });
  }
  setCell(at: number | Derive, v: Int): void {
    this.#effect('setCell', [v], typeof at === 'number' ? { value: at } : { derive: at });
  }

  // --- flags -------------------------------------------------------------------------------------------------
  /** NZCV := flags of a + c, of their width. */
  flagsAdd<T extends Int>(a: T, c: T): void {
    this.#effect('flags', [a, c], { kind: 'add' });
  }
  /** NZCV := flags of a - c. */
  flagsSub<T extends Int>(a: T, c: T): void {
    this.#effect('flags', [a, c], { kind: 'sub' });
  }
  /** N and Z of v, C = V = 0 (logical instructions). */
  flagsLogic(v: Int): void {
    this.#effect('flags', [v, this.c(v, 0)], { kind: 'add' });
  }
  /** NZCV := bits 31:28 of v. */
  setNZCV(v: I32): void {
    this.#effect('setNZCV', [v]);
  }
  nzcv(): I32 {
    return this.#node('i32', 'nzcv', []);
  }
  /** 1 when condition `cond` (0..15, Arm ARM C1.2.4) holds. */
  cond(cond: number): I32 {
    return this.#node('i32', 'cond', [], { value: cond });
  }
  carry(): I32 {
    return this.#node('i32', 'carry', []);
  }

  // --- memory ------------------------------------------------------------------------------------------------
  /**
   * Checks that [address, address + size) may be accessed and yields the place to `load` from and `store` to. May appear
   * inside an `if`. `size` 1..64 bytes (DC ZVA: the block).
   */
  mem(address: I64, size: number, access: Access, options: MemOptions = {}): I32 {
    return this.#node('i32', 'mem', [address], { size, access, mem: options });
  }
  /** A wasm load (`i64.load16_s`, `v128.load`, `i32.load8_u` ...) at `m` + offset. */
  load(name: string, m: I32, offset = 0): Val {
    return this.#node(resultType(name), 'load', [m], { name, value: offset });
  }
  /** A wasm store (`i64.store32`, `v128.store` ...). */
  store(name: string, m: I32, v: Val, offset = 0): void {
    this.#effect('store', [m, v], { name, value: offset });
  }

  // --- control flow ------------------------------------------------------------------------------------------
  pc(): I64 {
    return this.#node('i64', 'pc', []);
  }
  /** Virtual time at this instruction, in ns (clock.ts). */
  now(): I64 {
    return this.#node('i64', 'now', []);
  }
  /** PC := PC + offset (bytes, derived at decode). Ends the handler. */
  branch(offset: Derive): void {
    this.#effect('branch', [], { derive: offset });
  }
  /** The same if `cond` is not zero; otherwise the next instruction follows. */
  branchIf(cond: I32, offset: Derive): void {
    this.if(cond, () => this.branch(offset));
  }
  /** PC := target. */
  jump(target: I64, landing?: Landing): void {
    this.#effect('jump', [target], landing && { kind: landing });
  }
  /** Leaves generated code at this instruction; TypeScript decides whether it retires and where PC goes. */
  exit(kind: ExitKind): void {
    this.#effect('exit', [], { kind });
  }
  /** Effects under a condition. Values made inside must not be used outside. */
  if(cond: I32, then: () => void, otherwise?: () => void): void {
    this.#effect('if', [cond]);
    then();
    if (otherwise) {
      this.#effect('else', []);
      otherwise();
    }
    this.#effect('end', []);
  }

  // --- helpers (cold rows only) ------------------------------------------------------------------------------
  /** Calls helper `name`: pure in its arguments except for FPSR (see helpers.ts). */
  call<T extends Ty>(t: T, name: HelperName, args: readonly Val[]): Val<T> {
    return this.#node(t, 'call', args, { name });
  }

  /** Static fields, for code shared between rows. */
  get statics(): Raw {
    return this.#statics;
  }
}
