/**
 * Files of the guest's processes: which file is mapped where a process executes, by the kernel's own list of its mappings, and the same file
 * on this machine. Everything is looked for under the folders, and among the files, that the user named as `symbols`.
 */
import fs from 'node:fs';
import path from 'node:path';
import { SymbolFileError } from '../symbols/byte-source.ts';
import { openDebugInfoHere } from '../symbols/dwarf/debug-info.ts';
import { LoadedSymbols } from '../symbols/loaded.ts';
import { currentTask } from './current.ts';
import { mapleEntries } from './interrupts.ts';
import type { GuestKernel } from './kernel.ts';
import { KernelObjects, MAX_ELEMENTS } from './objects.ts';

/** A file in a process's memory. */
export interface Mapping {
  from: bigint;
  to: bigint;
  /** Where in the file `from` is, in bytes. */
  offset: bigint;
  /** From the root of its file system. */
  path: string;
}

const PT_LOAD = 1;
const MAX_PATH_PARTS = 64;
/** An index of a larger file's debug information would keep the user waiting. */
const MAX_SIZE = 64 << 20;
/** Start of an ELF file up to where its sections are told, which tools change: e_ident, e_type, e_machine, e_version, e_entry, e_phoff. */
const ELF_START = 40;

/** Mappings of a mm_struct, in order: a maple tree since 6.1, before that a list. */
function* mappings(objects: KernelObjects, mm: bigint): Generator<bigint> {
  const tree = objects.at(mm, 'mm_struct', 'mm_mt');
  if (tree !== undefined) {
    yield* mapleEntries(objects, tree);
    return;
  }
  let vma = objects.pointer(mm, 'mm_struct', 'mmap');
  for (let i = 0; vma !== undefined && i < MAX_ELEMENTS; i++) {
    yield vma;
    vma = objects.pointer(vma, 'vm_area_struct', 'vm_next');
  }
}

/** include/linux/dcache.h: the path of a dentry in its file system. */
function pathOf(objects: KernelObjects, dentry: bigint): string {
  const parts: string[] = [];
  for (let at = dentry; parts.length < MAX_PATH_PARTS; ) {
    const parent = objects.pointer(at, 'dentry', 'd_parent');
    if (parent === undefined || parent === at) break;
    parts.unshift(objects.text(at, 'dentry', 'd_name.name') ?? '?');
    at = parent;
  }
  return `/${parts.join('/')}`;
}

/** The file that `task` has at a user-space address. */
export function mappingAt(objects: KernelObjects, task: bigint, address: bigint): Mapping | undefined {
  const mm = objects.pointer(task, 'task_struct', 'mm');
  if (mm === undefined) return undefined;
  for (const vma of mappings(objects, mm)) {
    const from = objects.number(vma, 'vm_area_struct', 'vm_start') ?? 0n;
    const to = objects.number(vma, 'vm_area_struct', 'vm_end') ?? 0n;
    if (address < from || address >= to) continue;
    const file = objects.pointer(vma, 'vm_area_struct', 'vm_file');
    const dentry = file && objects.pointer(file, 'file', 'f_path.dentry', '__f_path.dentry');
    if (dentry === undefined) return undefined;
    const page = BigInt(objects.kernel.image?.pageSize ?? 4096);
    const offset = (objects.number(vma, 'vm_area_struct', 'vm_pgoff') ?? 0n) * page;
    return { from, to, offset, path: pathOf(objects, dentry) };
  }
  return undefined;
}

export class ProcessFiles {
  readonly #kernel: GuestKernel;
  readonly #named: readonly string[];
  /** By file and by how far it is from where it was linked; undefined: there is none that fits. */
  readonly #loaded = new Map<string, LoadedSymbols | undefined>();
  #objects: KernelObjects | undefined;

  constructor(kernel: GuestKernel, named: readonly string[] = []) {
    this.#kernel = kernel;
    this.#named = named;
  }

  close(): void {
    for (const symbols of this.#loaded.values()) symbols?.info.close();
    this.#loaded.clear();
  }

  /** The symbol file of what the task that runs on `vp` has at `address`. */
  at(vp: number, address: bigint): LoadedSymbols | undefined {
    const task = this.#named.length ? currentTask(this.#kernel, vp) : undefined;
    if (task === undefined) return undefined;
    // Types may have come since.
    if (this.#objects?.vp !== vp || this.#objects.size('mm_struct') === undefined)
      this.#objects = new KernelObjects(this.#kernel, vp);
    const mapping = mappingAt(this.#objects, task, address);
    if (!mapping) return undefined;
    const key = `${mapping.path} ${mapping.from} ${mapping.offset}`;
    if (!this.#loaded.has(key)) this.#loaded.set(key, this.#open(vp, mapping));
    return this.#loaded.get(key);
  }

  #open(vp: number, mapping: Mapping): LoadedSymbols | undefined {
    for (const file of this.#candidates(mapping.path)) {
      try {
        if (fs.statSync(file).size > MAX_SIZE) continue;
        const info = openDebugInfoHere(file);
        const { elf } = info;
        const segment = elf.headers.segments.find(
          (s) => s.type === PT_LOAD && BigInt(s.offset) <= mapping.offset && mapping.offset < BigInt(s.offset + s.fileSize),
        );
        // The address that the file was linked to have there.
        const linked = segment && BigInt.asUintN(64, segment.virtual - BigInt(segment.offset) + mapping.offset);
        if (linked === undefined || !this.#fits(vp, mapping, elf.source.read(0, ELF_START))) {
          info.close();
          continue;
        }
        const symbols = new LoadedSymbols(info);
        const to = elf.layout.reduce((most, l) => Math.max(most, l.to), 0);
        symbols.stretches = [{ from: 0, to, address: BigInt.asUintN(64, elf.origin + mapping.from - linked) }];
        return symbols;
      } catch (error) {
        if (!(error instanceof SymbolFileError) && !(error instanceof Error && 'code' in error)) throw error;
      }
    }
    return undefined;
  }

  *#candidates(guestPath: string): Generator<string> {
    for (const named of this.#named) {
      const found = fs.statSync(named, { throwIfNoEntry: false });
      if (found?.isDirectory()) {
        const file = path.join(named, ...guestPath.split('/').filter((p) => p !== '..'));
        if (fs.statSync(file, { throwIfNoEntry: false })?.isFile()) yield file;
      } else if (found && path.basename(named) === path.posix.basename(guestPath)) yield named;
    }
  }

  /** Is it the file that the process has? Its start is looked at, where that is in memory. */
  #fits(vp: number, { from, offset }: Mapping, start: Uint8Array): boolean {
    const there = offset === 0n ? this.#kernel.reader(vp)(from, ELF_START) : undefined;
    return there === undefined || Buffer.from(there).equals(start);
  }
}
