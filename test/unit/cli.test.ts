import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';

const ROOT = path.resolve(path.dirname(new URL(import.meta.url).pathname), '../..');
const EMBEDDED = path.join(ROOT, 'test/guests/embedded/guest.elf');
const TMP = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-cli-'));
after(() => fs.rmSync(TMP, { recursive: true }));

/** A file in the temporary folder. */
function file(name: string, bytes: Uint8Array | string): string {
  const at = path.join(TMP, name);
  fs.writeFileSync(at, bytes);
  return at;
}

function hyperstep(...args: string[]) {
  const r = spawnSync(process.execPath, ['--import', 'tsx', path.join(ROOT, 'debug-adapter/cli.ts'), ...args], {
    cwd: ROOT,
    encoding: 'utf8',
    timeout: 120_000,
  });
  return { status: r.status, out: r.stdout, err: r.stderr };
}

const x86 = Buffer.alloc(4096);
x86.write('HdrS', 0x202);
const BAD: [what: string, args: string[], message: RegExp][] = [
  ['no kernel', ['run'], /^hyperstep: --kernel FILE is missing$/],
  [
    'a kernel file that is not there',
    ['run', '--kernel', path.join(TMP, 'absent')],
    /^hyperstep: --kernel .*absent: no such file$/,
  ],
  ['a folder as kernel', ['run', '--kernel', TMP], /^hyperstep: --kernel .*: is a directory$/],
  ['an empty kernel', ['run', '--kernel', file('empty', '')], /^hyperstep: empty is empty$/],
  [
    'a truncated kernel',
    ['run', '--kernel', file('short', fs.readFileSync(EMBEDDED).subarray(0, 20_000))],
    /^hyperstep: short is truncated/,
  ],
  ['an x86 kernel', ['run', '--kernel', file('bzImage', x86)], /^hyperstep: bzImage is an x86 kernel/],
  [
    'an x86 ELF',
    ['run', '--kernel', process.execPath],
    process.arch === 'x64' ? /^hyperstep: .* is an ELF file for x86-64/ : /^hyperstep: /,
  ],
  [
    'damaged gzip',
    ['run', '--kernel', file('Image.gz', Buffer.from([0x1f, 0x8b, 8, 0, 1, 2, 3]))],
    /^hyperstep: Image\.gz is truncated or damaged/,
  ],
  [
    'a wrong initrd',
    ['run', '--kernel', EMBEDDED, '--initrd', file('notes.txt', 'hello')],
    /^hyperstep: notes\.txt is not an initramfs/,
  ],
  ['no such platform', ['run', '--kernel', EMBEDDED, '--platform', 'x'], /^hyperstep: platform "x" is not known: 2018, /],
  ['no setting', ['run', '--kernel', EMBEDDED, '--platform-set', 'x'], /^hyperstep: --platform-set x: expected NAME=VALUE$/],
  [
    'a platform setting that cannot be',
    ['run', '--kernel', EMBEDDED, '--platform', '2018', '--platform-set', 'vmbusPpi=40'],
    /^hyperstep: platform setting "vmbusPpi" must be a number from 16 to 31, not "40"$/,
  ],
  [
    'a network without VMBus',
    ['run', '--kernel', EMBEDDED, '--platform', 'none', '--network', 'internal'],
    /^hyperstep: platform "none" has no VMBus: it cannot have disks, a network or sockets$/,
  ],
  ['no pair', ['run', '--kernel', EMBEDDED, '--kvp', 'x'], /^hyperstep: --kvp x: expected KEY=VALUE$/],
  [
    'nothing to copy',
    ['run', '--kernel', EMBEDDED, '--copy', 'x'],
    /^hyperstep: --copy x: expected FILE:PATH, PATH beginning with \/$/,
  ],
  ['no file to copy', ['run', '--kernel', EMBEDDED, '--copy', '/none:/x'], /^hyperstep: \/none: no such file$/],
  [
    'less in all',
    ['run', '--kernel', EMBEDDED, '--max-memory', '64'],
    /^hyperstep: maxMemory must be 512 \(memory\) to 3072 MiB, not 64$/,
  ],
  ['no memory', ['run', '--kernel', EMBEDDED, '--memory', '0'], /^hyperstep: --memory must be between 64 and 3072, not 0$/],
  [
    'memory that is no number',
    ['run', '--kernel', EMBEDDED, '--memory', '1G'],
    /^hyperstep: --memory needs a whole number, not "1G"$/,
  ],
  ['too many VPs', ['run', '--kernel', EMBEDDED, '--cpus', '65'], /^hyperstep: --cpus must be between 1 and 64, not 65$/],
  ['an unknown CPU', ['run', '--kernel', EMBEDDED, '--cpu', 'pentium'], /^hyperstep: cpu "pentium" is not a model: /],
  [
    'an unknown kind of boot',
    ['run', '--kernel', EMBEDDED, '--boot', 'bios'],
    /^hyperstep: --boot bios: expected hyperv or device-tree$/,
  ],
  [
    'a load address that is none',
    ['run', '--kernel', EMBEDDED, '--boot', 'device-tree', '--load', 'high'],
    /^hyperstep: --load high: expected an address/,
  ],
  [
    'a load address for a Hyper-V guest',
    ['run', '--kernel', EMBEDDED, '--load', '0x80000'],
    /^hyperstep: a load address needs the boot kind device-tree$/,
  ],
  [
    'a load address outside memory',
    ['run', '--kernel', EMBEDDED, '--boot', 'device-tree', '--load', '0xffff0000'],
    /^hyperstep: guest\.elf would end at 0x\w+; the guest has 512 MiB/,
  ],
  [
    'an unknown hypercall',
    ['run', '--kernel', EMBEDDED, '--break', 'hypercall:HvCallMeMaybe'],
    /^hyperstep: --break hypercall:HvCallMeMaybe: no hypercall is called HvCallMeMaybe/,
  ],
  [
    'a breakpoint that says nothing',
    ['run', '--kernel', EMBEDDED, '--break', 'main'],
    /^hyperstep: --break main: expected hypercall:/,
  ],
  ['an unknown trace', ['run', '--kernel', EMBEDDED, '--trace', 'everything'], /^hyperstep: --trace everything: expected /],
  [
    'a display that is no size',
    ['run', '--kernel', EMBEDDED, '--display', 'big'],
    /^hyperstep: display "big" is not a size, such as 1280x720$/,
  ],
  [
    'a display that is too large',
    ['run', '--kernel', EMBEDDED, '--display', '9000x720'],
    /^hyperstep: a display has 640x480 to 3840x2160 pixels and a width that is a multiple of 8, not 9000x720$/,
  ],
  [
    'a screenshot that cannot be written',
    ['run', '--kernel', EMBEDDED, '--screenshot', path.join(TMP, 'no', 'where')],
    /^hyperstep: --screenshot .*: cannot be written \(ENOENT\)$/,
  ],
  [
    'a report that cannot be written',
    ['run', '--kernel', EMBEDDED, '--report', path.join(TMP, 'no', 'where')],
    /^hyperstep: --report .*: cannot be written \(ENOENT\)$/,
  ],
  ['an unknown option', ['run', '--kernal', 'x'], /^hyperstep: unknown option --kernal/],
  ['a word too much', ['run', '--kernel', EMBEDDED, 'now'], /^hyperstep: unexpected argument now/],
  ['an unknown option before a command', ['--walk'], /^hyperstep: unknown option --walk \(hyperstep --help\)$/],
  ['an unknown command', ['walk'], /^hyperstep: unknown command walk/],
  ['vectors without a file', ['vectors'], /^hyperstep: vectors needs at least one FILE$/],
  ['vectors that are none', ['vectors', file('x.jsonl', 'not json\n')], /x\.jsonl, line 1: not JSON$/],
];

for (const [what, args, message] of BAD)
  test(`bad usage: ${what} gives one clear line and status 2`, () => {
    const r = hyperstep(...args);
    assert.equal(r.status, 2, r.err);
    assert.equal(r.out, '');
    assert.equal(r.err.trim().split('\n').length, 1, r.err);
    assert.match(r.err.trim(), message);
  });

test('--help everywhere, --version', () => {
  for (const command of [[], ['run'], ['demo'], ['dap'], ['vectors']]) {
    const r = hyperstep(...command, '--help');
    assert.equal(r.status, 0);
    assert.match(r.out, /^Usage: hyperstep/);
    assert.equal(r.err, '');
  }
  assert.match(hyperstep('--version').out, /^\d+\.\d+\.\d+\n$/);
});

test('run: the console alone on stdout, a report, status 0 at power-off', () => {
  const report = path.join(TMP, 'report.json');
  const r = hyperstep(
    'run',
    '--kernel',
    EMBEDDED,
    '--memory',
    '64',
    '--append',
    '',
    '--report',
    report,
    '--trace',
    'hypercalls,vmbus',
  );
  assert.equal(r.status, 0, r.err);
  assert.match(r.out, /GUEST-DONE\s*$/);
  assert.doesNotMatch(r.out, /hyperstep:/);
  assert.match(r.err, /hypercall VP 0 HvCallPostMessage\(/);
  const { exit, instructions, console, hypercalls, stateHash } = JSON.parse(fs.readFileSync(report, 'utf8'));
  assert.equal(exit, 'power-off');
  assert.equal(console, r.out.length);
  assert.ok(instructions > 10_000);
  assert.ok(hypercalls.HvCallGetVpRegisters > 0);
  assert.match(stateHash, /^[0-9a-f]{16}$/);
});

test('run: stops print what is there and go on', () => {
  const r = hyperstep(
    'run',
    '--kernel',
    EMBEDDED,
    '--memory',
    '64',
    '--append',
    '',
    '--break',
    'hypercall:hvcallpostmessage',
    '--break',
    'symbol:fixture_run',
    '--break',
    'symbol:nobody',
  );
  assert.equal(r.status, 0, r.err);
  assert.match(r.err, /breakpoint at fixture_run/);
  assert.match(r.err, /HvCallPostMessage, on entry, VP 0[\s\S]*InitiateContact[\s\S]*Call stack[\s\S]*main\+0x/);
  assert.match(r.err, /HvRegisterVpIndex|HvRegisterSint2/);
  assert.match(r.err, /--break symbol:nobody was never placed/);
});

test('run: the trace as a file, of lines and for timeline viewers', () => {
  const trace = (name: string, ...more: string[]): string => {
    const at = path.join(TMP, name);
    const r = hyperstep('run', '--kernel', EMBEDDED, '--memory', '64', '--trace-file', at, ...more);
    assert.equal(r.status, 0, r.err);
    assert.doesNotMatch(r.err, / hypercall VP 0/, 'the events go to the file alone');
    return fs.readFileSync(at, 'utf8');
  };
  const lines = trace('trace.jsonl', '--trace', 'hypercalls,messages')
    .trim()
    .split('\n')
    .map((l) => JSON.parse(l));
  assert.deepEqual([...new Set(lines.map((l) => l.kind))].sort(), ['hypercall', 'message']);
  const contact = lines.find((l) => l.kind === 'hypercall' && l.name === 'HvCallPostMessage');
  assert.equal(contact.vp, 0);
  assert.match(contact.pc, /^0x2[0-9a-f]{5}$/);
  assert.equal(contact.input.ConnectionId, 4);
  assert.ok(
    lines.every((l, i) => i === 0 || l.time >= lines[i - 1].time),
    'in order of virtual time',
  );

  const all = trace('all.jsonl')
    .trim()
    .split('\n')
    .map((l) => JSON.parse(l));
  // This guest takes no fault: a kernel's boot does (test/guest/boot.test.ts).
  const kinds = ['hypercall', 'interrupt', 'message', 'mmio', 'packet', 'psci', 'signal', 'timer', 'vp-register'];
  assert.deepEqual(
    kinds.filter((k) => !all.some((e) => e.kind === k)),
    [],
  );
  assert.ok(all.every((e) => typeof e.time === 'number' && e.vp === 0 && /^0x[0-9a-f]+$/.test(e.pc)));
  const viewer = JSON.parse(trace('trace.json'));
  const events = viewer.traceEvents as {
    ph: string;
    name: string;
    tid: number;
    ts: number;
    cat?: string;
    args: { name?: string };
  }[];
  const tracks = new Map(events.filter((e) => e.name === 'thread_name').map((e) => [e.tid, e.args.name]));
  assert.ok(events.every((e) => e.ph === 'M' || tracks.has(e.tid)));
  const call = events.find((e) => e.name === 'HvCallPostMessage');
  assert.equal(call && tracks.get(call.tid), 'VP 0');
  assert.ok(events.some((e) => e.cat === 'mmio' && tracks.get(e.tid) === 'COM1'));
});

test('run: 3 when the guest reports a crash, 4 at a limit, 0 when the text was seen', () => {
  const crash = hyperstep('run', '--kernel', EMBEDDED, '--memory', '64', '--append', 'panic');
  assert.equal(crash.status, 3, crash.err);
  assert.match(crash.err, /guest crash: asked for on the command line/);
  assert.equal(
    hyperstep('run', '--kernel', EMBEDDED, '--memory', '64', '--append', 'spin', '--max-instructions', '30000000').status,
    4,
  );
  const text = hyperstep(
    'run',
    '--kernel',
    EMBEDDED,
    '--memory',
    '64',
    '--append',
    'spin',
    '--until-console',
    'STAGE 2',
    '--max-instructions',
    '30000000',
  );
  assert.equal(text.status, 0);
  assert.match(text.out, /STAGE 2$/);
});

/** `run` of the embedded guest as a process of its own; `act` gets it once the guest has spoken. */
async function running(args: string[], act: (child: ChildProcess) => void) {
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', path.join(ROOT, 'debug-adapter/cli.ts'), 'run', '--kernel', EMBEDDED, ...args],
    {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 60_000,
    },
  );
  let err = '';
  child.stderr.on('data', (d: Buffer) => {
    err += d.toString();
  });
  child.stdout.once('data', () => act(child));
  const [status] = await once(child, 'exit');
  return { status, err };
}

test('Ctrl-C ends a run in good order: summary, report, status 130', async () => {
  const report = path.join(TMP, 'interrupted.json');
  // A breakpoint in a function that is called all the time keeps the guest busy for longer than the signal takes.
  const { status, err } = await running(['--break', 'symbol:console_putc', '--report', report], (child) => child.kill('SIGINT'));
  assert.equal(status, 130, err.slice(-500));
  assert.match(err, /hyperstep: interrupted; \d+ instructions in /);
  const told = JSON.parse(fs.readFileSync(report, 'utf8'));
  assert.deepEqual(Object.keys(told), [
    'exit',
    'instructions',
    'hostSeconds',
    'mips',
    'stateHash',
    'console',
    'hypercalls',
    'engine',
  ]);
  assert.equal(told.exit, 'interrupted');
});

test('a reader of the console that goes away ends the program, and not with the status of a power-off', async () => {
  const { status, err } = await running(['--break', 'symbol:console_putc'], (child) => child.stdout?.destroy());
  assert.equal(status, 141, err.slice(-500));
  assert.doesNotMatch(err, /Error/);
});

test('demo: stops at the first HvCallPostMessage, shows the channels while they are there, runs to power-off', () => {
  const r = hyperstep('demo', '--kernel', EMBEDDED, '--memory', '64');
  assert.equal(r.status, 0, r.err);
  assert.match(
    r.out,
    /Stopped: the guest is about to make its first HvCallPostMessage[\s\S]*InitiateContact[\s\S]*connected to VMBus[\s\S]*heartbeat {2}open[\s\S]*GUEST-DONE[\s\S]*powered itself off/,
  );
  assert.match(r.out, /instructions +\d+\nhost seconds +[\d.]+\nMIPS +\d+\nstate hash +[0-9a-f]{16}/);
});

test('dap: ends when its client disconnects, also when the client leaves the pipe open', async () => {
  const adapter = spawn(process.execPath, ['--import', 'tsx', path.join(ROOT, 'debug-adapter/cli.ts'), 'dap'], { cwd: ROOT });
  const send = (seq: number, command: string): void => {
    const text = JSON.stringify({ seq, type: 'request', command, arguments: { adapterID: 'hyperstep' } });
    adapter.stdin.write(`Content-Length: ${text.length}\r\n\r\n${text}`);
  };
  send(1, 'initialize');
  send(2, 'disconnect');
  const status = await new Promise((resolve) => {
    const timer = setTimeout(() => adapter.kill(), 60_000);
    adapter.on('exit', (code) => {
      clearTimeout(timer);
      resolve(code);
    });
  });
  assert.equal(status, 0);
});
