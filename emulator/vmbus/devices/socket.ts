/**
 * Hyper-V sockets (reference hyperv-arm64.md §8.11, §9.12; Linux net/vmw_vsock/hyperv_transport.c): AF_VSOCK between programs of the
 * guest and the host. Each connection is a channel of its own, offered when there is one and rescinded when both sides have ended.
 * Behind the host's ports is the outside, or, with mode `internal`, an echo.
 */
import type { Tree } from '../../base/inspect.ts';
import { struct, u32, viewOf } from '../../base/struct.ts';
import type { SocketsConfig } from '../../config.ts';
import type { SocketEvent, SocketRequest } from '../../network/sockets.ts';
import type { Device, DeviceChannel, DeviceEnvironment, Offer } from '../device.ts';
import { NT_CONNECTION_REFUSED, NT_INSUFFICIENT_RESOURCES, NT_INVALID_PARAMETER, PACKET } from '../protocol.ts';
import { NO_RANGES, type Packet } from '../ring.ts';

/** vmpipe_proto_header: what stands before the bytes of every packet. A packet without bytes ends a direction. */
export const PipeHeader = struct('PipeHeader', { PacketType: u32, DataSize: u32 }, { size: 8 });
const PIPE_DATA = 1;

/** Service GUIDs of AF_VSOCK ports: the port is the first group. */
const SERVICE_REST = '-facb-11e6-bd58-64006a7986d3';
export const serviceOf = (port: number): string => `${port.toString(16).padStart(8, '0')}${SERVICE_REST}`;
const portOf = (guid: string): number => Number.parseInt(guid.slice(0, 8), 16);
const isService = (guid: string): boolean => guid.endsWith(SERVICE_REST);

/** Connections at a time. */
export const CONNECTIONS = 64;
/** Bytes of a packet to the guest: the smallest ring (6 pages) holds several. Linux takes 16 KiB. */
const CHUNK = 4096;
/** Bytes that wait in one piece with those before them. */
const SMALL = 1024;
/** Bytes that may wait on their way to the guest, and to the outside. */
const WINDOW = 65_536;
/** The same for the echo: who writes without reading (socat writes 8 KiB and waits) is stuck when it is full. */
const ECHO_WINDOW = 1 << 20;
/** A guest with nobody who listens does not open the channel: it is taken back after this long. Real hosts wait 30 s. */
const ACCEPT_NS = 5_000_000_000;
/** The first port that a connection from outside seems to come from. */
const FIRST_PORT = 0x8000_0000;
const LAST_PORT = 0xffff_fffe;
/** The port of the internal echo, as in Internet protocols. */
const ECHO = 7;

const alarmOf = (index: number): string => `socket/${index}`;

interface Connection {
  /** Of its channel. */
  index: number;
  /** Names it to the outside. 0: nobody there, its other end is the echo. */
  id: number;
  /** asked: the outside has not answered; offered: the guest has not opened the channel; gone: it has not let go of it. */
  phase: 'asked' | 'offered' | 'open' | 'gone';
  fromHost: boolean;
  /** The host's and the guest's port. */
  hostPort: number;
  guestPort: number;
  /** Bytes for the guest that are not in its ring: pieces, and where the first one begins. */
  waiting: Uint8Array[];
  at: number;
  /** How many these are, and how many more the outside may send. */
  queued: number;
  credit: number;
  /** Bytes that the outside has been given and not written. */
  unwritten: number;
  /** Nothing more comes for the guest after what waits; that it has been told; that it has told us so. */
  ended: boolean;
  finSent: boolean;
  finReceived: boolean;
  bytesToGuest: number;
  bytesFromGuest: number;
}

interface State {
  connections: Connection[];
  nextId: number;
  nextPort: number;
  refused: number;
}

export class Sockets implements Device {
  readonly name = 'socket';
  /** No guest sees this one: it stands for the channels of connections. */
  readonly offer: Offer = { interfaceType: serviceOf(0), instance: serviceOf(0), pipe: false };
  readonly absent = true;
  readonly connections: number;
  readonly state: State = { connections: [], nextId: 1, nextPort: FIRST_PORT, refused: 0 };
  readonly #channel: DeviceChannel;
  readonly #environment: DeviceEnvironment;
  readonly #config: SocketsConfig | undefined;

  constructor(channel: DeviceChannel, environment: DeviceEnvironment) {
    this.#channel = channel;
    this.#environment = environment;
    this.#config = environment.sockets;
    this.connections = this.#config ? CONNECTIONS : 0;
    for (let index = 1; index <= this.connections; index++)
      environment.clock.on(alarmOf(index), () => {
        const c = this.#at(index);
        if (c?.phase !== 'offered') return;
        this.#note(c, 'the guest has not taken the connection');
        this.#drop(c);
      });
  }

  /** A connection's offer: service and other end by GUIDs, and who began. */
  offerOf(index: number): Offer {
    const c = this.#at(index);
    if (!c) return this.offer;
    const [service, end] = c.fromHost ? [c.guestPort, c.hostPort] : [c.hostPort, c.guestPort];
    return { interfaceType: serviceOf(service), instance: serviceOf(end), pipe: true, socket: { fromHost: c.fromHost } };
  }

  /**
   * A program of the guest wants to connect: TL_CONNECT_REQUEST. The guest gets an offer now or later, or the answer that it is
   * refused.
   */
  connect(endpoint: string, service: string): void {
    const { connections } = this.state;
    const same = (c: Connection) => !c.fromHost && c.hostPort === portOf(service) && c.guestPort === portOf(endpoint);
    const refusal =
      !this.#config || !isService(service)
        ? NT_CONNECTION_REFUSED
        : !isService(endpoint) || connections.some(same)
          ? NT_INVALID_PARAMETER
          : 0;
    const index = refusal === 0 ? this.#free() : undefined;
    if (refusal !== 0 || index === undefined) {
      this.#refuse(endpoint, service, refusal || NT_INSUFFICIENT_RESOURCES);
      return;
    }
    const port = portOf(service);
    if (this.#config?.mode === 'internal') {
      if (port === ECHO) this.#offer(this.#add(index, 0, false, port, portOf(endpoint)));
      else this.#refuse(endpoint, service, NT_CONNECTION_REFUSED);
      return;
    }
    const c = this.#add(index, this.state.nextId++, false, port, portOf(endpoint));
    this.#environment.askSockets({ kind: 'connect', id: c.id, port });
  }

  /** Something has happened outside. What makes no sense for the connection is left alone: it may have crossed its end. */
  event(event: SocketEvent): void {
    if (event.kind === 'restarted') {
      for (const c of [...this.state.connections]) if (c.id !== 0) this.#drop(c);
      return;
    }
    const c = this.state.connections.find((c) => c.id === event.id && c.phase !== 'gone');
    if (event.kind === 'connect') {
      this.#connectGuest(event.id, event.port, c);
      return;
    }
    if (!c || event.id === 0) {
      // Whoever does not know yet that there is no such connection learns it.
      if (event.kind === 'connected' || event.kind === 'data') this.#ask({ kind: 'abort', id: event.id });
      return;
    }
    switch (event.kind) {
      case 'connected':
        if (c.phase === 'asked') this.#offer(c);
        return;
      case 'refused':
        if (c.phase !== 'asked') return;
        this.#refuse(serviceOf(c.guestPort), serviceOf(c.hostPort), NT_CONNECTION_REFUSED);
        this.#drop(c);
        return;
      case 'data':
        c.credit = Math.max(0, c.credit - event.data.length);
        this.#toGuest(c, event.data);
        return;
      case 'written':
        c.unwritten = Math.max(0, c.unwritten - event.bytes);
        this.#channelOf(c)?.resume();
        this.#push(c);
        return;
      case 'end':
        c.ended = true;
        this.#push(c);
        return;
      case 'reset':
        this.#drop(c);
    }
  }

  onOpen(channel: DeviceChannel): void {
    const c = this.#at(channel.index);
    if (c?.phase !== 'offered') return;
    this.#environment.clock.cancel(alarmOf(c.index));
    c.phase = 'open';
    if (c.fromHost) this.#ask({ kind: 'accepted', id: c.id });
    this.#giveCredit(c);
    this.#push(c);
  }

  accepts(channel: DeviceChannel): boolean {
    const c = this.#at(channel.index);
    if (!c) return true;
    return c.id === 0 ? c.queued < ECHO_WINDOW : c.unwritten < WINDOW;
  }

  onPacket(packet: Packet, channel: DeviceChannel): void {
    const c = this.#at(channel.index);
    if (!c || c.phase === 'gone') return;
    const { payload } = packet;
    const wrong = packet.type !== PACKET.inBand || payload.length < PipeHeader.size;
    const header = wrong ? undefined : PipeHeader.get(viewOf(payload), 0);
    if (!header || header.PacketType !== PIPE_DATA || header.DataSize > payload.length - PipeHeader.size) {
      this.#note(c, `a packet of ${payload.length} bytes that is no pipe data: the connection is broken off`);
      this.#drop(c);
      return;
    }
    if (c.finReceived) {
      this.#note(c, `${header.DataSize} bytes after the end`);
      return;
    }
    if (header.DataSize === 0) {
      c.finReceived = true;
      if (c.id === 0) c.ended = true;
      else this.#ask({ kind: 'end', id: c.id });
      this.#push(c);
      return;
    }
    const data = payload.slice(PipeHeader.size, PipeHeader.size + header.DataSize);
    c.bytesFromGuest += data.length;
    if (c.id === 0) {
      this.#toGuest(c, data);
      return;
    }
    c.unwritten += data.length;
    this.#ask({ kind: 'write', id: c.id, data });
  }

  onRoom(channel: DeviceChannel): void {
    const c = this.#at(channel.index);
    if (c) this.#push(c);
  }

  onClose(channel: DeviceChannel): void {
    const c = this.#at(channel.index);
    if (c && c.phase !== 'gone') this.#drop(c);
  }

  onReleased(channel: DeviceChannel): void {
    this.state.connections = this.state.connections.filter((c) => c.index !== channel.index);
  }

  onDisconnect(): void {
    for (const c of [...this.state.connections]) if (c.phase !== 'gone') this.#drop(c);
    this.state.connections = [];
  }

  describe(packet: Packet): string {
    if (packet.payload.length < PipeHeader.size) return 'too short';
    const { DataSize } = PipeHeader.get(viewOf(packet.payload), 0);
    return DataSize === 0 ? 'end' : `${DataSize} bytes`;
  }

  inspect(): Tree {
    const { connections, refused } = this.state;
    return { mode: this.#config?.mode ?? 'none', connections: connections.map((c) => details(c)), refused };
  }

  inspectChannel(index: number): Tree {
    const c = this.#at(index);
    return c ? details(c) : {};
  }

  // --- what they share -----------------------------------------------------------------------------------------------------------

  #at(index: number): Connection | undefined {
    return this.state.connections.find((c) => c.index === index);
  }

  #channelOf(c: Connection): DeviceChannel | undefined {
    return this.#channel.sibling(c.index);
  }

  /** A channel that no connection has. */
  #free(): number | undefined {
    for (let index = 1; index <= this.connections; index++) if (!this.#at(index)) return index;
    return undefined;
  }

  #add(index: number, id: number, fromHost: boolean, hostPort: number, guestPort: number): Connection {
    const c: Connection = {
      index,
      id,
      phase: 'asked',
      fromHost,
      hostPort,
      guestPort,
      waiting: [],
      at: 0,
      queued: 0,
      credit: 0,
      unwritten: 0,
      ended: false,
      finSent: false,
      finReceived: false,
      bytesToGuest: 0,
      bytesFromGuest: 0,
    };
    this.state.connections.push(c);
    return c;
  }

  /** Somebody outside connects to a port of the guest. */
  #connectGuest(id: number, port: number, known: Connection | undefined): void {
    const index = known || !this.#channel.connected ? undefined : this.#free();
    const sane = Number.isInteger(id) && id < 0 && Number.isInteger(port) && port >= 0 && port <= 0xffff_ffff;
    if (index === undefined || !sane) {
      this.#ask({ kind: 'abort', id });
      return;
    }
    const { nextPort } = this.state;
    this.state.nextPort = nextPort === LAST_PORT ? FIRST_PORT : nextPort + 1;
    this.#offer(this.#add(index, id, true, nextPort, port));
  }

  #offer(c: Connection): void {
    const { clock } = this.#environment;
    c.phase = 'offered';
    clock.set(alarmOf(c.index), clock.now + ACCEPT_NS);
    this.#channelOf(c)?.offerNow();
  }

  #refuse(endpoint: string, service: string, status: number): void {
    this.state.refused++;
    this.#channel.answerConnect(endpoint, service, status);
  }

  #ask(request: SocketRequest): void {
    this.#environment.askSockets(request);
  }

  #toGuest(c: Connection, data: Uint8Array): void {
    if (c.ended || data.length === 0) return;
    // Small ones are put together: of pieces of a byte there would be as many as the guest likes.
    const last = c.waiting.at(-1);
    if (last && last.length + data.length <= SMALL) {
      const both = new Uint8Array(last.length + data.length);
      both.set(last);
      both.set(data, last.length);
      c.waiting[c.waiting.length - 1] = both;
    } else c.waiting.push(data);
    c.queued += data.length;
    this.#push(c);
  }

  /** Puts what waits into the guest's ring as far as it fits, then the end; when both sides have ended, so has the connection. */
  #push(c: Connection): void {
    const channel = this.#channelOf(c);
    if (c.phase !== 'open' || !channel) return;
    const before = c.queued;
    while (c.queued > 0) {
      const piece = c.waiting[0].subarray(c.at, c.at + CHUNK);
      if (!this.#put(channel, piece)) break;
      c.bytesToGuest += piece.length;
      c.queued -= piece.length;
      c.at += piece.length;
      if (c.at < c.waiting[0].length) continue;
      c.waiting.shift();
      c.at = 0;
    }
    if (c.queued < before && c.id === 0 && before >= ECHO_WINDOW) channel.resume();
    this.#giveCredit(c);
    if (c.ended && !c.finSent && c.queued === 0) c.finSent = this.#put(channel, NO_RANGES);
    if (c.finSent && c.finReceived && c.unwritten === 0) this.#drop(c);
  }

  #put(channel: DeviceChannel, data: Uint8Array): boolean {
    const payload = new Uint8Array(PipeHeader.size + data.length);
    PipeHeader.set(viewOf(payload), 0, { PacketType: PIPE_DATA, DataSize: data.length });
    payload.set(data, PipeHeader.size);
    return channel.sendIfRoom({ transactionId: 0n, payload, what: data.length === 0 ? 'end' : `${data.length} bytes` });
  }

  /** Tells the outside how much more it may send, when that is worth it. */
  #giveCredit(c: Connection): void {
    const more = WINDOW - c.queued - c.credit;
    if (c.id === 0 || c.ended || more < WINDOW / 4) return;
    c.credit += more;
    this.#ask({ kind: 'credit', id: c.id, bytes: more });
  }

  /** Ends a connection in whatever state it is. The guest keeps what is in its ring. */
  #drop(c: Connection): void {
    if (c.phase === 'gone') return;
    if (c.id !== 0) this.#ask({ kind: 'abort', id: c.id });
    this.#environment.clock.cancel(alarmOf(c.index));
    c.phase = 'gone';
    c.waiting = [];
    c.at = 0;
    c.queued = 0;
    // Before the guest had it, there is nothing that it has to let go of.
    if (!this.#channelOf(c)?.rescindNow()) this.state.connections = this.state.connections.filter((other) => other !== c);
  }

  #note(c: Connection, message: string): void {
    this.#channel.note(`${c.hostPort} (host) and ${c.guestPort} (guest): ${message}`);
  }
}

const details = (c: Connection): Tree => ({
  hostPort: c.hostPort,
  guestPort: c.guestPort,
  from: c.fromHost ? 'host' : 'guest',
  phase: c.phase,
  bytesToGuest: c.bytesToGuest,
  bytesFromGuest: c.bytesFromGuest,
  waiting: c.queued,
  unwritten: c.unwritten,
  ended: c.finSent,
  endedByGuest: c.finReceived,
});
