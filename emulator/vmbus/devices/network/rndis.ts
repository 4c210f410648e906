/**
 * RNDIS as netvsc speaks it (reference hyperv-arm64.md §9.2; MS-RNDIS 2.2): messages, and the information that travels with
 * a packet. Offsets in a message count from byte 8, behind its type and length.
 */
import { type Struct, struct, u32, viewOf } from '../../../base/struct.ts';

export const RndisHeader = struct('RndisHeader', { Type: u32, Length: u32 }, { size: 8 });
export const RndisPacket = struct(
  'RndisPacket',
  {
    DataOffset: u32,
    DataLength: u32,
    OobOffset: u32,
    OobLength: u32,
    OobCount: u32,
    InfoOffset: u32,
    InfoLength: u32,
    VcHandle: u32,
    Reserved: u32,
  },
  { size: 36 },
);
export const RndisInitialize = struct(
  'RndisInitialize',
  { RequestId: u32, MajorVersion: u32, MinorVersion: u32, MaxTransferSize: u32 },
  { size: 16 },
);
export const RndisInitializeComplete = struct(
  'RndisInitializeComplete',
  {
    RequestId: u32,
    Status: u32,
    MajorVersion: u32,
    MinorVersion: u32,
    DeviceFlags: u32,
    Medium: u32,
    MaxPacketsPerMessage: u32,
    MaxTransferSize: u32,
    /** Packets in one message begin at multiples of 2 to the power of this. */
    PacketAlignmentFactor: u32,
    AfListOffset: u32,
    AfListSize: u32,
  },
  { size: 44 },
);
/** QUERY and SET. */
export const RndisRequest = struct(
  'RndisRequest',
  { RequestId: u32, Oid: u32, InfoLength: u32, InfoOffset: u32, VcHandle: u32 },
  { size: 20 },
);
export const RndisQueryComplete = struct(
  'RndisQueryComplete',
  { RequestId: u32, Status: u32, InfoLength: u32, InfoOffset: u32 },
  { size: 16 },
);
/** Of SET and KEEPALIVE. */
export const RndisComplete = struct('RndisComplete', { RequestId: u32, Status: u32 }, { size: 8 });
export const RndisResetComplete = struct('RndisResetComplete', { Status: u32, AddressingReset: u32 }, { size: 8 });
/** HALT and KEEPALIVE; in RESET the word is reserved. */
export const RndisPlain = struct('RndisPlain', { RequestId: u32 }, { size: 4 });
export const RndisIndicateStatus = struct(
  'RndisIndicateStatus',
  { Status: u32, BufferLength: u32, BufferOffset: u32 },
  { size: 12 },
);

const COMPLETE = 0x8000_0000;
export const RNDIS = {
  packet: 1,
  initialize: 2,
  halt: 3,
  query: 4,
  set: 5,
  reset: 6,
  indicateStatus: 7,
  keepalive: 8,
  initializeComplete: COMPLETE + 2,
  queryComplete: COMPLETE + 4,
  setComplete: COMPLETE + 5,
  resetComplete: COMPLETE + 6,
  keepaliveComplete: COMPLETE + 8,
} as const;
export type RndisName = keyof typeof RNDIS;
const NAMES = new Map<number, RndisName>(Object.entries(RNDIS).map(([name, type]) => [type, name as RndisName]));
export const rndisName = (type: number): RndisName | undefined => NAMES.get(type);

// biome-ignore lint/suspicious/noExplicitAny: a layout of any fields
type AnyStruct = Struct<any>;
/** What a guest sends, with the least that its body must hold. */
export const RNDIS_BODIES: { readonly [N in RndisName]?: AnyStruct } = {
  packet: RndisPacket,
  initialize: RndisInitialize,
  halt: RndisPlain,
  query: RndisRequest,
  set: RndisRequest,
  reset: RndisPlain,
  keepalive: RndisPlain,
};

export const RNDIS_STATUS = {
  success: 0,
  mediaConnect: 0x4001_000b,
  mediaDisconnect: 0x4001_000c,
  offloadCurrentConfig: 0x4002_0006,
  notSupported: 0xc000_00bb,
  badVersion: 0xc001_0004,
  invalidLength: 0xc001_0014,
  invalidData: 0xc001_0015,
} as const;
export const RNDIS_VERSION = { major: 1, minor: 0 } as const;

/** A message of ours. */
export function rndisMessage(name: RndisName, ...parts: Uint8Array[]): Uint8Array {
  const length = RndisHeader.size + parts.reduce((n, p) => n + p.length, 0);
  const out = new Uint8Array(length);
  RndisHeader.set(viewOf(out), 0, { Type: RNDIS[name], Length: length });
  let at = RndisHeader.size;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

/** Types of per-packet information; those with bit 31 are internal ones. */
export const INFO = { checksum: 0, largeSend: 2, vlan: 6, hash: 8 } as const;
const PacketInfo = struct('PacketInfo', { Size: u32, Type: u32, Offset: u32 }, { size: 12 });
/** Values are a word each. */
const WORD = 4;

export interface PacketMessage {
  frame: Uint8Array;
  /** Values by type of per-packet information. */
  info: Map<number, number>;
}

/** The frame of a PACKET message and what came with it. Text: it makes no sense. */
export function parsePacket(message: Uint8Array): PacketMessage | string {
  const body = message.subarray(RndisHeader.size);
  const view = viewOf(body);
  const p = RndisPacket.get(view, 0);
  if (p.OobCount !== 0 || p.OobLength !== 0) return `out-of-band data`;
  if (p.DataOffset > body.length || p.DataLength > body.length - p.DataOffset)
    return `${p.DataLength} bytes at ${p.DataOffset} of ${body.length}`;
  const info = new Map<number, number>();
  if (p.InfoLength > 0) {
    if (p.InfoOffset < RndisPacket.size || p.InfoOffset > body.length || p.InfoLength > body.length - p.InfoOffset)
      return `${p.InfoLength} bytes of information at ${p.InfoOffset} of ${body.length}`;
    const end = p.InfoOffset + p.InfoLength;
    for (let at = p.InfoOffset; at < end; ) {
      if (end - at < PacketInfo.size) return `information that is cut off`;
      const { Size, Type, Offset } = PacketInfo.get(view, at);
      if (Size < PacketInfo.size || Size > end - at || Offset < PacketInfo.size || Offset > Size - WORD)
        return `information of ${Size} bytes with its value at ${Offset}`;
      info.set(Type, view.getUint32(at + Offset, true));
      at += Size;
    }
  }
  return { frame: body.subarray(p.DataOffset, p.DataOffset + p.DataLength), info };
}

/** A PACKET message. */
export function makePacket(frame: Uint8Array, info: readonly (readonly [type: number, value: number])[]): Uint8Array {
  const one = PacketInfo.size + WORD;
  const InfoLength = one * info.length;
  const DataOffset = RndisPacket.size + InfoLength;
  const out = new Uint8Array(RndisHeader.size + DataOffset + frame.length);
  const view = viewOf(out);
  RndisHeader.set(view, 0, { Type: RNDIS.packet, Length: out.length });
  RndisPacket.set(view, RndisHeader.size, {
    DataOffset,
    DataLength: frame.length,
    OobOffset: 0,
    OobLength: 0,
    OobCount: 0,
    InfoOffset: InfoLength > 0 ? RndisPacket.size : 0,
    InfoLength,
    VcHandle: 0,
    Reserved: 0,
  });
  info.forEach(([Type, value], n) => {
    const at = RndisHeader.size + RndisPacket.size + n * one;
    PacketInfo.set(view, at, { Size: one, Type, Offset: PacketInfo.size });
    view.setUint32(at + PacketInfo.size, value, true);
  });
  out.set(frame, RndisHeader.size + DataOffset);
  return out;
}

/** Bytes that `makePacket` puts before a frame at most. */
export const MOST_BEFORE_FRAME = RndisHeader.size + RndisPacket.size + 3 * (PacketInfo.size + WORD);

/** 802.1Q information: priority in bits 2:0, CFI in bit 3, VLAN id in bits 15:4; in a tag they stand the other way round. */
export const vlanToTag = (value: number): number => ((value & 7) << 13) | ((value & 8) << 9) | ((value >>> 4) & 0xfff);
export const tagToVlan = (tag: number): number => (tag >>> 13) | ((tag >>> 9) & 8) | ((tag & 0xfff) << 4);
