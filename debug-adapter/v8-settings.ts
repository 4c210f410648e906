/**
 * How V8 is to compile our JavaScript; imported first by what is a process of its own. A guest's boot runs much code for a moment each:
 * Node 20's V8 optimises it so early that an eighth of the CPU time of a boot goes into that (docs/performance.md). Hot code waits a
 * little longer with this; WebAssembly is not concerned. The unit is bytes of bytecode executed. Newer V8s have a compiler between, and
 * no such flag.
 */
import v8 from 'node:v8';

/** The last V8 that has it is Node 20's, 11.3. */
if (Number.parseInt(process.versions.v8, 10) < 12) v8.setFlagsFromString('--interrupt-budget=400000');
