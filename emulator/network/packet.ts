/**
 * Packets as bytes: Ethernet with 802.1Q tags, ARP, IPv4, ICMP and UDP. All of it comes from the guest and is hostile: a parser
 * gives undefined for what is cut off or contradicts itself. IPv4 addresses are numbers of 32 bits, MAC addresses of 48.
 */
import { type FieldType, struct, u8, viewOf } from '../base/struct.ts';
import { complement, pseudoHeader, sum16 } from './checksum.ts';

const bigEndian = (size: number, get: (v: DataView, at: number) => number, set: (v: DataView, at: number, x: number) => void) =>
  ({ size, get, set, zero: () => 0 }) satisfies FieldType<number>;
export const be16 = bigEndian(
  2,
  (v, at) => v.getUint16(at),
  (v, at, x) => v.setUint16(at, x),
);
export const be32 = bigEndian(
  4,
  (v, at) => v.getUint32(at),
  (v, at, x) => v.setUint32(at, x),
);
/** 48 bits. */
export const mac = bigEndian(
  6,
  (v, at) => v.getUint16(at) * 2 ** 32 + v.getUint32(at + 2),
  (v, at, x) => {
    v.setUint16(at, Math.floor(x / 2 ** 32));
    v.setUint32(at + 2, x % 2 ** 32);
  },
);

export const BROADCAST = 0xffff_ffff_ffff;
/** The group bit of a MAC address: multicast and broadcast (IEEE 802, 8.2). */
export const isGroup = (address: number): boolean => (Math.floor(address / 2 ** 40) & 1) !== 0;

export const macText = (address: number): string =>
  address
    .toString(16)
    .padStart(12, '0')
    .replace(/(..)(?=.)/g, '$1:');
/** The address of `00:15:5d:00:00:01` (or with dashes). undefined: it is none. */
export const parseMac = (text: string): number | undefined =>
  /^([0-9a-f]{2}[:-]){5}[0-9a-f]{2}$/i.test(text) ? Number.parseInt(text.replace(/[:-]/g, ''), 16) : undefined;

export const ipText = (address: number): string =>
  [address >>> 24, (address >>> 16) & 255, (address >>> 8) & 255, address & 255].join('.');
/** The address of `10.0.2.15`. undefined: it is none. */
export function parseIp(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4 || parts.some((p) => !/^\d{1,3}$/.test(p) || Number(p) > 255)) return undefined;
  return parts.reduce((n, p) => n * 256 + Number(p), 0);
}

/** IEEE 802.3 with 802.1Q (3.2, 9.6). */
export const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd } as const;
export const ETHERNET_HEADER = 14;
export const VLAN_TAG = 4;
const EthernetHeader = struct('EthernetHeader', { Destination: mac, Source: mac, Type: be16 }, { size: ETHERNET_HEADER });

export interface Ethernet {
  destination: number;
  source: number;
  /** 802.1Q tag control information: VLAN id in bits 11:0. undefined: untagged. */
  tag: number | undefined;
  type: number;
  payload: Uint8Array;
}

export function parseEthernet(frame: Uint8Array): Ethernet | undefined {
  if (frame.length < ETHERNET_HEADER) return undefined;
  const view = viewOf(frame);
  const { Destination: destination, Source: source, Type } = EthernetHeader.get(view, 0);
  if (Type !== ETHERTYPE.vlan)
    return { destination, source, tag: undefined, type: Type, payload: frame.subarray(ETHERNET_HEADER) };
  if (frame.length < ETHERNET_HEADER + VLAN_TAG) return undefined;
  const tag = view.getUint16(ETHERNET_HEADER);
  const type = view.getUint16(ETHERNET_HEADER + 2);
  return { destination, source, tag, type, payload: frame.subarray(ETHERNET_HEADER + VLAN_TAG) };
}

/** A frame, without padding to the least size: there is no wire. */
export function makeEthernet(e: Ethernet): Uint8Array {
  const head = ETHERNET_HEADER + (e.tag === undefined ? 0 : VLAN_TAG);
  const out = new Uint8Array(head + e.payload.length);
  const view = viewOf(out);
  const { destination, source, tag, type } = e;
  EthernetHeader.set(view, 0, { Destination: destination, Source: source, Type: tag === undefined ? type : ETHERTYPE.vlan });
  if (tag !== undefined) {
    view.setUint16(ETHERNET_HEADER, tag);
    view.setUint16(ETHERNET_HEADER + 2, type);
  }
  out.set(e.payload, head);
  return out;
}

/** RFC 826, for Ethernet and IPv4. */
export const Arp = struct(
  'Arp',
  {
    HardwareType: be16,
    ProtocolType: be16,
    HardwareLength: u8,
    ProtocolLength: u8,
    Operation: be16,
    SenderMac: mac,
    SenderIp: be32,
    TargetMac: mac,
    TargetIp: be32,
  },
  { size: 28 },
);
export const ARP_OPERATION = { request: 1, reply: 2 } as const;

/** RFC 791 3.1. */
const Ipv4Header = struct(
  'Ipv4Header',
  {
    VersionLength: u8,
    TypeOfService: u8,
    TotalLength: be16,
    Identification: be16,
    FlagsOffset: be16,
    TimeToLive: u8,
    Protocol: u8,
    Checksum: be16,
    Source: be32,
    Destination: be32,
  },
  { size: 20 },
);
export const IPV4_HEADER = Ipv4Header.size;
export const PROTOCOL = { icmp: 1, tcp: 6, udp: 17 } as const;
const MORE_FRAGMENTS = 0x2000;

export interface Ipv4 {
  source: number;
  destination: number;
  protocol: number;
  identification: number;
  /** Bytes of the datagram before this piece, and whether more come after it. */
  offset: number;
  more: boolean;
  payload: Uint8Array;
}

/** A datagram or a fragment of one; its header checksum is right. */
export function parseIpv4(bytes: Uint8Array): Ipv4 | undefined {
  if (bytes.length < IPV4_HEADER) return undefined;
  const h = Ipv4Header.get(viewOf(bytes), 0);
  const header = (h.VersionLength & 15) * 4;
  if (h.VersionLength >> 4 !== 4 || header < IPV4_HEADER || h.TotalLength < header || h.TotalLength > bytes.length)
    return undefined;
  if (complement(sum16(bytes, 0, header)) !== 0) return undefined;
  return {
    source: h.Source,
    destination: h.Destination,
    protocol: h.Protocol,
    identification: h.Identification,
    offset: (h.FlagsOffset & 0x1fff) * 8,
    more: (h.FlagsOffset & MORE_FRAGMENTS) !== 0,
    payload: bytes.subarray(header, h.TotalLength),
  };
}

export function makeIpv4(p: Ipv4): Uint8Array {
  const out = new Uint8Array(IPV4_HEADER + p.payload.length);
  const view = viewOf(out);
  Ipv4Header.set(view, 0, {
    VersionLength: 0x45,
    TypeOfService: 0,
    TotalLength: out.length,
    Identification: p.identification,
    FlagsOffset: (p.offset >>> 3) | (p.more ? MORE_FRAGMENTS : 0),
    TimeToLive: 64,
    Protocol: p.protocol,
    Checksum: 0,
    Source: p.source,
    Destination: p.destination,
  });
  view.setUint16(Ipv4Header.field.Checksum.offset, complement(sum16(out, 0, IPV4_HEADER)));
  out.set(p.payload, IPV4_HEADER);
  return out;
}

/** Source and destination address as a pseudo header has them. */
export function addressPair(source: number, destination: number): Uint8Array {
  const out = new Uint8Array(8);
  viewOf(out).setUint32(0, source);
  viewOf(out).setUint32(4, destination);
  return out;
}

/** RFC 768. */
const UdpHeader = struct('UdpHeader', { SourcePort: be16, DestinationPort: be16, Length: be16, Checksum: be16 }, { size: 8 });

export interface Udp {
  sourcePort: number;
  destinationPort: number;
  payload: Uint8Array;
}

export function parseUdp({ source, destination, payload }: Ipv4): Udp | undefined {
  if (payload.length < UdpHeader.size) return undefined;
  const h = UdpHeader.get(viewOf(payload), 0);
  if (h.Length < UdpHeader.size || h.Length > payload.length) return undefined;
  const start = pseudoHeader(addressPair(source, destination), PROTOCOL.udp, h.Length);
  if (h.Checksum !== 0 && complement(sum16(payload, 0, h.Length, start)) !== 0) return undefined;
  return { sourcePort: h.SourcePort, destinationPort: h.DestinationPort, payload: payload.subarray(UdpHeader.size, h.Length) };
}

export function makeUdp(source: number, destination: number, udp: Udp): Uint8Array {
  const out = new Uint8Array(UdpHeader.size + udp.payload.length);
  const view = viewOf(out);
  const { sourcePort: SourcePort, destinationPort: DestinationPort } = udp;
  UdpHeader.set(view, 0, { SourcePort, DestinationPort, Length: out.length, Checksum: 0 });
  out.set(udp.payload, UdpHeader.size);
  const start = pseudoHeader(addressPair(source, destination), PROTOCOL.udp, out.length);
  // 0 says that there is no checksum.
  view.setUint16(UdpHeader.field.Checksum.offset, complement(sum16(out, 0, out.length, start)) || 0xffff);
  return out;
}

/** RFC 792. */
const IcmpHeader = struct('IcmpHeader', { Type: u8, Code: u8, Checksum: be16, Rest: be32 }, { size: 8 });
export const ICMP = { echoReply: 0, unreachable: 3, echo: 8 } as const;
export const UNREACHABLE = { net: 0, port: 3, prohibited: 13 } as const;

export interface Icmp {
  type: number;
  code: number;
  /** Bytes 4 to 7: identifier and sequence number of an echo. */
  rest: number;
  payload: Uint8Array;
}

export function parseIcmp(bytes: Uint8Array): Icmp | undefined {
  if (bytes.length < IcmpHeader.size || complement(sum16(bytes)) !== 0) return undefined;
  const { Type: type, Code: code, Rest: rest } = IcmpHeader.get(viewOf(bytes), 0);
  return { type, code, rest, payload: bytes.subarray(IcmpHeader.size) };
}

export function makeIcmp({ type, code, rest, payload }: Icmp): Uint8Array {
  const out = new Uint8Array(IcmpHeader.size + payload.length);
  const view = viewOf(out);
  IcmpHeader.set(view, 0, { Type: type, Code: code, Checksum: 0, Rest: rest });
  out.set(payload, IcmpHeader.size);
  view.setUint16(IcmpHeader.field.Checksum.offset, complement(sum16(out)));
  return out;
}

/** RFC 9293 3.1. */
const TcpHeader = struct(
  'TcpHeader',
  {
    SourcePort: be16,
    DestinationPort: be16,
    Sequence: be32,
    Acknowledgment: be32,
    DataOffset: u8,
    Flags: u8,
    Window: be16,
    Checksum: be16,
    Urgent: be16,
  },
  { size: 20 },
);
export const TCP_HEADER = TcpHeader.size;
export const FLAG = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const;
/** Kinds of options: end of list, no operation, maximum segment size, window scale (RFC 9293 3.2, RFC 7323 2.2). */
const OPTION = { end: 0, nop: 1, mss: 2, scale: 3 } as const;

export interface Tcp {
  sourcePort: number;
  destinationPort: number;
  sequence: number;
  acknowledgment: number;
  flags: number;
  /** As it stands in the header, not scaled. */
  window: number;
  mss?: number;
  scale?: number;
  data: Uint8Array;
}

/** A segment whose checksum is right. */
export function parseTcp({ source, destination, payload }: Ipv4): Tcp | undefined {
  if (payload.length < TCP_HEADER) return undefined;
  const h = TcpHeader.get(viewOf(payload), 0);
  const header = (h.DataOffset >> 4) * 4;
  if (header < TCP_HEADER || header > payload.length) return undefined;
  const start = pseudoHeader(addressPair(source, destination), PROTOCOL.tcp, payload.length);
  if (complement(sum16(payload, 0, payload.length, start)) !== 0) return undefined;
  const out: Tcp = {
    sourcePort: h.SourcePort,
    destinationPort: h.DestinationPort,
    sequence: h.Sequence,
    acknowledgment: h.Acknowledgment,
    flags: h.Flags & 0x3f,
    window: h.Window,
    data: payload.subarray(header),
  };
  for (let at = TCP_HEADER; at < header; ) {
    const kind = payload[at];
    if (kind === OPTION.end) break;
    if (kind === OPTION.nop) {
      at++;
      continue;
    }
    const length = at + 1 < header ? payload[at + 1] : 0;
    if (length < 2 || at + length > header) break;
    if (kind === OPTION.mss && length === 4) out.mss = (payload[at + 2] << 8) | payload[at + 3];
    if (kind === OPTION.scale && length === 3) out.scale = payload[at + 2];
    at += length;
  }
  return out;
}

export function makeTcp(source: number, destination: number, t: Tcp): Uint8Array {
  const options = [
    ...(t.mss === undefined ? [] : [OPTION.mss, 4, t.mss >> 8, t.mss & 255]),
    ...(t.scale === undefined ? [] : [OPTION.nop, OPTION.scale, 3, t.scale]),
  ];
  const header = TCP_HEADER + options.length;
  const out = new Uint8Array(header + t.data.length);
  const view = viewOf(out);
  TcpHeader.set(view, 0, {
    SourcePort: t.sourcePort,
    DestinationPort: t.destinationPort,
    Sequence: t.sequence,
    Acknowledgment: t.acknowledgment,
    DataOffset: (header / 4) << 4,
    Flags: t.flags,
    Window: t.window,
    Checksum: 0,
    Urgent: 0,
  });
  out.set(options, TCP_HEADER);
  out.set(t.data, header);
  const start = pseudoHeader(addressPair(source, destination), PROTOCOL.tcp, out.length);
  view.setUint16(TcpHeader.field.Checksum.offset, complement(sum16(out, 0, out.length, start)));
  return out;
}

const tcpFlags = (flags: number): string =>
  Object.entries(FLAG)
    .filter(([, bit]) => flags & bit)
    .map(([name]) => name.toUpperCase())
    .join(' ');

/** A frame in a few words, for traces and views: `TCP 10.0.2.15:40000 > 10.0.2.2:80 SYN, 0 bytes`. */
export function describeFrame(frame: Uint8Array): string {
  const e = parseEthernet(frame);
  if (!e) return `frame of ${frame.length} bytes`;
  const where = e.tag === undefined ? '' : `VLAN ${e.tag & 0xfff} `;
  return where + describeContents(e, frame.length);
}

function describeContents(e: Ethernet, length: number): string {
  if (e.type === ETHERTYPE.arp && e.payload.length >= Arp.size) {
    const a = Arp.get(viewOf(e.payload), 0);
    return a.Operation === ARP_OPERATION.request
      ? `ARP who has ${ipText(a.TargetIp)}, tell ${ipText(a.SenderIp)}`
      : `ARP ${ipText(a.SenderIp)} is at ${macText(a.SenderMac)}`;
  }
  const p = e.type === ETHERTYPE.ipv4 ? parseIpv4(e.payload) : undefined;
  if (!p) return `${e.type === ETHERTYPE.ipv6 ? 'IPv6' : `type 0x${e.type.toString(16)}`}, ${length} bytes`;
  const between = (a: number, b: number): string => `${ipText(p.source)}:${a} > ${ipText(p.destination)}:${b}`;
  const plain = `${ipText(p.source)} > ${ipText(p.destination)}`;
  if (p.offset > 0 || p.more) return `IPv4 fragment ${plain}, protocol ${p.protocol}, ${p.payload.length} bytes at ${p.offset}`;
  if (p.protocol === PROTOCOL.tcp) {
    const t = parseTcp(p);
    if (t) return `TCP ${between(t.sourcePort, t.destinationPort)} ${tcpFlags(t.flags)}, ${t.data.length} bytes`;
  } else if (p.protocol === PROTOCOL.udp) {
    const u = parseUdp(p);
    if (u) return `UDP ${between(u.sourcePort, u.destinationPort)}, ${u.payload.length} bytes`;
  } else if (p.protocol === PROTOCOL.icmp) {
    const i = parseIcmp(p.payload);
    const name = Object.entries(ICMP).find(([, n]) => n === i?.type)?.[0] ?? `type ${i?.type}`;
    if (i) return `ICMP ${name} ${plain}, ${i.payload.length} bytes`;
  }
  return `IPv4 ${plain}, protocol ${p.protocol}, ${p.payload.length} bytes`;
}
