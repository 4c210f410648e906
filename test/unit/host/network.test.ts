import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { Allowed, UserNetwork } from '../../../emulator/host/network/index.ts';
import { pcapngFrame, pcapngHeader } from '../../../emulator/host/pcapng.ts';
import type { NetworkEvent, NetworkRequest } from '../../../emulator/index.ts';

test('patterns: addresses, networks, names, ports and ranges, TCP or UDP alone', () => {
  const a = new Allowed(['tcp:10.1.0.0/16:80', '192.168.1.7:8000-8010', 'udp:1.1.1.1:53', 'localhost:*', '0.0.0.0/0:443']);
  const cases: [boolean, 'tcp' | 'udp', string, number][] = [
    [true, 'tcp', '10.1.255.3', 80],
    [false, 'udp', '10.1.255.3', 80],
    [false, 'tcp', '10.2.0.1', 80],
    [false, 'tcp', '10.1.0.1', 81],
    [true, 'udp', '192.168.1.7', 8010],
    [false, 'tcp', '192.168.1.7', 8011],
    [true, 'udp', '1.1.1.1', 53],
    [false, 'tcp', '1.1.1.1', 53],
    [true, 'tcp', '127.0.0.1', 22],
    [false, 'tcp', '127.0.0.2', 22],
    [true, 'tcp', '93.184.216.34', 443],
    [false, 'tcp', '::1', 443],
    [false, 'tcp', 'localhost', 443],
  ];
  for (const [want, protocol, address, port] of cases)
    assert.equal(a.allows(protocol, address, port), want, `${protocol} ${address}:${port}`);
  assert.equal(new Allowed([]).allows('tcp', '127.0.0.1', 80), false);
});

test('names: only those of the list are looked up, their addresses are allowed for their ports, and none leads home', () => {
  const a = new Allowed(['Example.org:443', '*.example.net:80']);
  assert.deepEqual(
    ['example.org', 'EXAMPLE.ORG.', 'www.example.org', 'a.example.net', 'example.net', 'evilexample.net'].map((n) => a.name(n)),
    [true, true, false, true, false, false],
  );
  const found = a.resolved('example.org', [
    '93.184.216.34',
    '127.0.0.1',
    '169.254.169.254',
    '0.0.0.0',
    '224.0.0.1',
    '::1',
    '10.0.0.1',
  ]);
  assert.deepEqual(found, ['93.184.216.34', '10.0.0.1']);
  a.resolved('a.example.net', ['1.2.3.4', '93.184.216.34']);
  assert.deepEqual(
    [
      a.allows('tcp', '93.184.216.34', 443),
      a.allows('tcp', '93.184.216.34', 80),
      a.allows('tcp', '1.2.3.4', 80),
      a.allows('tcp', '1.2.3.4', 443),
      a.allows('tcp', '127.0.0.1', 443),
    ],
    [true, true, true, false, false],
  );
});

test('allow: a guest that asks for ever more names loses the oldest addresses, not those it asks for again', () => {
  const a = new Allowed(['*.example.net:80']);
  const address = (n: number): string => `11.${n >> 16}.${(n >> 8) & 255}.${n & 255}`;
  for (let n = 0; n < 20_000; n++) a.resolved(`${n}.example.net`, [address(n), address(0)]);
  assert.deepEqual(
    [0, 1, 3000, 4000, 19_999].map((n) => a.allows('tcp', address(n), 80)),
    [true, false, false, true, true],
  );
});

test('patterns that are none are refused in one line', () => {
  for (const text of [
    'example.org',
    'a:b:c',
    'x:0',
    'x:70000',
    'x:9-3',
    '10.0.0.0/33:80',
    '10.0.0.0/8/8:80',
    '300.1.1.1:80',
    'ex ample:80',
    ':80',
    '*:80',
  ])
    assert.throws(() => new Allowed([text]), { message: /^network: "allow": ".*": .*; expected HOST:PORT/ }, text);
});

/** A `UserNetwork` whose events are waited for. */
class Outside {
  readonly events: NetworkEvent[] = [];
  readonly notes: string[] = [];
  readonly network: UserNetwork;
  #more: () => void = () => {};

  constructor(allow: string[]) {
    this.network = new UserNetwork(
      new Allowed(allow),
      (event) => {
        this.events.push(event);
        this.#more();
      },
      (message) => this.notes.push(message),
    );
  }
  ask(request: NetworkRequest): void {
    const { length } = this.events;
    this.network.request(request);
    assert.equal(this.events.length, length, 'an event during a request');
  }
  /** The next event. */
  async next(): Promise<NetworkEvent> {
    while (this.events.length === 0)
      await new Promise<void>((resolve) => {
        this.#more = resolve;
      });
    return this.events.shift() as NetworkEvent;
  }
  /** Data until `length` bytes are there. */
  async bytes(length: number): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    for (let n = 0; n < length; ) {
      const e = await this.next();
      assert.equal(e.kind, 'data');
      if (e.kind !== 'data') continue;
      parts.push(e.data);
      n += e.data.length;
    }
    return Buffer.concat(parts);
  }
}

async function listening(onSocket: (socket: net.Socket) => void): Promise<{ server: net.Server; port: number }> {
  const server = net.createServer({ allowHalfOpen: true }, onSocket).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port };
}

test('a connection: bytes both ways, no more than there is credit for, and an end on each side', async () => {
  const big = Buffer.alloc(300_000, 'x');
  const { server, port } = await listening((socket) => {
    socket.once('data', (data) => {
      socket.write(`got ${data}`);
      socket.end(big);
    });
  });
  const o = new Outside([`127.0.0.1:${port}`]);
  o.ask({ kind: 'connect', id: 1, address: '127.0.0.1', port });
  assert.deepEqual(await o.next(), { kind: 'connected', id: 1 });
  o.ask({ kind: 'write', id: 1, data: Buffer.from('hello') });
  assert.deepEqual(await o.next(), { kind: 'written', id: 1, bytes: 5 });
  o.ask({ kind: 'credit', id: 1, bytes: 9 });
  assert.equal(String(await o.bytes(9)), 'got hello');
  o.ask({ kind: 'credit', id: 1, bytes: 1000 });
  assert.equal((await o.bytes(1000)).length, 1000);
  // Without credit nothing comes, however long it takes.
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(o.events, []);
  o.ask({ kind: 'credit', id: 1, bytes: 400_000 });
  assert.equal((await o.bytes(299_000)).length, 299_000);
  assert.deepEqual(await o.next(), { kind: 'end', id: 1 });
  o.ask({ kind: 'end', id: 1 });
  o.network.close();
  server.close();
});

test('what is not allowed, what refuses, what breaks off, what nobody knows', async () => {
  const sockets: net.Socket[] = [];
  const { server, port } = await listening((socket) => sockets.push(socket.on('error', () => {})));
  const closed = await listening(() => {});
  closed.server.close();
  await once(closed.server, 'close');
  const o = new Outside([`127.0.0.1:${port}`, `127.0.0.1:${closed.port}`]);
  o.ask({ kind: 'connect', id: 1, address: '127.0.0.1', port: 1 });
  assert.deepEqual([await o.next(), o.notes], [{ kind: 'refused', id: 1 }, ['TCP to 127.0.0.1:1 is not in "allow"']]);
  o.ask({ kind: 'connect', id: 2, address: '127.0.0.1', port: closed.port });
  assert.deepEqual(await o.next(), { kind: 'refused', id: 2 });
  o.ask({ kind: 'connect', id: 3, address: '127.0.0.1', port });
  await o.next();
  o.ask({ kind: 'credit', id: 3, bytes: 100 });
  while (sockets.length === 0) await new Promise((resolve) => setImmediate(resolve));
  sockets[0].resetAndDestroy();
  assert.deepEqual(await o.next(), { kind: 'reset', id: 3 });
  o.ask({ kind: 'write', id: 3, data: Buffer.from('x') });
  assert.deepEqual(await o.next(), { kind: 'reset', id: 3 });
  o.ask({ kind: 'resolve', id: 4, name: 'example.org' });
  assert.deepEqual(await o.next(), { kind: 'resolved', id: 4, addresses: [], status: 'refused' });
  // A restart lets go of everything, and says so; what was asked before is not answered any more.
  o.ask({ kind: 'connect', id: 5, address: '127.0.0.1', port });
  await o.next();
  o.ask({ kind: 'write', id: 77, data: Buffer.from('x') });
  o.ask({ kind: 'restart' });
  assert.deepEqual([await o.next(), o.events], [{ kind: 'restarted' }, []]);
  o.network.close();
  server.close();
});

test('datagrams go where they may, and answers come from there alone', async () => {
  const server = dgram.createSocket('udp4').bind(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.on('message', (m, from) => server.send(`${m}!`, from.port, from.address));
  const o = new Outside([`udp:127.0.0.1:${port}`]);
  o.ask({ kind: 'datagram', id: 1, address: '127.0.0.1', port: port ^ 1, data: Buffer.from('x') });
  assert.deepEqual(o.notes, [`UDP to 127.0.0.1:${port ^ 1} is not in "allow"`]);
  o.ask({ kind: 'datagram', id: 2, address: '127.0.0.1', port, data: Buffer.from('hello') });
  const answer = await o.next();
  assert.ok(answer.kind === 'datagram' && answer.id === 2 && String(Buffer.from(answer.data)) === 'hello!');
  o.ask({ kind: 'forget', id: 2 });
  o.network.close();
  server.close();
});

test('a capture: section, interface in nanoseconds, frames with time, length and direction', () => {
  const header = pcapngHeader('eth0', 'a card');
  const frame = pcapngFrame(Uint8Array.of(1, 2, 3, 4, 5), 1_767_225_600_000_000_123n, true);
  const text = (b: Uint8Array): string => Buffer.from(b).toString('hex');
  assert.equal(
    text(header),
    // Section: magic, 1.0, length unknown; the application.
    `0a0d0d0a 30000000 4d3c2b1a 0100 0000 ffffffffffffffff 0400 0900 ${text(Buffer.from('Hyperstep'))}000000 00000000 30000000`.replaceAll(
      ' ',
      '',
    ) +
      // Interface: Ethernet, whole frames; name, description, 10^-9 s.
      `01000000 34000000 0100 0000 00000000 0200 0400 ${text(Buffer.from('eth0'))} 0300 0600 ${text(Buffer.from('a card'))}0000 0900 0100 09000000 00000000 34000000`.replaceAll(
        ' ',
        '',
      ),
  );
  const time = 1_767_225_600_000_000_123n;
  const le = (n: bigint): string => text(Uint8Array.from({ length: 4 }, (_, i) => Number((n >> BigInt(8 * i)) & 0xffn)));
  assert.equal(
    text(frame),
    `06000000 34000000 00000000 ${le(time >> 32n)} ${le(time)} 05000000 05000000 0102030405000000 0200 0400 02000000 00000000 34000000`.replaceAll(
      ' ',
      '',
    ),
  );
});
