/** Values that a hostile guest likes: bounds, addresses and ids that mean something, and messages of which a few fields are others. */
import type { Reader } from './input.ts';
import { BUFFERS, BUFFER_GPADL, harmlessNumber, PAGE, RAM_SIZE, RING_GPADL, SYNIC_PAGES } from './guest.ts';

const KNOWN: readonly bigint[] = [
  BigInt(BUFFERS),
  BigInt(BUFFERS + PAGE - 8),
  BigInt(BUFFERS + 1),
  BigInt(BUFFERS / PAGE),
  BigInt(BUFFERS + 2 * PAGE) | 1n,
  BigInt(SYNIC_PAGES),
  BigInt(RAM_SIZE - 8),
  BigInt(RAM_SIZE - PAGE),
  BigInt(RAM_SIZE),
  BigInt(RAM_SIZE / PAGE - 1),
  BigInt(RAM_SIZE / PAGE),
  0xe000_0000n,
  0xeffe_c000n,
  0xffff_0000n,
  0x10_0000_0000n,
  0x1f_ffff_f000n,
  0x46000001n,
  0xffff_ffff_ffff_ffffn,
  0x8000_0000_0000_0000n,
  0x7fff_ffff_ffff_ffffn,
  0xffff_fffen,
  0xffff_ffffn,
  0x1_0000_0000n,
  0x8000_0000n,
  0x7fff_ffffn,
  (1n << 53n) - 1n,
  1n << 53n,
];

/** A value of so many bits. */
export function anyValue(r: Reader, bits = 64): bigint {
  const kind = r.u8();
  let v: bigint;
  if (kind < 64) v = BigInt(kind);
  else if (kind < 112) v = KNOWN[kind % KNOWN.length];
  else if (kind < 144) v = (1n << BigInt(r.u8() & 63)) - BigInt(kind & 1);
  else if (kind < 160) v = BigInt(RING_GPADL + r.u8());
  else if (kind < 168) v = BigInt(BUFFER_GPADL + r.u8());
  else if (kind < 192) v = BigInt(r.u16());
  else if (kind < 208) v = BigInt(BUFFERS + (r.u16() & 0xfff) * 8);
  else if (kind < 224) v = BigInt(r.u32());
  else if (kind < 240) v = BigInt(kind - 240);
  else v = r.u64();
  return harmlessNumber(BigInt.asUintN(bits, harmlessNumber(BigInt.asUintN(64, v))));
}
export const number32 = (r: Reader): number => Number(anyValue(r, 32));

export interface Layout {
  size: number;
  field: Record<string, { offset: number; size: number; field?: Layout['field'] }>;
}

/** Offsets and sizes of a layout's numbers, those of structs inside it too. */
export function fieldsOf({ field }: Pick<Layout, 'field'>, at = 0): [offset: number, size: number][] {
  return Object.values(field).flatMap((f) =>
    f.field ? fieldsOf({ field: f.field }, at + f.offset) : [[at + f.offset, f.size] as [number, number]],
  );
}

/** The message with some fields changed, then bytes, then its length: what the reader says, often nothing at all. */
export function changed(r: Reader, message: Uint8Array, fields: readonly [offset: number, size: number][] = []): Uint8Array {
  const out = message.slice();
  const how = r.u8();
  if (how < 128) return out;
  for (let n = how & 3; n > 0 && fields.length > 0; n--) {
    const [offset, size] = fields[r.below(fields.length)];
    let v = anyValue(r, 8 * Math.min(size, 8));
    for (let i = 0; i < Math.min(size, 8) && offset + i < out.length; i++) {
      out[offset + i] = Number(v & 0xffn);
      v >>= 8n;
    }
  }
  for (let n = (how >> 2) & 3; n > 0 && out.length > 0; n--) {
    const at = r.u16() % out.length;
    const wide = r.u8();
    let v = anyValue(r, 32);
    for (let i = 0; i < 1 << (wide & 3) && at + i < out.length; i++) {
      out[at + i] = Number(v & 0xffn);
      v >>= 8n;
    }
  }
  if ((how & 0xf0) === 0x90) return out.slice(0, r.u16() % (out.length + 1));
  if ((how & 0xf0) === 0xa0) return Uint8Array.from([...out, ...r.rest(64)]);
  return out;
}
