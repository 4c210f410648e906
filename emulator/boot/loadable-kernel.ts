import type { MachineConfig } from '../config.ts';

/** A kernel as pieces of memory to fill, whatever file it came in. */
export interface LoadableKernel {
  format: 'Image' | 'ELF' | 'flat binary';
  /** GPA that offset 0 must be at; undefined: any 2 MiB boundary plus `textOffset`. */
  fixed?: number;
  textOffset: number;
  /** Bytes of memory from offset 0 that the kernel needs, BSS included. */
  size: number;
  /** File contents by offset; what lies between is zero. */
  segments: { offset: number; data: Uint8Array }[];
  /** Offset of the first instruction. */
  entry: number;
  /** Bytes per page that an `Image` says it was built for. */
  pageSize?: number;
}

/** What is put into memory, of a machine's configuration. */
export type Program = Pick<MachineConfig, 'cpus' | 'append' | 'kernel' | 'kernelName' | 'initrd' | 'initrdName' | 'seed'>;

/** A named place in guest memory, for the start report. */
export interface Placed {
  name: string;
  gpa: number;
  size: number;
}

export interface BootInfo {
  /** Where VP 0 starts. */
  pc: number;
  /** x0..x3 of VP 0 (booting.rst: x0 = device tree, the rest zero). */
  x: [number, number, number, number];
  kernel: LoadableKernel;
  /** Name of the initrd's format, when there is one. */
  initrdFormat?: string;
  /** What was placed, by ascending address. */
  placed: Placed[];
}
