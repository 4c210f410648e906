import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PPI } from '../../../emulator/platform/addresses.ts';
import { Pmu, type PmuVersion } from '../../../emulator/platform/pmu.ts';

const [EL0, EL1] = [0, 1];
const CYCLES = 1n << 31n;
const [E, P, C, LC, LP] = [1n, 2n, 4n, 64n, 128n];
const [INST_RETIRED, CPU_CYCLES, CHAIN] = [8n, 0x11n, 0x1en];

function pmu(version: PmuVersion = 6) {
  const line: boolean[] = [];
  const p = new Pmu({
    vpCount: 2,
    version,
    interrupts: {
      setPpi: (vp, intid, level) => {
        if (intid === PPI.pmu) line[vp] = level;
      },
    },
  });
  return {
    p,
    line,
    set: (name: string, value: bigint) => p.write(0, name, value),
    get: (name: string) => p.read(0, name),
  };
}

test('counters count what is enabled, where their filters let them, while PMCR_EL0.E is set', () => {
  const { p, set, get } = pmu();
  set('PMEVTYPER0_EL0', INST_RETIRED);
  set('PMEVTYPER1_EL0', INST_RETIRED | (1n << 31n));
  set('PMEVTYPER2_EL0', CPU_CYCLES | (1n << 30n));
  set('PMEVTYPER3_EL0', 0x13n);
  set('PMCNTENSET_EL0', CYCLES | 0x0fn);
  assert.equal(p.isCounting(0), false);
  set('PMCR_EL0', E);
  assert.deepEqual([p.isCounting(0), p.isCounting(1)], [true, false]);
  p.count(0, EL0, 10);
  p.count(0, EL1, 100);
  set('PMCNTENCLR_EL0', 1n);
  p.count(0, EL0, 1000);
  const counters = () => [...[0, 1, 2, 3].map((n) => get(`PMEVCNTR${n}_EL0`)), get('PMCCNTR_EL0')];
  assert.deepEqual(counters(), [110n, 1010n, 100n, 0n, 1110n]);
  set('PMCR_EL0', E | P);
  assert.deepEqual(counters(), [0n, 0n, 0n, 0n, 1110n]);
  set('PMCR_EL0', C);
  assert.deepEqual([counters()[4], get('PMCR_EL0')], [0n, (6n << 11n) | LC]);
});

test('an overflow raises a level that lasts until it is cleared, and is told beforehand', () => {
  const { p, line, set, get } = pmu();
  set('PMEVTYPER0_EL0', INST_RETIRED);
  set('PMEVCNTR0_EL0', 0xffff_ff00n);
  set('PMCNTENSET_EL0', 1n);
  set('PMCR_EL0', E);
  assert.equal(p.untilOverflow(0, EL0), Number.POSITIVE_INFINITY);
  set('PMINTENSET_EL1', 1n);
  assert.deepEqual([p.untilOverflow(0, EL0), p.untilOverflow(0, EL1)], [0x100, 0x100]);
  p.count(0, EL0, 0xff);
  assert.deepEqual([line[0], get('PMOVSSET_EL0')], [false, 0n]);
  p.count(0, EL0, 1);
  assert.deepEqual([line[0], get('PMOVSCLR_EL0'), get('PMEVCNTR0_EL0')], [true, 1n, 0x1_0000_0000n]);
  set('PMOVSCLR_EL0', 1n);
  assert.equal(line[0], false);
  set('PMOVSSET_EL0', 1n);
  assert.equal(line[0], true);
  set('PMCR_EL0', 0n);
  assert.equal(line[0], false);
});

test('long counters overflow at 64 bits, short ones wrap at 32, and a chain counts their overflows', () => {
  const long = pmu();
  long.set('PMCR_EL0', E | LP);
  long.set('PMEVTYPER0_EL0', INST_RETIRED);
  long.set('PMCNTENSET_EL0', 1n);
  long.set('PMEVCNTR0_EL0', 0xffff_ffff_ffff_fffen);
  long.p.count(0, EL0, 1);
  assert.equal(long.get('PMOVSSET_EL0'), 0n);
  long.p.count(0, EL0, 2);
  assert.deepEqual([long.get('PMOVSSET_EL0'), long.get('PMEVCNTR0_EL0')], [1n, 1n]);

  const short = pmu(4);
  short.set('PMCR_EL0', E | LP);
  short.set('PMEVTYPER2_EL0', INST_RETIRED);
  short.set('PMEVTYPER3_EL0', CHAIN);
  short.set('PMCNTENSET_EL0', 0xcn);
  short.set('PMEVCNTR2_EL0', 0xffff_ffffn);
  short.p.count(0, EL0, 2);
  short.p.count(0, EL0, 0x1_0000_0000);
  assert.deepEqual([short.get('PMEVCNTR2_EL0'), short.get('PMEVCNTR3_EL0'), short.get('PMOVSSET_EL0')], [1n, 2n, 4n]);
});

test('software increments, selected registers and identification', () => {
  const { set, get } = pmu(1);
  set('PMCR_EL0', E);
  set('PMCNTENSET_EL0', 3n);
  set('PMEVTYPER0_EL0', 0n);
  set('PMEVTYPER1_EL0', INST_RETIRED);
  set('PMSWINC_EL0', 3n);
  assert.deepEqual([get('PMEVCNTR0_EL0'), get('PMEVCNTR1_EL0')], [1n, 0n]);
  set('PMSELR_EL0', 1n);
  set('PMXEVTYPER_EL0', 0xffff_ffffn);
  set('PMXEVCNTR_EL0', 7n);
  assert.deepEqual([get('PMEVTYPER1_EL0'), get('PMEVCNTR1_EL0')], [0xc000_03ffn, 7n]);
  set('PMSELR_EL0', 31n);
  set('PMXEVTYPER_EL0', 0xffff_ffffn);
  set('PMXEVCNTR_EL0', 7n);
  assert.deepEqual([get('PMCCFILTR_EL0'), get('PMXEVTYPER_EL0'), get('PMXEVCNTR_EL0')], [0xc000_0000n, 0xc000_0000n, 0n]);
  set('PMSELR_EL0', 9n);
  assert.equal(get('PMXEVTYPER_EL0'), 0n);
  // SW_INCR, L1D_CACHE_REFILL, L1D_CACHE, INST_RETIRED, BR_MIS_PRED, CPU_CYCLES, BR_PRED, MEM_ACCESS, CHAIN; BR_RETIRED, BR_MIS_PRED_RETIRED.
  assert.deepEqual([get('PMCEID0_EL0'), get('PMCEID1_EL0')], [0x400f_0119n, 6n]);
  // From Armv8.1 on also the stalls that there never are.
  assert.equal(pmu(4).get('PMCEID1_EL0'), 0x1en);
});

test('a reset VP counts nothing and interrupts nobody', () => {
  const { p, line, set, get } = pmu();
  set('PMCR_EL0', E);
  set('PMCNTENSET_EL0', CYCLES);
  set('PMINTENSET_EL1', CYCLES);
  set('PMOVSSET_EL0', CYCLES);
  assert.equal(line[0], true);
  p.reset(0);
  assert.deepEqual([line[0], p.isCounting(0), get('PMCR_EL0'), get('PMINTENSET_EL1')], [false, false, (6n << 11n) | LC, 0n]);
});
