import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { displayOf, png, ScreenWatch } from '../../../debug-adapter/screen.ts';
import type { Screen } from '../../../emulator/index.ts';
import { readPng } from './png.ts';

const blank = (width: number, height: number, depth = 32, padding = 8): Screen => {
  const pitch = (width * depth) / 8 + padding;
  return { width, height, depth, pitch, bytes: new Uint8Array(pitch * (height - 1) + (width * depth) / 8) };
};
const set = (s: Screen, x: number, y: number, ...bytes: number[]): void => s.bytes.set(bytes, y * s.pitch + (x * s.depth) / 8);

test('a PNG has the colours of the picture, 32 bits a pixel with blue first', () => {
  const s = blank(3, 2);
  set(s, 0, 0, 1, 2, 3, 255);
  set(s, 2, 1, 0xff, 0x80, 0x40, 0);
  assert.deepEqual(readPng(png(s)), {
    width: 3,
    height: 2,
    rgb: Uint8Array.of(...[3, 2, 1], ...[0, 0, 0], ...[0, 0, 0], ...[0, 0, 0], ...[0, 0, 0], ...[0x40, 0x80, 0xff]),
  });
});

test('16 bits a pixel are spread over whole bytes', () => {
  const s = blank(4, 1, 16);
  [0xffff, 0xf800, 0x07e0, 0x0010].forEach((v, x) => {
    set(s, x, 0, v & 255, v >> 8);
  });
  assert.deepEqual([...readPng(png(s)).rgb], [...[255, 255, 255], ...[255, 0, 0], ...[0, 255, 0], ...[0, 0, 132]]);
});

test('one who looks draws the smallest rectangle that has changed, and ends with the picture as it is', () => {
  const write = fc.record({ x: fc.nat(19), y: fc.nat(11), value: fc.nat(255), part: fc.nat(3) });
  fc.assert(
    fc.property(fc.array(fc.array(write, { maxLength: 4 }), { maxLength: 8 }), fc.constantFrom(16, 32), (steps, depth) => {
      const s = blank(20, 12, depth);
      const watch = new ScreenWatch();
      const canvas = new Uint8Array(3 * 20 * 12);
      const draw = (all = false): number => {
        const change = watch.look(s, all);
        if (change === undefined || change === 'none') return 0;
        const part = readPng(change.png);
        assert.deepEqual(
          [part.width, part.height, change.screenWidth, change.screenHeight],
          [change.width, change.height, 20, 12],
        );
        for (let y = 0; y < part.height; y++)
          canvas.set(part.rgb.subarray(3 * part.width * y, 3 * part.width * (y + 1)), 3 * ((change.y + y) * 20 + change.x));
        return part.width * part.height;
      };
      assert.equal(draw(), 240);
      for (const writes of steps) {
        const before = s.bytes.slice();
        for (const { x, y, value, part } of writes) s.bytes[y * s.pitch + (x * depth) / 8 + (part % (depth / 8))] = value;
        const touched = Array.from({ length: 240 }, (_, i) => i).filter((i) => {
          const at = Math.floor(i / 20) * s.pitch + ((i % 20) * depth) / 8;
          return Buffer.compare(before.subarray(at, at + depth / 8), s.bytes.subarray(at, at + depth / 8)) !== 0;
        });
        const columns = touched.map((i) => i % 20);
        const rows = touched.map((i) => Math.floor(i / 20));
        const area = touched.length
          ? (Math.max(...columns) - Math.min(...columns) + 1) * (Math.max(...rows) - Math.min(...rows) + 1)
          : 0;
        assert.equal(draw(), area);
        assert.deepEqual(canvas, readPng(png(s)).rgb);
        assert.equal(watch.look(s, false), undefined);
      }
      assert.equal(draw(true), 240);
    }),
    { numRuns: 60, seed: 3 },
  );
});

test('bytes between the lines are no change; a picture of another form is a new one; none is told once', () => {
  const watch = new ScreenWatch();
  const s = blank(4, 2);
  watch.look(s, false);
  s.bytes[17] = 1;
  assert.equal(watch.look(s, false), undefined);
  const wide = watch.look(blank(8, 2), false);
  assert.ok(wide && wide !== 'none');
  assert.deepEqual([wide.x, wide.y, wide.width, wide.height], [0, 0, 8, 2]);
  assert.deepEqual(
    [watch.look(undefined, false), watch.look(undefined, false), watch.look(undefined, true)],
    ['none', undefined, 'none'],
  );
});

test('a display is a size that there is', () => {
  assert.deepEqual(displayOf('1280x720'), { width: 1280, height: 720 });
  for (const text of ['', '1280', '1280 x 720', '640x479', '1281x720', '3848x2160', '-8x600', '99999999x1'])
    assert.throws(
      () => displayOf(text),
      /^Error: (display ".*" is not a size, such as 1280x720|a display has 640x480 to 3840x2160 )/,
    );
});
