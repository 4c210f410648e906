/**
 * Helpers: what cold rows call when WebAssembly has no instruction for it (FP arithmetic with the guest's rounding mode
 * and exception flags, tables). `b.call(type, name, args)` becomes a call of an imported JavaScript function.
 *
 * A helper is a pure function of its arguments and FPCR; its only effect is to set FPSR flags. i32 and f32/f64 arrive as
 * numbers, i64 as *signed* bigints; an i64 result may be any bigint (taken modulo 2^64). There is no v128: pass halves.
 */
import type { Ty } from './builder.ts';
import { FP_HELPERS } from './fp.ts';
import { VP, WINDOW } from './vp-state.ts';

/** FPCR and FPSR of the VP in the window, as unsigned 32-bit numbers. */
export interface FpState {
  readonly fpcr: number;
  fpsr: number;
}

export interface Helper {
  readonly params: readonly Exclude<Ty, 'v128'>[];
  readonly result: Exclude<Ty, 'v128'>;
  /** A method, not a property, so that functions of narrower parameters (`(fp, a: bigint) => bigint`) fit. */
  fn(fp: FpState, ...args: (number | bigint)[]): number | bigint;
}

/** FPCR and FPSR cells of the window in `memory`. */
export function windowFpState(memory: WebAssembly.Memory): FpState {
  const view = new DataView(memory.buffer, WINDOW, VP.SIZE);
  return {
    get fpcr() {
      return view.getUint32(VP.FPCR, true);
    },
    get fpsr() {
      return view.getUint32(VP.FPSR, true);
    },
    set fpsr(v: number) {
      view.setUint32(VP.FPSR, v >>> 0, true);
    },
  };
}

/** Every helper by the name rows call it by. */
export const HELPERS: Readonly<Record<string, Helper>> = FP_HELPERS;
