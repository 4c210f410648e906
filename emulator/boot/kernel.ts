/** Kernel files: what can be booted, and good words about what cannot. */
import { isElf } from '../base/elf.ts';
import { ConfigError } from '../config.ts';
import { parseImage } from './arm64-image.ts';
import { parseElf } from './elf.ts';
import type { LoadableKernel } from './loadable-kernel.ts';

const text = (bytes: Uint8Array, at: number, length: number): string =>
  String.fromCharCode(...bytes.subarray(at, Math.min(at + length, bytes.length)));

/**
 * Signatures of files that people pass as a kernel by mistake; the text completes "NAME is ...". Only used to word an error,
 * so the list is about usefulness, not completeness.
 */
const MISTAKES: { what: string; at: number; magic: string }[] = [
  // Documentation/arch/x86/boot.rst, "The real-mode kernel header".
  { what: 'an x86 kernel (bzImage), not an arm64 one', at: 0x202, magic: 'HdrS' },
  // Documentation/arch/riscv/boot-image-header.rst.
  { what: 'a RISC-V kernel Image, not an arm64 one', at: 0x30, magic: 'RISCV' },
  // arch/arm/boot/compressed/head.S: zImage magic.
  { what: 'a 32-bit Arm kernel (zImage), not an arm64 one', at: 0x24, magic: '\x18\x28\x6f\x01' },
  { what: 'a U-Boot image: pass the Image inside it', at: 0, magic: '\x27\x05\x19\x56' },
  { what: 'a gzip file: unpack it first', at: 0, magic: '\x1f\x8b' },
  { what: 'an EFI zboot image: unpack it first', at: 4, magic: 'zimg' },
  { what: 'an initramfs (cpio archive), not a kernel', at: 0, magic: '07070' },
  { what: 'a Debian package: unpack it and pass boot/vmlinuz-* of it', at: 0, magic: '!<arch>\ndebian' },
  { what: 'a disk image (qcow2), not a kernel', at: 0, magic: 'QFI\xfb' },
];

/** Takes a program apart: a kernel, or else a flat binary. Throws `ConfigError` that names the file and what is wrong with it. */
export function parseProgram(bytes: Uint8Array, name: string): LoadableKernel {
  if (bytes.length === 0) throw new ConfigError(`${name} is empty`);
  if (isElf(bytes)) return parseElf(bytes, name);
  const image = parseImage(bytes, name);
  if (image) return image;
  const mistake = MISTAKES.find((m) => text(bytes, m.at, m.magic.length) === m.magic);
  if (mistake) throw new ConfigError(`${name} is ${mistake.what}`);
  return { format: 'flat binary', textOffset: 0, size: bytes.length, segments: [{ offset: 0, data: bytes }], entry: 0 };
}

/** The same for kernels only. */
export function parseKernel(bytes: Uint8Array, name: string): LoadableKernel {
  const program = parseProgram(bytes, name);
  if (program.format === 'flat binary')
    throw new ConfigError(`${name} is not an arm64 kernel: neither an Image (no "ARM\\x64" at byte 56) nor an ELF file`);
  return program;
}
