import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { capture, assign } from '../../../emulator/snapshot.ts';
import { MESSAGES } from '../../../emulator/vmbus/protocol.ts';
import { FakeDriver } from './fake-driver.ts';

const { message } = FakeDriver;

test('versions we speak are accepted, each with its connection; any other is answered and refused', () => {
  const d = new FakeDriver();
  for (const vp of [0, 1]) d.setUpSynic(vp);
  const versions = [
    0x6_0000, 0x5_0003, 0x5_0002, 0x5_0001, 0x5_0000, 0x4_0001, 0x4_0000, 0x3_0000, 0x2_0004, 0x1_0001, 0xd, 0xffff_ffff,
  ];
  assert.deepEqual(
    versions.map((v) => [v, d.contact(v)]),
    [
      [0x6_0000, { supported: 1, state: 0, connection: 4, features: 0 }],
      ...[0x5_0003, 0x5_0002, 0x5_0001, 0x5_0000].map((v) => [v, { supported: 1, state: 0, connection: 4 }]),
      ...[0x4_0001, 0x4_0000, 0x3_0000, 0x2_0004].map((v) => [v, { supported: 1, state: 0, connection: v }]),
      ...[0x1_0001, 0xd, 0xffff_ffff].map((v) => [v, { supported: 0, state: 0, connection: 0 }]),
    ],
  );
});

test('message sizes are those that guests insist on', () => {
  const { InitiateContact, InitiateContact2, VersionResponse, VersionResponse2, TlConnectRequest2, ...others } = MESSAGES;
  const grown = [InitiateContact, InitiateContact2, VersionResponse, VersionResponse2, TlConnectRequest2].map((m) => [
    m.type,
    m.layout.size,
  ]);
  assert.deepEqual(grown, [
    [14, 40],
    [14, 56],
    [15, 16],
    [15, 20],
    [21, 56],
  ]);
  const sizes = Object.fromEntries(Object.values(others).map((m) => [m.type, m.layout.size]));
  assert.deepEqual(sizes, {
    1: 196,
    2: 12,
    3: 8,
    4: 8,
    5: 148,
    6: 20,
    7: 12,
    8: 20,
    9: 16,
    10: 20,
    11: 16,
    12: 12,
    13: 12,
    16: 8,
    17: 8,
    18: 8,
    19: 8,
    20: 8,
    21: 40,
    22: 16,
    23: 44,
    24: 16,
    25: 24,
    26: 12,
    27: 8,
    28: 8,
    29: 8,
  });
});

test('answers go to the connect VP, and a SINT or VTL that is not ours is refused', () => {
  const d = new FakeDriver();
  d.setUpSynic(0);
  d.setUpSynic(1);
  d.post(message(14, 0x5_0003, 1, 2, 0, 0, 0, 0, 0), 4, false);
  assert.deepEqual([d.slot(0).type, d.slot(1).type], [0, 1]);
  d.pump();
  assert.equal(d.next(15).getUint8(8), 1);
  const refused = [
    [0, 3],
    [0, 0x102],
    [9, 2],
  ].map(([vp, sint]) => {
    d.post(message(14, 0x5_0003, vp, sint, 0, 0, 0, 0, 0), 4);
    return d.next(15).getUint8(8);
  });
  assert.deepEqual([refused, d.vmbus.info().state], [[0, 0, 0], 'disconnected']);
});

test('offers: unique relids below 2048, dedicated interrupts, connection ids, no monitor, then ALL_OFFERS_DELIVERED', () => {
  const d = new FakeDriver();
  d.connect();
  const offers = [...d.offers.entries()].map(([type, { relid, connectionId, payload }]) => {
    const v = new DataView(payload.buffer, payload.byteOffset);
    return {
      type,
      size: payload.length,
      relid,
      connectionId,
      dedicated: v.getUint16(190, true),
      monitor: v.getUint8(189),
      sub: v.getUint16(180, true),
      flags: v.getUint16(56, true),
      pipe: v.getUint32(60, true),
    };
  });
  const common = { size: 196, dedicated: 1, monitor: 0, sub: 0 };
  // The first of all there are.
  assert.deepEqual(offers.slice(0, 6), [
    { type: '57164f39-9115-4e78-ab55-382f3bd5422d', relid: 1, connectionId: 0x2001, flags: 0x10, pipe: 4, ...common },
    { type: '0e0b6031-5213-4934-818b-38d90ced39db', relid: 2, connectionId: 0x2002, flags: 0x10, pipe: 4, ...common },
    { type: '9527e630-d0ae-497b-adce-e80ab0175caf', relid: 3, connectionId: 0x2003, flags: 0x10, pipe: 4, ...common },
    { type: 'f912ad6d-2b17-48ea-bd65-f927a61c7684', relid: 4, connectionId: 0x2004, flags: 0, pipe: 0, ...common },
    { type: 'cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a', relid: 6, connectionId: 0x2006, flags: 0x10, pipe: 4, ...common },
    { type: 'da0a7802-e377-4aac-8e77-0558eb1073f8', relid: 7, connectionId: 0x2007, flags: 0x10, pipe: 4, ...common },
  ]);
  assert.deepEqual(
    d.vmbus
      .info()
      .channels.slice(0, 6)
      .map((c) => [c.device, c.state]),
    [
      ['heartbeat', 'offered'],
      ['shutdown', 'offered'],
      ['timesync', 'offered'],
      ['keyboard', 'offered'],
      ['mouse', 'offered'],
      ['video', 'offered'],
    ],
  );
});

test('messages that arrive faster than the guest reads keep their order', () => {
  const d = new FakeDriver();
  for (const vp of [0, 1]) d.setUpSynic(vp);
  d.contact(0x5_0003);
  d.post(message(3), 4, false);
  assert.deepEqual([d.slot().type, d.slot().flags], [1, 1]);
  d.pump();
  assert.deepEqual(
    d.inbox.map((m) => m.type),
    [...d.vmbus.info().channels.map(() => 1), 4],
  );
});

test('a guest that posts without ever reading is told to come back later, but may always start anew', () => {
  const d = new FakeDriver();
  d.connect();
  const statuses = new Set<string | undefined>();
  for (let i = 0; i < 100; i++) statuses.add(d.post(message(21, new Uint8Array(32)), 4, false));
  assert.deepEqual([...statuses], ['HV_STATUS_SUCCESS', 'HV_STATUS_INSUFFICIENT_BUFFERS']);
  assert.equal(d.post(message(16), 4, false), 'HV_STATUS_SUCCESS');
  d.pump();
  assert.deepEqual(
    d.inbox.map((m) => m.type),
    [23, 17],
  );
});

test('a GPADL of more pages than one message holds is created when the last body has come', () => {
  const d = new FakeDriver();
  d.connect();
  const pfns = d.pages(100);
  const id = d.gpadl(1, pfns);
  const [gpadl] = d.vmbus.state.connection.gpadls;
  assert.deepEqual([gpadl.id, gpadl.complete, gpadl.ranges], [id, true, [{ byteCount: 100 * 4096, byteOffset: 0, pfns }]]);
  d.post(message(11, 1, id));
  assert.deepEqual([d.next(12).getUint32(8, true), d.vmbus.state.connection.gpadls], [id, []]);
});

test('GPADLs that make no sense are refused by status, never by silence', () => {
  const d = new FakeDriver();
  d.connect();
  const tail = (...q: bigint[]): Uint8Array => new Uint8Array(BigUint64Array.from(q).buffer);
  const header = (relid: number, id: number, bytes: number, ranges: number, ...q: bigint[]) => {
    d.post(message(8, relid, id, bytes | (ranges << 16), tail(...q)));
    return d.inbox.splice(0).map((m) => [m.type, new DataView(m.payload.buffer, m.payload.byteOffset).getUint32(16, true)]);
  };
  const bad = [[10, 0xc000_000d]];
  assert.deepEqual(
    [
      header(1, 1, 16, 1, 4096n, 0x400n), // beyond RAM
      header(1, 2, 16, 1, 4096n, 0xffff_ffff_ffffn),
      header(1, 3, 16, 1, 0n, 1n), // empty range
      header(1, 4, 16, 1, 0x2000n, 1n), // fewer pages than bytes
      header(1, 5, 16, 2, 4096n, 1n), // fewer ranges than said
      header(1, 6, 16, 0, 4096n, 1n),
      header(1, 7, 0, 1),
      header(1, 8, 16, 1, 4096n | (0x1000n << 32n), 1n),
      header(999, 9, 16, 1, 4096n, 1n), // no such channel
      header(1, 10, 16, 1, 4096n, 1n), // good
      header(1, 10, 16, 1, 4096n, 1n), // same id again
      header(1, 11, 32, 2, 4n, 1n, 8n | (4092n << 32n), 2n), // two ranges, the second needs two pages
      header(1, 12, 40, 2, 4n, 1n, 8n | (4092n << 32n), 2n, 3n),
    ],
    [bad, bad, bad, bad, bad, bad, bad, bad, bad, [[10, 0]], bad, bad, [[10, 0]]],
  );
});

test('GPADLs of more page numbers than 4 GiB have are refused, and torn down make room again', () => {
  const d = new FakeDriver();
  d.connect();
  const announce = (id: number, bytes: number): number => {
    d.post(message(8, 1, id, bytes | (1 << 16)));
    return d.inbox.splice(0).length;
  };
  // 128 of 8191 qwords, whose pages do not come, are waited for; then there is room for 128 more.
  const ids = Array.from({ length: 128 }, (_, n) => n + 1);
  assert.deepEqual(
    ids.map((id) => announce(id, 8 * 8191)),
    Array(128).fill(0),
  );
  assert.deepEqual([announce(200, 8 * 129), announce(201, 8 * 128), announce(202, 8)], [1, 0, 1]);
  d.post(message(11, 1, 201));
  d.inbox.length = 0;
  assert.deepEqual([announce(203, 8 * 129), announce(204, 8 * 128)], [1, 0]);
});

test('opening: rings must fit their GPADL, the channel must be closed, the VP must exist', () => {
  const d = new FakeDriver();
  d.connect();
  const own = d.gpadl(1, d.pages(8));
  const other = d.gpadl(2, d.pages(8));
  const bad = 0xc000_000d;
  const tries = [
    [1, 1, own, 0, 1], // no data page in the first ring
    [1, 1, own, 0, 7], // none in the second
    [1, 1, own, 0, 0xffff_ffff],
    [1, 1, other, 0, 4], // another channel's
    [1, 1, 0x99, 0, 4],
    [1, 1, own, 2, 4], // no such VP
    [77, 1, own, 0, 4],
    [1, 1, own, 1, 4],
    [1, 2, own, 1, 4], // open already
  ].map(([relid, openId, gpadl, vp, downstream]) => d.openMessage(relid, openId, gpadl, vp, downstream));
  assert.deepEqual(tries, [bad, bad, bad, bad, bad, bad, bad, 0, bad]);
  assert.deepEqual([d.channelInfo(1).state, d.channelInfo(1).targetVp, d.channelInfo(1).ringGpadl], ['open', 1, own]);
});

test('rings are not looked at before OPEN, and not after CLOSE or teardown', () => {
  const d = new FakeDriver();
  d.connect();
  const c = d.open(1);
  d.advance(2_000_000);
  assert.equal(c.in.used > 0, true);
  const used = c.in.used;
  d.post(message(7, 1));
  d.advance(20_000_000_000);
  assert.deepEqual([d.channelInfo(1).state, c.in.used, d.signal(c)], ['closed', used, 'HV_STATUS_INVALID_CONNECTION_ID']);
  const c2 = d.open(1);
  d.advance(2_000_000);
  const gpadl = d.channelInfo(1).ringGpadl as number;
  d.post(message(11, 1, gpadl)); // the guest forgot to close
  assert.deepEqual(
    [d.next(12).getUint32(8, true), d.channelInfo(1).state, d.signal(c2)],
    [gpadl, 'closed', 'HV_STATUS_INVALID_CONNECTION_ID'],
  );
});

test('nothing is put into a ring until the guest has had time for OPEN_RESULT', () => {
  const d = new FakeDriver();
  d.connect();
  const c = d.open(1);
  assert.deepEqual([c.in.used, d.takeFlags()], [0, []]);
  d.advance(999_999);
  assert.equal(c.in.used, 0);
  d.advance(1);
  assert.deepEqual([c.in.used > 0, d.takeFlags(), d.takeFlags(1)], [true, [1], []]);
});

test('MODIFYCHANNEL moves the interrupt; the response exists from 5.3 on alone', () => {
  for (const [version, answers] of [
    [0x5_0003, [24]],
    [0x5_0002, []],
    [0x4_0001, []],
  ] as [number, number[]][]) {
    const d = new FakeDriver();
    d.connect(version);
    d.open(1);
    d.post(message(22, 1, 1));
    assert.deepEqual(
      d.inbox.map((m) => m.type),
      answers,
    );
    d.advance(1_000_000);
    assert.deepEqual([d.takeFlags(0), d.takeFlags(1)], [[], [1]]);
  }
  const d = new FakeDriver();
  d.connect();
  d.open(1);
  d.post(message(22, 1, 9));
  assert.deepEqual([d.next(24).getUint32(12, true), d.channelInfo(1).targetVp], [0xc000_000d, 0]);
  const old = new FakeDriver();
  old.connect(0x4_0000);
  old.open(1);
  old.post(message(22, 1, 1));
  assert.equal(old.channelInfo(1).targetVp, 0);
});

test('UNLOAD drops everything and answers the connect VP; what was on its way is gone', () => {
  const d = new FakeDriver();
  d.connect(0x5_0003, 1);
  const c = d.open(1, 4, 1);
  d.advance(1_000_000);
  const used = c.in.used;
  d.post(message(16), 4, false);
  d.post(message(21, new Uint8Array(32)), 4, false);
  assert.deepEqual([d.slot(0).type, new DataView(d.slot(1).payload.buffer).getUint32(0, true), d.slot(1).flags], [0, 17, 0]);
  d.pump();
  d.advance(10_000_000_000);
  assert.deepEqual(
    [d.vmbus.info(), c.in.used, d.inbox.map((m) => m.type)],
    [{ state: 'disconnected', channels: [], takenAway: [] }, used, [17]],
  );
});

test("after UNLOAD, and after a crash kernel's bare INITIATE_CONTACT, everything is offered again with the same ids", () => {
  const d = new FakeDriver();
  d.connect();
  const first = [...d.offers.entries()].map(([type, o]) => [type, o.relid]);
  d.open(1);
  d.post(message(16));
  d.inbox.length = 0;
  d.offers.clear();
  d.connect();
  assert.deepEqual(
    [...d.offers.entries()].map(([type, o]) => [type, o.relid]),
    first,
  );
  const c = d.open(1);
  d.connect(0x5_0002);
  d.advance(10_000_000_000);
  assert.deepEqual(
    [d.vmbus.info().version, c.in.used, d.vmbus.state.connection.gpadls, d.channelInfo(1).state],
    ['5.2', 0, [], 'offered'],
  );
});

test("a new operating system takes the old one's connection down before it says a word to VMBus", () => {
  const d = new FakeDriver();
  d.connect();
  const c = d.open(1);
  d.set('HvRegisterGuestOsId', 0x8100_0006_01c0_0000n);
  d.advance(10_000_000_000);
  assert.deepEqual([d.vmbus.info().state, c.in.used], ['disconnected', 0]);
});

test('rescind: the guest is told once, rings are let go, the relid comes back only after it was released', () => {
  const d = new FakeDriver();
  d.connect();
  const c = d.open(4);
  assert.deepEqual([d.vmbus.rescind('keyboard'), d.vmbus.rescind('keyboard'), d.vmbus.rescind('disk')], [true, false, false]);
  d.pump();
  assert.deepEqual(
    [d.next(2).getUint32(8, true), d.channelInfo(4).state, d.signal(c)],
    [4, 'rescinded', 'HV_STATUS_INVALID_CONNECTION_ID'],
  );
  d.post(message(7, 4));
  d.post(message(3));
  assert.deepEqual(
    d.inbox.splice(0).map((m) => m.type),
    [4],
  );
  d.post(message(13, 4));
  assert.equal(
    d.vmbus.info().channels.some((i) => i.relid === 4),
    false,
  );
  d.post(message(3));
  assert.deepEqual(
    d.inbox.map((m) => m.type),
    [1, 4],
  );
});

test('a socket connection is refused in so many words', () => {
  const d = new FakeDriver();
  d.connect();
  const ids = Uint8Array.from({ length: 32 }, (_, i) => i + 1);
  d.post(message(21, ids));
  const view = d.next(23);
  assert.deepEqual([new Uint8Array(view.buffer, view.byteOffset + 8, 32), view.getUint32(40, true)], [ids, 0xc000_0236]);
});

test('short, unknown, unsupported and premature messages are trace lines', () => {
  const d = new FakeDriver();
  d.setUpSynic(0);
  d.setUpSynic(1);
  d.post(message(3));
  d.contact(0x5_0003);
  for (const bytes of [
    new Uint8Array(3),
    message(14),
    message(99),
    message(18),
    message(1, new Uint8Array(188)),
    message(27),
    message(9, 0, 5),
  ])
    assert.equal(d.post(bytes), 'HV_STATUS_SUCCESS');
  assert.equal(d.inbox.length, 0);
  assert.equal(d.notes().length, 8, d.notes().join('\n'));
});

test('the debugger sees a posted message by name and fields', () => {
  const d = new FakeDriver();
  d.connect();
  d.post(message(22, 1, 1));
  const calls = d.events.flatMap((e) => (e.kind === 'hypercall' && e.name === 'HvCallPostMessage' ? [e.input] : []));
  assert.deepEqual(calls[0].Message, {
    Message: 'InitiateContact',
    VmbusVersionRequested: 0x5_0003,
    TargetVp: 0,
    InterruptPage: 2n,
    MonitorPage1: 0n,
    MonitorPage2: 0n,
    Version: '5.3',
  });
  assert.deepEqual(calls.at(-1)?.Message, { Message: 'ModifyChannel', ChildRelId: 1, TargetVp: 1 });
  const traced = d.events.flatMap((e) => (e.kind === 'message' ? [`${e.direction} ${e.name}`] : []));
  assert.deepEqual(traced.slice(0, 3), [
    'guest-to-host InitiateContact',
    'host-to-guest VersionResponse',
    'guest-to-host RequestOffers',
  ]);
});

test('state is plain, and a conversation goes on after it was put back', () => {
  const d = new FakeDriver();
  d.connect();
  d.open(1);
  d.post(message(3), 4, false); // an unread message, a queue behind it
  const parts = () => [d.vmbus.state, d.partition.state, d.clock.state] as unknown as Record<string, unknown>[];
  const saved = parts().map((s) => capture(s));
  const ram = d.ram.bytes.slice();
  const rest = () => {
    d.pump();
    d.advance(5_000_000);
    d.post(message(21, new Uint8Array(32)));
    const out = [d.inbox.splice(0).map((m) => m.type), d.vmbus.info(), parts().map((s) => capture(s)), d.takeFlags()];
    return out;
  };
  const once = rest();
  parts().forEach((s, i) => {
    assign(s, saved[i] as Record<string, unknown>);
  });
  d.ram.bytes.set(ram);
  assert.deepEqual(rest(), once);
});

test('any messages at all: a status each, and the host stays sane', () => {
  const word = fc.oneof(
    fc.integer({ min: 0, max: 8 }),
    fc.constantFrom(0xe1e10, 0xe1e11, 0x5_0003, 0x4_0000, 4096, 0xffff_ffff),
    fc.nat(),
  );
  const posted = fc.tuple(fc.integer({ min: 0, max: 30 }), fc.array(word, { maxLength: 56 }), fc.constantFrom(1, 4, 4, 4, 2));
  let connections = 0;
  fc.assert(
    fc.property(fc.array(posted, { minLength: 1, maxLength: 40 }), fc.boolean(), (messages, connected) => {
      const d = new FakeDriver();
      if (connected) d.connect();
      else d.setUpSynic();
      for (const [type, words, connection] of messages) {
        const status = d.post(message(type, ...words), connection);
        assert.ok(
          ['HV_STATUS_SUCCESS', 'HV_STATUS_INVALID_CONNECTION_ID', 'HV_STATUS_INVALID_PARAMETER'].includes(status ?? ''),
          status,
        );
        if (connection === 2) assert.equal(status, 'HV_STATUS_INVALID_CONNECTION_ID');
        for (const c of [1, 2, 3, 4]) d.signal({ connectionId: 0x2000 + c });
      }
      d.advance(10_000_000_000);
      if (d.vmbus.info().state === 'connected') connections++;
      capture(d.vmbus.state);
      capture(d.partition.state);
    }),
    { numRuns: 150, seed: 11 },
  );
  assert.ok(connections > 10);
});
