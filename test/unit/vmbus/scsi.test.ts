import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { viewOf } from '../../../emulator/base/struct.ts';
import { ConfigError, type Disk, type DiskConfig } from '../../../emulator/config.ts';
import { assign, capture } from '../../../emulator/snapshot.ts';
import { FakeDriver, type OpenedChannel } from './fake-driver.ts';

const MS = 1_000_000;
const PAGE = 4096;
const SECTOR = 512;
const SCSI = 'ba6163d9-04a1-4d29-b605-72e2ffb1dc7f';

const hex = (b: Uint8Array): string => Buffer.from(b).toString('hex');
const cdb = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'));

/** Bytes as a disk; `bad` cannot be read. */
function memory(bytes: Uint8Array, bad: { from: number; to: number } = { from: -1, to: -1 }): Disk {
  return {
    format: 'memory',
    size: bytes.length,
    sectorSize: SECTOR,
    physicalSectorSize: PAGE,
    id: Uint8Array.from({ length: 16 }, (_, i) => 0x10 + i),
    read(offset, length) {
      assert.ok(offset >= 0 && offset + length <= bytes.length, `${length} bytes at ${offset}`);
      return offset < bad.to && offset + length > bad.from ? undefined : bytes.slice(offset, offset + length);
    },
  };
}
const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i >> 9) * 3 + i);

interface Answer {
  status: number;
  srb: number;
  scsi: number;
  length: number;
  /** key, asc, ascq; and the information field when valid. */
  sense?: number[];
  data: Uint8Array;
}

/** storvsc in small: written from the offsets of the reference, not from our layouts. */
class Storvsc {
  readonly d: FakeDriver;
  readonly channel: OpenedChannel;
  /** Where data goes: pages, deliberately not contiguous, and an offset into the first. */
  readonly pages: number[];
  offset = 0x230;
  #transaction = 1n;

  constructor(disks: DiskConfig[], options: { vps?: number; pages?: number } = {}) {
    this.d = new FakeDriver({ ...options, disks });
    this.d.connect();
    this.channel = this.d.open(this.d.relidOf('scsi'), options.pages ?? 8);
    this.pages = this.d.pages(80);
  }

  /** A packet of 64 bytes. */
  static packet(operation: number, body: Uint8Array = new Uint8Array(0)): Uint8Array {
    const out = new Uint8Array(64);
    viewOf(out).setUint32(0, operation, true);
    viewOf(out).setUint32(4, 1, true);
    out.set(body, 12);
    return out;
  }

  /** A control request; status and body of the answer. */
  control(operation: number, body?: Uint8Array, channel = this.channel): { status: number; body: DataView } {
    const id = this.#transaction++;
    this.d.send(channel, Storvsc.packet(operation, body), id, 1);
    const p = channel.in.take();
    assert.ok(p, `operation ${operation} is not answered`);
    const view = viewOf(p.payload);
    assert.deepEqual([p.type, p.transactionId, p.payload.length, view.getUint32(0, true)], [11, id, 64, 1]);
    return { status: view.getUint32(8, true), body: new DataView(p.payload.buffer, p.payload.byteOffset + 12, 52) };
  }

  static word(value: number): Uint8Array {
    return Uint8Array.of(value & 0xff, value >> 8);
  }

  /** The sequence of every driver. */
  ready(version = 0x0602): this {
    assert.equal(this.control(7).status, 0);
    assert.equal(this.control(9, Storvsc.word(version)).status, 0);
    assert.equal(this.control(10).status, 0);
    assert.equal(this.control(8).status, 0);
    return this;
  }

  /** One range of `length` bytes. */
  ranges(length: number, offset = this.offset, pages: (number | bigint)[] = this.pages): Uint8Array {
    const count = Math.ceil((offset + length) / PAGE);
    const out = new Uint8Array(16 + 8 * count);
    const view = viewOf(out);
    view.setUint32(4, 1, true);
    view.setUint32(8, length, true);
    view.setUint32(12, offset, true);
    for (let n = 0; n < count; n++) view.setBigUint64(16 + 8 * n, BigInt(pages[n]), true);
    return out;
  }

  at(i: number): number {
    return this.pages[Math.floor((this.offset + i) / PAGE)] * PAGE + ((this.offset + i) % PAGE);
  }
  fill(data: Uint8Array): void {
    data.forEach((b, i) => {
      this.d.ram.bytes[this.at(i)] = b;
    });
  }
  buffer(length: number): Uint8Array {
    return Uint8Array.from({ length }, (_, i) => this.d.ram.bytes[this.at(i)]);
  }

  /** Puts a request into the ring. `room`: bytes of the buffer, which is written from when `out`. */
  submit(
    command: Uint8Array,
    room: number,
    out: boolean,
    where: { lun?: number; target?: number; path?: number; channel?: OpenedChannel } = {},
  ): bigint {
    const body = new Uint8Array(52);
    const view = viewOf(body);
    view.setUint16(0, 52, true);
    body[5] = where.path ?? 0;
    body[6] = where.target ?? 0;
    body[7] = where.lun ?? 0;
    body[8] = command.length;
    body[9] = 20;
    body[10] = room === 0 ? 2 : out ? 0 : 1;
    view.setUint32(12, room, true);
    body.set(command, 16);
    const id = this.#transaction++;
    const { channel = this.channel } = where;
    const signal = channel.out.put(
      room === 0 ? 6 : 9,
      id,
      Storvsc.packet(3, body),
      1,
      room === 0 ? undefined : this.ranges(room),
    );
    if (signal) this.d.signal(channel);
    return id;
  }

  /** The next completion in the ring. */
  completion(room = 0, channel = this.channel): (Answer & { id: bigint }) | undefined {
    const p = channel.in.take();
    if (!p) return undefined;
    const v = viewOf(p.payload);
    assert.deepEqual([p.type, p.payload.length, v.getUint32(0, true)], [11, 64, 1]);
    const srb = v.getUint8(14);
    const sense = p.payload.subarray(28, 48);
    return {
      id: p.transactionId,
      status: v.getUint32(8, true),
      srb,
      scsi: v.getUint8(15),
      length: v.getUint32(24, true),
      ...(srb & 0x80
        ? { sense: [sense[2], sense[12], sense[13], ...(sense[0] & 0x80 ? [viewOf(sense).getUint32(3)] : [])] }
        : {}),
      data: this.buffer(Math.min(room, v.getUint32(24, true))),
    };
  }

  /** A request and what became of it. */
  run(
    command: Uint8Array | string,
    room = 0,
    out?: Uint8Array,
    where: { lun?: number; target?: number; path?: number } = {},
  ): Answer {
    if (out) this.fill(out);
    const id = this.submit(
      typeof command === 'string' ? cdb(command) : command,
      out ? out.length : room,
      out !== undefined,
      where,
    );
    this.d.advance(MS);
    const answer = this.completion(out ? 0 : room);
    assert.ok(answer, 'no completion');
    assert.equal(answer.id, id);
    return answer;
  }

  /** What a command that should work gives. */
  good(command: string, room = 0, out?: Uint8Array): Uint8Array {
    const answer = this.run(command, room, out);
    assert.deepEqual([answer.status, answer.srb, answer.scsi], [0, 1, 0], command);
    return answer.data;
  }

  /** Sense of a command that should not. */
  bad(command: string, room = 0, out?: Uint8Array): number[] | undefined {
    const { srb, scsi, sense, length } = this.run(command, room, out);
    assert.deepEqual([srb, scsi, length], [0x84, 2, 0], command);
    return sense;
  }
}

const one = (bytes = pattern(1 << 20), config: Partial<DiskConfig> = {}): Storvsc =>
  new Storvsc([{ name: 'disk', disk: memory(bytes), ...config }]).ready();

test('the sequence of storvsc: versions, properties, and nothing before it is complete', () => {
  const s = new Storvsc([{ name: 'disk', disk: memory(pattern(1 << 20)) }]);
  assert.deepEqual([s.run('00 00 00 00 00 00').srb, s.control(8).status], [6, 0xc000_0184]);
  assert.equal(s.control(7).status, 0);
  assert.deepEqual(
    [0x0603, 0x0402, 0x0200, 0x0602, 0x0600, 0x0501].map((v) => s.control(9, Storvsc.word(v)).status),
    [0xc000_0059, 0xc000_0059, 0xc000_0059, 0, 0, 0],
  );
  const { body } = s.control(10);
  // Two VPs: one sub-channel. 256 KiB a transfer.
  assert.deepEqual([body.getUint16(4, true), body.getUint32(8, true), body.getUint32(12, true)], [1, 1, 0x40000]);
  assert.deepEqual([s.control(8).status, s.control(12).status, s.control(99).status], [0, 0xc000_0010, 0xc000_0010]);
  assert.equal(s.run('00 00 00 00 00 00').srb, 1);
});

test('with one VP there are no sub-channels; without disks no controller, until the first comes', () => {
  const single = new Storvsc([{ name: 'disk', disk: memory(pattern(SECTOR)) }], { vps: 1 });
  const { body } = single.control(10);
  assert.deepEqual([body.getUint16(4, true), body.getUint32(8, true)], [0, 0]);
  const d = new FakeDriver();
  d.connect();
  assert.ok(!d.offers.has(SCSI));
  assert.equal(d.vmbus.scsi.attach({ name: 'disk', disk: memory(pattern(SECTOR)) }), 0);
  d.pump();
  assert.deepEqual([d.next(1).getUint32(184, true), d.relidOf('scsi')], [d.relidOf('scsi'), d.relidOf('scsi')]);
  // One who has not asked for offers yet hears of it when he asks.
  const early = new FakeDriver();
  early.vmbus.scsi.attach({ name: 'disk', disk: memory(pattern(SECTOR)) });
  early.connect();
  assert.ok(early.offers.has(SCSI));
});

test('INQUIRY: a disk of Msft, its vital product data, and a unit that is not there', () => {
  const s = one();
  assert.equal(
    hex(s.good('12 00 00 00 ff 00', 255)),
    `000005025b0000024d736674202020205669727475616c204469736b20202020312e3020${'00'.repeat(22)}006003000320${'00'.repeat(32)}`,
  );
  assert.equal(s.good('12 00 00 00 24 00', 36).length, 36);
  const vpd = (page: string): string => hex(s.good(`12 01 ${page} 00 ff 00`, 255));
  assert.equal(vpd('00'), '00000006008083b0b1b2');
  assert.equal(vpd('80'), `00800020${hex(Uint8Array.from('101112131415161718191a1b1c1d1e1f', (c) => c.charCodeAt(0)))}`);
  assert.equal(
    vpd('83'),
    '008300300101001' + '84d73667420202020101112131415161718191a1b1c1d1e1f' + '0103001060022480101112131415161718191a1b',
  );
  // Optimal granularity 8 blocks, at most 512; UNMAP of 0x40000 blocks in 256 descriptors, by 32; WRITE SAME of as many.
  assert.equal(
    vpd('b0').slice(0, 88),
    '00b0003c0100000800000200000000000000000000040000000001000000002000000000000000000004' + '0000',
  );
  assert.equal(vpd('b1').slice(0, 12), '00b1003c0001');
  assert.equal(vpd('b2'), '00b2000400e40200');
  // Linux takes INQUIRY for good whatever happens: nothing stale may be in its buffer.
  s.fill(new Uint8Array(64).fill(0xaa));
  assert.deepEqual([s.run('12 01 89 00 40 00', 64).sense, hex(s.buffer(64))], [[5, 0x24, 0], '00'.repeat(64)]);
  const absent = s.run('12 00 00 00 24 00', 36, undefined, { lun: 9 });
  assert.deepEqual([absent.srb, absent.length, absent.data[0], absent.data[2]], [1, 36, 0x7f, 5]);
});

test('REPORT LUNS: what is there, on the one target there is; other commands say what is not', () => {
  const disk = memory(pattern(SECTOR));
  const s = new Storvsc(Array.from({ length: 64 }, (_, n) => ({ name: `d${n}`, disk }))).ready();
  s.d.vmbus.scsi.detach('d0');
  s.d.vmbus.scsi.detach('d7');
  while (s.channel.in.take());
  const luns = s.run('a0 00 00 00 00 00 00 00 10 00 00 00', 4096).data;
  const want = Array.from({ length: 64 }, (_, n) => n).filter((n) => n !== 0 && n !== 7);
  assert.deepEqual([viewOf(luns).getUint32(0), want.map((_, i) => luns[8 + 8 * i + 1]), luns.length], [62 * 8, want, 8 + 62 * 8]);
  assert.equal(viewOf(s.run('a0 00 00 00 00 00 00 00 10 00 00 00', 4096, undefined, { target: 1 }).data).getUint32(0), 0);
  const ready = '00 00 00 00 00 00';
  assert.deepEqual(
    [{ lun: 7 }, { lun: 200 }, { target: 1 }, { path: 3 }].map((w) => s.run(ready, 0, undefined, w).srb),
    [0x20, 0x20, 0x21, 0x21],
  );
  assert.throws(() => s.d.vmbus.scsi.attach({ name: 'd1', disk }), ConfigError);
  assert.deepEqual([s.d.vmbus.scsi.attach({ name: 'd7', disk }), s.d.vmbus.scsi.attach({ name: 'new', disk })], [0, 7]);
  assert.throws(() => s.d.vmbus.scsi.attach({ name: 'more', disk }), /64 disks already/);
});

test('capacity and mode pages', () => {
  const s = one();
  assert.equal(hex(s.good('25 00 00 00 00 00 00 00 00 00', 8)), '000007ff00000200');
  assert.equal(
    hex(s.good('9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00', 32)),
    `00000000000007ff000002000003c0${'00'.repeat(17)}`,
  );
  assert.deepEqual(s.bad('9e 11 00 00 00 00 00 00 00 00 00 00 00 20 00 00', 32), [5, 0x20, 0]);
  assert.equal(hex(s.good('1a 00 08 00 ff 00', 255)), `1f00100800000800000002000812040000000000${'00'.repeat(12)}`);
  assert.equal(hex(s.good('1a 08 08 00 04 00', 4)), '17001000');
  assert.equal(hex(s.good('5a 08 3f 00 00 00 00 00 ff 00', 255)).slice(0, 32), '0032001000000000010a000000000000');
  // Nothing can be changed, nothing is saved.
  assert.equal(hex(s.good('1a 08 48 00 ff 00', 255)), `170010000812${'00'.repeat(18)}`);
  assert.deepEqual(
    [s.bad('1a 00 c8 00 ff 00', 255), s.bad('1a 00 1c 00 ff 00', 255)],
    [
      [5, 0x39, 0],
      [5, 0x24, 0],
    ],
  );
  const locked = one(pattern(1 << 20), { readOnly: true });
  assert.equal(hex(locked.good('1a 08 08 00 06 00', 6)), '170090000812');
  assert.equal(hex(locked.good('9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00', 32)).slice(24, 32), '00030000');
});

const big = (n: number, bytes: number): string =>
  BigInt(n)
    .toString(16)
    .padStart(bytes * 2, '0');
/** READ and WRITE in all sizes: opcode, then address and count where they belong. */
const SIZES: Record<number, (op: 'read' | 'write', lba: number, count: number) => string> = {
  6: (op, lba, count) => `${op === 'read' ? '08' : '0a'}${big(lba, 3)}${big(count & 0xff, 1)}00`,
  10: (op, lba, count) => `${op === 'read' ? '28' : '2a'}00${big(lba, 4)}00${big(count, 2)}00`,
  12: (op, lba, count) => `${op === 'read' ? 'a8' : 'aa'}00${big(lba, 4)}${big(count, 4)}0000`,
  16: (op, lba, count) => `${op === 'read' ? '88' : '8a'}00${big(lba, 8)}${big(count, 4)}0000`,
};

test('reads and writes of every size, UNMAP and WRITE SAME: the disk holds what a plain array holds', () => {
  const BLOCKS = 600;
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          what: fc.constantFrom('read', 'write', 'unmap', 'same', 'zero'),
          size: fc.constantFrom(6, 10, 12, 16),
          lba: fc.nat(BLOCKS - 1),
          count: fc.integer({ min: 1, max: 120 }),
          fill: fc.nat(255),
          offset: fc.nat(PAGE - 1),
        }),
        { minLength: 1, maxLength: 12 },
      ),
      (steps) => {
        const bytes = pattern(BLOCKS * SECTOR);
        const before = bytes.slice();
        const model = bytes.slice();
        const s = one(bytes);
        for (const { what, size, lba, fill, offset, ...rest } of steps) {
          const count = Math.min(rest.count, BLOCKS - lba);
          const part = model.subarray(lba * SECTOR, (lba + count) * SECTOR);
          s.offset = offset;
          if (what === 'read') assert.ok(Buffer.compare(s.good(SIZES[size]('read', lba, count), count * SECTOR), part) === 0);
          else if (what === 'write') {
            const data = Uint8Array.from({ length: count * SECTOR }, (_, i) => i + fill);
            part.set(data);
            s.good(SIZES[size]('write', lba, count), 0, data);
          } else if (what === 'unmap') {
            part.fill(0);
            s.good('42 00 00 00 00 00 00 00 18 00', 0, cdb(`0016 0010 00000000 ${big(lba, 8)} ${big(count, 4)} 00000000`));
          } else {
            const block = what === 'zero' ? new Uint8Array(SECTOR) : Uint8Array.from({ length: SECTOR }, (_, i) => i * fill);
            for (let n = 0; n < count; n++) part.set(block, n * SECTOR);
            if (size === 16 && what === 'zero') s.good(`93 01 ${big(lba, 8)} ${big(count, 4)} 00 00`);
            else
              s.good(
                size === 10 ? `41 00 ${big(lba, 4)} 00 ${big(count, 2)} 00` : `93 00 ${big(lba, 8)} ${big(count, 4)} 00 00`,
                0,
                block,
              );
          }
        }
        for (let lba = 0; lba < BLOCKS; lba += 100)
          assert.ok(
            Buffer.compare(
              s.good(SIZES[10]('read', lba, 100), 100 * SECTOR),
              model.subarray(lba * SECTOR, (lba + 100) * SECTOR),
            ) === 0,
          );
        assert.ok(Buffer.compare(bytes, before) === 0, 'the image was written');
        const made = before.slice();
        for (const [at, data] of s.d.vmbus.scsi.written('disk')) made.set(data, at);
        assert.ok(Buffer.compare(made, model) === 0);
      },
    ),
    { numRuns: 40, seed: 21 },
  );
});

test('what a disk refuses, in sense data', () => {
  const s = one(pattern(64 * SECTOR));
  const locked = one(pattern(64 * SECTOR), { readOnly: true });
  const block = new Uint8Array(SECTOR);
  assert.deepEqual(
    [
      s.bad('28 00 00 00 00 3f 00 00 02 00', 1024),
      s.bad('88 00 ff ff ff ff ff ff ff ff 00 00 00 01 00 00', 512),
      s.bad('2a 00 00 00 00 40 00 00 01 00', 0, block),
      s.bad('2a 00 00 00 00 00 00 00 02 00', 0, block),
      s.bad('93 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00', 0, block),
      s.bad('42 00 00 00 00 00 00 00 18 00', 0, cdb('0016 0010 00000000 0000000000000030 00000011 00000000')),
      s.bad('42 00 00 00 00 00 00 00 04 00', 0, cdb('00000000')),
      s.bad('2f 02 00 00 00 00 00 00 01 00', 0, block),
      s.bad('04 00 00 00 00 00'),
      s.bad('a3 0c 00 00 00 00 00 00 10 00 00 00', 4096),
      s.bad('85 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00', 512),
      s.bad('28 00 00 00 00', 512),
      s.bad('12 00 80 00 ff 00', 255),
      ...[
        locked.bad('2a 00 00 00 00 00 00 00 01 00', 0, block),
        locked.bad('93 01 00 00 00 00 00 00 00 00 00 00 00 01 00 00'),
        locked.bad('42 00 00 00 00 00 00 00 18 00', 0, cdb('0016 0010 00000000 0000000000000000 00000001 00000000')),
      ],
    ],
    [
      [5, 0x21, 0, 0x3f],
      [5, 0x21, 0],
      [5, 0x21, 0, 0x40],
      [5, 0x24, 0],
      [5, 0x24, 0],
      [5, 0x21, 0, 0x30],
      [5, 0x1a, 0],
      [0xe, 0x1d, 0],
      [5, 0x20, 0],
      [5, 0x20, 0],
      [5, 0x20, 0],
      [5, 0x24, 0],
      [5, 0x24, 0],
      [7, 0x27, 0],
      [7, 0x27, 0],
      [7, 0x27, 0],
    ],
  );
  // What needs no answer but good.
  for (const c of [
    '35 00 00 00 00 00 00 00 00 00',
    '91 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00',
    '1d 04 00 00 00 00',
    '2f 00 00 00 00 00 00 00 40 00',
    '1e 00 00 00 01 00',
  ])
    s.good(c);
  s.good('2f 02 00 00 00 03 00 00 01 00', 0, pattern(64 * SECTOR).subarray(3 * SECTOR, 4 * SECTOR));
});

test('a stopped disk is not ready until it is started', () => {
  const s = one();
  s.good('1b 00 00 00 00 00');
  assert.deepEqual(
    [s.bad('00 00 00 00 00 00'), s.bad('28 00 00 00 00 00 00 00 01 00', 512)],
    [
      [2, 4, 2],
      [2, 4, 2],
    ],
  );
  assert.deepEqual([...s.good('03 00 00 00 12 00', 18)].slice(0, 3), [0x70, 0, 2]);
  s.good('1b 00 00 00 01 00');
  s.good('28 00 00 00 00 00 00 00 01 00', 512);
});

test('errors as told: on their blocks, as often as said, with the first bad block; and an image that cannot be read', () => {
  const s = new Storvsc([
    { name: 'a', disk: memory(pattern(64 * SECTOR)) },
    { name: 'b', disk: memory(pattern(64 * SECTOR), { from: 40 * SECTOR, to: 41 * SECTOR }) },
  ]).ready();
  const { scsi } = s.d.vmbus;
  const read = (lba: number, count: number, lun = 0): number[] | undefined =>
    s.run(SIZES[10]('read', lba, count), count * SECTOR, undefined, { lun }).sense;
  assert.ok(scsi.inject('a', 'read-error', { first: 20, last: 22, count: 2 }));
  assert.deepEqual(
    [read(0, 20), read(8, 16), s.run(SIZES[10]('write', 20, 1), 0, new Uint8Array(SECTOR)).sense, read(21, 1), read(21, 1)],
    [undefined, [3, 0x11, 0, 20], undefined, [3, 0x11, 0, 21], undefined],
  );
  for (const [name, sense] of [
    ['hardware-error', [4, 0x44, 0]],
    ['not-ready', [2, 4, 1]],
    ['no-medium', [2, 0x3a, 0]],
    ['reset', [6, 0x29, 0]],
  ] as const) {
    scsi.inject('a', name);
    assert.deepEqual([s.run('00 00 00 00 00 00').sense, read(0, 1)], [sense, undefined]);
  }
  scsi.inject('a', 'write-error');
  assert.deepEqual([read(5, 1), s.run(SIZES[6]('write', 5, 1), 0, new Uint8Array(SECTOR)).sense], [undefined, [3, 0x0c, 0, 5]]);
  assert.equal(scsi.inject('nobody', 'reset'), false);
  assert.deepEqual([read(38, 2, 1), read(39, 2, 1), read(41, 23, 1)], [undefined, [3, 0x11, 0, 39], undefined]);
});

test('buffers: less room than data is an overrun, more is an underrun, none of ours is written elsewhere', () => {
  const bytes = pattern(1 << 20);
  const s = one(bytes);
  s.fill(new Uint8Array(2048).fill(0xaa));
  const over = s.run(SIZES[10]('read', 0, 2), 512);
  assert.deepEqual([over.srb, over.length, hex(s.buffer(1024))], [0x12, 512, hex(bytes.subarray(0, 512)) + 'aa'.repeat(512)]);
  const under = s.run('25 00 00 00 00 00 00 00 00 00', 255);
  assert.deepEqual([under.srb, under.length], [1, 8]);
  // Ranges that make no sense: outside RAM, too short for the transfer, an offset beyond a page, none at all.
  const bad = (ranges: Uint8Array, length: number): number => {
    const body = new Uint8Array(52);
    body.set([52, 0, 0, 0, 0, 0, 0, 0, 10, 20, 1], 0);
    viewOf(body).setUint32(12, length, true);
    body.set(cdb(SIZES[10]('read', 0, 8)), 16);
    if (s.channel.out.put(9, 77n, Storvsc.packet(3, body), 1, ranges)) s.d.signal(s.channel);
    s.d.advance(MS);
    return s.completion()?.srb ?? -1;
  };
  assert.deepEqual(
    [
      bad(s.ranges(4096, 0, [0x4000_0000n]), 4096),
      bad(s.ranges(512, 0), 4096),
      bad(s.ranges(512, 5000, [1, 2, 3]), 512),
      bad(new Uint8Array(8), 512),
      bad(new Uint8Array(0), 512),
      bad(s.ranges(4096, 0), 4096),
    ],
    [6, 6, 6, 6, 6, 1],
  );
});

test('requests name more memory than they move: what waits is bounded, and what is too much is refused', () => {
  const s = one(pattern(1 << 20), { latency: 900_000 });
  const body = new Uint8Array(52);
  const view = viewOf(body);
  view.setUint16(0, 52, true);
  body.set([6, 20, 1], 8);
  view.setUint32(12, 36, true);
  body.set(cdb('12 00 00 00 24 00'), 16);
  // 200 pages where 36 bytes are moved; and 400 ranges of a byte each.
  const wide = new Uint8Array(8 + 8 * 201);
  viewOf(wide).setUint32(4, 1, true);
  viewOf(wide).setUint32(8, 200 * PAGE, true);
  for (let n = 0; n < 200; n++) viewOf(wide).setBigUint64(16 + 8 * n, BigInt(s.pages[0]), true);
  const narrow = new Uint8Array(8 + 16 * 400);
  viewOf(narrow).setUint32(4, 400, true);
  for (let n = 0; n < 400; n++) {
    viewOf(narrow).setUint32(8 + 16 * n, 1, true);
    viewOf(narrow).setBigUint64(16 + 16 * n, BigInt(s.pages[0]), true);
  }
  const waiting = (): { ranges: { pfns: number[] }[] }[] => {
    const { devices } = s.d.vmbus.state as unknown as { devices: { requests?: { ranges: { pfns: number[] }[] }[] }[] };
    return devices.find((device) => device.requests !== undefined && 'units' in device)?.requests ?? [];
  };
  for (const ranges of [wide, narrow]) {
    s.channel.out.put(9, 1n, Storvsc.packet(3, body), 1, ranges);
    s.d.signal(s.channel);
  }
  assert.deepEqual(
    waiting().map((r) => [r.ranges.length, r.ranges.reduce((n, x) => n + x.pfns.length, 0)]),
    [
      [1, 1],
      [36, 36],
    ],
  );
  s.d.advance(MS);
  assert.deepEqual([s.completion()?.srb, s.completion()?.srb, waiting().length], [1, 1, 0]);
});

test('requests end after their time, in order of due time, and those under way survive a snapshot', () => {
  const disk = memory(pattern(64 * SECTOR));
  const s = new Storvsc([
    { name: 'slow', disk, latency: 900_000 },
    { name: 'fast', disk, latency: 200_000 },
  ]).ready();
  const start = s.d.clock.now;
  const [a, b] = [0, 1].map((lun) => s.submit(cdb(SIZES[10]('read', lun, 1)), 512, false, { lun }));
  const snapshot = capture({ vmbus: s.d.vmbus.state, clock: s.d.clock.state }) as Record<string, unknown>;
  const ends: [bigint, number][] = [];
  const collect = (): void => {
    for (let c = s.completion(); c; c = s.completion()) ends.push([c.id, s.d.clock.now - start]);
  };
  s.d.advance(MS, collect);
  assert.deepEqual(ends, [
    [b, 200_000],
    [a, 900_000],
  ]);
  assign({ vmbus: s.d.vmbus.state, clock: s.d.clock.state }, snapshot);
  ends.length = 0;
  s.d.advance(MS, collect);
  assert.deepEqual(ends, [
    [b, 200_000],
    [a, 900_000],
  ]);
});

test('a bus reset ends what is under way, and every unit tells of it once', () => {
  const s = one();
  const id = s.submit(cdb(SIZES[10]('read', 0, 1)), 512, false);
  s.d.send(s.channel, Storvsc.packet(6), 99n, 1);
  const dropped = s.completion();
  assert.deepEqual([dropped?.id, dropped?.srb, dropped?.length], [id, 0x0e, 0]);
  assert.deepEqual([s.channel.in.take()?.transactionId, s.d.advance(MS), s.channel.in.used], [99n, undefined, 0]);
  // INQUIRY and REPORT LUNS leave it; the next other command gets it.
  s.good('12 00 00 00 24 00', 36);
  assert.deepEqual(s.bad('00 00 00 00 00 00'), [6, 0x29, 0]);
  s.good('00 00 00 00 00 00');
});

test('a disk that goes takes its requests with it and the guest is told to look; one that comes back has what was written', () => {
  const bytes = pattern(64 * SECTOR);
  const s = one(bytes);
  s.good(SIZES[10]('write', 3, 1), 0, new Uint8Array(SECTOR).fill(7));
  s.submit(cdb(SIZES[10]('read', 0, 1)), 512, false);
  assert.ok(s.d.vmbus.scsi.detach('disk'));
  const told = s.channel.in.take();
  assert.deepEqual(
    [told?.type, told?.transactionId, told?.payload.length, told && viewOf(told.payload).getUint32(0, true)],
    [6, 0n, 64, 11],
  );
  s.d.advance(MS);
  assert.equal(s.completion()?.srb, 0x20);
  assert.equal(s.d.vmbus.scsi.attach({ name: 'disk', disk: memory(bytes) }), 0);
  assert.equal(s.channel.in.take()?.type, 6);
  assert.deepEqual(s.good(SIZES[10]('read', 3, 1), 512), new Uint8Array(SECTOR).fill(7));
});

test('sub-channels: offered when asked for, answered where asked, gone with the primary channel', () => {
  const s = new Storvsc([{ name: 'disk', disk: memory(pattern(64 * SECTOR)) }], { vps: 4 }).ready();
  assert.equal(s.control(13, Storvsc.word(4)).status, 0xc000_000d);
  assert.equal(s.control(13, Storvsc.word(2)).status, 0);
  s.d.pump();
  const offers = [s.d.next(1), s.d.next(1)];
  assert.deepEqual(
    offers.map((o) => [
      o.getUint16(180, true),
      s.d.offers
        .get(SCSI)
        ?.payload.slice(8, 40)
        .every((b, i) => b === o.getUint8(8 + i)),
    ]),
    [
      [1, true],
      [2, true],
    ],
  );
  assert.equal(s.d.inbox.length, 0);
  const subs = offers.map((o, n) => s.d.open(o.getUint32(184, true), 4, n + 1));
  // The same units behind each; a control request belongs on the primary channel.
  subs.forEach((channel, n) => {
    const id = s.submit(cdb(SIZES[10]('read', n, 1)), 512, false, { channel });
    s.d.advance(MS);
    const answer = s.completion(512, channel);
    assert.deepEqual([answer?.id, answer?.srb, s.channel.in.used], [id, 1, 0]);
    assert.equal(s.control(7, undefined, channel).status, 0xc000_0010);
  });
  // A request under way on a sub-channel that closes is nobody's any more.
  s.submit(cdb(SIZES[10]('read', 0, 1)), 512, false, { channel: subs[1] });
  s.d.post(FakeDriver.message(7, subs[1].relid));
  s.d.advance(MS);
  assert.equal(subs[1].in.used, 0);
  s.d.post(FakeDriver.message(7, s.channel.relid));
  assert.deepEqual(
    [s.d.next(2).getUint32(8, true), s.d.next(2).getUint32(8, true)],
    subs.map((c) => c.relid),
  );
  for (const c of subs) s.d.post(FakeDriver.message(13, c.relid));
  assert.deepEqual(
    s.d.vmbus
      .info()
      .channels.filter((c) => c.device === 'scsi')
      .map((c) => c.state),
    ['closed'],
  );
  // And again from the start.
  const again = s.d.open(s.channel.relid, 8);
  Object.assign(s, { channel: again });
  s.ready();
  assert.equal(s.control(13, Storvsc.word(1)).status, 0);
  s.d.pump();
  assert.equal(s.d.next(1).getUint16(180, true), 1);
});

test('a DVD drive: 2048-byte blocks, a disc that can be locked, ejected and put back', () => {
  const bytes = pattern(100 * 2048);
  const s = one(bytes, { dvd: true });
  assert.equal(hex(s.good('12 00 00 00 24 00', 36)), '058005025b0000024d736674202020205669727475616c204456442d524f4d20312e3020');
  assert.equal(hex(s.good('25 00 00 00 00 00 00 00 00 00', 8)), '0000006300000800');
  assert.deepEqual(s.good('28 00 00 00 00 05 00 00 02 00', 4096), bytes.subarray(5 * 2048, 7 * 2048));
  assert.equal(hex(s.good('43 00 00 00 00 00 00 00 ff 00', 255)), '001201010014010000000000' + '0014aa0000000064');
  assert.equal(hex(s.good('43 02 00 00 00 00 aa 00 ff 00', 255)), '000a01010014aa00' + '00000319');
  assert.equal(
    hex(s.good('52 01 00 00 00 01 00 00 ff 00', 255)),
    `00220101000401020000${'00'.repeat(14)}000000640000006300000000`,
  );
  assert.equal(hex(s.good('46 02 00 03 00 00 00 00 ff 00', 255)), '0000000c00000010' + '00030b0429000000');
  assert.equal(hex(s.good('4a 01 00 00 10 00 00 00 08 00', 8)), '0006041000020000');
  assert.equal(hex(s.good('5a 00 2a 00 00 00 00 00 ff 00', 255)).slice(0, 36), '001a000000000000' + '2a120b00000029000000');
  assert.deepEqual(
    [s.bad('2a 00 00 00 00 00 00 00 01 00', 0, new Uint8Array(2048)), s.bad('12 01 b0 00 ff 00', 255)],
    [
      [5, 0x20, 0],
      [5, 0x24, 0],
    ],
  );
  s.good('1e 00 00 00 01 00');
  assert.deepEqual(s.bad('1b 00 00 00 02 00'), [5, 0x53, 2]);
  s.good('1e 00 00 00 00 00');
  s.good('1b 00 00 00 02 00');
  assert.deepEqual(
    [s.bad('00 00 00 00 00 00'), hex(s.good('4a 01 00 00 10 00 00 00 08 00', 8))],
    [[2, 0x3a, 0], '0006041003010000'],
  );
  s.good('1b 00 00 00 03 00');
  assert.deepEqual(
    [s.bad('00 00 00 00 00 00'), hex(s.good('4a 01 00 00 10 00 00 00 08 00', 8))],
    [[6, 0x28, 0], '0006041002020000'],
  );
  s.good('00 00 00 00 00 00');
});

test('disks that cannot be disks are refused in one line', () => {
  const make = (config: Partial<DiskConfig> & { disk: Disk }) => () => new FakeDriver({ disks: [{ name: 'x', ...config }] });
  const disk = memory(pattern(SECTOR * 5));
  assert.throws(make({ disk, dvd: true }), /disk "x": 2560 bytes are not whole sectors of 2048/);
  assert.throws(make({ disk: { ...disk, size: 0 } }), /disk "x": 0 bytes/);
  assert.throws(make({ disk: { ...disk, sectorSize: 4096, size: 8192 }, dvd: true }), /do not go together/);
  assert.throws(make({ disk, latency: -1 }), /latency/);
});

test('any packet on any channel: always a completion or a trace line, never an exception, and the image stays as it is', () => {
  const bytes = pattern(128 * SECTOR);
  const before = bytes.slice();
  const opcodes = [
    0, 3, 8, 0x0a, 0x12, 0x1a, 0x1b, 0x25, 0x28, 0x2a, 0x2f, 0x41, 0x42, 0x43, 0x46, 0x4a, 0x51, 0x5a, 0x88, 0x8a, 0x8f, 0x93,
    0x9e, 0xa0, 0xbd,
  ];
  const statuses = new Set<number>();
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.array(
        fc.record({
          operation: fc.oneof({ weight: 6, arbitrary: fc.constant(3) }, fc.integer({ min: 0, max: 14 })),
          size: fc.oneof({ weight: 8, arbitrary: fc.constant(64) }, fc.nat(80)),
          type: fc.constantFrom(6, 9, 9, 9, 11, 7),
          flags: fc.constantFrom(1, 1, 1, 0),
          opcode: fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...opcodes) }, fc.nat(255)),
          body: fc.uint8Array({ minLength: 52, maxLength: 52 }),
          tame: fc.boolean(),
          ranges: fc.uint8Array({ maxLength: 64 }),
          length: fc.nat(8192),
        }),
        { minLength: 1, maxLength: 12 },
      ),
      (dvd, packets) => {
        const s = new Storvsc([{ name: 'disk', disk: memory(bytes), dvd }], { pages: 16 }).ready();
        let wanted = 0;
        for (const { operation, size, type, flags, opcode, body, tame, ranges, length } of packets) {
          body[16] = opcode;
          if (tame) {
            body.set([0, 0, 0, 16, 20, opcode % 3], 5);
            viewOf(body).setUint32(12, length, true);
            // Small addresses and counts, wherever the command has them.
            for (const at of [17, 18, 19, 20, 22, 23, 24, 26, 27, 28]) body[at] = 0;
          }
          const payload = Storvsc.packet(operation, body).slice(0, size);
          const good = tame && length > 0 ? s.ranges(length) : ranges.slice(0, ranges.length & ~7);
          s.channel.out.put(type, 5n, payload, flags, type === 9 ? good : new Uint8Array(0));
          s.d.signal(s.channel);
          if (flags === 1 && type !== 11) wanted++;
        }
        s.d.advance(20 * MS);
        let completions = 0;
        for (let p = s.channel.in.take(); p; p = s.channel.in.take()) {
          assert.deepEqual([p.type, p.payload.length], [11, 64]);
          statuses.add(p.payload[14]);
          completions++;
        }
        assert.equal(completions, wanted);
        assert.equal(s.channel.out.used, 0);
      },
    ),
    { numRuns: 150, seed: 31 },
  );
  assert.ok(Buffer.compare(bytes, before) === 0);
  assert.ok(
    [1, 6, 0x84].every((status) => statuses.has(status)),
    [...statuses].join(' '),
  );
});
