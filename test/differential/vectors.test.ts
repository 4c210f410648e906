/**
 * Recorded instruction vectors in all three engines: 50,000 of every class of the a64vec generator (`sample-*`), the classes that
 * it has not got (`extra`), and those with which the other tests here cover every handler. Two versions of QEMU agree on the samples:
 * see `make-vectors.mjs`.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { loadVectors } from './a64vec.ts';
import { Judge } from './vectors.ts';

const folder = path.join(import.meta.dirname, 'vectors');
const files = fs.readdirSync(folder).filter((name) => name.endsWith('.jsonl.gz'));

test('every engine does what 60,000 vectors say, and the translator does most of them in regions', (t) => {
  const judge = new Judge();
  const wrong = files.flatMap((name) => judge.run(loadVectors(path.join(folder, name))).map((line) => `${name}: ${line}`));
  t.diagnostic(judge.report().replaceAll('\n', '; '));
  assert.deepEqual(wrong, []);
  const [evaluator, interpreter, translator] = judge.counts;
  assert.ok(evaluator.vectors >= 60_000);
  assert.equal(interpreter.vectors, translator.vectors);
  assert.ok(translator.inRegions > translator.vectors / 2, `${translator.inRegions} in regions`);
});
