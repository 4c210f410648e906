/** Snapshots through a load: a machine that is saved and goes on in another one, again and again, ends as one that was left alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { debianInitramfs, debianProgram } from '../../scripts/debian-guest.mjs';
import { type Exit, type Machine, type MachineConfig, openImage } from '../../emulator/index.ts';
import { createMachine } from '../../emulator/load.ts';
import { file } from '../unit/host/fixtures.ts';
import { debianConfig, TROUBLE } from './debian.ts';

const MIB = 2 ** 20;

/** A file system is made, written, read back; meanwhile TCP goes both ways. The sums are computed by the guest from what came back. */
const SCRIPT = `#!/bin/sh
PATH=/bin
cat >/lease <<'X'
#!/bin/sh
[ "$1" = bound ] && ip addr add $ip/$mask dev $interface
X
chmod +x /lease
until [ -d /sys/class/net/eth0 ] && [ -b /dev/sda ]; do sleep 0.05; done
ip link set eth0 up; udhcpc -i eth0 -s /lease -n -q -t 5 2>/dev/null
dd if=/dev/urandom of=/noise bs=64k count=24 2>/dev/null
echo LOAD-BEGIN
( mkfs.ext4 -q /dev/sda && mkdir /m && mount -t ext4 /dev/sda /m
  for i in 1 2 3; do cat /noise >>/m/file; sync; done; umount /m
  echo 3 >/proc/sys/vm/drop_caches; mount -t ext4 /dev/sda /m
  [ "$(md5sum </m/file)" = "$(cat /noise /noise /noise | md5sum)" ] && echo "DISK: same"; umount /m ) &
( [ "$(nc 10.0.2.2 7 </noise | md5sum)" = "$(md5sum </noise)" ] && echo "ECHO: same" ) &
( echo "GET: $(wget -q -O - http://10.0.2.2/bytes/4000000 | wc -c)" ) &
wait
echo LOAD-END
`;

/** A guest that may be continued by one machine after the other. */
class Relay {
  readonly #config: MachineConfig;
  readonly #bytes: Uint8Array[] = [];
  machine: Machine;
  moves = 0;

  constructor(config: MachineConfig) {
    this.#config = config;
    this.machine = this.#create();
  }

  #create(): Machine {
    const machine = createMachine(this.#config);
    machine.onConsole = (b) => {
      this.#bytes.push(b);
    };
    return machine;
  }

  get console(): string {
    return Buffer.concat(this.#bytes).toString('latin1');
  }

  /** Goes on in a machine that has done nothing but to be made. */
  move(): void {
    const snapshot = this.machine.snapshot();
    this.machine = this.#create();
    this.machine.restore(snapshot);
    this.moves++;
  }

  /** A copy of the guest as it is now. */
  fork(): Relay {
    const copy = new Relay(this.#config);
    copy.machine.restore(this.machine.snapshot());
    copy.#bytes.push(...this.#bytes);
    return copy;
  }

  /** Requests of the disk that are under way, and bytes in the rings of disk and network that their reader has not seen yet. */
  busy(): number {
    let busy = 0;
    for (const c of this.machine.vmbus().channels) {
      if (c.device !== 'scsi' && c.device !== 'network') continue;
      busy += Number(c.details.requests ?? 0) + (c.outgoing?.used ?? 0) + (c.incoming?.used ?? 0);
    }
    return busy;
  }

  loaded(): 'before' | 'during' | 'after' {
    const text = this.console;
    return text.includes('LOAD-END') ? 'after' : text.includes('LOAD-BEGIN') ? 'during' : 'before';
  }
}

test('a guest that goes on in another machine every 10 ms and at any instruction, under load, ends as one that was left alone', async () => {
  const config: MachineConfig = {
    ...(await debianConfig('own', { memory: 256, cpus: 2 })),
    append: 'console=ttyAMA0 hyperstep.run=/bin/sh,/test.sh',
    initrd: await debianInitramfs({
      modules: ['hv_storvsc', 'sd_mod', 'hv_netvsc'],
      extra: [...debianProgram('e2fsprogs', 'mke2fs', 'bin/mkfs.ext4'), { path: 'test.sh', mode: 0o755, data: SCRIPT }],
    }),
    network: { mode: 'internal' },
    disks: [{ name: 'data', disk: openImage(file(new Uint8Array(16 * MIB), 'data.img')) }],
  };
  const finish = (guest: Relay): Exit => guest.machine.run({ instructions: 10_000_000_000 });

  const alone = new Relay(config);
  assert.deepEqual(finish(alone), { kind: 'power-off' }, alone.console.slice(-2000));
  assert.doesNotMatch(alone.console, TROUBLE);
  assert.match(alone.console, /^DISK: same\r?$/m);
  assert.match(alone.console, /^ECHO: same\r?$/m);
  assert.match(alone.console, /^GET: 4000000\r?$/m);
  const end = alone.machine.stateHash();

  // Every 10 ms of virtual time from the load's beginning to its end.
  const moved = new Relay(config);
  let cut: Relay | undefined;
  let exit: Exit = { kind: 'limit' };
  while (exit.kind === 'limit') {
    exit = moved.machine.run({ nanoseconds: 10_000_000 });
    if (moved.loaded() !== 'during') continue;
    cut ??= moved.fork();
    moved.move();
  }
  assert.deepEqual([exit, moved.machine.stateHash()], [{ kind: 'power-off' }, end]);
  assert.equal(moved.console, alone.console);
  assert.ok(moved.moves >= 30, `${moved.moves} moves`);

  // At instructions that nobody has chosen: two of three in the middle of something, some of them one after the other.
  assert.ok(cut);
  let x = 1;
  const random = (below: number): number => {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    return 1 + Math.floor((x / 2 ** 32) * below);
  };
  while (cut.moves < 24) {
    const anywhere = cut.moves % 3 === 0;
    do {
      const instructions = random(anywhere ? 12_000_000 : 3000);
      assert.deepEqual(cut.machine.run({ instructions }), { kind: 'limit' });
    } while (!anywhere && cut.busy() === 0);
    cut.move();
  }
  assert.equal(cut.loaded(), 'during');
  assert.deepEqual([finish(cut), cut.machine.stateHash()], [{ kind: 'power-off' }, end]);
  assert.equal(cut.console, alone.console);
});
