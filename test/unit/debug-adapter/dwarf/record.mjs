// Records expected.json: what LLVM's symbolizer and GNU addr2line say about every instruction of the fixtures, where they agree:
// ranges of addresses, and function, file and line of the frames there, innermost first. And where GDB breaks on every line.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

const folder = path.join(import.meta.dirname, 'files');
const run = (command, args, input) => execFileSync(command, args, { input, cwd: folder, encoding: 'utf8', maxBuffer: 1 << 26 });
const llvm = `llvm-symbolizer${process.env.LLVM ?? '-19'}`;
const expected = {};
// The other fixtures are the same code with the same lines in other forms.
for (const name of ['gcc5.elf', 'gcc4.elf', 'clang5.elf', 'clang4.elf', 'module.ko']) {
  const text = run('aarch64-linux-gnu-readelf', ['-SW', name]);
  const [, address, size] = /\] \.text +PROGBITS +([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+)/.exec(text);
  const all = [];
  for (let a = 0; a < Number.parseInt(size, 16); a += 4) all.push(`0x${(BigInt(`0x${address}`) + BigInt(a)).toString(16)}`);
  const input = `${all.join('\n')}\n`;
  const theirs = run(llvm, [`--obj=${name}`, '--inlines', '--functions=linkage', '--no-demangle', '--output-style=JSON'], input);
  const gnu = new Map();
  let current;
  const lines = run('aarch64-linux-gnu-addr2line', ['-e', name, '-f', '-i', '-a'], input).trim().split('\n');
  for (let i = 0; i < lines.length; ) {
    if (/^0x[0-9a-f]{16}$/.test(lines[i])) {
      current = [];
      gnu.set(BigInt(lines[i++]), current);
    } else {
      const m = /^(.*):(\d+|\?)/.exec(lines[i + 1]);
      current.push([lines[i], m[1], Number(m[2]) || 0]);
      i += 2;
    }
  }
  // Names of clones are the symbol table's in one tool and the source's in the other: without what follows the dot.
  const say = (frames) =>
    frames.map(([fn, ...where], i) => [i === frames.length - 1 ? fn.replace(/\..*/, '') : fn, ...where].join(' ')).join(' < ');
  const rows = [];
  let contested = 0;
  for (const { Address, Symbol: symbols } of theirs
    .trim()
    .split('\n')
    .flatMap((l) => JSON.parse(l))) {
    const frames = symbols.map((s) => [s.FunctionName, s.FileName, s.Line]);
    if (!(frames[0]?.[2] > 0)) continue;
    const text = say(frames);
    if (say(gnu.get(BigInt(Address)) ?? []) !== text) contested++;
    else if (rows.at(-1)?.[2] === text && rows.at(-1)[1] === Number(Address)) rows.at(-1)[1] += 4;
    else rows.push([Number(Address), Number(Address) + 4, text]);
  }
  expected[name] = rows;
  process.stderr.write(`${name}: ${rows.length} ranges, ${contested} addresses contested and left out\n`);
}
// Where GDB breaks on every line of the sources.
const breaks = {};
for (const name of ['gcc5.elf', 'gcc4.elf', 'clang5.elf', 'clang4.elf']) {
  breaks[name] = {};
  for (const source of ['program.c', 'program.h', 'second.c']) {
    const count = fs.readFileSync(path.join(import.meta.dirname, source), 'utf8').split('\n').length;
    for (let line = 1; line < count; line++) {
      const args = [
        '-batch',
        '-nx',
        '-ex',
        'set breakpoint pending off',
        '-ex',
        `break ${source}:${line}`,
        '-ex',
        'info breakpoints',
        name,
      ];
      const found = new Set([...run('gdb-multiarch', args).matchAll(/ (0x0{8,}[0-9a-f]+)/g)].map((m) => Number(m[1])));
      if (found.size) breaks[name][`${source}:${line}`] = [...found].sort((a, b) => a - b);
    }
  }
}
expected.breaks = breaks;
fs.writeFileSync(path.join(folder, 'expected.json'), `${JSON.stringify(expected, null, 1)}\n`);
