/** C expressions over registers, symbols, memory and the fields of a hypercall: text to tree. */

/** What is wrong with an expression: words for the person who wrote it. */
export class ExpressionError extends Error {}

export interface Type {
  /** Bytes. */
  size: number;
  signed: boolean;
  /** What it points to. */
  to?: Type;
  /** An address without a type, as symbols are: shown as one, counted in bytes. */
  address?: boolean;
}

export type Node =
  | { kind: 'number'; value: bigint }
  | { kind: 'string'; value: string }
  | { kind: 'register'; name: string }
  /** A symbol, a hypercall's field or `hv.` register: dots belong to the name. */
  | { kind: 'name'; name: string }
  | { kind: 'unary'; op: string; of: Node }
  | { kind: 'binary'; op: string; left: Node; right: Node }
  | { kind: 'choice'; test: Node; then: Node; else: Node }
  | { kind: 'cast'; type: Type; of: Node }
  | { kind: 'index'; of: Node; at: Node };

/** As much of an expression as a message has room for. */
const short = (text: string): string => (text.length > 80 ? `${text.slice(0, 77)}...` : text);

/** Types by name: those of the kernel, and C's own for LP64. */
const TYPES: Record<string, Type> = {
  u8: { size: 1, signed: false },
  u16: { size: 2, signed: false },
  u32: { size: 4, signed: false },
  u64: { size: 8, signed: false },
  s8: { size: 1, signed: true },
  s16: { size: 2, signed: true },
  s32: { size: 4, signed: true },
  s64: { size: 8, signed: true },
  char: { size: 1, signed: false },
  short: { size: 2, signed: true },
  int: { size: 4, signed: true },
  long: { size: 8, signed: true },
  bool: { size: 1, signed: false },
  void: { size: 1, signed: false },
};

/** Binary operators by how tightly they bind (C11 6.5.5 to 6.5.14). */
const PRECEDENCE: Record<string, number> = {
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
  '+': 9,
  '-': 9,
  '*': 10,
  '/': 10,
  '%': 10,
};

const TOKEN =
  /\s*(?:(0[xX][0-9a-fA-F_]+|0[bB][01_]+|\d[\d_]*)([uUlL]*)|\$([A-Za-z_]\w*)|([A-Za-z_]\w*(?:\.\w+)*)|"([^"]*)"|'([^'])'|(<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>?:()[\]]))/y;

interface Token {
  at: number;
  number?: bigint;
  register?: string;
  name?: string;
  string?: string;
  op?: string;
}

function tokens(text: string): Token[] {
  const out: Token[] = [];
  TOKEN.lastIndex = 0;
  for (let at = 0; text.slice(at).trim() !== ''; ) {
    TOKEN.lastIndex = at;
    const m = TOKEN.exec(text);
    if (!m) throw new ExpressionError(`"${short(text)}": cannot understand "${short(text.slice(at).trim())}"`);
    if (m[1] !== undefined) out.push({ at, number: BigInt(m[1].replaceAll('_', '')) });
    else if (m[3] !== undefined) out.push({ at, register: m[3] });
    else if (m[4] !== undefined) out.push({ at, name: m[4] });
    else if (m[5] !== undefined) out.push({ at, string: m[5] });
    else if (m[6] !== undefined) out.push({ at, number: BigInt(m[6].charCodeAt(0)) });
    else out.push({ at, op: m[7] });
    at = TOKEN.lastIndex;
  }
  return out;
}

/** Nesting beyond this is somebody's mistake, and would be our stack's. */
const MAX_DEPTH = 200;

/** The tree of an expression. Throws ExpressionError. */
export function parse(text: string): Node {
  const list = tokens(text);
  let i = 0;
  let depth = 0;
  const fail = (what: string): never => {
    throw new ExpressionError(`"${short(text)}": ${what}`);
  };
  const peek = (op: string) => list[i]?.op === op;
  const take = (op: string): boolean => {
    if (!peek(op)) return false;
    i++;
    return true;
  };
  const expect = (op: string): void => {
    if (!take(op))
      fail(i < list.length ? `"${op}" expected at "${text.slice(list[i].at).trim()}"` : `"${op}" expected at the end`);
  };

  /** `u64`, `unsigned int`, `struct`-less pointer types; undefined (and nothing taken) when this is no type. */
  const type = (): Type | undefined => {
    const start = i;
    let found: Type | undefined;
    if (list[i]?.name === 'unsigned' || list[i]?.name === 'signed') {
      const signed = list[i++].name === 'signed';
      const base = TYPES[list[i]?.name ?? ''];
      if (base) i++;
      found = { size: (base ?? TYPES.int).size, signed };
    } else if (TYPES[list[i]?.name ?? '']) found = TYPES[list[i++].name as string];
    if (!found) {
      i = start;
      return undefined;
    }
    while (take('*')) found = { size: 8, signed: false, to: found };
    return found;
  };

  const primary = (): Node => {
    const token = list[i++];
    if (!token) return fail('something is missing at the end');
    if (token.number !== undefined) return { kind: 'number', value: token.number };
    if (token.string !== undefined) return { kind: 'string', value: token.string };
    if (token.register !== undefined) return { kind: 'register', name: token.register };
    if (token.name !== undefined) return { kind: 'name', name: token.name };
    if (token.op === '(') {
      const inner = expression();
      expect(')');
      return inner;
    }
    return fail(`a value expected at "${text.slice(token.at).trim()}"`);
  };
  const postfix = (): Node => {
    let node = primary();
    while (take('[')) {
      node = { kind: 'index', of: node, at: expression() };
      expect(']');
    }
    return node;
  };
  const unary = (): Node => {
    if (++depth > MAX_DEPTH) fail('too deeply nested');
    try {
      for (const op of ['-', '+', '~', '!', '*', '&']) if (take(op)) return { kind: 'unary', op, of: unary() };
      if (peek('(')) {
        const start = i++;
        const cast = type();
        if (cast && take(')')) return { kind: 'cast', type: cast, of: unary() };
        i = start;
      }
      return postfix();
    } finally {
      depth--;
    }
  };
  const binary = (least: number): Node => {
    let left = unary();
    for (;;) {
      const op = list[i]?.op;
      const level = op === undefined ? undefined : PRECEDENCE[op];
      if (op === undefined || level === undefined || level < least) return left;
      i++;
      left = { kind: 'binary', op, left, right: binary(level + 1) };
    }
  };
  const expression = (): Node => {
    if (++depth > MAX_DEPTH) fail('too deeply nested');
    const test = binary(1);
    let node = test;
    if (take('?')) {
      const then = expression();
      expect(':');
      node = { kind: 'choice', test, then, else: expression() };
    }
    depth--;
    return node;
  };

  if (list.length === 0) fail('empty expression');
  const node = expression();
  if (i < list.length) fail(`cannot understand "${text.slice(list[i].at).trim()}"`);
  return node;
}
