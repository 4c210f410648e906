/**
 * A folder of Unix sockets as the outside of the guest's Hyper-V sockets: `host-PORT` is who answers when the guest connects to that
 * port of the host, and whoever connects to `guest-PORT`, which is made here, gets to that port of the guest. What comes in is
 * delivered from the event loop, never while a request is being made.
 */
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import type { SocketEvent, SocketRequest } from '../../network/sockets.ts';

interface Connection {
  socket: net.Socket;
  connected: boolean;
  /** Bytes that the guest takes. */
  credit: number;
}

/** sun_path of a Unix socket, without the zero at its end (unix(7)); shorter elsewhere, but then the system says so. */
const LONGEST_PATH = 107;

export class UnixSockets {
  readonly #folder: string;
  readonly #deliver: (event: SocketEvent) => void;
  readonly #connections = new Map<number, Connection>();
  readonly #servers: net.Server[] = [];
  #nextId = -1;
  /** Counts restarts and the end: what was begun before is nobody's any more. */
  #generation = 0;

  /**
   * Listens for each of `guestPorts`. `failed` is told, by a line that names the file, when that does not work. A socket file that
   * nobody answers at is replaced.
   */
  constructor(
    folder: string,
    guestPorts: readonly number[],
    deliver: (event: SocketEvent) => void,
    failed: (message: string) => void,
  ) {
    this.#folder = folder;
    this.#deliver = deliver;
    for (const port of guestPorts) this.#listen(port, failed);
  }

  /** What is wrong with such a folder or its ports; undefined: nothing. */
  static problem(folder: string, guestPorts: readonly number[]): string | undefined {
    if (!fs.statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return `${folder} is no folder`;
    const bad = guestPorts.find((p) => !Number.isInteger(p) || p < 0 || p > 0xffff_fffe);
    if (bad !== undefined) return `${bad} is no port: 0 to ${0xffff_fffe}`;
    const longest = path.join(folder, `guest-${Math.max(0, ...guestPorts)}`);
    if (Buffer.byteLength(longest) > LONGEST_PATH)
      return `${longest} is longer than the ${LONGEST_PATH} bytes of a Unix socket's name`;
    return undefined;
  }

  /** Does what the guest asks for. */
  request(r: SocketRequest): void {
    switch (r.kind) {
      case 'connect':
        this.#add(r.id, net.connect({ path: path.join(this.#folder, `host-${r.port}`), allowHalfOpen: true }));
        return;
      case 'accepted':
        return;
      case 'write': {
        const c = this.#connections.get(r.id);
        const { length } = r.data;
        if (!c) this.#later({ kind: 'reset', id: r.id });
        else c.socket.write(r.data, (error) => error ?? this.#now(r.id, c, { kind: 'written', id: r.id, bytes: length }));
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
        this.#connections.get(r.id)?.socket.end();
        return;
      case 'abort': {
        const c = this.#connections.get(r.id);
        this.#connections.delete(r.id);
        // What is written goes out all the same: the guest may have ended in good order.
        c?.socket.destroySoon();
        return;
      }
      case 'restart':
        this.#drop();
        this.#later({ kind: 'restarted' });
    }
  }

  /** Lets go of everything and removes the sockets that were made. */
  close(): void {
    this.#drop();
    for (const server of this.#servers.splice(0)) server.close();
  }

  #drop(): void {
    this.#generation++;
    for (const { socket } of this.#connections.values()) socket.destroy();
    this.#connections.clear();
  }

  #listen(port: number, failed: (message: string) => void): void {
    const file = path.join(this.#folder, `guest-${port}`);
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: false }, (socket) => {
      const id = this.#nextId--;
      this.#add(id, socket);
      this.#deliver({ kind: 'connect', id, port });
    });
    let retried = false;
    server.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRINUSE' || retried) {
        failed(`${file}: ${error.message}`);
        return;
      }
      retried = true;
      // Left behind by a run that was killed, or somebody's?
      const probe = net.connect(file);
      probe.on('connect', () => {
        probe.destroy();
        failed(`${file}: another program listens there`);
      });
      probe.on('error', () => {
        if (fs.lstatSync(file, { throwIfNoEntry: false })?.isSocket()) fs.unlinkSync(file);
        server.listen(file);
      });
    });
    server.listen(file);
    server.unref();
    this.#servers.push(server);
  }

  #add(id: number, socket: net.Socket): void {
    // From outside it is connected already; only one that we make says so.
    const c: Connection = { socket, connected: id < 0, credit: 0 };
    this.#connections.set(id, c);
    socket.on('connect', () => {
      c.connected = true;
      this.#now(id, c, { kind: 'connected', id });
    });
    socket.on('readable', () => this.#read(id, c));
    socket.on('end', () => this.#now(id, c, { kind: 'end', id }));
    socket.on('error', () => {
      this.#now(id, c, { kind: c.connected ? 'reset' : 'refused', id });
      if (this.#connections.get(id) === c) this.#connections.delete(id);
    });
    socket.on('close', () => {
      if (this.#connections.get(id) === c) this.#connections.delete(id);
    });
  }

  /** As much as the guest takes. */
  #read(id: number, c: Connection): void {
    const { socket } = c;
    while (c.connected && c.credit > 0 && this.#connections.get(id) === c) {
      const n = Math.min(c.credit, socket.readableLength);
      // With nothing there, reading lets the end be seen.
      const data: Buffer | null = n > 0 ? socket.read(n) : socket.read();
      if (!data) return;
      c.credit -= data.length;
      this.#now(id, c, { kind: 'data', id, data: Uint8Array.from(data) });
    }
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
