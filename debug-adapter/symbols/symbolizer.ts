/** Addresses to names and names to addresses, over symbols from wherever they came (ELF, kallsyms, modules). */
import { hex } from '../../emulator/base/bits.ts';
import type { KernelSymbol } from './memory.ts';

export interface Location {
  symbol: KernelSymbol;
  offset: number;
}

/**
 * An address this far above the last symbol belongs to nobody. No function is that long; and most distributions' kallsyms
 * lacks data, so that the next symbol below a variable may be any other.
 */
const MAX_GAP = 64 << 10;

const byAddress = (a: KernelSymbol, b: KernelSymbol) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0);

/** Sorted symbols of one origin. */
class Table {
  readonly symbols: readonly KernelSymbol[];
  /** End of the address range; above it nothing is named. */
  readonly end: bigint;

  constructor(symbols: readonly KernelSymbol[], end?: bigint) {
    this.symbols = symbols;
    const last = symbols[symbols.length - 1];
    this.end = end ?? (last ? last.address + BigInt(last.size || MAX_GAP) : 0n);
  }

  /** Index of the last symbol at or below `address`, -1 when there is none. */
  indexAt(address: bigint): number {
    let lo = 0;
    let hi = this.symbols.length - 1;
    while (lo <= hi) {
      const mid = (lo + hi) >> 1;
      if (this.symbols[mid].address <= address) lo = mid + 1;
      else hi = mid - 1;
    }
    return hi;
  }

  at(address: bigint): Location | undefined {
    if (address >= this.end) return undefined;
    let i = this.indexAt(address);
    if (i < 0) return undefined;
    // Of several names for one address the first is the best one: so says kallsyms' own order, and elf.ts's.
    while (i > 0 && this.symbols[i - 1].address === this.symbols[i].address) i--;
    const symbol = this.symbols[i];
    const offset = Number(address - symbol.address);
    if (offset > MAX_GAP || (symbol.size > 0 && offset >= symbol.size)) return undefined;
    return { symbol, offset };
  }
}

export class Symbolizer {
  #kernel = new Table([]);
  #modules: Table[] = [];
  #aliases = new Table([]);
  #byName: Map<string, KernelSymbol[]> | undefined;
  #names: string[] | undefined;
  #clones: Map<string, KernelSymbol[]> | undefined;

  /** Replaces the kernel's symbols. `end` is where the kernel ends. `aliases`: names of code that runs at other addresses as well. */
  setKernel(symbols: readonly KernelSymbol[], end?: bigint, aliases: readonly KernelSymbol[] = []): void {
    this.#kernel = new Table([...symbols].sort(byAddress), end);
    this.#aliases = new Table([...aliases].sort(byAddress));
    this.#forget();
  }

  /** Replaces the symbols of all modules: one list per module. */
  setModules(modules: readonly { symbols: readonly KernelSymbol[]; end: bigint }[]): void {
    this.#modules = modules.map((m) => new Table([...m.symbols].sort(byAddress), m.end));
    this.#forget();
  }

  #forget(): void {
    this.#byName = undefined;
    this.#names = undefined;
    this.#clones = undefined;
  }

  /** Number of symbols. */
  get size(): number {
    return this.#tables().reduce((n, t) => n + t.symbols.length, 0);
  }

  #tables(): Table[] {
    return [this.#kernel, ...this.#modules, this.#aliases];
  }

  /** The symbol that `address` belongs to. */
  at(address: bigint): Location | undefined {
    let best: Location | undefined;
    for (const table of this.#tables()) {
      const found = table.at(address);
      if (found && (!best || found.offset < best.offset)) best = found;
    }
    return best;
  }

  /** First address after the symbol at `address`: the next symbol's, or the end by size. */
  endOf(location: Location): bigint {
    const { symbol } = location;
    if (symbol.size > 0) return symbol.address + BigInt(symbol.size);
    for (const table of this.#tables()) {
      let i = table.indexAt(symbol.address);
      if (i < 0 || table.symbols[i].address !== symbol.address) continue;
      for (i++; i < table.symbols.length; i++) if (table.symbols[i].address > symbol.address) return table.symbols[i].address;
      return table.end;
    }
    return symbol.address + 4096n;
  }

  #index(): Map<string, KernelSymbol[]> {
    if (!this.#byName) {
      this.#byName = new Map();
      for (const table of this.#tables())
        for (const symbol of table.symbols) {
          const list = this.#byName.get(symbol.name);
          if (list) list.push(symbol);
          else this.#byName.set(symbol.name, [symbol]);
        }
    }
    return this.#byName;
  }

  /** All symbols called `name`. */
  named(name: string): readonly KernelSymbol[] {
    return this.#index().get(name) ?? [];
  }

  /** Copies of function `name` that the compiler has made for some of its callers: `name.isra.0`, `name.constprop.0`. */
  clones(name: string): readonly KernelSymbol[] {
    if (!this.#clones) {
      this.#clones = new Map();
      for (const [full, symbols] of this.#index()) {
        const m = /^([^.]+)(?:\.(?:isra|constprop|part)\.\d+)+$/.exec(full);
        if (m) this.#clones.set(m[1], [...(this.#clones.get(m[1]) ?? []), ...symbols]);
      }
    }
    return this.#clones.get(name) ?? [];
  }

  /** A name that may have been meant by one that is none: the same in other case, or with underscores in front. */
  similar(name: string): string | undefined {
    const plain = (text: string): string => text.replace(/^_+/, '').toLowerCase();
    const wanted = plain(name);
    if (wanted.length < 3) return undefined;
    for (const known of this.#index().keys())
      if (known.length <= name.length + 4 && plain(known) === wanted && known !== name) return known;
    return undefined;
  }

  /** Address of `name`; of several the first. */
  address(name: string): bigint | undefined {
    return this.#index().get(name)?.[0].address;
  }

  /** Up to `limit` names that start with `prefix`, in order; only those of `module` where it is given, '' being the kernel. */
  complete(prefix: string, limit: number, module?: string): string[] {
    this.#names ??= [...this.#index().keys()].sort();
    const names = this.#names;
    let lo = 0;
    let hi = names.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (names[mid] < prefix) lo = mid + 1;
      else hi = mid;
    }
    const out: string[] = [];
    for (; lo < names.length && out.length < limit && names[lo].startsWith(prefix); lo++)
      if (module === undefined || this.named(names[lo]).some((s) => (s.module ?? '') === module)) out.push(names[lo]);
    return out;
  }

  /** `symbol+0x12`, `symbol` at its start, with ` [module]`; or the plain address. */
  format(address: bigint): string {
    const found = this.at(address);
    if (!found) return hex(address, 16);
    const { symbol, offset } = found;
    return `${symbol.name}${offset ? `+${hex(offset)}` : ''}${symbol.module ? ` [${symbol.module}]` : ''}`;
  }
}
