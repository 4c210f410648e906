/**
 * Kernel files as distributions ship them: an `Image` may be compressed whole (`Image.gz`, as the kernel's `make install`
 * does) or sit in an EFI zboot image (CONFIG_EFI_ZBOOT). The emulator takes plain files only; decompressors live here.
 */
import fs from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { ascii, bytes, struct, u16, u32, viewOf } from '../emulator/base/struct.ts';
import { ConfigError } from '../emulator/index.ts';

/** Linux drivers/firmware/efi/libstub/zboot-header.S */
export const ZbootHeader = struct(
  'ZbootHeader',
  {
    mz: u16,
    reserved: u16,
    magic: ascii(4),
    payloadOffset: u32,
    payloadSize: u32,
    reserved2: bytes(8),
    compression: ascii(32),
    pe: bytes(8),
  },
  { size: 64 },
);
const MZ = 0x5a4d;

/** More than any kernel; a file that claims more is damaged. */
const MAX_KERNEL = 512 << 20;

interface Compression {
  /** As the zboot header spells it. */
  name: string;
  magic: number[];
  unpack(data: Uint8Array): Uint8Array | Promise<Uint8Array>;
}

// Loaded when they are needed: few kernels are compressed so.
async function unzstd(data: Uint8Array): Promise<Uint8Array> {
  const { decompress } = await import('fzstd');
  return decompress(data);
}

async function unxz(data: Uint8Array): Promise<Uint8Array> {
  // What `default` is depends on who loads this file: Node, the bundle, or tsx in a test.
  const xz = await import('xz-decompress');
  const { XzReadableStream } = xz.default ?? xz;
  const stream = new XzReadableStream(new Blob([data]).stream() as ReadableStream<Uint8Array>);
  const parts: Uint8Array[] = [];
  let size = 0;
  for (const reader = stream.getReader(); ; ) {
    const { done, value } = await reader.read().catch((e: Error) => {
      // XZ_OPTIONS_ERROR: kernels built with xz 5.4 or newer use its ARM64 filter, which the library lacks.
      throw e.message.endsWith('code 6')
        ? new ConfigError('it uses an XZ filter that is not known here; unpack it with "xz -d"')
        : e;
    });
    if (done) break;
    parts.push(value.slice()); // the stream reuses its buffer
    size += value.length;
    if (size > MAX_KERNEL) throw new Error(`more than ${MAX_KERNEL} bytes`);
  }
  return new Uint8Array(Buffer.concat(parts));
}

const COMPRESSIONS: Compression[] = [
  { name: 'gzip', magic: [0x1f, 0x8b], unpack: (data) => gunzipSync(data, { maxOutputLength: MAX_KERNEL }) },
  { name: 'zstd', magic: [0x28, 0xb5, 0x2f, 0xfd], unpack: unzstd },
  { name: 'xzkern', magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], unpack: unxz },
];

const compressionOf = (data: Uint8Array): Compression | undefined =>
  COMPRESSIONS.find((c) => c.magic.every((b, i) => data[i] === b));

async function unpack(data: Uint8Array, compression: Compression, name: string): Promise<Uint8Array> {
  try {
    return await compression.unpack(data);
  } catch (e) {
    if (e instanceof ConfigError) throw new ConfigError(`${name} cannot be unpacked: ${e.message}`);
    throw new ConfigError(
      `${name} is truncated or damaged: its ${compression.name} data cannot be unpacked (${(e as Error).message})`,
    );
  }
}

/** The compressed kernel inside a zboot image; undefined when it is not one. */
function zbootPayload(file: Uint8Array, name: string): { data: Uint8Array; compression: Compression } | undefined {
  if (file.length < ZbootHeader.size) return undefined;
  const header = ZbootHeader.get(viewOf(file), 0);
  if (header.mz !== MZ || header.magic !== 'zimg') return undefined;
  const end = header.payloadOffset + header.payloadSize;
  if (end > file.length)
    throw new ConfigError(`${name} is truncated: its compressed kernel ends at byte ${end}, the file at ${file.length}`);
  const compression = COMPRESSIONS.find((c) => c.name === header.compression);
  if (!compression)
    throw new ConfigError(
      `${name} is an EFI zboot image compressed with ${header.compression || 'nothing known'}; gzip, zstd and xz can be read`,
    );
  return { data: file.subarray(header.payloadOffset, end), compression };
}

/**
 * The plain `Image` or ELF in a kernel file. Files that are neither compressed nor zboot come back as they are: what they
 * are is for `createMachine` to judge. Throws `ConfigError` that names the file when it cannot be unpacked.
 */
export async function unwrapKernel(file: Uint8Array, name: string): Promise<Uint8Array> {
  const zboot = zbootPayload(file, name);
  if (zboot) return unpack(zboot.data, zboot.compression, name);
  const compression = compressionOf(file);
  if (!compression) return file;
  const inner = await unpack(file, compression, name);
  // A compressed zboot image exists; a twice compressed kernel does not.
  const nested = zbootPayload(inner, name);
  return nested ? unpack(nested.data, nested.compression, name) : inner;
}

/** Where imageHeader has its magic (Linux, Documentation/arch/arm64/booting.rst). */
const IMAGE_MAGIC = { at: 56, text: 'ARM\x64' };

/** A kernel's file, unpacked. An Image is read when somebody asks for more than a few of its bytes. */
export class KernelFile {
  /** As messages call it. */
  readonly name: string;
  readonly #path: string | undefined;
  #bytes: Uint8Array | undefined;

  /** Bytes that are there, or the path of an Image. */
  constructor(name: string, what: Uint8Array | string) {
    this.name = name;
    if (typeof what === 'string') this.#path = what;
    else this.#bytes = what;
  }

  /** Throws `ConfigError`, and what `node:fs` throws. */
  static async open(file: string): Promise<KernelFile> {
    const name = path.basename(file);
    const head = readRange(file, 0, IMAGE_MAGIC.at + 4);
    const isImage = Buffer.from(head.subarray(IMAGE_MAGIC.at)).toString('latin1') === IMAGE_MAGIC.text;
    return new KernelFile(name, isImage ? file : await unwrapKernel(readRange(file), name));
  }

  /** All of it. Throws what `node:fs` throws. */
  get bytes(): Uint8Array {
    this.#bytes ??= readRange(this.#path as string);
    return this.#bytes;
  }

  /** `length` bytes at `offset`, fewer at its end. Throws what `node:fs` throws. */
  range(offset: number, length: number): Uint8Array {
    return this.#bytes?.subarray(offset, offset + length) ?? readRange(this.#path as string, offset, length);
  }
}

/** Bytes of a file in memory that nobody has cleared before. Throws what `node:fs` throws. */
function readRange(file: string, offset = 0, length?: number): Uint8Array {
  const fd = fs.openSync(file, 'r');
  try {
    const { size } = fs.fstatSync(fd);
    const bytes = Buffer.allocUnsafeSlow(Math.max(0, Math.min(length ?? size, size - offset)));
    let done = 0;
    while (done < bytes.length) {
      const n = fs.readSync(fd, bytes, done, bytes.length - done, offset + done);
      if (n === 0) break;
      done += n;
    }
    return new Uint8Array(bytes.buffer, 0, done);
  } finally {
    fs.closeSync(fd);
  }
}
