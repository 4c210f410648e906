import fs from 'node:fs';
import { type Exit, type HypercallInfo, hypercallNames } from '../../emulator/index.ts';
import { summarize } from '../linux/summary.ts';
import { describeStop, describeTraceEvent, lostInterrupts } from '../describe.ts';
import { Guest, MACHINE_HELP, MACHINE_OPTIONS, machineConfig, matcher, openDisks, openNetwork, openSockets } from './guest.ts';
import { png } from '../screen.ts';
import { openTraceFile } from '../trace-file.ts';
import { traceKinds } from '../trace-kinds.ts';
import { UserError } from '../user-error.ts';
import { Typist } from './typist.ts';
import { UsageError, integer, options } from './usage.ts';

export const RUN_HELP = `Usage: hyperstep run --kernel FILE [OPTIONS]

Boots a kernel as a Hyper-V guest. The guest's serial console goes to stdout and nothing else does (but see --sockets stdio);
every other word goes to stderr.

${MACHINE_HELP}
  --break SPEC             stop there, print what is there, go on; may be repeated. SPEC is
                           hypercall:NAME-or-0xCODE, symbol:NAME or address:0x...
  --stdin                  what comes on standard input is typed on the guest's console; in a terminal Ctrl-] ends the run
  --until-console TEXT     end when the guest's console has shown TEXT
  --max-instructions N     end after N instructions
  --screenshot FILE        at the end write what the guest's display shows to a PNG file
  --report FILE            write { exit, instructions, hostSeconds, mips, stateHash, console, hypercalls, engine } as JSON; of a Linux
                           that did not power off { linux: { release, tasks with their stacks, the end of the log } }, too
  --trace KIND,...         print events of these kinds: hypercall, vp-register, message, signal, interrupt, timer, packet, mmio,
                           psci, fault, smccc, synic, channel, frame, undefined, service, guest, crash; vmbus (messages,
                           channels, packets, signals) or all
  --trace-file FILE        write those events to FILE instead (all of them without --trace): a name that ends in .json gets the
                           format of Chrome's and Perfetto's timeline viewers, any other JSON lines

Exit status: 0 the guest powered off, or --until-console was seen; 1 a failure of hyperstep; 2 bad usage; 3 the guest
crashed or keeps resetting; 4 --max-instructions was reached, or the guest waits for ever; 130 it was interrupted (the
report is written all the same).
`;

type Spec =
  | { kind: 'hypercall'; text: string; code: number }
  | { kind: 'symbol'; name: string }
  | { kind: 'address'; address: bigint };

/** A call by its TLFS name (any case) or its code. */
export function hypercallCode(text: string): number | undefined {
  if (/^0x[0-9a-f]{1,4}$/i.test(text)) return Number(text);
  return hypercallNames().find((n) => n.name.toLowerCase() === text.toLowerCase())?.code;
}

function parseSpec(text: string): Spec {
  const at = text.indexOf(':');
  const kind = at < 0 ? text : text.slice(0, at);
  const value = at < 0 ? '' : text.slice(at + 1);
  if (kind === 'hypercall' && value) {
    const code = hypercallCode(value);
    if (code === undefined)
      throw new UsageError(
        `--break ${text}: no hypercall is called ${value} (names are those of the TLFS, such as HvCallPostMessage; codes are 0x0000 to 0xffff)`,
      );
    return { kind, text: value, code };
  }
  if (kind === 'symbol' && value) return { kind, name: value };
  if (kind === 'address' && /^0x[0-9a-f]{1,16}$/i.test(value)) return { kind, address: BigInt(value) };
  throw new UsageError(`--break ${text}: expected hypercall:NAME-or-0xCODE, symbol:NAME or address:0x...`);
}

/** Exit status by how the run ended; 130 is what shells give for SIGINT. */
const STATUS = { 'power-off': 0, console: 0, crash: 3, 'reset-loop': 3, limit: 4, halted: 4, interrupted: 130 };

/** Consecutive guest resets without a power-off that count as a reset loop. */
const RESET_LIMIT = 3;

/** Instructions a crashed guest gets to finish its last words on the console, or to start its crash kernel. */
const AFTER_CRASH = 200_000_000;

export async function runCommand(args: string[]): Promise<number> {
  const v = options('run', args, {
    ...MACHINE_OPTIONS,
    break: { type: 'string', multiple: true },
    'until-console': { type: 'string' },
    'max-instructions': { type: 'string' },
    report: { type: 'string' },
    screenshot: { type: 'string' },
    trace: { type: 'string' },
    'trace-file': { type: 'string' },
    stdin: { type: 'boolean' },
  });
  const say = (text: string): void => {
    process.stderr.write(`${text}\n`);
  };
  const specs = (v.break ?? []).map(parseSpec);
  const maxInstructions =
    v['max-instructions'] === undefined
      ? undefined
      : integer('max-instructions', v['max-instructions'], 1, Number.MAX_SAFE_INTEGER);
  const traceFile = v['trace-file'];
  const kinds = asUsage(() => traceKinds(v.trace?.split(',') ?? (traceFile === undefined ? [] : ['all']), '--trace'));
  const until = v['until-console'];
  if (until === '') throw new UsageError('--until-console needs a text');
  for (const option of ['report', 'screenshot', 'trace-file'] as const)
    if (v[option] !== undefined) checkWritable(option, v[option]);
  const disks = await openDisks(v);
  const network = await openNetwork(v);
  const sockets = await openSockets(v);
  if (sockets.takesStdio && v.stdin) throw new UsageError('--stdin and --sockets stdio: both want the standard input');
  /** Where the guest's console goes. */
  const console = sockets.takesStdio ? process.stderr : process.stdout;
  const config = await machineConfig(v, disks, network, sockets);

  // The first Ctrl-C ends the run in good order; a second one ends the program.
  let interrupted = false;
  process.once('SIGINT', () => {
    interrupted = true;
  });
  const typist = v.stdin ? new Typist(() => current().machine) : undefined;
  let end: keyof typeof STATUS | undefined;
  let guest: Guest | undefined;
  let total = { instructions: 0, hostSeconds: 0, console: 0 };
  const hypercalls = new Map<string, number>();
  const current = (): Guest => guest as Guest;
  const trace =
    traceFile === undefined
      ? undefined
      : openTraceFile(
          traceFile,
          () => current().machine,
          () => current().kernel.symbols,
        );
  for (let resets = 0; end === undefined; ) {
    guest = await Guest.create(config, network, sockets);
    const { machine, kernel } = guest;
    guest.onConsole = (bytes) => {
      console.write(bytes);
    };
    machine.subscribe(
      (event) => {
        if (event.kind === 'service' && !kinds.has('service')) say(`hyperstep: ${event.service}: ${event.message}`);
      },
      ['service'],
    );
    if (kinds.size)
      machine.subscribe((event) => {
        if (trace) trace.write(event);
        else say(describeTraceEvent(event, machine.now, kernel.symbols, kernel));
      }, kinds);
    const pending = new Set(specs.flatMap((s) => (s.kind === 'symbol' ? [s.name] : [])));
    const asked = new Set(specs.flatMap((s) => (s.kind === 'address' ? [s.address] : [])));
    /** Where names of a module that is just being loaded become known; ours, not the user's. */
    let moduleLoad: bigint | undefined;
    const placeSymbols = (): void => {
      for (const name of pending) {
        const address = kernel.symbols.address(name);
        if (address === undefined) continue;
        asked.add(address);
        machine.setBreakpoint(address);
        pending.delete(name);
      }
      if (pending.size && moduleLoad === undefined && kernel.moduleLoadAddress !== undefined) {
        moduleLoad = kernel.moduleLoadAddress;
        machine.setBreakpoint(moduleLoad);
      }
    };
    placeSymbols();
    kernel.onFound = (found) => {
      say(`hyperstep: ${found.summary}`);
      placeSymbols();
    };
    for (const address of asked) machine.setBreakpoint(address);
    const codes = new Set(specs.flatMap((s) => (s.kind === 'hypercall' ? [s.code] : [])));
    /** A crash that the guest has reported: it is given up at `until`, unless it starts another kernel (kdump). */
    let crash: { vp: number; until: number } | undefined;
    machine.subscribe(
      (event) => {
        if (!crash || event.kind !== 'vp-register' || event.name !== 'HvRegisterGuestOsId' || event.access !== 'write') return;
        crash.until = Number.POSITIVE_INFINITY;
        say('hyperstep: another kernel has started after the crash');
      },
      ['vp-register'],
    );
    const spins = (): boolean => {
      if (!crash || machine.instructions < crash.until) return false;
      // Between two kernels the MMU is off (SCTLR_EL1.M): the next one is being unpacked and checked.
      if (((machine.readRegister(crash.vp, 'SCTLR_EL1') ?? 1n) & 1n) === 1n) return true;
      crash.until = machine.instructions + AFTER_CRASH;
      return false;
    };
    const conditions = {
      hypercall: codes.size ? (call: HypercallInfo) => call.phase === 'entry' && codes.has(call.code) : undefined,
      console: until === undefined ? undefined : matcher(until),
      enough: () => interrupted || typist?.hasLeft || spins(),
      maxInstructions: maxInstructions === undefined ? undefined : maxInstructions - total.instructions,
      isPaced: typist !== undefined,
    };
    let reset = false;
    while (end === undefined && !reset) {
      const exit = await guest.run(conditions);
      switch (exit.kind) {
        case 'console':
          end = 'console';
          break;
        case 'enough':
          end = interrupted || typist?.hasLeft ? 'interrupted' : 'crash';
          break;
        case 'limit':
          end = 'limit';
          break;
        case 'power-off':
          end = crash ? 'crash' : 'power-off';
          break;
        case 'halted':
          if (await typist?.more()) break;
          say('hyperstep: the guest waits, and nothing will ever wake it');
          for (const line of lostInterrupts(machine)) say(`hyperstep: ${line}`);
          end = 'halted';
          break;
        case 'reset':
          reset = true;
          resets++;
          if (crash) end = 'crash';
          else if (resets >= RESET_LIMIT) end = 'reset-loop';
          else say(`hyperstep: the guest resets (${resets})`);
          // Disks are not new machines.
          config.disks = disks.carry(machine);
          break;
        case 'crash':
          for (const line of describeStop(machine, kernel, exit)) say(line);
          crash = { vp: exit.vp, until: machine.instructions + AFTER_CRASH };
          break;
        case 'breakpoint':
          if (exit.pc === moduleLoad) {
            kernel.refreshModules(exit.vp);
            placeSymbols();
            if (!asked.has(exit.pc)) break;
          }
          for (const line of describeStop(machine, kernel, exit)) say(line);
          break;
        default:
          for (const line of describeStop(machine, kernel, exit as Exit)) say(line);
      }
    }
    for (const name of pending) say(`hyperstep: --break symbol:${name} was never placed: the kernel has no such symbol`);
    total = {
      instructions: total.instructions + machine.instructions,
      hostSeconds: total.hostSeconds + guest.hostSeconds,
      console: total.console + guest.consoleBytes,
    };
    for (const [name, n] of guest.hypercalls) hypercalls.set(name, (hypercalls.get(name) ?? 0) + n);
  }
  typist?.close();
  trace?.close();
  const stateHash = (guest as Guest).machine.stateHash();
  for (const line of disks.save((guest as Guest).machine)) say(`hyperstep: ${line}`);
  disks.close();
  network.close();
  sockets.close();
  if (sockets.takesStdio) process.stdin.destroy();
  if (v.screenshot !== undefined) {
    const screen = (guest as Guest).machine.screen();
    if (screen) fs.writeFileSync(v.screenshot, png(screen));
    else fs.rmSync(v.screenshot, { force: true });
    say(
      `hyperstep: ${v.screenshot}: ${screen ? `${screen.width}x${screen.height} pixels` : 'not written, the guest shows no picture'}`,
    );
  }
  const mips = total.hostSeconds > 0 ? total.instructions / total.hostSeconds / 1e6 : 0;
  say(
    `hyperstep: ${end}; ${total.instructions} instructions in ${total.hostSeconds.toFixed(2)} s, ${mips.toFixed(0)} MIPS, state ${stateHash}`,
  );
  if (v.report !== undefined) {
    const { instructions, hostSeconds, console } = total;
    const calls = Object.fromEntries([...hypercalls].sort());
    const engine = (guest as Guest).machine.engineStatistics();
    const linux = end === 'power-off' ? undefined : summarize((guest as Guest).kernel);
    const report = { exit: end, instructions, hostSeconds, mips, stateHash, console, hypercalls: calls, engine, linux };
    fs.writeFileSync(v.report, `${JSON.stringify(report, null, 2)}\n`);
  }
  return STATUS[end];
}

function checkWritable(option: string, file: string): void {
  try {
    fs.writeFileSync(file, '');
  } catch (error) {
    throw new UsageError(`--${option} ${file}: cannot be written (${(error as NodeJS.ErrnoException).code})`);
  }
}

/** What is wrong with an option is told as such. */
function asUsage<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof UserError ? new UsageError(error.message) : error;
  }
}
