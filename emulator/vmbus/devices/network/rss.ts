/** Receive side scaling: which channel a frame comes by, from a hash of its addresses and ports (NDIS RSS, Toeplitz function). */
import { viewOf } from '../../../base/struct.ts';
import { ETHERTYPE, parseEthernet, PROTOCOL } from '../../../network/packet.ts';

export const KEY_SIZE = 40;
const IPV6_HEADER = 40;
const IPV6_ADDRESSES = 8;
const IPV4_ADDRESSES = 12;

/** For every bit of `input` that is set, the 32 bits of the key that begin there, added without carry. */
export function toeplitz(key: Uint8Array, input: Uint8Array): number {
  let hash = 0;
  let window = viewOf(key).getUint32(0);
  for (let i = 0; i < input.length; i++)
    for (let bit = 7; bit >= 0; bit--) {
      if (input[i] & (1 << bit)) hash ^= window;
      const next = i + 4;
      window = (window << 1) | (next < key.length ? (key[next] >>> bit) & 1 : 0);
    }
  return hash >>> 0;
}

/** What the hash of a frame is taken of: addresses, and ports when it is TCP and whole. undefined: it has none. */
export function hashInput(frame: Uint8Array): Uint8Array | undefined {
  const e = parseEthernet(frame);
  const p = e?.payload;
  if (!e || !p) return undefined;
  const of = (addresses: number, size: number, ports: number | undefined): Uint8Array => {
    const out = new Uint8Array(size + (ports === undefined ? 0 : 4));
    out.set(p.subarray(addresses, addresses + size));
    if (ports !== undefined) out.set(p.subarray(ports, ports + 4), size);
    return out;
  };
  if (e.type === ETHERTYPE.ipv4 && p.length >= 20) {
    const header = (p[0] & 15) * 4;
    // More fragments, or not the first one: there may be no ports in it.
    const fragment = (viewOf(p).getUint16(6) & 0x3fff) !== 0;
    const ports = p[9] === PROTOCOL.tcp && !fragment && header >= 20 && p.length >= header + 4 ? header : undefined;
    return of(IPV4_ADDRESSES, 8, ports);
  }
  if (e.type === ETHERTYPE.ipv6 && p.length >= IPV6_HEADER)
    return of(IPV6_ADDRESSES, 32, p[6] === PROTOCOL.tcp && p.length >= IPV6_HEADER + 4 ? IPV6_HEADER : undefined);
  return undefined;
}
