/**
 * Inputs of the fuzzers: byte strings, and what is read out of them. An input of records is a header byte and then records of a
 * kind, a length and so many bytes: what changes in one record leaves the others as they were, and whatever the bytes are, they
 * mean something.
 */

/** A generator of numbers (xorshift32): the same seed, the same numbers. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (Math.imul(seed, 0x9e37_79b9) ^ 0x5bd1_e995) | 1;
  }
  /** 32 bits. */
  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }
  below(n: number): number {
    return this.next() % n;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }
  bytes(n: number): Uint8Array {
    return Uint8Array.from({ length: n }, () => this.below(256));
  }
}

export interface Action {
  kind: number;
  args: Uint8Array;
}

/** The header and the records of an input; the last record may be cut off. */
export function actionsOf(input: Uint8Array): { header: number; actions: Action[] } {
  const actions: Action[] = [];
  for (let at = 1; at < input.length; ) {
    const kind = input[at];
    const length = input[at + 1] ?? 0;
    actions.push({ kind, args: input.slice(at + 2, at + 2 + length) });
    at += 2 + length;
  }
  return { header: input[0] ?? 0, actions };
}

export function inputOf(header: number, actions: readonly Action[]): Uint8Array {
  const out: number[] = [header];
  for (const { kind, args } of actions) out.push(kind, Math.min(args.length, 255), ...args.subarray(0, 255));
  return Uint8Array.from(out);
}

/** Reads numbers out of bytes; zeros when there are none left. */
export class Reader {
  readonly bytes: Uint8Array;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
  get left(): number {
    return Math.max(0, this.bytes.length - this.at);
  }
  u8(): number {
    return this.bytes[this.at++] ?? 0;
  }
  u16(): number {
    return this.u8() | (this.u8() << 8);
  }
  u32(): number {
    return (this.u16() | (this.u16() << 16)) >>> 0;
  }
  u64(): bigint {
    return BigInt(this.u32()) | (BigInt(this.u32()) << 32n);
  }
  below(n: number): number {
    return (n <= 256 ? this.u8() : this.u16()) % n;
  }
  flag(): boolean {
    return (this.u8() & 1) !== 0;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }
  /** What is left, at most `n` bytes. */
  rest(n = 255): Uint8Array {
    const out = this.bytes.subarray(this.at, this.at + n);
    this.at += out.length;
    return out;
  }
}
