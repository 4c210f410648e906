/** Values as text: one line, bounded, whatever the guest has there. */
import { hex } from '../../emulator/base/bits.ts';
import { viewOf } from '../../emulator/base/struct.ts';
import type { Symbolizer } from '../symbols/symbolizer.ts';
import type { Catalog } from './catalog.ts';
import { type EnumType, MAX_NESTING, type PlainType, plain, sizeOf, type Type } from './model.ts';
import { elementsOf, LABELS } from './printers.ts';
import { type Memory, membersOf, Value, ValueError } from './value.ts';

/** What showing values needs. */
export interface View {
  readonly memory: Memory;
  readonly symbols: Symbolizer;
  readonly types?: Catalog;
  readonly module?: string;
  /** The variable at an address, where symbol files have it: `init_task+0x10`. */
  object?(address: bigint): string | undefined;
  /** Numbers in hexadecimal only. */
  readonly hex?: boolean;
}

/** Characters that the text of one value has, about. */
const MAX_TEXT = 200;
/** Nested structs and arrays inside each other that are written out. */
const MAX_DEPTH = 3;
/** Characters of a string that are shown. */
const MAX_STRING = 200;

/** An address with the symbol it is in. */
export function addressText(address: bigint, symbols: Symbolizer): string {
  const at = symbols.at(address);
  return at ? `${hex(address, 16)} <${symbols.format(address)}>` : hex(address, 16);
}

/**
 * What a pointer points to. The symbol table of a kernel without debug information lacks most variables: an address behind one
 * that it has is that one's only when its type is as long.
 */
function pointedText(address: bigint, view: View, short: boolean): string {
  const object = address >> 63n ? view.object?.(address) : undefined;
  if (object !== undefined) return `${hex(address, 16)} <${object}>`;
  const at = view.symbols.at(address);
  let known = at !== undefined;
  if (at && at.offset > 0 && at.symbol.size === 0 && !/[tTwW]/.test(at.symbol.type)) {
    const type = view.types?.variable(at.symbol.name)?.type;
    known = type !== undefined && at.offset < sizeOf(type);
  }
  return known ? addressText(address, view.symbols) : hex(address, short ? 0 : 16);
}

const ESCAPED: Readonly<Record<string, string>> = { '\n': '\\n', '\t': '\\t', '\r': '\\r', '"': '\\"', '\\': '\\\\' };
/** Text in quotes, with what cannot be seen escaped. */
export const quoted = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  `"${text.replace(/[\x00-\x1f\x7f"\\]/g, (c) => ESCAPED[c] ?? `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)}"`;

/** Typedefs and qualifiers off, and the definition of what is only declared. */
export const resolved = (type: Type, view: View): PlainType => view.types?.resolve(type, view.module) ?? plain(type);

const isCharacter = (type: Type): boolean => {
  const t = plain(type);
  return t.kind === 'base' && t.encoding === 'character';
};
/** What may be text or small numbers: a look at the bytes tells. (A typedef such as u8 says that it is numbers.) */
const mayBeCharacter = (type: Type): boolean => {
  let t = type;
  for (let i = 0; i < MAX_NESTING && (t.kind === 'const' || t.kind === 'volatile'); i++) t = t.to;
  return t.kind === 'base' && t.name === 'unsigned char';
};
/** Printable ASCII up to the NUL, and something before it. */
const looksLikeText = (bytes: Uint8Array): boolean => {
  const end = bytes.indexOf(0);
  return end > 0 && bytes.subarray(0, end).every((c) => c >= 0x20 && c < 0x7f);
};

/** Do the enumerators stand for bits? gdb's rule: each is a power of two, none has another's. */
function isFlags(type: EnumType): boolean {
  let seen = 0n;
  let bits = 0;
  for (const { value } of type.values) {
    if (value === 0n) continue;
    if (value < 0n || (value & (value - 1n)) !== 0n || (seen & value) !== 0n) return false;
    seen |= value;
    bits++;
  }
  // One or two consecutive numbers are a plain enumeration more often than not.
  return bits > 2 || seen > 3n;
}

function enumText(value: bigint, type: EnumType, inHex: boolean): string {
  const number = inHex ? hex(BigInt.asUintN(type.size * 8, value)) : String(value);
  const exact = type.values.find((v) => v.value === value);
  if (exact) return `${exact.name} (${number})`;
  if (value <= 0n || !isFlags(type)) return number;
  const parts: string[] = [];
  let rest = value;
  for (const v of type.values)
    if (v.value !== 0n && (rest & v.value) === v.value) {
      parts.push(v.name);
      rest &= ~v.value;
    }
  if (parts.length === 0) return number;
  if (rest !== 0n) parts.push(hex(rest));
  return `${parts.join(' | ')} (${hex(value)})`;
}

/** A number with its other notation where that tells more. */
function integerText(value: bigint, size: number, signed: boolean, view: View, told: boolean): string {
  const bits = BigInt.asUintN(size * 8, value);
  if (view.hex) return hex(bits);
  // Kernel addresses are known by their looks.
  if (size === 8 && bits >> 63n && view.symbols.at(bits)) return addressText(bits, view.symbols);
  const more = value > 9n || value < -9n;
  if (signed || told) return more ? `${value} (${hex(bits)})` : `${value}`;
  return more && bits < 1n << 32n ? `${hex(bits)} (${bits})` : hex(bits, size > 8 ? 32 : 0);
}

/** A short printable string of what is called unsigned char. */
function mayBeText(type: Type, address: bigint, view: View): boolean {
  if (!mayBeCharacter(type)) return false;
  const bytes = view.memory.read(address, Math.min(256, 4096 - Number(address & 4095n)));
  return bytes !== undefined && looksLikeText(bytes);
}

/** Characters at an address up to the NUL; undefined when they are not readable or no text. */
function textAt(address: bigint, view: View): string | undefined {
  const chunks: Uint8Array[] = [];
  let end = -1;
  for (let done = 0; done < MAX_STRING && end < 0; ) {
    const at = BigInt.asUintN(64, address + BigInt(done));
    const n = Math.min(MAX_STRING - done, 4096 - Number(at & 4095n));
    const chunk = view.memory.read(at, n);
    if (!chunk) return undefined;
    end = chunk.indexOf(0);
    chunks.push(end < 0 ? chunk : chunk.subarray(0, end));
    done += n;
  }
  return `${quoted(Buffer.concat(chunks).toString('utf8'))}${end < 0 ? '...' : ''}`;
}

function charArrayText(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  const shown = (end < 0 ? bytes : bytes.subarray(0, end)).subarray(0, MAX_STRING);
  const cut = (end < 0 ? bytes.length : end) > MAX_STRING ? '...' : '';
  return `${quoted(Buffer.from(shown).toString('utf8'))}${cut}`;
}

/** The text of a value. Never throws for what the guest has: what cannot be read is said in angle brackets. */
export function textOf(value: Value, view: View, depth = 0): string {
  try {
    return text(value, view, depth);
  } catch (e) {
    if (!(e instanceof ValueError)) throw e;
    return e.message.startsWith('<') ? e.message : `<${e.message}>`;
  }
}

function text(value: Value, view: View, depth: number): string {
  if (value.text !== undefined) return value.text;
  const t = resolved(value.type, view);
  switch (t.kind) {
    case 'void':
      return 'void';
    case 'function':
      return addressText(value.value, view.symbols);
    case 'pointer': {
      const address = BigInt.asUintN(64, value.value);
      if (t.untyped) return addressText(address, view.symbols);
      if (address === 0n) return depth > 0 ? '0x0' : hex(0n);
      const string = isCharacter(t.to) || mayBeText(t.to, address, view) ? textAt(address, view) : undefined;
      const where = pointedText(address, view, depth > 0);
      return string === undefined ? where : `${where} ${string}`;
    }
    case 'enum':
      return enumText(value.value, t, view.hex ?? false);
    case 'base': {
      if (t.encoding === 'float') return floatText(value.float);
      const n = value.value;
      if (t.encoding === 'boolean') return n === 0n ? 'false' : n === 1n ? 'true' : `true (${hex(n)})`;
      if (t.encoding === 'character') {
        const c = Number(BigInt.asUintN(8, n));
        const number = view.hex ? hex(c) : String(n);
        return c >= 0x20 && c < 0x7f ? `${number} '${String.fromCharCode(c)}'` : number;
      }
      return integerText(n, value.bits ? Math.max(1, t.size) : t.size, t.signed, view, value.storage !== undefined);
    }
    case 'array':
      return arrayText(value, t, view, depth);
    default:
      return structText(value, t, view, depth);
  }
}

const floatText = (n: number): string => (Number.isInteger(n) && Math.abs(n) < 1e15 ? n.toFixed(1) : String(n));

function arrayText(value: Value, t: Extract<PlainType, { kind: 'array' }>, view: View, depth: number): string {
  if (isCharacter(t.element)) {
    if (t.count !== undefined) return charArrayText(readUpTo(value, t.count));
    const string = textAt(value.value, view);
    if (string !== undefined) return string;
  }
  if (t.count !== undefined && t.count > 1 && mayBeCharacter(t.element)) {
    const bytes = readUpTo(value, t.count);
    if (looksLikeText(bytes)) return charArrayText(bytes);
  }
  if (t.count === undefined) return `${depth > 0 ? '' : `${addressText(value.value, view.symbols)} `}[...]`;
  if (depth >= MAX_DEPTH) return '{...}';
  const size = sizeOf(t.element);
  const parts: string[] = [];
  let length = 2;
  for (let i = 0; i < t.count; i++) {
    const element = textOf(elementAt(value, t.element, i, size), view, depth + 1);
    length += element.length + 2;
    if (i > 0 && length > MAX_TEXT / (depth + 1)) return `{${parts.join(', ')}, ...}`;
    let same = 1;
    // Runs of the same are counted, as gdb does.
    while (i + same < t.count && same < 4096 && sameBytes(value, i, i + same, size)) same++;
    if (same > 4) {
      parts.push(`${element} <repeats ${same} times>`);
      i += same - 1;
    } else parts.push(element);
  }
  return `{${parts.join(', ')}}`;
}

/** As many of an array's bytes as there are, 4096 at most. */
function readUpTo(value: Value, count: number): Uint8Array {
  return value.storage ? value.storage.read(value.offset, Math.min(count, 4096)) : value.bytes().subarray(0, 4096);
}

function sameBytes(value: Value, a: number, b: number, size: number): boolean {
  if (!value.storage || size === 0 || size > 64) return false;
  const x = value.storage.read(value.offset + a * size, size);
  const y = value.storage.read(value.offset + b * size, size);
  return x.every((byte, i) => byte === y[i]);
}

/** Element `index` of an array. */
export const elementAt = (value: Value, element: Type, index: number, size = sizeOf(element)): Value =>
  new Value({ type: element, storage: value.storage, offset: value.offset + index * size, from: value.from });

/** include/linux/uuid.h: of a guid_t the first three fields are little-endian, a uuid_t is as it is written. */
const IDENTIFIERS: Readonly<Record<string, readonly number[]>> = {
  guid_t: [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15],
  uuid_le: [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15],
  uuid_t: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
};

/** `57164f39-9115-4e78-ab55-382f3bd5422d`; undefined for what is no such thing. */
function identifierText(value: Value): string | undefined {
  let type = value.type;
  for (let i = 0; i < MAX_NESTING && type.kind !== 'struct'; i++) {
    if (type.kind === 'typedef' && Object.hasOwn(IDENTIFIERS, type.name)) break;
    if (!('to' in type) || type.kind === 'pointer') return undefined;
    type = type.to;
  }
  const order = type.kind === 'typedef' && sizeOf(type) === 16 ? IDENTIFIERS[type.name] : undefined;
  if (!order) return undefined;
  const bytes = value.bytes();
  const digits = order.map((i) => bytes[i].toString(16).padStart(2, '0')).join('');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** A set of CPUs as the kernel's own `%*pbl` writes it: `0-3,5`. Bits from nr_cpu_ids on mean nothing (include/linux/cpumask.h). */
function cpusText(value: Value, view: View): string {
  const bytes = value.bytes();
  const known = view.types?.variable('nr_cpu_ids');
  const raw = known && view.memory.read(known.address, 4);
  const limit = Math.min(bytes.length * 8, raw ? viewOf(raw).getUint32(0, true) : bytes.length * 8);
  const has = (cpu: number): boolean => cpu < limit && (bytes[cpu >> 3] & (1 << (cpu & 7))) !== 0;
  const parts: string[] = [];
  for (let cpu = 0; cpu < limit; cpu++) {
    if (!has(cpu)) continue;
    const first = cpu;
    while (has(cpu + 1)) cpu++;
    parts.push(first === cpu ? `${first}` : `${first}-${cpu}`);
  }
  return parts.length ? `CPUs ${parts.join(',')}` : 'no CPUs';
}

function structText(value: Value, t: Extract<PlainType, { kind: 'struct' | 'union' }>, view: View, depth: number): string {
  if (t.incomplete) return '<incomplete type>';
  // Say once that nothing is there.
  if (t.size > 0) value.storage?.read(value.offset, 1);
  const identifier = identifierText(value);
  if (identifier !== undefined) return identifier;
  if (t.name === 'cpumask') return cpusText(value, view);
  const elements = elementsOf(value, view);
  if (elements) return elements.summary;
  if (depth >= MAX_DEPTH) return '{...}';
  const parts: string[] = [];
  let length = 2;
  const limit = MAX_TEXT / (depth + 1);
  const add = (name: string, member: Value): boolean => {
    if (length > limit) return false;
    const part = `${name} = ${textOf(member, view, depth + 1)}`;
    length += part.length + 2;
    parts.push(part);
    return true;
  };
  const labels = t.name === undefined ? undefined : LABELS[t.name];
  if (labels) {
    for (const path of labels) {
      const found = view.types?.member(t, path);
      if (found) add(path, new Value({ type: found.type, storage: value.storage, offset: value.offset + found.offset }));
    }
    return `{${parts.join(', ')}${parts.length < t.members.length ? ', ...' : ''}}`;
  }
  const walk = (type: typeof t, offset: number, nesting: number): boolean =>
    (nesting === 0 ? membersOf(value, type) : type.members).every((m) => {
      const inner = resolved(m.type, view);
      if (m.name === '' && (inner.kind === 'struct' || inner.kind === 'union') && nesting < MAX_NESTING)
        return walk(inner, offset + m.offset, nesting + 1);
      if (m.name === '') return true;
      const from = `${type.name ?? ''}.${m.name}`;
      return add(m.name, new Value({ type: m.type, storage: value.storage, offset: offset + m.offset, bits: m.bits, from }));
    });
  const all = walk(t, value.offset, 0);
  return `{${parts.join(', ')}${all ? '' : ', ...'}}`;
}
