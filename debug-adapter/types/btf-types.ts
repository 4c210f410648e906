/** C types from BTF: the kernel's, or a module's that goes on from it. */
import { BTF_KIND as KIND, type Btf } from '../symbols/btf.ts';
import type { Constant, Tag, TypeSource, VariableType } from './catalog.ts';
import {
  arrayOf,
  compound,
  type Enumerator,
  enumeration,
  functionType,
  type Member,
  type Parameter,
  pointerTo,
  qualified,
  type Type,
  toldBaseType,
  typedef,
  VOID,
} from './model.ts';

/** Encoding bits of BTF_KIND_INT. */
const INT = { SIGNED: 1, CHAR: 2, BOOL: 4 };

/** A bit-field by its bit offset in the struct and its width: the byte it starts in, and the bit there. */
const bitField = (bit: number, size: number) => ({ offset: bit >>> 3, bits: { at: bit & 7, size } });

const TAG_KINDS: Record<Tag, readonly number[]> = {
  struct: [KIND.STRUCT],
  union: [KIND.UNION],
  enum: [KIND.ENUM, KIND.ENUM64],
  typedef: [KIND.TYPEDEF],
};

export class BtfTypes implements TypeSource {
  readonly module: string | undefined;
  readonly #btf: Btf;
  readonly #base: BtfTypes | undefined;
  readonly #types = new Map<number, Type>();
  #perCpu: Map<string, { type: number; offset: number }> | undefined;

  constructor(btf: Btf, module?: string, base?: BtfTypes) {
    this.#btf = btf;
    this.module = module;
    this.#base = base;
  }

  /** The type with an id; void for 0 and for ids that there are not. */
  type(id: number): Type {
    // Types of the kernel are the same objects for all modules.
    if (this.#base && id < this.#btf.firstId) return this.#base.type(id);
    let type = this.#types.get(id);
    if (!type) {
      type = this.#make(id);
      this.#types.set(id, type);
    }
    return type;
  }

  #make(id: number): Type {
    const record = this.#btf.record(id);
    if (!record) return VOID;
    const { kind, name, size, vlen, flag } = record;
    const named = name === '' ? undefined : name;
    const other = () => this.type(size);
    switch (kind) {
      case KIND.INT: {
        const encoding = this.#btf.word(id, 0) >>> 24;
        const what = encoding & INT.BOOL ? 'boolean' : name === 'char' || encoding & INT.CHAR ? 'character' : 'integer';
        return toldBaseType(name, legal(size), what, (encoding & INT.SIGNED) !== 0);
      }
      case KIND.FLOAT:
        return toldBaseType(name, legal(size), 'float', true);
      case KIND.PTR:
        return pointerTo(other);
      case KIND.ARRAY: {
        const count = this.#btf.word(id, 2);
        // BTF has no other way to say that an array is flexible, and gcc's zero-length arrays mean the same.
        return arrayOf(() => this.type(this.#btf.word(id, 0)), count === 0 ? undefined : count);
      }
      case KIND.STRUCT:
      case KIND.UNION:
        return compound(kind === KIND.STRUCT ? 'struct' : 'union', named, size, () => this.#members(id, vlen, flag));
      case KIND.FWD:
        return { kind: flag ? 'union' : 'struct', name: named, size: 0, members: [], incomplete: true };
      case KIND.ENUM:
        return enumeration(named, legal(size), flag, () =>
          Array.from({ length: vlen }, (_, i): Enumerator => {
            const raw = this.#btf.word(id, 2 * i + 1);
            return { name: this.#btf.wordName(id, 2 * i), value: BigInt(flag ? raw | 0 : raw) };
          }),
        );
      case KIND.ENUM64:
        return enumeration(named, legal(size), flag, () =>
          Array.from({ length: vlen }, (_, i): Enumerator => {
            const raw = (BigInt(this.#btf.word(id, 3 * i + 2)) << 32n) | BigInt(this.#btf.word(id, 3 * i + 1));
            return { name: this.#btf.wordName(id, 3 * i), value: flag ? BigInt.asIntN(64, raw) : raw };
          }),
        );
      case KIND.TYPEDEF:
        return typedef(name, other);
      case KIND.VOLATILE:
        return qualified('volatile', other);
      case KIND.CONST:
        return qualified('const', other);
      case KIND.RESTRICT:
        return qualified('restrict', other);
      case KIND.TYPE_TAG:
      case KIND.FUNC:
      case KIND.VAR:
        // Something with a name or an attribute and a type: the type. A chain of them is bounded by the ids being finite only
        // where it goes down; a loop is void.
        return this.#through(id);
      case KIND.FUNC_PROTO: {
        const at = (i: number) => ({ name: this.#btf.wordName(id, 2 * i), type: this.#btf.word(id, 2 * i + 1) });
        const last = vlen > 0 ? at(vlen - 1) : undefined;
        const variadic = last !== undefined && last.name === '' && last.type === 0;
        const parameters = () =>
          Array.from({ length: variadic ? vlen - 1 : vlen }, (_, i): Parameter => {
            const p = at(i);
            return { name: p.name === '' ? undefined : p.name, type: this.type(p.type) };
          });
        return functionType(other, parameters, variadic);
      }
      default:
        return VOID;
    }
  }

  #through(id: number): Type {
    for (let hops = 0; hops < 32; hops++) {
      const record = this.#btf.record(id);
      if (record?.kind !== KIND.TYPE_TAG && record?.kind !== KIND.FUNC && record?.kind !== KIND.VAR) return this.type(id);
      id = record.size;
    }
    return VOID;
  }

  #members(id: number, vlen: number, flag: boolean): Member[] {
    return Array.from({ length: vlen }, (_, i): Member => {
      const raw = this.#btf.word(id, 3 * i + 2);
      const type = this.type(this.#btf.word(id, 3 * i + 1));
      const name = this.#btf.wordName(id, 3 * i);
      const width = flag ? raw >>> 24 : 0;
      if (width > 0) return { name, type, ...bitField(raw & 0xffffff, width) };
      return { name, type, offset: (flag ? raw & 0xffffff : raw) >>> 3 };
    });
  }

  find(tag: Tag, name: string): Type | undefined {
    const id = this.#btf.find(name, ...TAG_KINDS[tag]);
    if (id !== 0) return this.type(id);
    // Only declared here: pointers to it can be cast all the same.
    const declared = this.#btf.find(name, KIND.FWD);
    const isUnion = declared !== 0 && this.#btf.record(declared)?.flag === true;
    return declared !== 0 && tag === (isUnion ? 'union' : 'struct') ? this.type(declared) : undefined;
  }

  constant(name: string): Constant | undefined {
    const found = this.#btf.enumerator(name);
    const type = found && this.type(found.id);
    const value = type?.kind === 'enum' ? type.values[found?.index ?? 0]?.value : undefined;
    return type === undefined || value === undefined ? undefined : { type, value };
  }

  /** Variables have a type here when pahole put them in: those of .data..percpu, and all global ones in newer kernels. */
  variable(name: string): VariableType | undefined {
    const id = this.#btf.find(name, KIND.VAR);
    if (id === 0) return undefined;
    const perCpu = this.perCpuVariables().get(name);
    return { type: this.type(id), ...(perCpu ? { perCpuOffset: perCpu.offset } : {}) };
  }

  /** Per-CPU variables and where they are in the per-CPU area. */
  perCpuVariables(): ReadonlyMap<string, { type: number; offset: number }> {
    if (!this.#perCpu) {
      this.#perCpu = new Map();
      const section = this.#btf.find('.data..percpu', KIND.DATASEC);
      const vlen = section ? (this.#btf.record(section)?.vlen ?? 0) : 0;
      for (let i = 0; i < vlen; i++) {
        const variable = this.#btf.word(section, 3 * i);
        const record = this.#btf.record(variable);
        if (record?.kind === KIND.VAR)
          this.#perCpu.set(record.name, { type: record.size, offset: this.#btf.word(section, 3 * i + 1) });
      }
    }
    return this.#perCpu;
  }

  functionType(name: string): Type | undefined {
    const id = this.#btf.find(name, KIND.FUNC);
    return id === 0 ? undefined : this.type(id);
  }

  complete(tag: Tag | 'variable' | 'constant', prefix: string, limit: number): string[] {
    if (tag === 'constant') return this.#btf.enumeratorsWith(prefix, limit);
    if (tag === 'variable') return this.#btf.complete(prefix, limit, KIND.VAR);
    return this.#btf.complete(prefix, limit, ...TAG_KINDS[tag]);
  }
}

/** A size that C's scalars can have. */
const legal = (size: number): number => (size === 1 || size === 2 || size === 4 || size === 16 ? size : 8);
