import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type GuestChannel, type GuestVmbus, readVmbus } from '../../../debug-adapter/linux/vmbus.ts';
import { Symbolizer } from '../../../debug-adapter/symbols/symbolizer.ts';
import { Catalog, type TypeSource } from '../../../debug-adapter/types/catalog.ts';
import {
  BASE_TYPES,
  type CompoundType,
  compound,
  enumeration,
  pointerTo,
  type Type,
  VOID,
} from '../../../debug-adapter/types/model.ts';
import { differencesOf } from '../../../debug-adapter/vmbus-view.ts';
import type { ChannelInfo } from '../../../emulator/index.ts';

const base = (name: string): Type => BASE_TYPES.get(name) ?? assert.fail(name);
const [bool, u32] = ['unsigned char', 'unsigned int'].map(base);
const any = pointerTo(VOID);
const struct = (name: string, size: number, ...members: [string, Type, number][]): CompoundType =>
  compound('struct', name, size, () => members.map(([of, type, offset]) => ({ name: of, type, offset })));
const list = struct('list_head', 16, ['next', any, 0], ['prev', any, 8]);
const state = enumeration('vmbus_channel_state', 4, false, () => [
  { name: 'CHANNEL_OFFER_STATE', value: 0n },
  { name: 'CHANNEL_OPENED_STATE', value: 3n },
]);
const ring = struct('hv_ring_buffer_info', 24, ['ring_buffer', any, 0], ['ring_datasize', u32, 8], ['priv_read_index', u32, 12]);
/** The driver's structs in small: members are found by name, so where they are is no matter. */
const STRUCTS = new Map(
  [
    ring,
    struct(
      'hv_ring_buffer',
      16,
      ['write_index', u32, 0],
      ['read_index', u32, 4],
      ['interrupt_mask', u32, 8],
      ['pending_send_sz', u32, 12],
    ),
    struct('vmbus_connection', 64, ['conn_state', u32, 0], ['chn_list', list, 8], ['channels', any, 24]),
    struct(
      'vmbus_channel',
      192,
      ['listentry', list, 0],
      ['state', state, 16],
      ['offermsg', struct('offer', 24, ['child_relid', u32, 8], ['connection_id', u32, 16]), 24],
      ['rescind', bool, 48],
      ['target_cpu', u32, 52],
      ['outbound', ring, 56],
      ['inbound', ring, 80],
      ['sc_list', list, 104],
      ['primary_channel', any, 120],
      ['onchannel_callback', any, 128],
      ['ringbuffer_gpadlhandle', u32, 136],
      ['device_obj', any, 144],
    ),
  ].map((s) => [s.name, s]),
);
const SOURCE: TypeSource = {
  module: undefined,
  find: (tag, name) => (tag === 'struct' ? STRUCTS.get(name) : undefined),
  constant: () => undefined,
  variable: () => undefined,
  functionType: () => undefined,
  complete: () => [],
};

const AT = 0xffff_8000_0010_0000n;
const SIZE = 0x8000;
/** The kernel's memory with `vmbus_connection` at its start and hv_vp_index behind it. */
function world(types = [SOURCE], names = ['vmbus_connection', 'hv_vp_index', 'hv_callback']) {
  const memory = new DataView(new ArrayBuffer(SIZE));
  const symbols = new Symbolizer();
  const known = { vmbus_connection: AT, hv_vp_index: AT + 0x100n, hv_callback: AT + 0x200n };
  symbols.setKernel(
    Object.entries(known)
      .filter(([name]) => names.includes(name))
      .map(([name, address]) => ({ name, address, type: 'D', size: 16 })),
  );
  const catalog = new Catalog(symbols);
  catalog.setSources([], types);
  const read = (address: bigint, length: number): Uint8Array | undefined => {
    const at = address - AT;
    return at < 0n || at + BigInt(length) > BigInt(SIZE) ? undefined : new Uint8Array(memory.buffer, Number(at), length).slice();
  };
  return { memory, source: { types: catalog, symbols, read, vpCount: 2 } };
}

test("the guest's channels come from its array and its list; sub-channels from their primary's; a chain that goes round ends", () => {
  const { memory, source } = world();
  const u = (at: number, value: number) => memory.setUint32(at, value, true);
  const p = (at: number, value: number) => memory.setBigUint64(at, AT + BigInt(value), true);
  const [TABLE, FIRST, SUB, RING] = [0x1000, 0x6000, 0x6100, 0x7000];
  u(0, 2);
  p(24, TABLE);
  p(TABLE + 8 * 5, FIRST);
  // The list holds the first channel alone, and goes round past its head.
  p(8, FIRST);
  p(FIRST, FIRST);
  p(0x100, 0x180);
  u(0x180, 7);
  u(0x184, 9);
  for (const [at, relid, primary] of [
    [FIRST, 5, 0],
    [SUB, 6, FIRST],
  ]) {
    u(at + 16, 3);
    u(at + 24 + 8, relid);
    u(at + 24 + 16, 0x2000 + relid);
    u(at + 52, 1);
    if (primary) p(at + 120, primary);
    u(at + 136, 0xe1e10);
  }
  p(FIRST + 104, SUB + 104);
  p(SUB + 104, FIRST + 104);
  p(TABLE + 8 * 6, SUB);
  p(FIRST + 128, 0x200);
  p(FIRST + 56, RING);
  u(FIRST + 64, 0x3000);
  u(FIRST + 68, 8);
  for (const [i, v] of [16, 24, 1, 40].entries()) u(RING + 4 * i, v);
  const guest = readVmbus(source) as GuestVmbus;
  const common = { state: 'CHANNEL_OPENED_STATE', targetCpu: 1, targetVpIndex: 9, rescind: false, gpadl: 0xe1e10 };
  const outbound = { size: 0x3000, privateRead: 8, read: 24, write: 16, interruptMask: 1, pendingSendSize: 40 };
  assert.deepEqual(guest, {
    state: '2',
    channels: [
      {
        relid: 5,
        address: AT + BigInt(FIRST),
        ...common,
        connectionId: 0x2005,
        subChannels: [6],
        callback: 'hv_callback',
        outbound,
      },
      { relid: 6, address: AT + BigInt(SUB), ...common, connectionId: 0x2006, primary: 5 },
    ],
  });
});

test('why there is no half of the guest is said', () => {
  assert.match(String(readVmbus(world([SOURCE], []).source)), /^its symbol vmbus_connection is not known/);
  assert.match(String(readVmbus(world([]).source)), /^the types of hv_vmbus are not known/);
});

test('whatever is in guest memory, reading ends, with at most as many channels as there can be', () => {
  const words = fc.array(fc.oneof(fc.integer({ min: 0, max: SIZE - 8 }), fc.integer({ min: 0, max: 2 ** 31 })), {
    minLength: 64,
    maxLength: 512,
  });
  fc.assert(
    fc.property(words, (values) => {
      const { memory, source } = world();
      // Pointers into this memory again and again: chains, loops, channels that overlap.
      for (let at = 0; at + 8 <= SIZE; at += 8) {
        const value = values[(at / 8) % values.length];
        memory.setBigUint64(at, value < SIZE ? AT + BigInt(value & ~7) : BigInt(value), true);
      }
      const guest = readVmbus(source);
      assert.ok(typeof guest === 'object' && guest.channels.length <= 2048);
    }),
    { numRuns: 50 },
  );
});

test('what host and guest do not agree on is said, and what they agree on is not', () => {
  const ringInfo = { used: 0, size: 0x3000, read: 8, write: 8, interruptMask: 0, pendingSendSize: 0, packets: [] };
  const host = {
    ...{ relid: 5, index: 0, device: 'scsi', interfaceType: '', instance: '', state: 'open', targetVp: 1, connectionId: 0x2005 },
    ...{ ringGpadl: 3, signalsFromGuest: 0, signalsToGuest: 0, packetsFromGuest: 0, packetsToGuest: 0, queued: [], details: {} },
    ...{ outgoing: ringInfo, incoming: ringInfo },
  } satisfies ChannelInfo;
  const their = { size: 0x3000, read: 8, write: 8, interruptMask: 0 };
  const guest: GuestChannel = {
    ...{
      relid: 5,
      address: AT,
      state: 'CHANNEL_OPENED_STATE',
      targetCpu: 1,
      targetVpIndex: 9,
      connectionId: 0x2005,
      rescind: false,
    },
    ...{ gpadl: 3, outbound: their, inbound: { ...their, privateRead: 0 } },
  };
  const differ = (h: Partial<ChannelInfo>, g: Partial<GuestChannel> | undefined) =>
    differencesOf({ ...host, ...h }, g && { ...guest, ...g }, [7, 9]);
  assert.deepEqual(
    [
      differ({}, {}),
      differ({}, undefined),
      differ({ state: 'rescinded' }, undefined),
      differ({}, { state: 'CHANNEL_OFFER_STATE' }),
      differ({ state: 'closed' }, {}),
      differ({ state: 'rescinded' }, { state: 'CHANNEL_OFFER_STATE' }),
      differ({}, { rescind: true, connectionId: 4 }),
      differ({ targetVp: 0 }, {}),
      differ({ ringGpadl: 4 }, { outbound: { ...their, read: 16, write: 24 } }),
    ],
    [
      [],
      ['the host has it open, the guest has no such channel'],
      [],
      ['state: the host has it open, the guest in CHANNEL_OFFER_STATE'],
      ['state: the host has it closed, the guest in CHANNEL_OPENED_STATE'],
      ['rescinded by the host, not seen by the guest yet'],
      ['the guest thinks that it is rescinded', 'connection ID: 0x2005 of the host, 0x4 of the guest'],
      ['target: VP index 7 of the host, 9 (CPU 1) of the guest'],
      [
        'ring GPADL: 0x4 of the host, 0x3 of the guest',
        'ring to the host, read index: 0x8 of the host, 0x10 of the guest',
        'ring to the host, write index: 0x8 of the host, 0x18 of the guest',
      ],
    ],
  );
});
