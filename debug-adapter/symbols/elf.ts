/** ELF64 files (System V gABI; AAELF64 for the machine number): sections, segments and symbols. Any bytes may come in. */
import { EM_AARCH64, ElfHeader as Header, isElf, ProgramHeader } from '../../emulator/base/elf.ts';
import { array, struct, u8, u16, u32, u64, viewOf } from '../../emulator/base/struct.ts';
import type { KernelSymbol } from './memory.ts';

/** What is wrong with a file: the message names it and says what. */
export class ElfError extends Error {}

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

const SHT_SYMTAB = 2;
const SHT_NOBITS = 8;
const SHN_ABS = 0xfff1;
const SHF = { WRITE: 1n, ALLOC: 2n, EXECINSTR: 4n };
const STT = { NOTYPE: 0, OBJECT: 1, FUNC: 2, SECTION: 3, FILE: 4 };
const STB_LOCAL = 0;
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
export interface Elf {
  machine: number;
  type: number;
  entry: bigint;
  sections: ElfSection[];
  segments: ElfSegment[];
  /** Named functions and objects, ascending by address; at one address the best name first. */
  symbols: KernelSymbol[];
}

/** Reads `file`, called `name` in messages. Throws ElfError. */
export function readElf(file: Uint8Array, name: string): Elf {
  const fail = (fact: string): never => {
    throw new ElfError(`${name}: ${fact}`);
  };
  const view = viewOf(file);
  /** Checks that [offset, offset + size) is in the file. */
  const inside = (offset: bigint, size: bigint, what: string): number => {
    if (offset + size > BigInt(file.length))
      fail(`${what} (${size} bytes at ${offset}) is outside the file of ${file.length} bytes`);
    return Number(offset);
  };
  if (!isElf(file)) fail('not an ELF file');
  if (file.length < Header.size) fail(`ELF header is cut off after ${file.length} bytes`);
  const header = Header.get(view, 0);
  if (header.class !== 2) fail('a 32-bit ELF file; a 64-bit one is needed');
  if (header.data !== 1) fail('a big-endian ELF file; a little-endian one is needed');
  if (header.machine !== EM_AARCH64) fail(`ELF machine is ${header.machine}, not ${EM_AARCH64} (AArch64)`);

  const segments: ElfSegment[] = [];
  if (header.phnum > 0) {
    if (header.phentsize !== ProgramHeader.size)
      fail(`program headers of ${header.phentsize} bytes, expected ${ProgramHeader.size}`);
    const at = inside(header.phoff, BigInt(header.phnum * ProgramHeader.size), 'program header table');
    for (let i = 0; i < header.phnum; i++) {
      const p = ProgramHeader.get(view, at + i * ProgramHeader.size);
      segments.push({
        type: p.type,
        flags: p.flags,
        offset: inside(p.offset, p.filesz, `segment ${i}`),
        virtual: p.vaddr,
        physical: p.paddr,
        fileSize: Number(p.filesz),
        memorySize: Number(p.memsz),
      });
    }
  }

  const sections: ElfSection[] = [];
  if (header.shnum > 0) {
    if (header.shentsize !== SectionHeader.size)
      fail(`section headers of ${header.shentsize} bytes, expected ${SectionHeader.size}`);
    const at = inside(header.shoff, BigInt(header.shnum * SectionHeader.size), 'section header table');
    const raw = array(header.shnum, SectionHeader).get(view, at);
    raw.forEach((s, i) => {
      sections.push({
        name: '',
        type: s.type,
        flags: s.flags,
        address: s.addr,
        link: s.link,
        size: Number(s.size),
        offset: s.type === SHT_NOBITS ? Number(s.offset) : inside(s.offset, s.size, `section ${i}`),
      });
    });
    const names = sections[header.shstrndx];
    if (header.shstrndx !== 0 && !names) fail(`section name table is section ${header.shstrndx} of ${sections.length}`);
    if (names)
      sections.forEach((s, i) => {
        s.name = text(file, names, raw[i].name) ?? fail(`name of section ${i} is outside the section name table`);
      });
  }

  const symbols: (KernelSymbol & { rank: number })[] = [];
  for (const table of sections.filter((s) => s.type === SHT_SYMTAB)) {
    const strings = sections[table.link];
    if (!strings) return fail(`symbol table ${table.name} has no string table (section ${table.link} of ${sections.length})`);
    for (let i = 1; i < Math.floor(table.size / ElfSymbol.size); i++) {
      const s = ElfSymbol.get(view, table.offset + i * ElfSymbol.size);
      const kind = s.info & 0xf;
      const binding = s.info >>> 4;
      if (s.shndx === 0 || kind > STT.FUNC) continue;
      const label = text(file, strings, s.name);
      if (label === undefined) return fail(`name of symbol ${i} is outside ${strings.name}`);
      // Mapping symbols (AAELF64 5.5.6) mark code and data, they name nothing.
      if (label === '' || /^\$[xd](\.|$)/.test(label)) continue;
      const section = sections[s.shndx];
      const letter =
        s.shndx === SHN_ABS || !section
          ? 'a'
          : section.flags & SHF.EXECINSTR
            ? 't'
            : section.type === SHT_NOBITS
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
  return {
    machine: header.machine,
    type: header.type,
    entry: header.entry,
    sections,
    segments,
    symbols: symbols.map(({ rank: _, ...symbol }) => symbol),
  };
}

function text(file: Uint8Array, table: ElfSection, at: number): string | undefined {
  if (at >= table.size) return undefined;
  const start = table.offset + at;
  const end = file.indexOf(0, start);
  if (end < 0 || end > table.offset + table.size) return undefined;
  return Buffer.from(file.buffer, file.byteOffset + start, end - start).toString('latin1');
}
