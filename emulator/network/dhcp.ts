/** The DHCP server of the gateway (RFC 2131, options of RFC 2132): it gives every MAC address one address, for as long as it lives. */
import { bytes, struct, u8, viewOf } from '../base/struct.ts';
import { be16, be32, mac } from './packet.ts';

const Bootp = struct(
  'Bootp',
  {
    Op: u8,
    HardwareType: u8,
    HardwareLength: u8,
    Hops: u8,
    TransactionId: be32,
    Seconds: be16,
    Flags: be16,
    ClientIp: be32,
    YourIp: be32,
    ServerIp: be32,
    RelayIp: be32,
    ClientMac: mac,
    ClientPadding: bytes(10),
    ServerName: bytes(64),
    File: bytes(128),
    Cookie: be32,
  },
  { size: 240 },
);
const COOKIE = 0x6382_5363;
const REQUEST = 1;
const REPLY = 2;
const BROADCAST_FLAG = 0x8000;
export const DHCP_PORT = { server: 67, client: 68 } as const;
export const DHCP = { discover: 1, offer: 2, request: 3, decline: 4, ack: 5, nak: 6, release: 7, inform: 8 } as const;
const OPTION = { pad: 0, mask: 1, router: 3, dns: 6, requested: 50, lease: 51, type: 53, server: 54, t1: 58, t2: 59, end: 255 };
const LEASE_SECONDS = 86_400;

export interface DhcpNetwork {
  mask: number;
  router: number;
  dns: number;
  server: number;
  /** The address for a client, its own every time. undefined: there are no more. */
  lease(client: number): number | undefined;
}

export interface DhcpReply {
  message: Uint8Array;
  /** Where it goes: the client's MAC address, and an IP address unless it has none yet or asked for a broadcast. */
  client: number;
  address: number | undefined;
}

/** The options of a message by code. undefined: they make no sense. */
function optionsOf(message: Uint8Array): Map<number, Uint8Array> | undefined {
  const out = new Map<number, Uint8Array>();
  for (let at = Bootp.size; at < message.length; ) {
    const code = message[at];
    if (code === OPTION.end) return out;
    if (code === OPTION.pad) {
      at++;
      continue;
    }
    const length = message[at + 1];
    if (length === undefined || at + 2 + length > message.length) return undefined;
    out.set(code, message.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
  return out;
}

/** The answer to a client's message. undefined: none is due. */
export function dhcpReply(message: Uint8Array, network: DhcpNetwork): DhcpReply | undefined {
  if (message.length < Bootp.size) return undefined;
  const request = Bootp.get(viewOf(message), 0);
  const options = request.Op === REQUEST && request.Cookie === COOKIE ? optionsOf(message) : undefined;
  const type = options?.get(OPTION.type)?.[0];
  if (!options || type === undefined || request.HardwareType !== 1 || request.HardwareLength !== 6) return undefined;
  if (type !== DHCP.discover && type !== DHCP.request && type !== DHCP.inform) return undefined;
  const address = (code: number): number | undefined => {
    const value = options.get(code);
    return value?.length === 4 ? viewOf(value).getUint32(0) : undefined;
  };
  // A request for another server's offer is not ours.
  const chosen = address(OPTION.server);
  if (chosen !== undefined && chosen !== network.server) return undefined;
  const lease = network.lease(request.ClientMac);
  if (lease === undefined && type === DHCP.discover) return undefined;
  const wanted = address(OPTION.requested) ?? request.ClientIp;
  const informed = type === DHCP.inform;
  const refused = type === DHCP.request && wanted !== lease;
  const answer = refused ? DHCP.nak : type === DHCP.discover ? DHCP.offer : DHCP.ack;
  const words = (code: number, value: number): number[] => [
    code,
    4,
    value >>> 24,
    (value >>> 16) & 255,
    (value >>> 8) & 255,
    value & 255,
  ];
  const out = [OPTION.type, 1, answer, ...words(OPTION.server, network.server)];
  if (!refused) {
    out.push(...words(OPTION.mask, network.mask), ...words(OPTION.router, network.router), ...words(OPTION.dns, network.dns));
    if (!informed)
      out.push(
        ...words(OPTION.lease, LEASE_SECONDS),
        ...words(OPTION.t1, LEASE_SECONDS / 2),
        ...words(OPTION.t2, (LEASE_SECONDS * 7) / 8),
      );
  }
  out.push(OPTION.end);
  // Clients expect 300 bytes at least (RFC 1542 2.1).
  const reply = new Uint8Array(Math.max(300, Bootp.size + out.length));
  Bootp.set(viewOf(reply), 0, {
    ...request,
    Op: REPLY,
    Hops: 0,
    Seconds: 0,
    ClientIp: refused ? 0 : request.ClientIp,
    YourIp: refused || informed || lease === undefined ? 0 : lease,
    ServerIp: network.server,
    ServerName: new Uint8Array(0),
    File: new Uint8Array(0),
  });
  reply.set(out, Bootp.size);
  const toAll = refused || ((request.Flags & BROADCAST_FLAG) !== 0 && request.ClientIp === 0);
  return { message: reply, client: request.ClientMac, address: toAll ? undefined : request.ClientIp || lease };
}
