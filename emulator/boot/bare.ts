/**
 * Starts a program by the arm64 boot protocol and nothing else (Linux Documentation/arch/arm64/booting.rst): EL1, MMU off, x0 =
 * device tree. For kernels without ACPI and for bare-metal programs.
 *
 * Where the program goes, unless the configuration says it: an `Image` (and vmlinux) to 2 MiB + its text offset, a linked ELF
 * file where its program headers say, anything else, taken as a flat binary that begins with its first instruction, to `FLAT`.
 * Initrd and device tree lie in the middle of memory: room for what the program has in BSS and above it, without files that
 * tell how much that is, and away from the end of memory, where programs like to have their stack.
 */
import { alignUp, hex } from '../base/bits.ts';
import { ConfigError, type MachineConfig } from '../config.ts';
import type { Ram } from '../memory/ram.ts';
import { chosenNode } from './chosen.ts';
import { flattenDeviceTree } from './device-tree.ts';
import { checkInitrd } from './initrd.ts';
import { parseProgram } from './kernel.ts';
import type { BootInfo, Placed, Program } from './loadable-kernel.ts';
import { platformTree, type PlatformTreeOptions } from './platform-tree.ts';

const MIB = 1 << 20;
/** booting.rst: the kernel lies at a 2 MiB aligned base; the device tree may be in a 2 MiB block of its own. */
const BLOCK = 2 * MIB;
/** The offset that text_offset was before kernels said it (booting.rst), and flat binaries are made for. */
const FLAT = 0x8_0000;
/** Most of memory that is left to the program in front of the initrd and the device tree. */
const PROGRAM_ROOM = 128 * MIB;

/** Fills RAM. Throws `ConfigError` when a file is not what it should be or does not fit. */
export function prepareBareBoot(
  config: Program & Partial<Pick<MachineConfig, 'load'>>,
  ram: Ram,
  platform: Pick<PlatformTreeOptions, 'ppi' | 'hypervisor'>,
): BootInfo {
  const { kernelName: name, initrd } = config;
  const kernel = parseProgram(config.kernel, name);
  const start = config.load ?? kernel.fixed ?? (kernel.format === 'flat binary' ? FLAT : BLOCK + kernel.textOffset);
  if (start % 4) throw new ConfigError(`${name} cannot be loaded at ${hex(start)}: instructions are aligned to 4 bytes`);
  const end = start + kernel.size;
  const noRoom = (what: string, last: number) =>
    new ConfigError(`${what} would end at ${hex(last)}; the guest has ${ram.installed / MIB} MiB of memory`);
  if (end > ram.installed) throw noRoom(name, end);
  const placed: Placed[] = [{ name: 'kernel', gpa: start, size: kernel.size }];
  for (const segment of kernel.segments) ram.write(start + segment.offset, segment.data);

  const middle = Math.min(PROGRAM_ROOM, ram.installed / 2);
  const files = alignUp(initrd?.length ?? 0, BLOCK) + BLOCK;
  let next = alignUp(start < middle + files ? Math.max(middle, end) : middle, BLOCK);
  let initrdFormat: string | undefined;
  const initrdAt = next;
  if (initrd) {
    const initrdName = config.initrdName ?? 'the initrd';
    // What a program that is not Linux makes of it is its own business.
    const isLinux = kernel.format !== 'flat binary' && kernel.fixed === undefined;
    if (isLinux) initrdFormat = checkInitrd(initrd, initrdName);
    if (next + initrd.length > ram.installed) throw noRoom(initrdName, next + initrd.length);
    ram.write(next, initrd);
    placed.push({ name: 'initrd', gpa: next, size: initrd.length });
    next = alignUp(next + initrd.length, BLOCK);
  }
  const chosen = chosenNode(config, initrd && { gpa: initrdAt, size: initrd.length }, {});
  const tree = flattenDeviceTree(platformTree({ vpCount: config.cpus, ramSize: ram.installed, chosen, ...platform }));
  if (next + tree.length > ram.installed) throw noRoom('the device tree', next + tree.length);
  ram.write(next, tree);
  placed.push({ name: 'device tree', gpa: next, size: tree.length });
  placed.sort((a, b) => a.gpa - b.gpa);
  return { pc: start + kernel.entry, x: [next, 0, 0, 0], kernel, initrdFormat, placed };
}
