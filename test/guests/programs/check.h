/* What every program has: checks that say where they failed; the exit status is 1 when one did. */
#include <stdio.h>
#include <stdlib.h>

static int failures;

#define CHECK(condition, ...)                    \
  do {                                           \
    if (!(condition)) {                          \
      printf("%s:%d: ", __FILE__, __LINE__);     \
      printf(__VA_ARGS__);                       \
      putchar('\n');                             \
      failures++;                                \
    }                                            \
  } while (0)

#define FINISH return failures != 0

/* The same numbers every time (an xorshift generator). */
static inline unsigned long long number(void) {
  static unsigned long long state = 0x9e3779b97f4a7c15;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}
