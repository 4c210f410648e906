/** A WebAssembly module in binary form (specification, section 5.5): one memory, at most one table, functions. */
import { Bytes, type Code, TYPE, type WasmType } from './encoder.ts';

const SECTION = { type: 1, import: 2, function: 3, export: 7, element: 9, code: 10 } as const;

export class ModuleWriter {
  readonly #types: string[] = [];
  readonly #typeBytes: number[][] = [];
  readonly #imports: number[][] = [];
  readonly #functions: Code[] = [];
  readonly #exports: [string, number][] = [];
  readonly #elements: [number, number[]][] = [];
  #importedFunctions = 0;

  /** Index of the function type. */
  type(params: readonly WasmType[], results: readonly WasmType[]): number {
    const key = `${params.join()}>${results.join()}`;
    const known = this.#types.indexOf(key);
    if (known >= 0) return known;
    const bytes = [0x60];
    bytes.push(...leb(params.length));
    for (const p of params) bytes.push(TYPE[p]);
    bytes.push(...leb(results.length));
    for (const r of results) bytes.push(TYPE[r]);
    this.#typeBytes.push(bytes);
    return this.#types.push(key) - 1;
  }

  #import(module: string, name: string, description: readonly number[]): void {
    this.#imports.push([...string(module), ...string(name), ...description]);
  }
  importMemory(module: string, name: string): void {
    this.#import(module, name, [0x02, 0x00, 0x00]);
  }
  importTable(module: string, name: string): void {
    this.#import(module, name, [0x01, 0x70, 0x00, 0x00]);
  }
  /** Index of the imported function. All imports come before the first `func`. */
  importFunction(module: string, name: string, params: readonly WasmType[], results: readonly WasmType[]): number {
    if (this.#functions.length) throw new Error('imports come first');
    const description = [0x00];
    description.push(...leb(this.type(params, results)));
    this.#import(module, name, description);
    return this.#importedFunctions++;
  }

  /** Adds a function; its index. */
  func(code: Code, exportName?: string): number {
    this.type(code.params, code.results);
    const index = this.#importedFunctions + this.#functions.push(code) - 1;
    if (exportName !== undefined) this.#exports.push([exportName, index]);
    return index;
  }
  /** Fills the imported table from `offset` with functions. */
  elements(offset: number, functions: readonly number[]): void {
    this.#elements.push([offset, [...functions]]);
  }

  bytes(): Uint8Array {
    const parts: Part[] = [[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]];
    const section = (id: number, items: readonly (readonly Part[])[]) => {
      if (!items.length) return;
      const count = leb(items.length);
      let size = count.length;
      for (const item of items) for (const part of item) size += part.length;
      parts.push([id, ...leb(size)], count);
      for (const item of items) for (const part of item) parts.push(part);
    };
    section(
      SECTION.type,
      this.#typeBytes.map((t) => [t]),
    );
    section(
      SECTION.import,
      this.#imports.map((i) => [i]),
    );
    section(
      SECTION.function,
      this.#functions.map((f) => [leb(this.type(f.params, f.results))]),
    );
    section(
      SECTION.export,
      this.#exports.map(([name, index]) => [[...string(name), 0x00, ...leb(index)]]),
    );
    section(
      SECTION.element,
      this.#elements.map(([offset, functions]) => {
        const item = [0x00, 0x41];
        item.push(...signed(offset));
        item.push(0x0b, ...leb(functions.length));
        for (const f of functions) item.push(...leb(f));
        return [item];
      }),
    );
    section(SECTION.code, this.#functions.map(body));
    let length = 0;
    for (const p of parts) length += p.length;
    const out = new Uint8Array(length);
    let at = 0;
    for (const p of parts) {
      out.set(p, at);
      at += p.length;
    }
    return out;
  }
}

type Part = ArrayLike<number>;

function leb(v: number): number[] {
  const out = new Bytes();
  out.unsigned(v);
  return [...out.bytes];
}

function signed(v: number): number[] {
  const out = new Bytes();
  out.signed32(v);
  return [...out.bytes];
}

function string(s: string): number[] {
  const out = leb(s.length);
  for (let i = 0; i < s.length; i++) out.push(s.charCodeAt(i));
  return out;
}

/** Section 5.5.13: size, runs of locals of one type, instructions, end. */
function body(code: Code): Part[] {
  const runs: [number, WasmType][] = [];
  for (const t of code.locals) {
    const last = runs[runs.length - 1];
    if (last && last[1] === t) last[0]++;
    else runs.push([1, t]);
  }
  const locals = leb(runs.length);
  for (const [n, t] of runs) {
    locals.push(...leb(n));
    locals.push(TYPE[t]);
  }
  const { bytes } = code;
  return [leb(locals.length + bytes.length + 1), locals, bytes, [0x0b]];
}
