/** Initial RAM disks: what Linux unpacks by itself (init/initramfs.c, lib/decompress.c). */
import { ConfigError } from '../config.ts';

/** First bytes of everything lib/decompress.c and the cpio unpacker know. */
const FORMATS: { name: string; magic: number[] }[] = [
  { name: 'cpio', magic: [0x30, 0x37, 0x30, 0x37, 0x30, 0x31] },
  { name: 'cpio with checksums', magic: [0x30, 0x37, 0x30, 0x37, 0x30, 0x32] },
  { name: 'gzip', magic: [0x1f, 0x8b] },
  { name: 'gzip (old)', magic: [0x1f, 0x9e] },
  { name: 'bzip2', magic: [0x42, 0x5a, 0x68] },
  { name: 'lzma', magic: [0x5d, 0x00, 0x00] },
  { name: 'xz', magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00] },
  { name: 'lzo', magic: [0x89, 0x4c, 0x5a, 0x4f] },
  { name: 'lz4', magic: [0x02, 0x21, 0x4c, 0x18] },
  { name: 'zstd', magic: [0x28, 0xb5, 0x2f, 0xfd] },
];

/** Name of the initrd's format. Throws `ConfigError` when Linux could not unpack it. */
export function checkInitrd(file: Uint8Array, name: string): string {
  if (file.length === 0) throw new ConfigError(`${name} is empty`);
  const format = FORMATS.find((f) => f.magic.every((b, i) => file[i] === b));
  if (!format)
    throw new ConfigError(
      `${name} is not an initramfs: it begins with none of the signatures of cpio, gzip, bzip2, lzma, xz, lzo, lz4 or zstd`,
    );
  return format.name;
}
