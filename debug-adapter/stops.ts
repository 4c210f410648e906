/**
 * What makes the guest stop: hypercall breakpoints, and the conditions, hit counts and log messages of all breakpoints.
 */
import { type HypercallInfo, HV_STATUS, hypercallNames, type Machine } from '../emulator/index.ts';
import { type Context, evaluate, isTrue } from './expression/evaluate.ts';
import { ExpressionError, type Node, parse } from './expression/parse.ts';
import type { Symbolizer } from './symbols/symbolizer.ts';
import { UserError } from './user-error.ts';

/** A condition, a hit count and a log message, compiled. */
export interface Guard {
  condition?: Node;
  /** `>= 3`, `== 3`, `% 3`; a number alone: from that hit on. */
  hit?: { op: string; count: number };
  log?: { text: string; parts: (string | Node)[] };
  hits: number;
}

export interface GuardText {
  condition?: string;
  hitCondition?: string;
  logMessage?: string;
}

/** Compiles; throws UserError with what is wrong. */
export function guard(text: GuardText): Guard {
  const out: Guard = { hits: 0 };
  try {
    if (text.condition?.trim()) out.condition = parse(text.condition);
    if (text.hitCondition?.trim()) {
      const m = /^\s*(>=|<=|==|=|>|<|%)?\s*(\d+)\s*$/.exec(text.hitCondition);
      if (!m || Number(m[2]) === 0)
        throw new UserError(`hit count "${text.hitCondition}": a number, or one of > >= == < <= % and a number`);
      out.hit = { op: m[1] ?? '>=', count: Number(m[2]) };
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

/** Whether a breakpoint that was reached stops, and what it says. A condition that fails to evaluate does not stop. */
export function judge(g: Guard, context: Context, show: (node: Node) => string): Verdict {
  try {
    if (g.condition && !isTrue(evaluate(g.condition, context))) return { stop: false };
    g.hits++;
    if (g.hit) {
      const { op, count } = g.hit;
      const reached =
        op === '>='
          ? g.hits >= count
          : op === '>'
            ? g.hits > count
            : op === '<'
              ? g.hits < count
              : op === '<='
                ? g.hits <= count
                : op === '%'
                  ? g.hits % count === 0
                  : g.hits === count;
      if (!reached) return { stop: false };
    }
    if (!g.log) return { stop: true };
    return { stop: false, log: g.log.parts.map((part) => (typeof part === 'string' ? part : show(part))).join('') };
  } catch (e) {
    if (e instanceof ExpressionError) return { stop: false, error: e.message };
    throw e;
  }
}

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
  const name = b.origin === 'function' ? /^\s*([A-Za-z_]\w*)\s*(?:\[(\w+)\])?\s*$/.exec(b.text) : null;
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
  #placed = new Set<bigint>();
  #nextId = 1;

  /** Replaces those of one origin. */
  set(
    origin: CodeBreakpoint['origin'],
    items: (GuardText & Pick<CodeBreakpoint, 'text' | 'find' | 'why' | 'special'>)[],
    places: Places | undefined,
  ): CodeBreakpoint[] {
    const made = items.map((item): CodeBreakpoint => {
      const { text, find, why, special } = item;
      const more = { ...(find ? { find } : {}), ...(why ? { why } : {}), ...(special ? { special } : {}) };
      const base = { id: this.#nextId++, origin, text, ...more };
      try {
        const b: CodeBreakpoint = { ...base, ...guard(item), addresses: [] };
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
    this.internal.clear();
    this.plan = [];
    this.#placed.clear();
  }

  /** Makes the machine's breakpoints what they should be. */
  place(machine: Machine): void {
    const wanted = new Set([...this.internal, ...this.plan, ...this.list.flatMap((b) => b.addresses)]);
    for (const address of this.#placed) if (!wanted.has(address)) machine.clearBreakpoint(address);
    for (const address of wanted) if (!this.#placed.has(address)) machine.setBreakpoint(address);
    this.#placed = wanted;
  }
}

// --- data breakpoints -----------------------------------------------------------------------------------------------------

export interface DataBreakpoint extends Guard {
  id: number;
  /** What the user called it. */
  text: string;
  address: bigint;
  size: number;
  access: 'r' | 'w' | 'rw';
  errorShown?: boolean;
  problem?: string;
}

/** Ids of breakpoints are one space for the client: those on code count from 1. */
const FIRST_DATA_ID = 1_000_000;

/** Breakpoints on memory; keeps the machine's watchpoints in step. */
export class DataBreakpoints {
  list: DataBreakpoint[] = [];
  #nextId = FIRST_DATA_ID;
  #placed: { machine: Machine; list: readonly DataBreakpoint[] } | undefined;

  nextId(): number {
    return this.#nextId++;
  }

  set(list: DataBreakpoint[]): void {
    this.list = list;
  }

  /** Those that an access to [address, address + 1) may be for. */
  at(address: bigint, access: 'r' | 'w'): DataBreakpoint[] {
    return this.list.filter(
      (b) => !b.problem && address >= b.address && address < b.address + BigInt(b.size) && b.access.includes(access),
    );
  }

  place(machine: Machine): void {
    if (this.#placed?.machine === machine && this.#placed.list === this.list) return;
    if (this.#placed?.machine === machine) for (const b of this.#placed.list) machine.clearWatchpoint(b.address, b.size);
    for (const b of this.list) if (!b.problem) machine.setWatchpoint(b.address, b.size, b.access);
    this.#placed = { machine, list: this.list };
  }
}
