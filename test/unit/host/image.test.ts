import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { viewOf } from '../../../emulator/base/struct.ts';
import { ConfigError } from '../../../emulator/config.ts';
import { crc32c } from '../../../emulator/host/crc32c.ts';
import type { Disk } from '../../../emulator/host/disk.ts';
import { openImage } from '../../../emulator/host/image.ts';
import { isVhdxDisk } from '../../../emulator/host/vhdx.ts';
import { differencingVhdx } from '../../../emulator/host/vhdx-writer.ts';
import { disk, file, IMAGES, image, SIZE } from './fixtures.ts';

const MIB = 2 ** 20;
const open = (bytes: Uint8Array, name: string): Disk => openImage(file(bytes, name));
const same = (a: Uint8Array | undefined, b: Uint8Array): boolean => a !== undefined && Buffer.compare(a, b) === 0;

/** The message of the error that opening must give. */
function complaint(bytes: Uint8Array, name: string): string {
  try {
    open(bytes, name);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    assert.match(error.message, /^[^\n]+$/);
    return error.message;
  }
  return 'none';
}

/** The bytes changed at some places, big-endian words of 32 bits; for VHDs the checksum at `sum` of [from, from + length) is set right. */
function edited(
  bytes: Uint8Array,
  words: Record<number, number>,
  sums: [from: number, length: number, sum: number][] = [],
): Uint8Array {
  const out = bytes.slice();
  const view = viewOf(out);
  for (const [at, word] of Object.entries(words)) view.setUint32(Number(at), word >>> 0);
  for (const [from, length, sum] of sums) {
    view.setUint32(from + sum, 0);
    let total = 0;
    for (let i = 0; i < length; i++) total += out[from + i];
    view.setUint32(from + sum, ~total >>> 0);
  }
  return out;
}

test('CRC-32C: the check value of the polynomial, and the field that counts as zero', () => {
  const digits = Uint8Array.from('123456789', (c) => c.charCodeAt(0));
  assert.equal(crc32c(digits), 0xe306_9283);
  assert.equal(crc32c(Uint8Array.of(1, 9, 9, 9, 9, 2), 1), crc32c(Uint8Array.of(1, 0, 0, 0, 0, 2)));
});

test('every format tells the same disk, in whatever pieces it is read', () => {
  const want = disk();
  const opened = IMAGES.map((name) => open(image(name), name));
  assert.deepEqual(
    [open(want, 'raw.img'), ...opened].map((d) => [d.format, d.size, d.sectorSize, d.physicalSectorSize, d.id?.length]),
    [
      ['raw image', SIZE, 512, 4096, undefined],
      ['fixed VHD', SIZE, 512, 512, 16],
      ['dynamic VHD', SIZE, 512, 512, 16],
      ['VHDX', SIZE, 512, 512, 16],
      ['VHDX', SIZE, 512, 512, 16],
    ],
  );
  for (const d of opened) assert.ok(same(d.read(0, SIZE), want), d.format);
  fc.assert(
    fc.property(fc.nat(SIZE - 1), fc.nat(3 * MIB), (at, length) => {
      const n = Math.min(length, SIZE - at);
      for (const d of opened) assert.ok(same(d.read(at, n), want.subarray(at, at + n)), `${d.format}: ${n} bytes at ${at}`);
    }),
    { numRuns: 60, seed: 4 },
  );
});

test('what is wrong with an image is one line that names file and fact', () => {
  const [fixedVhd, dynamicVhd, vhdx] = (['fixed.vhd', 'dynamic.vhd', 'dynamic.vhdx'] as const).map(image);
  const footer = fixedVhd.length - 512;
  const tail = dynamicVhd.length - 512;
  const header = Number(viewOf(dynamicVhd).getBigUint64(16));
  const [f, h]: [number, number, number][] = [
    [tail, 512, 64],
    [header, 1024, 36],
  ];
  const words = (from: Uint8Array, at: number): number => viewOf(from).getUint32(at);
  const cases: [string, Uint8Array, string][] = [
    ['a.img', new Uint8Array(0), 'a.img: an empty file is no disk image'],
    ['a.img', new Uint8Array(700), 'a.img: a raw image must be whole sectors of 512 bytes, not 700 bytes'],
    ['a.vhd', new Uint8Array(1024), 'a.vhd: neither the signature of a VHDX file nor the footer of a VHD is there'],
    ['a.VHDX', new Uint8Array(1024), 'a.VHDX: neither the signature of a VHDX file nor the footer of a VHD is there'],
    [
      'd.vhd',
      dynamicVhd.subarray(0, tail),
      `d.vhd: truncated: a VHD begins here, but its footer is not in the last 512 of ${tail} bytes`,
    ],
    ['f.vhd', fixedVhd.subarray(512), `f.vhd: truncated: a fixed VHD of ${SIZE} bytes with ${SIZE - 512} bytes of data`],
    ['f.vhd', edited(fixedVhd, { [footer + 80]: 1 }), 'f.vhd: the checksum of the VHD footer is wrong'],
    ['f.vhd', edited(fixedVhd, { [footer + 12]: 0x2_0000 }, [[footer, 512, 64]]), 'f.vhd: VHD format version 0x20000, not 1.0'],
    ['f.vhd', edited(fixedVhd, { [footer + 60]: 5 }, [[footer, 512, 64]]), 'f.vhd: VHD disk type 5 is none that holds data'],
    ['f.vhd', edited(fixedVhd, { [footer + 52]: 7 }, [[footer, 512, 64]]), 'f.vhd: the VHD footer tells a disk of 7 bytes'],
    ['d.vhd', edited(dynamicVhd, { [tail + 20]: 0 }, [f]), 'd.vhd: the dynamic disk header is not where the VHD footer says'],
    [
      'd.vhd',
      edited(dynamicVhd, { [tail + 20]: dynamicVhd.length }, [f]),
      `d.vhd: truncated: the dynamic disk header at ${dynamicVhd.length} goes beyond its end at ${dynamicVhd.length}`,
    ],
    ['d.vhd', edited(dynamicVhd, { [header + 28]: 3 }), 'd.vhd: the checksum of the dynamic disk header is wrong'],
    [
      'd.vhd',
      edited(dynamicVhd, { [header + 28]: 3 }, [h]),
      'd.vhd: the VHD block table has 3 entries where the disk has 4 blocks',
    ],
    ['d.vhd', edited(dynamicVhd, { [header + 32]: 3 << 20 }, [h]), `d.vhd: VHD block size ${3 << 20}`],
    [
      'd.vhd',
      edited(dynamicVhd, { [words(dynamicVhd, header + 20)]: 0x4000 }),
      `d.vhd: truncated: VHD block 0 at ${0x4000 * 512} goes beyond the end at ${dynamicVhd.length}`,
    ],
    ['x.vhdx', vhdx.subarray(0, 100_000), 'x.vhdx: truncated: a VHDX header at 131072 goes beyond its end at 100000'],
    ['x.vhdx', edited(vhdx, { 65600: 1, 131136: 1 }), 'x.vhdx: both VHDX headers are damaged'],
    ['x.vhdx', edited(vhdx, { 196620: 1, 262156: 1 }), 'x.vhdx: both VHDX region tables are damaged'],
  ];
  assert.deepEqual(
    cases.map(([name, bytes]) => complaint(bytes, name)),
    cases.map((c) => c[2]),
  );
});

/** Where the block table of dynamic.vhdx is: the first entry of its region table. */
const blockTable = (bytes: Uint8Array): number => Number(viewOf(bytes).getBigUint64(196608 + 16 + 16, true));

test('a damaged header or region table of a VHDX is made good by its copy', () => {
  for (const words of [{ 65600: 1 }, { 131136: 1 }, { 196620: 1 }, { 262156: 1 }] as Record<number, number>[])
    assert.ok(same(open(edited(image('dynamic.vhdx'), words), 'x.vhdx').read(0, SIZE), disk()));
});

test('a corrupt block table of a VHDX is refused, by its entry', () => {
  const bytes = image('dynamic.vhdx');
  const bat = blockTable(bytes);
  const withEntry = (index: number, entry: bigint): Uint8Array => {
    const out = bytes.slice();
    viewOf(out).setBigUint64(bat + 8 * index, entry, true);
    return out;
  };
  assert.deepEqual(
    [withEntry(0, (999n << 20n) | 6n), withEntry(1, 4n), withEntry(2, (8n << 20n) | 7n), withEntry(3, 6n)].map((b) =>
      complaint(b, 'x.vhdx'),
    ),
    [
      `x.vhdx: truncated: VHDX block 0 at ${999 * MIB} goes beyond the end at ${bytes.length}`,
      'x.vhdx: VHDX block 1 has the reserved state 4',
      'x.vhdx: VHDX block 2 is partly present in an image without a parent',
      'x.vhdx: VHDX block 3 is said to be at 0, inside the headers',
    ],
  );
  // Blocks that are not present, undefined, zero or unmapped all read as zeros without a parent.
  for (const state of [0n, 1n, 2n, 3n]) assert.ok(same(open(withEntry(0, state), 'x.vhdx').read(0, MIB), new Uint8Array(MIB)));
});

/** One log entry of `dynamic.vhdx`: a sector of data at `offset`, zeros over `zeros`. */
function logEntry(
  guid: Uint8Array,
  sequence: bigint,
  tail: number,
  writes: { offset: number; data?: Uint8Array; zeros?: number }[],
  size: number,
): Uint8Array {
  const sectors = writes.filter((w) => w.data);
  const out = new Uint8Array(4096 * (1 + sectors.length));
  const view = viewOf(out);
  out.set([...'loge'].map((c) => c.charCodeAt(0)));
  view.setUint32(8, out.length, true);
  view.setUint32(12, tail, true);
  view.setBigUint64(16, sequence, true);
  view.setUint32(24, writes.length, true);
  out.set(guid, 32);
  view.setBigUint64(48, BigInt(size), true);
  view.setBigUint64(56, BigInt(size), true);
  let sector = 4096;
  writes.forEach(({ offset, data, zeros }, n) => {
    const at = 64 + 32 * n;
    out.set(
      [...(data ? 'desc' : 'zero')].map((c) => c.charCodeAt(0)),
      at,
    );
    view.setBigUint64(at + 16, BigInt(offset), true);
    view.setBigUint64(at + 24, sequence, true);
    if (!data) view.setBigUint64(at + 8, BigInt(zeros ?? 0), true);
    else {
      out.set(data.subarray(4092), at + 4);
      out.set(data.subarray(0, 8), at + 8);
      out.set(
        [...'data'].map((c) => c.charCodeAt(0)),
        sector,
      );
      view.setUint32(sector + 4, Number(sequence >> 32n), true);
      out.set(data.subarray(8, 4092), sector + 8);
      view.setUint32(sector + 4092, Number(sequence & 0xffff_ffffn), true);
      sector += 4096;
    }
  });
  view.setUint32(4, crc32c(out, 4), true);
  return out;
}

/** dynamic.vhdx with this in its log and a header that says so. */
function withLog(entries: [at: number, entry: Uint8Array][], guid: Uint8Array): Uint8Array {
  const out = image('dynamic.vhdx').slice();
  const view = viewOf(out);
  const current = view.getBigUint64(65536 + 8, true) > view.getBigUint64(131072 + 8, true) ? 65536 : 131072;
  out.set(guid, current + 48);
  view.setUint32(current + 4, crc32c(out.subarray(current, current + 4096), 4), true);
  const log = Number(view.getBigUint64(current + 72, true));
  const length = view.getUint32(current + 68, true);
  for (const [at, entry] of entries) for (const [i, b] of entry.entries()) out[log + ((at + i) % length)] = b;
  return out;
}

test('a log that says more than a log can is refused before it is done', () => {
  const guid = new Uint8Array(16).fill(3);
  const size = image('dynamic.vhdx').length;
  // Each zeroes as much as is allowed in all.
  const writes = Array.from({ length: 100 }, () => ({ offset: 0, zeros: 2 ** 30 }));
  const before = performance.now();
  assert.equal(
    complaint(withLog([[0, logEntry(guid, 7n, 0, writes, size)]], guid), 'x.vhdx'),
    'x.vhdx: the VHDX log is damaged: it says more than a log can',
  );
  // One of them alone is done.
  assert.equal(open(withLog([[0, logEntry(guid, 7n, 0, [{ offset: size, zeros: 2 ** 30 }], size)]], guid), 'x.vhdx').size, SIZE);
  assert.ok(performance.now() - before < 20_000);
});

test('a parent that is called anything is told in one line', () => {
  const parent = open(image('dynamic.vhdx'), 'parent');
  assert.equal(
    complaint(child(parent, [], `a\nb\u001b[31m${'x'.repeat(1000)}`), 'x.vhdx').length,
    'x.vhdx: its parent image is not there ()'.length + 263,
  );
});

test('the log of a VHDX is replayed over the file: the newest whole sequence, around the end of the log too', () => {
  const bytes = image('dynamic.vhdx');
  const guid = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
  const view = viewOf(bytes);
  const bat = blockTable(bytes);
  const block0 = Number(view.getBigUint64(bat, true) >> 20n) * MIB;
  const data = Uint8Array.from({ length: 4096 }, (_, i) => (i * 31) & 0xff);
  const at = MIB - 4096;
  const stale = logEntry(guid, 3n, 65536, [{ offset: block0, data: data.map((b) => b ^ 0xff) }], bytes.length);
  const first = logEntry(guid, 7n, at, [{ offset: block0 + 4096, data }], bytes.length);
  const second = logEntry(
    guid,
    8n,
    at,
    [
      { offset: block0 + 8192, zeros: 4096 },
      { offset: block0, data },
    ],
    bytes.length,
  );
  const file7and8: [number, Uint8Array][] = [
    [65536, stale],
    [at, first],
    [at + first.length, second],
  ];
  const want = disk();
  want.set(data, 0);
  want.set(data, 4096);
  want.fill(0, 8192, 12288);
  assert.ok(same(open(withLog(file7and8, guid), 'x.vhdx').read(0, SIZE), want));
  // The last entry is torn: what was before it is what counts; and if nothing is whole, or the file too short, there is no disk.
  const torn = second.slice();
  torn[5000] ^= 1;
  const partly = disk();
  partly.set(data, 4096);
  assert.ok(
    same(
      open(
        withLog(
          [
            [at, first],
            [at + first.length, torn],
          ],
          guid,
        ),
        'x.vhdx',
      ).read(0, SIZE),
      partly,
    ),
  );
  assert.equal(complaint(withLog([], guid), 'x.vhdx'), 'x.vhdx: the VHDX log is damaged: it has no valid sequence of entries');
  const longer = logEntry(guid, 9n, 0, [{ offset: block0, data }], bytes.length + MIB);
  assert.match(
    complaint(withLog([[0, longer]], guid), 'x.vhdx'),
    /^x\.vhdx: truncated: its log was written when it had \d+ bytes/,
  );
});

/** A differencing VHDX of these writes, as a file. */
function child(parent: Disk, writes: [number, Uint8Array][], path = 'parent'): Uint8Array {
  const pieces = [
    ...differencingVhdx({
      parent,
      parentPaths: { relative_path: path },
      writeId: Uint8Array.from({ length: 16 }, (_, i) => 200 + i),
      diskId: new Uint8Array(16).fill(9),
      writes,
    }),
  ];
  const size = Math.max(...pieces.map(([at, data]) => at + data.length));
  const out = new Uint8Array(Math.ceil(size / MIB) * MIB);
  for (const [at, data] of pieces) out.set(data, at);
  return out;
}

test('a differencing VHDX holds what was written over its parent, and a child of it what was written after that', () => {
  for (const name of ['dynamic.vhdx', 'dynamic.vhd'] as const) {
    const parent = open(image(name), name);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(SIZE / 512 - 1), fc.integer({ min: 1, max: 40 }), fc.nat(255)), { maxLength: 8 }),
        fc.array(fc.tuple(fc.nat(SIZE / 512 - 1), fc.integer({ min: 1, max: 40 }), fc.nat(255)), { maxLength: 8 }),
        (first, second) => {
          const want = disk();
          const apply = (writes: [number, number, number][]): [number, Uint8Array][] =>
            writes.map(([sector, count, fill]) => {
              const data = new Uint8Array(Math.min(count, SIZE / 512 - sector) * 512).fill(fill);
              want.set(data, sector * 512);
              return [sector * 512, data];
            });
          const one = child(parent, apply(first));
          const opened = openImage(file(one, 'one.vhdx'), (paths) => file(image(name), paths[0]));
          assert.ok(same(opened.read(0, SIZE), want));
          assert.deepEqual([opened.format, opened.id], ['differencing VHDX', parent.id]);
          // Merged with what it had, as the next session does; and as a grandchild.
          const more = apply(second);
          const own = isVhdxDisk(opened) ? [...opened.own()] : [];
          const merged = openImage(file(child(parent, [...own, ...more]), 'two.vhdx'), (paths) => file(image(name), paths[0]));
          assert.ok(same(merged.read(0, SIZE), want));
          const two = child(opened, more, 'one.vhdx');
          const grand = openImage(file(two, 'two.vhdx'), ([path]) => file(path === 'one.vhdx' ? one : image(name), path));
          assert.ok(same(grand.read(0, SIZE), want));
        },
      ),
      { numRuns: 12, seed: 9 },
    );
  }
});

test('a differencing image without its parent, with another one, or in a circle is refused', () => {
  const parent = open(image('dynamic.vhdx'), 'dynamic.vhdx');
  const bytes = child(parent, [[0, new Uint8Array(512)]]);
  const attempt = (opener: Parameters<typeof openImage>[1]): string => {
    try {
      openImage(file(bytes, 'c.vhdx'), opener);
    } catch (error) {
      return (error as Error).message;
    }
    return 'none';
  };
  assert.deepEqual(
    [
      attempt(undefined),
      attempt(() => file(image('fixed.vhdx'), 'other')),
      attempt(() => file(new Uint8Array(512), 'small.img')),
      attempt(() => file(bytes, 'c.vhdx')),
    ],
    [
      'c.vhdx: its parent image is not there (parent)',
      'c.vhdx: its parent image has changed, or is another one than it was made from',
      `c.vhdx: its parent image is a disk of 512 bytes in sectors of 512, this one of ${SIZE} in 512`,
      'c.vhdx: more than 32 parent images',
    ],
  );
});

/** A differencing VHD over fixed.vhd: block 1 present, and in it the sectors of `bits`. Offsets from the specification. */
function differencingVhd(parent: Uint8Array, bits: number[], data: Uint8Array): Uint8Array {
  const out = new Uint8Array(512 + 1024 + 512 + 512 + 2 * MIB + 512);
  const view = viewOf(out);
  const tail = out.length - 512;
  const footer = parent.slice(parent.length - 512);
  viewOf(footer).setBigUint64(16, 512n);
  viewOf(footer).setUint32(60, 4);
  out.set(footer, 0);
  out.set(
    [...'cxsparse'].map((c) => c.charCodeAt(0)),
    512,
  );
  view.setBigUint64(512 + 16, 1536n);
  view.setUint32(512 + 24, 0x1_0000);
  view.setUint32(512 + 28, 4);
  view.setUint32(512 + 32, 2 * MIB);
  out.set(parent.subarray(parent.length - 512 + 68, parent.length - 512 + 84), 512 + 40);
  [...'base.vhd'].forEach((c, i) => void view.setUint16(512 + 64 + 2 * i, c.charCodeAt(0)));
  for (let n = 0; n < 4; n++) view.setUint32(1536 + 4 * n, n === 1 ? 4 : 0xffff_ffff);
  for (const bit of bits) out[2048 + (bit >> 3)] |= 0x80 >> (bit & 7);
  out.set(data, 2560);
  const sum = (from: number, length: number, at: number): void => {
    view.setUint32(from + at, 0);
    let total = 0;
    for (let i = 0; i < length; i++) total += out[from + i];
    view.setUint32(from + at, ~total >>> 0);
  };
  sum(512, 1024, 36);
  sum(0, 512, 64);
  out.set(out.subarray(0, 512), tail);
  return out;
}

test('a differencing VHD takes sector by sector from itself or its parent', () => {
  const base = image('fixed.vhd');
  const data = new Uint8Array(2 * MIB).fill(0xee);
  const bytes = differencingVhd(base, [0, 5, 1904, 4095], data);
  const paths: string[] = [];
  const opened = openImage(file(bytes, 'd.vhd'), (p) => {
    paths.push(...p);
    return file(base, 'base.vhd');
  });
  const want = disk();
  for (const sector of [0, 5, 1904, 4095]) want.fill(0xee, 2 * MIB + sector * 512, 2 * MIB + sector * 512 + 512);
  assert.deepEqual([opened.format, paths], ['differencing VHD', ['base.vhd']]);
  assert.ok(same(opened.read(0, SIZE), want));
  assert.ok(same(opened.read(2 * MIB + 100, 5 * 512), want.subarray(2 * MIB + 100, 2 * MIB + 100 + 5 * 512)));
  assert.throws(
    () => openImage(file(bytes, 'd.vhd'), () => file(image('dynamic.vhd'), 'x')),
    /d\.vhd: its parent image is another one/,
  );
});

test('any damage gives a one-line error or a disk that can be read, never an exception of ours', () => {
  const originals = IMAGES.filter((n) => n !== 'fixed.vhdx').map((name) => ({ name, bytes: image(name) }));
  // Where the structures are: the ends of VHDs, the first 4 MiB of VHDXs.
  const outcomes = new Set<string>();
  fc.assert(
    fc.property(
      fc.nat(originals.length - 1),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 }),
      fc.option(fc.nat(), { nil: undefined }),
      (which, flips, cut) => {
        const { name, bytes } = originals[which];
        const out = bytes.slice(0, cut === undefined ? bytes.length : 512 + (cut % bytes.length));
        for (const [at, value] of flips) {
          const near = at % 4 === 0 ? out.length - 1 - (at % 600) : at % 4 === 1 ? at % 4096 : 3 * MIB + (at % 4096);
          if (near >= 0 && near < out.length) out[near] = value;
        }
        try {
          const d = open(out, name);
          assert.equal(d.read(0, Math.min(d.size, MIB))?.length, Math.min(d.size, MIB));
          outcomes.add('disk');
        } catch (error) {
          if (!(error instanceof ConfigError)) throw error;
          assert.match(error.message, new RegExp(`^${name}: [^\\n]+$`));
          outcomes.add('refused');
        }
      },
    ),
    { numRuns: 200, seed: 12 },
  );
  assert.deepEqual([...outcomes].sort(), ['disk', 'refused']);
});
