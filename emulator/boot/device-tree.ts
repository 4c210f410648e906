/** Flattened device trees: Devicetree Specification v0.4, chapter 5. */

/** A node: properties in the order written, then children. */
export interface DtNode {
  properties: Record<string, Uint8Array>;
  children?: Record<string, DtNode>;
}

/** <u32>: one cell. Big-endian, as every number in a device tree. */
export const cell = (v: number): Uint8Array => {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, v);
  return out;
};

/** <u64>: two cells. */
export const cells64 = (v: number | bigint): Uint8Array => {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, BigInt(v));
  return out;
};

/** A NUL-terminated string of UTF-8. */
export const dtString = (s: string): Uint8Array => {
  const out: number[] = [];
  for (const c of s) {
    const p = c.codePointAt(0) as number;
    if (p < 0x80) out.push(p);
    else if (p < 0x800) out.push(0xc0 | (p >> 6), 0x80 | (p & 63));
    else if (p < 0x10000) out.push(0xe0 | (p >> 12), 0x80 | ((p >> 6) & 63), 0x80 | (p & 63));
    else out.push(0xf0 | (p >> 18), 0x80 | ((p >> 12) & 63), 0x80 | ((p >> 6) & 63), 0x80 | (p & 63));
  }
  out.push(0);
  return Uint8Array.from(out);
};

// §5.2 and §5.4.1
const MAGIC = 0xd00dfeed;
const VERSION = 17;
const LAST_COMPATIBLE_VERSION = 16;
const HEADER_SIZE = 40;
const FDT_BEGIN_NODE = 1;
const FDT_END_NODE = 2;
const FDT_PROP = 3;
const FDT_END = 9;

class CellWriter {
  readonly bytes: number[] = [];
  cell(v: number): void {
    this.bytes.push(v >>> 24, (v >>> 16) & 255, (v >>> 8) & 255, v & 255);
  }
  padded(data: Uint8Array): void {
    this.bytes.push(...data);
    while (this.bytes.length % 4) this.bytes.push(0);
  }
}

/** The blob of a tree, with an empty memory reservation block. */
export function flattenDeviceTree(root: DtNode): Uint8Array {
  const structure = new CellWriter();
  const strings: number[] = [];
  const offsets = new Map<string, number>();
  const nameOffset = (name: string): number => {
    let at = offsets.get(name);
    if (at === undefined) {
      at = strings.length;
      offsets.set(name, at);
      strings.push(...dtString(name));
    }
    return at;
  };
  const node = (name: string, n: DtNode): void => {
    structure.cell(FDT_BEGIN_NODE);
    structure.padded(dtString(name));
    for (const [key, value] of Object.entries(n.properties)) {
      structure.cell(FDT_PROP);
      structure.cell(value.length);
      structure.cell(nameOffset(key));
      structure.padded(value);
    }
    for (const [key, child] of Object.entries(n.children ?? {})) node(key, child);
    structure.cell(FDT_END_NODE);
  };
  node('', root);
  structure.cell(FDT_END);

  const reservations = HEADER_SIZE; // 8-byte aligned already
  const structAt = reservations + 16; // one all-zero entry ends the block
  const stringsAt = structAt + structure.bytes.length;
  const total = stringsAt + strings.length;
  const header = new CellWriter();
  for (const v of [
    MAGIC,
    total,
    structAt,
    stringsAt,
    reservations,
    VERSION,
    LAST_COMPATIBLE_VERSION,
    0,
    strings.length,
    structure.bytes.length,
  ])
    header.cell(v);
  const out = new Uint8Array(total);
  out.set(header.bytes, 0);
  out.set(structure.bytes, structAt);
  out.set(strings, stringsAt);
  return out;
}
