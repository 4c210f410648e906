/**
 * How fast the interpreter is on small loops: `node --import tsx test/bench/interpreter.ts`. Prints guest instructions per
 * microsecond of CPU time (MIPS), best of several rounds, and the time to build the CPU.
 *
 * The programs were compiled by gcc 12 -O2 -mgeneral-regs-only from what their comments say.
 */
import { bench, DATA, TEXT } from '../unit/cpu/engine-harness.ts';

const ROUNDS = 7;

/** Linked at TEXT; position-independent within a page. */
const CODE = `
  12800002 52906405 72bdb705 38401403 4a030042 52800104 12000046 4b0603e6 0a0500c6 4a4204c2 71000484 54ffff61
  f1000421 54fffec1 d4200000 d503201f eb01001f 1a9fd7e0 5a9fa000 d65f03c0 aa0003e4 f100003f 5400042d 8b000023
  52800022 d503201f 38001402 eb03001f 54ffffc1 f100083f 5400032d d2800085 d2800043 d2800000 14000005 91000463
  910008a5 eb03003f 54000200 38636882 34ffff62 91000400 aa0503e2 eb05003f 54fffeed d503201f 3822689f 8b030042
  eb02003f 54ffffac 91000463 910008a5 eb03003f 54fffe41 d65f03c0 d2800000 d65f03c0 a9b87bfd 8b41fc23 910003fd
  a90573fb 9341fc7c a90703e1 b400069c a90363f7 aa0203f8 a90153f3 a9025bf5 a9046bf9 d503201f f9403be0 eb1c001f
  5400048d f9403fe0 d37df397 aa1c03fa cb1703fb 8b170000 f90037e0 d503201f f94037f4 aa1a03f9 aa1403f5 f9400296
  eb1a039f 540000cd 1400000e f87b6a60 f9000260 eb1c033f 5400038b aa1403f3 aa1603e1 cb1c0339 cb170294 aa1303f5
  f87b6a60 d63f0300 7100001f 54fffe8c f94037e0 9100075a f90002b6 91002000 f90037e0 f9403be0 eb1a001f 54fffca1
  8b5cff83 9341fc7c b5fffb1c a94153f3 a9425bf5 a94363f7 a9446bf9 a94573fb a8c87bfd d65f03c0 f94037e0 aa1403f5
  9100075a 91002000 f90037e0 f9403be0 f90002b6 eb1a001f 54fffa41 17ffffed a9be7bfd 910003fd a90153f3 aa0103f3
  aa0003f4 f100003f 5400022d 8b010c06 d28fe5a5 d29029e1 f2a992a5 f2beece1 f2de85a5 f2cf6fc1 aa0003e3 d2860722
  f2eb0a25 f2e280a1 9b050442 d361fc44 f8008464 eb06007f 54ffff81 aa1303e1 8b53fe73 aa1403e0 90000002 9341fe73
  91010042 97ffff9c f8737a80 a94153f3 a8c27bfd d65f03c0 d503201f d503201f f100041f 540002ed a9bd7bfd 910003fd
  a9025bf5 d1000816 d1000c15 927ffac1 a90153f3 cb0102b5 d1000414 d2800013 aa1403e0 d1000a94 97fffff2 8b000273
  eb15029f 54ffff61 924002d6 8b1302c0 a94153f3 a9425bf5 a8c37bfd d65f03c0 d65f03c0
`;

const PROGRAMS = [
  // CRC-32, bit by bit, of 500,000 bytes
  { name: 'crc32', entry: 0x0, args: [DATA, 500_000], result: undefined },
  // Sieve of Eratosthenes over bytes: primes below 1,000,000
  { name: 'sieve', entry: 0x50, args: [DATA, 1_000_000], result: 78498n },
  // Shell sort of 20,000 random numbers with a comparison callback
  { name: 'sort', entry: 0x200, args: [DATA, 20_000], result: 0x407102can },
  // Recursive Fibonacci
  { name: 'fib', entry: 0x290, args: [30], result: 832040n },
] as const;

const started = performance.now();
const b = bench();
const built = performance.now() - started;
const { hotHandlers, bytes } = b.cpu.interpreter.generated;
console.log(`CPU built in ${built.toFixed(0)} ms: ${hotHandlers} handlers in the loop function, ${bytes} bytes of WebAssembly`);

b.cpu.onException = () => true;
b.place(
  CODE.trim()
    .split(/\s+/)
    .map((w) => Number.parseInt(w, 16)),
  TEXT,
);
// Where the programs return to: BRK.
const END = TEXT - 16;
b.place([0xd4200000], END);
const vp = b.cpu.vps[0];
let product = 1;
for (const { name, entry, args, result } of PROGRAMS) {
  let best = 0;
  let count = 0;
  for (let round = 0; round < ROUNDS; round++) {
    args.forEach((v, i) => {
      vp.setX(i, BigInt(v));
    });
    vp.setX(30, BigInt(END));
    vp.sp = 0x3f0000n;
    vp.pc = BigInt(TEXT + entry);
    const from = b.ports.clock.state.instructions;
    const cpu = process.cpuUsage();
    while (b.cpu.run(0, 1_000_000).kind === 'budget');
    const { user, system } = process.cpuUsage(cpu);
    count = b.ports.clock.state.instructions - from;
    best = Math.max(best, count / (user + system));
    if (result !== undefined && vp.x(0) !== result) throw new Error(`${name}: x0 = ${vp.x(0)}`);
  }
  product *= best;
  console.log(`${name.padEnd(6)} ${String(count).padStart(9)} instructions ${best.toFixed(0).padStart(5)} MIPS`);
}
console.log(`geometric mean ${(product ** (1 / PROGRAMS.length)).toFixed(0)} MIPS`);
