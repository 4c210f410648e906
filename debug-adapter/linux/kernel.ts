/**
 * The guest's kernel as the debugger knows it: where it runs, its symbols, types and modules. Found in guest memory, with
 * KASLR on and without any file; an ELF kernel's own symbols are used from the start.
 */
import { hex } from '../../emulator/base/bits.ts';
import { isElf } from '../../emulator/base/elf.ts';
import { viewOf } from '../../emulator/base/struct.ts';
import type { Exit, Machine } from '../../emulator/index.ts';
import { KernelFile } from '../kernel-file.ts';
import { Btf } from '../symbols/btf.ts';
import { withoutDamage } from '../symbols/byte-source.ts';
import type { UnwindRow } from '../symbols/dwarf/cfi.ts';
import { readElf } from '../symbols/elf.ts';
import { findKallsyms } from '../symbols/kallsyms.ts';
import {
  containsBuildId,
  findBuildIds,
  findRelease,
  IMAGE_ALIGN,
  imageHeader,
  type KernelImage,
  readKernelImage,
} from '../symbols/kernel-image.ts';
import { type ImageMemory, readU64, type VirtualReader } from '../symbols/memory.ts';
import { type KernelModule, ModuleList } from '../symbols/modules.ts';
import type { LoadedSymbols } from '../symbols/loaded.ts';
import { Symbolizer } from '../symbols/symbolizer.ts';

/** Bytes from the header that hold code and data, at most. */
const MAX_IMAGE = 128 << 20;
/** Searching all of the image takes a moment: it is not worth doing again before the guest has done something. */
const SEARCH_PAUSE = 1_000_000;

/** KEXEC_SEGMENT_MAX (include/uapi/linux/kexec.h). */
const MAX_SEGMENTS = 16;

/** The last instruction of the startup code that runs at physical addresses: a branch to the kernel's virtual address. */
interface Gate {
  /** Physical address of the BR, which is also its virtual one (identity map). */
  pc: bigint;
  register: string;
  /** Where the branch goes, as an offset in the image. */
  target: number;
  imageAt: number;
}

export interface KernelFound {
  /** One line for the start report. */
  summary: string;
  milliseconds: number;
}

/** What a kernel's file tells, before there is a machine that it runs in. A file of 30 MB is only searched for what is asked. */
export class KernelFacts {
  /** An ELF kernel's own symbols; of others there are none until they run. */
  readonly symbols = new Symbolizer();
  readonly #file: KernelFile;
  #buildIds: ReadonlySet<string> | undefined;
  #release: { text: string | undefined } | undefined;

  constructor(file: KernelFile) {
    this.#file = file;
    // Whether it can run is for the machine to judge.
    if (isElf(file.range(0, 4))) this.symbols.setKernel(withoutDamage(() => readElf(file.bytes, file.name).symbols, []));
  }

  /** The file's bytes. */
  get bytes(): Uint8Array {
    return this.#file.bytes;
  }

  /** The kernel is an ELF file. */
  get isElf(): boolean {
    return isElf(this.#file.range(0, 4));
  }

  /** Build-ids in the file, hexadecimal: its own, and those of images inside it (the vDSO). */
  get buildIds(): ReadonlySet<string> {
    this.#buildIds ??= findBuildIds(this.#file.bytes);
    return this.#buildIds;
  }

  /** The same question as `buildIds.has`, in a fraction of the time. `near`: where it should be, counted from the start of the image. */
  hasBuildId(id: string, near?: number): boolean {
    const there = near === undefined ? undefined : this.#file.range(near, id.length / 2);
    if (there && Buffer.from(there).toString('hex') === id) return true;
    return this.#buildIds?.has(id) ?? containsBuildId(this.#file.bytes, id);
  }

  /** `6.1.0-50-cloud-arm64` */
  get release(): string | undefined {
    this.#release ??= { text: findRelease(this.#file.bytes) };
    return this.#release.text;
  }
}

export class GuestKernel {
  readonly machine: Machine;
  readonly symbols: Symbolizer;
  #facts: KernelFacts;
  image: KernelImage | undefined;
  /** Where an Image lies in RAM; undefined: the kernel is another kind of file. */
  physicalBase: number | undefined;
  /** The part of the image, counted from its start, that runs at physical addresses as well: VPs that come later begin there. */
  identity: { from: number; to: number } | undefined;
  btf: Btf | undefined;
  modules: KernelModule[] = [];
  /** Call frame information of the instruction at an address, from symbol files. */
  rules: (pc: bigint) => UnwindRow | undefined = () => undefined;
  /** The symbol file of what the process on a VP has at an address. */
  processes: (vp: number, pc: bigint) => LoadedSymbols | undefined = () => undefined;
  /** Address of a variable of the kernel, from symbol files; undefined also where several have the name. */
  variableAddress: (name: string) => bigint | undefined = () => undefined;
  /** Called when another kernel has been started by kexec: nothing that was known is true any more. */
  onReplaced: () => void = () => {};
  /** Called once the running kernel has been found: breakpoints by name can be placed. */
  onFound: (found: KernelFound) => void = () => {};
  #gate: Gate | undefined;
  #moduleList: ModuleList | undefined;
  /** Address of `machine_kexec`, where the next kernel announces itself, and where that one may begin. */
  #kexec: bigint | undefined;
  readonly #entries = new Set<bigint>();
  /** Where exception vectors were that belong to no kernel. */
  #triedVectors = -1;
  #modulesKey = '';
  /** Where the image is in RAM. */
  #imageAt = 0;
  /** Instruction count before which the list of modules is not searched for again. */
  #searchAgain = 0;
  /** As long as there is no module the search is in vain: it is tried ever less often. */
  #searchPause = SEARCH_PAUSE;

  /** `facts`: of the kernel's file. */
  constructor(machine: Machine, facts: KernelFacts) {
    this.machine = machine;
    this.#facts = facts;
    this.symbols = facts.symbols;
    this.#findGate();
  }

  /** `6.1.0-50-cloud-arm64` */
  get release(): string | undefined {
    return this.#facts.release;
  }

  /** Of the kernel that runs now. Its symbols are in `symbols`. */
  get facts(): KernelFacts {
    return this.#facts;
  }

  /** Reads virtual memory as `vp` sees it. */
  reader(vp: number): VirtualReader {
    return (address, length) => this.machine.readVirtual(vp, address, length);
  }

  /** Address size of the kernel's half, from TCR_EL1.T1SZ (Arm ARM D19.2.139). */
  vaBits(vp: number): number {
    const t1sz = Number(((this.machine.readRegister(vp, 'TCR_EL1') ?? 0n) >> 16n) & 63n);
    return t1sz >= 12 && t1sz <= 39 ? 64 - t1sz : 48;
  }

  /** Where an Image lies in RAM before it runs. */
  #imageInRam(): { at: number; bytes: Uint8Array } | undefined {
    const { machine } = this;
    for (let at = 0; at + 64 <= machine.ramSize && at < 1 << 30; at += IMAGE_ALIGN) {
      const found = this.#imageAtAddress(at);
      if (found) return found;
    }
    return undefined;
  }

  #imageAtAddress(at: number): { at: number; bytes: Uint8Array } | undefined {
    const { machine } = this;
    const header = imageHeader(machine.readPhysical(at, 64) ?? new Uint8Array());
    const bytes = header && machine.readPhysical(at, Math.min(header.imageSize || MAX_IMAGE, MAX_IMAGE, machine.ramSize - at));
    return bytes && { at, bytes };
  }

  /**
   * Startup code turns the MMU on in `__primary_switch` (arch/arm64/kernel/head.S), which ends with a branch to
   * `__primary_switched` at its final, randomised address. A breakpoint there gives symbols before the kernel proper runs
   * its first instruction.
   */
  #findGate(): void {
    const found = this.#imageInRam();
    if (!found) return;
    this.physicalBase = found.at;
    this.#findGateIn(found);
  }

  #findGateIn(found: { at: number; bytes: Uint8Array }): void {
    const symbols = findKallsyms({ bytes: found.bytes, base: BigInt(found.at) })?.symbols ?? [];
    // What names are good for until the MMU is on.
    if (symbols.length > 0) this.symbols.setKernel(symbols, BigInt(found.at + found.bytes.length));
    const from = symbols.find((s) => s.name === '__primary_switch');
    const to = symbols.find((s) => s.name === '__primary_switched');
    if (!from || !to) return;
    const view = viewOf(found.bytes);
    const start = Number(from.address) - found.at;
    for (let at = start; at < start + 1024 && at + 4 <= found.bytes.length; at += 4) {
      const word = view.getUint32(at, true);
      // BR Xn: 1101011 0000 11111 000000 Rn 00000 (Arm ARM C6.2.37)
      if ((word & 0xfffffc1f) >>> 0 !== 0xd61f0000) continue;
      this.#gate = {
        pc: BigInt(found.at + at),
        register: `x${(word >>> 5) & 31}`,
        target: Number(to.address) - found.at,
        imageAt: found.at,
      };
      this.machine.setBreakpoint(this.#gate.pc);
      return;
    }
  }

  /** Takes an exit that is ours: the caller then resumes as if it had not happened (with `resumeVp`). */
  absorb(exit: Exit): boolean {
    if (exit.kind !== 'breakpoint') return false;
    if (exit.pc === this.#kexec) {
      for (const entry of this.#kexecEntries(exit.vp)) {
        this.#entries.add(entry);
        this.machine.setBreakpoint(entry);
      }
      return true;
    }
    if (this.#entries.has(exit.pc)) {
      for (const entry of this.#entries) this.machine.clearBreakpoint(entry);
      this.#entries.clear();
      const found = this.#imageAtAddress(Number(exit.pc));
      if (found) this.#replaceBy(found);
      return true;
    }
    const gate = this.#gate;
    if (!gate || exit.pc !== gate.pc) return false;
    this.machine.clearBreakpoint(gate.pc);
    this.#gate = undefined;
    const target = this.machine.readRegister(exit.vp, gate.register) ?? 0n;
    if (target >> 48n === 0xffffn) this.#load(gate.imageAt, target - BigInt(gate.target));
    return true;
  }

  /** Another kernel is at its first instruction. */
  #replaceBy(found: { at: number; bytes: Uint8Array }): void {
    this.#forget(found);
    this.#findGateIn(found);
    this.onReplaced();
  }

  #forget({ at, bytes }: { at: number; bytes: Uint8Array }): void {
    this.image = undefined;
    this.identity = undefined;
    this.btf = undefined;
    this.physicalBase = at;
    this.#facts = new KernelFacts(new KernelFile('kernel', bytes));
    this.modules = [];
    this.#moduleList = undefined;
    this.#modulesKey = '';
    this.#searchAgain = 0;
    this.#searchPause = SEARCH_PAUSE;
    this.symbols.setModules([]);
    this.symbols.setKernel([]);
  }

  /**
   * Where the kernel that `machine_kexec(struct kimage *)` is about to start may begin (include/linux/kexec.h): its first instruction is
   * the first of one of the segments, at a physical address.
   */
  #kexecEntries(vp: number): bigint[] {
    const image = this.machine.readRegister(vp, 'x0');
    const members = this.btf?.members('kimage');
    const segments = members?.find((m) => m.name === 'segment');
    const count = members?.find((m) => m.name === 'nr_segments');
    const entry = this.btf?.members('kexec_segment');
    const mem = entry?.find((m) => m.name === 'mem');
    const last = entry?.at(-1);
    if (image === undefined || !segments || !count || !mem || !last) return [];
    const read = this.reader(vp);
    const size = last.offset + last.size;
    const n = Math.min(MAX_SEGMENTS, Number(readU64(read, image + BigInt(count.offset)) ?? 0n));
    return Array.from({ length: n }, (_, i) => readU64(read, image + BigInt(segments.offset + i * size + mem.offset))).filter(
      (at) => at !== undefined && at < BigInt(this.machine.ramSize),
    ) as bigint[];
  }

  /**
   * Call after each slice: finds the kernel by its exception vectors, or by where a VP has stepped to, when its branch there was not seen;
   * and the next one that it starts (kexec).
   */
  poll(): void {
    const { machine } = this;
    const gate = this.#gate;
    if (gate) {
      for (let vp = 0; vp < machine.vpCount; vp++) {
        const pc = machine.readRegister(vp, 'pc') ?? 0n;
        const at = pc >> 48n === 0xffffn ? machine.translate(vp, pc) : undefined;
        if (at === undefined || at < gate.imageAt || at - gate.imageAt >= MAX_IMAGE) continue;
        machine.clearBreakpoint(gate.pc);
        this.#gate = undefined;
        this.#load(gate.imageAt, pc - BigInt(at - gate.imageAt));
        return;
      }
      return;
    }
    for (let vp = 0; vp < machine.vpCount; vp++) {
      const vectors = machine.readRegister(vp, 'VBAR_EL1') ?? 0n;
      if (vectors >> 48n !== 0xffffn) continue;
      const at = machine.translate(vp, vectors);
      if (at === undefined || at === this.#triedVectors) continue;
      // While user space runs the vectors are mapped elsewhere (CONFIG_UNMAP_KERNEL_AT_EL0); they are the same kernel's.
      if (this.image && at >= this.#imageAt && at < this.#imageAt + this.image.size) continue;
      this.#triedVectors = at;
      for (let start = at - (at % IMAGE_ALIGN); start >= 0 && at - start < MAX_IMAGE; start -= IMAGE_ALIGN) {
        const header = imageHeader(machine.readPhysical(start, 64) ?? new Uint8Array());
        if (!header || at - start >= (header.imageSize || MAX_IMAGE)) continue;
        this.#load(start, vectors - BigInt(at - start));
        return;
      }
    }
  }

  #load(at: number, base: bigint): void {
    const started = performance.now();
    const { machine } = this;
    const header = imageHeader(machine.readPhysical(at, 64) ?? new Uint8Array());
    const bytes = machine.readPhysical(at, Math.min(header?.imageSize || MAX_IMAGE, MAX_IMAGE, machine.ramSize - at));
    if (!bytes) return;
    const image = readKernelImage({ bytes, base });
    // One whose start was not seen.
    if (this.image) {
      this.#forget({ at, bytes });
      this.onReplaced();
    }
    this.image = image;
    this.#imageAt = at;
    const idmap = ['__idmap_text_start', '__idmap_text_end'].map((name) => image.symbols.find((s) => s.name === name)?.address);
    const [from, to] = idmap.map((address) => (address === undefined ? 0 : Number(address - base)));
    this.identity = to > from ? { from, to } : undefined;
    const aliases = image.symbols
      .map((s) => ({ ...s, address: s.address - base }))
      .filter((s) => s.address >= BigInt(from) && s.address < BigInt(to))
      .map((s) => ({ ...s, address: s.address + BigInt(at) }));
    if (image.symbols.length > 0) this.symbols.setKernel(image.symbols, base + BigInt(image.size), aliases);
    this.btf = Btf.find(bytes);
    const kexec = this.symbols.address('machine_kexec');
    if (kexec !== undefined && kexec !== this.#kexec) {
      if (this.#kexec !== undefined) machine.clearBreakpoint(this.#kexec);
      machine.setBreakpoint(kexec);
      this.#kexec = kexec;
    }
    this.#moduleList = new ModuleList(this.btf, this.symbols.address('modules'));
    const facts = [
      `Linux ${image.release ?? '(no version banner)'}`,
      image.pageSize ? `${image.pageSize / 1024} KiB pages` : undefined,
      image.symbols.length ? `${image.symbols.length} symbols from kallsyms` : 'no kallsyms',
      this.btf ? 'BTF types' : undefined,
      `_text at ${hex(base)}`,
      image.kaslrOffset === undefined ? undefined : `KASLR offset ${hex(image.kaslrOffset)}`,
    ];
    this.onFound({ summary: facts.filter(Boolean).join(', '), milliseconds: performance.now() - started });
  }

  /** The image as it is in RAM now, with its variables. */
  imageMemory(): ImageMemory | undefined {
    const { image } = this;
    const bytes = image && this.machine.readPhysical(this.#imageAt, Math.min(image.size, this.machine.ramSize - this.#imageAt));
    return image && bytes ? { bytes, base: image.base } : undefined;
  }

  /** Head of the list of modules, once it is known. */
  get moduleHead(): bigint | undefined {
    return this.#moduleList?.head;
  }

  /** A function that runs after a module's symbols are in place and before its first own instruction (kernel/module/main.c). */
  get moduleLoadAddress(): bigint | undefined {
    return this.#moduleList?.usable ? this.symbols.address('do_init_module') : undefined;
  }

  /** Reads the list of modules again. True when it changed. Call before names are asked for. */
  refreshModules(vp: number): boolean {
    let list = this.#moduleList;
    const { image } = this;
    if (!list?.usable || !image) return false;
    const read = this.reader(vp);
    // Kernels that keep only functions in kallsyms do not name the list.
    const head = list.found ? undefined : this.variableAddress('modules');
    if (head !== undefined) list = this.#moduleList = new ModuleList(this.btf, head);
    if (!list.found && this.machine.instructions >= this.#searchAgain) {
      const memory = this.imageMemory();
      if (memory) list.search(memory, read);
      this.#searchPause *= 2;
      this.#searchAgain = this.machine.instructions + this.#searchPause;
    }
    const modules = list.read(read);
    const key = modules.map((m) => `${m.name}@${m.base}:${m.symbols.length}`).join();
    if (key === this.#modulesKey) return false;
    this.#modulesKey = key;
    this.modules = modules;
    this.symbols.setModules(modules);
    return true;
  }
}
