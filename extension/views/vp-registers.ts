import * as vscode from 'vscode';
import type { VpRegister } from '../../debug-adapter/protocol.ts';
import type { Sessions } from '../session-client.ts';
import { type Line, SessionTree } from './tree.ts';

/** VP number of the thread that the editor has in focus; the adapter's thread ids are VP + 1. */
const focusedVp = (): number => {
  const item = vscode.debug.activeStackItem;
  return item ? Math.max(0, item.threadId - 1) : 0;
};

/** Without the zeros in front. */
const shorten = (value: string): string => `0x${BigInt(value).toString(16)}`;

/** The hypervisor's registers of the focused VP, by TLFS name, decoded. */
export const vpRegistersView = (sessions: Sessions): vscode.Disposable => {
  const tree = new SessionTree('hyperstep.vpRegisters', sessions, async (client) => {
    const { registers } = await client.request('hyperstep/vpRegisters', { vp: focusedVp() });
    const line = (r: VpRegister): Line => ({
      label: r.name,
      description: [shorten(r.value), ...r.decoded.slice(0, 1)].join('  '),
      tooltip: [`${r.name} (0x${r.number.toString(16)})`, r.value, ...r.decoded].join('\n'),
      children: r.decoded.length > 1 ? r.decoded.map((text) => ({ label: text })) : [],
    });
    const zero = registers.filter((r) => BigInt(r.value) === 0n);
    return [
      ...registers.filter((r) => BigInt(r.value) !== 0n).map(line),
      ...(zero.length ? [{ label: `${zero.length} registers that are zero`, children: zero.map(line) }] : []),
    ];
  });
  return vscode.Disposable.from(
    tree,
    vscode.debug.onDidChangeActiveStackItem(() => tree.refresh()),
  );
};
