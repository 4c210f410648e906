/** A booted machine's memory for the tests of this folder, and small synthetic kernels. */
import { Ram } from '../../../emulator/memory/ram.ts';
import { ImageHeader } from '../../../emulator/boot/arm64-image.ts';
import { ElfHeader, ProgramHeader } from '../../../emulator/base/elf.ts';
import { type BootInfo, type BootOptions, prepareBoot } from '../../../emulator/boot/index.ts';
import type { BootKind } from '../../../emulator/config.ts';
import { concat } from '../../../emulator/boot/acpi/table.ts';

export const MIB = 1 << 20;

/** The smallest arm64 Image: a header and zeros. */
export const tinyImage = (imageSize = 0x10000, flags = 0xan): Uint8Array =>
  concat(ImageHeader.make({ magic: 'ARMd', imageSize: BigInt(imageSize), flags }), new Uint8Array(4096 - ImageHeader.size));

export interface Load {
  vaddr: bigint;
  paddr: bigint;
  data: Uint8Array;
  memsz?: number;
}

/** An ELF file of the given segments. */
export function tinyElf(
  loads: Load[],
  entry: bigint,
  header: Partial<{ machine: number; class: number; type: number }> = {},
): Uint8Array {
  let at = ElfHeader.size + loads.length * ProgramHeader.size;
  const programs = loads.map((l) => {
    const offset = at;
    at += l.data.length;
    return ProgramHeader.make({
      type: 1,
      offset: BigInt(offset),
      vaddr: l.vaddr,
      paddr: l.paddr,
      filesz: BigInt(l.data.length),
      memsz: BigInt(l.memsz ?? l.data.length),
    });
  });
  const elf = ElfHeader.make({
    magic: '\x7fELF',
    class: 2,
    data: 1,
    type: 2,
    machine: 183,
    entry,
    phoff: BigInt(ElfHeader.size),
    phentsize: ProgramHeader.size,
    phnum: loads.length,
    ...header,
  });
  return concat(elf, ...programs, ...loads.map((l) => l.data));
}

export interface Setup {
  memory?: number;
  cpus?: number;
  append?: string;
  kernel?: Uint8Array;
  initrd?: Uint8Array;
  seed?: number;
  boot?: BootKind;
  load?: number;
  options?: BootOptions;
}

/** `prepareBoot` on fresh RAM. */
export function boot(setup: Setup = {}): { ram: Ram; info: BootInfo; piece: (name: string) => Uint8Array } {
  const ram = new Ram((setup.memory ?? 64) * MIB, 0);
  const info = prepareBoot(
    {
      cpus: setup.cpus ?? 2,
      append: setup.append ?? 'console=ttyAMA0',
      kernel: setup.kernel ?? tinyImage(),
      kernelName: 'the-kernel',
      initrd: setup.initrd,
      initrdName: 'the-initrd',
      seed: setup.seed ?? 1,
      boot: setup.boot,
      load: setup.load,
    },
    ram,
    setup.options,
  );
  const piece = (name: string): Uint8Array => {
    const p = info.placed.find((q) => q.name === name);
    if (!p) throw new Error(`no ${name} among ${info.placed.map((q) => q.name)}`);
    return ram.read(p.gpa, p.size);
  };
  return { ram, info, piece };
}
