// The real VS Code that extension tests run in. Where VSCODE_TEST_EXECUTABLE is set, that is used; where a desktop build can
// be downloaded (HYPERSTEP_DOWNLOAD_VSCODE=1), @vscode/test-electron does it; else VS Code's own server build is installed
// from the npm package `code-server` into the cache, with the distribution's Chromium in front of it.
import fs from 'node:fs';
import path from 'node:path';
import { CACHE, ensureDebianPackages, run, say } from './setup.mjs';

/** code-server 4.100.0 is VS Code 1.100, the oldest we support, and runs on Node 20. */
const VERSION = '4.100.0';
export const EDITOR = path.join(CACHE, `editor-${VERSION}`);
export const EDITOR_ENTRY = path.join(EDITOR, 'server/node_modules/code-server/out/node/entry.js');

export function ensureEditor() {
  if (process.env.VSCODE_TEST_EXECUTABLE || process.env.HYPERSTEP_DOWNLOAD_VSCODE) return;
  ensureDebianPackages({
    chromium: 'chromium',
    rg: 'ripgrep',
    'g++': 'g++',
    make: 'make',
    python3: 'python3',
    'fc-list': 'fontconfig',
  });
  if (!fs.existsSync('/usr/share/fonts/truetype/dejavu')) ensureDebianPackages({ '/dejavu-fonts': 'fonts-dejavu-core' });
  const ready = path.join(EDITOR, 'ready');
  if (fs.existsSync(ready)) return;
  say(`Installing VS Code (code-server ${VERSION}) for the extension tests; about two minutes ...`);
  const server = path.join(EDITOR, 'server');
  fs.rmSync(EDITOR, { recursive: true, force: true });
  fs.mkdirSync(server, { recursive: true });
  fs.writeFileSync(path.join(server, 'package.json'), '{"private":true}');
  const npm = (cwd, ...args) => run('npm', [...args, '--no-audit', '--no-fund', '--loglevel=error'], { cwd });
  // Its postinstall fetches a binary from a code host and gives up as a whole where it cannot: scripts are off, and the
  // native parts that matter are built here.
  npm(server, 'install', `code-server@${VERSION}`, '--ignore-scripts');
  const codeServer = path.join(server, 'node_modules/code-server');
  const vscode = path.join(codeServer, 'lib/vscode');
  npm(vscode, 'install', '--omit=dev', '--ignore-scripts');
  npm(path.join(vscode, 'extensions'), 'install', '--omit=dev', '--ignore-scripts');
  const attempt = (cwd, ...modules) => {
    try {
      npm(cwd, 'rebuild', ...modules);
    } catch (error) {
      // node-pty's post-install step fails after its module is built; what matters is checked below.
      say(`  (rebuild of ${modules.join(', ')}: ${String(error.message).split('\n')[0]})`);
    }
  };
  attempt(server, 'argon2');
  attempt(vscode, '@vscode/spdlog', 'native-watchdog');
  attempt(vscode, 'node-pty');
  const link = (target, at) => {
    fs.rmSync(at, { force: true });
    fs.symlinkSync(target, at);
  };
  link('node_modules', path.join(vscode, 'node_modules.asar'));
  fs.mkdirSync(path.join(vscode, 'node_modules/@vscode/ripgrep/bin'), { recursive: true });
  link('/usr/bin/rg', path.join(vscode, 'node_modules/@vscode/ripgrep/bin/rg'));
  if (!fs.existsSync(path.join(vscode, 'node_modules/@vscode/spdlog/build/Release/spdlog.node')))
    throw new Error('the editor for extension tests could not be built (spdlog.node)');
  run(process.execPath, [EDITOR_ENTRY, '--version']);
  fs.writeFileSync(ready, '');
}
