/**
 * What the partition may do and what the hypervisor has: the dwords of HvRegisterPrivilegesAndFeaturesInfo (0x200) and
 * HvRegisterFeaturesInfo (0x201) on ARM64, every bit by name (reference hyperv-arm64.md §3.3, §3.4, §3.5), and our identity
 * (§4). Words are named after the fields of Linux's `struct ms_hyperv_info` that they fill.
 */

/** Dword a of 0x200: the low half of the privilege mask. */
const FEATURES = {
  AccessVpRunTimeReg: 0,
  AccessPartitionReferenceCounter: 1,
  AccessSynicRegs: 2,
  AccessSyntheticTimerRegs: 3,
  AccessIntrCtrlRegs: 4,
  AccessHypercallRegs: 5,
  AccessVpIndex: 6,
  AccessResetReg: 7,
  AccessStatsReg: 8,
  AccessPartitionReferenceTsc: 9,
  AccessGuestIdleReg: 10,
  AccessFrequencyRegs: 11,
  AccessDebugRegs: 12,
  AccessReenlightenmentControls: 13,
  AccessRootSchedulerReg: 14,
  AccessTscInvariantControls: 15,
} as const;

/** Dword b of 0x200: the high half of the privilege mask. */
const PRIV_HIGH = {
  CreatePartitions: 0,
  AccessPartitionId: 1,
  AccessMemoryPool: 2,
  AdjustMessageBuffers: 3,
  PostMessages: 4,
  SignalEvents: 5,
  CreatePort: 6,
  ConnectPort: 7,
  AccessStats: 8,
  Debugging: 11,
  CpuManagement: 12,
  ConfigureProfiler: 13,
  AccessVpExitTracing: 14,
  EnableExtendedGvaRangesForFlushVirtualAddressList: 15,
  AccessVsm: 16,
  AccessVpRegisters: 17,
  FastHypercallOutput: 19,
  EnableExtendedHypercalls: 20,
  StartVirtualProcessor: 21,
  Isolation: 22,
} as const;

/** Dword c of 0x200. ARM64 positions: they differ from x86's CPUID 0x40000003 EDX. */
const MISC_FEATURES = {
  GuestDebuggingAvailable: 0,
  PerformanceMonitorsAvailable: 1,
  CpuDynamicPartitioningAvailable: 2,
  GuestIdleAvailable: 3,
  HypervisorSleepStateSupportAvailable: 4,
  NumaDistanceQueryAvailable: 5,
  FrequencyRegsAvailable: 6,
  SyntheticMachineCheckAvailable: 7,
  GuestCrashRegsAvailable: 8,
  DebugRegsAvailable: 9,
  DisableHypervisorAvailable: 10,
  ExtendedGvaRangesForFlushVirtualAddressListAvailable: 11,
  SintPollingModeAvailable: 12,
  DirectSyntheticTimers: 13,
  DeviceDomains: 14,
  Stage1DeviceDomains: 15,
} as const;

/** Dword a of 0x201. */
const HINTS = {
  UseResetRegister: 0,
  UseRelaxedTiming: 1,
  UseSyntheticClusterIpi: 2,
  UseExProcessorMasks: 3,
  HypervisorIsNested: 4,
  UseSyncedTimeline: 5,
  RingBufferMessagePort: 6,
  UseHypercallForMmioAccess: 21,
  UseGpaPinningHypercall: 22,
  WakeVps: 23,
  MapPartitionEventLogBuffer: 26,
  HeatHint: 27,
} as const;

export type FeatureName = keyof typeof FEATURES | keyof typeof PRIV_HIGH | keyof typeof MISC_FEATURES | keyof typeof HINTS;
/** Fields of `ms_hyperv`. */
export type FeatureField = 'features' | 'priv_high' | 'misc_features' | 'hints';
/** The four dwords as a host advertises them. */
export type Features = { readonly [F in FeatureField]: number };

export interface FeatureWordRow {
  field: FeatureField;
  /** The VP register, and which of its dwords. */
  register: string;
  dword: number;
  bits: Readonly<Record<string, number>>;
}

export const FEATURE_WORDS: readonly FeatureWordRow[] = [
  { field: 'features', register: 'HvRegisterPrivilegesAndFeaturesInfo', dword: 0, bits: FEATURES },
  { field: 'priv_high', register: 'HvRegisterPrivilegesAndFeaturesInfo', dword: 1, bits: PRIV_HIGH },
  { field: 'misc_features', register: 'HvRegisterPrivilegesAndFeaturesInfo', dword: 2, bits: MISC_FEATURES },
  { field: 'hints', register: 'HvRegisterFeaturesInfo', dword: 0, bits: HINTS },
];

const WHERE = new Map<string, { field: FeatureField; bit: number }>(
  FEATURE_WORDS.flatMap((w) =>
    Object.entries(w.bits).map(([name, bit]): [string, { field: FeatureField; bit: number }] => [name, { field: w.field, bit }]),
  ),
);

/** True when `name` is the name of a bit. */
export const isFeature = (name: string): name is FeatureName => WHERE.has(name);

/** The words with the bit `name` set or clear. */
export function withFeature(features: Features, name: FeatureName, value: boolean): Features {
  const mask = featuresOf([name]);
  const word = (f: FeatureField): number => (value ? features[f] | mask[f] : features[f] & ~mask[f]) >>> 0;
  return { features: word('features'), priv_high: word('priv_high'), misc_features: word('misc_features'), hints: word('hints') };
}

/** True when the host advertises `name`. */
export function hasFeature(features: Features, name: FeatureName): boolean {
  const at = WHERE.get(name);
  if (!at) throw new Error(`no feature bit ${name}`);
  return ((features[at.field] >>> at.bit) & 1) === 1;
}

/** The four dwords with exactly these bits set. */
export function featuresOf(names: readonly FeatureName[]): Features {
  const out: Record<FeatureField, number> = { features: 0, priv_high: 0, misc_features: 0, hints: 0 };
  for (const name of names) {
    const at = WHERE.get(name);
    if (!at) throw new Error(`no feature bit ${name}`);
    out[at.field] = (out[at.field] | (1 << at.bit)) >>> 0;
  }
  return out;
}

/**
 * What a partition advertises unless told otherwise: everything that works here and nothing else. No hints: an ARM64 guest
 * does better with its own TLBI and SGIs. AccessPartitionId works but is left out, as real hosts leave it out.
 */
export const ADVERTISED: Features = featuresOf([
  'AccessVpRunTimeReg',
  'AccessPartitionReferenceCounter',
  'AccessSynicRegs',
  'AccessSyntheticTimerRegs',
  'AccessHypercallRegs',
  'AccessVpIndex',
  'AccessPartitionReferenceTsc',
  'AccessFrequencyRegs',
  'PostMessages',
  'SignalEvents',
  'EnableExtendedGvaRangesForFlushVirtualAddressList',
  'AccessVpRegisters',
  'FastHypercallOutput',
  'EnableExtendedHypercalls',
  'FrequencyRegsAvailable',
  'GuestCrashRegsAvailable',
  'ExtendedGvaRangesForFlushVirtualAddressListAvailable',
  'SintPollingModeAvailable',
  'DirectSyntheticTimers',
]);

/** Dword b of 0x201: spin retries before HvCallNotifyLongSpinWait; this value means never. */
export const SPIN_WAIT_NEVER = 0xffff_ffff;

/** What HvRegisterHypervisorVersion says (§4). */
export interface HypervisorVersion {
  readonly build: number;
  readonly major: number;
  readonly minor: number;
  readonly servicePack: number;
  readonly serviceBranch: number;
  readonly serviceNumber: number;
}
/** Printed by Linux as 10.0.26100.1-0-0. */
export const IDENTITY: HypervisorVersion = {
  build: 26100,
  major: 10,
  minor: 0,
  servicePack: 0,
  serviceBranch: 0,
  serviceNumber: 1,
};

/** Names of the bits set in one word, unnamed ones as `bit N`. */
export function bitNames(field: FeatureField, value: number): string[] {
  const row = FEATURE_WORDS.find((w) => w.field === field) as FeatureWordRow;
  const byBit = new Map(Object.entries(row.bits).map(([name, bit]) => [bit, name]));
  const out: string[] = [];
  for (let bit = 0; bit < 32; bit++) if ((value >>> bit) & 1) out.push(byBit.get(bit) ?? `bit ${bit}`);
  return out;
}
