/**
 * Call stacks of an arm64 Linux kernel (and of anything else that keeps AAPCS64 frame records), through exception frames. All
 * of it is read from guest memory: any bytes give a stack, possibly a short one.
 */
import { array, struct, u64, viewOf } from '../../emulator/base/struct.ts';
import type { VirtualReader } from '../symbols/memory.ts';
import type { Symbolizer } from '../symbols/symbolizer.ts';

/** What a stack walk starts from. */
export interface Registers {
  pc: bigint;
  sp: bigint;
  fp: bigint;
  lr: bigint;
  /** ELR_EL1 and SPSR_EL1, while the VP is in its exception vectors: nothing is saved on the stack yet. */
  exception?: { pc: bigint; pstate: bigint };
}

export interface Frame {
  pc: bigint;
  /** Frame record that the walk goes on from; what x29 holds in this frame. */
  fp: bigint;
  /** SP of this frame where it is known: the innermost one, and those that an exception interrupted. */
  sp?: bigint;
  /** `call`: pc is a return address. `exception`: pc is where an exception was taken. `top`: pc is the VP's. */
  kind: 'top' | 'call' | 'exception' | 'user';
  /** General registers, where an exception frame holds them: x0..x30. */
  x?: bigint[];
  /** Saved PSTATE, where known. */
  pstate?: bigint;
}

/** AAPCS64 6.4.6, "The Frame Pointer". */
const FrameRecord = struct('frame record', { fp: u64, lr: u64 }, { size: 16 });
/** arch/arm64/include/asm/ptrace.h, struct user_pt_regs: the start of struct pt_regs in every version. */
const UserRegisters = struct('user_pt_regs', { x: array(31, u64), sp: u64, pc: u64, pstate: u64 }, { size: 0x110 });
/** arch/arm64/include/asm/stacktrace/frame.h (6.13 and newer), the type word after a record of two zeros. */
const FRAME_META = { FINAL: 1n, PT_REGS: 2n };
/**
 * Where pt_regs holds its frame record: up to 6.12 after {orig_x0, syscallno, sdei_ttbr1, pmr_save}; since 6.13 pmr_save is
 * gone and a type word follows the record.
 */
const STACKFRAME_AT = { plain: 0x130, meta: 0x128 };

/** PSTATE.M[4:0] (Arm ARM C5.2.18): EL0t; EL1t and EL1h. */
const MODE = 0x1fn;
const EL0T = 0n;
const fromKernel = (pstate: bigint): boolean => (pstate & MODE) === 4n || (pstate & MODE) === 5n;

const MAX_FRAMES = 256;

/** Removes a pointer authentication code: bits above the address size become copies of bit 55 (Arm ARM D8.10). */
export function stripPac(address: bigint, vaBits: number): bigint {
  const low = (1n << BigInt(vaBits)) - 1n;
  return (address >> 55n) & 1n ? BigInt.asUintN(64, address | ~low) : address & low;
}

/** `ADD x29, sp, #imm` (MOV x29, sp included). */
const setsFrame = (word: number) => (word & 0xffc003ff) >>> 0 === 0x910003fd;
/** `LDP x29, x30, [sp...]`, any addressing. */
const popsFrame = (word: number) => (word & 0xfe407fff) >>> 0 === 0xa8407bfd;
/** B, BL, BR, BLR, RET, CBZ, TBZ, B.cond: straight-line code ends. */
const branches = (word: number) =>
  ((word >>> 26) & 0x1f) === 5 ||
  word >>> 25 === 0x6b ||
  ((word >>> 25) & 0x3f) === 0x1a ||
  ((word >>> 25) & 0x3f) === 0x1b ||
  word >>> 24 === 0x54;

/** Whether the function that pc is in has its own frame record on the stack at pc. Without code to look at: yes. */
function hasFrame(pc: bigint, read: VirtualReader, symbols: Symbolizer): boolean {
  const location = symbols.at(pc);
  if (!location) return true;
  const words = Math.min(location.offset >> 2, 4096);
  const code = read(pc - BigInt(4 * words), 4 * words);
  if (!code) return true;
  const view = viewOf(code);
  for (let i = words - 1; i >= Math.max(0, words - 6); i--) {
    const word = view.getUint32(4 * i, true);
    if (popsFrame(word)) return false;
    if (branches(word)) break;
  }
  for (let i = words - 1; i >= 0; i--) if (setsFrame(view.getUint32(4 * i, true))) return true;
  // Longer than we looked: the prologue is far behind.
  return location.offset >> 2 > words;
}

/** The call stack, innermost first: at least one frame. */
export function unwind(start: Registers, read: VirtualReader, symbols: Symbolizer, vaBits = 48, limit = MAX_FRAMES): Frame[] {
  const frames: Frame[] = [{ pc: start.pc, fp: start.fp, sp: start.sp, kind: 'top' }];
  const seen = new Set<bigint>();
  const strip = (address: bigint) => stripPac(address, vaBits);
  const record = (at: bigint) => {
    if ((at & 7n) !== 0n) return undefined;
    const raw = read(at, FrameRecord.size);
    return raw && FrameRecord.get(viewOf(raw), 0);
  };
  const exceptionFrame = (at: bigint) => {
    const raw = read(at, UserRegisters.size);
    return raw && UserRegisters.get(viewOf(raw), 0);
  };

  /** A function without a frame of its own returns to the link register. */
  const addLinkRegister = (pc: bigint, lr: bigint, fp: bigint): void => {
    if (hasFrame(pc, read, symbols)) return;
    const caller = strip(lr);
    const here = symbols.at(pc);
    const there = caller === 0n ? undefined : symbols.at(caller - 1n);
    if (!there || there.symbol === here?.symbol) return;
    // The record holds the caller's own return address; the same value there means that the record is already ours.
    const next = record(fp);
    if (next && strip(next.lr) === caller) return;
    frames.push({ pc: caller, fp, kind: 'call' });
  };

  if (start.exception) {
    const { pc, pstate } = start.exception;
    const user = (pstate & MODE) === EL0T;
    frames.push({ pc, fp: start.fp, pstate, kind: user ? 'user' : 'exception' });
    if (user) return frames.slice(0, limit);
    addLinkRegister(pc, start.lr, start.fp);
  } else addLinkRegister(start.pc, start.lr, start.fp);
  for (let fp = start.fp; frames.length < limit && fp !== 0n && !seen.has(fp); ) {
    seen.add(fp);
    const here = record(fp);
    if (!here) break;
    if (here.lr === 0n) {
      // The outermost record of a task, or (6.13 and newer) one that marks an exception frame.
      const meta = read(fp + BigInt(FrameRecord.size), 8);
      const type = meta ? viewOf(meta).getBigUint64(0, true) : 0n;
      const marked = here.fp === 0n && (type === FRAME_META.FINAL || type === FRAME_META.PT_REGS);
      const regs = exceptionFrame(fp - BigInt(marked ? STACKFRAME_AT.meta : STACKFRAME_AT.plain));
      if (!regs) break;
      if (marked && type === FRAME_META.PT_REGS && fromKernel(regs.pstate)) {
        frames.push({ pc: regs.pc, fp: regs.x[29], sp: regs.sp, kind: 'exception', x: regs.x, pstate: regs.pstate });
        addLinkRegister(regs.pc, regs.x[30], regs.x[29]);
        fp = regs.x[29];
        continue;
      }
      const user =
        (regs.pstate & MODE) === EL0T && regs.pc !== 0n && regs.pc >> 52n === 0n && regs.sp >> 52n === 0n && regs.sp !== 0n;
      if (user) frames.push({ pc: regs.pc, fp: regs.x[29], sp: regs.sp, kind: 'user', x: regs.x, pstate: regs.pstate });
      break;
    }
    const regs = exceptionFrame(fp - BigInt(STACKFRAME_AT.plain));
    if (regs && regs.pc === here.lr && regs.x[29] === here.fp && fromKernel(regs.pstate)) {
      frames.push({ pc: regs.pc, fp: here.fp, sp: regs.sp, kind: 'exception', x: regs.x, pstate: regs.pstate });
      addLinkRegister(regs.pc, regs.x[30], here.fp);
    } else frames.push({ pc: strip(here.lr), fp: here.fp, kind: 'call' });
    fp = here.fp;
  }
  return frames.slice(0, limit);
}

/** `symbol+0x12` of a frame. A return address belongs to the function of the call before it. */
export function frameName(frame: Pick<Frame, 'pc' | 'kind'>, symbols: Symbolizer): string {
  if (frame.kind !== 'call') return symbols.format(frame.pc);
  const call = symbols.at(frame.pc - 1n);
  if (!call) return symbols.format(frame.pc);
  const { symbol, offset } = call;
  return `${symbol.name}+0x${(offset + 1).toString(16)}${symbol.module ? ` [${symbol.module}]` : ''}`;
}
