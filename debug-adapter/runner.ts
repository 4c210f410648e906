/**
 * Runs the machine in slices, so that requests and pause get in between them, and decides at the end of each whether the guest
 * goes on. The only place that calls `machine.run`.
 */
import type { Exit, HypercallInfo, Machine } from '../emulator/index.ts';
import type { GuestKernel } from './linux/kernel.ts';
import { ProcessMemory } from './process-memory.ts';

/** What goes on when a plan is done, and on which VP that was; undefined: the guest stops. */
type Next = (vp: number) => Plan | undefined;

/** What the user asked the guest to do. With `alone` other VPs stand still. */
export type Plan =
  | { kind: 'continue'; alone?: number }
  /**
   * One instruction of one VP. With `over`, where it is now: an interrupt that comes first runs to its end. `fault`: what to do when the
   * instruction itself raises an exception, and may not be come back to; without, the step ends at the vector.
   */
  | { kind: 'step'; vp: number; alone?: boolean; over?: Where; fault?: Next; next?: Next }
  /** Until a VP is at one of `places` and `arrived` says that it is the one that is meant: over a call, or out of a function. */
  | {
      kind: 'to';
      vp: number;
      alone?: boolean;
      places: readonly bigint[];
      arrived: (vp: number, pc: bigint) => boolean;
      next?: Next;
    };

/** A place on a stack. */
export interface Where {
  pc: bigint;
  sp: bigint;
  /** Says whether a VP runs the same thing: code may run for others meanwhile, and a task may move to another VP. Without: the same VP. */
  same?: (vp: number) => boolean;
}

/** Stacks are smaller, and further apart: THREAD_SIZE with 64 KiB pages (arch/arm64/include/asm/memory.h). */
const MAX_STACK = 64n << 10n;

/** Is SP `sp`, or above it on the same stack? Below it are deeper calls and interrupts; the handler's own stack is elsewhere. */
export const isBack = (now: bigint, sp: bigint): boolean => now >= sp && now - sp < MAX_STACK;

/** A plan: until `vp`, or who runs there now, is at a place with its stack pointer back. */
export function until(machine: Machine, vp: number, { pc, sp, same }: Where, more: { alone?: boolean; next?: Next } = {}): Plan {
  const arrived = (v: number): boolean => isBack(machine.readRegister(v, 'sp') ?? 0n, sp) && (same ? same(v) : v === vp);
  return { kind: 'to', vp, places: [pc], arrived, ...more };
}

/** Why the guest has stopped. */
export type StopReason = { kind: 'exit'; exit: Exit } | { kind: 'pause'; vp?: number } | { kind: 'entry' };

export interface RunnerHost {
  /** A hypercall is about to happen or has happened: stop? Undefined when nobody asks. */
  hypercall: ((call: HypercallInfo) => boolean) | undefined;
  /** True when a user's breakpoint at this place stops. */
  breakpoint(exit: Extract<Exit, { kind: 'breakpoint' }>): boolean;
  /** True when a data breakpoint that was hit stops. */
  watchpoint(exit: Extract<Exit, { kind: 'watchpoint' }>): boolean;
  /** Places breakpoints of ours, for the plan that goes on now, instead of those of the last one. */
  place(places: readonly bigint[]): void;
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
 * What a VP that was at `pc` has done instead of executing there: it has taken an interrupt (it is in an IRQ, FIQ or SError vector, 0x080,
 * 0x100 and 0x180 of the four groups, Arm ARM D1.3.1.5), or the instruction has raised an exception.
 */
function diverted(machine: Machine, vp: number, pc: bigint): 'interrupt' | 'fault' | undefined {
  const read = (name: string) => machine.readRegister(vp, name) ?? 0n;
  const offset = read('pc') - read('VBAR_EL1');
  if (offset < 0n || offset >= 0x800n || read('ELR_EL1') !== pc) return undefined;
  return (offset & 0x180n) === 0n ? 'fault' : 'interrupt';
}

export class Runner {
  readonly #machine: Machine;
  readonly #kernel: GuestKernel;
  readonly #host: RunnerHost;
  readonly #memory = new ProcessMemory();
  #plan: Plan | undefined;
  #resumeVp: number | undefined;
  /** VPs that are at a breakpoint which did not stop them, while another one steps. */
  readonly #passing = new Set<number>();
  #pause: { vp?: number } | undefined;
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
    this.#passing.clear();
    this.#pause = undefined;
    this.#schedule(0);
  }

  /** Stops the guest at the end of this slice, and shows `vp`, or the one that steps. False: it does not run. */
  pause(vp?: number): boolean {
    if (!this.#plan) return false;
    this.#pause = vp === undefined ? {} : { vp };
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
      this.#stop({ kind: 'pause', ...(plan.kind === 'continue' ? this.#pause : { vp: plan.vp }) });
      return;
    }
    const machine = this.#machine;
    const before = { now: machine.now, instructions: machine.instructions };
    const started = performance.now();
    const only = plan.kind === 'continue' ? plan.alone : plan.alone ? plan.vp : undefined;
    let exit = machine.run({
      instructions: this.#slice,
      nanoseconds: SLICE_NS,
      hypercall: this.#host.hypercall,
      resumeVp: this.#resumeVp,
      ...(plan.kind === 'step' ? { stepVp: plan.vp } : {}),
      ...(only === undefined ? {} : { onlyVp: only }),
    });
    if (exit.kind === 'step' && plan.kind === 'step' && !plan.alone) exit = this.#stepOthers(plan.vp) ?? exit;
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
    if (exit.kind === 'step' && plan.kind === 'step' && plan.over) {
      const why = diverted(this.#machine, plan.vp, plan.over.pc);
      const { alone, over } = plan;
      if (why === 'interrupt') {
        this.#follow(until(this.#machine, plan.vp, over, { alone, next: (vp) => ({ ...plan, vp }) }));
        return undefined;
      }
      if (why === 'fault' && this.#goesOn(plan.fault, plan.vp)) return undefined;
    }
    if (exit.kind === 'step' && plan.kind === 'step' && exit.vp === plan.vp && this.#goesOn(plan.next, plan.vp)) return undefined;
    if (exit.kind === 'watchpoint') return this.#host.watchpoint(exit) ? exit : undefined;
    if (exit.kind !== 'breakpoint') return exit;
    const { vp, pc } = exit;
    // Of a step by lines: the user's own breakpoint is on the way.
    if (plan.kind === 'step' && this.#host.breakpoint(exit)) return exit;
    const arrived = plan.kind === 'to' && plan.places.includes(pc) && plan.arrived(vp, pc);
    if (!arrived) return this.#host.breakpoint(exit) ? exit : undefined;
    if (!this.#goesOn(plan.next, vp)) return { kind: 'step', vp };
    // The user's own breakpoint is here, too.
    return this.#host.breakpoint(exit) ? exit : undefined;
  }

  /** Asks a plan that is done how to go on; false: not at all. */
  #goesOn(next: Next | undefined, vp: number): boolean {
    const plan = next?.(vp);
    if (plan) this.#follow(plan);
    return plan !== undefined;
  }

  #follow(plan: Plan): void {
    if (plan.kind === 'to') this.#host.place(plan.places);
    this.#plan = plan;
  }

  /** While a VP steps the others go on as fast as it does. The exit of one of them that stops the guest. */
  #stepOthers(stepping: number): Exit | undefined {
    const machine = this.#machine;
    for (let vp = 0; vp < machine.vpCount; vp++) {
      if (vp === stepping || machine.vpState(vp) !== 'running') continue;
      const resumeVp = this.#passing.delete(vp) ? vp : undefined;
      const exit = machine.run({ instructions: 1, hypercall: this.#host.hypercall, resumeVp, stepVp: vp, onlyVp: vp });
      this.#kernel.absorb(exit);
      if (exit.kind === 'breakpoint' && !this.#host.breakpoint(exit)) this.#passing.add(vp);
      else if (exit.kind === 'watchpoint' ? this.#host.watchpoint(exit) : !QUIET.has(exit.kind)) return exit;
      else if (exit.kind === 'crash' && this.#host.stopOnCrash) return exit;
    }
    return undefined;
  }
}

/** Exits of one instruction after which nobody asks for more. */
const QUIET: ReadonlySet<Exit['kind']> = new Set(['step', 'limit', 'halted', 'crash']);
