/** What names, registers and addresses mean in an expression at a frame of a VP. */
import { hex } from '../emulator/base/bits.ts';
import type { Machine, RegisterInfo } from '../emulator/index.ts';
import { valueText } from './describe.ts';
import type { Target, Value } from './expression/evaluate.ts';
import type { GuestKernel } from './linux/kernel.ts';
import type { Frame } from './linux/unwind.ts';
import type { Symbolizer } from './symbols/symbolizer.ts';

/** Prefix of Hyper-V VP registers in expressions. */
export const HV = 'hv.';

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

/** `frame` left out or the innermost one: the VP's own registers, which may be written. */
export function machineContext(kernel: GuestKernel, vp: number, frame?: Frame): Target {
  const { machine, symbols } = kernel;
  const outer = frame && frame.kind !== 'top' ? frame : undefined;
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
      return name.startsWith(HV) ? machine.readHypervRegister(vp, name.slice(HV.length)) : undefined;
    },
    // What the editor's hover has under the cursor has no $ in front: `x0`.
    symbol(name) {
      return symbols.address(name) ?? this.register(name)?.value;
    },
    setName(name, value) {
      return name.startsWith(HV) && machine.writeHypervRegister(vp, name.slice(HV.length), value);
    },
    read: (address, size) => machine.readVirtual(vp, address, size),
    write: (address, data) => machine.writeVirtual(vp, address, data),
  };
}

/** An address with the symbol it is in. */
export function addressText(address: bigint, symbols: Symbolizer): string {
  const at = symbols.at(address);
  return at ? `${hex(address, 16)} <${symbols.format(address)}>` : hex(address, 16);
}

/** True when a value is an address to look at. */
export const isAddress = (value: Value): boolean =>
  value.text === undefined && value.data === undefined && (value.type.to !== undefined || value.type.address === true);

/** A value as views show it. */
export function formatValue(value: Value, symbols: Symbolizer): string {
  if (value.text !== undefined) return value.text;
  if (value.data !== undefined) return valueText(value.data);
  const { size, signed } = value.type;
  const bits = BigInt.asUintN(size * 8, value.value);
  // Kernel addresses are known by their looks.
  if (isAddress(value) || (size === 8 && bits >> 63n && symbols.at(bits))) return addressText(bits, symbols);
  const decimal = value.value > 9n || value.value < -9n;
  if (signed) return decimal ? `${value.value} (${hex(bits)})` : `${value.value}`;
  return decimal && bits < 1n << 32n ? `${hex(bits)} (${bits})` : hex(bits, size > 8 ? 32 : 0);
}
