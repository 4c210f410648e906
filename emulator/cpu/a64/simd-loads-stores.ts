/**
 * Loads and stores of SIMD and FP registers (Arm ARM C4.1.88, C4.1.89): single registers, pairs, literals, and the
 * structure loads and stores LD1-LD4, ST1-ST4, LD1R-LD4R. The D and Q forms with immediate offsets are what compilers
 * use (memcpy, register saves), so they alone live in the interpreter's loop.
 */
import type { Builder, I32, I64, V128 } from '../builder.ts';
import { type Insn, insn, type Operand, type Raw } from '../insn.ts';
import { bitselect, broadcastBytes, esize, lane, shuffle, vimm, writeV } from './simd.ts';

const COLD = { fp: true, cold: true } as const;
const signed = (v: number, width: number): number => (v << (32 - width)) >> (32 - width);

/** V[rt] := `1 << scale` bytes at `m` + offset, zero-extended. */
function loadReg(b: Builder, scale: number, rt: Operand, m: I32, offset = 0): void {
  if (scale < 2) b.setVLow(rt, b.load(scale === 0 ? 'i32.load8_u' : 'i32.load16_u', m, offset) as I32, scale === 0 ? 1 : 2);
  else b.setV(rt, b.load(['v128.load32_zero', 'v128.load64_zero', 'v128.load'][scale - 2], m, offset) as V128);
}
const INT_STORES = ['i32.store8', 'i32.store16', 'i32.store', 'i64.store'] as const;
/** The low `1 << scale` bytes of v to `m` + offset. */
function storeLow(b: Builder, scale: number, v: V128, m: I32, offset = 0): void {
  if (scale === 4) b.store('v128.store', m, v, offset);
  else b.store(INT_STORES[scale], m, b.op(scale === 3 ? 'i64x2.extract_lane' : 'i32x4.extract_lane', [v], [0]), offset);
}
function transfer(b: Builder, scale: number, l: number, rt: Operand, address: I64): void {
  const m = b.mem(address, 1 << scale, l ? 'r' : 'w');
  if (l) loadReg(b, scale, rt, m);
  else storeLow(b, scale, b.v(rt), m);
}

// --- single register -----------------------------------------------------------------------------------------------

/** opc<1>:size is the size: opc<1> only with size 00 (Q). */
const scaleOf = (f: Raw): number => (f.q << 2) | f.size;
const isSize = (f: Raw): boolean => f.q === 0 || f.size === 0;
const SINGLE = { fp: true, when: isSize, cold: (f: Raw) => scaleOf(f) < 3 } as const;

const single: Insn[] = [
  insn(
    'LDR_STR_simd',
    'size!:2 111 1 01 q! l! imm:12 rn:5 rt:5',
    (b, { size, q, l, rn, rt }) => {
      const scale = (q << 2) | size;
      transfer(
        b,
        scale,
        l,
        rt,
        b.add(
          b.xOrSP(rn),
          b.imm((f) => f.imm << scale),
        ),
      );
    },
    SINGLE,
  ),
  insn(
    'LDUR_STUR_simd',
    'size!:2 111 1 00 q! l! 0 imm:9 00 rn:5 rt:5',
    (b, { size, q, l, rn, rt }) =>
      transfer(
        b,
        (q << 2) | size,
        l,
        rt,
        b.add(
          b.xOrSP(rn),
          b.imm((f) => signed(f.imm, 9)),
        ),
      ),
    SINGLE,
  ),
  insn(
    'LDR_STR_simd_post',
    'size!:2 111 1 00 q! l! 0 imm:9 01 rn:5 rt:5',
    (b, { size, q, l, rn, rt }) => {
      const base = b.xOrSP(rn);
      transfer(b, (q << 2) | size, l, rt, base);
      b.setXOrSP(
        rn,
        b.add(
          base,
          b.imm((f) => signed(f.imm, 9)),
        ),
      );
    },
    SINGLE,
  ),
  insn(
    'LDR_STR_simd_pre',
    'size!:2 111 1 00 q! l! 0 imm:9 11 rn:5 rt:5',
    (b, { size, q, l, rn, rt }) => {
      const address = b.add(
        b.xOrSP(rn),
        b.imm((f) => signed(f.imm, 9)),
      );
      transfer(b, (q << 2) | size, l, rt, address);
      b.setXOrSP(rn, address);
    },
    SINGLE,
  ),
  // option: UXTW 010, LSL 011, SXTW 110, SXTX 111; S shifts by the size.
  insn(
    'LDR_STR_simd_reg',
    'size!:2 111 1 00 q! l! 1 rm:5 option!:3 s 10 rn:5 rt:5',
    (b, { size, q, l, rm, option, rn, rt }) => {
      const scale = (q << 2) | size;
      const offset = option & 1 ? b.x(rm) : option & 4 ? b.extS(b.x(rm, 0)) : b.extU(b.x(rm, 0));
      transfer(
        b,
        scale,
        l,
        rt,
        b.add(
          b.xOrSP(rn),
          b.shl(
            offset,
            b.imm((f) => (f.s ? scale : 0)),
          ),
        ),
      );
    },
    { ...COLD, when: (f) => isSize(f) && (f.option & 2) !== 0 },
  ),
  insn(
    'LDR_simd_literal',
    'opc!:2 011 1 00 imm:19 rt:5',
    (b, { opc, rt }) =>
      transfer(
        b,
        opc + 2,
        1,
        rt,
        b.add(
          b.pc(),
          b.imm((f) => signed(f.imm, 19) * 4),
        ),
      ),
    { ...COLD, when: (f) => f.opc < 3 },
  ),
];

// --- pairs -----------------------------------------------------------------------------------------------------------

function transferPair(b: Builder, scale: number, l: number, rt: Operand, rt2: Operand, address: I64): void {
  const m = b.mem(address, 2 << scale, l ? 'r' : 'w');
  [rt, rt2].forEach((r, k) => {
    if (l) loadReg(b, scale, r, m, k << scale);
    else storeLow(b, scale, b.v(r), m, k << scale);
  });
}
const PAIR = { fp: true, when: (f: Raw) => f.opc < 3, cold: (f: Raw) => f.opc === 0 } as const;
const pairOffset = (b: Builder, opc: number): I64 => b.imm((f) => signed(f.imm, 7) * (4 << opc));

const pairs: Insn[] = [
  insn(
    'LDNP_STNP_simd',
    'opc!:2 101 1 000 l! imm:7 rt2:5 rn:5 rt:5',
    (b, { opc, l, rt2, rn, rt }) => transferPair(b, opc + 2, l, rt, rt2, b.add(b.xOrSP(rn), pairOffset(b, opc))),
    { ...COLD, when: PAIR.when },
  ),
  insn(
    'LDP_STP_simd',
    'opc!:2 101 1 010 l! imm:7 rt2:5 rn:5 rt:5',
    (b, { opc, l, rt2, rn, rt }) => transferPair(b, opc + 2, l, rt, rt2, b.add(b.xOrSP(rn), pairOffset(b, opc))),
    PAIR,
  ),
  insn(
    'LDP_STP_simd_post',
    'opc!:2 101 1 001 l! imm:7 rt2:5 rn:5 rt:5',
    (b, { opc, l, rt2, rn, rt }) => {
      const base = b.xOrSP(rn);
      transferPair(b, opc + 2, l, rt, rt2, base);
      b.setXOrSP(rn, b.add(base, pairOffset(b, opc)));
    },
    PAIR,
  ),
  insn(
    'LDP_STP_simd_pre',
    'opc!:2 101 1 011 l! imm:7 rt2:5 rn:5 rt:5',
    (b, { opc, l, rt2, rn, rt }) => {
      const address = b.add(b.xOrSP(rn), pairOffset(b, opc));
      transferPair(b, opc + 2, l, rt, rt2, address);
      b.setXOrSP(rn, address);
    },
    PAIR,
  ),
];

// --- multiple structures -----------------------------------------------------------------------------------------------

/** Byte i of the result is byte `from[i]` of the concatenation of `sources` (any byte when that is negative). */
function gather(b: Builder, sources: readonly V128[], from: readonly number[]): V128 {
  let r = shuffle(
    b,
    sources[0],
    sources[1],
    from.map((at) => (at >= 0 && at < 32 ? at : 0)),
  );
  for (let k = 2; k < sources.length; k++)
    r = shuffle(
      b,
      r,
      sources[k],
      from.map((at, i) => (at >> 4 === k ? 16 + (at & 15) : i)),
    );
  return r;
}

/**
 * `count` registers of `bytes` bytes each from consecutive memory at `m`: one after the other (LD1), or, when `elements` is
 * not 1, element by element of `1 << size` bytes, a structure of as many registers at a time (LD2, LD3, LD4).
 */
function loadStructures(b: Builder, m: I32, rt: Operand, count: number, elements: number, size: number, bytes: number): void {
  const load = (at: number, whole: boolean) => b.load(whole ? 'v128.load' : 'v128.load64_zero', m, at) as V128;
  if (elements === 1) {
    for (let r = 0; r < count; r++) b.setV(rt, load(r * bytes, bytes === 16), r);
    return;
  }
  const total = count * bytes;
  const parts: V128[] = [];
  for (let at = 0; at < total; at += 16) parts.push(load(at, total - at >= 16));
  if (parts.length === 1) parts.push(parts[0]);
  const within = (1 << size) - 1;
  for (let r = 0; r < count; r++) {
    const from = Array.from({ length: 16 }, (_, i) => (i < bytes ? (((i >> size) * elements + r) << size) | (i & within) : -1));
    writeV(b, rt, gather(b, parts, from), 8 * bytes, r);
  }
}
/** The reverse (ST1 .. ST4). */
function storeStructures(b: Builder, m: I32, rt: Operand, count: number, elements: number, size: number, bytes: number): void {
  const regs = Array.from({ length: count }, (_, r) => b.v(rt, r));
  if (elements === 1) {
    for (let r = 0; r < count; r++) storeLow(b, bytes === 16 ? 4 : 3, regs[r], m, r * bytes);
    return;
  }
  const total = count * bytes;
  const within = (1 << size) - 1;
  for (let at = 0; at < total; at += 16) {
    const from = Array.from({ length: 16 }, (_, i) => {
      const element = (at + i) >> size;
      return at + i < total ? 16 * (element % elements) + (Math.floor(element / elements) << size) + (i & within) : -1;
    });
    storeLow(b, total - at >= 16 ? 4 : 3, gather(b, regs, from), m, at);
  }
}

/** opcode -> registers and elements of a structure. */
const MULTIPLE: readonly [name: string, opcode: string, count: number, elements: number][] = [
  ['4', '0000', 4, 4],
  ['1x4', '0010', 4, 1],
  ['3', '0100', 3, 3],
  ['1x3', '0110', 3, 1],
  ['1x1', '0111', 1, 1],
  ['2', '1000', 2, 2],
  ['1x2', '1010', 2, 1],
];

/** Post-index: Rm, or the bytes transferred when Rm is 31 (where reading X31 gives zero). */
const postIndexed = (b: Builder, base: I64, rm: Operand, bytes: (f: Raw) => number): I64 =>
  b.add(
    b.add(base, b.x(rm)),
    b.imm((f) => (f.rm === 31 ? bytes(f) : 0)),
  );

type Structure = '0 q! l! rm:5 size!:2 rn:5 rt:5';
const multiple = MULTIPLE.flatMap(([name, opcode, count, elements]) => {
  // One element per structure: its size makes no difference.
  const size = elements === 1 ? 'size:2' : 'size!:2';
  const row = (post: boolean) =>
    insn(
      `LD${name}_ST${name}${post ? '_post' : ''}`,
      `0 q! 001100 ${post ? '1' : '0'} l! 0 ${post ? 'rm:5' : '00000'} ${opcode} ${size} rn:5 rt:5` as Structure,
      (b, { q, l, rm, rn, rt }) => {
        const bytes = q ? 16 : 8;
        const base = b.xOrSP(rn);
        const m = b.mem(base, count * bytes, l ? 'r' : 'w');
        (l ? loadStructures : storeStructures)(b, m, rt, count, elements, elements === 1 ? 0 : b.statics.size, bytes);
        if (post)
          b.setXOrSP(
            rn,
            postIndexed(b, base, rm, () => count * bytes),
          );
      },
      { ...COLD, when: (f) => elements === 1 || f.size < 3 || f.q === 1 },
    );
  return [row(false), row(true)];
});

// --- single structures ---------------------------------------------------------------------------------------------------

/** opcode<2:1>, S and size for each element size; the lane's number is Q and the `lane` bits. */
const LANES: readonly [letter: string, opcode: string, tail: string][] = [
  ['b', '00', 'lane:3'],
  ['h', '01', 'lane:2 0'],
  ['s', '10', 'lane:1 00'],
  ['d', '10', '0 01'],
];
const laneNumber = (f: Raw, size: number): number => (size === 3 ? f.q : (f.q << (3 - size)) | f.lane);
const loadSplat = (b: Builder, size: number, m: I32, offset: number): V128 =>
  b.load(`v128.load${esize(size)}_splat`, m, offset) as V128;

type Lane = '0 q l! r! rm:5 o! rn:5 rt:5';
const oneLane = LANES.flatMap(([letter, opcode, tail], size) => {
  const row = (post: boolean) =>
    insn(
      `LDn_STn_lane_${letter}${post ? '_post' : ''}`,
      `0 q 001101 ${post ? '1' : '0'} l! r! ${post ? 'rm:5' : '00000'} ${opcode} o! ${tail} rn:5 rt:5` as Lane,
      (b, { l, r, o, rm, rn, rt }) => {
        const count = ((o << 1) | r) + 1;
        const base = b.xOrSP(rn);
        const m = b.mem(base, count << size, l ? 'r' : 'w');
        const mask = l
          ? vimm(b, (f) => ((1n << BigInt(esize(size))) - 1n) << BigInt(laneNumber(f, size) * esize(size)))
          : undefined;
        const bytes = b.imm((f) => BigInt.asIntN(64, broadcastBytes(size, laneNumber(f, size))));
        for (let k = 0; k < count; k++) {
          if (mask) b.setV(rt, bitselect(b, mask, loadSplat(b, size, m, k << size), b.v(rt, k)), k);
          else storeLow(b, size, lane(b, 0, 'swizzle', b.v(rt, k), b.vop('i64x2.splat', [bytes])), m, k << size);
        }
        if (post)
          b.setXOrSP(
            rn,
            postIndexed(b, base, rm, () => count << size),
          );
      },
      COLD,
    );
  return [row(false), row(true)];
});

const replicating = [false, true].map((post) =>
  insn(
    `LDnR${post ? '_post' : ''}`,
    `0 q! 001101 ${post ? '1' : '0'} 1 r! ${post ? 'rm:5' : '00000'} 11 o! 0 size!:2 rn:5 rt:5` as '0 q! r! rm:5 o! size!:2 rn:5 rt:5',
    (b, { q, r, o, size, rm, rn, rt }) => {
      const count = ((o << 1) | r) + 1;
      const base = b.xOrSP(rn);
      const m = b.mem(base, count << size, 'r');
      for (let k = 0; k < count; k++) writeV(b, rt, loadSplat(b, size, m, k << size), q ? 128 : 64, k);
      if (post)
        b.setXOrSP(
          rn,
          postIndexed(b, base, rm, () => count << size),
        );
    },
    COLD,
  ),
);

export const rows: Insn[] = [...single, ...pairs, ...multiple, ...oneLane, ...replicating];
