/**
 * The kernel's log as it is in memory (kernel/printk/printk_ringbuffer.c, since 5.10): a ring of descriptors, one printk_info for each, and a
 * ring of text. The layout comes from the kernel's types; 7.x has added to it, and changed nothing.
 */
import { isKernelAddress, type KernelObjects } from './objects.ts';
import { ringBuffers } from './variables.ts';

export interface LogRecord {
  /** Running number of the record. */
  seq: bigint;
  /** Nanoseconds since boot. */
  time: bigint;
  /** 0 (emergency) to 7 (debug). */
  level: number;
  text: string;
  /** Who printed it: a task's pid, or a CPU where no task ran. */
  caller: { pid: number } | { cpu: number };
  /** Name of the task, where the kernel keeps it (CONFIG_PRINTK_EXECUTION_CTX). */
  comm?: string;
  /** `+subsystem:name` of the device that the message is about. */
  device?: string;
  subsystem?: string;
  /** The text is not all there: why. */
  incomplete?: string;
}

export interface KernelLog {
  records: LogRecord[];
  /** Records that the ring no longer has. */
  lost: bigint;
}

/** include/linux/kern_levels.h, in words. */
export const LEVELS = ['emergency', 'alert', 'critical', 'error', 'warning', 'notice', 'info', 'debug'] as const;

/** state_var: bits 63:62 are the state, the rest is the id (kernel/printk/printk_ringbuffer.h). */
const ID_MASK = (1n << 62n) - 1n;
const STATE = { reserved: 0n, committed: 1n, finalized: 2n, reusable: 3n };
/** An lpos with this bit has no text: it was empty, or there was no room. */
const NO_DATA = 1n;
/** An lpos of a record without room for its text (FAILED_LPOS); 3 is that of an empty line. */
const FAILED_LPOS = 1n;
/** Every block of text starts with the id of its descriptor. */
const BLOCK_ID = 8n;
/** printk_caller_id: this bit, and the number of the CPU; otherwise a pid. */
const CALLER_CPU = 0x8000_0000n;

/** Records that are read, at most: the newest. */
const MAX_RECORDS = 20_000;
const MAX_RING_BITS = 31n;

/** The kernel's log. Undefined when no ring buffer is found: the kernel has not begun, or is too old. `last`: that many of the newest. */
export function readLog(objects: KernelObjects, last = MAX_RECORDS): KernelLog | undefined {
  const logs = ringBuffers(objects).flatMap((at) => readRing(objects, at, Math.min(last, MAX_RECORDS)) ?? []);
  const newest = (log: KernelLog): bigint => log.records.at(-1)?.seq ?? -1n;
  return logs.sort((a, b) => Number(newest(b) - newest(a)))[0];
}

function readRing(objects: KernelObjects, at: bigint, last: number): KernelLog | undefined {
  const ring = (path: string): bigint | undefined => objects.number(at, 'printk_ringbuffer', path);
  const countBits = ring('desc_ring.count_bits');
  const sizeBits = ring('text_data_ring.size_bits');
  const [descs, infos, data] = ['desc_ring.descs', 'desc_ring.infos', 'text_data_ring.data'].map(ring);
  const head = ring('desc_ring.head_id');
  const tail = ring('desc_ring.tail_id');
  const descSize = objects.size('prb_desc');
  const infoSize = objects.size('printk_info');
  if (!isKernelAddress(descs) || !isKernelAddress(infos) || !isKernelAddress(data) || !descSize || !infoSize) return undefined;
  if (countBits === undefined || sizeBits === undefined || countBits > MAX_RING_BITS || sizeBits > MAX_RING_BITS)
    return undefined;
  if (head === undefined || tail === undefined) return undefined;
  const count = 1n << countBits;
  const used = ((head - tail) & ID_MASK) + 1n;
  if (used > count) return undefined;
  const records: LogRecord[] = [];
  const skipped = used > BigInt(last) ? used - BigInt(last) : 0n;
  let first: bigint | undefined;
  for (let i = skipped; i < used; i++) {
    const id = (tail + i) & ID_MASK;
    const slot = id & (count - 1n);
    const desc = descs + slot * BigInt(descSize);
    const state = objects.number(desc, 'prb_desc', 'state_var');
    // A record that is being written, or is none.
    if (state === undefined || (state & ID_MASK) !== id) continue;
    if (state >> 62n !== STATE.finalized && state >> 62n !== STATE.committed) continue;
    const record = readRecord(objects, { desc, info: infos + slot * BigInt(infoSize), data, sizeBits, id });
    if (!record) continue;
    first ??= record.seq;
    records.push(record);
  }
  return { records, lost: first === undefined || first < skipped ? 0n : first - skipped };
}

interface Place {
  desc: bigint;
  info: bigint;
  data: bigint;
  sizeBits: bigint;
  id: bigint;
}

function readRecord(objects: KernelObjects, place: Place): LogRecord | undefined {
  const { info } = place;
  const number = (name: string): bigint => objects.number(info, 'printk_info', name) ?? 0n;
  const seq = objects.number(info, 'printk_info', 'seq');
  if (seq === undefined) return undefined;
  const caller = number('caller_id');
  const comm = objects.text(info, 'printk_info', 'comm');
  const subsystem = objects.text(info, 'printk_info', 'dev_info.subsystem');
  const device = objects.text(info, 'printk_info', 'dev_info.device');
  return {
    seq,
    time: number('ts_nsec'),
    level: Number(number('level')),
    ...readText(objects, place, Number(number('text_len'))),
    caller: caller & CALLER_CPU ? { cpu: Number(caller & ~CALLER_CPU) } : { pid: Number(caller) },
    ...(comm ? { comm } : {}),
    ...(subsystem ? { subsystem } : {}),
    ...(device ? { device } : {}),
  };
}

/** The text of a record: it lies in the ring in one piece, at the start of it when it would not have fitted at the end. */
function readText(objects: KernelObjects, place: Place, length: number): Pick<LogRecord, 'text' | 'incomplete'> {
  const { desc, data, sizeBits, id } = place;
  const begin = objects.number(desc, 'prb_desc', 'text_blk_lpos.begin');
  const next = objects.number(desc, 'prb_desc', 'text_blk_lpos.next');
  if (begin === undefined || next === undefined) return { text: '', incomplete: 'its descriptor cannot be read' };
  if (begin & NO_DATA)
    return begin === FAILED_LPOS && length > 0 ? { text: '', incomplete: 'the ring had no room for its text' } : { text: '' };
  const size = 1n << sizeBits;
  const index = (lpos: bigint): bigint => lpos & (size - 1n);
  // Up to the end of the ring belongs to the same turn: so since 6.19; before, such a block was wrapped.
  const wrapped = begin >> sizeBits !== BigInt.asUintN(64, next - 1n) >> sizeBits;
  const start = wrapped ? 0n : index(begin);
  const end = wrapped ? index(next) : start + BigInt.asUintN(64, next - begin);
  const room = end - start - BLOCK_ID;
  if (room < 0n || end > size) return { text: '', incomplete: 'its place in the ring makes no sense' };
  // Text is written over from its start, which then has another id.
  if (objects.u64(data + start) !== id) return { text: '', incomplete: 'its text has been overwritten' };
  const taken = Math.min(length, Number(room));
  const bytes = taken > 0 ? objects.read(data + start + BLOCK_ID, taken) : new Uint8Array();
  if (!bytes) return { text: '', incomplete: 'its text cannot be read' };
  const text = Buffer.from(bytes).toString('utf8');
  return taken < length ? { text, incomplete: `${length - taken} bytes of it did not fit` } : { text };
}

/** The time of a record as the kernel's console has it: `[    1.234567]`. */
export function timeText(time: bigint): string {
  const us = time / 1000n;
  return `[${String(us / 1_000_000n).padStart(5)}.${String(us % 1_000_000n).padStart(6, '0')}]`;
}

/** `pid 1`, `pid 1 (init)`, `CPU 0`. */
export function callerText(record: LogRecord): string {
  const who = 'cpu' in record.caller ? `CPU ${record.caller.cpu}` : `pid ${record.caller.pid}`;
  return record.comm ? `${who} (${record.comm})` : who;
}
