// The peer of the debugger benchmarks: gdb-multiarch, driven by GDB/MI over a pipe, and a kernel in qemu-system-aarch64 behind its gdbstub.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

/** Longest wait for an answer, ms: gdb may read a 273 MB vmlinux; and for the end of a step. */
const TIMEOUT = 300_000;
const STEP_TIMEOUT = 30_000;

/** A QEMU that has not run its first instruction; gdb finds it at `socket`. */
export class Qemu {
  #process;
  socket;

  constructor({ kernel, initrd, append, folder }) {
    this.socket = path.join(folder, `gdb-${process.pid}-${Math.random().toString(36).slice(2)}`);
    const machine =
      '-M virt,gic-version=3 -cpu neoverse-n1 -m 512 -nic none -display none -monitor none -serial null -accel tcg -S';
    const guest = ['-kernel', kernel, '-initrd', initrd, '-append', append];
    const stub = ['-chardev', `socket,id=gdb,path=${this.socket},server=on,wait=off`, '-gdb', 'chardev:gdb'];
    this.#process = spawn('qemu-system-aarch64', [...machine.split(' '), ...guest, ...stub], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
  }

  get pid() {
    return this.#process.pid;
  }

  /** Resolves when gdb can connect. */
  async ready() {
    while (!fs.existsSync(this.socket)) {
      if (this.#process.exitCode !== null) throw new Error(`qemu-system-aarch64 ended with status ${this.#process.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async stop() {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    if (this.#process.exitCode === null) {
      this.#process.kill('SIGKILL');
      await ended;
    }
    fs.rmSync(this.socket, { force: true });
  }
}

export class Gdb {
  #process;
  #text = '';
  #token = 0;
  #asked = new Map();
  /** `*stopped` records that nobody has taken, and who waits for one. */
  #stops = [];
  #waiting = [];
  started = performance.now();

  /** `options`: commands before the file is read. */
  constructor(file, options = []) {
    const before = ['set confirm off', 'set pagination off', ...options].flatMap((command) => ['-iex', command]);
    this.#process = spawn('gdb-multiarch', ['--interpreter=mi3', '-q', '-nx', ...before, file], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#process.stdout.setEncoding('latin1').on('data', (text) => this.#take(text));
    this.#process.on('exit', (status) => {
      for (const { reject } of [...this.#asked.values(), ...this.#waiting]) reject(new Error(`gdb ended with status ${status}`));
    });
  }

  get pid() {
    return this.#process.pid;
  }

  #take(text) {
    this.#text += text;
    for (let end = this.#text.indexOf('\n'); end >= 0; end = this.#text.indexOf('\n')) {
      const line = this.#text.slice(0, end);
      this.#text = this.#text.slice(end + 1);
      const result = /^(\d+)\^(\w+),?(.*)/s.exec(line);
      if (result) {
        const asked = this.#asked.get(Number(result[1]));
        // A step says first that the guest runs; its end is a `*stopped`.
        this.#asked.delete(Number(result[1]));
        if (result[2] === 'error') asked?.reject(new Error(`gdb: ${asked.command}: ${result[3]}`));
        else asked?.resolve(result[3]);
      } else if (line.startsWith('*stopped')) {
        const waiting = this.#waiting.shift();
        if (waiting) waiting.resolve(line);
        else this.#stops.push(line);
      }
    }
  }

  #timed(promise, what, limit = TIMEOUT) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`gdb: no end of ${what} within ${limit / 1000} s`)), limit);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
  }

  /** The text of the command's result record. */
  command(command) {
    const token = ++this.#token;
    const answer = new Promise((resolve, reject) => this.#asked.set(token, { resolve, reject, command }));
    this.#process.stdin.write(`${token}${command}\n`);
    return this.#timed(answer, command);
  }

  /** A command after which the guest runs; resolves with the `*stopped` record. */
  async run(command) {
    const stopped = new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    // A command that is refused stops nothing.
    await this.command(command).catch((error) => {
      this.#waiting.pop();
      throw error;
    });
    return this.#timed(stopped, command, STEP_TIMEOUT);
  }

  /** Connects to a QEMU that stands still. */
  async connect(qemu) {
    await qemu.ready();
    await this.run(`-target-select remote ${qemu.socket}`);
  }

  async stop() {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    if (this.#process.exitCode !== null) return;
    this.#process.kill('SIGKILL');
    await ended;
  }
}
