/**
 * SP alignment checking (Arm ARM DDI 0487, D1.3.7.4 "SP alignment checking"), so that it costs nothing where SP is aligned, as it
 * nearly always is: generated code makes no checks, but does not go on after an instruction that leaves SP misaligned (`checksSp`)
 * unless what follows gives SP another value before it uses it (`replacesSp`: Linux borrows SP as a scratch register at every exception);
 * and while SP is misaligned cpu.ts looks at each instruction before it runs (`usesSpAsBase`).
 */
import type { Builder, Ir, Node } from './builder.ts';
import type { Insn, Raw } from './insn.ts';
import { VP } from './vp-state.ts';

const isSp = (n: Node, raw: Raw): boolean => n.sp === true && n.field !== undefined && raw[n.field] === 31;

/** True when the node's value is certainly a multiple of 16 if SP was. */
function isAligned(nodes: readonly Node[], id: number, raw: Raw): boolean {
  const n = nodes[id];
  switch (n.op) {
    case 'const':
      return (BigInt(n.value as number | bigint) & 15n) === 0n;
    case 'imm':
      return (BigInt((n.derive as (f: Raw) => number | bigint)(raw)) & 15n) === 0n;
    case 'readX':
      return isSp(n, raw);
    case 'i64.add':
    case 'i64.sub':
      return n.args.every((a) => isAligned(nodes, a, raw));
    case 'i64.and':
      return n.args.some((a) => isAligned(nodes, a, raw));
    default:
      return false;
  }
}

/** True for instructions of which some write SP. */
export const writesSp = (ir: Ir): boolean => ir.nodes.some((n) => n.op === 'writeX' && n.sp === true);

/** True for an instruction that may make SP misaligned. */
export const mayMisalignSp = (ir: Ir, raw: Raw): boolean =>
  ir.nodes.some((n) => n.op === 'writeX' && isSp(n, raw) && !isAligned(ir.nodes, n.args[0], raw));

/** True for a load or store with SP as its base (CheckSPAlignment). Prefetches are none: they do nothing. */
export const usesSpAsBase = (ir: Ir, raw: Raw): boolean =>
  ir.nodes.some((n) => n.op === 'mem') && ir.nodes.some((n) => n.op === 'readX' && isSp(n, raw));

/** An instruction at a place of code; undefined: there is none, or it is not known. */
export type CodeAt = (offset: number) => { readonly ir: Ir; readonly raw: Raw } | undefined;

/** Instructions looked at by `replacesSp`. */
const LOOK_AHEAD = 24;

/** True when on every way from `offset` SP is written, or generated code left, before a load or store has SP as its base. */
export function replacesSp(code: CodeAt, offset: number, left = { instructions: LOOK_AHEAD }): boolean {
  for (let at = offset; left.instructions-- > 0; at += 4) {
    const found = code(at);
    if (!found || usesSpAsBase(found.ir, found.raw)) return false;
    const { nodes } = found.ir;
    if (nodes.some((n) => n.op === 'writeX' && isSp(n, found.raw))) return true;
    const branch = nodes.find((n) => n.op === 'branch');
    const last = nodes.length ? nodes[nodes.length - 1].op : '';
    // cpu.ts looks at what comes after an exit.
    if (last === 'exit') return true;
    if (last === 'jump') return false;
    if (!branch) continue;
    const target = at + Number((branch.derive as (f: Raw) => number | bigint)(found.raw));
    if (last === 'branch') at = target - 4;
    else if (!replacesSp(code, target, left)) return false;
  }
  return false;
}

/** `row`, leaving generated code when it has made SP misaligned. */
export const checksSp = (row: Insn): Insn => ({
  ...row,
  semantics: (b: Builder, fields: never) => {
    row.semantics(b, fields);
    b.if(b.ne(b.and(b.cell(VP.SP), b.i64(15)), b.i64(0)), () => b.exit('irq-check'));
  },
});
