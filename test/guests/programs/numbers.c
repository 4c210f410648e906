/* Numbers: rounding modes and exceptions, conversions to text and back, the mathematical library, quadruple and half precision. */
#include <fenv.h>
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include "check.h"

static uint64_t bitsOf(double v) {
  uint64_t bits;
  memcpy(&bits, &v, 8);
  return bits;
}
static double fromBits(uint64_t bits) {
  double v;
  memcpy(&v, &bits, 8);
  return v;
}

static void rounding(void) {
  static const struct {
    int mode;
    double third, negative, tiny;
    long integer;
  } modes[] = {
      {FE_TONEAREST, 0x1.5555555555555p-2, -0x1.5555555555555p-2, 0, 2},
      {FE_UPWARD, 0x1.5555555555556p-2, -0x1.5555555555555p-2, 0x1p-1074, 3},
      {FE_DOWNWARD, 0x1.5555555555555p-2, -0x1.5555555555556p-2, 0, 2},
      {FE_TOWARDZERO, 0x1.5555555555555p-2, -0x1.5555555555555p-2, 0, 2},
  };
  volatile double one = 1, three = 3, small = 0x1p-1074, quarter = 0.25, half = 2.5;
  for (int i = 0; i < 4; i++) {
    fesetround(modes[i].mode);
    double third = one / three, negative = -one / three, tiny = small * quarter;
    long integer = lrint(half);
    fesetround(FE_TONEAREST);
    CHECK(third == modes[i].third && negative == modes[i].negative && tiny == modes[i].tiny && integer == modes[i].integer,
          "mode %d: %a %a %a %ld", modes[i].mode, third, negative, tiny, integer);
  }
}

static void exceptions(void) {
  volatile double one = 1, zero = 0, large = 0x1p1023, small = 0x1p-1022, three = 3, minus = -1, result;
  volatile long integer;
#define RAISES(expression, expected)                                                   \
  do {                                                                                 \
    feclearexcept(FE_ALL_EXCEPT);                                                      \
    expression;                                                                        \
    int raised = fetestexcept(FE_ALL_EXCEPT);                                          \
    CHECK(raised == (expected), "%s raises %x", #expression, raised);                  \
  } while (0)
  RAISES(result = one / zero, FE_DIVBYZERO);
  RAISES(result = zero / zero, FE_INVALID);
  RAISES(result = large * large, FE_OVERFLOW | FE_INEXACT);
  RAISES(result = small / three, FE_UNDERFLOW | FE_INEXACT);
  RAISES(result = one / three, FE_INEXACT);
  RAISES(result = sqrt(minus), FE_INVALID);
  RAISES(result = one + one, 0);
  RAISES(integer = (long)large, FE_INVALID);
  RAISES(integer = (long)(one / three), FE_INEXACT);
  (void)result;
  (void)integer;
}

static void text(void) {
  for (int i = 0; i < 5000; i++) {
    double v = fromBits(number());
    if (isnan(v)) continue;
    char buffer[64];
    snprintf(buffer, sizeof buffer, "%.17g", v);
    double back = strtod(buffer, NULL);
    CHECK(bitsOf(back) == bitsOf(v), "%s is read as %a, not %a", buffer, back, v);
    snprintf(buffer, sizeof buffer, "%a", v);
    back = strtod(buffer, NULL);
    CHECK(bitsOf(back) == bitsOf(v), "%s is read as %a, not %a", buffer, back, v);
    snprintf(buffer, sizeof buffer, "%.9g", (float)v);
    float single = strtof(buffer, NULL);
    CHECK(single == (float)v, "%s is read as %a, not %a", buffer, single, (float)v);
  }
}

static void library(void) {
  /* Correctly rounded values; computed here and not by the compiler. */
  volatile double one = 1, two = 2, three = 3, ten = 10, more = 0x1p-30 + 1;
  const struct {
    double got, want;
  } known[] = {
      {exp(one), 0x1.5bf0a8b145769p+1},     {log(ten), 0x1.26bb1bbb55516p+1},    {sin(one), 0x1.aed548f090ceep-1},
      {cos(one), 0x1.14a280fb5068cp-1},     {tan(one), 0x1.8eb245cbee3a6p+0},    {atan(one), 0x1.921fb54442d18p-1},
      {pow(two, 0.5), 0x1.6a09e667f3bcdp+0}, {sqrt(two), 0x1.6a09e667f3bcdp+0},
      {exp2(one / 2), 0x1.6a09e667f3bcdp+0}, {log2(two * 4), 3},                  {hypot(three, 4), 5},
      {fma(more, more, -1), 0x1.00000002p-29},
  };
  for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
    CHECK(known[i].got == known[i].want, "value %u is %a, not %a", i, known[i].got, known[i].want);
  for (int i = 0; i < 5000; i++) {
    double x = (double)(int64_t)number() * 0x1p-58;
    double s = sin(x), c = cos(x);
    CHECK(fabs(s * s + c * c - 1) < 0x1p-51, "sin, cos of %a", x);
    CHECK(fabs(log(exp(x)) - x) <= fabs(x) * 0x1p-50 + 0x1p-50, "log of exp of %a", x);
    double root = sqrt(fabs(x));
    CHECK(fabs(fma(root, root, -fabs(x))) <= fabs(x) * 0x1p-52, "sqrt of %a", x);
    CHECK(fmod(x * 3, 7) == remainder(x * 3, 7) || fabs(fmod(x * 3, 7) - remainder(x * 3, 7)) == 7, "remainders of %a", x);
    CHECK(floor(x) <= x && ceil(x) >= x && trunc(x) == (x < 0 ? ceil(x) : floor(x)) && fabs(rint(x) - x) <= 0.5, "roundings of %a", x);
  }
}

static void precisions(void) {
  for (int i = 0; i < 5000; i++) {
    /* Quadruple precision is done by integer instructions: exact here. */
    double a = (double)(int32_t)number(), b = (double)(int32_t)(number() | 1);
    long double product = (long double)a * b, quotient = product / b;
    CHECK(quotient == a && (double)(product - (long double)(int64_t)a * (int64_t)b) == 0, "%a times %a in quadruple precision", a, b);
    /* Half precision rounds once from single. */
    float f = (float)(int32_t)number() * 0x1p-18f;
    __fp16 h = f;
    float back = h, ulp = ldexpf(1, ilogbf(fabsf(f) < 0x1p-14f ? 0x1p-14f : f) - 10);
    CHECK(isinf(back) || fabsf(back - f) <= ulp / 2, "%a in half precision is %a", f, back);
    /* 128-bit integers. */
    unsigned __int128 m = (unsigned __int128)number() * number();
    uint64_t d = number() | 1;
    unsigned __int128 q = m / d, r = m % d;
    CHECK(q * d + r == m && r < d, "128-bit division");
  }
}

int main(void) {
  rounding();
  exceptions();
  text();
  library();
  precisions();
  FINISH;
}
