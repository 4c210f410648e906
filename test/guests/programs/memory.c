/* Memory: protection, copies on write, code that is written at run time, string functions at the ends of pages. */
#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

static void strings(void) {
  long size = sysconf(_SC_PAGESIZE);
  char *area = mmap(NULL, 3 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(area + 2 * size, size, PROT_NONE);
  /* The last byte before nothing. */
  char *end = area + 2 * size;
  static char copy[4096], want[4096];
  for (int round = 0; round < 2000; round++) {
    int n = number() % 300, at = number() % 300, from = number() % 100;
    for (int i = 0; i < n; i++) copy[from + i] = number() % 255 + 1;
    char *to = end - n - 1;
    memset(to - 64, 0x11, n + 65);
    memcpy(to, copy + from, n);
    to[n] = 0;
    int same = 1;
    for (int i = 0; i < n; i++) same &= to[i] == copy[from + i];
    for (int i = -64; i < 0; i++) same &= to[i] == 0x11;
    CHECK(same, "memcpy of %d bytes", n);
    CHECK((int)strlen(to) == n && (int)strnlen(to, n / 2) == n / 2, "strlen of %d", n);
    copy[from + n] = 0;
    CHECK(strcmp(to, copy + from) == 0 && memcmp(to, copy + from, n + 1) == 0, "compare %d", n);
    if (n) {
      int k = number() % n;
      char *first = to;
      while (*first != to[k]) first++;
      CHECK(strchr(to, to[k]) == first && memchr(to, to[k], n) == first, "search in %d", n);
      to[k] ^= 0x80;
      int sign = (unsigned char)to[k] < (unsigned char)copy[from + k] ? -1 : 1;
      if (to[k]) CHECK(strcmp(to, copy + from) * sign > 0 && memcmp(to, copy + from, n) * sign > 0, "compare %d at %d", n, k);
    }
    /* Overlap, both ways. */
    for (int i = 0; i < 1024; i++) copy[i] = want[i] = i * 7 + round;
    for (int i = 0; i < n; i++) want[at + i] = copy[from + i];
    memmove(copy + at, copy + from, n);
    CHECK(memcmp(copy, want, 1024) == 0, "memmove of %d from %d to %d", n, from, at);
  }
  munmap(area, 3 * size);
}

static void copiesOnWrite(void) {
  enum { PAGES = 64 };
  long size = sysconf(_SC_PAGESIZE);
  char *private = mmap(NULL, PAGES * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  volatile int *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < PAGES; i++) private[i * size] = i;
  for (int child = 0; child < 4; child++) {
    pid_t pid = fork();
    if (pid == 0) {
      for (int i = child; i < PAGES; i += 2) private[i * size] += 100 + child;
      int wrong = 0;
      for (int i = 0; i < PAGES; i++) wrong += private[i * size] != (char)(i + (i >= child && (i - child) % 2 == 0 ? 100 + child : 0));
      shared[child] = wrong ? wrong : -1;
      _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    CHECK(status == 0 && shared[child] == -1, "child %d: status %x, %d pages are wrong", child, status, shared[child]);
  }
  for (int i = 0; i < PAGES; i++) CHECK(private[i * size] == i, "page %d has %d", i, private[i * size]);
}

/* movz w0, #n; ret */
static void writtenCode(void) {
  long size = sysconf(_SC_PAGESIZE);
  uint32_t *code = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  /* Over the end of the page, too. */
  uint32_t *places[] = {code, code + 5, code + size / 4 - 1};
  int (*function)(void);
  for (int n = 0; n < 3000; n++) {
    uint32_t *at = places[n % 3];
    at[0] = 0x52800000 | n << 5;
    at[1] = 0xd65f03c0;
    __builtin___clear_cache((char *)at, (char *)(at + 2));
    memcpy(&function, &at, sizeof function);
    for (int i = 0; i < 20; i++) CHECK(function() == n, "the code for %d gives %d", n, function());
  }
}

static void mappings(void) {
  long size = sysconf(_SC_PAGESIZE);
  /* Two views of the same page. */
  int file = memfd_create("memory", 0);
  CHECK(file >= 0 && ftruncate(file, 2 * size) == 0, "memfd");
  char *a = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  char *b = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  for (int i = 0; i < 1000; i++) {
    long at = number() % (2 * size - 8);
    uint64_t value = number(), seen;
    memcpy(a + at, &value, 8);
    memcpy(&seen, b + at, 8);
    CHECK(seen == value, "at %ld: %llx is seen as %llx", at, (unsigned long long)value, (unsigned long long)seen);
  }
  char *grown = mremap(b, 2 * size, 64 * size, MREMAP_MAYMOVE);
  CHECK(grown != MAP_FAILED && memcmp(grown, a, 2 * size) == 0, "mremap");
  CHECK(madvise(a, 2 * size, MADV_REMOVE) == 0 && a[0] == 0 && grown[size] == 0, "MADV_REMOVE");
}

int main(void) {
  strings();
  copiesOnWrite();
  writtenCode();
  mappings();
  FINISH;
}
