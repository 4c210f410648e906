/** The heartbeat IC: a sequence number every two seconds, which the guest returns plus one (reference hyperv-arm64.md §9.4). */
import { choice, field, held, type Tree, uint } from '../../base/inspect.ts';
import { array, struct, u32, u64 } from '../../base/struct.ts';
import type { Device, DeviceChannel, DeviceEnvironment } from '../device.ts';
import type { Packet } from '../ring.ts';
import { IC_MESSAGE, type IcComponent, IcLink, type IcState, newIc, unanswered } from './ic.ts';

export const HeartbeatBody = struct(
  'IcHeartbeat',
  { Sequence: u64, ApplicationState: u32, Reserved: array(7, u32) },
  { size: 40 },
);
/** How the guest says its applications are. Linux leaves it at 0. */
const APPLICATION_STATES = ['unknown', 'healthy', 'critical', 'stopped'] as const;
const PERIOD_NS = 2_000_000_000;
/** A guest that is silent for so long is said to be. */
const PATIENCE_NS = 10_000_000_000;
const ALARM = 'vmbus/heartbeat';

interface HeartbeatState {
  ic: IcState;
  /** Last sequence number sent, and the last that came back: one more, when the guest has answered. */
  sequence: bigint;
  answered: bigint;
  applicationState: number;
  /** The guest has not answered in time, and has been told of. */
  lost: boolean;
}

export class Heartbeat implements Device, IcComponent {
  readonly name = 'heartbeat';
  readonly offer = {
    interfaceType: '57164f39-9115-4e78-ab55-382f3bd5422d',
    instance: 'fd149e91-82e0-4a7d-afa6-2a4166cbd7c0',
    pipe: true,
  };
  readonly messageType = IC_MESSAGE.heartbeat;
  readonly versions = [
    [3, 0],
    [1, 0],
  ] as const;
  readonly state: HeartbeatState = { ic: newIc(), sequence: 0n, answered: 0n, applicationState: 0, lost: false };
  readonly #channel: DeviceChannel;
  readonly #clock: DeviceEnvironment['clock'];
  readonly #link: IcLink;

  constructor(channel: DeviceChannel, { clock }: DeviceEnvironment) {
    this.#channel = channel;
    this.#clock = clock;
    this.#link = new IcLink(channel, this, this.state.ic, clock);
    clock.on(ALARM, () => this.#beat());
  }

  onOpen(): void {
    Object.assign(this.state, { sequence: 0n, answered: 0n, applicationState: 0, lost: false });
    this.#link.onOpen();
  }
  onPacket(packet: Packet): void {
    this.#link.onPacket(packet);
  }
  onClose(): void {
    this.#clock.cancel(ALARM);
    this.#link.onClose();
  }

  onReady(): void {
    this.#beat();
  }
  onAnswer(_status: number, body: DataView): void {
    const { state } = this;
    const { Sequence, ApplicationState } = HeartbeatBody.field;
    if (state.lost) this.#channel.report('the guest answers again', true);
    state.lost = false;
    if (body.byteLength >= Sequence.size) state.answered = Sequence.get(body, 0);
    if (body.byteLength < ApplicationState.offset + ApplicationState.size) return;
    const now = ApplicationState.get(body, ApplicationState.offset);
    if (now === state.applicationState) return;
    state.applicationState = now;
    this.#channel.report(`applications: ${applicationText(now)}`, now < 2);
  }

  onLate(): void {
    const { state } = this;
    if (!state.lost) this.#channel.report(unanswered(PATIENCE_NS), false);
    state.lost = true;
  }

  about(body: DataView): string {
    return body.byteLength >= 8 ? String(HeartbeatBody.field.Sequence.get(body, 0)) : '';
  }
  describe(packet: Packet): string {
    return this.#link.describe(packet);
  }

  inspect(): Tree {
    const { state } = this;
    const { sequence, answered, applicationState } = state;
    const alive = sequence > 0n && answered >= sequence && !state.lost;
    return {
      ...this.#link.inspect(),
      sequence: held(state, 'sequence', uint(63)),
      answered: held(state, 'answered', uint(63)),
      alive,
      applications: field(
        choice(...APPLICATION_STATES),
        () => applicationText(applicationState),
        (v) => {
          state.applicationState = Number(v);
        },
      ),
    };
  }

  #beat(): void {
    const { state } = this;
    // One that is still under way is enough: a guest that does not answer would find its ring full of them.
    const waiting = state.sequence > 0n && state.answered !== state.sequence + 1n;
    if (
      !waiting &&
      this.#link.request(HeartbeatBody.make({ Sequence: state.sequence + 1n }), `heartbeat ${state.sequence + 1n}`, PATIENCE_NS)
    )
      state.sequence++;
    this.#clock.set(ALARM, this.#clock.now + PERIOD_NS);
  }
}

const applicationText = (state: number): string => APPLICATION_STATES[state] ?? `state ${state}`;
