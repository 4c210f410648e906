/** A logical unit: a disk or a DVD drive behind the controller. */
import { idFromName } from '../../../base/guid.ts';
import type { Disk } from '../../../config.ts';
import type { DiskError } from '../../../index.ts';
import { Medium, type Written } from './medium.ts';
import { KEY, SENSE, type Sense } from './sense.ts';

export interface UnitState {
  name: string;
  /** -1: not attached. What was written stays for the next time. */
  lun: number;
  readOnly: boolean;
  dvd: boolean;
  latency: number;
  /** Unit attention conditions that wait to be told: ASC and ASCQ as one number. */
  attentions: number[];
  stopped: boolean;
  /** DVD: the tray is out; the guest does not allow that; what it has not been told yet (MMC-6 table 305). */
  ejected: boolean;
  locked: boolean;
  mediaEvent: number;
  /** Errors that wait for their command. */
  faults: Fault[];
  reads: number;
  writes: number;
  written: Written;
}

/** An error that a command will get. */
export interface Fault {
  sense: Sense;
  on: 'read' | 'write' | 'any';
  /** Only commands that touch these blocks. */
  first: number;
  last: number;
  /** How many more times. */
  count: number;
}

/** Errors by name, for people who want to see what the guest does. */
export const FAULTS = {
  'read-error': { sense: SENSE.readError, on: 'read' },
  'write-error': { sense: SENSE.writeError, on: 'write' },
  'hardware-error': { sense: SENSE.targetFailure, on: 'any' },
  'not-ready': { sense: SENSE.becomingReady, on: 'any' },
  'no-medium': { sense: SENSE.noMedium, on: 'any' },
  reset: { sense: SENSE.reset, on: 'any' },
} as const satisfies Record<DiskError, Pick<Fault, 'sense' | 'on'>>;

export const newUnit = (name: string): UnitState => ({
  name,
  lun: -1,
  readOnly: false,
  dvd: false,
  latency: 0,
  attentions: [],
  stopped: false,
  ejected: false,
  locked: false,
  mediaEvent: 0,
  faults: [],
  reads: 0,
  writes: 0,
  written: {},
});

/** DVD sectors (ECMA-267). */
export const DVD_SECTOR = 2048;

/** A unit while it executes commands: a view of its state and its disk. */
export class Unit {
  readonly state: UnitState;
  readonly disk: Disk;
  readonly medium: Medium;

  constructor(state: UnitState, disk: Disk) {
    this.state = state;
    this.disk = disk;
    this.medium = new Medium(disk, state.written);
  }

  get blockSize(): number {
    return this.state.dvd ? DVD_SECTOR : this.disk.sectorSize;
  }
  get blocks(): number {
    return Math.floor(this.disk.size / this.blockSize);
  }
  get writable(): boolean {
    return !this.state.readOnly && !this.state.dvd;
  }

  /** Takes the oldest unit attention condition. */
  takeAttention(): Sense | undefined {
    const code = this.state.attentions.shift();
    return code === undefined ? undefined : { key: KEY.unitAttention, asc: code >> 8, ascq: code & 0xff };
  }

  attend({ asc, ascq }: Sense): void {
    const code = (asc << 8) | ascq;
    if (!this.state.attentions.includes(code)) this.state.attentions.push(code);
  }

  /** Why the medium cannot be used now, if so. */
  get notReady(): Sense | undefined {
    const { stopped, ejected } = this.state;
    return ejected ? SENSE.noMedium : stopped ? SENSE.startNeeded : undefined;
  }

  /** The injected error that a command on these blocks gets, if any; it is used up by that. */
  fault(on: 'read' | 'write' | 'any', first: number, count: number): Sense | undefined {
    const { faults } = this.state;
    const hit = faults.find((f) => (f.on === 'any' || f.on === on) && first <= f.last && first + Math.max(count, 1) > f.first);
    if (!hit) return undefined;
    hit.count--;
    if (hit.count <= 0) faults.splice(faults.indexOf(hit), 1);
    return hit.sense.key === KEY.mediumError ? { ...hit.sense, information: Math.max(first, hit.first) } : hit.sense;
  }

  /** 16 bytes that name the unit: the image's own, else made from its name. */
  get id(): Uint8Array {
    return this.disk.id ?? idFromName(this.state.name);
  }
}
