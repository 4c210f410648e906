/** A CPU without an engine: RAM, ports that record, one VP after reset. For the tests of the system side. */
import { Clock } from '../../../emulator/base/clock.ts';
import { Trace } from '../../../emulator/base/trace.ts';
import { reset } from '../../../emulator/cpu/exceptions.ts';
import type { Feature } from '../../../emulator/cpu/features.ts';
import { Mmu } from '../../../emulator/cpu/mmu.ts';
import { modelOf } from '../../../emulator/cpu/models.ts';
import type { CpuPorts } from '../../../emulator/cpu/ports.ts';
import { refresh, systemRegister, writeSystemRegister } from '../../../emulator/cpu/sysregs.ts';
import { SystemInstructions } from '../../../emulator/cpu/system.ts';
import type { AddressSpace } from '../../../emulator/cpu/tlb.ts';
import { VP, VpState } from '../../../emulator/cpu/vp-state.ts';
import { Bus } from '../../../emulator/memory/bus.ts';
import { Ram } from '../../../emulator/memory/ram.ts';

export function fixture(
  options: { features?: readonly Feature[]; model?: string; vpCount?: number; index?: number; seed?: number } = {},
) {
  const model = options.model ?? 'max';
  const trace = new Trace();
  const ram = new Ram(4 << 20, 65536);
  /** Device registers touched, as `read NAME` and `write NAME value`, and TLB maintenance. */
  const log: string[] = [];
  const port = {
    read: (_vp: number, name: string) => {
      log.push(`read ${name}`);
      return 0x1234n;
    },
    write: (_vp: number, name: string, value: bigint) => {
      log.push(`write ${name} 0x${value.toString(16)}`);
    },
  };
  const ports: CpuPorts = {
    bus: new Bus(ram, trace),
    clock: new Clock(),
    trace,
    gic: port,
    timer: port,
    model,
    features: new Set(options.features ?? modelOf(model).features),
    vpCount: options.vpCount ?? 1,
    seed: options.seed,
  };
  const tlb = {
    flushAll: () => {
      log.push('flush all');
    },
    flushPage: (va: bigint, asid?: number) => {
      log.push(`flush 0x${va.toString(16)}${asid === undefined ? '' : ` of ASID ${asid}`}`);
    },
    flushAddressSpaces: (asid?: number) => {
      log.push(`flush address spaces ${asid ?? 'of all'}`);
    },
    switchAddressSpace: (vp: number, from: AddressSpace, to: AddressSpace) => {
      log.push(`switch VP ${vp} from ASID ${from.asid} to ${to.asid}`);
    },
    syncCounters: () => {},
    debugChanged: () => {
      log.push('debug');
    },
  };
  const mmu = new Mmu(ports);
  const system = new SystemInstructions(ports, tlb, mmu);
  const vp = new VpState(options.index ?? 0, ram.memory);
  reset(ports, vp, 0x1000n);
  const row = (name: string) => {
    const r = systemRegister(name);
    if (!r) throw new Error(`no register ${name}`);
    return r;
  };
  return {
    ports,
    ram,
    log,
    mmu,
    system,
    vp,
    row,
    set: (name: string, value: bigint) => writeSystemRegister(system, vp, row(name), value),
    get: (name: string) =>
      row(name).read ? (row(name).read as NonNullable<ReturnType<typeof row>['read']>)(system, vp) : vp.u64(row(name).at),
    /** Puts PSTATE there, banks of SP untouched. */
    pstate: (value: number) => {
      vp.setU32(VP.PSTATE, value);
      refresh(vp);
    },
    /** The word of MRS Xt, <name> or MSR <name>, Xt. */
    word: (name: string, direction: 'mrs' | 'msr', rt: number) => {
      const r = row(name);
      return (
        (0xd5000000 |
          (direction === 'mrs' ? 1 << 21 : 0) |
          (r.op0 << 19) |
          (r.op1 << 16) |
          (r.crn << 12) |
          (r.crm << 8) |
          (r.op2 << 5) |
          rt) >>>
        0
      );
    },
  };
}

/** The word of SYS #op1, Cn, Cm, #op2, Xt. */
export const sysWord = (op1: number, crn: number, crm: number, op2: number, rt = 31): number =>
  (0xd5080000 | (op1 << 16) | (crn << 12) | (crm << 8) | (op2 << 5) | rt) >>> 0;
