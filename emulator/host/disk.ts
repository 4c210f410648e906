/**
 * Disks as the machine sees them, and what all image formats need. A disk is only ever read: what the guest writes is the
 * machine's state (vmbus/devices/scsi/medium.ts) and becomes a file when somebody asks for that.
 */
import { viewOf } from '../base/struct.ts';
import { ConfigError } from '../config.ts';

/** Bytes that can be read at once, anywhere and without waiting: the emulator is synchronous. */
export interface Disk {
  /** What it is, for people: `raw image`, `dynamic VHD`. */
  readonly format: string;
  /** Bytes; a multiple of `sectorSize`. */
  readonly size: number;
  /** Logical and physical sector size. */
  readonly sectorSize: number;
  readonly physicalSectorSize: number;
  /** 16 bytes that name this disk wherever it is moved, when its format has such. */
  readonly id?: Uint8Array;
  /** Bytes [offset, offset + length), which lie inside the disk. undefined: the medium cannot be read there. */
  read(offset: number, length: number): Uint8Array | undefined;
}

/** An image file, or anything that has its bytes. */
export interface ImageFile {
  /** For messages. */
  readonly name: string;
  readonly size: number;
  /** Bytes [offset, offset + length), which lie inside the file. undefined: they cannot be read. */
  read(offset: number, length: number): Uint8Array | undefined;
}

/** Bytes of an image's own structures. Throws `ConfigError`: without them there is no disk. */
export function structure(file: ImageFile, offset: number, length: number, what: string): Uint8Array {
  if (offset + length > file.size)
    throw new ConfigError(`${file.name}: truncated: ${what} at ${offset} goes beyond its end at ${file.size}`);
  const bytes = file.read(offset, length);
  if (!bytes) throw new ConfigError(`${file.name}: ${what} cannot be read`);
  return bytes;
}

/** Cuts [offset, offset + length) at block ends. undefined: some piece could not be read. */
export function assemble(
  offset: number,
  length: number,
  blockSize: number,
  piece: (out: Uint8Array, at: number, start: number, n: number) => boolean,
): Uint8Array | undefined {
  const out = new Uint8Array(length);
  for (let at = 0; at < length; ) {
    const start = offset + at;
    const n = Math.min(length - at, blockSize - (start % blockSize));
    if (!piece(out, at, start, n)) return undefined;
    at += n;
  }
  return out;
}

/** UTF-16 text up to a NUL. */
export function utf16(bytes: Uint8Array, littleEndian: boolean): string {
  const view = viewOf(bytes);
  let out = '';
  for (let at = 0; at + 2 <= bytes.length; at += 2) {
    const code = view.getUint16(at, littleEndian);
    if (code === 0) break;
    out += String.fromCharCode(code);
  }
  return out;
}
