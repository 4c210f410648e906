import { type FieldType, field, type Node, register, type Tree } from './inspect.ts';

/**
 * A device's registers: one table of name, offset, size, access and what reading and writing do. The bus region of the
 * device is `bank.read` / `bank.write`; the table is also what `inspect` and the trace name things by.
 */
export interface RegisterRow {
  /** Byte offset from the start of the device. */
  at: number;
  /** Bytes per register: accesses of other sizes inside it are cut out of (or merged into) the whole. Default 4. */
  size?: 1 | 2 | 4 | 8;
  /** Number of registers in an array at `at`, `size` bytes apart. Default 1. */
  count?: number;
  /** Value of register `index`; left out: write-only, reads as zero. */
  read?: (index: number) => number;
  /** New value of register `index`; left out: read-only, writes are ignored. */
  write?: (value: number, index: number) => void;
  /** What the bits mean, for people. */
  bits?: FieldType['bits'];
  /** Left out of what people see: reading it does something. */
  hidden?: true;
  /** 64-bit registers are read and written through these instead. */
  read64?: (index: number) => bigint;
  write64?: (value: bigint, index: number) => void;
}

export interface Bank {
  /** `size` is 1, 2, 4 or 8 bytes. Unknown offsets read as zero. */
  read(offset: number, size: number): bigint;
  write(offset: number, size: number, value: bigint): void;
  /** Register name at an offset, for traces: `NAME` or `NAME[3]`. */
  nameAt(offset: number): string;
  /** Registers by name, as the guest reads and writes them; but not those that are `hidden`. */
  inspect(): Tree;
}

export function bank(rows: Record<string, RegisterRow>): Bank {
  const list = Object.entries(rows)
    .map(([name, row]) => ({ name, row, size: row.size ?? 4, end: row.at + (row.size ?? 4) * (row.count ?? 1) }))
    .sort((a, b) => a.row.at - b.row.at);
  for (let i = 1; i < list.length; i++)
    if (list[i - 1].end > list[i].row.at) throw new Error(`registers ${list[i - 1].name} and ${list[i].name} overlap`);
  const find = (offset: number) => {
    let lo = 0;
    let hi = list.length - 1;
    while (lo <= hi) {
      const mid = (lo + hi) >> 1;
      if (offset < list[mid].row.at) hi = mid - 1;
      else if (offset >= list[mid].end) lo = mid + 1;
      else return list[mid];
    }
    return undefined;
  };
  const whole = (e: NonNullable<ReturnType<typeof find>>, index: number): bigint =>
    e.row.read64 ? e.row.read64(index) : e.row.read ? BigInt(e.row.read(index) >>> 0) : 0n;
  const node = (e: NonNullable<ReturnType<typeof find>>, index: number): Node => {
    const { write, write64 } = e.row;
    const set = write64
      ? (v: bigint) => write64(v, index)
      : write &&
        ((v: bigint): void => {
          write(Number(v), index);
        });
    return field({ ...register(e.size * 8), bits: e.row.bits }, () => whole(e, index), set);
  };
  return {
    inspect: () =>
      Object.fromEntries(
        list
          .filter(({ row }) => !row.hidden && (row.read || row.read64))
          .map((e) => [
            e.name,
            e.row.count === undefined ? node(e, 0) : Array.from({ length: e.row.count }, (_, index) => node(e, index)),
          ]),
      ),
    read(offset, size) {
      const e = find(offset);
      if (!e) return 0n;
      const index = Math.floor((offset - e.row.at) / e.size);
      const inner = offset - e.row.at - index * e.size;
      let v = whole(e, index) >> BigInt(inner * 8);
      for (let got = e.size - inner; got < size; got += e.size) {
        const next = find(offset + got);
        if (next) v |= whole(next, Math.floor((offset + got - next.row.at) / next.size)) << BigInt(got * 8);
        if (next && next.size !== e.size) break;
      }
      return BigInt.asUintN(size * 8, v);
    },
    write(offset, size, value) {
      for (let done = 0; done < size; ) {
        const e = find(offset + done);
        if (!e) {
          done += 1;
          continue;
        }
        const at = offset + done;
        const index = Math.floor((at - e.row.at) / e.size);
        const inner = at - e.row.at - index * e.size;
        const n = Math.min(e.size - inner, size - done);
        const part = BigInt.asUintN(n * 8, value >> BigInt(done * 8));
        const mask = ((1n << BigInt(n * 8)) - 1n) << BigInt(inner * 8);
        const v = n === e.size ? part : (whole(e, index) & ~mask) | (part << BigInt(inner * 8));
        if (e.row.write64) e.row.write64(v, index);
        else e.row.write?.(Number(v), index);
        done += n;
      }
    },
    nameAt(offset) {
      const e = find(offset);
      if (!e) return `+0x${offset.toString(16)}`;
      return (e.row.count ?? 1) > 1 ? `${e.name}[${Math.floor((offset - e.row.at) / e.size)}]` : e.name;
    },
  };
}
