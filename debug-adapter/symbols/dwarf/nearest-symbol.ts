/** Names of code that no debug information covers: from the symbol table, chosen as binutils does, so that tools agree. */
import { STT } from '../elf.ts';
import type { ElfFile } from '../elf-file.ts';

export interface NearestSymbol {
  readonly name: string;
  /** The source file that it is of, if the table tells. */
  readonly file?: string;
}

/**
 * The function or label at or before `address` in its section. At one place: one that reaches the address before one that does
 * not, a function before anything else, then the smaller; of those that do not reach it the larger.
 */
export function nearestSymbol(elf: ElfFile, address: bigint): NearestSymbol | undefined {
  const place = elf.place(address);
  const section = elf.sectionAt(place);
  if (!section) return undefined;
  const { places, sizes, infos, sections, name, file } = elf.symbols;
  let low = 0;
  let high = places.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (places[middle] <= place) low = middle + 1;
    else high = middle;
  }
  const kind = (i: number): number => infos[i] & 15;
  let best = -1;
  for (let i = low - 1; i >= 0; i--) {
    if (best >= 0 && places[i] < places[best]) break;
    if (sections[i] !== section.index || kind(i) === STT.OBJECT) continue;
    // Symbols of one place come in the order of the table; this goes through them backwards, and of equals the first is kept.
    if (best < 0 || !better(best, i)) best = i;
  }
  return best < 0 ? undefined : { name: name(best), file: file(best) };

  /** Is `a` a better answer than `b`, at the same place? */
  function better(a: number, b: number): boolean {
    const size = (i: number): number => (kind(i) === STT.NOTYPE && sizes[i] === 0 ? 1 : sizes[i]);
    const reaches = (i: number): boolean => places[i] + size(i) > place;
    if (!reaches(a) && !reaches(b)) return size(a) > size(b);
    if (reaches(a) !== reaches(b)) return reaches(a);
    if (kind(a) !== kind(b)) return kind(a) === STT.FUNC;
    return size(a) < size(b);
  }
}
