import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { guidText } from '../../../emulator/base/guid.ts';
import { viewOf } from '../../../emulator/base/struct.ts';
import { EfiMemoryDescriptor } from '../../../emulator/boot/efi/memory-map.ts';
import { EFI_RUNTIME_CALL, EfiRuntime, EfiRuntimeServices, routines } from '../../../emulator/boot/efi/runtime-services.ts';
import {
  crc32,
  EfiConfigurationTable,
  EfiRtProperties,
  EfiSystemTable,
  EfiTableHeader,
} from '../../../emulator/boot/efi/tables.ts';
import { decodeTime, EfiTime, encodeTime } from '../../../emulator/boot/efi/time.ts';
import { boot, MIB } from './guest-memory.ts';

interface Disassembler {
  disasm(code: number[], address: number): { mnemonic: string; op_str: string }[];
  close(): void;
}
interface Capstone {
  ARCH_ARM64: number;
  MODE_LITTLE_ENDIAN: number;
  Capstone: new (arch: number, mode: number) => Disassembler;
}
const capstone = createRequire(import.meta.url)('@alexaltea/capstone-js') as () => Promise<Capstone>;

const le = (words: number[]): number[] => words.flatMap((w) => [w & 255, (w >>> 8) & 255, (w >>> 16) & 255, w >>> 24]);
const asciiAt = (b: Uint8Array, at: number): string => {
  const s = String.fromCharCode(...b.subarray(at));
  return s.slice(0, s.indexOf('\0'));
};

test('the words of the runtime routines are the instructions written beside them', async () => {
  const cs = await capstone();
  const d = new cs.Capstone(cs.ARCH_ARM64, cs.MODE_LITTLE_ENDIAN);
  for (const conduit of ['smc', 'hvc'] as const)
    for (const [name, lines] of Object.entries(routines(conduit))) {
      const plain = (s: string): string =>
        s
          .replace(/ \/\/.*/, '')
          .replace(/movz/, 'mov')
          .replace(/#(-?)(0x)?([0-9a-f]+)/g, (_, sign, hex, v) => `#${sign}${Number.parseInt(v, hex ? 16 : 10)}`);
      const got = d.disasm(le(lines.map(([word]) => word)), 0).map((i) => plain(`${i.mnemonic} ${i.op_str}`.trim()));
      assert.deepEqual(
        got,
        lines.map(([, text]) => plain(text)),
        name,
      );
    }
  d.close();
});

test('system table: signature, CRC, vendor, and configuration tables by GUID', () => {
  const { ram, info, piece } = boot();
  const gpa = (name: string): number => (info.placed.find((p) => p.name === name) as { gpa: number }).gpa;
  for (const [name, signature, size] of [
    ['EFI system table', 'IBI SYST', 120],
    ['EFI runtime services', 'RUNTSERV', 136],
  ] as const) {
    const table = piece(name);
    const header = EfiTableHeader.get(viewOf(table), 0);
    assert.deepEqual([header.signature, header.revision, header.headerSize, table.length], [signature, 0x20046, size, size]);
    viewOf(table).setUint32(EfiTableHeader.field.crc32.offset, 0, true);
    assert.equal(header.crc32, crc32(table));
  }
  // the check value of CRC-32/ISO-HDLC
  assert.equal(crc32(Uint8Array.from('123456789', (c) => c.charCodeAt(0))), 0xcbf43926);
  const system = EfiSystemTable.get(ram.view, gpa('EFI system table'));
  assert.equal(Buffer.from(ram.read(Number(system.firmwareVendor), 20)).toString('utf16le'), 'Microsoft\0');
  assert.equal(Number(system.runtimeServices), gpa('EFI runtime services'));
  const tables = Array.from({ length: Number(system.tableCount) }, (_, i) =>
    EfiConfigurationTable.get(ram.view, Number(system.configurationTable) + i * EfiConfigurationTable.size),
  );
  assert.deepEqual(
    tables.map((t) => [guidText(t.guid), Number(t.table)]),
    [
      ['8868e871-e4f1-11d3-bc22-0080c73c8881', gpa('ACPI RSDP')],
      ['f2fd1544-9794-4a2c-992e-e5bbcf20e394', gpa('SMBIOS')],
      ['eb66918a-7eef-402a-842e-931d21c38ae9', gpa('EFI RT properties')],
    ],
  );
});

test('RT_PROPERTIES names exactly the services that do not answer EFI_UNSUPPORTED', () => {
  const { piece, info } = boot();
  const properties = EfiRtProperties.get(viewOf(piece('EFI RT properties')), 0);
  assert.deepEqual(properties, { version: 1, length: 8, supported: 0x1 | 0x2 | 0x400 });
  const code = info.placed.find((p) => p.name === 'EFI runtime code') as { gpa: number; size: number };
  const functions = EfiRuntimeServices.get(viewOf(piece('EFI runtime services')), 0).functions.map((f) => Number(f) - code.gpa);
  // GetTime, SetTime and ResetSystem are 1st, 2nd and 11th; the others share one routine.
  const supported = functions.map((f) => f !== functions[2]);
  assert.deepEqual(
    supported.flatMap((s, i) => (s ? [i] : [])),
    [0, 1, 10],
  );
  assert.ok(functions.every((f) => f >= 0 && f < code.size && f % 4 === 0));
});

test('the memory map covers RAM without gap or overlap; runtime regions are 64 KiB aligned, mapped where they are', () => {
  const initrd = Uint8Array.from('070701', (c) => c.charCodeAt(0));
  const { piece, info, ram } = boot({ initrd });
  const raw = piece('EFI memory map');
  const map = Array.from({ length: raw.length / EfiMemoryDescriptor.size }, (_, i) =>
    EfiMemoryDescriptor.get(viewOf(raw), i * EfiMemoryDescriptor.size),
  );
  let at = 0n;
  for (const d of map) {
    assert.equal(d.physicalStart, at);
    at += d.pages * 4096n;
  }
  assert.equal(at, BigInt(64 * MIB));
  const runtime = map.filter((d) => d.attribute >> 63n);
  assert.deepEqual(
    runtime.map((d) => [
      d.type,
      d.attribute & 0xfffffn,
      d.virtualStart === d.physicalStart,
      d.physicalStart % 0x10000n,
      d.pages % 16n,
    ]),
    [
      [6, 0x4008n, true, 0n, 0n],
      [5, 0x20008n, true, 0n, 0n],
    ],
  );
  const typeOf = (name: string): number | undefined => {
    const p = info.placed.find((q) => q.name === name) as { gpa: number; size: number };
    return map.find((d) => Number(d.physicalStart) <= p.gpa && p.gpa + p.size <= Number(d.physicalStart) + Number(d.pages) * 4096)
      ?.type;
  };
  assert.deepEqual(
    [
      'kernel',
      'initrd',
      'device tree',
      'EFI memory map',
      'ACPI RSDP',
      'ACPI XSDT',
      'EFI system table',
      'SMBIOS',
      'EFI runtime code',
    ].map(typeOf),
    [1, 2, 4, 4, 9, 9, 6, 6, 5],
  );
  assert.equal(ram.size, 64 * MIB);
});

test('SMBIOS 3 tells a Microsoft virtual machine', () => {
  const { piece, info } = boot();
  const raw = piece('SMBIOS');
  const base = (info.placed.find((p) => p.name === 'SMBIOS') as { gpa: number }).gpa;
  assert.equal(
    raw.subarray(0, 24).reduce((a, v) => (a + v) & 255, 0),
    0,
  );
  assert.deepEqual(
    [asciiAt(raw, 0).slice(0, 5), raw[7], raw[8], viewOf(raw).getBigUint64(16, true)],
    ['_SM3_', 3, 1, BigInt(base + 24)],
  );
  const found: [type: number, strings: string[]][] = [];
  let at = 24;
  for (let type = -1; type !== 127; ) {
    type = raw[at];
    at += raw[at + 1];
    const strings: string[] = [];
    for (; raw[at] !== 0; at += strings[strings.length - 1].length + 1) strings.push(asciiAt(raw, at));
    at += strings.length ? 1 : 2;
    found.push([type, strings.slice(0, 3)]);
  }
  assert.equal(at, raw.length);
  assert.equal(viewOf(raw).getUint32(12, true), raw.length - 24);
  const version = 'Hyper-V UEFI Release v4.1';
  assert.deepEqual(
    found.filter(([type]) => type !== 3),
    [
      [0, ['Microsoft Corporation', version, '05/05/2021']],
      [1, ['Microsoft Corporation', 'Virtual Machine', version]],
      [2, ['Microsoft Corporation', 'Virtual Machine', version]],
      [127, []],
    ],
  );
});

test('EFI_TIME and milliseconds are inverse over four centuries, in agreement with the host calendar', () => {
  for (let ms = -70 * 365.2425 * 86_400_000; ms < 400 * 365.2425 * 86_400_000; ms += 86_400_000 * 13.3717) {
    const whole = Math.floor(ms);
    const time = encodeTime(whole);
    const t = EfiTime.get(viewOf(time), 0);
    const d = new Date(whole);
    assert.deepEqual(
      [t.year, t.month, t.day, t.hour, t.minute, t.second, t.nanosecond],
      [
        d.getUTCFullYear(),
        d.getUTCMonth() + 1,
        d.getUTCDate(),
        d.getUTCHours(),
        d.getUTCMinutes(),
        d.getUTCSeconds(),
        d.getUTCMilliseconds() * 1e6,
      ],
    );
    if (t.year >= 1900) assert.equal(decodeTime(time), whole);
  }
});

test('the machine answers GetTime and SetTime, and refuses times that do not exist', () => {
  let now = Date.UTC(2026, 0, 1, 12, 30, 15);
  const efi = new EfiRuntime(() => now);
  const get = (): number | undefined => {
    const [status, low, high] = efi.call(EFI_RUNTIME_CALL.getTime, 0n, 0n) as [bigint, bigint, bigint];
    assert.equal(status, 0n);
    const time = new Uint8Array(16);
    viewOf(time).setBigUint64(0, low, true);
    viewOf(time).setBigUint64(8, high, true);
    return decodeTime(time);
  };
  const set = (fields: Partial<Parameters<typeof EfiTime.make>[0]>): bigint | undefined => {
    const v = viewOf(EfiTime.make({ year: 2030, month: 2, day: 28, ...fields }));
    return efi.call(EFI_RUNTIME_CALL.setTime, v.getBigUint64(0, true), v.getBigUint64(8, true))?.[0];
  };
  assert.equal(get(), now);
  assert.equal(set({ hour: 1 }), 0n);
  now += 5000;
  assert.equal(get(), Date.UTC(2030, 1, 28, 1, 0, 5));
  assert.equal(set({ hour: 1, timeZone: 0xffff & -60 }), 0n); // an hour east of UTC
  assert.equal(get(), Date.UTC(2030, 1, 28, 0, 0, 0));
  for (const bad of [
    { month: 13 },
    { day: 30 },
    { day: 0 },
    { hour: 24 },
    { minute: 60 },
    { nanosecond: 1e9 },
    { year: 1899 },
    { timeZone: 1441 },
  ])
    assert.equal(set(bad), 0x8000000000000002n, JSON.stringify(bad));
  assert.equal(get(), Date.UTC(2030, 1, 28, 0, 0, 0));
  assert.equal(efi.call(0x84000000, 0n, 0n), undefined);
});
