/**
 * The interpreter: WebAssembly generated from the instruction rows.
 *
 * Hot handlers are cases of one function, `loop` + `br_table` over predecoded records (layout.ts), with the flags, the
 * record pointer and the budget in locals. Cold ones are functions of their own, compiled when their instruction is first
 * met and called through a table by `run`, which is entered again after them: a call inside the loop function would make
 * V8 keep its state in memory everywhere.
 *
 * The loop exists twice. The *fast* one counts instructions at taken branches only (`s` is the record address at which the
 * budget would end, so that `s - rec` is what is left) and leaves while a page's worth of instructions remains; the *exact*
 * one tests at every instruction. PC is never stored: it is `pcb + rec / 8`, and `pcb` changes with the page.
 */
import { KNOWN_LANDINGS } from './branch-targets.ts';
import { Builder, type Ir } from './builder.ts';
import { type Decoded, Decoder } from './decoder.ts';
import { endsBlock } from './emit.ts';
import type { Feature } from './features.ts';
import { HELPERS, windowFpState } from './helpers.ts';
import { type Insn, type Raw, rawFields } from './insn.ts';
import { AUX, BELOW_RAM, BLOCKS, BLOCKS_SIZE, PAGE_RECORDS, RECORD } from './layout.ts';
import {
  branchCondition,
  emitCold,
  emitLoop,
  emitRun,
  FIRST_ROW,
  type HotHandler,
  isFused,
  type LandingHandlers,
  SENTINEL,
  setsFlags,
} from './loop.ts';
import { OperandLayout } from './operands.ts';
import { checksSp, mayMisalignSp, replacesSp, usesSpAsBase, writesSp } from './sp-alignment.ts';
import { ModuleWriter } from './wasm/module.ts';

/** Most instructions of one call: `REM` and record addresses are added as i32. */
export const MAX_RUN = 1 << 22;

/** One row with one combination of static fields. */
interface Handler {
  readonly ir: Ir;
  readonly layout: OperandLayout;
  readonly ends: boolean;
  /** It has an operand that it writes SP by. */
  readonly writesSp: boolean;
  /** Handler numbers for branches within the page and beyond; the same where there is none. -1: to be compiled. */
  near: number;
  far: number;
}

/**
 * Instruction words predecoded, in one array so that hundreds of thousands are cheap: the record's words, then
 */
const TEMPLATE = {
  RECORD: 0,
  /** Handler numbers for a branch within the page and beyond. */
  NEAR: RECORD / 4,
  FAR: RECORD / 4 + 1,
  /** Distance of the branch in bytes, or `NO_BRANCH`. */
  BRANCH: RECORD / 4 + 2,
  /** 1: nothing after it is reached by falling through. */
  ENDS: RECORD / 4 + 3,
  /** Handler number where a misaligned SP does not matter; 0: it never does. */
  UNCHECKED: RECORD / 4 + 4,
  SIZE: RECORD / 4 + 5,
} as const;
const NO_BRANCH = 0x7fffffff;

/** Static fields and picks of a row, with how many values each has. */
function staticsOf(row: Insn): { name: string; count: number }[] {
  const fields = row.fields.filter((f) => f.isStatic).map((f) => ({ name: f.name, count: 1 << f.width }));
  const picks = Object.entries(row.options.pick ?? {}).map(([name, [count]]) => ({ name, count }));
  return [...fields, ...picks];
}

/** The combinations of static fields of `row` that go into the loop function. */
function* hotStatics(row: Insn): Generator<Raw> {
  const { cold, when } = row.options;
  if (cold === true) return;
  const names = staticsOf(row);
  let total = 1;
  for (const n of names) total *= n.count;
  for (let i = 0; i < total; i++) {
    const statics: Record<string, number> = {};
    let rest = i;
    for (const n of names) {
      statics[n.name] = rest % n.count;
      rest = Math.floor(rest / n.count);
    }
    const word = row.fields.reduce((w, f) => (f.isStatic ? w | (statics[f.name] << f.lsb) : w), row.value) >>> 0;
    if (typeof cold === 'function' && cold({ ...rawFields(row, word), ...statics })) continue;
    if (when && !someOperands(row, word, when)) continue;
    yield statics;
  }
}

/**
 * Does `when` accept some operands? A sample decides; a combination that it misses is compiled when it is met, so that
 * nothing but speed hangs on it.
 */
function someOperands(row: Insn, word: number, when: (f: Raw) => boolean): boolean {
  let seed = 1;
  for (let k = 0; k < 48; k++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const operands = k === 0 ? 0 : k === 1 ? 0xffffffff : Math.imul(seed ^ (seed >>> 13), 0x9e3779b1);
    const tried =
      row.fields.reduce((w, f) => (f.isStatic ? w : w | (operands & ((((1 << f.width) - 1) << f.lsb) >>> 0))), word) >>> 0;
    if (when(rawFields(row, tried))) return true;
  }
  return false;
}

const pairKey = (first: number, second: number): number => (first << 16) | second;

/** The helpers, on the VP in the window of `memory`. */
function helpersFor(memory: WebAssembly.Memory): Record<string, (...args: (number | bigint)[]) => number | bigint> {
  const fp = windowFpState(memory);
  return Object.fromEntries(Object.entries(HELPERS).map(([name, h]) => [name, (...args) => h.fn(fp, ...args)]));
}

/** Instruction words whose templates are kept. */
const MAX_TEMPLATES = 1 << 17;
/** The template of every UNDEFINED word. */
const UNDEFINED_TEMPLATE = 0;

export class Interpreter {
  #memory: WebAssembly.Memory;
  #view: DataView;
  /** The memory below RAM, by 4 bytes. */
  #words: Int32Array;
  readonly #decoder: Decoder;
  readonly #statics = new Map<Insn, { name: string; count: number }[]>();
  readonly #handlers = new Map<Insn, Map<number, Handler>>();
  /** Index of a word's template; the words as signed numbers, which V8 keeps unboxed. */
  readonly #templateOf = new Map<number, number>();
  readonly #templates = new Int32Array(MAX_TEMPLATES * TEMPLATE.SIZE);
  #templateCount = 1;
  /** Handler of a fused pair by the handlers of its two instructions. */
  readonly #fused = new Map<number, number>();
  readonly #scratch = new DataView(new ArrayBuffer(RECORD));
  readonly #scratchWords = new Int32Array(this.#scratch.buffer);
  /** Cold handlers. */
  #table: WebAssembly.Table;
  /** The loops and `run`; cold handlers by module, in the order of its exports; handlers of `addHandler`. */
  readonly #main: WebAssembly.Module;
  readonly #cold: { readonly module: WebAssembly.Module; readonly handlers: readonly number[] }[] = [];
  readonly #added = new Map<number, WebAssembly.Module>();
  #helpers: Record<string, (...args: (number | bigint)[]) => number | bigint>;
  /** `run` as wasm, for other wasm. */
  wasmRun: (exact: number) => number;
  readonly #firstCold: number;
  readonly #hot: readonly HotHandler[];
  #wasmCounting?: (exact: number) => number;
  #coldCount = 0;
  /** Numbers of handlers that were removed. */
  readonly #freeHandlers: number[] = [];
  #uncompiled: Handler[] = [];
  #blockTop = BLOCKS;
  readonly landings: LandingHandlers;
  /** What was generated at start, for those who measure. */
  readonly generated: { readonly hotHandlers: number; readonly bytes: number };

  /** `threshold`: see `emitLoop`. */
  constructor(memory: WebAssembly.Memory, rows: readonly Insn[], features: ReadonlySet<Feature>, threshold?: number) {
    this.#memory = memory;
    this.#view = new DataView(memory.buffer);
    this.#words = new Int32Array(memory.buffer, 0, BELOW_RAM >>> 2);
    this.#decoder = new Decoder(rows, features);
    this.#helpers = helpersFor(memory);

    const hot: HotHandler[] = [];
    for (const row of rows) {
      this.#statics.set(row, staticsOf(row));
      const known = new Map<number, Handler>();
      this.#handlers.set(row, known);
      if (row.options.feat && !features.has(row.options.feat)) continue;
      for (const statics of hotStatics(row)) {
        const h = this.#record(row, statics);
        if (h.ir.nodes.some((n) => n.op === 'call')) continue;
        h.near = h.far = FIRST_ROW + hot.push({ ir: h.ir, layout: h.layout, far: false }) - 1;
        if (h.layout.branch) h.far = FIRST_ROW + hot.push({ ir: h.ir, layout: h.layout, far: true }) - 1;
        known.set(this.#key(row, statics), h);
      }
    }
    const rowHandlers = hot.length;
    for (let i = 0; i < rowHandlers; i++) {
      const kind = setsFlags(hot[i].ir);
      if (kind === undefined) continue;
      for (let j = 0; j < rowHandlers; j++) {
        const cond = branchCondition(hot[j].ir);
        if (cond === undefined || hot[j].far || !isFused(kind, cond)) continue;
        this.#fused.set(pairKey(FIRST_ROW + i, FIRST_ROW + j), FIRST_ROW + hot.push({ ...hot[i], branch: hot[j] }) - 1);
      }
    }
    // UNDEFINED is a handler like those of rows, but of no row.
    const undefinedIr: Ir = { insn: UNDEFINED, statics: {}, nodes: [{ id: 0, op: 'exit', t: 'void', args: [], kind: 'undef' }] };
    const undefinedLayout = new OperandLayout(undefinedIr);
    const number = FIRST_ROW + hot.push({ ir: undefinedIr, layout: undefinedLayout, far: false }) - 1;
    this.#scratchWords[0] = number;
    this.#setTemplate(UNDEFINED_TEMPLATE, number, number, NO_BRANCH, true);

    this.#hot = hot;
    this.#firstCold = FIRST_ROW + hot.length;
    this.#table = new WebAssembly.Table({ element: 'anyfunc', initial: 1024 });
    const module = new ModuleWriter();
    module.importMemory('e', 'memory');
    module.importTable('e', 'table');
    // None in the loop for a word: it is met as every instruction that is no landing.
    this.landings = KNOWN_LANDINGS.map(([word]) => {
      const decoded = this.#decoder.decode(word);
      return decoded ? this.#handler(decoded).near : -1;
    });
    const fast = module.func(emitLoop(hot, false, this.landings, threshold));
    const exact = module.func(emitLoop(hot, true, this.landings));
    module.func(emitRun(module, fast, exact, this.#firstCold), 'run');
    const bytes = module.bytes();
    this.generated = { hotHandlers: hot.length, bytes: bytes.length };
    this.#main = new WebAssembly.Module(bytes);
    this.wasmRun = this.#runOf(this.#main);
  }

  #runOf(module: WebAssembly.Module): (exact: number) => number {
    const { exports } = new WebAssembly.Instance(module, { e: { memory: this.#memory, table: this.#table } });
    return exports.run as (exact: number) => number;
  }

  /** What was in memory is in another one now: the same code runs there. */
  memoryRenewed(memory: WebAssembly.Memory): void {
    this.#memory = memory;
    this.#view = new DataView(memory.buffer);
    this.#words = new Int32Array(memory.buffer, 0, BELOW_RAM >>> 2);
    this.#helpers = helpersFor(memory);
    this.#table = new WebAssembly.Table({ element: 'anyfunc', initial: this.#table.length });
    for (const { module, handlers } of this.#cold) this.#placeCold(module, handlers);
    for (const [handler, module] of this.#added) this.#placeAdded(handler, module);
    this.wasmRun = this.#runOf(this.#main);
    this.#wasmCounting = undefined;
  }

  #placeCold(module: WebAssembly.Module, handlers: readonly number[]): void {
    const { exports } = new WebAssembly.Instance(module, { e: { memory: this.#memory }, h: this.#helpers });
    handlers.forEach((handler, i) => {
      this.#setCold(handler, exports[i]);
    });
  }

  /** Runs from the state in the cells; the exit code. */
  run(exact: boolean): number {
    return this.wasmRun(exact ? 1 : 0);
  }

  /** The same as `run(true)`, and counts memory accesses and branches. Made when it is first asked for. */
  runCounting(): number {
    this.#wasmCounting ??= this.#makeCounting();
    return this.#wasmCounting(1);
  }

  #makeCounting(): (exact: number) => number {
    const module = new ModuleWriter();
    module.importMemory('e', 'memory');
    module.importTable('e', 'table');
    const loop = module.func(emitLoop(this.#hot, true, this.landings, undefined, true));
    module.func(emitRun(module, loop, loop, this.#firstCold), 'run');
    return this.#runOf(new WebAssembly.Module(module.bytes()));
  }

  /** The row and fields of an instruction word; undefined: UNDEFINED. */
  decode(word: number): Decoded | undefined {
    return this.#decoder.decode(word);
  }

  #key(row: Insn, statics: Raw): number {
    let key = 0;
    for (const { name, count } of this.#statics.get(row) as { name: string; count: number }[]) key = key * count + statics[name];
    return key;
  }

  #record(row: Insn, statics: Raw): Handler {
    const ir = Builder.record(row, statics);
    return { ir, layout: new OperandLayout(ir), ends: endsBlock(ir), writesSp: writesSp(ir), near: -1, far: -1 };
  }

  /** True when all records and templates must be dropped (`forgetTemplates`) before more are made. */
  get full(): boolean {
    return this.#blockTop > BLOCKS + BLOCKS_SIZE - 65536;
  }

  /** Drops all templates and blocks: no record made from them may remain. */
  forgetTemplates(): void {
    this.#templateOf.clear();
    this.#templateCount = 1;
    this.#blockTop = BLOCKS;
  }

  /**
   * Writes the record at `at` (wasm address) for the instruction `word` at byte `offset` of its page. True: what follows is not
   * reached from there. `wordAt` tells the other words of the page. `compile` must be called before records run.
   */
  place(word: number, at: number, offset: number, wordAt?: (offset: number) => number | undefined): boolean {
    const t = (this.#templateOf.get(word | 0) ?? this.#makeTemplate(word)) * TEMPLATE.SIZE;
    const from = this.#templates;
    const to = this.#words;
    const record = at >>> 2;
    for (let i = 0; i < RECORD / 4; i++) to[record + i] = from[t + i];
    const branch = from[t + TEMPLATE.BRANCH];
    if (branch !== NO_BRANCH) {
      const target = offset + branch;
      const near = target >= 0 && target < PAGE_RECORDS * 4 && from[t + TEMPLATE.NEAR] !== from[t + TEMPLATE.FAR];
      to[record] = (to[record] & ~0xffff) | from[t + (near ? TEMPLATE.NEAR : TEMPLATE.FAR)];
      to[record + AUX / 4] = near ? branch * (RECORD / 4) : branch;
    }
    const unchecked = from[t + TEMPLATE.UNCHECKED];
    if (unchecked !== 0 && wordAt && this.#replacesSp(offset + 4, wordAt)) to[record] = (to[record] & ~0xffff) | unchecked;
    return from[t + TEMPLATE.ENDS] !== 0;
  }

  #replacesSp(offset: number, wordAt: (offset: number) => number | undefined): boolean {
    return replacesSp((at) => {
      const word = wordAt(at);
      return word === undefined ? undefined : this.#semantics(word);
    }, offset);
  }

  /** Makes the record at `at` one that does the next, too, if there is a handler for that. The next must stay as it is. */
  fuse(at: number): void {
    const words = this.#words;
    const record = at >>> 2;
    const fused = this.#fused.get(pairKey(words[record] & 0xffff, words[record + RECORD / 4] & 0xffff));
    if (fused !== undefined) words[record] = (words[record] & ~0xffff) | fused;
  }

  /** Makes the scratch record template number `index`. */
  #setTemplate(index: number, near: number, far: number, branch: number, ends: boolean, unchecked = 0): void {
    const t = index * TEMPLATE.SIZE;
    this.#templates.set(this.#scratchWords, t);
    this.#templates[t] = (this.#templates[t] & ~0xffff) | near;
    this.#templates[t + TEMPLATE.NEAR] = near;
    this.#templates[t + TEMPLATE.FAR] = far;
    this.#templates[t + TEMPLATE.BRANCH] = branch;
    this.#templates[t + TEMPLATE.ENDS] = ends ? 1 : 0;
    this.#templates[t + TEMPLATE.UNCHECKED] = unchecked;
  }

  /** The handler that leaves when it has made SP misaligned. */
  #checkingSp(row: Insn, key: number, plain: Handler): Handler {
    const known = this.#handlers.get(row) as Map<number, Handler>;
    let handler = known.get(-1 - key);
    if (!handler) {
      handler = this.#record(checksSp(row), plain.ir.statics);
      known.set(-1 - key, handler);
    }
    return handler;
  }

  /** True for the word of a load or store whose base is SP. */
  usesSpAsBase(word: number): boolean {
    const found = this.#semantics(word);
    return found !== undefined && usesSpAsBase(found.ir, found.raw);
  }

  #semantics(word: number): { ir: Ir; raw: Raw } | undefined {
    const decoded = this.#decoder.decode(word);
    return decoded && { ir: this.#handler(decoded).ir, raw: decoded.raw };
  }

  /** The handler of an instruction; -1 as its number: to be compiled. */
  #handler({ row, raw }: Decoded): Handler {
    const known = this.#handlers.get(row) as Map<number, Handler>;
    const key = this.#key(row, raw);
    let handler = known.get(key);
    if (!handler) {
      const statics: Record<string, number> = {};
      for (const { name } of this.#statics.get(row) as { name: string }[]) statics[name] = raw[name];
      handler = this.#record(row, statics);
      known.set(key, handler);
    }
    return handler;
  }

  #toCompile(handler: Handler): void {
    if (handler.near >= 0) return;
    handler.near = handler.far = this.#firstCold + this.#coldCount++;
    this.#uncompiled.push(handler);
  }

  #makeTemplate(word: number): number {
    const decoded = this.#decoder.decode(word);
    if (!decoded) {
      this.#templateOf.set(word | 0, UNDEFINED_TEMPLATE);
      return UNDEFINED_TEMPLATE;
    }
    const { row, raw } = decoded;
    const plain = this.#handler(decoded);
    const checks = plain.writesSp && mayMisalignSp(plain.ir, raw);
    const handler = checks ? this.#checkingSp(row, this.#key(row, raw), plain) : plain;
    this.#toCompile(handler);
    if (checks) this.#toCompile(plain);
    const { layout } = handler;
    this.#scratchWords.fill(0);
    layout.fill(this.#scratch, raw, this.#view, (size) => {
      const at = this.#blockTop;
      this.#blockTop += (size + 7) & ~7;
      return at;
    });
    // Records are copies: templates may be forgotten while records live. Only blocks are shared.
    if (this.#templateCount === MAX_TEMPLATES) {
      this.#templateOf.clear();
      this.#templateCount = 1;
    }
    const index = this.#templateCount++;
    this.#setTemplate(index, handler.near, handler.far, layout.branch?.(raw) ?? NO_BRANCH, handler.ends, checks ? plain.near : 0);
    this.#templateOf.set(word | 0, index);
    return index;
  }

  /** Writes the record after the last of a page. */
  placeSentinel(at: number): void {
    this.#view.setUint16(at, SENTINEL, true);
  }

  /** Compiles the cold handlers that templates made since the last time need. */
  compile(): void {
    if (!this.#uncompiled.length) return;
    const handlers = this.#uncompiled;
    this.#uncompiled = [];
    const module = new ModuleWriter();
    module.importMemory('e', 'memory');
    const helpers = new Map<string, number>();
    for (const { ir } of handlers)
      for (const n of ir.nodes) {
        if (n.op !== 'call' || helpers.has(n.name as string)) continue;
        const helper = HELPERS[n.name as string];
        if (!helper) throw new Error(`${ir.insn.name}: no helper ${n.name}`);
        helpers.set(n.name as string, module.importFunction('h', n.name as string, helper.params, [helper.result]));
      }
    handlers.forEach(({ ir, layout }, i) => {
      module.func(
        emitCold(ir, layout, (name) => helpers.get(name) as number),
        String(i),
      );
    });
    let compiled: WebAssembly.Module;
    try {
      compiled = new WebAssembly.Module(module.bytes());
    } catch (e) {
      throw new Error(`${handlers.map((h) => `${h.ir.insn.name} ${JSON.stringify(h.ir.statics)}`).join(', ')}: ${e}`);
    }
    const handlersOf = handlers.map((h) => h.near);
    this.#cold.push({ module: compiled, handlers: handlersOf });
    this.#placeCold(compiled, handlersOf);
  }

  #setCold(handler: number, f: unknown): void {
    const index = handler - this.#firstCold;
    if (index >= this.#table.length) this.#table.grow(this.#table.length);
    this.#table.set(index, f);
  }

  /** Number of a handler that is none of an instruction: the module's `f`, from the record's address to an exit code. */
  addHandler(module: WebAssembly.Module): number {
    const handler = this.#freeHandlers.pop() ?? this.#firstCold + this.#coldCount++;
    this.#added.set(handler, module);
    this.#placeAdded(handler, module);
    return handler;
  }
  #placeAdded(handler: number, module: WebAssembly.Module): void {
    this.#setCold(handler, new WebAssembly.Instance(module, { e: { memory: this.#memory } }).exports.f);
  }
  /** No record may have it any more. */
  removeHandler(handler: number): void {
    this.#added.delete(handler);
    this.#setCold(handler, null);
    this.#freeHandlers.push(handler);
  }
}

const UNDEFINED: Insn = { name: 'UNDEFINED', pattern: '', mask: 0, value: 0, fields: [], semantics: () => {}, options: {} };
