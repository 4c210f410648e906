/** ELF64 files (System V gABI; AAELF64 for the machine number): sections, segments and symbols. Any bytes may come in. */
import { EM_AARCH64, ElfHeader as Header, isElf, ProgramHeader } from '../../emulator/base/elf.ts';
import { struct, u8, u16, u32, u64, viewOf } from '../../emulator/base/struct.ts';
import { type ByteSource, MemorySource, SymbolFileError } from './byte-source.ts';
import type { KernelSymbol } from './memory.ts';

/** What is wrong with a file: the message names it and says what. */
export class ElfError extends SymbolFileError {}

/** gABI "Section Header", Elf64_Shdr. */
const SectionHeader = struct(
  'Elf64_Shdr',
  {
    name: u32,
    type: u32,
    flags: u64,
    addr: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
    addralign: u64,
    entsize: u64,
  },
  { size: 64 },
);
/** gABI "Symbol Table", Elf64_Sym. */
export const ElfSymbol = struct('Elf64_Sym', { name: u32, info: u8, other: u8, shndx: u16, value: u64, size: u64 }, { size: 24 });

export const SHT = { SYMTAB: 2, RELA: 4, NOTE: 7, NOBITS: 8 };
export const SHN_ABS = 0xfff1;
const SHN_XINDEX = 0xffff;
export const SHF = { WRITE: 1n, ALLOC: 2n, EXECINSTR: 4n, COMPRESSED: 0x800n };
export const STT = { NOTYPE: 0, OBJECT: 1, FUNC: 2, SECTION: 3, FILE: 4 };
export const STB_LOCAL = 0;
const STB_WEAK = 2;

export interface ElfSection {
  name: string;
  type: number;
  flags: bigint;
  address: bigint;
  /** In the file. */
  offset: number;
  size: number;
  link: number;
  info: number;
  alignment: number;
}
export interface ElfSegment {
  type: number;
  flags: number;
  offset: number;
  virtual: bigint;
  physical: bigint;
  fileSize: number;
  memorySize: number;
}
/** What the headers of a file say. */
export interface ElfHeaders {
  machine: number;
  /** e_type: 1 ET_REL, 2 ET_EXEC, 3 ET_DYN. */
  type: number;
  entry: bigint;
  sections: ElfSection[];
  segments: ElfSegment[];
}
export interface Elf extends ElfHeaders {
  /** Named functions and objects, ascending by address; at one address the best name first. */
  symbols: KernelSymbol[];
}

/** A limit on section headers, far above what a kernel built with a section per function has. */
const MAX_SECTIONS = 1 << 20;

/**
 * Reads the headers of `source`: a few small ranges. Sections are inside the file (those without bytes excepted), segments
 * need not be: a file of debug information keeps the program headers of the program that it was split from. Throws ElfError.
 */
export function readHeaders(source: ByteSource): ElfHeaders {
  const fail = (fact: string): never => {
    throw new ElfError(`${source.name}: ${fact}`);
  };
  /** Checks that [offset, offset + size) is in the file. */
  const inside = (offset: bigint, size: bigint, what: string): number => {
    if (offset + size > BigInt(source.size))
      fail(`${what} (${size} bytes at ${offset}) is outside the file of ${source.size} bytes`);
    return Number(offset);
  };
  const start = source.read(0, Math.min(source.size, Header.size));
  if (!isElf(start)) fail('not an ELF file');
  if (start.length < Header.size) fail(`ELF header is cut off after ${start.length} bytes`);
  const header = Header.get(viewOf(start), 0);
  if (header.class !== 2) fail('a 32-bit ELF file; a 64-bit one is needed');
  if (header.data !== 1) fail('a big-endian ELF file; a little-endian one is needed');
  if (header.machine !== EM_AARCH64) fail(`ELF machine is ${header.machine}, not ${EM_AARCH64} (AArch64)`);

  const segments: ElfSegment[] = [];
  if (header.phnum > 0) {
    if (header.phentsize !== ProgramHeader.size)
      fail(`program headers of ${header.phentsize} bytes, expected ${ProgramHeader.size}`);
    const size = header.phnum * ProgramHeader.size;
    const view = viewOf(source.read(inside(header.phoff, BigInt(size), 'program header table'), size));
    for (let i = 0; i < header.phnum; i++) {
      const p = ProgramHeader.get(view, i * ProgramHeader.size);
      segments.push({
        type: p.type,
        flags: p.flags,
        offset: Number(p.offset),
        virtual: p.vaddr,
        physical: p.paddr,
        fileSize: Number(p.filesz),
        memorySize: Number(p.memsz),
      });
    }
  }

  const sections: ElfSection[] = [];
  if (header.shoff > 0n) {
    if (header.shentsize !== SectionHeader.size)
      fail(`section headers of ${header.shentsize} bytes, expected ${SectionHeader.size}`);
    const at = inside(header.shoff, BigInt(SectionHeader.size), 'section header table');
    // gABI "ELF Header": counts that do not fit are in section 0.
    const zero = SectionHeader.get(viewOf(source.read(at, SectionHeader.size)), 0);
    const count = header.shnum === 0 ? Number(zero.size) : header.shnum;
    const names = header.shstrndx === SHN_XINDEX ? zero.link : header.shstrndx;
    if (count > MAX_SECTIONS) fail(`${count} sections, more than ${MAX_SECTIONS}`);
    inside(header.shoff, BigInt(count * SectionHeader.size), 'section header table');
    const view = viewOf(source.read(at, count * SectionHeader.size));
    const labels: number[] = [];
    for (let i = 0; i < count; i++) {
      const s = SectionHeader.get(view, i * SectionHeader.size);
      labels.push(s.name);
      sections.push({
        name: '',
        type: s.type,
        flags: s.flags,
        address: s.addr,
        link: s.link,
        info: s.info,
        alignment: Number(s.addralign),
        size: Number(s.size),
        offset: s.type === SHT.NOBITS || i === 0 ? Number(s.offset) : inside(s.offset, s.size, `section ${i}`),
      });
    }
    const table = sections[names];
    if (names !== 0 && !table) fail(`section name table is section ${names} of ${sections.length}`);
    if (names !== 0) {
      const text = source.read(table.offset, table.type === SHT.NOBITS ? 0 : table.size);
      sections.forEach((s, i) => {
        s.name = textAt(text, labels[i]) ?? fail(`name of section ${i} is outside the section name table`);
      });
    }
  }
  return { machine: header.machine, type: header.type, entry: header.entry, sections, segments };
}

/** Reads `file`, called `name` in messages. Throws ElfError. */
export function readElf(file: Uint8Array, name: string): Elf {
  const fail = (fact: string): never => {
    throw new ElfError(`${name}: ${fact}`);
  };
  const view = viewOf(file);
  const headers = readHeaders(new MemorySource(file, name));
  const { sections } = headers;
  headers.segments.forEach((s, i) => {
    if (s.offset + s.fileSize > file.length)
      fail(`segment ${i} (${s.fileSize} bytes at ${s.offset}) is outside the file of ${file.length} bytes`);
  });

  const symbols: (KernelSymbol & { rank: number })[] = [];
  for (const table of sections.filter((s) => s.type === SHT.SYMTAB)) {
    const strings = sections[table.link];
    if (!strings) return fail(`symbol table ${table.name} has no string table (section ${table.link} of ${sections.length})`);
    const names = file.subarray(strings.offset, strings.offset + (strings.type === SHT.NOBITS ? 0 : strings.size));
    for (let i = 1; i < Math.floor(table.size / ElfSymbol.size); i++) {
      const s = ElfSymbol.get(view, table.offset + i * ElfSymbol.size);
      const kind = s.info & 0xf;
      const binding = s.info >>> 4;
      if (s.shndx === 0 || kind > STT.FUNC) continue;
      const label = textAt(names, s.name);
      if (label === undefined) return fail(`name of symbol ${i} is outside ${strings.name}`);
      // Mapping symbols (AAELF64 5.5.6) mark code and data, they name nothing.
      if (label === '' || /^\$[xd](\.|$)/.test(label)) continue;
      const section = sections[s.shndx];
      const letter =
        s.shndx === SHN_ABS || !section
          ? 'a'
          : section.flags & SHF.EXECINSTR
            ? 't'
            : section.type === SHT.NOBITS
              ? 'b'
              : section.flags & SHF.WRITE
                ? 'd'
                : 'r';
      symbols.push({
        address: s.value,
        name: label,
        size: s.size > 0xffffffffn ? 0 : Number(s.size),
        type: binding === STB_LOCAL ? letter : binding === STB_WEAK && letter === 't' ? 'W' : letter.toUpperCase(),
        rank: (kind === STT.NOTYPE ? 4 : 0) + (binding === STB_LOCAL ? 2 : 0) + (label.startsWith('_') ? 1 : 0),
      });
    }
  }
  symbols.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : a.rank - b.rank));
  return { ...headers, symbols: symbols.map(({ rank: _, ...symbol }) => symbol) };
}

function textAt(table: Uint8Array, at: number): string | undefined {
  if (at >= table.length) return undefined;
  const end = table.indexOf(0, at);
  if (end < 0) return undefined;
  return Buffer.from(table.buffer, table.byteOffset + at, end - at).toString('latin1');
}
