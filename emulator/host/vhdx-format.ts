/** The VHDX format as data ([MS-VHDX], revision 8.0; section numbers are its). All integers are little-endian. */
import { guidBytes, guidText } from '../base/guid.ts';
import { ascii, bytes, type FieldType, struct, u16, u32, u64 } from '../base/struct.ts';

const guid: FieldType<string> = {
  size: 16,
  get: (v, at) => guidText(new Uint8Array(v.buffer, v.byteOffset + at, 16)),
  set: (v, at, x) => new Uint8Array(v.buffer, v.byteOffset + at, 16).set(guidBytes(x)),
  zero: () => NO_GUID,
};
export const NO_GUID = '00000000-0000-0000-0000-000000000000';

export const KIB = 1024;
export const MIB = 1024 * KIB;

/** 2.2: file type identifier, two headers and two region tables, each in 64 KiB of their own. */
export const PLACE = { fileType: 0, headers: [64 * KIB, 128 * KIB], regionTables: [192 * KIB, 256 * KIB] } as const;
export const FILE_SIGNATURE = 'vhdxfile';

/** 2.2.2; the checksum is over 4 KiB. */
export const HEADER_SIZE = 4 * KIB;
export const Header = struct(
  'VhdxHeader',
  {
    signature: ascii(4),
    checksum: u32,
    sequenceNumber: u64,
    fileWriteGuid: guid,
    dataWriteGuid: guid,
    logGuid: guid,
    logVersion: u16,
    version: u16,
    logLength: u32,
    logOffset: u64,
  },
  { size: 80 },
);
export const HEADER_SIGNATURE = 'head';

/** 2.2.3; the checksum is over 64 KiB. */
export const REGION_TABLE_SIZE = 64 * KIB;
export const RegionTable = struct(
  'VhdxRegionTable',
  { signature: ascii(4), checksum: u32, entryCount: u32, reserved: u32 },
  { size: 16 },
);
export const RegionEntry = struct('VhdxRegionEntry', { guid, fileOffset: u64, length: u32, required: u32 }, { size: 32 });
export const REGION_SIGNATURE = 'regi';
export const REGION = {
  bat: '2dc27766-f623-4200-9d64-115e9bfd4a08',
  metadata: '8b7ca206-4790-4b9a-b8fe-575f050f886e',
} as const;
export const MAX_ENTRIES = 2047;

/** 2.3: the log. Entries and data sectors are multiples of 4 KiB. */
export const LOG_SECTOR = 4 * KIB;
export const LogEntry = struct(
  'VhdxLogEntry',
  {
    signature: ascii(4),
    checksum: u32,
    entryLength: u32,
    tail: u32,
    sequenceNumber: u64,
    descriptorCount: u32,
    reserved: u32,
    logGuid: guid,
    flushedFileOffset: u64,
    lastFileOffset: u64,
  },
  { size: 64 },
);
/** Both kinds of descriptor: `zero` has a length where `desc` has the leading bytes of its data sector. */
export const LogDescriptor = struct(
  'VhdxLogDescriptor',
  { signature: ascii(4), trailingBytes: bytes(4), leadingBytes: u64, fileOffset: u64, sequenceNumber: u64 },
  { size: 32 },
);
export const LogData = struct(
  'VhdxLogData',
  { signature: ascii(4), sequenceHigh: u32, data: bytes(4084), sequenceLow: u32 },
  { size: LOG_SECTOR },
);
export const LOG_SIGNATURE = { entry: 'loge', zero: 'zero', data: 'desc', sector: 'data' } as const;

/** 2.6: metadata. */
export const METADATA_TABLE_SIZE = 64 * KIB;
export const MetadataTable = struct(
  'VhdxMetadataTable',
  { signature: ascii(8), reserved: u16, entryCount: u16, reserved2: bytes(20) },
  { size: 32 },
);
export const MetadataEntry = struct(
  'VhdxMetadataEntry',
  { item: guid, offset: u32, length: u32, flags: u32, reserved: u32 },
  { size: 32 },
);
export const METADATA_SIGNATURE = 'metadata';
export const METADATA_FLAG = { user: 1, virtualDisk: 2, required: 4 } as const;
export const ITEM = {
  fileParameters: 'caa16737-fa36-4d43-b3b6-33f0aa44e76b',
  virtualDiskSize: '2fa54224-cd1b-4876-b211-5dbed83bf4b8',
  virtualDiskId: 'beca12ab-b2e6-4523-93ef-c309e000c746',
  logicalSectorSize: '8141bf1d-a96f-4709-ba47-f233a8faab5f',
  physicalSectorSize: 'cda348c7-445d-4471-9cc9-e9885251c556',
  parentLocator: 'a8d35f2d-b30b-454d-abf7-d3d84834ab0c',
} as const;
export const FileParameters = struct('VhdxFileParameters', { blockSize: u32, flags: u32 }, { size: 8 });
export const HAS_PARENT = 2;
export const ParentLocator = struct('VhdxParentLocator', { type: guid, reserved: u16, count: u16 }, { size: 20 });
export const ParentEntry = struct(
  'VhdxParentEntry',
  { keyOffset: u32, valueOffset: u32, keyLength: u16, valueLength: u16 },
  { size: 12 },
);
export const LOCATOR_VHDX = 'b04aefb7-d19e-4a81-b789-25b8e9445913';

/** 2.5: an entry of the block allocation table is a state and a place in MiB. */
export const BLOCK = { notPresent: 0, undefined: 1, zero: 2, unmapped: 3, full: 6, partial: 7 } as const;
export const BITMAP_PRESENT = 6;
/** 2.5: sectors that one sector bitmap block describes; payload blocks in front of each bitmap block. */
export const BITMAP_SECTORS = 2 ** 23;
export const chunkRatio = (sectorSize: number, blockSize: number): number => (BITMAP_SECTORS * sectorSize) / blockSize;
/** Entry of payload block `n`; of the bitmap block of chunk `c`. */
export const payloadIndex = (n: number, ratio: number): number => n + Math.floor(n / ratio);
export const bitmapIndex = (c: number, ratio: number): number => c * (ratio + 1) + ratio;
export const MAX_DISK = 64 * 2 ** 40;
