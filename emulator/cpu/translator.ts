/**
 * The translator: hot code becomes regions, functions of WebAssembly of their own (translator/*.ts), next to the interpreter that
 * everything else is left to.
 *
 * The interpreter's fast loop counts taken branches by target and leaves where one has become hot (`EXIT.ARRIVED`). `translate`
 * makes a region that can be entered there, and writes it into the count's place, where the loop finds it. `run` is the code
 * around both: it goes from region to region, and to the interpreter for what regions do not do.
 *
 * Regions belong to physical pages. They go when one of their pages is written, and all of them when there are too many.
 * What is translated, and when, depends on nothing but what the guest executes, and the guest cannot see it.
 */
import type { Interpreter } from './interpreter.ts';
import {
  ARRIVALS_BIAS,
  CELL,
  CODE_ENTRIES,
  CODE_ENTRY,
  CODE_TLB,
  CODE_TLB_OFFSET,
  EXIT,
  PAGE_RECORDS,
  PAGE_STRIDE,
  RECORD,
  RECORD_SLOTS,
  RECORDS,
  REGION,
  REGION_SHIFT,
  REGION_TABLES,
  REGION_TABLES_SIZE,
  BELOW_RAM,
} from './layout.ts';
import { FAST_LIMIT, type LandingHandlers, pushLandingBit } from './loop.ts';
import { Generator, type JumpTable, LANDING_SHIFT, LEFT } from './translator/generate.ts';
import { Planner } from './translator/plan.ts';
import { analyse, type CodePage, formRegion, type Limits, type Region, structure } from './translator/region.ts';
import { VP, WINDOW } from './vp-state.ts';
import { Code } from './wasm/encoder.ts';
import { ModuleWriter } from './wasm/module.ts';

/** Taken branches to one place after which it is translated. */
export const THRESHOLD = 30_000;
/** Of one region. Execution between two looks at the budget must stay below `FAST_LIMIT`. */
const LIMITS = { instructions: 400, pages: 8, entries: 100 } as const;
/** What is reached this much less often than the entry is not made part of a region. */
const WARM_SHIFT = 4;
/** Regions, and bytes of their code, at which all are dropped. */
const MAX_REGIONS = 4000;
const MAX_BYTES = 64 << 20;
/** Arrivals that are not looked at where no region could be made. */
const REST = -(1 << 30);
const PAGE = 4096;
/** Every jump may land there. */
const ANYWHERE = 15;

/** What the CPU knows about code. */
export interface CodePort {
  /** The RAM page that instructions at this virtual page come from, if any were executed. */
  page(hi: number, lo: number): { number: number; records: number; guarded: boolean } | undefined;
  /** The record is a breakpoint. */
  isPatched(rec: number): boolean;
}

export interface TranslatorStatistics {
  /** Alive. */
  regions: number;
  /** Made since the start. */
  made: number;
  /** Guest instructions in them, and bytes of WebAssembly. */
  instructions: number;
  bytes: number;
  /** Places that had nothing to translate. */
  refused: number;
  dropped: number;
  /** Times when everything was dropped because there was too much. */
  evictions: number;
  /** In units of `clock`. */
  generating: number;
  compiling: number;
}

interface Made {
  readonly index: number;
  readonly module: WebAssembly.Module;
  /** Addresses of the arrival cells that lead here. */
  readonly cells: number[];
  readonly pages: readonly number[];
}

export class Translator {
  readonly statistics: TranslatorStatistics = {
    regions: 0,
    made: 0,
    instructions: 0,
    bytes: 0,
    refused: 0,
    dropped: 0,
    evictions: 0,
    generating: 0,
    compiling: 0,
  };
  /** For measurements only: nothing depends on it. */
  clock: () => number = () => 0;

  #memory: WebAssembly.Memory;
  #view: DataView;
  /** The memory below RAM, by 4 bytes. */
  #words: Int32Array;
  readonly #interpreter: Interpreter;
  readonly #port: CodePort;
  readonly #limits: Limits;
  readonly #planner: Planner;
  #table = new WebAssembly.Table({ element: 'anyfunc', initial: 256 });
  readonly #main: WebAssembly.Module;
  #run: () => number;
  readonly #regions: (Made | undefined)[] = [];
  readonly #free: number[] = [];
  /** Regions by address of a page's records. */
  readonly #ofPage = new Map<number, Set<Made>>();
  #tableTop = REGION_TABLES;
  #bytes = 0;

  constructor(memory: WebAssembly.Memory, interpreter: Interpreter, threshold: number, port: CodePort) {
    this.#memory = memory;
    this.#view = new DataView(memory.buffer);
    this.#words = new Int32Array(memory.buffer, 0, BELOW_RAM >>> 2);
    this.#interpreter = interpreter;
    this.#port = port;
    this.#limits = { ...LIMITS, warm: Math.max(1, threshold >>> WARM_SHIFT) };
    this.#planner = new Planner((word) => interpreter.decode(word));
    const module = new ModuleWriter();
    module.importMemory('e', 'memory');
    module.importTable('e', 'table');
    const interpret = module.importFunction('e', 'interpret', ['i32'], ['i32']);
    module.func(emitRun(module, interpret, interpreter.landings, threshold), 'run');
    this.#main = new WebAssembly.Module(module.bytes());
    this.#run = this.#instantiate();
  }

  #instantiate(): () => number {
    const imports = { e: { memory: this.#memory, table: this.#table, interpret: this.#interpreter.wasmRun } };
    return new WebAssembly.Instance(this.#main, imports).exports.run as () => number;
  }

  #place(index: number, module: WebAssembly.Module): void {
    if (index >= this.#table.length) this.#table.grow(this.#table.length);
    this.#table.set(index, new WebAssembly.Instance(module, { e: { memory: this.#memory } }).exports.f);
  }

  /** What was in memory is in another one now, the interpreter's too: the regions run there. */
  memoryRenewed(memory: WebAssembly.Memory): void {
    this.#memory = memory;
    this.#view = new DataView(memory.buffer);
    this.#words = new Int32Array(memory.buffer, 0, BELOW_RAM >>> 2);
    this.#table = new WebAssembly.Table({ element: 'anyfunc', initial: this.#table.length });
    for (const made of this.#regions) if (made) this.#place(made.index, made.module);
    this.#run = this.#instantiate();
  }

  /** Runs from the state in the cells, as `Interpreter.run` does when it need not be exact. */
  run(_exact: false): number {
    return this.#run();
  }

  /** Instructions executed in regions so far. */
  get executed(): number {
    return Number(this.#view.getBigUint64(CELL.REGION_WORK, true)) / RECORD;
  }
  /** How often regions were left so far, by `LEFT`. */
  get left(): number[] {
    return [0, 8, 16].map((at) => Number(this.#view.getBigUint64(CELL.REGION_LEFT + at, true)));
  }

  /** Makes a region that is entered at the record `rec`, whose instruction is at the virtual address `hi`:`lo`. */
  translate(rec: number, hi: number, lo: number): void {
    const cell = ((rec >>> 3) + ARRIVALS_BIAS) >>> 2;
    if (this.statistics.regions >= MAX_REGIONS || this.#bytes > MAX_BYTES) this.#evict();
    const t0 = this.clock();
    const region = this.#form(hi, lo);
    const table = region && this.#jumpTable(region);
    if (!region || table === 'full') {
      if (table === 'full') this.#evict();
      else {
        this.#words[cell] = REST;
        this.statistics.refused++;
      }
      return;
    }
    const items = structure(region);
    analyse(region);
    const module = new ModuleWriter();
    module.importMemory('e', 'memory');
    module.func(new Generator(region, table).generate(items), 'f');
    const bytes = module.bytes();
    const t1 = this.clock();
    this.#install(region, new WebAssembly.Module(bytes));
    this.#bytes += bytes.length;
    const { statistics } = this;
    statistics.made++;
    statistics.instructions += region.instructions;
    statistics.bytes += bytes.length;
    statistics.generating += t1 - t0;
    statistics.compiling += this.clock() - t1;
  }

  #form(hi: number, lo: number): Region | undefined {
    const view = this.#view;
    const base = (lo & -PAGE) >>> 0;
    const source = {
      page: (delta: number): CodePage | undefined => {
        const at = base + delta;
        const carry = Math.floor(at / 0x1_0000_0000);
        const page = this.#port.page((hi + carry) >>> 0, at >>> 0);
        return page && { ...page, delta, index: 0 };
      },
      word: (page: CodePage, offset: number): number => view.getInt32(BELOW_RAM + page.number * PAGE + offset, true),
      isPatched: (page: CodePage, offset: number): boolean => this.#port.isPatched(page.records + offset * (RECORD / 4)),
      arrivals: (page: CodePage, offset: number): number =>
        this.#words[((page.records + offset * (RECORD / 4)) / 8 + ARRIVALS_BIAS) >>> 2],
    };
    return formRegion(source, this.#planner, lo & (PAGE - 1), this.#limits);
  }

  /** The table of a region's entries for its jumps; undefined: it has no jumps. */
  #jumpTable(region: Region): JumpTable | undefined | 'full' {
    if (!region.hasJumps) return undefined;
    const { entries } = region;
    let size = 4;
    const slotOf = (offset: number): number => (offset >>> 2) & (size - 1);
    const collides = (): boolean => new Set(entries.map((e) => slotOf(e.offset))).size < entries.length;
    while (collides() && size < 1024) size *= 2;
    const address = this.#tableTop;
    if (address + size * 8 > REGION_TABLES + REGION_TABLES_SIZE) return 'full';
    this.#tableTop += size * 8;
    const words = this.#words;
    const first = address >>> 2;
    // A distance is never looked for in a slot that is not its own.
    for (let i = 0; i < size; i++) words[first + 2 * i] = i === 0 ? 4 : 0;
    entries.forEach((e, i) => {
      words[first + 2 * slotOf(e.offset)] = e.offset;
      words[first + 2 * slotOf(e.offset) + 1] =
        i | (e.page.index << 16) | ((e.page.guarded ? e.plans[0].landing : ANYWHERE) << LANDING_SHIFT);
    });
    return { address, size };
  }

  #install(region: Region, wasm: WebAssembly.Module): void {
    const index = this.#free.pop() ?? this.#regions.length;
    this.#place(index, wasm);
    const made: Made = { index, module: wasm, cells: [], pages: region.pages.map((p) => p.records) };
    this.#regions[index] = made;
    this.statistics.regions++;
    region.entries.forEach((e, i) => {
      const rec = e.page.records + ((e.offset & (PAGE - 1)) / 4) * RECORD;
      const cell = ((rec >>> 3) + ARRIVALS_BIAS) >>> 2;
      if (this.#words[cell] >= REGION) return;
      this.#words[cell] = REGION + (index << REGION_SHIFT) + i;
      made.cells.push(cell);
    });
    for (const page of made.pages) {
      let list = this.#ofPage.get(page);
      if (!list) {
        list = new Set();
        this.#ofPage.set(page, list);
      }
      list.add(made);
    }
  }

  #drop(made: Made): void {
    for (const cell of made.cells) this.#words[cell] = 0;
    for (const page of made.pages) this.#ofPage.get(page)?.delete(made);
    this.#table.set(made.index, null);
    this.#regions[made.index] = undefined;
    this.#free.push(made.index);
    this.statistics.regions--;
    this.statistics.dropped++;
  }

  /** The code of the page whose records are at `records` changes. */
  dropPage(records: number): void {
    const first = ((records >>> 3) + ARRIVALS_BIAS) >>> 2;
    this.#words.fill(0, first, first + PAGE_RECORDS);
    const list = this.#ofPage.get(records);
    if (!list) return;
    this.#ofPage.delete(records);
    for (const made of list) this.#drop(made);
  }

  #evict(): void {
    this.statistics.evictions++;
    for (const made of this.#regions) if (made) this.#drop(made);
    this.#ofPage.clear();
    this.#tableTop = REGION_TABLES;
    this.#bytes = 0;
  }

  /** All records go: of the first `slots` pages, and of the last `guarded`. */
  dropAll(slots: number, guarded: number): void {
    this.#evict();
    const pages = (n: number): number => ((RECORDS + n * PAGE_STRIDE) / 8 + ARRIVALS_BIAS) >>> 2;
    this.#words.fill(0, pages(0), pages(slots));
    this.#words.fill(0, pages(RECORD_SLOTS - guarded), pages(RECORD_SLOTS));
  }
}

/** `run`: regions and the interpreter, until there is something for TypeScript to do. */
function emitRun(module: ModuleWriter, interpret: number, landings: LandingHandlers, threshold: number): Code {
  const code = new Code([], ['i32']);
  const rec = code.local('i32');
  const arrivals = code.local('i32');
  const left = code.local('i32');
  const entry = code.local('i32');
  const before = code.local('i32');
  const target = code.local('i64');
  const again = code.loop();
  const load = (name: string, at: number) => code.i32(0).mem(name, at);
  const arrivalsOf = () => code.get(rec).i32(3).op('i32.shr_u').mem('i32.load', ARRIVALS_BIAS).tee(arrivals);
  load('i32.load', CELL.REC);
  code.set(rec);
  arrivalsOf();
  code.i32(REGION).op('i32.ge_s');
  code.if();
  const leaveRegions = code.block();
  const chain = code.loop();
  const count = (at: number, by: () => void) => {
    code.i32(0).i32(0).mem('i64.load', at);
    by();
    code.op('i64.extend_i32_u').op('i64.add').mem('i64.store', at);
  };
  load('i32.load', CELL.REM);
  code.set(before);
  code
    .get(arrivals)
    .i32((1 << REGION_SHIFT) - 1)
    .op('i32.and');
  code
    .get(arrivals)
    .i32(REGION)
    .op('i32.sub')
    .i32(REGION_SHIFT)
    .op('i32.shr_u')
    .callIndirect(module.type(['i32'], ['i32']));
  code.set(left);
  count(CELL.REGION_WORK, () => code.get(before).i32(0).mem('i32.load', CELL.REM).op('i32.sub'));
  code.get(left).i32(3).op('i32.shl').tee(entry).get(entry).mem('i64.load', CELL.REGION_LEFT).i64(1).op('i64.add');
  code.mem('i64.store', CELL.REGION_LEFT);
  code.get(left).op('i32.eqz').brIf(leaveRegions);
  code.get(left).i32(LEFT.JUMP).op('i32.eq');
  code.if();
  load('i64.load', WINDOW + VP.PC);
  code
    .tee(target)
    .i64(12 - Math.log2(CODE_ENTRY))
    .op('i64.shr_u')
    .op('i32.wrap_i64')
    .i32((CODE_ENTRIES - 1) * CODE_ENTRY)
    .op('i32.and');
  load('i32.load', WINDOW + VP.EL1);
  code.i32(CODE_TLB).op('i32.mul').op('i32.add');
  load('i32.load', CELL.TLB);
  code.op('i32.add').i32(CODE_TLB_OFFSET).op('i32.add').tee(entry).mem('i64.load');
  code.get(target).i64(~0xffcn).op('i64.and').op('i64.ne');
  code.if();
  code.i32(EXIT.JUMP).ret().end();
  code
    .i32(0)
    .get(entry)
    .mem('i32.load', 8)
    .get(target)
    .op('i32.wrap_i64')
    .i32(0xffc)
    .op('i32.and')
    .i32(3)
    .op('i32.shl')
    .op('i32.add')
    .tee(rec);
  code.mem('i32.store', CELL.REC).get(rec);
  load('i32.load', CELL.GUARDED);
  code.op('i32.ge_u');
  code.if();
  load('i32.load', CELL.JUMP);
  code.tee(entry);
  load('i32.load', CELL.REM);
  code.op('i32.xor').i32(RECORD).op('i32.lt_u');
  pushLandingBit(code, rec, landings);
  code.get(entry).op('i32.and').op('i32.eqz').op('i32.and');
  code.if();
  code.i32(EXIT.JUMP).ret().end().end().else();
  load('i32.load', CELL.REC);
  code.set(rec).end();
  arrivalsOf();
  code.i32(REGION).op('i32.ge_s').brIf(chain);
  code.get(arrivals).i32(threshold).op('i32.ge_s');
  code.if();
  code.i32(EXIT.ARRIVED).ret().end();
  code.get(rec).i32(3).op('i32.shr_u').get(arrivals).i32(1).op('i32.add').mem('i32.store', ARRIVALS_BIAS);
  code.end().end().end();
  load('i32.load', CELL.REM);
  code.i32(FAST_LIMIT * RECORD).op('i32.lt_s');
  code.if();
  code.i32(EXIT.BUDGET).ret().end();
  code.i32(0).call(interpret).tee(left).i32(EXIT.ARRIVED).op('i32.ne');
  code.if();
  code.get(left).ret().end();
  load('i32.load', CELL.REC);
  code.set(rec);
  arrivalsOf();
  code.i32(REGION).op('i32.ge_s').brIf(again);
  code.end().i32(EXIT.ARRIVED);
  return code;
}
