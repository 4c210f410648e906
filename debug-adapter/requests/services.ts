/** What the host asks of the guest through its integration services: requests of ours, and commands of the Debug Console. */
import { ConfigError, KVP_POOLS, type KvpPool, type ShutdownKind } from '../../emulator/index.ts';
import type { CustomRequests } from '../protocol.ts';
import { copyRequest } from '../services.ts';
import type { Handler, Session } from '../session.ts';
import { UserError } from '../user-error.ts';
import type { Command } from './evaluate.ts';

/** Text that cannot be a request is the user's mistake. */
function asked<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof ConfigError ? new UserError(error.message) : error;
  }
}

const services = (session: Session) => session.debuggee.machine.services;

function poolOf(name: string): KvpPool {
  const pool = KVP_POOLS.find((p) => p === name);
  if (!pool) throw new UserError(`There is no pool "${name}"; pools are ${KVP_POOLS.join(' ')}`);
  return pool;
}

type ServiceRequest =
  | 'hyperstep/shutdown'
  | 'hyperstep/syncTime'
  | 'hyperstep/keyValuePairs'
  | 'hyperstep/setKeyValuePair'
  | 'hyperstep/backup'
  | 'hyperstep/copyFile'
  | 'hyperstep/memory';

/** An idle guest hears of it at once. */
const woken = <T>(session: Session, body: T): T => {
  session.runner.wake();
  return body;
};

export const serviceRequests: { [K in ServiceRequest]: Handler<CustomRequests[K][0], CustomRequests[K][1]> } = {
  'hyperstep/shutdown': (session, { restart, hibernate, force }) => {
    const kind: ShutdownKind = hibernate ? 'hibernate' : restart ? 'restart' : 'shutdown';
    return woken(session, { accepted: services(session).shutdown.request(kind, force) });
  },

  'hyperstep/syncTime': (session) => woken(session, { accepted: services(session).timesync.sync() }),

  'hyperstep/keyValuePairs': (session) => ({ items: services(session).kvp.items() }),

  'hyperstep/setKeyValuePair': (session, { pool, key, value }) => {
    const { kvp } = services(session);
    const at = poolOf(pool);
    const accepted = asked(() => (value === undefined ? kvp.delete(at, key) : kvp.set(at, key, value)));
    return woken(session, { accepted });
  },

  'hyperstep/backup': (session, { frozen }) => {
    const { vss } = services(session);
    return woken(session, { accepted: frozen ? vss.freeze() : vss.thaw() });
  },

  'hyperstep/copyFile': (session, setting) => {
    const request = asked(() => copyRequest(setting));
    asked(() => services(session).fcopy.copy(request));
    return woken(session, { size: request.bytes.length });
  },

  'hyperstep/memory': (session, { target, add }) => {
    const { balloon } = services(session);
    if ((target === undefined) === (add === undefined)) throw new UserError('"target" or "add", in MiB, and not both');
    const accepted = asked(() => (target === undefined ? balloon.hotAdd(add ?? 0) : balloon.setTarget(target)));
    return woken(session, { accepted });
  },
};

// --- the Debug Console -------------------------------------------------------------------------------------------------------------

/** Why a request was not taken, in the guest's terms. */
const NOT_THERE = {
  shutdown:
    "The guest's shutdown channel is not open (its hv_utils driver is not running), or it has not answered the last request",
  timesync: "The guest's timesync channel is not open (its hv_utils driver is not running)",
  kvp: "The guest's data exchange is not there (hv_utils and its hv_kvp_daemon are not running)",
  vss: "The guest's backup service is not there (hv_utils and its hv_vss_daemon are not running), or it is busy",
  balloon: 'The guest does no dynamic memory (its hv_balloon driver is not running, or cannot do this), or it is busy',
};

/** What came of a request is told when the guest has answered. */
function request(session: Session, service: keyof typeof NOT_THERE, what: string, work: () => boolean): string {
  if (!asked(work)) throw new UserError(NOT_THERE[service]);
  session.runner.wake();
  return `Asked the guest to ${what}${session.runner.running ? '' : '; it will when it goes on'}.`;
}

const SHUTDOWN_WORDS: Record<ShutdownKind, string> = { shutdown: 'shut down', restart: 'restart', hibernate: 'hibernate' };

const shutdownCommand = (kind: ShutdownKind): Command => ({
  usage: `${kind} [force]`,
  help: `asks the guest to ${SHUTDOWN_WORDS[kind]}, as the host can`,
  run: (session, rest) => {
    if (rest !== '' && rest !== 'force') throw new UserError(`${kind} or ${kind} force, not "${rest}"`);
    return request(session, 'shutdown', SHUTDOWN_WORDS[kind], () => services(session).shutdown.request(kind, rest === 'force'));
  },
});

/** Words of a command; quotes keep blanks. */
const wordsOf = (text: string): string[] => [...text.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, word]) => quoted ?? word);

const KVP_USAGE =
  'kvp [POOL], kvp set|delete|get POOL KEY [VALUE], kvp ip MAC, kvp ip {GUID} dhcp|ADDRESS [MASK [GATEWAY [DNS]]]';

function kvpCommand(session: Session, rest: string): string {
  const { kvp } = services(session);
  const [word, ...more] = wordsOf(rest);
  switch (word) {
    case 'set': {
      const [pool, key, ...value] = more;
      if (value.length === 0) throw new UserError(KVP_USAGE);
      return request(session, 'kvp', `keep ${key}`, () => kvp.set(poolOf(pool), key, value.join(' ')));
    }
    case 'get':
    case 'delete': {
      const [pool, key] = more;
      if (key === undefined) throw new UserError(KVP_USAGE);
      return request(session, 'kvp', `${word === 'get' ? 'tell' : 'forget'} ${key}`, () => kvp[word](poolOf(pool), key));
    }
    case 'ip': {
      const [adapter, first, subnets = '', gateways = '', dns = ''] = more;
      if (adapter === undefined) throw new UserError(KVP_USAGE);
      if (first === undefined) return request(session, 'kvp', `tell the addresses of ${adapter}`, () => kvp.getIp(adapter));
      const dhcp = first === 'dhcp';
      const settings = { adapter, dhcp, addresses: dhcp ? '' : first, subnets, gateways, dns };
      return request(session, 'kvp', `configure ${adapter}`, () => kvp.setIp(settings));
    }
    default: {
      if (word !== undefined) request(session, 'kvp', 'tell', () => kvp.refresh(poolOf(word)));
      const items = kvp.items().filter((i) => word === undefined || i.pool === word);
      if (items.length === 0) return 'Nothing is known yet.';
      const width = Math.max(...items.map((i) => i.key.length));
      return items.map((i) => `${i.pool.padEnd(13)} ${i.key.padEnd(width)} ${i.value}`).join('\n');
    }
  }
}

export const serviceCommands: Record<string, Command> = {
  shutdown: shutdownCommand('shutdown'),
  restart: shutdownCommand('restart'),
  hibernate: shutdownCommand('hibernate'),
  synctime: {
    usage: 'synctime',
    help: "sets the guest's clock by the host's",
    run: (session) => request(session, 'timesync', 'set its clock', () => services(session).timesync.sync()),
  },
  kvp: { usage: 'kvp ...', help: `key-value pairs and addresses of the guest: ${KVP_USAGE}`, run: kvpCommand },
  freeze: {
    usage: 'freeze',
    help: "freezes the guest's file systems, for a backup",
    run: (session) => request(session, 'vss', 'freeze its file systems', () => services(session).vss.freeze()),
  },
  thaw: {
    usage: 'thaw',
    help: "thaws the guest's file systems",
    run: (session) => request(session, 'vss', 'thaw its file systems', () => services(session).vss.thaw()),
  },
  copy: {
    usage: 'copy FILE TO [overwrite] [mkdir]',
    help: 'copies a file of this computer to a path in the guest',
    run: (session, rest) => {
      const [from, to, ...flags] = wordsOf(rest);
      const unknown = flags.find((f) => f !== 'overwrite' && f !== 'mkdir');
      if (to === undefined || unknown !== undefined) throw new UserError('copy FILE TO [overwrite] [mkdir]');
      const file = asked(() =>
        copyRequest({ from, to, overwrite: flags.includes('overwrite'), createPath: flags.includes('mkdir') }),
      );
      asked(() => services(session).fcopy.copy(file));
      session.runner.wake();
      return `${from}, ${file.bytes.length} bytes: it is copied as soon as the guest takes it (hv_fcopy_daemon).`;
    },
  },
  memory: {
    usage: 'memory MIB | memory add MIB',
    help: 'takes memory from the guest or gives it back, so that it has MIB; or adds some',
    run: (session, rest) => {
      const { balloon } = services(session);
      const m = /^(add )?(\d+)$/.exec(rest);
      if (!m) throw new UserError('memory MIB, or memory add MIB');
      const mib = Number(m[2]);
      return m[1]
        ? request(session, 'balloon', `take ${mib} MiB more`, () => balloon.hotAdd(mib))
        : request(session, 'balloon', `have ${mib} MiB`, () => balloon.setTarget(mib));
    },
  },
};
