/** The EFI memory map: UEFI 2.10 §7.2.3 (GetMemoryMap). */
import { struct, u32, u64 } from '../../base/struct.ts';

export const EfiMemoryDescriptor = struct(
  'EFI_MEMORY_DESCRIPTOR',
  { type: u32, padding: u32, physicalStart: u64, virtualStart: u64, pages: u64, attribute: u64 },
  { size: 40 },
);
export const MEMORY_DESCRIPTOR_VERSION = 1;

export const EFI_PAGE = 4096;

/** EFI_MEMORY_TYPE */
export const MEMORY = {
  loaderCode: 1,
  loaderData: 2,
  bootServicesData: 4,
  runtimeServicesCode: 5,
  runtimeServicesData: 6,
  conventional: 7,
  acpiReclaim: 9,
} as const;
export type MemoryType = (typeof MEMORY)[keyof typeof MEMORY];

// Attributes
const WB = 0x8n;
const XP = 0x4000n;
const RO = 0x20000n;
const RUNTIME = 1n << 63n;

const attributes = (type: MemoryType): bigint => {
  if (type === MEMORY.runtimeServicesCode) return WB | RO | RUNTIME;
  if (type === MEMORY.runtimeServicesData) return WB | XP | RUNTIME;
  return WB;
};

export interface MemoryUse {
  gpa: number;
  size: number;
  type: MemoryType;
}

/** All of RAM in ascending order: `uses` (page aligned, apart from each other) and conventional memory between them. */
export function memoryMap(ramSize: number, uses: MemoryUse[]): MemoryUse[] {
  const out: MemoryUse[] = [];
  let at = 0;
  const free = (end: number): void => {
    if (end > at) out.push({ gpa: at, size: end - at, type: MEMORY.conventional });
  };
  for (const use of [...uses].sort((a, b) => a.gpa - b.gpa)) {
    if (use.gpa < at || use.gpa % EFI_PAGE || use.size % EFI_PAGE)
      throw new Error(`memory map: bad use at 0x${use.gpa.toString(16)}`);
    free(use.gpa);
    out.push(use);
    at = use.gpa + use.size;
  }
  free(ramSize);
  return out;
}

/** The descriptors. Runtime regions are mapped where they are, as a boot loader may choose (§8.4, SetVirtualAddressMap). */
export function memoryDescriptors(map: MemoryUse[]): Uint8Array {
  const out = new Uint8Array(map.length * EfiMemoryDescriptor.size);
  const view = new DataView(out.buffer);
  map.forEach((use, i) => {
    const attribute = attributes(use.type);
    EfiMemoryDescriptor.set(view, i * EfiMemoryDescriptor.size, {
      type: use.type,
      padding: 0,
      physicalStart: BigInt(use.gpa),
      virtualStart: attribute & RUNTIME ? BigInt(use.gpa) : 0n,
      pages: BigInt(use.size / EFI_PAGE),
      attribute,
    });
  });
  return out;
}
