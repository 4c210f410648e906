import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DwarfError } from '../../../debug-adapter/symbols/dwarf/reader.ts';
import { compute, DW_OP, locate, type Surroundings } from '../../../debug-adapter/symbols/dwarf/location.ts';
import type { Unit } from '../../../debug-adapter/symbols/dwarf/unit.ts';

/** A unit with nothing in it: operations that refer to DIEs find none. */
const unit = {
  where: 'test: .debug_info',
  offset: 0,
  offsetSize: 4,
  version: 5,
  fail: (offset: number, fact: string) => new DwarfError(`test: .debug_info+0x${offset.toString(16)}: ${fact}`),
  die: () => {
    throw new DwarfError('no DIE');
  },
  addressPair: (index: number) => ({ low: 0x1000 + index, high: 0xffff8000 }),
  file: {
    unitAt: () => {
      throw new DwarfError('no unit');
    },
  },
} as unknown as Unit;

const around: Surroundings = {
  register: (n) => (n === 31 ? 0xffff_8000_0000_1000n : n < 31 ? BigInt(n) * 0x10n : undefined),
  read: (address, size) =>
    address >= 0x100n && address < 0x1000n ? Uint8Array.from({ length: size }, (_, i) => Number(address & 0xffn) + i) : undefined,
  address: (linked) => linked + 0x1_0000n,
  frameBase: () => 0x200n,
  cfa: () => 0x300n,
  entryValue: (e) => (e.length === 1 && e[0] === DW_OP.reg0 ? 0x77n : undefined),
  threadLocal: (offset) => 0x5000n + offset,
};
const M1 = (1n << 64n) - 1n;

test('operations of DWARF 5 §2.5 leave what they should', () => {
  const cases: [number[], bigint | undefined][] = [
    [[DW_OP.lit0 + 31], 31n],
    [[DW_OP.const1s, 0xff], M1],
    [[DW_OP.const2u, 0x34, 0x12], 0x1234n],
    [[DW_OP.const4s, 0xfe, 0xff, 0xff, 0xff], M1 - 1n],
    [[DW_OP.constu, 0xe5, 0x8e, 0x26], 624485n],
    [[DW_OP.consts, 0x80, 0x7f], M1 - 127n],
    [[DW_OP.addr, 0, 0x10, 0, 0, 0, 0, 0, 0], 0x1_1000n],
    [[DW_OP.addrx, 4], 0xffff_8000_0001_1004n],
    [[DW_OP.constx, 4], 0xffff_8000_0000_1004n],
    [[DW_OP.breg0 + 3, 0x7f], 0x2fn],
    [[DW_OP.bregx, 31, 0x10], 0xffff_8000_0000_1010n],
    [[DW_OP.fbreg, 0x78], 0x1f8n],
    [[DW_OP.call_frame_cfa, DW_OP.lit0 + 8, DW_OP.minus], 0x2f8n],
    [[DW_OP.reg0 + 5], 0x50n],
    [[DW_OP.lit0 + 1, DW_OP.lit0 + 2, DW_OP.dup, DW_OP.plus, DW_OP.plus], 5n],
    [[DW_OP.lit0 + 1, DW_OP.lit0 + 2, DW_OP.over, DW_OP.minus], 1n],
    [[DW_OP.lit0 + 7, DW_OP.lit0 + 2, DW_OP.swap, DW_OP.minus], M1 - 4n],
    [[DW_OP.lit0 + 1, DW_OP.lit0 + 2, DW_OP.lit0 + 3, DW_OP.rot], 2n],
    [[DW_OP.lit0 + 1, DW_OP.lit0 + 2, DW_OP.lit0 + 3, DW_OP.rot, DW_OP.drop, DW_OP.drop], 3n],
    [[DW_OP.lit0 + 9, DW_OP.lit0 + 2, DW_OP.lit0 + 3, DW_OP.pick, 2], 9n],
    [[DW_OP.const1s, 0xf9, DW_OP.lit0 + 2, DW_OP.div], M1 - 2n],
    [[DW_OP.lit0 + 9, DW_OP.lit0 + 4, DW_OP.mod], 1n],
    [[DW_OP.lit0 + 9, DW_OP.lit0 + 0, DW_OP.div], undefined],
    [[DW_OP.const1s, 0xff, DW_OP.lit0 + 4, DW_OP.shr], M1 >> 4n],
    [[DW_OP.const1s, 0xf0, DW_OP.lit0 + 2, DW_OP.shra], M1 - 3n],
    [[DW_OP.lit0 + 1, DW_OP.const1u, 64, DW_OP.shl], 0n],
    [[DW_OP.const1s, 0xff, DW_OP.lit0, DW_OP.lt], 1n],
    [[DW_OP.lit0 + 5, DW_OP.neg, DW_OP.abs], 5n],
    [[DW_OP.lit0 + 5, DW_OP.not], M1 - 5n],
    [[DW_OP.lit0 + 5, DW_OP.plus_uconst, 0x80, 1], 133n],
    // bra over a literal; skip to the end.
    [[DW_OP.lit0 + 1, DW_OP.lit0 + 1, DW_OP.bra, 1, 0, DW_OP.drop, DW_OP.lit0 + 6, DW_OP.skip, 1, 0, DW_OP.drop], 6n],
    [[DW_OP.const2u, 0, 1, DW_OP.deref_size, 2], 0x0100n],
    [[DW_OP.const2u, 0, 1, DW_OP.deref], 0x0706050403020100n],
    [[DW_OP.lit0, DW_OP.deref], undefined],
    [[DW_OP.entry_value, 1, DW_OP.reg0, DW_OP.lit0 + 1, DW_OP.plus, DW_OP.stack_value], 0x78n],
    [[DW_OP.GNU_entry_value, 1, DW_OP.reg0 + 1, DW_OP.stack_value], undefined],
    [[DW_OP.lit0 + 4, DW_OP.form_tls_address], 0x5004n],
    [[DW_OP.implicit_value, 2, 0x34, 0x12], 0x1234n],
  ];
  for (const [bytes, expected] of cases)
    assert.equal(compute(Uint8Array.from(bytes), unit, around), expected, bytes.map((b) => b.toString(16)).join(' '));
});

test('places: registers, memory, values, pieces, and nowhere', () => {
  const at = (...bytes: number[]) => locate(Uint8Array.from(bytes), unit, around);
  assert.deepEqual(at(DW_OP.reg0 + 19), { kind: 'register', register: 19 });
  assert.deepEqual(at(DW_OP.regx, 64), { kind: 'register', register: 64 });
  assert.deepEqual(at(DW_OP.fbreg, 0x10), { kind: 'memory', address: 0x210n });
  assert.deepEqual(at(), { kind: 'none' });
  assert.deepEqual(at(DW_OP.breg0 + 31, 0, DW_OP.deref), { kind: 'none' }, 'what it is in cannot be read');
  assert.deepEqual(at(DW_OP.lit0 + 2, DW_OP.stack_value), { kind: 'value', bytes: Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0) });
  assert.deepEqual(at(DW_OP.reg0, DW_OP.piece, 4, DW_OP.piece, 4, DW_OP.fbreg, 0, DW_OP.bit_piece, 7, 3), {
    kind: 'pieces',
    pieces: [
      { bits: 32, skip: 0, at: { kind: 'register', register: 0 } },
      { bits: 32, skip: 0, at: { kind: 'none' } },
      { bits: 7, skip: 3, at: { kind: 'memory', address: 0x200n } },
    ],
  });
});

test('what is no expression is told; loops and large stacks end', () => {
  const refused = (bytes: number[], fact: RegExp) =>
    assert.throws(
      () => compute(Uint8Array.from(bytes), unit, around),
      (e) => e instanceof DwarfError && fact.test(e.message),
    );
  refused([DW_OP.plus], /empty stack/);
  refused([0x01], /operation 0x1, which is not known/);
  refused([DW_OP.skip, 0xfd, 0xff], /more than \d+ steps/);
  refused([DW_OP.lit0, DW_OP.skip, 0xfc, 0xff], /fills its stack/);
  refused([DW_OP.skip, 0x40, 0], /jumps out of itself/);
  refused([DW_OP.const4u, 1], /4 bytes wanted/);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      try {
        locate(bytes, unit, around);
      } catch (e) {
        if (!(e instanceof DwarfError)) throw e;
      }
    }),
    { numRuns: 3000, seed: 8 },
  );
});
