/** The kernel's interrupts: struct irq_desc (include/linux/irqdesc.h), and how often each VP has taken them. */
import { perCpuOffset } from './current.ts';
import { isKernelAddress, type KernelObjects, MAX_ELEMENTS } from './objects.ts';
import { irqTree } from './variables.ts';

export interface Interrupt {
  /** Linux's number. */
  irq: number;
  /** The interrupt controller's. */
  hwirq: bigint;
  chip: string;
  /** `Edge`, `Level`. */
  trigger: string;
  /** Of each action: its name, and the function. */
  actions: { name: string; handler: bigint }[];
  /** How often each VP has taken it; undefined for one that is off. */
  counts: (number | undefined)[];
  /** Not told in /proc/interrupts: those that only carry messages between CPUs. */
  hidden: boolean;
}

/** include/linux/irq.h: trigger types in irq_common_data.state_use_accessors; IRQD_LEVEL. IRQ_HIDDEN in status_use_accessors. */
const IRQD_LEVEL = 1n << 13n;
const IRQ_HIDDEN = 1n << 20n;

/** include/linux/maple_tree.h: a node's address has its type in bits 6:3; 1 is a leaf, 2 and 3 have children. */
const MAPLE = { leaf64: 1, range64: 2, arange64: 3 } as const;
const MAPLE_NODE_MASK = 0xffn;
const MAX_DEPTH = 32;

/** Entries of a maple tree that are not empty, in order (lib/maple_tree.c). */
export function* mapleEntries(objects: KernelObjects, tree: bigint): Generator<bigint> {
  const root = objects.number(tree, 'maple_tree', 'ma_root');
  const seen = new Set<bigint>();
  function* walk(entry: bigint, depth: number): Generator<bigint> {
    const node = entry & ~MAPLE_NODE_MASK;
    const type = Number((entry >> 3n) & 15n);
    if (depth > MAX_DEPTH || seen.has(node) || seen.size > MAX_ELEMENTS) return;
    seen.add(node);
    const struct = type === MAPLE.arange64 ? 'maple_arange_64' : 'maple_range_64';
    if (type !== MAPLE.leaf64 && type !== MAPLE.range64 && type !== MAPLE.arange64) return;
    const slots = objects.field(struct, 'slot');
    const pivots = objects.field(struct, 'pivot');
    const count = slots && arrayLength(objects, slots);
    if (!slots || !pivots || count === undefined) return;
    const pivotCount = arrayLength(objects, pivots) ?? 0;
    for (let i = 0; i < count; i++) {
      const child = objects.u64(node + BigInt(slots.offset + 8 * i));
      if (child === undefined) return;
      if (type === MAPLE.leaf64) {
        if (isKernelAddress(child)) yield child;
      } else if (isKernelAddress(child)) yield* walk(child, depth + 1);
      // A pivot of 0 after the first slot ends the node; the last slot has none.
      const pivot = i < pivotCount ? objects.u64(node + BigInt(pivots.offset + 8 * i)) : undefined;
      if (pivot === undefined || (pivot === 0n && i > 0) || pivot === 0xffff_ffff_ffff_ffffn) return;
    }
  }
  if (root === undefined || root === 0n) return;
  if ((root & 3n) === 2n) yield* walk(root, 0);
  else if (isKernelAddress(root)) yield root;
}

const arrayLength = (
  objects: KernelObjects,
  field: { type: Parameters<KernelObjects['types']['resolve']>[0] },
): number | undefined => {
  const t = objects.types.resolve(field.type);
  return t.kind === 'array' ? t.count : undefined;
};

/** Entries of an xarray that are not empty, in order (include/linux/xarray.h). */
function* xarrayEntries(objects: KernelObjects, head: bigint): Generator<bigint> {
  const slots = objects.field('xa_node', 'slots');
  const count = slots && arrayLength(objects, slots);
  let budget = MAX_ELEMENTS * 4;
  function* walk(entry: bigint, depth: number): Generator<bigint> {
    if ((entry & 3n) !== 2n) {
      if (isKernelAddress(entry)) yield entry;
      return;
    }
    if (entry <= 4096n || !slots || count === undefined || depth > MAX_DEPTH) return;
    for (let i = 0; i < count && budget-- > 0; i++) {
      const child = objects.u64(entry - 2n + BigInt(slots.offset + 8 * i));
      if (child) yield* walk(child, depth + 1);
    }
  }
  const first = objects.number(head, 'xarray', 'xa_head');
  if (first) yield* walk(first, 0);
}

/** The interrupts that are set up, by number. Undefined when the kernel's table is not found. */
export function readInterrupts(objects: KernelObjects): Interrupt[] | undefined {
  const maple = objects.variable('sparse_irqs')?.address;
  const tree = maple === undefined ? irqTree(objects) : undefined;
  if (maple === undefined && tree === undefined) return undefined;
  const { kernel } = objects;
  const offsets = Array.from({ length: kernel.machine.vpCount }, (_, vp) => perCpuOffset(kernel, vp));
  const out: Interrupt[] = [];
  for (const desc of maple !== undefined ? mapleEntries(objects, maple) : xarrayEntries(objects, tree ?? 0n)) {
    if (out.length >= MAX_ELEMENTS) break;
    const irq = objects.number(desc, 'irq_desc', 'irq_data.irq');
    if (irq === undefined) continue;
    const actions: Interrupt['actions'] = [];
    const seen = new Set<bigint>();
    for (let at = objects.pointer(desc, 'irq_desc', 'action'); at !== undefined && !seen.has(at) && seen.size < 256; ) {
      seen.add(at);
      const handler = objects.number(at, 'irqaction', 'handler') ?? 0n;
      actions.push({ name: objects.text(at, 'irqaction', 'name') ?? '?', handler });
      at = objects.pointer(at, 'irqaction', 'next');
    }
    const chip = objects.pointer(desc, 'irq_desc', 'irq_data.chip');
    const state = objects.number(desc, 'irq_desc', 'irq_common_data.state_use_accessors') ?? 0n;
    const status = objects.number(desc, 'irq_desc', 'status_use_accessors') ?? 0n;
    const counters = objects.number(desc, 'irq_desc', 'kstat_irqs');
    out.push({
      irq: Number(irq),
      hwirq: objects.number(desc, 'irq_desc', 'irq_data.hwirq') ?? 0n,
      chip: (chip === undefined ? undefined : objects.text(chip, 'irq_chip', 'name')) ?? '-',
      trigger: state & IRQD_LEVEL ? 'Level' : 'Edge',
      actions,
      // A per-CPU pointer: unsigned int, or (6.11 and newer) struct irqstat that begins with one.
      counts: offsets.map((offset) =>
        offset === undefined || !counters ? undefined : objects.u32(BigInt.asUintN(64, counters + offset)),
      ),
      hidden: (status & IRQ_HIDDEN) !== 0n,
    });
  }
  return out.sort((a, b) => a.irq - b.irq);
}
