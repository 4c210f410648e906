// The debugger, measured against gdb-multiarch with qemu-system-aarch64, GNU's and elfutils' addr2line, in one run and on the same kernel
// (Debian's, with its -dbg package): launching, stops, the index of debug information, addresses to lines. QEMU's machine is `virt`, ours a
// Hyper-V guest: the kernel is the same file, the boot is not the same boot.
//
//   npm run bench:debug [-- SUITE] [--runs N] [--only PART,...]      SUITE: own (default), trixie, sid; PART: launch, stops, index, addr2line, conditions
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT, ensureBuild, ensureDebianPackages, ensureDependencies, run, say } from '../../scripts/setup.mjs';
import { measureAddr2line } from './debug-addr2line.mjs';
import { conditions } from './debug-conditions.mjs';
import { bundle, measureIndex } from './debug-index.mjs';
import { measureLaunch } from './debug-launch.mjs';
import { measureStops } from './debug-stops.mjs';

ensureDependencies();
ensureBuild();
ensureDebianPackages({
  'aarch64-linux-gnu-addr2line': 'binutils-aarch64-linux-gnu',
  'eu-addr2line': 'elfutils',
  'gdb-multiarch': 'gdb-multiarch',
  'qemu-system-aarch64': 'qemu-system-arm',
});
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: 'string', default: '5' },
    only: { type: 'string', default: 'launch,stops,index,addr2line,conditions' },
  },
});
const parts = values.only.split(',');
const runs = Number(values.runs);
const suite = positionals[0] ?? 'own';
const { debianDebugInfo, debianGuest } = await import('../../scripts/debian-guest.mjs');
const file = debianDebugInfo({ suite }).vmlinux;
const guest = { ...(await debianGuest({ suite })), append: 'console=ttyAMA0 nokaslr' };

const work = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-bench-'));
process.on('exit', () => fs.rmSync(work, { recursive: true, force: true }));
fs.readFileSync(file); // the file is in the page cache for everybody

// Stepping by lines is for who has the sources: where a file is counts here, not what is in it.
const PLACES = `import { openDebugInfoHere } from '${ROOT}/debug-adapter/symbols/dwarf/debug-info.ts';
const info = openDebugInfoHere(process.argv[2], { cache: undefined });
const [{ body }] = info.functionEntries('start_kernel');
const { path, line } = info.lineAt(body);
info.close();
process.stdout.write(JSON.stringify({ files: info.files, start: { path, line } }));
`;
const { files, start } = JSON.parse(run(process.execPath, [await bundle(work, 'places', PLACES), file]));
const sources = path.join(work, 'sources');
for (const f of files) {
  const local = path.join(sources, f);
  if (!local.startsWith(sources) || f.endsWith('/')) continue;
  fs.mkdirSync(path.dirname(local), { recursive: true });
  fs.writeFileSync(local, '');
}
const bench = {
  guest,
  vmlinux: file,
  runs,
  work,
  sources,
  cache: path.join(work, 'cache'),
  /** A line of a function that every boot comes to; `gdb`: as gdb takes it. */
  place: {
    name: 'start_kernel',
    file: path.join(sources, start.path),
    gdb: start.path.split('/').slice(-2).join('/'),
    line: start.line,
  },
};

const print = {
  say,
  table(titles, rows) {
    for (const cells of [titles, titles.map(() => '---'), ...rows]) say(`| ${cells.join(' | ')} |`);
  },
};
say(`node ${process.versions.node}; ${file}, ${(fs.statSync(file).size / 1e6).toFixed(0)} MB; medians of ${runs}`);
if (parts.includes('launch')) {
  const rows = [];
  const notes = [];
  await measureLaunch(bench, {
    row(what, goal, ours, peer) {
      const text = (v) => (v.value === undefined ? `${v.cpu.toFixed(0)} (${v.wall.toFixed(0)})` : v.value.toFixed(0));
      const number = (v) => v.value ?? v.cpu;
      rows.push([
        what,
        goal,
        text(ours),
        text(peer),
        (number(ours) / number(peer)).toFixed(3),
        number(ours) <= goal ? 'yes' : 'NO',
      ]);
    },
    note: (text) => notes.push(text),
  });
  say('\nWhole processes, from their start: CPU ms (wall ms)');
  print.table(['what', 'goal, CPU ms', 'hyperstep', 'gdb', 'ratio', 'met'], rows);
  for (const text of notes) say(text);
}
if (parts.includes('stops')) await measureStops(bench, print);
if (parts.includes('index')) await measureIndex(bench, print);
if (parts.includes('addr2line')) measureAddr2line(bench, print);
if (parts.includes('conditions')) await conditions(guest, file, { runs: Math.min(runs, 3) });
