/** MODE SENSE: headers, block descriptor and pages (SPC-4 6.11, 7.5; SBC-3 6.5; MMC-6 annex E for the DVD's). */
import { viewOf } from '../../../base/struct.ts';
import { SENSE, type Sense } from './sense.ts';
import type { Unit } from './unit.ts';

const ALL_PAGES = 0x3f;
const ALL_SUBPAGES = 0xff;
/** Page control field: current, changeable, default and saved values. */
const CHANGEABLE = 1;
const SAVED = 3;
/** Device-specific parameter of disks (SBC-3 6.5.1). */
const WRITE_PROTECTED = 0x80;
const DPO_AND_FUA = 0x10;

interface ModePage {
  code: number;
  on: 'disk' | 'dvd' | 'both';
  /** What comes after page code and length. */
  body(unit: Unit): number[];
}
const zeros = (n: number): number[] => new Array<number>(n).fill(0);

/** Nothing of them can be changed. */
const PAGES: readonly ModePage[] = [
  // Read-write error recovery.
  { code: 0x01, on: 'both', body: () => zeros(10) },
  // Caching: what is written reaches the medium with SYNCHRONIZE CACHE.
  { code: 0x08, on: 'disk', body: ({ writable }) => [writable ? 4 : 0, ...zeros(17)] },
  // Control: unrestricted reordering.
  { code: 0x0a, on: 'both', body: () => [0, 0x10, ...zeros(8)] },
  // MM capabilities and mechanical status: reads CD-R, CD-RW and DVD-ROM; a tray that can be locked and ejected.
  { code: 0x2a, on: 'dvd', body: ({ state }) => [0x0b, 0, 0, 0, 0x29 | (state.locked ? 2 : 0), ...zeros(13)] },
];

/** What MODE SENSE(6) or (10) returns. `ten`: which. */
export function modeSense(unit: Unit, cdb: DataView, ten: boolean): Uint8Array | Sense {
  const { dvd } = unit.state;
  const code = cdb.getUint8(2) & 0x3f;
  const control = cdb.getUint8(2) >> 6;
  const subpage = cdb.getUint8(3);
  if (control === SAVED) return SENSE.savingNotSupported;
  if (subpage !== 0 && !(code === ALL_PAGES && subpage === ALL_SUBPAGES)) return SENSE.invalidField;
  const kind = dvd ? 'dvd' : 'disk';
  const pages = PAGES.filter((p) => (p.on === 'both' || p.on === kind) && (code === ALL_PAGES || code === p.code));
  if (pages.length === 0) return SENSE.invalidField;
  const noDescriptor = (cdb.getUint8(1) & 8) !== 0 || dvd;
  const descriptor = noDescriptor ? [] : blockDescriptor(unit);
  const body = pages.flatMap((p) => {
    const values = p.body(unit);
    return [p.code, values.length, ...(control === CHANGEABLE ? values.map(() => 0) : values)];
  });
  const specific = dvd ? 0 : DPO_AND_FUA | (unit.writable ? 0 : WRITE_PROTECTED);
  const header = ten ? [0, 0, 0, specific, 0, 0, 0, descriptor.length] : [0, 0, specific, descriptor.length];
  const out = Uint8Array.from([...header, ...descriptor, ...body]);
  if (ten) viewOf(out).setUint16(0, out.length - 2);
  else out[0] = out.length - 1;
  return out;
}

/** Short LBA mode parameter block descriptor (SBC-3 6.5.2.2). */
function blockDescriptor({ blocks, blockSize }: Unit): number[] {
  const out = new Uint8Array(8);
  const view = viewOf(out);
  view.setUint32(0, Math.min(blocks, 0xffff_ffff));
  view.setUint32(4, blockSize);
  return [...out];
}
