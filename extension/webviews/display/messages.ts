/** What the display panel and its page say to each other: types only. */
import type { PanelInput, ScreenChange } from '../../../debug-adapter/protocol.ts';

export type ToPage = { kind: 'change'; change: ScreenChange } | { kind: 'none'; text: string };
/** The page is there (anew) and has nothing; something for the guest. */
export type FromPage = { kind: 'ready' } | { kind: 'input'; events: PanelInput[] };
