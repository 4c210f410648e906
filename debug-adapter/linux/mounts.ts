/** What is mounted where, as the first process sees it. */
import { type KernelObjects, MAX_ELEMENTS } from './objects.ts';
import { initTask } from './variables.ts';

export interface Mount {
  id: number;
  device: string;
  path: string;
  type: string;
  readOnly: boolean;
}

/** include/linux/mount.h MNT_READONLY, include/linux/fs.h SB_RDONLY. */
const MNT_READONLY = 0x40n;
const SB_RDONLY = 1n;
const MAX_DEPTH = 64;
const MAX_NAME = 256;

/** A name of a directory entry (struct qstr: a pointer that may lead into the entry itself). */
function nameOf(objects: KernelObjects, dentry: bigint): string | undefined {
  const at = objects.pointer(dentry, 'dentry', 'd_name.name', '__d_name.name');
  return at === undefined ? undefined : objects.string(at, MAX_NAME);
}

/** Path of a directory in its own file system, without the `/` in front. */
function pathIn(objects: KernelObjects, dentry: bigint, root: bigint): string | undefined {
  const parts: string[] = [];
  let at = dentry;
  for (let depth = 0; at !== root; depth++) {
    const parent = objects.pointer(at, 'dentry', 'd_parent');
    const name = nameOf(objects, at);
    if (parent === undefined || name === undefined || depth > MAX_DEPTH) return undefined;
    if (parent === at) break;
    parts.unshift(name);
    at = parent;
  }
  return parts.join('/');
}

/** The first process, or before there is one the kernel's first task. */
function firstProcess(objects: KernelObjects): bigint | undefined {
  const first = initTask(objects);
  const tasks = first === undefined ? undefined : objects.at(first, 'task_struct', 'tasks');
  for (const task of tasks === undefined ? [] : objects.list(tasks, 'task_struct', 'tasks'))
    if (objects.number(task, 'task_struct', 'pid') === 1n) return task;
  return first;
}

/** The mounts that the first process sees, oldest first. Undefined when there are none (yet). */
export function readMounts(objects: KernelObjects): Mount[] | undefined {
  const task = firstProcess(objects);
  const fs = task === undefined ? undefined : objects.pointer(task, 'task_struct', 'fs');
  const seenRoot = fs === undefined ? undefined : objects.pointer(fs, 'fs_struct', 'root.mnt');
  const inMount = objects.field('mount', 'mnt');
  if (seenRoot === undefined || !inMount) return undefined;
  const root = seenRoot - BigInt(inMount.offset);
  const out: Mount[] = [];
  const seen = new Set<bigint>();
  const visit = (mount: bigint, path: string, depth: number): void => {
    if (seen.has(mount) || seen.size >= MAX_ELEMENTS || depth > MAX_DEPTH) return;
    seen.add(mount);
    const superblock = objects.pointer(mount, 'mount', 'mnt.mnt_sb');
    const fs = superblock === undefined ? undefined : objects.pointer(superblock, 'super_block', 's_type');
    const flags = objects.number(mount, 'mount', 'mnt.mnt_flags') ?? 0n;
    const sbFlags = superblock === undefined ? 0n : (objects.number(superblock, 'super_block', 's_flags') ?? 0n);
    const subtype = superblock === undefined ? undefined : objects.text(superblock, 'super_block', 's_subtype');
    const type = (fs === undefined ? undefined : objects.text(fs, 'file_system_type', 'name')) ?? '?';
    out.push({
      id: Number(objects.number(mount, 'mount', 'mnt_id') ?? 0n),
      device: objects.text(mount, 'mount', 'mnt_devname') ?? 'none',
      path,
      type: subtype ? `${type}.${subtype}` : type,
      readOnly: (flags & MNT_READONLY) !== 0n || (sbFlags & SB_RDONLY) !== 0n,
    });
    const children = objects.at(mount, 'mount', 'mnt_mounts');
    const top = objects.pointer(mount, 'mount', 'mnt.mnt_root');
    for (const child of children === undefined ? [] : objects.list(children, 'mount', 'mnt_child')) {
      const point = objects.pointer(child, 'mount', 'mnt_mountpoint');
      const inside = point === undefined || top === undefined ? undefined : pathIn(objects, point, top);
      visit(child, inside === undefined ? '?' : `${path === '/' ? '' : path}/${inside}`, depth + 1);
    }
  };
  visit(root, '/', 0);
  return out.sort((a, b) => a.id - b.id);
}
