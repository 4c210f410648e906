// Debian's own arm64 kernels as guests: fetched with apt by a private configuration (the machine's own is neither read for
// architectures nor changed), unpacked into the cache, with an initramfs of busybox and the kernel's Hyper-V modules.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import zlib from 'node:zlib';
import { debianSite, dependsListed, KEYRING, LIST_SITES, privateAptOptions, sourceLine } from './apt.mjs';
import { CACHE, ROOT, has, run, say } from './setup.mjs';
import { cpio } from './cpio.mjs';
import { buildKernel64k } from './debian-kernel-64k.mjs';

/** The Hyper-V drivers of every guest, in load order; a kernel that has one built in just has no such module. */
const MODULES = ['hv_vmbus', 'hv_utils', 'hyperv-keyboard'];

const canonical = (name) => name.replaceAll('-', '_');

/** An apt that knows only arm64 and one suite of the machine's own mirror. */
function privateApt(suite) {
  const dir = path.join(CACHE, 'apt', suite);
  const list = path.join(dir, 'sources.list');
  const options = privateAptOptions(dir, list);
  const site = debianSite(run('apt-get', LIST_SITES));
  if (!site) throw new Error('this machine has no Debian mirror in its apt configuration');
  const update = (trust) => {
    fs.writeFileSync(list, sourceLine(site, suite, trust));
    run('apt-get', [...options, 'update']);
  };
  try {
    update(`signed-by=${KEYRING}`);
  } catch (error) {
    // A keyring older than the suite cannot check it. Only for suites other than the machine's own.
    if (suite === ownSuite()) throw error;
    update('trusted=yes');
  }
  const depends = (names, kind) => dependsListed(run('apt-cache', [...options, 'depends', ...names]), kind);
  return {
    depends: (name) => depends([name]),
    /** The packages and all libraries they need. */
    withLibraries: (names) => {
      const all = new Set(names);
      for (let next = names; next.length; ) {
        next = depends(next, '(?:Pre)?Depends').filter((lib) => /^z?lib/.test(lib) && !all.has(lib));
        for (const lib of next) all.add(lib);
      }
      return [...all];
    },
    download: (names, into) => {
      fs.mkdirSync(into, { recursive: true });
      run('apt-get', [...options, 'download', ...names], { cwd: into });
      return fs
        .readdirSync(into)
        .filter((f) => f.endsWith('.deb'))
        .map((f) => path.join(into, f));
    },
  };
}

/** Codename of this machine's Debian release. */
export const ownSuite = () => /^VERSION_CODENAME=(\S+)/m.exec(fs.readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'stable';

const walk = (dir) =>
  fs
    .readdirSync(dir, { withFileTypes: true })
    .flatMap((e) => (e.isDirectory() ? walk(path.join(dir, e.name)) : [path.join(dir, e.name)]));

/** Names after `depends=` in a module's .modinfo. */
function moduleDepends(ko) {
  const text = ko.toString('latin1');
  const m = /(?:^|\0)depends=([^\0]*)\0/.exec(text);
  return m?.[1] ? m[1].split(',') : [];
}

async function readModule(file) {
  const data = fs.readFileSync(file);
  if (file.endsWith('.ko')) return data;
  if (file.endsWith('.xz')) {
    // What `default` is depends on who loads this file: node, or tsx in a test.
    const xz = await import('xz-decompress');
    const { XzReadableStream } = xz.default ?? xz;
    const stream = new XzReadableStream(new Blob([data]).stream());
    return Buffer.from(await new Response(stream).arrayBuffer());
  }
  if (file.endsWith('.gz')) return zlib.gunzipSync(data);
  if (file.endsWith('.zst')) return Buffer.from((await import('fzstd')).decompress(data));
  throw new Error(`${file}: unknown compression of a module`);
}

/** Builds the initramfs: busybox, /init, `names` and what they need of the modules under `tree` in load order, and `extra` entries. */
export async function buildInitramfs(tree, busybox, extra = [], names = MODULES) {
  const files = new Map();
  for (const base of ['lib/modules', 'usr/lib/modules'].map((d) => path.join(tree, d)).filter((d) => fs.existsSync(d)))
    for (const f of walk(base)) {
      const m = /([^/]+)\.ko(\.(xz|gz|zst))?$/.exec(f);
      if (m) files.set(canonical(m[1]), f);
    }
  const order = [];
  const modules = [];
  const add = async (name) => {
    if (order.includes(name) || !files.has(name)) return;
    const data = await readModule(files.get(name));
    for (const dep of moduleDepends(data)) await add(canonical(dep));
    order.push(name);
    modules.push({ path: `lib/modules/${name}.ko`, data });
  };
  for (const m of names) await add(canonical(m));
  const dirs = ['bin', 'dev', 'lib', 'lib/modules', 'proc', 'sys', 'tmp'].map((p) => ({ path: p }));
  return cpio([
    ...dirs,
    { path: 'bin/busybox', mode: 0o755, data: fs.readFileSync(busybox) },
    { path: 'bin/sh', link: 'busybox' },
    { path: 'init', mode: 0o755, data: fs.readFileSync(path.join(ROOT, 'scripts', 'guest-init.sh')) },
    ...modules,
    { path: 'lib/modules/order', data: order.map((n) => `${n}\n`).join('') },
    ...extra,
  ]);
}

function fetchInto(dir, what, fetch) {
  if (fs.existsSync(dir)) return;
  say(`Fetching ${what} ...`);
  const t0 = Date.now();
  const part = `${dir}.part`;
  fs.rmSync(part, { recursive: true, force: true });
  fs.mkdirSync(part, { recursive: true });
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-fetch-'));
  try {
    const debs = fetch(work);
    const bytes = debs.reduce((n, f) => n + fs.statSync(f).size, 0);
    for (const deb of debs) run('dpkg-deb', ['-x', deb, part]);
    fs.renameSync(part, dir);
    say(`  ${(bytes / 1e6).toFixed(1)} MB in ${((Date.now() - t0) / 1000).toFixed(1)} s`);
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
}

export const canFetch = () => has('apt-get') && has('dpkg-deb');

/** Busybox for arm64, fetched when it is not in the cache. */
function busyboxFile() {
  const tree = debianPackage('busybox-static');
  const busybox = ['usr/bin/busybox', 'bin/busybox'].map((f) => path.join(tree, f)).find((f) => fs.existsSync(f));
  if (!busybox) throw new Error(`no busybox in ${tree}`);
  return busybox;
}

/** Folder in the cache with an arm64 package of this machine's Debian release and the libraries it needs, unpacked. */
export function debianPackage(name) {
  const tree = path.join(CACHE, `${name}-${ownSuite()}`);
  fs.mkdirSync(CACHE, { recursive: true });
  fetchInto(tree, `Debian's ${name} for arm64 (${ownSuite()})`, (work) => {
    const apt = privateApt(ownSuite());
    return apt.download(apt.withLibraries([name]), work);
  });
  return tree;
}

/** Entries of an initramfs: a program of a Debian package at `to`, with the shared libraries it needs where it looks for them. */
export function debianProgram(packageName, program, to) {
  const tree = debianPackage(packageName);
  // Not its start script in /etc/init.d.
  const find = (name) =>
    walk(tree).find((f) => /\/s?bin\/[^/]+$/.test(f) && path.basename(f) === name && !fs.lstatSync(f).isSymbolicLink());
  const entries = new Map();
  const needs = (file) => {
    // Names in the ELF file's string table: those that are libraries of these packages are what it needs, or might.
    for (const [name] of fs
      .readFileSync(file, 'latin1')
      .matchAll(/(?<=\0)(?:lib[\w+-]+|ld-linux-aarch64)\.so(?:\.\d+)+(?=\0)/g)) {
      const real = walk(tree).find((f) => path.basename(f) === name);
      if (!real || entries.has(`lib/${name}`)) continue;
      entries.set(`lib/${name}`, { path: `lib/${name}`, mode: 0o755, data: fs.readFileSync(fs.realpathSync(real)) });
      needs(fs.realpathSync(real));
    }
  };
  const file = find(program);
  if (!file) throw new Error(`no ${program} in ${tree}`);
  needs(file);
  return [{ path: to, mode: 0o755, data: fs.readFileSync(file) }, ...entries.values()];
}

/**
 * An initramfs of its own for a kernel that `debianGuest` has fetched: more modules (by name, with what they need) and more
 * entries than the usual one.
 * @param {{ suite?: string, flavour?: string, modules?: string[], extra?: Parameters<typeof cpio>[0] }} what
 * @returns {Promise<Uint8Array>}
 */
export async function debianInitramfs({ suite = 'own', flavour = 'cloud-arm64', modules = [], extra = [] }) {
  const tree = path.join(CACHE, `linux-${suite === 'own' ? ownSuite() : suite}-${flavour}`);
  return buildInitramfs(tree, busyboxFile(), extra, [...MODULES, ...modules]);
}

/**
 * A Debian kernel and its initramfs, fetched and built when they are not in the cache.
 * @param {{ suite?: string, flavour?: string }} [which] suite `own` (default) or a codename; flavour default `cloud-arm64`;
 *   `arm64-64k` is no package's: it is built from the suite's source
 * @returns {Promise<{ kernel: string, initrd: string, release: string }>}
 */
export async function debianGuest({ suite = 'own', flavour = 'cloud-arm64' } = {}) {
  if (!canFetch()) throw new Error('Debian kernels are fetched with apt-get, which this machine does not have');
  const name = suite === 'own' ? ownSuite() : suite;
  const tree = path.join(CACHE, `linux-${name}-${flavour}`);
  fs.mkdirSync(CACHE, { recursive: true });
  if (flavour === 'arm64-64k') {
    await debianGuest({ suite, flavour: 'cloud-arm64' });
    const boot = path.join(CACHE, `linux-${name}-cloud-arm64`, 'boot');
    const config = fs.readdirSync(boot).find((f) => f.startsWith('config-'));
    if (!config) throw new Error(`${boot}: no kernel configuration`);
    const source = (work) => {
      const apt = privateApt(name);
      const top = apt.depends('linux-source').find((p) => /^linux-source-\d/.test(p));
      if (!top) throw new Error(`no linux-source in ${name}`);
      for (const deb of apt.download([top], work)) run('dpkg-deb', ['-x', deb, work]);
      return path.join(work, 'usr', 'src', `${top}.tar.xz`);
    };
    buildKernel64k({ tree, config: path.join(boot, config), source });
  }
  fetchInto(tree, `Debian's linux-image-${flavour} (${name})`, (work) => {
    const apt = privateApt(name);
    // linux-image-cloud-arm64 names the current kernel; from Linux 6.19 on that is split over three packages.
    const top = apt.depends(`linux-image-${flavour}`).find((p) => /^linux-image-\d/.test(p));
    if (!top) throw new Error(`no linux-image-${flavour} in ${name}`);
    const parts = apt.depends(top).filter((p) => /^linux-(binary|modules|base)-\d/.test(p));
    return apt.download([top, ...parts], work);
  });
  const busybox = busyboxFile();
  const kernel = ['boot', 'usr/lib/modules']
    .map((d) => path.join(tree, d))
    .filter((d) => fs.existsSync(d))
    .flatMap(walk)
    .find((f) => /\/vmlinu[zx][^/]*$/.test(f));
  if (!kernel) throw new Error(`no kernel image in ${tree}`);
  const init = fs.readFileSync(path.join(ROOT, 'scripts', 'guest-init.sh'));
  const initrd = path.join(tree, 'initramfs.cpio.gz');
  const stamp = path.join(tree, 'initramfs.init');
  if (!fs.existsSync(initrd) || !fs.existsSync(stamp) || !fs.readFileSync(stamp).equals(init)) {
    say(`Building the initramfs ${initrd} ...`);
    fs.writeFileSync(initrd, zlib.gzipSync(await buildInitramfs(tree, busybox), { level: 6 }));
    fs.writeFileSync(stamp, init);
  }
  const release = /vmlinu[zx]-(.+)$/.exec(path.basename(kernel))?.[1] ?? path.basename(path.dirname(kernel));
  return { kernel, initrd, release };
}

/**
 * Debug information of a Debian kernel (linux-image-FLAVOUR-dbg, 260 MB to fetch), fetched when it is not in the cache: a vmlinux, and
 * the modules' files next to it under lib/modules.
 * @param {{ suite?: string, flavour?: string }} [which] as for `debianGuest`
 * @returns {{ vmlinux: string, module: (name: string) => string | undefined }}
 */
export function debianDebugInfo({ suite = 'own', flavour = 'cloud-arm64' } = {}) {
  if (!canFetch()) throw new Error('Debian packages are fetched with apt-get, which this machine does not have');
  const name = suite === 'own' ? ownSuite() : suite;
  const tree = path.join(CACHE, `linux-${name}-${flavour}-dbg`);
  fs.mkdirSync(CACHE, { recursive: true });
  fetchInto(tree, `Debian's linux-image-${flavour}-dbg (${name})`, (work) => {
    const apt = privateApt(name);
    const top = apt.depends(`linux-image-${flavour}-dbg`).find((p) => /^linux-image-\d/.test(p));
    if (!top) throw new Error(`no linux-image-${flavour}-dbg in ${name}`);
    return apt.download([top], work);
  });
  const files = walk(path.join(tree, 'usr', 'lib', 'debug'));
  const vmlinux = files.find((f) => /\/vmlinux[^/]*$/.test(f) && !fs.lstatSync(f).isSymbolicLink());
  if (!vmlinux) throw new Error(`no vmlinux in ${tree}`);
  return { vmlinux, module: (wanted) => files.find((f) => path.basename(f) === `${wanted}.ko`) };
}

// `node scripts/debian-guest.mjs [SUITE [FLAVOUR]]` prints the paths.
if (process.argv[1] && path.resolve(process.argv[1]) === path.join(ROOT, 'scripts', 'debian-guest.mjs')) {
  const guest = await debianGuest({ suite: process.argv[2], flavour: process.argv[3] });
  process.stdout.write(`${JSON.stringify(guest)}\n`);
}
