/* Calls and recursion: Fibonacci numbers, a quicksort with a comparison function, a small interpreter with a table of functions. */
#include "bench.h"
static __attribute__((noinline)) u64 fib(u64 n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}
static u32 items[1024];
static __attribute__((noinline)) int less(const u32 *a, const u32 *b)
{
	return *a < *b;
}
static void sort(u32 *p, int n, int (*before)(const u32 *, const u32 *))
{
	while (n > 1) {
		u32 pivot = p[n / 2];
		int i = 0, k = n - 1;
		while (i <= k) {
			while (before(&p[i], &pivot)) i++;
			while (before(&pivot, &p[k])) k--;
			if (i <= k) {
				u32 t = p[i];
				p[i++] = p[k];
				p[k--] = t;
			}
		}
		sort(p, k + 1, before);
		p += i;
		n -= i;
	}
}
static u64 acc;
static __attribute__((noinline)) void opAdd(u64 v) { acc += v; }
static __attribute__((noinline)) void opXor(u64 v) { acc ^= v * 3; }
static __attribute__((noinline)) void opRotate(u64 v) { acc = acc << (v & 63) | acc >> (-v & 63); }
static void (*volatile const ops[])(u64) = { opAdd, opXor, opRotate, opAdd };
u64 run(void)
{
	u64 seed = 9;
	for (int round = 0; round < ROUNDS; round++) {
		acc += fib(18);
		for (int i = 0; i < 1024; i++)
			items[i] = xorshift(&seed);
		sort(items, 1024, less);
		acc += items[round & 1023];
		for (int i = 0; i < 4096; i++)
			ops[(i * 7 + round) & 3](i + 1);
	}
	return acc;
}
