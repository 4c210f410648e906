/** Every request we answer, by its command. */
import type { Handler } from '../session.ts';
import { breakpoints } from './breakpoints.ts';
import { custom } from './custom.ts';
import { dataBreakpoints } from './data-breakpoints.ts';
import { disassembly } from './disassemble.ts';
import { evaluation } from './evaluate.ts';
import { execution } from './execution.ts';
import { launching } from './launch.ts';
import { memory } from './memory.ts';
import { modules } from './modules.ts';
import { source } from './source.ts';
import { stack } from './stack.ts';
import { variables } from './variables.ts';

export const HANDLERS: Readonly<Record<string, Handler<never, unknown>>> = {
  ...launching,
  ...breakpoints,
  ...dataBreakpoints,
  ...stack,
  ...source,
  ...variables,
  ...evaluation,
  ...execution,
  ...memory,
  ...disassembly,
  ...modules,
  ...custom,
};
