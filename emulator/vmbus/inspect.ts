/** VMBus' part of the inspect tree: connection, GPADLs, monitor page, channels with their rings, devices. */
import { field, fieldsOf, flags, Group, held, List, type Place, register, type Tree, uint } from '../base/inspect.ts';
import type { Ram } from '../memory/ram.ts';
import type { Channel } from './channel.ts';
import type { Device } from './device.ts';
import type { Monitor } from './monitor.ts';
import {
  FEATURE_CLIENT_ID,
  FEATURE_MODIFY_CONNECTION,
  MONITOR_GROUPS,
  MONITOR_TRIGGERS,
  MonitorPage,
  packetName,
  RingHeader,
  RING_FEATURE_PENDING_SEND_SIZE,
  versionText,
} from './protocol.ts';
import { type Ring, SHOWN_PACKETS } from './ring.ts';
import type { VmbusState } from './connection.ts';

const PAGE_SIZE = 4096;
const bitOf = (mask: number): number => 31 - Math.clz32(mask);

export interface VmbusParts {
  readonly state: VmbusState;
  readonly ram: Ram;
  readonly vpCount: number;
  readonly channels: readonly Channel[];
  readonly monitor: Monitor;
  readonly devices: Readonly<Record<string, Device>>;
}

export function vmbusTree({ state, ram, vpCount, channels, monitor, devices }: VmbusParts): Tree {
  const { connection } = state;
  const vp = { min: 0n, max: BigInt(vpCount - 1) };
  return {
    connection: {
      state: connection.connected ? 'connected' : 'disconnected',
      version: connection.connected ? versionText(connection.version) : 'none',
      features: held(
        connection,
        'features',
        flags(32, { modifyConnection: bitOf(FEATURE_MODIFY_CONNECTION), clientId: bitOf(FEATURE_CLIENT_ID) }),
      ),
      targetVp: held(connection, 'targetVp', vp),
      offered: connection.offered,
    },
    gpadls: connection.gpadls.map((g) => {
      const pages = g.ranges.reduce((n, r) => n + r.pfns.length, 0);
      const done = g.complete ? `${pages} pages` : `${g.received.length} of ${g.expected} words received`;
      return new Group(
        () => `0x${g.id.toString(16)} of channel ${g.relid}, ${done}`,
        () => ({
          id: field(register(32), () => g.id),
          relid: g.relid,
          complete: g.complete,
          rangeCount: g.rangeCount,
          ranges: g.ranges.map((r) => ({
            byteCount: r.byteCount,
            byteOffset: r.byteOffset,
            pages: new List(r.pfns.length, (n) => field(register(64), () => r.pfns[n] * PAGE_SIZE)),
          })),
        }),
      );
    }),
    monitor: monitorTree(monitor, ram),
    channels: new List(channels.length, (relid) => channelNode(channels[relid - channels[0].relid], ram, vp), {
      first: channels[0].relid,
    }),
    devices: Object.fromEntries(Object.entries(devices).map(([name, device]) => [name, () => device.inspect()])),
  };
}

// --- monitored notifications --------------------------------------------------------------------------------------------------------

function monitorTree(monitor: Monitor, ram: Ram): Tree {
  const { page } = monitor.state;
  if (page === 0) return { page: 'none' };
  const { field: at } = MonitorPage;
  const place: Place = { view: ram.view, at: page, changed: (where, size) => ram.touch(where, size) };
  const word = (where: number, bytes: 2 | 4): ReturnType<typeof field> =>
    field(
      register(bytes * 8),
      () => (bytes === 2 ? ram.view.getUint16(where, true) : ram.view.getUint32(where, true)),
      (v) => {
        ram.touch(where, bytes);
        if (bytes === 2) ram.view.setUint16(where, Number(v), true);
        else ram.view.setUint32(where, Number(v), true);
      },
    );
  return {
    page: field(register(64), () => page),
    TriggerState: fieldsOf(MonitorPage, place).TriggerState,
    groups: new List(MONITOR_GROUPS, (g) => ({
      pending: word(page + at.TriggerGroup.offset + 8 * g, 4),
      armed: word(page + at.TriggerGroup.offset + 8 * g + 4, 4),
    })),
    triggers: monitor.triggers.slice(0, MONITOR_GROUPS * MONITOR_TRIGGERS).map(
      (t, id) =>
        new Group(
          () => `connection 0x${t.connectionId.toString(16)}`,
          () => ({
            open: t.open,
            latency: word(page + at.Latency.offset + 2 * id, 2),
            connectionId: word(page + at.Parameter.offset + 8 * id, 4),
          }),
        ),
    ),
  };
}

// --- channels -----------------------------------------------------------------------------------------------------------------------

function channelNode(channel: Channel, ram: Ram, vp: { min: bigint; max: bigint }): Group {
  const { state, device, terms, index } = channel;
  const count = uint(53);
  return new Group(
    () => `${device.name}${index > 0 ? ` ${index}` : ''}, ${state.state}${state.fault === '' ? '' : `, broken: ${state.fault}`}`,
    () => ({
      device: device.name,
      index,
      interfaceType: terms.interfaceType,
      instance: terms.instance,
      state: state.state,
      ...(state.fault === '' ? {} : { fault: state.fault }),
      // What MODIFYCHANNEL asks for; a guest that is not asked expects its interrupts elsewhere.
      targetVp: held(state, 'targetVp', vp),
      connectionId: field(register(32), () => channel.connectionId),
      openId: state.openId,
      ringGpadl: field(register(32), () => state.ringGpadl),
      signalsFromGuest: held(state, 'signalsFromGuest', count),
      signalsToGuest: held(state, 'signalsToGuest', count),
      packetsFromGuest: held(state, 'packetsFromGuest', count),
      packetsToGuest: held(state, 'packetsToGuest', count),
      wantsRoom: state.wantsRoom,
      queued: state.outgoing.map(({ what, payload, transactionId }) => ({ what, bytes: payload.length, transactionId })),
      ...(state.state === 'open'
        ? {
            toHost: () => ringTree(channel.toHost, ram, channel, 'guest'),
            toGuest: () => ringTree(channel.toGuest, ram, channel, 'host'),
          }
        : {}),
    }),
  );
}

function ringTree(ring: Ring, ram: Ram, channel: Channel, from: 'guest' | 'host'): Tree {
  const place: Place = { view: ram.view, at: ring.headerAt, changed: (at, size) => ram.touch(at, size) };
  const index = { min: 0n, max: BigInt(ring.size - 8), step: 8n, hex: true };
  const { fault } = ring;
  const { packets, wrong } = ring.waiting(SHOWN_PACKETS);
  return {
    header: field(register(64), () => ring.headerAt),
    size: ring.size,
    used: fault ? 0 : ring.used,
    ...(wrong ? { fault: wrong } : {}),
    ...fieldsOf(RingHeader, place, {
      ReadIndex: index,
      WriteIndex: index,
      FeatureBits: flags(32, { pendingSendSize: bitOf(RING_FEATURE_PENDING_SEND_SIZE) }),
    }),
    packets: packets.map(
      ({ at, bytes, packet }) =>
        new Group(
          () => channel.device.describe(packet, from),
          () => ({
            at: field(register(32), () => at),
            bytes,
            type: packetName(packet.type),
            transactionId: field(register(64), () => packet.transactionId),
            completionRequested: packet.completionRequested,
            ...(packet.ranges.length > 0 ? { ranges: packet.ranges } : {}),
            payload: packet.payload,
          }),
        ),
    ),
  };
}
