/**
 * The program of given-back.test.ts, a process of its own: a guest fills most of its memory, and then is left with 256 MiB. Prints, as
 * JSON, what the process has resident in MiB before and after, and what a move took of the CPU's time in ms.
 */
import { ProcessMemory } from '../../debug-adapter/process-memory.ts';
import { debianInitramfs } from '../../scripts/debian-guest.mjs';
import { debianConfig, Recorded } from './debian.ts';

const SCRIPT = `#!/bin/sh
PATH=/bin
mount -t tmpfs -o size=100% none /tmp
dd if=/dev/urandom of=/tmp/some bs=1M count=4 2>/dev/null
for i in $(seq 160); do cat /tmp/some; done >/tmp/all; echo FULL; read -r go; rm /tmp/all
echo EMPTY; read -r go; echo "SAME: $(cat /tmp/some /tmp/some | md5sum)"; read -r go
`;

const guest = new Recorded({
  ...(await debianConfig('own', { memory: 1024 })),
  append: 'console=ttyAMA0 hyperstep.run=/bin/sh,/test.sh',
  initrd: await debianInitramfs({ modules: ['hv_balloon'], extra: [{ path: 'test.sh', mode: 0o755, data: SCRIPT }] }),
});
const { machine } = guest;
// By the guest's clock moves take no time: how many there are, and when, does not depend on what else the computer does.
const memory = new ProcessMemory(() => machine.now / 1e6);
let longest = 0;

function run(until: () => boolean): void {
  while (!until()) {
    const exit = machine.run({ instructions: 5_000_000, nanoseconds: 100_000_000 });
    if (exit.kind !== 'limit') throw new Error(`${exit.kind}: ${guest.console.slice(-1000)}`);
    const started = process.cpuUsage();
    if (!memory.tidy(machine)) continue;
    const { user, system } = process.cpuUsage(started);
    longest = Math.max(longest, (user + system) / 1000);
  }
}
const says = (text: string) => run(() => guest.console.includes(text));
const resident = (): number => Math.round(process.memoryUsage.rss() / 2 ** 20);
const enter = (): void => machine.consoleInput(Uint8Array.of(13));

says('FULL\r\n');
const full = resident();
enter();
says('EMPTY\r\n');
run(() => machine.services.balloon.setTarget(256));
const later = machine.now + 5e9;
run(() => machine.now > later);
enter();
says('SAME: ');
const given = resident();
process.stdout.write(JSON.stringify({ full, given, longest: Math.round(longest) }));
