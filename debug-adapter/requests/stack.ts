/** Threads are VPs; frames come from the guest's stack. */
import path from 'node:path';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { hex } from '../../emulator/base/bits.ts';
import { walkStack } from '../linux/callers.ts';
import { KernelObjects } from '../linux/objects.ts';
import { readTasks, taskStack } from '../linux/tasks.ts';
import { causeFrame } from '../linux/trouble.ts';
import { type Frame, frameName, isUser } from '../linux/unwind.ts';
import type { Session } from '../session.ts';
import { threadOf } from '../threads.ts';

/** PSTATE.M[3:2] is the exception level (Arm ARM C5.2.18). */
const level = (pstate: bigint): string => `EL${(pstate >> 2n) & 3n}`;

export const stack = {
  threads(session: Session): DebugProtocol.ThreadsResponse['body'] {
    if (!session.launched) return { threads: [] };
    const { machine, kernel } = session.debuggee;
    const place = (vp: number): string =>
      `${level(machine.readRegister(vp, 'pstate') ?? 0n)}, ${kernel.symbols.format(machine.readRegister(vp, 'pc') ?? 0n)}`;
    const describe = (vp: number): string => {
      const state = machine.vpState(vp);
      if (state === 'off') return state;
      if (session.runner.running) return 'running';
      return state === 'waiting' ? `waiting, ${place(vp)}` : place(vp);
    };
    const threads = Array.from(
      { length: machine.vpCount },
      (_, vp): DebugProtocol.Thread => ({ id: threadOf(vp), name: `VP ${vp} (${describe(vp)})` }),
    );
    return { threads: [...threads, ...taskThreads(session)] };
  },

  stackTrace(session: Session, args: DebugProtocol.StackTraceArguments): DebugProtocol.StackTraceResponse['body'] {
    session.needStopped();
    const { kernel, machine } = session.debuggee;
    const task = session.taskThreads.task(args.threadId);
    if (task !== undefined) return paged(taskFrames(session, task), args);
    const vp = session.vp(args.threadId);
    if (machine.vpState(vp) === 'off') return { stackFrames: [], totalFrames: 0 };
    const { frames, broken } = walkStack(kernel, vp);
    const { trouble } = session.stopAt ?? {};
    const cause = trouble?.vp === vp ? causeFrame(trouble.trouble, frames, kernel) : 0;
    const all = frames.flatMap((frame, i) => {
      const shown = shownFrames(session, vp, frame);
      return i < cause ? shown.map(inTheBackground) : shown;
    });
    if (broken) all.push(endOfStack(broken));
    return paged(all, args);
  },
};

function paged(
  all: DebugProtocol.StackFrame[],
  args: DebugProtocol.StackTraceArguments,
): DebugProtocol.StackTraceResponse['body'] {
  const start = args.startFrame ?? 0;
  return { stackFrames: all.slice(start, args.levels ? start + args.levels : undefined), totalFrames: all.length };
}

/** Tasks that no VP runs, where launch.json asks for them. */
function taskThreads(session: Session): DebugProtocol.Thread[] {
  const { kernel, args } = session.debuggee;
  if (!args.tasksAsThreads || session.runner.running || !kernel.image) return [];
  const objects = new KernelObjects(kernel, session.stopAt?.vp ?? 0);
  return (readTasks(objects) ?? [])
    .flatMap((process) => [process, ...process.threads])
    .filter((task) => task.vp === undefined)
    .map(({ address, pid, comm, state }) => ({ id: session.taskThreads.id(address), name: `${pid} ${comm} (${state})` }));
}

/** Frames of a task that no VP runs. */
function taskFrames(session: Session, task: bigint): DebugProtocol.StackFrame[] {
  const vp = session.stopAt?.vp ?? 0;
  const { frames, broken } = taskStack(new KernelObjects(session.debuggee.kernel, vp), task);
  const all = frames.flatMap((frame) => shownFrames(session, vp, frame, task));
  if (broken) all.push(endOfStack(broken));
  return all;
}

const endOfStack = (why: string): DebugProtocol.StackFrame => ({
  id: 0,
  name: `the stack ends here: ${why}`,
  line: 0,
  column: 0,
  presentationHint: 'label',
});

/** The client shows the frame that caused the stop, and folds those that only tell of it. */
const inTheBackground = (frame: DebugProtocol.StackFrame): DebugProtocol.StackFrame => ({
  ...frame,
  presentationHint: 'subtle',
  ...(frame.source ? { source: { ...frame.source, presentationHint: 'deemphasize' } } : {}),
});

/** A frame as the client shows it: one for each function that is inlined there, too. */
export function shownFrames(session: Session, vp: number, frame: Frame, task?: bigint): DebugProtocol.StackFrame[] {
  const { kernel, sources } = session.debuggee;
  const module = kernel.symbols.at(frame.pc)?.symbol.module;
  const what = frame.kind === 'exception' ? ' (exception taken here)' : isUser(frame) ? ' (user space)' : '';
  const common = { instructionPointerReference: hex(frame.pc), ...(module ? { moduleId: module } : {}) };
  const listed = (): Pick<DebugProtocol.StackFrame, 'source' | 'line' | 'column'> => {
    const { listing, line } = session.listings.at(frame.pc, kernel.symbols);
    return {
      source: { name: listing.name, path: listing.name, sourceReference: listing.id, origin: 'disassembly' },
      line,
      column: 1,
    };
  };
  const functions = session.sourceFrames(frame);
  // Assembler's have lines without functions.
  if (!functions.some((f) => f.name !== undefined || sources.local(f.path)))
    return [
      { id: session.frameId(vp, frame, 0, task), name: `${frameName(frame, kernel.symbols)}${what}`, ...listed(), ...common },
    ];
  return functions.map((f, depth): DebugProtocol.StackFrame => {
    const isLast = depth === functions.length - 1;
    const local = f.line > 0 ? sources.local(f.path) : undefined;
    const place = local
      ? { source: { name: path.basename(local), path: local }, line: f.line, column: Math.max(f.column, 1) }
      : listed();
    // The symbol of a function of Rust is not for people.
    const own = f.name?.includes('::') ? f.name : frameName(frame, kernel.symbols);
    const name = isLast ? own : `${f.name ?? '?'} (inlined)`;
    return { id: session.frameId(vp, frame, depth, task), name: `${name}${isLast ? what : ''}`, ...place, ...common };
  });
}
