/**
 * Programs of this computer, and its own standard input and output, as the outside of the guest's Hyper-V sockets: what the guest writes
 * is a program's standard input, and what the program writes the guest reads.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Readable, Writable } from 'node:stream';
import type { SocketEvent, SocketRequest } from '../../network/sockets.ts';
import { type End, Streams } from './streams.ts';

/** Program and arguments by port. */
export type Programs = ReadonlyMap<number, readonly string[]>;

export class ProgramSockets {
  readonly #streams: Streams;
  readonly #children = new Set<ChildProcess>();
  readonly #note: (message: string) => void;

  /**
   * A program of `host` is started for each connection of the guest to its port of the host; each of `guest` is started now and connected
   * to its port of the guest as soon as somebody listens there. `note` is told, by lines that name the program, what goes wrong with it and
   * what it writes to its standard error.
   */
  constructor(host: Programs, guest: Programs, deliver: (event: SocketEvent) => void, note: (message: string) => void) {
    this.#note = note;
    this.#streams = new Streams((port) => {
      const command = host.get(port);
      return command && this.#start(command);
    }, deliver);
    for (const [port, command] of guest) {
      const end = this.#start(command);
      // A program that cannot be started has been told of.
      end.opening?.then(
        () => this.#streams.connect(port, { ...end, opening: undefined }, true),
        () => {},
      );
    }
  }

  #start([name, ...args]: readonly string[]): End {
    const child = spawn(name, args, { stdio: 'pipe' });
    this.#children.add(child);
    child.on('error', (error) => this.#note(`${name}: ${error.message}`));
    child.on('exit', (status, signal) => {
      this.#children.delete(child);
      if (status) this.#note(`${name}: ended with status ${status}`);
      else if (signal && signal !== 'SIGTERM') this.#note(`${name}: ended by ${signal}`);
    });
    child.stderr.on('data', (bytes: Buffer) => {
      for (const line of bytes.toString().trimEnd().split('\n')) this.#note(`${name}: ${line}`);
    });
    return {
      input: child.stdout,
      output: child.stdin,
      opening: once(child, 'spawn'),
      close: () => {
        child.stdin.end();
        child.stdout.destroy();
      },
      destroy: () => child.kill(),
    };
  }

  /** Does what the guest asks for. */
  request(r: SocketRequest): void {
    this.#streams.request(r);
  }

  /** Ends all programs. */
  close(): void {
    this.#streams.drop();
    for (const child of this.#children) child.kill();
  }
}

const ignored = (): void => {};

/** Where this process's standard input and output are: a port of the host, or of the guest. */
export type StdioPort = { host: number } | { guest: number };

/**
 * Standard input and output at one port, for one connection at a time: the next one goes on where the last one has left the input.
 * Standard output is not ended by the guest.
 */
export class StdioSockets {
  readonly #streams: Streams;
  readonly #input: Readable;
  readonly #output: NodeJS.WritableStream;
  #isTaken = false;

  constructor(
    port: StdioPort,
    deliver: (event: SocketEvent) => void,
    { stdin: input, stdout: output }: { stdin: Readable; stdout: NodeJS.WritableStream } = process,
  ) {
    this.#input = input;
    this.#output = output;
    // Who reads it may be gone: the guest is told when it writes.
    output.on('error', ignored);
    this.#streams = new Streams((asked) => ('host' in port && asked === port.host ? this.#take() : undefined), deliver);
    if ('guest' in port)
      setImmediate(() => {
        const end = this.#take();
        if (end) this.#streams.connect(port.guest, end, true);
      });
  }

  /** The two streams, unless somebody has them. */
  #take(): End | undefined {
    if (this.#isTaken) return undefined;
    this.#isTaken = true;
    const output = new Writable({ write: (bytes, _, done) => void this.#output.write(bytes, done) });
    const release = () => {
      this.#isTaken = false;
    };
    return { input: this.#input, output, close: release, destroy: release };
  }

  /** Does what the guest asks for. */
  request(r: SocketRequest): void {
    this.#streams.request(r);
  }

  close(): void {
    this.#streams.drop();
    this.#output.off('error', ignored);
  }
}
