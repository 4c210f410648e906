/** Breakpoints: functions, instructions, and hypercalls as exception filters. */
import path from 'node:path';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { hex } from '../../emulator/base/bits.ts';
import type { Session } from '../session.ts';
import { crashReport, describeHypercall, describeStack, exitTitle, fieldLines } from '../describe.ts';
import { callerName, stackOf } from '../linux/callers.ts';
import { KernelObjects } from '../linux/objects.ts';
import { causeFrame, exceptionWords, type Trouble, troubleAddresses, type TroubleReport, TROUBLES } from '../linux/trouble.ts';
import { frameName, lookupPc } from '../linux/unwind.ts';
import { type Found, type HypercallStop, hypercallStop, type Special } from '../stops.ts';
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
  ...TROUBLES.map(({ filter, label, description, default: isDefault }) => ({
    filter,
    label,
    description,
    supportsCondition: true,
    conditionDescription: '$current->comm == "init"',
    default: isDefault,
  })),
  {
    filter: CRASH_FILTER,
    label: 'Guest crash',
    description: 'Stops when the guest reports a crash (a panic) through the Hyper-V crash registers.',
    default: true,
  },
];

/** A breakpoint for what goes wrong in the kernel. */
function troubleStop(session: Session, trouble: Trouble): { text: string; special: Special; why: () => string | undefined } {
  const { symbols } = session.program;
  return {
    text: trouble.label,
    special: {
      filter: trouble.filter,
      places: (now) => troubleAddresses(trouble, now),
      when: (vp) => trouble.when?.(new KernelObjects(session.debuggee.kernel, vp)) ?? true,
    },
    why: () => (symbols.size > 0 ? `It cannot be noticed: ${trouble.lacking}` : 'It can be noticed once the kernel is known'),
  };
}

const address = (reference: string, offset: number | undefined): string | undefined =>
  /^(0x[0-9a-f]+|\d+)$/i.test(reference)
    ? `0x${BigInt.asUintN(64, BigInt(reference) + BigInt(offset ?? 0)).toString(16)}`
    : undefined;

/** A place in a source file that the user sees: wherever the kernel and its modules have code of that line now. */
export function findLine(session: Session, file: string, line: number): Found | undefined {
  const { files, sources } = session.program;
  const candidates = sources.candidates(file);
  let best: Found | undefined;
  for (const symbols of files.all) {
    const numbers = candidates.map((c) => symbols.info.findFiles(c)).find((n) => n.length);
    const found = numbers && symbols.info.lineLocations(numbers, line);
    const addresses = found?.addresses.flatMap((a) => symbols.toGuest(a)) ?? [];
    if (!found || !addresses.length || (best && found.line > best.line)) continue;
    // A header's line may have code in the kernel and in modules.
    best = { line: found.line, addresses: best?.line === found.line ? [...best.addresses, ...addresses] : addresses };
  }
  return best;
}

/** Why a line of a source file has no code. */
function noLine(session: Session, file: string, line: number): string | undefined {
  const { files, sources } = session.program;
  const name = path.basename(file);
  if (!files.all.length) return `no debug information: ${files.problems.get('') ?? 'none was found'}`;
  const known = files.all.some((f) => sources.candidates(file).some((c) => f.info.findFiles(c).length));
  return known ? `${name} has no code at line ${line} or after it` : `no code that has debug information is from ${name}`;
}

async function sourceBreakpoints(
  session: Session,
  args: DebugProtocol.SetBreakpointsArguments,
): Promise<DebugProtocol.SetBreakpointsResponse['body']> {
  const { path: file } = args.source;
  const wanted = args.breakpoints ?? [];
  if (!file) throw new UserError('setBreakpoints: the source has neither a path nor a reference');
  // A file that was never seen takes half a second to get its index.
  await session.program.files.opened;
  const items = wanted.map((b) => ({
    text: `${file}:${b.line}`,
    find: () => findLine(session, file, b.line),
    why: () => noLine(session, file, b.line),
    condition: b.condition,
    hitCondition: b.hitCondition,
    logMessage: b.logMessage,
  }));
  const made = session.codeBreakpoints.set(`source ${file}`, items, session.places);
  session.placeBreakpoints();
  return { breakpoints: made.map((b, i) => ({ line: wanted[i].line, ...session.breakpointBody(b), source: args.source })) };
}

/** What has gone wrong in the kernel: its own text, the exception in words, and where. */
function troubleInfo(session: Session, report: TroubleReport): DebugProtocol.ExceptionInfoResponse['body'] {
  const { kernel } = session.debuggee;
  const { trouble, title, lines, exception, task, vp } = report;
  const frames = stackOf(kernel, vp);
  const cause = frames[causeFrame(trouble, frames, kernel)];
  const parts = [lines, exception, task, [`at ${frameName(cause, kernel.symbols)}`]].filter((part) => part.length > 0);
  return {
    exceptionId: title,
    description: parts.map((part) => part.join('\n')).join('\n\n'),
    breakMode: 'always',
    details: {
      typeName: trouble.label,
      message: lines.join('\n'),
      stackTrace: describeStack(frames, kernel.symbols).join('\n'),
    },
  };
}

/** The exception that the code at hand handles. Throws UserError when it handles none. */
function takenException(session: Session): DebugProtocol.ExceptionInfoResponse['body'] {
  session.needStopped();
  const { kernel } = session.debuggee;
  const vp = session.stopAt?.vp ?? 0;
  const frames = stackOf(kernel, vp);
  const at = frames.findIndex((f) => f.kind === 'exception' || f.kind === 'user');
  // An interrupt leaves ESR_EL1 as it was.
  const isInterrupt = frames.slice(0, at).some((f) => /_(irq|fiq)(_|$)/.test(kernel.symbols.at(lookupPc(f))?.symbol.name ?? ''));
  if (at <= 0 || isInterrupt) throw new UserError('The guest is not stopped at a hypercall, a crash or an exception');
  const [title, ...words] = exceptionWords(kernel, vp);
  return {
    exceptionId: title,
    description: [...words, '', `taken at ${frameName(frames[at], kernel.symbols)}`].join('\n'),
    breakMode: 'always',
    details: { message: title, stackTrace: describeStack(frames, kernel.symbols).join('\n') },
  };
}

export const breakpoints = {
  /** Lines of sources, and of listings, where they are instructions. */
  async setBreakpoints(
    session: Session,
    args: DebugProtocol.SetBreakpointsArguments,
  ): Promise<DebugProtocol.SetBreakpointsResponse['body']> {
    const wanted = args.breakpoints ?? [];
    if (!args.source.sourceReference) return sourceBreakpoints(session, args);
    const { symbols } = session.program;
    const { sourceReference, path = '' } = args.source;
    const listing = session.listings.find(args.source, symbols);
    const items = wanted.map((b) => {
      const at = listing ? session.listings.address(listing, b.line) : undefined;
      return {
        text: (listing ? (at === undefined ? '' : hex(at)) : session.listings.place(path, b.line)) ?? '',
        condition: b.condition,
        hitCondition: b.hitCondition,
        logMessage: b.logMessage,
      };
    });
    const made = session.codeBreakpoints.set(`listing ${sourceReference} ${path}`, items, session.places);
    for (const b of made) if (b.text === '' && !b.problem) b.problem = 'No instruction is on this line';
    session.placeBreakpoints();
    return { breakpoints: made.map((b, i) => ({ ...session.breakpointBody(b), line: wanted[i].line, source: args.source })) };
  },

  /** Lines of a source file that have code. */
  async breakpointLocations(
    session: Session,
    args: DebugProtocol.BreakpointLocationsArguments,
  ): Promise<DebugProtocol.BreakpointLocationsResponse['body']> {
    const { files, sources } = session.program;
    await files.opened;
    const { path: file } = args.source;
    if (!file || args.source.sourceReference) return { breakpoints: [{ line: args.line }] };
    const lines = new Set<number>();
    const candidates = sources.candidates(file);
    for (const { info } of files.all) {
      const numbers = candidates.map((c) => info.findFiles(c)).find((n) => n.length);
      for (const line of numbers ? info.linesWithCode(numbers, args.line, args.endLine ?? args.line) : []) lines.add(line);
    }
    return { breakpoints: [...lines].sort((a, b) => a - b).map((line) => ({ line })) };
  },

  setFunctionBreakpoints(
    session: Session,
    args: DebugProtocol.SetFunctionBreakpointsArguments,
  ): DebugProtocol.SetFunctionBreakpointsResponse['body'] {
    const items = args.breakpoints.map(({ name, condition, hitCondition }) => {
      // As gdb writes it: `vmbus_drv.c:120`.
      const m = /^\s*(\S+\.\w+):(\d+)\s*$/.exec(name);
      const place = m && { find: () => findLine(session, m[1], Number(m[2])), why: () => noLine(session, m[1], Number(m[2])) };
      return { text: name, condition, hitCondition, ...place };
    });
    const made = session.codeBreakpoints.set('function', items, session.places);
    session.placeBreakpoints();
    return { breakpoints: made.map((b) => session.breakpointBody(b)) };
  },

  setInstructionBreakpoints(
    session: Session,
    args: DebugProtocol.SetInstructionBreakpointsArguments,
  ): DebugProtocol.SetInstructionBreakpointsResponse['body'] {
    const items = args.breakpoints.map((b) => ({
      text: address(b.instructionReference, b.offset) ?? b.instructionReference,
      condition: b.condition,
      hitCondition: b.hitCondition,
    }));
    const made = session.codeBreakpoints.set('instruction', items, session.places);
    for (const b of made) {
      if (b.addresses.length === 0 && !b.problem) b.problem = `${b.text} is not an address`;
      else if (b.addresses[0] % 4n !== 0n) {
        b.addresses = [];
        b.problem = `${b.text} is not a multiple of 4: no instruction starts there`;
      }
    }
    session.placeBreakpoints();
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
    const specials: { at: number; condition?: string; special: Special; text: string; why: () => string | undefined }[] = [];
    const answers = wanted.map(({ filterId, condition }, at): DebugProtocol.Breakpoint => {
      try {
        const trouble = TROUBLES.find((t) => t.filter === filterId);
        if (trouble) specials.push({ at, ...(condition ? { condition } : {}), ...troubleStop(session, trouble) });
        else if (filterId === CRASH_FILTER) crash = true;
        else if (filterId === ANY_FILTER) stops.push(hypercallStop(undefined, { condition }));
        else if (filterId.startsWith(CALL_PREFIX)) stops.push(hypercallStop(filterId.slice(CALL_PREFIX.length), { condition }));
        else throw new UserError(`There is no filter "${filterId}"`);
        return { verified: true };
      } catch (e) {
        if (!(e instanceof UserError)) throw e;
        return { verified: false, message: e.message };
      }
    });
    const made = session.codeBreakpoints.set('exception', specials, session.places);
    for (const [i, b] of made.entries()) answers[specials[i].at] = session.breakpointBody(b);
    session.resolveBreakpoints();
    session.hypercallStops.set('filters', stops);
    // Off in either place is off.
    session.stopOnCrash = crash && session.program.args.stopOnCrash !== false;
    return { breakpoints: answers };
  },

  exceptionInfo(session: Session): DebugProtocol.ExceptionInfoResponse['body'] {
    const exit = session.stopAt?.exit;
    const { kernel } = session.debuggee;
    const { trouble } = session.stopAt ?? {};
    if (trouble) return troubleInfo(session, trouble);
    if (exit?.kind !== 'hypercall' && exit?.kind !== 'crash') return takenException(session);
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
