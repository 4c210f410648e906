import assert from 'node:assert/strict';
import { test } from 'node:test';
import { idRegisters, mpidr } from '../../../emulator/cpu/models.ts';
import { findSystemRegister, SYSREGS, sysregCell, sysregClass, systemRegister } from '../../../emulator/cpu/sysregs.ts';
import { PSTATE, VP } from '../../../emulator/cpu/vp-state.ts';
import { affinityOf } from '../../../emulator/platform/addresses.ts';
import { fixture, sysWord } from './fixture.ts';

const EL0 = PSTATE.EL0T;
const hex = (v: bigint) => `0x${v.toString(16)}`;

test('identification registers are computed from the features', () => {
  const values = (features: Parameters<typeof idRegisters>[0]) =>
    Object.fromEntries(Object.entries(idRegisters(features, 40)).map(([k, v]) => [k, hex(v)]));
  const none = { ID_AA64PFR0_EL1: '0x1000011', ID_AA64MMFR0_EL1: '0x100022', ID_AA64DFR0_EL1: '0x10305006' };
  assert.deepEqual(values([]), none);
  assert.deepEqual(values(['AES', 'PMULL', 'LSE', 'FP16', 'PAN', 'PAN2', 'E0PD']), {
    ...none,
    ID_AA64PFR0_EL1: '0x1110011',
    ID_AA64ISAR0_EL1: '0x200020',
    ID_AA64MMFR1_EL1: '0x200000',
    ID_AA64MMFR2_EL1: '0x1000000000000000',
  });
});

test('identification registers of neoverse-n1 are those of the machine, less what is not implemented', () => {
  const f = fixture({ model: 'neoverse-n1', vpCount: 4, index: 2 });
  const names = [
    'MIDR_EL1',
    'MPIDR_EL1',
    'CTR_EL0',
    'CLIDR_EL1',
    'DCZID_EL0',
    'ID_AA64PFR0_EL1',
    'ID_AA64PFR1_EL1',
    'ID_AA64ISAR0_EL1',
    'ID_AA64ISAR1_EL1',
    'ID_AA64MMFR1_EL1',
    'CCSIDR_EL1',
  ];
  assert.deepEqual(
    names.map((n) => hex(f.get(n))),
    [
      '0x413fd0c1',
      '0x80000002',
      '0xb444c004',
      '0xa200023',
      '0x4',
      '0x1100000011110011',
      '0x20',
      '0x100010211120',
      '0x100001',
      '0x212002',
      '0x1fe01a',
    ],
  );
  f.set('CSSELR_EL1', 2n);
  assert.equal(f.get('CCSIDR_EL1'), 0xffe03an);
});

test('MPIDR_EL1 has the affinity that the GIC and PSCI use', () => {
  for (const vp of [0, 5, 63]) assert.equal(mpidr(vp, 64) & 0xff00ffffffn, BigInt(affinityOf(vp)));
  assert.equal(mpidr(0, 1), 0xc0000000n);
});

test('what generated code may do by itself', () => {
  const classes = (name: string) => {
    const r = systemRegister(name);
    return r && [sysregClass(r, false), sysregClass(r, true)];
  };
  const names = [
    'TPIDR_EL0',
    'TPIDRRO_EL0',
    'TPIDR_EL1',
    'SP_EL0',
    'SP_EL1',
    'MIDR_EL1',
    'CTR_EL0',
    'DCZID_EL0',
    'SCTLR_EL1',
    'TTBR1_EL1',
    'ELR_EL1',
    'CNTVCT_EL0',
    'ICC_IAR1_EL1',
    'FPCR',
    'NZCV',
    'DISR_EL1',
  ];
  assert.deepEqual(Object.fromEntries(names.map((n) => [n, classes(n)])), {
    TPIDR_EL0: [2, 2],
    TPIDRRO_EL0: [2, 1],
    TPIDR_EL1: [1, 1],
    SP_EL0: [1, 1],
    SP_EL1: [0, 0],
    MIDR_EL1: [1, 0],
    CTR_EL0: [1, 0],
    DCZID_EL0: [1, 0],
    SCTLR_EL1: [1, 0],
    TTBR1_EL1: [1, 0],
    ELR_EL1: [1, 1],
    CNTVCT_EL0: [0, 0],
    ICC_IAR1_EL1: [0, 0],
    FPCR: [0, 0],
    NZCV: [0, 0],
    DISR_EL1: [0, 0],
  });
  assert.equal(sysregCell(systemRegister('SP_EL0')!), VP.SP_EL0);
});

test('cells do not overlap and lie in the block', () => {
  const cells = SYSREGS.filter((r) => r.at >= VP.SYS).map((r) => r.at);
  assert.equal(new Set(cells).size, cells.length);
  assert.ok(Math.max(...cells) + 8 <= VP.SIZE);
});

test('the reserved identification space reads as zero, other unknown encodings are UNDEFINED', () => {
  const f = fixture();
  const mrs = (op0: number, op1: number, crn: number, crm: number, op2: number) => {
    f.vp.setX(3, 0x55n);
    const out = f.system.execute(f.vp, 0xd5200003 | (op0 << 19) | (op1 << 16) | (crn << 12) | (crm << 8) | (op2 << 5));
    return out === 'undef' ? 'undef' : f.vp.x(3);
  };
  for (let crm = 1; crm <= 3; crm++) for (let op2 = 0; op2 < 8; op2++) assert.equal(mrs(3, 0, 0, crm, op2), 0n);
  assert.equal(mrs(3, 0, 0, 7, 7), 0n);
  assert.equal(sysregClass({ op0: 3, op1: 0, crn: 0, crm: 1, op2: 0 }, false), 1);
  assert.deepEqual(
    [mrs(3, 0, 0, 0, 1), mrs(3, 0, 15, 0, 0), mrs(3, 3, 11, 12, 0), mrs(3, 4, 1, 0, 0), mrs(3, 0, 0, 8, 0)],
    Array(5).fill('undef'),
  );
  assert.equal(findSystemRegister({ op0: 3, op1: 3, crn: 11, crm: 12, op2: 0 }), undefined);
});

test('EL0 may use what is EL0’s, traps where a control says so, and finds the rest UNDEFINED', () => {
  const f = fixture();
  const at = (name: string, direction: 'mrs' | 'msr') => {
    f.pstate(EL0);
    f.vp.pc = 0x4000n;
    f.vp.setU64(f.row('ESR_EL1').at, 0n);
    const out = f.system.execute(f.vp, f.word(name, direction, 7));
    return out === 'jumped' ? `ec ${Number(f.vp.u64(f.row('ESR_EL1').at) >> 26n).toString(16)}` : out;
  };
  const all = () => ({
    TPIDR_EL0: [at('TPIDR_EL0', 'mrs'), at('TPIDR_EL0', 'msr')],
    TPIDRRO_EL0: [at('TPIDRRO_EL0', 'mrs'), at('TPIDRRO_EL0', 'msr')],
    CTR_EL0: at('CTR_EL0', 'mrs'),
    DCZID_EL0: at('DCZID_EL0', 'mrs'),
    DAIF: [at('DAIF', 'mrs'), at('DAIF', 'msr')],
    CNTVCT_EL0: at('CNTVCT_EL0', 'mrs'),
    CNTPCT_EL0: at('CNTPCT_EL0', 'mrs'),
    CNTFRQ_EL0: [at('CNTFRQ_EL0', 'mrs'), at('CNTFRQ_EL0', 'msr')],
    CNTV_CTL_EL0: at('CNTV_CTL_EL0', 'msr'),
    FPCR: at('FPCR', 'mrs'),
    NZCV: at('NZCV', 'msr'),
    MIDR_EL1: at('MIDR_EL1', 'mrs'),
    SCTLR_EL1: at('SCTLR_EL1', 'msr'),
    CurrentEL: at('CurrentEL', 'mrs'),
    ICC_IAR1_EL1: at('ICC_IAR1_EL1', 'mrs'),
  });
  const closed = all();
  f.pstate(PSTATE.EL1H);
  f.set('SCTLR_EL1', (1n << 15n) | (1n << 9n));
  f.set('CNTKCTL_EL1', 0x302n);
  f.set('CPACR_EL1', 3n << 20n);
  const open = all();
  const same = {
    TPIDR_EL0: ['next', 'next'],
    TPIDRRO_EL0: ['next', 'undef'],
    DCZID_EL0: 'next',
    NZCV: 'next',
    MIDR_EL1: 'undef',
    SCTLR_EL1: 'undef',
    CurrentEL: 'undef',
    ICC_IAR1_EL1: 'undef',
  };
  assert.deepEqual(closed, {
    ...same,
    CTR_EL0: 'ec 18',
    DAIF: ['ec 18', 'ec 18'],
    CNTVCT_EL0: 'ec 18',
    CNTPCT_EL0: 'ec 18',
    CNTFRQ_EL0: ['ec 18', 'undef'],
    CNTV_CTL_EL0: 'ec 18',
    FPCR: 'ec 7',
  });
  assert.deepEqual(open, {
    ...same,
    CTR_EL0: 'next',
    DAIF: ['next', 'next'],
    CNTVCT_EL0: 'next',
    CNTPCT_EL0: 'ec 18',
    CNTFRQ_EL0: ['next', 'undef'],
    CNTV_CTL_EL0: 'next',
    FPCR: 'next',
  });
});

test('a trapped MRS tells the register and the direction', () => {
  const f = fixture();
  f.pstate(EL0);
  // MRS X7, CNTVCT_EL0: op0 3, op1 3, CRn 14, CRm 0, op2 2.
  f.system.execute(f.vp, f.word('CNTVCT_EL0', 'mrs', 7));
  assert.equal(
    f.vp.u64(f.row('ESR_EL1').at),
    (0x18n << 26n) | (1n << 25n) | (3n << 20n) | (2n << 17n) | (3n << 14n) | (14n << 10n) | (7n << 5n) | 1n,
  );
});

test('writes to translation controls forget translations, once', () => {
  const f = fixture();
  for (const name of ['TTBR0_EL1', 'TTBR1_EL1', 'TCR_EL1', 'MAIR_EL1']) {
    f.log.length = 0;
    f.set(name, 0x123000n);
    f.set(name, 0x123000n);
    assert.deepEqual(f.log, [name === 'TTBR0_EL1' ? 'switch VP 0 from ASID 0 to 0' : 'flush all'], name);
  }
  f.log.length = 0;
  f.set('TTBR1_EL1', 0x123000n | (5n << 48n));
  assert.deepEqual(f.log, ['switch VP 0 from ASID 0 to 0']);
  f.set('TCR_EL1', 1n << 22n);
  f.log.length = 0;
  f.set('TTBR1_EL1', 0x123000n | (6n << 48n));
  assert.deepEqual(f.log, ['switch VP 0 from ASID 5 to 6']);
  f.log.length = 0;
  f.set('SCTLR_EL1', f.get('SCTLR_EL1') | 1n);
  f.set('TPIDR_EL1', 1n);
  assert.deepEqual(f.log, ['flush all']);
});

test('SCTLR_EL1 keeps only what this CPU has', () => {
  const all = fixture();
  all.set('SCTLR_EL1', (1n << 64n) - 1n);
  // EPAN, DSSBS, EnIA, EnIB, LSMAOE, nTLSMD, EnDA, UCI, SPAN, EIS, TSCXT, WXN, nTWE, nTWI, UCT, DZE, EnDB, I, EOS, EnRCTX, UMA, SED,
  // ITD, SA0, SA, C, A, M.
  assert.equal(hex(all.get('SCTLR_EL1')), '0x2001018fcddffdf');
  const old = fixture({ features: [] });
  old.set('SCTLR_EL1', 0n);
  // LSMAOE, nTLSMD, SPAN, EIS, TSCXT, EOS, SED, ITD.
  assert.equal(hex(old.get('SCTLR_EL1')), '0x30d00980');
});

test('derived cells follow CPACR_EL1, SCTLR_EL1 and PSTATE', () => {
  const f = fixture();
  const cells = () => [VP.REGIME, VP.FP_ENABLED, VP.EL1, VP.DZ_ENABLED, VP.UCI_ENABLED, VP.ALIGN_CHECK].map((at) => f.vp.u32(at));
  const seen: Record<string, number[]> = {};
  seen.reset = cells();
  f.system.execute(f.vp, 0xd500419f); // MSR PAN, #1
  seen.pan = cells();
  f.set('CPACR_EL1', 1n << 20n);
  seen.fpEl1 = cells();
  f.pstate(EL0);
  seen.el0 = cells();
  f.set('CPACR_EL1', 3n << 20n);
  f.set('SCTLR_EL1', (1n << 14n) | (1n << 26n) | 2n);
  seen.el0Open = cells();
  f.pstate(PSTATE.EL1T);
  seen.el1t = cells();
  assert.deepEqual(seen, {
    reset: [2, 0, 1, 1, 1, 0],
    pan: [1, 0, 1, 1, 1, 0],
    fpEl1: [1, 1, 1, 1, 1, 0],
    el0: [0, 0, 0, 0, 0, 0],
    el0Open: [0, 1, 0, 1, 1, 1],
    el1t: [2, 1, 0, 1, 1, 1],
  });
});

test('MSR immediate: SPSel switches the stack pointer, DAIF sets and clears, PAN needs the feature', () => {
  const f = fixture();
  f.vp.sp = 0x1111n;
  f.set('SP_EL0', 0x2222n);
  assert.equal(f.system.execute(f.vp, 0xd50040bf), 'next'); // MSR SPSel, #0
  assert.equal(f.vp.sp, 0x2222n);
  assert.equal(f.get('SP_EL1'), 0x1111n);
  assert.equal(f.get('SP_EL0'), 0x2222n);
  assert.equal(f.system.execute(f.vp, f.word('SP_EL0', 'mrs', 0)), 'undef');
  f.system.execute(f.vp, 0xd50041bf); // MSR SPSel, #1
  assert.equal(f.vp.sp, 0x1111n);
  assert.equal(f.system.execute(f.vp, f.word('SP_EL0', 'mrs', 0)), 'next');
  f.system.execute(f.vp, 0xd50343ff); // MSR DAIFClr, #3
  assert.equal(f.get('DAIF'), 0x300n);
  f.system.execute(f.vp, 0xd50342df); // MSR DAIFSet, #2
  assert.equal(f.get('DAIF'), 0x380n);
  f.pstate(EL0);
  assert.equal(f.system.execute(f.vp, 0xd500419f), 'undef');
  assert.equal(f.system.execute(f.vp, 0xd50343ff), 'jumped');
  assert.equal(fixture({ features: [] }).system.execute(fixture().vp, 0xd500419f), 'undef');
});

test('TLB maintenance: by address a page, else everything; ranges and outer shareable only with the feature', () => {
  const f = fixture();
  const run = (crm: number, op2: number) => {
    f.log.length = 0;
    return [f.system.execute(f.vp, sysWord(0, 8, crm, op2, 1)), ...f.log].join(' ');
  };
  f.vp.setX(1, (5n << 48n) | ((0xffff800012345000n >> 12n) & ((1n << 44n) - 1n)));
  assert.equal(run(7, 0), 'next flush all');
  assert.equal(run(3, 1), 'next flush 0xffff800012345000 of ASID 5');
  assert.equal(run(3, 2), 'next flush address spaces 5');
  assert.equal(run(7, 7), 'next flush 0xffff800012345000');
  assert.equal(run(1, 3), 'next flush 0xffff800012345000');
  // Ranges of 4 KiB granules: two pages; 2048 of them low, and across the halves; of no granule.
  const range = (va: bigint, tg: bigint, scale: bigint, num: bigint) => {
    f.vp.setX(1, ((va >> 12n) & 0x1fffffffffn) | (num << 39n) | (scale << 44n) | (tg << 46n) | (5n << 48n));
    return run(2, 1);
  };
  assert.deepEqual(
    [
      range(0xffff800012345000n, 1n, 0n, 0n),
      range(0x40000000n, 1n, 1n, 31n),
      range(0xffff800012345000n, 1n, 1n, 31n),
      range(0x40000000n, 0n, 0n, 0n),
    ],
    [
      'next flush 0xffff800012345000 of ASID 5 flush 0xffff800012346000 of ASID 5',
      'next flush address spaces 5',
      'next flush all',
      'next flush all',
    ],
  );
  f.vp.setX(1, (5n << 48n) | ((0xffff800012345000n >> 12n) & ((1n << 44n) - 1n)));
  assert.equal(run(3, 4), 'undef');
  f.vp.setX(1, 0x7fff_ffffn);
  assert.equal(run(7, 5), 'next flush 0x7fffffff000 of ASID 0');
  const old = fixture({ features: [] });
  assert.deepEqual(
    [old.system.execute(old.vp, sysWord(0, 8, 1, 0)), old.system.execute(old.vp, sysWord(0, 8, 2, 1))],
    ['undef', 'undef'],
  );
  f.pstate(EL0);
  assert.equal(run(7, 0), 'undef');
});

test('cache maintenance: nothing happens at a mapped address; EL0 needs SCTLR_EL1.UCI', () => {
  const f = fixture();
  assert.equal(f.system.execute(f.vp, sysWord(3, 7, 14, 1, 0)), 'next');
  f.vp.setX(0, 1n << 53n);
  assert.equal(f.system.execute(f.vp, sysWord(3, 7, 14, 1, 0)), 'jumped');
  // Data abort from EL1, address size fault level 0, CM and WnR.
  assert.equal(f.get('ESR_EL1'), (0x25n << 26n) | (1n << 25n) | (1n << 8n) | (1n << 6n));
  assert.equal(f.get('FAR_EL1'), 1n << 53n);
  f.pstate(EL0);
  assert.equal(f.system.execute(f.vp, sysWord(3, 7, 10, 1, 31)), 'jumped');
  assert.equal(f.get('ESR_EL1') >> 26n, 0x18n);
  f.pstate(EL0);
  assert.equal(f.system.execute(f.vp, sysWord(0, 7, 6, 1, 31)), 'undef');
  f.set('SCTLR_EL1', 1n << 26n);
  assert.equal(f.system.execute(f.vp, sysWord(3, 7, 10, 1, 31)), 'next');
});

test('registers of devices are read and written by name', () => {
  const f = fixture();
  f.system.execute(f.vp, f.word('CNTVCT_EL0', 'mrs', 2));
  f.vp.setX(3, 0xffff_ffff_0000_0020n);
  f.system.execute(f.vp, f.word('ICC_EOIR1_EL1', 'msr', 3));
  f.system.execute(f.vp, f.word('ICC_SGI1R_EL1', 'msr', 3));
  assert.equal(f.vp.x(2), 0x1234n);
  assert.deepEqual(f.log, ['read CNTVCT_EL0', 'write ICC_EOIR1_EL1 0x20', 'write ICC_SGI1R_EL1 0xffffffff00000020']);
  assert.equal(f.system.execute(f.vp, f.word('ICC_EOIR1_EL1', 'mrs', 3)), 'undef');
  assert.equal(f.system.execute(f.vp, f.word('ICC_IAR1_EL1', 'msr', 3)), 'undef');
});

test('views see no register whose reading has effects', () => {
  assert.ok(!SYSREGS.some((r) => r.name === 'ICC_IAR1_EL1' || r.name === 'ICC_EOIR1_EL1'));
  assert.ok(SYSREGS.some((r) => r.name === 'SP_EL1' && r.writable));
});

test('the OS lock and the claim tags', () => {
  const f = fixture();
  const lock = [f.get('OSLSR_EL1')];
  f.set('OSLAR_EL1', 0n);
  lock.push(f.get('OSLSR_EL1'));
  f.set('OSLAR_EL1', 1n);
  lock.push(f.get('OSLSR_EL1'));
  assert.deepEqual(lock, [0xan, 0x8n, 0xan]);
  f.set('DBGCLAIMSET_EL1', 0x5n);
  f.set('DBGCLAIMCLR_EL1', 0x1n);
  assert.deepEqual([f.get('DBGCLAIMSET_EL1'), f.get('DBGCLAIMCLR_EL1')], [0xffn, 0x4n]);
});
