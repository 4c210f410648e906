/** Reads VHDX images: fixed, dynamic and differencing, with a log that was never written back ([MS-VHDX], revision 8.0). */
import { viewOf } from '../base/struct.ts';
import { ConfigError } from '../config.ts';
import { crc32c } from './crc32c.ts';
import { assemble, type Disk, type ImageFile, structure, utf16 } from './disk.ts';
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
  MAX_DISK,
  MAX_ENTRIES,
  METADATA_FLAG,
  METADATA_SIGNATURE,
  METADATA_TABLE_SIZE,
  MetadataEntry,
  MetadataTable,
  MIB,
  NO_GUID,
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
import { replayLog } from './vhdx-log.ts';

/** A VHDX, and what a differencing image on top of it has to name. */
export interface VhdxDisk extends Disk {
  /** Changes whenever what the disk holds changes; a child remembers its parent's (2.6.2.6.3). */
  readonly dataWriteGuid: string;
  /** The image right below, of a differencing one. */
  readonly parent?: Disk;
  /** What this image itself holds, without its parent: offsets and bytes in whole sectors. Throws `ConfigError`. */
  own(): Iterable<[offset: number, data: Uint8Array]>;
}
export const isVhdxDisk = (disk: Disk): disk is VhdxDisk => 'dataWriteGuid' in disk;

export function isVhdx(file: ImageFile): boolean {
  if (file.size < FILE_SIGNATURE.length) return false;
  const signature = file.read(PLACE.fileType, FILE_SIGNATURE.length);
  return signature !== undefined && String.fromCharCode(...signature) === FILE_SIGNATURE;
}

/** Opens a VHDX. Throws `ConfigError` with what is wrong with it. */
export function openVhdx(raw: ImageFile, openParent: (paths: readonly string[]) => Disk): VhdxDisk {
  const bad = (what: string): ConfigError => new ConfigError(`${raw.name}: ${what}`);
  const header = currentHeader(raw);
  if (header.version !== 1) throw bad(`VHDX version ${header.version}, not 1`);
  const file = header.logGuid === NO_GUID ? raw : replayLog(raw, header);
  const regions = regionTable(file);
  const bat = regions.get(REGION.bat);
  const metadata = regions.get(REGION.metadata);
  if (!bat || !metadata) throw bad(`the VHDX region table has no ${bat ? 'metadata' : 'block allocation table'}`);
  const items = metadataTable(file, metadata);

  const item = (name: keyof typeof ITEM, size: number): DataView => {
    const found = items.get(ITEM[name]);
    if (!found) throw bad(`the VHDX metadata has no ${name}`);
    if (found.length < size) throw bad(`the VHDX metadata item ${name} has ${found.length} bytes`);
    return viewOf(found);
  };
  const { blockSize, flags } = FileParameters.get(item('fileParameters', FileParameters.size), 0);
  const size = Number(item('virtualDiskSize', 8).getBigUint64(0, true));
  const sectorSize = item('logicalSectorSize', 4).getUint32(0, true);
  const physicalSectorSize = item('physicalSectorSize', 4).getUint32(0, true);
  const id = new Uint8Array(item('virtualDiskId', 16).buffer.slice(0, 16));
  for (const s of [sectorSize, physicalSectorSize]) if (s !== 512 && s !== 4096) throw bad(`VHDX sector size ${s}`);
  if (blockSize < MIB || blockSize > 256 * MIB || (blockSize & (blockSize - 1)) !== 0) throw bad(`VHDX block size ${blockSize}`);
  if (size === 0 || size > MAX_DISK || size % sectorSize !== 0) throw bad(`the VHDX metadata tells a disk of ${size} bytes`);

  const ratio = chunkRatio(sectorSize, blockSize);
  const blocks = Math.ceil(size / blockSize);
  const chunks = Math.ceil(blocks / ratio);
  const hasParent = (flags & HAS_PARENT) !== 0;
  const entries = hasParent ? chunks * (ratio + 1) : blocks + Math.floor((blocks - 1) / ratio);
  if (entries * 8 > bat.length)
    throw bad(`the VHDX block allocation table has ${bat.length} bytes where the disk has ${blocks} blocks`);
  const table = viewOf(structure(file, bat.offset, entries * 8, 'the VHDX block allocation table'));
  /** State and place of an entry, the place inside the file. */
  const entry = (index: number, what: string, length: number, present: (state: number) => boolean): [number, number] => {
    const word = table.getBigUint64(index * 8, true);
    const state = Number(word & 7n);
    const place = Number(word >> 20n) * MIB;
    if (!present(state)) return [state, 0];
    if (place < MIB) throw bad(`VHDX ${what} is said to be at ${place}, inside the headers`);
    if (place + length > file.size) throw bad(`truncated: VHDX ${what} at ${place} goes beyond the end at ${file.size}`);
    return [state, place];
  };
  const states = new Uint8Array(blocks);
  const places: number[] = [];
  for (let n = 0; n < blocks; n++) {
    const [state, place] = entry(payloadIndex(n, ratio), `block ${n}`, blockSize, (s) => s === BLOCK.full || s === BLOCK.partial);
    if (state === 4 || state === 5) throw bad(`VHDX block ${n} has the reserved state ${state}`);
    if (state === BLOCK.partial && !hasParent) throw bad(`VHDX block ${n} is partly present in an image without a parent`);
    states[n] = state;
    places.push(place);
  }
  const bitmaps: number[] = [];
  if (hasParent)
    for (let c = 0; c < chunks; c++)
      bitmaps.push(entry(bitmapIndex(c, ratio), `sector bitmap ${c}`, MIB, (s) => s === BITMAP_PRESENT)[1]);
  const orphan = states.findIndex((state, n) => state === BLOCK.partial && bitmaps[Math.floor(n / ratio)] === 0);
  if (orphan >= 0) throw bad(`VHDX block ${orphan} is partly present and its sector bitmap is not there`);

  let parent: Disk | undefined;
  if (hasParent) {
    const locator = parentLocator(items.get(ITEM.parentLocator), bad);
    parent = openParent(['relative_path', 'absolute_win32_path', 'volume_path'].flatMap((key) => locator.get(key) ?? []));
    if (parent.size !== size || parent.sectorSize !== sectorSize)
      throw bad(
        `its parent image is a disk of ${parent.size} bytes in sectors of ${parent.sectorSize}, this one of ${size} in ${sectorSize}`,
      );
    const linkage = ['parent_linkage', 'parent_linkage2'].flatMap((key) => locator.get(key)?.toLowerCase() ?? []);
    const actual = `{${linkageOf(parent)}}`;
    if (!linkage.includes(actual)) throw bad('its parent image has changed, or is another one than it was made from');
  }

  const present = (block: number, sector: number): boolean => {
    const bit = sector % BITMAP_SECTORS;
    const byte = file.read(bitmaps[Math.floor(block / ratio)] + (bit >> 3), 1);
    return byte !== undefined && (byte[0] & (1 << (bit & 7))) !== 0;
  };
  /** Bit of the sector at disk offset `at`: the least significant bit of a byte is its first sector (2.5.2). */
  const withBitmap = (block: number, start: number, n: number): Uint8Array | undefined => {
    const data = file.read(places[block] + (start % blockSize), n);
    const first = Math.floor(start / sectorSize);
    const last = Math.floor((start + n - 1) / sectorSize);
    const at = bitmaps[Math.floor(block / ratio)] + ((first % BITMAP_SECTORS) >> 3);
    const bitmap = file.read(at, Math.floor(last / 8) - Math.floor(first / 8) + 1);
    if (!data || !bitmap) return undefined;
    let under: Uint8Array | undefined;
    for (let sector = first; sector <= last; sector++) {
      if (bitmap[Math.floor(sector / 8) - Math.floor(first / 8)] & (1 << (sector % 8))) continue;
      under ??= parent?.read(start, n);
      if (!under) return undefined;
      const from = Math.max(0, sector * sectorSize - start);
      data.set(under.subarray(from, Math.min(n, (sector + 1) * sectorSize - start)), from);
    }
    return data;
  };

  return {
    format: hasParent ? 'differencing VHDX' : 'VHDX',
    size,
    sectorSize,
    physicalSectorSize,
    id,
    dataWriteGuid: header.dataWriteGuid,
    parent,
    *own() {
      const have = (data: Uint8Array | undefined): Uint8Array => {
        if (!data) throw bad('cannot be read');
        return data;
      };
      for (let n = 0; n < blocks; n++) {
        const start = n * blockSize;
        const length = Math.min(blockSize, size - start);
        if (states[n] === BLOCK.full) yield [start, have(file.read(places[n], length))];
        else if (states[n] === BLOCK.partial) {
          const data = have(file.read(places[n], length));
          for (let at = 0; at < length; at += sectorSize)
            if (present(n, (start + at) / sectorSize)) yield [start + at, data.subarray(at, at + sectorSize)];
        } else if (states[n] !== BLOCK.notPresent) yield [start, new Uint8Array(length)];
      }
    },
    read: (offset, length) =>
      assemble(offset, length, blockSize, (out, at, start, n) => {
        const block = Math.floor(start / blockSize);
        let data: Uint8Array | undefined;
        if (states[block] === BLOCK.full) data = file.read(places[block] + (start % blockSize), n);
        else if (states[block] === BLOCK.partial) data = withBitmap(block, start, n);
        else if (states[block] === BLOCK.notPresent && parent) data = parent.read(start, n);
        else return true;
        if (data) out.set(data, at);
        return data !== undefined;
      }),
  };
}

/** What a differencing image remembers of its parent. One that is no VHDX has no such value: size and path must do. */
export const linkageOf = (disk: Disk): string => (isVhdxDisk(disk) ? disk.dataWriteGuid : NO_GUID);

/** The valid header with the higher sequence number (2.2.2). */
function currentHeader(file: ImageFile): ReturnType<typeof Header.get> {
  const headers = PLACE.headers.flatMap((at) => {
    const bytes = structure(file, at, HEADER_SIZE, 'a VHDX header');
    const h = Header.get(viewOf(bytes), 0);
    return h.signature === HEADER_SIGNATURE && h.checksum === crc32c(bytes, Header.field.checksum.offset) ? [h] : [];
  });
  if (headers.length === 0) throw new ConfigError(`${file.name}: both VHDX headers are damaged`);
  return headers.reduce((a, b) => (b.sequenceNumber > a.sequenceNumber ? b : a));
}

interface Region {
  offset: number;
  length: number;
}

/** Regions by GUID, from the first copy of the table that is whole (2.2.3). */
function regionTable(file: ImageFile): Map<string, Region> {
  for (const at of PLACE.regionTables) {
    const bytes = structure(file, at, REGION_TABLE_SIZE, 'a VHDX region table');
    const view = viewOf(bytes);
    const table = RegionTable.get(view, 0);
    if (table.signature !== REGION_SIGNATURE || table.checksum !== crc32c(bytes, RegionTable.field.checksum.offset)) continue;
    if (table.entryCount > MAX_ENTRIES) continue;
    const regions = new Map<string, Region>();
    for (let n = 0; n < table.entryCount; n++) {
      const e = RegionEntry.get(view, RegionTable.size + n * RegionEntry.size);
      const known = e.guid === REGION.bat || e.guid === REGION.metadata;
      if (!known && e.required & 1) throw new ConfigError(`${file.name}: it needs the unknown VHDX region ${e.guid}`);
      if (known) regions.set(e.guid, { offset: Number(e.fileOffset), length: e.length });
    }
    return regions;
  }
  throw new ConfigError(`${file.name}: both VHDX region tables are damaged`);
}

/** Metadata items by GUID (2.6). */
function metadataTable(file: ImageFile, region: Region): Map<string, Uint8Array> {
  const bytes = structure(file, region.offset, METADATA_TABLE_SIZE, 'the VHDX metadata table');
  const view = viewOf(bytes);
  const table = MetadataTable.get(view, 0);
  if (table.signature !== METADATA_SIGNATURE || table.entryCount > MAX_ENTRIES)
    throw new ConfigError(`${file.name}: the VHDX metadata table is damaged`);
  const known: readonly string[] = Object.values(ITEM);
  const items = new Map<string, Uint8Array>();
  for (let n = 0; n < table.entryCount; n++) {
    const e = MetadataEntry.get(view, MetadataTable.size + n * MetadataEntry.size);
    const user = (e.flags & METADATA_FLAG.user) !== 0;
    if (user || !known.includes(e.item)) {
      if (e.flags & METADATA_FLAG.required)
        throw new ConfigError(`${file.name}: it needs the unknown VHDX metadata item ${e.item}`);
      continue;
    }
    if (e.offset + e.length > region.length || e.length > MIB)
      throw new ConfigError(`${file.name}: the VHDX metadata item ${e.item} lies outside its region`);
    items.set(e.item, structure(file, region.offset + e.offset, e.length, 'a VHDX metadata item').slice());
  }
  return items;
}

/** Keys and values of a parent locator (2.6.2.6). */
function parentLocator(bytes: Uint8Array | undefined, bad: (what: string) => ConfigError): Map<string, string> {
  if (!bytes || bytes.length < ParentLocator.size) throw bad('a differencing VHDX without a parent locator');
  const view = viewOf(bytes);
  const { type, count } = ParentLocator.get(view, 0);
  if (type !== LOCATOR_VHDX) throw bad(`its parent is named in the unknown way ${type}`);
  const out = new Map<string, string>();
  for (let n = 0; n < count; n++) {
    const at = ParentLocator.size + n * ParentEntry.size;
    if (at + ParentEntry.size > bytes.length) throw bad('the VHDX parent locator is damaged');
    const e = ParentEntry.get(view, at);
    if (e.keyOffset + e.keyLength > bytes.length || e.valueOffset + e.valueLength > bytes.length)
      throw bad('the VHDX parent locator is damaged');
    const text = (offset: number, length: number): string => utf16(bytes.subarray(offset, offset + length), true);
    out.set(text(e.keyOffset, e.keyLength), text(e.valueOffset, e.valueLength));
  }
  return out;
}
