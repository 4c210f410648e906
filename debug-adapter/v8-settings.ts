/**
 * How V8 is to compile our JavaScript; imported first by what is a process of its own. A guest's boot runs much code for a moment each:
 * V8's default optimises it so early that an eighth of the CPU time of a boot goes into that (docs/performance.md). Hot code waits a
 * little longer with this, WebAssembly is not concerned. The unit is bytes of bytecode executed; V8 13 and older know the flag, and
 * what does not know it ignores it.
 */
import v8 from 'node:v8';

v8.setFlagsFromString('--interrupt-budget=400000');
