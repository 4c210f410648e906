/** Breakpoints on memory: any length, any number, by expression, variable or address. */
import type { DebugProtocol } from '@vscode/debugprotocol';
import { hex } from '../../emulator/base/bits.ts';
import { findRegister, HV } from '../context.ts';
import { evaluateText, locateText } from '../expression/evaluate.ts';
import { ExpressionError } from '../expression/parse.ts';
import type { Session } from '../session.ts';
import { bytesUnder, type DataBreakpoint, guard } from '../stops.ts';
import { sizeOf } from '../types/model.ts';
import { ValueError } from '../types/value.ts';
import { UserError } from '../user-error.ts';
import { scope } from './evaluate.ts';

/** A larger stretch would slow down every access near it. */
const MAX_SIZE = 1 << 20;
const ACCESS: Readonly<Record<DebugProtocol.DataBreakpointAccessType, DataBreakpoint['access']>> = {
  read: 'r',
  write: 'w',
  readWrite: 'rw',
};

/**
 * Our data ids, which mean the same in the next session: `0xADDRESS+SIZE` in virtual memory, `gpa:0xADDRESS+SIZE` in physical memory,
 * `TTBR1_EL1` or `hv.HvRegisterVpIndex` a register; `!change` at the end: only writes that change it.
 */
const DATA_ID = /^(gpa:)?(0x[0-9a-f]{1,16})\+([1-9]\d{0,6})(!change)?$/i;
const REGISTER_ID = /^((?:hv\.)?[a-z]\w*)(!change)?$/i;
/** A physical address as a person writes it where an address is asked for. */
const PHYSICAL = /^\s*gpa:\s*/i;

/** How breakpoints on data can be meant: DAP's breakpoint modes. */
export const DATA_MODES: DebugProtocol.BreakpointMode[] = [
  { mode: 'access', label: 'Every access', description: 'Also a write of what is there already.', appliesTo: ['data'] },
  { mode: 'change', label: 'Changes', description: 'Writes of another value than the one that is there.', appliesTo: ['data'] },
  {
    mode: 'physical',
    label: 'By physical address',
    description: 'Accesses of VPs to the same memory, whatever its virtual address.',
    appliesTo: ['data'],
  },
];

/** What is said of something that no breakpoint can be on. */
const none = (description: string): DebugProtocol.DataBreakpointInfoResponse['body'] => ({ dataId: null, description });

/** Data of a register that can be watched; undefined: `text` names none. Throws UserError. */
function registerInfo(
  session: Session,
  text: string,
  change: string,
): DebugProtocol.DataBreakpointInfoResponse['body'] | undefined {
  const { machine } = session.debuggee;
  const id = (name: string): DebugProtocol.DataBreakpointInfoResponse['body'] => ({
    dataId: `${name}${change}`,
    description: `${name} (${change ? 'changes of the register' : 'accesses to the register'} by the guest)`,
    accessTypes: change ? ['write'] : ['read', 'write', 'readWrite'],
    canPersist: true,
  });
  if (text.startsWith(HV)) {
    const name = text.slice(HV.length);
    return machine.hypervRegisters().some((r) => r.name === name) ? id(text) : undefined;
  }
  if (!text.startsWith('$')) return undefined;
  const found = findRegister(machine, text.slice(1));
  if (!found) return undefined;
  if (found.info.group === 'Core' || found.info.group === 'SIMD and FP')
    throw new UserError(
      `${text} is used by nearly every instruction: breakpoints can be on system registers, and on hv. registers`,
    );
  return id(found.info.name);
}

export const dataBreakpoints = {
  dataBreakpointInfo(
    session: Session,
    args: DebugProtocol.DataBreakpointInfoArguments,
  ): DebugProtocol.DataBreakpointInfoResponse['body'] {
    const { mode, variablesReference } = args;
    const child =
      variablesReference === undefined
        ? undefined
        : session
            .source(variablesReference)
            .list()
            .find((v) => v.name === args.name);
    const text = variablesReference === undefined ? args.name.trim() : child?.evaluateName;
    if (!text) return none(`${args.name} has no address`);
    const { vp, lookup } = scope(session, args.frameId);
    const change = mode === 'change' ? '!change' : '';
    try {
      const register = args.asAddress ? undefined : registerInfo(session, text, change);
      if (register) return register;
      const named = PHYSICAL.test(text);
      const asAddress = args.asAddress || named;
      const value = asAddress ? evaluateText(text.replace(PHYSICAL, ''), lookup) : locateText(text, lookup);
      const told = asAddress ? value.value : value.address;
      const size = args.bytes ?? (asAddress ? 1 : sizeOf(value.type));
      if (told === undefined) return none(`${text} is not in memory`);
      if (size < 1 || size > MAX_SIZE) return none(`${text} has ${size} bytes: a breakpoint can be on 1 to ${MAX_SIZE}`);
      const physical = named || mode === 'physical';
      const { machine } = session.debuggee;
      const gpa = physical && !named ? machine.translate(vp, told) : undefined;
      if (physical && !named && gpa === undefined) return none(`${text} is not mapped: it has no physical address`);
      const address = hex(BigInt.asUintN(64, gpa === undefined ? told : BigInt(gpa)));
      return {
        dataId: `${physical ? 'gpa:' : ''}${address}+${size}${change}`,
        description: `${text} (${size} bytes at ${physical ? 'the physical address ' : ''}${address})`,
        accessTypes: change ? ['write'] : ['read', 'write', 'readWrite'],
        canPersist: false,
      };
    } catch (e) {
      if (e instanceof ExpressionError || e instanceof ValueError || e instanceof UserError) return none(e.message);
      throw e;
    }
  },

  setDataBreakpoints(
    session: Session,
    args: DebugProtocol.SetDataBreakpointsArguments,
  ): DebugProtocol.SetDataBreakpointsResponse['body'] {
    const made = args.breakpoints.map((b): DataBreakpoint => {
      const id = session.dataBreakpoints.nextId();
      const base = { id, text: b.dataId, address: 0n, size: 0, access: ACCESS[b.accessType ?? 'write'] };
      try {
        return { ...base, ...placeOf(session, b), ...guard(b) };
      } catch (e) {
        if (!(e instanceof UserError)) throw e;
        return { ...base, hits: 0, problem: e.message };
      }
    });
    session.dataBreakpoints.set(made);
    session.resolveBreakpoints();
    return {
      breakpoints: made.map((b) => ({ id: b.id, verified: !b.problem, ...(b.problem ? { message: b.problem } : {}) })),
    };
  },
};

/** What a data id means. Throws UserError. */
function placeOf(session: Session, b: DebugProtocol.DataBreakpoint): Partial<DataBreakpoint> {
  const access = ACCESS[b.accessType ?? 'write'];
  if (!access) throw new UserError(`"${b.accessType}" is no kind of access: read, write or readWrite`);
  const m = DATA_ID.exec(b.dataId);
  if (m && Number(m[3]) <= MAX_SIZE) {
    const place = { address: BigInt(m[2]), size: Number(m[3]), access, ...(m[1] ? { physical: true } : {}) };
    if (!m[4]) return place;
    const made = { ...place, id: 0, text: '', hits: 0, change: true };
    return { ...place, change: true, before: bytesUnder(made, session.debuggee.machine, session.stopAt?.vp ?? 0) };
  }
  const r = m ? null : REGISTER_ID.exec(b.dataId);
  const name = r && registerInfo(session, r[1].startsWith(HV) ? r[1] : `$${r[1]}`, '')?.dataId;
  if (!name) throw new UserError(`"${b.dataId}" is not something that can be watched`);
  return { register: name, access, ...(r[2] ? { change: true } : {}) };
}
