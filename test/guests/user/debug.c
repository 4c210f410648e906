/*
 * /init of a guest that debugs a process of its own by ptrace, as gdb does: single steps, hardware breakpoints and watchpoints,
 * BRK, and the faults of a misaligned SP and PC. Prints a line of numbers for each.
 */
#include "linux.h"

enum { TRACEME = 0, CONT = 7, SINGLESTEP = 9, GETSIGINFO = 0x4202, GETREGSET = 0x4204, SETREGSET = 0x4205 };
enum { NT_PRSTATUS = 1, NT_ARM_HW_BREAK = 0x402, NT_ARM_HW_WATCH = 0x403 };
enum { SIGTRAP = 5, SIGBUS = 7, SIGSTOP = 19 };

struct regs { u64 x[31], sp, pc, pstate; };
struct iovec { void *base; u64 length; };
struct debug_state { u32 info, pad; struct { u64 address; u32 control, pad; } slot[16]; };
struct siginfo { int signo, error, code, pad; u64 address; u64 rest[13]; };

/* What is debugged: so many instructions, calls, a system call and stores. */
extern char steps_begin[], steps_end[], stepped_function[], broken[];
long stepped(long rounds);
volatile u32 watched[4] __attribute__((aligned(16)));

__asm__(
  ".text\n"
  "stepped:\n"
  "  stp x29, x30, [sp, #-32]!\n"
  "  mov x9, x0\n"
  "  mov x10, #0\n"
  "steps_begin:\n"
  "1: bl stepped_function\n"
  "  add x10, x10, #1\n"
  "  mov x8, #172\n" /* getpid */
  "  svc #0\n"
  "  sub x9, x9, #1\n"
  "  cbnz x9, 1b\n"
  "steps_end:\n"
  "  mov x0, x10\n"
  "  ldp x29, x30, [sp], #32\n"
  "  ret\n"
  "stepped_function:\n"
  "  ldxr x1, [sp]\n"
  "  add x1, x1, #1\n"
  "  ret\n"
  "misaligned_sp:\n"
  "  sub x1, sp, #8\n"
  "  mov sp, x1\n"
  "  ldr x0, [sp]\n"
  "  ret\n"
  "misaligned_pc:\n"
  "  adr x0, misaligned_sp\n"
  "  add x0, x0, #2\n"
  "  br x0\n"
  "broken:\n"
  "  brk #7\n"
  "  ret\n"
);
void misaligned_sp(void);
void misaligned_pc(void);
void break_here(void) __asm__("broken");

static long pid;

static long trace(long request, long address, long data) { return call(NR_ptrace, request, pid, address, data, 0); }
static long get(long set, void *to, u64 length) {
  struct iovec v = {to, length};
  long r = trace(GETREGSET, set, (long)&v);
  return r < 0 ? r : (long)v.length;
}
static long set(long which, void *from, u64 length) {
  struct iovec v = {from, length};
  return trace(SETREGSET, which, (long)&v);
}
static int wait_(void) {
  int status = 0;
  call(NR_wait4, pid, (long)&status, 0, 0, 0);
  return status;
}
static int stop_signal(int status) { return (status & 0xff) == 0x7f ? (status >> 8) & 0xff : -1; }
static u64 pc(void) {
  struct regs r;
  get(NT_PRSTATUS, &r, sizeof r);
  return r.pc;
}

/* A process that runs `body` after it has stopped once, so that it is traced. */
static void start(void (*body)(void)) {
  pid = fork_();
  if (pid == 0) {
    call(NR_ptrace, TRACEME, 0, 0, 0, 0);
    call(NR_kill, call(NR_getpid, 0, 0, 0, 0, 0), SIGSTOP, 0, 0, 0);
    body();
    call(NR_exit, 0, 0, 0, 0, 0);
  }
  wait_();
}
static void finish(void) {
  call(NR_kill, pid, 9, 0, 0, 0);
  wait_();
}

static void body_steps(void) { stepped(3); }
static void body_stores(void) {
  for (u32 i = 0; i < 4; i++) watched[i] = i;
  (void)watched[1];
  for (u32 i = 0; i < 4; i++) ((volatile u8 *)watched)[4 * i + 1] = 9;
}

static void single_steps(void) {
  start(body_steps);
  u64 inside = 0, others = 0, wrong = 0, calls = 0;
  for (;;) {
    trace(SINGLESTEP, 0, 0);
    int status = wait_();
    if (stop_signal(status) != SIGTRAP) break;
    u64 at = pc();
    struct siginfo info;
    trace(GETSIGINFO, 0, (long)&info);
    if (info.code != 2 /* TRAP_TRACE */ || info.address != at) wrong++;
    if (at >= (u64)steps_begin && at < (u64)steps_end) inside++;
    else if (at >= (u64)stepped_function && at < (u64)stepped_function + 12) calls++;
    else others++;
  }
  SAY("STEPS", inside, calls, wrong, others > 10);
}

static struct debug_state armed;

static long arm(long which, u32 control) {
  armed.slot[1].control = control;
  return set(which, &armed, 8 + 16 * (armed.info & 0xff));
}

/*
 * Arms slot 1 and runs to each stop, at most 20; counts those of code TRAP_HWBKPT. The debugger steps over what has hit: Linux
 * leaves that to it.
 */
static void hits(const char *name, void (*body)(void), long which, u64 address, u64 base, u32 control) {
  start(body);
  get(which, &armed, sizeof armed);
  armed.slot[1].address = address;
  long r = arm(which, control);
  u64 n = 0, last = 0;
  for (int i = 0; i < 20; i++) {
    trace(CONT, 0, 0);
    if (stop_signal(wait_()) != SIGTRAP) break;
    struct siginfo info;
    trace(GETSIGINFO, 0, (long)&info);
    if (info.code == 4) n++;
    last = info.address;
    arm(which, 0);
    trace(SINGLESTEP, 0, 0);
    wait_();
    arm(which, control);
  }
  SAY(name, armed.info & 0xff, r, n, last - base);
}

static void breakpoint(const char *name, u64 address) {
  hits(name, body_steps, NT_ARM_HW_BREAK, address, address, 1 | 2 << 1 | 0xf << 5);
}
static void watchpoint(const char *name, u64 address, u32 bytes, u32 kind) {
  hits(name, body_stores, NT_ARM_HW_WATCH, address, (u64)watched, 1 | 2 << 1 | kind << 3 | bytes << 5);
}

static void fault(const char *name, void (*body)(void)) {
  start(body);
  trace(CONT, 0, 0);
  int status = wait_();
  struct siginfo info;
  trace(GETSIGINFO, 0, (long)&info);
  SAY(name, stop_signal(status), info.code, body == break_here ? pc() - (u64)broken : 0);
  finish();
}

void _start(void) {
  text("DEBUG-START\n");
  single_steps();
  breakpoint("BREAKPOINT", (u64)stepped_function);
  breakpoint("SYSCALL", (u64)steps_begin + 16);
  watchpoint("WRITES", (u64)watched + 4, 0xf, 2);
  watchpoint("BYTE", (u64)watched + 8, 2, 2);
  watchpoint("READS", (u64)watched + 4, 0xf, 1);
  watchpoint("ACCESSES", (u64)watched, 0xff, 3);
  fault("BRK", break_here);
  fault("SP", misaligned_sp);
  fault("PC", misaligned_pc);
  text("DEBUG-DONE\n");
  power_off();
}
