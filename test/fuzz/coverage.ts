/**
 * Which blocks of our sources have been executed, by V8's precise block coverage. Only modules that are loaded after `start` are
 * counted: whoever wants coverage imports them afterwards.
 */
import { Session } from 'node:inspector';
import type { Profiler } from 'node:inspector';

interface FunctionCoverage {
  /** A byte for each character of the function: 0 while it has not been executed. */
  executed: Uint8Array;
  start: number;
}

export interface FileCoverage {
  /** Path below the root of the sources. */
  file: string;
  functions: number;
  reached: number;
  /** Characters of functions, and those that have been executed. */
  size: number;
  covered: number;
}

export class Coverage {
  readonly #session = new Session();
  readonly #root: string;
  readonly #functions = new Map<string, Map<string, FunctionCoverage>>();
  /** Executed characters of all functions together. */
  covered = 0;

  /** Counts files whose URL begins with `root`. */
  constructor(root: string) {
    this.#root = root;
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: false, detailed: true });
  }

  /** Adds what has been executed since the last time, unless told to forget it. True: some of it never was before. */
  take(add = true): boolean {
    let scripts: Profiler.ScriptCoverage[] = [];
    this.#session.post('Profiler.takePreciseCoverage', (error, answer) => {
      if (error) throw error;
      scripts = answer.result;
    });
    let news = false;
    for (const { url, functions } of scripts) {
      if (!url.startsWith(this.#root)) continue;
      const file = url.slice(this.#root.length).replace(/\?.*/, '');
      let known = this.#functions.get(file);
      if (!known) {
        known = new Map();
        this.#functions.set(file, known);
      }
      for (const f of functions) {
        if (this.#look(known, f, add)) news = true;
        if (news && !add) return true;
      }
    }
    return news;
  }

  #look(known: Map<string, FunctionCoverage>, { ranges }: Profiler.FunctionCoverage, add: boolean): boolean {
    const [{ startOffset: start, endOffset: end }] = ranges;
    const key = `${start}-${end}`;
    let f = known.get(key);
    if (!f) {
      f = { executed: new Uint8Array(end - start), start };
      known.set(key, f);
    }
    const now = new Uint8Array(end - start);
    // Outer ranges come before those inside them.
    for (const r of ranges) now.fill(r.count > 0 ? 1 : 0, r.startOffset - start, r.endOffset - start);
    let news = false;
    for (let i = 0; i < now.length; i++)
      if (now[i] && !f.executed[i]) {
        news = true;
        if (!add) break;
        f.executed[i] = 1;
        this.covered++;
      }
    return news;
  }

  /** By file, those whose path matches. */
  files(match: RegExp): FileCoverage[] {
    return [...this.#functions]
      .filter(([file]) => match.test(file))
      .map(([file, functions]) => {
        // The module's own function is executed by loading it.
        const all = [...functions.values()]
          .filter((f) => f.start > 0)
          .sort((a, b) => a.start - b.start || b.executed.length - a.executed.length);
        // A character belongs to the innermost function around it.
        const text = new Uint8Array(Math.max(0, ...all.map((f) => f.start + f.executed.length)));
        for (const f of all)
          text.set(
            f.executed.map((e) => e + 1),
            f.start,
          );
        const size = text.reduce((n, b) => n + (b > 0 ? 1 : 0), 0);
        const done = text.reduce((n, b) => n + (b > 1 ? 1 : 0), 0);
        const reached = all.filter((f) => f.executed.some((b) => b !== 0)).length;
        return { file, functions: all.length, reached, size, covered: done };
      })
      .sort((a, b) => (a.file < b.file ? -1 : 1));
  }

  /** What of a file has not been executed, as texts out of `source` (the text that V8 has). For people who look for gaps. */
  gaps(file: string, source: string): string[] {
    const out: string[] = [];
    for (const f of this.#functions.get(file)?.values() ?? []) {
      if (f.start === 0) continue;
      for (let i = 0; i < f.executed.length; ) {
        const from = i;
        while (i < f.executed.length && !f.executed[i]) i++;
        if (i > from + 3) out.push(source.slice(f.start + from, f.start + i));
        while (i < f.executed.length && f.executed[i]) i++;
      }
    }
    return out;
  }

  stop(): void {
    this.#session.post('Profiler.stopPreciseCoverage');
    this.#session.disconnect();
  }
}
