/**
 * VP registers as HvCallGetVpRegisters and HvCallSetVpRegisters see them: one row each (reference hyperv-arm64.md §3.1 and
 * §3.2). On ARM64 there are no MSRs and no CPUID: these are the guest's only way to synthetic registers.
 */
import { type BitField, FLAG } from '../base/inspect.ts';
import { CRASH_CAPABILITIES, CRASH_PARAMETERS, describeCrashControl, writeCrashControl } from './crash.ts';
import { bitNames, type FeatureField, type FeatureName, SPIN_WAIT_NEVER } from './features.ts';
import type { Partition } from './partition.ts';
import { describeStimerConfig, STIMER_CONFIG_BITS, STIMER_COUNT, STIMER_DIRECT } from './stimer.ts';
import { describeSint, SINT_BITS, SINT_POLLING } from './synic.ts';
import { HV_SYNIC_SINT_COUNT, STATUS } from './tlfs.ts';
import type { Vp } from './vp.ts';

export interface VpRegisterRow {
  /** TLFS name. */
  name: string;
  number: number;
  /** 64 or 128: a 64-bit register's high half reads as zero and is ignored when written. */
  width: 64 | 128;
  /** The feature bit that makes it accessible. */
  requires?: FeatureName;
  /** Left out: write-only, reads as zero. undefined: the CPU has no such register. */
  read?: (p: Partition, vp: Vp) => bigint | undefined;
  /** Left out: read-only. False: a value this register cannot hold. */
  write?: (p: Partition, vp: Vp, value: bigint) => unknown;
  /** What a debugger may set although the guest may not. */
  edit?: (p: Partition, vp: Vp, value: bigint) => unknown;
  /** What else happens when the guest reads it; debuggers cause nothing. */
  onRead?: (p: Partition, vp: Vp) => void;
  /** The value for people, a line per fact. */
  describe?: (value: bigint) => string[];
  /** Its parts, by name. */
  bits?: Readonly<Record<string, BitField>>;
  /** Belongs to the CPU: reached through host.registers. */
  architectural?: boolean;
}

type RowBody = Omit<VpRegisterRow, 'name' | 'number' | 'width'> & { width?: 64 | 128 };
const row = (number: number, name: string, body: RowBody): VpRegisterRow => ({ number, name, width: 64, ...body });

/** Four dwords as one 128-bit value. */
const dwords = (a: number, b: number, c: number, d: number): bigint =>
  BigInt(a >>> 0) | (BigInt(b >>> 0) << 32n) | (BigInt(c >>> 0) << 64n) | (BigInt(d >>> 0) << 96n);
const dword = (value: bigint, n: number): number => Number((value >> BigInt(32 * n)) & 0xffff_ffffn);

/** A register of ours that has no effect: it holds what was written. */
const stored = (number: number, name: string, describe?: (value: bigint) => string[]): VpRegisterRow =>
  row(number, name, {
    read: (_, vp) => vp.state.stored[name] ?? 0n,
    write: (_, vp, value) => {
      vp.state.stored[name] = value;
    },
    describe,
  });

/** A register of a feature that this host does not have: guests that look find nothing, and none is stopped by an error. */
const none = (number: number, name: string, width: 64 | 128 = 64): VpRegisterRow => row(number, name, { width, read: () => 0n });

/** A page of guest memory that a register names. */
const PAGE_BITS = { enable: [0, 0, FLAG], page: [63, 12] } as const;
/** The feature words that a register shows, from the lowest dword on; above them is `rest`. */
const setFeatures =
  (words: readonly FeatureField[], rest = 0) =>
  (p: Partition, _vp: Vp, value: bigint): boolean => {
    if (value >> BigInt(32 * words.length) !== BigInt(rest)) return false;
    words.forEach((word, n) => {
      p.state.features[word] = dword(value, n);
    });
    return true;
  };

const page = (value: bigint): string[] =>
  value & 1n ? ['enabled', `GPA 0x${((value >> 12n) << 12n).toString(16)}`] : ['disabled'];
const hz = (value: bigint): string[] => [`${Number(value) / 1e6} MHz`];
const hundredNs = (value: bigint): string[] => [`${(Number(value) / 1e7).toFixed(7)} s`];

/** HvRegisterGuestOsId (§3.6): open source bit 63, OS type 62:56, then per vendor. */
function describeGuestOsId(value: bigint): string[] {
  if (value === 0n) return ['not set'];
  if (!(value >> 63n)) return [`vendor ${value >> 48n}`, `OS ${(value >> 40n) & 0xffn}`, `build ${value & 0xffffn}`];
  const type = (value >> 56n) & 0x7fn;
  const names: Record<string, string> = { '1': 'Linux', '2': 'FreeBSD' };
  const version = (value >> 16n) & 0xffff_ffffn;
  const out = [`open source, ${names[String(type)] ?? `OS type ${type}`}`];
  if (type === 1n) out.push(`version ${version >> 16n}.${(version >> 8n) & 0xffn}.${version & 0xffn}`);
  return out;
}

const IDENTIFICATION: VpRegisterRow[] = [
  row(0x100, 'HvRegisterHypervisorVersion', {
    width: 128,
    read: ({ identity: v }) =>
      dwords(v.build, (v.major << 16) | v.minor, v.servicePack, (v.serviceBranch << 24) | v.serviceNumber),
    describe: (v) => {
      const b = dword(v, 1);
      const d = dword(v, 3);
      return [`${b >>> 16}.${b & 0xffff}.${dword(v, 0)}.${d & 0xffffff}-${dword(v, 2)}-${d >>> 24}`];
    },
  }),
  row(0x200, 'HvRegisterPrivilegesAndFeaturesInfo', {
    width: 128,
    read: ({ state: { features: f } }) => dwords(f.features, f.priv_high, f.misc_features, 0),
    edit: setFeatures(['features', 'priv_high', 'misc_features']),
    describe: (v) => [
      ...bitNames('features', dword(v, 0)),
      ...bitNames('priv_high', dword(v, 1)),
      ...bitNames('misc_features', dword(v, 2)),
    ],
  }),
  row(0x201, 'HvRegisterFeaturesInfo', {
    width: 128,
    read: ({ state: { features: f } }) => dwords(f.hints, SPIN_WAIT_NEVER, 0, 0),
    edit: setFeatures(['hints'], SPIN_WAIT_NEVER),
    describe: (v) => [
      ...bitNames('hints', dword(v, 0)),
      dword(v, 1) === SPIN_WAIT_NEVER ? 'never notify about spin waits' : `notify after ${dword(v, 1)} spins`,
    ],
  }),
  row(0x202, 'HvRegisterImplementationLimitsInfo', {
    width: 128,
    read: ({ host }) => dwords(host.vpCount, host.vpCount, 0, 0),
    describe: (v) => [`${dword(v, 0)} VPs`, `${dword(v, 1)} logical processors`],
  }),
  none(0x203, 'HvRegisterHardwareFeaturesInfo', 128),
  none(0x204, 'HvRegisterCpuManagementFeaturesInfo', 128),
  none(0x205, 'HvRegisterSvmFeaturesInfo', 128),
  none(0x206, 'HvRegisterSkipLevelFeaturesInfo', 128),
  none(0x207, 'HvRegisterNestedVirtFeaturesInfo', 128),
  none(0x208, 'HvRegisterIptFeaturesInfo', 128),
  none(0x209, 'HvRegisterIsolationConfiguration', 128),
];

const CRASH: VpRegisterRow[] = [
  ...Array.from({ length: CRASH_PARAMETERS }, (_, n) =>
    row(0x210 + n, `HvRegisterGuestCrashP${n}`, {
      requires: 'GuestCrashRegsAvailable',
      read: (p) => p.state.crash.parameters[n],
      write: (p, _vp, value) => {
        p.state.crash.parameters[n] = value;
      },
    }),
  ),
  row(0x215, 'HvRegisterGuestCrashCtl', {
    requires: 'GuestCrashRegsAvailable',
    read: () => CRASH_CAPABILITIES,
    write: (p, vp, value) => writeCrashControl(p.host, p.state.crash, vp.index, value),
    describe: describeCrashControl,
  }),
];

const POWER_AND_FREQUENCY: VpRegisterRow[] = [
  ...[1, 2, 3].flatMap((c, i) => [
    stored(0x220 + 2 * i, `HvRegisterPowerStateConfigC${c}`),
    stored(0x221 + 2 * i, `HvRegisterPowerStateTriggerC${c}`),
  ]),
  row(0x240, 'HvRegisterProcessorClockFrequency', {
    requires: 'AccessFrequencyRegs',
    // One instruction is one nanosecond of virtual time (base/clock.ts).
    read: () => 1_000_000_000n,
    describe: hz,
  }),
  row(0x241, 'HvRegisterInterruptClockFrequency', {
    requires: 'AccessFrequencyRegs',
    read: ({ host }) => BigInt(host.counterFrequency),
    describe: hz,
  }),
  // The VP idles until an interrupt is pending, whether or not it is masked: as by WFI.
  row(0x250, 'HvRegisterGuestIdle', {
    requires: 'AccessGuestIdleReg',
    read: () => 0n,
    onRead: ({ host }, vp) => host.idle?.(vp.index),
  }),
  row(0x260, 'HvRegisterDebugDeviceOptions', { requires: 'AccessDebugRegs', read: () => 0n }),
  none(0x270, 'HvRegisterMemoryZeroingControl'),
];

const VIRTUAL_PROCESSOR: VpRegisterRow[] = [
  none(0x0, 'HvRegisterExplicitSuspend'),
  none(0x1, 'HvRegisterInterceptSuspend'),
  none(0x2, 'HvRegisterInstructionEmulationHints'),
  none(0x3, 'HvRegisterDispatchSuspend'),
  none(0x4, 'HvRegisterInternalActivityState'),
  none(0x10002, 'HvRegisterPendingInterruption'),
  none(0x10003, 'HvRegisterInterruptState'),
  none(0x10004, 'HvRegisterPendingEvent0', 128),
  none(0x10005, 'HvRegisterPendingEvent1', 128),
  none(0x10006, 'HvRegisterDeliverabilityNotifications'),
  row(0x63000, 'HvArm64RegisterGicrBaseGpa', {
    requires: 'AccessIntrCtrlRegs',
    read: ({ host }, vp) => BigInt(host.redistributor?.(vp.index) ?? 0),
  }),
  none(0x70001, 'HvRegisterSintReservedInterruptId'),
  row(0x90000, 'HvRegisterVpRuntime', {
    requires: 'AccessVpRunTimeReg',
    read: ({ host }, vp) => BigInt(Math.floor((host.runtime ? host.runtime(vp.index) : host.clock.state.instructions) / 100)),
    describe: hundredNs,
  }),
  row(0x90002, 'HvRegisterGuestOsId', {
    requires: 'AccessHypercallRegs',
    read: (p) => p.state.guestOsId,
    write: (p, _vp, value) => p.setGuestOsId(value),
    describe: describeGuestOsId,
  }),
  row(0x90003, 'HvRegisterVpIndex', { requires: 'AccessVpIndex', read: (p, vp) => BigInt(p.vpIndex[vp.index]) }),
  row(0x90004, 'HvRegisterTimeRefCount', {
    requires: 'AccessPartitionReferenceCounter',
    read: (p) => p.time.now(),
    describe: hundredNs,
  }),
  // 'Hv#1', as CPUID leaf 0x40000001 says on x64.
  row(0x90006, 'HvRegisterInterfaceVersion', { read: () => 0x3123_7648n }),
  none(0x90007, 'HvRegisterCpuManagementVersion'),
  stored(0x90013, 'HvRegisterVpAssistPage', page),
  none(0x90014, 'HvRegisterVpRootSignalCount'),
  none(0x90015, 'HvRegisterPartitionInfoPage'),
  none(0x90016, 'HvRegisterTlbiControl'),
  row(0x90017, 'HvRegisterReferenceTsc', {
    requires: 'AccessPartitionReferenceTsc',
    read: (p) => p.state.referenceTsc,
    write: (p, _vp, value) => p.setReferenceTsc(value),
    describe: page,
    bits: PAGE_BITS,
  }),
  none(0x90018, 'HvRegisterVpConfig'),
  none(0x9001a, 'HvRegisterReferenceTscSequence'),
  none(0x9001b, 'HvRegisterGuestSchedulerEvent'),
  none(0x90020, 'HvRegisterStatsPartitionRetail'),
  none(0x90021, 'HvRegisterStatsPartitionInternal'),
  none(0x90022, 'HvRegisterStatsVpRetail'),
  none(0x90023, 'HvRegisterStatsVpInternal'),
  none(0x91003, 'HvRegisterNestedVpIndex'),
];

const SYNIC: VpRegisterRow[] = [
  ...Array.from({ length: HV_SYNIC_SINT_COUNT }, (_, n) =>
    row(0xa0000 + n, `HvRegisterSint${n}`, {
      requires: 'AccessSynicRegs',
      read: (_p, vp) => vp.synic.state.sint[n],
      // Bits of what is not there are reserved (TLFS, SINTx).
      write: (p, vp, value) =>
        value & SINT_POLLING && !p.has('SintPollingModeAvailable') ? false : vp.synic.writeSint(n, value),
      describe: describeSint,
      bits: SINT_BITS,
    }),
  ),
  row(0xa0010, 'HvRegisterScontrol', {
    requires: 'AccessSynicRegs',
    read: (_, vp) => vp.synic.state.scontrol,
    write: (_, vp, value) => vp.synic.write('scontrol', value),
    describe: (v) => [v & 1n ? 'enabled' : 'disabled'],
    bits: { enable: [0, 0, FLAG] },
  }),
  row(0xa0011, 'HvRegisterSversion', { requires: 'AccessSynicRegs', read: () => 1n }),
  row(0xa0012, 'HvRegisterSifp', {
    requires: 'AccessSynicRegs',
    read: (_, vp) => vp.synic.state.siefp,
    write: (_, vp, value) => vp.synic.write('siefp', value),
    describe: page,
    bits: PAGE_BITS,
  }),
  row(0xa0013, 'HvRegisterSipp', {
    requires: 'AccessSynicRegs',
    read: (_, vp) => vp.synic.state.simp,
    write: (_, vp, value) => vp.synic.write('simp', value),
    describe: page,
    bits: PAGE_BITS,
  }),
  row(0xa0014, 'HvRegisterEom', { requires: 'AccessSynicRegs', write: (_, vp) => vp.synic.rescan() }),
  row(0xa0015, 'HvRegisterSirbp', {
    requires: 'AccessSynicRegs',
    read: (_, vp) => vp.synic.state.sirbp,
    write: (_, vp, value) => {
      vp.synic.state.sirbp = value;
    },
    describe: page,
    bits: PAGE_BITS,
  }),
];

const STIMERS: VpRegisterRow[] = [
  ...Array.from({ length: STIMER_COUNT }, (_, n) => [
    row(0xb0000 + 2 * n, `HvRegisterStimer${n}Config`, {
      requires: 'AccessSyntheticTimerRegs',
      read: (_p, vp) => vp.stimers.state[n].config,
      write: (p, vp, value) =>
        value & STIMER_DIRECT && !p.has('DirectSyntheticTimers') ? false : vp.stimers.writeConfig(n, value),
      describe: describeStimerConfig,
      bits: STIMER_CONFIG_BITS,
    }),
    row(0xb0001 + 2 * n, `HvRegisterStimer${n}Count`, {
      requires: 'AccessSyntheticTimerRegs',
      read: (_p, vp) => vp.stimers.state[n].count,
      write: (_p, vp, value) => vp.stimers.writeCount(n, value),
      describe: hundredNs,
    }),
  ]).flat(),
  none(0xb0100, 'HvRegisterStimeUnhaltedTimerConfig'),
  none(0xb0101, 'HvRegisterStimeUnhaltedTimerCount'),
];

// No VTLs here: every one reads as "VTL 0 alone".
const VSM: VpRegisterRow[] = [
  none(0xd0002, 'HvRegisterVsmCodePageOffsets'),
  none(0xd0003, 'HvRegisterVsmVpStatus'),
  none(0xd0004, 'HvRegisterVsmPartitionStatus'),
  none(0xd0005, 'HvRegisterVsmVina'),
  none(0xd0006, 'HvRegisterVsmCapabilities'),
  none(0xd0007, 'HvRegisterVsmPartitionConfig'),
  none(0xd0008, 'HvRegisterGuestVsmPartitionConfig'),
];

/** Architectural registers: number, Arm ARM name, and the TLFS's where it is another word (§3.2). */
const ARCHITECTURAL: [number, string, string?][] = [
  ...Array.from({ length: 29 }, (_, n): [number, string] => [0x20000 + n, `X${n}`]),
  [0x2001d, 'X29', 'XFp'],
  [0x2001e, 'X30', 'XLr'],
  [0x2001f, 'SP', 'XSp'],
  [0x20020, 'SP_EL0', 'XSpEl0'],
  [0x20021, 'SP_EL1', 'XSpElx'],
  [0x20022, 'PC', 'XPc'],
  [0x20023, 'PSTATE', 'Cpsr'],
  ...Array.from({ length: 32 }, (_, n): [number, string] => [0x30000 + n, `Q${n}`]),
  [0x40000, 'MIDR_EL1'],
  [0x40001, 'MPIDR_EL1'],
  [0x40002, 'SCTLR_EL1'],
  [0x40003, 'ACTLR_EL1'],
  [0x40004, 'CPACR_EL1'],
  [0x40005, 'TTBR0_EL1'],
  [0x40006, 'TTBR1_EL1'],
  [0x40007, 'TCR_EL1'],
  [0x40008, 'ESR_EL1'],
  [0x40009, 'FAR_EL1'],
  [0x4000a, 'PAR_EL1'],
  [0x4000b, 'MAIR_EL1'],
  [0x4000c, 'VBAR_EL1'],
  [0x4000d, 'CONTEXTIDR_EL1'],
  [0x4000e, 'TPIDR_EL1'],
  [0x4000f, 'CNTKCTL_EL1'],
  [0x40010, 'TPIDRRO_EL0'],
  [0x40011, 'TPIDR_EL0'],
  [0x40012, 'FPCR'],
  [0x40013, 'FPSR'],
  [0x40014, 'SPSR_EL1'],
  [0x40015, 'ELR_EL1'],
  [0x40016, 'AFSR0_EL1'],
  [0x40017, 'AFSR1_EL1'],
  [0x40018, 'AMAIR_EL1'],
  [0x40019, 'MDSCR_EL1'],
  [0x40300, 'CTR_EL0'],
  [0x40301, 'DCZID_EL0'],
  [0x40302, 'REVIDR_EL1'],
  [0x40303, 'ID_AA64PFR0_EL1'],
  [0x40304, 'ID_AA64PFR1_EL1'],
  [0x40305, 'ID_AA64DFR0_EL1'],
  [0x40306, 'ID_AA64DFR1_EL1'],
  [0x40307, 'ID_AA64AFR0_EL1'],
  [0x40308, 'ID_AA64AFR1_EL1'],
  [0x40309, 'ID_AA64ISAR0_EL1'],
  [0x4030a, 'ID_AA64ISAR1_EL1'],
  [0x4030b, 'ID_AA64MMFR0_EL1'],
  [0x4030c, 'ID_AA64MMFR1_EL1'],
  [0x4030d, 'CLIDR_EL1'],
  [0x4030e, 'AIDR_EL1'],
  [0x4030f, 'CSSELR_EL1'],
  [0x40310, 'CCSIDR_EL1'],
  ...Array.from({ length: 16 }, (_, n): [number, string][] => [
    [0x50000 + n, `DBGBCR${n}_EL1`],
    [0x50010 + n, `DBGWCR${n}_EL1`],
    [0x50020 + n, `DBGBVR${n}_EL1`],
    [0x50030 + n, `DBGWVR${n}_EL1`],
  ]).flat(),
  [0xb0402, 'CNTP_CTL_EL0'],
  [0xb0403, 'CNTP_CVAL_EL0'],
  [0xb0405, 'CNTV_CTL_EL0'],
  [0xb0406, 'CNTV_CVAL_EL0'],
];

/** `TTBR0_EL1` -> `Ttbr0El1`. */
const tlfsWord = (name: string): string =>
  name
    .split('_')
    .map((w) => w[0] + w.slice(1).toLowerCase())
    .join('');

const architectural = ([number, name, word]: [number, string, string?]): VpRegisterRow =>
  row(number, `HvArm64Register${word ?? tlfsWord(name)}`, {
    architectural: true,
    width: /^Q\d/.test(name) ? 128 : 64,
    requires: 'AccessVpRegisters',
    read: ({ host }, vp) => host.registers.read(vp.index, name),
    write: ({ host }, vp, value) => host.registers.write(vp.index, name, value),
  });

/** All rows, by number. */
export const VP_REGISTERS: readonly VpRegisterRow[] = [
  ...IDENTIFICATION,
  ...CRASH,
  ...POWER_AND_FREQUENCY,
  ...VIRTUAL_PROCESSOR,
  ...SYNIC,
  ...STIMERS,
  ...VSM,
  ...ARCHITECTURAL.map(architectural),
].sort((a, b) => a.number - b.number);

const BY_NUMBER = new Map(VP_REGISTERS.map((r) => [r.number, r]));
const BY_NAME = new Map(VP_REGISTERS.map((r) => [r.name, r]));
if (BY_NUMBER.size !== VP_REGISTERS.length || BY_NAME.size !== VP_REGISTERS.length)
  throw new Error('a VP register is listed twice');

/** The row of a register, by TLFS name. */
export const vpRegister = (name: string): VpRegisterRow | undefined => BY_NAME.get(name);

/** `HvRegisterVpIndex`, or `HvRegister0x12345`. */
export const vpRegisterName = (number: number): string => BY_NUMBER.get(number)?.name ?? `HvRegister0x${number.toString(16)}`;

/** What a register's value says, a line per fact; empty when the number says it all. */
export const describeVpRegister = (name: string, value: bigint): string[] => BY_NAME.get(name)?.describe?.(value) ?? [];

const low = (value: bigint, width: 64 | 128): bigint => BigInt.asUintN(width, value);

/** Reads a register as the guest does. A number is a status. */
export function readVpRegister(p: Partition, vp: Vp, number: number): bigint | number {
  const r = BY_NUMBER.get(number);
  if (!r) return STATUS.INVALID_PARAMETER;
  if (r.requires && !p.has(r.requires)) return STATUS.ACCESS_DENIED;
  const held = p.overridden.get(r.name) ?? (r.read ? r.read(p, vp) : 0n);
  if (held === undefined) return STATUS.INVALID_PARAMETER;
  const value = low(held, r.width);
  if (p.host.trace.wants('vp-register'))
    p.host.trace.emit({ kind: 'vp-register', vp: vp.index, name: r.name, number, access: 'read', value });
  r.onRead?.(p, vp);
  return value;
}

/** Writes a register as the guest does; the status. */
export function writeVpRegister(p: Partition, vp: Vp, number: number, value: bigint): number {
  const r = BY_NUMBER.get(number);
  if (!r) return STATUS.INVALID_PARAMETER;
  if ((r.requires && !p.has(r.requires)) || !r.write) return STATUS.ACCESS_DENIED;
  const written = low(value, r.width);
  if (p.host.trace.wants('vp-register'))
    p.host.trace.emit({ kind: 'vp-register', vp: vp.index, name: r.name, number, access: 'write', value: written });
  return r.write(p, vp, written) === false ? STATUS.INVALID_REGISTER_VALUE : STATUS.SUCCESS;
}
