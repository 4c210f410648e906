import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import zlib from 'node:zlib';
import { openDisks } from '../../../debug-adapter/cli/guest.ts';
import { DiskFiles } from '../../../debug-adapter/disks.ts';
import type { DiskSetting } from '../../../debug-adapter/protocol.ts';
import { ConfigError, type Machine } from '../../../emulator/index.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-images-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => path.join(folder, name);
const saved = (name: string, bytes: Uint8Array): string => {
  fs.writeFileSync(at(name), bytes);
  return at(name);
};
const fixture = (name: string): Uint8Array =>
  zlib.gunzipSync(fs.readFileSync(new URL(`../host/images/${name}.gz`, import.meta.url)));

/** A machine whose guest has written this. */
const wrote = (writes: Record<string, [number, Uint8Array][]>): Machine =>
  ({ diskWrites: (name: string) => writes[name] ?? [] }) as Partial<Machine> as Machine;

function complaint(setting: DiskSetting): string {
  try {
    new DiskFiles([setting]);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.message.replaceAll(folder, '');
  }
  return 'none';
}

/** All bytes of the first disk. */
function contents(setting: DiskSetting): Uint8Array | undefined {
  const disks = new DiskFiles([setting]);
  const { disk } = disks.configs[0];
  const bytes = disk.read(0, disk.size);
  disks.close();
  return bytes;
}

test('disks have the names of their files, and are DVDs when they are ISO images or said to be', () => {
  const file = saved('a.img', new Uint8Array(4096));
  const iso = saved('b.ISO', new Uint8Array(4096));
  const disks = new DiskFiles([
    { path: file, readOnly: true },
    { path: file },
    { path: iso },
    { path: file, dvd: true },
    { path: iso, dvd: false },
  ]);
  assert.deepEqual(
    disks.configs.map(({ name, readOnly, dvd, disk }) => [name, readOnly, dvd, disk.size]),
    [
      ['a.img', true, false, 4096],
      ['a.img (2)', false, false, 4096],
      ['b.ISO', false, true, 4096],
      ['a.img (3)', false, true, 4096],
      ['b.ISO (2)', false, false, 4096],
    ],
  );
  disks.close();
});

test('--disk takes a file and words behind it', async () => {
  const file = saved('d.img', new Uint8Array(4096));
  const disks = await openDisks({ disk: [`${file},ro`, `${file},dvd`, `${file},nvme`] });
  assert.deepEqual(
    disks.configs.map((c) => [c.name, c.bus, c.readOnly, c.dvd]),
    [
      ['d.img', 'scsi', true, false],
      ['d.img (2)', 'scsi', false, true],
      ['d.img (3)', 'nvme', false, false],
    ],
  );
  disks.close();
  await assert.rejects(openDisks({ disk: [`${file},rw`] }), /--disk .*d\.img,rw: "rw" is none of ro, dvd, nvme, write=FILE/);
  await assert.rejects(openDisks({ disk: [',ro'] }), /--disk ,ro: expected FILE/);
  await assert.rejects(openDisks({ disk: [at('none.img')] }), /none\.img: no such file/);
});

test('what cannot be used is said in one line with the file', () => {
  const raw = saved('c.img', new Uint8Array(4096));
  const dynamic = saved('c.vhd', fixture('dynamic.vhd'));
  saved('plain.vhdx', fixture('dynamic.vhdx'));
  saved('cut.vhd', fixture('fixed.vhd').subarray(100 * 512));
  assert.deepEqual(
    [
      { path: at('none.img') },
      { path: folder },
      { path: at('cut.vhd') },
      { path: raw, writeTo: at('c.bin') },
      { path: dynamic, writeTo: dynamic },
      { path: raw, writeTo: at('plain.vhdx') },
    ].map(complaint),
    [
      '/none.img: no such file',
      ': it is not a file',
      '/cut.vhd: truncated: a fixed VHD of 6292992 bytes with 6241792 bytes of data',
      '/c.bin: what the guest writes is kept in a .vhdx file',
      '/c.vhd: a dynamic VHD cannot be written in place; write to a differencing file',
      '/plain.vhdx: it exists and is no differencing VHDX',
    ],
  );
});

test('what a guest writes is kept in a differencing file, session after session, and the image stays as it is', () => {
  const before = Uint8Array.from({ length: 3 << 20 }, (_, i) => i >> 7);
  const want = before.slice();
  const setting = { path: saved('base.img', before), writeTo: at('kept.vhdx') };
  const sessions: [number, number, number][] = [
    [0, 16384, 1],
    [1 << 20, 32768, 2],
    [8192, 8192, 3],
  ];
  for (const [offset, length, fill] of sessions) {
    const disks = new DiskFiles([setting]);
    const data = new Uint8Array(length).fill(fill);
    want.set(data, offset);
    const said = disks.save(wrote({ 'base.img': [[offset, data]] }));
    assert.deepEqual(said, [`${setting.writeTo}: 1 blocks that the guest wrote to base.img`]);
    disks.close();
    assert.deepEqual(disks.save(wrote({})), []);
    assert.ok(Buffer.compare(contents(setting) ?? before, want) === 0);
    // The file finds its parent by itself, too: the two may be moved together.
    assert.ok(Buffer.compare(contents({ path: setting.writeTo }) ?? before, want) === 0);
  }
  assert.ok(Buffer.compare(fs.readFileSync(setting.path), before) === 0);
  assert.deepEqual(
    fs.readdirSync(folder).filter((f) => f.endsWith('.part')),
    [],
  );
});

test('with nothing written no file is made; without writeTo nothing is kept', () => {
  const file = saved('quiet.img', new Uint8Array(4096));
  const disks = new DiskFiles([{ path: file, writeTo: at('quiet.vhdx') }, { path: file }]);
  assert.deepEqual(disks.save(wrote({ 'quiet.img (2)': [[0, new Uint8Array(512).fill(1)]] })), []);
  assert.deepEqual([fs.existsSync(at('quiet.vhdx')), fs.readFileSync(file).every((b) => b === 0)], [false, true]);
  disks.close();
});

test('an image is written itself when it is asked for by its own name', () => {
  for (const [name, bytes] of [
    ['own.img', new Uint8Array(8192)],
    ['own.vhd', fixture('fixed.vhd')],
  ] as const) {
    const file = saved(name, bytes);
    const disks = new DiskFiles([{ path: file, writeTo: file }]);
    disks.save(wrote({ [name]: [[4096, new Uint8Array(512).fill(9)]] }));
    disks.close();
    const want = Buffer.from(bytes);
    want.fill(9, 4096, 4608);
    assert.ok(Buffer.compare(fs.readFileSync(file), want) === 0, name);
  }
});

test('a file that cannot be written is said, and the others are written all the same', () => {
  const file = saved('two.img', new Uint8Array(4096));
  const disks = new DiskFiles([
    { path: file, writeTo: at('no/such/folder.vhdx') },
    { path: file, writeTo: at('two.vhdx') },
  ]);
  const data: [number, Uint8Array][] = [[0, new Uint8Array(512).fill(1)]];
  const said = disks.save(wrote({ 'two.img': data, 'two.img (2)': data }));
  assert.deepEqual(
    [said.length, /cannot be written: no such file/.test(said[0]), fs.existsSync(at('two.vhdx'))],
    [2, true, true],
  );
  disks.close();
});

test('after a reset a new machine gets what the guest had written', () => {
  const disks = new DiskFiles([{ path: saved('reset.img', new Uint8Array(4096)) }]);
  const data: [number, Uint8Array][] = [[512, new Uint8Array(512).fill(5)]];
  assert.deepEqual(disks.carry(wrote({ 'reset.img': data }))[0].written, data);
  disks.close();
});
