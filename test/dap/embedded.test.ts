import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import type { DebugProtocol } from '@vscode/debugprotocol';
import type { CustomRequests } from '../../debug-adapter/protocol.ts';
import { COMMANDS } from '../../debug-adapter/requests/evaluate.ts';
import { Client, EMBEDDED } from './harness.ts';

const launch = { kernel: EMBEDDED, memory: 64 };

test('function breakpoints, call stack, stepping in, over and out', async (t) => {
  const dc = await Client.start(t);
  await dc.launch(launch, async () => {
    await dc.request('setFunctionBreakpoints', {
      breakpoints: [{ name: 'fib', condition: '$w0 == 3' }, { name: 'no_such_function' }],
    });
  });
  const stop = await dc.stopped();
  await dc.showStack(stop.threadId);
  await dc.request('setFunctionBreakpoints', { breakpoints: [] });
  for (const step of ['stepIn', 'next', 'stepOut'])
    for (let i = 0; i < (step === 'stepIn' ? 6 : step === 'next' ? 8 : 2); i++) {
      await dc.request(step, { threadId: stop.threadId, granularity: 'instruction' });
      await dc.stopped();
      dc.note(`${step}: ${(await dc.frames())[0].name}`);
    }
  await dc.showStack(stop.threadId);
  await dc.finish('stepping');
});

test('a hypercall breakpoint of the Breakpoints view stops with the call decoded, and continues to the end', async (t) => {
  const dc = await Client.start(t);
  await dc.launch(launch, async () => {
    await dc.request('setExceptionBreakpoints', {
      filters: [],
      filterOptions: [
        { filterId: 'hypercall:HvCallPostMessage', condition: 'ConnectionId == 4' },
        { filterId: 'hypercall', condition: 'HvCallGetVpRegisters and return: status ==' },
        { filterId: 'crash' },
      ],
    });
  });
  const stop = await dc.stopped();
  assert.equal(stop.reason, 'exception');
  await dc.showStack(stop.threadId);
  await dc.request('exceptionInfo', { threadId: stop.threadId });
  const [frame] = await dc.frames();
  const { scopes } = await dc.request<DebugProtocol.ScopesResponse['body']>('scopes', { frameId: frame.id });
  await dc.request('variables', { variablesReference: scopes[0].variablesReference });
  await dc.request('evaluate', { expression: 'ConnectionId * 0x10', context: 'watch', frameId: frame.id });
  await dc.request('setExceptionBreakpoints', { filters: [] });
  await dc.request('continue', { threadId: stop.threadId });
  await dc.event('terminated');
  assert.match(dc.console, /\bok\b/);
  assert.doesNotMatch(dc.console, /\bFAILED\b/);
  await dc.finish('hypercall');
});

test('hypercall breakpoints by command: on return, with hit count and log message', async (t) => {
  const dc = await Client.start(t);
  await dc.launch(launch, async () => {
    await dc.request('hyperstep/setHypercallBreakpoints', {
      breakpoints: [
        { call: 'HvCallPostMessage', phase: 'return', logMessage: 'message type {Message.Message} -> {statusName}' },
        { call: 'HvCallGetVpRegisters', phase: 'return', hitCondition: '3' },
        { call: 'HvCallPostMesage', phase: 'entry' },
        { call: '0x5c', phase: 'entry', condition: '1 +' },
      ],
    });
  });
  const stop = await dc.stopped();
  await dc.request('evaluate', { expression: 'statusName', context: 'watch' });
  await dc.request('hyperstep/setHypercallBreakpoints', {
    breakpoints: [{ call: 'HvCallPostMessage', phase: 'return', logMessage: 'posted: {statusName}' }],
  });
  await dc.request('continue', { threadId: stop.threadId });
  await dc.event('terminated');
  await dc.finish('hypercall-by-command');
});

test('registers and memory can be read and written, and are seen by expressions', async (t) => {
  const dc = await Client.start(t);
  await dc.launch({ ...launch, stopOnEntry: true });
  await dc.stopped();
  const [frame] = await dc.frames();
  const { scopes } = await dc.request<DebugProtocol.ScopesResponse['body']>('scopes', { frameId: frame.id });
  const children = (variablesReference: number) =>
    dc.request<DebugProtocol.VariablesResponse['body']>('variables', { variablesReference }, true);
  const of = (name: string) => scopes.find((s) => s.name === name)?.variablesReference ?? assert.fail(`no scope ${name}`);
  const core = (await children(of('Core'))).variables;
  assert.equal(core.length, 34);
  const pstate = core.find((v) => v.name === 'pstate');
  dc.note(
    `pstate ${pstate?.value}: ${(await children(pstate?.variablesReference ?? 0)).variables.map((v) => `${v.name}=${v.value}`).join(' ')}`,
  );
  const system = (await children(of('System'))).variables;
  dc.note(`system register groups: ${system.map((v) => v.name).join(', ')}`);
  await dc.request('setVariable', { variablesReference: of('Core'), name: 'x7', value: '0x1122 + 1' });
  const simd = of('SIMD and FP');
  await dc.request('setVariable', { variablesReference: simd, name: 'v3', value: '0x3ff0000000000000' });
  const v3 = (await children(simd)).variables.find((v) => v.name === 'v3');
  dc.note((await children(v3?.variablesReference ?? 0)).variables.map((v) => `${v.name} ${v.value}`).join('; '));
  const hyperv = (await children(of('Hyper-V VP Registers'))).variables;
  assert.ok(hyperv.some((v) => v.name === 'HvRegisterVpIndex' && v.value.startsWith('0x0')));
  const evaluate = (expression: string) => dc.request('evaluate', { expression, context: 'watch', frameId: frame.id });
  await evaluate('$x7');
  await evaluate('$W7 << 4');
  await evaluate('main');
  await evaluate('*(u8*)(fixture + 4) == 1 && !0');
  await evaluate('hv.HvRegisterVpIndex');
  await dc.refused('evaluate', { expression: '*(u64*)0xdead000000000000', context: 'watch', frameId: frame.id });
  await dc.refused('evaluate', { expression: '1 +', context: 'watch', frameId: frame.id });
  await dc.request('setExpression', { expression: '*(u32*)(fixture + 8)', value: '7', frameId: frame.id });
  const { memoryReference } = await dc.request<{ memoryReference: string }>('evaluate', {
    expression: 'fixture',
    context: 'hover',
    frameId: frame.id,
  });
  await dc.request('readMemory', { memoryReference, offset: 4, count: 8 });
  await dc.request('writeMemory', { memoryReference, offset: 4, data: Buffer.from([5, 0, 0, 0]).toString('base64') });
  await evaluate('*(s32*)(fixture + 4)');
  await dc.request('readMemory', { memoryReference: '0xdead000000000000', count: 4 });
  await dc.request('evaluate', { expression: '$x8 = $x7 * 2', context: 'repl', frameId: frame.id });
  await dc.refused('setVariable', { variablesReference: of('Core'), name: 'x77', value: '1' });
  await dc.finish('registers-and-memory');
});

test('disassembly is word by word, both ways, with symbols; what is not mapped is "??"', async (t) => {
  const dc = await Client.start(t);
  await dc.launch({ ...launch, stopOnEntry: true });
  await dc.stopped();
  const { result } = await dc.request<{ result: string }>('evaluate', { expression: 'fib', context: 'hover' }, true);
  const memoryReference = result.split(' ')[0];
  await dc.request('disassemble', { memoryReference, instructionOffset: -2, instructionCount: 8 });
  await dc.request('disassemble', { memoryReference: '0x0', instructionOffset: -2, instructionCount: 2 });
  await dc.finish('disassembly');
});

test('instruction breakpoints by address; pause and continue; the Debug Console and completion', async (t) => {
  const dc = await Client.start(t);
  await dc.launch({ ...launch, stopOnEntry: true });
  await dc.stopped();
  const evaluate = (expression: string) => dc.request<{ result: string }>('evaluate', { expression, context: 'repl' });
  const at = (await dc.request<{ result: string }>('evaluate', { expression: 'fib + 4', context: 'watch' }, true)).result.split(
    ' ',
  )[0];
  await dc.request('setInstructionBreakpoints', {
    breakpoints: [{ instructionReference: at }, { instructionReference: at, offset: 2 }, { instructionReference: 'x' }],
  });
  await dc.request('continue', { threadId: 1 });
  await dc.stopped();
  // Not in the transcript, which each new command would change: every command by its usage, in order, and nothing else.
  const help = await dc.request<{ result: string }>('evaluate', { expression: 'help', context: 'repl' }, true);
  const commands = Object.values(COMMANDS).map((c) => `${c.usage.padEnd(22)} ${c.help}`);
  assert.ok(commands.length > 10);
  assert.deepEqual(help.result.split('\n').slice(0, -3), commands);
  await evaluate('bt');
  await evaluate('hypercalls');
  await evaluate('vmbus');
  await dc.refused('evaluate', { expression: 'shutdown', context: 'repl' });
  await dc.refused('evaluate', { expression: 'key sysrq', context: 'repl' });
  const complete = async (text: string) => {
    const { targets } = await dc.request<DebugProtocol.CompletionsResponse['body']>(
      'completions',
      { text, column: text.length + 1 },
      true,
    );
    dc.note(
      targets
        .map((t) => t.label)
        .slice(0, 12)
        .join(' '),
    );
  };
  await complete('$tt');
  await complete('hv.HvRegisterSint1');
  await complete('fi');
  await complete('1 + hv');
  await dc.finish('console');
});

test('custom requests give the four views', async (t) => {
  const dc = await Client.start(t);
  await dc.launch({ ...launch, stopOnHypercalls: ['HvCallPostMessage'] });
  await dc.stopped();
  const ask = <K extends keyof CustomRequests>(name: K, args: CustomRequests[K][0]) =>
    dc.request<CustomRequests[K][1]>(name, args, true);
  const { registers } = await ask('hyperstep/vpRegisters', { vp: 0 });
  assert.deepEqual(registers.find((r) => r.name === 'HvRegisterScontrol')?.decoded, ['enabled']);
  const { words, guestStruct } = await ask('hyperstep/features', {});
  assert.match(guestStruct ?? '', /^ms_hyperv at 0x/);
  assert.deepEqual(
    words.map((w) => w.field),
    ['features', 'priv_high', 'misc_features', 'hints'],
  );
  for (const w of words) assert.equal(w.guest, w.host, `${w.field}: the guest read what the host says`);
  const { calls } = await ask('hyperstep/hypercalls', { count: 3 });
  assert.equal(calls.length, 3);
  for (const c of calls) assert.match(c.caller, /^\w+\+0x[0-9a-f]+$/);
  const { names } = await ask('hyperstep/hypercallNames', {});
  assert.ok(names.some((n) => n.name === 'HvCallPostMessage' && n.code === 0x5c));
  assert.equal((await ask('hyperstep/vmbus', {})).state, 'disconnected');
  await dc.request('hyperstep/setHypercallBreakpoints', { breakpoints: [] });
  await dc.request('setExceptionBreakpoints', { filters: [] });
  assert.match(await dc.refused('hyperstep/vpRegisters', { vp: 7 }), /no VP 7/);
  await dc.finish();
});

test('frames show the disassembly of their function as a document, and lines of it take breakpoints', async (t) => {
  const dc = await Client.start(t);
  await dc.launch(launch, async () => {
    await dc.request('setFunctionBreakpoints', { breakpoints: [{ name: 'fib' }] });
  });
  await dc.stopped();
  const [frame] = await dc.frames();
  assert.equal(frame.source?.name, 'fib.a64');
  assert.equal(frame.line, 2, 'the first instruction is below the heading');
  const { content } = await dc.request<DebugProtocol.SourceResponse['body']>('source', {
    source: frame.source,
    sourceReference: frame.source?.sourceReference ?? 0,
  });
  const lines = content.split('\n');
  await dc.request('setFunctionBreakpoints', { breakpoints: [] });
  const { breakpoints } = await dc.request<DebugProtocol.SetBreakpointsResponse['body']>('setBreakpoints', {
    source: frame.source,
    breakpoints: [{ line: 5 }, { line: 6, condition: '$w19 == 4' }, { line: 1 }],
  });
  assert.deepEqual(
    breakpoints.map((b) => b.verified),
    [true, true, false],
  );
  await dc.request('continue', { threadId: 1 });
  await dc.stopped();
  const [next] = await dc.frames();
  assert.equal(next.line, 5);
  assert.ok(
    lines[4].includes((next.instructionPointerReference ?? '').slice(2)),
    `${lines[4]} is the line of ${next.instructionPointerReference}`,
  );
  assert.match(await dc.refused('source', { sourceReference: 99 }), /another session/);
  await dc.finish('listing');
});

test('the trace: kinds and file by launch.json, then others in the Debug Console', async (t) => {
  const dc = await Client.start(t);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-trace-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const traceFile = path.join(folder, 'trace.jsonl');
  const args = {
    kernel: EMBEDDED,
    memory: 64,
    stopOnHypercalls: ['HvCallPostMessage'],
    trace: ['vp-register', 'psci'],
    traceFile,
  };
  await dc.launch(args);
  await dc.stopped();
  const say = async (expression: string) =>
    (await dc.request<{ result: string }>('evaluate', { expression, context: 'repl' }, true)).result;
  assert.equal(await say('trace'), `Traced: vp-register, psci, to ${traceFile}.`);
  assert.equal(await say('trace message,hypercalls'), 'Traced: message, hypercall.');
  const lines = fs.readFileSync(traceFile, 'utf8').trim().split('\n');
  const kinds = lines.map((line) => (JSON.parse(line) as { kind: string }).kind);
  assert.deepEqual([...new Set(kinds)].sort(), ['psci', 'vp-register']);
  assert.match(
    await dc.refused('evaluate', { expression: 'trace noise', context: 'repl' }),
    /^trace noise: expected hypercall, /,
  );
  await dc.request('continue', { threadId: 1 });
  const { output } = await dc.event<{ output: string }>('output', (e) => / message <- InitiateContact /.test(e.output));
  assert.match(output, /^\d+\.\d{9} message <- InitiateContact .*\n\d+\.\d{9} message -> VersionResponse /m);
  assert.doesNotMatch(output, /vp-register/);
  await dc.stopped();
  assert.equal(await say('trace off'), 'Nothing is traced.');
});

test("the machine's parts: pages of lists, values by name, what cannot be, paths in the Debug Console", async (t) => {
  const dc = await Client.start(t);
  await dc.launch({ ...launch, stopOnEntry: true });
  await dc.stopped();
  const [frame] = await dc.frames();
  const { scopes } = await dc.request<DebugProtocol.ScopesResponse['body']>('scopes', { frameId: frame.id }, true);
  const list = async (variablesReference: number, page: object = {}) =>
    (await dc.request<DebugProtocol.VariablesResponse['body']>('variables', { variablesReference, ...page }, true)).variables;
  let at = scopes.find((s) => s.name === 'Machine')?.variablesReference ?? 0;
  for (const name of ['gic', 'spis']) at = (await list(at)).find((v) => v.name === name)?.variablesReference ?? 0;
  const page = await list(at, { filter: 'indexed', start: 1, count: 2 });
  assert.deepEqual(
    page.map((v) => [v.name, v.value, v.evaluateName]),
    [
      ['[33]', 'INTID 33 (COM1), priority 0x0', 'hv.gic.spis[33]'],
      ['[34]', 'INTID 34 (COM2), priority 0x0', 'hv.gic.spis[34]'],
    ],
  );
  assert.deepEqual(await list(at, { filter: 'named' }), []);
  const set = (name: string, value: string) => ({ variablesReference: page[0].variablesReference, name, value });
  assert.equal((await dc.request<{ value: string }>('setVariable', set('enabled', 'true'), true)).value, 'true');
  assert.equal((await dc.request<{ value: string }>('setVariable', set('priority', '0x50 + 0x50'), true)).value, '0xa0');
  assert.match(await dc.refused('setVariable', set('priority', '3')), /priority can be 0x0 to 0xff, a multiple of 8, not 0x3$/);
  assert.match(await dc.refused('setVariable', set('line', '1')), /line cannot be changed$/);
  const say = async (expression: string) =>
    (await dc.request<{ result: string }>('evaluate', { expression, context: 'repl' }, true)).result;
  assert.match(await say('inspect gic.spis[33]'), /^enabled +true\npending +false\n[\s\S]*\npriority +0xa0\n/);
  assert.match(await say('hv.gic.spis[33].trigger = "edge"'), /^0x1$/);
  assert.match(
    await dc.refused('evaluate', { expression: 'inspect gic.nothing', context: 'repl' }),
    /there is no nothing in gic/,
  );
  const complete = async (text: string) => {
    const args = { text, column: text.length + 1 };
    const { targets } = await dc.request<DebugProtocol.CompletionsResponse['body']>('completions', args, true);
    return targets.map((c) => c.label);
  };
  assert.deepEqual([await complete('1 + hv.gic.v'), await complete('inspect rt')], [['vps'], ['rtc']]);
});
