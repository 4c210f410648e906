/** Our own requests (protocol.ts): what the views show. All but those that change something also work while the guest runs. */
import { Event } from '@vscode/debugadapter';
import { isElf } from '../../emulator/base/elf.ts';
import { type ChannelAction, hypercallNames } from '../../emulator/index.ts';
import { featuresView, fieldLines, vpRegistersView } from '../describe.ts';
import { callerName } from '../linux/callers.ts';
import { SCAN_CODES } from '../keys.ts';
import type { CustomRequests, HypercallRecord, PanelInput, VmbusView } from '../protocol.ts';
import type { Handler, Session } from '../session.ts';
import { useFetchedSources } from '../sources.ts';
import { type HypercallStop, hypercallStop } from '../stops.ts';
import { UserError } from '../user-error.ts';
import { vmbusView } from '../vmbus-view.ts';
import { linuxRequests } from './linux.ts';
import { serviceRequests } from './services.ts';

type CustomHandlers = { [K in keyof CustomRequests]: Handler<CustomRequests[K][0], CustomRequests[K][1]> };

/** The last `count` hypercalls, oldest first. */
export function hypercallRecords(session: Session, count: number): HypercallRecord[] {
  const { kernel } = session.debuggee;
  if (session.runner.running) session.refreshModules(0);
  const { symbols } = kernel;
  return session.calls.slice(-Math.max(1, count)).map(({ index, now, event, frames }) => ({
    index,
    vp: event.vp,
    name: event.name,
    code: event.code,
    time: now,
    conduit: event.conduit,
    status: event.statusName,
    input: fieldLines(event.input),
    output: fieldLines(event.output),
    caller: callerName(frames, symbols),
  }));
}

/** Both halves of VMBus as they are now. */
export function sessionVmbus(session: Session): VmbusView {
  const { kernel, machine } = session.debuggee;
  if (session.runner.running) session.refreshModules(0);
  return vmbusView(machine, kernel, (relid) => session.trace.packets(relid));
}

const CHANNEL_WORDS = {
  rescind: 'is not there to be taken away',
  offer: 'cannot be offered: it is there, or the guest has not let it go yet',
  'signal-host': 'is not open',
  'signal-guest': 'is not open, or the guest takes no interrupts for it',
};

/** Does something to a channel as its host could. Throws UserError. */
export function changeChannel(session: Session, relid: number, action: string, vp?: number): void {
  const { machine } = session.debuggee;
  if (action === 'target') {
    const refused = machine.edit(['vmbus', 'channels', `[${relid}]`, 'targetVp'], BigInt(vp ?? -1));
    if (refused !== undefined) throw new UserError(refused);
  } else {
    const known = Object.keys(CHANNEL_WORDS).find((a) => a === action) as ChannelAction | undefined;
    if (!known) throw new UserError(`A channel can be told ${Object.keys(CHANNEL_WORDS).join(', ')} or target, not ${action}`);
    if (!machine.channelAction(relid, known)) throw new UserError(`Channel ${relid} ${CHANNEL_WORDS[known]}`);
  }
  session.runner.wake();
}

export const custom: CustomHandlers = {
  'hyperstep/vpRegisters': (session, { vp }) => {
    const { machine } = session.debuggee;
    if (!Number.isInteger(vp) || vp < 0 || vp >= machine.vpCount) throw new UserError(`There is no VP ${vp}`);
    return { registers: vpRegistersView(machine, vp) };
  },

  'hyperstep/features': (session) => featuresView(session.debuggee.machine, session.debuggee.kernel, session.stopAt?.vp ?? 0),

  'hyperstep/vmbus': (session) => sessionVmbus(session),

  'hyperstep/channel': (session, { relid, action, vp }) => {
    changeChannel(session, relid, action, vp);
    return {};
  },

  'hyperstep/hypercalls': (session, { count }) => ({ calls: hypercallRecords(session, count) }),

  'hyperstep/hypercallNames': () => ({ names: hypercallNames() }),

  'hyperstep/setHypercallBreakpoints': (session, { breakpoints }) => {
    const stops: HypercallStop[] = [];
    const verified = breakpoints.map((b) => {
      try {
        stops.push(hypercallStop(b.call, b, b.phase));
        return { verified: true };
      } catch (e) {
        if (!(e instanceof UserError)) throw e;
        return { verified: false, message: e.message };
      }
    });
    session.hypercallStops.set('command', stops);
    return { verified };
  },

  'hyperstep/consoleInput': (session, { data }) => {
    session.debuggee.machine.consoleInput(new TextEncoder().encode(data));
    session.runner.wake();
    return {};
  },

  'hyperstep/screen': (session, { all }) => {
    const change = session.screen.look(session.debuggee.machine.screen(), all);
    if (change === undefined || change === 'none') return { change };
    return { change: { ...change, png: change.png.toString('base64') } };
  },

  'hyperstep/input': (session, { events }) => {
    const { machine } = session.debuggee;
    const send = (event: PanelInput): boolean => {
      if (!('code' in event))
        return machine.sendMouse({ ...event, x: event.x ?? 0, y: event.y ?? 0, buttons: event.buttons ?? 0 });
      const scanCode = SCAN_CODES.get(event.code);
      return scanCode !== undefined && machine.sendKey(scanCode, !event.down);
    };
    const refused = events.filter((event) => !send(event)).length;
    session.runner.wake();
    return { refused };
  },

  'hyperstep/symbols': async (session, { reload }) => {
    const { kernel, files, sources, config, args } = session.debuggee;
    if (reload) {
      await files.again(isElf(config.kernel) ? args.kernel : undefined);
      useFetchedSources(sources, kernel.release);
      session.resolveBreakpoints();
      session.after(() => {
        if (session.client.supportsInvalidatedEvent) session.sendEvent(new Event('invalidated', { areas: ['all'] }));
      });
    }
    return {
      release: kernel.release,
      file: files.all.find((l) => l.module === undefined)?.info.elf.name,
      problem: files.problems.get(''),
    };
  },

  ...linuxRequests,
  ...serviceRequests,
};
