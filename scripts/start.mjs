// `npm start`: sets up whatever is missing, then does the main job: boots Debian's own arm64 kernel as a Hyper-V guest, stops
// at its first HvCallPostMessage, explains what is there, and runs to power-off. Without apt-get: the embedded guest.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { ROOT, ensureBuild, ensureDependencies, say } from './setup.mjs';

ensureDependencies();
ensureBuild();
const { canFetch, debianGuest } = await import('./debian-guest.mjs');
let args;
if (canFetch()) {
  const guest = await debianGuest();
  args = ['--kernel', guest.kernel, '--initrd', guest.initrd, '--append', 'console=ttyAMA0 hyperstep.wait=5'];
} else {
  say('This machine has no apt-get, so this is the small embedded guest of the tests instead of a Debian kernel.');
  say('To boot a kernel of your own: node dist/cli.mjs demo --kernel Image --initrd initramfs.cpio.gz');
  args = ['--kernel', path.join(ROOT, 'test/guests/embedded/guest.elf')];
}
const r = spawnSync(process.execPath, [path.join(ROOT, 'dist/cli.mjs'), 'demo', ...args], { stdio: 'inherit' });
process.exit(r.status ?? 1);
