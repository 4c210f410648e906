/** What a VMBus device is, and what it sees of its channel. */
import type { Clock } from '../base/clock.ts';
import type { Tree } from '../base/inspect.ts';
import type { Trace } from '../base/trace.ts';
import type { DisplayConfig, SocketsConfig } from '../config.ts';
import type { Ram } from '../memory/ram.ts';
import type { NetworkRequest } from '../network/outside.ts';
import type { SocketRequest } from '../network/sockets.ts';
import type { GpaRange } from './gpadl.ts';
import type { Packet } from './ring.ts';

/** What the guest is told about a device (reference hyperv-arm64.md §8.5, §8.6). */
export interface Offer {
  interfaceType: string;
  instance: string;
  /** Packets carry a pipe header: the offer says so. */
  pipe: boolean;
  /** MMIO space that the guest is to find for the device, in MiB. */
  mmioMegabytes?: number;
  /** The host may be signalled late, by so many ns, if that saves hypercalls: by monitor page, where there is one. */
  monitorLatency?: number;
  /** The channel is a connection of a Hyper-V socket, which the host or the guest began. */
  socket?: { fromHost: boolean };
}

/** A packet to the guest. In-band unless told otherwise. */
export interface OutgoingPacket {
  type?: number;
  transactionId: bigint;
  completionRequested?: boolean;
  /** What stands before the payload: the ranges of a transfer page packet. A multiple of 8 bytes. */
  ranges?: Uint8Array;
  payload: Uint8Array;
  /** For the trace: `negotiate`, `heartbeat 5`. */
  what: string;
}

/** A device's end of its channel. */
export interface DeviceChannel {
  readonly open: boolean;
  /** 0: the device's primary channel; its sub-channels are numbered from 1. */
  readonly index: number;
  /** Packets wait for room in the guest's ring: `Device.onRoom` is called when they do no more. */
  readonly busy: boolean;
  /** Sends a packet, or keeps it until the guest has made room. False: not open, or the guest has long stopped reading. */
  send(packet: OutgoingPacket): boolean;
  /** Sends a packet if there is room for it now; if not, `Device.onRoom` is called when there may be. False: not sent. */
  sendIfRoom(packet: OutgoingPacket): boolean;
  /** Packets that `Device.accepts` has held back are taken now. */
  resume(): void;
  /** Tells the trace what a packet from the guest turned out to be, or what is wrong with it. */
  note(message: string): void;
  /** Tells the trace what came of something that the host has asked of the guest. */
  report(message: string, ok: boolean): void;
  /** The channel of this device with that index. */
  sibling(index: number): DeviceChannel | undefined;
  /** What a GPADL of this channel names, all of it RAM. undefined: there is no such GPADL, or not any more. Not to be kept. */
  gpadl(id: number): readonly GpaRange[] | undefined;
  /** Offers the first `count` sub-channels to the guest, which has asked for them. On the primary channel only. */
  offerSubChannels(count: number): void;
  /** The device is no longer `absent`: a connected guest gets its offer now. */
  offerNow(): void;
  /** Takes the channel away from the guest. False: the guest does not have it. */
  rescindNow(): boolean;
  /** The guest has a connection to the bus and knows its devices: what is offered now it gets. */
  readonly connected: boolean;
  /** Tells the guest what came of a TL_CONNECT_REQUEST that gets no offer; `status` is an NTSTATUS. */
  answerConnect(endpoint: string, service: string, status: number): void;
}

/** A stretch of guest physical addresses. */
export interface MmioWindow {
  readonly gpa: number;
  /** Bytes. */
  readonly size: number;
}

export interface DeviceEnvironment {
  readonly clock: Clock;
  readonly ram: Ram;
  readonly trace: Trace;
  readonly vpCount: number;
  /** Reference time in 100 ns. */
  referenceTime(): bigint;
  /** Wall-clock time at power-on, ms since 1970. */
  readonly startTime: number;
  /** The resolution that the synthetic video starts with. */
  readonly display: DisplayConfig;
  /** MMIO space that the guest may give to devices. */
  readonly mmio: readonly MmioWindow[];
  /** An SPI becomes pending once (edge). */
  raiseSpi(intid: number): void;
  /** Asks for something on the network outside the machine. */
  ask(request: NetworkRequest): void;
  /** Who answers the guest's Hyper-V sockets. undefined: nobody, there are none. */
  readonly sockets: SocketsConfig | undefined;
  /** Asks for something at the other end of the guest's Hyper-V sockets. */
  askSockets(request: SocketRequest): void;
}

export interface Device {
  /** Short name: `heartbeat`. */
  readonly name: string;
  readonly offer: Offer;
  /** All that changes; plain. */
  readonly state: object;
  /** Sub-channels that the guest may ask for. Left out: none. */
  readonly subChannels?: number;
  /** Channels that are connections of their own, numbered like sub-channels: each is offered, opened and rescinded by itself. Left out: none. */
  readonly connections?: number;
  /** The offer of a channel that is a connection. */
  offerOf?(index: number): Offer;
  /** There is nothing to offer yet. Left out: the device is there from the start. */
  readonly absent?: boolean;
  /** The guest has opened the channel and is ready for packets. */
  onOpen(channel: DeviceChannel): void;
  onPacket(packet: Packet, channel: DeviceChannel): void;
  /** False: further packets stay in the ring until `DeviceChannel.resume`. Left out: it takes all. */
  accepts?(channel: DeviceChannel): boolean;
  /** Everything that waited has gone into the guest's ring: there may be room for more. */
  onRoom?(channel: DeviceChannel): void;
  /** The channel is closed, by whomever: stop alarms, forget the conversation. */
  onClose(channel: DeviceChannel): void;
  /** The guest has let go of the device (or the connection), which had been taken away. */
  onReleased?(channel: DeviceChannel): void;
  /** The guest's connection to the bus has ended: it has no devices any more. */
  onDisconnect?(): void;
  inspect(): Tree;
  /** A channel that is a connection. */
  inspectChannel?(index: number): Tree;
  /** A packet in a few words, for the trace and for people. */
  describe(packet: Packet, from: 'guest' | 'host'): string;
}

/** Makes a device. Alarms are declared here, once. */
export type DeviceFactory = (channel: DeviceChannel, environment: DeviceEnvironment) => Device;
