/**
 * The door between the gateway and the world outside the machine: what the gateway asks for, and what comes back. Requests
 * go out at once. Events come in between slices only, at an instruction count that is written down with them; so a run is
 * repeated by giving it the same events at the same counts, with nobody outside. Plain data, both.
 */
import { freeze } from '../base/frozen.ts';
import type { TcpApplication, TcpConnection, TcpStack } from './tcp.ts';
import { SEND_BUFFER } from './tcp.ts';

/** `id` names a connection, a UDP flow or a question, each by numbers of their own. */
export type NetworkRequest =
  /** TCP to that address. Answered by `connected` or `refused`. */
  | { kind: 'connect'; id: number; address: string; port: number }
  /** Bytes of the guest. Answered by `written` when they have left. */
  | { kind: 'write'; id: number; data: Uint8Array }
  /** The guest takes so many bytes more. Before the first of these, none. */
  | { kind: 'credit'; id: number; bytes: number }
  /** The guest will write no more. */
  | { kind: 'end'; id: number }
  /** There is no such connection any more. */
  | { kind: 'abort'; id: number }
  | { kind: 'datagram'; id: number; address: string; port: number; data: Uint8Array }
  /** No more datagrams by this flow. */
  | { kind: 'forget'; id: number }
  /** IPv4 addresses of a name. Answered by `resolved`. */
  | { kind: 'resolve'; id: number; name: string }
  /** The machine has become another one: whatever was open is to be let go of. Answered by `restarted`. */
  | { kind: 'restart' };

export type NetworkEvent =
  | { kind: 'connected'; id: number }
  | { kind: 'refused'; id: number }
  | { kind: 'data'; id: number; data: Uint8Array }
  | { kind: 'written'; id: number; bytes: number }
  /** Nothing more will come. */
  | { kind: 'end'; id: number }
  /** The connection broke, or is not known. */
  | { kind: 'reset'; id: number }
  | { kind: 'datagram'; id: number; data: Uint8Array }
  | { kind: 'resolved'; id: number; addresses: string[]; status: 'ok' | 'no-such-name' | 'failed' | 'refused' }
  | { kind: 'restarted' };

/** What a connection to the outside remembers. */
interface Relay {
  /** Bytes that the outside may still send. */
  credit: number;
}
const relayOf = (c: TcpConnection): Relay => c.app as unknown as Relay;

/** Gives the outside as much credit as there is room for, when that is worth a request. */
function giveCredit(tcp: TcpStack, c: TcpConnection, ask: (request: NetworkRequest) => void): void {
  const relay = relayOf(c);
  const more = tcp.room(c) - relay.credit;
  if (more < SEND_BUFFER / 4) return;
  relay.credit += more;
  ask({ kind: 'credit', id: c.id, bytes: more });
}

/** Name of the application that connects guests with the outside. */
export const OUTSIDE = 'outside';

/** The application behind every address that is not the gateway's own. `address`: where a connection really goes. */
export const outside = (ask: (request: NetworkRequest) => void, address: (c: TcpConnection) => string): TcpApplication => ({
  asked: (_tcp, c) => {
    const fresh: Relay = { credit: 0 };
    Object.assign(c.app, fresh);
    ask({ kind: 'connect', id: c.id, address: address(c), port: c.localPort });
  },
  data: (_tcp, c, data) => ask({ kind: 'write', id: c.id, data }),
  room: (tcp, c) => giveCredit(tcp, c, ask),
  ended: (_tcp, c) => ask({ kind: 'end', id: c.id }),
  gone: (_tcp, c) => ask({ kind: 'abort', id: c.id }),
});

/** What happened outside to connection `c`. */
export function relay(tcp: TcpStack, c: TcpConnection, event: NetworkEvent, ask: (request: NetworkRequest) => void): void {
  switch (event.kind) {
    case 'connected':
      tcp.accept(c);
      giveCredit(tcp, c, ask);
      return;
    case 'refused':
    case 'reset':
      tcp.refuse(c);
      return;
    case 'data':
      relayOf(c).credit -= event.data.length;
      tcp.send(c, freeze(event.data));
      return;
    case 'written':
      tcp.release(c, event.bytes);
      return;
    case 'end':
      tcp.end(c);
      return;
    default:
  }
}
