/*
 * /init of a guest that counts with the performance monitors by perf_event_open, as `perf stat` and `perf record` do. Prints whether
 * counts of a loop of known length are what they have to be, and how many samples there were.
 */
#include "linux.h"

enum { PERF_TYPE_HARDWARE = 0, CPU_CYCLES = 0, INSTRUCTIONS = 1 };
enum { ENABLE = 0x2400, DISABLE = 0x2401, RESET = 0x2403 };
/* Bits of the attributes: disabled, exclude_kernel, exclude_hv. */
enum { DISABLED = 1, EXCLUDE_USER = 1 << 4, EXCLUDE_KERNEL = 1 << 5, EXCLUDE_HV = 1 << 6 };

struct attributes { u32 type, size; u64 config, period, sample_type, read_format, flags; u64 rest[8]; };

static long mmap_(long fd, u64 length) {
  register long x8 __asm__("x8") = NR_mmap;
  register long x0 __asm__("x0") = 0;
  register long x1 __asm__("x1") = length;
  register long x2 __asm__("x2") = 3;
  register long x3 __asm__("x3") = 1;
  register long x4 __asm__("x4") = fd;
  register long x5 __asm__("x5") = 0;
  __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
}

/* 2 instructions a round. */
static void __attribute__((noinline)) spin(u64 rounds) {
  __asm__ volatile("1: subs %0, %0, #1\n b.ne 1b" : "+r"(rounds) : : "cc");
}

static long open_(u64 config, u64 period, u64 flags) {
  static struct attributes a;
  a.type = PERF_TYPE_HARDWARE;
  a.size = 112;
  a.config = config;
  a.period = period;
  a.sample_type = 1; /* IP */
  a.flags = DISABLED | EXCLUDE_HV | flags;
  return call(NR_perf_event_open, (long)&a, 0, -1, -1, 0);
}

static u64 counted(u64 config, u64 flags, u64 rounds) {
  long fd = open_(config, 0, flags);
  u64 count = 0;
  call(NR_ioctl, fd, RESET, 0, 0, 0);
  call(NR_ioctl, fd, ENABLE, 0, 0, 0);
  spin(rounds);
  call(NR_ioctl, fd, DISABLE, 0, 0, 0);
  call(NR_read, fd, (long)&count, 8, 0, 0);
  return count;
}

void _start(void) {
  text("PERF-START\n");
  for (u64 config = CPU_CYCLES; config <= INSTRUCTIONS; config++) {
    u64 n = counted(config, EXCLUDE_KERNEL, 1000000), all = counted(config, 0, 1000000), kernel = counted(config, EXCLUDE_USER, 1000000);
    SAY(config ? "INSTRUCTIONS" : "CYCLES", n >= 2000000 && n < 2000100, all > n && all < 2 * n, kernel > 0 && kernel < n);
  }
  long fd = open_(INSTRUCTIONS, 10000, EXCLUDE_KERNEL);
  u64 *page = (u64 *)mmap_(fd, 2 * 4096);
  call(NR_ioctl, fd, ENABLE, 0, 0, 0);
  spin(100000);
  call(NR_ioctl, fd, DISABLE, 0, 0, 0);
  u64 head = *(volatile u64 *)((u8 *)page + 1024), samples = 0, inside = 0;
  u8 *data = (u8 *)page + 4096;
  for (u64 at = 0; at < head; at += data[at + 6] | data[at + 7] << 8) {
    if (data[at] != 9) continue;
    samples++;
    u64 ip = *(u64 *)(data + at + 8);
    if (ip >= (u64)spin && ip < (u64)spin + 64) inside++;
  }
  SAY("SAMPLES", samples, inside);
  text("PERF-DONE\n");
  power_off();
}
