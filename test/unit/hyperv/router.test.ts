import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { featuresOf } from '../../../emulator/hyperv/features.ts';
import { CALLS, hypercallNames, STATUS } from '../../../emulator/hyperv/tlfs.ts';
import { FakeGuest, numberOf, RAM_SIZE, SELF, VP_SELF } from './fake-guest.ts';

const FAST = 1n << 16n;
const reps = (count: number, start = 0): bigint => (BigInt(count) << 32n) | (BigInt(start) << 48n);
const success = (n = 0): bigint => BigInt(n) << 32n;
const get = FAST | reps(1) | 0x50n;
const set = FAST | reps(1) | 0x51n;

test('a fast GetVpRegisters by SMCCC answers in x6, x7 and touches no other register', () => {
  const g = new FakeGuest();
  g.x[0] = 0x4600_0001n;
  g.x[1] = get;
  g.x[2] = SELF;
  g.x[3] = VP_SELF;
  g.x[4] = 0xabcd_0000_0000_0100n; // padding above the name is garbage in Linux
  const before = g.x.slice();
  g.hvc('smccc');
  const expected = before.slice();
  expected[0] = success(1);
  expected[6] = 26100n | (((10n << 16n) | 0n) << 32n);
  expected[7] = 1n << 32n;
  assert.deepEqual(g.x, expected);
});

test('a fast GetVpRegisters by HVC #1 answers in x15, x16 and touches no other register', () => {
  const g = new FakeGuest();
  g.x[0] = get;
  g.x[1] = SELF;
  g.x[2] = VP_SELF;
  g.x[3] = BigInt(numberOf('HvRegisterVpIndex'));
  const before = g.x.slice();
  g.hvc('raw', 1);
  const expected = before.slice();
  expected[0] = success(1);
  expected[15] = 1n;
  expected[16] = 0n;
  assert.deepEqual(g.x, expected);
});

test('SetVpRegisters takes its value from x6, x7 (SMCCC) and x5, x6 (raw), and changes x0 alone', () => {
  const g = new FakeGuest();
  const name = BigInt(numberOf('HvRegisterGuestCrashP2'));
  g.smccc(set, [SELF, VP_SELF, name, 0n, 0x1111n, 0xffffn]);
  assert.equal(g.x[0], success(1));
  assert.equal(g.partition.readRegister(0, 'HvRegisterGuestCrashP2'), 0x1111n);
  const before = g.x.slice();
  g.raw(set, [SELF, VP_SELF, name, 0n, 0x2222n, 0n]);
  assert.equal(g.partition.readRegister(0, 'HvRegisterGuestCrashP2'), 0x2222n);
  assert.deepEqual(g.x.slice(7), before.slice(7));
});

test('several reps through memory: outputs are 16 bytes each, reps completed counts all', () => {
  const g = new FakeGuest();
  const at = 0x2000;
  g.ram.view.setBigUint64(at, SELF, true);
  g.ram.view.setUint32(at + 8, 0xffff_fffe, true);
  ['HvRegisterVpIndex', 'HvRegisterSversion', 'HvRegisterSint3'].forEach((name, n) => {
    g.ram.view.setUint32(at + 16 + 4 * n, numberOf(name), true);
  });
  const info = g.smccc(reps(3) | 0x50n, [BigInt(at), 0x3000n], 1);
  assert.equal(g.x[0], success(3));
  assert.deepEqual(
    [0, 8, 16, 24, 32, 40].map((o) => g.ram.view.getBigUint64(0x3000 + o, true)),
    [1n, 0n, 1n, 0n, 0x10000n, 0n],
  );
  assert.deepEqual(info.input, {
    PartitionId: SELF,
    VpIndex: 0xffff_fffe,
    InputVtl: 0,
    Names: ['HvRegisterVpIndex', 'HvRegisterSversion', 'HvRegisterSint3'],
  });
  assert.deepEqual(info.output, { Values: [1n, 1n, 0x10000n] });
});

test('a rep call that fails midway keeps what it has done; one that starts midway leaves earlier outputs alone', () => {
  const g = new FakeGuest();
  const at = 0x2000;
  g.ram.view.setBigUint64(at, SELF, true);
  g.ram.view.setUint32(at + 8, 0xffff_fffe, true);
  [numberOf('HvRegisterSversion'), numberOf('HvRegisterSversion'), 0x7777_7777].forEach((n, i) => {
    g.ram.view.setUint32(at + 16 + 4 * i, n, true);
  });
  g.ram.bytes.fill(0xee, 0x3000, 0x3040);
  g.smccc(reps(3, 1) | 0x50n, [BigInt(at), 0x3000n]);
  assert.equal(g.x[0], BigInt(STATUS.INVALID_PARAMETER) | success(2));
  const e = 0xeeee_eeee_eeee_eeeen;
  assert.deepEqual(
    [0, 8, 16, 24, 32, 40].map((o) => g.ram.view.getBigUint64(0x3000 + o, true)),
    [e, e, 1n, 0n, e, e],
  );
});

test('every rule about the form of a call has its status', () => {
  const page = 0x2000n;
  const cases: [string, bigint, bigint[], string][] = [
    ['unknown code', 0x3333n, [0n, 0n], 'INVALID_HYPERCALL_CODE'],
    ['known code without an answer', 0x7en, [page, 0n], 'INVALID_HYPERCALL_CODE'],
    ['privilege missing', 0x40n, [page, page], 'ACCESS_DENIED'],
    ['privilege missing for a call we have', 0x46n, [0n, page], 'ACCESS_DENIED'],
    ['simple call with reps', FAST | reps(1) | 0x5dn, [0n], 'INVALID_HYPERCALL_INPUT'],
    ['simple call with rep start', FAST | (1n << 48n) | 0x5dn, [0n], 'INVALID_HYPERCALL_INPUT'],
    ['rep call without reps', FAST | 0x50n, [SELF, VP_SELF, 0n], 'INVALID_HYPERCALL_INPUT'],
    ['rep start at rep count', FAST | reps(1, 1) | 0x50n, [SELF, VP_SELF, 0n], 'INVALID_HYPERCALL_INPUT'],
    ['variable header where there is none', FAST | (1n << 17n) | 0x5dn, [0n], 'INVALID_HYPERCALL_INPUT'],
    ['reserved bits 30:27', FAST | (1n << 27n) | 0x5dn, [0n], 'INVALID_HYPERCALL_INPUT'],
    ['reserved bits 63:60', FAST | (1n << 63n) | 0x5dn, [0n], 'INVALID_HYPERCALL_INPUT'],
    ['nested', FAST | (1n << 31n) | 0x5dn, [0n], 'INVALID_HYPERCALL_INPUT'],
    ['fast input larger than the window', FAST | 0x5cn, [0n], 'INVALID_HYPERCALL_INPUT'],
    ['fast input and output larger than the window', FAST | reps(7) | 0x50n, [SELF, VP_SELF], 'INVALID_HYPERCALL_INPUT'],
    ['input not aligned', 0x5cn, [page + 4n, 0n], 'INVALID_ALIGNMENT'],
    ['input crosses a page', 0x5cn, [page + 0xf08n, 0n], 'INVALID_HYPERCALL_INPUT'],
    ['input not in RAM', 0x5cn, [BigInt(RAM_SIZE), 0n], 'INVALID_HYPERCALL_INPUT'],
    ['input far away', 0x5cn, [0xffff_ffff_ffff_f000n, 0n], 'INVALID_HYPERCALL_INPUT'],
    ['output not aligned', reps(1) | 0x50n, [page, 0x3001n], 'INVALID_ALIGNMENT'],
    ['output crosses a page', reps(2) | 0x50n, [page, 0x3ff0n], 'INVALID_HYPERCALL_INPUT'],
    ['output not in RAM', reps(1) | 0x50n, [page, BigInt(RAM_SIZE)], 'INVALID_HYPERCALL_INPUT'],
  ];
  const got = cases.map(([what, control, inputs]) => {
    const g = new FakeGuest();
    const info = g.smccc(control, inputs);
    assert.equal(g.x[0] & 0xffffn, BigInt(info.status ?? -1), what);
    return [what, info.statusName];
  });
  assert.deepEqual(
    got,
    cases.map(([what, , , status]) => [what, `HV_STATUS_${status}`]),
  );
});

test('a block that ends exactly at its page is fine, and an absent output is not looked at', () => {
  const g = new FakeGuest();
  const at = 0x2f00;
  g.ram.view.setUint32(at, 0x77, true);
  g.ram.view.setUint32(at + 8, 1, true);
  assert.equal(g.smccc(0x5cn, [BigInt(at), 0x1n]).statusName, 'HV_STATUS_INVALID_CONNECTION_ID');
});

test('targets: own VP by number, another VP, no such VP, no such partition, another VTL', () => {
  const ask = (partition: bigint, vp: bigint) => {
    const g = new FakeGuest();
    const info = g.smccc(get, [partition, vp, BigInt(numberOf('HvRegisterVpIndex'))]);
    return [info.statusName, info.status === 0 ? g.x[6] : undefined];
  };
  assert.deepEqual(
    [
      ask(SELF, 0n),
      ask(2n, 1n),
      ask(SELF, 2n),
      ask(9n, 0n),
      ask(SELF, VP_SELF | (0x11n << 32n)),
      ask(SELF, VP_SELF | (0x10n << 32n)),
    ],
    [
      ['HV_STATUS_SUCCESS', 0n],
      ['HV_STATUS_SUCCESS', 1n],
      ['HV_STATUS_INVALID_VP_INDEX', undefined],
      ['HV_STATUS_INVALID_PARTITION_ID', undefined],
      ['HV_STATUS_INVALID_PARAMETER', undefined],
      ['HV_STATUS_SUCCESS', 0n],
    ],
  );
});

test('SignalEvent takes its parameter fast, and from memory as FreeBSD passes it', () => {
  const g = new FakeGuest();
  const seen: [number, number, number][] = [];
  g.partition.connectEventPort(0x2001, 1, (vp, id, flag) => {
    seen.push([vp, id, flag]);
    return STATUS.SUCCESS;
  });
  g.smccc(FAST | 0x5dn, [0x2001n | (5n << 32n)], 1);
  g.raw(FAST | 0x5dn, [0x2001n]);
  g.ram.view.setUint32(0x2000, 0x2001, true);
  g.smccc(0x5dn, [0x2000n, 0n]);
  assert.deepEqual(seen, [
    [1, 0x2001, 5],
    [0, 0x2001, 0],
    [0, 0x2001, 0],
  ]);
  assert.equal(g.smccc(FAST | 0x5dn, [0x2002n]).statusName, 'HV_STATUS_INVALID_CONNECTION_ID');
  assert.equal(g.smccc(FAST | 0x5dn, [0x2001n | (2048n << 32n)]).statusName, 'HV_STATUS_INVALID_PARAMETER');
});

test('PostMessage hands over exactly the payload and limits size, type and connection', () => {
  const g = new FakeGuest();
  const seen: [number, number, number][] = [];
  g.partition.connectMessagePort(1, {
    post: (vp, type, payload) => {
      seen.push([vp, type, payload.length]);
      return STATUS.INSUFFICIENT_BUFFERS;
    },
    describe: (_type, payload) => ({ length: payload.length }),
  });
  const post = (connection: number, type: number, size: number) => {
    [connection, 0, type, size].forEach((w, i) => {
      g.ram.view.setUint32(0x2000 + 4 * i, w, true);
    });
    return g.smccc(0x5cn, [0x2000n, 0n]);
  };
  const info = post(0x0100_0001, 1, 12); // connection ids have 24 bits
  assert.deepEqual(
    [info.statusName, info.input],
    ['HV_STATUS_INSUFFICIENT_BUFFERS', { ConnectionId: 0x0100_0001, MessageType: 1, PayloadSize: 12, Message: { length: 12 } }],
  );
  assert.deepEqual(
    [post(1, 1, 240), post(1, 1, 241), post(1, 0x8000_0010, 8), post(3, 1, 8)].map((i) => i.statusName),
    [
      'HV_STATUS_INSUFFICIENT_BUFFERS',
      'HV_STATUS_INVALID_PARAMETER',
      'HV_STATUS_INVALID_PARAMETER',
      'HV_STATUS_INVALID_CONNECTION_ID',
    ],
  );
  assert.deepEqual(seen, [
    [0, 1, 12],
    [0, 1, 240],
  ]);
});

test('an 8-byte fast output takes one register', () => {
  const features = featuresOf(['AccessPartitionId', 'EnableExtendedHypercalls', 'FastHypercallOutput']);
  const g = new FakeGuest({ features });
  const before = g.x.slice();
  g.raw(FAST | 0x46n, []);
  assert.deepEqual([g.x[0], g.x.slice(1)], [0n, before.slice(1).map((v, i) => (i + 1 === 15 ? 2n : v))]);
  const smccc = g.x.slice();
  g.smccc(FAST | 0x46n, []);
  assert.deepEqual([g.x[0], g.x[2], g.x.slice(3)], [0n, 2n, smccc.slice(3)]);
  g.smccc(0x8001n, [0n, 0x3000n]);
  assert.deepEqual([g.x[0], g.ram.view.getBigUint64(0x3000, true)], [0n, 0x100n]);
});

test('flushes reach the VPs they name', () => {
  const flushed = (control: bigint, inputs: bigint[]) => {
    const g = new FakeGuest({ vps: 4 });
    return [g.smccc(FAST | control, inputs).statusName, g.flushed];
  };
  const variable = (n: number) => BigInt(n) << 17n;
  const ok = 'HV_STATUS_SUCCESS';
  assert.deepEqual(
    [
      flushed(0x02n, [0n, 0n, 0b1010n]),
      flushed(0x02n, [0n, 1n, 0n]),
      flushed(reps(2) | 0x03n, [0n, 0n, 1n, 0x1000n, 0x2000n]),
      flushed(variable(1) | 0x13n, [0n, 0n, 0n, 1n, 0b100n]),
      flushed(0x13n, [0n, 0n, 1n, 0n]),
      flushed(variable(1) | 0x13n, [0n, 0n, 0n, 3n, 0b100n]),
      flushed(variable(1) | reps(1) | 0x14n, [0n, 0n, 0n, 1n, 0b1000n, 0x1000n]),
    ],
    [
      [ok, [1, 3]],
      [ok, [0, 1, 2, 3]],
      [ok, [0, 0]],
      [ok, [2]],
      [ok, [0, 1, 2, 3]],
      ['HV_STATUS_INVALID_HYPERCALL_INPUT', []],
      [ok, [3]],
    ],
  );
});

test('decoding has no side effects, and executing looks at the registers again', () => {
  const g = new FakeGuest();
  const { regs } = g;
  [0x4600_0001n, set, SELF, VP_SELF, BigInt(numberOf('HvRegisterGuestCrashP0')), 0n, 5n, 0n].forEach((v, n) => {
    g.x[n] = v;
  });
  const before = g.x.slice();
  const entry = g.partition.router.decode(0, 'smccc', regs, 0x1000n, 0x2000n);
  assert.deepEqual([g.x, g.events.length, g.partition.state.crash.parameters[0]], [before, 0, 0n]);
  assert.deepEqual(entry, {
    phase: 'entry',
    vp: 0,
    pc: 0x1000n,
    lr: 0x2000n,
    conduit: 'smccc',
    code: 0x51,
    name: 'HvCallSetVpRegisters',
    fast: true,
    repCount: 1,
    repStart: 0,
    control: set,
    input: { PartitionId: SELF, VpIndex: 0xffff_fffe, InputVtl: 0, Elements: [{ Name: 'HvRegisterGuestCrashP0', Value: 5n }] },
  });
  g.x[6] = 6n; // the user edits the value while stopped
  const done = g.partition.router.execute(entry, regs);
  assert.equal(g.partition.state.crash.parameters[0], 6n);
  assert.deepEqual([done.phase, done.status, done.repsCompleted, done.output], ['return', 0, 1, {}]);
  assert.deepEqual(
    g.events.map((e) => e.kind),
    ['vp-register', 'hypercall'],
  );
});

test('call codes and names are unique', () => {
  const names = hypercallNames();
  assert.equal(new Set(names.map((n) => n.code)).size, names.length);
  assert.equal(names.length, Object.keys(CALLS).length);
});

test('any registers at all give a status, and change x0 to x17 only', () => {
  const codes = fc.oneof(fc.constantFrom(...hypercallNames().map((n) => n.code)), fc.integer({ min: 0, max: 0xffff }));
  const word = fc.oneof(
    fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    fc.integer({ min: 0, max: RAM_SIZE >> 3 }).map((n) => BigInt(n * 8)),
    fc.constantFrom(SELF, VP_SELF, 0n, 1n, BigInt(numberOf('HvRegisterSipp')), BigInt(numberOf('HvRegisterStimer0Config'))),
  );
  const control = fc
    .tuple(
      codes,
      fc.boolean(),
      fc.integer({ min: 0, max: 3 }),
      fc.integer({ min: 0, max: 5 }),
      fc.integer({ min: 0, max: 2 }),
      fc.boolean(),
    )
    .map(
      ([code, fast, header, count, start, odd]) =>
        BigInt(code) | (fast ? FAST : 0n) | (BigInt(odd ? header : 0) << 17n) | reps(count, start),
    );
  const g = new FakeGuest();
  for (let i = 0; i < RAM_SIZE / 8; i += 3) g.ram.view.setBigUint64(i * 8, (BigInt(i) * 0x9e37_79b9_7f4a_7c15n) & SELF, true);
  const statuses = new Set<number>();
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.boolean(), control, fc.array(word, { minLength: 16, maxLength: 16 })), { maxLength: 8 }),
      (calls) => {
        for (const [raw, c, words] of calls) {
          const high = g.x.slice(18);
          const info = raw ? g.raw(c, words) : g.smccc(c, words);
          statuses.add(info.status ?? -1);
          assert.equal(g.x[0] & 0xffffn, BigInt(info.status ?? -1));
          assert.deepEqual(g.x.slice(18), high);
        }
      },
    ),
    { numRuns: 400, seed: 7 },
  );
  assert.ok(statuses.has(STATUS.SUCCESS) && statuses.has(STATUS.ACCESS_DENIED) && statuses.has(STATUS.INVALID_HYPERCALL_INPUT));
});
