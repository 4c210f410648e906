/**
 * `hyperstep vectors`: runs recorded A64 instruction vectors (files of format `a64vec-1`: JSON lines, plain or gzip) on the
 * CPU and compares everything they name: registers, flags, FPCR and FPSR, memory, exceptions.
 */
import fs from 'node:fs';
import zlib from 'node:zlib';
import { MAX_PROGRAM, VECTOR_REGISTERS, VectorMachine, type VectorResult } from '../emulator/load.ts';
import { UsageError } from './cli/usage.ts';
import { loadDisassembler } from './disassembler.ts';

/** The model with the most features: what it does not have is not implemented. */
const MODEL = 'max';

type Registers = Record<string, bigint>;

interface Header {
  readonly codeBase: bigint;
  readonly memBase: bigint;
  readonly memSize: number;
  readonly states: readonly { readonly registers: Registers; readonly memory: Uint8Array }[];
}

interface Vector {
  readonly id: number;
  /** Class, `addsub-imm`. */
  readonly group: string;
  readonly level: string;
  readonly feature?: string;
  readonly code: readonly number[];
  readonly initial: Registers;
  readonly memory: Uint8Array;
  /** As `VectorMachine.run` should return it. */
  readonly expected: VectorResult;
}

// --- reading a file -----------------------------------------------------------------------------------------------------

/** What is wrong with a line; the caller knows where it is. */
class Malformed extends Error {}

type Json = Record<string, unknown>;

function object(v: unknown, what: string): Json {
  if (typeof v !== 'object' || v === null || Array.isArray(v)) throw new Malformed(`${what} is not an object`);
  return v as Json;
}
function list(v: unknown, what: string, length?: number): unknown[] {
  if (!Array.isArray(v) || (length !== undefined && v.length !== length))
    throw new Malformed(`${what} is not a list${length ? ` of ${length}` : ''}`);
  return v;
}
function integer(v: unknown, what: string, min: number, max: number): number {
  if (typeof v !== 'number' || !Number.isInteger(v) || v < min || v > max)
    throw new Malformed(`${what} is not a number from ${min} to ${max}`);
  return v;
}
function text(v: unknown, what: string): string {
  if (typeof v !== 'string') throw new Malformed(`${what} is not a text`);
  return v;
}
function number(v: unknown, what: string, bits: number): bigint {
  if (typeof v !== 'string' || !/^[0-9a-f]+$/i.test(v) || v.length > bits / 4)
    throw new Malformed(`${what} is not a hexadecimal number of ${bits} bits`);
  return BigInt(`0x${v}`);
}
function bytes(v: unknown, what: string, length?: number): Uint8Array {
  if (typeof v !== 'string' || !/^([0-9a-f]{2})*$/i.test(v)) throw new Malformed(`${what} is not hexadecimal bytes`);
  if (length !== undefined && v.length !== 2 * length) throw new Malformed(`${what} has ${v.length / 2} bytes, not ${length}`);
  return new Uint8Array(Buffer.from(v, 'hex'));
}

const KNOWN = new Set(VECTOR_REGISTERS);
const widthOf = (register: string): number => (/^v\d/.test(register) ? 128 : /^(nzcv|fp.r)$/.test(register) ? 32 : 64);

function registers(v: unknown, what: string): Registers {
  return Object.fromEntries(
    Object.entries(object(v, what)).map(([name, value]) => {
      if (!KNOWN.has(name)) throw new Malformed(`${what}: no register ${name}`);
      return [name, number(value, `${what}.${name}`, widthOf(name))];
    }),
  );
}

function readHeader(json: Json): Header {
  if (json.format !== 'a64vec-1') throw new Malformed('not an a64vec-1 header');
  const codeBase = number(json.codeBase, 'codeBase', 64);
  const memBase = number(json.memBase, 'memBase', 64);
  const memSize = integer(json.memSize, 'memSize', 1, 65536);
  const pages = (from: bigint, size: number): [bigint, bigint] => [from >> 12n, (from + BigInt(size) - 1n) >> 12n];
  const [code, memory] = [pages(codeBase, 4 * (MAX_PROGRAM + 1)), pages(memBase, memSize)];
  if (codeBase & 3n || [code[1], memory[1]].some((page) => page >> 36n))
    throw new Malformed('codeBase or memBase is no user address');
  if (code[0] <= memory[1] && memory[0] <= code[1]) throw new Malformed('code and memory share a page');
  const states = list(json.states, 'states').map((state, i) => {
    const s = object(state, `states[${i}]`);
    const at = `states[${i}]`;
    const named: Json = { sp: s.sp, nzcv: s.nzcv, fpcr: s.fpcr, fpsr: s.fpsr };
    list(s.x, `${at}.x`, 31).forEach((x, n) => {
      named[`x${n}`] = x;
    });
    list(s.v, `${at}.v`, 32).forEach((x, n) => {
      named[`v${n}`] = x;
    });
    return { registers: registers(named, at), memory: bytes(s.mem, `${at}.mem`, memSize) };
  });
  return { codeBase, memBase, memSize, states };
}

function readVector(json: Json, header: Header): Vector {
  const code = text(json.code, 'code')
    .split(' ')
    .map((word) => Number(number(word, 'code', 32)));
  if (code.length > MAX_PROGRAM) throw new Malformed(`code has more than ${MAX_PROGRAM} words`);
  const base = header.states[integer(json.s, 's', 0, header.states.length - 1)];
  const initial = { ...base.registers, ...registers(json.i, 'i') };
  const memory = base.memory.slice();
  for (const change of list(json.m ?? [], 'm')) {
    const [at, data] = list(change, 'm', 2);
    const written = bytes(data, 'm');
    memory.set(written, integer(at, 'm', 0, header.memSize - written.length));
  }
  if (json.exc !== undefined && json.exc !== 'undef') throw new Malformed(`unknown exception ${String(json.exc)}`);
  return {
    id: integer(json.id, 'id', 0, Number.MAX_SAFE_INTEGER),
    group: text(json.c, 'c'),
    level: text(json.lvl, 'lvl'),
    feature: json.feat === undefined ? undefined : text(json.feat, 'feat'),
    code,
    initial,
    memory: base.memory,
    expected: {
      exception: json.exc ?? '',
      pc: json.exc ? number(json.pc, 'pc', 64) : header.codeBase + BigInt(4 * code.length),
      registers: { ...initial, ...registers(json.o, 'o') },
      memory,
    },
  };
}

function readFile(path: string): string[] {
  let raw: Buffer;
  try {
    raw = fs.readFileSync(path);
  } catch (error) {
    throw new UsageError(`cannot read ${path}: ${(error as NodeJS.ErrnoException).code ?? error}`);
  }
  if (raw[0] === 0x1f && raw[1] === 0x8b)
    try {
      raw = zlib.gunzipSync(raw);
    } catch (error) {
      throw new UsageError(`cannot unpack ${path}: ${error instanceof Error ? error.message : error}`);
    }
  return raw.toString('latin1').split('\n');
}

/** Every vector of a file with its header, as they are read. Throws `UsageError` with file and line. */
function* read(path: string): Generator<[Header, Vector]> {
  let header: Header | undefined;
  for (const [i, line] of readFile(path).entries()) {
    if (line.trim() === '') continue;
    let result: [Header, Vector] | undefined;
    try {
      let json: unknown;
      try {
        json = JSON.parse(line);
      } catch {
        throw new Malformed('not JSON');
      }
      if (header) result = [header, readVector(object(json, 'the line'), header)];
      else header = readHeader(object(json, 'the line'));
    } catch (error) {
      if (error instanceof Malformed) throw new UsageError(`${path}, line ${i + 1}: ${error.message}`);
      throw error;
    }
    if (result) yield result;
  }
  if (!header) throw new UsageError(`${path}, line 1: no a64vec-1 header`);
}

// --- judging --------------------------------------------------------------------------------------------------------------

const hex = (v: bigint | number, digits: number): string => v.toString(16).padStart(digits, '0');

/** One line for everything in which `got` is not as `want`. */
function differences(want: VectorResult, got: VectorResult): string[] {
  const out: string[] = [];
  const differ = (name: string, a: string, b: string): void => {
    if (a !== b) out.push(`${name}: expected ${a}, got ${b}`);
  };
  differ('exception', want.exception || 'none', got.exception || 'none');
  differ('pc', hex(want.pc, 8), hex(got.pc, 8));
  for (const name of VECTOR_REGISTERS)
    differ(name, hex(want.registers[name], widthOf(name) / 4), hex(got.registers[name], widthOf(name) / 4));
  for (let i = 0; i < want.memory.length; i += 16) {
    const row = (memory: Uint8Array): string => Buffer.from(memory.subarray(i, i + 16)).toString('hex');
    differ(`memory+0x${hex(i, 3)}`, row(want.memory), row(got.memory));
  }
  return out;
}

const sameLayout = (a: Header, b: Header | undefined): boolean =>
  a.codeBase === b?.codeBase && a.memBase === b.memBase && a.memSize === b.memSize;

/**
 * Runs every vector of `paths`; `write` gets the report. The result is the exit status: 0 when none failed, else 1. A vector
 * that this CPU answers with UNDEFINED because it has not got the extension is neither passed nor failed but listed.
 */
export async function runVectors(paths: readonly string[], write: (text: string) => void): Promise<number> {
  const disassemble = await loadDisassembler();
  let machine: VectorMachine | undefined;
  let layout: Header | undefined;
  const absent = new Map<string, number>();
  let passed = 0;
  let failed = 0;
  for (const path of paths)
    for (const [header, vector] of read(path)) {
      if (!machine || !sameLayout(header, layout)) machine = new VectorMachine({ model: MODEL, ...header });
      layout = header;
      const got = machine.run(vector.code, vector.initial, vector.memory);
      const wrong = differences(vector.expected, got);
      if (wrong.length === 0) {
        passed++;
        continue;
      }
      const { feature, level, group } = vector;
      if (
        got.exception === 'undef' &&
        vector.expected.exception === '' &&
        (feature ? !machine.features.has(feature) : level === 'max')
      ) {
        const what = feature ?? group;
        absent.set(what, (absent.get(what) ?? 0) + 1);
        continue;
      }
      failed++;
      const listing = vector.code.map((word, i) => {
        const pc = header.codeBase + BigInt(4 * i);
        return `${hex(pc, 8)}  ${hex(word, 8)}  ${disassemble(word, pc)}`;
      });
      write([`#${vector.id} ${group} (${path})`, ...listing, ...wrong].join('\n  ').concat('\n'));
    }
  const skipped = [...absent.values()].reduce((a, b) => a + b, 0);
  if (skipped) write(`not in this CPU: ${[...absent].map(([what, n]) => `${what} (${n})`).join(', ')}\n`);
  write(`${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}\n`);
  return failed ? 1 : 0;
}
