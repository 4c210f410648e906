/**
 * VMBus: `Vmbus` is what the machine sees, devices and channels wired to the partition's ports; `Connection` is the host's
 * end of the control conversation: version, offers, GPADLs, opening and closing, unload (reference hyperv-arm64.md §8.1 to
 * §8.7, §8.11). A message is handled by a function of its name; whatever else the guest posts is a trace line.
 */
import type { Tree } from '../base/inspect.ts';
import type { HypervisorHost } from '../hyperv/host.ts';
import type { MessagePort, Partition } from '../hyperv/partition.ts';
import { STATUS } from '../hyperv/tlfs.ts';
import {
  ConfigError,
  type CopyRequest,
  DEFAULTS,
  type DiskConfig,
  type DisplayConfig,
  type NetworkConfig,
  type SocketsConfig,
} from '../config.ts';
import type { ChannelAction, MouseInput, NetworkRequest, Screen, SocketRequest, VmbusInfo } from '../index.ts';
import { Channel, type ChannelBus, type ChannelState } from './channel.ts';
import type { DeviceEnvironment, MmioWindow } from './device.ts';
import { DEVICES, type Devices } from './devices/index.ts';
import { finish, type GpaRange, type GpadlState, newGpadl, receive, ringPages } from './gpadl.ts';
import { vmbusTree } from './inspect.ts';
import { Monitor, type MonitorState } from './monitor.ts';
import {
  CHANNEL_FLAG_ENUMERATE_DEVICE_INTERFACE,
  CHANNEL_FLAG_NAMED_PIPE,
  CHANNEL_FLAG_REQUEST_MONITORED_NOTIFICATION,
  CHANNEL_FLAG_TLNPI_PROVIDER,
  describeMessage,
  EVENT_CONNECTION_BASE,
  FEATURE_CLIENT_ID,
  FEATURE_MODIFY_CONNECTION,
  makeMessage,
  MAX_RELID,
  MESSAGES,
  MESSAGE_CONNECTION,
  MESSAGE_CONNECTION_5_0,
  type MessageBody,
  type MessageName,
  messageName,
  messageNameOf,
  NT_INSUFFICIENT_RESOURCES,
  NT_INVALID_PARAMETER,
  PIPE_MODE_BYTE,
  PIPE_MODE_MESSAGE,
  readMessage,
  tailOf,
  VERSION_4_1,
  VERSION_5_0,
  VERSION_5_3,
  VERSION_6_0,
  VERSIONS,
  versionText,
  VMBUS_MESSAGE_TYPE,
  VMBUS_SINT,
} from './protocol.ts';
import type { Services } from './services.ts';

export interface ConnectionState {
  connected: boolean;
  version: number;
  /** Feature flags granted; from 6.0 on. */
  features: number;
  /** The VP that gets our messages: the guest's connect VP. */
  targetVp: number;
  /** The guest has asked for offers: what comes later is offered when it comes. */
  offered: boolean;
  gpadls: GpadlState[];
}

export const newConnection = (): ConnectionState => ({
  connected: false,
  version: 0,
  features: 0,
  targetVp: 0,
  offered: false,
  gpadls: [],
});

/** Messages that may wait for the guest before it is asked to post later; the guest retries on that status. */
const MAX_WAITING = 64;
/** A guest that has more GPADLs than this is not using them, or more page numbers in them: those of 4 GiB. */
const MAX_GPADLS = 1024;
const MAX_GPADL_QWORDS = 1 << 20;

/** FAILED_UNKNOWN_FAILURE (microsoft/openvmm vmbus_core/src/protocol.rs, ConnectionState). */
const CONNECTION_FAILED = 2;

type Handlers = { [N in MessageName]?: (message: MessageBody<N>, payload: Uint8Array, vp: number) => void };

export class Connection implements MessagePort {
  readonly state: ConnectionState;
  readonly #host: HypervisorHost;
  readonly #partition: Partition;
  readonly #channels: readonly Channel[];
  readonly #monitor: Monitor;
  readonly #versions: readonly number[];
  readonly #handlers: Handlers;

  /** Speaks `versions`; channels that have an id of `monitor` are signalled through it; `connect` gets what sockets ask for. */
  constructor(
    partition: Partition,
    channels: readonly Channel[],
    state: ConnectionState,
    versions: readonly number[],
    monitor: Monitor,
    connect: (endpoint: string, service: string) => void,
  ) {
    this.state = state;
    this.#host = partition.host;
    this.#partition = partition;
    this.#channels = channels;
    this.#monitor = monitor;
    this.#versions = versions;
    this.#handlers = {
      InitiateContact: (m, _payload, vp) => this.#initiateContact(m, vp),
      InitiateContact2: (m, _payload, vp) => this.#initiateContact(m, vp),
      ModifyConnection: (m) => this.#modifyConnection(m),
      Unload: (_m, _payload, vp) => this.#unload(vp),
      RequestOffers: () => this.#requestOffers(),
      GpadlHeader: (m, payload) => this.#gpadlHeader(m, payload),
      GpadlBody: (m, payload) => this.#gpadlBody(m, payload),
      GpadlTeardown: (m) => this.#gpadlTeardown(m),
      OpenChannel: (m) => this.#openChannel(m),
      CloseChannel: (m) => this.#closeChannel(m),
      RelIdReleased: (m) => this.#relidReleased(m),
      ModifyChannel: (m) => this.#modifyChannel(m),
      TlConnectRequest: (m) => connect(m.EndpointId, m.ServiceId),
      TlConnectRequest2: (m) => connect(m.EndpointId, m.ServiceId),
    };
  }

  post(vp: number, messageType: number, payload: Uint8Array): number {
    if (messageType !== VMBUS_MESSAGE_TYPE) {
      this.#note(`message of SynIC type ${messageType}`);
      return STATUS.SUCCESS;
    }
    const name = messageName(payload);
    const fresh = name === 'InitiateContact' || name === 'InitiateContact2' || name === 'Unload';
    if (!fresh && this.#partition.vps[this.state.targetVp].synic.queued(VMBUS_SINT) >= MAX_WAITING)
      return STATUS.INSUFFICIENT_BUFFERS;
    if (name === undefined) {
      this.#note(`message of ${payload.length} bytes that is too short or unknown`);
      return STATUS.SUCCESS;
    }
    this.#told('guest-to-host', name, payload);
    const handler = this.#handlers[name] as ((message: unknown, payload: Uint8Array, vp: number) => void) | undefined;
    const row = MESSAGES[name];
    if (!fresh && !this.state.connected) this.#note(`${name} while not connected`);
    else if (row.from !== 'guest' || !handler) this.#note(`${name}: no such request here`);
    else if (!fresh && this.state.version < row.since) this.#note(`${name} with version ${versionText(this.state.version)}`);
    else handler(readMessage(name, payload), payload, vp);
    return STATUS.SUCCESS;
  }

  describe(messageType: number, payload: Uint8Array): Record<string, unknown> | undefined {
    return messageType === VMBUS_MESSAGE_TYPE ? describeMessage(payload) : undefined;
  }

  /** Ends the conversation at once: channels let go of their rings, nothing more is sent. */
  reset(): void {
    for (const channel of this.#channels) channel.detach('unoffered');
    for (const { index, device } of this.#channels) if (index === 0) device.onDisconnect?.();
    this.#monitor.disconnect();
    for (const vp of this.#partition.vps) vp.synic.drop(VMBUS_SINT);
    Object.assign(this.state, newConnection());
  }

  /** Takes a device away from the guest. False: it was not offered. */
  rescind(channel: Channel): boolean {
    const { state } = channel.state;
    if (!this.state.connected || state === 'unoffered' || state === 'rescinded') return false;
    this.#detach(channel, 'rescinded');
    this.#send('RescindChannelOffer', { ChildRelId: channel.relid });
    return true;
  }

  /** The ranges of a GPADL that belongs to a channel. */
  ranges(channel: Channel, id: number): readonly GpaRange[] | undefined {
    const gpadl = this.#gpadl(id);
    return gpadl?.complete && gpadl.relid === channel.relid ? gpadl.ranges : undefined;
  }

  /** Offers a device that was not there before, if the guest is past its first offers. */
  offerNow(channel: Channel): void {
    if (this.state.offered && channel.state.state === 'unoffered') this.#offer(channel);
  }

  /** A connection that gets no offer: hosts before 4.1 do not say so. */
  answerConnect(EndpointId: string, ServiceId: string, Status: number): void {
    if (this.state.version >= VERSION_4_1) this.#send('TlConnectResult', { EndpointId, ServiceId, Status });
  }

  /** Offers sub-channels 1 to `count` of a device, as far as there are any that the guest does not have. */
  offerSubChannels(primary: Channel, count: number): void {
    for (const channel of this.#subChannels(primary))
      if (channel.index <= count && channel.state.state === 'unoffered') this.#offer(channel);
  }

  // --- messages ----------------------------------------------------------------------------------------------------------------

  #initiateContact(m: MessageBody<'InitiateContact'>, vp: number): void {
    // A guest that connects anew (kexec, driver reload) has forgotten the old connection.
    this.reset();
    const version = m.VmbusVersionRequested;
    const modern = version >= VERSION_5_0;
    const sint = Number(m.InterruptPage & 0xffn);
    const vtl = Number((m.InterruptPage >> 8n) & 0xffn);
    const target = this.#partition.vpAt(m.TargetVp);
    this.state.targetVp = target ? target.index : vp;
    const known = this.#versions.includes(version);
    const supported = known && target !== undefined && (!modern || (sint === VMBUS_SINT && vtl === 0));
    if (!supported) {
      if (known) this.#note(`connection to VP ${m.TargetVp}, SINT ${sint}, VTL ${vtl} refused`);
      this.#send('VersionResponse', { VersionSupported: 0 });
      return;
    }
    this.state.connected = true;
    this.state.version = version;
    this.#useMonitorPages(m.MonitorPage1, m.MonitorPage2);
    if (version < VERSION_6_0) {
      this.#send('VersionResponse', {
        VersionSupported: 1,
        SelectedVersionOrConnectionId: modern ? MESSAGE_CONNECTION_5_0 : version,
      });
      return;
    }
    this.state.features = Number(m.InterruptPage >> 32n) & (FEATURE_MODIFY_CONNECTION | FEATURE_CLIENT_ID);
    this.#send('VersionResponse2', {
      VersionSupported: 1,
      ConnectionId: MESSAGE_CONNECTION_5_0,
      SupportedFeatures: this.state.features,
    });
  }

  /** Other monitor pages, or none. */
  #modifyConnection(m: MessageBody<'ModifyConnection'>): void {
    if (!(this.state.features & FEATURE_MODIFY_CONNECTION)) {
      this.#note('ModifyConnection, a feature that was not granted');
      return;
    }
    const none = m.MonitorPage1 === 0n && m.MonitorPage2 === 0n;
    const ok = this.#useMonitorPages(m.MonitorPage1, m.MonitorPage2) || none;
    this.#send('ModifyConnectionResponse', { ConnectionState: ok ? 0 : CONNECTION_FAILED });
  }

  #useMonitorPages(parentToChild: bigint, childToParent: bigint): boolean {
    if (this.#monitor.unused) return true;
    const ok = this.#monitor.connect(parentToChild, childToParent);
    if (!ok) this.#note('no monitor pages in RAM: every signal is a hypercall');
    this.#monitor.watch();
    return ok;
  }

  #unload(vp: number): void {
    const target = this.state.connected ? this.state.targetVp : vp;
    this.reset();
    this.state.targetVp = target;
    this.#send('UnloadResponse', {});
  }

  #requestOffers(): void {
    this.state.offered = true;
    for (const channel of this.#channels)
      if (channel.index === 0 && channel.state.state === 'unoffered' && !channel.device.absent) this.#offer(channel);
    this.#send('AllOffersDelivered', {});
  }

  #offer(channel: Channel): void {
    const offer = channel.terms;
    const { socket } = offer;
    const user = new Uint8Array(120);
    if (offer.pipe) new DataView(user.buffer).setUint32(0, socket ? PIPE_MODE_BYTE : PIPE_MODE_MESSAGE, true);
    // The first byte of what is the user's own.
    if (socket?.fromHost) user[4] = 1;
    channel.offer();
    const monitorId = this.#monitor.idOf(channel);
    this.#send('OfferChannel', {
      InterfaceType: offer.interfaceType,
      InterfaceInstance: offer.instance,
      ChannelFlags:
        (offer.pipe ? CHANNEL_FLAG_NAMED_PIPE : 0) |
        (socket ? CHANNEL_FLAG_ENUMERATE_DEVICE_INTERFACE | CHANNEL_FLAG_TLNPI_PROVIDER : 0) |
        (monitorId === undefined ? 0 : CHANNEL_FLAG_REQUEST_MONITORED_NOTIFICATION),
      MmioMegabytes: offer.mmioMegabytes ?? 0,
      UserDefined: user,
      SubChannelIndex: socket ? 0 : channel.index,
      ChildRelId: channel.relid,
      ...(monitorId === undefined ? {} : { MonitorId: monitorId, MonitorAllocated: 1 }),
      IsDedicatedInterrupt: 1,
      ConnectionId: channel.connectionId,
    });
  }

  #gpadlHeader(m: MessageBody<'GpadlHeader'>, payload: Uint8Array): void {
    const { gpadls } = this.state;
    const failure = !this.#channel(m.ChildRelId, m) || this.#gpadl(m.Gpadl) ? NT_INVALID_PARAMETER : NT_INSUFFICIENT_RESOURCES;
    const qwords = gpadls.reduce((n, g) => n + g.expected, Math.ceil(m.RangeBufferLength / 8));
    if (failure === NT_INVALID_PARAMETER || gpadls.length >= MAX_GPADLS || qwords > MAX_GPADL_QWORDS) {
      this.#send('GpadlCreated', { ChildRelId: m.ChildRelId, Gpadl: m.Gpadl, CreationStatus: failure });
      return;
    }
    const gpadl = newGpadl(m.Gpadl, m.ChildRelId, m.RangeCount, m.RangeBufferLength);
    gpadls.push(gpadl);
    this.#gpadlMore(gpadl, tailOf('GpadlHeader', payload));
  }

  #gpadlBody(m: MessageBody<'GpadlBody'>, payload: Uint8Array): void {
    const gpadl = this.#gpadl(m.Gpadl);
    if (!gpadl || gpadl.complete) this.#note(`body of GPADL 0x${m.Gpadl.toString(16)}, which expects none`);
    else this.#gpadlMore(gpadl, tailOf('GpadlBody', payload));
  }

  #gpadlMore(gpadl: GpadlState, qwords: bigint[]): void {
    if (!receive(gpadl, qwords)) return;
    const ok = finish(gpadl, this.#host.ram);
    if (!ok) {
      this.#note(`GPADL 0x${gpadl.id.toString(16)} makes no sense or is not RAM`);
      this.#forget(gpadl.id);
    }
    this.#send('GpadlCreated', { ChildRelId: gpadl.relid, Gpadl: gpadl.id, CreationStatus: ok ? 0 : NT_INVALID_PARAMETER });
  }

  #gpadlTeardown(m: MessageBody<'GpadlTeardown'>): void {
    if (!this.#gpadl(m.Gpadl)) {
      this.#note(`teardown of GPADL 0x${m.Gpadl.toString(16)}, which does not exist`);
      return;
    }
    const user = this.#channels.find((c) => c.state.state === 'open' && c.state.ringGpadl === m.Gpadl);
    if (user) {
      // The guest gets its pages back whatever it forgot: nothing of ours may touch them after the answer.
      this.#note(`teardown of the rings of open channel ${user.relid}`);
      this.#detach(user, 'closed');
    }
    this.#forget(m.Gpadl);
    this.#send('GpadlTorndown', { Gpadl: m.Gpadl });
  }

  #openChannel(m: MessageBody<'OpenChannel'>): void {
    const channel = this.#channel(m.ChildRelId, m);
    const gpadl = this.#gpadl(m.RingBufferGpadlHandle);
    const pages = gpadl && gpadl.relid === m.ChildRelId ? ringPages(gpadl) : undefined;
    const downstream = m.DownstreamRingBufferPageOffset;
    // Each ring has its header and one page of data at least.
    const fits = pages !== undefined && downstream >= 2 && pages.length - downstream >= 2;
    const ready = channel?.state.state === 'offered' || channel?.state.state === 'closed';
    const target = this.#partition.vpAt(m.TargetVp);
    const ok = channel && ready && fits && target;
    if (!ok) this.#note(`channel ${m.ChildRelId} cannot be opened: ${describe(ready, fits)}`);
    this.#send('OpenChannelResult', { ChildRelId: m.ChildRelId, OpenId: m.OpenId, Status: ok ? 0 : NT_INVALID_PARAMETER });
    if (!ok) return;
    channel.attach(m.OpenId, m.RingBufferGpadlHandle, pages, downstream, target.index);
    this.#monitor.watch();
  }

  #closeChannel(m: MessageBody<'CloseChannel'>): void {
    const channel = this.#channel(m.ChildRelId, m);
    if (channel?.state.state === 'open') this.#detach(channel, 'closed');
  }

  #relidReleased(m: MessageBody<'RelIdReleased'>): void {
    const channel = this.#channel(m.ChildRelId, m);
    if (channel?.state.state !== 'rescinded') return;
    channel.detach('unoffered');
    // What the guest forgot to tear down goes with the channel.
    this.state.gpadls = this.state.gpadls.filter((g) => g.relid !== m.ChildRelId);
    if (channel.index === 0 || channel.device.connections) channel.device.onReleased?.(channel);
  }

  #modifyChannel(m: MessageBody<'ModifyChannel'>): void {
    const channel = this.#channel(m.ChildRelId, m);
    const target = this.#partition.vpAt(m.TargetVp);
    const ok = channel?.state.state === 'open' && target !== undefined;
    if (ok) channel.state.targetVp = target.index;
    if (this.state.version >= VERSION_5_3)
      this.#send('ModifyChannelResponse', { ChildRelId: m.ChildRelId, Status: ok ? 0 : NT_INVALID_PARAMETER });
  }

  // --- what they share -----------------------------------------------------------------------------------------------------------

  /** An offered channel, or a trace line. */
  #channel(relid: number, message: { MessageType: number }): Channel | undefined {
    const channel = this.#channels.find((c) => c.relid === relid && c.state.state !== 'unoffered');
    if (!channel) this.#note(`${messageNameOf(message.MessageType)} for channel ${relid}, which is not offered`);
    return channel;
  }

  #subChannels(primary: Channel): Channel[] {
    return this.#channels.filter((c) => c.device === primary.device && c.index > 0);
  }

  /** Lets go of a channel's rings. Sub-channels live only as long as their primary channel is open (§8.11). */
  #detach(channel: Channel, next: 'closed' | 'rescinded'): void {
    channel.detach(next);
    if (channel.index === 0) for (const sub of this.#subChannels(channel)) this.rescind(sub);
  }

  #gpadl(id: number): GpadlState | undefined {
    return this.state.gpadls.find((g) => g.id === id);
  }

  #forget(id: number): void {
    this.state.gpadls = this.state.gpadls.filter((g) => g.id !== id);
  }

  #send<N extends MessageName>(name: N, body: Partial<MessageBody<N>>): void {
    const payload = makeMessage(name, body);
    this.#told('host-to-guest', name, payload);
    this.#partition.deliverMessage(this.state.targetVp, VMBUS_SINT, VMBUS_MESSAGE_TYPE, payload);
  }

  #told(direction: 'guest-to-host' | 'host-to-guest', name: MessageName, payload: Uint8Array): void {
    if (!this.#host.trace.wants('message')) return;
    const { Message: _, ...fields } = describeMessage(payload);
    this.#host.trace.emit({ kind: 'message', direction, type: MESSAGES[name].type, name, fields });
  }

  #note(message: string): void {
    this.#host.trace.emit({ kind: 'guest', part: 'vmbus', message });
  }
}

const describe = (ready: boolean, fits: boolean): string =>
  !ready ? 'it is not closed' : fits ? 'no such VP' : 'its GPADL does not hold two rings';

export interface VmbusOptions {
  /** Wall-clock time at power-on, ms since 1970. */
  startTime: number;
  /** On the SCSI controller, from LUN 0 on, and on the NVMe controller, from namespace 1 on. */
  disks?: readonly DiskConfig[];
  /** Left out: there is no network card. */
  network?: NetworkConfig;
  /** Gets what the network asks for outside the machine. */
  ask?: (request: NetworkRequest) => void;
  /** Left out: there are no Hyper-V sockets. */
  sockets?: SocketsConfig;
  /** Gets what Hyper-V sockets ask for outside the machine. */
  askSockets?: (request: SocketRequest) => void;
  /** Items of the external key-value pool. */
  keyValuePairs?: Readonly<Record<string, string>>;
  /** Files for the guest. */
  copyFiles?: readonly CopyRequest[];
  /** Left out: the default. */
  display?: DisplayConfig;
  /** MMIO space for devices. Left out: none. */
  mmio?: readonly MmioWindow[];
  /** Makes an SPI pending, for the messages of PCI functions. */
  raiseSpi?: (intid: number) => void;
  /** Newest version to speak, `5.2`. Left out: the newest there is. */
  version?: string;
  /** Devices that ask for it are signalled through monitor pages. */
  monitorPages?: boolean;
  /** Relid of the first channel. Left out: 1. */
  firstRelid?: number;
}

/** The versions up to `ceiling`. Throws `ConfigError` for what is no version. */
function versionsUpTo(ceiling: string): readonly number[] {
  const at = VERSIONS.findIndex((v) => versionText(v) === ceiling);
  if (at < 0)
    throw new ConfigError(`vmbusVersion "${ceiling}" is not a version of VMBus: ${VERSIONS.map(versionText).join(', ')}`);
  return VERSIONS.slice(0, at + 1);
}

export interface VmbusState {
  connection: ConnectionState;
  monitor: MonitorState;
  /** Channel n has the first relid + n. */
  channels: ChannelState[];
  /** Each device's own state, in the order of their primary channels. */
  devices: object[];
}

export class Vmbus {
  readonly state: VmbusState;
  readonly #connection: Connection;
  readonly #channels: readonly Channel[];
  readonly #devices: Devices;
  readonly #monitor: Monitor;
  readonly #host: HypervisorHost;

  constructor(partition: Partition, options: VmbusOptions) {
    const { host } = partition;
    const environment: DeviceEnvironment = {
      clock: host.clock,
      ram: host.ram,
      trace: host.trace,
      vpCount: host.vpCount,
      referenceTime: () => partition.time.now(),
      startTime: options.startTime,
      display: options.display ?? DEFAULTS.display,
      mmio: options.mmio ?? [],
      raiseSpi: (intid) => options.raiseSpi?.(intid),
      ask: (request) => options.ask?.(request),
      sockets: options.sockets,
      askSockets: (request) => options.askSockets?.(request),
    };
    const bus: ChannelBus = {
      interrupt: (vp, relid) => partition.signalFlag(vp, VMBUS_SINT, relid),
      sibling: ({ device }, index) => this.#channels.find((c) => c.device === device && c.index === index),
      gpadl: (channel, id) => this.#connection.ranges(channel, id),
      offerSubChannels: (primary, count) => this.#connection.offerSubChannels(primary, count),
      offerNow: (channel) => this.#connection.offerNow(channel),
      rescindNow: (channel) => this.#connection.rescind(channel),
      connected: () => this.#connection.state.offered,
      answerConnect: (endpoint, service, status) => this.#connection.answerConnect(endpoint, service, status),
    };
    const devices: Record<string, unknown> = {};
    const first = options.firstRelid ?? 1;
    const primaries = Object.entries(DEVICES).map(([name, factory], n) => {
      const channel = new Channel(host, bus, first + n, (c) => factory(c, environment));
      devices[name] = channel.device;
      return channel;
    });
    const subs = primaries.flatMap(({ device }) =>
      Array.from({ length: device.subChannels ?? device.connections ?? 0 }, (_, i) => ({ device, index: i + 1 })),
    );
    const count = primaries.length + subs.length;
    if (first < 1 || first + count - 1 > MAX_RELID)
      throw new ConfigError(`firstRelid must be 1 to ${MAX_RELID + 1 - count}: this machine has ${count} channels`);
    this.#channels = [
      ...primaries,
      ...subs.map((s, n) => new Channel(host, bus, first + primaries.length + n, s.device, s.index)),
    ];
    this.#devices = devices as Devices;
    const connection = newConnection();
    const versions = options.version === undefined ? VERSIONS : versionsUpTo(options.version);
    const monitor = new Monitor(host, options.monitorPages ? this.#channels.filter((c) => c.latency > 0) : []);
    this.#monitor = monitor;
    this.#host = host;
    const { socket } = this.#devices;
    this.#connection = new Connection(partition, this.#channels, connection, versions, monitor, (endpoint, service) =>
      socket.connect(endpoint, service),
    );
    this.state = {
      connection,
      monitor: monitor.state,
      channels: this.#channels.map((c) => c.state),
      devices: primaries.map((c) => c.device.state),
    };
    partition.connectMessagePort(MESSAGE_CONNECTION, this.#connection);
    if (versions.some((v) => v >= VERSION_5_0)) partition.connectMessagePort(MESSAGE_CONNECTION_5_0, this.#connection);
    partition.connectEventPort(EVENT_CONNECTION_BASE, MAX_RELID + 1, (vp, id, flag) => {
      const channel = this.#channels[id - EVENT_CONNECTION_BASE - first];
      if (channel?.state.state !== 'open') return STATUS.INVALID_CONNECTION_ID;
      if (flag !== 0) return STATUS.INVALID_PARAMETER;
      channel.onSignal('hypercall', vp);
      return STATUS.SUCCESS;
    });
    partition.onOsStart(() => this.#connection.reset());
    for (const disk of options.disks ?? []) (disk.bus === 'nvme' ? this.#devices.pci : this.#devices.scsi).attach(disk);
    if (options.network) this.#devices.network.attach(options.network);
    const { kvp, fcopy } = this.#devices;
    for (const [key, value] of Object.entries(options.keyValuePairs ?? {})) kvp.set('external', key, value);
    for (const copy of options.copyFiles ?? []) fcopy.copy(copy);
  }

  /** What a person wants to know: connection, and the channels that the guest has been offered. */
  info(): VmbusInfo {
    const { connection } = this.state;
    return {
      state: connection.connected ? 'connected' : 'disconnected',
      ...(connection.connected ? { version: versionText(connection.version), connectVp: connection.targetVp } : {}),
      channels: this.#channels.filter((c) => c.state.state !== 'unoffered').map((c) => c.info()),
      takenAway: this.#channels.filter((c) => this.#offerable(c)).map((c) => ({ relid: c.relid, device: c.device.name })),
    };
  }

  inspect(): Tree {
    const { state } = this;
    const { ram, vpCount } = this.#host;
    return vmbusTree({ state, ram, vpCount, channels: this.#channels, monitor: this.#monitor, devices: this.#devices });
  }

  /** A device that was taken away, and that a connected guest could have again. */
  #offerable(channel: Channel): boolean {
    const { device, state, index } = channel;
    return index === 0 && !device.absent && state.state === 'unoffered' && this.state.connection.offered;
  }

  /** Does something to a channel, from the host's side. False: it is not in a state for that, or there is no such channel. */
  act(relid: number, action: ChannelAction): boolean {
    const channel = this.#channels.find((c) => c.relid === relid);
    switch (channel && action) {
      case 'rescind':
        return channel !== undefined && this.#connection.rescind(channel);
      case 'offer':
        if (!channel || !this.#offerable(channel)) return false;
        this.#connection.offerNow(channel);
        return true;
      case 'signal-host':
        if (channel?.state.state !== 'open') return false;
        channel.onSignal('debugger');
        return true;
      case 'signal-guest':
        return channel?.interruptGuest() ?? false;
      default:
        return false;
    }
  }

  /** Integration services and dynamic memory. */
  get services(): Services {
    return this.#devices;
  }

  /** Presses or releases a key by its set 1 scan code. False: the guest has no keyboard driver running. */
  sendKey(scanCode: number, released: boolean): boolean {
    return this.#devices.keyboard.sendKey(scanCode, released);
  }

  /** Moves the mouse. False: the guest has no driver for it running. */
  sendMouse(mouse: MouseInput): boolean {
    return this.#devices.mouse.sendMouse(mouse);
  }

  /** The picture, if there is one. */
  screen(): Screen | undefined {
    return this.#devices.video.screen();
  }

  /** Another resolution for the guest: it gets the device anew. False: there is no such resolution. */
  resizeDisplay(display: DisplayConfig): boolean {
    const { video } = this.#devices;
    if (!video.prefer(display)) return false;
    if (this.rescind(video.name)) video.comeBack();
    return true;
  }

  /** The SCSI controller, for whoever attaches disks to it. */
  get scsi(): Devices['scsi'] {
    return this.#devices.scsi;
  }

  /** The PCI bus with the NVMe controller. */
  get pci(): Devices['pci'] {
    return this.#devices.pci;
  }

  /** The network card. */
  get network(): Devices['network'] {
    return this.#devices.network;
  }

  /** The Hyper-V sockets. */
  get socket(): Devices['socket'] {
    return this.#devices.socket;
  }

  /** Gives a device that was taken away back to a connected guest. False: no such device, it is there, or the guest still holds on to it. */
  offer(device: string): boolean {
    const channel = this.#channels.find((c) => c.device.name === device && c.index === 0);
    if (!channel || !this.#offerable(channel)) return false;
    this.#connection.offerNow(channel);
    return true;
  }

  /** Takes a device away from the guest, by its short name. False: no such device, or not offered. */
  rescind(device: string): boolean {
    const channel = this.#channels.find((c) => c.device.name === device && c.index === 0);
    return channel !== undefined && this.#connection.rescind(channel);
  }
}
