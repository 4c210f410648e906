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
/** Given back by the guest since the last `renew`. */
const DISCARDED = 32;

/** True when page number `page` of `words` holds zeros only. Eight words at once: this looks at hundreds of MiB. */
export function isZeroPage(words: Int32Array, page: number): boolean {
  const end = (page + 1) * (PAGE / 4);
  for (let i = end - PAGE / 4; i < end; i += 8) {
    const low = words[i] | words[i + 1] | words[i + 2] | words[i + 3];
    if ((low | words[i + 4] | words[i + 5] | words[i + 6] | words[i + 7]) !== 0) return false;
  }
  return true;
}

export class Ram {
  /** Another one after `renew`, as `bytes` and `view`. */
  memory: WebAssembly.Memory;
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
  bytes: Uint8Array;
  view: DataView;
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
  /** The CPU's hook: `memory` is another one, and the CPU's tables below RAM are in it as they were. */
  onRenew: () => void = () => {};
  /** Bytes of pages given to `discard` since `memory` was new: no guest's state, but what the process could have back, at most. */
  discarded = 0;

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
    const words = new Int32Array(this.memory.buffer, this.base, this.bytes.length >>> 2);
    for (let at = gpa; at < gpa + length; at += PAGE) {
      const page = at >>> PAGE_SHIFT;
      if (!(this.flags[page] & (DIRTY | TOUCHED))) continue;
      if (!(this.flags[page] & DISCARDED)) this.discarded += PAGE;
      this.flags[page] |= DISCARDED;
      // Linux may have zeroed it itself.
      if (isZeroPage(words, page)) continue;
      this.touch(at, PAGE);
      this.bytes.fill(0, at, at + PAGE);
    }
  }

  /**
   * Moves everything into memory of its own anew, without the pages that are zero: the process has them back when the old memory is
   * collected. WebAssembly memory gets no smaller in any other way. Nothing that the guest or the CPU could notice changes.
   */
  renew(): void {
    const { base, flags } = this;
    const old = new Uint8Array(this.memory.buffer);
    const words = new Int32Array(old.buffer);
    this.memory = new WebAssembly.Memory({ initial: old.length / 65536 });
    const bytes = new Uint8Array(this.memory.buffer);
    const copy = (page: number): void => {
      if (!isZeroPage(words, page)) bytes.set(old.subarray(page * PAGE, (page + 1) * PAGE), page * PAGE);
    };
    const first = base / PAGE;
    for (let page = 0; page < first; page++) copy(page);
    for (let page = 0; page < flags.length; page++) {
      if (flags[page] & (DIRTY | TOUCHED)) copy(first + page);
      flags[page] &= ~DISCARDED;
    }
    this.bytes = new Uint8Array(this.memory.buffer, base, this.bytes.length);
    this.view = new DataView(this.memory.buffer, base, this.bytes.length);
    this.discarded = 0;
    this.onRenew();
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
