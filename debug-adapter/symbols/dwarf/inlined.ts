/** Inlined copies of functions: a walk over the functions of a unit that makes objects only of what it finds. */
import { HAS, skipForm } from './abbreviations.ts';
import { DW_AT, DW_FORM, DW_TAG } from './constants.ts';
import { Die } from './die.ts';
import type { Unit } from './unit.ts';

/** DW_TAG_inlined_subroutine DIEs of `unit` whose DW_AT_abstract_origin is one of `origins`. */
export function inlinedCopies(unit: Unit, origins: readonly Die[]): Die[] {
  const { bytes, abbreviations: t, where, offset } = unit;
  const { encoding } = t;
  const wanted = new Set(origins.filter((d) => d.unit === unit).map((d) => d.offset));
  const out: Die[] = [];
  let depth = 0;
  for (let at = unit.dies - offset; at < bytes.length; ) {
    const start = at;
    let code = bytes[at++];
    if (code >= 0x80) {
      const reader = unit.reader(start);
      code = reader.uleb();
      at = reader.at;
    }
    if (code === 0) {
      if (--depth <= 0) break;
      continue;
    }
    const flags = code < t.limit ? t.flags[code] : 0;
    if (!flags) throw unit.fail(offset + start, `abbreviation ${code}, which the unit does not have`);
    const tag = t.tags[code];
    const values = at;
    let found = false;
    let sibling = -1;
    if (t.sizes[code] >= 0 && tag !== DW_TAG.inlined_subroutine) {
      at += t.sizes[code];
      if (t.siblings[code] >= 0) sibling = values + t.siblings[code];
    } else
      for (let i = t.starts[code]; i < t.ends[code]; i++) {
        if (t.attributes[i] === DW_AT.abstract_origin) {
          if (t.forms[i] === DW_FORM.ref4) found = wanted.has(offset + unit.reader(at).u32());
          else if (tag === DW_TAG.inlined_subroutine) {
            const origin = new Die(unit, start).reference(DW_AT.abstract_origin);
            found = origin !== undefined && origins.some((d) => d.is(origin));
          }
        } else if (t.attributes[i] === DW_AT.sibling && t.forms[i] === DW_FORM.ref4) sibling = at;
        at = skipForm(t.forms[i], bytes, at, encoding, where, offset);
      }
    if (at > bytes.length) throw unit.fail(offset + start, 'an entry that is cut off');
    if (tag === DW_TAG.inlined_subroutine && found) out.push(new Die(unit, start));
    if ((flags & HAS.children) === 0) continue;
    // Only code has inlined functions in it.
    const skip = sibling >= 0 && depth > 0 && !CODE.has(tag);
    if (skip) {
      const next = unit.reader(sibling).u32();
      if (next < at || next > bytes.length) throw unit.fail(offset + start, 'a DW_AT_sibling that does not lead on');
      at = next;
    } else depth++;
  }
  return out;
}

const CODE: ReadonlySet<number> = new Set([
  DW_TAG.subprogram,
  DW_TAG.inlined_subroutine,
  DW_TAG.lexical_block,
  DW_TAG.namespace,
  DW_TAG.module,
  DW_TAG.structure_type,
  DW_TAG.class_type,
]);
