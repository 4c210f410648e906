/** Memory that the guest has given back (balloon, free page reports) is given on to the operating system. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Machine } from '../emulator/index.ts';

/** Less is not worth a move. */
const WORTH = 64 << 20;
/** A move may take one part in this of the time since the last one, so that a guest that gives and takes all the time stays as fast. */
const SHARE = 50;

/** V8 collects when JavaScript's own memory grows; the machine's old memory is none of that, and would stay for long. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  setFlagsFromString('--no-expose-gc');
}

export class ProcessMemory {
  readonly #clock: () => number;
  #earliest = 0;

  /** `clock`: milliseconds, which ration the moves. */
  constructor(clock = () => performance.now()) {
    this.#clock = clock;
  }

  /** Called between two slices: moves the machine out of memory that it does not need, when it is time. True: it was. */
  tidy(machine: Machine): boolean {
    const started = this.#clock();
    if (machine.releasable < WORTH || started < this.#earliest) return false;
    machine.releaseMemory();
    collectGarbage();
    const ended = this.#clock();
    this.#earliest = ended + SHARE * (ended - started);
    return true;
  }
}
