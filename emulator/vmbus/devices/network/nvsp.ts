/** NVSP, the protocol between netvsc and its host, as data (reference hyperv-arm64.md §9.2). A message is a type and a body. */
import { type Struct, struct, u16, u32, u64 } from '../../../base/struct.ts';

/** What INIT negotiates. Linux calls them 1, 2, 4, 5, 6 and 6.1. */
export const NVSP_VERSION = { v1: 0x0_0002, v2: 0x3_0002, v4: 0x4_0000, v5: 0x5_0000, v6: 0x6_0000, v61: 0x6_0001 } as const;
export const NVSP_VERSIONS: readonly number[] = Object.values(NVSP_VERSION);
export const nvspVersionText = (version: number): string => {
  const name =
    Object.entries(NVSP_VERSION)
      .find(([, v]) => v === version)?.[0]
      .slice(1) ?? '?';
  return name.length > 1 ? `${name[0]}.${name[1]}` : name;
};

/** Bytes of every message of ours, padded: the largest that the version has. */
export const nvspSize = (version: number): number => (version >= NVSP_VERSION.v61 ? 40 : 28);

export const NVSP_STATUS = { success: 1, failure: 2, invalidRndisPacket: 5 } as const;

/** What stands before every body. */
export const TYPE_SIZE = 4;

export const NvspInit = struct('NvspInit', { MinVersion: u32, MaxVersion: u32 }, { size: 8 });
export const NvspInitComplete = struct('NvspInitComplete', { Version: u32, MaxMdlChainLength: u32, Status: u32 }, { size: 12 });
export const NvspNdisVersion = struct('NvspNdisVersion', { Major: u32, Minor: u32 }, { size: 8 });
/** SEND_RECEIVE_BUFFER and SEND_SEND_BUFFER. */
export const NvspBuffer = struct('NvspBuffer', { Gpadl: u32, Id: u16 }, { size: 6 });
/** With one section, which is all there ever are. */
export const NvspReceiveBufferComplete = struct(
  'NvspReceiveBufferComplete',
  { Status: u32, SectionCount: u32, Offset: u32, SubAllocationSize: u32, SubAllocationCount: u32, EndOffset: u32 },
  { size: 24 },
);
export const NvspSendBufferComplete = struct('NvspSendBufferComplete', { Status: u32, SectionSize: u32 }, { size: 8 });
export const NvspRevokeBuffer = struct('NvspRevokeBuffer', { Id: u16 }, { size: 2 });
export const NvspRndisPacket = struct(
  'NvspRndisPacket',
  {
    /** 0: data, 1: control. */
    ChannelType: u32,
    /** Of the send buffer; ~0: none of it. */
    SectionIndex: u32,
    SectionSize: u32,
  },
  { size: 12 },
);
export const NO_SECTION = 0xffff_ffff;
export const NvspRndisPacketComplete = struct('NvspRndisPacketComplete', { Status: u32 }, { size: 4 });
export const NvspNdisConfig = struct('NvspNdisConfig', { Mtu: u32, Reserved: u32, Capabilities: u64 }, { size: 16 });
/** Bit of Capabilities: tags travel as per-packet information. */
export const CAPABILITY_8021Q = 1n << 3n;
export const NvspSwitchDataPath = struct('NvspSwitchDataPath', { ActiveDataPath: u32 }, { size: 4 });
export const NvspSubchannelRequest = struct('NvspSubchannelRequest', { Operation: u32, Count: u32 }, { size: 8 });
export const SUBCHANNEL_ALLOCATE = 1;
export const NvspSubchannelComplete = struct('NvspSubchannelComplete', { Status: u32, Count: u32 }, { size: 8 });
/** Followed by the table: indices of channels for what the guest sends. `Offset` counts from the message's first byte. */
export const NvspIndirectionTable = struct('NvspIndirectionTable', { Count: u32, Offset: u32 }, { size: 8 });
export const SEND_TABLE_ENTRIES = 16;

// biome-ignore lint/suspicious/noExplicitAny: a layout of any fields
type AnyStruct = Struct<any>;
export interface NvspRow {
  readonly type: number;
  /** Oldest version that has it. */
  readonly since: number;
  /** What a guest must send at least; undefined: guests do not send it. */
  readonly body?: AnyStruct;
}
const { v1, v2, v4, v5 } = NVSP_VERSION;

export const NVSP = {
  init: { type: 1, since: 0, body: NvspInit },
  initComplete: { type: 2, since: 0 },
  sendNdisVersion: { type: 100, since: v1, body: NvspNdisVersion },
  sendReceiveBuffer: { type: 101, since: v1, body: NvspBuffer },
  sendReceiveBufferComplete: { type: 102, since: v1 },
  revokeReceiveBuffer: { type: 103, since: v1, body: NvspRevokeBuffer },
  sendSendBuffer: { type: 104, since: v1, body: NvspBuffer },
  sendSendBufferComplete: { type: 105, since: v1 },
  revokeSendBuffer: { type: 106, since: v1, body: NvspRevokeBuffer },
  sendRndisPacket: { type: 107, since: v1, body: NvspRndisPacket },
  sendRndisPacketComplete: { type: 108, since: v1 },
  sendNdisConfig: { type: 125, since: v2, body: NvspNdisConfig },
  switchDataPath: { type: 129, since: v4, body: NvspSwitchDataPath },
  subchannel: { type: 133, since: v5, body: NvspSubchannelRequest },
  sendIndirectionTable: { type: 134, since: v5 },
} as const satisfies Record<string, NvspRow>;
export type NvspName = keyof typeof NVSP;

const BY_TYPE = new Map<number, NvspName>(Object.entries(NVSP).map(([name, r]) => [r.type, name as NvspName]));
export const nvspName = (type: number): NvspName | undefined => BY_TYPE.get(type);

/** A message, padded with zeros to `size`. */
export function nvspMessage(name: NvspName, size: number, body: Uint8Array): Uint8Array {
  const out = new Uint8Array(Math.max(size, TYPE_SIZE + body.length));
  new DataView(out.buffer).setUint32(0, NVSP[name].type, true);
  out.set(body, TYPE_SIZE);
  return out;
}
