/** VPs as DAP threads: 0 is not a valid thread id. */
export const threadOf = (vp: number): number => vp + 1;
export const vpOf = (thread: number): number => thread - 1;
