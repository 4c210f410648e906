/**
 * The wasm memory below RAM: the CPU's own tables. Generated code uses these addresses as constants.
 *
 *   0x0100     cells between generated code and cpu.ts
 *   WINDOW     the running VP (vp-state.ts)
 *   BOUNCE     bytes of one access that must not go straight to RAM
 *   TLBS       per VP: data TLBs of three regimes, code TLBs of two exception levels
 *   BLOCKS     immediates of instructions that do not fit in their record
 *   SHADOWS    instructions that breakpoints are on (breakpoints.ts)
 *   RECORDS    predecoded instructions, per physical page
 *   GUARDED_SHADOWS  the same as SHADOWS, of guarded pages
 *   ARRIVALS   what is known of each record as a target of branches: how often, or its region
 *   REGION_TABLES  targets of jumps in regions
 *   COUNTERS   hit counts of breakpoints
 *   BELOW_RAM  guest physical address 0
 */
import type { ExitKind } from './builder.ts';

/** Cells. REM is in units of `RECORD` bytes: the instructions that may still run, times 32. */
export const CELL = {
  /** i64: address of the access that left generated code. */
  VA: 0x100,
  /** i32: what access, see `accessInfo`. */
  INFO: 0x108,
  /** i32: record to run, or where the run ended. */
  REC: 0x10c,
  REM: 0x110,
  /** i32: the running VP's part of `TLBS`. */
  TLB: 0x114,
  /** i64: virtual time, in ns, at which REM would be used up. */
  TIME_END: 0x400,
  /** i32 each: memory accesses and branches that have retired, counted by `runCounting` (and cold handlers). */
  ACCESSES: 0x14c,
  BRANCHES: 0x150,
  /** For statistics: i64 instructions that regions executed (in units of REM); i64 each: how often they were left, by `LEFT`. */
  REGION_WORK: 0x118,
  REGION_LEFT: 0x120,
  /** i32: REM after the last jump that sets PSTATE.BTYPE, plus its `LANDING` (branch-targets.ts). */
  JUMP: 0x140,
  /** i32: records of guarded pages are at this address and above. */
  GUARDED: 0x144,
  /** i32: 1 while an access that cpu.ts has let pass is misaligned for what it is. */
  MISALIGNED: 0x148,
  /** i64: conditions of breakpoints and watchpoints that generated code has evaluated. */
  EVALUATIONS: 0x158,
  /** i32 each, a bit per clause of the filter that was evaluated last: those that stop, those that have counted a hit (breakpoints.ts). */
  MATCHED: 0x160,
  COUNTED: 0x164,
  /** i32: how many of `WATCHES` there are. */
  WATCHED: 0x168,
} as const;

export const BOUNCE = 0x3000;
/** Largest access of one instruction: DC ZVA, LD4. */
export const MAX_ACCESS = 64;

export const MAX_VPS = 64;

/** Stretches of virtual memory of which writes are watched: i64 first address, i64 address behind the last. */
export const WATCHES = 0x410;
export const WATCH = 16;
export const MAX_WATCHES = 16;

/**
 * Data TLB entry: i64 tag of the page for reads, i64 for writes, i32 addend (wasm address - virtual address, modulo 2^32), and at `WATCH` the
 * i64 tag for writes that `run` lets through if they touch none of `WATCHES`.
 * A tag is a virtual page address; `EMPTY_TAG` (all ones) matches no page because its low bits are set.
 */
export const TLB_ENTRIES = 1024;
export const TLB_ENTRY = 32;
export const TLB = { READ: 0, WRITE: 8, ADDEND: 16, WATCH: 24 } as const;
export const DATA_TLB = TLB_ENTRIES * TLB_ENTRY;
export const REGIMES = 3;

/** Code TLB entry: i64 tag, i32 address of the page's records. */
export const CODE_ENTRIES = 1024;
export const CODE_ENTRY = 16;
export const CODE_TLB = CODE_ENTRIES * CODE_ENTRY;
export const CODE_TLB_OFFSET = REGIMES * DATA_TLB;
/** TLBs of one VP. */
export const TLB_SET = CODE_TLB_OFFSET + 2 * CODE_TLB;

export const TLBS = 0x10000;

export const BLOCKS = TLBS + MAX_VPS * TLB_SET;
export const BLOCKS_SIZE = 4 << 20;

/**
 * Record of one instruction: u16 handler, five u16 register addresses, then
 * - i32 at `AUX`: of a branch its distance (in record bytes when it stays in the page, else in bytes), else an immediate
 *   or the address of further immediates in `BLOCKS`,
 * - 16 bytes of immediates.
 * A page has 1024 and a sentinel that goes on to the next page. All zero is handler 0: not decoded yet.
 */
export const RECORD = 32;
export const RECORD_SHIFT = 5;
export const AUX = 12;
export const IMM = 16;
export const PAGE_RECORDS = 1024;
export const PAGE_STRIDE = (PAGE_RECORDS + 1) * RECORD;

/**
 * A shadow is the record of one instruction and a sentinel. Those of guarded pages lie above `CELL.GUARDED`, the others below, as the
 * records that they stand for do.
 */
export const SHADOW = 2 * RECORD;
export const SHADOW_COUNT = 4096;
export const SHADOWS = BLOCKS + BLOCKS_SIZE;

export const RECORDS = SHADOWS + SHADOW_COUNT * SHADOW;
export const RECORD_SLOTS = 3072;
export const GUARDED_SHADOWS = RECORDS + RECORD_SLOTS * PAGE_STRIDE;
const RECORDS_END = GUARDED_SHADOWS + SHADOW_COUNT * SHADOW;

/**
 * An i32 per record, at `(record >>> 3) + ARRIVALS_BIAS`: how often a taken branch came here, or `REGION` + where the region is in
 * the translator's table (`<< REGION_SHIFT`) + the number of the entry. Negative: not to be looked at for a while.
 */
export const ARRIVALS = RECORDS_END;
export const ARRIVALS_SIZE = (RECORDS_END - SHADOWS) / 8;
export const ARRIVALS_BIAS = ARRIVALS - SHADOWS / 8;
export const REGION = 0x40000000;
export const REGION_SHIFT = 8;

/** Entries of regions by distance from their first page: i32 distance, i32 number. */
export const REGION_TABLES = ARRIVALS + ARRIVALS_SIZE;
export const REGION_TABLES_SIZE = 1 << 20;

/** An i64 each. */
export const COUNTERS = REGION_TABLES + REGION_TABLES_SIZE;
export const COUNTER_COUNT = 4096;

/** Where RAM begins: what `Ram` is made with. */
export const BELOW_RAM = (COUNTERS + COUNTER_COUNT * 8 + 0xffff) & ~0xffff;

/**
 * An access as an i32: bytes (7 bits), read/write, log2 of the required alignment, ordered, EL0's rights, an element's size. Element 0:
 * nothing is transferred (cache maintenance).
 */
export const accessInfo = (
  size: number,
  access: 'r' | 'w' | 'rw',
  align: number,
  ordered: boolean,
  unprivileged: boolean,
  element: number,
): number =>
  size |
  (access === 'r' ? 0 : access === 'w' ? 0x80 : 0x100) |
  (Math.log2(align) << 9) |
  (ordered ? 0x1000 : 0) |
  (unprivileged ? 0x2000 : 0) |
  (element << 14);
export const INFO_SIZE = 0x7f;
export const INFO_WRITES = 0x180;
export const INFO_ALIGN_SHIFT = 9;
export const INFO_UNPRIVILEGED = 0x2000;
export const INFO_ELEMENT_SHIFT = 14;
export const infoSize = (info: number): number => info & INFO_SIZE;
export const infoWrites = (info: number): boolean => (info & INFO_WRITES) !== 0;
export const infoReads = (info: number): boolean => (info & 0x80) === 0;
export const infoAlign = (info: number): number => 1 << ((info >>> INFO_ALIGN_SHIFT) & 7);
export const infoOrdered = (info: number): boolean => (info & 0x1000) !== 0;
export const infoUnprivileged = (info: number): boolean => (info & INFO_UNPRIVILEGED) !== 0;
export const infoElement = (info: number): number => info >>> INFO_ELEMENT_SHIFT;

/** Why `run` returned. PC, flags, `CELL.REC` and `CELL.REM` are stored. */
export const EXIT = {
  /** Only between a cold handler and `run`: go on with the next record. */
  NEXT: 0,
  COLD: 1,
  /** The budget is (nearly) used up. */
  BUDGET: 2,
  /** The record at REC is empty. */
  UNDECODED: 3,
  BREAKPOINT: 4,
  /** PC is the target of a retired branch whose page is not in the code TLB. */
  JUMP: 5,
  /** A memory access was not in the data TLB, or is misaligned: `CELL.VA`, `CELL.INFO`. */
  MISS: 6,
  FP_TRAP: 7,
  /** PC and REC are where a taken branch went, and that has a region or has become worth one. */
  ARRIVED: 8,
  /** Only between a cold handler and `run`: nothing has retired, go on with the record at REC. */
  PASS: 9,
} as const;
/** Exit codes from here on are the rows' exit kinds, in this order. */
export const FIRST_KIND = 10;
export const EXIT_KINDS: readonly ExitKind[] = [
  'undef',
  'svc',
  'hvc',
  'smc',
  'brk',
  'hlt',
  'eret',
  'mrs',
  'msr',
  'msr-imm',
  'sys',
  'wfi',
  'wfe',
  'sev',
  'yield',
  'pac-fail',
  'irq-check',
];
export const kindCode = (kind: ExitKind): number => FIRST_KIND + EXIT_KINDS.indexOf(kind);
