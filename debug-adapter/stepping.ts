/**
 * Steps by source lines, made of steps by instructions and of runs over calls. A step ends at the first instruction of a statement of another
 * line (or another function), in the frame it began in or one of its callers; stepping in, also in a function that is called or inlined.
 */
import { viewOf } from '../emulator/base/struct.ts';

import { stackOf } from './linux/callers.ts';
import { currentTask } from './linux/current.ts';
import type { Frame } from './linux/unwind.ts';
import { isBack, type Plan, until, type Where } from './runner.ts';
import type { Session } from './session.ts';
import { withoutDamage } from './symbols/byte-source.ts';
import type { LineAt } from './symbols/dwarf/debug-info.ts';

/** BL (Arm ARM C6.2.34), BLR and its authenticated forms (C6.2.35), SVC (C6.2.365). HVC and SMC are one step anyway. */
export const isCall = (word: number): boolean =>
  word >>> 26 === 0x25 || (word & 0xfefff000) >>> 0 === 0xd63f0000 || (word & 0xffe0001f) >>> 0 === 0xd4000001;

/** What veneers between a caller and its callee are made of: ADRP, ADD, MOVN, MOVK and BR of x16 and x17 (AAPCS64 6.1.1), and BTI. */
const isVeneer = (word: number): boolean =>
  [0x90000010, 0x91000210, 0x92800010, 0xf2800010].some((first, i) => {
    const mask = i === 0 ? 0x9f00001f : i === 1 ? 0xff8003ff : 0xff80001f;
    return (word & mask) >>> 0 === first;
  }) ||
  word === 0xd61f0200 ||
  (word & 0xffffff3f) >>> 0 === 0xd503241f;
const MAX_VENEER = 5;

/** Instructions that a step does one by one: in a longer line, such as a loop, the machine then runs to where the line is left. */
const BUSY = 500;
/** Places that it is then left at, at most. */
const MAX_PLACES = 4096;

interface Place {
  pc: bigint;
  sp: bigint;
  line: LineAt | undefined;
  /** Functions there, inlined ones included. */
  depth: number;
  /** The outermost of them: which function it is. */
  name: string;
}

/** A place inside a line that a step goes into. */
export interface StepTarget {
  pc: bigint;
  /** The instruction there calls a function; otherwise what begins there is inlined. */
  calls: boolean;
}

export interface StepOptions {
  /** Into functions that are called. */
  into?: boolean;
  /** Into this one only. */
  target?: StepTarget;
  /** Functions that may be there at its end, inlined ones included; fewer than are there now is out of an inlined function. */
  depth?: number;
  /** Other VPs stand still. */
  alone?: boolean;
}

/** Is there a line of a source file that the user can see at `pc`? */
export function hasVisibleLine(session: Session, pc: bigint): boolean {
  const line = lineAt(session, pc);
  return line !== undefined && line.line > 0 && session.debuggee.sources.local(line.path) !== undefined;
}

function lineAt(session: Session, pc: bigint): LineAt | undefined {
  const at = session.debuggee.files.at(pc);
  return at && withoutDamage(() => at.symbols.info.lineAt(at.address), undefined);
}

/** Says whether a VP runs the task that runs on `vp` now; undefined where there are no tasks. */
export function sameTask({ debuggee: { kernel } }: Session, vp: number): ((vp: number) => boolean) | undefined {
  const task = currentTask(kernel, vp);
  return task ? (v) => currentTask(kernel, v) === task : undefined;
}

/** Where `vp` is. */
export function whereIs(session: Session, vp: number): Where {
  const { machine } = session.debuggee;
  const same = sameTask(session, vp);
  return { pc: machine.readRegister(vp, 'pc') ?? 0n, sp: machine.readRegister(vp, 'sp') ?? 0n, ...(same ? { same } : {}) };
}

/** Where `vp` is when the innermost of `frames` has returned to the next one. */
export function returnOf(session: Session, vp: number, [here, caller]: readonly Frame[]): Where {
  const { sp, same } = whereIs(session, vp);
  // The function's own frame record is gone when it has returned; a function without one leaves SP as it is.
  const framed = caller.fp !== here.fp && here.fp >= sp && caller.kind === 'call';
  const after = here.cfa ?? (framed ? here.fp + 16n : (caller.sp ?? sp));
  return { pc: caller.pc, sp: after, ...(same ? { same } : {}) };
}

/** The word at `pc`; undefined: nothing is mapped there. */
function wordAt(session: Session, vp: number, pc: bigint): number | undefined {
  const code = session.debuggee.machine.readVirtual(vp, pc, 4);
  return code && viewOf(code).getUint32(0, true);
}

/** Line table rows, in guest addresses, of the function that has `pc`; empty: there are none. */
export function rowsOfFunction(session: Session, pc: bigint): LineAt[] {
  const { files, kernel } = session.debuggee;
  const at = files.at(pc);
  if (!at) return [];
  const { symbols, address } = at;
  const shift = pc - address;
  return withoutDamage(() => {
    let ranges = symbols.info.functionRanges(address);
    const named = ranges.length ? undefined : kernel.symbols.at(pc);
    if (named) ranges = [{ from: named.symbol.address - shift, to: kernel.symbols.endOf(named) - shift }];
    return ranges.flatMap(({ from, to }) => {
      // Parts of a function may be in sections that are elsewhere.
      const by = address >= from && address < to ? shift : (symbols.toGuest(from)[0] ?? from + shift) - from;
      return symbols.info.rowsIn(from, to).map((row) => ({ ...row, from: row.from + by, to: row.to + by }));
    });
  }, []);
}

const sameLine = (a: LineAt | undefined, b: LineAt | undefined): boolean =>
  a !== undefined && b !== undefined && a.line === b.line && a.path === b.path;

/** Addresses of calls in those of `rows` that are of the line of `of`. */
export function callsIn(session: Session, vp: number, rows: readonly LineAt[], of: LineAt | undefined): bigint[] {
  const out: bigint[] = [];
  for (const row of rows) {
    if (!sameLine(row, of)) continue;
    const code = session.debuggee.machine.readVirtual(vp, row.from, Number(row.to - row.from));
    for (let at = 0; code && at + 4 <= code.length && out.length < MAX_PLACES; at += 4)
      if (isCall(viewOf(code).getUint32(at, true))) out.push(row.from + BigInt(at));
  }
  return out;
}

/** A step by a line of `vp`, from where it is. */
export function stepLine(session: Session, vp: number, { into = false, depth, alone, target }: StepOptions = {}): Plan {
  const { machine, files, kernel } = session.debuggee;
  /** Where the task is: it may move to another VP. */
  let at = vp;
  const read = (name: string): bigint => machine.readRegister(at, name) ?? 0n;
  const functionsAt = (pc: bigint) => {
    const found = files.at(pc);
    return found ? withoutDamage(() => found.symbols.info.frames(found.address), []) : [];
  };
  const where = (): Place => {
    const pc = read('pc');
    const functions = functionsAt(pc);
    const name = functions.at(-1)?.name ?? kernel.symbols.at(pc)?.symbol.name ?? '';
    return { pc, sp: read('sp'), line: lineAt(session, pc), depth: functions.length, name };
  };
  const start = where();
  const frames = stackOf(kernel, vp, 2);
  const back = frames.length > 1 ? returnOf(session, vp, frames) : undefined;
  let line = start.line;
  const deepest = depth ?? start.depth;
  let count = 0;
  let wanted = target;

  const instruction = (): Plan => {
    const here = whereIs(session, at);
    const word = wordAt(session, at, here.pc);
    const calls = word !== undefined && isCall(word);
    const after: Where = { ...here, pc: here.pc + 4n };
    if (calls && !into) return until(machine, at, after, { alone, next });
    // What a line does in a loop is run, not stepped.
    const run = !calls && ++count > BUSY ? leave(here, [], stackOf(kernel, at, 2)) : undefined;
    if (run) return run;
    // Accesses to a process's memory fault, and are made good here or elsewhere in the function.
    const fault = (): Plan | undefined => leave(here, [here.pc, after.pc]);
    return { kind: 'step', vp: at, alone, over: here, fault, next: calls ? entered(after, MAX_VENEER) : next };
  };

  /** Where a line of a function is left: the starts of others, but for those of functions inlined in it that the step is not for. */
  let exits: { line: LineAt | undefined; rows: readonly LineAt[]; places: readonly bigint[] } | undefined;
  const exitsOf = (pc: bigint): readonly bigint[] => {
    if (exits && exits.line === line && exits.rows.some((r) => pc >= r.from && pc < r.to)) return exits.places;
    const rows = rowsOfFunction(session, pc);
    const starts = rows.filter((r) => r.isStatement && r.line > 0 && !sameLine(r, line)).map((r) => r.from);
    const places = into
      ? [...starts, ...callsIn(session, at, rows, line)]
      : starts.filter((s) => functionsAt(s).length <= deepest);
    exits = { line, rows, places };
    return places;
  };

  /** Runs from `here` until the line is left, or one of `more` is reached, in this frame; undefined when it is not known where that is. */
  const leave = (here: Where, more: readonly bigint[], frames: readonly Frame[] = []): Plan | undefined => {
    const [frame, caller] = frames;
    const own = new Set([...exitsOf(here.pc), ...more]);
    const out = caller ? returnOf(session, at, frames) : undefined;
    if (own.size > MAX_PLACES || (own.size === 0 && !out)) return undefined;
    const was = at;
    const arrived = (v: number, pc: bigint): boolean => {
      if (here.same ? !here.same(v) : v !== was) return false;
      const sp = machine.readRegister(v, 'sp') ?? 0n;
      if (pc === out?.pc && isBack(sp, out.sp)) return true;
      if (!own.has(pc)) return false;
      const cfa = frame?.cfa === undefined ? undefined : stackOf(kernel, v, 2)[0].cfa;
      return cfa === undefined ? isBack(sp, here.sp) : cfa === frame.cfa;
    };
    return { kind: 'to', vp: at, alone, places: [...own, ...(out ? [out.pc] : [])], arrived, next };
  };

  /** After a call: in the callee, past its prologue, if it has lines. */
  const entered =
    (back: Where, hops: number) =>
    (v: number): Plan | undefined => {
      at = v;
      const here = whereIs(session, at);
      const word = wordAt(session, at, here.pc);
      if (!hasVisibleLine(session, here.pc))
        return hops > 0 && word !== undefined && isVeneer(word)
          ? { kind: 'step', vp: at, alone, over: here, next: entered(back, hops - 1) }
          : until(machine, at, back, { alone, next });
      const found = files.at(here.pc);
      const body =
        here.pc + (found ? withoutDamage(() => found.symbols.info.bodyOf(found.address), found.address) - found.address : 0n);
      if (body === here.pc) return undefined;
      const arrived = (w: number): boolean =>
        (here.same ? here.same(w) : w === v) && isBack(back.sp, machine.readRegister(w, 'sp') ?? 0n);
      return { kind: 'to', vp: at, alone, places: [body], arrived };
    };

  const next = (v: number): Plan | undefined => {
    at = v;
    const here = where();
    const inside = here.name === start.name && here.depth > start.depth;
    if (wanted && here.pc !== wanted.pc) {
      // What is inlined before it is passed; otherwise the line was left without coming to it.
      return inside || sameLine(here.line, line) ? leave(whereIs(session, at), [wanted.pc], stackOf(kernel, at, 2)) : undefined;
    }
    if (wanted) {
      if (!wanted.calls) return undefined;
      wanted = undefined;
      const from = whereIs(session, at);
      return { kind: 'step', vp: at, alone, over: from, next: entered({ ...from, pc: from.pc + 4n }, MAX_VENEER) };
    }
    const returned = back !== undefined && here.pc === back.pc && isBack(here.sp, back.sp);
    // Out to code that nothing is known about.
    if (!here.line && returned) return undefined;
    // Code without lines: of the compiler's, or of a function that was jumped to.
    if (!here.line || here.line.line === 0) return instruction();
    const moved = !sameLine(here.line, line) || here.name !== start.name || here.depth < start.depth || returned;
    const starts = here.line.isStatement && here.pc === addressOf(session, here.line.from, here.pc);
    const deeper = here.name === start.name && here.depth > deepest;
    if (moved && starts && (into || !deeper)) return undefined;
    // In the middle of another line: that one is finished first. Of a caller's line, what follows the call counts as new.
    if (returned) line = undefined;
    else if (moved && !deeper && line) line = here.line;
    return instruction();
  };
  if (!wanted) return instruction();
  return (wanted.pc === start.pc ? next(vp) : leave(whereIs(session, vp), [wanted.pc], frames)) ?? instruction();
}

/** The guest address of a link-time address that is in the same function as `near`. */
function addressOf(session: Session, address: bigint, near: bigint): bigint | undefined {
  const at = session.debuggee.files.at(near);
  return at && near + (address - at.address);
}
