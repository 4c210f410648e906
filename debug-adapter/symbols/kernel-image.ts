/** What an image of an arm64 Linux kernel says about itself: header, banner, symbols, where it was linked to run. */
import { findExports, findKallsyms } from './kallsyms.ts';
import type { ImageMemory, KernelSymbol } from './memory.ts';

/** `ARM\x64` at 0x38 of the Image header (Linux, Documentation/arch/arm64/booting.rst). */
const MAGIC = 0x644d5241;
const MAGIC_AT = 0x38;
const IMAGE_SIZE_AT = 0x10;
const FLAGS_AT = 0x18;
/** Kernel page size, flags bits 2:1 of the header. */
const PAGE_SIZES = [undefined, 4096, 16384, 65536];
/** The kernel is linked at, and placed at, a multiple of 2 MiB (MIN_KIMG_ALIGN). */
export const IMAGE_ALIGN = 2 << 20;

export interface ImageHeader {
  /** Bytes of RAM the kernel takes, .bss included. */
  imageSize: number;
  pageSize?: number;
}

/** The header of an Image at the start of `bytes`, undefined when there is none. */
export function imageHeader(bytes: Uint8Array): ImageHeader | undefined {
  if (bytes.length < 64) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(MAGIC_AT, true) !== MAGIC) return undefined;
  return {
    imageSize: Number(view.getBigUint64(IMAGE_SIZE_AT, true)),
    pageSize: PAGE_SIZES[(view.getUint32(FLAGS_AT, true) >>> 1) & 3],
  };
}

export interface KernelImage {
  base: bigint;
  size: number;
  /** Ascending by address; empty when the kernel was built without kallsyms. */
  symbols: KernelSymbol[];
  /** `6.1.0-50-cloud-arm64` */
  release?: string;
  /** The whole of linux_banner. */
  banner?: string;
  pageSize?: number;
  /** Where the kernel was linked to run, when its relocations tell. */
  linkBase?: bigint;
  /** `base - linkBase`. */
  kaslrOffset?: bigint;
}

const BANNER = 'Linux version ';

function findBanner(bytes: Uint8Array): string | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = buffer.indexOf(BANNER); at >= 0; at = buffer.indexOf(BANNER, at + 1)) {
    // linux_proc_banner, the format string, starts with %s at the same place.
    if (buffer[at + BANNER.length] < 0x30 || buffer[at + BANNER.length] > 0x39) continue;
    let end = at;
    while (end < buffer.length && end - at < 512 && buffer[end] !== 0 && buffer[end] !== 0x0a) end++;
    return buffer.subarray(at, end).toString('latin1');
  }
  return undefined;
}

const releaseOf = (banner: string | undefined): string | undefined => banner?.split(' ')[2];

/** `6.1.0-50-cloud-arm64`, from the version banner. */
export const findRelease = (bytes: Uint8Array): string | undefined => releaseOf(findBanner(bytes));

/** Start of a GNU build-id note of SHA-1 size (elf.h: Elf64_Nhdr {4, 20, NT_GNU_BUILD_ID} and the owner's name). */
const BUILD_ID_NOTE = Buffer.from('040000001400000003000000474e5500', 'hex');
const BUILD_ID_SIZE = 20;

/** All GNU build-ids in an image, hexadecimal. */
export function findBuildIds(bytes: Uint8Array): Set<string> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const out = new Set<string>();
  for (let at = buffer.indexOf(BUILD_ID_NOTE); at >= 0; at = buffer.indexOf(BUILD_ID_NOTE, at + 1)) {
    const from = at + BUILD_ID_NOTE.length;
    if (from + BUILD_ID_SIZE <= buffer.length) out.add(buffer.subarray(from, from + BUILD_ID_SIZE).toString('hex'));
  }
  return out;
}

/** Is there a note with this build-id? A search for bytes that are random leaps through the image, one for a note's first bytes creeps. */
export function containsBuildId(bytes: Uint8Array, id: string): boolean {
  const wanted = Buffer.from(id, 'hex');
  if (wanted.length !== BUILD_ID_SIZE) return false;
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const note = BUILD_ID_NOTE.length;
  for (let at = buffer.indexOf(wanted); at >= 0; at = buffer.indexOf(wanted, at + 1))
    if (at >= note && buffer.subarray(at - note, at).equals(BUILD_ID_NOTE)) return true;
  return false;
}

/** R_AARCH64_RELATIVE (AAELF64 5.7.15). */
const R_AARCH64_RELATIVE = 0x403;

/** Enough to be sure of the link address. */
const MAX_PLACES = 4096;

/** Addresses, as linked, of some words that startup relocated: from .rela.dyn, or from .relr.dyn. */
function relocatedWords(bytes: Uint8Array): bigint[] {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
  const kernel = (w: number) => words[w + 1] >>> 16 === 0xffff;
  const at = (w: number) => (BigInt(words[w + 1]) << 32n) | BigInt(words[w]);
  const rela: bigint[] = [];
  // RELR (ELF gABI proposal 2017): an even word is an address, the odd ones after it are bitmaps of the words that follow.
  // The run with the most bitmaps is the table: other runs of addresses (pointers) have none.
  let best = { start: 0, end: 0, bitmaps: 0 };
  let start = 0;
  let bitmaps = 0;
  let last = 0n;
  for (let w = 0; w + 6 <= words.length; w += 2) {
    if (rela.length < MAX_PLACES && words[w + 2] === R_AARCH64_RELATIVE && words[w + 3] === 0 && kernel(w)) rela.push(at(w));
    const even = (words[w] & 1) === 0;
    if (even && kernel(w) && (words[w] & 7) === 0) {
      const address = at(w);
      if (address <= last || bitmaps === 0) {
        start = w;
        bitmaps = 0;
      }
      last = address;
    } else if (!even && last !== 0n) {
      if (++bitmaps > best.bitmaps) best = { start, end: w, bitmaps };
    } else {
      last = 0n;
      bitmaps = 0;
    }
  }
  if (rela.length > best.bitmaps) return rela;
  const relr: bigint[] = [];
  for (let w = best.start; w < best.end && relr.length < MAX_PLACES; w += 2) if ((words[w] & 1) === 0) relr.push(at(w));
  return relr;
}

/** The link address that makes every relocated word hold an address inside the running image. */
function findLinkBase(image: ImageMemory, size: number): bigint | undefined {
  const places = relocatedWords(image.bytes);
  if (places.length < 16) return undefined;
  let lowest = places[0];
  for (const place of places) if (place < lowest) lowest = place;
  const view = new DataView(image.bytes.buffer, image.bytes.byteOffset, image.bytes.byteLength);
  const step = BigInt(IMAGE_ALIGN);
  const holdsAddress = (place: bigint, base: bigint): boolean => {
    const at = Number(place - base);
    if (at < 0 || at + 8 > image.bytes.length) return false;
    const value = view.getBigUint64(at, true) - image.base;
    return value >= 0n && value < BigInt(size);
  };
  for (let base = lowest - (lowest % step); base >= lowest - BigInt(size); base -= step) {
    const good = places.filter((place) => holdsAddress(place, base)).length;
    // Most: data may have been written since.
    if (good > places.length * 0.8) return base;
  }
  return undefined;
}

/** Everything the image tells. `image.base` is where its first byte (the header) runs. */
export function readKernelImage(image: ImageMemory): KernelImage {
  const header = imageHeader(image.bytes);
  const size = header?.imageSize || image.bytes.length;
  const symbols = findKallsyms(image)?.symbols ?? [];
  if (symbols.length > 0) {
    const known = new Set(symbols.map((s) => s.name));
    const extra = findExports(image).filter((s) => !known.has(s.name));
    symbols.push(...extra);
    symbols.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
  }
  const banner = findBanner(image.bytes);
  const linkBase = findLinkBase(image, size);
  return {
    base: image.base,
    size,
    symbols,
    banner,
    release: releaseOf(banner),
    pageSize: header?.pageSize,
    linkBase,
    kaslrOffset: linkBase === undefined ? undefined : image.base - linkBase,
  };
}
