/**
 * Symbol files of the kernel and its modules: finding the ones that belong to what the guest runs, and keeping track of where that is.
 * A file that does not fit is not used, and says why.
 */
import fs from 'node:fs';
import path from 'node:path';
import { SymbolFileError, withoutDamage } from '../symbols/byte-source.ts';
import { type DebugInfo, KIND, openDebugInfo, openDebugInfoHere } from '../symbols/dwarf/debug-info.ts';
import { LoadedSymbols, type Stretch } from '../symbols/loaded.ts';
import { DwarfTypes } from '../types/dwarf-types.ts';
import type { KernelModule } from '../symbols/modules.ts';
import type { UnwindRow } from '../symbols/dwarf/cfi.ts';
import { fetchedFor } from '../user-cache.ts';
import { ProcessFiles } from './process-files.ts';
import type { GuestKernel, KernelFacts } from './kernel.ts';

/** Where distributions put debug information of installed packages. */
const SYSTEM_FOLDERS = ['/usr/lib/debug'];
/** Files of a folder that are looked through for modules, at most. */
const MAX_FILES = 20_000;

const isFile = (file: string): boolean => fs.statSync(file, { throwIfNoEntry: false })?.isFile() ?? false;
const isFolder = (file: string): boolean => fs.statSync(file, { throwIfNoEntry: false })?.isDirectory() ?? false;
/** The kernel's own spelling: `-` and `_` mean the same. */
const moduleName = (file: string): string =>
  path
    .basename(file)
    .replace(/\.ko(\.debug)?$/, '')
    .replaceAll('-', '_');

export class SymbolFiles {
  #facts: KernelFacts;
  /** The kernel that was launched. */
  readonly #first: { readonly facts: KernelFacts; readonly own: string | undefined };
  /** The kernel in a machine, when there is one. */
  #kernel: GuestKernel | undefined;
  #processes: ProcessFiles | undefined;
  /** Files and folders that the user named. */
  readonly #named: readonly string[];
  #loaded: LoadedSymbols[] = [];
  /** Why the kernel (`''`) and modules by name have no debug information. */
  readonly problems = new Map<string, string>();
  readonly #moduleFiles = new Map<string, Map<string, string[]>>();
  /** Modules that were looked for, by name and base. */
  readonly #tried = new Set<string>();
  /** Called with words for the user when debug information is found to be damaged; what is not damaged is used. */
  onDamage: (text: string) => void = () => {};
  /** How many problems of a file were told. */
  readonly #told = new WeakMap<LoadedSymbols, number>();
  /** Called when names can be asked for, or a file has come or gone. */
  onChange: () => void = () => {};

  /** Resolves when the kernel's file is open, so that lines can be asked for, or `problems` says why there is none. Never rejects. */
  readonly opened: Promise<void>;

  /**
   * The symbol files of a kernel. `own`: the kernel is this ELF file itself. `named`: files and folders to look in; those that do not fit are
   * told by `problems`.
   */
  constructor(facts: KernelFacts, own: string | undefined, named: readonly string[] = []) {
    this.#facts = facts;
    this.#first = { facts, own };
    this.#named = named;
    this.opened = this.#openKernel(own);
  }

  /** The kernel is about to run in a machine (again): it is told how to unwind, and tells where it is. */
  follow(kernel: GuestKernel): void {
    this.#kernel = kernel;
    // After a reset it is the first again.
    if (this.#facts !== this.#first.facts) void this.kernelChanged(this.#first.facts);
    kernel.rules = (pc) => this.rules(pc);
    this.#processes?.close();
    const processes = new ProcessFiles(kernel, this.#named);
    this.#processes = processes;
    kernel.processes = (vp, pc) => processes.at(vp, pc);
    kernel.variableAddress = (name) => this.#variableAddress(name);
    this.update([]);
    this.placeKernel();
  }

  get all(): readonly LoadedSymbols[] {
    return this.#loaded;
  }

  /** Where files are looked for: what the user named, what was fetched for this kernel, what the system has. */
  *#places(): Generator<string> {
    yield* this.#named;
    const { release } = this.#facts;
    const fetched = release === undefined ? undefined : fetchedFor(release);
    if (fetched) yield fetched.folder;
    yield* SYSTEM_FOLDERS;
  }

  /** Looks again for what was not found: files may have come. `own` as for the constructor. */
  async again(own?: string): Promise<void> {
    this.problems.clear();
    this.#moduleFiles.clear();
    this.#tried.clear();
    if (!this.#loaded.some((l) => l.module === undefined)) await this.#openKernel(own);
    if (this.#kernel) this.update(this.#kernel.modules);
  }

  /** Another kernel runs now: its files instead of the last one's. Resolves when they are there; nothing of the old ones is used meanwhile. */
  async kernelChanged(facts: KernelFacts): Promise<void> {
    this.#facts = facts;
    this.#forgetFiles();
    await this.again(facts === this.#first.facts ? this.#first.own : undefined);
    this.placeKernel();
  }

  #closed = false;
  close(): void {
    this.#closed = true;
    this.#processes?.close();
    this.#forgetFiles();
  }

  #forgetFiles(): void {
    for (const l of this.#loaded) l.info.close();
    this.#loaded = [];
  }

  // --- queries ------------------------------------------------------------------------------------------------------------

  /** The file that has a guest address, and the address in it. */
  at(address: bigint): { symbols: LoadedSymbols; address: bigint } | undefined {
    for (const symbols of this.#loaded) {
      const own = symbols.toFile(address);
      if (own !== undefined) return { symbols, address: own };
    }
    return undefined;
  }

  #variableAddress(name: string): bigint | undefined {
    const kernel = this.#loaded.find((l) => l.module === undefined && l.placed);
    return withoutDamage(() => {
      const found = kernel?.info.lookup(name, [KIND.variable]) ?? [];
      return kernel && found.length === 1 ? new DwarfTypes(kernel).variableOf(found[0])?.address : undefined;
    }, undefined);
  }

  /** Call frame information of the instruction at a guest address. */
  rules(address: bigint): UnwindRow | undefined {
    for (const symbols of this.#loaded) {
      const row = symbols.rules(address);
      if (row) return row;
    }
    return undefined;
  }

  /** Where a breakpoint on a function goes: every copy of it, inlined ones too; undefined: no debug information knows it. */
  functionAddresses(name: string, module?: string): bigint[] | undefined {
    const out = this.#loaded
      .filter((l) => l.placed && (module === undefined || l.module === module))
      .flatMap((l) => withoutDamage(() => l.info.functionEntries(name).flatMap((e) => l.toGuest(e.body)), []));
    return out.length ? out : undefined;
  }

  // --- finding ------------------------------------------------------------------------------------------------------------

  async #openKernel(own: string | undefined): Promise<void> {
    const facts = this.#facts;
    const reasons: string[] = [];
    for (const file of own ? [own] : this.#kernelCandidates()) {
      try {
        const info = await openDebugInfo(file);
        if (this.#closed) {
          info.close();
          return;
        }
        const id = info.elf.buildId;
        const fits = own !== undefined || (id !== undefined && facts.hasBuildId(id, info.elf.buildIdPlace));
        if (!fits || !info.hasDebugInfo) {
          info.close();
          reasons.push(
            !fits
              ? `${file}: its build-id is ${id ?? 'missing'}, the guest's kernel has ${[...facts.buildIds].join(' or ') || 'none'}`
              : `${file}: it has no debug information`,
          );
          continue;
        }
        const symbols = new LoadedSymbols(info);
        this.#loaded = [symbols, ...this.#loaded];
        this.placeKernel();
        void info.complete.then(() => {
          this.#tellDamage(symbols);
          this.onChange();
        });
        return;
      } catch (error) {
        if (!(error instanceof SymbolFileError)) throw error;
        reasons.push(error.message);
      }
    }
    this.problems.set('', reasons.join('; ') || 'no file with debug information was found for this kernel');
  }

  *#kernelCandidates(): Generator<string> {
    const seen = new Set<string>();
    for (const named of this.#places()) {
      // Files that were named are tried before anything is searched for.
      const { buildIds: ids, release } = isFolder(named) ? this.#facts : { buildIds: [], release: undefined };
      const files = isFolder(named)
        ? [
            ...[...ids].map((id) => path.join(named, '.build-id', id.slice(0, 2), `${id.slice(2)}.debug`)),
            ...[...ids].map((id) => path.join(named, id, 'debuginfo')),
            path.join(named, 'vmlinux'),
            ...(release
              ? ['', 'boot', 'usr/lib/debug/boot', `lib/modules/${release}`, `usr/lib/debug/lib/modules/${release}`].flatMap(
                  (folder) => [path.join(named, folder, `vmlinux-${release}`), path.join(named, folder, 'vmlinux')],
                )
              : []),
          ]
        : /\.ko(\.debug)?$/.test(named)
          ? []
          : [named];
      for (const file of files) {
        if (seen.has(file) || (isFolder(named) && !isFile(file))) continue;
        seen.add(file);
        yield file;
      }
    }
  }

  #tellDamage(symbols: LoadedSymbols): void {
    const { problems } = symbols;
    const told = this.#told.get(symbols) ?? 0;
    if (problems.length <= told) return;
    this.#told.set(symbols, problems.length);
    const more = problems.length - told - 1;
    this.onDamage(`Damaged debug information: ${problems[told]}${more ? ` (and ${more} more)` : ''}`);
  }

  /** The kernel has been found, or has moved to where it runs: call again whenever that may be. */
  placeKernel(): void {
    const symbols = this.#loaded.find((l) => l.module === undefined);
    if (!symbols) return;
    const { layout, origin, relocatable } = symbols.info.elf;
    const to = layout.reduce((most, l) => Math.max(most, l.to), 0);
    const { image, physicalBase, identity } = this.#kernel ?? {};
    // Until the MMU is on, code runs where the image lies; later such an address is user space's.
    const address = image?.base ?? (physicalBase === undefined ? origin : BigInt(physicalBase));
    const physical =
      image && identity && physicalBase !== undefined
        ? [{ ...identity, address: BigInt(physicalBase) + BigInt(identity.from) }]
        : [];
    symbols.stretches = relocatable ? [] : [{ from: 0, to, address }, ...physical];
  }

  /** The list of modules has changed. True when a file has come or gone. */
  update(modules: readonly KernelModule[]): boolean {
    const keys = new Set(modules.map((m) => `${m.name}@${m.base}`));
    const gone = this.#loaded.filter((l) => l.module !== undefined && !modules.some((m) => m.name === l.module));
    for (const l of gone) l.info.close();
    this.#loaded = this.#loaded.filter((l) => !gone.includes(l));
    for (const key of this.#tried) if (!keys.has(key)) this.#tried.delete(key);
    let changed = gone.length > 0;
    for (const m of modules) {
      const known = this.#loaded.find((l) => l.module === m.name);
      const stretches = known ? stretchesOf(known.info, m) : [];
      if (known && stretches.length) {
        known.stretches = stretches;
        continue;
      }
      if (known) {
        // Another build of it has been loaded.
        known.info.close();
        this.#loaded = this.#loaded.filter((l) => l !== known);
        this.#tried.delete(`${m.name}@${m.base}`);
        changed = true;
      }
      const key = `${m.name}@${m.base}`;
      if (this.#tried.has(key)) continue;
      this.#tried.add(key);
      changed = this.#openModule(m) || changed;
    }
    return changed;
  }

  #openModule(module: KernelModule): boolean {
    const reasons: string[] = [];
    for (const file of this.#moduleCandidates(module.name)) {
      try {
        const info = openDebugInfoHere(file);
        const stretches = info.hasDebugInfo ? stretchesOf(info, module) : [];
        if (!stretches.length) {
          info.close();
          reasons.push(
            `${file}: ${info.hasDebugInfo ? 'its symbols are not those of the loaded module' : 'it has no debug information'}`,
          );
          continue;
        }
        const symbols = new LoadedSymbols(info, module.name);
        symbols.stretches = stretches;
        this.#loaded.push(symbols);
        this.problems.delete(module.name);
        this.#tellDamage(symbols);
        return true;
      } catch (error) {
        if (!(error instanceof SymbolFileError)) throw error;
        reasons.push(error.message);
      }
    }
    this.problems.set(module.name, reasons.join('; ') || 'no file with debug information was found for this module');
    return false;
  }

  *#moduleCandidates(name: string): Generator<string> {
    for (const named of this.#places())
      if (!isFolder(named)) {
        if (moduleName(named) === name && /\.ko(\.debug)?$/.test(named)) yield named;
      } else yield* this.#modulesUnder(named).get(name) ?? [];
  }

  /** Module files of a folder by module name: of this release where the folder tells releases apart. */
  #modulesUnder(folder: string): Map<string, string[]> {
    const known = this.#moduleFiles.get(folder);
    if (known) return known;
    const found = new Map<string, string[]>();
    this.#moduleFiles.set(folder, found);
    const add = (file: string): void => {
      found.set(moduleName(file), [...(found.get(moduleName(file)) ?? []), file]);
    };
    // A build tree lists its modules (Linux, Documentation/kbuild/kbuild.rst), by objects since 6.2.
    const order = path.join(folder, 'modules.order');
    if (isFile(order)) {
      for (const line of fs.readFileSync(order, 'utf8').split('\n'))
        if (line) add(path.join(folder, line.replace(/\.k?o$/, '.ko')));
      return found;
    }
    const { release } = this.#facts;
    const releases = ['lib/modules', 'usr/lib/debug/lib/modules', 'usr/lib/modules'].map((f) => path.join(folder, f));
    const roots = releases.some(isFolder) ? releases.map((f) => path.join(f, release ?? '')).filter(isFolder) : [folder];
    let left = MAX_FILES;
    const walk = (at: string): void => {
      let entries: fs.Dirent[];
      try {
        entries = fs.readdirSync(at, { withFileTypes: true });
      } catch {
        return; // What cannot be read has no modules for us.
      }
      for (const e of entries) {
        if (left-- <= 0) return;
        const file = path.join(at, e.name);
        if (e.isDirectory()) walk(file);
        else if (/\.ko(\.debug)?$/.test(e.name)) add(file);
      }
    };
    for (const root of roots) walk(root);
    return found;
  }
}

/**
 * Where the sections of a module's file are in the guest: by the guest's list of them or, in a kernel that keeps none, by the distance of the
 * symbols that the guest names. Empty when the names are others, or are elsewhere: the file is of another build.
 */
function stretchesOf({ elf }: DebugInfo, module: KernelModule): Stretch[] {
  const { symbols, layout } = elf;
  const guest = once(module.symbols.map((s) => [s.name, s.address]));
  const file = once(Array.from(symbols.places, (place, i) => [symbols.name(i), place]));
  /** By section: how far symbols are from their places in the file, and how many agree on it. */
  const distances = new Map<number, Map<bigint, number>>();
  let named = 0;
  for (const [name, address] of guest) {
    const place = file.get(name);
    if (place === undefined) continue;
    named++;
    if (address === null || place === null) continue;
    const section = layout.find((l) => place >= l.from && place < l.to);
    if (!section) continue;
    const counts = distances.get(section.index) ?? new Map<bigint, number>();
    const distance = address - BigInt(place);
    counts.set(distance, (counts.get(distance) ?? 0) + 1);
    distances.set(section.index, counts);
  }
  if (named < guest.size / 2) return [];
  const out: Stretch[] = [];
  for (const { index, from, to } of layout) {
    const counts = [...(distances.get(index) ?? [])].sort(([, a], [, b]) => b - a);
    const told = module.sections.size ? module.sections.get(elf.sections[index].name) : undefined;
    const distance = told === undefined ? counts[0]?.[0] : told - BigInt(from);
    // A section that the guest has let go.
    if (distance === undefined || (module.sections.size && told === undefined)) continue;
    const total = counts.reduce((sum, [, n]) => sum + n, 0);
    const agreeing = counts.find(([d]) => d === distance)?.[1] ?? 0;
    if (agreeing * 10 < total * 9) return [];
    out.push({ from, to, address: distance + BigInt(from) });
  }
  return out;
}

/** Values by name; null for a name that is there twice, which tells nothing. */
function once<T>(entries: Iterable<readonly [name: string, value: T]>): Map<string, T | null> {
  const out = new Map<string, T | null>();
  for (const [name, value] of entries) out.set(name, out.has(name) ? null : value);
  return out;
}
