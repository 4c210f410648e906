/** The guest crash registers of the partition (reference hyperv-arm64.md §10.1). */
import type { HypervisorHost } from './host.ts';
import { HV_PAGE } from './tlfs.ts';

export const CRASH_PARAMETERS = 5;

const NOTIFY = 1n << 63n;
const MESSAGE = 1n << 62n;
const NO_CRASH_DUMP = 1n << 61n;

/** What HvRegisterGuestCrashCtl reads as: what the host understands. */
export const CRASH_CAPABILITIES = NOTIFY | MESSAGE;

export interface CrashState {
  parameters: bigint[];
  /** The last report, and whether the machine has taken it. */
  reported: boolean;
  vp: number;
  control: bigint;
  message: string;
}

/** A crash as the machine reports it. */
export interface CrashReport {
  vp: number;
  parameters: bigint[];
  control: bigint;
  message: string;
}

export const crashReset = (): CrashState => ({
  parameters: new Array(CRASH_PARAMETERS).fill(0n),
  reported: false,
  vp: 0,
  control: 0n,
  message: '',
});

/** A write of HvRegisterGuestCrashCtl. The guest goes on afterwards: it may want to dump or reboot. */
export function writeCrashControl(host: HypervisorHost, state: CrashState, vp: number, value: bigint): void {
  if (!(value & NOTIFY)) return;
  state.reported = true;
  state.vp = vp;
  state.control = value;
  state.message = value & MESSAGE ? messageText(host, state.parameters[3], state.parameters[4]) : '';
  host.trace.emit({ kind: 'crash', vp, parameters: state.parameters.slice(), control: value, message: state.message });
}

/** The tail of the guest's log: P3 is its GPA, P4 its length. */
function messageText(host: HypervisorHost, gpa: bigint, length: bigint): string {
  const size = length > BigInt(HV_PAGE) ? HV_PAGE : Number(length);
  if (gpa === 0n || size === 0) return '';
  if (gpa > BigInt(host.ram.size) || !host.ram.contains(Number(gpa), size)) {
    host.trace.emit({ kind: 'guest', part: 'crash', message: `crash message at 0x${gpa.toString(16)} is not in RAM` });
    return '';
  }
  let text = '';
  for (const byte of host.ram.read(Number(gpa), size)) text += String.fromCharCode(byte);
  return text.replace(/\0+$/, '');
}

/** The control word for people. */
export function describeCrashControl(value: bigint): string[] {
  const out: string[] = [];
  if (value & NOTIFY) out.push('crash notify');
  if (value & MESSAGE) out.push('crash message');
  if (value & NO_CRASH_DUMP) out.push('no crash dump');
  const preOs = (value >> 58n) & 7n;
  if (preOs) out.push(`pre-OS id ${preOs}`);
  return out;
}
