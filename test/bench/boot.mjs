// Boots Debian's kernels until their /init speaks (INIT-START) and is done (INIT-DONE), on Hyperstep and on QEMU (plain TCG, and TCG
// with -icount shift=0, which is QEMU's deterministic mode), interleaved, and prints CPU seconds, ratios and what the engine did.
//
//   npm run bench:boot [-- RUNS [SUITE ...]]      SUITE: own, trixie, sid (default: all three)
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ROOT, ensureBuild, ensureDebianPackages, ensureDependencies } from '../../scripts/setup.mjs';

const MARKERS = ['INIT-START', 'INIT-DONE'];
const [runsText = '3', ...asked] = process.argv.slice(2);
const suites = asked.length ? asked : ['own', 'trixie', 'sid'];

ensureDependencies();
ensureBuild();
ensureDebianPackages({ 'qemu-system-aarch64': 'qemu-system-arm' });
const { debianGuest } = await import('../../scripts/debian-guest.mjs');
const report = path.join(os.tmpdir(), `hyperstep-bench-${process.pid}.json`);

const QEMU =
  'qemu-system-aarch64 -M virt,gic-version=3 -cpu neoverse-n1 -m 512 -nic none -display none -monitor none -serial stdio';
const boot = (dash, guest) => [`${dash}kernel`, guest.kernel, `${dash}initrd`, guest.initrd, `${dash}append`, 'console=ttyAMA0'];
const machines = {
  hyperstep: (guest) => {
    const limits = ['--until-console', MARKERS[1], '--report', report];
    return [process.execPath, path.join(ROOT, 'dist/cli.mjs'), 'run', ...boot('--', guest), ...limits];
  },
  'qemu tcg': (guest) => [...QEMU.split(' '), ...boot('-', guest), '-accel', 'tcg'],
  'qemu tcg -icount': (guest) => [...QEMU.split(' '), ...boot('-', guest), '-accel', 'tcg', '-icount', 'shift=0'],
};

/** User + system CPU seconds of a process so far, all threads (proc(5), /proc/pid/stat fields 14 and 15). */
function cpuSeconds(pid) {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Runs until all markers are on stdout; resolves with CPU and wall seconds up to each. */
const measure = (command) =>
  new Promise((resolve, reject) => {
    const t0 = process.hrtime.bigint();
    const child = spawn(command[0], command.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    let errors = '';
    const results = [];
    child.stderr.on('data', (d) => {
      errors += d;
    });
    child.stdout.on('data', (d) => {
      text += d;
      while (results.length < MARKERS.length && text.includes(MARKERS[results.length]))
        results.push({ cpu: cpuSeconds(child.pid), wall: Number(process.hrtime.bigint() - t0) / 1e9 });
      if (results.length === MARKERS.length && command[0] !== process.execPath) child.kill('SIGKILL');
    });
    child.on('error', reject);
    child.on('exit', (code) =>
      results.length === MARKERS.length
        ? resolve(results)
        : reject(new Error(`${command[0]} ended (${code}) before ${MARKERS[results.length]}\n${errors}${text.slice(-2000)}`)),
    );
  });

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const row = (cells) => console.log(`| ${cells.join(' | ')} |`);

console.log(
  `node ${process.versions.node}, CPU seconds of all threads (wall seconds), medians of ${runsText}; ratios: of CPU seconds\n`,
);
row(['kernel', 'until', ...Object.keys(machines), 'hyperstep / tcg', 'hyperstep / icount']);
row(Array(7).fill('---'));
const engines = [];
for (const suite of suites) {
  const guest = await debianGuest({ suite });
  const results = Object.fromEntries(Object.keys(machines).map((k) => [k, []]));
  for (let i = 0; i < Number(runsText); i++)
    for (const [k, command] of Object.entries(machines)) results[k].push(await measure(command(guest)));
  const { instructions, engine } = JSON.parse(fs.readFileSync(report, 'utf8'));
  engines.push({ ...engine, release: guest.release, total: instructions });
  MARKERS.forEach((marker, m) => {
    const of = (k, what) => median(results[k].map((r) => r[m][what]));
    const cpu = Object.keys(machines).map((k) => of(k, 'cpu'));
    const cells = Object.keys(machines).map((k, i) => `${cpu[i].toFixed(2)} (${of(k, 'wall').toFixed(2)})`);
    row([guest.release, marker, ...cells, (cpu[0] / cpu[1]).toFixed(2), (cpu[0] / cpu[2]).toFixed(2)]);
  });
}
fs.rmSync(report, { force: true });

const million = (n) => `${(n / 1e6).toFixed(1)} M`;
for (const e of engines) {
  console.log(`\n${e.release}, until ${MARKERS[1]}: ${million(e.total)} instructions, ${million(e.executed)} of them in regions`);
  console.log(
    `  ${e.made} regions made (${e.regions} alive, ${e.dropped} dropped, ${e.refused} places had none) of ${e.instructions} guest instructions, ${(e.bytes / 1024).toFixed(0)} KiB alive`,
  );
  console.log(`  ${e.generating.toFixed(3)} s generating, ${e.compiling.toFixed(3)} s in V8's Module and Instance`);
  console.log(
    `  regions left for the interpreter ${million(e.left.interpret)}, for code elsewhere ${million(e.left.jump)}, near by ${million(e.left.near)}`,
  );
  const exits = Object.entries(e.exits).map(([name, n]) => `${name} ${n}`);
  console.log(`  back to TypeScript: ${exits.join(', ')}`);
}
