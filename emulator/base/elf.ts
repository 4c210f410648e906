/**
 * Layouts of ELF64 files that a loader and a debugger both read: System V gABI, "ELF Header" and "Program Header"; ELF for the
 * Arm 64-bit Architecture §5.1 for the machine number.
 */
import { ascii, bytes, struct, u16, u32, u64, u8 } from './struct.ts';

export const ElfHeader = struct(
  'Elf64_Ehdr',
  {
    magic: ascii(4),
    class: u8,
    data: u8,
    ident: bytes(10),
    type: u16,
    machine: u16,
    version: u32,
    entry: u64,
    phoff: u64,
    shoff: u64,
    flags: u32,
    ehsize: u16,
    phentsize: u16,
    phnum: u16,
    shentsize: u16,
    shnum: u16,
    shstrndx: u16,
  },
  { size: 64 },
);

export const ProgramHeader = struct(
  'Elf64_Phdr',
  { type: u32, flags: u32, offset: u64, vaddr: u64, paddr: u64, filesz: u64, memsz: u64, align: u64 },
  { size: 56 },
);

export const EM_AARCH64 = 183;

/** True when `file` starts like an ELF file. */
export const isElf = (file: Uint8Array): boolean =>
  file.length >= 4 && file[0] === 0x7f && file[1] === 0x45 && file[2] === 0x4c && file[3] === 0x46;
