/* Signals: faults that a handler repairs, an alternate stack, timers while floating-point work goes on. */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>
#include "check.h"

static volatile int signalled, code, ticks, onAlternate;
static void *volatile address;
static char stack[64 * 1024];
static sigjmp_buf jump;

/* Goes on after the instruction, with 42 in X0. */
static void skip(int number, siginfo_t *info, void *context) {
  mcontext_t *m = &((ucontext_t *)context)->uc_mcontext;
  char here;
  signalled = number;
  code = info->si_code;
  address = info->si_addr;
  onAlternate = &here >= stack && &here < stack + sizeof stack;
  m->pc += 4;
  m->regs[0] = 42;
}
static void unprotect(int number, siginfo_t *info, void *context) {
  (void)context;
  signalled = number;
  mprotect((void *)((uintptr_t)info->si_addr & -4096ul), 4096, PROT_READ | PROT_WRITE);
}
/* Uses every register that the interrupted code might have values in. */
static void tick(int number) {
  (void)number;
  double v[64];
  for (int i = 0; i < 64; i++) v[i] = sin(ticks + i);
  for (int i = 1; i < 64; i++) v[0] += v[i] * v[i - 1];
  ticks += v[0] < 1000;
}
static void leave(int number) {
  (void)number;
  siglongjmp(jump, 7);
}

static void handle(int number, void (*handler)(int, siginfo_t *, void *), int flags) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
  sigaction(number, &action, NULL);
}

static double series(int terms) {
  double sum = 0;
  for (int i = 1; i <= terms; i++) sum += sqrt(i) / ((double)i * i + 0.5);
  return sum;
}

/* An instruction that uses X0, and X0 afterwards. */
#define WITH_X0(instruction, value)                                      \
  ({                                                                     \
    register long x0 __asm__("x0") = (long)(value);                      \
    __asm__ volatile(instruction : "+r"(x0) : : "x1", "memory");         \
    long after = x0;                                                     \
    after;                                                               \
  })

int main(void) {
  sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
  handle(SIGSEGV, skip, SA_ONSTACK);
  handle(SIGBUS, skip, SA_ONSTACK);
  handle(SIGILL, skip, SA_ONSTACK);
  handle(SIGTRAP, skip, SA_ONSTACK);

  char *page = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  long loaded = WITH_X0("ldr x0, [x0]", page + 17);
  CHECK(loaded == 42 && signalled == SIGSEGV && code == SEGV_ACCERR && address == page + 17, "load: signal %d code %d at %p", signalled, code, address);
  CHECK(onAlternate, "the handler runs on the wrong stack");
  WITH_X0("str x0, [x0]", 8);
  CHECK(signalled == SIGSEGV && code == SEGV_MAPERR && address == (void *)8, "store: signal %d code %d at %p", signalled, code, address);
  WITH_X0(".inst 0x00000000", 0);
  CHECK(signalled == SIGILL && code == ILL_ILLOPC, "UDF: signal %d code %d", signalled, code);
  WITH_X0("brk #1", 0);
  CHECK(signalled == SIGTRAP && code == TRAP_BRKPT, "BRK: signal %d code %d", signalled, code);
  /* A register of EL1. */
  WITH_X0("mrs x0, far_el1", 0);
  CHECK(signalled == SIGILL, "MRS FAR_EL1: signal %d", signalled);
  /* An exclusive access over the end of 16 bytes, which no feature allows. */
  mprotect(page, 4096, PROT_READ | PROT_WRITE);
  WITH_X0("ldxr x1, [x0]", page + 15);
  CHECK(signalled == SIGBUS && code == BUS_ADRALN, "LDXR: signal %d code %d", signalled, code);

  signalled = 0;
  handle(SIGSEGV, unprotect, 0);
  /* Over two pages, of which the second is not there until the handler says so. */
  memset(page + 4000, 0x5a, 200);
  __asm__ volatile("" : : : "memory");
  CHECK(signalled == SIGSEGV && page[4095] == 0x5a && page[4199] == 0x5a && page[4200] == 0, "memset over a page that is repaired");

  signal(SIGUSR1, leave);
  volatile int arrived = sigsetjmp(jump, 1);
  if (!arrived) raise(SIGUSR1);
  sigset_t mask;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  CHECK(arrived == 7 && !sigismember(&mask, SIGUSR1), "siglongjmp out of a handler");

  double want = series(300000);
  signal(SIGALRM, tick);
  struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &often, NULL);
  for (int i = 0; i < 100 && ticks < 20; i++) {
    double got = series(300000);
    CHECK(got == want, "the sum is %a, not %a, after %d ticks", got, want, ticks);
  }
  setitimer(ITIMER_REAL, &never, NULL);
  CHECK(ticks >= 20, "%d ticks", ticks);
  FINISH;
}
