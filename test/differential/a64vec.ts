/**
 * Instruction vectors: reads files of format `a64vec-1` (gzip-compressed JSON Lines: a header with base states, then one vector
 * a line as differences from them) and judges an engine by them. Recorded from QEMU's user mode.
 */
import fs from 'node:fs';
import zlib from 'node:zlib';
import { ROWS } from '../../emulator/cpu/a64/index.ts';
import type { Cpu } from '../../emulator/cpu/cpu.ts';
import { FEATURES, type Feature } from '../../emulator/cpu/features.ts';
import type { Insn } from '../../emulator/cpu/insn.ts';
import { refreshPointerAuthentication } from '../../emulator/cpu/pointer-authentication.ts';
import { cellOf, refresh } from '../../emulator/cpu/sysregs.ts';
import { RUNNING, VP, VpState } from '../../emulator/cpu/vp-state.ts';
import { type Bench, type BenchOptions, bench, TABLES } from '../unit/cpu/engine-harness.ts';
import { Decoder, EvalMemory, evaluate } from './evaluate.ts';

type Hex = string;
/** Registers by name (`x0`, `sp`, `nzcv`, `fpcr`, `fpsr`, `v0`), hexadecimal. */
type Registers = Record<string, Hex>;

interface BaseState {
  x: Hex[];
  sp: Hex;
  nzcv: Hex;
  fpcr: Hex;
  fpsr: Hex;
  v: Hex[];
  mem: Hex;
}

export interface Vector {
  id: number;
  /** Class: `addsub-imm`, `mem-lse`, `seq-loop` ... */
  c: string;
  /** Least model that runs it: v8.0 Cortex-A57, v8.2 Neoverse N1, max; `undef`: UNDEFINED on all. */
  lvl: 'v8.0' | 'v8.2' | 'max' | 'undef';
  feat?: string;
  asm?: string;
  code: string;
  s: number;
  i: Registers;
  exc?: 'undef';
  pc?: Hex;
  o: Registers;
  m?: [number, Hex][];
}

/**
 * A state as bytes: X0..X30 and SP as in `VP`, PC, NZCV (bits 31:28), FPCR, FPSR, V0..V31, the memory window. Two states are
 * compared and copied as a whole; names matter only in messages.
 */
const IMAGE = { X: 0, SP: 0xf8, PC: 0x100, NZCV: 0x108, FPCR: 0x10c, FPSR: 0x110, V: 0x118, MEMORY: 0x318 } as const;
const GENERAL = IMAGE.PC;
const VECTORS = IMAGE.MEMORY - IMAGE.V;
type Image = Buffer;

export interface VectorFile {
  readonly codeBase: bigint;
  readonly memBase: bigint;
  readonly memSize: number;
  readonly states: readonly Image[];
  readonly vectors: readonly Vector[];
}

function putRegister(image: Image, name: string, hex: Hex): void {
  const n = Number(name.slice(1));
  if (name === 'nzcv' || name === 'fpcr' || name === 'fpsr')
    image.writeUInt32LE(Number.parseInt(hex, 16), name === 'nzcv' ? IMAGE.NZCV : name === 'fpcr' ? IMAGE.FPCR : IMAGE.FPSR);
  else if (name[0] === 'v') image.set(Buffer.from(hex.padStart(32, '0'), 'hex').reverse(), IMAGE.V + 16 * n);
  else image.set(Buffer.from(hex.padStart(16, '0'), 'hex').reverse(), name === 'sp' ? IMAGE.SP : IMAGE.X + 8 * n);
}

function imageOf({ x, v, mem, sp, nzcv, fpcr, fpsr }: BaseState, codeBase: bigint): Image {
  const image = Buffer.alloc(IMAGE.MEMORY + mem.length / 2);
  x.forEach((hex, i) => {
    putRegister(image, `x${i}`, hex);
  });
  v.forEach((hex, i) => {
    putRegister(image, `v${i}`, hex);
  });
  for (const [name, hex] of Object.entries({ sp, nzcv, fpcr, fpsr })) putRegister(image, name, hex);
  image.writeBigUInt64LE(codeBase, IMAGE.PC);
  image.set(Buffer.from(mem, 'hex'), IMAGE.MEMORY);
  return image;
}

export function loadVectors(file: string): VectorFile {
  const bytes = fs.readFileSync(file);
  const text = (bytes[0] === 0x1f ? zlib.gunzipSync(bytes) : bytes).toString('latin1');
  const [header, ...vectors] = text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  if (header?.format !== 'a64vec-1') throw new Error(`${file} is not an a64vec file`);
  const codeBase = BigInt(`0x${header.codeBase}`);
  return {
    codeBase,
    memBase: BigInt(`0x${header.memBase}`),
    memSize: header.memSize,
    states: header.states.map((state: BaseState) => imageOf(state, codeBase)),
    vectors,
  };
}

/** How a vector ended: '' at its end, else the exception, and everything that can be seen. */
export interface Result {
  exc: string;
  image: Image;
}

const words = (v: Vector): number[] => v.code.split(' ').map((w) => Number.parseInt(w, 16));

function initial(f: VectorFile, v: Vector): Image {
  const image = Buffer.from(f.states[v.s]);
  for (const name in v.i) putRegister(image, name, v.i[name]);
  return image;
}

/** What should come out. */
export function expected(f: VectorFile, v: Vector): Result {
  const image = initial(f, v);
  for (const name in v.o) putRegister(image, name, v.o[name]);
  for (const [at, bytes] of v.m ?? []) image.set(Buffer.from(bytes, 'hex'), IMAGE.MEMORY + at);
  const end = v.pc === undefined ? f.codeBase + 4n * BigInt(words(v).length) : BigInt(`0x${v.pc}`);
  image.writeBigUInt64LE(end, IMAGE.PC);
  return { exc: v.exc ?? '', image };
}

/** Runs a vector from its initial state to the end of its code or to an exception. */
export type Engine = (f: VectorFile, v: Vector) => Result;

const programOf = (v: Vector): Buffer => {
  const code = words(v);
  const program = Buffer.alloc(4 * code.length);
  for (const [i, w] of code.entries()) program.writeUInt32LE(w, 4 * i);
  return program;
};

function enter(vp: VpState, image: Image): void {
  const { bytes } = vp;
  bytes.set(image.subarray(0, GENERAL), VP.X);
  bytes.set(image.subarray(IMAGE.V, IMAGE.MEMORY), VP.V);
  vp.pc = image.readBigUInt64LE(IMAGE.PC);
  vp.nzcv = image.readUInt32LE(IMAGE.NZCV);
  vp.setU32(VP.FPCR, image.readUInt32LE(IMAGE.FPCR));
  vp.setU32(VP.FPSR, image.readUInt32LE(IMAGE.FPSR));
  vp.setU32(VP.EXCL_SIZE, 0);
  vp.setU32(VP.EVENT, 0);
}

function leave(vp: VpState, exc: string, memory: Uint8Array): Result {
  const image = Buffer.alloc(IMAGE.MEMORY + memory.length);
  const { bytes } = vp;
  image.set(bytes.subarray(VP.X, VP.X + GENERAL), IMAGE.X);
  image.writeBigUInt64LE(vp.pc, IMAGE.PC);
  image.writeUInt32LE(vp.nzcv, IMAGE.NZCV);
  image.writeUInt32LE(vp.u32(VP.FPCR), IMAGE.FPCR);
  image.writeUInt32LE(vp.u32(VP.FPSR), IMAGE.FPSR);
  image.set(bytes.subarray(VP.V, VP.V + VECTORS), IMAGE.V);
  image.set(memory, IMAGE.MEMORY);
  return { exc, image };
}

/** The evaluator as an engine. */
export function evaluator(rows: readonly Insn[] = ROWS, features: ReadonlySet<Feature> = new Set(FEATURES)): Engine {
  const decoder = new Decoder(rows, features);
  const vp = new VpState(0, new WebAssembly.Memory({ initial: 1 }));
  refreshPointerAuthentication(vp, features, 0n, TCR);
  const step = (word: number, memory: EvalMemory): string => {
    const decoded = decoder.decode(word);
    if (!decoded) return 'undef';
    const outcome = evaluate(decoded.ir, decoded.raw, vp, memory);
    switch (outcome.kind) {
      case 'next':
        vp.pc += 4n;
        return '';
      case 'jump':
        vp.pc = outcome.pc;
        return '';
      case 'exit':
        if (!GOES_ON.has(outcome.exit) && outcome.exit !== 'sev') return outcome.exit;
        vp.pc += 4n;
        return '';
      case 'fault':
        return `fault at ${outcome.address.toString(16)}`;
    }
  };
  return (f, v) => {
    const image = initial(f, v);
    const program = programOf(v);
    enter(vp, image);
    vp.setU32(VP.FP_ENABLED, 1);
    const bytes = image.subarray(IMAGE.MEMORY);
    const memory = new EvalMemory([
      { base: f.memBase, bytes },
      { base: f.codeBase, bytes: program },
    ]);
    let exc = '';
    for (let steps = 0; !exc && vp.pc !== f.codeBase + BigInt(program.length); steps++) {
      const at = Number(vp.pc - f.codeBase);
      if (at < 0 || at >= program.length || steps > 100_000) exc = `ran away to ${vp.pc.toString(16)}`;
      else exc = step(program.readUInt32LE(at), memory);
    }
    return leave(vp, exc, bytes);
  };
}

/** TCR_EL1 as Linux has it for a process: T0SZ and T1SZ 16, 48-bit IPS, TBI0. */
const TCR = 16n | (16n << 16n) | (5n << 32n) | (1n << 37n);
/** SCTLR_EL1.DZE, UCT, nTWI, nTWE, UCI: what EL0 may do. */
const USER_CONTROL = (1n << 14n) | (1n << 15n) | (1n << 16n) | (1n << 18n) | (1n << 26n);
const ROOT = TABLES + 0x1000;

/** A bench at EL0 with 48-bit addresses, as the vectors assume. */
function userBench(options: BenchOptions): Bench {
  const b = bench({ el: 0, ...options });
  const [vp] = b.cpu.vps;
  b.ram.view.setBigUint64(ROOT, BigInt(TABLES) | 3n, true);
  const control = vp.u64(cellOf('SCTLR_EL1')) | USER_CONTROL;
  vp.setU64(cellOf('SCTLR_EL1'), control);
  vp.setU64(cellOf('TCR_EL1'), TCR);
  vp.setU64(cellOf('TTBR0_EL1'), BigInt(ROOT));
  refresh(vp);
  refreshPointerAuthentication(vp, b.ports.features, control, TCR);
  b.cpu.stateChanged();
  return b;
}

/** Exits after which a CPU that is alone goes on with the next instruction. */
const GOES_ON = new Set(['budget', 'yield', 'wfi', 'wfe']);

/** The bench's page tables put virtual 1 GiB, where code and data of the vectors are, at physical 0. */
const physical = (va: bigint): number => Number(va & 0x3fffffffn);
const BRK = Buffer.from([0x00, 0x00, 0x20, 0xd4]);
/** B .+4 */
const B_NEXT = Buffer.from([0x01, 0x00, 0x00, 0x14]);

/** The CPU as an engine, at EL0 with its MMU on. `slice`: most instructions of one `run`; small ones take the exact loop. */
export const cpu = (rows: readonly Insn[] | undefined, slice: number): Engine =>
  onBench(userBench({ rows, options: { engine: 'interpreter' } }), slice, false);

/** The same with everything translated that a branch goes to: the first instruction of every vector, if a region can have it. */
export function translated(): { run: Engine; cpu: Cpu; entered: () => number } {
  const b = userBench({ options: { engine: 'auto', threshold: 0 } });
  const run = onBench(b, 4000, true);
  let entered = 0;
  return {
    cpu: b.cpu,
    /** Vectors of which some instruction was executed in a region. */
    entered: () => entered,
    run: (f, v) => {
      const before = b.cpu.translator?.executed;
      const result = run(f, v);
      if (b.cpu.translator?.executed !== before) entered++;
      return result;
    },
  };
}

/** `branch`: the program is entered by a branch in front of it. */
function onBench(b: Bench, slice: number, branch: boolean): Engine {
  const [vp] = b.cpu.vps;
  b.cpu.onException = () => true;
  return (f, v) => {
    const image = initial(f, v);
    enter(vp, image);
    if (branch) vp.pc = f.codeBase - 4n;
    b.ram.write(physical(f.memBase), image.subarray(IMAGE.MEMORY));
    const program = programOf(v);
    b.ram.write(physical(f.codeBase) - 4, Buffer.concat([B_NEXT, program, BRK]));
    const end = f.codeBase + BigInt(program.length);
    let exit = b.cpu.run(0, slice);
    for (let left = 100_000; GOES_ON.has(exit.kind) && left > 0; left -= slice) {
      if (exit.kind === 'wfi' || exit.kind === 'wfe') vp.setU32(VP.RUN_STATE, RUNNING);
      exit = b.cpu.run(0, slice);
    }
    const what = exit.kind === 'exception' ? exit.exception : exit.kind;
    const exc = what === 'brk' && vp.pc === end ? '' : what;
    return leave(vp, exc, b.ram.read(physical(f.memBase), f.memSize));
  };
}

/** The fields of a state with their names: [name, offset, bytes]. */
function* fields(size: number): Generator<[string, number, number]> {
  for (let i = 0; i < 31; i++) yield [`x${i}`, IMAGE.X + 8 * i, 8];
  yield ['sp', IMAGE.SP, 8];
  yield ['pc', IMAGE.PC, 8];
  for (const name of ['NZCV', 'FPCR', 'FPSR'] as const) yield [name.toLowerCase(), IMAGE[name], 4];
  for (let i = 0; i < 32; i++) yield [`v${i}`, IMAGE.V + 16 * i, 16];
  for (let at = IMAGE.MEMORY; at < size; at += 16) yield [`memory+${at - IMAGE.MEMORY}`, at, Math.min(16, size - at)];
}

/** Registers, memory and exception in which `got` is not as `want`: for messages. */
export function differences(want: Result, got: Result): string[] {
  const out: string[] = [];
  if (want.exc !== got.exc) out.push(`exception: '${want.exc}' expected, '${got.exc}' got`);
  if (want.image.equals(got.image)) return out;
  for (const [name, at, size] of fields(want.image.length)) {
    // A register is written as a number, memory as its bytes.
    const text = (image: Image): string => {
      const bytes = Buffer.from(image.subarray(at, at + size));
      return (at < IMAGE.MEMORY ? bytes.reverse() : bytes).toString('hex');
    };
    if (text(want.image) !== text(got.image)) out.push(`${name}: ${text(want.image)} expected, ${text(got.image)} got`);
  }
  return out;
}

/** What goes wrong with `engine` on these vectors, a line each; none: all passed. */
export function failures(f: VectorFile, vectors: readonly Vector[], engine: Engine): string[] {
  return vectors.flatMap((v) => {
    const wrong = differences(expected(f, v), engine(f, v));
    return wrong.length ? [`#${v.id} ${v.c} ${v.lvl} ${v.asm ?? ''} [${v.code}] ${wrong.join('; ')}`] : [];
  });
}
