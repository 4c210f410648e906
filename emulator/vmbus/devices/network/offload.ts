/**
 * What the card does for its guest with frames: checksums of what it sends, cutting one large TCP segment into many (large
 * send offload), VLAN tags, and checksums of what it gets. Layouts of per-packet information: reference hyperv-arm64.md §9.2.
 */
import { viewOf } from '../../../base/struct.ts';
import { complement, pseudoHeader, sum16 } from '../../../network/checksum.ts';
import {
  ETHERNET_HEADER,
  ETHERTYPE,
  IPV4_HEADER,
  parseEthernet,
  parseIpv4,
  PROTOCOL,
  TCP_HEADER,
  VLAN_TAG,
} from '../../../network/packet.ts';

/** Bits of TCPIP_CHKSUM information, to the host and from it. */
export const TX = { ipv4: 1, ipv6: 2, tcp: 4, udp: 8, ipHeader: 16 } as const;
export const RX = { tcpFailed: 1, udpFailed: 2, ipFailed: 4, tcpOk: 8, udpOk: 16, ipOk: 32 } as const;

/** A frame is cut into no more pieces than this: 64 KiB in segments of the least size that TCP has. */
const MAX_SEGMENTS = 2048;
const IPV6_HEADER = 40;
/** Where fields stand: IPv4 total length, identification, checksum and addresses; IPv6 payload length and addresses. */
const IPV4 = { length: 2, identification: 4, protocol: 9, checksum: 10, addresses: 12 } as const;
const IPV6 = { length: 4, protocol: 6, addresses: 8 } as const;
const TCP = { sequence: 4, offset: 12, flags: 13, checksum: 16 } as const;
const UDP_CHECKSUM = 6;
const TCP_ONLY_LAST = 0x09; // FIN and PSH
const TCP_ONLY_FIRST = 0x80; // CWR

/** Where the parts of a frame of ours begin. */
interface Parts {
  view: DataView;
  ipv6: boolean;
  /** Of the TCP or UDP header. */
  transport: number;
  end: number;
  addresses: Uint8Array;
}

/** Finds the parts of an untagged frame whose transport header is at `transport` (0: behind the IP header). Text: they are not there. */
function partsOf(frame: Uint8Array, transport: number): Parts | string {
  const view = viewOf(frame);
  const ip = ETHERNET_HEADER;
  if (frame.length < ip + IPV4_HEADER) return `frame of ${frame.length} bytes`;
  const type = view.getUint16(12);
  const ipv6 = type === ETHERTYPE.ipv6;
  if (!ipv6 && type !== ETHERTYPE.ipv4) return `type 0x${type.toString(16)} is not IP`;
  const least = ip + (ipv6 ? IPV6_HEADER : IPV4_HEADER);
  const plain = ipv6 ? least : ip + (frame[ip] & 15) * 4;
  const at = transport || plain;
  if (at < least || at > frame.length) return `transport header at ${at} of ${frame.length}`;
  const said = ip + (ipv6 ? IPV6_HEADER + view.getUint16(ip + IPV6.length) : view.getUint16(ip + IPV4.length));
  // Large segments have no length, and small frames are padded.
  const end = said > at && said <= frame.length ? said : frame.length;
  const addresses = ipv6 ? frame.subarray(ip + IPV6.addresses, least) : frame.subarray(ip + IPV4.addresses, least);
  return { view, ipv6, transport: at, end, addresses };
}

/** Puts the checksum of TCP or UDP where it belongs. */
function setTransportChecksum(frame: Uint8Array, p: Parts, protocol: number): void {
  const at = p.transport + (protocol === PROTOCOL.tcp ? TCP.checksum : UDP_CHECKSUM);
  p.view.setUint16(at, 0);
  const start = pseudoHeader(p.addresses, protocol, p.end - p.transport);
  const sum = complement(sum16(frame, p.transport, p.end, start));
  p.view.setUint16(at, protocol === PROTOCOL.udp && sum === 0 ? 0xffff : sum);
}

function setIpv4Checksum(frame: Uint8Array, view: DataView): void {
  const at = ETHERNET_HEADER;
  view.setUint16(at + IPV4.checksum, 0);
  view.setUint16(at + IPV4.checksum, complement(sum16(frame, at, at + (frame[at] & 15) * 4)));
}

/** Computes the checksums that `value` asks for, in the frame. Text: it makes no sense for this frame. */
export function checksum(frame: Uint8Array, value: number): string | undefined {
  const p = partsOf(frame, (value >>> 16) & 0x3ff);
  if (typeof p === 'string') return p;
  const header = ETHERNET_HEADER + (frame[ETHERNET_HEADER] & 15) * 4;
  if (value & TX.ipHeader && !p.ipv6) {
    if (header < ETHERNET_HEADER + IPV4_HEADER || header > frame.length)
      return `IPv4 header of ${header - ETHERNET_HEADER} bytes`;
    setIpv4Checksum(frame, p.view);
  }
  const protocol = value & TX.tcp ? PROTOCOL.tcp : value & TX.udp ? PROTOCOL.udp : undefined;
  if (protocol === undefined) return undefined;
  if (p.end - p.transport < (protocol === PROTOCOL.tcp ? TCP_HEADER : 8)) return `transport header at ${p.transport} of ${p.end}`;
  setTransportChecksum(frame, p, protocol);
  return undefined;
}

/** Cuts one TCP segment as `value` says: each piece is a whole frame. Text: it cannot be cut. */
export function largeSend(frame: Uint8Array, value: number): Uint8Array[] | string {
  const mss = value & 0xf_ffff;
  const p = partsOf(frame, (value >>> 20) & 0x3ff);
  if (typeof p === 'string') return p;
  // Version 1 was never offered.
  if (!(value & 0x4000_0000)) return 'large send version 1';
  if (p.transport + TCP_HEADER > frame.length) return `TCP header at ${p.transport} of ${frame.length}`;
  const data = p.transport + (frame[p.transport + TCP.offset] >> 4) * 4;
  if (data < p.transport + TCP_HEADER || data > frame.length) return `TCP data at ${data} of ${frame.length}`;
  const ipHeader = ETHERNET_HEADER + (frame[ETHERNET_HEADER] & 15) * 4;
  if (!p.ipv6 && (ipHeader < ETHERNET_HEADER + IPV4_HEADER || ipHeader > p.transport)) return `IPv4 header to ${ipHeader}`;
  const total = frame.length - data;
  if (mss === 0 || total > mss * MAX_SEGMENTS) return `${total} bytes in segments of ${mss}`;
  const out: Uint8Array[] = [];
  const sequence = p.view.getUint32(p.transport + TCP.sequence);
  for (let at = 0; at === 0 || at < total; at += mss) {
    const n = Math.min(mss, total - at);
    const piece = new Uint8Array(data + n);
    piece.set(frame.subarray(0, data));
    piece.set(frame.subarray(data + at, data + at + n), data);
    const view = viewOf(piece);
    const ip = ETHERNET_HEADER;
    if (p.ipv6) view.setUint16(ip + IPV6.length, piece.length - ip - IPV6_HEADER);
    else {
      view.setUint16(ip + IPV4.length, piece.length - ip);
      view.setUint16(ip + IPV4.identification, p.view.getUint16(ip + IPV4.identification) + out.length);
      setIpv4Checksum(piece, view);
    }
    view.setUint32(p.transport + TCP.sequence, sequence + at);
    const flags = frame[p.transport + TCP.flags];
    const last = at + n >= total;
    piece[p.transport + TCP.flags] = flags & ~((at === 0 ? 0 : TCP_ONLY_FIRST) | (last ? 0 : TCP_ONLY_LAST));
    setTransportChecksum(piece, { ...p, view, end: piece.length }, PROTOCOL.tcp);
    out.push(piece);
  }
  return out;
}

/** The frame with an 802.1Q tag. */
export function withTag(frame: Uint8Array, tag: number): Uint8Array {
  const out = new Uint8Array(frame.length + VLAN_TAG);
  out.set(frame.subarray(0, 12));
  viewOf(out).setUint16(12, ETHERTYPE.vlan);
  viewOf(out).setUint16(14, tag);
  out.set(frame.subarray(12), 12 + VLAN_TAG);
  return out;
}

/** A tagged frame without its tag. */
export function withoutTag(frame: Uint8Array): Uint8Array {
  const out = new Uint8Array(frame.length - VLAN_TAG);
  out.set(frame.subarray(0, 12));
  out.set(frame.subarray(12 + VLAN_TAG), 12);
  return out;
}

/** What the card says about the checksums of a frame from the network: bits of `RX`, 0 when it has nothing to say. */
export function checkChecksums(frame: Uint8Array): number {
  const e = parseEthernet(frame);
  if (!e) return 0;
  if (e.type === ETHERTYPE.ipv6) {
    const p = e.payload;
    const length = p.length >= IPV6_HEADER ? viewOf(p).getUint16(IPV6.length) : 0;
    if (length === 0 || IPV6_HEADER + length > p.length) return 0;
    return transportBits(
      p[IPV6.protocol],
      p.subarray(IPV6.addresses, IPV6_HEADER),
      p.subarray(IPV6_HEADER, IPV6_HEADER + length),
    );
  }
  if (e.type !== ETHERTYPE.ipv4 || e.payload.length < IPV4_HEADER) return 0;
  const p = parseIpv4(e.payload);
  if (!p) return RX.ipFailed;
  if (p.offset > 0 || p.more) return RX.ipOk;
  return RX.ipOk | transportBits(p.protocol, e.payload.subarray(IPV4.addresses, IPV4_HEADER), p.payload);
}

function transportBits(protocol: number, addresses: Uint8Array, payload: Uint8Array): number {
  const ok = (): boolean =>
    complement(sum16(payload, 0, payload.length, pseudoHeader(addresses, protocol, payload.length))) === 0;
  if (protocol === PROTOCOL.tcp && payload.length >= TCP_HEADER) return ok() ? RX.tcpOk : RX.tcpFailed;
  // Without a checksum there is nothing to check.
  const summed = protocol === PROTOCOL.udp && payload.length >= 8 && viewOf(payload).getUint16(UDP_CHECKSUM) !== 0;
  return summed ? (ok() ? RX.udpOk : RX.udpFailed) : 0;
}

// --- NDIS objects -----------------------------------------------------------------------------------------------------------

/** What is on, as OID_TCP_OFFLOAD_PARAMETERS sets it. */
export interface OffloadState {
  /** Checksums computed for what is sent, and checked of what comes: IP header, TCP and UDP over IPv4, TCP and UDP over IPv6. */
  tx: { ip4: boolean; tcp4: boolean; udp4: boolean; tcp6: boolean; udp6: boolean };
  rx: { ip4: boolean; tcp4: boolean; udp4: boolean; tcp6: boolean; udp6: boolean };
  lso4: boolean;
  lso6: boolean;
}
const all = (on: boolean) => ({ ip4: on, tcp4: on, udp4: on, tcp6: on, udp6: on });
/** Everything the card can do; and what is on until the guest says so. */
export const newOffload = (on: boolean): OffloadState => ({ tx: all(on), rx: all(on), lso4: on, lso6: on });

/** Checksum bits that the guest wants to hear of. */
export const wantedBits = ({ rx }: OffloadState, ipv6: boolean): number =>
  (rx.ip4 ? RX.ipOk | RX.ipFailed : 0) |
  ((ipv6 ? rx.tcp6 : rx.tcp4) ? RX.tcpOk | RX.tcpFailed : 0) |
  ((ipv6 ? rx.udp6 : rx.udp4) ? RX.udpOk | RX.udpFailed : 0);

const NDIS_OBJECT = { default: 0x80, offload: 0xa7 } as const;
/** Sizes of NDIS_OFFLOAD by revision: NDIS 6.0, 6.1, 6.30. */
const OFFLOAD_SIZES = [0x70, 0x90, 0x9c];
const ENCAPSULATION_8023 = 2;
const LARGEST_SEND = 0xf53c;
const LEAST_SEGMENTS = 2;

/** NDIS_OFFLOAD of the revision that an NDIS version has: of what the card can do, or of what is on. */
export function ndisOffload(o: OffloadState, ndisMajor: number, ndisMinor: number): Uint8Array {
  const revision = ndisMajor > 6 || ndisMinor >= 30 ? 3 : ndisMinor >= 1 ? 2 : 1;
  const out = new Uint8Array(OFFLOAD_SIZES[revision - 1]);
  const view = viewOf(out);
  out[0] = NDIS_OBJECT.offload;
  out[1] = revision;
  view.setUint16(2, out.length, true);
  const v4 = (on: OffloadState['tx']): number => (on.ip4 ? 0x101 : 0) | (on.tcp4 ? 0x014 : 0) | (on.udp4 ? 0x040 : 0);
  const v6 = (on: OffloadState['tx']): number => (on.tcp6 ? 0x015 : 0) | (on.udp6 ? 0x041 : 0);
  const words = [v4(o.tx), v4(o.rx), v6(o.tx), v6(o.rx)];
  words.forEach((w, n) => {
    view.setUint32(4 + 8 * n, w ? ENCAPSULATION_8023 : 0, true);
    view.setUint32(8 + 8 * n, w, true);
  });
  const lso = (at: number, on: boolean): void => {
    if (!on) return;
    [ENCAPSULATION_8023, LARGEST_SEND, LEAST_SEGMENTS].forEach((w, n) => {
      view.setUint32(at + 4 * n, w, true);
    });
  };
  lso(80, o.lso4);
  lso(92, o.lso6);
  // IPv6 extension headers and TCP options.
  if (o.lso6) view.setUint32(104, 0x5, true);
  return out;
}

/** Takes NDIS_OFFLOAD_PARAMETERS over. False: it is not one, or wants what there is not. */
export function setOffload(o: OffloadState, data: Uint8Array): boolean {
  // Linux sends 22 bytes to hosts of NVSP 4 and before, where the smallest is 20.
  if (data.length < 20 || data[0] !== NDIS_OBJECT.default || data[1] < 1) return false;
  const [ip4, tcp4, udp4, tcp6, udp6, lsoV1, , lso4, lso6] = data.subarray(4);
  if (lsoV1 === 2) return false;
  const kinds = { ip4, tcp4, udp4, tcp6, udp6 };
  for (const [kind, value] of Object.entries(kinds) as [keyof OffloadState['tx'], number][]) {
    // 1: off, 2: sending only, 3: receiving only, 4: both; anything else is no change.
    if (value < 1 || value > 4) continue;
    o.tx[kind] = value === 2 || value === 4;
    o.rx[kind] = value === 3 || value === 4;
  }
  if (lso4 === 1 || lso4 === 2) o.lso4 = lso4 === 2;
  if (lso6 === 1 || lso6 === 2) o.lso6 = lso6 === 2;
  return true;
}
