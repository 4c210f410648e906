import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bound, debianConfig, Recorded } from './debian.ts';

for (const suite of ['own', 'trixie', 'sid'])
  test(`by device tree, the kernel of ${suite} reaches its init without ACPI, with its devices and both VPs`, async () => {
    const guest = new Recorded(await debianConfig(suite, { boot: 'device-tree', cpus: 2, append: 'console=ttyAMA0 loglevel=7' }));
    assert.deepEqual(guest.finish(), { kind: 'power-off' }, guest.console.slice(-2000));
    for (const line of [
      /Machine model: Hyper-V guest/,
      /psci: PSCIv1\.1 detected in firmware/,
      /ttyAMA0 at MMIO 0xeffec000 .* is a PL011/,
      /rtc-pl031 effe7000\.rtc: setting system clock to 2026-01-01T00:00/,
      /^KERNEL: .* aarch64, 2 VP\(s\)/m,
      /INIT-DONE/,
    ])
      assert.match(guest.console, line);
    assert.doesNotMatch(guest.console, /\bBUG\b|WARNING:|Call trace:|Kernel panic|ACPI: RSDP/);
    // Linux finds Hyper-V without ACPI from 7.x on, by the SMCCC UID, and VMBus by its node.
    if (suite === 'sid') assert.equal(bound(guest.console), 4);
  });

for (const [suite, boot, discovery, found] of [
  ['own', 'hyperv', ['acpi'], true],
  ['own', 'hyperv', ['smccc'], false],
  ['sid', 'hyperv', ['acpi'], true],
  ['sid', 'hyperv', ['smccc'], true],
  ['sid', 'hyperv', [], false],
  ['sid', 'device-tree', ['smccc'], true],
  ['sid', 'device-tree', ['acpi'], false],
] as const)
  test(`${suite}, ${boot}: a host that shows itself by ${discovery.join() || 'nothing'} is ${found ? 'found' : 'not taken for Hyper-V'}`, async () => {
    const guest = new Recorded(await debianConfig(suite, { boot, platformOverrides: { discovery } }));
    assert.deepEqual(guest.finish(), { kind: 'power-off' }, guest.console.slice(-2000));
    assert.equal(bound(guest.console), found ? 4 : 0);
    assert.equal(/Hyper-V: (privilege flags|PV features|Host Build)/.test(guest.console), found);
    assert.doesNotMatch(guest.console, /\bBUG\b|WARNING:|Call trace:|Kernel panic/);
  });
