import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FEATURES, type Feature } from '../../../emulator/cpu/features.ts';
import { ABSENT, FEATURE_FIELDS, MODELS } from '../../../emulator/cpu/models.ts';
import { PSTATE, VP } from '../../../emulator/cpu/vp-state.ts';
import { fixture } from './fixture.ts';

const REGISTERS = ['PFR0', 'PFR1', 'ISAR0', 'ISAR1', 'ISAR2', 'MMFR0', 'MMFR1', 'MMFR2', 'DFR0'].map((r) => `ID_AA64${r}_EL1`);

/** A field of four bits, from `lsb`. */
const field = (v: bigint, lsb: number): number => Number((v >> BigInt(lsb)) & 15n);

test('identification registers of every model', () => {
  const seen = Object.keys(MODELS).map((model) => {
    const f = fixture({ model });
    return [model, ...REGISTERS.map((r) => f.get(r).toString(16))];
  });
  assert.deepEqual(seen, [
    [
      'max',
      '1301000011110011',
      '21',
      '1221111110212120',
      '11111110211502',
      '2',
      '1000000010200026',
      '312002',
      '1001000100010011',
      '10305606',
    ],
    ['neoverse-n1', '1100000011110011', '20', '100010211120', '100001', '0', '100025', '212002', '11', '10305406'],
    [
      'neoverse-n2',
      '1201000011110011',
      '21',
      '221111110212120',
      '11111110211502',
      '0',
      '100025',
      '212002',
      '1001000100000011',
      '10305606',
    ],
    ['cortex-a72', '1000011', '0', '11120', '0', '0', '100024', '0', '0', '10305106'],
  ]);
});

test('what a model does not have is not told, and max has all that is implemented', () => {
  const told = (model: string) => {
    const f = fixture({ model });
    return Object.entries(FEATURE_FIELDS)
      .filter(([, fields]) => fields.length && fields.every(([r, lsb, value]) => field(f.get(r), lsb) >= value))
      .map(([name]) => name as Feature)
      .sort();
  };
  for (const [name, model] of Object.entries(MODELS)) {
    const has = model.features.filter((f) => FEATURE_FIELDS[f]?.length).sort();
    // A field's values include the lower ones; of PAN and CSV2 and the like a model lists them all.
    assert.deepEqual(
      told(name).filter((f) => !has.includes(f)),
      [],
      name,
    );
    assert.deepEqual(
      has.filter((f) => !told(name).includes(f)),
      [],
      name,
    );
  }
  assert.deepEqual([...MODELS.max.features, ...ABSENT].sort(), [...FEATURES].sort());
});

test('absent for good or for now: AArch32, EL2, EL3, SVE, MTE, SME, MPAM, trace, profiling', () => {
  for (const model of Object.keys(MODELS)) {
    const f = fixture({ model });
    const [pfr0, pfr1, dfr0] = ['PFR0', 'PFR1', 'DFR0'].map((r) => f.get(`ID_AA64${r}_EL1`));
    assert.deepEqual(
      [field(pfr0, 0), field(pfr0, 4), field(pfr0, 8), field(pfr0, 12), field(pfr0, 32), field(pfr0, 40)],
      [1, 1, 0, 0, 0, 0],
    );
    assert.deepEqual([field(pfr1, 8), field(pfr1, 16), field(pfr1, 24), field(dfr0, 4), field(dfr0, 32)], [0, 0, 0, 0, 0]);
  }
});

/** MRS X0, <name> at EL0 or EL1: value, or what became of it. */
function mrs(f: ReturnType<typeof fixture>, name: string, el = PSTATE.EL1H as number): bigint | string {
  f.pstate(el);
  const out = f.system.execute(f.vp, f.word(name, 'mrs', 0));
  return out === 'next' ? f.vp.x(0) : out === 'jumped' ? `ec ${(f.get('ESR_EL1') >> 26n).toString(16)}` : out;
}

test('RNDR: other numbers each time, on each VP and for each seed, and the same again from the start', () => {
  const numbers = (seed: number, index = 0) => {
    const f = fixture({ seed, index, vpCount: 2 });
    f.vp.nzcv = 0xf0000000;
    const out = [mrs(f, 'RNDR'), mrs(f, 'RNDRRS', PSTATE.EL0T), mrs(f, 'RNDR')];
    assert.equal(f.vp.nzcv, 0);
    return out;
  };
  const all = [...numbers(1), ...numbers(2), ...numbers(1, 1)];
  assert.equal(new Set(all).size, 9);
  assert.deepEqual(numbers(1), all.slice(0, 3));
  assert.equal(mrs(fixture({ model: 'neoverse-n1' }), 'RNDR'), 'undef');
});

test('performance monitors at EL0: PMUSERENR_EL0 opens all, or parts for reading', () => {
  const f = fixture();
  const may = (name: string, direction: 'mrs' | 'msr') => {
    f.pstate(PSTATE.EL0T);
    return f.system.execute(f.vp, f.word(name, direction, 0)) === 'next';
  };
  const seen = [0n, 1n, 2n, 4n, 8n].map((enable) => {
    f.set('PMUSERENR_EL0', enable);
    return [
      ...['PMCR_EL0', 'PMCCNTR_EL0', 'PMEVCNTR0_EL0', 'PMSELR_EL0'].flatMap((r) => [may(r, 'mrs'), may(r, 'msr')]),
      may('PMSWINC_EL0', 'msr'),
      may('PMUSERENR_EL0', 'mrs'),
    ]
      .map(Number)
      .join('');
  });
  // PMCR, PMCCNTR, PMEVCNTR0, PMSELR: read, write each; PMSWINC; PMUSERENR.
  assert.deepEqual(seen, ['0000000001', '1111111111', '0000000011', '0010000001', '0000101101']);
  f.pstate(PSTATE.EL0T);
  assert.deepEqual([mrs(f, 'PMINTENSET_EL1', PSTATE.EL0T), mrs(fixture({ features: [] }), 'PMCR_EL0')], ['undef', 'undef']);
});

test('ECV, CSV2_2: registers where the model has them', () => {
  const [max, n1] = [fixture(), fixture({ model: 'neoverse-n1' })];
  assert.deepEqual([mrs(max, 'CNTVCTSS_EL0'), mrs(n1, 'CNTVCTSS_EL0')], [0x1234n, 'undef']);
  assert.equal(mrs(max, 'CNTPCTSS_EL0', PSTATE.EL0T), 'ec 18');
  max.set('CNTKCTL_EL1', 0xfffffn);
  n1.set('CNTKCTL_EL1', 0xfffffn);
  assert.deepEqual([max.get('CNTKCTL_EL1'), n1.get('CNTKCTL_EL1')], [0x203ffn, 0x3ffn]);
  assert.deepEqual([mrs(max, 'SCXTNUM_EL0', PSTATE.EL0T), mrs(n1, 'SCXTNUM_EL0')], [0n, 'undef']);
  max.set('SCTLR_EL1', 1n << 20n);
  assert.equal(mrs(max, 'SCXTNUM_EL0', PSTATE.EL0T), 'ec 18');
  assert.equal(max.vp.u32(VP.EL1), 1);
});
