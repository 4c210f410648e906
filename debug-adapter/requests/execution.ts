/** Going on, stepping and stopping. */
import type { DebugProtocol } from '@vscode/debugprotocol';
import { viewOf } from '../../emulator/base/struct.ts';
import { stackOf } from '../linux/callers.ts';
import type { Session } from '../session.ts';
import { UserError } from '../user-error.ts';

/** BL (Arm ARM C6.2.34), BLR and its authenticated forms (C6.2.35), SVC (C6.2.365). HVC and SMC are one step anyway. */
const isCall = (word: number): boolean =>
  word >>> 26 === 0x25 || (word & 0xfefff000) >>> 0 === 0xd63f0000 || (word & 0xffe0001f) >>> 0 === 0xd4000001;

/** The VP of a thread that is to step. */
function stepping(session: Session, threadId: number): number {
  session.needStopped();
  const vp = session.vp(threadId);
  if (session.debuggee.machine.vpState(vp) === 'off') throw new UserError(`VP ${vp} is off: it executes nothing`);
  return vp;
}

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
    const { machine } = session.debuggee;
    const pc = machine.readRegister(vp, 'pc') ?? 0n;
    const sp = machine.readRegister(vp, 'sp') ?? 0n;
    const code = machine.readVirtual(vp, pc, 4);
    if (code && isCall(viewOf(code).getUint32(0, true))) session.resume({ kind: 'to', vp, pc: pc + 4n, sp });
    else session.resume({ kind: 'step', vp, over: { pc, sp } });
  },

  stepIn(session: Session, args: DebugProtocol.StepInArguments): void {
    session.resume({ kind: 'step', vp: stepping(session, args.threadId) });
  },

  stepOut(session: Session, args: DebugProtocol.StepOutArguments): void {
    const vp = stepping(session, args.threadId);
    const { machine, kernel } = session.debuggee;
    const [here, caller] = stackOf(kernel, vp, 2);
    if (!caller) throw new UserError('The caller of this function is not known');
    // The function's own frame record is gone when it has returned; a function without one leaves SP as it is.
    const sp = machine.readRegister(vp, 'sp') ?? 0n;
    const framed = caller.fp !== here.fp && here.fp >= sp;
    session.resume({ kind: 'to', vp, pc: caller.pc, sp: framed && caller.kind === 'call' ? here.fp + 16n : (caller.sp ?? sp) });
  },
};
