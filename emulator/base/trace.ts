/**
 * The one typed, synchronous trace. Events tell; they never decide. A part emits what happened in the specification's
 * words; adapters, the command line and tests subscribe.
 */
export interface HypercallFields {
  /** Decoded fields by their TLFS names; numbers, bigints, strings or nested lists, as the layout says. */
  readonly [name: string]: unknown;
}

interface SmcccCall {
  vp: number;
  pc: bigint;
  conduit: 'hvc' | 'smc';
  function: number;
  name: string;
  args: bigint[];
  result: bigint;
}

export interface TraceEvents {
  /** A hypercall has been answered. */
  hypercall: {
    vp: number;
    pc: bigint;
    /** Return address of the caller of the HVC wrapper (x30 at the HVC). */
    lr: bigint;
    conduit: 'smccc' | 'raw';
    code: number;
    name: string;
    fast: boolean;
    repCount: number;
    repStart: number;
    input: HypercallFields;
    output: HypercallFields;
    status: number;
    statusName: string;
    repsCompleted: number;
  };
  /** A VP register was read or written by a hypercall. */
  'vp-register': { vp: number; name: string; number: number; access: 'read' | 'write'; value: bigint };
  /** A PSCI call. */
  psci: SmcccCall;
  /** Another SMCCC call, EFI runtime services among them. */
  smccc: SmcccCall;
  /** A VMBus message in either direction. */
  message: { direction: 'guest-to-host' | 'host-to-guest'; type: number; name: string; fields: HypercallFields };
  /** A channel changed state. */
  channel: { relid: number; device: string; what: string };
  /** A packet in a channel's ring. */
  packet: { relid: number; device: string; direction: 'guest-to-host' | 'host-to-guest'; what: string; bytes: number };
  /** A frame on the guest's network: Ethernet as it is on the wire, with its VLAN tag and without the frame check sequence. */
  frame: { direction: 'guest-to-host' | 'host-to-guest'; frame: Uint8Array };
  /** A channel was signalled: by the guest, or by an event flag that the host sets for it. Of VMBus the flag is the channel's relid. */
  signal: { direction: 'guest-to-host' | 'host-to-guest'; vp?: number; flag: number; how: string };
  /** A timer has expired: `stimer 0`, `virtual timer`, `physical timer`. */
  timer: { vp: number; timer: string; what: string };
  /** A message has reached a slot of a SynIC. */
  synic: { vp: number; sint: number; what: string };
  /** An interrupt became pending at the GIC. */
  interrupt: { vp: number; intid: number };
  /** An MMIO access to a device. */
  mmio: { device: string; access: 'read' | 'write'; gpa: number; size: number; value: bigint };
  /** A VP has taken a synchronous exception other than SVC, HVC and SMC: ESR_EL1 and, where it means something, FAR_EL1. */
  fault: { vp: number; pc: bigint; exception: string; esr: bigint; far?: bigint };
  /** The guest executed an instruction this CPU does not have (or that is UNDEFINED). */
  undefined: { vp: number; pc: bigint; word: number; text: string };
  /** What came of something that the host asked of the guest through an integration service. */
  service: { service: string; message: string; ok: boolean };
  /** Something the guest did that a person would want to know: a bad ring, a refused message. */
  guest: { part: string; message: string };
  /** The guest reported a crash. */
  crash: { vp: number; parameters: bigint[]; control: bigint; message: string };
}

export type TraceKind = keyof TraceEvents;
export type TraceEvent = { [K in TraceKind]: { kind: K } & TraceEvents[K] }[TraceKind];

/** Every kind of event, and what it tells. */
export const TRACE_KINDS: Readonly<Record<TraceKind, string>> = {
  hypercall: 'hypercalls, with input, output and status',
  'vp-register': 'VP registers read and written by hypercall',
  message: 'VMBus messages, both ways',
  signal: 'channels signalled, both ways',
  interrupt: 'interrupts that become pending',
  timer: 'timers that expire',
  packet: 'packets in rings, both ways',
  mmio: 'accesses to registers of devices',
  psci: 'PSCI calls',
  fault: 'exceptions of the guest: aborts, undefined instructions, BRK',
  smccc: 'other SMCCC calls',
  synic: 'messages that reach a SynIC slot',
  channel: 'channels offered, opened, closed, rescinded',
  frame: 'frames of the network',
  undefined: 'instructions this CPU does not have',
  service: 'what integration services came to',
  guest: 'what the guest does wrong',
  crash: 'crashes that the guest reports',
};

export class Trace {
  readonly #listeners = new Map<(event: TraceEvent) => void, ReadonlySet<TraceKind> | undefined>();
  /** What somebody listens for. */
  readonly #wanted = new Set<TraceKind>();

  /** True when somebody listens for `kind`: lets a busy place skip building the event. */
  wants(kind: TraceKind): boolean {
    return this.#wanted.has(kind);
  }

  /** Calls `listener` for every event, or those of some kinds, from now on; the result ends that. */
  subscribe(listener: (event: TraceEvent) => void, kinds?: Iterable<TraceKind>): () => void {
    this.#listeners.set(listener, kinds && new Set(kinds));
    this.#count();
    return () => {
      this.#listeners.delete(listener);
      this.#count();
    };
  }

  emit(event: TraceEvent): void {
    for (const [listener, kinds] of this.#listeners) if (!kinds || kinds.has(event.kind)) listener(event);
  }

  #count(): void {
    this.#wanted.clear();
    for (const kinds of this.#listeners.values())
      for (const kind of kinds ?? (Object.keys(TRACE_KINDS) as TraceKind[])) this.#wanted.add(kind);
  }
}
