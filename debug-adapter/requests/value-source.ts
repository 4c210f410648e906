/** C values as DAP variables: what is inside them, page by page, and how they are set. */
import { Event } from '@vscode/debugadapter';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { hex } from '../../emulator/base/bits.ts';
import { viewFor } from '../context.ts';
import { evaluateText, storeValue, type Target } from '../expression/evaluate.ts';
import type { Session, VariablePage, VariableSource } from '../session.ts';
import { type Child, type Children, childrenOf } from '../types/children.ts';
import { resolved, textOf, type View } from '../types/format.ts';
import { typeName } from '../types/model.ts';
import { type Value, ValueError } from '../types/value.ts';
import { UserError } from '../user-error.ts';

/** Elements that are sent to a client that did not ask for a page. */
const UNPAGED = 1000;

const readOnly = { presentationHint: { attributes: ['readOnly'] } };

/** What both a variable and the result of an evaluation tell about a value. */
type Shown = Pick<
  DebugProtocol.Variable,
  | 'value'
  | 'type'
  | 'variablesReference'
  | 'namedVariables'
  | 'indexedVariables'
  | 'memoryReference'
  | 'declarationLocationReference'
  | 'valueLocationReference'
>;

const numberOr = (value: Value): bigint | undefined => {
  try {
    return value.value;
  } catch (e) {
    if (e instanceof ValueError) return undefined;
    throw e;
  }
};

/** Where *View Binary Data* looks: what a pointer points to, an object's own bytes. */
function memoryReference(value: Value, view: View): string | undefined {
  if (value.text !== undefined || value.data !== undefined) return undefined;
  const t = resolved(value.type, view);
  const address = t.kind === 'pointer' || t.kind === 'function' ? numberOr(value) : value.address;
  return address === undefined ? undefined : hex(BigInt.asUintN(64, address));
}

/** The code that a function or a pointer to one means. */
function codeAddress(value: Value, view: View): bigint | undefined {
  if (value.text !== undefined || value.data !== undefined) return undefined;
  const t = resolved(value.type, view);
  const code = t.kind === 'function' || (t.kind === 'pointer' && !t.untyped && resolved(t.to, view).kind === 'function');
  const address = code ? numberOr(value) : undefined;
  return address === undefined || address === 0n || !view.symbols.at(address) ? undefined : address;
}

/** A value as the client shows it; what is inside can be asked for while the guest stands. */
export function shownValue(
  session: Session,
  vp: number,
  value: Value,
  options: { expression?: string; context?: Target; hex?: boolean; text?: string } = {},
): Shown {
  const view = viewFor(session.debuggee.kernel, vp, options.hex);
  const stopped = !session.runner.running;
  const children = stopped ? childrenOf(value, view, options.expression) : undefined;
  const code = stopped ? codeAddress(value, view) : undefined;
  const memory = memoryReference(value, view);
  return {
    value: options.text ?? textOf(value, view),
    ...(session.client.supportsVariableType && value.text === undefined ? { type: typeName(value.type) } : {}),
    variablesReference: children ? session.reference(new ValueSource(session, vp, children, options.context)) : 0,
    ...(children?.count ? { indexedVariables: children.count, namedVariables: children.named.length } : {}),
    ...(memory === undefined ? {} : { memoryReference: memory }),
    ...(code === undefined ? {} : { valueLocationReference: session.locationReference(code) }),
  };
}

/** A value with a name as the client shows it. */
export function shownVariable(
  session: Session,
  vp: number,
  name: string,
  value: Value,
  options: Parameters<typeof shownValue>[3] = {},
): DebugProtocol.Variable {
  return {
    name,
    ...shownValue(session, vp, value, options),
    ...(options.expression === undefined ? {} : { evaluateName: options.expression }),
    ...(value.storage && options.context ? {} : readOnly),
  };
}

/** What is inside a value. */
export class ValueSource implements VariableSource {
  readonly paged = true;
  readonly #session: Session;
  readonly #vp: number;
  readonly #children: Children;
  readonly #context: Target | undefined;

  /** `context`: what expressions mean that children are set to; without one nothing can be set. */
  constructor(session: Session, vp: number, children: Children, context?: Target) {
    this.#session = session;
    this.#vp = vp;
    this.#children = children;
    this.#context = context;
  }

  list(page: VariablePage = {}): DebugProtocol.Variable[] {
    const { named, count } = this.#children;
    const options = { hex: page.hex, context: this.#context };
    const shown = (c: Child): DebugProtocol.Variable => {
      const { evaluateName, ...variable } = shownVariable(this.#session, this.#vp, c.name, c.value, {
        ...options,
        ...(c.expression === undefined ? {} : { expression: c.expression }),
        ...(c.text === undefined ? {} : { text: c.text }),
      });
      return c.nameless || evaluateName === undefined ? variable : { ...variable, evaluateName };
    };
    const out = page.filter === 'indexed' ? [] : named.map(shown);
    if (page.filter === 'named' || count === 0) return out;
    const start = page.start ?? 0;
    const wanted = page.count || (page.filter === 'indexed' ? count : UNPAGED);
    const end = Math.min(count, start + wanted);
    out.push(...this.#children.elements(start, end).map(shown));
    if (end < count && !page.count) out.push({ name: '[...]', value: `${count - end} more`, variablesReference: 0, ...readOnly });
    return out;
  }

  set(name: string, text: string, inHex = false): string {
    const child = this.#find(name);
    if (!child || !this.#context) throw new UserError(`${name} cannot be changed`);
    return setValue(this.#session, this.#vp, child.value, text, this.#context, inHex);
  }

  #find(name: string): Child | undefined {
    const index = /^\[(\d+)\]$/.exec(name);
    if (index && this.#children.count > 0) {
      const [child] = this.#children.elements(Number(index[1]), Number(index[1]) + 1);
      if (child?.name === name) return child;
    }
    return this.#children.named.find((c) => c.name === name);
  }
}

/** Puts an expression's value into `place`; the new value as it is shown. Tells the client what else may have changed. */
export function setValue(session: Session, vp: number, place: Value, text: string, context: Target, inHex = false): string {
  storeValue(place, evaluateText(text, context));
  tellChange(session, place);
  return textOf(place, viewFor(session.debuggee.kernel, vp, inHex));
}

/** Memory, or something that other variables may be made of, has been changed by the user. */
export function tellChange(session: Session, place: Value | undefined): void {
  const address = place?.address;
  const size = place?.storage && address !== undefined ? place.bytes().length : 0;
  session.after(() => {
    if (address !== undefined && session.client.supportsMemoryEvent)
      session.sendEvent(new Event('memory', { memoryReference: hex(address), offset: 0, count: size }));
    if (session.client.supportsInvalidatedEvent) session.sendEvent(new Event('invalidated', { areas: ['variables'] }));
  });
}
