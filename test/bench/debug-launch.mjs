// From starting the adapter to the first breakpoint on a line, and the first `struct task_struct`: whole processes over stdio, and gdb.
import fs from 'node:fs';
import path from 'node:path';
import { DapClient, cpuTime, peakMemory } from './debug-dap.mjs';
import { Gdb, Qemu } from './debug-gdb.mjs';

export const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const medians = (rows) =>
  Object.fromEntries(
    Object.keys(rows[0]).map((key) => [
      key,
      { cpu: median(rows.map((r) => r[key].cpu)), wall: median(rows.map((r) => r[key].wall)) },
    ]),
  );

/** One launch with a breakpoint on a line, up to the stop at `start_kernel`. `symbols`: undefined for none. */
async function launch({ guest, sources, place, cache }, symbols, { settled = async () => {}, look = async () => {} } = {}) {
  const dc = new DapClient({ HYPERSTEP_SYMBOL_CACHE: cache });
  const at = {};
  try {
    const text = dc.event('hyperstep/console');
    const { launched } = await dc.launch({
      kernel: guest.kernel,
      initrd: guest.initrd,
      append: guest.append,
      memory: 512,
      sourceMap: { '': sources },
      symbols: symbols ? [symbols] : [],
    });
    at.initialized = dc.now();
    const { breakpoints } = await dc.request('setBreakpoints', {
      source: { path: place.file },
      breakpoints: [{ line: place.line }],
    });
    if (symbols && !breakpoints[0].verified) throw new Error(`the breakpoint is not verified: ${breakpoints[0].message}`);
    at.breakpoint = dc.now();
    await dc.request('threads');
    at.threads = dc.now();
    await launched;
    // Without symbols this is where the session stops as well.
    await dc.request('setFunctionBreakpoints', { breakpoints: symbols ? [] : [{ name: place.name }] });
    await dc.request('configurationDone');
    const { threadId } = (await dc.event('stopped')).body;
    at.stopped = dc.now();
    const { stackFrames } = await dc.request('stackTrace', { threadId, levels: 20 });
    await settled();
    const extra = await look(dc, stackFrames[0].id);
    await dc.request('setBreakpoints', { source: { path: place.file }, breakpoints: [] });
    await dc.request('setFunctionBreakpoints', { breakpoints: [] });
    const cpu = cpuTime(dc.pid);
    const start = performance.now();
    await dc.request('continue', { threadId });
    await text;
    const console = { cpu: at.stopped.cpu + cpuTime(dc.pid) - cpu, wall: at.stopped.wall + performance.now() - start };
    return { at: { ...at, console }, memory: peakMemory(dc.pid), extra, dc };
  } catch (error) {
    await dc.stop();
    throw error;
  }
}

/** The first look at a task_struct of a session: its members and their values, as the Variables view asks for them. */
async function firstTask(dc, frameId) {
  const cpu = cpuTime(dc.pid);
  const start = performance.now();
  const task = await dc.request('evaluate', { expression: 'init_task', context: 'watch', frameId });
  const { variables } = await dc.request('variables', { variablesReference: task.variablesReference });
  return { cpu: cpuTime(dc.pid) - cpu, wall: performance.now() - start, members: variables.length };
}

/** gdb until the same line has its breakpoint, and its first look at the same variable. */
async function gdbLaunch({ guest, vmlinux, place, work }, index, variable) {
  const options = index ? [`set index-cache directory ${index}`, 'set index-cache enabled on'] : [];
  const gdb = new Gdb(vmlinux, options);
  const qemu = variable ? new Qemu({ ...guest, folder: work }) : undefined;
  try {
    await gdb.command(`-break-insert ${place.gdb}:${place.line}`);
    const breakpoint = { cpu: cpuTime(gdb.pid), wall: performance.now() - gdb.started };
    let task;
    if (qemu) {
      await gdb.connect(qemu);
      await gdb.run('-exec-continue');
      const cpu = cpuTime(gdb.pid);
      const start = performance.now();
      await gdb.command('-var-create task * init_task');
      await gdb.command('-var-list-children --all-values task');
      task = { cpu: cpuTime(gdb.pid) - cpu, wall: performance.now() - start };
    }
    return { breakpoint, task, memory: peakMemory(gdb.pid) };
  } finally {
    await gdb.stop();
    await qemu?.stop();
  }
}

/** Measures; `row(what, goal, ours, peer)` takes milliseconds (or MiB, with `unit`), `note` a line of text. */
export async function measureLaunch(bench, { row, note }) {
  const { cache, runs, vmlinux, work } = bench;
  const ours = { cold: [], warm: [], without: [] };
  const tasks = [];
  const memory = { cold: [], warm: [], without: [] };
  const record = async (kind, symbols) => {
    // What is looked at is not measured while another thread makes the index.
    const settled = async () => {
      const deadline = performance.now() + 60_000;
      while (kind === 'cold' && !fs.readdirSync(cache).some((f) => f.endsWith('.dwarf-index'))) {
        if (performance.now() > deadline) throw new Error('the index was not kept');
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };
    const { at, memory: peak, extra, dc } = await launch(bench, symbols, symbols ? { settled, look: firstTask } : {});
    ours[kind].push(at);
    memory[kind].push(peak);
    if (extra) tasks.push(extra);
    await dc.stop();
  };
  for (let i = 0; i < runs; i++) {
    fs.rmSync(cache, { recursive: true, force: true });
    fs.mkdirSync(cache);
    await record('cold', vmlinux);
    await record('warm', vmlinux);
    await record('without', undefined);
  }
  const index = path.join(work, 'gdb-index');
  const gdb = await gdbLaunch(bench, undefined, true);
  await gdbLaunch(bench, index, false); // makes it
  const gdbWarm = await gdbLaunch(bench, index, false);
  const [cold, warm, without] = [ours.cold, ours.warm, ours.without].map(medians);
  const ms = (v) => `${v.cpu.toFixed(0)} (${v.wall.toFixed(0)})`;
  row('launch to a line breakpoint verified, never seen', 700, cold.breakpoint, gdb.breakpoint);
  row('the same, index cached (gdb: its index-cache)', 150, warm.breakpoint, gdbWarm.breakpoint);
  row(
    'first struct task_struct in Variables',
    200,
    { cpu: median(tasks.map((t) => t.cpu)), wall: median(tasks.map((t) => t.wall)) },
    gdb.task,
  );
  const peak = (kind) => median(memory[kind]);
  row('peak memory for symbols, never seen, MiB', 300, { value: peak('cold') - peak('without') }, { value: gdb.memory });
  row('peak memory for symbols, index cached, MiB', 300, { value: peak('warm') - peak('without') }, { value: gdb.memory });
  note(
    `a task_struct has ${tasks[0].members} members here; whole adapter: ${peak('cold').toFixed(0)} MiB, without symbols ${peak('without').toFixed(0)} MiB`,
  );
  note('first paint, CPU ms (wall ms) from the start of the process   never seen      cached          without symbols');
  for (const key of ['initialized', 'threads', 'stopped', 'console'])
    note(
      `  ${{ initialized: 'the client is asked for breakpoints', threads: 'threads are answered', stopped: 'stopped at start_kernel', console: "the guest's first line" }[key].padEnd(60)}${ms(cold[key]).padEnd(16)}${ms(warm[key]).padEnd(16)}${ms(without[key])}`,
    );
}
