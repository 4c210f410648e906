/**
 * The framing that all integration components share: pipe header, IC header, version negotiation (reference
 * hyperv-arm64.md §9.3). The host starts every exchange; the guest answers in-band with the same transaction id.
 */
import type { Clock } from '../../base/clock.ts';
import type { Tree } from '../../base/inspect.ts';
import { array, struct, u8, u16, u32, viewOf } from '../../base/struct.ts';
import type { DeviceChannel } from '../device.ts';
import type { Packet } from '../ring.ts';

export const PipeHeader = struct('PipeHeader', { Type: u32, Size: u32 }, { size: 8 });
export const IcHeader = struct(
  'IcHeader',
  {
    FrameworkMajor: u16,
    FrameworkMinor: u16,
    MessageType: u16,
    MessageMajor: u16,
    MessageMinor: u16,
    MessageSize: u16,
    Status: u32,
    TransactionId: u8,
    Flags: u8,
    Reserved: u16,
  },
  { size: 20 },
);
const NegotiateBody = struct('IcNegotiate', { FrameworkCount: u16, MessageCount: u16, Reserved: u32 }, { size: 8 });
const VersionPair = struct('IcVersion', { Major: u16, Minor: u16 }, { size: 4 });

/** Where a message's body begins in the packet's payload. */
const BODY = PipeHeader.size + IcHeader.size;
const PIPE_DATA = 1;

export const IC_MESSAGE = { negotiate: 0, heartbeat: 1, kvp: 2, shutdown: 3, timesync: 4, vss: 5, fcopy: 7 } as const;
const FLAG_TRANSACTION = 1;
const FLAG_REQUEST = 2;
const FLAG_RESPONSE = 4;

export type IcVersion = readonly [major: number, minor: number];
const FRAMEWORK_VERSIONS: readonly IcVersion[] = [
  [3, 0],
  [1, 0],
];

export interface IcState {
  /** closed, negotiating, ready, refused. */
  phase: 'closed' | 'negotiating' | 'ready' | 'refused';
  framework: number[];
  version: number[];
  transactionId: number;
}

export const newIc = (): IcState => ({ phase: 'closed', framework: [0, 0], version: [0, 0], transactionId: 0 });

const S = 1_000_000_000;
/** Linux answers after 30 s at the latest, also for a daemon that does not (HV_UTIL_TIMEOUT of drivers/hv/hyperv_vmbus.h). */
export const PATIENCE_NS = 60 * S;

/** `the guest has not answered within 60 s` */
export const unanswered = (patience = PATIENCE_NS): string => `the guest has not answered within ${patience / S} s`;

/** What makes one component different. */
export interface IcComponent {
  messageType: number;
  /** Preferred first. */
  versions: readonly IcVersion[];
  /** The guest speaks one of them. */
  onReady(): void;
  /** The guest's answer to a request: status and body, at least as long as the request's. */
  onAnswer(status: number, body: DataView): void;
  /** What a message of the component is about, in a few words; empty: nothing more to say. */
  about(body: DataView, answer: boolean): string;
  /** The guest has not answered the last request in time, and nobody waits for that any more. */
  onLate(): void;
}

export class IcLink {
  readonly #channel: DeviceChannel;
  readonly #component: IcComponent;
  readonly #state: IcState;
  readonly #clock: Clock;
  readonly #alarm: string;

  constructor(channel: DeviceChannel, component: IcComponent, state: IcState, clock: Clock) {
    this.#channel = channel;
    this.#component = component;
    this.#state = state;
    this.#clock = clock;
    this.#alarm = `vmbus/ic/${component.messageType}`;
    clock.on(this.#alarm, () => component.onLate());
  }

  get ready(): boolean {
    return this.#channel.open && this.#state.phase === 'ready';
  }

  /** The message version agreed on is at least this. */
  atLeast(major: number): boolean {
    return this.#state.version[0] >= major;
  }

  /** Starts the negotiation. */
  onOpen(): void {
    const { versions } = this.#component;
    const pairs = array(FRAMEWORK_VERSIONS.length + versions.length, VersionPair);
    const body = new Uint8Array(NegotiateBody.size + pairs.size);
    const view = viewOf(body);
    NegotiateBody.set(view, 0, { FrameworkCount: FRAMEWORK_VERSIONS.length, MessageCount: versions.length, Reserved: 0 });
    pairs.set(
      view,
      NegotiateBody.size,
      [...FRAMEWORK_VERSIONS, ...versions].map(([Major, Minor]) => ({ Major, Minor })),
    );
    Object.assign(this.#state, newIc(), { phase: 'negotiating' });
    this.#send(IC_MESSAGE.negotiate, body, 'negotiate');
  }

  onClose(): void {
    this.#clock.cancel(this.#alarm);
    Object.assign(this.#state, newIc());
  }

  /** Sends a request of the component, whose answer may take so long (virtual ns; 0: for ever). False: the guest is not ready for it. */
  request(body: Uint8Array, what: string, patience = PATIENCE_NS): boolean {
    if (!this.ready || !this.#send(this.#component.messageType, body, what)) return false;
    if (patience > 0) this.#clock.set(this.#alarm, this.#clock.now + patience);
    return true;
  }

  onPacket(packet: Packet): void {
    const { payload } = packet;
    const wrong = this.#answer(payload, viewOf(payload));
    if (wrong !== undefined) this.#channel.note(wrong);
  }

  inspect(): Tree {
    const { phase, framework, version } = this.#state;
    const agreed = phase === 'ready' ? { framework: framework.join('.'), version: version.join('.') } : {};
    return { phase, ...agreed };
  }

  /** A packet in either direction, in a few words. */
  describe({ payload }: Packet): string {
    if (payload.length < BODY) return `IC message of ${payload.length} bytes`;
    const { Flags, MessageType, MessageSize, Status } = IcHeader.get(viewOf(payload), PipeHeader.size);
    const name = Object.entries(IC_MESSAGE).find(([, type]) => type === MessageType)?.[0] ?? `message ${MessageType}`;
    const answer = (Flags & FLAG_RESPONSE) !== 0;
    const there = payload.length - BODY;
    const body = new DataView(payload.buffer, payload.byteOffset + BODY, Math.min(MessageSize, there));
    const own = MessageType === this.#component.messageType ? this.#component.about(body, answer) : '';
    const status = Status === 0 ? '' : `, status 0x${Status.toString(16)}`;
    return `${name}${own === '' ? '' : ` ${own}`}${answer ? ' answered' : ''}${status}`;
  }

  /** Handles an answer; what is wrong with it, if anything. */
  #answer(payload: Uint8Array, view: DataView): string | undefined {
    if (payload.length < BODY) return `answer of ${payload.length} bytes`;
    const { Flags, TransactionId, MessageType, MessageSize, Status } = IcHeader.get(view, PipeHeader.size);
    const { phase, transactionId } = this.#state;
    if (!(Flags & FLAG_RESPONSE) || TransactionId !== transactionId)
      return `answer with flags ${Flags} to transaction ${TransactionId}, not one we wait for`;
    if (BODY + MessageSize > payload.length) return `answer shorter than its ${MessageSize} bytes`;
    const body = new DataView(payload.buffer, payload.byteOffset + BODY, MessageSize);
    if (MessageType === IC_MESSAGE.negotiate && phase === 'negotiating') return this.#negotiated(body);
    if (MessageType !== this.#component.messageType || phase !== 'ready') return `answer of type ${MessageType} while ${phase}`;
    this.#clock.cancel(this.#alarm);
    this.#component.onAnswer(Status, body);
    return undefined;
  }

  /** The guest answers with one version of each kind, or none. */
  #negotiated(body: DataView): string | undefined {
    const state = this.#state;
    state.phase = 'refused';
    if (body.byteLength < NegotiateBody.size + 2 * VersionPair.size) return 'negotiation answer without versions';
    const { FrameworkCount, MessageCount } = NegotiateBody.get(body, 0);
    const framework = VersionPair.get(body, NegotiateBody.size);
    const version = VersionPair.get(body, NegotiateBody.size + VersionPair.size);
    const offered = this.#component.versions.some(([major, minor]) => major === version.Major && minor === version.Minor);
    if (FrameworkCount !== 1 || MessageCount !== 1 || !offered)
      return `no common version (guest says ${version.Major}.${version.Minor})`;
    state.framework = [framework.Major, framework.Minor];
    state.version = [version.Major, version.Minor];
    state.phase = 'ready';
    this.#component.onReady();
    return undefined;
  }

  #send(messageType: number, body: Uint8Array, what: string): boolean {
    const state = this.#state;
    state.transactionId = (state.transactionId + 1) & 0xff;
    const payload = new Uint8Array(BODY + body.length);
    const view = viewOf(payload);
    PipeHeader.set(view, 0, { Type: PIPE_DATA, Size: IcHeader.size + body.length });
    IcHeader.set(view, PipeHeader.size, {
      FrameworkMajor: state.framework[0],
      FrameworkMinor: state.framework[1],
      MessageType: messageType,
      MessageMajor: state.version[0],
      MessageMinor: state.version[1],
      MessageSize: body.length,
      Status: 0,
      TransactionId: state.transactionId,
      Flags: FLAG_TRANSACTION | FLAG_REQUEST,
      Reserved: 0,
    });
    payload.set(body, BODY);
    return this.#channel.send({ transactionId: BigInt(state.transactionId), payload, what });
  }
}
