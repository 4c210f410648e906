/**
 * GUIDs in their mixed-endian 16-byte form: the first three groups little-endian, the rest in text order
 * (UEFI 2.10, Appendix A).
 */
const ORDER = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

/** The 16 bytes of `8-4-4-4-12` text. Throws on malformed text: a GUID in our source is wrong, not the guest. */
export function guidBytes(text: string): Uint8Array {
  const digits = text.replaceAll('-', '');
  if (!/^[0-9a-fA-F]{32}$/.test(digits)) throw new Error(`not a GUID: ${text}`);
  const out = new Uint8Array(16);
  for (let i = 0; i < 16; i++) out[i] = Number.parseInt(digits.slice(ORDER[i] * 2, ORDER[i] * 2 + 2), 16);
  return out;
}

/** Lower-case `8-4-4-4-12` text of the 16 bytes at `at`. */
export function guidText(bytes: Uint8Array, at = 0): string {
  const hex: string[] = new Array(16);
  for (let i = 0; i < 16; i++) hex[ORDER[i]] = bytes[at + i].toString(16).padStart(2, '0');
  const s = hex.join('');
  return `${s.slice(0, 8)}-${s.slice(8, 12)}-${s.slice(12, 16)}-${s.slice(16, 20)}-${s.slice(20)}`;
}

/** 16 bytes made from a name, for things that have an identity but none of their own. */
export function idFromName(name: string): Uint8Array {
  const out = new Uint8Array(16);
  // FNV-1a, begun in another place for each byte.
  for (let n = 0; n < out.length; n++) {
    let h = 0x811c_9dc5 ^ n;
    for (const c of name) h = Math.imul(h ^ (c.codePointAt(0) ?? 0), 0x0100_0193);
    out[n] = (h >>> 24) ^ h;
  }
  return out;
}
