/**
 * The kernel's own objects, read by the names that the kernel's types give: the layout is whatever this kernel has. All of it is guest
 * memory: what cannot be read is undefined, and walks are bounded.
 */
import { viewOf } from '../../emulator/base/struct.ts';
import { readString, readU64, type VirtualReader } from '../symbols/memory.ts';
import type { Catalog, Variable } from '../types/catalog.ts';
import { type BitField, type EnumType, findMember, MAX_NESTING, plain, sizeOf, type Type } from '../types/model.ts';
import type { GuestKernel } from './kernel.ts';
import { typesOf } from './types.ts';

/** A member of a struct: where it is, and what. */
export interface Field {
  readonly offset: number;
  readonly type: Type;
  readonly bits?: BitField;
}

/** Elements of a list that are walked to, at most. */
export const MAX_ELEMENTS = 10_000;
const MAX_STRING = 4096;

/** True for an address in the kernel's half. */
export const isKernelAddress = (address: bigint | undefined): address is bigint =>
  address !== undefined && address >> 52n === 0xfffn;

const address64 = (address: bigint): bigint => BigInt.asUintN(64, address);

export class KernelObjects {
  readonly kernel: GuestKernel;
  readonly vp: number;
  readonly types: Catalog;
  readonly read: VirtualReader;
  readonly #fields = new Map<string, Field | undefined>();

  /** Objects of `kernel` as `vp` sees memory; with types and memory of another origin, where these are given. */
  constructor(kernel: GuestKernel, vp: number, from?: { types: Catalog; read: VirtualReader }) {
    this.kernel = kernel;
    this.vp = vp;
    this.types = from?.types ?? typesOf(kernel, vp);
    this.read = from?.read ?? kernel.reader(vp);
  }

  /** The member that the first of `paths` (`desc_ring.descs`) names which this kernel has. */
  field(struct: string, ...paths: string[]): Field | undefined {
    for (const path of paths) {
      const key = `${struct}.${path}`;
      if (!this.#fields.has(key)) this.#fields.set(key, this.#find(struct, path));
      const found = this.#fields.get(key);
      if (found) return found;
    }
    return undefined;
  }

  #find(struct: string, path: string): Field | undefined {
    const type = this.types.find('struct', struct);
    let at: Field | undefined = type && { offset: 0, type };
    for (const name of path.split('.').slice(0, MAX_NESTING)) {
      const t = at && this.types.resolve(at.type);
      const inner = t && (t.kind === 'struct' || t.kind === 'union') ? findMember(t, name) : undefined;
      at = at && inner && { offset: at.offset + inner.offset, type: inner.type, ...(inner.bits ? { bits: inner.bits } : {}) };
    }
    return at;
  }

  /** Size of a struct in bytes; undefined when this kernel has none of that name. */
  size(struct: string): number | undefined {
    const type = this.types.find('struct', struct);
    return type && sizeOf(type);
  }

  /** The number in a member of the struct at `address`; of one that is a struct (`atomic_t`) its first bytes. */
  number(address: bigint, struct: string, ...paths: string[]): bigint | undefined {
    const field = this.field(struct, ...paths);
    return field && this.value(address, field);
  }

  value(address: bigint, field: Field): bigint | undefined {
    const t = this.types.resolve(field.type);
    const size = field.bits ? Math.ceil((field.bits.at + field.bits.size) / 8) : Math.min(8, sizeOf(t));
    const bytes = size > 0 ? this.read(address64(address + BigInt(field.offset)), size) : undefined;
    if (!bytes) return undefined;
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]);
    if (field.bits) return BigInt.asUintN(field.bits.size, value >> BigInt(field.bits.at));
    return (t.kind === 'base' || t.kind === 'enum') && t.signed ? BigInt.asIntN(size * 8, value) : value;
  }

  /** A pointer into the kernel's half; undefined for NULL and everything else. */
  pointer(address: bigint, struct: string, ...paths: string[]): bigint | undefined {
    const value = this.number(address, struct, ...paths);
    return isKernelAddress(value) ? value : undefined;
  }

  /** Address of a member. */
  at(address: bigint, struct: string, ...paths: string[]): bigint | undefined {
    const field = this.field(struct, ...paths);
    return field && address64(address + BigInt(field.offset));
  }

  /** Text in a char array, or that a char pointer points to. */
  text(address: bigint, struct: string, ...paths: string[]): string | undefined {
    const field = this.field(struct, ...paths);
    if (!field) return undefined;
    const t = this.types.resolve(field.type);
    if (t.kind === 'array') {
      const bytes = this.read(address64(address + BigInt(field.offset)), Math.min(sizeOf(t), MAX_STRING));
      if (!bytes) return undefined;
      const end = bytes.indexOf(0);
      return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8');
    }
    const to = this.value(address, field);
    return isKernelAddress(to) ? this.string(to) : undefined;
  }

  /** NUL-terminated text. */
  string(address: bigint, max = MAX_STRING): string | undefined {
    const text = readString(this.read, address, max);
    return text === undefined ? undefined : Buffer.from(text, 'latin1').toString('utf8');
  }

  u64(address: bigint): bigint | undefined {
    return readU64(this.read, address64(address));
  }

  u32(address: bigint): number | undefined {
    const bytes = this.read(address64(address), 4);
    return bytes && viewOf(bytes).getUint32(0, true);
  }

  /** Name of an enumerator of a member's type. */
  enumerator(value: bigint, struct: string, path: string): string | undefined {
    const field = this.field(struct, path);
    const t = field && plain(field.type);
    return t?.kind === 'enum' ? (t as EnumType).values.find((v) => v.value === value)?.name : undefined;
  }

  variable(name: string): Variable | undefined {
    return this.types.variable(name);
  }

  /**
   * Structs that the list at `head` links by `member` (include/linux/types.h, struct list_head), in order; ends where a link cannot be
   * read or has been seen.
   */
  *list(head: bigint, struct: string, ...members: string[]): Generator<bigint> {
    const link = this.field(struct, ...members);
    if (!link) return;
    const seen = new Set<bigint>([head]);
    let at = this.u64(head);
    while (isKernelAddress(at) && !seen.has(at) && seen.size <= MAX_ELEMENTS) {
      seen.add(at);
      yield address64(at - BigInt(link.offset));
      at = this.u64(at);
    }
  }
}
