/**
 * The DAP base protocol's framing (specification, "Base Protocol"), for input that may be broken: whole, well-formed messages
 * go on, everything else is reported and skipped up to the next header.
 */
import { Transform, type TransformCallback } from 'node:stream';

const HEADER = 'Content-Length:';
/** Larger than any request of a client. */
const MAX_LENGTH = 64 << 20;
const MAX_HEADER = 4096;

export class Framing extends Transform {
  #data: Buffer = Buffer.alloc(0);
  readonly #report: (problem: string) => void;
  /** Bytes are being skipped: said once. */
  #lost = false;

  constructor(report: (problem: string) => void) {
    super();
    this.#report = report;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#data = this.#data.length ? Buffer.concat([this.#data, chunk]) : chunk;
    while (this.#next());
    done();
  }

  override _flush(done: TransformCallback): void {
    if (this.#data.length > 0 && !this.#lost) this.#report(`input ended inside a message (${this.#data.length} bytes of it)`);
    done();
  }

  /** Skips to the next header after `from`. False: there is none yet. */
  #skip(from: number, problem: string): boolean {
    if (!this.#lost) this.#report(problem);
    this.#lost = true;
    const at = this.#data.indexOf(HEADER, from);
    // The header may be cut in two by the end of this chunk.
    this.#data = this.#data.subarray(at < 0 ? Math.max(from, this.#data.length - HEADER.length) : at);
    return at >= 0;
  }

  #next(): boolean {
    const data = this.#data;
    const end = data.indexOf('\r\n\r\n');
    if (end < 0 || end > MAX_HEADER) {
      const start = data.subarray(0, HEADER.length).toString('latin1');
      const possible = HEADER.startsWith(start) || /^[\w-]+(:|$)/.test(start);
      if (data.length > MAX_HEADER || (data.length > 0 && !possible))
        return this.#skip(1, 'input is not a DAP message: no Content-Length header');
      return false;
    }
    const header = data.toString('latin1', 0, end);
    const match = /^Content-Length: *(\S*)\s*$/im.exec(header);
    if (!match) return this.#skip(1, 'input is not a DAP message: no Content-Length header');
    const length = /^\d+$/.test(match[1]) ? Number(match[1]) : Number.NaN;
    if (!(length <= MAX_LENGTH)) return this.#skip(HEADER.length, `Content-Length "${match[1].slice(0, 40)}" is not a length`);
    const start = end + 4;
    if (data.length < start + length) return false;
    const body = data.subarray(start, start + length);
    this.#data = data.subarray(start + length);
    this.#lost = false;
    const problem = problemOf(body);
    if (problem) this.#report(problem);
    else this.push(Buffer.concat([Buffer.from(`${HEADER} ${length}\r\n\r\n`), body]));
    return this.#data.length > 0;
  }
}

/** What is wrong with a message's body; undefined when it is a request or a response. */
function problemOf(body: Buffer): string | undefined {
  let message: unknown;
  try {
    message = JSON.parse(body.toString('utf8'));
  } catch (e) {
    return `message is not JSON: ${(e as Error).message}`;
  }
  const m = message as { type?: unknown; command?: unknown; seq?: unknown } | null;
  if (typeof m !== 'object' || m === null || Array.isArray(m)) return 'message is not a JSON object';
  if (m.type !== 'request' && m.type !== 'response')
    return `message type ${JSON.stringify(m.type)} is neither "request" nor "response"`;
  if (m.type === 'request' && (typeof m.command !== 'string' || typeof m.seq !== 'number'))
    return 'request without "command" or "seq"';
  return undefined;
}
