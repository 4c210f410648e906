/** Threads are VPs; frames come from the guest's stack. */
import type { DebugProtocol } from '@vscode/debugprotocol';
import { hex } from '../../emulator/base/bits.ts';
import { stackOf } from '../linux/callers.ts';
import { frameName } from '../linux/unwind.ts';
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
    return { threads };
  },

  stackTrace(session: Session, args: DebugProtocol.StackTraceArguments): DebugProtocol.StackTraceResponse['body'] {
    session.needStopped();
    const { kernel, machine } = session.debuggee;
    const vp = session.vp(args.threadId);
    const frames = machine.vpState(vp) === 'off' ? [] : stackOf(kernel, vp);
    const start = args.startFrame ?? 0;
    const shown = frames.slice(start, args.levels ? start + args.levels : undefined);
    return {
      stackFrames: shown.map((frame): DebugProtocol.StackFrame => {
        const module = kernel.symbols.at(frame.pc)?.symbol.module;
        const { listing, line } = session.listings.at(frame.pc, kernel.symbols);
        return {
          id: session.frameId(vp, frame),
          name: `${frameName(frame, kernel.symbols)}${frame.kind === 'exception' ? ' (exception taken here)' : frame.kind === 'user' ? ' (user space)' : ''}`,
          source: { name: listing.name, path: listing.name, sourceReference: listing.id, origin: 'disassembly' },
          line,
          column: 1,
          instructionPointerReference: hex(frame.pc),
          ...(module ? { moduleId: module } : {}),
        };
      }),
      totalFrames: frames.length,
    };
  },
};
