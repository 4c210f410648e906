/**
 * Where a handler's operands are in the record of an instruction: register addresses and immediates that its semantics name
 * (layout.ts), found once per handler and filled in once per instruction word.
 */
import type { Ir, Node } from './builder.ts';
import type { Raw } from './insn.ts';
import { AUX, IMM, RECORD } from './layout.ts';
import { VP, WINDOW } from './vp-state.ts';
import type { Code } from './wasm/encoder.ts';

type RegisterMode = 'x' | 'w' | 'sp' | 'v';
const REGISTER_SLOTS = 5;

interface Place {
  /** Offset in the record, or in the block. */
  readonly at: number;
  readonly inBlock: boolean;
  readonly type: 'u16' | 'i32' | 'i64';
}

interface Operand {
  readonly type: 'u16' | 'i32' | 'i64';
  readonly value: (raw: Raw) => number | bigint;
}

function registerAddress(n: number, mode: RegisterMode, index: number): number {
  if (mode === 'v') return WINDOW + VP.V + 16 * ((n + index) & 31);
  if (n !== 31) return WINDOW + VP.X + 8 * n;
  return WINDOW + (mode === 'sp' ? VP.SP : mode === 'x' ? VP.ZERO : VP.JUNK);
}

const registerMode = (n: Node): RegisterMode =>
  n.op === 'readV' || n.op === 'writeV' ? 'v' : n.sp ? 'sp' : n.op === 'readX' ? 'x' : 'w';

/** Where the operands of a handler are, and how to fill a record for an instruction. */
export class OperandLayout {
  /** The near and far distance of the handler's branch, in bytes. */
  readonly branch?: (raw: Raw) => number;
  readonly #operands: (Operand & Place)[] = [];
  readonly #places = new Map<unknown, Place>();
  /** Bytes of the block, and where its address is; 0: everything fits. */
  readonly #blockSize: number;
  readonly #blockAt: number;

  constructor(ir: Ir) {
    const wanted = new Map<unknown, Operand>();
    let registers = 0;
    for (const n of ir.nodes) {
      if (n.field !== undefined) {
        const key = `${n.field} ${registerMode(n)} ${n.index ?? 0}`;
        if (wanted.has(key)) continue;
        const { field, index = 0 } = n;
        const mode = registerMode(n);
        wanted.set(key, {
          type: registers++ < REGISTER_SLOTS ? 'u16' : 'i32',
          value: (raw) => registerAddress(raw[field], mode, index),
        });
      } else if (n.op === 'branch') {
        if (this.branch && this.branch !== n.derive) throw new Error(`${ir.insn.name}: two branch targets`);
        this.branch = n.derive as (raw: Raw) => number;
      } else if (n.derive) {
        const derive = n.derive;
        const isCell = n.op === 'cell' || n.op === 'setCell';
        wanted.set(derive, {
          type: isCell || n.t === 'i32' ? 'i32' : 'i64',
          value: isCell ? (raw) => WINDOW + Number(derive(raw)) : derive,
        });
      }
    }

    const all = [...wanted];
    const narrow = all.filter(([, o]) => o.type === 'i32');
    const wide = all.filter(([, o]) => o.type === 'i64');
    const auxFree = !this.branch;
    const fits = 8 * wide.length + 4 * Math.max(0, narrow.length - (auxFree ? 1 : 0)) <= RECORD - IMM;
    this.#blockAt = auxFree ? AUX : IMM;
    let aux = auxFree && fits;
    let at = fits || auxFree ? IMM : IMM + 8;
    let block = 0;
    let register = 2;
    for (const [key, o] of [...all.filter(([, o]) => o.type === 'u16'), ...wide, ...narrow]) {
      const size = o.type === 'i64' ? 8 : 4;
      let place: Place;
      if (o.type === 'u16') {
        place = { at: register, inBlock: false, type: 'u16' };
        register += 2;
      } else if (o.type === 'i32' && aux) {
        place = { at: AUX, inBlock: false, type: 'i32' };
        aux = false;
      } else if (at + size <= RECORD) {
        place = { at, inBlock: false, type: o.type };
        at += size;
      } else {
        place = { at: block, inBlock: true, type: o.type };
        block += size;
      }
      this.#places.set(key, place);
      this.#operands.push({ ...o, ...place });
    }
    this.#blockSize = block;
  }

  /** Pushes the operand that a node names: a register's address or an immediate. */
  fetch(code: Code, rec: number, n: Node): void {
    const key = n.field !== undefined ? `${n.field} ${registerMode(n)} ${n.index ?? 0}` : n.derive;
    const place = this.#places.get(key) as Place;
    code.get(rec);
    if (place.inBlock) code.mem('i32.load', this.#blockAt);
    code.mem(place.type === 'u16' ? 'i32.load16_u' : `${place.type}.load`, place.at);
  }

  /** Writes the operands of an instruction into `record`; `allocate` gives room for a block. */
  fill(record: DataView, raw: Raw, memory: DataView, allocate: (size: number) => number): void {
    let block = 0;
    if (this.#blockSize) {
      block = allocate(this.#blockSize);
      record.setUint32(this.#blockAt, block, true);
    }
    for (const o of this.#operands) {
      const view = o.inBlock ? memory : record;
      const at = o.inBlock ? block + o.at : o.at;
      const v = o.value(raw);
      if (o.type === 'i64') view.setBigInt64(at, BigInt(v), true);
      else {
        const n = typeof v === 'bigint' ? Number(BigInt.asIntN(32, v)) : v;
        if (o.type === 'u16') view.setUint16(at, n, true);
        else view.setInt32(at, n, true);
      }
    }
  }
}
