import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runProgram } from './user.ts';

test('a debugger in the guest steps, breaks and watches a process by ptrace', async () => {
  const { results, console } = await runProgram('debug');
  assert.deepEqual(
    results,
    {
      // Stops inside the loop, in the function it calls, with another signal code (three system calls), and some elsewhere.
      STEPS: [21, 9, 3, 1],
      // Registers, status, hits, distance of the last address that was told.
      BREAKPOINT: [6, 0, 3, 0],
      SYSCALL: [6, 0, 3, 0],
      WRITES: [4, 0, 2, 5],
      BYTE: [4, 0, 2, 9],
      READS: [4, 0, 1, 4],
      ACCESSES: [4, 0, 5, 5],
      // Signal, code, distance of PC.
      BRK: [5, 1, 0],
      SP: [7, 1, 0],
      PC: [7, 1, 0],
    },
    console.slice(-2000),
  );
});
