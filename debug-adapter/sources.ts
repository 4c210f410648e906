/**
 * Source files: what the debug information calls a file, and where it is on this machine. Files are only looked for in folders that the
 * user has named, and never outside them, whatever a path in debug information says.
 */
import fs from 'node:fs';
import path from 'node:path';
import { fetchedFor } from './user-cache.ts';

/** One entry of launch.json's `sourceMap`. */
interface Root {
  /** Start of paths in debug information; empty: any path is tried by its last parts. */
  readonly prefix: string;
  /** Folder on this machine, with symbolic links resolved. */
  readonly folder: string;
}

/** A path with `/` between its parts, without `.`, `..` and empty parts. */
function parts(file: string): string[] {
  const out: string[] = [];
  for (const part of file.replaceAll('\\', '/').split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') out.pop();
    else out.push(part);
  }
  return out;
}

const real = (file: string): string | undefined => {
  try {
    return fs.realpathSync.native(file);
  } catch {
    return undefined;
  }
};
const isInside = (file: string, folder: string): boolean =>
  file === folder || file.startsWith(folder.replace(/[/\\]?$/, path.sep));

export class SourcePaths {
  readonly #roots: Root[] = [];
  /** Folders of the setting that are not there. */
  readonly missing: string[] = [];
  readonly #known = new Map<string, string | undefined>();

  /** `map`: starts of paths in debug information, and the folders that stand for them. */
  constructor(map: Readonly<Record<string, string>> = {}) {
    for (const [prefix, folder] of Object.entries(map)) {
      const found = folder === '' ? undefined : real(folder);
      if (found) this.#roots.push({ prefix, folder: found });
      else if (folder !== '') this.missing.push(folder);
    }
    // The longest prefix decides.
    this.#roots.sort((a, b) => b.prefix.length - a.prefix.length);
  }

  /** One more folder, for what is in none of the others. */
  add(folder: string): void {
    const found = real(folder);
    if (!found || this.#roots.some((r) => r.folder === found)) return;
    this.#roots.push({ prefix: '', folder: found });
    this.#known.clear();
  }

  /** The file on this machine; undefined: it is in none of the folders. */
  local(file: string): string | undefined {
    if (this.#known.has(file)) return this.#known.get(file);
    const found = this.#find(file);
    this.#known.set(file, found);
    return found;
  }

  #find(file: string): string | undefined {
    const wanted = parts(file);
    if (wanted.length === 0) return undefined;
    for (const { prefix, folder } of this.#roots) {
      const start = parts(prefix);
      if (prefix !== '' && start.some((p, i) => wanted[i] !== p)) continue;
      const rest = wanted.slice(start.length);
      // With a prefix the rest is a path in the folder. Without one, build folders of any depth may come first.
      const last = prefix === '' ? rest.length : 1;
      for (let from = 0; from < last; from++) {
        const found = real(path.join(folder, ...rest.slice(from)));
        if (found && isInside(found, folder) && fs.statSync(found).isFile()) return found;
      }
    }
    return undefined;
  }

  /**
   * What debug information may call a file of this machine, the best first: with the prefix of its folder, else the path in its folder, and
   * then ever shorter ends of the path.
   */
  candidates(file: string): string[] {
    const at = real(file) ?? file;
    const out: string[] = [];
    for (const { prefix, folder } of this.#roots) {
      if (!isInside(at, folder)) continue;
      const inFolder = path.relative(folder, at).replaceAll('\\', '/');
      if (prefix !== '') out.push(`${prefix.replace(/\/$/, '')}/${inFolder}`);
      out.push(inFolder);
    }
    const all = parts(at);
    for (let from = 0; from < all.length; from++) out.push(all.slice(from).join('/'));
    return [...new Set(out)];
  }
}

/** The source tree that was fetched for a Debian kernel comes after the user's own folders. */
export function useFetchedSources(sources: SourcePaths, release: string | undefined): void {
  const source = release === undefined ? undefined : fetchedFor(release)?.source;
  if (source !== undefined) sources.add(source);
}
