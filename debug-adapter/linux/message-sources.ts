/**
 * Which code printed a message of the kernel's log. No kernel keeps that (but those with CONFIG_PRINTK_INDEX keep their formats): it is found
 * by looking for the calls of printk and its relatives whose format the text fits.
 */
import { viewOf } from '../../emulator/base/struct.ts';
import { imageHeader } from '../symbols/kernel-image.ts';
import type { GuestKernel } from './kernel.ts';
import type { KernelObjects } from './objects.ts';
import type { LogRecord } from './printk.ts';

/** How a function prints: which argument is its format, and what comes before it. */
interface Printer {
  argument: number;
  /** `device`: driver and name of a device come first. Otherwise the text itself. */
  before: 'device' | string;
}

const plainly = (argument: number, before = ''): Printer => ({ argument, before });
const aboutDevice = (argument: number): Printer => ({ argument, before: 'device' });

/** include/linux/printk.h, dev_printk.h, netdevice.h, kernel/panic.c, lib/dynamic_debug.c. */
const PRINTERS: Readonly<Record<string, Printer>> = {
  _printk: plainly(0),
  printk: plainly(0),
  _printk_deferred: plainly(0),
  __warn_printk: plainly(0),
  panic: plainly(0, 'Kernel panic - not syncing: '),
  __dynamic_pr_debug: plainly(1),
  ...Object.fromEntries(
    ['emerg', 'alert', 'crit', 'err', 'warn', 'notice', 'info'].flatMap((level) => [
      [`_dev_${level}`, aboutDevice(1)],
      [`netdev_${level}`, aboutDevice(1)],
    ]),
  ),
  _dev_printk: aboutDevice(2),
  dev_printk_emit: plainly(2),
  netdev_printk: aboutDevice(2),
  dev_err_probe: aboutDevice(2),
  __dynamic_dev_dbg: aboutDevice(2),
  __dynamic_netdev_dbg: aboutDevice(2),
};

/** A call that prints. */
interface Call {
  address: bigint;
  /** The instruction, to see whether it is still there. */
  word: number;
  printer: Printer;
  /** Literal pieces of the format; anything may stand between two. */
  pieces: readonly string[];
  /** Characters of them. */
  weight: number;
  /** Level that the format itself gives. */
  level?: number;
  /** More may follow in the same record (the format does not end a line). */
  open: boolean;
}

/** Instructions before a call that are looked at for what sets its argument. */
const BACK = 64;
const MAX_FORMAT = 1024;
const MAX_CALLS = 200_000;
/** Fewer literal characters than this say nothing about who printed. */
const LEAST_WEIGHT = 5;
/** Calls with the same format are told together, at most so many. */
const MAX_PLACES = 8;
/** Characters that calls are looked up by. */
const KEY = 4;

const CONVERSION = /%(?:%|[-+ #0]*(?:\d+|\*)?(?:\.(?:\d+|\*)?)?(?:hh?|ll?|[LzjtqZ])?(?:p[A-Za-z0-9]*|[diouxXcsnaefgAEFG]))/g;

/** A format (include/linux/kern_levels.h: SOH and a level may come first). Undefined for one that only continues a line. */
export function parseFormat(format: string): Pick<Call, 'pieces' | 'weight' | 'level' | 'open'> | undefined {
  let text = format;
  let level: number | undefined;
  while (text.charCodeAt(0) === 1 && text.length > 1) {
    if (text[1] === 'c') return undefined;
    if (/[0-7]/.test(text[1])) level = Number(text[1]);
    text = text.slice(2);
  }
  const open = !text.endsWith('\n');
  if (!open) text = text.slice(0, -1);
  const pieces = [''];
  let at = 0;
  for (const m of text.matchAll(CONVERSION)) {
    pieces[pieces.length - 1] += text.slice(at, m.index);
    at = (m.index ?? 0) + m[0].length;
    if (m[0] === '%%') pieces[pieces.length - 1] += '%';
    else pieces.push('');
  }
  pieces[pieces.length - 1] += text.slice(at);
  const weight = pieces.join('').replace(/\s/g, '').length;
  return { pieces, weight, open, ...(level === undefined ? {} : { level }) };
}

/** Whether `text` is what a format with these pieces makes, as far as the pieces tell; `open`: more may follow. Linear in the text. */
export function fits(text: string, pieces: readonly string[], open: boolean): boolean {
  const [first, ...rest] = pieces;
  if (!text.startsWith(first)) return false;
  if (rest.length === 0) return open || text.length === first.length;
  let at = first.length;
  for (const piece of rest.slice(0, -1)) {
    const found = text.indexOf(piece, at);
    if (found < 0) return false;
    at = found + piece.length;
  }
  const last = rest[rest.length - 1];
  return open ? text.indexOf(last, at) >= 0 : text.length - last.length >= at && text.endsWith(last);
}

/** Code and the memory that its addresses mean. */
interface Region {
  base: bigint;
  code: Uint8Array;
  /** Text at an address. */
  string(address: bigint): string | undefined;
  /** Of a module, which may reach the kernel by veneers of its own. */
  module?: true;
}

/** Target of B or BL (Arm ARM C6.2.26, C6.2.34). */
const branchTarget = (word: number, address: bigint): bigint | undefined =>
  (word & 0x7c000000) >>> 0 === 0x14000000 ? BigInt.asUintN(64, address + BigInt(((word << 6) >> 6) * 4)) : undefined;

/** Immediate of ADR and ADRP: immhi:immlo (Arm ARM C6.2.10). */
const adrImmediate = (word: number): number => ((((word >>> 5) & 0x7ffff) << 13) >> 11) | ((word >>> 29) & 3);

/** False for stores and conditional branches (Arm ARM C4.1): what is in bits 4:0 is not a register that they write. */
const writesFirst = (word: number): boolean =>
  !(
    word >>> 24 === 0x54 ||
    ((word >>> 25) & 0x3f) === 0x1a ||
    ((word >>> 25) & 0x3f) === 0x1b ||
    ((word & 0x3a000000) === 0x38000000 && (word & 0x00c00000) === 0) ||
    ((word & 0x3a000000) === 0x28000000 && (word & 0x00400000) === 0)
  );

/** The address that register `wanted` has at word `at`, where it was put together by ADRP and ADD. */
function addressIn(view: DataView, base: bigint, at: number, wanted: number): bigint | undefined {
  let register = wanted;
  let add = 0n;
  let added = false;
  for (let i = at - 1; i >= 0 && i >= at - BACK; i--) {
    const word = view.getUint32(4 * i, true);
    const pc = base + BigInt(4 * i);
    // B, BR, RET: code before it does not come here. BL leaves only x19 and on as they were.
    if (word >>> 26 === 5 || (word & 0xffdffc1f) >>> 0 === 0xd61f0000 || (word & 0xfffffc1f) >>> 0 === 0xd65f0000)
      return undefined;
    if ((word >>> 26 === 0x25 || (word & 0xfffffc1f) >>> 0 === 0xd63f0000) && register < 19) return undefined;
    if ((word & 31) !== register || !writesFirst(word)) continue;
    // ADD Xd, Xn, #imm12
    if ((word & 0xffc00000) >>> 0 === 0x91000000) {
      add += BigInt((word >>> 10) & 0xfff);
      register = (word >>> 5) & 31;
      if (added) return undefined;
      added = true;
    } else if ((word & 0x9f000000) >>> 0 === 0x90000000)
      return BigInt.asUintN(64, (pc & ~0xfffn) + BigInt(adrImmediate(word)) * 4096n + add);
    else if ((word & 0x9f000000) >>> 0 === 0x10000000) return BigInt.asUintN(64, pc + BigInt(adrImmediate(word)) + add);
    // MOV Xd, Xm
    else if ((word & 0xffe0ffe0) >>> 0 === 0xaa0003e0) register = (word >>> 16) & 31;
    else return undefined;
  }
  return undefined;
}

/** Where a veneer of a module leads: ADRP x16; ADD x16, x16, #imm; BR x16 (arch/arm64/kernel/module-plts.c). */
function veneerTarget(view: DataView, base: bigint, at: bigint): bigint | undefined {
  const o = Number(at - base);
  if (o < 0 || o + 12 > view.byteLength || o % 4 !== 0) return undefined;
  // A landing pad (BTI) may come first.
  const first = view.getUint32(o, true) === 0xd503245f ? o + 4 : o;
  if (first + 12 > view.byteLength) return undefined;
  if (view.getUint32(first + 8, true) !== 0xd61f0200) return undefined;
  return addressIn(view, base, first / 4 + 2, 16);
}

/** Calls that print, in a piece of code. */
function* callsIn(region: Region, printers: ReadonlyMap<bigint, Printer>): Generator<Call> {
  const { base, code } = region;
  const view = viewOf(code);
  const veneers = new Map<bigint, bigint | undefined>();
  const end = base + BigInt(code.length);
  // Branches to known targets only: numbers are compared, no bigint is made for the millions of others.
  const near = new Map<number, Printer>();
  for (const [address, printer] of printers) near.set(Number(address - base) / 4, printer);
  for (let i = 0; 4 * i + 4 <= code.length; i++) {
    const word = view.getUint32(4 * i, true);
    if ((word & 0x7c000000) >>> 0 !== 0x14000000) continue;
    let printer = near.get(i + ((word << 6) >> 6));
    const address = base + BigInt(4 * i);
    if (!printer && region.module) {
      const to = branchTarget(word, address) ?? 0n;
      if (to >= base && to < end) {
        if (!veneers.has(to)) veneers.set(to, veneerTarget(view, base, to));
        printer = printers.get(veneers.get(to) ?? 0n);
      }
    }
    if (!printer) continue;
    const format = addressIn(view, base, i, printer.argument);
    const text = format === undefined ? undefined : region.string(format);
    const parsed = text === undefined ? undefined : parseFormat(text);
    if (parsed) yield { address, word, printer, ...parsed };
  }
}
const MAX_MODULE = 64 << 20;
const PAGE = 4096;

export interface MessageSource {
  /** Addresses of calls with a format that the text fits best. */
  places: bigint[];
  /** There are more of them. */
  more: boolean;
  /** The code is no longer in memory: it was needed for start-up only. */
  gone: boolean;
}

export class MessageSources {
  readonly #kernel: GuestKernel;
  #kernelCalls: Call[] | undefined;
  readonly #moduleCalls = new Map<string, Call[]>();
  #index = new Map<string, Call[]>();
  #indexed: unknown;

  constructor(kernel: GuestKernel) {
    this.#kernel = kernel;
  }

  #printers(): Map<bigint, Printer> {
    const out = new Map<bigint, Printer>();
    for (const [name, printer] of Object.entries(PRINTERS)) {
      const address = this.#kernel.symbols.address(name);
      if (address !== undefined) out.set(address, printer);
    }
    return out;
  }

  /** Calls of the kernel itself: out of its file, which has the code that is only there at the start, too. */
  #ofKernel(printers: ReadonlyMap<bigint, Printer>): Call[] {
    const { image, facts } = this.#kernel;
    if (!image) return [];
    const pristine = imageHeader(facts.bytes) ? { bytes: facts.bytes, base: image.base } : this.#kernel.imageMemory();
    if (!pristine) return [];
    const { bytes, base } = pristine;
    const string = (address: bigint): string | undefined => {
      const o = Number(address - base);
      if (o < 0 || o >= bytes.length) return undefined;
      const end = bytes.indexOf(0, o);
      return end < 0 || end - o > MAX_FORMAT ? undefined : Buffer.from(bytes.subarray(o, end)).toString('utf8');
    };
    const limit = (name: string): bigint | undefined => this.#kernel.symbols.address(name);
    const out: Call[] = [];
    for (const [from, to] of [
      [limit('_stext'), limit('_etext')],
      [limit('_sinittext'), limit('_einittext')],
    ]) {
      if (from === undefined || to === undefined || from < base || to <= from || to > base + BigInt(bytes.length)) continue;
      const code = bytes.subarray(Number(from - base), Number(to - base));
      for (const call of callsIn({ base: from, code, string }, printers)) if (out.push(call) >= MAX_CALLS) return out;
    }
    return out;
  }

  #ofModule(objects: KernelObjects, module: { base: bigint; size: number }, printers: ReadonlyMap<bigint, Printer>): Call[] {
    const size = Math.min(module.size, MAX_MODULE);
    const code = new Uint8Array(size);
    for (let o = 0; o < size; o += PAGE) {
      const page = objects.read(module.base + BigInt(o), Math.min(PAGE, size - o));
      if (page) code.set(page, o);
    }
    const out: Call[] = [];
    const region: Region = { base: module.base, code, module: true, string: (at: bigint) => objects.string(at, MAX_FORMAT) };
    for (const call of callsIn(region, printers)) if (out.push(call) >= MAX_CALLS) break;
    return out;
  }

  #refresh(objects: KernelObjects): void {
    const { modules, image } = this.#kernel;
    if (this.#indexed === modules && this.#kernelCalls) return;
    const printers = this.#printers();
    if (!image || printers.size === 0) return;
    this.#kernelCalls ??= this.#ofKernel(printers);
    this.#index = new Map();
    const add = (call: Call): void => {
      // What begins with a conversion is looked at for every text.
      const text = (call.printer.before === 'device' ? '' : call.printer.before) + call.pieces[0];
      const key = call.pieces.length === 1 || text.length >= KEY ? text.slice(0, KEY) : '';
      const list = this.#index.get(key);
      if (list) list.push(call);
      else this.#index.set(key, [call]);
    };
    for (const call of this.#kernelCalls) add(call);
    for (const module of modules) {
      const key = `${module.name}@${module.base}`;
      let calls = this.#moduleCalls.get(key);
      if (!calls) {
        calls = this.#ofModule(objects, module, printers);
        this.#moduleCalls.set(key, calls);
      }
      for (const call of calls) add(call);
    }
    this.#indexed = modules;
  }

  /** The code that printed a record; undefined when no call is known that can have. */
  find(objects: KernelObjects, record: LogRecord): MessageSource | undefined {
    this.#refresh(objects);
    const body = /: (.*)$/s.exec(record.text)?.[1];
    let best: Call[] = [];
    const look = (text: string, ofDevice: boolean): void => {
      for (const call of [...(this.#index.get(text.slice(0, KEY)) ?? []), ...(this.#index.get('') ?? [])]) {
        const { printer, weight } = call;
        if ((printer.before === 'device') !== ofDevice || weight < Math.max(LEAST_WEIGHT, best[0]?.weight ?? 0)) continue;
        if (call.level !== undefined && call.level !== record.level) continue;
        const rest = ofDevice ? text : text.startsWith(printer.before) ? text.slice(printer.before.length) : undefined;
        if (rest === undefined || !fits(rest, call.pieces, call.open)) continue;
        if (best[0] && weight > best[0].weight) best = [];
        best.push(call);
      }
    };
    look(record.text, false);
    if (body !== undefined) look(body, true);
    if (best.length === 0) return undefined;
    const places = best.map((call) => call.address);
    return {
      places: places.slice(0, MAX_PLACES),
      more: places.length > MAX_PLACES,
      gone: best.every((call) => objects.u32(call.address) !== call.word),
    };
  }
}
