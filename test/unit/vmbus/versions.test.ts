import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError } from '../../../emulator/config.ts';
import { DEVICES } from '../../../emulator/vmbus/devices/index.ts';
import { FakeDriver } from './fake-driver.ts';

const { message } = FakeDriver;
/** Devices that every guest is offered: not those that are there only when configured. */
const COUNT = Object.keys(DEVICES).filter((name) => !['scsi', 'network', 'socket', 'pci'].includes(name)).length;
const ALL = [0x2_0004, 0x3_0000, 0x4_0000, 0x4_0001, 0x5_0000, 0x5_0001, 0x5_0002, 0x5_0003, 0x6_0000];

for (const [ceiling, version] of [
  ['2.4', 0x2_0004],
  ['3.0', 0x3_0000],
  ['4.1', 0x4_0001],
  ['5.2', 0x5_0002],
  ['6.0', 0x6_0000],
] as const)
  test(`a host of VMBus ${ceiling} speaks that and what is older`, () => {
    const d = new FakeDriver({ version: ceiling });
    for (const vp of [0, 1]) d.setUpSynic(vp);
    // Whoever asks at connection 4 where there is none learns it from the status.
    const asked = version >= 0x5_0000 ? ALL : ALL.filter((v) => v < 0x5_0000);
    assert.deepEqual(
      asked.filter((v) => d.contact(v).supported === 1),
      ALL.filter((v) => v <= version),
    );
    d.connect(version);
    assert.deepEqual([d.vmbus.info().version, d.offers.size], [ceiling, COUNT]);
  });

test('a host that does not speak 5.0 has no connection 4, and says so by status', () => {
  const initiate = message(14, 0x5_0003, 0, 2, 0, 0, 0, 0, 0);
  assert.equal(new FakeDriver({ version: '4.1' }).post(initiate, 4), 'HV_STATUS_INVALID_CONNECTION_ID');
  assert.equal(new FakeDriver({ version: '5.0' }).post(initiate, 4), 'HV_STATUS_SUCCESS');
});

test('a version that is none is refused by name', () => {
  for (const version of ['7.0', '', '5', 'new'])
    assert.throws(
      () => new FakeDriver({ version }),
      new ConfigError(`vmbusVersion "${version}" is not a version of VMBus: 2.4, 3.0, 4.0, 4.1, 5.0, 5.1, 5.2, 5.3, 6.0`),
    );
});

test('6.0 grants the features that work here and no others, and takes a client id', () => {
  const d = new FakeDriver();
  for (const vp of [0, 1]) d.setUpSynic(vp);
  const granted = (features: number) => d.contact(0x6_0000, 0, [0, 0], features).features;
  assert.deepEqual([0, 4, 8, 0xffff_ffff, 0x10].map(granted), [0, 4, 8, 12, 0]);
  d.post(message(14, 0x6_0000, 0, 2, 8, 0, 0, 0, 0, new Uint8Array(16).fill(7)), 4);
  const answer = d.next(15);
  assert.deepEqual([answer.byteLength, answer.getUint8(8), answer.getUint32(16, true)], [20, 1, 8]);
  // Feature flags of older versions mean nothing, and their answer is as short as it was.
  assert.equal('features' in d.contact(0x5_0003, 0, [0, 0], 0xff), false);
});

test('messages of newer versions are not answered in older ones', () => {
  for (const [version, bytes, answers] of [
    [0x3_0000, message(21, new Uint8Array(32)), []],
    [0x4_0000, message(22, 1, 1), []],
    [0x5_0003, message(25, 0, 0, 0, 0), []],
    [0x2_0004, message(16), [17]],
    [0x3_0000, message(16), [17]],
  ] as [number, Uint8Array, number[]][]) {
    const d = new FakeDriver();
    d.connect(version);
    d.post(bytes);
    assert.deepEqual(
      d.inbox.map((m) => m.type),
      answers,
      version.toString(16),
    );
  }
});
