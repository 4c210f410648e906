/** Makes BTF sections for tests (Linux, Documentation/bpf/btf.rst). */

export class BtfBlob {
  readonly #strings: Buffer[] = [];
  readonly #offsets = new Map<string, number>();
  #stringSize = 0;
  readonly #types: number[][] = [];
  readonly #firstId: number;
  readonly #firstString: number;

  /** `base`: of split BTF, what it goes on from. */
  constructor(base?: BtfBlob) {
    this.#firstId = base ? base.nextId : 1;
    this.#firstString = base ? base.stringEnd : 0;
    if (!base) this.string('');
  }

  get nextId(): number {
    return this.#firstId + this.#types.length;
  }
  get stringEnd(): number {
    return this.#firstString + this.#stringSize;
  }

  string(text: string): number {
    if (text === '' && this.#firstString > 0) return 0;
    const known = this.#offsets.get(text);
    if (known !== undefined) return known;
    const at = this.#firstString + this.#stringSize;
    const bytes = Buffer.from(`${text}\0`, 'latin1');
    this.#strings.push(bytes);
    this.#stringSize += bytes.length;
    this.#offsets.set(text, at);
    return at;
  }

  #add(name: string, kind: number, vlen: number, flag: boolean, size: number, words: number[] = []): number {
    this.#types.push([this.string(name), ((flag ? 1 << 31 : 0) | (kind << 24) | vlen) >>> 0, size >>> 0, ...words]);
    return this.nextId - 1;
  }

  int(name: string, size: number, encoding = 0): number {
    return this.#add(name, 1, 0, false, size, [((encoding << 24) | (size * 8)) >>> 0]);
  }
  pointer(to: number): number {
    return this.#add('', 2, 0, false, to);
  }
  array(element: number, count: number): number {
    return this.#add('', 3, 0, false, 0, [element, element, count]);
  }
  /** Members: name, type, bit offset, width of a bit-field. */
  struct(name: string, size: number, members: [string, number, number, number?][], union = false): number {
    const flag = members.some((m) => m[3] !== undefined);
    const words = members.flatMap(([n, type, bit, width = 0]) => [
      this.string(n),
      type,
      flag ? ((width << 24) | bit) >>> 0 : bit,
    ]);
    return this.#add(name, union ? 5 : 4, members.length, flag, size, words);
  }
  enumeration(name: string, values: [string, number][], signed = false): number {
    return this.#add(
      name,
      6,
      values.length,
      signed,
      4,
      values.flatMap(([n, v]) => [this.string(n), v >>> 0]),
    );
  }
  forward(name: string, union = false): number {
    return this.#add(name, 7, 0, union, 0);
  }
  /** typedef 8, volatile 9, const 10, restrict 11, func 12, var 14, type tag 18. */
  named(kind: number, name: string, type: number): number {
    return this.#add(name, kind, 0, false, type, kind === 14 ? [1] : []);
  }
  prototype(result: number, parameters: [string, number][]): number {
    return this.#add(
      '',
      13,
      parameters.length,
      false,
      result,
      parameters.flatMap(([n, t]) => [this.string(n), t]),
    );
  }
  section(name: string, variables: [type: number, offset: number, size: number][]): number {
    return this.#add(name, 15, variables.length, false, 0, variables.flat());
  }

  /** Makes the id of a type that is not there yet: fixes word `word` after the common part of type `id`. */
  patch(id: number, word: number, value: number): void {
    this.#types[id - this.#firstId][word] = value >>> 0;
  }

  bytes(): Uint8Array {
    const types = Buffer.from(Uint32Array.from(this.#types.flat()).buffer);
    const strings = Buffer.concat(this.#strings);
    const header = Buffer.alloc(24);
    header.writeUInt16LE(0xeb9f, 0);
    header[2] = 1;
    header.writeUInt32LE(24, 4);
    header.writeUInt32LE(types.length, 12);
    header.writeUInt32LE(types.length, 16);
    header.writeUInt32LE(strings.length, 20);
    return new Uint8Array(Buffer.concat([header, types, strings]));
  }
}
