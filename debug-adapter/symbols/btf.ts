/**
 * BTF (Linux, Documentation/bpf/btf.rst): the type information that distribution kernels carry in memory. This file knows the
 * records; types/btf-types.ts makes C types of them. The bytes are the guest's: every offset and id is checked.
 */
const HEADER = 24;
const MAGIC = 0xeb9f;

export const BTF_KIND = {
  INT: 1,
  PTR: 2,
  ARRAY: 3,
  STRUCT: 4,
  UNION: 5,
  ENUM: 6,
  FWD: 7,
  TYPEDEF: 8,
  VOLATILE: 9,
  CONST: 10,
  RESTRICT: 11,
  FUNC: 12,
  FUNC_PROTO: 13,
  VAR: 14,
  DATASEC: 15,
  FLOAT: 16,
  DECL_TAG: 17,
  TYPE_TAG: 18,
  ENUM64: 19,
} as const;
const KIND = BTF_KIND;

/** Bytes after the 12 common ones, by kind, for `vlen` members. */
function tail(kind: number, vlen: number): number {
  switch (kind) {
    case KIND.INT:
    case KIND.VAR:
    case KIND.DECL_TAG:
      return 4;
    case KIND.ARRAY:
      return 12;
    case KIND.STRUCT:
    case KIND.UNION:
    case KIND.DATASEC:
    case KIND.ENUM64:
      return 12 * vlen;
    case KIND.ENUM:
    case KIND.FUNC_PROTO:
      return 8 * vlen;
    default:
      return 0;
  }
}

/** Types and bytes that a section may have: more than any kernel's, and a bound for what is not one. */
const MAX_TYPES = 4 << 20;
const MAX_HOPS = 32;
const MAX_DEPTH = 8;

/** BTF that cannot be right. */
export class BtfError extends Error {}

export interface Member {
  name: string;
  /** Bytes from the start of the struct that was asked for. */
  offset: number;
  /** Bytes; 0 when unknown. */
  size: number;
}

/** The common part of a type's record. */
export interface BtfRecord {
  readonly kind: number;
  readonly name: string;
  readonly vlen: number;
  readonly flag: boolean;
  /** Size in bytes or id of another type, as the kind has it. */
  readonly size: number;
}

export class Btf {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #buffer: Buffer;
  /** Of split BTF: what its ids and strings go on from. */
  readonly #base: Btf | undefined;
  /** Offset of each of its own types; id 0 is void. */
  readonly #types: Int32Array;
  readonly #firstId: number;
  readonly #strings: number;
  readonly #stringSize: number;
  readonly #firstString: number;
  readonly #found = new Map<string, number>();

  /** `bytes` starts with the BTF header. `base`: the kernel's, for a module's. Throws BtfError on a malformed section. */
  constructor(bytes: Uint8Array, base?: Btf) {
    this.#bytes = bytes;
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#base = base;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = view;
    if (bytes.length < HEADER || view.getUint16(0, true) !== MAGIC) throw new BtfError('no BTF header');
    const header = view.getUint32(4, true);
    const types = header + view.getUint32(8, true);
    const end = types + view.getUint32(12, true);
    this.#strings = header + view.getUint32(16, true);
    this.#stringSize = view.getUint32(20, true);
    if (header < HEADER || end > bytes.length || this.#strings + this.#stringSize > bytes.length)
      throw new BtfError('BTF is truncated');
    this.#firstId = base ? base.count : 0;
    this.#firstString = base ? base.#firstString + base.#stringSize : 0;
    const offsets = new Int32Array(Math.min(MAX_TYPES, Math.floor((end - types) / 12) + 1));
    let n = base ? 0 : 1;
    for (let at = types; at < end; n++) {
      const info = at + 12 <= end ? view.getUint32(at + 4, true) : 0;
      const kind = (info >>> 24) & 0x1f;
      const next = at + 12 + tail(kind, info & 0xffff);
      if (next > end || kind === 0 || kind > KIND.ENUM64 || n >= offsets.length)
        throw new BtfError(`BTF type ${this.#firstId + n} at 0x${at.toString(16)} is malformed`);
      offsets[n] = at;
      at = next;
    }
    this.#types = offsets.slice(0, n);
  }

  /** The BTF section inside an image of the kernel. */
  static find(image: Uint8Array): Btf | undefined {
    const buffer = Buffer.from(image.buffer, image.byteOffset, image.byteLength);
    // magic 0xeb9f, version 1, flags 0, header length 24, types right after the header
    const start = Buffer.from([0x9f, 0xeb, 1, 0, HEADER, 0, 0, 0, 0, 0, 0, 0]);
    for (let at = buffer.indexOf(start); at >= 0; at = buffer.indexOf(start, at + 4)) {
      if (at + HEADER > image.length) return undefined;
      const view = new DataView(image.buffer, image.byteOffset + at, image.byteLength - at);
      const size = HEADER + view.getUint32(16, true) + view.getUint32(20, true);
      if (view.getUint32(12, true) <= 0x10000 || at + size > image.length) continue;
      try {
        return new Btf(image.slice(at, at + size));
      } catch (e) {
        if (!(e instanceof BtfError)) throw e;
      }
    }
    return undefined;
  }

  /** One more than the highest id. */
  get count(): number {
    return this.#firstId + this.#types.length;
  }
  /** The first id that is this section's own: those below are the base's. */
  get firstId(): number {
    return this.#base ? this.#firstId : 1;
  }

  #part(id: number): Btf {
    return this.#base && id < this.#firstId ? this.#base : this;
  }
  /** Offset of a type's record in its section, undefined for void and for ids that there are not. */
  #at(id: number): number | undefined {
    return id > 0 ? this.#types[id - this.#firstId] : undefined;
  }

  /** What a type's record says; undefined for void and for ids that there are not. */
  record(id: number): BtfRecord | undefined {
    const part = this.#part(id);
    const at = part.#at(id);
    if (at === undefined) return undefined;
    const info = part.#view.getUint32(at + 4, true);
    return {
      kind: (info >>> 24) & 0x1f,
      name: this.#string(part.#view.getUint32(at, true)),
      vlen: info & 0xffff,
      flag: info >>> 31 === 1,
      size: part.#view.getUint32(at + 8, true),
    };
  }

  /** Word `index` after the common part of a type's record; 0 beyond its end. */
  word(id: number, index: number): number {
    const part = this.#part(id);
    const at = part.#at(id);
    if (at === undefined) return 0;
    const info = part.#view.getUint32(at + 4, true);
    return 4 * index < tail((info >>> 24) & 0x1f, info & 0xffff) ? part.#view.getUint32(at + 12 + 4 * index, true) : 0;
  }

  /** Name whose offset is word `index` after the common part. */
  wordName(id: number, index: number): string {
    return this.#string(this.word(id, index));
  }

  #string(offset: number): string {
    if (this.#base && offset < this.#firstString) return this.#base.#string(offset);
    const local = offset - this.#firstString;
    if (local < 0 || local >= this.#stringSize) return '';
    const start = this.#strings + local;
    const end = this.#bytes.indexOf(0, start);
    return this.#buffer.toString('latin1', start, end < 0 ? start : Math.min(end, this.#strings + this.#stringSize));
  }

  /** Offset of a string, as records have it; undefined when nothing has this name. */
  #offsetOf(name: string): number | undefined {
    const inBase = this.#base ? this.#base.#offsetOf(name) : undefined;
    if (inBase !== undefined) return inBase;
    const wanted = Buffer.from(`\0${name}\0`, 'latin1');
    const at = this.#buffer.subarray(this.#strings, this.#strings + this.#stringSize).indexOf(wanted);
    return at < 0 ? undefined : this.#firstString + at + 1;
  }

  /** Id of the first of this section's own types that is of one of `kinds` and has this name; 0 when there is none. */
  find(name: string, ...kinds: number[]): number {
    const key = `${kinds.join()} ${name}`;
    const known = this.#found.get(key);
    if (known !== undefined) return known;
    const found = this.#search(name, kinds);
    this.#found.set(key, found);
    return found;
  }
  #search(name: string, kinds: readonly number[]): number {
    const offset = name === '' ? undefined : this.#offsetOf(name);
    if (offset === undefined) return 0;
    const view = this.#view;
    for (let i = this.#base ? 0 : 1; i < this.#types.length; i++)
      if (
        view.getUint32(this.#types[i], true) === offset &&
        kinds.includes((view.getUint32(this.#types[i] + 4, true) >>> 24) & 0x1f)
      )
        return this.#firstId + i;
    return 0;
  }

  /** This section's own types of one kind. */
  *ids(kind: number): Generator<number> {
    for (let i = this.#base ? 0 : 1; i < this.#types.length; i++)
      if (((this.#view.getUint32(this.#types[i] + 4, true) >>> 24) & 0x1f) === kind) yield this.#firstId + i;
  }

  /** Enumerators of this section's own enumerations: which of whose values, and where the name is in the strings. */
  *#enumerators(): Generator<{ id: number; index: number; name: number }> {
    for (const [kind, words] of [
      [KIND.ENUM, 2],
      [KIND.ENUM64, 3],
    ] as const)
      for (const id of this.ids(kind)) {
        const at = this.#types[id - this.#firstId];
        const vlen = this.#view.getUint32(at + 4, true) & 0xffff;
        for (let index = 0; index < vlen; index++)
          yield { id, index, name: this.#view.getUint32(at + 12 + 4 * words * index, true) };
      }
  }

  /** The enumeration of this section that has an enumerator, and which of its values that is. */
  enumerator(name: string): { id: number; index: number } | undefined {
    const offset = name === '' ? undefined : this.#offsetOf(name);
    if (offset === undefined) return undefined;
    for (const e of this.#enumerators()) if (e.name === offset) return { id: e.id, index: e.index };
    return undefined;
  }

  /** Names of enumerators that start with `prefix`, at most `limit`. */
  enumeratorsWith(prefix: string, limit: number): string[] {
    const out = new Set<string>();
    for (const e of this.#enumerators()) {
      if (out.size >= limit) break;
      const name = this.#string(e.name);
      if (name.startsWith(prefix)) out.add(name);
    }
    return [...out];
  }

  /** Names of this section's own types of these kinds that start with `prefix`, at most `limit`, in the order of the section. */
  complete(prefix: string, limit: number, ...kinds: number[]): string[] {
    const out = new Set<string>();
    for (let i = this.#base ? 0 : 1; i < this.#types.length && out.size < limit; i++) {
      if (!kinds.includes((this.#view.getUint32(this.#types[i] + 4, true) >>> 24) & 0x1f)) continue;
      const name = this.#string(this.#view.getUint32(this.#types[i], true));
      if (name !== '' && name.startsWith(prefix)) out.add(name);
    }
    return [...out];
  }

  // --- struct members by name, for those who read one struct of the kernel --------------------------------------------------

  /** Follows typedefs and qualifiers. */
  #resolve(id: number): number {
    for (let hops = 0; hops < MAX_HOPS && id > 0; hops++) {
      const record = this.record(id);
      switch (record?.kind) {
        case undefined:
          return 0;
        case KIND.TYPEDEF:
        case KIND.VOLATILE:
        case KIND.CONST:
        case KIND.RESTRICT:
        case KIND.TYPE_TAG:
          id = record.size;
          break;
        default:
          return id;
      }
    }
    return 0;
  }

  #size(id: number, depth = 0): number {
    const type = this.#resolve(id);
    const record = this.record(type);
    switch (record?.kind) {
      case KIND.ARRAY:
        return depth > MAX_DEPTH ? 0 : this.#size(this.word(type, 0), depth + 1) * this.word(type, 2);
      case KIND.PTR:
        return 8;
      case KIND.INT:
      case KIND.STRUCT:
      case KIND.UNION:
      case KIND.ENUM:
      case KIND.ENUM64:
        return record.size;
      default:
        return 0;
    }
  }

  /** Members of `struct name`, those of anonymous structs and unions inside it included, in order. */
  members(name: string): Member[] | undefined {
    const id = this.find(name, KIND.STRUCT);
    return id === 0 ? undefined : this.#membersOf(id, 0, 0);
  }

  #membersOf(id: number, base: number, depth: number): Member[] {
    const out: Member[] = [];
    const record = this.record(id);
    for (let i = 0; i < (record?.vlen ?? 0); i++) {
      const type = this.word(id, 3 * i + 1);
      const raw = this.word(id, 3 * i + 2);
      // With the kind flag, bits 31:24 are a bit-field's width.
      const offset = base + ((record?.flag ? raw & 0xffffff : raw) >>> 3);
      const member = this.wordName(id, 3 * i);
      const target = this.#resolve(type);
      const kind = this.record(target)?.kind;
      if (member === '' && (kind === KIND.STRUCT || kind === KIND.UNION) && depth < MAX_DEPTH)
        out.push(...this.#membersOf(target, offset, depth + 1));
      else out.push({ name: member, offset, size: this.#size(type) });
    }
    return out;
  }
}
