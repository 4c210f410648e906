/**
 * Trace events as a file: JSON lines, one event each; or the Trace Event Format that Chrome's tracing and Perfetto read ("Trace Event
 * Format", JSON object form), where VPs, channels and devices are threads of one process and hypercalls are slices.
 */
import fs from 'node:fs';
import type { Machine, TraceEvent } from '../emulator/index.ts';
import { describeTraceEvent } from './describe.ts';
import type { Symbolizer } from './symbols/symbolizer.ts';

/** A value as JSON: what a number cannot hold is `0x...`, bytes are hexadecimal. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint')
    return value >= 0n && value <= BigInt(Number.MAX_SAFE_INTEGER)
      ? Number(value)
      : `0x${BigInt.asUintN(64, value).toString(16)}`;
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  return value;
}

const address = (value: bigint): string => `0x${value.toString(16)}`;

/** An event with when (virtual ns) and where: the VP that ran and its PC, if the event has not its own. */
export function traceRecord(event: TraceEvent, machine: Machine): Record<string, unknown> {
  const { kind, ...facts } = event;
  const own = facts as { vp?: number; pc?: bigint };
  const vp = own.vp ?? machine.activeVp;
  const pc = own.pc ?? machine.readRegister(machine.activeVp, 'pc') ?? 0n;
  return { time: machine.now, kind, ...(plain(facts) as object), vp, pc: address(pc) };
}

/** The line of the timeline that an event is on: a name. */
function track(event: TraceEvent, vp: number): string {
  switch (event.kind) {
    case 'channel':
    case 'packet':
      return `channel ${event.relid} ${event.device}`;
    case 'message':
    case 'signal':
      return 'VMBus';
    case 'frame':
      return 'network';
    case 'mmio':
      return event.device;
    case 'service':
      return event.service;
    case 'guest':
      return event.part;
    default:
      return `VP ${vp}`;
  }
}

/** What an event is called on the timeline. */
function title(event: TraceEvent): string {
  if (event.kind === 'timer') return `${event.timer} ${event.what}`;
  if ('name' in event) return event.name;
  if ('what' in event) return event.what;
  switch (event.kind) {
    case 'interrupt':
      return `INTID ${event.intid}`;
    case 'fault':
      return event.exception;
    case 'signal':
      return `signal ${event.direction === 'guest-to-host' ? 'from' : 'to'} the guest, relid ${event.flag}`;
    case 'mmio':
      return `${event.access} ${address(BigInt(event.gpa))}`;
    case 'undefined':
      return event.text;
    case 'service':
    case 'guest':
      return event.message;
    default:
      return event.kind;
  }
}

export interface TraceFile {
  write(event: TraceEvent): void;
  /** Finishes the file. */
  close(): void;
}

/** Bytes kept before they are written. */
const CHUNK = 1 << 20;

/** A file that ends in .json is for a timeline viewer, any other has JSON lines. Throws what `fs.openSync` does. */
export function openTraceFile(path: string, machine: () => Machine, symbols: () => Symbolizer): TraceFile {
  const fd = fs.openSync(path, 'w');
  let pending: string[] = [];
  let size = 0;
  const flush = (): void => {
    fs.writeSync(fd, pending.join(''));
    pending = [];
    size = 0;
  };
  const put = (text: string): void => {
    pending.push(text);
    size += text.length;
    if (size > CHUNK) flush();
  };
  const close = (end: string): void => {
    put(end);
    flush();
    fs.closeSync(fd);
  };
  if (!path.endsWith('.json'))
    return { write: (event) => put(`${JSON.stringify(traceRecord(event, machine()))}\n`), close: () => close('') };

  const tracks = new Map<string, number>();
  let separator = '';
  const entry = (fields: object): void => {
    put(`${separator}${JSON.stringify(fields)}`);
    separator = ',\n';
  };
  put('{"displayTimeUnit":"ns","traceEvents":[\n');
  entry({ ph: 'M', name: 'process_name', pid: 1, args: { name: 'Hyper-V guest' } });
  return {
    write: (event) => {
      const record = traceRecord(event, machine());
      const name = track(event, record.vp as number);
      let tid = tracks.get(name);
      if (tid === undefined) {
        tid = tracks.size + 1;
        tracks.set(name, tid);
        entry({ ph: 'M', name: 'thread_name', pid: 1, tid, args: { name } });
      }
      const text = describeTraceEvent(event, machine().now, symbols());
      // Microseconds. Nothing lasts in virtual time but what the guest executes: events are instants of their track.
      const ts = (record.time as number) / 1000;
      entry({ ph: 'i', s: 't', name: title(event), cat: event.kind, ts, pid: 1, tid, args: { ...record, text } });
    },
    close: () => close('\n]}\n'),
  };
}
