/**
 * The input log: what came from outside, each with the instruction count at which the guest got it. It is part of the machine's state.
 * With a snapshot, and what the log has since, a run can be repeated. A network brings more than anybody wants to keep: the log forgets
 * the oldest of it, and from which moment on it is whole is written down.
 */

/** What an entry is reckoned as, besides the bytes in it: a guest's network makes many small ones. */
const ENTRY = 256;
/** What the log may hold; a quarter goes when it is full. */
export const MAX_LOG = 64 << 20;

export interface InputLogState<Input> {
  entries: ({ instructions: number } & Input)[];
  /** What the entries are reckoned as, in bytes. */
  size: number;
  /** Entries of this instruction count and less may be missing; -1: none. */
  missing: number;
}

export class InputLog<Input extends object> {
  readonly state: InputLogState<Input> = { entries: [], size: 0, missing: -1 };

  /** `instructions` is no less than that of the entry before. */
  add(instructions: number, input: Input): void {
    const { state } = this;
    state.entries.push({ instructions, ...input });
    state.size += sizeOf(input);
    if (state.size <= MAX_LOG) return;
    let count = 0;
    for (; state.size > (MAX_LOG / 4) * 3; count++) state.size -= sizeOf(state.entries[count]);
    state.missing = state.entries[count - 1].instructions;
    state.entries.splice(0, count);
  }
}

/** Bytes are in typed arrays, in the input itself or one level below. */
function sizeOf(input: object): number {
  let size = ENTRY;
  for (const value of Object.values(input)) {
    if (ArrayBuffer.isView(value)) size += value.byteLength;
    else if (typeof value === 'object' && value !== null)
      for (const inner of Object.values(value)) if (ArrayBuffer.isView(inner)) size += inner.byteLength;
  }
  return size;
}
