/** Variables of a stack frame: what whoever knows them is asked, and where compilers keep them. */
import type { SourceLocation } from './catalog.ts';
import { type FunctionType, plain, pointerTo, sizeOf, type Type } from './model.ts';
import { bytesOf, type Memory, MemoryStorage, type Storage, Value, ValueError } from './value.ts';

/** What a frame's variables are found with. */
export interface FrameState {
  /** An address in the instruction that runs or has called: of a caller one before its return address. */
  readonly pc: bigint;
  /** Which of the functions inlined into each other there it is: 0 the innermost. */
  readonly inlineDepth: number;
  /** A register by its DWARF number (0 to 30: x0 to x30, 31: sp, 64 to 95: v0 to v31); undefined when the frame does not know it. */
  register(number: number): bigint | undefined;
  /** Sets one; left out where that cannot be. */
  setRegister?(number: number, value: bigint): boolean;
  /** SP before the call of this frame's function, where the unwinder knew it. */
  readonly cfa: bigint | undefined;
  readonly memory: Memory;
  /** The frame that called this one, for values that were passed at entry. */
  readonly caller: FrameState | undefined;
  /** What is added to a thread-local or per-CPU offset. */
  readonly perCpuOffset: bigint | undefined;
}

export interface FrameVariable {
  readonly name: string;
  readonly kind: 'argument' | 'local' | 'static';
  readonly value: Value;
  readonly declaration?: SourceLocation;
}

/** Whoever knows the variables of frames: debug information. */
export interface FrameVariables {
  /** Innermost block first; undefined where it knows nothing about the code. */
  at(frame: FrameState): FrameVariable[] | undefined;
}

/** A register: its low bytes. Setting some of them leaves the others. */
export class RegisterStorage implements Storage {
  readonly #frame: FrameState;
  readonly #number: number;

  constructor(frame: FrameState, number: number) {
    this.#frame = frame;
    this.#number = number;
  }

  #value(): bigint {
    const value = this.#frame.register(this.#number);
    // The caller's copy may be gone: the unwinder says so by not knowing it.
    if (value === undefined) throw new ValueError('<optimized out>');
    return value;
  }

  read(at: number, size: number): Uint8Array {
    const width = this.#number >= 64 ? 16 : 8;
    if (at + size > width) throw new ValueError(`${at + size} bytes are not in one register`);
    return bytesOf(this.#value(), width).subarray(at, at + size);
  }

  write(at: number, data: Uint8Array): void {
    let value = this.#value();
    for (const [i, byte] of data.entries()) {
      const shift = BigInt(8 * (at + i));
      value = (value & ~(0xffn << shift)) | (BigInt(byte) << shift);
    }
    if (!this.#frame.setRegister?.(this.#number, value)) throw new ValueError('registers of a caller cannot be changed');
  }
}

/** A value in pieces (DWARF 5 §2.6.1.2), in the order of their bytes. */
export class PieceStorage implements Storage {
  readonly #pieces: readonly { size: number; storage: Storage; at: number }[];
  constructor(pieces: readonly { size: number; storage: Storage; at: number }[]) {
    this.#pieces = pieces;
  }

  *#parts(at: number, size: number): Generator<{ storage: Storage; from: number; to: number; size: number }> {
    let start = 0;
    for (const piece of this.#pieces) {
      const from = Math.max(at, start);
      const end = Math.min(at + size, start + piece.size);
      if (from < end) yield { storage: piece.storage, from: piece.at + from - start, to: from - at, size: end - from };
      start += piece.size;
    }
    if (at + size > start) throw new ValueError('<optimized out>');
  }

  read(at: number, size: number): Uint8Array {
    const out = new Uint8Array(size);
    for (const part of this.#parts(at, size)) out.set(part.storage.read(part.from, part.size), part.to);
    return out;
  }

  write(at: number, data: Uint8Array): void {
    for (const part of this.#parts(at, data.length)) part.storage.write(part.from, data.subarray(part.to, part.to + part.size));
  }
}

/** Registers that pass arguments: x0 to x7 (AAPCS64 6.4.2). */
const ARGUMENT_REGISTERS = 8;
const SP = 31;

/**
 * The arguments of a function at its first instruction, by its prototype alone (AAPCS64 6.8.2, stages B and C for what kernels
 * pass: integers, pointers and structs).
 */
export function entryArguments(type: FunctionType, frame: FrameState): FrameVariable[] {
  let next = 0;
  let stack = 0;
  const slot = (size: number): Storage => {
    if (next < ARGUMENT_REGISTERS) {
      const count = Math.ceil(size / 8);
      if (next + count <= ARGUMENT_REGISTERS) {
        const first = next;
        next += count;
        if (count === 1) return new RegisterStorage(frame, first);
        return new PieceStorage(
          Array.from({ length: count }, (_, i) => ({ size: 8, storage: new RegisterStorage(frame, first + i), at: 0 })),
        );
      }
      // C.13: what does not fit into the registers that are left goes to the stack, and so does all after it.
      next = ARGUMENT_REGISTERS;
    }
    const sp = frame.register(SP) ?? 0n;
    const at = stack;
    stack += Math.max(8, (size + 7) & ~7);
    return new MemoryStorage(frame.memory, sp + BigInt(at));
  };
  const argument = (t: Type): Value => {
    const target = plain(t);
    const size = sizeOf(target);
    const aggregate = target.kind === 'struct' || target.kind === 'union';
    if (aggregate && size > 16) {
      // B.4: a copy in memory, of which the address is passed.
      const pointer = new Value({ type: pointerTo(t), storage: slot(8) });
      return Value.at(t, frame.memory, pointer.value);
    }
    // C.10: what is aligned to 16 bytes starts at an even register.
    if (!aggregate && size === 16 && next < ARGUMENT_REGISTERS) next = (next + 1) & ~1;
    return new Value({ type: t, storage: slot(Math.max(1, size)) });
  };
  return type.parameters.map(
    (p, i): FrameVariable => ({ name: p.name ?? `(argument ${i + 1})`, kind: 'argument', value: argument(p.type) }),
  );
}
