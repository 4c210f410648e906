/** Standard input, typed on the guest's console. */
import type { Machine } from '../../emulator/index.ts';

/** Ctrl-], in a terminal: telnet's way out. Ctrl-C is the guest's. */
const LEAVE = 0x1d;

export class Typist {
  readonly #machine: () => Machine;
  readonly #isTerminal = process.stdin.isTTY === true;
  #hasEnded = false;
  #wake: () => void = () => {};
  /** Somebody at a terminal wants to leave. */
  hasLeft = false;

  /** `machine` is the one that runs now: a reset makes a new one. */
  constructor(machine: () => Machine) {
    this.#machine = machine;
    if (this.#isTerminal) process.stdin.setRawMode(true);
    process.stdin.on('data', (bytes: Buffer) => {
      if (this.#isTerminal && bytes.includes(LEAVE)) this.hasLeft = true;
      else this.#machine().consoleInput(bytes);
      this.#wake();
    });
    for (const end of ['end', 'error'])
      process.stdin.on(end, () => {
        this.#hasEnded = true;
        this.#wake();
      });
  }

  /** The guest does nothing but wait: resolves with true when something has been typed since, with false when nothing ever will be. */
  async more(): Promise<boolean> {
    if (this.#hasEnded || this.hasLeft) return this.hasLeft;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = () => {};
    return !this.#hasEnded;
  }

  close(): void {
    if (this.#isTerminal) process.stdin.setRawMode(false);
    process.stdin.destroy();
  }
}
