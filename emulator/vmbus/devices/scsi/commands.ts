/**
 * The SCSI commands, one row each (SPC-4, SBC-3, MMC-6). A command gets its unit, its CDB and the data that came with it, and
 * gives data or says in sense data why not. CDBs are big-endian.
 */
import { viewOf } from '../../../base/struct.ts';
import { allocated, type Command, GOOD, type Outcome, type Request } from './command.ts';
import { DVD_COMMANDS } from './dvd.ts';
import { MAX_UNMAP_BYTES, MAX_UNMAP_DESCRIPTORS, standardInquiry, vitalProductData } from './inquiry.ts';
import { modeSense } from './mode.ts';
import { fixedSense, SENSE, type Sense } from './sense.ts';
import type { Unit } from './unit.ts';

// --- where a command finds its blocks ------------------------------------------------------------------------------------------

interface Blocks {
  lba: number;
  count: number;
}
type Where = (cdb: DataView) => Blocks;

/** 0 stands for 256 (SBC-3 5.8). */
const at6: Where = (c) => ({ lba: c.getUint32(0) & 0x1f_ffff, count: c.getUint8(4) || 256 });
const at10: Where = (c) => ({ lba: c.getUint32(2), count: c.getUint16(7) });
const at12: Where = (c) => ({ lba: c.getUint32(2), count: c.getUint32(6) });
/** An address beyond 2^53 is beyond any disk too. */
const at16: Where = (c) => ({ lba: Number(c.getBigUint64(2)), count: c.getUint32(10) });

const inside = (unit: Unit, { lba, count }: Blocks): boolean => lba + count <= unit.blocks;
const outOfRange = (lba: number): Sense => ({ ...SENSE.lbaOutOfRange, information: lba });

// --- reading and writing --------------------------------------------------------------------------------------------------------

const read =
  (where: Where) =>
  ({ unit, cdb, room }: Request): Outcome => {
    const at = where(cdb);
    if (!inside(unit, at)) return outOfRange(at.lba);
    const fault = unit.fault('read', at.lba, at.count);
    if (fault) return fault;
    const wanted = at.count * unit.blockSize;
    const data = unit.medium.read(at.lba * unit.blockSize, Math.min(wanted, room));
    if (!data) return { ...SENSE.readError, information: at.lba };
    unit.state.reads++;
    return { data, more: wanted > room };
  };

const write =
  (where: Where) =>
  ({ unit, cdb, out }: Request): Outcome => {
    const at = where(cdb);
    if (!unit.writable) return SENSE.writeProtected;
    if (!inside(unit, at)) return outOfRange(at.lba);
    const length = at.count * unit.blockSize;
    if (out.length < length) return SENSE.invalidField;
    const fault = unit.fault('write', at.lba, at.count);
    if (fault) return fault;
    if (!unit.medium.write(at.lba * unit.blockSize, out.subarray(0, length))) return { ...SENSE.writeError, information: at.lba };
    unit.state.writes++;
    return GOOD;
  };

/** BYTCHK 0: the blocks are there. 1: they equal the data. 3: each equals the one block of data (SBC-3 5.29). */
const verify =
  (where: Where) =>
  ({ unit, cdb, out }: Request): Outcome => {
    const at = where(cdb);
    if (!inside(unit, at)) return outOfRange(at.lba);
    const check = (cdb.getUint8(1) >> 1) & 3;
    if (check === 0) return unit.fault('read', at.lba, at.count) ?? GOOD;
    if (check === 2) return SENSE.invalidField;
    const given = check === 3 ? unit.blockSize : at.count * unit.blockSize;
    // What is compared is bounded by what the guest sent, a repeated block by the same limit as WRITE SAME.
    if (out.length < given || at.count * unit.blockSize > MAX_UNMAP_BYTES) return SENSE.invalidField;
    const data = unit.medium.read(at.lba * unit.blockSize, at.count * unit.blockSize);
    if (!data) return { ...SENSE.readError, information: at.lba };
    return data.every((b, i) => b === out[i % given]) ? GOOD : SENSE.miscompare;
  };

const WRITE_SAME_UNMAP = 8;
const WRITE_SAME_NO_DATA = 1;

/** SBC-3 5.42 on: one block over and over; with UNMAP, zeros unmap. Count 0 means: to the end, which Linux never asks for. */
const writeSame =
  (where: Where, noData: boolean) =>
  ({ unit, cdb, out }: Request): Outcome => {
    const at = where(cdb);
    const flags = cdb.getUint8(1);
    if (!unit.writable) return SENSE.writeProtected;
    if (!inside(unit, at)) return outOfRange(at.lba);
    const length = at.count * unit.blockSize;
    if (at.count === 0 || length > MAX_UNMAP_BYTES) return SENSE.invalidField;
    const empty = noData && (flags & WRITE_SAME_NO_DATA) !== 0;
    if (!empty && out.length < unit.blockSize) return SENSE.invalidField;
    const fault = unit.fault('write', at.lba, at.count);
    if (fault) return fault;
    const block = out.subarray(0, unit.blockSize);
    const zeros = empty || (flags & WRITE_SAME_UNMAP) !== 0 || block.every((b) => b === 0);
    const start = at.lba * unit.blockSize;
    const ok = zeros ? unit.medium.zero(start, length) : unit.medium.fill(start, length, block);
    unit.state.writes++;
    return ok ? GOOD : { ...SENSE.writeError, information: at.lba };
  };

/** SBC-3 5.28: a header of 8 bytes, then descriptors of 16. All are checked before any is done. */
function unmap({ unit, out }: Request): Outcome {
  if (!unit.writable) return SENSE.writeProtected;
  if (out.length === 0) return GOOD;
  const view = viewOf(out);
  if (out.length < 8) return SENSE.parameterListLength;
  const count = Math.floor(Math.min(view.getUint16(2), out.length - 8) / 16);
  if (count > MAX_UNMAP_DESCRIPTORS) return SENSE.invalidParameter;
  const ranges = Array.from({ length: count }, (_, n) => ({
    lba: Number(view.getBigUint64(8 + 16 * n)),
    count: view.getUint32(16 + 16 * n),
  }));
  if (ranges.reduce((sum, r) => sum + r.count, 0) * unit.blockSize > MAX_UNMAP_BYTES) return SENSE.invalidParameter;
  const wrong = ranges.find((r) => !inside(unit, r));
  if (wrong) return outOfRange(wrong.lba);
  for (const r of ranges)
    if (!unit.medium.zero(r.lba * unit.blockSize, r.count * unit.blockSize)) return { ...SENSE.writeError, information: r.lba };
  unit.state.writes++;
  return GOOD;
}

// --- what a unit says about itself ---------------------------------------------------------------------------------------------

function inquiry({ unit, cdb }: Request): Outcome {
  const vital = (cdb.getUint8(1) & 1) !== 0;
  const page = cdb.getUint8(2);
  if (!vital && page !== 0) return SENSE.invalidField;
  const data = vital ? vitalProductData(unit, page) : standardInquiry(unit);
  return data ? allocated(data, cdb.getUint16(3)) : SENSE.invalidField;
}

/** SBC-3 5.15: the last block; all ones when it takes more than 32 bits. */
function readCapacity10({ unit }: Request): Outcome {
  const data = new Uint8Array(8);
  viewOf(data).setUint32(0, Math.min(unit.blocks - 1, 0xffff_ffff));
  viewOf(data).setUint32(4, unit.blockSize);
  return { data };
}

/** SBC-3 5.16. */
function readCapacity16({ unit, cdb }: Request): Outcome {
  const data = new Uint8Array(32);
  const view = viewOf(data);
  view.setBigUint64(0, BigInt(unit.blocks - 1));
  view.setUint32(8, unit.blockSize);
  data[13] = Math.log2(unit.disk.physicalSectorSize / unit.blockSize);
  // Logical block provisioning is managed, and unmapped blocks read as zeros.
  if (unit.writable) data[14] = 0xc0;
  return allocated(data, cdb.getUint32(10));
}

const mode =
  (ten: boolean) =>
  ({ unit, cdb }: Request): Outcome => {
    const data = modeSense(unit, cdb, ten);
    return 'key' in data ? data : allocated(data, ten ? cdb.getUint16(7) : cdb.getUint8(4));
  };

/** SPC-4 6.37: what the next command would be told. */
function requestSense({ unit, cdb }: Request): Outcome {
  return allocated(fixedSense(unit.takeAttention() ?? unit.notReady ?? SENSE.none), cdb.getUint8(4));
}

const START = 1;
const LOAD_EJECT = 2;

/** SBC-3 5.25, MMC-6 6.42. */
function startStop({ unit, cdb }: Request): Outcome {
  const { state } = unit;
  const flags = cdb.getUint8(4);
  if (!(flags & LOAD_EJECT)) state.stopped = !(flags & START);
  else if (!state.dvd) return SENSE.invalidField;
  else if (flags & START) {
    if (state.ejected) unit.attend(SENSE.mediumChanged);
    Object.assign(state, { ejected: false, mediaEvent: state.ejected ? 2 : state.mediaEvent });
  } else if (state.locked) return SENSE.removalPrevented;
  else Object.assign(state, { ejected: true, mediaEvent: state.ejected ? state.mediaEvent : 3 });
  return GOOD;
}

function preventRemoval({ unit, cdb }: Request): Outcome {
  if (unit.state.dvd) unit.state.locked = (cdb.getUint8(4) & 1) !== 0;
  return GOOD;
}

const nothing = (): Outcome => GOOD;

/** Commands of every unit. */
const COMMON: readonly Command[] = [
  { opcode: 0x00, name: 'TEST UNIT READY', length: 6, run: ({ unit }) => unit.fault('any', 0, unit.blocks) ?? GOOD },
  { opcode: 0x03, name: 'REQUEST SENSE', length: 6, always: true, run: requestSense },
  { opcode: 0x08, name: 'READ(6)', length: 6, run: read(at6) },
  { opcode: 0x12, name: 'INQUIRY', length: 6, always: true, run: inquiry },
  { opcode: 0x1a, name: 'MODE SENSE(6)', length: 6, always: true, run: mode(false) },
  { opcode: 0x1b, name: 'START STOP UNIT', length: 6, always: true, run: startStop },
  { opcode: 0x1d, name: 'SEND DIAGNOSTIC', length: 6, run: nothing },
  { opcode: 0x1e, name: 'PREVENT ALLOW MEDIUM REMOVAL', length: 6, always: true, run: preventRemoval },
  { opcode: 0x25, name: 'READ CAPACITY(10)', length: 10, run: readCapacity10 },
  { opcode: 0x28, name: 'READ(10)', length: 10, run: read(at10) },
  { opcode: 0x2b, name: 'SEEK(10)', length: 10, run: nothing },
  { opcode: 0x2f, name: 'VERIFY(10)', length: 10, run: verify(at10) },
  { opcode: 0x5a, name: 'MODE SENSE(10)', length: 10, always: true, run: mode(true) },
  { opcode: 0xa8, name: 'READ(12)', length: 12, run: read(at12) },
];

/** Commands of disks. */
const DISK: readonly Command[] = [
  { opcode: 0x0a, name: 'WRITE(6)', length: 6, run: write(at6) },
  { opcode: 0x2a, name: 'WRITE(10)', length: 10, run: write(at10) },
  { opcode: 0x2e, name: 'WRITE AND VERIFY(10)', length: 10, run: write(at10) },
  { opcode: 0x35, name: 'SYNCHRONIZE CACHE(10)', length: 10, run: nothing },
  { opcode: 0x41, name: 'WRITE SAME(10)', length: 10, run: writeSame(at10, false) },
  { opcode: 0x42, name: 'UNMAP', length: 10, run: unmap },
  { opcode: 0x88, name: 'READ(16)', length: 16, run: read(at16) },
  { opcode: 0x8a, name: 'WRITE(16)', length: 16, run: write(at16) },
  { opcode: 0x8e, name: 'WRITE AND VERIFY(16)', length: 16, run: write(at16) },
  { opcode: 0x8f, name: 'VERIFY(16)', length: 16, run: verify(at16) },
  { opcode: 0x91, name: 'SYNCHRONIZE CACHE(16)', length: 16, run: nothing },
  { opcode: 0x93, name: 'WRITE SAME(16)', length: 16, run: writeSame(at16, true) },
  { opcode: 0x9e, name: 'READ CAPACITY(16)', length: 16, service: 0x10, run: readCapacity16 },
  { opcode: 0xaa, name: 'WRITE(12)', length: 12, run: write(at12) },
  { opcode: 0xae, name: 'WRITE AND VERIFY(12)', length: 12, run: write(at12) },
  { opcode: 0xaf, name: 'VERIFY(12)', length: 12, run: verify(at12) },
];

const byOpcode = (rows: readonly Command[]): ReadonlyMap<number, Command> => new Map(rows.map((c) => [c.opcode, c]));
const DISK_TABLE = byOpcode([...COMMON, ...DISK]);
const DVD_TABLE = byOpcode([...COMMON, ...DVD_COMMANDS]);

export const commandOf = (opcode: number, dvd: boolean): Command | undefined => (dvd ? DVD_TABLE : DISK_TABLE).get(opcode);
/** Name of an opcode, whoever has it; for traces. REPORT LUNS is the controller's. */
export const commandName = (opcode: number): string =>
  (DISK_TABLE.get(opcode) ?? DVD_TABLE.get(opcode))?.name ??
  (opcode === REPORT_LUNS ? 'REPORT LUNS' : `command 0x${opcode.toString(16)}`);
export const INQUIRY = 0x12;
export const REPORT_LUNS = 0xa0;
/** Commands whose answer Linux takes for good whatever the status (reference §9.1). */
export const NEVER_FAIL: readonly number[] = [INQUIRY, 0x1a, 0x5a];

/** Executes one command on a unit. `cdbLength`: bytes of the CDB that the guest says are there. */
export function execute(request: Request, cdbLength: number): Outcome {
  const { unit, cdb } = request;
  const command = commandOf(cdb.getUint8(0), unit.state.dvd);
  const known = command && (command.service === undefined || (cdb.getUint8(1) & 0x1f) === command.service);
  if (!command?.always) {
    const attention = unit.takeAttention();
    if (attention) return attention;
  }
  if (!known) return SENSE.invalidOpcode;
  if (cdbLength < command.length) return SENSE.invalidField;
  if (!command.always && unit.notReady) return unit.notReady;
  return command.run(request);
}
