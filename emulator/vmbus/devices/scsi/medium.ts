/**
 * What a unit reads and writes: the disk underneath, which nobody writes, and over it the blocks that the guest has written.
 * Those are machine state: a snapshot holds them, and another run begins without them.
 */
import { freeze } from '../../../base/frozen.ts';
import type { Disk } from '../../../config.ts';

/** Bytes that are kept together; a power of two, and a multiple of every sector size. */
export const BLOCK = 16384;

/** Written blocks by number. A block is replaced, never changed, so that snapshots share it. */
export type Written = Record<number, Uint8Array>;

/** All blocks of zeros are one. The last block of a disk may reach beyond its end. */
const ZEROS = freeze(new Uint8Array(BLOCK));

export class Medium {
  readonly #disk: Disk;
  readonly #written: Written;

  constructor(disk: Disk, written: Written) {
    this.#disk = disk;
    this.#written = written;
  }

  get size(): number {
    return this.#disk.size;
  }

  /** Bytes [offset, offset + length), which lie inside the disk. undefined: the image underneath cannot be read. */
  read(offset: number, length: number): Uint8Array | undefined {
    const out = new Uint8Array(length);
    for (let at = 0; at < length; ) {
      const here = this.#written[Math.floor((offset + at) / BLOCK)];
      const from = (offset + at) % BLOCK;
      if (here) {
        const n = Math.min(length - at, BLOCK - from);
        out.set(here.subarray(from, from + n), at);
        at += n;
        continue;
      }
      // As much as possible in one piece.
      let n = Math.min(length - at, BLOCK - from);
      while (at + n < length && !this.#written[Math.floor((offset + at + n) / BLOCK)]) n = Math.min(length - at, n + BLOCK);
      const below = this.#disk.read(offset + at, n);
      if (!below) return undefined;
      out.set(below, at);
      at += n;
    }
    return out;
  }

  /** Writes bytes inside the disk. False: the rest of a block could not be read from underneath; nothing was written there. */
  write(offset: number, data: Uint8Array): boolean {
    return this.#each(offset, data.length, (n, at) => data.subarray(at, at + n));
  }

  /** Writes `pattern` over and over; `length` is a multiple of its length, which divides a block. */
  fill(offset: number, length: number, pattern: Uint8Array): boolean {
    const block = new Uint8Array(BLOCK + pattern.length);
    for (let at = 0; at < block.length; at += pattern.length) block.set(pattern, at);
    return this.#each(offset, length, (n, at) => {
      // A piece begins anywhere in a block, and in the pattern where the one before ended.
      const skip = at % pattern.length;
      return block.subarray(skip, skip + n);
    });
  }

  /** Zeros, without keeping them one by one. */
  zero(offset: number, length: number): boolean {
    return this.#each(offset, length, (n) => (n === BLOCK ? ZEROS : ZEROS.subarray(0, n)));
  }

  #each(offset: number, length: number, piece: (n: number, at: number) => Uint8Array): boolean {
    for (let at = 0; at < length; ) {
      const number = Math.floor((offset + at) / BLOCK);
      const from = (offset + at) % BLOCK;
      const n = Math.min(length - at, BLOCK - from);
      const data = piece(n, at);
      if (data === ZEROS) this.#written[number] = ZEROS;
      else {
        const block = this.#block(number, n === BLOCK);
        if (!block) return false;
        block.set(data, from);
        this.#written[number] = freeze(block);
      }
      at += n;
    }
    return true;
  }

  /** A fresh copy of a block as it reads now. */
  #block(number: number, overwritten: boolean): Uint8Array | undefined {
    const block = new Uint8Array(BLOCK);
    if (overwritten) return block;
    const start = number * BLOCK;
    const before = this.read(start, Math.min(BLOCK, this.size - start));
    if (!before) return undefined;
    block.set(before);
    return block;
  }
}
