// Debug information of Debian's kernel: the index (never seen, and from the cache), memory, and `hyperstep addr2line` against GNU's
// and elfutils' tools on the same addresses in the same run; and conditions that are false (debug-conditions.mjs).
//
//   npm run bench:debug [-- SUITE | --symbols VMLINUX [RUNS]]      SUITE: own (default), trixie, sid
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ROOT, ensureBuild, ensureDebianPackages, ensureDependencies, run, say } from '../../scripts/setup.mjs';
import { conditions } from './debug-conditions.mjs';

ensureDependencies();
ensureBuild();
ensureDebianPackages({ 'aarch64-linux-gnu-addr2line': 'binutils-aarch64-linux-gnu', 'eu-addr2line': 'elfutils' });
const args = process.argv.slice(2);
const { debianDebugInfo, debianGuest } = await import('../../scripts/debian-guest.mjs');
const suite = args[0] === '--symbols' ? undefined : (args.shift() ?? 'own');
const file = suite ? debianDebugInfo({ suite }).vmlinux : args.splice(0, 2)[1];
const runs = Number(args[0] ?? 3);

const work = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-bench-'));
const input = path.join(work, 'addresses');
const cache = path.join(work, 'cache');
const bundle = path.join(work, 'index.mjs');
process.on('exit', () => fs.rmSync(work, { recursive: true, force: true }));

// What a session does with symbols, alone in a process: open, wait for lines, bind a breakpoint, wait for names, look at a type.
fs.writeFileSync(
  path.join(work, 'index.ts'),
  `import '${ROOT}/debug-adapter/v8-settings.ts';
import { KIND, openDebugInfo } from '${ROOT}/debug-adapter/symbols/dwarf/debug-info.ts';
const cpu = (since: NodeJS.CpuUsage) => { const c = process.cpuUsage(since); return (c.user + c.system) / 1000; };
const start = process.cpuUsage();
const t0 = performance.now();
const info = await openDebugInfo(process.argv[2], { cache: process.argv[3] });
const opened = cpu(start);
const bound = info.lineLocations(info.findFiles(process.argv[4]), Number(process.argv[5]));
const breakpoint = cpu(start);
const wall = performance.now() - t0;
await new Promise((r) => { setTimeout(r, 0); });
const keep = setInterval(() => {}, 1000);
await info.complete;
clearInterval(keep);
const complete = cpu(start);
const type = info.type('task_struct', [KIND.struct]);
const members = type ? [...type.children()].map((m) => [m.name, m.type()?.name]).length : 0;
const typed = cpu(start) - complete;
console.log(JSON.stringify({ opened, breakpoint, wall, complete, typed, members, locations: bound?.addresses.length ?? 0, memory: process.resourceUsage().maxRSS / 1024 }));
process.exit(0);
`,
);
const { build } = await import('esbuild');
const common = { bundle: true, platform: 'node', format: 'esm', target: 'node20', logLevel: 'error', absWorkingDir: ROOT };
await build({ ...common, entryPoints: [path.join(work, 'index.ts')], outfile: bundle });
await build({
  ...common,
  entryPoints: [path.join(ROOT, 'debug-adapter/symbols/dwarf/worker.ts')],
  outfile: path.join(work, 'symbol-worker.mjs'),
});

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const node = (code) => Number(run(process.execPath, ['-e', code]));
const bare = median(
  Array.from({ length: 3 }, () => node('const c = process.cpuUsage(); console.log((c.user + c.system) / 1000)')),
);

function index(cold) {
  const rows = [];
  for (let i = 0; i < runs; i++) {
    if (cold) fs.rmSync(cache, { recursive: true, force: true });
    rows.push(JSON.parse(run(process.execPath, [bundle, file, cache, 'drivers/hv/connection.c', '100'])));
  }
  const pick = (key) => median(rows.map((r) => r[key]));
  return Object.fromEntries(Object.keys(rows[0]).map((key) => [key, pick(key)]));
}
fs.readFileSync(file); // the file is in the page cache for everybody
const cold = index(true);
const warm = index(false);
const ms = (v) => `${v.toFixed(0)} ms`;
say(`${file}, ${(fs.statSync(file).size / 1e6).toFixed(0)} MB; Node alone costs ${ms(bare)} of CPU time, not counted below\n`);
say('                                        never seen   from cache     goal');
say(
  `breakpoint on a line is bound, CPU      ${ms(cold.breakpoint).padStart(10)}   ${ms(warm.breakpoint).padStart(10)}     700 ms, 150 ms for a whole launch`,
);
say(`the same, wall                          ${ms(cold.wall).padStart(10)}   ${ms(warm.wall).padStart(10)}`);
say(`index with all names, CPU               ${ms(cold.complete).padStart(10)}   ${ms(warm.complete).padStart(10)}`);
say(
  `struct task_struct, ${String(cold.members).padEnd(4)} members, CPU    ${ms(cold.typed).padStart(10)}   ${ms(warm.typed).padStart(10)}     200 ms`,
);
say(
  `peak memory of the process              ${`${cold.memory.toFixed(0)} MiB`.padStart(10)}   ${`${warm.memory.toFixed(0)} MiB`.padStart(10)}     300 MiB for symbols`,
);

// 1,000 addresses of functions, the same ones every time.
let seed = 20240601;
const random = (n) => {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return (seed >>> 8) % n;
};
const functions = run('aarch64-linux-gnu-nm', ['-S', '--defined-only', file])
  .split('\n')
  .map((l) => /^([0-9a-f]{16}) ([0-9a-f]{16}) [tT] /.exec(l))
  .filter((m) => m && Number.parseInt(m[2], 16) >= 16);
const addresses = Array.from({ length: 1000 }, () => {
  const [, at, size] = functions[random(functions.length)];
  return `0x${(BigInt(`0x${at}`) + 8n + 4n * BigInt(random((Number.parseInt(size, 16) - 8) >> 2))).toString(16)}`;
});
fs.writeFileSync(input, `${addresses.join('\n')}\n`);

const tools = {
  'hyperstep, never seen': [process.execPath, path.join(ROOT, 'dist/cli.mjs'), 'addr2line', '--symbols', file],
  hyperstep: [process.execPath, path.join(ROOT, 'dist/cli.mjs'), 'addr2line', '--symbols', file],
  'GNU addr2line': ['aarch64-linux-gnu-addr2line', '-e', file, '-f', '-i', '-a'],
  'eu-addr2line': ['eu-addr2line', '-e', file, '-f', '-i', '-a'],
};
const answers = {};
const times = Object.fromEntries(Object.keys(tools).map((t) => [t, []]));
for (let i = 0; i < runs; i++)
  for (const [tool, [command, ...rest]] of Object.entries(tools)) {
    if (tool.includes('never')) fs.rmSync(cache, { recursive: true, force: true });
    const t0 = performance.now();
    const r = spawnSync('bash', ['-c', 'TIMEFORMAT="%U %S"; time "$@" < "$INPUT"', 'bash', command, ...rest], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      env: { ...process.env, INPUT: input, HYPERSTEP_SYMBOL_CACHE: cache, LC_ALL: 'C' },
    });
    const wall = performance.now() - t0;
    const [user, system] = r.stderr.trim().split('\n').at(-1).split(' ').map(Number);
    times[tool].push({ cpu: (user + system) * 1000, wall });
    answers[tool] = r.stdout;
  }
say('\n1,000 addresses, functions and inline chains    CPU         wall');
for (const [tool, rows] of Object.entries(times))
  say(
    `${tool.padEnd(40)} ${ms(median(rows.map((r) => r.cpu))).padStart(10)} ${ms(median(rows.map((r) => r.wall))).padStart(12)}`,
  );

/** Address -> [function, file:line] of each frame, without what only one of the tools prints. */
function parse(text) {
  const out = new Map();
  let current;
  let name;
  for (const line of text.split('\n')) {
    if (/^0x[0-9a-f]{16}$/.test(line)) {
      current = [];
      out.set(line, current);
      name = undefined;
    } else if (name === undefined) name = line.replace(/ inlined at .*/, '');
    else {
      current?.push(`${name} ${line.replace(/ \(discriminator \d+\)$/, '').replace(/^(.*:\d+):\d+$/, '$1')}`);
      name = undefined;
    }
  }
  return out;
}
const ours = parse(answers.hyperstep);
for (const tool of ['GNU addr2line', 'eu-addr2line']) {
  const theirs = parse(answers[tool]);
  const different = [...ours].filter(([a, frames]) => frames.join('\n') !== theirs.get(a)?.join('\n'));
  say(`\nthe same answers as ${tool}: ${ours.size - different.length} of ${ours.size}`);
  for (const [a, frames] of different.slice(0, 12))
    say(`  ${a}  ours ${frames.join(' < ')}\n  ${' '.repeat(18)}  theirs ${theirs.get(a)?.join(' < ')}`);
}

if (suite) {
  ensureDebianPackages({ 'gdb-multiarch': 'gdb-multiarch', 'qemu-system-aarch64': 'qemu-system-arm' });
  await conditions(await debianGuest({ suite }), file, { runs });
}
