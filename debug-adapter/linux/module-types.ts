/**
 * BTF of loaded modules, out of guest memory. The section itself is gone once a module runs; what the kernel made of it is in the
 * list `btf_modules` (kernel/bpf/btf.c): struct btf_module {list, module, btf, ...}, and struct btf has the bytes.
 */
import { viewOf } from '../../emulator/base/struct.ts';
import { Btf, BtfError } from '../symbols/btf.ts';
import { type ImageMemory, readString, readU64, type VirtualReader } from '../symbols/memory.ts';

const MAX_MODULES = 512;
const MAX_BTF = 16 << 20;
/** struct btf_module: struct list_head list; struct module *module; struct btf *btf (kernel/bpf/btf.c, since 5.11). */
const MODULE_AT = 16n;
const BTF_AT = 24n;

export interface ModuleBtf {
  readonly module: string;
  readonly btf: Btf;
}

interface Layout {
  /** In struct btf. */
  data: bigint;
  dataSize: bigint;
  /** In struct module. */
  name: bigint;
  nameSize: number;
}

function layoutFrom(btf: Btf): Layout | undefined {
  const members = btf.members('btf');
  const data = members?.find((m) => m.name === 'data');
  const size = members?.find((m) => m.name === 'data_size');
  const name = btf.members('module')?.find((m) => m.name === 'name');
  if (!data || !size || !name) return undefined;
  return { data: BigInt(data.offset), dataSize: BigInt(size.offset), name: BigInt(name.offset), nameSize: name.size };
}

export class ModuleBtfs {
  readonly #kernel: Btf;
  readonly #layout: Layout | undefined;
  #head: bigint | undefined;
  readonly #cache = new Map<bigint, ModuleBtf | undefined>();

  /** `head` is the address of `btf_modules` where symbols tell it; otherwise it is searched for. */
  constructor(kernel: Btf, head: bigint | undefined) {
    this.#kernel = kernel;
    this.#layout = layoutFrom(kernel);
    this.#head = head;
  }

  get found(): boolean {
    return this.#head !== undefined;
  }

  /** Searches the kernel's data for the head of the list: a list_head whose first element is of a loaded module. */
  search(image: ImageMemory, read: VirtualReader): void {
    const layout = this.#layout;
    if (!layout || this.#head !== undefined) return;
    const view = viewOf(image.bytes);
    const end = image.base + BigInt(image.bytes.length);
    for (let at = 0; at + 16 <= image.bytes.length; at += 8) {
      // Cheap first: two kernel addresses outside the image, aligned as what kzalloc gives is.
      if (view.getUint16(at + 6, true) >>> 7 !== 0x1ff || view.getUint16(at + 14, true) >>> 7 !== 0x1ff) continue;
      if ((image.bytes[at] & 7) !== 0 || (image.bytes[at + 8] & 7) !== 0) continue;
      const next = view.getBigUint64(at, true);
      const prev = view.getBigUint64(at + 8, true);
      if ((next >= image.base && next < end) || (prev >= image.base && prev < end)) continue;
      const head = image.base + BigInt(at);
      if (readU64(read, next + 8n) !== head || readU64(read, prev) !== head) continue;
      if (this.#moduleAt(next, read)) {
        this.#head = head;
        return;
      }
    }
  }

  #moduleAt(entry: bigint, read: VirtualReader): ModuleBtf | undefined {
    const layout = this.#layout as Layout;
    const module = readU64(read, entry + MODULE_AT);
    const btf = readU64(read, entry + BTF_AT);
    if (!module || !btf || module >> 55n !== 0x1ffn || btf >> 55n !== 0x1ffn) return undefined;
    if (this.#cache.has(btf)) return this.#cache.get(btf);
    const name = readString(read, module + layout.name, layout.nameSize);
    const data = readU64(read, btf + layout.data);
    const sizeBytes = read(btf + layout.dataSize, 4);
    const size = sizeBytes ? viewOf(sizeBytes).getUint32(0, true) : 0;
    if (!name || !/^[\w-]+$/.test(name) || !data || size < 24 || size > MAX_BTF) return undefined;
    const bytes = read(data, size);
    if (!bytes) return undefined;
    let found: ModuleBtf | undefined;
    try {
      found = { module: name, btf: new Btf(bytes.slice(), this.#kernel) };
    } catch (e) {
      // The guest's bytes are no BTF: the module has no types.
      if (!(e instanceof BtfError)) throw e;
    }
    this.#cache.set(btf, found);
    return found;
  }

  /** Types of the modules that are loaded now. */
  read(read: VirtualReader): ModuleBtf[] {
    if (!this.#layout || this.#head === undefined) return [];
    const out: ModuleBtf[] = [];
    let at = readU64(read, this.#head);
    for (let i = 0; i < MAX_MODULES && at !== undefined && at !== this.#head && at !== 0n; i++) {
      const module = this.#moduleAt(at, read);
      if (module) out.push(module);
      at = readU64(read, at);
    }
    return out;
  }
}
