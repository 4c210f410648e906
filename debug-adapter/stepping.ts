/**
 * Steps by source lines, made of steps by instructions and of runs over calls. A step ends at the first instruction of a statement of another
 * line (or another function), in the frame it began in or one of its callers; stepping in, also in a function that is called or inlined.
 */
import { viewOf } from '../emulator/base/struct.ts';
import type { Plan } from './runner.ts';
import type { Session } from './session.ts';
import type { LineAt } from './symbols/dwarf/debug-info.ts';
import { withoutDamage } from './symbols/byte-source.ts';

/** BL (Arm ARM C6.2.34), BLR and its authenticated forms (C6.2.35), SVC (C6.2.365). HVC and SMC are one step anyway. */
export const isCall = (word: number): boolean =>
  word >>> 26 === 0x25 || (word & 0xfefff000) >>> 0 === 0xd63f0000 || (word & 0xffe0001f) >>> 0 === 0xd4000001;

/** Instructions of one step: a loop of one line may be long, and the user can pause. */
const MAX_INSTRUCTIONS = 1_000_000;

interface Place {
  pc: bigint;
  sp: bigint;
  line: LineAt | undefined;
  /** Functions there, inlined ones included. */
  depth: number;
  /** Where the outermost of them starts: which function it is. */
  name: string;
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

/** What `task` of a plan is for this VP. */
export function taskOf(session: Session, vp: number): { task?: bigint } {
  const { machine, kernel } = session.debuggee;
  const pstate = machine.readRegister(vp, 'pstate') ?? 0n;
  const task = machine.readRegister(vp, 'SP_EL0') ?? 0n;
  return kernel.image && (pstate & 0xcn) !== 0n && task >> 63n === 1n ? { task } : {};
}

/**
 * A step by a line of `vp`, from where it is. `depth`: functions that may be there at its end, inlined ones included; fewer than are there now
 * is out of an inlined function.
 */
export function stepLine(session: Session, vp: number, into: boolean, depth?: number): Plan {
  const { machine, files } = session.debuggee;
  const read = (name: string): bigint => machine.readRegister(vp, name) ?? 0n;
  const where = (): Place => {
    const pc = read('pc');
    const at = files.at(pc);
    const functions = at ? withoutDamage(() => at.symbols.info.frames(at.address), []) : [];
    return { pc, sp: read('sp'), line: lineAt(session, pc), depth: functions.length, name: functions.at(-1)?.name ?? '' };
  };
  const start = where();
  let line = start.line;
  const deepest = depth ?? start.depth;
  let left = MAX_INSTRUCTIONS;

  const sameLine = (a: LineAt, b: LineAt | undefined): boolean => b !== undefined && a.line === b.line && a.path === b.path;
  const instruction = (): Plan => {
    const pc = read('pc');
    const sp = read('sp');
    const code = machine.readVirtual(vp, pc, 4);
    const calls = code !== undefined && isCall(viewOf(code).getUint32(0, true));
    if (calls && !into) return { kind: 'to', vp, pc: pc + 4n, sp, ...taskOf(session, vp), next };
    return { kind: 'step', vp, over: { pc, sp }, next: calls ? () => entered(pc + 4n, sp) : next };
  };
  /** After a call: in the callee, if it has lines. */
  const entered = (back: bigint, sp: bigint): Plan | undefined => {
    const pc = read('pc');
    if (hasVisibleLine(session, pc)) return undefined;
    return { kind: 'to', vp, pc: back, sp, ...taskOf(session, vp), next };
  };
  const next = (): Plan | undefined => {
    if (left-- <= 0) return undefined;
    const here = where();
    // Code without lines: of the compiler's, or of a function that was jumped to.
    if (!here.line || here.line.line === 0) return instruction();
    const moved = !sameLine(here.line, line) || here.name !== start.name || here.depth < start.depth;
    const starts = here.line.isStatement && here.pc === addressOf(session, here.line.from, here.pc);
    const deeper = here.name === start.name && here.depth > deepest;
    if (moved && starts && (into || !deeper)) return undefined;
    // In the middle of another line: that one is finished first.
    if (moved && !deeper) line = here.line;
    return instruction();
  };
  return instruction();
}

/** The guest address of a link-time address that is in the same function as `near`. */
function addressOf(session: Session, address: bigint, near: bigint): bigint | undefined {
  const at = session.debuggee.files.at(near);
  return at?.symbols.toGuest(address)[0];
}
