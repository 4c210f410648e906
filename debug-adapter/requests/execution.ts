/** Going on, stepping and stopping. */
import type { DebugProtocol } from '@vscode/debugprotocol';
import { viewOf } from '../../emulator/base/struct.ts';
import { stackOf } from '../linux/callers.ts';
import type { Session } from '../session.ts';
import { hasVisibleLine, isCall, stepLine, taskOf } from '../stepping.ts';
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

export const execution = {
  continue(session: Session, _: DebugProtocol.ContinueArguments): DebugProtocol.ContinueResponse['body'] {
    session.resume({ kind: 'continue' });
    return { allThreadsContinued: true };
  },

  pause(session: Session, _: DebugProtocol.PauseArguments): void {
    const { runner } = session;
    session.after(() => runner.pause());
  },

  next(session: Session, args: DebugProtocol.NextArguments): void {
    const vp = stepping(session, args.threadId);
    if (byLines(session, vp, args)) {
      session.resume(stepLine(session, vp, false));
      return;
    }
    const { machine } = session.debuggee;
    const pc = machine.readRegister(vp, 'pc') ?? 0n;
    const sp = machine.readRegister(vp, 'sp') ?? 0n;
    const code = machine.readVirtual(vp, pc, 4);
    if (code && isCall(viewOf(code).getUint32(0, true)))
      session.resume({ kind: 'to', vp, pc: pc + 4n, sp, ...taskOf(session, vp) });
    else session.resume({ kind: 'step', vp, over: { pc, sp } });
  },

  stepIn(session: Session, args: DebugProtocol.StepInArguments): void {
    const vp = stepping(session, args.threadId);
    session.resume(byLines(session, vp, args) ? stepLine(session, vp, true) : { kind: 'step', vp });
  },

  stepOut(session: Session, args: DebugProtocol.StepOutArguments): void {
    const vp = stepping(session, args.threadId);
    const { machine, kernel } = session.debuggee;
    const [here, caller] = stackOf(kernel, vp, 2);
    if (!caller) throw new UserError('The caller of this function is not known');
    // An inlined function ends where the code around it goes on: at the next line of that.
    const inlined = session.sourceFrames(here);
    if (inlined.length > 1 && byLines(session, vp, args)) {
      session.resume(stepLine(session, vp, false, inlined.length - 1));
      return;
    }
    // The function's own frame record is gone when it has returned; a function without one leaves SP as it is.
    const sp = machine.readRegister(vp, 'sp') ?? 0n;
    const framed = caller.fp !== here.fp && here.fp >= sp && caller.kind === 'call';
    const after = here.cfa ?? (framed ? here.fp + 16n : (caller.sp ?? sp));
    session.resume({ kind: 'to', vp, pc: caller.pc, sp: after, ...(caller.kind === 'call' ? taskOf(session, vp) : {}) });
  },
};
