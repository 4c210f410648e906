/** What a Linux guest was doing, for a report: its tasks with their stacks, and the end of its log. */
import type { GuestKernel } from './kernel.ts';
import { KernelObjects } from './objects.ts';
import { readLog, timeText } from './printk.ts';
import { readTasks, type Task, taskStack } from './tasks.ts';
import { frameName } from './unwind.ts';

const LOG_LINES = 100;
const FRAMES = 32;

export interface LinuxSummary {
  release?: string;
  tasks: { pid: number; name: string; state: string; vp?: number; stack: string[] }[];
  /** The newest records of the log. */
  log: string[];
}

/** Undefined when no Linux was found. */
export function summarize(kernel: GuestKernel): LinuxSummary | undefined {
  const { machine, image } = kernel;
  if (!image) return undefined;
  const on = Array.from({ length: machine.vpCount }, (_, vp) => vp).find((vp) => machine.vpState(vp) !== 'off') ?? 0;
  kernel.refreshModules(on);
  const objects = new KernelObjects(kernel, on);
  const task = (t: Task): LinuxSummary['tasks'][number] => ({
    pid: t.pid,
    name: t.comm,
    state: t.state,
    ...(t.vp === undefined ? {} : { vp: t.vp }),
    stack: taskStack(objects, t.address, t.vp)
      .frames.slice(0, FRAMES)
      .map((f) => frameName(f, kernel.symbols)),
  });
  return {
    ...(image.release === undefined ? {} : { release: image.release }),
    tasks: (readTasks(objects) ?? []).flatMap((p) => [p, ...p.threads]).map(task),
    log: (readLog(objects, LOG_LINES)?.records ?? []).map((r) => `${timeText(r.time)} ${r.text}`),
  };
}
