import assert from 'node:assert/strict';
import { PassThrough, Writable } from 'node:stream';
import { test } from 'node:test';
import { ProgramSockets, StdioSockets } from '../../../emulator/host/network/index.ts';
import type { SocketEvent, SocketRequest } from '../../../emulator/network/sockets.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** The machine's side: a line for each event, as many bytes of credit as there are; `until` waits for a line. */
class MachineSide {
  readonly lines: string[] = [];
  request: (r: SocketRequest) => void = () => {};
  #wake = (): void => {};

  readonly deliver = (e: SocketEvent): void => {
    const id = 'id' in e ? ` ${e.id}` : '';
    this.lines.push(e.kind === 'data' ? `data${id} ${Buffer.from(e.data)}` : `${e.kind}${id}`);
    this.#wake();
  };

  async until(line: string): Promise<string[]> {
    while (!this.lines.includes(line))
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    return this.lines.splice(0);
  }

  /** A program of the guest connects to a port of the host. */
  async connect(id: number, port: number): Promise<void> {
    this.request({ kind: 'connect', id, port });
    await this.until(`connected ${id}`);
    this.request({ kind: 'credit', id, bytes: 1000 });
  }

  say(id: number, text: string, ...then: ('end' | 'abort')[]): void {
    this.request({ kind: 'write', id, data: bytes(text) });
    for (const kind of then) this.request({ kind, id });
  }
}

test('each connection has a program of its own, until both have ended; what goes wrong with it is said', async (t) => {
  const guest = new MachineSide();
  const notes: string[] = [];
  const node = (script: string) => [process.execPath, '-e', script];
  const host = new Map<number, readonly string[]>([
    [1, node('process.stdin.on("data", (d) => process.stdout.write(String(d).toUpperCase()))')],
    [2, ['/no/such/program']],
    [3, node('console.error("oh"); process.exitCode = 4')],
  ]);
  const sockets = new ProgramSockets(host, new Map(), guest.deliver, (m) => notes.push(m));
  t.after(() => sockets.close());
  guest.request = (r) => sockets.request(r);
  await guest.connect(1, 1);
  await guest.connect(2, 1);
  guest.say(1, 'one');
  assert.deepEqual((await guest.until('data 1 ONE')).sort(), ['data 1 ONE', 'written 1']);
  guest.say(2, 'two', 'end');
  assert.deepEqual((await guest.until('end 2')).sort(), ['data 2 TWO', 'end 2', 'written 2']);
  guest.request({ kind: 'connect', id: 3, port: 9 });
  assert.deepEqual(await guest.until('refused 3'), ['refused 3']);
  guest.request({ kind: 'connect', id: 4, port: 2 });
  assert.deepEqual(await guest.until('refused 4'), ['refused 4']);
  await guest.connect(5, 3);
  await guest.until('end 5');
  guest.request({ kind: 'restart' });
  assert.deepEqual(await guest.until('restarted'), ['restarted']);
  guest.say(1, 'nobody');
  assert.deepEqual(await guest.until('reset 1'), ['reset 1']);
  while (notes.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
  const name = process.execPath;
  assert.deepEqual(
    notes.sort(),
    ['/no/such/program: spawn /no/such/program ENOENT', `${name}: ended with status 4`, `${name}: oh`].sort(),
  );
});

test('a program for a port of the guest waits until somebody listens there', async (t) => {
  const guest = new MachineSide();
  const programs = new Map([[5, [process.execPath, '-e', 'process.stdout.write("hello"); process.stdin.pipe(process.stdout)']]]);
  const sockets = new ProgramSockets(new Map(), programs, guest.deliver, assert.fail);
  t.after(() => sockets.close());
  guest.request = (r) => sockets.request(r);
  await guest.until('connect -1');
  // Nobody yet.
  guest.request({ kind: 'abort', id: -1 });
  assert.deepEqual(await guest.until('connect -2'), ['connect -2']);
  guest.request({ kind: 'accepted', id: -2 });
  guest.request({ kind: 'credit', id: -2, bytes: 100 });
  await guest.until('data -2 hello');
  guest.say(-2, ' and back', 'end');
  await guest.until('end -2');
  // It was taken: this is the end.
  guest.request({ kind: 'abort', id: -2 });
  await new Promise((resolve) => setTimeout(resolve, 400));
  assert.deepEqual(guest.lines, []);
});

test('standard input and output are for one connection at a time, and the next goes on with them', async (t) => {
  const guest = new MachineSide();
  const stdin = new PassThrough();
  const written: string[] = [];
  const stdout = new Writable({
    write: (b, _, done) => {
      written.push(String(b));
      done();
    },
  });
  const sockets = new StdioSockets({ host: 7 }, guest.deliver, { stdin, stdout });
  t.after(() => sockets.close());
  guest.request = (r) => sockets.request(r);
  guest.request({ kind: 'connect', id: 1, port: 7 });
  guest.request({ kind: 'connect', id: 2, port: 7 });
  guest.request({ kind: 'connect', id: 3, port: 8 });
  assert.deepEqual(await guest.until('refused 3'), ['connected 1', 'refused 2', 'refused 3']);
  guest.request({ kind: 'credit', id: 1, bytes: 4 });
  stdin.write('question');
  await guest.until('data 1 ques');
  guest.say(1, 'answer', 'end', 'abort');
  guest.request({ kind: 'connect', id: 4, port: 7 });
  guest.request({ kind: 'credit', id: 4, bytes: 100 });
  await guest.until('data 4 tion');
  stdin.end();
  await guest.until('end 4');
  guest.say(4, 'more');
  await guest.until('written 4');
  assert.deepEqual([written, stdout.writableEnded], [['answer', 'more'], false]);
});
