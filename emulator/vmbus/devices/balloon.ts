/**
 * Dynamic memory (reference hyperv-arm64.md §9.11): the guest gives pages back to the host (the balloon), gets them again, and
 * gets memory that it did not have at power-on (hot add). The guest speaks first; messages have no pipe header. All page
 * numbers are of 4 KiB.
 */
import type { Tree } from '../../base/inspect.ts';
import { array, struct, u16, u32, u64, viewOf } from '../../base/struct.ts';
import { ConfigError } from '../../config.ts';
import { PAGE } from '../../memory/ram.ts';
import type { Device, DeviceChannel, DeviceEnvironment } from '../device.ts';
import type { Packet } from '../ring.ts';
import type { MemoryService } from '../services.ts';
import { unanswered } from './ic.ts';

export const DmHeader = struct('DmHeader', { Type: u16, Size: u16, TransactionId: u32 }, { size: 8 });
export const DmVersionRequest = struct('DmVersionRequest', { Header: DmHeader, Version: u32, IsLastAttempt: u32 }, { size: 16 });
/** Version and capabilities are answered alike. */
export const DmAccepted = struct('DmAccepted', { Header: DmHeader, IsAccepted: u64 }, { size: 16 });
export const DmCapabilities = struct(
  'DmCapabilities',
  { Header: DmHeader, Caps: u64, MinPageCount: u64, MaxPageNumber: u64 },
  { size: 32 },
);
export const DmStatus = struct(
  'DmStatus',
  {
    Header: DmHeader,
    NumAvail: u64,
    NumCommitted: u64,
    PageFileSize: u64,
    ZeroFree: u64,
    PageFileWrites: u32,
    IoDiff: u32,
  },
  { size: 48 },
);
export const DmBalloon = struct('DmBalloon', { Header: DmHeader, NumPages: u32, Reserved: u32 }, { size: 16 });
/** Range qwords follow. Bit 0 of the second word is "more"; the count is above it. */
export const DmBalloonResponse = struct(
  'DmBalloonResponse',
  { Header: DmHeader, Reserved: u32, MoreAndCount: u32 },
  { size: 16 },
);
/** Range qwords follow. */
export const DmUnballoon = struct('DmUnballoonRequest', { Header: DmHeader, More: u32, RangeCount: u32 }, { size: 16 });
export const DmHotAdd = struct('DmHotAdd', { Header: DmHeader, Range: u64 }, { size: 16 });
export const DmHotAddResponse = struct('DmHotAddResponse', { Header: DmHeader, PageCount: u32, Result: u32 }, { size: 16 });
export const DmInfo = struct(
  'DmInfo',
  { Header: DmHeader, Reserved: u32, InfoSize: u32, Type: u32, DataSize: u32, MaxPageCount: u64 },
  { size: 32 },
);

const MESSAGE = {
  versionRequest: 1,
  versionResponse: 2,
  capabilitiesReport: 3,
  capabilitiesResponse: 4,
  statusReport: 5,
  balloonRequest: 6,
  balloonResponse: 7,
  unballoonRequest: 8,
  unballoonResponse: 9,
  hotAddRequest: 10,
  hotAddResponse: 11,
  info: 12,
} as const;
const NAMES = new Map<number, string>(Object.entries(MESSAGE).map(([name, type]) => [type, name]));

/** 0.3, 1.0 and 2.0, which Linux calls 1, 2 and 3. */
const VERSIONS = [0x0000_0003, 0x0001_0000, 0x0002_0000];
/** From this version on the guest takes `info`. */
const VERSION_1_0 = 0x0001_0000;

const CAP_BALLOON = 1n;
const CAP_HOT_ADD = 2n;

/** A guest that does not answer for so long will not: one that looks for pages to give answers with those it has found. */
const PATIENCE_NS = 300_000_000_000;
const ALARM = 'vmbus/balloon';

const MIB = 2 ** 20;
/** The guest balloons whole 2 MiB where it can. */
const GRAIN = (2 * MIB) / PAGE;
/** A message is at most a page. */
const MAX_RANGES = (4096 - DmUnballoon.size) / 8;
/** Messages of one unballoon transaction: no more than the guest's ring and the channel's queue hold. */
const MAX_MESSAGES = 16;
/** A range's page number has 40 bits, its count 24. */
const START_MASK = (1n << 40n) - 1n;
const rangeOf = (start: number, count: number): bigint => BigInt(start) | (BigInt(count) << 40n);
const MAX_COUNT = 2 ** 24 - 1;

interface BalloonState {
  /** closed until a version is agreed on, then version until the guest has told what it can. */
  phase: 'closed' | 'version' | 'ready';
  version: number;
  caps: bigint;
  transactionId: number;
  /** What is under way, pages asked for, and pages done so far. */
  operation: 'none' | 'balloon' | 'unballoon' | 'hot add';
  asked: number;
  done: number;
  /** Pages that the guest has given back: one bit each. Empty while there are none. */
  given: Uint8Array;
  givenCount: number;
  /** Pages added so far, above what the guest had at power-on; where the next add begins. */
  addedCount: number;
  nextAdd: number;
  /** The guest's last report, in pages; how many there were. */
  reports: number;
  available: number;
  committed: number;
}

const newState = (): BalloonState => ({
  phase: 'closed',
  version: 0,
  caps: 0n,
  transactionId: 0,
  operation: 'none',
  asked: 0,
  done: 0,
  given: new Uint8Array(0),
  givenCount: 0,
  addedCount: 0,
  nextAdd: 0,
  reports: 0,
  available: 0,
  committed: 0,
});

const mib = (pages: number): string => `${(pages * PAGE) / MIB} MiB`;

export class Balloon implements Device, MemoryService {
  readonly name = 'balloon';
  readonly offer = {
    interfaceType: '525074dc-8985-46e2-8057-a307dc18a502',
    instance: '1eccfd72-4b41-45ef-b73a-4a6e44c12924',
    pipe: false,
  };
  readonly state: BalloonState = newState();
  readonly #channel: DeviceChannel;
  readonly #clock: DeviceEnvironment['clock'];
  readonly #ram: DeviceEnvironment['ram'];
  /** Pages that the guest has at power-on, and that it can have at most. */
  readonly #installed: number;
  readonly #most: number;

  constructor(channel: DeviceChannel, { clock, ram }: DeviceEnvironment) {
    this.#channel = channel;
    this.#clock = clock;
    clock.on(ALARM, () => this.#late());
    this.#ram = ram;
    this.#installed = ram.installed / PAGE;
    this.#most = ram.size / PAGE;
  }

  // --- what the host asks ------------------------------------------------------------------------------------------------------

  setTarget(target: number): boolean {
    const { state } = this;
    const pages = (target * MIB) / PAGE;
    const all = this.#installed + state.addedCount;
    if (!Number.isInteger(pages / GRAIN) || pages < GRAIN || pages > all)
      throw new ConfigError(`memory of the guest must be 2 to ${(all * PAGE) / MIB} MiB in steps of 2, not ${target}`);
    if (state.phase !== 'ready' || state.operation !== 'none' || !(state.caps & CAP_BALLOON)) return false;
    const change = all - state.givenCount - pages;
    if (change === 0) this.#channel.report(`the guest has ${mib(pages)} already`, true);
    else if (change < 0) {
      this.#begin('unballoon', -change);
      this.#giveBack();
    } else {
      // What is left of a grain stays with the guest.
      const NumPages = Math.floor(change / GRAIN) * GRAIN;
      if (NumPages === 0) return true;
      this.#begin('balloon', NumPages);
      this.#send(MESSAGE.balloonRequest, DmBalloon.make({ NumPages }), `balloon ${mib(NumPages)}`);
    }
    return true;
  }

  hotAdd(size: number): boolean {
    const { state } = this;
    const pages = (size * MIB) / PAGE;
    const grain = this.#hotAddGrain;
    const start = Math.ceil(Math.max(this.#installed, state.nextAdd) / grain) * grain;
    if (!Number.isInteger(pages) || pages < 1 || pages > MAX_COUNT)
      throw new ConfigError(`memory to add must be a whole number of MiB, not ${size}`);
    if (start + pages > this.#most)
      throw new ConfigError(
        `${size} MiB cannot be added at ${mib(start)}: the machine has room for ${mib(this.#most)} (maxMemory) and the guest takes memory in steps of ${mib(grain)}`,
      );
    if (state.phase !== 'ready' || state.operation !== 'none' || !(state.caps & CAP_HOT_ADD)) return false;
    if (pages % grain) throw new ConfigError(`this guest takes memory in steps of ${mib(grain)}, not ${size} MiB`);
    this.#begin('hot add', pages);
    state.nextAdd = start;
    this.#send(MESSAGE.hotAddRequest, DmHotAdd.make({ Range: rangeOf(start, pages) }), `hot add ${mib(pages)} at ${mib(start)}`);
    return true;
  }

  /** Pages: what the guest says it must align hot-added memory to. */
  get #hotAddGrain(): number {
    return (2 ** Number((this.state.caps >> 2n) & 0xfn) * MIB) / PAGE;
  }

  // --- the channel -------------------------------------------------------------------------------------------------------------

  // The guest speaks first, and may have done so already.
  onOpen(): void {}
  onClose(): void {
    this.#clock.cancel(ALARM);
    Object.assign(this.state, newState());
  }

  describe({ payload }: Packet): string {
    return payload.length >= 2 ? (NAMES.get(payload[0] | (payload[1] << 8)) ?? 'unknown') : 'too short';
  }

  onPacket({ payload }: Packet): void {
    const wrong = this.#take(payload, viewOf(payload));
    if (wrong !== undefined) this.#channel.note(wrong);
  }

  /** Handles a message; what is wrong with it, if anything. */
  #take(payload: Uint8Array, view: DataView): string | undefined {
    const { state } = this;
    if (payload.length < DmHeader.size) return `message of ${payload.length} bytes`;
    const { Type, Size } = DmHeader.get(view, 0);
    if (Size < DmHeader.size || Size > payload.length) return `message of type ${Type} that says it has ${Size} bytes`;
    const least = LEAST.get(Type);
    if (least === undefined) return `message of type ${Type}`;
    if (Size < least) return `${NAMES.get(Type)} of ${Size} bytes`;
    const early = Type === MESSAGE.versionRequest || (Type === MESSAGE.capabilitiesReport && state.phase === 'version');
    if (!early && state.phase !== 'ready') return `${NAMES.get(Type)} while ${state.phase}`;
    switch (Type) {
      case MESSAGE.versionRequest:
        this.#version(DmVersionRequest.get(view, 0).Version);
        return undefined;
      case MESSAGE.capabilitiesReport:
        this.#capabilities(DmCapabilities.get(view, 0).Caps);
        return undefined;
      case MESSAGE.statusReport: {
        const { NumAvail, NumCommitted } = DmStatus.get(view, 0);
        state.reports++;
        state.available = Number(NumAvail);
        state.committed = Number(NumCommitted);
        return undefined;
      }
      case MESSAGE.balloonResponse:
        return this.#ballooned(view, Size);
      case MESSAGE.unballoonResponse:
        return this.#unballooned();
      default:
        return this.#added(DmHotAddResponse.get(view, 0));
    }
  }

  #version(version: number): void {
    const { state } = this;
    const accepted = VERSIONS.includes(version);
    const text = `${version >>> 16}.${version & 0xffff}`;
    // A guest that begins anew has its pages again.
    this.#clock.cancel(ALARM);
    Object.assign(state, newState(), { phase: accepted ? 'version' : 'closed', version: accepted ? version : 0 });
    if (!accepted) this.#channel.note(`version ${text} refused`);
    this.#send(
      MESSAGE.versionResponse,
      DmAccepted.make({ IsAccepted: accepted ? 1n : 0n }),
      `version ${text} ${accepted ? 'accepted' : 'refused'}`,
    );
  }

  #capabilities(caps: bigint): void {
    const { state } = this;
    Object.assign(state, { caps, phase: 'ready' });
    this.#send(MESSAGE.capabilitiesResponse, DmAccepted.make({ IsAccepted: 1n }), 'capabilities accepted');
    if (state.version < VERSION_1_0) return;
    const info = DmInfo.make({ InfoSize: 16, Type: 0, DataSize: 8, MaxPageCount: BigInt(this.#most) });
    this.#send(MESSAGE.info, info, `at most ${mib(this.#most)}`);
  }

  /** Pages that the guest gives back. They are nobody's now: zero, and no work for snapshots. */
  #ballooned(view: DataView, size: number): string | undefined {
    const { state } = this;
    if (state.operation !== 'balloon') return 'balloonResponse to no request';
    const { MoreAndCount } = DmBalloonResponse.get(view, 0);
    const count = MoreAndCount >>> 1;
    if (DmBalloonResponse.size + 8 * count > size) return `balloonResponse of ${count} ranges in ${size} bytes`;
    if (state.given.length === 0) state.given = new Uint8Array(Math.ceil(this.#most / 8));
    let wrong: string | undefined;
    for (let i = 0; i < count && wrong === undefined; i++)
      wrong = this.#give(view.getBigUint64(DmBalloonResponse.size + 8 * i, true));
    const more = (MoreAndCount & 1) !== 0;
    if (!more || wrong !== undefined) this.#end();
    else this.#expect();
    return wrong;
  }

  /** Takes one range of the guest's; what is wrong with it, if anything. */
  #give(range: bigint): string | undefined {
    const { state } = this;
    const start = Number(range & START_MASK);
    const count = Number(range >> 40n);
    if (count === 0 || start + count > this.#most) return `ballooned range of ${count} pages at page ${start}, which is not RAM`;
    if (count > state.asked - state.done) return `ballooned range of ${count} pages, more than asked for`;
    for (let page = start; page < start + count; page++)
      if (state.given[page >>> 3] & (1 << (page & 7))) return `page ${page} ballooned twice`;
    for (let page = start; page < start + count; page++) state.given[page >>> 3] |= 1 << (page & 7);
    this.#ram.discard(start * PAGE, count * PAGE);
    state.givenCount += count;
    state.done += count;
    return undefined;
  }

  #unballooned(): string | undefined {
    const { state } = this;
    if (state.operation !== 'unballoon') return 'unballoonResponse to no request';
    if (state.done < state.asked && state.givenCount > 0) {
      this.#giveBack();
      this.#expect();
    } else this.#end();
    return undefined;
  }

  /** Gives pages back to the guest, lowest first: as many as are asked for and fit into one transaction. */
  #giveBack(): void {
    const { state } = this;
    const ranges = this.#takeRanges(state.asked - state.done, MAX_RANGES * MAX_MESSAGES);
    for (let at = 0; at < ranges.length; at += MAX_RANGES) {
      const some = ranges.slice(at, at + MAX_RANGES);
      const list = array(some.length, u64);
      const message = new Uint8Array(DmUnballoon.size + list.size);
      const More = at + MAX_RANGES < ranges.length ? 1 : 0;
      DmUnballoon.set(viewOf(message), 0, { Header: DmHeader.zero(), More, RangeCount: some.length });
      list.set(viewOf(message), DmUnballoon.size, some);
      this.#send(MESSAGE.unballoonRequest, message, `unballoon ${some.length} ranges`);
    }
  }

  /** Takes up to `pages` pages in up to `most` ranges out of what the guest has given. */
  #takeRanges(pages: number, most: number): bigint[] {
    const { state } = this;
    const { given } = state;
    const ranges: bigint[] = [];
    const has = (page: number): boolean => (given[page >>> 3] & (1 << (page & 7))) !== 0;
    let left = Math.min(pages, state.givenCount);
    for (let page = 0; left > 0 && ranges.length < most && page < this.#most; page++) {
      if (given[page >>> 3] === 0) {
        page |= 7;
        continue;
      }
      const start = page;
      while (left > 0 && page < this.#most && page - start < MAX_COUNT && has(page)) {
        given[page >>> 3] &= ~(1 << (page & 7));
        left--;
        page++;
      }
      if (page === start) continue;
      ranges.push(rangeOf(start, page - start));
      state.givenCount -= page - start;
      state.done += page - start;
      page--;
    }
    if (state.givenCount === 0) state.given = new Uint8Array(0);
    return ranges;
  }

  #added({ PageCount, Result }: { PageCount: number; Result: number }): string | undefined {
    const { state } = this;
    if (state.operation !== 'hot add') return 'hotAddResponse to no request';
    const wrong = PageCount > state.asked ? `hotAddResponse of ${PageCount} pages, more than asked for` : undefined;
    state.done = Result === 1 ? Math.min(PageCount, state.asked) : 0;
    state.addedCount += state.done;
    // What the guest could not take now may be tried again.
    state.nextAdd += state.done;
    this.#end();
    return wrong;
  }

  // --- operations --------------------------------------------------------------------------------------------------------------

  #begin(operation: BalloonState['operation'], asked: number): void {
    Object.assign(this.state, { operation, asked, done: 0 });
    this.#expect();
  }

  /** The guest has so long from now on for its next answer. */
  #expect(): void {
    this.#clock.set(ALARM, this.#clock.now + PATIENCE_NS);
  }

  #late(): void {
    this.#end(unanswered(PATIENCE_NS));
  }

  #end(why = ''): void {
    const { state } = this;
    const { operation, asked, done } = state;
    this.#clock.cancel(ALARM);
    Object.assign(state, { operation: 'none', asked: 0, done: 0 });
    const part = done === asked ? mib(done) : `${mib(done)} of ${mib(asked)}`;
    const told = why === '' ? part : `${why}, ${part}`;
    this.#channel.report(`${operation}: ${told}; the guest has ${mib(this.#present)} now`, why === '' && done > 0);
  }

  get #present(): number {
    return this.#installed + this.state.addedCount - this.state.givenCount;
  }

  inspect(): Tree {
    const { state } = this;
    const { phase, version, caps, operation, asked, done, givenCount, addedCount, reports } = state;
    if (phase !== 'ready') return { phase };
    return {
      phase,
      version: `${version >>> 16}.${version & 0xffff}`,
      canBalloon: (caps & CAP_BALLOON) !== 0n,
      canHotAdd: (caps & CAP_HOT_ADD) !== 0n,
      hotAddAlignment: mib(this.#hotAddGrain),
      memory: mib(this.#present),
      ballooned: mib(givenCount),
      hotAdded: mib(addedCount),
      ...(operation === 'none' ? {} : { operation: `${operation} ${mib(asked)}, ${mib(done)} done` }),
      ...(reports > 0 ? { reports, available: mib(state.available), committed: mib(state.committed) } : {}),
    };
  }

  #send(type: number, message: Uint8Array, what: string): void {
    const { state } = this;
    state.transactionId = (state.transactionId + 1) >>> 0;
    DmHeader.set(viewOf(message), 0, { Type: type, Size: message.length, TransactionId: state.transactionId });
    this.#channel.send({ transactionId: BigInt(state.transactionId), payload: message, what });
  }
}

/** The shortest that each of the guest's messages can be. */
const LEAST = new Map<number, number>([
  [MESSAGE.versionRequest, DmVersionRequest.size],
  [MESSAGE.capabilitiesReport, DmCapabilities.size],
  [MESSAGE.statusReport, DmStatus.size],
  [MESSAGE.balloonResponse, DmBalloonResponse.size],
  [MESSAGE.unballoonResponse, DmHeader.size],
  [MESSAGE.hotAddResponse, DmHotAddResponse.size],
]);
