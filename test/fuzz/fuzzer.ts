/**
 * The fuzzer: makes inputs out of those that reached something new, runs them, keeps those that reach something new again. New is
 * a block of our sources (coverage.ts) or a feature, a text that the target tells of a run (a trace line without its numbers).
 */
import vm from 'node:vm';
import type { Coverage } from './coverage.ts';
import { actionsOf, inputOf, Random, type Action } from './input.ts';

export interface Target {
  /** Runs one input from the same start as every other; the features that it had. Throws what is wrong. */
  run(input: Uint8Array): Iterable<string>;
  /** Makes an input out of nothing. Left out: inputs are no records, and are made out of the seeds alone. */
  readonly fresh?: (random: Random) => Action;
  /** After a run that was broken off: the target may be in any state. */
  renew?(): void;
}

/** An input that broke a promise. */
export interface Finding {
  input: Uint8Array;
  error: Error;
}

export interface Options {
  seed: number;
  seeds: readonly Uint8Array[];
  coverage?: Coverage;
  /** Ends after so many inputs, or so many seconds, whichever comes first. */
  executions?: number;
  seconds?: number;
  /** Milliseconds that one input may take before it is called a hang. */
  patience?: number;
  /** Longest input; default 4096 bytes. */
  longest?: number;
  /** Findings after which to end; default 1. */
  most?: number;
}

export interface Report {
  executions: number;
  seconds: number;
  corpus: Uint8Array[];
  features: number;
  findings: Finding[];
}

/** Inputs that are watched together. */
const BATCH = 16;
const PATIENCE = 120_000;
const MAX_ACTIONS = 48;
const INTERESTING = [0, 1, 2, 4, 7, 8, 9, 15, 16, 31, 32, 63, 64, 127, 128, 254, 255];

export class Fuzzer {
  readonly #target: Target;
  readonly #options: Options;
  readonly #random: Random;
  readonly #features = new Set<string>();
  readonly #corpus: Uint8Array[] = [];
  readonly #findings: Finding[] = [];
  readonly #told = new Set<string>();
  #executions = 0;

  constructor(target: Target, options: Options) {
    this.#target = target;
    this.#options = options;
    this.#random = new Random(options.seed);
  }

  run(): Report {
    const { executions = Number.POSITIVE_INFINITY, seconds = Number.POSITIVE_INFINITY, most = 1, seeds } = this.#options;
    const begin = performance.now();
    const over = (): boolean =>
      this.#findings.length >= most || this.#executions >= executions || performance.now() - begin > seconds * 1000;
    this.#options.coverage?.take();
    for (let at = 0; at < seeds.length && !over(); at += BATCH) this.#batch(seeds.slice(at, at + BATCH));
    while (!over()) this.#batch(Array.from({ length: BATCH }, () => this.#make()));
    return {
      executions: this.#executions,
      seconds: (performance.now() - begin) / 1000,
      corpus: this.#corpus,
      features: this.#features.size,
      findings: this.#findings,
    };
  }

  /** Runs inputs. The watch over time and the look at the coverage are for all of them together: they cost more than some inputs. */
  #batch(inputs: readonly Uint8Array[]): void {
    const { coverage, patience = PATIENCE } = this.#options;
    const kept = new Set<number>();
    const all = (work: (input: Uint8Array) => boolean): void => {
      for (let at = 0; at < inputs.length; ) {
        const hang = problem(() => {
          for (; at < inputs.length; at++) if (work(inputs[at])) kept.add(at);
        }, patience);
        if (!hang) break;
        this.#found(inputs[at], hang);
        at++;
      }
    };
    all((input) => this.#one(input));
    // Once more, one by one, when one of them has reached something new.
    if (coverage?.take(false)) all((input) => this.#one(input, true) || coverage.take());
    if (this.#corpus.length === 0) kept.add(0);
    for (const n of [...kept].sort((a, b) => a - b)) this.#corpus.push(inputs[n]);
  }

  /** Runs an input; whether it had a feature that is new. */
  #one(input: Uint8Array, again = false): boolean {
    if (!again) this.#executions++;
    let news = false;
    try {
      for (const f of this.#target.run(input))
        if (!this.#features.has(f)) {
          this.#features.add(f);
          news = true;
        }
      return news;
    } catch (e) {
      this.#found(input, e instanceof Error ? e : new Error(String(e)));
      return false;
    }
  }

  #found(input: Uint8Array, error: Error): void {
    this.#target.renew?.();
    // The same complaint from the same place is the same finding.
    const where = `${error.message.replace(/0x[0-9a-f]+|\d+/g, '#').slice(0, 80)} ${/\S+emulator\S+/.exec(error.stack ?? '')?.[0]}`;
    if (this.#told.has(where)) return;
    this.#told.add(where);
    this.#findings.push({ input, error });
  }

  #make(): Uint8Array {
    const r = this.#random;
    const { fresh } = this.#target;
    const parent = this.#corpus.length > 0 ? this.#choose() : undefined;
    if (!fresh) return this.#mutateBytes(parent ?? new Uint8Array(0)).subarray(0, this.#options.longest ?? 4096);
    // At first there is more to find with little.
    if (!parent || r.below(this.#corpus.length < 300 ? 2 : 10) === 0)
      return inputOf(
        r.below(256),
        Array.from({ length: 1 + r.below(r.below(4) === 0 ? 12 : 3) }, () => fresh(r)),
      );
    const { header, actions } = actionsOf(parent);
    const list = actions.slice();
    for (let n = 1 + r.below(4); n > 0; n--) this.#mutateActions(list, fresh);
    return inputOf(r.below(16) === 0 ? r.below(256) : header, list.slice(0, MAX_ACTIONS));
  }

  /** Newer ones more often: what they reached is not worked out yet. */
  #choose(): Uint8Array {
    const r = this.#random;
    const n = this.#corpus.length;
    return this.#corpus[r.below(2) ? r.below(n) : Math.max(0, n - 1 - r.below(Math.min(n, 32)))];
  }

  #mutateActions(list: Action[], fresh: (random: Random) => Action): void {
    const r = this.#random;
    const at = r.below(list.length + 1);
    switch (r.below(9)) {
      case 0:
      case 1:
        list.splice(at, 0, fresh(r));
        return;
      case 2:
        list.splice(at, 1 + r.below(2));
        return;
      case 3: {
        // A piece of another one.
        const other = actionsOf(this.#choose()).actions;
        const from = r.below(other.length + 1);
        list.splice(at, 0, ...other.slice(from, from + 1 + r.below(8)));
        return;
      }
      case 4: {
        const from = r.below(list.length + 1);
        list.splice(at, 0, ...list.slice(from, from + 1 + r.below(3)));
        return;
      }
      default: {
        const it = list[at % Math.max(1, list.length)];
        if (!it) return;
        list[at % list.length] = { kind: it.kind, args: this.#mutateBytes(it.args).slice(0, 255) };
      }
    }
  }

  #mutateBytes(bytes: Uint8Array): Uint8Array {
    const r = this.#random;
    let out = Array.from(bytes);
    for (let n = 1 + r.below(3); n > 0; n--) {
      const at = r.below(out.length + 1);
      switch (r.below(9)) {
        case 0:
          if (at < out.length) out[at] ^= 1 << r.below(8);
          break;
        case 1:
          if (at < out.length) out[at] = r.pick(INTERESTING);
          break;
        case 2:
          if (at < out.length) out[at] = r.below(256);
          break;
        case 3:
          if (at < out.length) out[at] = (out[at] + r.below(9) - 4) & 255;
          break;
        case 4:
          out.splice(at, 0, ...r.bytes(1 + r.below(8)));
          break;
        case 5:
          out.splice(at, 1 + r.below(4));
          break;
        case 6: {
          // 16 or 32 bits at a bound.
          const value = r.pick([0, 1, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1000, 0x1001]);
          for (let i = 0; i < r.pick([2, 4]) && at + i < out.length; i++) out[at + i] = (value >>> (8 * i)) & 255;
          break;
        }
        case 7:
          out = out.slice(0, at);
          break;
        default: {
          const from = r.below(out.length + 1);
          const piece = out.slice(from, from + 1 + r.below(16));
          for (const [i, b] of piece.entries()) if (at + i < out.length) out[at + i] = b;
        }
      }
    }
    return Uint8Array.from(out);
  }
}

/** What `work` throws, or that it does not end within `patience` milliseconds. */
export function problem(work: () => void, patience = PATIENCE): Error | undefined {
  const before = performance.now();
  try {
    guarded(work, patience);
  } catch (e) {
    const error = e instanceof Error ? e : new Error(String(e));
    if ((error as { code?: string }).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT')
      return new Error(`no end after ${Math.round(performance.now() - before)} ms`);
    return error;
  }
  return undefined;
}

/** V8 ends what runs in a script after a time, also in functions that it calls. */
function guarded(work: () => void, timeout: number): void {
  const box = globalThis as unknown as { fuzzWork?: () => void };
  box.fuzzWork = work;
  try {
    SCRIPT.runInThisContext({ timeout });
  } finally {
    box.fuzzWork = undefined;
  }
}
const SCRIPT = new vm.Script('fuzzWork()');

/** The least input that still breaks something in the same words: without actions, then with shorter and emptier ones. */
export function shrink(target: Target, finding: Finding, seconds = 30): Uint8Array {
  const end = performance.now() + seconds * 1000;
  const words = (e: Error): string => e.message.replace(/0x[0-9a-f]+|\d+/g, '#').slice(0, 60);
  const fails = (input: Uint8Array): boolean => {
    const wrong = problem(() => void [...target.run(input)]);
    if (wrong) target.renew?.();
    return wrong !== undefined && words(wrong) === words(finding.error);
  };
  let best = finding.input;
  const attempt = (input: Uint8Array): boolean => {
    if (performance.now() > end || !fails(input)) return false;
    best = input;
    return true;
  };
  if (!target.fresh) {
    for (let step = Math.max(1, best.length >> 1); step >= 1; step >>= 1)
      for (let at = 0; at < best.length; )
        if (!attempt(Uint8Array.from([...best.subarray(0, at), ...best.subarray(at + step)]))) at += step;
    return best;
  }
  for (let again = true; again; ) {
    again = false;
    for (let n = 0; n < actionsOf(best).actions.length; ) {
      const { header, actions } = actionsOf(best);
      if (attempt(inputOf(header, actions.toSpliced(n, 1)))) again = true;
      else n++;
    }
    for (let n = 0; n < actionsOf(best).actions.length; n++)
      for (let at = actionsOf(best).actions[n].args.length - 1; at >= 0; at--) {
        const { header, actions } = actionsOf(best);
        const { kind, args } = actions[n];
        if (at >= args.length) continue;
        if (attempt(inputOf(header, actions.with(n, { kind, args: args.slice(0, at) })))) again = true;
        else if (args[at] !== 0 && attempt(inputOf(header, actions.with(n, { kind, args: args.with(at, 0) })))) again = true;
      }
  }
  return best;
}
