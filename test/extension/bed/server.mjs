// Starts and stops one private code-server. No global state: every run gets its
// own port, user-data-dir and extensions-dir under a temporary folder.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, mkdirSync, writeFileSync, rmSync, existsSync, cpSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { EDITOR_ENTRY as ENTRY } from '../../../scripts/test-editor.mjs';

const NODE = process.execPath;

const freePort = () => new Promise((resolve, reject) => {
  const s = createServer().once('error', reject).listen(0, '127.0.0.1', () => {
    const { port } = s.address(); s.close(() => resolve(port));
  });
});

// Things that would otherwise pop up over the UI under test.
const QUIET = {
  'workbench.startupEditor': 'none',
  'workbench.tips.enabled': false,
  'workbench.colorTheme': 'Default Dark Modern',
  'security.workspace.trust.enabled': false,
  'telemetry.telemetryLevel': 'off',
  'extensions.autoUpdate': false,
  'extensions.autoCheckUpdates': false,
  'extensions.ignoreRecommendations': true,
  'update.mode': 'none',
  'chat.commandCenter.enabled': false,
  'chat.disableAIFeatures': true,
  'workbench.secondarySideBar.defaultVisibility': 'hidden',
  'window.commandCenter': false,
  'git.enabled': false,
  'workbench.hover.delay': 60_000, // the pointer rests where the last click was, and its hover would be over the next target
  'debug.toolBarLocation': 'docked',
  'debug.openDebug': 'openOnDebugBreak',
  'editor.accessibilitySupport': 'off',
  'terminal.integrated.gpuAcceleration': 'off', // the DOM renderer leaves text that a test can read
};

/**
 * opts.vsix: .vsix files to install.
 * opts.workspace: folder that is copied, so tests may write in it.
 * opts.env: more environment for the server, and so for the extension host.
 */
export async function startServer(opts = {}) {
  if (!existsSync(ENTRY)) throw new Error('the editor is not installed: `npm test` does that (scripts/test-editor.mjs)');
  const home = mkdtempSync(path.join(tmpdir(), 'vsbed-'));
  const dirs = { user: path.join(home, 'user'), ext: path.join(home, 'ext'), ws: path.join(home, 'ws') };
  mkdirSync(path.join(dirs.user, 'User'), { recursive: true });
  mkdirSync(dirs.ext);
  cpSync(opts.workspace, dirs.ws, { recursive: true });
  writeFileSync(path.join(dirs.user, 'User/settings.json'), JSON.stringify({ ...QUIET, ...opts.settings }, null, 2));

  const base = [ENTRY, '--user-data-dir', dirs.user, '--extensions-dir', dirs.ext];
  const env = { ...process.env, ...opts.env, HOME: home, XDG_DATA_HOME: home, XDG_CONFIG_HOME: home };
  delete env.VSCODE_IPC_HOOK_CLI;
  if (opts.vsix?.length) {
    const args = opts.vsix.flatMap((v) => ['--install-extension', path.resolve(v)]);
    const r = spawnSync(NODE, [...base, ...args], { env, encoding: 'utf8' });
    if (r.status !== 0 || /Failed Installing|Error:/i.test(r.stdout + r.stderr)) throw new Error(`vsix install failed:\n${r.stdout}${r.stderr}`);
  }
  const port = await freePort();
  const t0 = Date.now();
  const proc = spawn(NODE, [...base, '--auth', 'none', '--bind-addr', `127.0.0.1:${port}`,
    '--disable-telemetry', '--disable-update-check', '--disable-workspace-trust',
    '--disable-getting-started-override', '--disable-file-downloads', '--log', 'info', dirs.ws], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  proc.stdout.on('data', (d) => { log += d; });
  proc.stderr.on('data', (d) => { log += d; });
  const exited = new Promise((r) => proc.once('exit', r));
  let gone = false; exited.then(() => { gone = true; });
  const url = `http://127.0.0.1:${port}/`;
  for (;;) {
    if (gone) throw new Error(`code-server exited:\n${log}`);
    if (Date.now() - t0 > 30_000) { proc.kill(); throw new Error(`code-server did not answer in 30 s:\n${log}`); }
    try { if ((await fetch(url + 'healthz')).ok) break; } catch { /* not up yet */ }
    await new Promise((r) => setTimeout(r, 50));
  }
  return {
    url, port, dirs, home, startMs: Date.now() - t0,
    log: () => log,
    /** The address a browser opens: the folder, and optionally the extension-test payload. */
    address(payload) {
      const q = new URLSearchParams({ folder: dirs.ws });
      if (payload) q.set('payload', JSON.stringify(payload));
      return `${url}?${q}`;
    },
    remoteUri: (p) => `vscode-remote://127.0.0.1:${port}${p}`,
    async stop() {
      proc.kill('SIGTERM');
      await Promise.race([exited, new Promise((r) => setTimeout(r, 3000))]);
      if (!gone) proc.kill('SIGKILL');
      rmSync(home, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
