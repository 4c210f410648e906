/**
 * Images to read: one disk in four formats, made by `qemu-img convert` 7.2 (`subformat=fixed|dynamic`, `force_size=on`;
 * `block_size=1048576,log_size=1048576`), whose contents `disk()` tells again.
 */
import fs from 'node:fs';
import zlib from 'node:zlib';
import type { ImageFile } from '../../../emulator/host/disk.ts';

export const SIZE = 6 * 2 ** 20 + 512 * 3;
/** Sectors that are not zero. */
const USED = [
  [0, 40],
  [2047, 2050],
  [6000, 6100],
  [12289, 12291],
];

/** What the images hold. */
export function disk(): Uint8Array {
  const out = new Uint8Array(SIZE);
  for (const [from, to] of USED)
    for (let s = from; s < to; s++) for (let i = 0; i < 512; i++) out[s * 512 + i] = (s * 7 + i * (1 + (s & 3))) & 0xff;
  return out;
}

export const IMAGES = ['fixed.vhd', 'dynamic.vhd', 'dynamic.vhdx', 'fixed.vhdx'] as const;

export const image = (name: (typeof IMAGES)[number]): Uint8Array =>
  new Uint8Array(zlib.gunzipSync(fs.readFileSync(new URL(`./images/${name}.gz`, import.meta.url))));

/** Bytes as a file. Reading outside is our mistake, whatever the image says. */
export const file = (bytes: Uint8Array, name: string): ImageFile => ({
  name,
  size: bytes.length,
  read(offset, length) {
    if (!Number.isInteger(offset) || offset < 0 || length < 0 || offset + length > bytes.length)
      throw new Error(`read of ${length} bytes at ${offset} of ${bytes.length}`);
    return bytes.slice(offset, offset + length);
  },
});
