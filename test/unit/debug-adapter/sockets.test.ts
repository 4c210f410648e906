import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { GuestSockets } from '../../../debug-adapter/sockets.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-sockets-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

test('a setting becomes what the machine is made with, or one line that says what is wrong', () => {
  const of = (setting: ConstructorParameters<typeof GuestSockets>[0]) => {
    const s = new GuestSockets(setting);
    return [s.config, s.leadsOutside];
  };
  assert.deepEqual(
    [
      of(undefined),
      of({ mode: 'internal' }),
      of({ mode: 'folder', folder, guestPorts: [22] }),
      of({ mode: 'programs', hostPrograms: { 1: ['cat'] } }),
      of({ mode: 'stdio', port: { host: 1 } }),
    ],
    [
      [undefined, false],
      [{ mode: 'internal' }, false],
      [{ mode: 'outside' }, true],
      [{ mode: 'outside' }, true],
      [{ mode: 'outside' }, true],
    ],
  );
  const wrong: [ConstructorParameters<typeof GuestSockets>[0], string][] = [
    [{ mode: 'folder' }, 'sockets: mode "folder" needs a "folder"'],
    [{ mode: 'internal', folder }, 'sockets: "folder" is for mode "folder", not "internal"'],
    [{ mode: 'folder', folder, hostPrograms: {} }, 'sockets: "hostPrograms" is for mode "programs", not "folder"'],
    [{ mode: 'programs' }, 'sockets: mode "programs" needs "hostPrograms" or "guestPrograms"'],
    [{ mode: 'programs', hostPrograms: { http: ['x'] } }, 'sockets: http is no port: 0 to 4294967294'],
    [{ mode: 'programs', guestPrograms: { 80: [] } }, 'sockets: port 80 has no program'],
    [{ mode: 'folder', folder: `${folder}/none` }, `sockets: ${folder}/none is no folder`],
    [{ mode: 'folder', folder, guestPorts: [-1] }, 'sockets: -1 is no port: 0 to 4294967294'],
  ];
  for (const [setting, message] of wrong) assert.throws(() => new GuestSockets(setting), { message });
});

test('the command line says what is wrong with --sockets', () => {
  const run = (value: string) => {
    const args = ['--import', 'tsx', 'debug-adapter/cli.ts', 'run', '--kernel', 'none', '--sockets', value];
    const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    return [status, stderr.split('\n')[0]];
  };
  assert.deepEqual(
    [run(`${folder},port=1`), run(`${folder}/none`), run('stdio'), run('stdio,host=x')],
    [
      [2, `hyperstep: --sockets ${folder},port=1: "port=1" is not guest=PORT`],
      [2, `hyperstep: sockets: ${folder}/none is no folder`],
      [2, 'hyperstep: --sockets stdio: expected stdio,host=PORT or stdio,guest=PORT'],
      [2, 'hyperstep: --sockets needs a whole number, not "x"'],
    ],
  );
});
