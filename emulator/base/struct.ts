/**
 * Binary layouts. `struct('Name', { a: u32, b: u64 })` gives `.size`, `.get(view, at)`, `.set(view, at, value)` and
 * `.field.a.offset`. All layouts are little-endian and packed in the order written: padding is spelled out, so that a
 * layout can be read against its specification.
 */

/** How one field is stored. `size` in bytes. */
export interface FieldType<T> {
  readonly size: number;
  get(view: DataView, at: number): T;
  set(view: DataView, at: number, value: T): void;
  /** The value of a field that `make` was not given. */
  zero(): T;
}

const scalar = <T>(
  size: number,
  zero: T,
  get: (v: DataView, at: number) => T,
  set: (v: DataView, at: number, x: T) => void,
): FieldType<T> => ({
  size,
  get,
  set,
  zero: () => zero,
});

export const u8 = scalar<number>(
  1,
  0,
  (v, at) => v.getUint8(at),
  (v, at, x) => v.setUint8(at, x),
);
export const i8 = scalar<number>(
  1,
  0,
  (v, at) => v.getInt8(at),
  (v, at, x) => v.setInt8(at, x),
);
export const u16 = scalar<number>(
  2,
  0,
  (v, at) => v.getUint16(at, true),
  (v, at, x) => v.setUint16(at, x, true),
);
export const i16 = scalar<number>(
  2,
  0,
  (v, at) => v.getInt16(at, true),
  (v, at, x) => v.setInt16(at, x, true),
);
export const u32 = scalar<number>(
  4,
  0,
  (v, at) => v.getUint32(at, true),
  (v, at, x) => v.setUint32(at, x, true),
);
export const i32 = scalar<number>(
  4,
  0,
  (v, at) => v.getInt32(at, true),
  (v, at, x) => v.setInt32(at, x, true),
);
export const u64 = scalar<bigint>(
  8,
  0n,
  (v, at) => v.getBigUint64(at, true),
  (v, at, x) => v.setBigUint64(at, x, true),
);
export const i64 = scalar<bigint>(
  8,
  0n,
  (v, at) => v.getBigInt64(at, true),
  (v, at, x) => v.setBigInt64(at, x, true),
);

/** A 128-bit number, low quadword first. */
export const u128 = scalar<bigint>(
  16,
  0n,
  (v, at) => v.getBigUint64(at, true) | (v.getBigUint64(at + 8, true) << 64n),
  (v, at, x) => {
    v.setBigUint64(at, BigInt.asUintN(64, x), true);
    v.setBigUint64(at + 8, BigInt.asUintN(64, x >> 64n), true);
  },
);

/** `n` raw bytes; `set` accepts fewer (the rest becomes zero) and throws on more. */
export const bytes = (n: number): FieldType<Uint8Array> => ({
  size: n,
  get: (v, at) => new Uint8Array(v.buffer, v.byteOffset + at, n).slice(),
  set: (v, at, x) => {
    if (x.length > n) throw new Error(`bytes(${n}): ${x.length} given`);
    const out = new Uint8Array(v.buffer, v.byteOffset + at, n);
    out.fill(0);
    out.set(x);
  },
  zero: () => new Uint8Array(n),
});

/** `n` bytes of ASCII; padded with `pad` when written (default NUL), NULs at the end dropped when read. */
export const ascii = (n: number, pad = 0): FieldType<string> => ({
  size: n,
  get: (v, at) => {
    let s = '';
    for (let i = 0; i < n; i++) s += String.fromCharCode(v.getUint8(at + i));
    return s.replace(/\0+$/, '');
  },
  set: (v, at, x) => {
    if (x.length > n) throw new Error(`ascii(${n}): "${x}"`);
    for (let i = 0; i < n; i++) v.setUint8(at + i, i < x.length ? x.charCodeAt(i) : pad);
  },
  zero: () => '',
});

/** `n` elements of one type. */
export const array = <T>(n: number, type: FieldType<T>): FieldType<T[]> => ({
  size: n * type.size,
  get: (v, at) => Array.from({ length: n }, (_, i) => type.get(v, at + i * type.size)),
  set: (v, at, x) => {
    if (x.length !== n) throw new Error(`array(${n}): ${x.length} given`);
    x.forEach((e, i) => {
      type.set(v, at + i * type.size, e);
    });
  },
  zero: () => Array.from({ length: n }, () => type.zero()),
});

type Fields = Record<string, FieldType<unknown>>;
type ValueOf<F> = F extends FieldType<infer T> ? T : never;
/** The plain object a struct reads and writes. */
export type StructValue<F extends Fields> = { [K in keyof F]: ValueOf<F[K]> };

export interface Struct<F extends Fields> extends FieldType<StructValue<F>> {
  readonly name: string;
  readonly field: { readonly [K in keyof F]: F[K] & { readonly offset: number } };
  /** A fresh byte array holding `value`; fields left out are zero. */
  make(value: Partial<StructValue<F>>): Uint8Array;
}

/** The type of the values of a struct: `type OpenChannel = Value<typeof OpenChannel>`. */
export type Value<S> = S extends FieldType<infer T> ? T : never;

/** Declares a packed little-endian layout. A `size` in `options` asserts the size the specification gives. */
// biome-ignore lint/suspicious/noExplicitAny: FieldType is invariant in T; the constraint must accept every T
export function struct<F extends Record<string, FieldType<any>>>(
  name: string,
  fields: F,
  options: { size?: number } = {},
): Struct<F> {
  let offset = 0;
  const field: Record<string, FieldType<unknown> & { offset: number }> = {};
  for (const [key, type] of Object.entries(fields)) {
    field[key] = { ...type, offset };
    offset += type.size;
  }
  const size = offset;
  if (options.size !== undefined && options.size !== size)
    throw new Error(`struct ${name} is ${size} bytes, expected ${options.size}`);
  const names = Object.keys(field);
  const s: Struct<F> = {
    name,
    size,
    field: field as Struct<F>['field'],
    get(view, at) {
      const out: Record<string, unknown> = {};
      for (const key of names) out[key] = field[key].get(view, at + field[key].offset);
      return out as StructValue<F>;
    },
    set(view, at, value) {
      for (const key of names) field[key].set(view, at + field[key].offset, value[key as keyof F]);
    },
    zero() {
      const out: Record<string, unknown> = {};
      for (const key of names) out[key] = field[key].zero();
      return out as StructValue<F>;
    },
    make(value) {
      const out = new Uint8Array(size);
      s.set(new DataView(out.buffer), 0, { ...s.zero(), ...value });
      return out;
    },
  };
  return s;
}

/** A DataView over exactly the bytes of `b`. */
export const viewOf = (b: Uint8Array): DataView => new DataView(b.buffer, b.byteOffset, b.byteLength);
