/**
 * What can go wrong in a Linux kernel, and how it is noticed: functions that every version at hand (6.1, 6.12, 7.2) has and runs
 * through. Most are chosen so that the kernel has already said what is wrong: its log has the text.
 */
import { hex } from '../../emulator/base/bits.ts';
import { describeEsr } from './esr.ts';
import { formatMessage, listedArguments, variableArguments } from './format-message.ts';
import type { GuestKernel } from './kernel.ts';
import { isKernelAddress, KernelObjects } from './objects.ts';
import { readLog } from './printk.ts';
import type { Symbolizer } from '../symbols/symbolizer.ts';
import { taskAt, taskStack } from './tasks.ts';
import { type Frame, frameName, lookupPc } from './unwind.ts';

export interface Trouble {
  /** Id of the exception filter. */
  filter: string;
  label: string;
  description: string;
  /** Stop at it unless the user says otherwise. */
  default: boolean;
  /** Where it is noticed: the first of these that the kernel has. */
  functions: readonly string[];
  /** Why a kernel may have none of them. */
  lacking: string;
  /** Whether the call of that function at hand is it. Left out: always. */
  when?(objects: KernelObjects): boolean;
  /** The line of the log with which the kernel begins to tell of it. */
  begins?: RegExp;
  /** The line that says it best, of those. */
  says?: RegExp;
  /** The text where it is not in the log yet. */
  text?(objects: KernelObjects): string | undefined;
  /** Functions that notice and tell it: the frame that caused it is the first that is none of them. Left out: where the exception was taken. */
  tellers?: RegExp;
  /** ESR_EL1 of the exception, where the kernel passes it on. */
  esr?(objects: KernelObjects): bigint;
  /** ESR_EL1 is about it. */
  isException?: true;
  /** The task that it is about, where that is not the one that runs. */
  task?(objects: KernelObjects): bigint | undefined;
}

/** Lines of the log that are looked through for what belongs to it, at most. */
const LOG_LINES = 200;

const register = ({ kernel, vp }: KernelObjects, name: string): bigint => kernel.machine.readRegister(vp, name) ?? 0n;
const argumentText = (objects: KernelObjects, n: number): string => {
  const at = register(objects, `x${n}`);
  return isKernelAddress(at) ? (objects.string(at, 256) ?? '') : '';
};
/** Name of the function that called the one whose first instruction is next. */
const callerFunction = (objects: KernelObjects): string =>
  objects.kernel.symbols.at(register(objects, 'x30') - 1n)?.symbol.name.replace(/\..*$/, '') ?? '';

/** include/linux/panic.h. */
const TAINT_SOFTLOCKUP = 14n;
const PANIC = 'Kernel panic - not syncing: ';
const BUG_TEXT = /\bBUG\b/;
const LOCKDEP_END = 'stack backtrace:';

/** In the order of the Breakpoints view. */
export const TROUBLES: readonly Trouble[] = [
  {
    filter: 'panic',
    label: 'Kernel panic',
    description: 'Stops where the kernel panics, before it stops its other CPUs.',
    default: true,
    functions: ['vpanic', 'panic'],
    lacking: 'this kernel has no function panic',
    text(objects) {
      const isList = objects.kernel.symbols.at(register(objects, 'pc'))?.symbol.name === 'vpanic';
      const next = isList ? listedArguments(objects, register(objects, 'x1')) : variableArguments(objects, 1);
      return PANIC + formatMessage(objects, argumentText(objects, 0), next);
    },
    tellers: /^(v?panic|nmi_panic|make_task_dead|die|die_kernel_fault|__stack_chk_fail)$/,
  },
  {
    filter: 'oops',
    label: 'Kernel oops',
    description: 'Stops when the kernel cannot go on with what it does: a bad address, an undefined instruction.',
    default: true,
    functions: ['die'],
    lacking: 'this kernel has no function die',
    when: (objects) => !BUG_TEXT.test(argumentText(objects, 0)),
    begins: /Unable to handle kernel|Unexpected kernel|Unhandled fault|Internal error|pc : /,
    text: (objects) => `Internal error: ${argumentText(objects, 0)}: ${hex(register(objects, 'x2'), 16)}`,
    esr: (objects) => register(objects, 'x2'),
    isException: true,
  },
  {
    filter: 'bug',
    label: 'Kernel BUG',
    description: 'Stops at BUG() and BUG_ON().',
    default: true,
    functions: ['die'],
    lacking: 'this kernel has no function die',
    when: (objects) => BUG_TEXT.test(argumentText(objects, 0)),
    begins: /\[ cut here \]/,
    says: /kernel BUG at/,
    text: (objects) => `Internal error: ${argumentText(objects, 0)}`,
    esr: (objects) => register(objects, 'x2'),
    isException: true,
  },
  {
    filter: 'warn',
    label: 'Kernel WARN',
    description: 'Stops at WARN() and its relatives, after the kernel has told it.',
    default: false,
    functions: ['add_taint'],
    lacking: 'this kernel has no function add_taint',
    when: (objects) =>
      /^(__warn|report_bug|__report_bug|warn_slowpath_fmt|bug_handler|bug_brk_handler)$/.test(callerFunction(objects)),
    begins: /\[ cut here \]/,
    says: /WARNING: /,
    isException: true,
  },
  {
    filter: 'lockdep',
    label: 'Lockdep splat',
    description: 'Stops when lockdep reports a deadlock that can happen, or locks that are misused.',
    default: false,
    functions: ['dump_stack'],
    lacking: 'this kernel has no lockdep (CONFIG_PROVE_LOCKING)',
    when: (objects) => readLog(objects, 1)?.records.at(-1)?.text.trim() === LOCKDEP_END,
    begins: /^=====/,
    says: /WARNING: |BUG: /,
    tellers:
      /^(dump_stack\w*|print_\w+|lockdep_\w+|debug_check_\w+|mark_\w+|check_\w+|validate_chain|register_lock_class|__?lock_\w+|__lock_acquire|lock_(acquire|release)\w*)$/,
  },
  {
    filter: 'rcu-stall',
    label: 'RCU stall',
    description: 'Stops when RCU finds that a CPU or a task has held up a grace period for too long.',
    default: false,
    functions: ['panic_on_rcu_stall'],
    lacking: 'this kernel does not look for RCU stalls',
    begins: /rcu: INFO: |INFO: rcu_/,
  },
  {
    filter: 'soft-lockup',
    label: 'Soft lockup',
    description: 'Stops when a CPU has not scheduled for twice kernel.watchdog_thresh seconds.',
    default: false,
    functions: ['add_taint'],
    lacking: 'this kernel has no soft lockup detector (CONFIG_SOFTLOCKUP_DETECTOR)',
    when: (objects) => BigInt.asUintN(32, register(objects, 'x0')) === TAINT_SOFTLOCKUP,
    begins: /BUG: soft lockup/,
  },
  {
    filter: 'hung-task',
    label: 'Hung task',
    description: 'Stops when a task has slept for kernel.hung_task_timeout_secs, and could not be interrupted.',
    default: false,
    functions: ['sched_show_task'],
    lacking: 'this kernel does not look for hung tasks (CONFIG_DETECT_HUNG_TASK)',
    when: (objects) => /^(watchdog|check_hung\w*|hung_task\w*)$/.test(callerFunction(objects)),
    begins: /INFO: task .* blocked/,
    task: (objects) => register(objects, 'x0'),
  },
];

/** Functions that a kernel has only if it can notice the trouble, where those that are stopped at tell nothing. */
const NEEDED: Readonly<Record<string, string>> = {
  lockdep: 'lock_acquire',
  'soft-lockup': 'watchdog_timer_fn',
  'hung-task': 'watchdog',
};

/** Where a kernel notices it; empty: it does not. */
export function troubleAddresses(trouble: Trouble, symbols: Symbolizer): bigint[] {
  const needed = NEEDED[trouble.filter];
  if (needed !== undefined && symbols.address(needed) === undefined) return [];
  for (const name of trouble.functions) {
    const address = symbols.named(name).find((s) => s.module === undefined)?.address;
    if (address !== undefined) return [address];
  }
  return [];
}

/** What has happened, as it is shown. */
export interface TroubleReport {
  trouble: Trouble;
  /** In one line. */
  title: string;
  /** The kernel's own text. */
  lines: string[];
  /** The exception that led there, in words. */
  exception: string[];
  /** The VP that it is about. */
  vp: number;
  /** The task that it is about, and its stack. */
  task: string[];
}

/** The kernel's text about it, out of its log. */
function logLines(objects: KernelObjects, begins: RegExp): string[] {
  const texts = (readLog(objects, LOG_LINES)?.records ?? []).flatMap((r) => r.text.split('\n'));
  const from = texts.findLastIndex((line) => begins.test(line));
  return from < 0 ? [] : texts.slice(from).filter((line) => line.trim() !== '');
}

/** A CPU that a report of RCU names as stalled: `rcu: \t1-....: (...)`. */
const STALLED = /^rcu:\s+(\d+)-\S*:? \(/;

/** Where an address is: its symbol, or what kind of address it is. */
function addressWords(kernel: GuestKernel, address: bigint): string {
  if (address < 4096n) return 'in the first page: a NULL pointer, or a member of what one points to';
  if (kernel.symbols.at(address)) return kernel.symbols.format(address);
  if (address >> 55n === 0x1ffn) return 'in the kernel, no symbol is near';
  if (address >> 55n === 0n) return 'a user space address';
  return 'not canonical: no address of the kernel or of user space';
}

/** ESR_EL1 and FAR_EL1 in words. */
export function exceptionWords(
  kernel: GuestKernel,
  vp: number,
  esr = kernel.machine.readRegister(vp, 'ESR_EL1') ?? 0n,
): string[] {
  const { title, fields, hasAddress } = describeEsr(esr);
  const far = kernel.machine.readRegister(vp, 'FAR_EL1') ?? 0n;
  const rows: [string, string][] = [
    ...fields,
    ...(hasAddress ? [['FAR_EL1', `${hex(far, 16)}, ${addressWords(kernel, far)}`] as [string, string]] : []),
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  return [title, ...rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`)];
}

/** What there is to say about it, at the first instruction of the function that noticed it. */
export function reportTrouble(trouble: Trouble, kernel: GuestKernel, vp: number): TroubleReport {
  const objects = new KernelObjects(kernel, vp);
  const logged = trouble.begins ? logLines(objects, trouble.begins) : [];
  const own = logged.length === 0 || trouble.begins === undefined ? trouble.text?.(objects) : undefined;
  const lines = own === undefined ? logged : [own, ...logged];
  const isCut = (line: string) => /\[ cut here \]|^=+$/.test(line);
  const title =
    (trouble.says && lines.find((line) => trouble.says?.test(line))) ?? lines.find((line) => !isCut(line)) ?? trouble.label;
  const stalled =
    trouble.filter === 'rcu-stall' ? lines.map((line) => STALLED.exec(line)?.[1]).find((n) => n !== undefined) : undefined;
  const about = stalled !== undefined && Number(stalled) < kernel.machine.vpCount ? Number(stalled) : vp;
  const task = trouble.task?.(objects);
  const shown = task === undefined ? undefined : taskAt(objects, task);
  return {
    trouble,
    title: title.trim(),
    lines,
    exception: trouble.isException ? exceptionWords(kernel, vp, trouble.esr?.(objects)) : [],
    vp: about,
    task:
      task === undefined || !shown
        ? []
        : [
            `${shown.comm} (${shown.pid}): ${shown.state}`,
            ...taskStack(objects, task).frames.map((f) => `  ${frameName(f, kernel.symbols)}`),
          ],
  };
}

/** Index of the frame that caused it: where the exception was taken, or the first that does not only tell it. */
export function causeFrame(trouble: Trouble, frames: readonly Frame[], kernel: GuestKernel): number {
  const nameAt = (frame: Frame): string => kernel.symbols.at(lookupPc(frame))?.symbol.name.replace(/\..*$/, '') ?? '';
  const taken = frames.findIndex((f) => f.kind === 'exception' || f.kind === 'user');
  const { tellers } = trouble;
  if (!tellers) return Math.max(0, taken);
  // A panic because of an oops is about what the oops is about.
  if (taken > 0 && frames.slice(0, taken).some((f) => nameAt(f) === 'die')) return taken;
  const first = frames.findIndex((f) => !tellers.test(nameAt(f)));
  return Math.max(0, first);
}
