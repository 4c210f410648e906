/**
 * Layouts from BTF (Linux, Documentation/bpf/btf.rst): the type information that distribution kernels carry in memory.
 * Only what is needed to find a member of a struct.
 */
const HEADER = 24;
const KIND = {
  INT: 1,
  ARRAY: 3,
  STRUCT: 4,
  UNION: 5,
  ENUM: 6,
  TYPEDEF: 8,
  VOLATILE: 9,
  CONST: 10,
  RESTRICT: 11,
  FUNC_PROTO: 13,
  VAR: 14,
  DATASEC: 15,
  DECL_TAG: 17,
  TYPE_TAG: 18,
  ENUM64: 19,
};

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

export interface Member {
  name: string;
  /** Bytes from the start of the struct that was asked for. */
  offset: number;
  /** Bytes; 0 when unknown. */
  size: number;
}

export class Btf {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  /** Offset of each type by id; id 0 is void. */
  readonly #types: number[] = [0];
  readonly #strings: number;

  /** `bytes` starts with the BTF header. Throws on a malformed section. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = view;
    const types = HEADER + view.getUint32(8, true);
    const end = types + view.getUint32(12, true);
    this.#strings = HEADER + view.getUint32(16, true);
    if (end > bytes.length || this.#strings + view.getUint32(20, true) > bytes.length) throw new Error('BTF is truncated');
    for (let at = types; at < end; ) {
      this.#types.push(at);
      const info = view.getUint32(at + 4, true);
      at += 12 + tail((info >>> 24) & 0x1f, info & 0xffff);
    }
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
      if (view.getUint32(12, true) > 0x10000 && at + size <= image.length) return new Btf(image.slice(at, at + size));
    }
    return undefined;
  }

  #string(offset: number): string {
    const start = this.#strings + offset;
    const end = this.#bytes.indexOf(0, start);
    return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + start, Math.max(0, end - start)).toString('latin1');
  }
  #kind(id: number): number {
    return (this.#view.getUint32(this.#types[id] + 4, true) >>> 24) & 0x1f;
  }

  /** Follows typedefs and qualifiers. */
  #resolve(id: number): number {
    for (let hops = 0; hops < 32 && id > 0 && id < this.#types.length; hops++) {
      const kind = this.#kind(id);
      const alias =
        kind === KIND.TYPEDEF ||
        kind === KIND.VOLATILE ||
        kind === KIND.CONST ||
        kind === KIND.RESTRICT ||
        kind === KIND.TYPE_TAG;
      if (!alias) return id;
      id = this.#view.getUint32(this.#types[id] + 8, true);
    }
    return 0;
  }

  #size(id: number, depth = 0): number {
    const type = this.#resolve(id);
    if (type === 0 || depth > 8) return 0;
    const at = this.#types[type];
    const kind = this.#kind(type);
    if (kind === KIND.ARRAY)
      return this.#size(this.#view.getUint32(at + 12, true), depth + 1) * this.#view.getUint32(at + 20, true);
    if (kind === 2) return 8; // pointer
    return kind === KIND.INT || kind === KIND.STRUCT || kind === KIND.UNION || kind === KIND.ENUM || kind === KIND.ENUM64
      ? this.#view.getUint32(at + 8, true)
      : 0;
  }

  /** Members of `struct name`, those of anonymous structs and unions inside it included, in order. */
  members(name: string): Member[] | undefined {
    const wanted = Buffer.from(`${name}\0`, 'latin1');
    for (let id = 1; id < this.#types.length; id++) {
      if (this.#kind(id) !== KIND.STRUCT) continue;
      const at = this.#strings + this.#view.getUint32(this.#types[id], true);
      if (wanted.every((byte, i) => this.#bytes[at + i] === byte)) return this.#membersOf(id, 0, 0);
    }
    return undefined;
  }

  #membersOf(id: number, base: number, depth: number): Member[] {
    const out: Member[] = [];
    const at = this.#types[id];
    const info = this.#view.getUint32(at + 4, true);
    for (let i = 0; i < (info & 0xffff); i++) {
      const m = at + 12 + 12 * i;
      const type = this.#view.getUint32(m + 4, true);
      const raw = this.#view.getUint32(m + 8, true);
      // With the kind flag, bits 31:24 are a bit-field's width.
      const offset = base + ((info >>> 31 ? raw & 0xffffff : raw) >>> 3);
      const member = this.#string(this.#view.getUint32(m, true));
      const target = this.#resolve(type);
      const compound = target > 0 && (this.#kind(target) === KIND.STRUCT || this.#kind(target) === KIND.UNION);
      if (member === '' && compound && depth < 8) out.push(...this.#membersOf(target, offset, depth + 1));
      else out.push({ name: member, offset, size: this.#size(type) });
    }
    return out;
  }
}
