/**
 * A bare CPU for instruction vectors: a program of a few words and a window of memory, mapped at the virtual addresses the
 * vectors were recorded at, run at EL0 without a kernel. Exceptions are seen instead of taken.
 */
import { Clock } from '../base/clock.ts';
import { Trace } from '../base/trace.ts';
import { Bus } from '../memory/bus.ts';
import { PAGE, Ram } from '../memory/ram.ts';
import { Cpu } from './cpu.ts';
import type { Feature } from './features.ts';
import { BELOW_RAM } from './layout.ts';
import { modelOf } from './models.ts';
import { refreshPointerAuthentication } from './pointer-authentication.ts';
import { cellOf, refresh } from './sysregs.ts';
import { PSTATE, RUNNING, VP, type VpState } from './vp-state.ts';

export interface VectorMachineOptions {
  /** CPU model, a name of models.ts. */
  model: string;
  codeBase: bigint;
  /** Where the memory window is. */
  memBase: bigint;
  memSize: number;
}

export interface VectorResult {
  /** '' when the program ran to its end, else what stopped it: `undef`, `data-abort`, `too many instructions` ... */
  exception: string;
  /** After the last word, or at the instruction of the exception. */
  pc: bigint;
  /** All of `VECTOR_REGISTERS`. */
  registers: Record<string, bigint>;
  memory: Uint8Array;
}

/** x0..x30, sp, nzcv (in bits 31:28), fpcr, fpsr, v0..v31: what a vector starts from and ends with. */
export const VECTOR_REGISTERS: readonly string[] = [
  ...Array.from({ length: 31 }, (_, i) => `x${i}`),
  'sp',
  'nzcv',
  'fpcr',
  'fpsr',
  ...Array.from({ length: 32 }, (_, i) => `v${i}`),
];

/** Most words of a program, and most instructions it may execute. */
export const MAX_PROGRAM = 4096;
const MAX_INSTRUCTIONS = 1_000_000;

/** Page descriptors (Arm ARM D8.3.1): valid page, AP EL0 read/write, inner shareable, accessed, MAIR attribute 0. */
const PAGE_DESCRIPTOR = 0x3n | (1n << 6n) | (3n << 8n) | (1n << 10n);
const NO_EXECUTION = 3n << 53n;
const TABLE_DESCRIPTOR = 0x3n;

/** BRK #0, which ends a program. */
const END = 0xd4200000;

const NO_DEVICE = { read: (): bigint => 0n, write: (): void => {} };

export class VectorMachine {
  readonly features: ReadonlySet<string>;
  readonly #ram = new Ram(64 * PAGE, BELOW_RAM);
  readonly #cpu: Cpu;
  readonly #vp: VpState;
  readonly #codeBase: bigint;
  readonly #code: number;
  readonly #memory: number;
  readonly #memSize: number;
  /** The next free page; page 0 is the root of the page tables. */
  #nextPage = PAGE;

  constructor({ model, codeBase, memBase, memSize }: VectorMachineOptions) {
    const clock = new Clock();
    const trace = new Trace();
    const features = new Set(modelOf(model).features);
    this.features = features;
    this.#cpu = new Cpu({
      bus: new Bus(this.#ram, trace),
      clock,
      trace,
      features,
      model,
      vpCount: 1,
      gic: NO_DEVICE,
      timer: NO_DEVICE,
    });
    this.#cpu.onException = () => true;
    this.#cpu.reset(0, codeBase);
    this.#vp = this.#cpu.vps[0];
    this.#codeBase = codeBase;
    this.#memSize = memSize;
    this.#code = this.#map(codeBase, (MAX_PROGRAM + 1) * 4, PAGE_DESCRIPTOR);
    this.#memory = this.#map(memBase, memSize, PAGE_DESCRIPTOR | NO_EXECUTION);
    this.#enterUserMode(features);
  }

  /** What Linux sets up for a process: MMU on, tags of low addresses ignored, FP and cache maintenance not trapped. */
  #enterUserMode(features: ReadonlySet<Feature>): void {
    const vp = this.#vp;
    const set = (name: string, value: bigint): void => vp.setU64(cellOf(name), value);
    // TCR_EL1 (D19.2.142): T0SZ 16, EPD1, 40-bit IPS, TBI0.
    set('TCR_EL1', 16n | (1n << 23n) | (2n << 32n) | (1n << 37n));
    set('TTBR0_EL1', 0n);
    set('MAIR_EL1', 0xffn);
    set('CPACR_EL1', 3n << 20n);
    // SCTLR_EL1 (D19.2.118): M, C, I, DZE, UCT, nTWI, nTWE, UCI.
    vp.setU64(cellOf('SCTLR_EL1'), vp.u64(cellOf('SCTLR_EL1')) | 0x405d005n);
    vp.setU32(VP.PSTATE, PSTATE.EL0T);
    refresh(vp);
    refreshPointerAuthentication(vp, features, vp.u64(cellOf('SCTLR_EL1')), vp.u64(cellOf('TCR_EL1')));
    this.#cpu.stateChanged();
  }

  #allocate(): number {
    const at = this.#nextPage;
    this.#nextPage += PAGE;
    if (this.#nextPage > this.#ram.size) throw new Error('the vector machine has no more pages');
    return at;
  }

  /** Maps [va, va + size), four levels of 4 KiB tables, to consecutive pages; the result is the physical address of `va`. */
  #map(va: bigint, size: number, attributes: bigint): number {
    const first = va & ~0xfffn;
    const pages = Number((va - first + BigInt(size) + 0xfffn) >> 12n);
    const tables: number[] = [];
    for (let i = 0; i < pages; i++) tables.push(this.#leafTable(first + BigInt(i * PAGE)));
    const frames = tables.map(() => this.#allocate());
    tables.forEach((table, i) => {
      const index = Number(((first >> 12n) + BigInt(i)) & 511n);
      this.#ram.view.setBigUint64(table + 8 * index, BigInt(frames[i]) | attributes, true);
    });
    return frames[0] + Number(va - first);
  }

  /** The last-level table for `va`, made where it is missing. */
  #leafTable(va: bigint): number {
    let table = 0;
    for (const shift of [39n, 30n, 21n]) {
      const at = table + 8 * Number((va >> shift) & 511n);
      if (!this.#ram.view.getBigUint64(at, true))
        this.#ram.view.setBigUint64(at, BigInt(this.#allocate()) | TABLE_DESCRIPTOR, true);
      table = Number(this.#ram.view.getBigUint64(at, true) & ~0xfffn);
    }
    return table;
  }

  /** Runs `code` from the state given (`VECTOR_REGISTERS`, and `memSize` bytes of memory). */
  run(code: readonly number[], registers: Readonly<Record<string, bigint>>, memory: Uint8Array): VectorResult {
    if (code.length > MAX_PROGRAM) throw new RangeError(`a program of ${code.length} words`);
    const vp = this.#vp;
    const words = new DataView(new ArrayBuffer(4 * (code.length + 1)));
    for (const [i, word] of [...code, END].entries()) words.setUint32(4 * i, word, true);
    this.#ram.write(this.#code, new Uint8Array(words.buffer));
    this.#ram.write(this.#memory, memory);
    vp.setU32(VP.PSTATE, PSTATE.EL0T);
    vp.setU32(VP.EXCL_SIZE, 0);
    vp.setU32(VP.EVENT, 0);
    refresh(vp);
    for (const name of VECTOR_REGISTERS) this.#set(name, registers[name]);
    vp.pc = this.#codeBase;
    const stop = this.#run();
    const end = this.#codeBase + BigInt(4 * code.length);
    return {
      exception: stop === 'brk' && vp.pc === end ? '' : stop,
      pc: vp.pc,
      registers: Object.fromEntries(VECTOR_REGISTERS.map((name) => [name, this.#get(name)])),
      memory: this.#ram.read(this.#memory, this.#memSize),
    };
  }

  #run(): string {
    for (;;) {
      const exit = this.#cpu.run(0, MAX_INSTRUCTIONS);
      // Nothing else runs, so waiting for an event or interrupt ends at once.
      if (exit.kind === 'wfi' || exit.kind === 'wfe' || exit.kind === 'yield') this.#vp.setU32(VP.RUN_STATE, RUNNING);
      else return exit.kind === 'exception' ? exit.exception : exit.kind === 'budget' ? 'too many instructions' : exit.kind;
    }
  }

  #set(name: string, value: bigint): void {
    const vp = this.#vp;
    const n = Number(name.slice(1));
    if (name === 'sp') vp.sp = value;
    else if (name === 'nzcv') vp.nzcv = Number(value);
    else if (name === 'fpcr') vp.setU32(VP.FPCR, Number(value));
    else if (name === 'fpsr') vp.setU32(VP.FPSR, Number(value));
    else if (name[0] === 'x') vp.setX(n, value);
    else vp.setV(n, value);
  }

  #get(name: string): bigint {
    const vp = this.#vp;
    const n = Number(name.slice(1));
    if (name === 'sp') return vp.sp;
    if (name === 'nzcv') return BigInt(vp.nzcv);
    if (name === 'fpcr') return BigInt(vp.u32(VP.FPCR));
    if (name === 'fpsr') return BigInt(vp.u32(VP.FPSR));
    return name[0] === 'x' ? vp.x(n) : vp.v(n);
  }
}
