import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULTS, type Inspect } from '../../emulator/index.ts';
import { createMachine } from '../../emulator/load.ts';

const HVC_1 = 0xd4000022;
const HERE = 0x14000000;
const SELF = 0xffff_ffff_ffff_ffffn;

test('a host that advertises it: a VP is started by hypercall, idles by register and gets an IPI from the other', () => {
  const START = 0x8_0000;
  const SECOND = START + 16;
  const words = Uint32Array.of(HVC_1, HVC_1, HERE, HERE, HVC_1, HERE);
  const machine = createMachine({
    ...DEFAULTS,
    ...{ boot: 'device-tree', load: START, kernel: new Uint8Array(words.buffer), kernelName: 'words' },
    ...{ memory: 64, cpus: 2, platform: 'wsl-woa', platformOverrides: { vpIndex: [4, 9] } },
  });
  const set = (vp: number, ...x: bigint[]): void => {
    x.forEach((value, n) => {
      assert.ok(machine.writeRegister(vp, `X${n}`, value));
    });
  };
  // HvCallStartVirtualProcessor through memory: partition, VP index, pc, sp, sctlr ... ttbr1, x18.
  const input = BigUint64Array.of(SELF, 9n, BigInt(SECOND), 0x1230n, 0x30d0_0980n, 0n, 0n, 0x5000n, 0n, 0n, 18n);
  machine.writePhysical(0x10_0000, new Uint8Array(input.buffer));
  set(0, 0x99n, 0x10_0000n, 0n);
  machine.run({ stepVp: 0 });
  assert.deepEqual(
    [
      machine.readRegister(0, 'X0'),
      machine.vpState(1),
      ...['PC', 'X18', 'SP_EL1', 'VBAR_EL1'].map((r) => machine.readRegister(1, r)),
    ],
    [0n, 'running', BigInt(SECOND), 18n, 0x1230n, 0x5000n],
  );
  // HvRegisterGuestIdle, fast.
  set(0, 0x1_0001_0050n, SELF, 0xffff_fffen, 0x250n);
  machine.run({ stepVp: 0 });
  assert.deepEqual([machine.readRegister(0, 'X0'), machine.vpState(0)], [0x1_0000_0000n, 'waiting']);
  // HvCallSendSyntheticClusterIpi, fast: SGI 5 to the VP with index 4.
  set(1, 0x1_000bn, 5n, 1n << 4n);
  machine.run({ stepVp: 1 });
  assert.equal(machine.readRegister(1, 'X0'), 0n);
  const { redistributors } = (machine.inspect().state as Inspect).gic as unknown as {
    redistributors: { pending: ArrayLike<number> }[];
  };
  assert.deepEqual(
    redistributors.map((r) => r.pending[0]),
    [1 << 5, 0],
  );
});
