/** All architectural registers of a VP by name, for debuggers and HvCallGet/SetVpRegisters: one table over vp-state and sysregs. */
import type { RegisterInfo } from '../index.ts';
import { removeTag } from './exceptions.ts';
import type { Feature } from './features.ts';
import {
  readSystemRegister,
  refresh,
  SYSREGS,
  type SysregContext,
  type SystemRegister,
  setMode,
  systemRegister,
  writeSystemRegister,
} from './sysregs.ts';
import { PSTATE, VP, type VpState } from './vp-state.ts';

interface NamedRegister {
  info: RegisterInfo;
  read(vp: VpState): bigint;
  /** Left out: read-only. */
  write?(vp: VpState, value: bigint): void;
}

/** Names in other spellings: ABI names, and those of the AArch64 state as debuggers call it. */
const ALIASES: Record<string, string> = { fp: 'x29', lr: 'x30', cpsr: 'pstate' };

export class Registers {
  readonly list: readonly RegisterInfo[];
  readonly #byName = new Map<string, NamedRegister>();

  /** `changed`: called after a write that may change how memory is seen. */
  constructor(ctx: SysregContext, features: ReadonlySet<Feature>, changed: (vp: VpState) => void) {
    const add = (
      name: string,
      group: string,
      width: number,
      read: NamedRegister['read'],
      write?: NamedRegister['write'],
    ): void => {
      this.#byName.set(name.toLowerCase(), { info: { name, group, width, writable: write !== undefined }, read, write });
    };
    for (let n = 0; n < 31; n++)
      add(
        `x${n}`,
        'Core',
        64,
        (vp) => vp.x(n),
        (vp, v) => vp.setX(n, v),
      );
    add(
      'sp',
      'Core',
      64,
      (vp) => vp.sp,
      (vp, v) => {
        vp.sp = v;
      },
    );
    add(
      'pc',
      'Core',
      64,
      (vp) => vp.pc,
      (vp, v) => {
        vp.pc = v;
        removeTag(vp);
      },
    );
    add(
      'pstate',
      'Core',
      32,
      (vp) => BigInt(vp.pstate),
      (vp, v) => {
        const bits = Number(BigInt.asUintN(32, v));
        vp.nzcv = bits;
        vp.setU32(VP.PSTATE, (bits & ~0xf0000000 & ~PSTATE.M) | (vp.u32(VP.PSTATE) & PSTATE.M));
        // The stack pointers move with the mode; a mode that EL1 and EL0 do not have is left out.
        setMode(vp, legalMode(bits & PSTATE.M) ? bits & PSTATE.M : vp.u32(VP.PSTATE) & PSTATE.M);
        refresh(vp);
        changed(vp);
      },
    );
    for (let n = 0; n < 32; n++)
      add(
        `v${n}`,
        'SIMD and FP',
        128,
        (vp) => vp.v(n),
        (vp, v) => vp.setV(n, v),
      );
    for (const r of SYSREGS) {
      if (r.feat && !features.has(r.feat)) continue;
      const write = (row: SystemRegister) => (vp: VpState, value: bigint) => {
        writeSystemRegister(ctx, vp, row, value);
        changed(vp);
      };
      const group = r.name === 'FPCR' || r.name === 'FPSR' ? 'SIMD and FP' : r.group;
      if (!this.#byName.has(r.name.toLowerCase()))
        add(r.name, group, r.width, (vp) => readSystemRegister(ctx, vp, r), r.writable ? write(r) : undefined);
    }
    // SP_EL1 has no encoding at EL1, but it is a register of the VP.
    if (!systemRegister('SP_EL1'))
      add(
        'SP_EL1',
        'Exception',
        64,
        (vp) => (usesSpEl1(vp) ? vp.sp : vp.u64(VP.SP_EL1)),
        (vp, v) => {
          if (usesSpEl1(vp)) vp.sp = v;
          else vp.setU64(VP.SP_EL1, v);
        },
      );
    this.list = [...this.#byName.values()].map((r) => r.info);
  }

  #find(name: string): NamedRegister | undefined {
    const key = name.toLowerCase();
    return this.#byName.get(ALIASES[key] ?? (/^q\d/.test(key) ? `v${key.slice(1)}` : key));
  }

  /** undefined: no such register. */
  read(vp: VpState, name: string): bigint | undefined {
    return this.#find(name)?.read(vp);
  }

  /** False: no such register, or it cannot be written. */
  write(vp: VpState, name: string, value: bigint): boolean {
    const r = this.#find(name);
    if (!r?.write) return false;
    r.write(vp, BigInt.asUintN(r.info.width, value));
    return true;
  }
}

const legalMode = (m: number): boolean => m === PSTATE.EL0T || m === PSTATE.EL1T || m === PSTATE.EL1H;
const usesSpEl1 = (vp: VpState): boolean => (vp.u32(VP.PSTATE) & PSTATE.M) === PSTATE.EL1H;
