/** What names, registers and addresses mean in an expression at a frame of a VP. */
import { Field, listOf, nodeAt, pathOf, plainNode } from '../emulator/base/inspect.ts';
import type { Machine, RegisterInfo } from '../emulator/index.ts';
import { valueText } from './describe.ts';
import type { Target, Value } from './expression/evaluate.ts';
import { stackOf } from './linux/callers.ts';
import { currentTask, perCpuOffset } from './linux/current.ts';
import type { GuestKernel } from './linux/kernel.ts';
import { frameVariables, macroAt, objectName, typesOf } from './linux/types.ts';
import type { Frame } from './linux/unwind.ts';
import { UserError } from './user-error.ts';
import { textOf, type View } from './types/format.ts';
import type { FrameState } from './types/frame.ts';

export { addressText } from './types/format.ts';

/** Prefix of Hyper-V VP registers, and of the inspect tree, in expressions. */
export const HV = 'hv.';

/** What the machine's inspect tree has at a path such as `vmbus.channels[4].targetVp`; undefined: nothing. */
function inspected(machine: Machine, text: string): bigint | number | string | boolean | object | undefined {
  const path = pathOf(text);
  const found = path && nodeAt(machine.tree(), path);
  if (!found || typeof found === 'string') return undefined;
  const { node } = found;
  // A name stands for its number, as an enumerator does.
  if (node instanceof Field) return node.number ?? node.get();
  const list = listOf(node);
  if (!list) return plainNode(node) as Exclude<ReturnType<typeof plainNode>, Uint8Array>;
  return Object.fromEntries(Array.from({ length: list.count }, (_, i) => [list.first + i, plainNode(list.at(list.first + i))]));
}

/** AAPCS64 names of general registers. */
const ALIASES: Record<string, string> = { lr: 'x30', fp: 'x29', ip0: 'x16', ip1: 'x17' };

/** A register by the name people write, in any case: `x0`, `w0`, `lr`, `ttbr1_el1`. */
export function findRegister(machine: Machine, name: string): { info: RegisterInfo; half: boolean } | undefined {
  const wanted = ALIASES[name.toLowerCase()] ?? name.toLowerCase();
  const half = /^w([12]?\d|30)$/.test(wanted);
  const full = half ? `x${wanted.slice(1)}` : wanted;
  const info = machine.registers().find((r) => r.name.toLowerCase() === full);
  return info && { info, half };
}

/** Values of the registers that `frame` is known to have; undefined for what only the VP's present state tells. */
export function frameRegister(frame: Frame, name: string): bigint | undefined {
  if (name === 'pc') return frame.pc;
  if (name === 'x29') return frame.fp;
  if (name === 'sp') return frame.sp;
  if (name === 'pstate') return frame.pstate;
  const m = /^x(\d+)$/.exec(name);
  return m && frame.x ? frame.x[Number(m[1])] : undefined;
}

const perFrame = (name: string): boolean => /^(x\d+|sp|pc|pstate)$/.test(name);

/** DWARF numbers of registers (DWARF for the Arm 64-bit Architecture, 4.1): 0 to 30, 31 is sp, 64 and on are v0 to v31. */
const dwarfRegister = (number: number): string | undefined =>
  number <= 30 ? `x${number}` : number === 31 ? 'sp' : number >= 64 && number <= 95 ? `v${number - 64}` : undefined;

/** Which frame an expression is about. */
export interface FrameChoice {
  /** The innermost one when it is left out. */
  frame?: Frame;
  /** Which of the functions inlined there: 0 the innermost. */
  depth?: number;
  /** The frames that it was called from: only asked for what was passed to it. */
  callers?: () => readonly Frame[];
  /** The task that it is of; left out: the one that the VP runs. */
  task?: bigint;
  /** Its variables are known by name; false where other names come first. */
  variables?: boolean;
}

/** The frames of a VP's stack that are below `frame`. */
export function callersOf(kernel: GuestKernel, vp: number, frame: Frame | undefined): () => readonly Frame[] {
  let callers: readonly Frame[] | undefined;
  return () => {
    if (!callers) {
      const all = kernel.machine.vpState(vp) === 'off' ? [] : stackOf(kernel, vp);
      const at = frame ? all.findIndex((f) => f.pc === frame.pc && f.fp === frame.fp && f.kind === frame.kind) : 0;
      callers = at < 0 ? [] : all.slice(at + 1);
    }
    return callers;
  };
}

/** What the variables of a frame are found with. */
export function frameState(kernel: GuestKernel, vp: number, choice: FrameChoice = {}): FrameState {
  const { machine } = kernel;
  const { frame } = choice;
  const outer = frame && frame.kind !== 'top' ? frame : undefined;
  const pc = frame?.pc ?? machine.readRegister(vp, 'pc') ?? 0n;
  return {
    pc: frame?.kind === 'call' ? pc - 1n : pc,
    inlineDepth: choice.depth ?? 0,
    register(number) {
      const name = dwarfRegister(number);
      if (name === undefined) return undefined;
      return outer && perFrame(name) ? frameRegister(outer, name) : machine.readRegister(vp, name);
    },
    ...(outer
      ? {}
      : {
          setRegister(number: number, value: bigint) {
            const name = dwarfRegister(number);
            return name !== undefined && machine.writeRegister(vp, name, value);
          },
        }),
    cfa: frame?.cfa,
    memory: {
      read: (address, size) => machine.readVirtual(vp, address, size),
      write: (address, data) => machine.writeVirtual(vp, address, data),
    },
    get caller() {
      const [next, ...rest] = choice.callers?.() ?? [];
      return next && frameState(kernel, vp, { frame: next, callers: () => rest });
    },
    perCpuOffset: perCpuOffset(kernel, vp),
  };
}

/** `frame` left out or the innermost one: the VP's own registers, which may be written. */
export function machineContext(kernel: GuestKernel, vp: number, choice: FrameChoice = {}): Target {
  const { machine, symbols } = kernel;
  const { frame } = choice;
  const outer = frame && frame.kind !== 'top' ? frame : undefined;
  let variables: Map<string, Value> | undefined;
  return {
    register(name) {
      const found = findRegister(machine, name);
      if (!found) return undefined;
      const key = found.info.name.toLowerCase();
      const value = outer && perFrame(key) ? frameRegister(outer, key) : machine.readRegister(vp, found.info.name);
      if (value === undefined) return undefined;
      if (found.half) return { value: value & 0xffff_ffffn, bits: 32 };
      return { value, bits: found.info.width, ...(key === 'pc' || key === 'x30' ? { address: true } : {}) };
    },
    setRegister(name, value) {
      const found = findRegister(machine, name);
      if (!found || (outer && perFrame(found.info.name.toLowerCase()))) return false;
      return machine.writeRegister(vp, found.info.name, value);
    },
    name(name) {
      if (!name.startsWith(HV)) return undefined;
      const rest = name.slice(HV.length);
      return machine.readHypervRegister(vp, rest) ?? inspected(machine, rest);
    },
    // What the editor's hover has under the cursor has no $ in front: `x0`.
    symbol(name) {
      return symbols.address(name) ?? this.register(name)?.value;
    },
    setName(name, value) {
      if (!name.startsWith(HV)) return false;
      const rest = name.slice(HV.length);
      if (machine.readHypervRegister(vp, rest) !== undefined)
        return typeof value === 'bigint' && machine.writeHypervRegister(vp, rest, value);
      const refused = machine.edit(pathOf(rest) ?? [rest], value);
      if (refused !== undefined) throw new UserError(`${HV}${refused}`);
      return true;
    },
    read: (address, size) => machine.readVirtual(vp, address, size),
    write: (address, data) => machine.writeVirtual(vp, address, data),
    // Only looked at when a name needs it: conditions are evaluated often.
    get types() {
      return typesOf(kernel, vp);
    },
    variable(name) {
      if (choice.variables === false) return undefined;
      variables ??= new Map(
        frameVariables(kernel, vp, frameState(kernel, vp, choice), !outer)
          // Inner blocks come first, and hide what is outside.
          .map((v): [string, Value] => [v.name, v.value])
          .reverse(),
      );
      return variables.get(name);
    },
    get module() {
      return symbols.at(frame?.pc ?? machine.readRegister(vp, 'pc') ?? 0n)?.symbol.module;
    },
    macro: (name) => macroAt(kernel, frame?.pc ?? machine.readRegister(vp, 'pc') ?? 0n, name),
    perCpuOffset: (wanted = vp) => perCpuOffset(kernel, wanted),
    current: () => choice.task ?? currentTask(kernel, vp),
  };
}

/** A value as views show it. `hex`: numbers in hexadecimal only. */
export function formatValue(value: Value, kernel: GuestKernel, vp: number, hex = false): string {
  return value.data === undefined ? textOf(value, viewFor(kernel, vp, hex)) : valueText(value.data);
}

/** What showing values of `kernel` as `vp` sees them needs. */
export function viewFor(kernel: GuestKernel, vp: number, hex = false): View {
  const { machine, symbols } = kernel;
  return {
    memory: {
      read: (address, size) => machine.readVirtual(vp, address, size),
      write: (address, data) => machine.writeVirtual(vp, address, data),
    },
    symbols,
    types: typesOf(kernel, vp),
    object: (address) => objectName(kernel, address),
    hex,
  };
}
