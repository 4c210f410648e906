/**
 * From the recorded steps of an instruction (builder.ts) to WebAssembly. Where the flags are, how a handler leaves and how it
 * goes on is the business of the `Frame` that it is emitted into: the loop function or a function of its own (loop.ts).
 */
import type { Landing } from './branch-targets.ts';
import type { Access, ExitKind, Ir, Node, Ty } from './builder.ts';
import { accessInfo, CELL, EXIT, kindCode, RECORD_SHIFT, TLB, TLB_ENTRIES, TLB_ENTRY } from './layout.ts';
import type { OperandLayout } from './operands.ts';
import { VP, WINDOW } from './vp-state.ts';
import type { Code } from './wasm/encoder.ts';

/** The two places where handlers are emitted: the loop function and functions of their own. */
export interface Frame {
  readonly code: Code;
  /** Local that holds the address of the record. */
  readonly rec: number;
  local(type: Ty): number;
  /** Pushes FA, FB or FK. */
  flag(which: 'a' | 'b' | 'k'): void;
  /** FA and FB (on the stack) and the kind become the flags. */
  setFlags(kind: number): void;
  /** The kind that this handler has set. */
  readonly kind?: number;
  /** Goes to code that packs NZCV (FK = 2) and runs the handler again; only while it has changed nothing. */
  readonly repack?: () => void;
  /** Pushes the address of this instruction. */
  pc(): void;
  /** Pushes the instructions that may still run, this one included, in the units of `CELL.REM`. */
  remaining(): void;
  /** Pushes the address of the data TLB of the current regime. */
  tlb(): void;
  /** Leaves if the i32 on the stack is not zero: the access at the i64 in local `va` cannot be made here. */
  missIf(va: number, info: number): void;
  /** Leaves. */
  exit(code: number): void;
  /** Takes the branch whose distance is in the record. */
  branch(): void;
  /** Goes to the i64 on the stack; `landing`: see branch-targets.ts. */
  jump(landing?: Landing): void;
  /** The instruction retired; the next one follows. */
  next(): void;
  /** Imported helper function. */
  helper(name: string): number;
}

/** What reading the flags needs. */
export type FlagFrame = Pick<Frame, 'code' | 'local' | 'flag'>;

export const SUB = 0;
export const ADD = 1;
export const PACKED = 2;
export const FLAG_CELL = { a: WINDOW + VP.FA, b: WINDOW + VP.FB, k: WINDOW + VP.FK } as const;

/** Pushes NZCV in bits 31:28 of the flags of kind SUB or ADD. */
export function pushPacked(fr: FlagFrame): void {
  const { code } = fr;
  const r = fr.local('i64');
  const isAdd = fr.local('i32');
  const both = () => {
    fr.flag('a');
    fr.flag('b');
  };
  fr.flag('k');
  code.set(isAdd);
  both();
  code.op('i64.add');
  both();
  code.op('i64.sub').get(isAdd).op('select').set(r);
  // N
  code.get(r).i64(0).op('i64.lt_s').i32(31).op('i32.shl');
  // Z
  code.get(r).op('i64.eqz').i32(30).op('i32.shl').op('i32.or');
  // C: no borrow, or carry
  code.get(r);
  fr.flag('a');
  code.op('i64.lt_u');
  both();
  code.op('i64.ge_u').get(isAdd).op('select').i32(29).op('i32.shl').op('i32.or');
  // V: the result's sign is not FA's although the operands' signs are equal (ADD) or differ (SUB)
  fr.flag('a');
  code.get(r).op('i64.xor');
  fr.flag('b');
  code.get(r).op('i64.xor');
  both();
  code.op('i64.xor').get(isAdd).op('select').op('i64.and').i64(0).op('i64.lt_s').i32(28).op('i32.shl').op('i32.or');
}

/** Pushes NZCV in bits 31:28, whatever the kind. */
export function pushNZCV(fr: FlagFrame): void {
  fr.flag('k');
  fr.code.i32(PACKED).op('i32.eq');
  fr.code.if('i32');
  fr.flag('a');
  fr.code.op('i32.wrap_i64').else();
  pushPacked(fr);
  fr.code.end();
}

/** Comparison of FA and FB that the even conditions are after SUB: EQ CS - - HI GE GT (Arm ARM C1.2.4). */
const COMPARISON = ['eq', 'ge_u', '', '', 'gt_u', 'ge_s', 'gt_s'];
const INVERTED: Record<string, string> = { eq: 'ne', ge_u: 'lt_u', gt_u: 'le_u', ge_s: 'lt_s', gt_s: 'le_s', lt_s: 'ge_s' };
const HOLDS: ((n: boolean, z: boolean, c: boolean, v: boolean) => boolean)[] = [
  (_n, z) => z,
  (_n, _z, c) => c,
  (n) => n,
  (_n, _z, _c, v) => v,
  (_n, z, c) => c && !z,
  (n, _z, _c, v) => n === v,
  (n, z, _c, v) => n === v && !z,
];
/** Bit i: the condition holds when NZCV = i. */
export const truth = (cond: number): number => {
  let bits = 0;
  for (let i = 0; i < 16; i++)
    if (HOLDS[cond >> 1]((i & 8) !== 0, (i & 4) !== 0, (i & 2) !== 0, (i & 1) !== 0) !== ((cond & 1) === 1)) bits |= 1 << i;
  return bits;
};

/** Pushes 0 or 1: does `cond` hold? `changed`: the handler must not be run again. */
function pushCondition(fr: Frame, cond: number, changed: boolean): void {
  const { code } = fr;
  if (cond >= 14) {
    code.i32(1);
    return;
  }
  const packed = (push: () => void) => {
    code.i32(truth(cond));
    push();
    code.i32(28).op('i32.shr_u').op('i32.shr_u').i32(1).op('i32.and');
  };
  const invert = (cond & 1) === 1;
  const compare = (name: string) => code.op(`i64.${invert ? INVERTED[name] : name}`);
  const ofResult = (op: string, name: string) => {
    fr.flag('a');
    fr.flag('b');
    code.op(`i64.${op}`).i64(0);
    compare(name);
  };
  const ofPacked = () =>
    packed(() => {
      fr.flag('a');
      code.op('i32.wrap_i64');
    });
  const base = cond >> 1;
  const zeroOrSign = base === 0 || base === 2;
  const ofSub = () => {
    if (base === 2) ofResult('sub', 'lt_s');
    else if (base === 3) {
      fr.flag('a');
      fr.flag('b');
      code.op('i64.xor');
      fr.flag('a');
      fr.flag('a');
      fr.flag('b');
      code.op('i64.sub').op('i64.xor').op('i64.and').i64(0);
      compare('lt_s');
    } else {
      fr.flag('a');
      fr.flag('b');
      compare(COMPARISON[base]);
    }
  };
  const ofAdd = () => ofResult('add', base === 0 ? 'eq' : 'lt_s');
  if (fr.kind === SUB) {
    ofSub();
    return;
  }
  if (fr.kind === ADD && zeroOrSign) {
    ofAdd();
    return;
  }
  const { repack } = fr;
  if (!repack || changed) {
    packed(() => pushNZCV(fr));
    return;
  }
  fr.flag('k');
  code.op('i32.eqz');
  code.if('i32');
  ofSub();
  code.else();
  fr.flag('k');
  code.i32(ADD).op('i32.eq');
  if (zeroOrSign) {
    code.if('i32');
    ofAdd();
    code.else();
    ofPacked();
    code.end();
  } else {
    code.if();
    repack();
    code.end();
    ofPacked();
  }
  code.end();
}

/** Pushes the virtual time: one instruction is one nanosecond. */
export function pushNow(code: Code, remaining: () => void): void {
  code.i32(0).mem('i64.load', CELL.TIME_END);
  remaining();
  code.i32(RECORD_SHIFT).op('i32.shr_u').op('i64.extend_i32_u').op('i64.sub');
}

/** Pushes the carry flag. */
function pushCarry(fr: Frame): void {
  const { code } = fr;
  fr.flag('k');
  code.op('i32.eqz');
  code.if('i32');
  fr.flag('a');
  fr.flag('b');
  code.op('i64.ge_u').else();
  fr.flag('k');
  code.i32(ADD).op('i32.eq');
  code.if('i32');
  fr.flag('a');
  fr.flag('b');
  code.op('i64.add');
  fr.flag('a');
  code.op('i64.lt_u').else();
  fr.flag('a');
  code.op('i32.wrap_i64').i32(29).op('i32.shr_u').i32(1).op('i32.and').end().end();
}

// --- from nodes to instructions ----------------------------------------------------------------------------------

/** What a node reads or changes, for moving reads past effects: registers and cells, flags, guest memory. */
export const STATE = 1;
const FLAGS = 2;
const MEMORY = 4;
export const READS: Record<string, number> = {
  readX: STATE,
  readV: STATE,
  cell: STATE,
  cond: FLAGS,
  carry: FLAGS,
  nzcv: FLAGS,
  load: MEMORY,
};
export const WRITES: Record<string, number> = {
  writeX: STATE,
  writeV: STATE,
  setCell: STATE,
  flags: FLAGS,
  setNZCV: FLAGS,
  store: MEMORY,
  call: STATE,
  if: STATE | FLAGS | MEMORY,
};
const CONTROL = new Set(['branch', 'jump', 'exit']);

export const memoryWidth = (name: string): number => {
  const m = /(?:load|store)(\d+)/.exec(name);
  return m ? Number(m[1]) / 8 : name.startsWith('v128') ? 16 : /^[if]64/.test(name) ? 8 : 4;
};

/** True when the handler never goes on with the next instruction. */
export const endsBlock = (ir: Ir): boolean => ir.nodes.length > 0 && CONTROL.has(ir.nodes[ir.nodes.length - 1].op);

/** Emits one handler. Pure values used once are computed where they are used, others go through locals. */
export function emitHandler(ir: Ir, layout: OperandLayout, fr: Frame): void {
  const { nodes } = ir;
  const { code } = fr;
  const uses = new Array<number>(nodes.length).fill(0);
  for (const n of nodes) for (const a of n.args) uses[a]++;
  const local = new Array<number>(nodes.length).fill(-1);
  /** Values not computed yet that nothing but their one user waits for, with what they read. */
  const pending = new Map<number, number>();
  let changed = false;

  const push = (id: number): void => {
    if (local[id] >= 0) {
      code.get(local[id]);
      return;
    }
    pending.delete(id);
    compute(nodes[id]);
  };
  const toLocal = (n: Node): void => {
    compute(n);
    local[n.id] = fr.local(n.t as Ty);
    code.set(local[n.id]);
  };
  /** What computing `id` here would read. */
  const readsOf = (id: number): number => (local[id] >= 0 ? 0 : (pending.get(id) ?? 0));

  const compute = (n: Node): void => {
    switch (n.op) {
      case 'const':
        if (n.t === 'i32') code.i32(n.value as number);
        else if (n.t === 'i64') code.i64(n.value as bigint);
        else code.v128(n.value as bigint);
        return;
      case 'imm':
        layout.fetch(code, fr.rec, n);
        return;
      case 'readX':
        if (n.field === undefined) code.i32(WINDOW + (n.sp ? VP.SP : VP.X + 8 * (n.index as number)));
        else layout.fetch(code, fr.rec, n);
        code.mem(`${n.t}.load`);
        return;
      case 'readV':
        layout.fetch(code, fr.rec, n);
        code.mem('v128.load');
        return;
      case 'cell':
        if (n.derive) {
          layout.fetch(code, fr.rec, n);
          code.mem(`${n.t}.load`);
        } else code.i32(0).mem(`${n.t}.load`, WINDOW + Number(n.value));
        return;
      case 'pc':
        fr.pc();
        return;
      case 'now':
        pushNow(code, () => fr.remaining());
        return;
      case 'nzcv':
        pushNZCV(fr);
        return;
      case 'cond':
        pushCondition(fr, Number(n.value), changed);
        return;
      case 'carry':
        pushCarry(fr);
        return;
      case 'load':
        push(n.args[0]);
        code.mem(n.name as string, Number(n.value));
        return;
      case 'mem':
        computeMem(n);
        return;
      case 'call':
        for (const a of n.args) push(a);
        code.call(fr.helper(n.name as string));
        return;
      default: {
        const lane = /^([if])(\d+)x\d+\.extract_lane(_[su])?$/.exec(n.op);
        const vector = lane && nodes[n.args[0]];
        if (lane && vector && vector.op === 'readV' && local[vector.id] < 0) {
          // One lane of a register: load just that.
          pending.delete(vector.id);
          layout.fetch(code, fr.rec, vector);
          const bits = Number(lane[2]);
          const name = bits < 32 ? `i32.load${bits}${lane[3]}` : `${lane[1]}${bits}.load`;
          code.mem(name, ((n.imm as readonly number[])[0] * bits) / 8);
          return;
        }
        for (const a of n.args) push(a);
        code.op(n.op, n.imm);
      }
    }
  };

  /** Pushes the wasm address for an access, or leaves. */
  const computeMem = (n: Node): void => {
    const size = n.size as number;
    const access = n.access as Access;
    const { align = 1, ordered = false, unprivileged = false } = n.mem ?? {};
    let element = 0;
    for (const u of nodes)
      if ((u.op === 'load' || u.op === 'store') && u.args[0] === n.id) element = Math.max(element, memoryWidth(u.name as string));
    const info = accessInfo(size, access, align, ordered, unprivileged, element);
    const address = n.args[0];
    let va = local[address];
    if (va < 0) {
      push(address);
      va = fr.local('i64');
      code.set(va);
    }
    if (align > 1) {
      code
        .get(va)
        .op('i32.wrap_i64')
        .i32(align - 1)
        .op('i32.and');
      code.if();
      code.i32(0).mem('i32.load', CELL.MISALIGNED).op('i32.eqz');
      fr.missIf(va, info);
      code.end();
    }
    const entry = fr.local('i32');
    code
      .get(va)
      .i64(12 - Math.log2(TLB_ENTRY))
      .op('i64.shr_u')
      .op('i32.wrap_i64')
      .i32((TLB_ENTRIES - 1) * TLB_ENTRY)
      .op('i32.and');
    if (unprivileged) code.i32(0).mem('i32.load', CELL.TLB);
    else fr.tlb();
    code
      .op('i32.add')
      .tee(entry)
      .mem('i64.load', access === 'r' ? TLB.READ : TLB.WRITE);
    code.get(va);
    if (size > 1) code.i64(size - 1).op('i64.add');
    code.i64(-4096).op('i64.and').op('i64.ne');
    fr.missIf(va, info);
    code.get(va).op('i32.wrap_i64').get(entry).mem('i32.load', TLB.ADDEND).op('i32.add');
  };

  /** Computes now what waits and reads something in `writes`, unless `n` itself is what it waits for. */
  const settle = (n: Node, writes: number): void => {
    const mine = new Set<number>();
    const own = (id: number): void => {
      mine.add(id);
      if (local[id] < 0) for (const a of nodes[id].args) own(a);
    };
    for (const a of n.args) own(a);
    for (const [id, reads] of [...pending])
      if (reads & writes && !mine.has(id)) {
        pending.delete(id);
        toLocal(nodes[id]);
      }
  };

  const effect = (n: Node): void => {
    switch (n.op) {
      case 'writeX':
        if (n.field === undefined) code.i32(WINDOW + VP.X + 8 * (n.index as number));
        else layout.fetch(code, fr.rec, n);
        push(n.args[0]);
        if (nodes[n.args[0]].t === 'i32') code.op('i64.extend_i32_u');
        code.mem('i64.store');
        break;
      case 'writeV':
        layout.fetch(code, fr.rec, n);
        push(n.args[0]);
        code.mem('v128.store');
        break;
      case 'setCell': {
        if (n.derive) layout.fetch(code, fr.rec, n);
        else code.i32(0);
        push(n.args[0]);
        code.mem(`${nodes[n.args[0]].t}.store`, n.derive ? 0 : WINDOW + Number(n.value));
        break;
      }
      case 'store':
        push(n.args[0]);
        push(n.args[1]);
        code.mem(n.name as string, Number(n.value));
        break;
      case 'flags':
        for (const a of n.args) {
          push(a);
          if (nodes[a].t === 'i32') code.op('i64.extend_i32_u').i64(32).op('i64.shl');
        }
        fr.setFlags(n.kind === 'add' ? ADD : SUB);
        break;
      case 'setNZCV':
        push(n.args[0]);
        code.i32(0xf0000000).op('i32.and').op('i64.extend_i32_u').i64(0);
        fr.setFlags(PACKED);
        break;
      case 'branch':
        fr.branch();
        break;
      case 'jump':
        push(n.args[0]);
        fr.jump(n.kind as Landing | undefined);
        break;
      case 'exit':
        fr.exit(kindCode(n.kind as ExitKind));
        break;
      case 'if':
        push(n.args[0]);
        code.if();
        break;
      case 'else':
        code.else();
        break;
      case 'end':
        code.end();
        break;
      default:
        throw new Error(`${ir.insn.name}: node ${n.op}`);
    }
  };

  if (ir.insn.options.fp) {
    code
      .i32(0)
      .mem('i32.load', WINDOW + VP.FP_ENABLED)
      .op('i32.eqz');
    code.if();
    fr.exit(EXIT.FP_TRAP);
    code.end();
  }
  for (const n of nodes) {
    if (n.t === 'void') {
      settle(n, WRITES[n.op] ?? 0);
      effect(n);
      if (WRITES[n.op] && n.op !== 'if') changed = true;
    } else if (n.op === 'mem') toLocal(n);
    else if (n.op === 'call') {
      settle(n, STATE);
      toLocal(n);
      changed = true;
    } else if (uses[n.id] === 0) continue;
    else if (uses[n.id] === 1 || n.op === 'const') {
      let reads = READS[n.op] ?? 0;
      for (const a of n.args) {
        reads |= readsOf(a);
        if (nodes[a].op !== 'const') pending.delete(a);
      }
      // A constant may have many users and is never settled: it reads nothing.
      pending.set(n.id, reads);
    } else toLocal(n);
  }
  if (!endsBlock(ir)) fr.next();
}
