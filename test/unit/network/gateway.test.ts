import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ipv6Answer } from '../../../emulator/network/ipv6.ts';
import { assign, capture } from '../../../emulator/snapshot.ts';
import {
  ascii,
  BROADCAST,
  be16,
  be32,
  bytes,
  checksum,
  Client,
  eth,
  GATEWAY_MAC,
  GUEST_MAC,
  hex,
  icmp,
  ip,
  ipv4,
  join,
  mac,
  type Seen,
  seeTcp,
  tcp,
  text,
  udp,
  Wire,
} from './guest-stack.ts';

const MS = 1_000_000;
const GUEST = '10.0.2.15';
const GATEWAY = '10.0.2.2';
const DNS = '10.0.2.3';

const arp = (operation: number, from: string, target: string, sender = GUEST_MAC): Uint8Array =>
  join([0, 1, 8, 0, 6, 4], be16(operation), mac(sender), ip(from), mac('00:00:00:00:00:00'), ip(target));
const noise = (length: number, seed: number): Uint8Array => {
  let x = seed;
  return Uint8Array.from({ length }, () => {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    return x >>> 16;
  });
};

test('ARP: the gateway and its DNS server say where they are, to probes too, and nobody else does', () => {
  const w = new Wire();
  for (const [from, target, answered] of [
    [GUEST, GATEWAY, true],
    [GUEST, DNS, true],
    ['0.0.0.0', GATEWAY, true],
    [GUEST, '10.0.2.7', false],
    [GUEST, GUEST, false],
    ['192.168.1.1', GATEWAY, false],
    [GATEWAY, GATEWAY, false],
  ] as const) {
    const answers = w.say(eth(0x806, arp(1, from, target), BROADCAST));
    const want = join([0, 1, 8, 0, 6, 4, 0, 2], mac(GATEWAY_MAC), ip(target), mac(GUEST_MAC), ip(from));
    assert.deepEqual(
      answers.map((a) => [a.to, a.type, hex(a.payload)]),
      answered ? [[GUEST_MAC, 0x806, hex(want)]] : [],
      `${from} asks for ${target}`,
    );
  }
});

test('IPv6: the gateway is a neighbour and answers echoes, to it and to all nodes, and nothing that is wrong', () => {
  const ip6 = (text: string): number[] => {
    const [head, tail = ''] = text.split('::');
    const groups = (s: string): number[] => (s ? s.split(':').flatMap((g) => be16(Number.parseInt(g, 16))) : []);
    return [...groups(head), ...new Array(16 - groups(head).length - groups(tail).length).fill(0), ...groups(tail)];
  };
  const ipv6 = (from: string, to: string, hops: number, message: Uint8Array): Uint8Array =>
    join([0x60, 0, 0, 0], be16(message.length), [58, hops], ip6(from), ip6(to), message);
  const icmp6 = (from: string, to: string, type: number, rest: number[], ...data: number[][]): Uint8Array => {
    const body = join([type, 0, 0, 0], rest, ...data);
    body.set(be16(checksum(ip6(from), ip6(to), be32(body.length), [0, 0, 0, 58], body)), 2);
    return body;
  };
  const [me, gateway, all, node] = ['fe80::215:5dff:fe00:1', 'fe80::2', 'ff02::1', 'ff02::1:ff00:2'];
  const w = new Wire();
  const say = (from: string, to: string, hops: number, message: Uint8Array) =>
    w.say(eth(0x86dd, ipv6(from, to, hops, message), '33:33:ff:00:00:02')).map((a) => [a.to, a.type, hex(a.payload)]);
  const ask = (from: string, to: string, target = gateway, hops = 255, option = [1, 1, ...mac(GUEST_MAC)]) =>
    say(from, to, hops, icmp6(from, to, 135, be32(0), ip6(target), option));
  const answer = (to: string, flags: number) =>
    hex(ipv6(gateway, to, 255, icmp6(gateway, to, 136, be32(flags), ip6(gateway), [2, 1, ...mac(GATEWAY_MAC)])));
  assert.deepEqual(ask(me, node), [[GUEST_MAC, 0x86dd, answer(me, 0x6000_0000)]]);
  assert.deepEqual(ask(me, gateway), [[GUEST_MAC, 0x86dd, answer(me, 0x6000_0000)]]);
  assert.deepEqual(ask('::', node, gateway, 255, []), [['33:33:00:00:00:01', 0x86dd, answer(all, 0x2000_0000)]]);
  // Somebody else's address; through a router; an option without a length; to everybody.
  assert.deepEqual(
    [ask(me, node, 'fe80::3'), ask(me, node, gateway, 64), ask(me, node, gateway, 255, [1, 0, 0, 0]), ask(me, all)],
    [[], [], [], []],
  );
  const echo = (from: string, to: string) => say(from, to, 64, icmp6(from, to, 128, [1, 2, 3, 4], [9, 9, 9]));
  const echoed = hex(ipv6(gateway, me, 64, icmp6(gateway, me, 129, [1, 2, 3, 4], [9, 9, 9])));
  assert.deepEqual([echo(me, gateway), echo(me, all)], [[[GUEST_MAC, 0x86dd, echoed]], [[GUEST_MAC, 0x86dd, echoed]]]);
  assert.deepEqual([echo('::', gateway), echo('ff02::1', gateway), echo(me, 'fe80::3')], [[], [], []]);
  const damaged = ipv6(me, gateway, 64, icmp6(me, gateway, 128, [1, 2, 3, 4], [9]));
  damaged[44] ^= 1;
  assert.deepEqual(w.say(eth(0x86dd, damaged)), []);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), fc.nat(120), (payload, cut) => {
      const whole = ipv6(me, gateway, 255, join(icmp6(me, node, 135, be32(0), ip6(gateway)), payload));
      for (const p of [payload, whole, whole.subarray(0, cut)])
        ipv6Answer({ destination: 0, source: 1, tag: undefined, type: 0x86dd, payload: p }, 2);
    }),
  );
});

test('ping: small, in fragments both ways, and to where nothing is', () => {
  const w = new Wire();
  const data = noise(56, 1);
  const echo = icmp(8, [1, 2, 3, 4], data);
  const [answer] = w.ip(ipv4(GUEST, GATEWAY, 1, echo));
  assert.deepEqual(
    [answer.source, answer.destination, answer.data?.[0], hex(answer.data?.subarray(4) ?? data)],
    [GATEWAY, GUEST, 0, `01020304${hex(data)}`],
  );
  // 5008 bytes in four pieces that arrive in any order.
  const large = icmp(8, [9, 9, 9, 9], noise(5000, 2));
  const pieces = [0, 1480, 2960, 4440].map((offset) => {
    const more = offset < 4440;
    return ipv4(GUEST, GATEWAY, 1, large.subarray(offset, more ? offset + 1480 : undefined), { id: 77, offset, more });
  });
  const back: Seen[] = [2, 0, 3, 1].flatMap((n) => w.ip(pieces[n]));
  assert.deepEqual(
    back.map((s) => [s.offset, s.more, s.data?.length]),
    [
      [0, true, 1480],
      [1480, true, 1480],
      [2960, true, 1480],
      [4440, false, 568],
    ],
  );
  assert.equal(hex(join(...back.map((s) => s.data ?? [])).subarray(4)), hex(large.subarray(4)));
  assert.equal(w.state.assemblies.length, 0);
  // Pieces that overlap are dropped with all they belong to.
  w.ip(pieces[0]);
  w.ip(ipv4(GUEST, GATEWAY, 1, large.subarray(1400, 1480), { id: 77, offset: 1400, more: true }));
  assert.deepEqual([w.state.assemblies.length, w.frames.length], [0, 0]);
  const [unreachable] = w.ip(ipv4(GUEST, '8.8.8.8', 1, echo));
  assert.deepEqual(
    [unreachable.source, unreachable.data?.[0], unreachable.data?.[1], hex(unreachable.data?.subarray(8, 36) ?? data)],
    [GATEWAY, 3, 0, hex(ipv4(GUEST, '8.8.8.8', 1, echo).subarray(0, 28))],
  );
});

/** A BOOTP message with DHCP options. */
const dhcp = (type: number, options: number[] = [], fields: { client?: string; ciaddr?: string; broadcast?: boolean } = {}) => {
  const { client = GUEST_MAC, ciaddr = '0.0.0.0', broadcast = false } = fields;
  const head = [
    1,
    1,
    6,
    0,
    0xde,
    0xad,
    0xbe,
    0xef,
    0,
    0,
    broadcast ? 0x80 : 0,
    0,
    ...ip(ciaddr),
    ...new Array(12).fill(0),
    ...mac(client),
  ];
  return join(head, new Array(202).fill(0), [0x63, 0x82, 0x53, 0x63, 53, 1, type, ...options, 255]);
};
const dhcpSay = (w: Wire, message: Uint8Array, from = '0.0.0.0', to = '255.255.255.255', vlan?: number): Seen[] =>
  w.say(eth(0x800, udp(from, 68, to, 67, message), BROADCAST, GUEST_MAC, vlan));
/** Type, address and options of an answer. */
const lease = (s: Seen | undefined) => {
  assert.ok(s?.data, 'no answer');
  const m = s.data.subarray(8);
  const options: Record<number, string> = {};
  for (let at = 240; m[at] !== 255; at += 2 + m[at + 1]) options[m[at]] = hex(m.subarray(at + 2, at + 2 + m[at + 1]));
  assert.deepEqual([m[0], hex(m.subarray(4, 8)), s.source, m.length >= 300], [2, 'deadbeef', s.source, true]);
  return { to: s.to, ip: s.destination, yours: [...m.subarray(16, 20)].join('.'), options };
};

test('DHCP: an offer and a lease with router and DNS, the same one every time, a refusal for another, one for each client', () => {
  const w = new Wire();
  const offer = lease(dhcpSay(w, dhcp(1))[0]);
  assert.deepEqual(offer, {
    to: GUEST_MAC,
    ip: GUEST,
    yours: GUEST,
    options: {
      53: '02',
      54: '0a000202',
      1: 'ffffff00',
      3: '0a000202',
      6: '0a000203',
      51: '00015180',
      58: '0000a8c0',
      59: '00012750',
    },
  });
  const request = [50, 4, ...ip(GUEST), 54, 4, ...ip(GATEWAY)];
  const ack = lease(dhcpSay(w, dhcp(3, request, { broadcast: true }))[0]);
  assert.deepEqual([ack.to, ack.ip, ack.yours, ack.options[53]], [BROADCAST, '255.255.255.255', GUEST, '05']);
  const renewed = lease(dhcpSay(w, dhcp(3, [], { ciaddr: GUEST }), GUEST, GATEWAY)[0]);
  assert.deepEqual([renewed.to, renewed.ip, renewed.options[53]], [GUEST_MAC, GUEST, '05']);
  const refused = lease(dhcpSay(w, dhcp(3, [50, 4, 10, 0, 2, 99]))[0]);
  assert.deepEqual([refused.ip, refused.yours, refused.options[53]], ['255.255.255.255', '0.0.0.0', '06']);
  assert.equal(lease(dhcpSay(w, dhcp(1, [], { client: '00:15:5d:00:00:09' }))[0]).yours, '10.0.2.16');
  const informed = lease(dhcpSay(w, dhcp(8, [], { ciaddr: GUEST }), GUEST, GATEWAY)[0]);
  assert.deepEqual([informed.yours, informed.options[53], informed.options[51]], ['0.0.0.0', '05', undefined]);
  // Not for us: another server's offer is taken, a release, an answer, options that are cut off.
  for (const message of [dhcp(3, [54, 4, 1, 2, 3, 4]), dhcp(7), dhcp(2), dhcp(1).subarray(0, 241), dhcp(1, [12, 200])])
    assert.deepEqual(dhcpSay(w, message), []);
});

const question = (name: string, type = 1): Uint8Array =>
  join([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], ...name.split('.').map((l) => join([l.length], ascii(l))), [0, 0, type, 0, 1]);
const dns = (w: Wire, message: Uint8Array, server = DNS) => {
  const [s] = w.ip(udp(GUEST, 3000, server, 53, message));
  return s?.data?.subarray(8);
};
const known = (w: Wire): void => {
  w.say(eth(0x806, arp(1, GUEST, GATEWAY), BROADCAST));
};

test('DNS: names of the table in any case, the gateway, no such name, other records, requests that make no sense', () => {
  const w = new Wire({ names: { 'server.test': 0x0a00_0202 } });
  known(w);
  const found = dns(w, question('Server.TEST')) ?? bytes('');
  assert.equal(
    hex(found),
    `1234818000010001${'00000000'}${hex(question('Server.TEST').subarray(12))}c00c00010001${'0000003c'}0004${'0a000202'}`,
  );
  assert.equal(hex(dns(w, question('gateway'), GATEWAY) ?? bytes('')).slice(-8), '0a000202');
  const status = (message: Uint8Array): [number, number] | undefined => {
    const a = dns(w, message);
    return a && [a[3] & 15, a[7]];
  };
  assert.deepEqual(
    [
      status(question('nobody.test')),
      status(question('server.test', 28)),
      status(question('server.test', 12)),
      status(question('toString')),
      status(join(question('a').subarray(0, 12), [70, 1])),
      status(join(question('a').subarray(0, 12), [0xc0, 12, 0, 1, 0, 1])),
      status(join([0, 1, 0x10, 0, 0, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 1])),
      status(question('a').subarray(0, 11)),
      status(join([0, 1, 0x80, 0], question('a').subarray(4))),
    ],
    [[3, 0], [0, 0], [0, 0], [3, 0], [1, 0], [1, 0], [4, 0], undefined, undefined],
  );
});

test('UDP services: echo, discard, characters, and a port where nothing is', () => {
  const w = new Wire();
  known(w);
  const say = (port: number, data: Uint8Array): string[] =>
    w
      .ip(udp(GUEST, 5000, GATEWAY, port, data))
      .map((s) => `${s.protocol} ${hex(s.data?.subarray(0, 2) ?? data)} ${text(s.data?.subarray(8) ?? data).slice(0, 12)}`);
  assert.deepEqual(
    [say(7, ascii('hello')), say(9, ascii('hello')), say(19, ascii('')), say(1234, ascii('x')).map((s) => s.slice(0, 6))],
    [['17 0007 hello'], [], ['17 0013  !"#$%&\'()*+'], ['1 0303']],
  );
});

test('VLANs: the gateway is on those that it is told of, with a network for each; a priority tag is no VLAN', () => {
  const w = new Wire({ vlans: [5, 300] });
  const ping = (from: string, to: string, vlan?: number) =>
    w.ip(ipv4(from, to, 1, icmp(8, [0, 0, 0, 1], ascii('x'))), vlan).map((s) => [s.vlan, s.source, s.data?.[0]]);
  assert.deepEqual(
    [
      ping('10.128.5.15', '10.128.5.2', 5),
      ping('10.129.44.15', '10.129.44.2', 0xe000 | 300),
      ping(GUEST, GATEWAY, 0xe000),
      ping('10.128.6.15', '10.128.6.2', 6),
      ping('10.128.5.15', '10.128.5.2'),
      ping(GUEST, GATEWAY, 5),
    ],
    [[[5, '10.128.5.2', 0]], [[300, '10.129.44.2', 0]], [[undefined, GATEWAY, 0]], [], [], []],
  );
  assert.equal(lease(dhcpSay(w, dhcp(1), '0.0.0.0', '255.255.255.255', 5)[0]).yours, '10.128.5.15');
});

// --- TCP --------------------------------------------------------------------------------------------------------------------

/** A client that is known to the gateway. */
const client = (w: Wire, port: number, local?: number, to = GATEWAY): Client => {
  known(w);
  w.frames = [];
  return new Client(w, to, port, local);
};

test('TCP: what is sent to echo comes back, whatever the link loses, doubles and turns round', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ lost: fc.boolean(), delay: fc.constantFrom(0, 10_000, 100_000, 3 * MS), twice: fc.boolean() }), {
        minLength: 7,
        maxLength: 40,
      }),
      fc.nat(60_000),
      fc.nat(),
      (fates, length, seed) => {
        const w = new Wire();
        const c = client(w, 7);
        // Every so often one is lost, and never all.
        let n = 0;
        c.fate = () => {
          const f = fates[n++ % fates.length];
          return { ...f, lost: f.lost && n % 3 === 0 };
        };
        const data = noise(length, seed);
        c.open();
        c.write(data);
        c.close();
        w.advance(120_000 * MS);
        assert.deepEqual([c.state, c.ended, c.finAcked], ['open', true, true]);
        assert.equal(hex(c.received), hex(data));
        // Nothing is left of it, on the clock neither.
        assert.deepEqual(
          [w.state.tcp.connections.length, w.clock.state.alarms.filter((a) => a.id.startsWith('network'))],
          [0, []],
        );
      },
    ),
    { numRuns: 60, seed: 11 },
  );
});

test('TCP: bytes to download come in order through a link that loses every tenth frame, faster than by timeouts alone', () => {
  const w = new Wire();
  const c = client(w, 80);
  let n = 0;
  c.fate = () => ({ lost: ++n % 10 === 0, delay: 50_000 });
  c.open();
  c.write(ascii('GET /bytes/400000 HTTP/1.1\r\nHost: gateway\r\n\r\n'));
  while (!c.ended && w.clock.now < 600_000 * MS) w.advance(100 * MS);
  const [head, ...rest] = text(c.received).split('\r\n\r\n');
  assert.match(head, /^HTTP\/1\.1 200 OK\r\nContent-Length: 400000\r\n/);
  const body = ascii(rest.join('\r\n\r\n'));
  const want = Uint8Array.from({ length: 400_000 }, (_, i) => Number((BigInt(i) * 0x9e3779b1n) & 0xffff_ffffn) >>> 24);
  assert.ok(Buffer.compare(body, want) === 0);
  assert.ok(w.state.tcp.retransmissions > 20, `${w.state.tcp.retransmissions}`);
  // 30 timeouts of 200 ms each would be the slow way.
  assert.ok(w.clock.now < 30_000 * MS, `${w.clock.now / 1e9} s`);
});

test('TCP: HTTP takes an upload and says what it was; refuses what is no request', () => {
  const w = new Wire();
  const ask = (request: Uint8Array, local: number): string => {
    const c = client(w, 80, local);
    c.open();
    c.write(request);
    w.advance(3000 * MS);
    return text(c.received).replace(/Content-Length: \d+\r\nConnection: close\r\n\r\n/, '');
  };
  const data = noise(100_000, 5);
  assert.deepEqual(
    [
      // CRC-32 of "123456789" is what every description of it has.
      ask(ascii('POST /x HTTP/1.1\r\nContent-Length: 9\r\n\r\n123456789'), 1),
      ask(ascii('PUT /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n'), 2),
      ask(join(ascii(`PUT /x HTTP/1.1\r\nContent-Length: ${data.length}\r\n\r\n`), data), 3).slice(0, 31),
      ask(ascii('GET /else HTTP/1.1\r\n\r\n'), 4).slice(0, 12),
      ask(ascii('DELETE / HTTP/1.1\r\n\r\n'), 5).slice(0, 12),
      ask(ascii('POST / HTTP/1.1\r\n\r\n'), 6).slice(0, 12),
      ask(ascii('hello\r\n\r\n'), 7).slice(0, 12),
      ask(new Uint8Array(9000).fill(65), 8).slice(0, 12),
      ask(ascii('HEAD /bytes/5 HTTP/1.0\r\n\r\n'), 9),
    ],
    [
      'HTTP/1.1 200 OK\r\n9 bytes, CRC-32 cbf43926\n',
      'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n0 bytes, CRC-32 00000000\n',
      'HTTP/1.1 200 OK\r\n100000 bytes, ',
      'HTTP/1.1 404',
      'HTTP/1.1 405',
      'HTTP/1.1 400',
      'HTTP/1.1 400',
      'HTTP/1.1 400',
      'HTTP/1.1 200 OK\r\n',
    ],
  );
});

test('TCP: a guest that stops reading is waited for, and asked from time to time; it goes on where it stopped', () => {
  const w = new Wire();
  const c = client(w, 19);
  c.window = 4000;
  c.open();
  w.advance(100 * MS);
  c.window = 0;
  w.advance(20_000 * MS);
  const before = c.received.length;
  w.advance(20_000 * MS);
  assert.deepEqual([c.received.length, c.state, w.state.tcp.connections.length], [before, 'open', 1]);
  c.read(40_000);
  w.advance(500 * MS);
  assert.ok(c.received.length > before + 40_000);
  // Lines of 72 characters, each beginning one further.
  const lines = text(c.received).split('\r\n');
  lines.slice(0, -1).forEach((line, i) => {
    assert.deepEqual([line.length, line.charCodeAt(0)], [72, 32 + (i % 95)]);
  });
});

test('TCP: a guest that says nothing more is given up; one that resets is gone at once', () => {
  const w = new Wire();
  const c = client(w, 19);
  c.open();
  w.advance(5 * MS);
  c.fate = () => ({ lost: true, delay: 0 });
  w.advance(3_600_000 * MS);
  assert.deepEqual([w.state.tcp.connections.length, w.state.tcp.resets], [0, 1]);
  const other = client(w, 7, 50000);
  other.open();
  w.advance(5 * MS);
  assert.equal(w.state.tcp.connections.length, 1);
  // One that is near the right number is only asked again (RFC 5961).
  const rst = (seq: number) => w.gateway.transmit(eth(0x800, tcp(GUEST, 50000, GATEWAY, 7, { seq, flags: 'R' })));
  rst((other.next + 5) >>> 0);
  w.advance(MS);
  assert.equal(w.state.tcp.connections.length, 1);
  rst(other.next);
  w.advance(MS);
  assert.deepEqual([w.state.tcp.connections.length, other.state], [0, 'open']);
});

test('TCP: a port where nobody is, a segment of no connection, a SYN that comes again', () => {
  const w = new Wire();
  known(w);
  const say = (s: Parameters<typeof tcp>[4], port = 4444) =>
    w.ip(tcp(GUEST, 1000, GATEWAY, port, s)).map((x) => {
      const { flags, seq, ack } = seeTcp(x.data ?? bytes(''));
      return [flags, seq, ack];
    });
  assert.deepEqual(
    [
      say({ seq: 100, flags: 'S' }),
      say({ seq: 100, ack: 77, flags: 'A' }),
      say({ seq: 5, flags: 'R' }),
      say({ seq: 5, flags: 'FA', ack: 9 }),
    ],
    [[['RA', 0, 101]], [['R', 77, 0]], [], [['R', 9, 0]]],
  );
  const [[flags, seq, ack]] = say({ seq: 200, flags: 'S' }, 7);
  assert.deepEqual([flags, ack], ['SA', 201]);
  assert.deepEqual(say({ seq: 200, flags: 'S' }, 7), [['SA', seq, 201]]);
  // And it insists.
  w.advance(1100 * MS);
  assert.equal(w.frames.length, 1);
});

test('a transfer goes on from a snapshot as it would have gone on without', () => {
  const w = new Wire();
  const c = client(w, 80);
  c.open();
  c.write(ascii('GET /bytes/200000 HTTP/1.1\r\n\r\n'));
  while (c.received.length < 50_000) w.advance(10_000);
  assert.equal(c.ended, false);
  const live = { gateway: w.state, clock: w.clock.state };
  const taken = capture(live) as Record<string, unknown>;
  const mine = [c.una, c.next, c.rcv, c.out, [...c.got]] as const;
  w.advance(5000 * MS);
  const first = hex(c.received);
  const end = JSON.stringify(capture(live), (_k, v) => (v instanceof Uint8Array ? hex(v) : v));
  assign(live, taken);
  [c.una, c.next, c.rcv, c.out] = mine;
  c.ended = false;
  c.got.splice(0, c.got.length, ...mine[4]);
  w.advance(5000 * MS);
  assert.equal(hex(c.received), first);
  assert.equal(
    JSON.stringify(capture(live), (_k, v) => (v instanceof Uint8Array ? hex(v) : v)),
    end,
  );
});

// --- the outside ------------------------------------------------------------------------------------------------------------

const user = (settings = {}): Wire => new Wire({ mode: 'user', ...settings });

test('user mode: a connection is there only when somebody outside has taken it, and bytes go through both ways with credit', () => {
  const w = user();
  const c = client(w, 443, 40000, '93.184.216.34');
  c.open();
  w.advance(10 * MS);
  assert.deepEqual([w.asked, c.state], [[{ kind: 'connect', id: 1, address: '93.184.216.34', port: 443 }], 'opening']);
  // The guest's second SYN asks nobody a second time.
  w.advance(500 * MS);
  assert.equal(w.asked.length, 1);
  w.gateway.event({ kind: 'connected', id: 1 });
  w.advance(10 * MS);
  assert.deepEqual([c.state, w.asked[1]], ['open', { kind: 'credit', id: 1, bytes: 262_144 }]);
  c.write(ascii('hello'));
  w.advance(10 * MS);
  const [, , write] = w.asked;
  assert.ok(write.kind === 'write' && text(write.data) === 'hello');
  w.gateway.event({ kind: 'written', id: 1, bytes: 5 });
  const data = noise(200_000, 8);
  for (let at = 0; at < data.length; at += 50_000) w.gateway.event({ kind: 'data', id: 1, data: data.slice(at, at + 50_000) });
  w.advance(100 * MS);
  assert.equal(hex(c.received), hex(data));
  const credit = w.asked.reduce((n, r) => n + (r.kind === 'credit' ? r.bytes : 0), 0);
  assert.ok(credit >= 200_000 + 262_144 - 65_536 && credit <= 200_000 + 262_144, `${credit}`);
  w.gateway.event({ kind: 'end', id: 1 });
  w.advance(10 * MS);
  assert.equal(c.ended, true);
  c.close();
  // Who ends first waits for a while (TIME-WAIT).
  w.advance(900 * MS);
  assert.equal(w.state.tcp.connections[0].phase, 'time-wait');
  w.advance(200 * MS);
  assert.deepEqual(w.asked.slice(-2), [
    { kind: 'end', id: 1 },
    { kind: 'abort', id: 1 },
  ]);
  assert.equal(w.state.tcp.connections.length, 0);
});

test('user mode: an outside that does not take bytes closes the window; one that breaks off, refuses or restarts resets the guest', () => {
  const w = user();
  const c = client(w, 443, 40000, '93.184.216.34');
  c.open();
  w.advance(MS);
  w.gateway.event({ kind: 'connected', id: 1 });
  c.write(new Uint8Array(600_000));
  w.advance(2000 * MS);
  const sent = (): number => w.asked.reduce((n, r) => n + (r.kind === 'write' ? r.data.length : 0), 0);
  assert.deepEqual([sent(), c.peer], [262_144, 0]);
  w.gateway.event({ kind: 'written', id: 1, bytes: 262_144 });
  w.advance(2000 * MS);
  assert.equal(sent(), 524_288);
  w.gateway.event({ kind: 'reset', id: 1 });
  w.advance(MS);
  assert.equal(c.state, 'reset');
  const refused = client(w, 25, 40001, '93.184.216.34');
  refused.open();
  w.advance(MS);
  w.gateway.event({ kind: 'refused', id: 2 });
  w.advance(MS);
  assert.equal(refused.state, 'reset');
  const third = client(w, 443, 40002, '93.184.216.34');
  third.open();
  w.advance(MS);
  w.gateway.event({ kind: 'connected', id: 3 });
  w.advance(MS);
  w.gateway.event({ kind: 'restarted' });
  w.advance(MS);
  assert.deepEqual([third.state, w.state.tcp.connections.length], ['reset', 0]);
  // Events of nobody's are nobody's.
  for (const kind of ['connected', 'end', 'reset'] as const) w.gateway.event({ kind, id: 99 });
  w.gateway.event({ kind: 'data', id: 99, data: ascii('x') });
});

test('user mode: the gateway stands for this computer, its own services are not there, UDP flows and names are asked for', () => {
  const w = user({ names: { 'server.test': 0x0a00_0202 } });
  const c = client(w, 7);
  c.open();
  w.advance(MS);
  assert.deepEqual(w.asked.splice(0), [{ kind: 'connect', id: 1, address: '127.0.0.1', port: 7 }]);
  const dnsTcp = client(w, 53, 40009, DNS);
  dnsTcp.open();
  w.advance(MS);
  assert.equal(dnsTcp.state, 'reset');
  const seen: Seen[] = [];
  w.onFrame = undefined;
  seen.push(...w.ip(udp(GUEST, 6000, '1.1.1.1', 123, ascii('one'))), ...w.ip(udp(GUEST, 6000, '1.1.1.1', 123, ascii('two'))));
  assert.deepEqual(
    w.asked.splice(0).map((r) => r.kind === 'datagram' && [r.id, r.address, r.port, text(r.data)]),
    [
      [1, '1.1.1.1', 123, 'one'],
      [1, '1.1.1.1', 123, 'two'],
    ],
  );
  w.gateway.event({ kind: 'datagram', id: 1, data: ascii('back') });
  const [answer] = w.ip(icmp(13, [0, 0, 0, 0], ascii('')));
  assert.deepEqual([answer.source, text(answer.data?.subarray(8) ?? bytes(''))], ['1.1.1.1', 'back']);
  // A name of the table is answered here, others by the outside.
  assert.equal(hex(dns(w, question('server.test')) ?? bytes('')).slice(-8), '0a000202');
  assert.equal(dns(w, question('example.org')), undefined);
  assert.deepEqual(w.asked.splice(0), [{ kind: 'resolve', id: 2, name: 'example.org' }]);
  w.gateway.event({ kind: 'resolved', id: 2, addresses: ['93.184.216.34', '::1'], status: 'ok' });
  const [resolved] = w.frames.splice(0);
  assert.equal(hex(resolved).slice(-8), '5db8d822');
  dns(w, question('other.org'));
  w.gateway.event({ kind: 'resolved', id: 3, addresses: [], status: 'refused' });
  assert.equal(w.frames.splice(0)[0][14 + 28 + 3] & 15, 5);
  // Records but addresses are not asked for.
  assert.equal(((dns(w, question('example.org', 28)) ?? bytes('ffffffff'))[3] ?? 0) & 15, 0);
  // A flow that was idle for a minute is let go of when the next one comes.
  w.advance(61_000 * MS);
  w.ip(udp(GUEST, 6001, '1.1.1.1', 123, ascii('x')));
  assert.ok(w.asked.some((r) => r.kind === 'forget' && r.id === 1));
});

test('TCP: a guest that sends byte by byte, in order or not, and takes nothing, makes the gateway keep few pieces', () => {
  const w = new Wire();
  const open = (sport: number): { seq: number; ack: number } => {
    const [{ data }] = w.ip(tcp('10.0.2.15', sport, '10.0.2.2', 7, { seq: 99, flags: 'S' }));
    return { seq: 100, ack: data ? seeTcp(data).seq + 1 : 0 };
  };
  const byte = Uint8Array.of(7);
  w.say(eth(0x806, join([0, 1, 8, 0, 6, 4, 0, 1], mac(GUEST_MAC), ip('10.0.2.15'), new Uint8Array(6), ip('10.0.2.2'))));
  const a = open(1000);
  for (let n = 0; n < 3000; n++)
    w.ip(tcp('10.0.2.15', 1000, '10.0.2.2', 7, { seq: a.seq + n, ack: a.ack, flags: 'A', window: 0, data: byte }));
  const b = open(1001);
  for (let n = 0; n < 3000; n++)
    w.ip(tcp('10.0.2.15', 1001, '10.0.2.2', 7, { seq: b.seq + 2 + 2 * n, ack: b.ack, flags: 'A', data: byte }));
  const [one, two] = w.state.tcp.connections;
  assert.deepEqual([one.queued, one.queue.length, two.early.length], [3000, 3, 512]);
  // What was kept is still good.
  w.ip(tcp('10.0.2.15', 1001, '10.0.2.2', 7, { seq: b.seq, ack: b.ack, flags: 'A', data: Uint8Array.of(1, 2) }));
  assert.equal(two.expected, b.seq + 3);
});

test('any frame: never an exception, and no more comes back than went in', () => {
  const field = fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 4, 5, 6, 17, 0x45, 0x4f, 64, 67, 53, 7, 80, 255));
  const parts = fc.oneof(
    fc.uint8Array({ maxLength: 80 }),
    fc.array(field, { maxLength: 60 }).map((a) => Uint8Array.from(a)),
  );
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.array(
        fc.record({
          shape: fc.constantFrom('raw', 'ip', 'udp', 'tcp', 'icmp', 'arp', 'fragment', 'dns', 'dhcp'),
          data: parts,
          type: fc.constantFrom(0x800, 0x806, 0x8100, 0x86dd, 0x1234),
          port: fc.constantFrom(7, 9, 19, 53, 67, 80, 443),
          number: fc.nat(0xffff_ffff),
          flags: fc.subarray(['F', 'S', 'R', 'P', 'A', 'U']),
          cut: fc.nat(200),
          to: fc.constantFrom(GATEWAY, DNS, '8.8.8.8', '10.0.2.255', '224.0.0.1', '0.0.0.0'),
        }),
        { minLength: 1, maxLength: 30 },
      ),
      (isUser, frames) => {
        const w = isUser ? user() : new Wire();
        known(w);
        let back = 0;
        w.onFrame = () => back++;
        for (const { shape, data, type, port, number, flags, cut, to } of frames) {
          const packet = {
            raw: () => data,
            ip: () => ipv4(GUEST, to, number & 255, data),
            udp: () => udp(GUEST, port, to, port, data),
            tcp: () =>
              tcp(GUEST, 1000 + (number % 3), to, port, {
                seq: number,
                ack: (w.state.tcp.connections[0]?.next ?? number) >>> 0,
                flags: flags.join(''),
                options: data.subarray(0, (Math.min(40, data.length) >> 2) << 2),
                data,
              }),
            icmp: () => ipv4(GUEST, to, 1, icmp(number & 15, be32(number), data)),
            arp: () => join([0, 1, 8, 0, 6, 4], data),
            fragment: () =>
              ipv4(GUEST, to, number & 31, data, {
                id: number & 1,
                offset: (number & 0x1fff) * 8,
                more: (number & 0x4000) !== 0,
              }),
            dns: () => udp(GUEST, 99, to, 53, join([0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], data)),
            dhcp: () => udp('0.0.0.0', 68, '255.255.255.255', 67, dhcp(number & 15, [...data])),
          }[shape]();
          const frame = eth(shape === 'arp' ? 0x806 : shape === 'raw' ? type : 0x800, packet);
          w.gateway.transmit(cut < 60 ? frame.subarray(0, cut) : frame);
          w.advance(60_000);
          if (isUser)
            for (const r of w.asked.splice(0)) {
              if (r.kind === 'connect')
                w.gateway.event(number & 1 ? { kind: 'connected', id: r.id } : { kind: 'refused', id: r.id });
              if (r.kind === 'resolve') w.gateway.event({ kind: 'resolved', id: r.id, addresses: ['1.2.3.4'], status: 'ok' });
              if (r.kind === 'write') w.gateway.event({ kind: 'data', id: r.id, data: r.data });
            }
        }
        // Character generators are the one thing that says more than it was asked.
        if (!frames.some((f) => f.shape === 'tcp')) assert.ok(back <= frames.length + 1, `${back} for ${frames.length}`);
        capture(w.state);
      },
    ),
    { numRuns: 400, seed: 5 },
  );
});
