/**
 * Typed arrays that nobody will write any more. State that holds large data keeps it in such: snapshots share them instead of
 * copying, and hash each of them once.
 */
const frozen = new WeakSet<ArrayBufferView>();

/** Promises that `array` stays as it is from now on. */
export function freeze<T extends ArrayBufferView>(array: T): T {
  frozen.add(array);
  return array;
}

export const isFrozen = (array: ArrayBufferView): boolean => frozen.has(array);
