import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { test } from 'node:test';
import { debianGuest } from '../../scripts/debian-guest.mjs';

const ROOT = path.resolve(import.meta.dirname, '../..');

test('run --stdin: a shell in the guest, typed from outside', { timeout: 300_000 }, async () => {
  const guest = await debianGuest();
  const args = [
    'run',
    '--stdin',
    '--kernel',
    guest.kernel,
    '--initrd',
    guest.initrd,
    '--append',
    'console=ttyAMA0 hyperstep.shell',
  ];
  const child = spawn(process.execPath, ['--import', 'tsx', 'debug-adapter/cli.ts', ...args], { cwd: ROOT });
  let out = '';
  let err = '';
  child.stderr.on('data', (d) => {
    err += d;
  });
  let typed = 0;
  child.stdout.on('data', (d) => {
    out += d;
    // Each is typed when the shell asks for it.
    const prompts = out.split('/ # ').length - 1;
    for (; typed < prompts && typed < LINES.length; typed++) child.stdin.write(`${LINES[typed]}\n`);
  });
  const [status] = await once(child, 'close');
  assert.equal(status, 0, err.slice(-1000));
  assert.match(out, /^hello-42\r?$/m);
  assert.match(out, /INIT-DONE/);
});

const LINES = ['echo hello-$((6*7))', 'exit'];
