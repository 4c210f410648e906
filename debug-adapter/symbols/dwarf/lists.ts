/** Range lists (DWARF 5 §2.17.3, DWARF 4 .debug_ranges) and location lists (DWARF 5 §2.6.2, DWARF 4 .debug_loc). */
import { DW_LLE, DW_RLE } from './constants.ts';
import type { Reader } from './reader.ts';
import type { Unit } from './unit.ts';

/** Places [from, to). */
export interface Range {
  readonly from: number;
  readonly to: number;
}
export interface Location extends Range {
  /** A DWARF expression. */
  readonly expression: Uint8Array;
}

/** Entries of one list, at most: more than any compiler made, and a bound for lists that are not any. */
const MAX_ENTRIES = 1 << 18;

/** The range list at `offset` of .debug_rnglists or .debug_ranges, whichever the unit's version has. Throws DwarfError. */
export function rangeList(unit: Unit, offset: number): Range[] {
  const out: Range[] = [];
  const add = (from: number, to: number): void => {
    if (to > from && unit.file.alive(from)) out.push({ from, to });
  };
  if (unit.version < 5) {
    oldList(unit, unit.listReader('ranges', offset), add);
    return out;
  }
  const reader = unit.listReader('rnglists', offset);
  let base = unit.base;
  for (let n = 0; n < MAX_ENTRIES; n++) {
    unit.file.spend();
    const kind = reader.u8();
    switch (kind) {
      case DW_RLE.end_of_list:
        return out;
      case DW_RLE.base_addressx:
        base = unit.addressPair(reader.uleb());
        break;
      case DW_RLE.startx_endx: {
        const from = unit.indexedPlace(reader.uleb());
        add(from, unit.indexedPlace(reader.uleb()));
        break;
      }
      case DW_RLE.startx_length: {
        const from = unit.indexedPlace(reader.uleb());
        add(from, from + reader.uleb());
        break;
      }
      case DW_RLE.offset_pair: {
        const from = reader.uleb();
        add(unit.placeOf(base, from), unit.placeOf(base, reader.uleb()));
        break;
      }
      case DW_RLE.base_address:
        base = unit.readPair(reader);
        break;
      case DW_RLE.start_end: {
        const from = unit.placeOf(unit.readPair(reader), 0);
        add(from, unit.placeOf(unit.readPair(reader), 0));
        break;
      }
      case DW_RLE.start_length: {
        const from = unit.placeOf(unit.readPair(reader), 0);
        add(from, from + reader.uleb());
        break;
      }
      default:
        throw reader.fail(`range list entry of kind ${kind}`, reader.offset - 1);
    }
  }
  throw reader.fail(`a range list of more than ${MAX_ENTRIES} entries`);
}

/** The location list at `offset` of .debug_loclists or .debug_loc. A default location holds everywhere and comes last. */
export function locationList(unit: Unit, offset: number): Location[] {
  const out: Location[] = [];
  const add = (from: number, to: number, expression: Uint8Array): void => {
    if (to > from) out.push({ from, to, expression });
  };
  if (unit.version < 5) {
    const reader = unit.listReader('loc', offset);
    if (unit.splitOld) splitList(unit, reader, add);
    else oldList(unit, reader, (from, to) => add(from, to, reader.block(reader.u16())));
    return out;
  }
  const reader = unit.listReader('loclists', offset);
  const expression = (): Uint8Array => reader.block(reader.uleb());
  let base = unit.base;
  let other: Location | undefined;
  for (let n = 0; n < MAX_ENTRIES; n++) {
    unit.file.spend();
    const kind = reader.u8();
    switch (kind) {
      case DW_LLE.end_of_list:
        return other ? [...out, other] : out;
      case DW_LLE.base_addressx:
        base = unit.addressPair(reader.uleb());
        break;
      case DW_LLE.startx_endx: {
        const from = unit.indexedPlace(reader.uleb());
        const to = unit.indexedPlace(reader.uleb());
        add(from, to, expression());
        break;
      }
      case DW_LLE.startx_length: {
        const from = unit.indexedPlace(reader.uleb());
        const to = from + reader.uleb();
        add(from, to, expression());
        break;
      }
      case DW_LLE.offset_pair: {
        const from = unit.placeOf(base, reader.uleb());
        const to = unit.placeOf(base, reader.uleb());
        add(from, to, expression());
        break;
      }
      case DW_LLE.default_location:
        other = { from: Number.NEGATIVE_INFINITY, to: Number.POSITIVE_INFINITY, expression: expression() };
        break;
      case DW_LLE.base_address:
        base = unit.readPair(reader);
        break;
      case DW_LLE.start_end: {
        const from = unit.placeOf(unit.readPair(reader), 0);
        const to = unit.placeOf(unit.readPair(reader), 0);
        add(from, to, expression());
        break;
      }
      case DW_LLE.start_length: {
        const from = unit.placeOf(unit.readPair(reader), 0);
        const to = from + reader.uleb();
        add(from, to, expression());
        break;
      }
      case DW_LLE.view_pair:
        reader.uleb();
        reader.uleb();
        break;
      default:
        throw reader.fail(`location list entry of kind ${kind}`, reader.offset - 1);
    }
  }
  throw reader.fail(`a location list of more than ${MAX_ENTRIES} entries`);
}

/** The expression in force at `place`. */
export function expressionAt(locations: readonly Location[], place: number): Uint8Array | undefined {
  return locations.find((l) => place >= l.from && place < l.to)?.expression;
}

/** DWARF 4 §2.17.3 and §2.6.2: pairs of addresses, a base selection where the first is all ones, an end where both are zero. */
function oldList(unit: Unit, reader: Reader, entry: (from: number, to: number) => void): void {
  let base = unit.base;
  for (let n = 0; n < MAX_ENTRIES; n++) {
    unit.file.spend();
    const from = unit.readPair(reader);
    const to = unit.readPair(reader);
    if (from.low === 0 && from.high === 0 && to.low === 0 && to.high === 0) return;
    if (from.low === 0xffffffff && from.high === 0xffffffff) {
      base = to;
      continue;
    }
    const sum = (x: { low: number; high: number }) => unit.placeOf({ low: base.low + x.low, high: base.high + x.high }, 0);
    entry(sum(from), sum(to));
  }
  throw reader.fail(`a list of more than ${MAX_ENTRIES} entries`);
}

/** gcc's and clang's location lists of split DWARF 4 ("DebugFission"): kinds 0 to 4, expressions with a two-byte length. */
function splitList(unit: Unit, reader: Reader, add: (from: number, to: number, expression: Uint8Array) => void): void {
  let base = unit.base;
  const expression = (): Uint8Array => reader.block(reader.u16());
  for (let n = 0; n < MAX_ENTRIES; n++) {
    unit.file.spend();
    const kind = reader.u8();
    if (kind === 0) return;
    if (kind === 1) base = unit.addressPair(reader.uleb());
    else if (kind === 2) {
      const from = unit.indexedPlace(reader.uleb());
      const to = unit.indexedPlace(reader.uleb());
      add(from, to, expression());
    } else if (kind === 3) {
      const from = unit.indexedPlace(reader.uleb());
      const to = from + reader.u32();
      add(from, to, expression());
    } else if (kind === 4) {
      const from = unit.placeOf(base, reader.u32());
      const to = unit.placeOf(base, reader.u32());
      add(from, to, expression());
    } else throw reader.fail(`location list entry of kind ${kind}`, reader.offset - 1);
  }
  throw reader.fail(`a location list of more than ${MAX_ENTRIES} entries`);
}
