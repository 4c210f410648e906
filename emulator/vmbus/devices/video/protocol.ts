/**
 * The synthetic video protocol, 3.2 to 3.5 (reference hyperv-arm64.md §9.9): a pipe header, a message header, a packed body.
 * Layouts and numbers as OpenVMM's vm/devices/uidevices/src/video/protocol.rs and Linux' drivers/gpu/drm/hyperv have them.
 */
import { array, bytes, i32, struct, u8, u16, u32, u64 } from '../../../base/struct.ts';

export const VideoHeader = struct('SynthvidHeader', { Type: u32, Size: u32 }, { size: 8 });

export const VersionRequest = struct('SynthvidVersionRequest', { Version: u32 }, { size: 4 });
export const VersionResponse = struct(
  'SynthvidVersionResponse',
  { Version: u32, Accepted: u8, MaxVideoOutputs: u8 },
  { size: 6 },
);
export const VramLocation = struct('SynthvidVramLocation', { UserContext: u64, IsGpaSpecified: u8, Gpa: u64 }, { size: 17 });
/** Of VRAM_LOCATION_ACK and SITUATION_UPDATE_ACK. */
export const UserContext = struct('SynthvidUserContext', { UserContext: u64 }, { size: 8 });
export const SituationUpdate = struct(
  'SynthvidSituationUpdate',
  {
    UserContext: u64,
    VideoOutputCount: u8,
    Active: u8,
    VramOffset: u32,
    DepthBits: u8,
    WidthPixels: u32,
    HeightPixels: u32,
    PitchBytes: u32,
  },
  { size: 27 },
);
export const PointerPosition = struct(
  'SynthvidPointerPosition',
  { IsVisible: u8, VideoOutput: u8, X: i32, Y: i32 },
  { size: 10 },
);
/** Pixels follow. */
export const PointerShape = struct(
  'SynthvidPointerShape',
  { PartIndex: u8, IsArgb: u8, Width: u32, Height: u32, HotX: u32, HotY: u32 },
  { size: 18 },
);
export const FeatureChange = struct(
  'SynthvidFeatureChange',
  { IsDirtNeeded: u8, IsPointerPositionNeeded: u8, IsPointerShapeNeeded: u8, IsSituationNeeded: u8 },
  { size: 4 },
);
/** `Rectangle`s follow. */
export const Dirt = struct('SynthvidDirt', { VideoOutput: u8, DirtCount: u8 }, { size: 2 });
/** Right and bottom are exclusive. */
export const Rectangle = struct('SynthvidRectangle', { Left: i32, Top: i32, Right: i32, Bottom: i32 }, { size: 16 });
export const BiosInfo = struct('SynthvidBiosInfo', { StopDeviceSupported: u32, Reserved: bytes(12) }, { size: 16 });
export const ResolutionRequest = struct('SynthvidResolutionRequest', { MaximumCount: u8 }, { size: 1 });
/** `Resolution`s follow. */
export const ResolutionResponse = struct(
  'SynthvidResolutionResponse',
  { Edid: bytes(128), Count: u8, DefaultIndex: u8, IsStandard: u8 },
  { size: 131 },
);
export const Resolution = struct('SynthvidResolution', { Width: u16, Height: u16 }, { size: 4 });
export const Capability = struct('SynthvidCapability', { LockOnDisconnect: u32, Reserved: array(15, u32) }, { size: 64 });

export const MESSAGE = {
  versionRequest: 1,
  versionResponse: 2,
  vramLocation: 3,
  vramLocationAck: 4,
  situationUpdate: 5,
  situationUpdateAck: 6,
  pointerPosition: 7,
  pointerShape: 8,
  featureChange: 9,
  dirt: 10,
  biosInfoRequest: 11,
  biosInfoResponse: 12,
  resolutionRequest: 13,
  resolutionResponse: 14,
  capabilityRequest: 15,
  capabilityResponse: 16,
} as const;
export type MessageName = keyof typeof MESSAGE;

/** Messages of the guest, with the least that their bodies hold. */
export const GUEST_MESSAGES: ReadonlyMap<number, { name: MessageName; size: number }> = new Map(
  (
    [
      ['versionRequest', VersionRequest.size],
      ['vramLocation', VramLocation.size],
      ['situationUpdate', SituationUpdate.size],
      ['pointerPosition', PointerPosition.size],
      ['pointerShape', PointerShape.size],
      ['dirt', Dirt.size],
      ['biosInfoRequest', 0],
      ['resolutionRequest', ResolutionRequest.size],
      ['capabilityRequest', 0],
    ] as const
  ).map(([name, size]) => [MESSAGE[name], { name, size }]),
);

/** Versions have their halves the other way round than elsewhere. */
export const videoVersion = (major: number, minor: number): number => (minor << 16) | major;
export const videoVersionText = (version: number): string => `${version & 0xffff}.${version >>> 16}`;
/** Windows 8, 8.1, 10 and 10 1511: the last is what Linux asks for first. */
export const VIDEO_VERSIONS: readonly number[] = [2, 3, 4, 5].map((minor) => videoVersion(3, minor));
/** "Accepted, and the version in the answer means something". */
export const ACCEPTED = 2;
/** The guest may ask for so many resolutions at most. */
export const MAX_RESOLUTIONS = 64;
/** Largest pointer, in pixels each way. */
export const MAX_POINTER = 96;
