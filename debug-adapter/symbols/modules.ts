/**
 * Symbols of loaded kernel modules, from the guest's own list (struct module, include/linux/module.h). Layouts come from the
 * kernel's BTF. Everything read is the guest's and may be nonsense.
 */
import { viewOf } from '../../emulator/base/struct.ts';
import { type Btf, BTF_KIND as KIND, type Member } from './btf.ts';
import { ElfSymbol } from './elf.ts';
import { type ImageMemory, type KernelSymbol, readString, readU32, readU64, type VirtualReader } from './memory.ts';

export interface KernelModule {
  name: string;
  /** Where its code is. */
  base: bigint;
  size: number;
  symbols: KernelSymbol[];
  /** First address after all its named parts. */
  end: bigint;
  /** Where the sections of its file are that are still in memory: those for its start are not there any more once it runs. */
  sections: ReadonlyMap<string, bigint>;
}

/** Offsets in what lists a module's sections for sysfs: a NULL-terminated array of pointers to struct bin_attribute. */
interface SectionsLayout {
  /** Of struct module's pointer. */
  attributes: number;
  list: number;
  name: number;
  /** From the start of the bin_attribute. */
  address: number;
}

interface Layout {
  list: number;
  name: Member;
  kallsyms: number;
  /** Offsets of base and size of the code. */
  base: number;
  size: number;
  symtab: number;
  count: number;
  strtab: number;
  typetab: number;
  /** Offsets of the tables of exported symbols and of their lengths. */
  exports: readonly { table: number; count: number }[];
  /** Offsets of base and size of all its memory. */
  regions: readonly { base: number; size: number }[];
  sections: SectionsLayout | undefined;
}

const MAX_MODULES = 512;
const MAX_SYMBOLS = 200_000;
const MAX_EXPORTS = 10_000;
const MAX_SECTIONS = 1000;
/** include/linux/export-internal.h, struct kernel_symbol where addresses are relative: value, name, namespace (s32 each). */
const EXPORT_SIZE = 12;

function layoutFrom(btf: Btf): Layout | undefined {
  const module = btf.members('module');
  const tables = btf.members('mod_kallsyms');
  if (!module || !tables) return undefined;
  const offset = (list: Member[] | undefined, name: string) => list?.find((m) => m.name === name)?.offset;
  const name = module.find((m) => m.name === 'name');
  // Since 6.4 an array of struct module_memory whose first element (MOD_TEXT) is the code; before that struct module_layout.
  const newer = offset(module, 'mem');
  const core = newer ?? offset(module, 'core_layout');
  const part = btf.members(newer === undefined ? 'module_layout' : 'module_memory');
  const values = [
    offset(module, 'list'),
    offset(module, 'kallsyms'),
    core,
    offset(part, 'base'),
    offset(part, 'size'),
    offset(tables, 'symtab'),
    offset(tables, 'num_symtab'),
    offset(tables, 'strtab'),
    offset(tables, 'typetab'),
  ];
  if (!name || values.some((v) => v === undefined)) return undefined;
  const [list, kallsyms, coreAt, base, size, symtab, count, strtab, typetab] = values as number[];
  const relative = btf.members('kernel_symbol')?.[0]?.name === 'value_offset';
  const exports = [
    ['syms', 'num_syms'],
    ['gpl_syms', 'num_gpl_syms'],
  ].flatMap(([tableName, countName]) => {
    const table = offset(module, tableName);
    const length = offset(module, countName);
    return relative && table !== undefined && length !== undefined ? [{ table, count: length }] : [];
  });
  // include/linux/module.h: core_layout and init_layout, or the elements of mem[].
  const memory = module.find((m) => m.name === 'mem')?.size ?? 0;
  const step = btf.record(btf.find('module_memory', KIND.STRUCT))?.size || memory;
  const starts =
    newer === undefined
      ? ['core_layout', 'init_layout', 'data_layout'].flatMap((n) => offset(module, n) ?? [])
      : Array.from({ length: step ? Math.min(memory / step, 16) : 0 }, (_, i) => newer + i * step);
  const regions = starts.map((at) => ({ base: at + base, size: at + size }));
  const sections = sectionsFrom(btf, offset(module, 'sect_attrs'));
  return {
    ...{ list, name, kallsyms, base: coreAt + base, size: coreAt + size, symtab, count, strtab, typetab, exports },
    ...{ regions, sections },
  };
}

/** kernel/module/sysfs.c: the address is behind the attribute in struct module_sect_attr or, since 6.14, what `private` holds. */
function sectionsFrom(btf: Btf, attributes: number | undefined): SectionsLayout | undefined {
  const at = (struct: string, member: string) => btf.members(struct)?.find((m) => m.name === member)?.offset;
  const group = at('module_sect_attrs', 'grp');
  const list = at('attribute_group', 'bin_attrs');
  const attribute = at('bin_attribute', 'attr');
  const name = at('attribute', 'name');
  const address = at('module_sect_attr', 'address') ?? at('bin_attribute', 'private');
  if ([attributes, group, list, attribute, name, address].some((v) => v === undefined)) return undefined;
  const behind = (address ?? 0) - (at('module_sect_attr', 'battr') ?? 0);
  return { attributes: attributes ?? 0, list: (group ?? 0) + (list ?? 0), name: (attribute ?? 0) + (name ?? 0), address: behind };
}

const byAddress = (a: KernelSymbol, b: KernelSymbol): number => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0);

const MODULE_NAME = /^[A-Za-z0-9_-]+$/;

export class ModuleList {
  readonly #layout: Layout | undefined;
  #head: bigint | undefined;
  readonly #cache = new Map<bigint, KernelModule>();

  /** `head` is the address of the list head `modules` where symbols tell it; otherwise it is searched for. */
  constructor(btf: Btf | undefined, head: bigint | undefined) {
    this.#layout = btf && layoutFrom(btf);
    this.#head = head;
  }

  get usable(): boolean {
    return this.#layout !== undefined;
  }

  /** Address of the list's head, once it is known. */
  get head(): bigint | undefined {
    return this.#head;
  }

  /** True once the list's head is known. */
  get found(): boolean {
    return this.#head !== undefined;
  }

  /**
   * Searches the kernel's writable data for the list head of `modules`, for kernels that do not name it: a struct list_head
   * whose two neighbours point back at it, and lie inside a struct module with a module's name.
   */
  search(image: ImageMemory, read: VirtualReader): void {
    const layout = this.#layout;
    if (!layout || this.#head !== undefined) return;
    const view = viewOf(image.bytes);
    const end = image.base + BigInt(image.bytes.length);
    for (let at = 0; at + 16 <= image.bytes.length; at += 8) {
      // Cheap first: a kernel address (bits 63:48 set) that is 8-byte aligned.
      if (view.getUint16(at + 6, true) !== 0xffff || view.getUint16(at + 14, true) !== 0xffff || (image.bytes[at] & 7) !== 0)
        continue;
      const next = view.getBigUint64(at, true);
      const prev = view.getBigUint64(at + 8, true);
      if ((next >= image.base && next < end) || (prev >= image.base && prev < end) || (prev & 7n) !== 0n) continue;
      const head = image.base + BigInt(at);
      if (readU64(read, next + 8n) !== head || readU64(read, prev) !== head) continue;
      if (this.#moduleAt(next - BigInt(layout.list), read)) {
        this.#head = head;
        return;
      }
    }
  }

  #moduleAt(address: bigint, read: VirtualReader): KernelModule | undefined {
    const layout = this.#layout as Layout;
    const name = readString(read, address + BigInt(layout.name.offset), layout.name.size);
    const base = readU64(read, address + BigInt(layout.base));
    const sizeBytes = read(address + BigInt(layout.size), 4);
    if (!name || !MODULE_NAME.test(name) || !base || base >> 48n !== 0xffffn || !sizeBytes) return undefined;
    const size = viewOf(sizeBytes).getUint32(0, true);
    if (size === 0 || size > 64 << 20) return undefined;
    const known = this.#cache.get(address);
    const tables = readU64(read, address + BigInt(layout.kallsyms));
    const count = tables === undefined ? undefined : read(tables + BigInt(layout.count), 4);
    const symbolCount = count ? viewOf(count).getUint32(0, true) : 0;
    const regions = layout.regions.map((r) => ({
      base: readU64(read, address + BigInt(r.base)) ?? 0n,
      size: readU32(read, address + BigInt(r.size)) ?? 0,
    }));
    const attributes = layout.sections && readU64(read, address + BigInt(layout.sections.attributes));
    // A module that is still being loaded has other tables than later.
    const state = [name, base, symbolCount, attributes, ...regions.map((r) => r.base)].join();
    if (known && this.#states.get(address) === state) return known;
    const told = tables === undefined ? [] : this.#symbols(name, tables, Math.min(symbolCount, MAX_SYMBOLS), read);
    // Kernels without CONFIG_KALLSYMS_ALL forget the names of data once the module runs: what it exports, and what was seen
    // before, still is there.
    const names = new Set(told.map((s) => s.name));
    const before = known && known.name === name && known.base === base ? known.symbols : [];
    const end = base + BigInt(size);
    const seen = before.filter((s) => /[dDbBrR]/.test(s.type) && s.address >= base && s.address < end);
    const more = [...seen, ...this.#exports(name, address, read)].filter((s) => !names.has(s.name) && names.add(s.name));
    const symbols = [...told, ...more].sort(byAddress);
    // Symbols are sorted; data lies in regions of its own, above or below the code.
    const last = symbols.at(-1)?.address ?? 0n;
    const codeEnd = base + BigInt(size);
    const sections = new Map(
      this.#sections(attributes, read).filter(([, at]) =>
        regions.some((r) => r.base !== 0n && at >= r.base && at - r.base < BigInt(r.size)),
      ),
    );
    const module = { name, base, size, symbols, end: last >= codeEnd ? last + 1n : codeEnd, sections };
    this.#cache.set(address, module);
    this.#states.set(address, state);
    return module;
  }
  /** What each module of the cache was read from. */
  readonly #states = new Map<bigint, string>();

  /** Names and addresses of sections. */
  #sections(attributes: bigint | undefined, read: VirtualReader): [string, bigint][] {
    const layout = (this.#layout as Layout).sections;
    const list = layout && attributes ? readU64(read, attributes + BigInt(layout.list)) : undefined;
    const out: [string, bigint][] = [];
    if (!layout || !list) return out;
    for (let i = 0; i < MAX_SECTIONS; i++) {
      const attribute = readU64(read, list + BigInt(8 * i));
      if (!attribute) break;
      const name = readU64(read, attribute + BigInt(layout.name));
      const address = readU64(read, attribute + BigInt(layout.address));
      const text = name && readString(read, name, 256);
      if (text && address) out.push([text, address]);
    }
    return out;
  }

  #symbols(module: string, tables: bigint, count: number, read: VirtualReader): KernelSymbol[] {
    const layout = this.#layout as Layout;
    const symtab = readU64(read, tables + BigInt(layout.symtab));
    const strtab = readU64(read, tables + BigInt(layout.strtab));
    const typetab = readU64(read, tables + BigInt(layout.typetab));
    if (!symtab || !strtab || !typetab || count === 0) return [];
    const entries = read(symtab, count * ElfSymbol.size);
    const types = read(typetab, count);
    if (!entries || !types) return [];
    const view = viewOf(entries);
    const out: KernelSymbol[] = [];
    for (let i = 1; i < count; i++) {
      const s = ElfSymbol.get(view, i * ElfSymbol.size);
      const type = String.fromCharCode(types[i]);
      if (s.value === 0n || s.shndx === 0 || !/[A-Za-z]/.test(type)) continue;
      const name = readString(read, strtab + BigInt(s.name), 512);
      if (!name || /^\$[xd](\.|$)|^\.L/.test(name)) continue;
      out.push({ address: s.value, name, type, size: Number(s.size & 0xffffffffn), module });
    }
    return out.sort(byAddress);
  }

  /** Data that a module exports to others: its code is in the symbol table anyway. */
  #exports(module: string, address: bigint, read: VirtualReader): KernelSymbol[] {
    const out: KernelSymbol[] = [];
    for (const { table, count } of (this.#layout as Layout).exports) {
      const start = readU64(read, address + BigInt(table));
      const length = read(address + BigInt(count), 4);
      const entries = Math.min(length ? viewOf(length).getUint32(0, true) : 0, MAX_EXPORTS);
      const raw = start && entries > 0 ? read(start, entries * EXPORT_SIZE) : undefined;
      if (!start || !raw) continue;
      const view = viewOf(raw);
      for (let i = 0; i < entries; i++) {
        const at = start + BigInt(i * EXPORT_SIZE);
        const name = readString(read, BigInt.asUintN(64, at + 4n + BigInt(view.getInt32(i * EXPORT_SIZE + 4, true))), 512);
        const value = BigInt.asUintN(64, at + BigInt(view.getInt32(i * EXPORT_SIZE, true)));
        if (name) out.push({ address: value, name, type: 'D', size: 0, module });
      }
    }
    return out;
  }

  /** The modules that are loaded now. */
  read(read: VirtualReader): KernelModule[] {
    const layout = this.#layout;
    if (!layout || this.#head === undefined) return [];
    const out: KernelModule[] = [];
    let at = readU64(read, this.#head);
    for (let i = 0; i < MAX_MODULES && at !== undefined && at !== this.#head; i++) {
      const module = this.#moduleAt(at - BigInt(layout.list), read);
      if (!module) break;
      out.push(module);
      at = readU64(read, at);
    }
    return out;
  }
}
