/**
 * The architectural state of one VP: a block of bytes, so that generated code, snapshots and views share one layout.
 *
 * The VP that runs has its block in the *window* at `WINDOW` of the wasm memory (generated code uses constant addresses
 * there); the others have it in a buffer of their own. `VpState.view` is always the live one.
 */

/** Address of the window in wasm memory. Records hold register addresses as u16, so the block ends below 64 KiB. */
export const WINDOW = 0x1000;

/** Byte offsets in the block. General registers are u64; XZR reads `ZERO` and writes `JUNK`. */
export const VP = {
  X: 0, // x0..x30, 8 bytes each
  SP: 0xf8, // current SP (the one PSTATE.SP selects)
  ZERO: 0x100,
  JUNK: 0x108,
  PC: 0x110,
  /** Flags as the interpreter keeps them: see `FK`. */
  FA: 0x118,
  FB: 0x120,
  /** u32: 0 = NZCV of FA - FB, 1 = NZCV of FA + FB, 2 = NZCV packed in bits 31:28 of FA's low word. 32-bit operands are shifted left by 32. */
  FK: 0x128,
  /** u32: PSTATE without NZCV, in SPSR_EL1's layout: M[3:0], F 6, I 7, A 8, D 9, BTYPE 11:10, SSBS 12, IL 20, SS 21, PAN 22, UAO 23, DIT 24. */
  PSTATE: 0x12c,
  /** u32 FPCR and FPSR. */
  FPCR: 0x130,
  FPSR: 0x134,
  /** u32: non-zero when the interrupt controller asserts IRQ (bit 0) or FIQ (bit 1) for this VP. */
  IRQ: 0x138,
  /** u32: 1 when FP/SIMD instructions may execute at the current EL (CPACR_EL1.FPEN); derived, see `refresh`. */
  FP_ENABLED: 0x13c,
  /** u32: bytes of the exclusive monitor's access, 0 = open. */
  EXCL_SIZE: 0x140,
  /** u32: 0 running, 1 waiting in WFI, 2 waiting in WFE, 3 off (PSCI). */
  RUN_STATE: 0x144,
  /** u64: virtual address marked by the exclusive monitor. */
  EXCL_ADDR: 0x148,
  /** u32: the event register (SEV, WFE). */
  EVENT: 0x150,
  /** u32: which data TLB is in use: 0 EL0, 1 EL1 with PAN, 2 EL1 without; derived, see `refresh`. */
  REGIME: 0x154,
  /** u32 each: 1 when EL0 (or EL1) may now execute DC ZVA / read CTR_EL0 / clean caches by VA; derived. */
  DZ_ENABLED: 0x158,
  UCI_ENABLED: 0x15c,
  /** u32: 0 at EL0, else 1: cells of EL1 registers may be read by plain MRS. */
  EL1: 0x160,
  /** u32: SCTLR_EL1.A at this EL: every access is alignment-checked (the engine then keeps pages out of the fast TLB). */
  ALIGN_CHECK: 0x164,
  /** u64: SP_EL0 and SP_EL1 while they are not the current SP. */
  SP_EL0: 0x168,
  SP_EL1: 0x170,
  /** u32: of a VP that is not the current one, the RAM page of its exclusive monitor, plus 1; see cpu.ts. */
  EXCL_PAGE: 0x178,
  /** u32: 1 while software step is active at this EL (MDSCR_EL1.SS); derived. */
  STEP: 0x17c,
  /** u32: 1 while the instruction that is being stepped executes; 0 between instructions. */
  STEPPING: 0x180,
  /** u32: 1 when debug exceptions (but BRK's) may be generated at this EL; derived. */
  DEBUG: 0x184,
  /** u32: 1 when generated code may move PSTATE.DAIF: at EL1h while no debug exception depends on PSTATE.D; derived. */
  DAIF_PLAIN: 0x188,
  /**
   * Pointer authentication, derived (pointer-authentication.ts). u64 each: bits of the code in pointers to the lower and the upper half, for
   * instructions and for data; the bit that tells the half of what is signed, for instructions and for data. u32 each: keys IA,
   * IB, DA, DB are in use.
   */
  PAC_MASK: 0x190,
  PAC_SELECT: 0x1b0,
  PAC_ENABLED: 0x1c0,
  /** u64: state of the generator of RNDR's numbers. */
  RANDOM: 0x1d0,
  /** u64: ns per tick of the counters, 0: generated code must not read them. u32 each: it may read CNTVCT_EL0, CNTPCT_EL0 at this EL; derived. */
  COUNTER_PERIOD: 0x1d8,
  COUNTER_PLAIN: 0x1e0,
  /** u32: 1 when YIELD gives the turn to other VPs: one may be awake. */
  YIELDS: 0x1e8,
  V: 0x200, // v0..v31, 16 bytes each
  /** System register cells, u64 each, in the order of sysregs.ts. */
  SYS: 0x400,
  SIZE: 0x1400,
} as const;

/** PSTATE bits (SPSR_EL1 layout, Arm ARM C5.2.18). */
export const PSTATE = {
  N: 0x80000000,
  Z: 0x40000000,
  C: 0x20000000,
  V: 0x10000000,
  DIT: 1 << 24,
  UAO: 1 << 23,
  PAN: 1 << 22,
  SS: 1 << 21,
  IL: 1 << 20,
  SSBS: 1 << 12,
  BTYPE: 3 << 10,
  D: 1 << 9,
  A: 1 << 8,
  I: 1 << 7,
  F: 1 << 6,
  DAIF: 0x3c0,
  /** M[3:0]: EL0t, EL1t, EL1h. */
  EL0T: 0,
  EL1T: 4,
  EL1H: 5,
  M: 0xf,
} as const;

export const RUNNING = 0;
export const WAITING_WFI = 1;
export const WAITING_WFE = 2;
export const OFF = 3;

export class VpState {
  readonly index: number;
  /** Told when the VP has taken a synchronous exception other than SVC: ESR_EL1, ELR_EL1 and FAR_EL1 are set. */
  onFault: (() => void) | undefined;
  /** The live block: the window while this VP is loaded, its own buffer otherwise. */
  view: DataView;
  readonly #own: Uint8Array;
  #window: Uint8Array;

  constructor(index: number, memory: WebAssembly.Memory) {
    this.index = index;
    this.#own = new Uint8Array(VP.SIZE);
    this.#window = new Uint8Array(memory.buffer, WINDOW, VP.SIZE);
    this.view = new DataView(this.#own.buffer);
  }

  /** The window is in another memory now, with what was in it. */
  memoryRenewed(memory: WebAssembly.Memory): void {
    const { loaded } = this;
    this.#window = new Uint8Array(memory.buffer, WINDOW, VP.SIZE);
    if (loaded) this.view = new DataView(memory.buffer, WINDOW, VP.SIZE);
  }

  /** The block's bytes (live); also what snapshots copy. */
  get bytes(): Uint8Array {
    return new Uint8Array(this.view.buffer, this.view.byteOffset, VP.SIZE);
  }
  /** A copy of the block in which equal states have equal bytes: flags packed, scratch cleared. For hashes. */
  architecturalBytes(): Uint8Array {
    const copy = new DataView(this.bytes.slice().buffer);
    copy.setBigUint64(VP.JUNK, 0n);
    copy.setBigUint64(VP.FA, BigInt(this.nzcv), true);
    copy.setBigUint64(VP.FB, 0n);
    copy.setUint32(VP.FK, 2, true);
    return new Uint8Array(copy.buffer);
  }
  get loaded(): boolean {
    return this.view.buffer === this.#window.buffer;
  }
  /** Moves the block into the window. The VP that was there must have been unloaded. */
  load(): void {
    if (this.loaded) return;
    this.#window.set(this.#own);
    this.view = new DataView(this.#window.buffer, WINDOW, VP.SIZE);
  }
  unload(): void {
    if (!this.loaded) return;
    this.#own.set(this.#window);
    this.view = new DataView(this.#own.buffer);
  }

  u32(at: number): number {
    return this.view.getUint32(at, true);
  }
  setU32(at: number, v: number): void {
    this.view.setUint32(at, v >>> 0, true);
  }
  /** A u64 from one place to another. */
  copy(from: number, to: number): void {
    this.setU32(to, this.u32(from));
    this.setU32(to + 4, this.u32(from + 4));
  }
  u64(at: number): bigint {
    return this.view.getBigUint64(at, true);
  }
  setU64(at: number, v: bigint): void {
    this.view.setBigUint64(at, v, true); // modulo 2^64
  }

  /** X[n], n 0..30; 31 reads as zero. */
  x(n: number): bigint {
    return n === 31 ? 0n : this.u64(VP.X + 8 * n);
  }
  setX(n: number, v: bigint): void {
    if (n !== 31) this.setU64(VP.X + 8 * n, v);
  }
  v(n: number): bigint {
    return this.u64(VP.V + 16 * n) | (this.u64(VP.V + 16 * n + 8) << 64n);
  }
  setV(n: number, v: bigint): void {
    this.setU64(VP.V + 16 * n, v);
    this.setU64(VP.V + 16 * n + 8, v >> 64n);
  }
  get sp(): bigint {
    return this.u64(VP.SP);
  }
  set sp(v: bigint) {
    this.setU64(VP.SP, v);
  }
  get pc(): bigint {
    return this.u64(VP.PC);
  }
  set pc(v: bigint) {
    this.setU64(VP.PC, v);
  }
  /** 0 or 1. */
  get el(): number {
    return (this.u32(VP.PSTATE) >>> 2) & 3;
  }

  /** NZCV in bits 31:28 (unsigned). In halves: exceptions come here. */
  get nzcv(): number {
    const kind = this.u32(VP.FK);
    const aLo = this.u32(VP.FA);
    if (kind === 2) return (aLo & 0xf0000000) >>> 0;
    const aHi = this.u32(VP.FA + 4);
    const bLo = this.u32(VP.FB);
    const bHi = this.u32(VP.FB + 4);
    let lo: number;
    let hi: number;
    let carry: boolean;
    let overflow: number;
    if (kind === 0) {
      lo = aLo - bLo;
      hi = aHi - bHi - (lo < 0 ? 1 : 0);
      carry = hi >= 0;
      overflow = (aHi ^ bHi) & (aHi ^ hi);
    } else {
      lo = aLo + bLo;
      hi = aHi + bHi + (lo > 0xffffffff ? 1 : 0);
      carry = hi > 0xffffffff;
      overflow = (aHi ^ hi) & (bHi ^ hi);
    }
    const zero = (lo | 0) === 0 && (hi | 0) === 0;
    return ((hi & 0x80000000) | (zero ? 0x40000000 : 0) | (carry ? 0x20000000 : 0) | ((overflow >>> 31) << 28)) >>> 0;
  }
  set nzcv(v: number) {
    this.setU32(VP.FA, v & 0xf0000000);
    this.setU32(VP.FA + 4, 0);
    this.setU32(VP.FB, 0);
    this.setU32(VP.FB + 4, 0);
    this.setU32(VP.FK, 2);
  }

  /** PSTATE with NZCV, as SPSR_EL1 would hold it. */
  get pstate(): number {
    return (this.u32(VP.PSTATE) | this.nzcv) >>> 0;
  }
}
