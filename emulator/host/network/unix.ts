/**
 * A folder of Unix sockets as the outside of the guest's Hyper-V sockets: `host-PORT` is who answers when the guest connects to that
 * port of the host, and whoever connects to `guest-PORT`, which is made here, gets to that port of the guest.
 */
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import type { SocketEvent, SocketRequest } from '../../network/sockets.ts';
import { type End, Streams } from './streams.ts';

/** sun_path of a Unix socket, without the zero at its end (unix(7)); shorter elsewhere, but then the system says so. */
const LONGEST_PATH = 107;

/** A connected socket, or one that is being connected. */
const endOf = (socket: net.Socket, opening?: Promise<unknown>): End => ({
  input: socket,
  output: socket,
  opening,
  close: () => socket.destroySoon(),
  destroy: () => socket.destroy(),
});

export class UnixSockets {
  readonly #folder: string;
  readonly #streams: Streams;
  readonly #servers: net.Server[] = [];

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
    this.#streams = new Streams((port) => {
      const socket = net.connect({ path: path.join(this.#folder, `host-${port}`), allowHalfOpen: true });
      return endOf(socket, once(socket, 'connect'));
    }, deliver);
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
    this.#streams.request(r);
  }

  /** Lets go of everything and removes the sockets that were made. */
  close(): void {
    this.#streams.drop();
    for (const server of this.#servers.splice(0)) server.close();
  }

  #listen(port: number, failed: (message: string) => void): void {
    const file = path.join(this.#folder, `guest-${port}`);
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: false }, (socket) => {
      this.#streams.connect(port, endOf(socket));
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
}
