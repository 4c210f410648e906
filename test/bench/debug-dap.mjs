// A DAP client for the benchmarks: the built adapter on pipes, as an editor starts it, and what its process has used.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { ROOT } from '../../scripts/setup.mjs';

/** Longest wait for an answer or an event, ms. */
const TIMEOUT = 60_000;

/** User + system CPU milliseconds of a process so far, threads that have ended included, to 10 ms (proc(5), stat fields 14 and 15). */
export function cpuTime(pid) {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** The same to the nanosecond, of threads that are alive (Linux, Documentation/scheduler/sched-stats.rst). */
export function threadTime(pid) {
  let nanoseconds = 0;
  for (const task of fs.readdirSync(`/proc/${pid}/task`))
    nanoseconds += Number(fs.readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'latin1').split(' ')[0]);
  return nanoseconds / 1e6;
}

/** Peak resident memory of a process in MiB (proc(5), VmHWM). */
export function peakMemory(pid) {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024;
}

export class DapClient {
  #process;
  #sequence = 0;
  #buffer = Buffer.alloc(0);
  /** Requests without an answer, by sequence number. */
  #asked = new Map();
  #events = [];
  #waiting = [];
  /** performance.now() of the start. */
  started = performance.now();

  /** `environment`: on top of this process's. `flags`: of Node. */
  constructor(environment = {}, flags = []) {
    this.#process = spawn(process.execPath, [...flags, path.join(ROOT, 'dist/debug-adapter.mjs')], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...environment },
    });
    this.#process.stdout.on('data', (bytes) => this.#take(bytes));
    this.#process.on('exit', (status) => this.#fail(new Error(`the adapter ended with status ${status}`)));
  }

  get pid() {
    return this.#process.pid;
  }

  #fail(error) {
    for (const { reject } of this.#asked.values()) reject(error);
    for (const { reject } of this.#waiting) reject(error);
    this.#asked.clear();
    this.#waiting = [];
  }

  #take(bytes) {
    this.#buffer = this.#buffer.length ? Buffer.concat([this.#buffer, bytes]) : bytes;
    for (;;) {
      const end = this.#buffer.indexOf('\r\n\r\n');
      if (end < 0) return;
      const length = Number(/Content-Length: (\d+)/.exec(this.#buffer.toString('latin1', 0, end))[1]);
      if (this.#buffer.length < end + 4 + length) return;
      const message = JSON.parse(this.#buffer.toString('utf8', end + 4, end + 4 + length));
      this.#buffer = this.#buffer.subarray(end + 4 + length);
      this.#arrived(message);
    }
  }

  #arrived(message) {
    message.arrived = performance.now();
    if (message.type === 'response') {
      const asked = this.#asked.get(message.request_seq);
      this.#asked.delete(message.request_seq);
      if (message.success) asked?.resolve(message.body);
      else asked?.reject(new Error(`${message.command}: ${message.body?.error?.variables?.message ?? message.message}`));
    } else if (message.type === 'event') {
      const at = this.#waiting.findIndex((w) => w.fits(message));
      if (at >= 0) this.#waiting.splice(at, 1)[0].resolve(message);
      else if (!message.event.startsWith('hyperstep/') && !message.event.startsWith('progress')) this.#events.push(message);
    }
  }

  #timed(promise, what, timeout = TIMEOUT) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no ${what} within ${timeout / 1000} s`)), timeout);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
  }

  /** The body of the response. */
  request(command, args = {}) {
    const seq = ++this.#sequence;
    const text = JSON.stringify({ seq, type: 'request', command, arguments: args });
    const answer = new Promise((resolve, reject) => this.#asked.set(seq, { resolve, reject }));
    this.#process.stdin.write(`Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
    return this.#timed(answer, `answer to ${command}`);
  }

  /** The first event of this name that has not been taken yet, and fits: the whole message, with `arrived`. */
  event(name, fits = () => true, timeout = TIMEOUT) {
    const wanted = (m) => m.event === name && fits(m.body);
    const at = this.#events.findIndex(wanted);
    if (at >= 0) return Promise.resolve(this.#events.splice(at, 1)[0]);
    const coming = new Promise((resolve, reject) => this.#waiting.push({ fits: wanted, resolve, reject }));
    return this.#timed(coming, `event ${name}`, timeout);
  }

  /** Milliseconds since the process was started, and CPU milliseconds that it has used. */
  now() {
    // To the nanosecond while all of its threads live.
    const cpu = Math.max(threadTime(this.pid), cpuTime(this.pid) - 10);
    return { wall: performance.now() - this.started, cpu };
  }

  /** `initialize` and `launch`; resolves when the client is asked for its breakpoints, with what resolves when the machine is there. */
  async launch(args) {
    await this.request('initialize', { adapterID: 'hyperstep', linesStartAt1: true, columnsStartAt1: true, pathFormat: 'path' });
    const initialized = this.event('initialized');
    const launched = this.request('launch', args);
    // A launch that is refused is told here.
    await Promise.race([initialized, launched]);
    return { launched };
  }

  async stop() {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    if (this.#process.exitCode !== null) return;
    this.#process.stdin.end();
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), 5000);
    await ended;
    clearTimeout(timer);
  }
}
