/**
 * Branch target identification (FEAT_BTI; Arm ARM DDI 0487, D8.4.5 "Guarded pages" and C6.2 "BTI"): in a guarded page a jump to a
 * register's value has to land on an instruction that says it may.
 *
 * A jump lets generated code note in `CELL.JUMP` that nothing has retired since, and what it may land on (`LANDING`); PSTATE.BTYPE
 * is made of that when generated code is left (cpu.ts). Records of guarded pages are those from `CELL.GUARDED` on. Where such
 * a jump lands in one, generated code knows the usual landings by their handlers, and leaves whatever else to `mayLand`.
 */

/** A jump to a register's value that sets BTYPE: BLR; BR by X16 or X17, or from a page that is not guarded; any other BR. */
export type Landing = 'call' | 'veneer' | 'jump';

const [BTI_C, BTI_JC, BTI_J, PACIASP, PACIBSP] = [0xd503245f, 0xd50324df, 0xd503249f, 0xd503233f, 0xd503237f];

/** Landings that generated code knows, by word, and the bit of `LANDING` for each. */
export const KNOWN_LANDINGS: readonly (readonly [word: number, bit: number])[] = [
  [BTI_C, 1],
  [BTI_JC, 2],
  [BTI_J, 4],
  [PACIASP, 8],
  [PACIBSP, 8],
];

/** What jumps may land on, whatever SCTLR_EL1.BT0 and BT1 say. Below 32, and no two are the same. */
export const LANDING: Readonly<Record<Landing, number>> = { call: 1 | 2 | 8, veneer: 1 | 2 | 4 | 8, jump: 2 | 4 };

/** PSTATE.BTYPE after the jump that has noted this. */
export const BTYPE: Readonly<Record<number, number>> = { [LANDING.veneer]: 1, [LANDING.call]: 2, [LANDING.jump]: 3 };

/** Bits of `LANDING` that let a jump land on the instruction `word`. */
export const landingBits = (word: number): number => KNOWN_LANDINGS.find(([w]) => w === word >>> 0)?.[1] ?? 0;

/** BRK and HLT: their own exception comes first. */
const isBreakpoint = (word: number): boolean =>
  (word & 0xffe0001f) >>> 0 === 0xd4200000 || (word & 0xffe0001f) >>> 0 === 0xd4400000;

/**
 * True when the instruction `word` of a guarded page may execute with PSTATE.BTYPE = `btype`; `strict`: SCTLR_EL1.BT0 (at EL0) or
 * BT1, with which PACIASP and PACIBSP are not for `br`.
 */
export function mayLand(word: number, btype: number, strict: boolean): boolean {
  switch (word >>> 0) {
    case BTI_C:
      return btype !== 3;
    case BTI_J:
      return btype !== 2;
    case BTI_JC:
      return true;
    case PACIASP:
    case PACIBSP:
      return btype !== 3 || !strict;
    default:
      return btype === 0 || isBreakpoint(word);
  }
}
