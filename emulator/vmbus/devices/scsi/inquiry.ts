/** INQUIRY: what a unit says about itself (SPC-4 6.4.2, 7.8; SBC-3 6.6), in Hyper-V's words (reference hyperv-arm64.md §9.1). */
import { viewOf } from '../../../base/struct.ts';
import { BLOCK } from './medium.ts';
import type { Unit } from './unit.ts';

/** Peripheral qualifier and device type of a unit that is not there (SPC-4 table 141). */
export const NO_UNIT = 0x7f;
const TYPE_DISK = 0x00;
const TYPE_DVD = 0x05;
const REMOVABLE = 0x80;
/** SPC-3 (SPC-4 table 142), and response data format 2. */
const VERSION_SPC3 = 5;
const RESPONSE_FORMAT = 2;
const COMMAND_QUEUEING = 2;
/** SAM-3, SPC-3, and SBC-2 or MMC-5 (SPC-4 annex D.9). */
const VERSIONS_DISK = [0x0060, 0x0300, 0x0320];
const VERSIONS_DVD = [0x0060, 0x0300, 0x0430];
/** The OUI of Microsoft's NAA identifiers (reference §9.1). */
const NAA_6_MICROSOFT = [0x60, 0x02, 0x24, 0x80];

/** Blocks that UNMAP and WRITE SAME take at once: what one command may cost is bounded. */
export const MAX_UNMAP_BYTES = 128 << 20;
export const MAX_UNMAP_DESCRIPTORS = 256;
/** Bytes that a command moves at most; the controller's channel properties say the same. */
export const MAX_TRANSFER = 256 << 10;

const put = (out: Uint8Array, at: number, text: string, length: number): void => {
  for (let i = 0; i < length; i++) out[at + i] = i < text.length ? text.charCodeAt(i) : 0x20;
};

/** Standard INQUIRY data; undefined: of a unit that is not there. */
export function standardInquiry(unit: Unit | undefined): Uint8Array {
  const out = new Uint8Array(96);
  const dvd = unit?.state.dvd ?? false;
  out[0] = unit ? (dvd ? TYPE_DVD : TYPE_DISK) : NO_UNIT;
  out[1] = dvd ? REMOVABLE : 0;
  out[2] = VERSION_SPC3;
  out[3] = RESPONSE_FORMAT;
  out[4] = out.length - 5;
  out[7] = COMMAND_QUEUEING;
  put(out, 8, 'Msft', 8);
  put(out, 16, dvd ? 'Virtual DVD-ROM' : 'Virtual Disk', 16);
  put(out, 32, '1.0', 4);
  (dvd ? VERSIONS_DVD : VERSIONS_DISK).forEach((v, i) => {
    viewOf(out).setUint16(58 + 2 * i, v);
  });
  return out;
}

interface VpdPage {
  code: number;
  diskOnly?: boolean;
  /** What comes after the 4-byte header. */
  body(unit: Unit): Uint8Array;
}

/** Vital product data. */
const VPD: readonly VpdPage[] = [
  // Supported pages (SPC-4 7.8.13).
  { code: 0x00, body: (unit) => Uint8Array.from(pagesOf(unit), (p) => p.code) },
  // Unit serial number (SPC-4 7.8.15).
  {
    code: 0x80,
    body: (unit) => {
      const hex = [...unit.id].map((b) => b.toString(16).padStart(2, '0')).join('');
      return Uint8Array.from(hex, (c) => c.charCodeAt(0));
    },
  },
  // Device identification: T10 vendor and NAA (SPC-4 7.8.5).
  {
    code: 0x83,
    body: (unit) => {
      const vendor = new Uint8Array(8 + 16);
      put(vendor, 0, 'Msft', 8);
      vendor.set(unit.id, 8);
      const naa = Uint8Array.from([...NAA_6_MICROSOFT, ...unit.id.subarray(0, 12)]);
      // Code set binary; association: this unit; types 1 and 3.
      return Uint8Array.from([1, 1, 0, vendor.length, ...vendor, 1, 3, 0, naa.length, ...naa]);
    },
  },
  // Block limits (SBC-3 6.6.3).
  {
    code: 0xb0,
    diskOnly: true,
    body: (unit) => {
      const out = new Uint8Array(60);
      const view = viewOf(out);
      // A count of zero blocks is refused in WRITE SAME.
      out[0] = 1;
      view.setUint16(2, unit.disk.physicalSectorSize / unit.blockSize);
      view.setUint32(4, MAX_TRANSFER / unit.blockSize);
      if (!unit.writable) return out;
      view.setUint32(16, MAX_UNMAP_BYTES / unit.blockSize);
      view.setUint32(20, MAX_UNMAP_DESCRIPTORS);
      view.setUint32(24, BLOCK / unit.blockSize);
      view.setBigUint64(32, BigInt(MAX_UNMAP_BYTES / unit.blockSize));
      return out;
    },
  },
  // Block device characteristics: a medium that does not rotate (SBC-3 6.6.2).
  {
    code: 0xb1,
    diskOnly: true,
    body: () => {
      const out = new Uint8Array(60);
      viewOf(out).setUint16(0, 1);
      return out;
    },
  },
  // Logical block provisioning: UNMAP, WRITE SAME(16) and (10) unmap, unmapped blocks read as zeros; thin (SBC-3 6.6.4).
  { code: 0xb2, diskOnly: true, body: ({ writable }) => Uint8Array.from([0, writable ? 0xe4 : 0, writable ? 2 : 0, 0]) },
];

const pagesOf = ({ state }: Unit): VpdPage[] => VPD.filter((p) => !(state.dvd && p.diskOnly));

/** A vital product data page; undefined: the unit has no such. */
export function vitalProductData(unit: Unit, page: number): Uint8Array | undefined {
  const body = pagesOf(unit)
    .find((p) => p.code === page)
    ?.body(unit);
  if (!body) return undefined;
  const out = new Uint8Array(4 + body.length);
  out[0] = unit.state.dvd ? TYPE_DVD : TYPE_DISK;
  out[1] = page;
  viewOf(out).setUint16(2, body.length);
  out.set(body, 4);
  return out;
}
