/** Going on, stepping and stopping. */
import type { DebugProtocol } from '@vscode/debugprotocol';
import { viewOf } from '../../emulator/base/struct.ts';
import { stackOf } from '../linux/callers.ts';
import { until } from '../runner.ts';
import type { Session } from '../session.ts';
import { targetsAt } from '../step-targets.ts';
import { hasVisibleLine, isCall, returnOf, stepLine, whereIs } from '../stepping.ts';
import { UserError } from '../user-error.ts';

/** The VP of a thread that is to step. */
function stepping(session: Session, threadId: number): number {
  session.needStopped();
  const vp = session.vp(threadId);
  if (session.debuggee.machine.vpState(vp) === 'off') throw new UserError(`VP ${vp} is off: it executes nothing`);
  return vp;
}

/** A step by source lines: where there are some that the user sees, unless instructions were asked for. */
const byLines = (session: Session, vp: number, args: { granularity?: DebugProtocol.SteppingGranularity }): boolean =>
  args.granularity !== 'instruction' && hasVisibleLine(session, session.debuggee.machine.readRegister(vp, 'pc') ?? 0n);

/** Do the other VPs stand still? The request says it, or launch.json. */
const isAlone = (session: Session, args: { singleThread?: boolean }): boolean =>
  args.singleThread ?? session.debuggee.args.singleThread ?? false;

export const execution = {
  continue(session: Session, args: DebugProtocol.ContinueArguments): DebugProtocol.ContinueResponse['body'] {
    const alone = args.singleThread === true ? stepping(session, args.threadId) : undefined;
    session.resume(alone === undefined ? { kind: 'continue' } : { kind: 'continue', alone });
    return { allThreadsContinued: alone === undefined };
  },

  pause(session: Session, args: DebugProtocol.PauseArguments): void {
    const { runner } = session;
    const vp = args.threadId === undefined ? undefined : session.vp(args.threadId);
    session.after(() => runner.pause(vp));
  },

  next(session: Session, args: DebugProtocol.NextArguments): void {
    const vp = stepping(session, args.threadId);
    const alone = isAlone(session, args);
    if (byLines(session, vp, args)) {
      session.resume(stepLine(session, vp, { alone }));
      return;
    }
    const { machine } = session.debuggee;
    const here = whereIs(session, vp);
    const code = machine.readVirtual(vp, here.pc, 4);
    if (code && isCall(viewOf(code).getUint32(0, true)))
      session.resume(until(machine, vp, { ...here, pc: here.pc + 4n }, { alone }));
    else session.resume({ kind: 'step', vp, over: here, alone });
  },

  stepIn(session: Session, args: DebugProtocol.StepInArguments): void {
    const vp = stepping(session, args.threadId);
    const alone = isAlone(session, args);
    const target = args.targetId === undefined ? undefined : session.stepTarget(args.targetId);
    if (target && target.vp !== vp) throw new UserError('This target is of another thread');
    if (target || byLines(session, vp, args))
      session.resume(stepLine(session, vp, { into: true, alone, ...(target ? { target } : {}) }));
    else session.resume({ kind: 'step', vp, alone });
  },

  stepInTargets(session: Session, args: DebugProtocol.StepInTargetsArguments): DebugProtocol.StepInTargetsResponse['body'] {
    session.needStopped();
    const { vp, frame, depth } = session.frame(args.frameId);
    if (!frame || depth > 0) return { targets: [] };
    return {
      targets: targetsAt(session, vp, frame).map(({ label, line, column, ...target }) => ({
        ...{ id: session.stepTargetId({ vp, ...target }), label },
        ...(line > 0 ? { line, ...(column > 0 ? { column } : {}) } : {}),
      })),
    };
  },

  stepOut(session: Session, args: DebugProtocol.StepOutArguments): void {
    const vp = stepping(session, args.threadId);
    const { machine, kernel } = session.debuggee;
    const alone = isAlone(session, args);
    const frames = stackOf(kernel, vp, 2);
    if (frames.length < 2) throw new UserError('The caller of this function is not known');
    // An inlined function ends where the code around it goes on: at the next line of that.
    const inlined = session.sourceFrames(frames[0]);
    if (inlined.length > 1 && byLines(session, vp, args))
      session.resume(stepLine(session, vp, { alone, depth: inlined.length - 1 }));
    else session.resume(until(machine, vp, returnOf(session, vp, frames), { alone }));
  },
};
