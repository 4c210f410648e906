/**
 * What the debugger knows about C names: types, constants and variables, from every source there is. The one place where it is
 * decided who is believed: DWARF before BTF before the table of known variables before kallsyms, which knows addresses only.
 */
import type { Symbolizer } from '../symbols/symbolizer.ts';
import { KNOWN_VARIABLES } from './known-variables.ts';
import {
  arrayOf,
  BASE_TYPES,
  baseType,
  type CompoundType,
  findMember,
  MAX_NESTING,
  memberNames,
  type PlainType,
  plain,
  pointerTo,
  type Type,
  VOID,
  WELL_KNOWN_TYPEDEFS,
} from './model.ts';

export type Tag = 'struct' | 'union' | 'enum' | 'typedef';

export interface Constant {
  readonly type: Type;
  readonly value: bigint;
}
/** Where something is declared. */
export interface SourceLocation {
  readonly file: string;
  readonly line: number;
}
/** What a source knows about a variable. */
export interface VariableType {
  readonly type: Type;
  /** Where it is now; undefined when only the symbol table knows. */
  readonly address?: bigint;
  /** Of a per-CPU variable: offset in the per-CPU area. */
  readonly perCpuOffset?: number;
  readonly declaration?: SourceLocation;
}
/** Which variable of that name: of a source file, or of a module. */
export interface Scope {
  readonly file?: string;
  readonly module?: string;
}

/** Types of the kernel or of one module, from one kind of debug information. */
export interface TypeSource {
  /** Undefined for the kernel. */
  readonly module: string | undefined;
  find(tag: Tag, name: string): Type | undefined;
  /** An enumerator or a macro with a number. */
  constant(name: string): Constant | undefined;
  /** `file`: only one that is declared in a file whose path ends like this. */
  variable(name: string, file?: string): VariableType | undefined;
  /** Type of a function. */
  functionType(name: string): Type | undefined;
  /** Names that start with `prefix`, at most `limit`. */
  complete(tag: Tag | 'variable' | 'constant', prefix: string, limit: number): string[];
  /** Variables of a source file, where the source tells files apart. */
  variablesIn?(file: string, prefix: string, limit: number): string[];
  /** Per-CPU variables with their offsets in the per-CPU area, where the source lists them. */
  perCpuVariables?(): ReadonlyMap<string, { readonly offset: number }>;
}

/** A variable or function that has a place. */
export interface Variable {
  readonly name: string;
  /** Undefined when only the symbol table knows it. */
  readonly type: Type | undefined;
  readonly address: bigint;
  /** The address is that of the template: each VP has a copy at an offset of its own. */
  readonly perCpu: boolean;
  readonly module?: string;
  readonly declaration?: SourceLocation;
}

/** Letters of code in nm's spelling. */
const isCode = (letter: string): boolean => /[tTwWi]/.test(letter);

/** Names with `::`, quoted or not: `hv_vmbus::vmbus_connection`, `kernel/sched/core.c::runqueues`. */
export const isFile = (scope: string): boolean => /\.(c|h|S|s|rs|cc|cpp)$/.test(scope);

export class Catalog {
  readonly #symbols: Symbolizer;
  /** Best first. */
  #sources: readonly TypeSource[] = [];
  readonly #types = new Map<string, Type | undefined>();
  readonly #constants = new Map<string, Constant | undefined>();
  #perCpuBase: { value: bigint | undefined } | undefined;

  constructor(symbols: Symbolizer) {
    this.#symbols = symbols;
  }

  /** Sources by how much they are believed: DWARF first, then BTF; of each kind the kernel's first. */
  setSources(dwarf: readonly TypeSource[], btf: readonly TypeSource[]): void {
    const all = [...dwarf, ...btf];
    if (all.length === this.#sources.length && all.every((s, i) => s === this.#sources[i])) return;
    this.#sources = all;
    this.forget();
  }

  /** Symbols have changed: what was derived from them is found again. */
  forget(): void {
    this.#types.clear();
    this.#constants.clear();
    this.#perCpuBase = undefined;
  }

  get empty(): boolean {
    return this.#sources.length === 0;
  }

  /** Sources, those of `module` before others. */
  *#from(module: string | undefined): Generator<TypeSource> {
    if (module !== undefined) for (const s of this.#sources) if (s.module === module) yield s;
    for (const s of this.#sources) if (module === undefined || s.module !== module) yield s;
  }

  /**
   * `struct name`, `union name`, `enum name`, or what typedef `name` stands for. `module`: whose own types come first. A
   * definition is better than a declaration, wherever it is.
   */
  find(tag: Tag, name: string, module?: string): Type | undefined {
    const key = `${module ?? ''} ${tag} ${name}`;
    if (this.#types.has(key)) return this.#types.get(key);
    let found: Type | undefined;
    for (const source of this.#from(module)) {
      const type = source.find(tag, name);
      if (type === undefined) continue;
      found = type;
      if (!isIncomplete(type)) break;
    }
    if (found === undefined && tag === 'typedef') found = WELL_KNOWN_TYPEDEFS.get(name);
    this.#types.set(key, found);
    return found;
  }

  /** True for a name that a cast can have without a tag. */
  isTypeName(name: string): boolean {
    return BASE_TYPES.has(name) || this.find('typedef', name) !== undefined;
  }

  /** A type of the kind that the tables here are written in: `struct page *`, `u64`, `char [16]`. */
  named(text: string): Type | undefined {
    const m = /^(?:(struct|union|enum) )?([\w ]+?)((?: ?\*)*)(?: ?\[(\d*)\])?$/.exec(text);
    if (!m) return undefined;
    const [, tag, name, stars, bound] = m;
    let type: Type | undefined =
      name === 'void' ? VOID : tag ? this.find(tag as Tag, name) : (baseType(name.split(' ')) ?? this.find('typedef', name));
    if (!type) return undefined;
    for (const c of stars) if (c === '*') type = pointerTo(type);
    return bound === undefined ? type : arrayOf(type, bound === '' ? undefined : Number(bound));
  }

  /** Typedefs and qualifiers off, and the definition of what is only declared. */
  resolve(type: Type, module?: string): PlainType {
    const t = plain(type);
    if ((t.kind !== 'struct' && t.kind !== 'union') || !t.incomplete || t.name === undefined) return t;
    return plain(this.find(t.kind, t.name, module) ?? t);
  }

  /** A member of a struct by a path such as `sched_info.pcount`: type, and offset in bytes. */
  member(type: Type, path: string): { type: Type; offset: number } | undefined {
    let at: { type: Type; offset: number } = { type, offset: 0 };
    for (const name of path.split('.').slice(0, MAX_NESTING)) {
      const t = this.resolve(at.type);
      const found = t.kind === 'struct' || t.kind === 'union' ? findMember(t, name) : undefined;
      if (!found || found.bits) return undefined;
      at = { type: found.type, offset: at.offset + found.offset };
    }
    return at;
  }

  memberNames(type: CompoundType): string[] {
    return memberNames(type);
  }

  constant(name: string): Constant | undefined {
    if (this.#constants.has(name)) return this.#constants.get(name);
    let found: Constant | undefined;
    for (const source of this.#sources) {
      found = source.constant(name);
      if (found) break;
    }
    this.#constants.set(name, found);
    return found;
  }

  /** Where the template of the per-CPU area is: told by its symbol, or by any of its variables that has one. */
  get perCpuBase(): bigint | undefined {
    if (!this.#perCpuBase) {
      let value = this.#symbols.address('__per_cpu_start');
      for (const source of this.#sources) {
        if (value !== undefined || source.module !== undefined) continue;
        for (const [name, { offset }] of source.perCpuVariables?.() ?? []) {
          const address = this.#symbols.address(name);
          if (address === undefined) continue;
          value = address - BigInt(offset);
          break;
        }
      }
      this.#perCpuBase = { value };
    }
    return this.#perCpuBase.value;
  }

  /** A variable or function by name. Of several the one in `scope`, then the kernel's. */
  variable(name: string, scope: Scope = {}): Variable | undefined {
    const named = this.#symbols.named(name).filter((s) => scope.module === undefined || (s.module ?? 'vmlinux') === scope.module);
    const symbol = named[0];
    const module = symbol?.module ?? (scope.module === 'vmlinux' ? undefined : scope.module);
    for (const source of this.#from(module)) {
      if (scope.module !== undefined && source.module !== module) continue;
      // A module's own variable is not described by another module.
      if (symbol && source.module !== module && source.module !== undefined) continue;
      const found = source.variable(name, scope.file);
      if (!found) continue;
      const perCpu = found.perCpuOffset !== undefined;
      const base = perCpu ? this.perCpuBase : undefined;
      const computed = base === undefined ? undefined : base + BigInt(found.perCpuOffset ?? 0);
      const address = found.address ?? (scope.file === undefined ? symbol?.address : undefined) ?? computed;
      if (address === undefined) continue;
      const { type, declaration } = found;
      return { name, type, address, perCpu, ...(module ? { module } : {}), ...(declaration ? { declaration } : {}) };
    }
    if (!symbol || scope.file !== undefined) return undefined;
    const found = { name, address: symbol.address, perCpu: false, ...(module ? { module } : {}) };
    if (isCode(symbol.type)) return { ...found, type: this.functionType(name, module) };
    const text = Object.hasOwn(KNOWN_VARIABLES, name) ? KNOWN_VARIABLES[name] : undefined;
    return { ...found, type: text === undefined ? undefined : this.named(text) };
  }

  /** Type of a function, compiler clones included (`foo.constprop.0` has foo's, as far as anybody knows). */
  functionType(name: string, module?: string): Type | undefined {
    const source = name.replace(/\..*$/, '');
    for (const s of this.#from(module)) {
      const found = s.functionType(source);
      if (found) return found;
    }
    return undefined;
  }

  /** Names that start with `prefix`, at most `limit`, sorted. */
  complete(tag: Tag | 'variable' | 'constant', prefix: string, limit: number): string[] {
    const out = new Set<string>();
    for (const source of this.#sources) {
      if (out.size >= limit) break;
      for (const name of source.complete(tag, prefix, limit - out.size)) out.add(name);
    }
    return [...out].sort();
  }

  /** Names of variables of a source file or of a module (`vmlinux`: the kernel) that start with `prefix`, sorted. */
  completeIn(scope: string, prefix: string, limit: number): string[] {
    const out = new Set<string>();
    if (isFile(scope))
      for (const source of this.#sources) for (const name of source.variablesIn?.(scope, prefix, limit) ?? []) out.add(name);
    else {
      const module = scope.replaceAll('-', '_');
      const own = module === 'vmlinux' ? undefined : module;
      for (const source of this.#sources)
        if (source.module === own) for (const name of source.complete('variable', prefix, limit)) out.add(name);
      for (const name of this.#symbols.complete(prefix, limit, own ?? '')) out.add(name);
    }
    return [...out].sort().slice(0, limit);
  }
}

function isIncomplete(type: Type): boolean {
  const t = plain(type);
  return (t.kind === 'struct' || t.kind === 'union') && t.incomplete === true;
}
