/** SCSI status and sense data as data (SAM-5 5.3.1, SPC-4 4.5; ASC and ASCQ: SPC-4 annex F). */
import { viewOf } from '../../../base/struct.ts';

export const SCSI_STATUS = { good: 0, checkCondition: 2 } as const;

/** What went wrong: sense key, additional sense code and its qualifier. */
export interface Sense {
  key: number;
  asc: number;
  ascq: number;
  /** The block it is about. */
  information?: number;
}

/** SPC-4 table 43. */
export const KEY = {
  noSense: 0,
  notReady: 2,
  mediumError: 3,
  hardwareError: 4,
  illegalRequest: 5,
  unitAttention: 6,
  dataProtect: 7,
  miscompare: 0xe,
} as const;

const sense = (key: number, asc: number, ascq: number): Sense => ({ key, asc, ascq });

export const SENSE = {
  none: sense(KEY.noSense, 0, 0),
  becomingReady: sense(KEY.notReady, 0x04, 0x01),
  startNeeded: sense(KEY.notReady, 0x04, 0x02),
  noMedium: sense(KEY.notReady, 0x3a, 0x00),
  writeError: sense(KEY.mediumError, 0x0c, 0x00),
  readError: sense(KEY.mediumError, 0x11, 0x00),
  targetFailure: sense(KEY.hardwareError, 0x44, 0x00),
  parameterListLength: sense(KEY.illegalRequest, 0x1a, 0x00),
  invalidOpcode: sense(KEY.illegalRequest, 0x20, 0x00),
  lbaOutOfRange: sense(KEY.illegalRequest, 0x21, 0x00),
  invalidField: sense(KEY.illegalRequest, 0x24, 0x00),
  invalidParameter: sense(KEY.illegalRequest, 0x26, 0x00),
  savingNotSupported: sense(KEY.illegalRequest, 0x39, 0x00),
  removalPrevented: sense(KEY.illegalRequest, 0x53, 0x02),
  writeProtected: sense(KEY.dataProtect, 0x27, 0x00),
  mediumChanged: sense(KEY.unitAttention, 0x28, 0x00),
  reset: sense(KEY.unitAttention, 0x29, 0x00),
  capacityChanged: sense(KEY.unitAttention, 0x2a, 0x09),
  miscompare: sense(KEY.miscompare, 0x1d, 0x00),
} as const;

/** Fixed format sense data, 18 bytes (SPC-4 4.5.3). */
export function fixedSense({ key, asc, ascq, information }: Sense): Uint8Array {
  const out = new Uint8Array(18);
  const valid = information !== undefined && information <= 0xffff_ffff;
  out[0] = 0x70 | (valid ? 0x80 : 0);
  out[2] = key;
  if (valid) viewOf(out).setUint32(3, information);
  out[7] = out.length - 8;
  out[12] = asc;
  out[13] = ascq;
  return out;
}
