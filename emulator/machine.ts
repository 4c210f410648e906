/**
 * The machine: builds every part from a configuration, wires them, and runs them. The only place that knows all parts.
 */
import { Clock } from './base/clock.ts';
import { freeze } from './base/frozen.ts';
import { field, held, plainOf, type Plain, type Refusal, register, setAt, type Tree } from './base/inspect.ts';
import { Trace, type TraceEvent, type TraceKind } from './base/trace.ts';
import { type BootInfo, EFI_RUNTIME_CALL, EfiRuntime, prepareBoot } from './boot/index.ts';
import {
  ConfigError,
  DEFAULTS,
  type DiskConfig,
  type DisplayConfig,
  displayProblem,
  type MachineConfig,
  type NetworkConfig,
  vramMegabytes,
} from './config.ts';
import { registerMove } from './cpu/breakpoints.ts';
import { Cpu, type CpuExit } from './cpu/cpu.ts';
import { BELOW_RAM, COUNTER_COUNT } from './cpu/layout.ts';
import type { Feature } from './cpu/features.ts';
import { MODELS } from './cpu/models.ts';
import { isConditionRegister } from './cpu/condition.ts';
import { type Counters, type Filter, MAX_CLAUSES } from './cpu/filter.ts';
import type { CpuPorts } from './cpu/ports.ts';
import { Registers } from './cpu/registers.ts';
import { cellOf, refresh } from './cpu/sysregs.ts';
import { OFF, VP, WAITING_WFI } from './cpu/vp-state.ts';
import { HYPERV_UID, VENDOR_HYP_UID } from './hyperv/discovery.ts';
import { type Conduit, HYPERV_SMCCC_FUNCTION } from './hyperv/hypercalls/router.ts';
import type { HypervisorHost } from './hyperv/host.ts';
import { partitionTree } from './hyperv/inspect.ts';
import { Partition } from './hyperv/partition.ts';
import type {
  ChannelAction,
  DiskError,
  DiskErrorOptions,
  Exit,
  HyperVRegisterInfo,
  Inspect,
  Machine,
  MouseInput,
  NetworkEvent,
  NetworkRequest,
  PlatformInfo,
  RegisterInfo,
  Screen,
  Snapshot,
  SocketEvent,
  SocketRequest,
  Until,
  VmbusInfo,
} from './index.ts';
import { InputLog } from './input-log.ts';
import { Bus } from './memory/bus.ts';
import { PAGE, Ram } from './memory/ram.ts';
import { type Personality, personality } from './personalities.ts';
import { COM1, COM2, GICD, GICD_BY_TREE, GICR, MAX_RAM, MAX_VPS, MMIO_HIGH, MMIO_LOW, RTC } from './platform/addresses.ts';
import { GenericTimer } from './platform/generic-timer.ts';
import { GicV3 } from './platform/gic-v3.ts';
import { Pmu } from './platform/pmu.ts';
import { Pl011 } from './platform/pl011.ts';
import { Pl031 } from './platform/pl031.ts';
import { psciRows } from './platform/psci.ts';
import { NOT_SUPPORTED, Smccc, smcccRows, type SmcccEffect, type SmcccRow } from './platform/smccc.ts';
import { Hash, RamHistory, type RamSnapshot, assign, capture, hashRam } from './snapshot.ts';
import { Vmbus } from './vmbus/connection.ts';
import type { Services } from './vmbus/services.ts';

/** x0 of a hypercall through HVC #0 (reference §2.1). */
const HYPERCALL_SMCCC = BigInt(HYPERV_SMCCC_FUNCTION);

const MIB = 1 << 20;
/** EFI SetTime moves the clock by so many ms. */
const EFI_OFFSET = { min: -(1n << 48n), max: 1n << 48n };

/** Numbers of the bits that are set. */
const bitsOf = (bits: number): number[] => Array.from({ length: 32 }, (_, i) => i).filter((i) => bits & (1 << i));

const CNTKCTL = cellOf('CNTKCTL_EL1');
const eventStreamAlarm = (vp: number): string => `event-stream-${vp}`;

interface MachineSnapshot extends Snapshot {
  readonly ram: RamSnapshot;
  readonly vps: readonly Uint8Array[];
  readonly state: Record<string, unknown>;
  /** Hit counts of breakpoints: none of the guest's business, but going back and on again stops where it did. */
  readonly hits: ReturnType<Counters['take']>;
}

/** Instructions of a turn that ends with YIELD that can have done nothing but look; and ns that go by when all VPs do that. */
const SPIN = 64;
const SPIN_TIME = 1000;

/** What the loop itself has to remember. */
interface LoopState {
  /** VP whose turn it is, and the instructions left of that turn. */
  current: number;
  turn: number;
  /** Turns in a row that ended soon by YIELD. */
  spins: number;
  /** Instructions each VP has retired. */
  retired: number[];
  /** Set by a part inside a slice; the loop returns it at the next instruction boundary. */
  ending?: Exit;
}

/** Console bytes, what a debugger has changed of the platform, a key, a movement of the mouse, another resolution, what the network or a socket asked for, a cable, a network card. */
type OutsideInput =
  | { bytes: Uint8Array }
  | { key: { scanCode: number; released: boolean } }
  | { mouse: MouseInput }
  | { display: DisplayConfig }
  | { network: NetworkEvent }
  | { socket: SocketEvent }
  | { edit: { path: string[]; value: bigint | string } }
  | { register: { vp: number; name: string; value: bigint } }
  | { channel: { relid: number; action: ChannelAction } }
  | { link: boolean }
  | { card: NetworkConfig | undefined };

export function createMachine(config: MachineConfig): Machine & { readonly boot: BootInfo } {
  return new HyperVMachine(config);
}

class HyperVMachine implements Machine {
  readonly boot: BootInfo;
  readonly vpCount: number;
  onConsole: (bytes: Uint8Array) => void = () => {};
  activeVp = 0;
  onNetwork: (request: NetworkRequest) => void = () => {};
  onSocket: (request: SocketRequest) => void = () => {};

  readonly #trace = new Trace();
  readonly #clock = new Clock();
  readonly #ram: Ram;
  readonly #cpu: Cpu;
  readonly #gic: GicV3;
  readonly #timer: GenericTimer;
  readonly #pmu: Pmu;
  readonly #console: Pl011;
  readonly #partition: Partition;
  readonly #vmbus: Vmbus;
  readonly #registers: Registers;
  readonly #smccc: Smccc;
  readonly #platform: Personality;
  readonly #platformName: string;
  readonly #history: RamHistory;
  readonly #quantum: number;
  readonly #loop: LoopState = { current: 0, turn: 0, spins: 0, retired: [] };
  readonly #inputs = new InputLog<OutsideInput>();
  /** State of every part by name: what snapshots, the hash and inspect go over. */
  readonly #state: Record<string, object>;
  /** Subtrees of parts that nothing else here needs. */
  readonly #others: () => Tree;
  /** Typed outside since the last slice. */
  #typed: Uint8Array[] = [];
  /** Written by the guest in this slice. */
  #written: number[] = [];
  #onByte: Until['console'];
  /** VPs that do not stop again where they have stopped: until they have run. */
  readonly #resuming = new Set<number>();

  constructor(config: MachineConfig) {
    if (!Number.isInteger(config.memory) || config.memory < 64 || config.memory > MAX_RAM >>> 20)
      throw new ConfigError(`memory must be 64 to ${MAX_RAM >>> 20} MiB, not ${config.memory}`);
    const maxMemory = config.maxMemory ?? config.memory;
    if (!Number.isInteger(maxMemory) || maxMemory < config.memory || maxMemory > MAX_RAM / MIB)
      throw new ConfigError(`maxMemory must be ${config.memory} (memory) to ${MAX_RAM / MIB} MiB, not ${maxMemory}`);
    if (!Number.isInteger(config.cpus) || config.cpus < 1 || config.cpus > MAX_VPS)
      throw new ConfigError(`cpus must be 1 to ${MAX_VPS}, not ${config.cpus}`);
    if (!Number.isInteger(config.quantum) || config.quantum < 1)
      throw new ConfigError(`quantum must be at least 1 instruction, not ${config.quantum}`);
    const model = Object.hasOwn(MODELS, config.cpu) ? MODELS[config.cpu] : undefined;
    if (!model) throw new ConfigError(`cpu "${config.cpu}" is not a model: ${Object.keys(MODELS).join(', ')}`);
    const platform = personality(config.platform, config.platformOverrides);
    this.#platform = platform;
    this.#platformName = config.platform ?? DEFAULTS.platform;
    if (!platform.hypervisor && (config.disks?.length || config.network || config.sockets))
      throw new ConfigError(`platform "${this.#platformName}" has no VMBus: it cannot have disks, a network or sockets`);
    this.vpCount = config.cpus;
    this.#quantum = config.quantum;
    this.#loop.retired = new Array<number>(config.cpus).fill(0);
    const clock = this.#clock;
    const trace = this.#trace;
    const display = config.display ?? DEFAULTS.display;
    const badDisplay = displayProblem(display);
    if (badDisplay) throw new ConfigError(badDisplay);
    this.#ram = new Ram(maxMemory * MIB, BELOW_RAM, vramMegabytes(display) * MIB, config.memory * MIB);
    const bus = new Bus(this.#ram, trace);
    this.#history = new RamHistory(this.#ram);

    const gic = new GicV3({
      vpCount: config.cpus,
      distributor: config.boot === 'device-tree' ? GICD_BY_TREE : GICD,
      setIrq: (vp, irq, fiq) => this.#setLines(vp, irq, fiq),
      trace,
      names: {
        ...Object.fromEntries(Object.entries(platform.ppi).map(([of, intid]) => [intid, of])),
        ...{ [COM1.intid]: 'COM1', [COM2.intid]: 'COM2', [RTC.intid]: 'RTC' },
      },
    });
    this.#gic = gic;
    const timer = new GenericTimer({
      vpCount: config.cpus,
      clock,
      interrupts: gic,
      frequency: platform.counterFrequency,
      ppi: platform.ppi,
      silent: platform.timer === 'silent',
      trace,
    });
    this.#timer = timer;
    for (let vp = 0; vp < config.cpus; vp++) clock.on(eventStreamAlarm(vp), () => this.#cpu.sendEvent(vp));
    const features: ReadonlySet<Feature> = new Set(model.features);
    const version = features.has('PMUv3p5') ? 6 : features.has('PMUv3p4') ? 5 : features.has('PMUv3p1') ? 4 : 1;
    this.#pmu = new Pmu({ vpCount: config.cpus, version, interrupts: gic, intid: platform.ppi.pmu });
    const ports: CpuPorts = {
      bus,
      clock,
      trace,
      features,
      model: config.cpu,
      vpCount: config.cpus,
      gic,
      timer,
      counterPeriod: timer.period,
      pmu: this.#pmu,
      seed: config.seed,
    };
    this.#cpu = new Cpu(ports, undefined, { engine: config.engine, threshold: config.threshold });
    this.#console = new Pl011({ name: 'COM1', ...COM1, interrupts: gic, clock, output: (byte) => this.#write(byte) });
    const com2 = new Pl011({ name: 'COM2', ...COM2, interrupts: gic, clock, output: () => {} });
    const rtc = new Pl031({ name: 'RTC', ...RTC, interrupts: gic, clock, startTime: config.startTime });
    for (const r of [...gic.regions, this.#console.region, com2.region, rtc.region]) bus.map(r);

    const cpu = this.#cpu;
    const registers = new Registers({ ports, tlb: cpu }, ports.features, (vp) => {
      refresh(vp);
      cpu.stateChanged();
    });
    this.#registers = registers;
    const host: HypervisorHost = {
      ram: this.#ram,
      clock,
      trace,
      interrupts: gic,
      registers: {
        read: (vp, name) => registers.read(cpu.vps[vp], name),
        write: (vp, name, value) => registers.write(cpu.vps[vp], name, value),
      },
      vpCount: config.cpus,
      counterFrequency: platform.counterFrequency,
      counter: () => timer.counter(),
      flushTlb: () => cpu.flushAll(),
      // One instruction is one nanosecond (clock.ts).
      runtime: (vp) => this.#loop.retired[vp],
      idle: (vp) => cpu.vps[vp].setU32(VP.RUN_STATE, WAITING_WFI),
      startVp: (vp, pc, values) => this.#startVp(vp, pc, values),
      redistributor: (vp) => GICR.gpa + vp * GICR.stride,
    };
    this.#partition = new Partition(host, platform);
    this.#vmbus = new Vmbus(this.#partition, {
      startTime: config.startTime,
      disks: config.disks,
      network: config.network,
      ask: (request) => this.onNetwork(request),
      sockets: config.sockets,
      askSockets: (request) => this.onSocket(request),
      keyValuePairs: config.keyValuePairs,
      copyFiles: config.copyFiles,
      display,
      mmio: [MMIO_LOW, MMIO_HIGH],
      raiseSpi: (intid) => gic.pulseSpi(intid),
      version: platform.vmbusVersion,
      monitorPages: platform.monitorPages,
      firstRelid: platform.firstRelid,
    });
    for (const r of this.#vmbus.pci.regions) bus.map(r);
    const efi = new EfiRuntime(() => config.startTime + clock.now / 1e6);
    const uid: SmcccRow = {
      id: VENDOR_HYP_UID,
      name: 'VENDOR_HYP_UID',
      call: ({ registers }) => {
        if (!platform.discovery.includes('smccc')) return NOT_SUPPORTED;
        for (let n = 1; n < 4; n++) registers.setX(n, HYPERV_UID[n]);
        return HYPERV_UID[0];
      },
    };
    const efiRows = Object.entries(EFI_RUNTIME_CALL).map(
      ([name, id]): SmcccRow => ({
        id,
        name: `EFI ${name}`,
        call: ({ registers }) => {
          const answer = efi.call(id, registers.x(1), registers.x(2));
          if (!answer) return NOT_SUPPORTED;
          registers.setX(1, answer[1]);
          registers.setX(2, answer[2]);
          return answer[0];
        },
      }),
    );
    const psci = psciRows({
      vpCount: config.cpus,
      isOn: (vp) => cpu.vps[vp].u32(VP.RUN_STATE) !== OFF,
      isMemory: (gpa) => gpa < BigInt(this.#ram.size),
      version: platform.psciVersion,
    });
    this.#smccc = new Smccc([...smcccRows(platform.smcccVersion), ...psci, uid, ...efiRows], trace);

    this.boot = prepareBoot(config, this.#ram, {
      conduit: platform.psciConduit,
      ppi: platform.ppi,
      hypervisor: platform.hypervisor,
      hypervisorId: platform.discovery.includes('acpi'),
    });
    for (let vp = 0; vp < config.cpus; vp++) {
      cpu.reset(vp, vp === 0 ? BigInt(this.boot.pc) : 0n);
      if (vp > 0) cpu.vps[vp].setU32(VP.RUN_STATE, OFF);
    }
    this.boot.x.forEach((v, n) => {
      cpu.vps[0].setX(n, BigInt(v));
    });

    this.#others = () => ({ com2: com2.inspect(), rtc: rtc.inspect(), efi: { offset: held(efi.state, 'offset', EFI_OFFSET) } });
    this.#state = {
      clock: clock.state,
      memory: this.#ram.state,
      loop: this.#loop,
      inputs: this.#inputs.state,
      gic: gic.state,
      timer: timer.state,
      pmu: this.#pmu.state,
      com1: this.#console.state,
      com2: com2.state,
      rtc: rtc.state,
      efi: efi.state,
      hyperv: this.#partition.state,
      vmbus: this.#vmbus.state,
    };
  }

  engineStatistics() {
    const t = this.#cpu.translator;
    const [interpret, jump, near] = t?.left ?? [0, 0, 0];
    return {
      /** Times when generated code came back to TypeScript. */
      exits: this.#cpu.exits(),
      ...(t && {
        ...t.statistics,
        /** Instructions executed in regions, and how often these were left: for the interpreter, for code elsewhere, for code near by. */
        executed: t.executed,
        left: { interpret, jump, near },
      }),
    };
  }
  set engineClock(f: () => number) {
    if (this.#cpu.translator) this.#cpu.translator.clock = f;
  }

  get instructions(): number {
    return this.#clock.state.instructions;
  }
  get now(): number {
    return this.#clock.now;
  }
  get ramSize(): number {
    return this.#ram.size;
  }

  // --- the run loop ----------------------------------------------------------------------------------------------

  run(until: Until): Exit {
    const clock = this.#clock;
    const end = until.instructions === undefined ? Number.POSITIVE_INFINITY : clock.state.instructions + until.instructions;
    const endTime = until.nanoseconds === undefined ? Number.POSITIVE_INFINITY : clock.now + until.nanoseconds;
    this.#takeInput();
    this.#onByte = until.console;
    if (until.resumeVp !== undefined) this.#resuming.add(until.resumeVp);
    let exit: Exit | undefined;
    while (exit === undefined) {
      clock.fireDue();
      exit = this.#takeEnding();
      if (exit) break;
      if (clock.state.instructions >= end || clock.now >= endTime) {
        exit = { kind: 'limit' };
        break;
      }
      const vp = this.#pick(until);
      if (vp < 0) {
        const only = until.onlyVp ?? until.stepVp;
        if (only !== undefined && this.vpState(only) === 'off') {
          exit = { kind: 'halted' };
          break;
        }
        // Everybody waits: time moves to what wakes somebody.
        if (clock.nextDue === Number.POSITIVE_INFINITY && endTime === Number.POSITIVE_INFINITY) exit = { kind: 'halted' };
        else clock.skipTo(Math.min(clock.nextDue, endTime));
        continue;
      }
      const step = vp === until.stepVp;
      // Turns are for several.
      const alone = this.vpCount === 1 || until.onlyVp !== undefined;
      const budget = Math.min(
        end - clock.state.instructions,
        clock.nextDue - clock.now,
        endTime - clock.now,
        step ? 1 : alone ? Number.POSITIVE_INFINITY : this.#loop.turn,
      );
      const before = clock.state.instructions;
      const resume = this.#resuming.has(vp);
      this.activeVp = vp;
      const out = this.#cpu.run(vp, budget, { resume });
      // What a hypercall reads of the VP's run time is what it was before the call, however the run was cut.
      const reached = clock.state.instructions;
      this.#loop.retired[vp] += reached - before;
      exit = this.#after(vp, out, until, resume && reached === before);
      this.#loop.retired[vp] += clock.state.instructions - reached;
      const ran = clock.state.instructions - before;
      if (ran > 0) this.#resuming.delete(vp);
      if (!step && !alone) this.#endOfRun(ran, out.kind === 'yield');
      if (step && ran > 0 && exit === undefined) exit = this.#takeEnding() ?? { kind: 'step', vp };
    }
    this.#flushConsole();
    return exit;
  }

  /** What a part has ended the slice with; it is told once. */
  #takeEnding(): Exit | undefined {
    const { ending } = this.#loop;
    this.#loop.ending = undefined;
    return ending;
  }

  /**
   * The turn is shorter by `ran` instructions; YIELD ends it: whoever spins waits for another VP. When all that are awake do nothing but
   * spin they wait for time to go by, and it does.
   */
  #endOfRun(ran: number, yielded: boolean): void {
    const loop = this.#loop;
    loop.turn -= ran;
    if (!yielded) {
      if (loop.turn <= 0) loop.spins = 0;
      return;
    }
    loop.spins = this.#quantum - loop.turn <= SPIN ? loop.spins + 1 : 0;
    loop.turn = 0;
    if (loop.spins === 0) return;
    let awake = 0;
    for (let vp = 0; vp < this.vpCount; vp++) if (this.#cpu.isAwake(vp)) awake++;
    if (loop.spins < awake) return;
    loop.spins = 0;
    this.#clock.skipTo(Math.min(this.#clock.nextDue, this.#clock.now + SPIN_TIME));
  }

  /** The VP to run now: the current one while its turn lasts and it is awake, else the next awake one; -1 if all that may run wait. */
  #pick({ stepVp, onlyVp }: Until): number {
    const loop = this.#loop;
    const cpu = this.#cpu;
    if (stepVp !== undefined && cpu.isAwake(stepVp)) return stepVp;
    if (onlyVp !== undefined) return cpu.isAwake(onlyVp) ? onlyVp : -1;
    // One that is off is not waited for.
    if (stepVp !== undefined && this.vpState(stepVp) === 'off') return -1;
    if (loop.turn > 0 && cpu.isAwake(loop.current)) return loop.current;
    for (let i = 1; i <= this.vpCount; i++) {
      const vp = (loop.current + i) % this.vpCount;
      if (!cpu.isAwake(vp)) continue;
      loop.current = vp;
      loop.turn = this.#quantum;
      cpu.setYields(
        vp,
        cpu.vps.some((other) => other.index !== vp && cpu.isAwake(other.index)),
      );
      return vp;
    }
    return -1;
  }

  /** Deals with what ended a run of the CPU. A result ends the slice. */
  #after(vp: number, out: CpuExit, until: Until, resumed: boolean): Exit | undefined {
    switch (out.kind) {
      case 'budget':
      case 'alarm':
      case 'wfi':
        return undefined;
      case 'wfe': {
        const event = this.#timer.nextEvent(this.#cpu.vps[vp].u32(CNTKCTL));
        if (event < Number.POSITIVE_INFINITY) this.#clock.set(eventStreamAlarm(vp), event);
        return undefined;
      }
      case 'yield':
        return undefined;
      case 'breakpoint': {
        const { clauses } = out;
        return {
          kind: 'breakpoint',
          vp,
          pc: this.#cpu.vps[vp].pc,
          ...(clauses === undefined ? {} : { clauses: bitsOf(clauses) }),
        };
      }
      case 'watchpoint':
        return { ...out, vp };
      case 'hvc':
      case 'smc':
        return this.#call(vp, out.kind, out.imm, until, resumed);
      case 'exception':
        throw new Error(`VP ${vp}: nobody asked to see exceptions`);
    }
  }

  /** HVC and SMC: hypercalls by either conduit, else PSCI and SMCCC. PC is at the instruction. */
  #call(vp: number, conduit: 'hvc' | 'smc', imm: number, until: Until, resumed: boolean): Exit | undefined {
    const state = this.#cpu.vps[vp];
    const form: Conduit | undefined =
      conduit !== 'hvc'
        ? undefined
        : imm === 1
          ? 'raw'
          : imm === 0 && (state.x(0) & 0xffffffffn) === HYPERCALL_SMCCC
            ? 'smccc'
            : undefined;
    if (form === undefined || !this.#platform.conduits.includes(form)) {
      if (imm !== 0) {
        this.#cpu.refuse(vp);
        return undefined;
      }
      const pc = state.pc;
      this.#cpu.retireAndAdvance(vp);
      const effect = this.#smccc.call(vp, state, conduit, pc);
      if (effect) this.#power(vp, effect);
      return undefined;
    }
    const info = this.#partition.router.decode(vp, form, state, state.pc, state.x(30));
    if (!resumed && until.hypercall?.(info)) return { kind: 'hypercall', vp, call: info };
    this.#cpu.retireAndAdvance(vp);
    const done = this.#partition.router.execute(info, state);
    const crash = this.#partition.takeCrash();
    if (crash) this.#loop.ending = { kind: 'crash', ...crash };
    return until.hypercall?.(done) ? { kind: 'hypercall', vp, call: done } : undefined;
  }

  /** A VP that is off comes out of reset at `pc`. False: it is not off. */
  #startVp(vp: number, pc: bigint, registers: Readonly<Record<string, bigint>> = {}): boolean {
    const cpu = this.#cpu;
    if (cpu.vps[vp].u32(VP.RUN_STATE) !== OFF) return false;
    cpu.reset(vp, pc);
    cpu.setYields(this.activeVp, true);
    this.#timer.reset(vp);
    this.#pmu.reset(vp);
    this.#gic.resetCpu(vp);
    for (const [name, value] of Object.entries(registers)) this.#registers.write(cpu.vps[vp], name, value);
    return true;
  }

  /** What PSCI asks for. */
  #power(vp: number, effect: SmcccEffect): void {
    const cpu = this.#cpu;
    switch (effect.kind) {
      case 'cpu-on':
        this.#startVp(effect.vp, effect.entry);
        cpu.vps[effect.vp].setX(0, effect.context);
        return;
      case 'cpu-off':
        cpu.vps[vp].setU32(VP.RUN_STATE, OFF);
        return;
      case 'suspend':
        cpu.vps[vp].setU32(VP.RUN_STATE, WAITING_WFI);
        return;
      case 'power-off':
      case 'reset':
        this.#loop.ending = { kind: effect.kind };
    }
  }

  #setLines(vp: number, irq: boolean, fiq: boolean): void {
    this.#cpu.setIrq(vp, irq);
    this.#cpu.setFiq(vp, fiq);
    // Somebody who slept may be awake now.
    const { current } = this.#loop;
    if ((irq || fiq) && vp !== current) this.#cpu.setYields(current, true);
  }

  // --- console ---------------------------------------------------------------------------------------------------

  #write(byte: number): void {
    this.#written.push(byte);
    if (!this.#onByte?.(byte)) return;
    this.#loop.ending = { kind: 'console' };
    this.#cpu.stop();
  }

  consoleInput(bytes: Uint8Array): void {
    this.#typed.push(bytes.slice());
  }

  /** Input enters between slices only, stamped with the instruction count. */
  #takeInput(): void {
    for (const bytes of this.#typed) {
      this.#inputs.add(this.#clock.state.instructions, { bytes });
      this.#console.input(bytes);
    }
    this.#typed = [];
  }

  /** Input that was `taken` at once, between two slices, goes to the log like the console's. */
  #outside(input: OutsideInput, taken: boolean): boolean {
    if (taken) this.#inputs.add(this.#clock.state.instructions, input);
    return taken;
  }

  #flushConsole(): void {
    if (!this.#written.length) return;
    const bytes = Uint8Array.from(this.#written);
    this.#written = [];
    this.onConsole(bytes);
  }

  subscribe(listener: (event: TraceEvent) => void, kinds?: Iterable<TraceKind>): () => void {
    return this.#trace.subscribe(listener, kinds);
  }

  // --- debugger --------------------------------------------------------------------------------------------------

  setBreakpoint(address: bigint, filter?: Filter): void {
    this.#cpu.setBreakpoint(address, filter);
  }
  readonly filterLimits = { clauses: MAX_CLAUSES, counters: COUNTER_COUNT };
  get evaluations(): { generated: number; judged: number } {
    return this.#cpu.evaluations;
  }
  isConditionRegister(name: string): boolean {
    return isConditionRegister(name);
  }
  hits(counter: number): number {
    return this.#cpu.counters.get(counter);
  }
  setHits(counter: number, hits: number): void {
    this.#cpu.counters.set(counter, hits);
  }
  clearBreakpoint(address: bigint): void {
    this.#cpu.clearBreakpoint(address);
  }
  setWatchpoint(
    address: bigint,
    size: number,
    access: 'r' | 'w' | 'rw',
    options?: { id?: number; filter?: Filter; physical?: boolean },
  ): void {
    this.#cpu.setWatchpoint({ address, size, access, ...options });
  }
  clearWatchpoint(address: bigint, size: number, physical = false): void {
    this.#cpu.clearWatchpoint(address, size, physical);
  }
  registerMove(word: number): { name: string; write: boolean; register: number } | undefined {
    return registerMove(word);
  }
  watchRegisters(names: readonly string[]): void {
    this.#cpu.watchRegisters(names);
  }
  vpState(vp: number): 'running' | 'waiting' | 'off' {
    const state = this.#cpu.vps[vp].u32(VP.RUN_STATE);
    return state === OFF ? 'off' : this.#cpu.isAwake(vp) ? 'running' : 'waiting';
  }
  registers(): readonly RegisterInfo[] {
    return this.#registers.list;
  }
  readRegister(vp: number, name: string): bigint | undefined {
    return this.#registers.read(this.#cpu.vps[vp], name);
  }
  writeRegister(vp: number, name: string, value: bigint): boolean {
    return this.#registers.write(this.#cpu.vps[vp], name, value);
  }
  translate(vp: number, address: bigint): number | undefined {
    return this.#cpu.translateForDebugger(vp, address);
  }
  /** Calls `piece` with the place in `#ram.bytes` of each page of [address, address + length); false when one is not memory. */
  #pages(vp: number, address: bigint, length: number, piece: (place: number, at: number, size: number) => void): boolean {
    for (let at = 0; at < length; ) {
      const va = BigInt.asUintN(64, address + BigInt(at));
      const size = Math.min(length - at, PAGE - Number(va & BigInt(PAGE - 1)));
      const gpa = this.translate(vp, va);
      const place = gpa === undefined ? -1 : this.#ram.at(gpa, size);
      if (place < 0) return false;
      piece(place, at, size);
      at += size;
    }
    return true;
  }
  readVirtual(vp: number, address: bigint, length: number): Uint8Array | undefined {
    const out = new Uint8Array(length);
    const whole = this.#pages(vp, address, length, (from, at, size) => out.set(this.#ram.bytes.subarray(from, from + size), at));
    return whole ? out : undefined;
  }
  writeVirtual(vp: number, address: bigint, data: Uint8Array): boolean {
    // All or nothing: look before writing.
    if (!this.#pages(vp, address, data.length, () => {})) return false;
    return this.#pages(vp, address, data.length, (to, at, size) => this.#ram.write(to, data.subarray(at, at + size)));
  }
  readPhysical(gpa: number, length: number): Uint8Array | undefined {
    const at = this.#ram.at(gpa, length);
    return at < 0 ? undefined : this.#ram.bytes.slice(at, at + length);
  }
  writePhysical(gpa: number, data: Uint8Array): boolean {
    const at = this.#ram.at(gpa, data.length);
    if (at < 0) return false;
    this.#ram.write(at, data);
    return true;
  }

  // --- Hyper-V ---------------------------------------------------------------------------------------------------

  hypervRegisters(): readonly HyperVRegisterInfo[] {
    return this.#partition.registers();
  }
  readHypervRegister(vp: number, name: string): bigint | undefined {
    return this.#partition.readRegister(vp, name);
  }
  writeHypervRegister(vp: number, name: string, value: bigint): boolean {
    return this.#outside({ register: { vp, name, value } }, this.#partition.writeRegister(vp, name, value));
  }
  channelAction(relid: number, action: ChannelAction): boolean {
    return this.#outside({ channel: { relid, action } }, this.#vmbus.act(relid, action));
  }
  vmbus(): VmbusInfo {
    return this.#vmbus.info();
  }
  get services(): Services {
    return this.#vmbus.services;
  }
  requestShutdown(restart: boolean): boolean {
    return this.#vmbus.services.shutdown.request(restart ? 'restart' : 'shutdown');
  }
  sendKey(scanCode: number, released: boolean): boolean {
    return this.#outside({ key: { scanCode, released } }, this.#vmbus.sendKey(scanCode, released));
  }
  sendMouse(mouse: MouseInput): boolean {
    return this.#outside({ mouse: { ...mouse } }, this.#vmbus.sendMouse(mouse));
  }
  screen(): Screen | undefined {
    return this.#vmbus.screen();
  }
  resizeDisplay(display: DisplayConfig): boolean {
    return this.#outside({ display: { ...display } }, this.#vmbus.resizeDisplay(display));
  }
  rescindDevice(name: string): boolean {
    return this.#vmbus.rescind(name);
  }
  offerDevice(name: string): boolean {
    return this.#vmbus.offer(name);
  }
  attachDisk(disk: DiskConfig): number {
    const { scsi, pci } = this.#vmbus;
    const [bus, other] = disk.bus === 'nvme' ? [pci, scsi] : [scsi, pci];
    if (other.has(disk.name)) throw new ConfigError(`disk "${disk.name}": there is or was one of that name on the other bus`);
    return bus.attach(disk);
  }
  /** Where a disk is, or was. */
  #busOf(name: string): Vmbus['scsi'] | Vmbus['pci'] {
    return this.#vmbus.pci.has(name) ? this.#vmbus.pci : this.#vmbus.scsi;
  }
  detachDisk(name: string): boolean {
    return this.#busOf(name).detach(name);
  }
  failDisk(name: string, error: DiskError, options?: DiskErrorOptions): boolean {
    return this.#busOf(name).inject(name, error, options);
  }
  attachNetwork(network: NetworkConfig): void {
    this.#vmbus.network.attach(network);
    this.#outside({ card: { ...network } }, true);
  }
  detachNetwork(): boolean {
    const there = this.#vmbus.network.detach();
    if (there) this.#vmbus.rescind(this.#vmbus.network.name);
    return this.#outside({ card: undefined }, there);
  }
  setNetworkLink(up: boolean): boolean {
    return this.#outside({ link: up }, this.#vmbus.network.setLink(up));
  }
  networkInput(event: NetworkEvent): void {
    // The log keeps it for long: snapshots share the bytes.
    if ('data' in event) freeze(event.data);
    this.#vmbus.network.event(event);
    this.#outside({ network: event }, true);
  }
  socketInput(event: SocketEvent): void {
    if ('data' in event) freeze(event.data);
    this.#vmbus.socket.event(event);
    this.#outside({ socket: event }, true);
  }
  diskWrites(name: string): Iterable<[offset: number, data: Uint8Array]> {
    return this.#busOf(name).written(name);
  }
  platform(): PlatformInfo {
    const { title, timer, discovery, conduits, ppi, vmbusVersion, hypervisor } = this.#platform;
    return {
      ...{ name: this.#platformName, title, hypervisor, discovery: [...discovery], conduits: [...conduits] },
      ...{ ppi: { ...ppi }, vpIndex: [...this.#partition.vpIndex], vmbusVersion, timer, timers: this.#timer.info() },
    };
  }
  tree(): Tree {
    const { clock, ram } = { clock: this.#clock, ram: this.#ram };
    const loop = this.#loop;
    const inputs = this.#inputs.state;
    return {
      time: {
        now: clock.now,
        instructions: clock.state.instructions,
        alarms: clock.state.alarms.map(({ id, due }) => ({ id, due, in: due - clock.now })),
      },
      vps: this.#cpu.vps.map((vp) => ({ state: this.vpState(vp.index), retired: loop.retired[vp.index] })),
      turn: { vp: loop.current, left: loop.turn, spins: loop.spins, quantum: this.#quantum },
      inputs: inputs.entries.length,
      ...(inputs.missing < 0 ? {} : { inputsMissingUpTo: inputs.missing }),
      memory: {
        size: ram.size,
        installed: ram.installed,
        deviceSize: ram.deviceSize,
        device: ram.state.device < 0 ? 'nowhere' : field(register(64), () => ram.state.device),
      },
      platform: capture(this.platform(), 'platform') as Plain,
      gic: this.#gic.inspect(),
      timers: this.#timer.inspect(),
      pmu: this.#pmu.inspect(),
      com1: this.#console.inspect(),
      ...this.#others(),
      hyperv: partitionTree(this.#partition),
      vmbus: this.#vmbus.inspect(),
      state: () => capture(this.#state) as Plain,
    };
  }
  edit(path: readonly string[], value: bigint | string): Refusal {
    const refused = setAt(this.tree(), path, value);
    this.#outside({ edit: { path: [...path], value } }, refused === undefined);
    return refused;
  }
  inspect(): Inspect {
    return plainOf(this.tree());
  }

  // --- state -----------------------------------------------------------------------------------------------------

  stateHash(): string {
    const hash = new Hash();
    hashRam(hash, this.#ram);
    for (const vp of this.#cpu.vps) hash.plain(vp.architecturalBytes());
    hash.plain(this.#state);
    return hash.digest();
  }

  snapshot(): Snapshot {
    // A TLB may hold what the guest's tables no longer say, until its maintenance: this run, too, goes on with empty ones.
    this.#cpu.flushAll();
    const snapshot: MachineSnapshot = {
      instructions: this.instructions,
      ram: this.#history.take(),
      vps: this.#cpu.vps.map((vp) => vp.bytes.slice()),
      state: capture(this.#state) as Record<string, unknown>,
      hits: this.#cpu.counters.take(),
    };
    return snapshot;
  }

  get releasable(): number {
    return this.#ram.discarded;
  }
  releaseMemory(): void {
    this.#ram.renew();
  }

  restore(snapshot: Snapshot): void {
    const s = snapshot as MachineSnapshot;
    this.#history.restore(s.ram);
    this.#cpu.vps.forEach((vp, i) => {
      vp.bytes.set(s.vps[i]);
    });
    assign(this.#state, s.state);
    this.#cpu.counters.restore(s.hits);
    this.#gic.refresh();
    this.#cpu.stateChanged();
    this.#resuming.clear();
    this.#typed = [];
    this.onNetwork({ kind: 'restart' });
    this.onSocket({ kind: 'restart' });
  }
}
