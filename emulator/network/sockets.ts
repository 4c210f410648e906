/**
 * The door between the guest's Hyper-V sockets (AF_VSOCK) and the world outside the machine, as `outside.ts` is for its network:
 * requests go out at once; events come in between slices only, at an instruction count that is written down with them. Plain data.
 */

/** `id` names a connection: positive ones are the machine's, negative ones are those of whoever connects from outside. */
export type SocketRequest =
  /** A program of the guest connects to this port of the host. Answered by `connected` or `refused`. */
  | { kind: 'connect'; id: number; port: number }
  /** A program of the guest has taken a connection from outside. */
  | { kind: 'accepted'; id: number }
  /** Bytes of the guest. Answered by `written` when they have left. */
  | { kind: 'write'; id: number; data: Uint8Array }
  /** The guest takes so many bytes more. Before the first of these, none. */
  | { kind: 'credit'; id: number; bytes: number }
  /** The guest will write no more. */
  | { kind: 'end'; id: number }
  /** There is no such connection any more, or there never was: nobody in the guest listens. */
  | { kind: 'abort'; id: number }
  /** The machine has become another one: whatever was open is to be let go of. Answered by `restarted`. */
  | { kind: 'restart' };

export type SocketEvent =
  /** Somebody outside connects to this port of the guest. Answered by `accepted` or `abort`. */
  | { kind: 'connect'; id: number; port: number }
  | { kind: 'connected'; id: number }
  | { kind: 'refused'; id: number }
  | { kind: 'data'; id: number; data: Uint8Array }
  | { kind: 'written'; id: number; bytes: number }
  /** Nothing more will come. */
  | { kind: 'end'; id: number }
  /** The connection broke, or is not known. */
  | { kind: 'reset'; id: number }
  | { kind: 'restarted' };
