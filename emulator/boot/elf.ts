/** ELF64 kernels: what their program headers say is loaded (layouts: base/elf.ts). */
import { EM_AARCH64, ElfHeader, ProgramHeader } from '../base/elf.ts';
import { hex } from '../base/bits.ts';
import { viewOf } from '../base/struct.ts';
import { ConfigError } from '../config.ts';
import { IMAGE_MAGIC, ImageHeader } from './arm64-image.ts';
import type { LoadableKernel } from './loadable-kernel.ts';

const ELFCLASS64 = 2;
const ELFDATA2LSB = 1;
const ET_EXEC = 2;
const ET_DYN = 3;
const PT_LOAD = 1;
/** Names for messages; the rest are told by number. */
const MACHINES: Record<number, string> = { 3: 'x86', 40: '32-bit Arm', 62: 'x86-64', 243: 'RISC-V' };

/**
 * A Linux `vmlinux` has kernel virtual addresses as its physical ones and runs wherever it is put; anything else is loaded
 * where its program headers say.
 */
const isLinked = (paddr: bigint): boolean => paddr >> 63n === 0n;

/** Throws `ConfigError` for an ELF file that cannot run here. */
export function parseElf(file: Uint8Array, name: string): LoadableKernel {
  if (file.length < ElfHeader.size)
    throw new ConfigError(`${name} is truncated: an ELF header has ${ElfHeader.size} bytes, the file ${file.length}`);
  const view = viewOf(file);
  const header = ElfHeader.get(view, 0);
  if (header.machine !== EM_AARCH64 || header.class !== ELFCLASS64 || header.data !== ELFDATA2LSB)
    throw new ConfigError(
      `${name} is an ELF file for ${MACHINES[header.machine] ?? `machine ${header.machine}`}, not little-endian arm64`,
    );
  if (header.type !== ET_EXEC && header.type !== ET_DYN)
    throw new ConfigError(`${name} is an arm64 ELF file, but not an executable (type ${header.type})`);
  const end = Number(header.phoff) + header.phnum * ProgramHeader.size;
  if (header.phentsize !== ProgramHeader.size || end > file.length)
    throw new ConfigError(`${name} is truncated: its program headers end at byte ${end}, the file at ${file.length}`);

  const loads = Array.from({ length: header.phnum }, (_, i) =>
    ProgramHeader.get(view, Number(header.phoff) + i * ProgramHeader.size),
  )
    .filter((p) => p.type === PT_LOAD && p.memsz > 0n)
    .sort((a, b) => (a.paddr < b.paddr ? -1 : 1));
  if (loads.length === 0) throw new ConfigError(`${name} is an ELF file with nothing to load`);
  const overlap = loads.findIndex((p, n) => n > 0 && p.paddr < loads[n - 1].paddr + loads[n - 1].memsz);
  if (overlap > 0)
    throw new ConfigError(`${name} has damaged program headers: two segments overlap at ${hex(loads[overlap].paddr)}`);
  const base = loads[0].paddr;
  const segments: LoadableKernel['segments'] = [];
  let size = 0n;
  for (const p of loads) {
    if (p.offset + p.filesz > BigInt(file.length))
      throw new ConfigError(`${name} is truncated: a segment ends at byte ${p.offset + p.filesz}, the file at ${file.length}`);
    if (p.filesz > p.memsz) throw new ConfigError(`${name} has a damaged program header: more bytes in the file than in memory`);
    segments.push({ offset: Number(p.paddr - base), data: file.subarray(Number(p.offset), Number(p.offset + p.filesz)) });
    size = p.paddr - base + p.memsz > size ? p.paddr - base + p.memsz : size;
  }
  const home = loads.find((p) => header.entry >= p.vaddr && header.entry < p.vaddr + p.memsz);
  if (!home) throw new ConfigError(`${name} has an entry point outside its segments`);
  const entry = Number(header.entry - home.vaddr + home.paddr - base);
  if (size > 0x1_0000_0000n) throw new ConfigError(`${name} spreads over more than 4 GiB of memory`);
  if (isLinked(base)) return { format: 'ELF', fixed: Number(base), textOffset: 0, size: Number(size), segments, entry };

  // vmlinux begins with the same header as Image; it alone knows text_offset.
  const first = segments[0].data;
  const image = first.length >= ImageHeader.size ? ImageHeader.get(viewOf(first), 0) : undefined;
  const textOffset = image?.magic === IMAGE_MAGIC ? Number(image.textOffset & 0x1fffffn) : 0;
  return { format: 'ELF', textOffset, size: Number(size), segments, entry };
}
