// What every command needs before it can do its job: dependencies, Debian packages, a build. Plain JavaScript without
// dependencies, because it runs before there are any. Each step does nothing when its result is already there.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export const ROOT = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '..');

/** Where fetched kernels, initramfs images and the test editor are kept: outside the repository. */
export const CACHE =
  process.env.HYPERSTEP_CACHE ?? path.join(process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), '.cache'), 'hyperstep');

export const say = (text) => process.stderr.write(`${text}\n`);

/** Runs a command; its output goes to stderr only when it fails. Throws with the command's last lines. */
export function run(command, args, options = {}) {
  const r = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28, ...options });
  if (r.error) throw new Error(`${command}: ${r.error.message}`);
  if (r.status !== 0) {
    const tail = `${r.stdout ?? ''}${r.stderr ?? ''}`.trim().split('\n').slice(-15).join('\n');
    throw new Error(`${command} ${args.join(' ')} failed (${r.status})\n${tail}`);
  }
  return r.stdout ?? '';
}

export const has = (command) =>
  (process.env.PATH ?? '').split(path.delimiter).some((dir) => dir && fs.existsSync(path.join(dir, command)));

/**
 * npm packages as package-lock.json says. Not `npm ci`: it refuses a lock file that lacks other platforms' optional packages,
 * and a registry mirror may not have those.
 */
export function ensureDependencies() {
  const lock = path.join(ROOT, 'package-lock.json');
  const stamp = path.join(ROOT, 'node_modules', '.hyperstep-installed');
  if (fs.existsSync(stamp) && fs.statSync(stamp).mtimeMs >= fs.statSync(lock).mtimeMs) return;
  if (!fs.existsSync(stamp) && fs.existsSync(path.join(ROOT, 'node_modules', '.package-lock.json'))) {
    const installed = fs.statSync(path.join(ROOT, 'node_modules', '.package-lock.json')).mtimeMs;
    if (installed >= fs.statSync(lock).mtimeMs - 60_000) return;
  }
  say('Installing npm packages ...');
  run(process.platform === 'win32' ? 'npm.cmd' : 'npm', ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: ROOT,
    shell: process.platform === 'win32',
  });
  fs.writeFileSync(stamp, '');
}

/** Bundles in dist/, rebuilt when a source file is newer. */
export function ensureBuild() {
  const out = path.join(ROOT, 'dist', 'cli.mjs');
  const sources = ['emulator', 'debug-adapter', 'extension', 'esbuild.mjs', 'package.json'].map((p) => path.join(ROOT, p));
  const newest = (p) => {
    const st = fs.statSync(p);
    return st.isDirectory() ? Math.max(0, ...fs.readdirSync(p).map((e) => newest(path.join(p, e)))) : st.mtimeMs;
  };
  if (fs.existsSync(out) && fs.statSync(out).mtimeMs > Math.max(...sources.map(newest))) return;
  say('Building ...');
  run(process.execPath, [path.join(ROOT, 'esbuild.mjs')], { cwd: ROOT });
}

/** Debian packages that provide `commands` ({ command: package }); installs what is missing where that is possible. */
export function ensureDebianPackages(commands) {
  const there = (what) => (path.isAbsolute(what) ? fs.existsSync(what) : has(what) || fs.existsSync(`/usr/sbin/${what}`));
  const missing = Object.entries(commands).filter(([what]) => !there(what));
  if (!missing.length) return;
  const packages = [...new Set(missing.map(([, p]) => p))];
  if (!has('apt-get')) throw new Error(`missing: ${missing.map(([c]) => c).join(', ')} (Debian packages: ${packages.join(' ')})`);
  const sudo = process.getuid?.() === 0 ? [] : ['sudo', '-n'];
  const apt = (...args) => {
    const [command, ...rest] = [...sudo, 'apt-get', ...args];
    return run(command, rest, { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } });
  };
  say(`Installing Debian packages: ${packages.join(' ')} ...`);
  try {
    apt('install', '-y', '-qq', '--no-install-recommends', ...packages);
  } catch {
    apt('update', '-qq');
    apt('install', '-y', '-qq', '--no-install-recommends', ...packages);
  }
}
