/**
 * What the user reads about the machine, in one place: views of the editor and the words of the command line are made from
 * the same functions. `...View` gives data for a tree, `describe...` gives lines of text.
 */
import { hex } from '../emulator/base/bits.ts';
import type { PlainValue } from '../emulator/base/inspect.ts';
import {
  describeFrame,
  describeVpRegister,
  type Exit,
  FEATURE_WORDS,
  type FeatureField,
  type HypercallInfo,
  type Inspect,
  type Machine,
  type TraceEvent,
} from '../emulator/index.ts';
import { callerName, stackOf } from './linux/callers.ts';
import type { GuestKernel } from './linux/kernel.ts';
import { readMsHyperv } from './linux/ms-hyperv.ts';
import { type Frame, frameName } from './linux/unwind.ts';
import type { FeatureWord, VpRegister } from './protocol.ts';
import type { Symbolizer } from './symbols/symbolizer.ts';

// --- values ---------------------------------------------------------------------------------------------------------------

const MAX_BYTES = 64;
/** More zero bytes than this at the end are counted, not shown: what is not used of a fixed-size field. */
const MAX_ZEROS = 8;

/** A field's value in one line. */
export function valueText(value: unknown): string {
  if (typeof value === 'number') return value > 9 && Number.isInteger(value) ? `${value} (${hex(value)})` : `${value}`;
  if (typeof value === 'bigint') return hex(value);
  if (value instanceof Uint8Array) {
    const used = value.findLastIndex((b) => b !== 0) + 1;
    const zeros = value.length - used > MAX_ZEROS ? value.length - used : 0;
    const shown = value.subarray(0, Math.min(MAX_BYTES, value.length - zeros));
    const text = Array.from(shown, (b) => b.toString(16).padStart(2, '0')).join(' ');
    if (shown.length === value.length) return text;
    return shown.length + zeros < value.length
      ? `${text} ... (${value.length} bytes)`
      : `${text}${text && ', '}${zeros} zero bytes`;
  }
  if (Array.isArray(value)) return value.length ? value.map(valueText).join(', ') : '(none)';
  if (typeof value === 'object' && value !== null)
    return Object.entries(value)
      .map(([k, v]) => `${k}=${valueText(v)}`)
      .join(' ');
  return String(value);
}

/** Fields by their dotted names, one row each; padding is left out. */
export function fieldRows(
  fields: Readonly<Record<string, unknown>> | undefined,
  prefix = '',
): { name: string; value: unknown }[] {
  const rows: { name: string; value: unknown }[] = [];
  for (const [key, value] of Object.entries(fields ?? {})) {
    if (/^(Padding|RsvdZ|Reserved)\d*$/.test(key)) continue;
    const name = prefix + key;
    const isList = Array.isArray(value) && value.some((v) => typeof v === 'object' && v !== null && !(v instanceof Uint8Array));
    if (isList)
      for (const [i, item] of (value as Record<string, unknown>[]).entries()) rows.push(...fieldRows(item, `${name}[${i}].`));
    else if (typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array))
      rows.push(...fieldRows(value as Record<string, unknown>, `${name}.`));
    else rows.push({ name, value });
  }
  return rows;
}

/** `Name: value` lines. */
export const fieldLines = (fields: Readonly<Record<string, unknown>> | undefined): string[] =>
  fieldRows(fields).map(({ name, value }) => `${name}: ${valueText(value)}`);

/** Two columns. */
const table = (rows: readonly (readonly [string, string])[], indent: string): string[] => {
  const width = Math.max(0, ...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `${indent}${name.padEnd(width)}  ${text}`);
};

// --- hypercalls -----------------------------------------------------------------------------------------------------------

const CONDUIT = { smccc: 'HVC #0 (SMCCC)', raw: 'HVC #1 (raw)' };

/** `HvCallPostMessage from vmbus_post_msg+0x48`, and the status on return. */
export function hypercallTitle(call: HypercallInfo, caller: string): string {
  return `${call.name} from ${caller}${call.phase === 'return' ? ` returned ${call.statusName}` : ''}`;
}

/** A hypercall field by field. */
export function describeHypercall(call: HypercallInfo, caller: string): string[] {
  const rows: [string, string][] = [
    ['from', caller],
    ['call code', hex(call.code, 4)],
    ['conduit', `${CONDUIT[call.conduit]}, ${call.fast ? 'fast: input in registers' : 'input in memory'}`],
    ['control', hex(call.control, 16)],
  ];
  if (call.repCount > 0) rows.push(['reps', `${call.repCount}, from ${call.repStart}`]);
  for (const { name, value } of fieldRows(call.input)) rows.push([`in  ${name}`, valueText(value)]);
  if (call.phase === 'return') {
    rows.push(['status', `${call.statusName} (${hex(call.status ?? 0)})`]);
    if (call.repCount > 0) rows.push(['reps completed', String(call.repsCompleted)]);
    for (const { name, value } of fieldRows(call.output)) rows.push([`out ${name}`, valueText(value)]);
  }
  return [`${call.name}, ${call.phase === 'entry' ? 'on entry' : 'on return'}, VP ${call.vp}`, ...table(rows, '  ')];
}

// --- stacks ---------------------------------------------------------------------------------------------------------------

/** One line per frame. */
export function describeStack(frames: readonly Frame[], symbols: Symbolizer): string[] {
  const note: Record<Frame['kind'], string> = {
    top: '',
    call: '',
    exception: '   <- exception taken here',
    user: '   <- user space',
    'user call': '   <- user space',
  };
  return frames.map(
    (frame, i) => `  #${String(i).padEnd(2)} ${hex(frame.pc, 16)}  ${frameName(frame, symbols)}${note[frame.kind]}`,
  );
}

// --- VP registers ---------------------------------------------------------------------------------------------------------

/** Architectural registers by their Hyper-V names are the Core and System scopes again. */
const synthetic = (name: string) => !name.startsWith('HvArm64');

/** The VP's Hyper-V registers. */
export function vpRegistersView(machine: Machine, vp: number): VpRegister[] {
  return machine
    .hypervRegisters()
    .filter((r) => synthetic(r.name))
    .map(({ name, number }) => {
      const value = machine.readHypervRegister(vp, name) ?? 0n;
      return { name, number, value: hex(value, value >> 64n ? 32 : 16), decoded: describeVpRegister(name, value) };
    });
}

/** Longer lists of facts are shown elsewhere (feature bits have their own table). */
const MAX_FACTS = 4;
/** A masked SINT without a vector: its reset value (reference hyperv-arm64.md §6.1). */
const SINT_RESET = 0x1_0000n;

/** Registers that say something: those that are zero or as after reset are counted only. */
export function describeVpRegisters(machine: Machine, vp: number): string[] {
  const all = vpRegistersView(machine, vp);
  const shown = all.filter(
    (r) => BigInt(r.value) !== 0n && !(r.name.startsWith('HvRegisterSint') && BigInt(r.value) === SINT_RESET),
  );
  const rows = shown.map((r): [string, string] => [
    `${hex(r.number, 5)} ${r.name}`,
    [r.value, ...(r.decoded.length <= MAX_FACTS ? r.decoded : [`${r.decoded.length} bits set`])].join('  '),
  ]);
  return [
    `VP ${vp}: ${all.length} Hyper-V registers, of which ${all.length - shown.length} are zero or as after reset`,
    ...table(rows, '  '),
  ];
}

// --- features -------------------------------------------------------------------------------------------------------------

/** The four feature words as the host's registers hold them. */
export function hostFeatures(machine: Machine, vp: number): Record<FeatureField, number> {
  const word = (row: (typeof FEATURE_WORDS)[number]) =>
    Number(((machine.readHypervRegister(vp, row.register) ?? 0n) >> BigInt(32 * row.dword)) & 0xffff_ffffn);
  return Object.fromEntries(FEATURE_WORDS.map((row) => [row.field, word(row)])) as Record<FeatureField, number>;
}

/** Host's registers and the guest's own `ms_hyperv`, bit by bit. */
export function featuresView(machine: Machine, kernel: GuestKernel, vp = 0): { words: FeatureWord[]; guestStruct?: string } {
  const host = hostFeatures(machine, vp);
  const guest = readMsHyperv(kernel, vp, host);
  const words = FEATURE_WORDS.map((row): FeatureWord => {
    const value = host[row.field];
    const named = new Set(Object.values(row.bits));
    const bits = Object.entries(row.bits).map(([name, bit]) => ({ name, bit, set: ((value >>> bit) & 1) === 1 }));
    for (let bit = 0; bit < 32; bit++)
      if ((value >>> bit) & 1 && !named.has(bit)) bits.push({ name: `bit ${bit}`, bit, set: true });
    return {
      field: row.field,
      source: `${row.register}[${32 * row.dword + 31}:${32 * row.dword}]`,
      host: hex(value, 8),
      ...(guest ? { guest: hex(guest.words[row.field], 8) } : {}),
      bits: bits.sort((a, b) => a.bit - b.bit),
    };
  });
  return { words, ...(guest ? { guestStruct: `ms_hyperv at ${hex(guest.address, 16)}` } : {}) };
}

/** The same in lines. */
export function describeFeatures(machine: Machine, kernel: GuestKernel, vp = 0): string[] {
  const { words, guestStruct } = featuresView(machine, kernel, vp);
  const filled = words.some((word) => word.guest !== undefined && Number(word.guest) !== 0);
  const mark = (set: boolean) => (set ? '[x]' : '[ ]');
  const lines = [
    !guestStruct
      ? "The guest's ms_hyperv was not found; the host's registers"
      : filled
        ? `The host's registers (left) and the guest's ${guestStruct} (right)`
        : `The host's registers; the guest's ${guestStruct} is not filled yet`,
  ];
  for (const word of words) {
    const guest = filled && word.guest !== undefined ? Number(word.guest) : undefined;
    const agrees = guest === undefined || guest === Number(word.host) ? '' : ' (differs)';
    lines.push(`  ${word.field.padEnd(13)} ${word.host}${guest === undefined ? '' : `  ${word.guest}${agrees}`}  ${word.source}`);
    for (const { bit, name, set } of word.bits) {
      const right = guest === undefined ? '' : ` ${mark(((guest >>> bit) & 1) === 1)}`;
      lines.push(`    ${mark(set)}${right} ${String(bit).padStart(2)} ${name}`);
    }
  }
  return lines;
}

/** A part's inspect tree as lines. */
export function inspectLines(tree: Inspect, indent = ''): string[] {
  const lines = (name: string, value: PlainValue): string[] =>
    typeof value === 'object' && !(value instanceof Uint8Array)
      ? [`${indent}${name}`, ...inspectLines(value, `${indent}  `)]
      : [`${indent}${name}: ${valueText(value)}`];
  return Object.entries(tree).flatMap(([name, value]) =>
    Array.isArray(value) ? value.flatMap((item, i) => lines(`${name}[${i}]`, item)) : lines(name, value),
  );
}

// --- stops and events -----------------------------------------------------------------------------------------------------

/** Where the part of a kernel's log begins that tells of a crash. */
const CRASH_START = /Internal error|Unable to handle kernel|Kernel panic|BUG: |Oops/;
const CRASH_LINES = 40;

/** The end of a crash message: registers and call trace, not the whole log of a kernel. */
export function crashReport(message: string): string[] {
  const lines = message.trimEnd().split('\n');
  return lines.slice(
    Math.max(
      0,
      lines.length - CRASH_LINES,
      lines.findIndex((line) => CRASH_START.test(line)),
    ),
  );
}

/** What happened, in one line: Linux sends its whole log as the message, and the reason is in its last panic line. */
function crashTitle({ message, parameters }: { message: string; parameters: readonly bigint[] }): string {
  const lines = message.split('\n').filter((line) => line.trim() !== '');
  const line = lines.findLast((l) => l.includes('Kernel panic')) ?? lines.at(-1);
  return line?.replace(/^\[ *\d+\.\d+\] /, '').trim() ?? parameters.map((p) => hex(p)).join(', ');
}

/** The host that the guest sees, and what its timers wait for. */
export function describePlatform(machine: Machine): string[] {
  const { name, title, discovery, conduits, ppi, vpIndex, vmbusVersion, timer, timers, hypervisor } = machine.platform();
  const words = (list: readonly string[]): string => list.join(', ') || 'none';
  return [
    `platform ${name}: ${title}`,
    ...(hypervisor
      ? [
          `  found by ${words(discovery)}; hypercalls by ${words(conduits)}; VMBus up to ${vmbusVersion}`,
          `  VP indices ${vpIndex.join(', ')}`,
        ]
      : []),
    `  PPIs ${Object.entries(ppi)
      .map(([of, intid]) => `${of} ${intid}`)
      .join(', ')}`,
    `  timer interrupts ${timer === 'silent' ? 'are never delivered' : 'are delivered'}`,
    ...timers
      .filter((t) => t.enabled)
      .map(
        (t) =>
          `  VP ${t.vp} ${t.timer} timer: enabled${t.masked ? ', masked' : ''}, ${t.expired ? 'expired' : 'not expired'}, INTID ${t.intid} ${t.interrupt}`,
      ),
  ];
}

/** Why a guest that waits will not be woken: timers that have expired and whose interrupts never come. */
export const lostInterrupts = (machine: Machine): string[] =>
  machine
    .platform()
    .timers.filter((t) => t.enabled && !t.masked && t.expired && t.interrupt === 'never delivered by this host')
    .map((t) => `VP ${t.vp}: its ${t.timer} timer has expired; this host never delivers INTID ${t.intid}`);

/** What has stopped the guest, in one line. */
export function exitTitle(exit: Exit, kernel: GuestKernel): string {
  switch (exit.kind) {
    case 'hypercall':
      return hypercallTitle(exit.call, callerName(stackOf(kernel, exit.vp), kernel.symbols));
    case 'breakpoint':
      return `breakpoint at ${kernel.symbols.format(exit.pc)}`;
    case 'watchpoint':
      return `${exit.access === 'r' ? 'read' : 'write'} of ${kernel.symbols.format(exit.address)} by ${kernel.symbols.format(exit.pc)}`;
    case 'crash':
      return `guest crash: ${crashTitle(exit)}`;
    case 'step':
      return 'step';
    case 'limit':
      return 'instruction limit';
    case 'console':
      return 'the text is on the console';
    case 'power-off':
      return 'the guest powered off';
    case 'reset':
      return 'the guest asked for a reset';
    case 'halted':
      return 'the guest waits and nothing but input will wake it';
  }
}

/** All there is to say at a stop: the call decoded, the stack, the VP's registers, what the guest knows of its host. */
export function describeStop(machine: Machine, kernel: GuestKernel, exit: Exit): string[] {
  const vp = 'vp' in exit ? exit.vp : 0;
  kernel.refreshModules(vp);
  const frames = stackOf(kernel, vp);
  const lines =
    exit.kind === 'hypercall' ? describeHypercall(exit.call, callerName(frames, kernel.symbols)) : [exitTitle(exit, kernel)];
  if (exit.kind === 'crash') {
    for (const [i, p] of exit.parameters.entries()) lines.push(`  HvRegisterGuestCrashP${i}  ${hex(p, 16)}`);
    lines.push(`  HvRegisterGuestCrashCtl ${hex(exit.control, 16)}`);
    const report = crashReport(exit.message);
    if (report.length > 1) lines.push('', "The end of the guest's message", ...report.map((line) => `  ${line}`));
  }
  lines.push('', 'Call stack', ...describeStack(frames, kernel.symbols));
  lines.push('', ...describeVpRegisters(machine, vp));
  lines.push('', ...describeFeatures(machine, kernel, vp));
  return lines;
}

/** Virtual time as seconds. */
export const secondsText = (ns: number): string => (ns / 1e9).toFixed(9);

/** Frames to look at for the caller of a hypercall: enough to get past the wrappers. */
export const CALLER_FRAMES = 6;

const argument = (value: unknown): string =>
  typeof value === 'number' ? (value > 9 ? hex(value) : String(value)) : valueText(value);
const colons = (fields: Readonly<Record<string, unknown>>): string =>
  fieldRows(fields)
    .map((r) => `${r.name}: ${valueText(r.value)}`)
    .join(' ');

/**
 * One line of a trace, in the form that the trace grammar colours. With `kernel`, called while the event is emitted, a
 * hypercall's caller is looked up on the stack, behind the kernel's wrappers.
 */
export function describeTraceEvent(event: TraceEvent, now: number, symbols: Symbolizer, kernel?: GuestKernel): string {
  const text = ((): string => {
    switch (event.kind) {
      case 'hypercall': {
        const caller = kernel ? callerName(stackOf(kernel, event.vp, CALLER_FRAMES), symbols) : symbols.format(event.pc);
        const input = fieldRows(event.input)
          .map((r) => `${r.name}=${argument(r.value)}`)
          .join(', ');
        const output = fieldRows(event.output)
          .map((r) => `${r.name}=${argument(r.value)}`)
          .join(', ');
        return `VP ${event.vp} ${event.name}(${input}) -> ${event.statusName}${output ? ` {${output}}` : ''} from ${caller}`;
      }
      case 'vp-register':
        return `VP ${event.vp} ${event.name} ${event.access === 'read' ? '->' : '<-'} ${hex(event.value)}`;
      case 'psci':
      case 'smccc':
        return `VP ${event.vp} ${event.name}(${event.args.map((a) => hex(a)).join(', ')}) -> ${hex(event.result)} by ${event.conduit} from ${symbols.format(event.pc)}`;
      case 'message':
        return `${event.direction === 'guest-to-host' ? '<-' : '->'} ${event.name} ${colons(event.fields)}`;
      case 'channel':
        return `relid ${event.relid} ${event.device}: ${event.what}`;
      case 'packet':
        return `${event.direction === 'guest-to-host' ? '<-' : '->'} relid ${event.relid} ${event.device}: ${event.what}, ${event.bytes} bytes`;
      case 'frame':
        return `${event.direction === 'guest-to-host' ? '<-' : '->'} ${describeFrame(event.frame)}`;
      case 'signal':
        return `${event.direction === 'guest-to-host' ? '<-' : '->'} ${event.vp === undefined ? '' : `VP ${event.vp} `}relid ${event.flag} by ${event.how}`;
      case 'timer':
        return `VP ${event.vp} ${event.timer} ${event.what}`;
      case 'fault': {
        const far = event.far === undefined ? '' : ` FAR_EL1 ${hex(event.far)}`;
        return `VP ${event.vp} ${event.exception} ESR_EL1 ${hex(event.esr, 8)}${far} at ${symbols.format(event.pc)}`;
      }
      case 'synic':
        return `VP ${event.vp} SINT${event.sint}: ${event.what}`;
      case 'interrupt':
        return `VP ${event.vp} INTID ${event.intid}`;
      case 'mmio':
        return `${event.device} ${event.access} ${hex(event.gpa)} (${event.size} bytes) ${event.access === 'read' ? '->' : '<-'} ${hex(event.value)}`;
      case 'undefined':
        return `VP ${event.vp} ${hex(event.word, 8)} ${event.text} at ${symbols.format(event.pc)}`;
      case 'service':
        return `${event.service}: ${event.message}${event.ok ? '' : ' (failed)'}`;
      case 'guest':
        return `${event.part}: ${event.message}`;
      case 'crash':
        return `VP ${event.vp} ${event.parameters.map((p) => hex(p)).join(', ')}${event.message ? ` ${crashTitle(event)}` : ''}`;
    }
  })();
  return `${secondsText(now)} ${event.kind} ${text}`.trimEnd();
}
