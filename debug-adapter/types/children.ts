/** What is inside a value: members, elements, what a pointer points to. Of a million elements only those asked for are made. */
import { elementAt, resolved, type View } from './format.ts';
import { arrayOf, type CompoundType, findMember, MAX_NESTING, sizeOf, type Type } from './model.ts';
import { elementsOf, lengthMember } from './printers.ts';
import { membersOf, Value, ValueError } from './value.ts';

export interface Child {
  readonly name: string;
  readonly value: Value;
  /** The expression that means it, where there is one. */
  readonly expression: string | undefined;
  /** What is shown instead of the value. */
  readonly text?: string;
  /** The expression is that of what the value is part of: C has no name for it, only for what is inside. */
  readonly nameless?: true;
}
export interface Children {
  readonly named: readonly Child[];
  /** Number of elements, 0 when it has none. */
  readonly count: number;
  /** Elements [start, end). */
  elements(start: number, end: number): Child[];
}

/** Elements of a flexible array that are shown when nobody knows how many it has. */
const UNKNOWN_LENGTH = 16;
const MAX_COUNT = 1 << 24;

/** An expression that `.`, `->` or `[` may follow. */
const postfix = (expression: string): string =>
  /^\$?\w[\w:]*(?:(?:->|\.)\w+|\[\d+\])*$/.test(expression) ? expression : `(${expression})`;
const unary = (expression: string): string =>
  /^[*&]*\$?\w[\w:]*(?:(?:->|\.)\w+|\[\d+\])*$/.test(expression) ? expression : `(${expression})`;

const none = (): Child[] => [];

/** Undefined for what has nothing inside. Reads no more than it must: whether a pointer is 0, how long a list is. */
export function childrenOf(value: Value, view: View, expression?: string): Children | undefined {
  if (value.text !== undefined || value.data !== undefined) return undefined;
  const t = resolved(value.type, view);
  switch (t.kind) {
    case 'array': {
      const size = sizeOf(t.element);
      const count = Math.min(t.count ?? UNKNOWN_LENGTH, MAX_COUNT);
      return {
        named: [],
        count,
        elements: (start, end) =>
          Array.from(
            { length: Math.max(0, Math.min(end, count) - start) },
            (_, i): Child => ({
              name: `[${start + i}]`,
              value: elementAt(value, t.element, start + i, size),
              expression: expression === undefined ? undefined : `${postfix(expression)}[${start + i}]`,
            }),
          ),
      };
    }
    case 'pointer': {
      if (t.untyped) return undefined;
      const to = resolved(t.to, view);
      if (to.kind === 'void' || to.kind === 'function') return undefined;
      const address = numberOr(value);
      if (address === undefined || address === 0n) return undefined;
      const target = Value.at(t.to, view.memory, address, value.from);
      if (to.kind === 'struct' || to.kind === 'union') {
        if (to.incomplete) return undefined;
        return structChildren(target, to, view, expression === undefined ? undefined : `${postfix(expression)}->`);
      }
      const child = { name: expression === undefined ? '*' : `*${unary(expression)}`, value: target };
      return { named: [{ ...child, expression: expression === undefined ? undefined : child.name }], count: 0, elements: none };
    }
    case 'struct':
    case 'union':
      if (t.incomplete) return undefined;
      return structChildren(value, t, view, expression === undefined ? undefined : `${postfix(expression)}.`);
    default:
      return undefined;
  }
}

const numberOr = (value: Value): bigint | undefined => {
  try {
    return value.value;
  } catch (e) {
    if (e instanceof ValueError) return undefined;
    throw e;
  }
};

function structChildren(value: Value, t: CompoundType, view: View, prefix: string | undefined): Children {
  const named = members(value, t, view, prefix);
  let elements: ReturnType<typeof elementsOf>;
  try {
    elements = elementsOf(value, view);
  } catch (e) {
    if (!(e instanceof ValueError)) throw e;
  }
  if (!elements) return { named, count: 0, elements: none };
  const { values, problem } = elements;
  // The links themselves are still there for who wants to see them.
  const links: Child = { name: '[links]', value: value.called(undefined), expression: undefined, text: '' };
  const last = problem === undefined ? [] : [{ ...links, name: '[...]', value: Value.of(VOID_RESULT, 0n), text: `<${problem}>` }];
  return {
    named: [links, ...last],
    count: values.length,
    elements: (start, end) => values.slice(start, end).map((v): Child => ({ ...v })),
  };
}

const VOID_RESULT: Type = { kind: 'void' };

/** Members; those of an anonymous struct as if they were the outer one's, those of an anonymous union under a node of their own. */
function members(value: Value, t: CompoundType, view: View, prefix: string | undefined, depth = 0): Child[] {
  return membersOf(value, t).flatMap((m): Child[] => {
    const type = resolved(m.type, view);
    const from = `${t.name ?? ''}.${m.name}`;
    const member = (of: Type): Value =>
      new Value({ type: of, storage: value.storage, offset: value.offset + m.offset, bits: m.bits, from });
    const inner = type.kind === 'struct' || type.kind === 'union' ? type : undefined;
    if (m.name === '') {
      if (!inner || depth > MAX_NESTING) return [];
      const nested = member(m.type).called(value.from);
      // In a union, a struct is one of the alternatives.
      if (inner.kind === 'struct' && t.kind === 'struct') return members(nested, inner, view, prefix, depth + 1);
      return [{ name: `(${inner.kind})`, value: nested, expression: prefix?.replace(/(\.|->)$/, ''), nameless: true }];
    }
    const counted = type.kind === 'array' && type.count === undefined ? lengthOf(value, t, from) : undefined;
    const of = counted !== undefined && type.kind === 'array' ? arrayOf(type.element, counted) : m.type;
    return [{ name: m.name, value: member(of), expression: prefix === undefined ? undefined : `${prefix}${m.name}` }];
  });
}

/** What the member that counts a flexible array's elements says. */
function lengthOf(value: Value, t: CompoundType, from: string): number | undefined {
  const name = lengthMember(from);
  const found = name === undefined ? undefined : findMember(t, name);
  if (!found) return undefined;
  const count = numberOr(
    new Value({ type: found.type, storage: value.storage, offset: value.offset + found.offset, bits: found.bits }),
  );
  return count === undefined || count < 0n || count > BigInt(MAX_COUNT) ? undefined : Number(count);
}
