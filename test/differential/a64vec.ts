/**
 * Instruction vectors: reads files of format `a64vec-1` (gzip-compressed JSON Lines: a header with base states, then one vector
 * a line as differences from them) and judges an engine by them. Recorded from QEMU's user mode.
 */
import fs from 'node:fs';
import zlib from 'node:zlib';
import type { Cpu } from '../../emulator/cpu/cpu.ts';
import { FEATURES, type Feature } from '../../emulator/cpu/features.ts';
import type { Insn } from '../../emulator/cpu/insn.ts';
import { VP, VpState } from '../../emulator/cpu/vp-state.ts';
import { type Bench, bench } from '../unit/cpu/engine-harness.ts';
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

export interface VectorFile {
  readonly codeBase: bigint;
  readonly memBase: bigint;
  readonly memSize: number;
  readonly states: readonly BaseState[];
  readonly vectors: readonly Vector[];
}

export function loadVectors(file: string): VectorFile {
  const bytes = fs.readFileSync(file);
  const text = (bytes[0] === 0x1f ? zlib.gunzipSync(bytes) : bytes).toString('latin1');
  const [header, ...vectors] = text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  if (header.format !== 'a64vec-1') throw new Error(`${file} is not an a64vec file`);
  return {
    codeBase: BigInt(`0x${header.codeBase}`),
    memBase: BigInt(`0x${header.memBase}`),
    memSize: header.memSize,
    states: header.states,
    vectors,
  };
}

/** Everything a vector names, comparable by deepEqual and readable when it fails. */
export interface Result {
  exc: string;
  pc: Hex;
  registers: Registers;
  memory: Hex;
}

const words = (v: Vector): number[] => v.code.split(' ').map((w) => Number.parseInt(w, 16));

function initial(f: VectorFile, v: Vector): { registers: Registers; memory: Buffer } {
  const base = f.states[v.s];
  const registers: Registers = { sp: base.sp, nzcv: base.nzcv, fpcr: base.fpcr, fpsr: base.fpsr };
  base.x.forEach((x, i) => {
    registers[`x${i}`] = x;
  });
  base.v.forEach((x, i) => {
    registers[`v${i}`] = x;
  });
  return { registers: { ...registers, ...v.i }, memory: Buffer.from(base.mem, 'hex') };
}

const plain = (registers: Registers): Registers =>
  Object.fromEntries(Object.entries(registers).map(([k, v]) => [k, BigInt(`0x${v}`).toString(16)]));

/** What should come out. */
export function expected(f: VectorFile, v: Vector): Result {
  const { registers, memory } = initial(f, v);
  for (const [at, bytes] of v.m ?? []) memory.set(Buffer.from(bytes, 'hex'), at);
  const end = f.codeBase + 4n * BigInt(words(v).length);
  return {
    exc: v.exc ?? '',
    pc: v.exc ? v.pc! : end.toString(16),
    registers: plain({ ...registers, ...v.o }),
    memory: memory.toString('hex'),
  };
}

/** Runs a vector from its initial state to the end of its code or to an exception. */
export type Engine = (f: VectorFile, v: Vector) => Result;

const programOf = (v: Vector): Buffer => {
  const code = words(v);
  const program = Buffer.alloc(4 * code.length);
  for (const [i, w] of code.entries()) program.writeUInt32LE(w, 4 * i);
  return program;
};

function readBack(vp: VpState, names: Iterable<string>, exc: string, memory: Uint8Array): Result {
  const registers: Registers = {};
  for (const name of names) registers[name] = getRegister(vp, name).toString(16);
  return { exc, pc: vp.pc.toString(16), registers, memory: Buffer.from(memory).toString('hex') };
}

/** The evaluator as an engine. */
export function evaluator(rows: readonly Insn[], features: ReadonlySet<Feature> = new Set(FEATURES)): Engine {
  const decoder = new Decoder(rows, features);
  const step = (word: number, vp: VpState, memory: EvalMemory): string => {
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
        if (outcome.exit !== 'yield') return outcome.exit;
        vp.pc += 4n;
        return '';
      case 'fault':
        return `fault at ${outcome.address.toString(16)}`;
    }
  };
  return (f, v) => {
    const { registers, memory } = initial(f, v);
    const program = programOf(v);
    const vp = new VpState(0, new WebAssembly.Memory({ initial: 1 }));
    for (const [name, hex] of Object.entries(registers)) setRegister(vp, name, BigInt(`0x${hex}`));
    vp.pc = f.codeBase;
    vp.setU32(VP.FP_ENABLED, 1);
    const data = new EvalMemory([
      { base: f.memBase, bytes: memory },
      { base: f.codeBase, bytes: program },
    ]);
    let exc = '';
    for (let steps = 0; !exc && vp.pc !== f.codeBase + BigInt(program.length); steps++) {
      const at = Number(vp.pc - f.codeBase);
      if (at < 0 || at >= program.length || steps > 100_000) exc = `ran away to ${vp.pc.toString(16)}`;
      else exc = step(program.readUInt32LE(at), vp, data);
    }
    return readBack(vp, Object.keys(registers), exc, memory);
  };
}

/** The bench's page tables put virtual 1 GiB, where code and data of the vectors are, at physical 0. */
const physical = (va: bigint): number => Number(va & 0x3fffffffn);
const BRK = Buffer.from([0x00, 0x00, 0x20, 0xd4]);
/** B .+4 */
const B_NEXT = Buffer.from([0x01, 0x00, 0x00, 0x14]);

/** The CPU as an engine, at EL0 with its MMU on. `slice`: most instructions of one `run`; small ones take the exact loop. */
export const cpu = (rows: readonly Insn[] | undefined, slice: number): Engine => onBench(bench({ el: 0, rows }), slice, false);

/** The same with everything translated that a branch goes to. */
export function translated(): { run: Engine; cpu: Cpu } {
  const b = bench({ el: 0, options: { engine: 'auto', threshold: 0 } });
  return { run: onBench(b, 4000, true), cpu: b.cpu };
}

/** `branch`: the program is entered by a branch in front of it. */
function onBench(b: Bench, slice: number, branch: boolean): Engine {
  const [vp] = b.cpu.vps;
  b.cpu.onException = () => true;
  return (f, v) => {
    const { registers, memory } = initial(f, v);
    for (const [name, hex] of Object.entries(registers)) setRegister(vp, name, BigInt(`0x${hex}`));
    vp.pc = branch ? f.codeBase - 4n : f.codeBase;
    vp.setU32(VP.EXCL_SIZE, 0);
    b.ram.write(physical(f.memBase), memory);
    const program = programOf(v);
    b.ram.write(physical(f.codeBase), Buffer.concat([program, BRK]));
    if (branch) b.ram.write(physical(f.codeBase) - 4, B_NEXT);
    const end = f.codeBase + BigInt(program.length);
    let exit = b.cpu.run(0, slice);
    const goesOn = (): boolean => exit.kind === 'budget' || exit.kind === 'yield';
    for (let left = 100_000; goesOn() && left > 0; left -= slice) exit = b.cpu.run(0, slice);
    const what = exit.kind === 'exception' ? exit.exception : exit.kind;
    const exc = what === 'brk' && vp.pc === end ? '' : what;
    return readBack(vp, Object.keys(registers), exc, b.ram.read(physical(f.memBase), f.memSize));
  };
}

function setRegister(vp: VpState, name: string, v: bigint): void {
  const n = Number(name.slice(1));
  if (name === 'sp') vp.sp = v;
  else if (name === 'nzcv') vp.nzcv = Number(v);
  else if (name === 'fpcr') vp.setU32(VP.FPCR, Number(v));
  else if (name === 'fpsr') vp.setU32(VP.FPSR, Number(v));
  else if (name[0] === 'x') vp.setX(n, v);
  else vp.setV(n, v);
}
function getRegister(vp: VpState, name: string): bigint {
  const n = Number(name.slice(1));
  if (name === 'sp') return vp.sp;
  if (name === 'nzcv') return BigInt(vp.nzcv);
  if (name === 'fpcr') return BigInt(vp.u32(VP.FPCR));
  if (name === 'fpsr') return BigInt(vp.u32(VP.FPSR));
  return name[0] === 'x' ? vp.x(n) : vp.v(n);
}

/** Registers, memory and exception in which `got` is not as `want`: for messages. */
export function differences(want: Result, got: Result): string[] {
  const out: string[] = [];
  if (want.exc !== got.exc) out.push(`exception: '${want.exc}' expected, '${got.exc}' got`);
  if (want.pc !== got.pc) out.push(`pc: ${want.pc} expected, ${got.pc} got`);
  for (const k of Object.keys(want.registers)) {
    if (want.registers[k] !== got.registers[k]) out.push(`${k}: ${want.registers[k]} expected, ${got.registers[k]} got`);
  }
  if (want.memory !== got.memory) out.push(`memory: ${want.memory} expected, ${got.memory} got`);
  return out;
}

/** What goes wrong with `engine` on these vectors, a line each; none: all passed. */
export function failures(f: VectorFile, vectors: readonly Vector[], engine: Engine): string[] {
  return vectors.flatMap((v) => {
    const wrong = differences(expected(f, v), engine(f, v));
    return wrong.length ? [`#${v.id} ${v.c} ${v.lvl} ${v.asm ?? ''} [${v.code}] ${wrong.join('; ')}`] : [];
  });
}
