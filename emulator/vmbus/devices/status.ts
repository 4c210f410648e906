/** HRESULTs that guests answer integration services with (include/uapi/linux/hyperv.h). */
import { hex } from '../../base/bits.ts';

export const STATUS = {
  ok: 0,
  fail: 0x8000_4005,
  noMoreItems: 0x8007_0103,
  notSupported: 0x8007_0032,
  machineLocked: 0x8007_04f7,
  notConnected: 0x8007_048f,
  invalidArgument: 0x8007_0057,
  notFound: 0x8004_1002,
  alreadyExists: 0x8007_0050,
  diskFull: 0x8007_0070,
} as const;

const TEXT: Record<number, string> = {
  [STATUS.ok]: 'done',
  [STATUS.fail]: 'the guest failed',
  [STATUS.noMoreItems]: 'no such item',
  [STATUS.notSupported]: 'not supported',
  [STATUS.machineLocked]: 'the machine is locked',
  [STATUS.notConnected]: 'not connected',
  [STATUS.invalidArgument]: 'invalid argument',
  [STATUS.notFound]: 'no such adapter',
  [STATUS.alreadyExists]: 'the file exists',
  [STATUS.diskFull]: 'the disk is full',
};

/** `the file exists (0x80070050)`; 0 is `done`. */
export const statusText = (status: number): string => (status === 0 ? 'done' : `${TEXT[status] ?? 'failed'} (${hex(status, 8)})`);
