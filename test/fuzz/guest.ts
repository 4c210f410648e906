/**
 * A guest that does what it is told: a real machine, whose VPs execute one instruction at a time where and with what registers
 * the fuzzer says. Whatever the host does is done by the same code as for any guest: CPU exit, router, connection, channel, device.
 * What the guest has to remember is plain, so that it goes back with a snapshot.
 */
import { viewOf } from '../../emulator/base/struct.ts';
import {
  DEFAULTS,
  type Disk,
  type Machine,
  type MachineConfig,
  type NetworkRequest,
  type Snapshot,
  type SocketRequest,
  type TraceEvent,
} from '../../emulator/index.ts';
import { createMachine } from '../../emulator/load.ts';
import { DEVICES } from '../../emulator/vmbus/devices/index.ts';
import { CONNECTIONS } from '../../emulator/vmbus/devices/socket.ts';

export const PAGE = 4096;
const MIB = 1 << 20;
const MEMORY = 64;
const MAX_MEMORY = 80;
/** The last one does nothing but wait: while it does, time goes by. */
const VPS = 3;
const IDLE = VPS - 1;
export const RAM_SIZE = MAX_MEMORY * MIB;

/** Where the guest has what. Nothing that it ever names lies in the guard: what is there is the host's doing. */
const CODE = 0x1f_0000;
export const INPUT_PAGE = 0x8000;
export const OUTPUT_PAGE = 0x9000;
export const SYNIC_PAGES = 0x10_0000;
const RINGS = 0x20_0000;
/** Pages between the rings of one channel and the next. */
const RING_PAGES = 72;
export const BUFFERS = 0x180_0000;
export const BUFFERS_SIZE = 0x100_0000;
export const GUARD = 0x300_0000;
export const GUARD_END = 0x400_0000;
/** GPADL of channel n's rings, and of other memory of it. */
export const RING_GPADL = 0x1000;
export const BUFFER_GPADL = 0x2000;

/** A program's words, in `CODE` from its first byte on. */
const WORDS = {
  hvc0: 0xd4000002,
  hvc1: 0xd4000022,
  hvc2: 0xd4000042,
  smc0: 0xd4000003,
  ldrb: 0x39400020,
  ldrh: 0x79400020,
  ldrw: 0xb9400020,
  ldrx: 0xf9400020,
  strb: 0x39000020,
  strh: 0x79000020,
  strw: 0xb9000020,
  strx: 0xf9000020,
  ldp: 0xa9400820,
  stp: 0xa9000820,
  ldxr: 0xc85f7c20,
  stxr: 0xc8037c20,
  ldadd: 0xf8e20020,
  ldrq: 0x3dc00020,
  dczva: 0xd50b7421,
  wfi: 0xd503207f,
  self: 0x14000000,
} as const;
export type WordName = keyof typeof WORDS;
export const LOADS: readonly WordName[] = ['ldrb', 'ldrh', 'ldrw', 'ldrx'];
export const STORES: readonly WordName[] = ['strb', 'strh', 'strw', 'strx'];
const NAMES = Object.keys(WORDS) as WordName[];
const placeOf = (name: WordName): bigint => BigInt(CODE + 4 * NAMES.indexOf(name));
/** Where a word of the fuzzer's own is put. */
const OTHER_WORD = CODE + PAGE;

const PSTATE_EL1H_MASKED = 0x3c5n;

export interface GuestPacket {
  relid: number;
  type: number;
  transactionId: bigint;
  payload: Uint8Array;
}

/** What the guest remembers. */
export interface Memory {
  connection: number;
  /** Pages of one ring, by relid; 0: it has none. */
  rings: number[];
  /** The last packets from the host, and the last frames. */
  packets: GuestPacket[];
  frames: Uint8Array[];
  /** Names of connections outside, as the machine has asked for them. */
  network: number[];
  sockets: number[];
  /** GPAs that the guest has given to the PCI bus. */
  window: number;
  bar: number;
  nvmeTail: number;
}

const newMemory = (): Memory => ({
  connection: 4,
  rings: [],
  packets: [],
  frames: [],
  network: [],
  sockets: [],
  window: 0,
  bar: 0,
  nvmeTail: 0,
});

/** Bytes that say where they are; nobody may change them, or read beside them. */
export function fuzzDisk(bytes: number, sectorSize = 512): Disk & { readonly bytes: Uint8Array } {
  const data = new Uint8Array(bytes);
  for (let i = 0; i < bytes; i++) data[i] = (i >> 9) * 7 + i;
  return {
    format: 'raw image',
    size: bytes,
    sectorSize,
    physicalSectorSize: 4096,
    bytes: data,
    read(offset, length) {
      if (!(offset >= 0 && length >= 0 && offset + length <= bytes))
        throw new Error(`disk of ${bytes} bytes read at ${offset}, ${length} bytes`);
      return data.slice(offset, offset + length);
    },
  };
}

/** Events that one action may cause: a guest gets no more out of the host than it pays for. */
const MAX_EVENTS = 200_000;
/** Events after which the guest does not wait any longer. */
const BUSY = 2000;

export class Guest {
  readonly machine: Machine;
  readonly disks: { readonly name: string; readonly disk: ReturnType<typeof fuzzDisk> }[];
  memory = newMemory();
  /** Features of the run: what the trace told, without its numbers. */
  features = new Set<string>();
  /** Events since an action began. */
  events = 0;
  readonly raw: boolean;
  readonly #sctlr: bigint;

  constructor(config: Partial<MachineConfig>) {
    this.disks = ['a', 'b', 'dvd', 'n1', 'n2'].map((name, i) => ({
      name,
      disk: fuzzDisk((i + 1) * 256 * 1024, name === 'n2' ? 4096 : 512),
    }));
    const [a, b, dvd, n1, n2] = this.disks;
    const kernel = new Uint8Array(PAGE);
    viewOf(kernel).setUint32(0, WORDS.self, true);
    this.machine = createMachine({
      ...DEFAULTS,
      boot: 'device-tree',
      load: CODE,
      memory: MEMORY,
      maxMemory: MAX_MEMORY,
      cpus: VPS,
      kernel,
      kernelName: 'fuzz',
      engine: 'interpreter',
      disks: [
        { ...a, latency: 1000 },
        { ...b, readOnly: true },
        { ...dvd, dvd: true },
        { ...n1, bus: 'nvme' },
        { ...n2, bus: 'nvme' },
      ],
      keyValuePairs: { role: 'fuzz' },
      ...config,
    });
    this.raw = !this.machine.platform().conduits.includes('smccc');
    const m = this.machine;
    NAMES.forEach((name, i) => {
      const word = new Uint8Array(4);
      viewOf(word).setUint32(0, WORDS[name], true);
      m.writePhysical(CODE + 4 * i, word);
    });
    this.#sctlr = m.readRegister(0, 'SCTLR_EL1') ?? 0n;
    for (let vp = 1; vp < VPS; vp++) this.execute('smc0', [0xc400_0003n, BigInt(vp), placeOf('self'), 0n]);
    m.subscribe((e) => this.#seen(e));
    m.onNetwork = (r: NetworkRequest) => this.#asked(this.memory.network, r, 'network');
    m.onSocket = (r: SocketRequest) => this.#asked(this.memory.sockets, r, 'socket');
  }

  #asked(list: number[], r: NetworkRequest | SocketRequest, what: string): void {
    this.features.add(`${what} ${r.kind}`);
    if ('id' in r && !list.includes(r.id)) list.push(r.id);
    if (list.length > 16) list.shift();
  }

  #seen(e: TraceEvent): void {
    if (++this.events > MAX_EVENTS) throw new Error(`more than ${MAX_EVENTS} events of one action, last ${e.kind}`);
    const f = featureOf(e);
    if (f !== '') this.features.add(f);
    if (e.kind === 'frame' && e.direction === 'host-to-guest') {
      this.memory.frames.push(e.frame);
      if (this.memory.frames.length > 8) this.memory.frames.shift();
    }
  }

  // --- time ---------------------------------------------------------------------------------------------------------------------

  snapshot(): { machine: Snapshot; memory: Memory } {
    return { machine: this.machine.snapshot(), memory: structuredClone(this.memory) };
  }
  restore(s: { machine: Snapshot; memory: Memory }): void {
    this.machine.restore(s.machine);
    this.memory = structuredClone(s.memory);
  }

  // --- instructions -------------------------------------------------------------------------------------------------------------

  /** Executes one instruction of `vp` with these registers from x0 on; what x0 is then. */
  execute(word: WordName | number, x: readonly bigint[], vp = 0): bigint {
    const m = this.machine;
    let at = OTHER_WORD;
    if (typeof word === 'number') {
      const bytes = new Uint8Array(4);
      viewOf(bytes).setUint32(0, word, true);
      m.writePhysical(OTHER_WORD, bytes);
    } else at = Number(placeOf(word));
    if (m.readRegister(vp, 'SCTLR_EL1') !== this.#sctlr) m.writeRegister(vp, 'SCTLR_EL1', this.#sctlr);
    m.writeRegister(vp, 'pstate', PSTATE_EL1H_MASKED);
    m.writeRegister(vp, 'pc', BigInt(at));
    x.forEach((value, n) => {
      m.writeRegister(vp, `x${n}`, BigInt.asUintN(64, value));
    });
    // One instruction, or as long as it takes until a VP that waits is awake.
    m.run({ instructions: 1, onlyVp: vp, nanoseconds: 1_000_000 });
    return m.readRegister(vp, 'x0') ?? 0n;
  }

  /** Lets time go by; less when so much happens meanwhile that it would take long: a guest may have timers of 100 ns. */
  wait(ns: number): void {
    const m = this.machine;
    const end = m.now + ns;
    const before = this.events;
    for (let piece = 100_000; m.now < end && this.events - before < BUSY; piece *= 2) {
      const part = Math.min(end, m.now + piece);
      // Once for WFI itself, once for an interrupt in between: an idle VP that has one for good does not wait.
      for (let n = 0; n < 3 && m.now < part; n++) {
        m.writeRegister(IDLE, 'pc', placeOf('wfi'));
        m.writeRegister(IDLE, 'pstate', PSTATE_EL1H_MASKED);
        m.run({ nanoseconds: part - m.now, onlyVp: IDLE, instructions: 2 });
      }
      if (m.now < part) return;
    }
  }

  // --- memory -------------------------------------------------------------------------------------------------------------------

  read(gpa: number, length: number): Uint8Array {
    return this.machine.readPhysical(gpa, length) ?? new Uint8Array(length);
  }
  u32(gpa: number): number {
    return viewOf(this.read(gpa, 4)).getUint32(0, true);
  }
  write(gpa: number, bytes: Uint8Array): void {
    this.machine.writePhysical(gpa, harmless(bytes));
  }
  setU32(gpa: number, value: number): void {
    const bytes = new Uint8Array(4);
    viewOf(bytes).setUint32(0, value, true);
    this.machine.writePhysical(gpa, bytes);
  }

  // --- hypercalls ---------------------------------------------------------------------------------------------------------------

  /** A hypercall as current guests make it, or as this host has it. */
  hypercall(control: bigint, inputs: readonly bigint[], vp = 0, raw = this.raw): bigint {
    return raw ? this.execute('hvc1', [control, ...inputs], vp) : this.execute('hvc0', [0x4600_0001n, control, ...inputs], vp);
  }
  setRegister(number: number, value: bigint, vp = 0): bigint {
    const self = 0xffff_ffff_ffff_ffffn;
    return this.hypercall(0x1_0001_0051n, [self, 0xffff_fffen, BigInt(number), 0n, value, 0n], vp);
  }

  /** Message and event flags pages, SINT2, the SynIC itself. */
  setUpSynic(vp: number): void {
    const page = BigInt(SYNIC_PAGES + vp * 0x2000);
    this.setRegister(0xa0013, page | 1n, vp);
    this.setRegister(0xa0012, (page + 0x1000n) | 1n, vp);
    this.setRegister(0xa0002, 18n, vp);
    this.setRegister(0xa0010, 1n, vp);
  }

  post(payload: Uint8Array, connection = this.memory.connection, type = 1, size = payload.length): bigint {
    const block = new Uint8Array(256);
    const view = viewOf(block);
    [connection, 0, type, size].forEach((w, i) => {
      view.setUint32(4 * i, w >>> 0, true);
    });
    block.set(payload.subarray(0, 240), 16);
    this.write(INPUT_PAGE, block);
    const status = this.hypercall(0x5cn, [BigInt(INPUT_PAGE), 0n]);
    this.takeMessages();
    return status;
  }

  /** Words and bytes as one message. */
  message(type: number, ...words: (number | Uint8Array)[]): bigint {
    return this.post(payloadOf(type, 0, ...words));
  }

  /** Empties the message slots of SINT2, of both VPs. */
  takeMessages(): void {
    for (let vp = 0; vp < 2; vp++) {
      const slot = SYNIC_PAGES + vp * 0x2000 + 2 * 256;
      for (let n = 0; n < 100 && this.u32(slot) !== 0; n++) {
        // VERSION_RESPONSE names the connection to post to.
        if (this.u32(slot + 16) === 15 && this.read(slot + 24, 1)[0] === 1) {
          const id = this.u32(slot + 28);
          this.memory.connection = id === 4 ? 4 : 1;
        }
        const pending = this.read(slot + 5, 1)[0] & 1;
        this.setU32(slot, 0);
        if (pending) this.setRegister(0xa0014, 0n, vp);
      }
    }
  }

  signal(relid: number, vp = 0): void {
    this.hypercall(0x1_005dn, [BigInt(0x2000 + relid)], vp);
  }

  // --- VMBus --------------------------------------------------------------------------------------------------------------------

  contact(version: number, monitor = [0, 0], vp = 0): void {
    const modern = version >= 0x5_0000;
    const target = modern ? [2, version >= 0x6_0000 ? 0xffff : 0] : [0x9000, 0];
    this.memory.connection = 1;
    this.post(payloadOf(14, 0, version, vp, ...target, monitor[0], 0, monitor[1], 0), modern ? 4 : 1);
  }

  connect(version: number, monitor = [0, 0]): void {
    for (let vp = 0; vp < 2; vp++) this.setUpSynic(vp);
    this.setRegister(0x90002, 0x8100_0006_0c00_0000n);
    this.contact(version, monitor);
    this.message(3);
  }

  ringAt(relid: number, incoming: boolean): { gpa: number; size: number } {
    const pages = this.memory.rings[relid] || 4;
    return { gpa: RINGS + ((relid % 96) * RING_PAGES + (incoming ? pages : 0)) * PAGE, size: (pages - 1) * PAGE };
  }

  /** Creates a GPADL of one range of contiguous pages; the messages that it takes. */
  gpadl(relid: number, id: number, gpa: number, byteCount: number, byteOffset = 0): void {
    const pages = Math.ceil((byteOffset + byteCount) / PAGE);
    const words = [BigInt(byteCount) | (BigInt(byteOffset) << 32n)];
    for (let n = 0; n < pages; n++) words.push(BigInt(gpa / PAGE + n));
    this.gpadlOf(relid, id, 1, words);
  }

  /** A GPADL of any words; `announced` bytes instead of as many as there are. */
  gpadlOf(relid: number, id: number, ranges: number, words: readonly bigint[], announced = 8 * words.length): void {
    const head = new Uint8Array(4);
    viewOf(head).setUint16(0, announced & 0xffff, true);
    viewOf(head).setUint16(2, ranges, true);
    this.message(8, relid, id, head, qwords(words.slice(0, 27)));
    for (let at = 27, n = 0; at < words.length; at += 28, n++) this.message(9, n, id, qwords(words.slice(at, at + 28)));
  }

  /** GPADL, empty rings of `pages` pages each, OPEN. */
  open(relid: number, pages = 4, vp = 0): void {
    this.memory.rings[relid] = pages;
    const { gpa } = this.ringAt(relid, false);
    this.gpadl(relid, RING_GPADL + relid, gpa, 2 * pages * PAGE);
    for (const incoming of [false, true]) {
      const ring = this.ringAt(relid, incoming).gpa;
      for (let i = 0; i < 17; i++) this.setU32(ring + 4 * i, i === 16 ? 1 : 0);
    }
    this.message(5, relid, relid, RING_GPADL + relid, vp, pages, new Uint8Array(120));
  }

  /** Writes bytes at the write index, which goes on by as many. */
  ringWrite(relid: number, bytes: Uint8Array, advance = bytes.length): void {
    const { gpa, size } = this.ringAt(relid, false);
    const at = this.u32(gpa) % size;
    const data = harmless(bytes).subarray(0, size);
    const first = Math.min(data.length, size - at);
    this.machine.writePhysical(gpa + PAGE + at, data.subarray(0, first));
    if (first < data.length) this.machine.writePhysical(gpa + PAGE, data.subarray(first));
    this.setU32(gpa, (at + advance) % size);
  }

  /** Sends a packet. */
  send(relid: number, packet: OutPacket): void {
    const { type = 6, transactionId = 1n, flags = 1, ranges = new Uint8Array(0), payload } = packet;
    const start = 16 + ranges.length;
    const length = Math.ceil((start + payload.length) / 8) * 8;
    const bytes = new Uint8Array(length + 8);
    const view = viewOf(bytes);
    view.setUint16(0, type, true);
    view.setUint16(2, start / 8, true);
    view.setUint16(4, length / 8, true);
    view.setUint16(6, flags, true);
    view.setBigUint64(8, transactionId, true);
    bytes.set(ranges, 16);
    bytes.set(payload, start);
    view.setUint32(length + 4, this.u32(this.ringAt(relid, false).gpa), true);
    this.ringWrite(relid, bytes);
    if (packet.signal ?? true) this.signal(relid);
  }

  /** Takes what is in the ring from the host, and makes room. */
  receive(relid: number, signal = true): void {
    const { gpa, size } = this.ringAt(relid, true);
    const write = this.u32(gpa);
    let at = this.u32(gpa + 4);
    if (write >= size || at >= size || at & 7) return;
    const whole = this.read(gpa + PAGE, size);
    for (let n = 0; at !== write && n < 200; n++) {
      const get = (from: number, length: number): Uint8Array =>
        Uint8Array.from({ length }, (_, i) => whole[(at + from + i) % size]);
      const d = viewOf(get(0, 16));
      const start = d.getUint16(2, true) * 8;
      const length = d.getUint16(4, true) * 8;
      if (start < 16 || length < start || length + 8 > size) break;
      this.memory.packets.push({
        relid,
        type: d.getUint16(0, true),
        transactionId: d.getBigUint64(8, true),
        payload: get(start, length - start),
      });
      if (this.memory.packets.length > 8) this.memory.packets.shift();
      at = (at + length + 8) % size;
    }
    this.setU32(gpa + 4, write);
    if (signal) this.signal(relid);
  }
}

export interface OutPacket {
  type?: number;
  transactionId?: bigint;
  flags?: number;
  ranges?: Uint8Array;
  payload: Uint8Array;
  signal?: boolean;
}

/** relid of a device's primary channel, on a host whose first is 1. */
export const relidOf = (device: keyof typeof DEVICES): number => 1 + Object.keys(DEVICES).indexOf(device);
export const PRIMARY_COUNT = Object.keys(DEVICES).length;
/** relids of the sub-channels, and the first ones of sockets: in the order of their devices. */
export const SUB_CHANNELS = {
  scsi: [PRIMARY_COUNT + 1, PRIMARY_COUNT + 2],
  socket: Array.from({ length: 8 }, (_, n) => PRIMARY_COUNT + VPS + n),
  network: [PRIMARY_COUNT + VPS + CONNECTIONS, PRIMARY_COUNT + VPS + CONNECTIONS + 1],
} as const;
const SUBS = Object.values(SUB_CHANNELS).flat();
/** A channel that is no primary one. */
export const subChannel = (n: number): number => SUBS[n % SUBS.length];

export function qwords(list: readonly bigint[]): Uint8Array {
  const out = new Uint8Array(8 * list.length);
  list.forEach((q, i) => {
    viewOf(out).setBigUint64(8 * i, BigInt.asUintN(64, q), true);
  });
  return out;
}

/** Words (u32) and bytes, one behind the other. */
export function payloadOf(...words: (number | Uint8Array)[]): Uint8Array {
  return Uint8Array.from(
    words.flatMap((w) => (typeof w === 'number' ? [w & 255, (w >>> 8) & 255, (w >>> 16) & 255, (w >>> 24) & 255] : [...w])),
  );
}

/** The bytes without anything that could name the guard, as an address or a page number, at whatever multiple of 4. */
export function harmless(bytes: Uint8Array): Uint8Array {
  let out = bytes;
  const change = (at: number, value: number): void => {
    if (out === bytes) out = bytes.slice();
    out[at] = value;
  };
  for (let i = 0; i < bytes.length; i += 4) {
    const high = (from: number): boolean => {
      for (let n = from; n < 8; n++) if ((out[i + n] ?? 0) !== 0) return false;
      return true;
    };
    if (out[i + 3] === 3 && high(4)) change(i + 3, 1);
    if (out[i + 1] >>> 4 === 3 && high(2)) change(i + 1, out[i + 1] & 0x0f);
  }
  return out;
}

/** The same for a number. */
export function harmlessNumber(value: bigint): bigint {
  const page = value >> 12n;
  if (page >= BigInt(GUARD / PAGE) && page < BigInt(GUARD_END / PAGE)) return value & 0x1ff_ffffn;
  if (value >= BigInt(GUARD / PAGE) && value < BigInt(GUARD_END / PAGE)) return value & 0xfffn;
  return value;
}

/** Statuses stay: they say what became of it. */
const plain = (text: string): string =>
  text.replace(/(status 0x[0-9a-f]+)|0x[0-9a-f]+|\d+/gi, (_, status: string | undefined) => status ?? '#').slice(0, 120);

/** What an event says, without its numbers. Empty: nothing of interest. */
function featureOf(e: TraceEvent): string {
  switch (e.kind) {
    case 'hypercall':
      return `call ${e.name} ${e.statusName} ${e.fast} ${e.conduit}`;
    case 'vp-register':
      return `register ${e.name} ${e.access}`;
    case 'psci':
    case 'smccc':
      return `smccc ${e.name} ${e.result >= 1n << 31n}`;
    case 'message':
      return `message ${e.name} ${e.direction} ${String(e.fields.Status ?? e.fields.CreationStatus ?? '')}`;
    case 'channel':
      return `channel ${e.device} ${e.what}`;
    case 'packet':
      return `packet ${e.device} ${e.direction} ${plain(e.what)}`;
    case 'synic':
      return `synic ${plain(e.what)}`;
    case 'timer':
      return `timer ${e.timer} ${plain(e.what)}`;
    case 'signal':
      return `signal ${e.direction} ${plain(e.how)}`;
    case 'fault':
      return `fault ${e.exception}`;
    case 'mmio':
      return `mmio ${e.device} ${e.access} ${e.size}`;
    case 'guest':
      return `guest ${e.part} ${plain(e.message)}`;
    case 'service':
      return `service ${e.service} ${plain(e.message)}`;
    case 'crash':
      return 'crash';
    default:
      return '';
  }
}
