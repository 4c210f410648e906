/** Devices that go at any moment, come back, and channels at both ends of the relids. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ConfigError } from '../../../emulator/config.ts';
import { DEVICES } from '../../../emulator/vmbus/devices/index.ts';
import { emptyDisk } from './fake-disk.ts';
import { FakeDriver } from './fake-driver.ts';

const { message } = FakeDriver;
/** Channels of a machine of one VP. */
const COUNT = Object.keys(DEVICES).length;
const KEYBOARD = 'f912ad6d-2b17-48ea-bd65-f927a61c7684';

const stateOf = (d: FakeDriver, relid: number): string | undefined =>
  d.vmbus.info().channels.find((c) => c.relid === relid)?.state;
const types = (d: FakeDriver): number[] => d.inbox.splice(0).map((m) => m.type);

test('a device that was taken away comes back with its ids once the guest has let it go, and works', () => {
  const d = new FakeDriver();
  d.connect();
  const { relid } = d.offers.get(KEYBOARD) ?? assert.fail();
  d.open(relid);
  assert.equal(d.vmbus.rescind('keyboard'), true);
  assert.equal(d.vmbus.offer('keyboard'), false);
  d.pump();
  assert.deepEqual(types(d), [2]);
  const leftover = d.vmbus.state.connection.gpadls.length;
  d.post(message(13, relid));
  // The guest never tore down its rings: they are gone with the channel.
  assert.deepEqual([leftover, d.vmbus.state.connection.gpadls.length, stateOf(d, relid)], [1, 0, undefined]);
  assert.deepEqual([d.vmbus.offer('keyboard'), d.vmbus.offer('keyboard'), d.vmbus.offer('no such')], [true, false, false]);
  d.pump();
  assert.equal(d.next(1).getUint32(184, true), relid);
  d.open(relid);
  d.advance(2_000_000);
  assert.equal(stateOf(d, relid), 'open');
});

test('nothing is offered to a guest that is not connected, or has not asked yet', () => {
  const d = new FakeDriver();
  assert.deepEqual([d.vmbus.offer('keyboard'), d.vmbus.rescind('keyboard')], [false, false]);
  for (const vp of [0, 1]) d.setUpSynic(vp);
  d.contact(0x6_0000);
  assert.deepEqual([d.vmbus.offer('keyboard'), d.vmbus.rescind('keyboard'), d.inbox.length], [false, false, 0]);
});

test('whatever a guest is doing with a channel when it is taken away, it is told once and ends up without it', () => {
  const steps: Record<string, (d: FakeDriver, relid: number) => void> = {
    nothing: () => {},
    'half a GPADL': (d, relid) => void d.post(message(8, relid, 0x77, 8 + 8 * 40, 40 * 4096, 0, new Uint8Array(26 * 8))),
    'a GPADL': (d, relid) => void d.gpadl(relid, d.pages(8)),
    open: (d, relid) => void d.open(relid),
    'open, in conversation': (d, relid) => {
      d.open(relid);
      d.advance(2_000_000);
    },
    'open, packets waiting': (d, relid) => {
      const c = d.open(relid, 2);
      d.advance(2_000_000);
      for (let n = 0; n < 100; n++) d.send(c, new Uint8Array(32), BigInt(n + 1));
    },
    closed: (d, relid) => {
      d.open(relid);
      d.post(message(7, relid));
    },
  };
  for (const [name, step] of Object.entries(steps))
    for (const type of ['keyboard', 'heartbeat', 'timesync', 'shutdown']) {
      const d = new FakeDriver();
      d.connect();
      const relid = d.relidOf(type);
      step(d, relid);
      d.inbox.length = 0;
      assert.equal(d.vmbus.rescind(type), true, name);
      d.pump();
      assert.deepEqual([types(d), stateOf(d, relid)], [[2], 'rescinded'], name);
      // Late messages of a guest that has not seen it yet.
      d.post(message(9, 0, 0x77, new Uint8Array(15 * 8)));
      d.post(message(5, relid, relid, 0x77, 0, 4, new Uint8Array(120)));
      d.post(message(22, relid, 1));
      d.post(message(7, relid));
      for (const { id } of [...d.vmbus.state.connection.gpadls]) d.post(message(11, relid, id));
      d.advance(10_000_000_000);
      assert.equal(stateOf(d, relid), 'rescinded', name);
      d.post(message(13, relid));
      assert.deepEqual([stateOf(d, relid), d.vmbus.state.connection.gpadls], [undefined, []], name);
      d.inbox.length = 0;
      assert.equal(d.vmbus.offer(type), true);
      d.pump();
      d.next(1);
      d.open(relid);
      assert.equal(stateOf(d, relid), 'open', name);
    }
});

test('rescinds and offers between any messages: never two offers of one relid, and never a packet on a channel that is not open', () => {
  const action = fc.oneof(
    fc.record({ kind: fc.constant('rescind' as const), device: fc.constantFrom('keyboard', 'heartbeat', 'shutdown') }),
    fc.record({ kind: fc.constant('offer' as const), device: fc.constantFrom('keyboard', 'heartbeat', 'shutdown') }),
    fc.record({ kind: fc.constant('advance' as const), device: fc.constant('') }),
    fc.record({
      kind: fc.constantFrom('open' as const, 'close' as const, 'release' as const, 'unload' as const),
      device: fc.constantFrom('keyboard', 'heartbeat', 'shutdown'),
    }),
  );
  const relids: Record<string, number> = { heartbeat: 1, shutdown: 2, keyboard: 4 };
  let opened = 0;
  fc.assert(
    fc.property(fc.array(action, { minLength: 5, maxLength: 60 }), (actions) => {
      const d = new FakeDriver();
      d.connect();
      const held = new Set(Object.values(relids).concat(3));
      for (const { kind, device } of actions) {
        const relid = relids[device];
        if (kind === 'rescind') d.vmbus.rescind(device);
        else if (kind === 'offer') d.vmbus.offer(device);
        else if (kind === 'advance') d.advance(3_000_000_000);
        else if (kind === 'close') d.post(message(7, relid));
        else if (kind === 'release') {
          if (stateOf(d, relid) === 'rescinded') held.delete(relid);
          d.post(message(13, relid));
        } else if (kind === 'unload') {
          d.inbox.length = 0;
          d.connect();
          held.clear();
          for (const { relid: r } of d.offers.values()) held.add(r);
        } else if (['offered', 'closed'].includes(stateOf(d, relid) ?? '')) {
          d.inbox.length = 0;
          d.open(relid);
          opened++;
        }
        d.pump();
        for (const m of d.inbox.splice(0))
          if (m.type === 1) {
            const r = new DataView(m.payload.buffer, m.payload.byteOffset).getUint32(184, true);
            assert.equal(held.has(r), false, `relid ${r} offered twice`);
            held.add(r);
          }
        for (const c of d.vmbus.info().channels)
          if (c.state !== 'open') assert.equal(d.signal(c), 'HV_STATUS_INVALID_CONNECTION_ID');
      }
    }),
    { numRuns: 100, seed: 5 },
  );
  assert.ok(opened > 30, `${opened}`);
});

test('relids up to 2047: offered, opened, signalled both ways by their own flag and connection', () => {
  for (const first of [1, 60, 1000, 2048 - COUNT]) {
    const d = new FakeDriver({
      firstRelid: first,
      vps: 1,
      disks: [emptyDisk(), { ...emptyDisk(), bus: 'nvme' }],
      network: { mode: 'internal' },
    });
    d.connect();
    const relids = [...d.offers.values()].map((o) => o.relid);
    assert.deepEqual(
      relids,
      // Those of sockets are offered when somebody connects.
      Object.keys(DEVICES).flatMap((name, n) => (name === 'socket' ? [] : [first + n])),
    );
    assert.deepEqual(
      [...d.offers.values()].map((o) => o.connectionId),
      relids.map((r) => 0x2000 + r),
    );
    const keyboard = d.relidOf('heartbeat');
    const c = d.open(keyboard);
    d.advance(2_000_000);
    assert.deepEqual([d.takeFlags(), c.in.used > 0, d.signal(c)], [[keyboard], true, 'HV_STATUS_SUCCESS']);
    assert.equal(d.channelInfo(keyboard).signalsFromGuest, 1);
    assert.equal(d.signal({ connectionId: 0x2000 + keyboard + 1 }), 'HV_STATUS_INVALID_CONNECTION_ID');
  }
});

test('relids that do not fit into one SINT are refused', () => {
  for (const firstRelid of [0, 2049 - COUNT, 4000])
    assert.throws(
      () => new FakeDriver({ firstRelid, vps: 1 }),
      new ConfigError(`firstRelid must be 1 to ${2048 - COUNT}: this machine has ${COUNT} channels`),
    );
});

test('channels are interrupted at the VP that the guest chose, each at its own', () => {
  const d = new FakeDriver({ vps: 4 });
  d.connect(0x6_0000, 2);
  const targets: [string, number][] = [
    ['heartbeat', 3],
    ['shutdown', 0],
    ['timesync', 1],
  ];
  for (const [device, vp] of targets) d.open(d.relidOf(device), 4, vp);
  d.advance(1_000_000);
  assert.deepEqual(
    [0, 1, 2, 3].map((vp) => d.takeFlags(vp)),
    [[d.relidOf('shutdown')], [d.relidOf('timesync')], [], [d.relidOf('heartbeat')]],
  );
});
