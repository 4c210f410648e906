/** A64 disassembly by Capstone, word by word. It is 3 MB of WebAssembly, so it is loaded when somebody asks for it. */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** One instruction as text: `add x0, x1, #1`; a word that Capstone does not know is `.inst 0x...`. */
export type Disassemble = (word: number, pc: bigint) => string;

/** What we use of Capstone, which comes without types. */
interface Capstone {
  readonly ARCH_ARM64: number;
  readonly MODE_LITTLE_ENDIAN: number;
  readonly Capstone: new (
    arch: number,
    mode: number,
  ) => {
    /** Throws a text when the first bytes are no instruction. */
    disasm(bytes: readonly number[], address: bigint): { readonly mnemonic: string; readonly op_str: string }[];
  };
}

let loading: Promise<Disassemble> | undefined;
let loaded: Disassemble | undefined;

async function load(): Promise<Disassemble> {
  const require = createRequire(import.meta.url);
  // esbuild.mjs puts the package beside our bundle: it wants to be CommonJS, with its WebAssembly in its own folder.
  const bundled = fileURLToPath(new URL('./capstone.cjs', import.meta.url));
  const start = require(fs.existsSync(bundled) ? bundled : '@alexaltea/capstone-js') as () => Promise<Capstone>;
  const module = await start();
  const decoder = new module.Capstone(module.ARCH_ARM64, module.MODE_LITTLE_ENDIAN);
  return (word, pc) => {
    try {
      const [{ mnemonic, op_str }] = decoder.disasm([word & 0xff, (word >>> 8) & 0xff, (word >>> 16) & 0xff, word >>> 24], pc);
      return `${mnemonic} ${op_str}`.trim();
    } catch {
      return `.inst 0x${(word >>> 0).toString(16).padStart(8, '0')}`;
    }
  };
}

/** Loads the disassembler; after that `disassemble` works. */
export async function loadDisassembler(): Promise<Disassemble> {
  loading ??= load();
  loaded = await loading;
  return loaded;
}

/** One instruction as text. `loadDisassembler` must have been awaited. */
export function disassemble(word: number, pc: bigint): string {
  if (!loaded) throw new Error('the disassembler is not loaded');
  return loaded(word, pc);
}
