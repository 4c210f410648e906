import type * as vscode from 'vscode';
import type { Sessions } from '../session-client.ts';
import { SessionTree } from './tree.ts';

/** What the host advertises and what the guest's own `ms_hyperv` holds, bit by bit. */
export const msHypervView = (sessions: Sessions): vscode.Disposable =>
  new SessionTree('hyperstep.msHyperv', sessions, async (client) => {
    const { words, guestStruct } = await client.request('hyperstep/features', {});
    return [
      ...words.map((w) => ({
        label: w.field,
        description:
          w.guest === undefined
            ? `host ${w.host}`
            : w.guest === w.host
              ? `${w.host} (host and guest)`
              : `host ${w.host}, guest ${w.guest}`,
        tooltip: w.source,
        icon: w.guest !== undefined && w.guest !== w.host ? 'warning' : undefined,
        children: w.bits.map((b) => ({
          label: b.name,
          description: `bit ${b.bit}`,
          icon: b.set ? 'check' : 'circle-large-outline',
        })),
      })),
      { label: 'ms_hyperv in the guest', description: guestStruct ?? 'not found (yet)', icon: 'symbol-structure' },
    ];
  });
