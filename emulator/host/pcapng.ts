/** Capture files in the pcapng format (draft-ietf-opsawg-pcapng): one section, one Ethernet interface, a block for each frame. */
import { struct, u16, u32, viewOf } from '../base/struct.ts';

const BLOCK = { section: 0x0a0d_0d0a, interface: 1, packet: 6 } as const;
const BYTE_ORDER = 0x1a2b_3c4d;
const LINKTYPE_ETHERNET = 1;
/** Option codes: of any block, of an interface, of a packet. */
const OPTION = { application: 4, name: 2, description: 3, resolution: 9, flags: 2 } as const;
/** Timestamps are in units of 10 to the power of -9 s. */
const NANOSECONDS = 9;
/** Direction in the flags of a packet. */
const FLAG = { inbound: 1, outbound: 2 } as const;

const SectionHeader = struct(
  'SectionHeader',
  { Magic: u32, Major: u16, Minor: u16, LengthLow: u32, LengthHigh: u32 },
  { size: 16 },
);
const InterfaceDescription = struct('InterfaceDescription', { LinkType: u16, Reserved: u16, SnapLength: u32 }, { size: 8 });
const EnhancedPacket = struct(
  'EnhancedPacket',
  { Interface: u32, TimeHigh: u32, TimeLow: u32, Captured: u32, Original: u32 },
  { size: 20 },
);

const padded = (n: number): number => (n + 3) & ~3;

function options(list: readonly (readonly [code: number, value: Uint8Array])[]): Uint8Array {
  const out = new Uint8Array(list.reduce((n, [, value]) => n + 4 + padded(value.length), 4));
  const view = viewOf(out);
  let at = 0;
  for (const [code, value] of list) {
    view.setUint16(at, code, true);
    view.setUint16(at + 2, value.length, true);
    out.set(value, at + 4);
    at += 4 + padded(value.length);
  }
  return out;
}

/** Type and length, what is inside, and the length again. */
function block(type: number, ...parts: Uint8Array[]): Uint8Array {
  const length = 12 + parts.reduce((n, p) => n + padded(p.length), 0);
  const out = new Uint8Array(length);
  const view = viewOf(out);
  view.setUint32(0, type, true);
  view.setUint32(4, length, true);
  let at = 8;
  for (const p of parts) {
    out.set(p, at);
    at += padded(p.length);
  }
  view.setUint32(at, length, true);
  return out;
}

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

/** What a file begins with. */
export function pcapngHeader(interfaceName: string, description: string): Uint8Array {
  const unknown = 0xffff_ffff;
  const section = SectionHeader.make({ Magic: BYTE_ORDER, Major: 1, LengthLow: unknown, LengthHigh: unknown });
  const made = options([[OPTION.application, utf8('Hyperstep')]]);
  const described = options([
    [OPTION.name, utf8(interfaceName)],
    [OPTION.description, utf8(description)],
    [OPTION.resolution, Uint8Array.of(NANOSECONDS)],
  ]);
  const head = block(BLOCK.section, section, made);
  const one = block(BLOCK.interface, InterfaceDescription.make({ LinkType: LINKTYPE_ETHERNET }), described);
  const out = new Uint8Array(head.length + one.length);
  out.set(head);
  out.set(one, head.length);
  return out;
}

/** One frame; `time`: ns since 1970; outbound: the guest has sent it. */
export function pcapngFrame(frame: Uint8Array, time: bigint, outbound: boolean): Uint8Array {
  const flags = new Uint8Array(4);
  flags[0] = outbound ? FLAG.outbound : FLAG.inbound;
  const head = EnhancedPacket.make({
    TimeHigh: Number(BigInt.asUintN(32, time >> 32n)),
    TimeLow: Number(BigInt.asUintN(32, time)),
    Captured: frame.length,
    Original: frame.length,
  });
  return block(BLOCK.packet, head, frame, options([[OPTION.flags, flags]]));
}
