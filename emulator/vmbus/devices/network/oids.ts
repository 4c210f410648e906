/**
 * What a guest may ask and set by RNDIS QUERY and SET: one row for each object identifier (reference hyperv-arm64.md §9.2;
 * NDIS OIDs). Answers are little-endian.
 */
import { struct, u16, u32, viewOf } from '../../../base/struct.ts';
import { ETHERNET_HEADER, mac as macField, parseMac } from '../../../network/packet.ts';
import { ndisOffload, newOffload, setOffload } from './offload.ts';
import { RNDIS_STATUS } from './rndis.ts';
import { KEY_SIZE } from './rss.ts';
import type { NetworkState } from './state.ts';

/** What rows see of the card. */
export interface OidContext {
  state: NetworkState;
  /** Channels that there may be in all. */
  channels: number;
}

export interface OidRow {
  readonly oid: number;
  /** As NDIS spells it, without `OID_`. */
  readonly name: string;
  /** Only with NDIS versions from this minor one of 6 on. */
  readonly since?: number;
  readonly query?: (c: OidContext) => Uint8Array;
  /** RNDIS status. `data` is as long as the guest said. */
  readonly set?: (c: OidContext, data: Uint8Array) => number;
}

const words = (...values: number[]): Uint8Array => {
  const out = new Uint8Array(4 * values.length);
  values.forEach((v, n) => {
    viewOf(out).setUint32(4 * n, v, true);
  });
  return out;
};
const word = (f: (c: OidContext) => number) => (c: OidContext) => words(f(c));
const fixed = (value: number) => word(() => value);
const macBytes = (address: number): Uint8Array => {
  const out = new Uint8Array(6);
  macField.set(viewOf(out), 0, address);
  return out;
};
/** UTF-16 with a NUL. */
const wide = (text: string): Uint8Array => {
  const out = new Uint8Array(2 * text.length + 2);
  for (let i = 0; i < text.length; i++) viewOf(out).setUint16(2 * i, text.charCodeAt(i), true);
  return out;
};

/** 10 Gbit/s. */
export const LINK_SPEED = 10_000_000_000;
const NDIS_OBJECT_DEFAULT = 0x80;
const RSS_CAPABILITIES = 0x88;
/** Toeplitz, TCP over IPv4 and IPv6. */
const RSS_HASHES = 0x1 | 0x100 | 0x200;
const RSS_TABLE = 128;
const MAC_OPTIONS = 0x1 | 0x4 | 0x8 | 0x40 | 0x200;
const PACKET_FILTERS = 0x2f;
const LARGEST_LIST = 32;

/** NDIS_RECEIVE_SCALE_PARAMETERS of revision 2. */
export const RssParameters = struct(
  'RssParameters',
  {
    Type: u16,
    Size: u16,
    Flags: u16,
    BaseCpu: u16,
    HashInformation: u32,
    TableSize: u16,
    Padding: u16,
    TableOffset: u32,
    KeySize: u16,
    Padding2: u16,
    KeyOffset: u32,
  },
  { size: 28 },
);
const RSS_DISABLE = 0x10;
const HASH_FUNCTIONS = 0xff;

function setRss({ state, channels }: OidContext, data: Uint8Array): number {
  if (data.length < RssParameters.size) return RNDIS_STATUS.invalidLength;
  const p = RssParameters.get(viewOf(data), 0);
  if (p.Flags & RSS_DISABLE || (p.HashInformation & HASH_FUNCTIONS) === 0) {
    state.rss = undefined;
    return RNDIS_STATUS.success;
  }
  const inside = (offset: number, size: number): boolean => offset <= data.length && size <= data.length - offset;
  const entries = p.TableSize / 4;
  const shaped = p.KeySize === KEY_SIZE && Number.isInteger(entries) && entries >= 1 && entries <= RSS_TABLE;
  if (!shaped || !inside(p.KeyOffset, p.KeySize) || !inside(p.TableOffset, p.TableSize)) return RNDIS_STATUS.invalidData;
  const table = Array.from({ length: entries }, (_, n) => viewOf(data).getUint32(p.TableOffset + 4 * n, true));
  if (table.some((t) => t >= channels)) return RNDIS_STATUS.invalidData;
  state.rss = { key: data.slice(p.KeyOffset, p.KeyOffset + KEY_SIZE), table };
  return RNDIS_STATUS.success;
}

/** RNDIS_CONFIG_PARAMETER_INFO: a name and a value. */
export const ConfigParameter = struct(
  'ConfigParameter',
  { NameOffset: u32, NameLength: u32, Type: u32, ValueOffset: u32, ValueLength: u32 },
  { size: 20 },
);
const CONFIG_STRING = 2;

function setConfigParameter({ state }: OidContext, data: Uint8Array): number {
  if (data.length < ConfigParameter.size) return RNDIS_STATUS.invalidLength;
  const p = ConfigParameter.get(viewOf(data), 0);
  const text = (offset: number, length: number): string | undefined => {
    if (length > 255 || offset > data.length || length > data.length - offset) return undefined;
    let out = '';
    for (let at = 0; at + 2 <= length; at += 2) out += String.fromCharCode(viewOf(data).getUint16(offset + at, true));
    return out.replace(/\0+$/, '');
  };
  const value = text(p.ValueOffset, p.ValueLength);
  if (text(p.NameOffset, p.NameLength) !== 'NetworkAddress' || p.Type !== CONFIG_STRING || value === undefined)
    return RNDIS_STATUS.invalidData;
  const address = parseMac(value.replace(/[:-]/g, '').replace(/(..)(?=.)/g, '$1:'));
  if (address === undefined) return RNDIS_STATUS.invalidData;
  state.currentMac = address;
  return RNDIS_STATUS.success;
}

function setFilter({ state }: OidContext, data: Uint8Array): number {
  if (data.length < 4) return RNDIS_STATUS.invalidLength;
  state.filter = viewOf(data).getUint32(0, true) & PACKET_FILTERS;
  return RNDIS_STATUS.success;
}

const accept = (): number => RNDIS_STATUS.success;
const maximumFrame = word(({ state }) => state.mtu - ETHERNET_HEADER);
const maximumTotal = word(({ state }) => state.mtu);
const speed = words(LINK_SPEED % 2 ** 32, Math.floor(LINK_SPEED / 2 ** 32));

const linkState = ({ state }: OidContext): Uint8Array => {
  const out = new Uint8Array(40);
  out.set([NDIS_OBJECT_DEFAULT, 1, out.length, 0]);
  // MediaConnectStateConnected and -Disconnected.
  viewOf(out).setUint32(4, state.linkUp ? 1 : 2, true);
  out.set(speed, 16);
  out.set(speed, 24);
  return out;
};

const rssCapabilities = ({ channels }: OidContext): Uint8Array => {
  const out = new Uint8Array(18);
  out.set([RSS_CAPABILITIES, 2, out.length, 0]);
  out.set(words(RSS_HASHES, 1, channels), 4);
  viewOf(out).setUint16(16, RSS_TABLE, true);
  return out;
};

export const OIDS: readonly OidRow[] = [
  { oid: 0x0001_0101, name: 'GEN_SUPPORTED_LIST', query: (c) => words(...supported(c).map((r) => r.oid)) },
  { oid: 0x0001_0102, name: 'GEN_HARDWARE_STATUS', query: fixed(0) },
  { oid: 0x0001_0103, name: 'GEN_MEDIA_SUPPORTED', query: fixed(0) },
  { oid: 0x0001_0104, name: 'GEN_MEDIA_IN_USE', query: fixed(0) },
  { oid: 0x0001_0105, name: 'GEN_MAXIMUM_LOOKAHEAD', query: maximumFrame },
  { oid: 0x0001_0106, name: 'GEN_MAXIMUM_FRAME_SIZE', query: maximumFrame },
  { oid: 0x0001_0107, name: 'GEN_LINK_SPEED', query: fixed(LINK_SPEED / 100) },
  { oid: 0x0001_0108, name: 'GEN_TRANSMIT_BUFFER_SPACE', query: fixed(256 * 1024) },
  { oid: 0x0001_0109, name: 'GEN_RECEIVE_BUFFER_SPACE', query: fixed(256 * 1024) },
  { oid: 0x0001_010a, name: 'GEN_TRANSMIT_BLOCK_SIZE', query: maximumTotal },
  { oid: 0x0001_010b, name: 'GEN_RECEIVE_BLOCK_SIZE', query: maximumTotal },
  { oid: 0x0001_010c, name: 'GEN_VENDOR_ID', query: fixed(0x155d) },
  {
    oid: 0x0001_010d,
    name: 'GEN_VENDOR_DESCRIPTION',
    query: () => Uint8Array.from('Microsoft Corporation\0', (c) => c.charCodeAt(0)),
  },
  { oid: 0x0001_010e, name: 'GEN_CURRENT_PACKET_FILTER', query: word(({ state }) => state.filter), set: setFilter },
  { oid: 0x0001_010f, name: 'GEN_CURRENT_LOOKAHEAD', query: maximumFrame, set: accept },
  { oid: 0x0001_0110, name: 'GEN_DRIVER_VERSION', query: () => Uint8Array.of(0, 1) },
  { oid: 0x0001_0111, name: 'GEN_MAXIMUM_TOTAL_SIZE', query: maximumTotal },
  { oid: 0x0001_0112, name: 'GEN_PROTOCOL_OPTIONS', set: accept },
  { oid: 0x0001_0113, name: 'GEN_MAC_OPTIONS', query: fixed(MAC_OPTIONS) },
  { oid: 0x0001_0114, name: 'GEN_MEDIA_CONNECT_STATUS', query: word(({ state }) => (state.linkUp ? 0 : 1)) },
  { oid: 0x0001_0115, name: 'GEN_MAXIMUM_SEND_PACKETS', query: fixed(0xffff_ffff) },
  { oid: 0x0001_0116, name: 'GEN_VENDOR_DRIVER_VERSION', query: () => Uint8Array.of(0, 1) },
  { oid: 0x0001_0118, name: 'GEN_NETWORK_LAYER_ADDRESSES', set: accept },
  { oid: 0x0001_0203, name: 'GEN_RECEIVE_SCALE_CAPABILITIES', since: 30, query: rssCapabilities },
  { oid: 0x0001_0204, name: 'GEN_RECEIVE_SCALE_PARAMETERS', since: 30, set: setRss },
  { oid: 0x0001_0206, name: 'GEN_MAX_LINK_SPEED', since: 0, query: () => Uint8Array.of(...speed, ...speed) },
  { oid: 0x0001_0207, name: 'GEN_LINK_STATE', since: 0, query: linkState },
  { oid: 0x0001_021b, name: 'GEN_RNDIS_CONFIG_PARAMETER', set: setConfigParameter },
  { oid: 0x0002_0101, name: 'GEN_XMIT_OK', query: word(({ state }) => state.statistics.sentFrames) },
  { oid: 0x0002_0102, name: 'GEN_RCV_OK', query: word(({ state }) => state.statistics.receivedFrames) },
  { oid: 0x0002_0103, name: 'GEN_XMIT_ERROR', query: word(({ state }) => state.statistics.sendErrors) },
  { oid: 0x0002_0104, name: 'GEN_RCV_ERROR', query: word(({ state }) => state.statistics.receiveErrors) },
  { oid: 0x0002_0105, name: 'GEN_RCV_NO_BUFFER', query: word(({ state }) => state.statistics.noBuffer) },
  { oid: 0x0002_0216, name: 'GEN_FRIENDLY_NAME', query: () => wide('Network Adapter') },
  { oid: 0x0101_0101, name: '802_3_PERMANENT_ADDRESS', query: ({ state }) => macBytes(state.permanentMac) },
  { oid: 0x0101_0102, name: '802_3_CURRENT_ADDRESS', query: ({ state }) => macBytes(state.currentMac) },
  { oid: 0x0101_0103, name: '802_3_MULTICAST_LIST', set: accept },
  { oid: 0x0101_0104, name: '802_3_MAXIMUM_LIST_SIZE', query: fixed(LARGEST_LIST) },
  { oid: 0x0102_0101, name: '802_3_RCV_ERROR_ALIGNMENT', query: fixed(0) },
  { oid: 0x0102_0102, name: '802_3_XMIT_ONE_COLLISION', query: fixed(0) },
  { oid: 0x0102_0103, name: '802_3_XMIT_MORE_COLLISIONS', query: fixed(0) },
  {
    oid: 0xfc01_020b,
    name: 'TCP_OFFLOAD_CURRENT_CONFIG',
    since: 0,
    query: ({ state }) => ndisOffload(state.offload, state.ndis.major, state.ndis.minor),
  },
  {
    oid: 0xfc01_020c,
    name: 'TCP_OFFLOAD_PARAMETERS',
    since: 0,
    set: ({ state }, data) => (setOffload(state.offload, data) ? RNDIS_STATUS.success : RNDIS_STATUS.invalidData),
  },
  {
    oid: 0xfc01_020d,
    name: 'TCP_OFFLOAD_HARDWARE_CAPABILITIES',
    since: 0,
    query: ({ state }) => ndisOffload(newOffload(true), state.ndis.major, state.ndis.minor),
  },
];

/** The rows that the guest's NDIS version has. */
function supported({ state }: OidContext): OidRow[] {
  const { major, minor } = state.ndis;
  return OIDS.filter(({ since }) => since === undefined || major > 6 || (major === 6 && minor >= since));
}

const BY_OID = new Map(OIDS.map((row) => [row.oid, row]));
export const oidName = (oid: number): string => BY_OID.get(oid)?.name ?? `OID 0x${oid.toString(16)}`;

/** The answer to a QUERY. undefined: there is no such thing. */
export const queryOid = (c: OidContext, oid: number): Uint8Array | undefined =>
  supported(c)
    .find((r) => r.oid === oid)
    ?.query?.(c);

/** Performs a SET; its RNDIS status. */
export const setOid = (c: OidContext, oid: number, data: Uint8Array): number =>
  supported(c)
    .find((r) => r.oid === oid)
    ?.set?.(c, data) ?? RNDIS_STATUS.notSupported;
