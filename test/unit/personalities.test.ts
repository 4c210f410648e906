import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError } from '../../emulator/config.ts';
import { bitNames, FEATURE_WORDS, type FeatureName, featuresOf, hasFeature } from '../../emulator/hyperv/features.ts';
import { CALLS, type CallName } from '../../emulator/hyperv/tlfs.ts';
import { PERSONALITIES, PERSONALITY_NAMES, type Personality, personality } from '../../emulator/personalities.ts';
import { FakeGuest, numberOf, SELF, VP_SELF } from './hyperv/fake-guest.ts';

const FAST = 1n << 16n;
const REP = 1n << 32n;

/** A guest of this host, its VPs on the bench with what the machine would give them. */
class Bench extends FakeGuest {
  readonly idle: number[] = [];
  readonly started: { vp: number; pc: bigint; x18: bigint }[] = [];

  constructor(platform: Personality) {
    super({ ...platform, vps: 3 });
    Object.assign(this.host, {
      idle: (vp: number) => void this.idle.push(vp),
      redistributor: (vp: number) => 0xeffe_e000 + vp * 0x2_0000,
      startVp: (vp: number, pc: bigint, registers: Record<string, bigint>) =>
        vp !== 0 && this.started.push({ vp, pc, x18: registers.X18 }) > 0,
    });
  }

  /** A call in the memory form, by the conduit that this host has; the status. */
  call(name: CallName, input: bigint[] = [], control = 0n): number | undefined {
    input.forEach((value, i) => {
      this.ram.view.setBigUint64(0x8000 + 8 * i, value, true);
    });
    return this.raw(BigInt(CALLS[name].code) | control, [0x8000n, 0x9000n]).status;
  }
  read(name: string): { status: number | undefined; value: bigint } {
    const status = this.call('HvCallGetVpRegisters', [SELF, VP_SELF, BigInt(numberOf(name))], REP);
    return { status, value: this.ram.view.getBigUint64(0x9000, true) };
  }
  write(name: string, value: bigint): number | undefined {
    return this.call('HvCallSetVpRegisters', [SELF, VP_SELF, BigInt(numberOf(name)), 0n, value, 0n], REP);
  }
}

/** True: it works. False: it is refused as the TLFS says. Anything else fails the test. */
type Claim = (b: Bench) => boolean;
const OK = 0;
const CODE = 2;
const INPUT = 3;
const PARAMETER = 5;
const DENIED = 6;
const VALUE = 0x50;

/** Works when `status` is success and `effect` is there; refused when it is one of `refusals` and `effect` is not. */
function verdict(what: string, status: number | undefined, refusals: number[], effect = status === OK): boolean {
  assert.ok(status === OK ? effect : refusals.includes(status ?? -1), `${what}: status ${status}, effect ${effect}`);
  return status === OK;
}
/** A register that reads as `expected` says. */
const register =
  (name: string, expected: (value: bigint) => boolean = () => true): Claim =>
  (b) => {
    const { status, value } = b.read(name);
    return verdict(name, status, [DENIED], status === OK && expected(value));
  };
/** A call that is not there when its privilege is; nobody advertises such a privilege. */
const absent =
  (...names: CallName[]): Claim =>
  (b) => {
    const statuses = names.map((name) => b.call(name));
    assert.ok(
      statuses.every((s) => s === DENIED || s === CODE),
      `${names}: ${statuses}`,
    );
    return false;
  };
/** Registers without effect: they read as zero, as nothing is there. */
const nothing =
  (...names: string[]): Claim =>
  (b) => {
    for (const name of names) assert.ok(b.read(name).value === 0n, name);
    return false;
  };
/** Says something of the host alone: ARM64 has no call and no register for it. */
const told = 'told' as const;
/** A hint: what it recommends works whether or not it is given. */
const hint = (works: Claim) => ({ hint: works });

const sendIpi: Claim = (b) => {
  const status = b.call('HvCallSendSyntheticClusterIpi', [5n, 1n << BigInt(b.partition.vpIndex[2])]);
  return verdict('IPI', status, [], JSON.stringify(b.ppis) === '[{"vp":2,"intid":5}]');
};
const exIpi: Claim = (b) => {
  const [vp] = [b.partition.vpIndex[1]];
  const status = b.call('HvCallSendSyntheticClusterIpiEx', [3n, 0n, 1n, 1n << BigInt(vp)], 1n << 17n);
  b.call('HvCallFlushVirtualAddressSpaceEx', [0n, 0n, 0n, 1n, 1n << BigInt(vp)], 1n << 17n);
  return verdict('ex masks', status, [], JSON.stringify([b.ppis, b.flushed]) === '[[{"vp":1,"intid":3}],[1]]');
};
const extendedRanges: Claim = (b) =>
  verdict(
    'extended ranges',
    b.call('HvCallFlushVirtualAddressList', [0n, 9n, 0n, 0x1000n], REP),
    [PARAMETER],
    b.flushed.length === 3,
  );

const CLAIMS: Record<FeatureName, Claim | typeof told | { hint: Claim }> = {
  AccessVpRunTimeReg: register('HvRegisterVpRuntime', (v) => v === 10n),
  AccessPartitionReferenceCounter: register('HvRegisterTimeRefCount', (v) => v === 70n),
  AccessSynicRegs: (b) => {
    const status = b.write('HvRegisterScontrol', 1n);
    return verdict('SynIC', status, [DENIED], b.partition.readRegister(0, 'HvRegisterScontrol') === (status === OK ? 1n : 0n));
  },
  AccessSyntheticTimerRegs: (b) => {
    b.write('HvRegisterStimer0Count', 100n);
    // One-shot message to SINT3: works without direct mode.
    const status = b.write('HvRegisterStimer0Config', 0x3_0001n);
    b.advance(20_000);
    return verdict('stimer', status, [DENIED], b.partition.readRegister(0, 'HvRegisterStimer0Config') === 0x3_0000n);
  },
  AccessIntrCtrlRegs: register('HvArm64RegisterGicrBaseGpa', (v) => v === 0xeffe_e000n),
  AccessHypercallRegs: (b) => {
    const status = b.write('HvRegisterGuestOsId', 0x8100n << 48n);
    return verdict('guest OS id', status, [DENIED], b.partition.state.guestOsId === (status === OK ? 0x8100n << 48n : 0n));
  },
  AccessVpIndex: register('HvRegisterVpIndex', (v) => v === 0n),
  AccessResetReg: () => false,
  AccessStatsReg: nothing('HvRegisterStatsPartitionRetail', 'HvRegisterStatsVpRetail'),
  AccessPartitionReferenceTsc: (b) => {
    const status = b.write('HvRegisterReferenceTsc', 0xa001n);
    return verdict('TSC page', status, [DENIED], (b.ram.view.getUint32(0xa000, true) === 1) === (status === OK));
  },
  AccessGuestIdleReg: (b) => verdict('idle', b.read('HvRegisterGuestIdle').status, [DENIED], b.idle.length === 1),
  AccessFrequencyRegs: register('HvRegisterInterruptClockFrequency', (v) => v === 1_000_000_000n),
  AccessDebugRegs: register('HvRegisterDebugDeviceOptions'),
  AccessReenlightenmentControls: told,
  AccessRootSchedulerReg: nothing('HvRegisterGuestSchedulerEvent'),
  AccessTscInvariantControls: () => false,
  CreatePartitions: absent('HvCallCreatePartition', 'HvCallCreateVp', 'HvCallGetPartitionProperty'),
  AccessPartitionId: (b) =>
    verdict('partition id', b.call('HvCallGetPartitionId'), [DENIED], b.ram.view.getBigUint64(0x9000, true) === 2n),
  AccessMemoryPool: absent('HvCallDepositMemory', 'HvCallWithdrawMemory'),
  AdjustMessageBuffers: () => false,
  PostMessages: (b) => {
    let posted = 0;
    b.partition.connectMessagePort(7, { post: () => ++posted * 0, describe: () => undefined });
    return verdict('post', b.call('HvCallPostMessage', [7n, 1n]), [DENIED], posted === 1);
  },
  SignalEvents: (b) => {
    let signalled = 0;
    b.partition.connectEventPort(9, 1, () => ++signalled * 0);
    return verdict('signal', b.call('HvCallSignalEvent', [9n]), [DENIED], signalled === 1);
  },
  CreatePort: absent('HvCallCreatePort', 'HvCallDeletePort'),
  ConnectPort: absent('HvCallConnectPort', 'HvCallDisconnectPort'),
  AccessStats: absent('HvCallMapStatsPage', 'HvCallUnmapStatsPage'),
  Debugging: absent('HvCallPostDebugData', 'HvCallRetrieveDebugData', 'HvCallOutputDebugCharacter'),
  CpuManagement: absent('HvCallAddLogicalProcessor', 'HvCallSetSystemProperty'),
  ConfigureProfiler: absent('HvCallCreateEventLogBuffer'),
  AccessVpExitTracing: () => false,
  EnableExtendedGvaRangesForFlushVirtualAddressList: extendedRanges,
  AccessVsm: absent('HvCallEnablePartitionVtl', 'HvCallVtlCall'),
  AccessVpRegisters: (b) => {
    const status = b.call('HvCallGetVpRegisters', [SELF, VP_SELF, BigInt(numberOf('HvArm64RegisterX5'))], REP);
    return verdict('architectural', status, [DENIED], b.ram.view.getBigUint64(0x9000, true) === 0x55n);
  },
  FastHypercallOutput: (b) => {
    const index = BigInt(numberOf('HvRegisterVpIndex'));
    const { status } = b.raw(0x50n | REP | FAST, [SELF, VP_SELF, index]);
    return verdict('fast output', status, [INPUT], b.x[15] === 0n);
  },
  EnableExtendedHypercalls: (b) =>
    verdict('capabilities', b.call('HvExtCallQueryCapabilities'), [DENIED], b.ram.view.getBigUint64(0x9000, true) === 0x100n),
  StartVirtualProcessor: (b) => {
    const status = b.call('HvCallStartVirtualProcessor', [
      SELF,
      BigInt(b.partition.vpIndex[2]),
      0x4000n,
      0n,
      0n,
      0n,
      0n,
      0n,
      0n,
      0n,
      18n,
    ]);
    return verdict('start', status, [DENIED], b.started[0]?.vp === 2 && b.started[0].pc === 0x4000n && b.started[0].x18 === 18n);
  },
  Isolation: absent('HvCallModifySparseGpaPageHostVisibility'),
  // What the hypervisor has for those who may debug: this partition lacks the privilege.
  GuestDebuggingAvailable: told,
  PerformanceMonitorsAvailable: () => false,
  CpuDynamicPartitioningAvailable: () => false,
  GuestIdleAvailable: () => false,
  HypervisorSleepStateSupportAvailable: absent('HvCallEnterSleepState'),
  // For those with CpuManagement, like debugging.
  NumaDistanceQueryAvailable: told,
  FrequencyRegsAvailable: register('HvRegisterProcessorClockFrequency', (v) => v === 1_000_000_000n),
  SyntheticMachineCheckAvailable: told,
  GuestCrashRegsAvailable: register('HvRegisterGuestCrashCtl', (v) => v === 0xc000_0000_0000_0000n),
  DebugRegsAvailable: register('HvRegisterDebugDeviceOptions'),
  DisableHypervisorAvailable: absent('HvCallDisableHypervisor'),
  ExtendedGvaRangesForFlushVirtualAddressListAvailable: extendedRanges,
  SintPollingModeAvailable: (b) => verdict('polling', b.write('HvRegisterSint3', 0x4_0013n), [VALUE]),
  DirectSyntheticTimers: (b) => {
    b.write('HvRegisterStimer0Count', 100n);
    const status = b.write('HvRegisterStimer0Config', 0x1111n);
    b.advance(20_000);
    return verdict('direct', status, [VALUE, DENIED], JSON.stringify(b.ppis) === '[{"vp":0,"intid":17}]');
  },
  DeviceDomains: () => false,
  Stage1DeviceDomains: () => false,
  UseResetRegister: () => false,
  UseRelaxedTiming: told,
  UseSyntheticClusterIpi: hint(sendIpi),
  UseExProcessorMasks: hint(exIpi),
  HypervisorIsNested: () => false,
  UseSyncedTimeline: () => false,
  RingBufferMessagePort: () => false,
  UseHypercallForMmioAccess: absent('HvCallMemoryMappedIoRead', 'HvCallMemoryMappedIoWrite'),
  UseGpaPinningHypercall: absent('HvCallPinGpaPageRanges'),
  WakeVps: () => false,
  MapPartitionEventLogBuffer: absent('HvCallMapEventLogBuffer'),
  HeatHint: () => false,
};

const BITS = FEATURE_WORDS.flatMap((w) => Object.keys(w.bits) as FeatureName[]);
/** What the hypervisor has of a thing that the partition needs a privilege for: the privilege decides. */
const BY_PRIVILEGE: Partial<Record<FeatureName, FeatureName>> = {
  FrequencyRegsAvailable: 'AccessFrequencyRegs',
  ExtendedGvaRangesForFlushVirtualAddressListAvailable: 'EnableExtendedGvaRangesForFlushVirtualAddressList',
};

for (const name of PERSONALITY_NAMES.filter((n) => PERSONALITIES[n].hypervisor))
  test(`${name}: every feature bit is true: what is advertised works, what is not is refused`, () => {
    const platform = personality(name);
    const wrong = BITS.flatMap((bit) => {
      const claim = CLAIMS[bit];
      if (claim === told) return [];
      const bench = new Bench(platform);
      bench.advance(7_000);
      if (typeof claim !== 'function') return claim.hint(bench) ? [] : [`${bit} does not work`];
      const decides = BY_PRIVILEGE[bit] ?? bit;
      const advertised = hasFeature(platform.features, decides) || platform.granted.includes(decides);
      const works = claim(bench);
      return works === advertised ? [] : [`${bit}: advertised ${advertised}, works ${works}`];
    });
    assert.deepEqual(wrong, []);
    // No bit that the specifications have no name for.
    const unnamed = FEATURE_WORDS.flatMap((w) =>
      bitNames(w.field, platform.features[w.field]).filter((b) => b.startsWith('bit ')),
    );
    assert.deepEqual(unnamed, []);
  });

test('every bit can be taken back: the host that lacks it alone refuses it', () => {
  const bits = BITS.filter((bit) => hasFeature(PERSONALITIES.hyperstep.features, bit));
  assert.ok(bits.length > 15);
  const still = bits.filter((bit) => {
    const claim = CLAIMS[bit];
    const bench = new Bench(personality('hyperstep', { [bit]: false }));
    bench.advance(7_000);
    return typeof claim === 'function' && claim(bench);
  });
  assert.deepEqual(still, Object.keys(BY_PRIVILEGE));
});

test('every bit can be added', () => {
  const p = personality('none', Object.fromEntries(BITS.map((bit) => [bit, true])));
  assert.deepEqual(p.features, featuresOf(BITS));
});

test('overrides of one thing each, as values and as texts', () => {
  const p = personality('wsl-woa', {
    discovery: 'none',
    conduits: ['raw'],
    vmbusPpi: '24',
    vpIndex: '0,3,0x10',
    vmbusVersion: 4.0,
    timer: 'silent',
    psciVersion: '1.1',
    counterFrequency: 62_500_000,
    hints: '0x3',
    UseExProcessorMasks: 'true',
    HvRegisterImplementationLimitsInfo: '0x10000000200',
    HvRegisterVpIndex: 9,
  });
  assert.deepEqual(
    [
      p.discovery,
      p.conduits,
      p.ppi.vmbus,
      p.vpIndex,
      p.vmbusVersion,
      p.timer,
      p.psciVersion,
      p.counterFrequency,
      p.features.hints,
    ],
    [[], ['raw'], 24, [0, 3, 16], '4.0', 'silent', '1.1', 62_500_000, 0xb],
  );
  const b = new Bench(p);
  assert.deepEqual(
    [
      b.read('HvRegisterImplementationLimitsInfo').value,
      b.read('HvRegisterVpIndex').value,
      b.partition.readRegister(2, 'HvRegisterVpIndex'),
    ],
    [0x100_0000_0200n, 9n, 9n],
  );
  assert.equal(PERSONALITIES['wsl-woa'].ppi.vmbus, 18);
});

test('a feature word by its register is what is said and what is done', () => {
  const { features } = personality('hyperstep', {
    HvRegisterPrivilegesAndFeaturesInfo: `0x${((0x3000n << 64n) | (0x30n << 32n) | 0x6fn).toString(16)}`,
    HvRegisterFeaturesInfo: 2,
  });
  assert.deepEqual(features, { features: 0x6f, priv_high: 0x30, misc_features: 0x3000, hints: 2 });
});

test('what is no personality, no setting and no value is told in one line', () => {
  const problem = (name: string, overrides = {}): string => {
    try {
      personality(name, overrides);
    } catch (e) {
      assert.ok(e instanceof ConfigError);
      assert.doesNotMatch(e.message, /\n/);
      return e.message;
    }
    return 'none';
  };
  assert.match(problem('azure'), /^platform "azure" is not known: 2018, hyperstep, azure-cobalt, /);
  assert.match(problem('toString'), /is not known/);
  assert.match(problem('2018', { vmbusppi: 1 }), /^platform setting "vmbusppi" is not known: /);
  assert.match(problem('2018', { HvArm64RegisterX0: 1 }), /is not known/);
  assert.equal(problem('2018', { vmbusPpi: 33 }), 'platform setting "vmbusPpi" must be a number from 16 to 31, not 33');
  assert.equal(problem('2018', { timer: 'slow' }), 'platform setting "timer" must be fires or silent, not "slow"');
  assert.equal(
    problem('2018', { vpIndex: [1, 1] }),
    'platform setting "vpIndex" must be a list of numbers that are not the same, not [1,1]',
  );
  assert.equal(problem('2018', { PostMessages: 'yes' }), 'platform setting "PostMessages" must be true or false, not "yes"');
  assert.match(problem('2018', { HvRegisterVpIndex: '-1' }), /must be a number from 0 to 0xffffffffffffffff/);
});

test('VP indices that are not 0, 1, 2: registers, sets of VPs and statuses go by them', () => {
  const b = new Bench(personality('2018'));
  const index = (vp: bigint) => {
    const status = b.call('HvCallGetVpRegisters', [SELF, vp, BigInt(numberOf('HvRegisterVpIndex'))], REP);
    return [status, b.ram.view.getBigUint64(0x9000, true)];
  };
  assert.deepEqual([index(4n), index(1n)[0], index(VP_SELF)], [[OK, 4n], 0xe, [OK, 0n]]);
  b.call('HvCallFlushVirtualAddressSpace', [0n, 0n, 0b110n]);
  assert.deepEqual(b.flushed, [1]);
});
