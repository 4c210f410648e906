/** VMBus for people: what the host holds of every channel and what the guest's driver holds, next to each other. */
import { hex } from '../emulator/base/bits.ts';
import type { ChannelInfo, Machine, RingInfo } from '../emulator/index.ts';
import { inspectLines, secondsText } from './describe.ts';
import type { GuestKernel } from './linux/kernel.ts';
import { type GuestChannel, type GuestRing, guestVmbus } from './linux/vmbus.ts';
import type { ChannelView, PacketRecord, RingView, VmbusView } from './protocol.ts';

const percent = (used: number, size: number): string => `${Math.round((100 * used) / size)} %`;

function ringView(name: string, ring: RingInfo): RingView {
  const { used, size, read, write, interruptMask, pendingSendSize, packets, wrong } = ring;
  return {
    name,
    used,
    size,
    details: [
      `fill: ${used} of ${size} bytes (${percent(used, size)})`,
      `read index: ${hex(read)}`,
      `write index: ${hex(write)}`,
      `interrupt mask: ${interruptMask}`,
      `pending send size: ${pendingSendSize}`,
      ...(wrong ? [`broken: ${wrong}`] : []),
    ],
    packets: packets.map(({ at, bytes, what }) => `${hex(at)}: ${what}, ${bytes} bytes`),
  };
}

/** `reads`: the guest is the ring's reader, and knows how far it is before it tells the host. */
const ringText = (ring: GuestRing, reads: boolean): string => {
  const index = (n: number | undefined): string => (n === undefined ? '?' : hex(n));
  const own =
    !reads || ring.privateRead === undefined || ring.privateRead === ring.read ? '' : ` (${index(ring.privateRead)} of its own)`;
  return `read ${index(ring.read)}${own}, write ${index(ring.write)}, interrupt mask ${ring.interruptMask ?? '?'}, ${ring.size ?? '?'} bytes`;
};

/** What a `vmbus_channel` holds. */
function guestLines(c: GuestChannel): string[] {
  const rows: [string, string | number | undefined][] = [
    ['vmbus_channel', hex(c.address, 16)],
    ['problem', c.problem],
    ['device', c.device],
    ['state', c.state],
    ['target CPU', c.targetCpu],
    ['VP index of that', c.targetVpIndex],
    ['connection ID', c.connectionId === undefined ? undefined : hex(c.connectionId)],
    ['ring GPADL', c.gpadl === undefined ? undefined : hex(c.gpadl)],
    ['rescind', c.rescind === undefined ? undefined : String(c.rescind)],
    ['primary channel', c.primary],
    ['sub-channels', c.subChannels?.join(', ')],
    ['callback', c.callback],
    ['callback mode', c.callbackMode],
    ['outbound', c.outbound && ringText(c.outbound, false)],
    ['inbound', c.inbound && ringText(c.inbound, true)],
  ];
  return rows.flatMap(([name, value]) => (value === undefined ? [] : [`${name}: ${value}`]));
}

const OPENED = 'CHANNEL_OPENED_STATE';

/** Where host and guest do not agree on a channel. */
export function differencesOf(host: ChannelInfo, guest: GuestChannel | undefined, vpIndex: readonly number[]): string[] {
  if (!guest) return host.state === 'rescinded' ? [] : [`the host has it ${host.state}, the guest has no such channel`];
  const out: string[] = [];
  const open = host.state.startsWith('open');
  if (guest.state !== undefined && open !== (guest.state === OPENED))
    out.push(`state: the host has it ${host.state}, the guest in ${guest.state}`);
  const gone = host.state === 'rescinded';
  if (guest.rescind !== undefined && guest.rescind !== gone)
    out.push(gone ? 'rescinded by the host, not seen by the guest yet' : 'the guest thinks that it is rescinded');
  if (guest.connectionId !== undefined && guest.connectionId !== host.connectionId)
    out.push(`connection ID: ${hex(host.connectionId)} of the host, ${hex(guest.connectionId)} of the guest`);
  if (!open || guest.state !== OPENED) return out;
  const target = vpIndex[host.targetVp];
  if (guest.targetVpIndex !== undefined && guest.targetVpIndex !== target)
    out.push(`target: VP index ${target} of the host, ${guest.targetVpIndex} (CPU ${guest.targetCpu}) of the guest`);
  if (guest.gpadl !== undefined && host.ringGpadl !== undefined && guest.gpadl !== host.ringGpadl)
    out.push(`ring GPADL: ${hex(host.ringGpadl)} of the host, ${hex(guest.gpadl)} of the guest`);
  for (const [name, ours, theirs] of [
    ['ring to the host', host.outgoing, guest.outbound],
    ['ring to the guest', host.incoming, guest.inbound],
  ] as const) {
    if (!ours || !theirs) continue;
    for (const [what, a, b] of [
      ['size', ours.size, theirs.size],
      ['read index', ours.read, theirs.read],
      ['write index', ours.write, theirs.write],
      ['interrupt mask', ours.interruptMask, theirs.interruptMask],
    ] as const)
      if (b !== undefined && a !== b) out.push(`${name}, ${what}: ${hex(a)} of the host, ${hex(b)} of the guest`);
  }
  return out;
}

/** Every channel, both halves. `packets`: the last ones of a channel. */
export function vmbusView(
  machine: Machine,
  kernel?: GuestKernel,
  packets: (relid: number) => readonly PacketRecord[] = () => [],
): VmbusView {
  const bus = machine.vmbus();
  const { vpIndex } = machine.platform();
  const guest = kernel && guestVmbus(kernel, 0);
  const theirs = new Map(typeof guest === 'object' ? guest.channels.map((c) => [c.relid, c]) : []);
  const known = typeof guest === 'object' && guest.channels.length > 0;
  const channels = bus.channels.map((c): ChannelView => {
    const own = theirs.get(c.relid);
    return {
      relid: c.relid,
      index: c.index,
      device: c.device,
      state: c.state,
      targetVp: c.targetVp,
      details: [
        `interface: ${c.interfaceType}`,
        `instance: ${c.instance}`,
        ...(c.index > 0 ? [`sub-channel: ${c.index}`] : []),
        `target VP: ${c.targetVp}`,
        `connection ID: ${hex(c.connectionId)}`,
        ...(c.ringGpadl === undefined ? [] : [`ring GPADL: ${hex(c.ringGpadl)}`]),
        `signals: ${c.signalsFromGuest} from the guest, ${c.signalsToGuest} to it`,
        `packets: ${c.packetsFromGuest} from the guest, ${c.packetsToGuest} to it`,
        ...inspectLines(c.details),
      ],
      rings: [
        ...(c.outgoing ? [ringView('to the host', c.outgoing)] : []),
        ...(c.incoming ? [ringView('to the guest', c.incoming)] : []),
      ],
      queued: c.queued,
      recent: [...packets(c.relid)],
      ...(own ? { guest: guestLines(own) } : {}),
      differences: known ? differencesOf(c, own, vpIndex) : [],
    };
  });
  const offered = new Set(bus.channels.map((c) => c.relid));
  return {
    state: bus.state,
    ...(bus.version ? { version: bus.version } : {}),
    channels,
    takenAway: bus.takenAway,
    ...(typeof guest === 'object'
      ? {
          guest: [
            ...(guest.state === undefined ? [] : [`state: ${guest.state}`]),
            ...(guest.connectCpu === undefined ? [] : [`connect CPU: ${guest.connectCpu}`]),
            `channels: ${guest.channels.length}`,
          ],
        }
      : {}),
    ...(typeof guest === 'string' ? { guestMissing: guest } : {}),
    guestOnly: [...theirs.values()].filter((c) => !offered.has(c.relid)).map((c) => ({ relid: c.relid, details: guestLines(c) })),
  };
}

/** A packet that went through a ring. */
export const packetText = ({ time, direction, what, bytes }: PacketRecord): string =>
  `${secondsText(time)} ${direction === 'guest-to-host' ? '<-' : '->'} ${what}, ${bytes} bytes`;

/** The same in lines. */
export function describeVmbus(view: VmbusView): string[] {
  const lines = [`VMBus ${view.state}${view.version ? `, version ${view.version}` : ''}, ${view.channels.length} channels`];
  if (view.guest) lines.push(`  in the guest: ${view.guest.join(', ')}`);
  if (view.guestMissing) lines.push(`  in the guest: ${view.guestMissing}`);
  for (const c of view.channels) {
    lines.push(`  relid ${c.relid}  ${c.device}  ${c.state}`, ...c.details.map((d) => `      ${d}`));
    for (const ring of c.rings)
      lines.push(`      ring ${ring.name}: ${ring.details.join(', ')}`, ...ring.packets.map((p) => `        ${p}`));
    if (c.queued.length > 0) lines.push(`      waiting for room: ${c.queued.join(', ')}`);
    if (c.guest) lines.push('      in the guest', ...c.guest.map((d) => `        ${d}`));
    lines.push(...c.differences.map((d) => `      DIFFERS ${d}`));
    if (c.recent.length > 0) lines.push('      last packets', ...c.recent.map((p) => `        ${packetText(p)}`));
  }
  for (const c of view.guestOnly) lines.push(`  relid ${c.relid}  in the guest only`, ...c.details.map((d) => `      ${d}`));
  for (const c of view.takenAway) lines.push(`  relid ${c.relid}  ${c.device}  taken away`);
  return lines;
}
