/**
 * VHD images: fixed, dynamic and differencing ("Virtual Hard Disk Image Format Specification", Microsoft, version 1.0,
 * October 2006; sections are named by their titles). All integers are big-endian.
 */
import { ConfigError } from '../config.ts';
import { viewOf } from '../base/struct.ts';
import { assemble, type Disk, type ImageFile, structure, utf16 } from './disk.ts';

const SECTOR = 512;
/** "Hard Disk Footer Format". Offsets of the fields we use. */
const FOOTER = { size: 512, cookie: 0, version: 12, dataOffset: 16, currentSize: 48, type: 60, checksum: 64, id: 68 };
const FOOTER_COOKIE = 'conectix';
const TYPE = { fixed: 2, dynamic: 3, differencing: 4 };
/** "Dynamic Disk Header Format". */
const HEADER = {
  size: 1024,
  cookie: 0,
  tableOffset: 16,
  version: 24,
  maxTableEntries: 28,
  blockSize: 32,
  checksum: 36,
  parentId: 40,
  parentName: 64,
  locators: 576,
};
const HEADER_COOKIE = 'cxsparse';
const VERSION = 0x0001_0000;
const LOCATORS = 8;
const LOCATOR_SIZE = 24;
/** Platform codes of parent locators that are UTF-16 paths: relative and absolute. */
const PATH_CODES = [0x57327275, 0x57326b75];
const UNUSED = 0xffff_ffff;
/** VHDs are at most 2040 GiB. */
const MAX_SIZE = 2040 * 2 ** 30;

const text = (b: Uint8Array): string => String.fromCharCode(...b);

/** One's complement of the sum of all bytes but the checksum's own ("Hard Disk Footer Format", Checksum). */
export function vhdChecksum(bytes: Uint8Array, at: number): number {
  let sum = 0;
  bytes.forEach((b, i) => {
    if (i < at || i >= at + 4) sum += b;
  });
  return ~sum >>> 0;
}

/** True when the file ends in a VHD footer, or begins with the copy that dynamic images have. */
export function isVhd(file: ImageFile): boolean {
  if (file.size < FOOTER.size) return false;
  return [file.size - FOOTER.size, 0].some((at) => {
    const cookie = file.read(at, FOOTER_COOKIE.length);
    return cookie !== undefined && text(cookie) === FOOTER_COOKIE;
  });
}

/** Opens a VHD. Throws `ConfigError` with what is wrong with it. */
export function openVhd(file: ImageFile, openParent: (paths: readonly string[]) => Disk): Disk {
  const bad = (what: string): ConfigError => new ConfigError(`${file.name}: ${what}`);
  const footer = structure(file, file.size - FOOTER.size, FOOTER.size, 'the VHD footer');
  if (text(footer.subarray(0, 8)) !== FOOTER_COOKIE)
    throw bad(`truncated: a VHD begins here, but its footer is not in the last ${FOOTER.size} of ${file.size} bytes`);
  const view = viewOf(footer);
  if (view.getUint32(FOOTER.checksum) !== vhdChecksum(footer, FOOTER.checksum))
    throw bad('the checksum of the VHD footer is wrong');
  const version = view.getUint32(FOOTER.version);
  if (version !== VERSION) throw bad(`VHD format version 0x${version.toString(16)}, not 1.0`);
  const size = Number(view.getBigUint64(FOOTER.currentSize));
  if (size === 0 || size > MAX_SIZE || size % SECTOR !== 0) throw bad(`the VHD footer tells a disk of ${size} bytes`);
  const common = { size, sectorSize: SECTOR, physicalSectorSize: SECTOR, id: footer.slice(FOOTER.id, FOOTER.id + 16) };
  const type = view.getUint32(FOOTER.type);
  if (type === TYPE.fixed) {
    if (size > file.size - FOOTER.size)
      throw bad(`truncated: a fixed VHD of ${size} bytes with ${file.size - FOOTER.size} bytes of data`);
    return { ...common, format: 'fixed VHD', read: (offset, length) => file.read(offset, length) };
  }
  if (type !== TYPE.dynamic && type !== TYPE.differencing) throw bad(`VHD disk type ${type} is none that holds data`);

  const header = structure(file, Number(view.getBigUint64(FOOTER.dataOffset)), HEADER.size, 'the dynamic disk header');
  const h = viewOf(header);
  if (text(header.subarray(0, 8)) !== HEADER_COOKIE) throw bad('the dynamic disk header is not where the VHD footer says');
  if (h.getUint32(HEADER.checksum) !== vhdChecksum(header, HEADER.checksum))
    throw bad('the checksum of the dynamic disk header is wrong');
  if (h.getUint32(HEADER.version) !== VERSION)
    throw bad(`dynamic disk header version 0x${h.getUint32(HEADER.version).toString(16)}`);
  const blockSize = h.getUint32(HEADER.blockSize);
  if (blockSize < SECTOR * 8 || (blockSize & (blockSize - 1)) !== 0) throw bad(`VHD block size ${blockSize}`);
  const blocks = Math.ceil(size / blockSize);
  const entries = h.getUint32(HEADER.maxTableEntries);
  if (entries < blocks) throw bad(`the VHD block table has ${entries} entries where the disk has ${blocks} blocks`);
  const table = viewOf(structure(file, Number(h.getBigUint64(HEADER.tableOffset)), blocks * 4, 'the VHD block table'));
  /** "Block Allocation Table and Data Blocks": a block is a bitmap, one bit a sector, padded to whole sectors, then its data. */
  const bitmapSize = Math.ceil(blockSize / SECTOR / 8 / SECTOR) * SECTOR;
  const places: number[] = [];
  for (let n = 0; n < blocks; n++) {
    const sector = table.getUint32(n * 4);
    const used = Math.min(blockSize, size - n * blockSize);
    if (sector !== UNUSED && sector * SECTOR + bitmapSize + used > file.size)
      throw bad(`truncated: VHD block ${n} at ${sector * SECTOR} goes beyond the end at ${file.size}`);
    places.push(sector === UNUSED ? -1 : sector * SECTOR);
  }

  const parent = type === TYPE.differencing ? openParent(parentPaths(file, header)) : undefined;
  if (parent) {
    if (parent.size !== size) throw bad(`its parent image is a disk of ${parent.size} bytes, this one of ${size}`);
    const want = header.subarray(HEADER.parentId, HEADER.parentId + 16);
    if (!parent.id?.every((b, i) => b === want[i])) throw bad('its parent image is another one than it was made from');
  }
  return {
    ...common,
    format: parent ? 'differencing VHD' : 'dynamic VHD',
    read: (offset, length) =>
      assemble(offset, length, blockSize, (out, at, start, n) => {
        const place = places[Math.floor(start / blockSize)];
        const below = (): Uint8Array | undefined => (parent ? parent.read(start, n) : new Uint8Array(n));
        const data = place < 0 ? below() : withBitmap(file, place, bitmapSize, start % blockSize, n, below);
        if (data) out.set(data, at);
        return data !== undefined;
      }),
  };
}

/** Sectors whose bit is set come from the block (most significant bit first), the others from below. */
function withBitmap(
  file: ImageFile,
  place: number,
  bitmapSize: number,
  inBlock: number,
  length: number,
  below: () => Uint8Array | undefined,
): Uint8Array | undefined {
  const first = Math.floor(inBlock / SECTOR);
  const last = Math.floor((inBlock + length - 1) / SECTOR);
  const bitmap = file.read(place + (first >> 3), (last >> 3) - (first >> 3) + 1);
  const data = file.read(place + bitmapSize + inBlock, length);
  if (!bitmap || !data) return undefined;
  const isHere = (sector: number): boolean => (bitmap[(sector >> 3) - (first >> 3)] & (0x80 >> (sector & 7))) !== 0;
  let under: Uint8Array | undefined;
  for (let sector = first; sector <= last; sector++) {
    if (isHere(sector)) continue;
    under ??= below();
    if (!under) return undefined;
    const from = Math.max(0, sector * SECTOR - inBlock);
    const to = Math.min(length, (sector + 1) * SECTOR - inBlock);
    data.set(under.subarray(from, to), from);
  }
  return data;
}

/** Where a differencing image says its parent is: the locators with paths, then the bare name. */
function parentPaths(file: ImageFile, header: Uint8Array): string[] {
  const h = viewOf(header);
  const paths: string[] = [];
  for (const wanted of PATH_CODES)
    for (let n = 0; n < LOCATORS; n++) {
      const at = HEADER.locators + n * LOCATOR_SIZE;
      const length = h.getUint32(at + 8);
      if (h.getUint32(at) !== wanted || length === 0 || length > 65536) continue;
      const data = structure(file, Number(h.getBigUint64(at + 16)), length, 'a parent locator');
      paths.push(utf16(data, true));
    }
  const name = utf16(header.subarray(HEADER.parentName, HEADER.locators), false);
  return name ? [...paths, name] : paths;
}
