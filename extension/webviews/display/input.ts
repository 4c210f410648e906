/** What is typed and pointed at in the panel, on its way to the guest: batches, without what would only be overtaken. No DOM here. */
import type { PanelInput } from '../../../debug-adapter/protocol.ts';

/** Places of the synthetic mouse go from 0 to here. */
const RANGE = 0x7fff;
/** Buttons that the synthetic mouse has. */
const BUTTONS = 0x1f;

/** A pointer event's part that counts: a place in a picture of `width` x `height` units, and the buttons that are down. */
export interface Pointer {
  x: number;
  y: number;
  width: number;
  height: number;
  buttons: number;
}

const place = (at: number, size: number): number =>
  size > 1 ? Math.min(RANGE, Math.max(0, Math.round((at / (size - 1)) * RANGE))) : 0;

export class PanelInputQueue {
  #events: PanelInput[] = [];
  readonly #down = new Set<string>();

  get empty(): boolean {
    return this.#events.length === 0;
  }

  /** A key goes down (again, when it repeats) or up. Up comes only after down: what went down elsewhere is not ours. */
  key(code: string, down: boolean): void {
    if (!down && !this.#down.delete(code)) return;
    if (down) this.#down.add(code);
    this.#events.push({ code, down });
  }

  /** All keys go up: the panel gets no more of them. */
  release(): void {
    for (const code of this.#down) this.#events.push({ code, down: false });
    this.#down.clear();
  }

  /** The pointer is somewhere; a movement that nobody has taken yet makes room for the next. */
  pointer(p: Pointer, wheel = 0): void {
    const event = { x: place(p.x, p.width), y: place(p.y, p.height), buttons: p.buttons & BUTTONS };
    const last = this.#events.at(-1);
    const overtaken = last && 'x' in last && !last.wheel && last.buttons === event.buttons && this.#isMove();
    if (overtaken && wheel === 0) this.#events.pop();
    this.#events.push(wheel === 0 ? event : { ...event, wheel });
  }

  /** What has come since the last call. */
  take(): PanelInput[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  /** The last event moves the pointer and does nothing else: the one before it has the same buttons. */
  #isMove(): boolean {
    const [before, last] = this.#events.slice(-2);
    return last !== undefined && 'x' in before && 'x' in last && before.buttons === last.buttons;
  }
}
