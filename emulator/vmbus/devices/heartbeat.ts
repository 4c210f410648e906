/** The heartbeat IC: a sequence number every two seconds, which the guest returns plus one (reference hyperv-arm64.md §9.4). */
import { array, struct, u32, u64 } from '../../base/struct.ts';
import type { Inspect } from '../../index.ts';
import type { Device, DeviceChannel, DeviceEnvironment } from '../device.ts';
import type { Packet } from '../ring.ts';
import { IC_MESSAGE, type IcComponent, IcLink, type IcState, newIc } from './ic.ts';

export const HeartbeatBody = struct('IcHeartbeat', { Sequence: u64, Reserved: array(8, u32) }, { size: 40 });
const PERIOD_NS = 2_000_000_000;
const ALARM = 'vmbus/heartbeat';

interface HeartbeatState {
  ic: IcState;
  /** Last sequence number sent, and the last that came back: one more, when the guest has answered. */
  sequence: bigint;
  answered: bigint;
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
  readonly state: HeartbeatState = { ic: newIc(), sequence: 0n, answered: 0n };
  readonly #clock: DeviceEnvironment['clock'];
  readonly #link: IcLink;

  constructor(channel: DeviceChannel, { clock }: DeviceEnvironment) {
    this.#clock = clock;
    this.#link = new IcLink(channel, this, this.state.ic);
    clock.on(ALARM, () => this.#beat());
  }

  onOpen(): void {
    this.state.sequence = 0n;
    this.state.answered = 0n;
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
    if (body.byteLength >= HeartbeatBody.field.Sequence.size) this.state.answered = HeartbeatBody.field.Sequence.get(body, 0);
  }

  inspect(): Inspect {
    const { sequence, answered } = this.state;
    return { ...this.#link.inspect(), sequence, answered, alive: sequence > 0n && answered >= sequence };
  }

  #beat(): void {
    const { state } = this;
    // One that is still under way is enough: a guest that does not answer would find its ring full of them.
    const waiting = state.sequence > 0n && state.answered !== state.sequence + 1n;
    if (!waiting && this.#link.request(HeartbeatBody.make({ Sequence: state.sequence + 1n }), `heartbeat ${state.sequence + 1n}`))
      state.sequence++;
    this.#clock.set(ALARM, this.#clock.now + PERIOD_NS);
  }
}
