/** Where symbol files are read from: ranges of a file, or bytes in memory. Nothing here ever holds a whole file. */
import fs from 'node:fs';

/** What is wrong with a symbol file: the message names the file and says what. The session goes on without the file. */
export class SymbolFileError extends Error {}

/** The answer of a question to a symbol file; what a damaged one cannot tell is `otherwise`. */
export function withoutDamage<T>(question: () => T, otherwise: T): T {
  try {
    return question();
  } catch (error) {
    if (error instanceof SymbolFileError) return otherwise;
    throw error;
  }
}

export interface ByteSource {
  /** As messages call it. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /**
   * `length` bytes at `offset`: often a view of what is cached anyway, so they are not to be changed. Throws SymbolFileError when
   * they are not all there.
   */
  read(offset: number, length: number): Uint8Array;
  /** Fills `target` with the bytes at `offset`, past any cache. Throws SymbolFileError. */
  readInto(target: Uint8Array, offset: number): void;
  close(): void;
}

function check(source: { name: string; size: number }, offset: number, length: number): void {
  if (!(offset >= 0 && length >= 0 && offset + length <= source.size))
    throw new SymbolFileError(`${source.name}: ${length} bytes at ${offset} are outside the ${source.size} bytes that are there`);
}

/** Bytes in memory. */
export class MemorySource implements ByteSource {
  readonly name: string;
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array, name: string) {
    this.bytes = bytes;
    this.name = name;
  }

  get size(): number {
    return this.bytes.length;
  }

  read(offset: number, length: number): Uint8Array {
    check(this, offset, length);
    return this.bytes.subarray(offset, offset + length);
  }

  readInto(target: Uint8Array, offset: number): void {
    target.set(this.read(offset, target.length));
  }

  close(): void {}
}

const BLOCK = 64 << 10;
const BLOCKS = 128;

/** A file, read block by block; the blocks used last stay in memory (8 MiB at most). */
export class FileSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  /** Nanoseconds since the epoch, for telling a changed file. */
  readonly modified: bigint;
  readonly #fd: number;
  readonly #blocks = new Map<number, Uint8Array>();

  /** Opens `path`. Throws SymbolFileError when that cannot be read. */
  constructor(path: string) {
    this.name = path;
    try {
      this.#fd = fs.openSync(path, 'r');
    } catch (error) {
      throw new SymbolFileError(`${path}: cannot be opened (${(error as NodeJS.ErrnoException).code ?? String(error)})`);
    }
    const stat = fs.fstatSync(this.#fd, { bigint: true });
    if (!stat.isFile()) {
      fs.closeSync(this.#fd);
      throw new SymbolFileError(`${path}: not a file`);
    }
    this.size = Number(stat.size);
    this.modified = stat.mtimeNs;
  }

  read(offset: number, length: number): Uint8Array {
    check(this, offset, length);
    const first = Math.floor(offset / BLOCK);
    const at = offset - first * BLOCK;
    if (at + length <= BLOCK) return this.#block(first).subarray(at, at + length);
    const out = new Uint8Array(length);
    if (length >= 2 * BLOCK) this.readInto(out, offset);
    else {
      const head = BLOCK - at;
      out.set(this.#block(first).subarray(at));
      for (let done = head, block = first + 1; done < length; done += BLOCK, block++)
        out.set(this.#block(block).subarray(0, Math.min(BLOCK, length - done)), done);
    }
    return out;
  }

  readInto(target: Uint8Array, offset: number): void {
    check(this, offset, target.length);
    for (let done = 0; done < target.length; ) {
      let n: number;
      try {
        n = fs.readSync(this.#fd, target, done, target.length - done, offset + done);
      } catch (error) {
        throw new SymbolFileError(`${this.name}: cannot be read (${(error as NodeJS.ErrnoException).code ?? String(error)})`);
      }
      if (n === 0)
        throw new SymbolFileError(`${this.name}: ends at ${offset + done}, it had ${this.size} bytes when it was opened`);
      done += n;
    }
  }

  close(): void {
    this.#blocks.clear();
    fs.closeSync(this.#fd);
  }

  #block(index: number): Uint8Array {
    let block = this.#blocks.get(index);
    if (block) {
      this.#blocks.delete(index);
    } else {
      block = new Uint8Array(Math.min(BLOCK, this.size - index * BLOCK));
      this.readInto(block, index * BLOCK);
      if (this.#blocks.size >= BLOCKS) {
        const [oldest] = this.#blocks.keys();
        this.#blocks.delete(oldest);
      }
    }
    this.#blocks.set(index, block);
    return block;
  }
}
