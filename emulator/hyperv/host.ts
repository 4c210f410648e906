/** What the hypervisor's parts need from the machine around them; `machine.ts` provides it. */
import type { Clock } from '../base/clock.ts';
import type { Trace } from '../base/trace.ts';
import type { Ram } from '../memory/ram.ts';

/** General registers of the VP that made a call. */
export interface GeneralRegisters {
  x(n: number): bigint;
  setX(n: number, value: bigint): void;
}

/** Registers of any VP by their architectural names (`X0`, `SP_EL0`, `TTBR1_EL1`, `PC`, ...), for HvCallGet/SetVpRegisters. */
export interface ArchitecturalRegisters {
  /** undefined: no such register. 128-bit for Q registers. */
  read(vp: number, name: string): bigint | undefined;
  /** False: no such register or not writable. */
  write(vp: number, name: string, value: bigint): boolean;
}

export interface InterruptSink {
  /** The PPI or SGI becomes pending once (edge) on this VP. */
  pulsePpi(vp: number, intid: number): void;
}

export interface HypervisorHost {
  readonly ram: Ram;
  readonly clock: Clock;
  readonly trace: Trace;
  readonly interrupts: InterruptSink;
  readonly registers: ArchitecturalRegisters;
  readonly vpCount: number;
  /** Frequency of CNTVCT_EL0 in Hz. */
  readonly counterFrequency: number;
  /** CNTVCT_EL0 now. */
  counter(): bigint;
  /** Forgets cached translations of one VP (the guest flushed by hypercall). Left out: nothing is cached. */
  flushTlb?(vp: number): void;
  /** VP `vp` waits for an interrupt, as by WFI. Left out: there is nothing to wait. */
  idle?(vp: number): void;
  /** Starts a VP that is off at `pc`, as after reset but for `registers`. False: it is not off. Left out: none is. */
  startVp?(vp: number, pc: bigint, registers: Readonly<Record<string, bigint>>): boolean;
  /** GPA of VP `vp`'s redistributor. Left out: 0. */
  redistributor?(vp: number): number;
  /** Nanoseconds VP `vp` has executed. Left out: all retired instructions count for every VP. */
  runtime?(vp: number): number;
}
