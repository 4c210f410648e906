/**
 * The guest's partition: its VPs, its registers, and the ports that messages and events arrive at. VMBus and the machine
 * talk to this class; the guest talks to `router`.
 */
import type { HypercallFields } from '../base/trace.ts';
import type { HyperVRegisterInfo } from '../index.ts';
import { PAGE } from '../memory/ram.ts';
import { type CrashReport, type CrashState, crashReset } from './crash.ts';
import {
  ADVERTISED,
  type FeatureField,
  type FeatureName,
  type Features,
  type HypervisorVersion,
  hasFeature,
  IDENTITY,
} from './features.ts';
import type { HypervisorHost } from './host.ts';
import { Router } from './hypercalls/router.ts';
import { ReferenceTime } from './reference-time.ts';
import { VP_REGISTERS, vpRegister } from './registers.ts';
import { HV_MESSAGE_PAYLOAD_BYTE_COUNT } from './tlfs.ts';
import { Vp, type VpState, vpReset } from './vp.ts';

/** A guest that gives hints without end does not keep the host busy without end. */
const DISCARD_PERIOD_NS = 100_000_000;

export interface PartitionOptions {
  /** Dwords to advertise instead of `ADVERTISED`'s. */
  features?: Partial<Features>;
  /** What works although nothing advertises it: hosts whose VMM answers what its hypervisor does not know of. */
  granted?: readonly FeatureName[];
  /** Instead of `IDENTITY`. */
  identity?: HypervisorVersion;
  /** Values that registers read as, by TLFS name, whatever they hold. */
  registers?: Readonly<Record<string, bigint>>;
  /** Index of every VP as the guest knows it. Left out: 0, 1, 2, ... */
  vpIndex?: readonly number[];
}

export interface PartitionState {
  /** What is advertised. Only a debugger changes it. */
  features: Record<FeatureField, number>;
  guestOsId: bigint;
  referenceTsc: bigint;
  crash: CrashState;
  /** Cold discard hints followed: pages since that moment of the clock. */
  discarded: { since: number; pages: number };
  vps: VpState[];
}

/** The far end of a message connection: what HvCallPostMessage reaches. */
export interface MessagePort {
  /** Takes a message from VP `vp`; the status the guest sees. */
  post(vp: number, messageType: number, payload: Uint8Array): number;
  /** The payload decoded, for traces and conditions. No side effects. undefined: not one of ours. */
  describe(messageType: number, payload: Uint8Array): HypercallFields | undefined;
}

/** The far end of a range of event connections: what HvCallSignalEvent reaches. Returns the status the guest sees. */
export type EventPort = (vp: number, connectionId: number, flag: number) => number;

export class Partition {
  readonly host: HypervisorHost;
  readonly identity: HypervisorVersion;
  readonly overridden: ReadonlyMap<string, bigint>;
  /** HvRegisterVpIndex of VP n; inside the host VPs are 0, 1, 2, ... */
  readonly vpIndex: readonly number[];
  readonly state: PartitionState;
  readonly time: ReferenceTime;
  readonly vps: readonly Vp[];
  readonly router: Router;
  readonly #granted: readonly FeatureName[];
  readonly #messagePorts = new Map<number, MessagePort>();
  readonly #eventPorts: { first: number; count: number; port: EventPort }[] = [];
  readonly #onOsStart: (() => void)[] = [];

  constructor(host: HypervisorHost, options: PartitionOptions = {}) {
    this.host = host;
    this.identity = options.identity ?? IDENTITY;
    this.overridden = new Map(Object.entries(options.registers ?? {}));
    this.vpIndex = Array.from({ length: host.vpCount }, (_, vp) => options.vpIndex?.[vp] ?? vp);
    this.#granted = options.granted ?? [];
    this.state = {
      features: { ...ADVERTISED, ...options.features },
      guestOsId: 0n,
      referenceTsc: 0n,
      crash: crashReset(),
      discarded: { since: 0, pages: 0 },
      vps: Array.from({ length: host.vpCount }, vpReset),
    };
    this.time = new ReferenceTime(host);
    this.vps = this.state.vps.map((state, index) => new Vp(host, index, this.time, state));
    this.router = new Router(this);
  }

  /** True when the partition has this privilege or the hypervisor this feature. */
  has(feature: FeatureName): boolean {
    return hasFeature(this.state.features, feature) || this.#granted.includes(feature);
  }

  /** The VP that the guest knows by `index`; undefined: none. */
  vpAt(index: number): Vp | undefined {
    return this.vps[this.vpIndex.indexOf(index)];
  }

  // --- ports ---------------------------------------------------------------------------------------------------------------

  /** Connects a message port. Wiring, not state. */
  connectMessagePort(connectionId: number, port: MessagePort): void {
    if (this.#messagePorts.has(connectionId)) throw new Error(`connection ${connectionId} has a port already`);
    this.#messagePorts.set(connectionId, port);
  }

  messagePort(connectionId: number): MessagePort | undefined {
    return this.#messagePorts.get(connectionId);
  }

  /** Connects an event port to `count` connections from `first` on. Wiring, not state. */
  connectEventPort(first: number, count: number, port: EventPort): void {
    if (this.#eventPorts.some((e) => first < e.first + e.count && e.first < first + count))
      throw new Error(`connections from ${first} on have a port already`);
    this.#eventPorts.push({ first, count, port });
  }

  /** A message of SynIC type `type` decoded by whichever port knows it. */
  describeMessage(type: number, payload: Uint8Array): HypercallFields | undefined {
    for (const port of this.#messagePorts.values()) {
      const said = port.describe(type, payload);
      if (said) return said;
    }
    return undefined;
  }

  eventPort(connectionId: number): EventPort | undefined {
    return this.#eventPorts.find((e) => connectionId >= e.first && connectionId < e.first + e.count)?.port;
  }

  /** Calls `listener` whenever an operating system introduces itself: what an earlier one set up must be dropped. */
  onOsStart(listener: () => void): void {
    this.#onOsStart.push(listener);
  }

  // --- towards the guest -----------------------------------------------------------------------------------------------------

  /** Sends a SynIC message; it waits for its slot in order. At most 240 bytes. */
  deliverMessage(vp: number, sint: number, messageType: number, payload: Uint8Array, origin = 0n): void {
    if (payload.length > HV_MESSAGE_PAYLOAD_BYTE_COUNT) throw new Error(`SynIC message of ${payload.length} bytes`);
    this.vps[vp].synic.deliver(sint, { type: messageType, origin, payload });
  }

  /** Sets an event flag. False: the guest's SynIC does not take it. */
  signalFlag(vp: number, sint: number, flag: number): boolean {
    return this.vps[vp].synic.signal(sint, flag);
  }

  // --- registers -------------------------------------------------------------------------------------------------------------

  setGuestOsId(value: bigint): void {
    this.state.guestOsId = value;
    if (value === 0n) return;
    // A kernel that was started by kexec finds the old one's pages still in the SynIC; nothing may be written there any more
    // (§10.3). Kernels identify themselves before they use anything else, so a first boot loses nothing.
    for (const vp of this.vps) vp.resetSynic();
    for (const listener of this.#onOsStart) listener();
  }

  setReferenceTsc(value: bigint): void {
    this.state.referenceTsc = value;
    if (!this.time.writePage(value))
      this.host.trace.emit({ kind: 'guest', part: 'reference TSC', message: `page 0x${(value >> 12n).toString(16)} is not RAM` });
  }

  /** The guest has no use for pages [first, first + count) of RAM any more. Hints beyond all of RAM in one period are not followed. */
  discard(first: number, count: number): void {
    const { clock, ram } = this.host;
    const { discarded } = this.state;
    if (clock.now - discarded.since >= DISCARD_PERIOD_NS) Object.assign(discarded, { since: clock.now, pages: 0 });
    if ((discarded.pages + count) * PAGE > ram.size) return;
    discarded.pages += count;
    ram.discard(first * PAGE, count * PAGE);
  }

  /** The crash the guest has reported since the last time this was asked. */
  takeCrash(): CrashReport | undefined {
    const { crash } = this.state;
    if (!crash.reported) return undefined;
    crash.reported = false;
    return { vp: crash.vp, parameters: crash.parameters.slice(), control: crash.control, message: crash.message };
  }

  /** The hypervisor's own VP registers, for debuggers. The architectural ones are the CPU's. */
  registers(): readonly HyperVRegisterInfo[] {
    return VP_REGISTERS.filter((r) => !r.architectural).map((r) => ({
      name: r.name,
      number: r.number,
      writable: (r.write ?? r.edit) !== undefined && !this.overridden.has(r.name),
    }));
  }

  /** A register for the debugger: no privilege check, no trace, no side effect. undefined: no such register or VP. */
  readRegister(vp: number, name: string): bigint | undefined {
    const r = vpRegister(name);
    if (!r || !this.vps[vp]) return undefined;
    const value = this.overridden.get(name) ?? (r.read ? r.read(this, this.vps[vp]) : 0n);
    return value === undefined ? undefined : BigInt.asUintN(r.width, value);
  }

  /** Writes a register as the guest would, or as only a debugger may. False: no such register or VP, not writable, or not a value it can hold. */
  writeRegister(vp: number, name: string, value: bigint): boolean {
    const r = vpRegister(name);
    const write = r?.write ?? r?.edit;
    if (!r || !write || !this.vps[vp]) return false;
    return write(this, this.vps[vp], BigInt.asUintN(r.width, value)) !== false;
  }
}
