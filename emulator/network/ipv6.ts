/**
 * IPv6 as far as a link needs it: the gateway is a neighbour (RFC 4861) at fe80::2 and answers echo requests (RFC 4443 4.2), there and
 * to all nodes. It is no router and says so by saying nothing: guests stay on their link. Nothing of it is remembered: an answer goes to
 * where the question came from.
 */
import { bytes, struct, u8, viewOf } from '../base/struct.ts';
import { complement, pseudoHeader, sum16 } from './checksum.ts';
import { be16, be32, type Ethernet, mac } from './packet.ts';

/** RFC 8200 3. */
const Ipv6Header = struct(
  'Ipv6Header',
  { VersionClassFlow: be32, PayloadLength: be16, NextHeader: u8, HopLimit: u8, Source: bytes(16), Destination: bytes(16) },
  { size: 40 },
);
/** RFC 4443 2.1, RFC 4861 4.3 and 4.4: a target and options may follow. */
const Icmpv6Header = struct('Icmpv6Header', { Type: u8, Code: u8, Checksum: be16, Rest: be32 }, { size: 8 });
const Advertisement = struct(
  'Advertisement',
  { Type: u8, Code: u8, Checksum: be16, Flags: be32, Target: bytes(16), OptionType: u8, OptionLength: u8, Mac: mac },
  { size: 32 },
);
const ICMPV6 = { protocol: 58, echo: 128, echoReply: 129, solicitation: 135, advertisement: 136 } as const;
/** Source and target link-layer address, in units of 8 bytes. */
const OPTION = { source: 1, target: 2, length: 1 } as const;
/** Of an advertisement: it answers, and goes over what was known. */
const [SOLICITED, OVERRIDE] = [0x4000_0000, 0x2000_0000];
/** Neighbour discovery never comes through a router. */
const ND_HOPS = 255;
const HOPS = 64;

const address = (...groups: number[]): Uint8Array => Uint8Array.from(groups.flatMap((g) => [g >> 8, g & 255]));
const UNSPECIFIED = new Uint8Array(16);
export const GATEWAY_IPV6 = address(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const ALL_NODES = address(0xff02, 0, 0, 0, 0, 0, 0, 1);
/** ff02::1:ff00:2. */
const SOLICITED_NODE = address(0xff02, 0, 0, 0, 0, 1, 0xff00, 2);
/** RFC 2464 7. */
const ALL_NODES_MAC = 0x3333_0000_0001;

const same = (a: Uint8Array, b: Uint8Array): boolean => a.every((x, i) => x === b[i]);

/** What goes back to the guest: a datagram, and the MAC address it is for. */
export interface Ipv6Answer {
  destination: number;
  payload: Uint8Array;
}

/** An answer to a frame of the guest; undefined: there is none. `gateway`: the gateway's MAC address. */
export function ipv6Answer({ source, payload }: Ethernet, gateway: number): Ipv6Answer | undefined {
  if (payload.length < Ipv6Header.size) return undefined;
  const h = Ipv6Header.get(viewOf(payload), 0);
  const whole = Ipv6Header.size + h.PayloadLength;
  if (h.VersionClassFlow >>> 28 !== 6 || whole > payload.length || h.NextHeader !== ICMPV6.protocol) return undefined;
  const message = payload.subarray(Ipv6Header.size, whole);
  const addresses = payload.subarray(Ipv6Header.field.Source.offset, Ipv6Header.size);
  const sum = sum16(message, 0, message.length, pseudoHeader(addresses, ICMPV6.protocol, message.length));
  if (message.length < Icmpv6Header.size || complement(sum) !== 0 || h.Source[0] === 0xff) return undefined;
  const { Type, Code } = Icmpv6Header.get(viewOf(message), 0);
  const here = same(h.Destination, GATEWAY_IPV6);
  if (Type === ICMPV6.echo && (here || same(h.Destination, ALL_NODES)) && !same(h.Source, UNSPECIFIED)) {
    const reply = message.slice();
    reply[0] = ICMPV6.echoReply;
    return { destination: source, payload: makeIcmpv6(h.Source, HOPS, reply) };
  }
  if (Type !== ICMPV6.solicitation || Code !== 0 || h.HopLimit !== ND_HOPS) return undefined;
  if (!(here || same(h.Destination, SOLICITED_NODE)) || !isSolicitation(message)) return undefined;
  // Somebody who looks whether an address is free has none yet: everybody hears that this one is not (RFC 4862 5.4).
  const toAll = same(h.Source, UNSPECIFIED);
  const answer = Advertisement.make({
    Type: ICMPV6.advertisement,
    Flags: OVERRIDE | (toAll ? 0 : SOLICITED),
    Target: GATEWAY_IPV6,
    OptionType: OPTION.target,
    OptionLength: OPTION.length,
    Mac: gateway,
  });
  const [to, destination] = toAll ? [ALL_NODES, ALL_NODES_MAC] : [h.Source, source];
  return { destination, payload: makeIcmpv6(to, ND_HOPS, answer) };
}

/** A neighbour solicitation for the gateway, with options that have a length (RFC 4861 7.1.1). */
function isSolicitation(message: Uint8Array): boolean {
  const options = Icmpv6Header.size + 16;
  if (message.length < options || !same(message.subarray(Icmpv6Header.size, options), GATEWAY_IPV6)) return false;
  let at = options;
  while (at + 1 < message.length && message[at + 1] > 0) at += 8 * message[at + 1];
  return at === message.length;
}

/** A datagram of the gateway with an ICMPv6 message, whose checksum is filled in. */
function makeIcmpv6(to: Uint8Array, hops: number, message: Uint8Array): Uint8Array {
  const out = new Uint8Array(Ipv6Header.size + message.length);
  Ipv6Header.set(viewOf(out), 0, {
    VersionClassFlow: 0x6000_0000,
    PayloadLength: message.length,
    NextHeader: ICMPV6.protocol,
    HopLimit: hops,
    Source: GATEWAY_IPV6,
    Destination: to,
  });
  out.set(message, Ipv6Header.size);
  const checksum = Ipv6Header.size + Icmpv6Header.field.Checksum.offset;
  viewOf(out).setUint16(checksum, 0);
  const addresses = out.subarray(Ipv6Header.field.Source.offset, Ipv6Header.size);
  const sum = sum16(out, Ipv6Header.size, out.length, pseudoHeader(addresses, ICMPV6.protocol, message.length));
  viewOf(out).setUint16(checksum, complement(sum));
  return out;
}
