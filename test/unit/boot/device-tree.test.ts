import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { boot } from './guest-memory.ts';

function dtc(from: string, to: string, input: Uint8Array | string): Buffer {
  const r = spawnSync('dtc', ['-I', from, '-O', to, '-q'], { input });
  if (r.error) throw new Error(`dtc is needed for this test (Debian: device-tree-compiler): ${r.error.message}`);
  assert.equal(r.status, 0, r.stderr.toString());
  return r.stdout;
}

test('the device tree passes dtc and comes back as the same tree', () => {
  const blob = boot({ initrd: Uint8Array.from('070701', (c) => c.charCodeAt(0)) }).piece('device tree');
  const source = dtc('dtb', 'dts', blob).toString();
  assert.equal(dtc('dtb', 'dts', dtc('dts', 'dtb', source)).toString(), source);
});

test('the tree has nothing but /chosen (or Linux would not use ACPI), with every property of the EFI stub', () => {
  const { info, piece } = boot({ append: 'console=ttyAMA0 ünïcode', initrd: Uint8Array.from('070701', (c) => c.charCodeAt(0)) });
  const source = dtc('dtb', 'dts', piece('device tree')).toString();
  assert.deepEqual(
    [...source.matchAll(/^\s*(\S+) \{/gm)].map((m) => m[1]),
    ['/', 'chosen'],
  );
  const two = (name: string): string =>
    `<0x00 0x${(info.placed.find((p) => p.name === name) as { gpa: number }).gpa.toString(16)}>`;
  const property = (name: string): string | undefined => new RegExp(`\\b${name} = (.*);`).exec(source)?.[1];
  assert.equal(property('linux,initrd-start'), two('initrd'));
  assert.equal(property('linux,uefi-system-table'), two('EFI system table'));
  assert.equal(property('linux,uefi-mmap-start'), two('EFI memory map'));
  assert.equal(property('linux,uefi-mmap-size'), `<0x${piece('EFI memory map').length.toString(16)}>`);
  assert.equal(property('linux,uefi-mmap-desc-size'), '<0x28>');
  assert.equal(property('linux,uefi-mmap-desc-ver'), '<0x01>');
  assert.equal(property('linux,uefi-secure-boot'), '<0x02>');
  assert.match(property('kaslr-seed') ?? '', /^<0x\w+ 0x\w+>$/);
  assert.equal(property('rng-seed')?.split(' ').length, 16);
  assert.ok(Buffer.from(piece('device tree')).includes(Buffer.from('console=ttyAMA0 ünïcode\0')));
});
