/** Expressions (hover, watch), the Debug Console with its commands, and completion. */
import type { DebugProtocol } from '@vscode/debugprotocol';
import { hex } from '../../emulator/base/bits.ts';
import { formatValue, HV, isAddress, machineContext } from '../context.ts';
import { describeFeatures, describeStack, describeVmbus, describeVpRegisters, secondsText, valueText } from '../describe.ts';
import { assign, type Context, evaluateText, type Value } from '../expression/evaluate.ts';
import { scanCodeOf } from '../keys.ts';
import { stackOf } from '../linux/callers.ts';
import { displayOf } from '../screen.ts';
import type { Session } from '../session.ts';
import { hypercallContext } from '../stops.ts';
import { UserError } from '../user-error.ts';
import { hypercallRecords } from './custom.ts';

interface Command {
  usage: string;
  help: string;
  run(session: Session, rest: string, vp: number): string;
}

const shutDown = (session: Session, restart: boolean): string => {
  const { machine } = session.debuggee;
  if (!machine.requestShutdown(restart))
    throw new UserError("The guest's shutdown channel is not open (its hv_utils driver is not running)");
  session.runner.wake();
  return `Asked the guest to ${restart ? 'restart' : 'shut down'}${session.runner.running ? '' : '; it will when it goes on'}.`;
};

/** What the Debug Console understands besides expressions. */
export const COMMANDS: Record<string, Command> = {
  help: {
    usage: 'help',
    help: 'this list',
    run: () =>
      [
        ...Object.values(COMMANDS).map((c) => `${c.usage.padEnd(22)} ${c.help}`),
        '',
        'Anything else is an expression: $x0, $TTBR1_EL1, a symbol, *(u64*)addr, hv.HvRegisterVpIndex; assign with =.',
      ].join('\n'),
  },
  bt: {
    usage: 'bt',
    help: 'call stack of the VP',
    run: (session, _, vp) => describeStack(stackOf(session.debuggee.kernel, vp), session.debuggee.kernel.symbols).join('\n'),
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
    help: 'VMBus channels and their rings',
    run: (session) => describeVmbus(session.debuggee.machine).join('\n'),
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
  shutdown: {
    usage: 'shutdown',
    help: 'asks the guest to shut down, as the host can',
    run: (session) => shutDown(session, false),
  },
  restart: { usage: 'restart', help: 'asks the guest to restart, as the host can', run: (session) => shutDown(session, true) },
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
  instructions: {
    usage: 'instructions',
    help: 'how far the guest has come',
    run: (session) => {
      const { machine } = session.debuggee;
      const { hostMs } = session.runner;
      const mips = hostMs > 0 ? `, ${(machine.instructions / hostMs / 1000).toFixed(0)} MIPS` : '';
      return `${machine.instructions} instructions, ${secondsText(machine.now)} s of guest time, ${(hostMs / 1000).toFixed(2)} s of host time${mips}`;
    },
  },
};

/** `left = right`, but not ==, <=, >=, !=. */
const ASSIGNMENT = /^([^=!<>]+)=(?!=)(.+)$/;

/** At a hypercall its fields are in scope as well. */
function scope(session: Session, frameId: number | undefined): { context: ReturnType<typeof machineContext>; lookup: Context } {
  const { vp, frame } = session.frame(frameId);
  // At a stop they have been read; a guest that runs may have loaded more.
  if (session.runner.running) session.debuggee.kernel.refreshModules(vp);
  const context = machineContext(session.debuggee.kernel, vp, frame);
  const exit = session.stopAt?.exit;
  const lookup = exit?.kind === 'hypercall' && exit.vp === vp ? hypercallContext(exit.call, context) : context;
  return { context, lookup };
}

function shown(session: Session, value: Value): DebugProtocol.EvaluateResponse['body'] {
  const { kernel } = session.debuggee;
  const result = formatValue(value, kernel.symbols);
  const { data } = value;
  const children = data
    ? { list: () => Object.entries(data).map(([name, v]) => ({ name, value: valueText(v), variablesReference: 0 })) }
    : undefined;
  return {
    result,
    variablesReference: children && !session.runner.running ? session.reference(children) : 0,
    ...(isAddress(value) ? { memoryReference: hex(BigInt.asUintN(64, value.value)) } : {}),
  };
}

export const evaluation = {
  evaluate(session: Session, args: DebugProtocol.EvaluateArguments): DebugProtocol.EvaluateResponse['body'] {
    const text = args.expression.trim();
    const { context, lookup } = scope(session, args.frameId);
    if (args.context === 'repl') {
      const [word, ...rest] = text.split(/\s+/);
      const command = Object.hasOwn(COMMANDS, word) ? COMMANDS[word] : undefined;
      if (command) return { result: command.run(session, rest.join(' '), session.frame(args.frameId).vp), variablesReference: 0 };
      const m = ASSIGNMENT.exec(text);
      if (m) {
        session.needStopped();
        return shown(session, assign(m[1].trim(), evaluateText(m[2], lookup), context));
      }
    }
    return shown(session, evaluateText(text, lookup));
  },

  setExpression(session: Session, args: DebugProtocol.SetExpressionArguments): DebugProtocol.SetExpressionResponse['body'] {
    session.needStopped();
    const { context, lookup } = scope(session, args.frameId);
    const { result: value, ...rest } = shown(session, assign(args.expression, evaluateText(args.value, lookup), context));
    return { value, ...rest };
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
    if (word.startsWith('$'))
      return {
        targets: machine
          .registers()
          .filter((r) => like(r.name, word.slice(1)))
          .map((r) => target(`$${r.name}`, 'variable')),
      };
    if (word.startsWith(HV))
      return {
        targets: machine
          .hypervRegisters()
          .filter((r) => like(r.name, word.slice(HV.length)))
          .map((r) => target(`${HV}${r.name}`, 'variable')),
      };
    const commands =
      start === 0
        ? Object.keys(COMMANDS)
            .filter((c) => like(c, word))
            .map((c) => target(c, 'keyword'))
        : [];
    const symbols = word.length >= 2 ? kernel.symbols.complete(word, 100).map((name) => target(name, 'function')) : [];
    return { targets: [...commands, ...symbols] };
  },
};
