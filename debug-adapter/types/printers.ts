/**
 * What the kernel's own containers hold. C does not say which struct a list links; one table here does. Everything walked is the
 * guest's: walks are bounded, and end with the reason where a link leads nowhere or back.
 */
import { hex } from '../../emulator/base/bits.ts';
import type { View } from './format.ts';
import { plain, pointerTo, type Type, VOID } from './model.ts';
import { MemoryStorage, numberOf, Value } from './value.ts';

/** Elements of a container that are walked to, at most. */
const MAX_ELEMENTS = 10_000;

/**
 * What a list (list_head), hash list (hlist_head), red-black tree (rb_root), xarray or maple tree holds: `struct.member` or the variable that
 * is its head, the struct of its elements, and by which member they are linked. Of the last two: what their entries point to.
 */
const CONTAINERS: Readonly<Record<string, readonly [struct: string, member: string]>> = {
  // include/linux/sched.h, sched/signal.h, pid.h
  'task_struct.tasks': ['task_struct', 'tasks'],
  'task_struct.children': ['task_struct', 'sibling'],
  'task_struct.ptraced': ['task_struct', 'ptrace_entry'],
  'signal_struct.thread_head': ['task_struct', 'thread_node'],
  'sighand_struct.signalfd_wqh': ['wait_queue_entry', 'entry'],
  'rq.cfs_tasks': ['task_struct', 'se.group_node'],
  'cfs_rq.tasks_timeline': ['sched_entity', 'run_node'],
  'pid_namespace.idr': ['pid', ''],
  // include/linux/module.h
  modules: ['module', 'list'],
  'module.source_list': ['module_use', 'source_list'],
  'module.target_list': ['module_use', 'target_list'],
  // include/linux/wait.h, workqueue_internal.h, completion.h
  'wait_queue_head.head': ['wait_queue_entry', 'entry'],
  'swait_queue_head.task_list': ['swait_queue', 'task_list'],
  workqueues: ['workqueue_struct', 'list'],
  'workqueue_struct.pwqs': ['pool_workqueue', 'pwqs_node'],
  'worker_pool.worklist': ['work_struct', 'entry'],
  'worker_pool.workers': ['worker', 'node'],
  'worker_pool.idle_list': ['worker', 'entry'],
  'worker_pool.busy_hash': ['worker', 'hentry'],
  'timer_base.vectors': ['timer_list', 'entry'],
  'mutex.wait_list': ['mutex_waiter', 'list'],
  'semaphore.wait_list': ['semaphore_waiter', 'list'],
  'rw_semaphore.wait_list': ['rwsem_waiter', 'list'],
  // include/linux/fs.h, dcache.h, mount.h
  super_blocks: ['super_block', 's_list'],
  'super_block.s_inodes': ['inode', 'i_sb_list'],
  'super_block.s_mounts': ['mount', 'mnt_instance'],
  'file_system_type.fs_supers': ['super_block', 's_instances'],
  'inode.i_dentry': ['dentry', 'd_u.d_alias'],
  'dentry.d_subdirs': ['dentry', 'd_child'],
  'dentry.d_children': ['dentry', 'd_sib'],
  'mnt_namespace.list': ['mount', 'mnt_list'],
  'mount.mnt_mounts': ['mount', 'mnt_child'],
  'mm_struct.mm_mt': ['vm_area_struct', ''],
  'address_space.i_pages': ['page', ''],
  'address_space.i_mmap': ['vm_area_struct', 'shared.rb'],
  'eventpoll.rbr': ['epitem', 'rbn'],
  // include/linux/mm_types.h, vmalloc.h, slab
  slab_caches: ['kmem_cache', 'list'],
  vmap_area_list: ['vmap_area', 'list'],
  vmap_area_root: ['vmap_area', 'rb_node'],
  'anon_vma.rb_root': ['anon_vma_chain', 'rb'],
  // include/linux/device.h, kobject.h, device/bus.h
  'kset.list': ['kobject', 'entry'],
  'klist.k_list': ['klist_node', 'n_node'],
  'device.devres_head': ['devres_node', 'entry'],
  'device.links.consumers': ['device_link', 's_node'],
  // include/linux/hrtimer.h, timerqueue.h, timer
  'timerqueue_head.rb_root': ['timerqueue_node', 'node'],
  // include/net/net_namespace.h, netdevice.h
  net_namespace_list: ['net', 'list'],
  'net.dev_base_head': ['net_device', 'dev_list'],
  'net_device.napi_list': ['napi_struct', 'dev_list'],
  // include/linux/irqdomain.h
  'irq_domain.revmap_tree': ['irq_data', ''],
  // kernel/irq/irqdesc.c: a radix tree, since 6.5 a maple tree
  irq_desc_tree: ['irq_desc', ''],
  sparse_irqs: ['irq_desc', ''],
  // include/linux/hyperv.h, drivers/hv/hyperv_vmbus.h
  'vmbus_connection.chn_msg_list': ['vmbus_channel_msginfo', 'msglistentry'],
  'vmbus_connection.chn_list': ['vmbus_channel', 'listentry'],
  'vmbus_channel.sc_list': ['vmbus_channel', 'sc_list'],
  'vmbus_channel_msginfo.submsglist': ['vmbus_channel_msginfo', 'msglistentry'],
};

/** Members that tell one element from another: what is shown of a struct when there is room for little. */
export const LABELS: Readonly<Record<string, readonly string[]>> = {
  task_struct: ['pid', 'comm'],
  module: ['name', 'state'],
  super_block: ['s_id'],
  dentry: ['d_iname'],
  mount: ['mnt_devname'],
  kmem_cache: ['name', 'object_size'],
  workqueue_struct: ['name'],
  net_device: ['name', 'ifindex'],
  kobject: ['name'],
  vm_area_struct: ['vm_start', 'vm_end', 'vm_flags'],
  vmbus_channel: ['offermsg.child_relid', 'state', 'offermsg.offer.if_type'],
  resource: ['start', 'end', 'name'],
  file_system_type: ['name'],
  irq_desc: ['irq_data.irq', 'action'],
  work_struct: ['func'],
  timer_list: ['expires', 'function'],
};

/** Members whose number of elements is another member: the struct's flexible arrays, by `struct.member`. */
const LENGTHS: Readonly<Record<string, string>> = {
  'vmbus_channel_msginfo.msg': 'msgsize',
  'vmbus_channel_gpadl_header.range': 'rangecount',
  'group_info.gid': 'ngroups',
  'vmbus_channel_packet_multipage_buffer.range': 'rangecount',
};

/** The member that counts a flexible array's elements; undefined when nobody knows. */
export const lengthMember = (from: string | undefined): string | undefined =>
  from !== undefined && Object.hasOwn(LENGTHS, from) ? LENGTHS[from] : undefined;

export interface Elements {
  /** `list of 4 struct module` */
  readonly summary: string;
  readonly values: readonly { readonly name: string; readonly value: Value; readonly expression: string }[];
  /** Where the walk ended early, and why. */
  readonly problem: string | undefined;
}

interface Walk {
  /** Addresses of the links, in order; of an xarray its entries with their indices. */
  links: { address: bigint; index?: bigint }[];
  problem?: string;
}

/** Bounded visiting: false once it is enough or has been there. */
class Visits {
  readonly walk: Walk = { links: [] };
  readonly #seen = new Set<bigint>();
  readonly #nodes = new Set<bigint>();

  visit(address: bigint, index?: bigint): boolean {
    if (this.#seen.has(address)) return this.stop(`${hex(address)} comes a second time: the links are broken`);
    if (this.walk.links.length >= MAX_ELEMENTS) return this.stop(`more than ${MAX_ELEMENTS} elements`);
    this.#seen.add(address);
    this.walk.links.push({ address, ...(index === undefined ? {} : { index }) });
    return true;
  }
  /** The same for a node inside, which is no element. */
  enter(address: bigint): boolean {
    if (this.#nodes.has(address)) return this.stop(`the node at ${hex(address)} comes a second time: the links are broken`);
    if (this.#nodes.size >= MAX_ELEMENTS) return this.stop(`more than ${MAX_ELEMENTS} nodes`);
    this.#nodes.add(address);
    return true;
  }
  stop(problem: string): false {
    this.walk.problem ??= problem;
    return false;
  }
}

const u64At = (view: View, address: bigint): bigint | undefined => {
  const bytes = view.memory.read(BigInt.asUintN(64, address), 8);
  return bytes && numberOf(bytes);
};

/** include/linux/types.h: struct list_head {next, prev}; the head is not an element. hlist_head {first}, hlist_node {next}. */
function walkList(view: View, head: bigint, circular: boolean): Walk {
  const visits = new Visits();
  let from = head;
  for (;;) {
    const next = u64At(view, from);
    if (next === undefined) {
      visits.stop(`cannot read the link at ${hex(from)}`);
      break;
    }
    // A list that nobody has initialised, and hash lists, end with 0; hlist_nulls_head with an odd number.
    if (next === (circular ? head : 0n) || next === 0n || (next & 1n) === 1n) break;
    if (!visits.visit(next)) break;
    from = next;
  }
  return visits.walk;
}

/** include/linux/rbtree_types.h: struct rb_node {__rb_parent_color, rb_right, rb_left}; in order. */
function walkTree(view: View, root: bigint): Walk {
  const visits = new Visits();
  const stack: bigint[] = [];
  let at = root;
  while (at !== 0n || stack.length > 0) {
    if (at !== 0n) {
      // A red-black tree of 2^64 nodes is less deep than this.
      if (stack.length > 128) {
        visits.stop('deeper than a tree can be');
        break;
      }
      stack.push(at);
      const left = u64At(view, at + 16n);
      if (left === undefined) {
        visits.stop(`cannot read the node at ${hex(at)}`);
        break;
      }
      at = left;
      continue;
    }
    const node = stack.pop() ?? 0n;
    if (!visits.visit(node)) break;
    at = u64At(view, node + 8n) ?? 0n;
  }
  return visits.walk;
}

/** include/linux/xarray.h: an entry that ends in binary 10 is internal; a node when it is above 4096, a sibling below. */
function walkXarray(view: View, head: bigint): Walk {
  const visits = new Visits();
  const node = view.types?.find('struct', 'xa_node');
  const slots = node && view.types?.member(node, 'slots');
  const shiftAt = node && view.types?.member(node, 'shift');
  const array = slots && plain(slots.type);
  const count = array?.kind === 'array' ? (array.count ?? 0) : 0;
  const isNode = (entry: bigint) => (entry & 3n) === 2n && entry > 4096n;
  const go = (entry: bigint, base: bigint, depth: number): boolean => {
    if (entry === 0n || ((entry & 3n) === 2n && !isNode(entry))) return true;
    if (!isNode(entry)) return visits.visit(entry, base);
    const at = entry - 2n;
    if (!slots || !shiftAt || count < 1 || count > 1024) return visits.stop('struct xa_node is not known');
    if (depth > 12) return visits.stop('deeper than an xarray can be');
    if (!visits.enter(at)) return false;
    const shift = view.memory.read(at + BigInt(shiftAt.offset), 1)?.[0];
    const raw = view.memory.read(at + BigInt(slots.offset), 8 * count);
    if (shift === undefined || !raw) return visits.stop(`cannot read the node at ${hex(at)}`);
    if (shift > 60) return visits.stop(`the node at ${hex(at)} is none`);
    for (let i = 0; i < count; i++)
      if (!go(numberOf(raw.subarray(8 * i, 8 * i + 8)), base + (BigInt(i) << BigInt(shift)), depth + 1)) return false;
    return true;
  };
  go(head, 0n, 0);
  return visits.walk;
}

/**
 * include/linux/maple_tree.h: the root is a node when it is an internal entry (binary 10 at its end) above 4096, else the only entry. A
 * node's kind is in bits 6:3 (1: a leaf of ranges, 2: ranges, 3: ranges with gaps), its address is a multiple of 256. Slot i has what is
 * at indices up to pivot i: an entry in a leaf, a node elsewhere; a pivot of 0 ends the list.
 */
function walkMaple(view: View, value: Value): Walk | undefined {
  const { types } = view;
  const root = types?.member(value.type, 'ma_root');
  if (!types || !root) return undefined;
  const visits = new Visits();
  const layout = (name: string) => {
    const struct = types.find('struct', name);
    const count = (type: Type | undefined): number => {
      const array = type && plain(type);
      return array?.kind === 'array' ? Math.min(array.count ?? 0, 256) : 0;
    };
    const pivot = struct && types.member(struct, 'pivot');
    const slot = struct && types.member(struct, 'slot');
    return pivot && slot && { pivot: pivot.offset, slot: slot.offset, pivots: count(pivot.type), slots: count(slot.type) };
  };
  const ranges = layout('maple_range_64');
  const gaps = layout('maple_arange_64');
  const entry = (of: bigint, index: bigint): boolean => of === 0n || (of & 3n) === 2n || visits.visit(of, index);
  const node = (of: bigint, from: bigint, last: bigint, depth: number): boolean => {
    if (of === 0n) return true;
    const at = of & ~0xffn;
    const kind = Number((of >> 3n) & 15n);
    const shape = kind === 3 ? gaps : kind === 1 || kind === 2 ? ranges : undefined;
    if (!shape) return visits.stop(`a node of kind ${kind} at ${hex(at)} is not known`);
    if (depth > 31) return visits.stop('deeper than a maple tree can be');
    if (!visits.enter(at)) return false;
    const pivots = view.memory.read(at + BigInt(shape.pivot), 8 * shape.pivots);
    const slots = view.memory.read(at + BigInt(shape.slot), 8 * shape.slots);
    if (!pivots || !slots) return visits.stop(`cannot read the node at ${hex(at)}`);
    const word = (bytes: Uint8Array, i: number): bigint => numberOf(bytes.subarray(8 * i, 8 * i + 8));
    for (let i = 0, start = from; i < shape.slots; i++) {
      const pivot = i < shape.pivots ? word(pivots, i) : last;
      const end = (pivot === 0n && i > 0) || pivot > last ? last : pivot;
      const inside = word(slots, i);
      if (!(kind === 1 ? entry(inside, start) : node(inside, start, end, depth + 1))) return false;
      if (end >= last) break;
      start = end + 1n;
    }
    return true;
  };
  const head = new Value({ type: pointerTo(VOID), storage: value.storage, offset: value.offset + root.offset });
  const first = head.value;
  if ((first & 3n) === 2n && first > 4096n) node(first, 0n, (1n << 64n) - 1n, 0);
  else entry(first, 0n);
  return visits.walk;
}

const KINDS: Readonly<Record<string, { word: string; walk(view: View, value: Value): Walk | undefined }>> = {
  list_head: { word: 'list', walk: (view, v) => (v.address === undefined ? undefined : walkList(view, v.address, true)) },
  hlist_head: { word: 'list', walk: (view, v) => (v.address === undefined ? undefined : walkList(view, v.address, false)) },
  hlist_nulls_head: { word: 'list', walk: (view, v) => (v.address === undefined ? undefined : walkList(view, v.address, false)) },
  llist_head: { word: 'list', walk: (view, v) => (v.address === undefined ? undefined : walkList(view, v.address, false)) },
  rb_root: { word: 'tree', walk: (view, v) => walkTree(view, u64Of(v)) },
  // The root comes first, then the leftmost node.
  rb_root_cached: { word: 'tree', walk: (view, v) => walkTree(view, u64Of(v)) },
  xarray: { word: 'xarray', walk: walkMember('xa_head') },
  idr: { word: 'xarray', walk: walkMember('idr_rt.xa_head') },
  maple_tree: { word: 'maple tree', walk: walkMaple },
};

function walkMember(path: string): (view: View, value: Value) => Walk | undefined {
  return (view, value) => {
    const head = view.types?.member(value.type, path);
    if (!head) return undefined;
    const entry = new Value({ type: pointerTo(VOID), storage: value.storage, offset: value.offset + head.offset });
    return walkXarray(view, entry.value);
  };
}

const u64Of = (value: Value): bigint => (value.storage ? numberOf(value.storage.read(value.offset, 8)) : 0n);

/** Elements of a container; undefined for what is none, or one whose elements nobody knows. Throws ValueError. */
export function elementsOf(value: Value, view: View): Elements | undefined {
  const t = plain(value.type);
  if (t.kind !== 'struct' || t.name === undefined || !Object.hasOwn(KINDS, t.name)) return undefined;
  const { word, walk } = KINDS[t.name];
  const row = value.from !== undefined && Object.hasOwn(CONTAINERS, value.from) ? CONTAINERS[value.from] : undefined;
  const struct = row && view.types?.find('struct', row[0]);
  const link = struct && row[1] !== '' ? view.types?.member(struct, row[1]) : undefined;
  // The entries of an xarray can be shown without knowing what they are.
  if (word !== 'xarray' && word !== 'maple tree' && (!struct || !link)) return undefined;
  const found = walk(view, value);
  if (!found) return undefined;
  const values = found.links.map(({ address, index }, i) =>
    element(view, struct, link?.offset ?? 0, address, index ?? BigInt(i)),
  );
  const of = struct && row ? ` struct ${row[0]}` : values.length === 1 ? ' entry' : ' entries';
  return {
    summary: `${word} of ${found.problem ? 'at least ' : ''}${values.length}${of}`,
    values,
    problem: found.problem,
  };
}

function element(
  view: View,
  struct: Type | undefined,
  offset: number,
  address: bigint,
  index: bigint,
): Elements['values'][number] {
  const name = `[${index > 0xffffn ? hex(index) : index}]`;
  // A value entry (xa_mk_value): a number with a low bit of 1.
  if (struct === undefined || (address & 1n) === 1n) {
    const number = (address & 1n) === 1n;
    const value = number
      ? Value.of({ kind: 'base', name: 'unsigned long', size: 8, encoding: 'integer', signed: false }, address >> 1n)
      : Value.of(pointerTo(struct ?? VOID), address);
    return { name, value, expression: number ? `${address >> 1n}` : `(void *)${hex(address)}` };
  }
  const at = BigInt.asUintN(64, (address & ~3n) - BigInt(offset));
  const t = plain(struct);
  const label = t.kind === 'struct' ? t.name : undefined;
  return {
    name,
    value: new Value({ type: struct, storage: new MemoryStorage(view.memory, at) }),
    expression: `*(struct ${label} *)${hex(at)}`,
  };
}
