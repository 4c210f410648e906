/** What a SCSI command is: a row of a table with a function. */
import type { Sense } from './sense.ts';
import type { Unit } from './unit.ts';

/** What a command works with. */
export interface Request {
  unit: Unit;
  cdb: DataView;
  /** Data from the guest. */
  out: Uint8Array;
  /** Bytes that the guest has room for. */
  room: number;
}

/** Good, with data for the guest or none. `more`: there would have been more than there is room for. */
export interface Good {
  data?: Uint8Array;
  more?: boolean;
}
export type Outcome = Good | Sense;
export const isSense = (o: Outcome): o is Sense => 'key' in o;

export interface Command {
  opcode: number;
  name: string;
  /** Bytes of the CDB. */
  length: number;
  /** The service action that this row is; left out: the opcode is enough. */
  service?: number;
  /** It works without a ready medium, and a unit attention condition does not stop it (SAM-5 5.14). */
  always?: boolean;
  run(request: Request): Outcome;
}

export const GOOD: Good = {};

/** At most `allocation` bytes. */
export const allocated = (data: Uint8Array, allocation: number): Good => ({ data: data.subarray(0, allocation) });
