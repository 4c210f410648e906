import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { ConfigError } from '../../../emulator/config.ts';
import { boot, MIB, type Setup, tinyElf, tinyImage } from './guest-memory.ts';

const bare = (setup: Setup = {}) => boot({ boot: 'device-tree', ...setup });
const cpio = Uint8Array.from('070701', (c) => c.charCodeAt(0));
const flat = new Uint8Array(256).fill(1);

/** The source of a blob; every complaint of dtc fails the test. */
function source(blob: Uint8Array): string {
  const r = spawnSync('dtc', ['-I', 'dtb', '-O', 'dts'], { input: blob });
  if (r.error) throw new Error(`dtc is needed for this test (Debian: device-tree-compiler): ${r.error.message}`);
  assert.deepEqual([r.status, r.stderr.toString()], [0, '']);
  return r.stdout.toString();
}

test('the tree describes the machine: memory, VPs, PSCI, GIC, timer, PMU, UARTs, clock, RTC, VMBus, and dtc finds nothing wrong', () => {
  const tree = source(bare({ cpus: 3, memory: 128, initrd: cpio }).piece('device tree'));
  assert.deepEqual(
    [...tree.matchAll(/^\t*(\S+) \{/gm)].map((m) => m[1]),
    [
      ...['/', 'aliases', 'chosen', 'memory@0', 'cpus', 'cpu@0', 'cpu@1', 'cpu@2', 'psci', 'timer', 'pmu'],
      ...['interrupt-controller@eff00000', 'clock', 'serial@effec000', 'serial@effeb000', 'rtc@effe7000'],
      ...['bus', 'vmbus@e0000000'],
    ],
  );
  const node = (name: string): string => new RegExp(`\\t${name} \\{[^}]*`).exec(tree)?.[0] ?? '';
  for (const [name, properties] of Object.entries({
    chosen: ['bootargs = "console=ttyAMA0";', 'stdout-path = "/serial@effec000";', 'kaslr-seed', 'rng-seed'],
    'memory@0': ['reg = <0x00 0x00 0x00 0x8000000>;'],
    'cpu@2': ['reg = <0x02>;', 'enable-method = "psci";'],
    psci: ['method = "hvc";'],
    pmu: ['compatible = "arm,armv8-pmuv3";', 'interrupts = <0x01 0x07 0x04>;'],
    // Interrupts are <type number flags>: 1 private (number = INTID - 16), 0 shared (INTID - 32); 4 level, 1 edge.
    timer: ['interrupts = <0x01 0x0d 0x04 0x01 0x03 0x04 0x01 0x04 0x04 0x01 0x05 0x04>;'],
    'interrupt-controller@eff00000': ['reg = <0x00 0xeff00000 0x00 0x10000 0x00 0xeffee000 0x00 0x60000>;'],
    'serial@effec000': ['interrupts = <0x00 0x01 0x04>;', 'clock-names = "uartclk\\0apb_pclk";'],
    'rtc@effe7000': ['interrupts = <0x00 0x07 0x04>;'],
    'vmbus@e0000000': [
      'compatible = "microsoft,vmbus";',
      'interrupts = <0x01 0x02 0x01>;',
      'ranges = <0x00 0xe0000000 0x00 0xe0000000 0x00 0xf000000 0x10 0x00 0x10 0x00 0x10 0x00>;',
    ],
  }))
    for (const p of properties) assert.ok(node(name).includes(p), `${p} in ${node(name)}`);
});

test('a program starts where its format says, or where --load says, with the tree in x0', () => {
  const elf = tinyElf([{ vaddr: 0x40080000n, paddr: 0x40080000n, data: flat }], 0x40080010n);
  const image = tinyImage();
  image[8] = 0x80; // text_offset
  const cases: [Setup, pc: number, tree: number][] = [
    [{ kernel: flat }, 0x8_0000, 32 * MIB],
    [{ kernel: flat, memory: 512 }, 0x8_0000, 128 * MIB],
    [{ kernel: flat, load: 0x1_0000 }, 0x1_0000, 32 * MIB],
    [{ kernel: image }, 2 * MIB + 0x80, 32 * MIB],
    [{ kernel: elf, memory: 2048 }, 0x4008_0010, 128 * MIB],
    // Not under the program, however it lies.
    [{ kernel: flat, load: 33 * MIB }, 33 * MIB, 34 * MIB],
    [{ kernel: new Uint8Array(40 * MIB).fill(1), load: 0 }, 0, 40 * MIB],
  ];
  for (const [setup, pc, tree] of cases) {
    const { info, ram } = bare(setup);
    assert.deepEqual([info.pc, info.x], [pc, [tree, 0, 0, 0]]);
    const code = info.placed.find((p) => p.name === 'kernel')?.gpa as number;
    assert.deepEqual(ram.read(code, 64), (setup.kernel === elf ? flat : (setup.kernel as Uint8Array)).slice(0, 64));
  }
});

test('initrd and tree lie side by side, and /chosen says where', () => {
  const { info, piece } = bare({ initrd: cpio, append: 'quiet' });
  assert.deepEqual(
    info.placed.map((p) => [p.name, p.gpa]),
    [
      ['kernel', 2 * MIB],
      ['initrd', 32 * MIB],
      ['device tree', 34 * MIB],
    ],
  );
  const tree = source(piece('device tree'));
  assert.match(tree, /linux,initrd-start = <0x00 0x2000000>;\s*linux,initrd-end = <0x00 0x2000006>;/);
  assert.match(tree, /bootargs = "quiet"/);
});

test('the initrd of a program that is not Linux may be anything', () => {
  assert.deepEqual(bare({ kernel: flat, initrd: Uint8Array.of(1, 2, 3) }).piece('initrd'), Uint8Array.of(1, 2, 3));
});

test('what does not fit or cannot be a program is refused with its name', () => {
  const cases: [Setup, RegExp][] = [
    [{ kernel: flat, load: 64 * MIB }, /^the-kernel would end at 0x4000100; the guest has 64 MiB of memory$/],
    [{ kernel: flat, load: 0x1001 }, /^the-kernel cannot be loaded at 0x1001/],
    [{ kernel: new Uint8Array(63 * MIB).fill(1) }, /^the device tree would end at/],
    [{ kernel: cpio }, /^the-kernel is an initramfs/],
    [{ initrd: flat }, /^the-initrd is not an initramfs/],
    [{ boot: 'hyperv', load: 0 }, /^a load address needs the boot kind device-tree$/],
    [{ append: 'x'.repeat(2048) }, /^the kernel command line has 2048 bytes; Linux takes 2047$/],
  ];
  for (const [setup, message] of cases)
    assert.throws(
      () => bare(setup),
      (e) => (e instanceof ConfigError && message.test(e.message)) || assert.fail(String(e)),
    );
});
