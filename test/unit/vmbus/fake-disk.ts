/** A disk of zeros, for guests that only need to have one. */
import type { DiskConfig } from '../../../emulator/config.ts';

export const emptyDisk = (): DiskConfig => ({
  name: 'zeros',
  disk: {
    format: 'memory',
    size: 1 << 20,
    sectorSize: 512,
    physicalSectorSize: 4096,
    read: (_at, length) => new Uint8Array(length),
  },
});
