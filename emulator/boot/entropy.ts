/**
 * What real firmware takes from a random number generator, made from the machine's seed: the same seed gives the same
 * run. SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014, fig. 15).
 */
export class Entropy {
  #state: bigint;

  /** `stream` keeps different uses of one seed apart. */
  constructor(seed: number, stream: number) {
    this.#state = BigInt.asUintN(64, BigInt(Math.trunc(seed))) ^ (BigInt(stream) << 56n);
  }

  /** The next 64 bits. */
  u64(): bigint {
    this.#state = BigInt.asUintN(64, this.#state + 0x9e3779b97f4a7c15n);
    let z = this.#state;
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    return z ^ (z >> 31n);
  }

  /** `n` bytes; `n` is a multiple of 8. */
  bytes(n: number): Uint8Array {
    const out = new Uint8Array(n);
    const view = new DataView(out.buffer);
    for (let i = 0; i < n; i += 8) view.setBigUint64(i, this.u64(), true);
    return out;
  }
}

/** Streams in use. */
export const STREAM = { kaslr: 1, rng: 2, oem0: 3, uuid: 4 } as const;
