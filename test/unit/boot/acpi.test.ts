import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { viewOf } from '../../../emulator/base/struct.ts';
import { Fadt } from '../../../emulator/boot/acpi/fadt.ts';
import { Gicc, Madt } from '../../../emulator/boot/acpi/madt.ts';
import { Rsdp } from '../../../emulator/boot/acpi/rsdp.ts';
import { TableHeader } from '../../../emulator/boot/acpi/table.ts';
import { boot } from './guest-memory.ts';

const sum = (b: Uint8Array): number => b.reduce((a, v) => (a + v) & 255, 0);
const TABLES = ['DSDT', 'FACP', 'APIC', 'GTDT', 'SPCR', 'DBG2', 'OEM0', 'XSDT'];

function iasl(cwd: string, ...args: string[]): string {
  const r = spawnSync('iasl', args, { cwd, encoding: 'utf8' });
  if (r.error) throw new Error(`iasl is needed for this test (Debian: acpica-tools): ${r.error.message}`);
  assert.equal(r.status, 0, `iasl ${args.join(' ')}\n${r.stdout}${r.stderr}`);
  return r.stdout + r.stderr;
}

test('every table passes iasl -d, and compiling the result gives the same bytes', () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'acpi-'));
  try {
    const { piece } = boot({ cpus: 64 });
    // iasl does not know OEM0, whose body is opaque, and takes no bare RSDP: the next test holds these two.
    for (const name of TABLES.filter((t) => t !== 'OEM0')) {
      const table = piece(`ACPI ${name}`);
      fs.writeFileSync(path.join(dir, `${name}.dat`), table);
      assert.doesNotMatch(iasl(dir, '-d', `${name}.dat`), /error|warning|incorrect|invalid/i);
      // -oa: keep the bytes of constants and names as they were written
      assert.match(iasl(dir, '-oa', '-p', `again-${name}`, `${name}.dsl`), /0 Errors, 0 Warnings/);
      const again = fs.readFileSync(path.join(dir, `again-${name}.aml`));
      // iasl puts its own creator into the header, which changes the checksum.
      const header = TableHeader.get(viewOf(table), 0);
      const own = TableHeader.get(viewOf(again), 0);
      assert.deepEqual(
        { ...own, creatorId: header.creatorId, creatorRevision: header.creatorRevision, checksum: header.checksum },
        header,
      );
      assert.deepEqual(new Uint8Array(again.subarray(36)), table.subarray(36), name);
    }
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
});

test('RSDP leads to the XSDT, the XSDT to every table but the DSDT, the FADT to that; all checksums are right', () => {
  const { ram, info, piece } = boot();
  const at = (name: string): bigint => BigInt(info.placed.find((p) => p.name === `ACPI ${name}`)?.gpa ?? -1);
  const rsdp = piece('ACPI RSDP');
  assert.equal(sum(rsdp), 0);
  assert.equal(sum(rsdp.subarray(0, 20)), 0);
  const root = Rsdp.get(viewOf(rsdp), 0);
  assert.deepEqual([root.signature, root.revision, root.xsdt], ['RSD PTR ', 2, at('XSDT')]);
  const xsdt = piece('ACPI XSDT');
  const listed = Array.from({ length: (xsdt.length - 36) / 8 }, (_, i) => viewOf(xsdt).getBigUint64(36 + 8 * i, true));
  assert.deepEqual(listed, ['FACP', 'APIC', 'GTDT', 'SPCR', 'DBG2', 'OEM0'].map(at));
  assert.equal(Fadt.get(viewOf(piece('ACPI FACP')), 0).xDsdt, at('DSDT'));
  for (const name of TABLES) {
    const table = piece(`ACPI ${name}`);
    assert.equal(sum(table), 0, name);
    assert.equal(TableHeader.get(ram.view, Number(at(name))).length, table.length, name);
  }
});

test('the FADT says what Linux looks for: revision 6, MsHyperV at 268, PSCI by SMC unless asked otherwise', () => {
  const raw = boot().piece('ACPI FACP');
  assert.equal(String.fromCharCode(...raw.subarray(268, 276)), 'MsHyperV');
  assert.deepEqual([raw.length, raw[8], raw[131], viewOf(raw).getUint16(129, true)], [0x114, 6, 3, 1]);
  assert.equal(viewOf(raw).getUint32(112, true) & (1 << 20), 1 << 20);
  const hvc = boot({ options: { conduit: 'hvc' } }).piece('ACPI FACP');
  assert.equal(viewOf(hvc).getUint16(129, true), 3);
});

test('the MADT has a GICC for every VP with its own redistributor, and the DSDT a processor with the same UID', () => {
  const { piece } = boot({ cpus: 3 });
  const madt = piece('ACPI APIC');
  const gicc = [0, 1, 2].map((vp) => Gicc.get(viewOf(madt), Madt.size + 24 + vp * Gicc.size));
  assert.deepEqual(
    gicc.map((g) => [g.type, g.uid, g.flags, g.mpidr, g.redistributor]),
    [
      [11, 1, 1, 0n, 0xeffee000n],
      [11, 2, 1, 1n, 0xf000e000n],
      [11, 3, 1, 2n, 0xf002e000n],
    ],
  );
});

test('the VMBus device has its PPI and its MMIO windows', () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'dsdt-'));
  try {
    fs.writeFileSync(path.join(dir, 'DSDT.dat'), boot().piece('ACPI DSDT'));
    iasl(dir, '-d', 'DSDT.dat');
    const asl = fs.readFileSync(path.join(dir, 'DSDT.dsl'), 'utf8').replace(/\s+/g, ' ');
    assert.match(asl, /Device \(VMBS\) .* Name \(_CID, "VMBus"\)/);
    assert.match(asl, /Interrupt \(ResourceConsumer, Edge, ActiveHigh, Exclusive, ,, \) \{ 0x00000012, \}/);
    assert.match(asl, /DWordMemory \(ResourceProducer, .* 0xE0000000, .*? 0xEEFFFFFF/);
    assert.match(asl, /QWordMemory \(ResourceProducer, .* 0x0000001000000000,/);
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
});

test('the same seed gives the same entropy, another seed another', () => {
  const oem0 = (seed: number): Uint8Array => boot({ seed }).piece('ACPI OEM0');
  assert.deepEqual(oem0(7), oem0(7));
  assert.notDeepEqual(oem0(7).subarray(36), oem0(8).subarray(36));
});
