/** The thread that makes an index: opens the file by itself, posts the parts when they are there, and keeps them in the cache. */
import { parentPort, type Transferable, workerData } from 'node:worker_threads';
import { SymbolFileError } from '../byte-source.ts';
import { ElfFile } from '../elf-file.ts';
import { buildLines } from './build-lines.ts';
import { buildNames } from './build-names.ts';
import { identity, storeIndex } from './cache.ts';
import { DwarfFile } from './file.ts';
import { encode, type LineIndex, type NameIndex } from './index-data.ts';

export interface IndexRequest {
  readonly path: string;
  readonly cache: string | undefined;
}

export type IndexMessage =
  | { readonly part: 'lines'; readonly lines: LineIndex }
  | { readonly part: 'names'; readonly names: NameIndex }
  | { readonly part: 'error'; readonly message: string };

/** Milliseconds in which a session binds its breakpoints with the first part, before the second takes processor time. */
const HEAD_START = 100;

async function make({ path, cache }: IndexRequest, post: (message: IndexMessage, move?: Transferable[]) => void): Promise<void> {
  const elf = ElfFile.open(path);
  try {
    const file = new DwarfFile(elf);
    const lines = buildLines(file);
    post({ part: 'lines', lines });
    await new Promise((resolve) => setTimeout(resolve, HEAD_START));
    const names = buildNames(file);
    const what = identity(elf);
    if (cache) storeIndex(cache, what, encode({ identity: what, lines, names }));
    post(
      { part: 'names', names },
      (Object.values(names) as Uint8Array[]).map((t) => t.buffer as ArrayBuffer),
    );
  } finally {
    elf.close();
  }
}

if (parentPort) {
  const port = parentPort;
  try {
    await make(workerData as IndexRequest, (message, move) => port.postMessage(message, move));
  } catch (error) {
    if (!(error instanceof SymbolFileError)) throw error;
    port.postMessage({ part: 'error', message: error.message } satisfies IndexMessage);
  }
}
