/** Expressions (hover, watch), the Debug Console with its commands, and completion. */
import type { DebugProtocol } from '@vscode/debugprotocol';
import { hex } from '../../emulator/base/bits.ts';
import { callersOf, formatValue, frameState, HV, machineContext } from '../context.ts';
import { describeFeatures, describePlatform, describeStack, describeVpRegisters, secondsText, valueText } from '../describe.ts';
import { completeExpression } from '../expression/complete.ts';
import { assign, evaluateText, execute, type Target, type Value } from '../expression/evaluate.ts';
import { ExpressionError } from '../expression/parse.ts';
import { scanCodeOf } from '../keys.ts';
import { walkStack } from '../linux/callers.ts';
import { frameVariables } from '../linux/types.ts';
import { displayOf } from '../screen.ts';
import type { Session } from '../session.ts';
import { hypercallContext } from '../stops.ts';
import { traceHelp, traceKinds } from '../trace-kinds.ts';
import { UserError } from '../user-error.ts';
import { describeVmbus } from '../vmbus-view.ts';
import { changeChannel, hypercallRecords, sessionVmbus } from './custom.ts';
import { linuxCommands } from './linux.ts';
import { serviceCommands } from './services.ts';
import { completePath, inspectText } from './inspect-source.ts';
import { shownValue, tellChange } from './value-source.ts';

export interface Command {
  usage: string;
  help: string;
  run(session: Session, rest: string, vp: number): string;
}

/** What the Debug Console understands besides expressions. */
export const COMMANDS: Record<string, Command> = {
  help: {
    usage: 'help',
    help: 'this list',
    run: () =>
      [
        ...Object.values(COMMANDS).map((c) => `${c.usage.padEnd(22)} ${c.help}`),
        '',
        'Anything else is an expression in C: $x0, $TTBR1_EL1, vmbus_connection.conn_state, *(u64*)addr, $current->comm,',
        '$per_cpu(runqueues, 1).nr_running, hv_vmbus::vmbus_connection, arr[0]@8, hv.HvRegisterVpIndex; assign with =.',
      ].join('\n'),
  },
  bt: {
    usage: 'bt',
    help: 'call stack of the VP, with lines and how each frame was found',
    run: (session, _, vp) => {
      const { kernel } = session.debuggee;
      const { frames, broken } = walkStack(kernel, vp);
      const lines = describeStack(frames, kernel.symbols).flatMap((text, i) => {
        const functions = session.sourceFrames(frames[i]);
        return [
          `${text}   (by ${frames[i].how})`,
          ...functions.flatMap(({ name, path, line }, depth) => {
            const inlined = depth < functions.length - 1 ? `, inlined in ${functions[depth + 1].name}` : '';
            return line > 0 ? [`        ${name ?? ''} at ${path}:${line}${inlined}`] : [];
          }),
        ];
      });
      return [...lines, ...(broken ? [`  the stack ends here: ${broken}`] : [])].join('\n');
    },
  },
  hypercalls: {
    usage: 'hypercalls [N]',
    help: 'the last N hypercalls (10)',
    run: (session, rest) => {
      const records = hypercallRecords(session, Number(rest) || 10);
      if (records.length === 0) return 'No hypercall yet.';
      return records
        .map((r) => `${secondsText(r.time)} VP ${r.vp} ${r.name}(${r.input.join(', ')}) -> ${r.status} from ${r.caller}`)
        .join('\n');
    },
  },
  vmbus: {
    usage: 'vmbus',
    help: "VMBus channels and their rings, the host's half and the guest's",
    run: (session) => describeVmbus(sessionVmbus(session)).join('\n'),
  },
  channel: {
    usage: 'channel RELID rescind|offer|signal-guest|signal-host|target VP',
    help: 'takes a VMBus channel away or gives it back, signals one of its ends, moves its interrupts',
    run: (session, rest) => {
      const [relid, action, vp] = rest.trim().split(/\s+/);
      if (!/^\d+$/.test(relid) || !action || (action === 'target') !== /^\d+$/.test(vp ?? ''))
        throw new UserError('channel RELID, and rescind, offer, signal-guest, signal-host or target VP');
      changeChannel(session, Number(relid), action, vp === undefined ? undefined : Number(vp));
      return `Channel ${relid}: done.`;
    },
  },
  platform: {
    usage: 'platform',
    help: 'the host that the guest sees, and what its timers wait for',
    run: (session) => describePlatform(session.debuggee.machine).join('\n'),
  },
  inspect: {
    usage: 'inspect [PATH]',
    help: 'the parts of the machine, or what is at a path such as vmbus.channels[4]; hv.PATH = VALUE changes it',
    run: (session, rest) => inspectText(session.debuggee.machine, rest.trim()),
  },
  trace: {
    usage: 'trace [KIND,...|off] [FILE]',
    help: 'tells events of these kinds (trace kinds: which there are), here or in a file; without a word: what is told',
    run: (session, rest) => {
      const [kinds, file] = rest.trim().split(/\s+/);
      if (kinds === 'kinds') return traceHelp().join('\n');
      if (kinds === 'off') session.trace.set(new Set());
      else if (kinds) session.trace.set(traceKinds(kinds.split(','), 'trace'), file);
      return session.trace.text;
    },
  },
  vpregs: {
    usage: 'vpregs',
    help: "the VP's Hyper-V registers",
    run: (session, _, vp) => describeVpRegisters(session.debuggee.machine, vp).join('\n'),
  },
  features: {
    usage: 'features',
    help: "ms_hyperv, the host's half and the guest's",
    run: (session, _, vp) => describeFeatures(session.debuggee.machine, session.debuggee.kernel, vp).join('\n'),
  },
  symbols: {
    usage: 'symbols PREFIX',
    help: 'symbols that start like this',
    run: (session, rest) => {
      const { symbols } = session.debuggee.kernel;
      const found = symbols.complete(rest, 50);
      return (
        found.map((name) => `${hex(symbols.address(name) ?? 0n, 16)} ${name}`).join('\n') || `No symbol starts with "${rest}".`
      );
    },
  },
  ...linuxCommands,
  ...serviceCommands,
  key: {
    usage: 'key NAME',
    help: 'presses a key of the synthetic keyboard: a letter, a digit, enter, esc, f1, up ...',
    run: (session, rest) => {
      const key = scanCodeOf(rest.trim());
      if (key === undefined)
        throw new UserError(
          `There is no key "${rest}"; keys are letters, digits, esc, enter, f1, up ... or called as in KeyboardEvent.code: ArrowUp`,
        );
      const { machine } = session.debuggee;
      const pressed = machine.sendKey(key, false) && machine.sendKey(key, true);
      if (!pressed) throw new UserError("The guest's keyboard channel is not open (its hyperv-keyboard driver is not running)");
      session.runner.wake();
      return `Pressed ${rest}.`;
    },
  },
  display: {
    usage: 'display WxH',
    help: 'gives the display of the guest another resolution',
    run: (session, rest) => {
      const display = displayOf(rest.trim());
      const { machine } = session.debuggee;
      if (!machine.resizeDisplay(display))
        throw new UserError(`The guest's video memory is too small for that: start it with "display": "${rest.trim()}"`);
      session.runner.wake();
      return `The guest is offered a display of ${display.width}x${display.height} pixels.`;
    },
  },
  network: {
    usage: 'network up|down|attach|detach',
    help: 'plugs the cable of the network card in or out, or the card itself',
    run: (session, rest) => {
      const { machine, config } = session.debuggee;
      const acts: Record<string, [act: () => boolean, said: string]> = {
        up: [() => machine.setNetworkLink(true), 'The link is up.'],
        down: [() => machine.setNetworkLink(false), 'The link is down.'],
        attach: [
          () => {
            machine.attachNetwork(config.network ?? { mode: 'internal' });
            return true;
          },
          'The guest is offered a network card.',
        ],
        detach: [() => machine.detachNetwork(), 'The network card is taken away.'],
      };
      const name = rest.trim();
      if (!Object.hasOwn(acts, name)) throw new UserError('network is followed by up, down, attach or detach');
      const [act, said] = acts[name];
      if (!act()) throw new UserError('The guest has no network card');
      session.runner.wake();
      return said;
    },
  },
  instructions: {
    usage: 'instructions',
    help: 'how far the guest has come',
    run: (session) => {
      const { machine } = session.debuggee;
      const { hostMs } = session.runner;
      const mips = hostMs > 0 ? `, ${(machine.instructions / hostMs / 1000).toFixed(0)} MIPS` : '';
      const { generated, judged } = machine.evaluations;
      const conditions =
        generated + judged ? `; ${generated} conditions evaluated by the engine's code, ${judged} beside it` : '';
      return `${machine.instructions} instructions, ${secondsText(machine.now)} s of guest time, ${(hostMs / 1000).toFixed(2)} s of host time${mips}${conditions}`;
    },
  },
};

/** At a hypercall its fields are in scope as well. */
export function scope(session: Session, frameId: number | undefined): { vp: number; context: Target; lookup: Target } {
  const { vp, frame, depth, task } = session.frame(frameId);
  // At a stop they have been read; a guest that runs may have loaded more.
  if (session.runner.running) session.refreshModules(vp);
  const { kernel } = session.debuggee;
  const context = machineContext(kernel, vp, { frame, depth, task, callers: callersOf(session.debuggee.kernel, vp, frame) });
  const exit = session.stopAt?.exit;
  const lookup = exit?.kind === 'hypercall' && exit.vp === vp ? { ...context, ...hypercallContext(exit.call, context) } : context;
  return { vp, context, lookup };
}

function shown(
  session: Session,
  vp: number,
  value: Value,
  options: NonNullable<Parameters<typeof shownValue>[3]>,
): DebugProtocol.EvaluateResponse['body'] {
  if (value.data !== undefined) {
    const { data } = value;
    const children = {
      list: () => Object.entries(data).map(([name, v]) => ({ name, value: valueText(v), variablesReference: 0 })),
    };
    const result = formatValue(value, session.debuggee.kernel, vp, options.hex);
    return { result, variablesReference: session.runner.running ? 0 : session.reference(children) };
  }
  const { value: result, ...rest } = shownValue(session, vp, value, options);
  return { result, ...rest };
}

/** In the Debug Console there is room to point at the place. */
function pointingAt(text: string, e: unknown): unknown {
  if (!(e instanceof ExpressionError) || e.column === undefined || /[\n\t]/.test(text)) return e;
  return new UserError(`${e.fact}\n${text}\n${' '.repeat(e.column - 1)}^`);
}

export const evaluation = {
  evaluate(session: Session, args: DebugProtocol.EvaluateArguments): DebugProtocol.EvaluateResponse['body'] {
    const text = args.expression.trim();
    const inHex = args.format?.hex ?? false;
    if (args.context === 'repl') {
      const [word, ...rest] = text.split(/\s+/);
      const command = Object.hasOwn(COMMANDS, word) ? COMMANDS[word] : undefined;
      if (command) return { result: command.run(session, rest.join(' '), session.frame(args.frameId).vp), variablesReference: 0 };
    }
    const { vp, context, lookup } = scope(session, args.frameId);
    if (args.context !== 'repl') return shown(session, vp, evaluateText(text, lookup), { expression: text, context, hex: inHex });
    try {
      const { value, changed } = execute(text, lookup, () => session.needStopped());
      if (changed) tellChange(session, value);
      return shown(session, vp, value, { ...(changed ? {} : { expression: text }), context, hex: inHex });
    } catch (e) {
      throw pointingAt(text, e);
    }
  },

  setExpression(session: Session, args: DebugProtocol.SetExpressionArguments): DebugProtocol.SetExpressionResponse['body'] {
    session.needStopped();
    const { vp, context, lookup } = scope(session, args.frameId);
    const value = assign(args.expression, evaluateText(args.value, lookup), context);
    tellChange(session, value);
    const { result, ...rest } = shown(session, vp, value, {
      expression: args.expression,
      context,
      hex: args.format?.hex ?? false,
    });
    return { value: result, ...rest };
  },

  completions(session: Session, args: DebugProtocol.CompletionsArguments): DebugProtocol.CompletionsResponse['body'] {
    if (!session.launched) return { targets: [] };
    const { machine, kernel } = session.debuggee;
    const before = args.text.slice(0, args.column - 1);
    const word = /(\$?[\w.]*)$/.exec(before)?.[1] ?? '';
    const start = before.length - word.length;
    const target = (label: string, type: DebugProtocol.CompletionItemType): DebugProtocol.CompletionItem => ({
      label,
      type,
      start,
      length: word.length,
    });
    const like = (name: string, prefix: string) => name.toLowerCase().startsWith(prefix.toLowerCase());
    const inMachine = /(?:\binspect\s+|\bhv\.)([\w.[\]]*)$/.exec(before);
    const registers = inMachine && /^\w*$/.test(inMachine[1]);
    if (inMachine && (!registers || before.startsWith('inspect'))) {
      const { prefix, names } = completePath(machine, inMachine[1]);
      const at = before.length - prefix.length;
      return { targets: names.map((label) => ({ label, type: 'field', start: at, length: prefix.length })) };
    }
    const { lookup } = scope(session, args.frameId);
    const inside = completeExpression(before, lookup);
    const at = before.length - (inside?.prefix.length ?? 0);
    const first = (inside?.items ?? []).map(
      (i): DebugProtocol.CompletionItem => ({
        label: i.name,
        type: i.kind,
        start: at,
        length: inside?.prefix.length ?? 0,
        ...(i.detail ? { detail: i.detail } : {}),
      }),
    );
    if (inside && !inside.more) return { targets: first };
    if (word.startsWith('$'))
      return {
        targets: [...FUNCTIONS, ...machine.registers().map((r) => r.name)]
          .filter((name) => like(name, word.slice(1)))
          .map((name) => target(`$${name}`, FUNCTIONS.includes(name) ? 'function' : 'variable')),
      };
    if (word.startsWith(HV))
      return {
        targets: [...Object.keys(machine.tree()), ...machine.hypervRegisters().map((r) => r.name)]
          .filter((name) => like(name, word.slice(HV.length)))
          .map((name) => target(`${HV}${name}`, 'variable')),
      };
    const commands =
      start === 0
        ? Object.keys(COMMANDS)
            .filter((c) => like(c, word))
            .map((c) => target(c, 'keyword'))
        : [];
    const locals = variablesIn(session, args.frameId)
      .filter((name) => like(name, word))
      .map((name) => target(name, 'variable'));
    const symbols = word.length >= 2 ? kernel.symbols.complete(word, 100).map((name) => target(name, 'function')) : [];
    const known = new Set(symbols.map((s) => s.label));
    const others = word.length >= 2 ? (lookup.types?.complete('variable', word, 100) ?? []) : [];
    const variables = others.filter((name) => !known.has(name)).map((name) => target(name, 'variable'));
    const constants = word.length >= 2 ? (lookup.types?.complete('constant', word, 100) ?? []) : [];
    const enumerators = constants.map((name) => target(name, 'enum'));
    return { targets: [...first, ...commands, ...locals, ...symbols, ...variables, ...enumerators] };
  },
};

/** What `$` may be followed by besides registers. */
const FUNCTIONS = ['current', 'per_cpu', 'container_of', 'offsetof'];

/** Names of the arguments and locals of a frame. */
function variablesIn(session: Session, frameId: number | undefined): string[] {
  if (session.runner.running) return [];
  const { vp, frame, depth } = session.frame(frameId);
  const state = frameState(session.debuggee.kernel, vp, { frame, depth });
  const found = frameVariables(session.debuggee.kernel, vp, state, !frame || frame.kind === 'top');
  return [...new Set(found.map((v) => v.name))];
}
