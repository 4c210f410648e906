/**
 * CPU models. A model lists the features it has; its identification registers are computed from that list by one table
 * (Arm ARM DDI 0487, D19.2 "General system control registers"), so that what a guest reads is what the rows implement.
 */
import { FEATURES, type Feature } from './features.ts';

export interface Model {
  /** MIDR_EL1. */
  readonly midr: bigint;
  /** Physical address bits; more than 48 with a feature that has descriptors for them. */
  readonly paBits: 32 | 36 | 40 | 42 | 44 | 48 | 52;
  readonly features: readonly Feature[];
  /** CTR_EL0, CLIDR_EL1 and the CCSIDR_EL1 values by CSSELR_EL1. */
  readonly ctr: bigint;
  readonly clidr: bigint;
  readonly ccsidr: Readonly<Record<number, bigint>>;
}

/** ID_AA64MMFR0_EL1.PARange. */
const PA_RANGE = { 32: 0, 36: 1, 40: 2, 42: 3, 44: 4, 48: 5, 52: 6 } as const;

/** Bytes that DC ZVA zeroes (DCZID_EL0.BS = 4: 16 words). */
export const ZVA_BLOCK = 64;

/** Numbers of breakpoints and watchpoints (ID_AA64DFR0_EL1). */
export const BREAKPOINTS = 6;
export const WATCHPOINTS = 4;
/** The last of the breakpoints, which can compare CONTEXTIDR_EL1 (CTX_CMPs). */
export const CONTEXT_BREAKPOINTS = 2;

/** Event counters of the performance monitors. */
export const EVENT_COUNTERS = 6;

type Field = readonly [register: string, lsb: number, value: number];

/** What identification registers say about a feature. Of several values for one field the largest counts. */
export const FEATURE_FIELDS: Readonly<Partial<Record<Feature, readonly Field[]>>> = {
  AES: [['ID_AA64ISAR0_EL1', 4, 1]],
  PMULL: [['ID_AA64ISAR0_EL1', 4, 2]],
  SHA1: [['ID_AA64ISAR0_EL1', 8, 1]],
  SHA256: [['ID_AA64ISAR0_EL1', 12, 1]],
  SHA512: [['ID_AA64ISAR0_EL1', 12, 2]],
  CRC32: [['ID_AA64ISAR0_EL1', 16, 1]],
  LSE: [['ID_AA64ISAR0_EL1', 20, 2]],
  RDM: [['ID_AA64ISAR0_EL1', 28, 1]],
  SHA3: [['ID_AA64ISAR0_EL1', 32, 1]],
  SM3: [['ID_AA64ISAR0_EL1', 36, 1]],
  SM4: [['ID_AA64ISAR0_EL1', 40, 1]],
  DotProd: [['ID_AA64ISAR0_EL1', 44, 1]],
  FHM: [['ID_AA64ISAR0_EL1', 48, 1]],
  FlagM: [['ID_AA64ISAR0_EL1', 52, 1]],
  FlagM2: [['ID_AA64ISAR0_EL1', 52, 2]],
  TLBIOS: [['ID_AA64ISAR0_EL1', 56, 1]],
  TLBIRANGE: [['ID_AA64ISAR0_EL1', 56, 2]],
  RNG: [['ID_AA64ISAR0_EL1', 60, 1]],

  DPB: [['ID_AA64ISAR1_EL1', 0, 1]],
  DPB2: [['ID_AA64ISAR1_EL1', 0, 2]],
  // API, GPI: the IMPLEMENTATION DEFINED algorithm; API = 5 is FEAT_PAuth2 with FEAT_FPACCOMBINE.
  PAuth: [
    ['ID_AA64ISAR1_EL1', 8, 5],
    ['ID_AA64ISAR1_EL1', 28, 1],
  ],
  JSCVT: [['ID_AA64ISAR1_EL1', 12, 1]],
  FCMA: [['ID_AA64ISAR1_EL1', 16, 1]],
  LRCPC: [['ID_AA64ISAR1_EL1', 20, 1]],
  LRCPC2: [['ID_AA64ISAR1_EL1', 20, 2]],
  FRINTTS: [['ID_AA64ISAR1_EL1', 32, 1]],
  SB: [['ID_AA64ISAR1_EL1', 36, 1]],
  SPECRES: [['ID_AA64ISAR1_EL1', 40, 1]],
  BF16: [['ID_AA64ISAR1_EL1', 44, 1]],
  DGH: [['ID_AA64ISAR1_EL1', 48, 1]],
  I8MM: [['ID_AA64ISAR1_EL1', 52, 1]],

  WFxT: [['ID_AA64ISAR2_EL1', 0, 2]],

  // FP and AdvSIMD are always there (0); 1 adds half precision, and both fields must be equal.
  FP16: [
    ['ID_AA64PFR0_EL1', 16, 1],
    ['ID_AA64PFR0_EL1', 20, 1],
  ],
  RAS: [['ID_AA64PFR0_EL1', 28, 1]],
  DIT: [['ID_AA64PFR0_EL1', 48, 1]],
  CSV2: [['ID_AA64PFR0_EL1', 56, 1]],
  CSV2_2: [['ID_AA64PFR0_EL1', 56, 2]],
  CSV2_3: [['ID_AA64PFR0_EL1', 56, 3]],
  CSV3: [['ID_AA64PFR0_EL1', 60, 1]],

  BTI: [['ID_AA64PFR1_EL1', 0, 1]],
  SSBS: [['ID_AA64PFR1_EL1', 4, 2]],

  LPA: [],
  LPA2: [
    ['ID_AA64MMFR0_EL1', 20, 2],
    ['ID_AA64MMFR0_EL1', 28, 1],
  ],

  ECV: [['ID_AA64MMFR0_EL1', 60, 1]],

  PMUv3: [['ID_AA64DFR0_EL1', 8, 1]],
  PMUv3p1: [['ID_AA64DFR0_EL1', 8, 4]],
  PMUv3p4: [['ID_AA64DFR0_EL1', 8, 5]],
  PMUv3p5: [['ID_AA64DFR0_EL1', 8, 6]],

  HAFDBS: [['ID_AA64MMFR1_EL1', 0, 2]],
  HPDS: [['ID_AA64MMFR1_EL1', 12, 1]],
  HPDS2: [['ID_AA64MMFR1_EL1', 12, 2]],
  LOR: [['ID_AA64MMFR1_EL1', 16, 1]],
  PAN: [['ID_AA64MMFR1_EL1', 20, 1]],
  PAN2: [['ID_AA64MMFR1_EL1', 20, 2]],
  PAN3: [['ID_AA64MMFR1_EL1', 20, 3]],

  TTCNP: [['ID_AA64MMFR2_EL1', 0, 1]],
  UAO: [['ID_AA64MMFR2_EL1', 4, 1]],
  LVA: [['ID_AA64MMFR2_EL1', 16, 1]],
  LSE2: [['ID_AA64MMFR2_EL1', 32, 1]],
  TTL: [['ID_AA64MMFR2_EL1', 48, 1]],
  E0PD: [['ID_AA64MMFR2_EL1', 60, 1]],
};

/** Features that no instruction row names, and what implements them. */
export const IMPLEMENTED_BY: Readonly<Partial<Record<Feature, string>>> = {
  LOR: 'sysregs.ts: LORegion registers, no LORegions (LORID_EL1 is zero)',
  PAN: 'mmu.ts, exceptions.ts, system.ts: PSTATE.PAN',
  PAN2: 'system.ts: AT S1E1RP, AT S1E1WP',
  PAN3: 'mmu.ts: SCTLR_EL1.EPAN',
  UAO: 'cpu.ts: unprivileged accesses at EL1; exceptions.ts: PSTATE.UAO',
  HAFDBS: 'mmu.ts: TCR_EL1.HA, HD',
  LVA: 'mmu.ts: 52-bit virtual addresses with 64 KiB granules',
  LPA: 'mmu.ts: 52-bit physical addresses with 64 KiB granules (told by PARange)',
  LPA2: 'mmu.ts: TCR_EL1.DS',
  HPDS: 'mmu.ts: TCR_EL1.HPD0, HPD1',
  HPDS2: 'mmu.ts: bits 62:59 of descriptors, and TCR_EL1.HWUnn, mean nothing here',
  E0PD: 'mmu.ts: TCR_EL1.E0PD0, E0PD1',
  TTCNP: 'mmu.ts: TTBRn_EL1.CnP is not part of the table address; translations are never shared between VPs',
  TTL: 'system.ts: the level hint of TLBI by VA is ignored, more than asked for is invalidated',
  TLBIOS: 'system.ts: TLBI ...OS',
  TLBIRANGE: 'system.ts: TLBI R...',
  DPB: 'system.ts: DC CVAP',
  DPB2: 'system.ts: DC CVADP',
  SPECRES: 'system.ts: CFP, DVP and CPP RCTX; nothing is predicted',
  SSBS: 'sysregs.ts, exceptions.ts: PSTATE.SSBS',
  DIT: 'sysregs.ts: PSTATE.DIT; no instruction here has data-dependent virtual time',
  CSV2: 'nothing is speculated',
  CSV2_2: 'nothing is speculated; sysregs.ts: SCXTNUM_EL0, SCXTNUM_EL1',
  CSV2_3: 'nothing is speculated',
  PMUv3: 'platform/pmu.ts',
  PMUv3p1: 'platform/pmu.ts: 16-bit event numbers',
  PMUv3p4: 'platform/pmu.ts: PMMIR_EL1',
  PMUv3p5: 'platform/pmu.ts: 64-bit event counters',
  ECV: 'sysregs.ts: CNTVCTSS_EL0, CNTPCTSS_EL0; generic-timer.ts: CNTKCTL_EL1.EVNTIS',
  RNG: 'sysregs.ts: RNDR, RNDRRS',
  LSE2: 'cpu.ts: what is misaligned within 16 bytes; SCTLR_EL1.nAA',
  BTI: 'branch-targets.ts: landings in guarded pages; exceptions.ts: PSTATE.BTYPE',
  CSV3: 'nothing is speculated',
  RAS: 'sysregs.ts: no error records (ERRIDR_EL1 is zero), DISR_EL1; ESB is a hint, there are no SErrors',
  DGH: 'DGH is a hint',
};

/** Fields that do not depend on the feature list. */
const FIXED_FIELDS: readonly Field[] = [
  // EL0 and EL1 in AArch64 state only; no EL2, no EL3; GIC system registers.
  ['ID_AA64PFR0_EL1', 0, 1],
  ['ID_AA64PFR0_EL1', 4, 1],
  ['ID_AA64PFR0_EL1', 24, 1],
  // 16-bit ASIDs, little-endian only; TGran16 supported; 0 says the same of TGran64 and TGran4.
  ['ID_AA64MMFR0_EL1', 4, 2],
  ['ID_AA64MMFR0_EL1', 20, 1],
  // Armv8 debug; no trace.
  ['ID_AA64DFR0_EL1', 0, 6],
  ['ID_AA64DFR0_EL1', 12, BREAKPOINTS - 1],
  ['ID_AA64DFR0_EL1', 20, WATCHPOINTS - 1],
  ['ID_AA64DFR0_EL1', 28, CONTEXT_BREAKPOINTS - 1],
];

// L1: 64 KiB, 4 ways, 256 sets; L2: 1 MiB, 8 ways, 2048 sets; 64-byte lines (CCSIDR_EL1 without FEAT_CCIDX).
const CACHES = {
  // DIC and IDC: decoded instructions follow memory by themselves, so no maintenance is needed for coherence.
  ctr: 0xb444c004n,
  clidr: 0x0a200023n,
  ccsidr: { 0: 0x1fe01an, 1: 0x1fe01an, 2: 0xffe03an },
} as const;

/** What `max` is without: not implemented here, or nothing but EL2 has it. */
export const ABSENT: readonly Feature[] = ['VMID16', 'XNX', 'MTE', 'SVE'];

const CORTEX_A72: readonly Feature[] = ['CRC32', 'AES', 'PMULL', 'SHA1', 'SHA256', 'PMUv3'];

const NEOVERSE_N1: readonly Feature[] = [
  ...CORTEX_A72,
  ...(['LSE', 'RDM', 'LOR', 'PAN', 'PAN2', 'UAO', 'HPDS', 'HPDS2', 'HAFDBS', 'TTCNP', 'DPB', 'RAS'] as const),
  ...(['FP16', 'DotProd', 'LRCPC', 'SSBS', 'CSV2', 'CSV3', 'PMUv3p1'] as const),
];

const NEOVERSE_N2: readonly Feature[] = [
  ...NEOVERSE_N1,
  ...(['SHA512', 'SHA3', 'SM3', 'SM4', 'FHM', 'FCMA', 'JSCVT', 'FRINTTS', 'BF16', 'I8MM', 'LRCPC2', 'FlagM', 'FlagM2'] as const),
  ...([
    'SB',
    'SPECRES',
    'DIT',
    'CSV2_2',
    'E0PD',
    'DGH',
    'DPB2',
    'TTL',
    'TLBIOS',
    'TLBIRANGE',
    'PAuth',
    'BTI',
    'LSE2',
    'PMUv3p4',
    'PMUv3p5',
  ] as const),
];

export const MODELS: Readonly<Record<string, Model>> = {
  // Implementer 0 ("reserved for software use"): no erratum list names it.
  max: { midr: 0x000f0480n, paBits: 52, features: FEATURES.filter((f) => !ABSENT.includes(f)), ...CACHES },
  // r3p1, as in Ampere Altra, without what only EL2 sees (VHE, VMID16, XNX).
  'neoverse-n1': { midr: 0x413fd0c1n, paBits: 48, features: NEOVERSE_N1, ...CACHES },
  // As in Azure's Cobalt 100, by the number that has; without SVE, MTE and what only EL2 sees.
  'neoverse-n2': { midr: 0x6d0fd490n, paBits: 48, features: NEOVERSE_N2, ...CACHES },
  // r0p3: Armv8.0 without DIC and IDC. L1 48 KiB of 3 ways and 32 KiB of 2, L2 1 MiB of 16 ways.
  'cortex-a72': {
    midr: 0x410fd083n,
    paBits: 44,
    features: CORTEX_A72,
    ctr: 0x8444c004n,
    clidr: 0x0a200023n,
    ccsidr: { 0: 0x701fe00an, 1: 0x201fe012n, 2: 0x707fe07an },
  },
};

/** The model called `name`; names come from a checked configuration. */
export function modelOf(name: string): Model {
  const model = MODELS[name];
  if (!model) throw new Error(`no CPU model ${name}`);
  return model;
}

/** Identification registers (ID_AA64*) of a feature list, by name. Registers not in the result read as zero. */
export function idRegisters(features: Iterable<Feature>, paBits: Model['paBits']): Record<string, bigint> {
  const fields = new Map<string, Field>();
  const add = (f: Field) => {
    const key = `${f[0]}.${f[1]}`;
    const old = fields.get(key);
    if (!old || old[2] < f[2]) fields.set(key, f);
  };
  FIXED_FIELDS.forEach(add);
  add(['ID_AA64MMFR0_EL1', 0, PA_RANGE[paBits]]);
  for (const feature of features) FEATURE_FIELDS[feature]?.forEach(add);
  const out: Record<string, bigint> = {};
  for (const [register, lsb, value] of fields.values()) out[register] = (out[register] ?? 0n) | (BigInt(value) << BigInt(lsb));
  return out;
}

/**
 * MPIDR_EL1 of a VP (Arm ARM D19.2.101): Aff0 is the VP index, U says that there is no other. ACPI's MADT and
 * GICR_TYPER show the same affinity.
 */
export const mpidr = (vp: number, vpCount: number): bigint => 0x80000000n | (vpCount === 1 ? 0x40000000n : 0n) | BigInt(vp);
