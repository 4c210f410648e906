/**
 * WebAssembly for a region: one function from the number of an entry to why it was left (`LEFT`). Guest registers, flags and the
 * budget are in locals; they are loaded at entries and stored where the region is left. There are no calls: what the
 * interpreter has to do is left to it, at the instruction and before that has changed anything.
 */
import { LANDING, type Landing } from '../branch-targets.ts';
import type { Access, Node, Ty } from '../builder.ts';
import { pushNow, READS, WRITES } from '../emit.ts';
import {
  CELL,
  CODE_ENTRIES,
  CODE_ENTRY,
  CODE_TLB,
  CODE_TLB_OFFSET,
  DATA_TLB,
  PAGE_RECORDS,
  RECORD,
  TLB,
  TLB_ENTRIES,
  TLB_ENTRY,
} from '../layout.ts';
import { VP, WINDOW } from '../vp-state.ts';
import { Code, type Label } from '../wasm/encoder.ts';
import { type FlagKind, Flags, KIND } from './flags.ts';
import { conditionalCompare, kindOf, type Plan, SP } from './plan.ts';
import { type Block, type CodePage, type ExitGroup, type Item, longestPath, type Region } from './region.ts';

/** What a region's function returns. PC, flags and `CELL.REM` are stored. */
export const LEFT = {
  /** `CELL.REC` is the instruction at PC, and the interpreter has to do it. */
  INTERPRET: 0,
  /** A branch went to PC. */
  JUMP: 1,
  /** The same, and `CELL.REC` is stored. */
  NEAR: 2,
} as const;

const PAGE = 4096;
const registerCell = (n: number): number => WINDOW + (n === SP ? VP.SP : VP.X + 8 * n);
const vectorCell = (n: number): number => WINDOW + VP.V + 16 * n;

/** A place that branches go to: a label, and what `lbl` must be for the dispatch behind it (-1: there is none). */
interface Target {
  readonly label: Label;
  readonly number: number;
}

interface Scope {
  readonly outer: Scope | undefined;
  readonly targets: Map<Block, Target>;
}

/** In a jump table's numbers: bits of `LANDING` that let a jump land on the entry. */
export const LANDING_SHIFT = 24;

/** Where the entries reached by jumps are looked up: `size` (a power of two) pairs of i32 at `address`. */
export interface JumpTable {
  readonly address: number;
  readonly size: number;
}

export class Generator {
  readonly #region: Region;
  readonly #code = new Code(['i32'], ['i32']);
  readonly #flags: Flags;
  readonly #table: JumpTable | undefined;
  /** Instructions that may be left when the budget is looked at, in units of REM. */
  readonly #reserve: number;
  readonly #x: number[] = [];
  readonly #v: number[] = [];
  /** PC of the first byte of the region's first page. */
  readonly #base: number;
  /** REM less the reserve. */
  readonly #rem: number;
  readonly #tlb: number;
  readonly #codeTlb: number;
  /** Pages whose mapping has been seen, a bit each. */
  readonly #seen: number;
  readonly #entry: number;
  readonly #at: number;
  readonly #target: number;
  readonly #groups: { page: CodePage; group: ExitGroup }[] = [];
  #scope: Scope | undefined;
  #dispatch: Label = 0;
  #block: Block;
  /** Number of the instruction in the block. */
  #number = 0;
  #fpSeen = false;

  // Temporaries: dead at the end of an instruction.
  readonly #free: Record<string, number[]> = { i32: [], i64: [], f32: [], f64: [], v128: [] };
  readonly #taken: Record<string, number> = { i32: 0, i64: 0, f32: 0, f64: 0, v128: 0 };

  constructor(region: Region, table: JumpTable | undefined) {
    this.#region = region;
    this.#table = table;
    this.#block = region.blocks[0];
    this.#reserve = longestPath(region) * RECORD;
    const code = this.#code;
    this.#flags = new Flags(code);
    this.#base = code.local('i64');
    this.#target = code.local('i64');
    this.#rem = code.local('i32');
    this.#tlb = code.local('i32');
    this.#codeTlb = code.local('i32');
    this.#seen = code.local('i32');
    this.#entry = code.local('i32');
    this.#at = code.local('i32');
    let usedX = 0;
    let usedV = 0;
    for (const b of region.blocks)
      for (const p of b.plans) {
        usedX |= p.readX | p.writeX;
        usedV |= p.readV | p.writeV;
      }
    for (let n = 0; n < 32; n++) {
      if (usedX & (1 << n)) this.#x[n] = code.local('i64');
      if (usedV & (1 << n)) this.#v[n] = code.local('v128');
    }
  }

  generate(items: readonly Item[]): Code {
    const code = this.#code;
    const { blocks, entries, hasJumps } = this.#region;
    this.#enter();
    // In a loop nearly all groups store the same: they share the code.
    const labels = new Map<string, Label>();
    for (const { page, groups } of blocks)
      for (const group of groups) {
        if (!group || group.label >= 0) continue;
        const key = `${page.index} ${group.dirtyX} ${group.dirtyV} ${group.dirtyFlags ? group.kind : -1}`;
        let label = labels.get(key);
        if (label === undefined) {
          label = code.block();
          labels.set(key, label);
          this.#groups.push({ page, group });
        }
        group.label = label;
      }
    if (hasJumps) this.#dispatch = code.loop();
    this.#sequence(items, hasJumps || entries.length > 1 ? entries : undefined);
    if (hasJumps) code.end();
    code.op('unreachable');
    for (const { page, group } of this.#groups.reverse()) {
      code.end();
      this.#leaveAt(page, group);
    }
    return code;
  }

  #local(type: Ty): number {
    const n = this.#taken[type]++;
    const free = this.#free[type];
    if (n === free.length) free.push(this.#code.local(type));
    return free[n];
  }

  // --- entering and leaving ------------------------------------------------------------------------------------------

  /** Pushes a constant that depends on the page of the entry. */
  #byPage(value: (page: CodePage) => number, wide: boolean): void {
    const code = this.#code;
    const push = (v: number) => (wide ? code.i64(v) : code.i32(v));
    const { entries } = this.#region;
    push(value(entries[0].page));
    for (let i = 1; i < entries.length; i++) {
      if (entries[i].page === entries[i - 1].page) continue;
      push(value(entries[i].page));
      code.get(0).i32(i).op('i32.lt_s').op('select');
    }
  }

  #enter(): void {
    const code = this.#code;
    const { entries, pages, blocks } = this.#region;
    code.i32(0).mem('i32.load', CELL.REM).i32(this.#reserve).op('i32.sub').tee(this.#rem).i32(0).op('i32.lt_s');
    code.if();
    code.i32(LEFT.INTERPRET).ret().end();
    code
      .i32(0)
      .mem('i64.load', WINDOW + VP.PC)
      .i64(-PAGE)
      .op('i64.and');
    this.#byPage((p) => p.delta, true);
    code.op('i64.sub').set(this.#base);
    if (pages.length > 1) {
      this.#byPage((p) => 1 << p.index, false);
      code.set(this.#seen);
      code
        .i32(0)
        .mem('i32.load', WINDOW + VP.EL1)
        .i32(CODE_TLB)
        .op('i32.mul');
      code.i32(0).mem('i32.load', CELL.TLB).op('i32.add').i32(CODE_TLB_OFFSET).op('i32.add').set(this.#codeTlb);
    }
    if (blocks.some((b) => b.plans.some((p) => p.mayLeave))) {
      code
        .i32(0)
        .mem('i32.load', WINDOW + VP.REGIME)
        .i32(DATA_TLB)
        .op('i32.mul');
      code.i32(0).mem('i32.load', CELL.TLB).op('i32.add').set(this.#tlb);
    }
    let x = 0;
    let v = 0;
    let flags = false;
    for (const e of entries) {
      x |= e.liveX;
      v |= e.liveV;
      flags ||= e.liveFlags;
    }
    for (let n = 0; n < 32; n++) {
      if (x & (1 << n)) code.i32(0).mem('i64.load', registerCell(n)).set(this.#x[n]);
      if (v & (1 << n)) code.i32(0).mem('v128.load', vectorCell(n)).set(this.#v[n]);
    }
    if (flags) this.#flags.load();
    code.get(0).set(this.#entry);
  }

  #store(x: number, v: number, flags: FlagKind | undefined): void {
    const code = this.#code;
    for (let n = 0; n < 32; n++) {
      if (x & (1 << n)) code.i32(0).get(this.#x[n]).mem('i64.store', registerCell(n));
      if (v & (1 << n)) code.i32(0).get(this.#v[n]).mem('v128.store', vectorCell(n));
    }
    if (flags !== undefined) this.#flags.store(flags);
  }

  /** Leaves to the interpreter, at the instruction of the page that the local `at` says (`setAt`). */
  #leaveAt(page: CodePage, group: ExitGroup): void {
    const code = this.#code;
    const record = () =>
      code
        .get(this.#at)
        .i32(PAGE_RECORDS - 1)
        .op('i32.and');
    this.#store(group.dirtyX, group.dirtyV, group.dirtyFlags ? group.kind : undefined);
    code.i32(0).get(this.#base).i64(page.delta).op('i64.add');
    record()
      .i32(2)
      .op('i32.shl')
      .op('i64.extend_i32_u')
      .op('i64.add')
      .mem('i64.store', WINDOW + VP.PC);
    code.i32(0);
    record().i32(5).op('i32.shl').i32(page.records).op('i32.add').mem('i32.store', CELL.REC);
    code
      .i32(0)
      .get(this.#rem)
      .i32(this.#reserve)
      .op('i32.add')
      .get(this.#at)
      .i32(10)
      .op('i32.shr_u')
      .i32(5)
      .op('i32.shl')
      .op('i32.add');
    code.mem('i32.store', CELL.REM).i32(LEFT.INTERPRET).ret();
  }

  #record(page: CodePage, offset: number): number {
    return page.records + ((offset & (PAGE - 1)) / 4) * RECORD;
  }

  #storeAll(): void {
    const b = this.#block;
    this.#store(b.dirtyX | b.writeX, b.dirtyV | b.writeV, b.dirtyFlags || b.writesFlags ? this.#flags.kind : undefined);
    this.#code.i32(0).get(this.#rem).i32(this.#reserve).op('i32.add').mem('i32.store', CELL.REM);
  }

  /** Leaves to `offset`, after the block. */
  #leaveTo(offset: number): void {
    const code = this.#code;
    const { page } = this.#block;
    this.#storeAll();
    code
      .i32(0)
      .get(this.#base)
      .i64(offset)
      .op('i64.add')
      .mem('i64.store', WINDOW + VP.PC);
    if ((offset & -PAGE) === page.delta) {
      code.i32(0).i32(this.#record(page, offset)).mem('i32.store', CELL.REC);
      code.i32(LEFT.NEAR).ret();
    } else code.i32(LEFT.JUMP).ret();
  }

  // --- control flow --------------------------------------------------------------------------------------------------

  #find(block: Block): Target {
    for (let s = this.#scope; s; s = s.outer) {
      const t = s.targets.get(block);
      if (t) return t;
    }
    throw new Error(`no way to 0x${block.offset.toString(16)} from 0x${this.#block.offset.toString(16)}`);
  }

  /** Items in order; `dispatched`: `entry` says with which of these blocks to begin. */
  #sequence(items: readonly Item[], dispatched: readonly Block[] | undefined): void {
    const code = this.#code;
    const scope: Scope = { outer: this.#scope, targets: new Map() };
    this.#scope = scope;
    const labels: Label[] = [];
    for (let k = items.length - 1; k >= (dispatched ? 0 : 1); k--) {
      labels[k] = code.block();
      const { heads } = items[k];
      for (const [i, h] of heads.entries()) scope.targets.set(h, { label: labels[k], number: heads.length > 1 ? i : -1 });
    }
    if (dispatched) {
      const targets = dispatched.map((b) => this.#find(b));
      if (targets.every((t, i) => t.number < 0 || t.number === i)) {
        code.get(this.#entry).brTable(
          targets.map((t) => t.label),
          targets[0].label,
        );
      } else {
        // The numbers of a loop's heads are not those of the entries.
        const stubs: Label[] = [];
        for (let i = targets.length - 1; i >= 0; i--) stubs[i] = code.block();
        code.get(this.#entry).brTable(stubs, stubs[0]);
        for (const t of targets) {
          code.end();
          if (t.number >= 0) code.i32(t.number).set(this.#entry);
          code.br(t.label);
        }
      }
    }
    items.forEach((item, k) => {
      if (labels[k] !== undefined) {
        code.end();
        for (const h of item.heads) scope.targets.delete(h);
      }
      if ('block' in item) this.#emitBlock(item.block);
      else {
        const label = code.loop();
        const loop: Scope = { outer: this.#scope, targets: new Map() };
        const { heads } = item;
        for (const [i, h] of heads.entries()) loop.targets.set(h, { label, number: heads.length > 1 ? i : -1 });
        this.#scope = loop;
        this.#sequence(item.items, heads.length > 1 ? heads : undefined);
        this.#scope = scope;
        code.op('unreachable').end();
      }
    });
    this.#scope = scope.outer;
  }

  /** True: going to `to` takes no more than a branch. */
  #isPlain(to: Block | number | undefined): to is Block {
    if (to === undefined || typeof to === 'number' || to.page !== this.#block.page) return false;
    return this.#find(to).number < 0 && !this.#wantsRuntimeFlags(to);
  }

  /** The flags must take the VP's form on the way to `to`. */
  #wantsRuntimeFlags(to: Block): boolean {
    return to.liveFlags && to.kind === KIND.RUNTIME && this.#flags.kind !== KIND.RUNTIME;
  }

  #go(to: Block | number): void {
    const code = this.#code;
    if (typeof to === 'number') {
      this.#leaveTo(to);
      return;
    }
    if (to.page !== this.#block.page) this.#see(to);
    const t = this.#find(to);
    if (t.number >= 0) code.i32(t.number).set(this.#entry);
    this.#branch(t.label, this.#wantsRuntimeFlags(to));
  }
  #branch(label: Label, runtimeFlags: boolean): void {
    const { kind } = this.#flags;
    if (runtimeFlags) this.#flags.normalise();
    this.#code.br(label);
    this.#flags.kind = kind;
  }

  /** Leaves unless the page of `to` is mapped where the region has it. */
  #see(to: Block): void {
    const code = this.#code;
    const { page } = to;
    const bit = 1 << page.index;
    code.get(this.#seen).i32(bit).op('i32.and').op('i32.eqz');
    code.if();
    const entry = this.#local('i32');
    const va = this.#local('i64');
    code
      .get(this.#base)
      .i64(page.delta)
      .op('i64.add')
      .tee(va)
      .i64(12 - Math.log2(CODE_ENTRY))
      .op('i64.shr_u')
      .op('i32.wrap_i64');
    code
      .i32((CODE_ENTRIES - 1) * CODE_ENTRY)
      .op('i32.and')
      .get(this.#codeTlb)
      .op('i32.add')
      .tee(entry);
    code.mem('i64.load').get(va).op('i64.ne').get(entry).mem('i32.load', 8).i32(page.records).op('i32.ne').op('i32.or');
    code.if();
    this.#leaveTo(to.offset);
    code.end();
    code.get(this.#seen).i32(bit).op('i32.or').set(this.#seen);
    code.end();
  }

  #emitBlock(block: Block): void {
    const code = this.#code;
    this.#block = block;
    this.#flags.kind = block.kind as FlagKind;
    this.#fpSeen = false;
    this.#number = 0;
    code
      .get(this.#rem)
      .i32(block.length * RECORD)
      .op('i32.sub');
    if (block.isHead) {
      code.tee(this.#rem);
      this.#setAt();
      code
        .i32(0)
        .op('i32.lt_s')
        .brIf((block.groups[0] as ExitGroup).label);
    } else code.set(this.#rem);
    for (const plan of block.plans) {
      for (const t of Object.keys(this.#taken)) this.#taken[t] = 0;
      this.#instruction(plan);
      this.#number++;
    }
    for (const t of Object.keys(this.#taken)) this.#taken[t] = 0;
    const last = block.plans[block.plans.length - 1];
    if (block.interprets) {
      this.#setAt();
      code.br((block.groups[block.length] as ExitGroup).label);
    } else if (last.ending === 'branch') this.#go(block.taken as Block | number);
    else if (last.ending === 'next') this.#go(block.next as Block | number);
  }

  /** Where to leave: the record's number in the page, and above it what of the block has been taken off the budget for nothing. */
  #setAt(): void {
    const { offset, length } = this.#block;
    this.#code.i32(((length - this.#number) << 10) | (((offset & (PAGE - 1)) >>> 2) + this.#number)).set(this.#at);
  }

  /** The condition is on the stack. */
  #branchIf(block: Block): void {
    const code = this.#code;
    const { taken, next } = block;
    if (this.#isPlain(taken)) code.brIf(this.#find(taken).label);
    else {
      code.if();
      this.#go(taken as Block | number);
      code.end();
    }
    this.#go(next as Block | number);
  }

  /** The target is on the stack. */
  #jump(landing: Landing | undefined): void {
    const code = this.#code;
    code.set(this.#target);
    const may = landing && LANDING[landing === 'jump' && !this.#block.page.guarded ? 'veneer' : landing];
    if (may)
      code
        .i32(0)
        .get(this.#rem)
        .i32(this.#reserve + may)
        .op('i32.add')
        .mem('i32.store', CELL.JUMP);
    const table = this.#table;
    if (table) {
      const distance = this.#local('i64');
      const slot = this.#local('i32');
      const found = this.#local('i32');
      code
        .get(this.#target)
        .get(this.#base)
        .op('i64.sub')
        .tee(distance)
        .op('i32.wrap_i64')
        .i32((table.size - 1) * 4)
        .op('i32.and');
      code.i32(1).op('i32.shl').tee(slot).mem('i64.load32_s', table.address).get(distance).op('i64.eq');
      code.get(this.#rem).i32(0).op('i32.ge_s').op('i32.and');
      code.if();
      code
        .get(slot)
        .mem('i32.load', table.address + 4)
        .set(found);
      const checked = may !== undefined && this.#region.entries.some((e) => e.page.guarded);
      if (checked) {
        code
          .get(found)
          .i32(may << LANDING_SHIFT)
          .op('i32.and');
        code.if();
      }
      const several = this.#region.pages.length > 1;
      if (several) {
        code.get(this.#seen).get(found).i32(16).op('i32.shr_u').op('i32.shr_u').i32(1).op('i32.and');
        code.if();
      }
      code.get(found).i32(0xffff).op('i32.and').set(this.#entry);
      this.#branch(
        this.#dispatch,
        this.#region.entries.some((e) => this.#wantsRuntimeFlags(e)),
      );
      if (several) code.end();
      if (checked) code.end();
      code.end();
    }
    this.#storeAll();
    code
      .i32(0)
      .get(this.#target)
      .mem('i64.store', WINDOW + VP.PC)
      .i32(LEFT.JUMP)
      .ret();
  }

  // --- instructions --------------------------------------------------------------------------------------------------

  #group(): ExitGroup {
    return this.#block.groups[this.#number] as ExitGroup;
  }

  #instruction(plan: Plan): void {
    const code = this.#code;
    if (plan.fp && !this.#fpSeen) {
      this.#fpSeen = true;
      this.#setAt();
      code
        .i32(0)
        .mem('i32.load', WINDOW + VP.FP_ENABLED)
        .op('i32.eqz')
        .brIf(this.#group().label);
    }
    this.#emit(plan);
  }

  /** As in emit.ts: values used once are computed where they are used, others go through locals. */
  #emit(plan: Plan): void {
    const code = this.#code;
    const { nodes, uses } = plan;
    const local: number[] = [];
    const pending = new Map<number, number>();

    const push = (id: number): void => {
      if (local[id] !== undefined) code.get(local[id]);
      else {
        pending.delete(id);
        compute(nodes[id]);
      }
    };
    const toLocal = (n: Node): void => {
      compute(n);
      local[n.id] = this.#local(n.t as Ty);
      code.set(local[n.id]);
    };
    const readsOf = (id: number): number => (local[id] !== undefined ? 0 : (pending.get(id) ?? 0));
    const compute = (n: Node): void => {
      switch (n.op) {
        case 'const':
          if (n.t === 'i32') code.i32(n.value as number);
          else if (n.t === 'i64') code.i64(n.value as bigint);
          else code.v128(n.value as bigint);
          return;
        case 'readX':
          code.get(this.#x[n.index as number]);
          if (n.t === 'i32') code.op('i32.wrap_i64');
          return;
        case 'readV':
          code.get(this.#v[n.index as number]);
          return;
        case 'cell':
          code.i32(0).mem(`${n.t}.load`, WINDOW + Number(n.value));
          return;
        case 'now':
          pushNow(code, () => {
            const inBlock = (this.#block.length - this.#number) * RECORD;
            code
              .get(this.#rem)
              .i32(this.#reserve + inBlock)
              .op('i32.add');
          });
          return;
        case 'pc':
          code
            .get(this.#base)
            .i64(this.#block.offset + 4 * this.#number)
            .op('i64.add');
          return;
        case 'nzcv':
          this.#flags.pushNZCV();
          return;
        case 'cond':
          this.#flags.pushCondition(Number(n.value));
          return;
        case 'carry':
          this.#flags.pushCarry();
          return;
        case 'load':
          push(n.args[0]);
          code.mem(n.name as string, Number(n.value));
          return;
        case 'mem':
          this.#address(n, () => push(n.args[0]), local[n.args[0]]);
          return;
        default:
          for (const a of n.args) push(a);
          code.op(n.op, n.imm);
      }
    };
    const isMine = (n: Node, id: number): boolean =>
      n.args.some((a) => a === id || (local[a] === undefined && isMine(nodes[a], id)));
    const settle = (n: Node, writes: number): void => {
      for (const [id, reads] of pending)
        if (reads & writes && !isMine(n, id)) {
          pending.delete(id);
          toLocal(nodes[id]);
        }
    };

    for (let i = 0; i < nodes.length; i++) {
      const n = nodes[i];
      if (n.t !== 'void') {
        if (n.op === 'mem') toLocal(n);
        else if (uses[i] === 0) continue;
        else if (uses[i] === 1 || n.op === 'const') {
          let reads = READS[n.op] ?? 0;
          for (const a of n.args) {
            reads |= readsOf(a);
            if (nodes[a].op !== 'const') pending.delete(a);
          }
          if (reads || n.op !== 'const') pending.set(i, reads);
        } else toLocal(n);
        continue;
      }
      settle(n, WRITES[n.op] ?? 0);
      switch (n.op) {
        case 'writeX':
          push(n.args[0]);
          if (nodes[n.args[0]].t === 'i32') code.op('i64.extend_i32_u');
          code.set(this.#x[n.index as number]);
          break;
        case 'writeV':
          push(n.args[0]);
          code.set(this.#v[n.index as number]);
          break;
        case 'setCell':
          code.i32(0);
          push(n.args[0]);
          code.mem(`${nodes[n.args[0]].t}.store`, WINDOW + Number(n.value));
          break;
        case 'store':
          push(n.args[0]);
          push(n.args[1]);
          code.mem(n.name as string, Number(n.value));
          break;
        case 'flags': {
          const kind = kindOf(nodes, n);
          push(n.args[0]);
          if (kind !== KIND.LOGIC32 && kind !== KIND.LOGIC64) push(n.args[1]);
          this.#flags.set(kind);
          break;
        }
        case 'setNZCV':
          push(n.args[0]);
          this.#flags.setPacked();
          break;
        case 'branch':
          break;
        case 'jump':
          push(n.args[0]);
          this.#jump(n.kind as Landing | undefined);
          break;
        case 'guard':
          push(n.args[0]);
          this.#setAt();
          code.op('i32.eqz').brIf(this.#group().label);
          break;
        case 'exit':
          this.#setAt();
          code.br(this.#group().label);
          break;
        case 'if': {
          if (plan.ending === 'branch-if' && i === nodes.length - 3) {
            push(n.args[0]);
            this.#branchIf(this.#block);
            return;
          }
          const compare = conditionalCompare(nodes, i);
          push(n.args[0]);
          if (compare) {
            const flags = nodes[compare.flags];
            this.#flags.setConditional(compare.kind, () => {
              push(flags.args[0]);
              const logic = flags.kind === 'add' && isZero(nodes[flags.args[1]]);
              if (!logic) push(flags.args[1]);
            });
            return;
          }
          code.if();
          break;
        }
        case 'else':
          code.else();
          break;
        case 'end':
          code.end();
          break;
        default:
          throw new Error(`${plan.name}: node ${n.op}`);
      }
    }
  }

  /** Pushes the wasm address for an access, or leaves. */
  #address(n: Node, pushAddress: () => void, known: number | undefined): void {
    const code = this.#code;
    const size = n.size as number;
    const { align = 1, unprivileged = false } = n.mem ?? {};
    const { label } = this.#group();
    let va = known;
    if (va === undefined) {
      pushAddress();
      va = this.#local('i64');
      code.set(va);
    }
    this.#setAt();
    if (align > 1)
      code
        .get(va)
        .op('i32.wrap_i64')
        .i32(align - 1)
        .op('i32.and')
        .brIf(label);
    const entry = this.#local('i32');
    code
      .get(va)
      .i64(12 - Math.log2(TLB_ENTRY))
      .op('i64.shr_u')
      .op('i32.wrap_i64')
      .i32((TLB_ENTRIES - 1) * TLB_ENTRY)
      .op('i32.and');
    if (unprivileged) code.i32(0).mem('i32.load', CELL.TLB);
    else code.get(this.#tlb);
    code
      .op('i32.add')
      .tee(entry)
      .mem('i64.load', (n.access as Access) === 'r' ? TLB.READ : TLB.WRITE)
      .get(va);
    if (size > 1) code.i64(size - 1).op('i64.add');
    code.i64(-PAGE).op('i64.and').op('i64.ne').brIf(label);
    code.get(va).op('i32.wrap_i64').get(entry).mem('i32.load', TLB.ADDEND).op('i32.add');
  }
}

const isZero = (n: Node): boolean => n.op === 'const' && BigInt(n.value as number | bigint) === 0n;
