/** What the user has asked the trace to tell, in the Debug Console or in a file; and the last packets of every channel, for the view. */
import type { Machine, TraceEvent, TraceKind } from '../emulator/index.ts';
import { describeTraceEvent } from './describe.ts';
import type { GuestKernel } from './linux/kernel.ts';
import type { PacketRecord } from './protocol.ts';
import { openTraceFile, type TraceFile } from './trace-file.ts';
import { UserError } from './user-error.ts';

/** Lines that the Debug Console gets between two looks at it: more are counted only. */
const MAX_LINES = 500;
/** Packets that are kept of a channel. */
const MAX_PACKETS = 32;

export class SessionTrace {
  readonly #say: (text: string) => void;
  #kinds: ReadonlySet<TraceKind> = new Set();
  #path: string | undefined;
  #file: TraceFile | undefined;
  #guest: { machine: Machine; kernel: GuestKernel } | undefined;
  #stop: () => void = () => {};
  #lines: string[] = [];
  #missed = 0;
  #packets = new Map<number, PacketRecord[]>();

  /** `say`: lines for the Debug Console. */
  constructor(say: (text: string) => void) {
    this.#say = say;
  }

  /** Tells events of these kinds from now on, in a file if a path is given; none: tells nothing more. Throws UserError. */
  set(kinds: ReadonlySet<TraceKind>, path?: string): void {
    this.flush();
    if (this.#path !== path) {
      this.#file?.close();
      this.#file = undefined;
    }
    this.#kinds = kinds;
    this.#path = path;
    this.#listen();
  }

  /** What is told, and where. */
  get text(): string {
    if (this.#kinds.size === 0) return 'Nothing is traced.';
    return `Traced: ${[...this.#kinds].join(', ')}${this.#path === undefined ? '' : `, to ${this.#path}`}.`;
  }

  /** The last packets of a channel, oldest first. */
  packets(relid: number): readonly PacketRecord[] {
    return this.#packets.get(relid) ?? [];
  }

  /** Takes a machine, in place of one that was before. */
  attach(machine: Machine, kernel: GuestKernel): void {
    this.#guest = { machine, kernel };
    this.#packets = new Map();
    machine.subscribe((event) => this.#packet(event), ['packet']);
    this.#listen();
  }

  /** Hands over what has come since the last time. */
  flush(): void {
    const lines = this.#lines;
    if (this.#missed > 0) lines.push(`... and ${this.#missed} more events: a "traceFile" gets them all`);
    this.#lines = [];
    this.#missed = 0;
    if (lines.length > 0) this.#say(lines.join('\n'));
  }

  close(): void {
    this.#stop();
    this.flush();
    this.#file?.close();
    this.#file = undefined;
  }

  #listen(): void {
    this.#stop();
    this.#stop = () => {};
    const guest = this.#guest;
    if (!guest) return;
    if (this.#kinds.size === 0) {
      this.#file?.close();
      this.#file = undefined;
      return;
    }
    if (this.#path !== undefined && !this.#file) {
      const path = this.#path;
      try {
        this.#file = openTraceFile(
          path,
          () => this.#guest?.machine ?? guest.machine,
          () => this.#guest?.kernel.symbols ?? guest.kernel.symbols,
        );
      } catch (e) {
        this.#kinds = new Set();
        throw new UserError(`${path}: cannot be written (${(e as NodeJS.ErrnoException).code})`);
      }
    }
    this.#stop = guest.machine.subscribe((event) => this.#event(event), this.#kinds);
  }

  #event(event: TraceEvent): void {
    const guest = this.#guest;
    if (!guest) return;
    if (this.#file) this.#file.write(event);
    else if (this.#lines.length >= MAX_LINES) this.#missed++;
    else this.#lines.push(describeTraceEvent(event, guest.machine.now, guest.kernel.symbols, guest.kernel));
  }

  #packet(event: TraceEvent): void {
    if (event.kind !== 'packet' || !this.#guest) return;
    const { relid, direction, what, bytes } = event;
    let list = this.#packets.get(relid);
    if (!list) {
      list = [];
      this.#packets.set(relid, list);
    }
    list.push({ time: this.#guest.machine.now, direction, what, bytes });
    if (list.length > MAX_PACKETS) list.shift();
  }
}
