/**
 * Leaves guest memory as Hyper-V's firmware and the kernel's EFI stub would: kernel, initrd, EFI tables, ACPI tables, memory
 * map and a device tree that only points to them (reference hyperv-arm64.md §7.7). The VP then starts at `pc`, EL1, MMU off.
 *
 * Memory from below: free, kernel, initrd, free; at the top the firmware's block.
 */
import { alignUp, hex } from '../base/bits.ts';
import { ConfigError, type MachineConfig } from '../config.ts';
import type { Ram } from '../memory/ram.ts';
import { PPI, type PpiNumbers } from '../platform/addresses.ts';
import { prepareBareBoot } from './bare.ts';
import type { PsciConduit } from './acpi/fadt.ts';
import { acpiTables } from './acpi/index.ts';
import { chosenNode } from './chosen.ts';
import { cell, cells64, flattenDeviceTree } from './device-tree.ts';
import { efiTables } from './efi/index.ts';
import {
  EfiMemoryDescriptor,
  MEMORY,
  MEMORY_DESCRIPTOR_VERSION,
  memoryDescriptors,
  memoryMap,
  type MemoryUse,
} from './efi/memory-map.ts';
import { checkInitrd } from './initrd.ts';
import { parseKernel } from './kernel.ts';
import type { BootInfo, Placed, Program } from './loadable-kernel.ts';

export { checkInitrd } from './initrd.ts';
export { parseKernel } from './kernel.ts';
export type { BootInfo, LoadableKernel, Placed } from './loadable-kernel.ts';
export { EFI_RUNTIME_CALL, EfiRuntime } from './efi/runtime-services.ts';

export interface BootOptions {
  /** Conduit that ACPI and the EFI runtime code use for PSCI; both always work. Default: SMC, as real Hyper-V. */
  conduit?: PsciConduit;
  /** Default: current hosts'. */
  ppi?: PpiNumbers;
  /** False: a plain machine, without VMBus and without a word of Hyper-V. Default: true. */
  hypervisor?: boolean;
  /** Whether the FADT has the hypervisor's id. Default: true. */
  hypervisorId?: boolean;
}

const MIB = 1 << 20;
/** booting.rst: the kernel lies at a 2 MiB aligned base. The first 2 MiB stay free so that GPA 0 is never the kernel. */
const KERNEL_ALIGN = 2 * MIB;
/** UEFI 2.10 §2.3.6: runtime regions are 64 KiB aligned, so that a 64 KiB page kernel can map them. */
const REGION = 0x1_0000;

/** Linux enum efi_secureboot_mode. Kernels with the Secure Boot patches (Debian's) refuse the whole EFI hand-over without it. */
const SECURE_BOOT_DISABLED = 2;

/** Fills RAM. Throws `ConfigError` when a file is not what it should be or does not fit. */
export function prepareBoot(
  config: Program & Partial<Pick<MachineConfig, 'boot' | 'load'>>,
  ram: Ram,
  options: BootOptions = {},
): BootInfo {
  const { ppi = PPI, hypervisor = true, hypervisorId = true } = options;
  if (config.boot === 'device-tree') return prepareBareBoot(config, ram, { ppi, hypervisor });
  if (config.load !== undefined) throw new ConfigError('a load address needs the boot kind device-tree');
  const conduit = options.conduit ?? 'smc';
  const placed: Placed[] = [];
  const put = (name: string, gpa: number, data: Uint8Array, size = data.length): void => {
    ram.write(gpa, data);
    placed.push({ name, gpa, size });
  };

  // The firmware's block: four regions under the top of RAM.
  const code = ram.installed - REGION;
  const data = code - REGION;
  const acpi = data - REGION;
  const handover = acpi - REGION;

  const kernel = parseKernel(config.kernel, config.kernelName);
  const start = kernel.fixed ?? KERNEL_ALIGN + kernel.textOffset;
  const end = alignUp(start + kernel.size, REGION);
  if (end > handover)
    throw new ConfigError(
      kernel.fixed === undefined
        ? `${config.kernelName} needs at least ${Math.ceil((end + ram.installed - handover) / MIB)} MiB of memory; the guest has ${ram.installed / MIB} MiB`
        : `${config.kernelName} is linked for ${hex(start)}..${hex(start + kernel.size)}, outside the guest's ${ram.installed / MIB} MiB of memory`,
    );
  for (const segment of kernel.segments) ram.write(start + segment.offset, segment.data);
  placed.push({ name: 'kernel', gpa: start, size: kernel.size });

  const uses: MemoryUse[] = [
    { gpa: start - (start % REGION), size: end - (start - (start % REGION)), type: MEMORY.loaderCode },
    { gpa: handover, size: REGION, type: MEMORY.bootServicesData },
    { gpa: acpi, size: REGION, type: MEMORY.acpiReclaim },
    { gpa: data, size: REGION, type: MEMORY.runtimeServicesData },
    { gpa: code, size: REGION, type: MEMORY.runtimeServicesCode },
  ];

  let initrdFormat: string | undefined;
  const initrd = config.initrd;
  if (initrd) {
    const name = config.initrdName ?? 'the initrd';
    initrdFormat = checkInitrd(initrd, name);
    const size = alignUp(initrd.length, REGION);
    if (end + size > handover)
      throw new ConfigError(
        `${config.kernelName} and ${name} need at least ${Math.ceil((end + size + ram.installed - handover) / MIB)} MiB of memory; the guest has ${ram.installed / MIB} MiB`,
      );
    put('initrd', end, initrd);
    uses.push({ gpa: end, size, type: MEMORY.loaderData });
  }

  const tables = acpiTables(acpi, {
    vpCount: config.cpus,
    seed: config.seed,
    psciConduit: conduit,
    ppi,
    hypervisor,
    hypervisorId,
  });
  for (const t of tables) put(`ACPI ${t.name}`, t.gpa, t.data);
  const efi = efiTables({ codeGpa: code, dataGpa: data, rsdp: tables[0].gpa, seed: config.seed, conduit, hypervisor });
  for (const t of efi) put(t.name, t.gpa, t.data);

  const map = memoryDescriptors(memoryMap(ram.installed, uses));
  put('EFI memory map', handover, map);
  const chosen = chosenNode(config, initrd && { gpa: end, size: initrd.length }, {
    'linux,uefi-system-table': cells64(efi[0].gpa),
    'linux,uefi-mmap-start': cells64(handover),
    'linux,uefi-mmap-size': cell(map.length),
    'linux,uefi-mmap-desc-size': cell(EfiMemoryDescriptor.size),
    'linux,uefi-mmap-desc-ver': cell(MEMORY_DESCRIPTOR_VERSION),
    'linux,uefi-secure-boot': cell(SECURE_BOOT_DISABLED),
  });
  const fdt = alignUp(handover + map.length, 4096);
  put(
    'device tree',
    fdt,
    flattenDeviceTree({ properties: { '#address-cells': cell(2), '#size-cells': cell(2) }, children: { chosen } }),
  );

  // Every region must hold what was put into it; the fixed sizes are ours, not the user's.
  const limit = [handover, acpi, data, code, ram.installed];
  for (const p of placed)
    if (p.gpa >= handover && p.gpa + p.size > limit[limit.findIndex((l) => l > p.gpa)])
      throw new Error(`${p.name} does not fit its region`);
  placed.sort((a, b) => a.gpa - b.gpa);
  return { pc: start + kernel.entry, x: [fdt, 0, 0, 0], kernel, initrdFormat, placed };
}
