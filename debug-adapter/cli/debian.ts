/** `hyperstep debian-symbols`: fetches debug information and sources of one of Debian's kernels into the cache. */
import fs from 'node:fs';
import path from 'node:path';
import { ConfigError } from '../../emulator/index.ts';
import { FetchError, fetchDebian } from '../debian.ts';
import { unwrapKernel } from '../kernel-file.ts';
import { findRelease } from '../symbols/kernel-image.ts';
import { options, UsageError } from './usage.ts';

export const DEBIAN_SYMBOLS_HELP = `Usage: hyperstep debian-symbols (--kernel FILE | --release RELEASE) [--no-source]

Fetches the debug information (linux-image-RELEASE-dbg) and the sources (linux-source-X.Y, of the same version) of one of Debian's
arm64 kernels with this machine's apt, into the cache. Debug sessions of that kernel use them from then on.
The folder is printed when it is done; what is there already is not fetched again. Nothing is installed.

  --kernel FILE      the kernel's file: its release is read from it
  --release RELEASE  what "uname -r" says in the guest: 6.1.0-50-cloud-arm64
  --no-source        without sources (130 MB less to fetch, 1.3 GB less on disk)
`;

/** The release of a kernel's file. Throws UsageError. */
async function releaseOf(file: string): Promise<string> {
  let bytes: Uint8Array;
  try {
    bytes = new Uint8Array(fs.readFileSync(file));
  } catch (error) {
    throw new UsageError(`cannot read ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  try {
    const release = findRelease(await unwrapKernel(bytes, path.basename(file)));
    if (release === undefined) throw new UsageError(`${file}: no Linux version is in it`);
    return release;
  } catch (error) {
    throw error instanceof ConfigError ? new UsageError(error.message) : error;
  }
}

/** Runs the command; resolves with the exit status. Progress goes to stderr, a line for each step and each percent. Throws UsageError. */
export async function debianSymbols(args: string[], out: (text: string) => void): Promise<number> {
  const values = options('debian-symbols', args, {
    kernel: { type: 'string' },
    release: { type: 'string' },
    'no-source': { type: 'boolean' },
  });
  if ((values.kernel === undefined) === (values.release === undefined))
    throw new UsageError('debian-symbols needs --kernel FILE or --release RELEASE (hyperstep debian-symbols --help)');
  const release = values.release ?? (await releaseOf(values.kernel ?? ''));
  const cancel = new AbortController();
  const stop = (): void => cancel.abort();
  process.on('SIGINT', stop).on('SIGTERM', stop);
  let said = '';
  const progress = (text: string, part?: number): void => {
    const line = `${part === undefined ? '' : `${Math.floor(part * 100)}% `}${text}`;
    if (line === said) return;
    // On a terminal the percents of one step share a line.
    const again = process.stderr.isTTY && said.endsWith(text);
    process.stderr.write(
      `${process.stderr.isTTY ? (again ? '\r' : said && '\n') : ''}${line}${process.stderr.isTTY ? '' : '\n'}`,
    );
    said = line;
  };
  try {
    const { folder, noSource } = await fetchDebian(release, { source: !values['no-source'], signal: cancel.signal, progress });
    if (process.stderr.isTTY && said) process.stderr.write('\n');
    if (noSource !== undefined) process.stderr.write(`hyperstep: no sources: ${noSource}\n`);
    out(`${folder}\n`);
    return 0;
  } catch (error) {
    if (!(error instanceof FetchError)) throw error;
    process.stderr.write(`${process.stderr.isTTY && said ? '\n' : ''}hyperstep: ${error.message}\n`);
    return cancel.signal.aborted ? 130 : 1;
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}
