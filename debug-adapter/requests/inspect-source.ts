/** The machine's inspect tree as DAP variables: every part with its fields, decoded, and set where they can be. */
import type { DebugProtocol } from '@vscode/debugprotocol';
import { hex } from '../../emulator/base/bits.ts';
import { type Item, itemAt, itemsIn, nodeAt, pathOf, pathText } from '../../emulator/base/inspect.ts';
import type { Machine } from '../../emulator/index.ts';
import { HV } from '../context.ts';
import { valueText } from '../describe.ts';
import { evaluateText, type Target } from '../expression/evaluate.ts';
import type { Session, VariablePage, VariableSource } from '../session.ts';
import { UserError } from '../user-error.ts';
import { tellChange } from './value-source.ts';

/** Elements that are sent to a client that did not ask for a page. */
const UNPAGED = 1000;

/** An item in one line: its value, and what that means. */
export function itemText({ value, words, hex: inHex }: Item, allHex = false): string {
  const said = words.join(', ');
  if (value === undefined) return said;
  const number = typeof value === 'number' || typeof value === 'bigint';
  const text =
    number && (inHex || allHex)
      ? hex(BigInt(typeof value === 'number' ? Math.trunc(value) : value))
      : typeof value === 'bigint'
        ? String(value)
        : valueText(value);
  return said === '' ? text : `${text} ${said}`;
}

/** Sets what is at `path` from what a person wrote: the name of a value, or an expression. Throws UserError; the new text. */
export function setItem(session: Session, path: readonly string[], text: string, context: Target, inHex = false): string {
  const { machine } = session.debuggee;
  const item = itemAt(machine.tree(), path);
  const named = typeof item !== 'string' && item.choices?.includes(text.trim());
  const refused = machine.edit(path, named ? text.trim() : evaluateText(text, context).value);
  if (refused !== undefined) throw new UserError(refused);
  tellChange(session, undefined);
  const now = itemAt(machine.tree(), path);
  return typeof now === 'string' ? '' : itemText(now, inHex);
}

/** A branch of the tree, looked up again whenever it is asked for. */
export class InspectSource implements VariableSource {
  readonly paged = true;
  readonly #session: Session;
  readonly #path: readonly string[];
  readonly #context: Target;

  /** `context`: what the expressions mean that fields are set to. */
  constructor(session: Session, context: Target, path: readonly string[] = []) {
    this.#session = session;
    this.#context = context;
    this.#path = path;
  }

  list(page: VariablePage = {}): DebugProtocol.Variable[] {
    const found = nodeAt(this.#session.debuggee.machine.tree(), this.#path);
    if (typeof found === 'string') throw new UserError(found);
    const start = page.start ?? 0;
    const items = itemsIn(found.node, page.filter === 'named' ? 0 : start, page.count || UNPAGED);
    const indexed = items.every((item) => item.name.startsWith('['));
    // A branch has names or elements, never both.
    if (page.filter && (page.filter === 'indexed') !== indexed) return [];
    return items.map((item) => this.#variable(item, page.hex));
  }

  #variable(item: Item, inHex?: boolean): DebugProtocol.Variable {
    const path = [...this.#path, item.name];
    const name = pathText(path);
    return {
      name: item.name,
      value: itemText(item, inHex),
      ...(pathOf(name) ? { evaluateName: `${HV}${name}` } : {}),
      variablesReference: item.opens ? this.#session.reference(new InspectSource(this.#session, this.#context, path)) : 0,
      ...(item.count ? { indexedVariables: item.count } : {}),
      ...(item.editable ? {} : { presentationHint: { attributes: ['readOnly'] } }),
    };
  }

  set(name: string, text: string, inHex = false): string {
    return setItem(this.#session, [...this.#path, name], text, this.#context, inHex);
  }
}

/** A branch as lines of text, at most `most` of them. */
export function inspectText(machine: Machine, text: string, most = 200): string {
  const path = pathOf(text.startsWith(HV) ? text.slice(HV.length) : text);
  if (!path) throw new UserError(`"${text}" is no path; one is vmbus.channels[4].targetVp`);
  const found = nodeAt(machine.tree(), path);
  if (typeof found === 'string') throw new UserError(found);
  const own = itemAt(machine.tree(), path);
  const items = itemsIn(found.node, 0, most);
  if (items.length === 0) return typeof own === 'string' ? own : itemText(own);
  const width = Math.max(...items.map((i) => i.name.length));
  const more = typeof own !== 'string' && (own.count ?? 0) > most ? [`... ${(own.count ?? 0) - most} more`] : [];
  const line = (item: Item): string =>
    `${item.name.padEnd(width)}  ${itemText(item)}${item.editable ? '' : item.opens ? ' ...' : ''}`;
  return [...items.map((item) => line(item).trimEnd()), ...more].join('\n');
}

/** Names that can follow `before`, which ends with a part of a path behind `hv.`. */
export function completePath(machine: Machine, before: string): { prefix: string; names: string[] } {
  const cut = Math.max(before.lastIndexOf('.'), before.lastIndexOf('[') - 1) + 1;
  const prefix = before.slice(cut);
  const parent = before.slice(0, cut).replace(/\.$/, '');
  const path = pathOf(parent);
  const found = path && nodeAt(machine.tree(), path);
  if (!found || typeof found === 'string') return { prefix, names: [] };
  const names = itemsIn(found.node, 0, 100).map((i) => i.name);
  return { prefix, names: names.filter((name) => name.toLowerCase().startsWith(prefix.toLowerCase())) };
}
