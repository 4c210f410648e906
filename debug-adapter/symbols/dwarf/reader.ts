/** A cursor over DWARF bytes that knows where it is, for messages, and never leaves its bytes. */
import { type ByteSource, SymbolFileError } from '../byte-source.ts';

/** Debug information that cannot be right: the message names file, section and offset, and says what. */
export class DwarfError extends SymbolFileError {}

/** `vmlinux: .debug_info` + 0x1234 in a message. */
export const wrong = (where: string, offset: number, fact: string): DwarfError =>
  new DwarfError(`${where}+0x${offset.toString(16)}: ${fact}`);

const HIGH = 2 ** 32;

/** How much of a section a reader over it has in hand. */
const WINDOW = 4096;

export class Reader {
  bytes: Uint8Array;
  /** Of the next byte, in `bytes`. */
  at: number;
  end: number;
  /** File and section of `bytes`, and the offset there of the first of them. */
  readonly where: string;
  base: number;
  #more: ByteSource | undefined;

  constructor(bytes: Uint8Array, where: string, base = 0, at = 0, end = bytes.length) {
    this.bytes = bytes;
    this.where = where;
    this.base = base;
    this.at = at;
    this.end = end;
  }

  /** A reader that starts at `offset` of a section and goes on to its end, range by range. Throws DwarfError. */
  static over(section: ByteSource, offset: number): Reader {
    if (!(offset >= 0 && offset <= section.size))
      throw new DwarfError(
        `${section.name}: offset ${offset < 0 ? '-' : ''}0x${Math.abs(offset).toString(16)} is outside its ${section.size} bytes`,
      );
    const reader = new Reader(new Uint8Array(), section.name, offset);
    reader.#more = section;
    return reader;
  }

  /** Offset in the section of the next byte. */
  get offset(): number {
    return this.base + this.at;
  }

  get done(): boolean {
    return this.at >= this.end;
  }

  fail(fact: string, offset = this.offset): DwarfError {
    return wrong(this.where, offset, fact);
  }

  /** Moves past `length` bytes and gives where they start. */
  skip(length: number): number {
    if (!(length >= 0 && this.at + length <= this.end)) this.#refill(length);
    const at = this.at;
    this.at = at + length;
    return at;
  }

  /** Gets the next range in hand, `length` bytes at least. */
  #refill(length: number): void {
    const offset = this.offset;
    const left = this.#more ? this.#more.size - offset : this.end - this.at;
    if (!this.#more || !(length >= 0 && length <= left)) throw this.fail(`${length} bytes wanted where ${left} are left`);
    this.bytes = this.#more.read(offset, Math.min(left, Math.max(length, WINDOW)));
    this.base = offset;
    this.at = 0;
    this.end = this.bytes.length;
  }

  u8(): number {
    const at = this.skip(1);
    return this.bytes[at];
  }

  u16(): number {
    const at = this.skip(2);
    return this.bytes[at] | (this.bytes[at + 1] << 8);
  }

  u24(): number {
    const at = this.skip(3);
    return this.bytes[at] | (this.bytes[at + 1] << 8) | (this.bytes[at + 2] << 16);
  }

  u32(): number {
    const at = this.skip(4);
    const b = this.bytes;
    return (b[at] | (b[at + 1] << 8) | (b[at + 2] << 16) | (b[at + 3] << 24)) >>> 0;
  }

  u64(): bigint {
    const low = this.u32();
    return (BigInt(this.u32()) << 32n) | BigInt(low);
  }

  /** An offset or length of 4 or 8 bytes; one above 2^53 is an error. */
  word(size: 4 | 8): number {
    const low = this.u32();
    if (size === 4) return low;
    const value = low + this.u32() * HIGH;
    if (value > Number.MAX_SAFE_INTEGER) throw this.fail(`an offset of 0x${value.toString(16)}`, this.offset - 8);
    return value;
  }

  /** DWARF 5 §7.6. Values above 2^53 lose their low bits; `ulebExact` does not. */
  uleb(): number {
    let value = 0;
    let scale = 1;
    for (let n = 0; n < 20; n++) {
      const byte = this.u8();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
    throw this.fail('a LEB128 number of more than 20 bytes');
  }

  sleb(): number {
    let value = 0;
    let scale = 1;
    for (let n = 0; n < 20; n++) {
      const byte = this.u8();
      value += (byte & 0x7f) * scale;
      scale *= 128;
      if (byte < 0x80) return byte & 0x40 ? value - scale : value;
    }
    throw this.fail('a LEB128 number of more than 20 bytes');
  }

  /** A LEB128 number as wide as it is. */
  lebExact(signed: boolean): bigint {
    let value = 0n;
    let shift = 0n;
    for (let n = 0; n < 20; n++) {
      const byte = this.u8();
      value |= BigInt(byte & 0x7f) << shift;
      shift += 7n;
      if (byte < 0x80) return signed && byte & 0x40 ? value - (1n << shift) : value;
    }
    throw this.fail('a LEB128 number of more than 20 bytes');
  }

  /** A string up to its NUL, which is passed too. */
  cstring(): string {
    for (let wanted = WINDOW; ; wanted *= 4) {
      const end = this.bytes.indexOf(0, this.at);
      if (end >= 0 && end < this.end) {
        const text = utf8(this.bytes, this.at, end);
        this.at = end + 1;
        return text;
      }
      const left = this.#more ? this.#more.size - this.offset : 0;
      if (left <= this.end - this.at) throw this.fail('a string without an end');
      this.#refill(Math.min(left, wanted));
    }
  }

  block(length: number): Uint8Array {
    const at = this.skip(length);
    return this.bytes.subarray(at, at + length);
  }

  /** DWARF 5 §7.4: an initial length and the offset size that it implies. */
  initialLength(): { length: number; offsetSize: 4 | 8 } {
    const first = this.u32();
    if (first < 0xfffffff0) return { length: first, offsetSize: 4 };
    if (first !== 0xffffffff) throw this.fail(`a unit length of 0x${first.toString(16)}, which is reserved`, this.offset - 4);
    return { length: this.word(8), offsetSize: 8 };
  }
}

export const utf8 = (bytes: Uint8Array, from: number, to: number): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString('utf8');
