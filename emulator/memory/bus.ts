/** The guest physical address map: RAM at 0, MMIO regions anywhere else. */
import type { Trace } from '../base/trace.ts';
import type { Ram } from './ram.ts';

export interface MmioRegion {
  readonly name: string;
  readonly gpa: number;
  /** Bytes. */
  readonly size: number;
  /** `size` is 1, 2, 4 or 8; the access lies inside the region. */
  read(offset: number, size: number): bigint;
  write(offset: number, size: number, value: bigint): void;
}

export class Bus {
  readonly ram: Ram;
  readonly #trace: Trace;
  readonly #regions: MmioRegion[] = [];

  constructor(ram: Ram, trace: Trace) {
    this.ram = ram;
    this.#trace = trace;
  }

  /** Maps a region. Overlaps are our own mistake and throw. */
  map(region: MmioRegion): void {
    if (region.gpa < this.ram.size) throw new Error(`${region.name} overlaps RAM`);
    for (const r of this.#regions)
      if (region.gpa < r.gpa + r.size && r.gpa < region.gpa + region.size) throw new Error(`${region.name} overlaps ${r.name}`);
    this.#regions.push(region);
    this.#regions.sort((a, b) => a.gpa - b.gpa);
  }

  get regions(): readonly MmioRegion[] {
    return this.#regions;
  }

  /** The MMIO region that holds all of [gpa, gpa + size), or undefined. */
  region(gpa: number, size = 1): MmioRegion | undefined {
    for (const r of this.#regions) if (gpa >= r.gpa && gpa + size <= r.gpa + r.size) return r;
    return undefined;
  }

  /** Device read. undefined: nothing is mapped there (the CPU takes an external abort). */
  read(gpa: number, size: number): bigint | undefined {
    const r = this.region(gpa, size);
    if (!r) return undefined;
    const value = r.read(gpa - r.gpa, size);
    if (this.#trace.wants('mmio')) this.#trace.emit({ kind: 'mmio', device: r.name, access: 'read', gpa, size, value });
    return value;
  }

  /** Device write. false: nothing is mapped there. */
  write(gpa: number, size: number, value: bigint): boolean {
    const r = this.region(gpa, size);
    if (!r) return false;
    if (this.#trace.wants('mmio')) this.#trace.emit({ kind: 'mmio', device: r.name, access: 'write', gpa, size, value });
    r.write(gpa - r.gpa, size, value);
    return true;
  }
}
