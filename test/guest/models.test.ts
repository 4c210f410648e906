import assert from 'node:assert/strict';
import { test } from 'node:test';
import { debianConfig, Recorded } from './debian.ts';
import { runProgram } from './user.ts';

/** MIDR_EL1, what user space is told, and whom the kernel takes for vulnerable. */
const SEEN: Record<string, { midr: string; has: RegExp; hasNot: RegExp; vulnerable: string[] }> = {
  max: {
    midr: '0x000f0480',
    has: /\bsha512\b.*\buscat\b.*\bpaca\b.*\bi8mm\b.*\brng\b.*\bbti\b.*\becv\b.*\bwfxt\b/,
    hasNot: /\b(sve|mte)\b/,
    vulnerable: [],
  },
  // SSBS is hidden by the kernel: erratum 3194386.
  'neoverse-n1': {
    midr: '0x413fd0c1',
    has: /\batomics\b.*\blrcpc\b.*\bdcpop\b/,
    hasNot: /\b(sve|jscvt|paca|rng)\b/,
    vulnerable: [],
  },
  'neoverse-n2': {
    midr: '0x6d0fd490',
    has: /\bsha512\b.*\buscat\b.*\bflagm2\b.*\bbf16\b.*\bbti\b/,
    hasNot: /\b(sve|mte|rng)\b/,
    vulnerable: [],
  },
  'cortex-a72': { midr: '0x410fd083', has: /\baes\b.*\bcrc32\b/, hasNot: /\b(atomics|fphp|asimdrdm)\b/, vulnerable: [] },
};

for (const [cpu, { midr, has, hasNot, vulnerable }] of Object.entries(SEEN))
  test(`Debian boots on ${cpu}, and tells the CPU as it is`, async () => {
    const append = 'console=ttyAMA0 hyperstep.run=grep,-r,.,/sys/devices/system/cpu/vulnerabilities,/proc/cpuinfo';
    const guest = new Recorded(await debianConfig('own', { cpu, append }));
    assert.deepEqual(guest.finish(), { kind: 'power-off' }, guest.console.slice(-2000));
    assert.match(guest.console, new RegExp(`Booting Linux on physical CPU 0x0000000000 \\[${midr}\\]`));
    assert.match(guest.console, /INIT-DONE/);
    assert.match(guest.console, /armv8_pmuv3_0 PMU driver, 7 counters available/);
    assert.doesNotMatch(guest.console, /\bBUG\b|WARNING:|Call trace:|Kernel panic/);
    const features = /Features\t: (.*)/.exec(guest.console)?.[1] ?? '';
    assert.match(features, has);
    assert.doesNotMatch(features, hasNot);
    assert.deepEqual(
      [...guest.console.matchAll(/vulnerabilities\/(\w+):(Vulnerable.*)/g)].map((m) => m[1]),
      vulnerable,
    );
  });

test('perf counts instructions and cycles of a process to the instruction, and samples it', async () => {
  for (const cpu of ['max', 'cortex-a72']) {
    const { results, console } = await runProgram('perf', { cpu });
    assert.deepEqual(results, { CYCLES: [1, 1, 1], INSTRUCTIONS: [1, 1, 1], SAMPLES: [20, 20] }, console.slice(-2000));
  }
});

test('a process of a guest lands in memory of PROT_BTI where it may, and gets SIGILL elsewhere', async () => {
  const ALL = [1, 1, 1, 1, 1, 1];
  // Landings: bti, bti c, bti j, bti jc, paciasp, nop. 11: SIGILL, ILL_ILLOPC, at the landing.
  const { results, console } = await runProgram('bti');
  assert.deepEqual(
    results,
    {
      PROTECT: [0],
      BLR: [11, 1, 11, 1, 1, 11],
      BR: [11, 11, 1, 1, 11, 11],
      'BR-VENEER': [11, 1, 1, 1, 1, 11],
      'BR-FROM-OUTSIDE': [11, 1, 1, 1, 1, 11],
      'BR-TO-OUTSIDE': ALL,
      MANY: [200_000],
    },
    console.slice(-2000),
  );
  assert.match(console, /detected: Branch Target Identification/);
  const without = await runProgram('bti', { cpu: 'neoverse-n1' });
  assert.deepEqual(without.results, {
    PROTECT: [22],
    BLR: ALL,
    BR: ALL,
    'BR-VENEER': ALL,
    'BR-FROM-OUTSIDE': ALL,
    'BR-TO-OUTSIDE': ALL,
    MANY: [200_000],
  });
});
