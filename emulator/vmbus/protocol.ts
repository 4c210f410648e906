/**
 * VMBus as data: versions, channel messages, ring and packet layouts (reference hyperv-arm64.md §8). All messages start
 * with `MessageHeader`; integers are little-endian.
 */
import { guidBytes, guidText } from '../base/guid.ts';
import { array, bytes, type FieldType, type Struct, struct, u8, u16, u32, u64, type Value, viewOf } from '../base/struct.ts';

/** The SINT and SynIC message type of VMBus, and the connections that guests post to (§8.1). */
export const VMBUS_SINT = 2;
export const VMBUS_MESSAGE_TYPE = 1;
/** 1: versions before 5.0. 4: everything from 5.0 on; hosts that do not speak 5.0 have no such connection. Both take everything. */
export const MESSAGE_CONNECTION = 1;
export const MESSAGE_CONNECTION_5_0 = 4;

/** Relids are event flags of one SINT: 1..2047. A channel's connection id is this plus its relid (§8.5). */
export const MAX_RELID = 2047;
export const EVENT_CONNECTION_BASE = 0x2000;

export const version = (major: number, minor: number): number => ((major << 16) | minor) >>> 0;
export const versionText = (v: number): string => `${v >>> 16}.${v & 0xffff}`;
export const VERSION_4_1 = version(4, 1);
export const VERSION_5_0 = version(5, 0);
export const VERSION_5_3 = version(5, 3);
export const VERSION_6_0 = version(6, 0);
/** What we speak (§8.2): 2.4 is Windows 8's. Any other version is answered with supported = 0, and the guest tries the next. */
export const VERSIONS: readonly number[] = [
  version(2, 4),
  version(3, 0),
  version(4, 0),
  VERSION_4_1,
  VERSION_5_0,
  version(5, 1),
  version(5, 2),
  VERSION_5_3,
  VERSION_6_0,
];

/** Feature flags of 6.0 (§8.4; microsoft/openvmm vmbus_core/src/protocol.rs, FeatureFlags) that we grant to whoever asks. */
export const FEATURE_MODIFY_CONNECTION = 4;
export const FEATURE_CLIENT_ID = 8;

/** Failure in messages that carry a status: STATUS_INVALID_PARAMETER, STATUS_INSUFFICIENT_RESOURCES, STATUS_CONNECTION_REFUSED. */
export const NT_INVALID_PARAMETER = 0xc000_000d;
export const NT_INSUFFICIENT_RESOURCES = 0xc000_009a;
export const NT_CONNECTION_REFUSED = 0xc000_0236;

/** A GUID as text. */
export const guid: FieldType<string> = {
  size: 16,
  get: (v, at) => guidText(new Uint8Array(v.buffer, v.byteOffset + at, 16)),
  set: (v, at, x) => new Uint8Array(v.buffer, v.byteOffset + at, 16).set(guidBytes(x)),
  zero: () => '00000000-0000-0000-0000-000000000000',
};

const header = { MessageType: u32, Padding: u32 };
export const MessageHeader = struct('MessageHeader', header, { size: 8 });

type AnyStruct = Struct<Record<string, FieldType<unknown>>>;

export interface MessageRow<S> {
  readonly type: number;
  /** guest: the guest sends it; host: we do. */
  readonly from: 'guest' | 'host';
  readonly layout: S;
  /** Oldest version that has it. */
  readonly since: number;
  /** The message goes on after the layout with page numbers of this name. */
  readonly tail?: string;
}

const OLDEST = 0;
// biome-ignore lint/suspicious/noExplicitAny: a layout of any fields
const row = <S extends Struct<any>>(
  type: number,
  from: 'guest' | 'host',
  since: number,
  layout: S,
  tail?: string,
): MessageRow<S> => ({
  type,
  from,
  layout,
  since,
  tail,
});

/** The channel messages (§8.3): one row each. */
export const MESSAGES = {
  OfferChannel: row(
    1,
    'host',
    OLDEST,
    struct(
      'OfferChannel',
      {
        ...header,
        InterfaceType: guid,
        InterfaceInstance: guid,
        Reserved: array(2, u64),
        ChannelFlags: u16,
        MmioMegabytes: u16,
        UserDefined: bytes(120),
        SubChannelIndex: u16,
        MmioMegabytesOptional: u16,
        ChildRelId: u32,
        MonitorId: u8,
        MonitorAllocated: u8,
        IsDedicatedInterrupt: u16,
        ConnectionId: u32,
      },
      { size: 196 },
    ),
  ),
  RescindChannelOffer: row(2, 'host', OLDEST, struct('RescindChannelOffer', { ...header, ChildRelId: u32 }, { size: 12 })),
  RequestOffers: row(3, 'guest', OLDEST, struct('RequestOffers', header, { size: 8 })),
  AllOffersDelivered: row(4, 'host', OLDEST, struct('AllOffersDelivered', header, { size: 8 })),
  OpenChannel: row(
    5,
    'guest',
    OLDEST,
    struct(
      'OpenChannel',
      {
        ...header,
        ChildRelId: u32,
        OpenId: u32,
        RingBufferGpadlHandle: u32,
        TargetVp: u32,
        DownstreamRingBufferPageOffset: u32,
        UserData: bytes(120),
      },
      { size: 148 },
    ),
  ),
  OpenChannelResult: row(
    6,
    'host',
    OLDEST,
    struct('OpenChannelResult', { ...header, ChildRelId: u32, OpenId: u32, Status: u32 }, { size: 20 }),
  ),
  CloseChannel: row(7, 'guest', OLDEST, struct('CloseChannel', { ...header, ChildRelId: u32 }, { size: 12 })),
  GpadlHeader: row(
    8,
    'guest',
    OLDEST,
    struct(
      'GpadlHeader',
      {
        ...header,
        ChildRelId: u32,
        Gpadl: u32,
        RangeBufferLength: u16,
        RangeCount: u16,
      },
      { size: 20 },
    ),
    'Ranges',
  ),
  GpadlBody: row(9, 'guest', OLDEST, struct('GpadlBody', { ...header, MessageNumber: u32, Gpadl: u32 }, { size: 16 }), 'Pfns'),
  GpadlCreated: row(
    10,
    'host',
    OLDEST,
    struct('GpadlCreated', { ...header, ChildRelId: u32, Gpadl: u32, CreationStatus: u32 }, { size: 20 }),
  ),
  GpadlTeardown: row(11, 'guest', OLDEST, struct('GpadlTeardown', { ...header, ChildRelId: u32, Gpadl: u32 }, { size: 16 })),
  GpadlTorndown: row(12, 'host', OLDEST, struct('GpadlTorndown', { ...header, Gpadl: u32 }, { size: 12 })),
  RelIdReleased: row(13, 'guest', OLDEST, struct('RelIdReleased', { ...header, ChildRelId: u32 }, { size: 12 })),
  InitiateContact: row(
    14,
    'guest',
    OLDEST,
    struct(
      'InitiateContact',
      {
        ...header,
        VmbusVersionRequested: u32,
        TargetVp: u32,
        /** Before 5.0: GPA of the interrupt page. From 5.0 on: byte 0 SINT, byte 1 VTL, upper half feature flags. */
        InterruptPage: u64,
        MonitorPage1: u64,
        MonitorPage2: u64,
      },
      { size: 40 },
    ),
  ),
  /** With a client id, which guests may send from 6.0 on: the version is what the message asks for. */
  InitiateContact2: row(
    14,
    'guest',
    OLDEST,
    struct(
      'InitiateContact2',
      {
        ...header,
        VmbusVersionRequested: u32,
        TargetVp: u32,
        InterruptPage: u64,
        MonitorPage1: u64,
        MonitorPage2: u64,
        ClientId: guid,
      },
      { size: 56 },
    ),
  ),
  VersionResponse: row(
    15,
    'host',
    OLDEST,
    struct(
      'VersionResponse',
      {
        ...header,
        VersionSupported: u8,
        ConnectionState: u8,
        Padding2: u16,
        /** From 5.0 on: the connection to post further messages to. Before: the version. */
        SelectedVersionOrConnectionId: u32,
      },
      { size: 16 },
    ),
  ),
  /** From 6.0 on, when the version is supported. */
  VersionResponse2: row(
    15,
    'host',
    VERSION_6_0,
    struct(
      'VersionResponse2',
      { ...header, VersionSupported: u8, ConnectionState: u8, Padding2: u16, ConnectionId: u32, SupportedFeatures: u32 },
      { size: 20 },
    ),
  ),
  Unload: row(16, 'guest', OLDEST, struct('Unload', header, { size: 8 })),
  UnloadResponse: row(17, 'host', OLDEST, struct('UnloadResponse', header, { size: 8 })),
  OpenReservedChannel: row(18, 'guest', VERSION_5_0, struct('OpenReservedChannel', header)),
  CloseReservedChannel: row(19, 'guest', VERSION_5_0, struct('CloseReservedChannel', header)),
  CloseReservedChannelResponse: row(20, 'host', VERSION_5_0, struct('CloseReservedChannelResponse', header)),
  TlConnectRequest: row(
    21,
    'guest',
    version(4, 0),
    struct('TlConnectRequest', { ...header, EndpointId: guid, ServiceId: guid }, { size: 40 }),
  ),
  /** From newer guests: the silo that is to answer (microsoft/openvmm vmbus_core/src/protocol.rs, TlConnectRequest2). */
  TlConnectRequest2: row(
    21,
    'guest',
    version(5, 2),
    struct('TlConnectRequest2', { ...header, EndpointId: guid, ServiceId: guid, SiloId: guid }, { size: 56 }),
  ),
  ModifyChannel: row(
    22,
    'guest',
    VERSION_4_1,
    struct('ModifyChannel', { ...header, ChildRelId: u32, TargetVp: u32 }, { size: 16 }),
  ),
  TlConnectResult: row(
    23,
    'host',
    VERSION_4_1,
    struct(
      'TlConnectResult',
      {
        ...header,
        EndpointId: guid,
        ServiceId: guid,
        Status: u32,
      },
      { size: 44 },
    ),
  ),
  ModifyChannelResponse: row(
    24,
    'host',
    VERSION_5_3,
    struct('ModifyChannelResponse', { ...header, ChildRelId: u32, Status: u32 }, { size: 16 }),
  ),
  ModifyConnection: row(
    25,
    'guest',
    VERSION_6_0,
    struct('ModifyConnection', { ...header, MonitorPage1: u64, MonitorPage2: u64 }, { size: 24 }),
  ),
  ModifyConnectionResponse: row(
    26,
    'host',
    VERSION_6_0,
    struct(
      'ModifyConnectionResponse',
      {
        ...header,
        ConnectionState: u8,
        Padding2: bytes(3),
      },
      { size: 12 },
    ),
  ),
  Pause: row(27, 'guest', VERSION_6_0, struct('Pause', header, { size: 8 })),
  PauseResponse: row(28, 'host', VERSION_6_0, struct('PauseResponse', header, { size: 8 })),
  Resume: row(29, 'guest', VERSION_6_0, struct('Resume', header, { size: 8 })),
} as const;

export type MessageName = keyof typeof MESSAGES;
export type MessageBody<N extends MessageName> = Value<(typeof MESSAGES)[N]['layout']>;

/** Rows of each type, the longest first: a message that has grown is told from its older form by its length. */
const BY_TYPE = new Map<number, MessageName[]>();
for (const [name, { type }] of Object.entries(MESSAGES))
  BY_TYPE.set(
    type,
    [...(BY_TYPE.get(type) ?? []), name as MessageName].sort((a, b) => MESSAGES[b].layout.size - MESSAGES[a].layout.size),
  );

/** Row name of a message type; of several forms the oldest. */
export const messageNameOf = (type: number): MessageName | undefined => BY_TYPE.get(type)?.at(-1);

/** What a message is: undefined when its type is unknown or it is too short. */
export function messageName(payload: Uint8Array): MessageName | undefined {
  if (payload.length < MessageHeader.size) return undefined;
  return BY_TYPE.get(viewOf(payload).getUint32(0, true))?.find((name) => payload.length >= MESSAGES[name].layout.size);
}

/** Reads a message of a known kind. */
export const readMessage = <N extends MessageName>(name: N, payload: Uint8Array): MessageBody<N> =>
  (MESSAGES[name].layout as unknown as FieldType<MessageBody<N>>).get(viewOf(payload), 0);

/** Makes a message. */
export const makeMessage = <N extends MessageName>(name: N, body: Partial<MessageBody<N>>): Uint8Array =>
  (MESSAGES[name].layout as unknown as AnyStruct).make({ ...body, MessageType: MESSAGES[name].type });

/** The qwords after a message's layout: a GPADL's ranges or page numbers. */
export function tailOf(name: MessageName, payload: Uint8Array): bigint[] {
  const view = viewOf(payload);
  const out: bigint[] = [];
  for (let at = MESSAGES[name].layout.size; at + 8 <= payload.length; at += 8) out.push(view.getBigUint64(at, true));
  return out;
}

/** A message by field names, for people: `Message` is its name. */
export function describeMessage(payload: Uint8Array): Record<string, unknown> {
  const name = messageName(payload);
  if (name === undefined) return { Message: 'unknown', Payload: payload };
  const fields = Object.entries(readMessage(name, payload)).filter(([field]) => !/^(MessageType|Padding|Reserved)/.test(field));
  const { tail } = MESSAGES[name];
  const out: Record<string, unknown> = { Message: name, ...Object.fromEntries(fields) };
  if ('VmbusVersionRequested' in out) out.Version = versionText(out.VmbusVersionRequested as number);
  if (tail) out[tail] = tailOf(name, payload);
  return out;
}

// --- offers (§8.5) -----------------------------------------------------------------------------------------------------------

export const CHANNEL_FLAG_ENUMERATE_DEVICE_INTERFACE = 1;
export const CHANNEL_FLAG_NAMED_PIPE = 0x10;
export const CHANNEL_FLAG_REQUEST_MONITORED_NOTIFICATION = 0x400;
/** The channel is a connection of a Hyper-V socket. */
export const CHANNEL_FLAG_TLNPI_PROVIDER = 0x2000;
/** First dword of a pipe channel's user data: bytes, or messages, each behind a pipe header. */
export const PIPE_MODE_BYTE = 0;
export const PIPE_MODE_MESSAGE = 4;

// --- monitored notifications (§8.10) -----------------------------------------------------------------------------------------

export const MONITOR_GROUPS = 4;
/** Triggers of a group. */
export const MONITOR_TRIGGERS = 32;
/** HV_MONITOR_PAGE of the TLFS. */
export const MonitorPage = struct(
  'MonitorPage',
  {
    /** Bits 3:0: groups in use. */
    TriggerState: u32,
    Reserved0: u32,
    /** Each: u32 pending, u32 armed. */
    TriggerGroup: array(MONITOR_GROUPS, u64),
    Reserved1: array(3, u64),
    NextCheckTime: array(MONITOR_GROUPS * MONITOR_TRIGGERS, u32),
    /** In 100 ns. */
    Latency: array(MONITOR_GROUPS * MONITOR_TRIGGERS, u16),
    Reserved2: array(32, u64),
    /** Each: u32 connection id, u16 flag number, u16 reserved. */
    Parameter: array(MONITOR_GROUPS * MONITOR_TRIGGERS, u64),
    Reserved3: bytes(1984),
  },
  { size: 4096 },
);

// --- rings (§8.8) ------------------------------------------------------------------------------------------------------------

export const RingHeader = struct('RingHeader', {
  WriteIndex: u32,
  ReadIndex: u32,
  InterruptMask: u32,
  PendingSendSize: u32,
  Reserved: array(12, u32),
  FeatureBits: u32,
});
export const RING_FEATURE_PENDING_SEND_SIZE = 1;
/** After each packet: 0, and where the packet began. */
export const PacketTrailer = struct('PacketTrailer', { Reserved: u32, PreviousWriteIndex: u32 }, { size: 8 });

// --- packets (§8.9) ----------------------------------------------------------------------------------------------------------

export const PacketDescriptor = struct(
  'PacketDescriptor',
  {
    Type: u16,
    /** Start of the payload, and length of descriptor and payload, in units of 8 bytes. */
    Offset8: u16,
    Length8: u16,
    Flags: u16,
    TransactionId: u64,
  },
  { size: 16 },
);

export const PACKET = { inBand: 6, transferPages: 7, gpadl: 8, gpaDirect: 9, cancel: 0xa, completion: 0xb } as const;
export const PACKET_FLAG_COMPLETION_REQUESTED = 1;
const PACKET_NAMES: Record<number, string> = {
  6: 'in-band',
  7: 'transfer pages',
  8: 'GPADL',
  9: 'GPA direct',
  10: 'cancel',
  11: 'completion',
};
export const packetName = (type: number): string => PACKET_NAMES[type] ?? `type ${type}`;
