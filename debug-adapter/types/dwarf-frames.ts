/** Arguments, locals and statics of frames by DWARF: which are visible, and where each is at the instruction at hand. */
import { SymbolFileError, withoutDamage } from '../symbols/byte-source.ts';
import { DW_AT, DW_TAG } from '../symbols/dwarf/constants.ts';
import type { Scope } from '../symbols/dwarf/debug-info.ts';
import type { Die } from '../symbols/dwarf/die.ts';
import { compute, type Located, locate, type Place, type Surroundings } from '../symbols/dwarf/location.ts';
import type { LoadedSymbols } from '../symbols/loaded.ts';
import type { DwarfTypes } from './dwarf-types.ts';
import { type FrameState, type FrameVariable, type FrameVariables, PieceStorage, RegisterStorage } from './frame.ts';
import { MAX_NESTING, sizeOf, type Type } from './model.ts';
import { bytesOf, ConstantStorage, MemoryStorage, NoStorage, type Storage, Value } from './value.ts';

const GONE = '<optimized out>';
/** How many callers are asked what they passed on. */
const MAX_CALLERS = 16;

export class DwarfFrames implements FrameVariables {
  readonly #types: DwarfTypes;

  constructor(types: DwarfTypes) {
    this.#types = types;
  }

  get #loaded(): LoadedSymbols {
    return this.#types.loaded;
  }

  at(frame: FrameState): FrameVariable[] | undefined {
    const address = this.#loaded.toFile(frame.pc);
    if (address === undefined) return undefined;
    const { info } = this.#loaded;
    return withoutDamage((): FrameVariable[] | undefined => {
      const scopes = info.scopes(address);
      if (scopes.length === 0) return undefined;
      const fn = functionOf(scopes);
      const around = fn && this.#surroundings(frame, address, fn);
      const own = scopes.filter((s) => s.depth === frame.inlineDepth);
      const told = new Set(own.flatMap((s) => [...originsIn(s.die)]));
      return own.flatMap((s) => this.#declared(s, told, frame, address, around));
    }, undefined);
  }

  /**
   * What a block declares. A compiler leaves out of an inlined copy what it has no use for: that is optimized out there. `told`: what it
   * did not leave out.
   */
  #declared(
    scope: Scope,
    told: ReadonlySet<number>,
    frame: FrameState,
    address: bigint,
    around: Surroundings | undefined,
  ): FrameVariable[] {
    const origin = scope.die.reference(DW_AT.abstract_origin);
    const missing = origin ? [...origin.children()].filter((c) => isVariable(c) && !told.has(c.offset)) : [];
    const all = [
      ...scope.variables.map((die) => this.#variable(die, frame, address, around)),
      ...missing.map((die) => this.#variable(die, frame, address, undefined)),
    ];
    return all.filter((v) => v !== undefined);
  }

  #variable(die: Die, frame: FrameState, address: bigint, around: Surroundings | undefined): FrameVariable | undefined {
    const { name } = die;
    if (name === undefined) return undefined;
    const type = this.#types.type(die.type());
    const declaration = this.#types.declaration(die);
    const found = (kind: FrameVariable['kind'], storage: Storage): FrameVariable => ({
      name,
      kind,
      value: new Value({ type, storage, from: name }),
      ...(declaration ? { declaration } : {}),
    });
    if (die.tag === DW_TAG.variable) {
      // One that outlives the function; `extern` in a block means the global one.
      const place = this.#types.variableOf(die) ?? (die.flag(DW_AT.declaration) ? this.#types.variable(name) : undefined);
      if (place?.address !== undefined) {
        const offset = place.perCpuOffset === undefined ? 0n : (frame.perCpuOffset ?? 0n);
        return found('static', new MemoryStorage(frame.memory, place.address + offset));
      }
      if (die.flag(DW_AT.declaration)) return undefined;
    }
    const kind = die.tag === DW_TAG.formal_parameter ? 'argument' : 'local';
    return found(kind, this.#storage(die, type, frame, address, around));
  }

  #storage(die: Die, type: Type, frame: FrameState, address: bigint, around: Surroundings | undefined): Storage {
    const constant = die.holder(DW_AT.const_value)?.attr(DW_AT.const_value);
    if (constant !== undefined) return constantStorage(constant, type);
    if (!around) return new NoStorage(GONE);
    try {
      const expression = die.expression(this.#loaded.info.elf.place(address));
      return expression ? storageOf(locate(expression, die.unit, around), frame, sizeOf(type)) : new NoStorage(GONE);
    } catch (e) {
      // What is damaged is not known, and the reader is told why.
      if (e instanceof SymbolFileError) return new NoStorage(`<${e.message}>`);
      throw e;
    }
  }

  /** What the expressions of `fn` (the function that has code of its own at `address`) are evaluated with. */
  #surroundings(frame: FrameState, address: bigint, fn: Die, depth = 0): Surroundings {
    const loaded = this.#loaded;
    let cfa: { value: bigint | undefined } | undefined;
    const around: Surroundings = {
      register: (number) => frame.register(number),
      read: (at, size) => frame.memory.read(at, size),
      address: (linked) => loaded.toGuest(linked)[0],
      cfa: () => {
        cfa ??= { value: frame.cfa ?? this.#cfa(frame) };
        return cfa.value;
      },
      frameBase: () => {
        const expression = fn.expression(loaded.info.elf.place(address), DW_AT.frame_base);
        return expression && compute(expression, fn.unit, around);
      },
      entryValue: (expression) => (depth > MAX_CALLERS ? undefined : this.#entryValue(expression, frame, fn, depth)),
      parameter: (die) =>
        depth > MAX_CALLERS
          ? undefined
          : this.#passed(frame, fn, depth, (p) => p.reference(DW_AT.call_parameter)?.is(die) ?? false),
      // The kernel has no thread-local variables: what it calls so is in the per-CPU area.
      threadLocal: (offset) => (frame.perCpuOffset === undefined ? undefined : frame.perCpuOffset + offset),
    };
    return around;
  }

  #cfa(frame: FrameState): bigint | undefined {
    const row = this.#loaded.rules(frame.pc);
    if (!row || !('register' in row.cfa)) return undefined;
    const base = frame.register(row.cfa.register);
    return base === undefined ? undefined : base + BigInt(row.cfa.offset);
  }

  /** DWARF 5 §2.5.1.7: what a register (or memory by one) held when the function was entered: the caller says what it passed. */
  #entryValue(expression: Uint8Array, frame: FrameState, fn: Die, depth: number): bigint | undefined {
    const same = (bytes: Uint8Array | undefined): boolean =>
      bytes !== undefined && bytes.length === expression.length && bytes.every((b, i) => b === expression[i]);
    return this.#passed(frame, fn, depth, (p) => same(p.block(DW_AT.location)));
  }

  #passed(frame: FrameState, fn: Die, depth: number, isIt: (parameter: Die) => boolean): bigint | undefined {
    const { caller } = frame;
    // The return address is one behind what the caller's frame is looked up by.
    const back = caller && this.#loaded.toFile(caller.pc);
    if (!caller || back === undefined) return undefined;
    const { info } = this.#loaded;
    const scopes = info.scopes(back);
    const outer = functionOf(scopes);
    const site = outer && callSite(outer, info.elf.place(back) + 1);
    if (!outer || !site) return undefined;
    // A call that goes elsewhere and came here by a tail call says nothing about what is here.
    const target = site.reference(DW_AT.call_origin) ?? site.reference(DW_AT.abstract_origin);
    if (target && target.linkageName !== fn.linkageName) return undefined;
    for (const parameter of site.children()) {
      if (parameter.tag !== DW_TAG.call_site_parameter && parameter.tag !== DW_TAG.GNU_call_site_parameter) continue;
      if (!isIt(parameter)) continue;
      const value = parameter.block(DW_AT.call_value) ?? parameter.block(DW_AT.GNU_call_site_value);
      return value && compute(value, parameter.unit, this.#surroundings(caller, back, outer, depth + 1));
    }
    return undefined;
  }
}

const isVariable = (die: Die): boolean => die.tag === DW_TAG.formal_parameter || die.tag === DW_TAG.variable;

/** Offsets of what the variables of a block, and of blocks in it, are copies of. */
function* originsIn(die: Die, depth = 0): Generator<number> {
  for (const child of die.children()) {
    const origin = isVariable(child) ? child.reference(DW_AT.abstract_origin) : undefined;
    if (origin) yield origin.offset;
    if (child.tag === DW_TAG.lexical_block && depth < MAX_NESTING) yield* originsIn(child, depth + 1);
  }
}

/** The function of the scopes that is not inlined. */
const functionOf = (scopes: readonly Scope[]): Die | undefined => scopes.find((s) => s.die.tag === DW_TAG.subprogram)?.die;

/** The call of `fn` that returns to `place`; calls of inlined functions are in these. */
function callSite(fn: Die, place: number): Die | undefined {
  for (const child of fn.children()) {
    const { tag } = child;
    if (tag === DW_TAG.call_site || tag === DW_TAG.GNU_call_site) {
      const attribute = child.has(DW_AT.call_return_pc) ? DW_AT.call_return_pc : DW_AT.low_pc;
      if (child.has(attribute) && child.place(attribute) === place) return child;
    } else if (tag === DW_TAG.lexical_block || tag === DW_TAG.inlined_subroutine) {
      const found = callSite(child, place);
      if (found) return found;
    }
  }
  return undefined;
}

/** DW_AT_const_value: a number of the variable's type, or its bytes. */
function constantStorage(constant: ReturnType<Die['attr']>, type: Type): Storage {
  if (constant instanceof Uint8Array) return new ConstantStorage(constant.slice());
  if (typeof constant === 'string') return new ConstantStorage(new Uint8Array(Buffer.from(`${constant}\0`, 'utf8')));
  if (typeof constant === 'number' || typeof constant === 'bigint')
    return new ConstantStorage(bytesOf(BigInt(constant), sizeOf(type)));
  return new NoStorage(GONE);
}

function placeStorage(place: Place, frame: FrameState): Storage {
  switch (place.kind) {
    case 'memory':
      return new MemoryStorage(frame.memory, place.address);
    case 'register':
      return new RegisterStorage(frame, place.register);
    case 'value':
      return new ConstantStorage(place.bytes);
    case 'pointer':
      return new NoStorage(`<synthetic pointer to ${place.to.name ?? 'a value without a place'}>`);
    default:
      return new NoStorage(GONE);
  }
}

function storageOf(located: Located, frame: FrameState, size: number): Storage {
  if (located.kind !== 'pieces') return placeStorage(located, frame);
  // Pieces of bits are what optimisers make of bit-fields; nobody has seen gcc or clang make one for C on arm64.
  if (located.pieces.some((p) => p.bits % 8 !== 0 || p.skip % 8 !== 0)) return new NoStorage(GONE);
  const pieces = located.pieces.map((p) => ({ size: p.bits / 8, storage: placeStorage(p.at, frame), at: p.skip / 8 }));
  const told = pieces.reduce((n, p) => n + p.size, 0);
  if (told < size) pieces.push({ size: size - told, storage: new NoStorage(GONE), at: 0 });
  return new PieceStorage(pieces);
}
