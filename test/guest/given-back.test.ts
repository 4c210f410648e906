/** Memory that a Debian guest gives back by balloon and by free page reports leaves the process. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

const PROGRAM = path.join(import.meta.dirname, 'given-back.ts');

test('a guest fills its memory and gives it back: the process has it no longer, and the guest has noticed nothing', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', PROGRAM]);
  const { full, given, longest } = JSON.parse(stdout) as { full: number; given: number; longest: number };
  assert.ok(full > 800 && full - given > 400, stdout);
  // A quarter of a second of the CPU's time, and a move for each time when much was given back.
  assert.ok(longest > 0 && longest < 3000, stdout);
});
