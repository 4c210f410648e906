/** A disk of zeros, for guests that only need to have one. */
import type { DiskConfig } from '../../../emulator/config.ts';

export const emptyDisk = (size = 1 << 20): DiskConfig => ({
  name: 'zeros',
  disk: {
    format: 'memory',
    size,
    sectorSize: 512,
    physicalSectorSize: 4096,
    read: (_at, length) => new Uint8Array(length),
  },
});
