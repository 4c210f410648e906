/** The Internet checksum (RFC 1071), as sums that can be added up in pieces. */

/** Sum of the big-endian 16-bit words of [from, to), not folded; an odd last byte is the upper half of a word. */
export function sum16(bytes: Uint8Array, from = 0, to = bytes.length, start = 0): number {
  let sum = start;
  let at = from;
  for (; at + 1 < to; at += 2) sum += (bytes[at] << 8) | bytes[at + 1];
  if (at < to) sum += bytes[at] << 8;
  return sum;
}

/** A sum as 16 bits, with the carries added in. */
export function fold(sum: number): number {
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x1_0000);
  return sum;
}

/** What stands in a header: the complement of a sum. Over bytes that hold their own checksum it is 0 when they are intact. */
export const complement = (sum: number): number => ~fold(sum) & 0xffff;

/** Sum of the pseudo header that TCP and UDP checksums cover (RFC 9293 3.1, RFC 8200 8.1); `addresses`: both, 8 or 32 bytes. */
export const pseudoHeader = (addresses: Uint8Array, protocol: number, length: number): number =>
  sum16(addresses, 0, addresses.length, protocol + (length >>> 16) + (length & 0xffff));
