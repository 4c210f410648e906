/** Raw images: the disk's bytes and nothing else. ISO 9660 images are raw images with larger sectors. */
import { ConfigError } from '../config.ts';
import type { Disk, ImageFile } from './disk.ts';

const SECTOR = 512;

/** Opens a raw image. Throws `ConfigError` when it is not whole sectors. */
export function openRaw(file: ImageFile): Disk {
  if (file.size === 0) throw new ConfigError(`${file.name}: an empty file is no disk image`);
  if (file.size % SECTOR !== 0)
    throw new ConfigError(`${file.name}: a raw image must be whole sectors of ${SECTOR} bytes, not ${file.size} bytes`);
  return {
    format: 'raw image',
    size: file.size,
    sectorSize: SECTOR,
    physicalSectorSize: 4096,
    read: (offset, length) => file.read(offset, length),
  };
}
