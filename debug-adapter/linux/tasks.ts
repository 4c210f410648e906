/** The guest's tasks: what they are called, what they do, and where those that sleep sleep. */
import { walkStack } from './callers.ts';
import { currentTask } from './current.ts';
import { isKernelAddress, type KernelObjects, MAX_ELEMENTS } from './objects.ts';
import { type Frame, lookupPc, type Stack, unwind } from './unwind.ts';
import { initTask } from './variables.ts';

export interface Task {
  /** Of its struct task_struct. */
  address: bigint;
  /** Number of the thread, and of its process: the pid of user space (`tgid`). */
  pid: number;
  tgid: number;
  comm: string;
  /** What ps calls it: R, S, D ... */
  letter: string;
  /** The state in words. */
  state: string;
  /** Runs in the kernel only. */
  kernel: boolean;
  /** Which VP runs it now. */
  vp?: number;
}

export interface Process extends Task {
  /** Its other threads. */
  threads: Task[];
}

/** include/linux/sched.h: PF_KTHREAD, the same since 2.6.28. */
const PF_KTHREAD = 0x20_0000n;

/**
 * Bits of `__state` and `exit_state` (include/linux/sched.h). First the combinations that have names of their own, then single bits, the
 * most telling first.
 */
const STATES: readonly (readonly [mask: bigint, letter: string, words: string])[] = [
  [0x402n, 'I', 'idle'],
  [0x102n, 'D', 'sleeps, until woken or killed'],
  [0x20n, 'Z', 'zombie: has ended, its parent has not asked'],
  [0x10n, 'X', 'is being removed'],
  [0x80n, 'X', 'has ended'],
  [0x8n, 't', 'stopped by a tracer'],
  [0x4n, 'T', 'stopped by a signal'],
  [0x40n, 'P', 'parked'],
  [0x8000n, 'D', 'frozen'],
  [0x2n, 'D', 'sleeps, cannot be interrupted'],
  [0x1000n, 'D', 'waits for a lock (RT)'],
  [0x1n, 'S', 'sleeps'],
  [0x200n, 'W', 'is waking up'],
  [0x800n, 'R', 'new: has not run yet'],
];

function stateOf(state: bigint | undefined, runs: boolean): { letter: string; state: string } {
  if (state === undefined) return { letter: '?', state: 'its state cannot be read' };
  if (runs && state === 0n) return { letter: 'R', state: 'runs' };
  if (state === 0n) return { letter: 'R', state: 'ready to run' };
  const row = STATES.find(([mask]) => (state & mask) === mask);
  if (!row) return { letter: '?', state: `state 0x${state.toString(16)}` };
  return { letter: row[1], state: runs ? `runs; its next state: ${row[2]}` : row[2] };
}

/** The VPs by the tasks that they run. */
export function runningTasks(objects: KernelObjects): Map<bigint, number> {
  const { kernel } = objects;
  const out = new Map<bigint, number>();
  for (let vp = 0; vp < kernel.machine.vpCount; vp++) {
    const task = kernel.machine.vpState(vp) === 'off' ? undefined : currentTask(kernel, vp);
    if (task !== undefined) out.set(task, vp);
  }
  return out;
}

/** The name of a kernel thread that is too long for `comm` (kernel/kthread.c, struct kthread, since 5.17). */
function fullName(objects: KernelObjects, task: bigint): string | undefined {
  const thread = objects.pointer(task, 'task_struct', 'worker_private');
  return thread === undefined ? undefined : objects.text(thread, 'kthread', 'full_name');
}

/** The task at an address; undefined when none can be there. */
export function taskAt(objects: KernelObjects, address: bigint, running = runningTasks(objects)): Task | undefined {
  const pid = objects.number(address, 'task_struct', 'pid');
  const flags = objects.number(address, 'task_struct', 'flags') ?? 0n;
  const isKernel = (flags & PF_KTHREAD) !== 0n;
  const comm = (isKernel ? fullName(objects, address) : undefined) ?? objects.text(address, 'task_struct', 'comm');
  if (pid === undefined || comm === undefined) return undefined;
  const vp = running.get(address);
  const exit = objects.number(address, 'task_struct', 'exit_state') ?? 0n;
  const own = objects.number(address, 'task_struct', '__state', 'state');
  return {
    address,
    pid: Number(pid),
    tgid: Number(objects.number(address, 'task_struct', 'tgid') ?? pid),
    comm,
    ...stateOf(own === undefined ? undefined : own | exit, vp !== undefined),
    kernel: isKernel,
    ...(vp === undefined ? {} : { vp }),
  };
}

/** All tasks, by process. Undefined when the kernel's first task is not known (yet). */
export function readTasks(objects: KernelObjects): Process[] | undefined {
  const first = initTask(objects);
  const tasks = first === undefined ? undefined : objects.at(first, 'task_struct', 'tasks');
  if (first === undefined || tasks === undefined) return undefined;
  const running = runningTasks(objects);
  const seen = new Set<bigint>();
  const out: Process[] = [];
  for (const leader of [first, ...objects.list(tasks, 'task_struct', 'tasks')]) {
    const task = seen.has(leader) ? undefined : taskAt(objects, leader, running);
    if (!task) continue;
    seen.add(leader);
    const threads: Task[] = [];
    const signal = objects.pointer(leader, 'task_struct', 'signal');
    const head = signal === undefined ? undefined : objects.at(signal, 'signal_struct', 'thread_head');
    for (const address of head === undefined ? [] : objects.list(head, 'task_struct', 'thread_node')) {
      if (seen.size > MAX_ELEMENTS) break;
      const thread = seen.has(address) ? undefined : taskAt(objects, address, running);
      seen.add(address);
      if (thread) threads.push(thread);
    }
    out.push({ ...task, threads });
  }
  // A VP's idle task is in no list.
  for (const [address, vp] of running) {
    const task = seen.has(address) ? undefined : taskAt(objects, address, running);
    if (task?.pid === 0) out.push({ ...task, vp, threads: [] });
  }
  return out.sort((a, b) => a.pid - b.pid);
}

/** arch/arm64/include/asm/processor.h: struct cpu_context {x19 ... x28, fp, sp, pc}, which cpu_switch_to fills. */
const SAVED = Array.from({ length: 10 }, (_, i) => `x${19 + i}`);

/**
 * The stack of a task: of one that runs as its VP's registers tell, of one that sleeps from what cpu_switch_to saved.
 */
export function taskStack(objects: KernelObjects, address: bigint, vp = runningTasks(objects).get(address)): Stack {
  const { kernel } = objects;
  if (vp !== undefined) return walkStack(kernel, vp);
  const saved = (name: string) => objects.number(address, 'task_struct', `thread.cpu_context.${name}`);
  const pc = saved('pc');
  const sp = saved('sp');
  const fp = saved('fp');
  if (!isKernelAddress(pc) || sp === undefined || fp === undefined)
    return { frames: [], broken: 'what the task has saved cannot be read' };
  if (kernel.symbols.at(pc)?.offset === 0) return { frames: [], broken: 'the task has not run yet' };
  const x: (bigint | undefined)[] = new Array(31).fill(undefined);
  for (const name of SAVED) x[Number(name.slice(1))] = saved(name);
  x[29] = fp;
  const { symbols, rules } = kernel;
  const { read } = objects;
  return unwind({ pc, sp, x, asleep: true }, { read, symbols, vaBits: kernel.vaBits(objects.vp), rules });
}

/** Functions that only put a task to sleep, where the kernel does not say which these are. */
const SLEEPING =
  /^(__switch_to|__schedule|schedule|schedule_\w+|preempt_schedule\w*|io_schedule\w*|wait_for_completion\w*|__cond_resched)$/;

/** The innermost frame of a task that is none of the scheduler's own functions (as get_wchan does, kernel/sched/core.c). */
export function sleepsIn(objects: KernelObjects, frames: readonly Frame[]): Frame | undefined {
  const { symbols } = objects.kernel;
  const start = symbols.address('__sched_text_start');
  const end = symbols.address('__sched_text_end');
  return frames.find((frame) => {
    const pc = lookupPc(frame);
    if (start !== undefined && end !== undefined && pc >= start && pc < end) return false;
    const name = symbols.at(pc)?.symbol.name;
    return name !== undefined && !SLEEPING.test(name.replace(/\..*$/, ''));
  });
}
