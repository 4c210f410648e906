/** Loaded modules as /proc/modules tells them. */
import { type KernelObjects, MAX_ELEMENTS } from './objects.ts';

export interface LoadedModule {
  name: string;
  /** Bytes of all its parts. */
  size: number;
  /** `live`, `coming`, `going`, `unformed`. */
  state: string;
  /** Who holds it, besides itself. */
  references: number;
  usedBy: string[];
  /** Of its code. */
  base: bigint;
  taints: string;
}

/** kernel/module/main.c: MODULE_REF_BASE, the module's own reference. */
const OWN_REFERENCE = 1n;

/** kernel/panic.c, taint_flags[]: the letters of those that are a module's own. */
const TAINTS: readonly (readonly [bit: bigint, letter: string])[] = [
  [0n, 'P'],
  [12n, 'O'],
  [1n, 'F'],
  [10n, 'C'],
  [13n, 'E'],
  [15n, 'K'],
  [16n, 'X'],
  [18n, 'N'],
];

/** The modules, newest first. Undefined when their list is not found: none has been loaded, or the kernel cannot. */
export function readLoadedModules(objects: KernelObjects): LoadedModule[] | undefined {
  const head = objects.kernel.moduleHead;
  if (head === undefined) return undefined;
  const out: LoadedModule[] = [];
  for (const at of objects.list(head, 'module', 'list')) {
    if (out.length >= MAX_ELEMENTS) break;
    const name = objects.text(at, 'module', 'name');
    if (!name) break;
    const state = objects.number(at, 'module', 'state') ?? 0n;
    const usedBy: string[] = [];
    const users = objects.at(at, 'module', 'source_list');
    for (const use of users === undefined ? [] : objects.list(users, 'module_use', 'source_list')) {
      const source = objects.pointer(use, 'module_use', 'source');
      const user = source === undefined ? undefined : objects.text(source, 'module', 'name');
      if (user) usedBy.push(user);
    }
    const references = BigInt.asIntN(32, objects.number(at, 'module', 'refcnt') ?? 0n);
    const taints = objects.number(at, 'module', 'taints') ?? 0n;
    out.push({
      name,
      ...place(objects, at),
      state: (objects.enumerator(state, 'module', 'state') ?? `${state}`).replace('MODULE_STATE_', '').toLowerCase(),
      references: Math.max(0, Number(references - OWN_REFERENCE)),
      usedBy,
      taints: TAINTS.flatMap(([bit, letter]) => ((taints >> bit) & 1n ? [letter] : [])).join(''),
    });
  }
  return out;
}

/** Memory of a module: struct module_memory mem[] since 6.4, core_layout and init_layout before (include/linux/module.h). */
function place(objects: KernelObjects, module: bigint): { base: bigint; size: number } {
  const parts = objects.field('module', 'mem');
  const t = parts && objects.types.resolve(parts.type);
  const step = objects.size('module_memory');
  if (parts && step && t?.kind === 'array') {
    let size = 0;
    for (let i = 0; i < Math.min(t.count ?? 0, 16); i++)
      size += Number(objects.number(module + BigInt(parts.offset + i * step), 'module_memory', 'size') ?? 0n);
    return { base: objects.number(module + BigInt(parts.offset), 'module_memory', 'base') ?? 0n, size };
  }
  const layout = (name: string) => Number(objects.number(module, 'module', `${name}.size`) ?? 0n);
  return {
    base: objects.number(module, 'module', 'core_layout.base') ?? 0n,
    size: layout('core_layout') + layout('init_layout') + layout('data_layout'),
  };
}
