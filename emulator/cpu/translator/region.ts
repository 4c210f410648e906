/**
 * A region: the code that is reached from a hot entry by direct branches, callees included, cut into basic blocks, with what code
 * generation has to know: which registers are live and which are changed where, the kind of the flags, loops.
 *
 * Addresses are offsets from the virtual page of the entry, and physical pages are what a region is made of: it is the same
 * region wherever the pages are mapped, as long as they are mapped at the same distances.
 */
import { type FlagKind, KIND } from './flags.ts';
import type { Plan, Planner } from './plan.ts';

const PAGE = 4096;

/** A page of code, at `delta` bytes from the entry's. */
export interface CodePage {
  readonly delta: number;
  /** wasm address of its records: what identifies the physical page. */
  readonly records: number;
  /** RAM page number. */
  readonly number: number;
  /** Jumps into it have to land where they may (branch-targets.ts). */
  readonly guarded: boolean;
  /** Number in the region. */
  index: number;
}

/** Where forming a region looks at code. */
export interface CodeSource {
  /** The page mapped at `delta` from the entry's page, if it has been executed already. */
  page(delta: number): CodePage | undefined;
  word(page: CodePage, offset: number): number;
  /** The instruction must be left to the interpreter (a breakpoint). */
  isPatched(page: CodePage, offset: number): boolean;
  /** How often the instruction was the target of a taken branch. */
  arrivals(page: CodePage, offset: number): number;
}

/** Instructions of a block that can go back to the interpreter with the flags in the same form: they share the code that does so. */
export interface ExitGroup {
  readonly kind: FlagKind;
  /** Registers and flags that must be stored. */
  dirtyX: number;
  dirtyV: number;
  dirtyFlags: boolean;
  /** Label, once code is generated. */
  label: number;
}

export class Block {
  readonly offset: number;
  readonly page: CodePage;
  readonly plans: Plan[] = [];
  /** Blocks and offsets (outside of the region) where it goes on: by its branch, and by going on. */
  taken: Block | number | undefined;
  next: Block | number | undefined;
  /** Ends with a jump to a register's value. */
  jumps = false;
  /** Ends before an instruction that the interpreter must do. */
  interprets = false;
  /** Head of a loop: the budget is looked at here. */
  isHead = false;

  dirtyX = 0;
  dirtyV = 0;
  dirtyFlags = false;
  liveX = 0;
  liveV = 0;
  liveFlags = false;
  /** Kind of the flags at the start; undefined: not known yet. */
  kind: FlagKind | undefined;
  kindOut: FlagKind | undefined;
  writeX = 0;
  writeV = 0;
  writesFlags = false;
  /** By instruction: the group it leaves with. */
  readonly groups: (ExitGroup | undefined)[] = [];
  /** Longest way in instructions to where the budget is looked at again. */
  longest = -1;

  constructor(offset: number, page: CodePage) {
    this.offset = offset;
    this.page = page;
  }
  get length(): number {
    return this.plans.length;
  }
  *successors(): Generator<Block> {
    if (this.taken instanceof Block) yield this.taken;
    if (this.next instanceof Block && this.next !== this.taken) yield this.next;
  }
}

export interface Region {
  readonly pages: readonly CodePage[];
  readonly blocks: readonly Block[];
  /** Blocks that can be entered from outside and by jumps, ordered by page. */
  readonly entries: readonly Block[];
  readonly instructions: number;
  readonly hasJumps: boolean;
}

export interface Limits {
  readonly instructions: number;
  readonly pages: number;
  readonly entries: number;
  /** Arrivals below which a target of branches is left out: it would cost more to compile than it gives. */
  readonly warm: number;
}

/** Forms the region at `offset` of the source's page 0; undefined: there is nothing that could be translated. */
export function formRegion(source: CodeSource, planner: Planner, offset: number, limits: Limits): Region | undefined {
  const pages = new Map<number, CodePage>();
  const pageAt = (at: number): CodePage | undefined => {
    const delta = at & -PAGE;
    let page = pages.get(delta);
    if (!page && pages.size < limits.pages) {
      page = source.page(delta);
      if (page) {
        page.index = pages.size;
        pages.set(delta, page);
      }
    }
    return page;
  };

  const plans = new Map<number, Plan>();
  const leaders = new Set<number>([offset]);
  const entries = new Set<number>([offset]);
  const work = [offset];
  /** Where the interpreter has to do an instruction. */
  const stops = new Set<number>();
  const follow = (at: number): void => {
    leaders.add(at);
    if (!plans.has(at)) work.push(at);
  };
  const isWarm = (at: number): boolean => {
    const page = pageAt(at);
    return page !== undefined && source.arrivals(page, at & (PAGE - 1)) >= limits.warm;
  };
  for (let k = 0; k < work.length; k++) {
    for (let at = work[k]; !plans.has(at); at += 4) {
      if (plans.size >= limits.instructions) break;
      const page = pageAt(at);
      if (!page) break;
      const plan = planner.plan(source.word(page, at & (PAGE - 1)));
      if (plan.ending === 'interpret' || source.isPatched(page, at & (PAGE - 1))) {
        stops.add(at);
        break;
      }
      plans.set(at, plan);
      const after = at + 4;
      if (plan.ending === 'next') {
        if ((after & (PAGE - 1)) === 0) leaders.add(after);
        continue;
      }
      const target = at + plan.distance;
      if (plan.ending === 'branch-if') {
        leaders.add(after);
        work.push(after);
        if (plans.has(target) || isWarm(target)) follow(target);
      } else {
        const isCold = plan.ending === 'branch' && plan.isCall && !isWarm(target);
        if (plan.ending === 'branch' && !isCold) follow(target);
        if (plan.isCall && !isCold && entries.size < limits.entries) {
          entries.add(after);
          follow(after);
        }
      }
      break;
    }
  }
  if (!plans.has(offset)) return undefined;

  // Blocks.
  const blocks = new Map<number, Block>();
  const offsets = [...leaders].filter((at) => plans.has(at));
  for (const at of offsets) blocks.set(at, new Block(at, pageAt(at) as CodePage));
  const where = (at: number): Block | number => blocks.get(at) ?? at;
  for (const block of blocks.values()) {
    let at = block.offset;
    for (;;) {
      const plan = plans.get(at);
      if (!plan) {
        if (stops.has(at) && pages.get(at & -PAGE) === block.page) block.interprets = true;
        else block.next = at;
        break;
      }
      block.plans.push(plan);
      if (plan.ending !== 'next') {
        if (plan.ending === 'jump') block.jumps = true;
        else block.taken = where(at + plan.distance);
        if (plan.ending === 'branch-if') block.next = where(at + 4);
        break;
      }
      at += 4;
      if (leaders.has(at) && plans.has(at)) {
        block.next = blocks.get(at);
        break;
      }
    }
  }
  const reached = [...blocks.values()];
  const entryBlocks = [...entries].flatMap((at) => blocks.get(at) ?? []);
  const main = entryBlocks[0];
  entryBlocks.sort((a, b) => a.page.index - b.page.index || (a === main ? -1 : b === main ? 1 : a.offset - b.offset));
  return {
    pages: [...pages.values()],
    blocks: reached,
    entries: entryBlocks,
    instructions: plans.size,
    hasJumps: reached.some((b) => b.jumps),
  };
}

/** What flags' kind a block's instructions leave when they are `kind` before it. */
function kindAfter(block: Block, kind: FlagKind | undefined): FlagKind | undefined {
  for (const p of block.plans) if (p.flags !== undefined) kind = p.flags;
  return kind;
}

/** Registers changed, flag kinds, registers live: in this order, as each needs those before it. */
export function analyse(region: Region): void {
  const { blocks, entries } = region;
  for (const b of blocks) {
    for (const p of b.plans) {
      b.writeX |= p.writeX;
      b.writeV |= p.writeV;
      if (p.flags !== undefined) b.writesFlags = true;
    }
  }

  // Forward: dirty registers. A jump may go to every entry.
  for (let again = true; again; ) {
    again = false;
    const into = (s: Block, x: number, v: number, f: boolean): void => {
      if ((s.dirtyX | x) === s.dirtyX && (s.dirtyV | v) === s.dirtyV && (s.dirtyFlags || !f)) return;
      s.dirtyX |= x;
      s.dirtyV |= v;
      s.dirtyFlags ||= f;
      again = true;
    };
    for (const b of blocks) {
      const x = b.dirtyX | b.writeX;
      const v = b.dirtyV | b.writeV;
      const f = b.dirtyFlags || b.writesFlags;
      for (const s of b.successors()) into(s, x, v, f);
      if (b.jumps) for (const s of entries) into(s, x, v, f);
    }
  }

  // Forward: kinds of the flags. They meet in the VP's form.
  for (const e of entries) e.kind = KIND.RUNTIME;
  for (let again = true; again; ) {
    again = false;
    for (const b of blocks) {
      const out = kindAfter(b, b.kind);
      b.kindOut = out;
      if (out === undefined) continue;
      for (const s of b.successors()) {
        const kind = s.kind === undefined || s.kind === out ? out : KIND.RUNTIME;
        if (kind !== s.kind) {
          s.kind = kind;
          again = true;
        }
      }
    }
  }
  for (const b of blocks) {
    b.kind ??= KIND.RUNTIME;
    b.kindOut = kindAfter(b, b.kind);
  }

  // What is stored when an instruction leaves.
  const useX = new Map<Block, number>();
  const useV = new Map<Block, number>();
  const useFlags = new Set<Block>();
  const killX = new Map<Block, number>();
  const killV = new Map<Block, number>();
  for (const b of blocks) {
    let kx = 0;
    let kv = 0;
    let kf = false;
    let ux = 0;
    let uv = 0;
    let uf = false;
    let wx = b.dirtyX;
    let wv = b.dirtyV;
    let wf = b.dirtyFlags;
    let kind = b.kind as FlagKind;
    let group: ExitGroup | undefined;
    let groupKX = 0;
    let groupKV = 0;
    const leave = (i: number): void => {
      if (!group) {
        group = { kind, dirtyX: 0, dirtyV: 0, dirtyFlags: false, label: -1 };
        groupKX = kx;
        groupKV = kv;
      }
      group.dirtyX |= wx;
      group.dirtyV |= wv;
      group.dirtyFlags ||= wf;
      b.groups[i] = group;
      // Registers that the group stores but that are not yet written at its first instruction must be loaded.
      ux |= wx & ~groupKX;
      uv |= wv & ~groupKV;
      if (wf && !kf) uf = true;
    };
    b.plans.forEach((p, i) => {
      ux |= p.readX & ~kx;
      uv |= p.readV & ~kv;
      if (p.readsFlags && !kf) uf = true;
      if (p.mayLeave || (i === 0 && b.isHead)) leave(i);
      wx |= p.writeX;
      wv |= p.writeV;
      kx |= p.killX;
      kv |= p.killV;
      if (p.flags !== undefined) {
        wf = true;
        kf = true;
        kind = p.flags;
        group = undefined;
      }
    });
    if (b.interprets) leave(b.length);
    // Going to another page leaves when that is not mapped as expected.
    const outside = (to: Block | number | undefined): boolean =>
      typeof to === 'number' || (to !== undefined && to.page !== b.page);
    const exits = b.jumps || outside(b.taken) || outside(b.next);
    if (exits) {
      ux |= wx & ~kx;
      uv |= wv & ~kv;
      if (wf && !kf) uf = true;
    }
    useX.set(b, ux);
    useV.set(b, uv);
    if (uf) useFlags.add(b);
    killX.set(b, kx);
    killV.set(b, kv);
  }

  // Backward: live registers.
  for (let again = true; again; ) {
    again = false;
    for (let i = blocks.length - 1; i >= 0; i--) {
      const b = blocks[i];
      let x = 0;
      let v = 0;
      let f = false;
      const from = (s: Block): void => {
        x |= s.liveX;
        v |= s.liveV;
        f ||= s.liveFlags;
      };
      for (const s of b.successors()) from(s);
      if (b.jumps) for (const s of entries) from(s);
      x = (useX.get(b) as number) | (x & ~(killX.get(b) as number));
      v = (useV.get(b) as number) | (v & ~(killV.get(b) as number));
      f = useFlags.has(b) || (f && !b.writesFlags);
      if (x !== b.liveX || v !== b.liveV || f !== b.liveFlags) {
        b.liveX = x;
        b.liveV = v;
        b.liveFlags = f;
        again = true;
      }
    }
  }
}

// --- loops -------------------------------------------------------------------------------------------------------------

export type Item =
  | { readonly block: Block; readonly heads: readonly Block[] }
  | { readonly items: readonly Item[]; readonly heads: readonly Block[] };

/**
 * Blocks in an order in which every edge goes forward, but for those to the heads of loops. A loop is a strongly connected part;
 * its heads are where it is entered.
 */
export function structure(region: Region): Item[] {
  const all = new Set(region.blocks);
  return order(all, (b) => [...b.successors()], new Set(region.entries));
}

function order(nodes: ReadonlySet<Block>, successors: (b: Block) => readonly Block[], entered: ReadonlySet<Block>): Item[] {
  const components = stronglyConnected(nodes, successors, entered);
  const predecessorOutside = new Set<Block>();
  const componentOf = new Map<Block, number>();
  components.forEach((c, i) => {
    for (const b of c) componentOf.set(b, i);
  });
  for (const b of nodes)
    for (const s of successors(b)) if (nodes.has(s) && componentOf.get(s) !== componentOf.get(b)) predecessorOutside.add(s);
  return components.map((c): Item => {
    if (c.length === 1 && !successors(c[0]).includes(c[0])) return { block: c[0], heads: c };
    const inside = new Set(c);
    let heads = c.filter((b) => entered.has(b) || predecessorOutside.has(b));
    if (!heads.length) heads = [c[0]];
    heads.sort((a, b) => a.offset - b.offset);
    const headSet = new Set(heads);
    for (const h of heads) h.isHead = true;
    const within = (b: Block): readonly Block[] => successors(b).filter((s) => inside.has(s) && !headSet.has(s));
    return { items: order(inside, within, headSet), heads };
  });
}

/** Tarjan's algorithm; components in topological order. */
function stronglyConnected(
  nodes: ReadonlySet<Block>,
  successors: (b: Block) => readonly Block[],
  first: ReadonlySet<Block>,
): Block[][] {
  const index = new Map<Block, number>();
  const low = new Map<Block, number>();
  const stack: Block[] = [];
  const onStack = new Set<Block>();
  const out: Block[][] = [];
  const visit = (v: Block): void => {
    const number = index.size;
    index.set(v, number);
    let lowest = number;
    stack.push(v);
    onStack.add(v);
    for (const w of successors(v)) {
      if (!nodes.has(w)) continue;
      if (!index.has(w)) {
        visit(w);
        lowest = Math.min(lowest, low.get(w) as number);
      } else if (onStack.has(w)) lowest = Math.min(lowest, index.get(w) as number);
    }
    low.set(v, lowest);
    if (lowest !== number) return;
    const component: Block[] = [];
    for (;;) {
      const w = stack.pop() as Block;
      onStack.delete(w);
      component.push(w);
      if (w === v) break;
    }
    out.push(component);
  };
  for (const v of first) if (nodes.has(v) && !index.has(v)) visit(v);
  for (const v of nodes) if (!index.has(v)) visit(v);
  return out.reverse();
}

/** Most instructions on a way from an entry or head to the next place where the budget is looked at. */
export function longestPath(region: Region): number {
  const length = (b: Block): number => {
    if (b.longest >= 0) return b.longest;
    let rest = 0;
    for (const s of b.successors()) if (!s.isHead) rest = Math.max(rest, length(s));
    b.longest = b.length + rest;
    return b.longest;
  };
  let most = 0;
  for (const b of region.blocks) if (b.isHead || region.entries.includes(b)) most = Math.max(most, length(b));
  return most;
}
