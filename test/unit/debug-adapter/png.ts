/** Reads the PNG files that screen.ts writes, and no others. */
import assert from 'node:assert/strict';
import zlib from 'node:zlib';

export interface Picture {
  width: number;
  height: number;
  /** Red, green and blue of each pixel, a byte each. */
  rgb: Uint8Array;
}

/** CRC-32, bit by bit: no table, as the table is what is tested. */
const crc32 = (data: Uint8Array): number => {
  let c = -1;
  for (const byte of data) {
    c ^= byte;
    for (let i = 0; i < 8; i++) c = (c >>> 1) ^ (c & 1 ? 0xedb88320 : 0);
  }
  return ~c >>> 0;
};

/** Throws where a reader of PNG files would. */
export function readPng(file: Buffer): Picture {
  assert.equal(file.subarray(0, 8).toString('latin1'), '\x89PNG\r\n\x1a\n');
  const chunks = new Map<string, Buffer>();
  for (let at = 8; at < file.length; ) {
    const length = file.readUInt32BE(at);
    assert.equal(file.readUInt32BE(at + 8 + length), crc32(file.subarray(at + 4, at + 8 + length)));
    chunks.set(file.toString('latin1', at + 4, at + 8), file.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  assert.deepEqual([...chunks.keys()], ['IHDR', 'IDAT', 'IEND']);
  const header = chunks.get('IHDR') ?? assert.fail();
  assert.deepEqual([...header.subarray(8)], [8, 2, 0, 0, 0]);
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  const data = zlib.inflateSync(chunks.get('IDAT') ?? assert.fail());
  assert.equal(data.length, height * (1 + 3 * width));
  const rgb = new Uint8Array(3 * width * height);
  for (let y = 0; y < height; y++) {
    assert.equal(data[y * (1 + 3 * width)], 0);
    rgb.set(data.subarray(y * (1 + 3 * width) + 1, (y + 1) * (1 + 3 * width)), 3 * width * y);
  }
  return { width, height, rgb };
}
