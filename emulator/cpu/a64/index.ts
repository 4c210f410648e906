/** Every A64 instruction row, by the Arm ARM's encoding groups. A new group file is one line here. */
import type { Insn } from '../insn.ts';
import { rows as atomics } from './atomics.ts';
import { rows as branches } from './branches.ts';
import { rows as crypto } from './crypto.ts';
import { rows as dpImmediate } from './dp-immediate.ts';
import { rows as dpRegister } from './dp-register.ts';
import { rows as fpConvert } from './fp-convert.ts';
import { rows as fpScalar } from './fp-scalar.ts';
import { rows as fpVector } from './fp-vector.ts';
import { rows as loadsStores } from './loads-stores.ts';
import { rows as pauth } from './pauth.ts';
import { rows as simdInteger } from './simd-integer.ts';
import { rows as simdLoadsStores } from './simd-loads-stores.ts';
import { rows as simdPermute } from './simd-permute.ts';
import { rows as simdShift } from './simd-shift.ts';
import { rows as system } from './system.ts';

export const ROWS: readonly Insn[] = [
  ...dpImmediate,
  ...dpRegister,
  ...branches,
  ...loadsStores,
  ...atomics,
  ...system,
  ...pauth,
  ...simdInteger,
  ...simdShift,
  ...simdPermute,
  ...simdLoadsStores,
  ...crypto,
  ...fpScalar,
  ...fpVector,
  ...fpConvert,
];
