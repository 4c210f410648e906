/**
 * Tiny programs for several VPs: an assembler with labels, and the frame that starts all VPs (PSCI), turns the MMU on, runs the
 * body on each and powers off when all are done.
 */
import { DEFAULTS, type Machine, type MachineConfig } from '../../emulator/index.ts';
import { createMachine } from '../../emulator/load.ts';
import { addImm, bcond, hvc, ldr, movz } from './cpu/engine-asm.ts';

const w = (v: number): number => v >>> 0;

/** An instruction, a label, or an instruction that needs a label's distance. */
export type Item = number | string | { readonly to: string; readonly word: (offset: number) => number };

/** Condition codes (Arm ARM C1.2.4). */
export const COND = { EQ: 0, NE: 1, HS: 2, LO: 3 } as const;

export const mov = (rd: number, rm: number) => w(0xaa0003e0 | (rm << 16) | rd);
export const movk16 = (rd: number, imm: number) => w(0xf2a00000 | (imm << 5) | rd);
export const movz16 = (rd: number, imm: number) => w(0xd2a00000 | (imm << 5) | rd);
export const subImm = (rd: number, rn: number, imm: number) => w(0xd1000000 | (imm << 10) | (rn << 5) | rd);
export const cmp = (rn: number, rm: number) => w(0xeb00001f | (rm << 16) | (rn << 5));
export const eor = (rd: number, rn: number, rm: number) => w(0xca000000 | (rm << 16) | (rn << 5) | rd);
export const ldaxr = (rt: number, rn: number) => w(0xc85ffc00 | (rn << 5) | rt);
export const stlxr = (rs: number, rt: number, rn: number) => w(0xc800fc00 | (rs << 16) | (rn << 5) | rt);
export const ldar = (rt: number, rn: number) => w(0xc8dffc00 | (rn << 5) | rt);
export const stlr = (rt: number, rn: number) => w(0xc89ffc00 | (rn << 5) | rt);
/** LDADDAL, SWPAL, CASAL Xs, Xt, [Xn] */
export const ldadd = (rs: number, rt: number, rn: number) => w(0xf8e00000 | (rs << 16) | (rn << 5) | rt);
export const swp = (rs: number, rt: number, rn: number) => w(0xf8e08000 | (rs << 16) | (rn << 5) | rt);
export const cas = (rs: number, rt: number, rn: number) => w(0xc8e0fc00 | (rs << 16) | (rn << 5) | rt);
export const DMB = 0xd5033bbf;
export const ISB = 0xd5033fdf;
export const YIELD = 0xd503203f;
export const WFE = 0xd503205f;
export const WFI = 0xd503207f;
export const SEV = 0xd503209f;
export const SEVL = 0xd50320bf;
export const CLREX = 0xd5033f5f;
/** MSR, MRS of op0, op1, CRn, CRm, op2. */
type Encoding = readonly [number, number, number, number, number];
const system = ([op0, op1, crn, crm, op2]: Encoding): number => (op0 << 19) | (op1 << 16) | (crn << 12) | (crm << 8) | (op2 << 5);
export const msr = (r: Encoding, rt: number) => w(0xd5000000 | system(r) | rt);
export const mrs = (rt: number, r: Encoding) => w(0xd5200000 | system(r) | rt);
export const SYSREG = {
  SCTLR_EL1: [3, 0, 1, 0, 0],
  TTBR0_EL1: [3, 0, 2, 0, 0],
  TCR_EL1: [3, 0, 2, 0, 2],
  MAIR_EL1: [3, 0, 10, 2, 0],
  VBAR_EL1: [3, 0, 12, 0, 0],
  CNTKCTL_EL1: [3, 0, 14, 1, 0],
  CNTVCT_EL0: [3, 3, 14, 0, 2],
  CNTV_TVAL_EL0: [3, 3, 14, 3, 0],
  CNTV_CTL_EL0: [3, 3, 14, 3, 1],
  ICC_PMR_EL1: [3, 0, 4, 6, 0],
  ICC_IGRPEN1_EL1: [3, 0, 12, 12, 7],
} as const satisfies Record<string, Encoding>;

const imm19 = (offset: number): number => ((offset >> 2) & 0x7ffff) << 5;
export const b = (to: string): Item => ({ to, word: (o) => w(0x14000000 | ((o >> 2) & 0x3ffffff)) });
export const bc = (cond: number, to: string): Item => ({ to, word: (o) => bcond(cond, o) });
export const cbz = (rt: number, to: string): Item => ({ to, word: (o) => w(0xb4000000 | imm19(o) | rt) });
export const cbnz = (rt: number, to: string): Item => ({ to, word: (o) => w(0xb5000000 | imm19(o) | rt) });
export const adr = (rd: number, to: string): Item => ({ to, word: (o) => w(0x10000000 | ((o & 3) << 29) | imm19(o) | rd) });

/** Words of a program, and offsets of its labels. */
export function assemble(items: readonly Item[]): { words: number[]; labels: Map<string, number> } {
  const labels = new Map<string, number>();
  let at = 0;
  for (const i of items) {
    if (typeof i === 'string') labels.set(i, at);
    else at += 4;
  }
  const words: number[] = [];
  for (const i of items) {
    if (typeof i === 'number') words.push(i);
    else if (typeof i !== 'string') {
      const target = labels.get(i.to);
      if (target === undefined) throw new Error(`no label ${i.to}`);
      words.push(i.word(target - 4 * words.length));
    }
  }
  return { words, labels };
}

/** Where the program, its page table and its data are. */
export const TEXT = 0x20_0000;
const TABLE = 0x1000;
export const DATA = 0x30_0000;
/** VPs that have finished are counted here, away from what the bodies use. */
const DONE = 0x31_0000;

/** PSCI functions (Arm DEN 0022D §5.1). */
export const psci = (low: number): number[] => [movz(0, low), movk16(0, low === 3 || low === 4 ? 0xc400 : 0x8400)];

/**
 * The body runs on every VP, with the MMU on unless `mmu` says no: x19 is the VP's number, x20 is `DATA`; x21 and above are its own, x0..x18 too.
 * It ends by running into what follows it.
 */
export function frame(cpus: number, body: readonly Item[], mmu = true): Item[] {
  return [
    // VP 0 starts the others.
    ...[movz(22, cpus), movz(21, 1), 'start', cmp(21, 22), bc(COND.HS, 'go')],
    ...[...psci(3), mov(1, 21), adr(2, 'secondary'), mov(3, 21), hvc(0), addImm(21, 21, 1), b('start')],
    ...['go', movz(0, 0)],
    'secondary',
    ...[mov(19, 0), movz(1, 0x00ff), msr(SYSREG.MAIR_EL1, 1)],
    // T0SZ 25, EPD1, IPS 36 bits: three levels of 4 KiB tables.
    ...[movz(1, 25), movk16(1, 0x80), w(0xf2c00000 | (1 << 5) | 1), msr(SYSREG.TCR_EL1, 1)],
    ...[movz16(1, TEXT >>> 16), addImm(1, 1, TABLE >>> 1), addImm(1, 1, TABLE >>> 1), msr(SYSREG.TTBR0_EL1, 1), ISB],
    ...[mrs(1, SYSREG.SCTLR_EL1), movz(2, mmu ? 1 : 0), w(0xaa020021), msr(SYSREG.SCTLR_EL1, 1), ISB],
    ...[movz16(20, DATA >>> 16)],
    ...body,
    ...[movz16(1, DONE >>> 16), movz(2, 1), ldadd(2, 3, 1), cbnz(19, 'off')],
    ...['all', ldr(3, 1, 0), cmp(3, 22), YIELD, bc(COND.NE, 'all')],
    ...[...psci(8), hvc(0)],
    ...['off', ...psci(2), hvc(0)],
  ];
}

/** Descriptors (Arm ARM D8.3): valid block, AF; AttrIndx 0 is Normal, 1 Device; Inner Shareable. */
const NORMAL = 0x701n;
const DEVICE = 0x405n;

/** RAM is also mapped here. */
export const ALIAS = 0x4000_0000;

/** A flat binary: the program, and page tables of 1 GiB blocks (RAM at 0 and `ALIAS`, devices at 3 GiB). */
export function flat(items: readonly Item[]): Uint8Array {
  const { words } = assemble(items);
  if (4 * words.length > TABLE) throw new Error('the program runs into its page table');
  const file = new Uint8Array(2 * TABLE);
  file.set(new Uint8Array(new Uint32Array(words).buffer));
  const table = new DataView(file.buffer, TABLE);
  table.setBigUint64(0, NORMAL, true);
  table.setBigUint64((ALIAS >>> 30) * 8, NORMAL, true);
  table.setBigUint64(3 * 8, 0xc000_0000n | DEVICE, true);
  return file;
}

export const config = (cpus: number, body: readonly Item[], overrides: Partial<MachineConfig> = {}): MachineConfig => ({
  ...DEFAULTS,
  boot: 'device-tree',
  load: TEXT,
  memory: 64,
  cpus,
  kernel: flat(frame(cpus, body)),
  kernelName: 'program',
  ...overrides,
});

export const machineOf = (cpus: number, body: readonly Item[], overrides: Partial<MachineConfig> = {}): Machine =>
  createMachine(config(cpus, body, overrides));

/** The u64 at `DATA + offset`. */
export const dataAt = (machine: Machine, offset: number): bigint => {
  const bytes = machine.readPhysical(DATA + offset, 8);
  if (!bytes) throw new Error('no data');
  return new DataView(bytes.buffer).getBigUint64(0, true);
};
