/** Receive and send buffer: guest memory that a GPADL names, and that both ends cut into sections of one size. */
import { HV_PAGE } from '../../../hyperv/tlfs.ts';
import type { Ram } from '../../../memory/ram.ts';
import type { GpaRange } from '../../gpadl.ts';

/** The only range of a GPADL. undefined: it has none, or several. */
export const bufferOf = (ranges: readonly GpaRange[] | undefined): GpaRange | undefined =>
  ranges?.length === 1 ? ranges[0] : undefined;

/** Calls `piece` for each stretch of [offset, offset + length), which lies inside the buffer, that is contiguous in RAM. */
function pieces(buffer: GpaRange, offset: number, length: number, piece: (gpa: number, at: number, n: number) => void): void {
  for (let at = 0; at < length; ) {
    const where = buffer.byteOffset + offset + at;
    const n = Math.min(length - at, HV_PAGE - (where % HV_PAGE));
    piece(buffer.pfns[Math.floor(where / HV_PAGE)] * HV_PAGE + (where % HV_PAGE), at, n);
    at += n;
  }
}

/** Copies [offset, offset + length) into `out` from `to` on. */
export const readBuffer = (ram: Ram, buffer: GpaRange, offset: number, length: number, out: Uint8Array, to: number): void =>
  pieces(buffer, offset, length, (gpa, at, n) => out.set(ram.bytes.subarray(gpa, gpa + n), to + at));

export const writeBuffer = (ram: Ram, buffer: GpaRange, offset: number, data: Uint8Array): void =>
  pieces(buffer, offset, data.length, (gpa, at, n) => ram.write(gpa, data.subarray(at, at + n)));
