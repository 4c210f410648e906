/** Which task a VP runs, and where a VP's per-CPU variables are. */
import { readU64 } from '../symbols/memory.ts';
import type { GuestKernel } from './kernel.ts';
import { typesOf } from './types.ts';

/** PSTATE.M[3:2] is the exception level (Arm ARM C5.2.18). */
const exceptionLevel = (pstate: bigint): bigint => (pstate >> 2n) & 3n;
const isKernelAddress = (address: bigint): boolean => address >> 55n === 0x1ffn;

/**
 * Address of the struct task_struct that runs: SP_EL0 in the kernel (arch/arm64/include/asm/current.h); while user space runs,
 * and on the first instructions after it, what the kernel will put there: the per-CPU variable __entry_task.
 */
export function currentTask(kernel: GuestKernel, vp: number): bigint | undefined {
  const { machine } = kernel;
  if (!kernel.image) return undefined;
  const task = machine.readRegister(vp, 'SP_EL0') ?? 0n;
  if (exceptionLevel(machine.readRegister(vp, 'pstate') ?? 0n) !== 0n && isKernelAddress(task)) return task;
  const entry = typesOf(kernel, vp).variable('__entry_task');
  const offset = perCpuOffset(kernel, vp);
  return entry && offset !== undefined ? readU64(kernel.reader(vp), BigInt.asUintN(64, entry.address + offset)) : undefined;
}

/** What a VP adds to addresses in the per-CPU area: TPIDR_EL1 (arch/arm64/include/asm/percpu.h). */
export function perCpuOffset(kernel: GuestKernel, vp: number): bigint | undefined {
  const { machine } = kernel;
  if (vp < 0 || vp >= machine.vpCount || !kernel.image || machine.vpState(vp) === 'off') return undefined;
  return machine.readRegister(vp, 'TPIDR_EL1');
}
