/** Hyper-V's entropy table: Linux 7.2 seeds its RNG from the body and wipes it in place (reference §3.7, §7.4). */
import { bytes, struct } from '../../base/struct.ts';
import { Entropy, STREAM } from '../entropy.ts';
import { table, TableHeader } from './table.ts';

const ENTROPY_SIZE = 64;

export const Oem0 = struct('Oem0', { header: TableHeader, entropy: bytes(ENTROPY_SIZE) }, { size: 100 });

export function oem0(seed: number): Uint8Array {
  return table({ signature: 'OEM0', revision: 1 }, Oem0, { entropy: new Entropy(seed, STREAM.oem0).bytes(ENTROPY_SIZE) });
}
