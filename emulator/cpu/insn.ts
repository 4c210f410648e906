/**
 * How an instruction is declared: `insn(name, pattern, semantics, options)`.
 *
 * The pattern is the encoding from bit 31 down, as the Arm ARM draws it: words of `0`, `1` and `x` (ignored) are fixed
 * bits, `imm:12` is a field of 12 bits, `sf` a field of one bit. A `!` (`sf!`, `cond!:4`) makes the field *static*: the
 * semantics get its value as a number and may branch on it, and each value has its own handler. Other fields are
 * operands: opaque to the semantics, handed to the builder, which reads registers or derives immediates from them.
 */
import type { Builder } from './builder.ts';
import type { Feature } from './features.ts';

type Split<S extends string> = S extends `${infer A} ${infer B}`
  ? A extends ''
    ? Split<B>
    : A | Split<B>
  : S extends ''
    ? never
    : S;
type IsBits<S extends string> = S extends '' ? true : S extends `${'0' | '1' | 'x'}${infer R}` ? IsBits<R> : false;
type StaticName<T extends string> = IsBits<T> extends true ? never : T extends `${infer N}!${string}` ? N : never;
type OperandName<T extends string> =
  IsBits<T> extends true ? never : T extends `${string}!${string}` ? never : T extends `${infer N}:${string}` ? N : T;
type Distribute<S extends string, K extends 's' | 'o'> =
  Split<S> extends infer T ? (T extends string ? (K extends 's' ? StaticName<T> : OperandName<T>) : never) : never;

/** An operand field: only the builder knows its value. */
export interface Operand {
  readonly operand: string;
}

/** What the semantics receive: numbers for static fields, `Operand` for the others. */
export type Fields<P extends string, Pick extends string = never> = { readonly [K in Distribute<P, 's'> | Pick]: number } & {
  readonly [K in Distribute<P, 'o'>]: Operand;
};

/** Raw values of all fields of one instruction word (static and operand), and of the row's `pick`s. */
export type Raw = Readonly<Record<string, number>>;

export interface InsnOptions<Pick extends string = string> {
  /** The architecture extension this needs; UNDEFINED on a CPU model without it. */
  feat?: Feature;
  /** False: this word is unallocated or reserved (UNDEFINED). */
  when?: (f: Raw) => boolean;
  /** Further static fields computed from the raw ones at decode time: [number of values, function]. */
  pick?: { readonly [K in Pick]: readonly [number, (f: Raw) => number] };
  /** Uses FP/SIMD registers: traps when CPACR_EL1.FPEN says so. */
  fp?: boolean;
  /**
   * Kept out of the interpreter's loop function (own wasm function, may call helpers). For everything a kernel boot does
   * not live on. A function decides per combination of static fields.
   */
  cold?: boolean | ((f: Raw) => boolean);
}

export interface FieldSpec {
  readonly name: string;
  readonly lsb: number;
  readonly width: number;
  readonly isStatic: boolean;
}

export interface Insn {
  readonly name: string;
  readonly pattern: string;
  /** A word matches when (word & mask) === value (both unsigned). */
  readonly mask: number;
  readonly value: number;
  readonly fields: readonly FieldSpec[];
  readonly semantics: (b: Builder, f: never) => void;
  readonly options: InsnOptions;
}

/** Parses a pattern. Throws when it does not describe 32 bits. */
export function parsePattern(pattern: string): { mask: number; value: number; fields: FieldSpec[] } {
  let at = 32;
  let mask = 0;
  let value = 0;
  const fields: FieldSpec[] = [];
  for (const token of pattern.split(/\s+/).filter(Boolean)) {
    if (/^[01x]+$/.test(token)) {
      for (const c of token) {
        at--;
        if (c === 'x') continue;
        mask |= 1 << at;
        if (c === '1') value |= 1 << at;
      }
      continue;
    }
    const m = /^([A-Za-z_][A-Za-z0-9_]*)(!?)(?::(\d+))?$/.exec(token);
    if (!m) throw new Error(`pattern "${pattern}": bad token "${token}"`);
    const width = m[3] ? Number(m[3]) : 1;
    at -= width;
    fields.push({ name: m[1], lsb: at, width, isStatic: m[2] === '!' });
  }
  if (at !== 0) throw new Error(`pattern "${pattern}" has ${32 - at} bits`);
  return { mask: mask >>> 0, value: value >>> 0, fields };
}

export function insn<const P extends string, const Pick extends string = never>(
  name: string,
  pattern: P,
  semantics: (b: Builder, f: Fields<P, Pick>) => void,
  options: InsnOptions<Pick> = {},
): Insn {
  return { name, pattern, ...parsePattern(pattern), semantics: semantics as Insn['semantics'], options: options as InsnOptions };
}

/** The raw fields of `word`, picks included. */
export function rawFields(row: Insn, word: number): Raw {
  const f: Record<string, number> = {};
  for (const s of row.fields) f[s.name] = s.width === 32 ? word >>> 0 : (word >>> s.lsb) & ((1 << s.width) - 1);
  const pick = row.options.pick;
  if (pick) for (const k of Object.keys(pick)) f[k] = pick[k][1](f);
  return f;
}
