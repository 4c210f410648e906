/**
 * What answers on the gateway itself, for trying and testing a guest's network: echo (RFC 862), discard (RFC 863), character
 * generator (RFC 864), by TCP and UDP, and by HTTP bytes to download and a place to upload to.
 */
import type { TcpApplication, TcpConnection, TcpStack } from './tcp.ts';

export const PORT = { echo: 7, discard: 9, chargen: 19, http: 80 } as const;

/** Which service a port of the gateway has. */
export const SERVICES: Readonly<Record<number, string>> = Object.fromEntries(
  Object.entries(PORT).map(([name, port]) => [port, name]),
);

const text = (s: string): Uint8Array => Uint8Array.from(s, (c) => c.charCodeAt(0));

/** RFC 864: lines of 72 of the 95 printable characters, each line one further. */
const LINES = (() => {
  let out = '';
  for (let line = 0; line < 95; line++) {
    for (let i = 0; i < 72; i++) out += String.fromCharCode(32 + ((line + i) % 95));
    out += '\r\n';
  }
  return text(out);
})();

/** Answers of UDP services. undefined: none. */
export const UDP_SERVICES: Readonly<Record<number, (datagram: Uint8Array) => Uint8Array | undefined>> = {
  [PORT.echo]: (datagram) => datagram,
  [PORT.discard]: () => undefined,
  [PORT.chargen]: () => LINES.slice(0, 74),
};

const echo: TcpApplication = {
  asked: (tcp, c) => tcp.accept(c),
  data: (tcp, c, data) => tcp.send(c, data),
  // What the guest has taken back makes room for more of it.
  room: (tcp, c) => tcp.release(c, c.held - c.queued),
  ended: (tcp, c) => tcp.end(c),
};

const discard: TcpApplication = {
  asked: (tcp, c) => tcp.accept(c),
  data: (tcp, c, data) => tcp.release(c, data.length),
  ended: (tcp, c) => tcp.end(c),
};

const generate = (tcp: TcpStack, c: TcpConnection): void => {
  while (tcp.room(c) >= LINES.length) tcp.send(c, LINES.slice());
};
const chargen: TcpApplication = {
  asked: (tcp, c) => {
    tcp.accept(c);
    generate(tcp, c);
  },
  data: (tcp, c, data) => tcp.release(c, data.length),
  room: generate,
  ended: (tcp, c) => tcp.end(c),
};

// --- HTTP -------------------------------------------------------------------------------------------------------------------

/** Byte `i` of everything that is downloaded. */
export const patternByte = (i: number): number => Math.imul(i, 0x9e37_79b1) >>> 24;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb8_8320 : n >>> 1;
  return n;
});
/** CRC-32 as Ethernet and gzip have it, to be gone on with: begin with 0. */
export function crc32(data: Uint8Array, before = 0): number {
  let crc = ~before;
  for (let i = 0; i < data.length; i++) crc = CRC_TABLE[(crc ^ data[i]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

const MAX_HEAD = 8192;
const MAX_DOWNLOAD = 2 ** 40;
const PIECE = 16_384;
const REASONS: Record<number, string> = { 200: 'OK', 400: 'Bad Request', 404: 'Not Found', 405: 'Method Not Allowed' };

/** What an HTTP connection remembers. */
interface Http {
  phase: 'head' | 'upload' | 'download' | 'done';
  head: string;
  /** Bytes of a body that are still to come, and those that have. */
  left: number;
  done: number;
  crc: number;
}
// The stack keeps it as plain state whose shape is ours alone.
const httpOf = (c: TcpConnection): Http => c.app as unknown as Http;

function respond(tcp: TcpStack, c: TcpConnection, status: number, body: string, length = body.length): void {
  const head = `HTTP/1.1 ${status} ${REASONS[status]}\r\nContent-Length: ${length}\r\nConnection: close\r\n\r\n`;
  tcp.send(c, text(head + body));
}

function finish(tcp: TcpStack, c: TcpConnection, status: number, body: string): void {
  httpOf(c).phase = 'done';
  respond(tcp, c, status, body);
  tcp.end(c);
}

function download(tcp: TcpStack, c: TcpConnection): void {
  const h = httpOf(c);
  while (h.phase === 'download') {
    const n = Math.min(PIECE, h.left, tcp.room(c));
    if (n === 0 && h.left > 0) return;
    const { done } = h;
    if (n > 0)
      tcp.send(
        c,
        Uint8Array.from({ length: n }, (_, i) => patternByte(done + i)),
      );
    h.done += n;
    h.left -= n;
    if (h.left > 0) continue;
    h.phase = 'done';
    tcp.end(c);
  }
}

function upload(tcp: TcpStack, c: TcpConnection, data: Uint8Array): void {
  const h = httpOf(c);
  const body = data.subarray(0, Math.min(data.length, h.left));
  h.crc = crc32(body, h.crc);
  h.done += body.length;
  h.left -= body.length;
  if (h.left === 0) finish(tcp, c, 200, `${h.done} bytes, CRC-32 ${h.crc.toString(16).padStart(8, '0')}\n`);
}

/** Acts on a whole request head; what came behind it belongs to its body. */
function request(tcp: TcpStack, c: TcpConnection, head: string, rest: Uint8Array): void {
  const h = httpOf(c);
  const [, method, path] = /^(\S+) (\S+) HTTP\/1\.[01]\r\n/.exec(head) ?? [];
  if (method === 'GET' || method === 'HEAD') {
    const length = Number(/^\/bytes\/(\d{1,15})$/.exec(path)?.[1] ?? Number.NaN);
    if (!(length <= MAX_DOWNLOAD)) {
      finish(tcp, c, 404, 'GET /bytes/N, or PUT or POST anything\n');
      return;
    }
    respond(tcp, c, 200, '', length);
    h.left = method === 'GET' ? length : 0;
    h.phase = 'download';
    download(tcp, c);
  } else if (method === 'PUT' || method === 'POST') {
    const length = /\r\ncontent-length: *(\d{1,15})\r\n/i.exec(head)?.[1];
    if (length === undefined) {
      finish(tcp, c, 400, 'the length of the body is missing\n');
      return;
    }
    if (/\r\nexpect: *100-continue\r\n/i.test(head)) tcp.send(c, text('HTTP/1.1 100 Continue\r\n\r\n'));
    h.left = Number(length);
    h.phase = 'upload';
    upload(tcp, c, rest);
  } else if (method === undefined) finish(tcp, c, 400, 'this is no HTTP request\n');
  else finish(tcp, c, 405, `no ${method} here\n`);
}

const http: TcpApplication = {
  asked: (tcp, c) => {
    const fresh: Http = { phase: 'head', head: '', left: 0, done: 0, crc: 0 };
    Object.assign(c.app, fresh);
    tcp.accept(c);
  },
  data: (tcp, c, data) => {
    const h = httpOf(c);
    tcp.release(c, data.length);
    if (h.phase === 'upload') upload(tcp, c, data);
    if (h.phase !== 'head') return;
    const before = h.head.length;
    for (const b of data.subarray(0, MAX_HEAD)) h.head += String.fromCharCode(b);
    const end = h.head.indexOf('\r\n\r\n');
    if (end >= 0) {
      const head = h.head.slice(0, end + 4);
      h.head = '';
      request(tcp, c, head, data.subarray(end + 4 - before));
    } else if (h.head.length > MAX_HEAD) finish(tcp, c, 400, 'the head of the request is too long\n');
  },
  room: download,
  ended: (tcp, c) => {
    // A guest may end its side as soon as it has asked; one that has not asked yet never will.
    const { phase } = httpOf(c);
    if (phase === 'head' || phase === 'upload') {
      httpOf(c).phase = 'done';
      tcp.end(c);
    }
  },
};

export const APPLICATIONS: Readonly<Record<string, TcpApplication>> = { echo, discard, chargen, http };
