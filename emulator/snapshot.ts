/**
 * Snapshots and hashes, generic over plain state: a part hands over its `state` object and nobody writes save and restore
 * by hand. RAM is kept by page; a page that did not change since the last snapshot is shared with it.
 */
import { isFrozen } from './base/frozen.ts';
import { DIRTY, isZeroPage, PAGE, type Ram, TOUCHED } from './memory/ram.ts';

/** Numbers, bigints, strings, booleans, typed arrays, arrays and plain objects of these. */
export type Plain = unknown;

type Typed = Uint8Array | Uint16Array | Uint32Array | Int32Array | BigUint64Array | Float64Array;
const isTyped = (v: unknown): v is Typed => ArrayBuffer.isView(v) && !(v instanceof DataView);
const isObject = (v: unknown): v is Record<string, unknown> =>
  typeof v === 'object' && v !== null && (Object.getPrototypeOf(v) === Object.prototype || Object.getPrototypeOf(v) === null);

/** A deep copy of plain state. Throws, with the path, on anything that is not plain: a part broke the rule. */
export function capture(v: Plain, path = 'state'): Plain {
  if (
    v === null ||
    v === undefined ||
    typeof v === 'number' ||
    typeof v === 'bigint' ||
    typeof v === 'string' ||
    typeof v === 'boolean'
  )
    return v;
  if (isTyped(v)) return isFrozen(v) ? v : v.slice();
  if (Array.isArray(v)) return v.map((e, i) => capture(e, `${path}[${i}]`));
  if (isObject(v)) return Object.fromEntries(Object.entries(v).map(([k, e]) => [k, capture(e, `${path}.${k}`)]));
  throw new Error(`${path} is not plain state: ${Object.prototype.toString.call(v)}`);
}

/** Writes captured state back into the live object, keeping the identity of objects and typed arrays that parts hold on to. */
export function assign(target: Record<string, unknown> | unknown[], source: Record<string, unknown> | unknown[]): void {
  const put = (key: string | number, now: unknown, value: unknown, store: (v: unknown) => void): void => {
    const writable = isTyped(value) && !isFrozen(value) && isTyped(now) && !isFrozen(now);
    if (writable && now.length === value.length && now.constructor === value.constructor)
      (now as Uint8Array).set(value as Uint8Array);
    else if (Array.isArray(value) && Array.isArray(now)) assign(now, value);
    else if (isObject(value) && isObject(now)) assign(now, value);
    else store(capture(value, String(key)));
  };
  if (Array.isArray(target)) {
    const from = source as unknown[];
    target.length = from.length;
    for (let i = 0; i < from.length; i++)
      put(i, target[i], from[i], (v) => {
        target[i] = v;
      });
    return;
  }
  const from = source as Record<string, unknown>;
  for (const key of Object.keys(target)) if (!(key in from)) delete target[key];
  for (const key of Object.keys(from))
    put(key, target[key], from[key], (v) => {
      target[key] = v;
    });
}

const digests = new WeakMap<Typed, string>();

/** The digest of a frozen array, taken once. */
function digestOfFrozen(v: Typed): string {
  const digest = digests.get(v) ?? Hash.of(v);
  digests.set(v, digest);
  return digest;
}

/** 64 bits of hash as two 32-bit lanes (multiply and rotate; not cryptographic). */
export class Hash {
  #a = 0x9e3779b9;
  #b = 0x85ebca6b;

  word(w: number): void {
    this.words([w]);
  }
  words(words: ArrayLike<number>): void {
    let [a, b] = [this.#a, this.#b];
    for (let i = 0; i < words.length; i++) {
      const w = words[i];
      a = Math.imul(a ^ w, 0xcc9e2d51);
      a = (Math.imul((a << 15) | (a >>> 17), 0x1b873593) + b) | 0;
      b = Math.imul(b ^ w, 0x38b34ae5);
      b = Math.imul((b << 13) | (b >>> 19), 0xa1e38b93) ^ a;
    }
    this.#a = a;
    this.#b = b;
  }
  text(s: string): void {
    this.word(s.length);
    for (let i = 0; i < s.length; i++) this.word(s.charCodeAt(i));
  }
  /** Plain state, in key order, so that the order of insertion does not matter. */
  plain(v: Plain): void {
    if (isTyped(v)) {
      this.text('[');
      this.word(v.byteLength);
      if (isFrozen(v)) {
        this.text(digestOfFrozen(v));
        return;
      }
      this.#bytes(v);
    } else if (Array.isArray(v)) {
      this.text('(');
      this.word(v.length);
      for (const e of v) this.plain(e);
    } else if (isObject(v)) {
      this.text('{');
      for (const k of Object.keys(v).sort()) {
        if (v[k] === undefined) continue;
        this.text(k);
        this.plain(v[k]);
      }
      this.text('}');
    } else this.text(`${typeof v}:${String(v)}`);
  }
  #bytes(v: Typed): void {
    const b = new Uint8Array(v.buffer, v.byteOffset, v.byteLength);
    this.words(b);
  }
  /** The digest of a typed array alone. */
  static of(v: Typed): string {
    const hash = new Hash();
    hash.#bytes(v);
    return hash.digest();
  }
  /** 16 hex digits. */
  digest(): string {
    const mix = (h: number): number => {
      h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
      h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
      return (h ^ (h >>> 16)) >>> 0;
    };
    return (
      mix(this.#a).toString(16).padStart(8, '0') +
      mix(this.#b ^ Math.imul(this.#a, 3))
        .toString(16)
        .padStart(8, '0')
    );
  }
}

/** Feeds all of RAM that is not zero: page numbers and contents. A page written back to zeros hashes like one never written. */
export function hashRam(hash: Hash, ram: Ram): void {
  const words = new Int32Array(ram.bytes.buffer, ram.bytes.byteOffset, ram.bytes.length >>> 2);
  const per = PAGE >>> 2;
  for (let page = 0; page < ram.flags.length; page++) {
    if (!(ram.flags[page] & (DIRTY | TOUCHED))) continue;
    if (isZeroPage(words, page)) continue;
    hash.word(page);
    hash.words(words.subarray(page * per, (page + 1) * per));
  }
}

export interface RamSnapshot {
  /** Contents by page number; absent: zeros. */
  readonly pages: readonly (Uint8Array | undefined)[];
}

/** Takes and restores copies of RAM. Holds the pages that RAM equals where it is not dirty. */
export class RamHistory {
  readonly #ram: Ram;
  #base: (Uint8Array | undefined)[];

  constructor(ram: Ram) {
    this.#ram = ram;
    this.#base = new Array(ram.flags.length).fill(undefined);
  }

  take(): RamSnapshot {
    const base = this.#base.slice();
    const { bytes } = this.#ram;
    const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
    // Zero: given back by the guest, or not used yet.
    for (const page of this.#ram.dirtyPages())
      base[page] = isZeroPage(words, page) ? undefined : bytes.slice(page * PAGE, (page + 1) * PAGE);
    this.#base = base;
    this.#ram.clean();
    return { pages: base };
  }

  restore(s: RamSnapshot): void {
    const { bytes, flags } = this.#ram;
    for (let page = 0; page < flags.length; page++) {
      const want = s.pages[page];
      if (!(flags[page] & DIRTY) && this.#base[page] === want) continue;
      this.#ram.touch(page * PAGE, PAGE);
      if (want) bytes.set(want, page * PAGE);
      else bytes.fill(0, page * PAGE, (page + 1) * PAGE);
    }
    this.#base = s.pages.slice();
    this.#ram.clean();
  }
}
