/** A machine without a CPU: RAM, clock, registers of one caller, and a record of every PPI. */
import assert from 'node:assert/strict';
import { Clock } from '../../../emulator/base/clock.ts';
import { Trace, type TraceEvent } from '../../../emulator/base/trace.ts';
import type { GeneralRegisters, HypervisorHost } from '../../../emulator/hyperv/host.ts';
import type { Conduit } from '../../../emulator/hyperv/hypercalls/router.ts';
import { Partition, type PartitionOptions } from '../../../emulator/hyperv/partition.ts';
import { VP_REGISTERS } from '../../../emulator/hyperv/registers.ts';
import type { HypercallInfo } from '../../../emulator/index.ts';
import { Ram } from '../../../emulator/memory/ram.ts';

export const RAM_SIZE = 0x40_0000;
export const SELF = 0xffff_ffff_ffff_ffffn;
export const VP_SELF = 0xffff_fffen;

export interface FakeOptions extends PartitionOptions {
  vps?: number;
  /** Hz. */
  frequency?: number;
  /** Bytes of device memory behind RAM. */
  deviceMemory?: number;
  /** Bytes of RAM; `RAM_SIZE` when left out. */
  ramSize?: number;
  /** Bytes of it at power-on; all there is when left out. */
  installed?: number;
}

/** Register number by TLFS name. */
export const numberOf = (name: string): number => {
  const row = VP_REGISTERS.find((r) => r.name === name);
  assert.ok(row, `no VP register ${name}`);
  return row.number;
};

export class FakeGuest {
  readonly ram: Ram;
  readonly clock = new Clock();
  readonly trace = new Trace();
  readonly events: TraceEvent[] = [];
  readonly ppis: { vp: number; intid: number }[] = [];
  readonly flushed: number[] = [];
  /** x0..x30 of the caller. */
  readonly x: bigint[] = Array.from({ length: 31 }, (_, n) => 0xdead_0000n + BigInt(n));
  /** The CPU's registers that the hypervisor may reach. */
  readonly architectural: Record<string, bigint> = { X5: 0x55n, PC: 0x8000n, TTBR1_EL1: 0x4000_0000n, Q3: (1n << 100n) | 7n };
  readonly host: HypervisorHost;
  readonly partition: Partition;

  constructor(options: FakeOptions = {}) {
    this.ram = new Ram(options.ramSize ?? RAM_SIZE, 65536, options.deviceMemory, options.installed);
    const frequency = options.frequency ?? 1_000_000_000;
    this.trace.subscribe((e) => this.events.push(e));
    this.host = {
      ram: this.ram,
      clock: this.clock,
      trace: this.trace,
      interrupts: { pulsePpi: (vp, intid) => void this.ppis.push({ vp, intid }) },
      registers: {
        read: (_vp, name) => this.architectural[name],
        write: (_vp, name, value) => {
          if (!(name in this.architectural)) return false;
          this.architectural[name] = value;
          return true;
        },
      },
      vpCount: options.vps ?? 2,
      counterFrequency: frequency,
      counter: () => (BigInt(Math.floor(this.clock.now)) * BigInt(frequency)) / 1_000_000_000n,
      flushTlb: (vp) => void this.flushed.push(vp),
      runtime: (vp) => (vp + 1) * 1_000,
    };
    this.partition = new Partition(this.host, options);
  }

  /** The caller's registers as the router sees them. */
  get regs(): GeneralRegisters {
    return {
      x: (n) => this.x[n],
      setX: (n, value) => {
        this.x[n] = BigInt.asUintN(64, value);
      },
    };
  }

  /** Makes a hypercall as it stands in the registers. */
  hvc(conduit: Conduit, vp = 0): HypercallInfo {
    const info = this.partition.router.decode(vp, conduit, this.regs, 0x1000n, 0x2000n);
    return this.partition.router.execute(info, this.regs);
  }

  /** SMCCC form: x1 is the control word, `inputs` go to x2 and up. */
  smccc(control: bigint, inputs: bigint[], vp = 0): HypercallInfo {
    this.x[0] = 0x4600_0001n;
    this.x[1] = control;
    inputs.forEach((value, i) => {
      this.x[2 + i] = value;
    });
    return this.hvc('smccc', vp);
  }

  /** Raw form: x0 is the control word, `inputs` go to x1 and up. */
  raw(control: bigint, inputs: bigint[], vp = 0): HypercallInfo {
    this.x[0] = control;
    inputs.forEach((value, i) => {
      this.x[1 + i] = value;
    });
    return this.hvc('raw', vp);
  }

  /** Reads a VP register by hypercall, as Linux does. */
  get(name: string, vp = 0): bigint {
    const info = this.smccc(0x1_0001_0050n, [SELF, VP_SELF, BigInt(numberOf(name))], vp);
    assert.equal(info.statusName, 'HV_STATUS_SUCCESS', `reading ${name}`);
    return this.x[6] | (this.x[7] << 64n);
  }

  /** Writes a VP register by hypercall; the status' name. */
  set(name: string, value: bigint, vp = 0): string | undefined {
    const low = BigInt.asUintN(64, value);
    return this.smccc(0x1_0001_0051n, [SELF, VP_SELF, BigInt(numberOf(name)), 0n, low, value >> 64n], vp).statusName;
  }

  /** Message page, event flags page and SINT2 on PPI 18, as Linux sets them up. */
  setUpSynic(vp = 0, messages = 0x10_0000 + vp * 0x2000, flags = messages + 0x1000): void {
    assert.equal(this.set('HvRegisterSipp', BigInt(messages) | 1n, vp), 'HV_STATUS_SUCCESS');
    assert.equal(this.set('HvRegisterSifp', BigInt(flags) | 1n, vp), 'HV_STATUS_SUCCESS');
    assert.equal(this.set('HvRegisterSint2', 18n, vp), 'HV_STATUS_SUCCESS');
    assert.equal(this.set('HvRegisterScontrol', 1n, vp), 'HV_STATUS_SUCCESS');
  }

  /** Message slot `sint` of a VP's page. */
  slot(vp = 0, sint = 2, page = 0x10_0000 + vp * 0x2000): { type: number; size: number; flags: number; payload: Uint8Array } {
    const at = page + sint * 256;
    const size = this.ram.view.getUint8(at + 4);
    return {
      type: this.ram.view.getUint32(at, true),
      size,
      flags: this.ram.view.getUint8(at + 5),
      payload: this.ram.read(at + 16, size),
    };
  }

  /** Frees the slot; true if the host said that more is waiting. */
  free(vp = 0, sint = 2, page = 0x10_0000 + vp * 0x2000): boolean {
    const at = page + sint * 256;
    this.ram.touch(at, 8);
    this.ram.view.setUint32(at, 0, true);
    return (this.ram.view.getUint8(at + 5) & 1) !== 0;
  }

  /** Lets virtual time pass, alarm by alarm. */
  advance(ns: number, afterEach: () => void = () => {}): void {
    const end = this.clock.now + ns;
    while (this.clock.nextDue <= end) {
      this.clock.skipTo(this.clock.nextDue);
      this.clock.fireDue();
      afterEach();
    }
    this.clock.skipTo(end);
  }

  /** What the host had to say about the guest's doings. */
  notes(): string[] {
    return this.events.flatMap((e) => (e.kind === 'guest' ? [`${e.part}: ${e.message}`] : []));
  }
}
