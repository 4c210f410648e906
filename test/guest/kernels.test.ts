import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exercise, KERNELS } from './kernels.ts';

// A few of them: another page size, several VPs, the newest. `npm run test:guests` takes all.
for (const [suite, flavour, cpus] of [
  ['trixie', 'arm64-16k', 4],
  ['sid', 'cloud-arm64', 1],
] as const)
  test(`${suite}'s ${flavour} with ${cpus} VPs boots, binds every Hyper-V driver, passes the device tests and powers off`, async () => {
    const kernel = KERNELS.find((k) => k.suite === suite && k.flavour === flavour) ?? assert.fail('no such kernel');
    const { problems, console } = await exercise(kernel, { cpus });
    assert.deepEqual(problems, [], console.slice(-3000));
  });
