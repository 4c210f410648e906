/** GPA descriptor lists: guest memory that a channel may use (reference hyperv-arm64.md §8.7). */
import type { Ram } from '../memory/ram.ts';
import { HV_PAGE } from '../hyperv/tlfs.ts';

export interface GpadlState {
  id: number;
  relid: number;
  /** Number of ranges, and qwords the ranges take in all: what the header announced. */
  rangeCount: number;
  expected: number;
  /** Qwords received so far; empty once the ranges are known. */
  received: bigint[];
  complete: boolean;
  ranges: GpaRange[];
}

export interface GpaRange {
  byteCount: number;
  byteOffset: number;
  /** 4 KiB page numbers, all of them RAM. */
  pfns: number[];
}

/** A GPADL as its header announces it. */
export const newGpadl = (id: number, relid: number, rangeCount: number, rangeBufferLength: number): GpadlState => ({
  id,
  relid,
  rangeCount,
  expected: Math.ceil(rangeBufferLength / 8),
  received: [],
  complete: false,
  ranges: [],
});

/** Takes more qwords of ranges; true when all are there. More than announced is padding. */
export function receive(gpadl: GpadlState, qwords: bigint[]): boolean {
  for (const q of qwords) if (gpadl.received.length < gpadl.expected) gpadl.received.push(q);
  return gpadl.received.length === gpadl.expected;
}

/** Understands the ranges once all are there. False: they make no sense or are not RAM; the guest gets a failure. */
export function finish(gpadl: GpadlState, ram: Ram): boolean {
  const ranges = readRanges(gpadl.received, gpadl.rangeCount, ram);
  if (!ranges) return false;
  gpadl.ranges = ranges;
  gpadl.received = [];
  gpadl.complete = true;
  return gpadl.rangeCount > 0;
}

/** `count` ranges out of qwords: byte count and offset, then page numbers. undefined: they make no sense or are not RAM. */
export function readRanges(words: readonly bigint[], count: number, ram: Ram): GpaRange[] | undefined {
  const pages = BigInt(ram.size / HV_PAGE);
  const ranges: GpaRange[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at >= words.length) return undefined;
    const byteCount = Number(words[at] & 0xffff_ffffn);
    const byteOffset = Number(words[at] >> 32n);
    at++;
    if (byteCount === 0 || byteOffset >= HV_PAGE) return undefined;
    const length = Math.ceil((byteOffset + byteCount) / HV_PAGE);
    if (at + length > words.length) return undefined;
    const pfns: number[] = [];
    for (let n = 0; n < length; n++) {
      if (words[at + n] >= pages) return undefined;
      pfns.push(Number(words[at + n]));
    }
    at += length;
    ranges.push({ byteCount, byteOffset, pfns });
  }
  return ranges;
}

/** The pages of a GPADL that can hold rings: one range of whole pages. undefined: this one cannot. */
export function ringPages(gpadl: GpadlState): number[] | undefined {
  if (!gpadl.complete || gpadl.ranges.length !== 1 || gpadl.ranges[0].byteOffset !== 0) return undefined;
  return gpadl.ranges[0].pfns;
}
