/**
 * The log of a VHDX that was not closed in order: its writes are laid over the file, which itself stays as it is
 * ([MS-VHDX] 2.3.3, log replay).
 */
import { viewOf } from '../base/struct.ts';
import { ConfigError } from '../config.ts';
import { crc32c } from './crc32c.ts';
import { type ImageFile, structure } from './disk.ts';
import { type Header, LOG_SECTOR, LOG_SIGNATURE, LogData, LogDescriptor, LogEntry, MIB } from './vhdx-format.ts';

interface Entry {
  offset: number;
  header: ReturnType<typeof LogEntry.get>;
  bytes: Uint8Array;
}

/** Bytes of 4 KiB that the log says are at this place of the file. */
type Patches = Map<number, Uint8Array>;
/** Sectors that a log may write in all (1 GiB): it is there for tables, not for data. One that says more is damaged. */
const MAX_PATCHES = 2 ** 18;
/** All sectors of zeros are one: nobody writes them. */
const ZEROS = new Uint8Array(LOG_SECTOR);

/** The file as it is once the log has been written to it. */
export function replayLog(file: ImageFile, header: ReturnType<typeof Header.get>): ImageFile {
  const bad = (what: string): ConfigError => new ConfigError(`${file.name}: the VHDX log ${what}`);
  const { logLength } = header;
  if (header.logVersion !== 0) throw bad(`has version ${header.logVersion}, not 0`);
  if (logLength === 0 || logLength % MIB !== 0) throw bad(`is ${logLength} bytes long`);
  const log = structure(file, Number(header.logOffset), logLength, 'the VHDX log');
  const sequence = activeSequence(log, header.logGuid);
  // The header says there is a log to replay, and none of its entries is whole.
  if (!sequence) throw bad('is damaged: it has no valid sequence of entries');
  const { flushedFileOffset, lastFileOffset } = sequence[sequence.length - 1].header;
  if (Number(flushedFileOffset) > file.size)
    throw new ConfigError(
      `${file.name}: truncated: its log was written when it had ${flushedFileOffset} bytes, not ${file.size}`,
    );
  const patches: Patches = new Map();
  let written = 0;
  for (const entry of sequence) written += apply(entry, patches, MAX_PATCHES - written, bad);
  return patched(file, patches, Math.max(file.size, Number(lastFileOffset)));
}

/** A valid entry at `offset` of the log, which is a ring. */
function entryAt(log: Uint8Array, offset: number, logGuid: string): Entry | undefined {
  const ring = (at: number, length: number): Uint8Array => {
    const from = at % log.length;
    if (from + length <= log.length) return log.slice(from, from + length);
    const out = new Uint8Array(length);
    out.set(log.subarray(from));
    out.set(log.subarray(0, length - (log.length - from)), log.length - from);
    return out;
  };
  const header = LogEntry.get(viewOf(ring(offset, LogEntry.size)), 0);
  const { entryLength, tail, descriptorCount } = header;
  if (header.signature !== LOG_SIGNATURE.entry || header.logGuid !== logGuid || header.sequenceNumber === 0n) return undefined;
  if (entryLength === 0 || entryLength % LOG_SECTOR !== 0 || entryLength > log.length) return undefined;
  if (tail % LOG_SECTOR !== 0 || tail >= log.length || LogEntry.size + descriptorCount * LogDescriptor.size > entryLength)
    return undefined;
  const bytes = ring(offset, entryLength);
  return header.checksum === crc32c(bytes, LogEntry.field.checksum.offset) ? { offset, header, bytes } : undefined;
}

/** The valid sequence with the highest numbers: entries one behind the other, whose last one's tail is its first. */
function activeSequence(log: Uint8Array, logGuid: string): Entry[] | undefined {
  const known = new Map<number, Entry | undefined>();
  const at = (offset: number): Entry | undefined => {
    if (!known.has(offset)) known.set(offset, entryAt(log, offset, logGuid));
    return known.get(offset);
  };
  let best: Entry[] | undefined;
  for (let start = 0; start < log.length; start += LOG_SECTOR) {
    const first = at(start);
    if (!first) continue;
    const run = [first];
    let length = first.header.entryLength;
    for (;;) {
      const last = run[run.length - 1];
      const next = length < log.length ? at((last.offset + last.header.entryLength) % log.length) : undefined;
      if (!next || next.header.sequenceNumber !== last.header.sequenceNumber + 1n) break;
      run.push(next);
      length += next.header.entryLength;
    }
    const head = run[run.length - 1].header;
    const tail = run.findIndex((e) => e.offset === head.tail);
    if (tail < 0) continue;
    if (!best || head.sequenceNumber > best[best.length - 1].header.sequenceNumber) best = run.slice(tail);
  }
  return best;
}

/** Notes what an entry writes, at most so many sectors; how many they are. */
function apply(entry: Entry, patches: Patches, most: number, bad: (what: string) => ConfigError): number {
  const view = viewOf(entry.bytes);
  const { descriptorCount, sequenceNumber } = entry.header;
  // Data sectors follow the header and the descriptors, which take whole sectors together.
  let sector = Math.ceil((LogEntry.size + descriptorCount * LogDescriptor.size) / LOG_SECTOR) * LOG_SECTOR;
  let written = 0;
  for (let n = 0; n < descriptorCount; n++) {
    const at = LogEntry.size + n * LogDescriptor.size;
    const d = LogDescriptor.get(view, at);
    const offset = Number(d.fileOffset);
    if (d.sequenceNumber !== sequenceNumber || offset % LOG_SECTOR !== 0)
      throw bad(`has a damaged descriptor in entry ${sequenceNumber}`);
    if (d.signature === LOG_SIGNATURE.zero) {
      const sectors = Math.ceil(Number(d.leadingBytes) / LOG_SECTOR);
      if (sectors > MAX_PATCHES) throw bad(`zeroes ${d.leadingBytes} bytes in entry ${sequenceNumber}`);
      written += sectors;
      if (written > most) throw bad('is damaged: it says more than a log can');
      for (let i = 0; i < sectors; i++) patches.set(offset + i * LOG_SECTOR, ZEROS);
    } else if (d.signature === LOG_SIGNATURE.data) {
      if (sector + LOG_SECTOR > entry.bytes.length) throw bad(`has fewer data sectors than entry ${sequenceNumber} says`);
      const s = LogData.get(view, sector);
      const number = (BigInt(s.sequenceHigh) << 32n) | BigInt(s.sequenceLow);
      if (s.signature !== LOG_SIGNATURE.sector || number !== sequenceNumber)
        throw bad(`has a torn data sector in entry ${sequenceNumber}`);
      const data = new Uint8Array(LOG_SECTOR);
      viewOf(data).setBigUint64(0, d.leadingBytes, true);
      data.set(s.data, 8);
      data.set(d.trailingBytes, LOG_SECTOR - 4);
      patches.set(offset, data);
      sector += LOG_SECTOR;
      if (++written > most) throw bad('is damaged: it says more than a log can');
    } else throw bad(`has a descriptor of the unknown kind ${JSON.stringify(d.signature)}`);
  }
  return written;
}

/** The file with patches laid over it; what it has grown by is zeros. */
function patched(file: ImageFile, patches: Patches, size: number): ImageFile {
  return {
    name: file.name,
    size,
    read(offset, length) {
      const out = new Uint8Array(length);
      const there = Math.min(length, file.size - offset);
      if (there > 0) {
        const data = file.read(offset, there);
        if (!data) return undefined;
        out.set(data);
      }
      for (let at = offset - (offset % LOG_SECTOR); at < offset + length; at += LOG_SECTOR) {
        const patch = patches.get(at);
        if (!patch) continue;
        const from = Math.max(at, offset);
        const to = Math.min(at + LOG_SECTOR, offset + length);
        out.set(patch.subarray(from - at, to - at), from - offset);
      }
      return out;
    },
  };
}
