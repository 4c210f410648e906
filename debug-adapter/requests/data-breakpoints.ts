/** Breakpoints on memory: any length, any number, by expression, variable or address. */
import type { DebugProtocol } from '@vscode/debugprotocol';
import { hex } from '../../emulator/base/bits.ts';
import { evaluateText, locateText } from '../expression/evaluate.ts';
import { ExpressionError } from '../expression/parse.ts';
import type { Session } from '../session.ts';
import { type DataBreakpoint, guard } from '../stops.ts';
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

/** Our data ids: address and size, so that they mean the same in the next session. */
const dataId = (address: bigint, size: number): string => `${hex(address)}+${size}`;
const DATA_ID = /^(0x[0-9a-f]{1,16})\+([1-9]\d{0,6})$/i;

/** What is said of something that no breakpoint can be on. */
const none = (description: string): DebugProtocol.DataBreakpointInfoResponse['body'] => ({ dataId: null, description });

export const dataBreakpoints = {
  dataBreakpointInfo(
    session: Session,
    args: DebugProtocol.DataBreakpointInfoArguments,
  ): DebugProtocol.DataBreakpointInfoResponse['body'] {
    const child =
      args.variablesReference === undefined
        ? undefined
        : session
            .source(args.variablesReference)
            .list()
            .find((v) => v.name === args.name);
    const text = args.variablesReference === undefined ? args.name : child?.evaluateName;
    if (!text) return none(`${args.name} has no address`);
    const { lookup } = scope(session, args.frameId);
    try {
      const value = args.asAddress ? evaluateText(text, lookup) : locateText(text, lookup);
      const address = args.asAddress ? value.value : value.address;
      const size = args.bytes ?? (args.asAddress ? 1 : sizeOf(value.type));
      if (address === undefined) return none(`${text} is not in memory`);
      if (size < 1 || size > MAX_SIZE) return none(`${text} has ${size} bytes: a breakpoint can be on 1 to ${MAX_SIZE}`);
      return {
        dataId: dataId(BigInt.asUintN(64, address), size),
        description: `${text} (${size} bytes at ${hex(address)})`,
        accessTypes: ['read', 'write', 'readWrite'],
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
      const m = DATA_ID.exec(b.dataId);
      const id = session.dataBreakpoints.nextId();
      const base = {
        id,
        text: b.dataId,
        address: m ? BigInt(m[1]) : 0n,
        size: m ? Number(m[2]) : 0,
        access: ACCESS[b.accessType ?? 'write'],
      };
      try {
        if (!m || base.size > MAX_SIZE || !base.access) throw new UserError(`"${b.dataId}" is not memory that can be watched`);
        return { ...base, ...guard(b) };
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
