/**
 * Filters: which of the times when a breakpoint is met, or a watched access made, the debugger wants to see. A filter has clauses, one for
 * each of the debugger's own breakpoints there; it stops when one of them does. Generated code evaluates them (`emitFilter`); what it cannot
 * know, `judge` does.
 */
import {
  checkExpression,
  ConditionCode,
  conditionRegister,
  type ConditionState,
  evaluate,
  type Expression,
} from './condition.ts';
import { CELL, COUNTER_COUNT, COUNTERS } from './layout.ts';
import type { VpState } from './vp-state.ts';
import type { Code } from './wasm/encoder.ts';

/** Of the hits, counted from 1, those that stop. */
export interface HitCount {
  readonly op: '>' | '>=' | '<' | '<=' | '==' | '%';
  /** 1 to 2^32 - 1; of `%`, every how many. */
  readonly count: number;
  /** Which counter counts: 0 to `COUNTER_COUNT` - 1. Clauses of different places may share one. */
  readonly counter: number;
}

export interface Clause {
  /** Left out: always true. */
  readonly condition?: Expression;
  /** Counted when the condition is true; left out: all. */
  readonly hit?: HitCount;
}

export interface Filter {
  /** 1 to `MAX_CLAUSES`. */
  readonly clauses: readonly Clause[];
}

/** A bit for each. */
export const MAX_CLAUSES = 31;

/** Throws a RangeError with what is wrong with a filter. */
export function checkFilter({ clauses }: Filter): void {
  if (clauses.length < 1 || clauses.length > MAX_CLAUSES)
    throw new RangeError(`a filter has 1 to ${MAX_CLAUSES} clauses, not ${clauses.length}`);
  for (const { condition, hit } of clauses) {
    if (condition) checkExpression(condition);
    if (!hit) continue;
    if (!Number.isInteger(hit.count) || hit.count < 1 || hit.count > 0xffffffff)
      throw new RangeError(`a hit count is 1 to ${0xffffffff}, not ${hit.count}`);
    if (!Number.isInteger(hit.counter) || hit.counter < 0 || hit.counter >= COUNTER_COUNT)
      throw new RangeError(`counters are 0 to ${COUNTER_COUNT - 1}, not ${hit.counter}`);
  }
}

const counterAt = (counter: number): number => COUNTERS + 8 * counter;

/** Hit counters: cells that generated code counts in. They are the debugger's: no part of the machine's state hash. */
export class Counters {
  #view: DataView;

  constructor(memory: WebAssembly.Memory) {
    this.#view = new DataView(memory.buffer);
  }
  /** What was in memory is in another one now. */
  memoryRenewed(memory: WebAssembly.Memory): void {
    this.#view = new DataView(memory.buffer);
  }

  get(counter: number): number {
    return Number(this.#view.getBigUint64(counterAt(counter), true));
  }
  set(counter: number, hits: number): void {
    this.#view.setBigUint64(counterAt(counter), BigInt(hits), true);
  }
  /** Those that are not 0. For every snapshot: a look, and numbers only for those. */
  take(): readonly (readonly [counter: number, hits: number])[] {
    const words = new Uint32Array(this.#view.buffer, COUNTERS, 2 * COUNTER_COUNT);
    const out: [number, number][] = [];
    for (let n = 0; n < COUNTER_COUNT; n++) if (words[2 * n] || words[2 * n + 1]) out.push([n, this.get(n)]);
    return out;
  }
  restore(hits: readonly (readonly [counter: number, hits: number])[]): void {
    new Uint32Array(this.#view.buffer, COUNTERS, 2 * COUNTER_COUNT).fill(0);
    for (const [counter, n] of hits) this.set(counter, n);
  }
}

function hitStops({ op, count }: HitCount, hits: number): boolean {
  switch (op) {
    case '>':
      return hits > count;
    case '>=':
      return hits >= count;
    case '<':
      return hits < count;
    case '<=':
      return hits <= count;
    case '==':
      return hits === count;
    case '%':
      return hits % count === 0;
  }
}

/** What a filter says: bits of the clauses that stop, and of those that have counted. */
export interface Verdict {
  readonly matched: number;
  readonly counted: number;
}

/** The verdict on what `vp` does now, counted; undefined, and nothing counted: a condition has no value. */
export function judge(
  filter: Filter,
  vp: VpState,
  counters: Counters,
  load: (address: bigint, size: number) => bigint | undefined,
): Verdict | undefined {
  const state: ConditionState = { register: (name) => conditionRegister(vp, name), load };
  let met = 0;
  for (const [i, { condition }] of filter.clauses.entries()) {
    const value = condition ? evaluate(condition, state) : 1n;
    if (value === undefined) return undefined;
    if (value) met |= 1 << i;
  }
  let [matched, counted] = [met, 0];
  for (const [i, { hit }] of filter.clauses.entries()) {
    if (!hit || !(met & (1 << i))) continue;
    const hits = counters.get(hit.counter) + 1;
    counters.set(hit.counter, hits);
    counted |= 1 << i;
    if (!hitStops(hit, hits)) matched &= ~(1 << i);
  }
  return { matched, counted };
}

const COMPARISON = { '>': 'gt_u', '>=': 'ge_u', '<': 'lt_u', '<=': 'le_u', '==': 'eq' } as const;

/**
 * Writes what `judge` does, and pushes the bits of the clauses that stop (i32); -1, and nothing counted: `judge` has to be asked. What has
 * counted is in `CELL.COUNTED` if any clause counts.
 */
export function emitFilter(code: Code, { clauses }: Filter): void {
  const met = code.local('i32');
  const hits = code.local('i64');
  const done = code.block('i32');
  const unknown = code.block();
  const conditions = new ConditionCode(code, unknown);
  code.i32(0).set(met);
  for (const [i, { condition }] of clauses.entries()) {
    if (condition) {
      conditions.push(condition);
      code.i64(0).op('i64.ne');
    } else code.i32(1);
    code.i32(i).op('i32.shl').get(met).op('i32.or').set(met);
  }
  code.i32(0).i32(0).mem('i64.load', CELL.EVALUATIONS).i64(1).op('i64.add').mem('i64.store', CELL.EVALUATIONS);
  if (clauses.some((c) => c.hit)) {
    const counts = clauses.reduce((bits, c, i) => (c.hit ? bits | (1 << i) : bits), 0);
    code.i32(0).get(met).i32(counts).op('i32.and').mem('i32.store', CELL.COUNTED);
  }
  for (const [i, { hit }] of clauses.entries()) {
    if (!hit) continue;
    code
      .get(met)
      .i32(1 << i)
      .op('i32.and');
    code.if();
    code.i32(0).i32(0).mem('i64.load', counterAt(hit.counter)).i64(1).op('i64.add').tee(hits);
    code.mem('i64.store', counterAt(hit.counter)).get(hits).i64(hit.count);
    if (hit.op === '%') code.op('i64.rem_u').op('i64.eqz');
    else code.op(`i64.${COMPARISON[hit.op]}`);
    code.op('i32.eqz').i32(i).op('i32.shl').i32(-1).op('i32.xor').get(met).op('i32.and').set(met);
    code.end();
  }
  code.get(met).br(done).end();
  code.i32(-1).end();
}
