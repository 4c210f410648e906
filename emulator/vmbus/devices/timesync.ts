/** The time synchronisation IC: the host's time of day, at a moment of the reference counter (reference hyperv-arm64.md §9.4). */
import { held, type Tree, uint } from '../../base/inspect.ts';
import { bytes, i8, struct, u8, u64 } from '../../base/struct.ts';
import type { Device, DeviceChannel, DeviceEnvironment } from '../device.ts';
import type { Packet } from '../ring.ts';
import type { TimesyncService } from '../services.ts';
import { IC_MESSAGE, type IcComponent, IcLink, type IcState, newIc, PATIENCE_NS, unanswered } from './ic.ts';

export const BodyV1 = struct('IcTimesync', { ParentTime: u64, ChildTime: u64, RoundTripTime: u64, Flags: u8 }, { size: 25 });
export const BodyV4 = struct(
  'IcTimesyncRef',
  { ParentTime: u64, VmReferenceTime: u64, Flags: u8, Leap: i8, Stratum: u8, Reserved: bytes(3) },
  { size: 22 },
);
/** The guest sets its clock; or it just takes note. */
const FLAG_SYNC = 1;
const FLAG_SAMPLE = 2;
const PERIOD_NS = 5_000_000_000;
/** 1970 in 100 ns since 1601. */
const UNIX_EPOCH = 116_444_736_000_000_000n;
const ALARM = 'vmbus/timesync';

interface TimesyncState {
  ic: IcState;
  samples: number;
  /** Samples that the guest has answered, and the host's time in the last one, in 100 ns since 1601. */
  answered: number;
  last: bigint;
  /** Somebody has asked for a sample that is not answered yet. */
  asked: boolean;
}

export class Timesync implements Device, IcComponent, TimesyncService {
  readonly name = 'timesync';
  readonly offer = {
    interfaceType: '9527e630-d0ae-497b-adce-e80ab0175caf',
    instance: '2dd1ce17-079e-403c-b352-a1921ee207ee',
    pipe: true,
  };
  readonly messageType = IC_MESSAGE.timesync;
  readonly versions = [
    [4, 0],
    [3, 0],
    [1, 0],
  ] as const;
  readonly state: TimesyncState = { ic: newIc(), samples: 0, answered: 0, last: 0n, asked: false };
  readonly #channel: DeviceChannel;
  readonly #environment: DeviceEnvironment;
  readonly #link: IcLink;

  constructor(channel: DeviceChannel, environment: DeviceEnvironment) {
    this.#channel = channel;
    this.#environment = environment;
    this.#link = new IcLink(channel, this, this.state.ic, environment.clock);
    environment.clock.on(ALARM, () => this.#sample(FLAG_SAMPLE));
  }

  sync(): boolean {
    this.state.asked = this.#sample(FLAG_SYNC, PATIENCE_NS);
    return this.state.asked;
  }

  onOpen(): void {
    Object.assign(this.state, { samples: 0, answered: 0, last: 0n, asked: false });
    this.#link.onOpen();
  }
  onPacket(packet: Packet): void {
    this.#link.onPacket(packet);
  }
  onClose(): void {
    this.#environment.clock.cancel(ALARM);
    this.#link.onClose();
  }

  onReady(): void {
    this.#sample(FLAG_SYNC);
  }
  onAnswer(): void {
    this.state.answered++;
    this.state.asked = false;
  }
  onLate(): void {
    if (this.state.asked) this.#channel.report(`time sync: ${unanswered()}`, false);
    this.state.asked = false;
  }

  about(body: DataView): string {
    const { Flags } = this.#link.atLeast(4) ? BodyV4.field : BodyV1.field;
    if (body.byteLength <= Flags.offset) return '';
    return Flags.get(body, Flags.offset) & FLAG_SYNC ? 'set the clock' : 'sample';
  }
  describe(packet: Packet): string {
    return this.#link.describe(packet);
  }

  inspect(): Tree {
    const { last } = this.state;
    const told: Tree = last === 0n ? {} : { hostTime: `${Number(last - UNIX_EPOCH) / 1e7} s since 1970` };
    return {
      ...this.#link.inspect(),
      samples: held(this.state, 'samples', uint(32)),
      answered: held(this.state, 'answered', uint(32)),
      ...told,
    };
  }

  #sample(flags: number, patience = 0): boolean {
    const { clock, startTime } = this.#environment;
    const reference = this.#environment.referenceTime();
    const parent = UNIX_EPOCH + BigInt(Math.round(startTime)) * 10_000n + reference;
    const body = this.#link.atLeast(4)
      ? BodyV4.make({ ParentTime: parent, VmReferenceTime: reference, Flags: flags, Stratum: 1 })
      : BodyV1.make({ ParentTime: parent, Flags: flags });
    const sent = this.#link.request(body, flags === FLAG_SYNC ? 'time sync' : 'time sample', patience);
    if (!sent) return false;
    this.state.samples++;
    this.state.last = parent;
    clock.set(ALARM, clock.now + PERIOD_NS);
    return true;
  }
}
