/**
 * One channel: offer, open and close, rings and signals (reference hyperv-arm64.md §8.8 to §8.11). A channel belongs to one
 * device and keeps its relid for the machine's life.
 */
import { plainOf } from '../base/inspect.ts';
import type { HypervisorHost } from '../hyperv/host.ts';
import type { ChannelInfo, RingInfo } from '../index.ts';
import type { Device, DeviceChannel, Offer, OutgoingPacket } from './device.ts';
import { EVENT_CONNECTION_BASE, PACKET } from './protocol.ts';
import type { GpaRange } from './gpadl.ts';
import { NO_RANGES, Ring, SHOWN_PACKETS } from './ring.ts';

export interface ChannelState {
  /** closed while not offered; then offered, open, closed, rescinded. */
  state: 'unoffered' | 'offered' | 'open' | 'closed' | 'rescinded';
  openId: number;
  ringGpadl: number;
  /** Pages of both rings, and where the second begins. */
  pages: number[];
  downstream: number;
  targetVp: number;
  /** Packets that wait for room in the guest's ring. */
  outgoing: QueuedPacket[];
  /** A packet found no room, and nobody but the device keeps it. */
  wantsRoom: boolean;
  /** What is wrong with the rings; the channel is dead until it is opened again. */
  fault: string;
  signalsFromGuest: number;
  signalsToGuest: number;
  packetsFromGuest: number;
  packetsToGuest: number;
}

type QueuedPacket = Required<OutgoingPacket>;

/** A guest that lets this many packets wait has stopped reading. */
const MAX_QUEUED = 64;
/** The guest handles our OPEN_RESULT before it finds packets: it looks at event flags first (reference §6.5, §12, 36). */
const OPEN_DELAY_NS = 1_000_000;

export const newChannel = (): ChannelState => ({
  state: 'unoffered',
  openId: 0,
  ringGpadl: 0,
  pages: [],
  downstream: 0,
  targetVp: 0,
  outgoing: [],
  wantsRoom: false,
  fault: '',
  signalsFromGuest: 0,
  signalsToGuest: 0,
  packetsFromGuest: 0,
  packetsToGuest: 0,
});

/** What a channel needs of the bus around it. */
export interface ChannelBus {
  /** Sets the channel's event flag. */
  interrupt(vp: number, relid: number): boolean;
  sibling(channel: Channel, index: number): Channel | undefined;
  gpadl(channel: Channel, id: number): readonly GpaRange[] | undefined;
  offerSubChannels(primary: Channel, count: number): void;
  /** Offers a channel to a guest that has had its offers already. */
  offerNow(channel: Channel): void;
  rescindNow(channel: Channel): boolean;
  /** The guest has had its offers. */
  connected(): boolean;
  answerConnect(endpoint: string, service: string, status: number): void;
}

export class Channel implements DeviceChannel {
  readonly relid: number;
  readonly index: number;
  readonly state: ChannelState;
  readonly device: Device;
  readonly #host: HypervisorHost;
  readonly #bus: ChannelBus;

  /** A primary channel makes its device; sub-channel `index` belongs to one that is there. */
  constructor(host: HypervisorHost, bus: ChannelBus, relid: number, device: Device | ((channel: Channel) => Device), index = 0) {
    this.relid = relid;
    this.index = index;
    this.state = newChannel();
    this.#host = host;
    this.#bus = bus;
    this.device = typeof device === 'function' ? device(this) : device;
    host.clock.on(this.#alarm, () => this.device.onOpen(this));
  }

  get connectionId(): number {
    return EVENT_CONNECTION_BASE + this.relid;
  }

  /** Virtual time that a signal by monitor page may take, ns; 0: the device does not ask for one. */
  get latency(): number {
    return this.device.offer.monitorLatency ?? 0;
  }

  /** What the guest is told about it. */
  get terms(): Offer {
    return this.#connection ? (this.device.offerOf?.(this.index) ?? this.device.offer) : this.device.offer;
  }

  /** It is a connection of its own, no sub-channel. */
  get #connection(): boolean {
    return this.index > 0 && (this.device.connections ?? 0) > 0;
  }

  get open(): boolean {
    return this.state.state === 'open' && this.state.fault === '';
  }

  get busy(): boolean {
    return this.state.outgoing.length > 0;
  }

  /** The guest may open it now. */
  offer(): void {
    this.state.state = 'offered';
    this.#told('offered');
  }

  /** Attaches to rings that the guest has prepared: `pages` of one GPADL, the second ring from page `downstream` on. */
  attach(openId: number, ringGpadl: number, pages: readonly number[], downstream: number, targetVp: number): void {
    Object.assign(this.state, { ...newChannel(), state: 'open', openId, ringGpadl, pages: pages.slice(), downstream, targetVp });
    this.#told('open');
    this.#host.clock.set(this.#alarm, this.#host.clock.now + OPEN_DELAY_NS);
  }

  /** Lets go of the rings. Guest memory is not touched afterwards. */
  detach(next: 'closed' | 'rescinded' | 'unoffered'): void {
    const { state } = this;
    if (state.state === next) return;
    const wasOpen = state.state === 'open';
    state.state = next;
    state.pages = [];
    state.outgoing = [];
    state.wantsRoom = false;
    state.fault = '';
    this.#told(next);
    if (!wasOpen) return;
    this.#host.clock.cancel(this.#alarm);
    this.device.onClose(this);
  }

  /** The guest has signalled, by VP `vp` if that is known: look at both rings. */
  onSignal(how: string, vp?: number): void {
    const { state } = this;
    state.signalsFromGuest++;
    const { trace } = this.#host;
    if (trace.wants('signal'))
      trace.emit({ kind: 'signal', direction: 'guest-to-host', ...(vp === undefined ? {} : { vp }), flag: this.relid, how });
    if (!this.open) return;
    const { busy } = this;
    const { wantsRoom } = state;
    this.#flush();
    if (wantsRoom && this.open) {
      state.wantsRoom = false;
      this.toGuest.pendingSendSize = 0;
    }
    if ((busy || wantsRoom) && this.open && !this.busy) this.device.onRoom?.(this);
    // With answers waiting, requests wait too: the guest signals again when it has made room.
    if (this.open && state.outgoing.length === 0) this.#drain();
  }

  send(packet: OutgoingPacket): boolean {
    if (!this.open) return false;
    const { outgoing } = this.state;
    const blocked = outgoing.length > 0;
    // A completion answers a packet: how many there can be is the device's matter.
    if (outgoing.length >= MAX_QUEUED && packet.type !== PACKET.completion) {
      this.note(`the guest does not read: ${packet.what} dropped`);
      return false;
    }
    outgoing.push({ type: PACKET.inBand, completionRequested: false, ranges: NO_RANGES, ...packet });
    this.#flush();
    // Requests that had to wait behind the answers.
    if (blocked && this.open && outgoing.length === 0) this.#drain();
    return this.open;
  }

  sendIfRoom(packet: OutgoingPacket): boolean {
    if (!this.open || this.busy) return false;
    const ring = this.toGuest;
    const wrong = ring.fault;
    if (wrong) {
      this.#broken(wrong);
      return false;
    }
    const size = Ring.sizeOf(packet.payload, packet.ranges ?? NO_RANGES);
    if (size >= ring.free) {
      this.state.wantsRoom = true;
      ring.pendingSendSize = size;
      // Read meanwhile, before it could know that somebody waits.
      if (size >= ring.free) return false;
    }
    return this.send(packet);
  }

  resume(): void {
    if (this.open && !this.busy) this.#drain();
  }

  note(message: string): void {
    this.#host.trace.emit({ kind: 'guest', part: `vmbus ${this.device.name}`, message });
  }

  report(message: string, ok: boolean): void {
    this.#host.trace.emit({ kind: 'service', service: this.device.name, message, ok });
  }

  sibling(index: number): Channel | undefined {
    return this.#bus.sibling(this, index);
  }

  gpadl(id: number): readonly GpaRange[] | undefined {
    return this.#bus.gpadl(this, id);
  }

  offerSubChannels(count: number): void {
    this.#bus.offerSubChannels(this, count);
  }

  offerNow(): void {
    this.#bus.offerNow(this);
  }

  rescindNow(): boolean {
    return this.#bus.rescindNow(this);
  }

  get connected(): boolean {
    return this.#bus.connected();
  }

  answerConnect(endpoint: string, service: string, status: number): void {
    this.#bus.answerConnect(endpoint, service, status);
  }

  info(): ChannelInfo {
    const { state, device, terms } = this;
    const details = this.#connection ? device.inspectChannel?.(this.index) : undefined;
    const rings = this.open
      ? { outgoing: this.#ringInfo(this.toHost, 'guest'), incoming: this.#ringInfo(this.toGuest, 'host') }
      : {};
    return {
      relid: this.relid,
      index: this.index,
      device: device.name,
      interfaceType: terms.interfaceType,
      instance: terms.instance,
      state: state.fault === '' ? state.state : `${state.state}, broken: ${state.fault}`,
      targetVp: state.targetVp,
      connectionId: this.connectionId,
      ...(state.state === 'open' ? { ringGpadl: state.ringGpadl } : {}),
      signalsFromGuest: state.signalsFromGuest,
      signalsToGuest: state.signalsToGuest,
      packetsFromGuest: state.packetsFromGuest,
      packetsToGuest: state.packetsToGuest,
      queued: state.outgoing.map((p) => p.what),
      ...rings,
      details: plainOf(this.index === 0 ? device.inspect() : (details ?? { subChannel: this.index })),
    };
  }

  /** A ring for people. */
  #ringInfo(ring: Ring, from: 'guest' | 'host'): RingInfo {
    const { packets, wrong } = ring.waiting(SHOWN_PACKETS);
    return {
      used: ring.fault ? 0 : ring.used,
      size: ring.size,
      read: ring.readIndex,
      write: ring.writeIndex,
      interruptMask: ring.interruptMask,
      pendingSendSize: ring.pendingSendSize,
      packets: packets.map(({ at, bytes, packet }) => ({ at, bytes, what: this.device.describe(packet, from) })),
      ...(wrong ? { wrong } : {}),
    };
  }

  /** Sets the channel's event flag for the guest, whether or not it has anything to read. False: it is not open, or its SynIC does not take it. */
  interruptGuest(): boolean {
    if (this.state.state !== 'open') return false;
    this.state.signalsToGuest++;
    return this.#bus.interrupt(this.state.targetVp, this.relid);
  }

  get #alarm(): string {
    return `vmbus/open/${this.relid}`;
  }

  /** The rings, of a channel that is open. */
  get toHost(): Ring {
    return new Ring(this.#host.ram, this.state.pages, 0, this.state.downstream);
  }
  get toGuest(): Ring {
    return new Ring(this.#host.ram, this.state.pages, this.state.downstream, this.state.pages.length - this.state.downstream);
  }

  /** Hands the guest's packets to the device. */
  #drain(): void {
    const ring = this.toHost;
    const wrong = ring.fault;
    if (wrong) {
      this.#broken(wrong);
      return;
    }
    const before = ring.free;
    while (this.open && this.state.outgoing.length === 0 && this.device.accepts?.(this) !== false) {
      const packet = ring.take();
      if (packet === undefined) break;
      if (typeof packet === 'string') {
        this.#broken(packet);
        return;
      }
      this.state.packetsFromGuest++;
      if (this.#host.trace.wants('packet'))
        this.#packet('guest-to-host', this.device.describe(packet, 'guest'), packet.payload.length);
      this.device.onPacket(packet, this);
    }
    if (!this.open || ring.fault) return;
    const wanted = ring.pendingSendSize;
    if (wanted !== 0 && before <= wanted && ring.free > wanted) this.#signal();
  }

  /** Writes what waits into the guest's ring, as far as it fits. */
  #flush(): void {
    const { outgoing } = this.state;
    if (outgoing.length === 0) return;
    const ring = this.toGuest;
    const wrong = ring.fault;
    if (wrong) {
      this.#broken(wrong);
      return;
    }
    while (outgoing.length > 0) {
      const { type, transactionId, completionRequested, ranges, payload, what } = outgoing[0];
      const put = ring.put(type, transactionId, completionRequested, payload, ranges);
      if (put === 'full' && Ring.sizeOf(payload, ranges) >= ring.size) {
        this.note(`${what} does not fit into a ring of ${ring.size} bytes`);
        outgoing.shift();
        continue;
      }
      if (put === 'full') {
        ring.pendingSendSize = Ring.sizeOf(payload, ranges);
        return;
      }
      outgoing.shift();
      this.state.packetsToGuest++;
      this.#packet('host-to-guest', what, payload.length);
      if (put === 'signal') this.#signal();
    }
    if (ring.pendingSendSize !== 0) ring.pendingSendSize = 0;
  }

  #signal(): void {
    this.state.signalsToGuest++;
    this.#bus.interrupt(this.state.targetVp, this.relid);
  }

  #broken(fault: string): void {
    this.state.fault = fault;
    this.state.outgoing = [];
    this.#host.clock.cancel(this.#alarm);
    this.device.onClose(this);
    this.note(`broken ring: ${fault}`);
  }

  #told(what: string): void {
    if (this.#host.trace.wants('channel'))
      this.#host.trace.emit({ kind: 'channel', relid: this.relid, device: this.device.name, what });
  }

  #packet(direction: 'guest-to-host' | 'host-to-guest', what: string, bytes: number): void {
    if (this.#host.trace.wants('packet'))
      this.#host.trace.emit({ kind: 'packet', relid: this.relid, device: this.device.name, direction, what, bytes });
  }
}
