// Conditions that are false: what one costs in a bare loop, and what they make of the boot of Debian's kernel in a session with symbols, by
// the adapter's CPU time; against gdb-multiarch with qemu-system-aarch64's gdbstub.
//
//   node test/bench/debug-conditions.mjs [RUNS [GDB_SECONDS]]      medians of RUNS (3); at most 30 seconds for each of gdb's rows
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT, ensureBuild, ensureDebianPackages, ensureDependencies, run, say } from '../../scripts/setup.mjs';
import { cpuTime, DapClient } from './debug-dap.mjs';
import { Gdb, Qemu } from './debug-gdb.mjs';

const APPEND = 'console=ttyAMA0 nokaslr';
const FUNCTION = 'kmem_cache_alloc';
const VARIABLE = 'jiffies_64';
/** Longest boot, on a computer that is busy with other things, ms. */
const BOOT_TIMEOUT = 900_000;
/** Evaluations that gdb's time is taken of. */
const COUNT = 100;
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What is set, here and in gdb. `perSecond` and `slower` are the goals. */
const ROWS = {
  nothing: {},
  register: { name: '$x1 == 0x1234 on kmem_cache_alloc', condition: '$x1 == 0x1234', perSecond: 1e6, slower: 1.05 },
  field: { name: 's->object_size == 0x12345, the same place', condition: 's->object_size == 0x12345', perSecond: 3e5 },
  watch: { name: 'write to jiffies_64, jiffies_64 == 0x1234', condition: 'jiffies_64 == 0x1234', watch: true, slower: 1.5 },
};

/** Evaluations a second in a bare loop of a call: by register, and by a field behind a pointer. The loop's own time is taken off. */
const LOOP = `import '${ROOT}/debug-adapter/v8-settings.ts';
import { DEFAULTS } from '${ROOT}/emulator/index.ts';
import { createMachine } from '${ROOT}/emulator/load.ts';
const [LOAD, FUNCTION, ROUNDS] = [0x200000, 0x201000, 5e6];
// add x0, x0, #1; bl FUNCTION; b .-8. The function: ldr w4, [x5, #28]; add x2, x2, #1; ret
const kernel = new Uint32Array(1026);
kernel.set([0x91000400, 0x94000000 | ((FUNCTION - LOAD - 4) / 4), 0x17fffffe]);
kernel.set([0xb9401ca4, 0x91000442], 1024);
const program = new Uint8Array(new Uint32Array([...kernel, 0xd65f03c0]).buffer);
const register = (name) => ({ op: 'register', name });
const number = (value) => ({ op: 'const', value });
const field = { op: 'load', size: 4, signed: false, at: { op: 'add', left: register('x5'), right: number(28n) } };
const conditions = {
  nothing: undefined,
  register: { op: 'eq', left: register('x1'), right: number(0x1234n) },
  field: { op: 'eq', left: field, right: number(0x12345n) },
};
const seconds = {};
for (const [name, condition] of Object.entries(conditions)) {
  const machine = createMachine({ ...DEFAULTS, boot: 'device-tree', load: LOAD, memory: 64, kernel: program, kernelName: 'loop' });
  machine.writeRegister(0, 'x5', 0x300000n);
  // The MMU on, with a block of 1 GiB: what a condition loads is in the TLB.
  machine.writePhysical(0x400000, new Uint8Array(new BigUint64Array([0x701n]).buffer));
  for (const [r, v] of Object.entries({ MAIR_EL1: 0xffn, TCR_EL1: 0x100800019n, TTBR0_EL1: 0x400000n })) machine.writeRegister(0, r, v);
  machine.writeRegister(0, 'SCTLR_EL1', machine.readRegister(0, 'SCTLR_EL1') | 1n);
  if (condition) machine.setBreakpoint(BigInt(FUNCTION), { clauses: [{ condition }] });
  machine.run({ instructions: 6 * ROUNDS / 5 });
  const before = { count: machine.evaluations.generated, cpu: process.cpuUsage(), x0: machine.readRegister(0, 'x0') };
  while (machine.readRegister(0, 'x0') - before.x0 < ROUNDS) machine.run({ instructions: 6e6 });
  const { user, system } = process.cpuUsage(before.cpu);
  const rounds = Number(machine.readRegister(0, 'x0') - before.x0);
  const count = machine.evaluations.generated - before.count;
  if (condition && Math.abs(count - rounds) > 1) throw new Error(name + ': ' + count + ' evaluations in ' + rounds + ' rounds');
  seconds[name] = (user + system) / 1e6 / rounds;
}
console.log(JSON.stringify({ register: 1 / (seconds.register - seconds.nothing), field: 1 / (seconds.field - seconds.nothing) }));
process.exit(0);
`;

async function loop(folder) {
  const { build } = await import('esbuild');
  const source = path.join(folder, 'loop.ts');
  const bundle = path.join(folder, 'loop.mjs');
  fs.writeFileSync(source, LOOP);
  const common = { bundle: true, platform: 'node', format: 'esm', target: 'node20', logLevel: 'error', absWorkingDir: ROOT };
  await build({ ...common, entryPoints: [source], outfile: bundle });
  return JSON.parse(run(process.execPath, [bundle]));
}

/** A session from the launch until the guest has powered off: CPU seconds of the adapter, and conditions that were evaluated. */
async function session(guest, symbols, address, row) {
  const dap = new DapClient();
  try {
    const launched = dap.launch({ kernel: guest.kernel, initrd: guest.initrd, append: APPEND, memory: 512, symbols: [symbols] });
    await launched;
    const { condition, watch } = row;
    if (watch)
      await dap.request('setDataBreakpoints', { breakpoints: [{ dataId: `${address}+8`, accessType: 'write', condition }] });
    else if (condition) await dap.request('setFunctionBreakpoints', { breakpoints: [{ name: FUNCTION, condition }] });
    const end = dap.event('terminated', undefined, BOOT_TIMEOUT);
    await dap.request('configurationDone');
    await end;
    const cpu = cpuTime(dap.pid) / 1000;
    const { result } = await dap.request('evaluate', { expression: 'instructions', context: 'repl' });
    const [, generated, judged] = /(\d+) conditions evaluated by the engine's code, (\d+)/.exec(result) ?? [0, 0, 0];
    return { cpu, generated: Number(generated), judged: Number(judged), instructions: Number.parseInt(result, 10) };
  } finally {
    await dap.stop();
  }
}

/** Evaluations a second of gdb, from the first on, by how long `COUNT` of them take; undefined: longer than `seconds`. */
async function gdbRate(guest, symbols, folder, { condition, watch }, seconds) {
  const qemu = new Qemu({ kernel: guest.kernel, initrd: guest.initrd, append: APPEND, folder });
  const gdb = new Gdb(symbols);
  try {
    await gdb.connect(qemu);
    await gdb.command(`-break-insert -h -t ${FUNCTION}`);
    await gdb.run('-exec-continue');
    await gdb.command('-gdb-set $count = 0');
    const counted = `($count = $count + 1) >= ${COUNT} || ${condition}`;
    if (watch) {
      const number = /number="(\d+)"/.exec(await gdb.command(`-break-watch ${VARIABLE}`))[1];
      await gdb.command(`-break-condition ${number} ${counted}`);
    } else await gdb.command(`-break-insert -h -c ${JSON.stringify(counted)} ${FUNCTION}`);
    const pids = [gdb.pid, qemu.pid];
    const cpu = () => pids.reduce((sum, pid) => sum + cpuTime(pid), 0) / 1000;
    const [cpuBefore, before] = [cpu(), performance.now()];
    const stopped = gdb.run('-exec-continue').then(() => true);
    stopped.catch(() => {});
    if (!(await Promise.race([stopped, sleep(seconds * 1000)]))) return undefined;
    return { perSecond: (COUNT * 1000) / (performance.now() - before), perCpu: COUNT / (cpu() - cpuBefore) };
  } finally {
    await gdb.stop();
    await qemu.stop();
  }
}

/** Measures and prints all rows. `guest`: of debianGuest; `symbols`: its vmlinux. */
export async function conditions(guest, symbols, { runs = 3, gdbSeconds = 30 } = {}) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-bench-'));
  try {
    const symbol = run('aarch64-linux-gnu-nm', ['--defined-only', symbols])
      .split('\n')
      .find((l) => l.endsWith(` ${VARIABLE}`));
    const address = `0x${symbol.split(' ')[0]}`;
    const loops = [];
    const sessions = Object.fromEntries(Object.keys(ROWS).map((k) => [k, []]));
    for (let i = 0; i < runs; i++) {
      loops.push(await loop(folder));
      for (const [key, row] of Object.entries(ROWS)) sessions[key].push(await session(guest, symbols, address, row));
    }
    const cpu = (key) => median(sessions[key].map((s) => s.cpu));
    const nothing = cpu('nothing');
    say(
      `\nConditions that are false, in ${guest.release}: medians of ${runs}; a session from launch to power-off takes ${nothing.toFixed(2)} s of CPU time`,
    );
    say(`${''.padEnd(44)}     bare loop    in the boot: engine + adapter   boot slowed`);
    for (const [key, row] of Object.entries(ROWS)) {
      if (!row.condition) continue;
      const { generated, judged } = sessions[key][0];
      const rate = row.watch ? '' : `${(median(loops.map((l) => l[key])) / 1e6).toFixed(1)} M/s`;
      const goals = [row.perSecond && `>= ${row.perSecond} evaluations/s`, row.slower && `boot <= ${row.slower}x`];
      const cells = [row.name.padEnd(44), rate.padStart(14), `${generated} + ${judged}`.padStart(33)];
      say(`${cells.join('')}${`${(cpu(key) / nothing).toFixed(3)}x`.padStart(14)}    goal: ${goals.filter(Boolean).join(', ')}`);
    }
    const same = new Set(Object.values(sessions).flatMap((list) => list.map((s) => s.instructions)));
    say(`Every boot executed the same number of instructions: ${same.size === 1 ? 'yes' : `no: ${[...same].join(', ')}`}`);
    if (gdbSeconds <= 0) return;
    say(`\nThe same conditions in gdb with QEMU, for ${gdbSeconds} s each`);
    for (const row of Object.values(ROWS)) {
      if (!row.condition) continue;
      const { perSecond, perCpu } = await gdbRate(guest, symbols, folder, row, gdbSeconds);
      say(
        `${row.name.padEnd(44)}${perSecond.toFixed(0).padStart(10)} evaluations/s, ${perCpu.toFixed(0)} in a second of CPU time`,
      );
    }
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  ensureDependencies();
  ensureBuild();
  ensureDebianPackages({
    'aarch64-linux-gnu-nm': 'binutils-aarch64-linux-gnu',
    'gdb-multiarch': 'gdb-multiarch',
    'qemu-system-aarch64': 'qemu-system-arm',
  });
  const { debianDebugInfo, debianGuest } = await import('../../scripts/debian-guest.mjs');
  const [runs = 3, gdbSeconds = 30] = process.argv.slice(2).map(Number);
  await conditions(await debianGuest({}), debianDebugInfo({}).vmlinux, { runs, gdbSeconds });
}
