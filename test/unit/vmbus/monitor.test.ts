import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Monitor, type Trigger } from '../../../emulator/vmbus/monitor.ts';
import { assign, capture } from '../../../emulator/snapshot.ts';
import { FakeGuest } from '../hyperv/fake-guest.ts';
import { emptyDisk } from './fake-disk.ts';
import { FakeDriver } from './fake-driver.ts';

const { message } = FakeDriver;
const SCSI = 'ba6163d9-04a1-4d29-b605-72e2ffb1dc7f';
const TO_CHILD = 0x30_0000;
const TO_PARENT = 0x30_1000;
const LATENCY = 100_000;

/** A guest with a SCSI controller, connected with monitor pages, the controller's channel open. */
function monitored(pages: [number, number] = [TO_CHILD, TO_PARENT], monitorPages = true) {
  const d = new FakeDriver({ monitorPages, disks: [emptyDisk()] });
  d.connect(0x6_0000, 0, pages);
  const { relid, connectionId, payload } = d.offers.get(SCSI) ?? assert.fail('no SCSI controller');
  const offer = new DataView(payload.buffer, payload.byteOffset);
  return {
    d,
    relid,
    connectionId,
    offer: { id: offer.getUint8(188), allocated: offer.getUint8(189), flags: offer.getUint16(56, true) },
  };
}

test('devices that can wait get a monitor id, and its latency and connection are on the page; others get none', () => {
  const { d, connectionId, offer } = monitored();
  assert.deepEqual(offer, { id: 0, allocated: 1, flags: 0x400 });
  const others = [...d.offers].filter(([type]) => type !== SCSI);
  assert.deepEqual(
    others.map(([, o]) => [o.payload[189], new DataView(o.payload.buffer, o.payload.byteOffset).getUint16(56, true) & 0x400]),
    others.map(() => [0, 0]),
  );
  const u32 = (at: number) => d.ram.view.getUint32(TO_PARENT + at, true);
  assert.deepEqual([u32(0), d.ram.view.getUint16(TO_PARENT + 0x240, true), u32(0x440)], [1, LATENCY / 100, connectionId]);
  assert.ok(d.ram.bytes.subarray(TO_CHILD, TO_CHILD + 4096).every((b) => b === 0));
});

test('without monitor pages, or with pages that are none, every channel is signalled by hypercall', () => {
  assert.deepEqual(monitored(undefined, false).offer, { id: 0, allocated: 0, flags: 0 });
  for (const pages of [
    [0, 0],
    [TO_CHILD, 0],
    [TO_CHILD, TO_PARENT + 8],
    [TO_CHILD, 0xffff_f000],
  ] as [number, number][])
    assert.deepEqual(monitored(pages).offer, { id: 0, allocated: 0, flags: 0 }, pages.join());
});

test('a bit in the page is a signal within the latency, and is cleared', () => {
  const { d, relid } = monitored();
  const c = d.open(relid);
  d.advance(2_000_000);
  const info = () => [d.channelInfo(relid).signalsFromGuest, d.channelInfo(relid).packetsFromGuest];
  // BEGIN_INITIALIZATION of the storvsc protocol (operation 7).
  const begin = new Uint8Array(64);
  begin[0] = 7;
  c.out.put(6, 1n, begin, 1);
  d.ram.view.setUint32(TO_PARENT + 8, 0x1, true);
  d.advance(LATENCY - 1);
  const early = info();
  d.advance(1);
  assert.deepEqual([early[0] <= 1, info(), d.ram.view.getUint32(TO_PARENT + 8, true)], [true, [1, 1], 0]);
  assert.equal(c.in.take()?.type, 0xb);
  // The hypercall still works.
  d.signal(c);
  assert.equal(info()[0], 2);
});

test('nothing is looked at while no monitored channel is open, and no page after UNLOAD', () => {
  const { d, relid } = monitored();
  d.ram.view.setUint32(TO_PARENT + 8, 1, true);
  d.advance(10 * LATENCY);
  assert.equal(d.ram.view.getUint32(TO_PARENT + 8, true), 1);
  d.open(relid);
  d.advance(2 * LATENCY);
  assert.equal(d.ram.view.getUint32(TO_PARENT + 8, true), 0);
  d.post(message(16));
  d.ram.view.setUint32(TO_PARENT + 8, 1, true);
  d.advance(10 * LATENCY);
  assert.deepEqual(
    [d.ram.view.getUint32(TO_PARENT + 8, true), d.clock.state.alarms.filter((a) => a.id === 'vmbus/monitor')],
    [1, []],
  );
});

test('MODIFY_CONNECTION moves the pages of a guest that has the feature', () => {
  const d = new FakeDriver({ monitorPages: true, disks: [emptyDisk()] });
  for (const vp of [0, 1]) d.setUpSynic(vp);
  const modify = (page1: number, page2: number) => {
    d.post(message(25, page1, 0, page2, 0));
    return d.inbox.splice(0).map((m) => [m.type, m.payload[8]]);
  };
  d.contact(0x6_0000, 0, [TO_CHILD, TO_PARENT], 4);
  assert.deepEqual(modify(0x31_0000, 0x31_1000), [[26, 0]]);
  assert.equal(d.vmbus.state.monitor.page, 0x31_1000);
  assert.deepEqual([modify(0x31_0000, 0x7000_0000), d.vmbus.state.monitor.page], [[[26, 2]], 0]);
  assert.deepEqual(modify(0, 0), [[26, 0]]);
  d.contact(0x6_0000, 0, [TO_CHILD, TO_PARENT], 0);
  assert.deepEqual(modify(0x31_0000, 0x31_1000), []);
});

test('128 triggers in four groups, each its own; later channels have none', () => {
  const g = new FakeGuest();
  const signals = new Array<number>(130).fill(0);
  const triggers = signals.map(
    (_, n): Trigger => ({ connectionId: 0x2001 + n, latency: LATENCY, open: true, onSignal: () => void signals[n]++ }),
  );
  const monitor = new Monitor(g.host, triggers);
  assert.equal(monitor.idOf(triggers[5]), undefined);
  assert.equal(monitor.connect(BigInt(TO_CHILD), BigInt(TO_PARENT)), true);
  assert.deepEqual(
    [0, 5, 127, 128].map((n) => monitor.idOf(triggers[n])),
    [0, 5, 127, undefined],
  );
  monitor.watch();
  assert.equal(g.ram.view.getUint32(TO_PARENT, true), 0xf);
  for (const id of [0, 31, 32, 95, 127]) {
    const at = TO_PARENT + 8 + 8 * Math.floor(id / 32);
    g.ram.view.setUint32(at, g.ram.view.getUint32(at, true) | (1 << (id % 32)), true);
  }
  g.advance(LATENCY);
  assert.deepEqual(
    [...signals.entries()].filter(([, n]) => n > 0),
    [0, 31, 32, 95, 127].map((id) => [id, 1]),
  );
});

test('a snapshot between the bit and the signal loses nothing', () => {
  const { d, relid } = monitored();
  d.open(relid);
  d.advance(2_000_000);
  const parts = () => [d.vmbus.state, d.partition.state, d.clock.state] as unknown as Record<string, unknown>[];
  d.ram.view.setUint32(TO_PARENT + 8, 1, true);
  const saved = parts().map((s) => capture(s));
  const ram = d.ram.bytes.slice();
  d.advance(LATENCY);
  const once = d.channelInfo(relid).signalsFromGuest;
  parts().forEach((s, i) => {
    assign(s, saved[i] as Record<string, unknown>);
  });
  d.ram.bytes.set(ram);
  d.advance(LATENCY);
  assert.deepEqual([once, d.channelInfo(relid).signalsFromGuest], [1, 1]);
});
