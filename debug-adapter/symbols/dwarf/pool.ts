/** Growing tables that an index is built in: numbers, and strings that are kept once. */
import { hashName } from './index-data.ts';
import { DwarfError } from './reader.ts';

/** Bytes of all strings of a pool, and strings of one hash: far above what files have, a bound for those that are made to hurt. */
const MAX_BYTES = 1 << 28;
const MAX_PROBES = 1 << 12;

type Numbers = Uint8Array | Uint16Array | Uint32Array | Float64Array;

/** A typed array that grows. */
export class Column<T extends Numbers> {
  data: T;
  length = 0;
  readonly #make: (length: number) => T;

  constructor(make: (length: number) => T, capacity = 1024) {
    this.#make = make;
    this.data = make(capacity);
  }

  push(value: number): void {
    if (this.length === this.data.length) this.#grow(this.length + 1);
    this.data[this.length++] = value;
  }

  pushBytes(bytes: Uint8Array, from: number, to: number): void {
    if (this.length + to - from > this.data.length) this.#grow(this.length + to - from);
    this.data.set(bytes.subarray(from, to), this.length);
    this.length += to - from;
  }

  #grow(wanted: number): void {
    const next = this.#make(Math.max(wanted, this.data.length * 2));
    next.set(this.data);
    this.data = next;
  }

  done(): T {
    return this.data.slice(0, this.length) as T;
  }
}

/** Strings numbered in the order they came first. */
export class StringPool {
  readonly bytes = new Column((n) => new Uint8Array(n), 1 << 16);
  readonly starts = new Column((n) => new Uint32Array(n), 1 << 12);
  readonly #hashes = new Column((n) => new Uint32Array(n), 1 << 12);
  slots = new Uint32Array(1 << 13);

  get size(): number {
    return this.starts.length;
  }

  /** The number of the string in bytes [from, to). */
  intern(bytes: Uint8Array, from: number, to: number): number {
    const hash = hashName(bytes, from, to);
    const mask = this.slots.length - 1;
    const length = to - from;
    let slot = hash & mask;
    for (let probes = 0; ; probes++) {
      if (probes > MAX_PROBES) throw new DwarfError('names that are made to collide');
      const id = this.slots[slot] - 1;
      if (id < 0) break;
      if (this.#hashes.data[id] === hash) {
        const have = this.bytes.data;
        const start = this.starts.data[id];
        if (have[start + length] === 0) {
          let i = 0;
          while (i < length && have[start + i] === bytes[from + i]) i++;
          if (i === length) return id;
        }
      }
      slot = (slot + 1) & mask;
    }
    if (this.bytes.length + length > MAX_BYTES) throw new DwarfError(`more than ${MAX_BYTES} bytes of names`);
    const id = this.starts.length;
    this.starts.push(this.bytes.length);
    this.#hashes.push(hash);
    this.bytes.pushBytes(bytes, from, to);
    this.bytes.push(0);
    this.slots[slot] = id + 1;
    if (this.starts.length * 2 > this.slots.length) this.#rehash();
    return id;
  }

  internText(text: string): number {
    const bytes = new Uint8Array(Buffer.from(text, 'utf8'));
    // A NUL would end the string early.
    const nul = bytes.indexOf(0);
    return this.intern(bytes, 0, nul < 0 ? bytes.length : nul);
  }

  #rehash(): void {
    const slots = new Uint32Array(this.slots.length * 2);
    const mask = slots.length - 1;
    for (let id = 0; id < this.starts.length; id++) {
      let slot = this.#hashes.data[id] & mask;
      while (slots[slot]) slot = (slot + 1) & mask;
      slots[slot] = id + 1;
    }
    this.slots = slots;
  }
}

/** Pairs of numbers below 2^32, numbered in the order they came first. */
export class PairPool {
  readonly #first = new Column((n) => new Uint32Array(n), 1 << 12);
  readonly #second = new Column((n) => new Uint32Array(n), 1 << 12);
  #slots = new Uint32Array(1 << 13);

  get size(): number {
    return this.#first.length;
  }

  intern(a: number, b: number): number {
    const mask = this.#slots.length - 1;
    let slot = this.#hash(a, b) & mask;
    for (;;) {
      const id = this.#slots[slot] - 1;
      if (id < 0) break;
      if (this.#first.data[id] === a && this.#second.data[id] === b) return id;
      slot = (slot + 1) & mask;
    }
    const id = this.#first.length;
    this.#first.push(a);
    this.#second.push(b);
    this.#slots[slot] = id + 1;
    if (this.#first.length * 2 > this.#slots.length) {
      const slots = new Uint32Array(this.#slots.length * 2);
      for (let i = 0; i < this.#first.length; i++) {
        let s = this.#hash(this.#first.data[i], this.#second.data[i]) & (slots.length - 1);
        while (slots[s]) s = (s + 1) & (slots.length - 1);
        slots[s] = i + 1;
      }
      this.#slots = slots;
    }
    return id;
  }

  #hash(a: number, b: number): number {
    const h = Math.imul(a ^ Math.imul(b, 0x9e3779b1), 0x85ebca6b);
    return h ^ (h >>> 15);
  }
}
