/**
 * A small NVMe controller (NVM Express Base Specification 1.2; section and figure numbers are its): admin queue and up to eight I/O
 * queue pairs, PRPs, MSI-X, a namespace for each disk, which may come and go. What the guest asks for by a doorbell is done a fixed virtual
 * time later.
 */
import type { Clock } from '../../../base/clock.ts';
import { idFromName } from '../../../base/guid.ts';
import { struct, u8, u16, u32, u64, type Value, viewOf } from '../../../base/struct.ts';
import { ConfigError, type Disk, type DiskConfig } from '../../../config.ts';
import type { Tree } from '../../../base/inspect.ts';
import type { DiskError, DiskErrorOptions } from '../../../index.ts';
import type { Ram } from '../../../memory/ram.ts';
import { BLOCK, Medium, type Written } from '../scsi/medium.ts';
import type { FunctionIds, PciBus, PciFunction } from './function.ts';

/** 4.2, figure 11. */
const Command = struct(
  'Command',
  {
    Opcode: u8,
    Flags: u8,
    CommandId: u16,
    Nsid: u32,
    Reserved: u64,
    Mptr: u64,
    Prp1: u64,
    Prp2: u64,
    Dw10: u32,
    Dw11: u32,
    Dw12: u32,
    Dw13: u32,
    Dw14: u32,
    Dw15: u32,
  },
  { size: 64 },
);
type Command = Value<typeof Command>;
/** 4.6, figure 26. */
const Completion = struct(
  'Completion',
  { Result: u32, Reserved: u32, SqHead: u16, SqId: u16, CommandId: u16, Status: u16 },
  { size: 16 },
);

const PAGE = 4096;
/** I/O queue pairs, and entries of a queue. */
const IO_QUEUES = 8;
const MAX_ENTRIES = 64;
/** MDTS: pages of 4 KiB as a power of two. */
const MDTS = 5;
const MAX_TRANSFER = PAGE << MDTS;
/** Entries of PRP lists that a command may need: each page, and as many ways from one list to the next. */
const MAX_STEPS = 2 * (1 << MDTS);
const MAX_NAMESPACES = 16;
const LATENCY_NS = 20_000;
const ALARM = 'pci/nvme';

/** Registers (3.1). */
const REG = {
  cap: 0,
  vs: 8,
  intms: 0xc,
  intmc: 0x10,
  cc: 0x14,
  csts: 0x1c,
  aqa: 0x24,
  asq: 0x28,
  acq: 0x30,
  doorbells: 0x1000,
} as const;
/** Queues must be contiguous; 10 s to get ready; doorbells without gaps; NVM command set; pages of 4 KiB. */
const CAP = BigInt(MAX_ENTRIES - 1) | (1n << 16n) | (20n << 24n) | (1n << 37n);
const VERSION = 0x0001_0200;
const CC_ENABLE = 1;
const CSTS = { ready: 1, fatal: 2, shutdownComplete: 8 } as const;

const ADMIN = {
  deleteSq: 0,
  createSq: 1,
  getLogPage: 2,
  deleteCq: 4,
  createCq: 5,
  identify: 6,
  abort: 8,
  setFeatures: 9,
  getFeatures: 0xa,
  asyncEventRequest: 0xc,
} as const;
const NVM = { flush: 0, write: 1, read: 2, writeZeroes: 8, datasetManagement: 9 } as const;
/** ONCS: Dataset Management, Write Zeroes. */
const ONCS = 0xc;
/** OAES, and what Set Features asks for: notices that namespaces have changed; the event, and the log page that tells which (5.2). */
const NAMESPACE_NOTICES = 1 << 8;
const CHANGED_NAMESPACES = { event: 0x04_00_02, page: 4 } as const;
/** Dataset Management (6.7): a range's bytes; attribute Deallocate. */
const DsmRange = struct('DsmRange', { Attributes: u32, Blocks: u32, First: u64 }, { size: 16 });
const DEALLOCATE = 4;
/** Bytes that one command deallocates at most: it is a hint, and the guest could ask for all of a disk 256 times. */
const MAX_DEALLOCATED = 2 ** 32;
const FEATURE = { temperature: 4, writeCache: 6, queues: 7, asyncEvents: 0xb } as const;

/** Status codes (4.6.1): code and, from bit 8 on, type. */
const SC = {
  success: 0,
  invalidOpcode: 1,
  invalidField: 2,
  dataTransferError: 4,
  internalError: 6,
  invalidNamespace: 0xb,
  invalidPrp: 0x13,
  lbaOutOfRange: 0x80,
  namespaceNotReady: 0x82,
  cqInvalid: 0x100,
  queueId: 0x101,
  queueSize: 0x102,
  abortLimit: 0x103,
  asyncLimit: 0x105,
  vector: 0x108,
  logPage: 0x109,
  queueDeletion: 0x10c,
  readOnly: 0x182,
  writeFault: 0x280,
  readError: 0x281,
} as const;
/** Asynchronous events that may be asked for. */
const MAX_ASYNC = 4;
/** Errors by name; what is not here only a SCSI disk can have. */
const FAULTS: Partial<Record<DiskError, Pick<Fault, 'status' | 'on'>>> = {
  'read-error': { status: SC.readError, on: 'read' },
  'write-error': { status: SC.writeFault, on: 'write' },
  'hardware-error': { status: SC.internalError, on: 'any' },
  'not-ready': { status: SC.namespaceNotReady, on: 'any' },
};
/** What may get better when it is tried again. */
const PASSING: readonly number[] = [SC.namespaceNotReady];

/** An error that commands will get, on these blocks, so many times more. */
interface Fault {
  status: number;
  on: 'read' | 'write' | 'any';
  first: number;
  last: number;
  count: number;
}

interface SubmissionQueue {
  id: number;
  base: number;
  entries: number;
  head: number;
  tail: number;
  cq: number;
}
interface CompletionQueue {
  id: number;
  base: number;
  entries: number;
  head: number;
  tail: number;
  phase: number;
  /** MSI-X vector, -1: none. */
  vector: number;
}

interface Namespace {
  name: string;
  /** False: taken away. What was written stays for the next time. */
  present: boolean;
  readOnly: boolean;
  written: Written;
  faults: Fault[];
  reads: number;
  writes: number;
  /** Blocks that were deallocated, and written with zeroes. */
  deallocated: number;
  zeroed: number;
}

interface NvmeState {
  cc: number;
  csts: number;
  mask: number;
  aqa: number;
  asq: bigint;
  acq: bigint;
  sqs: SubmissionQueue[];
  cqs: CompletionQueue[];
  /** Command ids of asynchronous event requests; the events that the guest wants. */
  asyncRequests: number[];
  asyncEvents: number;
  /** Namespaces that have come or gone since the guest has read that log page, and whether it has been told. */
  changed: number[];
  told: boolean;
  namespaces: Namespace[];
}

/** What a command comes to. 'later': nothing is answered. */
type Outcome = number | { result: number } | 'later';

export class Nvme implements PciFunction {
  readonly ids: FunctionIds = {
    // Microsoft's vendor id and the device id of its NVMe Direct, revision 0; mass storage, NVM, NVMe.
    vendor: 0x1414,
    device: 0xb111,
    revision: 0,
    programmingInterface: 2,
    subclass: 8,
    baseClass: 1,
    subsystemVendor: 0x1414,
    subsystem: 0,
  };
  readonly barSize = 0x4000;
  readonly vectors = IO_QUEUES + 1;
  readonly tableOffset = 0x2000;
  readonly pendingOffset = 0x3000;
  readonly state: NvmeState = {
    cc: 0,
    csts: 0,
    mask: 0,
    aqa: 0,
    asq: 0n,
    acq: 0n,
    sqs: [],
    cqs: [],
    asyncRequests: [],
    asyncEvents: 0,
    changed: [],
    told: false,
    namespaces: [],
  };
  readonly #bus: PciBus;
  readonly #clock: Clock;
  readonly #ram: Ram;
  readonly #disks = new Map<string, Disk>();

  constructor(bus: PciBus, clock: Clock, ram: Ram) {
    this.#bus = bus;
    this.#clock = clock;
    this.#ram = ram;
    clock.on(ALARM, () => this.#work());
  }

  /**
   * Gives the controller another namespace, also while it runs; its number. One of this name that was there before still has what was
   * written. Throws `ConfigError`.
   */
  attach({ name, disk, readOnly = false, dvd, written }: DiskConfig): number {
    const { namespaces } = this.state;
    if (dvd) throw new ConfigError(`disk "${name}": a DVD drive is not an NVMe disk`);
    const before = namespaces.findIndex((n) => n.name === name);
    if (namespaces[before]?.present) throw new ConfigError(`disk "${name}": there is one of that name`);
    if (before < 0 && namespaces.length >= MAX_NAMESPACES)
      throw new ConfigError(`disk "${name}": there are ${MAX_NAMESPACES} NVMe disks already`);
    if (disk.size < disk.sectorSize || disk.size % disk.sectorSize !== 0 || ![512, 4096].includes(disk.sectorSize))
      throw new ConfigError(`disk "${name}": ${disk.size} bytes are not whole sectors of 512 or 4096 bytes`);
    const state: Namespace = {
      ...{ name, present: true, readOnly, written: namespaces[before]?.written ?? {} },
      ...{ faults: [], reads: 0, writes: 0, deallocated: 0, zeroed: 0 },
    };
    const medium = new Medium(disk, state.written);
    for (const [offset, data] of written ?? [])
      if (!medium.write(offset, data)) throw new ConfigError(`disk "${name}": its image cannot be read at ${offset}`);
    this.#disks.set(name, disk);
    const id = before < 0 ? namespaces.length + 1 : before + 1;
    namespaces[id - 1] = state;
    this.#changed(id);
    return id;
  }

  /** Takes a namespace away. */
  detach(name: string): void {
    this.state.namespaces.forEach((ns, n) => {
      if (ns.name !== name || !ns.present) return;
      ns.present = false;
      this.#changed(n + 1);
    });
  }

  /** Names of the namespaces that are there. */
  get names(): string[] {
    return this.state.namespaces.filter((n) => n.present).map((n) => n.name);
  }

  /** True when a namespace of that name is there, or was. */
  has(name: string): boolean {
    return this.#disks.has(name);
  }

  /** The next `count` commands that read or write a namespace, on blocks `first` to `last` if given, end in this error. False: none such. */
  inject(
    name: string,
    error: DiskError,
    { first = 0, last = Number.MAX_SAFE_INTEGER, count = 1 }: DiskErrorOptions = {},
  ): boolean {
    const ns = this.state.namespaces.find((n) => n.name === name && n.present);
    const fault = FAULTS[error];
    if (!fault) throw new ConfigError(`disk "${name}": an NVMe disk has ${Object.keys(FAULTS).join(', ')}, not ${error}`);
    ns?.faults.push({ ...fault, first, last, count });
    return ns !== undefined;
  }

  /** Tells the guest of it, if it wants to know. */
  #changed(id: number): void {
    const { state } = this;
    if (!(state.csts & CSTS.ready)) return;
    if (!state.changed.includes(id)) state.changed.push(id);
    if (!state.told) this.#wake();
  }

  /** A namespace that is there. */
  #namespace(id: number): Namespace | undefined {
    const ns = this.state.namespaces[id - 1];
    return ns?.present ? ns : undefined;
  }

  /** What the guest has written to a disk: offsets and bytes, ascending. */
  *written(name: string): Iterable<[offset: number, data: Uint8Array]> {
    const state = this.state.namespaces.find((n) => n.name === name);
    const size = this.#disks.get(name)?.size ?? 0;
    for (const key of Object.keys(state?.written ?? {})
      .map(Number)
      .sort((a, b) => a - b)) {
      const data = state?.written[key];
      if (data) yield [key * BLOCK, data.subarray(0, Math.min(BLOCK, size - key * BLOCK))];
    }
  }

  // --- registers ----------------------------------------------------------------------------------------------------------------

  read(offset: number, size: number): bigint {
    if (offset >= REG.doorbells) return 0n;
    const at = offset & ~7;
    const shift = BigInt(8 * (offset & 7));
    return BigInt.asUintN(8 * size, this.#qword(at) >> shift);
  }

  #qword(at: number): bigint {
    const { cc, csts, mask, aqa, asq, acq } = this.state;
    const pair = (low: number, high: number): bigint => BigInt(low >>> 0) | (BigInt(high >>> 0) << 32n);
    switch (at) {
      case REG.cap:
        return CAP;
      case REG.vs:
        return pair(VERSION, mask);
      case REG.intmc:
        return pair(mask, cc);
      case REG.csts & ~7:
        return pair(0, csts);
      case REG.aqa & ~7:
        return pair(0, aqa);
      case REG.asq:
        return asq;
      case REG.acq:
        return acq;
      default:
        return 0n;
    }
  }

  write(offset: number, size: number, value: bigint): void {
    if (offset >= REG.doorbells) {
      if (size === 4) this.#doorbell((offset - REG.doorbells) / 4, Number(value));
      else this.#bus.note(`doorbell of ${size} bytes`);
      return;
    }
    if (size === 8) {
      this.write(offset, 4, value & 0xffff_ffffn);
      this.write(offset + 4, 4, value >> 32n);
      return;
    }
    if (size !== 4) return;
    const { state } = this;
    const word = Number(value);
    const half = (old: bigint, high: boolean): bigint =>
      high ? (old & 0xffff_ffffn) | (value << 32n) : (old & ~0xffff_ffffn) | (value & 0xffff_f000n);
    switch (offset) {
      case REG.cc:
        this.#configure(word);
        return;
      // Interrupt masks are for pins and MSI; with MSI-X they only hold what is written.
      case REG.intms:
        state.mask = (state.mask | word) >>> 0;
        return;
      case REG.intmc:
        state.mask = (state.mask & ~word) >>> 0;
        return;
      case REG.aqa:
        state.aqa = word & 0x0fff_0fff;
        return;
      case REG.asq:
      case REG.asq + 4:
        state.asq = half(state.asq, offset !== REG.asq);
        return;
      case REG.acq:
      case REG.acq + 4:
        state.acq = half(state.acq, offset !== REG.acq);
    }
  }

  /** CC: enable, disable, shut down (3.1.5). */
  #configure(cc: number): void {
    const { state } = this;
    const was = state.cc & CC_ENABLE;
    state.cc = cc;
    if (was && !(cc & CC_ENABLE)) {
      this.#stop();
      state.cc = cc;
      return;
    }
    if (!was && cc & CC_ENABLE) this.#start();
    if ((cc >>> 14) & 3) state.csts |= CSTS.shutdownComplete;
    else state.csts &= ~CSTS.shutdownComplete;
  }

  #start(): void {
    const { state } = this;
    const size = (n: number): number => (n & 0xfff) + 1;
    const [sqEntries, cqEntries] = [size(state.aqa), size(state.aqa >>> 16)];
    const pages = (state.cc >>> 7) & 15;
    const set = (state.cc >>> 4) & 7;
    if (sqEntries < 2 || cqEntries < 2 || pages !== 0 || set !== 0) {
      this.#bus.note(`enabled with queues of ${sqEntries} and ${cqEntries}, page size ${pages}, command set ${set}`);
      state.csts = CSTS.fatal;
      return;
    }
    state.sqs = [{ id: 0, base: Number(state.asq), entries: sqEntries, head: 0, tail: 0, cq: 0 }];
    state.cqs = [{ id: 0, base: Number(state.acq), entries: cqEntries, head: 0, tail: 0, phase: 1, vector: 0 }];
    state.csts = CSTS.ready;
  }

  #stop(): void {
    Object.assign(this.state, { csts: 0, sqs: [], cqs: [], asyncRequests: [], asyncEvents: 0, changed: [], told: false });
    this.#clock.cancel(ALARM);
  }

  reset(): void {
    this.#stop();
    Object.assign(this.state, { cc: 0, mask: 0, aqa: 0, asq: 0n, acq: 0n });
  }

  /** Doorbell `n`: tail of submission queue n / 2, or head of that completion queue (3.1.16, 3.1.17). */
  #doorbell(n: number, value: number): void {
    const id = n >> 1;
    const queue = (n & 1 ? this.state.cqs : this.state.sqs).find((q) => q.id === id);
    if (!queue || value >= queue.entries) {
      this.#bus.note(`doorbell ${n} with ${value}: ${queue ? `a queue of ${queue.entries}` : 'no such queue'}`);
      return;
    }
    if (n & 1) queue.head = value;
    else queue.tail = value;
    if (this.state.sqs.some((q) => q.head !== q.tail)) this.#wake();
  }

  #wake(): void {
    this.#clock.set(ALARM, this.#clock.now + LATENCY_NS);
  }

  // --- commands -----------------------------------------------------------------------------------------------------------------

  /** Does what waits in the submission queues, as far as completion queues have room. */
  #work(): void {
    const { state } = this;
    if (!(state.csts & CSTS.ready) || state.csts & CSTS.fatal) return;
    if (!this.#bus.mayMaster) {
      this.#bus.note('there are commands, but the function may not master the bus');
      return;
    }
    const told = new Set<number>();
    // Not the queues that a command makes on the way: their doorbells come later.
    for (const sq of [...state.sqs]) {
      while (state.sqs.includes(sq) && sq.head !== sq.tail) {
        const cq = state.cqs.find((q) => q.id === sq.cq);
        if (!cq || (cq.tail + 1) % cq.entries === cq.head) break;
        const bytes = this.#from(sq.base + sq.head * Command.size, Command.size);
        if (!bytes) {
          this.#fatal(`submission queue ${sq.id} is not in RAM`);
          return;
        }
        sq.head = (sq.head + 1) % sq.entries;
        const command = Command.get(viewOf(bytes), 0);
        const outcome = sq.id === 0 ? this.#admin(command) : this.#io(command);
        if (outcome !== 'later' && !this.#complete(sq, cq, command.CommandId, outcome, told)) return;
      }
    }
    this.#notify(told);
    for (const vector of told) this.#bus.interrupt(vector);
  }

  /** Answers a command; there is room for that. False: the queue is not in RAM. */
  #complete(
    sq: SubmissionQueue,
    cq: CompletionQueue,
    id: number,
    outcome: Exclude<Outcome, 'later'>,
    told: Set<number>,
  ): boolean {
    const status = typeof outcome === 'number' ? outcome : SC.success;
    const retry = status === SC.success || PASSING.includes(status);
    const answer = Completion.make({
      Result: typeof outcome === 'number' ? 0 : outcome.result,
      SqHead: sq.head,
      SqId: sq.id,
      CommandId: id,
      // Do Not Retry where nothing gets better by that.
      Status: (retry ? 0 : 0x8000) | ((status & 0x7ff) << 1) | cq.phase,
    });
    if (!this.#to(cq.base + cq.tail * Completion.size, answer)) {
      this.#fatal(`completion queue ${cq.id} is not in RAM`);
      return false;
    }
    cq.tail = (cq.tail + 1) % cq.entries;
    if (cq.tail === 0) cq.phase ^= 1;
    if (cq.vector >= 0) told.add(cq.vector);
    return true;
  }

  /** Tells the guest that namespaces have come or gone, once until it has looked which (5.2). */
  #notify(told: Set<number>): void {
    const { state } = this;
    const [sq] = state.sqs;
    const [cq] = state.cqs;
    if (state.told || state.changed.length === 0 || !(state.asyncEvents & NAMESPACE_NOTICES) || !sq || !cq) return;
    if ((cq.tail + 1) % cq.entries === cq.head) return;
    const id = state.asyncRequests.shift();
    if (id === undefined) return;
    state.told = true;
    this.#complete(sq, cq, id, { result: CHANGED_NAMESPACES.event }, told);
  }

  #fatal(message: string): void {
    this.#bus.note(message);
    this.state.csts |= CSTS.fatal;
  }

  #admin(c: Command): Outcome {
    const { state } = this;
    if (c.Flags & 0xc0) return SC.invalidField;
    const id = c.Dw10 & 0xffff;
    switch (c.Opcode) {
      case ADMIN.identify:
        return this.#identify(c);
      case ADMIN.getLogPage:
        return this.#logPage(c);
      case ADMIN.createCq:
        return this.#createCq(c, id);
      case ADMIN.createSq:
        return this.#createSq(c, id);
      case ADMIN.deleteCq:
        if (id === 0 || !state.cqs.some((q) => q.id === id)) return SC.queueId;
        if (state.sqs.some((q) => q.cq === id)) return SC.queueDeletion;
        state.cqs = state.cqs.filter((q) => q.id !== id);
        return SC.success;
      case ADMIN.deleteSq:
        if (id === 0 || !state.sqs.some((q) => q.id === id)) return SC.queueId;
        state.sqs = state.sqs.filter((q) => q.id !== id);
        return SC.success;
      case ADMIN.setFeatures:
      case ADMIN.getFeatures:
        return this.#feature(c);
      case ADMIN.asyncEventRequest:
        if (state.asyncRequests.length >= MAX_ASYNC) return SC.asyncLimit;
        state.asyncRequests.push(c.CommandId);
        return 'later';
      case ADMIN.abort:
        // Nothing is under way for long enough: bit 0 says that it was not aborted.
        return { result: 1 };
      default:
        return SC.invalidOpcode;
    }
  }

  #feature(c: Command): Outcome {
    const queues = (IO_QUEUES - 1) | ((IO_QUEUES - 1) << 16);
    const set = c.Opcode === ADMIN.setFeatures;
    switch (c.Dw10 & 0xff) {
      case FEATURE.queues:
        return { result: queues };
      case FEATURE.writeCache:
        return set ? SC.invalidField : { result: 1 };
      case FEATURE.asyncEvents:
        if (set) this.state.asyncEvents = c.Dw11;
        return { result: this.state.asyncEvents };
      case FEATURE.temperature:
        return { result: 0 };
      default:
        return SC.invalidField;
    }
  }

  /** 5.3. */
  #createCq(c: Command, id: number): Outcome {
    const entries = (c.Dw10 >>> 16) + 1;
    const vector = c.Dw11 >>> 16;
    if (id === 0 || id > IO_QUEUES || this.state.cqs.some((q) => q.id === id)) return SC.queueId;
    if (entries < 2 || entries > MAX_ENTRIES) return SC.queueSize;
    if (!(c.Dw11 & 1)) return SC.invalidField;
    if (c.Dw11 & 2 && vector >= this.vectors) return SC.vector;
    if (c.Prp1 % BigInt(PAGE) !== 0n) return SC.invalidPrp;
    const base = Number(c.Prp1);
    this.state.cqs.push({ id, base, entries, head: 0, tail: 0, phase: 1, vector: c.Dw11 & 2 ? vector : -1 });
    return SC.success;
  }

  /** 5.4. */
  #createSq(c: Command, id: number): Outcome {
    const entries = (c.Dw10 >>> 16) + 1;
    const cq = c.Dw11 >>> 16;
    if (id === 0 || id > IO_QUEUES || this.state.sqs.some((q) => q.id === id)) return SC.queueId;
    if (cq === 0 || !this.state.cqs.some((q) => q.id === cq)) return SC.cqInvalid;
    if (entries < 2 || entries > MAX_ENTRIES) return SC.queueSize;
    if (!(c.Dw11 & 1)) return SC.invalidField;
    if (c.Prp1 % BigInt(PAGE) !== 0n) return SC.invalidPrp;
    this.state.sqs.push({ id, base: Number(c.Prp1), entries, head: 0, tail: 0, cq });
    return SC.success;
  }

  /** 5.11: namespace (CNS 0), controller (1), active namespaces (2). */
  #identify(c: Command): Outcome {
    const out = new Uint8Array(PAGE);
    const v = viewOf(out);
    const { namespaces } = this.state;
    const text = (at: number, length: number, s: string): void =>
      out.set(new TextEncoder().encode(s.padEnd(length).slice(0, length)), at);
    switch (c.Dw10 & 0xff) {
      case 0: {
        if (c.Nsid === 0 || c.Nsid > MAX_NAMESPACES) return SC.invalidNamespace;
        const ns = this.#namespace(c.Nsid);
        // Of one that is not active, zeroes (5.11).
        if (!ns) break;
        const { name, readOnly } = ns;
        const disk = this.#disk(c.Nsid);
        const blocks = BigInt(disk.size / disk.sectorSize);
        // NSFEAT: thin provisioning.
        v.setUint8(24, 1);
        for (const at of [0, 8, 16]) v.setBigUint64(at, blocks, true);
        // NSATTR: write protected.
        v.setUint8(99, readOnly ? 1 : 0);
        out.set(disk.id ?? idFromName(name), 104);
        v.setUint8(130, Math.log2(disk.sectorSize));
        break;
      }
      case 1:
        v.setUint16(0, this.ids.vendor, true);
        v.setUint16(2, this.ids.subsystemVendor, true);
        text(4, 20, 'HYPERSTEP0001');
        text(24, 40, 'Hyperstep NVMe Disk');
        text(64, 8, '1.0');
        v.setUint8(77, MDTS);
        v.setUint32(80, VERSION, true);
        v.setUint32(92, NAMESPACE_NOTICES, true);
        v.setUint8(258, MAX_ASYNC - 1);
        v.setUint8(259, MAX_ASYNC - 1);
        // Entry sizes as powers of two, least and most.
        v.setUint8(512, 0x66);
        v.setUint8(513, 0x44);
        v.setUint32(516, MAX_NAMESPACES, true);
        v.setUint16(520, ONCS, true);
        v.setUint8(525, 1);
        break;
      case 2:
        namespaces
          .map((_, n) => n + 1)
          .filter((id) => id > c.Nsid && this.#namespace(id))
          .forEach((id, n) => {
            v.setUint32(4 * n, id, true);
          });
        break;
      default:
        return SC.invalidField;
    }
    return this.#give(c, out);
  }

  /** 5.10: errors (none), health, firmware slots, changed namespaces. */
  #logPage(c: Command): Outcome {
    const length = (((c.Dw10 >>> 16) & 0xfff) + 1) * 4;
    const log = new Uint8Array(length);
    switch (c.Dw10 & 0xff) {
      case 1:
      case 3:
        break;
      case 2: {
        const health = new Uint8Array(512);
        // 300 K, all spare blocks left, of which a tenth would do.
        viewOf(health).setUint16(1, 300, true);
        health[3] = 100;
        health[4] = 10;
        log.set(health.subarray(0, length));
        break;
      }
      case CHANGED_NAMESPACES.page: {
        const { state } = this;
        const list = viewOf(log);
        state.changed.forEach((id, n) => {
          if (4 * n < length) list.setUint32(4 * n, id, true);
        });
        // Retain Asynchronous Event.
        if (c.Dw10 & 0x8000) break;
        Object.assign(state, { changed: [], told: false });
        break;
      }
      default:
        return SC.logPage;
    }
    return this.#give(c, log);
  }

  #io(c: Command): Outcome {
    if (c.Flags & 0xc0) return SC.invalidField;
    if (c.Opcode === NVM.flush && c.Nsid === 0xffff_ffff) return SC.success;
    const known = Object.values<number>(NVM).includes(c.Opcode);
    if (!known) return SC.invalidOpcode;
    if (c.Nsid === 0 || c.Nsid > MAX_NAMESPACES) return SC.invalidNamespace;
    const ns = this.#namespace(c.Nsid);
    // One that has gone is not active any more (6.1.4).
    if (!ns) return SC.invalidField;
    const disk = this.#disk(c.Nsid);
    switch (c.Opcode) {
      case NVM.flush:
        // What is written is written.
        return SC.success;
      case NVM.datasetManagement:
        return this.#datasetManagement(c, ns, disk);
      case NVM.writeZeroes: {
        const range = this.#range(c, disk);
        if (typeof range === 'number') return range;
        const fault = ns.readOnly ? SC.readOnly : this.#fault(ns, disk, 'write', range);
        if (fault !== undefined) return fault;
        ns.zeroed += range.length / disk.sectorSize;
        return new Medium(disk, ns.written).zero(range.offset, range.length) ? SC.success : SC.writeFault;
      }
      default:
        return this.#transfer(c, ns, disk);
    }
  }

  /** The blocks that a command names, in bytes; or why there are none such. */
  #range(c: Command, { sectorSize, size }: Disk): { offset: number; length: number } | number {
    const length = ((c.Dw12 & 0xffff) + 1) * sectorSize;
    const first = BigInt(c.Dw10) | (BigInt(c.Dw11) << 32n);
    const end = first * BigInt(sectorSize) + BigInt(length);
    return end > BigInt(size) ? SC.lbaOutOfRange : { offset: Number(end) - length, length };
  }

  /** The injected error that a command gets, if any; it is used up by that. */
  #fault(
    ns: Namespace,
    { sectorSize }: Disk,
    on: 'read' | 'write',
    range: { offset: number; length: number },
  ): number | undefined {
    const first = range.offset / sectorSize;
    const end = first + range.length / sectorSize;
    const hit = ns.faults.find((f) => (f.on === 'any' || f.on === on) && first <= f.last && end > f.first);
    if (!hit) return undefined;
    hit.count--;
    if (hit.count <= 0) ns.faults.splice(ns.faults.indexOf(hit), 1);
    return hit.status;
  }

  #transfer(c: Command, ns: Namespace, disk: Disk): Outcome {
    const range = this.#range(c, disk);
    if (((c.Dw12 & 0xffff) + 1) * disk.sectorSize > MAX_TRANSFER) return SC.invalidField;
    if (typeof range === 'number') return range;
    const medium = new Medium(disk, ns.written);
    if (c.Opcode === NVM.read) {
      ns.reads++;
      const fault = this.#fault(ns, disk, 'read', range);
      if (fault !== undefined) return fault;
      const data = medium.read(range.offset, range.length);
      return data ? this.#give(c, data) : SC.readError;
    }
    if (ns.readOnly) return SC.readOnly;
    const data = this.#take(c, range.length);
    if (typeof data === 'number') return data;
    ns.writes++;
    const fault = this.#fault(ns, disk, 'write', range);
    if (fault !== undefined) return fault;
    return medium.write(range.offset, data) ? SC.success : SC.writeFault;
  }

  /** 6.7: blocks that the guest has no use for are zero from then on, and of the rest nothing is made. */
  #datasetManagement(c: Command, ns: Namespace, disk: Disk): Outcome {
    const data = this.#take(c, ((c.Dw10 & 0xff) + 1) * DsmRange.size);
    if (typeof data === 'number') return data;
    if (!(c.Dw11 & DEALLOCATE)) return SC.success;
    if (ns.readOnly) return SC.readOnly;
    const blocks = BigInt(disk.size / disk.sectorSize);
    const ranges = Array.from({ length: data.length / DsmRange.size }, (_, n) => DsmRange.get(viewOf(data), n * DsmRange.size));
    if (ranges.some((r) => r.First + BigInt(r.Blocks) > blocks)) return SC.lbaOutOfRange;
    const medium = new Medium(disk, ns.written);
    let left = MAX_DEALLOCATED;
    for (const { First, Blocks } of ranges) {
      const range = { offset: Number(First) * disk.sectorSize, length: Blocks * disk.sectorSize };
      left -= range.length;
      if (left < 0) break;
      const fault = Blocks > 0 ? this.#fault(ns, disk, 'write', range) : undefined;
      if (fault !== undefined) return fault;
      ns.deallocated += Blocks;
      if (!medium.zero(range.offset, range.length)) return SC.writeFault;
    }
    return SC.success;
  }

  // --- memory -------------------------------------------------------------------------------------------------------------------

  #disk(nsid: number): Disk {
    const { name } = this.state.namespaces[nsid - 1];
    const disk = this.#disks.get(name);
    if (!disk) throw new Error(`NVMe disk "${name}" is in the state but not there`);
    return disk;
  }

  /** Gives data to the guest where the command's PRPs say. */
  #give(c: Command, data: Uint8Array): Outcome {
    const pieces = this.#prps(c, data.length);
    if (!pieces) return SC.invalidPrp;
    let at = 0;
    for (const [gpa, n] of pieces) {
      if (!this.#to(gpa, data.subarray(at, at + n))) return SC.dataTransferError;
      at += n;
    }
    return SC.success;
  }

  /** The data that a command brings, or what is wrong with its PRPs. */
  #take(c: Command, length: number): Uint8Array | number {
    const pieces = this.#prps(c, length);
    if (!pieces) return SC.invalidPrp;
    const data = new Uint8Array(length);
    let at = 0;
    for (const [gpa, n] of pieces) {
      const from = this.#from(gpa, n);
      if (!from) return SC.dataTransferError;
      data.set(from, at);
      at += n;
    }
    return data;
  }

  /** Physical pieces of `length` bytes (4.3). undefined: the entries make no sense. */
  #prps(c: Command, length: number): [gpa: number, bytes: number][] | undefined {
    const out: [number, number][] = [];
    const first = Number(c.Prp1);
    if (first % 4 !== 0) return undefined;
    let left = length;
    const add = (gpa: number): void => {
      const n = Math.min(left, PAGE - (gpa % PAGE));
      out.push([gpa, n]);
      left -= n;
    };
    add(first);
    if (left === 0) return out;
    let list = Number(c.Prp2);
    if (left <= PAGE) {
      if (list % PAGE !== 0) return undefined;
      add(list);
      return out;
    }
    if (list % 8 !== 0) return undefined;
    // Every step takes a page or goes to another list: lists of nothing but the way to the next one are not followed for ever.
    for (let steps = 0; left > 0; steps++) {
      const entry = steps < MAX_STEPS ? this.#from(list, 8) : undefined;
      if (!entry) return undefined;
      const gpa = Number(viewOf(entry).getBigUint64(0, true));
      if (gpa % PAGE !== 0) return undefined;
      if (list % PAGE === PAGE - 8 && left > PAGE) {
        list = gpa;
        continue;
      }
      add(gpa);
      list += 8;
    }
    return out;
  }

  #from(gpa: number, length: number): Uint8Array | undefined {
    const at = this.#ram.at(gpa, length);
    return at < 0 ? undefined : this.#ram.bytes.slice(at, at + length);
  }

  #to(gpa: number, data: Uint8Array): boolean {
    const at = this.#ram.at(gpa, data.length);
    if (at < 0) return false;
    this.#ram.write(at, data);
    return true;
  }

  inspect(): Tree {
    const { cc, csts, sqs, cqs, asyncRequests, namespaces } = this.state;
    return {
      enabled: (cc & CC_ENABLE) !== 0,
      ready: (csts & CSTS.ready) !== 0,
      fatal: (csts & CSTS.fatal) !== 0,
      submissionQueues: sqs.map(({ base, ...q }) => ({ ...q, base: `0x${base.toString(16)}` })),
      completionQueues: cqs.map(({ base, ...q }) => ({ ...q, base: `0x${base.toString(16)}` })),
      asyncRequests: asyncRequests.length,
      namespaces: namespaces.map(({ name, written, faults, ...ns }, n) => ({
        id: n + 1,
        name,
        format: this.#disks.get(name)?.format ?? 'not there',
        bytes: this.#disks.get(name)?.size ?? 0,
        ...ns,
        faults: faults.length,
        writtenBytes: Object.keys(written).length * BLOCK,
      })),
    };
  }
}
