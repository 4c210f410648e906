/**
 * From an instruction word to its row. Rows may overlap only where one is a special case of the other (its fixed bits are
 * a strict superset); the special case is asked first. Anything else throws when the decoder is built.
 */
import type { Feature } from './features.ts';
import { type Insn, type Raw, rawFields } from './insn.ts';

export interface Decoded {
  readonly row: Insn;
  readonly raw: Raw;
}

/** The first level is indexed by bits 31:21, the second (where a bucket is crowded) by bits 15:10. */
const FIRST = { lsb: 21, count: 1 << 11 };
const SECOND = { lsb: 10, count: 1 << 6 };
const CROWDED = 4;

type Bucket = readonly Insn[] | readonly (readonly Insn[])[];

const bitCount = (v: number): number => {
  let n = 0;
  for (v >>>= 0; v; v = (v & (v - 1)) >>> 0) n++;
  return n;
};

/** Rows of `rows` that some word with bits `index` at `lsb` may match, per index. */
function spread(rows: readonly Insn[], { lsb, count }: { lsb: number; count: number }): Insn[][] {
  const out: Insn[][] = Array.from({ length: count }, () => []);
  for (const row of rows) {
    const mask = (row.mask >>> lsb) & (count - 1);
    const value = (row.value >>> lsb) & (count - 1);
    for (let i = 0; i < count; i++) if ((i & mask) === value) out[i].push(row);
  }
  return out;
}

export class Decoder {
  readonly #features: ReadonlySet<Feature>;
  readonly #table: Bucket[];

  constructor(rows: readonly Insn[], features: ReadonlySet<Feature>) {
    this.#features = features;
    const ordered = [...rows].sort((a, b) => bitCount(b.mask) - bitCount(a.mask));
    const buckets = spread(ordered, FIRST);
    for (const bucket of buckets) checkOverlaps(bucket);
    this.#table = buckets.map((bucket) => (bucket.length > CROWDED ? spread(bucket, SECOND) : bucket));
  }

  /** The row of `word` and its fields; undefined: UNDEFINED on this CPU. */
  decode(word: number): Decoded | undefined {
    word >>>= 0;
    let bucket = this.#table[word >>> FIRST.lsb];
    if (Array.isArray(bucket[0])) bucket = (bucket as readonly (readonly Insn[])[])[(word >>> SECOND.lsb) & (SECOND.count - 1)];
    for (const row of bucket as readonly Insn[]) {
      if ((word & row.mask) >>> 0 !== row.value) continue;
      const { feat, when } = row.options;
      if (feat && !this.#features.has(feat)) continue;
      const raw = rawFields(row, word);
      if (when && !when(raw)) continue;
      return { row, raw };
    }
    return undefined;
  }
}

function checkOverlaps(rows: readonly Insn[]): void {
  for (let i = 0; i < rows.length; i++)
    for (let j = i + 1; j < rows.length; j++) {
      const [a, b] = [rows[i], rows[j]];
      if ((a.value ^ b.value) & a.mask & b.mask) continue;
      if ((b.mask & ~a.mask) === 0 && a.mask !== b.mask) continue;
      throw new Error(`${a.name} and ${b.name} overlap: neither is a special case of the other`);
    }
}
