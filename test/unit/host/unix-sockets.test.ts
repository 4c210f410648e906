import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { UnixSockets } from '../../../emulator/host/network/index.ts';
import type { SocketEvent } from '../../../emulator/network/sockets.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-unix-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

/** Events as the machine gets them, to be waited for. */
class Events {
  readonly #events: SocketEvent[] = [];
  #wake = (): void => {};

  readonly deliver = (event: SocketEvent): void => {
    this.#events.push(event);
    this.#wake();
  };

  async next(): Promise<SocketEvent> {
    while (this.#events.length === 0)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    return this.#events.shift() as SocketEvent;
  }

  /** Text of data events up to one of another kind, and that. */
  async text(): Promise<[string, SocketEvent]> {
    let text = '';
    for (;;) {
      const e = await this.next();
      if (e.kind !== 'data') return [text, e];
      text += Buffer.from(e.data).toString();
    }
  }
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const unexpected = (message: string): void => assert.fail(message);

/** Everything that comes until the end. */
async function readAll(socket: net.Socket): Promise<string> {
  let text = '';
  socket.on('data', (piece) => {
    text += piece.toString();
  });
  await once(socket, 'end');
  return text;
}

test('what the guest connects to is host-PORT, with bytes in both directions by credit, and ends', async (t) => {
  const server = net.createServer({ allowHalfOpen: true }, async (socket) => {
    socket.end(`got ${await readAll(socket)}`);
  });
  server.listen(path.join(folder, 'host-80'));
  await once(server, 'listening');
  const events = new Events();
  const sockets = new UnixSockets(folder, [], events.deliver, unexpected);
  t.after(() => {
    sockets.close();
    server.close();
  });
  sockets.request({ kind: 'connect', id: 1, port: 80 });
  assert.deepEqual(await events.next(), { kind: 'connected', id: 1 });
  sockets.request({ kind: 'write', id: 1, data: bytes('a question') });
  assert.deepEqual(await events.next(), { kind: 'written', id: 1, bytes: 10 });
  sockets.request({ kind: 'credit', id: 1, bytes: 5 });
  sockets.request({ kind: 'end', id: 1 });
  assert.deepEqual(await events.next(), { kind: 'data', id: 1, data: bytes('got a') });
  sockets.request({ kind: 'credit', id: 1, bytes: 100 });
  assert.deepEqual(await events.text(), [' question', { kind: 'end', id: 1 }]);
  sockets.request({ kind: 'connect', id: 2, port: 81 });
  assert.deepEqual(await events.next(), { kind: 'refused', id: 2 });
  sockets.request({ kind: 'write', id: 7, data: bytes('?') });
  assert.deepEqual(await events.next(), { kind: 'reset', id: 7 });
});

test('who connects to guest-PORT gets to the guest, and is let go when nobody listens there or the machine is another one', async (t) => {
  const events = new Events();
  const file = path.join(folder, 'guest-5000');
  // What a killed run leaves behind.
  const stale = net.createServer().listen(file);
  await once(stale, 'listening');
  fs.renameSync(file, `${file}-kept`);
  stale.close();
  await once(stale, 'close');
  fs.renameSync(`${file}-kept`, file);
  const sockets = new UnixSockets(folder, [5000], events.deliver, unexpected);
  t.after(() => sockets.close());
  const connect = async (): Promise<net.Socket> => {
    for (;;) {
      const socket = net.connect({ path: file, allowHalfOpen: true });
      const ok = await Promise.race([once(socket, 'connect').then(() => true), once(socket, 'error').then(() => false)]).catch(
        () => false,
      );
      if (ok) return socket;
    }
  };
  const first = await connect();
  assert.deepEqual(await events.next(), { kind: 'connect', id: -1, port: 5000 });
  first.end('hello');
  sockets.request({ kind: 'accepted', id: -1 });
  sockets.request({ kind: 'credit', id: -1, bytes: 100 });
  assert.deepEqual(await events.text(), ['hello', { kind: 'end', id: -1 }]);
  sockets.request({ kind: 'write', id: -1, data: bytes('good bye') });
  sockets.request({ kind: 'abort', id: -1 });
  assert.equal(await readAll(first), 'good bye');
  const second = await connect();
  assert.deepEqual(await events.next(), { kind: 'connect', id: -2, port: 5000 });
  sockets.request({ kind: 'restart' });
  assert.deepEqual(await events.next(), { kind: 'restarted' });
  await readAll(second).catch(() => {});
  const told = await new Promise<string>((resolve) => {
    const other = new UnixSockets(folder, [5000], () => {}, resolve);
    t.after(() => other.close());
  });
  assert.equal(told, `${file}: another program listens there`);
});

test('what is wrong with a folder or a port is one line', () => {
  const long = path.join(folder, 'x'.repeat(100));
  fs.mkdirSync(long);
  assert.deepEqual(
    [
      UnixSockets.problem(folder, [1, 2]),
      UnixSockets.problem(path.join(folder, 'none'), []),
      UnixSockets.problem(folder, [1.5]),
      UnixSockets.problem(long, [9]),
    ],
    [
      undefined,
      `${path.join(folder, 'none')} is no folder`,
      '1.5 is no port: 0 to 4294967294',
      `${path.join(long, 'guest-9')} is longer than the 107 bytes of a Unix socket's name`,
    ],
  );
});
