import type * as vscode from 'vscode';
import type { LogView, TaskView } from '../../debug-adapter/protocol.ts';
import { openCode } from '../open-code.ts';
import type { SessionClient, Sessions } from '../session-client.ts';
import { type Line, SessionTree } from './tree.ts';

/** Records of the log that the tree has. */
const LOG_LINES = 500;

const stackOf =
  (task: TaskView) =>
  async (client: SessionClient): Promise<Line[]> => {
    const { frames, broken } = await client.request('hyperstep/taskStack', { task: task.address });
    const lines: Line[] = frames.map((f) => ({
      label: f.name,
      description: f.source?.path && !f.source.sourceReference ? `${f.source.name}:${f.line}` : undefined,
      icon: 'debug-stackframe',
      command: openCode(f),
    }));
    if (broken) lines.push({ label: broken, icon: 'info' });
    return [
      ...lines,
      ...(task.threads.length
        ? [{ label: 'Threads', description: `${task.threads.length}`, children: task.threads.map(taskLine), icon: 'list-tree' }]
        : []),
    ];
  };

const ICONS: Readonly<Record<string, string>> = {
  R: 'debug-start',
  D: 'lock',
  Z: 'circle-slash',
  T: 'debug-pause',
  t: 'debug-pause',
};

const taskLine = (task: TaskView): Line => ({
  label: `${task.pid} ${task.name}`,
  description: `${task.state}${task.where ? ` in ${task.where}` : ''}${task.threads.length ? `, ${task.threads.length + 1} threads` : ''}`,
  tooltip: `struct task_struct at ${task.address}\nstate ${task.letter}: ${task.state}`,
  icon: ICONS[task.letter] ?? 'debug-stackframe-dot',
  contextValue: 'task',
  data: task,
  load: stackOf(task),
});

const tasks = async (client: SessionClient): Promise<Line[]> => {
  const all = (await client.request('hyperstep/tasks', {})).tasks;
  const kernel = all.filter((t) => t.kernel || t.pid === 0);
  return [
    ...all.filter((t) => !kernel.includes(t)).map(taskLine),
    { label: 'Kernel threads', description: `${kernel.length}`, icon: 'gear', children: kernel.map(taskLine) },
  ];
};

const modules = async (client: SessionClient): Promise<Line[]> =>
  (await client.request('hyperstep/kernelModules', {})).modules.map((m) => ({
    label: m.name,
    description: [
      m.state === 'live' ? '' : m.state,
      `${m.size} bytes at ${m.base}`,
      m.usedBy.length ? `used by ${m.usedBy.join(', ')}` : `${m.references} references`,
    ]
      .filter(Boolean)
      .join(', '),
    icon: 'extensions',
  }));

const LEVEL_ICONS: Readonly<Record<string, string>> = {
  emergency: 'error',
  alert: 'error',
  critical: 'error',
  error: 'error',
  warning: 'warning',
};

/** A record: a click opens what printed it; where more than one call may have, they are below it. */
const logLine = (r: LogView): Line => {
  const by = r.printedBy ?? [];
  const from =
    by.length === 0
      ? 'which code printed it is not known'
      : `printed by ${by.map((p) => p.name).join(' or ')}${r.more ? ' or others' : ''}${r.gone ? ', which is no longer in memory' : ''}`;
  return {
    label: r.text.replaceAll('\n', ' ').trim() || '(empty)',
    // A side bar is narrow: the text comes first.
    description: [r.time.replace(/\[ +/, '['), r.incomplete].filter(Boolean).join(' '),
    tooltip: [r.text, `${r.level}, ${r.caller}${r.device ? `, ${r.device}` : ''}`, from].join('\n'),
    icon: LEVEL_ICONS[r.level],
    ...(by.length === 1 ? { command: openCode(by[0].address) } : {}),
    children: by.length > 1 ? by.map((p) => ({ label: p.name, icon: 'go-to-file', command: openCode(p.address) })) : [],
  };
};

const log = async (client: SessionClient): Promise<Line[]> => {
  const { records, lost } = await client.request('hyperstep/kernelLog', { count: LOG_LINES });
  return [...records.reverse().map(logLine), ...(lost ? [{ label: `${lost} older records are gone`, icon: 'info' }] : [])];
};

const mounts = async (client: SessionClient): Promise<Line[]> =>
  (await client.request('hyperstep/mounts', {})).mounts.map((m) => ({
    label: m.path,
    description: `${m.type}, ${m.device}${m.readOnly ? ', read-only' : ''}`,
    icon: 'folder',
  }));

const interrupts = async (client: SessionClient): Promise<Line[]> =>
  (await client.request('hyperstep/interrupts', {})).interrupts
    .filter((i) => i.actions.length > 0)
    .map((i) => ({
      label: `${i.irq} ${i.actions.map((a) => a.name).join(', ')}`,
      description: `${i.counts.map((c) => c ?? 'off').join(' ')}  ${i.chip} ${i.hwirq} ${i.trigger}`,
      tooltip: i.counts.map((c, vp) => `VP ${vp}: ${c ?? 'off'}`).join('\n'),
      icon: 'zap',
      children: i.actions.map((a) => ({ label: a.handler, icon: 'symbol-method', command: openCode(a.address) })),
    }));

/** The guest's Linux: what it runs, has loaded, has said, has mounted, and is interrupted by. */
export const linuxView = (sessions: Sessions): vscode.Disposable =>
  new SessionTree('hyperstep.linux', sessions, async () => [
    { label: 'Tasks', icon: 'server-process', load: tasks },
    { label: 'Kernel Log', icon: 'output', load: log },
    { label: 'Modules', icon: 'extensions', load: modules },
    { label: 'Mounts', icon: 'database', load: mounts },
    { label: 'Interrupts', icon: 'zap', load: interrupts },
  ]);
