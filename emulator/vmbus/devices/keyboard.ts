/** The synthetic keyboard (reference hyperv-arm64.md §9.7). Packets begin with the message type; there is no pipe header. */
import { flags, held, type Tree, uint } from '../../base/inspect.ts';
import { struct, u16, u32, viewOf } from '../../base/struct.ts';
import type { Device, DeviceChannel } from '../device.ts';
import type { Packet } from '../ring.ts';

export const ProtocolRequest = struct('KeyboardProtocolRequest', { Type: u32, Version: u32 }, { size: 8 });
export const ProtocolResponse = struct('KeyboardProtocolResponse', { Type: u32, Status: u32 }, { size: 8 });
export const Keystroke = struct('KeyboardEvent', { Type: u32, MakeCode: u16, Reserved: u16, Flags: u32 }, { size: 12 });

export const Leds = struct('KeyboardLeds', { Type: u32, Flags: u16 }, { size: 6 });

const MESSAGE = { protocolRequest: 1, protocolResponse: 2, event: 3, leds: 4 } as const;
const VERSION_1_0 = 0x0001_0000;
const ACCEPTED = 1;
const FLAG_BREAK = 2;
/** By the prefix byte of the scan code. */
const PREFIX_FLAGS: Readonly<Record<number, number>> = { 0: 0, 224: 4, 225: 8 };

interface KeyboardState {
  ready: boolean;
  /** Packets to the guest have ids of their own; the guest ignores them. */
  transactionId: number;
  keys: number;
  /** Bits: 1 scroll lock, 2 num lock, 4 caps lock. */
  leds: number;
}

export class Keyboard implements Device {
  readonly name = 'keyboard';
  readonly offer = {
    interfaceType: 'f912ad6d-2b17-48ea-bd65-f927a61c7684',
    instance: 'd34b2567-b9b6-42b9-8778-0a4ec0b955bf',
    pipe: false,
  };
  readonly state: KeyboardState = { ready: false, transactionId: 0, keys: 0, leds: 0 };
  readonly #channel: DeviceChannel;

  constructor(channel: DeviceChannel) {
    this.#channel = channel;
  }

  /** Sends one key event: a set 1 make code, with its prefix byte above it (`0xe048`). False: the guest's driver is not there. */
  sendKey(scanCode: number, released: boolean): boolean {
    if (!this.state.ready) return false;
    const Flags = (PREFIX_FLAGS[scanCode >> 8] ?? 0) | (released ? FLAG_BREAK : 0);
    const event = Keystroke.make({ Type: MESSAGE.event, MakeCode: scanCode & 0xff, Flags });
    const sent = this.#send(event, `key 0x${scanCode.toString(16)}${released ? ' released' : ''}`);
    if (sent) this.state.keys++;
    return sent;
  }

  // The guest speaks first.
  onOpen(): void {}

  onPacket({ payload }: Packet): void {
    const view = viewOf(payload);
    const type = payload.length >= 4 ? view.getUint32(0, true) : 0;
    if (type === MESSAGE.leds && payload.length >= Leds.size) {
      this.state.leds = Leds.get(view, 0).Flags;
      return;
    }
    if (type !== MESSAGE.protocolRequest || payload.length < ProtocolRequest.size) {
      this.#channel.note(`message of type ${type}`);
      return;
    }
    const { Version } = ProtocolRequest.get(view, 0);
    const accepted = Version === VERSION_1_0;
    if (!accepted) this.#channel.note(`protocol version 0x${Version.toString(16)} refused`);
    this.state.ready = accepted;
    this.#send(ProtocolResponse.make({ Type: MESSAGE.protocolResponse, Status: accepted ? ACCEPTED : 0 }), 'protocol response');
  }

  onClose(): void {
    Object.assign(this.state, { ready: false, keys: 0, leds: 0 });
  }

  describe({ payload }: Packet): string {
    const view = viewOf(payload);
    const type = payload.length >= 4 ? view.getUint32(0, true) : 0;
    if (type === MESSAGE.event && payload.length >= Keystroke.size) {
      const { MakeCode, Flags } = Keystroke.get(view, 0);
      return `key 0x${MakeCode.toString(16)}${Flags & FLAG_BREAK ? ' released' : ''}`;
    }
    return Object.entries(MESSAGE).find(([, n]) => n === type)?.[0] ?? `message of type ${type}`;
  }

  inspect(): Tree {
    const { state } = this;
    return {
      ready: state.ready,
      keys: held(state, 'keys', uint(32)),
      leds: held(state, 'leds', flags(16, { scrollLock: 0, numLock: 1, capsLock: 2 })),
    };
  }

  #send(payload: Uint8Array, what: string): boolean {
    this.state.transactionId++;
    return this.#channel.send({ transactionId: BigInt(this.state.transactionId), payload, what });
  }
}
