/** The /chosen node: what the boot loader tells the kernel (Linux Documentation, arch/arm64/booting.rst; dt-schema chosen.yaml). */
import { ConfigError } from '../config.ts';
import { cells64, type DtNode, dtString } from './device-tree.ts';
import { Entropy, STREAM } from './entropy.ts';
import type { Program } from './loadable-kernel.ts';

/** Linux arm64 COMMAND_LINE_SIZE, terminator included. */
const COMMAND_LINE_SIZE = 2048;

/** Throws `ConfigError` when the command line is too long. `more`: properties of one kind of boot. */
export function chosenNode(
  config: Pick<Program, 'append' | 'seed'>,
  initrd: { gpa: number; size: number } | undefined,
  more: DtNode['properties'],
): DtNode {
  const bootargs = dtString(config.append);
  if (bootargs.length > COMMAND_LINE_SIZE)
    throw new ConfigError(`the kernel command line has ${bootargs.length - 1} bytes; Linux takes ${COMMAND_LINE_SIZE - 1}`);
  return {
    properties: {
      bootargs,
      ...(initrd && { 'linux,initrd-start': cells64(initrd.gpa), 'linux,initrd-end': cells64(initrd.gpa + initrd.size) }),
      ...more,
      'kaslr-seed': new Entropy(config.seed, STREAM.kaslr).bytes(8),
      'rng-seed': new Entropy(config.seed, STREAM.rng).bytes(64),
    },
  };
}
