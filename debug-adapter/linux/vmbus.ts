/**
 * The guest's half of VMBus: `struct vmbus_channel` of Linux (include/linux/hyperv.h), found from `vmbus_connection`
 * (drivers/hv/hyperv_vmbus.h) by its array of channels and its list of them. Members are found by name in the kernel's own types, since
 * versions differ; one that a version does not have is left out. Memory is the guest's: every count is bounded, every chain has an end.
 */
import { viewOf } from '../../emulator/base/struct.ts';
import { readString, type VirtualReader } from '../symbols/memory.ts';
import type { Symbolizer } from '../symbols/symbolizer.ts';
import type { Catalog } from '../types/catalog.ts';
import { plain, sizeOf, type Type } from '../types/model.ts';
import type { GuestKernel } from './kernel.ts';
import { typesOf } from './types.ts';

/** MAX_CHANNEL_RELIDS, and what more a list of channels cannot have. */
const MAX_CHANNELS = 2048;
const MAX_SUB_CHANNELS = 64;

/** A ring as the guest's driver holds it. */
export interface GuestRing {
  /** Bytes of data, as the driver reckons. */
  size?: number;
  /** Of the header that both ends share, at the guest's own address. */
  read?: number;
  write?: number;
  interruptMask?: number;
  pendingSendSize?: number;
  /** Where the guest's reading is, not told to the host yet. */
  privateRead?: number;
}

export interface GuestChannel {
  relid: number;
  /** Of the struct. */
  address: bigint;
  /** CHANNEL_OPENED_STATE, ... */
  state?: string;
  /** The CPU that handles its interrupts, and the VP index that the host knows that by. */
  targetCpu?: number;
  targetVpIndex?: number;
  connectionId?: number;
  rescind?: boolean;
  /** Relid of the channel that it is a sub-channel of. */
  primary?: number;
  subChannels?: number[];
  /** The driver's device name, `vmbus_1`-like or a GUID. */
  device?: string;
  gpadl?: number;
  callback?: string;
  callbackMode?: string;
  outbound?: GuestRing;
  inbound?: GuestRing;
  /** Reads it cannot make sense of. */
  problem?: string;
}

export interface GuestVmbus {
  /** DISCONNECTED, CONNECTING, CONNECTED, ... */
  state?: string;
  connectCpu?: number;
  channels: GuestChannel[];
}

/** What the guest's driver holds. Text: why that cannot be told. */
export function guestVmbus(kernel: GuestKernel, vp: number): GuestVmbus | string {
  if (!kernel.image) return 'no Linux kernel has been found yet';
  const { symbols, machine } = kernel;
  return readVmbus({ types: typesOf(kernel, vp), symbols, read: kernel.reader(vp), vpCount: machine.vpCount });
}

/** What the driver is read with. */
export interface VmbusSource {
  types: Catalog;
  symbols: Symbolizer;
  read: VirtualReader;
  vpCount: number;
}

/** The same from types, symbols and memory alone. */
export function readVmbus(source: VmbusSource): GuestVmbus | string {
  const { types, symbols } = source;
  const connection = types.variable('vmbus_connection', { module: 'hv_vmbus' }) ?? types.variable('vmbus_connection');
  if (!connection)
    return symbols.address('vmbus_connection') === undefined
      ? 'its symbol vmbus_connection is not known: hv_vmbus is not loaded, or the kernel tells names of functions only'
      : 'vmbus_connection cannot be placed';
  const channel = types.find('struct', 'vmbus_channel', connection.module);
  if (!connection.type || !channel || sizeOf(channel) === 0)
    return 'the types of hv_vmbus are not known: neither its BTF nor debug information is there';
  return new Reader(source, channel).connection(connection.address, connection.type);
}

class Reader {
  readonly #source: VmbusSource;
  readonly #channel: Type;
  readonly #indices: bigint | undefined;

  constructor(source: VmbusSource, channel: Type) {
    this.#source = source;
    this.#channel = channel;
    const table = source.symbols.address('hv_vp_index');
    this.#indices = table === undefined ? undefined : this.#number(table, 8);
  }

  connection(address: bigint, type: Type): GuestVmbus {
    const at = (name: string): bigint | undefined => this.#place(address, type, name)?.address;
    const array = at('channels');
    const table = array === undefined ? undefined : this.#number(array, 8);
    const found = new Set<bigint>();
    if (table) {
      const bytes = this.#bytes(table, 8 * MAX_CHANNELS);
      if (bytes) for (let n = 0; n < MAX_CHANNELS; n++) this.#add(found, viewOf(bytes).getBigUint64(8 * n, true));
    }
    const list = at('chn_list');
    const entry = this.#offset('listentry');
    if (list !== undefined && entry !== undefined) for (const c of this.#list(list, entry, MAX_CHANNELS)) this.#add(found, c);
    const connectCpu = this.#field(address, type, 'connect_cpu') ?? this.#field(address, type, 'connect_cpu.counter');
    const channels = [...found].map((c) => this.#read(c)).sort((a, b) => a.relid - b.relid);
    const state = this.#named(address, type, 'conn_state');
    return {
      ...(state === undefined ? {} : { state }),
      ...(connectCpu === undefined ? {} : { connectCpu: Number(connectCpu) }),
      channels,
    };
  }

  /** Kernel addresses alone can be channels. */
  #add(found: Set<bigint>, address: bigint): void {
    if (address >> 55n === 0x1ffn && (address & 7n) === 0n && found.size < MAX_CHANNELS) found.add(address);
  }

  /** The objects of a list_head whose entries are `offset` bytes into them; it ends at a repetition or what cannot be read. */
  #list(head: bigint, offset: number, most: number): bigint[] {
    const out: bigint[] = [];
    const seen = new Set<bigint>([head]);
    let next = this.#number(head, 8);
    while (next !== undefined && next !== 0n && !seen.has(next) && out.length < most) {
      seen.add(next);
      out.push(BigInt.asUintN(64, next - BigInt(offset)));
      next = this.#number(next, 8);
    }
    return out;
  }

  #read(address: bigint): GuestChannel {
    const type = this.#channel;
    const number = (name: string): number | undefined => {
      const value = this.#field(address, type, name);
      return value === undefined ? undefined : Number(value);
    };
    const relid = number('offermsg.child_relid');
    if (relid === undefined) return { relid: 0, address, problem: 'cannot be read' };
    const cpu = number('target_cpu');
    const index = cpu === undefined ? undefined : this.#vpIndex(cpu);
    const primary = this.#field(address, type, 'primary_channel');
    const callback = this.#field(address, type, 'onchannel_callback');
    const outbound = this.#ring(address, 'outbound');
    const inbound = this.#ring(address, 'inbound');
    const rescind = number('rescind');
    const subs = primary === 0n ? this.#subChannels(address) : [];
    const all: { [K in keyof GuestChannel]: GuestChannel[K] | undefined } = {
      relid,
      address,
      state: this.#named(address, type, 'state'),
      targetCpu: cpu,
      targetVpIndex: index,
      connectionId: number('offermsg.connection_id'),
      rescind: rescind === undefined ? undefined : rescind !== 0,
      primary: primary ? this.#relid(primary) : undefined,
      subChannels: subs.length > 0 ? subs : undefined,
      device: this.#device(address),
      gpadl: number('ringbuffer_gpadlhandle.gpadl_handle') ?? number('ringbuffer_gpadlhandle'),
      callback: callback ? this.#source.symbols.format(callback) : undefined,
      callbackMode: this.#named(address, type, 'callback_mode'),
      outbound,
      inbound,
    };
    return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as unknown as GuestChannel;
  }

  #relid(address: bigint): number | undefined {
    const value = this.#field(address, this.#channel, 'offermsg.child_relid');
    return value === undefined ? undefined : Number(value);
  }

  #subChannels(address: bigint): number[] {
    const head = this.#place(address, this.#channel, 'sc_list');
    const entry = this.#offset('sc_list');
    if (!head || entry === undefined) return [];
    // Sub-channels hang in their primary channel's list by the member of the same name.
    return this.#list(head.address, entry, MAX_SUB_CHANNELS).flatMap((c) => this.#relid(c) ?? []);
  }

  #device(address: bigint): string | undefined {
    const device = this.#field(address, this.#channel, 'device_obj');
    const hv = this.#source.types.find('struct', 'hv_device', 'hv_vmbus');
    if (!device || !hv) return undefined;
    const name = this.#field(device, hv, 'device.kobj.name');
    return name ? readString(this.#source.read, name, 64) : undefined;
  }

  #ring(address: bigint, name: string): GuestRing | undefined {
    const info = this.#place(address, this.#channel, name);
    if (!info) return undefined;
    const number = (base: bigint, type: Type, path: string): number | undefined => {
      const value = this.#field(base, type, path);
      return value === undefined ? undefined : Number(value);
    };
    const shared = this.#field(info.address, info.type, 'ring_buffer');
    const header = this.#source.types.find('struct', 'hv_ring_buffer', 'hv_vmbus');
    // A channel that is not open has no rings.
    if (!shared || !header) return undefined;
    return {
      size: number(info.address, info.type, 'ring_datasize'),
      privateRead: number(info.address, info.type, 'priv_read_index'),
      read: number(shared, header, 'read_index'),
      write: number(shared, header, 'write_index'),
      interruptMask: number(shared, header, 'interrupt_mask'),
      pendingSendSize: number(shared, header, 'pending_send_sz'),
    };
  }

  /** hv_vp_index[cpu] (include/asm-generic/mshyperv.h). */
  #vpIndex(cpu: number): number | undefined {
    if (!this.#indices || cpu < 0 || cpu >= this.#source.vpCount) return undefined;
    const index = this.#number(this.#indices + BigInt(4 * cpu), 4);
    return index === undefined ? undefined : Number(index);
  }

  // --- members ---------------------------------------------------------------------------------------------------------------

  #place(address: bigint, type: Type, path: string): { address: bigint; type: Type } | undefined {
    const member = this.#source.types.member(type, path);
    return member && { address: BigInt.asUintN(64, address + BigInt(member.offset)), type: member.type };
  }

  #offset(path: string): number | undefined {
    return this.#source.types.member(this.#channel, path)?.offset;
  }

  #field(address: bigint, type: Type, path: string): bigint | undefined {
    const place = this.#place(address, type, path);
    const size = place ? sizeOf(place.type) : 0;
    const kind = place && plain(place.type).kind;
    if (!place || kind === 'struct' || kind === 'union' || kind === 'array') return undefined;
    return size === 1 || size === 2 || size === 4 || size === 8 ? this.#number(place.address, size) : undefined;
  }

  /** An enumeration's value by its name. */
  #named(address: bigint, type: Type, path: string): string | undefined {
    const value = this.#field(address, type, path);
    const place = this.#place(address, type, path);
    const t = place && plain(place.type);
    if (value === undefined || !t) return undefined;
    return t.kind === 'enum' ? (t.values.find((v) => v.value === value)?.name ?? String(value)) : String(value);
  }

  #bytes(address: bigint, size: number): Uint8Array | undefined {
    return this.#source.read(BigInt.asUintN(64, address), size);
  }

  #number(address: bigint, size: 1 | 2 | 4 | 8): bigint | undefined {
    const bytes = this.#bytes(address, size);
    if (!bytes) return undefined;
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]);
    return value;
  }
}
