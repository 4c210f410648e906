// Runs the bare-metal programs of test/bench/programs on Hyperstep and on QEMU (plain TCG, and TCG with -icount shift=0, which
// is QEMU's deterministic mode), interleaved, and prints CPU seconds (start-up of each subtracted), ratios and their geometric mean.
//
//   npm run bench:cpu [-- RUNS [PROGRAM ...]]
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ROOT, ensureBuild, ensureDebianPackages, ensureDependencies } from '../../scripts/setup.mjs';

/** Rounds, and what `run` gives then (computed by the same sources on qemu-aarch64). */
const PROGRAMS = {
  integer: [1200, '0x84351b578037d255'],
  sha256: [500000, '0x5050c9e8812fe0c8'],
  memcpy: [20000, '0xb4a4cec33f51faea'],
  matmul: [1000, '0xc072bd5b1b963920'],
  neon: [40000, '0xe01345695c7629dd'],
  chase: [150, '0x000000726d9ca5e0'],
  calls: [4000, '0x0e1a4e7f867e6a92'],
  syscall: [1500, '0x8b28b2aec0b03ff0'],
};
const [runsText = '3', ...only] = process.argv.slice(2);
const names = only.length ? only : Object.keys(PROGRAMS);

ensureDependencies();
ensureBuild();
ensureDebianPackages({ 'qemu-system-aarch64': 'qemu-system-arm', 'aarch64-linux-gnu-gcc': 'gcc-aarch64-linux-gnu' });

const sources = path.join(ROOT, 'test/bench/programs');
const build = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-bench-'));
const FLAGS = [
  '-O2',
  '-ffreestanding',
  '-fno-pic',
  '-fno-stack-protector',
  '-march=armv8-a',
  '-fno-tree-loop-distribute-patterns',
  '-mno-outline-atomics',
];
function compile(name, rounds, expected) {
  const elf = path.join(build, `${name}-${rounds}.elf`);
  execFileSync('aarch64-linux-gnu-gcc', [
    ...FLAGS,
    '-nostdlib',
    '-static',
    '-no-pie',
    `-DROUNDS=${rounds}`,
    `-DEXPECTED=${expected}`,
    `-Wl,-T,${path.join(sources, 'link.ld')}`,
    '-Wl,--build-id=none',
    '-Wl,-z,max-page-size=4096',
    '-o',
    elf,
    path.join(sources, 'start.S'),
    path.join(sources, `${name}.c`),
  ]);
  return elf;
}

const qemu =
  (...accel) =>
  (elf) => [
    'qemu-system-aarch64',
    '-M',
    'virt',
    '-cpu',
    'max',
    '-m',
    '512',
    '-nic',
    'none',
    '-display',
    'none',
    '-monitor',
    'none',
    '-serial',
    'null',
    '-no-reboot',
    ...accel,
    '-kernel',
    elf,
  ];
// RAM reaches to where QEMU's begins, and a little more.
const machines = {
  hyperstep: (elf) => [process.execPath, path.join(ROOT, 'dist/cli.mjs'), 'run', '--kernel', elf, '--memory', '1100'],
  tcg: qemu('-accel', 'tcg'),
  'tcg -icount': qemu('-accel', 'tcg', '-icount', 'shift=0'),
};

/** User + system CPU seconds of a command, all its threads (POSIX `times`: the second line is the children's). */
function measure(command) {
  const quoted = command.map((a) => `'${a}'`).join(' ');
  const out = execFileSync('bash', ['-c', `${quoted} >/dev/null 2>&1 </dev/null; echo $?; times`], { encoding: 'utf8' })
    .trim()
    .split('\n');
  if (command[0] === process.execPath && out[0] !== '0') throw new Error(`status ${out[0]}: ${command.join(' ')}`);
  return out[2].split(' ').reduce((sum, t) => sum + Number(t.split('m')[0]) * 60 + Number.parseFloat(t.split('m')[1]), 0);
}
const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

const idle = compile('chase', 0, '0');
const runs = Number(runsText);
const start = Object.fromEntries(
  Object.entries(machines).map(([k, command]) => [k, median(Array.from({ length: runs }, () => measure(command(idle))))]),
);
const log = { tcg: 0, 'tcg -icount': 0 };
console.log(
  `node ${process.versions.node}, CPU seconds, medians of ${runs}; start-up ${Object.entries(start)
    .map(([k, v]) => `${k} ${v.toFixed(2)}`)
    .join(', ')}`,
);
console.log(
  `${'program'.padEnd(10)}${Object.keys(machines)
    .map((k) => k.padStart(13))
    .join('')}${'x tcg'.padStart(9)}${'x icount'.padStart(10)}`,
);
for (const name of names) {
  const elf = compile(name, ...PROGRAMS[name]);
  const seconds = Object.fromEntries(Object.keys(machines).map((k) => [k, []]));
  for (let i = 0; i < runs; i++) for (const [k, command] of Object.entries(machines)) seconds[k].push(measure(command(elf)));
  const cpu = Object.fromEntries(Object.entries(seconds).map(([k, list]) => [k, Math.max(0.01, median(list) - start[k])]));
  const ratio = Object.fromEntries(Object.keys(log).map((k) => [k, cpu[k] / cpu.hyperstep]));
  for (const k of Object.keys(log)) log[k] += Math.log(ratio[k]);
  console.log(
    `${name.padEnd(10)}${Object.values(cpu)
      .map((v) => v.toFixed(2).padStart(13))
      .join('')}${ratio.tcg.toFixed(2).padStart(9)}${ratio['tcg -icount'].toFixed(2).padStart(10)}`,
  );
}
console.log(
  `geometric mean: ${(Math.exp(log.tcg / names.length)).toFixed(2)} x tcg, ${(Math.exp(log['tcg -icount'] / names.length)).toFixed(2)} x tcg -icount (above 1: Hyperstep is faster)`,
);
fs.rmSync(build, { recursive: true });
