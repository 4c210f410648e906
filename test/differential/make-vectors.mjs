// Records the instruction vectors in `vectors/`. Needed only to make new ones; the tests read the files.
//
//   node test/differential/make-vectors.mjs sample --tools DIR --qemu QEMU --xqemu NEWER
//   node test/differential/make-vectors.mjs extra --tools DIR --qemu NEWER
//
// `--tools` is the folder of the a64vec generator (gen.mjs, lib.mjs, runner.c). It wants an AArch64 cross compiler; `--qemu` and
// `--xqemu` are `qemu-aarch64` programs. `sample` runs the generator over five seeds; vectors on which the two programs disagree
// are not recorded. QEMU 7.2 executes reserved half-precision words that QEMU 10 finds UNDEFINED, as the Arm ARM says (C4.1.95); QEMU
// 10 in turn finds fields UNDEFINED that only should be one, such as Rs of LDAR, where the Arm ARM allows that and what 7.2 does.
// `extra` records what the generator has not got: classes below. It needs QEMU 10 or newer.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';
import zlib from 'node:zlib';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tools: { type: 'string' },
    qemu: { type: 'string', default: 'qemu-aarch64' },
    xqemu: { type: 'string' },
    out: { type: 'string', default: path.join(import.meta.dirname, 'vectors') },
  },
});
const [what] = positionals;
if (!options.tools || !['sample', 'extra'].includes(what)) {
  console.error('usage: make-vectors.mjs sample|extra --tools DIR [--qemu PROGRAM] [--xqemu PROGRAM] [--out DIR]');
  process.exit(2);
}
const tool = (name) => path.join(options.tools, name);
const lib = await import(pathToFileURL(tool('lib.mjs')).href);

const SEEDS = ['sample-1', 'sample-2', 'sample-3', 'sample-4', 'sample-5'];

function sample() {
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'make-vectors-'));
  for (const seed of SEEDS) {
    const file = path.join(work, 'all.jsonl.gz');
    const args = ['--seed', seed, '--n', '10200', '--bases', '8', '--seqfrac', '0.12', '--qemu', options.qemu, '--out', file];
    if (options.xqemu) args.push('--xqemu', options.xqemu);
    const { status } = spawnSync(process.execPath, [tool('gen.mjs'), ...args], { stdio: 'inherit' });
    if (status !== 0) throw new Error(`gen.mjs ended with ${status}`);
    const [header, ...vectors] = zlib.gunzipSync(fs.readFileSync(file)).toString('latin1').split('\n').filter(Boolean);
    // Disassembly is a fifth of the file, and can be made from the words.
    const lines = vectors.map((line) => ({ ...JSON.parse(line), asm: undefined }));
    lib.saveVectors(path.join(options.out, `${seed}.jsonl.gz`), JSON.parse(header), lines);
  }
  fs.rmSync(work, { recursive: true });
}

// --- classes of our own ------------------------------------------------------------------------------------------------------

const r = new lib.Rng('extra');
const M64 = (1n << 64n) - 1n;
const { CODE_BASE, MEM_BASE, MEM_SIZE } = lib;

const integer = () =>
  r.pick([
    () => BigInt(r.n(16)),
    () => M64 - BigInt(r.n(16)),
    () => 1n << BigInt(r.n(64)),
    () => (1n << BigInt(r.n(64))) - 1n,
    () => r.u64(),
  ])();

/** A number of `e` exponent and `m` fraction bits, often where conversions to integers of 32 and 64 bits change. */
function float(e, m) {
  const bias = (1 << (e - 1)) - 1;
  const exponent = r.pick([
    () => bias + r.pick([-2, -1, 0, 1, 7, 8, 15, 16, 30, 31, 32, 33, 51, 52, 53, 61, 62, 63, 64, 65, 83, 84, 85, 90]),
    () => bias + r.n(100),
    () => r.pick([0, 0, 1, 2 * bias, 2 * bias + 1]),
    () => r.bits(e),
  ])();
  const mask = (1n << BigInt(m)) - 1n;
  const fraction = r.pick([() => 0n, () => mask, () => mask << BigInt(r.n(m)), () => 1n << BigInt(r.n(m)), () => r.u64()])();
  const top = (BigInt(r.n(2)) << BigInt(e)) | BigInt(Math.min(exponent, 2 * bias + 1));
  return (top << BigInt(m)) | (fraction & mask);
}
const FORMATS = { bf16: [16, 8, 7], half: [16, 5, 10], single: [32, 8, 23], double: [64, 11, 52] };
/** A vector register full of numbers of one format, or of bytes. */
function vector(kind) {
  const [bits, e, m] = FORMATS[kind] ?? [8];
  let v = 0n;
  for (let i = 0; i < 128; i += bits)
    v = (v << BigInt(bits)) | (e ? float(e, m) : BigInt(r.pick([0, 1, 0x7f, 0x80, 0xff, r.n(256)])));
  return v.toString(16).padStart(32, '0');
}

const hex = (v) => BigInt.asUintN(64, v).toString(16);
const FPCR_BITS = [22, 23, 24, 25, 26];
const fpcr = () => (r.p(0.4) ? 0 : FPCR_BITS.reduce((v, bit) => v | (r.p(0.3) ? 1 << bit : 0), 0)).toString(16);

/** An instruction of the fixed bits `base` on Vd, Vn, Vm: all get numbers of `kind`, the accumulator those of `sum`. */
function simd(base, kind, { sum = kind, rm = true, element = 0, q = true } = {}) {
  const [d, n, m] = [r.n(32), r.n(32), r.n(element ? 16 : 32)];
  const index = element ? (r.n(2) << 11) | (r.n(2) << 21) | (element > 1 ? r.n(2) << 20 : 0) : 0;
  const word = (base | (q ? r.n(2) << 30 : 0) | index | (rm ? m << 16 : 0) | (n << 5) | d) >>> 0;
  const i = { [`v${d}`]: vector(sum), [`v${n}`]: vector(kind), fpcr: fpcr() };
  if (rm) i[`v${(word >>> 16) & 31}`] = vector(kind);
  return { code: [word], i };
}
/** A scalar conversion or rounding of Vn, to Vd or Xd. */
const scalar = (base, kind) => simd(base, kind, { rm: false, q: false });

/** A window address at which `size` bytes, aligned or not, are in the window. */
const address = (size) => MEM_BASE + BigInt(r.n(MEM_SIZE - 2 * size));
/** An instruction whose only register, Xt, is this. */
function withX(base, value) {
  const t = r.n(31);
  return { code: [(base | t) >>> 0], i: { [`x${t}`]: hex(value) } };
}

/** Atomics, exclusives and ordered accesses of 2 to 8 bytes, not aligned but within 16 bytes: the words by size and registers. */
const UNALIGNED = [
  (size, n, t) => [(0x08dffc00 | (size << 30) | (n << 5) | t) >>> 0], // LDAR
  (size, n, t) => [(0x089ffc00 | (size << 30) | (n << 5) | t) >>> 0], // STLR
  (size, n, t) => [(0x38bfc000 | (size << 30) | (n << 5) | t) >>> 0], // LDAPR
  (size, n, t) => [(0x19000000 | (size << 30) | (r.n(2) << 22) | (n << 5) | t) >>> 0], // STLUR, LDAPUR
  (size, n, t, s) => [(0x38200000 | (size << 30) | (r.n(4) << 22) | (s << 16) | (r.n(8) << 12) | (n << 5) | t) >>> 0], // LDADD ...
  (size, n, t, s) => [(0x38208000 | (size << 30) | (r.n(4) << 22) | (s << 16) | (n << 5) | t) >>> 0], // SWP
  (size, n, t, s) => [(0x08a07c00 | (size << 30) | (r.n(2) << 22) | (s << 16) | (r.n(2) << 15) | (n << 5) | t) >>> 0], // CAS
  // LDXR, STXR
  (size, n, t, s) =>
    [0x085f7c00 | (n << 5) | t, 0x08007c00 | (s << 16) | (n << 5) | (t ^ 1)].map((w) => (w | (size << 30)) >>> 0),
];
function unaligned() {
  const size = 1 + r.n(3);
  const at = MEM_BASE + BigInt(16 * r.n(MEM_SIZE / 16) + r.n(17 - (1 << size)));
  const [n, t, s] = [r.n(10), 10 + r.n(10), 20 + r.n(10)];
  const code = r.pick(UNALIGNED)(size, n, t, s);
  return { code, i: { [`x${n}`]: hex(at), [`x${t}`]: hex(integer()), [`x${s}`]: hex(integer()) } };
}

/** MSR from Xa, MRS to Xb, and MSR with the value the runner needs afterwards. */
function roundTrip(register, restore) {
  const [a, b] = [r.n(15), 15 + r.n(15)];
  const code = [0xd5100000 | register | a, 0xd5300000 | register | b, ...restore].map((w) => w >>> 0);
  return { code, i: { [`x${a}`]: hex(integer()) } };
}
/** op0 is in the base word; bits 19 to 5 of the others. */
const sysreg = (op1, crn, crm, op2) => (1 << 19) | (op1 << 16) | (crn << 12) | (crm << 8) | (op2 << 5);
const DIT = sysreg(3, 4, 2, 5);
const SSBS = sysreg(3, 4, 2, 6);
const TPIDR_EL0 = sysreg(3, 13, 0, 2);
const msrImmediate = (op1, op2, value) => 0xd500401f | (op1 << 16) | (value << 8) | (op2 << 5);
const sys = (crm, op2) => 0xd50b7000 | (crm << 8) | (op2 << 5);

/** Name, how many, and a function that makes one: its words and initial registers. `system-` is what no row's semantics do. */
const CLASSES = [
  ['fjcvtzs', 250, () => scalar(0x1e7e0000, 'double')],
  ['frint-ts', 300, () => scalar(0x1e284000 | (r.n(4) << 15), 'single')],
  ['frint-ts', 300, () => scalar(0x1e684000 | (r.n(4) << 15), 'double')],
  ['bfcvt', 150, () => scalar(0x1e634000, 'single')],
  ['v-bfcvtn', 100, () => simd(0x0ea16800, 'single', { rm: false })],
  ['v-bfdot', 120, () => simd(0x2e40fc00, 'bf16', { sum: 'single' })],
  ['v-bfdot-elem', 120, () => simd(0x0f40f000, 'bf16', { sum: 'single', element: 2 })],
  ['v-bfmmla', 150, () => simd(0x6e40ec00, 'bf16', { sum: 'single', q: false })],
  ['v-bfmlal', 120, () => simd(0x2ec0fc00, 'bf16', { sum: 'single' })],
  ['v-bfmlal-elem', 120, () => simd(0x0fc0f000, 'bf16', { sum: 'single', element: 2 })],
  ['v-mmla', 200, () => simd(r.pick([0x4e80a400, 0x6e80a400, 0x4e80ac00]), 'bytes', { q: false })],
  ['v-usdot', 80, () => simd(0x0e809c00, 'bytes')],
  ['v-usdot-elem', 80, () => simd(r.pick([0x0f00f000, 0x0f80f000]), 'bytes', { element: 2 })],
  ['v-fmlal', 200, () => simd(r.pick([0x0e20ec00, 0x0ea0ec00, 0x2e20cc00, 0x2ea0cc00]), 'half', { sum: 'single' })],
  [
    'v-fmlal-elem',
    200,
    () => simd(r.pick([0x0f800000, 0x0f804000, 0x2f808000, 0x2f80c000]), 'half', { sum: 'single', element: 2 }),
  ],
  ['v-fcmla', 200, () => simd(0x2e40c400 | (r.n(4) << 11), 'half')],
  ['v-fcmla', 200, () => simd((r.pick([0x2e80c400, 0x6ec0c400]) | (r.n(4) << 11)) >>> 0, r.pick(['single', 'double']))],
  ['lse2', 600, unaligned],
  // BR, BLR and RET over an instruction. X16 and X17 are what linkers' veneers use.
  [
    'branch-register',
    120,
    () => {
      const n = r.pick([16, 17, r.n(31)]);
      const code = [r.pick([0xd61f0000, 0xd63f0000, 0xd65f0000]) | (n << 5), 0x91000400 | (n << 5) | n, 0xd503201f];
      return { code, i: { [`x${n}`]: hex(CODE_BASE + 8n) } };
    },
  ],
  // The hints that are none, or wait for nobody: not WFE and WFI, nor those that change X16, X17 or X30.
  [
    'hint',
    100,
    () => ({
      code: [0xd503201f | (r.pick([0, 1, 4, 5, 6, 16, 17, 18, 20, 21, 22, 32, 34, 36, 38, 48, 63, 96, 127]) << 5)],
      i: {},
    }),
  ],
  ['system-sb', 4, () => ({ code: [0xd50330ff], i: {} })],
  ['system-dit', 40, () => roundTrip(DIT, [msrImmediate(3, 2, 0)])],
  ['system-dit', 10, () => ({ code: [msrImmediate(3, 2, r.n(16)), 0xd5300000 | DIT | r.n(30), msrImmediate(3, 2, 0)], i: {} })],
  ['system-ssbs', 40, () => roundTrip(SSBS, [msrImmediate(3, 1, 0)])],
  ['system-ssbs', 10, () => ({ code: [msrImmediate(3, 1, r.n(16)), 0xd5300000 | SSBS | r.n(30), msrImmediate(3, 1, 0)], i: {} })],
  ['system-tpidr', 40, () => roundTrip(TPIDR_EL0, [])],
  // DC CVAU, CVAC, CIVAC, CVAP, CVADP; IC IVAU
  ['system-cache', 60, () => withX(r.pick([sys(11, 1), sys(10, 1), sys(14, 1), sys(12, 1), sys(13, 1), sys(5, 1)]), address(64))],
  // WFET, WFIT: until then or earlier.
  ['system-wfxt', 20, () => withX(0xd5031000 | (r.n(2) << 5), integer())],
  // XPACI, XPACD, XPACLRI
  ['xpac', 100, () => withX(0xdac143e0 | (r.n(2) << 10), integer())],
  ['xpac', 20, () => ({ code: [0xd50320ff], i: { x30: hex(integer()) } })],
];
/** Zeroing is of 64 bytes on these models, as with us; `max` has larger blocks. */
const ZVA_CLASS = ['system-zva', 120, () => withX(sys(4, 1), address(64))];

function record(cases, cpu) {
  return lib.runBatch(cases, { qemu: options.qemu, cpu, runner: lib.ensureRunner() });
}

function extra() {
  const version = spawnSync(options.qemu, ['--version'], { encoding: 'utf8' }).stdout.split('\n')[0];
  const bases = Array.from({ length: 4 }, () => {
    const s = lib.newState();
    for (let k = 0; k < 31; k++) s.x[k] = integer();
    s.sp = MEM_BASE + 512n;
    s.nzcv = (r.n(16) << 28) >>> 0;
    for (let k = 0; k < 32; k++) lib.vSet(s.v, k, vector(r.pick(['bytes', 'half', 'single', 'double'])));
    for (let k = 0; k < MEM_SIZE; k++) s.mem[k] = r.n(256);
    return s;
  });
  const lines = [];
  const counts = {};
  const add = (classes, cpu, accepts) => {
    const cases = classes.flatMap(([c, n, make]) =>
      Array.from({ length: n }, () => {
        const s = r.n(bases.length);
        const { code, i } = make();
        return { id: 0, c, s, code: code.map((w) => w >>> 0), i, init: lib.applyDiff(lib.cloneState(bases[s]), i, []) };
      }),
    );
    record(cases, cpu).forEach(({ sig, fin }, k) => {
      const { c, s, code, i, init } = cases[k];
      if (!accepts(sig)) {
        counts[`${c}: signal ${sig}`] = (counts[`${c}: signal ${sig}`] ?? 0) + 1;
        return;
      }
      counts[c] = (counts[c] ?? 0) + 1;
      const { o, m } = lib.diffState(init, fin);
      const line = {
        id: lines.length,
        c,
        lvl: sig ? 'undef' : 'max',
        code: code.map((w) => w.toString(16).padStart(8, '0')).join(' '),
      };
      Object.assign(line, { s, i }, sig ? { exc: 'undef', pc: fin.pc.toString(16) } : {}, { o }, m.length ? { m } : {});
      lines.push(line);
    });
  };
  const runs = (sig) => sig === 0;
  add(CLASSES, 'max', runs);
  add([ZVA_CLASS], 'neoverse-n1', runs);
  const header = { format: 'a64vec-1', seed: 'extra', count: lines.length, oracle: [version], models: ['max'] };
  Object.assign(header, { codeBase: CODE_BASE.toString(16), memBase: MEM_BASE.toString(16), memSize: MEM_SIZE });
  lib.saveVectors(path.join(options.out, 'extra.jsonl.gz'), { ...header, states: bases.map(lib.packBase) }, lines);
  console.error(counts);
}

({ sample, extra })[what]();
