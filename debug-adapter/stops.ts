/**
 * What makes the guest stop: hypercall breakpoints, and the conditions, hit counts and log messages of all breakpoints.
 */
import {
  type Clause,
  type Exit,
  type Filter,
  type HitCount,
  type HypercallInfo,
  HV_STATUS,
  hypercallNames,
  type Machine,
} from '../emulator/index.ts';
import { type Context, evaluate, isTrue } from './expression/evaluate.ts';
import { type CodePlace, lowerCondition } from './expression/lower.ts';
import { ExpressionError, type Node, parse } from './expression/parse.ts';
import type { Symbolizer } from './symbols/symbolizer.ts';
import { UserError } from './user-error.ts';

/** A condition, a hit count and a log message, compiled. */
export interface Guard {
  condition?: Node;
  /** `>= 3`, `== 3`, `% 3`; a number alone: from that hit on. */
  hit?: Omit<HitCount, 'counter'>;
  log?: { text: string; parts: (string | Node)[] };
  /** While the machine counts, what it had counted before. */
  hits: number;
  /** The machine's counter. */
  counter?: number;
  /** What the engine judges by itself, by place; `undefined`: anywhere. */
  clauses?: Map<bigint | undefined, Clause>;
  readonly wanted?: GuardText;
}

export interface GuardText {
  condition?: string;
  hitCondition?: string;
  logMessage?: string;
}

/** Of a hit count. */
const MAX_COUNT = 0xffffffff;

/** Compiles; throws UserError with what is wrong. */
export function guard(text: GuardText): Guard {
  const out: Guard = { hits: 0, wanted: text };
  try {
    if (text.condition?.trim()) out.condition = parse(text.condition);
    if (text.hitCondition?.trim()) {
      const m = /^\s*(>=|<=|==|=|>|<|%)?\s*(\d+)\s*$/.exec(text.hitCondition);
      const count = Number(m?.[2]);
      if (!m || count < 1 || count > MAX_COUNT)
        throw new UserError(
          `hit count "${text.hitCondition}": a number, or one of > >= == < <= % and a number, from 1 to ${MAX_COUNT}`,
        );
      out.hit = { op: m[1] === '=' ? '==' : ((m[1] ?? '>=') as HitCount['op']), count };
    }
    if (text.logMessage) {
      const parts = text.logMessage.split(/\{([^}]*)\}/).map((part, i) => (i % 2 ? parse(part) : part));
      out.log = { text: text.logMessage, parts };
    }
  } catch (e) {
    if (e instanceof ExpressionError) throw new UserError(e.message);
    throw e;
  }
  return out;
}

export type Verdict = { stop: boolean; log?: string; error?: string };

/**
 * Whether a breakpoint that was reached stops, and what it says. A condition that fails to evaluate does not stop. `judged`: the engine has
 * found that it does. `count` counts a hit, and says how many there are.
 */
export function judge(
  g: Guard,
  context: Context,
  show: (node: Node) => string,
  { judged = false, count = () => ++g.hits }: { judged?: boolean; count?: () => number } = {},
): Verdict {
  try {
    if (!judged) {
      if (g.condition && !isTrue(evaluate(g.condition, context))) return { stop: false };
      const hits = count();
      if (g.hit && !isReached(g.hit, hits)) return { stop: false };
    }
    if (!g.log) return { stop: true };
    return { stop: false, log: g.log.parts.map((part) => (typeof part === 'string' ? part : show(part))).join('') };
  } catch (e) {
    if (e instanceof ExpressionError) return { stop: false, error: e.message };
    throw e;
  }
}

function isReached({ op, count }: Omit<HitCount, 'counter'>, hits: number): boolean {
  switch (op) {
    case '>=':
      return hits >= count;
    case '>':
      return hits > count;
    case '<':
      return hits < count;
    case '<=':
      return hits <= count;
    case '%':
      return hits % count === 0;
    case '==':
      return hits === count;
  }
}

// --- what the engine judges by itself -------------------------------------------------------------------------------------

/** What names mean at an address of the code, or anywhere. */
export type PlaceOf = (pc: bigint | undefined) => CodePlace;

/** The machine's part in breakpoints: which conditions it evaluates, and its hit counters. */
export class Engine {
  readonly machine: Machine;
  readonly #placeOf: PlaceOf;
  readonly #free: number[];
  readonly #counting = new Set<Guard>();

  constructor(machine: Machine, placeOf: PlaceOf) {
    this.machine = machine;
    this.#placeOf = placeOf;
    this.#free = Array.from({ length: machine.filterLimits.counters }, (_, i) => machine.filterLimits.counters - 1 - i);
  }

  /** What is left to the engine of a breakpoint at a place; undefined: nothing, it has to stop each time. */
  clause(g: Guard, pc: bigint | undefined): Clause | undefined {
    const known = g.clauses?.get(pc);
    if (known || (!g.condition && !g.hit)) return known;
    const condition = g.condition && lowerCondition(g.condition, this.#placeOf(pc));
    if (g.condition && !condition) return undefined;
    const counter = g.hit && this.#counterOf(g);
    if (g.hit && counter === undefined) return undefined;
    const clause: Clause = {
      ...(condition ? { condition } : {}),
      ...(g.hit && counter !== undefined ? { hit: { ...g.hit, counter } } : {}),
    };
    g.clauses ??= new Map();
    g.clauses.set(pc, clause);
    return clause;
  }

  #counterOf(g: Guard): number | undefined {
    if (g.counter !== undefined) return g.counter;
    const counter = this.#free.pop();
    if (counter === undefined) return undefined;
    g.counter = counter;
    this.#counting.add(g);
    this.machine.setHits(counter, g.hits);
    return counter;
  }

  /** False for more than the engine can do. */
  accepts({ clauses }: Filter): boolean {
    return clauses.length > 0 && clauses.length <= this.machine.filterLimits.clauses;
  }

  /** One more hit that the debugger has judged itself. */
  count(g: Guard): number {
    if (g.counter === undefined) return ++g.hits;
    const hits = this.machine.hits(g.counter) + 1;
    this.machine.setHits(g.counter, hits);
    return hits;
  }

  /** The engine does no more for a breakpoint. */
  release(g: Guard): void {
    g.clauses = undefined;
    if (g.counter === undefined) return;
    g.hits = this.machine.hits(g.counter);
    this.#free.push(g.counter);
    this.#counting.delete(g);
    g.counter = undefined;
  }

  releaseAll(): void {
    for (const g of [...this.#counting]) this.release(g);
  }
}

/** The same breakpoint, set again: it goes on counting. */
const sameGuard = (a: Guard, b: Guard): boolean =>
  a.wanted?.condition === b.wanted?.condition &&
  a.wanted?.hitCondition === b.wanted?.hitCondition &&
  a.wanted?.logMessage === b.wanted?.logMessage;

// --- hypercall breakpoints ------------------------------------------------------------------------------------------------

export interface HypercallStop extends Guard {
  /** Undefined: any call. */
  code: number | undefined;
  phase: 'entry' | 'return';
  /** What the user asked for. */
  text: string;
  errorShown?: boolean;
}

/** Code of a call given by TLFS name (any case) or number. Throws UserError with the nearest names. */
export function callCode(text: string): number {
  const given = text.trim();
  if (/^(0x[0-9a-f]+|\d+)$/i.test(given)) {
    const code = Number(given);
    if (code > 0xffff) throw new UserError(`hypercall code ${given} is above 0xffff`);
    return code;
  }
  const names = hypercallNames();
  const wanted = given.toLowerCase();
  const found = names.find((n) => n.name.toLowerCase() === wanted || n.name.toLowerCase() === `hvcall${wanted}`);
  if (found) return found.code;
  const stem = wanted.replace(/^hv(ext)?call/, '');
  const near = names
    .filter((n) => stem.length > 2 && n.name.toLowerCase().includes(stem.slice(0, 6)))
    .slice(0, 3)
    .map((n) => n.name);
  throw new UserError(
    `unknown hypercall "${given}"${near.length ? `; did you mean ${near.join(' or ')}?` : ' (a TLFS name such as HvCallPostMessage, or a code such as 0x5c)'}`,
  );
}

/** Names that only exist when a call returns. */
const ON_RETURN = /\b(status|statusName|repsCompleted)\b/;

/**
 * A hypercall breakpoint as the Breakpoints view gives it. `call` undefined: the condition starts with the call
 * (`HvCallPostMessage and ConnectionId == 4`, `0x5c`), or is about any call. `return:` before a condition, or a condition
 * about the status, means on return.
 */
export function hypercallStop(call: string | undefined, text: GuardText, phase?: 'entry' | 'return'): HypercallStop {
  let condition = text.condition?.trim() ?? '';
  let wanted = call;
  const takePhase = (): void => {
    const prefix = /^(entry|return)\s*:\s*/.exec(condition);
    if (!prefix) return;
    phase ??= prefix[1] as 'entry' | 'return';
    condition = condition.slice(prefix[0].length);
  };
  takePhase();
  if (wanted === undefined) {
    const m = /^(Hv(?:Ext)?Call\w+|0x[0-9a-f]{1,4})\s*(?:$|(?:and|&&|,|:)\s*(.*)$)/i.exec(condition);
    if (m) {
      wanted = m[1];
      condition = m[2] ?? '';
      takePhase();
    }
  }
  return {
    ...guard({ ...text, condition }),
    code: wanted === undefined ? undefined : callCode(wanted),
    phase: phase ?? (ON_RETURN.test(condition) ? 'return' : 'entry'),
    text: wanted ?? 'any hypercall',
  };
}

const STATUS_BY_NAME: Readonly<Record<string, number>> = HV_STATUS;

/** What names mean in the condition of a hypercall breakpoint: decoded fields first, then what `outer` knows. */
export function hypercallContext(call: HypercallInfo, outer: Context): Context {
  const about: Record<string, unknown> = {
    call: call.name,
    code: call.code,
    vp: call.vp,
    phase: call.phase,
    conduit: call.conduit,
    fast: call.fast,
    repCount: call.repCount,
    repStart: call.repStart,
    control: call.control,
    ...(call.phase === 'return' ? { status: call.status, statusName: call.statusName, repsCompleted: call.repsCompleted } : {}),
  };
  const look = (fields: Readonly<Record<string, unknown>> | undefined, path: string[]): unknown => {
    let at: unknown = fields;
    for (const step of path) {
      if (typeof at !== 'object' || at === null || !Object.hasOwn(at, step)) return undefined;
      at = (at as Record<string, unknown>)[step];
    }
    return at;
  };
  return {
    ...outer,
    register: (name) => outer.register(name),
    symbol: (name) => outer.symbol(name),
    read: (address, size) => outer.read(address, size),
    name(name) {
      const path = name.split('.');
      const status = name.startsWith('HV_STATUS_') ? STATUS_BY_NAME[name.slice('HV_STATUS_'.length)] : undefined;
      const found = status ?? look(call.input, path) ?? look(call.output, path) ?? look(about, path);
      return (found as ReturnType<Context['name']>) ?? outer.name(name);
    },
  };
}

export class HypercallStops {
  /** By who made them: each origin replaces its own. */
  readonly #lists = new Map<string, HypercallStop[]>();
  #wanted: HypercallStop[] = [];
  /** The breakpoint that the last stop was for. */
  last: HypercallStop | undefined;

  set(origin: string, list: HypercallStop[]): void {
    this.#lists.set(origin, list);
    this.#wanted = [...this.#lists.values()].flat();
  }

  get empty(): boolean {
    return this.#wanted.length === 0;
  }

  /** True when the guest must stop at this call. `say` gets log messages and broken conditions. */
  matches(
    call: HypercallInfo,
    context: () => Context,
    show: (node: Node, context: Context) => string,
    say: (text: string) => void,
  ): boolean {
    for (const stop of this.#wanted) {
      if (stop.phase !== call.phase || (stop.code !== undefined && stop.code !== call.code)) continue;
      const here = hypercallContext(call, context());
      const verdict = judge(stop, here, (node) => show(node, here));
      if (verdict.log !== undefined) say(verdict.log);
      if (verdict.error !== undefined && !stop.errorShown) {
        stop.errorShown = true;
        say(`The condition of the breakpoint on ${stop.text} cannot be evaluated: ${verdict.error}`);
      }
      if (verdict.stop) {
        this.last = stop;
        return true;
      }
    }
    return false;
  }
}

// --- breakpoints on code --------------------------------------------------------------------------------------------------

/** Where a breakpoint on a source line is. */
export interface Found {
  addresses: bigint[];
  line: number;
}

export interface CodeBreakpoint extends Guard {
  id: number;
  /** Each origin's list is replaced as a whole. */
  origin: 'function' | 'instruction' | 'exception' | `listing ${string}` | `source ${string}`;
  /** Function name, `name+0x10`, `name+0x10 [module]` or address as the user wrote it. */
  text: string;
  /** Empty while the name is unknown. */
  addresses: bigint[];
  /** Where it is now; for those that are more than a name or an address. */
  find?: () => Found | undefined;
  /** What the client was told of why it is nowhere. */
  told?: string;
  /** Why it is nowhere, in words. */
  why?: () => string | undefined;
  /** What makes it of ours: an exception filter. */
  special?: Special;
  /** The line that has it, where that is another than was asked for. */
  line?: number;
  errorShown?: boolean;
  /** What is wrong with it, for good. */
  problem?: string;
}

/** A breakpoint on code that the user has asked for by another word than where it is. */
export interface Special {
  filter: string;
  /** Where it is now. */
  places(symbols: Symbolizer): bigint[];
  /** Whether an arrival there is one. */
  when(vp: number): boolean;
}

/** A name is not unique in a kernel: static functions repeat, and copies are inlined everywhere. */
const MAX_PLACES = 4096;

/** Addresses that a function breakpoint's text means now. */
export function codeAddresses(text: string, symbols: Symbolizer): bigint[] {
  const m = /^\s*([A-Za-z_.$][\w.$]*|0x[0-9a-f]+)\s*(?:\+\s*(0x[0-9a-f]+|\d+))?\s*(?:\[(\w+)\])?\s*$/i.exec(text);
  if (!m) return [];
  const offset = m[2] ? BigInt(m[2]) : 0n;
  if (/^0x/i.test(m[1])) return [BigInt.asUintN(64, BigInt(m[1]) + offset)];
  return [
    ...new Set(
      [...symbols.named(m[1]), ...(m[2] ? [] : symbols.clones(m[1]))]
        .filter((s) => !m[3] || s.module === m[3])
        .slice(0, MAX_PLACES)
        .map((s) => s.address + offset),
    ),
  ];
}

/** What knows where code is. */
export interface Places {
  readonly symbols: Symbolizer;
  /** Where a breakpoint on a function goes by debug information; undefined: there is none about it. */
  functionAddresses(name: string, module?: string): bigint[] | undefined;
  /** Is the code at an address described by debug information? */
  describes(address: bigint): boolean;
}

function locate(b: CodeBreakpoint, { symbols, functionAddresses, describes }: Places): void {
  if (b.special) {
    b.addresses = b.special.places(symbols);
    return;
  }
  if (b.find) {
    const found = b.find();
    b.addresses = found?.addresses ?? [];
    if (found) b.line = found.line;
    return;
  }
  const name = b.origin === 'function' ? /^\s*([A-Za-z_][\w:{}#<>]*)\s*(?:\[(\w+)\])?\s*$/.exec(b.text) : null;
  const known = name ? functionAddresses(name[1], name[2]) : undefined;
  const others = codeAddresses(b.text, symbols);
  // A module without debug information may have a function of that name, too.
  b.addresses = known ? [...known, ...others.filter((a) => !describes(a))].slice(0, MAX_PLACES) : others;
}

/** All breakpoints on code; keeps the machine's in step. */
export class CodeBreakpoints {
  list: CodeBreakpoint[] = [];
  /** Ours: loading of modules. */
  readonly internal = new Set<bigint>();
  /** Ours: where a step may end. */
  plan: readonly bigint[] = [];
  /** What lets the engine judge; undefined while there is no machine. */
  engine: Engine | undefined;
  /** Where the machine has breakpoints, and where the engine judges those that are there, these. */
  readonly #placed = new Map<bigint, readonly CodeBreakpoint[] | undefined>();
  /** Places where the engine was asked. */
  readonly #asked = new Set<bigint>();
  #nextId = 1;

  /** Replaces those of one origin. */
  set(
    origin: CodeBreakpoint['origin'],
    items: (GuardText & Pick<CodeBreakpoint, 'text' | 'find' | 'why' | 'special'>)[],
    places: Places | undefined,
  ): CodeBreakpoint[] {
    const before = this.list.filter((b) => b.origin === origin);
    for (const b of before) this.engine?.release(b);
    const made = items.map((item): CodeBreakpoint => {
      const { text, find, why, special } = item;
      const more = { ...(find ? { find } : {}), ...(why ? { why } : {}), ...(special ? { special } : {}) };
      const base = { id: this.#nextId++, origin, text, ...more };
      try {
        const b: CodeBreakpoint = { ...base, ...guard(item), addresses: [] };
        // The list comes again whenever one of it changes: the others go on counting.
        b.hits = before.find((old) => old.text === text && sameGuard(old, b))?.hits ?? 0;
        if (places) locate(b, places);
        return b;
      } catch (e) {
        if (!(e instanceof UserError)) throw e;
        return { ...base, hits: 0, addresses: [], problem: e.message };
      }
    });
    this.list = [...this.list.filter((b) => b.origin !== origin), ...made];
    return made;
  }

  /** Looks up names again; returns those whose places changed. */
  resolve(places: Places): CodeBreakpoint[] {
    return this.list.filter((b) => {
      if (b.problem || b.origin === 'instruction') return false;
      const before = b.addresses.join();
      locate(b, places);
      return b.addresses.join() !== before;
    });
  }

  /** Some breakpoint is by name or line. */
  get named(): boolean {
    return this.list.some((b) => b.origin !== 'instruction' && !b.special && !b.problem);
  }

  at(pc: bigint): CodeBreakpoint[] {
    return this.list.filter((b) => b.addresses.includes(pc));
  }

  /** The machine is no more: in the next one nothing is placed yet. */
  leave(): void {
    this.engine?.releaseAll();
    this.engine = undefined;
    this.internal.clear();
    this.plan = [];
    this.#placed.clear();
    this.#asked.clear();
  }

  /** Makes the machine's breakpoints what they should be. */
  place(machine: Machine): void {
    const wanted = new Set([...this.internal, ...this.plan, ...this.list.flatMap((b) => b.addresses)]);
    for (const [address, judged] of this.#placed) {
      if (!wanted.has(address)) {
        machine.clearBreakpoint(address);
        this.#placed.delete(address);
      } else if (judged && (this.#isOurs(address) || !sameList(judged, this.at(address)))) this.#stopAlways(machine, address);
    }
    for (const address of wanted) if (!this.#placed.has(address)) this.#stopAlways(machine, address);
  }

  #isOurs(address: bigint): boolean {
    return this.internal.has(address) || this.plan.includes(address);
  }

  #stopAlways(machine: Machine, address: bigint): void {
    machine.setBreakpoint(address);
    this.#placed.set(address, undefined);
    this.#asked.delete(address);
  }

  /** Names may mean something else now: what the engine was told is forgotten. */
  forgetMeanings(machine: Machine): void {
    for (const [address, judged] of this.#placed) if (judged) this.#stopAlways(machine, address);
    this.#asked.clear();
    for (const b of this.list) b.clauses = undefined;
  }

  /** The breakpoints that a stop of the machine is for; `judged`: the engine has found that they stop. */
  met(pc: bigint, clauses: readonly number[] | undefined): { hit: CodeBreakpoint[]; judged: boolean } {
    const judged = clauses && this.#placed.get(pc);
    return judged ? { hit: clauses.map((i) => judged[i]), judged: true } : { hit: this.at(pc), judged: false };
  }

  /** From now on the engine judges what is at a place, if it can: not before the guest gets there, by then names have their meanings. */
  leaveToEngine(pc: bigint): void {
    const { engine } = this;
    if (!engine || this.#isOurs(pc) || this.#asked.has(pc) || !this.#placed.has(pc)) return;
    this.#asked.add(pc);
    const here = this.at(pc);
    if (here.some((b) => b.special)) return;
    const clauses = here.flatMap((b) => engine.clause(b, pc) ?? []);
    if (clauses.length < here.length || !engine.accepts({ clauses })) return;
    engine.machine.setBreakpoint(pc, { clauses });
    this.#placed.set(pc, here);
  }
}

const sameList = <T>(a: readonly T[], b: readonly T[]): boolean => a.length === b.length && a.every((v, i) => v === b[i]);

// --- data breakpoints -----------------------------------------------------------------------------------------------------

export interface DataBreakpoint extends Guard {
  id: number;
  /** What the user called it. */
  text: string;
  address: bigint;
  size: number;
  access: 'r' | 'w' | 'rw';
  /** The address is a GPA. */
  physical?: boolean;
  /** Only writes that change something stop: what was there. */
  before?: Uint8Array;
  change?: boolean;
  /** A register instead of memory: of the architecture, or (`hv.HvRegister...`) of the hypervisor. */
  register?: string;
  errorShown?: boolean;
  problem?: string;
}

/** An access to a register that somebody watches. */
export interface RegisterAccess {
  readonly name: string;
  readonly write: boolean;
  /** What is written; of a read undefined. */
  readonly value?: bigint;
}

/** Registers of the hypervisor that a call is about to read or write. */
export function hypervisorAccesses({ phase, name, input }: HypercallInfo): RegisterAccess[] {
  if (phase !== 'entry') return [];
  const list = (field: string): unknown[] => (Array.isArray(input[field]) ? input[field] : []);
  if (name === 'HvCallGetVpRegisters') return list('Names').map((n) => ({ name: `hv.${String(n)}`, write: false }));
  if (name !== 'HvCallSetVpRegisters') return [];
  return (list('Elements') as { Name?: unknown; Value?: unknown }[]).map(({ Name, Value }) => ({
    name: `hv.${String(Name)}`,
    write: true,
    ...(typeof Value === 'bigint' ? { value: Value } : {}),
  }));
}

/** What a breakpoint on memory watches, as it is now; undefined: it cannot be read. */
export const bytesUnder = (b: DataBreakpoint, machine: Machine, vp: number): Uint8Array | undefined =>
  b.physical ? machine.readPhysical(Number(b.address), b.size)?.slice() : machine.readVirtual(vp, b.address, b.size)?.slice();

/** Has what a breakpoint on changes watches changed since the last time? `now`: its bytes; undefined: they cannot be read. */
export function hasChanged(b: DataBreakpoint, now: Uint8Array | undefined): boolean {
  const { before } = b;
  b.before = now;
  return !before || !now || Buffer.compare(before, now) !== 0;
}

/** Ids of breakpoints are one space for the client: those on code count from 1. */
const FIRST_DATA_ID = 1_000_000;

const isOnMemory = (b: DataBreakpoint): boolean => !b.problem && b.register === undefined;

/** Breakpoints on memory and on registers; keeps the machine's watchpoints in step. */
export class DataBreakpoints {
  list: DataBreakpoint[] = [];
  engine: Engine | undefined;
  #nextId = FIRST_DATA_ID;
  #placed: { machine: Machine; list: readonly DataBreakpoint[] } | undefined;
  /** Those of which the engine was asked. */
  readonly #asked = new Set<DataBreakpoint>();

  nextId(): number {
    return this.#nextId++;
  }

  set(list: DataBreakpoint[]): void {
    for (const b of this.list) this.engine?.release(b);
    for (const b of list)
      b.hits = this.list.find((old) => old.text === b.text && old.access === b.access && sameGuard(old, b))?.hits ?? 0;
    this.list = list;
    this.#asked.clear();
  }

  /** The breakpoints that an access is for. */
  met({ hits = [] }: Extract<Exit, { kind: 'watchpoint' }>): { b: DataBreakpoint; judged: boolean }[] {
    return hits.flatMap(({ id, judged }) => {
      const b = this.list.find((b) => b.id === id);
      return b ? [{ b, judged }] : [];
    });
  }

  /** The machine is no more. */
  leave(): void {
    this.engine?.releaseAll();
    this.engine = undefined;
    this.#placed = undefined;
    this.#asked.clear();
  }

  /** Those on a register that an access to it may be for. `old`: its value before. */
  ofRegister({ name, write, value }: RegisterAccess, old: () => bigint | undefined): DataBreakpoint[] {
    return this.list.filter(
      (b) => !b.problem && b.register === name && b.access.includes(write ? 'w' : 'r') && !(b.change && write && value === old()),
    );
  }

  /** Some are on registers of the hypervisor. */
  get onHypervisor(): boolean {
    return this.list.some((b) => b.register?.startsWith('hv.') && !b.problem);
  }

  place(machine: Machine): void {
    if (this.#placed?.machine === machine && this.#placed.list === this.list) return;
    if (this.#placed?.machine === machine)
      for (const b of this.#placed.list.filter(isOnMemory)) machine.clearWatchpoint(b.address, b.size, b.physical);
    for (const b of this.list.filter(isOnMemory)) this.#watch(machine, b);
    machine.watchRegisters(
      this.list.flatMap((b) => (b.register !== undefined && !b.register.startsWith('hv.') && !b.problem ? [b.register] : [])),
    );
    this.#placed = { machine, list: this.list };
  }

  #watch(machine: Machine, b: DataBreakpoint): void {
    const clause = b.clauses?.get(undefined);
    const filter = clause ? { filter: { clauses: [clause] } } : {};
    machine.setWatchpoint(b.address, b.size, b.access, { id: b.id, physical: b.physical ?? false, ...filter });
  }

  /** Names may mean something else now: what the engine was told is forgotten. */
  forgetMeanings(machine: Machine): void {
    this.#asked.clear();
    if (!this.list.some((b) => b.clauses)) return;
    for (const b of this.list) b.clauses = undefined;
    this.#again(machine);
  }

  #again(machine: Machine): void {
    for (const b of this.list.filter(isOnMemory)) machine.clearWatchpoint(b.address, b.size, b.physical);
    this.#placed = undefined;
    this.place(machine);
  }

  /** From now on the engine judges, if it can. Names are those of the whole kernel: an access may be from anywhere. */
  leaveToEngine(b: DataBreakpoint): void {
    const { engine } = this;
    // Whether something has changed is known to whoever sees all writes.
    if (!engine || this.#asked.has(b) || b.change || !isOnMemory(b)) return;
    this.#asked.add(b);
    if (engine.clause(b, undefined)) this.#again(engine.machine);
  }
}
