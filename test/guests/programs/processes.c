/* Processes: pipes, exec, sockets, shared memory and futexes between processes, timers, ptrace. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/user.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <elf.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

static int statusOf(pid_t pid) {
  int status = -1;
  waitpid(pid, &status, 0);
  return status;
}

/* Sorts a megabyte's worth of numbers through a chain of processes. */
static void pipeline(void) {
  enum { STAGES = 6, NUMBERS = 20000 };
  int in = -1;
  unsigned long sum = 0, got = 0;
  int first[2];
  CHECK(pipe(first) == 0, "pipe");
  pid_t pids[STAGES + 1];
  pids[0] = fork();
  if (pids[0] == 0) {
    for (unsigned i = 0; i < NUMBERS; i++) write(first[1], &i, sizeof i);
    _exit(0);
  }
  close(first[1]);
  in = first[0];
  for (int stage = 1; stage <= STAGES; stage++) {
    int out[2];
    CHECK(pipe(out) == 0, "pipe");
    pids[stage] = fork();
    if (pids[stage] == 0) {
      unsigned v;
      while (read(in, &v, sizeof v) == sizeof v) {
        v = v * 3 + stage;
        write(out[1], &v, sizeof v);
      }
      _exit(stage);
    }
    close(in);
    close(out[1]);
    in = out[0];
  }
  unsigned v;
  while (read(in, &v, sizeof v) == sizeof v) got += v;
  for (unsigned i = 0; i < NUMBERS; i++) {
    v = i;
    for (int stage = 1; stage <= STAGES; stage++) v = v * 3 + stage;
    sum += v;
  }
  CHECK(got == sum, "the chain gives %lu, not %lu", got, sum);
  for (int i = 0; i <= STAGES; i++) {
    int status = statusOf(pids[i]);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == i, "stage %d ended with %x", i, status);
  }
}

static void executes(char *self) {
  for (int i = 0; i < 10; i++) {
    pid_t pid = fork();
    if (pid == 0) {
      char n[8];
      snprintf(n, sizeof n, "%d", i);
      execl(self, self, "child", n, NULL);
      _exit(99);
    }
    int status = statusOf(pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == i * 2, "exec %d: %x", i, status);
  }
  pid_t pid = fork();
  if (pid == 0) abort();
  int status = statusOf(pid);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "abort: %x", status);
}

/* Two processes take turns by a futex. */
static void turns(void) {
  _Atomic int *turn = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  enum { ROUNDS = 2000 };
  pid_t pid = fork();
  int me = pid == 0;
  for (int i = 0; i < ROUNDS; i++) {
    int seen;
    while ((seen = atomic_load(turn)) % 2 != me) syscall(SYS_futex, turn, FUTEX_WAIT, seen, NULL, NULL, 0);
    atomic_fetch_add(turn, 1);
    syscall(SYS_futex, turn, FUTEX_WAKE, 1, NULL, NULL, 0);
  }
  if (me) _exit(0);
  CHECK(statusOf(pid) == 0 && *turn == 2 * ROUNDS, "%d turns", *turn);
}

static void waits(void) {
  int timer = timerfd_create(CLOCK_MONOTONIC, 0), pair[2];
  socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
  struct itimerspec every = {{0, 2000000}, {0, 2000000}};
  struct timespec before, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  timerfd_settime(timer, 0, &every, NULL);
  unsigned long expired = 0;
  while (expired < 10) {
    struct pollfd events[] = {{timer, POLLIN, 0}, {pair[0], POLLIN, 0}};
    CHECK(poll(events, 2, 1000) == 1 && events[0].revents == POLLIN, "poll");
    unsigned long n = 0;
    if (read(timer, &n, sizeof n) != sizeof n) break;
    expired += n;
  }
  clock_gettime(CLOCK_MONOTONIC, &after);
  long ns = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
  CHECK(expired >= 10 && ns >= 20000000 && ns < 2000000000, "%lu expirations in %ld ns", expired, ns);
  char text[] = "over the socket", got[sizeof text];
  CHECK(write(pair[1], text, sizeof text) == sizeof text && read(pair[0], got, sizeof got) == sizeof text && !strcmp(text, got), "socket");
}

/* Steps a child over a loop and reads its registers. */
static void steps(void) {
  pid_t pid = fork();
  if (pid == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    long n;
    __asm__ volatile("mov %0, #0\n1: add %0, %0, #1\n cmp %0, #50\n b.ne 1b\n brk #5" : "=&r"(n) : : "cc");
    _exit(3);
  }
  int status = statusOf(pid), count = 0;
  CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "the child stops: %x", status);
  struct user_regs_struct registers;
  struct iovec area = {&registers, sizeof registers};
  /* Up to the BRK, whose instruction is seen in the child's memory. */
  for (; count < 2000; count++) {
    ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &area);
    if ((unsigned)ptrace(PTRACE_PEEKTEXT, pid, registers.pc, 0) == 0xd42000a0) break;
    ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
    status = statusOf(pid);
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) break;
  }
  CHECK(count > 150 && count < 1000, "%d steps", count);
  registers.pc += 4;
  ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &area);
  ptrace(PTRACE_CONT, pid, 0, 0);
  status = statusOf(pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3, "the child ends: %x", status);
}

int main(int argc, char **argv) {
  if (argc == 3) return 2 * atoi(argv[2]);
  pipeline();
  executes(argv[0]);
  turns();
  waits();
  steps();
  FINISH;
}
