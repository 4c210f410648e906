/**
 * The functions of the interpreter: the loop over records in its two copies, `run` around it, and cold handlers. What they are
 * is told in interpreter.ts.
 */
import { KNOWN_LANDINGS, LANDING, type Landing } from './branch-targets.ts';
import type { Ir, Ty } from './builder.ts';
import { ADD, emitHandler, FLAG_CELL, type Frame, PACKED, pushPacked, SUB } from './emit.ts';
import {
  ARRIVALS_BIAS,
  AUX,
  CELL,
  CODE_ENTRIES,
  CODE_ENTRY,
  CODE_TLB,
  CODE_TLB_OFFSET,
  DATA_TLB,
  EXIT,
  INFO_ALIGN_SHIFT,
  INFO_ELEMENT_SHIFT,
  INFO_SIZE,
  INFO_UNPRIVILEGED,
  INFO_WRITES,
  PAGE_RECORDS,
  RECORD,
  TLB,
  TLB_ENTRIES,
  TLB_ENTRY,
  WATCH,
  WATCHES,
} from './layout.ts';
import type { OperandLayout } from './operands.ts';
import { VP, WINDOW } from './vp-state.ts';
import { Code, type Label } from './wasm/encoder.ts';
import type { ModuleWriter } from './wasm/module.ts';

/** Handlers that are not rows; 0 is a record that is not decoded yet. */
export const BREAKPOINT_HANDLER = 1;
export const SENTINEL = 2;
export const FIRST_ROW = 3;

/** Below this many instructions the fast loop hands over to the exact one: a page, its sentinel, and the branch into it. */
export const FAST_LIMIT = PAGE_RECORDS + 8;

/** A handler of the loop function. Branching rows have two: within the page and beyond. */
export interface HotHandler {
  readonly ir: Ir;
  readonly layout: OperandLayout;
  readonly far: boolean;
  /**
   * A conditional branch that directly follows and is done with it: the kind of the flags is known and a dispatch saved. Only in
   * the fast loop; the exact one does the first instruction only.
   */
  readonly branch?: HotHandler;
}

/** The kind of flags that a handler sets, if it does nothing but compute: the first of a fused pair. */
export function setsFlags(ir: Ir): number | undefined {
  const simple = new Set(['const', 'imm', 'readX', 'writeX', 'flags']);
  let kind: number | undefined;
  for (const n of ir.nodes) {
    if (!simple.has(n.op) && !/^i(32|64)\./.test(n.op)) return undefined;
    if (n.op === 'flags') kind = n.kind === 'add' ? ADD : SUB;
  }
  return kind;
}

/** The condition of a handler that is nothing but a branch on it. */
export function branchCondition(ir: Ir): number | undefined {
  const [cond, test, branch, end] = ir.nodes;
  const isBranch = ir.nodes.length === 4 && cond.op === 'cond' && test.op === 'if' && branch.op === 'branch' && end.op === 'end';
  return isBranch ? Number(cond.value) : undefined;
}

/** Pairs worth a handler: every comparison, and sums (logical operations are sums with 0) against zero. VS and VC are rare. */
export const isFused = (kind: number, cond: number): boolean =>
  kind === SUB ? (cond & ~1) !== 6 && cond < 14 : cond < 2 || (cond & ~1) === 4;

/** Handlers of `KNOWN_LANDINGS`, in that order. */
export type LandingHandlers = readonly number[];

/** Pushes the bit of `LANDING` for the record at the address in local `rec`. */
export function pushLandingBit(code: Code, rec: number, landings: LandingHandlers): void {
  code.i32(0);
  KNOWN_LANDINGS.forEach(([, bit], i) => {
    code.get(rec).mem('i32.load16_u').i32(landings[i]).op('i32.eq').i32(Math.log2(bit)).op('i32.shl').op('i32.or');
  });
}

/** Pushes what the jump whose record is at the address in local `rec` may land on. */
function pushLanding(code: Code, landing: Landing, rec: number): void {
  code.i32(LANDING[landing]);
  // From a page that is not guarded every BR is like a veneer's.
  if (landing === 'jump') code.i32(LANDING.veneer).get(rec).i32(0).mem('i32.load', CELL.GUARDED).op('i32.ge_u').op('select');
}

/** Where instructions of this kind are counted. */
const countersOf = (ir: Ir): number[] => [
  ...(ir.nodes.some((n) => n.op === 'load' || n.op === 'store') ? [CELL.ACCESSES] : []),
  ...(ir.nodes.some((n) => n.op === 'branch' || n.op === 'jump') ? [CELL.BRANCHES] : []),
];

/** The frame, counting the instruction where it retires. */
function counted(code: Code, ir: Ir, frame: Frame): Frame {
  const count = () => {
    for (const at of countersOf(ir)) code.i32(0).i32(0).mem('i32.load', at).i32(1).op('i32.add').mem('i32.store', at);
  };
  return {
    ...frame,
    next: () => {
      count();
      frame.next();
    },
    branch: () => {
      count();
      frame.branch();
    },
    jump: (landing) => {
      count();
      frame.jump(landing);
    },
  };
}

/** `threshold`: taken branches to one place after which the fast loop leaves there; undefined: they are not counted. */
export function emitLoop(
  handlers: readonly HotHandler[],
  exact: boolean,
  landings: LandingHandlers,
  threshold?: number,
  counting = false,
): Code {
  const code = new Code([], ['i32']);
  const rec = code.local('i32');
  const s = code.local('i32');
  const fk = code.local('i32');
  const tlb = code.local('i32');
  const codeTlb = code.local('i32');
  const exit = code.local('i32');
  const info = code.local('i32');
  const t = code.local('i32');
  const arrivals = code.local('i32');
  const fa = code.local('i64');
  const fb = code.local('i64');
  const pcb = code.local('i64');
  const missVa = code.local('i64');
  const target = code.local('i64');
  const cell = (name: string, at: number) => code.i32(0).mem(name, at);

  // Temporaries are dead at handler boundaries: handlers share them by type.
  const pool = new Map<Ty, number[]>();
  const taken = new Map<Ty, number>();
  const local = (type: Ty): number => {
    const free = pool.get(type) ?? [];
    pool.set(type, free);
    const n = taken.get(type) ?? 0;
    taken.set(type, n + 1);
    if (n === free.length) free.push(code.local(type));
    return free[n];
  };

  cell('i32.load', CELL.REC);
  code.tee(rec);
  cell('i32.load', CELL.REM);
  code.op('i32.add').set(s);
  cell('i64.load', WINDOW + VP.PC);
  code.get(rec).i32(3).op('i32.shr_u').op('i64.extend_i32_u').op('i64.sub').set(pcb);
  cell('i64.load', FLAG_CELL.a);
  code.set(fa);
  cell('i64.load', FLAG_CELL.b);
  code.set(fb);
  cell('i32.load', FLAG_CELL.k);
  code.set(fk);
  cell('i32.load', WINDOW + VP.REGIME);
  code.i32(DATA_TLB).op('i32.mul');
  cell('i32.load', CELL.TLB);
  code.op('i32.add').set(tlb);
  cell('i32.load', WINDOW + VP.EL1);
  code.i32(CODE_TLB).op('i32.mul');
  cell('i32.load', CELL.TLB);
  code.op('i32.add').i32(CODE_TLB_OFFSET).op('i32.add').set(codeTlb);

  const leave = code.block();
  const leaveJump = code.block();
  const leaveHere = code.block();
  const miss = code.block();
  const budget = code.block();
  const arrived = code.block();
  const top = code.loop();
  if (exact) code.get(rec).get(s).op('i32.ge_s').brIf(budget);
  const cold = code.block();
  const jump = code.block();
  const land = code.block();
  const pack = code.block();
  const labels: Label[] = [];
  const count = FIRST_ROW + handlers.length;
  for (let i = count - 1; i >= 0; i--) labels[i] = code.block();
  code.get(rec).mem('i32.load16_u').brTable(labels, cold);

  const leaveWith = (value: number) => code.i32(value).set(exit).br(leaveHere);
  /** After `s` and `rec` are those of the target. */
  const arrive = () => {
    if (!exact)
      code
        .get(s)
        .get(rec)
        .op('i32.sub')
        .i32(FAST_LIMIT * RECORD)
        .op('i32.lt_s')
        .brIf(budget);
    if (!exact && threshold !== undefined) {
      code.get(rec).i32(3).op('i32.shr_u').tee(t).mem('i32.load', ARRIVALS_BIAS).tee(arrivals);
      code.i32(threshold).op('i32.ge_s').brIf(arrived);
      code.get(t).get(arrivals).i32(1).op('i32.add').mem('i32.store', ARRIVALS_BIAS);
    }
    code.br(top);
  };
  const pc = () => code.get(pcb).get(rec).i32(3).op('i32.shr_u').op('i64.extend_i32_u').op('i64.add');
  const frame = (far: boolean, kind?: number): Frame => ({
    code,
    rec,
    local,
    kind,
    flag: (which) => code.get(which === 'a' ? fa : which === 'b' ? fb : fk),
    setFlags: (kind) => code.set(fb).set(fa).i32(kind).set(fk),
    repack: () => code.br(pack),
    pc,
    remaining: () => code.get(s).get(rec).op('i32.sub'),
    tlb: () => code.get(tlb),
    missIf: (va, what) => code.get(va).set(missVa).i32(what).set(info).brIf(miss),
    exit: leaveWith,
    branch: () => {
      if (far) {
        pc();
        code.get(rec).mem('i64.load32_s', AUX).op('i64.add').set(target).br(jump);
        return;
      }
      code.get(rec).mem('i32.load', AUX).tee(t).get(s).op('i32.add').i32(RECORD).op('i32.sub').set(s);
      code.get(rec).get(t).op('i32.add').set(rec);
      arrive();
    },
    jump: (landing) => {
      code.set(target);
      if (landing) {
        code.i32(0).get(s).get(rec).op('i32.sub').i32(RECORD).op('i32.sub');
        pushLanding(code, landing, rec);
        code.op('i32.add').mem('i32.store', CELL.JUMP).br(land);
      } else code.br(jump);
    },
    next: () => code.get(rec).i32(RECORD).op('i32.add').set(rec).br(top),
    helper: (name) => {
      throw new Error(`helper ${name} in the loop function`);
    },
  });

  code.end();
  leaveWith(EXIT.UNDECODED);
  code.end();
  leaveWith(EXIT.BREAKPOINT);
  // The sentinel is no instruction: what `jump` takes off the budget is given back first.
  code.end();
  code.get(s).i32(RECORD).op('i32.add').set(s);
  pc();
  code.set(target).br(jump);
  for (const h of handlers) {
    code.end();
    taken.clear();
    if (h.branch && !exact) {
      emitHandler(h.ir, h.layout, { ...frame(false), next: () => code.get(rec).i32(RECORD).op('i32.add').set(rec) });
      emitHandler(h.branch.ir, h.branch.layout, frame(h.branch.far, setsFlags(h.ir)));
    } else emitHandler(h.ir, h.layout, counting ? counted(code, h.ir, frame(h.far)) : frame(h.far));
  }
  taken.clear();

  code.end(); // pack
  pushPacked(frame(false));
  code.op('i64.extend_i32_u').i64(0).set(fb).set(fa).i32(PACKED).set(fk).br(top);

  /** To `target`, by the code TLB. A misaligned target matches no tag. `checked`: only if it may land there, if the page is guarded. */
  const go = (checked: boolean) => {
    const leaveAfter = () => code.get(s).i32(RECORD).op('i32.sub').set(s).i32(EXIT.JUMP).set(exit).br(leaveJump);
    code
      .get(target)
      .i64(12 - Math.log2(CODE_ENTRY))
      .op('i64.shr_u')
      .op('i32.wrap_i64')
      .i32((CODE_ENTRIES - 1) * CODE_ENTRY)
      .op('i32.and');
    code.get(codeTlb).op('i32.add').tee(t).mem('i64.load').get(target).i64(~0xffcn).op('i64.and').op('i64.ne');
    code.if();
    leaveAfter();
    code
      .end()
      .get(t)
      .mem('i32.load', 8)
      .get(target)
      .op('i32.wrap_i64')
      .i32(0xffc)
      .op('i32.and')
      .i32(3)
      .op('i32.shl')
      .op('i32.add')
      .set(t);
    if (checked) {
      code.get(t).i32(0).mem('i32.load', CELL.GUARDED).op('i32.ge_u');
      code.if();
      pushLandingBit(code, t, landings);
      code.i32(0).mem('i32.load', CELL.JUMP).op('i32.and').op('i32.eqz');
      code.if();
      leaveAfter();
      code.end().end();
    }
    code.get(s).get(rec).op('i32.sub').i32(RECORD).op('i32.sub').get(t).op('i32.add').set(s);
    code.get(t).set(rec);
    code.get(target).get(rec).i32(3).op('i32.shr_u').op('i64.extend_i32_u').op('i64.sub').set(pcb);
    arrive();
  };
  code.end(); // land
  go(true);
  code.end(); // jump
  go(false);

  code.end(); // cold
  leaveWith(EXIT.COLD);
  code.end(); // loop
  code.op('unreachable');
  code.end(); // arrived
  leaveWith(EXIT.ARRIVED);
  code.end(); // budget
  leaveWith(EXIT.BUDGET);
  code.end(); // miss
  code.i32(0).get(missVa).mem('i64.store', CELL.VA).i32(0).get(info).mem('i32.store', CELL.INFO);
  leaveWith(EXIT.MISS);
  code.end(); // leaveHere
  code.i32(0);
  pc();
  code.mem('i64.store', WINDOW + VP.PC).br(leave);
  code.end(); // leaveJump
  code
    .i32(0)
    .get(target)
    .mem('i64.store', WINDOW + VP.PC);
  code.end(); // leave
  code.i32(0).get(rec).mem('i32.store', CELL.REC);
  code.i32(0).get(s).get(rec).op('i32.sub').mem('i32.store', CELL.REM);
  code.i32(0).get(fa).mem('i64.store', FLAG_CELL.a);
  code.i32(0).get(fb).mem('i64.store', FLAG_CELL.b);
  code.i32(0).get(fk).mem('i32.store', FLAG_CELL.k);
  code.get(exit);
  return code;
}

/** `run(exact)`: the loop, and cold handlers between its rounds; and writes beside watched bytes of a page. */
export function emitRun(module: ModuleWriter, fast: number, exact: number, firstCold: number): Code {
  const code = new Code(['i32'], ['i32']);
  const result = code.local('i32');
  const rec = code.local('i32');
  const again = code.loop();
  const load = (name: string, at: number) => code.i32(0).mem(name, at);
  /** Leaves unless the result on the stack is `value`. */
  const unlessIs = (value: number) => {
    code.tee(result).i32(value).op('i32.ne');
    code.if();
    code.get(result).ret().end();
  };
  /** REC and PC go to the next instruction. */
  const advance = () => {
    code.i32(0).get(rec).i32(RECORD).op('i32.add').mem('i32.store', CELL.REC);
    code.i32(0);
    load('i64.load', WINDOW + VP.PC);
    code
      .i64(4)
      .op('i64.add')
      .mem('i64.store', WINDOW + VP.PC);
  };
  const callCold = () => {
    load('i32.load', CELL.REC);
    code
      .tee(rec)
      .get(rec)
      .mem('i32.load16_u')
      .i32(firstCold)
      .op('i32.sub')
      .callIndirect(module.type(['i32'], ['i32']));
  };
  code.get(0);
  code.if('i32');
  code.call(exact).else().call(fast).end();
  code.tee(result).i32(EXIT.MISS).op('i32.eq');
  code.if();
  emitWatchedPage(code, again, () => {
    // Just the instruction, to its end.
    code.call(exact).tee(result).i32(EXIT.COLD).op('i32.eq');
    code.if();
    callCold();
    code.tee(result).op('i32.eqz');
    code.if();
    advance();
    code.i32(0).i32(0).mem('i32.store', CELL.REM).i32(EXIT.BUDGET).set(result).end().end();
    return result;
  });
  code.end();
  code.get(result);
  unlessIs(EXIT.COLD);
  callCold();
  code.tee(result).i32(EXIT.PASS).op('i32.eq').brIf(again);
  code.get(result);
  unlessIs(EXIT.NEXT);
  advance();
  code.i32(0);
  load('i32.load', CELL.REM);
  code.i32(RECORD).op('i32.sub').mem('i32.store', CELL.REM);
  code.br(again).end().op('unreachable');
  return code;
}

/**
 * A write that has missed the TLB, in a page of which only other bytes are watched: made here, with a tag for writes that is there for just
 * that. `execute` runs the instruction at REC with REM = 1 and says in which local its exit code is: BUDGET when it has retired.
 * Falls through where the access is another one.
 */
function emitWatchedPage(code: Code, again: Label, execute: () => number): void {
  const va = code.local('i64');
  const end = code.local('i64');
  const tag = code.local('i64');
  const info = code.local('i32');
  const entry = code.local('i32');
  const at = code.local('i32');
  const rem = code.local('i32');
  const load = (name: string, cell: number) => code.i32(0).mem(name, cell);
  const other = code.block();
  load('i32.load', CELL.WATCHED);
  code.op('i32.eqz').brIf(other);
  load('i32.load', CELL.INFO);
  code.set(info);
  load('i64.load', CELL.VA);
  code.set(va);
  // A write of its own EL's rights that transfers something, and is aligned as it has to be.
  code.get(info).i32(INFO_WRITES).op('i32.and').op('i32.eqz').brIf(other);
  code.get(info).i32(INFO_UNPRIVILEGED).op('i32.and').brIf(other);
  code.get(info).i32(INFO_ELEMENT_SHIFT).op('i32.shr_u').op('i32.eqz').brIf(other);
  code.get(va).op('i32.wrap_i64').i32(1).get(info).i32(INFO_ALIGN_SHIFT).op('i32.shr_u').i32(7).op('i32.and').op('i32.shl');
  code.i32(1).op('i32.sub').op('i32.and').brIf(other);
  code.get(va).get(info).i32(INFO_SIZE).op('i32.and').op('i64.extend_i32_u').op('i64.add').set(end);
  code
    .get(va)
    .i64(12 - Math.log2(TLB_ENTRY))
    .op('i64.shr_u')
    .op('i32.wrap_i64')
    .i32((TLB_ENTRIES - 1) * TLB_ENTRY)
    .op('i32.and');
  load('i32.load', WINDOW + VP.REGIME);
  code.i32(DATA_TLB).op('i32.mul').op('i32.add');
  load('i32.load', CELL.TLB);
  code.op('i32.add').tee(entry).mem('i64.load', TLB.WATCH);
  code.get(end).i64(1).op('i64.sub').i64(-4096).op('i64.and').tee(tag).op('i64.ne').brIf(other);
  code.get(entry).mem('i64.load', TLB.READ).get(tag).op('i64.ne').brIf(other);
  load('i32.load', CELL.WATCHED);
  code.i32(Math.log2(WATCH)).op('i32.shl').set(at);
  const next = code.loop();
  code.get(at).i32(WATCH).op('i32.sub').tee(at).mem('i64.load', WATCHES).get(end).op('i64.lt_u');
  code
    .get(va)
    .get(at)
    .mem('i64.load', WATCHES + 8)
    .op('i64.lt_u')
    .op('i32.and')
    .brIf(other);
  code.get(at).brIf(next).end();

  load('i32.load', CELL.REM);
  code.set(rem);
  code.get(entry).get(tag).mem('i64.store', TLB.WRITE);
  code.i32(0).i32(RECORD).mem('i32.store', CELL.REM);
  const result = execute();
  code.get(entry).i64(-1).mem('i64.store', TLB.WRITE);
  code.i32(0).get(rem).i32(RECORD).op('i32.sub');
  load('i32.load', CELL.REM);
  code.op('i32.add').mem('i32.store', CELL.REM);
  code.get(result).i32(EXIT.BUDGET).op('i32.eq');
  load('i32.load', CELL.REM);
  code.i32(0).op('i32.gt_s').op('i32.and').brIf(again);
  code.get(result).ret().end();
}

// --- cold handlers -----------------------------------------------------------------------------------------------

/** A handler as a function: the record's address -> exit code. The loop has stored everything. */
export function emitCold(ir: Ir, layout: OperandLayout, helper: (name: string) => number): Code {
  const code = new Code(['i32'], ['i32']);
  const cell = (name: string, at: number) => code.i32(0).mem(name, at);
  const a = code.local('i64');
  const b = code.local('i64');
  const retire = () => code.i32(0).i32(0).mem('i32.load', CELL.REM).i32(RECORD).op('i32.sub').mem('i32.store', CELL.REM);
  const fr: Frame = {
    code,
    rec: 0,
    local: (type) => code.local(type),
    flag: (which) => cell(which === 'k' ? 'i32.load' : 'i64.load', FLAG_CELL[which]),
    setFlags: (kind) => {
      code.set(b).set(a);
      code.i32(0).get(a).mem('i64.store', FLAG_CELL.a).i32(0).get(b).mem('i64.store', FLAG_CELL.b);
      code.i32(0).i32(kind).mem('i32.store', FLAG_CELL.k);
    },
    pc: () => cell('i64.load', WINDOW + VP.PC),
    remaining: () => cell('i32.load', CELL.REM),
    tlb: () => {
      cell('i32.load', WINDOW + VP.REGIME);
      code.i32(DATA_TLB).op('i32.mul');
      cell('i32.load', CELL.TLB);
      code.op('i32.add');
    },
    missIf: (va, what) => {
      code.if();
      code.i32(0).get(va).mem('i64.store', CELL.VA).i32(0).i32(what).mem('i32.store', CELL.INFO).i32(EXIT.MISS).ret().end();
    },
    exit: (value) => code.i32(value).ret(),
    branch: () => {
      code.i32(0);
      cell('i64.load', WINDOW + VP.PC);
      code
        .get(0)
        .mem('i64.load32_s', AUX)
        .op('i64.add')
        .mem('i64.store', WINDOW + VP.PC);
      retire();
      code.i32(EXIT.JUMP).ret();
    },
    jump: (landing) => {
      code
        .set(a)
        .i32(0)
        .get(a)
        .mem('i64.store', WINDOW + VP.PC);
      retire();
      if (landing) {
        code.i32(0).i32(0).mem('i32.load', CELL.REM);
        pushLanding(code, landing, 0);
        code.op('i32.add').mem('i32.store', CELL.JUMP);
      }
      code.i32(EXIT.JUMP).ret();
    },
    next: () => code.i32(EXIT.NEXT).ret(),
    helper,
  };
  emitHandler(ir, layout, counted(code, ir, fr));
  code.op('unreachable');
  return code;
}
