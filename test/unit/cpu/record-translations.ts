/**
 * Records what another implementation says about translation-cases.ts, in translations.txt and wide-translations.txt:
 * `node --import tsx test/unit/cpu/record-translations.ts`. Needs qemu-system-aarch64 and aarch64-linux-gnu-gcc. A program at
 * EL2 sets the EL1 registers, executes AT and prints PAR_EL1 of every case.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ABORTED, BASE, comparable, OPERATIONS, translationCases } from './translation-cases.ts';

const CASES_AT = 0x43000000;

function record(wide: boolean, name: string): void {
  const { tables, cases } = translationCases(wide);
  const dir = mkdtempSync(path.join(tmpdir(), 'translations-'));
  const file = (name: string) => path.join(dir, name);

  const records = new DataView(new ArrayBuffer(cases.length * 56));
  cases.forEach((c, i) => {
    [c.sctlr, c.tcr, c.mair, c.ttbr0, c.ttbr1, c.va, BigInt(c.operation)].forEach((v, n) => {
      records.setBigUint64(i * 56 + n * 8, v, true);
    });
  });
  writeFileSync(file('cases.bin'), new Uint8Array(records.buffer));
  writeFileSync(file('tables.bin'), tables);

  writeFileSync(
    file('guest.c'),
    `typedef unsigned long u64;
struct c { u64 sctlr, tcr, mair, ttbr0, ttbr1, va, op; };
#define W(r, v) __asm__ volatile("msr " #r ", %0" :: "r"(v))
static void putc(char ch) { *(volatile unsigned *)0x09000000 = ch; }
void main(void) {
  struct c *c = (void *)${CASES_AT}UL;
  W(hcr_el2, 0x80000000UL);
  extern char vectors[]; W(vbar_el2, vectors);
  __asm__ volatile(".arch armv8.6-a\\n msr pan, #1");
  for (int i = 0; i < ${cases.length}; i++, c++) {
    W(sctlr_el1, c->sctlr); W(tcr_el1, c->tcr); W(mair_el1, c->mair); W(ttbr0_el1, c->ttbr0); W(ttbr1_el1, c->ttbr1);
    __asm__ volatile("isb\\n tlbi alle1\\n dsb sy\\n isb");
    switch (c->op) {
${OPERATIONS.map((o, n) => `    case ${n}: __asm__ volatile(".arch armv8.6-a\\n at ${o.toLowerCase()}, %0\\n isb" :: "r"(c->va)); break;`).join('\n')}
    }
    u64 par; __asm__ volatile("mrs %0, par_el1" : "=r"(par));
    for (int s = 60; s >= 0; s -= 4) putc("0123456789abcdef"[par >> s & 15]);
    putc('\\n');
  }
  register u64 x0 __asm__("x0") = 0x84000008; __asm__ volatile("smc #0" :: "r"(x0));
}
__asm__(".section .start,\\"ax\\"\\n.global _start\\n_start: ldr x0, =0x42f00000\\n mov sp, x0\\n bl main\\n b .\\n"
  /* An external abort on a walk: a mark instead of a result. */
  ".balign 2048\\nvectors: .skip 512\\n msr tpidr_el2, x0\\n mrs x0, elr_el2\\n add x0, x0, #4\\n msr elr_el2, x0\\n"
  "mov x0, #${Number(ABORTED)}\\n msr par_el1, x0\\n mrs x0, tpidr_el2\\n eret\\n .balign 2048");
`,
  );
  execFileSync('aarch64-linux-gnu-gcc', [
    '-O1',
    '-ffreestanding',
    '-fno-pic',
    '-no-pie',
    '-nostdlib',
    '-static',
    '-mgeneral-regs-only',
    '-Wl,-Ttext=0x42000000,--section-start=.start=0x41f00000,-e_start,--build-id=none',
    '-o',
    file('guest.elf'),
    file('guest.c'),
  ]);
  const run = spawnSync(
    'qemu-system-aarch64',
    [
      '-M',
      'virt,virtualization=on',
      '-cpu',
      'max',
      '-m',
      '256',
      '-display',
      'none',
      '-nic',
      'none',
      '-monitor',
      'none',
      '-serial',
      `file:${file('out.txt')}`,
      '-kernel',
      file('guest.elf'),
      '-device',
      `loader,file=${file('cases.bin')},addr=${CASES_AT},force-raw=on`,
      '-device',
      `loader,file=${file('tables.bin')},addr=${BASE},force-raw=on`,
    ],
    { timeout: 60_000, stdio: 'inherit' },
  );
  const lines = readFileSync(file('out.txt'), 'utf8').trim().split(/\r?\n/);
  if (run.status !== 0 || lines.length !== cases.length)
    throw new Error(`qemu: status ${run.status}, ${lines.length} results in ${dir}`);
  const here = path.dirname(new URL(import.meta.url).pathname);
  const results = lines.map((l) => comparable(BigInt(`0x${l}`)).toString(16));
  const row = (n: number) => results.slice(n * 8, n * 8 + 8).join(' ');
  writeFileSync(path.join(here, name), `${Array.from({ length: Math.ceil(results.length / 8) }, (_, n) => row(n)).join('\n')}\n`);
}

record(false, 'translations.txt');
record(true, 'wide-translations.txt');
