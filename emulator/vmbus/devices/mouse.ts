/**
 * The synthetic HID device, a mouse that points at places (reference hyperv-arm64.md §9.8). Behind the pipe header come a type and a
 * size; the host describes the mouse by a HID report descriptor and sends reports in that form.
 */
import { held, register, type Tree, uint } from '../../base/inspect.ts';
import { bytes, i16, struct, u8, u16, u32, viewOf } from '../../base/struct.ts';
import type { MouseInput } from '../../index.ts';
import type { Device, DeviceChannel } from '../device.ts';
import type { Packet } from '../ring.ts';
import { PipeHeader } from './ic.ts';

export const HidHeader = struct('SynthhidHeader', { Type: u32, Size: u32 }, { size: 8 });
export const HidProtocolRequest = struct('SynthhidProtocolRequest', { Version: u32 }, { size: 4 });
export const HidProtocolResponse = struct('SynthhidProtocolResponse', { Version: u32, Approved: u8 }, { size: 5 });
export const HidDeviceInfo = struct(
  'SynthhidDeviceInfo',
  {
    // Attributes.
    Size: u32,
    VendorId: u16,
    ProductId: u16,
    VersionNumber: u16,
    Reserved: bytes(22),
    // HID descriptor: Device Class Definition for HID 1.11, section 6.2.1.
    Length: u8,
    DescriptorType: u8,
    BcdHid: u16,
    CountryCode: u8,
    NumDescriptors: u8,
    ReportDescriptorType: u8,
    ReportDescriptorLength: u16,
  },
  { size: 41 },
);
/** What the report descriptor below says. */
const Report = struct('MouseReport', { Buttons: u8, X: u16, Y: u16, Wheel: i16 }, { size: 7 });

const MESSAGE = { protocolRequest: 0, protocolResponse: 1, deviceInfo: 2, deviceInfoAck: 3, inputReport: 4 } as const;
const VERSION_2_0 = 0x0002_0000;
const PIPE_DATA = 1;
const BODY = PipeHeader.size + HidHeader.size;
const BUTTONS = 5;
/** X and Y go from 0 to here, across the whole screen. */
export const MOUSE_RANGE = 0x7fff;
const POSITION = { min: 0n, max: BigInt(MOUSE_RANGE) };

/** HID 1.11, section 6.2.2; usages: HID Usage Tables 1.12, pages 1 (Generic Desktop) and 9 (Button). */
const REPORT_DESCRIPTOR = Uint8Array.from(
  [
    [0x05, 0x01], // Usage Page (Generic Desktop)
    [0x09, 0x02], // Usage (Mouse)
    [0xa1, 0x01], // Collection (Application)
    [0x09, 0x01], //   Usage (Pointer)
    [0xa1, 0x00], //   Collection (Physical)
    [0x05, 0x09], //     Usage Page (Button)
    [0x19, 0x01], //     Usage Minimum
    [0x29, BUTTONS], //  Usage Maximum
    [0x15, 0x00], //     Logical Minimum
    [0x25, 0x01], //     Logical Maximum
    [0x95, BUTTONS], //  Report Count
    [0x75, 0x01], //     Report Size
    [0x81, 0x02], //     Input (Data, Variable, Absolute)
    [0x95, 0x01], //     Report Count: the rest of the byte
    [0x75, 8 - BUTTONS], // Report Size
    [0x81, 0x03], //     Input (Constant)
    [0x05, 0x01], //     Usage Page (Generic Desktop)
    [0x09, 0x30], //     Usage (X)
    [0x09, 0x31], //     Usage (Y)
    [0x15, 0x00], //     Logical Minimum
    [0x26, MOUSE_RANGE & 255, MOUSE_RANGE >> 8], // Logical Maximum
    [0x75, 0x10], //     Report Size
    [0x95, 0x02], //     Report Count
    [0x81, 0x02], //     Input (Data, Variable, Absolute)
    [0x09, 0x38], //     Usage (Wheel)
    [0x16, 0x01, 0x80], // Logical Minimum -32767
    [0x26, 0xff, 0x7f], // Logical Maximum 32767
    [0x75, 0x10], //     Report Size
    [0x95, 0x01], //     Report Count
    [0x81, 0x06], //     Input (Data, Variable, Relative)
    [0xc0], //         End Collection
    [0xc0], //       End Collection
  ].flat(),
);

const clamp = (v: number, least: number, most: number): number => Math.min(most, Math.max(least, Math.round(v)));

interface MouseState {
  /** closed, then described when the guest has been told what the mouse is, ready when it has said that it knows. */
  phase: 'closed' | 'described' | 'ready';
  reports: number;
  /** The last report. */
  buttons: number;
  x: number;
  y: number;
}

export class Mouse implements Device {
  readonly name = 'mouse';
  readonly offer = {
    interfaceType: 'cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a',
    instance: '58f75a6d-d949-4320-99e1-a2a2576d581c',
    pipe: true,
  };
  readonly state: MouseState = { phase: 'closed', reports: 0, buttons: 0, x: 0, y: 0 };
  readonly #channel: DeviceChannel;

  constructor(channel: DeviceChannel) {
    this.#channel = channel;
  }

  /** Sends one report. False: the guest's driver is not there, or it has long stopped reading. */
  sendMouse({ x, y, buttons, wheel = 0 }: MouseInput): boolean {
    if (this.state.phase !== 'ready') return false;
    const X = clamp(x, 0, MOUSE_RANGE);
    const Y = clamp(y, 0, MOUSE_RANGE);
    const Buttons = buttons & ((1 << BUTTONS) - 1);
    const report = Report.make({ Buttons, X, Y, Wheel: clamp(wheel, -MOUSE_RANGE, MOUSE_RANGE) });
    const sent = this.#send(MESSAGE.inputReport, report, `report, buttons ${Buttons}, ${X}, ${Y}`);
    if (sent) Object.assign(this.state, { reports: this.state.reports + 1, buttons: Buttons, x: X, y: Y });
    return sent;
  }

  // The guest speaks first.
  onOpen(): void {}

  onPacket({ payload }: Packet): void {
    if (payload.length < BODY) {
      this.#channel.note(`packet of ${payload.length} bytes`);
      return;
    }
    const view = viewOf(payload);
    const pipe = PipeHeader.get(view, 0);
    const { Type } = HidHeader.get(view, PipeHeader.size);
    if (pipe.Type !== PIPE_DATA) this.#channel.note(`pipe message of type ${pipe.Type}`);
    else if (Type === MESSAGE.protocolRequest && payload.length >= BODY + HidProtocolRequest.size)
      this.#negotiate(HidProtocolRequest.get(view, BODY).Version);
    else if (Type === MESSAGE.deviceInfoAck && this.state.phase !== 'closed') this.state.phase = 'ready';
    else this.#channel.note(`message of type ${Type}, ${payload.length} bytes`);
  }

  onClose(): void {
    Object.assign(this.state, { phase: 'closed', reports: 0, buttons: 0, x: 0, y: 0 });
  }

  describe({ payload }: Packet): string {
    const type = payload.length >= BODY ? HidHeader.get(viewOf(payload), PipeHeader.size).Type : undefined;
    if (type === MESSAGE.inputReport && payload.length >= BODY + Report.size) {
      const { Buttons, X, Y } = Report.get(viewOf(payload), BODY);
      return `report, buttons ${Buttons}, ${X}, ${Y}`;
    }
    const name = Object.entries(MESSAGE).find(([, n]) => n === type)?.[0];
    return name === undefined ? `message ${type}` : name.replace(/[A-Z]/g, (c) => ` ${c.toLowerCase()}`);
  }

  inspect(): Tree {
    const { state } = this;
    return {
      phase: state.phase,
      reports: held(state, 'reports', uint(32)),
      buttons: held(state, 'buttons', register(BUTTONS)),
      x: held(state, 'x', POSITION),
      y: held(state, 'y', POSITION),
    };
  }

  #negotiate(Version: number): void {
    const approved = Version === VERSION_2_0;
    this.state.phase = approved ? 'described' : 'closed';
    if (!approved) this.#channel.note(`protocol version 0x${Version.toString(16)} refused`);
    const answer = HidProtocolResponse.make({ Version, Approved: approved ? 1 : 0 });
    this.#send(MESSAGE.protocolResponse, answer, 'protocol response');
    if (!approved) return;
    const info = HidDeviceInfo.make({
      Size: 32,
      VendorId: 0x045e,
      ProductId: 0x0621,
      VersionNumber: 1,
      Length: 9,
      DescriptorType: 0x21,
      BcdHid: 0x0101,
      NumDescriptors: 1,
      ReportDescriptorType: 0x22,
      ReportDescriptorLength: REPORT_DESCRIPTOR.length,
    });
    const body = new Uint8Array(info.length + REPORT_DESCRIPTOR.length);
    body.set(info);
    body.set(REPORT_DESCRIPTOR, info.length);
    this.#send(MESSAGE.deviceInfo, body, 'device info');
  }

  #send(type: number, body: Uint8Array, what: string): boolean {
    const payload = new Uint8Array(BODY + body.length);
    const view = viewOf(payload);
    // A guest takes `Size` bytes behind the pipe header, and has room for no more than the message (§9.8).
    PipeHeader.set(view, 0, { Type: PIPE_DATA, Size: HidHeader.size + body.length });
    HidHeader.set(view, PipeHeader.size, { Type: type, Size: body.length });
    payload.set(body, BODY);
    return this.#channel.send({ transactionId: 0n, payload, what });
  }
}
