/**
 * What the host can ask of a running guest through its integration services and dynamic memory: types only, the devices
 * implement them. A request is made between slices; false means that the guest's end is not there (or busy, where that is
 * said). What came of it is a `service` event of the trace and part of the device's inspect tree. Text that cannot be a request
 * (a key that is too long) throws `ConfigError`.
 */
import type { CopyRequest } from '../config.ts';

export type ShutdownKind = 'shutdown' | 'restart' | 'hibernate';

export interface ShutdownService {
  /** `force`: the guest's programs are not asked. False also while an earlier request has no answer. */
  request(kind: ShutdownKind, force?: boolean): boolean;
}

export interface TimesyncService {
  /** The guest sets its clock by the host's, as after the machine was paused or restored. */
  sync(): boolean;
}

/** Key-value pools in the order of their numbers: who writes what (include/uapi/linux/hyperv.h, enum hv_kvp_exchg_pool). */
export const KVP_POOLS = ['external', 'guest', 'auto', 'auto-external', 'auto-internal'] as const;
export type KvpPool = (typeof KVP_POOLS)[number];

/** A number is a dword, a bigint a qword. The guest keeps and returns them as text. */
export type KvpValue = string | number | bigint;

export interface KvpItem {
  pool: KvpPool;
  key: string;
  value: string;
}

/** The IP configuration of one of the guest's network adapters. */
export interface IpSettings {
  /** To set: the adapter's VMBus instance id in braces. To get: its MAC address, as in `00:15:5D:01:02:03`. */
  adapter: string;
  dhcp: boolean;
  /** Lists are separated by `;`, as in the protocol. */
  addresses: string;
  subnets: string;
  gateways: string;
  dns: string;
}

export interface KvpService {
  /** What the guest has last told of its pools, and what the host has set in them. */
  items(): KvpItem[];
  /** Sets an item. Of the pools `external` and `auto-external` it is kept, and set whenever a guest's service comes up. */
  set(pool: KvpPool, key: string, value: KvpValue): boolean;
  delete(pool: KvpPool, key: string): boolean;
  /** Asks for one item: a `service` event has it. */
  get(pool: KvpPool, key: string): boolean;
  /** Asks for all items again: of one pool, or of all that the guest fills. */
  refresh(pool?: KvpPool): boolean;
  getIp(adapter: string): boolean;
  setIp(settings: IpSettings): boolean;
}

export interface VssService {
  /** Checks that the guest can be backed up while it runs, and freezes its file systems. */
  freeze(): boolean;
  thaw(): boolean;
}

export interface FcopyService {
  /** Copies a file into the guest, after those asked for earlier; it waits for a guest whose service is not up yet. */
  copy(request: CopyRequest): void;
  /** Gives up what is not copied yet; how many files. */
  cancel(): number;
}

export interface MemoryService {
  /** The guest is to have `mib` MiB: balloons the rest, or gives it back. In steps of 2 MiB. False also while a change is under way. */
  setTarget(mib: number): boolean;
  /** Adds `mib` MiB, a multiple of what the guest's alignment says, below the machine's `maxMemory`. */
  hotAdd(mib: number): boolean;
}

export interface Services {
  readonly shutdown: ShutdownService;
  readonly timesync: TimesyncService;
  readonly kvp: KvpService;
  readonly vss: VssService;
  readonly fcopy: FcopyService;
  readonly balloon: MemoryService;
}
