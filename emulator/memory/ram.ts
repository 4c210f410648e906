/**
 * Guest RAM. It lives inside one WebAssembly.Memory, so that generated code reads and writes it with plain wasm loads and
 * stores; below it lie the CPU's own tables. GPA 0 is the first byte of RAM.
 *
 * Every 4 KiB page has flags. Generated code may write a page directly only while `DIRTY` is set and `CODE` and `MARKED`
 * are not: the TLB refill looks here, so that snapshots, decoded code and monitors cost nothing elsewhere.
 *
 * Memory of devices (VRAM) is the same kind of memory at another place: in `bytes`, `view` and `flags` it follows RAM, and the
 * guest sees it at the GPA that `mapDevice` gives it. `at` says where in `bytes` a GPA is. RAM's own GPAs are their own places.
 */
export const PAGE = 4096;
export const PAGE_SHIFT = 12;

/** Written since the last `clean()` (a snapshot was taken). */
export const DIRTY = 1;
/** Decoded instruction records exist for this page: a write must drop them first. */
export const CODE = 2;
/** Written at some time before the last `clean()`: DIRTY | TOUCHED pages are all that may differ from zero. */
export const TOUCHED = 4;
/** The exclusive monitor of a VP that does not run lies here: a write takes it away. */
export const MARKED = 8;
/** Generated code of some VP may write here without being noticed: what is not set has no write permission to be dropped. */
export const WRITABLE = 16;

export class Ram {
  readonly memory: WebAssembly.Memory;
  /** Offset of GPA 0 in `memory`. */
  readonly base: number;
  /** Bytes of RAM. */
  readonly size: number;
  /** Bytes of RAM that firmware tells the guest of; what lies above is for hot add. */
  readonly installed: number;
  /** Bytes of device memory. */
  readonly deviceSize: number;
  /** GPA of device memory, -1 while it is nowhere. */
  readonly state = { device: -1 };
  /** RAM, index = GPA, and then device memory. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** One byte of flags per page. */
  readonly flags: Uint8Array;
  /** The CPU's hook: records of this page must go, and cached write permission with them. */
  onCodeWrite: (page: number) => void = () => {};
  /** The CPU's hook: somebody other than a VP writes. */
  onHostWrite: () => void = () => {};
  /** The CPU's hook: a page with `MARKED` is written. */
  onMarkedWrite: (page: number) => void = () => {};
  /** The CPU's hook: cached write permission must go (flags changed). */
  onProtect: () => void = () => {};
  /** The CPU's hook: GPAs mean something else now. */
  onRemap: () => void = () => {};

  /** `below`: bytes reserved under RAM for the CPU's tables (a multiple of 64 KiB). `deviceSize`: a multiple of a page. */
  constructor(size: number, below: number, deviceSize = 0, installed = size) {
    this.size = size;
    this.installed = installed;
    this.deviceSize = deviceSize;
    this.base = below;
    const all = size + deviceSize;
    this.memory = new WebAssembly.Memory({ initial: Math.ceil((below + all) / 65536) });
    this.bytes = new Uint8Array(this.memory.buffer, below, all);
    this.view = new DataView(this.memory.buffer, below, all);
    this.flags = new Uint8Array(all / PAGE);
  }

  /** Puts device memory at a GPA (page aligned, not RAM's), or with -1 nowhere. What is in it stays. */
  mapDevice(gpa: number): void {
    if (gpa !== -1 && (gpa < this.size || gpa % PAGE)) throw new RangeError(`device memory at 0x${gpa.toString(16)}`);
    if (this.state.device === gpa) return;
    this.state.device = gpa;
    this.onRemap();
  }

  /** Where in `bytes` [gpa, gpa + length) is: RAM, or device memory; -1: neither. */
  at(gpa: number, length = 1): number {
    if (gpa < 0 || length < 0) return -1;
    if (gpa + length <= this.size) return gpa;
    const { device } = this.state;
    if (device < 0 || gpa < device || gpa + length > device + this.deviceSize) return -1;
    return this.size + (gpa - device);
  }

  /** True when [gpa, gpa + length) is RAM. */
  contains(gpa: number, length = 1): boolean {
    return gpa >= 0 && length >= 0 && gpa + length <= this.size;
  }

  /** A copy of `length` bytes at `gpa`, which must be RAM (`contains`). */
  read(gpa: number, length: number): Uint8Array {
    if (!this.contains(gpa, length)) throw new RangeError(`RAM read at 0x${gpa.toString(16)}, ${length} bytes`);
    return this.bytes.slice(gpa, gpa + length);
  }

  /** Writes `data` at a place in `bytes`: a GPA of RAM, or what `at` says. */
  write(at: number, data: Uint8Array): void {
    this.touch(at, data.length);
    this.bytes.set(data, at);
  }

  /**
   * Must be called before (or right after, in the same host step) anything but generated code writes [at, at + length) through
   * `bytes` or `view`: places, as in `write`. `byVp`: the write is the running VP's own.
   */
  touch(at: number, length: number, byVp = false): void {
    if (!(at >= 0 && length >= 0 && at + length <= this.bytes.length))
      throw new RangeError(`RAM write at 0x${at.toString(16)}, ${length} bytes`);
    if (length === 0) return;
    if (!byVp) this.onHostWrite();
    const last = (at + length - 1) >>> PAGE_SHIFT;
    for (let page = at >>> PAGE_SHIFT; page <= last; page++) {
      const f = this.flags[page];
      if (f & CODE) this.onCodeWrite(page);
      if (f & MARKED) this.onMarkedWrite(page);
      this.flags[page] |= DIRTY;
    }
  }

  /** Zeros whole pages of RAM that the guest has no use for, [gpa, gpa + length). One that was never written stays untouched. */
  discard(gpa: number, length: number): void {
    for (let at = gpa; at < gpa + length; at += PAGE) {
      if (!(this.flags[at >>> PAGE_SHIFT] & (DIRTY | TOUCHED))) continue;
      this.touch(at, PAGE);
      this.bytes.fill(0, at, at + PAGE);
    }
  }

  /** Pages with `DIRTY` set, ascending. */
  dirtyPages(): number[] {
    const out: number[] = [];
    for (let i = 0; i < this.flags.length; i++) if (this.flags[i] & DIRTY) out.push(i);
    return out;
  }

  /** Forgets which pages were written; the next write to each is noticed again. */
  clean(): void {
    for (let i = 0; i < this.flags.length; i++) if (this.flags[i] & DIRTY) this.flags[i] = (this.flags[i] & ~DIRTY) | TOUCHED;
    this.onProtect();
  }
}
