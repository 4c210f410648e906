import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ConfigError } from '../../../emulator/config.ts';
import { checkInitrd } from '../../../emulator/boot/initrd.ts';
import { parseKernel } from '../../../emulator/boot/kernel.ts';
import { prepareBoot } from '../../../emulator/boot/index.ts';
import { Ram } from '../../../emulator/memory/ram.ts';
import { boot, MIB, tinyElf, tinyImage } from './guest-memory.ts';

const text = (s: string): Uint8Array => Uint8Array.from(s, (c) => c.charCodeAt(0));
const at = (offset: number, s: string, size = 4096): Uint8Array => {
  const out = new Uint8Array(size);
  out.set(text(s), offset);
  return out;
};

test('every wrong kernel file gives one message that names it and says what it is', () => {
  const big = tinyImage();
  const code = { vaddr: 0n, paddr: 0n, data: new Uint8Array(64) };
  const elf = tinyElf([code], 0n);
  const pe = tinyImage();
  const view = new DataView(pe.buffer);
  view.setUint32(60, 64, true); // PE header with one section of 1 MiB behind an optional header of no bytes
  pe.set(text('PE\0\0'), 64);
  view.setUint16(70, 1, true);
  view.setUint32(88 + 16, MIB, true);
  view.setUint32(88 + 20, 0x10000, true);
  const cases: [file: Uint8Array, message: RegExp][] = [
    [new Uint8Array(0), /^k is empty$/],
    [at(0x202, 'HdrS'), /^k is an x86 kernel \(bzImage\), not an arm64 one$/],
    [at(0x30, 'RISCV'), /^k is a RISC-V kernel/],
    [at(0, '\x1f\x8b'), /^k is a gzip file: unpack it first$/],
    [text('070701'), /^k is an initramfs/],
    [text('hello'), /^k is not an arm64 kernel: neither an Image .* nor an ELF file$/],
    [tinyImage(0x10000, 1n), /^k is a big-endian arm64 kernel/],
    [tinyImage(0), /^k is an arm64 Image without a size/],
    [big.subarray(0, 60), /^k is not an arm64 kernel/],
    [pe, /^k is truncated: 4096 of 1114112 bytes$/],
    [tinyElf([code, { ...code, paddr: code.paddr + 1n }], 0n), /^k has damaged program headers: two segments overlap at 0x/],
    [tinyElf([code], 0n, { machine: 62 }), /^k is an ELF file for x86-64, not little-endian arm64$/],
    [tinyElf([code], 0n, { machine: 40, class: 1 }), /^k is an ELF file for 32-bit Arm/],
    [tinyElf([code], 0n, { type: 1 }), /^k is an arm64 ELF file, but not an executable/],
    [elf.subarray(0, 40), /^k is truncated: an ELF header/],
    [elf.subarray(0, 80), /^k is truncated: its program headers end at byte 120/],
    [elf.subarray(0, 150), /^k is truncated: a segment ends at byte 184, the file at 150$/],
    [tinyElf([], 0n), /^k is an ELF file with nothing to load$/],
    [tinyElf([code], 64n), /^k has an entry point outside its segments$/],
  ];
  for (const [file, message] of cases)
    assert.throws(
      () => parseKernel(file, 'k'),
      (e) => (e instanceof ConfigError && message.test(e.message)) || assert.fail(String(e)),
    );
});

test('wrong initrds are refused, the ones Linux unpacks are not', () => {
  assert.throws(() => checkInitrd(tinyImage(), 'i'), /^Error: i is not an initramfs: it begins with none of the signatures/);
  assert.throws(() => checkInitrd(new Uint8Array(0), 'i'), /^Error: i is empty$/);
  const formats = ['070701', '\x1f\x8b\x08', '\xfd7zXZ\0', '\x28\xb5\x2f\xfd', '\x02\x21\x4c\x18', 'BZh9', '\x5d\0\0\x80'];
  assert.deepEqual(
    formats.map((f) => checkInitrd(text(f), 'i')),
    ['cpio', 'gzip', 'xz', 'zstd', 'lz4', 'bzip2', 'lzma'],
  );
});

test('what does not fit into memory is refused with the size it needs', () => {
  const cpio = new Uint8Array(40 * MIB);
  cpio.set(text('070701'));
  assert.throws(
    () => boot({ kernel: tinyImage(200 * MIB) }),
    /^Error: the-kernel needs at least 203 MiB of memory; the guest has 64 MiB$/,
  );
  boot({ kernel: tinyImage(200 * MIB), memory: 203 });
  assert.throws(
    () => boot({ kernel: tinyImage(30 * MIB), initrd: cpio }),
    /^Error: the-kernel and the-initrd need at least 73 MiB of memory; the guest has 64 MiB$/,
  );
  boot({ kernel: tinyImage(30 * MIB), initrd: cpio, memory: 73 });
  const far = tinyElf([{ vaddr: 0n, paddr: 0x8000_0000n, data: new Uint8Array(16) }], 0n);
  assert.throws(
    () => boot({ kernel: far }),
    /^Error: the-kernel is linked for 0x80000000..0x80000010, outside the guest's 64 MiB of memory$/,
  );
  assert.throws(() => boot({ append: 'x'.repeat(2048) }), /^Error: the kernel command line has 2048 bytes; Linux takes 2047$/);
});

test('an Image is put at 2 MiB with the initrd behind its BSS', () => {
  const kernel = tinyImage(0x123456);
  kernel.fill(0xab, 64);
  const { ram, info } = boot({ kernel, initrd: text('070701xyz') });
  assert.deepEqual([info.pc, info.x.slice(1), info.kernel.pageSize], [0x200000, [0, 0, 0], 4096]);
  assert.deepEqual(ram.read(0x200000, kernel.length), kernel);
  const initrd = info.placed.find((p) => p.name === 'initrd');
  assert.deepEqual(initrd, { name: 'initrd', gpa: 0x330000, size: 9 });
  assert.deepEqual(ram.read(0x330000, 9), text('070701xyz'));
  assert.equal(info.initrdFormat, 'cpio');
});

test('a linked ELF is loaded at its physical addresses and started at its entry', () => {
  const kernel = tinyElf(
    [
      { vaddr: 0xffff_0000_0040_0000n, paddr: 0x40_0000n, data: text('code') },
      { vaddr: 0xffff_0000_0050_0000n, paddr: 0x50_0000n, data: text('data'), memsz: 0x100 },
    ],
    0xffff_0000_0040_0002n,
  );
  const { ram, info } = boot({ kernel });
  assert.equal(info.pc, 0x40_0002);
  assert.deepEqual([ram.read(0x40_0000, 5), ram.read(0x50_0000, 5)], [text('code\0'), text('data\0')]);
  assert.deepEqual(info.placed[0], { name: 'kernel', gpa: 0x40_0000, size: 0x10_0100 });
});

test('a vmlinux, linked for kernel virtual addresses, is put at 2 MiB', () => {
  const base = 0xffff_8000_0800_0000n;
  const kernel = tinyElf(
    [
      { vaddr: base, paddr: base, data: tinyImage(0x20000) },
      { vaddr: base + 0x10000n, paddr: base + 0x10000n, data: text('data'), memsz: 0x10000 },
    ],
    base,
  );
  const { ram, info } = boot({ kernel });
  assert.deepEqual([info.pc, info.kernel.size], [0x200000, 0x20000]);
  assert.deepEqual(ram.read(0x210000, 4), text('data'));
});

test('a damaged header gives a ConfigError or a kernel that fits, never anything else', () => {
  const ram = new Ram(64 * MIB, 0);
  const low = { vaddr: 0n, paddr: 0x40_0000n, data: text('code') };
  const high = { vaddr: 0xffff_8000_0800_0000n, paddr: 0xffff_8000_0800_0000n, data: tinyImage(), memsz: 8192 };
  const files = [tinyImage(), tinyElf([low, { ...low, paddr: 0x50_0000n }], 0n), tinyElf([high], high.vaddr)];
  const damage = fc.array(fc.tuple(fc.nat(191), fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat(255))), {
    maxLength: 6,
  });
  fc.assert(
    fc.property(fc.constantFrom(...files), damage, fc.nat(4096), (file, bytes, cut) => {
      const kernel = file.slice(0, cut % 5 === 0 ? cut : file.length);
      for (const [at, value] of bytes) if (at < kernel.length) kernel[at] = value;
      try {
        const info = prepareBoot({ cpus: 1, append: '', kernel, kernelName: 'k', seed: 1 }, ram);
        assert.ok(info.pc >= info.placed[0].gpa && info.pc < info.placed[0].gpa + info.placed[0].size);
      } catch (e) {
        if (!(e instanceof ConfigError)) throw e;
      }
    }),
    { numRuns: 3000, seed: 2 },
  );
});
