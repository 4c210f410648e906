/** Completion of expressions: members after `.` and `->`, names of structs after `struct`, of a file or module after `::`. */
import { memberNames, plain, findMember, typeName, type CompoundType } from '../types/model.ts';
import { ValueError } from '../types/value.ts';
import { type Context, locate } from './evaluate.ts';
import { ExpressionError, parse } from './parse.ts';

export interface Completion {
  readonly name: string;
  readonly kind: 'field' | 'class' | 'enum' | 'variable';
  /** Its type. */
  readonly detail?: string;
}
export interface Completions {
  /** What of the text the names replace. */
  readonly prefix: string;
  readonly items: readonly Completion[];
  /** Any other name may stand there, too. */
  readonly more?: true;
}

/** More than any struct of the kernel has members. */
const MAX_ITEMS = 1000;
const CLOSING: Readonly<Record<string, string>> = { ')': '(', ']': '[' };

/** Where the postfix expression starts that ends at `end`: `a->b[1]` of `1 + a->b[1]`. */
function startOfPostfix(text: string, end: number): number {
  let at = end;
  const skipSpace = (): void => {
    while (at > 0 && /\s/.test(text[at - 1])) at--;
  };
  for (;;) {
    skipSpace();
    // Brackets after a value belong to it.
    while (at > 0 && text[at - 1] in CLOSING) {
      const closing = text[at - 1];
      let depth = 0;
      let i = at - 1;
      for (; i >= 0; i--) {
        if (text[i] === closing) depth++;
        else if (text[i] === CLOSING[closing] && --depth === 0) break;
      }
      if (i < 0) return at;
      at = i;
      skipSpace();
      if (closing === ')') break;
    }
    while (at > 0 && /[\w$]/.test(text[at - 1])) at--;
    skipSpace();
    if (text.startsWith('->', at - 2) || text.startsWith('::', at - 2)) at -= 2;
    else if (text[at - 1] === '.') at--;
    else return at;
  }
}

/** Names that fit at the end of `before`; undefined where any name may stand. */
export function completeExpression(before: string, context: Context): Completions | undefined {
  const tag = /\b(struct|union|enum)\s+(\w*)$/.exec(before);
  if (tag) {
    const names = tag[2] === '' ? [] : (context.types?.complete(tag[1] as 'struct', tag[2], MAX_ITEMS) ?? []);
    return { prefix: tag[2], items: names.map((name) => ({ name, kind: tag[1] === 'enum' ? 'enum' : 'class' })) };
  }
  const scoped = /(?:'([^']+)'|([\w./-]+))::(\w*)$/.exec(before);
  if (scoped) {
    const names = context.types?.completeIn(scoped[1] ?? scoped[2], scoped[3], MAX_ITEMS) ?? [];
    return { prefix: scoped[3], items: names.map((name) => ({ name, kind: 'variable' })) };
  }
  const cast = /\(\s*(?:(?:const|volatile)\s+)?([A-Za-z_]\w+)$/.exec(before);
  const types = cast ? (context.types?.complete('typedef', cast[1], MAX_ITEMS) ?? []) : [];
  // What is in parentheses may be a type as well as a value: others add those.
  if (cast && types.length && !/[\w\])]\s*\(\s*\w*$/.test(before))
    return { prefix: cast[1], items: types.map((name) => ({ name, kind: 'class' })), more: true };
  const access = /(->|\.)\s*(\w*)$/.exec(before);
  if (!access) return undefined;
  const start = startOfPostfix(before, access.index);
  const text = before.slice(start, access.index).trim();
  const type = text === '' ? undefined : structOf(text, context);
  if (!type) return undefined;
  const prefix = access[2].toLowerCase();
  const items = memberNames(type)
    .filter((name) => name.toLowerCase().startsWith(prefix))
    .slice(0, MAX_ITEMS)
    .map((name): Completion => {
      const member = findMember(type, name);
      return { name, kind: 'field', ...(member ? { detail: typeName(member.type) } : {}) };
    });
  return { prefix: access[2], items };
}

/** The struct that an expression is or points to, undefined when it is none or cannot be found. */
function structOf(text: string, context: Context): CompoundType | undefined {
  try {
    const isType = (name: string) => context.types?.isTypeName(name) ?? false;
    let type = plain(locate(parse(text, { isType }), context).type);
    if (type.kind === 'pointer') type = plain(type.to);
    const t = context.types?.resolve(type, context.module) ?? type;
    return t.kind === 'struct' || t.kind === 'union' ? t : undefined;
  } catch (e) {
    // Half an expression is the usual case here.
    if (e instanceof ExpressionError || e instanceof ValueError) return undefined;
    throw e;
  }
}
