import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { viewOf } from '../../../emulator/base/struct.ts';
import { Bus } from '../../../emulator/memory/bus.ts';
import { assign, capture } from '../../../emulator/snapshot.ts';
import { emptyDisk } from './fake-disk.ts';
import { FakeDriver, type GuestPacket, type OpenedChannel } from './fake-driver.ts';

const PCI = '44c4f61d-4444-4400-9d52-802e27ede19f';
const WINDOW = 0xe010_0000;
const BAR = 0x10_0000_0000;
const PAGE = 4096;
/** Where the guest has its queues, and a table of pages for transfers. */
const ASQ = 0x30_0000;
const ACQ = 0x30_1000;
const SQ = 0x30_2000;
const CQ = 0x30_3000;
const LIST = 0x30_4000;
const DATA = 0x31_0000;
const MESSAGE = {
  relations: 0x4249_0001,
  requirements: 0x4249_0005,
  d0: 0x4249_0007,
  exit: 0x4249_0008,
  eject: 0x4249_000b,
} as const;

const le32 = (...values: number[]): Uint8Array => {
  const out = new Uint8Array(4 * values.length);
  values.forEach((v, n) => {
    viewOf(out).setUint32(4 * n, v >>> 0, true);
  });
  return out;
};

interface Done {
  /** Do Not Retry is not set. */
  retry: boolean;
  status: number;
  result: number;
  id: number;
}

/** pci-hyperv and nvme in small: written from the offsets of the reference and the NVMe specification, not from our layouts. */
class Guest extends FakeDriver {
  readonly bus: Bus;
  readonly spis: number[];
  channel: OpenedChannel;
  #transaction = 1n;
  #ends = new Map<number, { tail: number; head: number; phase: number }>();

  constructor(readOnly = false, size?: number) {
    const spis: number[] = [];
    super({
      disks: [{ ...emptyDisk(size), bus: 'nvme', readOnly }],
      mmio: [
        { gpa: 0xe000_0000, size: 0x0f00_0000 },
        { gpa: 0x10_0000_0000, size: 0x10_0000_0000 },
      ],
      raiseSpi: (intid) => spis.push(intid),
    });
    this.spis = spis;
    this.bus = new Bus(this.ram, this.trace);
    for (const r of this.vmbus.pci.regions) this.bus.map(r);
    this.connect();
    this.channel = this.reopen();
  }

  reopen(): OpenedChannel {
    const offer = this.offers.get(PCI);
    assert.ok(offer);
    this.channel = this.open(offer.relid);
    this.advance(2_000_000);
    return this.channel;
  }

  /** A request with completion; its words. */
  ask(...words: (number | Uint8Array)[]): number[] {
    const parts = words.map((w) => (typeof w === 'number' ? le32(w) : w));
    const payload = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
    let at = 0;
    for (const p of parts) {
      payload.set(p, at);
      at += p.length;
    }
    const id = this.#transaction++;
    this.send(this.channel, payload, id, 1);
    const p = this.packet();
    assert.deepEqual([p.type, p.transactionId], [11, id]);
    return Array.from({ length: p.payload.length / 4 }, (_, n) => viewOf(p.payload).getUint32(4 * n, true));
  }

  packet(): GuestPacket {
    const p = this.channel.in.take();
    assert.ok(p, 'no packet');
    return p;
  }

  /** Configuration space. */
  config(at: number, size = 4): number {
    this.bus.write(WINDOW, 4, 0n);
    return Number(this.bus.read(WINDOW + 0x1000 + at, size));
  }
  put(at: number, value: number, size = 4): void {
    this.bus.write(WINDOW + 0x1000 + at, size, BigInt(value));
  }
  /** Registers of the controller. */
  reg(at: number, size = 4): bigint | undefined {
    return this.bus.read(BAR + at, size);
  }
  setReg(at: number, value: number | bigint, size = 4): boolean {
    return this.bus.write(BAR + at, size, BigInt(value));
  }

  /** Version, D0, BAR, interrupts: what pci-hyperv and the PCI core do. */
  bring(version = 0x1_0004): void {
    assert.deepEqual(this.ask(0x4249_0013, version)[0], 0);
    assert.equal(this.ask(MESSAGE.d0, 0, WINDOW, 0)[0], 0);
    assert.equal(this.ask(0x4249_0016, 0, new Uint8Array(194))[0], 0);
    this.put(0x10, BAR % 2 ** 32);
    this.put(0x14, BAR / 2 ** 32);
    this.put(4, 6, 2);
    for (let n = 0; n < 2; n++) {
      const made = this.ask(0x4249_001b, 0, 64 + n, le32(0x1_0000, 1).subarray(0, 4), new Uint8Array(66));
      assert.equal(made[0], 0);
      const [data, low, high] = made.slice(3);
      [low, high, data, 0].forEach((w, i) => {
        this.setReg(0x2000 + 16 * n + 4 * i, w);
      });
    }
    this.put(0x42, 0x8000, 2);
  }

  /** Enables the controller with queues of 16 entries. */
  enable(): void {
    this.setReg(0x24, 0x000f_000f);
    this.setReg(0x28, ASQ, 8);
    this.setReg(0x30, ACQ, 8);
    this.setReg(0x14, 0x0046_0001);
    assert.equal(this.reg(0x1c), 1n);
    this.#ends.set(0, { tail: 0, head: 0, phase: 1 });
  }

  /** Puts a command into a queue and rings. */
  submit(queue: number, dw: Record<number, number>): void {
    const q = this.#ends.get(queue);
    assert.ok(q);
    const at = (queue === 0 ? ASQ : SQ) + 64 * q.tail;
    for (let n = 0; n < 16; n++) this.ram.view.setUint32(at + 4 * n, (dw[n] ?? 0) >>> 0, true);
    q.tail = (q.tail + 1) % 16;
    this.setReg(0x1000 + 8 * queue, q.tail);
  }

  /** The next completion of a queue. */
  done(queue: number): Done | undefined {
    const q = this.#ends.get(queue);
    assert.ok(q);
    const at = (queue === 0 ? ACQ : CQ) + 16 * q.head;
    const view = this.ram.view;
    const status = view.getUint16(at + 14, true);
    if ((status & 1) !== q.phase) return undefined;
    q.head = (q.head + 1) % 16;
    if (q.head === 0) q.phase ^= 1;
    this.setReg(0x1004 + 8 * queue, q.head);
    return {
      retry: status < 0x8000,
      status: (status >> 1) & 0x7ff,
      result: view.getUint32(at, true),
      id: view.getUint16(at + 12, true),
    };
  }

  /** A command and what comes of it. */
  run(queue: number, dw: Record<number, number>): Done {
    this.submit(queue, dw);
    this.advance(100_000);
    const done = this.done(queue);
    assert.ok(done, 'no completion');
    return done;
  }

  /** Queue pair 1. */
  queues(): void {
    assert.equal(this.run(0, { 0: 9, 10: 7, 11: 0 }).result, 0x0007_0007);
    assert.equal(this.run(0, { 0: 5, 6: CQ, 10: 0x000f_0001, 11: 0x0001_0003 }).status, 0);
    assert.equal(this.run(0, { 0: 1, 6: SQ, 10: 0x000f_0001, 11: 0x0001_0001 }).status, 0);
    this.#ends.set(1, { tail: 0, head: 0, phase: 1 });
  }
}

test('versions: all four are spoken, others refused; nothing goes before', () => {
  const d = new Guest();
  assert.equal(d.ask(MESSAGE.d0, 0, WINDOW, 0)[0], 0xc000_0184);
  assert.deepEqual(
    [0x1_0005, 0x1_0000, 0x1_0001, 0x1_0002, 0x1_0003, 0x1_0004].map((v) => d.ask(0x4249_0013, v)[0]),
    [0xc000_0059, 0xc000_0059, 0, 0, 0, 0],
  );
});

test('the bus: its relations by version, requirements, D0 in the MMIO windows alone, and configuration space behind it', () => {
  const d = new Guest();
  const relations = (version: number): number[] => {
    d.ask(0x4249_0013, version);
    d.send(d.channel, le32(MESSAGE.relations));
    const v = viewOf(d.packet().payload);
    return [v.byteLength, v.getUint32(0, true), v.getUint32(4, true), v.getUint32(8, true), v.getUint32(12, true)];
  };
  const ids = [1, 0xb111_1414, 0x0108_0200];
  assert.deepEqual(
    [relations(0x1_0002), relations(0x1_0004)],
    [
      [32, 0x4249_0000, ...ids],
      [40, 0x4249_0019, ...ids],
    ],
  );
  assert.deepEqual(d.ask(MESSAGE.requirements, 0), [0, 0xffff_c004, 0xffff_ffff, 0, 0, 0, 0, 0].slice(0, 8));
  assert.equal(d.ask(MESSAGE.requirements, 1)[0], 0xc000_000e);
  assert.deepEqual(
    [0x1000, WINDOW + 4, 0xeeff_f000].map((base) => d.ask(MESSAGE.d0, 0, base, 0)[0]),
    [0xc000_000d, 0xc000_000d, 0xc000_000d],
  );
  assert.equal(d.bus.read(WINDOW, 4), undefined);
  d.bring();
  assert.equal(d.ask(MESSAGE.d0, 0, WINDOW, 0)[0], 0xc000_0184, 'a crash kernel is told, and releases');
  assert.deepEqual([d.config(0), d.config(8), d.config(0x34, 1), d.config(0x40)], [0xb111_1414, 0x0108_0200, 0x40, 0x8008_0011]);
  d.put(0x10, 0xffff_ffff);
  d.put(0x14, 0xffff_ffff);
  assert.deepEqual([d.config(0x10), d.config(0x14), d.config(0x18)], [0xffff_c004, 0xffff_ffff, 0]);
  assert.equal(d.reg(0), undefined, 'a BAR outside the windows is nowhere');
  d.bus.write(WINDOW, 4, 5n);
  assert.equal(d.bus.read(WINDOW + 0x1000, 4), 0xffff_ffffn);
  assert.equal(d.ask(MESSAGE.exit)[0], 0);
  assert.equal(d.bus.read(WINDOW, 4), undefined);
});

test('interrupts: SPIs that there are, messages only to those that were made, masks and pending bits', () => {
  const d = new Guest();
  d.bring();
  const create = (vector: number, count = 1): number => d.ask(0x4249_001b, 0, vector, le32(count << 16), new Uint8Array(66))[0];
  assert.deepEqual(
    [create(63), create(992), create(100, 0), create(990, 4), create(991)],
    [0xc000_000d, 0xc000_000d, 0xc000_000d, 0xc000_000d, 0],
  );
  assert.deepEqual(
    [
      d.ask(0x4249_0014, 0, le32(0x0001_0000 | 70), new Uint8Array(12)).slice(0, 4),
      d.ask(0x4249_0017, 0, le32(0x0001_0000 | 71), new Uint8Array(66)).slice(3, 4),
    ],
    [[0, 0, 0x1_0000, 70], [71]],
  );
  d.enable();
  // Masked: it waits. Then it comes.
  d.setReg(0x200c, 1);
  d.run(0, { 0: 9, 10: 7 });
  assert.deepEqual([d.spis, d.reg(0x3000)], [[], 1n]);
  d.setReg(0x200c, 0);
  assert.deepEqual([d.spis, d.reg(0x3000)], [[64], 0n]);
  // Deleted: nothing.
  d.ask(0x4249_0015, 0, le32(0x1_0000, 64, 0xffff_0040, 0));
  d.run(0, { 0: 9, 10: 7 });
  assert.deepEqual(d.spis, [64]);
});

test('identify: controller, namespace and list; what is not there', () => {
  const d = new Guest(true);
  d.bring();
  d.enable();
  const identify = (cns: number, nsid = 0): number => d.run(0, { 0: 6, 1: nsid, 6: DATA, 10: cns }).status;
  assert.equal(identify(1), 0);
  const { view, bytes } = d.ram;
  assert.deepEqual(
    [view.getUint16(DATA, true), bytes[DATA + 77], view.getUint32(DATA + 516, true), bytes[DATA + 525], bytes[DATA + 512]],
    [0x1414, 5, 16, 1, 0x66],
  );
  assert.equal(identify(0, 1), 0);
  assert.deepEqual([view.getBigUint64(DATA, true), bytes[DATA + 130], bytes[DATA + 99]], [2048n, 9, 1]);
  assert.equal(identify(2), 0);
  assert.deepEqual([view.getUint32(DATA, true), view.getUint32(DATA + 4, true)], [1, 0]);
  assert.deepEqual(
    [identify(0, 17), identify(9), d.run(0, { 0: 0x7f }).status, d.run(0, { 0: 2, 6: DATA, 10: 0x7f_00c0 }).status],
    [0xb, 2, 1, 0x109],
  );
});

test('queues and I/O: written data is read back, by one page, two pages and lists; errors have their codes', () => {
  const d = new Guest();
  d.bring();
  d.enable();
  assert.deepEqual(
    [
      d.run(0, { 0: 1, 6: SQ, 10: 0x000f_0001, 11: 0x0001_0001 }).status,
      d.run(0, { 0: 5, 6: CQ, 10: 0x000f_0009, 11: 1 }).status,
      d.run(0, { 0: 5, 6: CQ, 10: 0x0040_0001, 11: 1 }).status,
      d.run(0, { 0: 5, 6: CQ, 10: 0x000f_0001, 11: 0x0009_0003 }).status,
      d.run(0, { 0: 5, 6: CQ + 8, 10: 0x000f_0001, 11: 1 }).status,
    ],
    [0x100, 0x101, 0x102, 0x108, 0x13],
  );
  d.queues();
  const { ram } = d;
  for (const blocks of [1, 8, 16, 256]) {
    const length = blocks * 512;
    for (let n = 0; n < length; n++) ram.bytes[DATA + n] = (n * 7 + blocks) & 0xff;
    const prp2 = (base: number): number => {
      if (length <= 2 * PAGE) return base + PAGE;
      for (let n = 1; n < length / PAGE; n++) ram.view.setBigUint64(LIST + 8 * (n - 1), BigInt(base + n * PAGE), true);
      return LIST;
    };
    assert.equal(d.run(1, { 0: 1 | (blocks << 16), 1: 1, 6: DATA, 8: prp2(DATA), 10: 24, 12: blocks - 1 }).status, 0);
    const back = DATA + 0x4_0000;
    assert.equal(d.run(1, { 0: 2, 1: 1, 6: back, 8: prp2(back), 10: 24, 12: blocks - 1 }).status, 0);
    assert.deepEqual(ram.bytes.slice(back, back + length), ram.bytes.slice(DATA, DATA + length));
  }
  const [[offset, first]] = [...d.vmbus.pci.written('zeros')];
  assert.deepEqual([offset, first[24 * 512]], [0, 0]);
  assert.deepEqual(
    [
      d.run(1, { 0: 2, 1: 1, 6: DATA, 10: 2048, 12: 0 }).status,
      d.run(1, { 0: 2, 1: 1, 6: DATA, 10: 0xffff_ffff, 11: 0xffff_ffff, 12: 0 }).status,
      d.run(1, { 0: 2, 1: 17, 6: DATA }).status,
      d.run(1, { 0: 2, 1: 1, 6: DATA + 2 }).status,
      d.run(1, { 0: 2, 1: 1, 6: 0xffff_f000 }).status,
      d.run(1, { 0: 2, 1: 1, 6: DATA, 12: 256 }).status,
      d.run(1, { 0: 0x99, 1: 1 }).status,
      d.run(1, { 0: 0, 1: 1 }).status,
      d.run(0, { 0: 4, 10: 1 }).status,
      d.run(0, { 0: 0, 10: 1 }).status,
      d.run(0, { 0: 4, 10: 1 }).status,
    ],
    [0x80, 0x80, 0xb, 0x13, 4, 2, 1, 0, 0x10c, 0, 0],
  );
  assert.ok(d.spis.includes(64) && d.spis.includes(65));
});

test('Write Zeroes, Dataset Management and flush: the disk is zero there, and stays as it was where the guest may not', () => {
  const d = new Guest();
  d.bring();
  d.enable();
  d.queues();
  const { ram } = d;
  ram.bytes.fill(7, DATA, DATA + PAGE);
  for (let block = 0; block < 2048; block += 8) assert.equal(d.run(1, { 0: 1, 1: 1, 6: DATA, 10: block, 12: 7 }).status, 0);
  const at = (block: number): number => {
    assert.equal(d.run(1, { 0: 2, 1: 1, 6: DATA + PAGE, 10: block, 12: 0 }).status, 0);
    return ram.bytes[DATA + PAGE];
  };
  // More than a transfer may have.
  assert.equal(d.run(1, { 0: 8, 1: 1, 10: 100, 12: 999 }).status, 0);
  assert.deepEqual([99, 100, 1099, 1100].map(at), [7, 0, 0, 7]);
  const ranges = (...list: [first: number, blocks: number][]): void =>
    list.forEach(([first, blocks], n) => {
      ram.view.setUint32(LIST + 16 * n, 0, true);
      ram.view.setUint32(LIST + 16 * n + 4, blocks, true);
      ram.view.setBigUint64(LIST + 16 * n + 8, BigInt(first), true);
    });
  ranges([0, 1], [2000, 48]);
  const dsm = (count: number, attributes: number): number =>
    d.run(1, { 0: 9, 1: 1, 6: LIST, 10: count - 1, 11: attributes }).status;
  // Only deallocate does anything.
  assert.deepEqual([dsm(2, 3), at(0), dsm(2, 4), at(0), at(1), at(1999), at(2000), at(2047)], [0, 7, 0, 0, 7, 7, 0, 0]);
  ranges([5, 1], [2040, 9]);
  assert.deepEqual([dsm(2, 4), at(5)], [0x80, 7], 'all or nothing');
  assert.deepEqual(
    [
      d.run(1, { 0: 8, 1: 1, 10: 2048, 12: 0 }).status,
      d.run(1, { 0: 9, 1: 1, 6: LIST + 2, 10: 0, 11: 4 }).status,
      d.run(1, { 0: 0, 1: 1 }).status,
      d.run(1, { 0: 0, 1: 0xffff_ffff }).status,
      d.run(1, { 0: 0, 1: 17 }).status,
      d.run(0, { 0: 6, 6: DATA, 10: 1 }).status,
      ram.view.getUint16(DATA + 520, true),
    ],
    [0x80, 0x13, 0, 0, 0xb, 0, 0xc],
  );
  const locked = new Guest(true);
  locked.bring();
  locked.enable();
  locked.queues();
  ranges([0, 1]);
  locked.ram.bytes.set(ram.bytes.subarray(LIST, LIST + 16), LIST);
  assert.deepEqual(
    [
      locked.run(1, { 0: 8, 1: 1 }).status,
      locked.run(1, { 0: 9, 1: 1, 6: LIST, 11: 4 }).status,
      [...locked.vmbus.pci.written('zeros')],
    ],
    [0x182, 0x182, []],
  );
});

test('a guest that deallocates all of a large disk 256 times in one command gets its answer', () => {
  const d = new Guest(false, 2 ** 41);
  d.bring();
  d.enable();
  d.queues();
  for (let n = 0; n < 256; n++) d.ram.view.setUint32(LIST + 16 * n + 4, 0xffff_ffff, true);
  assert.equal(d.run(1, { 0: 9, 1: 1, 6: LIST, 10: 255, 11: 4 }).status, 0);
});

test('errors as told: on their blocks, as often as said; and what may be tried again', () => {
  const d = new Guest();
  d.bring();
  d.enable();
  d.queues();
  const { pci } = d.vmbus;
  const io = (opcode: number, block: number): [number, boolean] => {
    const { status, retry } = d.run(1, { 0: opcode, 1: 1, 6: DATA, 10: block, 12: 0 });
    return [status, retry];
  };
  assert.equal(pci.inject('zeros', 'read-error', { first: 5, last: 5 }), true);
  assert.deepEqual(
    [io(2, 4), io(1, 5), io(2, 5), io(2, 5)],
    [
      [0, true],
      [0, true],
      [0x281, false],
      [0, true],
    ],
  );
  pci.inject('zeros', 'write-error', { count: 2 });
  assert.deepEqual(
    [io(2, 0), io(1, 0), io(8, 0), io(1, 0)],
    [
      [0, true],
      [0x280, false],
      [0x280, false],
      [0, true],
    ],
  );
  pci.inject('zeros', 'not-ready');
  pci.inject('zeros', 'hardware-error');
  assert.deepEqual(
    [io(2, 0), io(2, 0), io(2, 0)],
    [
      [0x82, true],
      [6, false],
      [0, true],
    ],
  );
  assert.equal(pci.inject('nobody', 'read-error'), false);
  assert.throws(() => pci.inject('zeros', 'reset'), {
    message: 'disk "zeros": an NVMe disk has read-error, write-error, hardware-error, not-ready, not reset',
  });
});

test('namespaces come and go: the guest is told once, reads which, and finds what was written in one that comes back', () => {
  const d = new Guest();
  d.bring();
  d.enable();
  d.queues();
  const { pci } = d.vmbus;
  const list = (): number[] => {
    assert.equal(d.run(0, { 0: 6, 6: DATA, 10: 2 }).status, 0);
    return [0, 4, 8].map((at) => d.ram.view.getUint32(DATA + at, true));
  };
  const changed = (): number[] => {
    assert.equal(d.run(0, { 0: 2, 6: DATA, 10: 0x3ff_0004 }).status, 0);
    return [0, 4, 8].map((at) => d.ram.view.getUint32(DATA + at, true));
  };
  assert.equal(pci.attach({ ...emptyDisk(), name: 'second', bus: 'nvme' }), 2);
  // Nobody has asked to be told.
  d.submit(0, { 0: 0xc | (77 << 16) });
  d.advance(100_000);
  assert.deepEqual([d.done(0), list(), changed()], [undefined, [1, 2, 0], [2, 0, 0]]);
  assert.equal(d.run(0, { 0: 9, 10: 0xb, 11: 0x1ff }).status, 0);
  d.ram.bytes.fill(9, DATA, DATA + 512);
  assert.equal(d.run(1, { 0: 1, 1: 2, 6: DATA, 10: 3, 12: 0 }).status, 0);
  assert.equal(pci.detach('second'), true);
  d.advance(100_000);
  assert.deepEqual(d.done(0), { status: 0, result: 0x04_00_02, id: 77, retry: true });
  assert.deepEqual(
    [d.run(1, { 0: 2, 1: 2, 6: DATA }).status, d.run(0, { 0: 6, 1: 2, 6: DATA, 10: 0 }).status, d.ram.view.getUint32(DATA, true)],
    [2, 0, 0],
  );
  // Another change before the guest has looked is no second event.
  d.submit(0, { 0: 0xc | (78 << 16) });
  assert.equal(pci.attach({ ...emptyDisk(), name: 'third', bus: 'nvme' }), 3);
  d.advance(100_000);
  assert.deepEqual([d.done(0), changed(), changed(), list()], [undefined, [2, 3, 0], [0, 0, 0], [1, 3, 0]]);
  assert.equal(pci.attach({ ...emptyDisk(), name: 'second', bus: 'nvme' }), 2);
  d.advance(100_000);
  assert.deepEqual([d.done(0)?.id, list()], [78, [1, 2, 3]]);
  assert.equal(d.run(1, { 0: 2, 1: 2, 6: DATA, 10: 3, 12: 0 }).status, 0);
  assert.equal(d.ram.bytes[DATA], 9);
  assert.deepEqual([pci.detach('nobody'), pci.detach('second'), pci.detach('second')], [false, true, false]);
  assert.throws(() => pci.attach({ ...emptyDisk(), name: 'third', bus: 'nvme' }), {
    message: 'disk "third": there is one of that name',
  });
});

test('the last disk takes the controller along, and the next one brings it back', () => {
  const d = new Guest();
  const { pci } = d.vmbus;
  d.bring();
  d.enable();
  const letGo = (): void => {
    d.send(d.channel, le32(0x4249_000f, 0, 0));
    d.pump();
    assert.equal(d.next(2).getUint32(8, true), d.channel.relid);
  };
  const offered = (): void => {
    d.pump();
    assert.equal(d.next(1).getUint32(184, true), d.channel.relid);
  };
  const released = (): void => {
    d.post(FakeDriver.message(13, d.channel.relid));
    d.pump();
  };
  assert.equal(pci.detach('zeros'), true);
  d.packet();
  letGo();
  released();
  assert.equal(pci.absent, true);
  assert.equal(pci.attach({ ...emptyDisk(), bus: 'nvme' }), 1);
  offered();
  d.reopen();
  d.bring();
  d.enable();
  // While the guest is still letting go.
  assert.equal(pci.detach('zeros'), true);
  d.packet();
  letGo();
  assert.equal(pci.attach({ ...emptyDisk(), bus: 'nvme' }), 1);
  released();
  offered();
  // A guest that has not looked at the bus yet has nothing to let go of.
  assert.deepEqual([pci.detach('zeros'), pci.absent], [true, true]);
});

test('a full completion queue stops the controller until there is room', () => {
  const d = new Guest();
  d.bring();
  d.enable();
  for (let n = 0; n < 15; n++) d.submit(0, { 0: 9 | (n << 16), 10: 7 });
  d.advance(100_000);
  for (let n = 0; n < 3; n++) d.submit(0, { 0: 9 | ((100 + n) << 16), 10: 7 });
  d.advance(100_000);
  const ids: number[] = [];
  for (let n = 0; n < 18; n++) {
    const done = d.done(0);
    assert.ok(done, `completion ${n}`);
    ids.push(done.id);
    d.advance(100_000);
  }
  assert.deepEqual(ids, [...Array.from({ length: 15 }, (_, n) => n), 100, 101, 102]);
});

test('no bus mastering, no work; what makes no sense is fatal until the controller is disabled', () => {
  const d = new Guest();
  d.bring();
  d.put(4, 2, 2);
  d.enable();
  d.submit(0, { 0: 9, 10: 7 });
  d.advance(100_000);
  assert.equal(d.done(0), undefined);
  d.setReg(0x14, 0);
  assert.equal(d.reg(0x1c), 0n);
  d.setReg(0x28, 0xffff_f000n, 8);
  d.put(4, 6, 2);
  d.setReg(0x14, 1);
  d.setReg(0x1000, 1);
  d.advance(100_000);
  assert.equal(d.reg(0x1c), 3n);
  d.setReg(0x14, 0);
  d.setReg(0x14, 0x0000_0781);
  assert.equal(d.reg(0x1c), 2n, 'pages of another size');
  d.setReg(0x14, 0);
  d.enable();
  d.setReg(0x14, 0x0046_4001);
  assert.equal(d.reg(0x1c), 9n, 'shut down');
});

test('eject: the guest is asked, and when it has let go the bus is taken away; a closed channel takes everything along', () => {
  const d = new Guest();
  d.bring();
  d.enable();
  d.post(FakeDriver.message(7, d.channel.relid));
  assert.deepEqual([d.reg(0), d.bus.read(WINDOW, 4)], [undefined, undefined]);
  d.reopen();
  assert.equal(d.vmbus.pci.eject(), false, 'there is nothing yet');
  d.bring();
  assert.equal(d.vmbus.pci.eject(), true);
  const p = viewOf(d.packet().payload);
  assert.deepEqual([p.getUint32(0, true), p.getUint32(4, true)], [MESSAGE.eject, 0]);
  d.send(d.channel, le32(0x4249_000f, 0, 0));
  d.pump();
  assert.equal(d.next(2).getUint32(8, true), d.channel.relid);
  assert.equal(d.vmbus.pci.absent, true);
});

test('state is plain: a machine goes on in the middle of I/O', () => {
  const d = new Guest();
  d.bring();
  d.enable();
  d.queues();
  d.submit(1, { 0: 1, 1: 1, 6: DATA, 12: 0 });
  const state = d.vmbus.state as unknown as Record<string, unknown>;
  const saved = capture(state) as Record<string, unknown>;
  d.setReg(0x14, 0);
  d.ask(MESSAGE.exit);
  assign(state, saved);
  d.setReg(0x1008, 1);
  d.advance(100_000);
  assert.equal(d.done(1)?.status, 0);
});

test('hostile guests: any packets, registers, doorbells, commands and PRPs leave a machine that still answers', () => {
  const word = fc.oneof(
    fc.constantFrom(0, 1, 2, 0xf, 0xffff_ffff, ASQ, LIST, LIST + 0xff8, DATA, 0x3f_fff8),
    fc.nat(0xffff_ffff),
  );
  const step = fc.oneof(
    fc.record({
      what: fc.constant('packet' as const),
      type: fc.integer({ min: 0x4249_0000, max: 0x4249_001c }),
      rest: fc.uint8Array({ maxLength: 80 }),
    }),
    fc.record({ what: fc.constant('config' as const), at: fc.nat(0x60), size: fc.constantFrom(1, 2, 4, 8), value: word }),
    fc.record({
      what: fc.constant('register' as const),
      at: fc.oneof(fc.nat(0x40), fc.nat(0x3fff)),
      size: fc.constantFrom(1, 2, 4, 8),
      value: word,
    }),
    fc.record({
      what: fc.constant('command' as const),
      queue: fc.constantFrom(0, 1),
      opcode: fc.oneof(fc.nat(12), fc.nat(255)),
      dw: fc.array(word, { minLength: 16, maxLength: 16 }),
    }),
    fc.record({
      what: fc.constant('memory' as const),
      at: fc.nat(PAGE / 8 - 1),
      value: fc.constantFrom(LIST, LIST + PAGE, DATA, 3, 0xffff_f000),
    }),
    fc.record({ what: fc.constant('time' as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const d = new Guest();
      d.bring();
      d.enable();
      d.queues();
      for (const s of steps) {
        const access = (base: number, at: number, size: number, value: number): void => {
          const aligned = at & -size;
          d.bus.write(base + aligned, size, BigInt(value));
          d.bus.read(base + aligned, size);
        };
        if (s.what === 'packet') {
          const payload = new Uint8Array(4 + s.rest.length);
          viewOf(payload).setUint32(0, s.type, true);
          payload.set(s.rest, 4);
          d.send(d.channel, payload, 1n, 1);
          while (d.channel.in.take());
        } else if (s.what === 'config') access(WINDOW + 0x1000, s.at, s.size, s.value);
        else if (s.what === 'register') access(BAR, s.at, s.size, s.value);
        else if (s.what === 'command') d.submit(s.queue, { ...s.dw, 0: s.opcode | (s.dw[0] & 0xffff_ff00) });
        else if (s.what === 'memory') d.ram.view.setBigUint64(LIST + 8 * s.at, BigInt(s.value), true);
        else d.advance(100_000);
        d.pump();
        d.inbox.length = 0;
      }
      d.advance(100_000);
      // Whatever it has done, another driver may come.
      if (d.vmbus.pci.absent) return;
      d.post(FakeDriver.message(7, d.channel.relid));
      d.inbox.length = 0;
      d.reopen();
      d.bring();
      d.enable();
      d.queues();
      assert.equal(d.run(1, { 0: 2, 1: 1, 6: DATA }).status, 0);
    }),
    { numRuns: 100 },
  );
});
