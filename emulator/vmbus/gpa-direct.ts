/** Data that a packet points at: guest memory named by the ranges of a GPA direct packet (reference hyperv-arm64.md §8.9). */
import { viewOf } from '../base/struct.ts';
import { HV_PAGE } from '../hyperv/tlfs.ts';
import type { Ram } from '../memory/ram.ts';
import { type GpaRange, readRanges } from './gpadl.ts';

/** What stands before the ranges: a reserved dword and their number. */
const HEAD = 8;

/** The ranges of a GPA direct packet, all of them RAM. undefined: they make no sense. */
export function gpaDirectRanges(bytes: Uint8Array, ram: Ram): GpaRange[] | undefined {
  if (bytes.length < HEAD) return undefined;
  const view = viewOf(bytes);
  const words: bigint[] = [];
  for (let at = HEAD; at + 8 <= bytes.length; at += 8) words.push(view.getBigUint64(at, true));
  return readRanges(words, view.getUint32(4, true), ram);
}

/** Bytes that the ranges name. */
export const rangesLength = (ranges: readonly GpaRange[]): number => ranges.reduce((n, r) => n + r.byteCount, 0);

/** The ranges as far as their first `length` bytes reach: a guest may name more memory than it moves. */
export function trimmed(ranges: readonly GpaRange[], length: number): GpaRange[] {
  const out: GpaRange[] = [];
  let left = length;
  for (const { byteCount, byteOffset, pfns } of ranges) {
    if (left <= 0) break;
    const bytes = Math.min(byteCount, left);
    out.push({ byteCount: bytes, byteOffset, pfns: pfns.slice(0, Math.ceil((byteOffset + bytes) / HV_PAGE)) });
    left -= bytes;
  }
  return out;
}

/** Copies the first `length` bytes that the ranges name. */
export function gather(ram: Ram, ranges: readonly GpaRange[], length: number): Uint8Array {
  const out = new Uint8Array(length);
  pieces(ranges, length, (gpa, at, n) => out.set(ram.bytes.subarray(gpa, gpa + n), at));
  return out;
}

/** Writes `data` to the memory that the ranges name; it must fit. */
export function scatter(ram: Ram, ranges: readonly GpaRange[], data: Uint8Array): void {
  pieces(ranges, data.length, (gpa, at, n) => ram.write(gpa, data.subarray(at, at + n)));
}

/** Cuts the first `length` bytes of the ranges at page ends. */
function pieces(ranges: readonly GpaRange[], length: number, piece: (gpa: number, at: number, n: number) => void): void {
  let at = 0;
  for (const { byteCount, byteOffset, pfns } of ranges)
    for (let done = 0; done < byteCount && at < length; ) {
      const offset = byteOffset + done;
      const n = Math.min(byteCount - done, length - at, HV_PAGE - (offset % HV_PAGE));
      piece(pfns[Math.floor(offset / HV_PAGE)] * HV_PAGE + (offset % HV_PAGE), at, n);
      done += n;
      at += n;
    }
}
