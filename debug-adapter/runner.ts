/**
 * Runs the machine in slices, so that requests and pause get in between them, and decides at the end of each whether the guest
 * goes on. The only place that calls `machine.run`.
 */
import type { Exit, HypercallInfo, Machine } from '../emulator/index.ts';
import type { GuestKernel } from './linux/kernel.ts';
import { ProcessMemory } from './process-memory.ts';

/** What the user asked the guest to do. */
export type Plan =
  | { kind: 'continue' }
  /**
   * One instruction of one VP. With `over`, where it is now: an interrupt that comes first runs to its end. `next` is asked when it is done
   * how to go on; undefined: the guest stops.
   */
  | { kind: 'step'; vp: number; over?: { pc: bigint; sp: bigint }; next?: () => Plan | undefined }
  /**
   * Until this VP gets to `pc` with its stack pointer at or above `sp`: over a call, or out of a function. With `task`, what SP_EL0 has to
   * hold there (Linux: `current`): the same code may run for others meanwhile, and the task may move to another VP.
   */
  | { kind: 'to'; vp: number; pc: bigint; sp: bigint; task?: bigint; next?: () => Plan | undefined };

/** Why the guest has stopped. */
export type StopReason = { kind: 'exit'; exit: Exit } | { kind: 'pause' } | { kind: 'entry' };

export interface RunnerHost {
  /** A hypercall is about to happen or has happened: stop? Undefined when nobody asks. */
  hypercall: ((call: HypercallInfo) => boolean) | undefined;
  /** True when a user's breakpoint at this place stops. */
  breakpoint(vp: number, pc: bigint): boolean;
  /** True when a data breakpoint that was hit stops. */
  watchpoint(exit: Extract<Exit, { kind: 'watchpoint' }>): boolean;
  /** Places a breakpoint of ours, for the plan that goes on now. */
  place(pc: bigint): void;
  /** True when the guest stops for its own crash report. */
  stopOnCrash: boolean;
  /** After every slice. */
  sliced(): void;
  stopped(reason: StopReason): void;
  /** An end that nothing can follow. */
  ended(exit: Exit): void;
  /** The machine has thrown: a mistake of ours, after which its state means nothing. */
  failed(error: unknown): void;
}

/** A slice takes about this long on the host, so that a pause is felt at once. */
const SLICE_MS = 10;
const SLICE = { first: 200_000, least: 20_000, most: 20_000_000 };
/** Virtual time of a slice, so that an idle guest does not run through the years; and how long the host then rests. */
const SLICE_NS = 20_000_000;
const REST_MS = 8;
/** All VPs wait for something from outside: how often to look whether it has come. */
const HALTED_MS = 100;

/**
 * True when a VP that was at `pc` has taken an interrupt instead of executing there: it is in an IRQ, FIQ or SError vector, 0x080,
 * 0x100 and 0x180 of the four groups (Arm ARM D1.3.1.5). Not so for a fault of the instruction, which may never come back.
 */
function interruptedAt(machine: Machine, vp: number, pc: bigint): boolean {
  const read = (name: string) => machine.readRegister(vp, name) ?? 0n;
  const offset = read('pc') - read('VBAR_EL1');
  return offset >= 0n && offset < 0x800n && (offset & 0x180n) !== 0n && read('ELR_EL1') === pc;
}

export class Runner {
  readonly #machine: Machine;
  readonly #kernel: GuestKernel;
  readonly #host: RunnerHost;
  readonly #memory = new ProcessMemory();
  #plan: Plan | undefined;
  #resumeVp: number | undefined;
  #pause = false;
  #slice = SLICE.first;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  #over = false;
  /** Host milliseconds spent in the machine. */
  hostMs = 0;

  constructor(machine: Machine, kernel: GuestKernel, host: RunnerHost) {
    this.#machine = machine;
    this.#kernel = kernel;
    this.#host = host;
  }

  get running(): boolean {
    return this.#plan !== undefined;
  }

  /** The guest has powered off or reset, or the session is over. */
  get over(): boolean {
    return this.#over;
  }

  /** Goes on with `plan`. `stoppedVp` is where the last stop was: what stopped it there does not stop it again. */
  start(plan: Plan, stoppedVp: number | undefined): void {
    if (this.#plan || this.#over) return;
    this.#plan = plan;
    // A VP that steps passes over a breakpoint at its own place, wherever the last stop was.
    this.#resumeVp = plan.kind === 'continue' ? stoppedVp : plan.vp;
    this.#pause = false;
    this.#schedule(0);
  }

  /** Stops the guest at the end of this slice. False: it does not run. */
  pause(): boolean {
    if (!this.#plan) return false;
    this.#pause = true;
    this.wake();
    return true;
  }

  /** Something from outside may have ended an idle guest's wait. */
  wake(): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#schedule(0);
  }

  /** No more slices. */
  end(): void {
    this.#over = true;
    this.#plan = undefined;
    if (this.#timer) clearTimeout(this.#timer);
    if (this.#immediate) clearImmediate(this.#immediate);
    this.#timer = this.#immediate = undefined;
  }

  #schedule(ms: number): void {
    if (ms > 0) {
      this.#timer = setTimeout(() => {
        this.#timer = undefined;
        this.#guarded();
      }, ms);
    } else this.#immediate = setImmediate(() => this.#guarded());
  }

  #guarded(): void {
    try {
      this.#run();
    } catch (error) {
      this.end();
      this.#host.failed(error);
    }
  }

  #stop(reason: StopReason): void {
    this.#plan = undefined;
    this.#host.stopped(reason);
  }

  #run(): void {
    this.#immediate = undefined;
    const plan = this.#plan;
    if (!plan) return;
    if (this.#pause) {
      this.#stop({ kind: 'pause' });
      return;
    }
    const machine = this.#machine;
    const before = { now: machine.now, instructions: machine.instructions };
    const started = performance.now();
    const exit = machine.run({
      instructions: this.#slice,
      nanoseconds: SLICE_NS,
      hypercall: this.#host.hypercall,
      resumeVp: this.#resumeVp,
      ...(plan.kind === 'step' ? { stepVp: plan.vp } : {}),
    });
    const took = performance.now() - started;
    this.hostMs += took;
    if (exit.kind === 'limit')
      this.#slice = Math.min(SLICE.most, Math.max(SLICE.least, ((this.#slice * SLICE_MS) / Math.max(took, 1)) | 0));
    this.#resumeVp = exit.kind === 'breakpoint' || exit.kind === 'hypercall' || exit.kind === 'crash' ? exit.vp : undefined;
    // A breakpoint of the kernel finder is none of the user's: `breakpoint` below says no to it.
    this.#kernel.absorb(exit);
    this.#kernel.poll();
    this.#host.sliced();
    if (this.#over || !this.#plan) return;
    this.#memory.tidy(machine);
    const idle = machine.now - before.now - (machine.instructions - before.instructions);
    if (exit.kind === 'power-off' || exit.kind === 'reset') {
      this.end();
      this.#host.ended(exit);
    } else if (exit.kind === 'limit') {
      // A guest that mostly waits is not worth a whole host CPU.
      this.#schedule(idle > SLICE_NS * 0.9 ? REST_MS : 0);
    } else if (exit.kind === 'halted') this.#schedule(HALTED_MS);
    else {
      const stop = this.#stopFor(exit, plan);
      if (stop) this.#stop({ kind: 'exit', exit: stop });
      else this.#schedule(0);
    }
  }

  /** The exit to report when the guest stops for this one; undefined when it goes on. */
  #stopFor(exit: Exit, plan: Plan): Exit | undefined {
    if (exit.kind === 'crash') return this.#host.stopOnCrash ? exit : undefined;
    if (exit.kind === 'step' && plan.kind === 'step' && plan.over && interruptedAt(this.#machine, plan.vp, plan.over.pc)) {
      this.#host.place(plan.over.pc);
      this.#plan = { kind: 'to', vp: plan.vp, ...plan.over, next: () => plan };
      return undefined;
    }
    if (exit.kind === 'step' && plan.kind === 'step' && this.#goesOn(plan.next)) return undefined;
    if (exit.kind === 'watchpoint') return this.#host.watchpoint(exit) ? exit : undefined;
    if (exit.kind !== 'breakpoint') return exit;
    const { vp, pc } = exit;
    // Of a step by lines: the user's own breakpoint is on the way.
    if (plan.kind === 'step' && this.#host.breakpoint(vp, pc)) return exit;
    const read = (name: string): bigint => this.#machine.readRegister(vp, name) ?? 0n;
    const arrived =
      plan.kind === 'to' &&
      pc === plan.pc &&
      read('sp') >= plan.sp &&
      (plan.task === undefined ? vp === plan.vp : read('SP_EL0') === plan.task);
    if (!arrived) return this.#host.breakpoint(vp, pc) ? exit : undefined;
    return this.#goesOn(plan.next) ? undefined : { kind: 'step', vp };
  }

  /** Asks a plan that is done how to go on; false: not at all. */
  #goesOn(next: (() => Plan | undefined) | undefined): boolean {
    const plan = next?.();
    if (!plan) return false;
    if (plan.kind === 'to') this.#host.place(plan.pc);
    this.#plan = plan;
    // A VP passes over a breakpoint at its own place.
    if (plan.kind !== 'continue') this.#resumeVp = plan.vp;
    return true;
  }
}
