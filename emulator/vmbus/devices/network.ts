/**
 * The synthetic network card, the host's end of netvsc (reference hyperv-arm64.md §9.2): NVSP for the channel and its buffers,
 * RNDIS inside it for the card. Frames of the guest go to a gateway of our own (network/gateway.ts), and the gateway's to the
 * guest: by the receive buffer, one section for each, on the channel that the guest's hash table names.
 */
import { choice, field, flags, held, type Tree, uint } from '../../base/inspect.ts';
import { freeze } from '../../base/frozen.ts';
import { viewOf } from '../../base/struct.ts';
import { ConfigError, type NetworkConfig } from '../../config.ts';
import { Gateway, newGateway } from '../../network/gateway.ts';
import type { NetworkEvent } from '../../network/outside.ts';
import {
  BROADCAST,
  describeFrame,
  ETHERNET_HEADER,
  ETHERTYPE,
  isGroup,
  macText,
  parseEthernet,
  parseIp,
  parseMac,
  VLAN_TAG,
} from '../../network/packet.ts';
import type { Device, DeviceChannel, DeviceEnvironment } from '../device.ts';
import { gather, gpaDirectRanges, rangesLength } from '../gpa-direct.ts';
import type { GpaRange } from '../gpadl.ts';
import { PACKET, packetName } from '../protocol.ts';
import type { Packet } from '../ring.ts';
import { bufferOf, readBuffer, writeBuffer } from './network/buffer.ts';
import {
  CAPABILITY_8021Q,
  NO_SECTION,
  NVSP,
  NVSP_STATUS,
  NVSP_VERSION,
  NVSP_VERSIONS,
  NvspBuffer,
  NvspIndirectionTable,
  NvspInit,
  NvspInitComplete,
  nvspMessage,
  nvspName,
  type NvspName,
  NvspNdisConfig,
  NvspNdisVersion,
  NvspReceiveBufferComplete,
  NvspRevokeBuffer,
  type NvspRow,
  NvspRndisPacket,
  NvspRndisPacketComplete,
  NvspSendBufferComplete,
  nvspSize,
  NvspSubchannelComplete,
  NvspSubchannelRequest,
  nvspVersionText,
  SEND_TABLE_ENTRIES,
  SUBCHANNEL_ALLOCATE,
  TYPE_SIZE,
} from './network/nvsp.ts';
import {
  checkChecksums,
  checksum,
  largeSend,
  newOffload,
  wantedBits,
  ndisOffload,
  withoutTag,
  withTag,
} from './network/offload.ts';
import { type OidContext, oidName, queryOid, setOid } from './network/oids.ts';
import {
  INFO,
  makePacket,
  MOST_BEFORE_FRAME,
  parsePacket,
  type RNDIS,
  RNDIS_BODIES,
  RNDIS_STATUS,
  RNDIS_VERSION,
  RndisComplete,
  RndisHeader,
  RndisIndicateStatus,
  RndisInitialize,
  RndisInitializeComplete,
  rndisMessage,
  rndisName,
  RndisPlain,
  RndisQueryComplete,
  RndisRequest,
  RndisResetComplete,
  tagToVlan,
  vlanToTag,
} from './network/rndis.ts';
import { hashInput, toeplitz } from './network/rss.ts';
import type { NetworkState, Waiting } from './network/state.ts';

/** Microsoft's own prefix, as Hyper-V gives addresses out. */
const DEFAULT_MAC = '00:15:5d:00:00:01';
/** Frames that an NDIS configuration may ask for; another value means the default, as it does to Hyper-V. */
const DEFAULT_MTU = 1514;
const MAX_MTU = 9216;
/** Room in a section besides the frame: 1728 bytes for the default, which is what Linux expects. */
const SECTION_EXTRA = 214;
const SEND_SECTION = 6144;
/** Sections that frames leave for control messages. */
const CONTROL_SECTIONS = 16;
/** More than a guest needs; Linux uses eight channels. */
const MAX_SUB_CHANNELS = 15;
/** Frames in one transfer at most. */
const MAX_BATCH = 16;
/** A guest that lets this many messages wait has stopped reading; and frames that wait before they are dropped. */
const MAX_CONTROL = 64;
const MAX_WAITING = 1024;
/** Bytes in one send request: eight packets, each as large as large sends get. */
const MAX_REQUEST = 1 << 20;
const RNDIS_MAX_PACKETS = 8;
/** Packets in one message begin at multiples of 8. */
const ALIGNMENT = 3;
const MAX_TRANSFER = 0xf000;
const MDL_CHAIN = 34;
const RECENT = 16;
/** NDIS packet filter. */
/** The NDIS packet filter. */
const FILTER_BITS = { directed: 0, multicast: 1, allMulticast: 2, broadcast: 3, promiscuous: 5 } as const;
const FILTER = { directed: 1, multicast: 2, allMulticast: 4, broadcast: 8, promiscuous: 0x20 } as const;
const LARGEST_FRAME = 0x1_0000 + ETHERNET_HEADER;

const newConversation = () => ({
  version: 0,
  ndis: { major: 0, minor: 0 },
  mtu: DEFAULT_MTU,
  vlanInfo: false,
  receive: undefined,
  send: undefined,
  rndis: 'uninitialized' as const,
  filter: 0,
  offload: newOffload(false),
  rss: undefined,
  asked: 0,
  opened: [],
  control: [],
  waiting: [],
  transfers: [],
});

export class Network implements Device {
  readonly name = 'network';
  readonly offer = {
    interfaceType: 'f8615163-df3e-46c5-913f-f2d2f965ed0e',
    instance: '7d2c5a31-0f8e-4b6a-9d15-63c1a8e0f4b2',
    pipe: false,
    monitorLatency: 100_000,
  };
  readonly subChannels: number;
  readonly state: NetworkState = {
    ...newConversation(),
    present: false,
    linkUp: true,
    permanentMac: 0,
    currentMac: 0,
    nextTransfer: 1,
    statistics: {
      sentFrames: 0,
      sentBytes: 0,
      receivedFrames: 0,
      receivedBytes: 0,
      sendErrors: 0,
      receiveErrors: 0,
      noBuffer: 0,
      filtered: 0,
      checksums: 0,
      largeSends: 0,
      tagged: 0,
    },
    recent: [],
    gateway: newGateway(),
  };
  readonly #channel: DeviceChannel;
  readonly #environment: DeviceEnvironment;
  readonly #gateway: Gateway;

  constructor(channel: DeviceChannel, environment: DeviceEnvironment) {
    this.#channel = channel;
    this.#environment = environment;
    this.subChannels = Math.min(environment.vpCount - 1, MAX_SUB_CHANNELS);
    const { state } = this;
    this.#gateway = new Gateway(
      {
        clock: environment.clock,
        mtu: () => state.mtu - ETHERNET_HEADER,
        deliver: (frames) => this.#receive(frames),
        ask: (request) => environment.ask(request),
      },
      state.gateway,
    );
  }

  get absent(): boolean {
    return !this.state.present;
  }

  // --- the host's side --------------------------------------------------------------------------------------------------------

  /** Plugs the card in, also into a running guest. Throws `ConfigError`. */
  attach(config: NetworkConfig): void {
    const { state } = this;
    const { mode, mac = DEFAULT_MAC, vlans = [], names = {} } = config;
    const address = parseMac(mac);
    if (state.present) throw new ConfigError('network: there is a card already');
    if (address === undefined || address === 0 || isGroup(address))
      throw new ConfigError(`network: "${mac}" is not the MAC address of a card, such as ${DEFAULT_MAC}`);
    const wrong = vlans.find((v) => !Number.isInteger(v) || v < 1 || v > 4094);
    if (wrong !== undefined) throw new ConfigError(`network: VLAN ids are 1 to 4094, not ${wrong}`);
    const known = Object.entries(names).map(([name, text]) => {
      const ip = parseIp(text);
      if (ip === undefined) throw new ConfigError(`network: "${name}": "${text}" is not an IPv4 address`);
      return [name.toLowerCase(), ip] as const;
    });
    this.#gateway.configure({ mode, vlans, names: Object.fromEntries(known) });
    Object.assign(state, { present: true, linkUp: true, permanentMac: address, currentMac: address });
    this.#channel.offerNow();
  }

  /** Notes that the card is gone; whoever calls takes the channel away. False: there is none. */
  detach(): boolean {
    const { present } = this.state;
    this.state.present = false;
    return present;
  }

  /** Plugs the cable in or out. False: there is no card. */
  setLink(up: boolean): boolean {
    const { state } = this;
    if (!state.present) return false;
    if (state.linkUp === up) return true;
    state.linkUp = up;
    this.#indicate(up ? RNDIS_STATUS.mediaConnect : RNDIS_STATUS.mediaDisconnect, `link ${up ? 'up' : 'down'}`);
    return true;
  }

  /** Something has happened outside the machine. */
  event(event: NetworkEvent): void {
    this.#gateway.event(event);
  }

  // --- the channel ------------------------------------------------------------------------------------------------------------

  onOpen(channel: DeviceChannel): void {
    const { state } = this;
    if (channel.index === 0 || state.asked === 0) return;
    if (!state.opened.includes(channel.index)) state.opened.push(channel.index);
    if (state.opened.length === state.asked) this.#sendTable();
  }

  onClose(channel: DeviceChannel): void {
    const { state } = this;
    if (channel.index === 0) {
      Object.assign(state, newConversation());
      return;
    }
    state.opened = state.opened.filter((index) => index !== channel.index);
    if (state.waiting[channel.index]) state.waiting[channel.index] = [];
    for (const t of state.transfers.filter((x) => x.channel === channel.index)) this.#free(t);
  }

  /** A card that was put back before the guest had let the old one go. */
  onReleased(channel: DeviceChannel): void {
    if (this.state.present) channel.offerNow();
  }

  onRoom(): void {
    this.#flush();
  }

  onPacket(packet: Packet, channel: DeviceChannel): void {
    const { payload } = packet;
    if (packet.type === PACKET.completion) {
      this.#completed(packet, channel);
      return;
    }
    const type = payload.length >= TYPE_SIZE ? viewOf(payload).getUint32(0, true) : 0;
    const name = nvspName(type);
    const row: NvspRow | undefined = name && NVSP[name];
    const refuse = (why: string): void => {
      channel.note(`${name ?? `NVSP message ${type}`} of ${payload.length} bytes: ${why}`);
      this.#empty(packet, channel);
    };
    if (name === undefined || !row?.body) refuse('no such request here');
    else if (payload.length < TYPE_SIZE + row.body.size) refuse('too short');
    else if (name !== 'init' && this.state.version === 0) refuse('before a version is agreed on');
    else if (row.since > this.state.version && name !== 'init') refuse(`with version ${nvspVersionText(this.state.version)}`);
    else if (name === 'sendRndisPacket') this.#rndis(packet, channel);
    else if (channel.index !== 0) refuse('on a sub-channel');
    else this.#control(name, packet, channel);
  }

  describe(packet: Packet, from: 'guest' | 'host'): string {
    const { type, payload } = packet;
    if (type === PACKET.completion && from === 'guest') return 'transfer completed';
    if (type === PACKET.transferPages && from === 'host') return this.#describeTransfer(packet);
    const number = payload.length >= TYPE_SIZE ? viewOf(payload).getUint32(0, true) : 0;
    const name = nvspName(number) ?? `NVSP message ${number}`;
    if (name !== 'sendRndisPacket') return `${name}, ${packetName(type)}`;
    const bytes = this.#collect(packet);
    if (typeof bytes === 'string') return `${name}: ${bytes}`;
    const messages = this.#messages(bytes);
    const more = messages.length > RNDIS_MAX_PACKETS ? ` and ${messages.length - RNDIS_MAX_PACKETS} more` : '';
    return messages.slice(0, RNDIS_MAX_PACKETS).map(describeMessage).join('; ') + more;
  }

  /** What the host has put into the receive buffer. */
  #describeTransfer({ ranges }: Packet): string {
    const { receive } = this.state;
    const buffer = receive && this.#buffer(receive.gpadl);
    const view = viewOf(ranges);
    const texts: string[] = [];
    for (let at = 8; buffer && at + 8 <= ranges.length && texts.length < MAX_BATCH; at += 8) {
      const [length, offset] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
      if (length > MAX_REQUEST || offset + length > buffer.byteCount) continue;
      const message = new Uint8Array(length);
      readBuffer(this.#environment.ram, buffer, offset, length, message, 0);
      texts.push(describeMessage(message));
    }
    return texts.join('; ') || 'transfer of frames';
  }

  inspect(): Tree {
    const { state } = this;
    const { gateway, receive, send } = state;
    return {
      mac: macText(state.currentMac),
      link: field(
        choice('down', 'up'),
        () => (state.linkUp ? 'up' : 'down'),
        (up) => (this.setLink(up === 1n) ? undefined : 'there is no card'),
      ),
      ...(state.version
        ? { version: `NVSP ${nvspVersionText(state.version)}`, ndis: `${state.ndis.major}.${state.ndis.minor}` }
        : {}),
      mtu: state.mtu - ETHERNET_HEADER,
      rndis: state.rndis,
      filter: held(state, 'filter', flags(32, FILTER_BITS)),
      ...(receive ? { receiveBuffer: `${receive.used.length} sections of ${receive.sectionSize}, ${receive.free} free` } : {}),
      ...(send ? { sendBuffer: `${send.sections} sections of ${SEND_SECTION}` } : {}),
      subChannels: state.opened.length,
      receiveSideScaling: state.rss !== undefined,
      waiting: state.control.length + state.waiting.reduce((n, w) => n + w.length, 0),
      statistics: Object.fromEntries(
        (Object.keys(state.statistics) as (keyof NetworkState['statistics'])[]).map((name) => [
          name,
          held(state.statistics, name, uint(53)),
        ]),
      ),
      network: {
        mode: gateway.settings.mode,
        connections: gateway.tcp.connections.length,
        retransmissions: gateway.tcp.retransmissions,
        dropped: gateway.dropped,
      },
      frames: Object.fromEntries(
        state.recent.map(({ at, sent, frame }, n) => [
          `${n} at ${(at / 1e9).toFixed(6)} s`,
          `${sent ? 'from the guest' : 'to the guest'}: ${describeFrame(frame)}`,
        ]),
      ),
    };
  }

  // --- NVSP -------------------------------------------------------------------------------------------------------------------

  #control(name: NvspName, packet: Packet, channel: DeviceChannel): void {
    const { state } = this;
    const body = viewOf(packet.payload.slice(TYPE_SIZE));
    switch (name) {
      case 'init': {
        const { MaxVersion } = NvspInit.get(body, 0);
        const known = NVSP_VERSIONS.includes(MaxVersion);
        Object.assign(state, newConversation());
        if (known) state.version = MaxVersion;
        const answer = NvspInitComplete.make({
          // What newer versions mean by it is said by the status alone.
          Version: MaxVersion === NVSP_VERSION.v1 ? MaxVersion : 0xffff_ffff,
          MaxMdlChainLength: MDL_CHAIN,
          Status: known ? NVSP_STATUS.success : 0,
        });
        this.#answer(packet, channel, 'initComplete', answer, known ? `version ${nvspVersionText(MaxVersion)}` : 'refused');
        return;
      }
      case 'sendNdisVersion': {
        const { Major: major, Minor: minor } = NvspNdisVersion.get(body, 0);
        state.ndis = { major, minor };
        this.#empty(packet, channel);
        return;
      }
      case 'sendNdisConfig': {
        const { Mtu, Capabilities } = NvspNdisConfig.get(body, 0);
        // Sections are cut already.
        if (!state.receive) state.mtu = Mtu >= DEFAULT_MTU && Mtu <= MAX_MTU ? Mtu : DEFAULT_MTU;
        state.vlanInfo = (Capabilities & CAPABILITY_8021Q) !== 0n;
        this.#empty(packet, channel);
        return;
      }
      case 'sendReceiveBuffer':
        this.#receiveBuffer(packet, channel, NvspBuffer.get(body, 0));
        return;
      case 'sendSendBuffer': {
        const { Gpadl: gpadl, Id: id } = NvspBuffer.get(body, 0);
        const sections = Math.floor((this.#buffer(gpadl)?.byteCount ?? 0) / SEND_SECTION);
        const ok = sections > 0 && !state.send;
        if (ok) state.send = { gpadl, id, sections };
        else channel.note(`send buffer: GPADL 0x${gpadl.toString(16)} cannot be one`);
        const answer = { Status: ok ? NVSP_STATUS.success : NVSP_STATUS.failure, SectionSize: ok ? SEND_SECTION : 0 };
        this.#answer(packet, channel, 'sendSendBufferComplete', NvspSendBufferComplete.make(answer), `${sections} sections`);
        return;
      }
      case 'revokeReceiveBuffer':
        if (NvspRevokeBuffer.get(body, 0).Id === state.receive?.id) this.#dropReceiveBuffer();
        else channel.note('a receive buffer is revoked that is not there');
        this.#empty(packet, channel);
        return;
      case 'revokeSendBuffer':
        if (NvspRevokeBuffer.get(body, 0).Id === state.send?.id) state.send = undefined;
        else channel.note('a send buffer is revoked that is not there');
        this.#empty(packet, channel);
        return;
      case 'switchDataPath':
        // There is only the one; the guest waits for an answer all the same.
        this.#empty(packet, channel);
        return;
      case 'subchannel': {
        const { Operation, Count } = NvspSubchannelRequest.get(body, 0);
        const possible = Operation === SUBCHANNEL_ALLOCATE && Count > 0 && this.subChannels > 0 && state.asked === 0;
        const count = possible ? Math.min(Count, this.subChannels) : 0;
        const answer = { Status: possible ? NVSP_STATUS.success : NVSP_STATUS.failure, Count: count };
        state.asked = count || state.asked;
        this.#answer(packet, channel, 'subchannel', NvspSubchannelComplete.make(answer), `${count} sub-channels`);
        if (possible) channel.offerSubChannels(count);
        return;
      }
      default:
        throw new Error(`${name} is not answered`);
    }
  }

  #buffer(gpadl: number): GpaRange | undefined {
    return bufferOf(this.#channel.gpadl(gpadl));
  }

  #receiveBuffer(packet: Packet, channel: DeviceChannel, { Gpadl: gpadl, Id: id }: { Gpadl: number; Id: number }): void {
    const { state } = this;
    const sectionSize = Math.ceil((state.mtu + SECTION_EXTRA) / 8) * 8;
    const sections = Math.floor((this.#buffer(gpadl)?.byteCount ?? 0) / sectionSize);
    const ok = sections > CONTROL_SECTIONS && !state.receive;
    if (ok) state.receive = { gpadl, id, sectionSize, used: new Uint8Array(sections), free: sections, cursor: 0 };
    else channel.note(`receive buffer: GPADL 0x${gpadl.toString(16)} cannot be one`);
    const answer = NvspReceiveBufferComplete.make(
      ok
        ? {
            Status: NVSP_STATUS.success,
            SectionCount: 1,
            SubAllocationSize: sectionSize,
            SubAllocationCount: sections,
            EndOffset: sections * sectionSize,
          }
        : { Status: NVSP_STATUS.failure },
    );
    this.#answer(packet, channel, 'sendReceiveBufferComplete', answer, `${sections} sections of ${sectionSize}`);
  }

  #dropReceiveBuffer(): void {
    const { state } = this;
    state.receive = undefined;
    state.transfers = [];
    state.control = [];
    state.waiting = [];
  }

  #answer(packet: Packet, channel: DeviceChannel, name: NvspName, body: Uint8Array, what: string): void {
    if (!packet.completionRequested) return;
    const payload = nvspMessage(name, nvspSize(this.state.version), body);
    channel.send({ type: PACKET.completion, transactionId: packet.transactionId, payload, what: `${name}: ${what}` });
  }

  /** Completes what has no answer. Linux asks for none; the firmware's driver does. */
  #empty(packet: Packet, channel: DeviceChannel): void {
    if (!packet.completionRequested) return;
    const { transactionId } = packet;
    channel.send({ type: PACKET.completion, transactionId, payload: new Uint8Array(0), what: 'completed' });
  }

  /** Tells the guest which channels to send by. */
  #sendTable(): void {
    const { state } = this;
    const at = TYPE_SIZE + NvspIndirectionTable.size;
    const body = new Uint8Array(NvspIndirectionTable.size + 4 * SEND_TABLE_ENTRIES);
    const view = viewOf(body);
    NvspIndirectionTable.set(view, 0, { Count: SEND_TABLE_ENTRIES, Offset: at });
    for (let n = 0; n < SEND_TABLE_ENTRIES; n++) view.setUint32(NvspIndirectionTable.size + 4 * n, n % (state.asked + 1), true);
    const payload = nvspMessage('sendIndirectionTable', nvspSize(state.version), body);
    this.#channel.send({ transactionId: 0n, payload, what: `sendIndirectionTable: ${state.asked + 1} channels` });
  }

  // --- from the guest ---------------------------------------------------------------------------------------------------------

  /** The RNDIS messages of a request, one behind the other. Text: they cannot be read. */
  #collect(packet: Packet): Uint8Array | string {
    const { ram } = this.#environment;
    if (packet.payload.length < TYPE_SIZE + NvspRndisPacket.size) return `${packet.payload.length} bytes`;
    const { SectionIndex, SectionSize } = NvspRndisPacket.get(viewOf(packet.payload), TYPE_SIZE);
    const { send } = this.state;
    const ranges = packet.type === PACKET.gpaDirect ? gpaDirectRanges(packet.ranges, ram) : [];
    if (!ranges) return 'ranges that make no sense or are not RAM';
    const fromSection = SectionIndex === NO_SECTION ? 0 : SectionSize;
    const rest = rangesLength(ranges);
    if (fromSection + rest > MAX_REQUEST) return `${fromSection + rest} bytes`;
    const out = new Uint8Array(fromSection + rest);
    if (fromSection > 0) {
      // It may be longer than a section, as long as it is inside the buffer.
      const buffer = send && this.#buffer(send.gpadl);
      const at = SectionIndex * SEND_SECTION;
      if (!send || !buffer || at + fromSection > buffer.byteCount) return `section ${SectionIndex} of ${send?.sections ?? 0}`;
      readBuffer(ram, buffer, at, fromSection, out, 0);
    }
    out.set(gather(ram, ranges, rest), fromSection);
    return out;
  }

  /** Cuts at the ends of messages. The last one is empty when what is there is no whole message. */
  #messages(bytes: Uint8Array): Uint8Array[] {
    const out: Uint8Array[] = [];
    let at = 0;
    do {
      const left = bytes.length - at;
      const length = left >= RndisHeader.size ? RndisHeader.get(viewOf(bytes), at).Length : 0;
      if (length < RndisHeader.size || length > left) return [...out, new Uint8Array(0)];
      out.push(bytes.subarray(at, at + length));
      at += length;
    } while (at < bytes.length);
    return out;
  }

  #rndis(packet: Packet, channel: DeviceChannel): void {
    const bytes = this.#collect(packet);
    let wrong = typeof bytes === 'string' ? bytes : undefined;
    if (typeof bytes !== 'string')
      for (const message of this.#messages(bytes)) wrong ??= this.#message(message, channel) ?? undefined;
    if (wrong !== undefined) {
      channel.note(`RNDIS: ${wrong}`);
      this.state.statistics.sendErrors++;
    }
    const Status = wrong === undefined ? NVSP_STATUS.success : NVSP_STATUS.invalidRndisPacket;
    this.#answer(packet, channel, 'sendRndisPacketComplete', NvspRndisPacketComplete.make({ Status }), `status ${Status}`);
  }

  /** Acts on one RNDIS message; what is wrong with it. */
  #message(message: Uint8Array, channel: DeviceChannel): string | undefined {
    const { state } = this;
    if (message.length === 0) return 'no whole message';
    const { Type } = RndisHeader.get(viewOf(message), 0);
    const name = rndisName(Type);
    const body = name && RNDIS_BODIES[name];
    if (!body) return `message of type 0x${Type.toString(16)}`;
    if (message.length < RndisHeader.size + body.size) return `${name} of ${message.length} bytes`;
    if (name !== 'initialize' && state.rndis === 'uninitialized') return `${name} before INITIALIZE`;
    if (name === 'packet') return this.#send(message);
    if (channel.index !== 0) return `${name} on a sub-channel`;
    const view = viewOf(message.slice(RndisHeader.size));
    const { RequestId } = RndisPlain.get(view, 0);
    switch (name) {
      case 'initialize':
        this.#initialize(RndisInitialize.get(view, 0));
        return undefined;
      case 'halt':
        Object.assign(state, { rndis: 'uninitialized', filter: 0, rss: undefined });
        return undefined;
      case 'reset':
        this.#reply('resetComplete', RndisResetComplete.make({ Status: RNDIS_STATUS.success, AddressingReset: 0 }));
        return undefined;
      case 'keepalive':
        this.#reply('keepaliveComplete', RndisComplete.make({ RequestId, Status: RNDIS_STATUS.success }));
        return undefined;
      default:
        return this.#oid(name === 'set', message.subarray(RndisHeader.size));
    }
  }

  #initialize({ RequestId, MajorVersion }: { RequestId: number; MajorVersion: number }): void {
    const { state } = this;
    const ok = MajorVersion === RNDIS_VERSION.major;
    if (ok) Object.assign(state, { rndis: 'initialized', filter: 0, rss: undefined, offload: newOffload(false) });
    this.#reply(
      'initializeComplete',
      RndisInitializeComplete.make({
        RequestId,
        Status: ok ? RNDIS_STATUS.success : RNDIS_STATUS.badVersion,
        MajorVersion: RNDIS_VERSION.major,
        MinorVersion: RNDIS_VERSION.minor,
        // Connectionless.
        DeviceFlags: 1,
        MaxPacketsPerMessage: RNDIS_MAX_PACKETS,
        MaxTransferSize: MAX_TRANSFER,
        PacketAlignmentFactor: ALIGNMENT,
      }),
    );
  }

  get #oids(): OidContext {
    return { state: this.state, channels: this.subChannels + 1 };
  }

  #oid(set: boolean, body: Uint8Array): string | undefined {
    const { RequestId, Oid, InfoLength, InfoOffset } = RndisRequest.get(viewOf(body), 0);
    const inside = InfoOffset <= body.length && InfoLength <= body.length - InfoOffset;
    const what = oidName(Oid);
    if (!set) {
      const data = queryOid(this.#oids, Oid);
      const Status = data ? RNDIS_STATUS.success : RNDIS_STATUS.notSupported;
      const info = data ?? new Uint8Array(0);
      const head = { RequestId, Status, InfoLength: info.length, InfoOffset: RndisQueryComplete.size };
      this.#reply('queryComplete', RndisQueryComplete.make(head), info, what);
      return undefined;
    }
    const data = InfoLength === 0 ? new Uint8Array(0) : body.slice(InfoOffset, InfoOffset + InfoLength);
    const Status = inside ? setOid(this.#oids, Oid, data) : RNDIS_STATUS.invalidLength;
    this.#reply('setComplete', RndisComplete.make({ RequestId, Status }), undefined, `${what}, status 0x${Status.toString(16)}`);
    if (what === 'TCP_OFFLOAD_PARAMETERS' && Status === RNDIS_STATUS.success) {
      const { major, minor } = this.state.ndis;
      const config = ndisOffload(this.state.offload, major, minor);
      this.#indicate(RNDIS_STATUS.offloadCurrentConfig, 'offload configuration', config);
    }
    return undefined;
  }

  #reply(name: keyof typeof RNDIS, body: Uint8Array, info: Uint8Array = new Uint8Array(0), what = ''): void {
    this.#tell(rndisMessage(name, body, info), `${name}${what ? `: ${what}` : ''}`);
  }

  #indicate(Status: number, what: string, buffer: Uint8Array = new Uint8Array(0)): void {
    if (this.state.rndis === 'uninitialized') return;
    const head = { Status, BufferLength: buffer.length, BufferOffset: buffer.length > 0 ? RndisIndicateStatus.size : 0 };
    this.#tell(rndisMessage('indicateStatus', RndisIndicateStatus.make(head), buffer), `indicateStatus: ${what}`);
  }

  /** A control message for the guest. */
  #tell(message: Uint8Array, what: string): void {
    const { control } = this.state;
    if (control.length >= MAX_CONTROL) this.#channel.note(`the guest does not read: ${what} dropped`);
    else control.push({ message, what });
    this.#flush();
  }

  /** A frame of the guest, with what the card is to do for it; what is wrong with it. */
  #send(message: Uint8Array): string | undefined {
    const { state } = this;
    const { statistics } = state;
    const packet = parsePacket(message);
    if (typeof packet === 'string') return packet;
    const { frame, info } = packet;
    if (frame.length < ETHERNET_HEADER || frame.length > LARGEST_FRAME) return `frame of ${frame.length} bytes`;
    const large = info.get(INFO.largeSend);
    const sum = info.get(INFO.checksum);
    let frames: Uint8Array[] | string = [frame];
    if (large !== undefined) {
      frames = largeSend(frame, large);
      statistics.largeSends++;
    } else if (sum !== undefined) {
      const wrong = checksum(frame, sum);
      if (wrong !== undefined) frames = wrong;
      statistics.checksums++;
    }
    if (typeof frames === 'string') return frames;
    const vlan = info.get(INFO.vlan);
    const most = state.mtu + (vlan === undefined && parseEthernet(frame)?.tag !== undefined ? VLAN_TAG : 0);
    const long = frames.find((f) => f.length > most);
    if (long) return `frame of ${long.length} bytes where ${most} are possible`;
    for (const f of frames) {
      const whole = vlan === undefined ? f.slice() : withTag(f, vlanToTag(vlan));
      if (vlan !== undefined) statistics.tagged++;
      statistics.sentFrames++;
      statistics.sentBytes += whole.length;
      this.#seen(true, whole);
      if (state.linkUp) this.#gateway.transmit(whole);
    }
    return undefined;
  }

  /** Shows a frame to whoever looks. */
  #seen(sent: boolean, frame: Uint8Array): void {
    const { trace, clock } = this.#environment;
    const { recent } = this.state;
    recent.push({ at: clock.now, sent, frame: freeze(frame) });
    if (recent.length > RECENT) recent.shift();
    if (trace.wants('frame')) trace.emit({ kind: 'frame', direction: sent ? 'guest-to-host' : 'host-to-guest', frame });
  }

  // --- to the guest -----------------------------------------------------------------------------------------------------------

  /** Frames of the network. */
  #receive(frames: readonly Uint8Array[]): void {
    const { state } = this;
    for (const frame of frames) {
      if (!state.present || !state.linkUp) continue;
      this.#seen(false, frame);
      if (this.#wanted(frame)) this.#queueFrame(frame);
      else state.statistics.filtered++;
    }
    this.#flush();
  }

  /** The guest's packet filter. */
  #wanted(frame: Uint8Array): boolean {
    const { state } = this;
    const e = parseEthernet(frame);
    if (!e || state.rndis === 'uninitialized' || state.filter === 0) return false;
    if (state.filter & FILTER.promiscuous) return true;
    if (e.destination === BROADCAST) return (state.filter & FILTER.broadcast) !== 0;
    if (isGroup(e.destination)) return (state.filter & (FILTER.multicast | FILTER.allMulticast)) !== 0;
    return e.destination === state.currentMac && (state.filter & FILTER.directed) !== 0;
  }

  #queueFrame(frame: Uint8Array): void {
    const { state } = this;
    const { statistics } = state;
    const tag = parseEthernet(frame)?.tag;
    const plain = tag !== undefined && state.vlanInfo ? withoutTag(frame) : frame;
    if (plain.length > state.mtu + (plain === frame && tag !== undefined ? VLAN_TAG : 0)) {
      statistics.receiveErrors++;
      return;
    }
    const info: [number, number][] = [];
    const ipv6 = viewOf(plain).getUint16(12) === ETHERTYPE.ipv6;
    const bits = checkChecksums(plain) & wantedBits(state.offload, ipv6);
    if (bits) info.push([INFO.checksum, bits]);
    if (plain !== frame && tag !== undefined) info.push([INFO.vlan, tagToVlan(tag)]);
    const input = state.rss && hashInput(plain);
    let index = 0;
    if (state.rss && input) {
      const hash = toeplitz(state.rss.key, input);
      info.push([INFO.hash, hash]);
      const chosen = state.rss.table[hash % state.rss.table.length];
      if (state.opened.includes(chosen)) index = chosen;
    }
    while (state.waiting.length <= index) state.waiting.push([]);
    const waiting = state.waiting[index];
    if (waiting.length >= MAX_WAITING) {
      statistics.noBuffer++;
      return;
    }
    statistics.receivedFrames++;
    statistics.receivedBytes += frame.length;
    waiting.push({ message: freeze(makePacket(plain, info)), what: '' });
  }

  /** Hands over what waits, as far as there are sections and room. */
  #flush(): void {
    const { state } = this;
    const hand = (index: number, queue: () => Waiting[] | undefined, control: boolean): void => {
      const channel = this.#channel.sibling(index);
      for (let w = queue(); channel?.open && !channel.busy && w && w.length > 0; w = queue())
        if (!this.#transfer(channel, w, control)) return;
    };
    // What is sent may make the channel broken, and then nothing is left to be handed over.
    hand(0, () => state.control, true);
    for (let index = 0; index < state.waiting.length; index++) hand(index, () => state.waiting[index], false);
  }

  /** One transfer of the first messages of a queue. False: there is no section for them. */
  #transfer(channel: DeviceChannel, waiting: Waiting[], control: boolean): boolean {
    const { state } = this;
    const { receive } = state;
    const buffer = receive && this.#buffer(receive.gpadl);
    if (!receive || !buffer || receive.used.length * receive.sectionSize > buffer.byteCount) {
      // The guest has taken the buffer away; nothing can reach it.
      waiting.length = 0;
      return false;
    }
    const sections: number[] = [];
    const ranges = new Uint8Array(8 + 8 * MAX_BATCH);
    const view = viewOf(ranges);
    const texts: string[] = [];
    while (sections.length < MAX_BATCH && waiting.length > 0 && receive.free > (control ? 0 : CONTROL_SECTIONS)) {
      const section = this.#section(receive);
      const { message, what } = waiting.shift() as Waiting;
      const offset = section * receive.sectionSize;
      writeBuffer(this.#environment.ram, buffer, offset, message);
      view.setUint32(8 + 8 * sections.length, message.length, true);
      view.setUint32(12 + 8 * sections.length, offset, true);
      sections.push(section);
      if (this.#environment.trace.wants('packet')) texts.push(what || describeMessage(message));
    }
    if (sections.length === 0) return false;
    // Transfer page set, whose owner stays; and how many ranges there are.
    view.setUint16(0, receive.id, true);
    view.setUint32(4, sections.length, true);
    const id = state.nextTransfer++;
    state.transfers.push({ id, channel: channel.index, sections });
    const body = NvspRndisPacket.make({ ChannelType: control ? 1 : 0, SectionIndex: NO_SECTION, SectionSize: 0 });
    channel.send({
      type: PACKET.transferPages,
      transactionId: BigInt(id),
      completionRequested: true,
      ranges: ranges.slice(0, 8 + 8 * sections.length),
      payload: nvspMessage('sendRndisPacket', nvspSize(state.version), body),
      what: texts.join('; '),
    });
    return true;
  }

  /** Takes a free section; there is one. */
  #section(receive: NonNullable<NetworkState['receive']>): number {
    const { used } = receive;
    while (used[receive.cursor]) receive.cursor = (receive.cursor + 1) % used.length;
    const section = receive.cursor;
    used[section] = 1;
    receive.free--;
    receive.cursor = (section + 1) % used.length;
    return section;
  }

  #free(transfer: NetworkState['transfers'][number]): void {
    const { transfers, receive } = this.state;
    transfers.splice(transfers.indexOf(transfer), 1);
    if (!receive) return;
    for (const section of transfer.sections) receive.used[section] = 0;
    receive.free += transfer.sections.length;
  }

  /** The guest has done with a transfer. */
  #completed({ transactionId, payload }: Packet, channel: DeviceChannel): void {
    const transfer = this.state.transfers.find((t) => BigInt(t.id) === transactionId && t.channel === channel.index);
    if (!transfer) {
      channel.note(`completion of transfer ${transactionId}, which is not under way`);
      return;
    }
    const view = viewOf(payload);
    const ok =
      payload.length >= TYPE_SIZE + NvspRndisPacketComplete.size && view.getUint32(TYPE_SIZE, true) === NVSP_STATUS.success;
    if (!ok) this.state.statistics.receiveErrors++;
    this.#free(transfer);
    this.#flush();
  }
}

/** An RNDIS message in a few words. */
function describeMessage(message: Uint8Array): string {
  if (message.length < RndisHeader.size) return 'no whole RNDIS message';
  const { Type } = RndisHeader.get(viewOf(message), 0);
  const name = rndisName(Type) ?? `RNDIS message 0x${Type.toString(16)}`;
  const body = RNDIS_BODIES[name as keyof typeof RNDIS_BODIES];
  if (body && message.length < RndisHeader.size + body.size) return `${name} of ${message.length} bytes`;
  if (name === 'packet') {
    const packet = parsePacket(message);
    return typeof packet === 'string' ? `packet: ${packet}` : describeFrame(packet.frame);
  }
  if (name !== 'query' && name !== 'set') return name;
  return `${name} ${oidName(RndisRequest.get(viewOf(message), RndisHeader.size).Oid)}`;
}

/** A section holds the largest frame with everything that goes before it. */
if (MOST_BEFORE_FRAME + VLAN_TAG > SECTION_EXTRA) throw new Error('sections are too small');
