import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Context, evaluate } from '../../../debug-adapter/expression/evaluate.ts';
import type { CodePlace } from '../../../debug-adapter/expression/lower.ts';
import {
  callCode,
  codeAddresses,
  CodeBreakpoints,
  Engine,
  guard,
  HypercallStops,
  hypercallContext,
  hypercallStop,
  judge,
  type DataBreakpoint,
  hasChanged,
  hypervisorAccesses,
  type Places,
} from '../../../debug-adapter/stops.ts';
import { Symbolizer } from '../../../debug-adapter/symbols/symbolizer.ts';
import { UserError } from '../../../debug-adapter/user-error.ts';
import type { Filter, HypercallInfo, Machine } from '../../../emulator/index.ts';

const nothing: Context = { register: () => undefined, name: () => undefined, symbol: () => undefined, read: () => undefined };
const call = (over: Partial<HypercallInfo> = {}): HypercallInfo => ({
  phase: 'entry',
  vp: 0,
  pc: 0n,
  lr: 0n,
  conduit: 'smccc',
  code: 0x5c,
  name: 'HvCallPostMessage',
  fast: false,
  repCount: 0,
  repStart: 0,
  control: 0x5cn,
  input: { ConnectionId: 4, MessageType: 1, Message: { Message: 'InitiateContact', Version: '5.3' } },
  ...over,
});
const returned = (status: number, statusName: string) => call({ phase: 'return', status, statusName, output: {} });
const matches = (stop: ReturnType<typeof hypercallStop>, info: HypercallInfo): { stop: boolean; said: string[] } => {
  const stops = new HypercallStops();
  stops.set('test', [stop]);
  const said: string[] = [];
  const show = (node: Parameters<typeof evaluate>[0], context: Context) => {
    const v = evaluate(node, context);
    return v.text ?? String(v.value);
  };
  return {
    stop: stops.matches(
      info,
      () => nothing,
      show,
      (text) => said.push(text),
    ),
    said,
  };
};

test('a call is named by its TLFS name, with or without HvCall, or its code; others are refused with the nearest names', () => {
  assert.deepEqual(
    ['HvCallPostMessage', 'hvcallpostmessage', 'PostMessage', '0x5c', '0x5C', '92'].map(callCode),
    [0x5c, 0x5c, 0x5c, 0x5c, 0x5c, 92],
  );
  assert.equal(callCode('0x1234'), 0x1234, 'codes without a name can be watched');
  assert.throws(
    () => callCode('HvCallPostMesage'),
    (e) => e instanceof UserError && /did you mean HvCallPostMessage/.test(e.message),
  );
  assert.throws(() => callCode('zzz'), /unknown hypercall "zzz" \(a TLFS name/);
  assert.throws(() => callCode('0x10000'), /above 0xffff/);
});

test('conditions see decoded fields at any depth, facts of the call, status names and numbers', () => {
  const yes = [
    'ConnectionId == 4',
    'Message.Message == "InitiateContact"',
    'call == "HvCallPostMessage" && code == 0x5c',
    'vp == 0 && !fast',
    'conduit == "smccc"',
    'control == 0x5c',
    '',
  ];
  for (const condition of yes) assert.equal(matches(hypercallStop('0x5c', { condition }), call()).stop, true, condition);
  for (const condition of ['ConnectionId == 5', 'Message.Version == "5.2"', '0'])
    assert.equal(matches(hypercallStop('0x5c', { condition }), call()).stop, false, condition);
  assert.equal(
    matches(
      hypercallStop('0x5c', { condition: 'status == HV_STATUS_INVALID_CONNECTION_ID' }),
      returned(0x12, 'HV_STATUS_INVALID_CONNECTION_ID'),
    ).stop,
    true,
  );
  assert.equal(hypercallContext(call(), nothing).name('status'), undefined, 'nothing is returned at entry');
});

test('the phase: a condition about the status means on return; "entry:" and "return:" say it; the caller\'s word counts most', () => {
  const phases = (condition: string, phase?: 'entry' | 'return') => hypercallStop('0x5c', { condition }, phase).phase;
  assert.deepEqual(
    [
      phases(''),
      phases('status != 0'),
      phases('return: 1'),
      phases('entry: status'),
      phases('status', 'entry'),
      phases('return: 1', 'entry'),
    ],
    ['entry', 'return', 'return', 'entry', 'entry', 'entry'],
  );
  assert.equal(matches(hypercallStop('0x5c', {}), returned(0, 'HV_STATUS_SUCCESS')).stop, false);
});

test('"any hypercall" takes the call from its condition', () => {
  const any = (condition: string) => {
    const s = hypercallStop(undefined, { condition });
    return [s.code, s.phase, s.condition !== undefined];
  };
  assert.deepEqual(any(''), [undefined, 'entry', false]);
  assert.deepEqual(any('HvCallPostMessage'), [0x5c, 'entry', false]);
  assert.deepEqual(any('0x5d and ConnectionId == 4'), [0x5d, 'entry', true]);
  assert.deepEqual(any('HvCallPostMessage && return: status != 0'), [0x5c, 'return', true]);
  assert.deepEqual(any('return: HvCallPostMessage'), [0x5c, 'return', false]);
  assert.deepEqual(any('vp == 1'), [undefined, 'entry', true]);
  assert.throws(() => any('HvCallNone and 1'), UserError);
  assert.throws(() => any('HvCallPostMessage and 1 +'), UserError);
});

test('a condition that cannot be evaluated does not stop, and is reported once', () => {
  const stops = new HypercallStops();
  stops.set('test', [hypercallStop('0x5c', { condition: 'NoSuchField == 1' })]);
  const said: string[] = [];
  for (let i = 0; i < 3; i++)
    assert.equal(
      stops.matches(
        call(),
        () => nothing,
        () => '',
        (text) => said.push(text),
      ),
      false,
    );
  assert.deepEqual(said, ['The condition of the breakpoint on 0x5c cannot be evaluated: NoSuchField is not known here']);
});

test('hit counts', () => {
  const hits = (hitCondition: string) => {
    const g = guard({ hitCondition });
    return Array.from({ length: 7 }, (_, i) => (judge(g, nothing, () => '').stop ? i + 1 : 0)).filter(Boolean);
  };
  assert.deepEqual(['3', '>=3', '> 3', '== 3', '= 3', '< 3', '<= 3', '% 3'].map(hits), [
    [3, 4, 5, 6, 7],
    [3, 4, 5, 6, 7],
    [4, 5, 6, 7],
    [3],
    [3],
    [1, 2],
    [1, 2, 3],
    [3, 6],
  ]);
  for (const bad of ['x', '0', '-1', '3 4', '> ']) assert.throws(() => guard({ hitCondition: bad }), UserError, bad);
});

test('a log message is said instead of stopping, with expressions in braces', () => {
  const stop = hypercallStop('0x5c', {
    logMessage: 'to {ConnectionId + 1}: {Message.Message}',
    condition: 'ConnectionId == 4',
    hitCondition: '2',
  });
  assert.deepEqual(matches(stop, call()), { stop: false, said: [] });
  assert.deepEqual(matches(stop, call()), { stop: false, said: ['to 5: InitiateContact'] });
  assert.throws(() => hypercallStop('0x5c', { logMessage: '{1 +}' }), UserError);
});

test('each origin replaces its own hypercall breakpoints', () => {
  const stops = new HypercallStops();
  stops.set('launch', [hypercallStop('0x5c', {})]);
  stops.set('command', [hypercallStop('0x5d', {})]);
  stops.set('launch', []);
  const at = (code: number) =>
    stops.matches(
      call({ code }),
      () => nothing,
      () => '',
      () => {},
    );
  assert.deepEqual([at(0x5c), at(0x5d), stops.empty], [false, true, false]);
  stops.set('command', []);
  assert.equal(stops.empty, true);
});

test('a breakpoint on changes is for writes of another value', () => {
  const b: DataBreakpoint = { id: 1, text: '', address: 0x1000n, size: 2, access: 'w', hits: 0, change: true };
  const bytes = (...of: number[]) => Uint8Array.from(of);
  const now = [bytes(1, 2), bytes(1, 2), bytes(1, 3), undefined, bytes(1, 3), bytes(1, 3)];
  assert.deepEqual(
    now.map((n) => hasChanged(b, n)),
    [true, false, true, true, true, false],
  );
});

test('registers of the hypervisor that calls are about to access', () => {
  const call = (name: string, input: object, phase = 'entry') =>
    hypervisorAccesses({ name, input, phase } as Parameters<typeof hypervisorAccesses>[0]);
  assert.deepEqual(call('HvCallGetVpRegisters', { Names: ['HvRegisterVpIndex'] }), [
    { name: 'hv.HvRegisterVpIndex', write: false },
  ]);
  assert.deepEqual(call('HvCallSetVpRegisters', { Elements: [{ Name: 'HvRegisterSipp', Value: 5n }] }), [
    { name: 'hv.HvRegisterSipp', write: true, value: 5n },
  ]);
  assert.deepEqual(call('HvCallSetVpRegisters', { Elements: [] }, 'return'), []);
  assert.deepEqual(call('HvCallPostMessage', { Names: ['x'] }), []);
});

test('function breakpoints: by name, offset or address; all places of a name; pending until it is known', () => {
  const symbols = new Symbolizer();
  const placed = new Set<bigint>();
  const machine = {
    setBreakpoint: (a: bigint) => placed.add(a),
    clearBreakpoint: (a: bigint) => placed.delete(a),
  } as unknown as Machine;
  const points = new CodeBreakpoints();
  const places: Places = { symbols, functionAddresses: () => undefined, describes: () => false };
  points.set(
    'function',
    [{ text: 'twice' }, { text: 'once+0x8' }, { text: '0x4000' }, { text: 'never', condition: '1 +' }],
    places,
  );
  points.place(machine);
  assert.deepEqual([...placed], [0x4000n]);
  assert.equal(points.named, true);
  assert.match(points.list[3].problem ?? '', /missing at the end/);
  const s = (address: bigint, name: string) => ({ address, name, type: 'T', size: 0 });
  symbols.setKernel([s(0x1000n, 'twice'), s(0x2000n, 'once'), s(0x3000n, 'twice')], 0x9000n);
  assert.deepEqual(
    points.resolve(places).map((b) => b.text),
    ['twice', 'once+0x8'],
  );
  assert.deepEqual(points.resolve(places), [], 'nothing has changed since');
  points.internal.add(0x5000n);
  points.place(machine);
  assert.deepEqual(
    [...placed].sort((a, b) => Number(a - b)),
    [0x1000n, 0x2008n, 0x3000n, 0x4000n, 0x5000n],
  );
  assert.deepEqual(
    points.at(0x3000n).map((b) => b.text),
    ['twice'],
  );
  points.set('function', [], places);
  assert.equal(points.named, false, 'modules that are loaded are of no interest');
  points.internal.clear();
  points.place(machine);
  assert.deepEqual([...placed], []);
  assert.deepEqual(codeAddresses('two words', symbols), []);
  const inModule = { ...s(0xa000n, 'once'), module: 'm' };
  symbols.setModules([{ symbols: [inModule], end: 0xb000n }]);
  assert.deepEqual(codeAddresses('once', symbols), [0x2000n, 0xa000n]);
  assert.deepEqual(codeAddresses('once+0x4 [m]', symbols), [0xa004n], 'as call stacks show it');
  const clones = ['once.constprop.0', 'once.isra.3.part.1', 'once.cold', 'once.llvm.12'];
  symbols.setKernel([s(0x2000n, 'once'), ...clones.map((name, i) => s(0x3000n + BigInt(i) * 16n, name))], 0x9000n);
  assert.deepEqual(codeAddresses('once [m]', symbols), [0xa000n]);
  assert.deepEqual(
    codeAddresses('once', symbols),
    [0x2000n, 0xa000n, 0x3000n, 0x3010n],
    'clones are copies, cold parts are none',
  );
  // Debug information knows some of the places; what it does not describe comes from the symbol table.
  const described: Places = { symbols, functionAddresses: () => [0x2004n], describes: (a) => a < 0x9000n };
  points.set('function', [{ text: 'once' }], described);
  assert.deepEqual(points.list[0].addresses, [0x2004n, 0xa000n]);
});

test('what the engine can judge is left to it from the first time on, until names may mean something else', () => {
  const set: [bigint, Filter | undefined][] = [];
  const hits = new Map<number, number>();
  const machine = {
    filterLimits: { clauses: 2, counters: 1 },
    setBreakpoint: (address: bigint, filter?: Filter) => set.push([address, filter]),
    clearBreakpoint: () => {},
    hits: (counter: number) => hits.get(counter) ?? 0,
    setHits: (counter: number, n: number) => hits.set(counter, n),
  } as Partial<Machine> as Machine;
  const x0: CodePlace = {
    types: undefined,
    module: undefined,
    symbol: () => undefined,
    register: (name) => (name === 'x0' ? { name, bits: 64, address: false } : undefined),
    variable: () => undefined,
    perCpuOffset: undefined,
    current: undefined,
  };
  const points = new CodeBreakpoints();
  points.engine = new Engine(machine, () => x0);
  const places: Places = { symbols: new Symbolizer(), functionAddresses: () => undefined, describes: () => false };
  const condition = '$x0 == 5';
  const last = () => set[set.length - 1];
  points.set('function', [{ text: '0x1000', condition, hitCondition: '% 3' }], places);
  points.place(machine);
  assert.deepEqual(set, [[0x1000n, undefined]]);
  const [b] = points.list;
  assert.equal(points.engine.count(b), 1);
  points.leaveToEngine(0x1000n);
  const clause = { condition: { op: 'ne' }, hit: { op: '%', count: 3, counter: 0 } };
  const told = ([address, filter]: [bigint, Filter | undefined]) => [
    address,
    filter?.clauses.map((c) => ({ condition: { op: c.condition?.op }, hit: c.hit })),
  ];
  assert.deepEqual([told(last()), hits.get(0)], [[0x1000n, [clause]], 1]);
  assert.deepEqual(points.met(0x1000n, [0]), { hit: [b], judged: true });
  assert.deepEqual(points.met(0x1000n, undefined), { hit: [b], judged: false });

  // A stop of ours there, and gone again.
  points.internal.add(0x1000n);
  points.place(machine);
  assert.deepEqual(last(), [0x1000n, undefined]);
  points.leaveToEngine(0x1000n);
  assert.deepEqual(last(), [0x1000n, undefined]);
  points.internal.clear();
  points.leaveToEngine(0x1000n);
  assert.deepEqual(told(last()), [0x1000n, [clause]]);
  points.forgetMeanings(machine);
  assert.deepEqual(last(), [0x1000n, undefined]);
  points.leaveToEngine(0x1000n);

  // Set again it goes on counting; another has no counter left, and the debugger counts.
  hits.set(0, 7);
  points.set('function', [{ text: '0x1000', condition, hitCondition: '% 3' }], places);
  points.set(
    'instruction',
    [
      { text: '0x2000', hitCondition: '3' },
      { text: '0x3000', condition: '"a" == "a"' },
    ],
    places,
  );
  points.place(machine);
  for (const at of [0x1000n, 0x2000n, 0x3000n]) points.leaveToEngine(at);
  assert.deepEqual(told(last()), [0x1000n, [clause]]);
  assert.equal(hits.get(0), 7);
  assert.deepEqual(
    [1, 2].map(() => points.engine?.count(points.list[1])),
    [1, 2],
  );

  // Three at one place are more than the machine has clauses for.
  points.set(
    'instruction',
    [1, 2].map(() => ({ text: '0x1000', condition })),
    places,
  );
  points.place(machine);
  points.leaveToEngine(0x1000n);
  assert.deepEqual(last(), [0x1000n, undefined]);
});
