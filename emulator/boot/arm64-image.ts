/** The arm64 `Image` format: Linux Documentation/arch/arm64/booting.rst, "Call the kernel image". */
import { ascii, bytes, struct, u16, u32, u64, viewOf } from '../base/struct.ts';
import { hex } from '../base/bits.ts';
import { ConfigError } from '../config.ts';
import type { LoadableKernel } from './loadable-kernel.ts';

export const ImageHeader = struct(
  'ImageHeader',
  {
    code: bytes(8),
    textOffset: u64,
    imageSize: u64,
    flags: u64,
    reserved: bytes(24),
    magic: ascii(4),
    /** Offset of the PE header when the kernel is also an EFI application, else 0. */
    peOffset: u32,
  },
  { size: 64 },
);

export const IMAGE_MAGIC = 'ARMd';

/** Flags (booting.rst): bit 0 big-endian, bits 2:1 page size. Bit 3 (placement) asks nothing that we do not do anyway. */
const BIG_ENDIAN = 1n;
const PAGE_SIZES = [undefined, 4096, 16384, 65536];

// PE/COFF specification (Microsoft), "COFF File Header" and "Section Table".
const PeHeader = struct(
  'PeHeader',
  {
    signature: ascii(4),
    machine: u16,
    sections: u16,
    timestamp: u32,
    symbolTable: u32,
    symbols: u32,
    optionalHeaderSize: u16,
    characteristics: u16,
  },
  { size: 24 },
);
const PeSection = struct(
  'PeSection',
  { name: ascii(8), virtualSize: u32, virtualAddress: u32, rawSize: u32, rawOffset: u32, unused: bytes(16) },
  { size: 40 },
);

/** Bytes the file must have according to its PE section table, 0 when it has none. */
function peFileSize(view: DataView, peOffset: number): number {
  if (peOffset === 0 || peOffset + PeHeader.size > view.byteLength) return 0;
  const pe = PeHeader.get(view, peOffset);
  if (pe.signature !== 'PE') return 0;
  let end = 0;
  for (let i = 0; i < pe.sections; i++) {
    const at = peOffset + PeHeader.size + pe.optionalHeaderSize + i * PeSection.size;
    if (at + PeSection.size > view.byteLength) return at + PeSection.size;
    const section = PeSection.get(view, at);
    end = Math.max(end, section.rawOffset + section.rawSize);
  }
  return end;
}

/** undefined: not an `Image` at all. Throws `ConfigError` for one that cannot run here. */
export function parseImage(file: Uint8Array, name: string): LoadableKernel | undefined {
  if (file.length < ImageHeader.size) return undefined;
  const view = viewOf(file);
  const header = ImageHeader.get(view, 0);
  if (header.magic !== IMAGE_MAGIC) return undefined;
  if (header.flags & BIG_ENDIAN)
    throw new ConfigError(`${name} is a big-endian arm64 kernel; only little-endian ones run as a Hyper-V guest`);
  // image_size 0 means a kernel older than 3.17, whose text_offset has no defined byte order either (booting.rst).
  if (header.imageSize === 0n)
    throw new ConfigError(`${name} is an arm64 Image without a size in its header (Linux before 3.17)`);
  if (header.imageSize > 0x1_0000_0000n || header.textOffset >= 0x20_0000n)
    throw new ConfigError(
      `${name} has a damaged arm64 Image header: size ${hex(header.imageSize)}, text offset ${hex(header.textOffset)}`,
    );
  const expected = peFileSize(view, header.peOffset);
  if (file.length < expected) throw new ConfigError(`${name} is truncated: ${file.length} of ${expected} bytes`);
  return {
    format: 'Image',
    textOffset: Number(header.textOffset),
    size: Math.max(Number(header.imageSize), file.length),
    segments: [{ offset: 0, data: file }],
    entry: 0,
    pageSize: PAGE_SIZES[Number((header.flags >> 1n) & 3n)],
  };
}
