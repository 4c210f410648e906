/**
 * Runtime services: UEFI 2.10 §8. The guest calls code of ours at EL1; it is a page of small A64 routines, and what they
 * need from the machine they ask for by an SMCCC call in the OEM range, as firmware would ask its own EL3.
 */
import { array, struct, u64, viewOf } from '../../base/struct.ts';
import type { PsciConduit } from '../acpi/fadt.ts';
import { EfiTableHeader, seal } from './tables.ts';
import { decodeTime, encodeTime } from './time.ts';

/** SMCCC function ids: fast, SMC64, owner 3 = OEM service (SMCCC DEN0028 §2.5, §5.1). The machine routes them to `EfiRuntime`. */
export const EFI_RUNTIME_CALL = { getTime: 0xc300_0001, setTime: 0xc300_0002 } as const;

/** EFI_STATUS: Appendix D. */
const EFI_INVALID_PARAMETER = 0x8000_0000_0000_0002n;

/** Order of the functions in EFI_RUNTIME_SERVICES (§4.5.1), and their bits in EFI_RT_PROPERTIES_TABLE (§4.6.2). */
const SERVICES = [
  { name: 'GetTime', property: 0x1 },
  { name: 'SetTime', property: 0x2 },
  { name: 'GetWakeupTime', property: 0x4 },
  { name: 'SetWakeupTime', property: 0x8 },
  { name: 'SetVirtualAddressMap', property: 0x80 },
  { name: 'ConvertPointer', property: 0x100 },
  { name: 'GetVariable', property: 0x10 },
  { name: 'GetNextVariableName', property: 0x20 },
  { name: 'SetVariable', property: 0x40 },
  { name: 'GetNextHighMonotonicCount', property: 0x200 },
  { name: 'ResetSystem', property: 0x400 },
  { name: 'UpdateCapsule', property: 0x800 },
  { name: 'QueryCapsuleCapabilities', property: 0x1000 },
  { name: 'QueryVariableInfo', property: 0x2000 },
] as const;

export const EfiRuntimeServices = struct(
  'EFI_RUNTIME_SERVICES',
  { header: EfiTableHeader, functions: array(SERVICES.length, u64) },
  { size: 136 },
);

/** An instruction and what it says; a test disassembles the words and compares. */
export type Line = [word: number, text: string];

const RET: Line = [0xd65f03c0, 'ret'];
const call = (conduit: PsciConduit): Line => (conduit === 'hvc' ? [0xd4000002, 'hvc #0'] : [0xd4000003, 'smc #0']);
const loadW0 = (v: number): Line[] => [
  [(0x52800000 | ((v & 0xffff) << 5)) >>> 0, `mov w0, #0x${(v & 0xffff).toString(16)}`],
  [(0x72a00000 | ((v >>> 16) << 5)) >>> 0, `movk w0, #0x${(v >>> 16).toString(16)}, lsl #16`],
];
const INVALID_PARAMETER: Line[] = [[0xd2800040, 'mov x0, #2'], [0xf2f00000, 'movk x0, #0x8000, lsl #48'], RET];

/** The routines. x0..x17 may be clobbered (AAPCS64); SMCCC keeps x4 up across the call. */
export function routines(conduit: PsciConduit): Record<'unsupported' | 'GetTime' | 'SetTime' | 'ResetSystem', Line[]> {
  return {
    // return EFI_UNSUPPORTED
    unsupported: [[0xd2800060, 'mov x0, #3'], [0xf2f00000, 'movk x0, #0x8000, lsl #48'], RET],
    // (time, capabilities): the call gives status, and EFI_TIME in x1, x2
    GetTime: [
      [0xb4000200, 'cbz x0, #0x40'],
      [0xaa0003e8, 'mov x8, x0'],
      [0xaa0103e9, 'mov x9, x1'],
      ...loadW0(EFI_RUNTIME_CALL.getTime),
      call(conduit),
      [0xb5000120, 'cbnz x0, #0x3c'],
      [0xf9000101, 'str x1, [x8]'],
      [0xf9000502, 'str x2, [x8, #8]'],
      [0xb40000c9, 'cbz x9, #0x3c'],
      // EFI_TIME_CAPABILITIES: resolution 1 Hz, accuracy 50 ppm (50000000e-6), setting does not clear fractions of a second
      [0xd2800021, 'mov x1, #1'],
      [0xf2de1001, 'movk x1, #0xf080, lsl #32'],
      [0xf2e05f41, 'movk x1, #0x2fa, lsl #48'],
      [0xf9000121, 'str x1, [x9]'],
      [0x3900213f, 'strb wzr, [x9, #8]'],
      RET,
      ...INVALID_PARAMETER,
    ],
    // (time): EFI_TIME goes in x1, x2
    SetTime: [
      [0xb40000e0, 'cbz x0, #0x1c'],
      [0xf9400001, 'ldr x1, [x0]'],
      [0xf9400402, 'ldr x2, [x0, #8]'],
      ...loadW0(EFI_RUNTIME_CALL.setTime),
      call(conduit),
      RET,
      ...INVALID_PARAMETER,
    ],
    // (type, ...): EfiResetShutdown = 2 is PSCI SYSTEM_OFF 0x84000008, all others SYSTEM_RESET 0x84000009
    ResetSystem: [
      [0x7100081f, 'cmp w0, #2'],
      [0x52b08000, 'mov w0, #-0x7c000000'],
      [0x1a800400, 'cinc w0, w0, ne'],
      [0x11002000, 'add w0, w0, #8'],
      call(conduit),
      [0x14000000, 'b #0x14'],
    ],
  };
}

/** The RT_PROPERTIES mask: what answers something else than EFI_UNSUPPORTED. */
export function supportedServices(): number {
  const have = routines('smc');
  return SERVICES.filter((s) => s.name in have).reduce((mask, s) => mask | s.property, 0);
}

/** Code for `codeGpa`, and the table of pointers to it. */
export function runtimeServices(codeGpa: number, conduit: PsciConduit): { code: Uint8Array; table: Uint8Array } {
  const words: number[] = [];
  const entry: Record<string, bigint> = {};
  for (const [name, lines] of Object.entries(routines(conduit))) {
    entry[name] = BigInt(codeGpa + words.length * 4);
    words.push(...lines.map(([word]) => word));
  }
  const code = new Uint8Array(words.length * 4);
  words.forEach((w, i) => {
    viewOf(code).setUint32(i * 4, w, true);
  });
  const table = EfiRuntimeServices.make({ functions: SERVICES.map((s) => entry[s.name] ?? entry.unsupported) });
  return { code, table: seal('RUNTSERV', table) };
}

/** The machine's side of `EFI_RUNTIME_CALL`. */
export class EfiRuntime {
  /** What SetTime added to the machine's clock, in ms. */
  readonly state = { offset: 0 };
  readonly #wallClock: () => number;

  /** `wallClock`: the machine's date now, ms since 1970. */
  constructor(wallClock: () => number) {
    this.#wallClock = wallClock;
  }

  /** Answers function `id` with arguments x1, x2: the values of x0 (EFI_STATUS), x1, x2. undefined: not one of ours. */
  call(id: number, x1: bigint, x2: bigint): [x0: bigint, x1: bigint, x2: bigint] | undefined {
    if (id === EFI_RUNTIME_CALL.getTime) {
      const view = viewOf(encodeTime(this.#wallClock() + this.state.offset));
      return [0n, view.getBigUint64(0, true), view.getBigUint64(8, true)];
    }
    if (id === EFI_RUNTIME_CALL.setTime) {
      const time = new Uint8Array(16);
      viewOf(time).setBigUint64(0, x1, true);
      viewOf(time).setBigUint64(8, x2, true);
      const ms = decodeTime(time);
      if (ms === undefined) return [EFI_INVALID_PARAMETER, x1, x2];
      this.state.offset = ms - this.#wallClock();
      return [0n, x1, x2];
    }
    return undefined;
  }
}
