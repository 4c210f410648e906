/**
 * Makes differencing VHDX files: what a guest has written over a parent image ([MS-VHDX], revision 8.0). The file is made
 * whole, so it needs no log.
 */
import { guidText } from '../base/guid.ts';
import { viewOf } from '../base/struct.ts';
import { crc32c } from './crc32c.ts';
import type { Disk } from './disk.ts';
import { linkageOf } from './vhdx.ts';
import {
  BITMAP_PRESENT,
  BITMAP_SECTORS,
  BLOCK,
  bitmapIndex,
  chunkRatio,
  FILE_SIGNATURE,
  FileParameters,
  HAS_PARENT,
  Header,
  HEADER_SIGNATURE,
  HEADER_SIZE,
  ITEM,
  LOCATOR_VHDX,
  METADATA_FLAG,
  METADATA_SIGNATURE,
  METADATA_TABLE_SIZE,
  MetadataEntry,
  MetadataTable,
  MIB,
  ParentEntry,
  ParentLocator,
  payloadIndex,
  PLACE,
  REGION,
  REGION_SIGNATURE,
  REGION_TABLE_SIZE,
  RegionEntry,
  RegionTable,
} from './vhdx-format.ts';

export interface Differencing {
  parent: Disk;
  /** Values of the parent locator: `relative_path`, `absolute_win32_path`. */
  parentPaths: Readonly<Record<string, string>>;
  /** Two GUIDs that no other file has, 16 bytes each: of this writing of the file, and of the disk when the parent has none. */
  writeId: Uint8Array;
  diskId: Uint8Array;
  /** What differs from the parent: offsets and bytes in whole sectors. Later ones win. */
  writes: Iterable<readonly [offset: number, data: Uint8Array]>;
}

/** The smallest that is allowed (2.6.2.1): a file then holds little that did not change. */
const BLOCK_SIZE = MIB;
const CREATOR = 'Hyperstep';
const LAYOUT = { log: MIB, metadata: 2 * MIB, bat: 3 * MIB } as const;

const utf16 = (text: string): Uint8Array => {
  const out = new Uint8Array(2 * text.length);
  const view = viewOf(out);
  for (let i = 0; i < text.length; i++) view.setUint16(2 * i, text.charCodeAt(i), true);
  return out;
};

/** The file in pieces: places and bytes, ascending. What lies between is zeros. */
export function* differencingVhdx(what: Differencing): Iterable<[offset: number, data: Uint8Array]> {
  const { parent } = what;
  const { size, sectorSize } = parent;
  const ratio = chunkRatio(sectorSize, BLOCK_SIZE);
  const blocks = Math.ceil(size / BLOCK_SIZE);
  const chunks = Math.ceil(blocks / ratio);
  const batLength = Math.ceil((chunks * (ratio + 1) * 8) / MIB) * MIB;

  const data = new Map<number, Uint8Array>();
  const bitmaps = new Map<number, Uint8Array>();
  const ensure = (map: Map<number, Uint8Array>, key: number): Uint8Array => {
    const found = map.get(key) ?? new Uint8Array(MIB);
    map.set(key, found);
    return found;
  };
  for (const [offset, bytes] of what.writes) {
    if (offset % sectorSize !== 0 || bytes.length % sectorSize !== 0)
      throw new Error(`${bytes.length} bytes at ${offset} are not whole sectors`);
    for (let at = 0; at < bytes.length; at += sectorSize) {
      const sector = (offset + at) / sectorSize;
      ensure(data, Math.floor((offset + at) / BLOCK_SIZE)).set(bytes.subarray(at, at + sectorSize), (offset + at) % BLOCK_SIZE);
      const bit = sector % BITMAP_SECTORS;
      ensure(bitmaps, Math.floor(sector / BITMAP_SECTORS))[bit >> 3] |= 1 << (bit & 7);
    }
  }

  yield [PLACE.fileType, Uint8Array.from([...FILE_SIGNATURE].map((c) => c.charCodeAt(0)))];
  yield [PLACE.fileType + FILE_SIGNATURE.length, utf16(CREATOR)];
  // 2.2.2: two headers, of which the one with the higher sequence number counts.
  for (const [n, at] of PLACE.headers.entries()) yield [at, header(what.writeId, BigInt(n))];
  const regions = regionTable(batLength);
  for (const at of PLACE.regionTables) yield [at, regions];
  yield [LAYOUT.metadata, metadata(what)];

  const bat = new Uint8Array(batLength);
  const view = viewOf(bat);
  let next = LAYOUT.bat + batLength;
  const places: [number, Uint8Array][] = [];
  const place = (index: number, state: number, bytes: Uint8Array): void => {
    view.setBigUint64(index * 8, (BigInt(next / MIB) << 20n) | BigInt(state), true);
    places.push([next, bytes]);
    next += MIB;
  };
  const ascending = (map: Map<number, Uint8Array>): [number, Uint8Array][] => [...map].sort((a, b) => a[0] - b[0]);
  for (const [chunk, bytes] of ascending(bitmaps)) place(bitmapIndex(chunk, ratio), BITMAP_PRESENT, bytes);
  for (const [block, bytes] of ascending(data)) place(payloadIndex(block, ratio), BLOCK.partial, bytes);
  yield [LAYOUT.bat, bat];
  yield* places;
}

function header(writeId: Uint8Array, sequenceNumber: bigint): Uint8Array {
  const out = new Uint8Array(HEADER_SIZE);
  const guid = guidText(writeId);
  Header.set(viewOf(out), 0, {
    ...Header.zero(),
    signature: HEADER_SIGNATURE,
    sequenceNumber,
    fileWriteGuid: guid,
    dataWriteGuid: guid,
    version: 1,
    logLength: MIB,
    logOffset: BigInt(LAYOUT.log),
  });
  Header.field.checksum.set(viewOf(out), Header.field.checksum.offset, crc32c(out));
  return out;
}

function regionTable(batLength: number): Uint8Array {
  const out = new Uint8Array(REGION_TABLE_SIZE);
  const view = viewOf(out);
  RegionTable.set(view, 0, { signature: REGION_SIGNATURE, checksum: 0, entryCount: 2, reserved: 0 });
  const entries = [
    { guid: REGION.bat, fileOffset: BigInt(LAYOUT.bat), length: batLength, required: 1 },
    { guid: REGION.metadata, fileOffset: BigInt(LAYOUT.metadata), length: MIB, required: 1 },
  ];
  for (const [n, e] of entries.entries()) RegionEntry.set(view, RegionTable.size + n * RegionEntry.size, e);
  RegionTable.field.checksum.set(view, RegionTable.field.checksum.offset, crc32c(out));
  return out;
}

function metadata({ parent, parentPaths, diskId }: Differencing): Uint8Array {
  const number = (size: number, value: number): Uint8Array => {
    const out = new Uint8Array(size);
    viewOf(out).setUint32(0, value, true);
    if (size === 8) viewOf(out).setBigUint64(0, BigInt(value), true);
    return out;
  };
  const { required, virtualDisk } = METADATA_FLAG;
  const items: [guid: string, flags: number, data: Uint8Array][] = [
    [ITEM.fileParameters, required, FileParameters.make({ blockSize: BLOCK_SIZE, flags: HAS_PARENT })],
    [ITEM.virtualDiskSize, required | virtualDisk, number(8, parent.size)],
    [ITEM.virtualDiskId, required | virtualDisk, parent.id ?? diskId],
    [ITEM.logicalSectorSize, required | virtualDisk, number(4, parent.sectorSize)],
    [ITEM.physicalSectorSize, required | virtualDisk, number(4, parent.physicalSectorSize)],
    [ITEM.parentLocator, required, locator({ parent_linkage: `{${linkageOf(parent)}}`, ...parentPaths })],
  ];
  const out = new Uint8Array(MIB);
  const view = viewOf(out);
  MetadataTable.set(view, 0, { ...MetadataTable.zero(), signature: METADATA_SIGNATURE, entryCount: items.length });
  let at = METADATA_TABLE_SIZE;
  for (const [n, [item, flags, data]] of items.entries()) {
    MetadataEntry.set(view, MetadataTable.size + n * MetadataEntry.size, {
      item,
      offset: at,
      length: data.length,
      flags,
      reserved: 0,
    });
    out.set(data, at);
    at += Math.ceil(data.length / 8) * 8;
  }
  return out;
}

/** 2.6.2.6: a table of keys and values, their texts behind it. */
function locator(values: Readonly<Record<string, string>>): Uint8Array {
  const entries = Object.entries(values).map(([key, value]) => [utf16(key), utf16(value)] as const);
  let at = ParentLocator.size + entries.length * ParentEntry.size;
  const out = new Uint8Array(entries.reduce((n, [key, value]) => n + key.length + value.length, at));
  const view = viewOf(out);
  ParentLocator.set(view, 0, { type: LOCATOR_VHDX, reserved: 0, count: entries.length });
  for (const [n, [key, value]] of entries.entries()) {
    const entry = { keyOffset: at, valueOffset: at + key.length, keyLength: key.length, valueLength: value.length };
    ParentEntry.set(view, ParentLocator.size + n * ParentEntry.size, entry);
    out.set(key, at);
    out.set(value, at + key.length);
    at += key.length + value.length;
  }
  return out;
}
