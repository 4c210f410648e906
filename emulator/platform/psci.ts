/**
 * Power State Coordination Interface 1.1 (Arm DEN 0022D), as rows of the SMCCC table. Who is on is the machine's to know:
 * the rows ask, and their effects tell it what to do.
 */
import { affinityOf } from './addresses.ts';
import { absent, NOT_SUPPORTED, type SmcccContext, type SmcccResult, type SmcccRow } from './smccc.ts';

export interface PsciHost {
  readonly vpCount: number;
  isOn(vp: number): boolean;
  /** True when code may start at this GPA. */
  isMemory(gpa: bigint): boolean;
  /** Left out: 1.1. */
  readonly version?: PsciVersion;
}

/** Real Hyper-V says 1.0 (reference §1.2): no SYSTEM_RESET2. */
export const PSCI_VERSIONS = { '1.0': 0x10000n, '1.1': 0x10001n } as const;
export type PsciVersion = keyof typeof PSCI_VERSIONS;

/** Return codes (§5.2.2). */
const SUCCESS = 0n;
const INVALID_PARAMETERS = BigInt.asUintN(64, -2n);
const ALREADY_ON = BigInt.asUintN(64, -4n);
const INVALID_ADDRESS = BigInt.asUintN(64, -9n);

/** AFFINITY_INFO (§5.7). */
const ON = 0n;
const OFF = 1n;

const PSCI_FEATURES = 0x8400000a;

/** The affinity fields of an MPIDR argument: Aff3 in [39:32] for 64-bit calls, Aff2..Aff0. */
const AFFINITY_MASK = 0xff00ffffffn;

export function psciRows(host: PsciHost): SmcccRow[] {
  const version = host.version ?? '1.1';
  const vpOf = (mpidr: bigint): number => {
    for (let vp = 0; vp < host.vpCount; vp++) if (BigInt(affinityOf(vp)) === (mpidr & AFFINITY_MASK)) return vp;
    return -1;
  };
  /** SMC32 and SMC64 forms: 32-bit arguments are the low words. */
  const both = (id: number, name: string, call: (ctx: SmcccContext, arg: (n: number) => bigint) => SmcccResult): SmcccRow[] => [
    { id, name, call: (ctx) => call(ctx, (n) => ctx.registers.x(n) & 0xffffffffn) },
    { id: (id | 0x40000000) >>> 0, name, call: (ctx) => call(ctx, (n) => ctx.registers.x(n)) },
  ];
  return [
    { id: 0x84000000, name: 'PSCI_VERSION', call: () => PSCI_VERSIONS[version] },
    // Power-down states are taken as standby, which §5.4.4 permits: execution goes on after the call.
    ...both(0x84000001, 'CPU_SUSPEND', () => ({ result: SUCCESS, effect: { kind: 'suspend' } })),
    { id: 0x84000002, name: 'CPU_OFF', call: () => ({ result: SUCCESS, effect: { kind: 'cpu-off' } }) },
    ...both(0x84000003, 'CPU_ON', (_, arg) => {
      const vp = vpOf(arg(1));
      if (vp < 0) return INVALID_PARAMETERS;
      if (host.isOn(vp)) return ALREADY_ON;
      const entry = arg(2);
      if (!host.isMemory(entry)) return INVALID_ADDRESS;
      return { result: SUCCESS, effect: { kind: 'cpu-on', vp, entry, context: arg(3) } };
    }),
    ...both(0x84000004, 'AFFINITY_INFO', (_, arg) => {
      const vp = vpOf(arg(1));
      // Only affinity level 0 (§5.7.3: other levels are optional from PSCI 1.0 on).
      return vp < 0 || (arg(2) & 0xffffffffn) !== 0n ? INVALID_PARAMETERS : host.isOn(vp) ? ON : OFF;
    }),
    // 2: no Trusted OS that would have to migrate.
    { id: 0x84000006, name: 'MIGRATE_INFO_TYPE', call: () => 2n },
    { id: 0x84000008, name: 'SYSTEM_OFF', call: () => ({ result: SUCCESS, effect: { kind: 'power-off' } }) },
    { id: 0x84000009, name: 'SYSTEM_RESET', call: () => ({ result: SUCCESS, effect: { kind: 'reset' } }) },
    {
      id: PSCI_FEATURES,
      name: 'PSCI_FEATURES',
      call: (ctx) => {
        const id = Number(ctx.registers.x(1) & 0xffffffffn);
        // PSCI's own functions, and SMCCC_VERSION (§5.15.2). CPU_SUSPEND's flags 0: original power_state format.
        const known = (id & 0xbfffffe0) >>> 0 === 0x84000000 || id === 0x80000000;
        return known && ctx.supports(id) ? SUCCESS : NOT_SUPPORTED;
      },
    },
    ...(version === '1.0'
      ? [absent(0x84000012, 'SYSTEM_RESET2'), absent(0xc4000012, 'SYSTEM_RESET2')]
      : both(0x84000012, 'SYSTEM_RESET2', (_, arg) =>
          // SYSTEM_WARM_RESET is the only architectural reset type.
          (arg(1) & 0xffffffffn) === 0n ? { result: SUCCESS, effect: { kind: 'reset' } } : INVALID_PARAMETERS,
        )),
    absent(0x84000005, 'MIGRATE'),
    absent(0x8400000e, 'SYSTEM_SUSPEND'),
    absent(0xc400000e, 'SYSTEM_SUSPEND'),
  ];
}
