/** What only a DVD drive answers (MMC-6). The disc is a DVD-ROM with one session and one track. */
import { viewOf } from '../../../base/struct.ts';
import { allocated, type Command, type Outcome, type Request } from './command.ts';
import { SENSE } from './sense.ts';
import type { Unit } from './unit.ts';

const PROFILE_DVD_ROM = 0x0010;
const PROFILE_CD_ROM = 0x0008;
const LEAD_OUT = 0xaa;
/** ADR 1, control: data track (MMC-6 table 490). */
const DATA_TRACK = 0x14;

/** Features by code: version and flags byte, then the feature's own data (MMC-6 5.3). */
const FEATURES: readonly [code: number, flags: number, data: (unit: Unit) => number[]][] = [
  // Profile list: DVD-ROM, current with a disc in; CD-ROM.
  [0x0000, 0x03, ({ state }) => [0, PROFILE_DVD_ROM, state.ejected ? 0 : 1, 0, 0, PROFILE_CD_ROM, 0, 0]],
  // Core: SCSI family.
  [0x0001, 0x0b, () => [0, 0, 0, 1, 1, 0, 0, 0]],
  // Removable medium: tray, ejects, locks.
  [0x0003, 0x0b, () => [0x29, 0, 0, 0]],
  // Random readable: blocks of 2048 bytes, one at a time.
  [0x0010, 0x01, () => [0, 0, 8, 0, 0, 1, 0, 0]],
  // DVD read.
  [0x001f, 0x09, () => [0, 0, 0, 0]],
];

/** MMC-6 6.5. RT 0 and 1: from a feature on; 2: that one. */
function getConfiguration({ unit, cdb }: Request): Outcome {
  const one = (cdb.getUint8(1) & 3) === 2;
  const start = cdb.getUint16(2);
  const features = FEATURES.filter(([code]) => (one ? code === start : code >= start)).flatMap(([code, flags, data]) => {
    const body = data(unit);
    return [code >> 8, code & 0xff, flags, body.length, ...body];
  });
  const out = Uint8Array.from([0, 0, 0, 0, 0, 0, 0, unit.state.ejected ? 0 : PROFILE_DVD_ROM, ...features]);
  viewOf(out).setUint32(0, out.length - 4);
  return allocated(out, cdb.getUint16(7));
}

const MEDIA_CLASS = 4;

/** MMC-6 6.6: polled; media events only. */
function getEventStatus({ unit, cdb }: Request): Outcome {
  if (!(cdb.getUint8(1) & 1)) return SENSE.invalidField;
  const supported = 1 << MEDIA_CLASS;
  const asked = (cdb.getUint8(4) & supported) !== 0;
  const { state } = unit;
  const out = asked ? [0, 6, MEDIA_CLASS, supported, state.mediaEvent, state.ejected ? 1 : 2, 0, 0] : [0, 2, 0x80, supported];
  if (asked) state.mediaEvent = 0;
  return allocated(Uint8Array.from(out), cdb.getUint16(7));
}

/** Minutes, seconds, frames of 1/75 s, from two seconds on (MMC-6 annex). */
const msf = (lba: number): number[] => {
  const frames = lba + 150;
  return [0, Math.floor(frames / 4500) & 0xff, Math.floor(frames / 75) % 60, frames % 75];
};
const be32 = (n: number): number[] => [(n >>> 24) & 0xff, (n >>> 16) & 0xff, (n >>> 8) & 0xff, n & 0xff];

/** MMC-6 6.26: formats 0 (tracks) and 1 (sessions). */
function readToc({ unit, cdb }: Request): Outcome {
  const place = cdb.getUint8(1) & 2 ? msf : be32;
  const format = cdb.getUint8(2) & 0xf || cdb.getUint8(9) >> 6;
  const from = cdb.getUint8(6);
  if (format > 1 || (format === 0 && from > 1 && from !== LEAD_OUT)) return SENSE.invalidField;
  const track = (number: number, lba: number): number[] => [0, DATA_TRACK, number, 0, ...place(lba)];
  const rows = format === 1 ? track(1, 0) : [...(from <= 1 ? track(1, 0) : []), ...track(LEAD_OUT, unit.blocks)];
  return allocated(Uint8Array.from([0, rows.length + 2, 1, 1, ...rows]), cdb.getUint16(7));
}

/** MMC-6 6.22: a finished disc of one session with one track. */
function readDiscInformation({ cdb }: Request): Outcome {
  const out = new Uint8Array(34);
  viewOf(out).setUint16(0, out.length - 2);
  out.set([0x0e, 1, 1, 1, 1], 2);
  return allocated(out, cdb.getUint16(7));
}

/** MMC-6 6.27: the one track, from block 0 to the last. */
function readTrackInformation({ unit, cdb }: Request): Outcome {
  const out = new Uint8Array(36);
  const view = viewOf(out);
  view.setUint16(0, out.length - 2);
  // Track 1, session 1, recorded uninterrupted, data mode 1, last recorded address valid.
  out.set([1, 1, 0, 4, 1, 2], 2);
  view.setUint32(24, unit.blocks);
  view.setUint32(28, unit.blocks - 1);
  return allocated(out, cdb.getUint16(7));
}

/** MMC-6 6.10: no changer. */
const mechanismStatus = ({ cdb }: Request): Outcome => allocated(new Uint8Array(8), cdb.getUint16(8));

export const DVD_COMMANDS: readonly Command[] = [
  { opcode: 0x43, name: 'READ TOC', length: 10, run: readToc },
  { opcode: 0x46, name: 'GET CONFIGURATION', length: 10, always: true, run: getConfiguration },
  { opcode: 0x4a, name: 'GET EVENT STATUS NOTIFICATION', length: 10, always: true, run: getEventStatus },
  { opcode: 0x51, name: 'READ DISC INFORMATION', length: 10, run: readDiscInformation },
  { opcode: 0x52, name: 'READ TRACK INFORMATION', length: 10, run: readTrackInformation },
  { opcode: 0xbd, name: 'MECHANISM STATUS', length: 12, always: true, run: mechanismStatus },
];
