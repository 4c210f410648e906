/**
 * TCP as the gateway's end of connections that guests open (RFC 9293): retransmission (RFC 6298), congestion control with fast
 * retransmit and recovery (RFC 5681, RFC 6582), window scaling (RFC 7323), all in virtual time. It never opens connections
 * itself. What a connection is for is an application's matter.
 */
import { freeze } from '../base/frozen.ts';
import type { Clock } from '../base/clock.ts';
import { FLAG, type Tcp } from './packet.ts';

export type Phase =
  /** The guest's SYN is here; the application has not said yet whether there is anybody. */
  'asked' | 'syn-received' | 'established' | 'fin-wait-1' | 'fin-wait-2' | 'closing' | 'time-wait' | 'close-wait' | 'last-ack';

/** Which connection a segment belongs to; the guest is remote. */
export interface TcpEnds {
  /** VLAN id, 0 for none. */
  vlan: number;
  local: number;
  localPort: number;
  remote: number;
  remotePort: number;
}

/** One connection; plain. Sequence numbers are modulo 2^32. */
export interface TcpConnection extends TcpEnds {
  id: number;
  phase: Phase;
  /** Name of the application, and what it remembers. */
  application: string;
  app: Record<string, unknown>;
  // --- sending
  /** Oldest sequence number not acknowledged, next to send, and one after the last ever sent. */
  una: number;
  next: number;
  highest: number;
  /** What the guest takes from `una` on, in bytes; the segment that said so (RFC 9293 3.10.7.4), and the shift of its windows. */
  window: number;
  windowSequence: number;
  windowAcknowledgment: number;
  scale: number;
  mss: number;
  /** Bytes from `una` on that are to be sent or were; the first piece begins `head` bytes before them. */
  queue: Uint8Array[];
  head: number;
  queued: number;
  /** Sequence number of our FIN once there is nothing more to send after the queue; -1: not yet. */
  fin: number;
  congestion: number;
  threshold: number;
  duplicates: number;
  /** While recovering from a loss: everything before this was sent when it was noticed; -1: not. */
  recover: number;
  // --- timing, all in ns of virtual time
  rto: number;
  /** Smoothed round trip and its variation; 0: never measured. */
  srtt: number;
  variation: number;
  /** Sequence number whose acknowledgment ends the measurement under way, and when it began; -1: none. */
  timed: number;
  timedAt: number;
  /** When to send again, or to be gone in `time-wait`; 0: never. */
  due: number;
  tries: number;
  // --- receiving
  /** Next sequence number expected. */
  expected: number;
  /** Bytes that the application has not released; and the right edge of the window as the guest was told last. */
  held: number;
  edge: number;
  /** The guest understands scaled windows: ours are. */
  scaled: boolean;
  /** Pieces that came before their time, ascending. */
  early: { sequence: number; data: Uint8Array }[];
  /** Sequence number of the guest's FIN, when it came before its time; -1: not known. */
  earlyFin: number;
  acknowledge: boolean;
  /** The guest's last sign of life. */
  heard: number;
}

/** What a connection is for. Called between segments; `tcp` may be told anything about `c` then. */
export interface TcpApplication {
  /** A guest wants to connect: `accept` or `refuse`, now or later. */
  asked(tcp: TcpStack, c: TcpConnection): void;
  /** Bytes from the guest, in order; their room is free again when they are released. */
  data(tcp: TcpStack, c: TcpConnection, data: Uint8Array): void;
  /** The guest has acknowledged some of what was sent. */
  room?(tcp: TcpStack, c: TcpConnection): void;
  /** The guest will send no more. */
  ended(tcp: TcpStack, c: TcpConnection): void;
  /** There is no such connection any more. */
  gone?(tcp: TcpStack, c: TcpConnection): void;
}

export interface TcpState {
  connections: TcpConnection[];
  nextId: number;
  retransmissions: number;
  resets: number;
}

export const newTcp = (): TcpState => ({ connections: [], nextId: 1, retransmissions: 0, resets: 0 });

/** What the stack needs of the gateway around it. */
export interface TcpHost {
  readonly clock: Clock;
  /** The largest IP datagram of this link. */
  mtu(): number;
  send(ends: TcpEnds, segment: Tcp): void;
  /** Does what an alarm is for, then `flush`. */
  together(work: () => void): void;
  application(name: string): TcpApplication;
}

const ALARM = 'network/tcp';
const MS = 1_000_000;
/** RFC 6298 2.1 to 2.4; a link this short may retransmit earlier than after a second. */
const FIRST_RTO = 1000 * MS;
const LEAST_RTO = 200 * MS;
const MOST_RTO = 60_000 * MS;
/** Twice a maximum segment lifetime that is meant for this link alone. */
const TIME_WAIT = 1000 * MS;
/** A guest that is silent for so many retransmissions is gone. */
const MAX_TRIES = 10;
const MAX_CONNECTIONS = 1024;
/** Pieces that wait for what comes before them: those of a window that are worth keeping. */
const MAX_EARLY = 512;
/** Bytes that are queued in one piece with those before them. */
const SMALL = 1024;
/** Bytes that the guest may send ahead of the application, and what an application should have queued at most. */
export const RECEIVE_BUFFER = 256 * 1024;
export const SEND_BUFFER = 256 * 1024;
const SCALE = 3;
/** RFC 7323 2.3. */
const MAX_SCALE = 14;
/** RFC 9293 3.7.1: without the option. And the least that makes sense, whatever the guest says. */
const DEFAULT_MSS = 536;
const LEAST_MSS = 64;
const IP_AND_TCP = 40;

/** a - b of sequence numbers: negative when a comes before b. */
const diff = (a: number, b: number): number => (a - b) | 0;
const plus = (a: number, n: number): number => (a + n) >>> 0;

export class TcpStack {
  readonly state: TcpState;
  readonly #host: TcpHost;
  /** Connections that may have something to send when the present events are over. */
  readonly #touched = new Set<TcpConnection>();

  constructor(host: TcpHost, state: TcpState) {
    this.#host = host;
    this.state = state;
    host.clock.on(ALARM, () => this.#tick());
  }

  // --- for applications -------------------------------------------------------------------------------------------------------

  /** There is somebody: the connection comes to be. */
  accept(c: TcpConnection): void {
    if (c.phase !== 'asked') return;
    c.phase = 'syn-received';
    this.#synchronize(c);
    c.next = c.highest = plus(c.una, 1);
    this.#arm(c);
  }

  /** There is nobody, or the connection must not be. */
  refuse(c: TcpConnection): void {
    if (!this.state.connections.includes(c)) return;
    this.state.resets++;
    if (c.phase === 'asked') this.#segment(c, { sequence: 0, flags: FLAG.rst | FLAG.ack });
    else this.#segment(c, { sequence: c.next, flags: FLAG.rst | FLAG.ack });
    this.#remove(c);
  }

  /** Bytes that can be queued for the guest before there are more than a buffer full. */
  room(c: TcpConnection): number {
    return Math.max(0, SEND_BUFFER - c.queued);
  }

  /** Queues bytes for the guest, which must not change any more. */
  send(c: TcpConnection, data: Uint8Array): void {
    if (c.fin >= 0 || data.length === 0) return;
    // Small ones are put together: a byte is not worth a piece of its own, of which there would be as many as the guest likes.
    const last = c.queue.at(-1);
    if (last && last.length + data.length <= SMALL) {
      const both = new Uint8Array(last.length + data.length);
      both.set(last);
      both.set(data, last.length);
      c.queue[c.queue.length - 1] = freeze(both);
    } else c.queue.push(freeze(data));
    c.queued += data.length;
    this.#touched.add(c);
  }

  /** Nothing more will be queued. */
  end(c: TcpConnection): void {
    if (c.fin >= 0) return;
    // Our SYN has a number, too.
    const first = c.phase === 'asked' || c.phase === 'syn-received' ? plus(c.una, 1) : c.una;
    c.fin = plus(first, c.queued);
    if (c.phase === 'established') c.phase = 'fin-wait-1';
    else if (c.phase === 'close-wait') c.phase = 'last-ack';
    this.#touched.add(c);
  }

  /** `n` bytes of what the guest has sent are done with. */
  release(c: TcpConnection, n: number): void {
    c.held = Math.max(0, c.held - n);
    // A window is worth a segment of its own when it has grown by a good deal (RFC 9293 3.8.6.2.2).
    if (diff(plus(c.expected, this.#receiveWindow(c)), c.edge) >= Math.min(2 * c.mss, RECEIVE_BUFFER / 2)) {
      c.acknowledge = true;
      this.#touched.add(c);
    }
  }

  connection(id: number): TcpConnection | undefined {
    return this.state.connections.find((c) => c.id === id);
  }

  // --- for the gateway --------------------------------------------------------------------------------------------------------

  /** A segment from the guest. `application`: who would serve a new connection to where it goes; undefined: nobody. */
  input(ends: TcpEnds, t: Tcp, application: string | undefined): void {
    const found = this.state.connections.find(
      (c) =>
        c.remotePort === ends.remotePort &&
        c.localPort === ends.localPort &&
        c.remote === ends.remote &&
        c.local === ends.local &&
        c.vlan === ends.vlan,
    );
    // A new connection may take the place of one that only lingers (RFC 9293 3.10.7.4, TIME-WAIT).
    const lingers = found?.phase === 'time-wait' && t.flags & FLAG.syn && diff(t.sequence, found.expected) > 0;
    if (found && !lingers) {
      this.#segmentFor(found, t);
      return;
    }
    if (found) this.#remove(found);
    if (t.flags & FLAG.rst) return;
    const wanted = (t.flags & (FLAG.syn | FLAG.ack)) === FLAG.syn;
    if (!wanted || application === undefined || !this.#makeRoom()) {
      this.#refuseSegment(ends, t);
      return;
    }
    const c = this.#newConnection(ends, t, application);
    this.state.connections.push(c);
    this.#host.application(application).asked(this, c);
  }

  /** Sends what the events since the last time have made possible: once for all of them. */
  flush(): void {
    while (this.#touched.size > 0) {
      const touched = [...this.#touched];
      this.#touched.clear();
      for (const c of touched) if (this.state.connections.includes(c)) this.#output(c);
    }
    this.#setAlarm();
  }

  /** Ends all connections of an application without a word to it; the guest is told. */
  abort(application: string): void {
    for (const c of this.state.connections.filter((x) => x.application === application)) {
      this.#segment(c, { sequence: c.next, flags: FLAG.rst | FLAG.ack });
      this.state.connections.splice(this.state.connections.indexOf(c), 1);
    }
    this.#setAlarm();
  }

  // --- connections ------------------------------------------------------------------------------------------------------------

  #newConnection(ends: TcpEnds, t: Tcp, application: string): TcpConnection {
    const { clock } = this.#host;
    const id = this.state.nextId++;
    // RFC 9293 3.4.1: a clock that ticks every 4 us, and connections that do not follow one another.
    const iss = (Math.floor(clock.now / 4000) + Math.imul(id, 0x9e37_79b9)) >>> 0;
    const most = this.#host.mtu() - IP_AND_TCP;
    const mss = Math.max(LEAST_MSS, Math.min(t.mss ?? DEFAULT_MSS, most));
    const expected = plus(t.sequence, 1);
    return {
      ...ends,
      id,
      phase: 'asked',
      application,
      app: {},
      una: iss,
      next: iss,
      highest: iss,
      window: t.window,
      windowSequence: t.sequence,
      windowAcknowledgment: iss,
      scale: Math.min(t.scale ?? 0, MAX_SCALE),
      mss,
      queue: [],
      head: 0,
      queued: 0,
      fin: -1,
      // RFC 6928.
      congestion: 10 * mss,
      threshold: Number.MAX_SAFE_INTEGER,
      duplicates: 0,
      recover: -1,
      rto: FIRST_RTO,
      srtt: 0,
      variation: 0,
      timed: -1,
      timedAt: 0,
      due: 0,
      tries: 0,
      expected,
      held: 0,
      edge: expected,
      scaled: t.scale !== undefined,
      early: [],
      earlyFin: -1,
      acknowledge: false,
      heard: clock.now,
    };
  }

  /** Room for one more connection: one that lingers goes first, then the one that was silent longest if it is idle. */
  #makeRoom(): boolean {
    const { connections } = this.state;
    if (connections.length < MAX_CONNECTIONS) return true;
    const idle = connections.filter((c) => c.phase !== 'asked' && c.queued === 0);
    const victim = idle.find((c) => c.phase === 'time-wait') ?? idle.sort((a, b) => a.heard - b.heard)[0];
    if (!victim) return false;
    if (victim.phase === 'time-wait') this.#remove(victim);
    else this.refuse(victim);
    return true;
  }

  #remove(c: TcpConnection): void {
    const at = this.state.connections.indexOf(c);
    if (at < 0) return;
    this.state.connections.splice(at, 1);
    this.#host.application(c.application).gone?.(this, c);
  }

  /** RFC 9293 3.10.7.1: a segment for a connection that is not there. */
  #refuseSegment(ends: TcpEnds, t: Tcp): void {
    this.state.resets++;
    const acknowledged = (t.flags & FLAG.ack) !== 0;
    const length = t.data.length + (t.flags & FLAG.syn ? 1 : 0) + (t.flags & FLAG.fin ? 1 : 0);
    this.#host.send(ends, {
      sourcePort: ends.localPort,
      destinationPort: ends.remotePort,
      sequence: acknowledged ? t.acknowledgment : 0,
      acknowledgment: acknowledged ? 0 : plus(t.sequence, length),
      flags: acknowledged ? FLAG.rst : FLAG.rst | FLAG.ack,
      window: 0,
      data: new Uint8Array(0),
    });
  }

  // --- receiving --------------------------------------------------------------------------------------------------------------

  #receiveWindow(c: TcpConnection): number {
    const most = c.scaled ? RECEIVE_BUFFER : 0xffff;
    return Math.max(0, most - c.held);
  }

  /** RFC 9293 3.10.7.4. */
  #segmentFor(c: TcpConnection, t: Tcp): void {
    c.heard = this.#host.clock.now;
    if (c.phase === 'asked') {
      // Nothing was promised yet: the guest repeats its SYN, or gives up.
      if (t.flags & FLAG.rst) this.#remove(c);
      return;
    }
    const offset = diff(t.sequence, c.expected);
    const length = t.data.length + (t.flags & FLAG.fin ? 1 : 0);
    const window = this.#receiveWindow(c);
    // Some of it is inside the window, or it is empty and at its edge.
    const acceptable = length === 0 ? offset >= 0 && offset <= window : offset < Math.max(window, 1) && offset + length > 0;
    if (t.flags & FLAG.rst) {
      // RFC 5961 3.2: only the exact number ends a connection; one that is near is asked again.
      if (offset === 0) this.#remove(c);
      else if (acceptable) this.#acknowledge(c);
      return;
    }
    if (!acceptable || t.flags & FLAG.syn) {
      if (c.phase === 'syn-received' && t.flags & FLAG.syn && diff(t.sequence, c.expected) === -1) this.#synchronize(c);
      else this.#acknowledge(c);
      // What was lost on the way may have been our acknowledgment of a FIN.
      if (c.phase === 'time-wait') c.due = this.#host.clock.now + TIME_WAIT;
      if (!(t.flags & FLAG.ack) || t.flags & FLAG.syn) return;
    }
    if (!(t.flags & FLAG.ack)) return;
    if (!this.#acknowledged(c, t)) return;
    this.#touched.add(c);
    if (acceptable && length > 0 && this.state.connections.includes(c)) this.#received(c, t, offset);
  }

  #acknowledge(c: TcpConnection): void {
    c.acknowledge = true;
    this.#touched.add(c);
  }

  /** The acknowledgment and window of a segment. False: the segment is of no use, or the connection is gone. */
  #acknowledged(c: TcpConnection, t: Tcp): boolean {
    const a = t.acknowledgment;
    if (diff(a, c.highest) > 0) {
      if (c.phase === 'syn-received') {
        this.#segment(c, { sequence: a, flags: FLAG.rst });
        this.#remove(c);
      } else this.#acknowledge(c);
      return false;
    }
    const fresh = diff(a, c.una) > 0;
    const newer = diff(t.sequence, c.windowSequence) > 0;
    const windowBefore = c.window;
    if (newer || (t.sequence === c.windowSequence && diff(a, c.windowAcknowledgment) >= 0)) {
      c.window = t.window * 2 ** c.scale;
      c.windowSequence = t.sequence;
      c.windowAcknowledgment = a;
    }
    if (!fresh) {
      const flight = diff(c.highest, c.una);
      const duplicate = flight > 0 && a === c.una && t.data.length === 0 && !(t.flags & FLAG.fin) && c.window === windowBefore;
      if (duplicate) this.#duplicate(c);
      else if (windowBefore === 0) {
        // The guest is alive; of what probed its window it has taken nothing.
        c.tries = 0;
        if (c.window > 0) c.next = c.una;
      }
      return true;
    }
    this.#measure(c, a);
    let n = diff(a, c.una);
    if (c.phase === 'syn-received') {
      c.phase = 'established';
      c.una = plus(c.una, 1);
      n--;
      if (c.fin >= 0) c.phase = 'fin-wait-1';
    }
    const data = Math.min(n, c.queued);
    this.#dropSent(c, data);
    c.una = a;
    if (diff(c.next, a) < 0) c.next = a;
    c.tries = 0;
    // Something arrives: the link is as it was before timeouts doubled.
    c.rto = this.#plainTimeout(c);
    this.#grow(c, data);
    if (c.fin >= 0 && diff(a, c.fin) > 0) {
      if (c.phase === 'fin-wait-1') c.phase = 'fin-wait-2';
      else if (c.phase === 'closing') this.#linger(c);
      else if (c.phase === 'last-ack') {
        this.#remove(c);
        return false;
      }
    }
    this.#arm(c);
    if (data > 0 && c.fin < 0) this.#host.application(c.application).room?.(this, c);
    return true;
  }

  #dropSent(c: TcpConnection, n: number): void {
    c.queued -= n;
    c.head += n;
    while (c.queue.length > 0 && c.head >= c.queue[0].length) c.head -= (c.queue.shift() as Uint8Array).length;
  }

  /** Data and FIN of a segment that is at least partly new. */
  #received(c: TcpConnection, t: Tcp, offset: number): void {
    const listens = c.phase === 'established' || c.phase === 'fin-wait-1' || c.phase === 'fin-wait-2';
    this.#acknowledge(c);
    if (!listens) return;
    const window = this.#receiveWindow(c);
    const from = Math.max(0, -offset);
    const to = Math.min(t.data.length, window - offset);
    // A FIN counts only behind everything that fits.
    const fin = (t.flags & FLAG.fin) !== 0 && to === t.data.length ? plus(t.sequence, t.data.length) : -1;
    if (fin >= 0) c.earlyFin = fin;
    if (offset > 0) {
      if (to > 0) this.#keep(c, t.sequence, t.data.subarray(0, to));
      return;
    }
    if (to > from) this.#deliver(c, t.data.slice(from, to));
    // What came early may follow on now.
    while (c.early.length > 0 && diff(c.early[0].sequence, c.expected) <= 0 && this.state.connections.includes(c)) {
      const { sequence, data } = c.early.shift() as TcpConnection['early'][number];
      const known = diff(c.expected, sequence);
      if (known < data.length) this.#deliver(c, data.slice(known));
    }
    if (c.earlyFin < 0 || c.earlyFin !== c.expected || !this.state.connections.includes(c)) return;
    c.expected = plus(c.expected, 1);
    c.earlyFin = -1;
    if (c.phase === 'established') c.phase = 'close-wait';
    else if (c.phase === 'fin-wait-1') c.phase = 'closing';
    else if (c.phase === 'fin-wait-2') this.#linger(c);
    this.#host.application(c.application).ended(this, c);
  }

  #deliver(c: TcpConnection, data: Uint8Array): void {
    c.expected = plus(c.expected, data.length);
    c.held += data.length;
    this.#host.application(c.application).data(this, c, data);
  }

  /** Keeps a piece that came before its time. Together they are never more than the window. */
  #keep(c: TcpConnection, sequence: number, data: Uint8Array): void {
    let at = c.early.length;
    while (at > 0 && diff(c.early[at - 1].sequence, sequence) > 0) at--;
    const before = c.early[at - 1];
    if (before && diff(plus(before.sequence, before.data.length), plus(sequence, data.length)) >= 0) return;
    // Pieces that this one covers are of no use, so that no guest fills memory with copies.
    let covered = 0;
    const end = plus(sequence, data.length);
    while (at + covered < c.early.length) {
      const next = c.early[at + covered];
      if (diff(plus(next.sequence, next.data.length), end) > 0) break;
      covered++;
    }
    c.early.splice(at, covered, { sequence, data: data.slice() });
    // Pieces that overlap could still add up, and those of a byte are many: past four windows or so many the last one goes.
    if (c.early.length > MAX_EARLY || c.early.reduce((n, e) => n + e.data.length, 0) > 4 * RECEIVE_BUFFER) c.early.pop();
  }

  // --- congestion and round trips ---------------------------------------------------------------------------------------------

  /** RFC 6298 2. */
  #measure(c: TcpConnection, a: number): void {
    if (c.timed < 0 || diff(a, c.timed) <= 0) return;
    const sample = this.#host.clock.now - c.timedAt;
    c.timed = -1;
    if (c.srtt === 0) {
      c.srtt = sample;
      c.variation = sample / 2;
    } else {
      c.variation += (Math.abs(c.srtt - sample) - c.variation) / 4;
      c.srtt += (sample - c.srtt) / 8;
    }
  }

  /** What the timeout is when nothing was lost lately. */
  #plainTimeout({ srtt, variation }: TcpConnection): number {
    return srtt === 0 ? FIRST_RTO : Math.min(MOST_RTO, Math.max(LEAST_RTO, Math.round(srtt + 4 * variation)));
  }

  /** New data has been acknowledged. */
  #grow(c: TcpConnection, n: number): void {
    c.duplicates = 0;
    if (c.recover >= 0) {
      if (diff(c.una, c.recover) < 0) {
        // A partial acknowledgment: the next hole (RFC 6582 3.2).
        this.#resend(c);
        c.congestion = Math.max(c.mss, c.congestion - n + c.mss);
        return;
      }
      c.recover = -1;
      c.congestion = c.threshold;
      return;
    }
    if (c.congestion < c.threshold) c.congestion += Math.min(n, 2 * c.mss);
    else c.congestion += Math.max(1, Math.floor((c.mss * c.mss) / c.congestion));
    c.congestion = Math.min(c.congestion, 4 * SEND_BUFFER);
  }

  /** RFC 5681 3.2. */
  #duplicate(c: TcpConnection): void {
    c.duplicates++;
    if (c.recover >= 0) c.congestion += c.mss;
    else if (c.duplicates === 3) {
      c.threshold = Math.max(Math.floor(diff(c.highest, c.una) / 2), 2 * c.mss);
      c.recover = c.highest;
      c.congestion = c.threshold + 3 * c.mss;
      this.#resend(c);
    }
    this.#touched.add(c);
  }

  /** The segment at `una` once more. */
  #resend(c: TcpConnection): void {
    this.state.retransmissions++;
    c.timed = -1;
    const n = Math.min(c.mss, c.queued, diff(c.highest, c.una));
    if (n > 0) this.#segment(c, { sequence: c.una, flags: FLAG.ack | FLAG.psh, data: this.#bytes(c, 0, n) });
    else if (c.fin >= 0) this.#segment(c, { sequence: c.fin, flags: FLAG.ack | FLAG.fin });
  }

  // --- sending ----------------------------------------------------------------------------------------------------------------

  /** Everything that may be sent now. */
  #output(c: TcpConnection): void {
    if (c.phase === 'asked' || c.phase === 'syn-received') return;
    for (;;) {
      const flight = diff(c.next, c.una);
      const left = c.queued - flight;
      const allowed = Math.min(c.window, c.congestion) - flight;
      const n = Math.min(c.mss, left, allowed);
      // No small pieces while a larger one will be possible (RFC 9293 3.8.6.2.1).
      if (n <= 0 || (n < c.mss && n < left && n < c.window / 2)) break;
      const last = n === left;
      const withFin = last && c.fin >= 0;
      this.#transmit(c, n, FLAG.ack | (last ? FLAG.psh : 0) | (withFin ? FLAG.fin : 0));
    }
    // A FIN alone fits any window.
    if (c.fin >= 0 && c.next === c.fin) this.#transmit(c, 0, FLAG.ack | FLAG.fin);
    if (c.acknowledge) this.#segment(c, { sequence: c.next, flags: FLAG.ack });
    if (c.due === 0) this.#arm(c);
  }

  /** Sends `n` bytes from `next` on, and with a FIN flag that too. */
  #transmit(c: TcpConnection, n: number, flags: number): void {
    const data = this.#bytes(c, diff(c.next, c.una), n);
    this.#segment(c, { sequence: c.next, flags, data });
    c.next = plus(c.next, n + (flags & FLAG.fin ? 1 : 0));
    if (diff(c.next, c.highest) > 0) {
      if (c.timed < 0) {
        c.timed = plus(c.next, -1);
        c.timedAt = this.#host.clock.now;
      }
      c.highest = c.next;
    } else this.state.retransmissions++;
    if (c.due === 0) this.#arm(c);
  }

  /** `n` queued bytes from `offset` after `una` on. */
  #bytes(c: TcpConnection, offset: number, n: number): Uint8Array {
    const out = new Uint8Array(n);
    let skip = c.head + offset;
    let at = 0;
    for (const piece of c.queue) {
      if (at === n) break;
      if (skip >= piece.length) {
        skip -= piece.length;
        continue;
      }
      const part = piece.subarray(skip, Math.min(piece.length, skip + n - at));
      out.set(part, at);
      at += part.length;
      skip = 0;
    }
    return out;
  }

  /** SYN with ACK. */
  #synchronize(c: TcpConnection): void {
    const mss = this.#host.mtu() - IP_AND_TCP;
    this.#segment(c, { sequence: c.una, flags: FLAG.syn | FLAG.ack, mss, ...(c.scaled ? { scale: SCALE } : {}) });
  }

  /** One segment; acknowledges and tells the window. */
  #segment(c: TcpConnection, t: Pick<Tcp, 'sequence' | 'flags'> & Partial<Tcp>): void {
    const shift = c.scaled && !(t.flags & FLAG.syn) ? SCALE : 0;
    const window = Math.min(0xffff, Math.floor(this.#receiveWindow(c) / 2 ** shift));
    c.edge = plus(c.expected, window * 2 ** shift);
    c.acknowledge = false;
    this.#host.send(c, {
      sourcePort: c.localPort,
      destinationPort: c.remotePort,
      acknowledgment: t.flags === FLAG.rst ? 0 : c.expected,
      window,
      data: new Uint8Array(0),
      ...t,
    });
  }

  // --- timers -----------------------------------------------------------------------------------------------------------------

  #linger(c: TcpConnection): void {
    c.phase = 'time-wait';
    c.due = this.#host.clock.now + TIME_WAIT;
    this.#setAlarm();
  }

  /** Something is on its way, or the window is closed: look again after the timeout. */
  #arm(c: TcpConnection): void {
    if (c.phase === 'time-wait' || c.phase === 'asked') return;
    const outstanding = c.highest !== c.una;
    const blocked = c.window === 0 && c.queued > 0;
    c.due = outstanding || blocked ? this.#host.clock.now + c.rto : 0;
    this.#setAlarm();
  }

  #setAlarm(): void {
    const { clock } = this.#host;
    const due = this.state.connections.reduce((n, c) => (c.due > 0 ? Math.min(n, c.due) : n), Number.POSITIVE_INFINITY);
    if (due === Number.POSITIVE_INFINITY) clock.cancel(ALARM);
    else clock.set(ALARM, due);
  }

  #tick(): void {
    this.#host.together(() => {
      const { now } = this.#host.clock;
      for (const c of this.state.connections.filter((x) => x.due > 0 && x.due <= now)) {
        if (c.phase === 'time-wait') this.#remove(c);
        else this.#timeout(c);
      }
    });
  }

  /** RFC 6298 5.4 to 5.7, and the probe of a closed window (RFC 9293 3.8.6.1). */
  #timeout(c: TcpConnection): void {
    c.tries++;
    if (c.tries > MAX_TRIES) {
      this.refuse(c);
      return;
    }
    c.rto = Math.min(MOST_RTO, c.rto * 2);
    c.timed = -1;
    if (c.phase === 'syn-received') {
      this.state.retransmissions++;
      this.#synchronize(c);
    } else if (c.window === 0 && c.queued > 0) {
      // One byte beyond the window: its answer tells how large that is by now.
      this.#segment(c, { sequence: c.una, flags: FLAG.ack, data: this.#bytes(c, 0, 1) });
      if (c.next === c.una) c.next = plus(c.una, 1);
      if (diff(c.next, c.highest) > 0) c.highest = c.next;
    } else {
      c.threshold = Math.max(Math.floor(diff(c.highest, c.una) / 2), 2 * c.mss);
      c.congestion = c.mss;
      c.recover = -1;
      c.duplicates = 0;
      // Everything again from there, as the window allows.
      c.next = c.una;
      this.#touched.add(c);
    }
    this.#arm(c);
  }
}
