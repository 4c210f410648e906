/**
 * SMC Calling Convention (Arm DEN 0028E): calls by HVC #0 and SMC #0 that are not hypercalls, as one table of rows. PSCI's
 * rows are in psci.ts; the machine adds those of the hypervisor (its UID).
 */
import type { Trace } from '../base/trace.ts';

/** General registers of the VP that calls. */
export interface CallRegisters {
  x(n: number): bigint;
  setX(n: number, value: bigint): void;
}

export interface SmcccContext {
  readonly vp: number;
  readonly registers: CallRegisters;
  /** True when a row of this id is there and says that it is supported. */
  supports(id: number): boolean;
}

/** What a call asks of the machine. X0 is already set. */
export type SmcccEffect =
  | { kind: 'cpu-on'; vp: number; entry: bigint; context: bigint }
  | { kind: 'cpu-off' }
  /** Wait for an interrupt, as WFI does. */
  | { kind: 'suspend' }
  | { kind: 'power-off' }
  | { kind: 'reset' };

/** X0 of the call, or an effect with X0 (0 when the call does not return). */
export type SmcccResult = bigint | { result: bigint; effect: SmcccEffect };

export interface SmcccRow {
  readonly id: number;
  readonly name: string;
  /** False: the row is there to name a call that is always answered NOT_SUPPORTED. */
  readonly supported?: boolean;
  call(ctx: SmcccContext): SmcccResult;
}

/** DEN 0028E §7.1; in X0 as a signed 64-bit number. */
export const NOT_SUPPORTED = 0xffffffffffffffffn;

/** Rows of calls that guests try and this platform lacks: they are named in the trace. */
export const absent = (id: number, name: string): SmcccRow => ({ id, name, supported: false, call: () => NOT_SUPPORTED });

/** SMCCC_ARCH_WORKAROUND_n (DEN 0028E §7.5..7.8): nothing is speculated, so no workaround is needed anywhere. */
const workaround = (id: number, name: string): SmcccRow => ({ id, name, call: () => 0n });
const UNAFFECTED = 1n;

const VERSION = 0x80000000;
/** Versions that a host may say; `none`: the call is there and refused, as on hosts up to 2021 (reference §1.2). */
export const SMCCC_VERSIONS = { '1.1': 0x10001n, '1.2': 0x10002n, '1.3': 0x10003n, none: NOT_SUPPORTED } as const;
export type SmcccVersion = keyof typeof SMCCC_VERSIONS;
const ARCH_FEATURES = 0x80000001;
const WORKAROUNDS = new Set([0x80008000, 0x80007fff, 0x80003fff]);

/** Arm architecture calls (owner 0), and probes of services that are not here. */
export const smcccRows = (version: SmcccVersion = '1.2'): SmcccRow[] => [
  { id: VERSION, name: 'SMCCC_VERSION', call: () => SMCCC_VERSIONS[version] },
  {
    id: ARCH_FEATURES,
    name: 'SMCCC_ARCH_FEATURES',
    call: (ctx) => {
      const id = Number(ctx.registers.x(1) & 0xffffffffn);
      if (WORKAROUNDS.has(id)) return UNAFFECTED;
      return (id === VERSION || id === ARCH_FEATURES) && ctx.supports(id) ? 0n : NOT_SUPPORTED;
    },
  },
  absent(0x80000002, 'SMCCC_ARCH_SOC_ID'),
  workaround(0x80008000, 'SMCCC_ARCH_WORKAROUND_1'),
  workaround(0x80007fff, 'SMCCC_ARCH_WORKAROUND_2'),
  workaround(0x80003fff, 'SMCCC_ARCH_WORKAROUND_3'),
  // True random numbers (DEN 0098), paravirtualised time (DEN 0057), realm services (DEN 0137).
  absent(0x84000050, 'TRNG_VERSION'),
  absent(0xc5000020, 'PV_TIME_FEATURES'),
  absent(0xc4000190, 'RSI_VERSION'),
];

export class Smccc {
  readonly #rows: ReadonlyMap<number, SmcccRow>;
  readonly #trace: Trace;

  constructor(rows: readonly SmcccRow[], trace: Trace) {
    const map = new Map<number, SmcccRow>();
    for (const row of rows) {
      if (map.has(row.id)) throw new Error(`SMCCC function 0x${row.id.toString(16)} is there twice`);
      map.set(row.id, row);
    }
    this.#rows = map;
    this.#trace = trace;
  }

  /** Answers the call in X0 of `registers`; `pc` is the address of the HVC or SMC, for the trace. */
  call(vp: number, registers: CallRegisters, conduit: 'hvc' | 'smc', pc: bigint): SmcccEffect | undefined {
    const id = Number(registers.x(0) & 0xffffffffn);
    const row = this.#rows.get(id);
    const args = [1, 2, 3].map((n) => registers.x(n));
    const out = row
      ? row.call({ vp, registers, supports: (other) => this.#rows.get(other)?.supported ?? this.#rows.has(other) })
      : NOT_SUPPORTED;
    const result = typeof out === 'bigint' ? out : out.result;
    registers.setX(0, result);
    // PSCI's numbers (Arm DEN 0022F, 5.1): the standard service calls 0 to 31, of 32 and 64 bits.
    const kind = (id & 0xbfff_ffe0) >>> 0 === 0x8400_0000 ? 'psci' : 'smccc';
    if (this.#trace.wants(kind)) {
      const name = row?.name ?? `SMCCC 0x${id.toString(16).padStart(8, '0')}`;
      this.#trace.emit({ kind, vp, pc, conduit, function: id, name, args, result });
    }
    return typeof out === 'bigint' ? undefined : out.effect;
  }
}
