/**
 * C expressions as kernel developers write them in a debugger: text to tree. The tree knows columns and nothing else: what names
 * mean is found out by evaluate.ts.
 */
import { BASE_TYPES, isTypeWord, WELL_KNOWN_TYPEDEFS } from '../types/model.ts';

/** As much of a text as a message has room for. */
const short = (text: string): string => (text.length > 40 ? `${text.slice(0, 37)}...` : text);

/** What is wrong with an expression, and where: words for the person who wrote it. */
export class ExpressionError extends Error {
  /** Without the place. */
  readonly fact: string;
  /** From 1; undefined when it is not about a place. */
  readonly column: number | undefined;

  /** `text`: the expression, where the reader may not see it. The first column goes without saying. */
  constructor(fact: string, at?: number, text?: string) {
    super(`${text === undefined ? '' : `"${short(text)}": `}${fact}${at ? ` (column ${at + 1})` : ''}`);
    this.fact = fact;
    this.column = at === undefined ? undefined : at + 1;
  }
}

/** A type as it is written. */
export type TypeNode =
  | { kind: 'named'; tag: 'struct' | 'union' | 'enum' | 'typedef'; name: string; at: number }
  | { kind: 'base'; words: readonly string[]; at: number }
  | { kind: 'typeof'; of: Node; at: number }
  | { kind: 'const' | 'volatile'; of: TypeNode; at: number }
  | { kind: 'pointer'; of: TypeNode; at: number }
  | { kind: 'array'; of: TypeNode; count: Node | undefined; at: number }
  | { kind: 'function'; of: TypeNode; parameters: readonly TypeNode[]; variadic: boolean; at: number };

/** `at`: where in the text it is, from 0: for an operator the operator's place. */
export type Node = { at: number } & (
  | { kind: 'number'; value: bigint; unsigned: boolean; long: 0 | 1 | 2; decimal: boolean }
  | { kind: 'character'; value: bigint }
  | { kind: 'string'; value: string }
  | { kind: 'register'; name: string }
  /** A variable, constant, hypercall's field; `scope` is what was before `::`. */
  | { kind: 'name'; name: string; scope?: string }
  | { kind: 'member'; of: Node; name: string; arrow: boolean }
  | { kind: 'unary'; op: string; of: Node }
  | { kind: 'binary'; op: string; left: Node; right: Node }
  | { kind: 'choice'; test: Node; yes: Node; no: Node }
  | { kind: 'cast'; type: TypeNode; of: Node }
  | { kind: 'index'; of: Node; index: Node }
  | { kind: 'sizeof'; type?: TypeNode; of?: Node; alignment: boolean }
  | { kind: 'current' }
  | { kind: 'percpu'; of: Node; cpu: Node | undefined }
  | { kind: 'container'; of: Node; type: TypeNode; path: Node }
  | { kind: 'offset'; type: TypeNode; path: Node }
  /** `left op= right`, or plain `=`; `after`: the result is the value before (`x++`). */
  | { kind: 'assign'; op: string; left: Node; right: Node; after: boolean }
  | { kind: 'sequence'; first: Node; second: Node }
);

/** Binary operators by how tightly they bind (C11 6.5.5 to 6.5.14); `@` is where gdb has it. */
const PRECEDENCE: Readonly<Record<string, number>> = {
  '||': 1,
  '&&': 2,
  '|': 3,
  '^': 4,
  '&': 5,
  '==': 6,
  '!=': 6,
  '<': 7,
  '>': 7,
  '<=': 7,
  '>=': 7,
  '<<': 8,
  '>>': 8,
  '@': 9,
  '+': 10,
  '-': 10,
  '*': 11,
  '/': 11,
  '%': 11,
};
const ASSIGNMENTS: ReadonlySet<string> = new Set(['=', '+=', '-=', '*=', '/=', '%=', '&=', '|=', '^=', '<<=', '>>=']);

/** Longest text: a longer one is somebody's mistake. */
const MAX_TEXT = 10_000;
/** Nesting beyond this is somebody's mistake, and would be our stack's. */
const MAX_DEPTH = 200;

const SPACE = /\s*/y;
const NUMBER = /(0[xX][0-9a-fA-F_]+|0[bB][01_]+|\d[\d_]*)([A-Za-z_]\w*)?/y;
const REGISTER = /\$([A-Za-z_]\w*)/y;
/** `file.c::name`, `'path/file.c'::name`, `module::name`. */
const SCOPED = /(?:'([^']+)'|([A-Za-z_][\w./-]*))\s*::\s*([A-Za-z_]\w*)/y;
/** Compiler clones have numbers in their names: `foo.constprop.0`. */
const CLONE = /\d\w*/y;
const NAME = /[A-Za-z_]\w*/y;
const STRING = /"((?:[^"\\]|\\.)*)"/y;
const CHARACTER = /'((?:[^'\\]|\\(?:x[0-9a-fA-F]+|[0-7]{1,3}|.)))'/y;
const OPERATOR = /<<=|>>=|\.\.\.|<<|>>|<=|>=|==|!=|&&|\|\||->|\+\+|--|[-+*/%&|^]=|[-+*/%&|^~!<>?:()[\].,=@{}]/y;

interface Token {
  at: number;
  end: number;
  kind: 'number' | 'register' | 'name' | 'string' | 'character' | 'op';
  text: string;
  scope?: string;
  value?: bigint;
  unsigned?: boolean;
  long?: 0 | 1 | 2;
  decimal?: boolean;
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', a: '\x07', b: '\b', f: '\f', v: '\v', e: '\x1b' };
/** Escapes of C strings (C11 6.4.4.4). */
const unescaped = (text: string): string =>
  text.replace(/\\(?:x([0-9a-fA-F]+)|([0-7]{1,3})|(.))/g, (_, hex?: string, octal?: string, c?: string) =>
    hex !== undefined
      ? String.fromCharCode(Number.parseInt(hex, 16) & 0xff)
      : octal !== undefined
        ? String.fromCharCode(Number.parseInt(octal, 8) & 0xff)
        : (ESCAPES[c ?? ''] ?? c ?? ''),
  );

function numberToken(digits: string, suffix: string | undefined, at: number, end: number): Token {
  const plainDigits = digits.replaceAll('_', '');
  const octal = /^0\d/.test(plainDigits);
  if (octal && !/^[0-7]+$/.test(plainDigits)) throw new ExpressionError(`${digits} is not an octal number`, at);
  if (/^0[xXbB]$/.test(plainDigits)) throw new ExpressionError(`${digits} has no digits`, at);
  if (suffix !== undefined && !/^([uU](l|L|ll|LL)?|(l|L|ll|LL)[uU]?)$/.test(suffix))
    throw new ExpressionError(`"${short(digits + suffix)}" is not a number`, at);
  const longs = suffix?.replace(/[uU]/, '').length ?? 0;
  return {
    at,
    end,
    kind: 'number',
    text: digits,
    value: BigInt(octal ? `0o${plainDigits}` : plainDigits),
    unsigned: /[uU]/.test(suffix ?? ''),
    long: longs === 0 ? 0 : longs === 1 ? 1 : 2,
    decimal: !/^0/.test(plainDigits),
  };
}

function tokens(text: string): Token[] {
  if (text.length > MAX_TEXT) throw new ExpressionError(`an expression of more than ${MAX_TEXT} characters`);
  const out: Token[] = [];
  let at = 0;
  const match = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    return pattern.exec(text);
  };
  for (;;) {
    at += match(SPACE)?.[0].length ?? 0;
    if (at >= text.length) return out;
    const last = out[out.length - 1];
    const afterDot = last?.kind === 'op' && (last.text === '.' || last.text === '->');
    // `foo.constprop.0`: compiler clones have numbers in their names.
    const clone = afterDot ? match(CLONE) : null;
    const number = clone ? null : match(NUMBER);
    if (number) {
      const end = at + number[0].length;
      out.push(numberToken(number[1], number[2], at, end));
      at = end;
      continue;
    }
    const token = clone ? ({ kind: 'name', text: clone[0], length: clone[0].length } as const) : other(match);
    if (!token) throw new ExpressionError(`cannot understand "${short(text.slice(at).trim())}"`, at);
    const { length, ...rest } = token;
    out.push({ at, end: at + length, ...rest });
    at += length;
  }
}

/** A token that is not a number. */
function other(match: (pattern: RegExp) => RegExpExecArray | null): (Omit<Token, 'at' | 'end'> & { length: number }) | undefined {
  const register = match(REGISTER);
  if (register) return { kind: 'register', text: register[1], length: register[0].length };
  const scoped = match(SCOPED);
  if (scoped) return { kind: 'name', text: scoped[3], scope: scoped[1] ?? scoped[2], length: scoped[0].length };
  const name = match(NAME);
  if (name) return { kind: 'name', text: name[0], length: name[0].length };
  const string = match(STRING);
  if (string) return { kind: 'string', text: unescaped(string[1]), length: string[0].length };
  const character = match(CHARACTER);
  if (character) return { kind: 'character', text: unescaped(character[1]), length: character[0].length };
  const op = match(OPERATOR);
  return op ? { kind: 'op', text: op[0], length: op[0].length } : undefined;
}

export interface ParseOptions {
  /** Names that types have, besides C's own and the kernel's u8 to s64. */
  isType?(name: string): boolean;
  /** `=`, `+=`, `++` and so on are allowed. */
  assign?: boolean;
}

const MEMORY_WORDS: ReadonlySet<string> = new Set([
  'const',
  'volatile',
  'restrict',
  '__restrict',
  '_Atomic',
  '__user',
  '__iomem',
  '__percpu',
  '__rcu',
]);
const TAGS: ReadonlySet<string> = new Set(['struct', 'union', 'enum']);
const SIZEOF: ReadonlySet<string> = new Set(['sizeof', '_Alignof', '__alignof__', 'alignof']);
const TYPEOF: ReadonlySet<string> = new Set(['typeof', '__typeof__', '__typeof']);

/** The tree of an expression. Throws ExpressionError. */
export function parse(text: string, options: ParseOptions = {}): Node {
  try {
    return parseTokens(text, options);
  } catch (e) {
    throw e instanceof ExpressionError ? new ExpressionError(e.fact, (e.column ?? 1) - 1, text) : e;
  }
}

function parseTokens(text: string, options: ParseOptions): Node {
  const list = tokens(text);
  const end = text.trimEnd().length;
  let i = 0;
  let depth = 0;
  const fail = (what: string, at = list[i]?.at ?? end): never => {
    throw new ExpressionError(what, at);
  };
  const op = (text: string): boolean => list[i]?.kind === 'op' && list[i].text === text;
  const take = (text: string): boolean => {
    if (!op(text)) return false;
    i++;
    return true;
  };
  const expect = (wanted: string): void => {
    if (!take(wanted))
      fail(
        i < list.length ? `"${wanted}" expected at "${short(text.slice(list[i].at).trim())}"` : `"${wanted}" expected at the end`,
      );
  };
  const word = (): string | undefined => (list[i]?.kind === 'name' && list[i].scope === undefined ? list[i].text : undefined);
  const nested = <T>(inner: () => T): T => {
    if (++depth > MAX_DEPTH) fail('too deeply nested');
    try {
      return inner();
    } finally {
      depth--;
    }
  };
  const isTypedef = (name: string): boolean =>
    BASE_TYPES.has(name) || name === 'void' || WELL_KNOWN_TYPEDEFS.has(name) || (options.isType?.(name) ?? false);

  /** Does a type start here? A name that only might be one counts when `guess` is set. */
  const typeStarts = (guess: boolean): boolean => {
    const name = word();
    if (name === undefined) return false;
    if (TAGS.has(name) || MEMORY_WORDS.has(name) || isTypeWord(name) || TYPEOF.has(name) || isTypedef(name)) return true;
    // Nobody here knows the name, but `(name *)` and `(name) value` make sense as casts only.
    if (!guess) return false;
    let j = i + 1;
    const at = (k: number) => (list[k]?.kind === 'op' ? list[k].text : undefined);
    while (at(j) === '*') j++;
    if (at(j) !== ')') return false;
    if (j > i + 1) return true;
    const next = list[j + 1];
    if (next === undefined) return false;
    return next.kind !== 'op' || (next.text === '(' && /_t$/.test(name)) || next.text === '~' || next.text === '!';
  };

  const qualifiers = (inner: TypeNode): TypeNode => {
    for (let w = word(); w !== undefined && MEMORY_WORDS.has(w); w = word()) {
      if (w === 'const' || w === 'volatile') inner = { kind: w, of: inner, at: list[i].at };
      i++;
    }
    return inner;
  };

  /** What comes before the declarator: `const struct page`, `unsigned long`. */
  const specifiers = (): TypeNode => {
    const start = list[i]?.at ?? end;
    const wraps: ('const' | 'volatile')[] = [];
    for (let w = word(); w !== undefined && MEMORY_WORDS.has(w); w = word()) {
      if (w === 'const' || w === 'volatile') wraps.push(w);
      i++;
    }
    let node: TypeNode;
    const name = word();
    if (name === undefined) return fail('a type expected');
    if (TAGS.has(name)) {
      i++;
      const tagged = word();
      if (tagged === undefined) return fail(`the name of a ${name} expected`);
      node = { kind: 'named', tag: name as 'struct', name: tagged, at: list[i++].at };
    } else if (TYPEOF.has(name)) {
      i++;
      expect('(');
      const type = typeStarts(false) ? typeName() : undefined;
      node = type ?? { kind: 'typeof', of: expression(), at: start };
      expect(')');
    } else if (isTypeWord(name)) {
      const words: string[] = [];
      const at = list[i].at;
      for (let w = word(); w !== undefined && (isTypeWord(w) || MEMORY_WORDS.has(w)); w = word()) {
        if (isTypeWord(w)) words.push(w);
        i++;
      }
      node = { kind: 'base', words, at };
    } else {
      node = { kind: 'named', tag: 'typedef', name, at: list[i].at };
      i++;
    }
    node = qualifiers(node);
    for (const kind of wraps) node = { kind, of: node, at: start };
    return node;
  };

  /** An abstract declarator (C11 6.7.7) around `base`: stars, `(*)`, `[n]`, `(parameters)`. */
  const declarator = (base: TypeNode): TypeNode =>
    nested(() => {
      let type = base;
      while (op('*')) {
        const { at } = list[i++];
        type = qualifiers({ kind: 'pointer', of: type, at });
      }
      // `(*)`, `(*[3])`: what is inside applies to what comes after.
      if (op('(') && list[i + 1]?.kind === 'op' && (list[i + 1].text === '*' || list[i + 1].text === '(')) {
        const start = i + 1;
        i = skipParentheses(i);
        const outer = suffixes(type);
        const after = i;
        i = start;
        const inner = declarator(outer);
        expect(')');
        i = after;
        return inner;
      }
      return suffixes(type);
    });
  const skipParentheses = (from: number): number => {
    let open = 0;
    for (let j = from; j < list.length; j++) {
      if (list[j].kind !== 'op') continue;
      if (list[j].text === '(') open++;
      else if (list[j].text === ')' && --open === 0) return j + 1;
    }
    return fail('")" expected at the end', end);
  };
  const suffixes = (type: TypeNode): TypeNode =>
    nested(() => {
      if (op('[')) {
        const { at } = list[i++];
        const count = op(']') ? undefined : expression();
        expect(']');
        return { kind: 'array', of: suffixes(type), count, at };
      }
      if (op('(')) {
        const { at } = list[i++];
        const parameters: TypeNode[] = [];
        let variadic = false;
        while (!op(')')) {
          if (take('...')) variadic = true;
          else {
            if (!typeStarts(true) && word() === undefined) fail('a type expected');
            const start = i;
            const parameter = typeName();
            if (i === start) fail('a type expected');
            parameters.push(parameter);
            // A parameter may have a name.
            if (word() !== undefined) i++;
          }
          if (!take(',')) break;
        }
        expect(')');
        const none = parameters.length === 1 && parameters[0].kind === 'named' && parameters[0].name === 'void';
        return { kind: 'function', of: suffixes(type), parameters: none ? [] : parameters, variadic, at };
      }
      return type;
    });
  const typeName = (): TypeNode => declarator(specifiers());

  /** A designator such as `tasks`, `a.b[2]`, for offsetof and container_of: a tree over the name of its first member. */
  const designator = (): Node => {
    const name = word();
    if (name === undefined) return fail('the name of a member expected');
    let node: Node = { kind: 'name', name, at: list[i++].at };
    for (;;) {
      if (op('.')) {
        const { at } = list[i++];
        const member = word();
        if (member === undefined) return fail('the name of a member expected');
        i++;
        node = { kind: 'member', of: node, name: member, arrow: false, at };
      } else if (op('[')) {
        const { at } = list[i++];
        node = { kind: 'index', of: node, index: expression(), at };
        expect(']');
      } else return node;
    }
  };

  /** `$container_of(`, `offsetof(`, `$per_cpu(` and what they are called in the kernel and in its gdb scripts. */
  const call = (name: string, at: number): Node | undefined => {
    const percpu = (): Node => {
      const of: Node = list[i]?.kind === 'string' ? { kind: 'name', name: list[i].text, at: list[i++].at } : assignment();
      const cpu = take(',') ? assignment() : undefined;
      expect(')');
      return { kind: 'percpu', of, cpu, at };
    };
    switch (name) {
      case 'per_cpu':
      case 'lx_per_cpu':
        i++;
        return percpu();
      case 'container_of':
      case 'list_entry': {
        i++;
        const of = assignment();
        expect(',');
        const type = typeName();
        expect(',');
        const path = designator();
        expect(')');
        return { kind: 'container', of, type, path, at };
      }
      case 'offsetof': {
        i++;
        const type = typeName();
        expect(',');
        const path = designator();
        expect(')');
        return { kind: 'offset', type, path, at };
      }
      case 'lx_current':
        i++;
        expect(')');
        return { kind: 'current', at };
      default:
        return undefined;
    }
  };

  const primary = (): Node => {
    const token = list[i];
    if (!token) return fail('something is missing at the end');
    i++;
    const { at } = token;
    switch (token.kind) {
      case 'number':
        return {
          kind: 'number',
          value: token.value ?? 0n,
          unsigned: token.unsigned ?? false,
          long: token.long ?? 0,
          decimal: token.decimal ?? true,
          at,
        };
      case 'character':
        return { kind: 'character', value: BigInt(token.text.charCodeAt(0)), at };
      case 'string':
        return { kind: 'string', value: token.text, at };
      case 'register': {
        const called = op('(') ? call(token.text, at) : undefined;
        if (called) return called;
        if (op('(')) fail(`there is no function $${token.text}`, at);
        return token.text === 'current' ? { kind: 'current', at } : { kind: 'register', name: token.text, at };
      }
      case 'name': {
        const called = op('(') && token.scope === undefined ? call(token.text, at) : undefined;
        if (called) return called;
        if (op('(')) fail('functions of the guest cannot be called', at);
        return { kind: 'name', name: token.text, ...(token.scope === undefined ? {} : { scope: token.scope }), at };
      }
      default:
        if (token.text === '(') {
          const inner = expression();
          expect(')');
          return inner;
        }
        return fail(`a value expected at "${short(text.slice(at).trim())}"`, at);
    }
  };

  const postfix = (): Node => {
    let node = primary();
    for (;;) {
      const token = list[i];
      if (token?.kind !== 'op') return node;
      const { at } = token;
      if (token.text === '[') {
        i++;
        const index = expression();
        expect(']');
        node = { kind: 'index', of: node, index, at };
      } else if (token.text === '.' || token.text === '->') {
        i++;
        const name = word();
        if (name === undefined) return fail(`the name of a member expected after "${token.text}"`);
        i++;
        node = { kind: 'member', of: node, name, arrow: token.text === '->', at };
      } else if (token.text === '++' || token.text === '--') {
        i++;
        node = step(node, token.text, true, at);
      } else return node;
    }
  };
  const noAssignments = (at: number): void => {
    if (!options.assign) fail('an expression here cannot change anything: assign in the Debug Console', at);
  };
  const step = (left: Node, operator: string, after: boolean, at: number): Node => {
    noAssignments(at);
    const right: Node = { kind: 'number', value: 1n, unsigned: false, long: 0, decimal: true, at };
    return { kind: 'assign', op: operator === '++' ? '+' : '-', left, right, after, at };
  };

  const unary = (): Node =>
    nested(() => {
      const token = list[i];
      if (token?.kind === 'op') {
        if (['-', '+', '~', '!', '*', '&'].includes(token.text)) {
          i++;
          return { kind: 'unary', op: token.text, of: unary(), at: token.at };
        }
        // gdb's `{type} address`: what is there, as that type.
        if (token.text === '{') {
          i++;
          const type: TypeNode = { kind: 'pointer', of: typeName(), at: token.at };
          expect('}');
          const of: Node = { kind: 'cast', type, of: unary(), at: token.at };
          return { kind: 'unary', op: '*', of, at: token.at };
        }
        if (token.text === '++' || token.text === '--') {
          i++;
          return step(unary(), token.text, false, token.at);
        }
        if (token.text === '(') {
          const start = i++;
          if (typeStarts(true)) {
            const type = typeName();
            expect(')');
            return { kind: 'cast', type, of: unary(), at: token.at };
          }
          i = start;
        }
      }
      const name = word();
      if (name !== undefined && SIZEOF.has(name)) {
        const at = list[i++].at;
        const alignment = name !== 'sizeof';
        if (op('(')) {
          const start = i++;
          if (typeStarts(false)) {
            const type = typeName();
            expect(')');
            return { kind: 'sizeof', type, alignment, at };
          }
          i = start;
        }
        return { kind: 'sizeof', of: unary(), alignment, at };
      }
      return postfix();
    });

  const binary = (least: number): Node => {
    let left = unary();
    for (;;) {
      const token = list[i];
      const level = token?.kind === 'op' ? PRECEDENCE[token.text] : undefined;
      if (level === undefined || level < least) return left;
      i++;
      left = { kind: 'binary', op: token.text, left, right: binary(level + 1), at: token.at };
    }
  };

  const assignment = (): Node =>
    nested(() => {
      const left = binary(1);
      const token = list[i];
      if (token?.kind === 'op' && ASSIGNMENTS.has(token.text)) {
        noAssignments(token.at);
        i++;
        return { kind: 'assign', op: token.text.slice(0, -1), left, right: assignment(), after: false, at: token.at };
      }
      if (token?.kind === 'op' && token.text === '?') {
        i++;
        const yes = expression();
        expect(':');
        return { kind: 'choice', test: left, yes, no: assignment(), at: token.at };
      }
      return left;
    });
  const expression = (): Node => {
    let node = assignment();
    while (op(',')) {
      const { at } = list[i++];
      node = { kind: 'sequence', first: node, second: assignment(), at };
    }
    return node;
  };

  if (list.length === 0) fail('empty expression', 0);
  const node = expression();
  if (i < list.length) fail(`cannot understand "${short(text.slice(list[i].at).trim())}"`);
  return node;
}

/** A type alone, as in `struct list_head *`. Throws ExpressionError. */
export function parseType(text: string, options: ParseOptions = {}): TypeNode {
  const sized = parse(`sizeof(${text})`, { isType: () => true, ...options });
  if (sized.kind !== 'sizeof' || !sized.type) throw new ExpressionError(`"${short(text)}" is not a type`, 0);
  return sized.type;
}
