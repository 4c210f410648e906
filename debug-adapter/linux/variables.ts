/**
 * Where the kernel's static variables are that views start from. Symbols tell it (debug information, or kallsyms with
 * CONFIG_KALLSYMS_ALL); a kernel that keeps only functions in kallsyms, as Debian's 6.1, does not name them: they are then found by what
 * they must look like.
 */
import { viewOf } from '../../emulator/base/struct.ts';
import type { ImageMemory } from '../symbols/memory.ts';
import type { KernelImage } from '../symbols/kernel-image.ts';
import { isKernelAddress, type KernelObjects } from './objects.ts';
import { currentTask } from './current.ts';

/** Searching all of the image takes a moment: it is not worth doing again before the guest has done something. */
const SEARCH_PAUSE = 1_000_000;

/** What was found in a kernel's data, and when the next search is due, by variable. kexec starts another image. */
const FOUND = new WeakMap<KernelImage, Map<string, { address?: bigint; again: number }>>();

/** Searches the image, once: what was found stays where it is. */
function searched(objects: KernelObjects, name: string, search: (image: ImageMemory) => bigint | undefined): bigint | undefined {
  const { kernel } = objects;
  if (!kernel.image) return undefined;
  const known = FOUND.get(kernel.image) ?? new Map<string, { address?: bigint; again: number }>();
  FOUND.set(kernel.image, known);
  const { instructions } = kernel.machine;
  let entry = known.get(name);
  if (!entry || (entry.address === undefined && instructions >= entry.again)) {
    const image = kernel.imageMemory();
    const address = image && search(image);
    entry = { again: instructions + SEARCH_PAUSE, ...(address === undefined ? {} : { address }) };
    known.set(name, entry);
  }
  return entry.address;
}

const MAX_ANCESTORS = 1000;

/** `struct task_struct init_task`: by name, or as the ancestor of the task that runs. It is the only one that is its own parent. */
export function initTask(objects: KernelObjects): bigint | undefined {
  const named = objects.variable('init_task')?.address;
  if (named !== undefined) return named;
  const { kernel } = objects;
  for (let vp = 0; vp < kernel.machine.vpCount; vp++) {
    let task = kernel.machine.vpState(vp) === 'off' ? undefined : currentTask(kernel, vp);
    for (let i = 0; i < MAX_ANCESTORS && isKernelAddress(task); i++) {
      const parent = objects.pointer(task, 'task_struct', 'real_parent');
      if (parent === task) return task;
      task = parent;
    }
  }
  return undefined;
}

/** Bits of the counts of a ring buffer (kernel/printk/printk_ringbuffer.h); CONFIG_LOG_BUF_SHIFT is 12 to 25, log_buf_len= up to 31. */
const RING_BITS = { least: 3, most: 31 };

/**
 * Addresses of `struct printk_ringbuffer`, of which the kernel uses the one with the newest record: `prb` points to it; until setup_log_buf
 * it is printk_rb_static, and may be another afterwards.
 */
export function ringBuffers(objects: KernelObjects): bigint[] {
  const pointer = objects.variable('prb');
  const now = pointer && objects.u64(pointer.address);
  if (isKernelAddress(now)) return [now];
  const at = (path: string): number | undefined => objects.field('printk_ringbuffer', path)?.offset;
  const offsets = [
    'desc_ring.count_bits',
    'desc_ring.descs',
    'desc_ring.infos',
    'text_data_ring.size_bits',
    'text_data_ring.data',
  ].map(at);
  const size = objects.size('printk_ringbuffer');
  if (size === undefined || offsets.some((o) => o === undefined)) return [];
  const [countBits, descs, infos, sizeBits, data] = offsets as number[];
  /** All of them: 32 bytes that nothing else has, then what they say about each other. */
  const find = (image: ImageMemory, from: number): number => {
    const view = viewOf(image.bytes);
    const bits = (o: number): boolean => {
      const n = view.getUint32(o, true);
      return n >= RING_BITS.least && n <= RING_BITS.most;
    };
    const kernelPointer = (o: number): boolean => view.getUint16(o + 6, true) === 0xffff;
    for (let o = from; o + size <= image.bytes.length; o += 8) {
      if (!bits(o + countBits) || !bits(o + sizeBits)) continue;
      if (!kernelPointer(o + descs) || !kernelPointer(o + infos) || !kernelPointer(o + data)) continue;
      const base = image.base + BigInt(o);
      if (newestId(objects, base) !== undefined) return o;
    }
    return -1;
  };
  const out: bigint[] = [];
  // There are two: the static one, and what a larger buffer was asked for (log_buf_len=, many CPUs) has.
  for (const name of ['printk_rb_static', 'printk_rb_dynamic']) {
    const after = out.at(-1);
    const found = searched(objects, name, (image) => {
      const o = find(image, after === undefined ? 0 : Number(after - image.base) + 8);
      return o < 0 ? undefined : image.base + BigInt(o);
    });
    if (found === undefined) break;
    out.push(found);
  }
  return out;
}

/** state_var: bits 63:62 are the state, the rest is the id (kernel/printk/printk_ringbuffer.h, DESC_ID). */
const ID_MASK = (1n << 62n) - 1n;

/** Id of the newest descriptor of a ring buffer; undefined when the struct at `base` is none. */
function newestId(objects: KernelObjects, base: bigint): bigint | undefined {
  const head = objects.number(base, 'printk_ringbuffer', 'desc_ring.head_id');
  const tail = objects.number(base, 'printk_ringbuffer', 'desc_ring.tail_id');
  const bits = objects.number(base, 'printk_ringbuffer', 'desc_ring.count_bits');
  const descs = objects.pointer(base, 'printk_ringbuffer', 'desc_ring.descs');
  const size = objects.size('prb_desc');
  if (head === undefined || tail === undefined || bits === undefined || !descs || !size) return undefined;
  const count = 1n << bits;
  if (head > ID_MASK || ((head - tail) & ID_MASK) >= count) return undefined;
  const state = objects.number(descs + (head & (count - 1n)) * BigInt(size), 'prb_desc', 'state_var');
  return state !== undefined && (state & ID_MASK) === head ? head : undefined;
}

/** include/linux/xarray.h: an entry that ends in binary 10 and is above 4096 is a node. */
const isNode = (entry: bigint): boolean => (entry & 3n) === 2n && entry > 4096n;

/**
 * Address of the radix tree of `struct irq_desc` (before 6.5: `irq_desc_tree`, kernel/irq/irqdesc.c): by name, or as a tree whose entries
 * are descriptors of the interrupts that their index says.
 */
export function irqTree(objects: KernelObjects): bigint | undefined {
  const named = objects.variable('irq_desc_tree')?.address;
  if (named !== undefined) return named;
  const head = objects.field('xarray', 'xa_head')?.offset;
  const slots = objects.field('xa_node', 'slots')?.offset;
  const irq = objects.field('irq_desc', 'irq_data.irq')?.offset;
  if (head === undefined || slots === undefined || irq === undefined) return undefined;
  return searched(objects, 'irq_desc_tree', (image) => {
    const view = viewOf(image.bytes);
    for (let o = 0; o + 8 <= image.bytes.length; o += 8) {
      if ((image.bytes[o] & 3) !== 2 || view.getUint16(o + 6, true) !== 0xffff) continue;
      const entry = view.getBigUint64(o, true);
      if (!isNode(entry)) continue;
      // The lowest node of the tree has the interrupts 0 to 63; 0 is not used.
      let node = entry - 2n;
      for (let depth = 0; depth < 4; depth++) {
        const first = objects.u64(node + BigInt(slots));
        if (first === undefined || !isNode(first)) break;
        node = first - 2n;
      }
      const indices = [1n, 2n, 3n, 4n];
      const right = indices.filter((i) => {
        const desc = objects.u64(node + BigInt(slots) + 8n * i);
        return isKernelAddress(desc) && objects.u32(desc + BigInt(irq)) === Number(i);
      });
      if (right.length >= 3) return image.base + BigInt(o - head);
    }
    return undefined;
  });
}
