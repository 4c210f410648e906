/** The EDID of the synthetic monitor: VESA E-EDID, release A, revision 2 (EDID 1.4), section 3. */
import { bytes, struct, u8, u16, u32, viewOf } from '../../../base/struct.ts';

/** Section 3.3 to 3.11. */
const Edid = struct(
  'Edid',
  {
    Header: bytes(8),
    Manufacturer: bytes(2),
    Product: u16,
    Serial: u32,
    Week: u8,
    Year: u8,
    Version: u8,
    Revision: u8,
    VideoInput: u8,
    ScreenSize: bytes(2),
    Gamma: u8,
    Features: u8,
    Chromaticity: bytes(10),
    EstablishedTimings: bytes(3),
    StandardTimings: bytes(16),
    PreferredTiming: bytes(18),
    Name: bytes(18),
    Unused: bytes(36),
    Extensions: u8,
    Checksum: u8,
  },
  { size: 128 },
);
export const EDID_SIZE = Edid.size;

/** Table 3.21: a detailed timing. */
const Timing = struct(
  'EdidTiming',
  {
    PixelClock: u16,
    Horizontal: bytes(3),
    Vertical: bytes(3),
    HorizontalFront: u8,
    HorizontalSync: u8,
    VerticalSync: u8,
    SyncHigh: u8,
    Reserved: bytes(5),
    Flags: u8,
  },
  { size: 18 },
);

const REFRESH_HZ = 60;
/** Blanking of a display that needs next to none: totals, front porches and sync widths, in pixels and lines. */
const H = { blank: 160, front: 48, sync: 32 };
const V = { blank: 30, front: 3, sync: 5 };

/** Low bytes of both, and a byte of their bits 11 to 8. */
const split = (active: number, blank: number): Uint8Array =>
  Uint8Array.of(active, blank, ((active >> 4) & 0xf0) | ((blank >> 8) & 0x0f));

/** Three letters of 5 bits. */
const manufacturer = (id: string): Uint8Array => {
  const [a, b, c] = Array.from(id, (l) => l.charCodeAt(0) - 64);
  const packed = (a << 10) | (b << 5) | c;
  return Uint8Array.of(packed >> 8, packed);
};

/** A monitor that likes this many pixels best: 128 bytes. */
export function edid(width: number, height: number): Uint8Array {
  const timing = Timing.make({
    PixelClock: Math.round(((width + H.blank) * (height + V.blank) * REFRESH_HZ) / 10_000),
    Horizontal: split(width, H.blank),
    Vertical: split(height, V.blank),
    HorizontalFront: H.front,
    HorizontalSync: H.sync,
    VerticalSync: (V.front << 4) | V.sync,
    Flags: 0x1e, // digital separate sync, both positive
  });
  const name = 'HyperVMonitor';
  const out = Edid.make({
    Header: Uint8Array.of(0, 255, 255, 255, 255, 255, 255, 0),
    Manufacturer: manufacturer('MSH'),
    Product: 0x062e,
    Year: 2021 - 1990,
    Version: 1,
    Revision: 4,
    VideoInput: 0x80, // digital
    Gamma: 120, // 2.2
    Features: 0x06, // sRGB; the preferred timing is the native one
    Chromaticity: Uint8Array.of(0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54), // sRGB
    EstablishedTimings: Uint8Array.of(0x21, 0x08, 0), // 640x480, 800x600, 1024x768, all at 60 Hz
    StandardTimings: new Uint8Array(16).fill(1), // none
    PreferredTiming: timing,
    Name: Uint8Array.from([0, 0, 0, 0xfc, 0, ...Array.from(name, (c) => c.charCodeAt(0))]),
    Unused: Uint8Array.from([...[0, 0, 0, 0x10], ...new Array<number>(14).fill(0), ...[0, 0, 0, 0x10]]),
  });
  viewOf(out).setUint8(Edid.field.Checksum.offset, -out.reduce((sum, b) => sum + b, 0) & 255);
  return out;
}
