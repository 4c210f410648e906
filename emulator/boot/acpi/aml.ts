/**
 * The part of ACPI Machine Language that a static device tree needs: ACPI 6.4 chapter 20 (grammar) and §6.4 (resource
 * descriptors). Every function gives bytes; nesting them gives a definition block.
 */
import { bytes, struct, u16, u32, u64, u8 } from '../../base/struct.ts';
import { concat } from './table.ts';

// §20.3, "AML Byte Stream Byte Values".
const ZERO_OP = 0x00;
const ONE_OP = 0x01;
const NAME_OP = 0x08;
const BYTE_PREFIX = 0x0a;
const WORD_PREFIX = 0x0b;
const DWORD_PREFIX = 0x0c;
const STRING_PREFIX = 0x0d;
const QWORD_PREFIX = 0x0e;
const SCOPE_OP = 0x10;
const BUFFER_OP = 0x11;
const DEVICE_OP = [0x5b, 0x82];
const ROOT_CHAR = 0x5c;
const DUAL_NAME_PREFIX = 0x2e;
const MULTI_NAME_PREFIX = 0x2f;

const op = (...b: number[]): Uint8Array => Uint8Array.from(b);
const chars = (s: string): Uint8Array => Uint8Array.from(s, (c) => c.charCodeAt(0));

/** PkgLength counts itself, too (§20.2.4). */
function packaged(opcode: number[], ...body: Uint8Array[]): Uint8Array {
  const content = concat(...body);
  let size = 1;
  while (content.length + size >= (size === 1 ? 64 : 1 << (4 + 8 * (size - 1)))) size++;
  const length = content.length + size;
  const lead = size === 1 ? [length] : [((size - 1) << 6) | (length & 15)];
  for (let i = 1; i < size; i++) lead.push((length >>> (4 + 8 * (i - 1))) & 255);
  return concat(op(...opcode, ...lead), content);
}

/** NameString (§20.2.2): `\_SB.VMOD` or `VMBS`; segments are padded to four characters with `_`. */
function nameString(path: string): Uint8Array {
  const root = path.startsWith('\\');
  const segments = (root ? path.slice(1) : path).split('.').map((s) => chars(s.padEnd(4, '_')));
  const prefix =
    segments.length === 1 ? op() : segments.length === 2 ? op(DUAL_NAME_PREFIX) : op(MULTI_NAME_PREFIX, segments.length);
  return concat(root ? op(ROOT_CHAR) : op(), prefix, ...segments);
}

/** An integer constant, in its shortest form (§20.2.3). */
export function integer(v: number): Uint8Array {
  if (v === 0) return op(ZERO_OP);
  if (v === 1) return op(ONE_OP);
  if (v < 0x100) return op(BYTE_PREFIX, v);
  if (v < 0x10000) return op(WORD_PREFIX, v & 255, v >>> 8);
  if (v < 0x100000000) return concat(op(DWORD_PREFIX), struct('dword', { v: u32 }).make({ v }));
  return concat(op(QWORD_PREFIX), struct('qword', { v: u64 }).make({ v: BigInt(v) }));
}

/** An ASCII string constant. */
export const string = (s: string): Uint8Array => concat(op(STRING_PREFIX), chars(s), op(0));

const buffer = (content: Uint8Array): Uint8Array => packaged([BUFFER_OP], integer(content.length), content);

/** Name (path, value). */
export const name = (path: string, value: Uint8Array): Uint8Array => concat(op(NAME_OP), nameString(path), value);

/** Scope (path) { ... } */
export const scope = (path: string, ...body: Uint8Array[]): Uint8Array => packaged([SCOPE_OP], nameString(path), ...body);

/** Device (path) { ... } */
export const device = (path: string, ...body: Uint8Array[]): Uint8Array => packaged(DEVICE_OP, nameString(path), ...body);

// --- resource descriptors, §6.4 ------------------------------------------------------------------------------------

/** End tag (§6.4.2.9); checksum 0 means "not checked". */
const END_TAG = op(0x79, 0);

/** ResourceTemplate () { ... } */
export const resourceTemplate = (...descriptors: Uint8Array[]): Uint8Array => buffer(concat(...descriptors, END_TAG));

/** §6.4.3.4 */
const Memory32Fixed = struct('Memory32Fixed', { tag: u8, length: u16, flags: u8, base: u32, size: u32 }, { size: 12 });

/** Memory32Fixed (ReadWrite, base, size) */
export const memory32Fixed = (base: number, size: number): Uint8Array =>
  Memory32Fixed.make({ tag: 0x86, length: 9, flags: 1, base, size });

/** §6.4.3.6, with one interrupt. */
const ExtendedInterrupt = struct(
  'ExtendedInterrupt',
  { tag: u8, length: u16, flags: u8, count: u8, interrupt: u32 },
  { size: 9 },
);

/** Interrupt (ResourceConsumer, trigger, ActiveHigh, Exclusive) { intid } */
export const interrupt = (trigger: 'edge' | 'level', intid: number): Uint8Array =>
  ExtendedInterrupt.make({ tag: 0x89, length: 6, flags: 1 | (trigger === 'edge' ? 2 : 0), count: 1, interrupt: intid });

/** §6.4.3.5.2 and §6.4.3.5.1: the same fields, 32 or 64 bits wide. */
const addressSpace = { tag: u8, length: u16, type: u8, flags: u8, typeFlags: u8 };
const DWordAddressSpace = struct('DWordAddressSpace', { ...addressSpace, addresses: bytes(20) }, { size: 26 });
const QWordAddressSpace = struct('QWordAddressSpace', { ...addressSpace, addresses: bytes(40) }, { size: 46 });
const Addresses32 = struct('Addresses32', { granularity: u32, min: u32, max: u32, translation: u32, size: u32 });
const Addresses64 = struct('Addresses64', { granularity: u64, min: u64, max: u64, translation: u64, size: u64 });
/** ResourceProducer, PosDecode, MinFixed, MaxFixed; memory, cacheable, ReadWrite. */
const WINDOW = { type: 0, flags: 0x0c, typeFlags: 0x03 };

/** DWordMemory (ResourceProducer, ...): a window that children may use. */
export const memoryWindow32 = (base: number, size: number): Uint8Array =>
  DWordAddressSpace.make({
    tag: 0x87,
    length: 23,
    ...WINDOW,
    addresses: Addresses32.make({ min: base, max: base + size - 1, size }),
  });

/** QWordMemory (ResourceProducer, ...) */
export const memoryWindow64 = (base: number, size: number): Uint8Array =>
  QWordAddressSpace.make({
    tag: 0x8a,
    length: 43,
    ...WINDOW,
    addresses: Addresses64.make({ min: BigInt(base), max: BigInt(base + size - 1), size: BigInt(size) }),
  });
