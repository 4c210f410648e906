import * as vscode from 'vscode';
import type { HypercallBreakpoint } from '../../debug-adapter/protocol.ts';
import type { HypercallBreakpoints } from '../hypercall-breakpoints.ts';
import type { Sessions } from '../session-client.ts';
import { type Line, SessionTree, fieldLine } from './tree.ts';

const COUNT = 100;

/** When a breakpoint stops, or what it logs instead. */
const guardText = (b: HypercallBreakpoint): string =>
  [
    `on ${b.phase}`,
    b.condition && `if ${b.condition}`,
    b.hitCondition && `hit count ${b.hitCondition}`,
    b.logMessage && `logs "${b.logMessage}"`,
  ]
    .filter(Boolean)
    .join(', ');

/** The last hypercalls, newest first, and the breakpoints on them. */
export const hypercallsView = (sessions: Sessions, breakpoints: HypercallBreakpoints): vscode.Disposable => {
  const tree = new SessionTree('hyperstep.hypercalls', sessions, async (client) => {
    const { calls } = await client.request('hyperstep/hypercalls', { count: COUNT });
    const own = breakpoints.all;
    const list: Line[] = calls.reverse().map((c) => ({
      label: `#${c.index} ${c.name}`,
      description: `${c.status}  ${c.caller}`,
      icon: c.status === 'HV_STATUS_SUCCESS' ? 'pass' : 'warning',
      children: [
        fieldLine(`VP: ${c.vp}`),
        fieldLine(`time: ${(c.time / 1e6).toFixed(3)} ms`),
        fieldLine(`conduit: ${c.conduit}`),
        fieldLine(`caller: ${c.caller}`),
        ...(c.input.length ? [{ label: 'Input', expanded: true, children: c.input.map(fieldLine) }] : []),
        ...(c.output.length ? [{ label: 'Output', expanded: true, children: c.output.map(fieldLine) }] : []),
      ],
    }));
    if (own.length)
      list.unshift({
        label: 'Breakpoints',
        icon: 'debug-breakpoint',
        expanded: true,
        children: own.map((b) => ({
          label: b.call,
          description: guardText(b),
          contextValue: 'hypercallBreakpoint',
          data: b,
        })),
      });
    return list;
  });
  return vscode.Disposable.from(
    tree,
    breakpoints.onChange(() => tree.refresh()),
  );
};
