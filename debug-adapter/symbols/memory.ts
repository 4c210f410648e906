/** What this folder reads from: bytes at a virtual address, or a function that fetches them. Never the machine. */

/** A contiguous piece of guest memory (or a file) and the virtual address its first byte has. */
export interface ImageMemory {
  readonly bytes: Uint8Array;
  readonly base: bigint;
}

/** Bytes of virtual memory, undefined when some of them are not mapped. */
export type VirtualReader = (address: bigint, length: number) => Uint8Array | undefined;

export interface KernelSymbol {
  readonly address: bigint;
  readonly name: string;
  /** Letter as `nm` prints it: T/t text, D/d data, B/b bss, R/r read-only, W/w weak, A absolute. */
  readonly type: string;
  /** Bytes, 0 when nobody knows. */
  readonly size: number;
  /** Kernel module that it belongs to. */
  readonly module?: string;
}

/** Reads a little-endian u64, undefined when it is not mapped. */
export function readU64(read: VirtualReader, address: bigint): bigint | undefined {
  const b = read(address, 8);
  return b && new DataView(b.buffer, b.byteOffset, 8).getBigUint64(0, true);
}

/** The same for a u32. */
export function readU32(read: VirtualReader, address: bigint): number | undefined {
  const b = read(address, 4);
  return b && new DataView(b.buffer, b.byteOffset, 4).getUint32(0, true);
}

/** Reads a NUL-terminated string of at most `max` bytes; undefined when it is not mapped or has no end. */
export function readString(read: VirtualReader, address: bigint, max: number): string | undefined {
  let text = '';
  for (let done = 0; done < max; ) {
    // Never past the end of a 4 KiB page in one read: the next page need not be mapped.
    const n = Math.min(max - done, 4096 - Number((address + BigInt(done)) & 4095n));
    const chunk = read(address + BigInt(done), n);
    if (!chunk) return undefined;
    const end = chunk.indexOf(0);
    text += Buffer.from(end < 0 ? chunk : chunk.subarray(0, end)).toString('latin1');
    if (end >= 0) return text;
    done += n;
  }
  return undefined;
}
