/** Hyper-V sockets, used by Debian's socat on Debian's kernels: programs of the guest connect to the host, and the host to them. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { GuestSockets } from '../../debug-adapter/sockets.ts';
import { debianGuest, debianInitramfs, debianProgram } from '../../scripts/debian-guest.mjs';
import type { MachineConfig, SocketRequest } from '../../emulator/index.ts';
import { debianConfig, Recorded, TROUBLE } from './debian.ts';

const APPEND = 'console=ttyAMA0 hyperstep.run=/bin/sh,/test.sh';
const noise = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => Math.imul(i + 1, 2654435761) >>> 24);
const md5 = (bytes: Uint8Array): string => crypto.createHash('md5').update(bytes).digest('hex');

/** A guest with socat whose init runs `script`. */
async function guestWith(
  script: string,
  { suite = 'own', ...rest }: Partial<MachineConfig> & { suite?: string } = {},
): Promise<MachineConfig> {
  const extra = [
    ...['usr', 'usr/bin', 'etc'].map((path) => ({ path })),
    ...debianProgram('socat', 'socat', 'usr/bin/socat'),
    { path: 'noise', data: noise(300_000) },
    { path: 'test.sh', mode: 0o755, data: `#!/bin/sh\nPATH=/bin:/usr/bin\n${script}\necho TEST-END\n` },
  ];
  return {
    ...(await debianConfig(suite, rest)),
    append: APPEND,
    initrd: await debianInitramfs({ suite, modules: ['hv_sock'], extra }),
  };
}

const SCRIPT = `
echo "ECHO: $(echo hello from the guest | socat -t 20 - VSOCK-CONNECT:2:7)"
echo "MANY: $(socat -t 20 - VSOCK-CONNECT:2:7 </noise | md5sum)"
socat - VSOCK-CONNECT:2:8 </dev/null 2>/tmp/refused; echo "REFUSED: $?"
socat -u VSOCK-LISTEN:5000 OPEN:/tmp/got,creat & socat VSOCK-LISTEN:5001,fork EXEC:'busybox tr a-z A-Z' & sleep 1
echo LISTENING
wait %1; echo "GOT: $(md5sum </tmp/got)"
sleep 7
echo "DEVICES: $(ls /sys/bus/vmbus/drivers/hv_sock | grep -c -- -facb-11e6-)"
`;

/** Somebody outside who connects to a port of the guest, writes all the guest takes, ends, and reads to the end. */
class Outside {
  readonly #guest: Recorded;
  readonly id: number;
  readonly got: Uint8Array[] = [];
  readonly kinds: string[] = [];
  #left: Uint8Array;

  constructor(guest: Recorded, id: number, port: number, data: Uint8Array) {
    this.#guest = guest;
    this.id = id;
    this.#left = data;
    guest.machine.socketInput({ kind: 'connect', id, port });
  }

  request(r: SocketRequest): void {
    if (r.kind === 'restart' || r.id !== this.id) return;
    if (r.kind !== 'credit' && r.kind !== 'write') this.kinds.push(r.kind);
    this.#due.push(r);
  }

  readonly #due: SocketRequest[] = [];

  /** Between slices. */
  act(): void {
    const { machine } = this.#guest;
    const { id } = this;
    for (const r of this.#due.splice(0)) {
      if (r.kind === 'write') {
        this.got.push(r.data);
        machine.socketInput({ kind: 'written', id, bytes: r.data.length });
      } else if (r.kind === 'credit' && this.#left.length > 0) {
        machine.socketInput({ kind: 'data', id, data: this.#left.slice(0, r.bytes) });
        this.#left = this.#left.slice(r.bytes);
        if (this.#left.length === 0) machine.socketInput({ kind: 'end', id });
      }
    }
  }
}

for (const [suite, cpus] of [
  ['own', 1],
  ['sid', 4],
] as const)
  test(`programs of the guest talk to the host and the host to them, half-closed and in full (${suite}, ${cpus} VPs)`, async () => {
    const guest = new Recorded(await guestWith(SCRIPT, { suite, cpus, sockets: { mode: 'internal' } }));
    const { machine } = guest;
    const parties: Outside[] = [];
    machine.onSocket = (r) => {
      for (const p of parties) p.request(r);
    };
    for (;;) {
      const exit = machine.run({ instructions: 5_000_000, nanoseconds: 20_000_000 });
      for (const p of parties) p.act();
      if (exit.kind === 'power-off') break;
      // In the middle of whatever it does: it must not notice.
      if (cpus === 1) machine.restore(machine.snapshot());
      assert.equal(exit.kind, 'limit', guest.console.slice(-3000));
      assert.ok(machine.now < 100e9, guest.console.slice(-3000));
      if (parties.length > 0 || !guest.console.includes('LISTENING')) continue;
      parties.push(new Outside(guest, -1, 5000, noise(300_000)));
      parties.push(new Outside(guest, -2, 5001, new TextEncoder().encode('to capitals')));
      parties.push(new Outside(guest, -3, 5002, new Uint8Array(1)));
    }
    assert.doesNotMatch(guest.console, TROUBLE);
    const said = (key: string) => new RegExp(`^${key}: (.*?)\\r?$`, 'm').exec(guest.console)?.[1];
    assert.deepEqual(
      {
        echo: said('ECHO'),
        many: said('MANY'),
        refused: said('REFUSED'),
        got: said('GOT'),
        devices: said('DEVICES'),
        capitals: Buffer.concat(parties[1].got).toString(),
        ends: parties.map((p) => p.kinds),
      },
      {
        echo: 'hello from the guest',
        many: `${md5(noise(300_000))}  -`,
        refused: '1',
        got: `${md5(noise(300_000))}  -`,
        devices: '0',
        capitals: 'TO CAPITALS',
        ends: [['accepted', 'end', 'abort'], ['accepted', 'end', 'abort'], ['abort']],
      },
    );
  });

test('programs of this computer are at ports of the host, and go to ports of the guest', async () => {
  const node = (script: string): string[] => [process.execPath, '-e', script];
  const sockets = new GuestSockets({
    mode: 'programs',
    hostPrograms: { 5000: node('process.stdin.on("data", (d) => process.stdout.write(String(d).toUpperCase()))') },
    guestPrograms: {
      6000: node('process.stdout.write("question\\n"); process.stdin.on("data", (d) => console.error(String(d)))'),
    },
  });
  const guest = new Recorded(
    await guestWith(
      `
echo "FIRST: $(echo one | socat -t 20 - VSOCK-CONNECT:2:5000)"
echo "SECOND: $(echo two | socat -t 20 - VSOCK-CONNECT:2:5000)"
sleep 8; socat VSOCK-LISTEN:6000 SYSTEM:'read -r q; echo answer to $q' & sleep 3
echo ASKED; read -r go`,
      { sockets: sockets.config },
    ),
  );
  const { machine } = guest;
  const notes: string[] = [];
  sockets.connect(
    machine,
    (text) => notes.push(text),
    () => {},
  );
  try {
    for (let answered = false; ; ) {
      const before = machine.now - machine.instructions;
      const exit = machine.run({ instructions: 5_000_000, nanoseconds: 20_000_000 });
      if (exit.kind === 'power-off') break;
      assert.equal(exit.kind, 'limit', guest.console.slice(-2000));
      assert.ok(machine.now < 100e9, guest.console.slice(-2000));
      // An idle guest's time goes by no faster than ours, or nearly so.
      const idle = machine.now - machine.instructions - before > 18_000_000;
      await new Promise((resolve) => setTimeout(resolve, idle ? 5 : 0));
      if (answered || !guest.console.includes('ASKED') || notes.length === 0) continue;
      answered = true;
      machine.consoleInput(Uint8Array.of(13));
    }
  } finally {
    sockets.close();
  }
  assert.doesNotMatch(guest.console, TROUBLE);
  const said = (key: string) => new RegExp(`^${key}: (.*?)\\r?$`, 'm').exec(guest.console)?.[1];
  assert.deepEqual([said('FIRST'), said('SECOND'), notes], ['ONE', 'TWO', [`sockets: ${process.execPath}: answer to question`]]);
});

test('hyperstep run in a pipe: its standard input and output are a connection of the guest, its console is on the standard error', async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-stdio-'));
  try {
    const initrd = path.join(folder, 'initrd');
    const { kernel } = await debianGuest();
    const script = "socat VSOCK-CONNECT:2:9 SYSTEM:'read -r a b; echo $b $a; md5sum'";
    const config = await guestWith(script);
    fs.writeFileSync(initrd, config.initrd ?? '');
    const args = ['run', '--kernel', kernel, '--initrd', initrd, '--append', config.append, '--sockets', 'stdio,host=9'];
    const child = spawn(process.execPath, ['--import', 'tsx', 'debug-adapter/cli.ts', ...args]);
    const [out, err]: [Buffer[], Buffer[]] = [[], []];
    child.stdout.on('data', (d) => out.push(d));
    child.stderr.on('data', (d) => err.push(d));
    child.stdin.write('left right\n');
    child.stdin.end(noise(200_000));
    const status = await new Promise((resolve) => child.on('exit', resolve));
    const console = Buffer.concat(err).toString('latin1');
    assert.equal(status, 0, console.slice(-2000));
    assert.match(console, /^TEST-END/m);
    assert.doesNotMatch(console, TROUBLE);
    assert.equal(Buffer.concat(out).toString(), `right left\n${md5(noise(200_000))}  -\n`);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});
