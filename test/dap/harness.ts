/** A DAP client against main.ts, and transcripts of what both sides said, compared with a golden file. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { TestContext } from 'node:test';
import { DebugClient } from '@vscode/debugadapter-testsupport';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { readElf } from '../../debug-adapter/symbols/elf.ts';
import { Symbolizer } from '../../debug-adapter/symbols/symbolizer.ts';

export const ROOT = path.resolve(import.meta.dirname, '../..');
const MAIN = path.join(ROOT, 'debug-adapter/main.ts');
export const EMBEDDED = path.join(ROOT, 'test/guests/embedded/guest.elf');
export const GOLDEN = path.join(ROOT, 'test/dap/golden');

/** Longest wait for anything: a boot on a slow, busy machine. */
const TIMEOUT = 300_000;

const guestSymbols = new Symbolizer();
guestSymbols.setKernel(readElf(new Uint8Array(fs.readFileSync(EMBEDDED)), EMBEDDED).symbols);

/** Addresses of the embedded guest by name: they move whenever it is built anew. */
const named = (text: string): string =>
  text.replace(/(?:0x0*|0{10})(2[0-9a-f]{5})(?![0-9a-f])/g, (all, digits: string) => {
    const address = BigInt(`0x${digits}`);
    return guestSymbols.at(address) ? `<${guestSymbols.format(address)}>` : all;
  });

/** What differs from run to run, or with every change of the emulator, and is not what transcripts are about. */
const NORMALISE: [RegExp, string][] = [
  [/\b\d+ ms\b/g, '<ms>'],
  [/\b\d+\.\d MiB\b/g, '<size>'],
  [/\bafter \d+ instructions\b/g, 'after <n> instructions'],
  [/[\d.]+ s of (guest|host) time/g, '<s> of $1 time'],
  [/\b\d+ symbols\b/g, '<n> symbols'],
];

/** Events that are about time, or are collected elsewhere. */
const QUIET = new Set(['hyperstep/state', 'hyperstep/console', 'progressUpdate']);

const WIDTH = 120;
/** JSON as a person would lay it out: one line when it fits. */
function layout(value: unknown, indent = ''): string {
  const flat = JSON.stringify(value);
  if (flat === undefined || flat.length + indent.length <= WIDTH || typeof value !== 'object' || value === null)
    return flat ?? '';
  const inner = `${indent}  `;
  if (Array.isArray(value)) return `[\n${value.map((v) => inner + layout(v, inner)).join(',\n')}\n${indent}]`;
  const rows = Object.entries(value).filter(([, v]) => v !== undefined);
  return `{\n${rows.map(([k, v]) => `${inner}${JSON.stringify(k)}: ${layout(v, inner)}`).join(',\n')}\n${indent}}`;
}

/** The library's client with a process of our own: its end is noticed, and waited for. */
class Adapter extends DebugClient {
  readonly #process: ChildProcess;
  /** Calls back when the adapter ends. */
  onExit: (status: number | null) => void = () => {};

  constructor() {
    super('node', '', 'hyperstep');
    this.defaultTimeout = TIMEOUT;
    this.#process = spawn(process.execPath, ['--import', 'tsx', MAIN], { cwd: ROOT, stdio: ['pipe', 'pipe', 'inherit'] });
    this.#process.on('exit', (status) => this.onExit(status));
    this.connect(this.#process.stdout as Readable, this.#process.stdin as Writable);
  }

  override async stop(): Promise<void> {
    if (this.#process.exitCode !== null) return;
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), 10_000);
    this.#process.stdin?.end();
    await ended;
    clearTimeout(timer);
  }
}

export class Client {
  readonly #dc: Adapter;
  /** Messages of the adapter have a sequence number: they are listed as it sent them, not as promises happen to resolve. */
  readonly #lines: { text: string; seq?: number }[] = [];
  readonly #events: DebugProtocol.Event[] = [];
  #waiting: (() => void)[] = [];
  #console = '';
  readonly #decoder = new TextDecoder();

  private constructor(dc: Adapter) {
    this.#dc = dc;
  }

  /** A client of a fresh adapter process, which ends with the test. */
  static async start(t: TestContext): Promise<Client> {
    const dc = new Adapter();
    const client = new Client(dc);
    t.after(() => dc.stop());
    dc.onExit = (status) => client.#exited(status);
    const emit = dc.emit.bind(dc);
    // Every event, whatever its name.
    dc.emit = (name: string | symbol, ...args: unknown[]): boolean => {
      const event = args[0] as DebugProtocol.Event | undefined;
      if (event?.type === 'event') client.#event(event);
      return emit(name, ...args);
    };
    return client;
  }

  #exit: { status: number | null } | undefined;
  readonly #onExit: ((error: Error) => void)[] = [];
  #exited(status: number | null): void {
    this.#exit = { status };
    for (const reject of this.#onExit) reject(new Error(`the adapter ended with status ${status}`));
    this.#wake();
  }
  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const f of waiting) f();
  }

  /** The response to a request; fails when the adapter ends before it. */
  #send(command: string, args: object): Promise<DebugProtocol.Response> {
    return Promise.race([this.#dc.send(command, args), new Promise<never>((_, reject) => this.#onExit.push(reject))]);
  }

  #event(event: DebugProtocol.Event): void {
    if (event.event === 'hyperstep/console') {
      this.#console += this.#decoder.decode(Buffer.from((event.body as { data: string }).data, 'base64'), { stream: true });
    } else if (!QUIET.has(event.event)) this.#log(`<- event ${event.event}`, event.body, event.seq);
    this.#events.push(event);
    this.#wake();
  }

  #log(what: string, body: unknown, seq?: number): void {
    const text =
      body === undefined || (typeof body === 'object' && body !== null && Object.keys(body).length === 0)
        ? ''
        : ` ${layout(body)}`;
    let at = this.#lines.length;
    if (seq !== undefined) while (at > 0 && (this.#lines[at - 1].seq ?? 0) > seq) at--;
    this.#lines.splice(at, 0, { text: `${what}${text}`.replaceAll(ROOT + path.sep, ''), ...(seq === undefined ? {} : { seq }) });
  }

  /** A line of the test's own in the transcript. */
  note(text: string): void {
    this.#lines.push({ text: `   ${text}` });
  }

  /** Sends a request and waits for its response's body. `quiet`: the transcript has only the request. */
  async request<T>(command: string, args: object = {}, quiet = false): Promise<T> {
    this.#log(`-> ${command}`, args);
    const response = await this.#send(command, args);
    if (!quiet) this.#log(`<- ${command}`, response.body, response.seq);
    return response.body as T;
  }

  /** Sends a request that must fail; the message for the user. */
  async refused(command: string, args: object = {}): Promise<string> {
    this.#log(`-> ${command}`, args);
    const error = await this.#send(command, args).then(
      () => undefined,
      (e: Error) => e,
    );
    assert.ok(error, `${command} was not refused`);
    this.#log(`<- ${command} refused:`, error.message);
    return error.message;
  }

  /** The first event of this name that has not been taken yet, and fits. */
  async event<T>(name: string, fits: (body: T) => boolean = () => true): Promise<T> {
    return (await this.#take((e) => e.event === name && fits(e.body as T), name)).body as T;
  }

  /** Whichever of these events comes first: its name. */
  async either(...names: string[]): Promise<string> {
    return (await this.#take((e) => names.includes(e.event), names.join(' or '))).event;
  }

  async #take(fits: (event: DebugProtocol.Event) => boolean, name: string): Promise<DebugProtocol.Event> {
    const deadline = Date.now() + TIMEOUT;
    for (;;) {
      const at = this.#events.findIndex(fits);
      if (at >= 0) return this.#events.splice(at, 1)[0];
      assert.ok(!this.#exit, `the adapter ended with status ${this.#exit?.status} before ${name}`);
      const left = deadline - Date.now();
      assert.ok(
        left > 0,
        `no event ${name} came; the transcript ends with\n${this.#lines
          .slice(-10)
          .map((l) => l.text)
          .join('\n')}\nand the console with\n${this.#console.slice(-500)}`,
      );
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  /** What the guest has written so far. */
  get console(): string {
    return this.#console;
  }

  /** Initialises, launches and configures up to configurationDone. */
  async launch(args: object, configure: () => Promise<void> = async () => {}, client: object = {}): Promise<void> {
    await this.request(
      'initialize',
      { adapterID: 'hyperstep', linesStartAt1: true, columnsStartAt1: true, pathFormat: 'path', ...client },
      true,
    );
    await this.request('launch', args);
    await this.event('initialized');
    await configure();
    await this.request('configurationDone');
  }

  /** Waits until the guest has stopped. */
  stopped(): Promise<DebugProtocol.StoppedEvent['body']> {
    return this.event('stopped');
  }

  /** Names of the frames of a thread, quietly. */
  async frames(threadId = 1): Promise<DebugProtocol.StackFrame[]> {
    return ((await this.#send('stackTrace', { threadId })).body as DebugProtocol.StackTraceResponse['body']).stackFrames;
  }

  /** The call stack in the transcript, a name per line. */
  async showStack(threadId = 1): Promise<void> {
    const frames = await this.frames(threadId);
    this.note(['stack:', ...frames.map((f) => `  ${f.name}`)].join('\n   '));
  }

  /** Ends the adapter, and compares the transcript with `golden/<name>.txt`. UPDATE_GOLDEN=1 writes it instead. */
  async finish(name?: string): Promise<void> {
    await this.#dc.stop();
    if (name === undefined) return;
    const said = named(this.#lines.map((l) => l.text).join('\n'));
    golden(
      name,
      NORMALISE.reduce((all, [from, to]) => all.replace(from, to), said),
    );
  }
}

/** Compares a transcript with `golden/<name>.txt`. UPDATE_GOLDEN=1 writes it instead. */
export function golden(name: string, said: string): void {
  const file = path.join(GOLDEN, `${name}.txt`);
  if (process.env.UPDATE_GOLDEN) fs.writeFileSync(file, `${said}\n`);
  assert.equal(`${said}\n`, fs.readFileSync(file, 'utf8'), `transcript ${name}`);
}
