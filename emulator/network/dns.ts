/** DNS messages (RFC 1035 4): questions for addresses, and answers to them. */
import { struct, viewOf } from '../base/struct.ts';
import { be16 } from './packet.ts';

const DnsHeader = struct(
  'DnsHeader',
  { Id: be16, Flags: be16, Questions: be16, Answers: be16, Authorities: be16, Additionals: be16 },
  { size: 12 },
);
const RESPONSE = 0x8000;
const RECURSION_DESIRED = 0x0100;
const RECURSION_AVAILABLE = 0x0080;
const OPCODE = 0x7800;
export const DNS_STATUS = { ok: 0, formatError: 1, failure: 2, noSuchName: 3, notImplemented: 4, refused: 5 } as const;
export const RECORD = { a: 1, aaaa: 28, any: 255 } as const;
const INTERNET = 1;
/** Seconds. */
const TIME_TO_LIVE = 60;

export interface DnsQuestion {
  /** Lower case, without the dot at its end. */
  name: string;
  type: number;
  /** The request up to the end of its question: what an answer begins with. */
  bytes: Uint8Array;
}

/** A request with one question. A status: what is wrong with it. undefined: too broken for an answer, or none is due. */
export function parseDns(message: Uint8Array): DnsQuestion | number | undefined {
  if (message.length < DnsHeader.size) return undefined;
  const h = DnsHeader.get(viewOf(message), 0);
  if (h.Flags & RESPONSE) return undefined;
  if (h.Flags & OPCODE) return DNS_STATUS.notImplemented;
  if (h.Questions !== 1) return DNS_STATUS.formatError;
  const labels: string[] = [];
  let at = DnsHeader.size;
  for (;;) {
    const n = message[at];
    // A question has no compressed names.
    if (n === undefined || n > 63 || at + 1 + n > message.length) return DNS_STATUS.formatError;
    at += 1 + n;
    if (n === 0) break;
    labels.push(String.fromCharCode(...message.subarray(at - n, at)));
  }
  if (at + 4 > message.length || at - DnsHeader.size > 255) return DNS_STATUS.formatError;
  const view = viewOf(message);
  const type = view.getUint16(at);
  if (view.getUint16(at + 2) !== INTERNET) return DNS_STATUS.notImplemented;
  return { name: labels.join('.').toLowerCase(), type, bytes: message.slice(0, at + 4) };
}

/** The answer to a request: addresses for its question, or a status. `request`: its question's bytes, or what came when that is none. */
export function dnsAnswer(request: Uint8Array, status: number, addresses: readonly number[] = []): Uint8Array {
  const asked = DnsHeader.get(viewOf(request), 0);
  const question =
    status === DNS_STATUS.formatError || status === DNS_STATUS.notImplemented ? 0 : request.length - DnsHeader.size;
  const RECORD_SIZE = 16;
  const out = new Uint8Array(DnsHeader.size + question + RECORD_SIZE * addresses.length);
  const view = viewOf(out);
  out.set(request.subarray(0, DnsHeader.size + question));
  DnsHeader.set(view, 0, {
    Id: asked.Id,
    Flags: RESPONSE | (asked.Flags & (OPCODE | RECURSION_DESIRED)) | RECURSION_AVAILABLE | status,
    Questions: question > 0 ? 1 : 0,
    Answers: addresses.length,
    Authorities: 0,
    Additionals: 0,
  });
  let at = DnsHeader.size + question;
  for (const address of addresses) {
    // The name is that of the question.
    view.setUint16(at, 0xc000 | DnsHeader.size);
    view.setUint16(at + 2, RECORD.a);
    view.setUint16(at + 4, INTERNET);
    view.setUint32(at + 6, TIME_TO_LIVE);
    view.setUint16(at + 10, 4);
    view.setUint32(at + 12, address);
    at += RECORD_SIZE;
  }
  return out;
}
