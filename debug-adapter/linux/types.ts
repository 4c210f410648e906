/** The C types of a running kernel and its modules: sources put together, and looked for again when modules come and go. */
import { hex } from '../../emulator/base/bits.ts';
import { viewOf } from '../../emulator/base/struct.ts';
import type { Btf } from '../symbols/btf.ts';
import { BtfTypes } from '../types/btf-types.ts';
import { withoutDamage } from '../symbols/byte-source.ts';
import type { Macro } from '../symbols/dwarf/macros.ts';
import type { LoadedSymbols } from '../symbols/loaded.ts';
import { Catalog } from '../types/catalog.ts';
import { DwarfFrames } from '../types/dwarf-frames.ts';
import { DwarfTypes } from '../types/dwarf-types.ts';
import { entryArguments, type FrameState, type FrameVariable, type FrameVariables } from '../types/frame.ts';
import { plain } from '../types/model.ts';
import type { GuestKernel } from './kernel.ts';
import { ModuleBtfs } from './module-types.ts';

/** The search for the list of modules' types reads all of the image: not again before the guest has done something. */
const SEARCH_PAUSE = 1_000_000;

/** Reading the list is cheap, but conditions of breakpoints are evaluated often. */
const READ_PAUSE = 10_000;
/** From the header to code that is mapped for as long as the kernel runs (_stext, SEGMENT_ALIGN of arch/arm64/include/asm/memory.h). */
const CODE_AT = 0x10000n;

class KernelTypes {
  readonly catalog: Catalog;
  readonly #kernel: GuestKernel;
  /** Symbol files that are open now. */
  files: () => readonly LoadedSymbols[] = () => [];
  #dwarf: readonly DwarfTypes[] = [];
  frames: readonly FrameVariables[] = [];
  #btf: Btf | undefined;
  #base: BtfTypes | undefined;
  #modules: ModuleBtfs | undefined;
  /** By the section, so that types stay the same objects. */
  readonly #sources = new Map<Btf, BtfTypes>();
  #seenModules: GuestKernel['modules'] | undefined;
  #seenAt = 0;
  #searchAgain = 0;

  constructor(kernel: GuestKernel) {
    this.#kernel = kernel;
    this.catalog = new Catalog(kernel.symbols);
  }

  /** Takes symbol files that have come or gone. True when any has. */
  #refreshFiles(): boolean {
    // Names cannot be asked for before the index is there.
    const files = this.files().filter((f) => f.info.isComplete && f.placed);
    if (files.length === this.#dwarf.length && files.every((f, i) => f === this.#dwarf[i].loaded)) return false;
    this.#dwarf = files.map((f) => this.#dwarf.find((d) => d.loaded === f) ?? new DwarfTypes(f));
    this.frames = this.#dwarf.map((d) => new DwarfFrames(d));
    return true;
  }

  /** Takes what has come since the last time. */
  refresh(vp: number): void {
    const { modules, btf, machine } = this.#kernel;
    const sameKernel = btf === this.#btf;
    // The kernel parses a module's types while it loads it: later than its symbols can be seen.
    const waiting = modules.length > this.#sources.size && machine.instructions > this.#seenAt + READ_PAUSE;
    const sameFiles = !this.#refreshFiles();
    if (sameKernel && sameFiles && modules === this.#seenModules && !waiting) return;
    if (modules !== this.#seenModules) this.catalog.forget();
    this.#seenModules = modules;
    this.#seenAt = machine.instructions;
    if (!sameKernel) {
      this.#btf = btf;
      this.#base = btf && new BtfTypes(btf);
      this.#modules =
        btf && new ModuleBtfs(btf, this.#kernel.symbols.address('btf_modules') ?? this.#kernel.variableAddress('btf_modules'));
      this.#sources.clear();
    }
    this.catalog.setSources(this.#dwarf, this.#base ? [this.#base, ...this.#moduleTypes(vp)] : []);
  }

  #moduleTypes(vp: number): BtfTypes[] {
    const { image, machine, modules } = this.#kernel;
    const list = this.#modules;
    if (!list || modules.length === 0) return [];
    const read = this.#kernel.reader(vp);
    if (!list.found && image && machine.instructions >= this.#searchAgain) {
      this.#searchAgain = machine.instructions + SEARCH_PAUSE;
      // The header's page is not mapped; code behind it is.
      const code = machine.translate(vp, image.base + CODE_AT);
      const at = code === undefined ? undefined : code - Number(CODE_AT);
      const bytes = at === undefined ? undefined : machine.readPhysical(at, Math.min(image.size, machine.ramSize - at));
      if (bytes) list.search({ bytes, base: image.base }, read);
    }
    return list.read(read).map(({ module, btf }) => {
      let types = this.#sources.get(btf);
      if (!types) {
        types = new BtfTypes(btf, module, this.#base);
        this.#sources.set(btf, types);
      }
      return types;
    });
  }
}

const KNOWN = new WeakMap<GuestKernel, KernelTypes>();

function of(kernel: GuestKernel): KernelTypes {
  let types = KNOWN.get(kernel);
  if (!types) {
    types = new KernelTypes(kernel);
    KNOWN.set(kernel, types);
  }
  return types;
}

/** What is known about C names in `kernel` now, read by `vp`. */
export function typesOf(kernel: GuestKernel, vp: number): Catalog {
  const types = of(kernel);
  types.refresh(vp);
  return types.catalog;
}

/** What a macro means in the code at an address, by the symbol file that has it. */
export function macroAt(kernel: GuestKernel, pc: bigint, name: string): Macro | undefined {
  for (const file of of(kernel).files()) {
    const at = file.toFile(pc);
    const found = at === undefined ? undefined : withoutDamage(() => file.info.macro(at, name), undefined);
    if (found) return found;
  }
  return undefined;
}

/** The variable that a symbol file has at an address: `init_task+0x778`, with ` [module]`. Most kernels' own symbols are functions only. */
export function objectName(kernel: GuestKernel, address: bigint): string | undefined {
  for (const file of of(kernel).files()) {
    const found = file.objectAt(address);
    if (!found) continue;
    return `${found.name}${found.offset ? `+${hex(found.offset)}` : ''}${file.module === undefined ? '' : ` [${file.module}]`}`;
  }
  return undefined;
}

/** Types and variables of these files are believed before what the kernel itself tells, from now on. */
export function useSymbolFiles(kernel: GuestKernel, files: () => readonly LoadedSymbols[]): void {
  of(kernel).files = files;
}

/** Instructions that a function starts with and that leave its arguments alone: hints (BTI, PACIASP, NOP), `MOV x9, x30` of ftrace. */
const leavesArguments = (word: number): boolean => (word & 0xfffff01f) >>> 0 === 0xd503201f || word >>> 0 === 0xaa1e03e9;
const MAX_ENTRY = 32;

/** Arguments, locals and statics of a frame, innermost block first. */
export function frameVariables(kernel: GuestKernel, vp: number, frame: FrameState, isTop: boolean): FrameVariable[] {
  const types = of(kernel);
  types.refresh(vp);
  for (const provider of types.frames) {
    const found = provider.at(frame);
    if (found) return found;
  }
  // Without debug information the prototype tells what is in x0 to x7, as long as nothing has been done with them.
  const at = kernel.symbols.at(frame.pc);
  if (!isTop || frame.inlineDepth > 0 || !at || at.offset > MAX_ENTRY) return [];
  const code = frame.memory.read(frame.pc - BigInt(at.offset), at.offset);
  if (!code) return [];
  for (let i = 0; i + 4 <= at.offset; i += 4) if (!leavesArguments(viewOf(code).getUint32(i, true))) return [];
  const type = typesOf(kernel, vp).functionType(at.symbol.name, at.symbol.module);
  const prototype = type && plain(type);
  return prototype?.kind === 'function' ? entryArguments(prototype, frame) : [];
}
