/**
 * Call stacks of an arm64 Linux kernel (and of anything else that keeps AAPCS64 frame records), through exception frames. All
 * of it is read from guest memory: any bytes give a stack, possibly a short one.
 */
import { hex } from '../../emulator/base/bits.ts';
import { array, struct, u64, viewOf } from '../../emulator/base/struct.ts';
import { DW_REG, type UnwindRow } from '../symbols/dwarf/cfi.ts';
import { nearestSymbol } from '../symbols/dwarf/nearest-symbol.ts';
import type { LoadedSymbols } from '../symbols/loaded.ts';
import { withoutDamage } from '../symbols/byte-source.ts';
import { readU64, type VirtualReader } from '../symbols/memory.ts';
import type { Symbolizer } from '../symbols/symbolizer.ts';

/** General registers x0..x30 of a frame; undefined: what they held is not known. */
export type GeneralRegisters = readonly (bigint | undefined)[];

/** What a stack walk starts from. */
export interface Registers {
  pc: bigint;
  sp: bigint;
  x: GeneralRegisters;
  /** Of a task that does not run: `pc` is where the call that put it to sleep returns to. */
  asleep?: true;
  /** ELR_EL1 and SPSR_EL1, while the VP is in its exception vectors: nothing is saved on the stack yet. */
  exception?: { pc: bigint; pstate: bigint };
}

/** Where a stack walk reads. */
export interface Surroundings {
  read: VirtualReader;
  symbols: Symbolizer;
  /** Bits of a kernel address: what is above may be an authentication code. */
  vaBits: number;
  /** Call frame information of the instruction at an address, where a symbol file has any. */
  rules?: (pc: bigint) => UnwindRow | undefined;
  /** The symbol file of the process at an address of user space; given when its memory can be read. */
  process?: (pc: bigint) => LoadedSymbols | undefined;
}

export interface Frame {
  pc: bigint;
  /** What x29 holds in this frame: where frame records go on from. */
  fp: bigint;
  /** SP of this frame where it is known: of the innermost one, those that an exception interrupted, and callers by call frame information. */
  sp?: bigint;
  /**
   * `call`: pc is a return address. `exception`: pc is where an exception was taken. `top`: pc is the VP's. `user`: where user space was
   * left, `user call`: what called that.
   */
  kind: 'top' | 'call' | 'exception' | 'user' | 'user call';
  /** How the frame was found. */
  how:
    | 'registers'
    | 'saved registers'
    | 'call frame information'
    | 'frame record'
    | 'link register'
    | 'exception frame'
    | 'exception registers';
  x: GeneralRegisters;
  /** The canonical frame address: SP before the call of this frame's function; where call frame information tells. */
  cfa?: bigint;
  /** Saved PSTATE, where known. */
  pstate?: bigint;
  /** Of user space: the process's file, where it is known. */
  process?: LoadedSymbols;
}

export interface Stack {
  /** Innermost first: at least one. */
  frames: Frame[];
  /** Why there are no more, in words; undefined: the last is the task's first, or user space. */
  broken?: string;
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
const RET = 0xd65f03c0;
/** Instructions that a wrapper of a system call has after SVC, and then some. */
const LEAF = 24;
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

/** PC as the key of call frame information and names: a return address belongs to the call before it. */
export const lookupPc = (frame: Pick<Frame, 'pc' | 'kind'>): bigint => (isCaller(frame) ? frame.pc - 1n : frame.pc);

const isCaller = ({ kind }: Pick<Frame, 'kind'>): boolean => kind === 'call' || kind === 'user call';
export const isUser = ({ kind }: Pick<Frame, 'kind'>): boolean => kind === 'user' || kind === 'user call';

/** x19..x28 and x29 are the callee's to keep (AAPCS64 6.1.1). */
const CALLEE_SAVED = 19;

/** A register of a frame by its DWARF number. */
function registerOf(frame: Frame, n: number): bigint | undefined {
  return n === DW_REG.SP ? frame.sp : n < DW_REG.SP ? frame.x[n] : undefined;
}

/** The CFA of `frame` by call frame information, or why there is none. Expressions, which no compiler writes for arm64, are not followed. */
function cfaOf(frame: Frame, row: UnwindRow): bigint | string {
  if ('expression' in row.cfa) return 'its CFA is an expression';
  const base = registerOf(frame, row.cfa.register);
  if (base === undefined) return `its CFA is relative to x${row.cfa.register}, which is not known there`;
  return BigInt.asUintN(64, base + BigInt(row.cfa.offset));
}

/** The caller's registers by call frame information. */
function callerRegisters(frame: Frame, row: UnwindRow, cfa: bigint, read: VirtualReader): (bigint | undefined)[] {
  const x: (bigint | undefined)[] = Array.from({ length: 31 }, (_, n) => (n >= CALLEE_SAVED ? frame.x[n] : undefined));
  for (const [n, rule] of row.rules) {
    if (n > DW_REG.LR) continue;
    if (rule.kind === 'offset') x[n] = readU64(read, BigInt.asUintN(64, cfa + BigInt(rule.offset)));
    else if (rule.kind === 'value') x[n] = BigInt.asUintN(64, cfa + BigInt(rule.offset));
    else if (rule.kind === 'register') x[n] = registerOf(frame, rule.register);
    else if (rule.kind !== 'same') x[n] = undefined;
    else x[n] = frame.x[n];
  }
  return x;
}

/**
 * The call stack. Each caller is found by call frame information where there is some, else by frame records, with the link register for
 * functions without one, and through exception frames.
 */
export function unwind(start: Registers, { read, symbols, vaBits, rules, process }: Surroundings, limit = MAX_FRAMES): Stack {
  const frames: Frame[] = [
    {
      pc: start.pc,
      fp: start.x[DW_REG.FP] ?? 0n,
      sp: start.sp,
      x: start.x,
      ...(start.asleep ? { kind: 'call', how: 'saved registers' } : { kind: 'top', how: 'registers' }),
    },
  ];
  const strip = (address: bigint) => stripPac(address, vaBits);
  /** Frame records that were followed: a chain that comes back to one is a circle. */
  const used = new Set<bigint>();
  const record = (at: bigint) => {
    if ((at & 7n) !== 0n) return undefined;
    const raw = read(at, FrameRecord.size);
    return raw && FrameRecord.get(viewOf(raw), 0);
  };
  const exceptionFrame = (at: bigint) => {
    const raw = read(at, UserRegisters.size);
    return raw && UserRegisters.get(viewOf(raw), 0);
  };
  const saved = (regs: { x: bigint[]; sp: bigint; pc: bigint; pstate: bigint }, kind: 'exception' | 'user'): Frame => ({
    pc: regs.pc,
    fp: regs.x[29],
    sp: regs.sp,
    kind,
    how: 'exception frame',
    x: regs.x,
    pstate: regs.pstate,
  });

  /** The caller of a function without a frame of its own: it returns to the link register. */
  const byLinkRegister = (frame: Frame): Frame | undefined => {
    const lr = frame.x[DW_REG.LR];
    if (lr === undefined || hasFrame(frame.pc, read, symbols)) return undefined;
    const caller = strip(lr);
    const here = symbols.at(frame.pc);
    const there = caller === 0n ? undefined : symbols.at(caller - 1n);
    if (!there || there.symbol === here?.symbol) return undefined;
    // The record holds the caller's own return address; the same value there means that the record is already ours.
    const next = record(frame.fp);
    if (next && strip(next.lr) === caller) return undefined;
    const x = frame.x.map((v, n) => (n >= CALLEE_SAVED && n !== DW_REG.LR ? v : undefined));
    return { pc: caller, fp: frame.fp, kind: 'call', how: 'link register', x };
  };

  /** The caller by call frame information; a text: why not; undefined: there is no such information. */
  const byRules = (frame: Frame): Frame | string | undefined => {
    const at = isCaller(frame) ? frame.pc - 4n : frame.pc;
    const row = frame.process ? frame.process.rules(at) : isUser(frame) ? undefined : rules?.(at);
    if (!row) return undefined;
    const cfa = cfaOf(frame, row);
    if (typeof cfa === 'string') return cfa;
    frame.cfa = cfa;
    const x = callerRegisters(frame, row, cfa, read);
    const to = x[row.returnRegister];
    if (to === undefined) return 'its return address is not known';
    // A caller's link register was overwritten by its call: without a rule it cannot be what it returns to.
    if (isCaller(frame) && row.rules.get(row.returnRegister) === undefined) return 'its return address was not saved';
    const pc = strip(to);
    x[row.returnRegister] = undefined;
    if (pc === 0n) return '';
    return { pc, fp: x[DW_REG.FP] ?? 0n, sp: cfa, kind: isUser(frame) ? 'user call' : 'call', how: 'call frame information', x };
  };

  /** The caller by the frame record at x29; undefined: this was the last. */
  const byRecord = (frame: Frame): Frame | string | undefined => {
    const fp = frame.fp;
    if (fp === 0n) return undefined;
    if (used.has(fp)) return `the frame records come back to ${hex(fp, 16)}`;
    used.add(fp);
    const here = record(fp);
    if (!here) return `the frame record at ${hex(fp, 16)} cannot be read`;
    if (here.lr === 0n) {
      // The outermost record of a task, or (6.13 and newer) one that marks an exception frame.
      const meta = read(fp + BigInt(FrameRecord.size), 8);
      const type = meta ? viewOf(meta).getBigUint64(0, true) : 0n;
      const marked = here.fp === 0n && (type === FRAME_META.FINAL || type === FRAME_META.PT_REGS);
      const regs = exceptionFrame(fp - BigInt(marked ? STACKFRAME_AT.meta : STACKFRAME_AT.plain));
      if (!regs) return undefined;
      if (marked && type === FRAME_META.PT_REGS && fromKernel(regs.pstate)) return saved(regs, 'exception');
      const user =
        (regs.pstate & MODE) === EL0T && regs.pc !== 0n && regs.pc >> 52n === 0n && regs.sp >> 52n === 0n && regs.sp !== 0n;
      return user ? saved(regs, 'user') : undefined;
    }
    const regs = exceptionFrame(fp - BigInt(STACKFRAME_AT.plain));
    if (regs && regs.pc === here.lr && regs.x[29] === here.fp && fromKernel(regs.pstate)) return saved(regs, 'exception');
    const x: (bigint | undefined)[] = new Array(31).fill(undefined);
    x[DW_REG.FP] = here.fp;
    return { pc: strip(here.lr), fp: here.fp, kind: 'call', how: 'frame record', x };
  };

  /** The caller in user space where no file tells: by the link register of a function that returns without having saved it, else by record. */
  const byUserRecord = (frame: Frame): Frame | string | undefined => {
    const x: (bigint | undefined)[] = new Array(31).fill(undefined);
    const lr = frame.x[DW_REG.LR];
    const code = frame.kind === 'user' && lr ? read(frame.pc, 4 * LEAF) : undefined;
    if (lr && code) {
      const words = Array.from({ length: LEAF }, (_, i) => viewOf(code).getUint32(4 * i, true));
      const end = words.findIndex((word) => word === RET || popsFrame(word));
      if (end >= 0 && words[end] === RET) return { pc: strip(lr), fp: frame.fp, kind: 'user call', how: 'link register', x };
    }
    const { fp } = frame;
    if (fp === 0n) return undefined;
    const here = record(fp);
    if (!here) return `the frame record of user space at ${hex(fp, 16)} cannot be read`;
    if (here.lr === 0n) return undefined;
    if (here.fp !== 0n && here.fp <= fp)
      return `the frame records of user space go back from ${hex(fp, 16)} to ${hex(here.fp, 16)}`;
    x[DW_REG.FP] = here.fp;
    return { pc: strip(here.lr), fp: here.fp, kind: 'user call', how: 'frame record', x };
  };

  if (start.exception) {
    const { pc, pstate } = start.exception;
    const user = (pstate & MODE) === EL0T;
    frames.push({ pc, fp: frames[0].fp, pstate, kind: user ? 'user' : 'exception', how: 'exception registers', x: start.x });
  }
  const seen = new Set<string>();
  while (frames.length < limit) {
    const frame = frames[frames.length - 1];
    if (isUser(frame) && !process) break;
    if (isUser(frame)) {
      const file = process?.(lookupPc(frame));
      if (file) frame.process = file;
    }
    const key = `${frame.pc} ${frame.fp} ${frame.sp}`;
    if (frame.sp !== undefined && seen.has(key)) return { frames, broken: `the stack repeats itself at ${hex(frame.sp, 16)}` };
    seen.add(key);
    let next = byRules(frame);
    if (next === '') {
      // The first of a task, or a stack that was written over: then the frame records may still lead on.
      if (!record(frame.fp)?.lr) break;
      next = undefined;
    }
    if (next === undefined || typeof next === 'string') {
      const why = next;
      next = isUser(frame)
        ? byUserRecord(frame)
        : ((frame.kind === 'call' ? undefined : byLinkRegister(frame)) ?? byRecord(frame));
      if (next === undefined) {
        if (why) return { frames, broken: `${frameName(frame, symbols)}: ${why}` };
        break;
      }
      if (typeof next === 'string') return { frames, broken: next };
    }
    frames.push(next);
  }
  return { frames };
}

/** The function of a process's file at a frame of user space. */
function processName({ process, ...frame }: Pick<Frame, 'pc' | 'kind' | 'process'>): string | undefined {
  const at = process?.toFile(lookupPc(frame));
  if (!process || at === undefined) return undefined;
  return withoutDamage(() => process.info.functionAt(at)?.name ?? nearestSymbol(process.info.elf, at)?.name, undefined);
}

/** `symbol+0x12` of a frame. A return address belongs to the function of the call before it. */
export function frameName(frame: Pick<Frame, 'pc' | 'kind' | 'process'>, symbols: Symbolizer): string {
  const inProcess = processName(frame);
  if (inProcess !== undefined) return inProcess;
  if (frame.kind !== 'call') return symbols.format(frame.pc);
  const call = symbols.at(frame.pc - 1n);
  if (!call) return symbols.format(frame.pc);
  const { symbol, offset } = call;
  return `${symbol.name}+0x${(offset + 1).toString(16)}${symbol.module ? ` [${symbol.module}]` : ''}`;
}
