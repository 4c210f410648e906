// `npm test [-- FILES]`: sets up whatever is missing, then runs node's test runner over the test files. Everything a test
// needs is installed here, so that a test never skips because its tool is not there.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { ROOT, ensureBuild, ensureDebianPackages, ensureDependencies, has, say } from './setup.mjs';

/** Folders in the order they run: the quick ones tell first. */
const SUITES = [
  'test/architecture.test.ts',
  'test/unit',
  'test/differential',
  'test/fuzz',
  'test/dap',
  'test/guest',
  'test/extension',
];

const find = (p) => {
  const full = path.join(ROOT, p);
  if (!fs.existsSync(full)) return [];
  if (fs.statSync(full).isFile()) return [full];
  return fs
    .readdirSync(full)
    .sort()
    .flatMap((e) => (e.startsWith('.') || e === 'node_modules' ? [] : find(path.join(p, e))))
    .filter((f) => f.endsWith('.test.ts'));
};

ensureDependencies();
const asked = process.argv.slice(2);
const files = (asked.length ? asked : SUITES).flatMap((p) => find(path.relative(ROOT, path.resolve(ROOT, p))));
if (!files.length) {
  say(`no test files in ${asked.join(' ')}`);
  process.exit(2);
}
const touches = (part) => files.some((f) => f.includes(`${path.sep}test${path.sep}${part}`));
if (touches('unit') && has('apt-get')) ensureDebianPackages({ iasl: 'acpica-tools', dtc: 'device-tree-compiler' });
if (touches('guest') && has('apt-get'))
  ensureDebianPackages({
    'mkfs.ext4': 'e2fsprogs',
    'aarch64-linux-gnu-gcc': 'gcc-aarch64-linux-gnu',
    '/usr/aarch64-linux-gnu/lib/libc.a': 'libc6-dev-arm64-cross',
  });
if (touches('dap') || touches('guest') || touches('extension')) ensureBuild();
if (touches('extension')) (await import('./test-editor.mjs')).ensureEditor();

const env = { ...process.env };
delete env.NODE_OPTIONS;
const r = spawnSync(
  process.execPath,
  ['--import', 'tsx', '--test', '--test-concurrency=2', '--test-timeout=600000', '--test-reporter=spec', ...files],
  {
    cwd: ROOT,
    stdio: 'inherit',
    env,
  },
);
process.exit(r.status ?? 1);
