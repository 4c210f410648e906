/** The folder of ours in the user's cache directory. Whatever is in it may be deleted at any time. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** HYPERSTEP_CACHE, or `hyperstep` in the user's cache directory. */
export function userCache(env: NodeJS.ProcessEnv = process.env): string {
  const user =
    env.XDG_CACHE_HOME ||
    (process.platform === 'win32'
      ? env.LOCALAPPDATA
      : process.platform === 'darwin'
        ? path.join(os.homedir(), 'Library', 'Caches')
        : undefined) ||
    path.join(os.homedir(), '.cache');
  return env.HYPERSTEP_CACHE || path.join(user, 'hyperstep');
}

/** A release that may be part of a path: `6.12.107+deb13-cloud-arm64`. */
export const isRelease = (release: string): boolean => /^\d[\w.+~-]*$/.test(release);

/** Where a Debian kernel's -dbg package is unpacked, and in SOURCE its source tree. */
export const debianFolder = (release: string): string => path.join(userCache(), 'debian', release);
export const SOURCE = 'source';

/** Was any kernel's debug information fetched? */
export const isAnythingFetched = (): boolean => fs.existsSync(path.join(userCache(), 'debian'));

/** What was fetched for a release; undefined: nothing. `source` is the folder of the source tree, if that was fetched too. */
export function fetchedFor(release: string): { readonly folder: string; readonly source: string | undefined } | undefined {
  const folder = debianFolder(release);
  if (!isRelease(release) || !fs.existsSync(path.join(folder, 'usr'))) return undefined;
  const source = path.join(folder, SOURCE);
  return { folder, source: fs.existsSync(source) ? source : undefined };
}
