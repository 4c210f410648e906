// Debug information alone in a process: the index (never seen, and from the cache), a type, memory.
import fs from 'node:fs';
import path from 'node:path';
import { ROOT, run } from '../../scripts/setup.mjs';
import { median } from './debug-launch.mjs';

/** What a session does with symbols: open, bind a breakpoint, wait for names, look at a type. */
const PROGRAM = `import '${ROOT}/debug-adapter/v8-settings.ts';
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
`;

/** Bundles `text`, a module that imports ours by ROOT, to FOLDER/NAME.mjs, next to the index's worker; the path. */
export async function bundle(folder, name, text) {
  const { build } = await import('esbuild');
  const options = { bundle: true, platform: 'node', format: 'esm', target: 'node20', logLevel: 'error', absWorkingDir: ROOT };
  fs.writeFileSync(path.join(folder, `${name}.ts`), text);
  const outfile = path.join(folder, `${name}.mjs`);
  // CommonJS inside calls `require` for Node's own modules.
  const banner = {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  };
  await build({ ...options, banner, entryPoints: [path.join(folder, `${name}.ts`)], outfile });
  const worker = path.join(ROOT, 'debug-adapter/symbols/dwarf/worker.ts');
  await build({ ...options, entryPoints: [worker], outfile: path.join(folder, 'symbol-worker.mjs') });
  return outfile;
}

/** Prints. */
export async function measureIndex({ cache, place, runs, vmlinux, work }, { say }) {
  const program = await bundle(work, 'index', PROGRAM);
  const bare = median(
    Array.from({ length: 3 }, () =>
      Number(run(process.execPath, ['-e', 'const c = process.cpuUsage(); console.log((c.user + c.system) / 1000)'])),
    ),
  );
  const index = (cold) => {
    const rows = [];
    for (let i = 0; i < runs; i++) {
      if (cold) fs.rmSync(cache, { recursive: true, force: true });
      rows.push(JSON.parse(run(process.execPath, [program, vmlinux, cache, place.gdb, String(place.line)])));
    }
    return Object.fromEntries(Object.keys(rows[0]).map((key) => [key, median(rows.map((r) => r[key]))]));
  };
  const cold = index(true);
  const warm = index(false);
  const ms = (v) => `${v.toFixed(0)} ms`;
  const line = (what, a, b) => say(what.padEnd(40) + a.padStart(10) + b.padStart(13));
  say(`\nThe library alone; Node itself costs ${ms(bare)} of CPU time, not counted`);
  line('', 'never seen', 'from cache');
  line('breakpoint on a line is bound, CPU', ms(cold.breakpoint), ms(warm.breakpoint));
  line('the same, wall', ms(cold.wall), ms(warm.wall));
  line('index with all names, CPU', ms(cold.complete), ms(warm.complete));
  line(`struct task_struct, ${cold.members} members, CPU`, ms(cold.typed), ms(warm.typed));
  line('peak memory of the process', `${cold.memory.toFixed(0)} MiB`, `${warm.memory.toFixed(0)} MiB`);
}
