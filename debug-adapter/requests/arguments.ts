/** What the arguments of requests must look like: clients may be wrong, and handlers need not look. */
import { UserError } from '../user-error.ts';

/** `number` is a whole one that is exact; `count` is one that is not negative. A list has one shape for all its items. */
type Shape = 'text' | 'number' | 'count' | 'flag' | readonly [Shape] | { readonly [name: string]: Shape };

const GUARD = { 'condition?': 'text', 'hitCondition?': 'text' } as const;
const SOURCE = { 'path?': 'text', 'name?': 'text', 'sourceReference?': 'number' } as const;
const FORMAT = { 'format?': { 'hex?': 'flag' } } as const;
const THREAD = { threadId: 'number' } as const;
const SINGLE = { 'singleThread?': 'flag' } as const;

/** By command. A name that ends in `?` may be left out, or be null. What is not named is not looked at. */
const REQUESTS: Readonly<Record<string, Shape>> = {
  setBreakpoints: { source: SOURCE, 'breakpoints?': [{ line: 'number', ...GUARD, 'logMessage?': 'text' }] },
  setFunctionBreakpoints: { breakpoints: [{ name: 'text', ...GUARD }] },
  setInstructionBreakpoints: { breakpoints: [{ instructionReference: 'text', 'offset?': 'number', ...GUARD }] },
  dataBreakpointInfo: {
    name: 'text',
    'variablesReference?': 'number',
    'frameId?': 'number',
    'bytes?': 'count',
    'asAddress?': 'flag',
    'mode?': 'text',
  },
  setDataBreakpoints: { breakpoints: [{ dataId: 'text', 'accessType?': 'text', ...GUARD }] },
  breakpointLocations: { source: SOURCE, line: 'number', 'endLine?': 'number' },
  setExceptionBreakpoints: { filters: ['text'], 'filterOptions?': [{ filterId: 'text', 'condition?': 'text' }] },
  stackTrace: { ...THREAD, 'startFrame?': 'count', 'levels?': 'count' },
  scopes: { frameId: 'number' },
  variables: { variablesReference: 'number', 'filter?': 'text', 'start?': 'count', 'count?': 'count', ...FORMAT },
  setVariable: { variablesReference: 'number', name: 'text', value: 'text', ...FORMAT },
  evaluate: { expression: 'text', 'frameId?': 'number', 'context?': 'text', ...FORMAT },
  setExpression: { expression: 'text', value: 'text', 'frameId?': 'number', ...FORMAT },
  locations: { locationReference: 'number' },
  completions: { text: 'text', column: 'number', 'frameId?': 'number' },
  continue: { 'threadId?': 'number', ...SINGLE },
  pause: { 'threadId?': 'number' },
  next: { ...THREAD, ...SINGLE },
  stepIn: { ...THREAD, ...SINGLE, 'targetId?': 'number' },
  stepInTargets: { frameId: 'number' },
  stepOut: { ...THREAD, ...SINGLE },
  readMemory: { memoryReference: 'text', 'offset?': 'number', count: 'count' },
  writeMemory: { memoryReference: 'text', 'offset?': 'number', data: 'text' },
  disassemble: {
    memoryReference: 'text',
    'offset?': 'number',
    'instructionOffset?': 'number',
    instructionCount: 'count',
    'resolveSymbols?': 'flag',
  },
  modules: { 'startModule?': 'count', 'moduleCount?': 'count' },
  source: { 'source?': SOURCE, 'sourceReference?': 'number' },
  'hyperstep/vpRegisters': { vp: 'count' },
  'hyperstep/channel': { relid: 'count', action: 'text', 'vp?': 'count' },
  'hyperstep/hypercalls': { count: 'count' },
  'hyperstep/setHypercallBreakpoints': { breakpoints: [{ call: 'text', phase: 'text', ...GUARD, 'logMessage?': 'text' }] },
  'hyperstep/taskStack': { task: 'text' },
  'hyperstep/kernelLog': { 'count?': 'count' },
  'hyperstep/codePlace': { address: 'text' },
  'hyperstep/consoleInput': { data: 'text' },
  'hyperstep/screen': { all: 'flag' },
  'hyperstep/input': {
    events: [{ 'code?': 'text', 'down?': 'flag', 'x?': 'number', 'y?': 'number', 'buttons?': 'count', 'wheel?': 'number' }],
  },
  'hyperstep/symbols': { reload: 'flag' },
  'hyperstep/shutdown': { restart: 'flag', 'hibernate?': 'flag', 'force?': 'flag' },
  'hyperstep/setKeyValuePair': { pool: 'text', key: 'text', 'value?': 'text' },
  'hyperstep/backup': { frozen: 'flag' },
  'hyperstep/copyFile': { from: 'text', to: 'text', 'overwrite?': 'flag', 'createPath?': 'flag' },
  'hyperstep/memory': { 'target?': 'count', 'add?': 'count' },
};

const SCALARS = {
  text: { what: 'text', is: (v: unknown) => typeof v === 'string' },
  number: { what: 'a whole number', is: (v: unknown) => Number.isSafeInteger(v) },
  count: { what: 'a whole number that is not negative', is: (v: unknown) => Number.isSafeInteger(v) && (v as number) >= 0 },
  flag: { what: 'true or false', is: (v: unknown) => typeof v === 'boolean' },
};

function check(value: unknown, shape: Shape, path: string): void {
  if (typeof shape === 'string') {
    const { what, is } = SCALARS[shape];
    if (!is(value)) throw new UserError(`${path} must be ${what}`);
  } else if (isList(shape)) {
    if (!Array.isArray(value)) throw new UserError(`${path} must be a list`);
    value.forEach((item, i) => {
      check(item, shape[0], `${path}[${i}]`);
    });
  } else {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new UserError(`${path} must be an object`);
    for (const [field, inner] of Object.entries(shape)) {
      const optional = field.endsWith('?');
      const name = optional ? field.slice(0, -1) : field;
      const given: unknown = (value as Record<string, unknown>)[name];
      if (optional && (given === undefined || given === null)) continue;
      check(given, inner, path === ROOT ? `"${name}"` : `${path}.${name}`);
    }
  }
}

const ROOT = 'its arguments';
const isList = (shape: Shape): shape is readonly [Shape] => Array.isArray(shape);

/** Throws UserError with the first thing that is wrong. `launch` has its own words, in terms of launch.json. */
export function checkArguments(command: string, args: unknown): void {
  if (!Object.hasOwn(REQUESTS, command)) return;
  try {
    check(args, REQUESTS[command], ROOT);
  } catch (e) {
    throw e instanceof UserError ? new UserError(`The request "${command}" is malformed: ${e.message}`) : e;
  }
}
