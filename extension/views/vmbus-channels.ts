import * as vscode from 'vscode';
import type { ChannelView, CustomRequests, RingView } from '../../debug-adapter/protocol.ts';
import type { Sessions } from '../session-client.ts';
import { type Line, SessionTree, fieldLine } from './tree.ts';

const ICONS: Record<string, string> = {
  open: 'pass-filled',
  offered: 'circle-large-outline',
  closed: 'circle-slash',
  rescinded: 'error',
};
const VIEW = 'hyperstep.vmbusChannels';

const percent = ({ used, size }: RingView): string => `${Math.round((100 * used) / size)} %`;
const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

/** A ring: how full it is, its header, and the packets in it. */
const ringLine = (ring: RingView): Line => ({
  label: `Ring ${ring.name}`,
  description: [percent(ring), ...(ring.packets.length ? [count(ring.packets.length, 'packet')] : [])].join(', '),
  icon: 'sync',
  children: [...ring.details.map(fieldLine), ...ring.packets.map((text) => ({ label: text, icon: 'package' }))],
});

const channelLine = (c: ChannelView, guestMissing: string | undefined): Line => {
  const rings = c.rings.length ? `rings ${c.rings.map(percent).join(' / ')}` : '';
  const differs = c.differences.length ? count(c.differences.length, 'difference') : '';
  return {
    label: `${c.relid} ${c.device}${c.index > 0 ? ` ${c.index}` : ''}`,
    description: [c.state, ...(c.rings.length ? [`VP ${c.targetVp}`] : []), rings, differs].filter(Boolean).join(', '),
    icon: differs ? 'warning' : (ICONS[c.state] ?? 'sync'),
    contextValue: `channel-${c.state.split(',')[0]}`,
    data: { relid: c.relid, vp: c.targetVp },
    children: [
      ...c.differences.map((text) => ({ label: text, icon: 'warning' })),
      { label: 'Host', icon: 'server', children: c.details.map(fieldLine) },
      c.guest
        ? { label: 'Guest', description: 'vmbus_channel', icon: 'vm', children: c.guest.map(fieldLine) }
        : { label: 'Guest', description: guestMissing ?? 'has no such channel', icon: 'vm' },
      ...c.rings.map(ringLine),
      ...(c.queued.length
        ? [
            {
              label: 'Waiting for room',
              description: count(c.queued.length, 'packet'),
              icon: 'watch',
              children: c.queued.map((text) => ({ label: text, icon: 'package' })),
            },
          ]
        : []),
      ...(c.recent.length
        ? [
            {
              label: 'Last packets',
              description: count(c.recent.length, 'packet'),
              icon: 'history',
              // The newest first.
              children: c.recent.toReversed().map((p) => ({
                label: p.what,
                description: `${(p.time / 1e6).toFixed(3)} ms, ${p.bytes} bytes`,
                tooltip: `${p.direction === 'guest-to-host' ? 'From the guest' : 'To the guest'}: ${p.what}`,
                icon: p.direction === 'guest-to-host' ? 'arrow-up' : 'arrow-down',
              })),
            },
          ]
        : []),
    ],
  };
};

/** What a command on a channel works with. */
interface ChannelAt {
  relid: number;
  vp: number;
}

/** The VMBus connection and its channels: what the host holds and what the guest's driver holds. */
export const vmbusChannelsView = (sessions: Sessions): vscode.Disposable => {
  const tree = new SessionTree(VIEW, sessions, async (client) => {
    const bus = await client.request('hyperstep/vmbus', {});
    return [
      {
        label: 'Connection',
        description: bus.version ? `${bus.state}, version ${bus.version}` : bus.state,
        icon: 'plug',
        children: [
          bus.guest
            ? { label: 'Guest', description: 'vmbus_connection', icon: 'vm', expanded: true, children: bus.guest.map(fieldLine) }
            : { label: 'Guest', description: bus.guestMissing ?? '', tooltip: bus.guestMissing, icon: 'vm' },
        ],
      },
      ...bus.channels.map((c) => channelLine(c, bus.guestMissing)),
      ...bus.guestOnly.map(({ relid, details }) => ({
        label: String(relid),
        description: 'in the guest only',
        icon: 'warning',
        children: details.map(fieldLine),
      })),
      ...bus.takenAway.map(({ relid, device }) => ({
        label: `${relid} ${device}`,
        description: 'taken away',
        icon: 'circle-slash',
        contextValue: 'channel-taken-away',
        data: { relid, vp: 0 },
      })),
    ];
  });
  const act = async (args: CustomRequests['hyperstep/channel'][0]): Promise<void> => {
    try {
      await sessions.current?.request('hyperstep/channel', args);
    } catch (error) {
      void vscode.window.showWarningMessage(error instanceof Error ? error.message : String(error));
    }
    tree.refresh();
  };
  const on = (name: string, work: (at: ChannelAt) => Promise<void>): vscode.Disposable =>
    vscode.commands.registerCommand(`${VIEW}.${name}`, (line: Line) => work(line.data as ChannelAt));
  return vscode.Disposable.from(
    tree,
    on('rescind', ({ relid }) => act({ relid, action: 'rescind' })),
    on('offer', ({ relid }) => act({ relid, action: 'offer' })),
    on('signalHost', ({ relid }) => act({ relid, action: 'signal-host' })),
    on('signalGuest', ({ relid }) => act({ relid, action: 'signal-guest' })),
    on('target', async ({ relid, vp }) => {
      const text = await vscode.window.showInputBox({
        title: `Channel ${relid}: VP that its interrupts go to`,
        prompt: 'The host alone moves it: a guest that has not asked for that looks for them elsewhere.',
        value: String(vp),
        validateInput: (value) => (/^\d+$/.test(value) ? undefined : 'The number of a VP'),
      });
      if (text !== undefined) await act({ relid, action: 'target', vp: Number(text) });
    }),
  );
};
