/**
 * The one typed, synchronous trace. Events tell; they never decide. A part emits what happened in the specification's
 * words; adapters, the command line and tests subscribe.
 */
export interface HypercallFields {
  /** Decoded fields by their TLFS names; numbers, bigints, strings or nested lists, as the layout says. */
  readonly [name: string]: unknown;
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
  /** A PSCI or other SMCCC call. */
  smccc: { vp: number; pc: bigint; conduit: 'hvc' | 'smc'; function: number; name: string; args: bigint[]; result: bigint };
  /** A VMBus message in either direction. */
  'vmbus-message': { direction: 'guest-to-host' | 'host-to-guest'; type: number; name: string; fields: HypercallFields };
  /** A channel changed state or was signalled. */
  'vmbus-channel': { relid: number; device: string; what: string };
  /** A packet in a channel's ring. */
  'vmbus-packet': { relid: number; device: string; direction: 'guest-to-host' | 'host-to-guest'; what: string; bytes: number };
  /** A frame on the guest's network: Ethernet as it is on the wire, with its VLAN tag and without the frame check sequence. */
  frame: { direction: 'guest-to-host' | 'host-to-guest'; frame: Uint8Array };
  /** A SynIC message or event flag was delivered, or a stimer expired. */
  synic: { vp: number; sint: number; what: string };
  /** An interrupt became pending at the GIC. */
  interrupt: { vp: number; intid: number };
  /** An MMIO access to a device. */
  mmio: { device: string; access: 'read' | 'write'; gpa: number; size: number; value: bigint };
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

export class Trace {
  readonly #listeners = new Set<(event: TraceEvent) => void>();

  /** True when somebody listens: lets a busy place skip building the event. */
  get on(): boolean {
    return this.#listeners.size > 0;
  }

  /** Calls `listener` for every event from now on; the result ends that. */
  subscribe(listener: (event: TraceEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  emit(event: TraceEvent): void {
    for (const l of this.#listeners) l(event);
  }
}
