import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Trace, type TraceEvent } from '../../../emulator/base/trace.ts';
import { psciRows } from '../../../emulator/platform/psci.ts';
import { smcccRows, Smccc } from '../../../emulator/platform/smccc.ts';

function firmware() {
  const trace = new Trace();
  const events: TraceEvent[] = [];
  trace.subscribe((e) => events.push(e));
  const host = { vpCount: 3, isOn: (vp: number) => vp !== 2, isMemory: (gpa: bigint) => gpa < 0x1000_0000n };
  const smccc = new Smccc([...smcccRows(), ...psciRows(host)], trace);
  /** Signed X0, and the effect's kind. */
  const call = (id: number, ...args: bigint[]) => {
    const x = [BigInt(id), ...args];
    const effect = smccc.call(
      0,
      {
        x: (n) => x[n] ?? 0n,
        setX: (n, v) => {
          x[n] = v;
        },
      },
      'smc',
      0x4000n,
    );
    return effect ? [BigInt.asIntN(64, x[0]), effect] : BigInt.asIntN(64, x[0]);
  };
  return { call, events };
}

test('versions and feature discovery', () => {
  const { call } = firmware();
  const features = (id: number) => call(0x8400000a, BigInt(id));
  assert.deepEqual(
    {
      psci: call(0x84000000),
      smccc: call(0x80000000),
      migrate: call(0x84000006),
      supported: [0x80000000, 0x84000001, 0xc4000001, 0xc4000003, 0x84000008, 0x84000012, 0xc4000012, 0x8400000a].map(features),
      absent: [0x84000005, 0xc400000e, 0x84000050, 0x80000001, 0x84000014, 0x8600ff01].map(features),
      arch: [0x80000000, 0x80000001, 0x80008000, 0x80007fff, 0x80003fff, 0x80000002, 0xc5000020].map((id) =>
        call(0x80000001, BigInt(id)),
      ),
      unknown: [call(0x84000050), call(0x8600ff01), call(0xc5000020), call(0x12345678), call(0x80008000)],
    },
    {
      psci: 0x10001n,
      smccc: 0x10002n,
      migrate: 2n,
      supported: Array(8).fill(0n),
      absent: Array(6).fill(-1n),
      arch: [0n, 0n, 1n, 1n, 1n, -1n, -1n],
      unknown: [-1n, -1n, -1n, -1n, 0n],
    },
  );
});

test('CPU_ON starts a VP that is off, at memory', () => {
  const { call } = firmware();
  const on = (id: number, ...args: bigint[]) => call(id, ...args);
  assert.deepEqual(on(0xc4000003, 2n, 0x8000n, 0x1_0000_0001n), [
    0n,
    { kind: 'cpu-on', vp: 2, entry: 0x8000n, context: 0x1_0000_0001n },
  ]);
  assert.deepEqual(on(0x84000003, 2n, 0xffff_ffff_0000_8000n, 0x1_0000_0001n), [
    0n,
    { kind: 'cpu-on', vp: 2, entry: 0x8000n, context: 1n },
  ]);
  assert.deepEqual(
    [on(0xc4000003, 1n, 0x8000n), on(0xc4000003, 3n, 0x8000n), on(0xc4000003, 0x102n, 0x8000n), on(0xc4000003, 2n, 0xf000_0000n)],
    [-4n, -2n, -2n, -9n],
  );
});

test('AFFINITY_INFO tells who is on', () => {
  const { call } = firmware();
  assert.deepEqual(
    [call(0xc4000004, 0x80000001n, 0n), call(0xc4000004, 2n, 0n), call(0xc4000004, 9n, 0n), call(0xc4000004, 1n, 1n)],
    [0n, 1n, -2n, -2n],
  );
});

test('what the machine has to do is an effect', () => {
  const { call } = firmware();
  assert.deepEqual(
    [
      call(0x84000002),
      call(0xc4000001, 0x10000n),
      call(0x84000008),
      call(0x84000009),
      call(0xc4000012, 0n),
      call(0xc4000012, 0x80000001n),
    ],
    [
      [0n, { kind: 'cpu-off' }],
      [0n, { kind: 'suspend' }],
      [0n, { kind: 'power-off' }],
      [0n, { kind: 'reset' }],
      [0n, { kind: 'reset' }],
      -2n,
    ],
  );
});

test('every call is told by name', () => {
  const { call, events } = firmware();
  call(0x84000000);
  call(0xc4000003, 2n, 0x8000n, 5n);
  call(0x8400ffff);
  assert.deepEqual(
    events.map((e) => (e.kind === 'psci' || e.kind === 'smccc') && [e.kind, e.name, e.conduit, e.pc, e.args, e.result]),
    [
      ['psci', 'PSCI_VERSION', 'smc', 0x4000n, [0n, 0n, 0n], 0x10001n],
      ['psci', 'CPU_ON', 'smc', 0x4000n, [2n, 0x8000n, 5n], 0n],
      ['smccc', 'SMCCC 0x8400ffff', 'smc', 0x4000n, [0n, 0n, 0n], 0xffffffffffffffffn],
    ],
  );
});

test('two rows with one number are refused', () => {
  assert.throws(() => new Smccc([...smcccRows(), smcccRows()[0]], new Trace()), /0x80000000 is there twice/);
});
