/**
 * Call frame information: how the registers of a caller are found (DWARF 5 §6.4; .eh_frame: Linux Standard Base 5.0 §10.6; AArch64's
 * registers and its own instructions: "DWARF for the Arm 64-bit Architecture" §4.1, §4.3 and §4.4).
 *
 * All entries are listed once, by where their code is; the instructions of one are run when an address of its code is asked for.
 */
import { type ByteSource, SymbolFileError } from '../byte-source.ts';
import { Reader } from './reader.ts';

/** DWARF numbers of registers: x0..x30 are 0..30. */
export const DW_REG = { FP: 29, LR: 30, SP: 31, PC: 32, RA_SIGN_STATE: 34 } as const;

export type Rule =
  /** The caller has the value that is here: of callee-saved registers, also what no instruction names. */
  | { kind: 'same' }
  | { kind: 'undefined' }
  /** Saved at CFA + offset. */
  | { kind: 'offset'; offset: number }
  /** Is CFA + offset. */
  | { kind: 'value'; offset: number }
  /** Is in another register. */
  | { kind: 'register'; register: number }
  /** Saved where an expression says, or is what it says; the CFA is on its stack at the start. */
  | { kind: 'expression' | 'value expression'; expression: Uint8Array };

export type CfaRule = { register: number; offset: number } | { expression: Uint8Array };

/** What holds at one address. */
export interface UnwindRow {
  /** Places of the first byte of the function's code and of the one after its last. */
  from: number;
  to: number;
  cfa: CfaRule;
  /** By DWARF register; a register that is absent has no rule. */
  rules: ReadonlyMap<number, Rule>;
  /** The register whose caller's value is the return address. */
  returnRegister: number;
  /** The return address was signed here (PAuth). */
  isSigned: boolean;
  /** The frame was made by a signal or an exception: PC is the instruction that was interrupted. */
  isSignal: boolean;
}

const CFA = {
  advanceLoc: 0x40,
  offset: 0x80,
  restore: 0xc0,
  nop: 0x00,
  setLoc: 0x01,
  advanceLoc1: 0x02,
  advanceLoc2: 0x03,
  advanceLoc4: 0x04,
  offsetExtended: 0x05,
  restoreExtended: 0x06,
  undefined: 0x07,
  sameValue: 0x08,
  register: 0x09,
  rememberState: 0x0a,
  restoreState: 0x0b,
  defCfa: 0x0c,
  defCfaRegister: 0x0d,
  defCfaOffset: 0x0e,
  defCfaExpression: 0x0f,
  expression: 0x10,
  offsetExtendedSf: 0x11,
  defCfaSf: 0x12,
  defCfaOffsetSf: 0x13,
  valOffset: 0x14,
  valOffsetSf: 0x15,
  valExpression: 0x16,
  negateRaStateWithPc: 0x2c,
  negateRaState: 0x2d,
  gnuArgsSize: 0x2e,
} as const;

/** Pointer encodings of .eh_frame (LSB 5.0 §10.5.1): the low four bits are the format, the next three what it is relative to. */
const PE = {
  absptr: 0x00,
  uleb: 0x01,
  u16: 0x02,
  u32: 0x03,
  u64: 0x04,
  sleb: 0x09,
  s16: 0x0a,
  s32: 0x0b,
  s64: 0x0c,
  pcrel: 0x10,
} as const;
const PE_OMIT = 0xff;

const MAX_ENTRIES = 1 << 21;
const MAX_STATES = 64;
const MAX_REGISTERS = 256;
const CIE_CACHE = 64;
const ROW_CACHE = 256;

interface Cie {
  codeAlign: number;
  dataAlign: number;
  returnRegister: number;
  addressSize: number;
  /** `R` of the augmentation; of .debug_frame absptr. */
  encoding: number;
  augmented: boolean;
  isSignal: boolean;
  /** Initial instructions: where they are in the section. */
  from: number;
  to: number;
}

interface State {
  cfa: CfaRule;
  rules: Map<number, Rule>;
  isSigned: boolean;
}

/** Where addresses of the section are, as places of the file (elf-file.ts). */
export interface CfiOptions {
  /** .eh_frame, else .debug_frame. */
  eh: boolean;
  /** Place of the section's first byte: .eh_frame's pointers are relative to themselves. */
  place?: number;
  /** The place of an address. */
  toPlace: (address: bigint) => number;
}

const MAX_PROBLEMS = 20;

export class CallFrameTable {
  readonly #section: ByteSource;
  readonly #options: CfiOptions;
  readonly #cies = new Map<number, Cie>();
  readonly #rows = new Map<number, UnwindRow | undefined>();
  /** Entries by first place: that, the place after the last, and where the entry is in the section. */
  #from = new Float64Array();
  #to = new Float64Array();
  #entry = new Float64Array();
  #listed = false;
  /** What could not be used and why: one line each, naming the file. */
  readonly problems: string[] = [];

  constructor(section: ByteSource, options: CfiOptions) {
    this.#section = section;
    this.#options = options;
  }

  /** What holds at a place; undefined: no entry has it. Throws DwarfError when its entry is wrong. */
  at(place: number): UnwindRow | undefined {
    if (this.#rows.has(place)) return this.#rows.get(place);
    this.#list();
    let lo = 0;
    let hi = this.#from.length - 1;
    while (lo <= hi) {
      const mid = (lo + hi) >> 1;
      if (this.#from[mid] <= place) lo = mid + 1;
      else hi = mid - 1;
    }
    const row = hi >= 0 && place < this.#to[hi] ? this.#run(this.#entry[hi], this.#from[hi], this.#to[hi], place) : undefined;
    if (this.#rows.size >= ROW_CACHE) this.#rows.clear();
    this.#rows.set(place, row);
    return row;
  }

  /** Number of entries. */
  get size(): number {
    this.#list();
    return this.#from.length;
  }

  // --- the list -----------------------------------------------------------------------------------------------------------

  #note(error: unknown): void {
    if (!(error instanceof SymbolFileError)) throw error;
    if (this.problems.length < MAX_PROBLEMS) this.problems.push(error.message);
  }

  /** An entry whose length is wrong ends the list: where the next one is cannot be known. */
  #list(): void {
    if (this.#listed) return;
    this.#listed = true;
    const found: { from: number; to: number; entry: number }[] = [];
    try {
      const reader = Reader.over(this.#section, 0);
      while (reader.offset + 4 <= this.#section.size) {
        const entry = reader.offset;
        const { length, offsetSize } = reader.initialLength();
        // Terminates .eh_frame; padding elsewhere.
        if (length === 0) continue;
        const end = reader.offset + length;
        if (end > this.#section.size) throw reader.fail(`an entry of ${length} bytes, more than are left`, entry);
        if (found.length >= MAX_ENTRIES) throw reader.fail(`more than ${MAX_ENTRIES} entries`);
        try {
          const cie = this.#cieOf(reader, offsetSize);
          if (cie !== undefined) {
            const { from, to } = this.#range(reader, this.#cie(cie));
            // A linker leaves entries of code that it dropped at 0.
            if (to > from) found.push({ from, to, entry });
          }
        } catch (error) {
          this.#note(error);
        }
        if (end < reader.offset) throw reader.fail('an entry that goes on after its end', entry);
        reader.skip(end - reader.offset);
      }
    } catch (error) {
      this.#note(error);
    }
    found.sort((a, b) => a.from - b.from);
    this.#from = Float64Array.from(found, (f) => f.from);
    this.#to = Float64Array.from(found, (f) => f.to);
    this.#entry = Float64Array.from(found, (f) => f.entry);
  }

  /** After an entry's length: where the CIE of an FDE is; undefined: the entry is a CIE. */
  #cieOf(reader: Reader, offsetSize: 4 | 8): number | undefined {
    const at = reader.offset;
    if (this.#options.eh) {
      const back = reader.u32();
      if (back === 0) return undefined;
      return at - back;
    }
    if (offsetSize === 8) {
      const id = reader.u64();
      return id === 0xffffffffffffffffn ? undefined : Number(id);
    }
    const id = reader.u32();
    return id === 0xffffffff ? undefined : id;
  }

  #range(reader: Reader, cie: Cie): { from: number; to: number } {
    const from = this.#pointer(reader, cie.encoding, cie.addressSize);
    // The length has the format only.
    const length = this.#value(reader, cie.encoding & 0x0f, cie.addressSize);
    return { from, to: from + Number(length) };
  }

  /** A value in a pointer's format. */
  #value(reader: Reader, format: number, addressSize: number): bigint {
    switch (format & 0x0f) {
      case PE.absptr:
        return addressSize === 4 ? BigInt(reader.u32()) : reader.u64();
      case PE.uleb:
        return reader.lebExact(false);
      case PE.sleb:
        return reader.lebExact(true);
      case PE.u16:
        return BigInt(reader.u16());
      case PE.s16:
        return BigInt.asIntN(16, BigInt(reader.u16()));
      case PE.u32:
        return BigInt(reader.u32());
      case PE.s32:
        return BigInt.asIntN(32, BigInt(reader.u32()));
      case PE.u64:
        return reader.u64();
      case PE.s64:
        return BigInt.asIntN(64, reader.u64());
      default:
        throw reader.fail(`pointer format 0x${format.toString(16)}, which is not known`);
    }
  }

  #pointer(reader: Reader, encoding: number, addressSize: number): number {
    const at = reader.offset;
    const value = this.#value(reader, encoding, addressSize);
    const relative = encoding & 0x70;
    if (relative === 0) return this.#options.toPlace(value);
    if (relative === PE.pcrel) return (this.#options.place ?? 0) + at + Number(BigInt.asIntN(64, value));
    throw reader.fail(`pointer encoding 0x${encoding.toString(16)}, which is not known`, at);
  }

  #cie(offset: number): Cie {
    const known = this.#cies.get(offset);
    if (known) return known;
    const reader = Reader.over(this.#section, offset);
    const { length, offsetSize } = reader.initialLength();
    const end = reader.offset + length;
    if (end > this.#section.size || this.#cieOf(reader, offsetSize) !== undefined)
      throw reader.fail('a CIE was expected here', offset);
    const version = reader.u8();
    if (version !== 1 && version !== 3 && version !== 4) throw reader.fail(`a CIE of version ${version}`, offset);
    const augmentation = reader.cstring();
    let addressSize = 8;
    if (version >= 4) {
      addressSize = reader.u8();
      if (addressSize !== 8 && addressSize !== 4) throw reader.fail(`an address size of ${addressSize}`);
      if (reader.u8() !== 0) throw reader.fail('segmented addresses');
    }
    const codeAlign = reader.uleb();
    const dataAlign = reader.sleb();
    const returnRegister = version === 1 ? reader.u8() : reader.uleb();
    let encoding: number = PE.absptr;
    let isSignal = false;
    const augmented = augmentation.startsWith('z');
    if (augmented) {
      const size = reader.uleb();
      const after = reader.offset + size;
      for (const letter of augmentation.slice(1)) {
        if (letter === 'R') encoding = reader.u8();
        else if (letter === 'L') reader.u8();
        else if (letter === 'P') {
          const personality = reader.u8();
          if (personality !== PE_OMIT) this.#value(reader, personality, addressSize);
        } else if (letter === 'S') isSignal = true;
        // B: signed with key B; G: tagged stack frame. Neither has data.
        else if (letter !== 'B' && letter !== 'G') break;
      }
      if (after < reader.offset || after > end) throw reader.fail('augmentation data longer than its CIE');
      reader.skip(after - reader.offset);
    } else if (augmentation !== '') throw reader.fail(`augmentation "${augmentation.slice(0, 16)}"`, offset);
    const cie = {
      codeAlign,
      dataAlign,
      returnRegister,
      addressSize,
      encoding,
      augmented,
      isSignal,
      from: reader.offset,
      to: end,
    };
    if (this.#cies.size >= CIE_CACHE) this.#cies.clear();
    this.#cies.set(offset, cie);
    return cie;
  }

  // --- instructions -------------------------------------------------------------------------------------------------------

  #run(entry: number, from: number, to: number, place: number): UnwindRow {
    const reader = Reader.over(this.#section, entry);
    const { length, offsetSize } = reader.initialLength();
    const end = reader.offset + length;
    const cie = this.#cie(this.#cieOf(reader, offsetSize) ?? entry);
    this.#range(reader, cie);
    if (cie.augmented) reader.skip(reader.uleb());
    const state: State = { cfa: { register: DW_REG.SP, offset: 0 }, rules: new Map(), isSigned: false };
    this.#execute(Reader.over(this.#section, cie.from), cie.to, cie, state, undefined, from, Number.POSITIVE_INFINITY);
    const initial = copyOf(state);
    this.#execute(reader, end, cie, state, initial, from, place);
    const { cfa, rules, isSigned } = state;
    return { from, to, cfa, rules, isSigned, returnRegister: cie.returnRegister, isSignal: cie.isSignal };
  }

  /** Runs instructions up to the row of `place`. */
  #execute(reader: Reader, end: number, cie: Cie, state: State, initial: State | undefined, from: number, place: number): void {
    const kept: State[] = [];
    let here = from;
    const register = (n: number): number => {
      if (n >= MAX_REGISTERS) throw reader.fail(`register ${n}`);
      return n;
    };
    const cfaRegister = (): { register: number; offset: number } => {
      if ('expression' in state.cfa) throw reader.fail('an offset from a CFA that is an expression');
      return state.cfa;
    };
    const restore = (n: number): void => {
      const rule = initial?.rules.get(n);
      if (rule) state.rules.set(n, rule);
      else state.rules.delete(n);
    };
    while (reader.offset < end) {
      const op = reader.u8();
      const low = op & 0x3f;
      let advance = -1;
      switch (op & 0xc0) {
        case CFA.advanceLoc:
          advance = low;
          break;
        case CFA.offset:
          state.rules.set(low, { kind: 'offset', offset: reader.uleb() * cie.dataAlign });
          continue;
        case CFA.restore:
          restore(low);
          continue;
      }
      if (advance < 0)
        switch (op) {
          case CFA.nop:
            continue;
          case CFA.setLoc:
            here = this.#pointer(reader, cie.encoding, cie.addressSize);
            if (here > place) return;
            continue;
          case CFA.advanceLoc1:
            advance = reader.u8();
            break;
          case CFA.advanceLoc2:
            advance = reader.u16();
            break;
          case CFA.advanceLoc4:
            advance = reader.u32();
            break;
          case CFA.offsetExtended:
            state.rules.set(register(reader.uleb()), { kind: 'offset', offset: reader.uleb() * cie.dataAlign });
            continue;
          case CFA.offsetExtendedSf:
            state.rules.set(register(reader.uleb()), { kind: 'offset', offset: reader.sleb() * cie.dataAlign });
            continue;
          case CFA.restoreExtended:
            restore(register(reader.uleb()));
            continue;
          case CFA.undefined:
            state.rules.set(register(reader.uleb()), { kind: 'undefined' });
            continue;
          case CFA.sameValue:
            state.rules.set(register(reader.uleb()), { kind: 'same' });
            continue;
          case CFA.register:
            state.rules.set(register(reader.uleb()), { kind: 'register', register: register(reader.uleb()) });
            continue;
          case CFA.rememberState:
            if (kept.length >= MAX_STATES) throw reader.fail(`more than ${MAX_STATES} states kept`);
            kept.push(copyOf(state));
            continue;
          case CFA.restoreState: {
            const old = kept.pop();
            if (!old) throw reader.fail('a state that was not kept');
            Object.assign(state, old);
            continue;
          }
          case CFA.defCfa:
            state.cfa = { register: register(reader.uleb()), offset: reader.uleb() };
            continue;
          case CFA.defCfaSf:
            state.cfa = { register: register(reader.uleb()), offset: reader.sleb() * cie.dataAlign };
            continue;
          case CFA.defCfaRegister:
            state.cfa = { ...cfaRegister(), register: register(reader.uleb()) };
            continue;
          case CFA.defCfaOffset:
            state.cfa = { ...cfaRegister(), offset: reader.uleb() };
            continue;
          case CFA.defCfaOffsetSf:
            state.cfa = { ...cfaRegister(), offset: reader.sleb() * cie.dataAlign };
            continue;
          case CFA.defCfaExpression:
            state.cfa = { expression: reader.block(reader.uleb()).slice() };
            continue;
          case CFA.expression:
          case CFA.valExpression: {
            const n = register(reader.uleb());
            const kind = op === CFA.expression ? 'expression' : 'value expression';
            state.rules.set(n, { kind, expression: reader.block(reader.uleb()).slice() });
            continue;
          }
          case CFA.valOffset:
            state.rules.set(register(reader.uleb()), { kind: 'value', offset: reader.uleb() * cie.dataAlign });
            continue;
          case CFA.valOffsetSf:
            state.rules.set(register(reader.uleb()), { kind: 'value', offset: reader.sleb() * cie.dataAlign });
            continue;
          case CFA.negateRaState:
          case CFA.negateRaStateWithPc:
            state.isSigned = !state.isSigned;
            continue;
          case CFA.gnuArgsSize:
            reader.uleb();
            continue;
          default:
            throw reader.fail(`call frame instruction 0x${op.toString(16)}, which is not known`);
        }
      here += advance * cie.codeAlign;
      if (here > place) return;
    }
  }
}

const copyOf = (s: State): State => ({ cfa: s.cfa, rules: new Map(s.rules), isSigned: s.isSigned });
