/**
 * Indexes on disk, in the user's cache: one file each, named after what it is the index of. Any of them, or all, may be deleted at
 * any time; one that is damaged or of another format is not used and will be replaced. A cache that cannot be read or written
 * costs time, never a session.
 */
import fs from 'node:fs';
import path from 'node:path';
import { userCache } from '../../user-cache.ts';
import { FileSource } from '../byte-source.ts';
import type { ElfFile } from '../elf-file.ts';
import { decodeFirst, decodeNames, type FirstHalf, firstHalf, HEADER, type NameIndex } from './index-data.ts';

/** All files together; the ones used longest ago go first. */
const MAX_BYTES = 512 << 20;
const MAX_INDEX = 256 << 20;
const SUFFIX = '.dwarf-index';

/**
 * Where indexes are kept: HYPERSTEP_SYMBOL_CACHE (empty: nowhere), or `hyperstep/symbols` in the user's cache directory. Undefined
 * for nowhere.
 */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string | undefined {
  if (env.HYPERSTEP_SYMBOL_CACHE !== undefined) return env.HYPERSTEP_SYMBOL_CACHE || undefined;
  return path.join(userCache(env), 'symbols');
}

/**
 * What an index is of: the build-id, which stands for the contents; the size tells a file of debug information from the program
 * that it was split from. Without a build-id the file itself: path, size and time of the last change.
 */
export function identity(elf: ElfFile): string {
  const { source, buildId } = elf;
  if (buildId) return `build-id ${buildId} ${source.size}`;
  return `file ${path.resolve(source.name)} ${source.size} ${source instanceof FileSource ? source.modified : 0n}`;
}

/** Two of the same name would take turns: what a file is of is in it, too. */
const fileOf = (folder: string, what: string): string => path.join(folder, what.replace(/[^\w.-]+/g, '-').slice(-120) + SUFFIX);

export interface CachedIndex extends FirstHalf {
  /** Reads the names; undefined: the file is damaged, or another by now. */
  names(): NameIndex | undefined;
}

/** Bytes [from, to) of a file, undefined when it ends before. In memory that nobody has to clear. */
function readRange(fd: number, from: number, to: number): Uint8Array | undefined {
  const bytes = Buffer.allocUnsafeSlow(to - from);
  for (let done = 0; done < bytes.length; ) {
    const n = fs.readSync(fd, bytes, done, bytes.length - done, from + done);
    if (n === 0) return undefined;
    done += n;
  }
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** The index of `what`, undefined when there is none that can be used. */
export function loadIndex(folder: string | undefined, what: string): CachedIndex | undefined {
  if (!folder) return undefined;
  const file = fileOf(folder, what);
  let fd: number | undefined;
  try {
    fd = fs.openSync(file, 'r');
    const { size } = fs.fstatSync(fd);
    const head = size <= MAX_INDEX ? readRange(fd, 0, Math.min(size, HEADER)) : undefined;
    const half = head && firstHalf(head, size);
    const first = half === undefined ? undefined : readRange(fd, 0, half);
    const index = first && decodeFirst(first);
    if (!first || index?.identity !== what) return undefined;
    const now = new Date();
    fs.futimesSync(fd, now, now);
    return { ...index, names: () => loadNames(file, first, size) };
  } catch {
    // Not there, or not ours to read: it is made again.
    return undefined;
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

function loadNames(file: string, first: Uint8Array, size: number): NameIndex | undefined {
  let fd: number | undefined;
  try {
    fd = fs.openSync(file, 'r');
    const rest = readRange(fd, first.length, size);
    return rest && decodeNames(first, rest);
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

/** Keeps `bytes`, the encoded index of `what`. False when that was not possible. */
export function storeIndex(folder: string | undefined, what: string, bytes: Uint8Array, limit = MAX_BYTES): boolean {
  if (!folder || bytes.length > Math.min(MAX_INDEX, limit)) return false;
  const file = fileOf(folder, what);
  const part = `${file}.${process.pid}.${Math.random().toString(36).slice(2)}.part`;
  try {
    fs.mkdirSync(folder, { recursive: true });
    fs.writeFileSync(part, bytes);
    // In one step: another session finds the old one or the new one.
    fs.renameSync(part, file);
    evict(folder, file, limit);
    return true;
  } catch {
    try {
      fs.rmSync(part, { force: true });
    } catch {
      // There is nothing to remove.
    }
    return false;
  }
}

function evict(folder: string, keep: string, limit: number): void {
  const files = fs.readdirSync(folder).flatMap((name) => {
    const file = path.join(folder, name);
    if (!name.endsWith(SUFFIX) && !name.endsWith('.part')) return [];
    try {
      const { size, mtimeMs } = fs.statSync(file);
      return [{ file, size, mtimeMs }];
    } catch {
      return [];
    }
  });
  let total = files.reduce((sum, f) => sum + f.size, 0);
  const old = Date.now() - 3_600_000;
  for (const { file, size, mtimeMs } of files.sort((a, b) => a.mtimeMs - b.mtimeMs)) {
    // Parts that a session left when it was killed go in any case.
    const left = file.endsWith('.part') && mtimeMs < old;
    if (file === keep || (!left && total <= limit)) continue;
    fs.rmSync(file, { force: true });
    total -= size;
  }
}
