/** What a step from a line can go into: functions that it calls, and those that are inlined there. */
import { viewOf } from '../emulator/base/struct.ts';
import { type Frame, lookupPc } from './linux/unwind.ts';
import type { Session } from './session.ts';
import { callsIn, isCall, rowsOfFunction, type StepTarget } from './stepping.ts';
import { withoutDamage } from './symbols/byte-source.ts';
import { DW_AT, DW_TAG } from './symbols/dwarf/constants.ts';
import type { Die } from './symbols/dwarf/die.ts';

export interface NamedTarget extends StepTarget {
  label: string;
  /** Where the call is; 0: not known. */
  line: number;
  column: number;
}

const MAX_TARGETS = 100;

/** The targets of a frame's line in the order of the code. Only the innermost frame, which a step is from, has some. */
export function targetsAt(session: Session, vp: number, frame: Frame): NamedTarget[] {
  if (frame.kind !== 'top') return [];
  const pc = lookupPc(frame);
  const rows = rowsOfFunction(session, pc);
  const here = rows.find((r) => pc >= r.from && pc < r.to);
  if (!here) return [];
  const called = callsIn(session, vp, rows, here).map((at): NamedTarget => {
    const row = rows.find((r) => at >= r.from && at < r.to);
    return { pc: at, calls: true, label: calledAt(session, vp, at), line: here.line, column: row?.column ?? 0 };
  });
  const all = [...called, ...inlinedAt(session, pc, here.line)].filter((t) => t.pc >= pc).slice(0, MAX_TARGETS);
  all.sort((a, b) => (a.pc < b.pc ? -1 : a.pc > b.pc ? 1 : 0));
  // Of several calls of one function: which.
  for (const t of all) if (t.column > 0 && all.some((o) => o !== t && o.label === t.label)) t.label += `, column ${t.column}`;
  return all;
}

/** The name of what the instruction at `pc` calls. */
function calledAt(session: Session, vp: number, pc: bigint): string {
  const { kernel, machine } = session.debuggee;
  const code = machine.readVirtual(vp, pc, 4);
  const word = code ? viewOf(code).getUint32(0, true) : 0;
  if (!isCall(word)) return '?';
  // BL: a signed word offset.
  if (word >>> 26 === 0x25) return kernel.symbols.format(pc + BigInt((word << 6) >> 4));
  if ((word & 0xfefff000) >>> 0 !== 0xd63f0000) return 'system call';
  // BLR, where its register is not set any more before it.
  const register = `x${(word >>> 5) & 31}`;
  return machine.readRegister(vp, 'pc') === pc
    ? kernel.symbols.format(machine.readRegister(vp, register) ?? 0n)
    : `a function by ${register}`;
}

/** Functions that are inlined at `line`, which is of the innermost function at `pc`. */
function inlinedAt(session: Session, pc: bigint, line: number): NamedTarget[] {
  const at = session.debuggee.files.at(pc);
  if (!at) return [];
  const { symbols, address } = at;
  const { info } = symbols;
  return withoutDamage(() => {
    const place = info.elf.place(address);
    const out: NamedTarget[] = [];
    const search = (parent: Die, depth: number): void => {
      for (const child of parent.children()) {
        if (child.tag === DW_TAG.lexical_block && depth < 64) search(child, depth + 1);
        if (child.tag !== DW_TAG.inlined_subroutine || child.number(DW_AT.call_line) !== line || out.length >= MAX_TARGETS)
          continue;
        const [first] = child.ranges();
        const entry = first && symbols.toGuest(info.elf.address(first.from))[0];
        if (entry !== undefined && place < first.from)
          out.push({
            pc: entry,
            calls: false,
            label: `${child.name ?? '?'} (inlined)`,
            line,
            column: info.callSite(child).column,
          });
      }
    };
    const innermost = info.scopes(address).find((s) => s.die.tag !== DW_TAG.lexical_block);
    if (innermost) search(innermost.die, 0);
    return out;
  }, []);
}
