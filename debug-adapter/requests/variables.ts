/** Scopes of a frame: registers by kind, and the hypercall that the guest is stopped at. */
import path from 'node:path';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { hex } from '../../emulator/base/bits.ts';
import type { RegisterInfo } from '../../emulator/index.ts';
import { addressText, callersOf, frameRegister, frameState, HV, machineContext } from '../context.ts';
import { fieldRows, valueText, vpRegistersView } from '../describe.ts';
import { evaluateText } from '../expression/evaluate.ts';
import type { Target } from '../expression/evaluate.ts';
import { frameVariables } from '../linux/types.ts';
import { type Frame, isUser } from '../linux/unwind.ts';
import type { CodeOrLine, Session, VariablePage, VariableSource } from '../session.ts';
import { withoutDamage } from '../symbols/byte-source.ts';
import type { FrameVariable } from '../types/frame.ts';
import { UserError } from '../user-error.ts';
import { InspectSource } from './inspect-source.ts';
import { setValue, shownVariable } from './value-source.ts';

const CORE = 'Core';
const SIMD = 'SIMD and FP';

/** Fields of PSTATE as SPSR_EL1 shows them (Arm ARM C5.2.18): name, highest bit, lowest bit. */
const PSTATE_FIELDS: readonly [string, number, number][] = [
  ['N', 31, 31],
  ['Z', 30, 30],
  ['C', 29, 29],
  ['V', 28, 28],
  ['DIT', 24, 24],
  ['UAO', 23, 23],
  ['PAN', 22, 22],
  ['SS', 21, 21],
  ['IL', 20, 20],
  ['SSBS', 12, 12],
  ['BTYPE', 11, 10],
  ['D', 9, 9],
  ['A', 8, 8],
  ['I', 7, 7],
  ['F', 6, 6],
  ['EL', 3, 2],
  ['SP', 0, 0],
];

/** `nZCv EL1h daIF` */
export function pstateText(pstate: bigint): string {
  const bit = (n: number) => (pstate >> BigInt(n)) & 1n;
  const letters = (names: string, top: number) =>
    [...names].map((c, i) => (bit(top - i) ? c.toUpperCase() : c.toLowerCase())).join('');
  const el = (pstate >> 2n) & 3n;
  return `${letters('NZCV', 31)} EL${el}${bit(0) ? 'h' : 't'} ${letters('DAIF', 9)}`;
}

const variable = (name: string, value: string, more: Partial<DebugProtocol.Variable> = {}): DebugProtocol.Variable => ({
  name,
  value,
  variablesReference: 0,
  ...more,
});
const readOnly = { presentationHint: { attributes: ['readOnly'] } };

/** Lanes of a vector register, by width of an element. */
const LANES: readonly [string, number, (view: DataView, at: number) => string][] = [
  ['16 x u8', 1, (v, at) => hex(v.getUint8(at), 2)],
  ['8 x u16', 2, (v, at) => hex(v.getUint16(at, true), 4)],
  ['4 x u32', 4, (v, at) => hex(v.getUint32(at, true), 8)],
  ['2 x u64', 8, (v, at) => hex(v.getBigUint64(at, true), 16)],
  ['4 x f32', 4, (v, at) => String(v.getFloat32(at, true))],
  ['2 x f64', 8, (v, at) => String(v.getFloat64(at, true))],
];

class Scopes {
  readonly #session: Session;
  readonly #vp: number;
  /** Undefined for the innermost frame: the VP's own registers. */
  readonly #frame: Frame | undefined;
  readonly #context: Target;
  readonly #variables: FrameVariable[];

  constructor(session: Session, vp: number, frame: Frame | undefined, depth = 0) {
    this.#session = session;
    this.#vp = vp;
    this.#frame = frame && frame.kind !== 'top' ? frame : undefined;
    const { kernel } = session.debuggee;
    const choice = { frame, depth, callers: callersOf(kernel, vp, frame) };
    this.#context = machineContext(kernel, vp, choice);
    this.#variables = frame && isUser(frame) ? [] : frameVariables(kernel, vp, frameState(kernel, vp, choice), !this.#frame);
  }

  #text(register: RegisterInfo, value: bigint): string {
    const { symbols } = this.#session.debuggee.kernel;
    if (register.group === CORE && register.width === 64) return addressText(value, symbols);
    return hex(value, register.width / 4);
  }

  /** Sets a register from an expression's text. */
  #set(name: string, text: string): string {
    const { machine } = this.#session.debuggee;
    const info = machine.registers().find((r) => r.name === name);
    const context = this.#context;
    const { value } = evaluateText(text, context);
    if (!info || !context.setRegister(name, BigInt.asUintN(info.width, value))) throw new UserError(`${name} cannot be written`);
    return this.#text(info, machine.readRegister(this.#vp, name) ?? 0n);
  }

  #register(info: RegisterInfo): DebugProtocol.Variable | undefined {
    const { machine } = this.#session.debuggee;
    const name = info.name;
    const value = this.#frame ? frameRegister(this.#frame, name.toLowerCase()) : machine.readRegister(this.#vp, name);
    if (value === undefined) return undefined;
    const isAddress = info.group === CORE && info.width === 64;
    const more: Partial<DebugProtocol.Variable> = {
      evaluateName: `$${name}`,
      ...(isAddress ? { memoryReference: hex(value) } : {}),
      ...(info.writable && !this.#frame ? {} : readOnly),
    };
    if (name.toLowerCase() === 'pstate') {
      const fields = {
        list: () =>
          PSTATE_FIELDS.map(([field, hi, lo]) =>
            variable(field, String((value >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n)), readOnly),
          ),
      };
      return variable(name, `${hex(value, 8)} ${pstateText(value)}`, {
        ...more,
        variablesReference: this.#session.reference(fields),
      });
    }
    if (info.group === SIMD && info.width === 128)
      return variable(name, hex(value, 32), { ...more, variablesReference: this.#session.reference(this.#lanes(name)) });
    return variable(name, this.#text(info, value), more);
  }

  #lanes(name: string): VariableSource {
    const { machine } = this.#session.debuggee;
    return {
      list: () => {
        const value = machine.readRegister(this.#vp, name) ?? 0n;
        const view = new DataView(new ArrayBuffer(16));
        view.setBigUint64(0, value & ((1n << 64n) - 1n), true);
        view.setBigUint64(8, value >> 64n, true);
        return LANES.map(([label, size, show]) =>
          variable(label, `[${Array.from({ length: 16 / size }, (_, i) => show(view, i * size)).join(', ')}]`, readOnly),
        );
      },
    };
  }

  #group(filter: (r: RegisterInfo) => boolean): VariableSource {
    const { machine } = this.#session.debuggee;
    return {
      list: () =>
        machine
          .registers()
          .filter(filter)
          .flatMap((r) => this.#register(r) ?? []),
      ...(this.#frame ? {} : { set: (name: string, text: string) => this.#set(name, text) }),
    };
  }

  /** System registers, a node per group. */
  #system(): VariableSource {
    const groups = [...new Set(this.#session.debuggee.machine.registers().map((r) => r.group))].filter(
      (g) => g !== CORE && g !== SIMD,
    );
    return {
      list: () =>
        groups.map((group) =>
          variable(group, '', { variablesReference: this.#session.reference(this.#group((r) => r.group === group)) }),
        ),
    };
  }

  #hyperv(): VariableSource {
    const { machine } = this.#session.debuggee;
    return {
      list: () =>
        vpRegistersView(machine, this.#vp).map((r) => {
          const decoded = { list: () => r.decoded.map((line, i) => variable(String(i), line, readOnly)) };
          const text = r.decoded.length ? `${r.value} ${r.decoded.join(', ')}` : r.value;
          const writable = machine.hypervRegisters().find((h) => h.name === r.name)?.writable;
          return variable(r.name, text, {
            evaluateName: `${HV}${r.name}`,
            ...(r.decoded.length > 1 ? { variablesReference: this.#session.reference(decoded) } : {}),
            ...(writable ? {} : readOnly),
          });
        }),
      set: (name, text) => {
        const { value } = evaluateText(text, this.#context);
        if (!machine.writeHypervRegister(this.#vp, name, BigInt.asUintN(128, value)))
          throw new UserError(`${name} cannot be written, or not with this value`);
        return hex(machine.readHypervRegister(this.#vp, name) ?? 0n, 16);
      },
    };
  }

  /** The hypercall that stopped the guest: call, input and, on return, status and output. */
  #call(): VariableSource | undefined {
    const exit = this.#session.stopAt?.exit;
    if (this.#frame || exit?.kind !== 'hypercall' || exit.vp !== this.#vp) return undefined;
    const { call } = exit;
    const rows = (fields: Readonly<Record<string, unknown>> | undefined) =>
      fieldRows(fields).map((r) => variable(r.name, valueText(r.value), readOnly));
    return {
      list: () => [
        variable('call', `${call.name} (${hex(call.code, 4)})`, readOnly),
        variable('control', hex(call.control, 16), readOnly),
        ...rows(call.input),
        ...(call.phase === 'return' ? [variable('status', String(call.statusName), readOnly), ...rows(call.output)] : []),
      ],
    };
  }

  /** Variables of one kind. An outer one that an inner block hides is there too, and cannot be named. */
  #ofKind(kind: FrameVariable['kind']): VariableSource | undefined {
    const all = this.#variables.filter((v) => v.kind === kind);
    if (all.length === 0) return undefined;
    const named = (v: FrameVariable): boolean => this.#variables.find((other) => other.name === v.name) === v;
    return {
      list: (page) =>
        all.map((v) => ({
          ...shownVariable(this.#session, this.#vp, v.name, v.value, {
            ...(named(v) ? { expression: v.name } : {}),
            context: this.#context,
            hex: page?.hex,
          }),
          ...(v.declaration ? { declarationLocationReference: this.#session.locationReference(v.declaration) } : {}),
        })),
      set: (name, text, inHex) => {
        const found = all.find((v) => v.name === name);
        if (!found) throw new UserError(`${name} cannot be changed`);
        return setValue(this.#session, this.#vp, found.value, text, this.#context, inHex);
      },
    };
  }

  list(): DebugProtocol.Scope[] {
    const scope = (name: string, source: VariableSource, expensive: boolean): DebugProtocol.Scope => ({
      name,
      variablesReference: this.#session.reference(source),
      expensive,
      ...(name === CORE ? { presentationHint: 'registers' } : {}),
    });
    const call = this.#call();
    const core = scope(
      CORE,
      this.#group((r) => r.group === CORE),
      false,
    );
    const own = (
      [
        ['Arguments', 'argument', { presentationHint: 'arguments' }],
        ['Locals', 'local', { presentationHint: 'locals' }],
        ['Statics', 'static', {}],
      ] as const
    ).flatMap(([name, kind, hint]) => {
      const source = this.#ofKind(kind);
      return source ? [{ ...scope(name, source, false), ...hint }] : [];
    });
    // Callers have the registers that the stack tells; the rest belongs to the VP.
    if (this.#frame) return [...own, core];
    return [
      ...own,
      ...(call ? [scope('Hypercall', call, false)] : []),
      core,
      scope('System', this.#system(), true),
      scope(
        SIMD,
        this.#group((r) => r.group === SIMD),
        true,
      ),
      scope('Hyper-V VP Registers', this.#hyperv(), true),
      scope('Machine', new InspectSource(this.#session, this.#context), true),
    ];
  }
}

/** Where something is, as the client can open it: a line of a source file that is here, or the listing of code. */
function shownLocation(session: Session, place: CodeOrLine): DebugProtocol.LocationsResponse['body'] {
  const { kernel, files, sources } = session.debuggee;
  if (typeof place !== 'bigint') {
    const local = sources.local(place.file);
    if (!local) throw new UserError(`${place.file}:${place.line} is not in a folder of "sourceMap" in launch.json`);
    return { source: { name: path.basename(local), path: local }, line: place.line, column: 1 };
  }
  const at = files.at(place);
  const line = at && withoutDamage(() => at.symbols.info.lineAt(at.address), undefined);
  const local = line && line.line > 0 ? sources.local(line.path) : undefined;
  if (line && local)
    return { source: { name: path.basename(local), path: local }, line: line.line, column: Math.max(line.column, 1) };
  const { listing, line: listed } = session.listings.at(place, kernel.symbols);
  const source = { name: listing.name, path: listing.name, sourceReference: listing.id, origin: 'disassembly' };
  return { source, line: listed, column: 1 };
}

export const variables = {
  scopes(session: Session, args: DebugProtocol.ScopesArguments): DebugProtocol.ScopesResponse['body'] {
    session.needStopped();
    const { vp, frame, depth } = session.frame(args.frameId);
    return { scopes: new Scopes(session, vp, frame, depth).list() };
  },

  variables(session: Session, args: DebugProtocol.VariablesArguments): DebugProtocol.VariablesResponse['body'] {
    session.needStopped();
    const source = session.source(args.variablesReference);
    const { filter, start = 0, count } = args;
    const page: VariablePage = { filter, start, count, hex: args.format?.hex };
    const all = source.list(page);
    return { variables: source.paged ? all : all.slice(start, count ? start + count : undefined) };
  },

  setVariable(session: Session, args: DebugProtocol.SetVariableArguments): DebugProtocol.SetVariableResponse['body'] {
    session.needStopped();
    const source = session.source(args.variablesReference);
    if (!source.set) throw new UserError(`${args.name} cannot be changed`);
    return { value: source.set(args.name, args.value, args.format?.hex) };
  },

  locations(session: Session, args: DebugProtocol.LocationsArguments): DebugProtocol.LocationsResponse['body'] {
    session.needStopped();
    return shownLocation(session, session.location(args.locationReference));
  },
};
