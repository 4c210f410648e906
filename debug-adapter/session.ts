/**
 * One debug session over DAP. Holds the machine and what the user has set; requests are handlers in `requests/`, this file
 * dispatches them: replies, errors, cancellation and timing are here and nowhere else.
 */
import fs from 'node:fs';
import { DebugSession, Event, OutputEvent, Response } from '@vscode/debugadapter';
import type { DebugProtocol } from '@vscode/debugprotocol';
import {
  ConfigError,
  type Exit,
  type HypercallInfo,
  type Machine,
  type MachineConfig,
  type TraceEvent,
} from '../emulator/index.ts';
import { hex } from '../emulator/base/bits.ts';
import { viewOf } from '../emulator/base/struct.ts';
import { codePlace } from './code-place.ts';
import { formatValue, HV, machineContext } from './context.ts';
import { CALLER_FRAMES, exitTitle } from './describe.ts';
import type { DiskFiles } from './disks.ts';
import type { GuestNetwork } from './network.ts';
import type { GuestSockets } from './sockets.ts';
import { evaluate } from './expression/evaluate.ts';
import { ExpressionError } from './expression/parse.ts';
import { stackOf } from './linux/callers.ts';
import { GuestKernel, KernelFacts } from './linux/kernel.ts';
import type { SymbolFiles } from './linux/symbol-files.ts';
import type { Symbolizer } from './symbols/symbolizer.ts';
import { reportTrouble, type TroubleReport, TROUBLES } from './linux/trouble.ts';
import { useSymbolFiles } from './linux/types.ts';
import { type Frame, isUser, lookupPc } from './linux/unwind.ts';
import { KernelFile } from './kernel-file.ts';
import { Later } from './later.ts';
import { Listings } from './listing.ts';
import type { CustomEvents, LaunchArguments } from './protocol.ts';
import { checkArguments } from './requests/arguments.ts';
import { HANDLERS } from './requests/index.ts';
import { allModules } from './requests/modules.ts';
import { ScreenWatch } from './screen.ts';
import { type Plan, Runner, type StopReason } from './runner.ts';
import type { SourcePaths } from './sources.ts';
import {
  type CodeBreakpoint,
  CodeBreakpoints,
  type DataBreakpoint,
  DataBreakpoints,
  Engine,
  HypercallStops,
  judge,
  type Places,
  bytesUnder,
  hasChanged,
  hypervisorAccesses,
  type RegisterAccess,
} from './stops.ts';
import { SessionTrace } from './session-trace.ts';
import type { StepTarget } from './stepping.ts';
import { TaskThreads, threadOf, vpOf } from './threads.ts';
import { withoutDamage } from './symbols/byte-source.ts';
import type { SourceFrame } from './symbols/dwarf/debug-info.ts';
import type { SourceLocation } from './types/catalog.ts';
import { UserError } from './user-error.ts';

/** Answers one request. What it returns is the response's body. */
export type Handler<Args, Body> = (session: Session, args: Args) => Body | Promise<Body>;

/** What `launch` has opened: what questions about code are answered with before there is a machine. */
export interface Program {
  args: LaunchArguments;
  disks: DiskFiles;
  network: GuestNetwork;
  sockets: GuestSockets;
  /** Names of addresses. */
  symbols: Symbolizer;
  /** Symbol files of the kernel and its modules, and where sources are. */
  files: SymbolFiles;
  sources: SourcePaths;
}

/** And the machine that it made of that. */
export interface Debuggee extends Program {
  config: MachineConfig;
  machine: Machine;
  kernel: GuestKernel;
}

/** Requests that need no machine. All others wait for it. */
const WITHOUT_MACHINE: ReadonlySet<string> = new Set([
  'initialize',
  'launch',
  'attach',
  'setBreakpoints',
  'setFunctionBreakpoints',
  'setInstructionBreakpoints',
  'setExceptionBreakpoints',
  'breakpointLocations',
  'hyperstep/setHypercallBreakpoints',
  'hyperstep/hypercallNames',
]);
/** How long a client is given to set its breakpoints before making the machine keeps this thread busy, ms. */
const CONFIGURATION_MS = 40;

/** Which children are wanted, and how numbers are shown. */
export interface VariablePage {
  filter?: 'indexed' | 'named';
  start?: number;
  /** 0 or left out: all. */
  count?: number;
  hex?: boolean;
}

/** A node of the variables tree: its children, and how one of them is set. */
export interface VariableSource {
  list(page?: VariablePage): DebugProtocol.Variable[];
  /** Sets a child from an expression's text; the new value as it is shown. */
  set?(name: string, text: string, hex?: boolean): string;
  /** `list` gives the page that was asked for; otherwise it gives all, and the page is cut out of that. */
  readonly paged?: true;
}

/** A hypercall as it happened, with the raw stack for naming its caller when somebody asks. */
export interface CallRecord {
  index: number;
  now: number;
  event: Extract<TraceEvent, { kind: 'hypercall' }>;
  frames: Frame[];
}

/** What a frame id stands for: a frame of the stack, and which of the functions inlined there (0: the innermost). */
export interface FrameAt {
  vp: number;
  /** The task that it is of, where that is not the one that the VP runs. */
  task?: bigint;
  frame: Frame;
  depth: number;
}

/** What a location is: an address of code, or a line of a source file as debug information spells it. */
export type CodeOrLine = bigint | SourceLocation;

/** Where the guest is stopped. */
export interface Stop {
  reason: StopReason;
  /** Undefined before the first instruction. */
  exit?: Exit;
  vp: number;
  title: string;
  /** What has gone wrong in the kernel, when it stopped for that. */
  trouble?: TroubleReport;
}

/** Events that the session keeps or tells, whether or not the user traces anything. */
const SAID = ['hypercall', 'undefined', 'service', 'guest'] as const;
const MAX_CALLS = 2000;
const CONSOLE_FLUSH = 64 * 1024;
const MAX_REPORTS = 100;

export class Session extends DebugSession {
  /** What the client said it can do. */
  client: Partial<DebugProtocol.InitializeRequestArguments> = {};
  readonly hypercallStops = new HypercallStops();
  readonly codeBreakpoints = new CodeBreakpoints();
  readonly dataBreakpoints = new DataBreakpoints();
  readonly listings = new Listings();
  readonly taskThreads = new TaskThreads();
  /** What the display panel has seen. */
  readonly screen = new ScreenWatch();
  stopOnCrash = true;
  readonly trace = new SessionTrace((text) => this.say(text));
  /** The last hypercalls. */
  readonly calls: CallRecord[] = [];
  /** Where the guest is stopped; undefined while it runs. */
  stopAt: Stop | undefined;
  #program: Program | undefined;
  #debuggee: Debuggee | undefined;
  #machine: { made: Promise<void>; make: () => void } | undefined;
  #runner: Runner | undefined;
  #sources: VariableSource[] = [];
  #locations: CodeOrLine[] = [];
  #frames: FrameAt[] = [];
  #targets: (StepTarget & { vp: number })[] = [];
  #console: Uint8Array[] = [];
  #consoleBytes = 0;
  #consoleLog: number | undefined;
  #callCount = 0;
  /** Places of undefined instructions that were reported. */
  readonly #undefined = new Set<bigint>();
  /** Requests answered in order of arrival. */
  #queue: Promise<void> = Promise.resolve();
  readonly #cancelled = new Set<number>();
  #after: (() => void)[] = [];
  #progress: { id: string } | undefined;
  #onEnd: () => void = () => {};
  /** Resolves when the client has gone. */
  readonly closed: Promise<void>;

  constructor() {
    super();
    this.closed = new Promise((resolve) => {
      this.#onEnd = resolve;
    });
  }

  // --- dispatch ------------------------------------------------------------------------------------------------------------

  protected override dispatchRequest(request: DebugProtocol.Request): void {
    // Cancelling is about requests that wait here: it must not wait behind them.
    if (request.command === 'cancel') {
      const args = (request.arguments ?? {}) as DebugProtocol.CancelArguments;
      if (args.requestId !== undefined) this.#cancelled.add(args.requestId);
      if (args.progressId !== undefined && args.progressId === this.#progress?.id) this.#runner?.pause();
      this.sendResponse(new Response(request));
      return;
    }
    this.#queue = this.#queue.then(() => this.#answer(request));
  }

  async #answer(request: DebugProtocol.Request): Promise<void> {
    const started = performance.now();
    try {
      if (this.#cancelled.delete(request.seq)) {
        this.#refuse(request, 'cancelled');
        return;
      }
      const handler = Object.hasOwn(HANDLERS, request.command) ? HANDLERS[request.command] : undefined;
      if (!handler) throw new UserError(`The request "${request.command}" is not supported`);
      const args: unknown = request.arguments ?? {};
      checkArguments(request.command, args);
      // That there is none is told by the answer to `launch`.
      if (!WITHOUT_MACHINE.has(request.command)) await this.makeMachine().catch(() => {});
      const body = await handler(this, args as never);
      if (body instanceof Later)
        void body.body.then(
          (later) => this.#reply(request, later),
          (error: unknown) => this.#fail(request, error),
        );
      else this.#reply(request, body);
    } catch (e) {
      this.#fail(request, e);
    }
    const took = performance.now() - started;
    if (process.env.HYPERSTEP_TIMING) process.stderr.write(`hyperstep: ${request.command} took ${took.toFixed(1)} ms\n`);
    const after = this.#after;
    this.#after = [];
    for (const f of after) f();
  }

  #reply(request: DebugProtocol.Request, body: unknown): void {
    const response = new Response(request) as DebugProtocol.Response;
    if (body !== undefined) response.body = body;
    this.sendResponse(response);
  }

  #refuse(request: DebugProtocol.Request, message: string, body?: object): void {
    const response = new Response(request) as DebugProtocol.Response;
    response.success = false;
    response.message = message;
    if (body) response.body = body;
    this.sendResponse(response);
  }

  #fail(request: DebugProtocol.Request, e: unknown): void {
    const forUser = e instanceof UserError || e instanceof ConfigError || e instanceof ExpressionError;
    const message = e instanceof Error ? e.message : String(e);
    if (!forUser) process.stderr.write(`hyperstep: ${request.command}: ${e instanceof Error ? e.stack : message}\n`);
    // Braces are the format's own: a message is data.
    const showUser = forUser && request.command === 'launch';
    this.#refuse(request, message, {
      error: {
        id: forUser ? 1 : 2,
        format: '{message}',
        variables: { message: forUser ? message : `Internal error: ${message}` },
        showUser,
      },
    });
  }

  /** Does something once the response to the present request is sent. */
  after(action: () => void): void {
    this.#after.push(action);
  }

  emitCustom<K extends keyof CustomEvents>(name: K, body: CustomEvents[K]): void {
    this.sendEvent(new Event(name, body));
  }

  /** A line in the Debug Console. */
  say(text: string, category: 'console' | 'important' | 'stderr' = 'console'): void {
    this.sendEvent(new OutputEvent(`${text}\n`, category));
  }

  /** The client is gone, or has asked us to go. */
  override shutdown(): void {
    this.#runner?.end();
    this.trace.close();
    // What was asked before is answered before.
    void this.#queue
      .then(() => this.makeMachine())
      .catch(() => {})
      .then(() => {
        if (this.#debuggee) for (const line of this.#debuggee.disks.save(this.#debuggee.machine)) this.say(line);
        this.#abandon();
        if (this.#consoleLog !== undefined) fs.closeSync(this.#consoleLog);
        this.#consoleLog = undefined;
        this.#onEnd();
      });
  }

  // --- the debuggee --------------------------------------------------------------------------------------------------------

  /** The machine and what belongs to it. Throws when nothing was launched. */
  get debuggee(): Debuggee {
    if (!this.#debuggee) throw new UserError('Nothing has been launched');
    return this.#debuggee;
  }
  /** What `launch` has opened. Throws when nothing was launched. */
  get program(): Program {
    if (!this.#program) throw new UserError('Nothing has been launched');
    return this.#program;
  }
  get launched(): boolean {
    return this.#program !== undefined;
  }

  /**
   * Takes what `launch` has opened. `make` makes the machine and calls `adopt`: once, when it is needed or the client has had its time to set
   * breakpoints. Resolves when there is one; rejects with what `make` throws.
   */
  prepare(program: Program, make: () => Promise<void>): Promise<void> {
    this.#program = program;
    program.files.onChange = () => this.resolveBreakpoints();
    let start: () => void = () => {};
    const wanted = new Promise<void>((resolve) => {
      start = resolve;
    });
    const made = wanted.then(make).catch((error: unknown) => {
      this.#abandon();
      throw error;
    });
    // A file that was never seen is indexed first: the client waits for its breakpoints, and if it does not it says so.
    let timer: NodeJS.Timeout | undefined;
    void program.files.opened.then(() => {
      timer = setTimeout(start, CONFIGURATION_MS);
    });
    this.#machine = {
      made,
      make: () => {
        clearTimeout(timer);
        start();
      },
    };
    return made;
  }

  /** Makes the machine if that has not begun. Resolves at once when nothing was launched; rejects when it cannot be made. */
  async makeMachine(): Promise<void> {
    this.#machine?.make();
    await this.#machine?.made;
  }

  /** Nothing is launched any more. */
  #abandon(): void {
    const program = this.#program;
    if (!program) return;
    program.disks.close();
    program.network.close();
    program.sockets.close();
    program.files.close();
    this.#program = undefined;
    this.#debuggee = undefined;
    this.#machine = undefined;
  }
  get runner(): Runner {
    if (!this.#runner) throw new UserError('Nothing has been launched');
    return this.#runner;
  }

  /** Throws unless the guest is stopped. */
  needStopped(): void {
    if (this.runner.running) throw new UserError('The guest is running: pause it first');
  }

  /** A VP of a DAP thread id. */
  vp(threadId: number): number {
    const vp = vpOf(threadId);
    if (this.taskThreads.task(threadId) !== undefined) throw new UserError('This task does not run: only VPs can be stepped');
    if (!Number.isInteger(vp) || vp < 0 || vp >= this.debuggee.machine.vpCount)
      throw new UserError(`There is no thread ${threadId}`);
    return vp;
  }

  /** Takes a machine that is ready to run. */
  adopt(debuggee: Debuggee): void {
    this.#program = this.#debuggee = debuggee;
    const { machine, kernel, args } = debuggee;
    if (args.consoleLog) this.#consoleLog ??= fs.openSync(args.consoleLog, 'w');
    machine.onConsole = (bytes) => this.#onConsole(bytes);
    this.trace.attach(machine, kernel);
    machine.subscribe((event) => {
      if (event.kind === 'hypercall') this.#record(event);
      else if (event.kind === 'undefined') this.#reportUndefined(event);
      else if (event.kind === 'service') this.say(`${event.service}: ${event.message}`, event.ok ? 'console' : 'stderr');
      else if (event.kind === 'guest') this.say(`${event.part}: ${event.message}`, 'stderr');
    }, SAID);
    debuggee.files.follow(kernel);
    useSymbolFiles(kernel, () => debuggee.files.all);
    kernel.onReplaced = () => {
      this.say('The guest starts another kernel (kexec).');
      void debuggee.files.kernelChanged(kernel.facts).then(() => this.#otherKernel(debuggee));
      this.resolveBreakpoints();
    };
    kernel.onFound = (found) => {
      debuggee.files.placeKernel();
      this.say(`${found.summary} (found in ${found.milliseconds.toFixed(0)} ms)`);
      this.resolveBreakpoints();
    };
    debuggee.network.connect(
      machine,
      debuggee.config.startTime,
      (text) => this.say(text, 'stderr'),
      () => this.#runner?.wake(),
    );
    debuggee.sockets.connect(
      machine,
      (text) => this.say(text, 'stderr'),
      () => this.#runner?.wake(),
    );
    const engine = new Engine(machine, (pc) => codePlace(kernel, pc));
    this.codeBreakpoints.engine = this.dataBreakpoints.engine = engine;
    const stopsAtCalls = () => !this.hypercallStops.empty || this.dataBreakpoints.onHypervisor;
    const session = this;
    this.#runner = new Runner(machine, kernel, {
      get hypercall() {
        return stopsAtCalls() ? (call: HypercallInfo) => session.#hypercall(call) : undefined;
      },
      get stopOnCrash() {
        return session.stopOnCrash;
      },
      breakpoint: (exit) => this.#breakpoint(exit),
      watchpoint: (exit) => this.#watchpoint(exit),
      place: (places) => {
        this.codeBreakpoints.plan = places;
        this.codeBreakpoints.place(machine);
      },
      sliced: () => this.#sliced(),
      stopped: (reason) => this.#stopped(reason),
      ended: (exit) => this.#ended(exit),
      failed: (error) => this.#failed(error),
    });
  }

  /** The symbol files of a kernel that was started by kexec are there, as far as they will be. */
  #otherKernel({ files, kernel }: Debuggee): void {
    if (this.#debuggee?.kernel !== kernel) return;
    for (const { info } of files.all) this.say(`Debug information of ${info.elf.name}`);
    this.resolveBreakpoints();
  }

  /** An instruction that this CPU lacks: said once per place. User space asks for ID registers that way, and Linux answers. */
  #reportUndefined(event: Extract<TraceEvent, { kind: 'undefined' }>): void {
    const { kernel } = this.debuggee;
    const userSpace = kernel.image !== undefined && event.pc >> 63n === 0n;
    if (userSpace || this.#undefined.has(event.pc) || this.#undefined.size >= MAX_REPORTS) return;
    this.#undefined.add(event.pc);
    this.say(`VP ${event.vp}: undefined instruction ${event.text} at ${kernel.symbols.format(event.pc)}`, 'stderr');
  }

  #record(event: CallRecord['event']): void {
    const { kernel, machine } = this.debuggee;
    this.calls.push({ index: this.#callCount++, now: machine.now, event, frames: stackOf(kernel, event.vp, CALLER_FRAMES) });
    if (this.calls.length > MAX_CALLS) this.calls.splice(0, this.calls.length - MAX_CALLS);
  }

  // --- console -------------------------------------------------------------------------------------------------------------

  #onConsole(bytes: Uint8Array): void {
    if (this.#consoleLog !== undefined) fs.writeSync(this.#consoleLog, bytes);
    this.#console.push(bytes.slice());
    this.#consoleBytes += bytes.length;
    // With nothing to stop at, the boot is under way when the guest speaks.
    if (this.hypercallStops.empty && this.codeBreakpoints.list.length === 0) this.endProgress();
    if (this.#consoleBytes >= CONSOLE_FLUSH) this.flushConsole();
  }

  /** Sends what the guest wrote since the last time. */
  flushConsole(): void {
    if (this.#consoleBytes === 0) return;
    this.emitCustom('hyperstep/console', { data: Buffer.concat(this.#console).toString('base64') });
    this.#console = [];
    this.#consoleBytes = 0;
  }

  // --- running -------------------------------------------------------------------------------------------------------------

  /** Lets the guest go on, after the present response. */
  resume(plan: Plan): void {
    const { runner } = this;
    if (runner.over) throw new UserError('The guest has ended');
    this.needStopped();
    const stoppedVp = this.stopAt?.vp;
    this.forget();
    this.stopAt = undefined;
    this.#registerText = undefined;
    this.#stopping = [];
    this.codeBreakpoints.internal.clear();
    this.codeBreakpoints.plan = plan.kind === 'to' ? plan.places : [];
    this.placeBreakpoints();
    this.after(() => {
      this.#sendState(true);
      runner.start(plan, stoppedVp);
    });
  }

  /** Variables and frames of the last stop are no more. */
  forget(): void {
    this.#sources = [];
    this.#locations = [];
    this.#frames = [];
    this.#targets = [];
  }

  /** Reports the stop before the first instruction. */
  stopAtEntry(): void {
    this.#stopped({ kind: 'entry' });
  }

  #sendState(running: boolean): void {
    const { machine } = this.debuggee;
    this.emitCustom('hyperstep/state', { running, instructions: machine.instructions, now: machine.now });
  }

  #hypercall(call: HypercallInfo): boolean {
    const { kernel, machine } = this.debuggee;
    for (const access of hypervisorAccesses(call)) {
      const old = (): bigint | undefined => machine.readHypervRegister(call.vp, access.name.slice(HV.length));
      if (this.#registerAccess(call.vp, access, old)) return true;
    }
    return this.hypercallStops.matches(
      call,
      // The fields of the call come before variables of the code.
      () => machineContext(kernel, call.vp, { variables: false }),
      (node, context) => formatValue(evaluate(node, context), kernel, call.vp),
      (text) => this.say(text),
    );
  }

  #breakpoint({ vp, pc, clauses }: Extract<Exit, { kind: 'breakpoint' }>): boolean {
    const { kernel, args } = this.debuggee;
    if (pc === kernel.moduleLoadAddress && this.codeBreakpoints.internal.has(pc) && this.refreshModules(vp))
      this.resolveBreakpoints();
    if (args.noDebug) return false;
    const { hit, judged } = this.codeBreakpoints.met(pc, clauses);
    this.#stopping = hit.filter((b) => this.#judge(vp, b, judged)).map((b) => b.id);
    if (!judged) this.codeBreakpoints.leaveToEngine(pc);
    this.#registerMove(vp, pc);
    return this.#stopping.length > 0;
  }

  /** A system register that the user watches is about to be read or written. True when that stops. */
  #registerMove(vp: number, pc: bigint): boolean {
    const { machine } = this.debuggee;
    const word = machine.readVirtual(vp, pc, 4);
    const move = word && machine.registerMove(viewOf(word).getUint32(0, true));
    if (!move) return false;
    const value = move.register === 31 ? 0n : machine.readRegister(vp, `x${move.register}`);
    const access = { name: move.name, write: move.write, ...(move.write && value !== undefined ? { value } : {}) };
    return this.#registerAccess(vp, access, () => machine.readRegister(vp, move.name));
  }

  #registerAccess(vp: number, access: RegisterAccess, old: () => bigint | undefined): boolean {
    const hit = this.dataBreakpoints.ofRegister(access, old).filter((b) => this.#judge(vp, b, false));
    if (!hit.length) return false;
    const number = (value: bigint | undefined): string => (value === undefined ? '?' : hex(value));
    this.#registerText = access.write
      ? `write of ${access.name}: ${number(old())} becomes ${number(access.value)}`
      : `read of ${access.name}: ${number(old())}`;
    this.#stopping = [...this.#stopping, ...hit.map((b) => b.id)];
    return true;
  }
  /** The access to a register that the stop is for. */
  #registerText: string | undefined;

  /** An access to memory that the user watches has been made. */
  #watchpoint(exit: Extract<Exit, { kind: 'watchpoint' }>): boolean {
    if (this.debuggee.args.noDebug) return false;
    const { machine } = this.debuggee;
    const hit = this.dataBreakpoints.met(exit).filter(({ b }) => !b.change || hasChanged(b, bytesUnder(b, machine, exit.vp)));
    this.#stopping = hit.filter(({ b, judged }) => this.#judge(exit.vp, b, judged)).map(({ b }) => b.id);
    for (const { b, judged } of hit) if (!judged) this.dataBreakpoints.leaveToEngine(b);
    return this.#stopping.length > 0;
  }

  /** Ids of the breakpoints that the last stop is for. */
  #stopping: number[] = [];

  /** True when a breakpoint that was hit stops. */
  #judge(vp: number, b: CodeBreakpoint | DataBreakpoint, judged: boolean): boolean {
    const { kernel } = this.debuggee;
    const special = 'special' in b ? b.special : undefined;
    if (special && !special.when(vp)) return false;
    const context = machineContext(kernel, vp);
    const verdict = judge(b, context, (node) => formatValue(evaluate(node, context), kernel, vp), {
      judged,
      count: () => this.codeBreakpoints.engine?.count(b) ?? ++b.hits,
    });
    if (verdict.log !== undefined) this.say(verdict.log);
    if (verdict.error !== undefined && !b.errorShown) {
      b.errorShown = true;
      this.say(`The condition of the breakpoint on ${b.text} cannot be evaluated: ${verdict.error}`, 'stderr');
    }
    if (verdict.stop && special) this.#trouble = special.filter;
    return verdict.stop;
  }

  /** The exception filter that the stop at hand is for. */
  #trouble: string | undefined;

  #lastState = 0;
  #sliced(): void {
    this.flushConsole();
    this.trace.flush();
    const now = performance.now();
    if (now - this.#lastState > 500) {
      this.#lastState = now;
      this.#sendState(true);
      this.#updateProgress();
    }
  }

  #stopped(reason: StopReason): void {
    const { kernel } = this.debuggee;
    this.flushConsole();
    this.trace.flush();
    this.endProgress();
    const exit = reason.kind === 'exit' ? reason.exit : undefined;
    const at = (exit && 'vp' in exit ? exit.vp : reason.kind === 'pause' ? reason.vp : undefined) ?? 0;
    const filter = exit?.kind === 'breakpoint' ? TROUBLES.find((t) => t.filter === this.#trouble) : undefined;
    this.#trouble = undefined;
    const trouble = filter && reportTrouble(filter, kernel, at);
    const vp = trouble?.vp ?? at;
    if (this.refreshModules(vp)) this.resolveBreakpoints();
    if (!this.#stoppedBefore && exit) this.#reportFirstStop();
    const title =
      trouble?.title ??
      this.#registerText ??
      (exit ? exitTitle(exit, kernel) : reason.kind === 'pause' ? 'paused' : 'stopped at the first instruction');
    this.stopAt = { reason, vp, title, ...(exit ? { exit } : {}), ...(trouble ? { trouble } : {}) };
    this.#sendState(false);
    this.sendEvent(
      new Event('stopped', { ...this.#stoppedBody(reason), threadId: threadOf(vp), allThreadsStopped: true, text: title }),
    );
  }

  #stoppedBefore = false;
  #reportFirstStop(): void {
    this.#stoppedBefore = true;
    const { machine } = this.debuggee;
    const host = (this.runner.hostMs / 1000).toFixed(1);
    this.say(
      `First stop after ${machine.instructions} instructions, ${(machine.now / 1e9).toFixed(2)} s of guest time, ${host} s of host time`,
    );
  }

  #stoppedBody(reason: StopReason): Partial<DebugProtocol.StoppedEvent['body']> {
    if (reason.kind !== 'exit') return { reason: reason.kind };
    const { exit } = reason;
    if (this.#registerText !== undefined) return { reason: 'data breakpoint', hitBreakpointIds: this.#stopping };
    switch (exit.kind) {
      case 'breakpoint': {
        const hit = this.codeBreakpoints.list.filter((b) => this.#stopping.includes(b.id));
        const { trouble } = this.stopAt ?? {};
        if (trouble)
          return {
            reason: 'exception',
            description: trouble.trouble.label,
            hitBreakpointIds: hit.filter((b) => b.special?.filter === trouble.trouble.filter).map((b) => b.id),
          };
        const what = hit.some((b) => b.origin === 'function')
          ? 'function breakpoint'
          : hit.some((b) => b.origin === 'instruction')
            ? 'instruction breakpoint'
            : 'breakpoint';
        return { reason: what, hitBreakpointIds: this.#stopping };
      }
      case 'hypercall':
        return { reason: 'exception', description: `Paused on ${exit.call.name}` };
      case 'crash':
        return { reason: 'exception', description: 'Guest crash' };
      case 'watchpoint':
        return {
          reason: 'data breakpoint',
          hitBreakpointIds: this.#stopping,
        };
      default:
        return { reason: 'step' };
    }
  }

  #ended(exit: Exit): void {
    const { machine } = this.debuggee;
    this.flushConsole();
    this.trace.flush();
    if (exit.kind === 'reset') {
      this.#restart().catch((error: unknown) => this.#failed(error));
      return;
    }
    this.endProgress();
    this.say(`The guest powered off after ${machine.instructions} instructions.`);
    this.#sendState(false);
    this.sendEvent(new Event('exited', { exitCode: 0 }));
    this.sendEvent(new Event('terminated'));
  }

  /** The guest has reset: the same machine from power-on, with what was on its disks, and everything that the user has set. */
  async #restart(): Promise<void> {
    const { machine: old, ...program } = this.debuggee;
    const { config, disks } = program;
    this.say(`The guest resets after ${old.instructions} instructions.`);
    config.disks = disks.carry(old);
    const { createMachine } = await import('../emulator/load.ts');
    const machine = createMachine(config);
    const facts = new KernelFacts(new KernelFile(config.kernelName, config.kernel));
    this.forget();
    this.codeBreakpoints.leave();
    this.dataBreakpoints.leave();
    this.adopt({ ...program, symbols: facts.symbols, machine, kernel: new GuestKernel(machine, facts) });
    this.resolveBreakpoints();
    this.#sendState(true);
    this.runner.start({ kind: 'continue' }, undefined);
  }

  #failed(error: unknown): void {
    const { machine } = this.debuggee;
    this.flushConsole();
    this.endProgress();
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.say(`Hyperstep has failed after ${machine.instructions} instructions; this is a bug in it:\n${text}`, 'important');
    this.sendEvent(new Event('exited', { exitCode: 1 }));
    this.sendEvent(new Event('terminated'));
  }

  // --- breakpoints ---------------------------------------------------------------------------------------------------------

  /** What knows where code is. */
  get places(): Places {
    const { symbols, files } = this.program;
    return {
      symbols,
      functionAddresses: (name, module) => files.functionAddresses(name, module),
      describes: (address) => files.at(address) !== undefined,
    };
  }

  /** Reads the guest's list of modules again. True when it, or a symbol file, has changed. */
  refreshModules(vp: number): boolean {
    const { kernel, files } = this.debuggee;
    const before = new Set(kernel.modules.map((m) => m.name));
    const changed = kernel.refreshModules(vp);
    if (!changed) return false;
    files.update(kernel.modules);
    for (const module of allModules(this).slice(1)) {
      const known = before.delete(module.name);
      this.sendEvent(new Event('module', { reason: known ? 'changed' : 'new', module }));
    }
    for (const name of before) this.sendEvent(new Event('module', { reason: 'removed', module: { id: name, name } }));
    return true;
  }

  /** Looks up the names of function breakpoints again, and tells the client what was found. */
  resolveBreakpoints(): void {
    const changed = new Set(this.codeBreakpoints.resolve(this.places));
    for (const b of this.codeBreakpoints.list) {
      if (b.addresses.length > 0 || b.problem) b.told = undefined;
      // Why it has no place may be another reason now.
      else if (b.told !== undefined && this.#unknown(b) !== b.told) changed.add(b);
    }
    for (const b of changed) this.sendEvent(new Event('breakpoint', { reason: 'changed', breakpoint: this.breakpointBody(b) }));
    this.placeBreakpoints();
  }

  /** A breakpoint as DAP shows it. */
  breakpointBody(b: CodeBreakpoint): DebugProtocol.Breakpoint {
    if (b.problem) return { id: b.id, verified: false, message: b.problem };
    if (b.addresses.length === 0) {
      b.told = this.#unknown(b);
      return { id: b.id, verified: false, message: b.told };
    }
    const line = b.line === undefined ? {} : { line: b.line };
    return { id: b.id, verified: true, instructionReference: `0x${b.addresses[0].toString(16)}`, ...line };
  }

  #unknown(b: CodeBreakpoint): string {
    if (b.special) return b.why?.() ?? b.text;
    return `${b.text} is not known yet: ${this.#why(b)}it is looked up again when the kernel or a module is found`;
  }

  /** Why a breakpoint has no place, as far as that is known by now. */
  #why(b: CodeBreakpoint): string {
    const why = b.why?.();
    if (why !== undefined) return `${why}; `;
    const kernel = this.#debuggee?.kernel;
    if (b.origin !== 'function' || !kernel?.image) return '';
    const similar = kernel.symbols.similar(b.text.trim());
    const without = `neither the kernel nor one of its ${kernel.modules.length} modules has such a function`;
    return `${without}${similar === undefined ? '' : `, did you mean ${similar}?`}; `;
  }

  /** What the meanings of names depend on. */
  #meanings: readonly unknown[] = [];

  /** Puts the machine's breakpoints where those of the user are now. */
  placeBreakpoints(): void {
    if (!this.#debuggee) return;
    const { kernel, machine, args, files } = this.#debuggee;
    if (args.noDebug) return;
    const { internal } = this.codeBreakpoints;
    const loader = kernel.moduleLoadAddress;
    // Every module that is loaded may bring what a breakpoint means: names not known yet, and others of the same name.
    if (loader !== undefined && this.codeBreakpoints.named) internal.add(loader);
    const { image, modules, btf } = kernel;
    const known = files.all.filter((f) => f.info.isComplete && f.placed).length;
    const meanings = [image?.base, modules, btf, known];
    if (meanings.some((m, i) => m !== this.#meanings[i])) {
      this.codeBreakpoints.forgetMeanings(machine);
      this.dataBreakpoints.forgetMeanings(machine);
    }
    this.#meanings = meanings;
    this.codeBreakpoints.place(machine);
    this.dataBreakpoints.place(machine);
  }

  // --- frames and variables ------------------------------------------------------------------------------------------------

  /** The functions at a frame, inlined ones first, by debug information; empty: there is none. */
  sourceFrames(frame: Frame): readonly SourceFrame[] {
    const pc = lookupPc(frame);
    const inProcess = frame.process?.toFile(pc);
    const at = !isUser(frame)
      ? this.debuggee.files.at(pc)
      : frame.process && inProcess !== undefined && { symbols: frame.process, address: inProcess };
    return at ? withoutDamage(() => at.symbols.info.frames(at.address, true), []) : [];
  }

  /** A DAP frame id, valid until the guest goes on. */
  frameId(vp: number, frame: Frame, depth = 0, task?: bigint): number {
    return this.#frames.push({ vp, frame, depth, ...(task === undefined ? {} : { task }) });
  }

  /** What a frame id stands for; without one: the VP of the last stop. */
  frame(id: number | undefined): Omit<FrameAt, 'frame'> & { frame?: Frame } {
    if (id === undefined) return { vp: this.stopAt?.vp ?? 0, depth: 0 };
    const found = this.#frames[id - 1];
    if (!found) throw new UserError('This stack frame is from an earlier stop');
    return found;
  }

  /** A DAP id of what a step of a VP can go into, valid until the guest goes on. */
  stepTargetId(target: StepTarget & { vp: number }): number {
    return this.#targets.push(target);
  }
  stepTarget(id: number): StepTarget & { vp: number } {
    const found = this.#targets[id - 1];
    if (!found) throw new UserError('This target is from an earlier stop');
    return found;
  }

  /** A DAP variables reference, valid until the guest goes on. */
  reference(source: VariableSource): number {
    return this.#sources.push(source);
  }
  source(reference: number): VariableSource {
    const found = this.#sources[reference - 1];
    if (!found) throw new UserError('These variables are from an earlier stop');
    return found;
  }

  /** A DAP location reference, valid until the guest goes on. */
  locationReference(place: CodeOrLine): number {
    return this.#locations.push(place);
  }
  location(reference: number): CodeOrLine {
    const found = this.#locations[reference - 1];
    if (found === undefined) throw new UserError('This location is from an earlier stop');
    return found;
  }

  // --- progress ------------------------------------------------------------------------------------------------------------

  startProgress(title: string, message: string): void {
    if (!this.client.supportsProgressReporting || this.#progress) return;
    this.#progress = { id: 'boot' };
    this.sendEvent(new Event('progressStart', { progressId: 'boot', title, message, cancellable: true }));
  }
  #updateProgress(): void {
    if (!this.#progress) return;
    const { machine } = this.debuggee;
    const message = `${(machine.instructions / 1e6).toFixed(0)} M instructions, ${(machine.now / 1e9).toFixed(1)} s of guest time`;
    this.sendEvent(new Event('progressUpdate', { progressId: this.#progress.id, message }));
  }
  endProgress(): void {
    if (!this.#progress) return;
    this.sendEvent(new Event('progressEnd', { progressId: this.#progress.id }));
    this.#progress = undefined;
  }
}
