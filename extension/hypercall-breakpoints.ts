import * as vscode from 'vscode';
import type { HypercallBreakpoint } from '../debug-adapter/protocol.ts';
import type { SessionClient, Sessions } from './session-client.ts';

const KEY = 'hyperstep.hypercallBreakpoints';

/**
 * Hypercall breakpoints made by command. They belong to the workspace, are sent to every session that starts, and are
 * listed by the Hypercalls view. (The common calls can also be ticked in VS Code's own Breakpoints view.)
 */
export class HypercallBreakpoints {
  readonly #context: vscode.ExtensionContext;
  readonly #sessions: Sessions;
  readonly #changed = new vscode.EventEmitter<void>();
  readonly onChange = this.#changed.event;

  constructor(context: vscode.ExtensionContext, sessions: Sessions) {
    this.#context = context;
    this.#sessions = sessions;
  }

  get all(): HypercallBreakpoint[] {
    return this.#context.workspaceState.get<HypercallBreakpoint[]>(KEY, []);
  }

  async #store(list: HypercallBreakpoint[]): Promise<void> {
    await this.#context.workspaceState.update(KEY, list);
    this.#changed.fire();
    await Promise.all(this.#sessions.all.map((client) => this.send(client)));
  }

  /** Tells a session; says what it did not accept. */
  async send(client: SessionClient): Promise<void> {
    const breakpoints = this.all;
    const { verified } = await client.request('hyperstep/setHypercallBreakpoints', { breakpoints });
    const bad = verified.map((v, i) => ({ ...v, call: breakpoints[i].call })).filter((v) => !v.verified);
    if (bad.length) void vscode.window.showWarningMessage(bad.map((b) => `${b.call}: ${b.message ?? 'not accepted'}`).join('; '));
  }

  /** The command: pick a call, then when and under which condition. */
  async add(): Promise<void> {
    const client = this.#sessions.current;
    const names = client ? (await client.request('hyperstep/hypercallNames', {})).names : [];
    const items = names.map((n) => ({ label: n.name, description: `0x${n.code.toString(16).padStart(4, '0')}` }));
    const call = items.length
      ? (await vscode.window.showQuickPick(items, { title: 'Break on which hypercall?', matchOnDescription: true }))?.label
      : await vscode.window.showInputBox({
          title: 'Break on which hypercall?',
          prompt: 'A TLFS name (HvCallPostMessage) or a code (0x5c)',
        });
    if (!call) return;
    const breakpoint = await this.#refine({ call, phase: 'entry' });
    if (!breakpoint) return;
    const rest = this.all.filter((b) => !(b.call === call && b.phase === breakpoint.phase));
    await this.#store([...rest, breakpoint]);
  }

  /** Lets the user say when the breakpoint stops, until they take it. */
  async #refine(breakpoint: HypercallBreakpoint): Promise<HypercallBreakpoint | undefined> {
    const texts = [
      {
        key: 'condition',
        label: 'Condition',
        prompt: 'An expression over the decoded fields, status and registers',
        placeHolder: 'ConnectionId == 4',
      },
      { key: 'hitCondition', label: 'Hit Count', prompt: 'A number of hits, or a comparison with it', placeHolder: '>= 3' },
      {
        key: 'logMessage',
        label: 'Log Message',
        prompt: 'Written to the Debug Console instead of stopping; expressions in braces',
        placeHolder: 'posted to {ConnectionId}',
      },
    ] as const;
    for (;;) {
      const onReturn = breakpoint.phase === 'return';
      const choice = await vscode.window.showQuickPick(
        [
          { label: '$(add) Add', description: `${breakpoint.call}, on ${breakpoint.phase}`, key: 'add' as const },
          {
            label: onReturn ? 'On Entry instead' : 'On Return instead',
            description: onReturn ? 'before anything happens' : 'with status and output',
            key: 'phase' as const,
          },
          ...texts.map((t) => ({ label: `${t.label}...`, description: breakpoint[t.key] ?? '', key: t.key })),
        ],
        { title: `Breakpoint on ${breakpoint.call}` },
      );
      if (!choice) return undefined;
      if (choice.key === 'add') return breakpoint;
      if (choice.key === 'phase') {
        breakpoint = { ...breakpoint, phase: onReturn ? 'entry' : 'return' };
        continue;
      }
      const text = texts.find((t) => t.key === choice.key)!;
      const value = await vscode.window.showInputBox({
        title: `${breakpoint.call}: ${text.label}`,
        prompt: text.prompt,
        placeHolder: text.placeHolder,
        value: breakpoint[text.key],
      });
      if (value !== undefined) breakpoint = { ...breakpoint, [text.key]: value || undefined };
    }
  }

  async remove(b: HypercallBreakpoint): Promise<void> {
    await this.#store(this.all.filter((o) => !(o.call === b.call && o.phase === b.phase)));
  }
}
