/* What the programs here need of Linux (arm64): they are the whole user space of their guest, and have no C library. */
#pragma once

typedef unsigned long u64;
typedef unsigned int u32;
typedef unsigned char u8;

enum {
  NR_write = 64, NR_exit = 93, NR_sched_yield = 124, NR_kill = 129, NR_rt_sigaction = 134, NR_reboot = 142, NR_getpid = 172,
  NR_clone = 220, NR_mmap = 222, NR_wait4 = 260, NR_ptrace = 117, NR_perf_event_open = 241, NR_ioctl = 29, NR_read = 63,
};

static inline long call(long nr, long a, long b, long c, long d, long e) {
  register long x8 __asm__("x8") = nr;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = 0;
  __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
}

static void text(const char *s) {
  u64 n = 0;
  while (s[n]) n++;
  call(NR_write, 1, (long)s, n, 0, 0);
}

static void number(u64 v, u64 base) {
  char digits[32];
  int at = 31;
  digits[at] = 0;
  do digits[--at] = "0123456789abcdef"[v % base];
  while (v /= base);
  text(digits + at);
}

/* One line: a name and numbers. */
static void say(const char *name, int count, const u64 *values) {
  text(name);
  text(":");
  for (int i = 0; i < count; i++) {
    text(" ");
    number(values[i], 10);
  }
  text("\n");
}
#define SAY(name, ...) say(name, sizeof((u64[]){__VA_ARGS__}) / 8, (u64[]){__VA_ARGS__})

static inline long fork_(void) { return call(NR_clone, 17 /* SIGCHLD */, 0, 0, 0, 0); }

static void __attribute__((noreturn)) power_off(void) {
  call(NR_reboot, 0xfee1dead, 0x28121969, 0x4321fedc, 0, 0);
  for (;;) call(NR_sched_yield, 0, 0, 0, 0, 0);
}
