/** Exceptions in words: what ESR_EL1 and FAR_EL1 say (Arm ARM D19.2.37 and D19.2.40; the encodings of ISS follow the class). */
import { hex } from '../../emulator/base/bits.ts';

/** Exception classes: ESR_ELx.EC. */
const CLASSES: Readonly<Record<number, string>> = {
  0: 'unknown reason',
  1: 'trapped WFI or WFE',
  7: 'access to SIMD or floating point',
  10: 'trapped LD64B or ST64B',
  13: 'branch target exception',
  14: 'illegal execution state',
  21: 'SVC instruction',
  22: 'HVC instruction',
  23: 'SMC instruction',
  24: 'trapped MSR, MRS or system instruction',
  25: 'access to SVE',
  28: 'pointer authentication failure',
  29: 'access to SME',
  32: 'instruction abort from a lower exception level',
  33: 'instruction abort',
  34: 'PC alignment fault',
  36: 'data abort from a lower exception level',
  37: 'data abort',
  38: 'SP alignment fault',
  39: 'memory copy or set instruction',
  44: 'floating-point exception',
  45: 'guarded control stack exception',
  47: 'SError interrupt',
  48: 'breakpoint from a lower exception level',
  49: 'breakpoint',
  50: 'software step from a lower exception level',
  51: 'software step',
  52: 'watchpoint from a lower exception level',
  53: 'watchpoint',
  60: 'BRK instruction',
};

/** Fault status codes: DFSC and IFSC, ISS[5:0] of aborts. Four levels of each of the first rows. */
const LEVELLED: Readonly<Record<number, string>> = {
  0: 'address size fault',
  4: 'translation fault',
  8: 'access flag fault',
  12: 'permission fault',
  20: 'external abort on a translation table walk',
  28: 'parity or ECC error on a translation table walk',
};
const STATUS: Readonly<Record<number, string>> = {
  16: 'external abort',
  17: 'tag check fault',
  19: 'external abort on a translation table walk, level -1',
  24: 'parity or ECC error',
  27: 'parity or ECC error on a translation table walk, level -1',
  33: 'alignment fault',
  41: 'address size fault, level -1',
  43: 'translation fault, level -1',
  48: 'TLB conflict abort',
  49: 'unsupported atomic hardware update',
  52: 'lockdown fault',
  53: 'unsupported exclusive or atomic access',
};

const faultStatus = (code: number): string => {
  const levelled = LEVELLED[code & ~3];
  return levelled && code < 0x20 && !(code in STATUS)
    ? `${levelled}, level ${code & 3}`
    : (STATUS[code] ?? `fault status ${hex(code)}`);
};

/** Comments of BRK that Linux knows (arch/arm64/include/asm/brk-imm.h). */
function brkComment(comment: number): string {
  if (comment === 0x800) return 'BUG() or WARN()';
  if (comment >= 0x900 && comment <= 0x9ff) return 'KASAN';
  if (comment >= 0x5500 && comment <= 0x55ff) return 'UBSAN';
  if (comment >= 0x8000 && comment <= 0x8fff) return 'CFI';
  const known: Readonly<Record<number, string>> = {
    4: 'kprobe',
    5: 'uprobe',
    6: 'kprobe, single step',
    256: 'a fault on purpose',
    1024: 'KGDB',
    1025: 'KGDB, compiled in',
  };
  return known[comment] ?? 'nobody of Linux';
}

export interface ExceptionWords {
  /** `data abort: translation fault, level 0`. */
  title: string;
  /** Name and value, in the order of the register's fields. */
  fields: [name: string, value: string][];
  /** FAR_EL1 is about this exception. */
  hasAddress: boolean;
}

const isAbort = (ec: number): boolean => ec === 0x20 || ec === 0x21 || ec === 0x24 || ec === 0x25;

/** What ESR_EL1 says. */
export function describeEsr(esr: bigint): ExceptionWords {
  const ec = Number((esr >> 26n) & 0x3fn);
  const iss = Number(esr & 0x1ff_ffffn);
  const name = CLASSES[ec] ?? `exception class ${hex(ec, 2)}`;
  const bit = (n: number): boolean => ((iss >>> n) & 1) === 1;
  const fields: [string, string][] = [
    ['ESR_EL1', hex(BigInt.asUintN(64, esr), 16)],
    ['class', `${hex(ec, 2)}, ${name}`],
  ];
  // Watchpoints have the fields of data aborts.
  const isData = ec === 0x24 || ec === 0x25 || ec === 0x34 || ec === 0x35;
  const what: string[] = [];
  if (isAbort(ec)) {
    what.push(faultStatus(iss & 0x3f));
    fields.push(['fault status', `${hex(iss & 0x3f, 2)}, ${faultStatus(iss & 0x3f)}`]);
  }
  if (isData)
    fields.push([
      'access',
      bit(8) ? (bit(6) ? 'cache maintenance' : 'cache maintenance or translation') : bit(6) ? 'write' : 'read',
    ]);
  else if (isAbort(ec)) fields.push(['access', 'instruction fetch']);
  if (isAbort(ec) && bit(7)) fields.push(['stage', 'while the translation table of stage 1 was read']);
  if (ec === 0x24 || ec === 0x25) {
    if (bit(24)) {
      const size = 1 << ((iss >>> 22) & 3);
      const register = (iss >>> 16) & 31;
      fields.push([
        'operand',
        `${size} byte${size > 1 ? 's' : ''}, ${bit(15) ? 'x' : 'w'}${register}${bit(21) ? ', sign-extended' : ''}`,
      ]);
    }
  }
  if (ec === 0x3c) {
    what.push(brkComment(iss & 0xffff));
    fields.push(['comment', `${hex(iss & 0xffff)}, ${brkComment(iss & 0xffff)}`]);
  }
  if (ec === 0x15 || ec === 0x16 || ec === 0x17) fields.push(['immediate', hex(iss & 0xffff)]);
  if (ec === 0x0d) fields.push(['PSTATE.BTYPE', `${iss & 3}`]);
  if (ec === 0x1c) {
    const key = `${bit(1) ? 'data' : 'instruction'} key ${bit(0) ? 'B' : 'A'}`;
    what.push(key);
    fields.push(['key', key]);
  }
  const hasAddress = (isAbort(ec) && !(bit(10) && (iss & 0x3f) === 0x10)) || ec === 0x22 || ec === 0x34 || ec === 0x35;
  return { title: [name, ...what].join(': '), fields, hasAddress };
}
