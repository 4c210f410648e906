/**
 * The seams inside the CPU: who calls what.
 *
 *   cpu.ts (engine: run loop, records, TLBs, exits) -> system.ts (MRS, MSR, SYS) -> sysregs.ts (rows)
 *                                                   -> exceptions.ts (entry, ERET, refresh)
 *                                                   -> mmu.ts (stage 1 walks)
 */
import type { Clock } from '../base/clock.ts';
import type { Trace } from '../base/trace.ts';
import type { Bus } from '../memory/bus.ts';
import type { Feature } from './features.ts';
import type { AddressSpace } from './tlb.ts';

/** What the engine lets TLB maintenance and context changes do. Over-invalidation is always allowed. */
export interface TlbControl {
  /** Forget every cached translation (data and code). */
  flushAll(): void;
  /** Forget translations of the 4 KiB page (or anything larger that covers it) at this virtual address, of one ASID or of all. */
  flushPage(va: bigint, asid?: number): void;
  /** Forget the address spaces of an ASID, or all: the low half and what is not global. */
  flushAddressSpaces(asid?: number): void;
  /** A VP goes from one address space to another. */
  switchAddressSpace(vp: number, from: AddressSpace, to: AddressSpace): void;
  /** A VP's breakpoints or watchpoints have changed: what they ask for is looked up again. */
  debugChanged(): void;
  /** Event counters of the VP that runs are brought up to the instruction that is being executed. */
  syncCounters(vp: number): void;
}

/** System registers that live in devices (GIC CPU interface, generic timer): read and written by their names. */
export interface SystemRegisterPort {
  read(vp: number, name: string): bigint;
  write(vp: number, name: string, value: bigint): void;
}

/** Performance monitors: registers, and what cpu.ts tells and asks them. */
export interface PmuPort extends SystemRegisterPort {
  /** False: nothing of what `vp` executes is counted. */
  isCounting(vp: number): boolean;
  /** Instructions after which a counter overflows that has an interrupt. */
  untilOverflow(vp: number, el: number): number;
  count(vp: number, el: number, instructions: number, accesses: number, branches: number): void;
  /** Something of `vp` counts memory accesses or branches. */
  countsKinds(vp: number): boolean;
}

export interface CpuPorts {
  readonly bus: Bus;
  readonly clock: Clock;
  readonly trace: Trace;
  readonly features: ReadonlySet<Feature>;
  /** Which model's identification registers: a key of the model table in models.ts. */
  readonly model: string;
  readonly vpCount: number;
  /** ICC_* registers. */
  readonly gic: SystemRegisterPort;
  /** CNT* registers. */
  readonly timer: SystemRegisterPort;
  /** Nanoseconds per tick of the counters, if that is a whole number: then generated code reads them by itself. */
  readonly counterPeriod?: number;
  /** PM* registers; left out: they read as zero and count nothing. */
  readonly pmu?: PmuPort;
  /** Seed of RNDR's numbers. */
  readonly seed?: number;
}

/** Result of one stage 1 translation; one object is reused, numbers only. */
export interface Translation {
  /** Physical address of the byte asked for. */
  pa: number;
  /** Device memory: unaligned accesses fault, never entered in the fast TLB. */
  device: boolean;
  /** log2 of the bytes that the page or block maps; 12 with the MMU off. A TLBI for any of them is for all. */
  shift: number;
  /** Also writable / executable by the EL asked for: lets a read miss fill the write tag, too. */
  writable: boolean;
  /** Not of one ASID alone (nG = 0). */
  isGlobal: boolean;
  /** Jumps have to land where they may (FEAT_BTI). */
  guarded: boolean;
  /** Fault status code (DFSC/IFSC, Arm ARM D17.2.37) when translation failed. */
  fsc: number;
}

export const READ = 0;
export const WRITE = 1;
export const EXECUTE = 2;
export type AccessKind = 0 | 1 | 2;

/** What became of an instruction that left generated code. */
export type Outcome =
  | 'next' // retired; continue after it
  | 'jumped' // retired (or took an exception): PC is set
  | 'undef'; // UNDEFINED: the engine takes the exception
