// A kernel with 64 KiB pages. No Debian package has one: it is built from Debian's source package, with the configuration of Debian's
// cloud-arm64 kernel of the same suite, but for the page size, the modules (only those that a guest on Hyper-V loads), debug
// information and signatures. Some half an hour on two cores, once: the result stays in the cache.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ensureDebianPackages, run, say } from './setup.mjs';

/** Options that are not as in Debian's configuration, as arguments of the kernel's own scripts/config. */
const OPTIONS = {
  '--disable': [
    'ARM64_4K_PAGES',
    'DEBUG_INFO',
    'DEBUG_INFO_BTF',
    'DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT',
    'MODULE_SIG',
    'SECURITY_LOCKDOWN_LSM',
    'SYSTEM_TRUSTED_KEYRING',
    'SYSTEM_REVOCATION_LIST',
    'MODULE_COMPRESS',
    'MODULE_COMPRESS_XZ',
    'KVM',
    'XEN',
  ],
  '--enable': ['ARM64_64K_PAGES', 'DEBUG_INFO_NONE'],
  '--module': ['DRM', 'DRM_HYPERV', 'FB_HYPERV', 'HID_HYPERV_MOUSE', 'HYPERV_VSOCKETS', 'INPUT_EVDEV', 'PCI_HYPERV'],
};

/** Modules that stay; all others are left out. */
const MODULES = new RegExp(
  `^CONFIG_(${[
    '(DRM|FB|HID|PCI|UIO)?_?HYPERV\\w*',
    'UIO',
    'SCSI(_COMMON|_FC_ATTRS)?',
    'BLK_DEV_(SD|SR|NVME)',
    'CDROM',
    'NVME_(CORE|KEYRING|AUTH)',
    'EXT4_FS',
    'JBD2',
    'FS_MBCACHE',
    '(LIB)?CRC\\w*',
    'CRYPTO_\\w*',
    'NLS_\\w*',
    'VSOCKETS',
    'HID(_GENERIC)?',
    'INPUT_EVDEV',
    'SERIO',
    'DRM(_\\w+_HELPER)?',
    '(NET_)?FAILOVER',
  ].join('|')})=m$`,
);

/**
 * Builds the kernel into `tree` (boot/vmlinuz-RELEASE and lib/modules/RELEASE, as a package has them) if it is not there.
 * @param {{ tree: string, config: string, source: (work: string) => string }} what config: Debian's, a file; source: unpacks the package
 *   linux-source into a folder and gives its archive
 */
export function buildKernel64k({ tree, config, source }) {
  if (fs.existsSync(tree)) return;
  const native = process.arch === 'arm64';
  ensureDebianPackages({
    make: 'make',
    flex: 'flex',
    bison: 'bison',
    bc: 'bc',
    '/usr/include/openssl/ssl.h': 'libssl-dev',
    '/usr/include/libelf.h': 'libelf-dev',
    ...(native ? { gcc: 'gcc' } : { gcc: 'gcc', 'aarch64-linux-gnu-gcc': 'gcc-aarch64-linux-gnu' }),
  });
  const part = `${tree}.part`;
  fs.rmSync(part, { recursive: true, force: true });
  fs.mkdirSync(path.join(part, 'boot'), { recursive: true });
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-kernel-'));
  try {
    say('Building a kernel with 64 KiB pages (half an hour, once) ...');
    const archive = source(work);
    const src = path.join(work, 'linux');
    fs.mkdirSync(src);
    run('tar', ['-x', '--strip-components=1', '-f', archive, '-C', src]);
    fs.writeFileSync(
      path.join(src, '.config'),
      fs
        .readFileSync(config, 'utf8')
        .split('\n')
        .map((line) => (line.endsWith('=m') && !MODULES.test(line) ? `# ${line.slice(0, -2)} is not set` : line))
        .join('\n'),
    );
    const options = Object.entries(OPTIONS).flatMap(([flag, names]) => names.flatMap((n) => [flag, n]));
    run(path.join(src, 'scripts', 'config'), ['--file', path.join(src, '.config'), ...options]);
    const make = (...targets) =>
      run(
        'make',
        [
          '-s',
          `-j${os.availableParallelism()}`,
          'ARCH=arm64',
          ...(native ? [] : ['CROSS_COMPILE=aarch64-linux-gnu-']),
          'KBUILD_BUILD_USER=hyperstep',
          'KBUILD_BUILD_HOST=hyperstep',
          ...targets,
        ],
        { cwd: src },
      );
    make('olddefconfig');
    if (!/^CONFIG_ARM64_64K_PAGES=y$/m.test(fs.readFileSync(path.join(src, '.config'), 'utf8')))
      throw new Error(`${config}: its kernel cannot have 64 KiB pages`);
    make('Image', 'modules');
    make('modules_install', `INSTALL_MOD_PATH=${part}`, 'DEPMOD=true');
    const release = fs.readFileSync(path.join(src, 'include', 'config', 'kernel.release'), 'utf8').trim();
    for (const link of ['build', 'source']) fs.rmSync(path.join(part, 'lib', 'modules', release, link), { force: true });
    fs.copyFileSync(path.join(src, 'arch', 'arm64', 'boot', 'Image'), path.join(part, 'boot', `vmlinuz-${release}`));
    fs.renameSync(part, tree);
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
}
