/** A message as vsnprintf would make it of a format and its arguments (lib/vsprintf.c), as far as a reader needs it. */
import { hex } from '../../emulator/base/bits.ts';
import { isKernelAddress, type KernelObjects } from './objects.ts';

/** The next argument: 64 bits of it; undefined when it cannot be read. */
export type NextArgument = () => bigint | undefined;

const CONVERSION = /%(?:(%)|([-+ #0]*)(\d+|\*)?(?:\.(\d+|\*)?)?(hh?|ll?|[Lzjtq])?(p[A-Za-z]*[0-9]*|[diouxXcs]))/g;
const MAX_TEXT = 1024;
const MAX_NESTING = 4;

/** Arguments of a function with variable arguments at its first instruction: registers up to x7, then the stack (AAPCS64 6.8.2). */
export function variableArguments(objects: KernelObjects, first: number): NextArgument {
  const { machine } = objects.kernel;
  let n = first;
  let at = machine.readRegister(objects.vp, 'sp') ?? 0n;
  return () => {
    if (n < 8) return machine.readRegister(objects.vp, `x${n++}`);
    at += 8n;
    return objects.u64(at - 8n);
  };
}

/** Arguments in a va_list: {stack, gr_top, vr_top, gr_offs, vr_offs} (AAPCS64 10.1.5). */
export function listedArguments(objects: KernelObjects, list: bigint): NextArgument {
  let stack = objects.u64(list);
  const top = objects.u64(list + 8n);
  let offset = objects.u32(list + 24n);
  return () => {
    const at = offset === undefined ? 0 : offset | 0;
    if (top !== undefined && offset !== undefined && at < 0) {
      offset = at + 8;
      return objects.u64(BigInt.asUintN(64, top + BigInt(at)));
    }
    if (stack === undefined) return undefined;
    stack += 8n;
    return objects.u64(stack - 8n);
  };
}

/** include/linux/printk.h: struct va_format {const char *fmt; va_list *va}. */
function nested(objects: KernelObjects, address: bigint, depth: number): string {
  const format = objects.u64(address);
  const list = objects.u64(address + 8n);
  const text = isKernelAddress(format) ? objects.string(format, MAX_TEXT) : undefined;
  return text === undefined || list === undefined ? '?' : formatMessage(objects, text, listedArguments(objects, list), depth + 1);
}

function pointer(objects: KernelObjects, kind: string, value: bigint, depth: number): string {
  const { symbols } = objects.kernel;
  if (/^p[SsBFf]/.test(kind)) return symbols.format(value);
  if (kind === 'pV' && depth < MAX_NESTING) return nested(objects, value, depth);
  return hex(value, 16);
}

const BITS: Readonly<Record<string, number>> = { hh: 8, h: 16, '': 32 };

/** The text. What cannot be read is a question mark. */
export function formatMessage(objects: KernelObjects, format: string, next: NextArgument, depth = 0): string {
  const text = format.replace(
    CONVERSION,
    (_all, percent: string, flags = '', width: string, precision: string, length = '', kind: string) => {
      if (percent) return '%';
      const star = (given: string | undefined): number =>
        given === '*' ? Number(BigInt.asIntN(32, next() ?? 0n)) : Number(given ?? 0);
      const wide = Math.min(Math.abs(star(width)), MAX_TEXT);
      const most = precision === undefined ? undefined : Math.max(0, star(precision));
      const value = next();
      if (value === undefined) return '?';
      const bits = BITS[length] ?? 64;
      let out: string;
      if (kind === 's') {
        out = isKernelAddress(value) ? (objects.string(value, MAX_TEXT) ?? '?') : value === 0n ? '(null)' : '?';
        if (most !== undefined) out = out.slice(0, most);
      } else if (kind === 'c') out = String.fromCharCode(Number(value & 0xffn));
      else if (kind.startsWith('p')) out = pointer(objects, kind, value, depth);
      else if (kind === 'd' || kind === 'i') out = `${BigInt.asIntN(bits, value)}`;
      else {
        const radix = kind === 'o' ? 8 : kind === 'u' ? 10 : 16;
        out = BigInt.asUintN(bits, value).toString(radix);
        if (kind === 'X') out = out.toUpperCase();
        if (flags.includes('#') && radix === 16) out = `0x${out}`;
      }
      if (out.length >= wide) return out;
      if (flags.includes('-')) return out.padEnd(wide);
      return out.padStart(wide, flags.includes('0') && kind !== 's' ? '0' : ' ');
    },
  );
  return text.slice(0, MAX_TEXT).replace(/\n$/, '');
}
