/** The shutdown IC: the host asks the guest to power off, restart or hibernate in good order (reference hyperv-arm64.md §9.4). */
import type { Tree } from '../../base/inspect.ts';
import { bytes, struct, u32 } from '../../base/struct.ts';
import type { Device, DeviceChannel, DeviceEnvironment } from '../device.ts';
import type { Packet } from '../ring.ts';
import type { ShutdownKind, ShutdownService } from '../services.ts';
import { IC_MESSAGE, type IcComponent, IcLink, type IcState, newIc, unanswered } from './ic.ts';
import { statusText } from './status.ts';

export const ShutdownBody = struct(
  'IcShutdown',
  { ReasonCode: u32, TimeoutSeconds: u32, Flags: u32, Message: bytes(2048) },
  { size: 2060 },
);
const FLAG_FORCE = 1;
/** What is asked for besides force. */
const FLAGS: Record<ShutdownKind, number> = { shutdown: 0, restart: 2, hibernate: 4 };
/** SHTDN_REASON_FLAG_PLANNED. */
const PLANNED = 0x8000_0000;

interface ShutdownState {
  ic: IcState;
  /** none, then what was asked; the guest's answer as an HRESULT. */
  request: 'none' | ShutdownKind;
  answered: boolean;
  status: number;
}

export class Shutdown implements Device, IcComponent, ShutdownService {
  readonly name = 'shutdown';
  readonly offer = {
    interfaceType: '0e0b6031-5213-4934-818b-38d90ced39db',
    instance: 'b6650ff7-33bc-4840-8048-e0676786f393',
    pipe: true,
  };
  readonly messageType = IC_MESSAGE.shutdown;
  readonly versions = [
    [3, 2],
    [3, 1],
    [3, 0],
    [1, 0],
  ] as const;
  readonly state: ShutdownState = { ic: newIc(), request: 'none', answered: false, status: 0 };
  readonly #channel: DeviceChannel;
  readonly #link: IcLink;

  constructor(channel: DeviceChannel, { clock }: DeviceEnvironment) {
    this.#channel = channel;
    this.#link = new IcLink(channel, this, this.state.ic, clock);
  }

  request(kind: ShutdownKind, force = false): boolean {
    const { state } = this;
    if (state.request !== 'none' && !state.answered) return false;
    const body = ShutdownBody.make({ ReasonCode: PLANNED, Flags: FLAGS[kind] | (force ? FLAG_FORCE : 0) });
    if (!this.#link.request(body, kind)) return false;
    Object.assign(state, { request: kind, answered: false, status: 0 });
    return true;
  }

  onOpen(): void {
    this.#forget();
    this.#link.onOpen();
  }
  onPacket(packet: Packet): void {
    this.#link.onPacket(packet);
  }
  onClose(): void {
    this.#forget();
    this.#link.onClose();
  }

  onReady(): void {}
  onAnswer(status: number): void {
    const { state } = this;
    if (state.request === 'none' || state.answered) {
      this.#channel.note('answer to no request');
      return;
    }
    Object.assign(state, { answered: true, status });
    this.#channel.report(`${state.request}: ${status === 0 ? 'the guest agrees' : statusText(status)}`, status === 0);
  }

  onLate(): void {
    this.#channel.report(`${this.state.request}: ${unanswered()}`, false);
    this.#forget();
  }

  about(body: DataView): string {
    if (body.byteLength < ShutdownBody.field.Message.offset) return '';
    const flags = ShutdownBody.field.Flags.get(body, ShutdownBody.field.Flags.offset);
    const what = Object.entries(FLAGS).find(([, flag]) => flag === (flags & ~FLAG_FORCE))?.[0] ?? `flags ${flags}`;
    return `${what}${flags & FLAG_FORCE ? ' by force' : ''}`;
  }
  describe(packet: Packet): string {
    return this.#link.describe(packet);
  }

  inspect(): Tree {
    const { request, answered, status } = this.state;
    return { ...this.#link.inspect(), request, ...(answered ? { status: `0x${status.toString(16)}` } : {}) };
  }

  #forget(): void {
    Object.assign(this.state, { request: 'none', answered: false, status: 0 });
  }
}
