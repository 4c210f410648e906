import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { MemorySource } from '../../debug-adapter/symbols/byte-source.ts';
import { ElfFile } from '../../debug-adapter/symbols/elf-file.ts';
import { Client, EMBEDDED, ROOT } from './harness.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-dap-'));
after(() => fs.rmSync(folder, { recursive: true }));
const file = (name: string, data: string | Uint8Array): string => {
  fs.writeFileSync(path.join(folder, name), data);
  return path.join(folder, name);
};

test('bad launch arguments: one clear message each, before anything starts', async (t) => {
  const elf = fs.readFileSync(EMBEDDED);
  const x86 = new Uint8Array(2048);
  x86.set(Buffer.from('HdrS'), 0x202);
  const cases: [object, RegExp][] = [
    [{}, /"kernel" is missing/],
    [{ kernel: 7 }, /"kernel" must be text/],
    [{ kernel: path.join(folder, 'nowhere') }, /"kernel": cannot read .*nowhere: there is no such file/],
    [{ kernel: folder }, /it is a folder/],
    [{ kernel: file('empty', '') }, /empty is empty/],
    [{ kernel: file('text', 'hello') }, /text is not an arm64 kernel/],
    [{ kernel: file('bzImage', x86) }, /bzImage is an x86 kernel/],
    [{ kernel: file('cut.elf', elf.subarray(0, 100)) }, /cut\.elf/],
    [{ kernel: EMBEDDED, memory: 0 }, /"memory" must be a whole number from 64 to 3072 \(MiB\), not 0/],
    [{ kernel: EMBEDDED, memory: 'much' }, /"memory" must be a whole number/],
    [{ kernel: EMBEDDED, cpus: 65 }, /"cpus" must be a whole number from 1 to 64/],
    [{ kernel: EMBEDDED, cpu: 'pentium' }, /pentium/],
    [{ kernel: EMBEDDED, platform: 'azure' }, /launch\.json: "platform": platform "azure" is not known: /],
    [{ kernel: EMBEDDED, platformOverrides: ['a'] }, /"platformOverrides" must be an object such as/],
    [
      { kernel: EMBEDDED, platform: '2018', platformOverrides: { vpIndex: 'x' } },
      /launch\.json: "platformOverrides": platform setting "vpIndex" must be a number from 0 to 4095, not "x"/,
    ],
    [{ kernel: EMBEDDED, boot: 'bios' }, /"boot" must be "hyperv" or "device-tree", not "bios"/],
    [{ kernel: EMBEDDED, boot: 'device-tree', load: '80000' }, /"load" must be an address, such as "0x80000"/],
    [{ kernel: EMBEDDED, load: '0x80000' }, /a load address needs the boot kind device-tree/],
    [{ kernel: EMBEDDED, stopOnEntry: 'yes' }, /"stopOnEntry" must be true or false/],
    [{ kernel: EMBEDDED, initrd: path.join(folder, 'gone') }, /"initrd": cannot read/],
    [{ kernel: EMBEDDED, initrd: file('initrd', 'not an initramfs') }, /initrd/],
    [{ kernel: EMBEDDED, stopOnHypercalls: ['HvCallNothing'] }, /"stopOnHypercalls": unknown hypercall "HvCallNothing"/],
    [{ kernel: EMBEDDED, stopOnHypercalls: 'HvCallPostMessage' }, /"stopOnHypercalls" must be a list/],
    [{ kernel: EMBEDDED, trace: 'all' }, /"trace" must be a list such as/],
    [{ kernel: EMBEDDED, trace: ['hypercall', 'noise'] }, /"trace": noise: expected hypercall, /],
    [{ kernel: EMBEDDED, traceFile: path.join(folder, 'no', 'trace') }, /"traceFile": cannot write/],
    [{ kernel: EMBEDDED, consoleLog: path.join(folder, 'no', 'log') }, /"consoleLog": cannot write/],
  ];
  const dc = await Client.start(t);
  await dc.request('initialize', { adapterID: 'hyperstep' });
  assert.match(await dc.refused('threadInfo'), /"threadInfo" is not supported/);
  assert.match(await dc.refused('stackTrace', { threadId: 1 }), /Nothing has been launched/);
  assert.match(await dc.refused('attach', {}), /cannot be attached to/);
  for (const [args, message] of cases) assert.match(await dc.refused('launch', args), message);
  // The adapter is as good as new.
  await dc.request('launch', { kernel: EMBEDDED, memory: 64, stopOnEntry: true });
  await dc.event('initialized');
  await dc.request('configurationDone');
  await dc.stopped();
  await dc.finish();
});

test('a bare-metal program by device tree: stopped at its first instruction, at EL1 with the tree in x0, then run to its end', async (t) => {
  const dc = await Client.start(t);
  const kernel = path.join(ROOT, 'test/guests/bare/exceptions.bin');
  await dc.launch({ kernel, boot: 'device-tree', load: '0x80000', memory: 64, append: '', stopOnEntry: true });
  await dc.stopped();
  const evaluate = async (expression: string) =>
    (await dc.request<{ result: string }>('evaluate', { expression, context: 'watch' })).result;
  assert.match(await evaluate('$pc'), /80000\b/);
  assert.match(await evaluate('$x0'), /2000000\b/);
  await dc.request('continue', { threadId: 1 });
  await dc.event('terminated');
  assert.match(dc.console, /DONE: \d+ passed, 0 failed/);
  await dc.finish();
});

test('a second launch, stale frames and variables, and wrong states are refused', async (t) => {
  const dc = await Client.start(t);
  await dc.launch({ kernel: EMBEDDED, memory: 64, stopOnEntry: true });
  await dc.stopped();
  assert.match(await dc.refused('launch', { kernel: EMBEDDED }), /has a guest already/);
  const [frame] = await dc.frames();
  await dc.request('stepIn', { threadId: 1 });
  await dc.stopped();
  assert.match(await dc.refused('scopes', { frameId: frame.id }), /earlier stop/);
  assert.match(await dc.refused('variables', { variablesReference: 9 }), /earlier stop/);
  assert.match(await dc.refused('stackTrace', { threadId: 9 }), /no thread 9/);
  assert.match(await dc.refused('exceptionInfo', { threadId: 1 }), /not stopped at a hypercall/);
  assert.match(await dc.refused('readMemory', { memoryReference: 'here', count: 4 }), /"here" is not an address/);
  await dc.finish();
});

test('malformed arguments are refused in words, and nothing is done', async (t) => {
  const cases: [string, object, string][] = [
    ['evaluate', {}, '"expression" must be text'],
    ['evaluate', { expression: 7 }, '"expression" must be text'],
    ['setBreakpoints', {}, '"source" must be an object'],
    ['setBreakpoints', { source: {}, breakpoints: [{ line: 1 }, {}] }, '"breakpoints"[1].line must be a whole number'],
    ['setFunctionBreakpoints', { breakpoints: [null] }, '"breakpoints"[0] must be an object'],
    ['setInstructionBreakpoints', { breakpoints: 7 }, '"breakpoints" must be a list'],
    ['setExceptionBreakpoints', { filters: ['crash', 1] }, '"filters"[1] must be text'],
    ['readMemory', { memoryReference: '0x200000', count: -1 }, '"count" must be a whole number that is not negative'],
    ['readMemory', { memoryReference: '0x200000', offset: 1.5, count: 1 }, '"offset" must be a whole number'],
    ['writeMemory', { memoryReference: '0x200000', data: [1] }, '"data" must be text'],
    [
      'disassemble',
      { memoryReference: '0x200000', instructionCount: 1e300 },
      '"instructionCount" must be a whole number that is not negative',
    ],
    ['hyperstep/consoleInput', { data: null }, '"data" must be text'],

    ['hyperstep/screen', { all: 1 }, '"all" must be true or false'],
    ['hyperstep/input', { events: [{ code: 7, down: true }] }, '"events"[0].code must be text'],
    ['hyperstep/input', { events: [{ x: 1, y: 0.5, buttons: 0 }] }, '"events"[0].y must be a whole number'],
    ['hyperstep/shutdown', {}, '"restart" must be true or false'],
  ];
  const dc = await Client.start(t);
  await dc.launch({ kernel: EMBEDDED, memory: 64, stopOnEntry: true }, async () => {
    for (const [command, args, problem] of cases)
      assert.equal(await dc.refused(command, args), `The request "${command}" is malformed: ${problem}`);
  });
  await dc.stopped();
  // Whatever is big or negative and still a number has an answer.
  await dc.request('readMemory', { memoryReference: '0x200000', offset: -(2 ** 52), count: 2 ** 52 });
  await dc.request('disassemble', { memoryReference: '0x0', instructionOffset: -(2 ** 52), instructionCount: 2 });
  const deep = await dc.refused('evaluate', { expression: '('.repeat(50_000) });
  assert.ok(deep.length < 300, `${deep.length} characters`);
  await dc.finish();
});

/** Runs the adapter on raw bytes; what it answers and what it says on stderr. */
function raw(input: (string | Buffer)[]): Promise<{ status: number | null; out: string; err: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--import', 'tsx', path.join(ROOT, 'debug-adapter/main.ts')], { cwd: ROOT });
    let out = '';
    let err = '';
    child.stdout.on('data', (d: Buffer) => {
      out += d.toString();
    });
    child.stderr.on('data', (d: Buffer) => {
      err += d.toString();
    });
    child.on('close', (status) => resolve({ status, out, err }));
    for (const part of input) child.stdin.write(part);
    child.stdin.end();
  });
}
const message = (body: object | string): string => {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return `Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
};
const threads = (seq: number) => message({ seq, type: 'request', command: 'threads' });

test('malformed messages are reported, and the next good one is answered', async () => {
  const { status, out, err } = await raw([
    threads(1),
    message('{"seq": 2, '),
    threads(3),
    'Content-Length: many\r\n\r\n{"seq":4,"type":"request","command":"threads"}',
    threads(5),
    'Content-Length: 99999999999\r\n\r\n{}',
    threads(6),
    'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
    threads(7),
    message('[1]'),
    message('"text"'),
    message({ seq: 8, type: 'event' }),
    message({ type: 'request' }),
    Buffer.from([0xff, 0xfe, 0x00, 0x80]),
    threads(9),
    message({ seq: 10, type: 'request', command: '__proto__', arguments: null }),
    message({ seq: 11, type: 'request', command: 'evaluate', arguments: 'text' }),
    threads(12),
    'Content-Length: 50\r\n\r\n{"cut',
  ]);
  const answered = [...out.matchAll(/"request_seq":(\d+)/g)].map((m) => Number(m[1]));
  assert.deepEqual(answered, [1, 3, 5, 6, 7, 9, 10, 11, 12]);
  const said = err.split('\n').filter((l) => l.startsWith('hyperstep: ') && !l.startsWith('hyperstep: evaluate'));
  for (const expected of [
    /not JSON/,
    /"many" is not a length/,
    /"99999999999" is not a length/,
    /no Content-Length/,
    /not a JSON object/,
    /neither "request" nor "response"/,
    /without "command"/,
    /ended inside a message/,
  ])
    assert.ok(
      said.some((l) => expected.test(l)),
      `${expected} in ${JSON.stringify(said)}`,
    );
  assert.equal(status, 0);
});

test('a message cut at every byte is still one message', async () => {
  const text = threads(1) + threads(2);
  const { out } = await raw([...text].map((c) => Buffer.from(c)));
  assert.deepEqual(
    [...out.matchAll(/"request_seq":(\d+)/g)].map((m) => Number(m[1])),
    [1, 2],
  );
});

test('a request that is cancelled before its turn is not carried out', async () => {
  const { out } = await raw([
    message({ seq: 1, type: 'request', command: 'initialize', arguments: {} }),
    message({ seq: 2, type: 'request', command: 'launch', arguments: { kernel: EMBEDDED, memory: 64 } }),
    message({ seq: 3, type: 'request', command: 'configurationDone' }),
    message({ seq: 4, type: 'request', command: 'cancel', arguments: { requestId: 3 } }),
    message({ seq: 5, type: 'request', command: 'disconnect' }),
  ]);
  const responses = out
    .split(/Content-Length: \d+\r\n\r\n/)
    .filter(Boolean)
    .map((m) => JSON.parse(m) as { type: string; request_seq: number; success: boolean; message?: string });
  const answers = responses.filter((m) => m.type === 'response').map((m) => [m.request_seq, m.success, m.message]);
  assert.deepEqual(answers, [
    [4, true, undefined],
    [1, true, undefined],
    [3, false, 'cancelled'],
    // When its machine is made.
    [2, true, undefined],
    [5, true, undefined],
  ]);
});

test('debug information that is damaged: said with file and offset, and the session goes on without it', {
  timeout: 120_000,
}, async (t) => {
  const whole = fs.readFileSync(EMBEDDED);
  const elf = new ElfFile(new MemorySource(new Uint8Array(whole), 'guest.elf'));
  for (const [section, message] of [
    ['.debug_abbrev', /^Damaged debug information: .*damaged\.elf: \.debug_abbrev\+0x0: .* \(and \d+ more\)\n$/],
    [
      '.debug_line',
      /^Damaged debug information: .*damaged\.elf: \.debug_line\+0x0: a line table of \d+ bytes where \d+ are left/,
    ],
    ['.debug_info', /^No debug information for the kernel: .*damaged\.elf: it has no debug information\n$/],
  ] as const) {
    const bytes = Buffer.from(whole);
    const found = elf.section(section);
    assert.ok(found);
    bytes.fill(0xee, found.offset, found.offset + found.size);
    const kernel = file('damaged.elf', bytes);
    const dc = await Client.start(t);
    await dc.launch({ kernel, memory: 64 }, async () => {
      await dc.request('setFunctionBreakpoints', { breakpoints: [{ name: 'fixture_run' }] });
    });
    await dc.event<{ output: string }>('output', ({ output }) => message.test(output));
    assert.equal((await dc.stopped()).reason, 'function breakpoint');
    assert.match((await dc.frames())[0].name, /^fixture_run/);
    await dc.finish();
  }
});
