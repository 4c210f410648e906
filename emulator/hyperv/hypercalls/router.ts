/**
 * From an HVC to a hypercall's handler and back: both conduits, fast and memory forms, rep lists, variable headers, and
 * every rule about them (reference hyperv-arm64.md §2.1 to §2.4). Handlers never see registers or GPAs of blocks.
 *
 * Two steps, so that a debugger can stop in between: `decode` looks and changes nothing; `execute` looks again (the user may
 * have edited registers or memory, or gone back to a snapshot) and performs.
 */
import type { HypercallInfo } from '../../index.ts';
import type { GeneralRegisters } from '../host.ts';
import type { Partition } from '../partition.ts';
import { CALLS, callName, callNameOf, type ControlWord, controlWord, HV_PAGE, resultWord, STATUS, statusName } from '../tlfs.ts';
import type { Fields, Hypercall } from './hypercall.ts';
import { HYPERCALLS } from './index.ts';

export type Conduit = 'smccc' | 'raw';

/** Where a call was made. */
export interface CallSite {
  vp: number;
  conduit: Conduit;
  pc: bigint;
  /** x30. */
  lr: bigint;
}

/** x0 of the SMCCC form: a standard call, SMC64, owner 6 (vendor hypervisor), function 1. */
export const HYPERV_SMCCC_FUNCTION = 0x4600_0001;

/** The fast window is 8 pairs of registers, from x2 (SMCCC) or x1 (raw); the control word is in the register below. */
const WINDOW_REGISTERS = 16;
const WINDOW_START: Record<Conduit, number> = { smccc: 2, raw: 1 };

const BY_CODE = new Map<number, Hypercall>(HYPERCALLS.map((c) => [c.code, c]));
if (BY_CODE.size !== HYPERCALLS.length) throw new Error('a hypercall is listed twice');

/** Input and output are each rounded up to register pairs. */
const pairs = (size: number): number => Math.ceil(size / 16);
const qwordCount = (size: number): number => Math.ceil(size / 8);

interface Request {
  control: bigint;
  word: ControlWord;
  call?: Hypercall;
  /** Not SUCCESS: the call is refused before its handler. */
  status: number;
  /** The input block: fixed header, variable header, rep list. */
  block: DataView;
  elementsAt: number;
  outputSize: number;
  /** First register of a fast output, or the GPA of a memory one. */
  outputAt: number;
}

const EMPTY = new DataView(new ArrayBuffer(0));

export class Router {
  readonly #partition: Partition;

  constructor(partition: Partition) {
    this.#partition = partition;
  }

  /** What the call is and would do, without doing anything. */
  decode(vp: number, conduit: Conduit, regs: GeneralRegisters, pc: bigint, lr: bigint): HypercallInfo {
    return this.#info({ vp, conduit, pc, lr }, this.#request(conduit, regs), regs);
  }

  /** Performs the call: writes results to registers and memory, traces, and tells what happened. */
  execute(site: CallSite, regs: GeneralRegisters): HypercallInfo {
    const request = this.#request(site.conduit, regs);
    const entry = this.#info(site, request, regs);
    const { call, word } = request;
    let { status } = request;
    let completed = 0;
    let output: Fields = {};
    if (call && status === STATUS.SUCCESS) {
      const caller = { partition: this.#partition, vp: site.vp };
      const out = this.#outputBlock(request, regs);
      const first = call.rep ? word.repStart : 0;
      const end = call.rep ? word.repCount : 1;
      let i = first;
      for (; i < end && status === STATUS.SUCCESS; ) {
        status = call.run(caller, request.block, request.elementsAt, i, out);
        if (status === STATUS.SUCCESS) i++;
      }
      if (call.rep) completed = i;
      // Elements that were done count even if a later one failed; a simple call's output does not.
      if (i > first) {
        this.#writeOutput(request, regs, out, first * call.outputSize, i * call.outputSize);
        output = call.output(out, first, i);
      }
    }
    regs.setX(0, resultWord(status, completed));
    const info: HypercallInfo = {
      ...entry,
      phase: 'return',
      output,
      status,
      statusName: statusName(status),
      repsCompleted: completed,
    };
    const { trace } = this.#partition.host;
    if (trace.wants('hypercall')) {
      const { vp, pc, lr, conduit, code, name, fast, repCount, repStart, input } = entry;
      trace.emit({
        kind: 'hypercall',
        ...{ vp, pc, lr, conduit, code, name, fast, repCount, repStart, input },
        ...{ output, status, statusName: statusName(status), repsCompleted: completed },
      });
    }
    return info;
  }

  #info(site: CallSite, r: Request, regs: GeneralRegisters): HypercallInfo {
    const { call, word } = r;
    const start = WINDOW_START[site.conduit];
    // Without a readable block the raw registers are what there is to show.
    const input =
      call &&
      r.block.byteLength >= r.elementsAt + call.elementSize * (call.rep ? word.repCount : 0) &&
      r.elementsAt >= call.inputSize
        ? call.input(this.#partition, r.block, r.elementsAt, call.rep ? word.repCount : 0)
        : { [`x${start}`]: regs.x(start), [`x${start + 1}`]: regs.x(start + 1) };
    return {
      phase: 'entry',
      vp: site.vp,
      pc: site.pc,
      lr: site.lr,
      conduit: site.conduit,
      code: word.code,
      name: callName(word.code),
      fast: word.fast,
      repCount: word.repCount,
      repStart: word.repStart,
      control: r.control,
      input,
    };
  }

  /** Reads registers and the input block, and applies the rules. No side effects. */
  #request(conduit: Conduit, regs: GeneralRegisters): Request {
    const start = WINDOW_START[conduit];
    const control = regs.x(start - 1);
    const word = controlWord(control);
    const call = BY_CODE.get(word.code);
    const request: Request = {
      control,
      word,
      call,
      status: STATUS.SUCCESS,
      block: EMPTY,
      elementsAt: 0,
      outputSize: 0,
      outputAt: 0,
    };
    const refuse = (status: number): Request => ({ ...request, status });

    const name = callNameOf(word.code);
    const privilege = name === undefined ? undefined : (CALLS[name] as { privilege?: Hypercall['privilege'] }).privilege;
    if (privilege && !this.#partition.has(privilege)) return refuse(STATUS.ACCESS_DENIED);
    if (!call) return refuse(STATUS.INVALID_HYPERCALL_CODE);

    const count = call.rep ? word.repCount : 0;
    request.elementsAt = call.inputSize + word.variableHeader * 8;
    request.outputSize = call.outputSize * (call.rep ? count : 1);
    const inputSize = request.elementsAt + call.elementSize * count;

    if (word.reserved || word.nested) return refuse(STATUS.INVALID_HYPERCALL_INPUT);
    if (call.rep ? count === 0 || word.repStart >= count : word.repCount !== 0 || word.repStart !== 0)
      return refuse(STATUS.INVALID_HYPERCALL_INPUT);
    if (!call.variable && word.variableHeader !== 0) return refuse(STATUS.INVALID_HYPERCALL_INPUT);

    if (word.fast) {
      const inputPairs = pairs(inputSize);
      const outputPairs = pairs(request.outputSize);
      if (outputPairs > 0 && !this.#partition.has('FastHypercallOutput')) return refuse(STATUS.INVALID_HYPERCALL_INPUT);
      if ((inputPairs + outputPairs) * 2 > WINDOW_REGISTERS) return refuse(STATUS.INVALID_HYPERCALL_INPUT);
      const view = new DataView(new ArrayBuffer(inputPairs * 16));
      for (let i = 0; i < inputPairs * 2; i++) view.setBigUint64(i * 8, regs.x(start + i), true);
      request.block = view;
      request.outputAt = conduit === 'smccc' ? start + inputPairs * 2 : start + WINDOW_REGISTERS - outputPairs * 2;
      return request;
    }

    const inputGpa = this.#block(regs.x(start), inputSize);
    if (inputGpa.status !== STATUS.SUCCESS) return refuse(inputGpa.status);
    if (inputSize > 0) {
      const copy = this.#partition.host.ram.read(inputGpa.at, inputSize);
      request.block = new DataView(copy.buffer, copy.byteOffset, copy.byteLength);
    }
    const outputGpa = this.#block(regs.x(start + 1), request.outputSize);
    if (outputGpa.status !== STATUS.SUCCESS) return refuse(outputGpa.status);
    request.outputAt = outputGpa.at;
    return request;
  }

  /** A block in memory: aligned, inside one page, in RAM. An empty one is not looked at. */
  #block(gpa: bigint, size: number): { status: number; at: number } {
    if (size === 0) return { status: STATUS.SUCCESS, at: 0 };
    if (gpa & 7n) return { status: STATUS.INVALID_ALIGNMENT, at: 0 };
    const inside = Number(gpa & BigInt(HV_PAGE - 1)) + size <= HV_PAGE;
    const { ram } = this.#partition.host;
    if (!inside || gpa >= BigInt(ram.size) || !ram.contains(Number(gpa), size))
      return { status: STATUS.INVALID_HYPERCALL_INPUT, at: 0 };
    return { status: STATUS.SUCCESS, at: Number(gpa) };
  }

  /** A scratch block for the output; it begins with what is there, since output elements may share a register. */
  #outputBlock(r: Request, regs: GeneralRegisters): DataView {
    const out = new DataView(new ArrayBuffer(qwordCount(r.outputSize) * 8));
    if (r.word.fast) for (let i = 0; i < out.byteLength / 8; i++) out.setBigUint64(i * 8, regs.x(r.outputAt + i), true);
    return out;
  }

  /** Writes bytes [from, to) of the output where the guest wants them, and nothing else. */
  #writeOutput(r: Request, regs: GeneralRegisters, out: DataView, from: number, to: number): void {
    if (from === to) return;
    if (r.word.fast)
      for (let i = Math.floor(from / 8); i < qwordCount(to); i++) regs.setX(r.outputAt + i, out.getBigUint64(i * 8, true));
    else this.#partition.host.ram.write(r.outputAt + from, new Uint8Array(out.buffer, from, to - from));
  }
}
