/**
 * What names mean at an address of the code, whoever gets there with whatever in registers: for conditions that the engine evaluates.
 *
 * Where a variable is, is asked of those who know variables of frames, with made-up registers: what comes out shows which register it came
 * from, and what was added to that. What does not come out as that, three times, is somewhere that only the debugger can tell.
 */
import type { Expression } from '../emulator/index.ts';
import { findRegister } from './context.ts';
import { type CodePlace, choose, constant, load, operation, register, type VariablePlace } from './expression/lower.ts';
import type { GuestKernel } from './linux/kernel.ts';
import { frameVariables, typesOf } from './linux/types.ts';
import type { FrameState } from './types/frame.ts';
import { sizeOf } from './types/model.ts';
import { numberOf, type Value, ValueError } from './types/value.ts';

/** DWARF numbers: x0 to x30, sp; and one for what is added to per-CPU addresses. */
const REGISTERS = 33;
const PER_CPU = 32;
const OFFSET: Expression = register('TPIDR_EL1');
const SAME_BYTES = 0x0101_0101_0101_0101n;
/**
 * Three settings of the registers. In the first two the bytes of each are alike, and are no others' in that setting; differences between
 * the two are no others' either, at any width.
 */
const PROBES: readonly ((n: number) => bigint)[] = [
  (n) => SAME_BYTES * BigInt(n + 1),
  (n) => SAME_BYTES * BigInt((5 * n + 100) & 0xff),
  (n) => BigInt.asUintN(64, 0x9e37_79b9_7f4a_7c15n * BigInt(n + 1)),
];
/** Variables are not further from what a register points to; most are much nearer. */
const MAX_DISTANCE = 1n << 24n;
/** The code that tells how far a function has come (`frameVariables`). */
const CODE_BEFORE = 64n;

const registerOf = (n: number): Expression => (n === PER_CPU ? OFFSET : register(n === 31 ? 'sp' : `x${n}`));

/** What says the same as the three answers, of `size` bytes, do: a number, or a register and what is added to it. */
function explained(answers: readonly bigint[], size: number): Expression | undefined {
  const bits = 8 * size;
  if (answers.every((a) => a === answers[0])) return constant(answers[0]);
  for (let n = 0; n < REGISTERS; n++) {
    const [distance, ...others] = answers.map((a, i) => BigInt.asIntN(bits, a - PROBES[i](n)));
    const near = size < 4 || (distance < MAX_DISTANCE && -distance < MAX_DISTANCE);
    if (near && others.every((d) => d === distance)) return operation('add', registerOf(n), constant(distance));
  }
  return undefined;
}

function placeOf(values: readonly Value[]): VariablePlace | undefined {
  const addresses = values.map((v) => v.address);
  if (addresses.every((a) => a !== undefined)) {
    const address = explained(addresses, 8);
    return address && { address };
  }
  const size = sizeOf(values[0].type);
  if (addresses.some((a) => a !== undefined) || size < 1 || size > 8) return undefined;
  try {
    const bytes = explained(
      values.map((v) => numberOf(v.bytes())),
      size,
    );
    return bytes && { bytes };
  } catch (e) {
    if (e instanceof ValueError) return undefined;
    throw e;
  }
}

/** SP_EL0 in the kernel; in user space, and on the way into the kernel, the per-CPU variable __entry_task (context.ts). */
function currentTask(kernel: GuestKernel, vp: number): Expression | undefined {
  const entry = typesOf(kernel, vp).variable('__entry_task');
  if (!entry) return undefined;
  const level = operation('and', register('pstate'), constant(0xc));
  const top = operation('shr_u', register('SP_EL0'), constant(55));
  const inKernel = choose(level, operation('eq', top, constant(0x1ff)), constant(0));
  return choose(inKernel, register('SP_EL0'), load(operation('add', OFFSET, constant(entry.address)), 8));
}

/** The place of the instruction at `pc`; undefined: anywhere, where no variables of functions are known. */
export function codePlace(kernel: GuestKernel, pc: bigint | undefined): CodePlace {
  const { machine, symbols } = kernel;
  const vp = machine.activeVp;
  const frame = (at: bigint, probe: (n: number) => bigint): FrameState => ({
    pc: at,
    inlineDepth: 0,
    register: (n) => (n < PER_CPU ? probe(n) : undefined),
    cfa: undefined,
    memory: {
      read: (address, size) => (address < at && address >= at - CODE_BEFORE ? machine.readVirtual(vp, address, size) : undefined),
    },
    caller: undefined,
    perCpuOffset: probe(PER_CPU),
  });
  let variables: Map<string, Value[]> | undefined;
  const variablesAt = (at: bigint): Map<string, Value[]> => {
    const found = new Map<string, Value[]>();
    for (const probe of PROBES) {
      const seen = new Set<string>();
      for (const { name, value } of frameVariables(kernel, vp, frame(at, probe), true)) {
        // Inner blocks come first, and hide what is outside.
        if (seen.has(name)) continue;
        seen.add(name);
        found.set(name, [...(found.get(name) ?? []), value]);
      }
    }
    return found;
  };
  const hasKernel = kernel.image !== undefined;
  const module = pc === undefined ? undefined : symbols.at(pc)?.symbol.module;
  return {
    get types() {
      return typesOf(kernel, vp);
    },
    module,
    symbol: (name) => symbols.address(name),
    register(name) {
      const found = findRegister(machine, name);
      if (!found || !machine.isConditionRegister(found.info.name)) return undefined;
      const { info, half } = found;
      const key = info.name.toLowerCase();
      return { name: info.name, bits: half ? 32 : info.width, address: key === 'pc' || key === 'x30' };
    },
    variable(name) {
      if (pc === undefined) return undefined;
      variables ??= variablesAt(pc);
      const values = variables.get(name);
      if (!values) return undefined;
      const place = values.length === PROBES.length ? placeOf(values) : undefined;
      return { type: values[0].type, ...(place ? { place } : {}) };
    },
    perCpuOffset: hasKernel ? OFFSET : undefined,
    get current() {
      return hasKernel ? currentTask(kernel, vp) : undefined;
    },
  };
}
