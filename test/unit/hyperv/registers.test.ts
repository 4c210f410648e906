import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ADVERTISED, bitNames, FEATURE_WORDS, featuresOf, hasFeature } from '../../../emulator/hyperv/features.ts';
import { describeVpRegister, VP_REGISTERS, vpRegisterName } from '../../../emulator/hyperv/registers.ts';
import { FakeGuest, numberOf, SELF, VP_SELF } from './fake-guest.ts';

const GET = 0x1_0001_0050n;
const SET = 0x1_0001_0051n;

test('all registers a mainline guest touches are readable before it has said who it is', () => {
  const g = new FakeGuest();
  const touched = [
    0x200, 0x201, 0x100, 0x90002, 0x90003, 0x90004, 0xa0002, 0xa0010, 0xa0012, 0xa0013, 0xa0014, 0x210, 0x214, 0x215, 0xd0003,
  ];
  const statuses = touched.map((n) => g.smccc(GET, [SELF, VP_SELF, BigInt(n)]).statusName);
  assert.deepEqual(
    statuses,
    touched.map(() => 'HV_STATUS_SUCCESS'),
  );
});

test('features are advertised as real hosts do, without what would make Linux a root partition', () => {
  const g = new FakeGuest();
  const value = g.get('HvRegisterPrivilegesAndFeaturesInfo');
  const dwords = [0n, 32n, 64n, 96n].map((s) => Number((value >> s) & 0xffff_ffffn));
  assert.deepEqual(dwords, [0xa6f, 0x1a_8030, 0x3940, 0]);
  assert.deepEqual(g.get('HvRegisterFeaturesInfo'), 0xffff_ffff_0000_0000n);
  assert.equal(hasFeature(ADVERTISED, 'CreatePartitions') || hasFeature(ADVERTISED, 'Isolation'), false);
});

test('feature names and bits are one to one', () => {
  for (const word of FEATURE_WORDS)
    assert.equal(new Set(Object.values(word.bits)).size, Object.keys(word.bits).length, word.field);
  assert.deepEqual(
    bitNames('misc_features', featuresOf(['GuestCrashRegsAvailable', 'DirectSyntheticTimers']).misc_features | (1 << 31)),
    ['GuestCrashRegsAvailable', 'DirectSyntheticTimers', 'bit 31'],
  );
});

test('every readable register can be read by the debugger and by the guest with the same value', () => {
  const g = new FakeGuest();
  g.clock.skipTo(123_456);
  const differ = g.partition.registers().filter((r) => {
    const info = g.smccc(GET, [SELF, VP_SELF, BigInt(r.number)]);
    if (info.statusName === 'HV_STATUS_ACCESS_DENIED')
      return !['HvRegisterGuestIdle', 'HvRegisterDebugDeviceOptions', 'HvArm64RegisterGicrBaseGpa'].includes(r.name);
    return info.status !== 0 || (g.x[6] | (g.x[7] << 64n)) !== g.partition.readRegister(0, r.name);
  });
  assert.deepEqual(differ, []);
});

test('unknown, read-only and missing registers have their statuses', () => {
  const g = new FakeGuest();
  const name = (n: string) => BigInt(numberOf(n));
  const read = (n: bigint) => g.smccc(GET, [SELF, VP_SELF, n]).statusName;
  const write = (n: bigint) => g.smccc(SET, [SELF, VP_SELF, n, 0n, 1n, 0n]).statusName;
  assert.deepEqual(
    [
      read(0x7777n),
      write(0x7777n),
      write(name('HvRegisterVpIndex')),
      write(name('HvArm64RegisterMidrEl1')),
      read(name('HvArm64RegisterMidrEl1')),
    ],
    [
      'HV_STATUS_INVALID_PARAMETER',
      'HV_STATUS_INVALID_PARAMETER',
      'HV_STATUS_ACCESS_DENIED',
      'HV_STATUS_INVALID_REGISTER_VALUE',
      'HV_STATUS_INVALID_PARAMETER',
    ],
  );
});

test('the high half of a 64-bit register is ignored when written and zero when read', () => {
  const g = new FakeGuest();
  g.smccc(SET, [SELF, VP_SELF, BigInt(numberOf('HvRegisterGuestOsId')), 0n, 0x8200n << 48n, 0xdeadn]);
  assert.equal(g.get('HvRegisterGuestOsId'), 0x8200n << 48n);
  assert.equal(g.set('HvRegisterGuestOsId', 0n), 'HV_STATUS_SUCCESS');
});

test('architectural registers go through the CPU, Q registers with all 128 bits', () => {
  const g = new FakeGuest();
  assert.deepEqual(
    [g.get('HvArm64RegisterX5'), g.get('HvArm64RegisterQ3'), g.get('HvArm64RegisterTtbr1El1')],
    [0x55n, (1n << 100n) | 7n, 0x4000_0000n],
  );
  g.set('HvArm64RegisterQ3', (3n << 90n) | 1n);
  assert.equal(g.architectural.Q3, (3n << 90n) | 1n);
});

test('without AccessVpRegisters a guest reaches its own synthetic registers alone', () => {
  const g = new FakeGuest({ features: { priv_high: featuresOf(['FastHypercallOutput']).priv_high } });
  const ask = (vp: bigint, name: string) => g.smccc(GET, [SELF, vp, BigInt(numberOf(name))]).statusName;
  assert.deepEqual(
    [ask(VP_SELF, 'HvRegisterVpIndex'), ask(1n, 'HvRegisterVpIndex'), ask(VP_SELF, 'HvArm64RegisterX5')],
    ['HV_STATUS_SUCCESS', 'HV_STATUS_ACCESS_DENIED', 'HV_STATUS_ACCESS_DENIED'],
  );
});

test('registers of a feature that is not advertised are refused', () => {
  const g = new FakeGuest({ features: featuresOf(['AccessVpIndex', 'FastHypercallOutput']) });
  const refused = VP_REGISTERS.filter((r) => !r.architectural && g.smccc(GET, [SELF, VP_SELF, BigInt(r.number)]).status === 6);
  assert.deepEqual(
    refused.map((r) => r.requires),
    VP_REGISTERS.filter((r) => !r.architectural && r.requires && r.requires !== 'AccessVpIndex').map((r) => r.requires),
  );
});

test("VP runtime is the VP's own", () => {
  const g = new FakeGuest();
  assert.deepEqual([g.get('HvRegisterVpRuntime', 0), g.get('HvRegisterVpRuntime', 1)], [10n, 20n]);
});

test('the debugger writes as the guest would, and only what is writable', () => {
  const g = new FakeGuest();
  assert.deepEqual(
    [
      g.partition.writeRegister(1, 'HvRegisterSint5', 0x11n),
      g.partition.readRegister(1, 'HvRegisterSint5'),
      g.partition.writeRegister(0, 'HvRegisterVpIndex', 1n),
      g.partition.writeRegister(0, 'HvRegisterNoSuch', 1n),
      g.partition.readRegister(2, 'HvRegisterSint5'),
    ],
    [true, 0x11n, false, false, undefined],
  );
});

test('values are explained in words', () => {
  assert.deepEqual(
    [
      describeVpRegister('HvRegisterHypervisorVersion', new FakeGuest().get('HvRegisterHypervisorVersion')),
      describeVpRegister('HvRegisterGuestOsId', 0x8100_0006_01c0_0000n),
      describeVpRegister('HvRegisterSint2', 0x1_0012n),
      describeVpRegister('HvRegisterSipp', 0x4_2001n),
      describeVpRegister('HvRegisterStimer0Config', 0x1119n),
      describeVpRegister('HvRegisterVpIndex', 3n),
      vpRegisterName(0x123456),
    ],
    [
      ['10.0.26100.1-0-0'],
      ['open source, Linux', 'version 6.1.192'],
      ['vector 18', 'masked'],
      ['enabled', 'GPA 0x42000'],
      ['enabled', 'one-shot', 'auto-enable', 'direct mode, INTID 17'],
      [],
      'HvRegister0x123456',
    ],
  );
});

test('a crash is reported with its parameters once, and the guest goes on', () => {
  const g = new FakeGuest();
  assert.equal(g.get('HvRegisterGuestCrashCtl'), 0xc000_0000_0000_0000n);
  for (const [n, v] of [11n, 22n, 33n, 44n, 55n].entries()) g.set(`HvRegisterGuestCrashP${n}`, v);
  g.set('HvRegisterGuestCrashCtl', 1n);
  assert.equal(g.partition.takeCrash(), undefined);
  assert.equal(g.set('HvRegisterGuestCrashCtl', 1n << 63n, 1), 'HV_STATUS_SUCCESS');
  const report = { vp: 1, parameters: [11n, 22n, 33n, 44n, 55n], control: 1n << 63n, message: '' };
  assert.deepEqual([g.partition.takeCrash(), g.partition.takeCrash()], [report, undefined]);
  assert.deepEqual(
    g.events.filter((e) => e.kind === 'crash'),
    [{ kind: 'crash', ...report }],
  );
});

test('a crash message comes from the guest page that P3 names, as far as P4 says', () => {
  const g = new FakeGuest();
  const text = 'Kernel panic - not syncing: sysrq triggered crash\n';
  g.ram.write(0x5000, new TextEncoder().encode(`${text}rest`));
  const crash = (p3: bigint, p4: bigint) => {
    g.set('HvRegisterGuestCrashP3', p3);
    g.set('HvRegisterGuestCrashP4', p4);
    g.set('HvRegisterGuestCrashCtl', 3n << 62n);
    return g.partition.takeCrash()?.message;
  };
  assert.deepEqual(
    [crash(0x5000n, BigInt(text.length)), crash(0x5000n, SELF)?.length, crash(SELF, 16n), crash(0n, 16n)],
    [text, text.length + 4, '', ''],
  );
});
