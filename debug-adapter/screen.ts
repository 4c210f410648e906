/** The guest's picture as PNG files: all of it, or what has changed of it since somebody looked. */
import zlib from 'node:zlib';
import { ConfigError, type DisplayConfig, displayProblem, type Screen } from '../emulator/index.ts';

/** A resolution as people write it, `1280x720`. Throws `ConfigError`. */
export function displayOf(text: string): DisplayConfig {
  const [, width, height] = /^(\d{1,5})x(\d{1,5})$/.exec(text) ?? [];
  if (width === undefined) throw new ConfigError(`display "${text}" is not a size, such as 1280x720`);
  const display = { width: Number(width), height: Number(height) };
  const problem = displayProblem(display);
  if (problem !== undefined) throw new ConfigError(problem);
  return display;
}

/** A part of a picture, in pixels. */
interface Rectangle {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Red, green and blue of a rectangle, a byte each, with PNG's filter byte before every line (PNG, third edition, §9.2: 0 is none). */
function lines({ bytes, pitch, depth }: Screen, { x, y, width, height }: Rectangle): Uint8Array {
  const out = new Uint8Array(height * (1 + 3 * width));
  const size = depth / 8;
  let to = 0;
  for (let row = 0; row < height; row++) {
    let from = (y + row) * pitch + x * size;
    to++;
    for (let column = 0; column < width; column++, from += size, to += 3) {
      if (size === 4) {
        out[to] = bytes[from + 2];
        out[to + 1] = bytes[from + 1];
        out[to + 2] = bytes[from];
      } else {
        const v = bytes[from] | (bytes[from + 1] << 8);
        const [r, g, b] = [v >> 11, (v >> 5) & 63, v & 31];
        out[to] = (r << 3) | (r >> 2);
        out[to + 1] = (g << 2) | (g >> 4);
        out[to + 2] = (b << 3) | (b >> 2);
      }
    }
  }
  return out;
}

/** PNG, annex D: the CRC of ISO 3309. */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
  return c;
});
function crc(data: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of data) c = CRC_TABLE[(c ^ byte) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/** PNG, §5.3: length, type, data, CRC of type and data. */
function chunk(type: string, data: Uint8Array): Buffer {
  const out = Buffer.alloc(12 + data.length);
  out.writeUInt32BE(data.length, 0);
  out.write(type, 4, 'latin1');
  out.set(data, 8);
  out.writeUInt32BE(crc(out.subarray(4, 8 + data.length)), 8 + data.length);
  return out;
}

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
/** Pictures of text hardly get smaller with more effort than this. */
const LEVEL = 3;

/** A rectangle of the picture (all of it, when none is given) as a PNG file: 8 bits each of red, green and blue. */
export function png(screen: Screen, part: Rectangle = { x: 0, y: 0, width: screen.width, height: screen.height }): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(part.width, 0);
  header.writeUInt32BE(part.height, 4);
  header.set([8, 2, 0, 0, 0], 8); // bit depth, colour type "truecolour", compression, filter, interlace
  const data = zlib.deflateSync(lines(screen, part), { level: LEVEL });
  return Buffer.concat([SIGNATURE, chunk('IHDR', header), chunk('IDAT', data), chunk('IEND', new Uint8Array(0))]);
}

/** What somebody who looks has to draw: a rectangle of a picture of the given size. */
export interface Change extends Rectangle {
  screenWidth: number;
  screenHeight: number;
  /** A PNG file of the rectangle. */
  png: Buffer;
}

/**
 * Follows a picture for one who looks at it from time to time. Compares it with what was there before, so that it does not matter who
 * changed it, or that the machine went back in time.
 */
export class ScreenWatch {
  #seen: (Screen & { bytes: Buffer }) | undefined;

  /** What has changed since the last call; undefined: nothing. With `all` the whole picture has. */
  look(screen: Screen | undefined, all: boolean): Change | 'none' | undefined {
    const seen = this.#seen;
    if (!screen) {
      this.#seen = undefined;
      return seen || all ? 'none' : undefined;
    }
    const { width, height, pitch, depth } = screen;
    const same = seen && seen.width === width && seen.height === height && seen.pitch === pitch && seen.depth === depth;
    const part = same && !all ? changed(seen, screen) : { x: 0, y: 0, width, height };
    if (!part) return undefined;
    if (same) seen.bytes.set(screen.bytes);
    else this.#seen = { ...screen, bytes: Buffer.from(screen.bytes) };
    return { screenWidth: width, screenHeight: height, ...part, png: png(screen, part) };
  }
}

/** The smallest rectangle with all that differs between two pictures of the same form. */
function changed(before: Screen & { bytes: Buffer }, { bytes, width, height, pitch, depth }: Screen): Rectangle | undefined {
  const length = (width * depth) / 8;
  const differs = (row: number): boolean =>
    before.bytes.compare(bytes, row * pitch, row * pitch + length, row * pitch, row * pitch + length) !== 0;
  let top = 0;
  while (top < height && !differs(top)) top++;
  if (top === height) return undefined;
  let bottom = height - 1;
  while (!differs(bottom)) bottom--;
  let [left, right] = [length, -1];
  for (let row = top; row <= bottom; row++) {
    const at = row * pitch;
    let i = 0;
    while (i < left && before.bytes[at + i] === bytes[at + i]) i++;
    left = i;
    i = length - 1;
    while (i > right && before.bytes[at + i] === bytes[at + i]) i--;
    right = i;
  }
  const size = depth / 8;
  const x = Math.floor(left / size);
  return { x, y: top, width: Math.floor(right / size) - x + 1, height: bottom - top + 1 };
}
