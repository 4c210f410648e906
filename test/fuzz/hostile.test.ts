/**
 * Hostile guests: arbitrary hypercalls, messages, GPADLs, rings, packets of every device, MMIO and system registers at the host's
 * side of a real machine, and arbitrary things that the user and the world outside ask of it meanwhile. Never an exception of ours,
 * never a hang, never memory of the host without limit or of the guest that it did not name; always a state that can be shown, and
 * that a snapshot brings back.
 *
 * Inputs are the same every time. FUZZ_SECONDS=N makes others for N seconds in each test, FUZZ_SEED=N those of a seed. An input that
 * breaks something is printed in hexadecimal: it becomes a line of corpus/found.txt. FUZZ_CORPUS=FILE writes those that reached
 * something new.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { Coverage } from './coverage.ts';
import { Fuzzer, type Report, shrink, type Target } from './fuzzer.ts';

/** Before anything of ours is loaded. */
const coverage = new Coverage(new URL('../../emulator/', import.meta.url).href);
const { Hostile } = await import('./hostile.ts');
const { DamagedImages, DamagedKernels } = await import('./files.ts');

const SECONDS = Number(process.env.FUZZ_SECONDS ?? 0);
const SEED = Number(process.env.FUZZ_SEED ?? (SECONDS ? Date.now() % 2 ** 31 : 1));

const hex = (b: Uint8Array): string => Buffer.from(b).toString('hex');
const corpus = (name: string): Uint8Array[] =>
  fs
    .readFileSync(new URL(`./corpus/${name}.txt`, import.meta.url), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => new Uint8Array(Buffer.from(line.replace(/ .*/, ''), 'hex')));

/** Runs the fuzzer, prints its figures, and fails with the least input for each finding. */
function fuzz(
  t: { diagnostic(text: string): void },
  target: Target & { thorough?: boolean },
  seeds: Uint8Array[],
  executions: number,
  files: RegExp,
): Report {
  const report = new Fuzzer(target, {
    seed: SEED,
    seeds,
    coverage,
    most: SECONDS ? 10 : 1,
    ...(SECONDS ? { seconds: SECONDS } : { executions: seeds.length + executions }),
  }).run();
  const all = coverage.files(files);
  const sum = (f: (file: (typeof all)[number]) => number): number => all.reduce((n, file) => n + f(file), 0);
  t.diagnostic(
    `${report.executions} inputs, ${(report.executions / report.seconds).toFixed(0)} a second; seed ${SEED}, ${report.corpus.length} kept, ${report.features} features; ` +
      `${sum((f) => f.reached)} of ${sum((f) => f.functions)} functions and ${((100 * sum((f) => f.covered)) / sum((f) => f.size)).toFixed(1)} % of ${all.length} files`,
  );
  if (SECONDS)
    for (const f of all)
      t.diagnostic(
        `${f.file}: ${f.reached} of ${f.functions} functions, ${((100 * f.covered) / Math.max(1, f.size)).toFixed(0)} %`,
      );
  if (process.env.FUZZ_CORPUS) fs.writeFileSync(process.env.FUZZ_CORPUS, report.corpus.map((c) => `${hex(c)}\n`).join(''));
  target.thorough = true;
  for (const finding of report.findings) t.diagnostic(`${finding.error.stack}\ninput: ${hex(shrink(target, finding))}`);
  assert.deepEqual(
    report.findings.map((f) => f.error.message),
    [],
  );
  return report;
}

test('what hostile guests have done before', () => {
  const target = new Hostile();
  target.thorough = true;
  for (const input of corpus('found')) target.run(input);
});

test('a hostile guest, and a user and a world outside that do anything meanwhile', { timeout: Number.POSITIVE_INFINITY }, (t) => {
  const report = fuzz(t, new Hostile(), corpus('hostile'), 350, /^(hyperv|vmbus|platform|network)\//);
  assert.ok(report.features > 500, `${report.features} features`);
});

test('a hostile guest that insists: the host does not keep more and more', (t) => {
  const target = new Hostile();
  const inputs = corpus('hostile');
  const step = SECONDS ? 1 : 40;
  let n = 0;
  for (let at = SEED % step; at < inputs.length; at += step, n++) target.insist(inputs[at], 60);
  t.diagnostic(`${n} inputs, 60 times each`);
});

test('damaged disk images: a disk, or a line that says what is wrong', { timeout: Number.POSITIVE_INFINITY }, (t) => {
  fuzz(t, new DamagedImages(), corpus('images'), 150, /^host\//);
});

test('damaged kernels and initial RAM disks: a machine to start, or a line that says what is wrong', {
  timeout: Number.POSITIVE_INFINITY,
}, (t) => {
  fuzz(t, new DamagedKernels(), corpus('kernels'), 500, /^boot\//);
});
