/** CRC-32C (Castagnoli), as VHDX uses it ([MS-VHDX] 2.2.2): reflected polynomial 0x82f63b78. */
const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0x82f6_3b78 : c >>> 1;
  return c >>> 0;
});

/** The checksum of `bytes`, with the four bytes at `field` counted as zero: where the checksum itself is stored. */
export function crc32c(bytes: Uint8Array, field = -4): number {
  let c = 0xffff_ffff;
  for (let i = 0; i < bytes.length; i++) {
    const b = i >= field && i < field + 4 ? 0 : bytes[i];
    c = (c >>> 8) ^ TABLE[(c ^ b) & 0xff];
  }
  return ~c >>> 0;
}
