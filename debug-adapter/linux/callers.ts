/** Who made a hypercall: the first function that is not one of the kernel's wrappers around HVC. */
import type { Symbolizer } from '../symbols/symbolizer.ts';
import { type Frame, frameName, lookupPc, type Stack, unwind } from './unwind.ts';
import type { GuestKernel } from './kernel.ts';

/**
 * Functions that only carry a call to the hypervisor (arch/arm64/hyperv/hv_core.c, include/asm-generic/mshyperv.h,
 * drivers/hv/hv.c, arch/arm64/kernel/smccc-call.S; Hyper-V's message ring wrapper of drivers/hv/connection.c is a caller).
 */
const WRAPPERS =
  /^(hv_do_\w*hypercall\w*|hv_post_message|hv_[gs]et_vp(reg|register)\w*|hv_[gs]et_(register|msr|non_nested_\w+)|__?arm_smccc_\w+|arm_smccc_\w+|__hvc\w*|hvc[01]|hypercall\w*)$/;

/** Compiler clones: `foo.constprop.0`. */
const plainName = (name: string) => name.replace(/\..*$/, '');

/** True when the function at this frame is a wrapper around HVC. */
export function isWrapper(frame: Frame, symbols: Symbolizer): boolean {
  const at = symbols.at(lookupPc(frame));
  return at !== undefined && WRAPPERS.test(plainName(at.symbol.name));
}

/** Sixteen vectors of 0x80 bytes (Arm ARM D1.3.1.5). */
const VECTORS_SIZE = 0x800n;

/** The stack of a VP as it is now, innermost first. */
export function walkStack(kernel: GuestKernel, vp: number, limit?: number): Stack {
  const { machine } = kernel;
  const register = (name: string) => machine.readRegister(vp, name) ?? 0n;
  const pc = register('pc');
  const vectors = register('VBAR_EL1');
  const inVectors = vectors !== 0n && pc >= vectors && pc < vectors + VECTORS_SIZE;
  const start = {
    pc,
    sp: register('sp'),
    x: Array.from({ length: 31 }, (_, n) => register(`x${n}`)),
    ...(inVectors ? { exception: { pc: register('ELR_EL1'), pstate: register('SPSR_EL1') } } : {}),
  };
  const { symbols, rules } = kernel;
  const process = (address: bigint) => kernel.processes(vp, address);
  return unwind(start, { read: kernel.reader(vp), symbols, vaBits: kernel.vaBits(vp), rules, process }, limit);
}

/** The frames of `walkStack`. */
export const stackOf = (kernel: GuestKernel, vp: number, limit?: number): Frame[] => walkStack(kernel, vp, limit).frames;

/** The frame that a hypercall is from. */
export function callerFrame(frames: readonly Frame[], symbols: Symbolizer): Frame {
  return frames.find((frame) => !isWrapper(frame, symbols)) ?? frames[0];
}

/** `vmbus_post_msg+0x48 [hv_vmbus]` */
export const callerName = (frames: readonly Frame[], symbols: Symbolizer): string =>
  frameName(callerFrame(frames, symbols), symbols);
