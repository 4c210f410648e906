/** What FP properties are tried on. */
import fc from 'fast-check';
import { type Format, FPCR, NEGINF, POSINF, TIEEVEN, ZERO } from '../../../emulator/cpu/fp.ts';

/**
 * Encodings: uniform, near the edges of the exponent range, around one (so that sums cancel), of few significant bits (so that
 * products are exact), and such that products of two are near the smallest normal.
 */
export function encodings(f: Format): fc.Arbitrary<bigint> {
  const F = BigInt(f.frac);
  const all = fc.bigInt(0n, (1n << BigInt(f.bits)) - 1n);
  const signed = (a: fc.Arbitrary<bigint>): fc.Arbitrary<bigint> =>
    fc.tuple(a, fc.boolean()).map(([v, s]) => (s ? v | f.sign : v));
  const around = (exponent: number): fc.Arbitrary<bigint> =>
    fc
      .tuple(fc.bigInt(BigInt(exponent) - 4n, BigInt(exponent) + 4n), fc.bigInt(0n, (1n << F) - 1n))
      .map(([e, m]) => (e << F) | m);
  const near = (v: bigint): fc.Arbitrary<bigint> => fc.bigInt(v > 8n ? v - 8n : 0n, v + 8n);
  const one = around(f.bias);
  const coarse = one.map((v) => (v >> (F / 2n)) << (F / 2n));
  const edges = [0n, 1n << F, BigInt(f.bias) << F, BigInt(f.bias - f.frac) << F, f.inf, f.inf | f.quiet].map(near);
  return fc.oneof(all, signed(one), signed(one), signed(coarse), signed(around(Math.floor(f.bias / 2))), ...edges.map(signed));
}

/** FPCR: all rounding modes, any of the flags. */
export const controls = fc
  .tuple(fc.constantFrom(TIEEVEN, POSINF, NEGINF, ZERO), fc.subarray([FPCR.FZ, FPCR.FZ16, FPCR.DN, FPCR.AHP]))
  .map(([mode, flags]) => flags.reduce((a, b) => a | b, mode << FPCR.RMODE));
