/*
 * /init of a guest that jumps into memory of PROT_BTI: what may land where, and the SIGILL of what may not. Prints a line of numbers for
 * each kind of jump: 1 where it landed, else 10 and the signal's code.
 */
#include "linux.h"

enum { NR_mprotect = 226, PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4, PROT_BTI = 0x10, SIGILL = 4, SA_SIGINFO = 4 };

struct siginfo { int signo, error, code, pad; u64 address; u64 rest[13]; };
struct context { u64 head[22], fault_address, x[31], sp, pc, pstate; };
struct action { void (*handler)(int, struct siginfo *, struct context *); u64 flags, restorer, mask; };

/* Landings of eight bytes each, then what goes to x1 by each kind of jump. */
extern char stubs[], stubs_end[];
long by_blr(long, long), by_br(long, long), by_br16(long, long);
__asm__(
  ".text\n"
  "stubs:\n"
  "  hint #32\n b 1f\n" /* bti */
  "  hint #34\n b 1f\n" /* bti c */
  "  hint #36\n b 1f\n" /* bti j */
  "  hint #38\n b 1f\n" /* bti jc */
  "  hint #25\n b 2f\n" /* paciasp */
  "  nop\n b 1f\n"
  "2: hint #29\n" /* autiasp */
  "1: mov x0, #1\n ret\n"
  "by_blr: hint #34\n stp x29, x30, [sp, #-16]!\n blr x1\n ldp x29, x30, [sp], #16\n ret\n"
  "by_br: hint #34\n br x1\n"
  "by_br16: hint #34\n mov x16, x1\n br x16\n"
  "stubs_end:\n"
);

static long code;
static void on_sigill(int signal, struct siginfo *info, struct context *context) {
  (void)signal;
  code = info->code;
  context->x[0] = 10 + info->code + (info->address == context->pc ? 0 : 100);
  context->pc = context->x[30];
  context->pstate &= ~(3ul << 10);
}

static void jumps(const char *name, char *from, char *to, long (*jump)(long, long)) {
  u64 seen[6];
  long (*run)(long, long) = (void *)(from + ((char *)jump - stubs));
  for (int i = 0; i < 6; i++) seen[i] = run(0, (long)(to + 8 * i));
  say(name, 6, seen);
}

void _start(void) {
  long size = 4096;
  char *page = (char *)call(NR_mmap, 0, size, PROT_READ | PROT_WRITE, 0x22, -1);
  for (char *p = stubs; p < stubs_end; p++) page[p - stubs] = *p;
  struct action action = { on_sigill, SA_SIGINFO, 0, 0 };
  call(NR_rt_sigaction, SIGILL, (long)&action, 0, 8, 0);
  long error = call(NR_mprotect, (long)page, size, PROT_READ | PROT_EXEC | PROT_BTI, 0, 0);
  SAY("PROTECT", -error);
  if (error) call(NR_mprotect, (long)page, size, PROT_READ | PROT_EXEC, 0, 0);
  jumps("BLR", page, page, by_blr);
  jumps("BR", page, page, by_br);
  jumps("BR-VENEER", page, page, by_br16);
  /* From memory that is not guarded, and to it. */
  jumps("BR-FROM-OUTSIDE", stubs, page, by_br);
  jumps("BR-TO-OUTSIDE", page, stubs, by_br);
  /* Hot code lands as well. */
  u64 landed = 0;
  for (int i = 0; i < 200000; i++) landed += ((long (*)(long, long))(page + ((char *)by_blr - stubs)))(0, (long)(page + 8));
  SAY("MANY", landed);
  power_off();
}
