/**
 * What a host may look like: one row per personality, each the record of a known host, and every setting that a row has as an
 * override of its own. What a row says is what the guest is told and what happens; what is not said is answered as the TLFS says.
 * `reference` is hyperv-arm64.md.
 */
import { ConfigError, DEFAULTS, type PlatformOverrides } from './config.ts';
import { DISCOVERY, type Discovery } from './hyperv/discovery.ts';
import {
  ADVERTISED,
  type FeatureName,
  type Features,
  featuresOf,
  type HypervisorVersion,
  IDENTITY,
  isFeature,
  withFeature,
} from './hyperv/features.ts';
import type { Conduit } from './hyperv/hypercalls/router.ts';
import { vpRegister } from './hyperv/registers.ts';
import { PPI, type PpiNumbers } from './platform/addresses.ts';
import { PSCI_VERSIONS, type PsciVersion } from './platform/psci.ts';
import { SMCCC_VERSIONS, type SmcccVersion } from './platform/smccc.ts';

/** The virtual and the physical timer raise their interrupts, or never do. */
export const TIMER_BEHAVIOURS = ['fires', 'silent'] as const;
const CONDUITS = ['smccc', 'raw'] as const satisfies readonly Conduit[];
const PSCI_CONDUITS = ['smc', 'hvc'] as const;

/** A host as the guest sees it. */
export interface Personality {
  /** What it is, in a few words. */
  readonly title: string;
  /** What the record rests on, and what of it is an inference. */
  readonly source: string;
  /** False: a plain machine. There are no hypercalls and no VMBus, and nothing says Hyper-V. */
  readonly hypervisor: boolean;
  /** How the host can be found. */
  readonly discovery: readonly Discovery[];
  /** HVC #0 with an SMCCC function, HVC #1. */
  readonly conduits: readonly Conduit[];
  readonly features: Features;
  /** What works although it is not advertised. */
  readonly granted: readonly FeatureName[];
  readonly identity: HypervisorVersion;
  /** Values that VP registers read as, by TLFS name. */
  readonly registers: Readonly<Record<string, bigint>>;
  readonly ppi: PpiNumbers;
  /** HvRegisterVpIndex of VP n; VPs beyond the list have their own number. */
  readonly vpIndex: readonly number[];
  /** Newest VMBus version. */
  readonly vmbusVersion: string;
  /** Network and disks are signalled by bits in monitor pages, which the host looks at every 100 us, not by hypercalls. */
  readonly monitorPages: boolean;
  /** Relid of the first VMBus channel; the others follow. */
  readonly firstRelid: number;
  readonly timer: (typeof TIMER_BEHAVIOURS)[number];
  /** What ACPI says of PSCI; both conduits work. */
  readonly psciConduit: (typeof PSCI_CONDUITS)[number];
  readonly psciVersion: PsciVersion;
  readonly smcccVersion: SmcccVersion;
  /** CNTFRQ_EL0 in Hz. */
  readonly counterFrequency: number;
}

const version = (build: number, serviceNumber: number, servicePack = 0): HypervisorVersion => ({
  ...{ build, major: 10, minor: 0, servicePack, serviceBranch: 0, serviceNumber },
});

/** Everything that works here, and nothing else. */
const hyperstep: Personality = {
  title: 'everything that works here',
  source: 'this emulator; numbers as current hosts have them',
  hypervisor: true,
  discovery: DISCOVERY,
  conduits: CONDUITS,
  features: ADVERTISED,
  granted: [],
  identity: IDENTITY,
  registers: {},
  ppi: PPI,
  vpIndex: [],
  vmbusVersion: '6.0',
  monitorPages: false,
  firstRelid: 1,
  timer: 'fires',
  psciConduit: 'smc',
  psciVersion: '1.1',
  smcccVersion: '1.2',
  // Azure's Ampere Altra (reference §5.2); above the 10 MHz that the reference TSC page needs.
  counterFrequency: 25_000_000,
};

const client: Personality = {
  ...hyperstep,
  title: 'Windows 11 on ARM, Hyper-V and WSL',
  source:
    'boot log of 2021, Snapdragon 8cx: feature words, build, VMBus 5.2, PSCI 1.0, SMCCC refused, 19.2 MHz (reference §1.2, §4, §5.2)',
  discovery: ['acpi'],
  features: { features: 0x2e7f, priv_high: 0x3a8030, misc_features: 0x31e1, hints: 0xe },
  identity: version(22000, 348),
  vmbusVersion: '5.2',
  psciVersion: '1.0',
  smcccVersion: 'none',
  counterFrequency: 19_200_000,
};

export const PERSONALITIES = {
  hyperstep,
  'azure-cobalt': {
    ...client,
    title: 'Azure, Cobalt 100',
    source:
      'boot logs of 2024 and 2025: build 10.0.27xxx (its last digits are made up), VMBus 5.3 (reference §4); feature words are the client’s, inferred',
    identity: version(27000, 1000, 1),
    vmbusVersion: '5.3',
    smcccVersion: '1.1',
    counterFrequency: 1_000_000_000,
  },
  'windows-2025': {
    ...client,
    title: 'Windows Server 2025',
    source: 'its build is 26100; feature words are the client’s, inferred, and VMBus 5.3 is Azure’s',
    identity: version(26100, 1),
    vmbusVersion: '5.3',
    smcccVersion: '1.1',
    counterFrequency: 25_000_000,
  },
  'wsl-woa': client,
  openvmm: {
    ...hyperstep,
    title: 'OpenVMM on the Windows Hypervisor Platform',
    source:
      'boot log of Windows Insider 27857: feature words and build (reference §4); OpenVMM’s sources: SMCCC UID, PSCI by HVC, VMBus 6.0. Messages are taken by the VMM, so that PostMessages is not advertised and works',
    features: { features: 0x27f, priv_high: 0xa0020, misc_features: 0x3020, hints: 0xe },
    granted: ['PostMessages'],
    identity: version(27857, 1000, 1),
    psciConduit: 'hvc',
  },
  '2018': {
    ...hyperstep,
    title: 'the first ARM64 hosts',
    source:
      'the first patch series of Linux, 2018 to 2019 (reference §A.1): HVC #1 alone, VMBus on PPI 16, timers by stimer0, a map for VP indices. Build 17763, VMBus 5.0 and the set of features are inferred from what the series uses',
    discovery: ['acpi'],
    conduits: ['raw'],
    features: featuresOf([
      'AccessVpRunTimeReg',
      'AccessPartitionReferenceCounter',
      'AccessSynicRegs',
      'AccessSyntheticTimerRegs',
      'AccessHypercallRegs',
      'AccessVpIndex',
      'AccessPartitionReferenceTsc',
      'PostMessages',
      'SignalEvents',
      'AccessVpRegisters',
      'FastHypercallOutput',
      'GuestCrashRegsAvailable',
      'DirectSyntheticTimers',
    ]),
    identity: version(17763, 1),
    ppi: { ...PPI, vmbus: 16 },
    // Two threads a core, and one of them used.
    vpIndex: Array.from({ length: 64 }, (_, vp) => 2 * vp),
    vmbusVersion: '5.0',
    timer: 'silent',
    psciVersion: '1.0',
    smcccVersion: 'none',
    counterFrequency: 19_200_000,
  },
  'timer-lies': {
    ...client,
    title: 'a host whose timer interrupt never comes',
    source:
      'hosts before the middle of 2021 (reference §5.2): the GTDT names a PPI for the virtual timer that is never raised, CNTV registers and the event stream work, stimer0 in direct mode is the only timer. Feature words are the client’s, inferred',
    identity: version(21000, 1),
    timer: 'silent',
  },
  none: {
    ...hyperstep,
    title: 'no hypervisor: a plain machine',
    source: 'hyperv-arm64.md §1: what is left when every way to find the host is gone',
    hypervisor: false,
    discovery: [],
    conduits: [],
    features: featuresOf([]),
  },
} as const satisfies Record<string, Personality>;

export type PersonalityName = keyof typeof PERSONALITIES;
export const PERSONALITY_NAMES = Object.keys(PERSONALITIES) as PersonalityName[];
const isPersonality = (name: string): name is PersonalityName => Object.hasOwn(PERSONALITIES, name);

type Value = PlatformOverrides[string];
/** Applies a value to a host; `bad` is thrown for a value that cannot be. */
type Setting = (p: Personality, value: Value, bad: (expected: string) => ConfigError) => Personality;

function integer(value: Value, least: bigint, most: bigint, bad: (expected: string) => ConfigError): bigint {
  const text = typeof value === 'number' || typeof value === 'string' ? String(value).trim() : '';
  const number = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? BigInt(text) : undefined;
  if (number === undefined || number < least || number > most)
    throw bad(`a number from ${least} to ${most > 0xffffffffn ? `0x${most.toString(16)}` : most}`);
  return number;
}
function boolean(value: Value, bad: (expected: string) => ConfigError): boolean {
  if (value === true || value === 1 || value === 'true' || value === '1') return true;
  if (value === false || value === 0 || value === 'false' || value === '0') return false;
  throw bad('true or false');
}
function oneOf<T extends string>(value: Value, words: readonly T[], bad: (expected: string) => ConfigError): T {
  const found = words.find((w) => w === value);
  if (found === undefined) throw bad(words.join(' or '));
  return found;
}
/** A list, or text with commas; empty text and `none` are the empty list. */
function listOf(value: Value, bad: (expected: string) => ConfigError): (number | string)[] {
  if (typeof value === 'string') return value === '' || value === 'none' ? [] : value.split(',').map((w) => w.trim());
  if (typeof value === 'boolean' || typeof value === 'number') throw bad('a list');
  return [...value];
}
const manyOf = <T extends string>(value: Value, words: readonly T[], bad: (expected: string) => ConfigError): T[] =>
  listOf(value, bad).map((w) => oneOf(w, words, () => bad(`a list of ${words.join(', ')}, or none`)));
const numeric = (value: Value, least: number, most: number, bad: (expected: string) => ConfigError): number =>
  Number(integer(value, BigInt(least), BigInt(most), bad));

const ppi =
  (which: keyof PpiNumbers): Setting =>
  (p, value, bad) => ({ ...p, ppi: { ...p.ppi, [which]: numeric(value, 16, 31, bad) } });
const word =
  (which: keyof Features): Setting =>
  (p, value, bad) => ({ ...p, features: { ...p.features, [which]: numeric(value, 0, 0xffff_ffff, bad) } });

/** A VP set has 64 banks of 64 VPs (reference §2.7). */
const MAX_VP_INDEX = 4095;

/** Settings by name, besides the bits of the feature words and VP registers. */
const SETTINGS: Readonly<Record<string, Setting>> = {
  discovery: (p, value, bad) => ({ ...p, discovery: manyOf(value, DISCOVERY, bad) }),
  conduits: (p, value, bad) => ({ ...p, conduits: manyOf(value, CONDUITS, bad) }),
  features: word('features'),
  priv_high: word('priv_high'),
  misc_features: word('misc_features'),
  hints: word('hints'),
  vmbusPpi: ppi('vmbus'),
  physicalTimerPpi: ppi('physicalTimer'),
  virtualTimerPpi: ppi('virtualTimer'),
  el2TimerPpi: ppi('el2Timer'),
  pmuPpi: ppi('pmu'),
  vpIndex: (p, value, bad) => {
    const vpIndex = listOf(value, bad).map((w) => numeric(w, 0, MAX_VP_INDEX, bad));
    if (new Set(vpIndex).size !== vpIndex.length) throw bad('a list of numbers that are not the same');
    return { ...p, vpIndex };
  },
  vmbusVersion: (p, value, bad) => {
    if (typeof value !== 'string' && typeof value !== 'number') throw bad('a version, such as 5.2');
    return { ...p, vmbusVersion: typeof value === 'number' ? value.toFixed(1) : value };
  },
  monitorPages: (p, value, bad) => ({ ...p, monitorPages: boolean(value, bad) }),
  firstRelid: (p, value, bad) => ({ ...p, firstRelid: numeric(value, 1, 2047, bad) }),
  timer: (p, value, bad) => ({ ...p, timer: oneOf(value, TIMER_BEHAVIOURS, bad) }),
  psciConduit: (p, value, bad) => ({ ...p, psciConduit: oneOf(value, PSCI_CONDUITS, bad) }),
  psciVersion: (p, value, bad) => ({ ...p, psciVersion: oneOf(value, Object.keys(PSCI_VERSIONS) as PsciVersion[], bad) }),
  smcccVersion: (p, value, bad) => ({ ...p, smcccVersion: oneOf(value, Object.keys(SMCCC_VERSIONS) as SmcccVersion[], bad) }),
  counterFrequency: (p, value, bad) => ({ ...p, counterFrequency: numeric(value, 1_000_000, 1_000_000_000, bad) }),
};
/** Names of the settings that are neither bits nor registers. */
export const PLATFORM_SETTINGS = Object.keys(SETTINGS);

/** What a register reads as. The feature words follow theirs, so that what is said is what is done. */
function withRegister(p: Personality, name: string, value: bigint): Personality {
  const dword = (n: number): number => Number((value >> BigInt(32 * n)) & 0xffff_ffffn);
  const registers = { ...p.registers, [name]: value };
  if (name === 'HvRegisterPrivilegesAndFeaturesInfo')
    return { ...p, registers, features: { ...p.features, features: dword(0), priv_high: dword(1), misc_features: dword(2) } };
  if (name === 'HvRegisterFeaturesInfo') return { ...p, registers, features: { ...p.features, hints: dword(0) } };
  return { ...p, registers };
}

function settingOf(name: string): Setting | undefined {
  if (Object.hasOwn(SETTINGS, name)) return SETTINGS[name];
  if (isFeature(name)) return (p, value, bad) => ({ ...p, features: withFeature(p.features, name, boolean(value, bad)) });
  const register = vpRegister(name);
  if (register && !register.architectural)
    return (p, value, bad) => withRegister(p, name, integer(value, 0n, (1n << BigInt(register.width)) - 1n, bad));
  return undefined;
}

/**
 * The host `name` with `overrides`, in their order. Throws `ConfigError` for a name that is no personality, for a setting that there
 * is not and for a value that cannot be.
 */
export function personality(name: string = DEFAULTS.platform, overrides: PlatformOverrides = {}): Personality {
  if (!isPersonality(name)) throw new ConfigError(`platform "${name}" is not known: ${PERSONALITY_NAMES.join(', ')}`);
  let p: Personality = PERSONALITIES[name];
  for (const [key, value] of Object.entries(overrides)) {
    const setting = settingOf(key);
    if (!setting)
      throw new ConfigError(
        `platform setting "${key}" is not known: a bit of the feature words, a VP register, ${PLATFORM_SETTINGS.join(', ')}`,
      );
    p = setting(
      p,
      value,
      (expected) => new ConfigError(`platform setting "${key}" must be ${expected}, not ${JSON.stringify(value)}`),
    );
  }
  return p;
}
