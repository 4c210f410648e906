// Boots Debian's kernel until its /init speaks, on Hyperstep and on QEMU (plain TCG, and TCG with -icount shift=0, which is
// QEMU's deterministic mode), interleaved, and prints CPU seconds, instructions, MIPS and ratios.
//
//   npm run bench:boot [-- SUITE [RUNS]]      SUITE: own (default), trixie, sid ...
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ROOT, ensureBuild, ensureDebianPackages, ensureDependencies } from '../../scripts/setup.mjs';

const MARKER = 'INIT-START';
const [suite = 'own', runsText = '3'] = process.argv.slice(2);

ensureDependencies();
ensureBuild();
ensureDebianPackages({ 'qemu-system-aarch64': 'qemu-system-arm' });
const { debianGuest } = await import('../../scripts/debian-guest.mjs');
const guest = await debianGuest({ suite });
const report = path.join(os.tmpdir(), `hyperstep-bench-${process.pid}.json`);

const qemu = (...accel) => [
  'qemu-system-aarch64',
  '-M',
  'virt,gic-version=3',
  '-cpu',
  'neoverse-n1',
  '-m',
  '512',
  '-nic',
  'none',
  '-display',
  'none',
  '-monitor',
  'none',
  '-serial',
  'stdio',
  '-kernel',
  guest.kernel,
  '-initrd',
  guest.initrd,
  '-append',
  'console=ttyAMA0',
  ...accel,
];
const machines = {
  hyperstep: [
    process.execPath,
    path.join(ROOT, 'dist/cli.mjs'),
    'run',
    '--kernel',
    guest.kernel,
    '--initrd',
    guest.initrd,
    '--append',
    'console=ttyAMA0',
    '--until-console',
    MARKER,
    '--report',
    report,
  ],
  'qemu tcg': qemu('-accel', 'tcg'),
  'qemu tcg -icount': qemu('-accel', 'tcg', '-icount', 'shift=0'),
};

/** User + system CPU seconds of a process so far, all threads (proc(5), /proc/pid/stat fields 14 and 15). */
function cpuSeconds(pid) {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Runs until the marker is on stdout; resolves with CPU and wall seconds up to that moment. */
const measure = (command) =>
  new Promise((resolve, reject) => {
    const t0 = process.hrtime.bigint();
    const child = spawn(command[0], command.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    let errors = '';
    let result;
    child.stderr.on('data', (d) => {
      errors += d;
    });
    child.stdout.on('data', (d) => {
      text = (text + d).slice(-20_000);
      if (result || !text.includes(MARKER)) return;
      result = { cpu: cpuSeconds(child.pid), wall: Number(process.hrtime.bigint() - t0) / 1e9 };
      if (command[0] !== process.execPath) child.kill('SIGKILL');
    });
    child.on('error', reject);
    child.on('exit', (code) =>
      result
        ? resolve(result)
        : reject(new Error(`${command[0]} ended (${code}) before ${MARKER}\n${errors}${text.slice(-2000)}`)),
    );
  });

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

const results = Object.fromEntries(Object.keys(machines).map((k) => [k, []]));
let instructions = 0;
for (let i = 0; i < Number(runsText); i++)
  for (const [name, command] of Object.entries(machines)) {
    const r = await measure(command);
    results[name].push(r);
    if (name === 'hyperstep') instructions = JSON.parse(fs.readFileSync(report, 'utf8')).instructions;
  }
fs.rmSync(report, { force: true });

const cpu = Object.fromEntries(Object.entries(results).map(([k, list]) => [k, median(list.map((r) => r.cpu))]));
const wall = Object.fromEntries(Object.entries(results).map(([k, list]) => [k, median(list.map((r) => r.wall))]));
console.log(`${guest.release} to ${MARKER}, node ${process.versions.node}, medians of ${runsText}`);
for (const k of Object.keys(machines))
  console.log(
    `${k.padEnd(18)} ${cpu[k].toFixed(2).padStart(7)} CPU s ${wall[k].toFixed(2).padStart(7)} s${k === 'hyperstep' ? `   ${instructions} instructions, ${(instructions / cpu[k] / 1e6).toFixed(0)} MIPS of CPU time` : `   hyperstep / this = ${(cpu.hyperstep / cpu[k]).toFixed(2)} CPU, ${(wall.hyperstep / wall[k]).toFixed(2)} wall`}`,
  );
