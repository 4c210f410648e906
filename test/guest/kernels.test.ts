import assert from 'node:assert/strict';
import { test } from 'node:test';
import { debianConfig, Recorded } from './debian.ts';

for (const [suite, version] of [
  ['trixie', /Linux version 6\.12\./],
  ['sid', /Linux version 7\./],
] as const)
  test(`the cloud kernel of ${suite} boots, binds the Hyper-V drivers and powers off`, async () => {
    const guest = new Recorded(await debianConfig(suite));
    assert.deepEqual(guest.finish(), { kind: 'power-off' }, guest.console.slice(-2000));
    assert.match(guest.console, version);
    assert.match(guest.console, /Vmbus version:5\.3/);
    assert.match(guest.console, /INIT-DONE/);
    assert.equal(
      [...guest.console.matchAll(/^VMBUS: .* driver (hv_utils|hyperv_keyboard)/gm)].length,
      4,
      guest.console.slice(-2000),
    );
    assert.doesNotMatch(guest.console, /\bBUG\b|WARNING:|Call trace:|Kernel panic/);
  });
