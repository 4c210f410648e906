// What a debugger's user does at a stop, many times, at several places of a booting kernel: ours over DAP, gdb over MI with QEMU's gdbstub.
// Each time from the request to the `stopped` event, or to the answer.
import { DapClient, threadTime } from './debug-dap.mjs';
import { Gdb, Qemu } from './debug-gdb.mjs';

/** Functions that both machines come to again and again, and which call is looked at: shallow, and deep in initcalls, drivers, file systems. */
const PLACES = [
  ['setup_arch', 1],
  ['device_add', 30],
  ['kernfs_new_node', 300],
  ['shmem_get_inode', 10],
  ['load_elf_binary', 2],
];
/** Frames of a backtrace. */
const FRAMES = 20;
const KINDS = ['step instruction', 'step line', 'next', 'step out', `${FRAMES}-frame backtrace`, 'locals'];
const BACKTRACE = KINDS[4];
/** A stack as shallow as this is not walked out of any more: what follows is the rest of the boot. */
const SHALLOW = 8;
/** Steps out at a place. */
const OUTS = 6;

/** Ours. `step` resolves when the guest has stopped. */
class Ours {
  static async start({ guest, sources, vmlinux, cache }) {
    const dc = new DapClient({ HYPERSTEP_SYMBOL_CACHE: cache });
    const { launched } = await dc.launch({
      kernel: guest.kernel,
      initrd: guest.initrd,
      append: guest.append,
      memory: 512,
      sourceMap: { '': sources },
      symbols: [vmlinux],
    });
    await launched;
    return new Ours(dc);
  }
  #dc;
  #started = false;
  #thread;
  #frame;
  constructor(dc) {
    this.#dc = dc;
  }
  cpu() {
    return threadTime(this.#dc.pid);
  }
  async runTo(name, hit) {
    const breakpoints = [{ name, hitCondition: `== ${hit}` }];
    await this.#dc.request('setFunctionBreakpoints', { breakpoints });
    if (this.#started) await this.#dc.request('continue', { threadId: this.#thread });
    else await this.#dc.request('configurationDone');
    this.#started = true;
    this.#thread = (await this.#dc.event('stopped')).body.threadId;
    await this.#dc.request('setFunctionBreakpoints', { breakpoints: [] });
  }
  async step(kind) {
    const threadId = this.#thread;
    const granularity = kind === 'step instruction' ? { granularity: 'instruction' } : {};
    await this.#dc.request(kind === 'next' ? 'next' : kind === 'step out' ? 'stepOut' : 'stepIn', { threadId, ...granularity });
    await this.#dc.event('stopped');
  }
  /** How many frames there are, up to FRAMES. */
  async backtrace() {
    const { stackFrames } = await this.#dc.request('stackTrace', { threadId: this.#thread, startFrame: 0, levels: FRAMES });
    this.#frame = stackFrames[0].id;
    return stackFrames.length;
  }
  async locals() {
    const { scopes } = await this.#dc.request('scopes', { frameId: this.#frame });
    for (const { presentationHint, variablesReference } of scopes)
      if (presentationHint === 'locals' || presentationHint === 'arguments')
        await this.#dc.request('variables', { variablesReference });
  }
  stop() {
    return this.#dc.stop();
  }
}

class Peer {
  static async start({ guest, vmlinux, work }) {
    const gdb = new Gdb(vmlinux);
    const qemu = new Qemu({ ...guest, folder: work });
    await gdb.connect(qemu);
    return new Peer(gdb, qemu);
  }
  #gdb;
  #qemu;
  constructor(gdb, qemu) {
    this.#gdb = gdb;
    this.#qemu = qemu;
  }
  cpu() {
    return threadTime(this.#gdb.pid) + threadTime(this.#qemu.pid);
  }
  async runTo(name, hit) {
    await this.#gdb.command(`-break-insert -t -i ${hit - 1} ${name}`);
    await this.#gdb.run('-exec-continue');
  }
  async step(kind) {
    const commands = { 'step instruction': 'step-instruction', 'step line': 'step', next: 'next', 'step out': 'finish' };
    await this.#gdb.run(`-exec-${commands[kind]}`);
  }
  async backtrace() {
    const answer = await this.#gdb.command(`-stack-list-frames 0 ${FRAMES - 1}`);
    return answer.split('frame={').length - 1;
  }
  async locals() {
    await this.#gdb.command('-stack-list-variables --all-values');
  }
  async stop() {
    await this.#gdb.stop();
    await this.#qemu.stop();
  }
}

/** Times of each kind of question at a place, `{ wall, cpu }` in ms, are added to `times`. */
async function visit(debuggee, [name, hit], count, times) {
  const timed = async (kind, work) => {
    const cpu = debuggee.cpu();
    const start = performance.now();
    const answer = await work().catch((error) => {
      throw new Error(`${name}: ${kind}: ${error.message}`);
    });
    const wall = performance.now() - start;
    times[kind].push({ wall, cpu: debuggee.cpu() - cpu });
    return answer;
  };
  /** What a client asks at every stop; the number of frames. Stacks that are not deep enough are not counted as backtraces. */
  const look = async () => {
    const frames = await timed(BACKTRACE, () => debuggee.backtrace());
    if (frames < FRAMES) times[BACKTRACE].pop();
    await timed('locals', () => debuggee.locals());
    return frames;
  };
  await debuggee.runTo(name, hit);
  await look();
  for (const kind of ['step instruction', 'step line', 'next'])
    for (let i = 0; i < count; i++) {
      await timed(kind, () => debuggee.step(kind));
      await look();
    }
  // Out of a few functions, and into others again.
  for (let i = 0; i < OUTS && (await look()) > SHALLOW; i++) {
    await timed('step out', () => debuggee.step('step out'));
    for (let j = 0; j < 3; j++) await timed('step line', () => debuggee.step('step line'));
  }
}

const at = (values, part) => values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))];

/** Measures; `table` prints rows of cells. `count`: steps of each kind at each place. */
export async function measureStops(bench, { say, table }, count = 30) {
  const sessions = { ours: undefined, peer: undefined };
  const lost = [];
  for (const [who, start] of [
    ['ours', Ours.start],
    ['peer', Peer.start],
  ]) {
    const times = Object.fromEntries(KINDS.map((kind) => [kind, []]));
    let debuggee;
    for (const place of PLACES)
      try {
        debuggee ??= await start(bench);
        await visit(debuggee, place, count, times);
      } catch (error) {
        await debuggee.stop();
        debuggee = undefined;
        // A step of gdb's that has no end: what it did before counts, and it goes on at the next place.
        if (who === 'ours') throw error;
        lost.push(error.message);
      }
    await debuggee?.stop();
    sessions[who] = times;
  }
  say(
    `\nAt a stop, ms: wall time from the request to \`stopped\` or the answer (and CPU time of all processes); at ${PLACES.map(([n]) => n).join(', ')}`,
  );
  const rows = KINDS.map((kind) => {
    const ours = sessions.ours[kind];
    const peer = sessions.peer[kind];
    const of = (list, what, part) =>
      at(
        list.map((t) => t[what]),
        part,
      );
    const both = (list, part) => `${of(list, 'wall', part).toFixed(2)} (${of(list, 'cpu', part).toFixed(2)})`;
    const ratio = of(ours, 'cpu', 0.5) / of(peer, 'cpu', 0.5);
    const isMet = ratio <= 0.5 && of(ours, 'cpu', 0.99) <= 10;
    return [
      kind,
      ours.length,
      peer.length,
      both(ours, 0.5),
      both(peer, 0.5),
      ratio.toFixed(2),
      both(ours, 0.99),
      both(peer, 0.99),
      isMet ? 'yes' : 'NO',
    ];
  });
  table(
    ['what', 'n', "n, gdb's", 'median', "gdb + QEMU's", 'CPU ratio, goal 0.5', 'p99, goal 10 CPU ms', "gdb + QEMU's", 'met'],
    rows,
  );
  for (const text of lost) say(`gdb was given up at ${text}`);
}
