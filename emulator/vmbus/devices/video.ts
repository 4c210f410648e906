/**
 * Synthetic video (reference hyperv-arm64.md §9.9). The guest puts VRAM somewhere in the MMIO windows, tells what part of it is the
 * picture, and draws; VRAM is plain memory behind RAM (memory/ram.ts), so drawing costs what any store does. The picture stays
 * when the channel closes: firmware, and a kernel in panic, go on drawing.
 */
import { held, type Tree, uint } from '../../base/inspect.ts';
import { viewOf } from '../../base/struct.ts';
import { type DisplayConfig, displayProblem, vramMegabytes } from '../../config.ts';
import type { Screen } from '../../index.ts';
import type { Device, DeviceChannel, DeviceEnvironment } from '../device.ts';
import type { Packet } from '../ring.ts';
import { PipeHeader } from './ic.ts';
import { edid } from './video/edid.ts';
import {
  ACCEPTED,
  BiosInfo,
  Capability,
  Dirt,
  FeatureChange,
  GUEST_MESSAGES,
  MAX_POINTER,
  MAX_RESOLUTIONS,
  MESSAGE,
  type MessageName,
  PointerPosition,
  PointerShape,
  Rectangle,
  Resolution,
  ResolutionRequest,
  ResolutionResponse,
  SituationUpdate,
  UserContext,
  VersionRequest,
  VersionResponse,
  VIDEO_VERSIONS,
  VideoHeader,
  videoVersionText,
  VramLocation,
} from './video/protocol.ts';

const PIPE_DATA = 1;
const BODY = PipeHeader.size + VideoHeader.size;
const VRAM_ALIGNMENT = 4096;
/** Pixels of a picture, each way: more than VRAM can hold, and small enough that products are exact. */
const MAX_PIXELS = 16384;
/** What a monitor can usually do. */
const STANDARD: readonly DisplayConfig[] = [
  [640, 480],
  [800, 600],
  [1024, 768],
  [1152, 864],
  [1280, 720],
  [1280, 1024],
  [1440, 900],
  [1600, 900],
  [1600, 1200],
  [1680, 1050],
  [1920, 1080],
].map(([width, height]) => ({ width, height }));

/** Where the picture is in VRAM: bytes, and pixels. */
interface Output {
  active: boolean;
  offset: number;
  depth: number;
  width: number;
  height: number;
  pitch: number;
}
const NO_OUTPUT: Output = { active: false, offset: 0, depth: 0, width: 0, height: 0, pitch: 0 };

interface VideoState {
  /** Agreed on; 0 before that. */
  version: number;
  /** The resolution that the guest is told to like best. */
  preferred: DisplayConfig;
  /** Taken away to be offered again. */
  comesBack: boolean;
  output: Output;
  pointer: { visible: boolean; x: number; y: number; width: number; height: number };
  /** Counts of SITUATION_UPDATE and DIRT messages, and the last rectangle of the latter. */
  situations: number;
  dirts: number;
  dirt: number[];
}

type Handler = (body: DataView) => void;

export class Video implements Device {
  readonly name = 'video';
  readonly offer;
  readonly state: VideoState;
  readonly #channel: DeviceChannel;
  readonly #environment: DeviceEnvironment;
  readonly #handlers: Partial<Record<MessageName, Handler>>;

  constructor(channel: DeviceChannel, environment: DeviceEnvironment) {
    this.#channel = channel;
    this.#environment = environment;
    const { display } = environment;
    this.offer = {
      interfaceType: 'da0a7802-e377-4aac-8e77-0558eb1073f8',
      instance: '5620e0c7-8062-4dce-aeb7-520c7ef76171',
      pipe: true,
      mmioMegabytes: vramMegabytes(display),
    };
    this.state = {
      version: 0,
      preferred: { width: display.width, height: display.height },
      comesBack: false,
      output: { ...NO_OUTPUT },
      pointer: { visible: false, x: 0, y: 0, width: 0, height: 0 },
      situations: 0,
      dirts: 0,
      dirt: [],
    };
    this.#handlers = {
      versionRequest: (body) => this.#negotiate(VersionRequest.get(body, 0).Version),
      vramLocation: (body) => this.#vramLocation(VramLocation.get(body, 0)),
      situationUpdate: (body) => this.#situation(SituationUpdate.get(body, 0)),
      pointerPosition: (body) => {
        const { IsVisible, X, Y } = PointerPosition.get(body, 0);
        Object.assign(this.state.pointer, { visible: IsVisible !== 0, x: X, y: Y });
      },
      pointerShape: (body) => {
        const { Width, Height } = PointerShape.get(body, 0);
        if (Width > MAX_POINTER || Height > MAX_POINTER) channel.note(`a pointer of ${Width} x ${Height} pixels`);
        else Object.assign(this.state.pointer, { width: Width, height: Height });
      },
      dirt: (body) => this.#dirt(body),
      biosInfoRequest: () => this.#send('biosInfoResponse', BiosInfo.make({ StopDeviceSupported: 1 })),
      resolutionRequest: (body) => this.#resolutions(ResolutionRequest.get(body, 0).MaximumCount),
      capabilityRequest: () => this.#send('capabilityResponse', Capability.make({})),
    };
  }

  /** The picture as the guest has it in VRAM; undefined: there is none. The bytes are no copy. */
  screen(): Screen | undefined {
    const { active, offset, depth, width, height, pitch } = this.state.output;
    const { ram } = this.#environment;
    if (!active || ram.state.device < 0) return undefined;
    const from = ram.size + offset;
    return { width, height, depth, pitch, bytes: ram.bytes.subarray(from, from + extent(width, height, pitch, depth)) };
  }

  /** The resolution that a guest is told from its next connection on. False: VRAM is too small for it, or it makes no sense. */
  prefer(display: DisplayConfig): boolean {
    if (displayProblem(display) !== undefined || vramMegabytes(display) > this.offer.mmioMegabytes) return false;
    this.state.preferred = { width: display.width, height: display.height };
    return true;
  }

  /** The device has been taken away, and is to be offered again when the guest has let go of it. */
  comeBack(): void {
    this.state.comesBack = true;
  }

  onReleased(channel: DeviceChannel): void {
    if (this.state.comesBack) channel.offerNow();
    this.state.comesBack = false;
  }

  // The guest speaks first.
  onOpen(): void {}

  onPacket(packet: Packet): void {
    const { payload } = packet;
    const message = messageOf(packet);
    const wrong = typeof message === 'string' ? message : this.#wrong(message.name);
    if (wrong !== undefined || typeof message === 'string') {
      this.#channel.note(`${wrong}`);
      return;
    }
    this.#handlers[message.name]?.(new DataView(payload.buffer, payload.byteOffset + BODY, message.size));
  }

  onClose(): void {
    this.state.version = 0;
  }

  describe(packet: Packet, from: 'guest' | 'host'): string {
    if (from === 'host') return hostMessage(packet);
    const message = messageOf(packet);
    return typeof message === 'string' ? message : words(message.name);
  }

  inspect(): Tree {
    const { version, preferred, output, pointer, dirt } = this.state;
    const { ram } = this.#environment;
    return {
      version: version === 0 ? 'none' : videoVersionText(version),
      vram: `${this.offer.mmioMegabytes} MiB ${ram.state.device < 0 ? 'not placed' : `at 0x${ram.state.device.toString(16)}`}`,
      preferred: `${preferred.width} x ${preferred.height}`,
      output: output.active
        ? `${output.width} x ${output.height}, ${output.depth} bits, ${output.pitch} bytes a line, at VRAM 0x${output.offset.toString(16)}`
        : 'off',
      pointer: `${pointer.visible ? 'visible' : 'hidden'} at ${pointer.x}, ${pointer.y}; ${pointer.width} x ${pointer.height}`,
      situations: held(this.state, 'situations', uint(53)),
      dirts: held(this.state, 'dirts', uint(53)),
      ...(dirt.length ? { dirt: dirt.join(', ') } : {}),
    };
  }

  /** Why a message cannot be taken now. */
  #wrong(name: MessageName): string | undefined {
    return this.state.version === 0 && name !== 'versionRequest' ? `${words(name)} before a version is agreed on` : undefined;
  }

  #negotiate(version: number): void {
    const accepted = VIDEO_VERSIONS.includes(version);
    this.state.version = accepted ? version : 0;
    if (!accepted) this.#channel.note(`protocol version ${videoVersionText(version)} refused`);
    this.#send(
      'versionResponse',
      VersionResponse.make({
        Version: accepted ? version : VIDEO_VERSIONS[VIDEO_VERSIONS.length - 1],
        Accepted: accepted ? ACCEPTED : 0,
        MaxVideoOutputs: 1,
      }),
    );
  }

  #resolutions(most: number): void {
    const { preferred } = this.state;
    const fits = STANDARD.filter((r) => vramMegabytes(r) <= this.offer.mmioMegabytes);
    const others = fits.filter((r) => r.width !== preferred.width || r.height !== preferred.height);
    // The one that is liked best comes with it however few are asked for.
    const count = Math.max(1, Math.min(most, MAX_RESOLUTIONS, others.length + 1));
    const list = [...others.slice(others.length - (count - 1)), preferred].sort(
      (a, b) => a.width - b.width || a.height - b.height,
    );
    const payload = new Uint8Array(ResolutionResponse.size + list.length * Resolution.size);
    const view = viewOf(payload);
    ResolutionResponse.set(view, 0, {
      Edid: edid(preferred.width, preferred.height),
      Count: list.length,
      DefaultIndex: list.indexOf(preferred),
      IsStandard: 0,
    });
    list.forEach((r, i) => {
      Resolution.set(view, ResolutionResponse.size + i * Resolution.size, { Width: r.width, Height: r.height });
    });
    this.#send('resolutionResponse', payload);
  }

  #vramLocation({
    UserContext: context,
    IsGpaSpecified,
    Gpa,
  }: {
    UserContext: bigint;
    IsGpaSpecified: number;
    Gpa: bigint;
  }): void {
    const { ram, mmio } = this.#environment;
    const inside = mmio.some((w) => Gpa >= BigInt(w.gpa) && Gpa + BigInt(ram.deviceSize) <= BigInt(w.gpa + w.size));
    const ok = IsGpaSpecified === 0 || (inside && Gpa % BigInt(VRAM_ALIGNMENT) === 0n);
    if (ok) ram.mapDevice(IsGpaSpecified === 0 ? -1 : Number(Gpa));
    else this.#channel.note(`VRAM at 0x${Gpa.toString(16)}, where it cannot be`);
    // There is no status: a guest takes another context than its own for a no.
    this.#send('vramLocationAck', UserContext.make({ UserContext: ok ? context : ~context & 0xffff_ffff_ffff_ffffn }));
    // From now on we want to be told of everything.
    const all = { IsDirtNeeded: 1, IsPointerPositionNeeded: 1, IsPointerShapeNeeded: 1, IsSituationNeeded: 1 };
    if (ok) this.#send('featureChange', FeatureChange.make(all));
  }

  #situation(s: { [K in keyof typeof SituationUpdate.field]: number | bigint } & { UserContext: bigint }): void {
    const output: Output = {
      active: s.VideoOutputCount !== 0 && s.Active !== 0,
      offset: Number(s.VramOffset),
      depth: Number(s.DepthBits),
      width: Number(s.WidthPixels),
      height: Number(s.HeightPixels),
      pitch: Number(s.PitchBytes),
    };
    const wrong = output.active ? this.#problem(output) : undefined;
    if (wrong !== undefined) this.#channel.note(`picture that cannot be: ${wrong}`);
    this.state.output = wrong === undefined && output.active ? output : { ...NO_OUTPUT };
    this.state.situations++;
    this.#send('situationUpdateAck', UserContext.make({ UserContext: s.UserContext }));
  }

  #problem({ offset, depth, width, height, pitch }: Output): string | undefined {
    const size = this.#environment.ram.deviceSize;
    if (depth !== 32 && depth !== 16) return `${depth} bits a pixel`;
    if (width < 1 || height < 1 || width > MAX_PIXELS || height > MAX_PIXELS) return `${width} x ${height} pixels`;
    if (pitch < (width * depth) / 8) return `lines of ${width} pixels in ${pitch} bytes`;
    if (offset % 4 || pitch % (depth / 8)) return `lines of ${pitch} bytes from 0x${offset.toString(16)}`;
    if (offset + extent(width, height, pitch, depth) > size)
      return `${height} lines of ${pitch} bytes from 0x${offset.toString(16)}`;
    return undefined;
  }

  #dirt(body: DataView): void {
    const { DirtCount } = Dirt.get(body, 0);
    const end = Dirt.size + DirtCount * Rectangle.size;
    if (end > body.byteLength) {
      this.#channel.note(`${DirtCount} dirty rectangles in ${body.byteLength} bytes`);
      return;
    }
    this.state.dirts++;
    if (DirtCount === 0) return;
    const { Left, Top, Right, Bottom } = Rectangle.get(body, end - Rectangle.size);
    this.state.dirt = [Left, Top, Right, Bottom];
  }

  #send(name: MessageName, body: Uint8Array): void {
    const payload = new Uint8Array(BODY + body.length);
    const view = viewOf(payload);
    const size = VideoHeader.size + body.length;
    PipeHeader.set(view, 0, { Type: PIPE_DATA, Size: size });
    VideoHeader.set(view, PipeHeader.size, { Type: MESSAGE[name], Size: size });
    payload.set(body, BODY);
    this.#channel.send({ transactionId: 0n, payload, what: words(name) });
  }
}

/** Bytes from the first pixel to the last. */
const extent = (width: number, height: number, pitch: number, depth: number): number =>
  pitch * (height - 1) + (width * depth) / 8;

/** `vram location ack` */
const words = (name: MessageName): string => name.replace(/[A-Z]/g, (c) => ` ${c.toLowerCase()}`);

/** The message in a packet with the bytes of its body, or what is wrong with it. */
function messageOf({ payload }: Packet): { name: MessageName; size: number } | string {
  if (payload.length < BODY) return `packet of ${payload.length} bytes`;
  const view = viewOf(payload);
  const pipe = PipeHeader.get(view, 0);
  const { Type } = VideoHeader.get(view, PipeHeader.size);
  if (pipe.Type !== PIPE_DATA) return `pipe message of type ${pipe.Type}`;
  const size = pipe.Size - VideoHeader.size;
  const message = GUEST_MESSAGES.get(Type);
  if (!message) return `message of type ${Type}`;
  if (size < message.size || BODY + size > payload.length) return `${words(message.name)} of ${size} bytes`;
  return { name: message.name, size };
}

/** A message of ours in a few words. */
function hostMessage({ payload }: Packet): string {
  const type = payload.length >= BODY ? VideoHeader.get(viewOf(payload), PipeHeader.size).Type : 0;
  const name = (Object.keys(MESSAGE) as MessageName[]).find((n) => MESSAGE[n] === type);
  return name ? words(name) : `message of type ${type}`;
}
