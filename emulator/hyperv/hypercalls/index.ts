/** Every hypercall that has an answer. All other calls that tlfs.ts names are refused by the router's rules. */
import type { Hypercall } from './hypercall.ts';
import { EXTENDED } from './extended.ts';
import { IPC } from './ipc.ts';
import { PARTITION } from './partition.ts';
import { VIRTUAL_ADDRESS } from './virtual-address.ts';
import { VIRTUAL_PROCESSOR } from './virtual-processor.ts';
import { VP_REGISTERS } from './vp-registers.ts';

export const HYPERCALLS: readonly Hypercall[] = [
  ...VP_REGISTERS,
  ...IPC,
  ...PARTITION,
  ...VIRTUAL_ADDRESS,
  ...VIRTUAL_PROCESSOR,
  ...EXTENDED,
];
