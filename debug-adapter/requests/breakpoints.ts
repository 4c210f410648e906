/** Breakpoints: functions, instructions, and hypercalls as exception filters. */
import type { DebugProtocol } from '@vscode/debugprotocol';
import { hex } from '../../emulator/base/bits.ts';
import type { Session } from '../session.ts';
import { crashReport, describeHypercall, describeStack, exitTitle, fieldLines } from '../describe.ts';
import { callerName, stackOf } from '../linux/callers.ts';
import { type HypercallStop, hypercallStop } from '../stops.ts';
import { UserError } from '../user-error.ts';

export const CRASH_FILTER = 'crash';
const ANY_FILTER = 'hypercall';
const CALL_PREFIX = 'hypercall:';
/** The calls that guests make (reference hyperv-arm64.md §0); any other can be named in the condition of "Any hypercall". */
const COMMON_CALLS = ['HvCallPostMessage', 'HvCallSignalEvent', 'HvCallGetVpRegisters', 'HvCallSetVpRegisters'];

export const FILTERS: DebugProtocol.ExceptionBreakpointsFilter[] = [
  ...COMMON_CALLS.map((call) => ({
    filter: `${CALL_PREFIX}${call}`,
    label: call,
    description: `Stops when the guest calls ${call}. Conditions see the decoded fields; "return:" in front stops on return.`,
    supportsCondition: true,
    conditionDescription: 'ConnectionId == 4, or return: status != 0',
    default: false,
  })),
  {
    filter: ANY_FILTER,
    label: 'Any hypercall',
    description: 'Stops at every hypercall, or at those that the condition names.',
    supportsCondition: true,
    conditionDescription: 'HvCallNotifyLongSpinWait, or 0x46 and vp == 0, or status != 0',
    default: false,
  },
  {
    filter: CRASH_FILTER,
    label: 'Guest crash',
    description: 'Stops when the guest reports a crash (a panic) through the Hyper-V crash registers.',
    default: true,
  },
];

const address = (reference: string, offset: number | undefined): string | undefined =>
  /^(0x[0-9a-f]+|\d+)$/i.test(reference)
    ? `0x${BigInt.asUintN(64, BigInt(reference) + BigInt(offset ?? 0)).toString(16)}`
    : undefined;

export const breakpoints = {
  /** Lines of listings are instructions. Those of the kernel's sources need debug information, which this version does not read. */
  setBreakpoints(session: Session, args: DebugProtocol.SetBreakpointsArguments): DebugProtocol.SetBreakpointsResponse['body'] {
    const wanted = args.breakpoints ?? [];
    const unverified = (message: string): DebugProtocol.SetBreakpointsResponse['body'] => ({
      breakpoints: wanted.map(() => ({ verified: false, message })),
    });
    if (!args.source.sourceReference)
      return unverified(
        'Breakpoints on source lines are not supported yet: use function breakpoints, or lines of the disassembly',
      );
    const { kernel } = session.debuggee;
    const { sourceReference, path = '' } = args.source;
    const listing = session.listings.find(args.source, kernel.symbols);
    const items = wanted.map((b) => {
      const at = listing ? session.listings.address(listing, b.line) : undefined;
      return {
        text: (listing ? (at === undefined ? '' : hex(at)) : session.listings.place(path, b.line)) ?? '',
        condition: b.condition,
        hitCondition: b.hitCondition,
        logMessage: b.logMessage,
      };
    });
    const made = session.codeBreakpoints.set(`listing ${sourceReference} ${path}`, items, kernel.symbols);
    for (const b of made) if (b.text === '' && !b.problem) b.problem = 'No instruction is on this line';
    session.resolveBreakpoints();
    return { breakpoints: made.map((b, i) => ({ ...session.breakpointBody(b), line: wanted[i].line, source: args.source })) };
  },

  setFunctionBreakpoints(
    session: Session,
    args: DebugProtocol.SetFunctionBreakpointsArguments,
  ): DebugProtocol.SetFunctionBreakpointsResponse['body'] {
    const { kernel } = session.debuggee;
    const items = args.breakpoints.map((b) => ({ text: b.name, condition: b.condition, hitCondition: b.hitCondition }));
    const made = session.codeBreakpoints.set('function', items, kernel.symbols);
    session.resolveBreakpoints();
    return { breakpoints: made.map((b) => session.breakpointBody(b)) };
  },

  setInstructionBreakpoints(
    session: Session,
    args: DebugProtocol.SetInstructionBreakpointsArguments,
  ): DebugProtocol.SetInstructionBreakpointsResponse['body'] {
    const { kernel } = session.debuggee;
    const items = args.breakpoints.map((b) => ({
      text: address(b.instructionReference, b.offset) ?? b.instructionReference,
      condition: b.condition,
      hitCondition: b.hitCondition,
    }));
    const made = session.codeBreakpoints.set('instruction', items, kernel.symbols);
    for (const b of made) {
      if (b.addresses.length === 0 && !b.problem) b.problem = `${b.text} is not an address`;
      else if (b.addresses[0] % 4n !== 0n) {
        b.addresses = [];
        b.problem = `${b.text} is not a multiple of 4: no instruction starts there`;
      }
    }
    session.resolveBreakpoints();
    return { breakpoints: made.map((b) => session.breakpointBody(b)) };
  },

  setExceptionBreakpoints(
    session: Session,
    args: DebugProtocol.SetExceptionBreakpointsArguments,
  ): DebugProtocol.SetExceptionBreakpointsResponse['body'] {
    const wanted = [
      ...args.filters.map((filterId): DebugProtocol.ExceptionFilterOptions => ({ filterId })),
      ...(args.filterOptions ?? []),
    ];
    const stops: HypercallStop[] = [];
    let crash = false;
    const answers = wanted.map(({ filterId, condition }): DebugProtocol.Breakpoint => {
      try {
        if (filterId === CRASH_FILTER) crash = true;
        else if (filterId === ANY_FILTER) stops.push(hypercallStop(undefined, { condition }));
        else if (filterId.startsWith(CALL_PREFIX)) stops.push(hypercallStop(filterId.slice(CALL_PREFIX.length), { condition }));
        else throw new UserError(`There is no filter "${filterId}"`);
        return { verified: true };
      } catch (e) {
        if (!(e instanceof UserError)) throw e;
        return { verified: false, message: e.message };
      }
    });
    session.hypercallStops.set('filters', stops);
    // Off in either place is off.
    session.stopOnCrash = crash && session.debuggee.args.stopOnCrash !== false;
    return { breakpoints: answers };
  },

  exceptionInfo(session: Session): DebugProtocol.ExceptionInfoResponse['body'] {
    const exit = session.stopAt?.exit;
    const { kernel } = session.debuggee;
    if (exit?.kind !== 'hypercall' && exit?.kind !== 'crash')
      throw new UserError('The guest is not stopped at a hypercall or a crash');
    const frames = stackOf(kernel, exit.vp);
    const stackTrace = describeStack(frames, kernel.symbols).join('\n');
    if (exit.kind === 'crash') {
      const message = exit.message || exit.parameters.map((p) => `0x${p.toString(16)}`).join(', ');
      // The whole log of a panicking kernel would fill the editor: its end says it, and the details have the rest.
      const description = crashReport(message).join('\n');
      return { exceptionId: exitTitle(exit, kernel), description, breakMode: 'always', details: { message, stackTrace } };
    }
    const caller = callerName(frames, kernel.symbols);
    return {
      exceptionId: exit.call.name,
      description: describeHypercall(exit.call, caller).join('\n'),
      breakMode: 'always',
      details: { message: fieldLines(exit.call.input).join('\n'), typeName: exit.call.name, stackTrace },
    };
  },
};
