/**
 * The emulator's public API: what the debug adapter and the command line see. Types and facts here. What makes a machine is in
 * load.ts, apart, because loading it takes a moment, and a debug session has answers for the editor before.
 */
import type { DiskConfig, DisplayConfig, NetworkConfig } from './config.ts';
import type { Filter } from './cpu/filter.ts';
import type { NetworkEvent, NetworkRequest } from './network/outside.ts';
import type { SocketEvent, SocketRequest } from './network/sockets.ts';
import type { Services } from './vmbus/services.ts';

export {
  BOOT_KINDS,
  type BootKind,
  ConfigError,
  type CopyRequest,
  DEFAULTS,
  type DisplayConfig,
  displayProblem,
  isBootKind,
  type MachineConfig,
  type Disk,
  type DiskConfig,
  type NetworkConfig,
  type PlatformOverrides,
  type SocketsConfig,
} from './config.ts';
export type { Expression, Operator } from './cpu/condition.ts';
export type { Clause, Filter, HitCount } from './cpu/filter.ts';
export { PERSONALITIES, PERSONALITY_NAMES, type Personality, PLATFORM_SETTINGS, personality } from './personalities.ts';
export type { ImageFile } from './host/disk.ts';
export { pcapngFrame, pcapngHeader } from './host/pcapng.ts';
export { openImage, type ParentOpener } from './host/image.ts';
export { isVhdxDisk, type VhdxDisk } from './host/vhdx.ts';
export { differencingVhdx } from './host/vhdx-writer.ts';
export { describeFrame } from './network/packet.ts';
export type { NetworkEvent, NetworkRequest } from './network/outside.ts';
export type { SocketEvent, SocketRequest } from './network/sockets.ts';
export { type HypercallFields, TRACE_KINDS, type TraceEvent, type TraceKind } from './base/trace.ts';
export { bitNames, FEATURE_WORDS, type FeatureField, type FeatureWordRow } from './hyperv/features.ts';
export { describeVpRegister } from './hyperv/registers.ts';
export {
  type IpSettings,
  KVP_POOLS,
  type KvpItem,
  type KvpPool,
  type KvpValue,
  type Services,
  type ShutdownKind,
} from './vmbus/services.ts';
export { callName, hypercallNames, STATUS as HV_STATUS } from './hyperv/tlfs.ts';

/** A hypercall as a condition sees it: at entry `status` and `output` are absent. */
export interface HypercallInfo {
  phase: 'entry' | 'return';
  vp: number;
  pc: bigint;
  lr: bigint;
  conduit: 'smccc' | 'raw';
  code: number;
  /** TLFS name (`HvCallPostMessage`), or `HvCall0x1234`. */
  name: string;
  fast: boolean;
  repCount: number;
  repStart: number;
  /** The control word as the guest passed it. */
  control: bigint;
  input: Record<string, unknown>;
  output?: Record<string, unknown>;
  status?: number;
  statusName?: string;
  repsCompleted?: number;
}

/** When `run` comes back besides the machine's own end. */
export interface Until {
  /** At most this many instructions from now. */
  instructions?: number;
  /** At most this much virtual time from now: bounds idle time, so that a session can keep step with the wall clock. */
  nanoseconds?: number;
  /** Stop when this says so; called at entry (before anything happened) and at return of every hypercall. */
  hypercall?: (call: HypercallInfo) => boolean;
  /** Called with every byte the guest writes to the serial console; true: stop after the instruction that wrote it. */
  console?: (byte: number) => boolean;
  /** Step this VP by one instruction; others run only while it waits. */
  stepVp?: number;
  /** Others than this VP do not run. */
  onlyVp?: number;
  /** Pass over a breakpoint at the current PC of this VP (resuming after a stop there). */
  resumeVp?: number;
}

export type Exit =
  | { kind: 'limit' } // `instructions` or `nanoseconds` used up
  | { kind: 'console' } // `console` said so
  | { kind: 'step'; vp: number }
  /** `clauses`: which of the filter's stop; left out: it has no filter, or one without a value here (memory that is not mapped). */
  | { kind: 'breakpoint'; vp: number; pc: bigint; clauses?: number[] }
  /** `hits`: of watchpoints with an id, those that stop; `judged`: because their filter says so. */
  | {
      kind: 'watchpoint';
      vp: number;
      pc: bigint;
      address: bigint;
      access: 'r' | 'w';
      /** The address is a GPA. */
      physical?: true;
      hits?: readonly { readonly id: number; readonly judged: boolean }[];
    }
  | { kind: 'hypercall'; vp: number; call: HypercallInfo }
  | { kind: 'crash'; vp: number; parameters: bigint[]; control: bigint; message: string } // guest crash registers; may go on
  | { kind: 'power-off' }
  | { kind: 'reset' }
  | { kind: 'halted' }; // all VPs wait and nothing will ever wake them but the host (console input)

/** One register as views and expressions see it. */
export interface RegisterInfo {
  name: string;
  /** Core, SIMD, or a group of system registers: `Identification`, `Memory`, `Exception`, `Timer`, `GIC`, ... */
  group: string;
  /** 32, 64 or 128. */
  width: number;
  writable: boolean;
}

/** The host that the guest sees. */
export interface PlatformInfo {
  /** Its name in personalities.ts, whatever was overridden. */
  name: string;
  title: string;
  /** False: a plain machine, without Hyper-V. */
  hypervisor: boolean;
  discovery: string[];
  conduits: string[];
  /** INTIDs. */
  ppi: import('./platform/addresses.ts').PpiNumbers;
  /** HvRegisterVpIndex of VP n. */
  vpIndex: number[];
  vmbusVersion: string;
  timer: 'fires' | 'silent';
  timers: import('./platform/generic-timer.ts').TimerInfo[];
}

/** A named tree of everything that can be looked at: plain values, by part. */
export type Inspect = import('./base/inspect.ts').Plain;

export interface HyperVRegisterInfo {
  /** TLFS name, `HvRegisterVpIndex`. */
  name: string;
  number: number;
  writable: boolean;
}

/** A ring as its header in guest memory says, and what waits in it. */
export interface RingInfo {
  /** Bytes. */
  used: number;
  size: number;
  read: number;
  write: number;
  interruptMask: number;
  pendingSendSize: number;
  /** Packets that wait to be read, the first ones, decoded: where they begin and what they take. */
  packets: { at: number; bytes: number; what: string }[];
  /** What is wrong with the indices or with the next packet. */
  wrong?: string;
}

export interface ChannelInfo {
  relid: number;
  /** 0: the primary channel of its device. */
  index: number;
  /** Short device name: `heartbeat`, `keyboard`. */
  device: string;
  interfaceType: string;
  instance: string;
  /** offered, opening, open, closed, rescinded. */
  state: string;
  targetVp: number;
  connectionId: number;
  ringGpadl?: number;
  signalsFromGuest: number;
  signalsToGuest: number;
  packetsFromGuest: number;
  packetsToGuest: number;
  /** Packets for the guest that wait for room in its ring. */
  queued: string[];
  /** The rings to the host and to the guest, when open. */
  outgoing?: RingInfo;
  incoming?: RingInfo;
  /** The device's own state, for people. */
  details: Inspect;
}

/** What can be done to a channel from the host's side: take it away, give it back, signal one end as the other would. */
export type ChannelAction = 'rescind' | 'offer' | 'signal-host' | 'signal-guest';

export interface VmbusInfo {
  /** disconnected or connected. */
  state: string;
  /** `5.3` */
  version?: string;
  connectVp?: number;
  channels: ChannelInfo[];
  /** Devices that the guest had, and could have again. */
  takenAway: { relid: number; device: string }[];
}

/** Errors that a disk can be told to have. */
export type DiskError = 'read-error' | 'write-error' | 'hardware-error' | 'not-ready' | 'no-medium' | 'reset';

export interface DiskErrorOptions {
  /** Only commands on blocks from `first` to `last`. */
  first?: number;
  last?: number;
  /** How many commands; 1 when left out. */
  count?: number;
}

/** What the synthetic mouse tells of: places from 0 to 32767 from the left and the top of the screen. */
export interface MouseInput {
  x: number;
  y: number;
  /** Bits: 1 left, 2 right, 4 middle, 8 and 16 further ones. */
  buttons: number;
  /** Notches, away from the user. */
  wheel?: number;
}

/** The picture of the synthetic video. */
export interface Screen {
  /** Pixels. */
  width: number;
  height: number;
  /** Bits of a pixel: 32 (XRGB8888, blue in the lowest byte) or 16 (RGB565). */
  depth: number;
  /** Bytes from one line to the next. */
  pitch: number;
  /** From the first pixel to the last, where the guest draws them: to be looked at before the machine runs again. */
  bytes: Uint8Array;
}

/** The machine. All addresses and register values are bigints; GPAs are numbers. */
export interface Machine {
  readonly vpCount: number;
  /** The VP that runs, or ran last: whose doing an event of the trace is. */
  readonly activeVp: number;
  readonly instructions: number;
  /** Virtual nanoseconds since power-on. */
  readonly now: number;
  /** Runs until something of `until` or the machine's end happens. Synchronous; call it in slices. */
  run(until: Until): Exit;
  /** What the engine did so far, for those who measure; no part of the guest's state. Times are in units of `engineClock`. */
  engineStatistics(): Readonly<Record<string, unknown>>;
  /** The host's clock for that; nothing else depends on it. */
  engineClock: () => number;

  // --- debugger --------------------------------------------------------------------------------------------------
  /** Waiting: in WFI, WFE or a suspend call, with nothing yet that ends it. Off: not started, or stopped, by PSCI. */
  vpState(vp: number): 'running' | 'waiting' | 'off';
  /**
   * Breakpoints by virtual address, in every VP; one replaces another at its address. What `filter` says no to does not end `run`. Throws a
   * RangeError for what is no filter.
   */
  setBreakpoint(address: bigint, filter?: Filter): void;
  clearBreakpoint(address: bigint): void;
  /** How many clauses a filter may have, and how many counters there are. */
  readonly filterLimits: { readonly clauses: number; readonly counters: number };
  /** How often filters were evaluated: by generated code, and where that could not. For those who measure. */
  readonly evaluations: { readonly generated: number; readonly judged: number };
  /** True for registers that conditions of filters may have. */
  isConditionRegister(name: string): boolean;
  /** Hits that a counter of filters has counted. Snapshots hold them; the state hash does not. */
  hits(counter: number): number;
  setHits(counter: number, hits: number): void;
  /**
   * Stops after an access of a VP to [address, address + size), if the filter then says so. `id`: what the exit calls it. `physical`: the
   * address is a GPA. Throws a RangeError for more than 16 MiB, and for what is no filter.
   */
  setWatchpoint(
    address: bigint,
    size: number,
    access: 'r' | 'w' | 'rw',
    options?: { id?: number; filter?: Filter; physical?: boolean },
  ): void;
  clearWatchpoint(address: bigint, size: number, physical?: boolean): void;
  /**
   * Every MRS and MSR of these system registers is a breakpoint (the exit says no more), in place of those before. Throws a RangeError for
   * a name that is none's.
   */
  watchRegisters(names: readonly string[]): void;
  /** What an MRS or MSR moves: the system register, and the number of the general one (31: zero); undefined for any other instruction. */
  registerMove(word: number): { name: string; write: boolean; register: number } | undefined;
  /** Architectural registers: `x0`..`x30`, `sp`, `pc`, `pstate`, `v0`.., `fpcr`, `fpsr`, and system registers by name (any case). */
  registers(): readonly RegisterInfo[];
  readRegister(vp: number, name: string): bigint | undefined;
  /** False: no such register or it cannot be written. */
  writeRegister(vp: number, name: string, value: bigint): boolean;
  /** VP's view of virtual memory, without side effects, with EL1's rights. undefined: some byte is not mapped to RAM. */
  readVirtual(vp: number, address: bigint, length: number): Uint8Array | undefined;
  writeVirtual(vp: number, address: bigint, data: Uint8Array): boolean;
  /** GPA of a virtual address, undefined when it is not mapped. */
  translate(vp: number, address: bigint): number | undefined;
  readPhysical(gpa: number, length: number): Uint8Array | undefined;
  writePhysical(gpa: number, data: Uint8Array): boolean;
  readonly ramSize: number;

  // --- Hyper-V ---------------------------------------------------------------------------------------------------
  hypervRegisters(): readonly HyperVRegisterInfo[];
  readHypervRegister(vp: number, name: string): bigint | undefined;
  writeHypervRegister(vp: number, name: string, value: bigint): boolean;
  vmbus(): VmbusInfo;
  /** Host-initiated: asks the guest to shut down (or restart) through the shutdown IC. False: the channel is not open. */
  requestShutdown(restart: boolean): boolean;
  /** The integration services and dynamic memory. */
  readonly services: Services;
  /** Sends a key through the synthetic keyboard: a set 1 make code, with a prefix byte above it (`0xe048`). False: not open. */
  sendKey(scanCode: number, released: boolean): boolean;
  /** Moves the synthetic mouse, with its buttons as they are now. False: not open. */
  sendMouse(mouse: MouseInput): boolean;
  /** The synthetic video's picture; undefined: the guest has none. */
  screen(): Screen | undefined;
  /**
   * Gives the synthetic video another resolution. A guest that has it loses the device and is offered it again, since drivers ask for
   * resolutions only then. False: VRAM is too small, or no display has that size.
   */
  resizeDisplay(display: DisplayConfig): boolean;
  /** Takes a VMBus device away from the guest, by its short name. False: no such device, or the guest does not have it. */
  rescindDevice(name: string): boolean;
  /** Offers a device again that was taken away. False: no such device, it is there, or the guest has not let it go yet. */
  offerDevice(name: string): boolean;
  /**
   * Puts a disk at the first free LUN (NVMe: namespace, its number), also of a running guest. Throws `ConfigError`. One that was there
   * before keeps what was written.
   */
  attachDisk(disk: DiskConfig): number;
  /** Takes a disk away; the last NVMe disk goes with its controller, when the guest has let go of that. False: there is none of that name. */
  detachDisk(name: string): boolean;
  /** The next commands of a disk end in this error. False: there is no such disk. Throws `ConfigError` for errors that NVMe disks do not have. */
  failDisk(name: string, error: DiskError, options?: DiskErrorOptions): boolean;
  /** Plugs a network card in, also into a running guest. Throws `ConfigError`. */
  attachNetwork(network: NetworkConfig): void;
  /** Takes the network card away. False: there is none. */
  detachNetwork(): boolean;
  /** Plugs the network cable in or out. False: there is no card. */
  setNetworkLink(up: boolean): boolean;
  /** What the guest has written to a disk: offsets and bytes, ascending. */
  diskWrites(name: string): Iterable<[offset: number, data: Uint8Array]>;
  /** Does something to a VMBus channel. False: there is no such channel, or it is not in a state for that. */
  channelAction(relid: number, action: ChannelAction): boolean;
  /** Everything that can be looked at, by part. Good until the machine runs again. */
  tree(): import('./base/inspect.ts').Tree;
  /** Sets a field of `tree`, to a number or one of its names. Text: why that cannot be. Between slices only. */
  edit(path: readonly string[], value: bigint | string): string | undefined;
  /** The whole tree as plain values; `state` is every part's state as snapshots hold it. */
  inspect(): Inspect;
  /** The host that the guest sees, and the generic timers as they are now. */
  platform(): PlatformInfo;

  // --- the outside -----------------------------------------------------------------------------------------------
  /** Bytes typed on the serial console; they reach the guest at the next slice. */
  consoleInput(bytes: Uint8Array): void;
  /** Receives what the guest writes to the serial console. */
  onConsole: (bytes: Uint8Array) => void;
  /** Receives what the guest's network asks for outside the machine (mode `user`), at once. */
  onNetwork: (request: NetworkRequest) => void;
  /** What came of that. Between slices only. */
  networkInput(event: NetworkEvent): void;
  /** Receives what the guest's Hyper-V sockets ask for (mode `outside`), at once. */
  onSocket: (request: SocketRequest) => void;
  /** What came of that, and who connects to the guest. Between slices only. */
  socketInput(event: SocketEvent): void;
  /** Calls `listener` for every event of the trace, or those of some kinds; the result ends that. */
  subscribe(
    listener: (event: import('./base/trace.ts').TraceEvent) => void,
    kinds?: Iterable<import('./base/trace.ts').TraceKind>,
  ): () => void;

  // --- state -----------------------------------------------------------------------------------------------------
  /** Hash of RAM, VP state and every device, 16 hex digits. */
  stateHash(): string;
  snapshot(): Snapshot;
  restore(snapshot: Snapshot): void;
  /** Bytes of RAM that the guest has given back since the last `releaseMemory`: what that would free, at most. */
  readonly releasable: number;
  /**
   * Moves the machine into new memory without what the guest has given back; the old memory is garbage. Between two slices; the
   * guest, its code that is translated already and everything else about the machine stay as they are.
   */
  releaseMemory(): void;
}

/** A whole machine at one instant. Opaque; in memory; pages are shared with older snapshots where unchanged. */
export interface Snapshot {
  readonly instructions: number;
}
