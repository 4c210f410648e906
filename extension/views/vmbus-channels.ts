import type * as vscode from 'vscode';
import type { Sessions } from '../session-client.ts';
import { SessionTree, fieldLine } from './tree.ts';

const ICONS: Record<string, string> = {
  open: 'pass-filled',
  offered: 'circle-large-outline',
  closed: 'circle-slash',
  rescinded: 'error',
};

/** The VMBus connection and its channels, as the host holds them. */
export const vmbusChannelsView = (sessions: Sessions): vscode.Disposable =>
  new SessionTree('hyperstep.vmbusChannels', sessions, async (client) => {
    const bus = await client.request('hyperstep/vmbus', {});
    return [
      { label: 'Connection', description: bus.version ? `${bus.state}, version ${bus.version}` : bus.state, icon: 'plug' },
      ...bus.channels.map((c) => ({
        label: `${c.relid} ${c.device}`,
        description: c.state,
        icon: ICONS[c.state] ?? 'sync',
        children: c.details.map(fieldLine),
      })),
    ];
  });
