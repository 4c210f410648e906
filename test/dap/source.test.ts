import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { Client, EMBEDDED } from './harness.ts';

/** Debugging C sources, on the embedded guest: a freestanding kernel with DWARF 5. */
const FOLDER = path.dirname(EMBEDDED);
const FIXTURE = path.join(FOLDER, 'fixture.c');
const launch = { kernel: EMBEDDED, memory: 64, sourceMap: { '': FOLDER } };

/** Line (from 1) of the first line of a source that has `text`. */
const lineOf = (file: string, text: string): number => {
  const at = fs
    .readFileSync(file, 'utf8')
    .split('\n')
    .findIndex((l) => l.includes(text));
  assert.notEqual(at, -1, text);
  return at + 1;
};
type Breakpoints = DebugProtocol.SetBreakpointsResponse['body'];
const place = (f: DebugProtocol.StackFrame) => `${f.name.replace(/\+0x[0-9a-f]+/, '')} ${f.source?.name}:${f.line}`;

test('a breakpoint on a line, frames with lines, steps over, into and out of functions', async (t) => {
  const dc = await Client.start(t);
  const line = lineOf(FIXTURE, 'total += inner(moved, i);');
  await dc.launch(launch, async () => {
    const { breakpoints } = await dc.request<Breakpoints>('setBreakpoints', {
      source: { path: FIXTURE },
      breakpoints: [{ line }, { line: lineOf(FIXTURE, 'enum colour {') }, { line: 100_000 }],
    });
    assert.deepEqual(
      breakpoints.map((b) => [b.verified, b.line]),
      [
        [true, line],
        // The next line that has code.
        [true, lineOf(FIXTURE, 'static int add(int a') + 1],
        [false, 100_000],
      ],
    );
  });
  let stop = await dc.stopped();
  assert.equal(stop.reason, 'breakpoint');
  assert.deepEqual((await dc.frames()).map(place).slice(0, 4), [
    `middle fixture.c:${line}`,
    `outer fixture.c:${lineOf(FIXTURE, 'int points = middle(3);')}`,
    `fixture_run fixture.c:${lineOf(FIXTURE, 'int result = outer();')}`,
    `main main.c:${lineOf(path.join(FOLDER, 'main.c'), 'fixture_run();')}`,
  ]);
  await dc.request('setBreakpoints', { source: { path: FIXTURE }, breakpoints: [] });

  const step = async (how: 'next' | 'stepIn' | 'stepOut'): Promise<string> => {
    await dc.request(how, { threadId: stop.threadId });
    stop = await dc.stopped();
    assert.equal(stop.reason, 'step');
    return place((await dc.frames())[0]);
  };
  const fixture = (text: string): string => `fixture.c:${lineOf(FIXTURE, text)}`;
  assert.equal(
    await step('stepIn'),
    `inner ${fixture('int product = p.x')}`.replace(/\d+$/, (n) => String(Number(n) - 1)),
  );
  assert.equal(await step('next'), `inner ${fixture('int local = fixture')}`);
  assert.equal(await step('stepIn'), `add fixture.c:${lineOf(FIXTURE, 'static int add(int a') + 1}`);
  assert.match(await step('stepOut'), /^inner fixture\.c:/);
  assert.equal(await step('stepOut'), `middle fixture.c:${line}`);
  assert.equal(await step('next'), `middle ${fixture('for (int i = 0; i < count')}`);
  assert.equal(await step('next'), `middle ${fixture('struct point moved =')}`);
  // Over recursion: the outer call, not one inside it.
  await dc.request('setFunctionBreakpoints', { breakpoints: [{ name: 'fib', condition: '$w0 == 5' }] });
  await dc.request('continue', { threadId: stop.threadId });
  stop = await dc.stopped();
  await dc.request('setFunctionBreakpoints', { breakpoints: [] });
  const depth = (await dc.frames()).length;
  for (const text of ['a = fib(n - 1);', 'b = fib(n - 2);']) {
    let at = '';
    for (let i = 0; i < 5 && at !== `fib ${fixture(text)}`; i++) at = await step('next');
    assert.equal(at, `fib ${fixture(text)}`);
    assert.equal((await dc.frames()).length, depth);
  }
  await dc.request('disconnect');
});

test('breakpoints are answered before the machine is made, and those that were set then stop', async (t) => {
  const dc = await Client.start(t);
  await dc.request('initialize', { adapterID: 'hyperstep' });
  const answered: string[] = [];
  const launched = dc.request('launch', launch).then(() => answered.push('launch'));
  await dc.event('initialized');
  const line = lineOf(FIXTURE, 'total += inner(moved, i);');
  const { breakpoints } = await dc.request<Breakpoints>('setBreakpoints', {
    source: { path: FIXTURE },
    breakpoints: [{ line }],
  });
  answered.push('setBreakpoints');
  assert.equal(breakpoints[0].verified, true);
  const named = await dc.request<Breakpoints>('setFunctionBreakpoints', { breakpoints: [{ name: 'fib' }] });
  answered.push('setFunctionBreakpoints');
  assert.equal(named.breakpoints[0].verified, true);
  // What needs the machine waits for it.
  await dc.request('threads');
  await launched;
  assert.deepEqual(answered, ['setBreakpoints', 'setFunctionBreakpoints', 'launch']);
  await dc.request('configurationDone');
  assert.deepEqual((await dc.stopped()).hitBreakpointIds, [breakpoints[0].id]);
  await dc.finish();
});

test('lines that have code; a file that no debug information knows; sources stay in their folders', async (t) => {
  const dc = await Client.start(t);
  await dc.launch({ ...launch, stopOnEntry: true, sourceMap: { '': '/nonexistent/folder' } });
  const missing = (body: { output: string }) => /"sourceMap": there is no folder \/nonexistent\/folder/.test(body.output);
  await dc.event<DebugProtocol.OutputEvent['body']>('output', missing);
  await dc.stopped();
  const [frame] = await dc.frames();
  assert.equal(frame.source?.origin, 'disassembly', 'without sources the disassembly is shown');
  const line = lineOf(FIXTURE, 'total += inner(moved, i);');
  const known = await dc.request<DebugProtocol.BreakpointLocationsResponse['body']>('breakpointLocations', {
    source: { path: FIXTURE },
    line: line - 1,
    endLine: line + 1,
  });
  assert.deepEqual(known.breakpoints, [{ line }]);
  // What no folder has is not served, wherever it is.
  assert.match(
    await dc.refused('source', { source: { path: FIXTURE }, sourceReference: 0 }),
    /is not in a folder of "sourceMap"/,
  );
  const strange = path.join(os.tmpdir(), 'no-such-source.c');
  const { breakpoints } = await dc.request<Breakpoints>('setBreakpoints', {
    source: { path: strange },
    breakpoints: [{ line: 3 }],
  });
  assert.equal(breakpoints[0].verified, false);
  assert.match(breakpoints[0].message ?? '', /no-such-source\.c:3 is not known yet/);
  await dc.request('disconnect');
});

test('sources are served from the folders that were named, and from nowhere else', async (t) => {
  const dc = await Client.start(t);
  await dc.launch({ ...launch, stopOnEntry: true });
  await dc.stopped();
  const asked = { source: { path: 'fixture.c' }, sourceReference: 0 };
  const { content } = await dc.request<DebugProtocol.SourceResponse['body']>('source', asked, true);
  assert.equal(content, fs.readFileSync(FIXTURE, 'utf8'));
  for (const file of ['/etc/passwd', '../../../../etc/passwd'])
    assert.match(await dc.refused('source', { source: { path: file }, sourceReference: 0 }), /is not in a folder of "sourceMap"/);
  await dc.request('disconnect');
});

test('settings that cannot be used are refused in one line', async (t) => {
  const dc = await Client.start(t);
  await dc.launch({ ...launch, stopOnEntry: true, symbols: 'vmlinux' }).then(
    () => assert.fail('symbols must be a list'),
    (error: Error) => assert.match(error.message, /"symbols" must be a list/),
  );
});

test('data breakpoints: by expression, with a condition; what cannot be watched says why', async (t) => {
  const dc = await Client.start(t);
  await dc.launch(launch, async () => {
    await dc.request('setFunctionBreakpoints', { breakpoints: [{ name: 'fixture_run' }] });
  });
  const { threadId = 1 } = await dc.stopped();
  await dc.request('setFunctionBreakpoints', { breakpoints: [] });
  type Info = DebugProtocol.DataBreakpointInfoResponse['body'];
  const info = (name: string, more: object = {}) => dc.request<Info>('dataBreakpointInfo', { name, ...more });
  const points = await info('fixture.points[1].x');
  assert.match(points.description, /^fixture\.points\[1\]\.x \(4 bytes at 0x[0-9a-f]+\)$/);
  assert.deepEqual(points.accessTypes, ['read', 'write', 'readWrite']);
  assert.equal((await info('$x0')).dataId, null);
  assert.match((await info('no_such_thing')).description, /no_such_thing is not known here/);
  assert.equal((await info('fixture.points', {})).description.includes('(24 bytes at'), true);

  const set = (breakpoints: object[]) =>
    dc.request<DebugProtocol.SetDataBreakpointsResponse['body']>('setDataBreakpoints', { breakpoints });
  const made = await set([
    { dataId: points.dataId, accessType: 'read' },
    { dataId: 'elsewhere' },
    { dataId: points.dataId, accessType: 'write', condition: '1 ==' },
  ]);
  assert.deepEqual(
    made.breakpoints.map((b) => b.verified),
    [true, false, false],
  );
  await dc.request('continue', { threadId });
  const stop = await dc.stopped();
  assert.equal(stop.reason, 'data breakpoint');
  assert.deepEqual(stop.hitBreakpointIds, [made.breakpoints[0].id]);
  const line = lineOf(FIXTURE, 'struct point moved =');
  assert.equal(place((await dc.frames())[0]), `middle fixture.c:${line}`, 'middle(3) copies it');
  await set([{ dataId: points.dataId, accessType: 'readWrite', condition: 'i == 7' }]);
  await dc.request('continue', { threadId });
  await dc.event('terminated');
});

test('conditions, hit counts and log points on variables, together at one place', async (t) => {
  const dc = await Client.start(t);
  const line = lineOf(FIXTURE, 'a = fib(n - 1);');
  const set = (breakpoints: object[]) => dc.request<Breakpoints>('setBreakpoints', { source: { path: FIXTURE }, breakpoints });
  await dc.launch(launch, async () => {
    await set([
      { line, condition: 'n == 10', logMessage: 'fib({n})' },
      { line, condition: 'n == 3', hitCondition: '% 10' },
      { line, hitCondition: '== 80', logMessage: 'the eightieth' },
      { line: line + 1, condition: 'nothing == 1' },
    ]);
    await dc.request('setFunctionBreakpoints', { breakpoints: [{ name: 'fib', condition: 'n == 1', hitCondition: '> 54' }] });
  });
  // fib(10) calls fib(3) 21 times, fib(1) 55 times, and gets to the line 88 times.
  const stops: string[] = [];
  for (let i = 0; i < 3; i++) {
    const stop = await dc.stopped();
    const [frame] = await dc.frames();
    const n = await dc.request<DebugProtocol.EvaluateResponse['body']>('evaluate', { expression: 'n', frameId: frame.id });
    stops.push(`${stop.reason} n=${n.result} ${stop.hitBreakpointIds?.length}`);
    if (i === 2) {
      type Evaluated = DebugProtocol.EvaluateResponse['body'];
      const { result } = await dc.request<Evaluated>('evaluate', { expression: 'instructions', context: 'repl' });
      assert.ok(Number(/(\d+) conditions evaluated by the engine's code/.exec(result)?.[1]) > 200, result);
    }
    await dc.request('continue', { threadId: stop.threadId ?? 1 });
  }
  await dc.event('terminated');
  assert.deepEqual(stops, ['breakpoint n=3 1', 'breakpoint n=3 1', 'function breakpoint n=1 1']);
  const said = [
    'fib(10 (0xa))',
    `The condition of the breakpoint on ${FIXTURE}:${line + 1} cannot be evaluated: nothing is not known here`,
    'the eightieth',
  ];
  for (const text of said) {
    const about = ({ output }: { output: string }): boolean => /^(fib\(|the eightieth|The condition)/.test(output);
    assert.equal((await dc.event<DebugProtocol.OutputEvent['body']>('output', about)).output.trim(), text);
  }
});

test('data breakpoints on system registers and registers of the hypervisor, by physical address, and on changes only', async (t) => {
  const dc = await Client.start(t);
  await dc.launch({ ...launch, stopOnEntry: true });
  let { threadId = 1 } = await dc.stopped();
  type Info = DebugProtocol.DataBreakpointInfoResponse['body'];
  const info = (name: string, more: object = {}) => dc.request<Info>('dataBreakpointInfo', { name, ...more });
  const set = (breakpoints: object[]) =>
    dc.request<DebugProtocol.SetDataBreakpointsResponse['body']>('setDataBreakpoints', { breakpoints });
  const go = async () => {
    await dc.request('continue', { threadId });
    const stop = await dc.stopped();
    threadId = stop.threadId ?? 1;
    assert.equal(stop.reason, 'data breakpoint');
    return stop;
  };

  const vectors = await info('$vbar_el1');
  assert.deepEqual([vectors.dataId, vectors.accessTypes, vectors.canPersist], ['VBAR_EL1', ['read', 'write', 'readWrite'], true]);
  assert.match((await info('$x0')).description, /nearly every instruction/);
  assert.match((await info('hv.HvNothing')).description, /not known here/);
  assert.match((await info('fixture', { mode: 'physical' })).description, /bytes at the physical address 0x[0-9a-f]+\)$/);
  const points = await info('fixture.points[1].x', { mode: 'physical' });
  assert.match(points.dataId ?? '', /^gpa:0x[0-9a-f]+\+4$/);
  const changes = await info('fixture.points[2].x', { mode: 'change' });
  assert.match(changes.dataId ?? '', /^0x[0-9a-f]+\+4!change$/);
  const made = await set([vectors, { ...points, accessType: 'read' }, changes, { dataId: 'hv.HvNothing' }]);
  assert.deepEqual(
    made.breakpoints.map((b) => b.verified),
    [true, true, true, false],
  );
  const next = async () => {
    const stop = await go();
    const what = stop.text?.replace(/becomes 0x[0-9a-f]{3,}/, 'becomes ...');
    return `${what} in ${(await dc.frames())[0].name.replace(/\+.*/, '')}`;
  };
  assert.equal(await next(), 'write of VBAR_EL1: 0x0 becomes ... in _start');
  assert.match(await next(), /^read of fixture\+0xc by middle\+0x[0-9a-f]+ in middle$/);

  const [simp, control] = [await info('hv.HvRegisterSipp'), await info('hv.HvRegisterScontrol')];
  await set([simp, { ...control, accessType: 'readWrite', condition: '$pc != 0' }]);
  assert.deepEqual(
    [await next(), await next(), await next()],
    [
      'write of hv.HvRegisterSipp: 0x0 becomes ... in hvc0',
      'read of hv.HvRegisterScontrol: 0x0 in hvc0',
      'write of hv.HvRegisterScontrol: 0x0 becomes 0x1 in hvc0',
    ],
  );
  await set([]);
  await dc.request('continue', { threadId });
  await dc.event('terminated');
});
