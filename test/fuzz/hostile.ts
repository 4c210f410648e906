/**
 * The hostile guest as a target of the fuzzer: machines, the states that inputs begin in, and what must hold after each.
 */
import type { MachineConfig, Snapshot } from '../../emulator/index.ts';
import { ACTIONS, freshAction, setUpNvme } from './actions.ts';
import type { Target } from './fuzzer.ts';
import {
  BUFFER_GPADL,
  BUFFERS,
  Guest,
  GUARD,
  GUARD_END,
  type Memory,
  PAGE,
  payloadOf,
  PRIMARY_COUNT,
  relidOf,
  SUB_CHANNELS,
} from './guest.ts';
import { actionsOf, Reader } from './input.ts';
import { icAnswer } from './packets.ts';

/** What is in a snapshot. */
interface Inside {
  ram: { pages: readonly (Uint8Array | undefined)[] };
  state: Record<string, unknown>;
}

interface Start {
  machine: Snapshot;
  memory: Memory;
}

/** Hosts: a current one; one whose network and sockets are the world's; the first ones, with monitor pages. */
const CONFIGS: readonly Partial<MachineConfig>[] = [
  { network: { mode: 'internal', vlans: [10], names: { build: '10.0.2.2' } }, sockets: { mode: 'internal' } },
  { network: { mode: 'user', vlans: [10] }, sockets: { mode: 'outside' }, platformOverrides: { monitorPages: true } },
  { network: { mode: 'internal' }, sockets: { mode: 'internal' }, platform: '2018', platformOverrides: { monitorPages: true } },
];

/** Long enough for disks and the network to answer. */
const SOON = 300_000;

/** Bytes of state that one input may make, besides what it has written to disks. */
const MAX_GROWTH = 24 << 20;

const SMALL = new Set(['number', 'boolean', 'undefined']);
/** About how much memory plain state takes. */
export function weigh(v: unknown): number {
  if (SMALL.has(typeof v) || v === null) return 8;
  if (typeof v === 'bigint') return 24;
  if (typeof v === 'string') return 16 + v.length;
  if (ArrayBuffer.isView(v)) return 64 + v.byteLength;
  let sum = 32;
  if (Array.isArray(v)) for (const e of v) sum += weigh(e);
  else for (const e of Object.values(v as object)) sum += 16 + weigh(e);
  return sum;
}

const nothing = new Reader(new Uint8Array(0));

/** Connected, with all channels open and all devices spoken to as a driver does. */
function ready(g: Guest, version: number): void {
  g.connect(version, [BUFFERS, BUFFERS + PAGE]);
  for (let relid = 1; relid <= PRIMARY_COUNT; relid++) g.open(relid, 8);
  g.wait(3_000_000);
  const say = (device: Parameters<typeof relidOf>[0], ...words: (number | Uint8Array)[]): void =>
    g.send(relidOf(device), { payload: payloadOf(...words) });
  for (const device of ['heartbeat', 'shutdown', 'timesync', 'kvp', 'vss', 'fcopy'] as const) {
    const relid = relidOf(device);
    g.receive(relid, false);
    g.send(relid, icAnswer(nothing, g, relid));
  }
  say('keyboard', 1, 0x0001_0000);
  say('mouse', 1, 12, 0, 4, 0x0002_0000);
  say('video', 1, 12, 1, 12, 0x0005_0003);
  for (const [operation, body] of [
    [7, 0],
    [9, 0x0602],
    [10, 0],
    [8, 0],
    [13, 2],
  ])
    say('scsi', operation, 1, 0, body, new Uint8Array(48));
  const dm = (type: number, ...words: number[]): void => say('balloon', type | ((8 + 4 * words.length) << 16), 1, ...words);
  dm(1, 0x2_0000, 0);
  dm(3, 3, 0, 0, 0, 0, 0);
  const network = relidOf('network');
  const gpadl = BUFFER_GPADL + network;
  g.gpadl(network, gpadl, BUFFERS + 0x20_0000, 0x10_0000);
  g.gpadl(network, gpadl + 0x100, BUFFERS + 0x40_0000, 0x4_0000);
  const nvsp = (...words: number[]): void => say('network', ...words, new Uint8Array(28 - 4 * (words.length - 1)));
  nvsp(1, 2, version >= 0x5_0000 ? 0x6_0001 : 0x3_0002);
  nvsp(125, 1514, 0, 8, 0);
  nvsp(100, 6, 30);
  nvsp(101, gpadl, 0xcafe);
  nvsp(104, gpadl + 0x100, 0);
  nvsp(133, 1, 2);
  const rndis = (...words: number[]): void => {
    const message = payloadOf(words[0], 4 * words.length + 4, ...words.slice(1));
    g.write(BUFFERS + 0x40_0000, message);
    nvsp(107, 1, 0, message.length);
  };
  rndis(2, 1, 1, 0, 0x4000);
  rndis(5, 2, 0x0001_010e, 4, 20, 0, 0x2f);
  setUpNvme(g);
  for (let relid = 1; relid <= PRIMARY_COUNT; relid++) g.receive(relid);
  // Sub-channels, of the network card and of the SCSI controller.
  g.takeMessages();
  for (const relid of [...SUB_CHANNELS.scsi, ...SUB_CHANNELS.network]) g.open(relid, 8, 1);
  g.wait(3_000_000);
  g.receive(network);
}

export class Hostile implements Target {
  readonly fresh = freshAction;
  readonly #machines: ({ guest: Guest; starts: Start[]; weight: number } | undefined)[] = [];
  runs = 0;
  /** Everything is checked after every input. */
  thorough = false;
  actions = 0;

  #machine(n: number): { guest: Guest; starts: Start[]; weight: number } {
    const made = this.#machines[n];
    if (made) return made;
    const guest = new Guest(CONFIGS[n]);
    const starts = [guest.snapshot()];
    guest.connect(n === 0 ? 0x6_0000 : 0x5_0000, [BUFFERS, BUFFERS + PAGE]);
    starts.push(guest.snapshot());
    guest.restore(starts[0]);
    ready(guest, n === 0 ? 0x5_0003 : n === 1 ? 0x6_0000 : 0x5_0000);
    starts.push(guest.snapshot());
    const machine = { guest, starts, weight: weigh(guest.machine.inspect()) };
    this.#machines[n] = machine;
    return machine;
  }

  renew(): void {
    this.#machines.length = 0;
  }

  /** Runs an input; the least bits of its header say on which machine and from which start. */
  run(input: Uint8Array): Set<string> {
    const { header, actions } = actionsOf(input);
    const { guest, starts, weight } = this.#machine((header & 15) % CONFIGS.length);
    const start = starts[Math.min(2, (header >> 4) & 7)];
    guest.restore(start);
    guest.features = new Set();
    this.runs++;
    // What takes as long as the input itself is done for some of them: one thing for each.
    const turn = this.thorough ? -1 : this.runs % 48;
    // The way back to the middle, from where it must come to the same end.
    const middle = turn < 0 || turn % 12 === 0 ? actions.length >> 1 : -1;
    let back: ReturnType<Guest['snapshot']> | undefined;
    actions.forEach((action, n) => {
      if (n === middle) back = guest.snapshot();
      this.#act(guest, action);
    });
    if (turn < 0 || turn % 4 === 1) this.#check(guest, start, weight);
    if (turn < 0 || turn === 2) look(guest);
    if (back) {
      const hash = guest.machine.stateHash();
      guest.restore(back);
      for (const action of actions.slice(middle)) this.#act(guest, action);
      if (guest.machine.stateHash() !== hash) throw new Error(`another end after going back to action ${middle}`);
    }
    if (turn < 0 || turn % 12 === 3) farewell(guest);
    return guest.features;
  }

  /** Does the same over and over, without going back: what the host keeps must not grow with it. */
  insist(input: Uint8Array, times: number): void {
    const { header, actions } = actionsOf(input);
    const { guest, starts, weight } = this.#machine((header & 15) % CONFIGS.length);
    const start = starts[Math.min(2, (header >> 4) & 7)];
    guest.restore(start);
    for (let n = 0; n < times; n++) for (const action of actions) this.#act(guest, action);
    this.#check(guest, start, weight);
    guest.restore(start);
  }

  #act(guest: Guest, { kind, args }: { kind: number; args: Uint8Array }): void {
    guest.events = 0;
    this.actions++;
    ACTIONS[(kind & 127) % ACTIONS.length](new Reader(args), guest);
    if (kind < 128) guest.wait(SOON);
  }

  #check(guest: Guest, start: Start, weight: number): void {
    const { machine } = guest;
    const after = machine.snapshot() as unknown as Inside;
    const { loop: _, ...parts } = after.state;
    const now = weigh(parts) - writtenBytes(parts);
    if (now > weight + MAX_GROWTH) throw new Error(`${now - weight} bytes more state than before, ${heaviest(parts)}`);
    const before = start.machine as unknown as Inside;
    for (let page = GUARD / PAGE; page < GUARD_END / PAGE; page++)
      if (after.ram.pages[page] !== before.ram.pages[page])
        throw new Error(`page 0x${page.toString(16)}, which nobody named, was written`);
  }
}

/** Whatever a guest says can be shown. */
function look({ machine }: Guest): void {
  machine.inspect();
  machine.vmbus();
  machine.screen();
  machine.services.kvp.items();
  for (let vp = 0; vp < 2; vp++) for (const { name } of machine.hypervRegisters()) machine.readHypervRegister(vp, name);
}

/** Registers that name memory: SynIC pages, reference TSC, VP assist page; and SINTs, timers and the SynIC itself. */
const MEMORY_REGISTERS = [0xa0010, 0xa0012, 0xa0013, 0xb0000, 0xb0002, 0xb0004, 0xb0006, 0x9_0017, 0x9_0013];

/** A guest that has let go of everything has its memory for itself: nothing of the host's is in it any more. */
function farewell(guest: Guest): void {
  const done = (result: bigint): boolean => (result & 0xffffn) === 0n;
  for (let vp = 0; vp < 2; vp++) if (guest.machine.vpState(vp) !== 'running') return;
  if (!done(guest.post(payloadOf(16, 0), 1))) return;
  for (let vp = 0; vp < 2; vp++) for (const register of MEMORY_REGISTERS) guest.setRegister(register, 0n, vp);
  const pages = (): readonly (Uint8Array | undefined)[] => (guest.machine.snapshot() as unknown as Inside).ram.pages;
  const before = pages();
  guest.wait(10_000_000_000);
  const after = pages();
  for (let page = 0; page < before.length; page++)
    if (before[page] !== after[page])
      throw new Error(`page 0x${page.toString(16)} was written after the guest had let go of everything`);
}

/** What disks hold of what was written, which is as much as disks are large. */
function writtenBytes(tree: unknown): number {
  if (typeof tree !== 'object' || tree === null || ArrayBuffer.isView(tree)) return 0;
  let sum = 0;
  for (const [key, v] of Object.entries(tree)) sum += key === 'written' ? weigh(v) : writtenBytes(v);
  return sum;
}

/** The path of the heaviest part. */
function heaviest(tree: unknown, path = 'state'): string {
  if (typeof tree !== 'object' || tree === null || ArrayBuffer.isView(tree)) return path;
  let best: [string, unknown, number] = ['', undefined, 0];
  for (const [key, v] of Object.entries(tree)) {
    const w = weigh(v);
    if (w > best[2]) best = [key, v, w];
  }
  return best[2] > weigh(tree) / 2 ? heaviest(best[1], `${path}.${best[0]}`) : path;
}
