/** The hypervisor's part of the inspect tree: VP registers, SynIC with its pages in guest memory, synthetic timers. */
import {
  field,
  fieldsOf,
  flags,
  FLAG,
  Group,
  held,
  List,
  type Node,
  type Place,
  type Refusal,
  register,
  type Tree,
  uint,
} from '../base/inspect.ts';
import { CRASH_PARAMETERS } from './crash.ts';
import { FEATURE_WORDS } from './features.ts';
import type { Partition } from './partition.ts';
import { VP_REGISTERS, vpRegister, type VpRegisterRow } from './registers.ts';
import { STIMER_COUNT } from './stimer.ts';
import type { Message } from './synic.ts';
import {
  HV_EVENT_FLAGS_COUNT,
  HV_MESSAGE_SIZE,
  HV_PAGE,
  HV_SYNIC_SINT_COUNT,
  HvMessageHeader,
  HvMessageTypeTimerExpired,
  HvTimerMessagePayload,
} from './tlfs.ts';
import type { Vp } from './vp.ts';

const ENABLED = 1n;

/** A VP register as a field: its row says what it holds. */
function registerNode(p: Partition, vp: Vp, row: VpRegisterRow): Node {
  const write = p.overridden.has(row.name) ? undefined : (row.write ?? row.edit);
  const set =
    write &&
    ((value: bigint): Refusal => (p.writeRegister(vp.index, row.name, value) ? undefined : 'no value for this register'));
  const { bits, describe } = row;
  return field(register(row.width, { ...(bits ? { bits } : {}), describe }), () => p.readRegister(vp.index, row.name) ?? 0n, set);
}

const named = (p: Partition, vp: Vp, name: string): Node | undefined => {
  const row = vpRegister(name);
  return row && registerNode(p, vp, row);
};

/** The partition: what belongs to all VPs, and every VP. */
export function partitionTree(p: Partition): Tree {
  const { state, vps } = p;
  const shared = (name: string): Node | undefined => named(p, vps[0], name);
  return {
    guestOsId: shared('HvRegisterGuestOsId'),
    referenceTsc: shared('HvRegisterReferenceTsc'),
    referenceTime: p.time.now(),
    crash: {
      parameters: new List(CRASH_PARAMETERS, (n) => held(state.crash.parameters, n, register(64))),
      control: state.crash.control,
      message: state.crash.message,
      vp: state.crash.vp,
    },
    features: Object.fromEntries(
      FEATURE_WORDS.map(({ field: word, bits }) => [word, held(state.features, word, flags(32, bits))]),
    ),
    discarded: { pages: state.discarded.pages, since: state.discarded.since },
    vps: new List(vps.length, (n) => vpTree(p, vps[n])),
  };
}

function vpTree(p: Partition, vp: Vp): Tree {
  return {
    index: p.vpIndex[vp.index],
    registers: () =>
      Object.fromEntries(VP_REGISTERS.filter((r) => !r.architectural).map((row) => [row.name, registerNode(p, vp, row)])),
    synic: () => synicTree(p, vp),
    stimers: new List(STIMER_COUNT, (n) => stimerNode(p, vp, n)),
  };
}

// --- SynIC ------------------------------------------------------------------------------------------------------------------------

/** An enabled page of the SynIC in RAM; undefined: there is none. */
function pageOf({ host }: Partition, value: bigint): number | undefined {
  const gpa = Number((value >> 12n) << 12n);
  return value & ENABLED && host.ram.contains(gpa, HV_PAGE) ? gpa : undefined;
}

const placeIn = ({ host: { ram } }: Partition, at: number): Place => ({
  view: ram.view,
  at,
  changed: (where, size) => ram.touch(where, size),
});

function synicTree(p: Partition, vp: Vp): Tree {
  const { state } = vp.synic;
  const messages = pageOf(p, state.simp);
  const events = pageOf(p, state.siefp);
  return {
    scontrol: named(p, vp, 'HvRegisterScontrol'),
    siefp: named(p, vp, 'HvRegisterSifp'),
    simp: named(p, vp, 'HvRegisterSipp'),
    sirbp: named(p, vp, 'HvRegisterSirbp'),
    sints: new List(HV_SYNIC_SINT_COUNT, (n) => named(p, vp, `HvRegisterSint${n}`) ?? 0n),
    ...(messages === undefined
      ? {}
      : { slots: new List(HV_SYNIC_SINT_COUNT, (n) => slotNode(p, vp, n, messages + n * HV_MESSAGE_SIZE)) }),
    ...(events === undefined
      ? {}
      : {
          eventFlags: new List(HV_SYNIC_SINT_COUNT, (n) => eventsNode(p, events + (n * HV_EVENT_FLAGS_COUNT) / 8)),
        }),
    queues: new List(HV_SYNIC_SINT_COUNT, (n) => {
      const queue = state.queues[n];
      const text = (m: Message): string => messageText(p, m.type, m.payload);
      const summary = (): string => (queue.length === 0 ? 'empty' : `${queue.length} waiting`);
      return new List(
        queue.length,
        (i) =>
          new Group(
            () => text(queue[i]),
            () => ({ type: queue[i].type, origin: queue[i].origin, ...payloadOf(p, queue[i]) }),
          ),
        { summary },
      );
    }),
  };
}

/** A message slot in guest memory. Setting the type to 0 frees the slot as the guest does; HvRegisterEom moves the next one in. */
function slotNode(p: Partition, vp: Vp, sint: number, at: number): Group {
  const { ram } = p.host;
  const type = (): number => HvMessageHeader.field.MessageType.get(ram.view, at);
  const payload = (): Uint8Array => {
    const size = Math.min(HvMessageHeader.field.PayloadSize.get(ram.view, at + HvMessageHeader.field.PayloadSize.offset), 240);
    return ram.read(at + HvMessageHeader.size, size);
  };
  const waiting = vp.synic.queued(sint);
  const behind = waiting > 0 ? `, ${waiting} waiting` : '';
  return new Group(
    () => (type() === 0 ? `free${behind}` : `${messageText(p, type(), payload())}${behind}`),
    () => ({
      ...fieldsOf(HvMessageHeader, placeIn(p, at), {
        MessageType: register(32),
        PayloadSize: { min: 0n, max: 240n },
        MessageFlags: flags(8, { messagePending: 0 }),
        Origin: register(64),
      }),
      ...payloadOf(p, { type: type(), payload: payload() }),
    }),
  );
}

function messageText(p: Partition, type: number, payload: Uint8Array): string {
  if (type === HvMessageTypeTimerExpired) return 'timer expired';
  const said = p.describeMessage(type, payload)?.Message;
  return said === undefined ? `message type 0x${type.toString(16)}` : String(said);
}

function payloadOf(p: Partition, { type, payload }: Pick<Message, 'type' | 'payload'>): Tree {
  if (type === HvMessageTypeTimerExpired && payload.length >= HvTimerMessagePayload.size) {
    const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    return { timer: HvTimerMessagePayload.get(view, 0) as Tree };
  }
  const said = p.describeMessage(type, payload);
  return { payload, ...(said ? { message: said as Tree } : {}) };
}

/** The event flags of a SINT in guest memory: for VMBus, one for each relid. */
function eventsNode({ host: { ram } }: Partition, at: number): List {
  const flagAt = (flag: number): boolean => ((ram.view.getUint8(at + (flag >>> 3)) >>> (flag & 7)) & 1) === 1;
  const summary = (): string => {
    const set: number[] = [];
    for (let flag = 0; flag < HV_EVENT_FLAGS_COUNT; flag++) if (flagAt(flag)) set.push(flag);
    return set.length === 0 ? 'none set' : `set: ${set.slice(0, 16).join(', ')}${set.length > 16 ? ' ...' : ''}`;
  };
  return new List(
    HV_EVENT_FLAGS_COUNT,
    (flag) =>
      field(
        FLAG,
        () => flagAt(flag),
        (value) => {
          const byte = at + (flag >>> 3);
          const mask = 1 << (flag & 7);
          const old = ram.view.getUint8(byte);
          ram.touch(byte, 1);
          ram.view.setUint8(byte, value ? old | mask : old & ~mask);
        },
      ),
    { summary },
  );
}

// --- synthetic timers -------------------------------------------------------------------------------------------------------------

function stimerNode(p: Partition, vp: Vp, n: number): Group {
  const t = vp.stimers.state[n];
  const summary = (): string => {
    const when = t.armed ? `expires in ${(Number(t.due - p.time.now()) / 1e4).toFixed(4)} ms` : 'not armed';
    return `${when}${t.undelivered ? ', its message waits' : ''}`;
  };
  return new Group(summary, () => ({
    config: named(p, vp, `HvRegisterStimer${n}Config`),
    count: named(p, vp, `HvRegisterStimer${n}Count`),
    armed: t.armed,
    due: field(uint(64), () => t.due),
    undelivered: t.undelivered,
    expiredAt: t.expiredAt,
  }));
}
