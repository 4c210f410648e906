/**
 * The synthetic SCSI controller, the host's end of storvsc (reference hyperv-arm64.md §9.1): one target with up to 64 logical
 * units, which come and go. A request is answered a fixed virtual time after it came; what it does to disk and memory
 * happens then.
 */
import { FLAG, held, type Tree, uint } from '../../base/inspect.ts';
import { bytes, struct, u8, u16, u32, u64, type Value, viewOf } from '../../base/struct.ts';
import { ConfigError, type Disk, type DiskConfig } from '../../config.ts';
import type { DiskError, DiskErrorOptions } from '../../index.ts';
import type { Device, DeviceChannel, DeviceEnvironment } from '../device.ts';
import { gather, gpaDirectRanges, rangesLength, scatter, trimmed } from '../gpa-direct.ts';
import type { GpaRange } from '../gpadl.ts';
import { PACKET } from '../protocol.ts';
import type { Packet } from '../ring.ts';
import { isSense, type Outcome } from './scsi/command.ts';
import { commandName, execute, INQUIRY, NEVER_FAIL, REPORT_LUNS } from './scsi/commands.ts';
import { MAX_TRANSFER, standardInquiry } from './scsi/inquiry.ts';
import { BLOCK, Medium } from './scsi/medium.ts';
import { fixedSense, SCSI_STATUS, SENSE } from './scsi/sense.ts';
import { DVD_SECTOR, type Fault, FAULTS, newUnit, Unit, type UnitState } from './scsi/unit.ts';

export const VstorHeader = struct('VstorHeader', { Operation: u32, Flags: u32, Status: u32 }, { size: 12 });
export const VstorSrb = struct(
  'VstorSrb',
  {
    Length: u16,
    SrbStatus: u8,
    ScsiStatus: u8,
    PortNumber: u8,
    PathId: u8,
    TargetId: u8,
    Lun: u8,
    CdbLength: u8,
    SenseInfoLength: u8,
    DataIn: u8,
    Reserved: u8,
    DataTransferLength: u32,
    /** The CDB; in a completion, sense data. */
    CdbOrSense: bytes(20),
    Reserved2: u16,
    QueueTag: u8,
    QueueAction: u8,
    SrbFlags: u32,
    TimeOutValue: u32,
    QueueSortKey: u32,
  },
  { size: 52 },
);
export const VstorVersion = struct('VstorVersion', { MajorMinor: u16, Revision: u16 }, { size: 4 });
export const VstorProperties = struct(
  'VstorProperties',
  { Reserved: u32, MaxChannelCount: u16, Reserved1: u16, Flags: u32, MaxTransferBytes: u32, Reserved2: u64 },
  { size: 24 },
);
/** All packets are as long as the largest. */
const PACKET_SIZE = VstorHeader.size + VstorSrb.size;
const BODY = VstorHeader.size;

export const OPERATION = {
  completeIo: 1,
  removeDevice: 2,
  executeSrb: 3,
  resetLun: 4,
  resetAdapter: 5,
  resetBus: 6,
  beginInitialization: 7,
  endInitialization: 8,
  queryProtocolVersion: 9,
  queryProperties: 10,
  enumerateBus: 11,
  createSubChannels: 13,
} as const;

/** Versions with packets of this shape: Windows 10, 8.1 and 8. */
const VERSIONS = [0x0602, 0x0600, 0x0501];
const MULTI_CHANNEL = 1;

const NT = {
  success: 0,
  invalidParameter: 0xc000_000d,
  invalidDeviceRequest: 0xc000_0010,
  revisionMismatch: 0xc000_0059,
  invalidDeviceState: 0xc000_0184,
} as const;

export const SRB = {
  success: 1,
  error: 4,
  invalidRequest: 6,
  busReset: 0x0e,
  dataOverrun: 0x12,
  invalidLun: 0x20,
  invalidTarget: 0x21,
  autosenseValid: 0x80,
} as const;
const DIRECTION = { write: 0, read: 1, none: 2 } as const;

export const MAX_LUNS = 64;
/** More than a guest needs; what Linux uses is one for each VP but the first. */
const MAX_SUB_CHANNELS = 16;
/** Requests under way at once. A Linux ring holds some 1500. */
const MAX_REQUESTS = 4096;
/** Page numbers that they may hold all together, a range counted as four: a Linux request has one range of 64 pages at most. */
const MAX_WEIGHT = 1 << 20;
const weight = (ranges: readonly GpaRange[]): number => ranges.reduce((n, r) => n + 4 + r.pfns.length, 0);
/** What is refused outright; the guest has been told `MAX_TRANSFER`. */
const MAX_BUFFER = 8 << 20;
const DEFAULT_LATENCY_NS = 100_000;
const ALARM = 'vmbus/scsi';

type Srb = Value<typeof VstorSrb>;

interface PendingRequest {
  due: number;
  /** Index of the channel it came by. */
  channel: number;
  transactionId: bigint;
  srb: Srb;
  ranges: GpaRange[];
}

interface ScsiState {
  /** What the guest has said so far. */
  phase: 'closed' | 'initializing' | 'ready';
  version: number;
  /** In the order in which they are due. */
  requests: PendingRequest[];
  units: UnitState[];
}

export class Scsi implements Device {
  readonly name = 'scsi';
  readonly offer = {
    interfaceType: 'ba6163d9-04a1-4d29-b605-72e2ffb1dc7f',
    instance: 'f8b3781a-1e82-4818-a1c3-63d806ec15bb',
    pipe: false,
    monitorLatency: 100_000,
  };
  readonly subChannels: number;
  readonly state: ScsiState = { phase: 'closed', version: 0, requests: [], units: [] };
  readonly #channel: DeviceChannel;
  readonly #environment: DeviceEnvironment;
  /** The disks of units by name, those too that are not attached now: a snapshot may bring them back. */
  readonly #disks = new Map<string, Disk>();

  constructor(channel: DeviceChannel, environment: DeviceEnvironment) {
    this.#channel = channel;
    this.#environment = environment;
    this.subChannels = Math.min(environment.vpCount - 1, MAX_SUB_CHANNELS);
    environment.clock.on(ALARM, () => this.#complete());
  }

  get absent(): boolean {
    return this.state.units.length === 0;
  }

  // --- the host's side --------------------------------------------------------------------------------------------------------

  /** Attaches a disk at the first free LUN; its number. One of this name that was there before still has what was written. */
  attach(config: DiskConfig): number {
    const { name, disk } = config;
    const sector = config.dvd ? DVD_SECTOR : disk.sectorSize;
    if (this.#attached(name)) throw new ConfigError(`disk "${name}": there is one of that name`);
    if (disk.size < sector || disk.size % sector !== 0)
      throw new ConfigError(`disk "${name}": ${disk.size} bytes are not whole sectors of ${sector}`);
    if (disk.sectorSize > sector || BLOCK % disk.physicalSectorSize !== 0 || disk.physicalSectorSize < disk.sectorSize)
      throw new ConfigError(
        `disk "${name}": sectors of ${disk.sectorSize} and ${disk.physicalSectorSize} bytes do not go together`,
      );
    const latency = config.latency ?? DEFAULT_LATENCY_NS;
    if (!Number.isInteger(latency) || latency < 0)
      throw new ConfigError(`disk "${name}": latency must be a number of ns, not ${latency}`);
    const used = new Set(this.state.units.map((u) => u.lun));
    const lun = Array.from({ length: MAX_LUNS }, (_, n) => n).find((n) => !used.has(n));
    if (lun === undefined) throw new ConfigError(`disk "${name}": the controller has ${MAX_LUNS} disks already`);
    const wasAbsent = this.absent;
    const before = this.state.units.findIndex((u) => u.name === name);
    const { written } = before < 0 ? newUnit(name) : this.state.units.splice(before, 1)[0];
    const medium = new Medium(disk, written);
    for (const [offset, data] of config.written ?? [])
      if (!medium.write(offset, data)) throw new ConfigError(`disk "${name}": its image cannot be read at ${offset}`);
    const state = { ...newUnit(name), lun, written, readOnly: config.readOnly ?? false, dvd: config.dvd ?? false, latency };
    this.#disks.set(name, disk);
    this.state.units.push(state);
    if (wasAbsent) this.#channel.offerNow();
    else this.#busChanged();
    return lun;
  }

  /** True when a disk of that name is there, or was. */
  has(name: string): boolean {
    return this.#disks.has(name);
  }

  /** Takes a disk away. False: there is none of that name. */
  detach(name: string): boolean {
    const state = this.#attached(name);
    if (!state) return false;
    Object.assign(state, { ...newUnit(name), written: state.written });
    this.#busChanged();
    return true;
  }

  /** The next `count` commands of a disk that read or write, on blocks `first` to `last` if given, end in this error. */
  inject(name: string, error: DiskError, options: DiskErrorOptions = {}): boolean {
    const state = this.#attached(name);
    if (!state) return false;
    const { first = 0, last = Number.MAX_SAFE_INTEGER, count = 1 } = options;
    const made: Fault = { on: FAULTS[error].on, sense: { ...FAULTS[error].sense }, first, last, count };
    state.faults.push(made);
    return true;
  }

  /** What the guest has written to a disk: offsets and bytes, ascending. undefined: there never was one of that name. */
  *written(name: string): Iterable<[offset: number, data: Uint8Array]> {
    const state = this.state.units.find((u) => u.name === name);
    const size = this.#disks.get(name)?.size ?? 0;
    for (const key of Object.keys(state?.written ?? {})
      .map(Number)
      .sort((a, b) => a - b)) {
      const data = state?.written[key] as Uint8Array;
      yield [key * BLOCK, data.subarray(0, Math.min(BLOCK, size - key * BLOCK))];
    }
  }

  // --- the channel --------------------------------------------------------------------------------------------------------------

  // The guest speaks first, and may have done so already.
  onOpen(): void {}

  onClose(channel: DeviceChannel): void {
    const { state } = this;
    state.requests = state.requests.filter((r) => channel.index !== 0 && r.channel !== channel.index);
    if (channel.index !== 0) return;
    state.phase = 'closed';
    state.version = 0;
    this.#environment.clock.cancel(ALARM);
  }

  onPacket(packet: Packet, channel: DeviceChannel): void {
    const { payload } = packet;
    if (packet.type === PACKET.completion) return;
    if (payload.length < PACKET_SIZE) {
      channel.note(`packet of ${payload.length} bytes`);
      this.#answer(packet, channel, NT.invalidParameter);
      return;
    }
    const operation = viewOf(payload).getUint32(0, true);
    if (operation === OPERATION.executeSrb) this.#request(packet, channel);
    else if (channel.index !== 0) {
      channel.note(`operation ${operation} on a sub-channel`);
      this.#answer(packet, channel, NT.invalidDeviceRequest);
    } else this.#control(operation, packet, channel);
  }

  describe({ payload }: Packet): string {
    const view = viewOf(payload);
    const operation = payload.length >= 4 ? view.getUint32(0, true) : 0;
    if (operation === OPERATION.executeSrb && payload.length >= PACKET_SIZE) {
      const srb = VstorSrb.get(view, BODY);
      const blocks = blocksOf(srb.CdbOrSense);
      return `${commandName(srb.CdbOrSense[0])} LUN ${srb.Lun}${blocks}, ${srb.DataTransferLength} bytes`;
    }
    if (operation === OPERATION.completeIo && payload.length >= PACKET_SIZE) {
      const { SrbStatus, DataTransferLength, Lun, Length } = VstorSrb.get(view, BODY);
      const { Status } = VstorHeader.get(view, 0);
      if (Length === 0) return `answer, status 0x${Status.toString(16)}`;
      return `completeIo LUN ${Lun}: SRB status 0x${SrbStatus.toString(16)}, ${DataTransferLength} bytes`;
    }
    return Object.entries(OPERATION).find(([, n]) => n === operation)?.[0] ?? `operation ${operation}`;
  }

  inspect(): Tree {
    const { phase, version, requests, units } = this.state;
    const { now } = this.#environment.clock;
    return {
      phase,
      ...(version ? { version: `${version >> 8}.${version & 0xff}` } : {}),
      requests: requests.length,
      ...(requests.length === 0
        ? {}
        : {
            underWay: requests.map(({ due, channel, transactionId, srb }) => ({
              command: `${commandName(srb.CdbOrSense[0])} LUN ${srb.Lun}${blocksOf(srb.CdbOrSense)}`,
              bytes: srb.DataTransferLength,
              channel,
              transactionId,
              dueIn: due - now,
            })),
          }),
      units: Object.fromEntries(units.filter((u) => u.lun >= 0).map((u) => [`LUN ${u.lun}`, this.#inspectUnit(u)])),
    };
  }

  #inspectUnit(u: UnitState): Tree {
    const disk = this.#disks.get(u.name);
    return {
      name: u.name,
      type: u.dvd ? 'DVD' : 'disk',
      format: disk?.format ?? 'not there',
      bytes: disk?.size ?? 0,
      readOnly: held(u, 'readOnly', FLAG),
      latency: held(u, 'latency', uint(40)),
      reads: held(u, 'reads', uint(53)),
      writes: held(u, 'writes', uint(53)),
      writtenBytes: Object.keys(u.written).length * BLOCK,
      stopped: held(u, 'stopped', FLAG),
      ...(u.dvd ? { ejected: held(u, 'ejected', FLAG), locked: held(u, 'locked', FLAG) } : {}),
      attentions: u.attentions.length,
      faults: u.faults.length,
    };
  }

  // --- control ----------------------------------------------------------------------------------------------------------------

  #control(operation: number, packet: Packet, channel: DeviceChannel): void {
    const { state } = this;
    const body = viewOf(packet.payload.slice(BODY));
    switch (operation) {
      case OPERATION.beginInitialization:
        this.#drop(SRB.busReset);
        state.phase = 'initializing';
        this.#answer(packet, channel, NT.success);
        return;
      case OPERATION.queryProtocolVersion: {
        const { MajorMinor } = VstorVersion.get(body, 0);
        const known = VERSIONS.includes(MajorMinor);
        if (known) state.version = MajorMinor;
        this.#answer(packet, channel, known ? NT.success : NT.revisionMismatch);
        return;
      }
      case OPERATION.queryProperties: {
        const properties = VstorProperties.make({
          MaxChannelCount: this.subChannels,
          Flags: this.subChannels > 0 ? MULTI_CHANNEL : 0,
          MaxTransferBytes: MAX_TRANSFER,
        });
        this.#answer(packet, channel, NT.success, properties);
        return;
      }
      case OPERATION.endInitialization:
        if (state.phase === 'initializing' && state.version !== 0) state.phase = 'ready';
        this.#answer(packet, channel, state.phase === 'ready' ? NT.success : NT.invalidDeviceState);
        return;
      case OPERATION.createSubChannels: {
        const count = body.getUint16(0, true);
        const possible = state.phase === 'ready' && count <= this.subChannels;
        this.#answer(packet, channel, possible ? NT.success : NT.invalidParameter);
        if (possible) channel.offerSubChannels(count);
        return;
      }
      case OPERATION.resetLun:
      case OPERATION.resetAdapter:
      case OPERATION.resetBus:
        // Linux asks for a bus reset only, and means everything.
        this.#drop(SRB.busReset);
        for (const u of this.#units()) u.attend(SENSE.reset);
        this.#answer(packet, channel, NT.success);
        return;
      default:
        channel.note(`operation ${operation}`);
        this.#answer(packet, channel, NT.invalidDeviceRequest);
    }
  }

  /** Answers a control request: the same operation back as COMPLETE_IO, with a status. */
  #answer(
    packet: Packet,
    channel: DeviceChannel,
    status: number,
    body: Uint8Array = packet.payload.slice(BODY, PACKET_SIZE),
  ): void {
    if (!packet.completionRequested) return;
    const payload = new Uint8Array(PACKET_SIZE);
    VstorHeader.set(viewOf(payload), 0, { Operation: OPERATION.completeIo, Flags: 0, Status: status });
    payload.set(body, BODY);
    const what = `answer, status 0x${status.toString(16)}`;
    channel.send({ type: PACKET.completion, transactionId: packet.transactionId, payload, what });
  }

  /** Tells a guest that is ready to look at the bus again. */
  #busChanged(): void {
    if (this.state.phase !== 'ready') return;
    const payload = new Uint8Array(PACKET_SIZE);
    VstorHeader.set(viewOf(payload), 0, { Operation: OPERATION.enumerateBus, Flags: 0, Status: 0 });
    this.#channel.send({ transactionId: 0n, payload, what: 'enumerate bus' });
  }

  // --- requests ---------------------------------------------------------------------------------------------------------------

  #request(packet: Packet, channel: DeviceChannel): void {
    const { state } = this;
    const { ram, clock } = this.#environment;
    const srb = VstorSrb.get(viewOf(packet.payload), BODY);
    const request = { due: 0, channel: channel.index, transactionId: packet.transactionId, srb, ranges: [] as GpaRange[] };
    if (!packet.completionRequested) {
      channel.note(`${this.describe(packet)}: no completion is wanted, not executed`);
      return;
    }
    if (state.phase !== 'ready' || state.requests.length >= MAX_REQUESTS) {
      channel.note(`${this.describe(packet)}: ${state.phase === 'ready' ? 'too many requests' : 'not initialized'}`);
      this.#finish(request, { SrbStatus: SRB.invalidRequest, DataTransferLength: 0 });
      return;
    }
    const ranges = packet.type === PACKET.gpaDirect ? gpaDirectRanges(packet.ranges, ram) : [];
    const length = srb.DataIn === DIRECTION.none ? 0 : srb.DataTransferLength;
    if (!ranges || length > Math.min(rangesLength(ranges), MAX_BUFFER)) {
      channel.note(`${this.describe(packet)}: its buffer makes no sense or is not RAM`);
      this.#finish(request, { SrbStatus: SRB.invalidRequest, DataTransferLength: 0 });
      return;
    }
    request.ranges = trimmed(ranges, length);
    if (state.requests.reduce((n, r) => n + weight(r.ranges), weight(request.ranges)) > MAX_WEIGHT) {
      channel.note(`${this.describe(packet)}: too many requests`);
      this.#finish(request, { SrbStatus: SRB.invalidRequest, DataTransferLength: 0 });
      return;
    }
    srb.DataTransferLength = length;
    request.due = clock.now + (this.#unit(srb)?.state.latency ?? DEFAULT_LATENCY_NS);
    let at = state.requests.length;
    while (at > 0 && state.requests[at - 1].due > request.due) at--;
    state.requests.splice(at, 0, request);
    clock.set(ALARM, state.requests[0].due);
  }

  /** Executes all requests that are due. */
  #complete(): void {
    const { state } = this;
    const { clock } = this.#environment;
    while (state.requests.length > 0 && state.requests[0].due <= clock.now) {
      const request = state.requests.shift() as PendingRequest;
      this.#finish(request, this.#execute(request));
    }
    if (state.requests.length > 0) clock.set(ALARM, state.requests[0].due);
  }

  /** Performs a request; what of its SRB becomes of it. */
  #execute({ srb, ranges }: PendingRequest): Partial<Srb> {
    const { ram } = this.#environment;
    const cdb = srb.CdbOrSense;
    const room = srb.DataIn === DIRECTION.read ? srb.DataTransferLength : 0;
    const give = (data: Uint8Array): Partial<Srb> => {
      const n = Math.min(data.length, room);
      scatter(ram, ranges, data.subarray(0, n));
      return { SrbStatus: SRB.success, ScsiStatus: SCSI_STATUS.good, DataTransferLength: n };
    };
    if (cdb[0] === REPORT_LUNS) return give(this.#reportLuns(srb).subarray(0, viewOf(cdb).getUint32(6)));
    const unit = this.#unit(srb);
    if (!unit) {
      if (cdb[0] === INQUIRY) return give(standardInquiry(undefined).subarray(0, viewOf(cdb).getUint16(3)));
      const here = srb.PathId === 0 && srb.TargetId === 0;
      return { SrbStatus: here ? SRB.invalidLun : SRB.invalidTarget, DataTransferLength: 0 };
    }
    const out = srb.DataIn === DIRECTION.write ? gather(ram, ranges, srb.DataTransferLength) : new Uint8Array(0);
    const outcome: Outcome = execute({ unit, cdb: viewOf(cdb), out, room }, srb.CdbLength);
    if (!isSense(outcome)) {
      const done = give(outcome.data ?? new Uint8Array(0));
      if (outcome.more) done.SrbStatus = SRB.dataOverrun;
      else if (srb.DataIn === DIRECTION.write) done.DataTransferLength = srb.DataTransferLength;
      return done;
    }
    // Linux reads the buffer of these whatever we say: it must not find there what was there before.
    if (NEVER_FAIL.includes(cdb[0])) give(new Uint8Array(room));
    const sense = fixedSense(outcome);
    return {
      SrbStatus: SRB.error | SRB.autosenseValid,
      ScsiStatus: SCSI_STATUS.checkCondition,
      SenseInfoLength: sense.length,
      CdbOrSense: sense,
      DataTransferLength: 0,
    };
  }

  #finish({ channel: index, transactionId, srb }: PendingRequest, result: Partial<Srb>): void {
    const { CdbOrSense, ...rest } = srb;
    const answer = { ...rest, CdbOrSense: new Uint8Array(20), SenseInfoLength: 0, ScsiStatus: 0, ...result };
    const payload = new Uint8Array(PACKET_SIZE);
    VstorHeader.set(viewOf(payload), 0, { Operation: OPERATION.completeIo, Flags: 0, Status: NT.success });
    VstorSrb.set(viewOf(payload), BODY, answer);
    const what = `${commandName(CdbOrSense[0])} LUN ${srb.Lun}: SRB status 0x${answer.SrbStatus.toString(16)}, ${answer.DataTransferLength} bytes`;
    this.#channel.sibling(index)?.send({ type: PACKET.completion, transactionId, payload, what });
  }

  /** Ends all requests under way. */
  #drop(SrbStatus: number): void {
    const { requests } = this.state;
    this.state.requests = [];
    this.#environment.clock.cancel(ALARM);
    for (const request of requests) this.#finish(request, { SrbStatus, DataTransferLength: 0 });
  }

  /** SPC-4 6.33: 8 bytes for each LUN, peripheral device addressing; LUN 0 is always there for questions like this one. */
  #reportLuns({ PathId, TargetId }: Srb): Uint8Array {
    const here = PathId === 0 && TargetId === 0;
    const luns = here
      ? this.state.units
          .filter((u) => u.lun >= 0)
          .map((u) => u.lun)
          .sort((a, b) => a - b)
      : [];
    const data = new Uint8Array(8 + 8 * luns.length);
    viewOf(data).setUint32(0, 8 * luns.length);
    luns.forEach((lun, n) => {
      data[8 + 8 * n + 1] = lun;
    });
    return data;
  }

  // --- units ------------------------------------------------------------------------------------------------------------------

  #attached(name: string): UnitState | undefined {
    return this.state.units.find((u) => u.name === name && u.lun >= 0);
  }

  #units(): Unit[] {
    return this.state.units.flatMap((u) => {
      const disk = this.#disks.get(u.name);
      return u.lun >= 0 && disk ? [new Unit(u, disk)] : [];
    });
  }

  #unit({ PathId, TargetId, Lun }: Srb): Unit | undefined {
    if (PathId !== 0 || TargetId !== 0) return undefined;
    const state = this.state.units.find((u) => u.lun === Lun);
    const disk = state && this.#disks.get(state.name);
    return state && disk ? new Unit(state, disk) : undefined;
  }
}

/** What a read or write is about (SBC-4 5.9 ff.: opcodes 08, 28, A8, 88 and their writes); empty for other commands. */
function blocksOf(cdb: Uint8Array): string {
  const view = viewOf(cdb);
  const [address, count] = ((): [number | bigint, number] | [undefined, 0] => {
    switch (cdb[0]) {
      case 0x08:
      case 0x0a:
        return [view.getUint32(0) & 0x1f_ffff, cdb[4] || 256];
      case 0x28:
      case 0x2a:
        return [view.getUint32(2), view.getUint16(7)];
      case 0xa8:
      case 0xaa:
        return [view.getUint32(2), view.getUint32(6)];
      case 0x88:
      case 0x8a:
        return [view.getBigUint64(2), view.getUint32(10)];
      default:
        return [undefined, 0];
    }
  })();
  return address === undefined ? '' : `, block ${address}, ${count} blocks`;
}
