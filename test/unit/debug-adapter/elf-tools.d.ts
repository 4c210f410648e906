/** elf-tools has no types: what the cross-check uses. */
declare module 'elf-tools' {
  interface Elf {
    header: { entry: number };
    programs: { header: { vaddr: number; paddr: number; filesz: number; memsz: number } }[];
    sections: { header: { name: string; addr: number; offset: number; size: number } }[];
  }
  const tools: { parse(file: Buffer): Elf };
  export default tools;
}
