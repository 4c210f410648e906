/**
 * The partition's reference time: 100 ns units since power-on (reference hyperv-arm64.md §5.1). The counter register, the
 * reference TSC page and the synthetic timers all tell this one.
 */
import { PAGE } from '../memory/ram.ts';
import type { HypervisorHost } from './host.ts';
import { HvReferenceTscPage } from './tlfs.ts';

const HZ = 10_000_000n;
const NS_PER_UNIT = 100;

export class ReferenceTime {
  readonly #host: HypervisorHost;
  readonly #frequency: bigint;
  /** TscScale: reference units per counter tick, as a fraction of 2^64. 0: the counter is too slow for the page. */
  readonly scale: bigint;

  constructor(host: HypervisorHost) {
    this.#host = host;
    this.#frequency = BigInt(host.counterFrequency);
    // Rounded up: rounded down, every exact multiple (CNTVCT = 100 at 1 GHz) would come out one unit short.
    this.scale = this.#frequency > HZ ? ((HZ << 64n) + this.#frequency - 1n) / this.#frequency : 0n;
  }

  /** Reference time now, by the formula of the page, so that the two never differ. */
  now(): bigint {
    if (this.scale === 0n) return BigInt(Math.floor(this.#host.clock.now / NS_PER_UNIT));
    return BigInt.asUintN(64, (this.#host.counter() * this.scale) >> 64n);
  }

  /** Virtual ns at which reference time reaches `reference`; Infinity when that is beyond the clock's range. */
  due(reference: bigint): number {
    let ns = reference * BigInt(NS_PER_UNIT);
    if (this.scale !== 0n) {
      const ticks = ((reference << 64n) + this.scale - 1n) / this.scale;
      ns = (ticks * 1_000_000_000n + this.#frequency - 1n) / this.#frequency;
    }
    return ns > BigInt(Number.MAX_SAFE_INTEGER) ? Number.POSITIVE_INFINITY : Number(ns);
  }

  /** Fills the reference TSC page that HvRegisterReferenceTsc names. False: enabled, but not in RAM. */
  writePage(register: bigint): boolean {
    if ((register & 1n) === 0n) return true;
    const gpa = Number((register >> 12n) << 12n);
    if (!this.#host.ram.contains(gpa, PAGE)) return false;
    // The scale never changes, so neither does the sequence. 0 sends the guest to the register.
    this.#host.ram.write(gpa, HvReferenceTscPage.make({ TscSequence: this.scale === 0n ? 0 : 1, TscScale: this.scale }));
    return true;
  }
}
