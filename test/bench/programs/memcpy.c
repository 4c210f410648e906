/* Copies and fills by pairs of registers, as a kernel's copy_page does. */
#include "bench.h"
static u64 a[8192], b[8192];
static __attribute__((noinline)) void copy(u64 *to, const u64 *from, u64 n)
{
	for (; n >= 8; n -= 8, to += 8, from += 8) {
		u64 w0 = from[0], w1 = from[1], w2 = from[2], w3 = from[3], w4 = from[4], w5 = from[5], w6 = from[6], w7 = from[7];
		__asm__ volatile("" : "+r"(w0), "+r"(w1), "+r"(w2), "+r"(w3), "+r"(w4), "+r"(w5), "+r"(w6), "+r"(w7));
		to[0] = w0; to[1] = w1; to[2] = w2; to[3] = w3; to[4] = w4; to[5] = w5; to[6] = w6; to[7] = w7;
	}
}
static __attribute__((noinline)) void copyBytes(u8 *to, const u8 *from, u64 n)
{
	while (n--) {
		*to++ = *from++;
		__asm__ volatile("" : : : "memory");
	}
}
u64 run(void)
{
	u64 seed = 7, sum = 0;
	for (int i = 0; i < 8192; i++)
		a[i] = xorshift(&seed);
	for (int i = 0; i < ROUNDS; i++) {
		copy(b, a, 8192);
		copyBytes((u8 *)a + 1, (u8 *)b, 8192);
		sum += a[i & 8191];
	}
	return sum;
}
