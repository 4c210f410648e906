/** A bare CPU for tests: RAM, no devices but one that remembers, page tables that map everything. */
import { Clock } from '../../../emulator/base/clock.ts';
import { Trace } from '../../../emulator/base/trace.ts';
import { Cpu, type CpuOptions } from '../../../emulator/cpu/cpu.ts';
import { refresh } from '../../../emulator/cpu/exceptions.ts';
import type { Feature } from '../../../emulator/cpu/features.ts';
import type { Insn } from '../../../emulator/cpu/insn.ts';
import { BELOW_RAM } from '../../../emulator/cpu/layout.ts';
import { modelOf } from '../../../emulator/cpu/models.ts';
import type { CpuPorts, PmuPort, SystemRegisterPort } from '../../../emulator/cpu/ports.ts';
import { cellOf } from '../../../emulator/cpu/sysregs.ts';
import { PSTATE, VP } from '../../../emulator/cpu/vp-state.ts';
import { Bus } from '../../../emulator/memory/bus.ts';
import { Ram } from '../../../emulator/memory/ram.ts';

const RAM_SIZE = 16 << 20;
/** Where the tests' code, data and tables are (physical = virtual unless a test maps otherwise). */
export const TEXT = 0x10000;
export const DATA = 0x200000;
export const TABLES = 0x400000;
export const VECTORS = 0x300000;
export const DEVICE = 0x8000_0000;

const noDevice: SystemRegisterPort = { read: () => 0n, write: () => {} };

export interface Bench {
  readonly cpu: Cpu;
  readonly ports: CpuPorts;
  readonly ram: Ram;
  /** Accesses of the device at `DEVICE`. */
  readonly accesses: string[];
  /** Puts words at `at`. */
  place(words: readonly number[], at: number): void;
  /** Puts words at TEXT (or `at`) and the first VP's PC there. */
  program(words: readonly number[], at?: number): void;
}

/** Descriptor bits (Arm ARM D8.3): valid block, AttrIndx 0 Normal / 1 Device, AF, AP. */
const BLOCK = 0x401n;
export const USER = 0x40n;
export const READ_ONLY = 0x80n;
const DEVICE_ATTR = 0x4n;

export interface BenchOptions {
  el?: 0 | 1;
  rows?: readonly Insn[];
  vpCount?: number;
  options?: CpuOptions;
  readonly pmu?: PmuPort;
  /** Bytes of device memory behind RAM. */
  deviceMemory?: number;
  /** CPU model. */
  model?: string;
}

export function bench({ el = 1, rows, vpCount = 1, options, pmu, deviceMemory, model = 'max' }: BenchOptions = {}): Bench {
  const ram = new Ram(RAM_SIZE, BELOW_RAM, deviceMemory);
  const trace = new Trace();
  const bus = new Bus(ram, trace);
  const accesses: string[] = [];
  bus.map({
    name: 'test',
    gpa: DEVICE,
    size: 0x1000,
    read: (offset, size) => {
      accesses.push(`r${size}@${offset.toString(16)}`);
      return BigInt(offset) | 0x1122334455660000n;
    },
    write: (offset, size, value) => {
      accesses.push(`w${size}@${offset.toString(16)}=${value.toString(16)}`);
    },
  });
  const features: ReadonlySet<Feature> = new Set(modelOf(model).features);
  const ports: CpuPorts = {
    bus,
    clock: new Clock(),
    trace,
    features,
    model,
    vpCount,
    gic: noDevice,
    timer: noDevice,
    pmu,
  };
  const cpu = new Cpu(ports, rows, options);

  // Level 1 table of 1 GiB blocks: 0 and 1 GiB are RAM at physical 0, 2 GiB the device, 3 GiB Normal memory where nothing is yet.
  const user = el === 0 ? USER : 0n;
  ram.view.setBigUint64(TABLES, BLOCK | user, true);
  ram.view.setBigUint64(TABLES + 8, BLOCK | user, true);
  ram.view.setBigUint64(TABLES + 16, 0x8000_0000n | BLOCK | user | DEVICE_ATTR, true);
  ram.view.setBigUint64(TABLES + 24, 0xc000_0000n | BLOCK | user, true);
  for (let i = 0; i < vpCount; i++) {
    cpu.reset(i, BigInt(TEXT));
    const vp = cpu.vps[i];
    vp.setU64(cellOf('MAIR_EL1'), 0x00ffn);
    vp.setU64(cellOf('TCR_EL1'), (1n << 37n) | (5n << 32n) | (1n << 23n) | 25n); // TBI0, IPS 48, EPD1, T0SZ 25
    vp.setU64(cellOf('TTBR0_EL1'), BigInt(TABLES));
    vp.setU64(cellOf('VBAR_EL1'), BigInt(VECTORS));
    vp.setU64(cellOf('CPACR_EL1'), 3n << 20n);
    vp.setU64(cellOf('SCTLR_EL1'), vp.u64(cellOf('SCTLR_EL1')) | 1n);
    vp.setU32(VP.PSTATE, el === 0 ? PSTATE.EL0T : PSTATE.EL1H | PSTATE.DAIF);
    refresh(vp);
  }
  cpu.stateChanged();
  const place = (words: readonly number[], at: number): void => ram.write(at, new Uint8Array(new Uint32Array(words).buffer));
  return {
    cpu,
    ports,
    ram,
    accesses,
    place,
    program(words, at = TEXT) {
      place(words, at);
      cpu.vps[0].pc = BigInt(at);
    },
  };
}
