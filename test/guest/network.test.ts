import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import dgram from 'node:dgram';
import { once } from 'node:events';
import fs from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { GuestNetwork } from '../../debug-adapter/network.ts';
import type { ChannelInfo, Exit, Inspect, Machine, MachineConfig } from '../../emulator/index.ts';
import { debianInitramfs } from '../../scripts/debian-guest.mjs';
import { debianConfig, Recorded, TROUBLE } from './debian.ts';

const md5 = (bytes: Uint8Array): string => crypto.createHash('md5').update(bytes).digest('hex');
/** What the gateway sends for GET /bytes/N. */
const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => Math.imul(i, 0x9e3779b1) >>> 24);

/** Functions that scripts use: `dhcp DEVICE`, and `key VALUE` for what the test looks at. */
const HELPERS = `
say() { echo "$1: $2"; }
mkdir -p /etc
cat >/lease <<'X'
#!/bin/sh
if [ "$1" = bound ]; then
  ip addr flush dev $interface; ip addr add $ip/$mask dev $interface
  case $interface in *.*) ;; *) ip route add default via $router; echo "nameserver $dns" >/etc/resolv.conf ;; esac
  echo "LEASE: $interface $ip $mask $router $dns $lease"
fi
X
chmod +x /lease
card() { until [ -d /sys/class/net/$1 ]; do sleep 0.05; done; ip link set $1 up; }
dhcp() { udhcpc -i $1 -s /lease -n -q -t 5 2>/dev/null; }
`;

/** A guest that runs this shell script after it has loaded its drivers. */
async function guestWith(
  script: string,
  overrides: Partial<MachineConfig> & { suite?: string } = {},
  files: Record<string, Uint8Array> = {},
): Promise<MachineConfig> {
  const { suite = 'own', ...rest } = overrides;
  const config = await debianConfig(suite, rest);
  const data = `#!/bin/sh\n${HELPERS}\n${script}\necho TEST-END\n`;
  return {
    ...config,
    append: 'console=ttyAMA0 hyperstep.run=/bin/sh,/test.sh',
    initrd: await debianInitramfs({
      suite,
      modules: ['hv_netvsc', '8021q'],
      extra: [{ path: 'test.sh', mode: 0o755, data }, ...Object.entries(files).map(([path, bytes]) => ({ path, data: bytes }))],
    }),
  };
}

/** Lines of the script's own output. */
const said = (guest: Recorded, key: string): string[] =>
  [...guest.console.matchAll(new RegExp(`^${key}: (.*?)\\r?$`, 'gm'))].map((m) => m[1]);

function healthy(guest: Recorded): void {
  assert.match(guest.console, /^TEST-END/m, guest.console.slice(-3000));
  assert.doesNotMatch(guest.console, TROUBLE);
}

const channels = (machine: Machine): ChannelInfo[] => machine.vmbus().channels.filter((c) => c.device === 'network');
const statistics = (machine: Machine): Record<string, number> =>
  channels(machine)[0].details.statistics as Record<string, number>;

/** Runs until the console shows a text that it did not show before. */
function until(guest: Recorded, text: string): void {
  const { machine } = guest;
  const from = guest.console.length;
  const limit = machine.now + 60e9;
  while (!guest.console.slice(Math.max(0, from - text.length)).includes(text)) {
    const exit = machine.run({ instructions: 2_000_000, nanoseconds: 20_000_000 });
    assert.equal(exit.kind, 'limit', guest.console.slice(-2000));
    assert.ok(machine.now < limit, `no "${text}":\n${guest.console.slice(-2000)}`);
  }
}

/** CRC-32 of Ethernet, bit by bit. */
function crc32(bytes: Uint8Array): string {
  let crc = 0xffff_ffff;
  for (const b of bytes) {
    crc ^= b;
    for (let k = 0; k < 8; k++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb8_8320 : crc >>> 1;
  }
  return ((crc ^ 0xffff_ffff) >>> 0).toString(16).padStart(8, '0');
}
const some = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * i) >> 5);

/** The gateway's connections, out of the inspect tree. */
function connections(machine: Machine): { localPort: number; queued: number }[] {
  const { devices } = (machine.inspect().state as Inspect).vmbus as {
    devices: { gateway?: { tcp: { connections: { localPort: number; queued: number }[] } } }[];
  };
  return devices.flatMap((d) => d.gateway?.tcp.connections ?? []);
}

test('DHCP, ping, DNS, download and upload through the internal network; every run is the same, from the middle of a download too', async () => {
  const upload = some(300_000);
  const config = await guestWith(
    `
card eth0; dhcp eth0
say PING "$(ping -c 3 10.0.2.2 | grep -c 'bytes from')"
say LARGE "$(ping -c 2 -s 5000 10.0.2.2 | grep -c '5008 bytes from')"
say NAME "$(nslookup server.test | tail -n +3 | grep Address | tr -s ' ')"
say NONE "$(nslookup nobody.test 2>&1 | grep -o NXDOMAIN | sort -u)"
say GET "$(wget -q -O - http://server.test/bytes/1500000 | md5sum)"
( printf 'PUT / HTTP/1.1\\r\\nContent-Length: 300000\\r\\n\\r\\n'; cat /upload ) | nc gateway 80 >/answer
say PUT "$(tail -n 1 /answer)"
say ECHO "$(nc 10.0.2.2 7 </upload | md5sum)"
nc 10.0.2.2 4444 </dev/null; say REFUSED $?
say NOWHERE "$(ping -c 1 -W 1 8.8.8.8 | grep -c 'bytes from')"
ip -6 addr add fe80::15/64 dev eth0; for i in $(seq 20); do ping6 -c 1 -W 1 fe80::2%eth0 >/dev/null 2>&1 && break; sleep 0.2; done
say PING6 "$(ping6 -c 2 fe80::2%eth0 | grep -c 'bytes from') $(ip -6 neigh | grep -o 'fe80::2 dev eth0 lladdr [0-9a-f:]*')"`,
    { network: { mode: 'internal', names: { 'Server.Test': '10.0.2.2' } } },
    { upload },
  );
  const guest = new Recorded(config);
  const { machine } = guest;
  until(guest, 'NONE:');
  while (!connections(machine).some((c) => c.localPort === 80 && c.queued > 100_000))
    assert.equal(machine.run({ instructions: 300_007 }).kind, 'limit', guest.console.slice(-2000));
  const snapshot = machine.snapshot();
  const before = machine.stateHash();
  assert.deepEqual(guest.finish(), { kind: 'power-off' });
  healthy(guest);
  assert.deepEqual(
    ['LEASE', 'PING', 'LARGE', 'NAME', 'NONE', 'GET', 'PUT', 'ECHO', 'REFUSED', 'NOWHERE', 'PING6'].map(
      (key) => said(guest, key)[0],
    ),
    [
      'eth0 10.0.2.15 24 10.0.2.2 10.0.2.3 86400',
      '3',
      '2',
      'Address: 10.0.2.2',
      'NXDOMAIN',
      `${md5(pattern(1_500_000))}  -`,
      `300000 bytes, CRC-32 ${crc32(upload)}`,
      `${md5(upload)}  -`,
      '1',
      '0',
      '2 fe80::2 dev eth0 lladdr 02:15:5d:00:00:02',
    ],
    guest.console.slice(-3000),
  );
  assert.equal(channels(machine)[0].details.version, 'NVSP 6.1');
  const end = machine.stateHash();
  machine.restore(snapshot);
  assert.equal(machine.stateHash(), before);
  assert.deepEqual(guest.finish(7_654_321), { kind: 'power-off' });
  assert.equal(machine.stateHash(), end);
  const other = new Recorded(config);
  assert.deepEqual(other.finish(), { kind: 'power-off' });
  assert.equal(other.machine.stateHash(), end);
});

test('the card comes, loses its link, gets another MTU and address, has a VLAN, and goes while the guest runs', async () => {
  const guest = new Recorded(
    await guestWith(
      `
echo WAIT-CARD; card eth0; dhcp eth0
carrier() { until [ "$(cat /sys/class/net/eth0/carrier)" = $1 ]; do sleep 0.1; done; }
up() { ping -c 1 -W 1 10.0.2.2 | grep -c 'bytes from'; }
say FIRST "$(up)"
echo WAIT-DOWN; carrier 0; say DOWN "$(up)"
echo WAIT-UP; carrier 1; say UP "$(up)"
ifconfig eth0 mtu 9000; until [ "$(up)" = 1 ]; do sleep 0.1; done
say MTU "$(cat /sys/class/net/eth0/mtu) $(ping -c 2 -s 8000 10.0.2.2 | grep -c '8008 bytes from')"
say JUMBO "$(wget -q -O - http://10.0.2.2/bytes/400000 | md5sum)"
ifconfig eth0 down; ifconfig eth0 hw ether 00:15:5d:99:88:77; ifconfig eth0 up; ip route add default via 10.0.2.2
say MAC "$(cat /sys/class/net/eth0/address) $(up)"
vconfig add eth0 5 >/dev/null; ip link set eth0.5 up; dhcp eth0.5
say VLAN "$(ping -c 2 10.128.5.2 | grep -c 'bytes from') $(wget -q -O - http://10.128.5.2/bytes/50000 | md5sum)"
echo WAIT-REMOVE; while [ -d /sys/class/net/eth0 ]; do sleep 0.05; done
echo WAIT-AGAIN; card eth0; dhcp eth0; say AGAIN "$(cat /sys/class/net/eth0/address) $(up)"`,
      { suite: 'trixie' },
    ),
  );
  const { machine } = guest;
  const longest = { 'guest-to-host': 0, 'host-to-guest': 0 };
  machine.subscribe((e) => {
    if (e.kind === 'frame') longest[e.direction] = Math.max(longest[e.direction], e.frame.length);
  });
  until(guest, 'WAIT-CARD');
  assert.deepEqual([channels(machine).length, machine.detachNetwork(), machine.setNetworkLink(true)], [0, false, false]);
  machine.attachNetwork({ mode: 'internal', vlans: [5], mac: '00:15:5d:01:02:03' });
  until(guest, 'WAIT-DOWN');
  assert.ok(longest['host-to-guest'] <= 1514);
  machine.setNetworkLink(false);
  until(guest, 'WAIT-UP');
  machine.setNetworkLink(true);
  until(guest, 'WAIT-REMOVE');
  // Whole frames of 8000 bytes and more, both ways.
  assert.ok(longest['guest-to-host'] > 8000 && longest['host-to-guest'] > 8900, JSON.stringify(longest));
  assert.ok(statistics(machine).tagged > 5);
  assert.equal(machine.detachNetwork(), true);
  until(guest, 'WAIT-AGAIN');
  machine.attachNetwork({ mode: 'internal' });
  assert.deepEqual(guest.finish(), { kind: 'power-off' });
  healthy(guest);
  assert.deepEqual(
    ['LEASE', 'FIRST', 'DOWN', 'UP', 'MTU', 'JUMBO', 'MAC', 'VLAN', 'AGAIN'].map((key) => said(guest, key)),
    [
      [
        'eth0 10.0.2.15 24 10.0.2.2 10.0.2.3 86400',
        'eth0.5 10.128.5.15 24 10.128.5.2 10.128.5.3 86400',
        'eth0 10.0.2.16 24 10.0.2.2 10.0.2.3 86400',
      ],
      ['1'],
      ['0'],
      ['1'],
      ['9000 2'],
      [`${md5(pattern(400_000))}  -`],
      ['00:15:5d:99:88:77 1'],
      [`2 ${md5(pattern(50_000))}  -`],
      ['00:15:5d:00:00:01 1'],
    ],
    guest.console.slice(-3000),
  );
});

test('with four VPs the guest opens sub-channels, and all of them carry frames both ways, large sends and checksums too', async () => {
  const upload = some(1_000_000);
  const guest = new Recorded(
    await guestWith(
      `
card eth0; dhcp eth0
until [ "$(ls -d /sys/class/net/eth0/queues/rx-* | wc -l)" = 4 ]; do sleep 0.05; done
for n in 0 1 2 3 4 5 6 7; do
  taskset $((1 << (n % 4))) sh -c "wget -q -O - http://10.0.2.2/bytes/20000$n | md5sum | sed 's/^/GET$n: /'" &
done
wait
for n in 0 1 2 3; do nc 10.0.2.2 9 -e /bin/cat /upload & done; wait
say ECHO "$(nc 10.0.2.2 7 </upload | md5sum)"
echo WAIT-GO; read -r go
rmmod hv_netvsc; say WITHOUT "$(ls /sys/class/net | grep -c eth)"
insmod /lib/modules/hv_netvsc.ko; card eth0; dhcp eth0; say WITH "$(ping -c 2 10.0.2.2 | grep -c 'bytes from')"`,
      { suite: 'trixie', cpus: 4, memory: 768, network: { mode: 'internal' } },
      { upload },
    ),
  );
  const { machine } = guest;
  until(guest, 'WAIT-GO');
  const busy = channels(machine);
  assert.deepEqual(
    busy.map((c) => [c.state, c.targetVp]).sort(),
    [0, 1, 2, 3].map((vp) => ['open', vp]),
  );
  for (const c of busy)
    assert.ok(c.packetsFromGuest > 30 && c.packetsToGuest > 30, `channel ${c.relid}: ${c.packetsFromGuest}, ${c.packetsToGuest}`);
  const { largeSends, checksums, sendErrors, noBuffer } = statistics(machine);
  assert.ok(largeSends > 20 && checksums > 100, `${largeSends}, ${checksums}`);
  assert.deepEqual([sendErrors, noBuffer, busy[0].details.receiveSideScaling], [0, 0, true]);
  machine.consoleInput(Uint8Array.of(13));
  assert.deepEqual(guest.finish(), { kind: 'power-off' });
  healthy(guest);
  for (let n = 0; n < 8; n++) assert.deepEqual(said(guest, `GET${n}`), [`${md5(pattern(200_000 + n))}  -`]);
  assert.deepEqual([said(guest, 'ECHO'), said(guest, 'WITHOUT'), said(guest, 'WITH')], [[`${md5(upload)}  -`], ['0'], ['2']]);
});

/** Runs a guest that has somebody outside, to its end. */
async function finishOutside(guest: Recorded, network: GuestNetwork): Promise<Exit> {
  const { machine } = guest;
  for (;;) {
    const before = { now: machine.now, instructions: machine.instructions };
    const exit = machine.run({ instructions: 5_000_000, nanoseconds: 20_000_000 });
    if (exit.kind !== 'limit' || machine.now > 120e9) return exit;
    const idle = machine.now - before.now - (machine.instructions - before.instructions) > 18_000_000;
    await (idle ? network.rest(20) : new Promise((resolve) => setImmediate(resolve)));
  }
}

/** Frames of a pcapng file: time in ns, direction, bytes. */
function captured(file: string): { time: bigint; outbound: boolean; frame: Uint8Array }[] {
  const data = new Uint8Array(fs.readFileSync(file));
  const view = new DataView(data.buffer);
  const out = [];
  for (let at = 0; at < data.length; at += view.getUint32(at + 4, true)) {
    const length = view.getUint32(at + 4, true);
    assert.equal(view.getUint32(at + length - 4, true), length);
    if (view.getUint32(at, true) !== 6) continue;
    const time = (BigInt(view.getUint32(at + 12, true)) << 32n) | BigInt(view.getUint32(at + 16, true));
    const frame = data.slice(at + 28, at + 28 + view.getUint32(at + 20, true));
    const flags = at + 28 + ((frame.length + 3) & ~3) + 4;
    out.push({ time, outbound: view.getUint32(flags, true) === 2, frame });
  }
  return out;
}

test('user mode: a server of this computer is reached where that is allowed, and nothing else; the capture has it all', async () => {
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-network-'));
  const capture = path.join(scratch, 'guest.pcapng');
  const download = some(700_000);
  const upload = some(500_000);
  const received: Buffer[] = [];
  // One port gives, one takes, and one nobody is allowed to.
  const giver = net.createServer((socket) => socket.on('error', () => {}).end(download)).listen(0, '127.0.0.1');
  const taker = net
    .createServer((socket) =>
      socket
        .on('error', () => {})
        .on('data', (d) => received.push(d))
        .on('end', () => socket.end('thanks')),
    )
    .listen(0, '127.0.0.1');
  let visits = 0;
  const secret = net.createServer((socket) => socket.end(`${visits++}`)).listen(0, '127.0.0.1');
  // TFTP (RFC 1350): a read request is answered with the one and last block.
  const tftp = dgram.createSocket('udp4').bind(0, '127.0.0.1');
  tftp.on('message', (m, from) => {
    if (m[1] === 1)
      tftp.send(
        Buffer.concat([Buffer.of(0, 3, 0, 1), Buffer.from(`you asked for ${m.subarray(2, 7)}`)]),
        from.port,
        from.address,
      );
  });
  await Promise.all([giver, taker, secret, tftp].map((s) => once(s, 'listening')));
  const [give, take, hidden] = [giver, taker, secret].map((s) => (s.address() as AddressInfo).port);
  const files = tftp.address().port;
  const network = new GuestNetwork({
    mode: 'user',
    allow: [`localhost:${give}`, `tcp:127.0.0.1:${take}`, `udp:127.0.0.1:${files}`],
    names: { host: '10.0.2.2' },
    capture,
  });
  try {
    const config = await guestWith(
      `
card eth0; dhcp eth0
say GET "$(nc host ${give} </dev/null | md5sum)"
say PUT "$(nc host ${take} </upload)"
tftp -g -l /file -r hello host ${files}; say UDP "$(cat /file)"
nc host ${hidden} </dev/null; say HIDDEN $?
nc -w 3 127.1.1.1 80 </dev/null >/dev/null 2>&1; nc -w 3 192.0.2.1 80 </dev/null; say ELSE $?
say NAME "$(nslookup example.org 2>&1 | grep -o REFUSED | sort -u)"`,
      { network: network.config },
      { upload },
    );
    const guest = new Recorded(config);
    const notes: string[] = [];
    network.connect(guest.machine, config.startTime, (text) => notes.push(text));
    assert.deepEqual(await finishOutside(guest, network), { kind: 'power-off' }, guest.console.slice(-2000));
    healthy(guest);
    network.close();
    assert.deepEqual(
      ['GET', 'PUT', 'UDP', 'HIDDEN', 'ELSE', 'NAME'].map((key) => said(guest, key)[0]),
      [`${md5(download)}  -`, 'thanks', 'you asked for hello', '1', '1', 'REFUSED'],
      guest.console.slice(-3000),
    );
    assert.deepEqual([md5(Buffer.concat(received)), visits], [md5(upload), 0]);
    assert.deepEqual(notes, [
      `network: TCP to 127.0.0.1:${hidden} is not in "allow"`,
      'network: TCP to 192.0.2.1:80 is not in "allow"',
      'network: the name example.org is not in "allow"',
    ]);
    // Everything that came in is in the input log, with the instruction count.
    const { entries: inputLog } = (guest.machine.inspect().state as Inspect).inputs as {
      entries: { instructions: number; network?: { kind: string } }[];
    };
    const counts = inputLog.map((e) => e.instructions);
    assert.ok(inputLog.filter((e) => e.network?.kind === 'data').length >= 2);
    assert.deepEqual(
      counts,
      [...counts].sort((a, b) => a - b),
    );
    const frames = captured(capture);
    const { sentFrames, receivedFrames, filtered } = statistics(guest.machine);
    assert.deepEqual(
      [frames.filter((f) => f.outbound).length, frames.filter((f) => !f.outbound).length],
      [sentFrames, receivedFrames + filtered],
    );
    const times = frames.map((f) => f.time);
    const start = BigInt(config.startTime) * 1_000_000n;
    assert.ok(times.every((t, i) => t > start && t < start + 120_000_000_000n && (i === 0 || t >= times[i - 1])));
    // What the guest sent to the taker, put together again by sequence number out of the capture.
    const segments = new Map<number, Uint8Array>();
    for (const { outbound, frame } of frames) {
      const tcp = outbound && frame[23] === 6 && new DataView(frame.buffer).getUint16(36) === take;
      if (!tcp) continue;
      const data = frame.subarray(34 + (frame[46] >> 4) * 4, 14 + ((frame[16] << 8) | frame[17]));
      if (data.length > 0) segments.set(new DataView(frame.buffer).getUint32(38), data);
    }
    const inOrder = [...segments.values()];
    assert.equal(md5(Buffer.concat(inOrder)), md5(upload));
  } finally {
    network.close();
    for (const s of [giver, taker, secret, tftp]) s.close();
    fs.rmSync(scratch, { recursive: true, force: true });
  }
});
