/**
 * How a hypercall is declared: name, layouts, and a handler that sees typed values. Code and privilege come from the TLFS
 * table; everything about registers, memory, alignment and reps is the router's (reference hyperv-arm64.md §2).
 */
import type { FieldType } from '../../base/struct.ts';
import type { FeatureName } from '../features.ts';
import type { Partition } from '../partition.ts';
import { CALLS, type CallName, STATUS } from '../tlfs.ts';

export type Fields = Record<string, unknown>;

/** Who calls. */
export interface Caller {
  readonly partition: Partition;
  readonly vp: number;
}

/** A declaration with its types erased: what the router works with. */
export interface Hypercall {
  readonly name: CallName;
  readonly code: number;
  readonly privilege?: FeatureName;
  readonly rep: boolean;
  /** Accepts a variable header after the fixed one. */
  readonly variable: boolean;
  /** Bytes of the fixed header, of one input element and of one output (element). */
  readonly inputSize: number;
  readonly elementSize: number;
  readonly outputSize: number;
  /** The input block by field names. `elementsAt`: where the rep list begins. */
  input(partition: Partition, block: DataView, elementsAt: number, repCount: number): Fields;
  /** The output by field names: elements [first, end) of a rep call, the whole of a simple one. */
  output(block: DataView, first: number, end: number): Fields;
  /** Performs the call, or element `index` of it; writes its output at its place in `out`; the status. */
  run(caller: Caller, block: DataView, elementsAt: number, index: number, out: DataView): number;
}

/** A status, or the output, which means success. */
type Answer<O> = number | { output: O };

interface Declaration<I> {
  input?: FieldType<I>;
  /** The variable header holds qwords of this name. */
  variable?: string;
  /** Replaces the decoded input fields where a reader wants more than the layout's numbers. */
  show?: (input: I, partition: Partition) => Fields;
}
interface SimpleDeclaration<I, O> extends Declaration<I> {
  output?: FieldType<O>;
  run: (caller: Caller, input: I, variable: bigint[]) => Answer<O>;
}
interface RepDeclaration<I, E, O> extends Declaration<I> {
  element: FieldType<E>;
  /** Names of the two lists. */
  elements: string;
  output?: FieldType<O>;
  outputs?: string;
  showElement?: (element: E) => unknown;
  run: (caller: Caller, input: I, element: E, variable: bigint[]) => Answer<O>;
}

/** Fields without the padding. */
const visible = (value: unknown): Fields =>
  typeof value === 'object' && value !== null
    ? Object.fromEntries(Object.entries(value).filter(([name]) => !/^(Padding|RsvdZ|Reserved)/.test(name)))
    : {};

const nothing: FieldType<Fields> = { size: 0, get: () => ({}), set: () => {}, zero: () => ({}) };

const qwords = (block: DataView, from: number, to: number): bigint[] => {
  const out: bigint[] = [];
  for (let at = from; at + 8 <= to; at += 8) out.push(block.getBigUint64(at, true));
  return out;
};

const header = (name: CallName): Pick<Hypercall, 'name' | 'code' | 'privilege'> => ({ name, ...CALLS[name] });

function answered<O>(answer: Answer<O>, layout: FieldType<O> | undefined, out: DataView, at: number): number {
  if (typeof answer === 'number') return answer;
  layout?.set(out, at, answer.output);
  return STATUS.SUCCESS;
}

/** Declares a call without a rep list. */
export function simple<I = Fields, O = never>(name: CallName, d: SimpleDeclaration<I, O>): Hypercall {
  const layout = d.input ?? (nothing as unknown as FieldType<I>);
  return {
    ...header(name),
    rep: false,
    variable: d.variable !== undefined,
    inputSize: layout.size,
    elementSize: 0,
    outputSize: d.output?.size ?? 0,
    input(partition, block, elementsAt) {
      const input = layout.get(block, 0);
      const fields = d.show ? d.show(input, partition) : visible(input);
      return d.variable === undefined ? fields : { ...fields, [d.variable]: qwords(block, layout.size, elementsAt) };
    },
    output: (block) => (d.output ? visible(d.output.get(block, 0)) : {}),
    run: (caller, block, elementsAt, _index, out) =>
      answered(d.run(caller, layout.get(block, 0), qwords(block, layout.size, elementsAt)), d.output, out, 0),
  };
}

/** Declares a call with a rep list. */
export function rep<I, E, O = never>(name: CallName, d: RepDeclaration<I, E, O>): Hypercall {
  const layout = d.input ?? (nothing as unknown as FieldType<I>);
  const { element, output } = d;
  return {
    ...header(name),
    rep: true,
    variable: d.variable !== undefined,
    inputSize: layout.size,
    elementSize: element.size,
    outputSize: output?.size ?? 0,
    input(partition, block, elementsAt, repCount) {
      const input = layout.get(block, 0);
      const list = Array.from({ length: repCount }, (_, i) => element.get(block, elementsAt + i * element.size));
      return {
        ...(d.show ? d.show(input, partition) : visible(input)),
        ...(d.variable === undefined ? {} : { [d.variable]: qwords(block, layout.size, elementsAt) }),
        [d.elements]: list.map((e) => (d.showElement ? d.showElement(e) : e)),
      };
    },
    output(block, first, end) {
      if (!output || d.outputs === undefined) return {};
      const list: O[] = [];
      for (let i = first; i < end; i++) list.push(output.get(block, i * output.size));
      return { [d.outputs]: list };
    },
    run(caller, block, elementsAt, index, out) {
      const variable = qwords(block, layout.size, elementsAt);
      const e = element.get(block, elementsAt + index * element.size);
      return answered(d.run(caller, layout.get(block, 0), e, variable), output, out, index * (output?.size ?? 0));
    },
  };
}
