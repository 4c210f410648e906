/**
 * The outside of the guest's Hyper-V sockets: each connection is a pair of streams, of a Unix socket, of a program, or this process's
 * own. Who is at a port is for the parts that use this to say. What comes in is delivered from the event loop, never while a request is
 * being made.
 */
import type { Readable, Writable } from 'node:stream';
import type { SocketEvent, SocketRequest } from '../../network/sockets.ts';

/** The other end of a connection. */
export interface End {
  /** What the guest reads, in no flowing mode yet, and what it writes to. */
  readonly input: Readable;
  readonly output: Writable;
  /** Resolves when somebody is there, rejects when nobody will be. Left out: there is. */
  readonly opening?: Promise<unknown>;
  /** No longer needed; what has been written goes out all the same. */
  close(): void;
  /** Lets go of it at once. */
  destroy(): void;
}

interface Connection {
  readonly end: End;
  connected: boolean;
  /** Bytes that the guest takes. */
  credit: number;
  /** The guest has been told that nothing more comes. */
  ended: boolean;
  /** To a port of the guest, where nobody may listen yet. */
  redial?: { port: number };
  /** Stops listening to its streams. */
  release(): void;
}

/** How long to wait before a port of the guest is tried again. */
const REDIAL_MS = 250;

export class Streams {
  readonly #answer: (port: number) => End | undefined;
  readonly #deliver: (event: SocketEvent) => void;
  readonly #connections = new Map<number, Connection>();
  readonly #redials = new Set<NodeJS.Timeout>();
  #nextId = -1;
  /** Counts restarts and the end: what was begun before is nobody's any more. */
  #generation = 0;

  /** `answer`: who is at a port of the host when the guest connects to it; undefined: nobody. */
  constructor(answer: (port: number) => End | undefined, deliver: (event: SocketEvent) => void) {
    this.#answer = answer;
    this.#deliver = deliver;
  }

  /** Does what the guest asks for. */
  request(r: SocketRequest): void {
    switch (r.kind) {
      case 'connect': {
        const end = this.#answer(r.port);
        if (end) this.#add(r.id, { ...end, opening: end.opening ?? Promise.resolve() });
        else this.#later({ kind: 'refused', id: r.id });
        return;
      }
      case 'accepted': {
        const c = this.#connections.get(r.id);
        if (c) c.redial = undefined;
        return;
      }
      case 'write': {
        const c = this.#connections.get(r.id);
        const { length } = r.data;
        if (!c) this.#later({ kind: 'reset', id: r.id });
        else c.end.output.write(r.data, (error) => error ?? this.#now(r.id, c, { kind: 'written', id: r.id, bytes: length }));
        return;
      }
      case 'credit': {
        const c = this.#connections.get(r.id);
        if (!c) return;
        c.credit += r.bytes;
        setImmediate(() => this.#read(r.id, c));
        return;
      }
      case 'end':
        this.#connections.get(r.id)?.end.output.end();
        return;
      case 'abort': {
        const c = this.#connections.get(r.id);
        if (!c) return;
        this.#forget(r.id, c);
        if (c.redial) this.#redial(c.redial.port, c.end);
        else c.end.close();
        return;
      }
      case 'restart':
        this.drop();
        this.#later({ kind: 'restarted' });
    }
  }

  /** Somebody outside connects to a port of the guest; with `again`, until a program of the guest listens there. */
  connect(port: number, end: End, again = false): void {
    const id = this.#nextId--;
    const c = this.#add(id, end);
    if (again) c.redial = { port };
    this.#deliver({ kind: 'connect', id, port });
  }

  #redial(port: number, end: End): void {
    const timer = setTimeout(() => {
      this.#redials.delete(timer);
      this.connect(port, end, true);
    }, REDIAL_MS);
    this.#redials.add(timer);
  }

  /** Lets go of all connections. */
  drop(): void {
    this.#generation++;
    for (const timer of this.#redials) clearTimeout(timer);
    this.#redials.clear();
    for (const [id, c] of [...this.#connections]) {
      this.#forget(id, c);
      c.end.destroy();
    }
  }

  #forget(id: number, c: Connection): void {
    c.release();
    if (this.#connections.get(id) === c) this.#connections.delete(id);
  }

  #add(id: number, end: End): Connection {
    const { input, output, opening } = end;
    const readable = () => this.#read(id, c);
    const ended = () => this.#ended(id, c);
    const failed = () => {
      this.#now(id, c, { kind: c.connected ? 'reset' : 'refused', id });
      this.#forget(id, c);
    };
    const ignored = () => {};
    input.on('readable', readable).on('end', ended).on('error', failed);
    output.on('error', failed);
    const c: Connection = {
      end,
      connected: opening === undefined,
      credit: 0,
      ended: false,
      release: () => {
        input.off('readable', readable).off('end', ended).off('error', failed);
        output.off('error', failed);
        // What nobody waits for may still go wrong.
        input.on('error', ignored);
        output.on('error', ignored);
      },
    };
    this.#connections.set(id, c);
    opening?.then(() => {
      c.connected = true;
      this.#now(id, c, { kind: 'connected', id });
    }, failed);
    return c;
  }

  /** As much as the guest takes. */
  #read(id: number, c: Connection): void {
    const { input } = c.end;
    while (c.connected && c.credit > 0 && this.#connections.get(id) === c) {
      const n = Math.min(c.credit, input.readableLength);
      // With nothing there, reading lets the end be seen.
      const data: Buffer | null = n > 0 ? input.read(n) : input.read();
      if (!data) {
        if (input.readableEnded) this.#ended(id, c);
        return;
      }
      c.credit -= data.length;
      this.#now(id, c, { kind: 'data', id, data: Uint8Array.from(data) });
    }
  }

  #ended(id: number, c: Connection): void {
    if (c.ended) return;
    c.ended = true;
    this.#now(id, c, { kind: 'end', id });
  }

  /** Delivers an event of a connection that is still the one it was. */
  #now(id: number, c: Connection, event: SocketEvent): void {
    if (this.#connections.get(id) === c) this.#deliver(event);
  }

  /** Delivers an event from the event loop, unless everything has changed by then. */
  #later(event: SocketEvent): void {
    const generation = this.#generation;
    setImmediate(() => {
      if (generation === this.#generation) this.#deliver(event);
    });
  }
}
