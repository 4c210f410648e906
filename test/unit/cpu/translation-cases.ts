/**
 * Page tables full of random descriptors, and address translation instructions to run over them: made from a seed, so that
 * an oracle (record-translations.ts) and the test see the same.
 */

/** Where the tables lie: RAM of the oracle. */
export const BASE = 0x44000000;
/**
 * Three regions of tables: those of the first point into the second, of the second into the third, of the third into the
 * third. Only the third has blocks, and a walk reaches it where blocks begin to be allowed: the oracle takes blocks that are
 * too large.
 */
const REGION = 1 << 20;
const SIZE = 3 * REGION;
/** Translations recorded. */
export const CASES = 6000;

export const OPERATIONS = ['S1E1R', 'S1E1W', 'S1E0R', 'S1E0W', 'S1E1RP', 'S1E1WP'] as const;

export interface Case {
  sctlr: bigint;
  tcr: bigint;
  mair: bigint;
  ttbr0: bigint;
  ttbr1: bigint;
  va: bigint;
  /** Index in `OPERATIONS`. */
  operation: number;
}

const startLevel = (granule: number, inputSize: number): number => 4 - Math.ceil((inputSize - granule) / (granule - 3));

/** `wide`: with 52-bit addresses and hardware management of Access flag and dirty state. */
export function translationCases(wide: boolean): { tables: Uint8Array; cases: Case[] } {
  let seed = wide ? 0x1b873593 : 0x2545f491;
  /** xorshift32: 0 .. n - 1. */
  const random = (n: number): number => {
    seed ^= seed << 13;
    seed ^= seed >>> 17;
    seed ^= seed << 5;
    return (seed >>> 0) % n;
  };
  const chance = (percent: number): boolean => random(100) < percent;
  const bit = (percent: number, n: number): bigint => (chance(percent) ? 1n << BigInt(n) : 0n);
  const pick = <T>(of: readonly T[]): T => of[random(of.length)];

  // Bits 15:12 of a descriptor and 5:2 of TTBRn_EL1 may be those above 48.
  const spacing = wide ? 0x10000 : 0x1000;
  const table = (region: number): number => BASE + region * REGION + random(REGION / spacing) * spacing;

  const tables = new Uint8Array(SIZE);
  const view = new DataView(tables.buffer);
  for (let at = 0; at < SIZE; at += 8) {
    const kind = random(100);
    const region = Math.floor(at / REGION);
    let d = kind < 80 || (kind < 94 && region < 2) ? 3n : kind < 94 ? 1n : BigInt(random(2) * 2);
    d |= BigInt(d === 1n ? random(0x10000000) * 4096 : table(Math.min(2, region + 1)));
    // Beyond every output size: a table elsewhere would be an external abort, which AT takes instead of reporting.
    if (chance(3)) d |= 1n << BigInt(40 + random(wide ? 10 : 8));
    d |= BigInt(random(512)) << 2n; // AttrIndx, NS, AP, SH
    if (wide && chance(95)) d &= ~0x300n;
    if (wide && chance(5)) d |= BigInt(random(16)) << 12n;
    d |= bit(90, 10) | bit(50, 11) | bit(30, 51) | bit(30, 52) | bit(40, 53) | bit(40, 54);
    d |= (BigInt(random(16)) << 55n) & (chance(50) ? 0xfn << 55n : 0n);
    d |= bit(10, 59) | bit(10, 60) | bit(10, 61) | bit(10, 62);
    view.setBigUint64(at, d, true);
  }

  const cases: Case[] = [];
  while (cases.length < CASES) {
    const ds = wide && chance(60);
    let t0sz = 16 + random(24);
    let t1sz = 16 + random(24);
    const tg0 = random(3);
    const tg1 = 1 + random(3);
    if (wide && (ds || tg0 === 1) && chance(50)) t0sz = 12 + random(4);
    if (wide && (ds || tg1 === 3) && chance(50)) t1sz = 12 + random(4);
    const on = chance(95);
    const tcr =
      BigInt(t0sz) |
      (BigInt(t1sz) << 16n) |
      bit(4, 7) |
      bit(4, 23) |
      (BigInt(tg0) << 14n) |
      (BigInt(tg1) << 30n) |
      // The oracle looks at bits 51:48 of a table's address only where IPS has them, although DS has made them part of it.
      (BigInt(ds ? 6 : pick(wide ? [2, 5, 6, 6, 6] : [0, 1, 2, 2, 2])) << 32n) |
      (wide ? bit(50, 39) | bit(50, 40) : 0n) |
      (ds ? 1n << 59n : 0n) |
      bit(30, 37) |
      bit(30, 38) |
      bit(30, 41) |
      bit(30, 42) |
      bit(8, 55) |
      bit(8, 56);
    const upper = chance(50);
    const size = 64 - (upper ? t1sz : t0sz);
    let va =
      ((BigInt(random(wide ? 0x100000 : 0x10000)) << 32n) | (BigInt(random(0x10000)) << 16n) | BigInt(random(0x10000))) &
      ((1n << BigInt(size)) - 1n);
    if (upper) va |= (0xffffffffffffffffn << BigInt(size)) & 0xffffffffffffffffn;
    if (chance(10)) va ^= 1n << BigInt(size + random(64 - size));
    if (chance(20)) va = (va & 0x00ffffffffffffffn) | (BigInt(random(256)) << 56n);
    // With the MMU off the size of the physical address counts, which is not the oracle's.
    if (!on) va &= 0xff80_00ff_ffff_ffffn;
    const ttbr = (granule: number, inputSize: number) =>
      BigInt(table(2 - Math.max(0, (granule === 12 ? 1 : 2) - startLevel(granule, inputSize)))) |
      (BigInt(random(0x10000)) << 48n) |
      bit(50, 0) |
      (chance(3) ? 1n << BigInt(40 + random(8)) : 0n) |
      (wide && chance(3) ? 1n << BigInt(2 + random(4)) : 0n);
    cases.push({
      sctlr: 0x30d00980n | (on ? 1n : 0n) | bit(20, 19),
      tcr,
      mair: BigInt(`0x${Array.from({ length: 8 }, () => pick(['00', '04', '0c', '44', 'ff', 'bb', '4f', 'ee'])).join('')}`),
      ttbr0: ttbr([12, 16, 14][tg0], 64 - t0sz),
      ttbr1: ttbr([0, 14, 12, 16][tg1], 64 - t1sz),
      va,
      operation: random(OPERATIONS.length),
    });
  }
  return { tables, cases };
}

/** In the place of PAR_EL1 where AT does not report but takes an external abort on the walk. */
export const ABORTED = 0x7fn;

/**
 * What of PAR_EL1 must be equal (Arm ARM D19.2.110): of a fault F and FST, else PA, ATTR and SH. SH is 0b10 for Device and
 * Non-cacheable memory, where the oracle shows the descriptor's.
 */
export function comparable(par: bigint): bigint {
  if (par & 1n) return par & 0x7fn;
  const memory = par >> 56n;
  return par & ((memory & 0xf0n) === 0n || memory === 0x44n ? 0xff00fffffffff000n : 0xff00fffffffff180n);
}
