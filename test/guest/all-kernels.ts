/**
 * Every Debian kernel as a Hyper-V guest with 1 and 4 VPs, and every version of VMBus: `npm run test:guests [-- WORD...]` runs the
 * rows that have all words (`trixie`, `arm64-16k`, `4`, `vmbus`) and prints them as a table. Exit status 1 when one fails.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { exercise, KERNELS, type Kernel, type Outcome } from './kernels.ts';

interface Row {
  kernel: Kernel;
  cpus: number;
  vmbusVersion?: string;
}

const VERSIONS = ['3.0', '4.0', '4.1', '5.0', '5.1', '5.2', '5.3', '6.0'];
const ROWS: Row[] = [
  ...KERNELS.flatMap((kernel) => [1, 4].map((cpus) => ({ kernel, cpus }))),
  ...KERNELS.filter((k) => k.flavour === 'cloud-arm64').flatMap((kernel) =>
    // 7.3 wants 4.0 at least.
    VERSIONS.filter((v) => v !== '3.0' || kernel.suite !== 'experimental').map((vmbusVersion) => ({
      kernel,
      cpus: 2,
      vmbusVersion,
    })),
  ),
];

/** What a row is called: each a word to ask for it by. */
const names = ({ kernel, cpus, vmbusVersion }: Row): string[] => [
  kernel.suite,
  kernel.flavour,
  `${cpus}`,
  ...(vmbusVersion === undefined ? ['boot'] : ['vmbus', vmbusVersion]),
];

const WIDTHS = [12, 11, 3, 5, 24, 7, 7];
const table = (cells: string[]): void => {
  process.stdout.write(`${cells.map((c, i) => c.padEnd(WIDTHS[i] ?? 0)).join('  ')}\n`);
};

/** Runs a row and prints it; false when something is wrong. */
async function run(row: Row, logs: string): Promise<boolean> {
  const { kernel, cpus, vmbusVersion } = row;
  let outcome: Outcome;
  try {
    outcome = await exercise(kernel, { cpus, ...(vmbusVersion === undefined ? {} : { platformOverrides: { vmbusVersion } }) });
    const spoken = /Vmbus version:(\S+)/.exec(outcome.console)?.[1];
    // 6.1 and 6.12 know nothing newer than 5.3.
    const newest = ['bookworm', 'trixie'].includes(kernel.suite) ? '5.3' : '6.0';
    const expected = Number(vmbusVersion ?? '6.0') > Number(newest) ? newest : (vmbusVersion ?? newest);
    if (spoken !== expected) outcome.problems.push(`VMBus ${spoken} instead of ${expected}`);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    outcome = { instructions: 0, seconds: 0, problems: [message], console: '' };
  }
  const { instructions, seconds, problems, console, known } = outcome;
  const release = /^KERNEL: (\S+)/m.exec(console)?.[1] ?? '';
  table([
    kernel.suite,
    kernel.flavour,
    `${cpus}`,
    vmbusVersion ?? '',
    release,
    (instructions / 1e6).toFixed(0),
    seconds.toFixed(1),
    problems.length > 0 ? problems.slice(0, 5).join('; ') : known === undefined ? 'ok' : `ok; the kernel's own bug: ${known}`,
  ]);
  if (problems.length > 0) {
    fs.mkdirSync(logs, { recursive: true });
    fs.writeFileSync(path.join(logs, `${names(row).join('-')}.log`), console);
  }
  return problems.length === 0;
}

async function main(words: string[]): Promise<number> {
  const rows = ROWS.filter((row) => words.every((w) => names(row).includes(w)));
  if (rows.length === 0) {
    process.stderr.write(`no row has all of: ${words.join(' ')}\n`);
    return 2;
  }
  const logs = path.join(os.tmpdir(), 'hyperstep-guests');
  table(['suite', 'flavour', 'VPs', 'host', 'kernel', 'M instr', 'seconds', 'result']);
  let failed = 0;
  for (const row of rows) if (!(await run(row, logs))) failed++;
  process.stdout.write(
    `${rows.length - failed} of ${rows.length} are well${failed ? `; consoles of the others: ${logs}` : ''}\n`,
  );
  return failed ? 1 : 0;
}

main(process.argv.slice(2)).then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
    process.exitCode = 1;
  },
);
