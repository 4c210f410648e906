/** What the Linux view and the `linux.` commands show. All of it also works while the guest runs. */
import { hex } from '../../emulator/base/bits.ts';
import { readInterrupts } from '../linux/interrupts.ts';
import type { KernelImage } from '../symbols/kernel-image.ts';
import { readLoadedModules } from '../linux/loaded-modules.ts';
import { MessageSources } from '../linux/message-sources.ts';
import { readMounts } from '../linux/mounts.ts';
import { KernelObjects } from '../linux/objects.ts';
import { callerText, LEVELS, type LogRecord, readLog, timeText } from '../linux/printk.ts';
import { type Process, readTasks, sleepsIn, type Task, taskAt, taskStack } from '../linux/tasks.ts';
import { frameName } from '../linux/unwind.ts';
import type { CustomRequests, InterruptView, LogView, ModuleView, MountView, TaskView } from '../protocol.ts';
import type { Handler, Session } from '../session.ts';
import { UserError } from '../user-error.ts';
import type { Command } from './evaluate.ts';
import { shownFrames } from './stack.ts';

/** From the image's header to code that is mapped for as long as the kernel runs (arch/arm64/include/asm/memory.h, SEGMENT_ALIGN). */
const CODE_AT = 0x10000n;
/** Records of the log that are sent, at most: the newest. */
const MAX_LOG = 2000;

/** The kernel's objects as the VP at hand sees them. Throws UserError before there is a kernel. */
function objectsOf(session: Session): KernelObjects {
  const { kernel, machine } = session.debuggee;
  const { image } = kernel;
  if (!image) throw new UserError('No Linux kernel has been found in the guest (yet)');
  const all = Array.from({ length: machine.vpCount }, (_, vp) => vp);
  // While user space runs, a VP may not see the kernel's memory (CONFIG_UNMAP_KERNEL_AT_EL0).
  const vp = [session.stopAt?.vp ?? 0, ...all].find(
    (n) => machine.vpState(n) !== 'off' && machine.translate(n, image.base + CODE_AT) !== undefined,
  );
  if (vp === undefined) throw new UserError("No VP sees the kernel's memory now: all run user space; stop in the kernel");
  session.refreshModules(vp);
  return new KernelObjects(kernel, vp);
}

/** What a reader found. Throws UserError when that is nothing. */
function found<T>(what: T | undefined, name: string): T {
  if (what === undefined) throw new UserError(`${name} not found in the guest's memory (yet)`);
  return what;
}

function taskView(objects: KernelObjects, task: Task): TaskView {
  const { address, pid, comm, letter, state, kernel, vp } = task;
  const where = vp === undefined ? sleepsIn(objects, taskStack(objects, address, vp).frames) : undefined;
  return {
    address: hex(address),
    pid,
    name: comm,
    letter,
    state: vp === undefined ? state : `${state} on VP ${vp}`,
    kernel,
    ...(where ? { where: frameName(where, objects.kernel.symbols) } : {}),
    threads: [],
  };
}

function tasks(session: Session): TaskView[] {
  const objects = objectsOf(session);
  return found(readTasks(objects), 'The list of tasks was').map((process: Process) => ({
    ...taskView(objects, process),
    threads: process.threads.map((t) => taskView(objects, t)),
  }));
}

function modules(session: Session): ModuleView[] {
  return (readLoadedModules(objectsOf(session)) ?? []).map((m) => ({ ...m, base: hex(m.base, 16) }));
}

/** Looking through the kernel's code for who prints is worth doing once. */
const SOURCES = new WeakMap<KernelImage, MessageSources>();

function logView(objects: KernelObjects, sources: MessageSources, record: LogRecord): LogView {
  const from = sources.find(objects, record);
  const { symbols } = objects.kernel;
  return {
    time: timeText(record.time),
    level: LEVELS[record.level],
    text: record.text,
    caller: callerText(record),
    ...(record.device ? { device: `${record.subsystem ?? ''} ${record.device}`.trim() } : {}),
    ...(record.incomplete ? { incomplete: record.incomplete } : {}),
    ...(from
      ? {
          printedBy: from.places.map((at) => ({ name: symbols.format(at), address: hex(at) })),
          ...(from.more ? { more: true } : {}),
          ...(from.gone ? { gone: true } : {}),
        }
      : {}),
  };
}

function kernelLog(session: Session, last: number): { records: LogView[]; lost: number } {
  const objects = objectsOf(session);
  const log = found(readLog(objects, last), "The kernel's log was");
  const { kernel } = session.debuggee;
  const sources = (kernel.image && SOURCES.get(kernel.image)) ?? new MessageSources(kernel);
  if (kernel.image) SOURCES.set(kernel.image, sources);
  return { records: log.records.map((r) => logView(objects, sources, r)), lost: Number(log.lost) };
}

function mounts(session: Session): MountView[] {
  return found(readMounts(objectsOf(session)), 'The mounts were').map(({ device, path, type, readOnly }) => ({
    device,
    path,
    type,
    readOnly,
  }));
}

function interrupts(session: Session): InterruptView[] {
  const objects = objectsOf(session);
  const { symbols } = session.debuggee.kernel;
  return found(readInterrupts(objects), 'The table of interrupts was').map(
    ({ irq, hwirq, chip, trigger, actions, counts, hidden }) => ({
      irq,
      hwirq: Number(hwirq),
      chip,
      trigger,
      actions: actions.map((a) => ({ name: a.name, handler: symbols.format(a.handler), address: hex(a.handler) })),
      counts: counts.map((c) => c ?? null),
      hidden,
    }),
  );
}

/** Address of a task as a client writes it. Throws UserError when there is none. */
function taskAddress(objects: KernelObjects, text: string): bigint {
  const address = /^0x[0-9a-f]{1,16}$/i.test(text) ? BigInt(text) : undefined;
  if (address === undefined || !taskAt(objects, address)) throw new UserError(`${text} is no task`);
  return address;
}

type Requests = Pick<
  CustomRequests,
  | 'hyperstep/tasks'
  | 'hyperstep/taskStack'
  | 'hyperstep/kernelModules'
  | 'hyperstep/kernelLog'
  | 'hyperstep/mounts'
  | 'hyperstep/interrupts'
  | 'hyperstep/codePlace'
>;

export const linuxRequests: { [K in keyof Requests]: Handler<Requests[K][0], Requests[K][1]> } = {
  'hyperstep/tasks': (session) => ({ tasks: tasks(session) }),

  'hyperstep/taskStack': (session, { task }) => {
    const objects = objectsOf(session);
    const { frames, broken } = taskStack(objects, taskAddress(objects, task));
    const all = frames.flatMap((frame) => shownFrames(session, objects.vp, frame));
    return {
      frames: all.map(({ name, line, source, instructionPointerReference = '' }) => ({
        name,
        line,
        source,
        address: instructionPointerReference,
      })),
      ...(broken ? { broken } : {}),
    };
  },

  'hyperstep/kernelModules': (session) => ({ modules: modules(session) }),
  'hyperstep/kernelLog': (session, { count }) => kernelLog(session, Math.min(count ?? MAX_LOG, MAX_LOG)),
  'hyperstep/mounts': (session) => ({ mounts: mounts(session) }),
  'hyperstep/interrupts': (session) => ({ interrupts: interrupts(session) }),

  'hyperstep/codePlace': (session, { address }) => {
    if (!/^0x[0-9a-f]{1,16}$/i.test(address)) throw new UserError(`${address} is not an address`);
    const pc = BigInt(address);
    const [place] = shownFrames(session, session.stopAt?.vp ?? 0, { pc, fp: 0n, kind: 'exception', how: 'registers', x: [] });
    return { name: session.debuggee.kernel.symbols.format(pc), line: place.line, source: place.source, address };
  },
};

const columns = (rows: readonly (readonly string[])[]): string => {
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((r) => r[i].length))) ?? [];
  return rows
    .map((r) =>
      r
        .map((cell, i) => cell.padEnd(widths[i]))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
};

/** `linux.` in the Debug Console. */
export const linuxCommands: Record<string, Command> = {
  'linux.tasks': {
    usage: 'linux.tasks',
    help: "the guest's processes and threads",
    run: (session) =>
      columns([
        ['PID', '', 'NAME', 'STATE', 'IN'],
        ...tasks(session).flatMap((p) =>
          [p, ...p.threads].map((t) => [
            t === p ? `${t.pid}` : `  ${t.pid}`,
            t.letter,
            t.kernel ? `[${t.name}]` : t.name,
            t.state,
            t.where ?? '',
          ]),
        ),
      ]),
  },
  'linux.stack': {
    usage: 'linux.stack PID',
    help: 'call stack of a task, running or asleep',
    run: (session, rest) => {
      const objects = objectsOf(session);
      const all = found(readTasks(objects), 'The list of tasks was').flatMap((p) => [p, ...p.threads]);
      const task = all.find((t) => `${t.pid}` === rest.trim());
      if (!task) throw new UserError(`There is no task ${rest.trim() || '(a pid is missing)'}`);
      const { frames, broken } = taskStack(objects, task.address);
      const lines = frames.map((f, i) => `#${`${i}`.padEnd(2)} ${hex(f.pc, 16)}  ${frameName(f, objects.kernel.symbols)}`);
      return [`${task.comm} (${task.pid}): ${task.state}`, ...lines, ...(broken ? [`the stack ends here: ${broken}`] : [])].join(
        '\n',
      );
    },
  },
  'linux.modules': {
    usage: 'linux.modules',
    help: 'loaded modules, and who uses them',
    run: (session) =>
      columns([
        ['NAME', 'SIZE', 'BASE', 'STATE', 'USED BY'],
        ...modules(session).map((m) => [m.name, `${m.size}`, m.base, m.state, `${m.references} ${m.usedBy.join(',')}`]),
      ]),
  },
  'linux.dmesg': {
    usage: 'linux.dmesg [N]',
    help: "the last N lines of the kernel's log (all), out of its memory",
    run: (session, rest) => {
      const log = found(readLog(objectsOf(session), Number(rest) || undefined), "The kernel's log was");
      return log.records.map((r) => `${timeText(r.time)} ${r.text}${r.incomplete ? ` <${r.incomplete}>` : ''}`).join('\n');
    },
  },
  'linux.mounts': {
    usage: 'linux.mounts',
    help: 'what is mounted where',
    run: (session) => columns(mounts(session).map((m) => [m.device, m.path, m.type, m.readOnly ? 'ro' : 'rw'])),
  },
  'linux.interrupts': {
    usage: 'linux.interrupts',
    help: 'interrupts, and how often each VP has taken them',
    run: (session) => {
      const vps = Array.from({ length: session.debuggee.machine.vpCount }, (_, vp) => `VP ${vp}`);
      return columns([
        ['IRQ', ...vps, 'CHIP', 'HWIRQ', '', 'ACTIONS'],
        ...interrupts(session)
          .filter((i) => i.actions.length > 0)
          .map((i) => [
            `${i.irq}`,
            ...i.counts.map((c) => (c === null ? 'off' : `${c}`)),
            i.chip,
            `${i.hwirq}`,
            i.trigger,
            i.actions.map((a) => `${a.name} (${a.handler})`).join(', '),
          ]),
      ]);
    },
  },
};
