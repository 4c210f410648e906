/**
 * Debug information and sources of Debian's own kernels, fetched by the machine's apt into the user's cache, where sessions find
 * them. Nothing of the system's is changed: scripts/apt.mjs says how.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { debianSite, KEYRING, LIST_SITES, packagesShown, privateAptOptions, sourceLine } from '../scripts/apt.mjs';
import { debianFolder, fetchedFor, isRelease, SOURCE, userCache } from './user-cache.ts';

/** Nothing was fetched: words for the user. */
export class FetchError extends Error {}

export interface FetchOptions {
  /** The source tree as well. */
  readonly source: boolean;
  /** Ends everything: what was fetched so far is removed. */
  readonly signal?: AbortSignal;
  /** What is being done; how much of it, from 0 to 1, where that is known. */
  readonly progress: (text: string, part?: number) => void;
}

export interface Fetched {
  /** `debianFolder` of the release. */
  readonly folder: string;
  /** Why there is no source tree, if there is none. */
  readonly noSource?: string;
}

/** Debian releases by the number in a kernel's version (`+deb13`). */
const SUITES: Readonly<Record<string, string>> = { deb12: 'bookworm', deb13: 'trixie', deb14: 'forky' };

/** Suites of the archive that may have a kernel, the likeliest first. */
const suitesOf = (release: string): string[] => [
  ...new Set([SUITES[/\+(deb\d+)/.exec(release)?.[1] ?? ''], 'sid', 'experimental'].filter((s) => s !== undefined)),
];

/** An apt-get, apt-cache or dpkg-deb that runs: what it printed. */
function run(command: string, args: readonly string[], options: { cwd?: string; signal?: AbortSignal } = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LC_ALL: 'C' } });
    let out = '';
    let err = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      err = (err + text).slice(-4000);
    });
    child.on('error', (e: NodeJS.ErrnoException) => {
      if (options.signal?.aborted) reject(new FetchError('cancelled'));
      else reject(new FetchError(e.code === 'ENOENT' ? `${command} is not on this machine` : `${command}: ${e.message}`));
    });
    child.on('close', (status) => {
      if (options.signal?.aborted) reject(new FetchError('cancelled'));
      else if (status === 0) resolve(out);
      else reject(new FetchError(`${command} failed: ${err.trim().split('\n').at(-1) ?? `status ${status}`}`));
    });
  });
}

/** One configuration of apt: the machine's own sources, or one suite of its Debian archive. */
class Apt {
  readonly #options: string[];
  readonly #archives: string;
  readonly #fetch: FetchOptions;

  private constructor(fetch: FetchOptions, name: string, list?: string) {
    const dir = path.join(userCache(), 'apt', name);
    this.#options = privateAptOptions(dir, list);
    this.#archives = path.join(dir, 'archives', 'partial');
    this.#fetch = fetch;
  }

  static async own(fetch: FetchOptions): Promise<Apt> {
    const apt = new Apt(fetch, 'own');
    // A source that cannot be reached, or knows no arm64, is no reason to look nowhere.
    await apt.#get('update').catch(onlyCancelled);
    return apt;
  }

  /** Undefined when the suite cannot be had, or cannot be trusted. */
  static async suite(fetch: FetchOptions, suite: string): Promise<Apt | undefined> {
    const site = debianSite(await run('apt-get', LIST_SITES, fetch));
    if (!site) return undefined;
    const dir = path.join(userCache(), 'apt', `suite-${suite}`);
    fs.mkdirSync(dir, { recursive: true });
    const list = path.join(dir, 'sources.list');
    fs.writeFileSync(list, sourceLine(site, suite, `signed-by=${KEYRING}`));
    const apt = new Apt(fetch, `suite-${suite}`, list);
    return apt.#get('update').then(
      () => apt,
      (error: unknown) => {
        onlyCancelled(error);
        return undefined;
      },
    );
  }

  #get(...args: string[]): Promise<string> {
    return run('apt-get', [...this.#options, ...args], this.#fetch);
  }

  /** All versions of a package, newest first. */
  async versions(name: string): Promise<Record<string, string>[]> {
    const shown = await run('apt-cache', [...this.#options, 'show', name], this.#fetch).catch((error: unknown) => {
      onlyCancelled(error);
      return '';
    });
    return packagesShown(shown).filter((p) => p.Package === name);
  }

  /** Downloads one version of a package into `folder`: its file. */
  async download(fields: Record<string, string>, folder: string): Promise<string> {
    const { Package: name, Version: version } = fields;
    const size = Number(fields.Size) || 0;
    const text = `Downloading ${name} (${Math.round(size / 1e6)} MB)`;
    const { progress, signal } = this.#fetch;
    progress(text, 0);
    const timer = setInterval(() => {
      const got = [folder, this.#archives].flatMap(filesIn).reduce((sum, file) => sum + sizeOf(file), 0);
      if (size > 0) progress(text, Math.min(1, got / size));
    }, 500);
    try {
      await run('apt-get', [...this.#options, 'download', `${name}=${version}`], { cwd: folder, signal });
    } finally {
      clearInterval(timer);
    }
    const [deb] = filesIn(folder).filter((f) => f.endsWith('.deb'));
    if (!deb) throw new FetchError(`apt-get downloaded no ${name}`);
    return deb;
  }
}

/** Goes on after a failure that is not the user's wish to stop. */
function onlyCancelled(error: unknown): void {
  if (!(error instanceof FetchError) || error.message === 'cancelled' || / is not on this machine$/.test(error.message))
    throw error;
}

const filesIn = (folder: string): string[] => {
  try {
    return fs.readdirSync(folder).map((f) => path.join(folder, f));
  } catch {
    return [];
  }
};
const sizeOf = (file: string): number => fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0;

/**
 * Fetches the debug information of a Debian kernel, called as `uname -r` does in the guest (`6.1.0-50-cloud-arm64`), and its sources.
 * Does nothing for what is there. Throws FetchError.
 */
export async function fetchDebian(release: string, options: FetchOptions): Promise<Fetched> {
  if (!isRelease(release)) throw new FetchError(`"${release}" is not a kernel's release, such as 6.1.0-50-cloud-arm64`);
  const folder = debianFolder(release);
  const there = fetchedFor(release);
  if (there && (there.source || !options.source)) return { folder };
  const { progress, signal } = options;
  progress('Reading the lists of packages');
  const wanted = `linux-image-${release}-dbg`;
  let found: { apt: Apt; debug: Record<string, string> } | undefined;
  const look = async (apt: Apt | undefined): Promise<void> => {
    const [debug] = apt ? await apt.versions(wanted) : [];
    if (apt && debug) found = { apt, debug };
  };
  await look(await Apt.own(options));
  for (const suite of suitesOf(release)) if (!found) await look(await Apt.suite(options, suite));
  if (!found)
    throw new FetchError(
      `there is no package ${wanted}: is this Debian's kernel, and still the archive's current version of it?`,
    );
  const { apt, debug } = found;
  fs.mkdirSync(path.dirname(folder), { recursive: true });
  const work = fs.mkdtempSync(`${folder}.part-`);
  try {
    const unpack = async (fields: Record<string, string>, into: string): Promise<void> => {
      const deb = await apt.download(fields, work);
      progress(`Unpacking ${fields.Package}`);
      await run('dpkg-deb', ['-x', deb, into], { signal });
      fs.rmSync(deb);
    };
    const tree = path.join(work, 'tree');
    if (!there) {
      await unpack(debug, tree);
      fs.renameSync(tree, folder);
    }
    const noSource = options.source ? await fetchSource(apt, debug.Version, { ...options, unpack, work, folder }) : undefined;
    return { folder, ...(noSource === undefined ? {} : { noSource }) };
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
}

/** linux-source-X.Y of the same version: Debian's patches are in it. Why there is none, if there is none. */
async function fetchSource(
  apt: Apt,
  version: string,
  at: FetchOptions & {
    unpack(fields: Record<string, string>, into: string): Promise<void>;
    work: string;
    folder: string;
  },
): Promise<string | undefined> {
  const name = `linux-source-${/^\d+\.\d+/.exec(version)?.[0]}`;
  const versions = await apt.versions(name);
  const fields = versions.find((v) => v.Version === version);
  if (!fields)
    return versions.length
      ? `${name} is there in version ${versions.map((v) => v.Version).join(', ')}, not in ${version}`
      : `there is no package ${name}`;
  const tree = path.join(at.work, 'source-package');
  await at.unpack(fields, tree);
  const [archive] = filesIn(path.join(tree, 'usr', 'src')).filter((f) => /\/linux-source-[\d.]+\.tar\.\w+$/.test(f));
  if (!archive) return `${name} has no archive of sources`;
  at.progress(`Unpacking ${path.basename(archive)}`);
  const source = path.join(at.work, 'source');
  fs.mkdirSync(source);
  await run('tar', ['-xf', archive, '-C', source, '--strip-components=1'], { signal: at.signal });
  fs.renameSync(source, path.join(at.folder, SOURCE));
  return undefined;
}
