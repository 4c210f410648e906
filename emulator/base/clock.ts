/**
 * Virtual time. One retired instruction is one nanosecond; idle time is skipped by `skipTo`. Everything in the machine
 * that has to do with time reads `now` and sets alarms here; nothing reads the host's clock.
 *
 * `now` is a number of nanoseconds (exact below 2^53: 104 days).
 */
export interface AlarmState {
  /** Due time in ns. */
  due: number;
  /** Tie-break: alarms with equal due times fire in the order they were set. */
  seq: number;
  /** Name of the alarm: who is called. */
  id: string;
}

export interface ClockState {
  now: number;
  /** Retired instructions of all VPs since the machine was made. */
  instructions: number;
  seq: number;
  /** Pending alarms, ordered by (due, seq). */
  alarms: AlarmState[];
}

export class Clock {
  readonly state: ClockState = { now: 0, instructions: 0, seq: 0, alarms: [] };
  readonly #handlers = new Map<string, () => void>();

  /** Declares what `id` does when due. Wiring, not state: called once per part when the machine is built. */
  on(id: string, handler: () => void): void {
    if (this.#handlers.has(id)) throw new Error(`alarm ${id} declared twice`);
    this.#handlers.set(id, handler);
  }

  get now(): number {
    return this.state.now;
  }

  /** Due time of the next alarm, Infinity if there is none. */
  get nextDue(): number {
    return this.state.alarms.length ? this.state.alarms[0].due : Number.POSITIVE_INFINITY;
  }

  /** (Re)arms alarm `id` for `due` (ns; a past time fires as soon as the machine looks). */
  set(id: string, due: number): void {
    if (!this.#handlers.has(id)) throw new Error(`alarm ${id} has no handler`);
    this.cancel(id);
    const alarm = { due, seq: this.state.seq++, id };
    const list = this.state.alarms;
    let i = list.length;
    while (i > 0 && list[i - 1].due > due) i--;
    list.splice(i, 0, alarm);
  }

  cancel(id: string): void {
    const i = this.state.alarms.findIndex((a) => a.id === id);
    if (i >= 0) this.state.alarms.splice(i, 1);
  }

  /** The CPU retired `n` more instructions. */
  retire(n: number): void {
    this.state.instructions += n;
    this.state.now += n;
  }

  /** Idle: time moves to `ns` without instructions. */
  skipTo(ns: number): void {
    if (ns > this.state.now) this.state.now = ns;
  }

  /** Fires every alarm due at or before now, in order. */
  fireDue(): void {
    while (this.state.alarms.length && this.state.alarms[0].due <= this.state.now) {
      const alarm = this.state.alarms.shift() as AlarmState;
      (this.#handlers.get(alarm.id) as () => void)();
    }
  }
}
