import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { describeEsr } from '../../../debug-adapter/linux/esr.ts';
import { formatMessage } from '../../../debug-adapter/linux/format-message.ts';
import { mapleEntries } from '../../../debug-adapter/linux/interrupts.ts';
import type { GuestKernel } from '../../../debug-adapter/linux/kernel.ts';
import { fits, parseFormat } from '../../../debug-adapter/linux/message-sources.ts';
import { KernelObjects } from '../../../debug-adapter/linux/objects.ts';
import { readLog } from '../../../debug-adapter/linux/printk.ts';
import { Symbolizer } from '../../../debug-adapter/symbols/symbolizer.ts';
import { Catalog, type TypeSource } from '../../../debug-adapter/types/catalog.ts';
import {
  arrayOf,
  BASE_TYPES,
  CHAR,
  type CompoundType,
  compound,
  type Member,
  pointerTo,
  type Type,
  VOID,
} from '../../../debug-adapter/types/model.ts';

const base = (name: string): Type => BASE_TYPES.get(name) ?? assert.fail(name);
const [u8, u16, u32, u64] = ['unsigned char', 'unsigned short', 'unsigned int', 'unsigned long'].map(base);
const any = pointerTo(VOID);

const struct = (name: string, size: number, ...members: [string, Type, number, Member['bits']?][]): CompoundType =>
  compound('struct', name, size, () =>
    members.map(([of, type, offset, bits]) => ({ name: of, type, offset, ...(bits ? { bits } : {}) })),
  );

/** As the kernels at hand have them (kernel/printk/printk_ringbuffer.h, include/linux/maple_tree.h). */
const STRUCTS = new Map(
  [
    struct(
      'printk_info',
      88,
      ['seq', u64, 0],
      ['ts_nsec', u64, 8],
      ['text_len', u16, 16],
      ['flags', u8, 19, { at: 0, size: 5 }],
      ['level', u8, 19, { at: 5, size: 3 }],
      ['caller_id', u32, 20],
    ),
    struct('prb_desc', 24, ['state_var', u64, 0], ['text_blk_lpos', struct('lpos', 16, ['begin', u64, 0], ['next', u64, 8]), 8]),
    struct(
      'printk_ringbuffer',
      88,
      [
        'desc_ring',
        struct(
          'ring',
          48,
          ['count_bits', u32, 0],
          ['descs', any, 8],
          ['infos', any, 16],
          ['head_id', u64, 24],
          ['tail_id', u64, 32],
        ),
        0,
      ],
      ['text_data_ring', struct('data', 32, ['size_bits', u32, 0], ['data', any, 8]), 48],
    ),
    struct('maple_tree', 16, ['ma_root', any, 8]),
    struct('maple_range_64', 256, ['pivot', arrayOf(u64, 15), 8], ['slot', arrayOf(any, 16), 128]),
    struct('maple_arange_64', 240, ['pivot', arrayOf(u64, 9), 8], ['slot', arrayOf(any, 10), 80]),
    struct('text', 16, ['text', arrayOf(CHAR, 16), 0]),
  ].map((s) => [s.name, s]),
);

const AT = 0xffff_0000_0010_0000n;
const SIZE = 1 << 16;

/** Memory at AT, and the variable `prb` at its start. */
function world(): { memory: DataView; objects: KernelObjects } {
  const bytes = new Uint8Array(SIZE);
  const symbols = new Symbolizer();
  const types = new Catalog(symbols);
  const source: TypeSource = {
    module: undefined,
    find: (tag, name) => (tag === 'struct' ? STRUCTS.get(name) : undefined),
    constant: () => undefined,
    variable: (name) => (name === 'prb' ? { type: any, address: AT } : undefined),
    functionType: () => undefined,
    complete: () => [],
  };
  types.setSources([source], []);
  const read = (address: bigint, length: number): Uint8Array | undefined => {
    const o = address - AT;
    return o >= 0n && o + BigInt(length) <= BigInt(SIZE) ? bytes.subarray(Number(o), Number(o) + length) : undefined;
  };
  const kernel = { symbols, machine: { instructions: 0 }, imageMemory: () => undefined };
  const objects = new KernelObjects(kernel as unknown as GuestKernel, 0, { types, read });
  return { memory: new DataView(bytes.buffer), objects };
}

const RING = 0x100;
const DESCS = 0x1000;
const INFOS = 0x2000;
const DATA = 0x8000;
const COUNT_BITS = 3;
const SIZE_BITS = 7;

/** A ring of eight records and 128 bytes of text; `put` writes a record as the kernel does. */
function ring(head: bigint, tail: bigint) {
  const { memory, objects } = world();
  const set = (at: number, value: bigint): void => memory.setBigUint64(at, value, true);
  set(0, AT + BigInt(RING));
  memory.setUint32(RING, COUNT_BITS, true);
  set(RING + 8, AT + BigInt(DESCS));
  set(RING + 16, AT + BigInt(INFOS));
  set(RING + 24, head);
  set(RING + 32, tail);
  memory.setUint32(RING + 48, SIZE_BITS, true);
  set(RING + 56, AT + BigInt(DATA));
  const put = (
    id: bigint,
    text: string,
    {
      begin,
      next,
      state = 2n,
      length = text.length,
      at = Number(begin) % (1 << SIZE_BITS),
    }: { begin: bigint; next: bigint; state?: bigint; length?: number; at?: number },
  ): void => {
    const slot = Number(id) % (1 << COUNT_BITS);
    const desc = DESCS + 24 * slot;
    set(desc, (state << 62n) | id);
    set(desc + 8, begin);
    set(desc + 16, next);
    const info = INFOS + 88 * slot;
    set(info, id);
    set(info + 8, id * 1_000_000n);
    memory.setUint16(info + 16, length, true);
    memory.setUint8(info + 19, 6 << 5);
    memory.setUint32(info + 20, 0x8000_0001, true);
    if (begin & 1n) return;
    set(DATA + at, id);
    for (let i = 0; i < text.length; i++) memory.setUint8(DATA + at + 8 + i, text.charCodeAt(i));
  };
  return { memory, objects, put, set };
}

test("the kernel's log: wrapped, truncated, empty, overwritten and half written records", () => {
  const { objects, put, memory } = ring(14n, 8n);
  put(8n, 'plain', { begin: 0n, next: 16n });
  // Does not fit behind 112: its text is at the start of the ring, which has been written over since.
  put(9n, 'overwritten', { begin: 16n, next: 40n });
  put(10n, 'up to the end of the', { begin: 96n, next: 128n });
  put(11n, 'wrapped', { begin: 248n, next: 256n + 16n, at: 0 });
  put(12n, 'cut', { begin: 40n, next: 52n, length: 300 });
  put(13n, '', { begin: 3n, next: 3n });
  put(14n, 'being written', { begin: 56n, next: 88n, state: 0n });
  memory.setBigUint64(DATA + 16, 77n, true);
  const log = readLog(objects);
  assert.deepEqual(
    log?.records.map(({ seq, text, incomplete }) => [Number(seq), text, incomplete]),
    [
      // The wrapped record lies over it.
      [8, '', 'its text has been overwritten'],
      [9, '', 'its text has been overwritten'],
      [10, 'up to the end of the', undefined],
      [11, 'wrapped', undefined],
      [12, 'cut\0', '296 bytes of it did not fit'],
      [13, '', undefined],
    ],
  );
  assert.deepEqual(log?.records[3].caller, { cpu: 1 });
  assert.equal(log?.records[3].level, 6);
  assert.equal(log?.lost, 8n);
  assert.deepEqual(
    readLog(objects, 2)?.records.map((r) => Number(r.seq)),
    [13],
    'of the last two ids one is a record',
  );
});

test('a ring buffer of any bytes gives a log or none, never an exception', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 64, maxLength: 512 }), fc.nat(SIZE - 512), (bytes, where) => {
      const { memory, objects, put } = ring(14n, 8n);
      for (let id = 8n; id <= 14n; id++) put(id, 'text', { begin: (id - 8n) * 16n, next: (id - 7n) * 16n });
      for (const [i, b] of bytes.entries()) memory.setUint8((where % 0x3000) + i, b);
      const log = readLog(objects);
      assert.ok(log === undefined || log.records.length <= 20_000);
    }),
    { numRuns: 300 },
  );
});

test('a maple tree: entries in order; one that leads back to itself ends', () => {
  const { memory, objects } = world();
  const set = (at: number, value: bigint): void => memory.setBigUint64(at, value, true);
  const node = (at: number, type: number): bigint => AT + BigInt(at) + BigInt(type << 3) + 2n;
  const [ROOT, LEAF, OTHER] = [0x1000, 0x1100, 0x1200];
  set(8, node(ROOT, 3));
  set(ROOT + 8, 9n);
  set(ROOT + 16, 0xffff_ffff_ffff_ffffn);
  set(ROOT + 80, node(LEAF, 1));
  set(ROOT + 88, node(OTHER, 1));
  for (const [at, ...entries] of [
    [LEAF, 0x100, 0, 0x200],
    [OTHER, 0x300],
  ])
    for (const [i, entry] of entries.entries()) {
      set(at + 8 + 8 * i, BigInt(i + 1));
      set(at + 128 + 8 * i, entry === 0 ? 0n : AT + BigInt(entry));
    }
  const offsets = () => [...mapleEntries(objects, AT)].map((a) => Number(a - AT));
  assert.deepEqual(offsets(), [0x100, 0x200, 0x300]);
  set(ROOT + 88, node(ROOT, 3));
  assert.deepEqual(offsets(), [0x100, 0x200]);
});

test('formats: what they consist of, and which texts they can have made', () => {
  const made = (format: string, text: string): boolean => {
    const f = parseFormat(format);
    return f !== undefined && fits(text, f.pieces, f.open);
  };
  assert.equal(parseFormat('\x016hello %d\n')?.level, 6);
  assert.equal(parseFormat('\x01c and more\n'), undefined, 'it continues a line');
  const yes: [string, string][] = [
    ['\x016CPU features: detected: %s\n', 'CPU features: detected: CRC32 instructions'],
    ['%s: %pOF at 0x%08llx\n', 'pl011: /soc/uart at 0x09000000'],
    ['100%% of %lu\n', '100% of 7'],
    ['begin', 'begin and the rest comes by pr_cont'],
    ['%s\n', 'anything'],
  ];
  const no: [string, string][] = [
    ['hello %d\n', 'hello'],
    ['hello\n', 'hello world'],
    ['a %s b %s c\n', 'a 1 c 2 b'],
    ['%d apples\n', '7 apples and more'],
  ];
  for (const [format, text] of yes) assert.ok(made(format, text), format);
  for (const [format, text] of no) assert.ok(!made(format, text), format);
  // Many conversions and a text that nearly fits: no backtracking.
  assert.ok(!made(`${'%sa'.repeat(300)}b\n`, 'a'.repeat(1000)));
});

test('a message of a format and its arguments', () => {
  const { memory, objects } = world();
  for (const [i, c] of [...'init'].entries()) memory.setUint8(0x40 + i, c.charCodeAt(0));
  const format = (text: string, ...args: bigint[]) => formatMessage(objects, text, () => args.shift());
  assert.equal(format('%s[%d]: %5.2s|%-6s|\n', AT + 0x40n, 1n, AT + 0x40n, AT + 0x40n), 'init[1]:    in|init  |');
  assert.equal(
    format('%d %u %lld %x %#lx %08x %c%%', 0xffff_ffffn, 0xffff_ffffn, -5n, 0x1_0000_00ffn, 255n, 16n, 65n),
    '-1 4294967295 -5 ff 0xff 00000010 A%',
  );
  assert.equal(format('%s %s %*d', 0n, 8n, 4n, 7n), '(null) ?    7');
  assert.equal(format('%s and %d'), '? and ?');
});

test('ESR_EL1 in words (Arm ARM D19.2.37)', () => {
  const words = (esr: bigint) => describeEsr(esr).title;
  assert.equal(words(0x9600_0004n), 'data abort: translation fault, level 0');
  assert.equal(words(0x9600_0047n), 'data abort: translation fault, level 3');
  assert.equal(words(0x8600_000fn), 'instruction abort: permission fault, level 3');
  assert.equal(words(0x9600_0021n), 'data abort: alignment fault');
  assert.equal(words(0x9600_0010n), 'data abort: external abort');
  assert.equal(words(0xf200_0800n), 'BRK instruction: BUG() or WARN()');
  assert.equal(words(0x0200_0000n), 'unknown reason');
  assert.equal(words(0x3600_0002n), 'branch target exception');
  assert.equal(words(0x7200_0001n), 'pointer authentication failure: instruction key B');
  assert.equal(words(0x5600_0000n), 'SVC instruction');
  assert.deepEqual(describeEsr(0x9600_0047n).fields.slice(-1), [['access', 'write']]);
  assert.equal(describeEsr(0x9600_0047n).hasAddress, true);
  assert.equal(describeEsr(0xf200_0800n).hasAddress, false);
  for (let ec = 0n; ec < 64n; ec++) for (const iss of [0n, 0x1ff_ffffn]) assert.ok(words((ec << 26n) | iss).length > 3);
});
