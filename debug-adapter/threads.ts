/** VPs as DAP threads: 0 is not a valid thread id. */
export const threadOf = (vp: number): number => vp + 1;
export const vpOf = (thread: number): number => thread - 1;

/** Threads of tasks come after those of all VPs. */
const FIRST_TASK = 1000;

/** Sleeping tasks as DAP threads: a task has one id for as long as the session lasts. */
export class TaskThreads {
  readonly #tasks: bigint[] = [];
  readonly #ids = new Map<bigint, number>();

  id(task: bigint): number {
    let id = this.#ids.get(task);
    if (id === undefined) {
      id = FIRST_TASK + this.#tasks.push(task) - 1;
      this.#ids.set(task, id);
    }
    return id;
  }

  /** Address of the task; undefined: the thread is none's. */
  task(thread: number): bigint | undefined {
    return this.#tasks[thread - FIRST_TASK];
  }
}
