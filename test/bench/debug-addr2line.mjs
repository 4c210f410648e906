// `hyperstep addr2line` against GNU's and elfutils' tools, on the same addresses.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { ROOT, run } from '../../scripts/setup.mjs';
import { median } from './debug-launch.mjs';

const ms = (v) => `${v.toFixed(0)} ms`;

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
/** Prints times, and where the answers differ. */
export function measureAddr2line({ cache, runs, vmlinux, work }, { say }) {
  const input = path.join(work, 'addresses');
  // 1,000 addresses of functions, the same ones every time.
  let seed = 20240601;
  const random = (n) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % n;
  };
  const functions = run('aarch64-linux-gnu-nm', ['-S', '--defined-only', vmlinux])
    .split('\n')
    .map((l) => /^([0-9a-f]{16}) ([0-9a-f]{16}) [tT] /.exec(l))
    .filter((m) => m && Number.parseInt(m[2], 16) >= 16);
  const addresses = Array.from({ length: 1000 }, () => {
    const [, at, size] = functions[random(functions.length)];
    return `0x${(BigInt(`0x${at}`) + 8n + 4n * BigInt(random((Number.parseInt(size, 16) - 8) >> 2))).toString(16)}`;
  });
  fs.writeFileSync(input, `${addresses.join('\n')}\n`);

  const tools = {
    'hyperstep, never seen': [process.execPath, path.join(ROOT, 'dist/cli.mjs'), 'addr2line', '--symbols', vmlinux],
    hyperstep: [process.execPath, path.join(ROOT, 'dist/cli.mjs'), 'addr2line', '--symbols', vmlinux],
    'GNU addr2line': ['aarch64-linux-gnu-addr2line', '-e', vmlinux, '-f', '-i', '-a'],
    'eu-addr2line': ['eu-addr2line', '-e', vmlinux, '-f', '-i', '-a'],
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

  const ours = parse(answers.hyperstep);
  for (const tool of ['GNU addr2line', 'eu-addr2line']) {
    const theirs = parse(answers[tool]);
    const different = [...ours].filter(([a, frames]) => frames.join('\n') !== theirs.get(a)?.join('\n'));
    say(`\nthe same answers as ${tool}: ${ours.size - different.length} of ${ours.size}`);
    for (const [a, frames] of different.slice(0, 12))
      say(`  ${a}  ours ${frames.join(' < ')}\n  ${' '.repeat(18)}  theirs ${theirs.get(a)?.join(' < ')}`);
  }
}
