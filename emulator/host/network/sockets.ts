/**
 * The outside of a machine's network in mode `user`: what the gateway asks for (network/outside.ts) done with sockets of this
 * computer, without privileges, outgoing only, and only where that is allowed. Events are delivered from the event loop, never
 * while a request is being made.
 */
import dgram from 'node:dgram';
import dns from 'node:dns';
import net from 'node:net';
import type { NetworkEvent, NetworkRequest } from '../../network/outside.ts';
import type { Allowed } from './allow.ts';

interface Connection {
  socket: net.Socket;
  connected: boolean;
  /** Bytes that the guest takes. */
  credit: number;
}

const NOT_ALLOWED = 'not in "allow"';

export class UserNetwork {
  readonly #allowed: Allowed;
  readonly #deliver: (event: NetworkEvent) => void;
  readonly #note: (message: string) => void;
  readonly #connections = new Map<number, Connection>();
  readonly #flows = new Map<number, dgram.Socket>();
  /** Counts restarts and the end: what was begun before is nobody's any more. */
  #generation = 0;

  /** `note` is told of what is not allowed, for the user. */
  constructor(allowed: Allowed, deliver: (event: NetworkEvent) => void, note: (message: string) => void) {
    this.#allowed = allowed;
    this.#deliver = deliver;
    this.#note = note;
  }

  /** Does what the gateway asks for. */
  request(r: NetworkRequest): void {
    switch (r.kind) {
      case 'connect':
        this.#connect(r.id, r.address, r.port);
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
        // Not from inside a request.
        setImmediate(() => this.#read(r.id, c));
        return;
      }
      case 'end':
        this.#connections.get(r.id)?.socket.end();
        return;
      case 'abort':
        this.#connections.get(r.id)?.socket.destroy();
        this.#connections.delete(r.id);
        return;
      case 'datagram':
        this.#datagram(r.id, r.address, r.port, r.data);
        return;
      case 'forget':
        this.#flows.get(r.id)?.close();
        this.#flows.delete(r.id);
        return;
      case 'resolve':
        this.#resolve(r.id, r.name);
        return;
      case 'restart':
        this.close();
        this.#later({ kind: 'restarted' });
    }
  }

  /** Lets go of everything. */
  close(): void {
    this.#generation++;
    for (const { socket } of this.#connections.values()) socket.destroy();
    for (const socket of this.#flows.values()) socket.close();
    this.#connections.clear();
    this.#flows.clear();
  }

  /** Delivers an event from the event loop, unless everything has changed by then. */
  #later(event: NetworkEvent): void {
    const generation = this.#generation;
    setImmediate(() => {
      if (generation === this.#generation) this.#deliver(event);
    });
  }

  /** Delivers an event of a connection that is still the one it was. */
  #now(id: number, c: Connection, event: NetworkEvent): void {
    if (this.#connections.get(id) === c) this.#deliver(event);
  }

  #connect(id: number, address: string, port: number): void {
    if (!this.#allowed.allows('tcp', address, port)) {
      this.#note(`TCP to ${address}:${port} is ${NOT_ALLOWED}`);
      this.#later({ kind: 'refused', id });
      return;
    }
    const socket = net.connect({ host: address, port, family: 4, allowHalfOpen: true, noDelay: true });
    const c: Connection = { socket, connected: false, credit: 0 };
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

  #datagram(id: number, address: string, port: number, data: Uint8Array): void {
    if (!this.#allowed.allows('udp', address, port)) {
      this.#note(`UDP to ${address}:${port} is ${NOT_ALLOWED}`);
      return;
    }
    let socket = this.#flows.get(id);
    if (!socket) {
      socket = dgram.createSocket('udp4');
      const made = socket;
      this.#flows.set(id, made);
      made.on('message', (message, from) => {
        const expected = from.address === address && from.port === port && this.#flows.get(id) === made;
        if (expected) this.#deliver({ kind: 'datagram', id, data: Uint8Array.from(message) });
      });
      // A datagram that does not arrive is what UDP is like.
      made.on('error', () => {});
      made.unref();
    }
    socket.send(data, port, address, () => {});
  }

  #resolve(id: number, name: string): void {
    if (!this.#allowed.name(name)) {
      this.#note(`the name ${name} is ${NOT_ALLOWED}`);
      this.#later({ kind: 'resolved', id, addresses: [], status: 'refused' });
      return;
    }
    const generation = this.#generation;
    dns.lookup(name, { all: true, family: 4 }, (error, found) => {
      if (generation !== this.#generation) return;
      if (error) {
        const status = error.code === 'ENOTFOUND' ? 'no-such-name' : 'failed';
        this.#deliver({ kind: 'resolved', id, addresses: [], status });
        return;
      }
      const addresses = this.#allowed.resolved(
        name,
        found.map((f) => f.address),
      );
      if (addresses.length === 0) this.#note(`the name ${name} leads to addresses that no name may lead to`);
      this.#deliver({ kind: 'resolved', id, addresses, status: addresses.length > 0 ? 'ok' : 'refused' });
    });
  }
}
