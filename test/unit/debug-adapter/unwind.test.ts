import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { frameName, stripPac, unwind } from '../../../debug-adapter/linux/unwind.ts';
import type { KernelSymbol } from '../../../debug-adapter/symbols/memory.ts';
import { Symbolizer } from '../../../debug-adapter/symbols/symbolizer.ts';

/** Guest memory as words: code at TEXT, a stack at STACK. */
const TEXT = 0xffff_8000_0801_0000n;
const STACK = 0xffff_8000_0a00_0000n;
const SIZE = 0x1000;

/** Of a process: code, and above it its stack. */
const USER = 0x40_0000n;

class Memory {
  readonly #regions = [
    { base: TEXT, data: new DataView(new ArrayBuffer(SIZE)) },
    { base: STACK, data: new DataView(new ArrayBuffer(SIZE)) },
    { base: USER, data: new DataView(new ArrayBuffer(SIZE)) },
  ];
  #at(address: bigint, length: number) {
    const r = this.#regions.find((x) => address >= x.base && address + BigInt(length) <= x.base + BigInt(SIZE));
    return r && { data: r.data, at: Number(address - r.base) };
  }
  read = (address: bigint, length: number): Uint8Array | undefined => {
    const found = this.#at(address, length);
    return found && new Uint8Array(found.data.buffer, found.at, length).slice();
  };
  word(address: bigint, value: bigint): this {
    const found = this.#at(address, 8) ?? assert.fail();
    found.data.setBigUint64(found.at, value, true);
    return this;
  }
  code(address: bigint, ...words: number[]): this {
    const found = this.#at(address, 4 * words.length) ?? assert.fail();
    words.forEach((w, i) => {
      found.data.setUint32(found.at + 4 * i, w, true);
    });
    return this;
  }
}

const STP = 0xa9be7bfd; // stp x29, x30, [sp, #-32]!
const MOV = 0x910003fd; // mov x29, sp
const NOP = 0xd503201f;
const LDP = 0xa8c27bfd; // ldp x29, x30, [sp], #32
const RET = 0xd65f03c0;

/** Only what the walk looks at. */
const registers = (pc: bigint, fp: bigint, lr = 0n, sp = STACK) => {
  const x = new Array<bigint>(31).fill(0n);
  x[29] = fp;
  x[30] = lr;
  return { pc, sp, x };
};

/** Functions of 0x100 bytes: `framed` ones with a prologue and epilogue, `leaf` without. */
function world() {
  const memory = new Memory();
  const names = ['framed_a', 'framed_b', 'framed_c', 'leaf', 'el1h_64_irq', 'el0t_64_sync', 'vectors'];
  const symbols = new Symbolizer();
  const list = names.map((name, i): KernelSymbol => ({ address: TEXT + BigInt(0x100 * i), name, type: 't', size: 0x100 }));
  symbols.setKernel(list, TEXT + 0x1000n);
  const at = (name: string, offset = 0) => (symbols.address(name) ?? assert.fail(name)) + BigInt(offset);
  for (const name of names.filter((n) => n.startsWith('framed'))) memory.code(at(name), STP, MOV, NOP, NOP, LDP, RET);
  memory.code(at('leaf'), NOP, NOP, NOP, RET);
  const walk = (pc: bigint, fp: bigint, lr: bigint, sp = fp) =>
    unwind(registers(pc, fp, lr, sp), { read: memory.read, symbols, vaBits: 48 }).frames.map((f) => frameName(f, symbols));
  return { memory, symbols, at, walk };
}
const record = (memory: Memory, at: bigint, fp: bigint, lr: bigint) => memory.word(at, fp).word(at + 8n, lr);

test('frame records give the callers, up to the record of two zeros', () => {
  const { memory, at, walk } = world();
  record(memory, STACK + 0x100n, STACK + 0x200n, at('framed_b', 0x20));
  record(memory, STACK + 0x200n, STACK + 0x300n, at('framed_c', 0x24));
  assert.deepEqual(walk(at('framed_a', 0xc), STACK + 0x100n, 0n), ['framed_a+0xc', 'framed_b+0x20', 'framed_c+0x24']);
});

test('a return address right behind a function belongs to the call before it', () => {
  const { memory, at, walk } = world();
  record(memory, STACK + 0x100n, STACK + 0x300n, at('framed_c'));
  assert.deepEqual(walk(at('framed_a', 0xc), STACK + 0x100n, 0n), ['framed_a+0xc', 'framed_b+0x100']);
});

test('before its frame is built, after it is gone, and without one, a function returns to the link register; else it counts for nothing', () => {
  const { memory, at, walk } = world();
  record(memory, STACK + 0x200n, STACK + 0x300n, at('framed_c', 0x24));
  const lr = at('framed_b', 0x20);
  for (const pc of [at('framed_a'), at('framed_a', 4), at('framed_a', 0x14), at('leaf', 8)])
    assert.deepEqual(walk(pc, STACK + 0x200n, lr).slice(1), ['framed_b+0x20', 'framed_c+0x24'], pc.toString(16));
  for (const pc of [at('framed_a', 8), at('framed_a', 0x10)])
    assert.deepEqual(walk(pc, STACK + 0x200n, lr).slice(1), ['framed_c+0x24'], pc.toString(16));
});

test('no frame twice: a link register that the record repeats, or that is in the function itself, is left out', () => {
  const { memory, at, walk } = world();
  record(memory, STACK + 0x200n, STACK + 0x300n, at('framed_c', 0x24));
  assert.deepEqual(walk(at('leaf', 8), STACK + 0x200n, at('framed_c', 0x24)), ['leaf+0x8', 'framed_c+0x24']);
  assert.deepEqual(walk(at('leaf', 8), STACK + 0x200n, at('leaf', 4)), ['leaf+0x8', 'framed_c+0x24']);
});

test('pointer authentication codes are taken off', () => {
  assert.equal(stripPac(0x007f_8000_0801_0020n | (1n << 55n), 48), 0xffff_8000_0801_0020n);
  assert.equal(stripPac(0xab00_0000_0040_1000n & ~(1n << 55n), 48), 0x40_1000n);
  const { memory, at, walk } = world();
  record(memory, STACK + 0x100n, STACK + 0x300n, at('framed_b', 0x20) & ~(0x7fn << 48n));
  assert.deepEqual(walk(at('framed_a', 0xc), STACK + 0x100n, 0n), ['framed_a+0xc', 'framed_b+0x20']);
});

const KERNEL_PSTATE = 0x6040_0005n;
/** struct pt_regs at `base`: x29, x30, sp, pc and pstate. */
function saveRegisters(memory: Memory, base: bigint, r: { fp: bigint; lr: bigint; sp: bigint; pc: bigint; pstate: bigint }) {
  memory
    .word(base + 29n * 8n, r.fp)
    .word(base + 30n * 8n, r.lr)
    .word(base + 0xf8n, r.sp)
    .word(base + 0x100n, r.pc)
    .word(base + 0x108n, r.pstate);
}

test('through an exception frame of 6.12 and older: the interrupted function, also a leaf', () => {
  const { memory, symbols, at } = world();
  const regs = STACK + 0x400n;
  const recordAt = regs + 0x130n;
  record(memory, STACK + 0x100n, recordAt, at('el1h_64_irq', 0x68));
  record(memory, STACK + 0x800n, STACK + 0x900n, at('framed_c', 0x24));
  record(memory, recordAt, STACK + 0x800n, at('leaf', 8));
  saveRegisters(memory, regs, {
    fp: STACK + 0x800n,
    lr: at('framed_b', 0x20),
    sp: STACK + 0x7f0n,
    pc: at('leaf', 8),
    pstate: KERNEL_PSTATE,
  });
  const frames = unwind(registers(at('framed_a', 0xc), STACK + 0x100n), { read: memory.read, symbols, vaBits: 48 }).frames;
  assert.deepEqual(
    frames.map((f) => [f.kind, frameName(f, symbols)]),
    [
      ['top', 'framed_a+0xc'],
      ['call', 'el1h_64_irq+0x68'],
      ['exception', 'leaf+0x8'],
      ['call', 'framed_b+0x20'],
      ['call', 'framed_c+0x24'],
    ],
  );
  assert.equal(frames[2].sp, STACK + 0x7f0n);
  assert.equal(frames[2].x?.[30], at('framed_b', 0x20));
});

test('through an exception frame of 6.13 and newer: a record of zeros with a type', () => {
  const { memory, symbols, at } = world();
  const regs = STACK + 0x400n;
  const recordAt = regs + 0x128n;
  record(memory, STACK + 0x100n, recordAt, at('el1h_64_irq', 0x68));
  record(memory, recordAt, 0n, 0n).word(recordAt + 16n, 2n);
  record(memory, STACK + 0x800n, STACK + 0x900n, at('framed_c', 0x24));
  saveRegisters(memory, regs, { fp: STACK + 0x800n, lr: 0n, sp: STACK + 0x7f0n, pc: at('framed_b', 0xc), pstate: KERNEL_PSTATE });
  const frames = unwind(registers(at('framed_a', 0xc), STACK + 0x100n), { read: memory.read, symbols, vaBits: 48 }).frames;
  assert.deepEqual(
    frames.map((f) => `${f.kind} ${frameName(f, symbols)}`),
    ['top framed_a+0xc', 'call el1h_64_irq+0x68', 'exception framed_b+0xc', 'call framed_c+0x24'],
  );
});

test('the walk ends at user space, which is one frame', () => {
  for (const [offset, type] of [
    [0x130n, 0n],
    [0x128n, 1n],
  ]) {
    const { memory, symbols, at } = world();
    const regs = STACK + 0x400n;
    record(memory, STACK + 0x100n, regs + offset, at('el0t_64_sync', 0x190));
    record(memory, regs + offset, 0n, 0n).word(regs + offset + 16n, type);
    saveRegisters(memory, regs, { fp: 0n, lr: 0n, sp: 0x7fff_f000n, pc: 0x40_1234n, pstate: 0x6000_0000n });
    const frames = unwind(registers(at('framed_a', 0xc), STACK + 0x100n), { read: memory.read, symbols, vaBits: 48 }).frames;
    assert.deepEqual(
      frames.map((f) => f.kind),
      ['top', 'call', 'user'],
    );
    assert.equal(frames[2].pc, 0x40_1234n);
  }
});

test('records that go in circles, are unaligned or not mapped end the walk', () => {
  const { memory, at, walk } = world();
  record(memory, STACK + 0x100n, STACK + 0x200n, at('framed_b', 0x20));
  record(memory, STACK + 0x200n, STACK + 0x100n, at('framed_c', 0x20));
  assert.deepEqual(walk(at('framed_a', 0xc), STACK + 0x100n, 0n), ['framed_a+0xc', 'framed_b+0x20', 'framed_c+0x20']);
  assert.deepEqual(walk(at('framed_a', 0xc), STACK + 0x101n, 0n), ['framed_a+0xc']);
  assert.deepEqual(walk(at('framed_a', 0xc), 0xdead_0000n, 0n), ['framed_a+0xc']);
  assert.deepEqual(walk(0n, 0n, 0n), ['0x0000000000000000']);
});

test('any bytes on the stack give a stack of bounded length', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 512, maxLength: 512 }),
      fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
      fc.nat(500),
      (bytes, lr, at) => {
        const { symbols, memory, at: place } = world();
        const stack = new DataView(bytes.buffer, bytes.byteOffset, 512);
        for (let i = 0; i < 64; i++) {
          // Half of the words point back into the stack.
          const word = stack.getBigUint64(8 * i, true);
          memory.word(STACK + BigInt(8 * i), word & 1n ? STACK + (word & 0x1f8n) : word);
        }
        const frames = unwind(registers(place('framed_a', 8), STACK + BigInt(at & ~7), lr), {
          read: memory.read,
          symbols,
          vaBits: 48,
        }).frames;
        assert.ok(frames.length >= 1 && frames.length <= 256);
      },
    ),
    { numRuns: 500, seed: 1 },
  );
});

test('in the exception vectors, before anything is saved: the interrupted function is there, behind it its callers', () => {
  const { memory, symbols, at } = world();
  record(memory, STACK + 0x100n, 0n, at('framed_a', 0x10));
  const start = registers(at('vectors', 4), STACK + 0x100n, at('framed_b', 0x10), STACK + 0x80n);
  const names = (pstate: bigint) =>
    unwind({ ...start, exception: { pc: at('leaf', 8), pstate } }, { read: memory.read, symbols, vaBits: 48 }).frames.map((f) => [
      frameName(f, symbols),
      f.kind,
    ]);
  assert.deepEqual(names(0x5n), [
    ['vectors+0x4', 'top'],
    ['leaf+0x8', 'exception'],
    ['framed_b+0x10', 'call'],
    ['framed_a+0x10', 'call'],
  ]);
  assert.deepEqual(names(0x0n), [
    ['vectors+0x4', 'top'],
    ['leaf+0x8', 'user'],
  ]);
});

test('user space: by the link register of a wrapper that saves nothing, then by frame records, as long as those go up', () => {
  const { memory, symbols, at } = world();
  const user = USER;
  const top = USER + 0x400n;
  // What follows SVC: CMN x0, #4095; RET.
  memory.code(user, 0xb13ffc1f, 0xd65f03c0, ...new Array<number>(30).fill(0xd503201f));
  const walk = (fp: bigint) => {
    const start = registers(at('vectors', 4), fp, user + 0x100n, top - 0x40n);
    const exception = { pc: user, pstate: 0n };
    const { frames, broken } = unwind(
      { ...start, exception },
      { read: memory.read, symbols, vaBits: 48, process: () => undefined },
    );
    return [frames.slice(1).map((f) => [f.pc, f.kind, f.how]), broken];
  };
  record(memory, top, top + 0x20n, user + 0x200n);
  record(memory, top + 0x20n, 0n, user + 0x300n);
  assert.deepEqual(walk(top), [
    [
      [user, 'user', 'exception registers'],
      [user + 0x100n, 'user call', 'link register'],
      [user + 0x200n, 'user call', 'frame record'],
      [user + 0x300n, 'user call', 'frame record'],
    ],
    undefined,
  ]);
  record(memory, top + 0x20n, top, user + 0x300n);
  assert.match(walk(top)[1] as string, /^the frame records of user space go back from 0x0000000000400420 to 0x0000000000400400$/);
  assert.match(walk(0x12340n)[1] as string, /^the frame record of user space at 0x0000000000012340 cannot be read$/);
});
