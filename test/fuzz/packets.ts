/**
 * What a hostile guest says to each device: a message as a driver would send it, of which the reader changes a field here and
 * there (values.ts).
 */
import { viewOf } from '../../emulator/base/struct.ts';
import {
  DmBalloonResponse,
  DmCapabilities,
  DmHotAddResponse,
  DmStatus,
  DmVersionRequest,
} from '../../emulator/vmbus/devices/balloon.ts';
import { VstorHeader, VstorSrb } from '../../emulator/vmbus/devices/scsi.ts';
import * as nvsp from '../../emulator/vmbus/devices/network/nvsp.ts';
import * as rndis from '../../emulator/vmbus/devices/network/rndis.ts';
import { PCI_MESSAGE } from '../../emulator/vmbus/devices/pci.ts';
import * as video from '../../emulator/vmbus/devices/video/protocol.ts';
import * as wire from '../unit/network/guest-stack.ts';
import { BUFFER_GPADL, BUFFERS, type Guest, type OutPacket, PAGE, payloadOf, qwords, relidOf } from './guest.ts';
import type { Reader } from './input.ts';
import { changed, fieldsOf, type Layout, number32, anyValue } from './values.ts';

/** Ranges of a GPA direct packet: one after the other from `BUFFERS` on. */
export function rangesOf(r: Reader, bytes: number): Uint8Array {
  const pages = Math.ceil(bytes / PAGE);
  const words = [BigInt(bytes)];
  for (let n = 0; n < pages; n++) words.push(BigInt(BUFFERS / PAGE + 64 + n));
  const out = new Uint8Array(8 + 8 * words.length);
  viewOf(out).setUint32(4, 1, true);
  out.set(qwords(words), 8);
  const edit = changed(r, out, [
    [4, 4],
    [8, 4],
    [12, 4],
    [16, 8],
  ]);
  return edit.slice(0, edit.length & ~7);
}

const messageOf = (r: Reader, layout: Layout & { make(v: object): Uint8Array }, value: object): Uint8Array =>
  changed(r, layout.make(value), fieldsOf(layout));

// --- network --------------------------------------------------------------------------------------------------------------------

const NVSP_TYPES = [1, 100, 101, 103, 104, 106, 107, 125, 129, 133, 0, 2, 108, 134];
const GPADL = BUFFER_GPADL + relidOf('network');

export function nvspPacket(r: Reader): OutPacket {
  const type = r.pick(NVSP_TYPES);
  const body = (): Uint8Array => {
    switch (type) {
      case 1:
        return nvsp.NvspInit.make({ MinVersion: 2, MaxVersion: r.pick(nvsp.NVSP_VERSIONS) });
      case 100:
        return nvsp.NvspNdisVersion.make({ Major: 6, Minor: r.pick([1, 20, 30, 80]) });
      case 101:
      case 104:
        return nvsp.NvspBuffer.make({ Gpadl: r.pick([GPADL, GPADL + 0x100]), Id: r.pick([0xcafe, 0]) });
      case 125:
        return nvsp.NvspNdisConfig.make({ Mtu: r.pick([1514, 9014, 0, 576]), Capabilities: BigInt(r.u8()) });
      case 133:
        return nvsp.NvspSubchannelRequest.make({ Operation: 1, Count: r.u8() & 3 });
      default:
        return new Uint8Array(24);
    }
  };
  return {
    payload: changed(r, payloadOf(type, body(), new Uint8Array(12)), [
      [0, 4],
      ...[4, 8, 12, 16].map((n) => [n, 4] as [number, number]),
    ]),
  };
}

/** An RNDIS request, by the send buffer or by ranges. */
export function rndisPacket(r: Reader, g: Guest): OutPacket {
  const message = rndisMessage(r, g);
  const section = r.u8();
  const packet = nvsp.NvspRndisPacket.make({ ChannelType: section & 1, SectionIndex: nvsp.NO_SECTION, SectionSize: 0 });
  if (section & 2) {
    // Send section 0 is where the buffer's GPADL begins.
    g.write(BUFFERS + 0x40_0000, message);
    viewOf(packet).setUint32(4, 0, true);
    viewOf(packet).setUint32(8, message.length, true);
    return { payload: payloadOf(107, changed(r, packet, fieldsOf(nvsp.NvspRndisPacket)), new Uint8Array(12)) };
  }
  const room = message.length;
  g.write(BUFFERS + 64 * PAGE, message);
  return {
    type: 9,
    ranges: rangesOf(r, room),
    payload: payloadOf(107, changed(r, packet, fieldsOf(nvsp.NvspRndisPacket)), new Uint8Array(12)),
  };
}

const OIDS = [
  0x0001_0101, 0x0001_010e, 0x0001_010d, 0x0001_0114, 0x0001_0203, 0x0001_0204, 0x0001_0206, 0x0001_0207, 0x0001_021b,
  0x0002_0216, 0x0101_0101, 0x0101_0103, 0xfc01_020b, 0xfc01_020c, 0xfc01_020d, 0xfc01_0201,
];

function rndisMessage(r: Reader, g: Guest): Uint8Array {
  const one = (): Uint8Array => {
    switch (r.below(10)) {
      case 0:
        return rndis.rndisMessage('initialize', messageOf(r, rndis.RndisInitialize, { RequestId: 1, MajorVersion: 1 }));
      case 1: {
        const info = payloadOf(0x2f, r.rest(r.u8() & 63));
        const head = { RequestId: 2, Oid: r.pick(OIDS), InfoLength: info.length, InfoOffset: 20 };
        return rndis.rndisMessage(r.flag() ? 'query' : 'set', messageOf(r, rndis.RndisRequest, head), info);
      }
      case 2:
        return rndis.rndisMessage(r.pick(['halt', 'reset', 'keepalive', 'indicateStatus']), changed(r, payloadOf(3)));
      case 3: {
        // RSS parameters (NDIS_RECEIVE_SCALE_PARAMETERS): table and key behind the header.
        const head = payloadOf(0x001c_0089, 0, 0x301, 128, 40, 40, 168, 0, 0, 0);
        const table = payloadOf(...Array.from({ length: 32 }, (_, n) => n % 3));
        const info = Uint8Array.from([...head, ...table, ...new Uint8Array(40).fill(0x5a)]);
        const request = { RequestId: 2, Oid: 0x0001_0204, InfoLength: info.length, InfoOffset: 20 };
        return rndis.rndisMessage('set', messageOf(r, rndis.RndisRequest, request), changed(r, info));
      }
      default: {
        const info: [number, number][] = [];
        const flags = r.u8();
        if (flags & 1) info.push([rndis.INFO.checksum, number32(r)]);
        if (flags & 2) info.push([rndis.INFO.largeSend, number32(r)]);
        if (flags & 4) info.push([rndis.INFO.vlan, 10 << 4]);
        const packet = rndis.makePacket(frameOf(r, g), info);
        return (flags & 0x38) === 0x38 ? changed(r, packet, [[4, 4], ...fieldsOf(rndis.RndisPacket, 8)]) : packet;
      }
    }
  };
  const parts = [one()];
  if (r.below(8) === 7) parts.push(one());
  return Uint8Array.from(parts.flatMap((p) => [...p]));
}

const IP = '10.0.2.15';
const GATEWAY = '10.0.2.2';
const DNS = '10.0.2.3';
const PORTS = [7, 9, 19, 80, 53, 67, 443, 0, 65535];

/** A frame of the guest: something that a guest sends, most often with right checksums around what was changed. */
export function frameOf(r: Reader, g: Guest): Uint8Array {
  const to = r.pick([GATEWAY, GATEWAY, DNS, '203.0.113.9', '255.255.255.255', '10.0.2.15', '0.0.0.0']);
  const vlan = r.below(8) === 7 ? 10 : undefined;
  const ip = (protocol: number, data: Uint8Array): Uint8Array => {
    const more = r.below(8) === 7;
    return wire.ipv4(IP, to, protocol, data, more ? { id: r.u8() & 3, offset: (r.u8() & 63) * 8, more: r.flag() } : {});
  };
  const around = (type: number, data: Uint8Array): Uint8Array =>
    wire.eth(type, data, r.pick([wire.GATEWAY_MAC, wire.GATEWAY_MAC, wire.BROADCAST]), wire.GUEST_MAC, vlan);
  switch (r.below(12)) {
    case 0:
      return around(
        0x806,
        changed(r, wire.join([0, 1, 8, 0, 6, 4, 0, 1], wire.mac(wire.GUEST_MAC), wire.ip(IP), new Uint8Array(6), wire.ip(to))),
      );
    case 1:
      return around(0x800, ip(1, wire.icmp(8, [0, 1, 0, 1], r.rest(32))));
    case 2:
      return around(0x800, wire.udp('0.0.0.0', 68, '255.255.255.255', 67, changed(r, dhcp(r.pick([1, 3, 4, 7, 8])))));
    case 3: {
      const question = wire.join(
        [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        [7],
        wire.ascii('gateway'),
        r.flag() ? [3, 99, 111, 109] : [],
        [0, 0, r.pick([1, 28, 12, 255]), 0, 1],
      );
      return around(0x800, wire.udp(IP, 5353, DNS, 53, changed(r, question)));
    }
    case 4:
      return around(0x800, wire.udp(IP, r.pick([1000, 1001]), to, r.pick(PORTS), r.rest(64)));
    case 5:
      return changed(r, around(0x800, ip(r.pick([6, 17, 1, 2]), r.rest(64))));
    case 6:
      return around(r.pick([0x86dd, 0x8100, 0x88cc]), r.rest(80));
    case 7: {
      // Large, for large sends.
      const data = new Uint8Array(2000 + (r.u16() & 0x7fff)).fill(65);
      return around(0x800, wire.tcp(IP, 2000, to, r.pick(PORTS), { seq: number32(r), ack: number32(r), data }));
    }
    default:
      return around(0x800, tcpOf(r, g, to));
  }
}

/** A segment: of a new connection, or in answer to the last one that came from the gateway. */
function tcpOf(r: Reader, g: Guest, to: string): Uint8Array {
  const port = r.pick(PORTS);
  const how = r.u8();
  let [sport, dport, from, seq, ack] = [2000 + (how >> 6), port, to, number32(r), 0];
  for (const frame of g.memory.frames.toReversed()) {
    if (frame.length < 54 || frame[12] !== 8 || frame[23] !== 6) continue;
    const seen = wire.seeTcp(frame.subarray(34, 14 + ((frame[16] << 8) | frame[17])));
    if (how & 1) {
      [sport, dport, from] = [seen.dport, seen.sport, [...frame.subarray(26, 30)].join('.')];
      const near = (n: number): number => (how & 2 ? (n + (r.u8() - 128) * r.pick([1, 1, 1448, 65536])) >>> 0 : n);
      seq = near(seen.ack);
      ack = near((seen.seq + seen.data.length + (/[SF]/.test(seen.flags) ? 1 : 0)) >>> 0);
    }
    break;
  }
  const flags =
    how & 1 ? r.pick(['A', 'AP', 'A', 'AF', 'R', 'SA', 'AU', '', 'AR', 'S']) : r.pick(['S', 'S', 'S', 'A', 'SF', 'R', 'F', '']);
  const options = how & 4 ? changed(r, Uint8Array.of(2, 4, 5, 0xb4, 1, 3, 3, r.u8() & 15)) : new Uint8Array(0);
  const data =
    how & 8
      ? wire.ascii(
          r.pick(['GET /bytes/100000 HTTP/1.1\r\n\r\n', 'PUT /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello', 'x'.repeat(1400)]),
        )
      : r.rest(how >> 4);
  const padded = wire.join(options, new Uint8Array((4 - (options.length % 4)) % 4)).slice(0, 40);
  return wire.tcp(IP, sport, from, dport, { seq, ack, flags, window: r.pick([65535, 0, 1, 1000]), options: padded, data });
}

function dhcp(type: number): Uint8Array {
  const out = new Uint8Array(300);
  out.set([1, 1, 6, 0, 1, 2, 3, 4]);
  out.set(wire.mac(wire.GUEST_MAC), 28);
  out.set([0x63, 0x82, 0x53, 0x63, 53, 1, type, 55, 3, 1, 3, 6, 50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2, 255], 236);
  return out;
}

/** The guest has done with a transfer, or says so. */
export function completionOf(r: Reader, g: Guest, relid: number): OutPacket {
  const last = g.memory.packets.filter((p) => p.relid === relid).at(-1 - (r.u8() & 3));
  const transactionId = last && r.below(8) !== 7 ? last.transactionId : anyValue(r);
  return { type: 11, flags: 0, transactionId, payload: changed(r, payloadOf(108, 1, new Uint8Array(32))) };
}

// --- storage --------------------------------------------------------------------------------------------------------------------

const OPCODES = [
  0x00, 0x03, 0x08, 0x0a, 0x12, 0x1a, 0x1b, 0x1d, 0x1e, 0x25, 0x28, 0x2a, 0x2e, 0x2f, 0x35, 0x41, 0x42, 0x43, 0x46, 0x4a, 0x51,
  0x52, 0x5a, 0x88, 0x8a, 0x8f, 0x91, 0x93, 0x9e, 0xa0, 0xa8, 0xaa, 0xaf, 0xbd,
];

export function scsiPacket(r: Reader, g: Guest): OutPacket {
  if (r.below(6) === 5) {
    const body = changed(r, new Uint8Array(52), [
      [0, 2],
      [2, 2],
      [0, 4],
    ]);
    return { payload: payloadOf(r.pick([7, 8, 9, 10, 11, 13, 4, 5, 6, 1, 2, 12]), 0, 0, body) };
  }
  const opcode = r.pick(OPCODES);
  const cdb = new Uint8Array(16);
  cdb[0] = opcode;
  // Blocks: few, near the beginning, unless something else is said.
  const [lba, count] = [r.u8(), r.u8() & 7];
  if (opcode < 0x20) cdb.set([0, 0, lba, count * 8, 0], 1);
  else if (opcode < 0x80) cdb.set([0, 0, 0, 0, lba, 0, 0, count], 1);
  else if (opcode < 0xa0) cdb.set([opcode === 0x9e ? 0x10 : 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, count], 1);
  else cdb.set([0, 0, 0, 0, lba, 0, 0, 0, count], 1);
  if (opcode === 0x12) cdb.set([r.u8() & 1, r.pick([0, 0x80, 0x83, 0xb0, 0xb1, 0xb2])], 1);
  if (opcode === 0x1a || opcode === 0x5a) cdb[2] = r.pick([0x3f, 8, 0x1c, 0x2a, 1]);
  if (opcode === 0x4a) cdb.set([1, 0, 0, r.u8()], 1);
  if ([0x12, 0x1a, 3].includes(opcode)) cdb[4] = 255;
  if ([0x43, 0x46, 0x4a, 0x51, 0x52, 0x5a].includes(opcode)) cdb[8] = 255;
  const edited = changed(r, cdb, [
    [1, 1],
    [2, 4],
    [2, 8],
    [6, 4],
    [7, 2],
    [10, 4],
    [4, 1],
  ]).slice(0, 20);
  const length = r.pick([0, 8, 36, 255, 512, 4096, 65536, 262144]);
  const srb = VstorSrb.make({
    Length: 52,
    Lun: r.pick([0, 0, 1, 2, 3, 63]),
    CdbLength: edited.length,
    SenseInfoLength: 20,
    DataIn: r.below(3),
    DataTransferLength: length,
    CdbOrSense: edited,
  });
  if (opcode === 0x42)
    g.write(
      BUFFERS + 64 * PAGE,
      changed(r, Uint8Array.of(0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, count, 0, 0, 0, 0)),
    );
  const payload = Uint8Array.from([...VstorHeader.make({ Operation: 3 }), ...changed(r, srb, fieldsOf(VstorSrb))]);
  return { type: 9, ranges: rangesOf(r, Math.max(1, length)), payload, flags: r.below(16) === 15 ? 0 : 1 };
}

// --- the rest -------------------------------------------------------------------------------------------------------------------

/** An answer to the last request of an integration component: as it should be, or nearly. */
export function icAnswer(r: Reader, g: Guest, relid: number): OutPacket {
  const last = g.memory.packets.filter((p) => p.relid === relid).at(-1);
  const payload = last ? last.payload.slice() : payloadOf(1, 20, new Uint8Array(64));
  if (payload.length < 28) return { payload };
  payload[25] = 5;
  const view = viewOf(payload);
  // A negotiation is answered with one version of each, and KVP's requests with a name and a value.
  if (view.getUint16(12, true) === 0 && payload.length >= 44) {
    const frameworks = view.getUint16(28, true);
    const at = 36 + 4 * frameworks + 4 * (r.u8() & 1);
    const version = at + 4 <= payload.length ? view.getUint32(at, true) : 3;
    view.setUint16(28, 1, true);
    view.setUint16(30, 1, true);
    view.setUint32(40, version, true);
  } else {
    const how = r.u8();
    if (how & 1) view.setUint32(20, r.pick([0, 0x8000_4005, 0x8007_0103]), true);
    else if (how & 2 && payload.length > 600) {
      view.setUint32(36, r.pick([1, 4, 8, 11, 0]), true);
      view.setUint32(40, 4, true);
      view.setUint32(44, r.pick([4, 8, 2048, 0xffff_ffff]), true);
      payload.set([r.u8() | 1, 0, r.u8(), 0], 48);
    }
  }
  const status: [number, number][] = [
    [20, 4],
    [24, 1],
    [25, 1],
    [18, 2],
    [12, 2],
    [28, 2],
    [30, 2],
    [40, 4],
    [32, 4],
    [36, 4],
    [44, 4],
  ];
  return { flags: 0, transactionId: last?.transactionId ?? 1n, payload: changed(r, payload, status) };
}

const VIDEO_MESSAGES: [number, Layout & { make(v: object): Uint8Array }, object][] = [
  [1, video.VersionRequest, { Version: video.videoVersion(3, 5) }],
  [3, video.VramLocation, { UserContext: 7n, IsGpaSpecified: 1, Gpa: 0xe000_0000n }],
  [
    5,
    video.SituationUpdate,
    { UserContext: 7n, VideoOutputCount: 1, Active: 1, DepthBits: 32, WidthPixels: 1024, HeightPixels: 768, PitchBytes: 4096 },
  ],
  [7, video.PointerPosition, { IsVisible: 1 }],
  [8, video.PointerShape, { Width: 32, Height: 32 }],
  [10, video.Dirt, { DirtCount: 1 }],
  [11, video.Resolution, {}],
  [13, video.ResolutionRequest, { MaximumCount: 64 }],
  [15, video.Resolution, {}],
];

export function videoPacket(r: Reader): OutPacket {
  const [type, layout, value] = r.pick(VIDEO_MESSAGES);
  const body = Uint8Array.from([...messageOf(r, layout, value), ...r.rest(r.u8() & 31)]);
  const payload = payloadOf(1, 8 + body.length, type, 8 + body.length, body);
  return {
    payload: changed(r, payload, [
      [0, 4],
      [4, 4],
      [8, 4],
      [12, 4],
    ]),
  };
}

export function mousePacket(r: Reader): OutPacket {
  const body = r.pick([payloadOf(0, 4, 0x0002_0000), payloadOf(3, 1, Uint8Array.of(0)), payloadOf(r.u8() & 7, 0)]);
  return {
    payload: changed(r, payloadOf(1, body.length, body), [
      [0, 4],
      [4, 4],
      [8, 4],
      [12, 4],
      [16, 4],
    ]),
  };
}

export function keyboardPacket(r: Reader): OutPacket {
  return {
    payload: changed(r, r.pick([payloadOf(1, 0x0001_0000), payloadOf(4, r.u8()), payloadOf(3, 1, 2)]), [
      [0, 4],
      [4, 4],
    ]),
  };
}

export function balloonPacket(r: Reader): OutPacket {
  const kind = r.pick([1, 1, 3, 5, 7, 7, 9, 11, 2, 12]);
  const tail =
    kind === 7
      ? qwords(Array.from({ length: r.u8() & 7 }, () => BigInt(BUFFERS / PAGE + r.u8()) | (BigInt(1 + (r.u8() & 63)) << 40n)))
      : new Uint8Array(0);
  const [layout, value]: [Layout & { make(v: object): Uint8Array }, object] =
    kind === 1
      ? [DmVersionRequest, { Version: r.pick([0x2_0000, 0x1_0000, 3]) }]
      : kind === 3
        ? [DmCapabilities, { Caps: BigInt(r.pick([3, 7, 0x43, 0x3f])) }]
        : kind === 7
          ? [DmBalloonResponse, { MoreAndCount: ((tail.length / 8) << 1) | (r.u8() & 1) }]
          : kind === 11
            ? [DmHotAddResponse, { PageCount: 512, Result: 1 }]
            : [DmStatus, { NumAvail: 5n }];
  const body = layout.make(value);
  const payload = Uint8Array.from([...body, ...tail]);
  viewOf(payload).setUint16(0, kind, true);
  viewOf(payload).setUint16(2, payload.length, true);
  return { payload: changed(r, payload, fieldsOf(layout)) };
}

const PCI_TYPES = Object.values(PCI_MESSAGE);

export function pciPacket(r: Reader, g: Guest): OutPacket {
  const type = r.pick(PCI_TYPES);
  let payload = payloadOf(type, 0, new Uint8Array(40));
  if (type === PCI_MESSAGE.queryProtocolVersion) payload = payloadOf(type, r.pick([0x1_0004, 0x1_0003, 0x1_0001]));
  if (type === PCI_MESSAGE.d0Entry) {
    payload = payloadOf(type, 0, r.pick([0xe800_0000, 0xe000_0000, 0xe000_1000, 0xeeff_e000]), 0);
    g.memory.window = viewOf(payload).getUint32(8, true);
  }
  if (type === PCI_MESSAGE.createInterrupt3) payload = payloadOf(type, 0, 64 + (r.u8() & 7), (0x1_0000 * (r.u8() & 3)) | 0);
  if (type === PCI_MESSAGE.createInterrupt || type === PCI_MESSAGE.createInterrupt2)
    payload = payloadOf(type, 0, (64 + (r.u8() & 7)) | 0x1_0000, new Uint8Array(48));
  if (type === PCI_MESSAGE.deleteInterrupt) payload = payloadOf(type, 0, 0x1_0000, 64 + (r.u8() & 7), 0xffff_0040, 0);
  return {
    payload: changed(r, payload, [
      [0, 4],
      [4, 4],
      [8, 4],
      [8, 8],
      [12, 2],
      [12, 4],
    ]),
  };
}

/** Bytes of a socket. */
export function socketPacket(r: Reader): OutPacket {
  const data = r.rest(r.u8());
  return {
    flags: 0,
    payload: changed(r, payloadOf(1, data.length, data), [
      [0, 4],
      [4, 4],
    ]),
  };
}
