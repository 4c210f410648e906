/**
 * The data exchange IC: key-value pairs in five pools, and the IP configuration of the guest's adapters (reference
 * hyperv-arm64.md §9.5). The guest answers once its daemon runs; one request is under way at a time.
 */
import type { Tree } from '../../base/inspect.ts';
import { array, bytes, struct, u8, u16, u32, viewOf } from '../../base/struct.ts';
import { ConfigError } from '../../config.ts';
import type { Device, DeviceChannel, DeviceEnvironment } from '../device.ts';
import type { Packet } from '../ring.ts';
import { type IpSettings, KVP_POOLS, type KvpItem, type KvpPool, type KvpService, type KvpValue } from '../services.ts';
import { IC_MESSAGE, type IcComponent, IcLink, type IcState, newIc, unanswered } from './ic.ts';
import { STATUS, statusText } from './status.ts';

const MAX_KEY = 512;
const MAX_VALUE = 2048;

export const KvpHeader = struct('KvpHeader', { Operation: u8, Pool: u8, Padding: u16 }, { size: 4 });
export const KvpExchangeValue = struct(
  'KvpExchangeValue',
  { ValueType: u32, KeySize: u32, ValueSize: u32, Key: bytes(MAX_KEY), Value: bytes(MAX_VALUE) },
  { size: 2572 },
);
export const KvpEnumerate = struct('KvpEnumerate', { Index: u32, Data: KvpExchangeValue }, { size: 2576 });
export const KvpDelete = struct('KvpDelete', { KeySize: u32, Key: bytes(MAX_KEY) }, { size: 516 });
/** Follows Operation and Pool directly. Text is UTF-16 with a zero at its end. */
export const KvpIpAddressValue = struct(
  'KvpIpAddressValue',
  {
    AdapterId: array(128, u16),
    AddressFamily: u8,
    DhcpEnabled: u8,
    IpAddress: array(1024, u16),
    Subnet: array(1024, u16),
    Gateway: array(512, u16),
    DnsAddress: array(1024, u16),
  },
  { size: 7426 },
);
const IP_AT = 2;

const OPERATION = { get: 0, set: 1, delete: 2, enumerate: 3, getIp: 4, setIp: 5 } as const;
const FAMILY = { none: 0, ipv4: 1, ipv6: 2 } as const;
/** Value types. Linux knows a qword by this number alone; Windows' registry has 11 for it. */
const REG = { text: 1, dword: 4, qword: 8, windowsQword: 11 } as const;

interface KvpRequest {
  operation: keyof typeof OPERATION;
  pool: KvpPool;
  index: number;
  key: string;
  value: KvpValue;
  ip: IpSettings | undefined;
  /** Nobody waits for the result: part of an enumeration that the host makes by itself. */
  quiet: boolean;
}

interface KvpState {
  ic: IcState;
  /** The first one is under way while `waiting`. */
  requests: KvpRequest[];
  waiting: boolean;
  /** What is known of each pool. */
  items: KvpItem[];
  /** What the enumeration under way has found so far. */
  found: KvpItem[];
  /** Of the host's own pools: what every guest gets. */
  own: { pool: KvpPool; key: string; value: KvpValue }[];
  /** The last IP configuration that a guest has told. */
  ip: IpSettings[];
}

/** The host looks again after this long: addresses change. */
const PERIOD_NS = 60_000_000_000;
const ALARM = 'vmbus/kvp';
/** A guest whose enumeration has not ended by then will not end it. */
const MAX_ITEMS = 1024;
/** Pools whose contents come from the guest. */
const GUEST_POOLS: readonly KvpPool[] = ['auto', 'guest'];
const HOST_POOLS: readonly KvpPool[] = ['external', 'auto-external'];
/** What Hyper-V hosts tell every guest, as far as it has a meaning here. */
const HOST_ITEMS = { HostName: 'hyperstep', VirtualMachineName: 'hyperstep' } as const;

const NO_IP: IpSettings = { adapter: '', dhcp: false, addresses: '', subnets: '', gateways: '', dns: '' };

export class Kvp implements Device, IcComponent, KvpService {
  readonly name = 'kvp';
  readonly offer = {
    interfaceType: 'a9a0f4e7-5a45-4d96-b827-8a841e8c03e6',
    instance: '242ff919-07db-4180-9c2e-b86cb68c8c55',
    pipe: true,
  };
  readonly messageType = IC_MESSAGE.kvp;
  readonly versions = [
    [4, 0],
    [3, 0],
    [1, 0],
  ] as const;
  readonly state: KvpState;
  readonly #channel: DeviceChannel;
  readonly #clock: DeviceEnvironment['clock'];
  readonly #link: IcLink;

  constructor(channel: DeviceChannel, { clock }: DeviceEnvironment) {
    this.state = {
      ic: newIc(),
      requests: [],
      waiting: false,
      items: [],
      found: [],
      own: Object.entries(HOST_ITEMS).map(([key, value]) => ({ pool: 'auto-external', key, value })),
      ip: [],
    };
    this.#channel = channel;
    this.#clock = clock;
    this.#link = new IcLink(channel, this, this.state.ic, clock);
    clock.on(ALARM, () => {
      // An enumeration that is still under way is enough.
      if (this.state.requests.length === 0) this.refresh();
      clock.set(ALARM, clock.now + PERIOD_NS);
    });
  }

  // --- what the host asks ------------------------------------------------------------------------------------------------------

  items(): KvpItem[] {
    return this.state.items.map((item) => ({ ...item }));
  }

  set(pool: KvpPool, key: string, value: KvpValue): boolean {
    checkText('key', key, MAX_KEY);
    if (key === '') throw new ConfigError('a key-value pair needs a key');
    if (typeof value === 'string') checkText(`value of ${key}`, value, MAX_VALUE);
    else if (
      !(typeof value === 'number'
        ? Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff
        : value >= 0n && value < 1n << 64n)
    )
      throw new ConfigError(`value of ${key}: ${value} does not fit into ${typeof value === 'number' ? 32 : 64} bits`);
    const { own } = this.state;
    if (HOST_POOLS.includes(pool)) {
      const at = own.findIndex((o) => o.pool === pool && o.key === key);
      if (at < 0) own.push({ pool, key, value });
      else own[at] = { pool, key, value };
    }
    return this.#ask({ operation: 'set', pool, key, value });
  }

  delete(pool: KvpPool, key: string): boolean {
    checkText('key', key, MAX_KEY);
    const { state } = this;
    state.own = state.own.filter((o) => o.pool !== pool || o.key !== key);
    return this.#ask({ operation: 'delete', pool, key });
  }

  get(pool: KvpPool, key: string): boolean {
    checkText('key', key, MAX_KEY);
    return this.#ask({ operation: 'get', pool, key });
  }

  refresh(pool?: KvpPool): boolean {
    const pools = pool === undefined ? GUEST_POOLS : [pool];
    return pools.every((p) => this.#ask({ operation: 'enumerate', pool: p, quiet: pool === undefined }));
  }

  getIp(adapter: string): boolean {
    checkText('adapter', adapter, KvpIpAddressValue.field.AdapterId.size);
    return this.#ask({ operation: 'getIp', ip: { ...NO_IP, adapter } });
  }

  setIp(settings: IpSettings): boolean {
    const { AdapterId, IpAddress, Subnet, Gateway, DnsAddress } = KvpIpAddressValue.field;
    checkText('adapter', settings.adapter, AdapterId.size);
    checkText('addresses', settings.addresses, IpAddress.size);
    checkText('subnets', settings.subnets, Subnet.size);
    checkText('gateways', settings.gateways, Gateway.size);
    checkText('DNS servers', settings.dns, DnsAddress.size);
    return this.#ask({ operation: 'setIp', ip: { ...settings } });
  }

  // --- the channel -------------------------------------------------------------------------------------------------------------

  onOpen(): void {
    this.#forget();
    this.#link.onOpen();
  }
  onPacket(packet: Packet): void {
    this.#link.onPacket(packet);
  }
  onClose(): void {
    this.#forget();
    this.#link.onClose();
  }

  onReady(): void {
    for (const { pool, key, value } of this.state.own) this.#ask({ operation: 'set', pool, key, value, quiet: true });
    this.refresh();
    this.#clock.set(ALARM, this.#clock.now + PERIOD_NS);
  }

  onAnswer(status: number, body: DataView): void {
    const { state } = this;
    const request = state.waiting ? state.requests.shift() : undefined;
    if (!request) {
      this.#channel.note('answer to no request');
      return;
    }
    state.waiting = false;
    this.#done(request, status, body);
    this.#next();
  }

  /** Nobody is asked after what has waited behind it either. */
  onLate(): void {
    const { requests } = this.state;
    Object.assign(this.state, { requests: [], waiting: false, found: [] });
    for (const request of requests) if (!request.quiet) this.#channel.report(`${titleOf(request)}: ${unanswered()}`, false);
    this.#channel.note(unanswered());
  }

  about(body: DataView): string {
    if (body.byteLength < KvpHeader.size) return '';
    const { Operation, Pool } = KvpHeader.get(body, 0);
    const name = Object.entries(OPERATION).find(([, n]) => n === Operation)?.[0] ?? `operation ${Operation}`;
    return name === 'getIp' || name === 'setIp' ? name : `${name} ${KVP_POOLS[Pool] ?? `pool ${Pool}`}`;
  }
  describe(packet: Packet): string {
    return this.#link.describe(packet);
  }

  inspect(): Tree {
    const { requests, items, ip } = this.state;
    const pools = Object.fromEntries(
      KVP_POOLS.map(
        (pool) => [pool, Object.fromEntries(items.filter((i) => i.pool === pool).map((i) => [i.key, i.value]))] as const,
      ).filter(([, found]) => Object.keys(found).length > 0),
    );
    return {
      ...this.#link.inspect(),
      ...(requests.length > 0 ? { requests: requests.length } : {}),
      ...(items.length > 0 ? { pools } : {}),
      ...(ip.length > 0 ? { adapters: Object.fromEntries(ip.map(({ adapter, ...rest }) => [adapter, rest])) } : {}),
    };
  }

  // --- requests ----------------------------------------------------------------------------------------------------------------

  #ask(request: Pick<KvpRequest, 'operation'> & Partial<KvpRequest>): boolean {
    if (!this.#link.ready) return false;
    this.state.requests.push({ pool: 'external', index: 0, key: '', value: '', ip: undefined, quiet: false, ...request });
    this.#next();
    return true;
  }

  /** Sends the next request when none is under way. */
  #next(): void {
    const { state } = this;
    const request = state.requests.at(0);
    if (state.waiting || !request) return;
    if (request.operation === 'enumerate' && request.index === 0) state.found = [];
    state.waiting = this.#link.request(bodyOf(request), titleOf(request));
    if (!state.waiting) state.requests = [];
  }

  #done(request: KvpRequest, status: number, body: DataView): void {
    const { state } = this;
    const { operation, pool, key } = request;
    if (operation === 'enumerate') {
      this.#enumerated(request, status, body);
      return;
    }
    let result = statusText(status);
    if (status === STATUS.ok) {
      if (operation === 'get') {
        const value = valueIn(body, KvpHeader.size);
        if (value === undefined) this.#channel.note(`${titleOf(request)}: the answer has no value`);
        // Linux' daemon finds the item, but its kernel does not tell it how much of the value is wanted: an enumeration has it.
        else if (value === '') this.#ask({ operation: 'enumerate', pool });
        else {
          this.#know({ pool, key, value });
          result = value;
        }
      } else if (operation === 'set') this.#know({ pool, key, value: String(request.value) });
      else if (operation === 'delete') state.items = state.items.filter((i) => i.pool !== pool || i.key !== key);
      else if (operation === 'getIp') {
        const ip = ipOf(request.ip?.adapter ?? '', body);
        if (!ip) this.#channel.note(`${titleOf(request)}: the answer is too short`);
        else {
          state.ip = [...state.ip.filter((i) => i.adapter !== ip.adapter), ip];
          result = ipText(ip);
        }
      }
    }
    if (!request.quiet || status !== STATUS.ok) this.#channel.report(`${titleOf(request)}: ${result}`, status === STATUS.ok);
  }

  /** One item of an enumeration; an error ends it, and should be that there are no more. */
  #enumerated(request: KvpRequest, status: number, body: DataView): void {
    const { state } = this;
    const { pool, index, quiet } = request;
    const item = status === STATUS.ok ? itemOf(pool, body, KvpHeader.size + KvpEnumerate.field.Data.offset) : undefined;
    if (status === STATUS.ok && !item) this.#channel.note(`${titleOf(request)}: the answer has no item`);
    if (item && index + 1 < MAX_ITEMS) {
      state.found.push(item);
      state.requests.unshift({ ...request, index: index + 1 });
      return;
    }
    const { found } = state;
    state.items = [...state.items.filter((i) => i.pool !== pool), ...found];
    state.found = [];
    if (!quiet) this.#channel.report(`pool ${pool}: ${found.length} items`, true);
  }

  #know(item: KvpItem): void {
    const { state } = this;
    const known = state.items.find((i) => i.pool === item.pool && i.key === item.key);
    if (known) known.value = item.value;
    else state.items.push(item);
  }

  #forget(): void {
    this.#clock.cancel(ALARM);
    Object.assign(this.state, { requests: [], waiting: false, items: [], found: [], ip: [] });
  }
}

const titleOf = ({ operation, pool, index, key, ip }: KvpRequest): string => {
  switch (operation) {
    case 'enumerate':
      return `enumerate ${pool} ${index}`;
    case 'getIp':
    case 'setIp':
      return `${operation === 'getIp' ? 'get' : 'set'} IP of ${ip?.adapter}`;
    default:
      return `${operation} ${pool} ${key}`;
  }
};

export const ipText = (ip: IpSettings): string =>
  `${ip.dhcp ? 'DHCP, ' : ''}${ip.addresses || 'no address'} mask ${ip.subnets || 'none'} gateway ${ip.gateways || 'none'} DNS ${ip.dns || 'none'}`;

// --- bytes ---------------------------------------------------------------------------------------------------------------------

/** Throws `ConfigError` when text and its zero do not fit. */
function checkText(what: string, text: string, size: number): void {
  if (text.length * 2 + 2 > size) throw new ConfigError(`${what}: ${text.length} characters, where ${size / 2 - 1} fit`);
  if (text.includes('\0')) throw new ConfigError(`${what}: a zero character`);
}

/** UTF-16 with its zero. */
function utf16(text: string): Uint8Array {
  const out = new Uint8Array(text.length * 2 + 2);
  const view = viewOf(out);
  for (let i = 0; i < text.length; i++) view.setUint16(2 * i, text.charCodeAt(i), true);
  return out;
}

/** The text of 16-bit units up to the first zero. */
export const textOf = (units: readonly number[]): string => {
  const end = units.indexOf(0);
  return String.fromCharCode(...units.slice(0, end < 0 ? units.length : end));
};

/** `text` as `length` 16-bit units. */
export const unitsOf = (text: string, length: number): number[] =>
  Array.from({ length }, (_, i) => (i < text.length ? text.charCodeAt(i) : 0));

const unitsIn = (b: Uint8Array): number[] => {
  const view = viewOf(b);
  return Array.from({ length: b.length >> 1 }, (_, i) => view.getUint16(2 * i, true));
};

function bodyOf({ operation, pool, index, key, value, ip }: KvpRequest): Uint8Array {
  const header = { Operation: OPERATION[operation], Pool: KVP_POOLS.indexOf(pool), Padding: 0 };
  if (ip) {
    const body = new Uint8Array(IP_AT + KvpIpAddressValue.size);
    const view = viewOf(body);
    const { AdapterId, IpAddress, Subnet, Gateway, DnsAddress } = KvpIpAddressValue.field;
    view.setUint8(0, header.Operation);
    const v6 = ip.addresses.includes(':');
    const v4 = ip.addresses.includes('.');
    KvpIpAddressValue.set(view, IP_AT, {
      AdapterId: unitsOf(ip.adapter, AdapterId.size / 2),
      AddressFamily: (v4 ? FAMILY.ipv4 : FAMILY.none) | (v6 ? FAMILY.ipv6 : FAMILY.none),
      DhcpEnabled: ip.dhcp ? 1 : 0,
      IpAddress: unitsOf(ip.addresses, IpAddress.size / 2),
      Subnet: unitsOf(ip.subnets, Subnet.size / 2),
      Gateway: unitsOf(ip.gateways, Gateway.size / 2),
      DnsAddress: unitsOf(ip.dns, DnsAddress.size / 2),
    });
    return body;
  }
  // The answer comes in a buffer of the same size: room for an item in all of them.
  const body = new Uint8Array(KvpHeader.size + KvpEnumerate.size);
  const view = viewOf(body);
  KvpHeader.set(view, 0, header);
  const Key = key === '' ? new Uint8Array(0) : utf16(key);
  if (operation === 'enumerate') KvpEnumerate.field.Index.set(view, KvpHeader.size, index);
  else if (operation === 'delete') KvpDelete.set(view, KvpHeader.size, { KeySize: Key.length, Key });
  else {
    const Value = operation === 'set' ? valueBytes(value) : new Uint8Array(0);
    const ValueType = typeof value === 'string' ? REG.text : typeof value === 'number' ? REG.dword : REG.qword;
    KvpExchangeValue.set(view, KvpHeader.size, { ValueType, KeySize: Key.length, ValueSize: Value.length, Key, Value });
  }
  return body;
}

function valueBytes(value: KvpValue): Uint8Array {
  if (typeof value === 'string') return utf16(value);
  const out = new Uint8Array(typeof value === 'number' ? 4 : 8);
  if (typeof value === 'number') viewOf(out).setUint32(0, value, true);
  else viewOf(out).setBigUint64(0, value, true);
  return out;
}

/** Key and value of an answer, whose fields begin at `at`. undefined: it is too short, or has no key. */
function itemOf(pool: KvpPool, body: DataView, at: number): KvpItem | undefined {
  if (body.byteLength < at + KvpExchangeValue.size) return undefined;
  const key = textOf(unitsIn(KvpExchangeValue.field.Key.get(body, at + KvpExchangeValue.field.Key.offset)));
  const value = valueIn(body, at);
  return key === '' || value === undefined ? undefined : { pool, key, value };
}

/** The value of an answer as text. */
function valueIn(body: DataView, at: number): string | undefined {
  if (body.byteLength < at + KvpExchangeValue.size) return undefined;
  const { ValueType, ValueSize, Value } = KvpExchangeValue.get(body, at);
  const view = viewOf(Value);
  if (ValueType === REG.dword) return String(view.getUint32(0, true));
  if (ValueType === REG.qword || ValueType === REG.windowsQword) return String(view.getBigUint64(0, true));
  return textOf(unitsIn(Value.subarray(0, Math.min(ValueSize, MAX_VALUE))));
}

function ipOf(adapter: string, body: DataView): IpSettings | undefined {
  if (body.byteLength < IP_AT + KvpIpAddressValue.size) return undefined;
  const v = KvpIpAddressValue.get(body, IP_AT);
  return {
    adapter,
    dhcp: v.DhcpEnabled !== 0,
    addresses: textOf(v.IpAddress),
    subnets: textOf(v.Subnet),
    gateways: textOf(v.Gateway),
    dns: textOf(v.DnsAddress),
  };
}
