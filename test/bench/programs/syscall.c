/* Exceptions: SVC and ERET, with a little work between. */
#include "bench.h"
u64 run(void)
{
	u64 sum = 0;
	for (u64 i = 0; i < ROUNDS * 1000ul; i++) {
		register u64 x0 __asm__("x0") = i;
		__asm__ volatile("svc #0" : "+r"(x0) : : "memory");
		sum = sum * 5 + x0;
	}
	return sum;
}
